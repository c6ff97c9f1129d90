//! `POST /feedback`: what users did.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    http::StatusCode,
    response::Response,
};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    domain::{Event, Timestamp},
    ingest::{EventOutcome, IngestError},
};

use super::{
    Desk,
    batch::{self, Fate, Feed, Rejection},
    json,
    problem::Problem,
    rooms::Rooms,
};

/// One event, an array of them, or `{"events": […]}`.
#[derive(ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "describes the body in the OpenAPI document; batch.rs reads it")]
pub(super) enum FeedbackBody {
    One(Event),
    Many(Vec<Event>),
    Named { events: Vec<Event> },
}

/// What became of the events.
#[derive(Debug, Serialize, ToSchema)]
#[schema(examples(json!({"accepted": 3, "duplicates": 1, "rejected": [{"index": 4, "pointer": "/type", "detail": "unknown type \"clik\""}]})))]
pub(super) struct FeedbackAnswer {
    /// On disk and counted.
    accepted: u64,
    /// Known by their `event_id` already; nothing changed.
    duplicates: u64,
    /// Not stored, and why: the first 1,000.
    rejected: Vec<Rejection>,
    /// How many were rejected, when more than are listed.
    #[serde(skip_serializing_if = "Option::is_none")]
    rejected_total: Option<u64>,
}

struct Events<'a>(&'a dyn Rooms);

impl Feed for Events<'_> {
    type Entry = Event;
    const LIST: &'static str = "events";

    async fn write(&self, events: Vec<Event>) -> Result<Vec<Fate>, IngestError> {
        let outcomes = self.0.events(events, Timestamp::now()).await?;
        Ok(outcomes
            .into_iter()
            .map(|outcome| match outcome {
                EventOutcome::Accepted => Fate::Accepted,
                EventOutcome::Duplicate => Fate::Duplicate,
                EventOutcome::Rejected(faults) => Fate::Rejected(faults),
            })
            .collect())
    }
}

/// Report events
///
/// One event, an array, `{"events": […]}`, or a stream of lines (`application/x-ndjson`) of any length. `text/plain` with
/// JSON works too, for `navigator.sendBeacon`. 200 means that the accepted events are on disk; events with an `event_id`
/// can be sent again without counting twice.
#[utoipa::path(post, path = "/feedback", tag = "Feedback",
    request_body(content(
        (FeedbackBody = "application/json", examples(
            ("one" = (summary = "One event", value = json!({"event_id": "e-1", "type": "click", "user_id": "u42", "session_id": "s9", "item_id": "sku-3",
                "recommendation_id": "01993f6e-8a70-7c22-b6c1-0d6b8f1f7a10", "timestamp": "2026-11-23T12:00:00Z"}))),
            ("many" = (summary = "An array", value = json!([{"type": "view", "session_id": "s9", "item_id": "sku-3"},
                {"type": "rating", "user_id": "u42", "item_id": "sku-3", "value": 4.5}]))),
            ("named" = (summary = "A named list", value = json!({"events": [{"type": "search", "user_id": "u42", "text": "rain jacket"}]})))
        )),
        (Event = "application/x-ndjson"),
        (FeedbackBody = "text/plain")
    )),
    responses((status = 200, description = "What became of each event", body = FeedbackAnswer)))]
pub(super) async fn feedback(State(desk): State<Arc<Desk>>, request: Request) -> Result<Response, Problem> {
    let tally = batch::take(&Events(&*desk.rooms), request, true, desk.patience).await?;
    let rejected_total = tally.rejected_total();
    let answer = FeedbackAnswer { accepted: tally.accepted, duplicates: tally.duplicates, rejected: tally.rejected, rejected_total };
    Ok(json::answer(StatusCode::OK, &answer))
}
