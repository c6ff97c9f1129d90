//! One ONNX Runtime session: token ids in, L2-normalised embeddings out.

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use ort::{
    environment::Environment,
    logging::LogLevel,
    session::{
        Session,
        builder::{AutoDevicePolicy, GraphOptimizationLevel, PrepackedWeights, SessionBuilder},
    },
    value::{DynValue, Tensor},
};

use super::{PrepareError, PreparedModel, graph};

/// ONNX Runtime is loaded once a process; the first library that was asked for stays.
static ENVIRONMENT: Mutex<Option<Environment>> = Mutex::new(None);

pub(super) fn environment(library: &Path) -> Result<Environment, PrepareError> {
    let mut loaded = ENVIRONMENT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(environment) = &*loaded {
        return Ok(environment.clone());
    }
    // Named, because a library that is missing makes every other call of `ort` panic.
    let builder = ort::init_from(library).map_err(|error| PrepareError::Start(format!("ONNX Runtime: {error}")))?;
    let environment = builder.with_name("inkling").with_telemetry(false).build().map_err(start_error)?;
    environment.set_log_level(LogLevel::Warning);
    *loaded = Some(environment.clone());
    Ok(environment)
}

#[expect(clippy::needless_pass_by_value, reason = "the shape that `map_err` wants")]
fn start_error(error: ort::Error) -> PrepareError {
    PrepareError::Start(format!("ONNX Runtime: {}", error.message()))
}

/// A model's weights, in memory once for all its sessions: resident memory is 200 MB with one session, 225 with two, 370 with eight, where
/// sessions with their own copies take 140, 235 and 800.
pub(super) struct Weights {
    environment: Environment,
    tensors: Vec<(String, Arc<DynValue>)>,
    /// The matrices once more, in the order in which this processor's matrix product reads them.
    prepacked: PrepackedWeights,
}

impl Weights {
    pub(super) fn load(model: &PreparedModel) -> Result<Self, PrepareError> {
        // First of all: making a tensor needs the library.
        let environment = environment(&model.library)?;
        let file = std::fs::read(&model.onnx).map_err(|error| PrepareError::files(&model.onnx, error))?;
        let weights = graph::weights(&file).map_err(|error| PrepareError::Start(format!("model.onnx: {error}")))?;
        let shared = |(name, shape, numbers)| Ok((name, Arc::new(Tensor::<f32>::from_array((shape, numbers)).map_err(start_error)?.into_dyn())));
        let tensors = weights.into_iter().map(shared).collect::<Result<_, PrepareError>>()?;
        Ok(Self { environment, tensors, prepacked: PrepackedWeights::new() })
    }
}

/// A session; whoever runs it owns it.
pub(super) struct Forward {
    session: Session,
    width: usize,
}

impl Forward {
    /// Starts a session of `threads` threads.
    pub(super) fn load(model: &PreparedModel, weights: &Weights, threads: usize) -> Result<Self, PrepareError> {
        let session = configured(weights, threads).and_then(|mut builder| builder.commit_from_file(&model.onnx)).map_err(start_error)?;
        Ok(Self { session, width: model.width })
    }

    /// Embeddings of `rows` (token ids of one text each, none empty), in their order; shorter rows are padded to the longest.
    pub(super) fn run(&mut self, rows: &[&[u32]]) -> Result<Vec<Vec<f32>>, String> {
        let seq = rows.iter().map(|row| row.len()).max().unwrap_or(0);
        let mut ids = vec![0_i64; rows.len() * seq];
        let mut mask = vec![0_i64; rows.len() * seq];
        for (row, (ids, mask)) in rows.iter().zip(ids.chunks_mut(seq.max(1)).zip(mask.chunks_mut(seq.max(1)))) {
            for (id, (to, mask)) in row.iter().zip(ids.iter_mut().zip(mask)) {
                (*to, *mask) = (i64::from(*id), 1);
            }
        }
        let said = |error: ort::Error| error.message().to_owned();
        let ids = Tensor::from_array(([rows.len(), seq], ids)).map_err(said)?;
        let mask = Tensor::from_array(([rows.len(), seq], mask)).map_err(said)?;
        let outputs = self.session.run(ort::inputs!["input_ids" => ids, "attention_mask" => mask]).map_err(said)?;
        let output = outputs.get("embedding").ok_or("the model has no output \"embedding\"")?;
        let (_, numbers) = output.try_extract_tensor::<f32>().map_err(said)?;
        if numbers.len() != rows.len() * self.width {
            return Err(format!("the model gave {} numbers for {} texts", numbers.len(), rows.len()));
        }
        Ok(numbers.chunks(self.width).map(<[f32]>::to_vec).collect())
    }
}

fn configured(weights: &Weights, threads: usize) -> ort::Result<SessionBuilder> {
    let mut builder = Session::builder(&weights.environment)?
        .with_optimization_level(GraphOptimizationLevel::All)?
        .with_intra_threads(threads)?
        .with_inter_threads(1)?
        // Threads that wait busily cost 60 to 86 % more processor time for the same result.
        .with_intra_op_spinning(false)?
        .with_inter_op_spinning(false)?
        // Every batch has its own shape: remembered allocation plans would only pile up.
        .with_memory_pattern(false)?
        .with_auto_device(AutoDevicePolicy::PreferCPU)?
        .with_log_level(LogLevel::Warning)?;
    for (name, tensor) in &weights.tensors {
        builder = builder.with_initializer(name, Arc::clone(tensor))?;
    }
    Ok(builder.with_prepacked_weights(&weights.prepacked)?)
}
