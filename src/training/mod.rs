//! Floor 3, the learn path: log → examples → fit → judge → gate → publish.

/// Why no training took place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TrainError {
    /// One is under way; its report will be the answer to the next question.
    #[error("a training is under way already")]
    Busy,
    /// The log could not be read or the result not written.
    #[error("training failed: {0}")]
    Failed(String),
}

/// Trains on demand and by itself; cheap to clone.
#[derive(Clone)]
pub struct Trainer {}

impl Trainer {
    /// Trains now and returns the report. A training goes on when the caller is gone.
    pub async fn train(&self) -> Result<serde_json::Value, TrainError> {
        std::future::ready(Ok(serde_json::Value::Null)).await
    }

    /// What the last training found and whether one is under way.
    pub fn state(&self) -> serde_json::Value {
        serde_json::Value::Null
    }
}
