//! The ranking measures against PyPI `ranx` (figures made by `golden/make_ranking.py`), and what must hold for any list.

use std::collections::{HashMap, HashSet};

use proptest::prelude::*;
use serde::Deserialize;

use super::ranking::*;

#[derive(Deserialize)]
struct Case {
    ranked: Vec<String>,
    gains: HashMap<String, f64>,
    measures: HashMap<String, f64>,
}

#[test]
fn measures_agree_with_ranx() {
    let cases: Vec<Case> = serde_json::from_str(include_str!("golden/ranking.json")).unwrap();
    assert!(cases.iter().any(|case| case.gains.is_empty()) && cases.iter().any(|case| case.ranked.len() == 1));

    for (number, Case { ranked, gains, measures }) in cases.iter().enumerate() {
        let relevant: HashSet<String> = gains.keys().cloned().collect();
        let binary = gains.values().all(|gain| *gain < 1.5);
        for (name, expected) in measures {
            let (measure, k) = name.split_once('@').unwrap();
            let k: usize = k.parse().unwrap();
            let found = match measure {
                "ndcg" => graded_ndcg_at(k, ranked, gains),
                "recall" => recall_at(k, ranked, &relevant),
                "mrr" => reciprocal_rank_at(k, ranked, &relevant),
                "hit_rate" => hit_rate_at(k, ranked, &relevant),
                "map" => average_precision_at(k, ranked, &relevant),
                other => panic!("{other}"),
            };
            assert!((found - expected).abs() < 1e-6, "case {number}, {name}: {found}, ranx says {expected}");
            if measure == "ndcg" && binary {
                assert!((ndcg_at(k, ranked, &relevant) - expected).abs() < 1e-6, "case {number}, {name}");
            }
        }
    }
}

type Measure = fn(usize, &[u8], &HashSet<u8>) -> f64;
const ALL: [Measure; 5] = [ndcg_at, recall_at, hit_rate_at, reciprocal_rank_at, average_precision_at];

fn list() -> impl Strategy<Value = (Vec<u8>, HashSet<u8>)> {
    (Just((0..40u8).collect::<Vec<u8>>()).prop_shuffle(), 0..40usize, prop::collection::hash_set(0..40u8, 0..12)).prop_map(|(mut ranked, length, relevant)| {
        ranked.truncate(length);
        (ranked, relevant)
    })
}

proptest! {
    #[test]
    fn measures_are_0_to_1((ranked, relevant) in list(), k in 0..50usize) {
        for measure in ALL {
            let value = measure(k, &ranked, &relevant);
            prop_assert!((0.0..=1.0 + 1e-12).contains(&value), "{value}");
        }
    }

    #[test]
    fn moving_a_relevant_item_up_never_lowers_a_measure((ranked, relevant) in list(), place in 0..40usize, k in 1..50usize) {
        let Some(place) = (1..ranked.len()).find(|at| *at >= place && relevant.contains(&ranked[*at]) && !relevant.contains(&ranked[*at - 1])) else { return Ok(()) };
        let mut better = ranked.clone();
        better.swap(place - 1, place);

        for measure in ALL {
            prop_assert!(measure(k, &better, &relevant) >= measure(k, &ranked, &relevant) - 1e-12);
        }
    }

    #[test]
    fn a_longer_look_never_lowers_recall_hits_precision_or_reciprocal_rank((ranked, relevant) in list(), k in 0..50usize) {
        for measure in &ALL[1..] {
            prop_assert!(measure(k + 1, &ranked, &relevant) >= measure(k, &ranked, &relevant));
        }
    }

    #[test]
    fn names_of_items_and_what_stands_below_the_cut_do_not_matter((ranked, relevant) in list(), k in 0..40usize) {
        let renamed: Vec<u8> = ranked.iter().map(|item| 200 - item).collect();
        let renamed_relevant: HashSet<u8> = relevant.iter().map(|item| 200 - item).collect();
        let mut other_end = ranked.clone();
        other_end[k.min(ranked.len())..].reverse();

        for measure in ALL {
            let value = measure(k, &ranked, &relevant);
            prop_assert!((measure(k, &renamed, &renamed_relevant) - value).abs() < 1e-12);
            prop_assert!((measure(k, &other_end, &relevant) - value).abs() < 1e-12);
        }
    }

    #[test]
    fn equal_gains_grade_nothing((ranked, relevant) in list(), k in 0..50usize, gain in 0.1f64..9.0) {
        let gains: HashMap<u8, f64> = relevant.iter().map(|item| (*item, gain)).collect();

        prop_assert!((graded_ndcg_at(k, &ranked, &gains) - ndcg_at(k, &ranked, &relevant)).abs() < 1e-12);
    }
}
