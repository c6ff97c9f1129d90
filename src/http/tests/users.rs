//! Users and sessions: read, exported, merged, erased.

use super::*;

async fn clicks(world: &World, user: &str, count: usize) {
    let events: Vec<Json> = (0..count).map(|i| json!({"type": "click", "user_id": user, "item_id": format!("sku-{i}"), "timestamp": i})).collect();
    assert_eq!(world.post("/feedback", &json!(events)).await.status, StatusCode::OK);
}

#[tokio::test]
async fn what_is_known_of_a_user_is_told_and_of_nobody_nothing() {
    let world = World::new();
    clicks(&world, "u/4 2", 3).await;

    for uri in ["/users/u%2F4%202", "/users?user_id=u%2F4%202"] {
        let reply = world.get(uri).await;
        assert_eq!(reply.status, StatusCode::OK);
        let expected = json!({"user_id": "u/4 2", "aliases": [], "exposures": 4,
            "events": {"total": 3, "by_type": {"click": 3}, "first_at": "1970-01-01T00:00:00.005Z", "last_at": "1970-01-01T00:00:00.009Z"},
            "languages": [{"language": "en", "share": 1.0}], "liked_categories": [{"category": "tents", "weight": 2.5}], "recent_items": []});
        assert_eq!(reply.json(), expected, "{uri}");
    }
    let nobody = world.get("/users/nobody").await;
    assert_eq!(nobody.status, StatusCode::OK);
    assert_eq!(nobody.json()["events"], json!({"total": 0, "by_type": {}, "first_at": null, "last_at": null}));
}

#[tokio::test]
async fn an_export_is_one_document_of_all_pages() {
    let world = World::new();
    clicks(&world, "u", 1_203).await;
    *world.shop.exposures.lock().unwrap() = 1_000;

    for uri in ["/users/u/export", "/user-export?user_id=u"] {
        let reply = world.get(uri).await;
        assert_eq!((reply.status, reply.header("content-type")), (StatusCode::OK, "application/json"));
        let export = reply.json();
        assert_eq!(export["user_id"], "u");
        assert_eq!(export["aliases"], json!([{"session_id": "s9", "merged_at": "1970-01-01T00:00:00.007Z"}]));
        let items: Vec<_> = export["events"].as_array().unwrap().iter().map(|event| event["item_id"].clone()).collect();
        assert_eq!(items, (0..1_203).map(|i| json!(format!("sku-{i}"))).collect::<Vec<_>>());
        assert_eq!(export["exposures"].as_array().unwrap().len(), 1_000);
        assert_eq!(export["exposures"][999]["recommendation_id"], "r0999");
        assert_eq!(export["exposures"][0]["items"][0]["features"]["semantic"], 0.5);
    }
    let empty = world.get("/users/nobody/export").await.json();
    assert_eq!(empty["events"], json!([]));
    world.shop.become_(Mood::Broken);
    assert_eq!(world.get("/users/u/export").await.status, StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn a_merge_names_one_session_or_one_other_user() {
    let world = World::new();
    world.post("/feedback", &json!([{"type": "click", "session_id": "s9", "item_id": "a"}, {"type": "click", "user_id": "old", "item_id": "b"}])).await;

    let login = world.post("/users/u/merge", &json!({"from_session": "s9"})).await;
    assert_eq!((login.status, login.json()), (StatusCode::OK, json!({"user_id": "u", "events": 1, "exposures": 0})));
    let same = world.post("/user-merge?user_id=u", &json!({"from_user": "old"})).await;
    assert_eq!((same.status, same.json()["events"].clone()), (StatusCode::OK, json!(1)));

    for (body, pointer) in [
        (json!({"from_user": "u"}), "/from_user"),
        (json!({}), "/from_session"),
        (json!({"from_session": "s", "from_user": "v"}), "/from_user"),
        (json!({"from_session": ""}), "/from_session"),
        (json!({"from": "s"}), "/from"),
    ] {
        let reply = world.post("/users/u/merge", &body).await;
        assert_eq!((reply.status, reply.pointers()), (StatusCode::UNPROCESSABLE_ENTITY, vec![pointer.to_owned()]), "{body}");
    }
    assert_eq!(world.post("/user-merge", &json!({"from_session": "s9"})).await.pointers(), ["/user_id"]);
}

#[tokio::test]
async fn an_erasure_answers_with_a_receipt_and_again_with_zeros() {
    let world = World::new();
    clicks(&world, "u", 2).await;
    world.post("/feedback", &json!({"type": "click", "session_id": "s/9", "item_id": "a"})).await;

    for (uri, events) in [("/users/u", 2), ("/users?user_id=u", 0), ("/sessions/s%2F9", 1), ("/sessions?session_id=s%2F9", 0)] {
        let reply = world.ask("DELETE", uri, &[], "").await;
        assert_eq!(reply.status, StatusCode::OK, "{uri}");
        let receipt = reply.json();
        assert_eq!((&receipt["events"], &receipt["exposures"], &receipt["aliases"]), (&json!(events), &json!(0), &json!(0)), "{uri}");
        assert!(Timestamp::parse(receipt["erased_at"].as_str().unwrap()).is_ok());
    }
    assert_eq!(world.ask("DELETE", "/users", &[], "").await.pointers(), ["/user_id"]);
    assert_eq!(world.ask("DELETE", "/sessions/%ff", &[], "").await.pointers(), ["/session_id"]);
    world.shop.become_(Mood::Overloaded);
    assert_eq!(world.ask("DELETE", "/users/u", &[], "").await.status, StatusCode::SERVICE_UNAVAILABLE);
}
