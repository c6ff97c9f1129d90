//! How fast this machine multiplies matrices through the same library and provider: the limit that a forward pass is held against.

use std::time::{Duration, Instant};

use super::{
    EncoderSettings, Precision, PrepareError, PreparedModel,
    graph::{Attr, Dim, Graph},
    sessions::Sessions,
};

/// Products in a row, so that reading the input and the output counts for little.
const PRODUCTS: usize = 16;

/// Floating-point operations a second of products of two `size` x `size` matrices, in the model's precision, on the provider of the settings: the
/// best of the passes that fit into `time`, one at least. `size` is a power of two from 256.
pub fn matrix_peak(model: &PreparedModel, settings: &EncoderSettings, size: usize, time: Duration) -> Result<f64, PrepareError> {
    let folder = tempfile::tempdir().map_err(|error| PrepareError::files(&std::env::temp_dir(), error))?;
    let mut chain = model.clone();
    chain.onnx = folder.path().join("peak.onnx");
    chain.width = size;
    chain.manifest.max_tokens = size;
    if chain.manifest.precision == Precision::Int8 {
        chain.manifest.precision = Precision::Fp32; // whole numbers are no floating-point operations: `BareProduct` has their peak
    }
    std::fs::write(&chain.onnx, products(size)).map_err(|error| PrepareError::files(&chain.onnx, error))?;
    let mut sessions = Sessions::start(&chain, &EncoderSettings { sessions: 1, ..settings.clone() })?;
    let pass = sessions.passes.first_mut().ok_or_else(|| PrepareError::Start("no session was started".to_owned()))?;
    let row: Vec<u32> = (0..size as u32).collect();
    // The first pass allocates.
    pass.run(&[&row]).map_err(PrepareError::Start)?;
    let operations = (2 * PRODUCTS * size.pow(3)) as f64;
    let (begun, mut best) = (Instant::now(), 0.0_f64);
    while best == 0.0 || begun.elapsed() < time {
        let started = Instant::now();
        pass.run(&[&row]).map_err(PrepareError::Start)?;
        best = best.max(operations / started.elapsed().as_secs_f64());
    }
    Ok(best)
}

/// A graph with the inputs and the output of a model that looks up `size` rows and multiplies them by one matrix again and again.
fn products(size: usize) -> Vec<u8> {
    // Not zeros, which some hardware multiplies faster; about as large after each product as before.
    let spread = (12.0 / size as f32).sqrt();
    let number = |at: usize| ((at.wrapping_mul(2_654_435_761) >> 8) as u16 as f32 / 65_536.0 - 0.5) * spread;
    let numbers: Vec<f32> = (0..size * size).map(number).collect();
    let mut graph = Graph::default();
    let ids = graph.input("input_ids", &[Dim::Free("batch"), Dim::Free("seq")]);
    let mask = graph.input("attention_mask", &[Dim::Free("batch"), Dim::Free("seq")]);
    let matrix = graph.weight("matrix", &[size, size], &numbers);
    let mut hidden = graph.op("Gather", &[&matrix, &ids], Vec::new());
    for _ in 0..PRODUCTS {
        hidden = graph.op("MatMul", &[&hidden, &matrix], Vec::new());
    }
    let (gain, shift) = (graph.weight("gain", &[size], &vec![1.0; size]), graph.weight("shift", &[size], &vec![0.0; size]));
    let hidden = graph.op("LayerNormalization", &[&hidden, &gain, &shift], vec![Attr::Int("axis", -1)]);
    let mask = graph.op("Cast", &[&mask], vec![Attr::Int("to", 1)]);
    let last = graph.ints("last_axis", &[-1]);
    let seq = graph.ints("seq_axis", &[1]);
    let mask = graph.op("Unsqueeze", &[&mask, &last], Vec::new());
    let kept = graph.op("Mul", &[&hidden, &mask], Vec::new());
    let mean = graph.op("ReduceMean", &[&kept, &seq], vec![Attr::Int("keepdims", 0)]);
    graph.output("embedding", mean, &[Dim::Free("batch"), Dim::Fixed(size)]);
    graph.into_bytes("peak", "1")
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            halves,
            tests::{MODEL, settings},
        },
        *,
    };

    #[test]
    fn the_peak_is_a_plausible_speed() {
        let speed = matrix_peak(&MODEL, &settings(), 256, Duration::ZERO).unwrap();

        assert!(speed > 1e8 && speed < 1e13, "{speed:e}");
    }

    #[test]
    fn the_same_products_can_be_computed_in_halves() {
        assert!(halves::in_half(&products(256)).is_ok());
    }
}
