//! A model's weights by name, whatever file they come from: name -> shape and f32 numbers.
//!
//! Numbers stay as the file has them until they are asked for, one tensor at a time: the word table of 250,000 pieces alone is 384 MB of f32.
//! Every tensor's bytes are checked against its shape when it is added, so that reading cannot run over the end.

use std::collections::HashMap;

use half::{bf16, f16};
use safetensors::{Dtype, SafeTensors};

/// Weights that share one scale in GGML's Q4_0.
const BLOCK: usize = 32;
/// A Q4_0 block: an f16 scale, then 16 bytes of two weights each.
const BLOCK_BYTES: usize = 18;

/// Why there are no such numbers.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum TensorError {
    #[error("{0}")]
    File(String),
    #[error("there is no tensor {0}")]
    Missing(String),
    #[error("tensor {name} has the shape {found:?}, not {wanted:?}")]
    Shape { name: String, found: Vec<usize>, wanted: Vec<usize> },
    #[error("tensor {name} is of {kind}, which is not read here (F32, F16 and BF16 are)")]
    Kind { name: String, kind: String },
    #[error("tensor {0} has another number of bytes than its shape needs")]
    Length(String),
}

/// How a file writes its numbers, little-endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    F32,
    F16,
    Bf16,
    /// Blocks of 32 weights along the last axis: byte j holds weight j in its low and weight j + 16 in its high half, both 8 too large.
    Q4,
    /// Nothing is written: all are 0.
    Zeros,
}

impl Kind {
    /// Bytes of `count` numbers in rows of `width`; `None` where they cannot be written so.
    fn bytes(self, count: usize, width: usize) -> Option<usize> {
        match self {
            Self::F32 => count.checked_mul(4),
            Self::F16 | Self::Bf16 => count.checked_mul(2),
            Self::Q4 => width.is_multiple_of(BLOCK).then_some(count / BLOCK)?.checked_mul(BLOCK_BYTES),
            Self::Zeros => Some(0),
        }
    }

    /// The `count` numbers in `bytes`.
    fn read(self, bytes: &[u8], count: usize) -> Vec<f32> {
        let mut numbers = Vec::with_capacity(count);
        match self {
            Self::Zeros => numbers.resize(count, 0.0),
            Self::F32 => numbers.extend(bytes.as_chunks().0.iter().map(|x| f32::from_le_bytes(*x))),
            Self::F16 => numbers.extend(bytes.as_chunks().0.iter().map(|x| f16::from_le_bytes(*x).to_f32())),
            Self::Bf16 => numbers.extend(bytes.as_chunks().0.iter().map(|x| bf16::from_le_bytes(*x).to_f32())),
            Self::Q4 => {
                for [low, high, halves @ ..] in bytes.as_chunks::<BLOCK_BYTES>().0 {
                    let scale = f16::from_le_bytes([*low, *high]).to_f32();
                    let weight = |half: u8| (f32::from(half) - 8.0) * scale;
                    numbers.extend(halves.iter().map(|byte| weight(byte & 15)));
                    numbers.extend(halves.iter().map(|byte| weight(byte >> 4)));
                }
            }
        }
        numbers
    }
}

/// Where one tensor lies.
#[derive(Debug, Clone)]
struct Tensor<'a> {
    shape: Vec<usize>,
    kind: Kind,
    bytes: &'a [u8],
}

/// Tensors by name.
#[derive(Debug, Clone, Default)]
pub(super) struct Tensors<'a>(HashMap<String, Tensor<'a>>);

impl<'a> Tensors<'a> {
    /// The tensors of a `model.safetensors` that hold real numbers, each called what `rename` makes of its name; others (position numbers
    /// in old files) are left out.
    pub(super) fn of_safetensors(file: &'a [u8], rename: &dyn Fn(&str) -> String) -> Result<Self, TensorError> {
        let file = SafeTensors::deserialize(file).map_err(|error| TensorError::File(error.to_string()))?;
        let mut tensors = Self::default();
        for (name, view) in file.iter() {
            let kind = match view.dtype() {
                Dtype::F32 => Kind::F32,
                Dtype::F16 => Kind::F16,
                Dtype::BF16 => Kind::Bf16,
                Dtype::I64 | Dtype::I32 | Dtype::BOOL => continue,
                other => return Err(TensorError::Kind { name: name.to_owned(), kind: format!("{other:?}") }),
            };
            tensors.add(&rename(name), view.shape().to_vec(), kind, view.data())?;
        }
        Ok(tensors)
    }

    /// Adds a tensor whose numbers, row-major, are in `bytes`.
    pub(super) fn add(&mut self, name: &str, shape: Vec<usize>, kind: Kind, bytes: &'a [u8]) -> Result<(), TensorError> {
        let count = shape.iter().try_fold(1_usize, |count, dim| count.checked_mul(*dim));
        let needed = count.and_then(|count| kind.bytes(count, shape.last().copied().unwrap_or(1)));
        if needed != Some(bytes.len()) {
            return Err(TensorError::Length(name.to_owned()));
        }
        self.0.insert(name.to_owned(), Tensor { shape, kind, bytes });
        Ok(())
    }

    /// The numbers of tensor `name`, row-major; an error unless it has this `shape`.
    pub(super) fn numbers(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, TensorError> {
        let tensor = self.0.get(name).ok_or_else(|| TensorError::Missing(name.to_owned()))?;
        if tensor.shape != shape {
            return Err(TensorError::Shape { name: name.to_owned(), found: tensor.shape.clone(), wanted: shape.to_vec() });
        }
        Ok(tensor.kind.read(tensor.bytes, shape.iter().product()))
    }

    /// Forgets the first `rows` rows of a matrix.
    pub(super) fn skip_rows(&mut self, name: &str, rows: usize) -> Result<(), TensorError> {
        let tensor = self.0.get_mut(name).ok_or_else(|| TensorError::Missing(name.to_owned()))?;
        let [all, width] = tensor.shape[..] else { return Err(TensorError::Length(name.to_owned())) };
        let skipped = rows.checked_mul(width).and_then(|count| tensor.kind.bytes(count, width));
        let (Some(left), Some(bytes)) = (all.checked_sub(rows), skipped.and_then(|skipped| tensor.bytes.get(skipped..))) else {
            return Err(TensorError::Length(name.to_owned()));
        };
        tensor.bytes = bytes;
        tensor.shape = vec![left, width];
        Ok(())
    }

    /// Adds a tensor of zeros.
    pub(super) fn add_zeros(&mut self, name: &str, shape: Vec<usize>) {
        self.0.insert(name.to_owned(), Tensor { shape, kind: Kind::Zeros, bytes: &[] });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_number_reads_as_what_was_written() {
        let numbers = [1.0_f32, -2.5, 0.0, 384.0];
        let f32s: Vec<u8> = numbers.iter().flat_map(|x| x.to_le_bytes()).collect();
        let f16s: Vec<u8> = numbers.iter().flat_map(|x| f16::from_f32(*x).to_le_bytes()).collect();
        let bf16s: Vec<u8> = numbers.iter().flat_map(|x| bf16::from_f32(*x).to_le_bytes()).collect();
        for (kind, bytes) in [(Kind::F32, &f32s), (Kind::F16, &f16s), (Kind::Bf16, &bf16s)] {
            let mut tensors = Tensors::default();
            tensors.add("a", vec![2, 2], kind, bytes).unwrap();

            assert_eq!(tensors.numbers("a", &[2, 2]).unwrap(), numbers, "{kind:?}");
        }
    }

    #[test]
    fn a_q4_block_keeps_its_first_half_in_the_low_and_its_second_in_the_high_bits() {
        let mut block = f16::from_f32(0.5).to_le_bytes().to_vec();
        block.extend((0..16_u8).map(|j| j | (15 - j) << 4));
        let mut tensors = Tensors::default();
        tensors.add("a", vec![1, 32], Kind::Q4, &block).unwrap();

        let expected: Vec<f32> = (0..16).chain((0..16).rev()).map(|weight| (weight as f32 - 8.0) * 0.5).collect();
        assert_eq!(tensors.numbers("a", &[1, 32]).unwrap(), expected);
    }

    #[test]
    fn rows_that_are_skipped_are_gone_and_zeros_need_no_bytes() {
        let numbers: Vec<u8> = (0..6_u8).flat_map(|x| f32::from(x).to_le_bytes()).collect();
        let mut tensors = Tensors::default();
        tensors.add("a", vec![3, 2], Kind::F32, &numbers).unwrap();
        tensors.add_zeros("z", vec![1, 2]);

        tensors.skip_rows("a", 2).unwrap();

        assert_eq!(tensors.numbers("a", &[1, 2]).unwrap(), [4.0, 5.0]);
        assert_eq!(tensors.numbers("z", &[1, 2]).unwrap(), [0.0, 0.0]);
        assert!(tensors.skip_rows("a", 2).is_err());
    }

    #[test]
    fn too_few_bytes_another_shape_and_an_unknown_name_are_errors() {
        let mut tensors = Tensors::default();
        assert_eq!(tensors.add("short", vec![2, 2], Kind::F32, &[0; 15]), Err(TensorError::Length("short".to_owned())));
        assert_eq!(tensors.add("huge", vec![usize::MAX, 2], Kind::F32, &[]), Err(TensorError::Length("huge".to_owned())));
        assert_eq!(tensors.add("split", vec![2, 16], Kind::Q4, &[0; 18]), Err(TensorError::Length("split".to_owned())), "a block spans two rows");
        tensors.add("a", vec![2, 2], Kind::F32, &[0; 16]).unwrap();

        assert!(matches!(tensors.numbers("a", &[4]), Err(TensorError::Shape { .. })));
        assert_eq!(tensors.numbers("b", &[4]), Err(TensorError::Missing("b".to_owned())));
        assert!(matches!(Tensors::of_safetensors(b"torn", &str::to_owned), Err(TensorError::File(_))));
    }
}
