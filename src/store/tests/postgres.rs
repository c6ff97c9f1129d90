//! What only Postgres has: other replicas, and a server that comes and goes.

use std::time::{Duration, Instant};

use futures::future::join_all;

use super::{
    proxy::{Network, Proxy},
    *,
};
use crate::{
    domain::LoggedEvent,
    store::database::{Database, Numbers},
};

macro_rules! on_postgres {
    ($module:ident, $server:ident: $($name:ident),* $(,)?) => {
        mod $module {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                #[cfg_attr(not($server), ignore = "PostgreSQL is not installed (apt install postgresql)")]
                async fn $name() { super::$name().await }
            )*
        }
    };
}

on_postgres! {
    on_postgres, postgres_server:
    a_commit_waits_for_the_one_that_began_before_so_that_numbers_become_visible_in_order,
    a_reader_that_follows_the_log_of_two_writers_misses_nothing,
    replicas_agree_on_keys_revisions_and_attribute_types,
    a_writer_that_dies_or_hangs_in_a_transaction_does_not_stop_the_others,
    the_writing_session_is_durable_whatever_the_default,
    a_commit_whose_answer_is_lost_is_not_acknowledged_and_its_retry_counts_once,
    a_slow_network_is_waited_for_and_a_silent_one_ends_in_an_error,
}

on_postgres! {
    on_a_server_of_its_own, postgres_programs:
    every_acknowledged_call_has_synced_the_log_and_survives_kill_9_of_the_server,
    while_the_server_is_away_calls_fail_soon_and_afterwards_succeed_by_themselves,
}

/// Two stores on one database, as two processes would have.
pub(super) async fn replicas() -> (Temporary, Temporary) {
    let settings = fresh(Kind::Postgres).await;
    (Temporary::with(settings.clone()).await, Temporary::with(settings).await)
}

fn named(id: &str) -> crate::domain::Event {
    event(json!({"event_id": id}))
}

async fn log(store: &Store) -> Vec<LoggedEvent> {
    store.events_after(0, 100_000).await.unwrap()
}

async fn a_commit_waits_for_the_one_that_began_before_so_that_numbers_become_visible_in_order() {
    let (one, other) = replicas().await;
    let mut first = Database::new(one.folder.path(), &one.settings).writer().await.unwrap();
    let mut numbers = Numbers { key: 0, revision: 0, sequence: 0, merge: 1, erasure: 1 };
    first.begin(&mut numbers).await.unwrap();
    let insert = query("INSERT INTO events (sequence, event_id, kind, user_id, item_id, at) VALUES ($1, 'first', 'click', 'u', 'i', 1)");
    insert.bind(numbers.sequence).execute(&mut first).await.unwrap();

    let second = tokio::spawn({
        let store = other.store.clone();
        async move { store.append_events(vec![named("second")], at(1)).await.unwrap() }
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!second.is_finished());
    assert!(log(&other).await.is_empty());
    first.commit(&numbers, &Numbers { sequence: numbers.sequence + 1, ..numbers }).await.unwrap();

    assert_eq!(second.await.unwrap(), [EventOutcome::Accepted(numbers.sequence + 1)]);
    assert_eq!(log(&one).await.len(), 2);
}

async fn a_reader_that_follows_the_log_of_two_writers_misses_nothing() {
    let (one, other) = replicas().await;
    let writers = [&one, &other].into_iter().enumerate().flat_map(|(replica, temporary)| {
        (0..4).map(move |caller| {
            let store = temporary.store.clone();
            tokio::spawn(async move {
                for i in 0..50 {
                    store.append_events(vec![named(&format!("{replica}-{caller}-{i}"))], at(1)).await.unwrap();
                }
            })
        })
    });
    let writers: Vec<_> = writers.collect();

    let mut seen: Vec<LoggedEvent> = Vec::new();
    let deadline = Instant::now() + Duration::from_secs(60);
    while seen.len() < 400 && Instant::now() < deadline {
        seen.extend(one.events_after(seen.last().map_or(0, |event| event.sequence), 1_000).await.unwrap());
    }

    join_all(writers).await;
    assert_eq!(seen.len(), 400);
    assert_eq!(seen, log(&other).await);
}

async fn replicas_agree_on_keys_revisions_and_attribute_types() {
    let (one, other) = replicas().await;
    let coloured = |id: &str, colour: Json| item(id, json!({"attributes": {"colour": colour}}));

    let first = one.put_items(vec![coloured("a", "red".into())]).await.unwrap();
    let second = other.put_items(vec![coloured("b", 3.into()), coloured("c", "blue".into()), item("a", json!({"price": 1}))]).await.unwrap();
    one.put_items(vec![coloured("d", "green".into()), item("e", json!({"attributes": {"size": 4}}))]).await.unwrap();
    let patched = other.patch_item(&id("e"), json!({"price": 2})).await.unwrap();

    let number = |outcome: &ItemOutcome| match outcome {
        ItemOutcome::Created(stored) | ItemOutcome::Updated(stored) | ItemOutcome::Unchanged(stored) => Some((stored.key.0, stored.revision.0)),
        ItemOutcome::Rejected(_) => None,
    };
    assert_eq!(first.iter().map(number).collect::<Vec<_>>(), [Some((0, 1))]);
    assert_eq!(second.iter().map(number).collect::<Vec<_>>(), [None, Some((1, 2)), Some((0, 3))]);
    assert!(matches!(patched, PatchOutcome::Updated(stored) if (stored.key.0, stored.revision.0) == (3, 6)));
    assert_eq!(one.catalogue_id(), other.catalogue_id());
    assert_eq!(one.items_above(crate::domain::Revision(0), 10).await.unwrap(), other.items_above(crate::domain::Revision(0), 10).await.unwrap());
}

async fn a_writer_that_dies_or_hangs_in_a_transaction_does_not_stop_the_others() {
    let store = temporary(Kind::Postgres).await;
    let database = Database::new(store.folder.path(), &store.settings);
    let mut numbers = Numbers { key: 0, revision: 0, sequence: 0, merge: 1, erasure: 1 };

    let mut dying = database.writer().await.unwrap();
    dying.begin(&mut numbers).await.unwrap();
    drop(dying);
    store.append_events(vec![named("a")], at(1)).await.unwrap();

    let mut hanging = database.writer().await.unwrap();
    hanging.begin(&mut numbers).await.unwrap();
    store.append_events(vec![named("b")], at(1)).await.unwrap();

    assert!(hanging.commit(&numbers, &numbers).await.is_err(), "it lost its transaction: its numbers are another's now");
    assert_eq!(log(&store).await.len(), 2);
}

async fn the_writing_session_is_durable_whatever_the_default() {
    let store = temporary(Kind::Postgres).await;
    for (default, in_force) in [("off", "on"), ("local", "on"), ("remote_apply", "remote_apply")] {
        let statement = match default {
            "off" => "DO $$ BEGIN EXECUTE 'ALTER DATABASE ' || current_database() || ' SET synchronous_commit = off'; END $$",
            "local" => "DO $$ BEGIN EXECUTE 'ALTER DATABASE ' || current_database() || ' SET synchronous_commit = local'; END $$",
            _ => "DO $$ BEGIN EXECUTE 'ALTER DATABASE ' || current_database() || ' SET synchronous_commit = remote_apply'; END $$",
        };
        store.meddle(statement).await;

        let mut writer = Database::new(store.folder.path(), &store.settings).writer().await.unwrap();

        let setting: String = query("SELECT current_setting('synchronous_commit')").fetch_one(&mut writer).await.unwrap().get(0).unwrap();
        assert_eq!(setting, in_force, "{default}");
    }
}

/// How often the server has synced its log; a process tells it when it ends, at the latest.
async fn log_syncs(connection: &mut sqlx::PgConnection) -> i64 {
    let version: i32 = sqlx::query_scalar("SELECT CAST(current_setting('server_version_num') AS INTEGER)").fetch_one(&mut *connection).await.unwrap();
    let text = if version < 180_000 { "SELECT wal_sync FROM pg_stat_wal" } else { "SELECT CAST(sum(fsyncs) AS BIGINT) FROM pg_stat_io WHERE object = 'wal'" };
    sqlx::query_scalar(text).fetch_one(connection).await.unwrap()
}

async fn every_acknowledged_call_has_synced_the_log_and_survives_kill_9_of_the_server() {
    const CALLS: i64 = 50;
    let mut server = postgres_server::Server::start();
    let store = Temporary::with(StoreSettings { url: Some(server.database().await.parse().unwrap()), ..settings() }).await;
    let mut writer = Database::new(store.folder.path(), &store.settings).writer().await.unwrap();
    let text = "SELECT current_setting('fsync'), current_setting('full_page_writes'), current_setting('synchronous_commit')";
    let row = query(text).fetch_one(&mut writer).await.unwrap();
    assert_eq!((0..3).map(|column| row.get::<String>(column).unwrap()).collect::<Vec<_>>(), ["on"; 3]);
    let mut onlooker = store.settings.url.as_ref().unwrap().options().connect().await.unwrap();
    let before = log_syncs(&mut onlooker).await;

    for n in 0..CALLS {
        store.append_events(vec![named(&n.to_string())], at(1)).await.unwrap();
    }
    store.close().await;

    let deadline = Instant::now() + Duration::from_secs(20);
    while log_syncs(&mut onlooker).await - before < CALLS {
        assert!(Instant::now() < deadline, "{} syncs for {CALLS} calls one after the other", log_syncs(&mut onlooker).await - before);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    server.crash();
    server.resume();
    assert_eq!(store.reopened().await.event_count().await.unwrap(), CALLS as u64);
}

async fn recovers(store: &Store, id: &str) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while store.append_events(vec![named(id)], at(1)).await.is_err() || !store.healthy().await {
        assert!(Instant::now() < deadline, "it does not recover");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn while_the_server_is_away_calls_fail_soon_and_afterwards_succeed_by_themselves() {
    let mut server = postgres_server::Server::start();
    let store = Temporary::with(StoreSettings { url: Some(server.database().await.parse().unwrap()), ..settings() }).await;
    store.append_events(vec![named("before")], at(1)).await.unwrap();
    assert_eq!(log(&store).await.len(), 1);

    server.stop();
    let begun = Instant::now();
    assert!(matches!(store.append_events(vec![named("meanwhile")], at(1)).await, Err(StoreError::Unavailable(_))));
    assert!(matches!(store.event_count().await, Err(StoreError::Unavailable(_))));
    assert!(begun.elapsed() < Duration::from_secs(6), "{:?}", begun.elapsed());
    let begun = Instant::now();
    for _ in 0..100 {
        assert!(matches!(store.event_count().await, Err(StoreError::Unavailable(_))));
    }
    assert!(begun.elapsed() < Duration::from_millis(500), "reads do not wait for a server that is known to be away: {:?}", begun.elapsed());
    assert!(!store.healthy().await);

    server.resume();
    recovers(&store, "after").await;

    assert_eq!(store.append_events(vec![named("before")], at(1)).await.unwrap(), [EventOutcome::Duplicate]);
    assert_eq!(log(&store).await.len(), 2);
}

/// A store behind a network of its own.
async fn behind_a_proxy() -> (Temporary, Proxy) {
    let url = postgres_server::database().await;
    let (address, database) = url.rsplit_once('/').unwrap();
    let port = address.rsplit_once(':').unwrap().1.parse().unwrap();
    let proxy = Proxy::to(port).await;
    let user = address.rsplit_once('@').unwrap().0;
    let url = format!("{user}@127.0.0.1:{}/{database}", proxy.port());
    (Temporary::with(StoreSettings { url: Some(url.parse().unwrap()), ..settings() }).await, proxy)
}

async fn a_commit_whose_answer_is_lost_is_not_acknowledged_and_its_retry_counts_once() {
    let (store, proxy) = behind_a_proxy().await;

    proxy.be(Network::LosesAnswerTo(b"COMMIT"));
    let lost = store.append_events(vec![named("e")], at(1)).await;
    let again = store.append_events(vec![named("e")], at(2)).await.unwrap();

    assert!(matches!(lost, Err(StoreError::Unavailable(_))), "{lost:?}");
    assert_eq!(again, [EventOutcome::Duplicate]);
    assert_eq!(log(&store).await.len(), 1);
}

async fn a_slow_network_is_waited_for_and_a_silent_one_ends_in_an_error() {
    let (store, proxy) = behind_a_proxy().await;

    proxy.be(Network::Slow(Duration::from_millis(300)));
    let (written, read) = futures::join!(store.append_events(vec![named("slow")], at(1)), store.event_count());
    assert!(written.is_ok() && read.is_ok(), "{written:?} {read:?}");

    proxy.be(Network::Silent);
    let begun = Instant::now();
    let (written, read) = futures::join!(store.append_events(vec![named("e")], at(1)), store.event_count());

    assert!(matches!(written, Err(StoreError::Unavailable(_))) && matches!(read, Err(StoreError::Unavailable(_))), "{written:?} {read:?}");
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    proxy.be(Network::Good);
    recovers(&store, "e").await;
    assert_eq!(log(&store).await.len(), 2);
}
