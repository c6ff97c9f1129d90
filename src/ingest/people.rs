//! People: merged when they log in, erased when they ask for it. When a call returns it is on disk, and no history is cached that says otherwise.

use std::sync::{Arc, PoisonError};

use crate::{
    domain::{Actor, Timestamp, UserId},
    store::{Merged, Receipt, StoreError},
};

use super::{Ingest, IngestError, Inner, to_the_end};

impl Ingest {
    /// Makes what a session or another user did, and what still comes of them, a user's own; see [`Store::merge`](crate::store::Store::merge).
    ///
    /// Goes on when its caller is gone.
    pub async fn merge(&self, from: Actor, into: UserId, now: Timestamp) -> Result<Merged, IngestError> {
        let inner = Arc::clone(&self.0);
        to_the_end(async move {
            let merged = inner.rooms.store.merge(&from, &into, now).await;
            match &merged {
                Ok(merged) => inner.forget_each(&merged.involved),
                Err(_) => inner.forget_each(&[from, Actor::User(into)]), // some of it may have happened
            }
            merged
        })
        .await
    }

    /// Erases what is known of a user, or what was done in a session; see [`Store::erase`](crate::store::Store::erase).
    ///
    /// Goes on when its caller is gone. Counters of what is popular keep what they have counted until the next start: they know no names.
    pub async fn erase(&self, whom: Actor, now: Timestamp) -> Result<Receipt, IngestError> {
        let inner = Arc::clone(&self.0);
        to_the_end(async move {
            let erased = inner.rooms.store.erase(&whom, now).await;
            match (&erased, &whom) {
                (Ok(receipt), Actor::User(_)) => {
                    inner.forget_each(&receipt.names);
                    inner.forget_each(&[whom]);
                }
                // A session's events may have been those of several users, whose histories are shorter now.
                (Err(_), _) | (Ok(_), Actor::Session(_)) => {
                    inner.rooms.histories.forget_all();
                    inner.forget_each(&[whom]);
                }
            }
            erased
        })
        .await
    }
}

impl Inner {
    /// Begins to follow: nothing is cached yet.
    pub(super) async fn begin_with_people(&self) -> Result<(), StoreError> {
        let seen = self.rooms.store.people_seen().await?;
        *self.seen_people.lock().unwrap_or_else(PoisonError::into_inner) = seen;
        Ok(())
    }

    /// Forgets the histories that merges and erasures have changed since the last time, whichever process made them.
    pub(super) async fn catch_up_with_people(&self) -> Result<(), StoreError> {
        let seen = *self.seen_people.lock().unwrap_or_else(PoisonError::into_inner);
        let changes = self.rooms.store.people_changed(seen).await?;
        self.forget_each(&changes.merged);
        if changes.erased {
            self.rooms.histories.forget_all();
        }
        *self.seen_people.lock().unwrap_or_else(PoisonError::into_inner) = changes.seen;
        Ok(())
    }

    fn forget_each(&self, actors: &[Actor]) {
        for actor in actors {
            self.rooms.histories.forget(actor);
            if let Actor::Session(session) = actor {
                self.rooms.showings.forget(session);
            }
        }
    }
}
