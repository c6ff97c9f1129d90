//! What many want: acts and answers in, one number an item out: overall, for a scenario, and as lists by category.
//!
//! Decay is relative to the newest act of the whole catalogue, so that an old log is not all zeros. Items are known by id
//! here because events may name items that are not in the catalogue yet.
//!
//! A count alone feeds itself: what is shown is clicked, what is clicked is shown. So answers (and `impression` events) are counted as well, and an
//! item that was clicked less often per showing than others counts less, [`LEAST_LIFT`] at least. A scenario's own counts are mixed with those of the
//! whole site as a Dirichlet prior of [`PRIOR_EVENTS`] events (as Zhai & Lafferty 2001 smooth a document's words): a new scenario begins with
//! what is wanted elsewhere.
//!
//! A clock that was ahead has left acts that no later one would come up to for as long as it was ahead. So times more than a day after `now` are
//! taken for `now`, and so are those of the counts, once the clock is set right.

use std::{
    hash::{BuildHasher, RandomState},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use quick_cache::{Weighter, sync::Cache};
use rustc_hash::{FxBuildHasher, FxHashMap};

use crate::domain::{DAY_MS, Exposure, ItemId, ItemKey, RecommendationId, ShownItem, Timestamp};

use super::{
    columns::Table,
    counters::{Counter, Counters, Decayed, Recent},
    signals::{Act, Signals},
};

/// Items that are counted: some 150 bytes each.
const MOST_ITEMS: usize = 500_000;
/// Scenarios that have counts of their own; any further ones share those of the whole site …
const MOST_SCENARIOS: usize = 32;
/// … and the items of one.
const MOST_SCENARIO_ITEMS: usize = 20_000;
/// Answers that are remembered to tell which scenario an event came from: 32 bytes each.
pub const MOST_ANSWERS: usize = 100_000;
/// So many events of its own, and a scenario counts as much as the whole site.
const PRIOR_EVENTS: f64 = 50.0;
/// Showings that an item is taken to have had with the usual rate before its own count.
const PRIOR_SHOWN: f64 = 100.0;
/// With fewer showings, or clicks on them, of all items together, no rate is known.
const FEWEST_SHOWN: f64 = 1_000.0;
const FEWEST_ANSWERED: f64 = 20.0;
/// How far an item's rate may lower or raise its count.
const LEAST_LIFT: f64 = 0.5;
const MOST_LIFT: f64 = 2.0;
/// A ranking that took longer than this to make (some 2,000 items) is not made anew for every click …
const QUICK: Duration = Duration::from_micros(200);
/// … but only after this many times its cost, so that ranking takes 2 % of the time at most.
const REST: u32 = 50;
/// Showings alone change a ranking slowly.
const SHOWN_REST: Duration = Duration::from_secs(10);
/// Memory for rankings that cursors name.
const KEPT_BYTES: u64 = 32_000_000;
/// Large rankings are made so seldom that the kept ones reach back this far.
const KEPT_FOR: Duration = Duration::from_secs(300);

/// The counters; written by ingest only.
pub struct Popularity {
    half_life_ms: f64,
    /// Whether a ranking may be some seconds old.
    rests: bool,
    state: Mutex<State>,
    kept: Cache<u64, Arc<Ranking>, RankingWeight>,
    names: RandomState,
}

struct State {
    all: Counters,
    scenarios: Vec<Scenario>,
    /// The scenarios of answers that were given, by the hash of their name; `None` where there are too many scenarios.
    answers: Recent<Option<u16>>,
    /// Items of answers that something good came of, each once.
    answered: Recent<()>,
    shown: Decayed,
    answered_of_shown: Decayed,
    /// Of all acts that want something …
    newest_ms: i64,
    /// … and of showings and what came of them: an old log is loaded with answers of today.
    newest_shown_ms: i64,
    /// How often counts of wants changed.
    changes: u64,
    /// How often counts of showings changed.
    showings: u64,
    rankings: u64,
    made: Made,
}

struct Scenario {
    name: Box<str>,
    counters: Counters,
    wanted: Decayed,
    made: Made,
}

/// A ranking and what it was made of.
#[derive(Default)]
struct Made {
    ranking: Arc<Ranking>,
    changes: u64,
    showings: u64,
    at: Option<Instant>,
    rest: Duration,
}

/// Popularity of the items that have any, at one moment.
#[derive(Debug, Default)]
pub struct Ranking {
    id: u64,
    by_row: Vec<f32>,
    best_first: Vec<ItemKey>,
    by_category: FxHashMap<Box<str>, Vec<ItemKey>>,
}

#[derive(Clone)]
struct RankingWeight;

impl Weighter<u64, Arc<Ranking>> for RankingWeight {
    fn weight(&self, _: &u64, ranking: &Arc<Ranking>) -> u64 {
        ranking.bytes()
    }
}

impl Ranking {
    /// Names it for a cursor; unique to the process.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// ln(1 + weighted count), 0 for an item nobody cared for.
    pub fn of(&self, key: ItemKey) -> f32 {
        self.by_row.get(key.row()).copied().unwrap_or(0.0)
    }

    /// Items that somebody cared for, most popular first.
    pub fn best_first(&self) -> &[ItemKey] {
        &self.best_first
    }

    /// Those of one category.
    pub fn best_of(&self, category: &str) -> &[ItemKey] {
        self.by_category.get(category).map_or(&[], Vec::as_slice)
    }

    fn bytes(&self) -> u64 {
        let categories: usize = self.by_category.values().map(|items| 64 + 4 * items.len()).sum();
        (256 + 4 * self.by_row.len() + 4 * self.best_first.len() + categories) as u64
    }
}

impl Popularity {
    /// `half_life_days`: after which a good event counts half.
    pub fn new(half_life_days: f32) -> Self {
        let half_life_ms = f64::from(half_life_days.max(1e-3)) * DAY_MS as f64;
        let state = State {
            all: Counters::new(MOST_ITEMS, half_life_ms),
            scenarios: Vec::new(),
            answers: Recent::new(MOST_ANSWERS),
            answered: Recent::new(MOST_ANSWERS),
            shown: Decayed::default(),
            answered_of_shown: Decayed::default(),
            newest_ms: i64::MIN,
            newest_shown_ms: i64::MIN,
            changes: 0,
            showings: 0,
            rankings: 0,
            made: Made::default(),
        };
        let kept = Cache::with_weighter(1_000, KEPT_BYTES, RankingWeight);
        Self { half_life_ms, rests: true, state: Mutex::new(state), kept, names: RandomState::new() }
    }

    /// With rankings that are never older than the counts, whatever that costs: a replay must not depend on the clock.
    #[must_use]
    pub fn always_current(self) -> Self {
        Self { rests: false, ..self }
    }

    /// Counts acts, each with the answer that it followed from, in any order of time; `now` is the clock's.
    pub fn count<'a>(&self, signals: &Signals, now: Timestamp, acts: impl IntoIterator<Item = (&'a Act, Option<&'a RecommendationId>)>) {
        let mut state = self.lock();
        state.set_right(now.millis());
        for (act, answer) in acts {
            let at_ms = act.at.believed(now).millis();
            if signals.is_impression(act.kind) {
                state.show(&act.item, at_ms, self.half_life_ms).reported = true;
            }
            let weight = signals.popularity_weight(act);
            if weight > 0.0 {
                state.want(&act.item, weight, at_ms, answer, self.half_life_ms);
            }
        }
    }

    /// Counts what an answer showed; `now` is the clock's.
    pub fn show(&self, exposure: &Exposure, now: Timestamp) {
        let mut state = self.lock();
        state.set_right(now.millis());
        let scenario = state.scenario(&exposure.scenario, self.half_life_ms);
        if state.answers.insert(hash(&exposure.recommendation_id), scenario) {
            for ShownItem { item_id, .. } in &exposure.items {
                state.show(item_id, exposure.at.believed(now).millis(), self.half_life_ms);
            }
        }
    }

    /// The ranking over the catalogue in `columns` for a scenario; of a large catalogue it may be some seconds old.
    pub fn ranking(&self, columns: &Table, scenario: &str) -> Arc<Ranking> {
        let mut state = self.lock();
        let now = Instant::now();
        let own = state.scenarios.iter().position(|one| &*one.name == scenario && !one.wanted.is_empty());
        let made = own.map_or(&state.made, |own| &state.scenarios[own].made);
        if made.is_current(&state, columns, now, self.rests) {
            return Arc::clone(&made.ranking);
        }
        state.rankings += 1;
        let id = self.names.hash_one(state.rankings);
        let ranking = Arc::new(state.rank(columns, own, id, self.half_life_ms));
        let cost = now.elapsed();
        let share = ranking.bytes() as f64 / KEPT_BYTES as f64;
        let rest = if cost > QUICK { (REST * cost).max(KEPT_FOR.mul_f64(share.min(1.0))) } else { Duration::ZERO };
        let made = Made { ranking: Arc::clone(&ranking), changes: state.changes, showings: state.showings, at: Some(now), rest };
        match own {
            Some(own) => state.scenarios[own].made = made,
            None => state.made = made,
        }
        ranking
    }

    /// Remembers a ranking that a cursor names. Bounded: old ones are forgotten, and a restart forgets all.
    pub fn keep(&self, ranking: &Arc<Ranking>) {
        if self.kept.peek(&ranking.id).is_none() {
            self.kept.insert(ranking.id, Arc::clone(ranking));
        }
    }

    /// A ranking that a cursor named, while it is remembered.
    pub fn kept(&self, id: u64) -> Option<Arc<Ranking>> {
        self.kept.get(&id)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn hash(answer: &RecommendationId) -> u64 {
    FxBuildHasher.hash_one(answer)
}

impl Made {
    fn is_current(&self, state: &State, columns: &Table, now: Instant, rests: bool) -> bool {
        let Some(at) = self.at else { return false };
        let age = if rests { now.duration_since(at) } else { Duration::MAX };
        let wants_changed = self.changes != state.changes || self.ranking.by_row.len() != columns.rows();
        let rest = if wants_changed { self.rest } else { self.rest.max(SHOWN_REST) };
        age < rest || !(wants_changed || self.showings != state.showings)
    }
}

impl State {
    /// After a clock that was ahead.
    fn set_right(&mut self, now_ms: i64) {
        if self.newest_ms.max(self.newest_shown_ms) <= now_ms.saturating_add(DAY_MS) {
            return;
        }
        self.newest_ms = self.newest_ms.min(now_ms);
        self.newest_shown_ms = self.newest_shown_ms.min(now_ms);
        self.changes += 1;
        [&mut self.shown, &mut self.answered_of_shown].into_iter().for_each(|sum| sum.set_right(now_ms));
        self.all.set_right(now_ms);
        for scenario in &mut self.scenarios {
            scenario.counters.set_right(now_ms);
            scenario.wanted.set_right(now_ms);
        }
    }

    fn want(&mut self, item: &ItemId, weight: f64, at_ms: i64, answer: Option<&RecommendationId>, half_life_ms: f64) {
        self.newest_ms = self.newest_ms.max(at_ms);
        self.changes += 1;
        self.all.want(item, weight, at_ms, self.newest_ms);
        let shown = answer.and_then(|answer| self.answers.get(hash(answer)).copied());
        if let Some(scenario) = shown.flatten().and_then(|number| self.scenarios.get_mut(usize::from(number))) {
            scenario.counters.want(item, weight, at_ms, self.newest_ms);
            scenario.wanted.add(weight, at_ms, half_life_ms);
        }
        let counter = self.all.of(item, self.newest_ms);
        // A showing is answered once, whatever is done with the item then; without an answer's name, where somebody reports the showings.
        let counts = match answer {
            Some(answer) => shown.is_some() && self.answered.insert(FxBuildHasher.hash_one((answer, item)), ()),
            None => counter.reported,
        };
        if counts {
            self.newest_shown_ms = self.newest_shown_ms.max(at_ms);
            counter.answered.add(1.0, at_ms, half_life_ms);
            self.answered_of_shown.add(1.0, at_ms, half_life_ms);
        }
    }

    fn show(&mut self, item: &ItemId, at_ms: i64, half_life_ms: f64) -> &mut Counter {
        self.newest_shown_ms = self.newest_shown_ms.max(at_ms);
        self.showings += 1;
        self.shown.add(1.0, at_ms, half_life_ms);
        let counter = self.all.of(item, self.newest_ms);
        counter.shown.add(1.0, at_ms, half_life_ms);
        counter
    }

    /// The number of a scenario; `None` when there are too many.
    fn scenario(&mut self, name: &str, half_life_ms: f64) -> Option<u16> {
        if let Some(number) = self.scenarios.iter().position(|one| &*one.name == name) {
            return Some(number as u16);
        }
        if self.scenarios.len() == MOST_SCENARIOS {
            return None;
        }
        let counters = Counters::new(MOST_SCENARIO_ITEMS, half_life_ms);
        self.scenarios.push(Scenario { name: name.into(), counters, wanted: Decayed::default(), made: Made::default() });
        Some(self.scenarios.len() as u16 - 1)
    }

    /// What an item's count is multiplied by: its own rate against the usual one, smoothed. 1 while no rate is known.
    fn lift(&self, counter: &Counter, usual: Option<f64>, half_life_ms: f64) -> f64 {
        let Some(usual) = usual else { return 1.0 };
        let shown = counter.shown.at(self.newest_shown_ms, half_life_ms);
        let answered = counter.answered.at(self.newest_shown_ms, half_life_ms).min(shown);
        let rate = (answered + PRIOR_SHOWN * usual) / (shown + PRIOR_SHOWN);
        (rate / usual).clamp(LEAST_LIFT, MOST_LIFT)
    }

    /// How many showings of all led to something good.
    fn usual_rate(&self, half_life_ms: f64) -> Option<f64> {
        let shown = self.shown.at(self.newest_shown_ms, half_life_ms);
        let answered = self.answered_of_shown.at(self.newest_shown_ms, half_life_ms).min(shown);
        (shown >= FEWEST_SHOWN && answered >= FEWEST_ANSWERED).then(|| answered / shown)
    }

    fn rank(&self, columns: &Table, scenario: Option<usize>, id: u64, half_life_ms: f64) -> Ranking {
        let usual = self.usual_rate(half_life_ms);
        let wanted = |counter: &Counter| counter.wanted(self.newest_ms, half_life_ms);
        // A map's order is arbitrary, and sums of floats depend on it; the last bits of these two do not matter beside their counts.
        let own = scenario.map(|number| &self.scenarios[number].counters);
        let of_all: f64 = own.map_or(0.0, |_| self.all.iter().map(|(_, counter)| wanted(counter)).sum());
        let of_own: f64 = own.map_or(0.0, |own| own.iter().map(|(_, counter)| wanted(counter)).sum());

        let mut by_row = vec![0.0; columns.rows()];
        let mut best_first = Vec::with_capacity(self.all.len());
        for (item, counter) in self.all.iter() {
            let count = wanted(counter);
            let Some(key) = columns.key_of(item).filter(|_| count > 0.0) else { continue };
            let count = match own {
                Some(own) => (of_all * own.get(item).map_or(0.0, wanted) + PRIOR_EVENTS * count) / (of_own + PRIOR_EVENTS),
                None => count,
            };
            by_row[key.row()] = (self.lift(counter, usual, half_life_ms) * count).ln_1p() as f32;
            best_first.push(key);
        }
        best_first.sort_by(|a, b| by_row[b.row()].total_cmp(&by_row[a.row()]).then(a.cmp(b)));
        let mut by_category: FxHashMap<Box<str>, Vec<ItemKey>> = FxHashMap::default();
        for key in &best_first {
            for category in columns.facts(*key).iter().flat_map(|facts| &facts.categories) {
                match by_category.get_mut(category.as_str()) {
                    Some(items) => items.push(*key),
                    None => {
                        by_category.insert(category.as_str().into(), vec![*key]);
                    }
                }
            }
        }
        Ranking { id, by_row, best_first, by_category }
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

    /// After all that is counted here.
    fn far() -> Timestamp {
        Timestamp::from_millis(10_000 * DAY_MS).unwrap()
    }

    fn act(kind: EventType, item: &str, day: i64) -> Act {
        let kind = signals().kind(kind).unwrap();
        Act { sequence: day, kind, item: ItemId::new(item).unwrap(), value: None, at: Timestamp::from_millis(day * DAY_MS).unwrap() }
    }

    fn click(item: &str, day: i64) -> Act {
        act(EventType::Click, item, day)
    }

    fn count(popularity: &Popularity, acts: &[Act]) {
        popularity.count(&signals(), far(), acts.iter().map(|act| (act, None)));
    }

    fn answer(number: usize) -> RecommendationId {
        RecommendationId::new(format!("r{number}")).unwrap()
    }

    fn shown(number: usize, scenario: &str, items: &[&str]) -> Exposure {
        let items = items.iter().map(|item| ShownItem::certain(ItemId::new(item).unwrap(), Default::default())).collect();
        let at = Timestamp::from_millis(800 * DAY_MS).unwrap();
        Exposure { recommendation_id: answer(number), at, user_id: None, session_id: None, scenario: scenario.into(), items }
    }

    fn catalogue(names: &[&str]) -> Columns {
        let columns = Columns::default();
        for (row, name) in (0u32..).zip(names) {
            let item = serde_json::from_value(serde_json::json!({"item_id": name, "title": "x", "categories": [&name[..1]]})).unwrap();
            columns.apply(&[StoredItem { key: ItemKey(row), revision: Revision(i64::from(row) + 1), deleted: false, item: Arc::new(item) }]);
        }
        columns
    }

    #[test]
    fn fresh_clicks_beat_as_many_old_ones_and_old_ones_beat_none() {
        let columns = catalogue(&["old", "fresh", "never"]);
        let popularity = Popularity::new(7.0);

        count(&popularity, &[click("fresh", 700), click("old", 0), click("fresh", 699), click("old", 1), click("unknown", 700)]);

        let ranking = popularity.ranking(&columns.read(), "home");
        assert_eq!(ranking.best_first(), [ItemKey(1), ItemKey(0)]);
        // Two clicks of .4: one at full, one after a day of seven; and a tenth of both for all time.
        let fresh = 0.4 + 0.4 * (-1.0f64 / 7.0).exp2() + 0.1 * 0.8;
        assert!((f64::from(ranking.of(ItemKey(1))) - fresh.ln_1p()).abs() < 1e-6 && (f64::from(ranking.of(ItemKey(0))) - 0.08f64.ln_1p()).abs() < 1e-6);
        assert!(ranking.of(ItemKey(2)).abs() < f32::EPSILON && ranking.of(ItemKey(99)).abs() < f32::EPSILON);
    }

    #[test]
    fn after_a_clock_that_was_a_year_ahead_what_is_wanted_now_leads_again() {
        let columns = catalogue(&["before", "ahead", "now"]);
        let (popularity, right) = (Popularity::new(7.0), |day: i64| Timestamp::from_millis(day * DAY_MS).unwrap());
        let counted = |popularity: &Popularity, day, clicks: Vec<Act>| popularity.count(&signals(), right(day), clicks.iter().map(|act| (act, None)));
        counted(&popularity, 700, vec![click("before", 700); 20]);
        counted(&popularity, 1_065, vec![click("ahead", 1_065); 10]);

        counted(&popularity, 701, vec![click("now", 701); 15]);

        let ranking = popularity.ranking(&columns.read(), "home");
        assert_eq!(ranking.best_first(), [ItemKey(0), ItemKey(2), ItemKey(1)]);
        // As if all had been clicked when the clock was set right, but for what was a day old.
        let of = |clicks: f64, age_days: f64| (0.4 * clicks * ((-age_days / 7.0).exp2() + 0.1)).ln_1p();
        for (key, wanted) in [of(20.0, 1.0), of(10.0, 0.0), of(15.0, 0.0)].into_iter().enumerate() {
            assert!((f64::from(ranking.of(ItemKey(key as u32))) - wanted).abs() < 1e-6, "{key}");
        }
        // And so it is read from the log after a restart.
        let again = Popularity::new(7.0);
        counted(&again, 701, [vec![click("before", 700); 20], vec![click("ahead", 1_065); 10], vec![click("now", 701); 15]].concat());
        assert_eq!(again.ranking(&columns.read(), "home").best_first(), ranking.best_first());
    }

    #[test]
    fn a_category_has_its_own_list_in_the_same_order() {
        let columns = catalogue(&["a1", "b1", "a2", "a3"]);
        let popularity = Popularity::new(7.0);

        count(&popularity, &[click("a2", 1), click("a2", 1), click("b1", 1), click("b1", 1), click("b1", 1), click("a1", 1)]);

        let ranking = popularity.ranking(&columns.read(), "home");
        assert_eq!((ranking.best_of("a"), ranking.best_of("c")), ([ItemKey(2), ItemKey(0)].as_slice(), [].as_slice()));
    }

    #[test]
    fn a_scenario_begins_with_what_is_wanted_everywhere_and_comes_to_its_own() {
        let columns = catalogue(&["everywhere", "cart"]);
        let popularity = Popularity::new(7.0);
        count(&popularity, &vec![click("everywhere", 800); 100]);
        popularity.show(&shown(1, "cart", &["everywhere", "cart"]), far());
        let follow = |acts: &[Act], number: usize| {
            let id = answer(number);
            popularity.count(&signals(), far(), acts.iter().map(|act| (act, Some(&id))));
        };
        let best = |scenario: &str| popularity.ranking(&columns.read(), scenario).best_first()[0];

        follow(&[click("cart", 800)], 1);
        assert_eq!((best("cart"), best("home")), (ItemKey(0), ItemKey(0)), "one click does not turn a scenario over");
        follow(&vec![click("cart", 800); 90], 1);
        assert_eq!((best("cart"), best("home")), (ItemKey(1), ItemKey(0)));
        follow(&vec![click("cart", 800); 5], 77); // no answer that is known
        assert_eq!(best("home"), ItemKey(0));
    }

    #[test]
    fn of_two_items_with_as_many_clicks_the_one_that_was_shown_less_is_more_popular() {
        let columns = catalogue(&["pushed", "liked"]);
        let popularity = Popularity::new(7.0);
        let home = |popularity: &Popularity| popularity.ranking(&columns.read(), "nowhere");
        for number in 0..1_000 {
            let items: &[&str] = if number < 100 { &["pushed", "liked"] } else { &["pushed"] };
            popularity.show(&shown(number, "home", items), far());
        }
        for number in 0..30 {
            let (pushed, liked, id) = (click("pushed", 800), click("liked", 800), answer(number));
            popularity.count(&signals(), far(), [(&pushed, Some(&id)), (&pushed, Some(&id)), (&liked, Some(&id)), (&liked, Some(&id))]);
        }

        let ranking = home(&popularity);

        // 60 clicks each: .4 each, a tenth more for all time. The usual rate is 60 of 1,100; pushed has 30 of 1,000, liked 30 of 100.
        let (count, usual) = (60.0 * 0.4 * 1.1, 60.0 / 1_100.0);
        let lift = |shown: f64| ((30.0 + 100.0 * usual) / (shown + 100.0) / usual).clamp(0.5, 2.0);
        for (row, shown) in [(0, 1_000.0), (1, 100.0)] {
            assert!((f64::from(ranking.of(ItemKey(row))) - (count * lift(shown)).ln_1p()).abs() < 1e-5, "{row}");
        }
        assert!(lift(1_000.0) < 0.7 && lift(100.0) > 1.9);
    }

    #[test]
    fn reported_impressions_count_as_showings_and_old_logs_keep_their_decay() {
        let columns = catalogue(&["a", "b"]);
        let popularity = Popularity::new(7.0);
        count(&popularity, &[click("a", 10), click("b", 3)]);
        let before = popularity.ranking(&columns.read(), "home").of(ItemKey(0));

        popularity.show(&shown(1, "home", &["a", "b"]), far()); // 790 days later
        count(&popularity, &vec![act(EventType::Impression, "a", 800); 2_000]);
        count(&popularity, &[click("b", 10)]);
        let after = popularity.ranking(&columns.read(), "home").of(ItemKey(0));
        assert!((before - after).abs() < 1e-6, "no rate is known yet, and nothing is older than it was");

        count(&popularity, &vec![click("b", 10); 3]);
        assert!(popularity.lock().all.get(&ItemId::new("b").unwrap()).unwrap().answered.is_empty(), "nobody reports the showings of b");
        count(&popularity, &[click("a", 10)]);
        assert!(!popularity.lock().all.get(&ItemId::new("a").unwrap()).unwrap().answered.is_empty());
    }

    #[test]
    fn a_ranking_that_a_cursor_named_stays_as_it_was() {
        let columns = catalogue(&["a", "b"]);
        let popularity = Popularity::new(7.0);
        count(&popularity, &[click("a", 1)]);
        let first = popularity.ranking(&columns.read(), "home");
        popularity.keep(&first);

        count(&popularity, &[click("b", 1), click("b", 1)]);

        assert_eq!(popularity.ranking(&columns.read(), "home").best_first()[0], ItemKey(1));
        assert_eq!(popularity.kept(first.id()).unwrap().best_first(), [ItemKey(0)]);
        assert!(popularity.kept(first.id().wrapping_add(1)).is_none());
    }

    #[test]
    fn an_item_that_comes_after_its_events_is_ranked_by_them() {
        let columns = catalogue(&["a"]);
        let popularity = Popularity::new(7.0);
        count(&popularity, &[click("b", 1)]);
        assert!(popularity.ranking(&columns.read(), "home").best_first().is_empty());

        let item = serde_json::from_value(serde_json::json!({"item_id": "b", "title": "x"})).unwrap();
        columns.apply(&[StoredItem { key: ItemKey(1), revision: Revision(9), deleted: false, item: Arc::new(item) }]);

        assert_eq!(popularity.ranking(&columns.read(), "home").best_first(), [ItemKey(1)]);
    }
}
