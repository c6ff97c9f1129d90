//! Floor 2: what is near in meaning, and what shares words. In: items with embedding, terms and facts. Out: keys with scores, best first.
//!
//! A collection is a folder; its items are known by [`ItemKey`]. The store is the truth: what was written after the last
//! [`VectorIndex::flush`] is lost in a crash, and the caller applies it again. Dense scores are cosines, lexical ones BM25; those that a
//! search returns and those that [`VectorIndex::similarities`] and [`VectorIndex::lexical_scores`] compute for given items are the same numbers.

#[cfg(test)]
mod contract;
#[cfg(feature = "edge")]
mod edge;
mod lexical;
#[cfg(test)]
mod memory;
mod metrics;
#[cfg(any(feature = "edge", test))]
mod mirror;
#[cfg(any(feature = "edge", test))]
mod shape;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::{
    domain::{Embedding, Filter, ItemFacts, ItemKey, Score},
    telemetry::{Compute, ComputeError, Registry},
};

pub use lexical::{LatinStemmer, LexicalSettings, Lexicon, Mention, Phrase, QueryTerms, Terms};
pub use metrics::IndexMetrics;

/// How collections are built and searched.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IndexSettings {
    /// Links of a point in the HNSW graph.
    pub hnsw_m: usize,
    /// Candidates looked at for each point while the graph is built.
    pub hnsw_ef_construct: usize,
    /// Candidates kept during a search of the graph; a larger limit counts instead.
    pub hnsw_ef: usize,
    /// New points past which [`VectorIndex::optimize_if_due`] packs the collection anew, once they are a quarter of all.
    pub optimize_after: usize,
    /// The rarest terms of a query that are searched with.
    pub max_search_terms: usize,
    /// Milliseconds to wait for a folder that another process still holds: after `kill -9` that takes a moment.
    pub lock_wait_ms: u64,
    /// How texts become terms.
    pub lexical: LexicalSettings,
}

/// An item as the index takes it.
#[derive(Debug, Clone)]
pub struct IndexPoint {
    /// The store's number for it.
    pub key: ItemKey,
    /// `None` where the text could not be encoded: found by its words only.
    pub embedding: Option<Embedding>,
    /// Made by the collection's [`Lexicon`].
    pub terms: Terms,
    /// What filters read.
    pub facts: ItemFacts,
}

/// A found item.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Hit {
    /// Which item.
    pub key: ItemKey,
    /// Cosine or BM25.
    pub score: Score,
}

/// What a search is bound to.
#[derive(Debug, Clone, Copy)]
pub struct Search<'a> {
    /// Hits at most.
    pub limit: usize,
    /// Only items that satisfy it.
    pub filter: Option<&'a Filter>,
}

/// Why the index did not do it.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// Built without the cargo feature `edge`.
    #[error("this build has no vector engine: build it with the cargo feature `edge`")]
    NoEngine,
    /// The folder was built for another encoder or another analysis of words; it is whole, and left as it is.
    #[error("the index in {folder} holds {found}, but {wanted} is wanted: run `inkling reindex`")]
    OtherShape {
        /// The collection's folder.
        folder: PathBuf,
        /// What it was built for.
        found: String,
        /// What this start would build.
        wanted: String,
    },
    /// The folder is torn or from an unknown version; delete it and build it again from the store.
    #[error("the index in {folder} cannot be read ({detail}): run `inkling reindex`")]
    Unusable {
        /// The collection's folder.
        folder: PathBuf,
        /// What was found.
        detail: String,
    },
    /// Another process has the folder open.
    #[error("another process uses the index in {folder}")]
    Locked {
        /// The collection's folder.
        folder: PathBuf,
    },
    /// An embedding of another width than the collection's; a bug, or a mix-up of two encoders.
    #[error("the embedding has {found} components, the index takes {wanted}")]
    Width {
        /// Components given.
        found: usize,
        /// Components of the collection.
        wanted: usize,
    },
    /// Too much is waiting already; try again later.
    #[error("the index has too much to do")]
    Overloaded,
    /// The engine failed; its words.
    #[error("the vector engine failed: {0}")]
    Engine(String),
}

impl From<ComputeError> for IndexError {
    fn from(error: ComputeError) -> Self {
        match error {
            ComputeError::Full => Self::Overloaded,
            ComputeError::Panicked => Self::Engine("it stopped unexpectedly".to_owned()),
        }
    }
}

/// One collection. Writes are seen by searches as soon as they returned.
#[async_trait]
pub trait VectorIndex: Send + Sync {
    /// Puts the points, each whole in place of what had its key; of two with one key the later counts.
    async fn upsert(&self, points: Vec<IndexPoint>) -> Result<(), IndexError>;

    /// Takes the points out; unknown keys are no error.
    async fn delete(&self, keys: &[ItemKey]) -> Result<(), IndexError>;

    /// The nearest by cosine, best first; equal ones by key.
    async fn nearest(&self, query: &Embedding, search: Search<'_>) -> Result<Vec<Hit>, IndexError>;

    /// The best by BM25 among those that share a term, best first; equal ones by key.
    async fn matching(&self, query: &QueryTerms, search: Search<'_>) -> Result<Vec<Hit>, IndexError>;

    /// The cosine with each of `keys` that has an embedding, in their order.
    async fn similarities(&self, query: &Embedding, keys: &[ItemKey]) -> Result<Vec<(ItemKey, f32)>, IndexError>;

    /// BM25 with each of `keys` that is indexed, in their order; 0 where no term is shared.
    async fn lexical_scores(&self, query: &QueryTerms, keys: &[ItemKey]) -> Result<Vec<(ItemKey, f32)>, IndexError>;

    /// The embeddings of those of `keys` that have one, in their order.
    async fn embeddings(&self, keys: &[ItemKey]) -> Result<Vec<(ItemKey, Embedding)>, IndexError>;

    /// Makes everything written so far survive a crash. Tens of milliseconds, and it waits for a running optimisation: for a timer, not a request.
    async fn flush(&self) -> Result<(), IndexError>;

    /// Rebuilds the search graph if enough has changed, and says whether it did. May take minutes; searches and writes go on meanwhile.
    async fn optimize_if_due(&self) -> Result<bool, IndexError>;

    /// Indexed items.
    async fn count(&self) -> Result<usize, IndexError>;
}

/// Opens collections with the same settings, threads and metrics.
#[derive(Clone)]
pub struct Collections {
    settings: IndexSettings,
    compute: Compute,
    metrics: IndexMetrics,
}

impl Collections {
    /// `compute` runs the engine's blocking calls. Fails when `registry` has these metrics already.
    pub fn new(settings: &IndexSettings, compute: Compute, registry: &Registry) -> prometheus::Result<Self> {
        Ok(Self { settings: settings.clone(), compute, metrics: IndexMetrics::register(registry)? })
    }

    /// Opens the collection in `folder`, or makes it, for embeddings of `width` components.
    #[cfg(feature = "edge")]
    pub async fn open(&self, folder: &Path, width: usize) -> Result<Arc<dyn VectorIndex>, IndexError> {
        let index = edge::EdgeIndex::open(folder, width, self.settings.clone(), self.compute.clone(), self.metrics.clone()).await?;
        Ok(Arc::new(index))
    }

    /// Deletes the collection in `folder`. [`IndexError::Locked`] while somebody still has it open: a search that nobody waits for, an optimisation.
    #[cfg(feature = "edge")]
    pub async fn discard(&self, folder: &Path) -> Result<(), IndexError> {
        edge::wait_for_lock(folder, std::time::Duration::from_millis(self.settings.lock_wait_ms)).await?;
        let folder = folder.to_owned();
        let removed = self.compute.run(move || std::fs::remove_dir_all(&folder)).await?;
        removed.or_else(|error| if error.kind() == std::io::ErrorKind::NotFound { Ok(()) } else { Err(IndexError::Engine(error.to_string())) })
    }

    /// Without an engine there are no collections.
    #[cfg(not(feature = "edge"))]
    #[expect(clippy::unused_async, reason = "the same face as with an engine")]
    pub async fn discard(&self, _folder: &Path) -> Result<(), IndexError> {
        Err(IndexError::NoEngine)
    }

    /// The same collections with another analysis of words.
    #[must_use]
    pub fn with_lexical(&self, lexical: &LexicalSettings) -> Self {
        Self { settings: IndexSettings { lexical: lexical.clone(), ..self.settings.clone() }, ..self.clone() }
    }

    /// Says that this build cannot.
    #[cfg(not(feature = "edge"))]
    #[expect(clippy::unused_async, reason = "the same face as with an engine")]
    pub async fn open(&self, _folder: &Path, _width: usize) -> Result<Arc<dyn VectorIndex>, IndexError> {
        let Self { settings: _, compute: _, metrics: _ } = self;
        Err(IndexError::NoEngine)
    }
}
