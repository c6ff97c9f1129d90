use std::time::{Duration, Instant};

use futures::FutureExt;
use sqlx::{ConnectOptions, Connection, sqlite::SqliteConnectOptions};

use super::*;

async fn other_connection(folder: &Path) -> sqlx::SqliteConnection {
    SqliteConnectOptions::new().filename(folder.join("inkling.db")).connect().await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_callers_share_commits_and_every_acknowledged_event_is_there_once() {
    let folder = tempfile::tempdir().unwrap();
    // Patient, because a busy machine may let callers wait for the processor longer than the default delay.
    let patient = StoreSettings { commit_delay_ms: 50.0, ..settings() };
    let store = Store::open(folder.path(), &patient, &Registry::new()).await.unwrap();

    let callers = (0..64).map(|caller| {
        let store = store.clone();
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
    store.close().await;
    let store = open(folder.path()).await.unwrap();
    let ids: std::collections::HashSet<_> = store.events_after(0, 10_000).await.unwrap().into_iter().map(|logged| logged.event.event_id.unwrap()).collect();
    assert_eq!((ids.len(), store.event_count().await.unwrap()), (64 * 20, 64 * 20));
}

#[tokio::test]
async fn a_lone_writer_is_not_delayed() {
    let folder = tempfile::tempdir().unwrap();
    let settings = StoreSettings { commit_delay_ms: 1_000.0, ..settings() };
    let store = Store::open(folder.path(), &settings, &Registry::new()).await.unwrap();

    let started = Instant::now();
    for _ in 0..10 {
        store.append_events(vec![event(json!({}))], at(1)).await.unwrap();
    }

    assert!(started.elapsed() < Duration::from_millis(900), "{:?}", started.elapsed());
    assert_eq!(store.metrics().commits.get(), 10);
}

#[tokio::test]
async fn a_full_queue_refuses_at_once_and_recovers() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path(), &StoreSettings { queue: 3, ..settings() }, &Registry::new()).await.unwrap();
    let events = |n: usize| store.append_events(vec![event(json!({})); n], at(1));

    // One task polls all of them before the writer gets its turn.
    let (first, second, third) = futures::join!(events(2), events(2), events(1));

    assert!(first.is_ok() && third.is_ok());
    assert!(matches!(second, Err(StoreError::Overloaded)));
    assert_eq!(store.metrics().overloads.get(), 1);
    assert_eq!(events(50).await.unwrap().len(), 50, "a call larger than the queue takes all of it");
    assert_eq!(store.event_count().await.unwrap(), 53);
}

#[tokio::test]
async fn a_caller_that_gives_up_after_queueing_does_not_take_its_write_back() {
    let store = temporary().await;

    assert!(store.append_events(vec![event(json!({"event_id": "e"}))], at(1)).now_or_never().is_none());

    assert_eq!(store.append_events(vec![event(json!({"event_id": "e"}))], at(2)).await.unwrap(), [EventOutcome::Duplicate]);
}

#[tokio::test]
async fn what_is_queued_when_the_last_handle_goes_is_written_and_found_again() {
    let Temporary { store, folder } = temporary().await;
    let catalogue = store.catalogue_id().to_owned();
    store.put_items(vec![item("a", json!({}))]).await.unwrap();
    assert!(store.append_events(vec![event(json!({}))], at(1)).now_or_never().is_none());
    drop(store);

    let store = open(folder.path()).await.unwrap();

    assert_eq!(store.catalogue_id(), catalogue);
    assert_eq!(store.event_count().await.unwrap(), 1);
    assert!(store.item(&id("a")).await.unwrap().is_some());
}

#[tokio::test]
async fn closing_drains_the_queue_and_leaves_one_whole_file() {
    let Temporary { store, folder } = temporary().await;
    assert!(store.append_events(vec![event(json!({}))], at(1)).now_or_never().is_none());

    store.close().await;

    assert!(!store.healthy().await);
    assert!(matches!(store.append_events(vec![event(json!({}))], at(1)).await, Err(StoreError::Closed)));
    assert!(matches!(store.event_count().await, Err(StoreError::Closed)));
    let log = folder.path().join("inkling.db-wal");
    assert!(!log.exists() || log.metadata().unwrap().len() == 0);
    let copy = tempfile::tempdir().unwrap();
    std::fs::copy(folder.path().join("inkling.db"), copy.path().join("inkling.db")).unwrap();
    assert_eq!(open(copy.path()).await.unwrap().event_count().await.unwrap(), 1);
}

#[tokio::test]
async fn the_writing_connection_syncs_its_log_at_every_commit() {
    let folder = tempfile::tempdir().unwrap();
    let mut connection = connect::writer(folder.path(), &settings()).await.unwrap();

    let synchronous: i64 = sqlx::query_scalar("PRAGMA synchronous").fetch_one(&mut connection).await.unwrap();
    let journal: String = sqlx::query_scalar("PRAGMA journal_mode").fetch_one(&mut connection).await.unwrap();

    assert_eq!((synchronous, journal.as_str()), (2, "wal"));
}

#[tokio::test]
async fn a_database_of_a_newer_program_is_refused_and_left_alone() {
    let Temporary { store, folder } = temporary().await;
    store.close().await;
    let mut other = other_connection(folder.path()).await;
    sqlx::query("INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) VALUES (999, 'later', 1, x'00', 0)")
        .execute(&mut other)
        .await
        .unwrap();
    other.close().await.unwrap();

    let Err(error) = open(folder.path()).await else { panic!("opened a newer database") };

    assert!(matches!(error, StoreError::Newer { found: 999, .. }), "{error}");
    assert!(error.to_string().contains("newer"));
}

#[tokio::test]
async fn a_file_that_is_no_database_is_an_error_and_so_is_a_folder_in_use() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("inkling.db"), "this is not a database file, it only has its name and some length").unwrap();
    assert!(matches!(open(folder.path()).await, Err(StoreError::Corrupt(_))));

    let store = temporary().await;
    assert!(matches!(FolderLock::acquire(store.folder.path(), Duration::ZERO).await, Err(StoreError::InUse)));
}

#[tokio::test]
async fn a_failed_commit_is_an_error_for_its_callers_only_and_numbers_go_on() {
    let store = temporary().await;
    store.put_items(vec![item("a", json!({}))]).await.unwrap();
    store.append_events(vec![event(json!({"event_id": "before"}))], at(1)).await.unwrap();
    let mut other = other_connection(store.folder.path()).await;
    sqlx::query("ALTER TABLE events RENAME TO hidden").execute(&mut other).await.unwrap();

    // One commit: the item must not be there when the event is not.
    let (event_result, item_result) = futures::join!(
        store.append_events(vec![event(json!({"event_id": "failed"}))], at(1)),
        store.put_items(vec![item("b", json!({"attributes": {"x": 1}}))])
    );
    assert!(matches!(event_result, Err(StoreError::Unavailable(_))));
    assert!(matches!(item_result, Err(StoreError::Unavailable(_))));
    assert_eq!(store.metrics().failures.get(), 1);

    sqlx::query("ALTER TABLE hidden RENAME TO events").execute(&mut other).await.unwrap();
    let outcomes = store.append_events(vec![event(json!({"event_id": "before"})), event(json!({"event_id": "failed"}))], at(1)).await.unwrap();
    let items = store.put_items(vec![item("c", json!({"attributes": {"x": "text"}}))]).await.unwrap();

    assert!(matches!(outcomes[..], [EventOutcome::Duplicate, EventOutcome::Accepted(_)]));
    assert!(matches!(&items[..], [ItemOutcome::Created(stored)] if stored.key.0 == 1 && stored.revision.0 == 2), "{items:?}");
    assert_eq!(store.item(&id("b")).await.unwrap(), None);
}
