//! Item factors Y of implicit ALS, and a user folded in at request time: weighted history -> scores (Hu, Koren & Volinsky 2008).
//!
//! With weights w of the history, confidences c = 1 + α|w| and preferences p = 1 for a yes and 0 for a no, the user's factors solve
//! A x = b: A = YᵀY + λI + Σ (c − 1) y yᵀ, b = Σ c p y. The score of item i is yᵢᵀx. Only the k x k system is in f64.
//!
//! A history item's part is what the score loses when it is taken out, A included (Sherman & Morrison 1950): with s = yᵢᵀA⁻¹yⱼ and
//! h = yⱼᵀA⁻¹yⱼ it is s (c p − (c − 1) xᵀyⱼ) / (1 − (c − 1) h). Items that are alike share what they explain, so parts need not add up to the score.

use pulp::{Arch, Simd, WithSimd};
use serde::{Deserialize, Serialize};

use super::lanes::dot;
use crate::domain::ItemKey;

/// More factors than this are not read: the system of a request grows with their square.
const MOST_FACTORS: usize = 512;
/// Of a history the newest so many known items are folded in, which bounds what a request costs; the others have all but faded.
const MOST_ACTS: usize = 256;

/// How a like counts, and how the factors are kept small; the same numbers as in training.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Folding {
    /// α: a like of weight 1 has the confidence 1 + α.
    pub alpha: f32,
    /// λ.
    pub lambda: f32,
    /// What a score is multiplied with, beside the item-item weights.
    pub strength: f32,
}

/// The factors of the items that were liked; immutable.
#[derive(Debug, Clone, PartialEq)]
pub struct Factors {
    folding: Folding,
    /// k: numbers an item.
    rank: usize,
    /// Ascending.
    items: Vec<u32>,
    /// Items x k.
    factors: Vec<f32>,
    /// YᵀY, k x k.
    gram: Vec<f32>,
}

impl Factors {
    /// Of `items` (any order, each once), with their factors in rows of `rank`, and YᵀY; `None` where they do not fit together.
    pub fn new(folding: Folding, rank: usize, items: &[ItemKey], factors: &[f32], gram: Vec<f32>) -> Option<Self> {
        if rank == 0 || items.len().checked_mul(rank)? != factors.len() {
            return None;
        }
        let mut order: Vec<usize> = (0..items.len()).collect();
        order.sort_unstable_by_key(|at| items[*at]);
        let rows = order.iter().flat_map(|at| &factors[at * rank..(at + 1) * rank]).copied().collect();
        Self::from_parts(folding, rank, order.iter().map(|at| items[*at].0).collect(), rows, gram)
    }

    /// From its parts, as an artefact holds them; `None` where they do not fit together.
    pub(super) fn from_parts(folding: Folding, rank: usize, items: Vec<u32>, factors: Vec<f32>, gram: Vec<f32>) -> Option<Self> {
        let sizes = (1..=MOST_FACTORS).contains(&rank) && items.len().checked_mul(rank) == Some(factors.len()) && gram.len() == rank * rank;
        let numbers = factors.iter().chain(&gram).all(|number| number.is_finite());
        let Folding { alpha, lambda, strength } = folding;
        let folds = alpha.is_finite() && alpha >= 0.0 && lambda.is_finite() && lambda > 0.0 && strength.is_finite();
        (sizes && numbers && folds && items.is_sorted_by(|a, b| a < b)).then_some(Self { folding, rank, items, factors, gram })
    }

    /// k, items, factors and YᵀY, as an artefact holds them.
    pub(super) fn parts(&self) -> (usize, &[u32], &[f32], &[f32]) {
        (self.rank, &self.items, &self.factors, &self.gram)
    }

    /// How a history is folded in.
    pub fn folding(&self) -> Folding {
        self.folding
    }

    /// The same factors with another weight beside the item-item weights.
    pub fn with_strength(self, strength: f32) -> Self {
        Self { folding: Folding { strength, ..self.folding }, ..self }
    }

    /// One more than the largest item key.
    pub fn width(&self) -> usize {
        self.items.last().map_or(0, |item| *item as usize + 1)
    }

    /// Adds the score of every item to a table with one place an item key, at least [`Self::width`] of them. A history of unknown items adds nothing.
    pub fn add_scores(&self, history: &[(ItemKey, f32)], scores: &mut [f32]) {
        let Some(folded) = Folded::new(self, history) else { return };
        let user: Vec<f32> = folded.user.iter().map(|x| (*x * f64::from(self.folding.strength)) as f32).collect();
        Arch::new().dispatch(AddProducts { factors: self, user: &user, scores });
    }

    /// What the score of `item` would lose without each item of the weighted history; in the order of the history, unknown items left out.
    pub fn contributions(&self, history: &[(ItemKey, f32)], item: ItemKey) -> Vec<(ItemKey, f32)> {
        let (Some(target), Some(folded)) = (self.row(item), Folded::new(self, history)) else { return Vec::new() };
        let target = folded.lower.solved(target);
        folded.acts.iter().map(|act| (act.item, (folded.loss(act, &target) * f64::from(self.folding.strength)) as f32)).collect()
    }

    fn row(&self, item: ItemKey) -> Option<&[f32]> {
        let place = self.items.binary_search(&item.0).ok()?;
        Some(&self.factors[place * self.rank..(place + 1) * self.rank])
    }
}

/// `scores[item] += factors of item x user`, as wide as the processor can.
struct AddProducts<'a> {
    factors: &'a Factors,
    user: &'a [f32],
    scores: &'a mut [f32],
}

impl WithSimd for AddProducts<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        for (item, row) in self.factors.items.iter().zip(self.factors.factors.chunks_exact(self.factors.rank)) {
            self.scores[*item as usize] += dot(row, self.user);
        }
    }
}

/// One item of the history.
struct Act<'a> {
    item: ItemKey,
    row: &'a [f32],
    /// c.
    confidence: f64,
    /// p.
    preference: f64,
}

/// A user as solved for.
struct Folded<'a> {
    acts: Vec<Act<'a>>,
    /// A = L Lᵀ.
    lower: Lower,
    /// x.
    user: Vec<f64>,
}

impl<'a> Folded<'a> {
    /// `None` where no item of the history is known, or its weights are too large for the arithmetic.
    fn new(factors: &'a Factors, history: &[(ItemKey, f32)]) -> Option<Self> {
        let alpha = f64::from(factors.folding.alpha);
        let act = |&(item, weight): &(ItemKey, f32)| {
            let preference = if weight > 0.0 { 1.0 } else { 0.0 };
            Some(Act { item, row: factors.row(item)?, confidence: 1.0 + alpha * f64::from(weight.abs()), preference })
        };
        let acts: Vec<Act<'_>> = history.iter().filter_map(act).take(MOST_ACTS).collect();
        if acts.is_empty() {
            return None;
        }
        let rank = factors.rank;
        let mut system: Vec<f64> = factors.gram.iter().map(|number| f64::from(*number)).collect();
        let mut wanted = vec![0.0; rank];
        for i in 0..rank {
            system[i * rank + i] += f64::from(factors.folding.lambda);
        }
        for act in &acts {
            for i in 0..rank {
                let y = f64::from(act.row[i]);
                wanted[i] += act.confidence * act.preference * y;
                let by = (act.confidence - 1.0) * y;
                system[i * rank..i * rank + i + 1].iter_mut().zip(act.row).for_each(|(number, other)| *number += by * f64::from(*other));
            }
        }
        let lower = Lower::factorised(system, rank)?;
        let user = lower.solved_transposed(lower.solved_wide(wanted));
        user.iter().all(|x| x.is_finite()).then_some(Self { acts, lower, user })
    }

    /// What the score of a target (given as L⁻¹yᵢ) loses without `act`.
    fn loss(&self, act: &Act<'_>, target: &[f64]) -> f64 {
        let own = self.lower.solved(act.row);
        let product = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let expected: f64 = self.user.iter().zip(act.row).map(|(x, y)| x * f64::from(*y)).sum();
        let above = act.confidence - 1.0;
        product(target, &own) * (act.confidence * act.preference - above * expected) / (1.0 - above * product(&own, &own))
    }
}

/// The lower triangle of a Cholesky factorisation, row-major.
struct Lower {
    numbers: Vec<f64>,
    size: usize,
}

impl Lower {
    /// Of the lower triangle of a symmetric matrix; `None` where a pivot is not positive.
    fn factorised(mut numbers: Vec<f64>, size: usize) -> Option<Self> {
        for i in 0..size {
            let (above, row) = numbers.split_at_mut(i * size);
            for j in 0..i {
                let sum: f64 = row[..j].iter().zip(&above[j * size..]).map(|(a, b)| a * b).sum();
                row[j] = (row[j] - sum) / above[j * size + j];
            }
            let pivot = row[i] - row[..i].iter().map(|a| a * a).sum::<f64>();
            if !(pivot.is_finite() && pivot > 0.0) {
                return None;
            }
            row[i] = pivot.sqrt();
        }
        Some(Self { numbers, size })
    }

    fn row(&self, i: usize) -> &[f64] {
        &self.numbers[i * self.size..i * self.size + i + 1]
    }

    /// L⁻¹ y.
    fn solved(&self, y: &[f32]) -> Vec<f64> {
        self.solved_wide(y.iter().map(|y| f64::from(*y)).collect())
    }

    /// L⁻¹ y.
    fn solved_wide(&self, mut y: Vec<f64>) -> Vec<f64> {
        for i in 0..self.size {
            let row = self.row(i);
            let sum: f64 = row[..i].iter().zip(&y).map(|(a, y)| a * y).sum();
            y[i] = (y[i] - sum) / row[i];
        }
        y
    }

    /// L⁻ᵀ y.
    fn solved_transposed(&self, mut y: Vec<f64>) -> Vec<f64> {
        for i in (0..self.size).rev() {
            let row = self.row(i);
            y[i] /= row[i];
            let by = y[i];
            y[..i].iter_mut().zip(row).for_each(|(y, a)| *y -= by * a);
        }
        y
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    fn keyed(pairs: &[(u32, f32)]) -> Vec<(ItemKey, f32)> {
        pairs.iter().map(|(key, weight)| (ItemKey(*key), *weight)).collect()
    }

    fn folding() -> Folding {
        Folding { alpha: 10.0, lambda: 0.5, strength: 2.0 }
    }

    /// Factors whose YᵀY is their own.
    pub(in crate::learned) fn of_rows(folding: Folding, rows: &[(u32, &[f32])]) -> Factors {
        let rank = rows[0].1.len();
        let gram = (0..rank * rank).map(|at| rows.iter().map(|(_, row)| row[at / rank] * row[at % rank]).sum()).collect();
        let (items, factors): (Vec<ItemKey>, Vec<&[f32]>) = rows.iter().map(|(item, row)| (ItemKey(*item), *row)).unzip();
        Factors::new(folding, rank, &items, &factors.concat(), gram).unwrap()
    }

    fn score(factors: &Factors, history: &[(ItemKey, f32)], item: u32) -> f32 {
        let mut scores = vec![0.0; factors.width()];
        factors.add_scores(history, &mut scores);
        scores[item as usize]
    }

    #[test]
    fn a_score_agrees_with_a_case_worked_by_hand() {
        // One factor: y_2 = 1, y_5 = 0.5; YᵀY = 1.25. History {2}: A = 1.25 + 0.5 + 10, b = 11, x = 11 / 11.75; with strength 2.
        let factors = of_rows(folding(), &[(5, &[0.5]), (2, &[1.0])]);

        assert!((score(&factors, &keyed(&[(2, 1.0)]), 2) - 22.0 / 11.75).abs() < 1e-6);
        assert!((score(&factors, &keyed(&[(2, 1.0)]), 5) - 11.0 / 11.75).abs() < 1e-6);
        assert!(score(&factors, &keyed(&[(2, -1.0)]), 2).abs() < 1e-9, "a no is no wish");
        assert!(score(&factors, &keyed(&[(9, 1.0)]), 2).abs() < 1e-9, "unknown items say nothing");
    }

    #[test]
    fn parts_that_do_not_fit_together_are_refused() {
        let make = |rank, items: &[u32], factors: &[f32], gram: &[f32]| Factors::from_parts(folding(), rank, items.into(), factors.into(), gram.into());

        assert!(make(1, &[1, 4], &[0.5, 0.25], &[1.0]).is_some());
        assert!(make(0, &[], &[], &[]).is_none());
        assert!(make(1, &[4, 1], &[0.5, 0.25], &[1.0]).is_none());
        assert!(make(1, &[1, 1], &[0.5, 0.25], &[1.0]).is_none());
        assert!(make(1, &[1, 4], &[0.5], &[1.0]).is_none());
        assert!(make(1, &[1, 4], &[0.5, f32::NAN], &[1.0]).is_none());
        assert!(make(2, &[1], &[0.5, 0.25], &[1.0]).is_none());
        assert!(Factors::from_parts(Folding { lambda: 0.0, ..folding() }, 1, vec![1], vec![0.5], vec![1.0]).is_none());
    }

    #[test]
    fn weights_that_are_too_large_for_the_arithmetic_score_nothing_or_finite() {
        let factors = of_rows(folding(), &[(0, &[1.0, 0.5]), (1, &[0.5, -1.0])]);

        for weight in [f32::MAX, f32::MIN, f32::MIN_POSITIVE] {
            assert!(score(&factors, &keyed(&[(0, weight), (1, 1.0)]), 1).is_finite());
        }
    }

    proptest! {
        #[test]
        fn what_a_history_item_gave_is_what_the_score_loses_without_it(
            rows in prop::collection::vec(prop::array::uniform3(-1.0f32..1.0), 6),
            weights in prop::array::uniform4(-2.0f32..2.0),
        ) {
            let rows: Vec<(u32, &[f32])> = rows.iter().enumerate().map(|(item, row)| (item as u32, &row[..])).collect();
            let factors = of_rows(folding(), &rows);
            let history: Vec<(ItemKey, f32)> = (0..4).map(|item| (ItemKey(item), weights[item as usize])).collect();

            for item in 0..6 {
                let whole = score(&factors, &history, item);
                for (place, (taken, part)) in factors.contributions(&history, ItemKey(item)).into_iter().enumerate() {
                    prop_assert_eq!(taken, history[place].0);
                    let mut without = history.clone();
                    without.remove(place);
                    let lost = whole - score(&factors, &without, item);
                    prop_assert!((lost - part).abs() < 1e-4 * (1.0 + lost.abs()), "{} of {}: {} and {}", taken.0, item, lost, part);
                }
            }
        }
    }
}
