//! The seams between rooms that must not meet, filled with the real things.

use std::sync::Arc;

use async_trait::async_trait;
use prometheus::{IntGaugeVec, Opts};

use crate::{
    domain::{FeatureVector, Item, ItemId, ItemKey},
    encoder::Encoder,
    features::Situation,
    http::{Catalogue, CatalogueError, Counts, EncoderFacts},
    index::VectorIndex,
    ingest::Ingest,
    learned::Learned,
    recommend::{Exposed, Models, Published, Recommender},
    store::Store,
    telemetry::Registry,
    training::{Publish, Rehearse},
};

/// The doors read the catalogue from the store.
pub(super) struct StoreCatalogue(pub(super) Store);

#[async_trait]
impl Catalogue for StoreCatalogue {
    async fn item(&self, id: &ItemId) -> Result<Option<Arc<Item>>, CatalogueError> {
        Ok(self.0.item(id).await?.map(|stored| stored.item))
    }

    async fn page(&self, after: Option<&ItemId>, limit: usize) -> Result<Vec<Arc<Item>>, CatalogueError> {
        let page = self.0.items_page(after, limit).await?;
        Ok(page.into_iter().map(|stored| stored.item).collect())
    }

    async fn counts(&self) -> Result<Counts, CatalogueError> {
        let items = self.0.item_counts().await?;
        let events = self.0.event_count().await?;
        Ok(Counts { items: items.live, events })
    }
}

/// What `/health/ready` says of an encoder.
pub(super) fn facts_of(encoder: &Encoder) -> EncoderFacts {
    EncoderFacts { version: encoder.version().to_owned(), provider: encoder.provider().name(), has_slow_products: encoder.has_slow_products() }
}

/// What answers show is counted by the one writer of the counters.
pub(super) fn counter_of_showings(ingest: Ingest) -> Exposed {
    Arc::new(move |exposure| ingest.exposed(exposure))
}

/// Training publishes into the snapshot that requests read; a gauge tells which version that is.
pub(super) fn publisher(models: Models, registry: &Registry) -> prometheus::Result<Publish> {
    let version_info = IntGaugeVec::new(Opts::new("inkling_learned_info", "the version of what was learned that is in use"), &["version"])?;
    registry.register(Box::new(version_info.clone()))?;
    if let Some(published) = &models.snapshot().learned {
        version_info.with_label_values(&[&published.version]).set(1);
    }
    Ok(Arc::new(move |version, learned| {
        version_info.reset(); // one series: old versions must not pile up
        version_info.with_label_values(&[&version]).set(1);
        models.publish(&Published { version, learned });
    }))
}

/// Training asks the pipeline that answers.
pub(super) struct Pipeline {
    pub(super) models: Models,
    pub(super) recommender: Recommender,
    pub(super) weights: FeatureVector,
}

#[async_trait]
impl Rehearse for Pipeline {
    fn serving(&self) -> (Encoder, Arc<dyn VectorIndex>) {
        let models = self.models.snapshot();
        (models.encoder.clone(), Arc::clone(&models.index))
    }

    fn weights(&self) -> FeatureVector {
        self.weights
    }

    async fn candidates(&self, question: &Situation, learned: &Arc<Learned>) -> Option<Vec<(ItemKey, FeatureVector)>> {
        self.recommender.candidates(question, learned).await
    }
}
