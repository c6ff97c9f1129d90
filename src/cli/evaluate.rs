//! `inkling evaluate`: a data folder, or the log of the own shop, replayed through the whole pipeline in a temporary folder.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, ensure};
use clap::{Args, ValueEnum};
use indicatif::ProgressBar;

use crate::{
    app::App,
    config::Settings,
    domain::Timestamp,
    evaluation::{Contender, Evaluation, Replay, Report, Split, Stage, Task, lend_embeddings, read_folder, read_log},
    features::Signals,
    store::Store,
};

use super::{progress, progress::prepared_model, runtime};

/// Questions that are asked of an own log, where nothing else is said: some minutes on two cores.
const LOG_QUESTIONS: usize = 2_000;

#[derive(Args)]
pub(super) struct Flags {
    /// A folder with items.jsonl, interactions.csv and queries*.jsonl; without it the log in the data folder (--data) is replayed, which is only read
    folder: Option<PathBuf>,
    /// What is asked of the folder; by default sequence where there are interactions, else text
    #[arg(long, value_enum)]
    task: Option<Task>,
    /// Where time is cut: a date (2026-11-01), a time (RFC 3339), or the share of the days that are learned from [default: the folder's own column, else 0.8]
    #[arg(long, value_name = "WHERE", value_parser = split)]
    split: Option<Split>,
    /// Of a folder the first N steps; of the own log N questions, evenly spread [default: all of a folder, 2000 of the own log]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
    /// With whom to compare; those that the questions give nothing to go by are left out
    #[arg(long, value_enum, value_delimiter = ',', value_name = "NAMES", default_values_t = Contender::value_variants().to_vec())]
    baselines: Vec<Contender>,
    /// Of the intervals: the same data and seed give the same report
    #[arg(long, value_name = "N", default_value_t = 7)]
    seed: u64,
    /// Write the report as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write the report as a page with plots that needs no network
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

fn split(text: &str) -> Result<Split, String> {
    if let Ok(share) = text.parse::<f64>() {
        let fits = share > 0.0 && share < 1.0;
        return if fits { Ok(Split::Days(share)) } else { Err("a share lies between 0 and 1".to_owned()) };
    }
    let time = if text.contains('T') { text.to_owned() } else { format!("{text}T00:00:00Z") };
    Timestamp::parse(&time).map(Split::At).map_err(|_| "must be a date such as 2026-11-01, an RFC 3339 time, or a share such as 0.8".to_owned())
}

pub(super) fn run(flags: &Flags, settings: &Settings) -> anyhow::Result<ExitCode> {
    for file in flags.json.iter().chain(&flags.html) {
        let parent = file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        ensure!(parent.is_dir(), "{} cannot be written: there is no folder {}", file.display(), parent.display()); // before minutes of work
    }
    ensure!(flags.folder.is_some() || flags.task.is_none(), "--task is for a data folder; the own log is always replayed event by event");
    // What cannot be replayed is found out before minutes of work.
    let report = runtime()?.block_on(async {
        match &flags.folder {
            Some(folder) => {
                let task = flags.task.unwrap_or(if folder.join("interactions.csv").exists() { Task::Sequence } else { Task::Text });
                evaluate(&read_folder(folder, task, flags.split, limit(flags))?, None, flags, settings).await
            }
            None => {
                let data = &settings.paths.data;
                let shop = Store::open_read_only(data, &settings.store).await.with_context(|| data.display().to_string())?;
                let signals = Signals::new(&settings.features)?;
                let replay = read_log(&shop, &signals, flags.split.unwrap_or_default(), limit(flags).unwrap_or(LOG_QUESTIONS)).await?;
                evaluate(&replay, Some(&shop), flags, settings).await
            }
        }
    })?;
    print!("{}", report.table());
    if let Some(file) = &flags.json {
        write(file, &(serde_json::to_string_pretty(&report)? + "\n"))?;
    }
    if let Some(file) = &flags.html {
        write(file, &report.html()?)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn limit(flags: &Flags) -> Option<usize> {
    flags.limit.map(|limit| limit as usize)
}

/// `shop`: whose embeddings may be used again.
async fn evaluate(replay: &Replay, shop: Option<&Store>, flags: &Flags, settings: &Settings) -> anyhow::Result<Report> {
    let model = prepared_model(settings)?;
    let place = tempfile::tempdir().context("no folder for temporary files")?;
    let mut own = settings.clone().on_its_own();
    own.paths.data = place.path().to_owned();
    let pipeline = App::build_pipeline(&own, &model).await?;
    if let Some(shop) = shop {
        lend_embeddings(shop, &pipeline.store, &model.version, &replay.items).await?;
    }
    eprintln!("{} items, {} events to learn from, {} questions to ask", replay.items.len(), replay.events.len(), replay.questions());
    let how = Evaluation { baselines: flags.baselines.clone(), seed: flags.seed, model: model.version.clone() };
    let mut bar: Option<(Stage, ProgressBar)> = None;
    let report = pipeline.evaluate(replay, &how, Timestamp::now(), &mut |stage, done, all| show(&mut bar, stage, done, all)).await;
    if let Some((_, bar)) = bar {
        bar.finish_and_clear();
    }
    pipeline.store.close().await;
    Ok(report?)
}

fn show(bar: &mut Option<(Stage, ProgressBar)>, stage: Stage, done: usize, all: usize) {
    if bar.as_ref().is_none_or(|(shown, _)| *shown != stage) {
        if let Some((_, bar)) = bar.take() {
            bar.finish_and_clear();
        }
        let what = match stage {
            Stage::Indexing => "indexing",
            Stage::Feeding => "feeding",
            Stage::Learning => "learning",
            Stage::Asking => "asking",
        };
        eprintln!("{what}");
        *bar = Some((stage, progress::items(all as u64, what)));
    }
    if let Some((_, bar)) = bar {
        bar.set_length(all as u64);
        bar.set_position(done as u64);
    }
}

fn write(file: &Path, text: &str) -> anyhow::Result<()> {
    fs::write(file, text).with_context(|| format!("{} cannot be written", file.display()))?;
    eprintln!("wrote {}", file.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_split_is_a_share_a_date_or_a_time() {
        assert_eq!(split("0.75"), Ok(Split::Days(0.75)));
        assert_eq!(split("2026-11-01"), split("2026-11-01T00:00:00Z"));
        assert!(matches!(split("2026-11-01T12:00:00+08:00"), Ok(Split::At(_))));
        for wrong in ["1.5", "0", "-1", "NaN", "yesterday", ""] {
            assert!(split(wrong).is_err(), "{wrong}");
        }
    }
}
