//! What a larger catalogue costs, and what all sources cost beside the search by meaning alone: `cargo bench --bench scale -- 10000 100000`.
//!
//! Release binaries over sockets on invented shops of so many items, their embeddings those of 2,000 texts with noise, put into the database before, so
//! that nothing waits for the encoder. For each size a server with the defaults and one whose weights leave the search by meaning only; one request to each in
//! turn, so that a busy machine slows all of them alike. Prints medians and the 99th percentile, and the ratios of the first size to the others.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed benchmark")]

mod answer;
mod served;
mod shop;

use std::{
    path::Path,
    time::{Duration, Instant},
};

use futures::stream::{self, StreamExt as _};
use inkling::{
    config::{Overrides, Settings},
    domain::{Embedding, Item},
    encoder::{Encoder, EncoderMetrics, clean, prepare_as},
    store::{ContentHash, Store},
    telemetry::Registry,
};
use serde_json::{Value as Json, json};
use served::{Line, Server, contains, get, models, post, wait};
use shop::{Random, USERS, event, item, query};

/// Texts whose embeddings the items' are near to.
const TEXTS: usize = 2_000;
/// How far: a tenth of the length of the embedding, so that a text's items stay near each other.
const NOISE: f64 = 0.1;
const EVENTS: usize = 100_000;
const BATCH: usize = 1_000;
const WARM_UP: usize = 50;
const ASKED: usize = 500;
/// Weights that leave the search by meaning.
const DENSE_ALONE: [&str; 8] = ["LEXICAL", "COLLABORATIVE", "SIMILAR", "POPULARITY", "FRESHNESS", "PROFILE", "WORDING", "AFFINITY"];

fn main() {
    let sizes: Vec<usize> = std::env::args().filter_map(|argument| argument.parse().ok()).collect();
    let sizes = if sizes.is_empty() { vec![1_000, 10_000] } else { sizes };
    let settings = Settings::load(&Overrides::default()).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (version, centres) = runtime.block_on(centres(&settings));
    let folders: Vec<_> = sizes.iter().map(|_| [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()]).collect();
    let mut contenders = Vec::new();
    for (size, [all, dense]) in sizes.iter().zip(&folders) {
        for (name, folder) in [("all sources", all), ("dense alone", dense)] {
            runtime.block_on(fill(&settings, folder.path(), *size, &version, &centres));
            let off: Vec<(String, &str)> = DENSE_ALONE.iter().map(|weight| (format!("INKLING_RECOMMEND__WEIGHTS__{weight}"), "0")).collect();
            let off = off.iter().map(|(name, value)| (name.as_str(), *value)).filter(|_| name == "dense alone");
            let chosen: Vec<(&str, &str)> = off.chain([("INKLING_TRAINING__EVERY_EVENTS", "0")]).collect();
            let server = Server::start(folder.path(), &settings.encoder.model, &chosen);
            let mut line = Line::to(&server);
            ready(&mut line, *size, *size >= settings.index.optimize_after);
            contenders.push((*size, name, server, line));
        }
    }
    let mut times = vec![[Vec::new(), Vec::new()]; contenders.len()];
    for n in 0..WARM_UP + ASKED {
        let body = json!({"text": query(n), "user_id": format!("user-{}", n % USERS)}).to_string();
        let request = post("/recommend", "application/json", &body);
        for ((.., line), times) in contenders.iter_mut().zip(&mut times) {
            // First a new text, then the same one cached.
            for times in times {
                let started = Instant::now();
                let answer = line.ask(&request);
                let took = started.elapsed().as_secs_f64() * 1e3;
                assert!(contains(answer, b"\"degraded\":[]"), "{}", String::from_utf8_lossy(answer));
                if n >= WARM_UP {
                    times.push(took);
                }
            }
        }
    }
    for (size, name, server, _) in &contenders {
        println!("{size:>7} items, {name}: {:.0} MB resident", server.memory_mb("VmRSS"));
    }
    report(&contenders.iter().map(|(size, name, ..)| (*size, *name)).collect::<Vec<_>>(), &mut times);
}

fn report(contenders: &[(usize, &str)], times: &mut [[Vec<f64>; 2]]) {
    let mut found = Vec::new();
    for ((size, name), times) in contenders.iter().zip(times) {
        let [new, cached] = times.each_mut().map(|times| {
            times.sort_by(f64::total_cmp);
            (times[times.len() / 2], times[times.len() * 99 / 100])
        });
        println!("{size:>7} items, {name}: new text p50 {:.2} p99 {:.2} ms, cached p50 {:.2} p99 {:.2} ms", new.0, new.1, cached.0, cached.1);
        found.push((new, cached));
    }
    for (pair, found) in contenders.chunks(2).zip(found.chunks(2)) {
        let of = |all: (f64, f64), dense: (f64, f64)| all.0 / dense.0;
        println!("{:>7} items, p50 of all sources: {:.2} x of dense alone, cached {:.2} x", pair[0].0, of(found[0].0, found[1].0), of(found[0].1, found[1].1));
    }
    for (pair, larger) in contenders.chunks(2).zip(found.chunks(2)).skip(1) {
        let (first, size) = (found[0], pair[0].0);
        let [new, cached] = [(first.0, larger[0].0), (first.1, larger[0].1)].map(|(small, large)| large.1 / small.1);
        println!("{size:>7} items, p99 of all sources: {new:.2} x of that at {}, cached {cached:.2} x", contenders[0].0);
    }
}

/// The embeddings of the first [`TEXTS`] items, and what the model is called in the database.
async fn centres(settings: &Settings) -> (String, Vec<Embedding>) {
    let model = prepare_as(&models(), &settings.encoder.model, settings.encoder.precision, &mut |_| {}).unwrap();
    let encoder = Encoder::start(&model, &settings.encoder, &EncoderMetrics::register(&Registry::new()).unwrap()).unwrap();
    let mut random = Random(42);
    let texts: Vec<String> = (0..TEXTS).map(|n| clean(&read(&item(n, &mut random)).full_text())).collect();
    let encode = async |text: &String| encoder.encode(text, Instant::now() + Duration::from_secs(600)).await.unwrap().embedding;
    (encoder.version().to_owned(), stream::iter(&texts).map(encode).buffered(16).collect().await)
}

fn read(item: &Json) -> Item {
    serde_json::from_value(item.clone()).unwrap()
}

/// Items with their embeddings, as if they had been encoded.
async fn fill(settings: &Settings, folder: &Path, size: usize, version: &str, centres: &[Embedding]) {
    let store = Store::open(folder, &settings.store, &Registry::new()).await.unwrap();
    let mut random = Random(42);
    let items: Vec<Item> = (0..size).map(|n| read(&item(n, &mut random))).collect();
    for (batch, items) in items.chunks(BATCH).enumerate() {
        let embedded = items.iter().enumerate().map(|(n, item)| {
            let centre = &centres[(batch * BATCH + n) % centres.len()];
            let reach = NOISE * (12.0 / centre.len() as f64).sqrt();
            let near = centre.iter().map(|x| x + (reach * (random.next() - 0.5)) as f32).collect();
            (ContentHash::of(&clean(&item.full_text())), Embedding::new(near).unwrap())
        });
        store.put_embeddings(version, embedded.collect()).await.unwrap();
        store.put_items(items.to_vec()).await.unwrap();
    }
    store.close().await;
}

/// Waits until all items are indexed and the graph is built, then sends the events and lets it learn.
fn ready(line: &mut Line, size: usize, has_graph: bool) {
    let started = Instant::now();
    while line.json(&get("/stats"))["items"]["pending"] != 0 {
        wait(Duration::from_millis(500));
    }
    const BUILT: &str = "inkling_index_seconds_count{operation=\"optimize\"} ";
    let is_built = |metrics: &str| metrics.lines().any(|line| line.strip_prefix(BUILT).is_some_and(|count| count != "0"));
    while has_graph && !is_built(&line.metrics()) {
        wait(Duration::from_millis(500));
    }
    let mut random = Random(43);
    let events: String = (0..EVENTS).map(|n| event(n, size, &mut random).to_string() + "\n").collect();
    assert_eq!(line.json(&post("/feedback", "application/x-ndjson", &events))["accepted"], EVENTS);
    assert_eq!(line.json(&post("/admin/train", "application/json", ""))["published"], true);
    println!("{size} items indexed and learned from in {:.0} s", started.elapsed().as_secs_f64());
}
