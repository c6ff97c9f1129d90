//! Another collection takes over from the one that answers: real store, real encoder, real index.

use std::{
    path::Path,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use futures::future::BoxFuture;
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::{
    domain::{Embedding, Filter},
    encoder::{Encoder, EncoderMetrics, EncoderSettings, prepare},
    features::{FeatureSettings, Preset, Rulebook},
    index::{Collections, Home, IndexSettings, Lexicon, Search, VectorIndex},
    telemetry::Compute,
};

struct Shop {
    ingest: Ingest,
    store: Store,
    collections: Collections,
    encoder: Encoder,
    lexicon: Arc<Lexicon>,
    settings: IngestSettings,
    _folder: tempfile::TempDir,
}

/// A section of the default settings; `config` is on a higher floor, its file is not.
fn section<T: DeserializeOwned>(name: &str) -> T {
    let defaults: toml::Table = include_str!("../config/default.toml").parse().unwrap();
    defaults[name].clone().try_into().unwrap()
}

impl Shop {
    async fn new() -> Self {
        let encoder = EncoderSettings { sessions: 1, threads: 1, ..section("encoder") };
        let index: IndexSettings = section("index");
        let model = prepare(&Path::new(env!("CARGO_MANIFEST_DIR")).join("models"), &encoder.model, &mut |_| {}).unwrap();
        let (folder, registry) = (tempfile::tempdir().unwrap(), Registry::new());
        let store = Store::open(folder.path(), &section("store"), &registry).await.unwrap();
        let rooms = Rooms {
            store: store.clone(),
            columns: Arc::default(),
            histories: Arc::new(Histories::new(1 << 20)),
            popularity: Arc::new(Popularity::new(14.0)),
            signals: Arc::new(Signals::new(&FeatureSettings::of(Preset::Shop)).unwrap()),
            rulebook: Arc::new(Rulebook::new(&[])),
            showings: Arc::default(),
        };
        Self {
            ingest: Ingest::new(rooms, &registry).unwrap(),
            store,
            collections: Collections::new(
                &index,
                Home { folder: folder.path().to_owned(), catalogue: "test".into() },
                Compute::start("test", 2, 64).unwrap(),
                &registry,
            )
            .unwrap(),
            encoder: Encoder::start(&model, &encoder, &EncoderMetrics::register(&registry).unwrap()).unwrap(),
            lexicon: Arc::new(Lexicon::new(&index.lexical)),
            settings: IngestSettings { chunk: 4, flush_seconds: 0.05 },
            _folder: folder,
        }
    }

    async fn collection(&self, name: &str) -> IndexCollection {
        let index = self.collections.open(name, self.encoder.width()).await.unwrap().index;
        IndexCollection { name: name.to_owned(), index, content: Content::Text { encoder: self.encoder.clone(), lexicon: Arc::clone(&self.lexicon) } }
    }

    /// Opens collections of own vectors as `app` does, and keeps them for the test to look at.
    fn open_own_vectors(&self) -> (OpenVectors, Shelf) {
        let (collections, shelf) = (self.collections.without_words(), Shelf::default());
        let opened = Arc::clone(&shelf);
        let open = move |vector: String, width: usize| {
            let (collections, opened) = (collections.clone(), Arc::clone(&opened));
            let name = format!("own {vector}");
            let opening = async move {
                let index = collections.open(&name, width).await.map_err(|error| error.to_string())?.index;
                opened.lock().unwrap().insert(vector.clone(), Arc::clone(&index));
                Ok(IndexCollection { name, index, content: Content::OwnVector(vector) })
            };
            Box::pin(opening) as BoxFuture<'static, _>
        };
        (Arc::new(open), shelf)
    }

    async fn put(&self, items: &[serde_json::Value]) {
        let items = items.iter().map(|item| serde_json::from_value(item.clone()).unwrap()).collect();
        self.ingest.put_items(items).await.unwrap();
        self.is_searchable().await;
    }

    async fn is_searchable(&self) {
        while self.ingest.pending().await.unwrap() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Writes items `from..to` and waits until those that answer know them.
    async fn write(&self, from: usize, to: usize) {
        let item = |i: usize| serde_json::from_value(json!({"item_id": i.to_string(), "title": format!("lamp {i}")})).unwrap();
        self.ingest.put_items((from..to).map(item).collect()).await.unwrap();
        self.is_searchable().await;
    }
}

type Shelf = Arc<Mutex<BTreeMap<String, Arc<dyn VectorIndex>>>>;

async fn count(index: &Arc<dyn VectorIndex>) -> usize {
    index.count().await.unwrap()
}

#[tokio::test]
async fn what_is_written_after_the_filling_and_after_the_swap_is_in_the_collection_that_took_over() {
    let shop = Shop::new().await;
    let (old, new) = (shop.collection("old").await, shop.collection("new").await);
    let (old_index, new_index) = (Arc::clone(&old.index), Arc::clone(&new.index));
    let indexer = shop.ingest.indexer(old, shop.settings.clone(), shop.open_own_vectors().0).await.unwrap();
    let (succession, stop) = (indexer.succession(), CancellationToken::new());
    let running = tokio::spawn(indexer.run(stop.clone()));
    shop.write(0, 10).await;
    let filling = shop.ingest.filling(new, Revision::default(), 4);
    filling.catch_up(|_| {}).await.unwrap();
    shop.write(10, 17).await; // the old one alone knows these
    assert_eq!((count(&old_index).await, count(&new_index).await), (17, 10));
    let known = Arc::new(AtomicUsize::new(0));

    let swap = {
        let (index, known) = (Arc::clone(&new_index), Arc::clone(&known));
        async move {
            known.store(count(&index).await, Ordering::Release);
            Ok(())
        }
    };
    succession.take_over(filling, Box::pin(swap)).await.unwrap();
    shop.write(17, 20).await;

    assert_eq!(known.load(Ordering::Acquire), 17, "at the swap it knows what the old one knew");
    assert_eq!((count(&old_index).await, count(&new_index).await), (17, 20));
    stop.cancel();
    running.await.unwrap();
    assert_eq!(shop.store.flushed_revision("new").await.unwrap(), shop.store.latest_revision().await.unwrap());
    assert!(matches!(
        succession.take_over(shop.ingest.filling(shop.collection("third").await, Revision::default(), 4), Box::pin(async { Ok(()) })).await,
        Err(SuccessionError::Stopped)
    ));
}

#[tokio::test]
async fn where_the_swap_fails_the_old_collection_goes_on() {
    let shop = Shop::new().await;
    let (old, new) = (shop.collection("old").await, shop.collection("new").await);
    let (old_index, new_index) = (Arc::clone(&old.index), Arc::clone(&new.index));
    let indexer = shop.ingest.indexer(old, shop.settings.clone(), shop.open_own_vectors().0).await.unwrap();
    let (succession, stop) = (indexer.succession(), CancellationToken::new());
    let running = tokio::spawn(indexer.run(stop.clone()));
    shop.write(0, 3).await;

    let filling = shop.ingest.filling(new, Revision::default(), 4);
    let failed = succession.take_over(filling, Box::pin(async { Err("the disk is full".to_owned()) })).await;
    shop.write(3, 5).await;

    assert!(matches!(failed, Err(SuccessionError::Swap(reason)) if reason == "the disk is full"));
    assert_eq!((count(&old_index).await, count(&new_index).await), (5, 3));
    stop.cancel();
    running.await.unwrap();
}

/// Keys of the nearest to `vector`, best first.
async fn nearest(shelf: &Shelf, name: &str, vector: &[f32], filter: Option<&Filter>) -> Vec<u32> {
    let index = Arc::clone(&shelf.lock().unwrap()[name]);
    let hits = index.nearest(&Embedding::new(vector.to_vec()).unwrap(), Search { limit: 99, filter }).await.unwrap();
    hits.iter().map(|hit| hit.key.0).collect()
}

#[tokio::test]
async fn own_vectors_follow_every_write_in_collections_of_their_own_and_go_on_after_a_restart() {
    let shop = Shop::new().await;
    let (open, shelf) = shop.open_own_vectors();
    let indexer = shop.ingest.indexer(shop.collection("texts").await, shop.settings.clone(), Arc::clone(&open)).await.unwrap();
    let stop = CancellationToken::new();
    let running = tokio::spawn(indexer.run(stop.clone()));
    shop.write(0, 10).await;
    assert!(shelf.lock().unwrap().is_empty(), "a catalogue without own vectors pays nothing");

    let image = |id: &str, vector: [f32; 2]| json!({"item_id": id, "title": "lamp", "price": 10, "vectors": {"image": vector}});
    shop.put(&[image("a", [1.0, 0.0]), image("b", [1.0, 1.0]), image("c", [0.0, 1.0]), json!({"item_id": "d", "title": "x", "vectors": {"sound": [1, 2, 3]}})])
        .await;
    assert_eq!(nearest(&shelf, "image", &[1.0, 0.1], None).await, [10, 11, 12]);
    assert_eq!(nearest(&shelf, "sound", &[1.0, 0.0, 0.0], None).await, [13]);

    let id = |id: &str| ItemId::new(id).unwrap();
    shop.ingest.delete_item(&id("a")).await.unwrap();
    shop.ingest.patch_item(&id("b"), json!({"price": 30})).await.unwrap();
    shop.ingest.patch_item(&id("d"), json!({"vectors": {"sound": null, "image": [1, 0]}})).await.unwrap();
    shop.is_searchable().await;
    let dear = Filter::parse(&json!({"price": {"gt": 20}}), &|_| None).unwrap();
    assert_eq!(nearest(&shelf, "image", &[1.0, 0.1], None).await, [13, 11, 12]);
    assert_eq!(nearest(&shelf, "image", &[1.0, 0.1], Some(&dear)).await, [11]);
    assert!(nearest(&shelf, "sound", &[1.0, 0.0, 0.0], None).await.is_empty());

    stop.cancel();
    running.await.unwrap();
    shelf.lock().unwrap().clear();
    let newest = shop.store.latest_revision().await.unwrap();
    assert_eq!([shop.store.flushed_revision("own image").await.unwrap(), shop.store.flushed_revision("own sound").await.unwrap()], [newest; 2]);
    shop.store.put_items(vec![serde_json::from_value(image("e", [1.0, 0.1])).unwrap()]).await.unwrap();
    let indexer = shop.ingest.indexer(shop.collection("texts").await, shop.settings.clone(), open).await.unwrap();
    indexer.open_own_vectors().await.unwrap();
    assert_eq!(nearest(&shelf, "image", &[1.0, 0.1], None).await, [13, 11, 12], "what was safe on disk answers at once");
    indexer.catch_up(|_| {}).await.unwrap();
    assert_eq!(nearest(&shelf, "image", &[1.0, 0.1], None).await, [14, 13, 11, 12]);
    assert_eq!(shop.ingest.pending().await.unwrap(), 0);
}

#[tokio::test]
async fn while_a_collection_of_own_vectors_cannot_be_opened_texts_are_indexed_and_it_is_pending() {
    let shop = Shop::new().await;
    let (open, shelf) = shop.open_own_vectors();
    let broken = Arc::new(std::sync::atomic::AtomicBool::new(true));
    let stubborn: OpenVectors = {
        let broken = Arc::clone(&broken);
        Arc::new(move |name, width| if broken.load(Ordering::Acquire) { Box::pin(async { Err("the disk is full".to_owned()) }) } else { open(name, width) })
    };
    let texts = shop.collection("texts").await;
    let index = Arc::clone(&texts.index);
    let indexer = shop.ingest.indexer(texts, shop.settings.clone(), stubborn).await.unwrap();
    let stop = CancellationToken::new();
    let running = tokio::spawn(indexer.run(stop.clone()));

    let item = serde_json::from_value(json!({"item_id": "a", "title": "lamp", "vectors": {"image": [1, 2]}})).unwrap();
    shop.ingest.put_items(vec![item]).await.unwrap();
    while count(&index).await < 1 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(shop.ingest.pending().await.unwrap(), 1);
    broken.store(false, Ordering::Release);
    shop.is_searchable().await;

    assert_eq!(nearest(&shelf, "image", &[1.0, 2.0], None).await, [0]);
    stop.cancel();
    running.await.unwrap();
}

#[tokio::test]
async fn a_clock_that_was_a_year_ahead_and_is_set_right_loses_no_event_counts_none_twice_and_hides_nothing() {
    const YEAR_MS: i64 = 365 * crate::domain::DAY_MS;
    let shop = Shop::new().await;
    let _collection = shop.ingest.indexer(shop.collection("c").await, shop.settings.clone(), shop.open_own_vectors().0).await.unwrap();
    let item = |id: &str| serde_json::from_value(json!({"item_id": id, "title": "lamp"})).unwrap();
    shop.ingest.put_items(vec![item("before"), item("after")]).await.unwrap();
    let (right, ahead) = (Timestamp::now(), Timestamp::from_millis(Timestamp::now().millis() + YEAR_MS).unwrap());
    let click = |id: usize, item: &str| -> Event {
        serde_json::from_value(json!({"event_id": id.to_string(), "type": "click", "user_id": "ann", "item_id": item})).unwrap()
    };
    let told = |at: Timestamp| Event { event_id: None, timestamp: Some(at), ..click(0, "before") };

    let while_ahead = shop.ingest.events(vec![click(0, "before"), told(ahead)], ahead).await.unwrap();
    let set_right = shop.ingest.events([click(0, "before"), told(ahead)].into_iter().chain((1..40).map(|n| click(n, "after"))).collect(), right).await.unwrap();

    assert_eq!(while_ahead, [EventOutcome::Accepted, EventOutcome::Accepted]);
    assert_eq!(set_right[0], EventOutcome::Duplicate, "a retry is one whatever the clocks say");
    assert!(matches!(&set_right[1], EventOutcome::Rejected(faults) if faults[0].pointer == "/timestamp"));
    assert!(set_right[2..].iter().all(|outcome| *outcome == EventOutcome::Accepted));
    let actor = Actor::User(UserId::new("ann").unwrap());
    assert_eq!(shop.store.recent_events(&actor, 100).await.unwrap().len(), 41);
    let rooms = &shop.ingest.0.rooms;
    let table = rooms.columns.read();
    let ranking = rooms.popularity.ranking(&table, "home");
    let popularity = |item: &str| ranking.of(table.key_of(&ItemId::new(item).unwrap()).unwrap());
    assert!(popularity("after") > popularity("before"), "{} and {}", popularity("after"), popularity("before"));
}

/// Begins `work` and hangs up while it waits.
async fn abandon(work: impl Future<Output: std::fmt::Debug>) {
    let mut work = std::pin::pin!(work);
    let waiting = futures::poll!(&mut work);
    assert!(waiting.is_pending(), "done before anybody could hang up: {waiting:?}");
}

#[tokio::test]
async fn what_a_client_that_hung_up_has_written_is_in_memory_as_it_is_on_disk() {
    let shop = Shop::new().await;
    let item = |id: &str| -> Item { serde_json::from_value(json!({"item_id": id, "title": "lamp"})).unwrap() };
    shop.ingest.put_items(vec![item("put"), item("patched"), item("deleted")]).await.unwrap();
    let rooms = &shop.ingest.0.rooms;
    let ann = Actor::User(UserId::new("ann").unwrap());
    let cached = rooms.histories.of(&ann, async { Ok::<_, StoreError>(crate::features::Loaded { history: Arc::default(), keep: true }) }).await.unwrap();
    assert!(cached.acts.is_empty());
    let available = |id: &str| {
        rooms
            .columns
            .read()
            .key_of(&ItemId::new(id).unwrap())
            .is_some_and(|key| rooms.columns.read().facts(key).is_some_and(|facts| facts.recommendable(Timestamp::now())))
    };

    abandon(shop.ingest.put_items(vec![Item { available: false, ..item("put") }])).await;
    abandon(shop.ingest.patch_item(&ItemId::new("patched").unwrap(), json!({"available": false}))).await;
    abandon(shop.ingest.delete_item(&ItemId::new("deleted").unwrap())).await;
    let click = serde_json::from_value(json!({"event_id": "c", "type": "click", "user_id": "ann", "item_id": "put"})).unwrap();
    abandon(shop.ingest.events(vec![click], Timestamp::now())).await;

    let forgotten = async || {
        let load = async { Err::<crate::features::Loaded, _>(()) };
        rooms.histories.of(&ann, load).await.is_err()
    };
    let mut tries = 0;
    while ["put", "patched", "deleted"].into_iter().any(&available) || !forgotten().await {
        tries += 1;
        assert!(tries < 1_000, "still recommended: {:?}", ["put", "patched", "deleted"].map(available));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(*shop.ingest.accepted().borrow(), 1);
}
