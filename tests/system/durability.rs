//! SIGTERM cuts nobody off.

use futures::{StreamExt, future::join_all, stream};
use reqwest::{Body, Method};
use serde_json::{Value as Json, json};
use tokio::sync::watch;

use crate::server::{Server, until};

/// An event that is the same whenever it is sent.
fn event(id: &str) -> Json {
    json!({"event_id": id, "type": "click", "user_id": format!("user-{}", id.len() % 7), "item_id": "durable-1", "timestamp": "2025-01-01T00:00:00Z"})
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
