//! What an evaluation found: the JSON document, of which the table and the page are views. The same data and seed give the same document.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{policies::Contender, replay::Task};

/// The document.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Version of the program.
    pub program: String,
    /// What was replayed.
    pub data: DataFacts,
    /// Of the intervals.
    pub seed: u64,
    /// Each contender, ours first.
    pub policies: Vec<PolicyReport>,
    /// Ours less each other, paired by question.
    pub differences: Vec<Difference>,
    /// NDCG@10 of parts of the questions.
    pub segments: Vec<Segment>,
    /// What a reader has to know.
    pub notes: Vec<String>,
}

/// What was replayed, without anybody's name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DataFacts {
    /// The folder's name, or the own log.
    pub name: String,
    /// What was asked.
    pub task: Task,
    /// Where time was cut.
    pub split: String,
    /// Of the catalogue.
    pub items: usize,
    /// Learned from.
    pub events: usize,
    /// Asked.
    pub questions: usize,
    /// Users, or questions where nobody is known.
    pub units: usize,
    /// Name, precision and source of the language model.
    pub model: String,
}

/// A mean over questions.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// The mean.
    pub mean: f64,
    /// The 95 % interval over drawn units.
    pub low: f64,
    /// Its upper end.
    pub high: f64,
    /// Questions.
    pub n: usize,
    /// Units that were drawn from.
    pub units: usize,
}

/// What one contender's answers come to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PolicyReport {
    /// Which one.
    pub name: Contender,
    /// In words.
    pub title: String,
    /// Questions.
    pub n: usize,
    /// Whose.
    pub units: usize,
    /// By `ndcg@10` and the like.
    pub measures: BTreeMap<String, Figure>,
    /// Share of the catalogue in the first ten of any list.
    pub coverage_at_10: f64,
    /// How unevenly these places are spread over the catalogue, 0 to 1.
    pub gini_at_10: f64,
    /// How rare these items are among the events learned from, in bits.
    pub novelty_bits_at_10: Option<f64>,
    /// How unlike each other they are within a list: 1 - cosine of their embeddings.
    pub diversity_at_10: Option<f64>,
    /// Lists without any item.
    pub empty_lists: usize,
    /// Share of the catalogue, least shown first, and of the places it has.
    pub lorenz: Vec<(f64, f64)>,
}

/// Ours less another.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Difference {
    /// The other.
    pub against: Contender,
    /// Such as `ndcg@10`.
    pub measure: String,
    /// Mean of the differences.
    pub figure: Figure,
    /// Questions that ours answers better.
    pub better: usize,
    /// Questions that ours answers worse.
    pub worse: usize,
}

/// Some of the questions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Segment {
    /// What divides them: `history`, `language`, `scenario`.
    pub by: String,
    /// Which ones.
    pub name: String,
    /// Questions.
    pub n: usize,
    /// Whose.
    pub units: usize,
    /// Too few units for much to be said.
    pub few_units: bool,
    /// Of each contender.
    pub ndcg_at_10: Vec<SegmentFigure>,
}

/// One contender in a segment.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct SegmentFigure {
    /// Which one.
    pub name: Contender,
    /// NDCG@10.
    pub figure: Figure,
}
