//! What the read path counts: stage durations, degraded parts, answers by source.

use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, Opts, Registry};

use crate::telemetry::SECONDS;

/// The read path's metrics.
pub(super) struct Metrics {
    pub(super) stages: HistogramVec,
    pub(super) degraded: IntCounterVec,
    pub(super) shown: IntCounterVec,
}

impl Metrics {
    /// Fails when `registry` has them already.
    pub(super) fn register(registry: &Registry) -> prometheus::Result<Self> {
        let stages =
            HistogramOpts::new("inkling_recommend_stage_seconds", "time of each stage of /recommend; those of retrieval overlap").buckets(SECONDS.to_vec());
        let metrics = Self {
            stages: HistogramVec::new(stages, &["stage"])?,
            degraded: IntCounterVec::new(Opts::new("inkling_recommend_degraded_total", "answers that lacked a part"), &["part"])?,
            shown: IntCounterVec::new(Opts::new("inkling_recommend_shown_total", "recommended items by the sources that found them"), &["source"])?,
        };
        registry.register(Box::new(metrics.stages.clone()))?;
        registry.register(Box::new(metrics.degraded.clone()))?;
        registry.register(Box::new(metrics.shown.clone()))?;
        Ok(metrics)
    }
}
