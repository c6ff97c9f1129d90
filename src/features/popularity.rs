//! What many want: acts in, one number an item out; an exponentially decayed count beside an all-time count.
//!
//! Decay is relative to the newest act of the whole catalogue, so that an old log is not all zeros. Items are known by id
//! here because events may name items that are not in the catalogue yet.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use rustc_hash::FxHashMap;

use crate::domain::{DAY_MS, ItemId, ItemKey, Timestamp};

use super::{
    columns::Table,
    signals::{Act, Signals},
};

/// How much an all-time event counts beside a fresh one: what always sold still sells, what sells now sells more.
const ALL_TIME_SHARE: f64 = 0.1;
/// A ranking that took longer than this to make (some 2,000 items) is not made anew for every click …
const QUICK: Duration = Duration::from_micros(200);
/// … but only after this many times its cost, so that ranking takes 2 % of the time at most.
const REST: u32 = 50;

/// The counters; written by ingest only.
pub struct Popularity {
    half_life_ms: f64,
    counters: Mutex<Counters>,
}

#[derive(Default)]
struct Counters {
    items: FxHashMap<ItemId, Counter>,
    newest_ms: i64,
    changed: bool,
    rest_until: Option<Instant>,
    ranking: Arc<Ranking>,
}

#[derive(Clone, Copy)]
struct Counter {
    all_time: f64,
    decayed: f64,
    as_of_ms: i64,
}

/// Popularity of the items that have any, at one moment.
#[derive(Debug, Default)]
pub struct Ranking {
    by_row: Vec<f32>,
    best_first: Vec<ItemKey>,
}

impl Ranking {
    /// ln(1 + weighted count), 0 for an item nobody cared for.
    pub fn of(&self, key: ItemKey) -> f32 {
        self.by_row.get(key.row()).copied().unwrap_or(0.0)
    }

    /// Items that somebody cared for, most popular first.
    pub fn best_first(&self) -> &[ItemKey] {
        &self.best_first
    }
}

impl Popularity {
    /// `half_life_days`: after which a good event counts half.
    pub fn new(half_life_days: f32) -> Self {
        Self { half_life_ms: f64::from(half_life_days.max(1e-3)) * DAY_MS as f64, counters: Mutex::default() }
    }

    /// Counts acts, in any order of time.
    pub fn count<'a>(&self, signals: &Signals, acts: impl IntoIterator<Item = &'a Act>) {
        let mut counters = self.lock();
        for act in acts {
            let weight = signals.popularity_weight(act);
            if weight > 0.0 {
                counters.count(&act.item, weight, act.at, self.half_life_ms);
            }
        }
    }

    /// The ranking over the catalogue in `columns`; of a large catalogue it may be some milliseconds old.
    pub fn ranking(&self, columns: &Table) -> Arc<Ranking> {
        let mut counters = self.lock();
        let changed = counters.changed || counters.ranking.by_row.len() != columns.rows();
        let begun = Instant::now();
        if changed && counters.rest_until.is_none_or(|end| begun >= end) {
            counters.ranking = Arc::new(counters.rank(columns, self.half_life_ms));
            counters.changed = false;
            let cost = begun.elapsed();
            counters.rest_until = (cost > QUICK).then(|| Instant::now() + REST * cost);
        }
        Arc::clone(&counters.ranking)
    }

    fn lock(&self) -> MutexGuard<'_, Counters> {
        self.counters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is left of a weight after `age_ms`.
fn decay(age_ms: f64, half_life_ms: f64) -> f64 {
    (-age_ms / half_life_ms).exp2()
}

impl Counters {
    fn count(&mut self, item: &ItemId, weight: f64, at: Timestamp, half_life_ms: f64) {
        let at_ms = at.millis();
        self.newest_ms = self.newest_ms.max(at_ms);
        self.changed = true;
        let counter = self.items.entry(item.clone()).or_insert(Counter { all_time: 0.0, decayed: 0.0, as_of_ms: at_ms });
        counter.all_time += weight;
        let gap_ms = (at_ms - counter.as_of_ms) as f64;
        if gap_ms >= 0.0 {
            counter.decayed = counter.decayed * decay(gap_ms, half_life_ms) + weight;
            counter.as_of_ms = at_ms;
        } else {
            counter.decayed += weight * decay(-gap_ms, half_life_ms); // a late event
        }
    }

    fn rank(&self, columns: &Table, half_life_ms: f64) -> Ranking {
        let mut by_row = vec![0.0; columns.rows()];
        let mut best_first = Vec::with_capacity(self.items.len());
        for (item, counter) in &self.items {
            let Some(key) = columns.key_of(item) else { continue };
            let fresh = counter.decayed * decay((self.newest_ms - counter.as_of_ms) as f64, half_life_ms);
            by_row[key.row()] = (fresh + ALL_TIME_SHARE * counter.all_time).ln_1p() as f32;
            best_first.push(key);
        }
        best_first.sort_by(|a, b| by_row[b.row()].total_cmp(&by_row[a.row()]).then(a.cmp(b)));
        Ranking { by_row, best_first }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{EventType, Revision, StoredItem};
    use crate::features::{Columns, FeatureSettings, Preset};

    fn signals() -> Signals {
        Signals::new(&FeatureSettings::of(Preset::Shop)).unwrap()
    }

    fn click(item: &str, day: i64) -> Act {
        Act {
            sequence: day,
            kind: signals().kind(EventType::Click).unwrap(),
            item: ItemId::new(item).unwrap(),
            value: None,
            at: Timestamp::from_millis(day * DAY_MS).unwrap(),
        }
    }

    fn catalogue(names: &[&str]) -> Columns {
        let columns = Columns::default();
        for (row, name) in (0u32..).zip(names) {
            let item = serde_json::from_value(serde_json::json!({"item_id": name, "title": "x"})).unwrap();
            columns.apply(&[StoredItem { key: ItemKey(row), revision: Revision(i64::from(row) + 1), deleted: false, item: Arc::new(item) }]);
        }
        columns
    }

    #[test]
    fn fresh_clicks_beat_as_many_old_ones_and_old_ones_beat_none() {
        let columns = catalogue(&["old", "fresh", "never"]);
        let popularity = Popularity::new(7.0);

        popularity.count(&signals(), &[click("fresh", 700), click("old", 0), click("fresh", 699), click("old", 1), click("unknown", 700)]);

        let ranking = popularity.ranking(&columns.read());
        assert_eq!(ranking.best_first(), [ItemKey(1), ItemKey(0)]);
        assert!(ranking.of(ItemKey(1)) > ranking.of(ItemKey(0)) && ranking.of(ItemKey(0)) > 0.0);
        assert!(ranking.of(ItemKey(2)).abs() < f32::EPSILON && ranking.of(ItemKey(99)).abs() < f32::EPSILON);
    }

    #[test]
    fn the_order_in_which_events_arrive_does_not_matter() {
        let columns = catalogue(&["a"]);
        let events = [click("a", 3), click("a", 1), click("a", 9), click("a", 4)];
        let count = |order: &[usize]| {
            let popularity = Popularity::new(2.0);
            popularity.count(&signals(), order.iter().map(|i| &events[*i]));
            popularity.ranking(&columns.read()).of(ItemKey(0))
        };

        assert!((count(&[0, 1, 2, 3]) - count(&[2, 3, 1, 0])).abs() < 1e-6);
    }

    #[test]
    fn an_item_that_comes_after_its_events_is_ranked_by_them() {
        let columns = catalogue(&["a"]);
        let popularity = Popularity::new(7.0);
        popularity.count(&signals(), &[click("b", 1)]);
        assert!(popularity.ranking(&columns.read()).best_first().is_empty());

        let item = serde_json::from_value(serde_json::json!({"item_id": "b", "title": "x"})).unwrap();
        columns.apply(&[StoredItem { key: ItemKey(1), revision: Revision(9), deleted: false, item: Arc::new(item) }]);

        assert_eq!(popularity.ranking(&columns.read()).best_first(), [ItemKey(1)]);
    }
}
