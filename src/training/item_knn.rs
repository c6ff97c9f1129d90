//! Item-kNN: who liked i and j together, over how much each is liked. Sparse, so it covers the whole catalogue.
//!
//! Cosine: W\[i\]\[j\] = n_ij / (n_i^a n_j^(1-a) + shrink): the cosine at a = 1/2; more weight on the history's item above (Aiolli 2013,
//! "asymmetric cosine"). The shrinkage keeps pairs seen once or twice from looking perfect.
//!
//! BM25: an item is a document and those who liked it are its words, so that one who likes everything says little (Robertson & Zaragoza 2009):
//! W\[i\]\[j\] = t_i t_j Σ idf², over those who liked both, with t_i = (k1 + 1) / (k1 (1 − b + b n_i / mean n) + 1), idf = ln(items / (1 + his likes)).

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::interactions::Likes;
use crate::{
    domain::ItemKey,
    learned::{FoldIn, ItemItem, ItemItemBuilder},
};

/// Rows that are computed between two visits to the builder.
const ROWS_AT_ONCE: usize = 512;

/// A similarity and its two dials.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ItemKnn {
    /// Shared likes over the likes of each.
    Cosine {
        /// a: 1/2 treats both items alike, 1 asks only what share of those who liked the history's item liked the other.
        asymmetry: f32,
        /// Added to the denominator, in likes.
        shrink: f32,
    },
    /// Shared likes, those of choosy actors above all.
    Bm25 {
        /// How soon the likes of an item are enough.
        k1: f32,
        /// 0 to 1: how much being liked by many counts against an item.
        b: f32,
    },
}

impl std::fmt::Display for ItemKnn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Cosine { asymmetry, shrink } => write!(f, "knn {asymmetry} {shrink}"),
            Self::Bm25 { k1, b } => write!(f, "knn bm25 {k1} {b}"),
        }
    }
}

impl ItemKnn {
    /// What validation chooses from, of each kind. BM25 normalises twice, once an item, so b is small: on the validation sets of MovieLens and office
    /// products .75 lost a fifth of the NDCG@10 that 0 to .2 gave.
    pub(super) const COSINE: [Self; 4] = [
        Self::Cosine { asymmetry: 0.5, shrink: 10.0 },
        Self::Cosine { asymmetry: 0.7, shrink: 10.0 },
        Self::Cosine { asymmetry: 0.5, shrink: 40.0 },
        Self::Cosine { asymmetry: 0.7, shrink: 40.0 },
    ];
    pub(super) const BM25: [Self; 3] = [Self::Bm25 { k1: 1.2, b: 0.0 }, Self::Bm25 { k1: 1.2, b: 0.2 }, Self::Bm25 { k1: 10.0, b: 0.05 }];

    /// Weights of all items that were liked together with another one.
    pub(super) fn fit(self, likes: &Likes, neighbours: usize) -> ItemItem {
        let count = likes.items.len();
        let similarity = Similarity::new(self, likes);
        let mut builder = ItemItemBuilder::new(neighbours, count);
        for start in (0..count).step_by(ROWS_AT_ONCE) {
            let rows: Vec<_> = (start..(start + ROWS_AT_ONCE).min(count))
                .into_par_iter()
                .map_init(|| vec![0.0f32; count], |together, column| (likes.items[column], similarity.row(likes, column, neighbours, together)))
                .collect();
            rows.into_iter().for_each(|(item, row)| builder.push(item, row));
        }
        builder.finish(FoldIn::default())
    }
}

/// A similarity with what it needs of each actor and each item.
struct Similarity {
    /// What a like of an actor counts when two items share it.
    by_actor: Vec<f32>,
    /// Of a column as the history's item and as the target.
    from: Vec<f32>,
    to: Vec<f32>,
    over: Over,
}

/// How what is shared becomes a weight.
enum Over {
    /// shared / (from x to + shrink)
    Denominator { shrink: f32 },
    /// shared x from x to
    Factor,
}

impl Similarity {
    fn new(knn: ItemKnn, likes: &Likes) -> Self {
        let liked: Vec<f32> = likes.by_item.iter().map(|actors| actors.len() as f32).collect();
        match knn {
            ItemKnn::Cosine { asymmetry, shrink } => Self {
                by_actor: vec![1.0; likes.by_actor.len()],
                from: liked.iter().map(|count| count.powf(asymmetry)).collect(),
                to: liked.iter().map(|count| count.powf(1.0 - asymmetry)).collect(),
                over: Over::Denominator { shrink },
            },
            ItemKnn::Bm25 { k1, b } => {
                let used = liked.iter().filter(|count| **count > 0.0).count().max(1) as f32;
                let mean = liked.iter().sum::<f32>() / used;
                let idf = |columns: &Vec<u32>| (used / (1.0 + columns.len() as f32)).ln().max(0.0);
                let weight = |count: &f32| (k1 + 1.0) / (k1 * (1.0 - b + b * count / mean.max(1.0)) + 1.0);
                let weights: Vec<f32> = liked.iter().map(weight).collect();
                Self { by_actor: likes.by_actor.iter().map(|columns| idf(columns).powi(2)).collect(), from: weights.clone(), to: weights, over: Over::Factor }
            }
        }
    }

    /// `together`: a number for each column, all 0 before and after.
    fn row(&self, likes: &Likes, column: usize, neighbours: usize, together: &mut [f32]) -> Vec<(ItemKey, f32)> {
        let mut touched = Vec::new();
        for actor in likes.by_item[column].iter().filter(|actor| self.by_actor[**actor as usize] > 0.0) {
            for &other in &likes.by_actor[*actor as usize] {
                if together[other as usize] == 0.0 {
                    touched.push(other as usize);
                }
                together[other as usize] += self.by_actor[*actor as usize];
            }
        }
        let mut row = Vec::with_capacity(touched.len());
        for other in touched {
            let shared = std::mem::take(&mut together[other]);
            if other != column {
                let both = self.from[column] * self.to[other];
                let weight = match self.over {
                    Over::Denominator { shrink } => shared / (both + shrink),
                    Over::Factor => shared * both,
                };
                row.push((likes.items[other], weight));
            }
        }
        ItemItemBuilder::shortened(neighbours, row)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::training::interactions::{Histories, Interaction};

    /// Actors like {1, 2}, {1, 2}, {1, 3}, {1}: n_1 = 4, n_2 = 2, n_3 = 1.
    fn likes() -> Likes {
        let log = [(0, 1), (0, 2), (1, 1), (1, 2), (2, 1), (2, 3), (3, 1)];
        let log: Vec<_> = log.iter().map(|(actor, item)| Interaction { actor: *actor, item: ItemKey(*item), at_ms: 0, weight: 1.0 }).collect();
        Histories::collect(&log).likes()
    }

    #[test]
    fn weights_agree_with_a_case_worked_by_hand() {
        let weights = ItemKnn::Cosine { asymmetry: 0.5, shrink: 1.0 }.fit(&likes(), 10);

        let row: Vec<_> = weights.row(ItemKey(1)).collect();
        assert_eq!(row.iter().map(|(item, _)| item.0).collect::<Vec<_>>(), [2, 3]);
        assert!((row[0].1 - 2.0 / (8.0f32.sqrt() + 1.0)).abs() < 1e-6);
        assert!((row[1].1 - 1.0 / 3.0).abs() < 1e-6);
        assert_eq!(weights.row(ItemKey(3)).count(), 1, "2 and 3 were never liked together");
    }

    #[test]
    fn bm25_agrees_with_a_case_worked_by_hand() {
        // Who liked two of three items: idf = ln(3/3) = 0. A fourth item makes it ln(4/3).
        let mut likes = likes();
        assert!(ItemKnn::Bm25 { k1: 1.0, b: 1.0 }.fit(&likes, 10).is_empty(), "nobody is choosy");
        likes.items.push(ItemKey(4));
        likes.by_item.push(vec![4]);
        likes.by_actor.push(vec![3]);

        let weights = ItemKnn::Bm25 { k1: 1.0, b: 1.0 }.fit(&likes, 10);

        // Mean n = 8 / 4 = 2: t_1 = 2 / 3, t_2 = 2 / 2, t_3 = 2 / 1.5.
        let square = (4.0f32 / 3.0).ln().powi(2);
        let row: Vec<_> = weights.row(ItemKey(1)).collect();
        assert_eq!(row.iter().map(|(item, _)| item.0).collect::<Vec<_>>(), [2, 3]);
        assert!((row[0].1 - 2.0 * square * 2.0 / 3.0).abs() < 1e-6);
        assert!((row[1].1 - square * (2.0 / 3.0) * (2.0 / 1.5)).abs() < 1e-6);
    }
}
