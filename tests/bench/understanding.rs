//! How well texts are understood, and what that costs. Prints and asserts nothing; the model is the one in the settings (`INKLING_ENCODER__MODEL`).
//!
//! - Always: what a text that rejects something costs beside one that does not, and which weight of `rejected` keeps what is rejected below what is
//!   not, on the held-out pairs; through the whole service, over a socket.
//! - `INKLING_BANKING77=FOLDER`: banking77 (Casanueva et al. 2020), 10,003 messages to a bank with one of 77 intents each, 3,080 to judge by. The folder
//!   has `queries_train.jsonl` and `queries_test.jsonl`, a line each `{"text": "…", "relevant": [{"item_id": "the intent"}]}`. all-minilm-l6-v2 in
//!   float64: nearest centroid .83, ten nearest neighbours .89.
//! - `INKLING_CATEGORIES=FILE`: whether probabilities of categories are what they say. The file has a line for each item, `{"item_id", "title", "text",
//!   "categories"}`; every eighth is held out and asked about by its title. `INKLING_BENCH_ITEMS` bounds how many are read.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed benchmark")]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use futures::stream::{self, StreamExt as _};
use inkling::{
    app::App,
    config::{Overrides, Settings},
    domain::{Embedding, Item},
    encoder::{Encoder, EncoderMetrics, EncoderSettings, PreparedModel, clean, prepare_as},
    telemetry::Registry,
};
use serde_json::{Value as Json, json};
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle};

/// Texts, what of them is wanted, what they reject.
const PAIRS: [(&str, &str); 2] = [
    ("en", include_str!("../../src/recommend/understand/pairs/held_out_en.tsv")),
    ("zh", include_str!("../../src/recommend/understand/pairs/held_out_zh.tsv")),
];
const WEIGHTS: [f32; 5] = [0.0, 1.0, 3.0, 6.0, 10.0];
/// How often each text is asked while time is measured.
const ROUNDS: usize = 5;
/// Longer than any text waits here.
const PATIENCE: Duration = Duration::from_secs(600);

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

/// The whole service on a folder and a port of its own.
struct Site {
    http: reqwest::Client,
    base: String,
    stop: oneshot::Sender<()>,
    served: JoinHandle<anyhow::Result<()>>,
    _folder: tempfile::TempDir,
}

impl Site {
    async fn start(mut settings: Settings, model: &PreparedModel, items: Vec<Item>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        settings.paths.data = folder.path().to_owned();
        let app = App::build(&settings, model).await.unwrap();
        app.ingest.put_items(items).await.unwrap();
        app.index_all(|_| {}).await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let (stop, stopped) = oneshot::channel::<()>();
        let served = tokio::spawn(app.serve(listener, async { drop(stopped.await) }));
        let site = Self { http: reqwest::Client::builder().no_proxy().build().unwrap(), base, stop, served, _folder: folder };
        while !site.http.get(format!("{}/health/ready", site.base)).send().await.is_ok_and(|answer| answer.status().is_success()) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        site
    }

    async fn post(&self, path: &str, body: &Json) -> Json {
        let answer = self.http.post(format!("{}{path}", self.base)).json(body).send().await.unwrap();
        assert!(answer.status().is_success(), "{path}: {}", answer.status());
        answer.json().await.unwrap()
    }

    async fn ids(&self, body: &Json) -> Vec<String> {
        let answer = self.post("/recommend", body).await;
        answer["items"].as_array().unwrap().iter().map(|item| item["item_id"].as_str().unwrap().to_owned()).collect()
    }

    async fn stop(self) {
        drop(self.stop);
        self.served.await.unwrap().unwrap();
    }
}

/// A text that wants something and rejects something.
struct Rejecting {
    language: &'static str,
    text: &'static str,
    wanted: &'static str,
    rejected: Vec<&'static str>,
}

fn rejecting() -> Vec<Rejecting> {
    let lines = PAIRS.iter().flat_map(|(language, pairs)| pairs.lines().map(move |line| (*language, line)));
    let read = |(language, line): (&'static str, &'static str)| {
        let [text, wanted, rejected] = line.split('\t').collect::<Vec<_>>().try_into().unwrap();
        let rejected: Vec<&str> = rejected.split('|').map(str::trim).filter(|one| !one.is_empty()).collect();
        (!wanted.is_empty() && !rejected.is_empty()).then_some(Rejecting { language, text, wanted, rejected })
    };
    lines.filter_map(read).collect()
}

/// For each pair two items that are what it rejects, one by its title, one by its text alone, and two that are not.
fn shelves(pairs: &[Rejecting]) -> Vec<Item> {
    let shelf = |(number, pair): (usize, &Rejecting)| {
        let (wanted, rejected) = (pair.wanted, pair.rejected[0]);
        let chinese = pair.language == "zh";
        let texts = if chinese {
            [
                (format!("{rejected}{wanted}"), String::new()),
                (wanted.to_owned(), format!("含有{rejected}。")),
                (wanted.to_owned(), "很多人喜欢。".to_owned()),
                (format!("精选{wanted}"), String::new()),
            ]
        } else {
            [
                (format!("{rejected} {wanted}"), String::new()),
                (wanted.to_owned(), format!("This is about {rejected}.")),
                (wanted.to_owned(), "Many like it.".to_owned()),
                (format!("Best {wanted}"), String::new()),
            ]
        };
        let names = ["title", "text", "kept-1", "kept-2"];
        let item = move |(name, (title, text)): (&str, (String, String))| {
            serde_json::from_value::<Item>(json!({"item_id": format!("{number}-{name}"), "title": title, "text": text, "language": pair.language})).unwrap()
        };
        names.into_iter().zip(texts).map(item).collect::<Vec<_>>()
    };
    pairs.iter().enumerate().flat_map(shelf).collect()
}

/// What rejecting costs and what its weight does.
async fn rejecting_texts(settings: &Settings, model: &PreparedModel) {
    let pairs = rejecting();
    println!(
        "{} held-out pairs, for each two items that are rejected and two that are not; of all pairs of those, how many stand in the wrong order",
        pairs.len()
    );
    println!("{:>8} {:>22} {:>22} {:>28}", "weight", "rejected by its title", "rejected by its text", "rejected among the first 2");
    for weight in WEIGHTS {
        let mut settings = settings.clone();
        settings.recommend.weights.rejected = weight;
        let site = Site::start(settings, model, shelves(&pairs)).await;
        let (mut wrong, mut all, mut shown) = ([0, 0], 0, 0);
        for (number, pair) in pairs.iter().enumerate() {
            let list = site.ids(&json!({"text": pair.text, "limit": 200})).await;
            let place = |name: &str| list.iter().position(|id| *id == format!("{number}-{name}")).unwrap_or(list.len());
            for kept in ["kept-1", "kept-2"] {
                all += 1;
                wrong[0] += usize::from(place("title") < place(kept));
                wrong[1] += usize::from(place("text") < place(kept));
            }
            shown += ["title", "text"].iter().filter(|name| place(name) < 2).count();
        }
        let share = |count: usize, of: usize| 100.0 * count as f64 / of as f64;
        println!("{weight:>8} {:>20.1} % {:>20.1} % {:>26.1} %", share(wrong[0], all), share(wrong[1], all), share(shown, 2 * pairs.len()));
        site.stop().await;
    }

    // Nothing is remembered: a text that nobody has typed before.
    let mut settings = settings.clone();
    settings.encoder.cache_mb = 0;
    let site = Site::start(settings, model, shelves(&pairs)).await;
    let mut ms = [Vec::new(), Vec::new()];
    for round in 0..=ROUNDS {
        for pair in &pairs {
            for (text, ms) in [pair.wanted, pair.text].iter().zip(&mut ms) {
                let begun = Instant::now();
                site.ids(&json!({"text": text, "limit": 10})).await;
                if round > 0 {
                    ms.push(begun.elapsed().as_secs_f64() * 1e3);
                }
            }
        }
    }
    let [plain, rejecting] = ms.map(|mut ms| {
        ms.sort_by(f64::total_cmp);
        (ms[ms.len() / 2], ms[ms.len() * 95 / 100])
    });
    println!(
        "p50 of /recommend, new texts: {:.2} ms for what is wanted alone, {:.2} ms with what is rejected: {:.2} x (p95 {:.2} x)",
        plain.0,
        rejecting.0,
        rejecting.0 / plain.0,
        rejecting.1 / plain.1
    );
    site.stop().await;
}

/// Whether what is told of categories is so, for items that the catalogue does not have.
async fn categories(settings: &Settings, model: &PreparedModel, file: &Path) {
    let most = std::env::var("INKLING_BENCH_ITEMS").map_or(usize::MAX, |most| most.parse().unwrap());
    let mut items: Vec<Item> = Vec::new();
    for line in fs::read_to_string(file).unwrap().lines().take(most) {
        let line: Json = serde_json::from_str(line).unwrap();
        if line["title"].as_str().is_some_and(|title| !title.is_empty()) && line["categories"].as_array().is_some_and(|names| !names.is_empty()) {
            items.push(
                serde_json::from_value(json!({"item_id": line["item_id"], "title": line["title"], "text": line["text"], "categories": line["categories"]}))
                    .unwrap(),
            );
        }
    }
    let (mut held_out, mut kept) = (Vec::new(), Vec::new());
    for (number, item) in items.into_iter().enumerate() {
        if number % 8 == 0 { held_out.push(item) } else { kept.push(item) }
    }
    let count = kept.len();
    let site = Site::start(settings.clone(), model, kept).await;
    let told = async |title: &str| site.post("/understand", &json!({"text": title})).await["categories"].as_array().unwrap().clone();
    let title = |item: &Item| item.title.clone().unwrap();
    while told(&title(&held_out[0])).await.is_empty() {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let metrics = site.http.get(format!("{}/metrics", site.base)).send().await.unwrap().text().await.unwrap();
    let seconds = metrics.lines().find_map(|line| line.strip_prefix("inkling_categories_build_seconds_sum ")).unwrap_or("?");
    println!("{count} items: their categories were made in {seconds} s");
    let mut bins: BTreeMap<u32, (f64, f64, f64)> = BTreeMap::new();
    let mut first = 0;
    for item in &held_out {
        for (place, one) in told(&title(item)).await.iter().enumerate() {
            let (probability, so) = (one["probability"].as_f64().unwrap(), item.categories.iter().any(|name| one["category"] == **name));
            let bin = bins.entry((probability * 10.0).min(9.0) as u32).or_default();
            *bin = (bin.0 + 1.0, bin.1 + probability, bin.2 + f64::from(u8::from(so)));
            first += usize::from(place == 0 && so);
        }
    }
    for (bin, (count, told, so)) in &bins {
        println!("  {:.1}: {count:>5} told {:.2}, so {:.2}", f64::from(*bin) / 10.0, told / count, so / count);
    }
    let all: f64 = bins.values().map(|(count, ..)| count).sum();
    let error = bins.values().map(|(_, told, so)| (told - so).abs()).sum::<f64>() / all.max(1.0);
    println!("{} held-out titles: the first category is right for {first}; expected calibration error {error:.3}", held_out.len());
    site.stop().await;
}

#[tokio::main]
async fn main() {
    let settings = Settings::load(&Overrides::default()).unwrap();
    let model = prepare_as(&settings.paths.models_dir(), &settings.encoder.model, settings.encoder.precision, &mut |_| {}).unwrap();
    println!("{}", model.version);
    if let Some(folder) = std::env::var_os("INKLING_BANKING77").map(PathBuf::from) {
        banking77(&settings, &model, &folder).await;
    } else {
        println!("set INKLING_BANKING77 to the folder of that data set to judge on it");
    }
    if let Some(file) = std::env::var_os("INKLING_CATEGORIES").map(PathBuf::from) {
        categories(&settings, &model, &file).await;
    } else {
        println!("set INKLING_CATEGORIES to a file of items to judge probabilities of categories");
    }
    rejecting_texts(&settings, &model).await;
}

/// How well texts are told apart by what they mean.
async fn banking77(settings: &Settings, model: &PreparedModel, folder: &Path) {
    // Nobody waits here: a busy machine must not end it.
    let patient = EncoderSettings { queue_ms: 600_000, ..settings.encoder.clone() };
    let encoder = Encoder::start(model, &patient, &EncoderMetrics::register(&Registry::new()).unwrap()).unwrap();
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

    println!("banking77, {NEIGHBOURS} nearest neighbours: {:.3}", accuracy(&asked, &test, neighbours));
    println!("banking77, nearest centroid:      {:.3}", accuracy(&asked, &test, centroid));
}
