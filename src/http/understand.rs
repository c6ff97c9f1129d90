//! `POST /understand`: what a text is about, without a list.

use std::{sync::Arc, time::Instant};

use axum::{
    extract::{Request, State},
    http::StatusCode,
    response::Response,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::domain::{FieldError, MAX_TEXT_CHARS};

use super::{
    Desk, body, json,
    problem::Problem,
    recommend::{IntentAnswer, fits},
};

/// What is to be understood.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(examples(json!({"text": "light jacket for rainy hikes, not black"})))]
pub(super) struct UnderstandBody {
    /// What a user typed, said or wrote.
    #[schema(max_length = 20_000)]
    text: String,
}

/// The intent, and what it lacks.
#[derive(Debug, Serialize, ToSchema)]
#[schema(examples(json!({"language": "en", "languages": [{"language": "en", "share": 1.0}], "categories": [{"category": "jackets", "probability": 0.71}],
    "clean_text": "light jacket for rainy hikes, not black", "wanted": "light jacket for rainy hikes", "rejected": ["black"], "truncated": false,
    "degraded": []})))]
pub(super) struct UnderstandAnswer<'a> {
    #[serde(flatten)]
    intent: IntentAnswer<'a>,
    /// Parts that could not be used: without the encoder there are no categories.
    degraded: Vec<&'static str>,
}

/// Understand a text
///
/// The `intent` of `/recommend` alone: languages, categories of this catalogue with probabilities, what is wanted and what is rejected.
#[utoipa::path(post, path = "/understand", tag = "Recommendations", request_body = UnderstandBody,
    responses((status = 200, description = "What was understood", body = UnderstandAnswer<'_>)))]
pub(super) async fn understand(State(desk): State<Arc<Desk>>, request: Request) -> Result<Response, Problem> {
    let deadline = Instant::now() + desk.deadline;
    let bytes = body::document(request).await?;
    let asked: UnderstandBody = json::parse(json::text(&bytes)?)?;
    if !fits(&asked.text) {
        return Err(Problem::invalid(vec![FieldError::new("/text", format!("must have at most {MAX_TEXT_CHARS} characters"))]));
    }
    let understood = desk.rooms.understand(&asked.text, deadline).await;
    let degraded = understood.degraded.iter().map(|part| part.name()).collect();
    Ok(json::answer(StatusCode::OK, &UnderstandAnswer { intent: IntentAnswer::of(&understood.intent), degraded }))
}
