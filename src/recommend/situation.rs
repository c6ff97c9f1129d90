//! Past situations asked again: what was known then in, every candidate with its features out, made and scaled as for an answer.
//!
//! Training learns from them how much each feature should count. Nothing is shown to anybody, nothing is logged.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    domain::{FeatureVector, ItemKey, Timestamp},
    features::Situation,
    learned::Learned,
};

use super::{
    ModelSet, Published, RecommendationRequest, Recommender, evidence, rank,
    retrieve::Basis,
    taste::Taste,
    understand::{Rejected, Understood},
};

/// Nobody waits for it; whatever is slower has failed.
const PATIENCE: Duration = Duration::from_secs(10);

/// What had been done then, as the sources use it.
pub(super) fn taste(then: &Situation) -> Taste {
    Taste { items: then.history.clone(), seen: then.history.iter().map(|(item, _)| *item).collect(), ..Taste::default() }
}

impl Recommender {
    /// The candidates with what each feature would add to the score at weight 1, by key; what was done already is left out.
    /// `None` where a part failed: such an answer teaches the wrong thing.
    pub async fn candidates(&self, situation: &Situation, learned: &Arc<Learned>) -> Option<Vec<(ItemKey, FeatureVector)>> {
        let inner = &self.0;
        let published = Published { version: String::new(), learned: Arc::clone(learned) };
        let models = Arc::new(ModelSet { learned: Some(published), ..ModelSet::clone(&inner.models.snapshot()) });
        let mut request = RecommendationRequest::warm_up(Timestamp::now(), Instant::now() + PATIENCE);
        request.text.clone_from(&situation.text);
        request.exclude_seen = Some(true);
        let understood = request.text.as_deref().map(Understood::read).unwrap_or_default();
        let rejected = Rejected::new(&models.lexicon, &understood.rejected);
        let mut retrieved = inner.retrieve(&request, understood.wanted(), &rejected, &[], &models, Basis::Then(situation)).await;
        if !retrieved.degraded.is_empty() {
            return None;
        }
        let evidence = evidence(&retrieved);
        let candidates = inner.candidates(&mut retrieved, &rejected, &request, &models.lexicon);
        let scales = rank::scales(&candidates, evidence, &[1.0; _]);
        Some(candidates.iter().map(|candidate| (candidate.key, rank::parts(candidate, &scales))).collect())
    }
}
