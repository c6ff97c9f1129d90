//! From store to index: item states above the last indexed revision in, points out, in the order of revisions.
//!
//! The store is the truth. What the index has safely on disk is `flushed_revision` of its collection; a start goes on from
//! there, so states written between a flush and a crash are applied again. There is no other mechanism.

use std::{sync::Arc, sync::atomic::Ordering, time::Duration};

use rustc_hash::FxHashSet;
use serde::{Deserialize, Serialize};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::{
    domain::{Embedding, ItemFacts, Revision, StoredItem},
    encoder::{EncodeError, Encoder, clean},
    index::{IndexError, IndexPoint, Lexicon, VectorIndex},
    store::{ContentHash, StoreError},
};

use super::{Ingest, Inner};

/// Without news the indexer looks this often whether another process wrote.
const LOOK_AGAIN: Duration = Duration::from_secs(30);
/// Pause after the first failure; doubled up to 10 s.
const FIRST_BACKOFF: Duration = Duration::from_millis(100);
/// States between two packings of the index while all of them are indexed.
const PACK_EVERY: usize = 20_000;

/// `[ingest]`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IngestSettings {
    /// Item states that are embedded and indexed at a time.
    pub chunk: usize,
    /// Seconds after which what is new in the index is made safe on disk.
    pub flush_seconds: f64,
}

/// A collection of the index and what fills it.
#[derive(Clone)]
pub struct IndexCollection {
    /// The collection's name: what `flushed_revision` is kept under.
    pub name: String,
    /// Where the points go.
    pub index: Arc<dyn VectorIndex>,
    /// Makes their embeddings.
    pub encoder: Encoder,
    /// Makes their terms.
    pub lexicon: Arc<Lexicon>,
}

/// Fills one collection for as long as the process runs.
pub struct Indexer {
    inner: Arc<Inner>,
    collection: IndexCollection,
    settings: IngestSettings,
}

/// Why a chunk could not be indexed; it is tried again.
#[derive(Debug, thiserror::Error)]
enum IndexingError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Encode(#[from] EncodeError),
    #[error(transparent)]
    Index(#[from] IndexError),
}

impl Ingest {
    /// The worker that fills `collection`, from the revision that it had safely on disk.
    pub async fn indexer(&self, collection: IndexCollection, settings: IngestSettings) -> Result<Indexer, StoreError> {
        let flushed = self.0.rooms.store.flushed_revision(&collection.name).await?;
        self.0.indexed.store(flushed.0, Ordering::Release);
        Ok(Indexer { inner: Arc::clone(&self.0), collection, settings })
    }
}

impl Indexer {
    /// Indexes what is and becomes pending until `stop`; then makes it safe on disk.
    pub async fn run(self, stop: CancellationToken) {
        // Side by side: a flush waits for a running optimisation, and new items must not wait for either.
        tokio::join!(self.index_until(&stop), self.maintain_until(&stop));
        self.flush().await;
    }

    async fn index_until(&self, stop: &CancellationToken) {
        let mut backoff = FIRST_BACKOFF;
        while !stop.is_cancelled() {
            let pause = match self.index_next().await {
                Ok(0) => {
                    backoff = FIRST_BACKOFF;
                    LOOK_AGAIN
                }
                Ok(_) => {
                    backoff = FIRST_BACKOFF;
                    continue;
                }
                Err(error) => {
                    self.inner.metrics.index_failures.inc();
                    tracing::warn!(%error, "indexing failed, trying again in {backoff:?}");
                    let pause = backoff;
                    backoff = (2 * backoff).min(Duration::from_secs(10));
                    sleep_until_stopped(stop, pause).await;
                    continue;
                }
            };
            tokio::select! {
                () = stop.cancelled() => {}
                () = sleep(pause) => {}
                () = self.inner.changed.notified() => {}
            }
        }
    }

    async fn maintain_until(&self, stop: &CancellationToken) {
        let period = Duration::from_secs_f64(self.settings.flush_seconds.clamp(0.05, 3_600.0));
        let mut flushed = self.inner.indexed();
        loop {
            sleep_until_stopped(stop, period).await;
            if stop.is_cancelled() {
                return; // `run` flushes once more
            }
            let indexed = self.inner.indexed();
            if indexed > flushed && self.flush().await {
                flushed = indexed;
                match self.collection.index.optimize_if_due().await {
                    Ok(_) => {}
                    Err(error) => tracing::warn!(%error, "the search graph could not be rebuilt; searches scan instead"),
                }
            }
        }
    }

    /// Indexes everything that is pending now, telling `progress` how many states are done; for `inkling reindex` and the demo.
    pub async fn catch_up(&self, mut progress: impl FnMut(usize)) -> Result<(), String> {
        let (mut done, mut packed) = (0, 0);
        loop {
            let states = self.index_next().await.map_err(|error| error.to_string())?;
            done += states;
            // On the way, for writes to a collection that is never packed grow slower with its size; and at the end, for the searches.
            if states == 0 || done - packed >= PACK_EVERY {
                self.collection.index.optimize_if_due().await.map_err(|error| error.to_string())?;
                packed = done;
            }
            if states == 0 {
                break;
            }
            progress(done);
        }
        self.try_flush().await.map_err(|error| error.to_string())
    }

    /// Indexes the next chunk and says how many states it had.
    async fn index_next(&self) -> Result<usize, IndexingError> {
        let store = &self.inner.rooms.store;
        let states = store.items_above(self.inner.indexed(), self.settings.chunk.max(1)).await?;
        let Some(last) = states.last() else {
            self.inner.metrics.pending.set(0);
            return Ok(0);
        };
        let revision = last.revision;
        let gone: Vec<_> = states.iter().filter(|state| state.deleted).map(|state| state.key).collect();
        let points = self.points(states.iter().filter(|state| !state.deleted)).await?;
        if !points.is_empty() {
            self.collection.index.upsert(points).await?;
        }
        if !gone.is_empty() {
            self.collection.index.delete(&gone).await?;
        }
        self.inner.indexed.store(revision.0, Ordering::Release);
        self.inner.metrics.indexed.inc_by(states.len() as u64);
        self.inner.metrics.pending.set(i64::try_from(store.pending_items(revision).await?).unwrap_or(i64::MAX));
        Ok(states.len())
    }

    /// Points with embeddings from the store where the text was encoded before, else from the encoder.
    async fn points(&self, states: impl Iterator<Item = &StoredItem>) -> Result<Vec<IndexPoint>, IndexingError> {
        let version = self.collection.encoder.version();
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
            let embeddings = self.collection.encoder.encode_bulk(new.iter().map(|(_, text)| (*text).clone()).collect()).await?;
            let made = new.iter().zip(embeddings).filter_map(|((hash, _), embedding)| Some((*hash, embedding?)));
            let vectors: Vec<(ContentHash, Embedding)> = made.collect();
            self.inner.metrics.embedded.inc_by(vectors.len() as u64);
            known.extend(vectors.iter().cloned());
            self.inner.rooms.store.put_embeddings(version, vectors).await?;
        }
        let point = |(state, _, hash): (&StoredItem, String, ContentHash)| IndexPoint {
            key: state.key,
            embedding: known.get(&hash).cloned(),
            terms: self.collection.lexicon.item_terms(&clean(state.item.title.as_deref().unwrap_or("")), &clean(state.item.text.as_deref().unwrap_or(""))),
            facts: ItemFacts::from(state.item.as_ref()),
        };
        Ok(texts.into_iter().map(point).collect())
    }

    async fn flush(&self) -> bool {
        match self.try_flush().await {
            Ok(()) => true,
            Err(error) => {
                self.inner.metrics.index_failures.inc();
                tracing::warn!(%error, "the index could not be flushed; a restart will index again what is not safe");
                false
            }
        }
    }

    async fn try_flush(&self) -> Result<(), IndexingError> {
        let revision: Revision = self.inner.indexed();
        self.collection.index.flush().await?;
        Ok(self.inner.rooms.store.set_flushed_revision(&self.collection.name, revision).await?)
    }
}

async fn sleep_until_stopped(stop: &CancellationToken, pause: Duration) {
    tokio::select! {
        () = stop.cancelled() => {}
        () = sleep(pause) => {}
    }
}
