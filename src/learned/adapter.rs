//! A low-rank residual map on the embedding of what a user types: q -> q + up'(down q) + shift, length 1 again.
//!
//! The item side stays as indexed, so that a new map is swapped in an instant. It belongs to the encoder whose embeddings it was learned
//! on, and leaves those of any other alone.

use crate::domain::Embedding;

/// The map. Two matrices of `rank` rows of the embedding's width each, and one row more.
#[derive(Debug, Clone, PartialEq)]
pub struct Adapter {
    model_version: String,
    width: usize,
    /// Rank x width.
    down: Vec<f32>,
    /// Rank x width.
    up: Vec<f32>,
    shift: Vec<f32>,
}

impl Adapter {
    /// For embeddings of the encoder `model_version`, as wide as `shift`; `None` where the parts do not fit together or are not finite.
    pub fn from_parts(model_version: String, down: Vec<f32>, up: Vec<f32>, shift: Vec<f32>) -> Option<Self> {
        let width = shift.len();
        let fits = width > 0 && down.len() == up.len() && down.len().is_multiple_of(width);
        let finite = down.iter().chain(&up).chain(&shift).all(|weight| weight.is_finite());
        (fits && finite).then_some(Self { model_version, width, down, up, shift })
    }

    /// The encoder that it belongs to.
    pub fn model_version(&self) -> &str {
        &self.model_version
    }

    /// Rows of each matrix.
    pub fn rank(&self) -> usize {
        self.down.len() / self.width
    }

    /// Where the text is looked for; an embedding of another width is left as it is.
    pub fn adapt(&self, text: &Embedding) -> Embedding {
        if text.len() != self.width {
            return text.clone();
        }
        let mut adapted: Vec<f32> = text.iter().zip(&self.shift).map(|(x, shift)| x + shift).collect();
        for (down, up) in self.down.chunks_exact(self.width).zip(self.up.chunks_exact(self.width)) {
            let along: f32 = down.iter().zip(text.iter()).map(|(a, b)| a * b).sum();
            adapted.iter_mut().zip(up).for_each(|(x, up)| *x += along * up);
        }
        Embedding::new(adapted).unwrap_or_else(|_| text.clone())
    }

    /// Bytes of an artefact: width and rank (u64), then down, up and shift (f32), little-endian.
    pub(super) fn encoded(&self) -> Vec<u8> {
        let numbers = self.down.iter().chain(&self.up).chain(&self.shift);
        let header = [self.width as u64, self.rank() as u64].into_iter().flat_map(u64::to_le_bytes);
        header.chain(numbers.flat_map(|number| number.to_le_bytes())).collect()
    }

    pub(super) fn decoded(bytes: &[u8], model_version: String) -> Option<Self> {
        let (width, rest) = bytes.split_first_chunk::<8>()?;
        let (rank, rest) = rest.split_first_chunk::<8>()?;
        let (width, rank) = (usize::try_from(u64::from_le_bytes(*width)).ok()?, usize::try_from(u64::from_le_bytes(*rank)).ok()?);
        let (numbers, torn) = rest.as_chunks::<4>();
        let matrix = width.checked_mul(rank)?;
        if !torn.is_empty() || matrix.checked_mul(2)?.checked_add(width)? != numbers.len() {
            return None;
        }
        let mut numbers = numbers.iter().map(|bytes| f32::from_le_bytes(*bytes));
        let mut take = |count: usize| numbers.by_ref().take(count).collect::<Vec<f32>>();
        let (down, up, shift) = (take(matrix), take(matrix), take(width));
        Self::from_parts(model_version, down, up, shift)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn adapter() -> Adapter {
        // What lies along the first axis is looked for along the second.
        Adapter::from_parts("m".into(), vec![1.0, 0.0, 0.0], vec![-1.0, 1.0, 0.0], vec![0.0; 3]).unwrap()
    }

    #[test]
    fn a_text_is_looked_for_where_the_map_says_and_other_directions_stay() {
        let at = |v: [f32; 3]| Embedding::new(v.to_vec()).unwrap();

        assert_eq!(adapter().adapt(&at([1.0, 0.0, 0.0])), at([0.0, 1.0, 0.0]));
        assert_eq!(adapter().adapt(&at([0.0, 0.0, 1.0])), at([0.0, 0.0, 1.0]));
        assert_eq!(adapter().adapt(&Embedding::new(vec![1.0, 1.0]).unwrap()), Embedding::new(vec![1.0, 1.0]).unwrap());
    }

    #[test]
    fn bytes_come_back_as_the_same_map_and_torn_ones_do_not() {
        let bytes = adapter().encoded();
        let mut huge = bytes.clone();
        huge[..8].copy_from_slice(&u64::MAX.to_le_bytes());

        assert_eq!(Adapter::decoded(&bytes, "m".into()), Some(adapter()));
        for bad in [&[][..], &bytes[..9], &bytes[..bytes.len() - 1], &bytes[..bytes.len() - 4], &huge] {
            assert_eq!(Adapter::decoded(bad, "m".into()), None);
        }
        assert_eq!(Adapter::from_parts("m".into(), vec![f32::NAN], vec![1.0], vec![0.0]), None);
        assert_eq!(Adapter::from_parts("m".into(), vec![1.0, 2.0], vec![1.0], vec![0.0]), None);
    }
}
