//! What the handlers call. [`House`] is the real thing; the tests of this room answer by themselves, so that they need no model.

use std::{sync::Arc, time::Instant};

use async_trait::async_trait;
use serde_json::Value as Json;

use crate::{
    domain::{AttributeType, Event, Item, ItemId, Timestamp},
    ingest::{EventOutcome, Ingest, IngestError, ItemOutcome, PatchOutcome},
    recommend::{RecommendError, Recommendation, RecommendationRequest, Recommender, Understanding},
    training::{TrainError, Trainer},
};

use super::{ReindexError, ReindexRequest, ReindexState, Reindexing};

/// The three paths of the house, as the doors see them.
#[async_trait]
pub(super) trait Rooms: Send + Sync {
    async fn recommend(&self, request: RecommendationRequest) -> Result<Recommendation, RecommendError>;
    async fn understand(&self, text: &str, deadline: Instant) -> Understanding;
    fn attribute_type(&self, name: &str) -> Option<AttributeType>;
    async fn events(&self, events: Vec<Event>, now: Timestamp) -> Result<Vec<EventOutcome>, IngestError>;
    async fn put_items(&self, items: Vec<Item>) -> Result<Vec<ItemOutcome>, IngestError>;
    async fn patch_item(&self, id: &ItemId, patch: Json) -> Result<PatchOutcome, IngestError>;
    async fn delete_item(&self, id: &ItemId) -> Result<bool, IngestError>;
    async fn pending(&self) -> Result<u64, IngestError>;
    async fn train(&self) -> Result<Json, TrainError>;
    fn training(&self) -> Json;
    async fn reindex(&self, asked: ReindexRequest) -> Result<ReindexState, ReindexError>;
    fn reindexing(&self) -> ReindexState;
}

/// The real rooms.
pub(super) struct House {
    pub(super) recommender: Recommender,
    pub(super) ingest: Ingest,
    pub(super) trainer: Trainer,
    pub(super) reindexing: Arc<dyn Reindexing>,
}

#[async_trait]
impl Rooms for House {
    async fn recommend(&self, request: RecommendationRequest) -> Result<Recommendation, RecommendError> {
        self.recommender.recommend(request).await
    }

    async fn understand(&self, text: &str, deadline: Instant) -> Understanding {
        self.recommender.understand(text, deadline).await
    }

    fn attribute_type(&self, name: &str) -> Option<AttributeType> {
        self.recommender.attribute_type(name)
    }

    async fn events(&self, events: Vec<Event>, now: Timestamp) -> Result<Vec<EventOutcome>, IngestError> {
        self.ingest.events(events, now).await
    }

    async fn put_items(&self, items: Vec<Item>) -> Result<Vec<ItemOutcome>, IngestError> {
        self.ingest.put_items(items).await
    }

    async fn patch_item(&self, id: &ItemId, patch: Json) -> Result<PatchOutcome, IngestError> {
        self.ingest.patch_item(id, patch).await
    }

    async fn delete_item(&self, id: &ItemId) -> Result<bool, IngestError> {
        self.ingest.delete_item(id).await
    }

    async fn pending(&self) -> Result<u64, IngestError> {
        self.ingest.pending().await
    }

    async fn train(&self) -> Result<Json, TrainError> {
        self.trainer.train().await
    }

    fn training(&self) -> Json {
        self.trainer.state()
    }

    async fn reindex(&self, asked: ReindexRequest) -> Result<ReindexState, ReindexError> {
        self.reindexing.begin(asked).await
    }

    fn reindexing(&self) -> ReindexState {
        self.reindexing.state()
    }
}
