//! One ONNX Runtime session: token ids in, L2-normalised embeddings out.
//!
//! Graphs that inkling exported give embeddings; of graphs that came with a model (Optimum's names) the tokens' vectors are pooled here.

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

use super::{
    PrepareError, PreparedModel,
    graph::{self, Numbers},
    int8,
    manifest::{Pooling, Precision, WeightsFile},
    products::Products,
    words::Words,
};

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
    /// Where the graph takes rows of this table in place of token ids.
    words: Option<Arc<Words>>,
    /// The graph, where it is not the one in the file.
    rewritten: Option<Vec<u8>>,
    /// How whole numbers are multiplied; `None` where none are.
    pub products: Option<Products>,
}

impl Weights {
    pub(super) fn load(model: &PreparedModel) -> Result<Self, PrepareError> {
        // First of all: making a tensor needs the library.
        let environment = environment(&model.library)?;
        let products = match model.manifest.precision {
            Precision::Fp32 | Precision::Fp16 => None,
            Precision::Int8 => Some(Products::here(&environment).map_err(start_error)?),
        };
        Self::load_for(environment, model, products)
    }

    /// For products of this kind, whatever the processor has.
    #[cfg(test)]
    pub(super) fn load_with(model: &PreparedModel, products: Products) -> Result<Self, PrepareError> {
        Self::load_for(environment(&model.library)?, model, Some(products))
    }

    fn load_for(environment: Environment, model: &PreparedModel, products: Option<Products>) -> Result<Self, PrepareError> {
        if model.manifest.weights == WeightsFile::Onnx {
            // Others write weights in more ways than are read here: each session reads its own.
            return Ok(Self { environment, tensors: Vec::new(), prepacked: PrepackedWeights::new(), words: None, rewritten: None, products });
        }
        let wrong = |error: &dyn std::fmt::Display| PrepareError::Start(format!("{}: {error}", model.onnx.display()));
        let mut file = std::fs::read(&model.onnx).map_err(|error| PrepareError::files(&model.onnx, error))?;
        let unsigned = products == Some(Products::Unsigned);
        if unsigned {
            file = graph::with_unsigned_products(&file).map_err(|error| wrong(&error))?;
        }
        let weights = graph::weights(&file).map_err(|error| wrong(&error))?;
        let shared = |(name, shape, numbers)| Ok((name, Arc::new(tensor(shape, numbers).map_err(start_error)?)));
        let tensors = weights.into_iter().map(shared).collect::<Result<_, PrepareError>>()?;
        let words = products.map(|_| {
            let path = model.onnx.with_file_name(int8::WORDS);
            Words::open(&path, model.width).map(Arc::new).map_err(|error| PrepareError::files(&path, error))
        });
        Ok(Self { environment, tensors, prepacked: PrepackedWeights::new(), words: words.transpose()?, rewritten: unsigned.then_some(file), products })
    }
}

fn tensor(shape: Vec<i64>, numbers: Numbers) -> ort::Result<DynValue> {
    Ok(match numbers {
        Numbers::Float(numbers) => Tensor::<f32>::from_array((shape, numbers))?.into_dyn(),
        Numbers::Signed(numbers) => Tensor::<i8>::from_array((shape, numbers))?.into_dyn(),
        Numbers::Unsigned(numbers) => Tensor::<u8>::from_array((shape, numbers))?.into_dyn(),
    })
}

/// A session; whoever runs it owns it.
pub(super) struct Forward {
    session: Session,
    width: usize,
    output: Output,
    /// Whether the graph wants to know that all tokens are of the first text.
    wants_types: bool,
    words: Option<Arc<Words>>,
}

/// What a graph gives.
struct Output {
    name: &'static str,
    /// Its tokens' vectors are still to be made one.
    pooling: Option<Pooling>,
}

impl Forward {
    /// Starts a session of `threads` threads.
    pub(super) fn load(model: &PreparedModel, weights: &Weights, threads: usize) -> Result<Self, PrepareError> {
        let commit = |mut builder: SessionBuilder| match &weights.rewritten {
            Some(file) => builder.commit_from_memory(file),
            None => builder.commit_from_file(&model.onnx),
        };
        let session = configured(weights, threads).and_then(commit).map_err(start_error)?;
        let inputs: Vec<&str> = session.inputs().iter().map(|input| input.name()).collect();
        let outputs: Vec<&str> = session.outputs().iter().map(|output| output.name()).collect();
        let output = Output::among(&outputs, model.manifest.pooling);
        let known = ["input_ids", "attention_mask", "token_type_ids", int8::WORDS_INPUT];
        let texts = if weights.words.is_some() { int8::WORDS_INPUT } else { "input_ids" };
        let fits = inputs.iter().all(|input| known.contains(input)) && inputs.contains(&texts) && inputs.contains(&"attention_mask");
        let (true, Some(output)) = (fits, output) else {
            let (inputs, outputs) = (inputs.join(", "), outputs.join(", "));
            return Err(PrepareError::Start(format!(
                "model.onnx takes {inputs} and gives {outputs}; read are input_ids, attention_mask and token_type_ids, and sentence_embedding or last_hidden_state"
            )));
        };
        let wants_types = inputs.contains(&"token_type_ids");
        Ok(Self { session, width: model.width, output, wants_types, words: weights.words.clone() })
    }

    /// Embeddings of `rows` (token ids of one text each, none empty), in their order; shorter rows are padded to the longest.
    pub(super) fn run(&mut self, rows: &[&[u32]]) -> Result<Vec<Vec<f32>>, String> {
        let seq = rows.iter().map(|row| row.len()).max().unwrap_or(0);
        let mut mask = vec![0_i64; rows.len() * seq];
        for (row, mask) in rows.iter().zip(mask.chunks_mut(seq.max(1))) {
            mask[..row.len()].fill(1);
        }
        let said = |error: ort::Error| error.message().to_owned();
        let shape = [rows.len(), seq];
        let mask = Tensor::from_array((shape, mask)).map_err(said)?;
        let mut inputs = match &self.words {
            None => ort::inputs!["input_ids" => Tensor::from_array((shape, padded(rows, seq))).map_err(said)?, "attention_mask" => mask],
            Some(words) => {
                let numbers = looked_up(words, rows, seq, self.width).map_err(|error| format!("{}: {error}", int8::WORDS))?;
                let numbers = Tensor::from_array(([rows.len(), seq, self.width], numbers)).map_err(said)?;
                ort::inputs![int8::WORDS_INPUT => numbers, "attention_mask" => mask]
            }
        };
        if self.wants_types {
            inputs.push(("token_type_ids".into(), Tensor::from_array((shape, vec![0_i64; rows.len() * seq])).map_err(said)?.into()));
        }
        let outputs = self.session.run(inputs).map_err(said)?;
        let output = outputs.get(self.output.name).ok_or_else(|| format!("the model has no output {:?}", self.output.name))?;
        let (_, numbers) = output.try_extract_tensor::<f32>().map_err(said)?;
        let vectors = if self.output.pooling.is_some() { rows.len() * seq } else { rows.len() };
        if numbers.len() != vectors * self.width {
            return Err(format!("the model gave {} numbers for {vectors} vectors of {}", numbers.len(), self.width));
        }
        let Some(pooling) = self.output.pooling else { return Ok(numbers.chunks(self.width).map(|vector| self.output.scaled(vector)).collect()) };
        let texts = rows.iter().zip(numbers.chunks((seq * self.width).max(1)));
        Ok(texts.map(|(row, tokens)| unit(&pooled(&tokens[..row.len() * self.width], self.width, pooling))).collect())
    }
}

/// Token ids, 0 after the end of a row.
fn padded(rows: &[&[u32]], seq: usize) -> Vec<i64> {
    let mut ids = vec![0; rows.len() * seq];
    for (row, ids) in rows.iter().zip(ids.chunks_mut(seq.max(1))) {
        ids.iter_mut().zip(*row).for_each(|(to, id)| *to = i64::from(*id));
    }
    ids
}

/// Word vectors, zeros after the end of a row.
fn looked_up(words: &Words, rows: &[&[u32]], seq: usize, width: usize) -> std::io::Result<Vec<f32>> {
    let mut numbers = vec![0.0; rows.len() * seq * width];
    for (row, numbers) in rows.iter().zip(numbers.chunks_mut((seq * width).max(1))) {
        for (id, to) in row.iter().zip(numbers.chunks_mut(width)) {
            words.look_up(*id, to)?;
        }
    }
    Ok(numbers)
}

impl Output {
    /// Exported graphs give length 1 already.
    fn scaled(&self, vector: &[f32]) -> Vec<f32> {
        if self.name == "embedding" { vector.to_vec() } else { unit(vector) }
    }

    /// The output that holds embeddings, or what they are made of: ours, Optimum's for sentence-transformers, Optimum's for all others.
    fn among(outputs: &[&str], pooling: Pooling) -> Option<Self> {
        let known = [("embedding", None), ("sentence_embedding", None), ("last_hidden_state", Some(pooling)), ("token_embeddings", Some(pooling))];
        known.into_iter().find(|(name, _)| outputs.contains(name)).map(|(name, pooling)| Self { name, pooling })
    }
}

/// One vector out of those of a text's tokens, `width` wide each.
fn pooled(tokens: &[f32], width: usize, pooling: Pooling) -> Vec<f32> {
    let count = (tokens.len() / width) as f32;
    let by_number = |join: fn(f32, f32) -> f32, start: f32| {
        let join_all = |mut all: Vec<f32>, token: &[f32]| {
            all.iter_mut().zip(token).for_each(|(all, x)| *all = join(*all, *x));
            all
        };
        tokens.chunks(width).fold(vec![start; width], join_all)
    };
    match pooling {
        Pooling::Mean => by_number(|sum, x| sum + x, 0.0).into_iter().map(|sum| sum / count).collect(),
        Pooling::Cls => tokens.iter().take(width).copied().collect(),
        Pooling::Max => by_number(f32::max, f32::NEG_INFINITY),
    }
}

/// Scaled to length 1; a vector of zeros stays one.
fn unit(vector: &[f32]) -> Vec<f32> {
    let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
    if length > 0.0 { vector.iter().map(|x| x / length).collect() } else { vector.to_vec() }
}

/// A session of a graph that is no model.
pub(super) fn session(model: &PreparedModel, file: &[u8], threads: usize) -> Result<Session, PrepareError> {
    let environment = environment(&model.library)?;
    bare(&environment, threads).and_then(|mut builder| builder.commit_from_memory(file)).map_err(start_error)
}

fn bare(environment: &Environment, threads: usize) -> ort::Result<SessionBuilder> {
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

fn configured(weights: &Weights, threads: usize) -> ort::Result<SessionBuilder> {
    let mut builder = bare(&weights.environment, threads)?;
    for (name, tensor) in &weights.tensors {
        builder = builder.with_initializer(name, Arc::clone(tensor))?;
    }
    Ok(builder.with_prepacked_weights(&weights.prepacked)?)
}
