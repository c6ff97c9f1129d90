//! What the matrices of a BERT are multiplied with in practice: a forward pass over texts that are built in and over random token ids.
//!
//! In: weights by name. Out: layer by layer, the inputs of its four matrices, one row a token. Single tokens are many among them: what people
//! type is short, and `[CLS]`, `[SEP]` and full stops have inputs of their own kind that long texts hardly show. Calibrated on sentences alone,
//! the worst of 50 punctuation marks had a cosine of .9968 to fp32; with these .998.

use rayon::prelude::*;

use super::{
    PrepareError,
    arithmetic::{Matrix, exp, gelu},
    bert::{BertConfig, ExportError},
    tensors::Tensors,
    tokens::Tokens,
};

/// English and Chinese sentences, a few of other languages, code, single words, digits, punctuation, emoji: one text a line.
const TEXTS: &str = include_str!("calibration.txt");
/// Texts of one random token.
const SINGLES: usize = 300;
/// Texts of 2 to 8 random tokens.
const SHORTS: usize = 100;

/// What is fed to the model: token ids of texts, special ones included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sample {
    rows: Vec<Vec<u32>>,
}

impl Sample {
    /// The built-in sample for a model of this vocabulary; the same every time.
    pub(super) fn new(tokens: &Tokens, prefix: &str, vocabulary: usize) -> Result<Self, PrepareError> {
        let frame = tokens.frame(prefix)?;
        let mut rows = Vec::new();
        for text in TEXTS.lines() {
            rows.extend(tokens.first(text, &frame, 1).map_err(PrepareError::Start)?.rows);
        }
        let mut random = Random(1);
        // The first ids are special tokens and places that were never trained.
        let first = vocabulary / 30;
        for text in 0..SINGLES + SHORTS {
            let count = if text < SINGLES { 1 } else { 2 + random.below(7) };
            let ids: Vec<u32> = (0..count).map(|_| (first + random.below(vocabulary - first)) as u32).collect();
            rows.push(frame.around(&ids));
        }
        Ok(Self { rows })
    }

    /// How much each token counts: all texts alike, however long, since an embedding is the mean of its tokens.
    pub(super) fn shares(&self) -> Vec<f32> {
        self.rows.iter().flat_map(|row| row.iter().map(|_| 1.0 / row.len() as f32)).collect()
    }
}

/// Steele, Lea & Flood 2014: SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % limit.max(1) as u64) as usize
    }
}

/// A matrix `[in, out]` and its bias.
pub(super) struct Linear {
    pub weights: Matrix,
    pub bias: Vec<f32>,
}

impl Linear {
    fn read(tensors: &Tensors<'_>, name: &str, from: usize, to: usize) -> Result<Self, ExportError> {
        let weights = Matrix::new(from, tensors.numbers(&format!("{name}.weight"), &[to, from])?).transposed();
        Ok(Self { weights, bias: tensors.numbers(&format!("{name}.bias"), &[to])? })
    }

    fn apply(&self, inputs: &Matrix) -> Matrix {
        let mut product = inputs.times(&self.weights);
        for row in product.rows_mut() {
            row.iter_mut().zip(&self.bias).for_each(|(x, bias)| *x += bias);
        }
        product
    }
}

/// Gain and shift of a layer normalisation.
pub(super) struct Norm {
    pub gain: Vec<f32>,
    pub shift: Vec<f32>,
}

impl Norm {
    pub(super) fn read(tensors: &Tensors<'_>, name: &str, width: usize) -> Result<Self, ExportError> {
        let read = |part: &str| tensors.numbers(&format!("{name}.{part}"), &[width]);
        Ok(Self { gain: read("weight")?, shift: read("bias")? })
    }
}

/// A layer's weights.
pub(super) struct Layer {
    /// Query, key and value side by side.
    pub qkv: Linear,
    pub out: Linear,
    pub out_norm: Norm,
    pub up: Linear,
    pub down: Linear,
    pub down_norm: Norm,
}

impl Layer {
    pub(super) fn read(tensors: &Tensors<'_>, config: &BertConfig, layer: usize) -> Result<Self, ExportError> {
        let (hidden, wide) = (config.hidden_size, config.intermediate_size);
        let name = format!("encoder.layer.{layer}");
        let mut parts = Vec::with_capacity(3);
        for part in ["query", "key", "value"] {
            parts.push(Linear::read(tensors, &format!("{name}.attention.self.{part}"), hidden, hidden)?);
        }
        let rows = (0..hidden).flat_map(|row| parts.iter().flat_map(move |part| part.weights.row(row).iter().copied()));
        let qkv = Linear { weights: Matrix::new(3 * hidden, rows.collect()), bias: parts.iter().flat_map(|part| part.bias.iter().copied()).collect() };
        Ok(Self {
            qkv,
            out: Linear::read(tensors, &format!("{name}.attention.output.dense"), hidden, hidden)?,
            out_norm: Norm::read(tensors, &format!("{name}.attention.output.LayerNorm"), hidden)?,
            up: Linear::read(tensors, &format!("{name}.intermediate.dense"), hidden, wide)?,
            down: Linear::read(tensors, &format!("{name}.output.dense"), wide, hidden)?,
            down_norm: Norm::read(tensors, &format!("{name}.output.LayerNorm"), hidden)?,
        })
    }
}

/// The inputs of a layer's four matrices, one row a token.
pub(super) struct Inputs {
    pub qkv: Matrix,
    pub out: Matrix,
    pub up: Matrix,
    pub down: Matrix,
}

/// The forward pass, between two layers.
pub(super) struct Pass<'a> {
    sample: &'a Sample,
    config: &'a BertConfig,
    hidden: Matrix,
}

impl<'a> Pass<'a> {
    /// Embeds the sample.
    pub(super) fn start(sample: &'a Sample, tensors: &Tensors<'_>, config: &'a BertConfig) -> Result<Self, ExportError> {
        let width = config.hidden_size;
        let words = tensors.numbers("embeddings.word_embeddings.weight", &[config.vocab_size, width])?;
        let positions = tensors.numbers("embeddings.position_embeddings.weight", &[config.max_position_embeddings, width])?;
        let types = tensors.numbers("embeddings.token_type_embeddings.weight", &[config.type_vocab_size, width])?;
        let mut numbers = Vec::new();
        for row in &sample.rows {
            for (id, position) in row.iter().zip(positions.chunks_exact(width)) {
                let word = words.get(*id as usize * width..).and_then(|words| words.get(..width));
                let word = word.ok_or_else(|| ExportError::Config(format!("the tokenizer knows token {id}, the model has {}", config.vocab_size)))?;
                numbers.extend(word.iter().zip(position).zip(&types).map(|((word, position), kind)| word + position + kind));
            }
        }
        let norm = Norm::read(tensors, "embeddings.LayerNorm", width)?;
        let mut hidden = Matrix::new(width, numbers);
        hidden.normalise(&norm.gain, &norm.shift, config.layer_norm_eps);
        Ok(Self { sample, config, hidden })
    }

    /// Goes through `layer` and gives what its matrices were multiplied with.
    pub(super) fn through(&mut self, layer: &Layer) -> Inputs {
        let epsilon = self.config.layer_norm_eps;
        let context = self.context(&layer.qkv.apply(&self.hidden));
        let mut attended = layer.out.apply(&context);
        add(&mut attended, &self.hidden);
        attended.normalise(&layer.out_norm.gain, &layer.out_norm.shift, epsilon);
        let mut wide = layer.up.apply(&attended);
        wide.numbers.par_chunks_mut(4096).for_each(|numbers| numbers.iter_mut().for_each(|x| *x = gelu(*x)));
        let mut hidden = layer.down.apply(&wide);
        add(&mut hidden, &attended);
        hidden.normalise(&layer.down_norm.gain, &layer.down_norm.shift, epsilon);
        Inputs { qkv: std::mem::replace(&mut self.hidden, hidden), out: context, up: attended, down: wide }
    }

    /// Attention of each text's tokens to each other.
    fn context(&self, qkv: &Matrix) -> Matrix {
        let starts = self.sample.rows.iter().scan(0, |at, row| {
            let start = *at;
            *at += row.len();
            Some(start)
        });
        let texts: Vec<(usize, usize)> = starts.zip(self.sample.rows.iter().map(Vec::len)).collect();
        let parts: Vec<Vec<f32>> = texts.par_iter().map(|(start, count)| self.context_of(qkv, *start, *count)).collect();
        Matrix::new(self.config.hidden_size, parts.concat())
    }

    fn context_of(&self, qkv: &Matrix, start: usize, count: usize) -> Vec<f32> {
        let width = self.config.hidden_size;
        let head_width = width / self.config.num_attention_heads;
        let scale = 1.0 / (head_width as f32).sqrt();
        let mut context = vec![0.0; count * width];
        for head in (0..width).step_by(head_width) {
            let part = |token: usize, part: usize| &qkv.row(start + token)[part * width + head..][..head_width];
            for (token, to) in context.chunks_exact_mut(width).enumerate() {
                let query = part(token, 0);
                let scores: Vec<f32> = (0..count).map(|other| scale * query.iter().zip(part(other, 1)).map(|(a, b)| a * b).sum::<f32>()).collect();
                let most = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                let shares: Vec<f32> = scores.into_iter().map(|score| exp(score - most)).collect();
                let sum: f32 = shares.iter().sum();
                for (other, share) in shares.into_iter().enumerate() {
                    super::arithmetic::add_scaled(&mut to[head..head + head_width], share / sum, part(other, 2));
                }
            }
        }
        context
    }
}

fn add(to: &mut Matrix, other: &Matrix) {
    to.numbers.iter_mut().zip(&other.numbers).for_each(|(x, y)| *x += y);
}
