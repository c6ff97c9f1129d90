//! Whether implicit ALS earns a place beside the item-item weights, or theirs: a first trial, and the whole grid only where that one helps.
//!
//! It helps where EASE^R covers little of what is liked. Where it covers all, it does not: on 413 MovieLens users ALS alone answers with an NDCG@10 a
//! third below EASE^R's. So it is bounded twice: by multiplications before anything is tried, and by the first trial.

use serde::{Deserialize, Serialize};

use super::{
    als::{self, Als},
    fit::Tried,
    interactions::{Case, Likes},
    selection::{self, Marks},
};
use crate::{
    domain::ItemKey,
    learned::{Factors, Folding, ItemItem},
};

/// The first is the trial: between those that did best on MovieLens (α 2, λ 20) and on office products (α 32, λ 5).
pub(super) const GRID: [Als; 4] = [dials(64, 8.0, 20.0), dials(64, 2.0, 20.0), dials(64, 32.0, 5.0), dials(32, 32.0, 5.0)];
/// How much the factors count beside the weights, once their best scores are of one size.
const STRENGTHS: [f32; 3] = [0.1, 0.3, 1.0];
/// Multiplications that trials may cost together: some ten seconds of one core, where EASE^R with 256 MiB takes a minute.
const MOST_WORK: f64 = 1e11;
/// Any: the same likes give the same factors.
const SEED: u64 = 1;

const fn dials(rank: usize, alpha: f32, lambda: f32) -> Als {
    Als { rank, alpha, lambda, sweeps: 10, steps: 3 }
}

/// What came of it, for the report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LowRank {
    /// What is published; `None`: the item-item weights alone.
    pub used: Option<Used>,
    /// Why, in words.
    pub reason: String,
}

/// Dials that won.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Used {
    /// Of the factors.
    pub als: Als,
    /// What their scores are multiplied with.
    pub strength: f32,
    /// Whether they answer without the item-item weights.
    pub alone: bool,
}

/// Factors that won, with how well they do.
#[derive(Debug)]
pub(super) struct Winner {
    pub(super) used: Used,
    /// Learned without the held-out likes.
    pub(super) factors: Factors,
    pub(super) score: f64,
}

/// What the trials are held against.
pub(super) struct Beside<'a> {
    /// With the way in which histories are folded in.
    pub(super) weights: &'a ItemItem,
    pub(super) marks: &'a Marks,
    pub(super) cases: &'a [Case],
}

/// The factors that answer the questions clearly better with the weights, or without them, than the weights alone; the reason in words either way. What
/// was tried goes to `tried`.
pub(super) fn choose(known: &Likes, beside: &Beside<'_>, memory_mb: usize, tried: &mut Vec<Tried>) -> (Option<Winner>, String) {
    let mut best: Option<(Winner, Marks)> = None;
    let (mut work, mut left_out) = (0.0, 0);
    for (place, als) in GRID.into_iter().map(|als| als.suited(known)).enumerate() {
        let rows = known.by_actor.len() + known.items.len();
        if rows.saturating_mul(als.rank * size_of::<f32>()) > memory_mb.saturating_mul(1 << 20) {
            return (None, format!("the factors of {rows} rows do not fit training.memory_mb = {memory_mb}"));
        }
        let cost = als.cost(&known.by_actor, &known.by_item) + (beside.cases.len() * known.items.len() * als.rank) as f64;
        if work + cost > MOST_WORK {
            left_out += 1;
            continue;
        }
        work += cost;
        let Some(factors) = als.factors(known, 1.0) else { continue };
        let attempt = attempt(als, factors, beside, tried);
        if best.as_ref().is_none_or(|(_, marks)| attempt.1.better_than(marks)) {
            best = Some(attempt);
        }
        if place == 0 && best.as_ref().is_some_and(|(_, marks)| !marks.better_than(beside.marks)) {
            return (None, "the first trial did not help".to_owned());
        }
    }
    match best {
        None => (None, format!("{left_out} of {} trials would take too long, the others came to nothing", GRID.len())),
        Some((_, marks)) if !marks.clearly_better_than(beside.marks) => (None, "it helped no more than chance may".to_owned()),
        Some((winner, _)) => (Some(winner), "clearly better than without".to_owned()),
    }
}

/// One set of dials, at its best strength.
fn attempt(als: Als, factors: Factors, beside: &Beside<'_>, tried: &mut Vec<Tried>) -> (Winner, Marks) {
    let of_one_size = selection::ratio_of_best_scores(beside.weights, &factors, beside.cases);
    let mut attempts: Vec<(Used, Marks)> = STRENGTHS
        .into_iter()
        .map(|strength| Used { als, strength: strength * of_one_size, alone: false })
        .zip(selection::judge_sums(beside.weights, &factors, &STRENGTHS.map(|strength| strength * of_one_size), beside.cases))
        .collect();
    let fold_in = beside.weights.fold_in();
    attempts.push((Used { als, strength: 1.0, alone: true }, selection::judge(&factors, fold_in, beside.cases)));
    for ((used, marks), strength) in attempts.iter().zip(STRENGTHS.map(|strength| format!("beside x {strength}")).into_iter().chain(["alone".to_owned()])) {
        tried.push(Tried { name: format!("als {} {} {} {strength}", used.als.rank, used.als.alpha, used.als.lambda), ndcg_at_10: marks.mean() });
    }
    let (used, marks) = attempts.into_iter().reduce(|best, next| if next.1.better_than(&best.1) { next } else { best }).expect("`alone` is always there");
    (Winner { used, factors: factors.with_strength(used.strength), score: marks.mean() }, marks)
}

impl Als {
    /// The same with no more factors than can tell so many items apart: a quarter of them, in the steps in which processors compute.
    pub(super) fn suited(self, likes: &Likes) -> Self {
        Self { rank: self.rank.min((likes.items.len() / 4).next_multiple_of(16).max(16)), ..self }
    }

    /// Fitted to these likes, to be folded in with `strength`; `None` where the arithmetic broke down. Items that nobody liked are left out.
    pub(super) fn factors(&self, likes: &Likes, strength: f32) -> Option<Factors> {
        let solved = self.fit(&likes.by_actor, &likes.by_item, SEED);
        let gram = als::gram(&solved.items, self.rank);
        // Held-out likes leave columns empty anywhere.
        let liked = || likes.by_item.iter().zip(likes.items.iter().zip(solved.items.chunks_exact(self.rank))).filter(|(actors, _)| !actors.is_empty());
        let items: Vec<ItemKey> = liked().map(|(_, (item, _))| *item).collect();
        let rows: Vec<f32> = liked().flat_map(|(_, (_, row))| row).copied().collect();
        Factors::new(Folding { alpha: self.alpha, lambda: self.lambda, strength }, self.rank, &items, &rows, gram)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        learned::{FoldIn, ItemItemBuilder},
        training::interactions::{Histories, Interaction},
    };
    use rustc_hash::FxHashSet;

    /// Half of the actors like some of items 0 to 19, the others some of 20 to 39.
    fn two_tastes() -> (Likes, Vec<Case>) {
        let like = |actor: u32, n: u32| Interaction {
            actor,
            item: ItemKey((actor % 2) * 20 + (actor / 2 * 3 + n * (n + 1) / 2) % 20),
            at_ms: i64::from(n),
            weight: 1.0,
        };
        let log: Vec<_> = (0..60).flat_map(|actor| (0..8).map(move |n| like(actor, n))).collect();
        let (known, cases) = Histories::collect(&log).hold_out(&FxHashSet::default());
        (known.likes(), cases)
    }

    /// What everyone liked goes to whoever did nothing of the kind: weights that answer nothing well.
    fn useless() -> ItemItem {
        let mut builder = ItemItemBuilder::new(4, 40);
        (0..40).for_each(|item| builder.push(ItemKey(item), vec![(ItemKey(39 - item), 0.01)]));
        builder.finish(FoldIn::default())
    }

    fn chosen(weights: &ItemItem, memory_mb: usize) -> (Option<Winner>, String, usize) {
        let (known, cases) = two_tastes();
        let marks = selection::judge(weights, FoldIn::default(), &cases);
        let mut tried = Vec::new();
        let (winner, reason) = choose(&known, &Beside { weights, marks: &marks, cases: &cases }, memory_mb, &mut tried);
        (winner, reason, tried.len())
    }

    #[test]
    fn factors_are_published_where_the_weights_know_less() {
        let (winner, reason, tried) = chosen(&useless(), 16);

        assert!(winner.is_some(), "{reason}");
        assert_eq!(tried, GRID.len() * (STRENGTHS.len() + 1));
    }

    #[test]
    fn one_trial_is_enough_where_the_weights_know_more() {
        let (_, cases) = two_tastes();
        let mut builder = ItemItemBuilder::new(40, 40);
        // Weights that know the answers.
        for item in 0..40 {
            let answers = cases.iter().filter(|case| case.history.iter().any(|(other, _)| other.0 == item)).flat_map(|case| &case.relevant);
            let row: FxHashSet<ItemKey> = answers.copied().collect();
            builder.push(ItemKey(item), row.into_iter().map(|target| (target, 1.0)).collect());
        }

        let (winner, reason, tried) = chosen(&builder.finish(FoldIn::default()), 16);

        assert!(winner.is_none());
        assert!(tried <= GRID.len() * (STRENGTHS.len() + 1) && !reason.is_empty());
    }

    #[test]
    fn without_memory_nothing_is_tried() {
        let (winner, reason, tried) = chosen(&useless(), 0);

        assert!(winner.is_none() && tried == 0);
        assert!(reason.contains("memory_mb"), "{reason}");
    }

    #[test]
    fn an_item_whose_likes_are_all_held_out_has_no_factors_and_the_items_after_it_have() {
        let likes = Likes { items: [7, 3, 5].map(ItemKey).to_vec(), by_actor: vec![vec![0, 2], vec![2]], by_item: vec![vec![0], vec![], vec![0, 1]] };

        let factors = GRID[0].suited(&likes).factors(&likes, 1.0).unwrap();

        let mut scores = vec![0.0; factors.width()];
        factors.add_scores(&[(ItemKey(5), 1.0)], &mut scores);
        assert_eq!(scores.iter().map(|score| *score != 0.0).collect::<Vec<_>>(), [false, false, false, false, false, true, false, true]);
    }
}
