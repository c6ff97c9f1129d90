//! What the read path counts: stage durations, degraded parts, answers by source, and how its categories are made.

use prometheus::{Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry};

use super::request::Part;
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

    /// Counts an answer that lacked these parts.
    pub(super) fn count_degraded(&self, parts: &[Part]) {
        for part in parts {
            self.degraded.with_label_values(&[part.name()]).inc();
        }
    }
}

/// What making the catalogue's categories costs.
#[derive(Clone)]
pub(super) struct MakerMetrics {
    pub(super) seconds: Histogram,
    pub(super) failed: IntCounter,
    pub(super) count: IntGauge,
}

impl MakerMetrics {
    /// Fails when `registry` has them already.
    pub(super) fn register(registry: &Registry) -> prometheus::Result<Self> {
        let seconds =
            HistogramOpts::new("inkling_categories_build_seconds", "time in which the catalogue's categories were made anew; titles are encoded once");
        let metrics = Self {
            seconds: Histogram::with_opts(seconds.buckets(vec![0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0]))?,
            failed: IntCounter::new("inkling_categories_build_failures_total", "times that the categories could not be made; it is tried again")?,
            count: IntGauge::new("inkling_categories", "categories that texts can be about")?,
        };
        registry.register(Box::new(metrics.seconds.clone()))?;
        registry.register(Box::new(metrics.failed.clone()))?;
        registry.register(Box::new(metrics.count.clone()))?;
        Ok(metrics)
    }
}
