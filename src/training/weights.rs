//! Past questions with every candidate's features -> how much each feature should count.
//!
//! Coordinate ascent on NDCG@10 itself (Metzler & Croft 2007, "Linear feature-based models for information retrieval"): a listwise loss was
//! led astray by the long tails of item-item scores (office purchases: .132 after it, .135 by hand). The score stays a weighted sum, so that
//! explanations stay exact. Blocking and pure.

use rayon::prelude::*;

use super::selection::{DEPTH, Marks};
use crate::domain::{Feature, FeatureVector};

/// What a weight is multiplied with.
const FACTORS: [f32; 7] = [0.0, 0.25, 0.5, 0.707, 1.414, 2.0, 4.0];
/// What a weight that came down to 0 is tried at.
const BEGINNINGS: [f32; 2] = [0.05, 0.2];
/// How often all features are gone through at most.
const MOST_ROUNDS: usize = 6;
/// Gain that a change must bring, so that noise moves nothing.
const LEAST_GAIN: f64 = 0.001;
/// The questions are fitted without each part of them in turn.
const PARTS: usize = 5;
/// Fewer questions tell nothing.
const FEWEST: usize = 40;

/// What was asked, what could have been answered, and what was wanted.
#[derive(Debug, Clone)]
pub(super) struct Question<'a> {
    /// What each feature adds to a candidate's score at weight 1.
    pub(super) candidates: &'a [FeatureVector],
    /// Places of those that were wanted.
    pub(super) relevant: Vec<usize>,
    /// How many were wanted, found or not.
    pub(super) wanted: usize,
}

/// What [`fit`] found.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Found {
    pub(super) weights: FeatureVector,
    /// NDCG@10 of the weights to start from and of weights that were fitted on other questions.
    pub(super) before: f64,
    pub(super) after: f64,
    /// Whether they do better there.
    pub(super) wins: bool,
}

/// Fits weights from `start` on. `None` with too few questions.
pub(super) fn fit(questions: &[Question<'_>], start: &FeatureVector) -> Option<Found> {
    if questions.len() < FEWEST {
        return None;
    }
    // What it is worth is seen on questions that it was not fitted on. The mean of what the parts of the questions say sways less than what all
    // of them say at once: 480 questions put one weight at .2 in one training and at 1.2 in the next.
    let (mut before, mut after) = (Vec::new(), Vec::new());
    let mut weights = [0.0; Feature::ALL.len()];
    for part in 0..PARTS {
        let (ours, others): (Vec<_>, Vec<_>) = questions.iter().enumerate().partition(|(place, _)| place % PARTS != part);
        let [ours, others] = [ours, others].map(|part| part.into_iter().map(|(_, question)| question).collect::<Vec<&Question<'_>>>());
        let fitted = ascend(&ours, start);
        before.extend(marks(&others, start));
        after.extend(marks(&others, &fitted));
        weights.iter_mut().zip(fitted).for_each(|(mean, weight)| *mean += weight / PARTS as f32);
    }
    let (before, after) = (Marks::new(before), Marks::new(after));
    Some(Found { weights, before: before.mean(), after: after.mean(), wins: after.better_than(&before) })
}

fn ascend(questions: &[&Question<'_>], start: &FeatureVector) -> FeatureVector {
    let mean = |weights: &FeatureVector| marks(questions, weights).iter().sum::<f64>() / questions.len().max(1) as f64;
    let (mut weights, mut best) = (*start, mean(start));
    let moves = |feature: Feature| questions.iter().any(|question| question.candidates.iter().any(|candidate| candidate[feature as usize] != 0.0));
    // What is rejected is no matter of taste, and what is set to 0 is turned off.
    let features = Feature::ALL.into_iter().filter(|feature| *feature != Feature::Rejected && start[*feature as usize] != 0.0 && moves(*feature));
    let mut features: Vec<usize> = features.map(|feature| feature as usize).collect();
    // Only ratios matter, so the one that counts most stays as it is: those that these questions say nothing of (the history, where nobody who
    // searched had one) keep their ratio to it.
    features.sort_by(|a, b| start[*b].total_cmp(&start[*a]));
    let features = features.get(1..).unwrap_or_default();
    for _ in 0..MOST_ROUNDS {
        let round_began = best;
        for &feature in features {
            let now = weights[feature];
            let tries: Vec<f32> = if now == 0.0 { BEGINNINGS.to_vec() } else { FACTORS.iter().map(|factor| factor * now).collect() };
            let tried = tries.into_iter().map(|weight| {
                let mut weights = weights;
                weights[feature] = weight;
                (mean(&weights), weight)
            });
            if let Some((score, weight)) = tried.max_by(|a, b| a.0.total_cmp(&b.0)).filter(|(score, _)| *score > best + LEAST_GAIN) {
                (best, weights[feature]) = (score, weight);
            }
        }
        if best < round_began + LEAST_GAIN {
            break;
        }
    }
    weights
}

/// NDCG@10 of each question.
fn marks(questions: &[&Question<'_>], weights: &FeatureVector) -> Vec<f64> {
    questions.par_iter().map(|question| mark(question, weights)).collect()
}

fn mark(question: &Question<'_>, weights: &FeatureVector) -> f64 {
    let score = |candidate: &FeatureVector| candidate.iter().zip(weights).map(|(part, weight)| part * weight).sum::<f32>();
    let scores: Vec<f32> = question.candidates.iter().map(score).collect();
    // Only the ranks of what was wanted matter, so nothing is sorted.
    let rank = |place: usize| scores.iter().enumerate().filter(|(other, score)| score.total_cmp(&scores[place]).then(place.cmp(other)).is_gt()).count();
    let gain = |rank: usize| 1.0 / ((rank + 2) as f64).log2();
    let found: f64 = question.relevant.iter().map(|place| rank(*place)).filter(|rank| *rank < DEPTH).map(gain).sum();
    let ideal: f64 = (0..question.wanted.min(DEPTH)).map(gain).sum();
    if ideal > 0.0 { found / ideal } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What was wanted has the largest second feature, but for every third question; the first is noise, and the third is 0.
    fn questions(count: usize) -> Vec<Question<'static>> {
        let noise = |i: usize| ((i * 7_919 + 13) % 101) as f32 / 50.0 - 1.0;
        let candidate = |question: usize, place: usize| {
            let mut features = [0.0; Feature::ALL.len()];
            features[0] = noise(question * 31 + place);
            features[1] = noise(question * 17 + place * 3);
            features
        };
        let of = |question: usize| {
            let candidates: Vec<FeatureVector> = (0..50).map(|place| candidate(question, place)).collect();
            let by = usize::from(!question.is_multiple_of(3));
            let wanted = (0..50).max_by(|a, b| candidates[*a][by].total_cmp(&candidates[*b][by])).unwrap();
            Question { candidates: candidates.leak(), relevant: vec![wanted], wanted: 1 }
        };
        (0..count).map(of).collect()
    }

    fn weights(first: f32, second: f32) -> FeatureVector {
        let mut weights = [0.3; Feature::ALL.len()];
        (weights[0], weights[1]) = (first, second);
        weights
    }

    #[test]
    fn the_feature_that_tells_more_comes_to_count_more_and_others_stay_as_they_were() {
        let found = fit(&questions(300), &weights(1.0, 0.2)).unwrap();

        assert!(found.wins && found.after > found.before + 0.1, "{found:?}");
        assert!(found.weights[1] > 2.0 * 0.2, "{found:?}");
        assert!((found.weights[0] - 1.0).abs() < 1e-6, "only ratios matter");
        assert!(found.weights[2..].iter().all(|weight| (weight - 0.3).abs() < 1e-6));
    }

    #[test]
    fn a_feature_that_is_set_to_0_stays_off_however_much_it_tells() {
        let found = fit(&questions(300), &weights(1.0, 0.0)).unwrap();

        assert_eq!(found.weights[1].to_bits(), 0.0_f32.to_bits(), "{found:?}");
    }

    #[test]
    fn weights_that_are_right_already_do_not_lose_to_noise_and_few_questions_tell_nothing() {
        let right = fit(&questions(300), &weights(1.0, 0.2)).unwrap();

        let again = fit(&questions(300), &right.weights).unwrap();

        assert!((again.after - right.after).abs() < 0.03, "{right:?} {again:?}");
        assert_eq!(fit(&questions(FEWEST - 1), &right.weights), None);
    }

    #[test]
    fn a_question_is_marked_as_its_sorted_list_would_be() {
        let one = |score: f32| std::array::from_fn(|feature| if feature == 0 { score } else { 0.0 });
        let question = Question { candidates: &[one(0.1), one(0.9), one(0.5), one(0.5)], relevant: vec![0, 3], wanted: 3 };

        let expected = (1.0 / 4f64.log2() + 1.0 / 5f64.log2()) / (1.0 + 1.0 / 3f64.log2() + 0.5);

        assert!((mark(&question, &weights(1.0, 0.0)) - expected).abs() < 1e-12);
        assert!(mark(&Question { wanted: 0, relevant: vec![], ..question }, &weights(1.0, 0.0)).abs() < 1e-12);
    }
}
