//! The encoder as a service, beside the bare ONNX session and a Python server, in one run: `cargo bench --bench encoder_serving`.
//!
//! Same texts for all: new ones of 8 to 12 tokens, as people type. inkling has no route that only encodes, so this program serves one
//! (`POST /embed`) around the encoder, as a process of its own; the Python server is `onnxruntime` + `tokenizers` behind FastAPI and uvicorn, in a
//! virtual environment that is made by pip for this run. Contenders alternate, so that a busy machine slows all of them alike; medians of rounds are
//! printed. The clients run on the same cores as the servers, which takes from both. `-- --no-python` leaves Python out.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed benchmark")]

mod answer;

use std::{
    cell::Cell,
    io::{BufRead as _, BufReader},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

use answer::frame;
use axum::{Json, Router, extract::State, http::StatusCode, routing::post};
use futures::future::join_all;
use inkling::{
    encoder::{BareModel, Encoder, EncoderMetrics, EncoderSettings, Precision, PreparedModel, clean, prepare_as},
    telemetry::Registry,
};
use serde::Deserialize;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    runtime::Runtime,
};

const ROUNDS: usize = 9;
const TEXTS: usize = 512;
const CROWDS: [usize; 3] = [1, 8, 64];
/// Tokens of the texts that measure equal batches: 16 of them fill a pass.
const EVEN: usize = 16;

fn main() {
    let mut arguments = std::env::args().skip(1);
    if arguments.next().as_deref() == Some("serve") {
        return serve();
    }
    let python = !std::env::args().any(|argument| argument == "--no-python");
    let model = model();
    let place = tempfile::tempdir().unwrap();
    let python = if python { Server::python(place.path(), &model) } else { Err("left out".to_owned()) };
    let ours = Server::start(Command::new(std::env::current_exe().unwrap()).arg("serve")).unwrap();
    let runtime = Runtime::new().unwrap();
    let cores = std::thread::available_parallelism().unwrap().get();
    let usual = encoder(&model, (0, 0));
    println!("{cores} cores, load {} before", load());

    let mut bare = Bare::new(&model);
    let mut table = Vec::new();
    let wide = encoder(&model, (cores, 1));
    for crowd in CROWDS {
        table.push(Line::new(format!("encoder in process, {crowd} at once")));
        table.push(Line::new(format!("the same, {cores} sessions of 1 thread")));
        table.push(Line::new(format!("encoder over HTTP, {crowd} at once")));
        table.push(Line::new(format!("Python over HTTP, {crowd} at once")));
    }
    let mut next = 0;
    for round in 0..ROUNDS {
        for (at, crowd) in CROWDS.into_iter().enumerate() {
            let lines = &mut table[4 * at..];
            let count = if crowd == 1 { TEXTS / 4 } else { TEXTS };
            bare.round(&texts(&mut next, TEXTS / 2));
            lines[0].add(runtime.block_on(in_process(&usual, &texts(&mut next, count), crowd)));
            lines[1].add(runtime.block_on(in_process(&wide, &texts(&mut next, count), crowd)));
            lines[2].add(over_http(&ours.address, &texts(&mut next, count), crowd));
            if let Ok(python) = &python {
                lines[3].add(over_http(&python.address, &texts(&mut next, if round == 0 { 64 } else { count }), crowd));
            }
        }
        runtime.block_on(bare.even_round(&usual, &mut next));
        runtime.block_on(bare.turns(&usual, &texts(&mut next, TEXTS / 4)));
    }

    let yardstick = median(&mut bare.one_by_one);
    println!("\n{:<36} {:>9} {:>8} {:>9} {:>9} {:>8}", "", "texts/s", "of bare", "p50 ms", "p99 ms", "p99/p50");
    println!("{:<36} {yardstick:>9.0} {:>8.2} {:>9.2}", "bare session, one by one", 1.0, 1e3 / yardstick);
    for line in &mut table {
        line.print(yardstick);
    }
    println!("\nsame texts, same batches of {EVEN} x {EVEN} tokens: bulk lane {:.2} of the bare session", median(&mut bare.even));
    let (alone, pass, over) = (median(&mut bare.encoder_ms), median(&mut bare.alone_ms), median(&mut bare.over_ms));
    println!("one caller, text by text in turns: p50 {alone:.2} ms, bare session {pass:.2} ms, {:.2} of it; median difference {over:.2} ms", alone / pass);
    println!("resident: encoder's process {:.0} MB", ours.memory_mb());
    match &python {
        Ok(python) => println!("resident: Python's process {:.0} MB", python.memory_mb()),
        Err(reason) => println!("no Python server beside it: {reason}"),
    }
    println!("load {} after", load());
}

// ---- texts and models ----

/// New texts of about 10 tokens.
fn texts(next: &mut usize, count: usize) -> Vec<String> {
    const THINGS: [&str; 8] = ["headphones", "keyboards", "jackets", "thrillers", "podcasts", "recipes", "cameras", "backpacks"];
    const USES: [&str; 8] = ["running", "long flights", "a small kitchen", "rainy days", "two children", "night work", "beginners", "the beach"];
    *next += count;
    (*next - count..*next).map(|i| clean(&format!("quiet {} for {} under {} dollars", THINGS[i % 8], USES[(i / 8) % 8], 10 + i))).collect()
}

/// New texts of exactly [`EVEN`] tokens: 14 single letters and digits between the special ones.
fn even_texts(next: &mut usize, count: usize) -> Vec<String> {
    *next += count;
    let letter = |n: usize| char::from(b'a' + (n % 26) as u8).to_string();
    (*next - count..*next).map(|i| (0..EVEN as u32 - 2).map(|at| letter(i / 26_usize.pow(at % 5) + at as usize)).collect::<Vec<_>>().join(" ")).collect()
}

fn model() -> PreparedModel {
    // As Python runs it beside.
    prepare_as(&Path::new(env!("CARGO_MANIFEST_DIR")).join("models"), "all-minilm-l6-v2", Some(Precision::Fp32), &mut |_| {}).unwrap()
}

/// As they come, without a cache: every text is new.
fn settings() -> EncoderSettings {
    let sections: toml::Table = toml::from_str(include_str!("../../src/config/default.toml")).unwrap();
    EncoderSettings { cache_mb: 0, ..sections["encoder"].clone().try_into().unwrap() }
}

fn encoder(model: &PreparedModel, (sessions, threads): (usize, usize)) -> Encoder {
    Encoder::start(model, &EncoderSettings { sessions, threads, ..settings() }, &EncoderMetrics::register(&Registry::new()).unwrap()).unwrap()
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(30)
}

// ---- contenders ----

struct Bare {
    model: BareModel,
    one_by_one: Vec<f64>,
    even: Vec<f64>,
    alone_ms: Vec<f64>,
    encoder_ms: Vec<f64>,
    over_ms: Vec<f64>,
}

impl Bare {
    fn new(model: &PreparedModel) -> Self {
        Self {
            model: BareModel::load(model, &settings()).unwrap(),
            one_by_one: Vec::new(),
            even: Vec::new(),
            alone_ms: Vec::new(),
            encoder_ms: Vec::new(),
            over_ms: Vec::new(),
        }
    }

    fn round(&mut self, texts: &[String]) {
        let started = Instant::now();
        for text in texts {
            let ids = self.model.tokens(text).unwrap();
            self.model.forward(&[&ids]).unwrap();
        }
        self.one_by_one.push(texts.len() as f64 / started.elapsed().as_secs_f64());
    }

    /// Each text once through the bare session and once through the encoder, which is idle but for that.
    async fn turns(&mut self, encoder: &Encoder, texts: &[String]) {
        for text in texts {
            let started = Instant::now();
            let ids = self.model.tokens(text).unwrap();
            self.model.forward(&[&ids]).unwrap();
            let bare = ms(started.elapsed());
            let started = Instant::now();
            encoder.encode(text, soon()).await.unwrap();
            let took = ms(started.elapsed());
            self.alone_ms.push(bare);
            self.encoder_ms.push(took);
            self.over_ms.push(took - bare);
        }
    }

    /// Equal texts through the bulk lane and through the bare session, in the same batches.
    async fn even_round(&mut self, encoder: &Encoder, next: &mut usize) {
        let texts = even_texts(next, TEXTS);
        let started = Instant::now();
        for texts in texts.chunks(EVEN) {
            let rows: Vec<Vec<u32>> = texts.iter().map(|text| self.model.tokens(text).unwrap()).collect();
            assert!(rows.iter().all(|row| row.len() == EVEN), "{rows:?}");
            self.model.forward(&rows.iter().map(Vec::as_slice).collect::<Vec<_>>()).unwrap();
        }
        let bare = started.elapsed().as_secs_f64();
        let started = Instant::now();
        assert!(encoder.encode_bulk(even_texts(next, TEXTS)).await.unwrap().iter().all(Option::is_some));
        self.even.push(bare / started.elapsed().as_secs_f64());
    }
}

/// What a crowd was told.
struct Round {
    took: Duration,
    times_ms: Vec<f64>,
}

struct Line {
    name: String,
    rates: Vec<f64>,
    times_ms: Vec<f64>,
}

impl Line {
    fn new(name: String) -> Self {
        Self { name, rates: Vec::new(), times_ms: Vec::new() }
    }

    fn add(&mut self, round: Round) {
        self.rates.push(round.times_ms.len() as f64 / round.took.as_secs_f64());
        self.times_ms.extend(round.times_ms);
    }

    fn print(&mut self, yardstick: f64) {
        if self.rates.is_empty() {
            return println!("{:<36} {:>9}", self.name, "-");
        }
        let (rate, p50) = (median(&mut self.rates), median(&mut self.times_ms));
        let p99 = self.times_ms[self.times_ms.len() * 99 / 100];
        println!("{:<36} {rate:>9.0} {:>8.2} {p50:>9.2} {p99:>9.2} {:>8.2}", self.name, rate / yardstick, p99 / p50);
    }
}

async fn in_process(encoder: &Encoder, texts: &[String], crowd: usize) -> Round {
    let next = std::sync::atomic::AtomicUsize::new(0);
    let started = Instant::now();
    let caller = async || {
        let mut times_ms = Vec::new();
        while let Some(text) = texts.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed)) {
            let asked = Instant::now();
            encoder.encode(text, soon()).await.unwrap();
            times_ms.push(ms(asked.elapsed()));
        }
        times_ms
    };
    let times_ms = join_all((0..crowd).map(|_| caller())).await.concat();
    Round { took: started.elapsed(), times_ms }
}

/// Sends all texts over `crowd` connections, one at a time on each, from one thread. Only whole answers with an embedding count.
fn over_http(address: &str, texts: &[String], crowd: usize) -> Round {
    let body = |text: &String| serde_json::json!({"inputs": text}).to_string();
    let request =
        |body: String| format!("POST /embed HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    let requests: Vec<String> = texts.iter().map(|text| request(body(text))).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut streams = Vec::new();
        for _ in 0..crowd {
            let stream = TcpStream::connect(address).await.unwrap();
            stream.set_nodelay(true).unwrap();
            streams.push(stream);
        }
        let next = Cell::new(0);
        let started = Instant::now();
        let times_ms = join_all(streams.into_iter().map(|stream| converse(stream, &requests, &next))).await.concat();
        assert_eq!(times_ms.len(), texts.len(), "every answer is whole");
        Round { took: started.elapsed(), times_ms }
    })
}

async fn converse(mut stream: TcpStream, requests: &[String], next: &Cell<usize>) -> Vec<f64> {
    let mut times_ms = Vec::new();
    let mut received = Vec::with_capacity(16_384);
    while let Some(request) = requests.get(next.replace(next.get() + 1)) {
        let asked = Instant::now();
        stream.write_all(request.as_bytes()).await.unwrap();
        received.clear();
        let (head, end) = loop {
            assert!(stream.read_buf(&mut received).await.unwrap() > 0, "the server hung up");
            match frame(&received) {
                Some((head, end)) if received.len() >= end => break (head, end),
                _ => {}
            }
        };
        times_ms.push(ms(asked.elapsed()));
        assert!(received.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&received));
        assert!(received[head..end].starts_with(b"[[") && received[head..end].iter().filter(|byte| **byte == b',').count() == 383);
    }
    times_ms
}

// ---- servers ----

struct Server {
    child: Child,
    address: String,
    _said: BufReader<ChildStdout>,
}

impl Server {
    /// Starts a server that prints its address as its first line.
    fn start(command: &mut Command) -> Result<Self, String> {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().map_err(|error| error.to_string())?;
        let mut said = BufReader::new(child.stdout.take().unwrap());
        let mut address = String::new();
        let read = said.read_line(&mut address);
        if read.is_err() || address.trim().is_empty() {
            let _ = child.kill();
            return Err(format!("it did not start: {:?}", child.wait()));
        }
        Ok(Self { child, address: address.trim().to_owned(), _said: said })
    }

    fn python(place: &Path, model: &PreparedModel) -> Result<Self, String> {
        let run = |command: &mut Command| {
            let output = command.stdin(Stdio::null()).output().map_err(|error| error.to_string())?;
            let said = String::from_utf8_lossy(&output.stderr);
            if output.status.success() { Ok(()) } else { Err(said.lines().last().unwrap_or("no reason given").to_owned()) }
        };
        let environment = place.join("venv");
        run(Command::new("python3").args(["-m", "venv"]).arg(&environment)).map_err(|reason| format!("python3 -m venv: {reason}"))?;
        let python = environment.join("bin/python");
        let packages = ["fastapi", "uvicorn[standard]", "onnxruntime==1.32.0", "tokenizers", "numpy"];
        run(Command::new(&python).args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]).args(packages))
            .map_err(|reason| format!("pip: {reason}"))?;
        let script = place.join("server.py");
        std::fs::write(&script, PYTHON).unwrap();
        let folder: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("models").join(&model.manifest.name);
        Self::start(Command::new(&python).arg(&script).arg(folder))
    }

    fn memory_mb(&self) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("0");
        line.split_whitespace().next().and_then(|kb| kb.parse::<f64>().ok()).unwrap_or(0.0) / 1024.0
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// As such servers are usually written: the model runs in the thread pool of the framework, one text a call.
const PYTHON: &str = r#"
import socket, sys
import numpy, onnxruntime, tokenizers, uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

folder = sys.argv[1]
options = onnxruntime.SessionOptions()
session = onnxruntime.InferenceSession(folder + "/model.onnx", options, providers=["CPUExecutionProvider"])
tokenizer = tokenizers.Tokenizer.from_file(folder + "/tokenizer.json")
tokenizer.no_padding()
tokenizer.enable_truncation(256)
app = FastAPI()

class Request(BaseModel):
    inputs: str

@app.post("/embed")
def embed(request: Request):
    ids = numpy.array([tokenizer.encode(request.inputs).ids], dtype=numpy.int64)
    return session.run(["embedding"], {"input_ids": ids, "attention_mask": numpy.ones_like(ids)})[0].tolist()

listener = socket.socket()
listener.bind(("127.0.0.1", 0))
print("%s:%d" % listener.getsockname(), flush=True)
uvicorn.Server(uvicorn.Config(app, log_level="error", access_log=False)).run(sockets=[listener])
"#;

/// `POST /embed`, by this program run as `… serve`: the encoder and axum, nothing else.
fn serve() {
    #[derive(Deserialize)]
    struct Request {
        inputs: String,
    }
    async fn embed(State(encoder): State<Encoder>, Json(request): Json<Request>) -> Result<Json<[Vec<f32>; 1]>, StatusCode> {
        let encoded = encoder.encode(&clean(&request.inputs), soon()).await.map_err(|_| StatusCode::SERVICE_UNAVAILABLE)?;
        Ok(Json([encoded.embedding.to_vec()]))
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let encoder = encoder(&model(), (0, 0));
    println!("{}", listener.local_addr().unwrap());
    Runtime::new().unwrap().block_on(async {
        let listener = axum::serve::ListenerExt::tap_io(tokio::net::TcpListener::from_std(listener).unwrap(), |stream| stream.set_nodelay(true).unwrap());
        axum::serve(listener, Router::new().route("/embed", post(embed)).with_state(encoder)).await.unwrap();
    });
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

/// Averages of 1, 5 and 15 minutes.
fn load() -> String {
    std::fs::read_to_string("/proc/loadavg").unwrap_or_default().split_whitespace().take(3).collect::<Vec<_>>().join(" ")
}
