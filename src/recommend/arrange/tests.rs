//! Pages by hand and at random: what rules promise holds for every list.

use std::{collections::BTreeSet, sync::Arc};

use proptest::prelude::*;
use rustc_hash::FxHashMap;
use serde_json::{Value as Json, json};

use super::*;
use crate::{
    domain::{Feature, Item, ItemFacts, ItemKey, Rule, RuleDocument, Score, Timestamp},
    recommend::rank::{Candidate, Sources},
};

/// A candidate of category `c{key mod 4}` with tag `even` or `odd`.
pub(super) fn ranked(key: u32, score: f32) -> Ranked {
    with_popularity(key, score, 9.0)
}

fn with_popularity(key: u32, score: f32, popularity: f32) -> Ranked {
    let json = json!({"item_id": format!("i{key}"), "title": "x", "categories": [format!("c{}", key % 4)], "tags": [if key.is_multiple_of(2) { "even" } else { "odd" }]});
    let item: Item = serde_json::from_value(json).unwrap();
    let mut features = [0.0; _];
    features[Feature::Popularity as usize] = popularity;
    let candidate = Candidate { key: ItemKey(key), facts: Arc::new(ItemFacts::from(&item)), sources: Sources::default(), features };
    Ranked { candidate, parts: [0.0; _], boost: 0.0, score: Score::new(score).unwrap() }
}

fn ruling(rules: &[(&str, Json)]) -> Ruling {
    let rule = |(name, action): &(&str, Json)| {
        let mut json = action.clone();
        json["name"] = json!(name);
        let document: RuleDocument = serde_json::from_value(json).unwrap();
        Arc::new(document.check(&|_| None).unwrap())
    };
    let rules: Vec<Arc<Rule>> = rules.iter().map(rule).collect();
    Ruling::of(&rules, &Asked { scenario: "home", now: Timestamp::from_millis(0).unwrap(), category: None, items: &[] })
}

fn falling(keys: impl IntoIterator<Item = u32>) -> Vec<Ranked> {
    keys.into_iter().enumerate().map(|(i, key)| ranked(key, 100.0 - i as f32)).collect()
}

/// How a test wants its pages.
#[derive(Debug, Clone, Copy, Default)]
struct How {
    limit: usize,
    per_category: usize,
    cold: Cold,
    /// Rate and seed.
    exploration: (f32, u64),
}

/// A page after what was shown.
fn filled(list: Vec<Ranked>, ruling: &Ruling, shown: &[ItemKey], how: How) -> Page {
    let places = weigh(list, ruling, &FxHashMap::default());
    let key = |item: &str| ItemKey(item[1..].parse().unwrap());
    let pins = ruling.pins().into_iter().map(|(position, item)| (position as usize, key(item.as_str()))).collect();
    let quotas = Quotas::new(ruling, how.per_category, None);
    let exploration = Exploration::new(how.exploration.0, how.exploration.1);
    fill(places, Slots { shown, limit: how.limit, pins, quotas, cold: how.cold, exploration })
}

/// The same as keys with what they say.
fn page(list: Vec<Ranked>, ruling: &Ruling, shown: &[ItemKey], how: How) -> (Vec<(u32, String)>, bool) {
    let page = filled(list, ruling, shown, how);
    let said = |place: Place| (place.ranked.candidate.key.0, place.arranged.map_or_else(String::new, |why| why.to_string()));
    (page.places.into_iter().map(said).collect(), page.more)
}

fn first(list: Vec<Ranked>, rules: &[(&str, Json)], how: How) -> Vec<(u32, String)> {
    page(list, &ruling(rules), &[], how).0
}

fn keys(page: &[(u32, String)]) -> Vec<u32> {
    page.iter().map(|(key, _)| *key).collect()
}

fn says(page: &[(u32, String)]) -> Vec<&str> {
    page.iter().map(|(_, said)| said.as_str()).collect()
}

#[test]
fn without_rules_the_page_is_the_head_of_the_list() {
    let (found, more) = page(falling(1..=5), &Ruling::default(), &[], How { limit: 3, ..How::default() });

    assert_eq!((keys(&found), says(&found), more), (vec![1, 2, 3], vec![""; 3], true));
    assert!(!page(falling(1..=3), &Ruling::default(), &[], How { limit: 3, ..How::default() }).1);
}

#[test]
fn boosted_and_buried_items_move_and_say_by_which_rule_and_the_others_say_nothing() {
    let rules =
        [("up", json!({"boost": {"filter": {"item_id": "i4"}, "by": 2.5}})), ("down", json!({"bury": {"filter": {"item_id": ["i1", "i5"]}, "by": 1.5}}))];

    let found = first(falling(1..=5), &rules, How { limit: 5, ..How::default() });

    assert_eq!(keys(&found), [4, 2, 1, 3, 5]);
    assert_eq!(says(&found), ["rule:up", "", "rule:down", "", ""], "the last was the last before");
}

#[test]
fn what_the_visit_passed_over_comes_down() {
    let passed_over = [(ItemKey(1), 1.5), (ItemKey(3), 0.1)].into_iter().collect();

    let places = weigh(falling(1..=3), &Ruling::default(), &passed_over);

    let said: Vec<_> = places.into_iter().map(|place| (place.ranked.candidate.key.0, place.arranged)).collect();
    assert_eq!(said, [(2, None), (1, Some(Arranged::Repeated)), (3, None)]);
}

#[test]
fn pins_stand_at_their_places_counted_over_all_pages() {
    let rules = ruling(&[("top", json!({"pin": {"i5": 1, "i9": 3, "i1": 6}}))]);
    let how = How { limit: 4, ..How::default() };

    let (one, _) = page(falling(1..=8), &rules, &[], how);
    let shown: Vec<ItemKey> = keys(&one).into_iter().map(ItemKey).collect();
    let (two, more) = page(falling(1..=8), &rules, &shown, how);

    assert_eq!((keys(&one), says(&one)), (vec![5, 2, 3, 4], vec!["pinned", "", "", ""]), "i9 is no candidate");
    assert_eq!((keys(&two), says(&two), more), (vec![6, 1, 7, 8], vec!["", "pinned", "", ""], false));
}

#[test]
fn pins_beyond_the_end_of_the_list_close_up() {
    let found = first(falling(1..=3), &[("late", json!({"pin": {"i1": 150, "i2": 9}}))], How { limit: 10, ..How::default() });

    assert_eq!(keys(&found), [3, 1, 2]);
}

#[test]
fn quotas_hold_back_and_what_comes_up_says_so() {
    let how = How { limit: 4, per_category: 1, ..How::default() };

    let policy = first(falling([0, 4, 1, 5, 2, 3]), &[], how);
    let rule = first(falling([0, 2, 4, 1, 3]), &[("few", json!({"at_most": {"filter": {"tags": "even"}, "n": 1}}))], How { limit: 4, ..How::default() });

    assert_eq!((keys(&policy), says(&policy)), (vec![0, 1, 2, 3], vec!["", "quota", "quota", "quota"]));
    assert_eq!((keys(&rule), says(&rule)), (vec![0, 1, 3], vec!["", "rule:few", "rule:few"]), "a short list rather than one more");
}

#[test]
fn cold_items_have_their_places_and_nothing_moves_where_there_are_enough_already() {
    let cold = Cold { slots: 2, below: 1.0 };
    let list = |cold_from: u32| (0..12).map(|key| with_popularity(key, 100.0 - key as f32, if key >= cold_from { 0.0 } else { 5.0 })).collect::<Vec<_>>();
    let how = How { limit: 8, cold, ..How::default() };

    let some = first(list(9), &[], how);
    let all = first(list(0), &[], how);
    let none = first(list(12), &[], how);

    assert_eq!(keys(&some), [0, 1, 9, 2, 3, 4, 10, 5]);
    assert_eq!((some[2].1.as_str(), some[6].1.as_str(), some[7].1.as_str()), ("cold", "cold", ""));
    assert_eq!(keys(&all), (0..8).collect::<Vec<_>>());
    assert_eq!(keys(&none), (0..8).collect::<Vec<_>>());
}

#[test]
fn what_is_drawn_comes_as_often_as_its_propensity_says() {
    let (rate, draws) = (0.3, 8_000);
    let mut seen: FxHashMap<(usize, u32), (u32, f32)> = FxHashMap::default();

    for seed in 0..draws {
        let how = How { limit: 3, exploration: (rate, seed), ..How::default() };
        let places = filled(falling(1..=8), &Ruling::default(), &[], how).places;
        for (at, place) in places.iter().enumerate() {
            assert_eq!(place.arranged.is_some(), place.ranked.candidate.key.0 > 3, "who is drawn says so");
            let (count, odds) = seen.entry((at, place.ranked.candidate.key.0)).or_default();
            *count += 1;
            *odds += place.propensity;
        }
    }

    assert_eq!(seen.len(), 3 * 6, "at each place what would stand there, or one of the five below");
    for ((at, key), (count, odds)) in seen {
        let (count, mean) = (f64::from(count), f64::from(odds) / f64::from(count));
        let share = count / f64::from(draws as u32);
        // Further down the odds are those given what stands above, and the shares are not.
        assert!(at > 0 || (share - mean).abs() < 4.0 * (share / f64::from(draws as u32)).sqrt(), "{key} at {at}: {share}, said {mean}");
        let greedy = key as usize == at + 1;
        assert!(if greedy { (mean - 0.7).abs() < 1e-3 } else { (0.059..=0.101).contains(&mean) }, "{key} at {at}: {mean}");
    }
}

#[test]
fn what_rules_cold_places_and_quotas_promise_holds_for_a_list_that_explores() {
    let rules = [
        ("up", json!({"boost": {"filter": {"item_id": "i9"}, "by": 99}})),
        ("down", json!({"bury": {"filter": {"item_id": ["i1", "i2"]}, "by": 99}})),
        ("top", json!({"pin": {"i8": 2, "i7": 6}})),
    ];
    let cold = Cold { slots: 1, below: 1.0 };
    let list = || (1..=20).map(|key| with_popularity(key, 100.0 - key as f32, if key == 6 { 0.0 } else { 5.0 })).collect::<Vec<_>>();
    for seed in 0..200 {
        let how = How { limit: 5, exploration: (1.0, seed), cold, ..How::default() };
        let found = first(list(), &rules, how);

        assert_eq!((found[0].clone(), found[1].clone()), ((9, "rule:up".to_owned()), (8, "pinned".to_owned())));
        assert!(found.iter().all(|(key, _)| ![1, 2, 7].contains(key)), "{found:?}");
        assert!(found.contains(&(6, "cold".to_owned())), "a cold item has its place whatever is drawn: {found:?}");
        assert_eq!(says(&found).iter().filter(|said| **said == "explored").count(), 2, "the other two places: {found:?}");

        // The fourth category alone is left when the others have theirs.
        let quota = How { limit: 4, per_category: 1, exploration: (1.0, seed), ..How::default() };
        let categories: BTreeSet<u32> = first(falling(0..20), &[], quota).into_iter().map(|(key, _)| key % 4).collect();
        assert_eq!(categories.len(), 4);
    }
}

#[test]
fn what_the_text_rejects_is_not_drawn() {
    let rejected = |mut one: Ranked| {
        one.candidate.features[Feature::Rejected as usize] = 1.0;
        one
    };
    for seed in 0..50 {
        let list = falling(1..=8).into_iter().enumerate().map(|(i, one)| if i > 3 { rejected(one) } else { one }).collect();

        let found = first(list, &[], How { limit: 3, exploration: (1.0, seed), ..How::default() });

        assert_eq!(says(&found), ["explored", "", ""], "the fourth comes to the first place, and nothing else may come");
    }
}

#[test]
fn a_pin_of_a_later_page_does_not_come_up_as_a_cold_item() {
    let list = (1..=12).map(|key| with_popularity(key, 100.0 - key as f32, if key > 10 { 0.0 } else { 5.0 })).collect();
    let how = How { limit: 5, cold: Cold { slots: 1, below: 1.0 }, ..How::default() };

    let found = first(list, &[("new", json!({"pin": {"i11": 7}}))], how);

    assert!(found.contains(&(12, "cold".to_owned())) && found.iter().all(|(key, _)| *key != 11), "{found:?}");
}

#[test]
fn where_nothing_is_below_nothing_is_drawn_and_nothing_was_uncertain() {
    let places = filled(falling(1..=3), &Ruling::default(), &[], How { limit: 3, exploration: (1.0, 7), ..How::default() }).places;

    assert!(places.iter().all(|place| place.arranged.is_none() && place.propensity >= 1.0));
}

fn any_how() -> impl Strategy<Value = How> {
    (1..12_usize, 0..4_usize, 0..4_usize, 0.0..=1.0_f32, any::<u64>()).prop_map(|(limit, per_category, slots, rate, seed)| How {
        limit,
        per_category,
        cold: Cold { slots, below: 1.0 },
        exploration: (rate, seed),
    })
}

/// Different keys, each with a popularity.
fn any_list() -> impl Strategy<Value = Vec<(u32, f32)>> {
    let keys = prop::collection::btree_set(0..40_u32, 0..30).prop_map(|keys| keys.into_iter().collect::<Vec<_>>()).prop_shuffle();
    keys.prop_flat_map(|keys| keys.into_iter().map(|key| (Just(key), prop_oneof![Just(0.0_f32), Just(5.0)])).collect::<Vec<_>>())
}

fn any_rules() -> impl Strategy<Value = Vec<Json>> {
    let rule = prop_oneof![
        (0..40_u32, 0.0..30.0_f64).prop_map(|(key, by)| json!({"boost": {"filter": {"item_id": format!("i{key}")}, "by": by}})),
        (0..4_u32, 0.0..30.0_f64).prop_map(|(category, by)| json!({"bury": {"filter": {"categories": format!("c{category}")}, "by": by}})),
        (0..2_usize, 1..4_u32).prop_map(|(tag, n)| json!({"at_most": {"filter": {"tags": if tag == 0 { "even" } else { "odd" }}, "n": n}})),
        prop::collection::btree_map(1..30_u32, 0..40_u32, 1..5).prop_map(
            |pins| json!({"pin": pins.into_iter().map(|(position, key)| (format!("i{key}"), position)).collect::<std::collections::BTreeMap<_, _>>()})
        ),
    ];
    prop::collection::vec(rule, 0..5)
}

proptest! {
    #[test]
    fn pages_show_every_candidate_once_and_keep_what_rules_promise(list in any_list(), rules in any_rules(), how in any_how()) {
        let names: Vec<String> = (0..rules.len()).map(|n| format!("r{n}")).collect();
        let named: Vec<(&str, Json)> = names.iter().map(String::as_str).zip(rules.iter().cloned()).collect();
        let ruling = ruling(&named);
        let ranked = || list.iter().enumerate().map(|(i, (key, popularity))| with_popularity(*key, 100.0 - i as f32, *popularity)).collect::<Vec<_>>();
        let bounds: Vec<(usize, usize)> = rules.iter().filter_map(|rule| {
            let n = rule["at_most"]["n"].as_u64()? as usize;
            Some((usize::from(rule["at_most"]["filter"]["tags"] == "odd"), n))
        }).collect();

        let mut shown: Vec<ItemKey> = Vec::new();
        loop {
            let before = shown.len();
            let (found, more) = page(ranked(), &ruling, &shown, how);
            prop_assert_eq!(&found, &page(ranked(), &ruling, &shown, how).0, "the same again");
            prop_assert!(found.len() <= how.limit);
            for (parity, n) in &bounds {
                prop_assert!(found.iter().filter(|(key, _)| *key as usize % 2 == *parity).count() <= *n);
            }
            for category in 0..4 {
                let pinned = |said: &str| said == "pinned";
                let free = found.iter().filter(|(key, said)| key % 4 == category && !pinned(said)).count();
                prop_assert!(how.per_category == 0 || free <= how.per_category);
            }
            if bounds.is_empty() && found.len() == how.limit {
                for (position, item) in ruling.pins() {
                    let key: u32 = item.as_str()[1..].parse().unwrap();
                    let place = (position as usize).checked_sub(before + 1);
                    let candidate = list.iter().any(|(one, _)| *one == key) && !shown.contains(&ItemKey(key));
                    if let Some(at) = place.filter(|at| candidate && *at < how.limit) {
                        prop_assert_eq!(&found[at], &(key, "pinned".to_owned()));
                    }
                }
            }
            shown.extend(keys(&found).into_iter().map(ItemKey));
            if !more {
                break;
            }
            prop_assert!(shown.len() > before, "every page shows something");
        }
        let all: BTreeSet<ItemKey> = shown.iter().copied().collect();
        prop_assert_eq!(all.len(), shown.len(), "nothing twice");
        prop_assert_eq!(all.len(), list.len(), "and nothing forgotten");
    }
}
