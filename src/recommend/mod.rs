//! Floor 3, the read path: a checked request in, a list of items with reasons out. It never writes to what it reads.
//!
//! understand → retrieve → rank → arrange → explain → expose

mod cursor;
mod request;

pub use cursor::{Cursor, InvalidCursor};
pub use request::{Boost, Explanation, Intent, MAX_LIMIT, Part, Recommendation, RecommendationRequest, RecommendedItem};

/// The read path; cheap to clone.
#[derive(Clone)]
pub struct Recommender {}

/// Why there is no answer at all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecommendError {
    /// The cursor belongs to another request.
    #[error("\"after\" belongs to another request")]
    ForeignCursor,
    /// No part of the pipeline could answer.
    #[error("nothing could be answered right now")]
    NothingAnswered,
}

impl Recommender {
    /// Answers a request.
    pub async fn recommend(&self, _request: RecommendationRequest) -> Result<Recommendation, RecommendError> {
        std::future::ready(Err(RecommendError::NothingAnswered)).await
    }

    /// The type the catalogue has fixed for an attribute name, for filters.
    pub fn attribute_type(&self, _name: &str) -> Option<crate::domain::AttributeType> {
        None
    }
}
