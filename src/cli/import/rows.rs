//! A stream of bytes into batches of parsed rows, in bounded memory. A row is a line, or in a table some lines where a quoted cell holds line ends.

use std::{
    io::{self, BufRead},
    sync::Arc,
};

use sha2::{Digest, Sha256};

use super::{Choices, Entry, Kind, amazon, detect::Layout, documents, gorse, identity::Identity, movielens, record::Mark, source::Opened, table};
use crate::domain::FieldError;

/// Rows that are written together: one fsync.
const BATCH_ROWS: usize = 1_000;
/// Bytes after which a batch is full all the same.
const BATCH_BYTES: usize = 1 << 20;
/// Bytes that a row may have.
const LONGEST_ROW: usize = 4 << 20;

/// Rows that belong together.
#[derive(Debug)]
pub(super) struct Batch {
    /// With the lines that they begin at, from 1.
    pub(super) entries: Vec<(u64, Entry)>,
    pub(super) rejected: Vec<(u64, Vec<FieldError>)>,
    /// Up to where.
    pub(super) mark: Mark,
    /// Texts that were cut.
    pub(super) cut: u64,
    /// Items whose id stands for a title.
    pub(super) nameless: u64,
    /// It was to go on after a mark, and the file is another one up to there. There is nothing else in it.
    pub(super) is_other_file: bool,
}

/// What a row was made into.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Made {
    pub(super) entry: Entry,
    /// A text was cut to the length that is allowed.
    pub(super) cut: bool,
    /// The id stands for a title.
    pub(super) nameless: bool,
}

impl From<Entry> for Made {
    fn from(entry: Entry) -> Self {
        Self { entry, cut: false, nameless: false }
    }
}

/// How the rows of one file are parsed.
enum Parser {
    Documents(Kind),
    Table(table::Table),
    Gorse(Kind),
    Amazon(Kind),
    MovieLens(movielens::Shape),
}

impl Parser {
    /// One row; its text has no line end. Fails with what is wrong with it.
    fn parse(&self, row: &[u8], choices: &Choices) -> Result<Made, FieldError> {
        let text = match self {
            Self::MovieLens(_) => movielens::text(row),
            _ => std::str::from_utf8(row).map_err(|error| FieldError::new("", format!("is not UTF-8 from byte {} on", error.valid_up_to())))?.into(),
        };
        match self {
            Self::Documents(kind) => documents::parse(&text, *kind, choices),
            Self::Table(table) => table.parse(&text, choices),
            Self::Gorse(Kind::Items) => gorse::item(&text),
            Self::Gorse(Kind::Interactions) => gorse::event(&text, choices),
            Self::Amazon(Kind::Items) => amazon::item(&text),
            Self::Amazon(Kind::Interactions) => amazon::event(&text),
            Self::MovieLens(shape) => shape.parse(&text),
        }
    }
}

/// The reading of one file.
pub(super) struct Reading {
    lines: Lines,
    parser: Parser,
    identity: Identity,
    choices: Arc<Choices>,
    begun: Option<Mark>,
}

impl Reading {
    /// Begins after `begun`, where it is given. Fails where the header cannot be understood.
    pub(super) fn begin(opened: Opened, kind: Kind, source: String, choices: Arc<Choices>, begun: Option<Mark>) -> Result<Self, String> {
        let layout = opened.detected.layout;
        let delimiter = match layout {
            Layout::Table(delimiter) => Some(delimiter),
            Layout::MovieLens(movielens::Shape::Csv(_)) => Some(b','),
            _ => None,
        };
        let mut lines = Lines { reader: opened.reader, line: 0, delimiter };
        let identity = match layout {
            Layout::Documents | Layout::Table(_) => Identity::Place(source),
            Layout::Gorse => Identity::Content("gorse"),
            Layout::Amazon => Identity::Content("amazon"),
            Layout::MovieLens(_) => Identity::Content("movielens"),
        };
        let parser = match layout {
            Layout::Documents => Parser::Documents(kind),
            Layout::Table(delimiter) => {
                let (_, header) = lines.next().map_err(|error| error.to_string())?.ok_or("it is empty")?;
                let header = header.map_err(|fault| format!("the header {}", fault.detail))?;
                Parser::Table(table::Table::new(&String::from_utf8_lossy(&header), delimiter, kind, &choices)?)
            }
            Layout::Gorse => Parser::Gorse(kind),
            Layout::Amazon => Parser::Amazon(kind),
            Layout::MovieLens(shape) => {
                if shape.has_header() {
                    drop(lines.next().map_err(|error| error.to_string())?);
                }
                Parser::MovieLens(shape)
            }
        };
        Ok(Self { lines, parser, identity, choices, begun })
    }

    /// Reads to the end, or until `take` says false. Fails with the line where the stream broke off; what came before it was given out.
    pub(super) fn run(mut self, mut take: impl FnMut(Batch) -> bool) -> Result<(), String> {
        let mut sofar = Sha256::new();
        let mut batch = Self::empty();
        let mut bytes = 0;
        let mut last = 0;
        let mut ended = Ok(());
        loop {
            let (line, row) = match self.lines.next() {
                Ok(Some(next)) => next,
                Ok(None) => break,
                Err(error) => {
                    ended = Err(format!("it cannot be read after line {}: {error}", self.lines.line));
                    break;
                }
            };
            if let Ok(row) = &row {
                sofar.update(row);
            }
            sofar.update(b"\n");
            last = line;
            if let Some(begun) = &self.begun {
                if line < begun.line {
                    continue;
                }
                let same = line == begun.line && hex::encode(sofar.clone().finalize()) == begun.sha256;
                if !same {
                    take(Batch { is_other_file: true, ..Self::empty() });
                    return Ok(());
                }
                self.begun = None;
                continue;
            }
            bytes += row.as_ref().map_or(0, Vec::len);
            self.add(&mut batch, line, row);
            if batch.entries.len() + batch.rejected.len() >= BATCH_ROWS || bytes >= BATCH_BYTES {
                batch.mark = Mark { line, sha256: hex::encode(sofar.clone().finalize()) };
                if !take(std::mem::replace(&mut batch, Self::empty())) {
                    return Ok(());
                }
                bytes = 0;
            }
        }
        if self.begun.is_some() {
            take(Batch { is_other_file: true, ..Self::empty() });
        } else if !batch.entries.is_empty() || !batch.rejected.is_empty() {
            batch.mark = Mark { line: last, sha256: hex::encode(sofar.finalize()) };
            take(batch);
        }
        ended
    }

    fn empty() -> Batch {
        Batch { entries: Vec::new(), rejected: Vec::new(), mark: Mark { line: 0, sha256: String::new() }, cut: 0, nameless: 0, is_other_file: false }
    }

    fn add(&self, batch: &mut Batch, line: u64, row: RowBytes) {
        let made = match row {
            Ok(row) if row.trim_ascii().is_empty() => return,
            Ok(row) => self.parser.parse(&row, &self.choices).map(|made| (made, row)),
            Err(fault) => Err(fault),
        };
        match made {
            Ok((Made { mut entry, cut, nameless }, row)) => {
                // What an event may hold is for the site's settings to say, and so for the write path.
                let faults = match &mut entry {
                    Entry::Item(item) => item.faults(),
                    Entry::Event(event) => {
                        event.event_id.get_or_insert_with(|| self.identity.of(line, &row));
                        Vec::new()
                    }
                };
                if !faults.is_empty() {
                    batch.rejected.push((line, faults));
                    return;
                }
                batch.cut += u64::from(cut);
                batch.nameless += u64::from(nameless);
                batch.entries.push((line, entry));
            }
            Err(fault) => batch.rejected.push((line, vec![fault])),
        }
    }
}

/// A row without its end, or why it cannot be held.
type RowBytes = Result<Vec<u8>, FieldError>;

/// Rows with the lines that they begin at.
struct Lines {
    reader: Box<dyn BufRead + Send>,
    /// Lines read so far.
    line: u64,
    /// Of a table, whose quoted cells may hold line ends.
    delimiter: Option<u8>,
}

impl Lines {
    /// The next row, without its end; a fault in place of one that is too long.
    fn next(&mut self) -> io::Result<Option<(u64, RowBytes)>> {
        let mut row = Vec::new();
        let first = self.line + 1;
        let Some(mut whole) = self.append_line(&mut row)? else { return Ok(None) };
        if first == 1 && row.starts_with("\u{feff}".as_bytes()) {
            row.drain(..3); // a byte order mark
        }
        if let Some(delimiter) = self.delimiter {
            let mut quotes = table::Quotes::new(delimiter);
            let mut seen = 0;
            while whole && quotes.are_open_after(&row[seen..]) {
                row.push(b'\n');
                seen = row.len() - 1;
                match self.append_line(&mut row)? {
                    Some(fits) => whole = fits,
                    None => break,
                }
            }
        }
        if row.last() == Some(&b'\r') {
            row.pop();
        }
        let row = if whole { Ok(row) } else { Err(FieldError::new("", format!("is longer than {LONGEST_ROW} bytes; in a table, a quote may be missing"))) };
        Ok(Some((first, row)))
    }

    /// Adds the next line without its end; false where it does not fit any more (it is read to its end all the same), `None` at the end of the file.
    fn append_line(&mut self, row: &mut Vec<u8>) -> io::Result<Option<bool>> {
        let (mut any, mut whole) = (false, true);
        loop {
            let piece = match self.reader.fill_buf() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                piece => piece?,
            };
            if piece.is_empty() {
                break;
            }
            any = true;
            let end = piece.iter().position(|byte| *byte == b'\n');
            let taken = end.unwrap_or(piece.len());
            whole &= row.len() + taken <= LONGEST_ROW;
            if whole {
                row.extend_from_slice(&piece[..taken]);
            }
            self.reader.consume(taken + usize::from(end.is_some()));
            if end.is_some() {
                break;
            }
        }
        self.line += u64::from(any);
        Ok(any.then_some(whole))
    }
}
