//! `inkling export`: all items or events as our own NDJSON, in a process of its own, whether a server runs on the folder or not.

use std::{
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context;
use clap::{Args, Subcommand};
use flate2::{Compression, write::GzEncoder};

use crate::{config::Settings, store::Store};

use super::{progress, runtime};

/// Rows that are read at a time.
const PAGE: usize = 1_000;

#[derive(Subcommand)]
pub(super) enum ExportCommand {
    /// Export the catalogue, without deleted items, in the order of ids
    Items(Flags),
    /// Export the log of events, in the order in which they came
    Interactions(Flags),
}

#[derive(Args)]
pub(super) struct Flags {
    /// Where to; packed where the name ends in .gz; without it, to standard output
    file: Option<PathBuf>,
}

pub(super) fn run(command: &ExportCommand, settings: &Settings) -> anyhow::Result<ExitCode> {
    runtime()?.block_on(async {
        let store = Store::open_read_only(&settings.paths.data, &settings.store).await.with_context(|| settings.paths.data.display().to_string())?;
        let (ExportCommand::Items(flags) | ExportCommand::Interactions(flags)) = command;
        let mut sink = Sink::open(flags.file.as_deref())?;
        let written = match command {
            ExportCommand::Items(_) => items(&store, &mut sink).await,
            ExportCommand::Interactions(_) => events(&store, &mut sink).await,
        };
        let finished = written.and_then(|rows| sink.finish().map(|()| rows));
        match (finished, &flags.file) {
            (Ok(rows), Some(file)) => eprintln!("{rows} rows in {}", file.display()),
            (Ok(_), None) => {}
            (Err(error), None) if nobody_reads_on(&error) => {}
            (Err(error), _) => return Err(error),
        }
        Ok(ExitCode::SUCCESS)
    })
}

/// Whoever reads has seen enough, such as `head`: that is no failure.
fn nobody_reads_on(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// Writes every item that is not deleted, one document a line; how many.
pub(super) async fn items(store: &Store, sink: &mut impl Write) -> anyhow::Result<u64> {
    let bar = progress::items(store.item_counts().await?.live, "exporting");
    let (mut after, mut rows) = (None, 0);
    loop {
        let page = store.items_page(after.as_ref(), PAGE).await?;
        for stored in &page {
            line(sink, stored.item.as_ref())?;
        }
        rows += page.len() as u64;
        bar.set_position(rows);
        match page.last() {
            Some(last) => after = Some(last.item.item_id.clone()),
            None => break,
        }
    }
    bar.finish_and_clear();
    Ok(rows)
}

/// Writes every event, one document a line; how many.
pub(super) async fn events(store: &Store, sink: &mut impl Write) -> anyhow::Result<u64> {
    let bar = progress::items(store.event_count().await?, "exporting");
    let (mut sequence, mut rows) = (0, 0);
    loop {
        let page = store.events_after(sequence, PAGE).await?;
        for logged in &page {
            line(sink, &logged.event)?;
        }
        rows += page.len() as u64;
        bar.set_position(rows);
        match page.last() {
            Some(last) => sequence = last.sequence,
            None => break,
        }
    }
    bar.finish_and_clear();
    Ok(rows)
}

fn line(sink: &mut impl Write, document: &impl serde::Serialize) -> anyhow::Result<()> {
    serde_json::to_writer(&mut *sink, document).map_err(io::Error::from)?;
    Ok(sink.write_all(b"\n")?)
}

/// Where an export goes. A file appears under its name when it is whole.
enum Sink {
    Stdout(BufWriter<io::Stdout>),
    File { writer: Packer, place: PathBuf, temporary: PathBuf },
}

enum Packer {
    Plain(BufWriter<File>),
    Gzip(Box<GzEncoder<BufWriter<File>>>),
}

impl Sink {
    fn open(file: Option<&Path>) -> anyhow::Result<Self> {
        let Some(place) = file else { return Ok(Self::Stdout(BufWriter::new(io::stdout()))) };
        let mut name = place.file_name().with_context(|| format!("{} names no file", place.display()))?.to_owned();
        name.push(".part");
        let temporary = place.with_file_name(name);
        let writer = BufWriter::with_capacity(1 << 20, File::create(&temporary).with_context(|| format!("{} cannot be written", temporary.display()))?);
        let packed = place.extension().is_some_and(|extension| extension == "gz");
        let writer = if packed { Packer::Gzip(Box::new(GzEncoder::new(writer, Compression::default()))) } else { Packer::Plain(writer) };
        Ok(Self::File { writer, place: place.to_owned(), temporary })
    }

    fn finish(self) -> anyhow::Result<()> {
        match self {
            Self::Stdout(mut writer) => Ok(writer.flush()?),
            Self::File { writer, place, temporary } => {
                let writer = match writer {
                    Packer::Plain(writer) => writer,
                    Packer::Gzip(writer) => writer.finish()?,
                };
                writer.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
                fs::rename(&temporary, &place).with_context(|| format!("{} cannot be written", place.display()))
            }
        }
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Stdout(writer) => writer.write(bytes),
            Self::File { writer: Packer::Plain(writer), .. } => writer.write(bytes),
            Self::File { writer: Packer::Gzip(writer), .. } => writer.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Stdout(writer) => writer.flush(),
            Self::File { writer: Packer::Plain(writer), .. } => writer.flush(),
            Self::File { writer: Packer::Gzip(writer), .. } => writer.flush(),
        }
    }
}
