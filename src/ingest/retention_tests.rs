//! A year passes: what is too old goes, what is young stays, and the file stays small.

use std::sync::Arc;

use serde_json::json;
use tempfile::TempDir;

use super::*;
use crate::{
    domain::{DAY_MS, Embedding, Exposure, Feature, RecommendationId, SessionId, ShownItem, UserId},
    encoder::clean,
    features::{Columns, FeatureSettings, Histories, Popularity, Preset, Rulebook, Signals},
    store::{ContentHash, StoreSettings},
};

fn settings(retention_days: u32, exposure_retention_days: u32) -> StoreSettings {
    StoreSettings { url: None, queue: 16_384, exposure_queue: 16_384, commit_delay_ms: 2.0, readers: 2, cache_mb: 8, retention_days, exposure_retention_days }
}

async fn house(settings: &StoreSettings, folder: &TempDir, registry: &Registry) -> Ingest {
    let store = Store::open(folder.path(), settings, registry).await.unwrap();
    let rooms = Rooms {
        store,
        columns: Arc::new(Columns::default()),
        histories: Arc::new(Histories::new(1 << 20)),
        popularity: Arc::new(Popularity::new(14.0)),
        signals: Arc::new(Signals::new(&FeatureSettings::of(Preset::Shop)).unwrap()),
        rulebook: Arc::new(Rulebook::new(&[])),
        showings: Arc::default(),
    };
    Ingest::new(rooms, registry).unwrap()
}

fn at_day(day: i64, ms: i64) -> Timestamp {
    Timestamp::from_millis(day * DAY_MS + ms).unwrap()
}

fn traffic(day: i64, events: i64) -> Vec<Event> {
    let event = |i: i64| {
        json!({"event_id": format!("{day}-{i}"), "type": "click", "user_id": format!("user {}", (day * 7 + i) % 500), "session_id": format!("visit {day} {}", i / 5),
            "item_id": format!("sku-{}", i % 97), "recommendation_id": format!("answer {day} {}", i / 5), "timestamp": at_day(day, i)})
    };
    (0..events).map(|i| serde_json::from_value(event(i)).unwrap()).collect()
}

fn answers(day: i64, count: i64) -> Vec<Exposure> {
    let answer = |i: i64| Exposure {
        recommendation_id: RecommendationId::new(format!("{day:05}-{i:05}")).unwrap(),
        at: at_day(day, i),
        user_id: Some(UserId::new(format!("user {}", i % 500)).unwrap()),
        session_id: None,
        scenario: "home".into(),
        items: (0..10).map(|item| ShownItem::certain(ItemId::new(format!("sku-{item}")).unwrap(), [0.25; Feature::ALL.len()])).collect(),
    };
    (0..count).map(answer).collect()
}

/// A day passes; waits until all of it is written.
async fn live_a_day(ingest: &Ingest, day: i64, events: i64, shown: i64) {
    let store = &ingest.0.rooms.store;
    answers(day, shown).into_iter().for_each(|answer| assert!(store.record_exposure(answer)));
    assert!(ingest.events(traffic(day, events), at_day(day, events)).await.unwrap().iter().all(|outcome| *outcome == EventOutcome::Accepted));
    let last = RecommendationId::new(format!("{day:05}-{:05}", shown - 1)).unwrap();
    while store.exposure(&last).await.unwrap().is_none() {
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
}

fn bytes(folder: &TempDir) -> u64 {
    std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum()
}

#[tokio::test]
async fn a_year_of_traffic_fits_into_what_a_month_of_it_needs() {
    let (folder, registry, settings) = (tempfile::tempdir().unwrap(), Registry::new(), settings(30, 30));
    let ingest = house(&settings, &folder, &registry).await;
    let mut retention = ingest.retention(&settings, Arc::new(Vec::new));
    retention.rests = 0;
    let (events, shown) = (120, 40);

    let mut after_a_month = 0;
    let mut passed = Passed::default();
    for day in 0..365 {
        live_a_day(&ingest, day, events, shown).await;
        passed = retention.pass(at_day(day + 1, 0)).await.unwrap();
        if day == 31 {
            after_a_month = bytes(&folder);
        }
    }

    let store = &ingest.0.rooms.store;
    assert_eq!((passed.events, passed.exposures), (120, 40), "of the last day's pass");
    assert_eq!(store.event_count().await.unwrap(), 30 * 120);
    assert_eq!(store.events_after(0, 1).await.unwrap()[0].at(), at_day(335, 0));
    store.close().await;
    let after_a_year = bytes(&folder);
    // The stated bound: 500 bytes an event and 2,000 an answer (of ten items) of the days that are kept, and what a day adds before it goes.
    let bound = 31 * (120 * 500 + 40 * 2_000);
    assert!(after_a_year <= bound, "{after_a_year} bytes after a year; {after_a_month} after a month; the bound is {bound}");
    let metrics = prometheus::TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
    assert!(metrics.contains(&format!("inkling_store_deleted_total{{what=\"events\",why=\"expired\"}} {}", 335 * 120)), "{metrics}");
}

#[tokio::test]
async fn without_retention_nothing_goes_and_late_events_of_any_order_go_when_they_are_old() {
    let (folder, registry) = (tempfile::tempdir().unwrap(), Registry::new());
    let forever = settings(0, 0);
    let ingest = house(&forever, &folder, &registry).await;
    for day in [40, 3, 39, 1, 2, 38] {
        live_a_day(&ingest, day, 1_200, 3).await;
    }

    assert_eq!(ingest.retention(&forever, Arc::new(Vec::new)).pass(at_day(9_999, 0)).await.unwrap(), Passed::default());

    let passed = ingest.retention(&settings(30, 10), Arc::new(Vec::new)).pass(at_day(41, 0)).await.unwrap();
    assert_eq!((passed.events, passed.exposures), (3 * 1_200, 3 * 3));
    assert_eq!(ingest.0.rooms.store.event_count().await.unwrap(), 3 * 1_200);
    ingest.recover(at_day(41, 0)).await.unwrap();
}

#[tokio::test]
async fn event_ids_are_unique_as_long_as_events_are_kept_and_sequences_go_on() {
    let (folder, settings) = (tempfile::tempdir().unwrap(), settings(30, 30));
    let ingest = house(&settings, &folder, &Registry::new()).await;
    let store = ingest.0.rooms.store.clone();
    ingest.events(traffic(1, 3), at_day(1, 9)).await.unwrap();
    let last = store.events_after(0, 9).await.unwrap()[2].sequence;

    ingest.retention(&settings, Arc::new(Vec::new)).pass(at_day(32, 0)).await.unwrap();
    assert_eq!(store.event_count().await.unwrap(), 0);
    store.close().await;
    drop((ingest, store));
    let ingest = house(&settings, &folder, &Registry::new()).await;

    let again = ingest.0.rooms.store.append_events(traffic(1, 1), at_day(1, 9)).await.unwrap();
    assert!(matches!(again[..], [store::EventOutcome::Accepted(sequence)] if sequence > last), "{again:?} after {last}");
}

#[tokio::test]
async fn marks_of_the_erased_and_names_of_old_sessions_go_in_time() {
    let (folder, settings) = (tempfile::tempdir().unwrap(), settings(30, 10));
    let ingest = house(&settings, &folder, &Registry::new()).await;
    let mut retention = ingest.retention(&settings, Arc::new(Vec::new));
    let (session, user) = (Actor::Session(SessionId::new("s").unwrap()), UserId::new("u").unwrap());
    ingest.merge(session, user.clone(), at_day(1, 0)).await.unwrap();
    ingest.erase(Actor::User(UserId::new("gone").unwrap()), at_day(1, 0)).await.unwrap();

    assert_eq!(retention.pass(at_day(11, 0)).await.unwrap(), Passed::default());
    assert_eq!(retention.pass(at_day(11, 1)).await.unwrap(), Passed { aliases: 1, ..Passed::default() });
    assert!(ingest.0.rooms.store.aliases(&user).await.unwrap().is_empty());
    assert_eq!(retention.pass(at_day(31, 1)).await.unwrap(), Passed { marks: 1, ..Passed::default() });
}

#[tokio::test]
async fn embeddings_that_no_item_has_and_those_of_models_that_are_gone_are_pruned() {
    let (folder, settings) = (tempfile::tempdir().unwrap(), settings(0, 0));
    let ingest = house(&settings, &folder, &Registry::new()).await;
    let store = &ingest.0.rooms.store;
    let item = |title: &str| serde_json::from_value::<Item>(json!({"item_id": "a", "title": title})).unwrap();
    let hash = |title: &str| ContentHash::of(&clean(&item(title).full_text()));
    let vector = || Embedding::new(vec![1.0, 0.0]).unwrap();
    ingest.put_items(vec![item("old  title")]).await.unwrap();
    ingest.put_items(vec![item("new <b>title</b>")]).await.unwrap();
    for version in ["in use", "in an index", "gone"] {
        store.put_embeddings(version, vec![(hash("old  title"), vector()), (hash("new <b>title</b>"), vector())]).await.unwrap();
    }
    store.set_flushed_revision("in an index@replica", Revision(1)).await.unwrap();

    let mut retention = ingest.retention(&settings, Arc::new(|| vec!["in use".to_owned()]));

    let passed = [retention.pass(at_day(1, 0)).await.unwrap(), retention.pass(at_day(2, 0)).await.unwrap()];

    assert_eq!(passed.map(|passed| passed.embeddings), [3, 1], "the old title's, then the rest of the model that is gone");
    for (version, kept) in [("in use", 1), ("in an index", 1), ("gone", 0)] {
        let left = store.embeddings(version, &[hash("old  title"), hash("new <b>title</b>")]).await.unwrap();
        assert_eq!(left.len(), kept, "{version}");
        assert!(kept == 0 || left.contains_key(&hash("new <b>title</b>")));
    }
}

/// While a new collection is filled no row says that it is, so after a crash on the way nothing names the new model any more.
#[tokio::test]
async fn what_a_move_that_crashed_had_encoded_was_deleted_a_minute_after_the_restart() {
    let (folder, settings) = (tempfile::tempdir().unwrap(), settings(0, 0));
    let ingest = house(&settings, &folder, &Registry::new()).await;
    let store = &ingest.0.rooms.store;
    let item: Item = serde_json::from_value(json!({"item_id": "a", "title": "Kettle"})).unwrap();
    let hash = ContentHash::of(&clean(&item.full_text()));
    ingest.put_items(vec![item]).await.unwrap();
    store.put_embeddings("goal", vec![(hash, Embedding::new(vec![1.0, 0.0]).unwrap())]).await.unwrap();
    let goes_on = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let asked_again = Arc::clone(&goes_on);
    let in_use = move || if asked_again.load(std::sync::atomic::Ordering::Relaxed) { vec!["goal".to_owned()] } else { Vec::new() };
    let mut retention = ingest.retention(&settings, Arc::new(in_use));

    let mut left = Vec::new();
    for (day, ms, is_in_use) in [(1, 0, false), (1, 300_000, false), (2, 0, true), (3, 0, false), (3, DAY_MS - 1, false), (4, 0, false)] {
        goes_on.store(is_in_use, std::sync::atomic::Ordering::Relaxed);
        retention.pass(at_day(day, ms)).await.unwrap();
        left.push(store.embeddings("goal", &[hash]).await.unwrap().len());
    }

    assert_eq!(left, [1, 1, 1, 1, 1, 0], "it goes a day after it was last found to be needed by none");
}

#[tokio::test]
async fn while_much_is_deleted_an_acknowledgement_waits_for_one_small_step_only() {
    let (folder, registry, settings) = (tempfile::tempdir().unwrap(), Registry::new(), settings(30, 30));
    let ingest = house(&settings, &folder, &registry).await;
    for day in 0..5 {
        ingest.events(traffic(day, 4_000), at_day(day, 9_000)).await.unwrap();
    }
    let mut retention = ingest.retention(&settings, Arc::new(Vec::new));
    let passing = tokio::spawn(async move { retention.pass(at_day(100, 0)).await.unwrap() });

    let mut acknowledged = 0;
    while !passing.is_finished() {
        let day = 100 + acknowledged;
        assert_eq!(ingest.events(traffic(day, 1), at_day(day, 0)).await.unwrap(), [EventOutcome::Accepted]);
        acknowledged += 1;
    }

    assert_eq!(passing.await.unwrap().events, 20_000);
    assert!(acknowledged >= 40, "{acknowledged} between 40 steps");
}
