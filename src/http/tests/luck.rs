//! Overload, slow parts, slow senders, broken parts, bugs: told apart, told politely.

use futures::{StreamExt, stream};

use super::*;

const CLICK: &str = "{\"type\": \"click\", \"user_id\": \"u\", \"item_id\": \"a\"}";

fn impatient() -> World {
    World::with(&HttpSettings { request_timeout_ms: 50, max_in_flight: 2, ..settings() })
}

fn refused(reply: &Reply, kind: &str) {
    assert_eq!((reply.status, reply.header("retry-after")), (StatusCode::SERVICE_UNAVAILABLE, "1"), "{}", reply.text());
    reply.pointers();
    assert_eq!(reply.json()["type"], format!("/problems/{kind}"));
    assert!(!reply.text().contains("fire"), "reasons are for the log");
}

#[tokio::test]
async fn a_full_queue_and_a_broken_database_are_503() {
    let world = World::stocked();
    for (mood, kind) in [(Mood::Overloaded, "overloaded"), (Mood::Broken, "unavailable")] {
        world.shop.become_(mood);
        refused(&world.ask("POST", "/feedback", &[], CLICK).await, kind);
        refused(&world.ask("POST", "/feedback", &["content-type: application/x-ndjson"], CLICK).await, kind);
        refused(&world.ask("PUT", "/items/a", &[], "{\"title\": \"A\"}").await, kind);
        refused(&world.ask("PATCH", "/items/a", &[], "{\"title\": \"A\"}").await, kind);
        refused(&world.ask("DELETE", "/items/a", &[], "").await, kind);
    }
    for (mood, kind) in [(Mood::Overloaded, "overloaded"), (Mood::Broken, "unavailable")] {
        world.shop.become_(mood);
        refused(&world.ask("PUT", "/rules/r", &[], "{\"exclude\": {}}").await, kind);
        refused(&world.ask("DELETE", "/rules/r", &[], "").await, kind);
    }
    refused(&world.get("/items/sku-1").await, "unavailable");
    refused(&world.ask("POST", "/admin/train", &[], "").await, "unavailable");
}

#[tokio::test]
async fn a_stream_that_meets_a_full_queue_waits_and_says_how_far_it_came() {
    let world = impatient();
    let shop = Arc::clone(&world.shop);
    let first = stream::iter([Ok::<_, std::io::Error>(Bytes::from(format!("{CLICK}\n").repeat(500)))]);
    let rest = stream::once(async move {
        shop.become_(Mood::Overloaded);
        Ok(Bytes::from(CLICK))
    });

    let reply = world.ask("POST", "/feedback", &["content-type: application/x-ndjson"], Body::from_stream(first.chain(rest))).await;

    refused(&reply, "overloaded");
    assert!(reply.json()["detail"].as_str().unwrap().contains("500 entries of this request were stored"), "{}", reply.text());
}

#[tokio::test]
async fn a_slow_room_is_503_and_a_slow_sender_408() {
    let world = impatient();
    let never = || Body::from_stream(stream::pending::<Result<Bytes, std::io::Error>>());

    for media in ["application/json", "application/x-ndjson"] {
        let reply = world.ask("POST", "/feedback", &[&format!("content-type: {media}")], never()).await;
        assert_eq!(reply.status, StatusCode::REQUEST_TIMEOUT, "{media}");
        reply.pointers();
    }
    world.shop.become_(Mood::Slow);
    refused(&world.ask("POST", "/feedback", &[], CLICK).await, "timed-out");
    refused(&world.post("/recommend", &json!({})).await, "timed-out");
}

#[tokio::test]
async fn past_the_bound_requests_are_refused_at_once_and_monitoring_is_not() {
    let world = World::with(&HttpSettings { max_in_flight: 2, ..settings() });
    world.shop.become_(Mood::Slow);
    let body = json!({});
    let stuck = futures::future::join(world.post("/recommend", &body), world.post("/recommend", &body));
    let mut stuck = std::pin::pin!(stuck);
    assert!(futures::poll!(&mut stuck).is_pending());

    refused(&world.get("/items").await, "overloaded");
    assert_eq!(world.get("/health/live").await.status, StatusCode::OK);
    assert!(world.get("/metrics").await.text().contains("inkling_http_in_flight_requests 3"));

    drop(stuck.await);
    assert_eq!(world.get("/items").await.status, StatusCode::OK, "places are given back");
}

#[tokio::test]
async fn a_body_that_breaks_off_is_the_senders_fault() {
    let broken = stream::iter([Ok(Bytes::from("{\"type\"")), Err(std::io::Error::other("gone"))]);

    let reply = World::new().ask("POST", "/feedback", &[], Body::from_stream(broken)).await;

    assert_eq!(reply.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_panic_is_a_problem_document_and_is_counted() {
    let world = World::new();
    world.shop.become_(Mood::Panicking);

    let reply = world.ask("POST", "/feedback", &[], CLICK).await;

    assert_eq!(reply.status, StatusCode::INTERNAL_SERVER_ERROR);
    reply.pointers();
    assert!(!reply.text().contains("on purpose"));
    assert!(world.get("/metrics").await.text().contains(r#"{method="POST",route="/feedback",status="500"} 1"#));
}

#[tokio::test]
async fn similar_items_need_no_database() {
    let world = World::stocked();
    world.shop.become_(Mood::Broken);

    // The lookup of the item fails; the read path answers all the same.
    assert!(world.get("/items/sku-1/similar").await.json()["items"].is_array());
    assert_eq!(world.get("/items/sku-1/similar?by=image").await.pointers(), ["/by"]);
}
