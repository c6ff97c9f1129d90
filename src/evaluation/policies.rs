//! What is compared: the pipeline as it is, and the same pipeline with one weight, one source, and where it needs one a model learned alone.

use std::sync::Arc;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::{
    domain::Source,
    learned::Learned,
    recommend::{Policy, Weights},
    training::{Learner, Trainer},
};

use super::{EvaluationError, replay::Replay};

/// One who answers every question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Contender {
    /// As the settings say.
    #[value(skip)]
    Ours,
    /// The most popular items for everybody: what any claim of personalisation has to beat.
    Popularity,
    /// Item-kNN alone.
    ItemKnn,
    /// EASE^R alone.
    Ease,
    /// Implicit ALS alone.
    Als,
    /// BM25 of the words alone.
    Bm25,
    /// Embeddings alone, as the model gives them: of the words, else of what the user liked and wrote.
    Dense,
}

impl Contender {
    /// The baselines, in the order of reports.
    pub const BASELINES: [Self; 6] = [Self::Popularity, Self::ItemKnn, Self::Ease, Self::Als, Self::Bm25, Self::Dense];

    /// As a command line and JSON name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Popularity => "popularity",
            Self::ItemKnn => "item-knn",
            Self::Ease => "ease",
            Self::Als => "als",
            Self::Bm25 => "bm25",
            Self::Dense => "dense",
        }
    }

    /// As a person reads it.
    pub fn title(self) -> &'static str {
        match self {
            Self::Ours => "inkling",
            Self::Popularity => "popularity",
            Self::ItemKnn => "item-kNN",
            Self::Ease => "EASE^R",
            Self::Als => "ALS",
            Self::Bm25 => "BM25",
            Self::Dense => "dense",
        }
    }

    /// Whether the questions give it anything to go by.
    fn fits(self, replay: &Replay) -> bool {
        let mut questions = replay.steps.iter().filter_map(|step| step.question.as_ref());
        match self {
            Self::Ours | Self::Popularity | Self::Dense => true,
            Self::ItemKnn | Self::Ease | Self::Als => questions.any(|question| question.user_id.is_some() || question.session_id.is_some()),
            Self::Bm25 => questions.any(|question| question.text.is_some()),
        }
    }

    fn learner(self) -> Option<Learner> {
        match self {
            Self::ItemKnn => Some(Learner::ItemKnn),
            Self::Ease => Some(Learner::Ease),
            Self::Als => Some(Learner::Als),
            Self::Ours | Self::Popularity | Self::Bm25 | Self::Dense => None,
        }
    }

    /// `alone`: what its learner learned.
    fn policy(self, alone: Learned) -> Policy {
        let (weights, sources) = match self {
            Self::Ours => return Policy::default(),
            Self::Popularity => (Weights { popularity: 1.0, ..Weights::NONE }, vec![Source::Popular]),
            Self::ItemKnn | Self::Ease | Self::Als => (Weights { collaborative: 1.0, ..Weights::NONE }, vec![Source::Collaborative]),
            Self::Bm25 => (Weights { lexical: 1.0, ..Weights::NONE }, vec![Source::Lexical]),
            Self::Dense => (Weights { semantic: 1.0, similar: 1.0, profile: 1.0, ..Weights::NONE }, vec![Source::Semantic, Source::Similar, Source::Profile]),
        };
        Policy { weights: Some(weights), sources: Some(sources), learned: Some(Arc::new(alone)) }
    }
}

/// Ours and those of `wanted` that the questions suit, each with its policy; models are learned from the log as it is now. Says which were left out, and why.
pub(super) async fn contenders(trainer: &Trainer, replay: &Replay, wanted: &[Contender]) -> Result<(Vec<(Contender, Policy)>, Vec<String>), EvaluationError> {
    let (mut contenders, mut notes) = (vec![(Contender::Ours, Policy::default())], Vec::new());
    for baseline in Contender::BASELINES.into_iter().filter(|one| wanted.contains(one)) {
        if !baseline.fits(replay) {
            continue;
        }
        let alone = match baseline.learner() {
            Some(learner) => match trainer.learn_alone(learner).await? {
                Some(collaborative) => Learned { collaborative, ..Learned::default() },
                None => {
                    notes.push(format!("{} is left out: the log is too little for it", baseline.title()));
                    continue;
                }
            },
            None => Learned::default(),
        };
        contenders.push((baseline, baseline.policy(alone)));
    }
    Ok((contenders, notes))
}
