//! `[encoder]` of the settings.

use serde::{Deserialize, Serialize};

use super::PrepareError;

/// `[encoder]`: which model, and how much it may take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EncoderSettings {
    /// A manifest's name.
    pub model: String,
    /// Tokens that are read of a text, special ones included; at most the model's own limit.
    pub max_tokens: usize,
    /// Forward passes at the same time; 0 = as many as the cores allow.
    pub sessions: usize,
    /// Threads inside one forward pass.
    pub threads: usize,
    /// Texts of people that may wait; one more is refused.
    pub queue: usize,
    /// Tokens in one forward pass, padding included.
    pub batch_tokens: usize,
    /// Megabytes for the embeddings of texts seen before; 0 = none.
    pub cache_mb: usize,
}

impl EncoderSettings {
    /// Sessions to start on this machine.
    pub(super) fn sessions_here(&self) -> usize {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        if self.sessions == 0 { (cores / self.threads.max(1)).clamp(1, 16) } else { self.sessions }
    }

    /// Says in one line what cannot work.
    pub(super) fn check(&self, model_limit: usize) -> Result<(), PrepareError> {
        let ranges = [
            ("max_tokens", self.max_tokens, 8, model_limit),
            ("sessions", self.sessions, 0, 64),
            ("threads", self.threads, 1, 64),
            ("queue", self.queue, 1, 1_000_000),
            ("batch_tokens", self.batch_tokens, 1, 1_000_000),
            ("cache_mb", self.cache_mb, 0, 1_000_000),
        ];
        match ranges.into_iter().find(|(_, value, least, most)| !(least..=most).contains(&value)) {
            Some((name, value, least, most)) => Err(PrepareError::Settings(format!("encoder.{name} = {value} must be from {least} to {most}"))),
            None => Ok(()),
        }
    }
}
