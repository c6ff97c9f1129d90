//! int8 against fp32, in ratios of one run: `cargo bench --bench precision [model]`, or, without optimising this crate, which hardly takes part,
//! `cargo test --bench precision`.
//!
//! Time is processor time of one thread: the models take turns, each for 60 ms, and medians over the rounds are printed as shares of
//! fp32, so that a busy machine slows all of them alike. Beside them the matrix products alone, as the limit. Then how near int8 comes to
//! fp32: texts of `texts.tsv` (group, tab, text), or of the file that `INKLING_BENCH_TEXTS` names. With `--memory MODEL` resident memory
//! instead.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed benchmark")]

use std::{collections::BTreeMap, fmt::Write as _, path::Path, time::Duration};

use inkling::{
    encoder::{
        BareModel, BareProduct, Encoder, EncoderMetrics, EncoderSettings, Nearness, Precision, PreparedModel, ProviderSetting, ShapeTime, Turns, clean,
        prepare_as, times,
    },
    telemetry::Registry,
};

const TURNS: Turns = Turns { rounds: 11, turn: Duration::from_millis(60) };
/// Groups whose texts are sentences: the figure is over these.
const SENTENCES: [&str; 4] = ["english", "chinese", "en", "zh"];

fn load(model: &PreparedModel) -> BareModel {
    let settings = EncoderSettings {
        model: model.manifest.name.clone(),
        precision: Some(model.manifest.precision),
        provider: ProviderSetting::Cpu,
        max_tokens: 128,
        sessions: 1,
        threads: 1,
        queue_tokens: 8_192,
        queue_ms: 60_000,
        batch_tokens: 0,
        cache_mb: 0,
    };
    BareModel::load(model, &settings).unwrap()
}

fn time(fp32: BareModel, int8: BareModel, mut products: [BareProduct; 2]) {
    let times = times(&mut [fp32, int8], &mut products, TURNS, &mut |_, _| {}).unwrap();
    println!("{:<10} {:>10} {:>10} {:>10} {:>10}", "shape", "fp32 ms", "int8 ms", "share", "faster");
    for ShapeTime { texts, tokens, ms } in &times.shapes {
        let (slow, fast) = (ms[0], ms[1]);
        println!("{:<10} {slow:>10.2} {fast:>10.2} {:>9.0}% {:>9.2}x", format!("{texts}x{tokens}"), 100.0 * fast / slow, slow / fast);
    }
    let (fp32, int8) = (times.peaks[0] / 1e9, times.peaks[1] / 1e9);
    println!("matrix products alone: fp32 {fp32:.0}, int8 {int8:.0} billion operations a second: {:.2}x", int8 / fp32);
}

fn texts() -> BTreeMap<String, Vec<String>> {
    let file = std::env::var("INKLING_BENCH_TEXTS");
    let file = file.map_or_else(|_| include_str!("texts.tsv").to_owned(), |path| std::fs::read_to_string(path).unwrap());
    let mut groups = BTreeMap::<String, Vec<String>>::new();
    for (group, text) in file.lines().filter_map(|line| line.split_once('\t')) {
        groups.entry(group.to_owned()).or_default().push(clean(text));
    }
    groups
}

fn embed(model: &mut BareModel, texts: &[String]) -> Vec<Vec<f32>> {
    texts.iter().map(|text| model.tokens(text).and_then(|row| model.forward(&[&row])).unwrap().remove(0)).collect()
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
}

/// Spearman's correlation of the similarities of all pairs.
fn spearman(a: &[Vec<f32>], b: &[Vec<f32>]) -> f64 {
    let ranks = |vectors: &[Vec<f32>]| {
        let pairs = (0..vectors.len()).flat_map(|i| (0..i).map(move |j| (i, j)));
        let similarities: Vec<f64> = pairs.map(|(i, j)| dot(&vectors[i], &vectors[j])).collect();
        let mut order: Vec<usize> = (0..similarities.len()).collect();
        order.sort_by(|x, y| similarities[*x].total_cmp(&similarities[*y]));
        let mut ranks = vec![0.0; order.len()];
        for (rank, pair) in order.into_iter().enumerate() {
            ranks[pair] = rank as f64;
        }
        ranks
    };
    let (a, b) = (ranks(a), ranks(b));
    let n = a.len() as f64;
    1.0 - 6.0 * a.iter().zip(&b).map(|(a, b)| (a - b).powi(2)).sum::<f64>() / (n * (n * n - 1.0))
}

fn fidelity(fp32: &mut BareModel, int8: &mut BareModel) {
    let mut line = String::new();
    let (mut all, mut all8) = (Vec::new(), Vec::new());
    println!("{:<14} {:>6} {:>12} {:>12}", "texts", "count", "mean cosine", "least");
    for (group, texts) in texts() {
        let (exact, rounded) = (embed(fp32, &texts), embed(int8, &texts));
        let Nearness { mean, least, .. } = Nearness::between(&exact, &rounded);
        writeln!(line, "{group:<14} {:>6} {mean:>12.5} {least:>12.5}", texts.len()).unwrap();
        if SENTENCES.contains(&group.as_str()) {
            all.extend(exact);
            all8.extend(rounded);
        }
    }
    let Nearness { mean, least, .. } = Nearness::between(&all, &all8);
    print!("{line}");
    println!("{:<14} {:>6} {mean:>12.5} {least:>12.5}   Spearman of pairs {:.5}", "sentences", all.len(), spearman(&all, &all8));
}

/// Resident memory of this process with an int8 encoder of two sessions and nothing else, in MB of 2^20 bytes. Linux only.
fn memory(models: &Path, name: &str) {
    let resident = |of: &str| {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with(of)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
    };
    let model = prepare_as(models, name, Some(Precision::Int8), &mut |_| {}).unwrap();
    let before = resident("VmRSS");
    let settings = EncoderSettings {
        model: name.to_owned(),
        precision: Some(Precision::Int8),
        provider: ProviderSetting::Cpu,
        max_tokens: 128,
        sessions: 2,
        threads: 1,
        queue_tokens: 8_192,
        queue_ms: 60_000,
        batch_tokens: 0,
        cache_mb: 0,
    };
    let encoder = Encoder::start(&model, &settings, &EncoderMetrics::register(&Registry::new()).unwrap()).unwrap();
    let started = resident("VmRSS");
    let texts: Vec<String> = texts().into_values().flatten().collect();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for _ in 0..3 {
        runtime.block_on(encoder.encode_bulk(texts.clone())).unwrap();
    }
    println!(
        "{name}, int8, 2 sessions: resident {before:.0} MB before, {started:.0} MB started, {:.0} MB after {} texts ({:.0} of it mapped files), most {:.0} MB",
        resident("VmRSS"),
        3 * texts.len(),
        resident("RssFile"),
        resident("VmHWM")
    );
}

fn main() {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
    let named = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    if let Some(name) = std::env::args().skip_while(|argument| argument != "--memory").nth(1) {
        return memory(&models, &name);
    }
    let names = named.map_or_else(|| vec!["all-minilm-l6-v2".to_owned(), "multilingual-e5-small".to_owned()], |name| vec![name]);
    for name in names {
        let start = std::time::Instant::now();
        let [fp32, int8] = [Precision::Fp32, Precision::Int8].map(|precision| prepare_as(&models, &name, Some(precision), &mut |_| {}).unwrap());
        println!("\n{name} (prepared in {:.1} s)", start.elapsed().as_secs_f64());
        let products = [Precision::Fp32, Precision::Int8].map(|precision| BareProduct::load(&fp32, precision).unwrap());
        let (mut fp32, mut int8) = (load(&fp32), load(&int8));
        fidelity(&mut fp32, &mut int8);
        if std::env::var_os("INKLING_BENCH_NO_TIME").is_none() {
            time(fp32, int8, products);
        }
    }
}
