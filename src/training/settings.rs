//! The `[training]` section.

use serde::{Deserialize, Serialize};

/// When to train, and how much may be spent on it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainingSettings {
    /// Train after so many new events; 0: only at start and when asked.
    pub every_events: u64,
    /// Fewer good events than this teach nothing.
    pub min_events: usize,
    /// Memory of the dense matrices of EASE^R, in MiB: it bounds how many of the most used items it can cover. Also of the factors of
    /// implicit ALS, which is left out where they do not fit.
    pub memory_mb: usize,
    /// Threads that compute; 0: one a core.
    pub threads: usize,
    /// Item-item weights that are kept for an item, on average; 8 bytes each, and the cost of a request grows with them.
    pub neighbours: usize,
    /// Versions that stay on disk.
    pub keep_versions: usize,
}
