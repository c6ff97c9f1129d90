//! Where texts wait for a session: two lanes, a bound, no timer.
//!
//! People's texts go first; after [`TURNS`] turns of theirs one turn goes to indexing, so that neither lane ever stands still. A session takes
//! what is waiting the moment it is free: under load batches form by themselves, without load nobody waits for company.

use std::{
    collections::VecDeque,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::{EncodeError, Encoded};

/// Turns of people's texts in a row while bulk texts wait.
pub(super) const TURNS: usize = 4;
/// Texts that one session takes in a turn: enough to sort by length, few enough to answer soon.
const TAKE: usize = 64;

/// Who waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lane {
    /// A person.
    Interactive,
    /// Indexing.
    Bulk,
}

/// One text and who wants to know.
pub(super) struct Job {
    pub text: String,
    pub reply: oneshot::Sender<Result<Encoded, EncodeError>>,
    /// The place that a bulk text holds until it is answered or dropped.
    pub place: Option<OwnedSemaphorePermit>,
}

#[derive(Default)]
struct State {
    interactive: VecDeque<Job>,
    bulk: VecDeque<Job>,
    idle: usize,
    turns: usize,
    closed: bool,
}

/// The two lanes.
pub(super) struct Queue {
    state: Mutex<State>,
    ready: Condvar,
    limit: usize,
}

impl Queue {
    /// At most `limit` people's texts wait; bulk texts bring their own bound.
    pub(super) fn new(limit: usize) -> Self {
        Self { state: Mutex::default(), ready: Condvar::new(), limit }
    }

    /// Adds a text. Where there is no room, those whose callers gave up make some; gives how many left for that.
    pub(super) fn push(&self, lane: Lane, job: Job) -> Result<usize, EncodeError> {
        let mut state = self.lock();
        if state.closed {
            return Err(EncodeError::Stopped);
        }
        let mut left = 0;
        match lane {
            Lane::Interactive => {
                if state.interactive.len() >= self.limit {
                    let before = state.interactive.len();
                    state.interactive.retain(|job| !job.reply.is_closed());
                    left = before - state.interactive.len();
                }
                if state.interactive.len() >= self.limit {
                    return Err(EncodeError::Overloaded);
                }
                state.interactive.push_back(job);
            }
            Lane::Bulk => state.bulk.push_back(job),
        }
        drop(state);
        self.ready.notify_one();
        Ok(left)
    }

    /// Waits for texts and takes a fair share of one lane; `None` once the queue is closed.
    pub(super) fn take(&self) -> Option<(Lane, Vec<Job>)> {
        let mut state = self.lock();
        state.idle += 1;
        while state.interactive.is_empty() && state.bulk.is_empty() && !state.closed {
            state = self.ready.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.idle -= 1;
        if state.closed {
            return None;
        }
        let bulk_turn = !state.bulk.is_empty() && (state.interactive.is_empty() || state.turns >= TURNS);
        if bulk_turn {
            state.turns = 0;
            Some((Lane::Bulk, share(&mut state, Lane::Bulk)))
        } else {
            state.turns += 1;
            Some((Lane::Interactive, share(&mut state, Lane::Interactive)))
        }
    }

    /// What people wait for now, without waiting: for a session that pauses in the middle of bulk work.
    pub(super) fn take_interactive(&self) -> Vec<Job> {
        share(&mut self.lock(), Lane::Interactive)
    }

    /// Texts that wait: people's, bulk.
    pub(super) fn waiting(&self) -> (usize, usize) {
        let state = self.lock();
        (state.interactive.len(), state.bulk.len())
    }

    /// Sends everybody home: waiting texts are dropped, `take` ends.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        let dropped = (std::mem::take(&mut state.interactive), std::mem::take(&mut state.bulk));
        drop(state);
        drop(dropped);
        self.ready.notify_all();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A lane's first texts: all of them when no other session is free, else an equal part.
fn share(state: &mut State, lane: Lane) -> Vec<Job> {
    let sessions = state.idle + 1;
    let waiting = if lane == Lane::Bulk { &mut state.bulk } else { &mut state.interactive };
    let count = waiting.len().div_ceil(sessions).min(TAKE);
    waiting.drain(..count).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    type Reply = oneshot::Receiver<Result<Encoded, EncodeError>>;

    fn job(text: &str) -> (Job, Reply) {
        let (reply, receiver) = oneshot::channel();
        (Job { text: text.to_owned(), reply, place: None }, receiver)
    }

    fn push(queue: &Queue, lane: Lane, text: &str) -> Result<Reply, EncodeError> {
        let (job, reply) = job(text);
        queue.push(lane, job).map(|_| reply)
    }

    #[test]
    fn a_full_lane_refuses_until_someone_gives_up() {
        let queue = Queue::new(2);
        let first = push(&queue, Lane::Interactive, "a").unwrap();
        let _second = push(&queue, Lane::Interactive, "b").unwrap();
        assert!(matches!(push(&queue, Lane::Interactive, "c"), Err(EncodeError::Overloaded)));

        drop(first);

        assert!(push(&queue, Lane::Interactive, "c").is_ok());
        let (_, jobs) = queue.take().unwrap();
        assert_eq!(jobs.iter().map(|job| job.text.as_str()).collect::<Vec<_>>(), ["b", "c"]);
    }

    #[test]
    fn people_go_first_and_bulk_never_stands_still() {
        let queue = Queue::new(1000);
        let mut replies: Vec<Reply> = (0..200).map(|_| push(&queue, Lane::Bulk, "bulk").unwrap()).collect();
        let mut lanes = Vec::new();
        for _ in 0..10 {
            replies.push(push(&queue, Lane::Interactive, "person").unwrap());
            lanes.push(queue.take().unwrap().0);
        }

        assert_eq!(lanes[..TURNS], [Lane::Interactive; TURNS]);
        assert_eq!(lanes.iter().filter(|lane| **lane == Lane::Bulk).count(), 2);
    }

    #[test]
    fn a_closed_queue_ends_sessions_and_drops_what_waits() {
        let queue = Queue::new(10);
        let mut reply = push(&queue, Lane::Bulk, "a").unwrap();

        queue.close();

        assert!(queue.take().is_none());
        assert!(matches!(reply.try_recv(), Err(oneshot::error::TryRecvError::Closed)));
        assert!(matches!(push(&queue, Lane::Interactive, "b"), Err(EncodeError::Stopped)));
    }
}
