//! What every request passes before a handler sees it: counting, keys, the bound on work in flight, the body, the clock.
//!
//! One function instead of a stack of layers: the order is visible, and it costs one boxed future a request.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    body::{Body, HttpBody},
    extract::{MatchedPath, Request, State},
    http::{Method, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, IntGauge, Opts};
use tokio::sync::Semaphore;

use crate::telemetry::{Registry, SECONDS};

use super::{
    UNMATCHED,
    auth::Keys,
    body::{self, Media},
    problem::{Kind, Problem},
    settings::HttpSettings,
};

/// The largest honest `/recommend` (1,100 ids of 256 bytes, 20,000 characters of text, filters) is below it.
const RECOMMEND_BODY_BYTES: usize = 1 << 20;

pub(super) struct Gate {
    keys: Keys,
    places: Semaphore,
    patience: Duration,
    body_limit: usize,
    requests: IntCounterVec,
    seconds: HistogramVec,
    in_flight: IntGauge,
}

impl Gate {
    pub(super) fn new(settings: &HttpSettings, registry: &Registry) -> Result<Self, prometheus::Error> {
        let requests = IntCounterVec::new(Opts::new("inkling_http_requests_total", "answered requests"), &["route", "method", "status"])?;
        let seconds = HistogramOpts::new("inkling_http_request_seconds", "time from the request's head to the answer's head").buckets(SECONDS.to_vec());
        let seconds = HistogramVec::new(seconds, &["route"])?;
        let in_flight = IntGauge::new("inkling_http_in_flight_requests", "requests that are being worked on")?;
        registry.register(Box::new(requests.clone()))?;
        registry.register(Box::new(seconds.clone()))?;
        registry.register(Box::new(in_flight.clone()))?;
        Ok(Self {
            keys: Keys::new(settings),
            places: Semaphore::new(settings.max_in_flight.clamp(1, Semaphore::MAX_PERMITS)),
            patience: Duration::from_millis(settings.request_timeout_ms),
            body_limit: settings.body_limit_mb.saturating_mul(1 << 20),
            requests,
            seconds,
            in_flight,
        })
    }

    async fn serve(&self, route: &str, request: Request, next: Next) -> Result<Response, Problem> {
        self.keys.admit(request.method(), route, request.headers())?;
        let _place = if watches(route) {
            None // whoever watches must see the overload
        } else {
            Some(self.places.try_acquire().map_err(|_| Problem::new(Kind::Overloaded, "too many requests are being answered; try again in a moment"))?)
        };
        let streamed = matches!(route, "/feedback" | "/items") && body::media(request.headers()) == Ok(Media::Ndjson);
        let request = if streamed || route == UNMATCHED { request } else { self.with_body(route, request).await? };
        // A stream takes as long as its sender likes (each piece is timed), and a training as long as the data wants.
        if streamed || route == "/admin/train" {
            return Ok(next.run(request).await);
        }
        tokio::time::timeout(self.patience, next.run(request)).await.map_err(|_| Problem::new(Kind::TimedOut, "the answer took too long; try again"))
    }

    /// The request with its whole body in memory, so that slow senders and slow rooms are told apart.
    async fn with_body(&self, route: &str, request: Request) -> Result<Request, Problem> {
        if request.body().is_end_stream() {
            return Ok(request);
        }
        let limit = if route == "/recommend" { self.body_limit.min(RECOMMEND_BODY_BYTES) } else { self.body_limit };
        let announced = request.headers().get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
        if announced.is_some_and(|length| length > limit as u64) {
            // Who sends `Expect: 100-continue` waits for the verdict before the body.
            if !request.headers().contains_key(header::EXPECT) {
                body::discard(&mut request.into_body(), self.patience).await;
            }
            return Err(body::too_large(limit));
        }
        let (head, stream) = request.into_parts();
        let bytes = body::read(stream, limit, self.patience).await?;
        Ok(Request::from_parts(head, Body::from(bytes)))
    }
}

/// Routes of monitoring, which are never refused for lack of room.
fn watches(route: &str) -> bool {
    matches!(route, "/health/live" | "/health/ready" | "/metrics")
}

/// The middleware around all handlers, fallbacks included.
pub(super) async fn pass(State(gate): State<Arc<Gate>>, request: Request, next: Next) -> Response {
    let began = Instant::now();
    let matched = request.extensions().get::<MatchedPath>().cloned();
    let route = matched.as_ref().map_or(UNMATCHED, MatchedPath::as_str);
    let method = method_label(request.method());
    let flight = Flight::take_off(&gate.in_flight);

    let response = gate.serve(route, request, next).await.unwrap_or_else(IntoResponse::into_response);

    drop(flight);
    let took = began.elapsed();
    let status = response.status();
    gate.requests.with_label_values(&[route, method, status.as_str()]).inc();
    gate.seconds.with_label_values(&[route]).observe(took.as_secs_f64());
    let ms = took.as_secs_f64() * 1e3;
    tracing::debug!(route, method, status = status.as_u16(), ms, "{method} {route}: {} in {ms:.2} ms", status.as_u16());
    response
}

/// Methods are text that callers choose: only known ones become labels.
fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

/// Counts a request in flight until it is dropped, be it answered or given up by its caller.
struct Flight<'a>(&'a IntGauge);

impl<'a> Flight<'a> {
    fn take_off(gauge: &'a IntGauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}
