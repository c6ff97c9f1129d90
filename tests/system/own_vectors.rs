//! Items with vectors of their own: what is nearest by one, what a list takes from them, and that they follow every write and survive a kill.

use std::path::Path;

use reqwest::{Method, StatusCode};
use serde_json::{Value as Json, json};

use crate::server::{Client, Server, ids, until};

/// A busy machine must not make an answer incomplete.
const SETTINGS: [(&str, &str); 2] = [("INKLING_ENCODER__MODEL", "all-minilm-l6-v2"), ("INKLING_HTTP__DEADLINE_MS", "30000")];

async fn start(data: &Path, more: &[(&str, &str)]) -> (Server, Client) {
    let server = Server::start_with(data, &[&SETTINGS, more].concat()).await;
    let client = server.client();
    (server, client)
}

/// Vases in a row from red to blue; their texts say nothing of it.
fn vases() -> Json {
    let vase = |n: u32| {
        let angle = f64::from(n) * 0.15;
        json!({"item_id": format!("vase-{n}"), "title": format!("Vase number {n}"), "price": 10 * n, "vectors": {"image": [angle.cos(), angle.sin(), 0.1]}})
    };
    (0..10).map(vase).collect()
}

async fn by_image(client: &Client, item: &str, limit: usize) -> Vec<String> {
    let answer = client.get(&format!("/items/{item}/similar?by=image&limit={limit}")).await.good();
    assert_eq!(answer["degraded"], json!([]), "{answer}");
    ids(&answer)
}

fn names(numbers: &[u32]) -> Vec<String> {
    numbers.iter().map(|n| format!("vase-{n}")).collect()
}

/// The items of a list that own vectors found, with what these added to the score.
fn found_by_vectors(answer: &Json) -> Vec<(String, f64)> {
    let items = answer["items"].as_array().unwrap().iter();
    let found = items.filter(|item| item["sources"].as_array().unwrap().contains(&json!("vectors")));
    found.map(|item| (item["item_id"].as_str().unwrap().to_owned(), item["explanation"]["contributions"]["vectors"].as_f64().unwrap_or(0.0))).collect()
}

async fn own_vectors_are_searched_follow_every_write_and_survive_a_kill(settings: &[(&str, &str)]) {
    let folder = tempfile::tempdir().unwrap();
    let (server, client) = start(folder.path(), settings).await;
    assert_eq!(client.post("/items", &vases()).await["accepted"], 10);
    client.post("/items", &json!([{"item_id": "plain", "title": "Vase without a picture"}])).await;
    client.all_searchable().await;

    let ordered = names(&[0, 1, 2]);
    assert_eq!(by_image(&client, "vase-0", 3).await, ordered[1..].iter().cloned().chain(names(&[3])).collect::<Vec<_>>());
    assert_eq!(by_image(&client, "vase-9", 100).await, names(&[8, 7, 6, 5, 4, 3, 2, 1, 0]));
    assert_eq!(client.get("/items/vase-0/similar?by=sound").await.pointers(), ["/by"]);
    assert_eq!(client.get("/items/plain/similar?by=image").await.pointers(), ["/by"]);
    let other = json!({"title": "x", "vectors": {"image": [1, 2]}});
    assert_eq!(client.json(Method::PUT, "/items/bad", &other).await.pointers(), ["/vectors/image"]);

    // In a list: for what is looked at, and for what was liked.
    client.post("/feedback", &json!({"type": "purchase", "user_id": "red", "item_id": "vase-0", "value": 9})).await;
    for body in [json!({"items": ["vase-0"]}), json!({"user_id": "red"})] {
        let mut body = body;
        (body["explain"], body["limit"]) = (json!(true), json!(20));
        let answer = client.recommend(&body).await;
        let found = found_by_vectors(&answer);
        let of = |name: &str| found.iter().find(|(id, _)| id == name).unwrap().1;
        assert_eq!(found.len(), 9, "{answer}");
        assert!(of("vase-1") > of("vase-5") && of("vase-5") > of("vase-9") && of("vase-1") > 0.0, "{found:?}");
        for item in answer["items"].as_array().unwrap() {
            let sum: f64 = item["explanation"]["contributions"].as_object().unwrap().values().map(|part| part.as_f64().unwrap()).sum();
            assert!((sum - item["score"].as_f64().unwrap()).abs() < 1e-3, "{item}");
        }
    }
    assert!(found_by_vectors(&client.recommend(&json!({"items": ["plain"], "explain": true, "limit": 20})).await).is_empty());

    // Facts, deletions and other vectors are followed.
    assert_eq!(client.json(Method::PATCH, "/items/vase-1", &json!({"price": 500})).await.status, StatusCode::OK);
    assert_eq!(client.json(Method::PATCH, "/items/vase-2", &json!({"available": false})).await.status, StatusCode::OK);
    assert_eq!(client.json(Method::PATCH, "/items/vase-9", &json!({"vectors": {"image": [1, 0.01, 0.1]}})).await.status, StatusCode::OK);
    assert_eq!(client.send(Method::DELETE, "/items/vase-3", &[], "").await.status, StatusCode::NO_CONTENT);
    client.all_searchable().await;
    assert_eq!(by_image(&client, "vase-0", 3).await, names(&[9, 1, 4]));
    let dear = json!({"items": ["vase-0"], "filter": {"price": {"gte": 90}}, "explain": true, "limit": 20});
    let mut found: Vec<String> = found_by_vectors(&client.recommend(&dear).await).into_iter().map(|(id, _)| id).collect();
    found.sort_unstable();
    assert_eq!(found, names(&[1, 9]));

    // What was acknowledged last may not be on the index's disk when the process dies.
    client.json(Method::PATCH, "/items/vase-4", &json!({"vectors": {"image": null}})).await;
    client.json(Method::PUT, "/items/vase-10", &json!({"title": "Vase number 10", "vectors": {"image": [1, 0.02, 0.1]}})).await;
    server.kill();
    let (server, client) = start(folder.path(), settings).await;
    client.all_searchable().await;
    assert_eq!(by_image(&client, "vase-0", 4).await, names(&[9, 10, 1, 5]));
    server.stop().await;
    let (server, client) = start(folder.path(), settings).await;
    assert_eq!(by_image(&client, "vase-0", 4).await, names(&[9, 10, 1, 5]), "at once, from disk");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_the_embedded_index() {
    own_vectors_are_searched_follow_every_write_and_survive_a_kill(&[]).await;
}

#[cfg(feature = "edge")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_qdrant_server() {
    let server = crate::qdrant::Server::start_at(&crate::qdrant::Storage::default(), "127.0.0.1:0".parse().unwrap(), None);
    own_vectors_are_searched_follow_every_write_and_survive_a_kill(&[("INKLING_INDEX__URL", &server.url())]).await;
}

#[cfg(feature = "edge")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[cfg_attr(not(postgres_server), ignore = "PostgreSQL is not installed (apt install postgresql)")]
async fn replicas_on_a_qdrant_server_share_them_and_one_goes_on_when_another_dies() {
    let (database, folders) = (crate::postgres_server::database().await, [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()]);
    let index = crate::qdrant::Server::start_at(&crate::qdrant::Storage::default(), "127.0.0.1:0".parse().unwrap(), None);
    let url = index.url();
    let settings = [("INKLING_STORE__URL", database.as_str()), ("INKLING_INDEX__URL", &url)];
    let (one, first) = start(folders[0].path(), &settings).await;
    let (other, second) = start(folders[1].path(), &settings).await;

    second.post("/items", &vases()).await;
    for client in [&first, &second] {
        until("its list is whole", || async { by_image(client, "vase-0", 20).await == names(&[1, 2, 3, 4, 5, 6, 7, 8, 9]) }).await;
    }

    one.kill();
    second.json(Method::PUT, "/items/vase-10", &json!({"title": "Vase number 10", "vectors": {"image": [1, 0.02, 0.1]}})).await;
    second.all_searchable().await;
    assert_eq!(by_image(&second, "vase-0", 2).await, names(&[10, 1]));
    other.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_catalogue_without_own_vectors_has_one_collection_and_a_move_to_another_model_leaves_them_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (server, client) = start(folder.path(), &[]).await;
    let collections = || std::fs::read_dir(folder.path().join("index")).unwrap().filter(|entry| entry.as_ref().unwrap().path().is_dir()).count();
    client.post("/items", &json!([{"item_id": "plain", "title": "Vase without a picture"}])).await;
    client.all_searchable().await;
    assert_eq!(collections(), 1);

    client.post("/items", &vases()).await;
    client.all_searchable().await;
    assert_eq!(collections(), 2);
    let anew = json!({"lexical": {"latin_stemmer": "english", "average_length": 60.0, "title_weight": 1.0}});
    assert_eq!(client.json(Method::POST, "/admin/reindex", &anew).await.status, StatusCode::ACCEPTED);
    until("the move is over", || async { client.get("/admin/reindex").await.good()["running"].is_null() }).await;
    let moved = client.get("/admin/reindex").await.good();
    assert_eq!(moved["last"]["error"], Json::Null, "{moved}");

    client.json(Method::PUT, "/items/vase-10", &json!({"title": "Vase number 10", "vectors": {"image": [1, 0.02, 0.1]}})).await;
    client.all_searchable().await;
    assert_eq!(by_image(&client, "vase-0", 2).await, names(&[10, 1]));
    until("the old collection is gone", || async { collections() == 2 }).await;
    server.stop().await;
}
