//! What the write path counts: events by type, what was refused, items written, embedded and indexed.

use prometheus::{Gauge, IntCounter, IntCounterVec, IntGauge, Opts, Registry};

/// The write path's metrics.
pub(super) struct Metrics {
    pub(super) events: IntCounterVec,
    pub(super) duplicates: IntCounter,
    pub(super) rejected: IntCounter,
    pub(super) item_writes: IntCounter,
    pub(super) embedded: IntCounter,
    pub(super) indexed: IntCounter,
    pub(super) pending: IntGauge,
    pub(super) index_failures: IntCounter,
    pub(super) follow_failures: IntCounter,
    pub(super) follow_lag: Gauge,
}

impl Metrics {
    /// Fails when `registry` has them already.
    pub(super) fn register(registry: &Registry) -> prometheus::Result<Self> {
        let metrics = Self {
            events: IntCounterVec::new(Opts::new("inkling_events_total", "accepted events by type"), &["type"])?,
            duplicates: IntCounter::new("inkling_events_duplicate_total", "events that were known already")?,
            rejected: IntCounter::new("inkling_events_rejected_total", "events that were not stored")?,
            item_writes: IntCounter::new("inkling_items_written_total", "item states stored: new, changed and deleted ones")?,
            embedded: IntCounter::new("inkling_items_embedded_total", "item texts encoded; unchanged ones are not encoded again")?,
            indexed: IntCounter::new("inkling_items_indexed_total", "item states written to the index")?,
            pending: IntGauge::new("inkling_items_pending", "items stored but not yet searchable, as of the indexer's last look")?,
            index_failures: IntCounter::new("inkling_index_failures_total", "index writes that failed and are tried again")?,
            follow_failures: IntCounter::new("inkling_follower_failures_total", "looks at what other replicas wrote that failed")?,
            follow_lag: Gauge::new("inkling_follower_lag_seconds", "time since everything that other replicas had written was known here")?,
        };
        for counter in [
            &metrics.duplicates,
            &metrics.rejected,
            &metrics.item_writes,
            &metrics.embedded,
            &metrics.indexed,
            &metrics.index_failures,
            &metrics.follow_failures,
        ] {
            registry.register(Box::new(counter.clone()))?;
        }
        registry.register(Box::new(metrics.events.clone()))?;
        registry.register(Box::new(metrics.pending.clone()))?;
        registry.register(Box::new(metrics.follow_lag.clone()))?;
        Ok(metrics)
    }
}
