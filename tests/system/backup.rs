//! A backup made while a server is written to, restored and served; and the restores that must be refused.

use std::{fs, path::Path, time::Duration};

use reqwest::{Method, StatusCode};
use serde_json::{Value as Json, json};
use tokio::sync::watch;

use crate::server::{Client, Server, inkling, output, until};

fn run(args: &[&str]) -> (bool, String) {
    let ended = output(&mut inkling(args.iter().copied()));
    (ended.status.success(), format!("{}{}", String::from_utf8_lossy(&ended.stdout), String::from_utf8_lossy(&ended.stderr)))
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Two kinds of people, three events each.
fn event(name: usize, n: usize) -> Json {
    let (user, item) = (n / 3, n % 3);
    let items = [["shop-rain-shell", "shop-trail-anorak", "shop-storm-jacket"], ["shop-trail-boots", "shop-trail-runners", "shop-trekking-poles"]];
    json!({"event_id": format!("e{name}-{n}"), "type": "click", "user_id": format!("u{name}-{user}"), "item_id": items[user % 2][item],
        "timestamp": "2025-01-01T00:00:00Z"})
}

/// Sends events until told to stop; gives the numbers of those that were acknowledged.
async fn write(client: Client, name: usize, stop: watch::Receiver<bool>) -> Vec<usize> {
    let mut acknowledged = Vec::new();
    for n in 0.. {
        if *stop.borrow() {
            break;
        }
        let reply = client.json(Method::POST, "/feedback", &event(name, n)).await;
        assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
        acknowledged.push(n);
    }
    acknowledged
}

/// The same event again is a duplicate where it is there, and new where it is not.
async fn stored(client: &Client, name: usize, n: usize) -> bool {
    client.post("/feedback", &event(name, n)).await["duplicates"] == 1
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_under_load_holds_all_that_was_acknowledged_before_it_and_can_be_served() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let server = Server::start(&data).await;
    let client = server.client();
    crate::shop::fill(&client).await;
    let (stop, stopped) = watch::channel(false);
    let writers: Vec<_> = (0..4).map(|name| tokio::spawn(write(client.clone(), name, stopped.clone()))).collect();
    until("some hundred events are in", || async { client.event_total().await > 300 }).await;
    let learned = client.post("/admin/train", &json!({})).await;
    let before = client.event_total().await;

    let (zip, plain) = (folder.path().join("backup.zip"), folder.path().join("backup"));
    let made: Vec<(bool, String)> = tokio::task::block_in_place(|| [&zip, &plain].map(|to| run(&["backup", text(to), "--data", text(&data)])).into());
    let during = client.event_total().await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    stop.send(true).unwrap();
    let mut acknowledged = Vec::new();
    for writer in writers {
        acknowledged.push(writer.await.unwrap());
    }
    server.stop().await;

    for (well, said) in &made {
        assert!(*well && said.contains("80 items"), "{said}");
    }
    assert!(during > before, "the writers went on: {before} to {during}");
    for from in [&zip, &plain] {
        let to = folder.path().join(format!("restored-{}", from.extension().is_some()));
        let (well, said) = run(&["restore", text(from), "--data", text(&to)]);
        assert!(well, "{said}");
        let (well, said) = run(&["restore", text(from), "--data", text(&to)]);
        assert!(!well && said.contains("not empty"), "{said}");

        let server = Server::start(&to).await;
        let client = server.client();
        let total = client.event_total().await;
        assert!(total >= before, "{total} of {before}");
        client.all_searchable().await;
        let answer = client.recommend(&json!({"text": "rain jacket", "user_id": "u1"})).await;
        assert_eq!(answer["degraded"], json!([]), "{answer}");
        assert!(server.log().iter().all(|line| !line.contains("cannot be used")), "{}", server.log().join("\n"));
        // Each writer's events are there from its first to one of its last, without a hole.
        for (name, sent) in acknowledged.iter().enumerate() {
            let mut last = sent.len();
            while last > 0 && !stored(&client, name, sent[last - 1]).await {
                last -= 1;
            }
            for n in sent[..last].iter().step_by(7) {
                assert!(stored(&client, name, *n).await, "event {n} of writer {name} is missing before {last}");
            }
        }
        server.stop().await;
    }
    assert!(folder.path().join("restored-true/artefacts/item-item").is_dir(), "what was learned came along: {learned}");
}

#[tokio::test]
async fn damaged_and_newer_backups_are_refused_and_leave_the_folder_empty() {
    let folder = tempfile::tempdir().unwrap();
    let (data, backup) = (folder.path().join("data"), folder.path().join("backup"));
    let items = folder.path().join("items.ndjson");
    fs::write(&items, "{\"item_id\": \"a\", \"title\": \"Tent\"}\n").unwrap();
    assert!(run(&["import", "items", text(&items), "--data", text(&data)]).0);
    let (well, said) = run(&["backup", text(&backup), "--data", text(&data)]);
    assert!(well, "{said}");
    assert!(!run(&["backup", text(&backup), "--data", text(&data)]).0, "a backup is not written over");
    let to = folder.path().join("to");
    let refused = |words: &str| {
        let (well, said) = run(&["restore", text(&backup), "--data", text(&to)]);
        assert!(!well && said.contains(words), "{words}: {said}");
        assert!(!to.exists(), "{words}");
    };

    let (database, manifest) = (backup.join("inkling.db"), backup.join("backup.json"));
    let (good, good_manifest) = (fs::read(&database).unwrap(), fs::read_to_string(&manifest).unwrap());
    fs::write(&database, &good[..good.len() / 2]).unwrap();
    refused("checksum");
    let mut flipped = good.clone();
    flipped[good.len() / 2] ^= 1;
    fs::write(&database, &flipped).unwrap();
    refused("checksum");
    fs::remove_file(&database).unwrap();
    refused("cannot be read");
    fs::write(&database, &good).unwrap();
    fs::write(&manifest, good_manifest.replace("\"migration\": ", "\"migration\": 9")).unwrap();
    refused("newer");
    fs::write(&manifest, &good_manifest[..good_manifest.len() / 2]).unwrap();
    refused("damaged");
    fs::remove_file(&manifest).unwrap();
    refused("no whole backup");

    fs::write(&manifest, &good_manifest).unwrap();
    let (well, said) = run(&["restore", text(&backup), "--data", text(&to)]);
    assert!(well && said.contains("1 items"), "{said}");
}

/// The old collection holds later states under higher revisions, so it took what the restored database knows for old, and kept nothing of it.
#[cfg(feature = "edge")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restored_catalogue_went_on_with_the_collection_on_the_server_that_knew_later_states() {
    let (folder, index) = (tempfile::tempdir().unwrap(), crate::qdrant::Storage::default());
    let index = crate::qdrant::Server::start_at(&index, "127.0.0.1:0".parse().unwrap(), None);
    let url = index.url();
    let settings = [("INKLING_INDEX__URL", url.as_str())];
    let [data, plain, to] = ["data", "backup", "restored"].map(|name| folder.path().join(name));
    let server = Server::start_with(&data, &settings).await;
    let client = server.client();
    client.json(Method::PUT, "/items/a", &json!({"title": "Copper kettle"})).await.good();
    client.all_searchable().await;
    let (well, said) = tokio::task::block_in_place(|| run(&["backup", text(&plain), "--data", text(&data)]));
    assert!(well, "{said}");
    client.json(Method::PUT, "/items/a", &json!({"title": "Wooden ladder"})).await.good();
    client.all_searchable().await;
    server.stop().await;

    let restored = tokio::task::block_in_place(|| output(inkling(["restore", text(&plain), "--data", text(&to)]).envs(settings)));
    let said = String::from_utf8_lossy(&restored.stdout).into_owned();
    assert!(restored.status.success() && said.contains("index.collection_prefix"), "{said}");
    // Opens the index as `serve` does, and would end by itself.
    let start = tokio::task::block_in_place(|| output(inkling(["train", "--data", text(&to)]).envs(settings)));
    let said = String::from_utf8_lossy(&start.stderr).into_owned();
    assert!(!start.status.success() && said.contains("before a restore") && said.contains("index.collection_prefix"), "{said}");

    let server = Server::start_with(&to, &[settings[0], ("INKLING_INDEX__COLLECTION_PREFIX", "restored_")]).await;
    let client = server.client();
    client.all_searchable().await;
    let answer = client.recommend(&json!({"text": "copper kettle", "explain": true, "limit": 1})).await;
    assert_eq!(answer["items"][0]["explanation"]["matched"], json!(["copper kettle"]), "{answer}");
    server.stop().await;
}
