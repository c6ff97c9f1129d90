//! One ONNX Runtime session: token ids in, L2-normalised embeddings out.

use std::{
    path::Path,
    sync::{Mutex, PoisonError},
};

use ort::{
    environment::Environment,
    logging::LogLevel,
    session::{
        Session,
        builder::{AutoDevicePolicy, GraphOptimizationLevel, SessionBuilder},
    },
    value::Tensor,
};

use super::{PrepareError, PreparedModel};

/// ONNX Runtime is loaded once a process; the first library that was asked for stays.
static ENVIRONMENT: Mutex<Option<Environment>> = Mutex::new(None);

fn environment(library: &Path) -> Result<Environment, PrepareError> {
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

/// A session; whoever runs it owns it.
pub(super) struct Forward {
    session: Session,
    width: usize,
}

impl Forward {
    /// Loads `model` for `threads` threads.
    pub(super) fn load(model: &PreparedModel, threads: usize) -> Result<Self, PrepareError> {
        let environment = environment(&model.library)?;
        let session = configured(&environment, threads).map_err(start_error)?.commit_from_file(&model.onnx).map_err(start_error)?;
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

fn configured(environment: &Environment, threads: usize) -> ort::Result<SessionBuilder> {
    let builder = Session::builder(environment)?
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
    Ok(builder)
}
