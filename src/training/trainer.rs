//! Trains on demand, at start, and after enough new events: log → examples → fit → publish.

use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;
use serde_json::Value as Json;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};
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
    /// Of one permit, which is held while a training is under way.
    turn: Arc<Semaphore>,
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
            turn: Arc::new(Semaphore::new(1)),
            last: Mutex::new(None),
            encoded: Encoded::default(),
        };
        Ok(Self(Arc::new(inner)))
    }

    /// Trains now and returns the report. A training goes on when the caller is gone.
    pub async fn train(&self) -> Result<Json, TrainError> {
        let turn = Arc::clone(&self.0.turn).try_acquire_owned().map_err(|_| TrainError::Busy)?;
        self.train_in(turn).await
    }

    async fn train_in(&self, turn: OwnedSemaphorePermit) -> Result<Json, TrainError> {
        let (reply, outcome) = oneshot::channel();
        let inner = Arc::clone(&self.0);
        tokio::spawn(async move {
            let _turn = turn;
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
        let state = State { running: self.0.turn.available_permits() == 0, last: self.0.last.lock().unwrap_or_else(PoisonError::into_inner).clone() };
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
            if *accepted.borrow_and_update() < trained_at + every {
                continue;
            }
            // A training under way may have read the log before these events came.
            let turn = tokio::select! {
                () = stop.cancelled() => return,
                turn = Arc::clone(&self.0.turn).acquire_owned() => turn,
            };
            let Ok(turn) = turn else { return }; // it is never closed
            trained_at = *accepted.borrow_and_update();
            tokio::select! {
                // A training under way is given up: the log is there at the next start.
                () = stop.cancelled() => return,
                _ = self.train_in(turn) => {} // a failure is logged already
            }
        }
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

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use serde::de::DeserializeOwned;

    use super::*;
    use crate::{
        domain::{FeatureVector, ItemKey},
        encoder::Encoder,
        features::{FeatureSettings, Preset, Situation},
        index::VectorIndex,
    };

    /// No log in these tests is long enough to be asked for.
    struct NoPipeline;

    #[async_trait]
    impl Rehearse for NoPipeline {
        fn serving(&self) -> (Encoder, Arc<dyn VectorIndex>) {
            unreachable!("nothing is rehearsed")
        }

        fn weights(&self) -> FeatureVector {
            unreachable!("nothing is rehearsed")
        }

        async fn candidates(&self, _: &Situation, _: &Arc<Learned>) -> Option<Vec<(ItemKey, FeatureVector)>> {
            unreachable!("nothing is rehearsed")
        }
    }

    fn section<T: DeserializeOwned>(name: &str) -> T {
        let defaults: toml::Table = include_str!("../config/default.toml").parse().unwrap();
        defaults[name].clone().try_into().unwrap()
    }

    #[tokio::test]
    async fn events_that_came_while_a_training_was_under_way_set_off_none() {
        let (folder, registry) = (tempfile::tempdir().unwrap(), Registry::new());
        let rooms = Rooms {
            store: Store::open(folder.path(), &section("store"), &registry).await.unwrap(),
            columns: Arc::default(),
            signals: Arc::new(Signals::new(&FeatureSettings::of(Preset::Shop)).unwrap()),
            artefacts: Artefacts::new(folder.path().join("artefacts"), "test", 3),
            publish: Arc::new(|_, _| {}),
            rehearse: Arc::new(NoPipeline),
            popularity_half_life_days: 14.0,
        };
        let trainer = Trainer::new(rooms, TrainingSettings { every_events: 10, ..section("training") }, &registry).unwrap();
        let (accepted, watched) = watch::channel(0);
        let under_way = Arc::clone(&trainer.0.turn).acquire_owned().await.unwrap();
        let running = tokio::spawn(trainer.clone().run(watched, CancellationToken::new()));

        tokio::task::yield_now().await; // it counts from here on
        accepted.send(10).unwrap();
        tokio::task::yield_now().await;
        assert_eq!(trainer.train().await, Err(TrainError::Busy));
        assert_eq!(trainer.state(), serde_json::json!({"running": true, "last": null}));
        drop(under_way);

        let trained = async {
            while trainer.state()["last"].is_null() {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(30), trained).await.expect("the events were trained on");
        drop(accepted);
        running.await.unwrap();
    }
}
