//! Exponentially decayed counts: (weight, time) in, in any order; one number at a time out. Bounded in items.

use rustc_hash::FxHashMap;

use crate::domain::ItemId;

/// How much an all-time event counts beside a fresh one: what always sold still sells, what sells now sells more.
const ALL_TIME_SHARE: f64 = 0.1;

/// What is left of a weight after `age_ms`.
fn decay(age_ms: f64, half_life_ms: f64) -> f64 {
    (-age_ms / half_life_ms).exp2()
}

/// A sum whose parts are halved with every half-life of age.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Decayed {
    amount: f64,
    as_of_ms: i64,
}

impl Decayed {
    pub(super) fn add(&mut self, weight: f64, at_ms: i64, half_life_ms: f64) {
        if self.is_empty() {
            *self = Self { amount: weight, as_of_ms: at_ms };
            return;
        }
        let gap_ms = (at_ms - self.as_of_ms) as f64;
        if gap_ms >= 0.0 {
            *self = Self { amount: self.amount * decay(gap_ms, half_life_ms) + weight, as_of_ms: at_ms };
        } else {
            self.amount += weight * decay(-gap_ms, half_life_ms); // a late event
        }
    }

    /// Takes what came after `now_ms` for new.
    pub(super) fn set_right(&mut self, now_ms: i64) {
        self.as_of_ms = self.as_of_ms.min(now_ms);
    }

    /// At `now_ms`, which is not before the newest part.
    pub(super) fn at(&self, now_ms: i64, half_life_ms: f64) -> f64 {
        if self.is_empty() { 0.0 } else { self.amount * decay(now_ms.saturating_sub(self.as_of_ms) as f64, half_life_ms) }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.amount <= 0.0
    }
}

/// What is counted of one item.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Counter {
    all_time: f64,
    wanted: Decayed,
    /// How often lists showed it.
    pub(super) shown: Decayed,
    /// How often that led to something good.
    pub(super) answered: Decayed,
    /// Whether lists that were not ours are reported for it.
    pub(super) reported: bool,
}

impl Counter {
    /// What many want: now, and a share of what they always wanted.
    pub(super) fn wanted(&self, now_ms: i64, half_life_ms: f64) -> f64 {
        self.wanted.at(now_ms, half_life_ms) + ALL_TIME_SHARE * self.all_time
    }
}

/// Counters of at most so many items.
#[derive(Debug)]
pub(super) struct Counters {
    items: FxHashMap<ItemId, Counter>,
    most: usize,
    half_life_ms: f64,
}

impl Counters {
    pub(super) fn new(most: usize, half_life_ms: f64) -> Self {
        Self { items: FxHashMap::default(), most, half_life_ms }
    }

    /// The item's counter, made if needed. A full table gives up the least wanted quarter first: they are made up names, or as good as forgotten.
    pub(super) fn of(&mut self, item: &ItemId, now_ms: i64) -> &mut Counter {
        if self.items.len() >= self.most && !self.items.contains_key(item) {
            self.forget_a_quarter(now_ms);
        }
        self.items.entry(item.clone()).or_default()
    }

    pub(super) fn want(&mut self, item: &ItemId, weight: f64, at_ms: i64, now_ms: i64) {
        let half_life_ms = self.half_life_ms;
        let counter = self.of(item, now_ms);
        counter.all_time += weight;
        counter.wanted.add(weight, at_ms, half_life_ms);
    }

    /// Takes what came after `now_ms` for new.
    pub(super) fn set_right(&mut self, now_ms: i64) {
        for counter in self.items.values_mut() {
            [&mut counter.wanted, &mut counter.shown, &mut counter.answered].into_iter().for_each(|sum| sum.set_right(now_ms));
        }
    }

    pub(super) fn get(&self, item: &ItemId) -> Option<&Counter> {
        self.items.get(item)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&ItemId, &Counter)> {
        self.items.iter()
    }

    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    fn forget_a_quarter(&mut self, now_ms: i64) {
        let half_life_ms = self.half_life_ms;
        let mut wanted: Vec<f64> = self.items.values().map(|counter| counter.wanted(now_ms, half_life_ms)).collect();
        let quarter = (wanted.len() / 4).max(1).min(wanted.len() - 1);
        let (below, least, _) = wanted.select_nth_unstable_by(quarter, f64::total_cmp);
        let least = *least;
        let mut equal = quarter - below.iter().filter(|wanted| **wanted < least).count();
        self.items.retain(|_, counter| {
            let wanted = counter.wanted(now_ms, half_life_ms);
            let equal_goes = equal > 0 && wanted <= least && wanted >= least;
            equal -= usize::from(equal_goes);
            wanted >= least && !equal_goes
        });
    }
}

/// The newest so many entries by key; older ones are forgotten.
#[derive(Debug)]
pub(super) struct Recent<V> {
    values: FxHashMap<u64, V>,
    order: std::collections::VecDeque<u64>,
    most: usize,
}

impl<V> Recent<V> {
    pub(super) fn new(most: usize) -> Self {
        Self { values: FxHashMap::default(), order: std::collections::VecDeque::new(), most }
    }

    /// Whether the key is new.
    pub(super) fn insert(&mut self, key: u64, value: V) -> bool {
        if self.values.insert(key, value).is_some() {
            return false;
        }
        self.order.push_back(key);
        if self.order.len() > self.most
            && let Some(oldest) = self.order.pop_front()
        {
            self.values.remove(&oldest);
        }
        true
    }

    pub(super) fn get(&self, key: u64) -> Option<&V> {
        self.values.get(&key)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_count_halves_with_every_half_life() {
        let mut count = Decayed::default();
        count.add(4.0, 100, 10.0);
        count.add(1.0, 120, 10.0); // 4 / 4 + 1
        count.add(8.0, 90, 10.0); // late: 8 / 8 at 120

        assert!((count.at(120, 10.0) - 3.0).abs() < 1e-12);
        assert!((count.at(130, 10.0) - 1.5).abs() < 1e-12);
    }

    #[test]
    fn a_full_table_forgets_the_least_wanted() {
        let mut counters = Counters::new(100, 1.0);
        for n in 0..100 {
            counters.want(&ItemId::new(format!("good-{n}")).unwrap(), if n < 80 { 2.0 } else { 0.1 }, 0, 0);
        }
        for n in 0..1_000 {
            counters.want(&ItemId::new(format!("junk-{n}")).unwrap(), 0.1, 0, 0);
        }

        assert!(counters.len() <= 100);
        let good = (0..80).filter(|n| counters.get(&ItemId::new(format!("good-{n}")).unwrap()).is_some()).count();
        assert_eq!(good, 75, "the first quarter was 20 of little and 5 of much, all later ones junk");
    }

    #[test]
    fn only_the_newest_entries_are_remembered() {
        let mut recent = Recent::new(2);
        assert!(recent.insert(1, 'a') && !recent.insert(1, 'b') && recent.insert(2, 'c') && recent.insert(3, 'd'));

        assert_eq!((recent.get(1), recent.get(2), recent.get(3)), (None, Some(&'c'), Some(&'d')));
    }

    proptest! {
        #[test]
        fn the_order_in_which_events_are_counted_does_not_matter(
            (events, shuffled) in prop::collection::vec((0.01..2.0f64, 0..5_000i64), 1..50).prop_flat_map(|events| (Just(events.clone()), Just(events).prop_shuffle()))
        ) {
            let count = |events: &[(f64, i64)]| {
                let mut count = Decayed::default();
                events.iter().for_each(|(weight, at)| count.add(*weight, *at, 700.0));
                count.at(5_000, 700.0)
            };
            let (a, b) = (count(&events), count(&shuffled));

            prop_assert!((a - b).abs() <= 1e-9 * a, "{} {}", a, b);
        }
    }
}
