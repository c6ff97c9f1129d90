//! Floor 1: ranking measures, pure functions.

mod ranking;

pub use ranking::{average_precision, hit_rate_at, ndcg_at, recall_at, reciprocal_rank};
