//! A disk that is full or read-only: writes are refused and say when to come again, answers go on, and recovery needs no hand.
//!
//! For SQLite and the index no file system is filled: that takes the right to mount one, which plain containers and users do not have. `RLIMIT_FSIZE`, lowered and
//! raised again while the server runs (`prlimit`), makes every write and every growth of a file fail with EFBIG, where a full disk says ENOSPC;
//! SQLite and the index take both as a write that failed. `chmod` does not bind root, so for root the server runs without that privilege.
//! Postgres, whose processes come and go, gets a small disk of its own where that right is there.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use futures::future::join_all;
use reqwest::{Method, StatusCode};
use serde_json::{Value as Json, json};
use sqlx::{Connection, PgConnection};

use crate::{
    faults::{assert_each_is_there_once, event, insist},
    postgres_server,
    server::{Client, Server, fetch_model, inkling, output, until},
};

/// Runs a program for whom a write past `RLIMIT_FSIZE` is an error and not the end, and for whom permissions count even as root.
fn bound() -> Command {
    let is_root = fs::metadata("/proc/self").unwrap().uid() == 0;
    let privileges = if is_root { "setpriv --bounding-set=-dac_override,-dac_read_search" } else { "" };
    let mut command = Command::new("sh");
    command.args(["-c", &format!("trap '' XFSZ; exec {privileges} \"$@\""), "sh"]);
    command
}

/// From now on no file can be written past so many bytes; `unlimited` takes that back.
fn limit_files(server: &Server, bytes: &str) {
    // The soft limit alone: the hard one could not be raised again.
    assert!(Command::new("prlimit").args(["--pid", &server.pid().to_string(), &format!("--fsize={bytes}:")]).status().unwrap().success());
}

async fn serve(data: &Path) -> Server {
    Server::start_under(bound(), &inkling(["serve"]), data).await
}

/// Whatever is written is refused with 503 and `Retry-After`, and what is read is there.
async fn assert_reads_only(client: &Client) {
    for (method, path, body) in [
        (Method::POST, "/feedback", json!({"type": "click", "user_id": "bob", "item_id": "lamp"})),
        (Method::POST, "/items", json!([{"item_id": "new", "title": "Oak chair"}])),
        (Method::PUT, "/items/new", json!({"title": "Oak chair"})),
        (Method::PATCH, "/items/lamp", json!({"price": 7})),
        (Method::DELETE, "/items/rope", json!(null)),
    ] {
        let refused = client.json(method.clone(), path, &body).await;
        assert_eq!((refused.status, refused.retry_after.as_deref()), (StatusCode::SERVICE_UNAVAILABLE, Some("1")), "{method} {path}: {}", refused.text());
        assert!(refused.pointers().is_empty());
    }
    let lines: String = (0..3).map(|n| format!("{}\n", json!({"type": "click", "user_id": "bob", "item_id": n.to_string()}))).collect();
    assert_eq!(client.lines("/feedback", lines).await.status, StatusCode::SERVICE_UNAVAILABLE);
    for n in 0..5 {
        let answer = client.recommend(&json!({"user_id": format!("new-{n}"), "text": "a lamp"})).await;
        assert_eq!((&answer["items"][0]["item_id"], &answer["degraded"]), (&json!("lamp"), &json!([])), "{answer}");
    }
    assert_eq!(client.get("/items/lamp").await.good()["title"], "Oil lamp");
    assert_eq!(client.get("/health/ready").await.status, StatusCode::OK);
}

async fn fill(client: &Client) {
    client.post("/items", &json!([{"item_id": "lamp", "title": "Oil lamp"}, {"item_id": "rope", "title": "Climbing rope"}])).await;
    client.all_searchable().await;
}

/// Writes succeed and become searchable without a restart.
async fn assert_recovers(client: &Client) {
    until("writes are taken again", || async { client.json(Method::PUT, "/items/late", &json!({"title": "Brass bell"})).await.status.is_success() }).await;
    client.all_searchable().await;
    let answer = client.recommend(&json!({"text": "brass bell", "limit": 1})).await;
    assert_eq!((&answer["items"][0]["item_id"], &answer["degraded"]), (&json!("late"), &json!([])), "{answer}");
    assert_eq!(client.get("/items/lamp").await.good()["price"], json!(null), "what was refused is not there");
}

fn assert_no_panic(server: &Server) {
    let log = server.log();
    assert!(!log.iter().any(|line| line.contains("panicked")), "{}", log.join("\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_disk_is_full_writes_are_refused_answers_go_on_and_recovery_needs_no_hand() {
    let folder = tempfile::tempdir().unwrap();
    let server = serve(folder.path()).await;
    let client = server.client();
    fill(&client).await;
    let stop = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..4).map(|writer| tokio::spawn(insist(client.clone(), writer, Arc::clone(&stop)))).collect();
    until("some events are in", || async { client.event_total().await > 20 }).await;
    let unindexed: Vec<_> = (0..40).map(|n| json!({"item_id": format!("pot-{n}"), "title": format!("Pot number {n}")})).collect();
    client.post("/items", &json!(unindexed)).await;

    for _ in 0..3 {
        limit_files(&server, "1");
        assert_reads_only(&client).await;
        let trained = client.json(Method::POST, "/admin/train", &json!(null)).await;
        assert_ne!(trained.status, StatusCode::INTERNAL_SERVER_ERROR, "{}", trained.text());
        limit_files(&server, "unlimited");
        let before = client.event_total().await;
        until("events are taken again", || async { client.event_total().await > before }).await;
    }
    assert_recovers(&client).await;
    let pots = client.ids(&json!({"text": "pot number", "limit": 50, "filter": {"none_of": [{"item_id": ["lamp", "rope", "late"]}]}})).await;
    assert_eq!(pots.len(), 40, "{pots:?}");
    stop.store(true, Ordering::Relaxed);
    let taken: Vec<String> = join_all(writers).await.into_iter().flat_map(Result::unwrap).collect();
    assert_each_is_there_once(&client, &taken).await;
    assert_no_panic(&server);
    server.stop().await;

    let server = serve(folder.path()).await;
    assert_each_is_there_once(&server.client(), &taken).await;
    assert_eq!(server.client().get("/stats").await.good()["items"], json!({"total": 43, "pending": 0}));
    server.stop().await;
}

fn set_mode(data: &Path, file: u32, folder: u32) {
    for entry in fs::read_dir(data).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file()) {
        fs::set_permissions(entry, PermissionsExt::from_mode(file)).unwrap();
    }
    fs::set_permissions(data, PermissionsExt::from_mode(folder)).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_database_is_read_only_writes_are_refused_answers_go_on_and_recovery_needs_no_hand() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let server = serve(&data).await;
    let client = server.client();
    fill(&client).await;
    client.post("/feedback", &event("first")).await;

    // Open files stay writable; after a failed commit the file is opened anew.
    set_mode(&data, 0o400, 0o500);
    limit_files(&server, "1");
    assert_eq!(client.json(Method::POST, "/feedback", &event("second")).await.status, StatusCode::SERVICE_UNAVAILABLE);
    limit_files(&server, "unlimited");
    assert_reads_only(&client).await;
    set_mode(&data, 0o600, 0o700);

    assert_recovers(&client).await;
    assert_eq!(client.post("/feedback", &event("second")).await["accepted"], 1);
    assert_each_is_there_once(&client, &["first".to_owned(), "second".to_owned()]).await;
    assert_no_panic(&server);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_data_folder_or_database_that_cannot_be_written_stops_the_start_with_its_name() {
    fetch_model();
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let server = serve(&data).await;
    fill(&server.client()).await;
    server.stop().await;
    let refused = || {
        let serve = inkling(["serve", "--data", data.to_str().unwrap(), "--listen", "127.0.0.1:0"]);
        let ended = output(bound().arg(serve.get_program()).args(serve.get_args()));
        let said = String::from_utf8_lossy(&ended.stderr).into_owned();
        let errors: Vec<&str> = said.lines().filter(|line| line.starts_with("error: ")).collect();
        assert!(!ended.status.success() && errors.len() == 1 && !said.contains("panicked"), "{said}");
        errors[0].to_owned()
    };

    set_mode(&data, 0o400, 0o500);
    let line = refused();
    assert!(line.contains(data.to_str().unwrap()), "{line}");
    set_mode(&data, 0o600, 0o700);
    fs::set_permissions(data.join("inkling.db"), PermissionsExt::from_mode(0o400)).unwrap();
    let line = refused();
    assert!(line.contains(data.join("inkling.db").to_str().unwrap()), "{line}");

    set_mode(&data, 0o600, 0o700);
    let server = serve(&data).await;
    assert_eq!(server.client().get("/stats").await.good()["items"], json!({"total": 2, "pending": 0}));
    server.stop().await;
}

/// A file system in memory that can be filled.
struct SmallDisk {
    folder: PathBuf,
    _guard: Child,
}

impl SmallDisk {
    fn mount() -> Self {
        let folder = tempfile::tempdir().unwrap().keep();
        assert!(Command::new("mount").args(["-t", "tmpfs", "-o", "size=256m", "none"]).arg(&folder).status().unwrap().success());
        // Gone when this process is, however it ends; after the guard of the server on it, which waits a second for that server.
        let script = r#"cat > /dev/null; sleep 3; umount --lazy "$1"; rmdir "$1""#;
        let guard = Command::new("sh").args(["-c", script, "sh"]).arg(&folder).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        Self { folder, _guard: guard.unwrap() }
    }

    fn ballast(&self) -> PathBuf {
        self.folder.join("ballast")
    }

    /// Leaves not a page.
    fn fill(&self) {
        let mut ballast = fs::File::create(self.ballast()).unwrap();
        let error = std::io::copy(&mut std::io::repeat(1), &mut ballast).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
    }

    fn free(&self) {
        fs::remove_file(self.ballast()).unwrap();
    }
}

/// Puts items that take new pages until one is refused.
async fn put_until_refused(client: &Client) {
    for n in 0.. {
        assert!(n < 200, "all is taken");
        // As good as random, so that it stays large.
        let text: String = (0..2_000u64).map(|i| format!("{:x} ", (i + 1).wrapping_mul(n + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15))).collect();
        let reply = client.json(Method::PUT, &format!("/items/large-{n}"), &json!({"title": "Large", "available": false, "text": text})).await;
        if !reply.status.is_success() {
            assert_eq!((reply.status, reply.retry_after.as_deref()), (StatusCode::SERVICE_UNAVAILABLE, Some("1")), "{}", reply.text());
            assert!(reply.pointers().is_empty());
            return;
        }
    }
}

/// Lists are whole, but for what the store alone knows where it does not answer at all.
async fn assert_answers(client: &Client, degraded: &[Json]) {
    for n in 0..5 {
        let answer = client.recommend(&json!({"user_id": format!("new-{n}"), "text": "a lamp"})).await;
        assert_eq!(answer["items"][0]["item_id"], "lamp", "{answer}");
        assert!(degraded.contains(&answer["degraded"]), "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[cfg_attr(not(all(postgres_programs, mounts)), ignore = "needs PostgreSQL (apt install postgresql) and the right to mount a file system")]
async fn while_the_disk_of_postgres_is_full_writes_are_refused_answers_go_on_and_recovery_needs_no_hand() {
    let disk = SmallDisk::mount();
    let mut postgres = postgres_server::Server::start_in(disk.folder.clone());
    let (folder, url) = (tempfile::tempdir().unwrap(), postgres.database().await);
    let server = Server::start_with(folder.path(), &[("INKLING_STORE__URL", &url)]).await;
    let client = server.client();
    fill(&client).await;
    let stop = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..4).map(|writer| tokio::spawn(insist(client.clone(), writer, Arc::clone(&stop)))).collect();
    until("some events are in", || async { client.event_total().await > 20 }).await;

    // Tables cannot grow: statements fail, the server stays.
    for _ in 0..2 {
        disk.fill();
        put_until_refused(&client).await;
        assert_answers(&client, &[json!([])]).await;
        disk.free();
        let before = client.event_total().await;
        until("events are taken again", || async { client.event_total().await > before }).await;
    }
    // The log cannot grow either: the server panics, and does not come back while that is so.
    disk.fill();
    let mut onlooker = PgConnection::connect(&url).await.unwrap();
    drop(sqlx::query("SELECT pg_switch_wal()").execute(&mut onlooker).await);
    drop(onlooker);
    until("no write is taken", || async { client.json(Method::POST, "/feedback", &event("never")).await.status == StatusCode::SERVICE_UNAVAILABLE }).await;
    assert_answers(&client, &[json!([]), json!(["store"])]).await;
    disk.free();
    postgres.stop();
    postgres.resume(); // as its service manager does

    until("writes are taken again", || async { client.json(Method::PUT, "/items/late", &json!({"title": "Brass bell"})).await.status.is_success() }).await;
    until("reads are answered again", || async { client.get("/stats").await.status == StatusCode::OK }).await; // on connections of their own
    client.all_searchable().await;
    until("answers are whole again", || async { client.recommend(&json!({"user_id": "eve", "text": "a bell"})).await["degraded"] == json!([]) }).await;
    assert_eq!(client.ids(&json!({"text": "brass bell", "limit": 1})).await, ["late"]);
    stop.store(true, Ordering::Relaxed);
    let taken: Vec<String> = join_all(writers).await.into_iter().flat_map(Result::unwrap).collect();
    assert_each_is_there_once(&client, &taken).await;
    assert_no_panic(&server);
    server.stop().await;
}
