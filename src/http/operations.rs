//! What operators and monitors ask: counts, health, metrics, training.

use std::{sync::Arc, time::Duration};

use axum::{
    extract::State,
    http::{StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use prometheus::TextEncoder;
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};

use super::{
    Desk, ReindexProgress, json,
    problem::{self, Kind, Problem, ProblemDocument},
    readiness::Health,
    uri::Query,
};

/// How long a training that nobody waits for may take to say that another is under way.
const REFUSAL_WAIT: Duration = Duration::from_millis(20);

/// How much there is.
#[derive(Debug, Serialize, ToSchema)]
#[schema(examples(json!({"items": {"total": 400, "pending": 0}, "events": {"total": 12000}, "reindex": null})))]
pub(super) struct Stats {
    items: ItemStats,
    events: EventStats,
    /// How far the index is that is built beside the one that answers; `null` when none is.
    reindex: Option<ReindexProgress>,
}

/// The catalogue.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ItemStats {
    /// In the catalogue.
    total: u64,
    /// Stored but not yet searchable; 0 means that all is.
    pending: u64,
}

/// The event log.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct EventStats {
    /// In the log.
    total: u64,
}

/// Count items and events
#[utoipa::path(get, path = "/stats", tag = "Operating", responses((status = 200, description = "How much there is", body = Stats)))]
pub(super) async fn stats(State(desk): State<Arc<Desk>>, uri: Uri) -> Result<Response, Problem> {
    Query::read(&uri, &[])?;
    let counts = desk.catalogue.counts().await?;
    let stats = Stats {
        items: ItemStats { total: counts.items, pending: desk.rooms.pending().await? },
        events: EventStats { total: counts.events },
        reindex: desk.rooms.reindexing().running,
    };
    Ok(json::answer(StatusCode::OK, &stats))
}

/// The process runs.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Live {
    live: bool,
}

/// Ask whether the process runs
///
/// Restart it when there is no answer.
#[utoipa::path(get, path = "/health/live", tag = "Operating", responses((status = 200, description = "It runs", body = Live)))]
pub(super) async fn live() -> Response {
    std::future::ready(json::answer(StatusCode::OK, &Live { live: true })).await
}

/// Problem details with the state of the parts.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct NotReady {
    #[serde(flatten)]
    problem: ProblemDocument,
    #[serde(flatten)]
    health: Health,
}

/// Ask whether requests should be sent here
///
/// 503 until the models are warm, while draining, and when no part is up to answer with. A part that is down costs quality,
/// not readiness; it shows here and in the gauge `inkling_part_up`.
#[utoipa::path(get, path = "/health/ready", tag = "Operating", responses((status = 200, description = "Ready", body = Health),
    (status = 503, description = "Not ready", body = NotReady, content_type = "application/problem+json")))]
pub(super) async fn ready(State(desk): State<Arc<Desk>>) -> Response {
    let health = desk.readiness.health();
    let response = if health.ready {
        json::answer(StatusCode::OK, &health)
    } else {
        let problem = Problem::new(Kind::NotReady, "ask another replica, or again in a moment").document();
        problem::extended(Kind::NotReady, &NotReady { problem, health })
    };
    std::future::ready(response).await
}

/// Read the metrics
///
/// Prometheus text.
#[utoipa::path(get, path = "/metrics", tag = "Operating", responses((status = 200, description = "All metrics", body = String, content_type = "text/plain")))]
pub(super) async fn metrics(State(desk): State<Arc<Desk>>) -> Response {
    let response = match TextEncoder::new().encode_to_string(&desk.registry.gather()) {
        Ok(text) => ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "the metrics could not be written: {error}");
            Problem::new(Kind::Internal, "the metrics could not be written").into_response()
        }
    };
    std::future::ready(response).await
}

/// Query of `POST /admin/train`.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "describes the query in the OpenAPI document; uri::Query reads it")]
pub(super) struct TrainQuery {
    /// Wait for the report.
    #[param(default = true)]
    wait: Option<bool>,
}

/// Train now
///
/// Answers with the report when done, or at once with `wait=false`. A training goes on when its caller is gone.
#[utoipa::path(post, path = "/admin/train", tag = "Operating", params(TrainQuery),
    responses((status = 200, description = "The report", body = Object), (status = 202, description = "It has begun: its state", body = Object),
        (status = 409, description = "One is under way already", body = ProblemDocument, content_type = "application/problem+json")))]
pub(super) async fn train(State(desk): State<Arc<Desk>>, uri: Uri) -> Result<Response, Problem> {
    if Query::read(&uri, &["wait"])?.flag("wait", true)? {
        return Ok(json::answer(StatusCode::OK, &desk.rooms.train().await?));
    }
    let rooms = Arc::clone(&desk.rooms);
    let (told, refused) = tokio::sync::oneshot::channel();
    tokio::spawn(async move {
        if let Err(error) = rooms.train().await
            && let Err(error) = told.send(error)
        {
            drop(Problem::from(error)); // logs what nobody waits for
        }
    });
    match tokio::time::timeout(REFUSAL_WAIT, refused).await {
        Ok(Ok(error)) => Err(error.into()),
        // Still at work, or done already without a complaint.
        Ok(Err(_)) | Err(_) => Ok(json::answer(StatusCode::ACCEPTED, &desk.rooms.training())),
    }
}

/// Read the state of training
#[utoipa::path(get, path = "/admin/train", tag = "Operating", responses((status = 200, description = "What the last training found, and whether one is under way", body = Object)))]
pub(super) async fn training(State(desk): State<Arc<Desk>>, uri: Uri) -> Result<Response, Problem> {
    Query::read(&uri, &[])?;
    std::future::ready(Ok(json::answer(StatusCode::OK, &desk.rooms.training()))).await
}
