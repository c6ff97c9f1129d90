use super::*;
use crate::domain::{Embedding, ItemKey, Revision, StoredItem};

on_both! {
    an_item_is_created_updated_and_left_alone_when_nothing_changed,
    keys_stay_and_revisions_grow_over_delete_and_create_and_restart,
    an_attribute_keeps_its_first_type,
    an_own_vector_keeps_the_width_of_its_first_use,
    a_rejected_item_fixes_no_width_and_names_are_bounded,
    patches_merge_and_concurrent_ones_lose_nothing,
    many_items_are_found_by_key_and_by_page,
    embeddings_and_index_state_are_kept_by_version_and_collection,
}

fn stored(outcome: &ItemOutcome) -> &StoredItem {
    match outcome {
        ItemOutcome::Created(stored) | ItemOutcome::Updated(stored) | ItemOutcome::Unchanged(stored) => stored,
        ItemOutcome::Rejected(fault) => panic!("rejected: {fault:?}"),
    }
}

async fn an_item_is_created_updated_and_left_alone_when_nothing_changed(kind: Kind) {
    let store = temporary(kind).await;

    let outcomes = store
        .put_items(vec![item("a", json!({"price": 1})), item("b", json!({})), item("a", json!({"price": 2})), item("a", json!({"price": 2}))])
        .await
        .unwrap();

    assert!(matches!(outcomes[..], [ItemOutcome::Created(_), ItemOutcome::Created(_), ItemOutcome::Updated(_), ItemOutcome::Unchanged(_)]));
    assert_eq!(outcomes.iter().map(|outcome| stored(outcome).key.0).collect::<Vec<_>>(), [0, 1, 0, 0]);
    assert_eq!(outcomes.iter().map(|outcome| stored(outcome).revision.0).collect::<Vec<_>>(), [1, 2, 3, 3]);
    assert_eq!(store.item(&id("a")).await.unwrap().as_ref(), Some(stored(&outcomes[2])));
    assert!(matches!(store.put_items(vec![item("b", json!({}))]).await.unwrap()[..], [ItemOutcome::Unchanged(_)]));
    assert_eq!(store.latest_revision().await.unwrap(), Revision(3));
}

async fn keys_stay_and_revisions_grow_over_delete_and_create_and_restart(kind: Kind) {
    let store = temporary(kind).await;
    store.put_items(vec![item("a", json!({})), item("b", json!({}))]).await.unwrap();

    let tombstone = store.delete_item(&id("a")).await.unwrap().unwrap();

    assert_eq!((tombstone.key, tombstone.revision, tombstone.deleted), (ItemKey(0), Revision(3), true));
    assert_eq!(store.delete_item(&id("a")).await.unwrap(), None);
    assert_eq!(store.delete_item(&id("never there")).await.unwrap(), None);
    assert_eq!(store.item(&id("a")).await.unwrap(), None);
    assert_eq!(store.items_page(None, 10).await.unwrap().len(), 1);
    assert_eq!(store.items_above(Revision(0), 10).await.unwrap().iter().map(|item| (item.key.0, item.deleted)).collect::<Vec<_>>(), [(1, false), (0, true)]);
    assert_eq!(store.item_counts().await.unwrap(), ItemCounts { live: 1, deleted: 1 });

    let store = store.reopened().await;
    let outcomes = store.put_items(vec![item("c", json!({})), item("a", json!({}))]).await.unwrap();

    assert!(matches!(outcomes[..], [ItemOutcome::Created(_), ItemOutcome::Created(_)]));
    assert_eq!(outcomes.iter().map(|outcome| (stored(outcome).key.0, stored(outcome).revision.0)).collect::<Vec<_>>(), [(2, 4), (0, 5)]);
    assert_eq!(store.item_counts().await.unwrap(), ItemCounts { live: 3, deleted: 0 });
    assert_eq!(store.pending_items(Revision(3)).await.unwrap(), 2);
}

async fn an_attribute_keeps_its_first_type(kind: Kind) {
    let store = temporary(kind).await;
    let colour = |id: &str, value: Json| item(id, json!({"attributes": {"colour": value}}));

    let outcomes = store.put_items(vec![colour("a", "red".into()), colour("b", 3.into()), colour("c", json!(["red", "blue"]))]).await.unwrap();

    assert!(matches!(&outcomes[1], ItemOutcome::Rejected(fault) if fault.pointer == "/attributes/colour"));
    assert!(matches!(outcomes[2], ItemOutcome::Created(_)));
    store.delete_item(&id("a")).await.unwrap();
    store.delete_item(&id("c")).await.unwrap();
    let store = store.reopened().await;
    assert!(matches!(store.put_items(vec![colour("d", true.into())]).await.unwrap()[..], [ItemOutcome::Rejected(_)]));
    assert_eq!(store.attribute_types().await.unwrap(), [("colour".to_owned(), crate::domain::AttributeType::Text)].into());
    assert_eq!(store.patch_item(&id("d"), json!({})).await.unwrap(), PatchOutcome::Missing);
}

async fn an_own_vector_keeps_the_width_of_its_first_use(kind: Kind) {
    let store = temporary(kind).await;
    let image = |id: &str, vector: Json| item(id, json!({"vectors": {"image": vector}}));
    let pointer = |outcome: &ItemOutcome| match outcome {
        ItemOutcome::Rejected(fault) => fault.pointer.clone(),
        stored => panic!("{stored:?}"),
    };

    let outcomes = store.put_items(vec![image("a", json!([0.5, -1, 2])), image("b", json!([1, 2])), image("c", json!([3, 2, 1]))]).await.unwrap();

    assert_eq!(pointer(&outcomes[1]), "/vectors/image");
    assert!(matches!(outcomes[2], ItemOutcome::Created(_)));
    let patched = store.patch_item(&id("c"), json!({"vectors": {"image": [1, 2, 3, 4]}})).await.unwrap();
    assert!(matches!(&patched, PatchOutcome::Rejected(faults) if faults[0].pointer == "/vectors/image" && faults[0].detail.contains("3 components")));
    let patched = store.patch_item(&id("c"), json!({"vectors": {"sound": [1, 2], "image": null}})).await.unwrap();
    assert!(matches!(&patched, PatchOutcome::Updated(now) if now.item.vectors.keys().eq(["sound"])));
    store.delete_item(&id("a")).await.unwrap();
    store.delete_item(&id("c")).await.unwrap();
    let store = store.reopened().await;
    assert_eq!(pointer(&store.put_items(vec![image("d", json!([1, 2]))]).await.unwrap()[0]), "/vectors/image");
    assert_eq!(stored(&store.put_items(vec![image("d", json!([1, 2, 4]))]).await.unwrap()[0]).item.vectors["image"], [1.0, 2.0, 4.0]);
}

async fn a_rejected_item_fixes_no_width_and_names_are_bounded(kind: Kind) {
    let store = temporary(kind).await;
    store.put_items(vec![item("a", json!({"attributes": {"x": 1}, "vectors": {"image": [1, 2]}}))]).await.unwrap();

    let outcomes = store
        .put_items(vec![item("b", json!({"attributes": {"x": "text"}, "vectors": {"sound": [1, 2, 3]}})), item("c", json!({"vectors": {"sound": [1]}}))])
        .await
        .unwrap();
    assert!(matches!(outcomes[..], [ItemOutcome::Rejected(_), ItemOutcome::Created(_)]));

    let many = (0..70).map(|n| item(&format!("n{n}"), json!({"vectors": {format!("v{n}"): [1]}}))).collect();
    let outcomes = store.put_items(many).await.unwrap();
    assert_eq!(outcomes.iter().filter(|outcome| matches!(outcome, ItemOutcome::Created(_))).count(), 14);
    assert!(
        matches!(&outcomes[20], ItemOutcome::Rejected(fault) if fault.pointer == "/vectors/v20" && fault.detail.contains("16 names")),
        "{:?}",
        outcomes[20]
    );
    assert_eq!(store.vector_widths().await.unwrap().len(), 16);
    let known = store.put_items(vec![item("n3", json!({"vectors": {"v3": [2]}}))]).await.unwrap();
    assert!(matches!(known[..], [ItemOutcome::Updated(_)]), "a name that is known goes on");
}

async fn patches_merge_and_concurrent_ones_lose_nothing(kind: Kind) {
    let store = temporary(kind).await;
    store.put_items(vec![item("a", json!({"price": 1, "tags": ["old"]}))]).await.unwrap();

    let patches = (0..50).map(|i| {
        let store = store.store.clone();
        tokio::spawn(async move { store.patch_item(&id("a"), json!({"attributes": {format!("n{i}"): i}})).await.unwrap() })
    });
    for patch in patches.collect::<Vec<_>>() {
        assert!(matches!(patch.await.unwrap(), PatchOutcome::Updated(_)));
    }
    let unchanged = store.patch_item(&id("a"), json!({"price": 1})).await.unwrap();
    let refused = store.patch_item(&id("a"), json!({"price": "x"})).await.unwrap();
    let removed = store.patch_item(&id("a"), json!({"price": null, "tags": ["new"]})).await.unwrap();

    assert!(matches!(unchanged, PatchOutcome::Unchanged(_)));
    assert!(matches!(refused, PatchOutcome::Rejected(faults) if faults[0].pointer == "/price"));
    let PatchOutcome::Updated(now) = removed else { panic!("{removed:?}") };
    assert_eq!(now.item.attributes.len(), 50);
    assert_eq!((now.item.price, &now.item.tags[..], now.revision.0), (None, &["new".to_owned()][..], 52));
    assert_eq!(store.item(&id("a")).await.unwrap(), Some(now));
}

async fn many_items_are_found_by_key_and_by_page(kind: Kind) {
    let store = temporary(kind).await;
    let ids: Vec<String> = (0..2_500).map(|i| format!("item {i:04} 商品")).collect();
    store.put_items(ids.iter().rev().map(|id| item(id, json!({"vectors": {"image": [0.1, -3e-8]}}))).collect()).await.unwrap();

    let by_key = store.items_by_key(&(0..2_500).rev().map(ItemKey).chain([ItemKey(9_999)]).collect::<Vec<_>>()).await.unwrap();
    let mut paged = Vec::new();
    while let page = store.items_page(paged.last().map(|item: &StoredItem| &item.item.item_id), 700).await.unwrap()
        && !page.is_empty()
    {
        paged.extend(page);
    }

    assert_eq!(by_key.len(), 2_500);
    assert_eq!(paged.iter().map(|item| item.item.item_id.as_str()).collect::<Vec<_>>(), ids);
    assert_eq!(paged[7].item.vectors["image"], [0.1, -3e-8]);
    assert!(store.items_by_key(&[]).await.unwrap().is_empty());
}

async fn embeddings_and_index_state_are_kept_by_version_and_collection(kind: Kind) {
    let store = temporary(kind).await;
    let vector = |x: f32| Embedding::new(vec![x, 1.0, -2.0]).unwrap();
    let hashes: Vec<_> = (0..1_500).map(|i| ContentHash::of(&format!("text {i}"))).collect();

    store.put_embeddings("m1", hashes.iter().enumerate().map(|(i, hash)| (*hash, vector(i as f32))).collect()).await.unwrap();
    store.put_embeddings("m1", vec![(hashes[0], vector(77.0))]).await.unwrap();
    store.set_flushed_revision("c1", Revision(7)).await.unwrap();
    store.set_flushed_revision("c1", Revision(5)).await.unwrap();
    store.set_flushed_revision("gone", Revision(3)).await.unwrap();
    store.set_flushed_revision("gone", Revision(0)).await.unwrap();

    let store = store.reopened().await;
    let found = store.embeddings("m1", &hashes).await.unwrap();
    assert_eq!(found.len(), 1_500);
    assert!(found[&hashes[3]].cosine(&vector(3.0)) > 0.999_999);
    assert!(found[&hashes[0]].cosine(&vector(0.0)) > 0.999_999);
    assert!(store.embeddings("m2", &hashes).await.unwrap().is_empty());
    assert_eq!(store.flushed_revision("c1").await.unwrap(), Revision(5));
    assert_eq!(store.flushed_revision("c2").await.unwrap(), Revision(0));
    assert_eq!(store.flushed_revision("gone").await.unwrap(), Revision(0));
}
