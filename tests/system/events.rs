//! Types of events: what the settings say of them, and what becomes of a type that is taken out again.

use serde_json::json;

use crate::server::{Server, settings_file};

const WISHES: &str = "[training]\nevery_events = 0\n[features]\npreset = \"music\"\n[features.events.wishlist]\nweight = 0.9\nseen = true\n";

#[tokio::test]
async fn an_own_type_counts_while_it_is_configured_and_its_events_do_not_stop_a_start_without_it() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start_with_file(folder.path(), &settings_file(folder.path(), WISHES)).await;
    let client = server.client();
    client.post("/items", &json!([{"item_id": "a", "title": "Tent"}, {"item_id": "b", "title": "Stove"}, {"item_id": "c", "title": "Lamp"}])).await;
    let wish = |item: &str| json!({"type": "wishlist", "user_id": "u", "item_id": item});

    let unknown = client.json(reqwest::Method::POST, "/feedback", &json!({"type": "wishes", "user_id": "u", "item_id": "a"})).await;
    assert_eq!((unknown.status.as_u16(), unknown.pointers()), (422, vec!["/type".to_owned()]));
    assert_eq!(client.post("/feedback", &json!([wish("b"), wish("b"), {"type": "hide", "user_id": "u", "item_id": "c"}])).await["accepted"], 3);
    assert_eq!(client.ids(&json!({})).await[0], "b");
    assert_eq!(client.ids(&json!({"user_id": "u", "exclude_seen": true})).await, ["a"]);
    assert_eq!(client.ids(&json!({"user_id": "u"})).await, ["b", "a"], "music is heard again, but not what was hidden");
    assert!(client.metrics().await.contains("inkling_events_total{type=\"wishlist\"} 2"));
    server.stop().await;

    let mut server = Server::start(folder.path()).await;
    server.logged("2 events of the type wishlist, which is not configured").await;
    let client = server.client();
    assert_eq!(client.ids(&json!({"user_id": "u"})).await, ["a", "b"], "what says nothing makes nothing popular, and what was hidden stays so");
    assert_eq!(client.json(reqwest::Method::POST, "/feedback", &wish("a")).await.status.as_u16(), 422);
}

#[tokio::test]
async fn a_scenario_has_its_own_popular_list_after_a_restart_too() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path()).await;
    let client = server.client();
    client.post("/items", &json!([{"item_id": "a", "title": "Tent"}, {"item_id": "b", "title": "Stove"}])).await;
    let click = |item: &str, answer: Option<&str>| json!({"type": "click", "session_id": "s", "item_id": item, "recommendation_id": answer});
    let cart = json!({"scenario": "cart"});
    let answer = client.recommend(&cart).await;
    let answer = answer["recommendation_id"].as_str().unwrap();

    client.post("/feedback", &json!(vec![click("a", None); 300])).await;
    client.post("/feedback", &json!(vec![click("b", Some(answer)); 200])).await;

    assert_eq!((client.ids(&cart).await[0].as_str(), client.ids(&json!({})).await[0].as_str()), ("b", "a"));
    server.stop().await;
    let server = Server::start(folder.path()).await;
    let client = server.client();
    assert_eq!((client.ids(&cart).await[0].as_str(), client.ids(&json!({})).await[0].as_str()), ("b", "a"));
}

#[tokio::test]
async fn what_becomes_popular_meanwhile_does_not_move_the_pages_of_a_list() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path()).await;
    let client = server.client();
    let items: Vec<_> = (0..9).map(|n| json!({"item_id": format!("i{n}"), "title": "x"})).collect();
    client.post("/items", &json!(items)).await;
    let click = |item: usize| json!({"type": "click", "session_id": "s", "item_id": format!("i{item}")});
    client.post("/feedback", &json!((0..9).flat_map(|n| vec![click(n); 9 - n]).collect::<Vec<_>>())).await;
    let first = client.recommend(&json!({"limit": 3})).await;

    client.post("/feedback", &json!(vec![click(8); 50])).await;
    let second = client.recommend(&json!({"limit": 3, "after": first["next"]})).await;
    let third = client.ids(&json!({"limit": 3, "after": second["next"]})).await;

    assert_eq!(crate::server::ids(&first), ["i0", "i1", "i2"]);
    assert_eq!(crate::server::ids(&second), ["i3", "i4", "i5"]);
    assert_eq!(third, ["i6", "i7", "i8"]);
    assert_eq!(client.ids(&json!({"limit": 1})).await, ["i8"]);
}
