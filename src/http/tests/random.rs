//! Whatever is sent, nothing panics and nothing is a 5xx.

use proptest::prelude::*;

use super::*;

/// JSON with the names and values that the doors look for, and others.
fn json_like() -> impl Strategy<Value = Json> {
    let name = prop_oneof![
        3 => prop::sample::select(vec!["type", "user_id", "session_id", "item_id", "event_id", "value", "text", "timestamp", "items", "events", "limit", "filter",
            "boosts", "factor", "diversity", "fields", "after", "scenario", "title", "price", "tags", "attributes", "attributes.brand", "vectors", "any_of", "none_of",
            "gte", "categories", "explain", "exclude_items", "when", "boost", "bury", "pin", "exclude", "at_most", "n", "by", "from", "block", "words", "like", "near"]).prop_map(str::to_owned),
        1 => any::<String>(),
    ];
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::from),
        any::<i64>().prop_map(Json::from),
        any::<f64>().prop_map(Json::from),
        (0..300i64).prop_map(Json::from),
        any::<String>().prop_map(Json::from),
        prop::sample::select(vec!["click", "search", "rating", "a", "title", "2026-11-23T12:00:00Z", "attributes.brand", ""]).prop_map(Json::from),
    ];
    leaf.prop_recursive(4, 40, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Json::from),
            prop::collection::btree_map(name.clone(), inner, 0..6).prop_map(|map| json!(map))
        ]
    })
}

const DOORS: [(&str, &str); 9] = [
    ("POST", "/recommend"),
    ("POST", "/feedback"),
    ("POST", "/items"),
    ("PUT", "/items/a"),
    ("PATCH", "/items/sku-1"),
    ("PUT", "/items?item_id=b"),
    ("PATCH", "/items?item_id=sku-1"),
    ("PUT", "/rules/r"),
    ("POST", "/admin/train"),
];

fn no_door_breaks(bodies: &[Vec<u8>]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let world = World::stocked();
        for body in bodies {
            for (method, uri) in DOORS {
                for media in ["application/json", "application/x-ndjson", "text/plain"] {
                    let reply = world.ask(method, uri, &[&format!("content-type: {media}")], body.clone()).await;
                    assert!(!reply.status.is_server_error(), "{method} {uri} {media} {:?}: {}", String::from_utf8_lossy(body), reply.text());
                    if reply.status.is_client_error() {
                        reply.pointers();
                    }
                }
            }
        }
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn random_bytes_break_nothing(bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 1..8)) {
        no_door_breaks(&bodies);
    }

    #[test]
    fn random_json_breaks_nothing(documents in prop::collection::vec(json_like(), 1..8)) {
        let bodies: Vec<_> = documents.iter().map(|json| json.to_string().into_bytes()).collect();
        no_door_breaks(&bodies);
    }

    #[test]
    fn broken_json_breaks_nothing(document in json_like(), cut in any::<prop::sample::Index>(), noise in any::<u8>()) {
        let mut body = document.to_string().into_bytes();
        let at = cut.index(body.len());
        let whole = body.clone();
        body[at] = noise;
        no_door_breaks(&[whole[..at].to_vec(), body]);
    }

    #[test]
    fn random_addresses_break_nothing(path in "[ -~]{0,40}", query in "[ -~]{0,40}") {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        for uri in [format!("/items/{path}"), format!("/items/{path}/similar?{query}"), format!("/items?{query}"), format!("/{path}"), format!("/docs/{path}")] {
            let Ok(uri) = uri.parse::<axum::http::Uri>() else { continue };
            for method in ["GET", "PUT", "DELETE"] {
                let request = Request::builder().method(method).uri(uri.clone()).body(Body::empty()).unwrap();
                let reply = runtime.block_on(World::stocked().send(request));
                assert!(!reply.status.is_server_error(), "{method} {uri}: {}", reply.text());
            }
        }
    }
}
