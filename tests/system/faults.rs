//! A database that is away, slow or cut off: requests answer as the contract says, nothing acknowledged is lost, recovery needs no hand.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use futures::future::join_all;
use reqwest::{Method, StatusCode};
use serde_json::{Value as Json, json};

use crate::{
    postgres_server,
    proxy::{Network, Proxy},
    server::{Client, Server, until},
};

async fn serve(folder: &Path, url: &str) -> Server {
    Server::start_with(folder, &[("INKLING_STORE__URL", url)]).await
}

/// An event that is the same whenever it is sent.
pub(crate) fn event(id: &str) -> Json {
    json!({"event_id": id, "type": "click", "user_id": "ann", "item_id": "lamp", "timestamp": "2025-01-01T00:00:00Z"})
}

/// Sends events one after the other, each again and again until it is taken, as a shop with a queue does; their ids.
pub(crate) async fn insist(client: Client, writer: usize, stop: Arc<AtomicBool>) -> Vec<String> {
    let mut taken = Vec::new();
    for n in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let id = format!("{writer}-{n}");
        loop {
            let reply = client.json(Method::POST, "/feedback", &event(&id)).await;
            if reply.status == StatusCode::OK {
                let counts = reply.value();
                assert_eq!(counts["accepted"].as_u64().unwrap() + counts["duplicates"].as_u64().unwrap(), 1, "{counts}");
                break;
            }
            assert_eq!((reply.status, reply.retry_after.as_deref()), (StatusCode::SERVICE_UNAVAILABLE, Some("1")), "{}", reply.text());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        taken.push(id);
    }
    taken
}

pub(crate) async fn assert_each_is_there_once(client: &Client, ids: &[String]) {
    assert_eq!(client.event_total().await, ids.len() as u64);
    for ids in ids.chunks(1_000) {
        let again = client.post("/feedback", &json!(ids.iter().map(|id| event(id)).collect::<Vec<_>>())).await;
        assert_eq!(again, json!({"accepted": 0, "duplicates": ids.len(), "rejected": []}));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[cfg_attr(not(postgres_programs), ignore = "PostgreSQL is not installed (apt install postgresql)")]
async fn while_postgres_is_away_writes_are_refused_answers_go_on_and_recovery_needs_no_hand() {
    let mut postgres = postgres_server::Server::start();
    let folder = tempfile::tempdir().unwrap();
    let server = serve(folder.path(), &postgres.database().await).await;
    let client = server.client();
    client.post("/items", &json!([{"item_id": "lamp", "title": "Oil lamp"}, {"item_id": "rope", "title": "Climbing rope"}])).await;
    client.all_searchable().await;
    let stop = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..4).map(|writer| tokio::spawn(insist(client.clone(), writer, Arc::clone(&stop)))).collect();
    until("some events are in", || async { client.event_total().await > 20 }).await;

    postgres.stop();
    let refused = client.json(Method::POST, "/feedback", &json!({"type": "click", "user_id": "bob", "item_id": "lamp"})).await;
    assert_eq!((refused.status, refused.retry_after.as_deref()), (StatusCode::SERVICE_UNAVAILABLE, Some("1")), "{}", refused.text());
    assert!(refused.pointers().is_empty());
    for n in 0..20 {
        let begun = Instant::now();
        let answer = client.recommend(&json!({"user_id": format!("new-{n}"), "text": "a lamp"})).await;
        assert_eq!((&answer["items"][0]["item_id"], &answer["degraded"]), (&json!("lamp"), &json!(["store"])), "{answer}");
        assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    }
    until("the gauge tells", || async { client.get("/health/ready").await.text().contains("\"store\":\"down\"") }).await;

    postgres.resume();
    until("writes are taken again", || async { client.json(Method::PUT, "/items/late", &json!({"title": "Late bell"})).await.status.is_success() }).await;
    until("answers are whole again", || async { client.recommend(&json!({"user_id": "eve", "text": "a bell"})).await["degraded"] == json!([]) }).await;
    client.all_searchable().await;
    assert_eq!(client.ids(&json!({"text": "late bell", "limit": 1})).await, ["late"]);
    stop.store(true, Ordering::Relaxed);
    let taken: Vec<String> = join_all(writers).await.into_iter().flat_map(Result::unwrap).collect();
    assert_each_is_there_once(&client, &taken).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[cfg_attr(not(postgres_server), ignore = "PostgreSQL is not installed (apt install postgresql)")]
async fn on_a_network_that_delays_cuts_and_loses_answers_every_event_counts_once() {
    let url = postgres_server::database().await;
    let (server_address, database) = url.rsplit_once('/').unwrap();
    let (user, address) = server_address.rsplit_once('@').unwrap();
    let proxy = Proxy::to(address.rsplit_once(':').unwrap().1.parse().unwrap()).await;
    let folder = tempfile::tempdir().unwrap();
    let server = serve(folder.path(), &format!("{user}@127.0.0.1:{}/{database}", proxy.port())).await;
    let client = server.client();
    let stop = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..4).map(|writer| tokio::spawn(insist(client.clone(), writer, Arc::clone(&stop)))).collect();

    for _ in 0..3 {
        let bad = [
            (Network::LosesAnswerTo(b"COMMIT"), 300),
            (Network::Slow(Duration::from_millis(40)), 500),
            (Network::Cut, 400),
            (Network::LosesAnswerTo(b"COMMIT"), 300),
            (Network::Silent, 400),
        ];
        for (network, milliseconds) in bad {
            proxy.be(network);
            tokio::time::sleep(Duration::from_millis(milliseconds)).await;
        }
        proxy.be(Network::Good);
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    stop.store(true, Ordering::Relaxed);
    let taken: Vec<String> = join_all(writers).await.into_iter().flat_map(Result::unwrap).collect();

    until("reads are whole again", || async { client.get("/stats").await.status.is_success() }).await;
    assert!(taken.len() > 30, "{} events", taken.len());
    assert_each_is_there_once(&client, &taken).await;
    server.stop().await;
}
