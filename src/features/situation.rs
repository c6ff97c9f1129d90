//! What was known when somebody asked, to be asked again: made by `training` of the log, answered by `recommend`.

use std::sync::Arc;

use crate::domain::ItemKey;

use super::Ranking;

/// A past question without its answer.
#[derive(Debug, Clone)]
pub struct Situation {
    /// What they typed.
    pub text: Option<String>,
    /// What they had done, newest first, each item once with its signed weight.
    pub history: Vec<(ItemKey, f32)>,
    /// What many wanted.
    pub popularity: Arc<Ranking>,
}
