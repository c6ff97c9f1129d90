//! Exports a BERT to ONNX: its weights and `config.json` in, the bytes of a `.onnx` file out. No Python, no torch.
//!
//! The graph takes `input_ids` and `attention_mask` (int64 `[batch, seq]`, 1 = a token, 0 = padding) and gives `embedding`
//! (f32 `[batch, hidden]`, L2 norm 1): mean, first or largest of the last layer's tokens, padding excluded, as in Reimers & Gurevych 2019
//! (arXiv:1908.10084), section 3. Layers as in Devlin et al. 2019 (arXiv:1810.04805): post-norm, GELU by erf. Plain operators only: hand-fused ones ran
//! 5 to 9 % slower than what ONNX Runtime's own optimiser makes of these.

use serde::Deserialize;

use super::{
    family::Family,
    graph::{Attr, Dim, Graph, Value},
    manifest::Pooling,
    tensors::{TensorError, Tensors},
};

/// Grows with every change of the graph, so that files of an older exporter are made again and their embeddings not mixed with new ones.
pub(super) const EXPORTER_VERSION: u32 = 1;

/// Added to the attention scores of padding: after the softmax nothing is left of it in float32.
const PADDING_SCORE: f32 = -1e9;

/// Why there is no graph for these weights.
#[derive(Debug, thiserror::Error)]
pub(super) enum ExportError {
    #[error("config.json: {0}")]
    Config(String),
    #[error("weights: {0}")]
    Weights(#[from] TensorError),
}

/// What the exporter reads of `config.json`.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct BertConfig {
    pub hidden_size: usize,
    pub num_hidden_layers: usize,
    pub num_attention_heads: usize,
    pub intermediate_size: usize,
    pub layer_norm_eps: f32,
    pub max_position_embeddings: usize,
    pub type_vocab_size: usize,
    pub vocab_size: usize,
    hidden_act: String,
    #[serde(default)]
    position_embedding_type: Option<String>,
    /// How the file that this was read from names and numbers things; the rest is told as BERT.
    #[serde(skip)]
    pub family: Family,
}

impl BertConfig {
    /// Reads and checks `config.json`.
    pub(super) fn read(json: &[u8]) -> Result<Self, ExportError> {
        let wrong = |error: serde_json::Error| ExportError::Config(error.to_string());
        let (family, json) = Family::of(serde_json::from_slice(json).map_err(wrong)?).map_err(ExportError::Config)?;
        let config = Self { family, ..serde_json::from_value(json).map_err(wrong)? };
        let refuse = |reason: &str| Err(ExportError::Config(reason.to_owned()));
        if config.hidden_act != "gelu" {
            return refuse("hidden_act must be \"gelu\"");
        }
        if config.position_embedding_type.as_deref().is_some_and(|kind| kind != "absolute") {
            return refuse("position_embedding_type must be \"absolute\"");
        }
        if config.num_attention_heads == 0 || !config.hidden_size.is_multiple_of(config.num_attention_heads) {
            return refuse("hidden_size must be a multiple of num_attention_heads");
        }
        Ok(config)
    }
}

/// The `.onnx` file of the BERT with these weights.
pub(super) fn export(weights: &Tensors<'_>, config: &BertConfig, pooling: Pooling, name: &str) -> Result<Vec<u8>, ExportError> {
    let (mut bert, ids, mask) = Bert::new(weights, config);
    let mut hidden = bert.embeddings(&ids)?;
    let padding = bert.padding_scores(&mask);
    for layer in 0..config.num_hidden_layers {
        hidden = bert.layer(&format!("encoder.layer.{layer}"), &hidden, &padding)?;
    }
    Ok(bert.finish(&hidden, &mask, pooling, name, &EXPORTER_VERSION.to_string()))
}

/// A BERT under construction, in whatever precision.
pub(super) struct Bert<'a> {
    pub graph: Graph,
    pub weights: &'a Tensors<'a>,
    pub config: &'a BertConfig,
    pub shared: Shared,
}

/// What every layer reads.
pub(super) struct Shared {
    /// The shapes of attention's inputs, cut into heads, and of its output.
    pub heads_apart: Value,
    pub heads_together: Value,
    scale: Value,
}

impl Shared {
    fn new(graph: &mut Graph, config: &BertConfig) -> Self {
        let (hidden, heads) = (config.hidden_size, config.num_attention_heads);
        // 0 keeps a dimension as it is: batch and seq.
        Self {
            heads_apart: graph.ints("heads_apart", &[0, 0, heads as i64, (hidden / heads) as i64]),
            heads_together: graph.ints("heads_together", &[0, 0, hidden as i64]),
            scale: graph.scalar("attention_scale", ((hidden / heads) as f32).sqrt().recip()),
        }
    }
}

impl<'a> Bert<'a> {
    /// With its inputs: ids, and the mask in real numbers.
    fn new(weights: &'a Tensors<'a>, config: &'a BertConfig) -> (Self, Value, Value) {
        let mut graph = Graph::default();
        let ids = graph.input("input_ids", &[Dim::Free("batch"), Dim::Free("seq")]);
        let (bert, mask) = Self::after(graph, weights, config);
        (bert, ids, mask)
    }

    /// With the mask only.
    pub(super) fn without_words(weights: &'a Tensors<'a>, config: &'a BertConfig) -> (Self, Value) {
        Self::after(Graph::default(), weights, config)
    }

    fn after(mut graph: Graph, weights: &'a Tensors<'a>, config: &'a BertConfig) -> (Self, Value) {
        let mask = graph.input("attention_mask", &[Dim::Free("batch"), Dim::Free("seq")]);
        let mask = graph.op("Cast", &[&mask], vec![Attr::Int("to", 1)]);
        (Self { shared: Shared::new(&mut graph, config), graph, weights, config }, mask)
    }

    /// The file, with the last layer's `hidden` pooled.
    pub(super) fn finish(mut self, hidden: &Value, mask: &Value, pooling: Pooling, name: &str, version: &str) -> Vec<u8> {
        let pooled = self.pooled(hidden, mask, pooling);
        self.graph.output("embedding", pooled, &[Dim::Free("batch"), Dim::Fixed(self.config.hidden_size)]);
        self.graph.into_bytes(name, version)
    }

    /// Word + position + token type (always 0: one text), normalised: `[batch, seq, hidden]`.
    fn embeddings(&mut self, ids: &Value) -> Result<Value, ExportError> {
        let BertConfig { hidden_size: hidden, vocab_size, max_position_embeddings: positions, type_vocab_size, .. } = *self.config;
        let words = self.weight("embeddings.word_embeddings.weight", &[vocab_size, hidden])?;
        let positions = self.weight("embeddings.position_embeddings.weight", &[positions, hidden])?;
        let types = self.weights.numbers("embeddings.token_type_embeddings.weight", &[type_vocab_size, hidden])?;
        let first_type = self.graph.weight("embeddings.token_type_embeddings.0", &[hidden], types.get(..hidden).unwrap_or_default());

        let words = self.graph.op("Gather", &[&words, ids], Vec::new());
        let positions = self.first_rows(&positions, ids);
        let sum = self.graph.op("Add", &[&words, &positions], Vec::new());
        let sum = self.graph.op("Add", &[&sum, &first_type], Vec::new());
        self.norm("embeddings.LayerNorm", &sum)
    }

    /// As many rows of `table` as the texts in `ids`, `[batch, seq]`, are long.
    pub(super) fn first_rows(&mut self, table: &Value, ids: &Value) -> Value {
        let seq = self.graph.op("Shape", &[ids], vec![Attr::Int("start", 1), Attr::Int("end", 2)]);
        let zero = self.graph.ints("first_position", &[0]);
        let axis = self.graph.ints("position_axis", &[0]);
        self.graph.op("Slice", &[table, &zero, &seq, &axis], Vec::new())
    }

    /// 0 for a token and [`PADDING_SCORE`] for padding: `[batch, 1, 1, seq]`, to be added to attention scores.
    pub(super) fn padding_scores(&mut self, mask: &Value) -> Value {
        let axes = self.graph.ints("score_axes", &[1, 2]);
        let one = self.graph.scalar("one", 1.0);
        let score = self.graph.scalar("padding_score", PADDING_SCORE);
        let mask = self.graph.op("Unsqueeze", &[mask, &axes], Vec::new());
        let padding = self.graph.op("Sub", &[&one, &mask], Vec::new());
        self.graph.op("Mul", &[&padding, &score], Vec::new())
    }

    fn layer(&mut self, name: &str, hidden: &Value, padding: &Value) -> Result<Value, ExportError> {
        let attended = self.attention(&format!("{name}.attention"), hidden, padding)?;
        let sum = self.graph.op("Add", &[&attended, hidden], Vec::new());
        let hidden = self.norm(&format!("{name}.attention.output.LayerNorm"), &sum)?;

        let wide = self.linear(&format!("{name}.intermediate.dense"), &hidden, self.config.hidden_size, self.config.intermediate_size)?;
        let wide = self.graph.op("Gelu", &[&wide], Vec::new());
        let narrow = self.linear(&format!("{name}.output.dense"), &wide, self.config.intermediate_size, self.config.hidden_size)?;
        let sum = self.graph.op("Add", &[&narrow, &hidden], Vec::new());
        self.norm(&format!("{name}.output.LayerNorm"), &sum)
    }

    /// Multi-head attention of every token to every token that is not padding.
    fn attention(&mut self, name: &str, hidden: &Value, padding: &Value) -> Result<Value, ExportError> {
        let width = self.config.hidden_size;
        // Query, key and value as one product: one large matrix is faster than three small ones.
        let mut columns = Vec::with_capacity(3);
        let mut biases = Vec::with_capacity(3 * width);
        for part in ["query", "key", "value"] {
            columns.push(transposed(&self.weights.numbers(&format!("{name}.self.{part}.weight"), &[width, width])?, width, width));
            biases.extend(self.weights.numbers(&format!("{name}.self.{part}.bias"), &[width])?);
        }
        let rows: Vec<f32> = (0..width).flat_map(|row| columns.iter().flat_map(move |part| part[row * width..][..width].iter().copied())).collect();
        let matrix = self.graph.weight(&format!("{name}.self.qkv.weight"), &[width, 3 * width], &rows);
        let bias = self.graph.weight(&format!("{name}.self.qkv.bias"), &[3 * width], &biases);
        let qkv = self.graph.op("MatMul", &[hidden, &matrix], Vec::new());
        let qkv = self.graph.op("Add", &[&qkv, &bias], Vec::new());
        let [query, key, value] = self.graph.split(&qkv);

        let context = self.context([query, key, value], padding);
        self.linear(&format!("{name}.output.dense"), &context, width, width)
    }

    /// What every token takes from every token that is not padding, all heads side by side.
    pub(super) fn context(&mut self, [query, key, value]: [Value; 3], padding: &Value) -> Value {
        let query = self.heads(&query, [0, 2, 1, 3]);
        let key = self.heads(&key, [0, 2, 3, 1]);
        let value = self.heads(&value, [0, 2, 1, 3]);
        let scores = self.graph.op("MatMul", &[&query, &key], Vec::new());
        let scores = self.graph.op("Mul", &[&scores, &self.shared.scale.clone()], Vec::new());
        let scores = self.graph.op("Add", &[&scores, padding], Vec::new());
        let shares = self.graph.op("Softmax", &[&scores], vec![Attr::Int("axis", -1)]);
        let context = self.graph.op("MatMul", &[&shares, &value], Vec::new());
        let context = self.graph.op("Transpose", &[&context], vec![Attr::Ints("perm", vec![0, 2, 1, 3])]);
        self.graph.op("Reshape", &[&context, &self.shared.heads_together.clone()], Vec::new())
    }

    /// `[batch, seq, hidden]` cut into heads `[batch, seq, heads, width]`, then axes in the order `perm`.
    fn heads(&mut self, value: &Value, perm: [i64; 4]) -> Value {
        let apart = self.graph.op("Reshape", &[value, &self.shared.heads_apart.clone()], Vec::new());
        self.graph.op("Transpose", &[&apart], vec![Attr::Ints("perm", perm.to_vec())])
    }

    /// The tokens that are not padding as one vector of length 1.
    fn pooled(&mut self, hidden: &Value, mask: &Value, pooling: Pooling) -> Value {
        let last = self.graph.ints("last_axis", &[-1]);
        let seq = self.graph.ints("seq_axis", &[1]);
        let pooled = match pooling {
            Pooling::Mean => {
                let mask = self.graph.op("Unsqueeze", &[mask, &last], Vec::new());
                let kept = self.graph.op("Mul", &[hidden, &mask], Vec::new());
                let sum = self.graph.op("ReduceSum", &[&kept, &seq], vec![Attr::Int("keepdims", 0)]);
                let count = self.graph.op("ReduceSum", &[&mask, &seq], vec![Attr::Int("keepdims", 0)]);
                self.graph.op("Div", &[&sum, &count], Vec::new())
            }
            Pooling::Cls => {
                let (first, second) = (self.graph.ints("first_token", &[0]), self.graph.ints("second_token", &[1]));
                let first = self.graph.op("Slice", &[hidden, &first, &second, &seq], Vec::new());
                self.graph.op("Squeeze", &[&first, &seq], Vec::new())
            }
            Pooling::Max => {
                let one = self.graph.scalar("kept", 1.0);
                let least = self.graph.scalar("padding_least", PADDING_SCORE);
                let mask = self.graph.op("Unsqueeze", &[mask, &last], Vec::new());
                let padding = self.graph.op("Sub", &[&one, &mask], Vec::new());
                let padding = self.graph.op("Mul", &[&padding, &least], Vec::new());
                let kept = self.graph.op("Add", &[hidden, &padding], Vec::new());
                self.graph.op("ReduceMax", &[&kept, &seq], vec![Attr::Int("keepdims", 0)])
            }
        };
        let length = self.graph.op("ReduceL2", &[&pooled, &last], vec![Attr::Int("keepdims", 1)]);
        self.graph.op("Div", &[&pooled, &length], Vec::new())
    }

    /// `x W + b`; the file keeps W as `[out, in]`, MatMul wants `[in, out]`.
    fn linear(&mut self, name: &str, x: &Value, from: usize, to: usize) -> Result<Value, ExportError> {
        let matrix = transposed(&self.weights.numbers(&format!("{name}.weight"), &[to, from])?, to, from);
        let matrix = self.graph.weight(&format!("{name}.weight"), &[from, to], &matrix);
        let bias = self.weight(&format!("{name}.bias"), &[to])?;
        let product = self.graph.op("MatMul", &[x, &matrix], Vec::new());
        Ok(self.graph.op("Add", &[&product, &bias], Vec::new()))
    }

    fn norm(&mut self, name: &str, x: &Value) -> Result<Value, ExportError> {
        let gain = self.weight(&format!("{name}.weight"), &[self.config.hidden_size])?;
        let shift = self.weight(&format!("{name}.bias"), &[self.config.hidden_size])?;
        let attributes = vec![Attr::Int("axis", -1), Attr::Float("epsilon", self.config.layer_norm_eps)];
        Ok(self.graph.op("LayerNormalization", &[x, &gain, &shift], attributes))
    }

    fn weight(&mut self, name: &str, shape: &[usize]) -> Result<Value, ExportError> {
        let numbers = self.weights.numbers(name, shape)?;
        Ok(self.graph.weight(name, shape, &numbers))
    }
}

/// `[rows, columns]` to `[columns, rows]`.
fn transposed(matrix: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    (0..columns).flat_map(|column| (0..rows).map(move |row| matrix[row * columns + column])).collect()
}
