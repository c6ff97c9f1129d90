//! People: merged when they log in, erased when they ask for it. When a call returns it is on disk, and no history is cached that says otherwise.

use std::sync::Arc;

use crate::{
    domain::{Actor, Timestamp, UserId},
    store::{Merged, PeopleSeen, Receipt, StoreError},
};

use super::{Ingest, IngestError, Inner};

impl Ingest {
    /// Makes what a session or another user did, and what still comes of them, a user's own; see [`Store::merge`](crate::store::Store::merge).
    ///
    /// Goes on when its caller is gone.
    pub async fn merge(&self, from: Actor, into: UserId, now: Timestamp) -> Result<Merged, IngestError> {
        let inner = Arc::clone(&self.0);
        let merging = tokio::spawn(async move {
            let merged = inner.rooms.store.merge(&from, &into, now).await;
            match &merged {
                Ok(merged) => inner.forget_each(&merged.involved),
                Err(_) => inner.forget_each(&[from, Actor::User(into)]), // some of it may have happened
            }
            merged
        });
        Ok(merging.await.map_err(|_| broke_off())??)
    }

    /// Erases what is known of a user, or what was done in a session; see [`Store::erase`](crate::store::Store::erase).
    ///
    /// Goes on when its caller is gone. Counters of what is popular keep what they have counted until the next start: they know no names.
    pub async fn erase(&self, whom: Actor, now: Timestamp) -> Result<Receipt, IngestError> {
        let inner = Arc::clone(&self.0);
        let erasing = tokio::spawn(async move {
            let erased = inner.rooms.store.erase(&whom, now).await;
            match (&erased, &whom) {
                (Ok(receipt), Actor::User(_)) => {
                    inner.forget_each(&receipt.names);
                    inner.forget_each(&[whom]);
                }
                // A session's events may have been those of several users, whose histories are shorter now.
                (Err(_), _) | (Ok(_), Actor::Session(_)) => inner.rooms.histories.forget_all(),
            }
            erased
        });
        Ok(erasing.await.map_err(|_| broke_off())??)
    }

    /// Forgets the histories that merges and erasures above `seen` have changed, whichever process made them; up to where that goes.
    pub async fn follow_people(&self, seen: PeopleSeen) -> Result<PeopleSeen, StoreError> {
        self.0.follow_people(seen).await
    }
}

impl Inner {
    pub(super) async fn follow_people(&self, seen: PeopleSeen) -> Result<PeopleSeen, StoreError> {
        let changes = self.rooms.store.people_changed(seen).await?;
        self.forget_each(&changes.merged);
        if changes.erased {
            self.rooms.histories.forget_all();
        }
        Ok(changes.seen)
    }

    fn forget_each(&self, actors: &[Actor]) {
        actors.iter().for_each(|actor| self.rooms.histories.forget(actor));
    }
}

fn broke_off() -> IngestError {
    IngestError::Unavailable("the work on a person's data broke off".into())
}
