//! What the encoder tells Prometheus.

use prometheus::{Histogram, HistogramOpts, IntCounter, IntGauge, IntGaugeVec, Opts, Registry};

use super::Provider;
use crate::telemetry::SECONDS;

/// The encoders' metrics, registered once a process and shared by all encoders: while one model takes over from another both count here.
#[derive(Clone)]
pub struct EncoderMetrics {
    pub(super) batch_texts: Histogram,
    pub(super) tokens: IntCounter,
    pub(super) padding: IntCounter,
    pub(super) forward_seconds: Histogram,
    pub(super) waiting_interactive: IntGauge,
    pub(super) waiting_bulk: IntGauge,
    pub(super) waiting_tokens: IntGauge,
    pub(super) cache_hits: IntCounter,
    pub(super) cache_misses: IntCounter,
    pub(super) joined: IntCounter,
    pub(super) refused: IntCounter,
    pub(super) abandoned: IntCounter,
    pub(super) late: IntCounter,
    pub(super) failed: IntCounter,
    pub(super) truncated: IntCounter,
    pub(super) failing: IntGauge,
    pub(super) info: IntGaugeVec,
    pub(super) provider: IntGaugeVec,
    pub(super) slow_products: IntGauge,
}

impl EncoderMetrics {
    /// Registers them; fails when they are there already.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let counter = |name: &str, help: &str| {
            let counter = IntCounter::new(name, help)?;
            registry.register(Box::new(counter.clone()))?;
            Ok::<_, prometheus::Error>(counter)
        };
        let histogram = |name: &str, help: &str, buckets: Vec<f64>| {
            let histogram = Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets))?;
            registry.register(Box::new(histogram.clone()))?;
            Ok::<_, prometheus::Error>(histogram)
        };
        let gauge = |name: &str, help: &str| {
            let gauge = IntGauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok::<_, prometheus::Error>(gauge)
        };
        let gauges = |name: &str, help: &str, label: &str| {
            let gauges = IntGaugeVec::new(Opts::new(name, help), &[label])?;
            registry.register(Box::new(gauges.clone()))?;
            Ok::<_, prometheus::Error>(gauges)
        };
        let waiting = gauges("inkling_encoder_waiting_texts", "texts that wait for a forward pass", "lane")?;
        let provider = gauges("inkling_encoder_provider", "models whose forward passes run on this provider", "provider")?;
        for known in [Provider::Cpu, Provider::Cuda] {
            provider.with_label_values(&[known.name()]).set(0);
        }
        Ok(Self {
            provider,
            slow_products: gauge(
                "inkling_encoder_slow_products",
                "models whose int8 runs at half its speed because the processor has no VNNI; fp32 may be as fast there; 0 is well",
            )?,
            batch_texts: histogram("inkling_encoder_batch_texts", "texts in one forward pass", vec![1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0])?,
            tokens: counter("inkling_encoder_tokens_total", "tokens that went through the model, padding excluded")?,
            padding: counter("inkling_encoder_padding_tokens_total", "padding that went through the model with them")?,
            forward_seconds: histogram("inkling_encoder_forward_seconds", "time of one forward pass", SECONDS.to_vec())?,
            waiting_interactive: waiting.with_label_values(&["interactive"]),
            waiting_bulk: waiting.with_label_values(&["bulk"]),
            waiting_tokens: gauge("inkling_encoder_waiting_tokens", "tokens of people's texts that wait for a forward pass")?,
            cache_hits: counter("inkling_encoder_cache_hits_total", "texts whose embedding was known")?,
            cache_misses: counter("inkling_encoder_cache_misses_total", "texts whose embedding was not known")?,
            joined: counter("inkling_encoder_joined_total", "texts that were already on their way for someone else")?,
            refused: counter("inkling_encoder_refused_total", "texts that were refused because too many waited")?,
            abandoned: counter("inkling_encoder_abandoned_total", "texts that nobody waited for any more when their turn came")?,
            late: counter("inkling_encoder_late_total", "texts whose time was over when their turn came")?,
            failed: counter("inkling_encoder_failed_total", "texts that the model or the tokenizer failed on")?,
            truncated: counter("inkling_encoder_truncated_total", "texts that were longer than what is read of them")?,
            failing: gauge("inkling_encoder_failing_sessions", "sessions whose last forward pass failed; 0 is well")?,
            info: gauges("inkling_encoder_info", "1 for each model that embeds now", "version")?,
        })
    }
}
