//! Sums over f32 in sixteen lanes, in an order that is the same on every processor, so that the same input gives the same bits.
//!
//! Without fused multiplication, which only some processors have. Inlined into the caller, so that a `pulp` dispatch around it decides how wide they run.

const LANES: usize = 16;

/// Σ a b, of slices of one length.
#[inline(always)]
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    let mut sums = [0.0f32; LANES];
    for (a, b) in a.iter().zip(b) {
        for lane in 0..LANES {
            sums[lane] += a[lane] * b[lane];
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    // By halves, as registers are added.
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            sums[lane] += sums[lane + width];
        }
        width /= 2;
    }
    sums[0] + rest
}

/// sum += by a, of slices of one length.
#[inline(always)]
pub fn add_scaled(sum: &mut [f32], by: f32, a: &[f32]) {
    for (sum, a) in sum.iter_mut().zip(a) {
        *sum += by * a;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_those_of_plain_arithmetic_at_every_length() {
        for length in [0, 1, 15, 16, 17, 40, 64] {
            let a: Vec<f32> = (0..length).map(|i| (i * 7 % 11) as f32).collect();
            let b: Vec<f32> = (0..length).map(|i| (i * 5 % 13) as f32).collect();
            let mut sum = b.clone();

            add_scaled(&mut sum, 2.0, &a);

            assert_eq!(dot(&a, &b) as u32, (0..length as u32).map(|i| (i * 7 % 11) * (i * 5 % 13)).sum::<u32>());
            assert!(sum.iter().zip(a.iter().zip(&b)).all(|(sum, (a, b))| sum.to_bits() == (2.0 * a + b).to_bits()));
        }
    }
}
