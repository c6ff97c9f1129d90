//! What the handlers call. [`House`] is the real thing; the tests of this room answer by themselves, so that they need no model.

use std::{sync::Arc, time::Instant};

use async_trait::async_trait;
use serde_json::Value as Json;

use crate::{
    domain::{Actor, AttributeType, Event, Exposure, Item, ItemId, LoggedEvent, RecommendationId, RuleDocument, RuleName, Timestamp, UserId},
    features::WrittenRule,
    ingest::{EventOutcome, Ingest, IngestError, ItemOutcome, PatchOutcome},
    recommend::{Nearness, Person, RecommendError, Recommendation, RecommendationRequest, Recommender, Understanding},
    store::{Alias, Merged, Receipt, RuleOutcome, Store, StoreError},
    training::{TrainError, Trainer},
};

use super::{CatalogueError, ReindexError, ReindexRequest, ReindexState, Reindexing};

/// The three paths of the house, as the doors see them.
#[async_trait]
pub(super) trait Rooms: Send + Sync {
    async fn recommend(&self, request: RecommendationRequest) -> Result<Recommendation, RecommendError>;
    async fn nearest(&self, request: RecommendationRequest, by: Nearness) -> Result<Recommendation, RecommendError>;
    async fn understand(&self, text: &str, deadline: Instant) -> Understanding;
    fn attribute_type(&self, name: &str) -> Option<AttributeType>;
    async fn events(&self, events: Vec<Event>, now: Timestamp) -> Result<Vec<EventOutcome>, IngestError>;
    async fn put_items(&self, items: Vec<Item>) -> Result<Vec<ItemOutcome>, IngestError>;
    async fn patch_item(&self, id: &ItemId, patch: Json) -> Result<PatchOutcome, IngestError>;
    async fn delete_item(&self, id: &ItemId) -> Result<bool, IngestError>;
    async fn pending(&self) -> Result<u64, IngestError>;
    async fn person(&self, user: &UserId) -> Result<Person, CatalogueError>;
    async fn names(&self, user: &UserId) -> Result<(UserId, Vec<Alias>), CatalogueError>;
    async fn events_of(&self, user: &UserId, after: Option<&LoggedEvent>, limit: usize) -> Result<Vec<LoggedEvent>, CatalogueError>;
    async fn exposures_of(&self, user: &UserId, after: Option<&RecommendationId>, limit: usize) -> Result<Vec<Exposure>, CatalogueError>;
    async fn merge(&self, from: Actor, into: UserId, now: Timestamp) -> Result<Merged, IngestError>;
    async fn erase(&self, whom: Actor, now: Timestamp) -> Result<Receipt, IngestError>;
    fn rules(&self) -> Vec<WrittenRule>;
    fn rule(&self, name: &RuleName) -> Option<WrittenRule>;
    async fn put_rule(&self, rule: &RuleDocument) -> Result<RuleOutcome, IngestError>;
    async fn delete_rule(&self, name: &RuleName) -> Result<RuleOutcome, IngestError>;
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
    pub(super) store: Store,
}

impl From<StoreError> for CatalogueError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Overloaded => Self::Overloaded,
            error => Self::Unavailable(error.to_string()),
        }
    }
}

#[async_trait]
impl Rooms for House {
    async fn recommend(&self, request: RecommendationRequest) -> Result<Recommendation, RecommendError> {
        self.recommender.recommend(request).await
    }

    async fn nearest(&self, request: RecommendationRequest, by: Nearness) -> Result<Recommendation, RecommendError> {
        self.recommender.nearest(request, by).await
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

    async fn person(&self, user: &UserId) -> Result<Person, CatalogueError> {
        Ok(self.recommender.person(user).await?)
    }

    async fn names(&self, user: &UserId) -> Result<(UserId, Vec<Alias>), CatalogueError> {
        let user = self.store.user(user).await?;
        let aliases = self.store.aliases(&user).await?;
        Ok((user, aliases))
    }

    async fn events_of(&self, user: &UserId, after: Option<&LoggedEvent>, limit: usize) -> Result<Vec<LoggedEvent>, CatalogueError> {
        Ok(self.store.events_of(user, after, limit).await?)
    }

    async fn exposures_of(&self, user: &UserId, after: Option<&RecommendationId>, limit: usize) -> Result<Vec<Exposure>, CatalogueError> {
        Ok(self.store.exposures_of(user, after, limit).await?)
    }

    async fn merge(&self, from: Actor, into: UserId, now: Timestamp) -> Result<Merged, IngestError> {
        self.ingest.merge(from, into, now).await
    }

    async fn erase(&self, whom: Actor, now: Timestamp) -> Result<Receipt, IngestError> {
        self.ingest.erase(whom, now).await
    }

    fn rules(&self) -> Vec<WrittenRule> {
        self.ingest.rules()
    }

    fn rule(&self, name: &RuleName) -> Option<WrittenRule> {
        self.ingest.rule(name)
    }

    async fn put_rule(&self, rule: &RuleDocument) -> Result<RuleOutcome, IngestError> {
        self.ingest.put_rule(rule).await
    }

    async fn delete_rule(&self, name: &RuleName) -> Result<RuleOutcome, IngestError> {
        self.ingest.delete_rule(name).await
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
