//! `[index]`: the index's section of the settings.

use std::{fmt, str::FromStr};

use http::{Uri, uri::Scheme};
use serde::{Deserialize, Serialize, Serializer, de};

use super::LexicalSettings;

/// How collections are built and searched.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IndexSettings {
    /// The Qdrant server; without it the index is embedded, in the data folder.
    #[serde(default)]
    pub url: Option<ServerUrl>,
    /// What the server asks for, if it does.
    #[serde(default)]
    pub api_key: Option<ApiKey>,
    /// What the names of this catalogue's collections on the server begin with.
    pub collection_prefix: String,
    /// Pieces of a new collection on the server, spread over its nodes.
    pub shard_number: u32,
    /// Copies of each piece.
    pub replication_factor: u32,
    /// Copies that must have a write before it counts.
    pub write_consistency_factor: u32,
    /// Milliseconds after which a search on the server is given up.
    pub timeout_ms: u64,
    /// Milliseconds after which a write to the server is given up.
    pub write_timeout_ms: u64,
    /// Links of a point in the HNSW graph.
    pub hnsw_m: usize,
    /// Candidates looked at for each point while the graph is built.
    pub hnsw_ef_construct: usize,
    /// Candidates kept during a search of the graph; a larger limit counts instead.
    pub hnsw_ef: usize,
    /// New points past which [`VectorIndex::optimize_if_due`](super::VectorIndex::optimize_if_due) packs the collection anew, once they are a quarter of all.
    pub optimize_after: usize,
    /// The rarest terms of a query that are searched with.
    pub max_search_terms: usize,
    /// Milliseconds to wait for a folder that another process still holds: after `kill -9` that takes a moment.
    pub lock_wait_ms: u64,
    /// How texts become terms.
    pub lexical: LexicalSettings,
}

/// Where a Qdrant server takes gRPC: `http://host:6334` or, over TLS, `https://host:6334`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerUrl(Uri);

/// Not such a URL. The message does not repeat it: it may hold a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a Qdrant server must be given as http://host:6334 or https://host:6334, its gRPC port; a key belongs into index.api_key")]
pub struct InvalidServerUrl;

impl ServerUrl {
    /// Whether it is `https://`.
    pub(super) fn is_behind_tls(&self) -> bool {
        self.0.scheme() == Some(&Scheme::HTTPS)
    }

    /// Whether a key could be read on the way.
    pub(super) fn is_open_road(&self) -> bool {
        let host = self.0.host().unwrap_or_default();
        !self.is_behind_tls() && !["localhost", "127.0.0.1", "[::1]"].contains(&host)
    }
}

impl FromStr for ServerUrl {
    type Err = InvalidServerUrl;

    fn from_str(url: &str) -> Result<Self, Self::Err> {
        let uri = Uri::from_str(url).map_err(|_| InvalidServerUrl)?;
        let known = [Some(&Scheme::HTTP), Some(&Scheme::HTTPS)].contains(&uri.scheme());
        let plain = uri.authority().is_some_and(|authority| !authority.as_str().contains('@') && authority.port_u16().is_some());
        if known && plain && uri.path() == "/" && uri.query().is_none() { Ok(Self(uri)) } else { Err(InvalidServerUrl) }
    }
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.to_string().trim_end_matches('/'))
    }
}

impl Serialize for ServerUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ServerUrl {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // A value of another type is not repeated in the message either.
        let url = String::deserialize(deserializer).map_err(|_| de::Error::custom(InvalidServerUrl))?;
        url.parse().map_err(de::Error::custom)
    }
}

/// What a Qdrant server lets its clients in by. It cannot print itself.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKey(String);

impl ApiKey {
    /// The key, for a request's header.
    pub(super) fn shown(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

impl Serialize for ApiKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str("(secret)")
    }
}

impl<'de> Deserialize<'de> for ApiKey {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let invalid = || de::Error::custom("index.api_key must be a text of printable ASCII; one of digits only needs quotes, in a variable too: '\"123\"'");
        let key = String::deserialize(deserializer).map_err(|_| invalid())?;
        if !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_graphic()) { Ok(Self(key)) } else { Err(invalid()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_servers_url_is_its_place_and_holds_no_key() {
        let url: ServerUrl = "https://vectors.example:6334".parse().unwrap();

        assert_eq!((url.to_string().as_str(), url.is_open_road()), ("https://vectors.example:6334", false));
        assert!("http://vectors.example:6334/".parse::<ServerUrl>().unwrap().is_open_road());
        assert!(!"http://127.0.0.1:6334".parse::<ServerUrl>().unwrap().is_open_road());
        for wrong in ["s3cret", "ftp://s3cret:1", "http://s3cret", "http://user:s3cret@host:6334", "http://host:6334/s3cret", "http://host:6334?k=s3cret"] {
            let error = wrong.parse::<ServerUrl>().unwrap_err();
            assert!(!error.to_string().contains("s3cret"), "{error}");
        }
    }

    #[test]
    fn an_api_key_never_shows_itself() {
        let key: ApiKey = serde_json::from_str(r#""s3cret""#).unwrap();

        assert_eq!(key.shown(), "s3cret");
        assert!(!format!("{key:?}{}", serde_json::to_string(&key).unwrap()).contains("s3cret"));
        for wrong in [r#""""#, r#""s3 cret""#, "7331"] {
            let error = serde_json::from_str::<ApiKey>(wrong).unwrap_err().to_string();
            assert!(!error.contains("cret") && !error.contains("7331"), "{error}");
        }
    }
}
