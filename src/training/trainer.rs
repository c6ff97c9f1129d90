//! Trains on demand, at start, and after enough new events: log → examples → fit → publish.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use serde::Serialize;
use serde_json::Value as Json;
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::{
    domain::Timestamp,
    features::{Columns, Signals},
    learned::{Artefacts, Collaborative, Kept, Learned},
    store::Store,
    telemetry::{Compute, Registry},
};

use super::{
    Learner, TrainingSettings,
    examples::Examples,
    fit::{Fitted, fit},
    metrics::Metrics,
    rehearsal::{Encoded, Rehearsal, Rehearse},
};

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

/// Swaps in what was learned; handed over by `app`.
pub type Publish = Arc<dyn Fn(String, Arc<Learned>) + Send + Sync>;

/// What the learn path reads and writes.
pub struct Rooms {
    /// The log.
    pub store: Store,
    /// Which items there are.
    pub columns: Arc<Columns>,
    /// How events are read.
    pub signals: Arc<Signals>,
    /// Where what was learned is kept.
    pub artefacts: Artefacts,
    /// Swaps it in.
    pub publish: Publish,
    /// The whole pipeline, to be asked.
    pub rehearse: Arc<dyn Rehearse>,
    /// As answers count what is popular.
    pub popularity_half_life_days: f32,
}

/// Trains on demand and by itself; cheap to clone.
#[derive(Clone)]
pub struct Trainer(Arc<Inner>);

struct Inner {
    rooms: Rooms,
    settings: TrainingSettings,
    compute: Compute,
    metrics: Metrics,
    running: AtomicBool,
    last: Mutex<Option<Json>>,
    encoded: Encoded,
}

/// What `GET /admin/train` shows.
#[derive(Serialize)]
struct State {
    running: bool,
    last: Option<Json>,
}

/// What was tried, and how well it did.
#[derive(Serialize)]
struct Reports<'a> {
    #[serde(flatten)]
    collaborative: &'a super::fit::Report,
    #[serde(flatten)]
    rehearsed: super::rehearsal::Report,
}

/// What a training found.
#[derive(Serialize)]
struct Outcome {
    /// When it began.
    at: Timestamp,
    /// Whether the result is in use now.
    published: bool,
    /// The version that was published.
    version: Option<String>,
    /// Why nothing was published.
    reason: Option<String>,
    events: usize,
    users: usize,
    interactions: usize,
    seconds: f64,
    report: Json,
}

impl Trainer {
    /// Fails when `registry` has the learn path's metrics already, or no thread can be started.
    pub fn new(rooms: Rooms, settings: TrainingSettings, registry: &Registry) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let inner = Inner {
            rooms,
            compute: Compute::start("training", 1, 1)?,
            metrics: Metrics::register(registry)?,
            settings,
            running: AtomicBool::new(false),
            last: Mutex::new(None),
            encoded: Encoded::default(),
        };
        Ok(Self(Arc::new(inner)))
    }

    /// Trains now and returns the report. A training goes on when the caller is gone.
    pub async fn train(&self) -> Result<Json, TrainError> {
        if self.0.running.swap(true, Ordering::AcqRel) {
            return Err(TrainError::Busy);
        }
        let (reply, outcome) = oneshot::channel();
        let inner = Arc::clone(&self.0);
        tokio::spawn(async move {
            let _running = Running(&inner.running);
            let trained = inner.train().await;
            match &trained {
                Ok(report) => *inner.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(report.clone()),
                Err(error) => {
                    inner.metrics.runs.with_label_values(&["failed"]).inc();
                    tracing::error!(%error, "training failed");
                }
            }
            drop(reply.send(trained));
        });
        outcome.await.unwrap_or_else(|_| Err(TrainError::Failed("it stopped unexpectedly".to_owned())))
    }

    /// What one learner makes of the log by itself, published nowhere: a baseline. `None` where the log is too little for it.
    pub async fn learn_alone(&self, learner: Learner) -> Result<Option<Collaborative>, TrainError> {
        let failed = |error: &dyn std::fmt::Display| TrainError::Failed(error.to_string());
        let Inner { rooms, compute, .. } = &*self.0;
        let examples = Examples::read(&rooms.store, &rooms.columns, &rooms.signals, compute).await.map_err(|error| failed(&error))?;
        let inner = Arc::clone(&self.0);
        compute.run(move || learner.fit(&examples.interactions, &inner.settings)).await.map_err(|error| failed(&error))
    }

    /// What the last training of this process found and whether one is under way.
    pub fn state(&self) -> Json {
        let state = State { running: self.0.running.load(Ordering::Acquire), last: self.0.last.lock().unwrap_or_else(PoisonError::into_inner).clone() };
        serde_json::to_value(state).unwrap_or_default()
    }

    /// Trains whenever the log has grown by `every_events`, until `stop`; with 0 never.
    pub async fn run(self, mut accepted: watch::Receiver<u64>, stop: CancellationToken) {
        let every = self.0.settings.every_events;
        if every == 0 {
            return;
        }
        let mut trained_at = *accepted.borrow();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                changed = accepted.changed() => if changed.is_err() { return },
            }
            let total = *accepted.borrow_and_update();
            if total >= trained_at + every {
                trained_at = total;
                tokio::select! {
                    // A training under way is given up: the log is there at the next start.
                    () = stop.cancelled() => return,
                    // Busy: the training under way has read most of these events; a failure is logged already.
                    _ = self.train() => {}
                }
            }
        }
    }
}

/// Says that no training is under way any more, however it ended.
struct Running<'a>(&'a AtomicBool);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

impl Inner {
    async fn train(self: &Arc<Self>) -> Result<Json, TrainError> {
        let (at, begun) = (Timestamp::now(), std::time::Instant::now());
        let failed = |error: &dyn std::fmt::Display| TrainError::Failed(error.to_string());
        let examples = Examples::read(&self.rooms.store, &self.rooms.columns, &self.rooms.signals, &self.compute).await.map_err(|error| failed(&error))?;
        let examples = Arc::new(examples);
        let (inner, log) = (Arc::clone(self), Arc::clone(&examples));
        let work = move || fit(&log.interactions, &Rehearsal::asked(&log), &inner.settings, &mut |_| {});
        let fitted = self.compute.run(work).await.map_err(|error| failed(&error))?;
        let (events, users, interactions) = (examples.events, examples.users(), examples.interactions.len());
        let mut outcome = Outcome { at, published: false, version: None, reason: None, events, users, interactions, seconds: 0.0, report: Json::Null };
        match fitted {
            Ok(Fitted { collaborative, known, cases, report }) => {
                let rehearsal = Rehearsal { rooms: &self.rooms, compute: &self.compute, encoded: &self.encoded, examples: &examples };
                let (adapter, ranker, rehearsed) = rehearsal.learn(known, &cases).await.map_err(|error| failed(&error))?;
                let report = serde_json::to_value(Reports { collaborative: &report, rehearsed }).map_err(|error| failed(&error))?;
                let inner = Arc::clone(self);
                let save = move || inner.rooms.artefacts.save(Learned { collaborative, adapter, ranker }, report, at);
                let Kept { version, learned, report, .. } = self.compute.run(save).await.map_err(|error| failed(&error))?.map_err(|error| failed(&error))?;
                (self.rooms.publish)(version.clone(), Arc::new(learned));
                outcome = Outcome { published: true, version: Some(version), report, ..outcome };
                self.metrics.runs.with_label_values(&["published"]).inc();
            }
            Err(reason) => {
                outcome.reason = Some(reason.to_string());
                self.metrics.runs.with_label_values(&["skipped"]).inc();
            }
        }
        outcome.seconds = begun.elapsed().as_secs_f64();
        self.metrics.seconds.observe(outcome.seconds);
        tracing::info!(published = outcome.published, events, users, interactions, "training took {:.1} s", outcome.seconds);
        serde_json::to_value(outcome).map_err(|error| failed(&error))
    }
}
