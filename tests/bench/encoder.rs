//! The encoder against the bare ONNX session, in ratios of one run: `cargo bench --bench encoder`.
//!
//! Latency with one caller and throughput with 64, for one session of all cores and for one session a core. Rounds alternate between the
//! contenders, so that a busy machine slows all of them alike; medians over rounds are printed.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed benchmark")]

use std::{
    path::Path,
    time::{Duration, Instant},
};

use futures::stream::{self, StreamExt as _};
use inkling::{
    encoder::{BareModel, Encoder, EncoderMetrics, EncoderSettings, Precision, PreparedModel, ProviderSetting, clean, prepare_as},
    telemetry::Registry,
};

const ROUNDS: usize = 9;
const ALONE: usize = 40;
const CROWD: usize = 256;

/// A new text of about 10 tokens each time.
fn text(i: usize) -> String {
    const THINGS: [&str; 8] = ["headphones", "keyboards", "jackets", "thrillers", "podcasts", "recipes", "cameras", "backpacks"];
    const USES: [&str; 8] = ["running", "long flights", "a small kitchen", "rainy days", "two children", "night work", "beginners", "the beach"];
    clean(&format!("quiet {} for {} under {} dollars", THINGS[i % 8], USES[(i / 8) % 8], 10 + i))
}

struct Contender {
    name: String,
    bare: Option<BareModel>,
    encoder: Option<Encoder>,
    alone_ms: Vec<f64>,
    crowd_per_second: Vec<f64>,
    crowd_cpu_ms: Vec<f64>,
}

impl Contender {
    fn bare(model: &PreparedModel, threads: usize) -> Self {
        let bare = BareModel::load(model, &settings(1, threads)).unwrap();
        Self {
            name: format!("bare session, {threads} threads"),
            bare: Some(bare),
            encoder: None,
            alone_ms: Vec::new(),
            crowd_per_second: Vec::new(),
            crowd_cpu_ms: Vec::new(),
        }
    }

    fn encoder(model: &PreparedModel, sessions: usize, threads: usize) -> Self {
        let encoder = Encoder::start(model, &settings(sessions, threads), &EncoderMetrics::register(&Registry::new()).unwrap()).unwrap();
        let name = format!("encoder, {sessions} x {threads} threads");
        Self { name, bare: None, encoder: Some(encoder), alone_ms: Vec::new(), crowd_per_second: Vec::new(), crowd_cpu_ms: Vec::new() }
    }

    async fn round(&mut self, next: &mut usize) {
        for _ in 0..ALONE {
            let text = text(*next);
            *next += 1;
            let start = Instant::now();
            self.one(&text).await;
            self.alone_ms.push(start.elapsed().as_secs_f64() * 1e3);
        }
        let texts: Vec<String> = (*next..*next + CROWD).map(text).collect();
        *next += CROWD;
        let (start, cpu) = (Instant::now(), cpu_ms());
        if let Some(encoder) = &self.encoder {
            stream::iter(&texts)
                .for_each_concurrent(64, |text| async { drop(encoder.encode(text, Instant::now() + Duration::from_secs(10)).await.unwrap()) })
                .await;
        } else {
            for text in &texts {
                self.one(text).await;
            }
        }
        self.crowd_per_second.push(CROWD as f64 / start.elapsed().as_secs_f64());
        self.crowd_cpu_ms.push((cpu_ms() - cpu) / CROWD as f64);
    }

    async fn one(&mut self, text: &str) {
        if let Some(bare) = &mut self.bare {
            let tokens = bare.tokens(text).unwrap();
            bare.forward(&[&tokens]).unwrap();
        }
        if let Some(encoder) = &self.encoder {
            encoder.encode(text, Instant::now() + Duration::from_secs(10)).await.unwrap();
        }
    }
}

fn settings(sessions: usize, threads: usize) -> EncoderSettings {
    EncoderSettings {
        model: "all-minilm-l6-v2".to_owned(),
        precision: None,
        provider: ProviderSetting::Cpu,
        max_tokens: 256,
        sessions,
        threads,
        queue_tokens: 8_192,
        queue_ms: 10_000,
        batch_tokens: 256,
        cache_mb: 0,
    }
}

/// Processor time of this process so far, in steps of 10 ms; 0 where there is no /proc.
fn cpu_ms() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let ticks = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(2);
    ticks.filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() * 10.0
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
    let model = prepare_as(&models, "all-minilm-l6-v2", Some(Precision::Fp32), &mut |_| {}).unwrap();
    let cores = std::thread::available_parallelism().unwrap().get();
    let mut contenders = vec![
        Contender::bare(&model, 1),
        Contender::bare(&model, cores),
        Contender::encoder(&model, 1, cores),
        Contender::encoder(&model, cores, 1),
        Contender::encoder(&model, cores, cores),
    ];
    let runtime = tokio::runtime::Builder::new_multi_thread().build().unwrap();
    let mut next = 0;
    runtime.block_on(async {
        for _ in 0..ROUNDS {
            for contender in &mut contenders {
                contender.round(&mut next).await;
            }
        }
    });

    let yardsticks: Vec<(f64, f64)> = contenders[..2].iter_mut().map(|bare| (median(&mut bare.alone_ms), median(&mut bare.crowd_per_second))).collect();
    println!("{:<28} {:>9} {:>22} {:>12} {:>22} {:>12}", "", "alone ms", "of bare 1, bare all", "64: texts/s", "of bare 1, bare all", "cpu ms/text");
    for contender in &mut contenders {
        let (alone, crowd) = (median(&mut contender.alone_ms), median(&mut contender.crowd_per_second));
        let of = |value: f64, yardstick: fn(&(f64, f64)) -> f64| yardsticks.iter().map(|bare| format!("{:>10.2}", value / yardstick(bare))).collect::<String>();
        println!(
            "{:<28} {alone:>9.2} {:>22} {crowd:>12.0} {:>22} {:>12.2}",
            contender.name,
            of(alone, |bare| bare.0),
            of(crowd, |bare| bare.1),
            median(&mut contender.crowd_cpu_ms)
        );
    }
}
