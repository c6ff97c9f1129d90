//! Floor 3, the write path: validate → persist → index → what we know now.
//!
//! Events and items come in checked for their types; a call returns when what is valid is on disk. [`Ingest`] is the one
//! writer of the item columns, histories and counters, [`Indexer`] the one writer of the index.

mod filling;
mod follower;
mod indexer;
mod metrics;
mod own_vectors;
mod people;
mod retention;
#[cfg(test)]
mod retention_tests;
mod rules;
mod tenure;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError, atomic::AtomicI64},
};

use tokio::sync::{Notify, watch};

use crate::{
    domain::{Actor, Event, EventType, Exposure, FieldError, Item, ItemId, LoggedEvent, RecommendationId, Revision, SessionId, StoredItem, Timestamp, UserId},
    features::{Act, Columns, Histories, Popularity, Rulebook, Showings, Signals},
    store::{self, PeopleSeen, Store, StoreError},
    telemetry::Registry,
};

pub use filling::{Content, Filling, IndexCollection, IndexingError};
pub use follower::Follower;
pub use indexer::{Indexer, IngestSettings, Succession, SuccessionError};
pub use own_vectors::OpenVectors;
pub use retention::{Passed, Retention, VersionsInUse};
pub use tenure::Tenure;

use metrics::Metrics;

/// Rows that are read from the store at a time when memory is filled at start.
const RECOVERY_PAGE: usize = 5_000;

/// What became of one event.
#[derive(Debug, Clone, PartialEq)]
pub enum EventOutcome {
    /// On disk, counted.
    Accepted,
    /// The same event was there already; nothing changed.
    Duplicate,
    /// Not stored, and why.
    Rejected(Vec<FieldError>),
}

/// What became of one item.
#[derive(Debug, Clone, PartialEq)]
pub enum ItemOutcome {
    /// New in the catalogue.
    Created(Arc<Item>),
    /// Replaced an older state.
    Updated(Arc<Item>),
    /// Was exactly so already.
    Unchanged(Arc<Item>),
    /// Not stored, and why.
    Rejected(Vec<FieldError>),
}

/// What became of a patch.
#[derive(Debug, Clone, PartialEq)]
pub enum PatchOutcome {
    /// There is no such item.
    Missing,
    /// The item as it is now.
    Patched(Arc<Item>),
    /// Nothing changed, and why.
    Rejected(Vec<FieldError>),
}

/// Why nothing at all could be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IngestError {
    /// The queue is full; try again in a moment.
    #[error("too many writes are waiting; try again in a moment")]
    Overloaded,
    /// The database cannot be written.
    #[error("the database is not available: {0}")]
    Unavailable(String),
}

impl From<StoreError> for IngestError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Overloaded => Self::Overloaded,
            error => Self::Unavailable(error.to_string()),
        }
    }
}

/// What the write path writes to.
#[derive(Clone)]
pub struct Rooms {
    /// The truth.
    pub store: Store,
    /// What is known of items.
    pub columns: Arc<Columns>,
    /// What users did.
    pub histories: Arc<Histories>,
    /// What many want.
    pub popularity: Arc<Popularity>,
    /// What events say.
    pub signals: Arc<Signals>,
    /// What merchandisers want.
    pub rulebook: Arc<Rulebook>,
    /// What visits were shown.
    pub showings: Arc<Showings>,
}

/// The write path; cheap to clone.
#[derive(Clone)]
pub struct Ingest(Arc<Inner>);

struct Inner {
    rooms: Rooms,
    metrics: Metrics,
    /// Up to which revision the collections that answer have come.
    progress: Mutex<Progress>,
    /// The own vectors that items have had since the start, each with its width.
    vectors: watch::Sender<BTreeMap<String, usize>>,
    /// Items up to this revision and events up to this sequence are known here.
    seen_revision: AtomicI64,
    seen_sequence: AtomicI64,
    /// Merges and erasures up to these are known here.
    seen_people: Mutex<PeopleSeen>,
    /// Tells the indexer's collections that there is something new.
    changed: watch::Sender<()>,
    /// Tells the follower, where there is one, that this process wrote events.
    wrote: Notify,
    /// Events accepted since the process started.
    accepted: watch::Sender<u64>,
}

/// How far the index has come: the collection of the texts, and those of own vectors by name.
#[derive(Default)]
struct Progress {
    text: Revision,
    own_vectors: BTreeMap<String, Revision>,
}

impl Ingest {
    /// Fails when `registry` has the write path's metrics already.
    pub fn new(rooms: Rooms, registry: &Registry) -> prometheus::Result<Self> {
        let metrics = Metrics::register(registry)?;
        Ok(Self(Arc::new(Inner {
            rooms,
            metrics,
            progress: Mutex::default(),
            vectors: watch::Sender::default(),
            seen_revision: AtomicI64::new(0),
            seen_sequence: AtomicI64::new(0),
            seen_people: Mutex::default(),
            changed: watch::Sender::default(),
            wrote: Notify::new(),
            accepted: watch::Sender::new(0),
        })))
    }

    /// Fills memory with what the store holds; to be called once, before requests are answered.
    pub async fn recover(&self, now: Timestamp) -> Result<(), StoreError> {
        let Rooms { store, columns, .. } = &self.0.rooms;
        columns.fix_attribute_types(store.attribute_types().await?);
        let unknown = self.0.recover_counters(now).await?;
        self.0.begin_with_people().await?;
        self.0.catch_up(now).await?;
        self.0.begin_with_rules().await?;
        for (kind, events) in unknown {
            tracing::warn!(kind = %kind, events, "the log has {events} events of the type {kind}, which is not configured: they say nothing");
        }
        Ok(())
    }

    /// Checks and stores events, one outcome each, in order. When it returns they are on disk and count. Goes on when its caller is gone.
    pub async fn events(&self, events: Vec<Event>, now: Timestamp) -> Result<Vec<EventOutcome>, IngestError> {
        let inner = Arc::clone(&self.0);
        to_the_end(async move { inner.events(events, now).await }).await
    }

    /// Counts what an answer showed, and remembers it of the visit; `recommend` logs it.
    pub fn exposed(&self, exposure: &Exposure) {
        self.0.rooms.popularity.show(exposure, exposure.at);
        self.0.rooms.showings.show(exposure);
    }

    /// Checks and stores items, one outcome each, in order. Goes on when its caller is gone.
    pub async fn put_items(&self, items: Vec<Item>) -> Result<Vec<ItemOutcome>, IngestError> {
        let inner = Arc::clone(&self.0);
        to_the_end(async move { inner.put_items(items).await }).await
    }

    /// Merges `patch` (RFC 7396) into the item. Goes on when its caller is gone.
    pub async fn patch_item(&self, id: &ItemId, patch: serde_json::Value) -> Result<PatchOutcome, IngestError> {
        let (inner, id) = (Arc::clone(&self.0), id.clone());
        to_the_end(async move { inner.patch_item(&id, patch).await }).await
    }

    /// Takes the item out of the catalogue; false where there was none. Goes on when its caller is gone.
    pub async fn delete_item(&self, id: &ItemId) -> Result<bool, IngestError> {
        let (inner, id) = (Arc::clone(&self.0), id.clone());
        let deleted = to_the_end(async move {
            let deleted = inner.rooms.store.delete_item(&id).await?;
            inner.show(deleted.as_slice());
            Ok::<_, StoreError>(deleted)
        });
        Ok(deleted.await?.is_some())
    }

    /// Rows that are stored but not yet searchable.
    pub async fn pending(&self) -> Result<u64, IngestError> {
        Ok(self.0.rooms.store.pending_items(self.0.indexed()).await?)
    }

    /// Counts accepted events; its receivers are told of each change.
    pub fn accepted(&self) -> watch::Receiver<u64> {
        self.0.accepted.subscribe()
    }
}

/// Does `work` to its end also where its caller is gone, such as a client that hung up: what is on disk has to be in memory too.
async fn to_the_end<T: Send + 'static>(work: impl Future<Output = Result<T, StoreError>> + Send + 'static) -> Result<T, IngestError> {
    Ok(tokio::spawn(work).await.map_err(|_| IngestError::Unavailable("the work broke off".into()))??)
}

/// What is to be known of an event once it is stored.
struct Trace {
    place: usize,
    act: Option<Act>,
    user: Option<UserId>,
    session: Option<SessionId>,
    kind: EventType,
    answer: Option<RecommendationId>,
}

fn note(changed: &mut Vec<StoredItem>, item: StoredItem) -> Arc<Item> {
    let document = Arc::clone(&item.item);
    changed.push(item);
    document
}

impl Inner {
    async fn events(&self, events: Vec<Event>, now: Timestamp) -> Result<Vec<EventOutcome>, StoreError> {
        let mut outcomes: Vec<EventOutcome> = Vec::with_capacity(events.len());
        let mut valid = Vec::with_capacity(events.len());
        let mut traces = Vec::with_capacity(events.len());
        for mut event in events {
            let faults = self.rooms.signals.faults(&event, now);
            if faults.is_empty() {
                let told = event.timestamp;
                event.timestamp = told.or(Some(now));
                traces.push(Trace {
                    place: outcomes.len(),
                    act: self.rooms.signals.act(0, &event),
                    user: event.user_id.clone(),
                    session: event.session_id.clone(),
                    kind: event.kind,
                    answer: event.recommendation_id.clone(),
                });
                event.timestamp = told;
                valid.push(event);
                outcomes.push(EventOutcome::Accepted);
            } else {
                outcomes.push(EventOutcome::Rejected(faults));
            }
        }
        let stored = if valid.is_empty() { Vec::new() } else { self.rooms.store.append_events(valid, now).await? };
        self.learn_of(now, traces, &stored, &mut outcomes);
        Ok(outcomes)
    }

    async fn put_items(&self, items: Vec<Item>) -> Result<Vec<ItemOutcome>, StoreError> {
        let faults: Vec<Vec<FieldError>> = items.iter().map(Item::faults).collect();
        let valid: Vec<Item> = items.into_iter().zip(&faults).filter(|(_, faults)| faults.is_empty()).map(|(item, _)| item).collect();
        let stored = if valid.is_empty() { Vec::new() } else { self.rooms.store.put_items(valid).await? };
        let mut changed = Vec::with_capacity(stored.len());
        let mut stored = stored.into_iter();
        let outcome = |faults: Vec<FieldError>| {
            if !faults.is_empty() {
                return ItemOutcome::Rejected(faults);
            }
            match stored.next().expect("the store answers for every item that it was given") {
                store::ItemOutcome::Created(item) => ItemOutcome::Created(note(&mut changed, item)),
                store::ItemOutcome::Updated(item) => ItemOutcome::Updated(note(&mut changed, item)),
                store::ItemOutcome::Unchanged(item) => ItemOutcome::Unchanged(item.item),
                store::ItemOutcome::Rejected(fault) => ItemOutcome::Rejected(vec![fault]),
            }
        };
        let outcomes = faults.into_iter().map(outcome).collect();
        self.show(&changed);
        Ok(outcomes)
    }

    async fn patch_item(&self, id: &ItemId, patch: serde_json::Value) -> Result<PatchOutcome, StoreError> {
        Ok(match self.rooms.store.patch_item(id, patch).await? {
            store::PatchOutcome::Missing => PatchOutcome::Missing,
            store::PatchOutcome::Rejected(faults) => PatchOutcome::Rejected(faults),
            store::PatchOutcome::Unchanged(item) => PatchOutcome::Patched(item.item),
            store::PatchOutcome::Updated(item) => {
                self.show(std::slice::from_ref(&item));
                PatchOutcome::Patched(item.item)
            }
        })
    }

    /// Rows up to this revision are searchable, by all that they have.
    fn indexed(&self) -> Revision {
        let progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        let of = |name: &String| progress.own_vectors.get(name).copied().unwrap_or_default();
        self.vectors.borrow().keys().map(of).fold(progress.text, Revision::min)
    }

    /// Takes over how far a collection that answers has come, and says whether that is news.
    fn note_progress(&self, filling: &Filling) -> bool {
        let mut progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        let noted = match filling.content() {
            Content::Text { .. } => &mut progress.text,
            Content::OwnVector(name) => progress.own_vectors.entry(name.clone()).or_default(),
        };
        let revision = filling.revision();
        std::mem::replace(noted, revision) != revision
    }

    /// Lets requests see what was stored, and the indexer start on it.
    fn show(&self, changed: &[StoredItem]) {
        if !changed.is_empty() {
            self.metrics.item_writes.inc_by(changed.len() as u64);
            self.learn_items(changed);
            self.wake_rules();
        }
    }

    fn learn_items(&self, states: &[StoredItem]) {
        self.rooms.columns.apply(states);
        let vectors = states.iter().filter(|state| !state.deleted).flat_map(|state| &state.item.vectors);
        let new: Vec<(String, usize)> = {
            let known = self.vectors.borrow();
            vectors.filter(|(name, _)| !known.contains_key(*name)).map(|(name, vector)| (name.clone(), vector.len())).collect()
        };
        if !new.is_empty() {
            self.vectors.send_modify(|known| known.extend(new));
        }
        self.changed.send_replace(());
    }

    fn learn_of(&self, now: Timestamp, traces: Vec<Trace>, stored: &[store::EventOutcome], outcomes: &mut [EventOutcome]) {
        let mut acts = Vec::with_capacity(traces.len());
        for (trace, outcome) in traces.into_iter().zip(stored) {
            match outcome {
                store::EventOutcome::Accepted(sequence) | store::EventOutcome::Moved(sequence, _) => {
                    if let store::EventOutcome::Moved(_, user) = outcome {
                        self.rooms.histories.forget(&Actor::User(user.clone()));
                    }
                    self.metrics.events.with_label_values(&[trace.kind.name()]).inc();
                    if let Some((session, act)) = trace.session.as_ref().zip(trace.act.as_ref()) {
                        self.rooms.showings.act(session, &act.item);
                    }
                    acts.extend(trace.act.map(|act| (Act { sequence: *sequence, ..act }, trace.answer)));
                    self.forget(trace.user.map(Actor::User));
                    self.forget(trace.session.map(Actor::Session));
                }
                store::EventOutcome::Duplicate => {
                    self.metrics.duplicates.inc();
                    outcomes[trace.place] = EventOutcome::Duplicate;
                }
                store::EventOutcome::Reused => {
                    let fault = FieldError::new("/event_id", "event_id reused: it was given to an event with other content");
                    outcomes[trace.place] = EventOutcome::Rejected(vec![fault]);
                }
            }
        }
        let rejected = outcomes.iter().filter(|outcome| matches!(outcome, EventOutcome::Rejected(_))).count();
        self.metrics.rejected.inc_by(rejected as u64);
        let accepted = outcomes.iter().filter(|outcome| matches!(outcome, EventOutcome::Accepted)).count() as u64;
        if accepted == 0 {
            return;
        }
        if self.rooms.store.is_shared() {
            self.wrote.notify_one(); // the follower counts them, with those of other processes
        } else {
            self.rooms.popularity.count(&self.rooms.signals, now, acts.iter().map(|(act, answer)| (act, answer.as_ref())));
            self.accepted.send_modify(|total| *total += accepted);
        }
    }

    /// Counts what the log holds.
    fn count(&self, events: &[LoggedEvent], now: Timestamp) {
        let signals = &self.rooms.signals;
        let acts: Vec<_> =
            events.iter().filter_map(|logged| Some((signals.act(logged.sequence, &logged.event)?, logged.event.recommendation_id.as_ref()))).collect();
        self.rooms.popularity.count(signals, now, acts.iter().map(|(act, answer)| (act, *answer)));
    }

    /// Lets the actor's history be read anew.
    fn forget(&self, actor: Option<Actor>) {
        if let Some(actor) = actor {
            self.rooms.histories.forget(&actor);
        }
    }
}
