//! Group commit: one task owns the writing connection and makes the writes of all callers durable together.
//!
//! An fsync costs the same for one event and for a thousand. The writer takes all that waits, and, when the last
//! commits had company, waits up to `commit_delay` for as many callers again (as PostgreSQL's `commit_delay` and
//! `commit_siblings` do). A caller that was alone last time is never held up.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until, timeout_at},
};

use super::{
    StoreError, StoreSettings,
    batch::{self, Ledger, Write},
    database::{Connection, Database, FolderLock},
    metrics::Metrics,
};
use crate::domain::Exposure;

/// Callers of one commit at most; bounds the time that the first of them waits.
const MOST_CALLS: usize = 1024;
/// Entries at which a commit takes no further callers.
const MOST_ENTRIES: usize = 4096;
/// Exposures that ride along with acknowledged writes: a few tenths of a millisecond, so no event waits noticeably for them.
const RIDING_EXPOSURES: usize = 64;
/// Exposures of a commit of their own; a write that comes meanwhile waits for it.
const MOST_EXPOSURES: usize = 128;
/// How long exposures wait for a commit to ride along with.
const EXPOSURE_PATIENCE: Duration = Duration::from_millis(100);

/// What comes through the queue.
pub(super) enum Message {
    Write(Write),
    /// Write what waits, then end.
    Close,
}

pub(super) struct Writer {
    pub(super) database: Database,
    pub(super) settings: StoreSettings,
    /// `None` after a failed commit.
    pub(super) connection: Option<Connection>,
    /// `None` after a failed commit.
    pub(super) ledger: Option<Ledger>,
    pub(super) messages: mpsc::UnboundedReceiver<Message>,
    pub(super) exposures: mpsc::Receiver<Exposure>,
    /// Exposures that wait for a commit, and when they are to wait no longer.
    pub(super) shown: Vec<Exposure>,
    pub(super) due: Option<Instant>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) lock: FolderLock,
}

impl Writer {
    /// Runs until all senders are gone or [`Message::Close`] came; what was queued by then is written.
    pub(super) async fn run(mut self) {
        let delay = Duration::from_secs_f64(self.settings.commit_delay_ms.clamp(0.0, 1000.0) / 1000.0);
        let mut writes = Vec::new();
        let mut siblings = 1;
        loop {
            let open = self.gather(&mut writes, siblings, delay).await;
            if !writes.is_empty() || !self.shown.is_empty() {
                let calls = writes.len();
                self.commit(&mut writes).await;
                if calls > 0 {
                    // Who was just answered may come again, and who waits already is there.
                    siblings = calls + self.messages.len();
                }
            } else if !open {
                break;
            }
        }
        if let Some(connection) = self.connection.take() {
            connection.close().await;
        }
        drop(self.lock);
    }

    /// Waits until there is something to commit; `false` when nothing more will come.
    async fn gather(&mut self, writes: &mut Vec<Write>, siblings: usize, delay: Duration) -> bool {
        loop {
            tokio::select! {
                biased;
                message = self.messages.recv() => match message {
                    Some(Message::Write(write)) => {
                        writes.push(write);
                        self.gather_company(writes, siblings, delay).await;
                        self.gather_exposures(RIDING_EXPOSURES);
                        return true;
                    }
                    Some(Message::Close) => self.messages.close(),
                    None => {
                        self.gather_exposures(MOST_EXPOSURES);
                        return false;
                    }
                },
                () = sleep_until(self.due.unwrap_or_else(Instant::now)), if self.due.is_some() => return true,
                Some(exposure) = self.exposures.recv(), if self.shown.len() < MOST_EXPOSURES => {
                    self.shown.push(exposure);
                    if self.shown.len() == MOST_EXPOSURES {
                        return true;
                    }
                    self.due.get_or_insert_with(|| Instant::now() + EXPOSURE_PATIENCE);
                }
            }
        }
    }

    /// Fills `shown` up to so many with what waits.
    fn gather_exposures(&mut self, most: usize) {
        while self.shown.len() < most
            && let Ok(exposure) = self.exposures.try_recv()
        {
            self.shown.push(exposure);
        }
    }

    /// Adds what waits to the first write, and what the last commits' company brings within `delay`.
    async fn gather_company(&mut self, writes: &mut Vec<Write>, siblings: usize, delay: Duration) {
        let deadline = Instant::now() + delay;
        let mut entries: usize = writes.iter().map(Write::entries).sum();
        while writes.len() < MOST_CALLS && entries < MOST_ENTRIES {
            let message = match self.messages.try_recv() {
                Ok(message) => message,
                Err(_) if writes.len() >= siblings || delay.is_zero() => break,
                Err(_) => match timeout_at(deadline, self.messages.recv()).await {
                    Ok(Some(message)) => message,
                    Ok(None) | Err(_) => break,
                },
            };
            match message {
                Message::Write(write) => {
                    entries += write.entries();
                    writes.push(write);
                }
                Message::Close => self.messages.close(),
            }
        }
    }

    /// Makes the writes durable, with as many exposures as do not delay them, and answers everyone.
    async fn commit(&mut self, writes: &mut Vec<Write>) {
        let most = if writes.is_empty() { MOST_EXPOSURES } else { RIDING_EXPOSURES };
        let later = self.shown.split_off(self.shown.len().min(most));
        let mut shown = std::mem::replace(&mut self.shown, later);
        self.due = (!self.shown.is_empty()).then(Instant::now);

        let entries = writes.iter().map(Write::entries).sum::<usize>();
        let failing = self.ledger.is_none();
        let started = Instant::now();
        let committed = self.try_commit(writes, &mut shown).await;
        self.metrics.queue_entries.sub(entries as i64);
        match &committed {
            Ok(()) => {
                if failing {
                    tracing::info!("commits succeed again");
                }
                self.metrics.commits.inc();
                self.metrics.commit_seconds.observe(started.elapsed().as_secs_f64());
                self.metrics.commit_calls.observe(writes.len() as f64);
                self.metrics.commit_entries.observe(entries as f64);
                self.metrics.exposures.inc_by(shown.len() as u64);
            }
            Err(error) => {
                // A full disk fails every commit; the counter says how many.
                if !failing {
                    tracing::error!(%error, "commits fail; the callers are told");
                }
                self.metrics.failures.inc();
                self.metrics.exposures_dropped.inc_by(shown.len() as u64);
                // The failure may have been the connection's, and it may hold a transaction that others wait for.
                self.connection = None;
                self.ledger = None;
            }
        }
        for write in writes.drain(..) {
            write.answer(&committed);
        }
    }

    async fn try_commit(&mut self, writes: &mut [Write], shown: &mut Vec<Exposure>) -> Result<(), StoreError> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            none => none.insert(self.database.writer().await?),
        };
        let ledger = match &mut self.ledger {
            Some(ledger) => ledger,
            none => none.insert(Ledger::load(connection).await?),
        };
        batch::commit(connection, ledger, writes, shown).await
    }
}
