//! The collections of own vectors beside the one of the texts. In: names that items have vectors under. Out: a collection for each, filled as
//! that of the texts is, by revision and for as long as the process runs.
//!
//! A collection fixes the width of its vectors when it is made, and a shop may name a vector at any time; so each name has a collection of its own,
//! opened when the first item with it is seen. A catalogue without own vectors has none.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::future::BoxFuture;
use tokio::{sync::mpsc, task::JoinSet, time::sleep};
use tokio_util::sync::CancellationToken;

use crate::{
    domain::{Embedding, ItemFacts, ItemKey, Revision, StoredItem},
    index::{IndexError, IndexPoint, Terms, VectorIndex},
};

use super::{
    Inner,
    filling::{FIRST_BACKOFF, Filling, IndexCollection, IndexingError, longer},
    indexer::tend,
};

/// Opens the collection of an own vector by its name and width, and lets requests see it; handed over by `app`. An error says what failed.
pub type OpenVectors = Arc<dyn Fn(String, usize) -> BoxFuture<'static, Result<IndexCollection, String>> + Send + Sync>;

/// What states of items mean to a collection: points to put, and what to take out.
pub(super) type Writes = (Vec<IndexPoint>, Vec<(ItemKey, Revision)>);

/// What `states` mean to the collection of the own vector `name`.
///
/// An item without the vector is taken out only where it is there: on a server each deletion leaves a small point. So where an item loses its
/// vector, a writer that was slow by a whole term of its lease may put it back until the item is written again; a deleted item stays out.
pub(super) async fn writes(name: &str, index: &dyn VectorIndex, states: &[StoredItem]) -> Result<Writes, IndexError> {
    let (mut points, mut gone, mut without) = (Vec::new(), Vec::new(), BTreeMap::new());
    for state in states {
        let embedding = state.item.vectors.get(name).and_then(|vector| Embedding::new(vector.clone()).ok());
        match embedding {
            Some(_) if state.deleted => gone.push((state.key, state.revision)),
            Some(embedding) => points.push(IndexPoint {
                key: state.key,
                revision: state.revision,
                embedding: Some(embedding),
                terms: Terms::default(),
                facts: ItemFacts::from(state.item.as_ref()),
            }),
            None => drop(without.insert(state.key, state.revision)),
        }
    }
    if !without.is_empty() {
        let keys: Vec<ItemKey> = without.keys().copied().collect();
        gone.extend(index.known(&keys).await?.into_iter().filter_map(|key| Some((key, *without.get(&key)?))));
    }
    Ok((points, gone))
}

/// All collections of own vectors that this process fills.
pub(super) struct OwnVectors {
    inner: Arc<Inner>,
    open: OpenVectors,
    chunk: usize,
    opened: Vec<String>,
    /// Opened and not running yet.
    fillings: Vec<Filling>,
}

impl OwnVectors {
    pub(super) fn new(inner: Arc<Inner>, open: OpenVectors, chunk: usize) -> Self {
        Self { inner, open, chunk, opened: Vec::new(), fillings: Vec::new() }
    }

    /// Opens those that items have and that are not open yet.
    pub(super) async fn open_new(&mut self) -> Result<(), IndexingError> {
        let names = self.inner.vectors.borrow().clone();
        for (name, width) in names {
            if self.opened.contains(&name) {
                continue;
            }
            let opened = (self.open)(name.clone(), width).await;
            let collection = opened.map_err(|reason| IndexingError::OwnVector { name: name.clone(), reason })?;
            self.fillings.push(self.inner.resume(collection, self.chunk).await?);
            self.opened.push(name);
        }
        Ok(())
    }

    /// Indexes everything that is pending now.
    pub(super) async fn catch_up(&mut self) -> Result<(), IndexingError> {
        self.open_new().await?;
        for filling in &self.fillings {
            let caught_up = filling.catch_up(|_| {}).await;
            self.inner.note_progress(filling);
            caught_up?;
        }
        Ok(())
    }

    /// Opens and fills what there is and what comes until `stop`; then makes it safe on disk.
    pub(super) async fn run(mut self, period: Duration, stop: CancellationToken) {
        let mut names = self.inner.vectors.subscribe();
        let mut tended = JoinSet::new();
        let mut backoff = FIRST_BACKOFF;
        while !stop.is_cancelled() {
            let opened = tokio::select! {
                () = stop.cancelled() => break,
                opened = self.open_new() => opened,
            };
            for filling in self.fillings.drain(..) {
                let nobody_follows = mpsc::channel(1).1;
                tended.spawn(tend(Arc::clone(&self.inner), filling, nobody_follows, period, stop.clone()));
            }
            let failed = opened.is_err();
            match opened {
                Ok(()) => backoff = FIRST_BACKOFF,
                Err(error) => {
                    self.inner.metrics.index_failures.inc();
                    tracing::warn!(%error, "own vectors are not searchable yet, trying again in {backoff:?}");
                    backoff = longer(backoff);
                }
            }
            tokio::select! {
                () = stop.cancelled() => {}
                _ = names.changed() => {}
                () = sleep(backoff), if failed => {}
            }
        }
        while tended.join_next().await.is_some() {}
    }

    /// Ends without having run.
    pub(super) async fn release(self) {
        for filling in self.fillings {
            filling.release().await;
        }
    }
}
