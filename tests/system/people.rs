//! People: they log in, ask what is known of them, and ask to be forgotten.

use std::{
    collections::{HashMap, HashSet},
    fs,
    hash::{BuildHasher, RandomState},
    path::{Path, PathBuf},
};

use reqwest::Method;
use serde_json::{Value as Json, json};

use crate::{
    server::{Client, Server},
    shop,
};

/// Bytes of a secret.
const SECRET_BYTES: usize = 64;

/// 64 hexadecimal digits that are nowhere else.
fn random() -> String {
    (0..4).map(|i| format!("{:016x}", RandomState::new().hash_one(i))).collect()
}

fn item_ids() -> Vec<String> {
    let items = include_str!("../../src/app/demo/items/shop.ndjson").lines();
    items.map(|line| serde_json::from_str::<Json>(line).unwrap()["item_id"].as_str().unwrap().to_owned()).collect()
}

/// Which of the secrets are in files below the folder, and in which.
fn found(folder: &Path, secrets: &[&str]) -> HashMap<String, String> {
    let wanted: HashSet<&[u8]> = secrets.iter().map(|secret| secret.as_bytes()).collect();
    let hexadecimal = |byte: &u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(byte);
    let mut found = HashMap::new();
    let mut open: Vec<PathBuf> = vec![folder.to_owned()];
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            continue;
        }
        let bytes = fs::read(&path).unwrap_or_default();
        // An index's files are large and mostly empty: only runs of digits that are long enough are looked at.
        for run in bytes.split(|byte| !hexadecimal(byte)).filter(|run| run.len() >= SECRET_BYTES) {
            for secret in run.windows(SECRET_BYTES).filter(|window| wanted.contains(window)) {
                found.insert(String::from_utf8_lossy(secret).into_owned(), path.display().to_string());
            }
        }
    }
    found
}

/// Whether an item is missing in the list of what a user has not seen.
async fn has_seen(client: &Client, who: &Json, item: &str) -> bool {
    let mut body = json!({"limit": 100, "exclude_seen": true});
    body.as_object_mut().unwrap().extend(who.as_object().unwrap().clone());
    !client.ids(&body).await.iter().any(|id| id == item)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn somebody_logs_in_is_known_under_every_name_and_is_erased_without_a_trace() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path()).await;
    let client = server.client();
    shop::fill(&client).await;
    let items = item_ids();
    let [user, old, visit, event, text] = std::array::from_fn(|_| random());
    let rating = |id: &str, item: &str| json!({"event_id": id, "type": "rating", "value": 5, "item_id": item, "timestamp": "2026-01-05T10:00:00Z"});
    let by = |mut event: Json, who: &str, name: &str| {
        event[who] = json!(name);
        event
    };

    // A visit becomes a user's; what comes of it late is the user's too.
    client.post("/feedback", &by(rating(&event, &items[0]), "session_id", &visit)).await;
    assert!(!has_seen(&client, &json!({"user_id": user}), &items[0]).await);
    let merged = client.post(&format!("/users/{user}/merge"), &json!({"from_session": visit})).await;
    assert_eq!(merged, json!({"user_id": user, "events": 1, "exposures": 0}));
    assert!(has_seen(&client, &json!({"user_id": user}), &items[0]).await);
    client.post("/feedback", &by(rating("late", &items[1]), "session_id", &visit)).await;
    assert!(has_seen(&client, &json!({"user_id": user}), &items[1]).await && has_seen(&client, &json!({"session_id": visit}), &items[1]).await);

    // An old name stands for the user, at once and with everything that comes later.
    client.post("/feedback", &by(rating("by the old name", &items[2]), "user_id", &old)).await;
    client.post(&format!("/user-merge?user_id={user}"), &json!({"from_user": old})).await;
    assert!(has_seen(&client, &json!({"user_id": user}), &items[2]).await && has_seen(&client, &json!({"user_id": old}), &items[0]).await);
    let search = json!({"type": "search", "user_id": user, "text": format!("rain jacket {text}")});
    client.post("/feedback", &json!([by(rating("the last", &items[3]), "user_id", &user), search])).await;
    assert!(has_seen(&client, &json!({"user_id": old}), &items[3]).await);

    let known = client.get(&format!("/users/{old}")).await.good();
    assert_eq!((&known["user_id"], &known["events"]["by_type"]), (&json!(user), &json!({"rating": 4, "search": 1})), "{known}");
    assert_eq!(known["aliases"].as_array().unwrap().len(), 2);
    assert!(!known["liked_categories"].as_array().unwrap().is_empty() && known["languages"][0]["language"] == "en", "{known}");
    let export = client.get(&format!("/users/{user}/export")).await.good();
    assert_eq!(export["events"].as_array().unwrap().len(), 5);
    assert!(!export["exposures"].as_array().unwrap().is_empty(), "the answers above were logged");

    // Weights are learned from many people, and know none of them.
    let others: Vec<String> = (0..20).map(|_| random()).collect();
    let purchases = others.iter().flat_map(|other| items.iter().take(6).map(move |item| json!({"type": "purchase", "user_id": other, "item_id": item})));
    client.post("/feedback", &json!(purchases.collect::<Vec<_>>())).await;
    client.post("/admin/train", &json!({})).await;
    let everybody: Vec<&str> = others.iter().chain([&user, &old, &visit]).map(String::as_str).collect();
    assert!(fs::read_dir(folder.path().join("artefacts/item-item")).unwrap().next().is_some());
    for derived in ["artefacts", "index"] {
        assert_eq!(found(&folder.path().join(derived), &everybody), HashMap::new());
    }

    let secrets = [user.as_str(), &old, &visit, &event, &text];
    assert_eq!(found(folder.path(), &secrets).len(), 5, "all are in the database");
    let receipt = client.send(Method::DELETE, &format!("/users/{old}"), &[], "").await.good();
    assert_eq!((&receipt["events"], &receipt["aliases"]), (&json!(5), &json!(2)), "{receipt}");
    assert!(receipt["exposures"].as_u64().unwrap() >= 5, "{receipt}");
    assert_eq!(found(folder.path(), &secrets), HashMap::new());
    for who in [json!({"user_id": user}), json!({"user_id": old}), json!({"session_id": visit})] {
        assert!(!has_seen(&client, &who, &items[0]).await, "{who}");
    }
    let retried =
        client.post("/feedback", &json!([by(rating(&event, &items[0]), "session_id", &visit), by(rating("new id", &items[0]), "user_id", &old)])).await;
    assert_eq!((&retried["accepted"], &retried["duplicates"]), (&json!(0), &json!(2)), "{retried}");

    // The lists just asked for were logged under these names: another erasure, and nothing is left after the end.
    for (door, name) in [("users", &user), ("users", &old), ("sessions", &visit)] {
        client.send(Method::DELETE, &format!("/{door}/{name}"), &[], "").await.good();
    }
    let log = server.log().join("\n");
    server.stop().await;
    assert_eq!(found(folder.path(), &secrets), HashMap::new());
    assert!(everybody.iter().chain(&secrets).all(|secret| !log.contains(*secret)));
}
