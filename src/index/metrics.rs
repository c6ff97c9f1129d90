//! What the index tells Prometheus.

use prometheus::{Histogram, HistogramOpts, HistogramVec, IntGauge};

use crate::telemetry::{Registry, SECONDS};

/// Durations of searches and writes, and how many points there are; shared by all collections of the process.
#[derive(Clone)]
pub struct IndexMetrics {
    pub(super) nearest: Histogram,
    pub(super) matching: Histogram,
    pub(super) upsert: Histogram,
    pub(super) flush: Histogram,
    pub(super) optimize: Histogram,
    pub(super) points: IntGauge,
}

impl IndexMetrics {
    /// Fails when they are registered already.
    pub(super) fn register(registry: &Registry) -> prometheus::Result<Self> {
        let options = HistogramOpts::new("inkling_index_seconds", "time in the vector engine, by operation").buckets(SECONDS.to_vec());
        let seconds = HistogramVec::new(options, &["operation"])?;
        let points = IntGauge::new("inkling_index_points", "items in the collection that was written last")?;
        registry.register(Box::new(seconds.clone()))?;
        registry.register(Box::new(points.clone()))?;
        let operation = |name: &str| seconds.with_label_values(&[name]);
        Ok(Self {
            nearest: operation("nearest"),
            matching: operation("matching"),
            upsert: operation("upsert"),
            flush: operation("flush"),
            optimize: operation("optimize"),
            points,
        })
    }
}
