//! What the exporters write, by precision. Files of several precisions lie side by side in a model's folder.

use std::path::Path;

use super::{
    PrepareError, bert,
    bert::{BertConfig, ExportError},
    calibrate::Sample,
    int8,
    manifest::{Manifest, Precision},
    tensors::Tensors,
    tokens::Tokens,
};

/// Tokens of a calibration text that are read.
const CALIBRATION_TOKENS: usize = 128;

impl Precision {
    /// Names of the files, the graph's first.
    pub(super) fn files(self) -> &'static [&'static str] {
        match self {
            // fp16 is made of fp32 when it is loaded.
            Self::Fp32 | Self::Fp16 => &["model.onnx"],
            Self::Int8 => &["model.int8.onnx", int8::WORDS],
        }
    }

    /// The graph's file.
    pub(super) fn onnx(self) -> &'static str {
        self.files()[0]
    }

    /// Names the exporter: files of another one are made again.
    pub(super) fn exporter(self) -> String {
        match self {
            Self::Fp32 | Self::Fp16 => bert::EXPORTER_VERSION.to_string(),
            Self::Int8 => format!("{}.{}", bert::EXPORTER_VERSION, int8::EXPORTER_VERSION),
        }
    }
}

/// The content of [`Precision::files`], in their order.
pub(super) fn export(manifest: &Manifest, tensors: &Tensors<'_>, config: &BertConfig, tokenizer: &Path) -> Result<Vec<Vec<u8>>, PrepareError> {
    let unfit = |error: ExportError| PrepareError::Export { model: manifest.name.clone(), reason: error.to_string() };
    match manifest.precision {
        Precision::Fp32 | Precision::Fp16 => Ok(vec![bert::export(tensors, config, manifest.pooling, &manifest.name).map_err(unfit)?]),
        Precision::Int8 => {
            let tokens = Tokens::load(tokenizer, manifest.max_tokens.min(CALIBRATION_TOKENS))?;
            let sample = Sample::new(&tokens, &manifest.query_prefix, config.vocab_size)?;
            let exported = int8::export(tensors, config, manifest, &sample).map_err(unfit)?;
            Ok(vec![exported.onnx, exported.words])
        }
    }
}
