//! Where an import goes: through the write path into the data folder, or through the HTTP API of the server that has it open.
//!
//! Both, because each is needed: the folder without a server is the first fill (no model is loaded, nothing waits), the server is the shop that must
//! not stop. Which one is never guessed: a folder in use is refused with the flag that names the server, for the one on the usual port may be another.

use std::{path::Path, path::PathBuf, time::Duration};

use anyhow::{Context, bail, ensure};
use axum::body::Bytes;
use reqwest::{StatusCode, header};
use serde_json::Value as Json;
use tokio::time::{Instant, sleep};

use super::Entry;
use crate::{
    app::WritePath,
    config::Settings,
    domain::{Event, FieldError, Item, Timestamp},
    ingest::{EventOutcome, IngestError, ItemOutcome},
    store::StoreError,
};

/// The variable that holds the API key.
const KEY: &str = "INKLING_API_KEY";
/// How long a server may refuse or not be there before the import gives up.
const PATIENCE: Duration = Duration::from_secs(120);
/// For one answer: a batch is a few thousand rows at most.
const ANSWER: Duration = Duration::from_secs(120);
/// Between two tries where the server does not say when.
const PAUSE: Duration = Duration::from_millis(500);

/// What became of a batch.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Written {
    pub(super) created: u64,
    pub(super) changed: u64,
    /// Were there before, exactly so.
    pub(super) known: u64,
    /// By their place in the batch.
    pub(super) rejected: Vec<(usize, Vec<FieldError>)>,
}

pub(super) enum Destination {
    Folder { house: Box<WritePath>, data: PathBuf },
    Server(Server),
}

impl Destination {
    pub(super) async fn open(url: Option<&str>, settings: &Settings) -> anyhow::Result<Self> {
        if let Some(url) = url {
            return Ok(Self::Server(Server::new(url)?));
        }
        let data = settings.paths.data.clone();
        match WritePath::open(settings).await {
            Ok(house) => Ok(Self::Folder { house: Box::new(house), data }),
            Err(error) if matches!(error.downcast_ref(), Some(StoreError::InUse)) => {
                let listen = &settings.http.listen;
                bail!("a server has {} open; import through it with --url http://{listen}", data.display())
            }
            Err(error) => Err(error),
        }
    }

    /// The folder that is written, if it is one.
    pub(super) fn folder(&self) -> Option<&Path> {
        match self {
            Self::Folder { data, .. } => Some(data),
            Self::Server(_) => None,
        }
    }

    /// Writes entries of one kind. When it returns, what is in is on disk.
    pub(super) async fn write(&self, entries: Vec<Entry>) -> anyhow::Result<Written> {
        let (mut items, mut events) = (Vec::new(), Vec::new());
        for entry in entries {
            match entry {
                Entry::Item(item) => items.push(*item),
                Entry::Event(event) => events.push(*event),
            }
        }
        match self {
            Self::Folder { house, .. } if events.is_empty() => Ok(into_folder_items(house, items).await?),
            Self::Folder { house, .. } => Ok(into_folder_events(house, events).await?),
            Self::Server(server) if events.is_empty() => server.send("/items", &items).await,
            Self::Server(server) => server.send("/feedback", &events).await,
        }
    }

    pub(super) async fn close(self) {
        if let Self::Folder { house, .. } = self {
            house.store.close().await;
        }
    }
}

async fn into_folder_items(house: &WritePath, items: Vec<Item>) -> Result<Written, IngestError> {
    let mut written = Written::default();
    for (index, outcome) in house.ingest.put_items(items).await?.into_iter().enumerate() {
        match outcome {
            ItemOutcome::Created(_) => written.created += 1,
            ItemOutcome::Updated(_) => written.changed += 1,
            ItemOutcome::Unchanged(_) => written.known += 1,
            ItemOutcome::Rejected(faults) => written.rejected.push((index, faults)),
        }
    }
    Ok(written)
}

async fn into_folder_events(house: &WritePath, events: Vec<Event>) -> Result<Written, IngestError> {
    let mut written = Written::default();
    for (index, outcome) in house.ingest.events(events, Timestamp::now()).await?.into_iter().enumerate() {
        match outcome {
            EventOutcome::Accepted => written.created += 1,
            EventOutcome::Duplicate => written.known += 1,
            EventOutcome::Rejected(faults) => written.rejected.push((index, faults)),
        }
    }
    Ok(written)
}

/// A running server.
pub(super) struct Server {
    http: reqwest::Client,
    base: String,
    key: Option<String>,
}

impl Server {
    fn new(url: &str) -> anyhow::Result<Self> {
        let base = url.trim_end_matches('/').to_owned();
        ensure!(!base.starts_with("https://"), "TLS is not built in: give the server's own http:// address, or one end of a tunnel to it");
        let parsed = reqwest::Url::parse(&base).ok().filter(|url| url.scheme() == "http" && url.has_host());
        let parsed = parsed.with_context(|| format!("{url:?} is no address such as http://127.0.0.1:8080"))?;
        let mut client = reqwest::Client::builder().timeout(ANSWER);
        // A proxy of the environment cannot reach this machine's own addresses.
        if parsed.host_str().is_some_and(|host| host == "localhost" || host.starts_with("127.") || host == "[::1]") {
            client = client.no_proxy();
        }
        let key = std::env::var(KEY).ok().filter(|key| !key.is_empty());
        Ok(Self { http: client.build()?, base, key })
    }

    async fn send<T: serde::Serialize>(&self, path: &str, entries: &[T]) -> anyhow::Result<Written> {
        let mut body = Vec::new();
        for entry in entries {
            serde_json::to_writer(&mut body, entry)?;
            body.push(b'\n');
        }
        let answer = self.post(path, body).await?;
        let count = |name: &str| answer[name].as_u64().unwrap_or(0);
        let is_items = path == "/items";
        let written = Written {
            created: count(if is_items { "created" } else { "accepted" }),
            changed: if is_items { count("updated") } else { 0 },
            known: count(if is_items { "unchanged" } else { "duplicates" }),
            rejected: rejections(&answer),
        };
        let told = written.created + written.changed + written.known + written.rejected.len() as u64;
        let sound = told == entries.len() as u64 && written.rejected.iter().all(|(index, _)| *index < entries.len());
        ensure!(sound, "{}{path} told of {told} of {} entries; is it an inkling of this version?", self.base, entries.len());
        Ok(written)
    }

    /// The answer to a batch, waited for while the server is busy, starting or away: sent again, nothing counts twice.
    async fn post(&self, path: &str, body: Vec<u8>) -> anyhow::Result<Json> {
        let end = Instant::now() + PATIENCE;
        let body = Bytes::from(body);
        loop {
            let mut request = self.http.post(format!("{}{path}", self.base)).header(header::CONTENT_TYPE, "application/x-ndjson").body(body.clone());
            if let Some(key) = &self.key {
                request = request.bearer_auth(key);
            }
            let (reason, pause) = match request.send().await {
                Err(error) => (format!("{} does not answer: {}", self.base, root(&error)), PAUSE),
                Ok(answer) => {
                    let status = answer.status();
                    let after = answer.headers().get(header::RETRY_AFTER).and_then(|after| after.to_str().ok()?.parse().ok()).map(Duration::from_secs);
                    let document = answer.json::<Json>().await.unwrap_or_default();
                    match status {
                        StatusCode::OK | StatusCode::UNPROCESSABLE_ENTITY => return Ok(document),
                        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE | StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT => {
                            (format!("{}{path} answered {status}", self.base), after.unwrap_or(PAUSE))
                        }
                        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                            bail!("{}{path} answered {status}: put an admin key of the server into the variable {KEY}", self.base)
                        }
                        _ => bail!("{}{path} answered {status}: {}", self.base, document["detail"].as_str().unwrap_or("no inkling?")),
                    }
                }
            };
            if Instant::now() + pause > end {
                bail!("{reason}; given up after {} s", PATIENCE.as_secs());
            }
            sleep(pause.min(Duration::from_secs(10))).await;
        }
    }
}

/// The deepest cause, which is the one that says something.
fn root(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

/// The rejected entries of an answer, or, where all were, of a problem document (pointers `/INDEX/field`).
fn rejections(answer: &Json) -> Vec<(usize, Vec<FieldError>)> {
    let fault = |fault: &Json| FieldError::new(fault["pointer"].as_str().unwrap_or(""), fault["detail"].as_str().unwrap_or("is not valid"));
    let mut found: Vec<(usize, Vec<FieldError>)> = Vec::new();
    for entry in answer["rejected"].as_array().into_iter().flatten() {
        let Some(index) = entry["index"].as_u64() else { continue };
        let more = entry["more"].as_array().into_iter().flatten().map(fault);
        found.push((index as usize, std::iter::once(fault(entry)).chain(more).collect()));
    }
    for error in answer["errors"].as_array().into_iter().flatten() {
        let FieldError { pointer, detail } = fault(error);
        let steps = pointer.strip_prefix('/').unwrap_or("");
        let (index, rest) = steps.split_once('/').map_or((steps, String::new()), |(index, rest)| (index, format!("/{rest}")));
        let Ok(index) = index.parse::<usize>() else { continue };
        let fault = FieldError { pointer: rest, detail };
        match found.iter_mut().find(|(known, _)| *known == index) {
            Some((_, faults)) => faults.push(fault),
            None => found.push((index, vec![fault])),
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn rejected_entries_are_found_in_answers_and_in_problems() {
        let answer =
            json!({"accepted": 1, "rejected": [{"index": 3, "pointer": "/type", "detail": "unknown", "more": [{"pointer": "/value", "detail": "too large"}]}]});
        assert_eq!(rejections(&answer), [(3, vec![FieldError::new("/type", "unknown"), FieldError::new("/value", "too large")])]);

        let problem = json!({"status": 422, "errors": [{"pointer": "/0/attributes/x", "detail": "a"}, {"pointer": "/1", "detail": "b"}, {"pointer": "/0/title", "detail": "c"}]});
        assert_eq!(
            rejections(&problem),
            [(0, vec![FieldError::new("/attributes/x", "a"), FieldError::new("/title", "c")]), (1, vec![FieldError::new("", "b")])]
        );
    }

    #[test]
    fn addresses_that_cannot_be_used_are_refused() {
        for bad in ["127.0.0.1:8080", "https://shop.example", "ftp://x", "http://"] {
            assert!(Server::new(bad).is_err(), "{bad}");
        }
        assert!(Server::new("http://127.0.0.1:8080/").is_ok());
    }
}
