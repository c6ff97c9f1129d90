//! Clocks that jump: those of callers, whose events come from yesterday and next year. Inner rooms are handed the time, so that a jump of the
//! server's own clock is a jump of that argument: `ingest::tests` has it.

use reqwest::{Method, StatusCode};
use serde_json::{Value as Json, json};

use crate::server::Server;

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
