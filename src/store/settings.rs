//! `[store]`: the store's section of the settings.

use serde::{Deserialize, Serialize};

/// `[store]`. Where the database lies is the data folder's business, not this section's.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoreSettings {
    /// Entries (events, items, …) that may wait to be written; past that callers are told that the store is overloaded.
    pub queue: u32,
    /// Answers that may wait to be logged; past that they are dropped and counted.
    pub exposure_queue: u32,
    /// Milliseconds that a commit waits at most for the other writers that the last commits have seen; 0 never waits.
    pub commit_delay_ms: f64,
    /// Connections for reading, so many reads run side by side.
    pub readers: u32,
    /// Page cache in MiB of the writing connection, and again of all reading ones together.
    pub cache_mb: u32,
}
