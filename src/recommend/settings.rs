//! `[recommend]`: how wide sources look and how much each feature counts.

use serde::{Deserialize, Serialize};

use crate::domain::{Feature, FeatureVector};

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
