//! Item-item weights: an item of the history -> what goes with it, and how much. Sparse rows over [`ItemKey`]s.
//!
//! A user has no stored vector: his score for item j is the sum over his history of (weight of i) x W\[i\]\[j\], made at request
//! time from the newest history. Each summand is its own explanation (Hu, Koren & Volinsky 2008, section 5).
//!
//! Rows are cut globally: of all weights the largest are kept, `neighbours` a row on average, at least [`LEAST_A_ROW`] and at most
//! [`MOST_A_ROW`] x `neighbours` in one row. Rows of much used items are long this way. NDCG@10 of EASE^R on 400 MovieLens users: 100 a row
//! on average .140, exactly 100 in each row .135, exactly 400 .139, uncut .140.

use serde::{Deserialize, Serialize};

use crate::domain::ItemKey;

/// Rows of rare items keep this many weights however small they are, or those items would lead nowhere.
const LEAST_A_ROW: usize = 10;
/// The longest row, as a multiple of the average: it bounds what one history item can cost a request.
const MOST_A_ROW: usize = 4;

/// How a history becomes weights; chosen by validation and published with the weights.
#[derive(Debug, Default, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FoldIn {
    /// After so many newer events what an event counts above the floor is halved; `None`: all count the same.
    pub half_life_events: Option<f32>,
    /// What the oldest event still counts, 0 to 1: short-lived wants on top of a lasting taste.
    pub floor: f32,
    /// A no counts this share of a yes, against; 0: it is left out.
    pub dislike: f32,
    /// Whether a strong yes counts more than a weak one; otherwise each is 1.
    pub graded: bool,
}

impl FoldIn {
    /// Weights for [`ItemItem::score`]. `history`: newest first, each item once, with its signal (> 0 a yes, by strength; else a no).
    pub fn weights(&self, history: &[(ItemKey, f32)]) -> Vec<(ItemKey, f32)> {
        let decay = |position: usize| match self.half_life_events {
            Some(half_life) => self.floor + (1.0 - self.floor) * (-(position as f32) / half_life.max(f32::MIN_POSITIVE)).exp2(),
            None => 1.0,
        };
        let strength = |signal: f32| match (signal > 0.0, self.graded) {
            (true, true) => signal,
            (true, false) => 1.0,
            (false, true) => signal * self.dislike,
            (false, false) => -self.dislike,
        };
        let weighted = history.iter().enumerate().map(|(position, &(item, signal))| (item, strength(signal) * decay(position)));
        weighted.filter(|(_, weight)| weight.is_finite() && *weight != 0.0).collect()
    }
}

/// Sparse item-item weights (CSR), immutable; a row holds its targets in ascending order.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ItemItem {
    fold_in: FoldIn,
    /// Row i is `offsets[i]..offsets[i + 1]`; one row an item key, one more at the end.
    offsets: Vec<u32>,
    targets: Vec<u32>,
    weights: Vec<f32>,
    /// One more than the largest target.
    width: usize,
}

impl ItemItem {
    /// From its parts, as an artefact holds them; `None` where they do not fit together.
    pub(super) fn from_parts(fold_in: FoldIn, offsets: Vec<u32>, targets: Vec<u32>, weights: Vec<f32>) -> Option<Self> {
        let rows_fit = offsets.first().is_none_or(|first| *first == 0)
            && offsets.is_sorted()
            && offsets.last().map_or(0, |last| *last as usize) == targets.len()
            && offsets.windows(2).all(|row| targets[row[0] as usize..row[1] as usize].is_sorted());
        let width = targets.iter().max().map_or(0, |most| *most as usize + 1);
        let fits = rows_fit && targets.len() == weights.len() && weights.iter().all(|weight| weight.is_finite());
        fits.then_some(Self { fold_in, offsets, targets, weights, width })
    }

    /// Offsets, targets and weights, as an artefact holds them.
    pub(super) fn parts(&self) -> (&[u32], &[u32], &[f32]) {
        (&self.offsets, &self.targets, &self.weights)
    }

    /// The same weights with another way to fold histories in.
    pub fn with_fold_in(self, fold_in: FoldIn) -> Self {
        Self { fold_in, ..self }
    }

    /// How histories are folded in.
    pub fn fold_in(&self) -> FoldIn {
        self.fold_in
    }

    /// How many weights there are.
    pub fn len(&self) -> usize {
        self.targets.len()
    }

    /// Whether nothing was learned.
    pub fn is_empty(&self) -> bool {
        self.targets.is_empty()
    }

    /// Rows from key 0 on, empty ones included.
    pub fn rows(&self) -> usize {
        self.offsets.len().saturating_sub(1)
    }

    /// The mean of the squared weights; 0 where there are none.
    pub fn mean_square(&self) -> f64 {
        self.weights.iter().map(|weight| f64::from(*weight).powi(2)).sum::<f64>() / self.len().max(1) as f64
    }

    /// What goes with `item`, by item key: (target, weight). Empty for an item that was not learned.
    pub fn row(&self, item: ItemKey) -> impl Iterator<Item = (ItemKey, f32)> + '_ {
        let (targets, weights) = self.row_slices(item);
        targets.iter().map(|target| ItemKey(*target)).zip(weights.iter().copied())
    }

    /// Weights for [`Self::score`] and [`Self::contributions`]; see [`FoldIn::weights`].
    pub fn fold_in_weights(&self, history: &[(ItemKey, f32)]) -> Vec<(ItemKey, f32)> {
        self.fold_in.weights(history)
    }

    /// Every item that goes with the weighted history, by item key, with the sum of its weights; items of the history are not left out.
    pub fn score(&self, history: &[(ItemKey, f32)]) -> Vec<(ItemKey, f32)> {
        let mut scores = Vec::new();
        self.score_into(history, &mut scores);
        scores.iter().enumerate().filter(|(_, score)| **score != 0.0).map(|(target, score)| (ItemKey(target as u32), *score)).collect()
    }

    /// As [`Self::score`], but into a table with one place an item key, which is cleared first: for callers with many histories.
    pub fn score_into(&self, history: &[(ItemKey, f32)], scores: &mut Vec<f32>) {
        scores.clear();
        scores.resize(self.width, 0.0);
        for &(item, by) in history {
            let (targets, weights) = self.row_slices(item);
            for (target, weight) in targets.iter().zip(weights) {
                scores[*target as usize] += by * weight;
            }
        }
    }

    /// Which item of the weighted history gave how much to the score of `item`; in the order of the history, those that gave nothing left
    /// out. Added up in this order they are the score, to the last bit.
    pub fn contributions(&self, history: &[(ItemKey, f32)], item: ItemKey) -> Vec<(ItemKey, f32)> {
        let given = |&(from, by): &(ItemKey, f32)| {
            let (targets, weights) = self.row_slices(from);
            targets.binary_search(&item.0).ok().map(|place| (from, by * weights[place]))
        };
        history.iter().filter_map(given).collect()
    }

    fn row_slices(&self, item: ItemKey) -> (&[u32], &[f32]) {
        match (self.offsets.get(item.row()), self.offsets.get(item.row() + 1)) {
            (Some(&start), Some(&end)) => (&self.targets[start as usize..end as usize], &self.weights[start as usize..end as usize]),
            _ => (&[], &[]),
        }
    }
}

/// Takes rows in any order and keeps the largest weights, `neighbours` a row on average; never holds more than twice that.
#[derive(Debug)]
pub struct ItemItemBuilder {
    neighbours: usize,
    /// How many weights are kept in the end.
    budget: usize,
    rows: Vec<(ItemKey, Vec<(u32, f32)>)>,
    held: usize,
    /// Weights below it are not among the largest any more.
    floor: f32,
}

impl ItemItemBuilder {
    /// For `rows` rows (about) of `neighbours` weights on average.
    pub fn new(neighbours: usize, rows: usize) -> Self {
        let neighbours = neighbours.max(1);
        Self { neighbours, budget: neighbours.saturating_mul(rows), rows: Vec::new(), held: 0, floor: 0.0 }
    }

    /// What of a row can be kept at all: weights that are finite and not 0, the largest first, 4 x `neighbours` at most.
    pub fn shortened(neighbours: usize, mut row: Vec<(ItemKey, f32)>) -> Vec<(ItemKey, f32)> {
        let most = MOST_A_ROW * neighbours.max(1);
        row.retain(|(_, weight)| weight.is_finite() && *weight != 0.0);
        if row.len() > most {
            row.select_nth_unstable_by(most, larger_first);
            row.truncate(most);
        }
        row.sort_unstable_by(larger_first);
        row
    }

    /// Adds the row of `item`; an item's row is given once, and a target stands in it once.
    pub fn push(&mut self, item: ItemKey, row: Vec<(ItemKey, f32)>) {
        let row = Self::shortened(self.neighbours, row);
        let kept = kept_above(self.floor, row.iter().map(|(_, weight)| *weight));
        self.held += kept;
        self.rows.push((item, row[..kept].iter().map(|(target, weight)| (target.0, *weight)).collect()));
        // Now and then is enough: sorting out costs as much as what is held. The budget is that of all rows: rows come the most used first, and
        // a floor from those alone was too high for the others (MovieLens: 29 weights a row instead of 100).
        if self.held > self.budget.saturating_mul(2) {
            self.sort_out();
        }
    }

    /// Raises the floor so that the budget is kept, as far as the least a row allows.
    fn sort_out(&mut self) {
        if self.held <= self.budget {
            return;
        }
        let mut all: Vec<f32> = self.rows.iter().flat_map(|(_, row)| row.iter().map(|(_, weight)| weight.abs())).collect();
        let (_, floor, _) = all.select_nth_unstable_by(self.budget, |a, b| b.total_cmp(a));
        self.floor = *floor;
        for (_, row) in &mut self.rows {
            row.truncate(kept_above(self.floor, row.iter().map(|(_, weight)| *weight)));
            row.shrink_to_fit();
        }
        self.held = self.rows.iter().map(|(_, row)| row.len()).sum();
    }

    /// The weights, to be folded in as `fold_in` says.
    pub fn finish(mut self, fold_in: FoldIn) -> ItemItem {
        self.sort_out();
        self.rows.sort_unstable_by_key(|(item, _)| *item);
        let rows = self.rows.last().map_or(0, |(item, _)| item.row() + 1);
        let (mut offsets, mut targets, mut weights) = (Vec::with_capacity(rows + 1), Vec::with_capacity(self.held), Vec::with_capacity(self.held));
        for (item, mut row) in self.rows {
            offsets.resize(item.row() + 1, targets.len() as u32);
            row.sort_unstable_by_key(|(target, _)| *target);
            targets.extend(row.iter().map(|(target, _)| *target));
            weights.extend(row.iter().map(|(_, weight)| *weight));
        }
        offsets.push(targets.len() as u32);
        let width = targets.iter().max().map_or(0, |most| *most as usize + 1);
        ItemItem { fold_in, offsets, targets, weights, width }
    }
}

/// How many of the weights, which fall, a row keeps.
fn kept_above(floor: f32, falling: impl Iterator<Item = f32>) -> usize {
    falling.enumerate().take_while(|(place, weight)| *place < LEAST_A_ROW || weight.abs() > floor).count()
}

fn larger_first(a: &(ItemKey, f32), b: &(ItemKey, f32)) -> std::cmp::Ordering {
    b.1.abs().total_cmp(&a.1.abs()).then(a.0.cmp(&b.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keyed(pairs: &[(u32, f32)]) -> Vec<(ItemKey, f32)> {
        pairs.iter().map(|(key, weight)| (ItemKey(*key), *weight)).collect()
    }

    fn small() -> ItemItem {
        let mut builder = ItemItemBuilder::new(8, 2);
        builder.push(ItemKey(4), keyed(&[(1, 0.5), (7, -0.25)]));
        builder.push(ItemKey(1), keyed(&[(7, 0.1), (4, 0.3), (2, 0.7)]));
        builder.finish(FoldIn::default())
    }

    #[test]
    fn a_score_is_the_sum_of_its_contributions_to_the_last_bit() {
        let weights = small();
        let history = keyed(&[(1, 0.3), (4, 1.7), (9, 2.0)]);

        let scores = weights.score(&history);

        assert_eq!(scores.iter().map(|(item, _)| item.0).collect::<Vec<_>>(), [1, 2, 4, 7]);
        for (item, score) in scores {
            let sum = weights.contributions(&history, item).iter().fold(0.0, |sum, (_, part)| sum + part);
            assert_eq!(sum.to_bits(), score.to_bits());
        }
        assert_eq!(weights.contributions(&history, ItemKey(7)), keyed(&[(1, 0.3 * 0.1), (4, 1.7 * -0.25)]));
    }

    #[test]
    fn unknown_items_and_empty_histories_score_nothing() {
        assert!(small().score(&[]).is_empty());
        assert!(small().score(&keyed(&[(0, 1.0), (3, 1.0), (5, 1.0), (u32::MAX, 1.0)])).is_empty());
        assert!(ItemItem::default().score(&keyed(&[(0, 1.0)])).is_empty());
        assert!(ItemItemBuilder::new(0, 0).finish(FoldIn::default()).is_empty());
    }

    #[test]
    fn older_events_count_less_and_a_no_counts_against() {
        let fold_in = FoldIn { half_life_events: Some(2.0), floor: 0.0, dislike: 0.5, graded: true };
        let history = keyed(&[(1, 3.0), (2, -1.0), (3, 4.0)]);

        let decayed = fold_in.weights(&history);
        let lasting = FoldIn { floor: 0.2, ..fold_in }.weights(&history);
        let plain = FoldIn::default().weights(&history);

        assert_eq!(decayed, keyed(&[(1, 3.0), (2, -0.5 * 0.5f32.sqrt()), (3, 2.0)]));
        assert_eq!(lasting.last(), Some(&(ItemKey(3), 4.0 * 0.6)));
        assert_eq!(plain, keyed(&[(1, 1.0), (3, 1.0)]));
        assert!(fold_in.weights(&keyed(&[(1, f32::NAN), (2, f32::INFINITY)])).is_empty());
    }

    #[test]
    fn the_largest_weights_are_kept_over_all_rows_and_no_row_is_left_bare() {
        let mut builder = ItemItemBuilder::new(20, 50);
        for item in 0..50 {
            let strength = if item < 10 { 1.0 } else { 0.001 };
            builder.push(ItemKey(item), (0..500).map(|target| (ItemKey(target), strength / (1.0 + target as f32))).collect());
        }

        let weights = builder.finish(FoldIn::default());

        let lengths: Vec<_> = (0..50).map(|item| weights.row(ItemKey(item)).count()).collect();
        assert_eq!(lengths[..10], [80; 10]);
        assert!(lengths[10..].iter().all(|length| (10..20).contains(length)), "{lengths:?}");
        assert!(weights.row(ItemKey(30)).any(|(target, _)| target == ItemKey(0)));
    }

    #[test]
    fn parts_that_do_not_fit_together_are_refused() {
        let weights = small();
        let (offsets, targets, values) = weights.parts();
        let whole = |offsets: &[u32], targets: &[u32], values: &[f32]| ItemItem::from_parts(FoldIn::default(), offsets.into(), targets.into(), values.into());

        assert_eq!(whole(offsets, targets, values), Some(weights.clone()));
        assert_eq!(whole(&[0, 9], targets, values), None);
        assert_eq!(whole(offsets, targets, &values[1..]), None);
        assert_eq!(whole(&[0, 2], &[5, 3], &[1.0, 1.0]), None);
        assert_eq!(whole(&[0, 1], &[5], &[f32::NAN]), None);
    }
}
