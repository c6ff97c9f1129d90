//! The real binary with the real model, SQLite and the real index, over HTTP: what a user of inkling may rely on.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod backup;
mod bad_input;
mod clocks;
mod crash;
mod disk;
mod doors;
mod durability;
mod evaluating;
mod events;
#[path = "../support/faketime.rs"]
mod faketime;
mod faults;
mod feedback;
mod importing;
mod languages;
mod moving;
mod own_vectors;
mod people;
#[path = "../support/postgres.rs"]
mod postgres_server;
#[path = "../support/proxy.rs"]
mod proxy;
#[cfg(feature = "edge")]
#[path = "../support/qdrant.rs"]
mod qdrant;
mod recommending;
mod replicas;
mod rules;
mod scale;
mod server;
mod shop;
mod start;
#[cfg(feature = "edge")]
mod tls;
mod training;
mod understanding;
#[cfg(feature = "edge")]
mod vectors;
