//! Moves a serving house to another model, or to another analysis of words, without a gap.
//!
//! 1. The new encoder starts beside the old one, with half of its sessions and for background work only.
//! 2. A new collection is filled from the store, from the first revision on, while the old one answers and follows every write.
//! 3. The new encoder starts whole, the collection catches up, and between two chunks of the indexer it takes over: it knows all that the old one
//!    knew and is safe on disk, `serving.json` names it, and requests see encoder, collection, lexicon and categories change as one value.
//! 4. The old collection's folder goes when its last reader is gone.
//!
//! A move that is cut off leaves a folder that the next start removes. What was encoded for it stays in the store (retention lets it be for a
//! day), so asking again goes on from there.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use anyhow::Context;
use async_trait::async_trait;
use prometheus::{IntGauge, IntGaugeVec, Opts};
use serde_json::Value as Json;
use tokio::{sync::oneshot, task::JoinHandle, time::sleep};
use tokio_util::sync::CancellationToken;

use crate::{
    config::Settings,
    domain::{FieldError, Revision},
    encoder::{Encoder, EncoderMetrics, EncoderSettings, Precision, PrepareError, PreparedModel, ProviderSetting, prepared},
    http::{BuiltBy, Readiness, ReindexError, ReindexOutcome, ReindexPhase, ReindexProgress, ReindexRequest, ReindexState, Reindexing},
    index::{Collections, IndexError, Lexicon, VectorIndex},
    ingest::{Content, IndexCollection, Ingest, Succession, VersionsInUse},
    recommend::{CategoryMaker, ModelSet, Models},
    store::Store,
    telemetry::{Compute, Registry},
};

use super::{
    collection::{BuiltFor, Serving, Shelf, in_words},
    seams,
};

/// How often it is looked whether the old collection still has readers.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// What a move reads and changes.
pub(super) struct Rooms {
    pub(super) settings: Settings,
    pub(super) shelf: Shelf,
    pub(super) collections: Collections,
    pub(super) store: Store,
    pub(super) ingest: Ingest,
    pub(super) succession: Succession,
    pub(super) models: Models,
    /// Makes those of the next set.
    pub(super) categories: CategoryMaker,
    pub(super) encoders: EncoderMetrics,
    pub(super) readiness: Readiness,
    pub(super) compute: Compute,
}

/// Moves on demand; cheap to clone.
#[derive(Clone)]
pub(super) struct Mover(Arc<Inner>);

struct Inner {
    rooms: Rooms,
    state: Mutex<State>,
    done: IntGauge,
    total: IntGauge,
    stop: CancellationToken,
}

struct State {
    serving: Serving,
    running: Option<Running>,
    last: Option<ReindexOutcome>,
    /// Of the last move; it ends with `stop`.
    task: Option<JoinHandle<()>>,
}

/// A move under way.
struct Running {
    goal: BuiltFor,
    phase: ReindexPhase,
    done: u64,
    total: u64,
}

impl Mover {
    /// `serving` is what answers now. Registers a gauge; fails when it is there already.
    pub(super) fn new(rooms: Rooms, serving: Serving, registry: &Registry, stop: CancellationToken) -> prometheus::Result<Self> {
        let opts = Opts::new("inkling_reindex_items", "item states in the collection that is built beside the one that answers; 0 when none is");
        let items = IntGaugeVec::new(opts, &["state"])?;
        registry.register(Box::new(items.clone()))?;
        let state = Mutex::new(State { serving, running: None, last: None, task: None });
        let (done, total) = (items.with_label_values(&["done"]), items.with_label_values(&["total"]));
        Ok(Self(Arc::new(Inner { rooms, state, done, total, stop })))
    }

    /// Versions of encoders whose embeddings are needed: of the one that answers, and of the one that is to.
    pub(super) fn versions_in_use(&self) -> VersionsInUse {
        let inner = Arc::clone(&self.0);
        Arc::new(move || {
            let state = inner.lock();
            let goal = state.running.as_ref().map(|running| &running.goal);
            [Some(&state.serving.built), goal].into_iter().flatten().map(|built| built.encoder.clone()).collect()
        })
    }

    /// Waits until a move under way has noticed that the process stops.
    pub(super) async fn stopped(&self) {
        let task = self.0.lock().task.take();
        if let Some(task) = task {
            drop(task.await); // a panic of it was logged by the runtime
        }
    }
}

#[async_trait]
impl Reindexing for Mover {
    async fn begin(&self, asked: ReindexRequest) -> Result<ReindexState, ReindexError> {
        let inner = &self.0;
        if inner.lock().running.is_some() {
            return Err(ReindexError::Busy);
        }
        let (model, goal) = inner.goal(asked).await?;
        let mut state = inner.lock();
        if state.running.is_some() {
            return Err(ReindexError::Busy);
        }
        state.running = Some(Running { goal: goal.clone(), phase: ReindexPhase::Starting, done: 0, total: 0 });
        let mover = Arc::clone(inner);
        state.task = Some(tokio::spawn(async move {
            tokio::select! {
                () = mover.stop.cancelled() => {}
                () = mover.run(&model, goal) => {}
            }
        }));
        drop(state);
        Ok(self.state())
    }

    fn state(&self) -> ReindexState {
        let (Serving { collection, built }, running, goal, last) = {
            let state = self.0.lock();
            let running = state.running.as_ref();
            (state.serving.clone(), running.map(Running::shown), running.map(|running| running.goal.clone()), state.last.clone())
        };
        let change_settings = self.0.settings_to_change(goal.as_ref().unwrap_or(&built));
        let serving = BuiltBy { model: built.model, precision: built.precision, encoder_version: built.encoder, collection };
        ReindexState { catalogue: self.0.rooms.store.edition().to_owned(), running, serving, last, change_settings }
    }
}

impl Running {
    fn shown(&self) -> ReindexProgress {
        let Self { goal, phase, done, total } = self;
        ReindexProgress { model: goal.model.clone(), precision: goal.precision, phase: *phase, done: *done, total: *total }
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn settings_to_change(&self, goal: &BuiltFor) -> BTreeMap<String, Json> {
        goal.settings_to_change(&self.rooms.settings)
    }

    /// The model that is asked for, if it is whole: a server that answers fetches and exports nothing, which takes the network and a gigabyte.
    async fn goal(&self, asked: ReindexRequest) -> Result<(PreparedModel, BuiltFor), ReindexError> {
        let Rooms { settings, compute, .. } = &self.rooms;
        let now = self.lock().serving.built.clone();
        let precision = match (&asked.model, asked.precision) {
            (_, Some(precision)) => Some(precision),
            (None, None) => Some(now.precision),
            (Some(_), None) => settings.encoder.precision,
        };
        if precision == Some(Precision::Fp16) && settings.encoder.provider == ProviderSetting::Cpu {
            return Err(refused("/precision", "fp16 is for GPUs, and encoder.provider is \"cpu\""));
        }
        let lexical = asked.lexical(&now.lexical);
        let (models, name) = (settings.paths.models_dir(), asked.model.unwrap_or(now.model));
        let found = compute.run(move || prepared(&models, &name, precision)).await.map_err(|error| ReindexError::Failed(error.to_string()))?;
        let model = found.map_err(|error| match &error {
            PrepareError::UnknownModel { known, .. } => refused(
                "/model",
                format!("is not a model that this server knows: {known}; `inkling model add DIR` adds one, `inkling model fetch NAME` prepares it"),
            ),
            PrepareError::NotPrepared { .. } => refused("/model", format!("{error} on the server's machine; nothing is fetched while it serves")),
            PrepareError::Settings(_) => refused("/precision", error.to_string()),
            _ => ReindexError::Failed(error.to_string()),
        })?;
        let goal = BuiltFor::of(&model, settings, &lexical);
        Ok((model, goal))
    }

    async fn run(self: &Arc<Self>, model: &PreparedModel, goal: BuiltFor) {
        let _done = Done(self);
        let begun = Instant::now();
        let name = match self.rooms.shelf.free_name(&goal.encoder).await {
            Ok(name) => name,
            Err(error) => {
                tracing::error!(%error, "the reindex failed; answers go on with the index as it is");
                let outcome = ReindexOutcome { model: goal.model, precision: goal.precision, done: 0, seconds: 0.0, error: Some(error.to_string()) };
                self.lock().last = Some(outcome);
                return;
            }
        };
        tracing::info!(model.version = goal.encoder, "building the collection {name} beside the one that answers");
        let moved = self.fill_and_swap(model, &goal, &name).await;
        let outcome = {
            let state = self.lock();
            let done = state.running.as_ref().map_or(0, |running| running.done);
            let error = moved.as_ref().err().map(|error| format!("{error:#}"));
            ReindexOutcome { model: goal.model, precision: goal.precision, done, seconds: begun.elapsed().as_secs_f64(), error }
        };
        let gone = match moved {
            Ok((old, index)) => {
                self.lock().last = Some(outcome);
                self.enter(ReindexPhase::Retiring);
                // Closing flushes, so the last one to let go must not be a request.
                while Arc::strong_count(&index) > 1 {
                    sleep(LOOK_AGAIN).await;
                }
                if self.rooms.compute.run(move || drop(index)).await.is_err() {
                    tracing::debug!("the old collection was closed here");
                }
                old
            }
            Err(error) => {
                tracing::error!(error = format!("{error:#}"), "the reindex failed; answers go on with the index as it is");
                self.lock().last = Some(outcome);
                name
            }
        };
        if let Err(error) = self.discard(&gone).await {
            tracing::warn!(error = format!("{error:#}"), "the collection {gone} could not be removed; the next start tries again");
        }
    }

    /// Gives the old collection: its name, and itself.
    async fn fill_and_swap(self: &Arc<Self>, model: &PreparedModel, goal: &BuiltFor, name: &str) -> anyhow::Result<(String, Arc<dyn VectorIndex>)> {
        let Rooms { settings, shelf, collections, store, ingest, succession, models, categories, .. } = &self.rooms;
        let serving = models.snapshot().encoder.clone();
        let is_the_same = serving.version() == goal.encoder;
        let encoder = if is_the_same { serving } else { self.start(model, settings.encoder.beside_another(model.manifest.precision)).await? };
        shelf.begin(store, name).await?;
        let index = collections.with_lexical(&goal.lexical).open(name, encoder.width()).await?.index;
        let lexicon = Arc::new(Lexicon::new(&goal.lexical));
        self.note(0, store.pending_items(Revision::default()).await?);
        self.enter(ReindexPhase::Filling);
        let content = Content::Text { encoder, lexicon: Arc::clone(&lexicon) };
        let collection = IndexCollection { name: name.to_owned(), index: Arc::clone(&index), content };
        let mut filling = ingest.filling(collection, Revision::default(), settings.ingest.chunk);
        filling.catch_up(|done| self.note(done as u64, 0)).await?;

        self.enter(ReindexPhase::Swapping);
        let mut next = ModelSet { index, lexicon, learned: None, categories: None, ..ModelSet::clone(&models.snapshot()) };
        if !is_the_same {
            next.encoder = self.start(model, settings.encoder.clone()).await?;
            filling = filling.with_encoder(next.encoder.clone());
            // Made of this encoder's embeddings, and searches lean on them too: they change with it.
            next.categories = categories.clone().make_for(&next).await;
            let before = self.lock().running.as_ref().map_or(0, |running| running.done);
            filling.catch_up(|done| self.note(before + done as u64, 0)).await?;
        }
        let (taken, old) = oneshot::channel();
        let (inner, serving) = (Arc::clone(self), Serving { collection: name.to_owned(), built: goal.clone() });
        let swap = async move {
            inner.rooms.shelf.announce(&serving).await.map_err(|error| format!("{error:#}"))?;
            let old = Arc::clone(&inner.rooms.models.snapshot().index);
            inner.rooms.models.publish_index(&next);
            inner.rooms.readiness.set_encoder(seams::facts_of(&next.encoder));
            inner.say_that_it_serves(&serving);
            let before = std::mem::replace(&mut inner.lock().serving, serving);
            drop(taken.send((before.collection, old))); // nobody waits for it while the process stops
            Ok(())
        };
        succession.take_over(filling, Box::pin(swap)).await?;
        old.await.context("the old collection was lost")
    }

    fn say_that_it_serves(&self, next: &Serving) {
        let version = &next.built.encoder;
        let changes = self.settings_to_change(&next.built);
        if changes.is_empty() {
            tracing::info!(model.version = version, "{version} answers from now on, as the settings say");
        } else {
            let changes = in_words(&changes);
            tracing::warn!(model.version = version, "{version} answers from now on; before the next start, which is refused otherwise, set {changes}");
        }
    }

    /// Starts an encoder on a thread of its own: loading a model blocks for seconds.
    async fn start(&self, model: &PreparedModel, settings: EncoderSettings) -> anyhow::Result<Encoder> {
        let (reply, started) = oneshot::channel();
        let (model, metrics) = (model.clone(), self.rooms.encoders.clone());
        let start = move || drop(reply.send(Encoder::start(&model, &settings, &metrics))); // dropped, it ends, where nobody waits any more
        std::thread::Builder::new().name("encoder-start".to_owned()).spawn(start)?;
        Ok(started.await.context("the encoder's start was lost")??)
    }

    async fn discard(&self, name: &str) -> anyhow::Result<()> {
        if self.rooms.collections.are_shared() {
            if !self.rooms.shelf.discard_forsaken(&self.rooms.store, name).await? {
                tracing::info!("the collection {name} stays until the last process that answers from it is started anew");
            }
            return Ok(());
        }
        self.rooms.store.set_flushed_revision(name, Revision::default()).await?;
        loop {
            match self.rooms.collections.discard(name).await {
                Err(IndexError::Locked { .. } | IndexError::Overloaded) => sleep(LOOK_AGAIN).await,
                discarded => return Ok(discarded?),
            }
        }
    }

    fn enter(&self, phase: ReindexPhase) {
        if let Some(running) = &mut self.lock().running {
            running.phase = phase;
        }
    }

    /// States that are done; `total` where it is counted anew.
    fn note(&self, done: u64, total: u64) {
        if let Some(running) = &mut self.lock().running {
            // What is written meanwhile comes on top.
            (running.done, running.total) = (done, running.total.max(total).max(done));
            self.done.set(i64::try_from(running.done).unwrap_or(i64::MAX));
            self.total.set(i64::try_from(running.total).unwrap_or(i64::MAX));
        }
    }
}

/// Says that no move is under way any more, however it ended.
struct Done<'a>(&'a Inner);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.lock().running = None;
        self.0.done.set(0);
        self.0.total.set(0);
    }
}

fn refused(pointer: &str, detail: impl Into<String>) -> ReindexError {
    ReindexError::Refused(vec![FieldError::new(pointer, detail.into())])
}
