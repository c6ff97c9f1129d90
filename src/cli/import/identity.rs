//! Names for rows that have none: the same row of the same source gets the same `event_id` each time, so that what is imported again counts once.
//!
//! Data sets in which no row stands twice (MovieLens, Gorse, Amazon) are named by the row alone: it is known again in another file, order or
//! packing. In our own NDJSON and CSV two equal rows can be two events, so the number of the line and the name of the source belong to the name.
//! Not a hash of the whole file: a log that has grown, or one with a row put right, would then count again from its first line.

use sha2::{Digest, Sha256};

use crate::domain::EventId;

/// What tells rows of a file apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Identity {
    /// The row itself, within data sets of this name.
    Content(&'static str),
    /// The row, its line, and where it comes from.
    Place(String),
}

impl Identity {
    /// The name of a row: `import-` and 128 bits of SHA-256.
    pub(super) fn of(&self, line: u64, row: &[u8]) -> EventId {
        let mut hash = Sha256::new();
        match self {
            Self::Content(set) => hash.update(format!("{set}\n")),
            Self::Place(source) => hash.update(format!("{source}\n{line}\n")),
        }
        hash.update(row);
        EventId::new(format!("import-{}", hex::encode(&hash.finalize()[..16]))).expect("39 ASCII letters are an id")
    }
}
