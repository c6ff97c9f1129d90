//! Numbers in 8 bits: how a matrix of weights is rounded so that its products stay what they were.
//!
//! In: weights `[in, out]` and what multiplies them in practice, one row a token. Out: [`Quantised`], int8 numbers with one scale a column, for
//! inputs that are shifted, divided channel by channel and rounded to 8 bits with one scale a row (so that no text depends on another).
//! The divisors move range between inputs and weights (Xiao et al. 2022, arXiv:2211.10438) until the expected noise of both roundings is least;
//! the weights are then rounded one input channel after the other, each making up for the errors of those before (Frantar et al. 2022,
//! arXiv:2210.17323, in the form of Chee et al. 2023, arXiv:2307.13304, algorithm 3). No text is needed that the model will read later.

use super::arithmetic::{Matrix, add_scaled, exp};

/// Steps in which the divisors are improved: the noise falls by 5 to 25 %, and hardly after 60.
const STEPS: usize = 60;
/// Part of the mean square that is added to every channel's own: keeps corrections small where the calibration saw little.
const DAMPING: f32 = 0.01;

/// A matrix in 8 bits.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Quantised {
    /// `[in, out]`, from -127 to 127.
    pub numbers: Vec<i8>,
    /// One a column: what a number is worth.
    pub scales: Vec<f32>,
}

/// What happens to a matrix's input before it is rounded: channel k becomes `(x - shift[k]) / divisor[k]`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Smoothing {
    pub shift: Vec<f32>,
    pub divisor: Vec<f32>,
}

impl Smoothing {
    /// What makes the noise of both roundings least. `shares`: how much each row of `inputs` counts.
    pub(super) fn of(inputs: &Matrix, weights: &Matrix, shares: &[f32]) -> Self {
        let columns = inputs.transposed();
        let shift: Vec<f32> = columns.rows().map(median).collect();
        let mut shifted = inputs.clone();
        for row in shifted.rows_mut() {
            for (x, shift) in row.iter_mut().zip(&shift) {
                *x = (*x - shift).abs();
            }
        }
        let weights = Matrix::new(weights.columns, weights.numbers.iter().map(|weight| weight.abs()).collect());
        let divisor = Noise::new(&shifted, &weights, shares).least();
        Self { shift, divisor }
    }

    /// `inputs` as they are rounded.
    pub(super) fn apply(&self, mut inputs: Matrix) -> Matrix {
        for row in inputs.rows_mut() {
            for ((x, shift), divisor) in row.iter_mut().zip(&self.shift).zip(&self.divisor) {
                *x = (*x - shift) / divisor;
            }
        }
        inputs
    }

    /// `weights` for such inputs.
    pub(super) fn weights(&self, weights: &Matrix) -> Matrix {
        let mut scaled = weights.clone();
        for (row, divisor) in scaled.rows_mut().zip(&self.divisor) {
            row.iter_mut().for_each(|weight| *weight *= divisor);
        }
        scaled
    }

    /// What the shift took out of the product: to be added to the bias.
    pub(super) fn constant(&self, weights: &Matrix) -> Vec<f32> {
        Matrix::new(weights.height(), self.shift.clone()).times(weights).numbers
    }
}

/// The noise of a product whose inputs are rounded by their row's largest and whose weights by their column's largest number: with divisors d,
/// `sum of shares (max x/d)^2 * sum of (d w)^2  +  sum of (max d w)^2 * sum of shares (x/d)^2`, in units that do not matter.
struct Noise<'a> {
    inputs: &'a Matrix,
    weights: &'a Matrix,
    shares: &'a [f32],
    /// Sums of squares of each channel.
    input_squares: Vec<f32>,
    weight_squares: Vec<f32>,
}

impl<'a> Noise<'a> {
    /// Of absolute values.
    fn new(inputs: &'a Matrix, weights: &'a Matrix, shares: &'a [f32]) -> Self {
        let mut input_squares = vec![0.0; inputs.columns];
        for (row, share) in inputs.rows().zip(shares) {
            for (sum, x) in input_squares.iter_mut().zip(row) {
                *sum += share * x * x;
            }
        }
        let weight_squares = weights.rows().map(|row| row.iter().map(|weight| weight * weight).sum()).collect();
        Self { inputs, weights, shares, input_squares, weight_squares }
    }

    /// Divisors of least noise, by steps down the gradient of its logarithm.
    fn least(&self) -> Vec<f32> {
        let start = |(inputs, weights): (&f32, &f32)| (inputs.max(1e-12) / weights.max(1e-12)).sqrt().sqrt();
        let mut divisors: Vec<f32> = self.input_squares.iter().zip(&self.weight_squares).map(start).collect();
        let mut best = (f32::INFINITY, divisors.clone());
        for step in 0..STEPS {
            let (noise, slope) = self.at(&divisors);
            if noise < best.0 {
                best = (noise, divisors.clone());
            }
            let typical = (slope.iter().map(|slope| slope * slope).sum::<f32>() / slope.len() as f32).sqrt().max(1e-12);
            let length = 0.09 / (1.0 + step as f32 / 20.0);
            for (divisor, slope) in divisors.iter_mut().zip(&slope) {
                *divisor *= exp(-length * (slope / typical).clamp(-2.0, 2.0));
            }
        }
        best.1
    }

    /// The noise, and its slope by each divisor's logarithm in units of the noise.
    fn at(&self, divisors: &[f32]) -> (f32, Vec<f32>) {
        let inverse: Vec<f32> = divisors.iter().map(|divisor| 1.0 / divisor).collect();
        let channels = divisors.len();
        let (mut rows, mut rows_slope) = (0.0, vec![0.0; channels]);
        for (row, share) in self.inputs.rows().zip(self.shares) {
            let (at, most) = largest(row.iter().zip(&inverse).map(|(x, inverse)| x * inverse));
            rows += share * most * most;
            rows_slope[at] -= 2.0 * share * most * most;
        }
        let mut most_of_column = vec![(0_usize, 0.0_f32); self.weights.columns];
        for (channel, (row, divisor)) in self.weights.rows().zip(divisors).enumerate() {
            for (weight, most) in row.iter().zip(&mut most_of_column) {
                if weight * divisor > most.1 {
                    *most = (channel, weight * divisor);
                }
            }
        }
        let (mut columns, mut columns_slope) = (0.0, vec![0.0; channels]);
        for (at, most) in most_of_column {
            columns += most * most;
            columns_slope[at] += 2.0 * most * most;
        }
        let weights: Vec<f32> = self.weight_squares.iter().zip(divisors).map(|(squares, divisor)| squares * divisor * divisor).collect();
        let inputs: Vec<f32> = self.input_squares.iter().zip(&inverse).map(|(squares, inverse)| squares * inverse * inverse).collect();
        let (all_weights, all_inputs) = (weights.iter().sum::<f32>(), inputs.iter().sum::<f32>());
        let noise = rows * all_weights + columns * all_inputs;
        let slope = (0..channels)
            .map(|k| (rows_slope[k] * all_weights + rows * 2.0 * weights[k] + columns_slope[k] * all_inputs - columns * 2.0 * inputs[k]) / noise.max(1e-30))
            .collect();
        (noise, slope)
    }
}

impl Quantised {
    /// `weights` rounded so that `inputs * weights` changes least. `shares`: how much each row of `inputs` counts.
    pub(super) fn of(weights: &Matrix, inputs: &Matrix, shares: &[f32]) -> Self {
        let scales = column_scales(weights);
        let height = weights.height();
        // From the channel that says least to the one that says most; rounded in the opposite order, so that the loudest is corrected by many.
        let mut squares = vec![0.0_f32; height];
        for (row, share) in inputs.rows().zip(shares) {
            for (sum, x) in squares.iter_mut().zip(row) {
                *sum += share * x * x;
            }
        }
        let mut order: Vec<usize> = (0..height).collect();
        order.sort_by(|a, b| squares[*a].total_cmp(&squares[*b]).then(a.cmp(b)));
        let sorted = Matrix::new(height, inputs.rows().flat_map(|row| order.iter().map(|k| row[*k])).collect());
        let mut gram = sorted.gram(shares);
        let damping = DAMPING * squares.iter().sum::<f32>() / height as f32 + f32::MIN_POSITIVE;
        for k in 0..height {
            gram.numbers[k * height + k] += damping;
        }
        let corrections = unit_upper(gram);

        let mut errors = Matrix::zeros(height, weights.columns);
        let mut numbers = vec![0_i8; weights.numbers.len()];
        for at in (0..height).rev() {
            let (before, after) = errors.numbers.split_at_mut((at + 1) * weights.columns);
            let mut wanted: Vec<f32> = weights.row(order[at]).iter().zip(&scales).map(|(weight, scale)| weight / scale).collect();
            let exact = wanted.clone();
            for (correction, error) in corrections.row(at)[at + 1..].iter().zip(after.chunks_exact(weights.columns)) {
                add_scaled(&mut wanted, *correction, error);
            }
            let to = &mut numbers[order[at] * weights.columns..][..weights.columns];
            for (((to, error), wanted), exact) in to.iter_mut().zip(&mut before[at * weights.columns..]).zip(wanted).zip(exact) {
                let rounded = wanted.round_ties_even().clamp(-127.0, 127.0);
                *to = rounded as i8;
                *error = exact - rounded;
            }
        }
        Self { numbers, scales }
    }
}

/// A table of rows in 8 bits: number k of a row is `numbers * scale of the row * factors[k]`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Table {
    pub numbers: Vec<i8>,
    /// One a row.
    pub scales: Vec<f32>,
    /// One a column: over 1 where a column is so loud in some rows that these would have nothing left for the others. In both models one
    /// column of 384 is 15 and 18 times the typical number in the rows of `.` and `,`: 2 % of their length would be lost instead of 1 %.
    pub factors: Vec<f32>,
}

impl Table {
    /// A row's largest number over its typical one that is left alone.
    const LOUD: f32 = 5.0;

    /// `table`, each number rounded to the nearest.
    pub(super) fn of(table: &Matrix) -> Self {
        let mut peaks = vec![0.0_f32; table.columns];
        for row in table.rows() {
            let typical = (row.iter().map(|x| x * x).sum::<f32>() / row.len() as f32).sqrt().max(f32::MIN_POSITIVE);
            for (peak, x) in peaks.iter_mut().zip(row) {
                *peak = peak.max(x.abs() / typical);
            }
        }
        let factors: Vec<f32> = peaks.into_iter().map(|peak| (peak / Self::LOUD).max(1.0)).collect();
        let (mut numbers, mut scales) = (Vec::with_capacity(table.numbers.len()), Vec::with_capacity(table.height()));
        for row in table.rows() {
            let divided = || row.iter().zip(&factors).map(|(x, factor)| x / factor);
            let scale = scale(largest(divided().map(f32::abs)).1);
            numbers.extend(divided().map(|x| (x / scale).round_ties_even() as i8));
            scales.push(scale);
        }
        Self { numbers, scales, factors }
    }
}

/// One scale a column, by its largest weight.
fn column_scales(weights: &Matrix) -> Vec<f32> {
    let mut most = vec![0.0_f32; weights.columns];
    for row in weights.rows() {
        for (most, weight) in most.iter_mut().zip(row) {
            *most = most.max(weight.abs());
        }
    }
    most.into_iter().map(scale).collect()
}

/// What one step of 127 is worth; anything where all are 0.
fn scale(most: f32) -> f32 {
    if most > 0.0 { most / 127.0 } else { 1.0 }
}

/// The U of `U' D U = matrix`, 1 on the diagonal; `matrix` is symmetric with all eigenvalues above 0, its upper triangle is read.
fn unit_upper(mut matrix: Matrix) -> Matrix {
    let width = matrix.columns;
    let mut diagonal = Vec::with_capacity(width);
    for i in 0..width {
        let (above, rest) = matrix.numbers.split_at_mut(i * width);
        let row = &mut rest[i..width];
        for (above, pivot) in above.chunks_exact(width).zip(&diagonal) {
            add_scaled(row, -above[i] * pivot, &above[i..]);
        }
        // Rounding may leave a pivot at nothing where channels say the same: then they correct nothing.
        let pivot = row[0].max(f32::MIN_POSITIVE);
        row.iter_mut().for_each(|x| *x /= pivot);
        diagonal.push(pivot);
    }
    matrix
}

/// Where the largest of some numbers, none below 0, is first found, and the number.
fn largest(numbers: impl Iterator<Item = f32>) -> (usize, f32) {
    numbers.enumerate().fold((0, 0.0), |most, (at, number)| if number > most.1 { (at, number) } else { most })
}

fn median(numbers: &[f32]) -> f32 {
    let mut sorted = numbers.to_vec();
    sorted.sort_by(f32::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers around 0 without a pattern, the same each time.
    fn noise(count: usize, seed: u32) -> Vec<f32> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            f32::from((state >> 16) as i16) / 32768.0
        };
        (0..count).map(|_| next() + next() + next()).collect()
    }

    fn exact(quantised: &Quantised, columns: usize) -> Matrix {
        let numbers = quantised.numbers.iter().enumerate().map(|(at, number)| f32::from(*number) * quantised.scales[at % columns]);
        Matrix::new(columns, numbers.collect())
    }

    /// Sum of squares of what `inputs` times the rounded weights lacks.
    fn loss(inputs: &Matrix, weights: &Matrix, quantised: &Quantised) -> f32 {
        let (a, b) = (inputs.times(weights), inputs.times(&exact(quantised, weights.columns)));
        a.numbers.iter().zip(&b.numbers).map(|(a, b)| (a - b) * (a - b)).sum()
    }

    #[test]
    fn upper_factors_of_a_matrix_are_those_worked_out_by_hand() {
        // [4 2; 2 10] = [1 0; .5 1] [4 0; 0 9] [1 .5; 0 1]
        let upper = unit_upper(Matrix::new(2, vec![4.0, 2.0, 0.0, 10.0]));

        assert_eq!((upper.numbers[0], upper.numbers[1], upper.numbers[3]), (1.0, 0.5, 1.0));
    }

    #[test]
    fn rounding_that_makes_up_for_earlier_errors_loses_less_than_rounding_each_alone() {
        // Channels that say almost the same, as in texts: errors of one can be undone by another.
        let shared = Matrix::new(4, noise(200 * 4, 1)).times(&Matrix::new(32, noise(4 * 32, 2)));
        let inputs = Matrix::new(32, shared.numbers.iter().zip(noise(200 * 32, 3)).map(|(x, noise)| x + 0.1 * noise).collect());
        let weights = Matrix::new(8, noise(32 * 8, 4));
        let shares = vec![1.0; 200];

        let quantised = Quantised::of(&weights, &inputs, &shares);

        let scales = column_scales(&weights);
        let alone = weights.numbers.iter().enumerate().map(|(at, weight)| (weight / scales[at % 8]).round_ties_even() as i8).collect();
        let alone = Quantised { numbers: alone, scales };
        let (ours, theirs) = (loss(&inputs, &weights, &quantised), loss(&inputs, &weights, &alone));
        assert!(ours < 0.5 * theirs, "{ours} {theirs}");
    }

    #[test]
    fn smoothing_changes_no_product_and_quiets_a_loud_channel() {
        let mut inputs = Matrix::new(16, noise(100 * 16, 5));
        for row in inputs.rows_mut() {
            row[3] = row[3] * 50.0 + 20.0;
        }
        let weights = Matrix::new(8, noise(16 * 8, 6));

        let smoothing = Smoothing::of(&inputs, &weights, &vec![1.0; 100]);

        let constant = smoothing.constant(&weights);
        let product = smoothing.apply(inputs.clone()).times(&smoothing.weights(&weights));
        for (at, (a, b)) in inputs.times(&weights).numbers.iter().zip(&product.numbers).enumerate() {
            assert!((a - b - constant[at % 8]).abs() < 1e-3, "{a} {b}");
        }
        let typical = smoothing.divisor.iter().sum::<f32>() / 16.0;
        assert!(smoothing.divisor[3] > 2.0 * typical, "{:?}", smoothing.divisor);
    }

    #[test]
    fn a_table_keeps_its_rows_even_those_with_one_loud_number() {
        let mut table = Matrix::new(384, noise(40 * 384, 7));
        table.numbers[5] = 60.0;

        let rounded = Table::of(&table);

        for (at, x) in table.numbers.iter().enumerate() {
            let found = f32::from(rounded.numbers[at]) * rounded.scales[at / 384] * rounded.factors[at % 384];
            // By one scale a row alone: half of 60/127 in the first.
            let most = if at < 384 { 0.07 } else { 0.015 };
            assert!((found - x).abs() < most * rounded.factors[at % 384], "{at}: {x} {found}");
        }
        assert!(rounded.factors[5] > 2.0 && rounded.factors.iter().filter(|factor| **factor > 1.0).count() == 1);
    }

    #[test]
    fn nothing_but_zeros_is_rounded_to_zeros() {
        let nothing = Matrix::zeros(4, 4);

        let smoothing = Smoothing::of(&nothing, &nothing, &[1.0; 4]);
        let quantised = Quantised::of(&nothing, &nothing, &[1.0; 4]);

        assert!(smoothing.divisor.iter().all(|divisor| divisor.is_finite() && *divisor > 0.0), "{:?}", smoothing.divisor);
        assert!(quantised.numbers.iter().all(|number| *number == 0) && quantised.scales.iter().all(|scale| scale.is_finite()));
        assert!(Table::of(&nothing).numbers.iter().all(|number| *number == 0));
    }
}
