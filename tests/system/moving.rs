//! Moving a running server to another model: no request is dropped, no item is lost, and a crash on the way costs nothing.

use std::{
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use reqwest::{Method, StatusCode};
use serde_json::{Value as Json, json};
use sqlx::{Connection, Row, SqliteConnection};

use crate::{
    server::{Client, Server, fetch_other, inkling, output, settings_file, until},
    shop,
};

const BILINGUAL: &str = "multilingual-e5-small";
const ENGLISH: &str = "all-minilm-l6-v2";
/// A busy machine must not make an answer incomplete.
const PATIENT: [(&str, &str); 2] = [("INKLING_HTTP__DEADLINE_MS", "30000"), ("INKLING_HTTP__REQUEST_TIMEOUT_MS", "60000")];

/// Items that only these tests know of, no text twice.
fn items(count: usize) -> String {
    (0..count).map(|i| format!("{}\n", json!({"item_id": format!("many-{i}"), "title": format!("Lamp {i} for corner {}", i * 7)}))).collect()
}

async fn state(client: &Client) -> Json {
    client.get("/admin/reindex").await.good()
}

async fn moved(client: &Client) -> Json {
    until("the move is over", || async { state(client).await["running"].is_null() }).await;
    let state = state(client).await;
    assert_eq!(state["last"]["error"], Json::Null, "{state}");
    state
}

async fn encoder(client: &Client) -> String {
    client.get("/health/ready").await.good()["encoder_version"].as_str().unwrap().to_owned()
}

/// The collections on disk.
fn collections(data: &Path) -> Vec<String> {
    let folders = fs::read_dir(data.join("index")).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir());
    let mut names: Vec<String> = folders.map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect();
    names.sort_unstable();
    names
}

/// A column of text and one of numbers out of the database.
async fn rows(data: &Path, query: &'static str) -> Vec<(String, i64)> {
    let mut database = SqliteConnection::connect(&format!("sqlite://{}?mode=ro", data.join("inkling.db").display())).await.unwrap();
    sqlx::query(query).fetch_all(&mut database).await.unwrap().iter().map(|row| (row.get(0), row.get(1))).collect()
}

/// Requests that go on until they are told to stop, all of which must be answered in full.
struct Load {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Load {
    fn start(client: &Client, readers: usize) -> Self {
        let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let mut tasks = Vec::new();
        for reader in 0..readers {
            let (client, stop, answered) = (client.clone(), Arc::clone(&stop), Arc::clone(&answered));
            tasks.push(tokio::spawn(async move {
                for n in 0.. {
                    if stop.load(Ordering::Acquire) {
                        return;
                    }
                    let text = format!("light jacket {n} for rainy hike {reader}, not wool");
                    let ask = json!({"text": text, "user_id": format!("u{reader}"), "items": ["shop-city-mac"], "diversity": 0.3, "explain": true});
                    let reply = client.json(Method::POST, "/recommend", &ask).await;
                    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
                    let answer = reply.value();
                    assert_eq!((&answer["degraded"], answer["items"].as_array().unwrap().len()), (&json!([]), 10), "{answer}");
                    answered.fetch_add(1, Ordering::AcqRel);
                }
            }));
        }
        let (client, flag) = (client.clone(), Arc::clone(&stop));
        tasks.push(tokio::spawn(async move {
            for n in 0.. {
                if flag.load(Ordering::Acquire) {
                    return;
                }
                let item = json!({"title": format!("Teapot number {n}"), "tags": ["written-meanwhile"]});
                assert_eq!(client.json(Method::PUT, &format!("/items/teapot-{n}"), &item).await.status, StatusCode::CREATED);
                client.post("/feedback", &json!({"type": "click", "user_id": "clicker", "item_id": format!("teapot-{n}")})).await;
                if n % 3 == 2 {
                    assert_eq!(client.send(Method::DELETE, &format!("/items/teapot-{}", n - 1), &[], "").await.status, StatusCode::NO_CONTENT);
                }
            }
        }));
        Self { stop, answered, tasks }
    }

    fn answered(&self) -> usize {
        self.answered.load(Ordering::Acquire)
    }

    /// Fails where any request did.
    async fn stop(self) -> usize {
        self.stop.store(true, Ordering::Release);
        for task in self.tasks {
            task.await.unwrap();
        }
        self.answered.load(Ordering::Acquire)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_move_under_load_drops_no_request_and_loses_no_item_and_leaves_nothing_behind() {
    fetch_other(ENGLISH);
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path();
    let mut server = Server::start_with(data, &PATIENT).await;
    let client = server.client();
    shop::fill(&client).await;
    client.lines("/items", items(200)).await.good();
    client.all_searchable().await;
    let old = encoder(&client).await;
    assert!(old.starts_with(BILINGUAL), "{old}");
    let load = Load::start(&client, 6);
    until("requests are answered", || async { load.answered() > 6 }).await;

    let begun = client.json(Method::POST, "/admin/reindex", &json!({"model": ENGLISH})).await;
    assert_eq!(begun.status, StatusCode::ACCEPTED, "{}", begun.text());
    assert_eq!(begun.value()["change_settings"], json!({"encoder.model": ENGLISH}));
    assert_eq!(client.json(Method::POST, "/admin/reindex", &json!({"model": ENGLISH})).await.status, StatusCode::CONFLICT);
    client.json(Method::PUT, "/items/samovar", &json!({"title": "Brass samovar", "text": "Boils water for tea."})).await.good();
    until("progress shows", || async { client.get("/stats").await.good()["reindex"]["done"].as_u64().is_some_and(|done| done > 0) }).await;
    let in_gauge = client.metrics().await.lines().any(|line| line.starts_with("inkling_reindex_items{state=\"done\"} ") && !line.ends_with(" 0"));
    let state = moved(&client).await;
    let at_the_swap = load.answered();
    until("requests are answered by the new model", || async { load.answered() > at_the_swap + 12 }).await;
    load.stop().await;

    assert!(in_gauge, "the gauge shows the progress");
    let new = encoder(&client).await;
    assert!(new.starts_with(ENGLISH) && state["serving"]["encoder_version"] == *new, "{state}");
    let metrics = client.metrics().await;
    assert!(metrics.contains(&format!("inkling_encoder_info{{version=\"{new}\"}} 1")) && !metrics.contains(&old), "the old model is gone");
    assert!(metrics.contains("inkling_reindex_items{state=\"done\"} 0"));
    client.all_searchable().await;
    assert_eq!(client.get("/stats").await.good()["reindex"], Json::Null);
    let samovar = client.recommend(&json!({"text": "samovar for tea", "limit": 3})).await;
    assert_eq!(samovar["items"][0]["item_id"], "samovar", "{samovar}");
    assert!(samovar["items"][0]["sources"].as_array().unwrap().contains(&json!("semantic")), "{samovar}");
    assert_ne!(client.post("/understand", &json!({"text": "rain jacket"})).await["categories"], json!([]), "categories changed with the model");
    assert_eq!(collections(data), std::slice::from_ref(&new));
    server.logged("before the next start").await;
    server.stop().await;

    let items = rows(data, "SELECT 'live', count(*) FROM items WHERE deleted = 0").await[0].1;
    let newest = rows(data, "SELECT 'newest', max(revision) FROM items").await[0].1;
    assert_eq!(rows(data, "SELECT collection, flushed_revision FROM index_state").await, [(new.clone(), newest)]);
    let embedded = rows(data, "SELECT model_version, count(*) FROM embeddings GROUP BY model_version").await;
    let of_the_new = embedded.iter().find(|(version, _)| *version == new).unwrap().1;
    assert!(of_the_new >= items, "every text of the {items} items was encoded by the new model: {embedded:?}");

    let refused = output(&mut inkling(["serve", "--data", data.to_str().unwrap(), "--listen", "nowhere"]));
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains(&format!("set encoder.model = \"{ENGLISH}\"")), "{said}");
    let server = Server::start_with(data, &[("INKLING_ENCODER__MODEL", ENGLISH)]).await;
    assert_eq!(server.client().get("/stats").await.good()["items"], json!({"total": items, "pending": 0}));
    assert_eq!(server.client().recommend(&json!({"text": "samovar for tea", "limit": 3})).await["items"][0]["item_id"], "samovar");
    assert_eq!(encoder(&server.client()).await, new);
}

#[tokio::test]
async fn a_move_that_is_killed_on_the_way_leaves_the_old_model_in_service_and_can_be_asked_again() {
    fetch_other(ENGLISH);
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path();
    let settings = [PATIENT[0], PATIENT[1], ("INKLING_ENCODER__MODEL", ENGLISH), ("INKLING_INGEST__CHUNK", "16")];
    let server = Server::start_with(data, &settings).await;
    let client = server.client();
    client.lines("/items", items(800)).await.good();
    client.all_searchable().await;
    let old = encoder(&client).await;
    let half_way = async || {
        let running = state(&client).await["running"].clone();
        running["phase"] == "filling" && running["done"].as_u64().unwrap() >= 32
    };
    assert_eq!(client.json(Method::POST, "/admin/reindex", &json!({"model": BILINGUAL})).await.status, StatusCode::ACCEPTED);
    until("it is half-way", half_way).await;
    assert_eq!(collections(data).len(), 2);
    server.kill();

    let server = Server::start_with(data, &settings).await;
    let client = server.client();

    assert_eq!((encoder(&client).await, collections(data)), (old.clone(), vec![old.clone()]));
    client.all_searchable().await; // what the index had not flushed when it was killed is indexed again
    assert_eq!(client.get("/stats").await.good()["items"], json!({"total": 800, "pending": 0}));
    let lamp = client.recommend(&json!({"text": "lamp 77", "limit": 5})).await;
    assert!(lamp["items"].as_array().unwrap().iter().any(|item| item["item_id"] == "many-77"), "{lamp}");
    let known = rows(data, "SELECT model_version, count(*) FROM embeddings GROUP BY model_version").await;
    assert!(known.iter().any(|(version, count)| version.starts_with(BILINGUAL) && *count >= 32), "what was encoded stays: {known:?}");
    assert_eq!(client.json(Method::POST, "/admin/reindex", &json!({"model": BILINGUAL})).await.status, StatusCode::ACCEPTED);
    server.stop().await; // a stop on the way is no worse than a crash

    let server = Server::start_with(data, &settings).await;
    let client = server.client();
    client.post("/admin/reindex", &json!({"model": BILINGUAL})).await;
    moved(&client).await;
    assert!(encoder(&client).await.starts_with(BILINGUAL));
    assert_eq!(client.recommend(&json!({"text": "lamp 77", "limit": 5})).await["degraded"], json!([]));
}

#[tokio::test]
async fn the_command_asks_the_server_that_has_the_folder_open_and_says_what_to_set() {
    fetch_other(ENGLISH);
    let (folder, place) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let data = folder.path();
    let key = "a-key-of-the-operator";
    let hashed = output(inkling(["config", "hash-key"]).stdin(fs::File::open(settings_file(place.path(), key)).unwrap()));
    let hash = String::from_utf8(hashed.stdout).unwrap();
    let file = settings_file(place.path(), &format!("[encoder]\nmodel = \"{ENGLISH}\"\n[http.keys]\nadmin = [\"{}\"]\n", hash.trim()));
    // The bilingual model is known there, but not prepared.
    let models = place.path().join("models");
    fs::create_dir(&models).unwrap();
    for entry in fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/models")).unwrap().map(Result::unwrap) {
        let name = entry.file_name();
        if name == ENGLISH || name.to_string_lossy().starts_with("onnxruntime-1") {
            std::os::unix::fs::symlink(entry.path(), models.join(name)).unwrap();
        }
    }
    let server = Server::start_with_models(data, &file, &models).await;
    let client = server.client();
    let header = format!("Bearer {key}");
    let headers = [("authorization", header.as_str()), ("content-type", "application/json")];
    let items = json!([{"item_id": "a", "title": "Rain jackets"}, {"item_id": "b", "title": "Oak chair"}]).to_string();
    client.send(Method::POST, "/items", &headers, items).await.good();
    let address = server.address().trim_start_matches("http://").to_owned();
    let reindex = |variables: &[(&str, &str)]| {
        let args = ["reindex", "--data", data.to_str().unwrap(), "--listen", &address, "--config", file.to_str().unwrap()];
        let ended = output(inkling(args).envs(variables.iter().copied()));
        (ended.status.success(), String::from_utf8_lossy(&ended.stdout).into_owned() + &String::from_utf8_lossy(&ended.stderr))
    };

    let (done, said) = reindex(&[]);
    assert!(!done && said.contains("INKLING_ADMIN_KEY"), "{said}");
    let (done, said) = reindex(&[("INKLING_ADMIN_KEY", key), ("INKLING_INDEX__LEXICAL__LATIN_STEMMER", "none")]);

    assert!(done && said.contains("indexed 2 item states") && said.contains("set index.lexical.latin_stemmer = \"none\""), "{said}");
    let ask = |text: &str| json!({"text": text, "explain": true, "limit": 1}).to_string();
    let singular = client.send(Method::POST, "/recommend", &headers, ask("jacket")).await.good();
    assert_eq!(singular["items"][0]["explanation"]["matched"], json!([]), "endings stay on: {singular}");
    let plural = client.send(Method::POST, "/recommend", &headers, ask("jackets")).await.good();
    assert_eq!(plural["items"][0]["explanation"]["matched"], json!(["jackets"]), "{plural}");
    for (body, pointer, words) in [
        (json!({"model": "no-such-model"}), "/model", "`inkling model fetch NAME`"),
        (json!({"model": ENGLISH, "precision": "fp16"}), "/precision", "GPU"),
        (json!({"model": BILINGUAL}), "/model", "`inkling model fetch multilingual-e5-small --precision int8`"),
    ] {
        let reply = client.send(Method::POST, "/admin/reindex", &headers, body.to_string()).await;
        assert_eq!((reply.status, reply.pointers()), (StatusCode::UNPROCESSABLE_ENTITY, vec![pointer.to_owned()]));
        assert!(reply.text().contains(words), "{}", reply.text());
    }
    server.stop().await;
    let (done, said) = reindex(&[]);
    assert!(done && said.contains("indexed 2 items into"), "without a server it builds by itself: {said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reindexing_a_folder_that_was_in_use_moved_the_server_of_another_shop() {
    let [ours, others] = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let (server, other) = (Server::start(ours.path()).await, Server::start(others.path()).await);
    let reindex = |server: &Server| {
        let listen = server.address().trim_start_matches("http://");
        let ended = tokio::task::block_in_place(|| output(&mut inkling(["reindex", "--data", ours.path().to_str().unwrap(), "--listen", listen])));
        (ended.status.success(), String::from_utf8_lossy(&ended.stderr).into_owned())
    };

    let (done, said) = reindex(&other);

    assert!(!done && said.contains("another catalogue") && said.contains("--listen"), "{said}");
    let state = state(&other.client()).await;
    assert_eq!((&state["running"], &state["last"]), (&Json::Null, &Json::Null), "{state}");
    let (done, said) = reindex(&server);
    assert!(done, "{said}");
    server.stop().await;
    other.stop().await;
}
