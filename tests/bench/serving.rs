//! The release binary over real sockets beside the bare ONNX session, the disk and itself doing nothing: `cargo bench --bench serving`.
//!
//! 10,000 items, 100,000 events of 2,000 users with tastes, all invented from a seed. Contenders alternate, so that a busy machine slows all of
//! them alike; medians of rounds are printed as ratios beside what was promised. Loading takes some minutes, most of it the encoding of the items:
//! `cargo bench --bench serving -- FOLDER` keeps the loaded data there and begins with it the next time; `-- FOLDER alone crowd` does those parts
//! only, of `memory`, `alone`, `crowd` and `feedback`; `model=NAME` and `precision=int8` serve another model (a folder holds the index of one).
//! The yardstick stays the plain fp32 export of the same model; the served precision's own bare session stands beside it. The server inherits the environment: `INKLING_HTTP__DEADLINE_MS=2000` shows what the deadline does.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed benchmark")]

mod answer;
mod served;
mod shop;

use std::{
    fmt::Write as _,
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use answer::frame;
use inkling::encoder::{BareModel, EncoderSettings, Precision, ProviderSetting, clean, prepare_as};
use serde_json::{Value as Json, json};
use served::{Line, Server, contains, get, models, post, status, wait};
use shop::{Random, USERS, event, item, query};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// The promises of issue and README are about the English model, and its plain fp32 export.
const MODEL: &str = "all-minilm-l6-v2";
const PRECISION: Precision = Precision::Fp32;
const ITEMS: usize = 10_000;
const EVENTS: usize = 100_000;
const CONNECTIONS: usize = 64;
/// `encoder.threads` as it comes.
const THREADS: usize = 2;
const WARM_UP: usize = 100;
const ALONE: usize = 400;
const CROWD_ROUNDS: usize = 9;
const CROWD: usize = 512;
const FEEDBACK_ROUNDS: usize = 9;
const FEEDBACK: usize = CONNECTIONS * 100;
const UNDEGRADED: &[u8] = b"\"degraded\":[]";

fn main() {
    let mut arguments = std::env::args().skip(1).filter(|argument| !argument.starts_with('-'));
    let kept = arguments.next().map(PathBuf::from);
    let parts: Vec<String> = arguments.collect();
    let (options, parts): (Vec<String>, Vec<String>) = parts.into_iter().partition(|part| part.contains('='));
    let served = Served::read(&options);
    let wanted = |part: &str| parts.is_empty() || parts.iter().any(|name| name == part);
    let temporary = tempfile::tempdir().unwrap();
    let data = kept.unwrap_or_else(|| temporary.path().to_owned());
    let cores = std::thread::available_parallelism().unwrap();
    println!("{cores} cores, load {} before", load());

    let mut table = Table::default();
    println!("{} in {}", served.model, served.precision.name());
    let server = served.start(&data, &[("INKLING_TRAINING__EVERY_EVENTS", "0")]);
    load_world(&server);
    if wanted("memory") {
        memory(&server, &mut table);
    }
    if wanted("alone") {
        recommend_alone(&server, &served, &mut table);
    }
    if wanted("crowd") {
        recommend_crowd(&server, &served, &mut table);
    }
    if wanted("feedback") {
        feedback(&server, &data, "", &mut table);
        table.add("resident memory after all of this", format!("{:.0} MB", server.memory_mb("VmRSS")), "at most 600");
        drop(server);
        let learning = served.start(&data, &[]);
        feedback(&learning, &data, ", learning every 1,000 events (default)", &mut table);
    }
    print!("\n{}", table.0);
    println!("load {} after", load());
}

/// What the server computes with.
struct Served {
    model: String,
    precision: Precision,
}

impl Served {
    /// From `model=…` and `precision=…`.
    fn read(options: &[String]) -> Self {
        let mut served = Self { model: MODEL.to_owned(), precision: PRECISION };
        for option in options {
            match option.split_once('=').unwrap() {
                ("model", name) => served.model = name.to_owned(),
                ("precision", "fp32") => served.precision = Precision::Fp32,
                ("precision", "int8") => served.precision = Precision::Int8,
                _ => panic!("unknown option {option}"),
            }
        }
        served
    }

    fn start(&self, data: &Path, settings: &[(&str, &str)]) -> Server {
        Server::start(data, &self.model, &[settings, &[("INKLING_ENCODER__PRECISION", self.precision.name())]].concat())
    }

    /// One session of the model in `precision`, with as many threads as the server's.
    fn bare(&self, precision: Precision) -> BareModel {
        let settings = EncoderSettings {
            model: self.model.clone(),
            precision: Some(precision),
            provider: ProviderSetting::Cpu,
            max_tokens: 256,
            sessions: 1,
            threads: THREADS,
            queue_tokens: 8_192,
            queue_ms: 2_000,
            batch_tokens: 256,
            cache_mb: 0,
        };
        let prepared = prepare_as(&models(), &self.model, Some(precision), &mut |_| {}).unwrap();
        BareModel::load(&prepared, &settings).unwrap()
    }
}

/// What was measured, beside what was promised.
#[derive(Default)]
struct Table(String);

impl Table {
    fn add(&mut self, what: &str, measured: impl AsRef<str>, promised: &str) {
        println!("  {what}: {}", measured.as_ref());
        writeln!(self.0, "{what:<62} {:>16}   {promised}", measured.as_ref()).unwrap();
    }
}

fn load_world(server: &Server) {
    let mut line = Line::to(server);
    let stats = line.json(&get("/stats"));
    if stats["events"]["total"].as_u64().unwrap() >= EVENTS as u64 {
        println!("found {stats}");
        return;
    }
    let mut random = Random(42);
    let started = Instant::now();
    let lines = |things: &mut dyn Iterator<Item = Json>| things.map(|thing| thing.to_string() + "\n").collect::<String>();
    let items = lines(&mut (0..ITEMS).map(|n| item(n, &mut random)));
    assert_eq!(line.json(&post("/items", "application/x-ndjson", &items))["accepted"], ITEMS);
    while line.json(&get("/stats"))["items"]["pending"] != 0 {
        wait(Duration::from_millis(200));
    }
    let indexed = started.elapsed();
    let events = lines(&mut (0..EVENTS).map(|n| event(n, ITEMS, &mut random)));
    assert_eq!(line.json(&post("/feedback", "application/x-ndjson", &events))["accepted"], EVENTS);
    println!("loaded: items stored, encoded and indexed in {:.0} s, events in {:.1} s", indexed.as_secs_f64(), (started.elapsed() - indexed).as_secs_f64());
}

// ---- what is measured ----

fn memory(server: &Server, table: &mut Table) {
    let mut line = Line::to(server);
    forget_peak(server);
    let report = line.json(&post("/admin/train", "application/json", ""));
    let peak = server.memory_mb("VmHWM");
    assert_eq!(report["published"], true, "{report}");
    println!("trained in {} s", report["seconds"]);
    // Some answers of every kind, so that caches and tables are what they are in service.
    for n in 0..200 {
        line.ask(&recommend(&query(1_000_000 + n), Some(n)));
    }
    wait(Duration::from_secs(3));
    table.add("resident memory, 10,000 items, 100,000 events, steady", format!("{:.0} MB", server.memory_mb("VmRSS")), "at most 600");
    table.add("peak while training", format!("{peak:.0} MB"), "at most 1,000");
}

/// Begins anew with what the most memory was.
fn forget_peak(server: &Server) {
    println!("VmRSS before training {:.0} MB, peak so far {:.0} MB (loading included)", server.memory_mb("VmRSS"), server.memory_mb("VmHWM"));
    fs::write(server.proc_file("clear_refs"), "5").unwrap(); // Linux: forgets the high-water mark of resident memory
}

/// One request, one bare forward pass of the same tokens, one request with the same text, and so on.
fn recommend_alone(server: &Server, served: &Served, table: &mut Table) {
    let precisions: &[Precision] = if served.precision == PRECISION { &[PRECISION] } else { &[PRECISION, served.precision] };
    let mut bare: Vec<BareModel> = precisions.iter().map(|precision| served.bare(*precision)).collect();
    let mut line = Line::to(server);
    for (name, with_user) in [("text", false), ("text and user", true)] {
        let (mut new, mut cached, mut tokens, mut degraded) = (Vec::new(), Vec::new(), Vec::new(), 0);
        let mut passes = vec![Vec::new(); bare.len()];
        let mut stages = Stages::default();
        for n in 0..WARM_UP + ALONE {
            if n == WARM_UP {
                (new, cached, tokens, degraded) = Default::default();
                passes.fill(Vec::new());
                stages = Stages::read(&mut line);
            }
            let text = query(n + if with_user { 10_000 } else { 0 });
            let ids = bare[0].tokens(&clean(&text)).unwrap();
            tokens.push(ids.len() as f64);
            let request = recommend(&text, with_user.then_some(n));
            let mut ask = |times: &mut Vec<f64>| {
                let started = Instant::now();
                let answer = line.ask(&request);
                let took = ms(started.elapsed());
                if contains(answer, UNDEGRADED) { times.push(took) } else { degraded += 1 }
            };
            ask(&mut new);
            for (bare, pass) in bare.iter_mut().zip(&mut passes) {
                let started = Instant::now();
                bare.forward(&[&ids]).unwrap();
                pass.push(ms(started.elapsed()));
            }
            ask(&mut cached);
        }
        stages.print_since(&mut line, &format!("{name}, 1 connection, new and cached"));
        let (p50, p95, again) = (median(&mut new), new[new.len() * 95 / 100], median(&mut cached));
        println!("tokens of a text: median {}, most {}", median(&mut tokens), tokens.last().unwrap());
        table.add(&format!("/recommend, new {name}, p50 (p95)"), format!("{p50:.2} ({p95:.2}) ms"), "");
        table.add(&format!("/recommend, cached {name}, p50"), format!("{again:.2} ms"), "");
        for (precision, pass) in precisions.iter().zip(&mut passes) {
            let (precision, yardstick) = (precision.name(), median(pass));
            table.add(&format!("bare {precision} pass of the same tokens, p50 ({name})"), format!("{yardstick:.2} ms"), "");
            table.add(&format!("/recommend, new {name}, of bare {precision}"), format!("{:.2}", p50 / yardstick), "at most 1.5");
            table.add(&format!("/recommend, cached {name}, of bare {precision}"), format!("{:.2}", again / yardstick), "at most 0.5");
        }
        table.add(&format!("/recommend, {name}: degraded answers"), percent(degraded, 2 * ALONE), "not counted");
    }
}

/// 64 connections with new texts, then the bare session with the same texts one by one, and so on.
fn recommend_crowd(server: &Server, served: &Served, table: &mut Table) {
    let mut bare = served.bare(PRECISION);
    for (name, with_user) in [("text", false), ("text and user", true)] {
        let (mut rates, mut passes, mut slow, mut degraded, mut other) = (Vec::new(), Vec::new(), Vec::new(), 0, 0);
        let mut line = Line::to(server);
        let stages = Stages::read(&mut line);
        for round in 0..CROWD_ROUNDS {
            let texts: Vec<String> = (0..CROWD).map(|n| query(100_000 + usize::from(with_user) * 50_000 + round * CROWD + n)).collect();
            let requests: Vec<Vec<u8>> = texts.iter().enumerate().map(|(n, text)| recommend(text, with_user.then_some(n))).collect();
            let crowd = crowd(server, &requests);
            rates.push(crowd.complete as f64 / crowd.took.as_secs_f64());
            slow.extend(crowd.times_ms);
            degraded += crowd.degraded;
            other += crowd.refused;

            let ids: Vec<Vec<u32>> = texts.iter().map(|text| bare.tokens(&clean(text)).unwrap()).collect();
            let started = Instant::now();
            for ids in &ids {
                bare.forward(&[ids]).unwrap();
            }
            passes.push(CROWD as f64 / started.elapsed().as_secs_f64());
        }
        stages.print_since(&mut line, &format!("{name}, {CONNECTIONS} connections, new"));
        let (rate, yardstick, p50) = (median(&mut rates), median(&mut passes), median(&mut slow));
        table.add(&format!("bare session, the same texts one by one ({name})"), format!("{yardstick:.0} /s"), "");
        table.add(&format!("/recommend, new {name}, 64 connections, complete answers"), format!("{rate:.0} /s"), "");
        table.add(&format!("/recommend, new {name}, 64 connections, of bare"), format!("{:.2}", rate / yardstick), "at least 0.9");
        table.add(&format!("/recommend, new {name}, 64 connections, p50 (p95)"), format!("{p50:.0} ({:.0}) ms", slow[slow.len() * 95 / 100]), "deadline 1,000");
        table.add(&format!("/recommend, {name}, 64 connections: degraded answers"), percent(degraded, CROWD * CROWD_ROUNDS), "not counted");
        table.add(&format!("/recommend, {name}, 64 connections: not 200"), percent(other, CROWD * CROWD_ROUNDS), "");
    }
}

/// 64 connections with one event each, beside what the disk and the connections alone can do.
fn feedback(server: &Server, data: &Path, when: &str, table: &mut Table) {
    let mut line = Line::to(server);
    let (mut rates, mut floors, mut syncs, mut of_disk, mut grouped) = (Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let run = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
    let mut random = Random(run as u64);
    for round in 0..=FEEDBACK_ROUNDS {
        let sync = fsync_seconds(data);
        let floor = crowd(server, &vec![get("/health/live"); FEEDBACK]);
        let requests: Vec<Vec<u8>> = (0..FEEDBACK)
            .map(|n| {
                let mut event = event(n, ITEMS, &mut random);
                event["event_id"] = json!(format!("f-{run}-{round}-{n}"));
                post("/feedback", "application/json", &event.to_string())
            })
            .collect();
        let before = counters(&mut line);
        let crowd = crowd(server, &requests);
        let after = counters(&mut line);
        assert_eq!(crowd.refused, 0);
        assert_eq!(after.0 - before.0, FEEDBACK, "every event counts once");
        if round == 0 {
            continue; // warms up
        }
        let rate = FEEDBACK as f64 / crowd.took.as_secs_f64();
        rates.push(rate);
        floors.push(rate / (FEEDBACK as f64 / floor.took.as_secs_f64()));
        of_disk.push(rate / (CONNECTIONS as f64 / sync));
        syncs.push(sync * 1e3);
        grouped.push(FEEDBACK as f64 / (after.1 - before.1) as f64);
    }
    table.add(&format!("/feedback, 64 connections{when}"), format!("{:.0} /s", median(&mut rates)), "");
    table.add("  events per commit (one fsync each)", format!("{:.1}", median(&mut grouped)), "at least 16");
    table.add("  fsync of 8 KiB in the same folder, median", format!("{:.3} ms", median(&mut syncs)), "");
    table.add("  of 64 / fsync time", format!("{:.2}", median(&mut of_disk)), "at least 0.7");
    table.add("  of GET /health/live by the same client", format!("{:.2}", median(&mut floors)), "");
}

/// Events and commits so far.
fn counters(line: &mut Line) -> (usize, usize) {
    let metrics = line.metrics();
    (sum(&metrics, "inkling_events_total") as usize, sum(&metrics, "inkling_store_commits_total") as usize)
}

fn fsync_seconds(folder: &Path) -> f64 {
    let path = folder.join("fsync.bench");
    let mut file = fs::File::create(&path).unwrap();
    let mut times = Vec::new();
    for _ in 0..100 {
        let started = Instant::now();
        file.write_all(&[7; 8_192]).unwrap();
        file.sync_data().unwrap();
        times.push(started.elapsed().as_secs_f64());
    }
    fs::remove_file(&path).unwrap();
    median(&mut times)
}

/// Mean durations of the stages of `/recommend`.
#[derive(Default)]
struct Stages(Vec<(String, f64, f64)>);

impl Stages {
    fn read(line: &mut Line) -> Self {
        let metrics = line.metrics();
        let value = |series: &str| sum(&metrics, series);
        let mut stages: Vec<_> = ["encode", "semantic", "lexical", "local", "complete", "rank"]
            .map(|stage| {
                let of = |part: &str| value(&format!("inkling_recommend_stage_seconds_{part}{{stage=\"{stage}\"}}"));
                (stage.to_owned(), of("sum"), of("count"))
            })
            .to_vec();
        let route = |part: &str| value(&format!("inkling_http_request_seconds_{part}{{route=\"/recommend\"}}"));
        stages.push(("whole".to_owned(), route("sum"), route("count")));
        stages.push(("texts per pass".to_owned(), value("inkling_encoder_batch_texts_sum") / 1e3, value("inkling_encoder_batch_texts_count")));
        stages.push(("pass".to_owned(), value("inkling_encoder_forward_seconds_sum"), value("inkling_encoder_forward_seconds_count")));
        Self(stages)
    }

    fn print_since(&self, line: &mut Line, what: &str) {
        let now = Self::read(line);
        let means = self.0.iter().zip(&now.0).map(|(old, new)| format!("{} {:.2}", new.0, (new.1 - old.1) / (new.2 - old.2) * 1e3));
        println!("mean ms in the server ({what}): {}", means.collect::<Vec<_>>().join(", "));
    }
}

/// The sum of the series whose name, with labels, begins so.
fn sum(metrics: &str, series: &str) -> f64 {
    let values = metrics.lines().filter(|line| line.starts_with(series)).filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
    values.sum()
}

// ---- the client ----

fn recommend(text: &str, user: Option<usize>) -> Vec<u8> {
    let mut body = json!({"text": text});
    if let Some(user) = user {
        body["user_id"] = json!(format!("user-{}", user % USERS));
    }
    post("/recommend", "application/json", &body.to_string())
}

/// What many connections were told.
#[derive(Default)]
struct Crowd {
    took: Duration,
    times_ms: Vec<f64>,
    complete: usize,
    degraded: usize,
    refused: usize,
}

/// Sends all requests over 64 connections, one at a time on each, from one thread.
fn crowd(server: &Server, requests: &[Vec<u8>]) -> Crowd {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut streams = Vec::new();
        for _ in 0..CONNECTIONS {
            let stream = tokio::net::TcpStream::connect(&server.address).await.unwrap();
            stream.set_nodelay(true).unwrap();
            streams.push(stream);
        }
        let next = std::cell::Cell::new(0);
        let started = Instant::now();
        let all = futures::future::join_all(streams.into_iter().map(|stream| converse(stream, requests, &next))).await;
        let took = started.elapsed();
        let sum = |mut sum: Crowd, one: Crowd| {
            sum.times_ms.extend(one.times_ms);
            Crowd { complete: sum.complete + one.complete, degraded: sum.degraded + one.degraded, refused: sum.refused + one.refused, ..sum }
        };
        Crowd { took, ..all.into_iter().fold(Crowd::default(), sum) }
    })
}

async fn converse(mut stream: tokio::net::TcpStream, requests: &[Vec<u8>], next: &std::cell::Cell<usize>) -> Crowd {
    let mut crowd = Crowd::default();
    let mut received = Vec::with_capacity(65_536);
    while let Some(request) = requests.get(next.replace(next.get() + 1)) {
        let started = Instant::now();
        stream.write_all(request).await.unwrap();
        received.clear();
        while frame(&received).is_none_or(|(_, end)| received.len() < end) {
            assert!(stream.read_buf(&mut received).await.unwrap() > 0, "the server hung up");
        }
        crowd.times_ms.push(ms(started.elapsed()));
        let counts = request.starts_with(b"POST /recommend");
        match status(&received) {
            200 if !counts || contains(&received, UNDEGRADED) => crowd.complete += 1,
            200 => crowd.degraded += 1,
            _ => crowd.refused += 1,
        }
    }
    crowd
}

// ---- numbers ----

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// Sorts.
fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn percent(part: usize, of: usize) -> String {
    format!("{:.1} %", 100.0 * part as f64 / of as f64)
}

/// Averages of 1, 5 and 15 minutes.
fn load() -> String {
    fs::read_to_string("/proc/loadavg").unwrap_or_default().split_whitespace().take(3).collect::<Vec<_>>().join(" ")
}
