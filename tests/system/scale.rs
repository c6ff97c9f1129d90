//! A catalogue as a stream: progress while it is encoded, nothing encoded twice, prices and stock at once.

use std::{
    fmt::Write as _,
    time::{Duration, Instant},
};

use reqwest::Method;
use serde_json::json;

use crate::server::{Client, Server};

const ITEMS: usize = 3_000;
/// 3,000 short texts on two busy cores.
const ENCODING: Duration = Duration::from_secs(400);

/// A value of `/metrics`.
async fn metric(client: &Client, name: &str) -> u64 {
    let text = client.metrics().await;
    let line = text.lines().find(|line| line.starts_with(name) && line[name.len()..].starts_with(' ')).unwrap_or_else(|| panic!("no {name}"));
    line[name.len()..].trim().parse().unwrap()
}

fn catalogue(price: u32) -> String {
    let things = ["kettle", "lamp", "chair", "rope", "tent", "shelf", "basket", "mirror", "clock", "stool"];
    let mut lines = String::new();
    for n in 0..ITEMS {
        writeln!(
            lines,
            "{}",
            json!({"item_id": format!("scale-{n}"), "title": format!("{} {n}", things[n % things.len()]), "price": price, "categories": ["scale"]})
        )
        .unwrap();
    }
    lines
}

/// Items whose text went through the encoder so far; it works for categories and requests as well.
async fn encoded(client: &Client) -> u64 {
    metric(client, "inkling_items_embedded_total").await
}

/// Waits until all is searchable; how often `pending` was seen to fall on the way.
async fn all_searchable(client: &Client) -> usize {
    let (deadline, mut falls, mut last) = (Instant::now() + ENCODING, 0, u64::MAX);
    loop {
        let pending = client.get("/stats").await.good()["items"]["pending"].as_u64().unwrap();
        falls += usize::from(pending < last);
        last = pending;
        if pending == 0 {
            return falls;
        }
        assert!(Instant::now() < deadline, "{pending} are still pending");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_of_items_stream_in_and_only_new_texts_are_encoded() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start_with(folder.path(), &[("INKLING_ENCODER__MODEL", "all-minilm-l6-v2")]).await;
    let client = server.client();

    let answer = client.lines("/items", catalogue(10)).await.good();
    assert_eq!(answer["created"], ITEMS, "{answer}");
    assert_eq!(client.get("/stats").await.good()["items"]["total"], ITEMS);
    let falls = all_searchable(&client).await;
    assert!(falls > 3, "the progress was seen {falls} times");
    let items = encoded(&client).await;
    assert_eq!(items, ITEMS as u64);
    assert_eq!(metric(&client, "inkling_items_pending").await, 0);

    // The same again, then with other prices: nothing to encode.
    assert_eq!(client.lines("/items", catalogue(10)).await.good()["unchanged"], ITEMS);
    assert_eq!(client.lines("/items", catalogue(20)).await.good()["updated"], ITEMS);
    // One at a time; each shows in the next answer.
    let ask = json!({"text": "kettle", "filter": {"categories": "scale"}, "limit": 200, "fields": ["price"]});
    let shown = client.recommend(&ask).await;
    let id = shown["items"][0]["item_id"].as_str().unwrap().to_owned();
    assert_eq!(shown["items"][0]["fields"]["price"], 20.0, "{shown}");
    client.json(Method::PATCH, &format!("/items/{id}"), &json!({"price": 7})).await.good();
    let cheap = json!({"text": "kettle", "filter": {"categories": "scale", "price": {"lt": 10}}, "limit": 200, "fields": ["price"]});
    let shown = client.recommend(&cheap).await;
    assert_eq!((&shown["items"][0]["item_id"], &shown["items"][0]["fields"]["price"]), (&json!(id), &json!(7.0)), "{shown}");
    client.json(Method::PATCH, &format!("/items/{id}"), &json!({"available": false})).await.good();
    assert!(!client.ids(&ask).await.contains(&id));
    all_searchable(&client).await;
    assert_eq!(encoded(&client).await, items);

    client.json(Method::PATCH, &format!("/items/{id}"), &json!({"title": "walnut sideboard", "available": true})).await.good();
    all_searchable(&client).await;
    assert_eq!(encoded(&client).await, items + 1);
    server.stop().await;
}
