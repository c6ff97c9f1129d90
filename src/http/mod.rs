//! Floor 4: the doors. HTTP in, checked requests to the rooms below, JSON out.
//!
//! `gate` counts, asks for keys, bounds and times; a handler checks its input with `json`, `uri` and the domain's own rules,
//! calls a room and answers from a typed struct; what fails becomes a `problem`. [`router`] makes all of it, without a socket.

mod auth;
mod batch;
mod body;
mod catalogue;
mod feedback;
mod fields;
mod gate;
mod items;
mod json;
mod openapi;
mod operations;
mod pages;
mod problem;
mod readiness;
mod recommend;
mod reindex;
mod rooms;
mod rules;
mod settings;
#[cfg(test)]
mod tests;
mod understand;
mod uri;
mod users;

use std::{any::Any, sync::Arc, time::Duration};

use axum::{
    Router,
    body::Bytes,
    http::{HeaderName, HeaderValue, Method, StatusCode, header},
    middleware,
    response::{IntoResponse, Response},
    routing,
};
use tower_http::{
    catch_panic::CatchPanicLayer,
    cors::{AllowOrigin, CorsLayer},
};
use utoipa::OpenApi;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{ingest::Ingest, recommend::Recommender, store::Store, telemetry::Registry, training::Trainer};

pub use catalogue::{Catalogue, CatalogueError, Counts};
pub use json::read_document;
pub use readiness::{EncoderFacts, PartState, Phase, Readiness};
pub use reindex::{BuiltBy, ReindexError, ReindexOutcome, ReindexPhase, ReindexProgress, ReindexRequest, ReindexState, Reindexing};
pub use settings::{HttpSettings, InvalidKeyHash, KeyHash, KeySettings, hash_key};

use problem::{Kind, Problem};
use rooms::{House, Rooms};

/// The route label of requests that no route knows.
const UNMATCHED: &str = "unmatched";

/// What the doors open to.
pub struct Doors {
    /// The read path.
    pub recommender: Recommender,
    /// The write path.
    pub ingest: Ingest,
    /// The learn path.
    pub trainer: Trainer,
    /// Builds the index anew.
    pub reindexing: Arc<dyn Reindexing>,
    /// Reads of the catalogue.
    pub catalogue: Arc<dyn Catalogue>,
    /// Reads of what is kept of people.
    pub store: Store,
    /// What `/health/ready` says.
    pub readiness: Readiness,
    /// What `/metrics` shows; the doors' own metrics go there too.
    pub registry: Registry,
    /// `[http]`
    pub settings: HttpSettings,
}

/// Why the doors could not be made.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// Not an origin that a browser would send.
    #[error("http.cors_origins: {0:?} is no origin such as \"https://shop.example\", or \"*\"")]
    InvalidOrigin(String),
    /// The registry has metrics of these names already.
    #[error("the metrics of the doors could not be registered: {0}")]
    Metrics(#[from] prometheus::Error),
    /// The API's description could not be written.
    #[error("the OpenAPI document could not be written: {0}")]
    Document(#[from] serde_json::Error),
}

/// What every handler is given.
struct Desk {
    rooms: Arc<dyn Rooms>,
    catalogue: Arc<dyn Catalogue>,
    readiness: Readiness,
    registry: Registry,
    deadline: Duration,
    patience: Duration,
    openapi: Bytes,
    docs: Arc<utoipa_swagger_ui::Config<'static>>,
}

/// Everything that is served, complete with all layers: give it to `axum::serve`, or ask it without a socket.
pub fn router(doors: Doors) -> Result<Router, HttpError> {
    let Doors { recommender, ingest, trainer, reindexing, catalogue, store, readiness, registry, settings } = doors;
    assemble(Arc::new(House { recommender, ingest, trainer, reindexing, store }), catalogue, readiness, registry, &settings)
}

fn assemble(
    rooms: Arc<dyn Rooms>,
    catalogue: Arc<dyn Catalogue>,
    readiness: Readiness,
    registry: Registry,
    settings: &HttpSettings,
) -> Result<Router, HttpError> {
    let cors = cors(&settings.cors_origins)?;
    let gate = Arc::new(gate::Gate::new(settings, &registry)?);
    let (router, mut document) = described().split_for_parts();
    openapi::complete(&mut document, settings.open_metrics);
    let desk = Arc::new(Desk {
        rooms,
        catalogue,
        readiness,
        registry,
        deadline: Duration::from_millis(settings.deadline_ms),
        patience: Duration::from_millis(settings.request_timeout_ms),
        openapi: serde_json::to_vec(&document)?.into(),
        docs: Arc::new(pages::docs_config()),
    });
    let router = router
        .route("/docs/", routing::get(pages::docs_file))
        .route("/docs/{*file}", routing::get(pages::docs_file))
        .fallback(|| std::future::ready(Problem::new(Kind::NotFound, "there is nothing at this address; /openapi.json lists what there is")))
        .method_not_allowed_fallback(|method: Method| std::future::ready(wrong_method(&method)))
        .with_state(desk)
        // Inside the gate, so that a panic is counted like every other answer.
        .layer(CatchPanicLayer::custom(|panic: Box<dyn Any + Send>| after_panic(&*panic)))
        .layer(middleware::from_fn_with_state(gate, gate::pass));
    Ok(match cors {
        Some(cors) => router.layer(cors),
        None => router,
    })
}

/// All routes of the API; what is registered here is described, too.
fn described() -> OpenApiRouter<Arc<Desk>> {
    OpenApiRouter::with_openapi(openapi::Document::openapi())
        .routes(routes!(recommend::recommend))
        .routes(routes!(understand::understand))
        .routes(routes!(recommend::similar))
        .routes(routes!(recommend::similar_twin))
        .routes(routes!(feedback::feedback))
        .routes(routes!(items::get_items, items::post_items, items::put_item_twin, items::patch_item_twin, items::delete_item_twin))
        .routes(routes!(items::get_item, items::put_item, items::patch_item, items::delete_item))
        .routes(routes!(users::get_user_twin, users::delete_user_twin))
        .routes(routes!(users::get_user, users::delete_user))
        .routes(routes!(users::export_user))
        .routes(routes!(users::export_user_twin))
        .routes(routes!(users::merge_user))
        .routes(routes!(users::merge_user_twin))
        .routes(routes!(users::delete_session))
        .routes(routes!(users::delete_session_twin))
        .routes(routes!(operations::stats))
        .routes(routes!(operations::live))
        .routes(routes!(operations::ready))
        .routes(routes!(operations::metrics))
        .routes(routes!(operations::train, operations::training))
        .routes(routes!(reindex::reindex, reindex::reindexing))
        .routes(routes!(rules::get_rules))
        .routes(routes!(rules::get_rule, rules::put_rule, rules::delete_rule))
        .routes(routes!(pages::playground))
        .routes(routes!(pages::openapi))
        .routes(routes!(pages::docs))
}

/// axum adds the `Allow` header to what this answers.
fn wrong_method(method: &Method) -> Response {
    if method == Method::OPTIONS {
        return StatusCode::NO_CONTENT.into_response();
    }
    Problem::new(Kind::MethodNotAllowed, "see the Allow header for the methods that are").into_response()
}

/// The last net: a bug, but the caller still gets an answer, and the connection lives. The panic's own words may hold what a
/// user typed, so they are not repeated.
fn after_panic(_: &(dyn Any + Send)) -> Response {
    tracing::error!("a request panicked");
    Problem::new(Kind::Internal, "a bug; the log says more").into_response()
}

fn cors(origins: &[String]) -> Result<Option<CorsLayer>, HttpError> {
    if origins.is_empty() {
        return Ok(None);
    }
    let allowed = if origins.iter().any(|origin| origin == "*") {
        AllowOrigin::any()
    } else {
        let invalid = |origin: &str| HttpError::InvalidOrigin(origin.to_owned());
        let read = |origin: &String| match origin.split_once("://") {
            Some((_, host)) if !host.is_empty() && !host.contains('/') => HeaderValue::from_str(origin).map_err(|_| invalid(origin)),
            _ => Err(invalid(origin)),
        };
        AllowOrigin::list(origins.iter().map(read).collect::<Result<Vec<_>, _>>()?)
    };
    let layer = CorsLayer::new()
        .allow_origin(allowed)
        .allow_methods([Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE])
        .allow_headers([header::CONTENT_TYPE, header::AUTHORIZATION, HeaderName::from_static("x-api-key")])
        .expose_headers([header::RETRY_AFTER])
        .max_age(Duration::from_secs(3_600));
    Ok(Some(layer))
}
