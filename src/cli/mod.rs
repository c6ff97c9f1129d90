//! Floor 6: the commands. Flags in, an exit code out; what goes wrong is one line on stderr that says what to do.

mod backup;
mod config;
mod demo;
mod evaluate;
mod export;
mod import;
mod model;
mod model_bench;
mod progress;
mod reindex;
mod serve;
mod train;

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand};

use crate::{
    config::{Overrides, Settings},
    encoder::end_computing,
    telemetry::start_logging,
};

/// A self-hosted recommender that understands text and learns from every click.
#[derive(Parser)]
#[command(name = "inkling", version, about, long_about = None, arg_required_else_help = true, after_help = "Start with `inkling demo`: it fetches what it needs, loads an invented shop and answers on 127.0.0.1:8080.")]
struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    common: Common,
}

#[derive(Args)]
struct Common {
    /// Settings in TOML; `inkling config show` prints all of them with their sources
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Folder of the database, the index and the learned models [setting paths.data]
    #[arg(long, global = true, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Folder of the fetched language models and libraries [setting paths.models]
    #[arg(long, global = true, value_name = "DIR")]
    models: Option<PathBuf>,
    /// Address and port to listen on [setting http.listen]
    #[arg(long, global = true, value_name = "ADDR")]
    listen: Option<String>,
    /// Language model; `inkling model list` names them [setting encoder.model]
    #[arg(long, global = true, value_name = "NAME")]
    model: Option<String>,
}

#[derive(Subcommand)]
enum Command {
    /// Serve recommendations until SIGTERM or Ctrl-C
    Serve,
    /// Fetch the model, load the demo catalogue and serve it, with three requests to try
    Demo {
        /// Ask in English and Chinese, also for items of the other language, print what came back, and exit with 0 if all is well, else with 1
        #[arg(long)]
        check: bool,
    },
    /// Learn from the log now, without a server running, and print the report
    ///
    /// While a server runs on the data folder, use `curl -X POST …/admin/train` instead.
    Train,
    /// Replay a data folder, or the own log, and compare with baselines: a table, JSON, a page with plots
    ///
    /// What is older is learned from, what is newer is asked for, by the whole pipeline in a temporary folder: full ranking, 95 % intervals over users. The own
    /// log (--data) is only read; a server may be running on it.
    Evaluate(evaluate::Flags),
    /// Build the index anew from the database; a running server does it while it answers
    ///
    /// Needed for another model, another precision or another [index.lexical]. Where a server has the data folder open, it is asked at http.listen to
    /// move without a gap; with keys configured, an admin key is taken from INKLING_ADMIN_KEY. Texts that were encoded by this model before are not
    /// encoded again.
    Reindex,
    /// Bring a catalogue or a log of events: inkling's own files, Gorse, MovieLens, Amazon
    #[command(subcommand)]
    Import(import::ImportCommand),
    /// Write the catalogue or the log of events as NDJSON; a server may be running on the data folder
    #[command(subcommand)]
    Export(export::ExportCommand),
    /// Copy the database and what was learned into a folder or a .zip; a server may be running on the data folder
    Backup(backup::BackupFlags),
    /// Fill an empty data folder from a backup
    Restore(backup::RestoreFlags),
    /// Language models: what there is, and fetching one ahead of time
    #[command(subcommand)]
    Model(model::ModelCommand),
    /// Settings: what is in force and where it comes from
    #[command(subcommand)]
    Config(config::ConfigCommand),
}

/// Runs the command that the process was called with.
pub fn run() -> ExitCode {
    let Cli { command, common } = Cli::parse();
    let overrides = Overrides { file: common.config, data: common.data, models: common.models, listen: common.listen, model: common.model };
    let code = dispatch(&command, overrides).unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    });
    end_computing();
    code
}

fn dispatch(command: &Command, overrides: Overrides) -> anyhow::Result<ExitCode> {
    if let Command::Config(command) = command {
        return config::run(command, &overrides);
    }
    let overrides = match command {
        // The demo's data must not end up in a real shop's.
        Command::Demo { .. } if overrides.data.is_none() => Overrides { data: Some("./data/demo".into()), ..overrides },
        _ => overrides,
    };
    let settings = Settings::load(&overrides)?;
    start_logging(&settings.log)?;
    match command {
        Command::Serve => serve::run(&settings),
        Command::Demo { check } => {
            // Nor in its database or its index.
            let settings = settings.on_its_own();
            if *check { demo::check(settings) } else { demo::run(&settings) }
        }
        Command::Train => train::run(&settings),
        Command::Evaluate(flags) => evaluate::run(flags, &settings),
        Command::Reindex => reindex::run(&settings),
        Command::Import(command) => import::run(command, &settings),
        Command::Export(command) => export::run(command, &settings),
        Command::Backup(flags) => backup::backup(flags, &settings),
        Command::Restore(flags) => backup::restore(flags, &settings),
        Command::Model(command) => model::run(command, &settings),
        Command::Config(_) => Ok(ExitCode::SUCCESS),
    }
}

/// The async runtime of a command.
fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()
}
