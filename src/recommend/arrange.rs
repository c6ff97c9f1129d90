//! From a ranked list to a page: diversity, what earlier pages showed, the limit.

use rustc_hash::FxHashMap;

use crate::domain::{Embedding, ItemKey};

use super::rank::Ranked;

/// How deep diversity looks into the ranked list beyond what the page needs.
const DIVERSITY_POOL: usize = 200;

/// A place on the page.
pub(super) struct Place {
    pub(super) ranked: Ranked,
    /// Why it does not stand where its score would put it.
    pub(super) arranged: Option<&'static str>,
}

/// The items whose embeddings [`diversify`] will want: the head of the list.
pub(super) fn diversity_pool(ranked: &[Ranked], needed: usize) -> Vec<ItemKey> {
    ranked.iter().take(needed.saturating_add(DIVERSITY_POOL)).map(|one| one.candidate.key).collect()
}

/// Maximal marginal relevance (Carbonell & Goldstein 1998): each next item is the best compromise between its score and its
/// likeness to what stands above it. `diversity` 0 keeps the order. Greedy from the top, so a longer list begins with the shorter one.
pub(super) fn diversify(ranked: Vec<Ranked>, diversity: f32, embeddings: &FxHashMap<ItemKey, Embedding>, needed: usize) -> Vec<Place> {
    let mut places = Vec::with_capacity(ranked.len());
    let mut rest: Vec<(Ranked, f32)> = ranked.into_iter().map(|one| (one, 0.0)).collect();
    if diversity > 0.0 {
        let pool = rest.len().min(needed.saturating_add(DIVERSITY_POOL));
        let spread = rest.first().zip(rest.get(pool.saturating_sub(1))).map_or(1.0, |(top, last)| (top.0.score.get() - last.0.score.get()).max(1e-6));
        let mut head: Vec<(Ranked, f32)> = rest.drain(..pool).collect();
        while places.len() < needed && !head.is_empty() {
            let value = |(one, likeness): &(Ranked, f32)| (1.0 - diversity) * one.score.get() / spread - diversity * likeness;
            let best = (0..head.len()).reduce(|best, i| if value(&head[i]) > value(&head[best]) { i } else { best }).unwrap_or(0);
            let (chosen, _) = head.remove(best); // keeps the order of the others
            let chosen_at = embeddings.get(&chosen.candidate.key);
            for (one, likeness) in &mut head {
                if let Some((a, b)) = chosen_at.zip(embeddings.get(&one.candidate.key)) {
                    *likeness = likeness.max(a.cosine(b));
                }
            }
            places.push(Place { ranked: chosen, arranged: (best != 0).then_some("diversity") });
        }
        head.append(&mut rest);
        rest = head;
    }
    places.extend(rest.into_iter().map(|(ranked, _)| Place { ranked, arranged: None }));
    places
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        domain::{Item, ItemFacts, Score},
        recommend::rank::{Candidate, Sources},
    };

    fn ranked(key: u32, score: f32) -> Ranked {
        let item: Item = serde_json::from_value(serde_json::json!({"item_id": format!("i{key}"), "title": "x"})).unwrap();
        let candidate = Candidate { key: ItemKey(key), facts: Arc::new(ItemFacts::from(&item)), sources: Sources::default(), features: [0.0; 11] };
        Ranked { candidate, parts: [0.0; 11], boost: 0.0, score: Score::new(score).unwrap() }
    }

    fn order(diversity: f32, needed: usize) -> Vec<(u32, Option<&'static str>)> {
        let list = vec![ranked(1, 3.0), ranked(2, 2.9), ranked(3, 2.0), ranked(4, 1.0)];
        let at = |x: f32, y: f32| Embedding::new(vec![x, y]).unwrap();
        let embeddings = [(1, at(1.0, 0.0)), (2, at(1.0, 0.05)), (3, at(0.0, 1.0))].map(|(key, at)| (ItemKey(key), at)).into_iter().collect();
        diversify(list, diversity, &embeddings, needed).into_iter().map(|place| (place.ranked.candidate.key.0, place.arranged)).collect()
    }

    #[test]
    fn without_diversity_the_order_is_the_scores() {
        assert_eq!(order(0.0, 4), [(1, None), (2, None), (3, None), (4, None)]);
    }

    #[test]
    fn a_near_copy_makes_way_for_something_else_and_the_moved_item_says_so() {
        assert_eq!(order(0.6, 2), [(1, None), (3, Some("diversity")), (2, None), (4, None)]);
    }
}
