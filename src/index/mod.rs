//! Floor 2: what is near in meaning, and what shares words. In: items with embedding, terms and facts. Out: keys with scores, best first.
//!
//! A collection is a folder of the embedded engine, or one of a Qdrant server, which all replicas share; its items are known by [`ItemKey`]. The
//! store is the truth: what was written after the last [`VectorIndex::flush`] is lost in a crash, and the caller applies it again. Dense scores are cosines, lexical ones BM25; those that a
//! search returns and those that [`VectorIndex::similarities`] and [`VectorIndex::lexical_scores`] compute for given items are the same numbers.

#[cfg(test)]
mod contract;
#[cfg(feature = "edge")]
mod edge;
#[cfg(test)]
mod filters;
mod lexical;
#[cfg(test)]
mod memory;
mod metrics;
#[cfg(any(feature = "edge", test))]
mod mirror;
mod payload;
mod server;
mod settings;
mod shape;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use rustc_hash::FxHashSet;

use crate::{
    domain::{Embedding, Filter, ItemFacts, ItemKey, Revision, Score},
    telemetry::{Compute, ComputeError, Registry},
};

pub use lexical::{LatinStemmer, LexicalSettings, Lexicon, Mention, Phrase, QueryTerms, Terms};
pub use metrics::IndexMetrics;
pub use settings::{ApiKey, IndexSettings, InvalidServerUrl, ServerUrl};

use server::Server;
/// A server for the tests of other rooms.
#[cfg(all(test, feature = "edge"))]
pub(crate) use server::tests::fake as test_server;

/// An item as the index takes it.
#[derive(Debug, Clone)]
pub struct IndexPoint {
    /// The store's number for it.
    pub key: ItemKey,
    /// Of the state that this is.
    pub revision: Revision,
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
        /// The collection's folder, or where it is on a server.
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
    /// The server has a collection of this name that is not this catalogue's; it is left as it is.
    #[error("{place} holds {found}: set another index.collection_prefix")]
    Foreign {
        /// The collection.
        place: String,
        /// Whose it seems to be.
        found: &'static str,
    },
    /// The server wants another key; what to do.
    #[error("the index server does not let this process in: {0}")]
    Denied(String),
    /// The server cannot be reached, or is too slow; it may come back.
    #[error("the index server cannot be reached: {0}")]
    Unavailable(String),
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
    /// Puts the points, each whole in place of what had its key; of two with one key the later counts. Where [others write too](Self::is_shared), a
    /// point stays as it is if it shows a newer revision.
    async fn upsert(&self, points: Vec<IndexPoint>) -> Result<(), IndexError>;

    /// Takes the items out, each by the revision of its deletion; unknown keys are no error. Revisions count as in [`Self::upsert`].
    async fn delete(&self, gone: &[(ItemKey, Revision)]) -> Result<(), IndexError>;

    /// The nearest by cosine, best first; equal ones by key.
    async fn nearest(&self, query: &Embedding, search: Search<'_>) -> Result<Vec<Hit>, IndexError>;

    /// The best by BM25 among those that share a term, best first; equal ones by key.
    async fn matching(&self, query: &QueryTerms, search: Search<'_>) -> Result<Vec<Hit>, IndexError>;

    /// The cosine with each of `keys` that has an embedding, in their order.
    async fn similarities(&self, query: &Embedding, keys: &[ItemKey]) -> Result<Vec<(ItemKey, f32)>, IndexError>;

    /// BM25 with each of `keys` that is indexed, in their order; 0 where no term is shared.
    async fn lexical_scores(&self, query: &QueryTerms, keys: &[ItemKey]) -> Result<Vec<(ItemKey, f32)>, IndexError>;

    /// Those of `keys` that are indexed, in their order.
    async fn known(&self, keys: &[ItemKey]) -> Result<Vec<ItemKey>, IndexError> {
        Ok(self.lexical_scores(&QueryTerms::default(), keys).await?.into_iter().map(|(key, _)| key).collect())
    }

    /// The embeddings of those of `keys` that have one, in their order.
    async fn embeddings(&self, keys: &[ItemKey]) -> Result<Vec<(ItemKey, Embedding)>, IndexError>;

    /// Makes everything written so far survive a crash. Tens of milliseconds, and it waits for a running optimisation: for a timer, not a request.
    async fn flush(&self) -> Result<(), IndexError>;

    /// Rebuilds the search graph if enough has changed, and says whether it did. May take minutes; searches and writes go on meanwhile.
    async fn optimize_if_due(&self) -> Result<bool, IndexError>;

    /// Indexed items.
    async fn count(&self) -> Result<usize, IndexError>;

    /// Whether it answers.
    async fn is_up(&self) -> bool {
        self.count().await.is_ok()
    }

    /// Whether other processes write it too, so that this one needs a lease to.
    fn is_shared(&self) -> bool {
        false
    }
}

/// The engines promise no order within one call.
fn last_of_each_key(mut points: Vec<IndexPoint>) -> Vec<IndexPoint> {
    let mut seen = FxHashSet::default();
    points.reverse();
    points.retain(|point| seen.insert(point.key));
    points
}

/// Where collections belong.
#[derive(Debug, Clone)]
pub struct Home {
    /// The folder of embedded collections.
    pub folder: PathBuf,
    /// The name of the catalogue, or of the restored copy of it: on a server, other catalogues' collections are left alone.
    pub catalogue: String,
}

/// A collection that was opened.
pub struct Opened {
    /// The collection.
    pub index: Arc<dyn VectorIndex>,
    /// It was made just now, empty.
    pub is_new: bool,
}

/// Opens collections by name with the same settings, threads and metrics: embedded ones, or on the server that the settings name.
#[derive(Clone)]
pub struct Collections {
    settings: IndexSettings,
    home: Home,
    server: Option<Server>,
    compute: Compute,
    metrics: IndexMetrics,
}

impl Collections {
    /// `compute` runs the embedded engine's blocking calls. Fails when `registry` has these metrics already.
    pub fn new(settings: &IndexSettings, home: Home, compute: Compute, registry: &Registry) -> Result<Self, IndexError> {
        let metrics = IndexMetrics::register(registry).map_err(|error| IndexError::Engine(error.to_string()))?;
        let server = settings.url.as_ref().map(|url| Server::new(url, settings, &home, metrics.clone())).transpose()?;
        Ok(Self { settings: settings.clone(), home, server, compute, metrics })
    }

    /// Whether other processes may use them too.
    pub fn are_shared(&self) -> bool {
        self.server.is_some()
    }

    /// Where the collection is, for people.
    pub fn place(&self, name: &str) -> PathBuf {
        self.server.as_ref().map_or_else(|| self.folder(name), |server| server.place(name))
    }

    fn folder(&self, name: &str) -> PathBuf {
        self.home.folder.join(name)
    }

    /// The collections that there are, complete or not, in the order of their names.
    pub async fn names(&self) -> Result<Vec<String>, IndexError> {
        if let Some(server) = &self.server {
            return Ok(server.names().await?.into_iter().map(|(name, _)| name).collect());
        }
        let folders = std::fs::read_dir(&self.home.folder).into_iter().flatten().filter_map(Result::ok).filter(|entry| entry.path().is_dir());
        let mut names: Vec<String> = folders.filter_map(|folder| folder.file_name().into_string().ok()).collect();
        names.sort_unstable();
        Ok(names)
    }

    /// What was last written on each shared collection that has a mark.
    pub async fn marks(&self) -> Result<Vec<(String, String)>, IndexError> {
        let Some(server) = &self.server else { return Ok(Vec::new()) };
        Ok(server.names().await?.into_iter().filter_map(|(name, mark)| Some((name, mark?))).collect())
    }

    /// Writes a note on a shared collection that every process can read.
    pub async fn mark(&self, name: &str, mark: String) -> Result<(), IndexError> {
        match &self.server {
            Some(server) => server.mark(name, mark).await,
            None => Ok(()),
        }
    }

    /// Opens the collection, or makes it, for embeddings of `width` components.
    pub async fn open(&self, name: &str, width: usize) -> Result<Opened, IndexError> {
        if let Some(server) = &self.server {
            let (index, is_new) = server.open(name, width, &self.settings.lexical).await?;
            return Ok(Opened { index: Arc::new(index), is_new });
        }
        self.open_embedded(&self.folder(name), width).await
    }

    #[cfg(feature = "edge")]
    async fn open_embedded(&self, folder: &Path, width: usize) -> Result<Opened, IndexError> {
        let is_new = !folder.exists();
        let index = edge::EdgeIndex::open(folder, width, self.settings.clone(), self.compute.clone(), self.metrics.clone()).await?;
        Ok(Opened { index: Arc::new(index), is_new })
    }

    #[cfg(not(feature = "edge"))]
    #[expect(clippy::unused_async, reason = "the same face as with an engine")]
    async fn open_embedded(&self, _folder: &Path, _width: usize) -> Result<Opened, IndexError> {
        let Self { compute: _, metrics: _, .. } = self;
        Err(IndexError::NoEngine)
    }

    /// Deletes the collection. [`IndexError::Locked`] while somebody in this process still has it open: a search that nobody waits for, an
    /// optimisation. Whether other processes use a shared one is the caller's to know.
    pub async fn discard(&self, name: &str) -> Result<(), IndexError> {
        match &self.server {
            Some(server) => server.discard(name).await,
            None => self.discard_embedded(&self.folder(name)).await,
        }
    }

    #[cfg(feature = "edge")]
    async fn discard_embedded(&self, folder: &Path) -> Result<(), IndexError> {
        edge::wait_for_lock(folder, std::time::Duration::from_millis(self.settings.lock_wait_ms)).await?;
        let folder = folder.to_owned();
        let removed = self.compute.run(move || std::fs::remove_dir_all(&folder)).await?;
        removed.or_else(|error| if error.kind() == std::io::ErrorKind::NotFound { Ok(()) } else { Err(IndexError::Engine(error.to_string())) })
    }

    #[cfg(not(feature = "edge"))]
    #[expect(clippy::unused_async, reason = "the same face as with an engine")]
    async fn discard_embedded(&self, _folder: &Path) -> Result<(), IndexError> {
        Err(IndexError::NoEngine)
    }

    /// The same collections with another analysis of words.
    #[must_use]
    pub fn with_lexical(&self, lexical: &LexicalSettings) -> Self {
        Self { settings: IndexSettings { lexical: lexical.clone(), ..self.settings.clone() }, ..self.clone() }
    }

    /// The same collections for points without words: another analysis of words is none of their business, and they do not count as items.
    #[must_use]
    pub fn without_words(&self) -> Self {
        Self { metrics: self.metrics.without_points(), ..self.with_lexical(&LexicalSettings::NONE) }
    }
}
