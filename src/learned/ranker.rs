//! How much each feature counts, as it was fitted on a shop's own events.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Calibration;
use crate::domain::{Feature, FeatureVector};

/// Weights of the features' z-scores, one set for requests with a text and one for those without. `None`: the settings' weights did as well.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ranker {
    /// For requests with a text.
    #[serde(with = "by_name")]
    pub search: Option<FeatureVector>,
    /// For all others.
    #[serde(with = "by_name")]
    pub browse: Option<FeatureVector>,
    /// What the scores of requests with a text come to as chances. Versions of the time before have neither of the two.
    #[serde(default)]
    pub search_chances: Option<Calibration>,
    /// The same for all others.
    #[serde(default)]
    pub browse_chances: Option<Calibration>,
}

/// Weights by the features' names, so that an artefact outlives a new feature: what it does not name counts nothing.
pub(super) mod by_name {
    use serde::{Deserializer, Serializer, de::Error as _};

    use super::{BTreeMap, Deserialize, Feature, FeatureVector, Serialize};

    pub(in crate::learned) fn serialize<S: Serializer>(weights: &Option<FeatureVector>, serializer: S) -> Result<S::Ok, S::Error> {
        let named = |weights: &FeatureVector| Feature::ALL.iter().zip(*weights).map(|(feature, weight)| (feature.name(), weight)).collect::<BTreeMap<_, _>>();
        weights.as_ref().map(named).serialize(serializer)
    }

    pub(in crate::learned) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<FeatureVector>, D::Error> {
        let named: Option<BTreeMap<String, f32>> = Option::deserialize(deserializer)?;
        let Some(named) = named else { return Ok(None) };
        if named.values().any(|weight| !weight.is_finite()) {
            return Err(D::Error::custom("a weight is not finite"));
        }
        Ok(Some(Feature::ALL.map(|feature| named.get(feature.name()).copied().unwrap_or(0.0))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_kept_by_name_and_a_feature_that_is_not_named_counts_nothing() {
        let ranker = Ranker { search: Some(std::array::from_fn(|i| i as f32)), ..Ranker::default() };

        let json = serde_json::to_string(&ranker).unwrap();

        assert_eq!(serde_json::from_str::<Ranker>(&json).unwrap(), ranker);
        let old: Ranker = serde_json::from_str(r#"{"search": {"lexical": 0.5, "gone": 2.0}, "browse": null}"#).unwrap();
        let lexical_alone = Feature::ALL.map(|feature| if feature == Feature::Lexical { 0.5 } else { 0.0 });
        assert_eq!(old, Ranker { search: Some(lexical_alone), ..Ranker::default() });
    }
}
