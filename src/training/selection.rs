//! Which model, how strong, and how histories are folded in: whatever answers the held-out questions best (mean NDCG@10).

use std::collections::HashSet;

use rayon::prelude::*;

use super::interactions::Case;
use crate::{
    domain::ItemKey,
    learned::{FoldIn, ItemItem},
    measures::ndcg_at,
};

/// Where lists are cut off.
pub(super) const DEPTH: usize = 10;
/// A less simple way has to be better by this share: below it the difference is chance.
const MARGIN: f64 = 1.002;
/// Half-lives in events; a film lover's old likes say as much as new ones, a shopper's last five orders say most.
const HALF_LIVES: [Option<f32>; 6] = [None, Some(64.0), Some(16.0), Some(8.0), Some(4.0), Some(2.0)];
/// How much a no counts against a yes.
const DISLIKE: f32 = 0.25;

/// Mean NDCG@10 of `weights` on the questions; what is in the history is not asked for.
pub(super) fn judge(weights: &ItemItem, fold_in: FoldIn, cases: &[Case]) -> f64 {
    mean(cases, |case, scores| weights.add_scores(&fold_in.weights(&case.history), scores))
}

/// The control: the same list for everyone, by how many liked each item. `popularity`: (item, likes).
pub(super) fn judge_popularity(popularity: &[(ItemKey, f32)], cases: &[Case]) -> f64 {
    let width = popularity.iter().map(|(item, _)| item.row() + 1).max().unwrap_or(0);
    mean(cases, |_, scores| {
        scores.clear();
        scores.resize(width, 0.0);
        popularity.iter().for_each(|(item, likes)| scores[item.row()] = *likes);
    })
}

fn mean(cases: &[Case], score: impl Fn(&Case, &mut Vec<f32>) + Sync) -> f64 {
    // Summed in the order of the cases, so that the same data gives the same choice.
    let values: Vec<f64> = cases
        .par_iter()
        .map_init(Vec::new, |scores, case| {
            score(case, scores);
            let relevant: HashSet<ItemKey> = case.relevant.iter().copied().collect();
            ndcg_at(DEPTH, &top(scores, &case.history), &relevant)
        })
        .collect();
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

/// The best [`DEPTH`] items that are not in the history.
fn top(scores: &mut [f32], history: &[(ItemKey, f32)]) -> Vec<ItemKey> {
    for (item, _) in history {
        if let Some(score) = scores.get_mut(item.row()) {
            *score = 0.0; // as if never scored
        }
    }
    let mut best: Vec<(f32, u32)> = scores.iter().enumerate().filter(|(_, score)| **score != 0.0).map(|(item, score)| (*score, item as u32)).collect();
    let better_first = |a: &(f32, u32), b: &(f32, u32)| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1));
    if best.len() > DEPTH {
        best.select_nth_unstable_by(DEPTH, better_first);
        best.truncate(DEPTH);
    }
    best.sort_unstable_by(better_first);
    best.into_iter().map(|(_, item)| ItemKey(item)).collect()
}

/// The best half-life, all else as in `from`.
pub(super) fn half_life(weights: &ItemItem, from: FoldIn, cases: &[Case]) -> (FoldIn, f64) {
    best(HALF_LIVES.map(|half_life_events| FoldIn { half_life_events, ..from }), |fold_in| judge(weights, *fold_in, cases))
}

/// The best fold-in: half-life, then whether a no counts against, then (where signals are `graded`) whether strength counts.
pub(super) fn fold_in(weights: &ItemItem, graded: bool, cases: &[Case]) -> (FoldIn, f64) {
    let (chosen, score) = half_life(weights, FoldIn::default(), cases);
    let mut ways = vec![chosen, FoldIn { dislike: DISLIKE, ..chosen }];
    if graded {
        ways.extend([FoldIn { graded: true, ..chosen }, FoldIn { graded: true, dislike: DISLIKE, ..chosen }]);
    }
    best(ways, |way| if *way == chosen { score } else { judge(weights, *way, cases) })
}

/// The first of the candidates that none after it beats by the margin. `candidates`: the simplest first, at least one.
fn best(candidates: impl IntoIterator<Item = FoldIn>, judge: impl Fn(&FoldIn) -> f64) -> (FoldIn, f64) {
    let mut chosen = (FoldIn::default(), f64::NEG_INFINITY);
    for candidate in candidates {
        let score = judge(&candidate);
        if score > chosen.1 * MARGIN || chosen.1 == f64::NEG_INFINITY {
            chosen = (candidate, score);
        }
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::learned::ItemItemBuilder;

    fn case(history: &[u32], relevant: &[u32]) -> Case {
        Case { history: history.iter().map(|key| (ItemKey(*key), 1.0)).collect(), relevant: relevant.iter().map(|key| ItemKey(*key)).collect() }
    }

    fn successors() -> ItemItem {
        let mut builder = ItemItemBuilder::new(4);
        (0..20).for_each(|item| builder.push(ItemKey(item), vec![(ItemKey(item + 1), 1.0), (ItemKey(item + 2), 0.4)]));
        builder.finish(FoldIn::default())
    }

    #[test]
    fn the_judge_ranks_by_score_and_leaves_the_history_out() {
        let cases = [case(&[3], &[4]), case(&[3], &[5]), case(&[3, 4], &[4])];

        let score = judge(&successors(), FoldIn::default(), &cases);

        assert!((score - (1.0 + 1.0 / 3.0f64.log2() + 0.0) / 3.0).abs() < 1e-9);
    }

    #[test]
    fn recency_is_found_where_it_matters_and_only_there() {
        let last_matters: Vec<_> = (0..8).map(|item| case(&[item + 9, item, (item + 5) % 9, (item + 3) % 9], &[item + 10])).collect();
        let first_matters = [case(&[3], &[4])];

        assert!(half_life(&successors(), FoldIn::default(), &last_matters).0.half_life_events.is_some());
        assert_eq!(half_life(&successors(), FoldIn::default(), &first_matters).0.half_life_events, None);
    }

    #[test]
    fn popularity_is_judged_on_the_same_questions() {
        let popularity = [(ItemKey(1), 5.0), (ItemKey(2), 3.0)];

        assert!((judge_popularity(&popularity, &[case(&[1], &[2])]) - 1.0).abs() < 1e-9);
        assert!(judge_popularity(&[], &[case(&[1], &[2])]).abs() < 1e-9);
    }
}
