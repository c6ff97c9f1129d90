//! inkling: a self-hosted recommender that understands text and learns from every click.
//!
//! The house has floors; a room uses lower floors only, and rooms on one floor never meet (`tests/architecture.rs`):
//!
//! | floor | rooms |
//! |---|---|
//! | 6 | [`app`], [`cli`]: build every room, wire the seams, start and stop workers |
//! | 5 | [`config`]: the settings of all rooms, from defaults, file, environment and flags |
//! | 4 | [`http`]: routes, JSON, problem details; [`evaluation`]: offline replay of the whole pipeline, reports |
//! | 3 | [`recommend`] (read path), [`ingest`] (write path), [`training`] (learn path) |
//! | 2 | [`store`], [`encoder`], [`index`], [`features`], [`learned`] |
//! | 1 | [`telemetry`], [`measures`] |
//! | 0 | [`domain`]: the vocabulary |

pub mod app;
pub mod cli;
pub mod config;
pub mod domain;
pub mod encoder;
pub mod evaluation;
pub mod features;
pub mod http;
#[cfg_attr(not(feature = "edge"), expect(dead_code, reason = "without an engine nothing uses what engines share"))]
pub mod index;
pub mod ingest;
pub mod learned;
pub mod measures;
pub mod recommend;
pub mod store;
pub mod telemetry;
pub mod training;
