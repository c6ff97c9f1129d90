//! `inkling model`.

use std::process::ExitCode;

use clap::Subcommand;

use crate::{config::Settings, encoder::Manifest};

use super::progress::prepared_model;

#[derive(Subcommand)]
pub(super) enum ModelCommand {
    /// Name the models that can be used
    List,
    /// Fetch, verify and export the model of the settings (or --model) ahead of time
    Fetch,
}

pub(super) fn run(command: &ModelCommand, settings: &Settings) -> anyhow::Result<ExitCode> {
    match command {
        ModelCommand::List => {
            for manifest in Manifest::all()? {
                println!("{}{}", manifest.name, if manifest.name == settings.encoder.model { "  (in use)" } else { "" });
            }
        }
        ModelCommand::Fetch => {
            let model = prepared_model(settings)?;
            println!("{} is ready in {}", model.version, settings.paths.models_dir().display());
        }
    }
    Ok(ExitCode::SUCCESS)
}
