//! Floor 3, the write path: validate → persist → index → what we know now.

use std::sync::Arc;

use crate::domain::{Event, FieldError, Item, ItemId, Timestamp};

/// What became of one event.
#[derive(Debug, Clone, PartialEq)]
pub enum EventOutcome {
    /// On disk, counted.
    Accepted,
    /// The same event was there already; nothing changed.
    Duplicate,
    /// Not stored, and why.
    Rejected(Vec<FieldError>),
}

/// What became of one item.
#[derive(Debug, Clone, PartialEq)]
pub enum ItemOutcome {
    /// New in the catalogue.
    Created(Arc<Item>),
    /// Replaced an older state.
    Updated(Arc<Item>),
    /// Was exactly so already.
    Unchanged(Arc<Item>),
    /// Not stored, and why.
    Rejected(Vec<FieldError>),
}

/// What became of a patch.
#[derive(Debug, Clone, PartialEq)]
pub enum PatchOutcome {
    /// There is no such item.
    Missing,
    /// The item as it is now.
    Patched(Arc<Item>),
    /// Nothing changed, and why.
    Rejected(Vec<FieldError>),
}

/// Why nothing at all could be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IngestError {
    /// The queue is full; try again in a moment.
    #[error("too many writes are waiting; try again in a moment")]
    Overloaded,
    /// The database cannot be written.
    #[error("the database is not available: {0}")]
    Unavailable(String),
}

/// The write path; cheap to clone.
#[derive(Clone)]
pub struct Ingest {}

impl Ingest {
    /// Checks and stores events, one outcome each, in order. When it returns they are on disk.
    pub async fn events(&self, _events: Vec<Event>, _now: Timestamp) -> Result<Vec<EventOutcome>, IngestError> {
        std::future::ready(Ok(Vec::new())).await
    }

    /// Checks and stores items, one outcome each, in order.
    pub async fn put_items(&self, _items: Vec<Item>) -> Result<Vec<ItemOutcome>, IngestError> {
        std::future::ready(Ok(Vec::new())).await
    }

    /// Merges `patch` (RFC 7396) into the item.
    pub async fn patch_item(&self, _id: &ItemId, _patch: serde_json::Value) -> Result<PatchOutcome, IngestError> {
        std::future::ready(Ok(PatchOutcome::Missing)).await
    }

    /// Takes the item out of the catalogue; false where there was none.
    pub async fn delete_item(&self, _id: &ItemId) -> Result<bool, IngestError> {
        std::future::ready(Ok(false)).await
    }

    /// Rows that are stored but not yet searchable.
    pub fn pending(&self) -> u64 {
        0
    }
}
