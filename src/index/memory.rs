//! The contract in its plainest form, for tests: everything is scanned, filters are asked item by item.

use std::sync::{Mutex, MutexGuard};

use async_trait::async_trait;
use rustc_hash::FxHashMap;

use super::{Hit, IndexError, IndexPoint, QueryTerms, Search, VectorIndex, mirror::Mirror};
use crate::domain::{Embedding, ItemFacts, ItemKey, Revision, Score};

pub(super) struct MemoryIndex {
    width: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    mirror: Mirror,
    facts: FxHashMap<ItemKey, ItemFacts>,
}

impl MemoryIndex {
    pub(super) fn new(width: usize) -> Self {
        Self { width, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn check_width(&self, embedding: &Embedding) -> Result<(), IndexError> {
        if embedding.len() == self.width { Ok(()) } else { Err(IndexError::Width { found: embedding.len(), wanted: self.width }) }
    }
}

impl State {
    fn keys(&self, search: Search<'_>) -> Vec<ItemKey> {
        self.mirror.keys().filter(|key| search.filter.is_none_or(|filter| filter.matches(&self.facts[key]))).collect()
    }
}

fn best(scores: Vec<(ItemKey, f32)>, limit: usize) -> Vec<Hit> {
    let mut hits: Vec<Hit> = scores.into_iter().map(|(key, score)| Hit { key, score: Score::new(score).unwrap() }).collect();
    hits.sort_by(|a, b| b.score.cmp(&a.score).then(a.key.cmp(&b.key)));
    hits.truncate(limit);
    hits
}

#[async_trait]
impl VectorIndex for MemoryIndex {
    async fn upsert(&self, points: Vec<IndexPoint>) -> Result<(), IndexError> {
        for embedding in points.iter().filter_map(|point| point.embedding.as_ref()) {
            self.check_width(embedding)?;
        }
        let mut state = self.state();
        for point in points {
            state.mirror.put(point.key, point.embedding, point.terms);
            state.facts.insert(point.key, point.facts);
        }
        Ok(())
    }

    async fn delete(&self, gone: &[(ItemKey, Revision)]) -> Result<(), IndexError> {
        let mut state = self.state();
        for (key, _) in gone {
            state.mirror.remove(*key);
            state.facts.remove(key);
        }
        Ok(())
    }

    async fn nearest(&self, query: &Embedding, search: Search<'_>) -> Result<Vec<Hit>, IndexError> {
        self.check_width(query)?;
        let state = self.state();
        Ok(best(state.mirror.cosines(query, &state.keys(search)), search.limit))
    }

    async fn matching(&self, query: &QueryTerms, search: Search<'_>) -> Result<Vec<Hit>, IndexError> {
        let state = self.state();
        let mut scores = state.mirror.lexical_scores(&state.mirror.weigh(query, 32), &state.keys(search));
        scores.retain(|(_, score)| *score > 0.0);
        Ok(best(scores, search.limit))
    }

    async fn similarities(&self, query: &Embedding, keys: &[ItemKey]) -> Result<Vec<(ItemKey, f32)>, IndexError> {
        self.check_width(query)?;
        Ok(self.state().mirror.cosines(query, keys))
    }

    async fn lexical_scores(&self, query: &QueryTerms, keys: &[ItemKey]) -> Result<Vec<(ItemKey, f32)>, IndexError> {
        let state = self.state();
        Ok(state.mirror.lexical_scores(&state.mirror.weigh(query, 32), keys))
    }

    async fn embeddings(&self, keys: &[ItemKey]) -> Result<Vec<(ItemKey, Embedding)>, IndexError> {
        Ok(self.state().mirror.embeddings(keys))
    }

    async fn flush(&self) -> Result<(), IndexError> {
        Ok(())
    }

    async fn optimize_if_due(&self) -> Result<bool, IndexError> {
        Ok(false)
    }

    async fn count(&self) -> Result<usize, IndexError> {
        Ok(self.state().mirror.len())
    }
}
