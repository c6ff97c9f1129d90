//! What a caller asks for and what comes back, checked: `http` makes the one from JSON and the other into JSON.

use std::{fmt, time::Instant};

use serde::{Deserialize, Serialize};

use crate::domain::{Actor, Filter, ItemFacts, ItemId, RecommendationId, RuleName, SessionId, Source, Timestamp, UserId};

use super::{
    cursor::Cursor,
    understand::{CategoryProbability, LanguageShare, Understood},
};

/// The most items of one answer.
pub const MAX_LIMIT: usize = 200;

/// A checked request; `http` fills in the defaults.
#[derive(Debug, Clone)]
pub struct RecommendationRequest {
    /// Whose history and taste count.
    pub user_id: Option<UserId>,
    /// The visit; its events count where the user's do not tell, or beside them.
    pub session_id: Option<SessionId>,
    /// What the user typed, said or wrote, not cleaned yet.
    pub text: Option<String>,
    /// What the user looks at now.
    pub items: Vec<ItemId>,
    /// The place in the shop.
    pub scenario: String,
    /// 1 to [`MAX_LIMIT`].
    pub limit: usize,
    /// Only items that satisfy it.
    pub filter: Option<Filter>,
    /// Never these.
    pub exclude_items: Vec<ItemId>,
    /// Leave out what the user has seen; the preset decides where it is absent.
    pub exclude_seen: Option<bool>,
    /// More (or less) of some items.
    pub boosts: Vec<Boost>,
    /// 0 (best first) to 1 (as different from each other as can be); the scenario's policy decides where it is absent.
    pub diversity: Option<f32>,
    /// Say why.
    pub explain: bool,
    /// Whether an answer's items should carry their texts; all else of an item is in memory.
    pub with_texts: bool,
    /// The page after the one that gave this.
    pub after: Option<Cursor>,
    /// When it was asked.
    pub now: Timestamp,
    /// By when an answer must be there; late sources are left out.
    pub deadline: Instant,
}

impl RecommendationRequest {
    /// A request that touches every part, for the first moments of a process.
    pub fn warm_up(now: Timestamp, deadline: Instant) -> Self {
        Self {
            user_id: None,
            session_id: None,
            text: Some("a warm welcome".to_owned()),
            items: Vec::new(),
            scenario: "warm-up".to_owned(),
            limit: 10,
            filter: None,
            exclude_items: Vec::new(),
            exclude_seen: None,
            boosts: Vec::new(),
            diversity: None,
            explain: false,
            with_texts: false,
            after: None,
            now,
            deadline,
        }
    }

    /// The user where there is one, else the visit.
    pub fn actor(&self) -> Option<Actor> {
        Actor::of(self.user_id.as_ref(), self.session_id.as_ref())
    }
}

/// Items that satisfy `filter` rank higher (factor above 1) or lower (below 1).
#[derive(Debug, Clone)]
pub struct Boost {
    /// Which items.
    pub filter: Filter,
    /// 0.01 to 100; its logarithm is added to the score, so two boosts multiply.
    pub factor: f32,
}

/// What was understood of the text.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Intent {
    /// ISO 639-1 code of the language of most of it, where it could be told.
    pub language: Option<&'static str>,
    /// All its languages, largest share first.
    pub languages: Vec<LanguageShare>,
    /// Categories of the catalogue that it is about, most probable first.
    pub categories: Vec<CategoryProbability>,
    /// The text without markup and what nobody sees.
    pub clean_text: String,
    /// What was searched for: the text without what it rejects. May be empty.
    pub wanted: String,
    /// What it rejects, in its own words.
    pub rejected: Vec<String>,
    /// Only the beginning of a long text was encoded.
    pub truncated: bool,
}

impl Intent {
    /// Of a text and, where it could be encoded, its categories.
    pub(super) fn of(understood: Understood, categories: Vec<CategoryProbability>, truncated: bool) -> Self {
        let language = understood.language();
        let Understood { cleaned, wanted, rejected, languages } = understood;
        Self { language, languages, categories, clean_text: cleaned, wanted, rejected, truncated }
    }
}

/// What `/understand` answers.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Understanding {
    /// What was understood.
    pub intent: Intent,
    /// What could not be used.
    pub degraded: Vec<Part>,
}

/// A part that could not be used for an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// Text could not be encoded.
    Encoder,
    /// The vector index did not answer.
    Index,
    /// Collaborative weights could not be used.
    Collaborative,
    /// Histories or counters could not be read.
    Features,
    /// The database did not answer.
    Store,
}

impl Part {
    /// All parts.
    pub const ALL: [Self; 5] = [Self::Encoder, Self::Index, Self::Collaborative, Self::Features, Self::Store];

    /// The name on the wire and in metric labels.
    pub fn name(self) -> &'static str {
        match self {
            Self::Encoder => "encoder",
            Self::Index => "index",
            Self::Collaborative => "collaborative",
            Self::Features => "features",
            Self::Store => "store",
        }
    }
}

/// The answer.
#[derive(Debug, Clone)]
pub struct Recommendation {
    /// Names the answer, for events that follow from it.
    pub recommendation_id: RecommendationId,
    /// What was understood; `None` without a text.
    pub intent: Option<Intent>,
    /// Best first.
    pub items: Vec<RecommendedItem>,
    /// Asks for the next page; `None` when there is nothing more.
    pub next: Option<Cursor>,
    /// What could not be used, each once, in the order of [`Part::ALL`].
    pub degraded: Vec<Part>,
}

/// One item of an answer.
#[derive(Debug, Clone)]
pub struct RecommendedItem {
    /// What filters and fields know of it.
    pub facts: std::sync::Arc<ItemFacts>,
    /// The item's own text; only with `with_texts` or `explain`.
    pub text: Option<String>,
    /// 1 for the first of the first page.
    pub position: usize,
    /// The ranker's additive score before arranging.
    pub score: f32,
    /// How often items of such a score, boosts apart, were what was liked next; once that was learned.
    pub probability: Option<f32>,
    /// Where it was found.
    pub sources: Vec<Source>,
    /// Why arranging moved it.
    pub arranged: Option<Arranged>,
    /// Only with `explain`.
    pub explanation: Option<Explanation>,
}

/// Why an item does not stand where its score would put it; written as the contract names it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Arranged {
    /// It differs from what stands above it.
    Diversity,
    /// It has one of the places of items that few know yet.
    Cold,
    /// It was drawn from further down, to learn how it does.
    Explored,
    /// It came up for items of which the list has enough.
    Quota,
    /// The visit has seen it and passed it over.
    Repeated,
    /// A merchandiser's rule put it there.
    Pinned,
    /// A merchandiser's rule moved it, or what stood above it.
    Rule(RuleName),
}

impl fmt::Display for Arranged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Diversity => f.write_str("diversity"),
            Self::Cold => f.write_str("cold"),
            Self::Explored => f.write_str("explored"),
            Self::Quota => f.write_str("quota"),
            Self::Repeated => f.write_str("repeated"),
            Self::Pinned => f.write_str("pinned"),
            Self::Rule(name) => write!(f, "rule:{name}"),
        }
    }
}

/// Why an item is there.
#[derive(Debug, Clone, PartialEq)]
pub struct Explanation {
    /// One sentence in the language of the request.
    pub summary: String,
    /// Named parts that add up to the score.
    pub contributions: Vec<(&'static str, f32)>,
    /// The items of the history (or context) that did most of the collaborative part.
    pub because: Vec<(ItemId, f32)>,
    /// Words of the request that the item has.
    pub matched: Vec<String>,
}
