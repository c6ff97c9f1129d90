//! From store to index, for as long as the process runs: the collections that answer follow every write, each at its own pace.
//!
//! The store is the truth. What the index has safely on disk is `flushed_revision` of its collection; a start goes on from
//! there, so states written between a flush and a crash are applied again. There is no other mechanism.
//!
//! Another collection of the texts takes over between two chunks: the old one stands still, the new one catches up with it, the swap is made, and the new
//! one goes on from its own revision. So no answer knows less than the one before, and no state is lost.

use std::{sync::Arc, time::Duration};

use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};
use tokio::{
    sync::{Mutex, mpsc, oneshot},
    time::sleep,
};
use tokio_util::sync::CancellationToken;

use crate::{domain::Revision, store::StoreError};

use super::{
    Ingest, Inner,
    filling::{FIRST_BACKOFF, Filling, IndexCollection, IndexingError, longer},
    own_vectors::{OpenVectors, OwnVectors},
};

/// Without news the indexer looks this often whether another process wrote.
const LOOK_AGAIN: Duration = Duration::from_secs(30);
/// How often it is looked how far another process, which writes a shared collection, has come; or whether it is this one's turn.
const WATCH: Duration = Duration::from_millis(500);

/// `[ingest]`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IngestSettings {
    /// Item states that are embedded and indexed at a time.
    pub chunk: usize,
    /// Seconds after which what is new in the index is made safe on disk.
    pub flush_seconds: f64,
}

/// Fills the collections that answer for as long as the process runs.
pub struct Indexer {
    inner: Arc<Inner>,
    filling: Filling,
    own_vectors: Mutex<OwnVectors>,
    settings: IngestSettings,
    successors: mpsc::Receiver<Successor>,
    succession: Succession,
}

/// Lets another collection take over; cheap to clone.
#[derive(Clone)]
pub struct Succession(mpsc::Sender<Successor>);

/// Why no other collection took over.
#[derive(Debug, thiserror::Error)]
pub enum SuccessionError {
    /// The new collection could not catch up.
    #[error(transparent)]
    Indexing(#[from] IndexingError),
    /// The swap itself failed; what failed.
    #[error("{0}")]
    Swap(String),
    /// The process is stopping.
    #[error("the indexer has stopped")]
    Stopped,
}

pub(super) struct Successor {
    filling: Filling,
    swap: BoxFuture<'static, Result<(), String>>,
    reply: oneshot::Sender<Result<(), SuccessionError>>,
}

impl Succession {
    /// Puts `filling` in the place of the collection that answers. `swap` shows it to requests; it runs when `filling` knows, safely on disk, all
    /// that the old collection knew. When `swap` fails the old one goes on.
    pub async fn take_over(&self, filling: Filling, swap: BoxFuture<'static, Result<(), String>>) -> Result<(), SuccessionError> {
        let (reply, outcome) = oneshot::channel();
        self.0.send(Successor { filling, swap, reply }).await.map_err(|_| SuccessionError::Stopped)?;
        outcome.await.map_err(|_| SuccessionError::Stopped)?
    }
}

impl Ingest {
    /// The worker that fills `collection`, from the revision that it had safely on disk, and those that `open` opens.
    pub async fn indexer(&self, collection: IndexCollection, settings: IngestSettings, open: OpenVectors) -> Result<Indexer, StoreError> {
        let inner = Arc::clone(&self.0);
        let filling = inner.resume(collection, settings.chunk).await?;
        let own_vectors = Mutex::new(OwnVectors::new(Arc::clone(&inner), open, settings.chunk));
        let (sender, successors) = mpsc::channel(1);
        Ok(Indexer { inner, filling, own_vectors, settings, successors, succession: Succession(sender) })
    }
}

impl Indexer {
    /// The way in for another collection.
    pub fn succession(&self) -> Succession {
        self.succession.clone()
    }

    /// Opens the collections of own vectors that items have now, so that requests see them at once; [`Self::run`] opens those that come.
    pub async fn open_own_vectors(&self) -> Result<(), IndexingError> {
        self.own_vectors.lock().await.open_new().await
    }

    /// Indexes everything that is pending now, telling `progress` how many states of texts are done; for `inkling reindex` and the demo.
    pub async fn catch_up(&self, progress: impl FnMut(usize)) -> Result<(), IndexingError> {
        let caught_up = self.filling.catch_up(progress).await;
        self.inner.note_progress(&self.filling);
        caught_up?;
        self.own_vectors.lock().await.catch_up().await
    }

    /// Indexes what is and becomes pending until `stop`; then makes it safe on disk.
    pub async fn run(self, stop: CancellationToken) {
        let Self { inner, filling, own_vectors, settings, successors, succession: _ } = self;
        let period = Duration::from_secs_f64(settings.flush_seconds.clamp(0.05, 3_600.0));
        tokio::join!(tend(inner, filling, successors, period, stop.clone()), own_vectors.into_inner().run(period, stop));
    }

    /// Ends without having run; another process may write a shared collection at once.
    pub async fn release(self) {
        self.filling.release().await;
        self.own_vectors.into_inner().release().await;
    }
}

/// Fills one collection, and what takes over from it, until `stop`; then makes it safe on disk.
pub(super) async fn tend(inner: Arc<Inner>, mut filling: Filling, mut successors: mpsc::Receiver<Successor>, period: Duration, stop: CancellationToken) {
    loop {
        // Side by side: a flush waits for a running optimisation, and new items must not wait for either.
        let next = tokio::select! {
            next = keep_up(&inner, &filling, &mut successors, &stop) => next,
            () = maintain(&inner, &filling, period) => None,
        };
        match next {
            Some(next) => filling = next,
            None => break,
        }
    }
    if filling.is_writer() {
        flush(&inner, &filling).await;
    }
    filling.release().await;
}

/// Indexes what becomes pending until `stop`, or until another collection has taken over: that one.
async fn keep_up(inner: &Inner, filling: &Filling, successors: &mut mpsc::Receiver<Successor>, stop: &CancellationToken) -> Option<Filling> {
    let mut backoff = FIRST_BACKOFF;
    let mut changed = inner.changed.subscribe();
    while !stop.is_cancelled() {
        let pause = match index_next(inner, filling).await {
            // That may have been between two looks.
            Err(IndexingError::NotTheWriter) => WATCH,
            Ok(states) => {
                backoff = FIRST_BACKOFF;
                if states == 0 { LOOK_AGAIN } else { Duration::ZERO }
            }
            Err(error) => {
                inner.metrics.index_failures.inc();
                tracing::warn!(%error, "indexing failed, trying again in {backoff:?}");
                let pause = backoff;
                backoff = longer(backoff);
                pause
            }
        };
        let failing = backoff > FIRST_BACKOFF;
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            Some(successor) = successors.recv() => {
                if let Some(next) = hand_over(inner, filling, successor).await {
                    return Some(next);
                }
            }
            () = sleep(pause) => {}
            _ = changed.changed(), if !failing => {}
        }
    }
    None
}

async fn index_next(inner: &Inner, filling: &Filling) -> Result<usize, IndexingError> {
    let states = if filling.is_writer() { filling.next().await? } else { 0 };
    if inner.note_progress(filling) {
        let pending = inner.rooms.store.pending_items(inner.indexed()).await?;
        inner.metrics.pending.set(i64::try_from(pending).unwrap_or(i64::MAX));
    }
    if filling.is_writer() { Ok(states) } else { Err(IndexingError::NotTheWriter) }
}

/// Lets the successor take over, or tells why it could not.
async fn hand_over(inner: &Inner, old: &Filling, successor: Successor) -> Option<Filling> {
    let Successor { filling, swap, reply } = successor;
    let taken_over = async {
        filling.reach(old.revision()).await?;
        filling.flush().await?;
        swap.await.map_err(SuccessionError::Swap)
    };
    let outcome = taken_over.await;
    let next = outcome.is_ok().then(|| {
        inner.note_progress(&filling);
        filling
    });
    drop(reply.send(outcome)); // whoever asked may have given up; it is done all the same
    next
}

/// Flushes and packs for as long as the collection answers; never ends by itself.
async fn maintain(inner: &Inner, filling: &Filling, period: Duration) {
    let mut flushed: Revision = filling.revision();
    loop {
        sleep(period).await;
        let indexed = filling.revision();
        // Less than before, where another process went on in between.
        if indexed != flushed && filling.is_writer() && flush(inner, filling).await {
            flushed = indexed;
            match filling.collection.index.optimize_if_due().await {
                Ok(_) => {}
                Err(error) => tracing::warn!(%error, "the search graph could not be rebuilt; searches scan instead"),
            }
        }
    }
}

async fn flush(inner: &Inner, filling: &Filling) -> bool {
    match filling.flush().await {
        Ok(()) => true,
        Err(error) => {
            inner.metrics.index_failures.inc();
            tracing::warn!(%error, "the index could not be flushed; a restart will index again what is not safe");
            false
        }
    }
}
