//! Weights: learned on demand without dropping a request, loaded at the next start, skipped when torn.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    sync::atomic::{AtomicBool, Ordering},
};

use futures::future::join_all;
use reqwest::{Method, StatusCode};
use serde_json::{Value as Json, json};

use crate::server::{Client, Server, ids, inkling, output, until};

const GROUPS: usize = 4;
const ITEMS: usize = 40;
const USERS: usize = 80;

/// Forty items whose words say nothing, and users who like most items of one group, all in the same order.
async fn fill(client: &Client) {
    fill_in_order(client, |_, item| item / 2).await;
}

/// As [`fill`], a like of an item by a user on such a day.
async fn fill_in_order(client: &Client, day: impl Fn(usize, usize) -> usize) {
    let items: Vec<Json> = (0..ITEMS).map(|i| json!({"item_id": format!("i{i}"), "title": format!("Thing number {i}")})).collect();
    client.post("/items", &json!(items)).await;
    let mut events = Vec::new();
    for user in 0..USERS {
        for item in (0..ITEMS).filter(|item| item % GROUPS == user % GROUPS && !(item / GROUPS + user / GROUPS).is_multiple_of(3)) {
            events.push(
                json!({"event_id": format!("{user}/{item}"), "type": "purchase", "user_id": format!("u{user}"), "item_id": format!("i{item}"), "value": 10,
                "timestamp": format!("2025-01-{:02}T{:02}:00:00Z", 1 + day(user, item), user % 24)}),
            );
        }
    }
    // Of group 1, and nothing else.
    events.push(json!({"type": "click", "user_id": "probe", "item_id": "i1"}));
    events.push(json!({"type": "click", "user_id": "probe", "item_id": "i5"}));
    let answer = client.post("/feedback", &json!(events)).await;
    assert_eq!(answer["accepted"], events.len(), "{answer}");
    client.all_searchable().await;
}

async fn probe(client: &Client) -> Json {
    client.recommend(&json!({"user_id": "probe", "limit": 5, "exclude_items": ["i1", "i5"], "explain": true})).await
}

fn is_collaborative(answer: &Json) -> bool {
    let first = &answer["items"][0];
    let number: usize = first["item_id"].as_str().unwrap()[1..].parse().unwrap();
    first["sources"].as_array().unwrap().contains(&json!("collaborative")) && number % GROUPS == 1
}

fn newest(data: &Path) -> PathBuf {
    let mut versions: Vec<PathBuf> = fs::read_dir(data.join("artefacts/item-item")).unwrap().map(|entry| entry.unwrap().path()).collect();
    versions.sort();
    versions.pop().unwrap()
}

/// The items' chances; `None` before they are known.
fn chances(answer: &Json) -> Option<Vec<f64>> {
    answer["items"].as_array().unwrap().iter().map(|item| item["probability"].as_f64()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn training_swaps_weights_without_dropping_a_request_and_a_restart_loads_them() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path()).await;
    let client = server.client();
    // Each in an order of his own: others' likes foretell anyone's newest, which is what chances are learned from.
    fill_in_order(&client, |user, item| (item / 2 + 7 * user) % 20).await;
    let before = probe(&client).await;
    assert!(!is_collaborative(&before) && chances(&before).is_none(), "{before}");
    assert_eq!(client.get("/admin/train").await.good()["running"], false);

    let done = Arc::new(AtomicBool::new(false));
    let askers = (0..3).map(|asker| {
        let (client, done) = (client.clone(), Arc::clone(&done));
        tokio::spawn(async move {
            let mut answers = 0;
            while !done.load(Ordering::Relaxed) {
                let reply = client.json(Method::POST, "/recommend", &json!({"user_id": format!("u{asker}")})).await;
                assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
                assert!(!reply.value()["items"].as_array().unwrap().is_empty());
                answers += 1;
            }
            answers
        })
    });
    let askers: Vec<_> = askers.collect();
    let mut versions = Vec::new();
    for _ in 0..3 {
        let report = client.post("/admin/train", &json!({})).await;
        assert_eq!(report["published"], true, "{report}");
        versions.push(report["version"].as_str().unwrap().to_owned());
    }
    done.store(true, Ordering::Relaxed);
    for answers in join_all(askers).await {
        assert!(answers.unwrap() > 0);
    }
    let after = probe(&client).await;
    assert!(is_collaborative(&after), "{after}");
    let learned = chances(&after).unwrap();
    assert!(learned[0] > 0.1 && learned.windows(2).all(|pair| pair[0] >= pair[1]), "the group's own come next: {after}");
    let shown = client.get("/admin/train").await.good();
    assert_eq!((&shown["running"], &shown["last"]["version"]), (&json!(false), &json!(versions[2])), "{shown}");
    server.stop().await;

    // The restart serves the newest version without training.
    let server = Server::start(folder.path()).await;
    let client = server.client();
    let again = probe(&client).await;
    assert!(is_collaborative(&again) && chances(&again).is_some(), "{again}");
    assert_eq!(client.get("/admin/train").await.good()["last"], Json::Null);
    assert!(client.metrics().await.contains(&format!("inkling_learned_info{{version=\"{}\"}} 1", versions[2])));
    server.stop().await;

    // The newest is torn: an older one serves, and the log says so.
    let torn = newest(folder.path()).join("weights.bin");
    let mut bytes = fs::read(&torn).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 8].iter_mut().for_each(|byte| *byte ^= 0xff);
    fs::write(&torn, bytes).unwrap();
    let mut server = Server::start(folder.path()).await;
    let line = server.logged("cannot be used").await;
    assert!(line.contains("WARN") && line.contains(&versions[2]), "{line}");
    assert!(is_collaborative(&probe(&server.client()).await));
    assert!(server.client().metrics().await.contains(&format!("inkling_learned_info{{version=\"{}\"}} 1", versions[1])));
    server.stop().await;

    // All are torn: the start works, and learns anew from the log.
    for version in fs::read_dir(folder.path().join("artefacts/item-item")).unwrap() {
        fs::write(version.unwrap().path().join("manifest.json"), "{").unwrap();
    }
    let server = Server::start(folder.path()).await;
    let client = server.client();
    until("it learned by itself", || async { client.get("/admin/train").await.good()["last"]["published"] == true }).await;
    assert!(is_collaborative(&probe(&client).await));
    assert_eq!(server.log().iter().filter(|line| line.contains("cannot be used")).count(), 3);
}

#[tokio::test]
async fn one_click_of_a_newcomer_changes_the_next_list_and_is_its_reason() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path()).await;
    let client = server.client();
    fill(&client).await;
    client.post("/admin/train", &json!({})).await;
    let ask = json!({"user_id": "newcomer", "text": "thing number", "limit": 5, "explain": true});
    let before = client.recommend(&ask).await;

    client.post("/feedback", &json!({"type": "click", "user_id": "newcomer", "item_id": "i3"})).await;

    let after = client.recommend(&ask).await;
    assert_ne!(ids(&before), ids(&after));
    let because: Vec<_> = after["items"].as_array().unwrap().iter().filter(|item| item["explanation"]["because"] != json!([])).collect();
    // One click counts a third beside words: it lifts what goes with it, the words still lead.
    assert!(!because.is_empty(), "{after}");
    for item in because {
        let number: usize = item["item_id"].as_str().unwrap()[1..].parse().unwrap();
        assert_eq!((number % GROUPS, &item["explanation"]["because"][0]["item_id"]), (3, &json!("i3")), "{after}");
    }
    assert!(before["items"].as_array().unwrap().iter().all(|item| item["explanation"]["because"] == json!([])), "{before}");
}

#[tokio::test]
async fn new_events_set_off_a_training() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start_with(folder.path(), &[("INKLING_TRAINING__EVERY_EVENTS", "100")]).await;
    let client = server.client();

    fill(&client).await;

    until("a training has run", || async { client.get("/admin/train").await.good()["last"]["published"] == true }).await;
    assert!(is_collaborative(&probe(&client).await));
}

/// Words that no model knows, and what the people of this shop mean by them.
const SLANG: [(&str, &str); 4] = [("zorblat", "Oak table"), ("mipfin", "Rain jacket"), ("quandle", "Jazz record"), ("trebbix", "Phone charger")];

#[tokio::test]
async fn words_that_led_to_items_teach_what_such_words_mean_here() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start_with(folder.path(), &[("INKLING_TRAINING__EVERY_EVENTS", "0")]).await;
    let client = server.client();
    let items = SLANG.iter().flat_map(|(_, thing)| (0..12).map(move |n| json!({"item_id": format!("{thing} {n}"), "title": format!("{thing} number {n}")})));
    client.post("/items", &Json::from(items.collect::<Vec<_>>())).await;
    let click = |session: usize, words: &str, thing: &str, n: usize| {
        json!({"type": "click", "session_id": format!("s{session}"), "item_id": format!("{thing} {}", n % 12), "text": words,
            "timestamp": format!("2025-02-01T{:02}:{:02}:00Z", session / 60, session % 60)})
    };
    let mut clicks = Vec::new();
    for session in 0..120 {
        let (word, thing) = SLANG[session % 4];
        let words = format!("{word} {}", ["please", "for me", "sale", "new", "cheap", "best"][session / 4 % 6].repeat(1 + session / 24));
        clicks.extend([click(session, &words, thing, session), click(session, &words, thing, session + 5)]);
    }
    client.post("/feedback", &json!(clicks)).await;
    client.all_searchable().await;
    let found = async |word: &str, thing: &str| {
        let answer = client.recommend(&json!({"text": format!("{word} gift"), "limit": 5})).await;
        answer["items"].as_array().unwrap().iter().filter(|item| item["item_id"].as_str().unwrap().starts_with(thing)).count()
    };
    let mut before = 0;
    for (word, thing) in SLANG {
        before += found(word, thing).await;
    }

    let report = client.post("/admin/train", &json!({})).await;

    assert!(report["report"]["adapter"]["published"] == true, "{report}");
    let mut after = 0;
    for (word, thing) in SLANG {
        after += found(word, thing).await;
    }
    assert!(after >= 18 && after > before + 5, "{before} of 20 before, {after} after: {report}");
    server.stop().await;
    let server = Server::start(folder.path()).await;
    let answer = server.client().recommend(&json!({"text": "quandle gift", "limit": 1})).await;
    assert!(answer["items"][0]["item_id"].as_str().unwrap().starts_with("Jazz record"), "a restart knows it too: {answer}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn training_a_folder_that_a_server_has_open_did_not_say_how_the_server_learns() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path()).await;

    let listen = server.address().trim_start_matches("http://");
    let train = ["train", "--data", folder.path().to_str().unwrap(), "--listen", listen];
    let ended = tokio::task::block_in_place(|| output(&mut inkling(train)));

    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert_eq!(ended.status.code(), Some(1), "{said}");
    assert!(said.contains("another process has") && said.contains(&format!("POST http://{listen}/admin/train")), "{said}");
    server.stop().await;
}
