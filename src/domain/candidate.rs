//! The pipeline's vocabulary: where candidates come from, what is known of each, and what an answer showed.

use serde::{Deserialize, Serialize};

use super::{ItemId, RecommendationId, SessionId, Timestamp, UserId};

/// Where a candidate was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// Near the text in meaning.
    Semantic,
    /// Shares words with the text.
    Lexical,
    /// Goes with what the user liked, by what others liked.
    Collaborative,
    /// Like the items the user looks at now.
    Similar,
    /// What many want.
    Popular,
    /// Near in meaning to something that the user liked or wrote lately, or shares its words.
    Profile,
    /// New, known to few, and of a sort that the user likes; only where lists keep places for such items.
    Fresh,
    /// Near, in an own vector such as that of an image, to something that the user looks at or liked lately.
    Vectors,
}

impl Source {
    /// All sources, in the order of [`Self::name`]s in answers.
    pub const ALL: [Self; 8] = [Self::Semantic, Self::Lexical, Self::Collaborative, Self::Similar, Self::Popular, Self::Profile, Self::Fresh, Self::Vectors];

    /// The name on the wire and in metric labels.
    pub fn name(self) -> &'static str {
        match self {
            Self::Semantic => "semantic",
            Self::Lexical => "lexical",
            Self::Collaborative => "collaborative",
            Self::Similar => "similar",
            Self::Popular => "popular",
            Self::Profile => "profile",
            Self::Fresh => "fresh",
            Self::Vectors => "vectors",
        }
    }
}

/// What the ranker looks at; one number each for every candidate, wherever it was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Feature {
    /// Cosine of text and item.
    Semantic,
    /// BM25 of text and item.
    Lexical,
    /// Item-item weights folded over the user's history.
    Collaborative,
    /// Cosine with, and co-occurrence with, the context items.
    Similar,
    /// Logarithm of the decayed count of good events.
    Popularity,
    /// 1 for an item that appears now, halved with age; 0 without a date.
    Freshness,
    /// 0 for an item that has nothing of what the text rejects, to 1 for one that is it.
    Rejected,
    /// How near in meaning the item is to something that the user liked or wrote lately.
    Profile,
    /// How many of the words of something that the user liked or wrote lately the item shares.
    Wording,
    /// How far the item's categories, tags and labels are those of what the user liked lately.
    Affinity,
    /// How near the item is, in one of its own vectors, to something that the user looks at or liked lately.
    Vectors,
}

impl Feature {
    /// All features, in the order of a [`FeatureVector`].
    pub const ALL: [Self; 11] = [
        Self::Semantic,
        Self::Lexical,
        Self::Collaborative,
        Self::Similar,
        Self::Popularity,
        Self::Freshness,
        Self::Rejected,
        Self::Profile,
        Self::Wording,
        Self::Affinity,
        Self::Vectors,
    ];

    /// The name in artefacts, settings and logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Semantic => "semantic",
            Self::Lexical => "lexical",
            Self::Collaborative => "collaborative",
            Self::Similar => "similar",
            Self::Popularity => "popularity",
            Self::Freshness => "freshness",
            Self::Rejected => "rejected",
            Self::Profile => "profile",
            Self::Wording => "wording",
            Self::Affinity => "affinity",
            Self::Vectors => "vectors",
        }
    }
}

/// One candidate's features, in the order of [`Feature::ALL`].
pub type FeatureVector = [f32; Feature::ALL.len()];

/// What one answer showed to whom: written by the store, read by training and experiments.
#[derive(Debug, Clone, PartialEq)]
pub struct Exposure {
    /// Names the answer.
    pub recommendation_id: RecommendationId,
    /// When it was given.
    pub at: Timestamp,
    /// To whom.
    pub user_id: Option<UserId>,
    /// In which visit.
    pub session_id: Option<SessionId>,
    /// The place in the shop.
    pub scenario: String,
    /// The items from the top.
    pub items: Vec<ShownItem>,
}

/// An item that an answer showed.
#[derive(Debug, Clone, PartialEq)]
pub struct ShownItem {
    /// Which.
    pub item_id: ItemId,
    /// What the ranker saw.
    pub features: FeatureVector,
    /// How likely it was to stand there, given what stands above: 1, but where the list explores.
    pub propensity: f32,
}

impl ShownItem {
    /// One that could not but stand there.
    pub fn certain(item_id: ItemId, features: FeatureVector) -> Self {
        Self { item_id, features, propensity: 1.0 }
    }
}
