//! How good one ranked list is: `ranked` items from the top, what is relevant as a set or (graded) with gains -> 0 (useless) to 1 (perfect).
//!
//! Relevance as in Manning, Raghavan & Schütze 2008, chapter 8, and `trec_eval`; NDCG discounts rank r (from 1)
//! by log2(r + 1) (Järvelin & Kekäläinen 2002) and its ideal list holds the min(k, number of relevant) largest gains. With nothing
//! relevant every measure is 0: such lists should not be averaged. An item that is ranked twice counts once. The figures agree with PyPI `ranx`
//! (`golden/`).

use std::{
    collections::{HashMap, HashSet},
    hash::Hash,
};

/// Normalised discounted cumulative gain of the first `k` items, each relevant one with a gain of 1.
pub fn ndcg_at<T: Eq + Hash>(k: usize, ranked: &[T], relevant: &HashSet<T>) -> f64 {
    let gain = discounted(hit_ranks(ranked, |item| relevant.contains(item)).take_while(|rank| *rank < k).map(|rank| (rank, 1.0)));
    let ideal = discounted((0..k.min(relevant.len())).map(|rank| (rank, 1.0)));
    if ideal > 0.0 { gain / ideal } else { 0.0 }
}

/// As [`ndcg_at`], with the gain of each relevant item; a gain that is not above 0 is none.
pub fn graded_ndcg_at<T: Eq + Hash>(k: usize, ranked: &[T], gains: &HashMap<T, f64>) -> f64 {
    let gain_of = |item: &T| gains.get(item).copied().filter(|gain| *gain > 0.0);
    let gain =
        discounted(hit_ranks(ranked, |item| gain_of(item).is_some()).take_while(|rank| *rank < k).filter_map(|rank| Some((rank, gain_of(&ranked[rank])?))));
    let mut best: Vec<f64> = gains.values().copied().filter(|gain| *gain > 0.0).collect();
    best.sort_unstable_by(|a, b| b.total_cmp(a));
    let ideal = discounted(best.into_iter().take(k).enumerate());
    if ideal > 0.0 { gain / ideal } else { 0.0 }
}

/// The share of the relevant items among the first `k`.
pub fn recall_at<T: Eq + Hash>(k: usize, ranked: &[T], relevant: &HashSet<T>) -> f64 {
    let hits = hit_ranks(ranked, |item| relevant.contains(item)).take_while(|rank| *rank < k).count();
    if relevant.is_empty() { 0.0 } else { hits as f64 / relevant.len() as f64 }
}

/// 1 where one of the first `k` items is relevant, else 0.
pub fn hit_rate_at<T: Eq + Hash>(k: usize, ranked: &[T], relevant: &HashSet<T>) -> f64 {
    if first_hit(ranked, relevant).is_some_and(|rank| rank < k) { 1.0 } else { 0.0 }
}

/// One over the rank of the first relevant item (its mean over lists is the MRR).
pub fn reciprocal_rank<T: Eq + Hash>(ranked: &[T], relevant: &HashSet<T>) -> f64 {
    reciprocal_rank_at(usize::MAX, ranked, relevant)
}

/// As [`reciprocal_rank`], 0 where it stands after the first `k`.
pub fn reciprocal_rank_at<T: Eq + Hash>(k: usize, ranked: &[T], relevant: &HashSet<T>) -> f64 {
    first_hit(ranked, relevant).filter(|rank| *rank < k).map_or(0.0, |rank| 1.0 / (rank + 1) as f64)
}

/// The precision at each relevant item, averaged over all relevant ones; those that are not ranked add 0 (its mean over lists is the MAP).
pub fn average_precision<T: Eq + Hash>(ranked: &[T], relevant: &HashSet<T>) -> f64 {
    average_precision_at(usize::MAX, ranked, relevant)
}

/// As [`average_precision`], of the first `k` items; still over all relevant ones.
pub fn average_precision_at<T: Eq + Hash>(k: usize, ranked: &[T], relevant: &HashSet<T>) -> f64 {
    let hits = hit_ranks(ranked, |item| relevant.contains(item)).take_while(|rank| *rank < k);
    let sum: f64 = hits.enumerate().map(|(before, rank)| (before + 1) as f64 / (rank + 1) as f64).sum();
    if relevant.is_empty() { 0.0 } else { sum / relevant.len() as f64 }
}

/// The ranks, from 0, at which a relevant item stands for the first time.
fn hit_ranks<'a, T: Eq + Hash>(ranked: &'a [T], is_relevant: impl Fn(&T) -> bool + 'a) -> impl Iterator<Item = usize> + 'a {
    let mut found = HashSet::new();
    ranked.iter().enumerate().filter(move |(_, item)| is_relevant(item) && found.insert(*item)).map(|(rank, _)| rank)
}

fn first_hit<T: Eq + Hash>(ranked: &[T], relevant: &HashSet<T>) -> Option<usize> {
    ranked.iter().position(|item| relevant.contains(item))
}

/// The sum of gains at ranks, from 0, each divided by log2(rank + 2).
fn discounted(gains: impl Iterator<Item = (usize, f64)>) -> f64 {
    gains.map(|(rank, gain)| gain / (rank as f64 + 2.0).log2()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measures::near;

    #[test]
    fn measures_agree_with_numbers_worked_out_by_hand() {
        let ranked = [7, 1, 8, 2, 9];
        let relevant = HashSet::from([1, 2, 3]);

        // Hits at ranks 2 and 4: gain 1/log2(3) + 1/log2(5); ideal 1 + 1/log2(3) + 1/log2(4).
        near(ndcg_at(10, &ranked, &relevant), (0.630_929_753_571_457_4 + 0.430_676_558_073_393_06) / 2.130_929_753_571_457_5);
        near(ndcg_at(2, &ranked, &relevant), 0.630_929_753_571_457_4 / 1.630_929_753_571_457_4);
        near(recall_at(3, &ranked, &relevant), 1.0 / 3.0);
        near(recall_at(5, &ranked, &relevant), 2.0 / 3.0);
        near(hit_rate_at(1, &ranked, &relevant), 0.0);
        near(hit_rate_at(2, &ranked, &relevant), 1.0);
        near(reciprocal_rank(&ranked, &relevant), 0.5);
        near(average_precision(&ranked, &relevant), (1.0 / 2.0 + 2.0 / 4.0) / 3.0);
    }

    #[test]
    fn a_perfect_list_scores_one_and_nothing_relevant_scores_zero() {
        let relevant = HashSet::from([1, 2]);
        for (ranked, expected) in [(vec![2, 1, 5], 1.0), (vec![5, 6], 0.0), (vec![], 0.0)] {
            near(ndcg_at(10, &ranked, &relevant), expected);
            near(recall_at(10, &ranked, &relevant), expected);
            near(hit_rate_at(10, &ranked, &relevant), expected);
            near(reciprocal_rank(&ranked, &relevant), expected);
            near(average_precision(&ranked, &relevant), expected);
        }
        near(ndcg_at(10, &[1], &HashSet::new()), 0.0);
        near(recall_at(10, &[1], &HashSet::new()), 0.0);
        near(average_precision(&[1], &HashSet::new()), 0.0);
        near(ndcg_at(0, &[1], &relevant), 0.0);
    }

    #[test]
    fn graded_gains_count_by_size_and_a_gain_of_zero_is_none() {
        let gains = HashMap::from([(1, 3.0), (2, 1.0), (3, 0.0), (4, -2.0)]);

        near(graded_ndcg_at(10, &[2, 1], &gains), (1.0 + 3.0 / 3.0f64.log2()) / (3.0 + 1.0 / 3.0f64.log2()));
        near(graded_ndcg_at(1, &[2, 1], &gains), 1.0 / 3.0);
        near(graded_ndcg_at(10, &[3, 4], &gains), 0.0);
        near(graded_ndcg_at(10, &[1], &HashMap::new()), 0.0);
    }

    #[test]
    fn a_cut_hides_what_stands_below_it() {
        let relevant = HashSet::from([1, 2]);

        near(reciprocal_rank_at(2, &[8, 9, 1], &relevant), 0.0);
        near(reciprocal_rank_at(3, &[8, 9, 1], &relevant), 1.0 / 3.0);
        near(average_precision_at(2, &[1, 9, 2], &relevant), 0.5);
    }

    #[test]
    fn an_item_ranked_twice_counts_once() {
        let relevant = HashSet::from([1, 2]);

        near(recall_at(3, &[1, 1, 1], &relevant), 0.5);
        near(average_precision(&[1, 1, 2], &relevant), (1.0 + 2.0 / 3.0) / 2.0);
        assert!(ndcg_at(3, &[1, 1, 1], &relevant) < 1.0);
    }
}
