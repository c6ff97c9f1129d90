//! What the store can do beside what the disk and bare SQLite can: ratios of one run, printed.
//!
//! `cargo bench --bench store`, or without another build of everything `cargo bench --profile dev --bench store`;
//! `-- calls`, `-- bulk` or `-- items` for a part. With `TMPDIR` on a RAM disk it shows the cost without the fsync.

use std::{
    io::Write as _,
    path::Path,
    time::{Duration, Instant},
};

use inkling::{
    domain::{Event, Item, Timestamp},
    store::{Store, StoreSettings},
    telemetry::Registry,
};
use serde_json::json;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, SqliteConnection, sqlite::SqliteConnectOptions};

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

fn main() -> Outcome {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(run())
}

async fn run() -> Outcome {
    let part = std::env::args().nth(1).filter(|part| !part.starts_with('-'));
    let wanted = |name: &str| part.as_deref().is_none_or(|part| part == name);
    if wanted("calls") {
        alone().await?;
        for callers in [2, 8, 64, 256] {
            together(callers, Duration::ZERO).await?;
        }
        together(64, Duration::from_micros(50)).await?;
    }
    if wanted("bulk") {
        let bare = bare_inserts().await?;
        println!("bare prepared inserts of 64 rows:   {bare:>9.0} events/s");
        for size in [1_000, 4_000] {
            let rate = bulk(size).await?;
            println!("append_events of {size}:              {rate:>9.0} events/s = {:.2} of bare", rate / bare);
        }
    }
    if wanted("items") {
        items().await?;
    }
    Ok(())
}

fn settings() -> StoreSettings {
    StoreSettings { url: None, queue: 16_384, exposure_queue: 1_024, commit_delay_ms: 2.0, readers: 2, cache_mb: 32 }
}

async fn open(folder: &Path) -> Outcome<(Store, Registry)> {
    let registry = Registry::new();
    Ok((Store::open(folder, &settings(), &registry).await?, registry))
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

async fn alone() -> Outcome {
    let folder = tempfile::tempdir()?;
    let (store, _) = open(folder.path()).await?;
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
async fn together(callers: usize, work: Duration) -> Outcome {
    let before = fsync_time()?;
    let folder = tempfile::tempdir()?;
    let (store, registry) = open(folder.path()).await?;
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
    let commits = counter(&registry, "inkling_store_commits_total");
    let rate = times.len() as f64 / seconds;
    println!(
        "{callers:>3} callers, one event each, {:>2} µs: {rate:>9.0} events/s, {:.1} events/commit, {:.3} ms p50, {:.3} ms p99; {:.2} of {callers}/fsync ({:.3} ms)",
        work.as_micros(),
        times.len() as f64 / commits,
        times[times.len() / 2],
        times[times.len() * 99 / 100],
        rate * fsync.as_secs_f64() / callers as f64,
        fsync.as_secs_f64() * 1e3,
    );
    store.close().await;
    Ok(())
}

fn counter(registry: &Registry, name: &str) -> f64 {
    registry.gather().iter().find(|family| family.name() == name).map_or(0.0, |family| family.get_metric()[0].get_counter().get_value())
}

const BULK: usize = 100_000;

async fn bulk(size: usize) -> Outcome<f64> {
    let folder = tempfile::tempdir()?;
    let (store, _) = open(folder.path()).await?;
    let events: Vec<_> = (0..BULK).map(event).collect();
    let started = Instant::now();
    for chunk in events.chunks(size) {
        store.append_events(chunk.to_vec(), now()).await?;
    }
    let rate = BULK as f64 / started.elapsed().as_secs_f64();
    store.close().await;
    Ok(rate)
}

/// The same table and indexes, rows bound straight to a prepared insert of 64 rows, commits of 1,000.
async fn bare_inserts() -> Outcome<f64> {
    let folder = tempfile::tempdir()?;
    let (store, _) = open(folder.path()).await?;
    store.close().await;
    let mut connection = SqliteConnectOptions::new()
        .filename(folder.path().join("inkling.db"))
        .pragma("synchronous", "FULL")
        .pragma("cache_size", "-32768")
        .disable_statement_logging()
        .connect()
        .await?;
    let events: Vec<_> = (0..BULK).map(event).collect();
    let started = Instant::now();
    let mut sequence = 0_i64;
    for chunk in events.chunks(1_000) {
        let mut transaction = connection.begin().await?;
        for rows in chunk.chunks(64) {
            insert(&mut transaction, rows, &mut sequence).await?;
        }
        transaction.commit().await?;
    }
    Ok(BULK as f64 / started.elapsed().as_secs_f64())
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

async fn items() -> Outcome {
    let folder = tempfile::tempdir()?;
    let (store, _) = open(folder.path()).await?;
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
