//! What was acknowledged is there after `kill -9`, and SIGTERM cuts nobody off.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use futures::{StreamExt, future::join_all, stream};
use reqwest::{Body, Method, StatusCode};
use serde_json::{Value as Json, json};
use tokio::sync::watch;

use crate::{
    postgres_server,
    server::{Client, Server, until},
};

/// An event that is the same whenever it is sent.
fn event(id: &str) -> Json {
    json!({"event_id": id, "type": "click", "user_id": format!("user-{}", id.len() % 7), "item_id": "durable-1", "timestamp": "2025-01-01T00:00:00Z"})
}

/// A word for each number that no stemmer changes and no other item has.
fn word(number: u32) -> String {
    let syllable = |n: u32| format!("{}{}", ["b", "d", "f", "g", "k", "m", "p", "r", "v", "z"][n as usize % 10], ["a", "o", "u"][(n / 10) as usize % 3]);
    format!("{}{}{}k", syllable(number % 30), syllable(number / 30 % 30), syllable(number / 900 % 30))
}

/// What the writers of a round know.
#[derive(Default)]
struct Written {
    sent: Vec<String>,
    acknowledged: Vec<String>,
    items: Vec<u32>,
}

async fn write_events(client: Client, name: String) -> Written {
    let mut written = Written::default();
    for n in 0.. {
        let ids: Vec<String> = (0..3).map(|i| format!("{name}-{n}-{i}")).collect();
        written.sent.extend(ids.iter().cloned());
        let body = json!(ids.iter().map(|id| event(id)).collect::<Vec<_>>()).to_string();
        let Ok(reply) = client.try_send(Method::POST, "/feedback", &[("content-type", "application/json")], body).await else { break };
        assert_eq!(reply.good()["accepted"], 3);
        written.acknowledged.extend(ids);
    }
    written
}

async fn write_items(client: Client, next: Arc<AtomicU32>) -> Written {
    let mut written = Written::default();
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        let item = json!({"title": format!("{} lamp", word(number))}).to_string();
        let Ok(reply) = client.try_send(Method::PUT, &format!("/items/durable-{number}"), &[("content-type", "application/json")], item).await else { break };
        assert_eq!(reply.status, StatusCode::CREATED);
        written.items.push(number);
        tokio::time::sleep(Duration::from_millis(10)).await; // leaves something to index at each kill, not everything
    }
    written
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_kill_9_exactly_once_on_sqlite() {
    what_was_acknowledged_survives_kill_9_exactly_once(&[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[cfg_attr(not(postgres_server), ignore = "PostgreSQL is not installed (apt install postgresql)")]
async fn what_was_acknowledged_survives_kill_9_exactly_once_on_postgres() {
    what_was_acknowledged_survives_kill_9_exactly_once(&[("INKLING_STORE__URL", &postgres_server::database().await)]).await;
}

/// How often the server is killed: 20 times, or as often as `INKLING_TEST_CRASHES` says.
fn crashes() -> u64 {
    std::env::var("INKLING_TEST_CRASHES").map_or(20, |rounds| rounds.parse().unwrap())
}

async fn what_was_acknowledged_survives_kill_9_exactly_once(settings: &[(&str, &str)]) {
    let folder = tempfile::tempdir().unwrap();
    let next = Arc::new(AtomicU32::new(0));
    let mut all = Written::default();

    for round in 0..crashes() {
        let server = Server::start_with(folder.path(), settings).await;
        let client = server.client();
        let events = (0..3).map(|writer| tokio::spawn(write_events(client.clone(), format!("e{round}-{writer}"))));
        let items = (0..2).map(|_| tokio::spawn(write_items(client.clone(), Arc::clone(&next))));
        let writers: Vec<_> = events.chain(items).collect();
        tokio::time::sleep(Duration::from_millis(250 + 130 * (round % 6))).await; // somewhere in the stream, each time elsewhere
        server.kill();
        for written in join_all(writers).await {
            let written = written.unwrap();
            all.sent.extend(written.sent);
            all.acknowledged.extend(written.acknowledged);
            all.items.extend(written.items);
        }
    }
    let server = Server::start_with(folder.path(), settings).await;
    let client = server.client();

    let total = client.event_total().await;
    assert!(all.acknowledged.len() > 100 && all.items.len() > 20, "{} events, {} items", all.acknowledged.len(), all.items.len());
    assert!((all.acknowledged.len() as u64..=all.sent.len() as u64).contains(&total), "{} <= {total} <= {}", all.acknowledged.len(), all.sent.len());
    for ids in all.acknowledged.chunks(1_000) {
        let again = client.post("/feedback", &json!(ids.iter().map(|id| event(id)).collect::<Vec<_>>())).await;
        assert_eq!(again, json!({"accepted": 0, "duplicates": ids.len(), "rejected": []}));
    }
    assert_eq!(client.event_total().await, total);
    for ids in all.sent.chunks(1_000) {
        client.post("/feedback", &json!(ids.iter().map(|id| event(id)).collect::<Vec<_>>())).await;
    }
    assert_eq!(client.event_total().await, all.sent.iter().collect::<HashSet<_>>().len() as u64);

    client.all_searchable().await;
    for number in &all.items {
        let id = format!("durable-{number}");
        assert_eq!(client.get(&format!("/items/{id}")).await.good()["title"], format!("{} lamp", word(*number)));
        let found = client.ids(&json!({"text": word(*number), "limit": 3})).await;
        assert!(found.contains(&id), "{id} is not found by {}: {found:?}", word(*number));
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_lets_every_request_under_way_finish() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = Server::start(folder.path()).await;
    let client = server.client();
    let (go, gate) = watch::channel(false);
    // The first half of a body now, the second when the server is already shutting down.
    let halves = |first: String, second: String| {
        let mut gate = gate.clone();
        let late = stream::once(async move {
            gate.wait_for(|open| *open).await.unwrap();
            Ok::<_, std::io::Error>(second)
        });
        Body::wrap_stream(stream::iter([Ok(first)]).chain(late.boxed()))
    };
    let mut under_way = Vec::new();
    for n in 0..8 {
        let (client, body) = (client.clone(), halves(format!("{}\n", event(&format!("a{n}"))), event(&format!("b{n}")).to_string()));
        under_way.push(tokio::spawn(async move { client.try_send(Method::POST, "/feedback", &[("content-type", "application/x-ndjson")], body).await }));
    }
    for n in 0..8 {
        let (client, body) = (client.clone(), halves("{\"text\": ".to_owned(), format!("\"a tent for {n}\"}}")));
        under_way.push(tokio::spawn(async move { client.try_send(Method::POST, "/recommend", &[("content-type", "application/json")], body).await }));
    }
    let (putter, body) = (client.clone(), halves("{\"title\": ".to_owned(), "\"late\"}".to_owned()));
    under_way.push(tokio::spawn(async move { putter.try_send(Method::PUT, "/items/late", &[("content-type", "application/json")], body).await }));
    let in_flight = format!("inkling_http_in_flight_requests {}", under_way.len() + 1);
    until("all are under way", || async { client.metrics().await.contains(&in_flight) }).await;

    server.terminate();
    server.logged("shutting down").await;
    go.send(true).unwrap();
    let replies = join_all(under_way).await;
    let (status, log) = server.ended().await;

    for reply in replies {
        let reply = reply.unwrap().unwrap();
        assert!(reply.status.is_success(), "{}: {}", reply.status, reply.text());
    }
    assert_eq!(status.code(), Some(0), "{}", log.join("\n"));
    let client = Server::start(folder.path()).await;
    assert_eq!(client.client().event_total().await, 16);
    assert_eq!(client.client().get("/items/late").await.good()["title"], "late");
}
