//! Clocks that jump: those of callers, whose events come from yesterday and next year, and the server's own.

use std::{fs, path::Path};

use reqwest::{Method, StatusCode};
use serde_json::{Value as Json, json};

use crate::{
    faketime,
    faults::event,
    server::{Client, Server, until},
};

const HOUR: i64 = 3_600_000;

fn now() -> i64 {
    i64::try_from(std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

#[tokio::test]
async fn events_of_a_clock_that_jumps_are_put_where_they_belong_or_rejected_and_every_list_stays_whole() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start_with(folder.path(), &[("INKLING_ENCODER__MODEL", "all-minilm-l6-v2"), ("INKLING_HTTP__DEADLINE_MS", "30000")]).await;
    let client = server.client();
    let items: Vec<Json> = (0..8).map(|n| json!({"item_id": format!("lamp-{n}"), "title": format!("Lamp {n}")})).collect();
    client.post("/items", &json!(items)).await;
    client.all_searchable().await;
    let click = |item: usize, at: Json| json!({"type": "click", "user_id": "ann", "item_id": format!("lamp-{item}"), "timestamp": at});
    let whole = async || {
        for body in [json!({}), json!({"user_id": "ann"}), json!({"user_id": "ann", "text": "a lamp", "explain": true})] {
            let answer = client.recommend(&body).await;
            assert_eq!((answer["items"].as_array().unwrap().len(), &answer["degraded"]), (8, &json!([])), "{answer}");
            let scores: Vec<f64> = answer["items"].as_array().unwrap().iter().map(|item| item["score"].as_f64().unwrap()).collect();
            assert!(scores.is_sorted_by(|a, b| a >= b), "{scores:?}");
        }
    };

    for (item, hours) in [(0, 0), (1, -1), (2, 23), (3, -1), (4, -24 * 365 * 20), (5, 0)] {
        assert_eq!(client.post("/feedback", &click(item, json!(now() + hours * HOUR))).await["accepted"], 1, "{hours} hours");
        whole().await;
    }
    for at in [json!(now() + 25 * HOUR), json!(now() + 24 * 365 * HOUR), json!(i64::MAX), json!(i64::MIN), json!("9999-12-31T23:59:59Z"), json!(1e300)] {
        let refused = client.json(Method::POST, "/feedback", &click(6, at.clone())).await;
        assert!(matches!(refused.status, StatusCode::UNPROCESSABLE_ENTITY | StatusCode::BAD_REQUEST), "{at}: {}", refused.text());
        let mixed = client.post("/feedback", &json!([click(7, json!(now() - HOUR)), click(6, at.clone())])).await;
        assert_eq!((&mixed["accepted"], &mixed["rejected"][0]["pointer"]), (&json!(1), &json!("/timestamp")), "{at}: {mixed}");
    }
    whole().await;
    assert_eq!(client.event_total().await, 12);
    server.stop().await;

    let server = Server::start_with(folder.path(), &[("INKLING_ENCODER__MODEL", "all-minilm-l6-v2"), ("INKLING_HTTP__DEADLINE_MS", "30000")]).await;
    let popular = server.client().recommend(&json!({})).await;
    assert_eq!((popular["items"].as_array().unwrap().len(), &popular["degraded"]), (8, &json!([])));
    server.stop().await;
}

/// Days that the server's clock is off by from now on.
fn set_clock(file: &Path, days: i64) {
    let new = file.with_extension("new");
    fs::write(&new, format!("{days:+}d")).unwrap();
    fs::rename(new, file).unwrap(); // the server reads it at any moment
}

/// As many clicks on a lamp as said, at whatever time the server says it is; each is taken.
async fn click(client: &Client, lamp: usize, count: usize) {
    let clicks: Vec<Json> = (0..count).map(|_| json!({"type": "click", "user_id": "ann", "item_id": format!("lamp-{lamp}")})).collect();
    assert_eq!(client.post("/feedback", &json!(clicks)).await["accepted"], count);
}

/// What of a batch is rejected tells what the server's clock says.
async fn days_off(client: &Client) -> i64 {
    let mut off = -2_000;
    for days in [-1_000, -30, 0, 365] {
        let told = json!({"type": "click", "session_id": "probe", "item_id": "probe", "timestamp": now() + (days * 24 + 12) * HOUR});
        if client.json(Method::POST, "/feedback", &told).await.status == StatusCode::OK {
            off = days;
        }
    }
    off
}

#[tokio::test]
#[cfg_attr(not(faketime), ignore = "faketime is not installed (apt install faketime)")]
async fn when_the_servers_clock_jumps_nothing_is_lost_or_refused_and_lists_recover_when_it_is_set_right() {
    let folder = tempfile::tempdir().unwrap();
    let (clock, data) = (folder.path().join("clock"), folder.path().join("data"));
    set_clock(&clock, 0);
    let library = faketime::library().unwrap();
    let settings = [
        ("LD_PRELOAD", library.to_str().unwrap()),
        ("FAKETIME_TIMESTAMP_FILE", clock.to_str().unwrap()),
        ("FAKETIME_NO_CACHE", "1"),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1"), // no system lets that one jump
        ("INKLING_ENCODER__MODEL", "all-minilm-l6-v2"),
        ("INKLING_HTTP__DEADLINE_MS", "30000"),
        ("INKLING_STORE__RETENTION_DAYS", "90"),
    ];
    let server = Server::start_with(&data, &settings).await;
    let client = server.client();
    let items: Vec<Json> = (0..8).map(|n| json!({"item_id": format!("lamp-{n}"), "title": format!("Lamp {n}")})).collect();
    client.post("/items", &json!(items)).await;
    client.all_searchable().await;
    let best = async |client: &Client, body: Json| {
        let answer = client.recommend(&body).await;
        assert_eq!((answer["items"].as_array().unwrap().len(), &answer["degraded"]), (8, &json!([])), "{answer}");
        answer["items"][0]["item_id"].as_str().unwrap().to_owned()
    };

    click(&client, 1, 20).await;
    assert_eq!(best(&client, json!({})).await, "lamp-1");
    for (round, days) in [365, -30].into_iter().enumerate() {
        set_clock(&clock, days);
        until("the clock has jumped", || async { days_off(&client).await == days }).await;
        click(&client, 2, 30).await;
        let kept = client.post("/feedback", &event(&format!("jumped {days}"))).await;
        assert_eq!(kept["accepted"], 1);
        best(&client, json!({"user_id": "ann", "text": "a lamp", "explain": true})).await;
        client.post("/items", &json!([{"item_id": "lamp-0", "title": format!("Lamp {days}")}])).await;
        client.all_searchable().await;

        set_clock(&clock, 0);
        until("the clock is right again", || async { days_off(&client).await == 0 }).await;
        // More than what was clicked while it was wrong, far less than that would outweigh for a year.
        click(&client, 3 + round, 100).await;
        assert_eq!(best(&client, json!({})).await, format!("lamp-{}", 3 + round), "after {days} days");
        best(&client, json!({"user_id": "ann", "text": "a lamp"})).await;
    }
    let total = client.event_total().await;
    let leaders = async |client: &Client| -> std::collections::BTreeSet<String> { client.ids(&json!({"limit": 2})).await.into_iter().collect() };
    let list = leaders(&client).await;
    server.stop().await;

    let server = Server::start_with(&data, &settings).await;
    let client = server.client();
    assert_eq!(client.event_total().await, total);
    assert_eq!(leaders(&client).await, list);
    let again = client.post("/feedback", &json!([event("jumped 365"), event("jumped -30")])).await;
    assert_eq!(again["duplicates"], 2, "a retry is one whatever the clocks say");
    server.stop().await;
}
