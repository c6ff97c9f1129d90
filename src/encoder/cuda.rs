//! A session on a GPU: token ids in, L2-normalised embeddings out, as [`super::forward`] does on the processor.
//!
//! A GPU plans memory and picks kernels anew for every shape it has not seen, so texts go in a few fixed shapes: rows rounded up to a power of two,
//! tokens to a step. Buffers of each shape are kept, in pinned memory, from which copies to the device need no detour.

use std::collections::HashMap;

use ort::{
    ep,
    logging::LogLevel,
    memory::{AllocationDevice, Allocator, AllocatorType, MemoryInfo, MemoryType},
    session::{Session, builder::GraphOptimizationLevel},
    value::Tensor,
};

use super::{PrepareError, PreparedModel, forward, halves, provider, worker::Pass};

/// Tokens of a row: 1.5 times the step before at most, so that a third of a pass is padding at worst.
const STEPS: [usize; 11] = [8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384];

/// Bytes that a token takes on the device while a pass runs, for each component of the hidden state and each byte of a number: the widest
/// moment holds the hidden state, query, key and value, and the feed-forward layer's four widths twice.
const WIDTHS: u64 = 16;
/// Tokens in a pass where memory does not say less: a large GPU is busy with 10,000.
const MOST_TOKENS: u64 = 32_768;
/// Tokens in a pass where the free memory is not known.
const CAREFUL_TOKENS: u64 = 4_096;

/// A session in fixed shapes.
pub(super) struct Bucketed {
    session: Session,
    width: usize,
    /// Tokens that the model can read: no shape is longer.
    longest: usize,
    pinned: bool,
    buffers: HashMap<(usize, usize), Buffers>,
}

/// Inputs of one shape.
struct Buffers {
    ids: Tensor<i64>,
    mask: Tensor<i64>,
}

impl Bucketed {
    /// Starts a session on the first GPU; `library` is ONNX Runtime for CUDA, as [`provider::Places::load`] gives it.
    pub(super) fn on_gpu(model: &PreparedModel, library: &std::path::Path, half_precision: bool) -> Result<Self, PrepareError> {
        // The arena grows by what is asked for: doubling would take memory that other processes on the GPU need.
        let cuda = ep::CUDA::default().with_device_id(0).with_arena_extend_strategy(ep::ArenaExtendStrategy::SameAsRequested).with_tf32(false);
        Self::start(model, library, half_precision, &[cuda.build().error_on_failure()])
    }

    fn start(
        model: &PreparedModel,
        library: &std::path::Path,
        half_precision: bool,
        providers: &[ep::ExecutionProviderDispatch],
    ) -> Result<Self, PrepareError> {
        let wrong = |reason: String| PrepareError::Start(format!("ONNX Runtime: {reason}"));
        let environment = forward::environment(library)?;
        let mut file = std::fs::read(&model.onnx).map_err(|error| PrepareError::files(&model.onnx, error))?;
        if half_precision {
            file = halves::in_half(&file).map_err(wrong)?;
        }
        let pinned = !providers.is_empty();
        let session = Session::builder(&environment)
            .and_then(|builder| Ok(builder.with_optimization_level(GraphOptimizationLevel::All)?.with_log_level(LogLevel::Warning)?))
            .and_then(|builder| Ok(builder.with_execution_providers(providers)?))
            .and_then(|mut builder| builder.commit_from_memory(&file));
        let session = session.map_err(|error| wrong(error.message().to_owned()))?;
        Ok(Self { session, width: model.width, longest: model.manifest.max_tokens, pinned, buffers: HashMap::new() })
    }

    fn pass(&mut self, rows: &[&[u32]]) -> ort::Result<Vec<Vec<f32>>> {
        let shape = shape(rows, self.longest);
        let mut buffers = match self.buffers.remove(&shape) {
            Some(buffers) => buffers,
            None => self.new_buffers(shape)?,
        };
        buffers.fill(rows, shape.1)?;
        let mut binding = self.session.create_binding()?;
        binding.bind_input("input_ids", &buffers.ids)?;
        binding.bind_input("attention_mask", &buffers.mask)?;
        binding.bind_output_to_device("embedding", &MemoryInfo::new(AllocationDevice::CPU, 0, AllocatorType::Device, MemoryType::Default)?)?;
        let embeddings = {
            let outputs = self.session.run_binding(&binding)?;
            let output = outputs.get("embedding").ok_or_else(|| ort::Error::new("the model has no output \"embedding\""))?;
            let (_, numbers) = output.try_extract_tensor::<f32>()?;
            numbers.chunks(self.width).take(rows.len()).map(<[f32]>::to_vec).collect()
        };
        drop(binding);
        self.buffers.insert(shape, buffers);
        Ok(embeddings)
    }

    fn new_buffers(&self, (rows, tokens): (usize, usize)) -> ort::Result<Buffers> {
        let allocator = if self.pinned {
            Allocator::new(&self.session, MemoryInfo::new(AllocationDevice::CUDA_PINNED, 0, AllocatorType::Device, MemoryType::CPUOutput)?)?
        } else {
            Allocator::default()
        };
        Ok(Buffers { ids: Tensor::new(&allocator, [rows, tokens])?, mask: Tensor::new(&allocator, [rows, tokens])? })
    }
}

impl Pass for Bucketed {
    fn run(&mut self, rows: &[&[u32]]) -> Result<Vec<Vec<f32>>, String> {
        let embeddings = self.pass(rows).map_err(|error| error.message().to_owned())?;
        let whole = embeddings.len() == rows.len() && embeddings.iter().all(|embedding| embedding.len() == self.width);
        if whole { Ok(embeddings) } else { Err(format!("the model gave {} embeddings for {} texts", embeddings.len(), rows.len())) }
    }
}

impl Buffers {
    fn fill(&mut self, rows: &[&[u32]], tokens: usize) -> ort::Result<()> {
        let (_, ids) = self.ids.try_extract_tensor_mut::<i64>()?;
        let (_, mask) = self.mask.try_extract_tensor_mut::<i64>()?;
        ids.fill(0);
        mask.fill(0);
        for (row, (ids, mask)) in ids.chunks_mut(tokens).zip(mask.chunks_mut(tokens)).enumerate() {
            let text = rows.get(row).copied().unwrap_or_default();
            for (id, (to, mask)) in text.iter().zip(ids.iter_mut().zip(&mut *mask)) {
                (*to, *mask) = (i64::from(*id), 1);
            }
            if text.is_empty()
                && let Some(first) = mask.first_mut()
            {
                *first = 1; // a row that only fills the shape still needs something to pay attention to
            }
        }
        Ok(())
    }
}

/// Tokens that fit into a pass, padding included, from the GPU's free memory.
pub(super) fn batch_tokens(model: &PreparedModel, half_precision: bool) -> usize {
    let number = if half_precision { 2 } else { 4 };
    let a_token = WIDTHS * model.width as u64 * number;
    // A quarter: shapes are rounded up by as much as three times, and other processes may want memory too.
    let fit = provider::free_memory().map_or(CAREFUL_TOKENS, |free| (free / 4 / a_token).clamp(256, MOST_TOKENS));
    usize::try_from(fit).unwrap_or(usize::MAX)
}

/// The fixed shape that `rows` go in: (rows, tokens), the latter at most `most` unless a row is longer.
fn shape(rows: &[&[u32]], most: usize) -> (usize, usize) {
    let longest = rows.iter().map(|row| row.len()).max().unwrap_or(0);
    let tokens = STEPS.into_iter().find(|step| *step >= longest).unwrap_or_else(|| longest.next_multiple_of(128));
    (rows.len().next_power_of_two(), tokens.min(most).max(longest).max(1))
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Tokens, forward::Forward, tests::MODEL},
        *,
    };

    fn rows() -> Vec<Vec<u32>> {
        let tokens = Tokens::load(&MODEL.tokenizer, 256).unwrap();
        let frame = tokens.frame("").unwrap();
        let texts = ["red shoes", "quiet headphones for long flights", "降噪 headphones", "tea", &"a thriller about memory loss ".repeat(30), "7", "C++ ?"];
        texts.map(|text| tokens.first(text, &frame, 1).unwrap().rows.remove(0)).to_vec()
    }

    fn cosine(a: &[f32], b: &[f32]) -> f32 {
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
        dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
    }

    #[test]
    fn shapes_are_few_and_no_longer_than_the_model_reads() {
        let shape = |lengths: &[usize], most| {
            let rows: Vec<Vec<u32>> = lengths.iter().map(|length| vec![1; *length]).collect();
            super::shape(&rows.iter().map(Vec::as_slice).collect::<Vec<_>>(), most)
        };

        assert_eq!(shape(&[3], 256), (1, 8));
        assert_eq!(shape(&[3, 9, 17], 256), (4, 24));
        assert_eq!(shape(&[200; 33], 256), (64, 256));
        assert_eq!(shape(&[400], 450), (1, 450));
        assert_eq!(shape(&[400], 512), (1, 512));
    }

    #[test]
    fn fixed_shapes_give_the_embeddings_of_a_plain_session() {
        let rows = rows();
        let rows: Vec<&[u32]> = rows.iter().map(Vec::as_slice).collect();
        let mut plain = Forward::load(&MODEL, &forward::Weights::load(&MODEL).unwrap(), 2).unwrap();
        let mut bucketed = Bucketed::start(&MODEL, &MODEL.library, false, &[]).unwrap();

        // Twice, and smaller in between: buffers that are used again hold nothing of the pass before.
        for part in [&rows[..], &rows[..1], &rows[..5], &rows[..]] {
            let (expected, found) = (plain.run(part).unwrap(), bucketed.run(part).unwrap());
            assert_eq!(found.len(), part.len());
            for (expected, found) in expected.iter().zip(&found) {
                assert!(expected.iter().zip(found).all(|(a, b)| (a - b).abs() < 1e-5));
            }
        }
        assert_eq!(bucketed.buffers.len(), 2, "7 and 5 rows go in one shape");
    }

    #[test]
    fn the_graph_in_halves_means_the_same() {
        let rows = rows();
        let rows: Vec<&[u32]> = rows.iter().map(Vec::as_slice).collect();
        let mut whole = Bucketed::start(&MODEL, &MODEL.library, false, &[]).unwrap();
        let mut halves = Bucketed::start(&MODEL, &MODEL.library, true, &[]).unwrap();

        let (expected, found) = (whole.run(&rows).unwrap(), halves.run(&rows).unwrap());

        let least = expected.iter().zip(&found).map(|(a, b)| cosine(a, b)).fold(1.0, f32::min);
        println!("least cosine of {} texts in float16: {least:.6}", rows.len());
        assert!(least > 0.9995 && least < 0.999_999_9, "{least}: near, and not the same arithmetic");
    }
}
