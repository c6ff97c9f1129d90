//! Item-kNN: who liked i and j together, over how much each is liked. Sparse, so it covers the whole catalogue.
//!
//! W\[i\]\[j\] = n_ij / (n_i^a n_j^(1-a) + shrink): the cosine at a = 1/2; more weight on the history's item above (Aiolli 2013, "asymmetric
//! cosine"). The shrinkage keeps pairs seen once or twice from looking perfect.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::interactions::Likes;
use crate::learned::{FoldIn, ItemItem, ItemItemBuilder};

/// Rows that are computed between two visits to the builder.
const ROWS_AT_ONCE: usize = 512;

/// The two dials of the similarity.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ItemKnn {
    /// a: 1/2 treats both items alike, 1 asks only what share of those who liked the history's item liked the other.
    pub asymmetry: f32,
    /// Added to the denominator, in likes.
    pub shrink: f32,
}

impl ItemKnn {
    /// What validation chooses from.
    pub(super) const GRID: [Self; 4] = [
        Self { asymmetry: 0.5, shrink: 10.0 },
        Self { asymmetry: 0.7, shrink: 10.0 },
        Self { asymmetry: 0.5, shrink: 40.0 },
        Self { asymmetry: 0.7, shrink: 40.0 },
    ];

    /// Weights of all items that were liked together with another one.
    pub(super) fn fit(self, likes: &Likes, neighbours: usize) -> ItemItem {
        let count = likes.items.len();
        let mut builder = ItemItemBuilder::new(neighbours, count);
        for start in (0..count).step_by(ROWS_AT_ONCE) {
            let rows: Vec<_> = (start..(start + ROWS_AT_ONCE).min(count))
                .into_par_iter()
                .map_init(|| vec![0u32; count], |together, column| (likes.items[column], self.row(likes, column, neighbours, together)))
                .collect();
            rows.into_iter().for_each(|(item, row)| builder.push(item, row));
        }
        builder.finish(FoldIn::default())
    }

    /// `together`: a count for each column, all 0 before and after.
    fn row(self, likes: &Likes, column: usize, neighbours: usize, together: &mut [u32]) -> Vec<(crate::domain::ItemKey, f32)> {
        let mut touched = Vec::new();
        for actor in &likes.by_item[column] {
            for &other in &likes.by_actor[*actor as usize] {
                if together[other as usize] == 0 {
                    touched.push(other as usize);
                }
                together[other as usize] += 1;
            }
        }
        let liked = |column: usize| likes.by_item[column].len() as f32;
        let own = liked(column).powf(self.asymmetry);
        let mut row = Vec::with_capacity(touched.len());
        for other in touched {
            let count = std::mem::take(&mut together[other]) as f32;
            if other != column {
                row.push((likes.items[other], count / (own * liked(other).powf(1.0 - self.asymmetry) + self.shrink)));
            }
        }
        ItemItemBuilder::shortened(neighbours, row)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::ItemKey,
        training::interactions::{Histories, Interaction},
    };

    #[test]
    fn weights_agree_with_a_case_worked_by_hand() {
        // Actors like {1, 2}, {1, 2}, {1, 3}, {1}: n_1 = 4, n_2 = 2, n_3 = 1.
        let log = [(0, 1), (0, 2), (1, 1), (1, 2), (2, 1), (2, 3), (3, 1)];
        let log: Vec<_> = log.iter().map(|(actor, item)| Interaction { actor: *actor, item: ItemKey(*item), at_ms: 0, weight: 1.0 }).collect();
        let likes = Histories::collect(&log).likes();

        let weights = ItemKnn { asymmetry: 0.5, shrink: 1.0 }.fit(&likes, 10);

        let row: Vec<_> = weights.row(ItemKey(1)).collect();
        assert_eq!(row.iter().map(|(item, _)| item.0).collect::<Vec<_>>(), [2, 3]);
        assert!((row[0].1 - 2.0 / (8.0f32.sqrt() + 1.0)).abs() < 1e-6);
        assert!((row[1].1 - 1.0 / 3.0).abs() < 1e-6);
        assert_eq!(weights.row(ItemKey(3)).count(), 1, "2 and 3 were never liked together");
    }
}
