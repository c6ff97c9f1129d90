//! `inkling import`: catalogues and logs of other systems, and our own, into this one.
//!
//! A thread reads and parses (`source`, `rows`, one file a format), a bounded channel holds it back, and the batches go to one `destination`: the
//! data folder, or the server that runs on it. Parsing knows neither; it is the same for both. Nothing counts twice: items are idempotent, and events
//! without an `event_id` get one made of the row (`identity`), so an import that broke off is simply started again.

mod amazon;
mod clean;
mod destination;
mod detect;
mod documents;
mod gorse;
mod identity;
mod movielens;
mod record;
mod report;
mod rows;
mod source;
mod table;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, path::PathBuf, process::ExitCode, sync::Arc};

use anyhow::{Context, bail, ensure};
use clap::{Args, Subcommand, ValueEnum};
use indicatif::ProgressBar;
use tokio::sync::mpsc;

use crate::{
    config::Settings,
    domain::{Event, EventType, Item},
};

use self::{
    destination::Destination,
    record::{Mark, Record},
    report::Report,
    rows::{Batch, Reading},
    source::Input,
};
use super::{progress, runtime};

/// Batches that are parsed ahead of the one that is being written.
const AHEAD: usize = 2;
/// Some rows were not stored, all others were.
const PARTLY: u8 = 3;

#[derive(Subcommand)]
pub(super) enum ImportCommand {
    /// Import a catalogue
    ///
    /// Reads inkling's own NDJSON and CSV, Gorse's items.jsonl, MovieLens folders (u.item, movies.dat, movies.csv) and Amazon metadata (2014, 2018, 2023);
    /// gzip or not. An item replaces what the catalogue has of it. Exits with 0 when all is in, with 3 when some rows were rejected, else with 1.
    Items(Flags),
    /// Import events: clicks, ratings, purchases, reviews
    ///
    /// Reads inkling's own NDJSON and CSV, Gorse's feedback.jsonl, MovieLens folders (u.data, ratings.dat, ratings.csv) and Amazon reviews (2014, 2018, 2023);
    /// gzip or not. Started again, nothing counts twice. Exits with 0 when all is in, with 3 when some rows were rejected, else with 1.
    Interactions(Flags),
}

#[derive(Args)]
pub(super) struct Flags {
    /// Files or folders, or - for standard input
    #[arg(required = true, value_name = "FILE")]
    paths: Vec<PathBuf>,
    /// What the files are; auto looks at their first lines and says what it saw
    #[arg(long, default_value = "auto")]
    format: Format,
    /// Import through the server at this address; the key is read from INKLING_API_KEY
    ///
    /// Without it the data folder is written directly, which needs that no server runs on it.
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// Stop at the first row that is rejected
    #[arg(long)]
    strict: bool,
    /// Rejected rows that are printed; all are counted
    #[arg(long, default_value_t = 20, value_name = "N")]
    errors: usize,
    /// Takes an event type of the files for one of ours, such as star=like; can be repeated
    #[arg(long = "type", value_name = "THEIRS=OURS", value_parser = mapping)]
    types: Vec<(String, EventType)>,
    /// The event type of tables without such a column
    #[arg(long, value_name = "TYPE", value_parser = event_type)]
    default_type: Option<EventType>,
    /// A column of a table that is not to be imported; can be repeated
    #[arg(long, value_name = "COLUMN")]
    ignore: Vec<String>,
    /// What whole numbers in the time columns of tables count
    #[arg(long, default_value = "auto")]
    time_unit: TimeUnit,
    /// Name of where the rows come from; tells rows without event_id of different files apart [default: the file's name]
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
}

/// `--format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Auto,
    /// Our own documents, one a line
    Ndjson,
    /// A table whose columns have the names of our fields
    Csv,
    Gorse,
    Movielens,
    Amazon,
}

/// `--time-unit`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum TimeUnit {
    /// Milliseconds, but numbers that would be before 1973 are refused: they are rather seconds
    Auto,
    Ms,
    S,
}

/// What is imported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Items,
    Interactions,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Items => "items",
            Self::Interactions => "interactions",
        }
    }
}

/// One row, parsed.
#[derive(Debug, Clone, PartialEq)]
enum Entry {
    Item(Box<Item>),
    Event(Box<Event>),
}

/// What the caller says about the rows.
#[derive(Debug, Clone)]
struct Choices {
    types: BTreeMap<String, EventType>,
    /// The types that the site's settings name beside ours.
    own: Vec<EventType>,
    default_type: Option<EventType>,
    ignored: Vec<String>,
    time_unit: TimeUnit,
}

impl Choices {
    /// Our type for one of theirs: as the caller says, else the one of that name.
    fn event_type(&self, theirs: &str) -> Option<EventType> {
        self.types.get(theirs).copied().or_else(|| EventType::ALL.into_iter().chain(self.own.iter().copied()).find(|kind| kind.name() == theirs))
    }
}

fn event_type(name: &str) -> Result<EventType, String> {
    EventType::named(name).map_err(|fault| fault.to_string())
}

fn mapping(text: &str) -> Result<(String, EventType), String> {
    let (theirs, ours) = text.split_once('=').ok_or("must be THEIRS=OURS, such as star=like")?;
    Ok((theirs.to_owned(), event_type(ours)?))
}

pub(super) fn run(command: &ImportCommand, settings: &Settings) -> anyhow::Result<ExitCode> {
    let (kind, flags) = match command {
        ImportCommand::Items(flags) => (Kind::Items, flags),
        ImportCommand::Interactions(flags) => (Kind::Interactions, flags),
    };
    let inputs = source::inputs(&flags.paths, kind, flags.format)?;
    ensure!(!inputs.is_empty(), "none of the files holds {}", kind.name());
    let choices = Choices {
        own: settings.features.events.keys().filter_map(|name| EventType::named(name).ok()).collect(),
        types: flags.types.iter().cloned().collect(),
        default_type: flags.default_type,
        ignored: flags.ignore.clone(),
        time_unit: flags.time_unit,
    };
    runtime()?.block_on(async {
        let destination = Destination::open(flags.url.as_deref(), settings).await?;
        let job = Job { kind, choices: Arc::new(choices), flags, destination: &destination };
        let mut report = Report::new(flags.errors, flags.strict);
        let ended = job.import_all(inputs, &mut report).await;
        destination.close().await;
        report.print(kind);
        ended?;
        Ok(match (report.stored(), report.rejected()) {
            (_, 0) => ExitCode::SUCCESS,
            (0, _) => ExitCode::FAILURE,
            _ if flags.strict => ExitCode::FAILURE,
            _ => ExitCode::from(PARTLY),
        })
    })
}

struct Job<'a> {
    kind: Kind,
    choices: Arc<Choices>,
    flags: &'a Flags,
    destination: &'a Destination,
}

/// How the import of a file ended.
enum Ended {
    Done,
    /// It was to go on where an earlier one broke off, but what came before is not there.
    Stale,
}

impl Job<'_> {
    async fn import_all(&self, inputs: Vec<Input>, report: &mut Report) -> anyhow::Result<()> {
        for input in inputs {
            let name = input.name();
            let source = self.flags.source.clone().unwrap_or_else(|| input.source());
            let mut record = Record::open(self.destination.folder(), self.kind, &source, &input);
            let begun = record.resume();
            if let Some(mark) = &begun {
                eprintln!("{name}: an earlier import broke off; going on after line {}", mark.line);
            }
            let (from_start, before) = (begun.is_none(), report.clone());
            if let Ended::Stale = self.import(&input, &source, begun, &mut record, report).await? {
                ensure!(!from_start, "{name}: the import did not begin");
                eprintln!("{name}: what the earlier import stored is not there; starting from the first line");
                record.forget();
                *report = before;
                self.import(&input, &source, None, &mut record, report).await?;
            }
            record.forget();
        }
        Ok(())
    }

    /// Imports one file, from the first row or after `begun`.
    async fn import(&self, input: &Input, source: &str, begun: Option<Mark>, record: &mut Record, report: &mut Report) -> anyhow::Result<Ended> {
        let name = input.name();
        let opened = input.open(self.kind, self.flags.format)?;
        if *input == Input::Stdin {
            eprintln!("{name}: {}", opened.detected.saw);
        }
        let (position, total) = (Arc::clone(&opened.position), opened.total);
        let mut resuming = begun.is_some();
        let reading =
            Reading::begin(opened, self.kind, source.to_owned(), Arc::clone(&self.choices), begun).map_err(|fault| anyhow::anyhow!("{name}: {fault}"))?;
        let (batches, mut received) = mpsc::channel(AHEAD);
        let reader = std::thread::spawn(move || reading.run(|batch| batches.blocking_send(batch).is_ok()));
        let bar = progress::bytes(total);
        let mut rows = 0;
        while let Some(batch) = received.recv().await {
            if resuming && batch.is_other_file {
                return Ok(Ended::Stale);
            }
            rows += batch.entries.len() + batch.rejected.len();
            let mark = batch.mark.clone();
            let known = self.write(&name, batch, &bar, report).await?;
            if std::mem::take(&mut resuming) && !known {
                return Ok(Ended::Stale);
            }
            record.reached(mark);
            bar.set_position(position.load(std::sync::atomic::Ordering::Relaxed));
            bar.set_message(format!("{name}: {rows} rows"));
            report.check(&name)?;
        }
        bar.finish_and_clear();
        match reader.join() {
            Ok(Ok(())) => Ok(Ended::Done),
            Ok(Err(fault)) => bail!("{name}: {fault}"),
            Err(_) => bail!("{name}: reading it failed unexpectedly"),
        }
    }

    /// Writes a batch; true where all of it was there before.
    async fn write(&self, name: &str, batch: Batch, bar: &ProgressBar, report: &mut Report) -> anyhow::Result<bool> {
        let Batch { mut entries, mut rejected, cut, nameless, .. } = batch;
        if let Some((first, _)) = rejected.first().filter(|_| self.flags.strict) {
            entries.retain(|(line, _)| line < first);
        }
        let mut known = true;
        if let Some((first, _)) = entries.first() {
            let failed = format!("{name}: what came before line {first} is stored; start the import again to go on from there");
            let (lines, entries): (Vec<u64>, Vec<Entry>) = entries.into_iter().unzip();
            let written = self.destination.write(entries).await.context(failed)?;
            known = written.created + written.changed == 0;
            report.count(&written);
            rejected.extend(written.rejected.into_iter().filter_map(|(index, faults)| Some((*lines.get(index)?, faults))));
        }
        rejected.sort_by_key(|(line, _)| *line);
        for (line, faults) in rejected {
            if let Some(words) = report.reject(name, line, &faults) {
                bar.suspend(|| eprintln!("{words}"));
            }
        }
        report.note(cut, nameless);
        Ok(known)
    }
}
