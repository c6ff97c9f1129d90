//! Embeddings of texts seen before, bounded in bytes; what is asked for again stays longest.

use quick_cache::{Weighter, sync};

use super::Encoded;

/// What an entry costs beside its text and numbers: two allocations, keys and links of the cache itself.
const OVERHEAD: usize = 160;

#[derive(Clone)]
struct Bytes;

impl Weighter<Box<str>, Encoded> for Bytes {
    fn weight(&self, text: &Box<str>, encoded: &Encoded) -> u64 {
        (text.len() + size_of_val::<[f32]>(&encoded.embedding) + OVERHEAD) as u64
    }
}

/// Texts and their embeddings.
pub(super) struct Cache(Option<sync::Cache<Box<str>, Encoded, Bytes>>);

impl Cache {
    /// A cache of `megabytes`; 0 remembers nothing.
    pub(super) fn new(megabytes: usize, width: usize) -> Self {
        let bytes = (megabytes as u64) << 20;
        let entry = (width * size_of::<f32>() + OVERHEAD + 64) as u64;
        let entries = usize::try_from(bytes / entry).unwrap_or(usize::MAX);
        Self((bytes > 0).then(|| sync::Cache::with_weighter(entries, bytes, Bytes)))
    }

    pub(super) fn get(&self, text: &str) -> Option<Encoded> {
        self.0.as_ref()?.get(text)
    }

    pub(super) fn put(&self, text: &str, encoded: &Encoded) {
        if let Some(cache) = &self.0 {
            cache.insert(text.into(), encoded.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Embedding;

    #[test]
    fn the_cache_stays_within_its_bytes_and_keeps_what_is_asked_for() {
        let cache = Cache::new(1, 384);
        let encoded = Encoded { embedding: Embedding::new(vec![1.0; 384]).unwrap(), truncated: false };
        cache.put("favourite", &encoded);
        for i in 0..5000 {
            assert!(cache.get("favourite").is_some(), "lost after {i}");
            cache.put(&format!("text {i}"), &encoded);
        }

        assert!(cache.0.as_ref().unwrap().weight() <= 1 << 20);
        assert!(cache.0.as_ref().unwrap().len() > 300);
    }

    #[test]
    fn a_cache_of_nothing_remembers_nothing() {
        let cache = Cache::new(0, 4);
        cache.put("a", &Encoded { embedding: Embedding::new(vec![1.0; 4]).unwrap(), truncated: false });

        assert!(cache.get("a").is_none());
    }
}
