//! From a log of who did what to the matrices that learners read: actors x items, numbered densely, split by time.

use rustc_hash::{FxHashMap, FxHashSet};

use crate::domain::ItemKey;

/// An actor's newest so many items are learned from: the cost grows with the square, and past it they are a crawler's.
const MOST_ITEMS_AN_ACTOR: usize = 2_000;
/// The newest share of an actor's good events that is held out.
const HELD_OUT: f32 = 0.2;
/// Validation looks at so many actors at most: more take longer and change no choice.
const MOST_CASES: usize = 2_000;

/// One actor did one thing to one item.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interaction {
    /// Any number that is the actor's alone; never published.
    pub actor: u32,
    /// To which item.
    pub item: ItemKey,
    /// When, milliseconds since the epoch. Equal times keep the order in which they are given.
    pub at_ms: i64,
    /// > 0 a yes, by strength; otherwise a no. What is not finite is left out.
    pub weight: f32,
}

/// Histories by actor: oldest first, each item once.
#[derive(Debug, Default)]
pub(super) struct Histories {
    /// A column's item. The most used are first, so that the head of the catalogue is a range.
    pub(super) items: Vec<ItemKey>,
    /// An actor's (column, signal).
    pub(super) actors: Vec<Vec<(u32, f32)>>,
    /// The actors' numbers in the log.
    numbers: Vec<u32>,
}

/// A question with a known answer.
#[derive(Debug)]
pub(super) struct Case {
    /// Who, by the log's number.
    pub(super) actor: u32,
    /// Newest first, as requests fold it in.
    pub(super) history: Vec<(ItemKey, f32)>,
    /// What the actor liked afterwards.
    pub(super) relevant: Vec<ItemKey>,
}

impl Histories {
    /// Collects the log. Several events of one actor on one item become one, at the time of the newest, with their signals added up.
    pub(super) fn collect(interactions: &[Interaction]) -> Self {
        let mut sorted: Vec<&Interaction> = interactions.iter().filter(|event| event.weight.is_finite()).collect();
        sorted.sort_by_key(|event| (event.actor, event.at_ms));
        let mut by_actor: Vec<Vec<(ItemKey, f32)>> = Vec::new();
        let mut numbers = Vec::new();
        for events in sorted.chunk_by(|a, b| a.actor == b.actor) {
            let mut signals: FxHashMap<ItemKey, f32> = FxHashMap::default();
            for event in events {
                *signals.entry(event.item).or_default() += event.weight;
            }
            // From the newest back, so that the newest event of an item decides its place.
            let mut newest_first: Vec<(ItemKey, f32)> =
                events.iter().rev().filter_map(|event| signals.remove_entry(&event.item)).take(MOST_ITEMS_AN_ACTOR).collect();
            newest_first.iter_mut().for_each(|(_, signal)| *signal = signal.clamp(f32::MIN, f32::MAX));
            newest_first.reverse();
            by_actor.push(newest_first);
            numbers.extend(events.first().map(|event| event.actor));
        }
        Self::number(by_actor, numbers)
    }

    fn number(by_actor: Vec<Vec<(ItemKey, f32)>>, numbers: Vec<u32>) -> Self {
        let mut uses: FxHashMap<ItemKey, u32> = FxHashMap::default();
        for (item, signal) in by_actor.iter().flatten() {
            *uses.entry(*item).or_default() += u32::from(*signal > 0.0);
        }
        let mut items: Vec<(ItemKey, u32)> = uses.into_iter().collect();
        items.sort_unstable_by_key(|(item, uses)| (std::cmp::Reverse(*uses), *item));
        let column: FxHashMap<ItemKey, u32> = items.iter().enumerate().map(|(column, (item, _))| (*item, column as u32)).collect();
        let actors = by_actor.into_iter().map(|events| events.into_iter().map(|(item, signal)| (column[&item], signal)).collect()).collect();
        Self { items: items.into_iter().map(|(item, _)| item).collect(), actors, numbers }
    }

    /// Holds out the newest good events of (at most [`MOST_CASES`], evenly chosen) actors: what is left, and the questions. What `asked` names
    /// (by actor and item) is kept back for other questions: it is in neither.
    pub(super) fn hold_out(&self, asked: &FxHashSet<(u32, ItemKey)>) -> (Self, Vec<Case>) {
        let mut actors = self.actors.clone();
        if !asked.is_empty() {
            for (events, number) in actors.iter_mut().zip(&self.numbers) {
                events.retain(|(column, _)| !asked.contains(&(*number, self.items[*column as usize])));
            }
        }
        let able: Vec<usize> = (0..actors.len()).filter(|actor| likes(&actors[*actor]) >= 2).collect();
        let step = able.len().div_ceil(MOST_CASES).max(1);
        let mut cases = Vec::new();
        for actor in able.into_iter().step_by(step) {
            let events = &mut actors[actor];
            let held_out = ((likes(events) as f32 * HELD_OUT).round() as usize).max(1);
            let Some((cut, _)) = events.iter().enumerate().filter(|(_, (_, signal))| *signal > 0.0).nth_back(held_out - 1) else { continue };
            let newer = events.split_off(cut);
            let key = |column: u32| self.items[column as usize];
            cases.push(Case {
                actor: self.numbers[actor],
                history: events.iter().rev().map(|(column, signal)| (key(*column), *signal)).collect(),
                relevant: newer.iter().filter(|(_, signal)| *signal > 0.0).map(|(column, _)| key(*column)).collect(),
            });
        }
        (Self { items: self.items.clone(), actors, numbers: self.numbers.clone() }, cases)
    }

    /// Who liked what.
    pub(super) fn likes(&self) -> Likes {
        let by_actor: Vec<Vec<u32>> =
            self.actors.iter().map(|events| events.iter().filter(|(_, signal)| *signal > 0.0).map(|(column, _)| *column).collect()).collect();
        let mut by_item = vec![Vec::new(); self.items.len()];
        for (actor, columns) in by_actor.iter().enumerate() {
            for column in columns {
                by_item[*column as usize].push(actor as u32);
            }
        }
        Likes { items: self.items.clone(), by_actor, by_item }
    }

    /// Whether a strong yes can be told from a weak one.
    pub(super) fn graded(&self) -> bool {
        let mut strengths = self.actors.iter().flatten().map(|(_, signal)| *signal).filter(|signal| *signal > 0.0);
        let first = strengths.next();
        strengths.any(|signal| Some(signal) != first)
    }
}

fn likes(events: &[(u32, f32)]) -> usize {
    events.iter().filter(|(_, signal)| *signal > 0.0).count()
}

/// The binary matrix of good events, by both sides.
#[derive(Debug)]
pub(super) struct Likes {
    /// A column's item, the most used first.
    pub(super) items: Vec<ItemKey>,
    /// An actor's columns.
    pub(super) by_actor: Vec<Vec<u32>>,
    /// A column's actors, ascending.
    pub(super) by_item: Vec<Vec<u32>>,
}

impl Likes {
    /// Only the items that somebody likes, the most liked first: where likes are held out, their order and who is left must say nothing of those.
    pub(super) fn of_liked_items(&self) -> Self {
        let mut kept: Vec<usize> = (0..self.items.len()).filter(|column| !self.by_item[*column].is_empty()).collect();
        kept.sort_unstable_by_key(|column| (std::cmp::Reverse(self.by_item[*column].len()), self.items[*column]));
        let mut place = vec![0; self.items.len()];
        kept.iter().zip(0u32..).for_each(|(column, new)| place[*column] = new);
        Self {
            items: kept.iter().map(|column| self.items[*column]).collect(),
            by_actor: self.by_actor.iter().map(|columns| columns.iter().map(|column| place[*column as usize]).collect()).collect(),
            by_item: kept.iter().map(|column| self.by_item[*column].clone()).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn did(actor: u32, item: u32, at_ms: i64, weight: f32) -> Interaction {
        Interaction { actor, item: ItemKey(item), at_ms, weight }
    }

    #[test]
    fn repeated_events_become_one_at_the_newest_time() {
        let histories = Histories::collect(&[did(9, 5, 1, 1.0), did(9, 6, 2, 1.0), did(9, 5, 3, 0.5), did(9, 7, 3, -1.0), did(9, 8, 0, f32::NAN)]);

        let keyed: Vec<_> = histories.actors[0].iter().map(|(column, signal)| (histories.items[*column as usize].0, *signal)).collect();

        assert_eq!(keyed, [(6, 1.0), (5, 1.5), (7, -1.0)]);
    }

    #[test]
    fn the_newest_likes_are_held_out_and_dislikes_stay_in_the_history() {
        let log: Vec<_> = (0..10).map(|n| did(1, n, i64::from(n), if n == 7 { -1.0 } else { 1.0 })).chain([did(2, 3, 0, 1.0)]).collect();

        let (left, cases) = Histories::collect(&log).hold_out(&FxHashSet::default());

        assert_eq!(cases.len(), 1, "an actor with a single like has nothing to be asked");
        assert_eq!(cases[0].relevant, [ItemKey(8), ItemKey(9)]);
        assert_eq!(cases[0].history[..2], [(ItemKey(7), -1.0), (ItemKey(6), 1.0)]);
        assert_eq!(left.likes().by_actor.iter().map(Vec::len).sum::<usize>(), 8);
    }

    #[test]
    fn what_is_asked_elsewhere_is_neither_learned_from_nor_asked() {
        let log: Vec<_> = (0..10).map(|n| did(4, n, i64::from(n), 1.0)).collect();

        let (left, cases) = Histories::collect(&log).hold_out(&FxHashSet::from_iter([(4, ItemKey(9)), (4, ItemKey(0)), (5, ItemKey(1))]));

        assert_eq!((cases[0].actor, cases[0].relevant.as_slice()), (4, &[ItemKey(7), ItemKey(8)][..]));
        assert_eq!(left.likes().by_actor[0].len(), 6);
    }

    #[test]
    fn the_most_liked_item_is_the_first_column() {
        let likes = Histories::collect(&[did(1, 9, 0, 1.0), did(2, 9, 0, 1.0), did(1, 4, 0, 1.0), did(2, 4, 0, -1.0), did(3, 4, 0, -1.0)]).likes();

        assert_eq!(likes.items, [ItemKey(9), ItemKey(4)]);
        assert_eq!(likes.by_item, [vec![0, 1], vec![0]]);
    }

    #[test]
    fn a_column_whose_likes_are_all_held_out_did_not_end_the_head() {
        let (items, actors) = ([ItemKey(9), ItemKey(4), ItemKey(7)], [vec![0, 2], vec![2]]);
        let likes = Likes { items: items.into(), by_actor: actors.into(), by_item: vec![vec![0], vec![], vec![0, 1]] };

        let known = likes.of_liked_items();

        assert_eq!(known.items, [ItemKey(7), ItemKey(9)]);
        assert_eq!((known.by_actor, known.by_item), (vec![vec![1, 0], vec![0]], vec![vec![0, 1], vec![0]]));
    }
}
