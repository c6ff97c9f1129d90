//! What a user liked and wrote, as one direction: embeddings with weights in, their mean out. Items near it are what the user means by and large.
//!
//! In: the newest liked items (their embeddings are in the index) and the newest texts (searches, reviews of what was liked, the words that led to
//! an item), each with what it says, decayed relative to the user's newest event. Texts are encoded in the bulk lane when they are first
//! needed and remembered by their content, 8 MB of them. Only asked for where `recommend.weights.profile` is not 0 and the
//! request has no text.

use std::hash::BuildHasher;

use quick_cache::{Weighter, sync::Cache};
use rustc_hash::FxBuildHasher;
use tokio::time::Instant;

use crate::{
    domain::{Embedding, ItemKey},
    encoder::clean,
};

use super::{Inner, request::Part, retrieve::within, snapshot::ModelSet, taste::Taste};

/// Liked items that count, newest first.
const MOST_LIKED: usize = 50;
/// Memory for embeddings of texts.
const TEXT_BYTES: u64 = 8_000_000;

/// Embeddings of texts by the hash of model and text.
pub(super) struct TextEmbeddings(Cache<u64, Embedding, EmbeddingWeight>);

#[derive(Clone)]
struct EmbeddingWeight;

impl Weighter<u64, Embedding> for EmbeddingWeight {
    fn weight(&self, _: &u64, embedding: &Embedding) -> u64 {
        64 + 4 * embedding.len() as u64
    }
}

impl Default for TextEmbeddings {
    fn default() -> Self {
        Self(Cache::with_weighter(4_000, TEXT_BYTES, EmbeddingWeight))
    }
}

/// What a profile is made of.
#[derive(Debug, Clone, Default)]
pub(super) struct Liking {
    items: Vec<(ItemKey, f32)>,
    texts: Vec<(Box<str>, f32)>,
}

impl Liking {
    /// The good part of a taste.
    pub(super) fn of(taste: &Taste) -> Self {
        let liked = taste.items.iter().filter(|(_, weight)| *weight > 0.0);
        Self { items: liked.take(MOST_LIKED).copied().collect(), texts: taste.texts.clone() }
    }
}

impl Liking {
    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty() && self.texts.is_empty()
    }
}

impl Inner {
    /// The user's profile; `None` where nothing is known.
    pub(super) async fn profile(&self, liking: &Liking, models: &ModelSet, deadline: Instant) -> Result<Option<Embedding>, Part> {
        let mut parts: Vec<(Embedding, f32)> = Vec::new();
        if !liking.items.is_empty() {
            let keys: Vec<ItemKey> = liking.items.iter().map(|(key, _)| *key).collect();
            let embeddings = within(deadline, Part::Index, models.index.embeddings(&keys)).await?;
            let weight = |key: ItemKey| liking.items.iter().find(|(liked, _)| *liked == key).map_or(0.0, |(_, weight)| *weight);
            parts.extend(embeddings.into_iter().map(|(key, embedding)| (embedding, weight(key))));
        }
        let hash = |text: &str| FxBuildHasher.hash_one((models.encoder.version(), text));
        let new: Vec<&str> = liking.texts.iter().map(|(text, _)| &**text).filter(|text| self.texts.0.peek(&hash(text)).is_none()).collect();
        if !new.is_empty() {
            let cleaned = new.iter().map(|text| clean(text)).collect();
            let encoded = within(deadline, Part::Encoder, models.encoder.encode_bulk(cleaned)).await?;
            for (text, embedding) in new.iter().zip(encoded) {
                embedding.into_iter().for_each(|embedding| self.texts.0.insert(hash(text), embedding));
            }
        }
        parts.extend(liking.texts.iter().filter_map(|(text, weight)| Some((self.texts.0.get(&hash(text))?, *weight))));
        Ok(mean(&parts))
    }
}

/// The direction of the weighted sum.
fn mean(parts: &[(Embedding, f32)]) -> Option<Embedding> {
    let (first, _) = parts.first()?;
    let mut sum = vec![0.0; first.len()];
    for (embedding, weight) in parts.iter().filter(|(embedding, _)| embedding.len() == first.len()) {
        for (total, x) in sum.iter_mut().zip(embedding.iter()) {
            *total += weight * x;
        }
    }
    Embedding::new(sum).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_lies_between_what_was_liked_nearer_to_what_was_liked_more() {
        let at = |x: f32, y: f32| Embedding::new(vec![x, y]).unwrap();

        let profile = mean(&[(at(1.0, 0.0), 0.75), (at(0.0, 1.0), 1.0), (at(0.0, -1.0), 0.0)]).unwrap();

        assert!((profile[0] - 0.6).abs() < 1e-6 && (profile[1] - 0.8).abs() < 1e-6);
        assert!(mean(&[]).is_none() && mean(&[(at(1.0, 0.0), 1.0), (at(-1.0, 0.0), 1.0)]).is_none());
    }
}
