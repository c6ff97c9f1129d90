//! Where forward passes run: on this machine's processor, or on a CUDA device when everything that it takes is there.
//!
//! A GPU takes the NVIDIA driver, ONNX Runtime built for CUDA and the CUDA libraries it links to. The latter two come with
//! `inkling model fetch --gpu`; libraries that the machine has already are found as well. ONNX Runtime finds libraries by their names alone, so
//! each is loaded by its path first.

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde::{Deserialize, Serialize};

use super::{
    PrepareError, PreparedModel, Progress,
    fetch::{self, Pip},
    files::Folder,
    manifest::Package,
};

const PACKAGES: &str = include_str!("../../models/onnxruntime-gpu.toml");

const DRIVER: &str = "libcuda.so.1";
const SHARED_PROVIDER: &str = "libonnxruntime_providers_shared.so";
const CUDA_PROVIDER: &str = "libonnxruntime_providers_cuda.so";
/// What the CUDA provider links to, each after what it needs itself.
const CUDA: [&str; 4] = ["libcudart.so.13", "libcublasLt.so.13", "libcublas.so.13", "libcurand.so.10"];
/// Loaded where it is found: ONNX Runtime 1.31 asks for cuDNN only when a graph has convolutions, which a BERT has not.
const OPTIONAL: [&str; 1] = ["libcudnn.so.9"];
/// Folders of drivers and CUDA in common installations and containers, after `LD_LIBRARY_PATH`.
const FOLDERS: [&str; 10] = [
    "/usr/local/nvidia/lib64",
    "/usr/lib/wsl/lib",
    "/usr/local/cuda/lib64",
    "/usr/local/cuda-13/lib64",
    "/opt/cuda/lib64",
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib64",
    "/usr/lib",
    "/lib/x86_64-linux-gnu",
    "/run/opengl-driver/lib",
];

/// `encoder.provider`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProviderSetting {
    /// CUDA where it can be had, else the processor, with a warning.
    Auto,
    /// The processor.
    Cpu,
    /// CUDA or no start.
    Cuda,
}

/// Where forward passes run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Provider {
    /// The processor.
    Cpu,
    /// An NVIDIA GPU.
    Cuda,
}

impl Provider {
    /// As metrics, logs and `/health/ready` say it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
        }
    }
}

/// What stands between this machine and its GPU: each thing that is missing, then where it was looked for.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct NoGpu(pub String);

/// Folders that may hold what a GPU takes.
pub(super) struct Places {
    /// Where `fetch_gpu` puts ONNX Runtime and the CUDA libraries.
    fetched: PathBuf,
    others: Vec<PathBuf>,
    /// Whether the system's loader is asked for what lies in none of them.
    ask_loader: bool,
}

impl Places {
    /// Of this machine; `model` tells where models are.
    pub(super) fn here(model: &PreparedModel) -> Result<Self, PrepareError> {
        let models = model.library.parent().and_then(Path::parent).unwrap_or(Path::new("."));
        let variable = std::env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
        let others = std::env::split_paths(&variable).filter(|folder| !folder.as_os_str().is_empty()).chain(FOLDERS.map(PathBuf::from)).collect();
        Ok(Self { fetched: folder(models)?, others, ask_loader: true })
    }

    /// Loads everything a GPU takes and gives ONNX Runtime's own library.
    pub(super) fn load(&self) -> Result<PathBuf, NoGpu> {
        let runtime = runtime_name().map_err(|error| NoGpu(error.to_string()))?;
        let wanted = [
            (DRIVER, "the NVIDIA driver: install it, and give it to a container with `--gpus all`"),
            (&*runtime, "ONNX Runtime for CUDA: `inkling model fetch --gpu` gets it"),
            (SHARED_PROVIDER, "ONNX Runtime for CUDA: `inkling model fetch --gpu` gets it"),
            (CUDA_PROVIDER, "ONNX Runtime for CUDA: `inkling model fetch --gpu` gets it"),
        ];
        let libraries = CUDA.map(|name| (name, "a CUDA 13 library: `inkling model fetch --gpu` gets it"));
        let mut missing = String::new();
        for (name, what) in wanted.into_iter().chain(libraries) {
            if self.find(name).is_none() && !self.loader_has(name) {
                let _ = write!(missing, "\n  {name} is missing ({what})"); // a String takes everything
            }
        }
        if !missing.is_empty() {
            let folders: Vec<String> = self.folders().map(|folder| folder.display().to_string()).collect();
            return Err(NoGpu(format!("there is no usable GPU:{missing}\n  looked in {}, and asked the system's loader", folders.join(", "))));
        }
        for name in [DRIVER].into_iter().chain(CUDA).chain(OPTIONAL) {
            let Some(path) = self.find(name) else { continue };
            let loaded = ort::util::preload_dylib(&path);
            loaded.map_err(|error| NoGpu(format!("there is no usable GPU:\n  {} cannot be loaded: {error}", path.display())))?;
        }
        Ok(self.fetched.join(runtime))
    }

    /// ONNX Runtime looks for its providers beside itself; everything else may lie anywhere.
    fn find(&self, name: &str) -> Option<PathBuf> {
        let own = name.starts_with("libonnxruntime");
        self.folders().take(if own { 1 } else { usize::MAX }).map(|folder| folder.join(name)).find(|path| path.is_file())
    }

    /// ONNX Runtime itself is never taken from the system: it may be of any version.
    fn loader_has(&self, name: &str) -> bool {
        self.ask_loader && !name.starts_with("libonnxruntime") && ort::util::preload_dylib(name).is_ok()
    }

    fn folders(&self) -> impl Iterator<Item = &PathBuf> {
        std::iter::once(&self.fetched).chain(&self.others)
    }
}

/// Fetches ONNX Runtime for CUDA and the CUDA libraries it links to (1.2 GB), with pip and pinned hashes, into a folder of `models_dir`, and
/// gives that folder. Nothing is fetched the second time. Blocks for minutes.
pub fn fetch_gpu(models_dir: &Path, progress: &mut dyn FnMut(Progress)) -> Result<PathBuf, PrepareError> {
    let folder = folder(&std::path::absolute(models_dir).map_err(|error| PrepareError::files(models_dir, error))?)?;
    for package in packages()? {
        fetch::fetch(&package, &Folder::new(folder.clone()), &Pip::find, progress)?;
    }
    Ok(folder)
}

/// Bytes of memory that the first GPU has free, as its driver's own tool says.
pub(super) fn free_memory() -> Option<u64> {
    let mut command = Command::new("nvidia-smi");
    command.args(["--query-gpu=memory.free", "--format=csv,noheader,nounits", "--id=0"]).stdin(Stdio::null()).stderr(Stdio::null());
    let answer = command.output().ok().filter(|output| output.status.success())?;
    String::from_utf8(answer.stdout).ok()?.lines().next()?.trim().parse::<u64>().ok()?.checked_mul(1 << 20)
}

fn packages() -> Result<Vec<Package>, PrepareError> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Packages {
        packages: Vec<Package>,
    }
    let packages: Packages = toml::from_str(PACKAGES).map_err(|error| PrepareError::Manifest(error.to_string()))?;
    Ok(packages.packages)
}

fn runtime() -> Result<Package, PrepareError> {
    packages()?.into_iter().next().ok_or_else(|| PrepareError::Manifest("models/onnxruntime-gpu.toml names no package".to_owned()))
}

fn runtime_name() -> Result<String, PrepareError> {
    Ok(format!("libonnxruntime.so.{}", runtime()?.version))
}

fn folder(models_dir: &Path) -> Result<PathBuf, PrepareError> {
    let runtime = runtime()?;
    Ok(models_dir.join(format!("{}-{}", runtime.package, runtime.version)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named_with_every_place_that_was_looked_in() {
        let (fetched, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let places = Places { fetched: fetched.path().to_owned(), others: vec![other.path().to_owned()], ask_loader: false };

        let error = places.load().unwrap_err().to_string();

        for part in [DRIVER, "driver", "libcublasLt.so.13", CUDA_PROVIDER, "inkling model fetch --gpu"] {
            assert!(error.contains(part), "{error}");
        }
        for folder in [&fetched, &other] {
            assert!(error.contains(&folder.path().display().to_string()), "{error}");
        }
    }

    #[test]
    fn what_is_there_is_not_called_missing_and_what_does_not_load_is_named() {
        let (fetched, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let runtime = runtime_name().unwrap();
        for name in [&*runtime, SHARED_PROVIDER, CUDA_PROVIDER] {
            std::fs::write(fetched.path().join(name), "").unwrap();
        }
        for name in CUDA {
            std::fs::write(other.path().join(name), "").unwrap();
        }
        let places = Places { fetched: fetched.path().to_owned(), others: vec![other.path().to_owned()], ask_loader: false };
        let error = places.load().unwrap_err().to_string();
        assert!(error.contains(DRIVER) && !error.contains(CUDA[0]) && !error.contains(&runtime), "{error}");

        std::fs::write(other.path().join(DRIVER), "no library").unwrap();

        let error = places.load().unwrap_err().to_string();
        assert!(error.contains(&format!("{} cannot be loaded", other.path().join(DRIVER).display())), "{error}");
    }

    #[test]
    fn the_pinned_packages_hold_every_library_that_is_looked_for_but_the_driver() {
        let packages = packages().unwrap();
        let pinned: Vec<&str> = packages.iter().flat_map(|package| &package.wheels).flat_map(|wheel| &wheel.files).map(|file| file.name()).collect();

        let runtime = runtime_name().unwrap();
        for name in [&*runtime, SHARED_PROVIDER, CUDA_PROVIDER].into_iter().chain(CUDA).chain(OPTIONAL) {
            assert!(pinned.contains(&name), "{name}");
        }
    }
}
