//! `[http]`: where the doors are, what they let in, and who may use which.

use std::fmt;

use serde::{Deserialize, Serialize, Serializer, de};
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

/// `[http]`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpSettings {
    /// Address and port to listen on.
    pub listen: String,
    /// Milliseconds until a request that is being worked on is answered with 503, and a body that does not arrive with 408.
    pub request_timeout_ms: u64,
    /// MiB that a body may have; NDJSON is streamed and has no bound but that of a line (1 MiB).
    pub body_limit_mb: usize,
    /// Requests worked on at once; more are answered with 503 right away.
    pub max_in_flight: usize,
    /// Milliseconds in which `/recommend` must have its list; late sources are left out of it.
    pub deadline_ms: u64,
    /// Sites whose pages may call from a browser: origins such as `https://shop.example`, or `*`.
    pub cors_origins: Vec<String>,
    /// Whether `/metrics` needs no key.
    pub open_metrics: bool,
    /// Seconds that requests under way may take after SIGTERM.
    pub drain_seconds: f64,
    /// Who may do what; without any key everybody may do everything.
    pub keys: KeySettings,
}

/// `[http.keys]`
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeySettings {
    /// May recommend and give feedback.
    pub storefront: Vec<KeyHash>,
    /// May do all.
    pub admin: Vec<KeyHash>,
}

/// The SHA-256 of an API key, written `sha256:` and 64 hex digits. It shows no more than its first digits.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyHash([u8; 32]);

/// Not what [`hash_key`] gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a key must be given as \"sha256:\" and the 64 hex digits of its SHA-256, never as itself")]
pub struct InvalidKeyHash;

/// What the settings hold in place of an API key. Fit for long random keys only: a short one could be guessed from it.
pub fn hash_key(key: &str) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(key.as_bytes())))
}

impl KeyHash {
    /// Reads what [`hash_key`] gave.
    pub fn parse(text: &str) -> Result<Self, InvalidKeyHash> {
        let digits = text.strip_prefix("sha256:").ok_or(InvalidKeyHash)?;
        let mut hash = [0; 32];
        hex::decode_to_slice(digits, &mut hash).map_err(|_| InvalidKeyHash)?;
        Ok(Self(hash))
    }

    pub(super) fn of(key: &str) -> Self {
        Self(Sha256::digest(key.as_bytes()).into())
    }

    /// In constant time: how long it takes says nothing about the key.
    pub(super) fn is(&self, other: &Self) -> Choice {
        self.0.ct_eq(&other.0)
    }
}

impl fmt::Display for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}…", hex::encode(&self.0[..4]))
    }
}

impl fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for KeyHash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for KeyHash {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_known_by_its_hash_and_never_shown() {
        let hash = KeyHash::parse(&hash_key("s3cret")).unwrap();

        assert!(bool::from(hash.is(&KeyHash::of("s3cret"))) && !bool::from(hash.is(&KeyHash::of("s3cres"))));
        assert!(!format!("{hash:?}{}", serde_json::to_string(&hash).unwrap()).contains(&hash_key("s3cret")[7..]));
        assert_eq!(KeyHash::parse("s3cret"), Err(InvalidKeyHash));
        assert_eq!(KeyHash::parse(&hash_key("s3cret")[..70]), Err(InvalidKeyHash));
    }
}
