//! What a collection was built for, in `shape.json` beside the embedded engine's files or with the collection on a server: opening it with other
//! settings must not go unnoticed.

use std::path::Path;
#[cfg(feature = "edge")]
use std::{fs, io};

use serde::{Deserialize, Serialize};

use super::{IndexError, LexicalSettings};

/// Raised when terms or payloads are written in another way.
const FORMAT: u32 = 1;
const FILE: &str = "shape.json";

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Shape {
    format: u32,
    width: usize,
    lexical: LexicalSettings,
}

impl Shape {
    pub(super) fn new(width: usize, lexical: LexicalSettings) -> Self {
        Self { format: FORMAT, width, lexical }
    }

    /// Compares with what stands with a collection on a server.
    pub(super) fn check(&self, found: Option<&str>, place: &Path) -> Result<(), IndexError> {
        let unusable = |detail: String| IndexError::Unusable { folder: place.to_owned(), detail };
        let found: Self = serde_json::from_str(found.ok_or_else(|| unusable("it does not say what it was built for".to_owned()))?)
            .map_err(|error| unusable(error.to_string()))?;
        let other = || IndexError::OtherShape { folder: place.to_owned(), found: found.to_string(), wanted: self.to_string() };
        if found == *self { Ok(()) } else { Err(other()) }
    }

    /// Makes the folder where there is none; `true` if it is new.
    #[cfg(feature = "edge")]
    pub(super) fn claim(&self, folder: &Path) -> Result<bool, IndexError> {
        let unusable = |detail: String| IndexError::Unusable { folder: folder.to_owned(), detail };
        let failed = |error: io::Error| unusable(error.to_string());
        fs::create_dir_all(folder).map_err(failed)?;
        let file = folder.join(FILE);
        match fs::read(&file) {
            Ok(bytes) => {
                let found: Self = serde_json::from_slice(&bytes).map_err(|error| unusable(format!("{FILE}: {error}")))?;
                let other = || IndexError::OtherShape { folder: folder.to_owned(), found: found.to_string(), wanted: self.to_string() };
                if found == *self { Ok(false) } else { Err(other()) }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if fs::read_dir(folder).map_err(failed)?.any(|entry| entry.is_ok_and(|entry| entry.file_name() != "shape.json.new")) {
                    return Err(unusable(format!("it has files, but no {FILE}")));
                }
                let new = folder.join("shape.json.new");
                let text = serde_json::to_vec(self).map_err(|error| unusable(error.to_string()))?;
                fs::write(&new, text).and_then(|()| fs::File::open(&new)?.sync_all()).and_then(|()| fs::rename(&new, &file)).map_err(failed)?;
                Ok(true)
            }
            Err(error) => Err(failed(error)),
        }
    }
}

/// How many points and vectors, counted together, the engine's files are sure to hold. Where they hold fewer, some of them were lost: the engine opens with the rest in silence.
#[cfg(feature = "edge")]
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct Mark {
    pieces: usize,
}

#[cfg(feature = "edge")]
impl Mark {
    const FILE: &str = "flushed.json";

    /// No promise: for the time in which the engine moves its files about.
    pub(super) const NONE: Self = Self { pieces: 0 };

    /// What a flush that begins now, at `pieces`, promises already, whether it ends or not.
    pub(super) fn before(self, pieces: usize) -> Self {
        Self { pieces: self.pieces.min(pieces) }
    }

    /// What holds after a flush at `pieces`.
    pub(super) fn after(pieces: usize) -> Self {
        Self { pieces }
    }

    /// None was ever written, or it is torn: nothing is promised.
    pub(super) fn read(folder: &Path) -> Self {
        fs::read(folder.join(Self::FILE)).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or(Self::NONE)
    }

    /// Whole or not at all.
    pub(super) fn write(self, folder: &Path) -> io::Result<()> {
        let new = folder.join("flushed.json.new");
        fs::write(&new, serde_json::to_vec(&self)?)?;
        fs::rename(new, folder.join(Self::FILE))
    }

    /// What is missing, if `found` is fewer than was promised.
    pub(super) fn missing(self, found: usize) -> Option<usize> {
        self.pieces.checked_sub(found).filter(|missing| *missing > 0)
    }
}

impl std::fmt::Display for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let LexicalSettings { latin_stemmer, average_length, title_weight, .. } = &self.lexical;
        write!(
            f,
            "embeddings of {} components, words with the {latin_stemmer:?} stemmer, average length {average_length} and title weight {title_weight} (format {})",
            self.width, self.format
        )
    }
}
