//! The encoder on its real parts: ONNX Runtime and the model, fetched into `models/` of the checkout once.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, LazyLock, Mutex, atomic::AtomicBool, mpsc},
    task::Poll,
};

use prometheus::Registry;
use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};
use rayon::prelude::*;

use super::{
    forward::{Forward, Weights},
    reference::Reference,
    worker::Pass,
    *,
};

pub(super) static MODEL: LazyLock<PreparedModel> = LazyLock::new(|| prepare_as(&models_dir(), "all-minilm-l6-v2", Some(Precision::Fp32), &mut |_| {}).unwrap());

fn models_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models")
}

pub(super) fn settings() -> EncoderSettings {
    EncoderSettings {
        model: "all-minilm-l6-v2".to_owned(),
        precision: None,
        provider: ProviderSetting::Cpu,
        max_tokens: 256,
        sessions: 1,
        threads: 2,
        queue_tokens: 4_096,
        queue_ms: 60_000,
        batch_tokens: 256,
        cache_mb: 0,
    }
}

fn metrics() -> EncoderMetrics {
    EncoderMetrics::register(&Registry::new()).unwrap()
}

/// For callers with time.
async fn encode(encoder: &Encoder, text: &str) -> Answer {
    encoder.encode(text, Instant::now() + Duration::from_secs(60)).await
}

fn start(settings: &EncoderSettings) -> Encoder {
    Encoder::start(&MODEL, settings, &metrics()).unwrap()
}

/// `count` words that depend on `seed`, some rare, some not Latin.
fn words(seed: usize, count: usize) -> String {
    const WORDS: [&str; 24] = [
        "wireless",
        "headphones",
        "for",
        "running",
        "in",
        "the",
        "rain",
        "quiet",
        "keyboard",
        "returns",
        "a",
        "refund",
        "thriller",
        "about",
        "memory",
        "loss",
        "$19.99",
        "electroencephalography",
        "naïve",
        "降噪",
        "C++",
        "2026",
        "what",
        "?",
    ];
    (0..count).map(|i| WORDS[(seed * 7 + i * i * 5 + i * (seed % 11 + 1)) % WORDS.len()]).collect::<Vec<_>>().join(" ")
}

/// 120 texts of 1 to 256 tokens: most short, as people type, a few long.
fn texts() -> Vec<String> {
    let short = (0..104).map(|i| words(i, 1 + i % 16));
    let long = [20, 25, 30, 40, 50, 60, 70, 80, 90, 100, 120, 140, 160, 180, 200, 400].into_iter().enumerate();
    short.chain(long.map(|(i, count)| words(i, count))).collect()
}

fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn the_exported_model_agrees_with_an_independent_float64_forward_pass() {
    let reference = Reference::read(MODEL.onnx.parent().unwrap());
    let tokens = Tokens::load(&MODEL.tokenizer, 256).unwrap();
    let mut forward = Forward::load(&MODEL, &Weights::load(&MODEL).unwrap(), 2).unwrap();
    let frame = tokens.frame("").unwrap();
    let rows: Vec<Vec<u32>> = texts().iter().map(|text| tokens.first(text, &frame, 1).unwrap().rows.remove(0)).collect();
    let lengths: Vec<usize> = rows.iter().map(|row| row.len() - 2).collect();
    assert!(rows.len() >= 100 && lengths.contains(&1) && lengths.contains(&254), "{lengths:?}");

    let expected: Vec<Vec<f64>> = rows.par_iter().map(|row| reference.embed(row)).collect();
    // In batches, so that padding is checked as well.
    let found: Vec<Vec<f32>> = rows.chunks(5).flat_map(|rows| forward.run(&rows.iter().map(Vec::as_slice).collect::<Vec<_>>()).unwrap()).collect();

    let differences = expected.iter().zip(&found).map(|(expected, found)| {
        assert_eq!(expected.len(), found.len());
        expected.iter().zip(found).map(|(a, b)| (a - f64::from(*b)).abs()).fold(0.0, f64::max)
    });
    let most = differences.fold(0.0, f64::max);
    println!("largest difference of {} texts: {most:.1e}", rows.len());
    assert!(most <= 1e-5, "{most}");
}

#[tokio::test]
async fn a_text_has_the_same_embedding_alone_and_in_any_company() {
    let encoder = start(&settings());
    let texts = texts();
    let mut alone = Vec::new();
    for text in &texts {
        alone.push(encode(&encoder, text).await.unwrap().embedding);
    }

    for stride in [1, 7, 77] {
        let order: Vec<usize> = (0..texts.len()).map(|i| (i * stride) % texts.len()).collect();
        let together = futures::future::join_all(order.iter().map(|i| encode(&encoder, &texts[*i]))).await;
        for (i, encoded) in order.into_iter().zip(together) {
            let difference = largest_difference(&alone[i], &encoded.unwrap().embedding);
            assert!(difference <= 1e-5, "text {i}: {difference}");
        }
    }
}

#[tokio::test]
async fn texts_that_mean_alike_lie_closer_than_others() {
    let encoder = start(&settings());
    let near = |a: &'static str, b: &'static str| {
        let encoder = encoder.clone();
        async move { encode(&encoder, a).await.unwrap().embedding.cosine(&encode(&encoder, b).await.unwrap().embedding) }
    };

    let alike = near("how do I get my money back", "refund policy").await;
    let unlike = near("how do I get my money back", "a film about the sea").await;

    assert!(alike > unlike + 0.2, "{alike} {unlike}");
}

#[tokio::test]
async fn bulk_keeps_the_order_says_none_for_nothing_and_reads_long_texts_in_windows() {
    let encoder = start(&settings());
    let long = format!("{} {}", words(1, 300), "the history of chocolate and cocoa beans in Mexico ".repeat(40));
    let texts = vec!["red shoes".to_owned(), "  ".to_owned(), long.clone(), "\u{200b}".to_owned(), "blue shoes".to_owned()];

    let embeddings = encoder.encode_bulk(texts).await.unwrap();

    assert_eq!(embeddings.iter().map(Option::is_some).collect::<Vec<_>>(), [true, false, true, false, true]);
    let red = encode(&encoder, "red shoes").await.unwrap();
    assert!(largest_difference(embeddings[0].as_ref().unwrap(), &red.embedding) <= 1e-5);
    assert!(!red.truncated);
    let start = encode(&encoder, &long).await.unwrap();
    assert!(start.truncated);
    let chocolate = encode(&encoder, "chocolate").await.unwrap().embedding;
    let whole = embeddings[2].as_ref().unwrap().cosine(&chocolate);
    assert!(whole > start.embedding.cosine(&chocolate) + 0.1, "the end of the text counts: {whole}");
}

/// A session without a model: remembers what it was given, waits for a word before each pass while `gate` is open, fails while `broken`.
struct Fake {
    batches: Arc<Mutex<Vec<Vec<Vec<u32>>>>>,
    gate: mpsc::Receiver<()>,
    broken: Arc<AtomicBool>,
}

/// The other end of a [`Fake`].
struct Strings {
    batches: Arc<Mutex<Vec<Vec<Vec<u32>>>>>,
    gate: mpsc::Sender<()>,
    broken: Arc<AtomicBool>,
}

impl Pass for Fake {
    fn run(&mut self, rows: &[&[u32]]) -> Result<Vec<Vec<f32>>, String> {
        self.batches.lock().unwrap().push(rows.iter().map(|row| row.to_vec()).collect());
        let _ = self.gate.recv(); // an end that is gone lets everything pass
        if self.broken.load(Ordering::Relaxed) {
            return Err("CUDA failure 719: unspecified launch failure".to_owned());
        }
        Ok(rows.iter().map(|row| vec![row.len() as f32, 1.0]).collect())
    }
}

impl Strings {
    /// Passes begun, the warm-up left out.
    fn begun(&self) -> usize {
        self.batches.lock().unwrap().len() - 1
    }

    /// Lets one pass go on.
    fn go(&self) {
        self.gate.send(()).unwrap();
    }
}

fn with_fake(model: &PreparedModel, settings: &EncoderSettings, metrics: &EncoderMetrics) -> (Encoder, Strings) {
    let (go, gate) = mpsc::channel();
    go.send(()).unwrap(); // the warm-up
    let strings = Strings { batches: Arc::default(), gate: go, broken: Arc::default() };
    let fake = Fake { batches: Arc::clone(&strings.batches), gate, broken: Arc::clone(&strings.broken) };
    let sessions = Sessions { passes: vec![Box::new(fake)], provider: Provider::Cuda, batch_tokens: 256, slow_products: false };
    (Encoder::with_sessions(model, settings, metrics, sessions).unwrap(), strings)
}

async fn until(what: &str, reached: impl Fn() -> bool) {
    for _ in 0..5_000 {
        if reached() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("waited 5 s for {what}");
}

#[tokio::test]
async fn more_tokens_than_may_wait_are_refused_and_abandoned_ones_cost_nothing() {
    let (encoder, strings) = with_fake(&MODEL, &EncoderSettings { max_tokens: 16, queue_tokens: 20, ..settings() }, &metrics());
    let busy = tokio::spawn({
        let encoder = encoder.clone();
        async move { encode(&encoder, "busy").await }
    });
    until("the first pass", || strings.begun() == 1).await;

    // 5 tokens each, 2 of them special: 4 texts fit.
    let texts: Vec<String> = (0..12).map(|i| format!("red shoes {i}")).collect();
    let mut waiting: Vec<_> = texts.iter().map(|text| Box::pin(encode(&encoder, text))).collect();
    let mut refused = 0;
    for future in &mut waiting {
        refused += usize::from(matches!(futures::poll!(future.as_mut()), Poll::Ready(Err(EncodeError::Overloaded))));
    }
    drop(waiting);
    drop(strings.gate);
    busy.await.unwrap().unwrap();
    encode(&encoder, "someone who waits").await.unwrap();

    assert_eq!(refused, 8);
    let metrics = &encoder.running.shared.metrics;
    assert_eq!((metrics.refused.get(), metrics.abandoned.get()), (8, 4));
    assert_eq!(strings.batches.lock().unwrap().len(), 3, "warm-up, and the two that someone waited for");
}

#[tokio::test]
async fn a_text_past_its_deadline_is_not_computed() {
    let (encoder, strings) = with_fake(&MODEL, &settings(), &metrics());
    let busy = tokio::spawn({
        let encoder = encoder.clone();
        async move { encode(&encoder, "busy").await }
    });
    until("the first pass", || strings.begun() == 1).await;
    let mut late = Box::pin(encoder.encode("late", Instant::now() + Duration::from_millis(20)));
    assert!(futures::poll!(late.as_mut()).is_pending());
    tokio::time::sleep(Duration::from_millis(30)).await;

    strings.go();

    assert_eq!(late.await, Err(EncodeError::Late));
    busy.await.unwrap().unwrap();
    assert_eq!(strings.begun(), 1);
}

#[tokio::test]
async fn a_text_in_a_running_pass_is_joined_by_whoever_asks_for_it() {
    let (encoder, strings) = with_fake(&MODEL, &settings(), &metrics());
    let ask = |text: &'static str| {
        let encoder = encoder.clone();
        tokio::spawn(async move { encode(&encoder, text).await })
    };
    let first = ask("the same text");
    until("the first pass", || strings.begun() == 1).await;

    let others = [ask("the same text"), ask("the same text")];
    until("both to join", || encoder.running.shared.metrics.joined.get() == 2).await;
    strings.go();

    let first = first.await.unwrap().unwrap();
    for other in others {
        assert_eq!(other.await.unwrap().unwrap(), first);
    }
    assert_eq!(strings.begun(), 1);
}

#[tokio::test]
async fn a_device_that_falls_off_the_bus_fails_texts_and_turns_the_gauge_red_until_it_is_back() {
    let metrics = metrics();
    let (encoder, strings) = with_fake(&MODEL, &settings(), &metrics);
    strings.broken.store(true, Ordering::Relaxed);
    (0..4).for_each(|_| strings.go());

    for text in ["one", "two"] {
        assert!(matches!(encode(&encoder, text).await, Err(EncodeError::Failed(reason)) if reason.contains("CUDA")));
    }
    assert!(encoder.encode_bulk(vec!["an item".to_owned()]).await.is_err());
    assert!(!encoder.is_up());
    assert_eq!((metrics.failing.get(), metrics.failed.get()), (1, 3));

    strings.broken.store(false, Ordering::Relaxed);
    encode(&encoder, "three").await.unwrap();
    assert!(encoder.is_up());
    assert_eq!(metrics.failing.get(), 0);
}

#[tokio::test]
async fn every_window_of_a_long_text_is_read_and_begins_with_the_prefix() {
    let mut model = MODEL.clone();
    model.manifest.item_prefix = "passage: ".to_owned();
    let (encoder, strings) = with_fake(&model, &EncoderSettings { max_tokens: 64, ..settings() }, &metrics());
    drop(strings.gate);
    let text = words(5, 12_000);

    let embeddings = encoder.encode_bulk(vec![text.clone(), "short".to_owned()]).await.unwrap();

    assert_eq!(embeddings.iter().flatten().count(), 2);
    let tokens = Tokens::load(&MODEL.tokenizer, 64).unwrap();
    let whole = tokens.all(&format!("passage: {text}"), &mut || {}).unwrap();
    let (prefix, own) = whole.split_at(2);
    let batches = strings.batches.lock().unwrap();
    let rows: Vec<&Vec<u32>> = batches.iter().skip(1).flatten().filter(|row| row.len() > 5).collect();
    assert!(rows.len() >= 300 && rows.iter().all(|row| row[1..3] == *prefix && row.len() <= 64), "{}", rows.len());
    let mut read: Vec<u32> = rows.iter().flat_map(|row| &row[3..row.len() - 1]).copied().collect();
    let mut expected = own.to_vec();
    // Sorted: a batch holds windows of like length, in whatever order.
    read.sort_unstable();
    expected.sort_unstable();
    assert_eq!(read, expected);
}

#[tokio::test]
async fn people_are_served_between_the_batches_of_one_long_text() {
    let (encoder, strings) = with_fake(&MODEL, &settings(), &metrics());
    let bulk = tokio::spawn({
        let encoder = encoder.clone();
        async move { encoder.encode_bulk(vec![words(5, 12_000)]).await }
    });
    until("the first window", || strings.begun() == 1).await;

    let mut person = Box::pin(encode(&encoder, "quick question"));
    assert!(futures::poll!(person.as_mut()).is_pending());
    (0..2).for_each(|_| strings.go());

    assert!(person.await.is_ok());
    assert!(!bulk.is_finished());
    drop(strings.gate);
    assert!(bulk.await.unwrap().unwrap()[0].is_some());
}

#[tokio::test]
async fn auto_without_a_gpu_runs_on_the_processor_and_says_so_and_cuda_does_not_start() {
    if provider::Places::here(&MODEL).unwrap().load().is_ok() {
        return; // a machine with a GPU: tests/gpu looks at it
    }
    let metrics = metrics();

    let encoder = Encoder::start(&MODEL, &EncoderSettings { provider: ProviderSetting::Auto, ..settings() }, &metrics).unwrap();
    assert!(encode(&encoder, "still encoded").await.is_ok());
    assert_eq!(encoder.provider(), Provider::Cpu);
    let on = |provider: Provider| metrics.provider.with_label_values(&[provider.name()]).get();
    assert_eq!((on(Provider::Cpu), on(Provider::Cuda)), (1, 0));

    let error = Encoder::start(&MODEL, &EncoderSettings { provider: ProviderSetting::Cuda, ..settings() }, &metrics).err().unwrap().to_string();
    for part in ["no usable GPU", "libcuda.so.1", "looked in"] {
        assert!(error.contains(part), "{error}");
    }
    drop(encoder);
    assert_eq!(on(Provider::Cpu), 0);
}

#[tokio::test]
async fn two_encoders_live_side_by_side_on_one_registry_while_one_takes_over() {
    let registry = Registry::new();
    let metrics = EncoderMetrics::register(&registry).unwrap();
    let versions = || {
        let families = registry.gather();
        let info = families.iter().find(|family| family.name() == "inkling_encoder_info");
        info.map_or_else(Vec::new, |info| info.get_metric().iter().map(|metric| metric.get_label()[0].value().to_owned()).collect())
    };
    let (old, _strings) = with_fake(&MODEL, &settings(), &metrics);
    let (new, strings) = with_fake(&MODEL, &EncoderSettings { max_tokens: 128, ..settings() }, &metrics);
    assert_eq!(versions().len(), 2);

    drop(old);

    assert_eq!(versions(), [new.version().to_owned()]);
    strings.go();
    assert!(encode(&new, "still here").await.is_ok());
}

#[test]
fn slow_products_show_in_the_gauge_for_as_long_as_their_encoder_runs() {
    let metrics = metrics();
    let encoder = |slow_products| {
        let sessions = Sessions { passes: Vec::new(), provider: Provider::Cpu, batch_tokens: 256, slow_products };
        Encoder::with_sessions(&MODEL, &settings(), &metrics, sessions).unwrap()
    };
    let (slow, fast) = (encoder(true), encoder(false));

    assert!(slow.has_slow_products() && !fast.has_slow_products());
    assert_eq!(metrics.slow_products.get(), 1);
    drop(slow);
    assert_eq!(metrics.slow_products.get(), 0);
}

#[test]
fn beside_another_model_half_of_the_passes_run() {
    let settings = |sessions, threads| EncoderSettings { sessions, threads, ..settings() };
    let halved = |sessions, threads| {
        let halved = settings(sessions, threads).beside_another(Precision::Fp32);
        (halved.sessions, halved.threads)
    };

    assert_eq!([halved(8, 2), halved(3, 1), halved(1, 4), halved(1, 1)], [(4, 2), (1, 1), (1, 2), (1, 1)]);
}

#[test]
fn sessions_and_threads_follow_the_cores_and_the_precision() {
    let auto = EncoderSettings { sessions: 0, threads: 0, ..settings() };
    let layout = |settings: &EncoderSettings, cores| {
        let layout = settings.layout(Precision::Fp32, cores);
        (layout.sessions, layout.threads)
    };

    assert_eq!([1, 2, 8, 64].map(|cores| layout(&auto, cores)), [(1, 1), (1, 2), (4, 2), (16, 2)]);
    assert_eq!(layout(&EncoderSettings { threads: 1, ..auto.clone() }, 8), (8, 1));
    assert_eq!(layout(&EncoderSettings { sessions: 3, threads: 5, ..auto }, 2), (3, 5));
}

#[tokio::test]
async fn equal_texts_are_computed_once_and_known_ones_not_at_all() {
    let encoder = start(&EncoderSettings { cache_mb: 1, ..settings() });
    let metrics = &encoder.running.shared.metrics;

    let first = futures::future::join_all((0..20).map(|_| encode(&encoder, "the same text"))).await;
    let passed = metrics.batch_texts.get_sample_sum();
    let again = encode(&encoder, "the same text").await.unwrap();

    assert!(first.iter().all(|encoded| *encoded.as_ref().unwrap() == again));
    assert_eq!(passed as u64, 1);
    assert_eq!(metrics.batch_texts.get_sample_sum().to_bits(), passed.to_bits());
    assert!(metrics.cache_hits.get() >= 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_is_answered_while_bulk_work_goes_on() {
    let encoder = start(&settings());
    let bulk = tokio::spawn({
        let encoder = encoder.clone();
        async move { encoder.encode_bulk((0..400).map(|i| words(i, 20)).collect()).await }
    });
    while encoder.running.shared.metrics.batch_texts.get_sample_count() < 3 {
        tokio::task::yield_now().await;
    }

    encode(&encoder, "quick question").await.unwrap();

    assert!(!bulk.is_finished());
    assert_eq!(bulk.await.unwrap().unwrap().len(), 400);
}

#[tokio::test]
async fn dropping_the_last_encoder_ends_its_threads() {
    let encoder = start(&settings());
    let shared = Arc::downgrade(&encoder.running.shared);
    let clone = encoder.clone();
    drop(encoder);
    assert!(encode(&clone, "still here").await.is_ok());

    drop(clone);

    for _ in 0..500 {
        if shared.strong_count() == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the session's thread still runs after 5 s");
}

#[test]
fn any_text_is_encoded_or_empty_and_nothing_panics() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let encoder = start(&EncoderSettings { max_tokens: 64, ..settings() });
    let hostile = prop_oneof![any::<String>(), "\\PC{0,300}", "[a-z\\[\\]# ]{0,40}", "[\u{300}-\u{36f}]{0,200}", "[\u{4e00}-\u{4fff}]{0,200}"];
    let mut runner = TestRunner::new(Config { cases: 200, failure_persistence: None, ..Config::default() });

    let checked = runner.run(&hostile, |text| {
        match runtime.block_on(encode(&encoder, &clean(&text))) {
            Ok(encoded) => prop_assert!((encoded.embedding.cosine(&encoded.embedding) - 1.0).abs() < 1e-5),
            Err(EncodeError::Empty) => {}
            Err(error) => prop_assert!(false, "{error}"),
        }
        Ok(())
    });

    checked.unwrap();
}

#[test]
fn a_text_of_twenty_thousand_characters_is_cut_before_it_is_tokenized() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let encoder = start(&settings());
    for text in ["word ".repeat(4000), "字".repeat(20_000), "[SEP]".repeat(4000), "a".repeat(20_000)] {
        let encoded = runtime.block_on(encode(&encoder, &text)).unwrap();

        assert!(encoded.truncated);
    }
}

#[test]
fn what_a_user_types_is_never_a_special_token() {
    let tokens = Tokens::load(&MODEL.tokenizer, 64).unwrap();
    let nothing = tokens.nothing();

    let rows = tokens.first("[SEP] [CLS] [PAD]", &tokens.frame("").unwrap(), 1).unwrap().rows;

    let content = &rows[0][1..rows[0].len() - 1];
    assert!(content.len() > 6 && content.iter().all(|id| !nothing.contains(id) && *id != 0), "{rows:?}");
}

#[test]
fn long_texts_become_equal_windows_within_the_limit() {
    let tokens = Tokens::load(&MODEL.tokenizer, 34).unwrap();
    let frame = tokens.frame("").unwrap();

    let read = tokens.first(&"tea ".repeat(33), &frame, 8).unwrap();
    assert_eq!(read.rows.iter().map(Vec::len).collect::<Vec<_>>(), [19, 18]);
    assert!(!read.truncated);

    let read = tokens.first(&"tea ".repeat(65), &frame, 2).unwrap();
    assert_eq!(read.rows.iter().map(Vec::len).collect::<Vec<_>>(), [34, 34]);
    assert!(read.truncated);
}

#[test]
fn settings_that_cannot_work_stop_the_start_with_one_line() {
    for (wrong, word) in [
        (EncoderSettings { max_tokens: 100_000, ..settings() }, "max_tokens"),
        (EncoderSettings { threads: 65, ..settings() }, "threads"),
        (EncoderSettings { queue_tokens: 100, ..settings() }, "queue_tokens"),
        (EncoderSettings { queue_ms: 0, ..settings() }, "queue_ms"),
    ] {
        let error = Encoder::start(&MODEL, &wrong, &metrics()).err().unwrap().to_string();

        assert!(error.contains(word) && error.lines().count() == 1, "{error}");
    }
}

#[test]
fn a_torn_export_is_made_again_and_the_second_time_nothing_is_done() {
    // On the same file system, for links.
    let place = tempfile::tempdir_in(models_dir()).unwrap();
    for folder in [MODEL.onnx.parent().unwrap(), MODEL.library.parent().unwrap()] {
        let copy = place.path().join(folder.file_name().unwrap());
        std::fs::create_dir(&copy).unwrap();
        for file in std::fs::read_dir(folder).unwrap() {
            let file = file.unwrap();
            if file.file_name() != "files.json" {
                // A link: these files are never written in place.
                std::fs::hard_link(file.path(), copy.join(file.file_name())).unwrap();
            }
        }
    }
    let onnx = place.path().join("all-minilm-l6-v2/model.onnx");
    std::fs::remove_file(&onnx).unwrap();
    std::fs::write(&onnx, "torn").unwrap();

    let mut steps = Vec::new();
    let again = prepare_as(place.path(), "all-minilm-l6-v2", Some(Precision::Fp32), &mut |progress| steps.push(progress.step)).unwrap();
    assert!(!steps.is_empty() && steps.iter().all(|step| *step == Step::Export), "{steps:?}");
    assert_eq!(files::sha256_of(&again.onnx).unwrap(), files::sha256_of(&MODEL.onnx).unwrap(), "the export is the same each time");

    let mut steps = Vec::new();
    prepare_as(place.path(), "all-minilm-l6-v2", Some(Precision::Fp32), &mut |progress| steps.push(progress.step)).unwrap();
    assert_eq!(steps, []);
}
