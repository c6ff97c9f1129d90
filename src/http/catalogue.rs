//! The seam to the store: what `http` reads of the catalogue. `app` fills it.

use std::sync::Arc;

use async_trait::async_trait;

use crate::domain::{Item, ItemId};

/// Reads of the catalogue. Deleted items are not there.
#[async_trait]
pub trait Catalogue: Send + Sync {
    /// The item of that id.
    async fn item(&self, id: &ItemId) -> Result<Option<Arc<Item>>, CatalogueError>;

    /// Up to `limit` items with ids above `after`, in the order of ids (bytewise), from the first where it is absent.
    async fn page(&self, after: Option<&ItemId>, limit: usize) -> Result<Vec<Arc<Item>>, CatalogueError>;

    /// How much there is.
    async fn counts(&self) -> Result<Counts, CatalogueError>;
}

/// How much the store holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Items, without deleted ones.
    pub items: u64,
    /// Events.
    pub events: u64,
}

/// Why the catalogue could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CatalogueError {
    /// Too many reads are waiting; try again in a moment.
    #[error("too many reads are waiting; try again in a moment")]
    Overloaded,
    /// The database did not answer; the reason is for the log.
    #[error("the database is not available: {0}")]
    Unavailable(String),
}
