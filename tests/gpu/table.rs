//! What a GPU makes of the encoder, as one table: `cargo bench --bench gpu`, or the built program with `--models DIR` on a machine that cannot build.
//!
//! Latency of one text, throughput of batches up to 512 x 128 tokens, in float32 and float16; how far that is from the fastest matrix product that
//! the same library reaches in the same run; how near the embeddings are to the processor's in float32. Random words, not zeros; a warm-up of each
//! shape, then the median of many passes. Copies to and from the device count. Without a usable GPU it says what is missing and ends.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed benchmark")]

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use inkling::encoder::{BareModel, EncoderSettings, Precision, PrepareError, PreparedModel, ProviderSetting, matrix_peak, prepare_as};

const MODEL: &str = "all-minilm-l6-v2";
/// Texts x tokens.
const SHAPES: [(usize, usize); 8] = [(1, 16), (1, 128), (8, 16), (32, 32), (32, 128), (128, 128), (256, 128), (512, 128)];
const PASSES: usize = 50;
/// Time for the passes of one shape.
const TIME: Duration = Duration::from_secs(3);
/// Side of the matrices whose product is the peak: large enough for any GPU of today.
const PEAK: usize = 4_096;

fn main() {
    let mut arguments = std::env::args().skip_while(|argument| argument != "--models").skip(1);
    let models = arguments.next().map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("models"), PathBuf::from);
    let model = prepare_as(&models, MODEL, Some(Precision::Fp32), &mut |_| {}).unwrap();
    let layers = Layers::read(&models, model.width);
    let mut rows = Vec::new();
    for precision in [Precision::Fp32, Precision::Fp16] {
        let mut model = model.clone();
        model.manifest.precision = precision;
        match measured(&model, &layers) {
            Ok(measured) => rows.extend(measured),
            Err(error) => return println!("{}: {error}", precision.name()),
        }
    }
    println!("{} on {}, {} layers {} wide", MODEL, gpu(), layers.count, layers.width);
    println!("{:<6} {:>10} {:>10} {:>12} {:>10} {:>8} {:>12} {:>12}", "", "texts", "ms", "texts/s", "TFLOP/s", "of peak", "cosine mean", "cosine least");
    for row in rows {
        println!("{row}");
    }
}

fn measured(model: &PreparedModel, layers: &Layers) -> Result<Vec<String>, PrepareError> {
    let mut gpu = BareModel::load(model, &settings(ProviderSetting::Cuda))?;
    let mut whole = model.clone();
    whole.manifest.precision = Precision::Fp32;
    let mut processor = BareModel::load(&whole, &settings(ProviderSetting::Cpu))?;
    let peak = matrix_peak(model, &settings(ProviderSetting::Cuda), PEAK, TIME)?;
    let mut rows = vec![format!("{:<6} products of {PEAK} x {PEAK}: {:.1} TFLOP/s", model.manifest.precision.name(), peak / 1e12)];
    for (texts, tokens) in SHAPES {
        let ids = random_rows(texts, tokens);
        let ids: Vec<&[u32]> = ids.iter().map(Vec::as_slice).collect();
        let found = gpu.forward(&ids)?;
        let few = &ids[..texts.min(16)];
        let cosines: Vec<f64> = processor.forward(few)?.iter().zip(&found).map(|(a, b)| cosine(a, b)).collect();
        let (begun, mut times) = (Instant::now(), Vec::new());
        while times.len() < PASSES && (times.is_empty() || begun.elapsed() < TIME) {
            let started = Instant::now();
            gpu.forward(&ids)?;
            times.push(started.elapsed().as_secs_f64());
        }
        times.sort_by(f64::total_cmp);
        let seconds = times[times.len() / 2];
        let speed = layers.operations(texts, tokens) / seconds;
        rows.push(format!(
            "{:<6} {:>10} {:>10.2} {:>12.0} {:>10.1} {:>7.0}% {:>12.6} {:>12.6}",
            model.manifest.precision.name(),
            format!("{texts} x {tokens}"),
            seconds * 1e3,
            texts as f64 / seconds,
            speed / 1e12,
            100.0 * speed / peak,
            cosines.iter().sum::<f64>() / cosines.len() as f64,
            cosines.iter().copied().fold(1.0, f64::min)
        ));
    }
    Ok(rows)
}

/// As they come, but for the provider.
fn settings(provider: ProviderSetting) -> EncoderSettings {
    let sections: toml::Table = toml::from_str(include_str!("../../src/config/default.toml")).unwrap();
    EncoderSettings { provider, ..sections["encoder"].clone().try_into().unwrap() }
}

/// What the count of operations needs to know.
struct Layers {
    count: usize,
    width: usize,
}

impl Layers {
    fn read(models: &Path, width: usize) -> Self {
        let config = std::fs::read(models.join(MODEL).join("config.json")).unwrap();
        let config: serde_json::Value = serde_json::from_slice(&config).unwrap();
        Self { count: usize::try_from(config["num_hidden_layers"].as_u64().unwrap()).unwrap(), width }
    }

    /// Of the matrix products: 12 matrices of width x width a layer (query, key, value, output, twice 4 of the feed-forward layer), scores and
    /// weighted sums of attention.
    fn operations(&self, texts: usize, tokens: usize) -> f64 {
        let (all, width) = ((texts * tokens) as f64, self.width as f64);
        self.count as f64 * all * (24.0 * width * width + 4.0 * width * tokens as f64)
    }
}

/// Token ids as they come in texts: between the special tokens any of the vocabulary's words, a new choice for each row.
fn random_rows(texts: usize, tokens: usize) -> Vec<Vec<u32>> {
    let mut state = 42_u64;
    let mut word = || {
        // SplitMix64 (Steele, Lea & Flood 2014).
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        2_000 + ((z ^ (z >> 31)) % 20_000) as u32
    };
    (0..texts)
        .map(|_| {
            (0..tokens)
                .map(|at| {
                    if at == 0 {
                        101
                    } else if at + 1 == tokens {
                        102
                    } else {
                        word()
                    }
                })
                .collect()
        })
        .collect()
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

fn gpu() -> String {
    let answer = std::process::Command::new("nvidia-smi").args(["--query-gpu=name,driver_version", "--format=csv,noheader"]).output();
    answer.map_or_else(|_| "an unknown GPU".to_owned(), |output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
