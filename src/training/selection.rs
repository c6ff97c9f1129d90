//! Which model, how strong, and how histories are folded in: whatever answers the held-out questions best (mean NDCG@10).

use std::collections::HashSet;

use rayon::prelude::*;

use super::interactions::Case;
use crate::{
    domain::ItemKey,
    learned::{Factors, FoldIn, ItemItem},
    measures::ndcg_at,
};

/// Where lists are cut off.
pub(super) const DEPTH: usize = 10;
/// A less simple way of folding in has to be better by so many standard errors of the paired difference: 400 questions leave much to chance.
const STANDARD_ERRORS: f64 = 2.0;
/// After so many events of an actor an older one counts half, over [`FLOOR`]: what is liked next is mostly like what was liked last, in films and in
/// office products. As no decay was what had to be clearly beaten, it came and went by chance from one λ to the next, and λ with it (MovieLens: λ 64
/// .140 without and .150 with decay).
const USUAL_HALF_LIFE: f32 = 4.0;
const OTHER_HALF_LIVES: [f32; 4] = [64.0, 16.0, 8.0, 2.0];
/// What the oldest event still counts. Held-out fifth of 413 MovieLens users' likes, half-life 8 events, NDCG@10: .151 over this floor, .145 over a
/// half, .141 over none, .142 without decay. A floor of 0 that chance had chosen cost .014 on the test set; over this one a wrong choice costs little.
const FLOOR: f32 = 0.2;
/// How much a no counts against a yes.
const DISLIKE: f32 = 0.25;

/// What can be asked: a weighted history -> a score for each item key.
pub(super) trait Model: Sync {
    /// Into a table with one place an item key, which is cleared first.
    fn score_into(&self, history: &[(ItemKey, f32)], scores: &mut Vec<f32>);
}

impl Model for ItemItem {
    fn score_into(&self, history: &[(ItemKey, f32)], scores: &mut Vec<f32>) {
        ItemItem::score_into(self, history, scores);
    }
}

impl Model for Factors {
    fn score_into(&self, history: &[(ItemKey, f32)], scores: &mut Vec<f32>) {
        scores.clear();
        scores.resize(self.width(), 0.0);
        self.add_scores(history, scores);
    }
}

/// NDCG@10 of `model` on each question; what is in the history is not asked for.
pub(super) fn judge(model: &impl Model, fold_in: FoldIn, cases: &[Case]) -> Marks {
    mark(cases, |case, scores| model.score_into(&fold_in.weights(&case.history), scores))
}

/// NDCG@10 of the weights with the factors beside them, once for each of `strengths`; each history is folded in once.
pub(super) fn judge_sums(weights: &ItemItem, factors: &Factors, strengths: &[f32], cases: &[Case]) -> Vec<Marks> {
    let of_case = |case: &Case| -> Vec<f64> {
        let (linear, factored) = both(weights, factors, case);
        let with = |strength: &f32| {
            let at = |scores: &[f32], item: usize| scores.get(item).copied().unwrap_or(0.0);
            let mut scores: Vec<f32> = (0..linear.len().max(factored.len())).map(|item| at(&linear, item) + strength * at(&factored, item)).collect();
            ndcg(&mut scores, case)
        };
        strengths.iter().map(with).collect()
    };
    let by_case: Vec<Vec<f64>> = cases.par_iter().map(of_case).collect();
    (0..strengths.len()).map(|place| Marks(by_case.iter().map(|marks| marks[place]).collect())).collect()
}

/// The mean best score of the weights over that of the factors: what brings both to one size. 1 where either has none.
pub(super) fn ratio_of_best_scores(weights: &ItemItem, factors: &Factors, cases: &[Case]) -> f32 {
    let best = |scores: &[f32]| scores.iter().copied().fold(0.0f32, f32::max);
    let bests: Vec<(f32, f32)> = cases
        .par_iter()
        .map(|case| {
            let (linear, factored) = both(weights, factors, case);
            (best(&linear), best(&factored))
        })
        .collect();
    let (linear, factored) = bests.iter().fold((0.0f64, 0.0f64), |(a, b), (x, y)| (a + f64::from(*x), b + f64::from(*y)));
    if linear > 0.0 && factored > 0.0 { (linear / factored) as f32 } else { 1.0 }
}

fn both(weights: &ItemItem, factors: &Factors, case: &Case) -> (Vec<f32>, Vec<f32>) {
    let history = weights.fold_in_weights(&case.history);
    let (mut linear, mut factored) = (Vec::new(), Vec::new());
    weights.score_into(&history, &mut linear);
    Model::score_into(factors, &history, &mut factored);
    (linear, factored)
}

/// How well each question was answered, in the order of the questions.
#[derive(Debug, Clone)]
pub(super) struct Marks(Vec<f64>);

impl Marks {
    pub(super) fn new(marks: Vec<f64>) -> Self {
        Self(marks)
    }

    /// 0 without questions.
    pub(super) fn mean(&self) -> f64 {
        self.0.iter().sum::<f64>() / self.0.len().max(1) as f64
    }

    /// Whether it is the better guess of two that cost the same.
    pub(super) fn better_than(&self, other: &Self) -> bool {
        self.mean() > other.mean()
    }

    /// Whether the difference is more than chance: [`STANDARD_ERRORS`] of the paired difference.
    pub(super) fn clearly_better_than(&self, other: &Self) -> bool {
        let differences: Vec<f64> = self.0.iter().zip(&other.0).map(|(a, b)| a - b).collect();
        let count = differences.len().max(1) as f64;
        let mean = differences.iter().sum::<f64>() / count;
        let variance = differences.iter().map(|difference| (difference - mean).powi(2)).sum::<f64>() / (count - 1.0).max(1.0);
        mean > 0.0 && mean > STANDARD_ERRORS * (variance / count).sqrt()
    }
}

/// The control: the same list for everyone, by how many liked each item. `popularity`: (item, likes).
pub(super) fn judge_popularity(popularity: &[(ItemKey, f32)], cases: &[Case]) -> Marks {
    let width = popularity.iter().map(|(item, _)| item.row() + 1).max().unwrap_or(0);
    mark(cases, |_, scores| {
        scores.clear();
        scores.resize(width, 0.0);
        popularity.iter().for_each(|(item, likes)| scores[item.row()] = *likes);
    })
}

fn mark(cases: &[Case], score: impl Fn(&Case, &mut Vec<f32>) + Sync) -> Marks {
    let marks = cases
        .par_iter()
        .map_init(Vec::new, |scores, case| {
            score(case, scores);
            ndcg(scores, case)
        })
        .collect();
    Marks(marks)
}

fn ndcg(scores: &mut [f32], case: &Case) -> f64 {
    let relevant: HashSet<ItemKey> = case.relevant.iter().copied().collect();
    ndcg_at(DEPTH, &top(scores, &case.history), &relevant)
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

/// The half-life that suits a model, and how well the model does with it: [`USUAL_HALF_LIFE`] unless another or none is clearly better.
pub(super) fn half_life(model: &impl Model, cases: &[Case]) -> (FoldIn, Marks) {
    let way = |half_life| FoldIn { half_life_events: Some(half_life), floor: FLOOR, ..FoldIn::default() };
    let usual = way(USUAL_HALF_LIFE);
    let others = OTHER_HALF_LIVES.map(way).into_iter().chain([FoldIn::default()]);
    best((usual, judge(model, usual, cases)), others, |way| judge(model, way, cases))
}

/// The best fold-in: half-life, then whether a no counts against and (where signals are `graded`) whether strength counts.
pub(super) fn fold_in(weights: &ItemItem, graded: bool, cases: &[Case]) -> (FoldIn, Marks) {
    let simple = half_life(weights, cases);
    let way = |graded, dislike| FoldIn { graded, dislike, ..simple.0 };
    let mut ways = vec![way(false, DISLIKE)];
    if graded {
        ways.extend([way(true, 0.0), way(true, DISLIKE)]);
    }
    best(simple, ways, |way| judge(weights, way, cases))
}

/// The best of the ways that are clearly better than the simple one; else the simple one.
fn best(simple: (FoldIn, Marks), ways: impl IntoIterator<Item = FoldIn>, judge: impl Fn(FoldIn) -> Marks) -> (FoldIn, Marks) {
    let clearly_better = ways.into_iter().map(|way| (way, judge(way))).filter(|(_, marks)| marks.clearly_better_than(&simple.1));
    let best = clearly_better.max_by(|a, b| a.1.mean().total_cmp(&b.1.mean()));
    best.unwrap_or(simple)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::learned::ItemItemBuilder;

    fn case(history: &[u32], relevant: &[u32]) -> Case {
        Case { actor: 0, history: history.iter().map(|key| (ItemKey(*key), 1.0)).collect(), relevant: relevant.iter().map(|key| ItemKey(*key)).collect() }
    }

    fn successors() -> ItemItem {
        let mut builder = ItemItemBuilder::new(4, 20);
        (0..20).for_each(|item| builder.push(ItemKey(item), vec![(ItemKey(item + 1), 1.0), (ItemKey(item + 2), 0.4)]));
        builder.finish(FoldIn::default())
    }

    #[test]
    fn the_judge_ranks_by_score_and_leaves_the_history_out() {
        let cases = [case(&[3], &[4]), case(&[3], &[5]), case(&[3, 4], &[4])];

        let score = judge(&successors(), FoldIn::default(), &cases).mean();

        assert!((score - (1.0 + 1.0 / 3.0f64.log2() + 0.0) / 3.0).abs() < 1e-9);
    }

    #[test]
    fn the_newest_likes_count_more_unless_something_else_is_clearly_better() {
        let last_matters: Vec<_> = (0..8).map(|item| case(&[item + 9, item, (item + 5) % 9, (item + 3) % 9], &[item + 10])).collect();
        let one_like = [case(&[3], &[4])];
        // The oldest of 12, the others lead to what is not wanted; without decay it is one among equals, of which the first by key wins.
        let oldest_matters: Vec<_> = (0..40).map(|_| case(&[14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 0], &[1])).collect();

        assert!(half_life(&successors(), &last_matters).0.half_life_events.is_some());
        assert_eq!(half_life(&successors(), &one_like).0.half_life_events, Some(USUAL_HALF_LIFE));
        assert_eq!(half_life(&successors(), &oldest_matters).0.half_life_events, None);
    }

    #[test]
    fn a_difference_of_chance_is_no_reason_to_leave_the_simple_way() {
        let simple = Marks(vec![0.5; 100]);
        let luck = Marks((0..100).map(|n| if n < 51 { 0.6 } else { 0.4 }).collect());
        let skill = Marks((0..100).map(|n| if n < 70 { 0.6 } else { 0.4 }).collect());

        assert!(luck.mean() > simple.mean() && !luck.clearly_better_than(&simple));
        assert!(skill.clearly_better_than(&simple));
        assert!(!simple.clearly_better_than(&simple) && !Marks(Vec::new()).clearly_better_than(&Marks(Vec::new())));
    }

    #[test]
    fn popularity_is_judged_on_the_same_questions() {
        let popularity = [(ItemKey(1), 5.0), (ItemKey(2), 3.0)];

        assert!((judge_popularity(&popularity, &[case(&[1], &[2])]).mean() - 1.0).abs() < 1e-9);
        assert!(judge_popularity(&[], &[case(&[1], &[2])]).mean().abs() < 1e-9);
    }
}
