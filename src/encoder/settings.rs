//! `[encoder]` of the settings.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Precision, PrepareError, ProviderSetting};

/// No model reads more; a larger number is a mistake.
const MOST_TOKENS: usize = 65_536;

/// `[encoder]`: which model, and how much it may take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EncoderSettings {
    /// A manifest's name.
    pub model: String,
    /// What the model computes in; the one its manifest names where this is not set. Embeddings of two precisions must not be compared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub precision: Option<Precision>,
    /// Where forward passes run.
    pub provider: ProviderSetting,
    /// Tokens that are read of what a person types, special ones included, and of each window of other texts; a model that reads fewer keeps to
    /// its own limit.
    pub max_tokens: usize,
    /// Forward passes at the same time; 0 = as many as the cores allow.
    pub sessions: usize,
    /// Threads inside one forward pass; 0 = what suits the precision.
    pub threads: usize,
    /// Tokens of people's texts that may wait; a text beyond is refused.
    pub queue_tokens: usize,
    /// Milliseconds that a person's text may wait, if its caller's deadline is not earlier; after it the text is not encoded any more.
    pub queue_ms: u64,
    /// Tokens in one forward pass, padding included; 0 = 256 on a processor, as many as its memory allows on a GPU.
    pub batch_tokens: usize,
    /// Megabytes for the embeddings of texts seen before; 0 = none.
    pub cache_mb: usize,
}

/// Forward passes side by side, and threads in each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Layout {
    pub sessions: usize,
    pub threads: usize,
}

impl EncoderSettings {
    /// What to start on `cores`. fp32 gains from a second thread where one person waits; 8-bit passes are short, and what their threads would
    /// wait for each other is better spent on another text.
    pub(super) fn layout(&self, precision: Precision, cores: usize) -> Layout {
        let suits = if precision == Precision::Fp32 { 2 } else { 1 };
        let threads = if self.threads == 0 { suits.min(cores.max(1)) } else { self.threads };
        let sessions = if self.sessions == 0 { (cores / threads).clamp(1, 16) } else { self.sessions };
        Layout { sessions, threads }
    }

    /// The same for this machine.
    pub(super) fn layout_here(&self, precision: Precision) -> Layout {
        self.layout(precision, std::thread::available_parallelism().map_or(1, std::num::NonZero::get))
    }

    /// Sessions and threads that these settings start on this machine's processor.
    pub fn sessions_and_threads(&self, precision: Precision) -> (usize, usize) {
        let Layout { sessions, threads } = self.layout_here(precision);
        (sessions, threads)
    }

    /// Tokens in a pass on a processor: more gains nothing there and makes people wait behind indexing.
    pub(super) fn batch_tokens_on_cpu(&self) -> usize {
        if self.batch_tokens == 0 { 256 } else { self.batch_tokens }
    }

    pub(super) fn longest_wait(&self) -> Duration {
        Duration::from_millis(self.queue_ms)
    }

    /// The same for filling a collection beside a model that serves: half of its passes side by side, so that people's texts keep half of the
    /// cores; and no cache, for nobody asks twice.
    #[must_use]
    pub fn beside_another(&self, precision: Precision) -> Self {
        let Layout { sessions, threads } = self.layout_here(precision);
        let (sessions, threads) = if sessions > 1 { (sessions / 2, threads) } else { (1, threads.div_ceil(2)) };
        Self { sessions, threads, cache_mb: 0, ..self.clone() }
    }

    /// The same for a model that reads `model_limit` tokens at most. Says in one line what cannot work.
    pub(super) fn for_model(&self, model_limit: usize) -> Result<Self, PrepareError> {
        let settings = Self { max_tokens: self.max_tokens.min(model_limit), ..self.clone() };
        let ranges = [
            ("max_tokens", self.max_tokens, 8, MOST_TOKENS),
            ("sessions", self.sessions, 0, 64),
            ("threads", self.threads, 0, 64),
            // One text must fit at least.
            ("queue_tokens", self.queue_tokens, settings.max_tokens, 100_000_000),
            ("queue_ms", usize::try_from(self.queue_ms).unwrap_or(usize::MAX), 1, 3_600_000),
            ("batch_tokens", self.batch_tokens, 0, 1_000_000),
            ("cache_mb", self.cache_mb, 0, 1_000_000),
        ];
        match ranges.into_iter().find(|(_, value, least, most)| !(least..=most).contains(&value)) {
            Some((name, value, least, most)) => Err(PrepareError::Settings(format!("encoder.{name} = {value} must be from {least} to {most}"))),
            None => Ok(settings),
        }
    }
}
