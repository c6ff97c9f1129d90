//! From the store to this replica's memory: what other processes on the same database wrote, in the order of commits.
//!
//! An announcement of the database is only the wake-up, and so is a clock, because announcements may get lost. What there is to know
//! is read from the tables, above the last revisions (of items, of rules), sequence, merge and erasure that are known here. Histories and columns of one's own writes
//! are up to date at once; popularity counts each event when it is read here, once, whoever wrote it.

use std::{collections::BTreeMap, sync::Arc, sync::atomic::Ordering, time::Duration};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{
    domain::{Actor, EventType, LoggedEvent, Revision, Timestamp},
    features::MOST_ANSWERS,
    store::{Changes, StoreError},
};

use super::{Ingest, Inner, RECOVERY_PAGE, Rooms};

/// Without news the tables are looked at this often.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// Keeps one replica up to date for as long as the process runs.
pub struct Follower {
    inner: Arc<Inner>,
    changes: Changes,
}

impl Ingest {
    /// The worker that learns what other processes write; `None` on a database that only this one writes to.
    pub fn follower(&self) -> Option<Follower> {
        self.0.rooms.store.changes().map(|changes| Follower { inner: Arc::clone(&self.0), changes })
    }
}

impl Follower {
    /// Follows until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut up_to_date = Instant::now();
        let mut failing = false;
        while !stop.is_cancelled() {
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.inner.wrote.notified() => {}
                () = self.changes.next(LOOK_AGAIN) => {}
            }
            let looked = Instant::now();
            match self.inner.catch_up(Timestamp::now()).await {
                Ok(()) => {
                    up_to_date = looked;
                    if failing {
                        tracing::info!("up to date with the other replicas again");
                    }
                    failing = false;
                }
                Err(error) => {
                    if !failing {
                        tracing::warn!(%error, "what other replicas write is not seen now");
                    }
                    failing = true;
                    self.inner.metrics.follow_failures.inc();
                    tokio::time::sleep(LOOK_AGAIN).await;
                }
            }
            self.inner.metrics.follow_lag.set(up_to_date.elapsed().as_secs_f64());
        }
    }
}

impl Inner {
    /// Fills the counters at start, answers first: they tell which scenario an event came from. Says of which types there are events that say
    /// nothing, because they are not configured (any more).
    pub(super) async fn recover_counters(&self, now: Timestamp) -> Result<BTreeMap<EventType, u64>, StoreError> {
        let Rooms { store, popularity, signals, .. } = &self.rooms;
        let mut last_seen = store.exposure_before_newest(MOST_ANSWERS).await?;
        loop {
            let answers = store.exposures_after(last_seen.as_ref(), RECOVERY_PAGE).await?;
            let Some(last) = answers.last() else { break };
            last_seen = Some(last.recommendation_id.clone());
            answers.iter().for_each(|exposure| popularity.show(exposure, now));
        }

        let mut unknown = BTreeMap::<EventType, u64>::new();
        loop {
            let logged = store.acts_after(self.seen_sequence.load(Ordering::Acquire), RECOVERY_PAGE).await?;
            let Some(last) = logged.last() else { return Ok(unknown) };
            let mut acts = Vec::with_capacity(logged.len());
            for one in &logged {
                match signals.logged(one) {
                    Some(act) => acts.push((act, one.recommendation_id.as_ref())),
                    None => *unknown.entry(one.kind).or_default() += 1,
                }
            }
            popularity.count(signals, now, acts.iter().map(|(act, answer)| (act, *answer)));
            self.seen_sequence.store(last.sequence, Ordering::Release);
        }
    }

    /// Reads everything above what is known here.
    pub(super) async fn catch_up(&self, now: Timestamp) -> Result<(), StoreError> {
        self.catch_up_with_people().await?;
        self.catch_up_with_rules().await?;
        let store = &self.rooms.store;
        loop {
            let items = store.items_above(Revision(self.seen_revision.load(Ordering::Acquire)), RECOVERY_PAGE).await?;
            let Some(last) = items.last() else { break };
            self.learn_items(&items);
            self.wake_rules();
            self.seen_revision.store(last.revision.0, Ordering::Release);
        }
        loop {
            let events = store.events_after(self.seen_sequence.load(Ordering::Acquire), RECOVERY_PAGE).await?;
            let Some(last) = events.last() else { return Ok(()) };
            self.count(&events, now);
            self.seen_sequence.store(last.sequence, Ordering::Release);
            for LoggedEvent { event, .. } in &events {
                // Both: a session's history may have been read before its user was known.
                self.forget(event.user_id.clone().map(Actor::User));
                self.forget(event.session_id.clone().map(Actor::Session));
            }
            self.accepted.send_modify(|total| *total += events.len() as u64);
        }
    }
}
