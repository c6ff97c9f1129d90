//! `kill -9` at any moment of a mixed load, of the server and of Postgres: what was acknowledged is there, once, and the index has what the
//! store has. A killed process leaves what it wrote in the system's memory, so this shows nothing about a missing fsync: the last test does.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fs,
    path::Path,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::future::{BoxFuture, FutureExt, join_all};
use reqwest::{Method, StatusCode};
use serde_json::{Value as Json, json};
use sqlx::{Connection, PgConnection, Row, SqliteConnection};

use crate::{
    postgres_server,
    server::{Client, Server, fetch_other, ids, inkling, outlive_not, until},
};

/// The smaller model starts sooner; a busy machine must not make an answer incomplete.
const SETTINGS: [(&str, &str); 3] =
    [("INKLING_ENCODER__MODEL", "all-minilm-l6-v2"), ("INKLING_HTTP__DEADLINE_MS", "30000"), ("INKLING_HTTP__REQUEST_TIMEOUT_MS", "60000")];
const JSON: [(&str, &str); 1] = [("content-type", "application/json")];
/// Prices are below twice this; half of the items are found above it, half below.
const MEAN_PRICE: u64 = 500;

/// How often the server is killed: 20 times, or as often as `INKLING_TEST_CRASH_ROUNDS` says.
fn rounds() -> u64 {
    std::env::var("INKLING_TEST_CRASH_ROUNDS").map_or(20, |rounds| rounds.parse().unwrap())
}

/// Chance (SplitMix64), so that a failure's seed plays the same load again, if not the same moments.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (x ^ (x >> 31)) % end
    }

    fn thrown(&mut self) -> Self {
        Self(self.below(u64::MAX))
    }
}

/// What a shop knows of an item: its price, or that it is not there.
#[derive(Debug, Clone, Default)]
struct Known {
    now: Option<u64>,
    /// What a write that was not answered would have made of it.
    perhaps: Option<Option<u64>>,
}

/// What the callers of the server know.
#[derive(Default)]
struct Written {
    sent: Vec<String>,
    acknowledged: Vec<String>,
    items: BTreeMap<String, Known>,
    asked: u64,
    /// What was shown, by the recommendation's id.
    shown: HashMap<String, Vec<String>>,
}

impl Written {
    fn take(&mut self, other: Self) {
        self.sent.extend(other.sent);
        self.acknowledged.extend(other.acknowledged);
        self.items.extend(other.items);
        self.asked += other.asked;
        self.shown.extend(other.shown);
    }
}

/// Asks until it is answered with anything else than 503, whose form is checked; `None` when the server is gone.
async fn insist(client: &Client, method: Method, path: &str, body: &Json) -> Option<(StatusCode, Json)> {
    loop {
        let reply = client.try_send(method.clone(), path, &JSON, body.to_string()).await.ok()?;
        if reply.status != StatusCode::SERVICE_UNAVAILABLE {
            return Some((reply.status, if reply.bytes.is_empty() { Json::Null } else { reply.value() }));
        }
        assert_eq!((reply.retry_after.as_deref(), reply.pointers().len()), (Some("1"), 0), "{}", reply.text());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn event(id: &str) -> Json {
    json!({"event_id": id, "type": "click", "user_id": format!("user-{}", id.len() % 7), "item_id": "some item", "timestamp": "2025-01-01T00:00:00Z"})
}

async fn send_events_with_ids(client: Client, name: String, done: Arc<AtomicU64>) -> Written {
    let mut written = Written::default();
    for n in 0.. {
        let ids: Vec<String> = (0..3).map(|i| format!("{name}-{n}-{i}")).collect();
        written.sent.extend(ids.iter().cloned());
        let body = json!(ids.iter().map(|id| event(id)).collect::<Vec<_>>());
        let Some((status, counts)) = insist(&client, Method::POST, "/feedback", &body).await else { break };
        assert_eq!(status, StatusCode::OK, "{counts}");
        assert_eq!(counts["accepted"].as_u64().unwrap() + counts["duplicates"].as_u64().unwrap(), 3, "{counts}");
        written.acknowledged.extend(ids);
        done.fetch_add(1, Ordering::Relaxed);
    }
    written
}

/// Each is sent once, whatever becomes of it: a second one would count.
async fn send_events_without_ids(client: Client, name: String) -> Written {
    let mut written = Written::default();
    for n in 0.. {
        let item = format!("{name}-{n}");
        written.sent.push(item.clone());
        let body = json!({"type": "view", "session_id": name, "item_id": item}).to_string();
        let Ok(reply) = client.try_send(Method::POST, "/feedback", &JSON, body).await else { break };
        if reply.status == StatusCode::SERVICE_UNAVAILABLE {
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        }
        assert_eq!(reply.good()["accepted"], 1);
        written.acknowledged.push(item);
    }
    written
}

/// Writes the items of a group, and changes and deletes them and those of earlier groups.
async fn write_items(client: Client, group: String, mut dice: Dice, items: BTreeMap<String, Known>, done: Arc<AtomicU64>) -> Written {
    let mut written = Written { items, ..Written::default() };
    for n in 0.. {
        let old = written.items.iter().nth(dice.below(1 + written.items.len() as u64) as usize).map(|(id, known)| (id.clone(), known.now));
        let price = dice.below(2 * MEAN_PRICE);
        let (id, method, becomes) = match (dice.below(4), old) {
            (0, Some((id, Some(_)))) => (id, Method::PATCH, Some(price)),
            (1, Some((id, Some(_)))) => (id, Method::DELETE, None),
            (0 | 1, Some((id, None))) => (id, Method::PUT, Some(price)), // a deleted one comes back
            _ => (format!("{group}-{n}"), Method::PUT, Some(price)),
        };
        let body = match method {
            Method::PUT => json!({"title": format!("Lamp {id}"), "tags": [id.rsplit_once('-').unwrap().0], "price": price}),
            Method::PATCH => json!({"price": price}),
            _ => Json::Null,
        };
        written.items.entry(id.clone()).or_default().perhaps = Some(becomes);
        let Some((status, said)) = insist(&client, method.clone(), &format!("/items/{id}"), &body).await else { break };
        // A deletion that was done but not answered finds nothing the second time.
        assert!(status.is_success() || (method == Method::DELETE && status == StatusCode::NOT_FOUND), "{method} {id}: {status} {said}");
        written.items.insert(id, Known { now: becomes, perhaps: None });
        done.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(10)).await; // leaves something to index at each kill, not everything
    }
    written
}

async fn ask(client: Client, name: String, done: Arc<AtomicU64>) -> Written {
    let mut written = Written::default();
    loop {
        written.asked += 1;
        let request = json!({"user_id": name, "text": "a lamp", "limit": 5, "scenario": "load"}).to_string();
        let Ok(reply) = client.try_send(Method::POST, "/recommend", &JSON, request).await else { break };
        let answer = reply.good(); // whatever is killed, this is never refused
        written.shown.insert(answer["recommendation_id"].as_str().unwrap().to_owned(), ids(&answer));
        done.fetch_add(1, Ordering::Relaxed);
    }
    written
}

/// The database that is crashed, and its server where it has one.
struct Truth<'a> {
    data: &'a Path,
    postgres: Option<(postgres_server::Server, String)>,
}

impl Truth<'_> {
    /// Two columns of text, past the server.
    async fn rows(&self, query: &'static str) -> Vec<(String, String)> {
        match &self.postgres {
            None => {
                let mut file = SqliteConnection::connect(&format!("sqlite://{}?mode=ro", self.data.join("inkling.db").display())).await.unwrap();
                sqlx::query(query).fetch_all(&mut file).await.unwrap().iter().map(|row| (row.get(0), row.get(1))).collect()
            }
            Some((_, url)) => {
                let mut server = PgConnection::connect(url).await.unwrap();
                sqlx::query(query).fetch_all(&mut server).await.unwrap().iter().map(|row| (row.get(0), row.get(1))).collect()
            }
        }
    }

    async fn serve(&self) -> Server {
        let mut settings = SETTINGS.to_vec();
        if let Some((_, url)) = &self.postgres {
            settings.push(("INKLING_STORE__URL", url));
        }
        Server::start_with(self.data, &settings).await
    }

    async fn crash(&mut self, seed: u64) {
        let mut dice = Dice(seed);
        let mut all = Written::default();
        for round in 0..rounds() {
            let server = self.serve().await;
            let client = server.client();
            self.verify(&client, &mut all).await;
            let groups: Vec<String> = (0..2).map(|writer| format!("r{round}w{writer}")).collect();
            let before = all.items.clone();
            let mut share: Vec<BTreeMap<String, Known>> = vec![BTreeMap::new(); groups.len()];
            for (n, (id, known)) in before.into_iter().enumerate() {
                share[n % groups.len()].insert(id, known);
            }
            let progress: Vec<Arc<AtomicU64>> = (0..6).map(|_| Arc::default()).collect();
            let mut load: Vec<BoxFuture<'static, Written>> = Vec::new();
            for (n, (group, items)) in groups.iter().zip(share).enumerate() {
                let name = |kind: &str| format!("{kind}{round}w{n}");
                load.push(send_events_with_ids(client.clone(), name("id"), Arc::clone(&progress[3 * n])).boxed());
                load.push(write_items(client.clone(), group.clone(), dice.thrown(), items, Arc::clone(&progress[3 * n + 1])).boxed());
                load.push(ask(client.clone(), name("user"), Arc::clone(&progress[3 * n + 2])).boxed());
                load.push(send_events_without_ids(client.clone(), name("once")).boxed());
            }
            let load: Vec<_> = load.into_iter().map(tokio::spawn).collect();
            until("everybody was answered", || async { progress.iter().all(|done| done.load(Ordering::Relaxed) > 0) }).await;
            tokio::time::sleep(Duration::from_millis(dice.below(400))).await;
            if let Some((postgres, _)) = &mut self.postgres
                && round % 3 == 2
            {
                if round % 2 == 0 {
                    postgres.crash()
                } else {
                    postgres.stop()
                }
                tokio::time::sleep(Duration::from_millis(dice.below(200))).await;
                postgres.resume();
                tokio::time::sleep(Duration::from_millis(dice.below(400))).await;
            }
            server.kill();
            for written in join_all(load).await {
                all.take(written.unwrap());
            }
        }
        let server = self.serve().await;
        let client = server.client();
        self.verify(&client, &mut all).await;

        assert!(all.acknowledged.len() as u64 > 3 * rounds() && all.items.len() as u64 > rounds(), "{} events", all.acknowledged.len());
        let groups: HashSet<&str> = all.items.keys().map(|id| id.rsplit_once('-').unwrap().0).collect();
        for group in groups {
            assert_group_is_found(&client, group, &all.items).await;
        }
        let total = client.event_total().await;
        let named: Vec<&String> = all.acknowledged.iter().filter(|id| id.starts_with("id")).collect();
        for ids in named.chunks(1_000) {
            let again = client.post("/feedback", &json!(ids.iter().map(|id| event(id)).collect::<Vec<_>>())).await;
            assert_eq!(again, json!({"accepted": 0, "duplicates": ids.len(), "rejected": []}));
        }
        assert_eq!(client.event_total().await, total);
        server.stop().await;
    }

    /// Everything that was acknowledged is in the store, once; what was not answered either is or is not; and the index has what the store has.
    async fn verify(&self, client: &Client, all: &mut Written) {
        let mut stored: HashMap<String, u64> = HashMap::new();
        for (key, kind) in self.rows("SELECT COALESCE(event_id, item_id), kind FROM events").await {
            assert_eq!(kind == "click", key.starts_with("id"));
            *stored.entry(key).or_default() += 1;
        }
        let sent: HashSet<&String> = all.sent.iter().collect();
        assert!(stored.iter().all(|(key, times)| *times == 1 && sent.contains(key)), "an event counts twice: {stored:?}");
        let lost: Vec<&String> = all.acknowledged.iter().filter(|key| !stored.contains_key(*key)).collect();
        assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");

        let mut unanswered = all.asked - all.shown.len() as u64;
        for (id, items) in self.rows("SELECT recommendation_id, items FROM exposures WHERE scenario = 'load'").await {
            let logged: Vec<(String, Json)> = serde_json::from_str(&items).unwrap();
            match all.shown.get(&id) {
                Some(shown) => assert_eq!(*shown, logged.into_iter().map(|(item, _)| item).collect::<Vec<_>>()),
                None => unanswered = unanswered.checked_sub(1).expect("an exposure of a list that was never shown"),
            }
        }

        let mut catalogue = catalogue(client).await;
        let live = catalogue.len();
        for (id, known) in &mut all.items {
            let now = catalogue.remove(id);
            assert!(now == known.now || Some(now) == known.perhaps, "{id}: {now:?}, known as {known:?}");
            *known = Known { now, perhaps: None };
        }
        assert!(catalogue.is_empty(), "nobody wrote {catalogue:?}");

        client.all_searchable().await;
        assert!(client.metrics().await.lines().any(|line| line == format!("inkling_index_points {live}")), "the index has something else than {live} items");
        let newest =
            all.items.keys().map(|id| id.rsplit_once('-').unwrap().0).max_by_key(|group| group[1..].split('w').next().unwrap().parse::<u64>().unwrap());
        if let Some(group) = newest {
            assert_group_is_found(client, group, &all.items).await;
        }
    }
}

/// Prices by id.
async fn catalogue(client: &Client) -> BTreeMap<String, u64> {
    let mut items = BTreeMap::new();
    let mut cursor = String::new();
    loop {
        let page = client.get(&format!("/items?limit=200{cursor}")).await.good();
        items.extend(page["items"].as_array().unwrap().iter().map(|item| {
            let price = item["price"].as_f64().unwrap();
            (item["item_id"].as_str().unwrap().to_owned(), price as u64)
        }));
        match page["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return items,
        }
    }
}

/// The index finds the group's items, all of them and no others, by meaning and by words, at the prices that they have.
async fn assert_group_is_found(client: &Client, group: &str, items: &BTreeMap<String, Known>) {
    for (operator, above) in [("gte", true), ("lt", false)] {
        let request = json!({"text": "lamp", "limit": 200, "filter": {"tags": group, "price": {operator: MEAN_PRICE}}});
        let answer = client.recommend(&request).await;
        assert_eq!(answer["degraded"], json!([]));
        let mut found: Vec<(String, bool)> = Vec::new();
        for item in answer["items"].as_array().unwrap() {
            let sources = item["sources"].as_array().unwrap();
            found.push((item["item_id"].as_str().unwrap().to_owned(), sources.contains(&json!("semantic")) && sources.contains(&json!("lexical"))));
        }
        found.sort();
        let of_group = items.iter().filter(|(id, _)| id.rsplit_once('-').unwrap().0 == group);
        let wanted = of_group.filter(|(_, known)| known.now.is_some_and(|price| (price >= MEAN_PRICE) == above)).map(|(id, _)| (id.clone(), true));
        assert_eq!(
            found,
            {
                let mut wanted: Vec<_> = wanted.collect();
                wanted.sort();
                wanted
            },
            "{request}"
        );
    }
}

fn seed() -> u64 {
    let seed = std::env::var("INKLING_TEST_SEED")
        .map_or_else(|_| std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().subsec_nanos().into(), |seed| seed.parse().unwrap());
    println!("INKLING_TEST_SEED={seed}"); // shown where the test fails
    seed
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_kill_9_exactly_once_and_the_index_has_it_on_sqlite() {
    fetch_other("all-minilm-l6-v2");
    let folder = tempfile::tempdir().unwrap();
    Truth { data: folder.path(), postgres: None }.crash(seed()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[cfg_attr(not(postgres_programs), ignore = "PostgreSQL is not installed (apt install postgresql)")]
async fn what_was_acknowledged_survives_kill_9_of_server_and_database_exactly_once_and_the_index_has_it_on_postgres() {
    fetch_other("all-minilm-l6-v2");
    let folder = tempfile::tempdir().unwrap();
    let postgres = postgres_server::Server::start();
    let url = postgres.database().await;
    Truth { data: folder.path(), postgres: Some((postgres, url)) }.crash(seed()).await;
}

#[tokio::test]
#[cfg_attr(not(strace), ignore = "strace is not installed (apt install strace), or may not trace")]
async fn every_acknowledged_call_has_synced_the_log_of_the_database_file() {
    const CALLS: usize = 50;
    let folder = tempfile::tempdir().unwrap();
    let trace = folder.path().join("trace");
    let mut traced = Command::new("strace");
    traced.args(["-f", "-qq", "-y", "-e", "trace=fsync,fdatasync", "-o", trace.to_str().unwrap()]);
    let server = Server::start_under(traced, inkling(["serve"]).envs(SETTINGS), &folder.path().join("data")).await;
    let (_guard, client) = (outlive_not(server.pid(), folder.path()), server.client());
    let syncs = || fs::read_to_string(&trace).unwrap().lines().filter(|line| line.contains("inkling.db-wal>")).count();
    let before = syncs();

    for n in 0..CALLS {
        assert_eq!(client.post("/feedback", &event(&n.to_string())).await["accepted"], 1);
    }

    let counted = syncs() - before;
    assert!(counted >= CALLS, "{counted} syncs for {CALLS} calls one after the other");
    server.stop().await;
}
