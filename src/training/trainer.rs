//! Trains on demand, at start, and after enough new events: log → examples → fit → publish.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use rustc_hash::FxHashMap;
use serde::Serialize;
use serde_json::Value as Json;
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::{
    domain::{Actor, Timestamp},
    features::{Act, Columns, Signals},
    learned::{Artefacts, ItemItem, Kept},
    store::Store,
    telemetry::{Compute, Registry},
};

use super::{Fitted, Interaction, TrainingSettings, fit, metrics::Metrics};

/// Events that are read from the log at a time.
const PAGE: usize = 5_000;

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

/// Swaps new weights in; handed over by `app`.
pub type Publish = Arc<dyn Fn(String, Arc<ItemItem>) + Send + Sync>;

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
}

/// What `GET /admin/train` shows.
#[derive(Serialize)]
struct State {
    running: bool,
    last: Option<Json>,
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

/// The log as training reads it.
struct Examples {
    interactions: Vec<Interaction>,
    events: usize,
    users: usize,
}

impl Inner {
    async fn train(self: &Arc<Self>) -> Result<Json, TrainError> {
        let (at, begun) = (Timestamp::now(), std::time::Instant::now());
        let failed = |error: &dyn std::fmt::Display| TrainError::Failed(error.to_string());
        let Examples { interactions, events, users } = self.examples().await.map_err(|error| failed(&error))?;
        let count = interactions.len();
        let inner = Arc::clone(self);
        let fitted = self.compute.run(move || fit(&interactions, &inner.settings, &mut |_| {})).await.map_err(|error| failed(&error))?;
        let mut outcome = Outcome { at, published: false, version: None, reason: None, events, users, interactions: count, seconds: 0.0, report: Json::Null };
        match fitted {
            Ok(Fitted { item_item, report }) => {
                let report = serde_json::to_value(&report).map_err(|error| failed(&error))?;
                let inner = Arc::clone(self);
                let save = move || inner.rooms.artefacts.save(item_item, report, at);
                let Kept { version, item_item, report, .. } = self.compute.run(save).await.map_err(|error| failed(&error))?.map_err(|error| failed(&error))?;
                (self.rooms.publish)(version.clone(), Arc::new(item_item));
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
        tracing::info!(published = outcome.published, events, users, interactions = count, "training took {:.1} s", outcome.seconds);
        serde_json::to_value(outcome).map_err(|error| failed(&error))
    }

    /// Reads the whole log as one opinion a user and item.
    async fn examples(self: &Arc<Self>) -> Result<Examples, Box<dyn std::error::Error + Send + Sync>> {
        let (mut sequence, mut events) = (0, 0);
        let mut acts: FxHashMap<Actor, Vec<Act>> = FxHashMap::default();
        loop {
            let page = self.rooms.store.events_after(sequence, PAGE).await?;
            let Some(last) = page.last() else { break };
            sequence = last.sequence;
            events += page.len();
            let table = self.rooms.columns.read();
            for logged in page {
                if let (Some(actor), Some(act)) = (logged.event.actor(), self.rooms.signals.act(logged.sequence, &logged.event)) {
                    // The catalogue's own copy of the id: a million events must not hold a million strings.
                    let Some(facts) = table.key_of(&act.item).and_then(|key| table.facts(key)) else { continue };
                    acts.entry(actor).or_default().push(Act { item: facts.item_id.clone(), ..act });
                }
            }
        }
        let inner = Arc::clone(self);
        let interactions = move || {
            let mut actors: Vec<(Actor, Vec<Act>)> = acts.into_iter().collect();
            actors.sort_unstable_by(|a, b| a.0.cmp(&b.0)); // the result must not depend on a map's order
            let table = inner.rooms.columns.read();
            let mut interactions = Vec::new();
            for (number, (_, acts)) in (0u32..).zip(&actors) {
                let first = interactions.len();
                for (item, opinion) in inner.rooms.signals.opinions(acts) {
                    let Some(item) = table.key_of(&item) else { continue };
                    interactions.push(Interaction { actor: number, item, at_ms: opinion.at.millis(), weight: opinion.weight });
                }
                interactions[first..].sort_unstable_by_key(|interaction| (interaction.at_ms, interaction.item));
            }
            Examples { interactions, events, users: actors.len() }
        };
        Ok(self.compute.run(interactions).await?)
    }
}
