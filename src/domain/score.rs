//! Numbers that can be sorted without fear: finite scores and unit-length embeddings.

use std::{cmp::Ordering, ops::Deref, sync::Arc};

/// A finite number that orders candidates; larger is better.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Score(f32);

/// NaN or infinite.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be a finite number")]
pub struct NotFinite;

impl Score {
    /// Checked once, here; afterwards sorting cannot go wrong.
    pub fn new(value: f32) -> Result<Self, NotFinite> {
        if value.is_finite() { Ok(Self(value)) } else { Err(NotFinite) }
    }

    /// The number.
    pub fn get(self) -> f32 {
        self.0
    }
}

impl Eq for Score {}

impl Ord for Score {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.total_cmp(&other.0)
    }
}

impl PartialOrd for Score {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// A text's place in meaning: finite, L2 norm 1; cheap to clone. The cosine of two is their dot product.
#[derive(Debug, Clone, PartialEq)]
pub struct Embedding(Arc<[f32]>);

/// A vector that points nowhere: empty, zero, or with a component that is not finite.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must have components that are finite numbers, not all zero")]
pub struct InvalidEmbedding;

impl Embedding {
    /// Scales `vector` to length 1.
    pub fn new(mut vector: Vec<f32>) -> Result<Self, InvalidEmbedding> {
        let norm = vector.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
        if !norm.is_finite() || norm <= f64::MIN_POSITIVE {
            return Err(InvalidEmbedding);
        }
        for x in &mut vector {
            *x = (f64::from(*x) / norm) as f32;
        }
        Ok(Self(vector.into()))
    }

    /// Cosine similarity, -1 to 1; the shorter width counts.
    pub fn cosine(&self, other: &Self) -> f32 {
        let width = self.0.len().min(other.0.len());
        let ((a, a_rest), (b, b_rest)) = (self.0[..width].as_chunks::<16>(), other.0[..width].as_chunks::<16>());
        // Sixteen sums side by side: a single one waits for each addition before the next (0.50 instead of 0.13 ms for 1,500 of 384).
        let mut lanes = [0.0_f32; 16];
        for (a, b) in a.iter().zip(b) {
            for (lane, (x, y)) in lanes.iter_mut().zip(a.iter().zip(b)) {
                *lane += x * y;
            }
        }
        lanes.iter().sum::<f32>() + a_rest.iter().zip(b_rest).map(|(x, y)| x * y).sum::<f32>()
    }
}

impl Deref for Embedding {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_refuse_what_cannot_be_ordered() {
        assert_eq!(Score::new(f32::NAN), Err(NotFinite));
        assert_eq!(Score::new(f32::INFINITY), Err(NotFinite));
        assert!(Score::new(-0.5).unwrap() < Score::new(0.25).unwrap());
    }

    #[test]
    fn embeddings_have_length_one_and_refuse_vectors_that_point_nowhere() {
        assert_eq!(&*Embedding::new(vec![3.0, 4.0]).unwrap(), &[0.6, 0.8]);
        for bad in [vec![], vec![0.0, 0.0], vec![f32::NAN, 1.0], vec![f32::INFINITY, 1.0]] {
            assert_eq!(Embedding::new(bad), Err(InvalidEmbedding));
        }
    }

    #[test]
    fn a_cosine_is_the_sum_of_products_over_the_shorter_width() {
        let vector = |width: u8, step: f32| Embedding::new((0..width).map(|i| (f32::from(i) * step).sin() + 0.1).collect()).unwrap();

        for (a, b) in [(vector(100, 0.3), vector(100, 0.7)), (vector(20, 0.3), vector(35, 0.7)), (vector(3, 0.3), vector(3, 0.7))] {
            let expected: f32 = a.iter().zip(b.iter()).map(|(x, y)| x * y).sum();

            assert!((a.cosine(&b) - expected).abs() < 1e-5);
        }
    }
}
