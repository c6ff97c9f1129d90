//! The release binary as a process of its own, and one connection to it: shared by the benches that speak to servers.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed benchmark")]

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use serde_json::Value as Json;

use crate::answer::frame;

pub(crate) struct Server {
    child: Child,
    /// Host and port.
    pub(crate) address: String,
}

impl Server {
    /// Waits until it is ready.
    pub(crate) fn start(data: &Path, model: &str, settings: &[(&str, &str)]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_inkling"));
        command.arg("serve").arg("--data").arg(data).arg("--models").arg(models()).args(["--listen", "127.0.0.1:0", "--model", model]);
        command.envs(settings.iter().copied()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let address = lines
            .by_ref()
            .map(Result::unwrap)
            .find_map(|line| Some(line.split_once("listening on http://")?.1.trim().to_owned()))
            .expect("the server says where it listens");
        std::thread::spawn(move || lines.for_each(|line| eprintln!("  server: {}", line.unwrap())));
        let server = Self { child, address };
        while Line::to(&server).status(&get("/health/ready")) != 200 {
            wait(Duration::from_millis(50));
        }
        server
    }

    /// What Linux says of the process.
    pub(crate) fn proc_file(&self, name: &str) -> PathBuf {
        Path::new("/proc").join(self.child.id().to_string()).join(name)
    }

    /// `VmRSS` (now) or `VmHWM` (the most).
    pub(crate) fn memory_mb(&self, field: &str) -> f64 {
        let status = fs::read_to_string(self.proc_file("status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() * 1024.0 / 1e6
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // SIGTERM drains and writes everything; the standard library has SIGKILL only.
        drop(Command::new("kill").arg(self.child.id().to_string()).status());
        drop(self.child.wait());
    }
}

pub(crate) fn models() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models")
}

// ---- the client: bytes prepared before the clock starts, because it shares the cores with the server ----

pub(crate) fn get(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nhost: bench\r\n\r\n").into_bytes()
}

pub(crate) fn post(path: &str, media: &str, body: &str) -> Vec<u8> {
    format!("POST {path} HTTP/1.1\r\nhost: bench\r\ncontent-type: {media}\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

pub(crate) fn status(received: &[u8]) -> u16 {
    std::str::from_utf8(&received[9..12]).unwrap().parse().unwrap()
}

pub(crate) fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).rev().any(|window| window == part)
}

/// One connection, one request at a time.
pub(crate) struct Line {
    stream: TcpStream,
    received: Vec<u8>,
}

impl Line {
    pub(crate) fn to(server: &Server) -> Self {
        let stream = TcpStream::connect(&server.address).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, received: Vec::new() }
    }

    /// The whole answer, head included.
    pub(crate) fn ask(&mut self, request: &[u8]) -> &[u8] {
        self.stream.write_all(request).unwrap();
        self.received.clear();
        let mut piece = [0; 16_384];
        loop {
            let length = self.stream.read(&mut piece).unwrap();
            assert!(length > 0, "the server hung up");
            self.received.extend_from_slice(&piece[..length]);
            if frame(&self.received).is_some_and(|(_, end)| self.received.len() >= end) {
                return &self.received;
            }
        }
    }

    pub(crate) fn status(&mut self, request: &[u8]) -> u16 {
        status(self.ask(request))
    }

    pub(crate) fn json(&mut self, request: &[u8]) -> Json {
        let answer = self.ask(request);
        let (head, end) = frame(answer).unwrap();
        serde_json::from_slice(&answer[head..end]).unwrap()
    }

    pub(crate) fn metrics(&mut self) -> String {
        String::from_utf8(self.ask(&get("/metrics")).to_vec()).unwrap()
    }
}

#[expect(clippy::disallowed_methods, reason = "a benchmark's main thread has nobody to hold up")]
pub(crate) fn wait(duration: Duration) {
    std::thread::sleep(duration);
}
