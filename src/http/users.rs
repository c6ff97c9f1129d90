//! `/users` and `/sessions`: what is known of somebody, merged and erased.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    body::{Body, Bytes},
    extract::{Request, State},
    http::{StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    domain::{Actor, Event, Exposure, Feature, FieldError, ItemId, LoggedEvent, RecommendationId, SessionId, ShownItem, Timestamp, UserId},
    recommend::Person,
    store::Alias,
};

use super::{
    Desk, body, json,
    problem::Problem,
    rooms::Rooms,
    uri::{PathId, Query},
};

/// Rows of an export that are in memory at a time.
const PAGE: usize = 500;

/// What is known of a user.
#[derive(Debug, Serialize, ToSchema)]
#[schema(examples(json!({"user_id": "u42", "aliases": [{"session_id": "s9", "merged_at": "2026-11-23T12:00:00Z"}], "exposures": 17,
    "events": {"total": 12, "by_type": {"click": 9, "purchase": 3}, "first_at": "2026-10-01T08:00:00Z", "last_at": "2026-11-23T12:00:00Z"},
    "languages": [{"language": "en", "share": 1.0}], "liked_categories": [{"category": "jackets", "weight": 4.2}],
    "recent_items": [{"item_id": "sku-3", "type": "purchase", "at": "2026-11-23T12:00:00Z"}]})))]
pub(super) struct UserAnswer {
    /// The user, or whom the one that was asked for was merged into.
    user_id: UserId,
    /// Sessions and users that were merged into this one.
    aliases: Vec<MergedName>,
    /// All events.
    events: UserEvents,
    /// Answers of `/recommend` that are still logged.
    exposures: u64,
    /// Of the items that the user liked lately and of the texts that the user wrote; shares add up to 1.
    languages: Vec<LanguageKnown>,
    /// Of the items that the user liked lately, the most liked first.
    liked_categories: Vec<CategoryLiked>,
    /// Items of the latest events, newest first.
    recent_items: Vec<ItemTouched>,
}

/// How many events there are.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct UserEvents {
    /// All of them.
    total: u64,
    /// By their type.
    by_type: BTreeMap<String, u64>,
    /// When the first happened.
    first_at: Option<Timestamp>,
    /// When the last happened.
    last_at: Option<Timestamp>,
}

/// A session or a user that was merged.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct MergedName {
    #[serde(skip_serializing_if = "Option::is_none")]
    session_id: Option<SessionId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_id: Option<UserId>,
    /// When, for the last time.
    merged_at: Timestamp,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct LanguageKnown {
    language: String,
    share: f32,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct CategoryLiked {
    category: String,
    /// A purchase counts 1, weaker signs less.
    weight: f32,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ItemTouched {
    item_id: ItemId,
    /// What the user did last.
    #[serde(rename = "type")]
    kind: String,
    at: Timestamp,
}

impl From<Alias> for MergedName {
    fn from(Alias { name, at }: Alias) -> Self {
        match name {
            Actor::Session(session) => Self { session_id: Some(session), user_id: None, merged_at: at },
            Actor::User(user) => Self { session_id: None, user_id: Some(user), merged_at: at },
        }
    }
}

impl From<Person> for UserAnswer {
    fn from(person: Person) -> Self {
        let types = &person.event_types;
        Self {
            events: UserEvents {
                total: types.iter().map(|of| of.count).sum(),
                first_at: types.iter().map(|of| of.first).min(),
                last_at: types.iter().map(|of| of.last).max(),
                by_type: types.iter().map(|of| (of.kind.clone(), of.count)).collect(),
            },
            user_id: person.user,
            aliases: person.aliases.into_iter().map(Into::into).collect(),
            exposures: person.exposures,
            languages: person.languages.into_iter().map(|(language, share)| LanguageKnown { language, share }).collect(),
            liked_categories: person.liked_categories.into_iter().map(|(category, weight)| CategoryLiked { category, weight }).collect(),
            recent_items: person
                .recent_items
                .into_iter()
                .map(|item| ItemTouched { item_id: item.item_id, kind: item.kind.name().to_owned(), at: item.at })
                .collect(),
        }
    }
}

/// Read what is known of a user
///
/// Counts are of all events; languages, categories and items are of the latest 1,000. Of a user that is unknown, or was erased, it says
/// that nothing is known; there is no 404.
#[utoipa::path(get, path = "/users/{user_id}", tag = "Users", params(("user_id" = UserId, Path, description = "percent-encoded")),
    responses((status = 200, description = "What is known", body = UserAnswer)))]
pub(super) async fn get_user(State(desk): State<Arc<Desk>>, uri: Uri, PathId(user): PathId<UserId>) -> Result<Response, Problem> {
    Query::read(&uri, &[])?;
    get(&desk, &user).await
}

/// Read what is known of a user (query twin)
#[utoipa::path(get, path = "/users", tag = "Users", params(("user_id" = UserId, Query)), responses((status = 200, description = "What is known", body = UserAnswer)))]
pub(super) async fn get_user_twin(State(desk): State<Arc<Desk>>, uri: Uri) -> Result<Response, Problem> {
    let user: UserId = Query::read(&uri, &["user_id"])?.id()?;
    get(&desk, &user).await
}

async fn get(desk: &Desk, user: &UserId) -> Result<Response, Problem> {
    Ok(json::answer(StatusCode::OK, &UserAnswer::from(desk.rooms.person(user).await?)))
}

/// An answer of `/recommend` as it was logged.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ExportedExposure {
    recommendation_id: RecommendationId,
    at: Timestamp,
    user_id: Option<UserId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    session_id: Option<SessionId>,
    scenario: String,
    /// From the top.
    items: Vec<ExportedItem>,
}

/// An item that was shown.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ExportedItem {
    item_id: ItemId,
    /// What the ranker saw.
    features: BTreeMap<&'static str, f32>,
    /// How likely it was to stand there, given what stands above: 1, but where the list explores.
    propensity: f32,
}

impl From<Exposure> for ExportedExposure {
    fn from(exposure: Exposure) -> Self {
        let item = |shown: ShownItem| ExportedItem {
            item_id: shown.item_id,
            features: Feature::ALL.iter().zip(shown.features).map(|(feature, value)| (feature.name(), value)).collect(),
            propensity: shown.propensity,
        };
        Self {
            recommendation_id: exposure.recommendation_id,
            at: exposure.at,
            user_id: exposure.user_id,
            session_id: exposure.session_id,
            scenario: exposure.scenario,
            items: exposure.items.into_iter().map(item).collect(),
        }
    }
}

/// Everything that is kept of a user.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the answer in the OpenAPI document; it is streamed")]
pub(super) struct UserExport {
    user_id: UserId,
    aliases: Vec<MergedName>,
    /// Oldest first.
    events: Vec<Event>,
    /// Oldest first.
    exposures: Vec<ExportedExposure>,
}

/// Export everything of a user
///
/// All that is kept under the user's name and under names that were merged into it, streamed. An export that is cut off is not valid JSON.
#[utoipa::path(get, path = "/users/{user_id}/export", tag = "Users", params(("user_id" = UserId, Path, description = "percent-encoded")),
    responses((status = 200, description = "Everything", body = UserExport)))]
pub(super) async fn export_user(State(desk): State<Arc<Desk>>, uri: Uri, PathId(user): PathId<UserId>) -> Result<Response, Problem> {
    Query::read(&uri, &[])?;
    export(&desk, &user).await
}

/// Export everything of a user (query twin)
#[utoipa::path(get, path = "/user-export", tag = "Users", params(("user_id" = UserId, Query)),
    responses((status = 200, description = "Everything", body = UserExport)))]
pub(super) async fn export_user_twin(State(desk): State<Arc<Desk>>, uri: Uri) -> Result<Response, Problem> {
    let user: UserId = Query::read(&uri, &["user_id"])?.id()?;
    export(&desk, &user).await
}

/// What an export has to send next.
enum Chapter {
    Events(Vec<LoggedEvent>),
    Exposures(Option<RecommendationId>),
}

async fn export(desk: &Desk, user: &UserId) -> Result<Response, Problem> {
    // What fails before the first byte is an error with a status.
    let (user, aliases) = desk.rooms.names(user).await?;
    let first = desk.rooms.events_of(&user, None, PAGE).await?;
    let aliases: Vec<MergedName> = aliases.into_iter().map(Into::into).collect();
    let head = format!("{{\"user_id\":{},\"aliases\":{},\"events\":[", written(&user), written(&aliases));
    let rooms = Arc::clone(&desk.rooms);
    let pages = futures::stream::unfold(Some((Chapter::Events(first), true)), move |state| {
        let (rooms, user) = (Arc::clone(&rooms), user.clone());
        async move {
            let (chapter, is_first) = state?;
            match next(&*rooms, &user, chapter, is_first).await {
                Ok((text, next)) => Some((Ok(Bytes::from(text)), next)),
                // The connection breaks, so that nobody takes the part for the whole.
                Err(error) => {
                    drop(Problem::from(error)); // which logs the reason
                    Some((Err("the export broke off"), None))
                }
            }
        }
    });
    let head = futures::stream::once(std::future::ready(Ok::<_, &'static str>(Bytes::from(head))));
    let body = Body::from_stream(futures::StreamExt::chain(head, pages));
    Ok((StatusCode::OK, [(header::CONTENT_TYPE, "application/json")], body).into_response())
}

type Next = Option<(Chapter, bool)>;

/// The text of a page, and where to go on; `is_first` says that no entry of the list was sent yet.
async fn next(rooms: &dyn Rooms, user: &UserId, chapter: Chapter, is_first: bool) -> Result<(String, Next), super::CatalogueError> {
    Ok(match chapter {
        Chapter::Events(page) => match page.last() {
            None => ("],\"exposures\":[".to_owned(), Some((Chapter::Exposures(None), true))),
            Some(last) => {
                let text = listed(page.iter().map(|logged| written(&logged.event)), is_first);
                let more = rooms.events_of(user, Some(last), PAGE).await?;
                (text, Some((Chapter::Events(more), false)))
            }
        },
        Chapter::Exposures(after) => {
            let page = rooms.exposures_of(user, after.as_ref(), PAGE).await?;
            match page.last().map(|last| last.recommendation_id.clone()) {
                None => ("]}\n".to_owned(), None),
                Some(last) => {
                    let text = listed(page.into_iter().map(|exposure| written(&ExportedExposure::from(exposure))), is_first);
                    (text, Some((Chapter::Exposures(Some(last)), false)))
                }
            }
        }
    })
}

fn written(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("documents of strings and numbers are JSON")
}

fn listed(entries: impl Iterator<Item = String>, is_first: bool) -> String {
    let entries: Vec<String> = entries.collect();
    format!("{}{}", if is_first { "" } else { "," }, entries.join(","))
}

/// Who is to become one with the user; one of the two.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(examples(json!({"from_session": "s9"})))]
pub(super) struct MergeBody {
    /// A session that logged in: what it did without a user is the user's.
    from_session: Option<SessionId>,
    /// A user that turned out to be the same person.
    from_user: Option<UserId>,
}

/// What a merge did.
#[derive(Debug, Serialize, ToSchema)]
#[schema(examples(json!({"user_id": "u42", "events": 12, "exposures": 3})))]
pub(super) struct MergeAnswer {
    /// Whose it all is now: the user of the address, or whom that one was merged into.
    user_id: UserId,
    /// Events that were given to the user now.
    events: u64,
    /// Logged answers that were given to the user now.
    exposures: u64,
}

/// Merge a session or a user into a user
///
/// At login: what the session did without a user becomes the user's, and so does what still comes of it late. Of two users: all of the
/// old one becomes the user's, late events too, and whoever asks for the old one is told of the user. Merging again, or back, changes
/// nothing. A session that logs in as somebody else later gives them what it does from then on. When it fails, send it again.
#[utoipa::path(post, path = "/users/{user_id}/merge", tag = "Users", params(("user_id" = UserId, Path, description = "percent-encoded")), request_body = MergeBody,
    responses((status = 200, description = "They are one", body = MergeAnswer)))]
pub(super) async fn merge_user(State(desk): State<Arc<Desk>>, PathId(user): PathId<UserId>, request: Request) -> Result<Response, Problem> {
    Query::read(request.uri(), &[])?;
    merge(&desk, user, request).await
}

/// Merge a session or a user into a user (query twin)
#[utoipa::path(post, path = "/user-merge", tag = "Users", params(("user_id" = UserId, Query)), request_body = MergeBody,
    responses((status = 200, description = "They are one", body = MergeAnswer)))]
pub(super) async fn merge_user_twin(State(desk): State<Arc<Desk>>, request: Request) -> Result<Response, Problem> {
    let user: UserId = Query::read(request.uri(), &["user_id"])?.id()?;
    merge(&desk, user, request).await
}

async fn merge(desk: &Desk, into: UserId, request: Request) -> Result<Response, Problem> {
    let bytes = body::document(request).await?;
    let from = match json::parse::<MergeBody>(json::text(&bytes)?)? {
        MergeBody { from_session: Some(session), from_user: None } => Actor::Session(session),
        MergeBody { from_session: None, from_user: Some(user) } if user == into => {
            return Err(Problem::invalid(vec![FieldError::new("/from_user", "must be another user than the one it is merged into")]));
        }
        MergeBody { from_session: None, from_user: Some(user) } => Actor::User(user),
        MergeBody { from_session: None, from_user: None } => {
            return Err(Problem::invalid(vec![FieldError::new("/from_session", "is required, or from_user in its place")]));
        }
        MergeBody { from_session: Some(_), from_user: Some(_) } => {
            return Err(Problem::invalid(vec![FieldError::new("/from_user", "must be absent where from_session is given; merge them one after the other")]));
        }
    };
    let merged = desk.rooms.merge(from, into, Timestamp::now()).await?;
    Ok(json::answer(StatusCode::OK, &MergeAnswer { user_id: merged.user, events: merged.events, exposures: merged.exposures }))
}

/// What was erased.
#[derive(Debug, Serialize, ToSchema)]
#[schema(examples(json!({"events": 12, "exposures": 3, "aliases": 1, "erased_at": "2026-11-24T12:00:00Z"})))]
pub(super) struct ErasureReceipt {
    /// Events.
    events: u64,
    /// Logged answers.
    exposures: u64,
    /// Sessions and users that had been merged.
    aliases: u64,
    /// What happened up to then does not come back.
    erased_at: Timestamp,
}

/// Erase a user
///
/// Events, logged answers and merged names are gone when it answers, with the counts as a receipt. Keyed hashes of ids stay, so that a late
/// retry of what was erased is answered as a duplicate and not stored; what the same user does from now on begins anew. Erasing again, or
/// erasing an unknown user, is a receipt of zeros, no error. Anonymous events of sessions that were never merged are not the user's:
/// `DELETE /sessions/{session_id}`. When it fails, send it again.
#[utoipa::path(delete, path = "/users/{user_id}", tag = "Users", params(("user_id" = UserId, Path, description = "percent-encoded")),
    responses((status = 200, description = "The receipt", body = ErasureReceipt)))]
pub(super) async fn delete_user(State(desk): State<Arc<Desk>>, uri: Uri, PathId(user): PathId<UserId>) -> Result<Response, Problem> {
    Query::read(&uri, &[])?;
    erase(&desk, Actor::User(user)).await
}

/// Erase a user (query twin)
#[utoipa::path(delete, path = "/users", tag = "Users", params(("user_id" = UserId, Query)),
    responses((status = 200, description = "The receipt", body = ErasureReceipt)))]
pub(super) async fn delete_user_twin(State(desk): State<Arc<Desk>>, uri: Uri) -> Result<Response, Problem> {
    let user: UserId = Query::read(&uri, &["user_id"])?.id()?;
    erase(&desk, Actor::User(user)).await
}

/// Erase a session
///
/// Everything that was done in it, logged in or not; otherwise as erasing a user.
#[utoipa::path(delete, path = "/sessions/{session_id}", tag = "Users", params(("session_id" = SessionId, Path, description = "percent-encoded")),
    responses((status = 200, description = "The receipt", body = ErasureReceipt)))]
pub(super) async fn delete_session(State(desk): State<Arc<Desk>>, uri: Uri, PathId(session): PathId<SessionId>) -> Result<Response, Problem> {
    Query::read(&uri, &[])?;
    erase(&desk, Actor::Session(session)).await
}

/// Erase a session (query twin)
#[utoipa::path(delete, path = "/sessions", tag = "Users", params(("session_id" = SessionId, Query)),
    responses((status = 200, description = "The receipt", body = ErasureReceipt)))]
pub(super) async fn delete_session_twin(State(desk): State<Arc<Desk>>, uri: Uri) -> Result<Response, Problem> {
    let session: SessionId = Query::read(&uri, &["session_id"])?.id()?;
    erase(&desk, Actor::Session(session)).await
}

async fn erase(desk: &Desk, whom: Actor) -> Result<Response, Problem> {
    let erased_at = Timestamp::now();
    let receipt = desk.rooms.erase(whom, erased_at).await?;
    let receipt = ErasureReceipt { events: receipt.events, exposures: receipt.exposures, aliases: receipt.aliases, erased_at };
    Ok(json::answer(StatusCode::OK, &receipt))
}
