//! Starts that must fail with one clear line, and folders that must not stop a start.

use std::{fs, net::TcpListener, path::Path};

use serde_json::json;

use crate::server::{Client, Server, fetch_model, inkling, output, settings_file};

const COPPER: &str = "copper kettle for the stove";

/// Runs a start that must fail; what it said on stderr.
pub(crate) fn refused(args: &[&str], variables: &[(&str, &str)]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    fetch_model();

    let ended = output(inkling(["serve", "--data", data.to_str().unwrap()].into_iter().chain(args.iter().copied())).envs(variables.iter().copied()));

    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(!ended.status.success(), "{said}");
    let errors: Vec<_> = said.lines().filter(|line| line.starts_with("error: ")).collect();
    assert_eq!(errors.len(), 1, "{said}");
    assert_eq!(said.lines().last(), Some(errors[0]), "{said}");
    assert!(!said.contains("panicked"), "{said}");
    errors[0].to_owned()
}

#[test]
fn a_misspelt_key_in_the_settings_file_stops_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let file = settings_file(folder.path(), "[http]\nlissten = \"127.0.0.1:0\"\n");

    let line = refused(&["--config", file.to_str().unwrap()], &[]);

    assert!(line.contains("http.lissten") && line.contains("inkling.toml"), "{line}");
}

#[test]
fn a_misspelt_variable_stops_the_start_and_names_without_two_underscores_are_left_alone() {
    let line = refused(&[], &[("INKLING_HTTP__LISSTEN", "127.0.0.1:0")]);
    assert!(line.to_lowercase().contains("http.lissten"), "{line}");

    let line = refused(&[], &[("INKLING_HTTTP__LISTEN", "127.0.0.1:0")]);
    assert!(line.to_lowercase().contains("htttp"), "{line}");

    let shown = output(inkling(["config", "show"]).env("INKLING_FOO", "1").env("INKLING_HTTP__MAX_IN_FLIGHT", "77"));
    assert!(shown.status.success(), "{}", String::from_utf8_lossy(&shown.stderr));
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.lines().any(|line| line.starts_with("http.max_in_flight") && line.contains("= 77")), "{shown}");
}

#[test]
fn a_missing_file_a_wrong_type_and_an_unknown_model_stop_the_start() {
    assert!(refused(&["--config", "no-such.toml"], &[]).contains("no-such.toml"));
    assert!(refused(&[], &[("INKLING_HTTP__MAX_IN_FLIGHT", "many")]).contains("http.max_in_flight"));
    assert!(refused(&["--model", "no-such-model"], &[]).contains("no-such-model"));
    assert!(refused(&["--listen", "nowhere"], &[]).contains("nowhere"));
}

#[test]
fn a_port_in_use_stops_the_start() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();

    let line = refused(&["--listen", &address], &[]);

    assert!(line.contains(&address) && line.contains("--listen"), "{line}");
}

/// Serves three items from `data` and stops.
async fn filled(data: &Path) {
    let server = Server::start(data).await;
    let client = server.client();
    let items =
        json!([{"item_id": "kettle", "title": "Copper kettle"}, {"item_id": "chair", "title": "Oak chair"}, {"item_id": "rope", "title": "Climbing rope"}]);
    client.post("/items", &items).await;
    client.all_searchable().await;
    assert_finds_the_kettle(&client).await;
    server.stop().await;
}

async fn assert_finds_the_kettle(client: &Client) {
    let answer = client.recommend(&json!({"text": COPPER})).await;
    assert_eq!((&answer["items"][0]["item_id"], &answer["degraded"]), (&json!("kettle"), &json!([])), "{answer}");
    let sources = answer["items"][0]["sources"].as_array().unwrap();
    assert!(sources.contains(&json!("semantic")) && sources.contains(&json!("lexical")), "{answer}");
}

#[tokio::test]
async fn reindex_builds_a_deleted_index_anew() {
    let folder = tempfile::tempdir().unwrap();
    filled(folder.path()).await;
    fs::remove_dir_all(folder.path().join("index")).unwrap();

    let reindexed = output(&mut inkling(["reindex", "--data", folder.path().to_str().unwrap()]));

    assert!(reindexed.status.success(), "{}", String::from_utf8_lossy(&reindexed.stderr));
    assert!(String::from_utf8_lossy(&reindexed.stdout).contains("indexed 3 items"), "{}", String::from_utf8_lossy(&reindexed.stdout));
    let server = Server::start(folder.path()).await;
    assert_eq!(server.client().get("/stats").await.good()["items"], json!({"total": 3, "pending": 0}));
    assert_finds_the_kettle(&server.client()).await;
}

#[tokio::test]
async fn a_start_builds_a_missing_or_torn_index_anew_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    filled(folder.path()).await;
    let index = folder.path().join("index");
    let empty: fn(&Path) = |file| truncate(file, 0);
    let halve: fn(&Path) = |file| truncate(file, fs::metadata(file).unwrap().len() / 2);
    let scribble: fn(&Path) = |file| fs::write(file, vec![0xa5; usize::try_from(fs::metadata(file).unwrap().len().min(4_096)).unwrap()]).unwrap();

    for (name, harm) in [("emptied", empty), ("halved", halve), ("overwritten", scribble)] {
        for_each_file(&index, harm);

        let server = Server::start(folder.path()).await;
        let client = server.client();
        client.all_searchable().await;

        assert!(server.log().iter().any(|line| line.contains("building it anew")), "{name}: {}", server.log().join("\n"));
        assert_finds_the_kettle(&client).await;
        server.stop().await;
    }
    fs::remove_dir_all(&index).unwrap();
    let server = Server::start(folder.path()).await;
    server.client().all_searchable().await;
    assert_finds_the_kettle(&server.client()).await;
}

#[tokio::test]
async fn a_model_that_did_not_build_the_index_is_refused_with_the_command_that_builds_it_anew() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().to_str().unwrap();
    filled(folder.path()).await;
    // As wide as before, but read otherwise: only the version tells.
    let other = ("INKLING_ENCODER__MAX_TOKENS", "64");

    // Should it not be refused, it ends at the address.
    let serve = ["serve", "--data", data, "--listen", "nowhere"];
    let ended = output(inkling(serve).env(other.0, other.1));
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(!ended.status.success() && said.contains(&format!("`inkling reindex --data {data} --model ")), "{said}");

    let reindexed = output(inkling(["reindex", "--data", data]).env(other.0, other.1));
    assert!(reindexed.status.success(), "{}", String::from_utf8_lossy(&reindexed.stderr));
    let said = String::from_utf8_lossy(&output(&mut inkling(serve)).stderr).into_owned();
    assert!(said.contains("`inkling reindex --data"), "the index is of the other one now: {said}");
}

fn truncate(file: &Path, length: u64) {
    fs::OpenOptions::new().write(true).open(file).unwrap().set_len(length).unwrap();
}

fn for_each_file(folder: &Path, act: fn(&Path)) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            for_each_file(&path, act);
        } else if !["shape.json", "serving.json"].iter().any(|ours| path.ends_with(ours)) {
            act(&path); // those two are ours and read first: the engine's own files must be looked at too
        }
    }
}

#[test]
fn the_demo_finds_itself_well_and_keeps_off_a_shops_servers() {
    fetch_model();
    let (database, index) = ("postgres://shop@127.0.0.1:1/shop", "http://127.0.0.1:1");

    let ended = output(inkling(["demo", "--check"]).env("INKLING_STORE__URL", database).env("INKLING_INDEX__URL", index));

    let said = String::from_utf8_lossy(&ended.stdout).into_owned();
    assert!(ended.status.success() && said.contains("all is well"), "{said}\n{}", String::from_utf8_lossy(&ended.stderr));
    let across = said.lines().skip_while(|line| !line.starts_with("words whose item"));
    for (words, title) in [("\"dinosaur footprints\"", "恐龙脚印"), ("\"头灯\"", "Head Torch"), ("language = zh", "拾雨"), ("language = en", "Keyboard")]
    {
        assert!(across.clone().any(|line| line.contains(words) && line.contains(title)), "{words}: {said}");
    }
}
