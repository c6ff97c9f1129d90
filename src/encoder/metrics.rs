//! What the encoder tells Prometheus.

use prometheus::{Histogram, HistogramOpts, IntCounter, IntGauge, IntGaugeVec, Opts, Registry};

use crate::telemetry::SECONDS;

pub(super) struct Metrics {
    pub batch_texts: Histogram,
    pub tokens: IntCounter,
    pub padding: IntCounter,
    pub forward_seconds: Histogram,
    pub waiting_interactive: IntGauge,
    pub waiting_bulk: IntGauge,
    pub cache_hits: IntCounter,
    pub cache_misses: IntCounter,
    pub refused: IntCounter,
    pub abandoned: IntCounter,
    pub failed: IntCounter,
    pub truncated: IntCounter,
}

impl Metrics {
    pub(super) fn register(registry: &Registry, version: &str) -> Result<Self, prometheus::Error> {
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
        let gauge = |name: &str, help: &str, label: &str| {
            let gauge = IntGaugeVec::new(Opts::new(name, help), &[label])?;
            registry.register(Box::new(gauge.clone()))?;
            Ok::<_, prometheus::Error>(gauge)
        };
        let waiting = gauge("inkling_encoder_waiting_texts", "texts that wait for a forward pass", "lane")?;
        gauge("inkling_encoder_info", "1 for the model that embeds now", "version")?.with_label_values(&[version]).set(1);
        Ok(Self {
            batch_texts: histogram("inkling_encoder_batch_texts", "texts in one forward pass", vec![1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0])?,
            tokens: counter("inkling_encoder_tokens_total", "tokens that went through the model, padding excluded")?,
            padding: counter("inkling_encoder_padding_tokens_total", "padding that went through the model with them")?,
            forward_seconds: histogram("inkling_encoder_forward_seconds", "time of one forward pass", SECONDS.to_vec())?,
            waiting_interactive: waiting.with_label_values(&["interactive"]),
            waiting_bulk: waiting.with_label_values(&["bulk"]),
            cache_hits: counter("inkling_encoder_cache_hits_total", "texts whose embedding was known")?,
            cache_misses: counter("inkling_encoder_cache_misses_total", "texts whose embedding was not known")?,
            refused: counter("inkling_encoder_refused_total", "texts that were refused because too many waited")?,
            abandoned: counter("inkling_encoder_abandoned_total", "texts that nobody waited for any more when their turn came")?,
            failed: counter("inkling_encoder_failed_total", "texts that the model or the tokenizer failed on")?,
            truncated: counter("inkling_encoder_truncated_total", "texts that were longer than what is read of them")?,
        })
    }
}
