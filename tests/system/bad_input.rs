//! Malformed and hostile requests through the real thing: a 4xx problem document that names the place, never a 5xx, and the server lives on.

use std::time::Duration;

use reqwest::{Body, Method, StatusCode};
use serde_json::json;

use crate::{server::Client, shop};

const JSON: &[(&str, &str)] = &[("content-type", "application/json")];

/// Method, path, body, status, pointers.
type Row = (&'static str, &'static str, Vec<u8>, u16, &'static [&'static str]);

fn row(method: &'static str, path: &'static str, body: impl Into<Vec<u8>>, status: u16, pointers: &'static [&'static str]) -> Row {
    (method, path, body.into(), status, pointers)
}

async fn check(client: &Client, rows: Vec<Row>) {
    for (method, path, body, status, pointers) in rows {
        let shown = String::from_utf8_lossy(&body[..body.len().min(100)]).into_owned();
        let reply = client.send(method.parse().unwrap(), path, JSON, body).await;

        assert_eq!(reply.status, status, "{method} {path} {shown}: {}", reply.text());
        assert_eq!(reply.pointers(), pointers, "{method} {path} {shown}: {}", reply.text());
    }
    assert_eq!(client.get("/health/ready").await.status, StatusCode::OK);
}

#[tokio::test]
async fn bodies_that_are_no_json_are_refused() {
    let client = shop::client();
    for path in ["/recommend", "/feedback", "/items"] {
        let rows = vec![
            row("POST", path, "", 400, &[]),
            row("POST", path, "{\"text\": ", 400, &[]),
            row("POST", path, "{\"text\": \"x\"} trailing", 400, &[]),
            row("POST", path, b"{\"text\": \"\xff\xfe\"}".to_vec(), 400, &[]),
            row("POST", path, "[".repeat(100_000), 400, &[]),
            row("POST", path, "{\"a\":".repeat(100_000), 400, &[]),
            row("POST", path, "NaN", 400, &[]),
        ];
        check(&client, rows).await;
    }
}

#[tokio::test]
async fn wrong_fields_are_named() {
    let long = json!({"text": "x".repeat(20_001)}).to_string();
    let rows = vec![
        row("POST", "/recommend", "[]", 422, &[""]),
        row("POST", "/recommend", "{\"limit\": 0}", 422, &["/limit"]),
        row("POST", "/recommend", "{\"limit\": \"ten\"}", 422, &["/limit"]),
        row("POST", "/recommend", "{\"limit\": 1e999}", 422, &["/limit"]),
        row("POST", "/recommend", "{\"diversity\": 1e999}", 422, &["/diversity"]),
        row("POST", "/recommend", "{\"text\": \"\\ud800\"}", 422, &["/text"]),
        row("POST", "/recommend", "{\"text\": 7}", 422, &["/text"]),
        row("POST", "/recommend", long, 422, &["/text"]),
        row("POST", "/recommend", "{\"txet\": \"x\"}", 422, &["/txet"]),
        row("POST", "/recommend", "{\"user_id\": \"a\\u0000b\"}", 422, &["/user_id"]),
        row("POST", "/recommend", "{\"items\": [\"a\", \"b\\u001f\"]}", 422, &["/items/1"]),
        row("POST", "/recommend", "{\"filter\": {\"colour\": \"red\"}}", 422, &["/filter/colour"]),
        row("POST", "/recommend", "{\"filter\": {\"price\": {\"lte\": \"cheap\"}}}", 422, &["/filter/price/lte"]),
        row("POST", "/recommend", "{\"after\": \"garbage\"}", 422, &["/after"]),
        row("POST", "/recommend", "{\"after\": \"00ff\"}", 422, &["/after"]),
        row("POST", "/feedback", "{\"type\": \"clik\", \"user_id\": \"u\", \"item_id\": \"i\"}", 422, &["/type"]),
        row("POST", "/feedback", "{\"type\": \"dwell\", \"user_id\": \"u\", \"item_id\": \"i\", \"value\": 1e999}", 422, &["/value"]),
        row("POST", "/feedback", "{\"type\": \"click\", \"user_id\": \"u\\n\", \"item_id\": \"i\"}", 422, &["/user_id"]),
        row("PUT", "/items/bad", "{\"title\": \"x\", \"prize\": 1}", 422, &["/prize"]),
        row("PUT", "/items/bad", "{\"title\": \"x\", \"price\": 1e999}", 422, &["/price"]),
        row("PUT", "/items/bad", "{\"title\": \"\\udfff\"}", 422, &["/title"]),
        row("PUT", "/items/a%00b", "{\"title\": \"x\"}", 422, &["/item_id"]),
        row("PUT", "/items/a%ffb", "{\"title\": \"x\"}", 422, &["/item_id"]),
        row("GET", "/items?cursor=garbage", "", 422, &["/cursor"]),
        row("GET", "/items?limit=0", "", 422, &["/limit"]),
    ];
    check(&shop::client(), rows).await;
}

#[tokio::test]
async fn unknown_paths_and_methods_are_told_apart() {
    let rows = vec![
        row("GET", "/nothing", "", 404, &[]),
        row("POST", "/items/a/b/c", "{}", 404, &[]),
        row("GET", "/items/nobody-put-this", "", 404, &[]),
        row("PATCH", "/items/nobody-put-this", "{\"price\": 1}", 404, &[]),
        row("DELETE", "/items/nobody-put-this", "", 404, &[]),
        row("GET", "/recommend", "", 405, &[]),
        row("DELETE", "/feedback", "", 405, &[]),
        row("BREW", "/recommend", "", 405, &[]),
    ];
    check(&shop::client(), rows).await;
}

#[tokio::test]
async fn bodies_above_the_limit_are_refused_with_an_answer_that_can_be_read() {
    let client = shop::client();
    let text = |megabytes: usize| json!({"text": "x".repeat(megabytes << 20)}).to_string();
    let chunked = Body::wrap_stream(futures::stream::iter((0..20).map(|_| Ok::<_, std::io::Error>("x".repeat(1 << 20)))));

    for (path, body) in [("/recommend", Body::from(text(10))), ("/recommend", text(2).into()), ("/feedback", text(20).into()), ("/feedback", chunked)] {
        let reply = client.send(Method::POST, path, JSON, body).await;

        assert_eq!(reply.status, StatusCode::PAYLOAD_TOO_LARGE, "{path}: {}", reply.text());
        assert!(reply.pointers().is_empty());
    }
    assert_eq!(client.get("/health/ready").await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_cursor_of_another_request_is_refused() {
    let client = shop::client();
    let next = client.recommend(&json!({"text": "tent", "limit": 3})).await["next"].as_str().unwrap().to_owned();

    let same = client.json(Method::POST, "/recommend", &json!({"text": "tent", "limit": 3, "after": next})).await;
    let foreign = client.json(Method::POST, "/recommend", &json!({"text": "boots", "limit": 3, "after": next})).await;

    assert_eq!(same.status, StatusCode::OK);
    assert_eq!((foreign.status, foreign.pointers()), (StatusCode::UNPROCESSABLE_ENTITY, vec!["/after".to_owned()]));
}

#[tokio::test]
async fn odd_texts_are_answered() {
    let client = shop::client();
    for text in [
        "",
        " \t\n",
        "\u{0}\u{7}",
        "👍👍🏽",
        "ﷺ".repeat(5_000).as_str(),
        "\u{202e}tent",
        "' OR 1=1 --",
        "<script>alert(1)</script>",
        "a\u{300}".repeat(9_000).as_str(),
    ] {
        let answer = client.recommend(&json!({"text": text, "user_id": "odd", "explain": true})).await;

        assert_eq!(answer["items"].as_array().unwrap().len(), 10, "{answer}");
    }
}

#[tokio::test]
async fn a_client_that_goes_away_in_the_middle_harms_nobody() {
    let client = shop::client();
    let never_ends =
        || Body::wrap_stream(futures::StreamExt::chain(futures::stream::iter([Ok::<_, std::io::Error>("{\"text\": \"te")]), futures::stream::pending()));

    for _ in 0..20 {
        let left = tokio::time::timeout(Duration::from_millis(20), client.try_send(Method::POST, "/recommend", JSON, never_ends())).await;
        assert!(left.is_err());
    }

    assert_eq!(client.ids(&json!({"text": "tent"})).await.len(), 10);
}
