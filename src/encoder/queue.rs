//! Where texts wait for a session: two lanes, bounds in tokens and in time, no timer.
//!
//! People's texts go first; after [`TURNS`] turns of theirs one turn goes to indexing, so that neither lane ever stands still. A session takes
//! one batch of what is waiting the moment it is free: under load batches form by themselves, without load nobody waits for company. Whoever
//! asks for a text that is on its way, waiting or in a session's hands, waits with the others for the same answer.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::{Answer, EncodeError, metrics::EncoderMetrics};

/// Turns of people's texts in a row while bulk texts wait.
pub(super) const TURNS: usize = 4;
/// Bulk texts that one session takes in a turn, where a pass is small: enough to sort by length.
const TAKE: usize = 64;
/// Tokens in a pass for each bulk text that is taken, where a pass is large.
const TOKENS_A_TEXT: usize = 32;
/// Waiting texts among which company of similar length is looked for.
const LOOK: usize = 256;

/// Who waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lane {
    /// A person.
    People,
    /// Indexing.
    Bulk,
}

/// Someone who waits for a text.
pub(super) struct Waiter {
    pub reply: oneshot::Sender<Answer>,
    /// After it the answer is of no use.
    pub deadline: Option<Instant>,
    /// The room that a bulk text takes until it is answered or dropped.
    #[expect(dead_code, reason = "it is held, not read: dropping it gives the room back")]
    pub room: Option<OwnedSemaphorePermit>,
}

/// A person's text, ready for the model.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Short {
    pub text: Arc<str>,
    pub ids: Vec<u32>,
    pub truncated: bool,
}

/// A turn's work.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Work {
    /// One forward pass for people.
    People(Vec<Short>),
    /// Bulk texts, to be read and batched by whoever takes them.
    Bulk(Vec<Arc<str>>),
}

/// Who waits for each text of a lane.
type Asked = HashMap<Arc<str>, Vec<Waiter>>;

#[derive(Default)]
struct State {
    people: VecDeque<Short>,
    tokens: usize,
    bulk: VecDeque<Arc<str>>,
    asked_by_people: Asked,
    asked_by_bulk: Asked,
    idle: usize,
    turns: usize,
    closed: bool,
}

/// The two lanes.
pub(super) struct Queue {
    state: Mutex<State>,
    ready: Condvar,
    limit: usize,
    batch_tokens: usize,
    metrics: EncoderMetrics,
}

impl Queue {
    /// At most `limit` tokens of people's texts wait; bulk texts bring their own bound. A pass takes `batch_tokens`, padding included.
    pub(super) fn new(limit: usize, batch_tokens: usize, metrics: EncoderMetrics) -> Self {
        Self { state: Mutex::default(), ready: Condvar::new(), limit, batch_tokens, metrics }
    }

    /// Lets `waiter` wait with others for a text that is on its way already; gives it back where there is none.
    pub(super) fn join(&self, lane: Lane, text: &str, waiter: Waiter) -> Option<Waiter> {
        match self.lock().asked(lane).get_mut(text) {
            Some(waiters) => {
                waiters.push(waiter);
                self.metrics.joined.inc();
                None
            }
            None => Some(waiter),
        }
    }

    /// Adds a person's text. Where there is no room, texts that nobody waits for any more make some.
    pub(super) fn push_person(&self, short: Short, waiter: Waiter) -> Result<(), EncodeError> {
        let mut state = self.lock();
        if state.closed {
            return Err(EncodeError::Stopped);
        }
        if let Some(waiters) = state.asked_by_people.get_mut(&short.text) {
            waiters.push(waiter);
            self.metrics.joined.inc();
            return Ok(());
        }
        if state.tokens + short.ids.len() > self.limit {
            self.drop_unwanted(&mut state);
        }
        if state.tokens + short.ids.len() > self.limit {
            self.metrics.refused.inc();
            return Err(EncodeError::Overloaded);
        }
        state.asked_by_people.insert(Arc::clone(&short.text), vec![waiter]);
        self.count_in(&mut state, &short);
        state.people.push_back(short);
        drop(state);
        self.ready.notify_one();
        Ok(())
    }

    /// Adds a bulk text.
    pub(super) fn push_bulk(&self, text: Arc<str>, waiter: Waiter) -> Result<(), EncodeError> {
        let mut state = self.lock();
        if state.closed {
            return Err(EncodeError::Stopped);
        }
        if let Some(waiters) = state.asked_by_bulk.get_mut(&text) {
            waiters.push(waiter);
            self.metrics.joined.inc();
            return Ok(());
        }
        state.asked_by_bulk.insert(Arc::clone(&text), vec![waiter]);
        state.bulk.push_back(text);
        self.metrics.waiting_bulk.inc();
        drop(state);
        self.ready.notify_one();
        Ok(())
    }

    /// Waits for texts and takes a turn's work of one lane; `None` once the queue is closed.
    pub(super) fn take(&self) -> Option<Work> {
        let mut state = self.lock();
        loop {
            if state.closed {
                return None;
            }
            let bulk_turn = state.turns >= TURNS || state.people.is_empty();
            if bulk_turn && !state.bulk.is_empty() {
                state.turns = 0;
                let texts = self.bulk_share(&mut state);
                if !texts.is_empty() {
                    return Some(Work::Bulk(texts));
                }
            } else if !state.people.is_empty() {
                state.turns += 1;
                let texts = self.batch(&mut state);
                if !texts.is_empty() {
                    return Some(Work::People(texts));
                }
            } else {
                state.idle += 1;
                state = self.ready.wait(state).unwrap_or_else(PoisonError::into_inner);
                state.idle -= 1;
            }
        }
    }

    /// One batch of what people wait for now, without waiting: for a session that pauses in the middle of bulk work.
    pub(super) fn take_people(&self) -> Vec<Short> {
        let mut state = self.lock();
        if state.people.is_empty() { Vec::new() } else { self.batch(&mut state) }
    }

    /// Whether anybody still waits for this text. Where nobody does it is forgotten, and asked for anew by the next who wants it.
    pub(super) fn keep(&self, lane: Lane, text: &str) -> bool {
        self.wanted(self.lock().asked(lane), text, Instant::now())
    }

    /// The text's answer is there: tells all who wait for it.
    pub(super) fn land(&self, lane: Lane, text: &str, answer: &Answer) {
        let waiters = self.lock().asked(lane).remove(text).unwrap_or_default();
        for waiter in waiters {
            let _ = waiter.reply.send(answer.clone()); // a caller that gave up meanwhile does not listen
        }
    }

    /// Sends everybody home: whoever waits learns it by the dropped reply, `take` ends.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        while let Some(short) = state.people.pop_front() {
            self.count_out(&mut state, &short);
        }
        self.metrics.waiting_bulk.sub(state.bulk.len() as i64);
        state.bulk.clear();
        let dropped = (std::mem::take(&mut state.asked_by_people), std::mem::take(&mut state.asked_by_bulk));
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

    /// The text that waits longest, and those most like it in length that fit into one pass with it: within the budget of padded tokens, with at
    /// most a third of it padding. Sessions that have nothing to do get an equal part.
    fn batch(&self, state: &mut State) -> Vec<Short> {
        let now = Instant::now();
        let most = state.people.len().div_ceil(state.idle + 1);
        let first = loop {
            let Some(first) = state.people.pop_front() else { return Vec::new() };
            self.count_out(state, &first);
            if self.wanted(&mut state.asked_by_people, &first.text, now) {
                break first;
            }
        };
        let length = first.ids.len();
        let (mut tokens, mut longest, mut count) = (length, length, 1);
        let mut nearest: Vec<usize> = (0..state.people.len().min(LOOK)).collect();
        nearest.sort_by_key(|at| state.people[*at].ids.len().abs_diff(length)); // stable: of equal ones the oldest first
        let mut taken = Vec::new();
        let mut gone = Vec::new();
        for at in nearest {
            if count >= most {
                break;
            }
            let short = &state.people[at];
            let length = short.ids.len();
            let padded = (count + 1) * length.max(longest);
            if padded > self.batch_tokens || 3 * (tokens + length) < 2 * padded {
                continue;
            }
            if !self.wanted(&mut state.asked_by_people, &short.text, now) {
                gone.push(at);
                continue;
            }
            (tokens, longest, count) = (tokens + length, longest.max(length), count + 1);
            taken.push(at);
        }
        gone.extend(&taken);
        gone.sort_unstable_by(|a, b| b.cmp(a)); // from the back: places in front stay what they are
        taken.sort_unstable_by(|a, b| b.cmp(a));
        let mut batch = vec![first];
        for at in gone {
            let Some(short) = state.people.remove(at) else { continue };
            self.count_out(state, &short);
            if taken.binary_search_by(|taken| at.cmp(taken)).is_ok() {
                batch.push(short);
            }
        }
        batch
    }

    /// The oldest bulk texts that somebody waits for: all of them when no other session is free, else an equal part.
    fn bulk_share(&self, state: &mut State) -> Vec<Arc<str>> {
        let now = Instant::now();
        let count = state.bulk.len().div_ceil(state.idle + 1).min(TAKE.max(self.batch_tokens / TOKENS_A_TEXT));
        self.metrics.waiting_bulk.sub(count as i64);
        let mut texts: Vec<Arc<str>> = state.bulk.drain(..count).collect();
        texts.retain(|text| self.wanted(&mut state.asked_by_bulk, text, now));
        texts
    }

    fn drop_unwanted(&self, state: &mut State) {
        let now = Instant::now();
        for short in std::mem::take(&mut state.people) {
            if self.wanted(&mut state.asked_by_people, &short.text, now) {
                state.people.push_back(short);
            } else {
                self.count_out(state, &short);
            }
        }
    }

    fn wanted(&self, asked: &mut Asked, text: &str, now: Instant) -> bool {
        let Some(waiters) = asked.get(text) else { return false };
        let in_time = |waiter: &Waiter| waiter.deadline.is_none_or(|deadline| deadline > now);
        if waiters.iter().any(|waiter| !waiter.reply.is_closed() && in_time(waiter)) {
            return true;
        }
        let (mut abandoned, mut late) = (true, false);
        for waiter in asked.remove(text).into_iter().flatten() {
            if waiter.reply.send(Err(EncodeError::Late)).is_ok() {
                (abandoned, late) = (false, true);
            }
        }
        self.metrics.abandoned.inc_by(u64::from(abandoned));
        self.metrics.late.inc_by(u64::from(late));
        false
    }

    fn count_in(&self, state: &mut State, short: &Short) {
        state.tokens += short.ids.len();
        self.metrics.waiting_interactive.inc();
        self.metrics.waiting_tokens.add(short.ids.len() as i64);
    }

    fn count_out(&self, state: &mut State, short: &Short) {
        state.tokens -= short.ids.len();
        self.metrics.waiting_interactive.dec();
        self.metrics.waiting_tokens.sub(short.ids.len() as i64);
    }
}

impl State {
    fn asked(&mut self, lane: Lane) -> &mut Asked {
        match lane {
            Lane::People => &mut self.asked_by_people,
            Lane::Bulk => &mut self.asked_by_bulk,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use prometheus::Registry;

    use super::*;

    type Reply = oneshot::Receiver<Answer>;

    fn queue(limit: usize, batch_tokens: usize) -> Queue {
        Queue::new(limit, batch_tokens, EncoderMetrics::register(&Registry::new()).unwrap())
    }

    fn waiter(deadline: Option<Instant>) -> (Waiter, Reply) {
        let (reply, receiver) = oneshot::channel();
        (Waiter { reply, deadline, room: None }, receiver)
    }

    fn push(queue: &Queue, text: &str, tokens: usize) -> Result<Reply, EncodeError> {
        push_until(queue, text, tokens, None)
    }

    fn push_until(queue: &Queue, text: &str, tokens: usize, deadline: Option<Instant>) -> Result<Reply, EncodeError> {
        let (waiter, reply) = waiter(deadline);
        queue.push_person(Short { text: text.into(), ids: vec![0; tokens], truncated: false }, waiter).map(|()| reply)
    }

    fn push_bulk(queue: &Queue, text: &str) -> Reply {
        let (waiter, reply) = waiter(None);
        queue.push_bulk(text.into(), waiter).unwrap();
        reply
    }

    fn people(queue: &Queue) -> Vec<String> {
        match queue.take() {
            Some(Work::People(texts)) => texts.iter().map(|short| short.text.to_string()).collect(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_bound_is_tokens_and_whoever_gives_up_makes_room() {
        let queue = queue(20, 256);
        let first = push(&queue, "a", 12).unwrap();
        let _second = push(&queue, "b", 8).unwrap();
        assert!(matches!(push(&queue, "c", 1), Err(EncodeError::Overloaded)));

        drop(first);

        let _third = push(&queue, "c", 12).unwrap();
        assert_eq!(people(&queue), ["b", "c"]);
        let metrics = &queue.metrics;
        assert_eq!((metrics.refused.get(), metrics.abandoned.get(), metrics.waiting_tokens.get(), metrics.waiting_interactive.get()), (1, 1, 0, 0));
    }

    #[test]
    fn a_text_whose_time_is_over_is_not_handed_out_and_its_caller_told_so() {
        let queue = queue(100, 256);
        let mut late = push_until(&queue, "late", 5, Some(Instant::now())).unwrap();
        let _early = push_until(&queue, "early", 5, Some(Instant::now() + Duration::from_secs(60))).unwrap();

        assert_eq!(people(&queue), ["early"]);
        assert_eq!(late.try_recv().unwrap(), Err(EncodeError::Late));
        assert_eq!(queue.metrics.late.get(), 1);
    }

    #[test]
    fn a_text_in_a_sessions_hands_is_joined_and_not_queued_again() {
        let queue = queue(100, 256);
        let mut first = push(&queue, "a", 5).unwrap();
        assert_eq!(people(&queue), ["a"]);

        let (second, mut second_reply) = waiter(None);
        assert!(queue.join(Lane::People, "a", second).is_none());
        let mut third = push(&queue, "a", 5).unwrap();
        assert!(queue.take_people().is_empty(), "nothing new waits");
        queue.land(Lane::People, "a", &Err(EncodeError::Empty));

        for reply in [&mut first, &mut second_reply, &mut third] {
            assert_eq!(reply.try_recv().unwrap(), Err(EncodeError::Empty));
        }
        let (fourth, _reply) = waiter(None);
        assert!(queue.join(Lane::People, "a", fourth).is_some(), "landed texts are asked for anew");
    }

    #[test]
    fn lanes_do_not_share_answers_because_their_prefixes_differ() {
        let queue = queue(100, 256);
        let _person = push(&queue, "a", 5).unwrap();
        let _bulk = push_bulk(&queue, "a");

        assert_eq!(people(&queue), ["a"]);
        assert_eq!(queue.take(), Some(Work::Bulk(vec!["a".into()])));
    }

    #[test]
    fn people_go_first_and_bulk_never_stands_still() {
        let queue = queue(1000, 256);
        let mut replies: Vec<Reply> = (0..200).map(|n| push_bulk(&queue, &format!("bulk {n}"))).collect();
        let mut turns = Vec::new();
        for n in 0..10 {
            replies.push(push(&queue, &format!("person {n}"), 5).unwrap());
            turns.push(matches!(queue.take().unwrap(), Work::Bulk(_)));
        }

        assert_eq!(turns[..TURNS], [false; TURNS]);
        assert_eq!(turns.iter().filter(|bulk| **bulk).count(), 2);
    }

    #[test]
    fn a_batch_is_the_oldest_text_and_those_most_like_it_within_the_budget() {
        let queue = queue(1000, 32);
        let lengths = [("oldest", 8), ("long", 30), ("near", 9), ("short", 2), ("same", 8), ("nearer", 7), ("last", 8)];
        let _replies: Vec<Reply> = lengths.iter().map(|(text, tokens)| push(&queue, text, *tokens).unwrap()).collect();

        // 4 x 8 padded tokens fill the budget of 32; "near" would make them 9 wide.
        let mut batch = people(&queue);
        batch.sort();
        assert_eq!(batch, ["last", "nearer", "oldest", "same"]);
        assert_eq!(people(&queue), ["long"], "what is left goes in order of age, and nothing short is padded to 30");
        assert_eq!(people(&queue), ["near"]);
        assert_eq!(people(&queue), ["short"]);
    }

    #[test]
    fn a_closed_queue_ends_sessions_and_drops_what_waits() {
        let queue = queue(10, 256);
        let mut bulk = push_bulk(&queue, "a");
        let mut person = push(&queue, "b", 4).unwrap();

        queue.close();

        assert!(queue.take().is_none());
        for reply in [&mut bulk, &mut person] {
            assert!(matches!(reply.try_recv(), Err(oneshot::error::TryRecvError::Closed)));
        }
        assert!(matches!(push(&queue, "c", 1), Err(EncodeError::Stopped)));
        assert_eq!((queue.metrics.waiting_bulk.get(), queue.metrics.waiting_tokens.get()), (0, 0));
    }
}
