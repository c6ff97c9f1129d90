//! Page cursors: small, opaque, self-contained, so that any replica can serve the next page.
//!
//! A cursor carries what was shown already, the newest event that counted for the first page, the name of the popularity ranking that it
//! used, and a fingerprint of the request. The next page ranks the same candidates by the same history and leaves out what was shown: same order,
//! no repeats. Rankings are remembered for some minutes by the process that made them; past that, or on another replica, the order of what was
//! not shown yet may have changed.

use std::fmt;

use crate::domain::ItemKey;

/// Of the bytes that follow; cursors of older versions are refused.
const VERSION: u8 = 2;
/// Items that can be paged through.
pub(super) const MAX_SHOWN: usize = 1_000;

/// Where the next page begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    /// Of everything in the request that decides the list.
    pub(super) fingerprint: u64,
    /// Events after this one do not count: the list must not move under the reader.
    pub(super) as_of: i64,
    /// The ranking of what many want that the first page used.
    pub(super) ranking: u64,
    /// Shown on the pages so far, in order.
    pub(super) shown: Vec<ItemKey>,
}

/// Not a cursor that an answer's `next` gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be the \"next\" of an earlier answer to the same request")]
pub struct InvalidCursor;

impl Cursor {
    /// Reads what [`fmt::Display`] wrote.
    pub fn parse(text: &str) -> Result<Self, InvalidCursor> {
        if text.len() > 2 * (25 + 4 * MAX_SHOWN) {
            return Err(InvalidCursor);
        }
        let bytes = hex::decode(text).map_err(|_| InvalidCursor)?;
        let (version, rest) = bytes.split_first().ok_or(InvalidCursor)?;
        let (fingerprint, rest) = rest.split_first_chunk::<8>().ok_or(InvalidCursor)?;
        let (as_of, rest) = rest.split_first_chunk::<8>().ok_or(InvalidCursor)?;
        let (ranking, shown) = rest.split_first_chunk::<8>().ok_or(InvalidCursor)?;
        let (shown, left_over) = shown.as_chunks::<4>();
        if *version != VERSION || !left_over.is_empty() || shown.is_empty() || shown.len() > MAX_SHOWN {
            return Err(InvalidCursor);
        }
        Ok(Self {
            fingerprint: u64::from_le_bytes(*fingerprint),
            as_of: i64::from_le_bytes(*as_of),
            ranking: u64::from_le_bytes(*ranking),
            shown: shown.iter().map(|key| ItemKey(u32::from_le_bytes(*key))).collect(),
        })
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = vec![VERSION];
        bytes.extend(self.fingerprint.to_le_bytes());
        bytes.extend(self.as_of.to_le_bytes());
        bytes.extend(self.ranking.to_le_bytes());
        bytes.extend(self.shown.iter().flat_map(|key| key.0.to_le_bytes()));
        f.write_str(&hex::encode(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_survive_the_wire_and_strangers_are_refused() {
        let cursor = Cursor { fingerprint: u64::MAX, as_of: -1, ranking: 7, shown: vec![ItemKey(7), ItemKey(u32::MAX)] };

        assert_eq!(Cursor::parse(&cursor.to_string()), Ok(cursor.clone()));
        for bad in ["", "zz", "01", "02", "03", &cursor.to_string()[2..], &"0".repeat(100_000), "页"] {
            assert_eq!(Cursor::parse(bad), Err(InvalidCursor), "{bad}");
        }
    }
}
