//! Who may use which door, and which pages of other sites may.

use super::{super::hash_key, *};
use crate::http::{KeyHash, router};

fn with_keys() -> World {
    let key = |key: &str| KeyHash::parse(&hash_key(key)).unwrap();
    World::with(&HttpSettings { keys: KeySettings { storefront: vec![key("front"), key("front-2")], admin: vec![key("chief")] }, ..settings() })
}

#[tokio::test]
async fn keys_open_the_doors_they_are_for() {
    let world = with_keys();
    world.become_ready();
    world.shop.put(serde_json::from_value(json!({"item_id": "a", "title": "A"})).unwrap());
    let click = "{\"type\": \"click\", \"user_id\": \"u\", \"item_id\": \"a\"}";
    // without a key, with a storefront key, with an admin key
    for (method, uri, body, expected) in [
        ("GET", "/", "", [200, 200, 200]),
        ("GET", "/docs/", "", [200, 200, 200]),
        ("GET", "/openapi.json", "", [200, 200, 200]),
        ("GET", "/health/live", "", [200, 200, 200]),
        ("GET", "/health/ready", "", [200, 200, 200]),
        ("GET", "/nothing", "", [404, 404, 404]),
        ("POST", "/recommend", "{}", [401, 200, 200]),
        ("POST", "/understand", "{\"text\": \"tent\"}", [401, 200, 200]),
        ("POST", "/feedback", click, [401, 200, 200]),
        ("GET", "/items/a/similar", "", [401, 200, 200]),
        ("GET", "/similar?item_id=a", "", [401, 200, 200]),
        ("GET", "/items/a", "", [401, 403, 200]),
        ("GET", "/items", "", [401, 403, 200]),
        ("POST", "/items", "[]", [401, 403, 200]),
        ("PUT", "/items/b", "{\"title\": \"B\"}", [401, 403, 201]),
        ("PATCH", "/items/a", "{\"price\": 1}", [401, 403, 200]),
        ("DELETE", "/items/b", "", [401, 403, 204]),
        ("GET", "/users/u", "", [401, 403, 200]),
        ("GET", "/users?user_id=u", "", [401, 403, 200]),
        ("GET", "/users/u/export", "", [401, 403, 200]),
        ("POST", "/users/u/merge", "{\"from_session\": \"s\"}", [401, 403, 200]),
        ("DELETE", "/users/u", "", [401, 403, 200]),
        ("DELETE", "/sessions/s", "", [401, 403, 200]),
        ("GET", "/rules", "", [401, 403, 200]),
        ("PUT", "/rules/r", "{\"exclude\": {}}", [401, 403, 201]),
        ("GET", "/rules/r", "", [401, 403, 200]),
        ("DELETE", "/rules/r", "", [401, 403, 204]),
        ("GET", "/stats", "", [401, 403, 200]),
        ("GET", "/metrics", "", [401, 403, 200]),
        ("POST", "/admin/train", "", [401, 403, 200]),
        ("GET", "/admin/train", "", [401, 403, 200]),
        ("POST", "/admin/reindex", "{}", [401, 403, 202]),
        ("GET", "/admin/reindex", "", [401, 403, 200]),
    ] {
        for (header, status) in [&[][..], &["authorization: Bearer front"], &["authorization: Bearer chief"]].into_iter().zip(expected) {
            let reply = world.ask(method, uri, header, body).await;
            assert_eq!(reply.status, status, "{method} {uri} {header:?}: {}", reply.text());
            if status == 401 || status == 403 {
                reply.pointers();
                assert_eq!(reply.header("www-authenticate"), if status == 401 { "Bearer" } else { "" });
            }
        }
    }
}

#[tokio::test]
async fn a_key_is_taken_from_either_header_and_unknown_ones_are_refused() {
    let world = with_keys();
    for (header, status) in [
        ("x-api-key: front-2", 200),
        ("authorization: bearer front", 200),
        ("authorization: Basic front", 401),
        ("authorization: Bearer", 401),
        ("authorization: Bearer frontx", 401),
        ("x-api-key: ", 401),
        ("x-api-key: é", 401),
    ] {
        assert_eq!(world.ask("POST", "/recommend", &[header], "{}").await.status, status, "{header}");
    }
    let hash = hash_key("front");
    assert_eq!(world.ask("POST", "/recommend", &[&format!("x-api-key: {hash}")], "{}").await.status, 401, "the hash is not the key");
}

#[tokio::test]
async fn without_keys_all_is_open_and_metrics_can_be_opened_by_setting() {
    assert_eq!(World::new().get("/stats").await.status, StatusCode::OK);
    let key = KeyHash::parse(&hash_key("chief")).unwrap();
    let open = World::with(&HttpSettings { open_metrics: true, keys: KeySettings { storefront: Vec::new(), admin: vec![key] }, ..settings() });
    assert_eq!((open.get("/metrics").await.status, open.get("/stats").await.status), (StatusCode::OK, StatusCode::UNAUTHORIZED));
}

#[tokio::test]
async fn only_listed_sites_may_call_from_a_browser() {
    let ask = |world: World| async move {
        let preflight = ["origin: https://shop.example", "access-control-request-method: POST", "access-control-request-headers: content-type,x-api-key"];
        let flight = world.ask("OPTIONS", "/recommend", &preflight, "").await;
        let call = world.ask("POST", "/recommend", &["origin: https://shop.example"], "{\"limit\": 0}").await;
        (
            flight.header("access-control-allow-origin").to_owned(),
            call.header("access-control-allow-origin").to_owned(),
            flight.header("access-control-allow-headers").to_owned(),
        )
    };
    let allowing = |origin: &str| World::with(&HttpSettings { cors_origins: vec![origin.into()], ..settings() });

    assert_eq!(ask(World::new()).await, (String::new(), String::new(), String::new()));
    assert_eq!(ask(allowing("https://other.example")).await.0, "");
    let (flight, call, headers) = ask(allowing("https://shop.example")).await;
    assert_eq!((flight.as_str(), call.as_str()), ("https://shop.example", "https://shop.example"), "answers with errors, too");
    assert!(headers.contains("x-api-key"));
    assert_eq!(ask(allowing("*")).await.1, "*");
}

#[test]
fn an_origin_that_is_none_is_named_at_the_start() {
    for bad in ["shop.example", "https://shop.example/", "https://", "a\nb://c"] {
        let Err(error) = super::super::cors(&[bad.to_owned()]) else { panic!("{bad:?} was taken") };
        assert!(error.to_string().contains("http.cors_origins"), "{error}");
    }
    // The public face exists and takes what `app` has; it is called with real rooms in the crate's own tests.
    let _: fn(crate::http::Doors) -> Result<Router, crate::http::HttpError> = router;
}
