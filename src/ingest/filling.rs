//! One collection and how far it has come. In: item states above the last indexed revision, in the order of revisions. Out: points in the index.
//!
//! The collections that answer, of texts and of own vectors, are filled by the [`Indexer`](super::Indexer) for ever; one that is to take the place of
//! that of the texts is filled beside it, from the first revision on.

use std::{
    sync::Arc,
    sync::atomic::{AtomicI64, Ordering},
    time::Duration,
};

use rustc_hash::FxHashSet;
use tokio::time::sleep;

use crate::{
    domain::{Embedding, ItemFacts, Revision, StoredItem},
    encoder::{EncodeError, Encoder, clean},
    index::{IndexError, IndexPoint, Lexicon, VectorIndex},
    store::{ContentHash, StoreError},
};

use super::{Ingest, Inner, Tenure, own_vectors};

/// Pause after the first failure; doubled up to 10 s.
pub(super) const FIRST_BACKOFF: Duration = Duration::from_millis(100);
const LONGEST_BACKOFF: Duration = Duration::from_secs(10);
/// Failures in a row after which a new collection is given up: more than half a minute.
const PATIENCE: u32 = 10;
/// States between two packings of the index while all of them are indexed.
const PACK_EVERY: usize = 20_000;

/// A collection of the index and what fills it.
#[derive(Clone)]
pub struct IndexCollection {
    /// The collection's name: what `flushed_revision` is kept under.
    pub name: String,
    /// Where the points go.
    pub index: Arc<dyn VectorIndex>,
    /// What they are made of.
    pub content: Content,
}

/// What a collection knows of an item.
#[derive(Clone)]
pub enum Content {
    /// What its text says.
    Text {
        /// Makes embeddings.
        encoder: Encoder,
        /// Makes terms.
        lexicon: Arc<Lexicon>,
    },
    /// Its own vector of this name; items without one are left out.
    OwnVector(String),
}

/// Why a chunk could not be indexed; it is tried again.
#[derive(Debug, thiserror::Error)]
pub enum IndexingError {
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The model.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// The engine.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// The collection of an own vector is not there.
    #[error("the collection of the own vector {name:?} cannot be opened: {reason}")]
    OwnVector {
        /// The vector's name.
        name: String,
        /// What failed.
        reason: String,
    },
    /// The collection is shared, and another process has the right to write it.
    #[error("another process writes this collection of the index")]
    NotTheWriter,
}

/// A collection on its way.
pub struct Filling {
    pub(super) collection: IndexCollection,
    inner: Arc<Inner>,
    /// Item states that are embedded and indexed at a time.
    chunk: usize,
    /// States up to this revision are in the collection.
    indexed: AtomicI64,
    /// The claim to a collection that others may write too.
    tenure: Option<Tenure>,
}

impl Ingest {
    /// A collection that knows all states up to `from`; a shared one goes on from where its last writer left it.
    pub fn filling(&self, collection: IndexCollection, from: Revision, chunk: usize) -> Filling {
        let tenure = collection.index.is_shared().then(|| Tenure::claim(&self.0.rooms.store, &collection.name));
        Filling { collection, inner: Arc::clone(&self.0), chunk: chunk.max(1), indexed: AtomicI64::new(from.0), tenure }
    }
}

impl Inner {
    /// A collection that answers, from the revision on that it had safely on disk.
    pub(super) async fn resume(self: &Arc<Self>, collection: IndexCollection, chunk: usize) -> Result<Filling, StoreError> {
        let (store, name) = (&self.rooms.store, &collection.name);
        let flushed = if collection.index.is_shared() { store.shared_flushed_revision(name).await? } else { store.flushed_revision(name).await? };
        let filling = Ingest(Arc::clone(self)).filling(collection, flushed, chunk);
        self.note_progress(&filling);
        Ok(filling)
    }
}

impl Filling {
    /// States up to this revision are in the collection.
    pub fn revision(&self) -> Revision {
        self.tenure.as_ref().and_then(Tenure::others).unwrap_or_else(|| Revision(self.indexed.load(Ordering::Acquire)))
    }

    pub(super) fn content(&self) -> &Content {
        &self.collection.content
    }

    /// Whether this process may write the collection now.
    pub(super) fn is_writer(&self) -> bool {
        self.tenure.as_ref().is_none_or(Tenure::is_mine)
    }

    /// Lets another process write the collection at once.
    pub async fn release(self) {
        if let Some(tenure) = self.tenure {
            tenure.release().await;
        }
    }

    /// Goes on with another encoder of the same version.
    #[must_use]
    pub fn with_encoder(mut self, next: Encoder) -> Self {
        if let Content::Text { encoder, .. } = &mut self.collection.content {
            *encoder = next;
        }
        self
    }

    /// Indexes everything that is pending now, telling `progress` how many states are done, then packs it and makes it safe on disk.
    pub async fn catch_up(&self, mut progress: impl FnMut(usize)) -> Result<(), IndexingError> {
        if let Some(tenure) = &self.tenure
            && !tenure.comes().await
        {
            return Err(IndexingError::NotTheWriter);
        }
        let (mut done, mut packed, mut failures, mut backoff) = (0, 0, 0, FIRST_BACKOFF);
        loop {
            let states = match self.next().await {
                Ok(states) => states,
                Err(error) if failures < PATIENCE => {
                    self.inner.metrics.index_failures.inc();
                    tracing::warn!(%error, "indexing failed, trying again in {backoff:?}");
                    sleep(backoff).await;
                    (failures, backoff) = (failures + 1, longer(backoff));
                    continue;
                }
                Err(error) => return Err(error),
            };
            (failures, backoff) = (0, FIRST_BACKOFF);
            done += states;
            // On the way, for writes to a collection that is never packed grow slower with its size; and at the end, for the searches.
            if states == 0 || done - packed >= PACK_EVERY {
                self.collection.index.optimize_if_due().await?;
                packed = done;
            }
            if states == 0 {
                return self.flush().await;
            }
            progress(done);
        }
    }

    /// Indexes up to `revision` at least, where there are states up to it.
    pub(super) async fn reach(&self, revision: Revision) -> Result<(), IndexingError> {
        while self.revision() < revision && self.next().await? > 0 {}
        Ok(())
    }

    /// Indexes the next chunk and says how many states it had.
    pub(super) async fn next(&self) -> Result<usize, IndexingError> {
        if !self.is_writer() {
            return Err(IndexingError::NotTheWriter);
        }
        if let Some(from) = self.tenure.as_ref().and_then(Tenure::take_from) {
            self.indexed.store(from.0, Ordering::Release);
        }
        let states = self.inner.rooms.store.items_above(self.revision(), self.chunk).await?;
        let Some(last) = states.last() else { return Ok(0) };
        let (points, gone) = match &self.collection.content {
            Content::Text { encoder, lexicon } => {
                let gone = states.iter().filter(|state| state.deleted).map(|state| (state.key, state.revision)).collect();
                (self.points(encoder, lexicon, states.iter().filter(|state| !state.deleted)).await?, gone)
            }
            Content::OwnVector(name) => own_vectors::writes(name, &*self.collection.index, &states).await?,
        };
        if !points.is_empty() {
            self.collection.index.upsert(points).await?;
        }
        if !gone.is_empty() {
            self.collection.index.delete(&gone).await?;
        }
        self.indexed.store(last.revision.0, Ordering::Release);
        self.inner.metrics.indexed.inc_by(states.len() as u64);
        Ok(states.len())
    }

    /// Makes what is indexed safe on disk, and says so in the store.
    pub(super) async fn flush(&self) -> Result<(), IndexingError> {
        let revision = self.revision();
        self.collection.index.flush().await?;
        match &self.tenure {
            None => Ok(self.inner.rooms.store.set_flushed_revision(&self.collection.name, revision).await?),
            Some(tenure) if tenure.set_flushed(revision).await? => Ok(()),
            Some(_) => Err(IndexingError::NotTheWriter),
        }
    }

    /// Points with embeddings from the store where the text was encoded before, else from the encoder.
    async fn points<'a>(&self, encoder: &Encoder, lexicon: &Lexicon, states: impl Iterator<Item = &'a StoredItem>) -> Result<Vec<IndexPoint>, IndexingError> {
        let version = encoder.version();
        let texts: Vec<(&StoredItem, String, ContentHash)> = states
            .map(|state| {
                let text = clean(&state.item.full_text());
                let hash = ContentHash::of(&text);
                (state, text, hash)
            })
            .collect();
        let hashes: Vec<ContentHash> = texts.iter().map(|(.., hash)| *hash).collect();
        let mut known = self.inner.rooms.store.embeddings(version, &hashes).await?;
        let mut asked = FxHashSet::default();
        let new: Vec<(ContentHash, &String)> = texts
            .iter()
            .filter(|(_, text, hash)| !text.is_empty() && !known.contains_key(hash) && asked.insert(*hash))
            .map(|(_, text, hash)| (*hash, text))
            .collect();
        if !new.is_empty() {
            let embeddings = encoder.encode_bulk(new.iter().map(|(_, text)| (*text).clone()).collect()).await?;
            let made = new.iter().zip(embeddings).filter_map(|((hash, _), embedding)| Some((*hash, embedding?)));
            let vectors: Vec<(ContentHash, Embedding)> = made.collect();
            self.inner.metrics.embedded.inc_by(vectors.len() as u64);
            known.extend(vectors.iter().cloned());
            self.inner.rooms.store.put_embeddings(version, vectors).await?;
        }
        let point = |(state, _, hash): (&StoredItem, String, ContentHash)| IndexPoint {
            key: state.key,
            revision: state.revision,
            embedding: known.get(&hash).cloned(),
            terms: lexicon.item_terms(&clean(state.item.title.as_deref().unwrap_or("")), &clean(state.item.text.as_deref().unwrap_or(""))),
            facts: ItemFacts::from(state.item.as_ref()),
        };
        Ok(texts.into_iter().map(point).collect())
    }
}

pub(super) fn longer(backoff: Duration) -> Duration {
    (2 * backoff).min(LONGEST_BACKOFF)
}
