//! Moving to another model while requests are answered: asked for here, done by `app`.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use axum::{
    extract::{Request, State},
    http::{HeaderValue, StatusCode, Uri, header},
    response::Response,
};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use utoipa::ToSchema;

use crate::{
    domain::FieldError,
    encoder::Precision,
    index::{LatinStemmer, LexicalSettings},
};

use super::{
    Desk, body, json,
    problem::{Problem, ProblemDocument},
    uri::Query,
};

/// What the index is to be built by; what is `None` stays as it is.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ReindexRequest {
    /// A model's name.
    pub model: Option<String>,
    /// What it computes in.
    pub precision: Option<Precision>,
    /// The stemmer of `[index.lexical]`.
    pub latin_stemmer: Option<LatinStemmer>,
    /// `index.lexical.average_length`.
    pub average_length: Option<f32>,
    /// `index.lexical.title_weight`.
    pub title_weight: Option<f32>,
}

/// Why nothing began.
#[derive(Debug, thiserror::Error)]
pub enum ReindexError {
    /// One is under way.
    #[error("a reindex is under way already; GET /admin/reindex says how far it is")]
    Busy,
    /// That cannot be built here: an unknown model, one that is not prepared.
    #[error("the index cannot be built so")]
    Refused(Vec<FieldError>),
    /// Something is broken: the models folder cannot be read.
    #[error("{0}")]
    Failed(String),
}

/// Builds the index anew beside the one that answers.
#[async_trait]
pub trait Reindexing: Send + Sync {
    /// Begins, and says how it stands.
    async fn begin(&self, asked: ReindexRequest) -> Result<ReindexState, ReindexError>;

    /// How it stands.
    fn state(&self) -> ReindexState;
}

/// How far a reindex is.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct ReindexProgress {
    /// The model that the index is built by.
    pub model: String,
    /// What it computes in.
    #[schema(value_type = String, examples("int8"))]
    pub precision: Precision,
    /// `starting` the model, `filling` the new collection, `swapping`, `retiring` the old collection when its last reader is gone.
    pub phase: ReindexPhase,
    /// Item states that the new collection has.
    pub done: u64,
    /// Item states that there are, deleted ones included.
    pub total: u64,
}

/// What a reindex does now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReindexPhase {
    /// The model starts beside the one that answers.
    Starting,
    /// The new collection is filled.
    Filling,
    /// The new one takes over.
    Swapping,
    /// Requests use the new one; the old one goes when its last reader is gone.
    Retiring,
}

/// What the index is built by.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct BuiltBy {
    /// The model.
    pub model: String,
    /// What it computes in.
    #[schema(value_type = String, examples("int8"))]
    pub precision: Precision,
    /// The encoder's version: model, precision, source and limit in one name.
    pub encoder_version: String,
    /// The collection's folder in `index/`.
    pub collection: String,
}

/// How the last reindex of this process ended.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct ReindexOutcome {
    /// The model that the index was to be built by.
    pub model: String,
    /// What it computes in.
    #[schema(value_type = String, examples("int8"))]
    pub precision: Precision,
    /// Item states that the new collection had when it took over.
    pub done: u64,
    /// How long it took until then.
    pub seconds: f64,
    /// Why it failed; `null` where it took over.
    pub error: Option<String>,
}

/// How reindexing stands.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[schema(examples(json!({"catalogue": "0199a000-0000-7000-8000-000000000001",
    "running": {"model": "all-minilm-l6-v2", "precision": "int8", "phase": "filling", "done": 1200, "total": 4000},
    "serving": {"model": "multilingual-e5-small", "precision": "int8", "encoder_version": "multilingual-e5-small-int8-1a2b3c4d-t256",
    "collection": "multilingual-e5-small-int8-1a2b3c4d-t256"}, "last": null, "change_settings": {"encoder.model": "all-minilm-l6-v2"}})))]
pub struct ReindexState {
    /// Whose index it is: the database's name for itself, another one after each restore.
    pub catalogue: String,
    /// The one that is under way.
    pub running: Option<ReindexProgress>,
    /// What answers use.
    pub serving: BuiltBy,
    /// How the last one of this process ended.
    pub last: Option<ReindexOutcome>,
    /// Settings that must be changed before the next start, which is refused otherwise: to what serves, or to what is under way.
    pub change_settings: BTreeMap<String, Json>,
}

/// What the index is to be built by; what is absent stays as it is.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(examples(json!({"model": "all-minilm-l6-v2", "precision": "int8"})))]
pub(super) struct ReindexBody {
    /// A model that is prepared on the server: `inkling model list` names them, `inkling model fetch NAME` prepares one.
    model: Option<String>,
    /// `fp32`, `int8` (processors) or `fp16` (GPUs). Absent with a `model`: as `encoder.precision` of the running server says, else as the
    /// model's manifest does.
    #[schema(value_type = Option<String>, examples("int8"))]
    precision: Option<Precision>,
    lexical: Option<LexicalBody>,
}

/// `[index.lexical]`: how texts become words.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct LexicalBody {
    /// `english` or `none`.
    #[schema(value_type = Option<String>, examples("english"))]
    latin_stemmer: Option<LatinStemmer>,
    /// Words of an item neither short nor long.
    #[schema(minimum = 1, maximum = 1_000_000)]
    average_length: Option<f32>,
    /// How many words of the text one of the title counts as.
    #[schema(minimum = 0, maximum = 1_000)]
    title_weight: Option<f32>,
}

impl ReindexBody {
    fn checked(self) -> Result<ReindexRequest, Problem> {
        let LexicalBody { latin_stemmer, average_length, title_weight } = self.lexical.unwrap_or_default();
        let mut faults = Vec::new();
        for (pointer, value, least, most) in
            [("/lexical/average_length", average_length, 1.0, 1_000_000.0), ("/lexical/title_weight", title_weight, 0.0, 1_000.0)]
        {
            if value.is_some_and(|value| !(least..=most).contains(&value)) {
                faults.push(FieldError::new(pointer, format!("must be {least} to {most}")));
            }
        }
        if faults.is_empty() {
            Ok(ReindexRequest { model: self.model, precision: self.precision, latin_stemmer, average_length, title_weight })
        } else {
            Err(Problem::invalid(faults))
        }
    }
}

impl ReindexRequest {
    /// `[index.lexical]` as asked for, where it is `now` else.
    pub fn lexical(&self, now: &LexicalSettings) -> LexicalSettings {
        LexicalSettings {
            latin_stemmer: self.latin_stemmer.unwrap_or(now.latin_stemmer),
            average_length: self.average_length.unwrap_or(now.average_length),
            title_weight: self.title_weight.unwrap_or(now.title_weight),
        }
    }
}

/// Build the index anew, by another model
///
/// Requests are answered as before meanwhile, by the old model, and then by the new one from one answer to the next. Nothing is downloaded: a model
/// that is not prepared is refused with the command that prepares it. What has to be set before the next start is in `change_settings`.
#[utoipa::path(post, path = "/admin/reindex", tag = "Operating", request_body = ReindexBody,
    responses((status = 202, description = "It has begun; `GET /admin/reindex` (`Location`) says how far it is", body = ReindexState),
        (status = 409, description = "One is under way already", body = ProblemDocument, content_type = "application/problem+json")))]
pub(super) async fn reindex(State(desk): State<Arc<Desk>>, request: Request) -> Result<Response, Problem> {
    let bytes = body::document(request).await?;
    let asked: ReindexBody = json::parse(json::text(&bytes)?)?;
    let state = desk.rooms.reindex(asked.checked()?).await?;
    let mut response = json::answer(StatusCode::ACCEPTED, &state);
    response.headers_mut().insert(header::LOCATION, HeaderValue::from_static("/admin/reindex"));
    Ok(response)
}

/// Read how reindexing stands
#[utoipa::path(get, path = "/admin/reindex", tag = "Operating",
    responses((status = 200, description = "What is under way, what serves, and how the last one ended", body = ReindexState)))]
pub(super) async fn reindexing(State(desk): State<Arc<Desk>>, uri: Uri) -> Result<Response, Problem> {
    Query::read(&uri, &[])?;
    std::future::ready(Ok(json::answer(StatusCode::OK, &desk.rooms.reindexing()))).await
}
