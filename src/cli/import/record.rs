//! How far an import has come: a small file in the data folder, so that one that broke off does not send everything again.
//!
//! It only saves time. That nothing counts twice rests on the `event_id`s; and that nothing is left out is checked: the rows before the mark
//! must be the same (a running SHA-256), and the batch after it, which the earlier import had stored, must be known to the store.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{Kind, source::Input};

/// Between two writes of the file.
const PERIOD: Duration = Duration::from_secs(1);

/// A place in a file: everything up to the end of this row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Mark {
    /// The first line of the last row, from 1.
    pub(super) line: u64,
    /// SHA-256 of all rows up to it, in hexadecimal.
    pub(super) sha256: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct Saved {
    kind: Kind,
    source: String,
    mark: Mark,
}

/// The record of one file's import.
pub(super) struct Record {
    /// `None`: of streams, and of imports through a server, nothing is recorded.
    path: Option<PathBuf>,
    kind: Kind,
    source: String,
    last: Option<Mark>,
    written: Instant,
}

impl Record {
    pub(super) fn open(data: Option<&Path>, kind: Kind, source: &str, input: &Input) -> Self {
        let name = match input {
            Input::File(path) => Some(std::path::absolute(path).unwrap_or_else(|_| path.clone())),
            Input::Stdin => None,
        };
        let path = data.zip(name).map(|(data, name)| {
            let hash = Sha256::digest(format!("{}\n{source}\n{}", kind.name(), name.display()));
            data.join("imports").join(format!("{}.json", hex::encode(&hash[..8])))
        });
        Self { path, kind, source: source.to_owned(), last: None, written: Instant::now() }
    }

    /// Where an earlier import had come to. Anything that cannot be read is no record.
    pub(super) fn resume(&self) -> Option<Mark> {
        let saved: Saved = serde_json::from_slice(&fs::read(self.path.as_ref()?).ok()?).ok()?;
        (saved.kind == self.kind && saved.source == self.source).then_some(saved.mark)
    }

    /// A batch that ends at `mark` is stored. The file gets the mark before it: a resumed import sends one batch again, to see that it is known.
    pub(super) fn reached(&mut self, mark: Mark) {
        let before = self.last.replace(mark);
        if let (Some(path), Some(before)) = (&self.path, before)
            && self.written.elapsed() >= PERIOD
        {
            self.written = Instant::now();
            let saved = Saved { kind: self.kind, source: self.source.clone(), mark: before };
            if let Err(error) = write(path, &saved) {
                tracing::debug!(%error, "the progress of an import could not be written");
            }
        }
    }

    /// The import is done, or is to begin anew.
    pub(super) fn forget(&mut self) {
        self.last = None;
        if let Some(path) = &self.path {
            drop(fs::remove_file(path));
            drop(path.parent().map(fs::remove_dir)); // goes when it is empty
        }
    }
}

/// Under another name first, so that a crash leaves the old one or the new one.
fn write(path: &Path, saved: &Saved) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let temporary = path.with_extension("part");
    fs::write(&temporary, serde_json::to_vec(saved)?)?;
    fs::rename(&temporary, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(line: u64) -> Mark {
        Mark { line, sha256: format!("{line:x}") }
    }

    #[test]
    fn the_place_before_the_last_batch_is_kept_for_the_same_file_only_and_goes_when_done() {
        let data = tempfile::tempdir().unwrap();
        let input = Input::File("events.csv".into());
        let open = |kind, source: &str| Record::open(Some(data.path()), kind, source, &input);
        let mut record = open(Kind::Interactions, "events.csv");
        record.written -= PERIOD;

        record.reached(mark(500));
        assert_eq!(record.resume(), None);
        record.reached(mark(1_000));
        record.reached(mark(1_500)); // within a second: not written

        assert_eq!(open(Kind::Interactions, "events.csv").resume(), Some(mark(500)));
        assert_eq!(open(Kind::Items, "events.csv").resume(), None);
        assert_eq!(open(Kind::Interactions, "other").resume(), None);
        record.forget();
        assert_eq!(open(Kind::Interactions, "events.csv").resume(), None);
        assert!(!data.path().join("imports").exists());
    }

    #[test]
    fn a_torn_record_is_no_record() {
        let data = tempfile::tempdir().unwrap();
        let mut record = Record::open(Some(data.path()), Kind::Items, "a", &Input::File("a".into()));
        record.written -= PERIOD;
        record.reached(mark(1));
        record.reached(mark(2));
        let path = record.path.clone().unwrap();
        let whole = fs::read(&path).unwrap();

        fs::write(&path, &whole[..whole.len() / 2]).unwrap();

        assert_eq!(record.resume(), None);
    }
}
