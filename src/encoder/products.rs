//! How this processor multiplies int8 weights by uint8 inputs.
//!
//! x86 processors without VNNI (AVX512-VNNI or AVX-VNNI: Intel since 2019 and 2021, AMD since 2022) add pairs of such products in 16 bits, which
//! overflow: ONNX Runtime would give wrong sums there. Weights as uint8 around 128 are multiplied right by every processor and give the same
//! whole numbers, so the model's version stands; they take 1.9 times as long. ARM needs none of this: its kernels add in 32 bits.

use ort::{
    environment::Environment,
    session::{Session, builder::GraphOptimizationLevel},
    value::Tensor,
};

use super::graph::{Dim, Graph};

/// The type that int8 weights are multiplied in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Products {
    /// As they are.
    Signed,
    /// As uint8 around 128: slower.
    Unsigned,
}

impl Products {
    /// What is right on this processor. Says so where it is the slow one.
    pub(super) fn here(environment: &Environment) -> ort::Result<Self> {
        // The processor's word, and a try: a runtime may choose another kernel than one would think.
        if has_exact_products() && are_exact(environment)? {
            return Ok(Self::Signed);
        }
        tracing::warn!("this processor has no VNNI: int8 runs on slower products, with the same embeddings; fp32 may be as fast here (encoder.precision)");
        Ok(Self::Unsigned)
    }
}

#[cfg(target_arch = "x86_64")]
fn has_exact_products() -> bool {
    is_x86_feature_detected!("avxvnni") || (is_x86_feature_detected!("avx512vnni") && is_x86_feature_detected!("avx512vl"))
}

#[cfg(not(target_arch = "x86_64"))]
fn has_exact_products() -> bool {
    true
}

/// Multiplies the largest numbers, whose pairs do not fit into 16 bits, and looks.
fn are_exact(environment: &Environment) -> ort::Result<bool> {
    const SIZE: usize = 64;
    let mut graph = Graph::default();
    let input = graph.input("input", &[Dim::Free("rows"), Dim::Fixed(SIZE)]);
    let input = graph.op("Cast", &[&input], vec![super::graph::Attr::Int("to", 2)]);
    let weights = graph.weight_i8("weights", &[SIZE, SIZE], &[127; SIZE * SIZE]);
    let zero = graph.byte("zero", 0);
    let product = graph.op("MatMulInteger", &[&input, &weights, &zero], Vec::new());
    let product = graph.op("Cast", &[&product], vec![super::graph::Attr::Int("to", 1)]);
    graph.output("product", product, &[Dim::Free("rows"), Dim::Fixed(SIZE)]);
    let file = graph.into_bytes("products", "1");

    let mut session = Session::builder(environment)?.with_optimization_level(GraphOptimizationLevel::All)?.with_intra_threads(1)?.commit_from_memory(&file)?;
    let input = Tensor::from_array(([8_usize, SIZE], vec![255_i64; 8 * SIZE]))?;
    let outputs = session.run(ort::inputs!["input" => input])?;
    let Some(output) = outputs.get("product") else { return Ok(false) };
    let (_, sums) = output.try_extract_tensor::<f32>()?;
    let expected = (255 * 127 * SIZE) as f32; // below 2^24: exact as f32
    Ok(sums.len() == 8 * SIZE && sums.iter().all(|sum| sum.to_bits() == expected.to_bits()))
}
