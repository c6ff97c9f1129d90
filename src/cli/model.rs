//! `inkling model`.

use std::process::ExitCode;

use clap::Subcommand;

use crate::{config::Settings, encoder::Manifest};

use super::progress::{fetched_gpu, prepared_model};

#[derive(Subcommand)]
pub(super) enum ModelCommand {
    /// Name the models that can be used
    List,
    /// Fetch, verify and export the model of the settings (or --model) ahead of time
    Fetch {
        /// Fetch ONNX Runtime for CUDA and the CUDA libraries it needs as well (1.1 GB)
        #[arg(long)]
        gpu: bool,
    },
}

pub(super) fn run(command: &ModelCommand, settings: &Settings) -> anyhow::Result<ExitCode> {
    match command {
        ModelCommand::List => {
            for manifest in Manifest::all()? {
                println!("{}{}", manifest.name, if manifest.name == settings.encoder.model { "  (in use)" } else { "" });
            }
        }
        ModelCommand::Fetch { gpu } => {
            let model = prepared_model(settings)?;
            if *gpu {
                let folder = fetched_gpu(settings)?;
                println!("what a GPU takes is in {}; set encoder.provider = \"cuda\" or \"auto\"", folder.display());
            }
            println!("{} is ready in {}", model.version, settings.paths.models_dir().display());
        }
    }
    Ok(ExitCode::SUCCESS)
}
