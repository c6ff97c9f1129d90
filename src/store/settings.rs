//! `[store]`: the store's section of the settings.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize, Serializer, de};
use sqlx::postgres::PgConnectOptions;

/// `[store]`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoreSettings {
    /// The Postgres database; without it the store is a SQLite file in the data folder.
    #[serde(default)]
    pub url: Option<DatabaseUrl>,
    /// Entries (events, items, …) that may wait to be written; past that callers are told that the store is overloaded.
    pub queue: u32,
    /// Answers that may wait to be logged; past that they are dropped and counted.
    pub exposure_queue: u32,
    /// Milliseconds that a commit waits at most for the other writers that the last commits have seen; 0 never waits.
    pub commit_delay_ms: f64,
    /// Connections for reading, so many reads run side by side.
    pub readers: u32,
    /// SQLite's page cache in MiB of the writing connection, and again of all reading ones together.
    pub cache_mb: u32,
    /// Days after which events are deleted; 0 keeps them.
    pub retention_days: u32,
    /// Days after which logged answers are deleted, and the names of sessions that were merged; 0 keeps them.
    pub exposure_retention_days: u32,
}

/// Where a Postgres database is and how to get in: `postgres://user:password@host:port/database`. Printed, it shows no more than the place.
#[derive(Clone)]
pub struct DatabaseUrl(PgConnectOptions);

/// Not such a URL. The message does not repeat it: it may hold a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a database must be given as postgres://user:password@host:port/database (a password percent-encoded)")]
pub struct InvalidDatabaseUrl;

impl DatabaseUrl {
    pub(super) fn options(&self) -> &PgConnectOptions {
        &self.0
    }
}

impl FromStr for DatabaseUrl {
    type Err = InvalidDatabaseUrl;

    fn from_str(url: &str) -> Result<Self, Self::Err> {
        if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
            return Err(InvalidDatabaseUrl);
        }
        let options = PgConnectOptions::from_str(url).map_err(|_| InvalidDatabaseUrl)?;
        if options.get_database().is_none() { Err(InvalidDatabaseUrl) } else { Ok(Self(options)) }
    }
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = self.0.get_socket().map_or_else(|| self.0.get_host().to_owned(), |socket| socket.display().to_string());
        write!(f, "postgres://{place}:{}/{}", self.0.get_port(), self.0.get_database().unwrap_or_default())
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for DatabaseUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for DatabaseUrl {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // A value of another type is not repeated in the message either.
        let url = String::deserialize(deserializer).map_err(|_| de::Error::custom(InvalidDatabaseUrl))?;
        url.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_url_shows_its_place_and_never_its_password() {
        let url: DatabaseUrl = "postgres://shop:s3%40cret@db.example:5433/inkling?sslmode=require".parse().unwrap();

        assert_eq!(url.to_string(), "postgres://db.example:5433/inkling");
        assert!(!format!("{url:?}{}", serde_json::to_string(&url).unwrap()).contains("cret"));
        for wrong in ["s3cret", "mysql://u:s3cret@h/d", "postgres://u:s3cret@h:port/d", "postgres://u:s3cret@h"] {
            let error = wrong.parse::<DatabaseUrl>().unwrap_err();
            assert!(!error.to_string().contains("s3cret"), "{error}");
        }
    }
}
