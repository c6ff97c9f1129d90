//! Floor 4: offline replay of the whole pipeline, and reports.
//!
//! In: a catalogue, a log cut in time, a pipeline on an empty folder (built by `app`). Out: a [`Report`] of ours and of baselines, which are the same pipeline
//! with one weight: full ranking, no sampled negatives, intervals by users. [`read_folder`] and [`read_log`] make replays.

mod folder;
mod html;
mod log;
#[cfg(test)]
mod page_tests;
mod plots;
mod policies;
mod rehearsal;
mod replay;
mod report;
mod table;
mod tally;

use crate::{
    domain::{FieldError, Timestamp},
    index::IndexError,
    ingest::{IndexingError, IngestError},
    store::StoreError,
    training::TrainError,
};

pub use folder::read_folder;
pub use log::{lend_embeddings, read_log};
pub use plots::PlotError;
pub use policies::Contender;
pub use rehearsal::Pipeline;
pub use replay::{Question, Replay, Split, Step, Task};
pub use report::{DataFacts, Difference, Figure, PolicyReport, Report, Segment, SegmentFigure};

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum EvaluationError {
    /// The data folder cannot be read, or is not what it should be; says where.
    #[error("{0}")]
    Folder(String),
    /// Nothing to ask, or nothing to learn from.
    #[error("nothing can be asked: the log needs events before and after the cut, and first meetings of users and items after it")]
    Nothing,
    /// The pipeline did not take what it was fed.
    #[error("the {what} was rejected: {fault}")]
    Rejected {
        /// Item, event or filter.
        what: &'static str,
        /// The first fault, without any value.
        fault: String,
    },
    /// A part did not answer, so this would be another pipeline's report.
    #[error("answers lacked {0}; nothing is reported of half a pipeline")]
    Degraded(String),
    /// A question was refused.
    #[error("a question was refused: {0}")]
    Answer(String),
    /// The write path.
    #[error(transparent)]
    Ingest(#[from] IngestError),
    /// Indexing.
    #[error(transparent)]
    Indexing(#[from] IndexingError),
    /// The index.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// The learn path.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl EvaluationError {
    fn rejected(what: &'static str, faults: &[FieldError]) -> Self {
        let fault = faults.first().map_or_else(String::new, |fault| format!("{} {}", fault.pointer, fault.detail));
        Self::Rejected { what, fault }
    }
}

/// What is being done, for progress bars.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Items are encoded and indexed.
    Indexing,
    /// Events are fed.
    Feeding,
    /// Models are learned, the baselines' too.
    Learning,
    /// Questions are asked.
    Asking,
}

impl Pipeline {
    /// Replays and reports. `now`: of the machine, for the store's arrival times. `model`: how a report calls the language model.
    pub async fn evaluate(
        &self,
        replay: &Replay,
        how: &Evaluation,
        now: Timestamp,
        progress: &mut (dyn FnMut(Stage, usize, usize) + Send),
    ) -> Result<Report, EvaluationError> {
        if replay.questions() == 0 {
            return Err(EvaluationError::Nothing);
        }
        let (tally, mut notes) = self.rehearse(replay, &how.baselines, now, progress).await?;
        notes.splice(0..0, replay.notes.iter().cloned());
        let data = DataFacts {
            name: replay.name.clone(),
            task: replay.task,
            split: replay.split.clone(),
            items: replay.items.len(),
            events: replay.events.len(),
            questions: tally.questions(),
            units: tally.units(),
            model: how.model.clone(),
        };
        Ok(Report {
            program: env!("CARGO_PKG_VERSION").to_owned(),
            data,
            seed: how.seed,
            policies: tally.policies(how.seed),
            differences: tally.differences(how.seed),
            segments: tally.segments(how.seed),
            notes,
        })
    }
}

/// How to evaluate.
#[derive(Debug, Clone)]
pub struct Evaluation {
    /// Whom to compare with; those that the questions give nothing to go by are left out.
    pub baselines: Vec<Contender>,
    /// Of the intervals.
    pub seed: u64,
    /// What a report calls the language model.
    pub model: String,
}
