//! The worker that lets go of what is too old, and of embeddings that nothing uses. Once a day, in small steps with rests between them.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::{
    domain::{DAY_MS, Revision, Timestamp},
    encoder::clean,
    store::{Ageing, ContentHash, Store, StoreError, StoreSettings},
};

use super::Ingest;

/// After a start, when the house is still busy.
const FIRST_PASS: Duration = Duration::from_secs(60);
/// What is too old goes at most so much later.
const PASS_EVERY: Duration = Duration::from_secs(86_400);
/// For so long no other process on the database passes.
const TURN: Duration = Duration::from_secs(20 * 3_600);
/// After a pass that the database broke off.
const TRY_AGAIN: Duration = Duration::from_secs(300);
/// A clock that is further from what it should say has jumped …
const JUMP_MS: i64 = 3_600_000;
/// … and gets so long to be set right before anything is deleted by it. A machine that was asleep looks the same.
const TRUST_AGAIN: Duration = Duration::from_secs(3_600);
/// A rest is this many times as long as the step before: retention takes a sixth of the writer's time at most.
const RESTS: u32 = 5;
/// Items that are read at a time.
const PAGE: usize = 1_000;

/// Versions of the models in use; handed over by `app`.
pub type VersionsInUse = Arc<dyn Fn() -> Vec<String> + Send + Sync>;

/// Lets go of what is too old, for as long as the process runs.
pub struct Retention {
    store: Store,
    event_days: u32,
    exposure_days: u32,
    in_use: VersionsInUse,
    /// When a pass of this process first found that nothing uses the embeddings of these versions.
    idle: HashMap<String, Timestamp>,
    pub(super) rests: u32,
}

/// What one pass has deleted.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Passed {
    /// Events.
    pub events: u64,
    /// Logged answers.
    pub exposures: u64,
    /// Names of sessions that were merged.
    pub aliases: u64,
    /// Marks of what was erased.
    pub marks: u64,
    /// Embeddings of texts that no item has, or of models that have been gone for a day.
    pub embeddings: u64,
}

impl Ingest {
    /// The worker for these settings; `in_use` names the versions of models whose embeddings are kept.
    pub fn retention(&self, settings: &StoreSettings, in_use: VersionsInUse) -> Retention {
        Retention {
            store: self.0.rooms.store.clone(),
            event_days: settings.retention_days,
            exposure_days: settings.exposure_retention_days,
            in_use,
            idle: HashMap::new(),
            rests: RESTS,
        }
    }
}

/// When the clock was last looked at, and what it said.
struct Watch {
    looked: Instant,
    clock: Timestamp,
}

impl Watch {
    /// Whether the clock says something else than the time that has passed since it was last looked at.
    fn has_jumped(&mut self, looked: Instant, clock: Timestamp) -> bool {
        let passed = i64::try_from(looked.duration_since(self.looked).as_millis()).unwrap_or(i64::MAX);
        let off = clock.millis().saturating_sub(self.clock.millis().saturating_add(passed));
        *self = Self { looked, clock };
        off.abs() > JUMP_MS
    }
}

impl Retention {
    /// Passes once a day until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut pause = FIRST_PASS;
        let mut watch = Watch { looked: Instant::now(), clock: Timestamp::now() };
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = sleep(pause) => {}
            }
            if watch.has_jumped(Instant::now(), Timestamp::now()) {
                tracing::warn!("the clock has jumped: what is too old is deleted {TRUST_AGAIN:?} from now, if it does not jump again");
                pause = TRUST_AGAIN;
                continue;
            }
            let passed = tokio::select! {
                () = stop.cancelled() => return,
                passed = self.pass_if_due(Timestamp::now()) => passed,
            };
            pause = match passed {
                Ok(passed) => {
                    if passed != Passed::default() {
                        let Passed { events, exposures, embeddings, .. } = passed;
                        tracing::info!(events, exposures, embeddings, "let go of {events} events, {exposures} exposures and {embeddings} embeddings");
                    }
                    PASS_EVERY
                }
                Err(error) => {
                    tracing::warn!(%error, "what is too old could not be deleted; trying again in {TRY_AGAIN:?}");
                    TRY_AGAIN
                }
            };
        }
    }

    /// One of the processes on a database is enough.
    async fn pass_if_due(&mut self, now: Timestamp) -> Result<Passed, StoreError> {
        match self.store.hold_lease("retention", TURN).await? {
            Some(_) => self.pass(now).await,
            None => Ok(Passed::default()),
        }
    }

    /// Deletes what is too old at `now`. What it has deleted before an error stays deleted.
    pub async fn pass(&mut self, now: Timestamp) -> Result<Passed, StoreError> {
        self.store.scrub_if_due().await?;
        let events = self.expire(Ageing::Events, self.event_days, now).await?;
        Ok(Passed {
            events,
            exposures: self.expire(Ageing::Exposures, self.exposure_days, now).await?,
            aliases: self.expire(Ageing::SessionAliases, self.exposure_days, now).await?,
            // As long as events: an id is told from an older one for as long as that one would be there.
            marks: self.expire(Ageing::Marks, self.event_days, now).await?,
            embeddings: self.prune_embeddings(now).await?,
        })
    }

    /// 0 days keep for ever.
    async fn expire(&self, what: Ageing, days: u32, now: Timestamp) -> Result<u64, StoreError> {
        let before = now.millis().saturating_sub(i64::from(days) * DAY_MS);
        let Some(before) = Timestamp::from_millis(before).ok().filter(|_| days > 0) else { return Ok(0) };
        let mut expiry = self.store.expire(what, before);
        let mut deleted = 0;
        loop {
            let begun = Instant::now();
            let Some(gone) = expiry.step().await? else { return Ok(deleted) };
            deleted += gone;
            if gone > 0 {
                sleep(self.rests * begun.elapsed()).await;
            }
        }
    }

    /// Embeddings of texts that no item has go at once. Those of a version that nothing uses go when this process finds that for the second time, a day
    /// later: a move to another model that was cut off left them, and asking for it again needs them.
    async fn prune_embeddings(&mut self, now: Timestamp) -> Result<u64, StoreError> {
        let versions = self.store.embedded_versions().await?;
        if versions.is_empty() {
            return Ok(0);
        }
        let mut kept = (self.in_use)();
        // On a shared database a replica's own collection is called VERSION@REPLICA.
        kept.extend(self.store.collections().await?.iter().map(|collection| collection.split('@').next().unwrap_or_default().to_owned()));
        self.idle.retain(|version, _| !kept.contains(version));
        let texts = self.texts_of_items().await?;
        let mut pruned = 0;
        for version in versions {
            let waits = |idle: &mut HashMap<String, Timestamp>| now.millis() - idle.entry(version.clone()).or_insert(now).millis() < DAY_MS;
            let stays = kept.contains(&version) || waits(&mut self.idle);
            let mut after: Option<ContentHash> = None;
            loop {
                let begun = Instant::now();
                let page = self.store.embedded_texts(&version, after.as_ref(), Store::most_deleted_at_once()).await?;
                let Some(last) = page.last() else { break };
                after = Some(*last);
                let gone = self.store.delete_embeddings(&version, page.into_iter().filter(|hash| !stays || !texts.contains(hash)).collect()).await?;
                pruned += gone;
                if gone > 0 {
                    sleep(self.rests * begun.elapsed()).await;
                }
            }
        }
        Ok(pruned)
    }

    /// What the texts of all items are called, as the indexer calls them. An item that is written meanwhile may miss its embedding at the
    /// next reindexing; it is made again then.
    async fn texts_of_items(&self) -> Result<HashSet<ContentHash>, StoreError> {
        let (mut texts, mut revision) = (HashSet::new(), Revision::default());
        loop {
            let page = self.store.items_above(revision, PAGE).await?;
            let Some(last) = page.last() else { return Ok(texts) };
            revision = last.revision;
            for stored in page.iter().filter(|stored| !stored.deleted) {
                texts.insert(ContentHash::of(&clean(&stored.item.full_text())));
                tokio::task::yield_now().await; // cleaning a long text takes a while
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_has_jumped_when_it_says_something_else_than_the_time_that_has_passed() {
        let (start, day) = (Instant::now(), |days: i64| Timestamp::from_millis(days * DAY_MS).unwrap());
        let passed = |days: u32| start + days * PASS_EVERY;
        let mut watch = Watch { looked: start, clock: day(100) };

        let jumps = [(1, 101), (2, 467), (3, 468), (4, 104), (5, 105)].map(|(passes, clock)| watch.has_jumped(passed(passes), day(clock)));

        assert_eq!(jumps, [false, true, false, true, false]);
    }
}
