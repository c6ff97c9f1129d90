//! The embedded engine: one folder, one process. Calls block, so they run on the compute pool; writes take turns.

mod fields;
mod shard;
#[cfg(test)]
pub(super) mod tests;

use std::{
    fs::{File, TryLockError},
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use tokio::sync::{Mutex, oneshot};

use super::{Hit, IndexError, IndexMetrics, IndexPoint, IndexSettings, QueryTerms, Search, VectorIndex, shape::Shape};
use crate::{
    domain::{Embedding, ItemKey, Revision},
    telemetry::Compute,
};
use shard::Shard;

/// How often a folder that is still locked is tried.
const LOCK_RETRY: Duration = Duration::from_millis(100);

pub(super) struct EdgeIndex {
    shard: Arc<Shard>,
    width: usize,
    max_search_terms: usize,
    compute: Compute,
    metrics: IndexMetrics,
    /// Held by a write or a flush, inside its closure: it lasts as long as the work, even when the caller gave up waiting.
    writing: Arc<Mutex<()>>,
    /// Held by a flush or an optimisation.
    upkeep: Arc<Mutex<()>>,
}

impl EdgeIndex {
    pub(super) async fn open(folder: &Path, width: usize, settings: IndexSettings, compute: Compute, metrics: IndexMetrics) -> Result<Self, IndexError> {
        let max_search_terms = settings.max_search_terms;
        wait_for_lock(folder, Duration::from_millis(settings.lock_wait_ms)).await?;
        let owned = folder.to_owned();
        let open = move || {
            let is_new = Shape::new(width, settings.lexical.clone()).claim(&owned)?;
            Shard::open(&owned, width, &settings, is_new)
        };
        let shard = Arc::new(compute.run(open).await??);
        metrics.points.set(shard.mirror().len() as i64);
        Ok(Self { shard, width, max_search_terms, compute, metrics, writing: Arc::default(), upkeep: Arc::default() })
    }

    fn check_width(&self, embedding: &Embedding) -> Result<(), IndexError> {
        if embedding.len() == self.width { Ok(()) } else { Err(IndexError::Width { found: embedding.len(), wanted: self.width }) }
    }

    async fn write(&self, work: impl FnOnce(&Shard) -> Result<(), IndexError> + Send + 'static) -> Result<(), IndexError> {
        let turn = Arc::clone(&self.writing).lock_owned().await;
        let shard = Arc::clone(&self.shard);
        let work = move || {
            let _turn = turn;
            work(&shard)
        };
        self.compute.run(work).await??;
        self.metrics.points.set(self.shard.mirror().len() as i64);
        Ok(())
    }
}

/// The engine locks its log's folder. A killed process may hold it for a moment longer than it lives.
pub(super) async fn wait_for_lock(folder: &Path, at_most: Duration) -> Result<(), IndexError> {
    let end = Instant::now() + at_most;
    loop {
        let Ok(log) = File::open(folder.join("wal")) else {
            return Ok(()); // a new folder
        };
        match log.try_lock() {
            Err(TryLockError::WouldBlock) if Instant::now() < end => tokio::time::sleep(LOCK_RETRY).await,
            Err(TryLockError::WouldBlock) => return Err(IndexError::Locked { folder: folder.to_owned() }),
            Ok(()) | Err(TryLockError::Error(_)) => return Ok(()),
        }
    }
}

#[async_trait]
impl VectorIndex for EdgeIndex {
    async fn upsert(&self, points: Vec<IndexPoint>) -> Result<(), IndexError> {
        for embedding in points.iter().filter_map(|point| point.embedding.as_ref()) {
            self.check_width(embedding)?;
        }
        if points.is_empty() {
            return Ok(());
        }
        let _timer = self.metrics.upsert.start_timer();
        self.write(|shard| shard.upsert(points)).await
    }

    async fn delete(&self, gone: &[(ItemKey, Revision)]) -> Result<(), IndexError> {
        let keys: Vec<ItemKey> = gone.iter().map(|(key, _)| *key).collect();
        self.write(move |shard| shard.delete(&keys)).await
    }

    async fn nearest(&self, query: &Embedding, search: Search<'_>) -> Result<Vec<Hit>, IndexError> {
        self.check_width(query)?;
        let _timer = self.metrics.nearest.start_timer();
        let (shard, query, filter, limit) = (Arc::clone(&self.shard), query.to_vec(), search.filter.map(fields::filter), search.limit);
        self.compute.run(move || shard.nearest(query, filter, limit)).await?
    }

    async fn matching(&self, query: &QueryTerms, search: Search<'_>) -> Result<Vec<Hit>, IndexError> {
        let weighed = self.shard.mirror().weigh(query, self.max_search_terms);
        if weighed.is_empty() {
            return Ok(Vec::new());
        }
        let _timer = self.metrics.matching.start_timer();
        let (shard, filter, limit) = (Arc::clone(&self.shard), search.filter.map(fields::filter), search.limit);
        self.compute.run(move || shard.matching(weighed, filter, limit)).await?
    }

    // The mirror answers the next three in well under a millisecond: no trip to another thread.
    async fn similarities(&self, query: &Embedding, keys: &[ItemKey]) -> Result<Vec<(ItemKey, f32)>, IndexError> {
        self.check_width(query)?;
        Ok(self.shard.mirror().cosines(query, keys))
    }

    async fn lexical_scores(&self, query: &QueryTerms, keys: &[ItemKey]) -> Result<Vec<(ItemKey, f32)>, IndexError> {
        let mirror = self.shard.mirror();
        Ok(mirror.lexical_scores(&mirror.weigh(query, self.max_search_terms), keys))
    }

    async fn embeddings(&self, keys: &[ItemKey]) -> Result<Vec<(ItemKey, Embedding)>, IndexError> {
        Ok(self.shard.mirror().embeddings(keys))
    }

    async fn flush(&self) -> Result<(), IndexError> {
        let _upkeep = self.upkeep.lock().await; // an optimisation moves points about: half of that must not be what is safe
        let _timer = self.metrics.flush.start_timer();
        self.write(Shard::flush).await
    }

    async fn optimize_if_due(&self) -> Result<bool, IndexError> {
        let upkeep = Arc::clone(&self.upkeep).lock_owned().await;
        if !self.shard.is_optimization_due() {
            return Ok(false);
        }
        // What an optimisation writes is on disk at once; the log must never be behind it, or the engine takes later writes for old ones.
        self.write(Shard::flush).await?;
        let timer = self.metrics.optimize.start_timer();
        let (reply, result) = oneshot::channel();
        let shard = Arc::clone(&self.shard);
        let work = move || {
            let _upkeep = upkeep;
            // The caller may have stopped waiting; the work is done all the same.
            drop(reply.send(shard.optimize()));
        };
        // A thread of its own: minutes of work would block the pool that searches run on.
        std::thread::Builder::new().name("index-optimize".to_owned()).spawn(work).map_err(|error| IndexError::Engine(error.to_string()))?;
        let optimized = result.await.map_err(|_| IndexError::Engine("it stopped while it optimised".to_owned()))??;
        timer.observe_duration();
        self.flush().await?;
        Ok(optimized)
    }

    async fn count(&self) -> Result<usize, IndexError> {
        Ok(self.shard.mirror().len())
    }
}
