//! An independent BERT forward pass in float64 to check the exported graph against: its own reading of the weights, its own attention, its own
//! pooling, one text at a time without padding. Written from Devlin et al. 2019 and Reimers & Gurevych 2019, not from the exporter; RoBERTa and
//! DistilBERT from their papers and the names in their files.

use std::{collections::HashMap, path::Path};

use ndarray::{Array1, Array2, Axis, Slice};

pub(super) struct Reference {
    tensors: HashMap<String, Array2<f64>>,
    layers: usize,
    heads: usize,
    epsilon: f64,
    /// The position of a text's first token.
    first_position: usize,
    distil: bool,
}

impl Reference {
    /// Reads `model.safetensors` (8 bytes of header length, a JSON header, raw little-endian floats) and `config.json`.
    pub(super) fn read(folder: &Path) -> Self {
        let file = std::fs::read(folder.join("model.safetensors")).unwrap();
        let config: serde_json::Value = serde_json::from_slice(&std::fs::read(folder.join("config.json")).unwrap()).unwrap();
        let header_end = 8 + u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
        let header: HashMap<String, serde_json::Value> = serde_json::from_slice(&file[8..header_end]).unwrap();
        let tensors = header.into_iter().filter_map(|(name, about)| {
            let (size, number): (usize, fn(&[u8]) -> f64) = match about["dtype"].as_str()? {
                "F32" => (4, |bytes| f64::from(f32::from_le_bytes(bytes.try_into().unwrap()))),
                "F16" => (2, |bytes| half::f16::from_le_bytes(bytes.try_into().unwrap()).to_f64()),
                "BF16" => (2, |bytes| half::bf16::from_le_bytes(bytes.try_into().unwrap()).to_f64()),
                _ => return None,
            };
            let whole = |value: &serde_json::Value| value.as_u64().unwrap() as usize;
            let (from, to) = (whole(&about["data_offsets"][0]), whole(&about["data_offsets"][1]));
            let numbers = file[header_end + from..header_end + to].chunks(size).map(number).collect();
            let shape: Vec<usize> = about["shape"].as_array().unwrap().iter().map(whole).collect();
            let shape = if let [rows, columns] = shape[..] { (rows, columns) } else { (1, shape[0]) };
            Some((name, Array2::from_shape_vec(shape, numbers).unwrap()))
        });
        let kind = config["model_type"].as_str().unwrap_or("bert");
        let distil = kind == "distilbert";
        let first_position = if kind.contains("roberta") { config["pad_token_id"].as_u64().unwrap() as usize + 1 } else { 0 };
        let of = |key: &str| config[key].as_u64().unwrap() as usize;
        let (layers, heads) = if distil { (of("n_layers"), of("n_heads")) } else { (of("num_hidden_layers"), of("num_attention_heads")) };
        Self { tensors: tensors.collect(), layers, heads, epsilon: config["layer_norm_eps"].as_f64().unwrap_or(1e-12), first_position, distil }
    }

    /// The embedding of one text's token ids: the mean of its tokens, of length 1.
    pub(super) fn embed(&self, ids: &[u32]) -> Vec<f64> {
        let mean: Array1<f64> = self.tokens(ids).sum_axis(Axis(0)) / ids.len() as f64;
        let length = mean.dot(&mean).sqrt();
        (mean / length).to_vec()
    }

    /// The last layer's vectors of one text's tokens.
    pub(super) fn tokens(&self, ids: &[u32]) -> Array2<f64> {
        let words = self.tensor("embeddings.word_embeddings.weight");
        let positions = self.tensor("embeddings.position_embeddings.weight");
        let mut hidden = Array2::zeros((ids.len(), words.ncols()));
        for (at, id) in ids.iter().enumerate() {
            hidden.row_mut(at).assign(&(&words.row(*id as usize) + &positions.row(self.first_position + at)));
            if !self.distil {
                hidden.row_mut(at).scaled_add(1.0, &self.tensor("embeddings.token_type_embeddings.weight").row(0));
            }
        }
        self.normalise("embeddings.LayerNorm", &mut hidden);
        for layer in 0..self.layers {
            let name = format!("encoder.layer.{layer}");
            let mut attended = self.dense(&format!("{name}.attention.output.dense"), &self.attend(&name, &hidden));
            attended += &hidden;
            self.normalise(&format!("{name}.attention.output.LayerNorm"), &mut attended);
            let wide = self.dense(&format!("{name}.intermediate.dense"), &attended).mapv(gelu);
            hidden = self.dense(&format!("{name}.output.dense"), &wide) + &attended;
            self.normalise(&format!("{name}.output.LayerNorm"), &mut hidden);
        }
        hidden
    }

    /// By its name in a BERT; other files have the same thing under another.
    fn tensor(&self, name: &str) -> &Array2<f64> {
        let name = if self.distil { distil_name(name) } else { name.to_owned() };
        let old = name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta");
        let known = ["", "bert.", "roberta.", "distilbert."].into_iter().flat_map(|prefix| [format!("{prefix}{name}"), format!("{prefix}{old}")]);
        known.into_iter().find_map(|name| self.tensors.get(&name)).unwrap_or_else(|| panic!("no tensor {name}"))
    }

    fn attend(&self, layer: &str, hidden: &Array2<f64>) -> Array2<f64> {
        let [query, key, value] = ["query", "key", "value"].map(|part| self.dense(&format!("{layer}.attention.self.{part}"), hidden));
        let width = hidden.ncols() / self.heads;
        let mut context = Array2::zeros(hidden.raw_dim());
        for head in 0..self.heads {
            let columns = Slice::from(head * width..(head + 1) * width);
            let mut shares = query.slice_axis(Axis(1), columns).dot(&key.slice_axis(Axis(1), columns).t()) / (width as f64).sqrt();
            for mut row in shares.rows_mut() {
                let most = row.fold(f64::NEG_INFINITY, |a, b| a.max(*b));
                row.mapv_inplace(|x| (x - most).exp());
                let sum = row.sum();
                row /= sum;
            }
            context.slice_axis_mut(Axis(1), columns).assign(&shares.dot(&value.slice_axis(Axis(1), columns)));
        }
        context
    }

    fn dense(&self, name: &str, x: &Array2<f64>) -> Array2<f64> {
        x.dot(&self.tensor(&format!("{name}.weight")).t()) + self.tensor(&format!("{name}.bias")).row(0)
    }

    fn normalise(&self, name: &str, x: &mut Array2<f64>) {
        let (gain, shift) = (self.tensor(&format!("{name}.weight")).row(0), self.tensor(&format!("{name}.bias")).row(0));
        for mut row in x.rows_mut() {
            let mean = row.mean().unwrap();
            let variance = row.mapv(|x| (x - mean).powi(2)).mean().unwrap();
            row.mapv_inplace(|x| (x - mean) / (variance + self.epsilon).sqrt());
            row *= &gain;
            row += &shift;
        }
    }
}

/// As `DistilBertModel` names its parameters.
fn distil_name(name: &str) -> String {
    let parts: Vec<&str> = name.split('.').collect();
    match parts[..] {
        ["encoder", "layer", layer, "attention", "self", part, kind] => format!("transformer.layer.{layer}.attention.{}_lin.{kind}", &part[..1]),
        ["encoder", "layer", layer, "attention", "output", "dense", kind] => format!("transformer.layer.{layer}.attention.out_lin.{kind}"),
        ["encoder", "layer", layer, "attention", "output", "LayerNorm", kind] => format!("transformer.layer.{layer}.sa_layer_norm.{kind}"),
        ["encoder", "layer", layer, "intermediate", "dense", kind] => format!("transformer.layer.{layer}.ffn.lin1.{kind}"),
        ["encoder", "layer", layer, "output", "dense", kind] => format!("transformer.layer.{layer}.ffn.lin2.{kind}"),
        ["encoder", "layer", layer, "output", "LayerNorm", kind] => format!("transformer.layer.{layer}.output_layer_norm.{kind}"),
        _ => name.to_owned(),
    }
}

fn gelu(x: f64) -> f64 {
    x / 2.0 * (1.0 + erf(x / std::f64::consts::SQRT_2))
}

/// To about 1e-12: the Taylor series near 0 (Abramowitz & Stegun 7.1.6), 1 where erfc is below 1e-12.
fn erf(x: f64) -> f64 {
    if x.abs() > 5.2 {
        return x.signum();
    }
    let (mut term, mut sum, mut n) = (x, x, 0.0);
    while term.abs() > 1e-17 * sum.abs() {
        n += 1.0;
        term *= 2.0 * x * x / (2.0 * n + 1.0);
        sum += term;
    }
    sum * 2.0 / std::f64::consts::PI.sqrt() * (-x * x).exp()
}

#[test]
fn erf_has_the_values_of_the_tables() {
    // Abramowitz & Stegun, table 7.1.
    for (x, value) in [(0.0, 0.0), (0.5, 0.520_499_877_8), (1.0, 0.842_700_792_9), (2.0, 0.995_322_265_0), (-1.0, -0.842_700_792_9), (4.0, 0.999_999_984_6)] {
        assert!((erf(x) - value).abs() < 1e-10, "{x}");
    }
}
