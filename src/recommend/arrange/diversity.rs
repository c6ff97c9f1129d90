//! Diversity: a list that falls by score in, one whose items differ from each other out.

use rustc_hash::FxHashMap;

use crate::domain::{Embedding, ItemKey};

use super::Place;
use crate::recommend::request::Arranged;

/// How deep diversity looks into the ranked list: half as much again at least beyond what the page needs, in steps, so that a list's pages are cut from
/// the same order for long.
const DIVERSITY_POOL: usize = 200;

fn depth(needed: usize) -> usize {
    needed.saturating_add(DIVERSITY_POOL / 2).next_multiple_of(DIVERSITY_POOL)
}

/// The items whose embeddings [`diversify`] will want: the head of the list.
pub(in crate::recommend) fn diversity_pool(places: &[Place], needed: usize) -> Vec<ItemKey> {
    places.iter().take(depth(needed)).map(|place| place.ranked.candidate.key).collect()
}

/// Maximal marginal relevance (Carbonell & Goldstein 1998): each next item is the best compromise between its score and its
/// likeness to what stands above it. `diversity` 0 keeps the order. Greedy from the top, so a longer list begins with the shorter one.
pub(in crate::recommend) fn diversify(list: Vec<Place>, diversity: f32, embeddings: &FxHashMap<ItemKey, Embedding>, needed: usize) -> Vec<Place> {
    if diversity <= 0.0 {
        return list;
    }
    let mut places = Vec::with_capacity(list.len());
    let mut head: Vec<(Place, f32)> = list.into_iter().map(|place| (place, 0.0)).collect();
    let rest = head.split_off(head.len().min(depth(needed)));
    let spread = head.first().zip(head.last()).map_or(1.0, |(top, last)| (top.0.order - last.0.order).max(1e-6));
    while places.len() < needed && !head.is_empty() {
        let value = |(place, likeness): &(Place, f32)| (1.0 - diversity) * place.order / spread - diversity * likeness;
        let best = (0..head.len()).reduce(|best, i| if value(&head[i]) > value(&head[best]) { i } else { best }).unwrap_or(0);
        let (mut chosen, _) = head.remove(best); // keeps the order of the others
        let chosen_at = embeddings.get(&chosen.ranked.candidate.key);
        for (place, likeness) in &mut head {
            if let Some((a, b)) = chosen_at.zip(embeddings.get(&place.ranked.candidate.key)) {
                *likeness = likeness.max(a.cosine(b));
            }
        }
        if best != 0 {
            chosen.arranged.get_or_insert(Arranged::Diversity);
        }
        places.push(chosen);
    }
    places.extend(head.into_iter().chain(rest).map(|(place, _)| place));
    places
}

#[cfg(test)]
mod tests {
    use super::{super::tests::ranked, *};

    fn order(diversity: f32, needed: usize) -> Vec<(u32, Option<Arranged>)> {
        let list = [(1, 3.0), (2, 2.9), (3, 2.0), (4, 1.0)].map(|(key, score)| Place::from(ranked(key, score)));
        let at = |x: f32, y: f32| Embedding::new(vec![x, y]).unwrap();
        let embeddings = [(1, at(1.0, 0.0)), (2, at(1.0, 0.05)), (3, at(0.0, 1.0))].map(|(key, at)| (ItemKey(key), at)).into_iter().collect();
        diversify(list.into(), diversity, &embeddings, needed).into_iter().map(|place| (place.ranked.candidate.key.0, place.arranged)).collect()
    }

    #[test]
    fn without_diversity_the_order_is_the_scores() {
        assert_eq!(order(0.0, 4), [(1, None), (2, None), (3, None), (4, None)]);
    }

    #[test]
    fn a_near_copy_makes_way_for_something_else_and_the_moved_item_says_so() {
        assert_eq!(order(0.6, 2), [(1, None), (3, Some(Arranged::Diversity)), (2, None), (4, None)]);
    }
}
