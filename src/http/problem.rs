//! Every error that leaves the house: RFC 9457 problem details. The only file that knows status codes of failures.
//!
//! Room errors are matched without `_`, so that a new variant must be placed here before anything compiles.

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{domain::FieldError, ingest::IngestError, recommend::RecommendError, training::TrainError};

use super::{CatalogueError, ReindexError};

/// The media type of a problem.
pub(super) const PROBLEM_JSON: &str = "application/problem+json";

/// What went wrong, as a closed list: each has a stable URI, a title and a status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    MalformedBody,
    InvalidInput,
    Unauthorized,
    Forbidden,
    NotFound,
    MethodNotAllowed,
    BodyTooSlow,
    Conflict,
    BodyTooLarge,
    UnsupportedMediaType,
    Overloaded,
    TimedOut,
    Unavailable,
    NotReady,
    Internal,
}

impl Kind {
    /// The type URI (relative: it is the same on every host), the title and the status.
    fn facts(self) -> (&'static str, &'static str, StatusCode) {
        match self {
            Self::MalformedBody => ("/problems/malformed-body", "The body cannot be read", StatusCode::BAD_REQUEST),
            Self::InvalidInput => ("/problems/invalid-input", "The input is not valid", StatusCode::UNPROCESSABLE_ENTITY),
            Self::Unauthorized => ("/problems/unauthorized", "A key is needed", StatusCode::UNAUTHORIZED),
            Self::Forbidden => ("/problems/forbidden", "The key does not open this door", StatusCode::FORBIDDEN),
            Self::NotFound => ("/problems/not-found", "There is nothing here", StatusCode::NOT_FOUND),
            Self::MethodNotAllowed => ("/problems/method-not-allowed", "The method is not allowed here", StatusCode::METHOD_NOT_ALLOWED),
            Self::BodyTooSlow => ("/problems/body-too-slow", "The body did not arrive in time", StatusCode::REQUEST_TIMEOUT),
            Self::Conflict => ("/problems/conflict", "Not now", StatusCode::CONFLICT),
            Self::BodyTooLarge => ("/problems/body-too-large", "The body is too large", StatusCode::PAYLOAD_TOO_LARGE),
            Self::UnsupportedMediaType => ("/problems/unsupported-media-type", "The content type is not understood", StatusCode::UNSUPPORTED_MEDIA_TYPE),
            Self::Overloaded => ("/problems/overloaded", "Too much is going on", StatusCode::SERVICE_UNAVAILABLE),
            Self::TimedOut => ("/problems/timed-out", "The answer took too long", StatusCode::SERVICE_UNAVAILABLE),
            Self::Unavailable => ("/problems/unavailable", "A part is not available", StatusCode::SERVICE_UNAVAILABLE),
            Self::NotReady => ("/problems/not-ready", "Not ready yet", StatusCode::SERVICE_UNAVAILABLE),
            Self::Internal => ("/problems/internal", "Something went wrong inside", StatusCode::INTERNAL_SERVER_ERROR),
        }
    }
}

/// One failure on its way out.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Problem {
    kind: Kind,
    detail: String,
    errors: Vec<FieldError>,
}

/// Problem details (RFC 9457).
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = Problem, examples(json!({"type": "/problems/invalid-input", "title": "The input is not valid", "status": 422,
    "detail": "/limit: must be 1 to 200", "errors": [{"pointer": "/limit", "detail": "must be 1 to 200"}]})))]
pub(super) struct ProblemDocument {
    /// Names the kind of problem; stable, relative to this server.
    #[serde(rename = "type")]
    kind: &'static str,
    /// The kind of problem in words.
    title: &'static str,
    /// The HTTP status once more.
    status: u16,
    /// What happened this time.
    detail: String,
    /// For bad input: what is wrong with which field.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<FieldError>,
}

impl Problem {
    pub(super) fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into(), errors: Vec::new() }
    }

    /// Bad input; the detail repeats the first fault for people who read only that.
    pub(super) fn invalid(errors: Vec<FieldError>) -> Self {
        let detail = match errors.as_slice() {
            [] => "the input is not valid".to_owned(),
            [first, ..] if first.pointer.is_empty() => format!("the document {}", first.detail),
            [first, ..] => format!("{}: {}", first.pointer, first.detail),
        };
        Self { kind: Kind::InvalidInput, detail, errors }
    }

    /// Adds a sentence to the detail.
    pub(super) fn adding(mut self, sentence: &str) -> Self {
        self.detail.push_str("; ");
        self.detail.push_str(sentence);
        self
    }

    /// The document that goes over the wire.
    pub(super) fn document(self) -> ProblemDocument {
        let (kind, title, status) = self.kind.facts();
        ProblemDocument { kind, title, status: status.as_u16(), detail: self.detail, errors: self.errors }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let kind = self.kind;
        let (_, _, status) = kind.facts();
        // A problem is strings and numbers: it always serialises.
        let body = serde_json::to_vec(&self.document()).unwrap_or_default();
        dress(kind, status, body)
    }
}

/// A problem with more members, such as the state of the parts: `document` serialises as a [`ProblemDocument`] and more.
pub(super) fn extended(kind: Kind, document: &impl Serialize) -> Response {
    let (_, _, status) = kind.facts();
    dress(kind, status, serde_json::to_vec(document).unwrap_or_default())
}

fn dress(kind: Kind, status: StatusCode, body: Vec<u8>) -> Response {
    let mut response = (status, [(header::CONTENT_TYPE, PROBLEM_JSON)], body).into_response();
    match kind {
        Kind::Unauthorized => drop(response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))),
        Kind::Overloaded | Kind::TimedOut | Kind::Unavailable | Kind::NotReady => {
            drop(response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1")));
        }
        // What is left of the body will not be read, so the connection cannot be used again.
        Kind::BodyTooSlow | Kind::BodyTooLarge => drop(response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"))),
        _ => {}
    }
    response
}

impl From<RecommendError> for Problem {
    fn from(error: RecommendError) -> Self {
        match error {
            RecommendError::ForeignCursor => Self::invalid(vec![FieldError::new("/after", "belongs to another request")]),
            RecommendError::NoSuchVector => Self::invalid(vec![FieldError::new("/by", "must name a vector of the item")]),
        }
    }
}

impl From<IngestError> for Problem {
    fn from(error: IngestError) -> Self {
        match error {
            IngestError::Overloaded => Self::new(Kind::Overloaded, error.to_string()),
            IngestError::Unavailable(reason) => {
                tracing::warn!(%reason, "a write failed: {reason}");
                Self::new(Kind::Unavailable, "the database cannot be written right now")
            }
        }
    }
}

impl From<CatalogueError> for Problem {
    fn from(error: CatalogueError) -> Self {
        match error {
            CatalogueError::Overloaded => Self::new(Kind::Overloaded, error.to_string()),
            CatalogueError::Unavailable(reason) => {
                tracing::warn!(%reason, "a read failed: {reason}");
                Self::new(Kind::Unavailable, "the database cannot be read right now")
            }
        }
    }
}

impl From<ReindexError> for Problem {
    fn from(error: ReindexError) -> Self {
        match error {
            ReindexError::Busy => Self::new(Kind::Conflict, error.to_string()),
            ReindexError::Refused(faults) => Self::invalid(faults),
            ReindexError::Failed(reason) => {
                tracing::error!(%reason, "a reindex could not begin: {reason}");
                Self::new(Kind::Unavailable, "the reindex could not begin; the log says why")
            }
        }
    }
}

impl From<TrainError> for Problem {
    fn from(error: TrainError) -> Self {
        match error {
            TrainError::Busy => Self::new(Kind::Conflict, error.to_string()),
            TrainError::Failed(reason) => {
                tracing::error!(%reason, "training failed: {reason}");
                Self::new(Kind::Unavailable, "the training failed; the log says why")
            }
        }
    }
}
