//! Rules of merchandisers: put over HTTP they hold from the next answer on, and still after a restart; those of the settings beside them.

use reqwest::{Method, StatusCode};
use serde_json::{Value as Json, json};

use crate::server::{Client, Server, settings_file, until};

async fn put(client: &Client, name: &str, rule: &Json) -> StatusCode {
    client.json(Method::PUT, &format!("/rules/{name}"), rule).await.status
}

/// Ids and what arranging says of them.
async fn arranged(client: &Client, body: &Json) -> Vec<(String, Json)> {
    let answer = client.recommend(body).await;
    answer["items"].as_array().unwrap().iter().map(|item| (item["item_id"].as_str().unwrap().to_owned(), item["arranged"].clone())).collect()
}

#[tokio::test]
async fn a_rule_put_over_http_changes_the_next_answer_and_survives_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let file = settings_file(
        folder.path(),
        "[[rules]]\nname = \"no-adult\"\nexclude = { tags = \"adult\" }\n\n[[rules]]\nname = \"one-lamp\"\nwhen = { scenario = \"home\" }\nat_most = { filter = { categories = \"lamps\" }, n = 1 }\n\
         [encoder]\nmodel = \"all-minilm-l6-v2\"\n[recommend.scenarios.feed]\nrepeated = 2.0\n",
    );
    let data = folder.path().join("data");
    let server = Server::start_with_file(&data, &file).await;
    let client = server.client();
    let item = |n: usize| {
        json!({"item_id": format!("i{n}"), "title": format!("copper kettle number {n}"), "categories": [if n < 3 { "lamps" } else { "kettles" }],
        "tags": [if n == 5 { "adult" } else { "plain" }]})
    };
    client.post("/items", &json!((0..9).map(item).collect::<Vec<_>>())).await;
    client.all_searchable().await;
    let ask = json!({"text": "copper kettle", "limit": 20, "explain": true});
    let before = client.ids(&ask).await;
    assert!(before.len() == 8 && !before.contains(&"i5".to_owned()), "{before:?}");
    let home = client.ids(&json!({"text": "copper kettle", "scenario": "home", "limit": 20})).await;
    assert_eq!(home.iter().filter(|id| ["i0", "i1", "i2"].contains(&id.as_str())).count(), 1, "{home:?}");

    let last = before[7].clone();
    assert_eq!(put(&client, "up", &json!({"boost": {"filter": {"item_id": last}, "by": 50}})).await, StatusCode::CREATED);
    assert_eq!(put(&client, "top", &json!({"pin": {before[4].as_str(): 1}})).await, StatusCode::CREATED);

    let expected = |list: &[(String, Json)]| {
        assert_eq!(list[0], (before[4].clone(), json!("pinned")), "{list:?}");
        assert_eq!(list[1], (last.clone(), json!("rule:up")), "{list:?}");
        assert!(list[2..].iter().all(|(_, arranged)| arranged.is_null()), "{list:?}");
        assert!(list.iter().all(|(id, _)| id != "i5"));
    };
    let answer = client.recommend(&ask).await;
    for item in answer["items"].as_array().unwrap() {
        let sum: f64 = item["explanation"]["contributions"].as_object().unwrap().values().map(|part| part.as_f64().unwrap()).sum();
        assert!((sum - item["score"].as_f64().unwrap()).abs() < 1e-3, "the score is the ranker's: {item}");
    }
    expected(&arranged(&client, &ask).await);
    server.stop().await;

    let server = Server::start_with_file(&data, &file).await;
    let client = server.client();
    expected(&arranged(&client, &ask).await);
    assert_eq!(client.get("/rules").await.good()["rules"].as_array().unwrap().len(), 4);
    for name in ["up", "top"] {
        assert_eq!(client.send(Method::DELETE, &format!("/rules/{name}"), &[], "").await.status, StatusCode::NO_CONTENT);
    }
    assert_eq!(client.ids(&ask).await, before);

    // What a visit has passed over comes down where the scenario says so; elsewhere the same question has the same answer.
    for (scenario, moves) in [("feed", true), ("search", false)] {
        let ask = json!({"text": "copper kettle", "session_id": format!("s-{scenario}"), "scenario": scenario, "limit": 2});
        let (first, second) = (client.ids(&ask).await, client.ids(&ask).await);
        assert_eq!(first != second, moves, "{scenario}: {first:?} {second:?}");
    }
}

#[tokio::test]
async fn a_blocklist_keeps_out_what_says_or_means_such_things_whoever_asks_and_whenever_it_came() {
    let folder = tempfile::tempdir().unwrap();
    let settings = [("INKLING_ENCODER__MODEL", "all-minilm-l6-v2")];
    let server = Server::start_with(folder.path(), &settings).await;
    let client = server.client();
    let items = json!([{"item_id": "absinthe", "title": "A bottle of green absinthe"}, {"item_id": "free", "title": "Juice, absinthe-free"},
        {"item_id": "rifle", "title": "Hunting rifle with ammunition"}, {"item_id": "lamp", "title": "Desk lamp with a warm light"}]);
    client.post("/items", &items).await;
    client.all_searchable().await;

    assert_eq!(put(&client, "spirits", &json!({"block": {"words": ["absinthe"]}})).await, StatusCode::CREATED);
    assert_eq!(put(&client, "weapons", &json!({"block": {"like": ["a gun with bullets"], "near": 0.45}})).await, StatusCode::CREATED);

    let shows = |client: Client, expected: &'static [&'static str]| async move {
        until("the list is as the blocklists say", || async {
            let mut ids = client.ids(&json!({"text": "absinthe rifle lamp juice", "limit": 20})).await;
            ids.sort_unstable();
            ids == expected
        })
        .await;
    };
    shows(client.clone(), &["free", "lamp"]).await;
    client.post("/items", &json!([{"item_id": "pistol", "title": "A pistol and a box of bullets"}, {"item_id": "shade", "title": "Lamp shade"}])).await;
    shows(client.clone(), &["free", "lamp", "shade"]).await;
    server.stop().await;

    let server = Server::start_with(folder.path(), &settings).await;
    let client = server.client();
    shows(client.clone(), &["free", "lamp", "shade"]).await;
    for name in ["spirits", "weapons"] {
        assert_eq!(client.send(Method::DELETE, &format!("/rules/{name}"), &[], "").await.status, StatusCode::NO_CONTENT);
    }
    assert_eq!(client.ids(&json!({"limit": 20})).await.len(), 6, "at once");
}

#[tokio::test]
async fn pages_by_rules_have_no_repeats_and_forget_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start_with(folder.path(), &[("INKLING_ENCODER__MODEL", "all-minilm-l6-v2")]).await;
    let client = server.client();
    let item = |n: usize| json!({"item_id": format!("i{n}"), "title": format!("lamp number {n}"), "categories": [format!("c{}", n % 3)]});
    client.post("/items", &json!((0..30).map(item).collect::<Vec<_>>())).await;
    client.all_searchable().await;
    put(&client, "few", &json!({"at_most": {"filter": {"categories": "c1"}, "n": 2}})).await;
    put(&client, "pinned", &json!({"pin": {"i7": 9, "i8": 1}})).await;

    let mut ask = json!({"text": "lamp", "limit": 7});
    let mut seen: Vec<String> = Vec::new();
    loop {
        let answer = client.recommend(&ask).await;
        let page = crate::server::ids(&answer);
        assert!(page.iter().filter(|id| id[1..].parse::<usize>().unwrap() % 3 == 1).count() <= 2, "{page:?}");
        seen.extend(page);
        if answer["next"].is_null() {
            break;
        }
        ask["after"] = answer["next"].clone();
    }

    assert_eq!((seen[0].as_str(), seen[8].as_str()), ("i8", "i7"), "{seen:?}");
    let mut all = seen.clone();
    all.sort_unstable();
    all.dedup();
    assert_eq!((all.len(), seen.len()), (30, 30), "{seen:?}");
}
