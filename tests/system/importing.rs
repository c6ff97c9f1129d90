//! `inkling import` and `export` on a data folder and through a running server.

use std::{
    fmt::Write as _,
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::{Value as Json, json};

use crate::server::{PATIENCE, Server, inkling, output, settings_file};

const ITEMS: &str = include_str!("../../src/app/demo/items/shop.ndjson");

/// Runs a command on a data folder; its exit code, and what it printed and complained of.
fn run(data: &Path, args: &[&str]) -> (i32, String, String) {
    let ended = output(inkling(args.iter().copied().chain(["--data", data.to_str().unwrap()])).env("INKLING_API_KEY", "an admin's long random key"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (ended.status.code().unwrap(), text(&ended.stdout), text(&ended.stderr))
}

fn write(folder: &Path, name: &str, text: impl AsRef<[u8]>) -> String {
    let path = folder.join(name);
    fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

fn exported(data: &Path, what: &str) -> Vec<Json> {
    let (code, lines, said) = run(data, &["export", what]);
    assert_eq!(code, 0, "{said}");
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Events without ids or times, of which many are the same.
fn clicks(count: usize) -> String {
    let mut text = String::from("user_id,item_id,type\n");
    for n in 0..count {
        writeln!(text, "u{},i{},click", n % 50, n % 7).unwrap();
    }
    text
}

#[test]
fn an_import_says_what_it_saw_what_it_rejected_and_where() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let file = write(
        folder.path(),
        "items.ndjson",
        "{\"item_id\": \"a\", \"title\": \"Tent\"}\n{\"item_id\": \"b\"}\n{\"item_id\": \"c\", \"price\": \"low\"}\nnonsense\n",
    );

    let (code, counted, said) = run(&data, &["import", "items", &file]);

    assert_eq!(code, 3, "{said}");
    assert!(said.contains("items as NDJSON"), "{said}");
    for line in ["items.ndjson:2: /title", "items.ndjson:3: /price", "items.ndjson:4: is not JSON"] {
        assert!(said.contains(line), "{line}: {said}");
    }
    assert!(counted.contains("1 created") && counted.contains("3 rejected"), "{counted}");

    let (code, counted, said) = run(&data, &["import", "items", &file, "--errors", "1"]);
    assert!(code == 3 && counted.contains("1 unchanged") && counted.contains("2 of them not printed"), "{counted}{said}");
    let (code, _, said) = run(&data, &["import", "items", &file, "--strict"]);
    assert!(code == 1 && said.contains("--strict"), "{said}");
    let bad = write(folder.path(), "bad.ndjson", "{\"item_id\": \"b\"}\n");
    assert_eq!(run(&data, &["import", "items", &bad]).0, 1);
    let (code, _, said) = run(&data, &["import", "interactions", &file]);
    assert!(code == 1 && said.contains("these are items, not interactions"), "{said}");
    let fine = write(folder.path(), "fine.ndjson", "{\"item_id\": \"a\", \"title\": \"Tent\"}\n");
    assert_eq!(run(&data, &["import", "items", &fine]).0, 0);
}

#[test]
fn folders_of_other_systems_come_in_and_go_out_as_ours() {
    let folder = tempfile::tempdir().unwrap();
    let (data, movies) = (folder.path().join("data"), folder.path().join("ml"));
    fs::create_dir(&movies).unwrap();
    write(&movies, "movies.csv", "movieId,title,genres\n1,Toy Story (1995),Adventure|Children\n2,\"Matrix, The (1999)\",(no genres listed)\n");
    write(&movies, "ratings.csv", "userId,movieId,rating,timestamp\n1,1,4.0,964982703\n1,2,0.5,964981247\n");
    write(&movies, "tags.csv", "userId,movieId,tag,timestamp\n1,1,fun,1139045764\n");
    let movies = movies.to_str().unwrap();
    let gorse =
        write(folder.path(), "feedback.jsonl", "{\"FeedbackType\":\"star\",\"UserId\":\"u\",\"ItemId\":\"1\",\"Timestamp\":\"2024-01-02T03:04:05Z\"}\n");

    for args in [&["import", "items", movies][..], &["import", "interactions", movies], &["import", "interactions", &gorse, "--type", "star=like"]] {
        let (code, _, said) = run(&data, args);
        assert_eq!(code, 0, "{said}");
    }

    assert_eq!(
        exported(&data, "items")[0],
        json!({"item_id": "1", "title": "Toy Story", "categories": ["Adventure", "Children"], "available": true, "attributes": {"year": 1995.0}})
    );
    let events: Vec<String> =
        exported(&data, "interactions").iter().map(|event| format!("{} {} {}", event["type"], event["item_id"], event["timestamp"])).collect();
    assert_eq!(
        events,
        ["\"rating\" \"1\" \"2000-07-30T18:45:03.000Z\"", "\"rating\" \"2\" \"2000-07-30T18:20:47.000Z\"", "\"like\" \"1\" \"2024-01-02T03:04:05.000Z\""]
    );
    let packed = folder.path().join("out.ndjson.gz");
    assert_eq!(run(&data, &["export", "interactions", packed.to_str().unwrap()]).0, 0);
    assert_eq!(fs::read(&packed).unwrap()[..2], [0x1f, 0x8b]);
    let (code, counted, said) = run(&folder.path().join("other"), &["import", "interactions", packed.to_str().unwrap()]);
    assert!(code == 0 && counted.contains("3 new"), "{counted}{said}");
}

#[test]
fn an_export_whose_reader_had_seen_enough_ended_with_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let file = write(folder.path(), "clicks.csv", clicks(20_000));
    assert_eq!(run(&data, &["import", "interactions", &file]).0, 0);
    let mut export = inkling(["export", "interactions", "--data", data.to_str().unwrap()]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();

    let mut line = String::new();
    BufReader::with_capacity(1, export.stdout.take().unwrap()).read_line(&mut line).unwrap(); // and closes the pipe, as `head` does
    let ended = export.wait_with_output().unwrap();

    assert!(line.contains("\"click\""), "{line}");
    assert_eq!((ended.status.code(), String::from_utf8_lossy(&ended.stderr).as_ref()), (Some(0), ""));
}

#[tokio::test]
async fn an_import_killed_half_way_and_started_again_counts_nothing_twice() {
    const ROWS: usize = 150_000;
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let file = write(folder.path(), "clicks.csv", clicks(ROWS));
    let mut import = inkling(["import", "interactions", &file, "--data", data.to_str().unwrap()]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    // The progress record is written after the first second; most of the file is still to come then.
    let deadline = Instant::now() + PATIENCE;
    // Its folder comes before it, and it comes under a temporary name.
    let is_recorded =
        || std::fs::read_dir(data.join("imports")).is_ok_and(|files| files.flatten().any(|file| file.path().extension() == Some("json".as_ref())));
    while !is_recorded() && import.try_wait().unwrap().is_none() {
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let running = import.try_wait().unwrap().is_none();
    import.kill().unwrap();
    import.wait().unwrap();

    let (code, counted, said) = run(&data, &["import", "interactions", &file]);

    assert_eq!(code, 0, "{said}");
    if running {
        assert!(said.contains("going on after line"), "{said}");
        assert!(!counted.contains(&format!("{ROWS} new")), "{counted}");
    }
    assert_eq!(exported(&data, "interactions").len(), ROWS);
    assert!(!data.join("imports").exists());
    let (_, counted, _) = run(&data, &["import", "interactions", &file]);
    assert!(counted.contains(&format!("0 new, {ROWS} known already")), "{counted}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn through_a_running_server_the_same_rows_come_in_with_a_key() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let key =
        output(Command::new("sh").args(["-c", &format!("printf '%s' \"an admin's long random key\" | {} config hash-key", env!("CARGO_BIN_EXE_inkling"))]));
    let settings = settings_file(folder.path(), &format!("[http.keys]\nadmin = [{:?}]\n", String::from_utf8(key.stdout).unwrap().trim()));
    let server = Server::start_with_file(&data, &settings).await;
    let items = write(folder.path(), "items.ndjson", format!("{ITEMS}\n{{\"item_id\": \"bad\"}}\n"));
    let events = write(folder.path(), "clicks.csv", clicks(2_500));

    let refused = run(&data, &["import", "items", &items]);
    let imported = run(&data, &["import", "items", &items, "--url", server.address()]);
    let again = run(&data, &["import", "items", &items, "--url", server.address()]);
    let clicked = run(&data, &["import", "interactions", &events, "--url", server.address()]);
    let clicked_again = run(&data, &["import", "interactions", &events, "--url", server.address()]);
    let keyless = output(inkling(["import", "items", &items, "--url", server.address()]).env("INKLING_API_KEY", ""));

    assert!(refused.0 == 1 && refused.2.contains("--url"), "{refused:?}");
    assert!(imported.0 == 3 && imported.1.contains("80 created") && imported.1.contains("1 rejected (/title 1)"), "{imported:?}");
    assert!(again.1.contains("80 unchanged"), "{again:?}");
    assert!(clicked.0 == 0 && clicked.1.contains("2500 new"), "{clicked:?}");
    assert!(clicked_again.1.contains("0 new, 2500 known already"), "{clicked_again:?}");
    let keyless_said = String::from_utf8_lossy(&keyless.stderr).into_owned();
    assert!(!keyless.status.success() && keyless_said.contains("INKLING_API_KEY"), "{keyless_said}");
    assert_eq!(exported(&data, "items").len(), 80);
    server.stop().await;
}
