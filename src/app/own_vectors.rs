//! Where the collections of own vectors lie, beside the one that answers for texts: made when an item first has such a vector, kept whatever model the
//! texts move to, and derived from the store like everything in the index.

use std::sync::Arc;

use anyhow::Context;
use sha2::{Digest, Sha256};

use crate::{
    index::{IndexError, VectorIndex},
    ingest::{Content, IndexCollection, OpenVectors},
    recommend::Models,
    store::Store,
};

use super::collection::Shelf;

/// Before the hash of a vector's name: a name may be of any script and length, that of a collection may not.
const PREFIX: &str = "vectors-";
/// Bytes of the hash.
const HASHED: usize = 16;

/// The collection of the own vector of that name.
pub(super) fn collection_of(vector: &str) -> String {
    format!("{PREFIX}{}", hex::encode(&Sha256::digest(vector)[..HASHED]))
}

/// Whether the collection is one of own vectors.
pub(super) fn is_of_own_vectors(collection: &str) -> bool {
    let hash = collection.strip_prefix(PREFIX);
    hash.is_some_and(|hash| hash.len() == 2 * HASHED && hash.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// Opens collections of own vectors on the shelf and lets requests see them.
pub(super) fn opener(shelf: Shelf, store: Store, models: Models) -> OpenVectors {
    Arc::new(move |vector, width| {
        let (shelf, store, models) = (shelf.clone(), store.clone(), models.clone());
        Box::pin(async move {
            let name = collection_of(&vector);
            let index = shelf.open_own_vectors(&store, &name, width).await.map_err(|error| format!("{error:#}"))?;
            tracing::info!(collection = name, "the own vectors {vector:?} are searched in the collection {name}");
            models.publish_own_vectors(&vector, &index);
            Ok(IndexCollection { name, index, content: Content::OwnVector(vector) })
        })
    })
}

impl Shelf {
    /// Opens the collection, or makes it. One that is torn is made anew.
    async fn open_own_vectors(&self, store: &Store, name: &str, width: usize) -> anyhow::Result<Arc<dyn VectorIndex>> {
        let collections = self.collections.without_words();
        if !collections.names().await?.iter().any(|known| known == name) {
            self.begin(store, name).await?;
        }
        let opened = match collections.open(name, width).await {
            Err(error @ (IndexError::Unusable { .. } | IndexError::OtherShape { .. })) if !collections.are_shared() => {
                tracing::warn!(%error, "own vectors cannot be read from the index; building their collection anew from the database");
                self.discard(store, name).await?;
                collections.open(name, width).await
            }
            opened => opened,
        };
        Ok(opened.with_context(|| self.place(name).display().to_string())?.index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vector_of_any_name_has_a_collection_that_is_told_from_those_of_texts() {
        let names = ["image", "Image", "../etc", "图像", &"x".repeat(256)].map(collection_of);

        assert!(names.iter().all(|name| is_of_own_vectors(name) && name.len() == 40));
        assert_eq!(names.iter().collect::<std::collections::BTreeSet<_>>().len(), names.len());
        for text in ["multilingual-e5-small-8d1f-int8-t256", "vectors-t256", "vectors-", "vectors-00000000000000000000000000000000-t256"] {
            assert!(!is_of_own_vectors(text), "{text}");
        }
    }
}
