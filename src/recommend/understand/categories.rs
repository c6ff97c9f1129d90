//! The categories of this catalogue that a text is about. In: the text's embedding. Out: categories with calibrated probabilities.
//!
//! Each category has a prototype: the direction of its items' embeddings and its name's (a nearest-centroid classifier; on banking77 that is right
//! for .85 of the texts). Cosines become probabilities in two steps. A softmax with temperature `t` weighs a category against the others; its
//! log-odds, the cosine itself and how common the category is then go through a logistic curve (Platt 1999) fitted on items that the prototypes have not
//! seen, their titles as texts:
//!
//! `p = sigmoid(margin * (c/t - log sum of exp(others/t)) + cosine * c + prior * log_odds + bias)`
//!
//! So probabilities need not add up to 1. An item may be in two categories, then both may be near 1, where a softmax alone would give each
//! a half; and a text that is like nothing in the catalogue has small cosines, and is told to be about nothing.

use std::sync::Arc;

use crate::domain::Embedding;

use super::across::Across;

/// Categories that are told at most.
const MOST: usize = 5;
/// One that is less probable is not told.
const LEAST: f32 = 0.1;
/// The name of a category counts as much as this many of its items.
const NAME_WEIGHT: f32 = 2.0;
/// Fewer texts of known category teach no calibration.
const FEWEST_SAMPLES: usize = 20;
/// What the curve goes by: margin, cosine, how common the category is, and a constant.
const FACTORS: usize = 4;
const TEMPERATURES: [f32; 7] = [0.01, 0.02, 0.03, 0.05, 0.08, 0.12, 0.2];

/// A category that a text is about.
#[derive(Debug, Clone, PartialEq)]
pub struct CategoryProbability {
    /// As the items name it.
    pub category: Arc<str>,
    /// That an item described by the text is in it, 0 to 1.
    pub probability: f32,
}

/// The catalogue's categories as a model of texts; belongs to the encoder whose embeddings it was made of.
pub struct Categories {
    pub(super) model_version: String,
    pub(super) names: Vec<Arc<str>>,
    pub(super) prototypes: Prototypes,
    pub(super) calibration: Calibration,
    /// Between the languages of its items.
    pub(super) across: Across,
}

/// One direction a category, side by side.
#[derive(Debug, Clone)]
pub(super) struct Prototypes {
    width: usize,
    rows: Vec<f32>,
    /// How common each category is among the items; 0 where that is not known.
    log_odds: Vec<f32>,
}

/// Sums of embeddings by category, on the way to prototypes.
#[derive(Debug, Clone)]
pub(super) struct Sums {
    width: usize,
    rows: Vec<f32>,
}

/// A text of known categories.
pub(super) struct Sample {
    pub(super) embedding: Embedding,
    /// Places of its categories.
    pub(super) categories: Vec<usize>,
}

/// The curve from cosine to probability.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Calibration {
    temperature: f32,
    margin: f32,
    cosine: f32,
    prior: f32,
    bias: f32,
}

impl Default for Calibration {
    /// A plain softmax, for a catalogue too small to learn from.
    fn default() -> Self {
        Self { temperature: 0.05, margin: 1.0, cosine: 0.0, prior: 0.0, bias: 0.0 }
    }
}

impl Categories {
    /// The version of the encoder whose embeddings these are.
    pub fn model_version(&self) -> &str {
        &self.model_version
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// A text's meaning without this `share` of what tells the catalogue's languages apart.
    pub(in crate::recommend) fn across_languages(&self, text: &Embedding, share: f32) -> Embedding {
        self.across.neutral(text, share)
    }

    /// What a text is about, most probable first: at most five. 0.1 ms for 2,000 categories.
    pub(in crate::recommend) fn of(&self, text: &Embedding) -> Vec<CategoryProbability> {
        let probabilities = self.calibration.probabilities(&self.prototypes, text);
        let mut told: Vec<(usize, f32)> = probabilities.into_iter().enumerate().filter(|(_, probability)| *probability >= LEAST).collect();
        told.sort_unstable_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        told.into_iter().take(MOST).map(|(place, probability)| CategoryProbability { category: Arc::clone(&self.names[place]), probability }).collect()
    }
}

impl Sums {
    pub(super) fn new(categories: usize, width: usize) -> Self {
        Self { width, rows: vec![0.0; categories * width] }
    }

    pub(super) fn add(&mut self, category: usize, embedding: &Embedding, weight: f32) {
        let row = &mut self.rows[category * self.width..][..self.width];
        for (sum, x) in row.iter_mut().zip(embedding.iter()) {
            *sum += weight * x;
        }
    }

    pub(super) fn add_name(&mut self, category: usize, name: &Embedding) {
        self.add(category, name, NAME_WEIGHT);
    }

    /// Of length 1; a category of which nothing is known stays 0, near nothing.
    pub(super) fn into_prototypes(mut self) -> Prototypes {
        for row in self.rows.chunks_exact_mut(self.width.max(1)) {
            let norm = row.iter().map(|x| x * x).sum::<f32>().sqrt();
            if norm > 1e-6 {
                row.iter_mut().for_each(|x| *x /= norm);
            }
        }
        let categories = self.rows.len() / self.width.max(1);
        Prototypes { width: self.width, rows: self.rows, log_odds: vec![0.0; categories] }
    }
}

impl Prototypes {
    /// Of `items` in all, so many are in each category.
    pub(super) fn with_counts(mut self, counts: &[usize], items: usize) -> Self {
        for (log_odds, count) in self.log_odds.iter_mut().zip(counts) {
            *log_odds = ((*count as f32 + 1.0) / (items.saturating_sub(*count) as f32 + 1.0)).ln();
        }
        self
    }

    fn cosines(&self, text: &Embedding) -> Vec<f32> {
        self.rows.chunks_exact(self.width.max(1)).map(|row| dot(row, text)).collect()
    }
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<16>(), b.as_chunks::<16>());
    let mut lanes = [0.0_f32; 16]; // side by side, as in Embedding::cosine
    for (a, b) in a.iter().zip(b) {
        for (lane, (x, y)) in lanes.iter_mut().zip(a.iter().zip(b)) {
            *lane += x * y;
        }
    }
    lanes.iter().sum::<f32>() + a_rest.iter().zip(b_rest).map(|(x, y)| x * y).sum::<f32>()
}

/// `c/t - log sum of exp(others/t)` for each cosine: the log-odds of the softmax.
fn margins(cosines: &[f32], temperature: f32) -> Vec<f32> {
    let highest = cosines.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let shifted = |cosine: f32| f64::from((cosine - highest) / temperature);
    let all: f64 = cosines.iter().map(|cosine| shifted(*cosine).exp()).sum();
    let odds = |cosine: &f32| {
        let own = shifted(*cosine);
        (own - (all - own.exp()).max(1e-9).ln()) as f32
    };
    cosines.iter().map(odds).collect()
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

impl Calibration {
    /// Of one text, for all categories.
    fn probabilities(&self, prototypes: &Prototypes, text: &Embedding) -> Vec<f32> {
        let cosines = prototypes.cosines(text);
        let curve = |((margin, cosine), log_odds): ((f32, &f32), &f32)| {
            sigmoid(f64::from(self.margin * margin + self.cosine * cosine + self.prior * log_odds + self.bias)) as f32
        };
        margins(&cosines, self.temperature).into_iter().zip(&cosines).zip(&prototypes.log_odds).map(curve).collect()
    }

    /// Fitted by maximum likelihood to texts whose categories the prototypes do not know. Some 100 ms for 400 texts and 2,000 categories.
    pub(super) fn fit(prototypes: &Prototypes, samples: &[Sample]) -> Self {
        if samples.len() < FEWEST_SAMPLES {
            return Self::default();
        }
        let cosines: Vec<Vec<f32>> = samples.iter().map(|sample| prototypes.cosines(&sample.embedding)).collect();
        let fits = TEMPERATURES.map(|temperature| fit_at(temperature, &cosines, &prototypes.log_odds, samples));
        let best = fits.into_iter().filter(|(_, loss)| loss.is_finite()).min_by(|a, b| a.1.total_cmp(&b.1));
        best.map_or_else(Self::default, |(calibration, _)| calibration)
    }
}

/// Logistic regression of "the text is in the category" on margin, cosine and how common the category is, by Newton's method. With the mean loss of a
/// pair.
fn fit_at(temperature: f32, cosines: &[Vec<f32>], log_odds: &[f32], samples: &[Sample]) -> (Calibration, f64) {
    /// Keeps the weights finite where the categories can be told apart without fault.
    const RIDGE: f64 = 0.1;
    let count: f64 = cosines.iter().map(|row| row.len() as f64).sum();
    let centre = cosines.iter().flatten().map(|cosine| f64::from(*cosine)).sum::<f64>() / count.max(1.0);
    let common = log_odds.iter().copied().map(f64::from).sum::<f64>() / log_odds.len().max(1) as f64;
    let pairs: Vec<([f64; FACTORS], f64)> = cosines
        .iter()
        .zip(samples)
        .flat_map(|(row, sample)| {
            let margins = margins(row, temperature);
            let pair = |(place, ((margin, cosine), log_odds)): (usize, ((f32, &f32), &f32))| {
                let x = [f64::from(margin), f64::from(*cosine) - centre, f64::from(*log_odds) - common, 1.0];
                (x, if sample.categories.contains(&place) { 1.0 } else { 0.0 })
            };
            margins.into_iter().zip(row).zip(log_odds).enumerate().map(pair).collect::<Vec<_>>()
        })
        .collect();
    let mut weights = [1.0, 0.0, 0.0, 0.0];
    let prior = weights;
    let loss_of = |weights: &[f64; FACTORS]| {
        let value = |x: &[f64; FACTORS]| x.iter().zip(weights).map(|(x, w)| x * w).sum::<f64>();
        // log(1 + e^v) - y v, without overflow
        pairs.iter().map(|(x, y)| value(x).max(0.0) + (-value(x).abs()).exp().ln_1p() - y * value(x)).sum::<f64>()
            + RIDGE * weights.iter().zip(prior).map(|(w, p)| (w - p).powi(2)).sum::<f64>() / 2.0
    };
    let mut loss = loss_of(&weights);
    for _ in 0..25 {
        let (mut gradient, mut hessian) = ([0.0; FACTORS], [[0.0; FACTORS]; FACTORS]);
        for (x, y) in &pairs {
            let p = sigmoid(x.iter().zip(&weights).map(|(x, w)| x * w).sum());
            for i in 0..FACTORS {
                gradient[i] += (p - y) * x[i];
                for j in 0..FACTORS {
                    hessian[i][j] += p * (1.0 - p) * x[i] * x[j];
                }
            }
        }
        for i in 0..FACTORS {
            gradient[i] += RIDGE * (weights[i] - prior[i]);
            hessian[i][i] += RIDGE;
        }
        let Some(step) = solved(hessian, gradient) else { break };
        // Halved until it helps: far from the optimum a full step overshoots.
        let mut shrink = 1.0;
        let better = loop {
            let next: [f64; FACTORS] = std::array::from_fn(|i| weights[i] - shrink * step[i]);
            let next_loss = loss_of(&next);
            if next_loss < loss {
                break Some((next, next_loss));
            }
            shrink /= 2.0;
            if shrink < 1e-4 {
                break None;
            }
        };
        let Some((next, next_loss)) = better else { break };
        let done = loss - next_loss < 1e-7 * loss.max(1e-9);
        (weights, loss) = (next, next_loss);
        if done {
            break;
        }
    }
    let [margin, cosine, prior, bias] = weights;
    let bias = (bias - cosine * centre - prior * common) as f32;
    let calibration = Calibration { temperature, margin: margin as f32, cosine: cosine as f32, prior: prior as f32, bias };
    (calibration, loss / count.max(1.0))
}

/// `matrix * x = right`, by Gauss with pivots; `None` for a singular matrix.
fn solved(mut matrix: [[f64; FACTORS]; FACTORS], mut right: [f64; FACTORS]) -> Option<[f64; FACTORS]> {
    for column in 0..FACTORS {
        let pivot = (column..FACTORS).max_by(|a, b| matrix[*a][column].abs().total_cmp(&matrix[*b][column].abs()))?;
        matrix.swap(column, pivot);
        right.swap(column, pivot);
        if matrix[column][column].abs() < 1e-12 {
            return None;
        }
        for row in column + 1..FACTORS {
            let factor = matrix[row][column] / matrix[column][column];
            let above = matrix[column];
            for (value, above) in matrix[row].iter_mut().zip(above).skip(column) {
                *value -= factor * above;
            }
            right[row] -= factor * right[column];
        }
    }
    let mut x = [0.0; FACTORS];
    for row in (0..FACTORS).rev() {
        let known: f64 = (row + 1..FACTORS).map(|column| matrix[row][column] * x[column]).sum();
        x[row] = (right[row] - known) / matrix[row][row];
    }
    Some(x)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(x: f32, y: f32) -> Embedding {
        Embedding::new(vec![x, y]).unwrap()
    }

    fn two_categories() -> Prototypes {
        let mut sums = Sums::new(2, 2);
        sums.add(0, &at(1.0, 0.0), 1.0);
        sums.add(1, &at(0.0, 1.0), 1.0);
        sums.into_prototypes()
    }

    #[test]
    fn margins_are_the_log_odds_of_a_softmax() {
        let margins = margins(&[0.3, 0.1, 0.2], 0.1);

        let of = |own: f32, a: f32, b: f32| own - (a.exp() + b.exp()).ln();
        for (margin, expected) in margins.iter().zip([of(3.0, 1.0, 2.0), of(1.0, 3.0, 2.0), of(2.0, 3.0, 1.0)]) {
            assert!((margin - expected).abs() < 1e-4);
        }
    }

    #[test]
    fn texts_that_are_wrong_one_time_in_four_are_believed_three_times_in_four() {
        // All texts look the same; three of four are in the first category.
        let sample = |place: usize| Sample { embedding: at(1.0, 0.4), categories: vec![place] };
        let samples: Vec<Sample> = (0..400).map(|i| sample(usize::from(i % 4 == 0))).collect();
        let prototypes = two_categories();

        let calibration = Calibration::fit(&prototypes, &samples);

        let probabilities = calibration.probabilities(&prototypes, &at(1.0, 0.4));
        assert!((probabilities[0] - 0.75).abs() < 0.02 && (probabilities[1] - 0.25).abs() < 0.02, "{probabilities:?} by {calibration:?}");
    }

    #[test]
    fn a_text_in_two_categories_is_about_both() {
        let samples: Vec<Sample> = (0..100).map(|_| Sample { embedding: at(1.0, 1.0), categories: vec![0, 1] }).collect();
        let prototypes = two_categories();

        let calibration = Calibration::fit(&prototypes, &samples);

        assert!(calibration.probabilities(&prototypes, &at(1.0, 1.0)).iter().all(|p| *p > 0.9));
    }

    #[test]
    fn of_two_categories_that_a_text_is_as_near_to_the_common_one_is_told() {
        // Every text is between both; nine of ten are in the first, as are nine of ten items.
        let sample = |place: usize| Sample { embedding: at(1.0, 1.0), categories: vec![place] };
        let samples: Vec<Sample> = (0..400).map(|i| sample(usize::from(i % 10 == 0))).collect();
        let prototypes = two_categories().with_counts(&[900, 100], 1_000);

        let calibration = Calibration::fit(&prototypes, &samples);

        let probabilities = calibration.probabilities(&prototypes, &at(1.0, 1.0));
        assert!((probabilities[0] - 0.9).abs() < 0.02 && (probabilities[1] - 0.1).abs() < 0.02, "{probabilities:?} by {calibration:?}");
    }

    #[test]
    fn hostile_catalogues_make_no_nan() {
        let empty = Sums::new(1, 2).into_prototypes();
        let samples: Vec<Sample> = (0..50).map(|_| Sample { embedding: at(1.0, 0.0), categories: vec![] }).collect();

        let calibration = Calibration::fit(&empty, &samples);

        assert!(calibration.probabilities(&empty, &at(0.0, 1.0)).iter().all(|p| p.is_finite()));
        assert!(Calibration::default().probabilities(&Sums::new(0, 2).into_prototypes(), &at(0.0, 1.0)).is_empty());
    }
}
