//! Forgetting with time: what is too old is found by reading, a window at a time, and deleted by key, a few rows a commit.
//!
//! Only the deletions go through the writer, so an acknowledgement waits for one of them at most. No index on time: the log of events is
//! walked by sequence instead, which costs a read of it a day, and nothing at every event.

use super::{
    ContentHash, Store, StoreError,
    batch::Write,
    database::{Connection, List, Row, Value, query},
};
use crate::domain::Timestamp;

/// Rows that one commit deletes: some 10 ms of the writer's time.
const DELETED_AT_ONCE: usize = 500;
/// Sequences that one statement looks through.
const WINDOW: i64 = 20_000;

/// What time takes away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ageing {
    /// Events, by when they happened.
    Events,
    /// Logged answers.
    Exposures,
    /// Sessions that were merged into users; what comes of them later is nobody's.
    SessionAliases,
    /// Marks of what was erased.
    Marks,
}

impl Ageing {
    fn name(self) -> &'static str {
        match self {
            Self::Events => "events",
            Self::Exposures => "exposures",
            Self::SessionAliases => "aliases",
            Self::Marks => "marks",
        }
    }

    /// Deletes by time and key: a row may have become young again since it was found.
    fn deletion(self) -> &'static List {
        static EVENTS: List = List::new("DELETE FROM events WHERE at < $1 AND sequence", "RETURNING 1");
        static EXPOSURES: List = List::new("DELETE FROM exposures WHERE at < $1 AND recommendation_id", "RETURNING 1");
        static ALIASES: List = List::new("DELETE FROM aliases WHERE kind = 'session' AND at < $1 AND name", "RETURNING 1");
        static MARKS: List = List::new("DELETE FROM erased WHERE at < $1 AND mark", "RETURNING 1");
        match self {
            Self::Events => &EVENTS,
            Self::Exposures => &EXPOSURES,
            Self::SessionAliases => &ALIASES,
            Self::Marks => &MARKS,
        }
    }
}

/// A row's key.
pub(super) enum Key {
    Number(i64),
    Text(String),
    Bytes(Vec<u8>),
}

impl Key {
    fn value(&self) -> Value<'_> {
        match self {
            Self::Number(number) => (*number).into(),
            Self::Text(text) => text.as_str().into(),
            Self::Bytes(bytes) => bytes.as_slice().into(),
        }
    }
}

/// Rows on their way to be deleted.
pub(super) enum Deletions {
    Aged { what: Ageing, before: Timestamp, keys: Vec<Key> },
    Embeddings { model_version: String, hashes: Vec<ContentHash> },
}

impl Deletions {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Aged { keys, .. } => keys.len(),
            Self::Embeddings { hashes, .. } => hashes.len(),
        }
    }
}

/// How many rows were deleted.
pub(super) async fn delete(connection: &mut Connection, next_sequence: i64, deletions: &Deletions) -> Result<u64, StoreError> {
    static EMBEDDINGS: List = List::new("DELETE FROM embeddings WHERE model_version = $1 AND content_hash", "RETURNING 1");
    let deleted = match deletions {
        Deletions::Aged { what, before, keys } => {
            if *what == Ageing::Events {
                connection.keep_sequence(next_sequence).await?;
            }
            what.deletion().fetch_all(connection, &[before.millis().into()], keys.iter().map(Key::value).collect()).await?
        }
        Deletions::Embeddings { model_version, hashes } => {
            EMBEDDINGS.fetch_all(connection, &[model_version.as_str().into()], hashes.iter().map(|hash| hash.bytes().into()).collect()).await?
        }
    };
    Ok(deleted.len() as u64)
}

/// A walk through one table in search of what is too old.
pub struct Expiry {
    store: Store,
    what: Ageing,
    before: Timestamp,
    /// Up to which sequence, or after which answer, everything was looked at.
    sequence: i64,
    answer: String,
}

impl Store {
    /// Begins to delete what happened before a time.
    pub fn expire(&self, what: Ageing, before: Timestamp) -> Expiry {
        Expiry { store: self.clone(), what, before, sequence: 0, answer: String::new() }
    }

    /// Versions of models that embeddings are kept of.
    pub async fn embedded_versions(&self) -> Result<Vec<String>, StoreError> {
        let rows = query("SELECT DISTINCT model_version FROM embeddings").fetch_all(self.readers()).await?;
        rows.iter().map(|row| row.get(0)).collect()
    }

    /// Names of collections of the index that are kept account of.
    pub async fn collections(&self) -> Result<Vec<String>, StoreError> {
        let rows = query("SELECT collection FROM index_state").fetch_all(self.readers()).await?;
        rows.iter().map(|row| row.get(0)).collect()
    }

    /// Texts that embeddings are kept of, from the one after `after`.
    pub async fn embedded_texts(&self, model_version: &str, after: Option<&ContentHash>, limit: usize) -> Result<Vec<ContentHash>, StoreError> {
        let text = "SELECT content_hash FROM embeddings WHERE model_version = $1 AND content_hash > $2 ORDER BY content_hash LIMIT $3";
        let after = after.map_or(&[][..], ContentHash::bytes);
        let rows = query(text).bind(model_version).bind(after).bind(super::row_limit(limit)).fetch_all(self.readers()).await?;
        let hash = |row: &Row| ContentHash::from_bytes(row.get(0)?).ok_or_else(|| StoreError::corrupt("a content hash of another length"));
        rows.iter().map(hash).collect()
    }

    /// Deletes embeddings, at most [`most_deleted_at_once`](Self::most_deleted_at_once); how many there were.
    pub async fn delete_embeddings(&self, model_version: &str, hashes: Vec<ContentHash>) -> Result<u64, StoreError> {
        if hashes.is_empty() {
            return Ok(0);
        }
        let deletions = Deletions::Embeddings { model_version: model_version.to_owned(), hashes };
        let deleted = self.write(deletions.len(), deletions, Write::Expire).await?;
        self.metrics().expired("embeddings", deleted);
        Ok(deleted)
    }

    /// Rows that one commit should delete at most, so that nobody waits for it.
    pub fn most_deleted_at_once() -> usize {
        DELETED_AT_ONCE
    }
}

impl Expiry {
    /// Looks at the next rows and deletes those that are too old; how many they were, `None` when all was looked at.
    pub async fn step(&mut self) -> Result<Option<u64>, StoreError> {
        let Some(keys) = self.find().await? else { return Ok(None) };
        if keys.is_empty() {
            return Ok(Some(0));
        }
        let deletions = Deletions::Aged { what: self.what, before: self.before, keys };
        let deleted = self.store.write(deletions.len(), deletions, Write::Expire).await?;
        self.store.metrics().expired(self.what.name(), deleted);
        Ok(Some(deleted))
    }

    /// Keys of the next old rows.
    async fn find(&mut self) -> Result<Option<Vec<Key>>, StoreError> {
        let (readers, before, limit) = (self.store.readers(), self.before.millis(), super::row_limit(DELETED_AT_ONCE));
        match self.what {
            Ageing::Events => {
                // Sequences have holes where events are gone: the next window begins where there are events.
                let next = query("SELECT min(sequence), (SELECT max(sequence) FROM events) FROM events WHERE sequence > $1").bind(self.sequence);
                let row = next.fetch_one(readers).await?;
                let (Some(first), Some(last)) = (row.get::<Option<i64>>(0)?, row.get::<Option<i64>>(1)?) else { return Ok(None) };
                let end = last.min(first + WINDOW - 1);
                let text = "SELECT sequence FROM events WHERE sequence >= $1 AND sequence <= $2 AND at < $3 ORDER BY sequence LIMIT $4";
                let rows = query(text).bind(first).bind(end).bind(before).bind(limit).fetch_all(readers).await?;
                let found = rows.iter().map(|row| row.get(0)).collect::<Result<Vec<i64>, _>>()?;
                self.sequence = if found.len() < DELETED_AT_ONCE { end } else { found.last().copied().unwrap_or(end) };
                Ok(Some(found.into_iter().map(Key::Number).collect()))
            }
            Ageing::Exposures => {
                // Names of answers grow with time: the first page without an old one is the last to be looked at.
                let text = "SELECT recommendation_id, at FROM exposures WHERE recommendation_id > $1 ORDER BY recommendation_id LIMIT $2";
                let rows = query(text).bind(self.answer.as_str()).bind(limit).fetch_all(readers).await?;
                let mut found = Vec::new();
                for row in &rows {
                    self.answer = row.get(0)?;
                    if row.get::<i64>(1)? < before {
                        found.push(Key::Text(self.answer.clone()));
                    }
                }
                Ok(Some(found).filter(|found| !found.is_empty()))
            }
            Ageing::SessionAliases => {
                let text = "SELECT name FROM aliases WHERE kind = 'session' AND at < $1 LIMIT $2";
                let rows = query(text).bind(before).bind(limit).fetch_all(readers).await?;
                let found = rows.iter().map(|row| row.get(0).map(Key::Text)).collect::<Result<Vec<_>, _>>()?;
                Ok(Some(found).filter(|found| !found.is_empty()))
            }
            Ageing::Marks => {
                let rows = query("SELECT mark FROM erased WHERE at < $1 LIMIT $2").bind(before).bind(limit).fetch_all(readers).await?;
                let found = rows.iter().map(|row| row.get(0).map(Key::Bytes)).collect::<Result<Vec<_>, _>>()?;
                Ok(Some(found).filter(|found| !found.is_empty()))
            }
        }
    }
}
