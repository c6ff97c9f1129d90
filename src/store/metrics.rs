//! What the store tells Prometheus.

use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry};

use super::StoreError;
use crate::telemetry::SECONDS;

pub(super) struct Metrics {
    /// Transactions that were made durable: one fsync of the log each.
    pub(super) commits: IntCounter,
    pub(super) failures: IntCounter,
    pub(super) commit_seconds: Histogram,
    pub(super) commit_calls: Histogram,
    pub(super) commit_entries: Histogram,
    pub(super) queue_entries: IntGauge,
    pub(super) overloads: IntCounter,
    pub(super) exposures: IntCounter,
    pub(super) exposures_dropped: IntCounter,
    deleted: IntCounterVec,
}

impl Metrics {
    pub(super) fn register(registry: &Registry) -> Result<Self, StoreError> {
        let counts = |most: u32| (0..=most).map(|power| f64::from(1u32 << power)).collect::<Vec<_>>();
        let seconds = HistogramOpts::new("inkling_store_commit_seconds", "time of a transaction, fsync included").buckets(SECONDS.to_vec());
        let calls = HistogramOpts::new("inkling_store_commit_calls", "callers that shared a commit").buckets(counts(10));
        let entries = HistogramOpts::new("inkling_store_commit_entries", "events, items and other entries of a commit").buckets(counts(13));
        let failed = |error: prometheus::Error| StoreError::unavailable(format!("metrics: {error}"));
        let metrics = Self {
            commits: IntCounter::new("inkling_store_commits_total", "transactions made durable").map_err(failed)?,
            failures: IntCounter::new("inkling_store_commit_failures_total", "transactions that the database refused").map_err(failed)?,
            commit_seconds: Histogram::with_opts(seconds).map_err(failed)?,
            commit_calls: Histogram::with_opts(calls).map_err(failed)?,
            commit_entries: Histogram::with_opts(entries).map_err(failed)?,
            queue_entries: IntGauge::new("inkling_store_queue_entries", "entries that wait to be written").map_err(failed)?,
            overloads: IntCounter::new("inkling_store_overloads_total", "calls refused because too much waits").map_err(failed)?,
            exposures: IntCounter::new("inkling_store_exposures_total", "answers logged").map_err(failed)?,
            exposures_dropped: IntCounter::new("inkling_store_exposures_dropped_total", "answers not logged: queue full or commit failed").map_err(failed)?,
            deleted: IntCounterVec::new(Opts::new("inkling_store_deleted_total", "rows deleted, by what they were and why"), &["what", "why"])
                .map_err(failed)?,
        };
        let counters = [&metrics.commits, &metrics.failures, &metrics.overloads, &metrics.exposures, &metrics.exposures_dropped];
        for counter in counters {
            registry.register(Box::new(counter.clone())).map_err(failed)?;
        }
        for histogram in [&metrics.commit_seconds, &metrics.commit_calls, &metrics.commit_entries] {
            registry.register(Box::new(histogram.clone())).map_err(failed)?;
        }
        registry.register(Box::new(metrics.queue_entries.clone())).map_err(failed)?;
        registry.register(Box::new(metrics.deleted.clone())).map_err(failed)?;
        Ok(metrics)
    }

    /// Rows that were too old or that nothing used.
    pub(super) fn expired(&self, what: &str, rows: u64) {
        self.deleted.with_label_values(&[what, "expired"]).inc_by(rows);
    }

    /// Rows that somebody asked to erase.
    pub(super) fn erased(&self, events: u64, exposures: u64) {
        self.deleted.with_label_values(&["events", "erased"]).inc_by(events);
        self.deleted.with_label_values(&["exposures", "erased"]).inc_by(exposures);
    }
}
