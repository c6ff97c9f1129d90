//! What the index tells Prometheus.

use prometheus::{Histogram, HistogramOpts, HistogramVec, IntGauge};

use crate::telemetry::{Registry, SECONDS};

/// Durations of searches and writes, how many points there are, and whether a server is there; shared by all collections of the process.
#[derive(Clone)]
pub struct IndexMetrics {
    pub(super) nearest: Histogram,
    pub(super) matching: Histogram,
    pub(super) scores: Histogram,
    pub(super) upsert: Histogram,
    pub(super) flush: Histogram,
    pub(super) optimize: Histogram,
    pub(super) points: IntGauge,
    pub(super) circuit_open: IntGauge,
}

impl IndexMetrics {
    /// The same, but for the number of points, which nobody is told.
    pub(super) fn without_points(&self) -> Self {
        Self { points: IntGauge::new("points", "of a collection that is not counted").expect("the name is a plain word"), ..self.clone() }
    }

    /// Fails when they are registered already.
    pub(super) fn register(registry: &Registry) -> prometheus::Result<Self> {
        let options = HistogramOpts::new("inkling_index_seconds", "time in the vector engine, by operation").buckets(SECONDS.to_vec());
        let seconds = HistogramVec::new(options, &["operation"])?;
        let points = IntGauge::new("inkling_index_points", "items in the collection that was written last")?;
        registry.register(Box::new(seconds.clone()))?;
        let circuit_open =
            IntGauge::new("inkling_index_circuit_open", "1 while an index server that failed is not asked, so that requests do not wait for it")?;
        registry.register(Box::new(points.clone()))?;
        registry.register(Box::new(circuit_open.clone()))?;
        let operation = |name: &str| seconds.with_label_values(&[name]);
        Ok(Self {
            nearest: operation("nearest"),
            matching: operation("matching"),
            scores: operation("scores"),
            upsert: operation("upsert"),
            flush: operation("flush"),
            optimize: operation("optimize"),
            points,
            circuit_open,
        })
    }
}
