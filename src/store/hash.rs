//! Names for texts: what was encoded once is found again by them.

use sha2::{Digest, Sha256};

/// SHA-256 of a text: equal for equal texts, and no two texts share it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContentHash([u8; 32]);

impl ContentHash {
    /// The hash of exactly these characters; clean the text first.
    pub fn of(text: &str) -> Self {
        Self(Sha256::digest(text).into())
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }
}
