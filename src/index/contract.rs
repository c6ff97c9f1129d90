//! What every [`VectorIndex`] must do, run against each of them.

use serde_json::json;

use super::{Hit, Home, IndexError, IndexPoint, IndexSettings, Lexicon, Search, VectorIndex, lexical::tests::settings as lexical};
use crate::domain::{AttributeType, Embedding, Filter, Item, ItemFacts, ItemKey, Revision};

pub(super) const WIDTH: usize = 4;

pub(super) fn settings() -> IndexSettings {
    IndexSettings {
        url: None,
        api_key: None,
        collection_prefix: "test_".to_owned(),
        shard_number: 1,
        replication_factor: 1,
        write_consistency_factor: 1,
        timeout_ms: 5_000,
        write_timeout_ms: 10_000,
        hnsw_m: 24,
        hnsw_ef_construct: 100,
        hnsw_ef: 128,
        optimize_after: 2_000,
        max_search_terms: 32,
        lock_wait_ms: 300,
        lexical: lexical(),
    }
}

pub(super) fn home(folder: &std::path::Path) -> Home {
    Home { folder: folder.to_owned(), catalogue: "shop".to_owned() }
}

pub(super) fn embedding(vector: [f32; WIDTH]) -> Embedding {
    Embedding::new(vector.to_vec()).unwrap()
}

/// A point of the item with the words and facts of `json`.
pub(super) fn point(key: u32, vector: Option<[f32; WIDTH]>, json: serde_json::Value) -> IndexPoint {
    let item: Item = serde_json::from_value(json).unwrap();
    let terms = Lexicon::new(&lexical()).item_terms(item.title.as_deref().unwrap_or(""), item.text.as_deref().unwrap_or(""));
    IndexPoint { key: ItemKey(key), revision: Revision(1), embedding: vector.map(embedding), terms, facts: ItemFacts::from(&item) }
}

pub(super) fn all(limit: usize) -> Search<'static> {
    Search { limit, filter: None }
}

pub(super) fn keys(hits: &[Hit]) -> Vec<u32> {
    hits.iter().map(|hit| hit.key.0).collect()
}

fn query(text: &str) -> super::QueryTerms {
    Lexicon::new(&lexical()).query_terms(text)
}

fn shop() -> Vec<IndexPoint> {
    vec![
        point(
            1,
            Some([1.0, 0.0, 0.0, 0.0]),
            json!({"item_id": "tent", "title": "Light tent", "text": "A tent for two", "categories": ["camping"], "price": 120}),
        ),
        point(
            2,
            Some([1.0, 1.0, 0.0, 0.0]),
            json!({"item_id": "jacket", "title": "防水外套", "categories": ["clothes"], "price": 80, "attributes": {"a.b[0]\"c": "x"}}),
        ),
        point(3, Some([0.0, 1.0, 0.0, 0.0]), json!({"item_id": "rope", "title": "Rope", "text": "Strong and light", "categories": ["camping"], "price": 20})),
        point(4, None, json!({"item_id": "lamp", "title": "Camping lamp", "text": "light in the tent", "categories": ["camping"]})),
    ]
}

async fn filled(index: &dyn VectorIndex) {
    index.upsert(shop()).await.unwrap();
}

pub(super) async fn an_empty_index_finds_nothing(index: &dyn VectorIndex) {
    assert!(index.nearest(&embedding([1.0; WIDTH]), all(5)).await.unwrap().is_empty());
    assert!(index.matching(&query("tent"), all(5)).await.unwrap().is_empty());
    assert!(index.similarities(&embedding([1.0; WIDTH]), &[ItemKey(1)]).await.unwrap().is_empty());
    assert_eq!(index.count().await.unwrap(), 0);
    index.delete(&[(ItemKey(7), Revision(1))]).await.unwrap();
    index.upsert(Vec::new()).await.unwrap();
    index.flush().await.unwrap();
}

pub(super) async fn the_nearest_come_first_with_their_cosine(index: &dyn VectorIndex) {
    filled(index).await;

    let hits = index.nearest(&embedding([1.0, 0.1, 0.0, 0.0]), all(5)).await.unwrap();

    assert_eq!(keys(&hits), [1, 2, 3]); // the lamp has no embedding
    let expected = 1.0 / 1.01_f32.sqrt();
    assert!((hits[0].score.get() - expected).abs() < 1e-5);
}

pub(super) async fn items_with_the_words_come_by_bm25(index: &dyn VectorIndex) {
    filled(index).await;

    let tents = index.matching(&query("tents"), all(5)).await.unwrap();

    assert_eq!(keys(&tents), [1, 4]); // in the title and twice, before once in the text
    assert_eq!(keys(&index.matching(&query("防水"), all(5)).await.unwrap()), [2]);
    assert!(index.matching(&query("boat"), all(5)).await.unwrap().is_empty());
    assert!(index.matching(&query("!?"), all(5)).await.unwrap().is_empty());
}

pub(super) async fn the_limit_is_kept(index: &dyn VectorIndex) {
    filled(index).await;

    assert_eq!(keys(&index.nearest(&embedding([1.0, 0.1, 0.0, 0.0]), all(2)).await.unwrap()), [1, 2]);
    assert_eq!(index.matching(&query("light"), all(2)).await.unwrap().len(), 2);
    assert!(index.nearest(&embedding([1.0; WIDTH]), all(0)).await.unwrap().is_empty());
    assert!(index.matching(&query("light"), all(0)).await.unwrap().is_empty());
}

pub(super) async fn scores_of_given_items_are_those_of_a_search(index: &dyn VectorIndex) {
    filled(index).await;
    let (vector, words) = (embedding([0.3, 0.9, 0.1, 0.0]), query("light tent 防水"));

    let near = index.nearest(&vector, all(9)).await.unwrap();
    let match_ = index.matching(&words, all(9)).await.unwrap();
    let cosines = index.similarities(&vector, &near.iter().map(|hit| hit.key).collect::<Vec<_>>()).await.unwrap();
    let scores = index.lexical_scores(&words, &match_.iter().map(|hit| hit.key).collect::<Vec<_>>()).await.unwrap();

    assert_eq!((cosines.len(), scores.len()), (3, 4));
    for (hit, score) in near.iter().zip(&cosines).chain(match_.iter().zip(&scores)) {
        assert_eq!(hit.key, score.0);
        assert!((hit.score.get() - score.1).abs() < 1e-4, "{hit:?} {score:?}");
    }
}

pub(super) async fn unknown_items_and_missing_embeddings_are_left_out(index: &dyn VectorIndex) {
    filled(index).await;
    let asked = [ItemKey(4), ItemKey(99), ItemKey(3), ItemKey(1)];

    let cosines = index.similarities(&embedding([1.0, 0.0, 0.0, 0.0]), &asked).await.unwrap();
    let scores = index.lexical_scores(&query("rope"), &asked).await.unwrap();
    let embeddings = index.embeddings(&asked).await.unwrap();

    assert_eq!(cosines.iter().map(|pair| pair.0.0).collect::<Vec<_>>(), [3, 1]);
    assert_eq!(scores.iter().map(|pair| (pair.0.0, pair.1 > 0.0)).collect::<Vec<_>>(), [(4, false), (3, true), (1, false)]);
    assert_eq!(embeddings.iter().map(|pair| pair.0.0).collect::<Vec<_>>(), [3, 1]);
    assert!((embeddings[1].1.cosine(&embedding([1.0, 0.0, 0.0, 0.0])) - 1.0).abs() < 1e-6);
}

pub(super) async fn a_replaced_item_is_found_as_it_is_now(index: &dyn VectorIndex) {
    filled(index).await;

    index.upsert(vec![point(1, None, json!({"item_id": "tent", "title": "Boat", "price": 900}))]).await.unwrap();

    assert_eq!(keys(&index.nearest(&embedding([1.0, 0.1, 0.0, 0.0]), all(5)).await.unwrap()), [2, 3]);
    assert_eq!(keys(&index.matching(&query("boat"), all(5)).await.unwrap()), [1]);
    assert_eq!(keys(&index.matching(&query("tent"), all(5)).await.unwrap()), [4]);
    let dear = Filter::parse(&json!({"price": {"gt": 500}}), &|_| None).unwrap();
    assert_eq!(keys(&index.matching(&query("boat"), Search { limit: 5, filter: Some(&dear) }).await.unwrap()), [1]);
    assert_eq!(index.count().await.unwrap(), 4);
}

pub(super) async fn of_two_points_with_one_key_the_later_counts(index: &dyn VectorIndex) {
    let first = point(1, Some([1.0, 0.0, 0.0, 0.0]), json!({"item_id": "a", "title": "tent"}));
    let second = point(1, Some([0.0, 1.0, 0.0, 0.0]), json!({"item_id": "a", "title": "rope"}));

    index.upsert(vec![first, second]).await.unwrap();

    assert_eq!(keys(&index.matching(&query("rope"), all(5)).await.unwrap()), [1]);
    assert!(index.matching(&query("tent"), all(5)).await.unwrap().is_empty());
    assert!((index.nearest(&embedding([0.0, 1.0, 0.0, 0.0]), all(5)).await.unwrap()[0].score.get() - 1.0).abs() < 1e-5);
}

pub(super) async fn a_deleted_item_is_gone_and_may_come_back(index: &dyn VectorIndex) {
    filled(index).await;

    index.delete(&[(ItemKey(1), Revision(1)), (ItemKey(77), Revision(1))]).await.unwrap();

    assert_eq!(keys(&index.nearest(&embedding([1.0, 0.1, 0.0, 0.0]), all(5)).await.unwrap()), [2, 3]);
    assert_eq!(keys(&index.matching(&query("tent"), all(5)).await.unwrap()), [4]);
    assert!(index.embeddings(&[ItemKey(1)]).await.unwrap().is_empty());
    assert_eq!(index.count().await.unwrap(), 3);

    index.upsert(shop()).await.unwrap();
    assert_eq!(index.nearest(&embedding([1.0, 0.1, 0.0, 0.0]), all(5)).await.unwrap()[0].key, ItemKey(1));
}

pub(super) async fn a_filter_binds_every_search(index: &dyn VectorIndex) {
    filled(index).await;
    let types = |_: &str| Some(AttributeType::Text);
    for (filter, near, matched) in [
        (json!({"categories": "camping"}), vec![1, 3], vec![1, 4, 3]),
        (json!({"categories": "camping", "price": {"lt": 100}}), vec![3], vec![3]),
        (json!({"price": null}), vec![], vec![4]),
        (json!({"attributes.a.b[0]\"c": "x"}), vec![2], vec![]),
        (json!({"any_of": []}), vec![], vec![]),
        (json!({"none_of": [{"item_id": ["tent", "lamp"]}]}), vec![2, 3], vec![3]),
    ] {
        let parsed = Filter::parse(&filter, &types).unwrap();
        let search = Search { limit: 9, filter: Some(&parsed) };

        let mut hits = keys(&index.matching(&query("light"), search).await.unwrap());
        let mut matched = matched;

        assert_eq!(keys(&index.nearest(&embedding([1.0, 0.1, 0.0, 0.0]), search).await.unwrap()), near, "{filter}");
        hits.sort_unstable();
        matched.sort_unstable();
        assert_eq!(hits, matched, "{filter}");
    }
}

pub(super) async fn an_embedding_of_another_width_is_refused(index: &dyn VectorIndex) {
    let narrow = Embedding::new(vec![1.0, 0.0]).unwrap();
    let mut bad = point(1, None, json!({"item_id": "a", "title": "tent"}));
    bad.embedding = Some(narrow.clone());

    assert!(matches!(index.upsert(vec![bad]).await, Err(IndexError::Width { found: 2, wanted: WIDTH })));
    assert!(matches!(index.nearest(&narrow, all(5)).await, Err(IndexError::Width { .. })));
    assert!(matches!(index.similarities(&narrow, &[]).await, Err(IndexError::Width { .. })));
    assert_eq!(index.count().await.unwrap(), 0);
}

/// Where several processes write one collection.
pub(super) async fn an_older_state_never_takes_the_place_of_a_newer_one(index: &dyn VectorIndex) {
    let at = |revision: i64, mut point: IndexPoint| {
        point.revision = Revision(revision);
        point
    };
    let state = |key: u32, word: &str, vector: Option<[f32; WIDTH]>| point(key, vector, json!({"item_id": key.to_string(), "title": word}));
    let found = async |word: &str| keys(&index.matching(&query(word), all(9)).await.unwrap());
    index.upsert(vec![at(5, state(1, "tent", Some([1.0, 0.0, 0.0, 0.0]))), at(5, state(2, "rope", None)), at(9, state(3, "lamp", None))]).await.unwrap();
    index.delete(&[(ItemKey(4), Revision(7))]).await.unwrap();

    // What a writer that was slow says late.
    let late = vec![at(4, state(1, "boat", None)), at(6, state(2, "boat", None)), at(8, state(3, "boat", None)), at(6, state(4, "boat", None))];
    index.upsert(late).await.unwrap();
    index.delete(&[(ItemKey(1), Revision(3)), (ItemKey(3), Revision(8))]).await.unwrap();

    assert_eq!((found("boat").await, found("tent").await, found("lamp").await), (vec![2], vec![1], vec![3]));
    assert_eq!(keys(&index.nearest(&embedding([1.0; WIDTH]), all(9)).await.unwrap()), [1], "the vector of the newer state stays");
    assert_eq!(index.count().await.unwrap(), 3);

    index.upsert(vec![at(8, state(4, "boat", None))]).await.unwrap();
    assert_eq!(found("boat").await, [2, 4], "newer than its deletion");
    index.delete(&[(ItemKey(1), Revision(6))]).await.unwrap();
    assert!(index.nearest(&embedding([1.0; WIDTH]), all(9)).await.unwrap().is_empty());
    assert_eq!((found("tent").await, index.count().await.unwrap()), (vec![], 3));
}

pub(super) async fn an_item_that_loses_its_embedding_or_its_words_is_found_by_what_is_left(index: &dyn VectorIndex) {
    filled(index).await;

    let (worded, embedded) =
        (point(1, None, json!({"item_id": "tent", "title": "tent"})), point(3, Some([0.0, 1.0, 0.0, 0.0]), json!({"item_id": "rope", "title": "!"})));
    index.upsert(vec![worded, embedded]).await.unwrap();

    assert_eq!(keys(&index.nearest(&embedding([1.0, 0.1, 0.0, 0.0]), all(5)).await.unwrap()), [2, 3]);
    assert!(keys(&index.matching(&query("tent"), all(5)).await.unwrap()).contains(&1));
    assert!(index.matching(&query("rope"), all(5)).await.unwrap().is_empty());
}

pub(super) async fn points_without_words_are_known_and_found_by_vector_and_filter(index: &dyn VectorIndex) {
    let own = |key: u32, vector: [f32; WIDTH], price: u32| IndexPoint {
        terms: super::Terms::default(),
        ..point(key, Some(vector), json!({"item_id": key.to_string(), "title": "tent", "price": price}))
    };
    index.upsert(vec![own(1, [1.0, 0.0, 0.0, 0.0], 10), own(2, [1.0, 0.5, 0.0, 0.0], 20), own(3, [0.0, 1.0, 0.0, 0.0], 30)]).await.unwrap();
    index.upsert(vec![own(1, [1.0, 0.0, 0.0, 0.0], 40)]).await.unwrap();
    let dear = Filter::parse(&json!({"price": {"gte": 20}}), &|_| None).unwrap();
    let near = async || keys(&index.nearest(&embedding([0.0, 1.0, 0.0, 0.0]), Search { limit: 9, filter: Some(&dear) }).await.unwrap());

    assert_eq!(near().await, [3, 2, 1]);
    assert!(index.matching(&query("tent"), all(9)).await.unwrap().is_empty());
    index.delete(&[(ItemKey(2), Revision(2))]).await.unwrap();

    assert_eq!(near().await, [3, 1]);
    assert_eq!(index.known(&[ItemKey(3), ItemKey(2), ItemKey(9), ItemKey(1)]).await.unwrap(), [ItemKey(3), ItemKey(1)]);
    assert!(index.known(&[]).await.unwrap().is_empty());
}

/// `name: expression;` for each implementation, with attributes for its tests; the expression gives a new, empty index for embeddings of
/// [`WIDTH`]. After `shared` stand those that several processes write.
macro_rules! vector_index_contract {
    ($($(#[$attribute:meta])* $name:ident: $index:expr;)+) => { $(
        mod $name {
            use super::*;
            vector_index_contract! { @all [$(#[$attribute])*] $index }
        }
    )+ };
    (shared $($(#[$attribute:meta])* $name:ident: $index:expr;)+) => { $(
        mod $name {
            vector_index_contract! { @all [$(#[$attribute])*] $index }
            vector_index_contract! { @tests [$(#[$attribute])*] $index; an_older_state_never_takes_the_place_of_a_newer_one }
        }
    )+ };
    (@all $attributes:tt $index:expr) => {
        vector_index_contract! { @tests $attributes $index;
            an_empty_index_finds_nothing the_nearest_come_first_with_their_cosine items_with_the_words_come_by_bm25 the_limit_is_kept
            scores_of_given_items_are_those_of_a_search unknown_items_and_missing_embeddings_are_left_out a_replaced_item_is_found_as_it_is_now
            of_two_points_with_one_key_the_later_counts a_deleted_item_is_gone_and_may_come_back a_filter_binds_every_search
            an_embedding_of_another_width_is_refused an_item_that_loses_its_embedding_or_its_words_is_found_by_what_is_left
            points_without_words_are_known_and_found_by_vector_and_filter
        }
    };
    (@tests $attributes:tt $index:expr; $($test:ident)+) => { $(
        vector_index_contract! { @test $attributes $index; $test }
    )+ };
    (@test [$($attribute:tt)*] $index:expr; $test:ident) => {
        #[tokio::test]
        $($attribute)*
        async fn $test() {
            let index = $index;
            crate::index::contract::$test(&*index).await;
        }
    };
}

vector_index_contract! {
    memory: Box::new(crate::index::memory::MemoryIndex::new(WIDTH));
}

#[cfg(feature = "edge")]
vector_index_contract! {
    edge: crate::index::edge::tests::Temporary::index(WIDTH).await;
}

#[cfg(feature = "edge")]
vector_index_contract! {
    shared
    wire: crate::index::server::tests::Temporary::over_the_wire().await;
}

vector_index_contract! {
    shared
    #[cfg_attr(not(qdrant_server), ignore = "INKLING_TEST_QDRANT_URL names no Qdrant server")]
    qdrant: crate::index::server::tests::Temporary::on_a_real_server().await;
}
