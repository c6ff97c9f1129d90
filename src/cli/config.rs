//! `inkling config`.

use std::{io::Read, process::ExitCode};

use clap::Subcommand;

use crate::{
    config::{DEFAULTS, Overrides, show},
    features::presets_table,
    http::hash_key,
    recommend::weights_table,
};

#[derive(Subcommand)]
pub(super) enum ConfigCommand {
    /// Print every setting that is in force, with where it comes from
    Show,
    /// Print the defaults as a commented TOML file, to start one's own from
    Default,
    /// Print what each kind of event says in each preset, and which features count otherwise, as Markdown tables
    Presets,
    /// Read an API key on standard input and print what goes into [http.keys]
    HashKey,
}

pub(super) fn run(command: &ConfigCommand, overrides: &Overrides) -> anyhow::Result<ExitCode> {
    match command {
        ConfigCommand::Show => {
            let settings = show(overrides)?;
            let width = settings.iter().map(|one| one.key.len()).max().unwrap_or(0);
            for one in settings {
                println!("{:width$} = {}  # {}", one.key, one.value, one.source);
            }
        }
        ConfigCommand::Default => print!("{DEFAULTS}"),
        ConfigCommand::Presets => print!("{}\n{}", presets_table(), weights_table()),
        ConfigCommand::HashKey => {
            let mut key = String::new();
            std::io::stdin().take(4_096).read_to_string(&mut key)?;
            let key = key.trim();
            anyhow::ensure!(key.len() >= 16, "a key needs 16 characters at least; make one with `openssl rand -hex 24`");
            println!("{}", hash_key(key));
        }
    }
    Ok(ExitCode::SUCCESS)
}
