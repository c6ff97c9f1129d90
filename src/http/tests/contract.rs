//! What API.md promises, door by door.

use super::*;

#[tokio::test]
async fn a_recommendation_has_the_contracts_fields() {
    let world = World::stocked();

    let reply = world
        .post(
            "/recommend",
            &json!({"text": " tent ", "user_id": "u", "scenario": "home", "limit": 1, "explain": true, "fields": ["title", "text", "attributes.brand"]}),
        )
        .await;

    let mut answer = reply.json();
    assert!(answer["took_ms"].take().as_f64().unwrap() >= 0.0);
    let score = answer["items"][0]["score"].take().as_f64().unwrap();
    assert!((score - 0.93).abs() < 1e-6);
    let contributions = answer["items"][0]["explanation"]["contributions"].take();
    assert_eq!(contributions.as_object().unwrap().keys().map(String::as_str).collect::<BTreeSet<_>>(), BTreeSet::from(["boost", "text"]));
    answer["items"][0]["explanation"]["because"][0]["contribution"].take();
    assert_eq!(
        answer,
        json!({"recommendation_id": "r-1", "scenario": "home", "took_ms": null, "next": null, "experiments": {},
            "intent": {"language": "en", "languages": [], "categories": [], "clean_text": "tent", "wanted": "tent", "rejected": [], "truncated": false},
            "items": [{"item_id": "sku-1", "position": 1, "score": null, "probability": 0.25, "sources": ["semantic", "lexical"],
                "fields": {"title": "Tent", "text": "For two.", "attributes": {"brand": "Fjell"}},
                "explanation": {"summary": "Matches “tent”", "contributions": null, "because": [{"item_id": "sku-7", "contribution": null}], "matched": ["tent"]}}],
            "degraded": ["index"]})
    );
}

#[tokio::test]
async fn an_understood_text_has_the_contracts_fields() {
    let mut answer = World::new().post("/understand", &json!({"text": "a tent, not red"})).await.json();

    assert!((answer["categories"][0]["probability"].take().as_f64().unwrap() - 0.71).abs() < 1e-6);
    assert_eq!(
        answer,
        json!({"language": "en", "languages": [{"language": "en", "share": 1.0}], "categories": [{"category": "tents", "probability": null}],
            "clean_text": "a tent, not red", "wanted": "tent", "rejected": ["red"], "truncated": false, "degraded": ["encoder"]})
    );
}

#[tokio::test]
async fn a_request_reaches_the_read_path_with_its_defaults_filled_in() {
    let world = World::stocked();

    let bare = world.post("/recommend", &json!({})).await.json();
    world
        .post(
            "/recommend",
            &json!({"items": ["a"], "exclude_items": ["b"], "exclude_seen": true, "limit": 200, "diversity": 0.3, "filter": {"attributes.brand": "Fjell"},
                "boosts": [{"filter": {"tags": "new"}, "factor": 1.5}], "fields": ["price"], "after": null}),
        )
        .await;

    assert_eq!((&bare["intent"], &bare["scenario"]), (&Json::Null, &json!("default")));
    assert!(bare["items"][0].get("fields").is_none() && bare["items"][0].get("explanation").is_none() && bare["items"][0].get("arranged").is_none());
    let requests = world.shop.requests.lock().unwrap();
    assert_eq!((requests[0].limit, requests[0].exclude_seen, requests[0].explain, requests[0].with_texts), (10, None, false, false));
    assert_eq!((requests[1].limit, requests[1].exclude_seen, requests[1].boosts.len(), requests[1].with_texts), (200, Some(true), 1, false));
    assert!(
        requests[1].filter.is_some() && (requests[1].diversity.unwrap() - 0.3).abs() < 1e-6 && requests[1].deadline > std::time::Instant::now() - patience()
    );
}

#[tokio::test]
async fn a_cursor_of_another_request_is_a_fault_of_after() {
    let cursor = format!("01{}{}07000000", "0".repeat(16), "0".repeat(16));

    assert_eq!(World::new().post("/recommend", &json!({"after": cursor})).await.pointers(), ["/after"]);
}

#[tokio::test]
async fn similar_items_leave_out_the_item_itself_at_both_addresses() {
    let world = World::stocked();
    for uri in ["/items/%E5%95%86%E5%93%81%2F%E4%B8%83%20%C3%BC/similar?limit=5", "/similar?item_id=%E5%95%86%E5%93%81%2F%E4%B8%83+%C3%BC&limit=5"] {
        let answer = world.get(uri).await.json();
        assert_eq!(answer["items"].as_array().unwrap().len(), 1, "{answer}");
        assert_eq!(answer["items"][0]["item_id"], "sku-1");
    }
    let requests = world.shop.requests.lock().unwrap();
    assert_eq!((requests[0].items[0].as_str(), requests[0].limit, requests[0].scenario.as_str()), ("商品/七 ü", 5, "similar"));
}

#[tokio::test]
async fn similar_items_by_an_own_vector_come_nearest_first_at_both_addresses() {
    let world = World::new();
    for (id, vector) in [("a", [1.0, 0.0]), ("b/1", [0.0, 1.0]), ("c", [1.0, 0.2]), ("d", [0.5, 0.5])] {
        world.shop.put(serde_json::from_value(json!({"item_id": id, "title": "x", "vectors": {"im age": vector}})).unwrap());
    }
    world.shop.put(serde_json::from_value(json!({"item_id": "e", "title": "x"})).unwrap());

    for uri in ["/items/b%2F1/similar?by=im%20age&limit=2", "/similar?item_id=b%2F1&by=im+age&limit=2"] {
        let answer = world.get(uri).await.json();

        let ids: Vec<_> = answer["items"].as_array().unwrap().iter().map(|item| item["item_id"].as_str().unwrap()).collect();
        assert_eq!(ids, ["d", "c"], "{answer}");
        assert_eq!((&answer["items"][0]["sources"], &answer["scenario"], &answer["next"]), (&json!(["vectors"]), &json!("similar"), &Json::Null));
        assert!((answer["items"][0]["score"].as_f64().unwrap() - 0.5_f64.sqrt()).abs() < 1e-5);
    }
}

#[tokio::test]
async fn feedback_is_taken_in_every_form() {
    let world = World::new();
    let click = |item: &str| json!({"type": "click", "user_id": "u", "item_id": item});
    let lines = format!("{}\n\n{}\r\n", click("f"), click("g"));
    for (media, body, accepted) in [
        ("application/json", click("a").to_string(), 1),
        ("application/json", json!([click("b"), click("c")]).to_string(), 2),
        ("application/json", json!({ "events": [click("d")] }).to_string(), 1),
        ("application/json", "[]".into(), 0),
        ("application/json", "\u{feff}{ \"events\" : [] }".into(), 0),
        ("text/plain;charset=UTF-8", click("e").to_string(), 1),
        ("application/x-ndjson", lines, 2),
        ("application/x-ndjson", String::new(), 0),
    ] {
        let reply = world.ask("POST", "/feedback", &[&format!("content-type: {media}")], body.clone()).await;
        assert_eq!((reply.status, reply.json()), (StatusCode::OK, json!({"accepted": accepted, "duplicates": 0, "rejected": []})), "{body}");
    }
    let items: Vec<_> = world.shop.events.lock().unwrap().iter().map(|event| event.item_id.clone().unwrap().to_string()).collect();
    assert_eq!(items, ["a", "b", "c", "d", "e", "f", "g"]);
}

#[tokio::test]
async fn each_entry_has_its_own_fate() {
    let world = World::new();
    let body = json!([{"type": "click", "user_id": "u", "item_id": "a", "event_id": "e"}, {"type": "clik"}, {"type": "click", "user_id": "u", "item_id": "a", "event_id": "e"},
        {"type": "click", "user_id": "u"}, {"type": "click"}]);

    let reply = world.post("/feedback", &body).await;

    assert_eq!(reply.status, StatusCode::OK);
    assert_eq!(
        reply.json(),
        json!({"accepted": 1, "duplicates": 1, "rejected": [
            {"index": 1, "pointer": "/type", "detail": "unknown type \"clik\""},
            {"index": 3, "pointer": "/item_id", "detail": "is required for every type but \"search\""},
            {"index": 4, "pointer": "/user_id", "detail": "a user_id or a session_id is required", "more": [
                {"pointer": "/item_id", "detail": "is required for every type but \"search\""}]}]})
    );
}

#[tokio::test]
async fn bad_lines_of_a_stream_cost_only_themselves_and_the_list_of_them_is_bounded() {
    let world = World::new();
    let good = json!({"type": "click", "user_id": "u", "item_id": "a"}).to_string();
    let mut lines = vec![good.clone().into_bytes(), b"{broken".to_vec(), b"\xff".to_vec(), vec![b'x'; (1 << 20) + 1]];
    lines.extend(std::iter::repeat_n(b"7".to_vec(), 1_500));
    lines.extend(std::iter::repeat_n(good.into_bytes(), 1_200));

    let reply = world.ask("POST", "/feedback", &["content-type: application/x-ndjson"], lines.join(&b'\n')).await;

    let answer = reply.json();
    assert_eq!((&answer["accepted"], &answer["rejected_total"]), (&json!(1_201), &json!(1_503)));
    let rejected = answer["rejected"].as_array().unwrap();
    assert_eq!(rejected.len(), 1_000);
    assert_eq!(rejected[..3].iter().map(|entry| entry["index"].as_u64().unwrap()).collect::<Vec<_>>(), [1, 2, 3]);
    assert!(rejected[2]["detail"].as_str().unwrap().contains("longer than"));
    assert_eq!(world.shop.writes.load(Ordering::Relaxed), 3, "1,201 events in chunks of 500");
}

#[tokio::test]
async fn a_stream_without_a_valid_line_is_422_and_stores_nothing() {
    let world = World::new();

    let reply = world.ask("POST", "/feedback", &["content-type: application/x-ndjson"], "{\"type\": \"click\"}\nnonsense\n").await;

    assert_eq!(reply.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(reply.pointers(), ["/1", "/0/user_id", "/0/item_id"]);
    assert!(world.shop.events.lock().unwrap().is_empty());
}

#[tokio::test]
async fn items_are_written_read_patched_paged_and_deleted() {
    let world = World::new();
    let json_type = &["content-type: application/json"];
    let address = "/items/%E5%95%86%2F7%20x";

    let put = |body: Json| world.ask("PUT", address, json_type, body.to_string());
    assert_eq!(put(json!({"title": "Tent"})).await.status, StatusCode::CREATED);
    assert_eq!(put(json!({"title": "Tent", "item_id": "商/7 x"})).await.status, StatusCode::OK);
    assert_eq!(put(json!({"title": "Big tent"})).await.json(), json!({"item_id": "商/7 x", "title": "Big tent", "available": true}));
    let patched = world.ask("PATCH", address, &["content-type: application/merge-patch+json"], "{\"price\": 7, \"item_id\": \"商/7 x\"}").await;
    assert_eq!((patched.status, &patched.json()["price"]), (StatusCode::OK, &json!(7.0)));
    assert_eq!(world.get(address).await.json(), world.get("/items?item_id=%E5%95%86%2F7+x").await.json());
    let many = world.post("/items", &json!([{"item_id": "a", "title": "A"}, {"item_id": "b", "title": "B"}, {"item_id": "c"}])).await;
    assert_eq!(many.json()["accepted"], 2);
    assert_eq!(many.json()["rejected"][0]["pointer"], "/title");
    let lines = world
        .ask("POST", "/items", &["content-type: application/x-ndjson"], "{\"item_id\": \"a\", \"title\": \"A\"}\n{\"item_id\": \"d\", \"title\": \"D\"}")
        .await;
    assert_eq!(lines.json(), json!({"accepted": 2, "created": 1, "updated": 0, "unchanged": 1, "rejected": []}));

    let mut ids = Vec::new();
    let mut page = world.get("/items?limit=2").await.json();
    loop {
        ids.extend(page["items"].as_array().unwrap().iter().map(|item| item["item_id"].as_str().unwrap().to_owned()));
        let Some(next) = page["next"].as_str() else { break };
        page = world.get(&format!("/items?limit=2&cursor={next}")).await.json();
    }
    assert_eq!(ids, ["a", "b", "d", "商/7 x"]);

    assert_eq!(world.ask("DELETE", address, &[], "").await.status, StatusCode::NO_CONTENT);
    assert_eq!(world.ask("DELETE", "/items?item_id=a", &[], "").await.status, StatusCode::NO_CONTENT);
    assert_eq!(world.ask("DELETE", address, &[], "").await.status, StatusCode::NOT_FOUND);
    assert_eq!(world.get("/stats").await.json(), json!({"items": {"total": 2, "pending": 3}, "events": {"total": 0}, "reindex": null}));
}

#[tokio::test]
async fn the_query_twins_write_too() {
    let world = World::new();
    let json_type = &["content-type: application/json"];

    assert_eq!(world.ask("PUT", "/items?item_id=a%2Fb", json_type, "{\"title\": \"x\"}").await.status, StatusCode::CREATED);
    assert_eq!(world.ask("PATCH", "/items?item_id=a%2Fb", json_type, "{\"title\": \"y\"}").await.json()["title"], "y");
}

#[tokio::test]
async fn readiness_is_told_with_the_state_of_the_parts() {
    let world = World::new();

    let before = world.get("/health/ready").await;
    world.become_ready();
    let after = world.get("/health/ready").await;

    assert_eq!((before.status, before.header("retry-after")), (StatusCode::SERVICE_UNAVAILABLE, "1"));
    before.pointers();
    assert_eq!((&before.json()["ready"], &before.json()["phase"], &before.json()["parts"]["encoder"]), (&json!(false), &json!("starting"), &json!("starting")));
    assert_eq!((after.status, &after.json()["parts"]["index"]), (StatusCode::OK, &json!("up")));
    assert_eq!(world.get("/health/live").await.json(), json!({"live": true}));
}

#[tokio::test]
async fn training_answers_with_its_report_or_at_once() {
    let world = World::new();

    assert_eq!(world.post("/admin/train", &json!({})).await.json(), json!({"published": 1}));
    world.shop.become_(Mood::Slow);
    let begun = world.ask("POST", "/admin/train?wait=false", &[], "").await;
    assert_eq!((begun.status, begun.json()), (StatusCode::ACCEPTED, json!({"running": true})));
    assert_eq!(world.get("/admin/train").await.json(), json!({"running": true}));
    world.shop.become_(Mood::Overloaded);
    for uri in ["/admin/train", "/admin/train?wait=false"] {
        assert_eq!(world.ask("POST", uri, &[], "").await.status, StatusCode::CONFLICT);
    }
}

#[tokio::test]
async fn metrics_count_every_answer_by_template_and_never_by_url() {
    let world = World::stocked();
    world.get("/items/sku-1").await;
    world.get("/secret-path").await;
    world.ask("BREW", "/recommend", &[], "").await;
    world.post("/recommend", &json!({"limit": 0})).await;
    world.ask("POST", "/feedback", &[], "x".repeat(5 << 20)).await;

    let text = world.get("/metrics").await.text();

    for line in [
        r#"inkling_http_requests_total{method="GET",route="/items/{item_id}",status="200"} 1"#,
        r#"inkling_http_requests_total{method="GET",route="unmatched",status="404"} 1"#,
        r#"inkling_http_requests_total{method="other",route="/recommend",status="405"} 1"#,
        r#"inkling_http_requests_total{method="POST",route="/recommend",status="422"} 1"#,
        r#"inkling_http_requests_total{method="POST",route="/feedback",status="413"} 1"#,
        r#"inkling_http_request_seconds_count{route="/items/{item_id}"} 1"#,
        "inkling_http_in_flight_requests 1",
        r#"inkling_part_up{part="index"} 0"#,
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
    assert!(!text.contains("secret") && !text.contains("sku-1"));
}

#[tokio::test]
async fn pages_are_self_contained() {
    let world = World::new();

    let playground = world.get("/").await;
    assert!(playground.header("content-type").starts_with("text/html") && playground.header("content-security-policy").contains("default-src 'none'"));
    for page in [playground.text(), world.get("/docs/").await.text()] {
        for outside in ["src=\"http", "href=\"http", "src=\"//", "innerHTML"] {
            assert!(!page.contains(outside), "{outside}");
        }
    }
    assert_eq!((world.get("/docs").await.status, world.get("/docs").await.header("location").to_owned()), (StatusCode::SEE_OTHER, "docs/".into()));
    let script = world.get("/docs/swagger-initializer.js").await.text();
    assert!(script.contains("../openapi.json") && script.contains("\"validatorUrl\": \"none\""), "{script}");
    for file in ["swagger-ui.css", "swagger-ui-bundle.js", "swagger-ui-standalone-preset.js"] {
        assert_eq!(world.get(&format!("/docs/{file}")).await.status, StatusCode::OK, "{file}");
    }
    let head = world.ask("HEAD", "/health/live", &[], "").await;
    assert_eq!((head.status, head.bytes.len()), (StatusCode::OK, 0));
}
