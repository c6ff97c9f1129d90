//! Replicas on one Postgres and one Qdrant server (the test's own: Qdrant's interface over the embedded engine): one of them writes the index,
//! another goes on when it dies, and all of them answer while the server is gone.

use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};

use crate::{
    postgres_server, qdrant,
    server::{Client, Server, ids, until},
};

struct Replica {
    server: Server,
    client: Client,
    _folder: tempfile::TempDir,
}

impl Replica {
    async fn start(database: &str, index: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let settings = [
            ("INKLING_STORE__URL", database),
            ("INKLING_INDEX__URL", index),
            ("INKLING_INDEX__API_KEY", "s3cret"),
            ("INKLING_ENCODER__MODEL", "all-minilm-l6-v2"),
        ];
        let server = Server::start_with(folder.path(), &settings).await;
        Self { client: server.client(), server, _folder: folder }
    }

    fn writes(&self) -> bool {
        self.server.log().iter().any(|line| line.contains("this process writes the index"))
    }

    async fn metric(&self, name: &str) -> String {
        let metrics = self.client.metrics().await;
        metrics.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("{metrics}")).trim().to_owned()
    }
}

fn kettles(from: usize, to: usize) -> Json {
    (from..to).map(|n| json!({"item_id": format!("i{n}"), "title": format!("kettle number {n}"), "price": n})).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[cfg_attr(not(postgres_server), ignore = "PostgreSQL is not installed (apt install postgresql)")]
async fn one_replica_writes_the_shared_index_another_takes_over_and_all_answer_while_it_is_gone() {
    let database = postgres_server::database().await;
    let storage = qdrant::Storage::default();
    let index = qdrant::Server::start_at(&storage, "127.0.0.1:0".parse().unwrap(), Some("s3cret"));
    let (address, url) = (index.address, index.url());
    let one = Replica::start(&database, &url).await;
    until("the first one writes", || async { one.writes() }).await;
    let other = Replica::start(&database, &url).await;
    let wanted = json!({"text": "kettle", "limit": 50});

    // What either of them is told is found by both, written by one.
    other.client.post("/items", &kettles(0, 20)).await;
    one.client.all_searchable().await;
    other.client.all_searchable().await;
    assert_eq!((one.client.ids(&wanted).await.len(), other.client.ids(&wanted).await.len()), (20, 20));
    assert!(!other.writes());
    assert_eq!(other.metric("inkling_items_indexed_total ").await, "0");
    let cheap = json!({"text": "kettle", "limit": 50, "filter": {"price": {"lt": 5}}});
    assert_eq!(other.client.ids(&cheap).await.len(), 5);

    // The writer dies.
    one.server.kill();
    other.client.post("/items", &kettles(20, 30)).await;
    other.client.all_searchable().await;
    assert!(other.writes());
    assert_eq!(other.client.ids(&wanted).await.len(), 30);

    // The index dies: words and meaning are gone, the rest answers at once and says so.
    drop(index);
    let asked = Instant::now();
    for _ in 0..8 {
        let answer = other.client.recommend(&wanted).await;
        assert!(answer["degraded"].as_array().unwrap().contains(&json!("index")), "{answer}");
        assert!(!ids(&answer).is_empty(), "popular and new ones are left");
    }
    assert!(asked.elapsed() < Duration::from_secs(10), "{:?}", asked.elapsed());
    until("the gauge shows it", || async { other.metric("inkling_index_circuit_open ").await == "1" }).await;
    other.client.post("/items", &kettles(30, 31)).await;

    // It comes back by itself, and what was written meanwhile is found.
    let _index = qdrant::Server::start_at(&storage, address, Some("s3cret"));
    until("nothing is degraded", || async { other.client.recommend(&wanted).await["degraded"] == json!([]) }).await;
    other.client.all_searchable().await;
    assert_eq!(other.client.ids(&wanted).await.len(), 31);
    assert_eq!(other.metric("inkling_index_circuit_open ").await, "0");

    assert!(!other.server.log().iter().any(|line| line.contains("s3cret")));
    other.server.stop().await;
}
