//! Floor 1: what every room reports with. Logs to stderr, metrics to one Prometheus registry, CPU work to a bounded pool.

mod compute;
mod logging;

pub use compute::{Compute, ComputeError};
pub use logging::{LogFormat, LogSettings, start_logging};
pub use prometheus::Registry;

/// Buckets for durations in seconds: 0.1 ms to 30 s, about two a doubling where answers usually lie.
pub const SECONDS: [f64; 20] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0015, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0];
