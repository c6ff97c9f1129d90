//! From a score of the ranker to a chance, as it came true for scores like it.

use serde::{Deserialize, Serialize};

use super::ranker::by_name;
use crate::domain::FeatureVector;

/// A line from score to chance that never falls: isotonic regression (Zadrozny & Elkan 2002, "Transforming classifier scores into accurate
/// multiclass probability estimates"), straight between its knots and flat beyond them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(into = "Written", try_from = "Written")]
pub struct Calibration {
    weights: FeatureVector,
    /// Scores, each above the one before, with chances that never fall; at least one.
    knots: Vec<(f32, f32)>,
}

/// As it stands in an artefact.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(with = "by_name")]
    weights: Option<FeatureVector>,
    knots: Vec<(f32, f32)>,
}

impl Calibration {
    /// Of scores that were made with `weights`: `knots` are scores, each above the one before, with chances from 0 to 1 that never fall. `None` where
    /// they are anything else.
    pub fn new(weights: FeatureVector, knots: Vec<(f32, f32)>) -> Option<Self> {
        let each = knots.iter().all(|(score, chance)| score.is_finite() && (0.0..=1.0).contains(chance));
        let rises = knots.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1);
        (each && rises && !knots.is_empty()).then_some(Self { weights, knots })
    }

    /// Whether it knows scores that are made with `weights`: those of others say something else.
    pub fn knows(&self, weights: &FeatureVector) -> bool {
        self.weights.map(f32::to_bits) == weights.map(f32::to_bits)
    }

    /// The chance at `score`, 0 to 1.
    pub fn chance(&self, score: f32) -> f32 {
        let above = self.knots.partition_point(|(knot, _)| *knot < score).min(self.knots.len() - 1);
        let ((left, low), (right, high)) = (self.knots[above.saturating_sub(1)], self.knots[above]);
        if score <= left || left >= right {
            return low;
        }
        low + (high - low) * ((score - left) / (right - left)).min(1.0)
    }
}

impl From<Calibration> for Written {
    fn from(Calibration { weights, knots }: Calibration) -> Self {
        Self { weights: Some(weights), knots }
    }
}

impl TryFrom<Written> for Calibration {
    type Error = &'static str;

    fn try_from(Written { weights, knots }: Written) -> Result<Self, Self::Error> {
        weights.and_then(|weights| Self::new(weights, knots)).ok_or("no line from scores to chances")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::Feature;

    const WEIGHTS: FeatureVector = [0.1; Feature::ALL.len()];

    #[test]
    fn chances_lie_on_the_line_and_are_flat_beyond_it() {
        let line = Calibration::new(WEIGHTS, vec![(-1.0, 0.0), (1.0, 0.1), (2.0, 0.5)]).unwrap();

        let chances = [-9.0, -1.0, 0.0, 1.0, 1.5, 2.0, 9.0].map(|score| line.chance(score));

        for (chance, expected) in chances.into_iter().zip([0.0, 0.0, 0.05, 0.1, 0.3, 0.5, 0.5]) {
            assert!((chance - expected).abs() < 1e-6, "{chances:?}");
        }
        assert!((Calibration::new(WEIGHTS, vec![(0.0, 0.2)]).unwrap().chance(7.0) - 0.2).abs() < 1e-6);
    }

    #[test]
    fn it_knows_scores_of_its_own_weights_only_and_outlives_the_disk() {
        let line = Calibration::new(WEIGHTS, vec![(-1.0, 0.0), (1.0, 0.1)]).unwrap();
        let mut others = WEIGHTS;
        others[2] = 0.3;

        let again: Calibration = serde_json::from_str(&serde_json::to_string(&line).unwrap()).unwrap();

        assert_eq!(again, line);
        assert!(again.knows(&WEIGHTS) && !again.knows(&others));
    }

    #[test]
    fn what_is_no_line_is_refused() {
        for knots in [vec![], vec![(0.0, 0.5), (0.0, 0.6)], vec![(0.0, 0.5), (1.0, 0.4)], vec![(0.0, 1.5)], vec![(f32::NAN, 0.5)], vec![(0.0, f32::NAN)]] {
            assert_eq!(Calibration::new(WEIGHTS, knots), None);
        }
        assert!(serde_json::from_str::<Calibration>(r#"{"weights": {"lexical": 1.0}, "knots": [[1.0, 0.5], [0.0, 0.6]]}"#).is_err());
    }

    proptest! {
        #[test]
        fn a_higher_score_never_has_a_smaller_chance(steps in prop::collection::vec((0.001f32..3.0, 0.0f32..0.1), 1..10), mut scores in prop::collection::vec(-5.0f32..40.0, 2..20)) {
            let knots = steps.iter().scan((-2.0, 0.0), |(score, chance), (up, more)| { (*score, *chance) = (*score + up, *chance + more); Some((*score, *chance)) });
            let line = Calibration::new(WEIGHTS, knots.collect()).unwrap();
            scores.sort_by(f32::total_cmp);
            let chances: Vec<f32> = scores.iter().map(|score| line.chance(*score)).collect();
            prop_assert!(chances.windows(2).all(|pair| pair[0] <= pair[1]) && chances.iter().all(|chance| (0.0..=1.0).contains(chance)));
        }
    }
}
