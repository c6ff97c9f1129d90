//! Recall of the embedded index against an exact scan, on real embeddings: `INKLING_TEXTS=FOLDER cargo bench --bench recall -- 10000 100000`.
//!
//! The items are the titles and sentences of all `FOLDER/*/*.jsonl` (lines with `title` or `text`), by the model in the settings; 200 others are the
//! queries. Prints the share of the 100 nearest that a search finds, of all items and of those that a filter leaves, before and after the search
//! graph is built. `index` measures times.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed benchmark")]

use std::{
    collections::BTreeSet,
    fs,
    hash::BuildHasher,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::stream::{self, StreamExt as _};
use inkling::{
    config::{Overrides, Settings},
    domain::{Embedding, Filter, Item, ItemFacts, ItemKey, Revision},
    encoder::{Encoder, EncoderMetrics, EncoderSettings, clean, prepare_as},
    index::{Collections, Home, IndexPoint, Lexicon, Search, VectorIndex},
    telemetry::{Compute, Registry},
};
use rustc_hash::FxBuildHasher;
use serde_json::{Value as Json, json};

const QUERIES: usize = 200;
/// How many are looked for.
const DEPTH: usize = 100;
/// What filters leave, in percent.
const SHARES: [u32; 3] = [100, 10, 1];
/// Shorter pieces are no texts.
const SHORTEST: usize = 8;
/// Longer than any text waits here.
const PATIENCE: Duration = Duration::from_secs(3_600);

fn main() {
    let Some(folder) = std::env::var_os("INKLING_TEXTS") else {
        println!("INKLING_TEXTS=FOLDER names real texts; there is nothing to measure without");
        return;
    };
    let sizes: Vec<usize> = std::env::args().filter_map(|argument| argument.parse().ok()).collect();
    let sizes = if sizes.is_empty() { vec![10_000] } else { sizes };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let settings = Settings::load(&Overrides::default()).unwrap();
    let most = sizes.iter().max().unwrap() + QUERIES;
    let embeddings = runtime.block_on(encoded(&settings, &texts(Path::new(&folder), most)));
    let (queries, items) = embeddings.split_at(QUERIES);
    for size in sizes {
        runtime.block_on(measure(&settings, queries, &items[..size.min(items.len())]));
    }
}

/// Different titles and sentences, in an order that has nothing to do with where they come from.
fn texts(folder: &Path, most: usize) -> Vec<String> {
    let folders = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir());
    let files = folders.flat_map(|folder| fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()));
    let mut texts = BTreeSet::new();
    for file in files.filter(|file| file.extension().is_some_and(|extension| extension == "jsonl")) {
        for line in fs::read_to_string(file).unwrap().lines() {
            let line: Json = serde_json::from_str(line).unwrap();
            let pieces =
                ["title", "text"].into_iter().filter_map(|field| line[field].as_str()).flat_map(|text| text.split(['.', '!', '?', '。', '！', '？', '\n']));
            texts.extend(pieces.map(clean).filter(|piece| piece.len() >= SHORTEST));
        }
    }
    let mut texts: Vec<String> = texts.into_iter().collect();
    texts.sort_by_cached_key(|text| FxBuildHasher.hash_one(text));
    println!("{} different texts, {most} wanted", texts.len());
    texts.truncate(most);
    texts
}

async fn encoded(settings: &Settings, texts: &[String]) -> Vec<Embedding> {
    let model = prepare_as(&settings.paths.models_dir(), &settings.encoder.model, settings.encoder.precision, &mut |_| {}).unwrap();
    let patient = EncoderSettings { queue_ms: 3_600_000, ..settings.encoder.clone() };
    let encoder = Encoder::start(&model, &patient, &EncoderMetrics::register(&Registry::new()).unwrap()).unwrap();
    let encode = async |text: &String| encoder.encode(text, Instant::now() + PATIENCE).await.unwrap().embedding;
    stream::iter(texts).map(encode).buffered(64).collect().await
}

fn facts(row: usize) -> ItemFacts {
    let item: Item = serde_json::from_value(json!({"item_id": format!("i{row}"), "title": "x", "price": row * 7_919 % 100})).unwrap();
    ItemFacts::from(&item)
}

async fn measure(settings: &Settings, queries: &[Embedding], items: &[Embedding]) {
    let folder = tempfile::tempdir().unwrap();
    let home = Home { folder: folder.path().to_owned(), catalogue: "bench".to_owned() };
    let collections = Collections::new(&settings.index, home, Compute::start("bench", 1, 64).unwrap(), &Registry::new()).unwrap();
    let index = collections.open("items", items[0].len()).await.unwrap().index;
    let terms = Lexicon::new(&settings.index.lexical).item_terms("x", "");
    let point = |(row, embedding): (usize, &Embedding)| IndexPoint {
        key: ItemKey(row as u32),
        revision: Revision(1),
        embedding: Some(embedding.clone()),
        terms: terms.clone(),
        facts: facts(row),
    };
    let points: Vec<IndexPoint> = items.iter().enumerate().map(point).collect();
    for batch in points.chunks(256) {
        index.upsert(batch.to_vec()).await.unwrap();
    }
    println!("{} items", items.len());
    report(&index, queries, &points, "scanned").await;
    if index.optimize_if_due().await.unwrap() {
        report(&index, queries, &points, "graph").await;
    }
}

async fn report(index: &Arc<dyn VectorIndex>, queries: &[Embedding], points: &[IndexPoint], state: &str) {
    for share in SHARES {
        let filter = Filter::parse(&json!({"price": {"lt": share}}), &|_| None).unwrap();
        let left: Vec<&IndexPoint> = points.iter().filter(|point| filter.matches(&point.facts)).collect();
        let filter = (share < 100).then_some(&filter);
        let (mut found, mut wanted, mut least) = (0, 0, 1.0_f64);
        for query in queries {
            let mut exact: Vec<(f32, ItemKey)> = left.iter().map(|point| (query.cosine(point.embedding.as_ref().unwrap()), point.key)).collect();
            exact.sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
            exact.truncate(DEPTH);
            let hits = index.nearest(query, Search { limit: DEPTH, filter }).await.unwrap();
            let here = exact.iter().filter(|(_, key)| hits.iter().any(|hit| hit.key == *key)).count();
            (found, wanted) = (found + here, wanted + exact.len());
            least = least.min(here as f64 / exact.len() as f64);
        }
        println!("  {state:>8}, {share:>3} % left: recall@{DEPTH} {:.4}, of the worst query {least:.2}", found as f64 / wanted as f64);
    }
}
