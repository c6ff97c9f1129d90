//! Many documents in one request: a single one, an array, a named list, or NDJSON; one result each.
//!
//! Entries are parsed and written in chunks, so memory is bounded by a chunk however long the stream is, and one bad entry
//! costs nothing but itself. A list is looked through first (no tree is built), then each entry is cut off and parsed on its own.

use std::{future::Future, time::Duration};

use axum::extract::Request;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::{
    domain::{FieldError, pointer_step},
    ingest::IngestError,
};

use super::{
    body::{self, Line, Lines, Media},
    json::{self, Entries, Fault},
    problem::{Kind, Problem},
};

/// Entries that are written together; enough to fill a group commit.
const CHUNK_ENTRIES: usize = 500;
/// Bytes of JSON after which a chunk is full all the same.
const CHUNK_BYTES: usize = 1 << 20;
/// After so many entries others have their turn on the thread, stored or not: some 200 µs of nothing but rejections.
const TURN_ENTRIES: usize = 256;
/// Rejected entries that an answer lists.
pub(super) const MAX_LISTED: usize = 1_000;
/// Between two tries to write a later chunk of a long request while the queue is full.
const RETRY_PAUSE: Duration = Duration::from_millis(50);

/// Where the entries of a batch go.
pub(super) trait Feed: Sync {
    /// What an entry is.
    type Entry: DeserializeOwned + Clone + Send;
    /// The name of the list in `{"NAME": […]}`.
    const LIST: &'static str;

    /// Checks and stores entries; one fate each, in order.
    fn write(&self, entries: Vec<Self::Entry>) -> impl Future<Output = Result<Vec<Fate>, IngestError>> + Send;
}

/// What became of an entry.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Fate {
    Accepted,
    Duplicate,
    Created,
    Updated,
    Unchanged,
    Rejected(Vec<FieldError>),
}

/// One entry that was not stored.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(super) struct Rejection {
    /// Which one, from 0; blank lines of NDJSON do not count.
    #[schema(examples(4))]
    index: usize,
    /// JSON pointer into the entry.
    #[schema(examples("/type"))]
    pointer: String,
    /// What is wrong.
    #[schema(examples("unknown type \"clik\""))]
    detail: String,
    /// What else is wrong with it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    more: Vec<FieldError>,
}

/// What became of all entries.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Tally {
    pub(super) accepted: u64,
    pub(super) duplicates: u64,
    pub(super) created: u64,
    pub(super) updated: u64,
    pub(super) unchanged: u64,
    /// The first [`MAX_LISTED`].
    pub(super) rejected: Vec<Rejection>,
    rejected_total: u64,
}

impl Tally {
    /// How many were rejected, where `rejected` does not hold them all.
    pub(super) fn rejected_total(&self) -> Option<u64> {
        (self.rejected_total > self.rejected.len() as u64).then_some(self.rejected_total)
    }

    fn stored(&self) -> u64 {
        self.accepted + self.duplicates + self.created + self.updated + self.unchanged
    }

    fn count(&mut self, index: usize, fate: Fate) {
        match fate {
            Fate::Accepted => self.accepted += 1,
            Fate::Duplicate => self.duplicates += 1,
            Fate::Created => self.created += 1,
            Fate::Updated => self.updated += 1,
            Fate::Unchanged => self.unchanged += 1,
            Fate::Rejected(faults) => {
                self.rejected_total += 1;
                if self.rejected.len() < MAX_LISTED {
                    let mut faults = faults.into_iter();
                    let first = faults.next().unwrap_or_else(|| FieldError::new("", "is not valid"));
                    self.rejected.push(Rejection { index, pointer: first.pointer, detail: first.detail, more: faults.take(10).collect() });
                }
            }
        }
    }

    /// An answer where something was stored (or nothing was sent); a problem where all was rejected.
    fn judge(self, form: Form) -> Result<Self, Problem> {
        if self.stored() > 0 || self.rejected_total == 0 {
            return Ok(self);
        }
        let faults = self.rejected.into_iter().flat_map(|entry| {
            let prefix = match form {
                Form::One => String::new(),
                Form::List => format!("/{}", entry.index),
                Form::Named(name) => format!("/{name}/{}", entry.index),
            };
            std::iter::once(FieldError { pointer: entry.pointer, detail: entry.detail }).chain(entry.more).map(move |fault| fault.under(&prefix))
        });
        let problem = Problem::invalid(faults.collect());
        Err(if matches!(form, Form::One) { problem } else { problem.adding("no entry is valid, nothing was stored") })
    }
}

/// How the entries came.
#[derive(Clone, Copy)]
enum Form {
    One,
    List,
    Named(&'static str),
}

/// Reads, checks and stores what a request holds. `plain_text` may hold JSON too where it is allowed.
pub(super) async fn take<F: Feed>(feed: &F, request: Request, plain_text: bool, patience: Duration) -> Result<Tally, Problem> {
    let media = body::media(request.headers())?;
    if media == Media::Text && !plain_text {
        return Err(Problem::new(Kind::UnsupportedMediaType, "send application/json or application/x-ndjson"));
    }
    let mut writer = Writer { feed, patience, tally: Tally::default(), indices: Vec::new(), entries: Vec::new(), bytes: 0, chunks: 0 };
    let form = match media {
        Media::Ndjson => writer.take_lines(Lines::of(request.into_body(), patience)).await?,
        Media::Json | Media::Text => writer.take_document(json::text(&body::whole(request.into_body()).await?)?).await?,
    };
    writer.flush().await?;
    writer.tally.judge(form)
}

struct Writer<'a, F: Feed> {
    feed: &'a F,
    patience: Duration,
    tally: Tally,
    indices: Vec<usize>,
    entries: Vec<F::Entry>,
    bytes: usize,
    chunks: usize,
}

impl<F: Feed> Writer<'_, F> {
    async fn take_document(&mut self, text: &str) -> Result<Form, Problem> {
        let (entries, form) = if text.trim_ascii_start().starts_with('[') {
            (json::entries(text)?, Form::List)
        } else if opens_with(text, F::LIST) {
            (named_list(text, F::LIST)?, Form::Named(F::LIST))
        } else {
            let entry = json::parse(text)?;
            self.indices.push(0);
            self.entries.push(entry);
            return Ok(Form::One);
        };
        for (index, entry) in entries.enumerate() {
            self.push(index, entry).await?;
            give_way(index).await;
        }
        Ok(form)
    }

    async fn take_lines(&mut self, mut lines: Lines) -> Result<Form, Problem> {
        let (mut index, mut seen) = (0, 0);
        while let Some(line) = self.survive(lines.next().await)? {
            give_way(seen).await;
            seen += 1; // blank ones, too
            match line {
                Line::TooLong => {
                    let fault = FieldError::new("", format!("is longer than {} bytes", body::MAX_LINE_BYTES));
                    self.tally.count(index, Fate::Rejected(vec![fault]));
                }
                Line::At(range) => match lines.bytes(range) {
                    [] => continue,
                    line => match json::text(line) {
                        Ok(text) => self.push(index, text).await?,
                        Err(fault) => self.tally.count(index, Fate::Rejected(vec![fault.into_field_error()])),
                    },
                },
            }
            index += 1;
        }
        Ok(Form::List)
    }

    async fn push(&mut self, index: usize, text: &str) -> Result<(), Problem> {
        match json::parse(text) {
            Ok(entry) => {
                self.indices.push(index);
                self.entries.push(entry);
                self.bytes += text.len();
            }
            Err(fault) => self.tally.count(index, Fate::Rejected(vec![fault.into_field_error()])),
        }
        if self.entries.len() >= CHUNK_ENTRIES || self.bytes >= CHUNK_BYTES { self.flush().await } else { Ok(()) }
    }

    async fn flush(&mut self) -> Result<(), Problem> {
        if self.entries.is_empty() {
            return Ok(());
        }
        let entries = std::mem::take(&mut self.entries);
        let indices = std::mem::take(&mut self.indices);
        self.bytes = 0;
        let written = if self.chunks == 0 { self.feed.write(entries).await } else { self.write_patiently(entries).await };
        let fates = self.survive(written.map_err(Problem::from))?;
        self.chunks += 1;
        for (index, fate) in indices.into_iter().zip(fates) {
            self.tally.count(index, fate);
        }
        Ok(())
    }

    /// A part of the request is stored already: better to wait for the queue than to leave the caller with half of it.
    async fn write_patiently(&self, entries: Vec<F::Entry>) -> Result<Vec<Fate>, IngestError> {
        let end = tokio::time::Instant::now() + self.patience;
        loop {
            match self.feed.write(entries.clone()).await {
                Err(IngestError::Overloaded) if tokio::time::Instant::now() < end => tokio::time::sleep(RETRY_PAUSE).await,
                written => return written,
            }
        }
    }

    /// Says with a failure in the middle how far the request had come.
    fn survive<T>(&self, result: Result<T, Problem>) -> Result<T, Problem> {
        result.map_err(|problem| match self.tally.stored() {
            0 => problem,
            stored => problem.adding(&format!("before that, {stored} entries of this request were stored")),
        })
    }
}

/// Entries that are rejected are never waited for: without this a body full of them would hold the thread to its end, and no timeout would be heard.
async fn give_way(entry: usize) {
    if entry % TURN_ENTRIES == TURN_ENTRIES - 1 {
        tokio::task::yield_now().await;
    }
}

/// Whether the document is an object whose first member is `name`.
fn opens_with(text: &str, name: &str) -> bool {
    let first = text.trim_ascii_start().strip_prefix('{').and_then(|text| text.trim_ascii_start().strip_prefix('"'));
    first.and_then(|text| text.strip_prefix(name)).is_some_and(|text| text.starts_with('"'))
}

fn named_list<'a>(text: &'a str, name: &'static str) -> Result<Entries<'a>, Problem> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Named<'a> {
        #[serde(borrow, alias = "events", alias = "items")]
        list: &'a RawValue,
    }

    let named: Named<'a> = json::parse(text).map_err(|fault| match fault {
        Fault::Invalid(error) if error.detail.starts_with("unknown field") => {
            Fault::Invalid(FieldError { detail: format!("unknown field; known is {name}"), ..error })
        }
        fault => fault,
    })?;
    json::entries_of(named.list).map_err(|fault| Problem::invalid(vec![fault.into_field_error().under(&pointer_step(name))]))
}
