//! Pages for people: the playground, the API's documentation. Everything they load comes from this binary.

use std::sync::Arc;

use axum::{
    body::Bytes,
    extract::{Path, State},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use utoipa_swagger_ui::Config;

use super::{
    Desk,
    problem::{Kind, Problem},
};

/// The page may run its own script and talk to this server; nothing else.
const PLAYGROUND_POLICY: &str = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self'; \
    img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
/// Swagger UI styles its elements inline and draws icons from data URIs.
const DOCS_POLICY: &str = "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; base-uri 'none'; frame-ancestors 'none'";

/// Open the playground
///
/// A page on which to type a text and see the list.
#[utoipa::path(get, path = "/", tag = "Pages", responses((status = 200, description = "A page", body = String, content_type = "text/html")))]
pub(super) async fn playground() -> Response {
    std::future::ready(page(include_str!("playground.html").as_bytes().into(), "text/html; charset=utf-8", PLAYGROUND_POLICY)).await
}

/// Read this document
#[utoipa::path(get, path = "/openapi.json", tag = "Pages", responses((status = 200, description = "OpenAPI 3.1", body = Object)))]
pub(super) async fn openapi(State(desk): State<Arc<Desk>>) -> Response {
    let json = (StatusCode::OK, [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], desk.openapi.clone());
    std::future::ready(json.into_response()).await
}

/// Open the documentation
///
/// This document as a page that can try the calls.
#[utoipa::path(get, path = "/docs", tag = "Pages", responses((status = 303, description = "To the page, docs/")))]
pub(super) async fn docs() -> Response {
    // Relative, so that it also works behind a proxy with a path prefix.
    std::future::ready((StatusCode::SEE_OTHER, [(header::LOCATION, "docs/")]).into_response()).await
}

/// The page itself and what it loads; not part of the API's description.
pub(super) async fn docs_file(State(desk): State<Arc<Desk>>, file: Option<Path<String>>) -> Result<Response, Problem> {
    let name = file.map(|Path(name)| name).unwrap_or_default();
    let served = match utoipa_swagger_ui::serve(&name, Arc::clone(&desk.docs)) {
        Ok(Some(file)) => {
            let mut response = page(file.bytes.into_owned().into(), &file.content_type, DOCS_POLICY);
            if file.gzpipped {
                response.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            }
            Ok(response)
        }
        Ok(None) => Err(Problem::new(Kind::NotFound, "the documentation has no such file")),
        Err(error) => {
            tracing::error!(%error, "a file of the documentation could not be made: {error}");
            Err(Problem::new(Kind::Internal, "the documentation could not be made"))
        }
    };
    std::future::ready(served).await
}

/// How the documentation page finds and shows the document; it asks no validator on the Internet.
pub(super) fn docs_config() -> Config<'static> {
    Config::from("../openapi.json").validator_url("none").display_request_duration(true).try_it_out_enabled(true)
}

fn page(bytes: Bytes, media: &str, policy: &'static str) -> Response {
    let headers = [(header::CONTENT_TYPE, media), (header::CONTENT_SECURITY_POLICY, policy), (header::X_CONTENT_TYPE_OPTIONS, "nosniff")];
    (StatusCode::OK, headers, bytes).into_response()
}
