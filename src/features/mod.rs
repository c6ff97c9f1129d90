//! Floor 2: what we know right now. Item states and events come in through `ingest`, requests read.
//!
//! [`Columns`] holds every item's facts, [`Rulebook`] the merchandiser's rules, [`Histories`] the recent acts of users, [`Popularity`] what many want, [`Showings`] what visits were shown;
//! [`Signals`] reads acts as signed weights, by the rules of a preset and the settings; a [`Situation`] is what was known at another time. All of it is derived from the store and rebuilt at start.

mod columns;
mod counters;
mod histories;
mod popularity;
mod rulebook;
mod rules;
mod showings;
mod signals;
mod situation;

pub use columns::{Columns, Table};
pub use histories::{Histories, History, Loaded, Recollection, Written};
pub use popularity::{MOST_ANSWERS, Popularity, Ranking};
pub use rulebook::{InvalidRules, MAX_RULES, Origin, Rulebook, WrittenRule, check_rules};
pub use rules::{EventRule, FeatureSettings, InvalidRule, Preset, Repeated, ValueKind, presets_table};
pub use showings::Showings;
pub use signals::{Act, Kind, Opinion, Signals};
pub use situation::Situation;

use crate::domain::{DAY_MS, ItemFacts, Timestamp};

/// 1 for an item that appears now, halved with every half-life of age; 0 without a date.
pub fn freshness(item: &ItemFacts, now: Timestamp, half_life_days: f32) -> f32 {
    let Some(created) = item.created_at else { return 0.0 };
    let age_days = (now.millis() - created.millis()).max(0) as f32 / DAY_MS as f32;
    (-age_days / half_life_days.max(1e-3)).exp2()
}
