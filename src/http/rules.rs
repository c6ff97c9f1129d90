//! `/rules`: what merchandisers want of lists, put, read and taken back. JSON in, a checked rule to the write path; the rule as it was written out.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    http::{StatusCode, Uri},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    domain::{FieldError, InvalidRuleName, RuleDocument, RuleName},
    features::{MAX_RULES, Origin, WrittenRule},
    store::RuleOutcome,
};

use super::{
    Desk, body, json,
    problem::{Kind, Problem, ProblemDocument},
    uri::{Named, PathId, Query},
};

impl Named for RuleName {
    const PARAMETER: &'static str = "name";
    type Invalid = InvalidRuleName;
    fn named(id: &str) -> Result<Self, InvalidRuleName> {
        Self::new(id)
    }
}

/// All rules.
#[derive(Debug, Serialize, ToSchema)]
#[schema(examples(json!({"rules": [{"origin": "settings", "rule": {"name": "no-adult", "exclude": {"tags": "adult"}}}]})))]
pub(super) struct RulesAnswer {
    /// By name.
    rules: Vec<OneRule>,
}

/// A rule and where it comes from.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct OneRule {
    /// `settings`: the settings file; `store`: put over HTTP.
    origin: &'static str,
    rule: RuleDocument,
}

impl From<WrittenRule> for OneRule {
    fn from(written: WrittenRule) -> Self {
        let origin = match written.origin {
            Origin::Settings => "settings",
            Origin::Store => "store",
        };
        Self { origin, rule: written.document }
    }
}

/// List the rules
///
/// Those of the settings and those that were put; a rule that was put takes the place of the settings' of its name.
#[utoipa::path(get, path = "/rules", tag = "Operating", responses((status = 200, description = "All rules", body = RulesAnswer)))]
pub(super) async fn get_rules(State(desk): State<Arc<Desk>>, uri: Uri) -> Result<Response, Problem> {
    Query::read(&uri, &[])?;
    let rules = desk.rooms.rules().into_iter().map(OneRule::from).collect();
    std::future::ready(Ok(json::answer(StatusCode::OK, &RulesAnswer { rules }))).await
}

/// Read a rule
#[utoipa::path(get, path = "/rules/{name}", tag = "Operating", params(("name" = RuleName, Path)),
    responses((status = 200, description = "As it was written", body = RuleDocument), (status = 404, description = "There is no such rule", body = ProblemDocument, content_type = "application/problem+json")))]
pub(super) async fn get_rule(State(desk): State<Arc<Desk>>, uri: Uri, PathId(name): PathId<RuleName>) -> Result<Response, Problem> {
    Query::read(&uri, &[])?;
    let written = desk.rooms.rule(&name).ok_or_else(missing);
    std::future::ready(written.map(|written| json::answer(StatusCode::OK, &written.document))).await
}

/// Write a rule
///
/// When a request is such a one, then this is done: exactly one of `boost`, `bury`, `pin`, `exclude`, `at_most` and `block`. It holds from the next answer on (`block` when all items were looked at), on
/// other replicas within a second. Items that a rule moved say so: `"arranged": "rule:NAME"`, or `"pinned"`.
#[utoipa::path(put, path = "/rules/{name}", tag = "Operating", params(("name" = RuleName, Path)), request_body = RuleDocument,
    responses((status = 200, description = "The rule as it is now", body = RuleDocument), (status = 201, description = "It is new", body = RuleDocument)))]
pub(super) async fn put_rule(State(desk): State<Arc<Desk>>, PathId(name): PathId<RuleName>, request: Request) -> Result<Response, Problem> {
    Query::read(request.uri(), &[])?;
    let bytes = body::document(request).await?;
    let document = document(&name, json::text(&bytes)?)?;
    document.check(&|attribute| desk.rooms.attribute_type(attribute)).map_err(Problem::invalid)?;
    match desk.rooms.put_rule(&document).await? {
        RuleOutcome::Absent => Ok(json::answer(StatusCode::CREATED, &document)),
        RuleOutcome::Present => Ok(json::answer(StatusCode::OK, &document)),
        RuleOutcome::Full => Err(Problem::invalid(vec![FieldError::new("", format!("is one too many: there are {MAX_RULES} rules"))])),
    }
}

/// The document of a rule whose name may be said in the address alone.
fn document(name: &RuleName, text: &str) -> Result<RuleDocument, Problem> {
    let mut members: serde_json::Map<String, serde_json::Value> = json::parse(text)?;
    let said = members.insert("name".to_owned(), name.as_str().into());
    if said.is_some_and(|said| said.as_str() != Some(name.as_str())) {
        return Err(Problem::invalid(vec![FieldError::new("/name", "must be the name in the address, or absent")]));
    }
    Ok(json::parse(&serde_json::Value::Object(members).to_string())?)
}

/// Take a rule back
///
/// One of the settings has to be taken out there; if this one stood in its place, it holds again.
#[utoipa::path(delete, path = "/rules/{name}", tag = "Operating", params(("name" = RuleName, Path)),
    responses((status = 204, description = "It is gone"), (status = 404, description = "There is no such rule", body = ProblemDocument, content_type = "application/problem+json")))]
pub(super) async fn delete_rule(State(desk): State<Arc<Desk>>, uri: Uri, PathId(name): PathId<RuleName>) -> Result<Response, Problem> {
    Query::read(&uri, &[])?;
    match (desk.rooms.delete_rule(&name).await?, desk.rooms.rule(&name)) {
        (RuleOutcome::Present, _) => Ok(StatusCode::NO_CONTENT.into_response()),
        (RuleOutcome::Absent | RuleOutcome::Full, Some(_)) => {
            Err(Problem::invalid(vec![FieldError::new("/name", "is a rule of the settings: take it out there")]))
        }
        (RuleOutcome::Absent | RuleOutcome::Full, None) => Err(missing()),
    }
}

fn missing() -> Problem {
    Problem::new(Kind::NotFound, "there is no such rule")
}
