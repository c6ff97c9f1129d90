//! What the store can do beside what the disk and the bare databases can, on SQLite and on Postgres: ratios of one run, printed.
//!
//! `cargo bench --bench store`, or without another build of everything `cargo bench --profile dev --bench store`;
//! `-- calls`, `-- bulk` or `-- items` for a part, `-- bulk 1000000` for as many events. With `TMPDIR` on a RAM disk it shows the cost
//! without the fsync.

use std::{
    io::Write as _,
    time::{Duration, Instant},
};

use futures::{StreamExt, stream};
use inkling::{
    domain::{Event, Item, Timestamp},
    store::{Store, StoreSettings},
    telemetry::Registry,
};
use serde_json::json;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection, Row, SqliteConnection, postgres::PgConnectOptions, sqlite::SqliteConnectOptions};
use tempfile::TempDir;

#[expect(clippy::unwrap_used, reason = "without a server there is nothing to measure")]
#[expect(dead_code, reason = "tests stop it and let it crash")]
#[path = "../support/postgres.rs"]
mod postgres_server;

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

fn main() -> Outcome {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(run())
}

async fn run() -> Outcome {
    let mut arguments = std::env::args().skip(1).filter(|argument| !argument.starts_with('-'));
    let part = arguments.next();
    let events = arguments.next().map_or(Ok(100_000), |count| count.parse())?;
    let wanted = |name: &str| part.as_deref().is_none_or(|part| part == name);
    postgres_server::tell_of_skipped_tests();
    for kind in [Kind::Sqlite, Kind::Postgres] {
        if kind == Kind::Postgres && !cfg!(postgres_server) {
            continue;
        }
        println!("\n{kind:?}");
        if wanted("calls") {
            alone(kind).await?;
            for callers in [2, 8, 64, 256] {
                together(kind, callers, Duration::ZERO).await?;
            }
            together(kind, 64, Duration::from_micros(50)).await?;
        }
        if wanted("bulk") {
            let bare = match kind {
                Kind::Sqlite => bare_inserts(events).await?,
                Kind::Postgres => copy(events).await?,
            };
            let what = if kind == Kind::Sqlite { "bare prepared inserts of 64 rows:" } else { "COPY of all:" };
            println!("{what:<35} {bare:>9.0} events/s");
            for (size, in_flight) in [(500, 1), (4_000, 1), (500, 4), (4_000, 2)] {
                let rate = bulk(kind, size, in_flight, events).await?;
                println!("append_events of {size:>4}, {in_flight} in flight:  {rate:>9.0} events/s = {:.2} of bare", rate / bare);
            }
        }
        if wanted("items") {
            items(kind).await?;
        }
    }
    Ok(())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Sqlite,
    Postgres,
}

/// An empty store.
struct Opened {
    store: Store,
    registry: Registry,
    folder: TempDir,
    url: Option<String>,
}

async fn open(kind: Kind) -> Outcome<Opened> {
    let url = match kind {
        Kind::Sqlite => None,
        Kind::Postgres => Some(postgres_server::database().await),
    };
    let settings = StoreSettings {
        url: url.as_deref().map(str::parse).transpose()?,
        queue: 16_384,
        exposure_queue: 1_024,
        commit_delay_ms: 2.0,
        readers: 2,
        cache_mb: 32,
        retention_days: 0,
        exposure_retention_days: 0,
    };
    let (folder, registry) = (tempfile::tempdir()?, Registry::new());
    Ok(Opened { store: Store::open(folder.path(), &settings, &registry).await?, registry, folder, url })
}

fn event(n: usize) -> Event {
    let event = json!({"event_id": format!("{:016x}", n.wrapping_mul(0x9e37_79b9_7f4a_7c15)), "type": "click", "user_id": format!("user-{}", n * 7919 % 5000),
        "session_id": format!("session-{}", n / 20), "item_id": format!("sku-{}", n * 104_729 % 10_000), "value": 1.0, "timestamp": 1_700_000_000_000_i64 + n as i64});
    serde_json::from_value(event).expect("an event")
}

fn now() -> Timestamp {
    Timestamp::now()
}

fn fsync_time() -> Outcome<Duration> {
    let folder = tempfile::tempdir()?;
    let mut file = std::fs::File::create(folder.path().join("log"))?;
    let mut times = Vec::new();
    for _ in 0..200 {
        file.write_all(&[7; 4096])?;
        let started = Instant::now();
        file.sync_data()?;
        times.push(started.elapsed());
    }
    times.sort();
    Ok(times[times.len() / 2])
}

async fn alone(kind: Kind) -> Outcome {
    let Opened { store, folder: _folder, .. } = open(kind).await?;
    let mut times = Vec::new();
    for n in 0..1_000 {
        let started = Instant::now();
        store.append_events(vec![event(n)], now()).await?;
        times.push(started.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    println!("one caller, one event each:         {:>9.3} ms p50, {:.3} ms p99", times[500], times[990]);
    store.close().await;
    Ok(())
}

/// Callers that come again as soon as they are answered and have done `work` on the processor, as a server does for a request.
async fn together(kind: Kind, callers: usize, work: Duration) -> Outcome {
    let before = fsync_time()?;
    let Opened { store, registry, folder: _folder, url } = open(kind).await?;
    let syncs = wal_syncs(url.as_deref()).await?;
    let started = Instant::now();
    let tasks = (0..callers).map(|caller| {
        let store = store.clone();
        tokio::spawn(async move {
            let mut times = Vec::new();
            let mut n = caller;
            while started.elapsed() < Duration::from_secs(3) {
                let sent = Instant::now();
                while sent.elapsed() < work {
                    std::hint::spin_loop();
                }
                store.append_events(vec![event(n)], now()).await?;
                times.push(sent.elapsed().as_secs_f64() * 1e3);
                n += callers;
            }
            Ok::<_, inkling::store::StoreError>(times)
        })
    });
    let mut times = Vec::new();
    for task in tasks.collect::<Vec<_>>() {
        times.extend(task.await??);
    }
    let seconds = started.elapsed().as_secs_f64();
    times.sort_by(f64::total_cmp);
    let fsync = before.min(fsync_time()?);
    store.close().await;
    // SQLite syncs its log once a commit; Postgres counts its syncs.
    let fsyncs = match (syncs, wal_syncs(url.as_deref()).await?) {
        (Some(before), Some(after)) => after - before,
        _ => counter(&registry, "inkling_store_commits_total"),
    };
    let rate = times.len() as f64 / seconds;
    println!(
        "{callers:>3} callers, one event each, {:>2} µs: {rate:>9.0} events/s, {:.1} events/fsync, {:.3} ms p50, {:.3} ms p99; {:.2} of {callers}/fsync ({:.3} ms)",
        work.as_micros(),
        times.len() as f64 / fsyncs,
        times[times.len() / 2],
        times[times.len() * 99 / 100],
        rate * fsync.as_secs_f64() / callers as f64,
        fsync.as_secs_f64() * 1e3,
    );
    Ok(())
}

/// How often the server of a database has synced its log; a process tells it when it ends.
async fn wal_syncs(url: Option<&str>) -> Outcome<Option<f64>> {
    let Some(url) = url else { return Ok(None) };
    tokio::time::sleep(Duration::from_millis(500)).await;
    let mut connection = url.parse::<PgConnectOptions>()?.connect().await?;
    let row = sqlx::query("SELECT CAST(wal_sync AS DOUBLE PRECISION) FROM pg_stat_wal").fetch_one(&mut connection).await?;
    connection.close().await?;
    Ok(Some(row.try_get(0)?))
}

fn counter(registry: &Registry, name: &str) -> f64 {
    registry.gather().iter().find(|family| family.name() == name).map_or(0.0, |family| family.get_metric()[0].get_counter().get_value())
}

/// Calls of `size` events, so many at a time.
async fn bulk(kind: Kind, size: usize, in_flight: usize, events: usize) -> Outcome<f64> {
    let Opened { store, folder: _folder, .. } = open(kind).await?;
    let chunks: Vec<Vec<Event>> = (0..events).step_by(size).map(|first| (first..events.min(first + size)).map(event).collect()).collect();
    let started = Instant::now();
    let mut calls = stream::iter(chunks).map(|chunk| store.append_events(chunk, now())).buffered(in_flight);
    while let Some(appended) = calls.next().await {
        appended?;
    }
    drop(calls);
    let rate = events as f64 / started.elapsed().as_secs_f64();
    store.close().await;
    Ok(rate)
}

/// The same table and indexes, rows bound straight to a prepared insert of 64 rows, commits of 1,000.
async fn bare_inserts(events: usize) -> Outcome<f64> {
    let Opened { store, folder, .. } = open(Kind::Sqlite).await?;
    store.close().await;
    let mut connection = SqliteConnectOptions::new()
        .filename(folder.path().join("inkling.db"))
        .pragma("synchronous", "FULL")
        .pragma("cache_size", "-32768")
        .disable_statement_logging()
        .connect()
        .await?;
    let started = Instant::now();
    let mut building = Duration::ZERO;
    let mut sequence = 0_i64;
    for first in (0..events).step_by(1_000) {
        let built = Instant::now();
        let chunk: Vec<_> = (first..events.min(first + 1_000)).map(event).collect();
        building += built.elapsed();
        let mut transaction = connection.begin().await?;
        for rows in chunk.chunks(64) {
            insert(&mut transaction, rows, &mut sequence).await?;
        }
        transaction.commit().await?;
    }
    Ok(events as f64 / (started.elapsed() - building).as_secs_f64())
}

/// The same table and indexes, all rows in one `COPY`.
async fn copy(events: usize) -> Outcome<f64> {
    let Opened { store, url, .. } = open(Kind::Postgres).await?;
    store.close().await;
    let mut connection: PgConnection = url.ok_or("no server")?.parse::<PgConnectOptions>()?.connect().await?;
    let text = "COPY events (sequence, event_id, content_hash, kind, user_id, session_id, item_id, value, at) FROM STDIN";
    let lines = |first: usize| {
        let line = |n: usize| {
            let event = event(n);
            let id = |id: Option<&str>| id.unwrap_or("\\N").to_owned();
            format!(
                "{}\t{}\t\\\\x00000000000000000000000000000000\t{}\t{}\t{}\t{}\t1\t{}\n",
                n + 1,
                id(event.event_id.as_ref().map(|id| id.as_str())),
                event.kind.name(),
                id(event.user_id.as_ref().map(|id| id.as_str())),
                id(event.session_id.as_ref().map(|id| id.as_str())),
                id(event.item_id.as_ref().map(|id| id.as_str())),
                event.timestamp.map_or(0, Timestamp::millis),
            )
        };
        (first..events.min(first + 4_000)).map(line).collect::<String>()
    };
    let parts: Vec<String> = (0..events).step_by(4_000).map(lines).collect();
    let started = Instant::now();
    let mut copy = connection.copy_in_raw(text).await?;
    for part in parts {
        copy.send(part.into_bytes()).await?;
    }
    copy.finish().await?;
    Ok(events as f64 / started.elapsed().as_secs_f64())
}

async fn insert(connection: &mut SqliteConnection, rows: &[Event], sequence: &mut i64) -> Outcome {
    let values = vec!["(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"; rows.len()].join(", ");
    let text = "INSERT INTO events (sequence, event_id, content_hash, kind, user_id, session_id, item_id, recommendation_id, value, text, at) VALUES ";
    let mut query = sqlx::query(AssertSqlSafe(format!("{text}{values}")));
    for event in rows {
        *sequence += 1;
        query = query
            .bind(*sequence)
            .bind(event.event_id.as_ref().map(|id| id.as_str()))
            .bind([0_u8; 16].to_vec())
            .bind(event.kind.name())
            .bind(event.user_id.as_ref().map(|id| id.as_str()))
            .bind(event.session_id.as_ref().map(|id| id.as_str()))
            .bind(event.item_id.as_ref().map(|id| id.as_str()))
            .bind(event.recommendation_id.as_ref().map(|id| id.as_str()))
            .bind(event.value)
            .bind(event.text.as_deref())
            .bind(event.timestamp.map(Timestamp::millis));
    }
    query.execute(connection).await?;
    Ok(())
}

async fn items(kind: Kind) -> Outcome {
    let Opened { store, folder: _folder, .. } = open(kind).await?;
    let text = "A light jacket that keeps the rain out on long hikes, packs into its own pocket and dries overnight. ".repeat(5);
    let item = |n: usize| {
        let item = json!({"item_id": format!("sku-{n}"), "title": format!("Jacket {n}"), "text": text, "categories": ["jackets"], "tags": ["new", "rain"],
            "price": n as f64 / 100.0, "attributes": {"colour": "red", "weight": n}});
        serde_json::from_value::<Item>(item).expect("an item")
    };
    let all: Vec<_> = (0..20_000).map(item).collect();
    let started = Instant::now();
    for chunk in all.chunks(500) {
        store.put_items(chunk.to_vec()).await?;
    }
    println!("put_items of 500:                   {:>9.0} items/s", 20_000.0 / started.elapsed().as_secs_f64());
    let started = Instant::now();
    let read = store.items_above(inkling::domain::Revision(0), 20_000).await?.len();
    println!("items_above, all:                   {:>9.0} items/s", read as f64 / started.elapsed().as_secs_f64());
    store.close().await;
    Ok(())
}
