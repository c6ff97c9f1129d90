use std::time::{Duration, Instant};

use super::*;
use crate::store::database::Database;
use futures::FutureExt;

on_both! {
    concurrent_callers_share_commits_and_every_acknowledged_event_is_there_once,
    a_lone_writer_is_not_delayed,
    a_full_queue_refuses_at_once_and_recovers,
    a_caller_that_gives_up_after_queueing_does_not_take_its_write_back,
    what_is_queued_when_the_last_handle_goes_is_written_and_found_again,
    closing_drains_the_queue_and_ends_all_calls,
    a_database_of_a_newer_program_is_refused_and_left_alone,
    a_failed_commit_is_an_error_for_its_callers_only_and_numbers_go_on,
}

async fn concurrent_callers_share_commits_and_every_acknowledged_event_is_there_once(kind: Kind) {
    // Patient, because a busy machine may let callers wait for the processor longer than the default delay.
    let store = Temporary::with(StoreSettings { commit_delay_ms: 50.0, ..fresh(kind).await }).await;

    let callers = (0..64).map(|caller| {
        let store = store.store.clone();
        tokio::spawn(async move {
            for i in 0..20 {
                let outcome = store.append_events(vec![event(json!({"event_id": format!("{caller}-{i}")}))], at(1)).await.unwrap();
                assert!(matches!(outcome[..], [EventOutcome::Accepted(_)]));
            }
        })
    });
    for caller in callers.collect::<Vec<_>>() {
        caller.await.unwrap();
    }

    let commits = store.metrics().commits.get();
    assert!(commits * 16 <= 64 * 20, "{commits} commits");
    assert_eq!(store.metrics().queue_entries.get(), 0);
    let store = store.reopened().await;
    let ids: std::collections::HashSet<_> = store.events_after(0, 10_000).await.unwrap().into_iter().map(|logged| logged.event.event_id.unwrap()).collect();
    assert_eq!((ids.len(), store.event_count().await.unwrap()), (64 * 20, 64 * 20));
}

async fn a_lone_writer_is_not_delayed(kind: Kind) {
    let store = Temporary::with(StoreSettings { commit_delay_ms: 1_000.0, ..fresh(kind).await }).await;

    let started = Instant::now();
    for _ in 0..10 {
        store.append_events(vec![event(json!({}))], at(1)).await.unwrap();
    }

    assert!(started.elapsed() < Duration::from_millis(900), "{:?}", started.elapsed());
    assert_eq!(store.metrics().commits.get(), 10);
}

async fn a_full_queue_refuses_at_once_and_recovers(kind: Kind) {
    let store = Temporary::with(StoreSettings { queue: 3, ..fresh(kind).await }).await;
    let events = |n: usize| store.append_events(vec![event(json!({})); n], at(1));

    // One task polls all of them before the writer gets its turn.
    let (first, second, third) = futures::join!(events(2), events(2), events(1));

    assert!(first.is_ok() && third.is_ok());
    assert!(matches!(second, Err(StoreError::Overloaded)));
    assert_eq!(store.metrics().overloads.get(), 1);
    assert_eq!(events(50).await.unwrap().len(), 50, "a call larger than the queue takes all of it");
    assert_eq!(store.event_count().await.unwrap(), 53);
}

async fn a_caller_that_gives_up_after_queueing_does_not_take_its_write_back(kind: Kind) {
    let store = temporary(kind).await;

    assert!(store.append_events(vec![event(json!({"event_id": "e"}))], at(1)).now_or_never().is_none());

    assert_eq!(store.append_events(vec![event(json!({"event_id": "e"}))], at(2)).await.unwrap(), [EventOutcome::Duplicate]);
}

async fn what_is_queued_when_the_last_handle_goes_is_written_and_found_again(kind: Kind) {
    let Temporary { store, folder, settings } = temporary(kind).await;
    let catalogue = store.catalogue_id().to_owned();
    store.put_items(vec![item("a", json!({}))]).await.unwrap();
    assert!(store.append_events(vec![event(json!({}))], at(1)).now_or_never().is_none());
    drop(store);

    let store = open_with(folder.path(), &settings).await.unwrap();

    assert_eq!(store.catalogue_id(), catalogue);
    assert_eq!(store.event_count().await.unwrap(), 1);
    assert!(store.item(&id("a")).await.unwrap().is_some());
}

async fn closing_drains_the_queue_and_ends_all_calls(kind: Kind) {
    let store = temporary(kind).await;
    assert!(store.append_events(vec![event(json!({}))], at(1)).now_or_never().is_none());

    store.close().await;

    assert!(!store.healthy().await);
    assert!(matches!(store.append_events(vec![event(json!({}))], at(1)).await, Err(StoreError::Closed)));
    assert!(matches!(store.event_count().await, Err(StoreError::Closed)));
    assert_eq!(store.reopened().await.event_count().await.unwrap(), 1);
}

#[tokio::test]
async fn closing_leaves_one_whole_file() {
    let Temporary { store, folder, .. } = temporary(Kind::Sqlite).await;
    store.append_events(vec![event(json!({}))], at(1)).await.unwrap();

    store.close().await;

    let log = folder.path().join("inkling.db-wal");
    assert!(!log.exists() || log.metadata().unwrap().len() == 0);
    let copy = tempfile::tempdir().unwrap();
    std::fs::copy(folder.path().join("inkling.db"), copy.path().join("inkling.db")).unwrap();
    assert_eq!(open(copy.path()).await.unwrap().event_count().await.unwrap(), 1);
}

#[tokio::test]
async fn the_writing_connection_syncs_its_log_at_every_commit() {
    let folder = tempfile::tempdir().unwrap();
    let mut connection = Database::new(folder.path(), &settings()).writer().await.unwrap();

    let synchronous: i64 = query("PRAGMA synchronous").fetch_one(&mut connection).await.unwrap().get(0).unwrap();
    let journal: String = query("PRAGMA journal_mode").fetch_one(&mut connection).await.unwrap().get(0).unwrap();

    assert_eq!((synchronous, journal.as_str()), (2, "wal"));
}

async fn a_database_of_a_newer_program_is_refused_and_left_alone(kind: Kind) {
    let store = temporary(kind).await;
    store.close().await;
    store.meddle("INSERT INTO _sqlx_migrations SELECT 999, 'later', installed_on, success, checksum, 0 FROM _sqlx_migrations LIMIT 1").await;

    let Err(error) = open_with(store.folder.path(), &store.settings).await else { panic!("opened a newer database") };

    assert!(matches!(error, StoreError::Newer { found: 999, .. }), "{error}");
    assert!(error.to_string().contains("newer"));
}

#[tokio::test]
async fn a_file_that_is_no_database_is_an_error_and_so_is_a_folder_in_use() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("inkling.db"), "this is not a database file, it only has its name and some length").unwrap();
    assert!(matches!(open(folder.path()).await, Err(StoreError::Corrupt(_))));

    let store = temporary(Kind::Sqlite).await;
    assert!(matches!(FolderLock::acquire(store.folder.path(), Duration::ZERO).await, Err(StoreError::InUse)));
}

async fn a_failed_commit_is_an_error_for_its_callers_only_and_numbers_go_on(kind: Kind) {
    let store = temporary(kind).await;
    store.put_items(vec![item("a", json!({}))]).await.unwrap();
    store.append_events(vec![event(json!({"event_id": "before"}))], at(1)).await.unwrap();
    store.meddle("ALTER TABLE events RENAME TO hidden").await;

    // One commit: the item must not be there when the event is not.
    let (event_result, item_result) = futures::join!(
        store.append_events(vec![event(json!({"event_id": "failed"}))], at(1)),
        store.put_items(vec![item("b", json!({"attributes": {"x": 1}}))])
    );
    assert!(matches!(event_result, Err(StoreError::Unavailable(_))));
    assert!(matches!(item_result, Err(StoreError::Unavailable(_))));
    assert_eq!(store.metrics().failures.get(), 1);

    store.meddle("ALTER TABLE hidden RENAME TO events").await;
    let outcomes = store.append_events(vec![event(json!({"event_id": "before"})), event(json!({"event_id": "failed"}))], at(1)).await.unwrap();
    let items = store.put_items(vec![item("c", json!({"attributes": {"x": "text"}}))]).await.unwrap();

    assert!(matches!(outcomes[..], [EventOutcome::Duplicate, EventOutcome::Accepted(_)]));
    assert!(matches!(&items[..], [ItemOutcome::Created(stored)] if stored.key.0 == 1 && stored.revision.0 == 2), "{items:?}");
    assert_eq!(store.item(&id("b")).await.unwrap(), None);
}
