//! One score for every candidate: features in, z-scored over the candidates, weighted and summed.
//!
//! Z-scores make a cosine, a BM25 and a sum of item-item weights comparable (a weighted sum of them beats reciprocal rank
//! fusion, DESIGN.md); the score is linear, so its parts explain it exactly.

use std::sync::Arc;

use crate::domain::{Feature, FeatureVector, ItemFacts, ItemKey, Score, Source};

use super::request::Boost;

/// The sources that found a candidate: a set of a few, made a thousand times a request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Sources(u8);

impl Sources {
    pub(super) fn add(&mut self, source: Source) {
        self.0 |= 1 << source as u8;
    }

    pub(super) fn of(source: Source) -> Self {
        let mut sources = Self::default();
        sources.add(source);
        sources
    }

    /// In the order of [`Source::ALL`].
    pub(super) fn list(self) -> impl Iterator<Item = Source> {
        Source::ALL.into_iter().filter(move |source| self.0 & (1 << *source as u8) != 0)
    }
}

/// A candidate before it is ranked.
#[derive(Debug)]
pub(super) struct Candidate {
    pub(super) key: ItemKey,
    pub(super) facts: Arc<ItemFacts>,
    pub(super) sources: Sources,
    /// NaN where the feature cannot be known, as the cosine of an item that has no embedding.
    pub(super) features: FeatureVector,
}

/// A candidate with its score and the parts that add up to it.
#[derive(Debug)]
pub(super) struct Ranked {
    pub(super) candidate: Candidate,
    /// What each feature contributed.
    pub(super) parts: FeatureVector,
    /// What the request's boosts contributed.
    pub(super) boost: f32,
    pub(super) score: Score,
}

/// Mean and spread of one feature over the candidates, as a straight line from value to what it adds to the score.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scale {
    mean: f32,
    /// Weight by standard deviation: what one unit of the feature adds to the score.
    pub(super) slope: f32,
}

/// One for each feature.
pub(super) type Scales = [Scale; Feature::ALL.len()];

/// The z-scores of the features over the candidates, each times the evidence for it and its weight. The one place where features become parts
/// of a score, for answers and for the training of the weights alike.
pub(super) fn scales(candidates: &[Candidate], evidence: FeatureVector, weights: &FeatureVector) -> Scales {
    Feature::ALL.map(|feature| {
        let (i, weight) = (feature as usize, evidence[feature as usize] * weights[feature as usize]);
        if feature == Feature::Rejected { Scale::taking(weight) } else { Scale::of(candidates.iter().map(|candidate| candidate.features[i]), weight) }
    })
}

/// What each feature of a candidate adds to its score.
pub(super) fn parts(candidate: &Candidate, scales: &Scales) -> FeatureVector {
    std::array::from_fn(|i| scales[i].part(candidate.features[i]))
}

impl Scale {
    fn of(values: impl Iterator<Item = f32> + Clone, weight: f32) -> Self {
        if weight == 0.0 {
            return Self { mean: 0.0, slope: 0.0 };
        }
        let known = values.filter(|value| value.is_finite());
        let count = known.clone().count().max(1) as f64;
        let mean = known.clone().map(f64::from).sum::<f64>() / count;
        let variance = known.map(|value| (f64::from(value) - mean).powi(2)).sum::<f64>() / count;
        // A feature that is the same for all tells nothing; rounding must not be blown up to a difference.
        let flat = variance.sqrt() <= 1e-6 * mean.abs().max(1e-6);
        Self { mean: mean as f32, slope: if flat { 0.0 } else { (f64::from(weight) / variance.sqrt()) as f32 } }
    }

    /// For a feature that counts as it is: 0 adds nothing, 1 takes `weight` away, however many of the candidates have it.
    fn taking(weight: f32) -> Self {
        Self { mean: 0.0, slope: -weight }
    }

    /// What `value` adds to the score; an unknown one is taken for the mean.
    fn part(&self, value: f32) -> f32 {
        if value.is_finite() { (value - self.mean) * self.slope } else { 0.0 }
    }
}

/// Ranks candidates, best first; equal scores by key. `evidence` says how much the request gives each feature to go by: 0 nothing, 1 plenty.
pub(super) fn rank(candidates: Vec<Candidate>, weights: &FeatureVector, evidence: FeatureVector, boosts: &[Boost]) -> (Vec<Ranked>, Scales) {
    let scales = scales(&candidates, evidence, weights);
    let score = |candidate: Candidate| {
        let parts = parts(&candidate, &scales);
        let boost = boosts.iter().filter(|boost| boost.filter.matches(&candidate.facts)).map(|boost| boost.factor.ln()).sum::<f32>();
        let score = Score::new(parts.iter().sum::<f32>() + boost).unwrap_or_else(|_| Score::new(0.0).expect("0 is finite"));
        Ranked { candidate, parts, boost, score }
    };
    let mut ranked: Vec<Ranked> = candidates.into_iter().map(score).collect();
    // By cached keys: a candidate is 100 bytes, too much to move about while sorting.
    ranked.sort_by_cached_key(|one| (std::cmp::Reverse(one.score), one.candidate.key));
    (ranked, scales)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::domain::{Filter, Item};

    fn candidate(key: u32, features: FeatureVector) -> Candidate {
        let item: Item = serde_json::from_value(json!({"item_id": format!("i{key}"), "title": "x", "price": key})).unwrap();
        Candidate { key: ItemKey(key), facts: Arc::new(ItemFacts::from(&item)), sources: Sources::default(), features }
    }

    const WEIGHTS: FeatureVector = [1.0, 0.5, 1.0, 1.0, 0.1, 0.0, 6.0, 0.2, 0.2, 0.0, 0.3];
    const ALL: FeatureVector = [1.0; 11];

    #[test]
    fn parts_add_up_to_the_score_and_sort_the_list() {
        let candidates = vec![
            candidate(1, [0.1, 3.0, 0.0, 0.0, 1.0, 0.5, 0.0, 0.7, 0.0, 0.0, 0.1]),
            candidate(2, [0.9, 0.0, 2.0, 0.0, 5.0, 0.5, 0.0, 0.9, 0.0, 0.0, 0.0]),
            candidate(3, [f32::NAN, 1.0, 1.0, 0.0, 2.0, 0.5, 0.0, f32::NAN, 0.0, 0.0, 0.4]),
        ];
        let boosts = [Boost { filter: Filter::parse(&json!({"price": 3}), &|_| None).unwrap(), factor: 2.0 }];

        let (ranked, _) = rank(candidates, &WEIGHTS, ALL, &boosts);

        assert_eq!(ranked[0].candidate.key, ItemKey(2));
        for pair in ranked.windows(2) {
            assert!(pair[0].score >= pair[1].score);
        }
        for one in &ranked {
            assert!((one.parts.iter().sum::<f32>() + one.boost - one.score.get()).abs() < 1e-5);
            assert!((one.boost > 0.0) == (one.candidate.key == ItemKey(3)));
        }
    }

    #[test]
    fn a_feature_that_is_the_same_for_all_or_has_no_evidence_moves_nothing() {
        let mut evidence = ALL;
        evidence[0] = 0.0;

        let (ranked, _) = rank(
            vec![candidate(1, [0.1, 7.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]), candidate(2, [0.9, 7.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0])],
            &WEIGHTS,
            evidence,
            &[],
        );

        assert!(ranked.iter().all(|one| one.score.get().abs() < 1e-6));
    }

    #[test]
    fn what_is_rejected_falls_as_far_where_most_candidates_have_it_as_where_one_has() {
        let with = |rejected: f32| [0.5, 1.0, 0.0, 0.0, 0.0, 0.0, rejected, 0.0, 0.0, 0.0, 0.0];
        for others in [0.0, 1.0] {
            let (ranked, _) = rank(vec![candidate(1, with(1.0)), candidate(2, with(0.0)), candidate(3, with(others))], &WEIGHTS, ALL, &[]);

            let part = |key: u32| ranked.iter().find(|one| one.candidate.key == ItemKey(key)).unwrap().parts[Feature::Rejected as usize];
            assert!((part(1) + 6.0).abs() < 1e-6 && part(2).abs() < 1e-6);
            assert_eq!(ranked[0].candidate.key, ItemKey(2));
        }
    }

    #[test]
    fn hostile_numbers_cannot_break_the_order() {
        let wild = [f32::MAX, f32::MIN, f32::INFINITY, f32::NAN, 1e-38, 0.0, f32::MAX, f32::NEG_INFINITY, 0.0, 0.0, f32::NAN];

        let (ranked, _) = rank(vec![candidate(1, wild), candidate(2, [0.0; 11]), candidate(3, [1e38; 11])], &WEIGHTS, ALL, &[]);

        assert_eq!(ranked.len(), 3);
    }
}
