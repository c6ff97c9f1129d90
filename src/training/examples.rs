//! The log as training reads it: one opinion a user and item, and the words that led to items.

use std::{collections::VecDeque, sync::Arc};

use rustc_hash::{FxHashMap, FxHashSet};

use super::Interaction;
use crate::{
    domain::{Actor, EventType, ItemKey, Timestamp},
    features::{Act, Columns, Popularity, Ranking, Signals},
    store::{Store, StoreError},
    telemetry::{Compute, ComputeError},
};

/// Events that are read from the log at a time.
const PAGE: usize = 5_000;
/// The newest events with words are learned from; a page of words is remembered for each.
const MOST_WORDED: usize = 100_000;
/// The newest share of the texts is kept back to judge by …
const KEPT_BACK: f32 = 0.2;
/// … and at most so many.
const MOST_KEPT_BACK: usize = 1_000;

/// Why the log could not be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Compute(#[from] ComputeError),
}

/// The log.
pub(super) struct Examples {
    pub(super) interactions: Vec<Interaction>,
    /// By text, the oldest first: who came to which items by these words.
    pub(super) worded: Vec<Worded>,
    /// By actor's number.
    acts: Vec<Vec<Act>>,
    pub(super) events: usize,
}

/// A text with what it led to.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Worded {
    pub(super) text: Box<str>,
    /// Actor, item and time in milliseconds; the oldest first.
    pub(super) led_to: Vec<(u32, ItemKey, i64)>,
}

/// An event with words, before its actor has a number.
struct Event {
    actor: Actor,
    item: ItemKey,
    at_ms: i64,
    text: Box<str>,
}

impl Examples {
    /// Reads the whole log.
    pub(super) async fn read(store: &Store, columns: &Arc<Columns>, signals: &Arc<Signals>, compute: &Compute) -> Result<Self, ReadError> {
        let (mut sequence, mut events) = (0, 0);
        let mut acts: FxHashMap<Actor, Vec<Act>> = FxHashMap::default();
        let mut worded: VecDeque<Event> = VecDeque::new();
        loop {
            let page = store.events_after(sequence, PAGE).await?;
            let Some(last) = page.last() else { break };
            sequence = last.sequence;
            events += page.len();
            let table = columns.read();
            for logged in page {
                let (Some(actor), Some(act)) = (logged.event.actor(), signals.act(logged.sequence, &logged.event)) else { continue };
                let Some(item) = table.key_of(&act.item) else { continue };
                // A review is about the item; all other words are those that led to it (API.md).
                let words = (logged.event.kind != EventType::Review).then(|| signals.written(logged.sequence, &logged.event)).flatten();
                if let Some(written) = words {
                    worded.push_back(Event { actor: actor.clone(), item, at_ms: act.at.millis(), text: written.text });
                    if worded.len() > MOST_WORDED {
                        worded.pop_front();
                    }
                }
                // The catalogue's own copy of the id: a million events must not hold a million strings.
                let Some(facts) = table.facts(item) else { continue };
                acts.entry(actor).or_default().push(Act { item: facts.item_id.clone(), ..act });
            }
        }
        let (columns, signals) = (Arc::clone(columns), Arc::clone(signals));
        Ok(compute.run(move || Self::collect(acts, &worded, events, &columns, &signals)).await?)
    }

    fn collect(acts: FxHashMap<Actor, Vec<Act>>, worded: &VecDeque<Event>, events: usize, columns: &Columns, signals: &Signals) -> Self {
        let mut actors: Vec<(Actor, Vec<Act>)> = acts.into_iter().collect();
        actors.sort_unstable_by(|a, b| a.0.cmp(&b.0)); // the result must not depend on a map's order
        let number: FxHashMap<&Actor, u32> = actors.iter().map(|(actor, _)| actor).zip(0..).collect();
        let worded = by_text(worded.iter().filter_map(|event| Some((&*event.text, *number.get(&event.actor)?, event.item, event.at_ms))));
        drop(number);
        let mut interactions = Vec::new();
        let acts: Vec<Vec<Act>> = actors.into_iter().map(|(_, acts)| acts).collect();
        for (actor, acts) in (0u32..).zip(&acts) {
            let first = interactions.len();
            let table = columns.read(); // anew for each: a write that waits for a long look at it makes every request wait
            for (item, opinion) in signals.opinions(acts) {
                let Some(item) = table.key_of(&item) else { continue };
                interactions.push(Interaction { actor, item, at_ms: opinion.at.millis(), weight: opinion.weight });
            }
            interactions[first..].sort_unstable_by_key(|interaction| (interaction.at_ms, interaction.item));
        }
        Self { interactions, worded, acts, events }
    }

    pub(super) fn users(&self) -> usize {
        self.acts.len()
    }

    /// Texts to learn from, and the newest ones to judge by.
    pub(super) fn split(&self) -> (&[Worded], &[Worded]) {
        let kept_back = ((self.worded.len() as f32 * KEPT_BACK) as usize).min(MOST_KEPT_BACK);
        self.worded.split_at(self.worded.len() - kept_back)
    }

    /// What was popular without the acts of these actors on these items; `now` is the clock's.
    pub(super) fn popularity_without(
        &self,
        held_out: &FxHashSet<(u32, ItemKey)>,
        popularity: &Popularity,
        now: Timestamp,
        columns: &Columns,
        signals: &Signals,
    ) -> Arc<Ranking> {
        for (actor, acts) in (0u32..).zip(&self.acts) {
            let table = columns.read(); // anew for each, see above
            let known = acts.iter().filter(|act| table.key_of(&act.item).is_some_and(|item| !held_out.contains(&(actor, item))));
            popularity.count(signals, now, known.map(|act| (act, None)));
        }
        popularity.ranking(&columns.read(), "")
    }
}

/// Groups events by their words, the text that was first written first.
fn by_text<'a>(events: impl Iterator<Item = (&'a str, u32, ItemKey, i64)>) -> Vec<Worded> {
    let mut texts: FxHashMap<&str, Vec<(u32, ItemKey, i64)>> = FxHashMap::default();
    for (text, actor, item, at_ms) in events {
        texts.entry(text).or_default().push((actor, item, at_ms));
    }
    let mut worded: Vec<Worded> = texts
        .into_iter()
        .map(|(text, mut led_to)| {
            led_to.sort_unstable_by_key(|(actor, item, at_ms)| (*at_ms, *actor, *item));
            Worded { text: text.into(), led_to }
        })
        .collect();
    worded.sort_unstable_by(|a, b| (a.led_to[0].2, &a.text).cmp(&(b.led_to[0].2, &b.text)));
    worded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_grouped_whoever_wrote_them_and_the_newest_are_kept_back() {
        let events = [("tent", 2, 7, 30), ("lamp", 1, 5, 20), ("tent", 1, 7, 10), ("rope", 1, 6, 40), ("hat", 3, 9, 50), ("cup", 3, 8, 60)];
        let worded = by_text(events.into_iter().map(|(text, actor, item, at)| (text, actor, ItemKey(item), at)));

        assert_eq!(worded[0], Worded { text: "tent".into(), led_to: vec![(1, ItemKey(7), 10), (2, ItemKey(7), 30)] });
        let examples = Examples { interactions: Vec::new(), worded, acts: Vec::new(), events: 6 };
        let (learn, judge) = examples.split();
        assert_eq!((learn.len(), judge.len(), &*judge[0].text), (4, 1, "cup"));
    }
}
