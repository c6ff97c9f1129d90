//! Progress of long work on stderr: bars for people, nothing for pipes (indicatif hides them there), a line when a step is done.

use std::{collections::HashMap, path::PathBuf};

use indicatif::{ProgressBar, ProgressStyle};

use crate::{
    config::Settings,
    encoder::{PreparedModel, Progress, Step, fetch_gpu, prepare_as},
};

/// Prepares the model of the settings, showing what takes its time.
pub(super) fn prepared_model(settings: &Settings) -> anyhow::Result<PreparedModel> {
    let mut bars: HashMap<(String, String), ProgressBar> = HashMap::new();
    let model = prepare_as(&settings.paths.models_dir(), &settings.encoder.model, settings.encoder.precision, &mut |progress| show(&mut bars, &progress))?;
    Ok(model)
}

/// Fetches what a GPU takes, showing what takes its time, and gives the folder.
pub(super) fn fetched_gpu(settings: &Settings) -> anyhow::Result<PathBuf> {
    let mut bars = HashMap::new();
    Ok(fetch_gpu(&settings.paths.models_dir(), &mut |progress| show(&mut bars, &progress))?)
}

pub(super) fn show(bars: &mut HashMap<(String, String), ProgressBar>, progress: &Progress) {
    let verb = match progress.step {
        Step::Fetch => "fetching",
        Step::Unpack => "unpacking",
        Step::Copy => "copying",
        Step::Export => "exporting to ONNX",
    };
    let bar = bars.entry((verb.to_owned(), progress.name.clone())).or_insert_with(|| {
        eprintln!("{verb} {}", progress.name);
        let style = ProgressStyle::with_template("  {bar:30} {bytes}/{total_bytes} {bytes_per_sec}").unwrap_or_else(|_| ProgressStyle::default_bar());
        ProgressBar::new(progress.total).with_style(style)
    });
    bar.set_length(progress.total.max(progress.done));
    bar.set_position(progress.done);
    if progress.done >= progress.total {
        bar.finish_and_clear();
    }
}

/// A bar over items; `total` may be an estimate.
pub(super) fn items(total: u64, what: &'static str) -> ProgressBar {
    let style = ProgressStyle::with_template("  {msg} {bar:30} {pos}/{len} {per_sec} {eta}").unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(total).with_style(style).with_message(what)
}

/// A bar over the turns of a measurement; its length is set later.
pub(super) fn turns(what: &'static str) -> ProgressBar {
    eprintln!("{what}");
    let style = ProgressStyle::with_template("  {bar:30} {pos}/{len} {eta}").unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(0).with_style(style)
}

/// A bar over the bytes of a file; of a stream, whose length nobody knows, it only counts.
pub(super) fn bytes(total: Option<u64>) -> ProgressBar {
    let (bar, template) = match total {
        Some(total) => (ProgressBar::new(total), "  {msg} {bar:30} {percent}% {bytes_per_sec} {eta}"),
        None => (ProgressBar::no_length(), "  {msg} {bytes} {bytes_per_sec}"),
    };
    bar.with_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()))
}
