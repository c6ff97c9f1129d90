//! The OpenAPI document: made from the handlers, then completed with what holds for all of them (problems, keys).

use axum::http::Method;
use utoipa::{
    OpenApi,
    openapi::{
        Content, PathItem, Ref, RefOr, Response, ResponseBuilder,
        path::Operation,
        security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme},
    },
};

use super::{
    auth::{Access, access},
    problem::{PROBLEM_JSON, ProblemDocument},
};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "inkling",
        description = "An online recommender: it reads what a user types and does, and answers with the items that user is most likely to want.\n\n\
            Errors are problem details (RFC 9457). Unknown fields and query parameters are errors. Times are RFC 3339; integer milliseconds are accepted too.\n\n\
            **Filters** are objects whose members are ANDed. A member is `field: value` (equals; for lists: contains), `field: [values]` (any of), \
            `field: {\"gt\", \"gte\", \"lt\", \"lte\"}` (numbers, times), `field: null` (absent), or `\"all_of\" | \"any_of\" | \"none_of\": [filters]`. \
            Fields: `categories`, `tags`, `language`, `price`, `available`, `created_at`, `expires_at`, `item_id`, `attributes.NAME`."
    ),
    tags(
        (name = "Recommendations", description = "What a user is most likely to want"),
        (name = "Feedback", description = "What users did"),
        (name = "Catalogue", description = "What there is"),
        (name = "Users", description = "What is kept of people: read, merged, erased"),
        (name = "Operating", description = "For operators and monitors"),
        (name = "Pages", description = "For people")
    ),
    components(schemas(ProblemDocument))
)]
pub(super) struct Document;

/// Adds to every operation the problems that the gate can answer with, and the keys it needs.
pub(super) fn complete(document: &mut utoipa::openapi::OpenApi, open_metrics: bool) {
    let components = document.components.get_or_insert_default();
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some("Needed when keys are configured.")).build();
    components.security_schemes.insert("bearer".into(), RefOr::T(SecurityScheme::Http(bearer)));
    let header = ApiKeyValue::with_description("X-API-Key", "The same key, for callers that cannot send Authorization.");
    components.security_schemes.insert("api_key".into(), RefOr::T(SecurityScheme::ApiKey(ApiKey::Header(header))));
    for (path, item) in &mut document.paths.paths {
        for (method, operation) in operations(item) {
            complete_operation(operation, access(&method, path, open_metrics));
        }
    }
}

/// The operations of a path, each with its method.
pub(super) fn operations(item: &mut PathItem) -> impl Iterator<Item = (Method, &mut Operation)> {
    let PathItem { get, put, post, delete, patch, .. } = item;
    let all = [(Method::GET, get), (Method::PUT, put), (Method::POST, post), (Method::DELETE, delete), (Method::PATCH, patch)];
    all.into_iter().filter_map(|(method, operation)| operation.as_mut().map(|operation| (method, operation)))
}

fn complete_operation(operation: &mut Operation, access: Access) {
    let mut problems = vec![
        ("422", "The input is not valid; `errors` says what is wrong with which field"),
        ("503", "Overloaded, or a part is not available; see Retry-After"),
    ];
    if operation.request_body.is_some() {
        problems.extend([
            ("400", "The body is not JSON that can be read"),
            ("408", "The body did not arrive in time"),
            ("413", "The body is too large"),
            ("415", "The content type is not understood"),
        ]);
    }
    let scope = match access {
        Access::Open => None,
        Access::Storefront => Some("storefront"),
        Access::Admin => Some("admin"),
    };
    if let Some(scope) = scope {
        let key = |name: &str| SecurityRequirement::new(name, [scope]);
        operation.security = Some(vec![key("bearer"), key("api_key")]);
        problems.extend([("401", "No key, or one that is not known here"), ("403", "The key does not open this door")]);
    }
    for (status, description) in problems {
        operation.responses.responses.entry(status.into()).or_insert_with(|| RefOr::T(problem(description)));
    }
}

fn problem(description: &str) -> Response {
    ResponseBuilder::new().description(description).content(PROBLEM_JSON, Content::new(Some(Ref::from_schema_name("Problem")))).build()
}
