//! Files, folders and standard input as streams of bytes: found, opened, unpacked. gzip is known by its first bytes, not by its name.

use std::{
    fs::{self, File},
    io::{self, BufRead, BufReader, Cursor, Read},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use anyhow::{Context, bail, ensure};
use flate2::read::MultiGzDecoder;

use super::{
    Format, Kind,
    detect::{Detected, detect},
    movielens,
};

/// Bytes of a file's beginning that detection looks at, if its first line is not longer.
const HEAD: usize = 16 << 10;
/// A first line that is longer than this is no row of anything.
const LONGEST_HEAD: usize = 4 << 20;

/// Something to import.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Input {
    File(PathBuf),
    Stdin,
}

/// An input, ready to be read from its first byte.
pub(super) struct Opened {
    pub(super) detected: Detected,
    pub(super) reader: Box<dyn BufRead + Send>,
    /// Bytes taken from the file so far, before unpacking.
    pub(super) position: Arc<AtomicU64>,
    /// Bytes of the file; unknown of a stream.
    pub(super) total: Option<u64>,
}

impl Input {
    /// As messages call it.
    pub(super) fn name(&self) -> String {
        match self {
            Self::File(path) => path.display().to_string(),
            Self::Stdin => "(standard input)".to_owned(),
        }
    }

    /// What its rows are told apart by: the file's name, packed or not.
    pub(super) fn source(&self) -> String {
        match self {
            Self::File(path) => path.file_name().map_or_else(String::new, |name| name.to_string_lossy().trim_end_matches(".gz").to_owned()),
            Self::Stdin => "-".to_owned(),
        }
    }

    /// Opens it and finds out what it is; an error where it is not what is to be imported.
    pub(super) fn open(&self, kind: Kind, format: Format) -> anyhow::Result<Opened> {
        let name = self.name();
        let position = Arc::new(AtomicU64::new(0));
        let counted = |inner: Box<dyn Read + Send>| Counted { inner, position: Arc::clone(&position) };
        let (bytes, total) = match self {
            Self::File(path) => {
                let file = File::open(path).with_context(|| format!("{name} cannot be opened"))?;
                let total = file.metadata().ok().filter(fs::Metadata::is_file).map(|about| about.len());
                (counted(Box::new(file)), total)
            }
            Self::Stdin => (counted(Box::new(io::stdin())), None),
        };
        let mut reader = unpacked(bytes).with_context(|| format!("{name} cannot be read"))?;
        let head = head(&mut reader).with_context(|| format!("{name} cannot be read"))?;
        let detected = detect(&self.source(), &head, kind, format).map_err(|fault| anyhow::anyhow!("{name}: {fault}"))?;
        ensure!(detected.kind == kind, "{name}: {}; these are {}, not {}", detected.saw, detected.kind.name(), kind.name());
        Ok(Opened { detected, reader: Box::new(BufReader::with_capacity(256 << 10, Cursor::new(head).chain(reader))), position, total })
    }
}

/// What the arguments name, with folders resolved. Says what each is, and what is left out.
pub(super) fn inputs(paths: &[PathBuf], kind: Kind, format: Format) -> anyhow::Result<Vec<Input>> {
    let mut inputs = Vec::new();
    for path in paths {
        if path.as_os_str() == "-" {
            inputs.push(Input::Stdin);
        } else if path.is_dir() {
            inputs.extend(in_folder(path, kind, format)?);
        } else {
            let input = Input::File(path.clone());
            eprintln!("{}: {}", input.name(), input.open(kind, format)?.detected.saw);
            inputs.push(input);
        }
    }
    if inputs.iter().filter(|input| **input == Input::Stdin).count() > 1 {
        bail!("- can be given once only");
    }
    Ok(inputs)
}

/// The files of a folder that hold `kind`, in the order of their names; not of folders inside.
fn in_folder(folder: &Path, kind: Kind, format: Format) -> anyhow::Result<Vec<Input>> {
    let cannot = || format!("{} cannot be read", folder.display());
    let mut names: Vec<String> = Vec::new();
    for entry in fs::read_dir(folder).with_context(cannot)? {
        let entry = entry.with_context(cannot)?;
        if entry.path().is_file()
            && let Ok(name) = entry.file_name().into_string()
            && !name.starts_with('.')
        {
            names.push(name);
        }
    }
    names.sort();
    // A MovieLens folder holds the same ratings several times over, split for experiments.
    if matches!(format, Format::Auto | Format::Movielens)
        && let Some(name) = movielens::main_file(&names, kind)
    {
        names = vec![name];
    }
    let mut inputs = Vec::new();
    for name in names {
        let input = Input::File(folder.join(name));
        match input.open(kind, format) {
            Ok(opened) => {
                eprintln!("{}: {}", input.name(), opened.detected.saw);
                inputs.push(input);
            }
            Err(error) => eprintln!("left out: {error:#}"),
        }
    }
    Ok(inputs)
}

/// The stream itself, or what is packed in it.
fn unpacked(bytes: Counted) -> io::Result<Box<dyn BufRead + Send>> {
    let mut bytes = BufReader::with_capacity(256 << 10, bytes);
    let first = bytes.fill_buf()?;
    Ok(match first {
        // RFC 1952, section 2.3.1.
        [0x1f, 0x8b, ..] => Box::new(BufReader::with_capacity(256 << 10, MultiGzDecoder::new(bytes))),
        [b'P', b'K', 3, 4, ..] => return Err(io::Error::new(io::ErrorKind::Unsupported, "it is a zip archive; unpack it first")),
        _ => Box::new(bytes),
    })
}

/// The beginning, at least to the end of the first line where that is not out of all measure.
fn head(reader: &mut dyn Read) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    let mut piece = vec![0; HEAD];
    while head.len() < HEAD || (!head.contains(&b'\n') && head.len() < LONGEST_HEAD) {
        match reader.read(&mut piece) {
            Ok(0) => break,
            Ok(count) => head.extend_from_slice(&piece[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(head)
}

/// Counts what is read.
struct Counted {
    inner: Box<dyn Read + Send>,
    position: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.position.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}
