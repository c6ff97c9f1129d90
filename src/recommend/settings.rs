//! `[recommend]`: how wide sources look, how much each feature counts, how lists are arranged.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    domain::{Feature, FeatureVector, NAME_RULE, is_name},
    features::Preset,
};

use super::request::MAX_LIMIT;

/// `[recommend]`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecommendSettings {
    /// Candidates of each source that goes by what people did.
    pub candidates: usize,
    /// Candidates of each source that goes by the text, or by likeness to items.
    pub text_candidates: usize,
    /// How much of what tells the catalogue's languages apart is taken out of a text's meaning: 0 nothing, 1 all.
    pub across_languages: f32,
    /// How much each feature counts.
    pub weights: Weights,
    /// Of the draws of exploration.
    pub seed: u64,
    /// How lists are arranged.
    pub arrange: Arrangement,
    /// How they are arranged in one place of the shop, by its name.
    #[serde(default)]
    pub scenarios: BTreeMap<String, Scenario>,
}

/// `[recommend.arrange]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Arrangement {
    /// Of requests that say nothing: 0 best first, 1 as different from each other as can be.
    pub diversity: f32,
    /// Items of a category in one list at most; 0 is no bound. The category that a filter names does not count.
    pub per_category: usize,
    /// What is taken from an item's score for each time that it stood in one of the visit's last answers and nothing was done with it.
    pub repeated: f32,
    /// Items of a list that are cold at least, as far as there are any.
    pub cold_slots: usize,
    /// An item with fewer good events than this, as popularity counts them, is cold.
    pub cold_events: f32,
    /// How likely a place is to show something from further down.
    pub exploration: f32,
}

/// `[recommend.scenarios.NAME]`: what is said here holds instead of [`Arrangement`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "they are those of Arrangement")]
pub struct Scenario {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub diversity: Option<f32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_category: Option<usize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repeated: Option<f32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cold_slots: Option<usize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cold_events: Option<f32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exploration: Option<f32>,
}

/// A setting of `[recommend]` that cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("setting {key}: {detail}")]
pub struct InvalidArrangement {
    /// The setting's whole name.
    pub key: String,
    /// What it must be.
    pub detail: &'static str,
}

impl RecommendSettings {
    /// How lists of a scenario are arranged.
    pub fn arrangement(&self, scenario: &str) -> Arrangement {
        self.scenarios.get(scenario).map_or_else(|| self.arrange.clone(), |own| own.over(&self.arrange))
    }

    /// Finds the first setting of how lists are arranged that cannot be.
    pub fn check(&self) -> Result<(), InvalidArrangement> {
        self.arrange.check("recommend.arrange")?;
        for (name, own) in &self.scenarios {
            let section = format!("recommend.scenarios.{name}");
            if !is_name(name) {
                return Err(InvalidArrangement { key: section, detail: NAME_RULE });
            }
            own.over(&self.arrange).check(&section)?;
        }
        Ok(())
    }
}

impl Arrangement {
    /// A list as it was ranked.
    pub const NONE: Self = Self { diversity: 0.0, per_category: 0, repeated: 0.0, cold_slots: 0, cold_events: 0.0, exploration: 0.0 };

    /// The popularity below which an item is cold, as the feature counts it.
    pub(super) fn cold_below(&self) -> f32 {
        self.cold_events.ln_1p()
    }

    fn check(&self, section: &str) -> Result<(), InvalidArrangement> {
        for (good, key, detail) in [
            ((0.0..=1.0).contains(&self.diversity), "diversity", "must be 0 to 1"),
            (self.per_category <= MAX_LIMIT, "per_category", "must be 0 to 200"),
            ((0.0..=100.0).contains(&self.repeated), "repeated", "must be 0 to 100"),
            (self.cold_slots <= MAX_LIMIT, "cold_slots", "must be 0 to 200"),
            ((0.0..=1.0).contains(&self.exploration), "exploration", "must be 0 to 1"),
            ((0.0..=1e9).contains(&self.cold_events), "cold_events", "must be 0 to 1,000,000,000"),
        ] {
            if !good {
                return Err(InvalidArrangement { key: format!("{section}.{key}"), detail });
            }
        }
        Ok(())
    }
}

impl Scenario {
    fn over(&self, all: &Arrangement) -> Arrangement {
        Arrangement {
            diversity: self.diversity.unwrap_or(all.diversity),
            per_category: self.per_category.unwrap_or(all.per_category),
            repeated: self.repeated.unwrap_or(all.repeated),
            cold_slots: self.cold_slots.unwrap_or(all.cold_slots),
            cold_events: self.cold_events.unwrap_or(all.cold_events),
            exploration: self.exploration.unwrap_or(all.exploration),
        }
    }
}

/// How much one standard deviation of each feature adds to the score; of `rejected`, how much it takes away from an item that is what the text rejects.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "they are the features")]
pub struct Weights {
    pub semantic: f32,
    pub lexical: f32,
    pub collaborative: f32,
    pub similar: f32,
    pub popularity: f32,
    pub freshness: f32,
    pub rejected: f32,
    pub profile: f32,
    pub wording: f32,
    pub affinity: f32,
    pub vectors: f32,
}

/// What a kind of site lets count otherwise than `default.toml` does; a guess to begin with, until its own events have fitted them. News are read
/// while they are new and talked of; what a piece of music is called says little of it; who asks for help is helped by what answers the question, and
/// by others' histories little.
pub fn weights_of(preset: Preset) -> &'static [(&'static str, f64)] {
    match preset {
        Preset::Shop | Preset::Video => &[],
        Preset::News => &[("popularity", 0.3), ("freshness", 0.3)],
        Preset::Music => &[("popularity", 0.2), ("wording", 0.1)],
        Preset::Support => &[("collaborative", 0.3), ("popularity", 0.2)],
    }
}

/// [`weights_of`] as a Markdown table of the features that any preset lets count otherwise; – where `default.toml` holds.
pub fn weights_table() -> String {
    let mut features: Vec<&str> = Preset::ALL.iter().flat_map(|preset| weights_of(*preset)).map(|(feature, _)| *feature).collect();
    features.sort_unstable();
    features.dedup();
    let row = |feature: &str| {
        let cell = |preset: Preset| weights_of(preset).iter().find(|(name, _)| *name == feature).map_or("–".to_owned(), |(_, weight)| weight.to_string());
        format!("| `{feature}` | {} |\n", Preset::ALL.map(cell).join(" | "))
    };
    let head = format!("| `recommend.weights` | {} |\n|---|{}\n", Preset::ALL.map(Preset::name).join(" | "), "---|".repeat(Preset::ALL.len()));
    features.into_iter().map(row).fold(head, |table, row| table + &row)
}

impl Weights {
    /// No feature counts.
    pub const NONE: Self = Self {
        semantic: 0.0,
        lexical: 0.0,
        collaborative: 0.0,
        similar: 0.0,
        popularity: 0.0,
        freshness: 0.0,
        rejected: 0.0,
        affinity: 0.0,
        profile: 0.0,
        wording: 0.0,
        vectors: 0.0,
    };

    /// In the order of the features.
    pub fn vector(&self) -> FeatureVector {
        Feature::ALL.map(|feature| self.of(feature))
    }

    fn of(&self, feature: Feature) -> f32 {
        match feature {
            Feature::Semantic => self.semantic,
            Feature::Lexical => self.lexical,
            Feature::Collaborative => self.collaborative,
            Feature::Similar => self.similar,
            Feature::Popularity => self.popularity,
            Feature::Freshness => self.freshness,
            Feature::Rejected => self.rejected,
            Feature::Profile => self.profile,
            Feature::Wording => self.wording,
            Feature::Affinity => self.affinity,
            Feature::Vectors => self.vectors,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_readme_has_the_weights_of_the_presets() {
        let readme = include_str!("../../README.md");

        assert!(readme.contains(&weights_table()), "put the output of `inkling config presets` into the README:\n{}", weights_table());
    }
}
