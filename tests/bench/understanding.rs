//! How well texts are told apart by what they mean: banking77 (Casanueva et al. 2020), 10,003 messages to a bank with one of 77 intents each, 3,080 to
//! judge by. `INKLING_BANKING77=FOLDER cargo bench --bench understanding`, where the folder has `queries_train.jsonl` and `queries_test.jsonl`, a line
//! each `{"text": "…", "relevant": [{"item_id": "the intent"}]}`. The model is the one in the settings (`INKLING_ENCODER__MODEL`).
//!
//! Prints and asserts nothing. all-minilm-l6-v2 in float64: nearest centroid .83, ten nearest neighbours .89.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed benchmark")]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use futures::stream::{self, StreamExt as _};
use inkling::{
    config::{Overrides, Settings},
    domain::Embedding,
    encoder::{Encoder, EncoderMetrics, clean, prepare},
    telemetry::Registry,
};

/// Longer than any text waits here.
const PATIENCE: Duration = Duration::from_secs(60);

const NEIGHBOURS: usize = 10;

struct Message {
    text: String,
    intent: String,
}

fn messages(file: &Path) -> Vec<Message> {
    let read = |line: &str| {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        Message { text: clean(line["text"].as_str().unwrap()), intent: line["relevant"][0]["item_id"].as_str().unwrap().to_owned() }
    };
    fs::read_to_string(file).unwrap().lines().map(read).collect()
}

async fn encoded(encoder: &Encoder, messages: &[Message]) -> Vec<Embedding> {
    stream::iter(messages)
        .map(|message| async { encoder.encode(&message.text, Instant::now() + PATIENCE).await.unwrap().embedding })
        .buffered(64)
        .collect()
        .await
}

/// The share of texts for which `guess` is right.
fn accuracy<'a>(texts: &[Embedding], messages: &[Message], guess: impl Fn(&Embedding) -> &'a str) -> f64 {
    let right = texts.iter().zip(messages).filter(|(text, message)| guess(text) == message.intent).count();
    right as f64 / messages.len() as f64
}

#[tokio::main]
async fn main() {
    let Some(folder) = std::env::var_os("INKLING_BANKING77").map(PathBuf::from) else {
        println!("set INKLING_BANKING77 to the folder of the data set to judge on it");
        return;
    };
    let settings = Settings::load(&Overrides::default()).unwrap();
    let model = prepare(&settings.paths.models_dir(), &settings.encoder.model, &mut |_| {}).unwrap();
    let encoder = Encoder::start(&model, &settings.encoder, &EncoderMetrics::register(&Registry::new()).unwrap()).unwrap();
    let (train, test) = (messages(&folder.join("queries_train.jsonl")), messages(&folder.join("queries_test.jsonl")));

    let begun = Instant::now();
    let known = encoded(&encoder, &train).await;
    let asked = encoded(&encoder, &test).await;
    let seconds = begun.elapsed().as_secs_f64();
    println!("{}: {} texts in {seconds:.0} s, {:.0} a second", encoder.version(), train.len() + test.len(), (train.len() + test.len()) as f64 / seconds);

    let neighbours = |text: &Embedding| {
        let mut near: Vec<(f32, &str)> = known.iter().zip(&train).map(|(other, message)| (text.cosine(other), message.intent.as_str())).collect();
        near.select_nth_unstable_by(NEIGHBOURS, |a, b| b.0.total_cmp(&a.0));
        let mut votes: BTreeMap<&str, f32> = BTreeMap::new();
        near[..NEIGHBOURS].iter().for_each(|(cosine, intent)| *votes.entry(intent).or_default() += cosine);
        votes.into_iter().max_by(|a, b| a.1.total_cmp(&b.1)).unwrap().0
    };
    let mut sums: BTreeMap<&str, Vec<f32>> = BTreeMap::new();
    for (embedding, message) in known.iter().zip(&train) {
        let sum = sums.entry(message.intent.as_str()).or_insert_with(|| vec![0.0; embedding.len()]);
        sum.iter_mut().zip(embedding.iter()).for_each(|(sum, x)| *sum += x);
    }
    let centres: Vec<(&str, Embedding)> = sums.into_iter().map(|(intent, sum)| (intent, Embedding::new(sum).unwrap())).collect();
    let centroid = |text: &Embedding| centres.iter().max_by(|a, b| text.cosine(&a.1).total_cmp(&text.cosine(&b.1))).unwrap().0;

    println!("{NEIGHBOURS} nearest neighbours: {:.3}", accuracy(&asked, &test, neighbours));
    println!("nearest centroid:      {:.3}", accuracy(&asked, &test, centroid));
}
