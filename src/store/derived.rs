//! What is derived from the truth but costly to derive again: how far an index is written, and embeddings.

use std::collections::HashMap;

use super::{
    ContentHash, Lease, Store, StoreError,
    batch::Write,
    database::{Connection, Insert, List, Row, query},
    lease,
};
use crate::domain::{Embedding, Revision};

/// Embeddings on their way to the writer.
pub(super) struct NewEmbeddings {
    model_version: String,
    pub(super) vectors: Vec<(ContentHash, Embedding)>,
}

static INSERT: Insert<3> = Insert::new("INSERT INTO embeddings (model_version, content_hash, vector)", "ON CONFLICT (model_version, content_hash) DO NOTHING");
static BY_HASH: List = List::new("SELECT content_hash, vector FROM embeddings WHERE model_version = $1 AND content_hash", "");

pub(super) async fn write_embeddings(connection: &mut Connection, new: &NewEmbeddings) -> Result<(), StoreError> {
    let bytes = |vector: &Embedding| vector.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>();
    let rows = new.vectors.iter().map(|(hash, vector)| [new.model_version.as_str().into(), hash.bytes().into(), bytes(vector).into()]);
    INSERT.execute(connection, rows.collect()).await?;
    Ok(())
}

/// How far an index is written, on its way to the writer.
pub(super) struct Flushed {
    collection: String,
    revision: Revision,
    /// Without which nothing is to be written.
    lease: Option<Lease>,
}

/// `false` when the lease was lost, and nothing was written.
pub(super) async fn write_flushed(connection: &mut Connection, Flushed { collection, revision, lease }: &Flushed) -> Result<bool, StoreError> {
    if let Some(lease) = lease
        && !lease::is_held(connection, lease).await?
    {
        return Ok(false);
    }
    if *revision == Revision::default() {
        // An unknown collection is written up to 0 as well; names of collections that are gone must not pile up.
        query("DELETE FROM index_state WHERE collection = $1").bind(collection.as_str()).execute(connection).await?;
        return Ok(true);
    }
    let text = "INSERT INTO index_state (collection, flushed_revision) VALUES ($1, $2) \
                ON CONFLICT (collection) DO UPDATE SET flushed_revision = excluded.flushed_revision";
    query(text).bind(collection.as_str()).bind(revision.0).execute(connection).await?;
    Ok(true)
}

impl Store {
    /// The name under which this replica's own (embedded) collection is known: on a shared database each replica has its own.
    fn own_collection(&self, collection: &str) -> String {
        self.shared.replica.as_ref().map_or_else(|| collection.to_owned(), |replica| format!("{collection}@{replica}"))
    }

    /// Up to which revision a collection of this process's own index is safely written; 0 for one that is unknown.
    pub async fn flushed_revision(&self, collection: &str) -> Result<Revision, StoreError> {
        self.revision_of(&self.own_collection(collection)).await
    }

    async fn revision_of(&self, collection: &str) -> Result<Revision, StoreError> {
        let text = "SELECT flushed_revision FROM index_state WHERE collection = $1";
        let row = query(text).bind(collection).fetch_optional(self.readers()).await?;
        Ok(Revision(row.map_or(Ok(0), |row| row.get(0))?))
    }

    /// Says that a collection of this process's own index is safely written up to `revision`; an older one than before is taken too, and 0 forgets
    /// the collection (a reindex starts there).
    pub async fn set_flushed_revision(&self, collection: &str, revision: Revision) -> Result<(), StoreError> {
        let flushed = Flushed { collection: self.own_collection(collection), revision, lease: None };
        self.write(1, flushed, Write::Flushed).await.map(drop)
    }

    /// Up to which revision a collection that all replicas share is safely written; 0 for one that is unknown.
    pub async fn shared_flushed_revision(&self, collection: &str) -> Result<Revision, StoreError> {
        self.revision_of(collection).await
    }

    /// Says that a collection that all replicas share is safely written up to `revision`, by the holder of the lease for writing it.
    /// `false` when another process has got the lease since: nothing is changed, and this one must stop writing the index.
    pub async fn set_flushed_revision_under(&self, lease: &Lease, collection: &str, revision: Revision) -> Result<bool, StoreError> {
        self.write(1, Flushed { collection: collection.to_owned(), revision, lease: Some(lease.clone()) }, Write::Flushed).await
    }

    /// The embeddings that are known of these texts for this version of a model.
    pub async fn embeddings(&self, model_version: &str, hashes: &[ContentHash]) -> Result<HashMap<ContentHash, Embedding>, StoreError> {
        let hashes = hashes.iter().map(|hash| hash.bytes().into()).collect();
        let rows = BY_HASH.fetch_all(self.readers(), &[model_version.into()], hashes).await?;
        Ok(super::decode_rows(&rows, embedding).await?.into_iter().collect())
    }

    /// Keeps embeddings; where a text has one already for this version, that one stays.
    pub async fn put_embeddings(&self, model_version: &str, vectors: Vec<(ContentHash, Embedding)>) -> Result<(), StoreError> {
        if vectors.is_empty() {
            return Ok(());
        }
        self.write(vectors.len(), NewEmbeddings { model_version: model_version.to_owned(), vectors }, Write::Embeddings).await
    }
}

fn embedding(row: &Row) -> Result<(ContentHash, Embedding), StoreError> {
    let hash = ContentHash::from_bytes(row.get(0)?).ok_or_else(|| StoreError::corrupt("a content hash of another length"))?;
    let (components, rest) = row.get::<&[u8]>(1)?.as_chunks::<4>();
    let vector = components.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    let vector = Embedding::new(vector).ok().filter(|_| rest.is_empty()).ok_or_else(|| StoreError::corrupt("an embedding that is no vector"))?;
    Ok((hash, vector))
}
