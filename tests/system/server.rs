//! Process control: starts the binary on a free port, knows its address, asks it, stops it gently or not.

use std::{
    io::{BufRead, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::{Arc, Mutex, OnceLock},
    time::{Duration, Instant},
};

use reqwest::{Body, Method, StatusCode};
use serde_json::Value as Json;

/// For a start or a stop, on a machine that is busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
const GLANCE: Duration = Duration::from_millis(20);

/// The binary with `args` and no settings from outside.
pub(crate) fn inkling<'a>(args: impl IntoIterator<Item = &'a str>) -> Command {
    inkling_with(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/models")), args)
}

/// The same with another folder of models.
fn inkling_with<'a>(models: &Path, args: impl IntoIterator<Item = &'a str>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_inkling"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("INKLING_")) {
        command.env_remove(name);
    }
    command.args(args).arg("--models").arg(models).stdin(Stdio::null());
    command
}

/// Runs a command that ends by itself.
pub(crate) fn output(command: &mut Command) -> Output {
    command.output().unwrap()
}

/// Fetches the model once, so that servers that start side by side do not.
pub(crate) fn fetch_model() {
    static FETCHED: OnceLock<()> = OnceLock::new();
    FETCHED.get_or_init(|| {
        let fetched = output(&mut inkling(["model", "fetch"]));
        assert!(fetched.status.success(), "{}", String::from_utf8_lossy(&fetched.stderr));
    });
}

/// Prepares another model than the default one.
pub(crate) fn fetch_other(name: &str) {
    fetch_model();
    let fetched = output(&mut inkling(["model", "fetch", name]));
    assert!(fetched.status.success(), "{}", String::from_utf8_lossy(&fetched.stderr));
}

/// A running server; dropped, it is killed.
pub(crate) struct Server {
    child: Child,
    /// The server's, where `child` only traces it.
    pid: u32,
    address: String,
    log: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// Serves `data` and waits until it is ready. It learns on demand only.
    pub(crate) async fn start(data: &Path) -> Self {
        Self::start_with(data, &[]).await
    }

    /// With settings as environment variables.
    pub(crate) async fn start_with(data: &Path, settings: &[(&str, &str)]) -> Self {
        Self::spawn(inkling(["serve"]).envs(settings.iter().copied()), data).await
    }

    /// With a settings file.
    pub(crate) async fn start_with_file(data: &Path, file: &Path) -> Self {
        Self::spawn(&mut inkling(["serve", "--config", file.to_str().unwrap()]), data).await
    }

    /// With a settings file and a folder of models.
    pub(crate) async fn start_with_models(data: &Path, file: &Path, models: &Path) -> Self {
        Self::spawn(&mut inkling_with(models, ["serve", "--config", file.to_str().unwrap()]), data).await
    }

    /// Run by another program, which becomes the server or ends when it does.
    pub(crate) async fn start_under(mut parent: Command, command: &Command, data: &Path) -> Self {
        parent.arg(command.get_program()).args(command.get_args()).stdin(Stdio::null());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => parent.env(name, value),
                None => parent.env_remove(name),
            };
        }
        let mut server = Self::spawn(&mut parent, data).await;
        let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", server.pid)).unwrap();
        if let Some(child) = children.split_whitespace().next() {
            server.pid = child.parse().unwrap(); // else the other program has become the server
        }
        server
    }

    async fn spawn(command: &mut Command, data: &Path) -> Self {
        fetch_model();
        command.args(["--listen", "127.0.0.1:0", "--data", data.to_str().unwrap()]);
        if !command.get_envs().any(|(name, _)| name == "INKLING_TRAINING__EVERY_EVENTS") {
            command.env("INKLING_TRAINING__EVERY_EVENTS", "0");
        }
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let log = Arc::new(Mutex::new(Vec::new()));
        let (lines, kept) = (BufReader::new(child.stderr.take().unwrap()).lines(), Arc::clone(&log));
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(|line| kept.lock().unwrap().push(line)));
        let mut server = Self { pid: child.id(), child, address: String::new(), log };
        server.address = server.logged("listening on ").await.split("listening on ").nth(1).unwrap().trim().to_owned();
        let client = server.client();
        until("the server is ready", || async { client.get("/health/ready").await.status == StatusCode::OK }).await;
        server
    }

    /// The first log line that contains `words`, once it is there.
    pub(crate) async fn logged(&mut self, words: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(line) = self.log().into_iter().find(|line| line.contains(words)) {
                return line;
            }
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none() && Instant::now() < deadline, "no {words:?} in the log ({ended:?}):\n{}", self.log().join("\n"));
            tokio::time::sleep(GLANCE).await;
        }
    }

    pub(crate) fn log(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }

    pub(crate) fn client(&self) -> Client {
        Client::new(&self.address)
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// `kill -9`, and waits until it is gone.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) fn terminate(&self) {
        assert!(Command::new("kill").args(["-TERM", &self.pid().to_string()]).status().unwrap().success());
    }

    /// Waits until it ended by itself.
    pub(crate) async fn ended(mut self) -> (ExitStatus, Vec<String>) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return (status, self.log());
            }
            assert!(Instant::now() < deadline, "the server does not end:\n{}", self.log().join("\n"));
            tokio::time::sleep(GLANCE).await;
        }
    }

    /// SIGTERM, and a clean end.
    pub(crate) async fn stop(self) {
        self.terminate();
        let (status, log) = self.ended().await;
        assert!(status.success(), "{status}:\n{}", log.join("\n"));
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Kills a process and removes a folder when this process is gone, however it ended: what is static is never dropped.
pub(crate) fn outlive_not(pid: u32, folder: &Path) -> Child {
    let script = r#"cat > /dev/null; kill -9 "$1"; rm -rf "$2""#;
    let mut command = Command::new("sh");
    command.args(["-c", script, "sh", &pid.to_string(), folder.to_str().unwrap()]);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// Asks one server. Made anew in each test: connections belong to the runtime of a test.
#[derive(Clone)]
pub(crate) struct Client {
    http: reqwest::Client,
    base: String,
}

/// An answer.
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) media: String,
    pub(crate) retry_after: Option<String>,
    pub(crate) bytes: Vec<u8>,
}

impl Client {
    pub(crate) fn new(base: &str) -> Self {
        let http = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().unwrap();
        Self { http, base: base.to_owned() }
    }

    /// Fails when the connection does.
    pub(crate) async fn try_send(&self, method: Method, path: &str, headers: &[(&str, &str)], body: impl Into<Body>) -> reqwest::Result<Reply> {
        let mut request = self.http.request(method, format!("{}{path}", self.base)).body(body).timeout(PATIENCE);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = request.send().await?;
        let header = |name: &str| answer.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
        let (media, retry_after) = (header("content-type").unwrap_or_default(), header("retry-after"));
        Ok(Reply { status: answer.status(), media, retry_after, bytes: answer.bytes().await?.to_vec() })
    }

    pub(crate) async fn send(&self, method: Method, path: &str, headers: &[(&str, &str)], body: impl Into<Body>) -> Reply {
        self.try_send(method, path, headers, body).await.unwrap_or_else(|error| panic!("{path}: {error:?}"))
    }

    pub(crate) async fn json(&self, method: Method, path: &str, body: &Json) -> Reply {
        self.send(method, path, &[("content-type", "application/json")], body.to_string()).await
    }

    pub(crate) async fn get(&self, path: &str) -> Reply {
        self.send(Method::GET, path, &[], "").await
    }

    /// What a good request is answered with.
    pub(crate) async fn post(&self, path: &str, body: &Json) -> Json {
        self.json(Method::POST, path, body).await.good()
    }

    pub(crate) async fn lines(&self, path: &str, lines: String) -> Reply {
        self.send(Method::POST, path, &[("content-type", "application/x-ndjson")], lines).await
    }

    pub(crate) async fn recommend(&self, body: &Json) -> Json {
        self.post("/recommend", body).await
    }

    /// The ids of a list, best first.
    pub(crate) async fn ids(&self, body: &Json) -> Vec<String> {
        ids(&self.recommend(body).await)
    }

    /// Waits until every item is searchable.
    pub(crate) async fn all_searchable(&self) {
        until("pending is 0", || async { self.get("/stats").await.good()["items"]["pending"] == 0 }).await;
    }

    pub(crate) async fn event_total(&self) -> u64 {
        self.get("/stats").await.good()["events"]["total"].as_u64().unwrap()
    }

    pub(crate) async fn metrics(&self) -> String {
        self.get("/metrics").await.text()
    }
}

impl Reply {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    pub(crate) fn value(&self) -> Json {
        serde_json::from_slice(&self.bytes).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    pub(crate) fn good(&self) -> Json {
        assert!(self.status.is_success(), "{}: {}", self.status, self.text());
        self.value()
    }

    /// Where the faults are; checks that this is a problem document.
    pub(crate) fn pointers(&self) -> Vec<String> {
        let problem = self.value();
        assert!(self.media.starts_with("application/problem+json"), "{}: {problem}", self.media);
        assert_eq!(problem["status"], self.status.as_u16(), "{problem}");
        assert!(problem["title"].is_string() && problem["type"].is_string(), "{problem}");
        let errors = problem["errors"].as_array().cloned().unwrap_or_default();
        errors.iter().map(|error| error["pointer"].as_str().unwrap().to_owned()).collect()
    }
}

pub(crate) fn ids(answer: &Json) -> Vec<String> {
    answer["items"].as_array().unwrap().iter().map(|item| item["item_id"].as_str().unwrap().to_owned()).collect()
}

/// Waits for something that needs a moment.
pub(crate) async fn until<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let deadline = Instant::now() + PATIENCE;
    while !holds().await {
        assert!(Instant::now() < deadline, "in vain: {what}");
        tokio::time::sleep(GLANCE).await;
    }
}

/// A settings file.
pub(crate) fn settings_file(folder: &Path, toml: &str) -> PathBuf {
    let path = folder.join("inkling.toml");
    std::fs::File::create(&path).unwrap().write_all(toml.as_bytes()).unwrap();
    path
}
