//! Events: counted once, judged one by one.

use serde_json::json;

use crate::shop;

#[tokio::test]
async fn a_retried_event_counts_once_and_a_reused_id_is_rejected() {
    let client = shop::client();
    let event = json!({"event_id": "retry-1", "type": "click", "user_id": "retrier", "item_id": "shop-rain-shell"});
    let mut other = event.clone();
    other["item_id"] = json!("shop-city-mac");

    let first = client.post("/feedback", &event).await;
    let again = client.post("/feedback", &event).await;
    let reused = client.post("/feedback", &json!([event, other])).await;
    let alone = client.json(reqwest::Method::POST, "/feedback", &other).await;

    assert_eq!(first, json!({"accepted": 1, "duplicates": 0, "rejected": []}));
    assert_eq!(again, json!({"accepted": 0, "duplicates": 1, "rejected": []}));
    assert_eq!((&reused["accepted"], &reused["duplicates"], &reused["rejected"][0]["index"]), (&json!(0), &json!(1), &json!(1)), "{reused}");
    assert!(reused["rejected"][0]["detail"].as_str().unwrap().contains("event_id reused"), "{reused}");
    assert_eq!((alone.status.as_u16(), alone.pointers()), (422, vec!["/event_id".to_owned()]));
}

#[tokio::test]
async fn the_same_event_twice_in_one_request_counts_once() {
    let event = json!({"event_id": "twin", "type": "click", "user_id": "twins", "item_id": "shop-rain-shell"});

    let answer = shop::client().post("/feedback", &json!([event, event])).await;

    assert_eq!((&answer["accepted"], &answer["duplicates"]), (&json!(1), &json!(1)));
}

#[tokio::test]
async fn a_broken_line_costs_only_itself() {
    let good = |item: &str| json!({"type": "view", "session_id": "stream", "item_id": item}).to_string();
    let lines = [good("shop-rain-shell"), "{\"type\": \"vie".to_owned(), good("an item that nobody knows yet"), "{\"type\": \"view\"}".to_owned()].join("\n");

    let answer = shop::client().lines("/feedback", lines).await.good();

    assert_eq!(answer["accepted"], 2, "{answer}");
    let rejected: Vec<_> = answer["rejected"].as_array().unwrap().iter().map(|entry| entry["index"].as_u64().unwrap()).collect();
    assert_eq!(rejected, [1, 3]);
}

#[tokio::test]
async fn a_request_without_a_valid_event_is_422_with_the_place_of_each_fault() {
    let client = shop::client();

    let answer =
        client.json(reqwest::Method::POST, "/feedback", &json!([{"type": "clik", "user_id": "u", "item_id": "i"}, {"type": "click", "user_id": "u"}])).await;
    let late =
        client.json(reqwest::Method::POST, "/feedback", &json!({"type": "click", "user_id": "u", "item_id": "i", "timestamp": "2999-01-01T00:00:00Z"})).await;

    assert_eq!((answer.status.as_u16(), answer.pointers()), (422, vec!["/0/type".to_owned(), "/1/item_id".to_owned()]));
    assert_eq!((late.status.as_u16(), late.pointers()), (422, vec!["/timestamp".to_owned()]));
}
