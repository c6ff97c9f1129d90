//! Boosts and buries of rules, and what a visit has passed over: a ranked list in, the list by score and what is added to it out.

use rustc_hash::FxHashMap;

use crate::domain::{ItemKey, Score};

use super::{Place, Ranked, Ruling};
use crate::recommend::request::Arranged;

/// Puts a ranked list into the order of scores with what rules add to them, less `passed_over`. Items that come to stand elsewhere by that say why.
pub(in crate::recommend) fn weigh(ranked: Vec<Ranked>, ruling: &Ruling, passed_over: &FxHashMap<ItemKey, f32>) -> Vec<Place> {
    if !ruling.weighs() && passed_over.is_empty() {
        return ranked.into_iter().map(Place::from).collect();
    }
    let mut places: Vec<(usize, Place)> = ranked.into_iter().map(|one| weighed(one, ruling, passed_over)).enumerate().collect();
    places.sort_by_cached_key(|(before, place)| (std::cmp::Reverse(Score::new(place.order).unwrap_or(place.ranked.score)), *before));
    let settle = |(now, (before, mut place)): (usize, (usize, Place))| {
        if now == before {
            place.arranged = None;
        }
        place
    };
    places.into_iter().enumerate().map(settle).collect()
}

fn weighed(ranked: Ranked, ruling: &Ruling, passed_over: &FxHashMap<ItemKey, f32>) -> Place {
    let (by, strongest) = ruling.weight(&ranked.candidate.facts);
    let repeated = passed_over.get(&ranked.candidate.key).copied().unwrap_or(0.0);
    let arranged = match strongest {
        Some((strength, rule)) if strength >= repeated => Some(rule),
        _ => (repeated > 0.0).then_some(Arranged::Repeated),
    };
    Place { order: ranked.score.get() + by - repeated, ranked, arranged, propensity: 1.0 }
}
