//! What the learn path counts.

use prometheus::{Histogram, HistogramOpts, IntCounterVec, Opts, Registry};

/// The learn path's metrics.
pub(super) struct Metrics {
    pub(super) runs: IntCounterVec,
    pub(super) seconds: Histogram,
}

impl Metrics {
    /// Fails when `registry` has them already.
    pub(super) fn register(registry: &Registry) -> prometheus::Result<Self> {
        let seconds = HistogramOpts::new("inkling_training_seconds", "time of a training, from reading the log to publishing")
            .buckets(vec![0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 1_800.0]);
        let metrics = Self {
            runs: IntCounterVec::new(Opts::new("inkling_training_runs_total", "trainings by how they ended"), &["outcome"])?,
            seconds: Histogram::with_opts(seconds)?,
        };
        registry.register(Box::new(metrics.runs.clone()))?;
        registry.register(Box::new(metrics.seconds.clone()))?;
        Ok(metrics)
    }
}
