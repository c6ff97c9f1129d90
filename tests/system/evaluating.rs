//! `inkling evaluate` on a data folder and on a shop's own log.

use std::{collections::BTreeMap, fmt::Write as _, fs, path::Path, time::SystemTime};

use serde_json::{Value as Json, json};

use crate::server::{fetch_model, inkling, output};

/// Half of the users like things of one kind, the others of another; everybody buys the bestseller first, so popularity knows no kind.
fn small_shop(folder: &Path) {
    let mut items = String::new();
    for n in 0..40 {
        let (kind, language) = if n < 20 { ("tent for the mountains", "en") } else { ("book about the sea", "de") };
        writeln!(items, "{}", json!({"item_id": format!("i{n}"), "title": format!("{kind} {n}"), "language": language})).unwrap();
    }
    let mut rows = String::from("user_id,item_id,event,timestamp,split\n");
    for user in 0..40 {
        for n in 0..6 {
            let item = (user % 2) * 20 + (user / 2 * 3 + n * (n + 1) / 2) % 20;
            writeln!(rows, "u{user},i{item},buy,{},{}", user + 3 * n, if n < 4 { "train" } else { "test" }).unwrap();
        }
    }
    fs::create_dir_all(folder).unwrap();
    fs::write(folder.join("items.jsonl"), items).unwrap();
    fs::write(folder.join("interactions.csv"), rows).unwrap();
    let query = json!({"query_id": "q", "text": "for the mountains", "relevant": [{"item_id": "i3", "grade": 2}, {"item_id": "i4"}]});
    fs::write(folder.join("queries.jsonl"), query.to_string()).unwrap();
}

/// Runs `inkling evaluate` with a report; what it printed, the JSON and the page.
fn evaluate(place: &Path, args: &[&str]) -> (String, Json, String) {
    fetch_model();
    let (json, html) = (place.join("report.json"), place.join("report.html"));
    let files = ["--json", json.to_str().unwrap(), "--html", html.to_str().unwrap()];
    let ended = output(inkling(["evaluate"].into_iter().chain(args.iter().copied()).chain(files)).current_dir(place));
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(ended.status.success(), "{said}");
    (String::from_utf8(ended.stdout).unwrap(), serde_json::from_slice(&fs::read(json).unwrap()).unwrap(), fs::read_to_string(html).unwrap())
}

fn ndcg(report: &Json, name: &str) -> f64 {
    let policies = report["policies"].as_array().unwrap();
    policies.iter().find(|policy| policy["name"] == name).unwrap()["measures"]["ndcg@10"]["mean"].as_f64().unwrap()
}

/// Every file with its size and time.
fn files(folder: &Path, found: &mut BTreeMap<String, (u64, SystemTime)>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let told = fs::metadata(&path).unwrap();
        if path.is_dir() {
            files(&path, found);
        } else {
            found.insert(path.to_string_lossy().into_owned(), (told.len(), told.modified().unwrap()));
        }
    }
}

#[test]
fn a_folder_is_replayed_against_baselines_into_a_table_json_and_a_page_twice_the_same() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("small");
    small_shop(&folder);
    let folder = folder.to_str().unwrap();

    let (table, report, page) = evaluate(place.path(), &[folder, "--task", "sequence"]);
    let (_, again, _) = evaluate(place.path(), &[folder]);

    assert_eq!(report, again, "the same data and seed give the same report, and sequence is the task of a folder with interactions");
    assert!(table.contains("EASE^R") && table.contains("NDCG@10") && table.contains("popularity"), "{table}");
    assert!(ndcg(&report, "ease") > ndcg(&report, "popularity") && ndcg(&report, "ours") > ndcg(&report, "popularity"), "{table}");
    let names: Vec<&str> = report["policies"].as_array().unwrap().iter().map(|policy| policy["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["ours", "popularity", "item-knn", "ease", "als", "dense"], "without words there is no BM25");
    let (questions, units) = (report["data"]["questions"].as_u64().unwrap(), report["data"]["units"].as_u64().unwrap());
    assert!(questions > 60 && units == 40, "{report}");
    assert!(report["policies"].as_array().unwrap().iter().all(|policy| policy["n"] == questions && policy["measures"]["map@5"]["n"] == questions));
    let segments = report["segments"].as_array().unwrap();
    assert!(segments.iter().any(|one| one["by"] == "language" && one["name"] == "de" && one["few_units"] == true), "{report}");
    assert!(page.starts_with("<!DOCTYPE html>") && page.contains("<svg"));
    let inside = page.replace("http://www.w3.org/2000/svg", "");
    assert!(!inside.contains("http:") && !inside.contains("https:") && !inside.contains("src=") && !inside.contains("href=") && !inside.contains("<script"));
}

#[test]
fn words_are_asked_of_bm25_and_embeddings_and_grades_count() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("small");
    small_shop(&folder);

    let (table, report, _) = evaluate(place.path(), &[folder.to_str().unwrap(), "--task", "text", "--baselines", "bm25,dense,ease"]);

    let names: Vec<&str> = report["policies"].as_array().unwrap().iter().map(|policy| policy["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["ours", "bm25", "dense"], "nobody has a history");
    assert!(ndcg(&report, "bm25") > 0.0, "{table}");
    assert_eq!(report["data"]["events"], 0);
}

#[test]
fn the_own_log_is_replayed_from_a_folder_that_stays_as_it_was() {
    let place = tempfile::tempdir().unwrap();
    let (folder, data) = (place.path().join("small"), place.path().join("data"));
    small_shop(&folder);
    let data = data.to_str().unwrap();
    for (what, file) in [("items", "items.jsonl"), ("interactions", "interactions.csv")] {
        let path = folder.join(file);
        let path = path.to_str().unwrap();
        let extra: &[&str] = if what == "items" {
            &["--format", "ndjson"]
        } else {
            &["--ignore", "split", "--ignore", "event", "--default-type", "purchase", "--time-unit", "s"]
        };
        let imported = output(&mut inkling(["import", what, path, "--data", data].into_iter().chain(extra.iter().copied())));
        assert!(imported.status.success(), "{}", String::from_utf8_lossy(&imported.stderr));
    }
    let (mut before, mut after) = (BTreeMap::new(), BTreeMap::new());
    files(Path::new(data), &mut before);

    let (table, report, _) = evaluate(place.path(), &["--data", data, "--split", "1970-01-01T00:00:30Z", "--limit", "50"]);

    files(Path::new(data), &mut after);
    before.retain(|name, _| !name.ends_with("-shm") && !name.ends_with("-wal"));
    after.retain(|name, _| !name.ends_with("-shm") && !name.ends_with("-wal"));
    assert_eq!(before, after);
    assert_eq!((&report["data"]["task"], &report["data"]["questions"]), (&json!("log"), &json!(50)), "{table}");
    assert!(report["notes"].as_array().unwrap().iter().any(|note| note.as_str().unwrap().contains("50 of")), "{report}");
    assert!(ndcg(&report, "ours") > ndcg(&report, "popularity"), "{table}");
}

#[test]
fn what_cannot_be_replayed_is_said_in_one_line_before_any_work() {
    let place = tempfile::tempdir().unwrap();
    let empty = place.path().to_str().unwrap();

    for (args, said) in [
        (vec!["evaluate", empty], "items.jsonl"),
        (vec!["evaluate", "--task", "text", "--data", empty], "--task is for a data folder"),
        (vec!["evaluate", empty, "--json", "no/such/folder/report.json"], "cannot be written"),
        (vec!["evaluate", empty, "--split", "yesterday"], "a date such as"),
    ] {
        let ended = output(&mut inkling(args.iter().copied()));
        let told = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert!(!ended.status.success() && told.contains(said), "{args:?}: {told}");
    }
}
