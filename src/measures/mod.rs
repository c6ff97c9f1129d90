//! Floor 1: measures of lists and of what many lists do, and how far they hold: pure functions.

mod bootstrap;
mod catalogue;
mod ranking;
#[cfg(test)]
mod ranking_tests;

pub use bootstrap::{Interval, Unit, bootstrap, mean};
pub use catalogue::{coverage, gini, intra_list_diversity, lorenz, surprise};
pub use ranking::{average_precision, average_precision_at, graded_ndcg_at, hit_rate_at, ndcg_at, recall_at, reciprocal_rank, reciprocal_rank_at};

#[cfg(test)]
fn near(found: f64, expected: f64) {
    assert!((found - expected).abs() < 1e-9, "{found} is not {expected}");
}
