//! What everyone's likes say: item-item weights and, where they earned a place beside them, the factors of implicit ALS.

use super::{Factors, FoldIn, ItemItem};
use crate::domain::ItemKey;

/// Answers weighted histories; immutable. Without factors it costs what the item-item weights cost.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Collaborative {
    /// What goes with what; says how histories are folded in, for both.
    pub item_item: ItemItem,
    /// Items as points, for a score beside the weights' (their strength is in them).
    pub factors: Option<Factors>,
}

impl From<ItemItem> for Collaborative {
    fn from(item_item: ItemItem) -> Self {
        Self { item_item, factors: None }
    }
}

impl Collaborative {
    /// Weights for the other methods; see [`FoldIn::weights`].
    pub fn fold_in_weights(&self, history: &[(ItemKey, f32)]) -> Vec<(ItemKey, f32)> {
        self.fold_in().weights(history)
    }

    /// How histories are folded in.
    pub fn fold_in(&self) -> FoldIn {
        self.item_item.fold_in()
    }

    /// Every item that goes with the weighted history, by item key, with its score; items of the history are not left out.
    pub fn score(&self, history: &[(ItemKey, f32)]) -> Vec<(ItemKey, f32)> {
        let mut scores = Vec::new();
        self.score_into(history, &mut scores);
        scores.iter().enumerate().filter(|(_, score)| **score != 0.0).map(|(target, score)| (ItemKey(target as u32), *score)).collect()
    }

    /// As [`Self::score`], but into a table with one place an item key, which is cleared first: for callers with many histories.
    pub fn score_into(&self, history: &[(ItemKey, f32)], scores: &mut Vec<f32>) {
        self.item_item.score_into(history, scores);
        if let Some(factors) = &self.factors {
            scores.resize(scores.len().max(factors.width()), 0.0);
            factors.add_scores(history, scores);
        }
    }

    /// What the score of `item` would lose without each item of the weighted history; in the order of the history, those without a part left out.
    /// Without factors they add up to the score.
    pub fn contributions(&self, history: &[(ItemKey, f32)], item: ItemKey) -> Vec<(ItemKey, f32)> {
        let linear = self.item_item.contributions(history, item);
        let Some(factors) = &self.factors else { return linear };
        let (mut linear, mut factored) = (linear.into_iter().peekable(), factors.contributions(history, item).into_iter().peekable());
        // Both are in the order of the history, in which an item stands once.
        let of = |parts: &mut std::iter::Peekable<std::vec::IntoIter<(ItemKey, f32)>>, from| parts.next_if(|(item, _)| *item == from).map(|(_, part)| part);
        let both = |&(from, _): &(ItemKey, f32)| match (of(&mut linear, from), of(&mut factored, from)) {
            (None, None) => None,
            (a, b) => Some((from, a.unwrap_or(0.0) + b.unwrap_or(0.0))),
        };
        history.iter().filter_map(both).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::learned::{Folding, ItemItemBuilder, factors::tests::of_rows};

    fn keyed(pairs: &[(u32, f32)]) -> Vec<(ItemKey, f32)> {
        pairs.iter().map(|(key, weight)| (ItemKey(*key), *weight)).collect()
    }

    fn both() -> Collaborative {
        let mut builder = ItemItemBuilder::new(8, 2);
        builder.push(ItemKey(4), keyed(&[(1, 0.5), (7, -0.25)]));
        builder.push(ItemKey(1), keyed(&[(7, 0.1), (4, 0.3), (2, 0.7)]));
        let factors = of_rows(Folding { alpha: 8.0, lambda: 0.1, strength: 0.5 }, &[(1, &[0.9, 0.1]), (4, &[0.6, -0.4]), (8, &[0.5, 0.5]), (6, &[0.1, 0.8])]);
        Collaborative { item_item: builder.finish(FoldIn::default()), factors: Some(factors) }
    }

    fn score(learned: &Collaborative, history: &[(ItemKey, f32)], item: u32) -> f32 {
        learned.score(history).iter().find(|(key, _)| key.0 == item).map_or(0.0, |(_, score)| *score)
    }

    #[test]
    fn taking_an_item_out_of_the_history_lowers_the_score_by_its_part() {
        for learned in [both(), Collaborative { factors: None, ..both() }, Collaborative { item_item: ItemItem::default(), ..both() }] {
            let history = keyed(&[(1, 1.0), (6, 0.5), (4, 0.75), (99, 1.0)]);
            for item in [1, 2, 4, 6, 7, 8] {
                let parts = learned.contributions(&history, ItemKey(item));

                for (place, (from, _)) in history.iter().enumerate() {
                    let part = parts.iter().find(|(key, _)| key == from).map_or(0.0, |(_, part)| *part);
                    let mut without = history.clone();
                    without.remove(place);
                    let lost = score(&learned, &history, item) - score(&learned, &without, item);
                    assert!((lost - part).abs() < 1e-6, "{} from {}: {lost} and {part}", item, from.0);
                }
            }
        }
    }

    #[test]
    fn without_factors_everything_is_as_the_weights_say() {
        let Collaborative { item_item, .. } = both();
        let history = keyed(&[(1, 1.0), (4, 0.75)]);

        let alone = Collaborative::from(item_item.clone());

        assert_eq!(alone.score(&history), item_item.score(&history));
        assert_eq!(alone.contributions(&history, ItemKey(7)), item_item.contributions(&history, ItemKey(7)));
    }
}
