//! How one list is made where that is not as the settings say: what experiments on paper, such as the baselines of an offline replay, change.

use std::sync::Arc;

use crate::{domain::Source, learned::Learned};

use super::{ModelSet, Published, RecommendError, Recommendation, RecommendationRequest, Recommender, settings::Weights};

/// What is not as the settings and the snapshot say; by default nothing.
#[derive(Debug, Clone, Default)]
pub struct Policy {
    /// How much each feature counts, instead of as fitted or set.
    pub weights: Option<Weights>,
    /// Only what these found is ranked; for `None` what any source found.
    pub sources: Option<Vec<Source>>,
    /// In place of all that was learned and published.
    pub learned: Option<Arc<Learned>>,
}

impl Policy {
    /// The snapshot with the policy's models.
    pub(super) fn over(&self, models: Arc<ModelSet>) -> Arc<ModelSet> {
        match &self.learned {
            Some(learned) => {
                let published = Published { version: "policy".to_owned(), learned: Arc::clone(learned) };
                Arc::new(ModelSet { learned: Some(published), ..ModelSet::clone(&models) })
            }
            None => models,
        }
    }

    /// Whether it is one source or another by itself, which nothing arranges.
    pub(super) fn is_baseline(&self) -> bool {
        self.sources.is_some()
    }

    /// Whether a candidate that these sources found is ranked.
    pub(super) fn ranks(&self, mut sources: impl Iterator<Item = Source>) -> bool {
        self.sources.as_ref().is_none_or(|wanted| sources.any(|source| wanted.contains(&source)))
    }
}

impl Recommender {
    /// Answers as [`Self::recommend`] does, by a policy, and for nobody to see: the answer is neither logged nor counted as shown.
    pub async fn rehearse(&self, request: RecommendationRequest, policy: &Policy) -> Result<Recommendation, RecommendError> {
        self.0.recommend(request, Some(policy)).await
    }
}
