//! Exports a BERT in 8 bits: the same graph as in `bert.rs`, with whole-number products for its four matrices a layer and an int8 word table.
//!
//! A row (one token's input of one matrix) is shifted, divided channel by channel, divided by its own largest number and rounded to uint8;
//! the product with int8 weights is a whole number, scaled back by column and by row. So no token sees another one's scale: an embedding
//! does not depend on its batch. uint8 by int8, because ONNX Runtime has its fast kernels (VNNI) for this pair only; uint8 by uint8 takes 1.9 times
//! as long. No product of ONNX Runtime's takes a scale a row, so rows are scaled before and after it; inside everything is one long matrix of
//! tokens `[batch * seq, hidden]`, which lets one operator divide and round by rows.
//!
//! Shifts and divisors cost nothing where they are: the input of query, key, value and of the way up comes from a second layer normalisation
//! of the same sum, with other gains; the values' columns are scaled so that attention's output comes out divided. On the way down the 8
//! loudest of the GELU's channels stay fp32 and are added.

use super::{
    arithmetic::Matrix,
    bert::{Bert, BertConfig, ExportError},
    calibrate::{Inputs, Layer, Linear, Norm, Pass, Sample},
    graph::{Attr, Dim, Graph, Value},
    manifest::Manifest,
    quantise::{Quantised, Smoothing, Table},
    tensors::Tensors,
    words,
};

/// Grows with every change of the graph or of its numbers, so that files of an older exporter are made again and their embeddings not mixed
/// with new ones.
pub(super) const EXPORTER_VERSION: u32 = 1;

/// The word table's file, beside the graph's.
pub(super) const WORDS: &str = "model.int8.words";
/// The graph's input for its rows, `[batch, seq, hidden]`; anything for padding.
pub(super) const WORDS_INPUT: &str = "word_embeddings";

/// Channels of the GELU that stay fp32: 16 and 32 are no better, 0 costs 2e-4 of the cosine.
const LOUD: usize = 8;
/// The uint8 that stands for 0 of a GELU, whose least value is -0.17: the rest of the range is for what is above.
const GELU_ZERO: u8 = 22;

/// A model in two files.
pub(super) struct Exported {
    pub onnx: Vec<u8>,
    /// The word table (`words.rs`): the graph takes rows of it in place of token ids.
    pub words: Vec<u8>,
}

/// The files of the BERT with these weights.
pub(super) fn export(tensors: &Tensors<'_>, config: &BertConfig, manifest: &Manifest, sample: &Sample) -> Result<Exported, ExportError> {
    if config.intermediate_size <= LOUD {
        return Err(ExportError::Config(format!("intermediate_size must be over {LOUD}")));
    }
    let shares = sample.shares();
    let mut pass = Pass::start(sample, tensors, config)?;
    // Layers one after the other: the inputs of all of them at once would be a gigabyte.
    let mut layers = Vec::with_capacity(config.num_hidden_layers);
    for layer in 0..config.num_hidden_layers {
        let layer = Layer::read(tensors, config, layer)?;
        let inputs = pass.through(&layer);
        layers.push(Layer8::of(layer, inputs, &shares));
    }

    let (mut bert, mask) = Bert::without_words(tensors, config);
    let words = bert.graph.real_input(WORDS_INPUT, &[Dim::Free("batch"), Dim::Free("seq"), Dim::Fixed(config.hidden_size)]);
    let padding = bert.padding_scores(&mask);
    let mut sum = placed(&mut bert, &words, &mask)?;
    let mut norm = Norm::read(tensors, "embeddings.LayerNorm", config.hidden_size)?;
    let mut int8 = Int8::new(bert, &mask);
    sum = int8.bert.graph.op("Reshape", &[&sum, &int8.bert.shared.heads_together.clone()], Vec::new());
    for (at, layer) in layers.into_iter().enumerate() {
        let name = format!("encoder.layer.{at}");
        let input = int8.norms(&name, &sum, &norm, &layer.out.bias, &layer.qkv_input);
        let attended = int8.attention(&name, &layer, &input.rounded, &padding);
        let sum_attended = int8.bert.graph.op("Add", &[&attended, &input.residual], Vec::new());
        let input = int8.norms(&format!("{name}.feed_forward"), &sum_attended, &layer.out_norm, &layer.down.bias, &layer.up_input);
        sum = int8.feed_forward(&name, &layer, &input);
        norm = layer.down_norm;
    }
    let hidden = int8.norm("last", &sum, &norm.gain, &norm.shift);
    let hidden = int8.bert.graph.op("Reshape", &[&hidden, &int8.texts_apart.clone()], Vec::new());
    let table = Matrix::new(config.hidden_size, tensors.numbers("embeddings.word_embeddings.weight", &[config.vocab_size, config.hidden_size])?);
    let words = words::file_of(&Table::of(&table));
    Ok(Exported { onnx: int8.bert.finish(&hidden, &mask, manifest.pooling, &manifest.name, &EXPORTER_VERSION.to_string()), words })
}

/// Word + position + token type, not normalised.
fn placed(bert: &mut Bert<'_>, words: &Value, mask: &Value) -> Result<Value, ExportError> {
    let BertConfig { hidden_size: hidden, max_position_embeddings: places, type_vocab_size, .. } = *bert.config;
    let mut positions = Matrix::new(hidden, bert.weights.numbers("embeddings.position_embeddings.weight", &[places, hidden])?);
    let types = bert.weights.numbers("embeddings.token_type_embeddings.weight", &[type_vocab_size, hidden])?;
    for row in positions.rows_mut() {
        row.iter_mut().zip(&types).for_each(|(x, first_type)| *x += first_type);
    }
    let positions = bert.graph.weight("embeddings.positions", &[places, hidden], &positions.numbers);
    let positions = bert.first_rows(&positions, mask);
    Ok(bert.graph.op("Add", &[words, &positions], Vec::new()))
}

/// A matrix in 8 bits and its bias.
struct Linear8 {
    matrix: Quantised,
    bias: Vec<f32>,
}

/// A layer in 8 bits.
struct Layer8 {
    qkv_input: Smoothing,
    qkv: Linear8,
    out: Linear8,
    out_norm: Norm,
    up_input: Smoothing,
    up: Linear8,
    down: Linear8,
    /// The last rows of the way down, for the channels that stay fp32.
    loud: Matrix,
    down_norm: Norm,
}

impl Layer8 {
    fn of(layer: Layer, inputs: Inputs, shares: &[f32]) -> Self {
        let width = layer.out.bias.len();
        let order = quiet_first(&inputs.down);
        let (quiet, loud) = order.split_at(order.len() - LOUD);
        let reordered = |matrix: &Matrix| matrix.transposed().picked(&order).transposed();
        let up = Linear { weights: reordered(&layer.up.weights), bias: order.iter().map(|channel| layer.up.bias[*channel]).collect() };
        let quiet_weights = layer.down.weights.picked(quiet);
        let ((down, (out_input, out)), ((qkv_input, mut qkv), (up_input, up))) = rayon::join(
            || (Quantised::of(&quiet_weights, &inputs.down.transposed().picked(quiet).transposed(), shares), smoothed(&layer.out, inputs.out, shares)),
            || rayon::join(|| smoothed(&layer.qkv, inputs.qkv, shares), || smoothed(&up, inputs.up, shares)),
        );
        // Attention's shares sum to 1, so what is done to the values is done to what comes out.
        for (channel, (shift, divisor)) in out_input.shift.iter().zip(&out_input.divisor).enumerate() {
            let value = 2 * width + channel;
            qkv.matrix.scales[value] /= divisor;
            qkv.bias[value] = (qkv.bias[value] - shift) / divisor;
        }
        Self {
            qkv_input,
            qkv,
            out,
            out_norm: layer.out_norm,
            up_input,
            up,
            down: Linear8 { matrix: down, bias: layer.down.bias },
            loud: layer.down.weights.picked(loud),
            down_norm: layer.down_norm,
        }
    }
}

/// `linear` for smoothed inputs, and how they are to be smoothed.
fn smoothed(linear: &Linear, inputs: Matrix, shares: &[f32]) -> (Smoothing, Linear8) {
    let smoothing = Smoothing::of(&inputs, &linear.weights, shares);
    let constant = smoothing.constant(&linear.weights);
    let matrix = Quantised::of(&smoothing.weights(&linear.weights), &smoothing.apply(inputs), shares);
    let bias = linear.bias.iter().zip(constant).map(|(bias, constant)| bias + constant).collect();
    (smoothing, Linear8 { matrix, bias })
}

/// Channels by their largest number.
fn quiet_first(inputs: &Matrix) -> Vec<usize> {
    let most: Vec<f32> = inputs.transposed().rows().map(|channel| channel.iter().copied().fold(0.0, f32::max)).collect();
    let mut order: Vec<usize> = (0..most.len()).collect();
    order.sort_by(|a, b| most[*a].total_cmp(&most[*b]).then(a.cmp(b)));
    order
}

/// What a sum is normalised to.
struct Normalised {
    /// To be added further on, with the bias of the matrix whose product it is added to.
    residual: Value,
    /// To be rounded.
    rounded: Value,
}

/// Rows in 8 bits.
struct Rows {
    numbers: Value,
    /// `[rows, 1]`: what a row's numbers are worth.
    scales: Value,
    zero: Value,
}

/// How rows of one kind become 8 bits.
struct Code {
    /// The uint8 that stands for 0.
    zero: Value,
    /// The same for every row.
    zeros: Value,
    /// One by the steps from there to the largest number.
    step: Value,
}

/// The graph under construction and the constants that every layer reads.
struct Int8<'a> {
    bert: Bert<'a>,
    last_axis: Value,
    one: Value,
    even: Code,
    gelu: Code,
    gelu_least: Value,
    gelu_parts: Value,
    texts_apart: Value,
}

impl<'a> Int8<'a> {
    fn new(mut bert: Bert<'a>, mask: &Value) -> Self {
        let BertConfig { hidden_size: hidden, num_attention_heads: heads, intermediate_size: wide, .. } = *bert.config;
        let graph = &mut bert.graph;
        let shape = graph.op("Shape", &[mask], Vec::new());
        let rows = graph.op("ReduceProd", &[&shape], vec![Attr::Int("keepdims", 1)]);
        let joined = vec![Attr::Int("axis", 0)];
        let heads_shape = graph.ints("heads_shape", &[heads as i64, (hidden / heads) as i64]);
        let text_shape = graph.ints("text_shape", &[hidden as i64]);
        bert.shared.heads_apart = graph.op("Concat", &[&shape, &heads_shape], joined);
        bert.shared.heads_together = graph.ints("rows_shape", &[-1, hidden as i64]);
        let texts_apart = graph.op("Concat", &[&shape, &text_shape], vec![Attr::Int("axis", 0)]);
        let mut code = |name: &str, zero: u8, steps: f32| Code {
            zero: graph.byte(&format!("{name}_zero"), zero),
            zeros: graph.bytes(&format!("{name}_zeros"), zero, &rows),
            step: graph.scalar(&format!("{name}_step"), 1.0 / steps),
        };
        let gelu_steps = f32::from(u8::MAX - GELU_ZERO);
        let (even, gelu) = (code("even", 128, 127.0), code("gelu", GELU_ZERO, gelu_steps));
        Self {
            last_axis: graph.ints("row_axis", &[-1]),
            one: graph.scalar("one_scale", 1.0),
            even,
            gelu,
            // So that -0.17 fits below zero however small the largest number is.
            gelu_least: graph.scalar("gelu_least", 0.17 * gelu_steps / f32::from(GELU_ZERO)),
            gelu_parts: graph.ints("gelu_parts", &[(wide - LOUD) as i64, LOUD as i64]),
            texts_apart,
            bert,
        }
    }

    fn attention(&mut self, name: &str, layer: &Layer8, input: &Value, padding: &Value) -> Value {
        let rows = self.rounded(input);
        let qkv = self.product(&format!("{name}.attention.qkv"), &rows, &layer.qkv.matrix);
        let qkv = self.biased(&format!("{name}.attention.qkv"), &qkv, &layer.qkv.bias);
        let parts = self.bert.graph.split(&qkv);
        let context = self.bert.context(parts, padding);
        let rows = self.rounded(&context);
        self.product(&format!("{name}.attention.output"), &rows, &layer.out.matrix)
    }

    fn feed_forward(&mut self, name: &str, layer: &Layer8, input: &Normalised) -> Value {
        let rows = self.rounded(&input.rounded);
        let wide = self.product(&format!("{name}.up"), &rows, &layer.up.matrix);
        let wide = self.biased(&format!("{name}.up"), &wide, &layer.up.bias);
        let wide = self.bert.graph.op("Gelu", &[&wide], Vec::new());
        let [quiet, loud] = self.bert.graph.cut(&wide, &self.gelu_parts);
        let weights = self.bert.graph.weight(&format!("{name}.down.loud"), &[LOUD, layer.loud.columns], &layer.loud.numbers);
        let loud = self.bert.graph.op("MatMul", &[&loud, &weights], Vec::new());
        let rest = self.bert.graph.op("Add", &[&loud, &input.residual], Vec::new());
        let rows = self.rounded_gelu(&quiet);
        let narrow = self.product(&format!("{name}.down"), &rows, &layer.down.matrix);
        self.bert.graph.op("Add", &[&narrow, &rest], Vec::new())
    }

    /// Two normalisations of one sum cost less than a normalisation, a multiplication and an addition.
    fn norms(&mut self, name: &str, sum: &Value, norm: &Norm, bias: &[f32], smoothing: &Smoothing) -> Normalised {
        let shift: Vec<f32> = norm.shift.iter().zip(bias).map(|(shift, bias)| shift + bias).collect();
        let residual = self.norm(&format!("{name}.residual"), sum, &norm.gain, &shift);
        let gain: Vec<f32> = norm.gain.iter().zip(&smoothing.divisor).map(|(gain, divisor)| gain / divisor).collect();
        let smooth = norm.shift.iter().zip(&smoothing.shift).zip(&smoothing.divisor);
        let shift: Vec<f32> = smooth.map(|((shift, middle), divisor)| (shift - middle) / divisor).collect();
        let rounded = self.norm(&format!("{name}.smooth"), sum, &gain, &shift);
        Normalised { residual, rounded }
    }

    fn norm(&mut self, name: &str, sum: &Value, gain: &[f32], shift: &[f32]) -> Value {
        let gain = self.bert.graph.weight(&format!("{name}.gain"), &[gain.len()], gain);
        let shift = self.bert.graph.weight(&format!("{name}.shift"), &[shift.len()], shift);
        let attributes = vec![Attr::Int("axis", -1), Attr::Float("epsilon", self.bert.config.layer_norm_eps)];
        self.bert.graph.op("LayerNormalization", &[sum, &gain, &shift], attributes)
    }

    /// Rows of numbers around 0.
    fn rounded(&mut self, x: &Value) -> Rows {
        let graph = &mut self.bert.graph;
        let size = graph.op("Abs", &[x], Vec::new());
        let most = graph.op("ReduceMax", &[&size, &self.last_axis], vec![Attr::Int("keepdims", 1)]);
        divided(graph, x, &most, &self.even, &self.last_axis)
    }

    /// Rows of a GELU.
    fn rounded_gelu(&mut self, x: &Value) -> Rows {
        let graph = &mut self.bert.graph;
        let most = graph.op("ReduceMax", &[x, &self.last_axis], vec![Attr::Int("keepdims", 1)]);
        let most = graph.op("Max", &[&most, &self.gelu_least], Vec::new());
        divided(graph, x, &most, &self.gelu, &self.last_axis)
    }

    fn product(&mut self, name: &str, rows: &Rows, matrix: &Quantised) -> Value {
        let columns = matrix.scales.len();
        let graph = &mut self.bert.graph;
        let weights = graph.weight_i8(&format!("{name}.weight"), &[matrix.numbers.len() / columns, columns], &matrix.numbers);
        let scales = graph.weight(&format!("{name}.scales"), &[columns], &matrix.scales);
        // Scaled by columns where it is made: two passes over the product less than Cast and Mul, 3 % of the time at 128 tokens.
        let product = graph.runtime_op("MatMulIntegerToFloat", &[&rows.numbers, &weights, &self.one, &scales, &rows.zero], Vec::new());
        graph.op("Mul", &[&product, &rows.scales], Vec::new())
    }

    /// Minus the negative: ONNX Runtime makes a slower operator of its own out of Add and Gelu.
    fn biased(&mut self, name: &str, x: &Value, bias: &[f32]) -> Value {
        let negative: Vec<f32> = bias.iter().map(|bias| -bias).collect();
        let negative = self.bert.graph.weight(&format!("{name}.negative_bias"), &[bias.len()], &negative);
        self.bert.graph.op("Sub", &[x, &negative], Vec::new())
    }
}

/// Each row of `x` divided by its largest number, `most`, and rounded.
fn divided(graph: &mut Graph, x: &Value, most: &Value, code: &Code, last_axis: &Value) -> Rows {
    let scales = graph.op("Mul", &[most, &code.step], Vec::new());
    let list = graph.op("Squeeze", &[&scales, last_axis], Vec::new());
    let numbers = graph.op("QuantizeLinear", &[x, &list, &code.zeros], vec![Attr::Int("axis", 0)]);
    Rows { numbers, scales, zero: code.zero.clone() }
}
