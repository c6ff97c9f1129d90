//! An independent BERT forward pass in float64 to check the exported graph against: its own reading of the weights, its own attention, its own
//! pooling, one text at a time without padding. Written from Devlin et al. 2019 and Reimers & Gurevych 2019, not from the exporter.

use std::{collections::HashMap, path::Path};

use ndarray::{Array1, Array2, Axis, Slice};

pub(super) struct Reference {
    tensors: HashMap<String, Array2<f64>>,
    layers: usize,
    heads: usize,
    epsilon: f64,
}

impl Reference {
    /// Reads `model.safetensors` (8 bytes of header length, a JSON header, raw little-endian floats) and `config.json`.
    pub(super) fn read(folder: &Path) -> Self {
        let file = std::fs::read(folder.join("model.safetensors")).unwrap();
        let config: serde_json::Value = serde_json::from_slice(&std::fs::read(folder.join("config.json")).unwrap()).unwrap();
        let header_end = 8 + u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
        let header: HashMap<String, serde_json::Value> = serde_json::from_slice(&file[8..header_end]).unwrap();
        let floats = header.into_iter().filter(|(_, about)| about["dtype"] == "F32");
        let tensors = floats.map(|(name, about)| {
            let number = |value: &serde_json::Value| value.as_u64().unwrap() as usize;
            let (from, to) = (number(&about["data_offsets"][0]), number(&about["data_offsets"][1]));
            let numbers = file[header_end + from..header_end + to].chunks(4).map(|bytes| f64::from(f32::from_le_bytes(bytes.try_into().unwrap()))).collect();
            let shape: Vec<usize> = about["shape"].as_array().unwrap().iter().map(number).collect();
            let shape = if let [rows, columns] = shape[..] { (rows, columns) } else { (1, shape[0]) };
            (name, Array2::from_shape_vec(shape, numbers).unwrap())
        });
        let of = |key: &str| config[key].as_u64().unwrap() as usize;
        let (layers, heads) = (of("num_hidden_layers"), of("num_attention_heads"));
        Self { tensors: tensors.collect(), layers, heads, epsilon: config["layer_norm_eps"].as_f64().unwrap() }
    }

    /// The embedding of one text's token ids.
    pub(super) fn embed(&self, ids: &[u32]) -> Vec<f64> {
        let words = &self.tensors["embeddings.word_embeddings.weight"];
        let positions = &self.tensors["embeddings.position_embeddings.weight"];
        let types = &self.tensors["embeddings.token_type_embeddings.weight"];
        let mut hidden = Array2::zeros((ids.len(), words.ncols()));
        for (at, id) in ids.iter().enumerate() {
            hidden.row_mut(at).assign(&(&words.row(*id as usize) + &positions.row(at) + types.row(0)));
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
        let mean: Array1<f64> = hidden.sum_axis(Axis(0)) / ids.len() as f64;
        let length = mean.dot(&mean).sqrt();
        (mean / length).to_vec()
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
        x.dot(&self.tensors[&format!("{name}.weight")].t()) + self.tensors[&format!("{name}.bias")].row(0)
    }

    fn normalise(&self, name: &str, x: &mut Array2<f64>) {
        let (gain, shift) = (self.tensors[&format!("{name}.weight")].row(0), self.tensors[&format!("{name}.bias")].row(0));
        for mut row in x.rows_mut() {
            let mean = row.mean().unwrap();
            let variance = row.mapv(|x| (x - mean).powi(2)).mean().unwrap();
            row.mapv_inplace(|x| (x - mean) / (variance + self.epsilon).sqrt());
            row *= &gain;
            row += &shift;
        }
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
