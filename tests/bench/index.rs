//! What one request asks of the index: `cargo bench --bench index -- 10000 100000` (numbers of items). Prints milliseconds.
//!
//! Embeddings lie in 500 clusters, texts have 60 words of a vocabulary in which the n-th word is n times rarer (Zipf), as in real catalogues.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed measurement")]

use std::{sync::Arc, time::Instant};

use inkling::{
    domain::{Embedding, Filter, Item, ItemFacts, ItemKey, Revision},
    index::{Collections, Home, IndexPoint, IndexSettings, LatinStemmer, LexicalSettings, Lexicon, Search, VectorIndex},
    telemetry::{Compute, Registry},
};
use serde_json::json;

const WIDTH: usize = 384;
const ROUNDS: usize = 200;

struct Random(u64);

impl Random {
    /// 0 to 1; SplitMix64 (Steele, Lea & Flood 2014).
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn near(&mut self, centre: &[f32]) -> Embedding {
        Embedding::new(centre.iter().map(|x| x + 1.2 * (self.next() as f32 - 0.5)).collect()).unwrap()
    }

    fn words(&mut self, count: usize) -> String {
        (0..count).map(|_| format!("word{} ", (20_000_f64.powf(self.next()) - 1.0) as u32)).collect()
    }
}

fn settings() -> IndexSettings {
    let lexical = LexicalSettings { latin_stemmer: LatinStemmer::English, average_length: 60.0, title_weight: 2.0 };
    IndexSettings {
        url: None,
        api_key: None,
        collection_prefix: "bench_".to_owned(),
        shard_number: 1,
        replication_factor: 1,
        write_consistency_factor: 1,
        timeout_ms: 10_000,
        write_timeout_ms: 60_000,
        hnsw_m: 24,
        hnsw_ef_construct: 200,
        hnsw_ef: 512,
        optimize_after: 20_000,
        max_search_terms: 32,
        lock_wait_ms: 10_000,
        lexical,
    }
}

fn main() {
    let sizes: Vec<u32> = std::env::args().filter_map(|arg| arg.parse().ok()).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    for size in if sizes.is_empty() { vec![10_000] } else { sizes } {
        runtime.block_on(measure(size));
    }
}

async fn measure(size: u32) {
    let folder = tempfile::tempdir().unwrap();
    let (settings, mut random) = (settings(), Random(7));
    let lexicon = Lexicon::new(&settings.lexical);
    let home = || Home { folder: folder.path().to_owned(), catalogue: "bench".to_owned() };
    let open = || Collections::new(&settings, home(), Compute::start("bench", 1, 64).unwrap(), &Registry::new()).unwrap();
    let index = open().open("items", WIDTH).await.unwrap().index;
    let centres: Vec<Vec<f32>> = (0..500).map(|_| (0..WIDTH).map(|_| random.next() as f32 - 0.5).collect()).collect();

    println!("{size} items");
    let points: Vec<IndexPoint> = (0..size).map(|key| point(key, &centres, &lexicon, &mut random)).collect();
    let begin = Instant::now();
    for batch in points.chunks(256) {
        index.upsert(batch.to_vec()).await.unwrap();
    }
    println!("  upsert: {:.1} us an item", begin.elapsed().as_secs_f64() * 1e6 / f64::from(size));
    let exact: Vec<(Embedding, Vec<ItemKey>)> = (0..20).map(|i| exact(random.near(&centres[i * 7]), &points)).collect();
    requests(&index, &lexicon, &centres, &exact, "scanned", size).await;

    let begin = Instant::now();
    if index.optimize_if_due().await.unwrap() {
        println!("  optimise: {:.1} s", begin.elapsed().as_secs_f64());
        requests(&index, &lexicon, &centres, &exact, "optimised", size).await;
    }
    let begin = Instant::now();
    index.flush().await.unwrap();
    println!("  flush: {:.1} ms", begin.elapsed().as_secs_f64() * 1e3);
    drop(index);
    let begin = Instant::now();
    let index = open().open("items", WIDTH).await.unwrap().index;
    println!("  open: {:.2} s for {} items", begin.elapsed().as_secs_f64(), index.count().await.unwrap());
}

fn point(key: u32, centres: &[Vec<f32>], lexicon: &Lexicon, random: &mut Random) -> IndexPoint {
    let price = (random.next() * 100.0).floor();
    let category = format!("c{}", (random.next() * 50.0) as u32);
    let item: Item = serde_json::from_value(json!({"item_id": format!("sku-{key}"), "title": "x", "categories": [category], "price": price})).unwrap();
    let embedding = random.near(&centres[key as usize % centres.len()]);
    IndexPoint {
        key: ItemKey(key),
        revision: Revision(1),
        embedding: Some(embedding),
        terms: lexicon.item_terms(&random.words(5), &random.words(55)),
        facts: ItemFacts::from(&item),
    }
}

fn exact(query: Embedding, points: &[IndexPoint]) -> (Embedding, Vec<ItemKey>) {
    let mut scores: Vec<_> = points.iter().map(|point| (query.cosine(point.embedding.as_ref().unwrap()), point.key)).collect();
    scores.sort_by(|a, b| b.0.total_cmp(&a.0));
    (query, scores.into_iter().take(100).map(|pair| pair.1).collect())
}

async fn requests(index: &Arc<dyn VectorIndex>, lexicon: &Lexicon, centres: &[Vec<f32>], exact: &[(Embedding, Vec<ItemKey>)], state: &str, size: u32) {
    let mut random = Random(99);
    let filter = Filter::parse(&json!({"categories": ["c1", "c2", "c3"], "price": {"lte": 50}}), &|_| None).unwrap();
    let mut times: [Vec<f64>; 7] = Default::default();
    for round in 0..ROUNDS {
        let (dense, words) = (random.near(&centres[round % centres.len()]), lexicon.query_terms(&random.words(4)));
        let others: Vec<ItemKey> = (0..1_500).map(|_| ItemKey((random.next() * f64::from(size)) as u32)).collect();
        let (free, bound) = (Search { limit: 500, filter: None }, Search { limit: 500, filter: Some(&filter) });
        let mut clock = Instant::now();
        let mut lap = |slot: &mut Vec<f64>| {
            slot.push(clock.elapsed().as_secs_f64() * 1e3);
            clock = Instant::now();
        };
        index.nearest(&dense, free).await.unwrap();
        lap(&mut times[0]);
        index.matching(&words, free).await.unwrap();
        lap(&mut times[1]);
        index.nearest(&dense, bound).await.unwrap();
        lap(&mut times[2]);
        index.matching(&words, bound).await.unwrap();
        lap(&mut times[3]);
        index.similarities(&dense, &others).await.unwrap();
        lap(&mut times[4]);
        index.lexical_scores(&words, &others).await.unwrap();
        lap(&mut times[5]);
        index.embeddings(&others[..5]).await.unwrap();
        lap(&mut times[6]);
    }
    for (name, mut times) in
        ["nearest 500", "matching 500", "nearest 500 filtered", "matching 500 filtered", "similarities 1500", "lexical_scores 1500", "embeddings 5"]
            .into_iter()
            .zip(times)
    {
        times.sort_by(f64::total_cmp);
        println!("  {state:>9} {name:<24} p10 {:.3} p50 {:.3} p99 {:.3} ms", times[ROUNDS / 10], times[ROUNDS / 2], times[ROUNDS * 99 / 100]);
    }
    let mut found = 0;
    for (query, best) in exact {
        let hits = index.nearest(query, Search { limit: 100, filter: None }).await.unwrap();
        found += hits.iter().filter(|hit| best.contains(&hit.key)).count();
    }
    println!("  {state:>9} recall@100 {:.3}", found as f64 / (exact.len() * 100) as f64);
}
