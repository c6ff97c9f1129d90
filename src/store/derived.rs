//! What is derived from the truth but costly to derive again: how far an index is written, and embeddings.

use std::collections::HashMap;

use sqlx::{Row, SqliteConnection};

use super::{
    ContentHash, Store, StoreError,
    batch::Write,
    sql::{InList, Insert, ROWS, VALUES},
};
use crate::domain::{Embedding, Revision};

/// Embeddings on their way to the writer.
pub(super) struct NewEmbeddings {
    model_version: String,
    pub(super) vectors: Vec<(ContentHash, Embedding)>,
}

static INSERT: Insert = Insert::new("INSERT INTO embeddings (model_version, content_hash, vector)", 3, "ON CONFLICT (model_version, content_hash) DO NOTHING");
static BY_HASH: InList = InList::new("SELECT content_hash, vector FROM embeddings WHERE model_version = ? AND content_hash IN", "");

pub(super) async fn write_embeddings(connection: &mut SqliteConnection, new: &NewEmbeddings) -> Result<(), StoreError> {
    for chunk in new.vectors.chunks(ROWS) {
        let mut query = sqlx::query(INSERT.rows(chunk.len()));
        for (hash, vector) in chunk {
            let bytes: Vec<u8> = vector.iter().flat_map(|x| x.to_le_bytes()).collect();
            query = query.bind(&new.model_version).bind(hash.bytes().to_vec()).bind(bytes);
        }
        query.execute(&mut *connection).await?;
    }
    Ok(())
}

pub(super) async fn write_flushed(connection: &mut SqliteConnection, collection: &str, revision: Revision) -> Result<(), StoreError> {
    let text = "INSERT INTO index_state (collection, flushed_revision) VALUES ($1, $2) \
                ON CONFLICT (collection) DO UPDATE SET flushed_revision = excluded.flushed_revision";
    sqlx::query(text).bind(collection).bind(revision.0).execute(connection).await?;
    Ok(())
}

impl Store {
    /// Up to which revision a collection of the index is safely written; 0 for one that is unknown.
    pub async fn flushed_revision(&self, collection: &str) -> Result<Revision, StoreError> {
        let text = "SELECT flushed_revision FROM index_state WHERE collection = $1";
        let revision: Option<i64> = sqlx::query_scalar(text).bind(collection).fetch_optional(self.readers()).await?;
        Ok(Revision(revision.unwrap_or(0)))
    }

    /// Says that a collection is safely written up to `revision`; an older one than before is taken too (a reindex starts at 0).
    pub async fn set_flushed_revision(&self, collection: &str, revision: Revision) -> Result<(), StoreError> {
        self.write(1, (collection.to_owned(), revision), Write::Flushed).await
    }

    /// The embeddings that are known of these texts for this version of a model.
    pub async fn embeddings(&self, model_version: &str, hashes: &[ContentHash]) -> Result<HashMap<ContentHash, Embedding>, StoreError> {
        let mut found = HashMap::with_capacity(hashes.len());
        for hashes in hashes.chunks(VALUES) {
            let (text, size) = BY_HASH.values(hashes.len());
            let mut query = sqlx::query(text).bind(model_version);
            for hash in hashes.iter().chain(std::iter::repeat_n(&hashes[0], size - hashes.len())) {
                query = query.bind(hash.bytes().to_vec());
            }
            let rows = query.fetch_all(self.readers()).await?;
            found.extend(super::decode_rows(&rows, embedding).await?);
        }
        Ok(found)
    }

    /// Keeps embeddings; where a text has one already for this version, that one stays.
    pub async fn put_embeddings(&self, model_version: &str, vectors: Vec<(ContentHash, Embedding)>) -> Result<(), StoreError> {
        if vectors.is_empty() {
            return Ok(());
        }
        self.write(vectors.len(), NewEmbeddings { model_version: model_version.to_owned(), vectors }, Write::Embeddings).await
    }
}

fn embedding(row: &sqlx::sqlite::SqliteRow) -> Result<(ContentHash, Embedding), StoreError> {
    let hash = ContentHash::from_bytes(row.try_get(0)?).ok_or_else(|| StoreError::corrupt("a content hash of another length"))?;
    let (components, rest) = row.try_get::<&[u8], _>(1)?.as_chunks::<4>();
    let vector = components.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    let vector = Embedding::new(vector).ok().filter(|_| rest.is_empty()).ok_or_else(|| StoreError::corrupt("an embedding that is no vector"))?;
    Ok((hash, vector))
}
