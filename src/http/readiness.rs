//! Whether the house may be asked, and which parts are up: written by `app`, shown at `/health/ready` and in a gauge.

use std::{
    collections::BTreeMap,
    sync::{Arc, RwLock},
};

use prometheus::{IntGaugeVec, Opts};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{recommend::Part, telemetry::Registry};

/// Where the process is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Loading and warming up.
    Starting,
    /// May be asked.
    Serving,
    /// Finishing what it has begun; ask another replica.
    Draining,
}

/// How a part is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PartState {
    /// Not there yet.
    Starting,
    /// In use.
    Up,
    /// Answers go without it.
    Down,
}

/// The shared word on readiness; cheap to clone.
#[derive(Clone)]
pub struct Readiness {
    state: Arc<RwLock<State>>,
    up: IntGaugeVec,
}

#[derive(Clone)]
struct State {
    phase: Phase,
    parts: BTreeMap<Part, PartState>,
    encoder: Option<EncoderFacts>,
}

/// Which model reads texts, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncoderFacts {
    /// Model, precision, source and limit in one name.
    pub version: String,
    /// Where forward passes run: `cpu` or `cuda`.
    pub provider: &'static str,
    /// Whether int8 runs at half its speed, because the processor has no VNNI.
    pub has_slow_products: bool,
}

/// What `/health/ready` says.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[schema(examples(json!({"ready": true, "phase": "serving", "parts": {"encoder": "up", "index": "up", "collaborative": "up", "features": "up", "store": "up"},
    "encoder_version": "multilingual-e5-small-int8-1a2b3c4d-t256", "encoder_provider": "cpu", "encoder_has_slow_products": false})))]
pub(super) struct Health {
    /// Whether requests should be sent here.
    pub(super) ready: bool,
    /// Where the process is in its life.
    phase: Phase,
    /// How each part is.
    parts: BTreeMap<&'static str, PartState>,
    /// Which model reads texts: name, precision, source, limit; `null` before it has started.
    encoder_version: Option<String>,
    /// Where the encoder's forward passes run: `cpu` or `cuda`; `null` before it has started.
    encoder_provider: Option<&'static str>,
    /// Whether int8 runs at half its speed because the processor has no VNNI: `fp32` may be as fast there; `null` before it has started.
    encoder_has_slow_products: Option<bool>,
}

impl Readiness {
    /// Everything is starting. Registers the gauge `inkling_part_up{part}`; fails when it is there already.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let up = IntGaugeVec::new(Opts::new("inkling_part_up", "1 when the part is in use, 0 when answers go without it"), &["part"])?;
        registry.register(Box::new(up.clone()))?;
        for part in Part::ALL {
            up.with_label_values(&[part.name()]).set(0);
        }
        let parts = Part::ALL.into_iter().map(|part| (part, PartState::Starting)).collect();
        Ok(Self { state: Arc::new(RwLock::new(State { phase: Phase::Starting, parts, encoder: None })), up })
    }

    /// The process has come to that phase.
    pub fn enter(&self, phase: Phase) {
        self.change(|state| state.phase = phase);
    }

    /// The part is so now.
    pub fn set(&self, part: Part, now: PartState) {
        self.up.with_label_values(&[part.name()]).set(i64::from(now == PartState::Up));
        self.change(|state| {
            state.parts.insert(part, now);
        });
    }

    /// Which model reads texts from now on.
    pub fn set_encoder(&self, encoder: EncoderFacts) {
        self.change(|state| state.encoder = Some(encoder));
    }

    /// Serving, and one part at least is up to answer with.
    pub fn is_ready(&self) -> bool {
        self.health().ready
    }

    pub(super) fn health(&self) -> Health {
        // A poisoned lock holds a whole state all the same: each change is one assignment.
        let state = self.state.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        let parts: BTreeMap<_, _> = state.parts.iter().map(|(part, now)| (part.name(), *now)).collect();
        let answering = parts.values().any(|now| *now == PartState::Up);
        let encoder = state.encoder.clone();
        Health {
            ready: state.phase == Phase::Serving && answering,
            phase: state.phase,
            parts,
            encoder_provider: encoder.as_ref().map(|encoder| encoder.provider),
            encoder_has_slow_products: encoder.as_ref().map(|encoder| encoder.has_slow_products),
            encoder_version: encoder.map(|encoder| encoder.version),
        }
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.write().unwrap_or_else(std::sync::PoisonError::into_inner));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_means_serving_with_something_to_answer_with() {
        let registry = Registry::new();
        let readiness = Readiness::new(&registry).unwrap();

        readiness.enter(Phase::Serving);
        assert!(!readiness.is_ready());
        readiness.set(Part::Index, PartState::Up);
        assert!(readiness.is_ready());
        assert_eq!(readiness.health().encoder_provider, None);
        readiness.set_encoder(EncoderFacts { version: "a-int8".to_owned(), provider: "cpu", has_slow_products: true });
        let health = readiness.health();
        assert_eq!((health.encoder_provider, health.encoder_has_slow_products), (Some("cpu"), Some(true)));
        readiness.set(Part::Index, PartState::Down);
        assert!(!readiness.is_ready());
        readiness.set(Part::Store, PartState::Up);
        readiness.enter(Phase::Draining);
        assert!(!readiness.is_ready());
        assert!(readiness.up.with_label_values(&["store"]).get() == 1 && readiness.up.with_label_values(&["index"]).get() == 0);
    }
}
