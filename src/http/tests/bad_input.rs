//! What is malformed, hostile or out of bounds gets a 4xx with a problem document that names the place.

use super::*;

const JSON: &[&str] = &["content-type: application/json"];

/// method, uri, body, status, pointers
type Row = (&'static str, &'static str, String, u16, &'static [&'static str]);

fn row(method: &'static str, uri: &'static str, body: impl Into<String>, status: u16, pointers: &'static [&'static str]) -> Row {
    (method, uri, body.into(), status, pointers)
}

async fn check(world: &World, rows: Vec<Row>) {
    for (method, uri, body, status, pointers) in rows {
        let shown: String = body.chars().take(120).collect();
        let reply = world.ask(method, uri, JSON, body).await;
        assert_eq!(reply.status, status, "{method} {uri} {shown}: {}", reply.text());
        assert_eq!(reply.pointers(), pointers, "{method} {uri} {shown}: {}", reply.text());
        assert!(reply.bytes.len() < 5_000, "{method} {uri} {shown}: {} bytes", reply.bytes.len());
    }
}

#[tokio::test]
async fn bodies_that_are_no_json_are_refused_with_the_position() {
    let world = World::new();
    for uri in ["/recommend", "/understand", "/feedback", "/items"] {
        check(
            &world,
            vec![
                row("POST", uri, "", 400, &[]),
                row("POST", uri, " \n ", 400, &[]),
                row("POST", uri, "{", 400, &[]),
                row("POST", uri, "{\"text\": \"x\",}", 400, &[]),
                row("POST", uri, "{} {}", 400, &[]),
                row("POST", uri, "{\"text\": \"\\ud80\"}", 400, &[]),
                row("POST", uri, "{\"text\": \"a\nb\"}", 400, &[]),
                row("POST", uri, "NaN", 400, &[]),
                row("POST", uri, "'text'", 400, &[]),
            ],
        )
        .await;
    }

    let reply = world.ask("POST", "/recommend", JSON, "{\"limit\": 5,\n \"text\": }").await;
    assert!(reply.json()["detail"].as_str().unwrap().contains("line 2 column 10"), "{}", reply.text());
    let reply = world.ask("POST", "/recommend", JSON, b"{\"text\": \"\xff\"}".to_vec()).await;
    assert_eq!((reply.status, reply.json()["detail"].as_str().unwrap()), (StatusCode::BAD_REQUEST, "is not UTF-8 from byte 10 on"));
}

#[tokio::test]
async fn numbers_and_nesting_beyond_measure_are_refused() {
    let deep = "[".repeat(100_000);
    let deep_value = format!("{{\"filter\": {}1{}}}", "{\"a\":".repeat(100_000), "}".repeat(100_000));
    let closed = format!("{deep}{}", "]".repeat(100_000));
    check(
        &World::new(),
        vec![
            row("POST", "/recommend", "{\"diversity\": 1e999}", 422, &["/diversity"]),
            row("POST", "/feedback", "{\"type\": \"dwell\", \"value\": 1e999}", 422, &["/value"]),
            row("POST", "/recommend", "{\"limit\": 1e999}", 422, &["/limit"]),
            row("POST", "/recommend", "{\"text\": \"\\ud800\"}", 422, &["/text"]),
            row("POST", "/recommend", "{\"filter\": {\"tags\": \"\\udc00\"}}", 422, &["/filter/tags"]),
            row("POST", "/recommend", deep.clone(), 400, &[]),
            row("POST", "/recommend", closed.clone(), 422, &[""]),
            row("POST", "/recommend", deep_value, 422, &["/filter/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a"]),
            row("POST", "/feedback", deep.clone(), 400, &[]),
            row("POST", "/feedback", closed.clone(), 422, &["/0"]),
            row("POST", "/items", deep.clone(), 400, &[]),
            row("POST", "/items", closed.clone(), 422, &["/0"]),
            row("PUT", "/items/a", deep.clone(), 400, &[]),
            row("PUT", "/items/a", closed.clone(), 422, &[""]),
            row("PATCH", "/items/a", deep, 400, &[]),
            row("PATCH", "/items/a", closed, 422, &[""]),
            row("PATCH", "/items/a", "{\"price\": 1e999}", 422, &["/price"]),
        ],
    )
    .await;
}

#[tokio::test]
async fn recommend_names_the_field_that_is_wrong() {
    let text = "é".repeat(20_001);
    let boosts = vec![json!({"filter": {}, "factor": 1}); 21];
    check(
        &World::new(),
        vec![
            row("POST", "/recommend", "[]", 422, &[""]),
            row("POST", "/recommend", "\"x\"", 422, &[""]),
            row("POST", "/recommend", "{\"limit\": 0}", 422, &["/limit"]),
            row("POST", "/recommend", "{\"limit\": 201}", 422, &["/limit"]),
            row("POST", "/recommend", "{\"limit\": -1}", 422, &["/limit"]),
            row("POST", "/recommend", "{\"limit\": 1.5}", 422, &["/limit"]),
            row("POST", "/recommend", "{\"limit\": 99999999999999999999}", 422, &["/limit"]),
            row("POST", "/recommend", "{\"limit\": \"10\"}", 422, &["/limit"]),
            row("POST", "/recommend", "{\"limit\": 5, \"limit\": 6}", 422, &["/limit"]),
            row("POST", "/recommend", "{\"txet\": \"tent\"}", 422, &["/txet"]),
            row("POST", "/recommend", "{\"a/b~c\": 1}", 422, &["/a~1b~0c"]),
            row("POST", "/recommend", json!({"text": text}).to_string(), 422, &["/text"]),
            row("POST", "/recommend", "{\"text\": 5}", 422, &["/text"]),
            row("POST", "/recommend", "{\"user_id\": \"\"}", 422, &["/user_id"]),
            row("POST", "/recommend", "{\"user_id\": \"a\\u0000b\"}", 422, &["/user_id"]),
            row("POST", "/recommend", json!({"session_id": "x".repeat(257)}).to_string(), 422, &["/session_id"]),
            row("POST", "/recommend", "{\"items\": [\"a\", \"\"]}", 422, &["/items/1"]),
            row("POST", "/recommend", json!({"items": vec!["a"; 101]}).to_string(), 422, &["/items"]),
            row("POST", "/recommend", json!({"exclude_items": vec!["a"; 1_001]}).to_string(), 422, &["/exclude_items"]),
            row("POST", "/recommend", "{\"scenario\": \"a b\"}", 422, &["/scenario"]),
            row("POST", "/recommend", json!({"scenario": "x".repeat(65)}).to_string(), 422, &["/scenario"]),
            row("POST", "/recommend", "{\"diversity\": 1.01}", 422, &["/diversity"]),
            row("POST", "/recommend", "{\"diversity\": -0.1}", 422, &["/diversity"]),
            row("POST", "/recommend", "{\"explain\": \"yes\"}", 422, &["/explain"]),
            row("POST", "/recommend", "{\"fields\": [\"title\", \"titel\"]}", 422, &["/fields/1"]),
            row("POST", "/recommend", "{\"after\": \"zz\"}", 422, &["/after"]),
            row("POST", "/recommend", "{\"filter\": {\"colour\": \"red\"}}", 422, &["/filter/colour"]),
            row("POST", "/recommend", "{\"filter\": {\"any_of\": [{\"price\": \"x\"}]}}", 422, &["/filter/any_of/0/price"]),
            row("POST", "/recommend", "{\"filter\": []}", 422, &["/filter"]),
            row("POST", "/recommend", "{\"boosts\": [{\"filter\": {}, \"factr\": 2}]}", 422, &["/boosts/0/factr"]),
            row("POST", "/recommend", "{\"boosts\": [[{}, 2]]}", 422, &["/boosts/0"]),
            row("POST", "/recommend", "{\"boosts\": [{\"filter\": {}}]}", 422, &["/boosts/0/factor"]),
            row("POST", "/recommend", "{\"boosts\": [{\"filter\": {}, \"factor\": 0}]}", 422, &["/boosts/0/factor"]),
            row("POST", "/recommend", "{\"boosts\": [{\"filter\": {\"x\": 1}, \"factor\": 101}]}", 422, &["/boosts/0/filter/x", "/boosts/0/factor"]),
            row("POST", "/recommend", json!({"boosts": boosts}).to_string(), 422, &["/boosts"]),
            row("POST", "/recommend", "{\"limit\": 0, \"diversity\": 7, \"scenario\": \"\"}", 422, &["/scenario", "/limit", "/diversity"]),
        ],
    )
    .await;
}

#[tokio::test]
async fn understand_names_the_field_that_is_wrong() {
    check(
        &World::new(),
        vec![
            row("POST", "/understand", "{}", 422, &["/text"]),
            row("POST", "/understand", "{\"text\": null}", 422, &["/text"]),
            row("POST", "/understand", "{\"text\": [\"tent\"]}", 422, &["/text"]),
            row("POST", "/understand", "{\"text\": \"tent\", \"limit\": 3}", 422, &["/limit"]),
            row("POST", "/understand", json!({"text": "é".repeat(20_001)}).to_string(), 422, &["/text"]),
        ],
    )
    .await;
}

#[tokio::test]
async fn feedback_names_the_entry_and_the_field() {
    let world = World::new();
    check(
        &world,
        vec![
            row("POST", "/feedback", "7", 422, &[""]),
            row("POST", "/feedback", "[[null, \"click\", \"u\", null, \"i\", null, null, null, null]]", 422, &["/0"]),
            row("POST", "/feedback", "{}", 422, &["/type"]),
            row("POST", "/feedback", "{\"type\": \"clik\", \"user_id\": \"u\"}", 422, &["/type"]),
            row("POST", "/feedback", "{\"type\": \"click\"}", 422, &["/user_id", "/item_id"]),
            row("POST", "/feedback", "{\"type\": \"click\", \"itm\": 1}", 422, &["/itm"]),
            row("POST", "/feedback", "[{\"type\": \"click\", \"user_id\": \"u\"}, 7]", 422, &["/1", "/0/item_id"]),
            row("POST", "/feedback", "{\"events\": [{\"type\": \"watch\", \"user_id\": \"u\", \"item_id\": \"i\", \"value\": 40}]}", 422, &["/events/0/value"]),
            row("POST", "/feedback", "{\"events\": 7}", 422, &["/events"]),
            row("POST", "/feedback", "{\"events\": [], \"more\": 1}", 422, &["/more"]),
            row("POST", "/feedback", "{\"events\": [{\"type\": \"click\"}", 400, &[]),
        ],
    )
    .await;
    assert!(world.shop.events.lock().unwrap().is_empty());
}

#[tokio::test]
async fn catalogue_calls_name_what_is_wrong() {
    check(
        &World::stocked(),
        vec![
            row("PUT", "/items/sku-9", "{}", 422, &["/title"]),
            row("PUT", "/items/sku-9", "{\"title\": \"x\", \"item_id\": \"sku-8\"}", 422, &["/item_id"]),
            row("PUT", "/items/sku-9", "{\"title\": \"x\", \"price\": \"cheap\"}", 422, &["/price"]),
            row("PUT", "/items/sku-9", "{\"title\": \"x\", \"prize\": 1}", 422, &["/prize"]),
            row("PUT", "/items?item_id=", "{\"title\": \"x\"}", 422, &["/item_id"]),
            row("PUT", "/items", "{\"title\": \"x\"}", 422, &["/item_id"]),
            row("PUT", "/items/a%0ab", "{\"title\": \"x\"}", 422, &["/item_id"]),
            row("PUT", "/items/a%zz", "{\"title\": \"x\"}", 422, &["/item_id"]),
            row("PUT", "/items/a%ff", "{\"title\": \"x\"}", 422, &["/item_id"]),
            row("PATCH", "/items/sku-1", "[]", 422, &[""]),
            row("PATCH", "/items/sku-1", "{\"item_id\": null}", 422, &["/item_id"]),
            row("PATCH", "/items/sku-1", "{\"price\": \"cheap\"}", 422, &["/price"]),
            row("PATCH", "/items/none", "{\"price\": 1}", 404, &[]),
            row("POST", "/items", "[{\"title\": \"x\"}]", 422, &["/0/item_id"]),
            row("POST", "/items", "{\"items\": [{\"item_id\": \"a\", \"title\": \" \"}]}", 422, &["/items/0/title"]),
            row("GET", "/items/%", "", 422, &["/item_id"]),
            row("GET", "/items/none", "", 404, &[]),
            row("GET", "/items?item_id=none", "", 404, &[]),
            row("GET", "/items?limit=0", "", 422, &["/limit"]),
            row("GET", "/items?limit=201", "", 422, &["/limit"]),
            row("GET", "/items?limit=x", "", 422, &["/limit"]),
            row("GET", "/items?limit=1&limit=2", "", 422, &["/limit"]),
            row("GET", "/items?page=2", "", 422, &["/page"]),
            row("GET", "/items?cursor=zz", "", 422, &["/cursor"]),
            row("GET", "/items?limit=%zz", "", 422, &[""]),
            row("GET", "/items/sku-1?x=1", "", 422, &["/x"]),
            row("GET", "/items/none/similar", "", 404, &[]),
            row("GET", "/items/sku-1/similar?limit=999", "", 422, &["/limit"]),
            row("GET", "/items/sku-1/similar?by=image", "", 422, &["/by"]),
            row("GET", "/items/sku-1/similar?by=", "", 422, &["/by"]),
            row("GET", "/items/sku-1/similar?by=image&by=image", "", 422, &["/by"]),
            row("GET", "/items/none/similar?by=image", "", 404, &[]),
            row("GET", "/similar?item_id=sku-1&by=%00&limit=5", "", 422, &["/by"]),
            row("GET", "/similar?item_id=sku-1&by=%ff", "", 422, &[""]),
            row("GET", "/similar", "", 422, &["/item_id"]),
            row("DELETE", "/items/none", "", 404, &[]),
            row("DELETE", "/items", "", 422, &["/item_id"]),
            row("POST", "/admin/train?wait=maybe", "", 422, &["/wait"]),
            row("GET", "/stats?x=1", "", 422, &["/x"]),
        ],
    )
    .await;
}

#[tokio::test]
async fn unknown_paths_and_wrong_methods_are_told_apart() {
    let world = World::new();
    check(&world, vec![row("GET", "/nothing", "", 404, &[]), row("POST", "/items/a/b/c", "{}", 404, &[]), row("GET", "/docs/nothing.js", "", 404, &[])]).await;

    for (method, uri, allowed) in
        [("GET", "/recommend", "POST"), ("DELETE", "/feedback", "POST"), ("POST", "/stats", "GET,HEAD"), ("POST", "/items/a/similar", "GET,HEAD")]
    {
        let reply = world.ask(method, uri, &[], "").await;
        assert_eq!((reply.status, reply.header("allow")), (StatusCode::METHOD_NOT_ALLOWED, allowed), "{method} {uri}");
        reply.pointers();
    }
    let reply = world.ask("OPTIONS", "/recommend", &[], "").await;
    assert_eq!((reply.status, reply.header("allow")), (StatusCode::NO_CONTENT, "POST"));
}

#[tokio::test]
async fn content_types_that_are_not_understood_are_415() {
    let world = World::new();
    for (uri, header) in [
        ("/recommend", "content-type: application/x-www-form-urlencoded"),
        ("/recommend", "content-type: text/plain"),
        ("/recommend", "content-type: application/x-ndjson"),
        ("/recommend", "content-type: é"),
        ("/recommend", "content-encoding: gzip"),
        ("/items", "content-type: text/plain"),
        ("/feedback", "content-type: multipart/form-data; boundary=x"),
    ] {
        let reply = world.ask("POST", uri, &[header], "{}").await;
        assert_eq!(reply.status, StatusCode::UNSUPPORTED_MEDIA_TYPE, "{uri} {header}");
        reply.pointers();
    }
    for header in ["content-type: application/json; charset=utf-8", "content-type: Application/JSON", "content-type: application/vnd.shop+json"] {
        assert_eq!(world.ask("POST", "/recommend", &[header], "{}").await.status, StatusCode::OK, "{header}");
    }
    assert_eq!(world.ask("POST", "/recommend", &[], "{}").await.status, StatusCode::OK);
}

#[tokio::test]
async fn bodies_above_the_limit_are_413_announced_or_not() {
    let world = World::new();
    let text = json!({"text": "x".repeat(10 << 20)}).to_string();

    for (uri, headers) in [("/recommend", &[][..]), ("/feedback", &[]), ("/items", &[]), ("/recommend", &["content-length: 10485770"])] {
        let reply = world.ask("POST", uri, headers, text.clone()).await;
        assert_eq!(reply.status, StatusCode::PAYLOAD_TOO_LARGE, "{uri}");
        reply.pointers();
    }
    let chunks = futures::stream::iter((0..10).map(|_| Ok::<_, std::io::Error>(Bytes::from("x".repeat(1 << 20)))));
    assert_eq!(world.ask("POST", "/feedback", &[], Body::from_stream(chunks)).await.status, StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn what_a_user_wrote_is_not_in_the_answer_to_a_mistake() {
    let world = World::new();
    for body in [
        "{\"limit\": \"my secret\"}",
        "{\"boosts\": \"my secret\"}",
        "{\"items\": [\"my secret\\n\"]}",
        "{\"text\": [\"my secret\"]}",
        "{\"filter\": \"my secret\"}",
    ] {
        let reply = world.ask("POST", "/recommend", JSON, body).await;
        assert_eq!(reply.status, StatusCode::UNPROCESSABLE_ENTITY);
        assert!(!reply.text().contains("secret"), "{}", reply.text());
    }
}

/// Millions of tiny entries that are all rejected, so that nothing is ever waited for: with the default body limit they held a thread for seconds.
#[tokio::test]
async fn a_list_of_nothing_but_rejected_entries_held_a_thread_past_the_request_timeout() {
    let world = World::with(&HttpSettings { request_timeout_ms: 300, ..settings() });
    let zeros = "0,".repeat(1_900_000);
    for (uri, body) in [("/items", format!("[{zeros}0]")), ("/feedback", format!("{{\"events\": [{zeros}0]}}"))] {
        let (long, short) = (std::pin::pin!(world.ask("POST", uri, JSON, body)), std::pin::pin!(world.get("/health/live")));

        let futures::future::Either::Right((answer, long)) = futures::future::select(long, short).await else {
            panic!("the other request waited for the list")
        };

        assert_eq!(answer.status, StatusCode::OK);
        assert_eq!(long.await.status, StatusCode::SERVICE_UNAVAILABLE, "{uri}");
    }
}

#[tokio::test]
async fn a_stream_of_nothing_but_rejected_or_blank_lines_held_a_thread_to_its_end() {
    let world = World::new();
    for line in ["0\n", "\n"] {
        let body = line.repeat(100 * 256);
        let stream = std::pin::pin!(world.ask("POST", "/items", &["content-type: application/x-ndjson"], body));
        let turns = AtomicUsize::new(0);

        let neighbour = std::pin::pin!(async {
            loop {
                turns.fetch_add(1, Ordering::Relaxed);
                tokio::task::yield_now().await;
            }
        });
        let futures::future::Either::Left(_) = futures::future::select(stream, neighbour).await;

        let turns = turns.load(Ordering::Relaxed);
        assert!(turns >= 100, "somebody else had {turns} turns during {line:?}");
    }
}
