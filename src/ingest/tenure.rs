//! The right to write a collection that all replicas share: one process at a time has it, by a lease of the database.
//!
//! A holder that died is followed when its term is over. One that was only slow changes nothing in the index any more (each point says of which
//! revision it is), and cannot say how far the collection is written (that is fenced by the lease's epoch).

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::watch, time::sleep};
use tokio_util::task::AbortOnDropHandle;

use crate::{
    domain::Revision,
    store::{Lease, Store, StoreError},
};

/// After which a holder that is not heard of has lost it.
const TERM: Duration = Duration::from_secs(10);
/// How often the lease is renewed, or tried.
const LOOK: Duration = Duration::from_secs(2);

/// A process's claim to a shared collection. It renews itself, or waits for its turn, until it is dropped.
pub struct Tenure {
    shared: Arc<Shared>,
    _task: AbortOnDropHandle<()>,
}

struct Shared {
    store: Store,
    collection: String,
    state: Mutex<State>,
    mine: watch::Sender<bool>,
}

/// Whose turn it is.
#[derive(Debug, Clone)]
enum State {
    /// Another process's, or nobody's; it has written up to this revision.
    Others(Revision),
    /// This process's. What comes after `from`, where it is not taken yet, has to be written.
    Mine { lease: Lease, from: Option<Revision> },
}

fn lease_name(collection: &str) -> String {
    format!("index:{collection}")
}

impl Tenure {
    /// Begins to wait for the turn, which may come at once.
    pub fn claim(store: &Store, collection: &str) -> Self {
        let state = Mutex::new(State::Others(Revision::default()));
        let shared = Arc::new(Shared { store: store.clone(), collection: collection.to_owned(), state, mine: watch::Sender::new(false) });
        let claimed = Arc::clone(&shared);
        let task = tokio::spawn(async move {
            loop {
                if let Err(error) = claimed.look().await {
                    tracing::warn!(%error, "the lease of the index cannot be asked for");
                }
                sleep(LOOK).await;
            }
        });
        Self { shared, _task: AbortOnDropHandle::new(task) }
    }

    /// Whether it is this process's turn.
    pub fn is_mine(&self) -> bool {
        *self.shared.mine.borrow()
    }

    /// Waits for the turn; `false` if another process goes on for two terms.
    pub async fn comes(&self) -> bool {
        let mut mine = self.shared.mine.subscribe();
        tokio::time::timeout(2 * TERM, mine.wait_for(|mine| *mine)).await.is_ok_and(|waited| waited.is_ok())
    }

    /// Up to which revision another process has written, where it is not this one's turn.
    pub(super) fn others(&self) -> Option<Revision> {
        match *self.shared.state() {
            State::Others(revision) => Some(revision),
            State::Mine { .. } => None,
        }
    }

    /// Where to go on, told once after the turn came.
    pub(super) fn take_from(&self) -> Option<Revision> {
        match &mut *self.shared.state() {
            State::Others(_) => None,
            State::Mine { from, .. } => from.take(),
        }
    }

    /// Says how far the collection is written; `false` when the turn was lost.
    pub async fn set_flushed(&self, revision: Revision) -> Result<bool, StoreError> {
        let State::Mine { lease, .. } = self.shared.state().clone() else { return Ok(false) };
        let written = self.shared.store.set_flushed_revision_under(&lease, &self.shared.collection, revision).await?;
        if !written {
            self.shared.lose(revision);
        }
        Ok(written)
    }

    /// Gives the turn up, so that nobody has to wait for the end of its term.
    pub async fn release(self) {
        let Self { shared, _task } = self;
        drop(_task);
        let State::Mine { lease, .. } = shared.state().clone() else { return };
        if let Err(error) = shared.store.release_lease(lease).await {
            tracing::debug!(%error, "the lease of the index ends by itself");
        }
    }

    /// The right to a collection that no process claims any more: none of them, which look every two seconds, takes a lease that lies free.
    pub async fn forsaken(store: &Store, collection: &str) -> Result<Option<Lease>, StoreError> {
        let name = lease_name(collection);
        let Some(lease) = store.hold_lease(&name, TERM).await? else { return Ok(None) };
        store.release_lease(lease).await?;
        sleep(2 * LOOK).await;
        store.hold_lease(&name, TERM).await
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn look(&self) -> Result<(), StoreError> {
        let held = self.store.hold_lease(&lease_name(&self.collection), TERM).await?;
        let goes_on = matches!((&*self.state(), &held), (State::Mine { lease, .. }, Some(held)) if lease == held);
        if goes_on {
            return Ok(());
        }
        // Read after the lease was got: whoever had it before cannot raise it any more.
        let flushed = self.store.shared_flushed_revision(&self.collection).await?;
        match held {
            Some(lease) => {
                tracing::info!(collection = self.collection, "this process writes the index {} from now on", self.collection);
                *self.state() = State::Mine { lease, from: Some(flushed) };
                self.mine.send_replace(true);
            }
            None => self.lose(flushed),
        }
        Ok(())
    }

    fn lose(&self, flushed: Revision) {
        let before = std::mem::replace(&mut *self.state(), State::Others(flushed));
        if matches!(before, State::Mine { .. }) {
            tracing::warn!(collection = self.collection, "another process writes the index {} now", self.collection);
        }
        self.mine.send_replace(false);
    }
}
