//! `/items`: the catalogue, one item at a time or many.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    extract::{Request, State},
    http::{StatusCode, Uri},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::{
    domain::{AttributeValue, FieldError, Item, ItemId, Timestamp},
    ingest::{IngestError, ItemOutcome, PatchOutcome},
};

use super::{
    Desk,
    batch::{self, Fate, Feed, Rejection},
    body, json,
    problem::{Kind, Problem},
    rooms::Rooms,
    uri::{PathId, Query},
};

const DEFAULT_PAGE: usize = 10;
const MAX_PAGE: usize = 200;

/// An item as `PUT` takes it: the id may be left out, the path or the query has it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ItemBody {
    item_id: Option<ItemId>,
    title: Option<String>,
    text: Option<String>,
    #[serde(default)]
    categories: Vec<String>,
    #[serde(default)]
    tags: Vec<String>,
    language: Option<String>,
    price: Option<f64>,
    available: Option<bool>,
    created_at: Option<Timestamp>,
    expires_at: Option<Timestamp>,
    #[serde(default)]
    attributes: BTreeMap<String, AttributeValue>,
    #[serde(default)]
    vectors: BTreeMap<String, Vec<f32>>,
}

impl ItemBody {
    fn named(self, item_id: ItemId) -> Result<Item, Problem> {
        agree(self.item_id.as_ref().map(ItemId::as_str), &item_id)?;
        Ok(Item {
            item_id,
            title: self.title,
            text: self.text,
            categories: self.categories,
            tags: self.tags,
            language: self.language,
            price: self.price,
            available: self.available.unwrap_or(true),
            created_at: self.created_at,
            expires_at: self.expires_at,
            attributes: self.attributes,
            vectors: self.vectors,
        })
    }
}

fn agree(in_body: Option<&str>, id: &ItemId) -> Result<(), Problem> {
    match in_body {
        Some(other) if other != id.as_str() => Err(Problem::invalid(vec![FieldError::new("/item_id", "must be the item_id of the address, or absent")])),
        _ => Ok(()),
    }
}

/// An array of items, or `{"items": […]}`.
#[derive(ToSchema)]
#[serde(untagged)]
#[expect(dead_code, clippy::large_enum_variant, reason = "describes the body in the OpenAPI document; batch.rs reads it")]
pub(super) enum ItemsBody {
    Many(Vec<Item>),
    Named { items: Vec<Item> },
    One(Item),
}

/// What became of the items.
#[derive(Debug, Serialize, ToSchema)]
#[schema(examples(json!({"accepted": 3, "created": 2, "updated": 1, "unchanged": 0, "rejected": [{"index": 3, "pointer": "/title", "detail": "a title or a text is required"}]})))]
pub(super) struct ItemsAnswer {
    /// In the catalogue as they were sent: created, updated or unchanged.
    accepted: u64,
    /// New in the catalogue.
    created: u64,
    /// Replaced an older state.
    updated: u64,
    /// Were exactly so already.
    unchanged: u64,
    /// Not stored, and why: the first 1,000.
    rejected: Vec<Rejection>,
    /// How many were rejected, when more than are listed.
    #[serde(skip_serializing_if = "Option::is_none")]
    rejected_total: Option<u64>,
}

struct Items<'a>(&'a dyn Rooms);

impl Feed for Items<'_> {
    type Entry = Item;
    const LIST: &'static str = "items";

    async fn write(&self, items: Vec<Item>) -> Result<Vec<Fate>, IngestError> {
        let outcomes = self.0.put_items(items).await?;
        Ok(outcomes
            .into_iter()
            .map(|outcome| match outcome {
                ItemOutcome::Created(_) => Fate::Created,
                ItemOutcome::Updated(_) => Fate::Updated,
                ItemOutcome::Unchanged(_) => Fate::Unchanged,
                ItemOutcome::Rejected(faults) => Fate::Rejected(faults),
            })
            .collect())
    }
}

/// Write many items
///
/// An array, `{"items": […]}`, or a stream of lines (`application/x-ndjson`) of any length. Each item replaces what was there.
#[utoipa::path(post, path = "/items", tag = "Catalogue",
    request_body(content(
        (ItemsBody = "application/json", example = json!([{"item_id": "sku-3", "title": "Drizzle jacket", "text": "A light jacket for rainy hikes.",
            "categories": ["jackets"], "tags": ["new"], "language": "en", "price": 89.0, "attributes": {"brand": "Fjell"}}])),
        (Item = "application/x-ndjson")
    )),
    responses((status = 200, description = "What became of each item", body = ItemsAnswer)))]
pub(super) async fn post_items(State(desk): State<Arc<Desk>>, request: Request) -> Result<Response, Problem> {
    Query::read(request.uri(), &[])?;
    let tally = batch::take(&Items(&*desk.rooms), request, false, desk.patience).await?;
    let rejected_total = tally.rejected_total();
    let answer = ItemsAnswer {
        accepted: tally.created + tally.updated + tally.unchanged,
        created: tally.created,
        updated: tally.updated,
        unchanged: tally.unchanged,
        rejected: tally.rejected,
        rejected_total,
    };
    Ok(json::answer(StatusCode::OK, &answer))
}

/// Write an item
///
/// Creates it or replaces what was there; an `item_id` in the body must be the one of the path.
#[utoipa::path(put, path = "/items/{item_id}", tag = "Catalogue", params(("item_id" = ItemId, Path, description = "percent-encoded")), request_body = Item,
    responses((status = 200, description = "The item as it is now", body = Item), (status = 201, description = "It is new", body = Item)))]
pub(super) async fn put_item(State(desk): State<Arc<Desk>>, PathId(id): PathId<ItemId>, request: Request) -> Result<Response, Problem> {
    Query::read(request.uri(), &[])?;
    put(&desk, id, request).await
}

/// Write an item (query twin)
#[utoipa::path(put, path = "/items", tag = "Catalogue", params(("item_id" = ItemId, Query)), request_body = Item,
    responses((status = 200, description = "The item as it is now", body = Item), (status = 201, description = "It is new", body = Item)))]
pub(super) async fn put_item_twin(State(desk): State<Arc<Desk>>, request: Request) -> Result<Response, Problem> {
    let id = Query::read(request.uri(), &["item_id"])?.id()?;
    put(&desk, id, request).await
}

async fn put(desk: &Desk, id: ItemId, request: Request) -> Result<Response, Problem> {
    let bytes = body::document(request).await?;
    let item = json::parse::<ItemBody>(json::text(&bytes)?)?.named(id)?;
    match desk.rooms.put_items(vec![item]).await?.pop() {
        Some(ItemOutcome::Created(item)) => Ok(json::answer(StatusCode::CREATED, &*item)),
        Some(ItemOutcome::Updated(item) | ItemOutcome::Unchanged(item)) => Ok(json::answer(StatusCode::OK, &*item)),
        Some(ItemOutcome::Rejected(faults)) => Err(Problem::invalid(faults)),
        None => Err(Problem::new(Kind::Internal, "the write path gave no outcome")),
    }
}

/// Change parts of an item
///
/// A merge patch (RFC 7396): members replace, null removes, objects merge.
#[utoipa::path(patch, path = "/items/{item_id}", tag = "Catalogue", params(("item_id" = ItemId, Path, description = "percent-encoded")),
    request_body(content(
        (Object = "application/merge-patch+json", example = json!({"price": 79.0, "available": false, "attributes": {"brand": null}})),
        (Object = "application/json")
    )),
    responses((status = 200, description = "The item as it is now", body = Item), (status = 404, description = "There is no such item", body = super::problem::ProblemDocument, content_type = "application/problem+json")))]
pub(super) async fn patch_item(State(desk): State<Arc<Desk>>, PathId(id): PathId<ItemId>, request: Request) -> Result<Response, Problem> {
    Query::read(request.uri(), &[])?;
    patch(&desk, id, request).await
}

/// Change parts of an item (query twin)
#[utoipa::path(patch, path = "/items", tag = "Catalogue", params(("item_id" = ItemId, Query)),
    request_body(content((Object = "application/merge-patch+json", example = json!({"price": 79.0})), (Object = "application/json"))),
    responses((status = 200, description = "The item as it is now", body = Item), (status = 404, description = "There is no such item", body = super::problem::ProblemDocument, content_type = "application/problem+json")))]
pub(super) async fn patch_item_twin(State(desk): State<Arc<Desk>>, request: Request) -> Result<Response, Problem> {
    let id = Query::read(request.uri(), &["item_id"])?.id()?;
    patch(&desk, id, request).await
}

async fn patch(desk: &Desk, id: ItemId, request: Request) -> Result<Response, Problem> {
    let bytes = body::document(request).await?;
    let patch: serde_json::Map<String, serde_json::Value> = json::parse(json::text(&bytes)?)?;
    match patch.get("item_id") {
        None => {}
        // Also what is no string at all: an id cannot be patched away.
        Some(other) => agree(Some(other.as_str().unwrap_or_default()), &id)?,
    }
    match desk.rooms.patch_item(&id, patch.into()).await? {
        PatchOutcome::Patched(item) => Ok(json::answer(StatusCode::OK, &*item)),
        PatchOutcome::Missing => Err(missing()),
        PatchOutcome::Rejected(faults) => Err(Problem::invalid(faults)),
    }
}

fn missing() -> Problem {
    Problem::new(Kind::NotFound, "there is no such item")
}

/// Read an item
#[utoipa::path(get, path = "/items/{item_id}", tag = "Catalogue", params(("item_id" = ItemId, Path, description = "percent-encoded")),
    responses((status = 200, description = "The item", body = Item), (status = 404, description = "There is no such item", body = super::problem::ProblemDocument, content_type = "application/problem+json")))]
pub(super) async fn get_item(State(desk): State<Arc<Desk>>, uri: Uri, PathId(id): PathId<ItemId>) -> Result<Response, Problem> {
    Query::read(&uri, &[])?;
    get(&desk, &id).await
}

async fn get(desk: &Desk, id: &ItemId) -> Result<Response, Problem> {
    let item = desk.catalogue.item(id).await?.ok_or_else(missing)?;
    Ok(json::answer(StatusCode::OK, &*item))
}

/// Query of `GET /items`.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "describes the query in the OpenAPI document; uri::Query reads it")]
pub(super) struct ItemsQuery {
    /// Only this item, as at `/items/{item_id}`; then without limit and cursor.
    #[param(value_type = Option<ItemId>)]
    item_id: Option<String>,
    /// Items a page.
    #[param(minimum = 1, maximum = 200, default = 10)]
    limit: Option<u32>,
    /// The `next` of the previous page.
    cursor: Option<String>,
}

/// A page of the catalogue.
#[derive(Debug, Serialize, ToSchema)]
#[schema(examples(json!({"items": [{"item_id": "sku-3", "title": "Drizzle jacket", "available": true}], "next": "736b752d33"})))]
pub(super) struct ItemsPage {
    /// In the order of ids.
    #[schema(value_type = Vec<Item>)]
    items: Vec<Arc<Item>>,
    /// Send it as `cursor` for the next page; null when there is nothing more.
    next: Option<String>,
}

/// List the catalogue
///
/// Pages in the order of ids; with `item_id` the query twin of `/items/{item_id}`, which answers with the item alone.
#[utoipa::path(get, path = "/items", tag = "Catalogue", params(ItemsQuery),
    responses((status = 200, description = "A page, or with item_id an item", body = ItemsPage)))]
pub(super) async fn get_items(State(desk): State<Arc<Desk>>, uri: Uri) -> Result<Response, Problem> {
    let query = Query::read(&uri, &["item_id", "limit", "cursor"])?;
    if query.get("item_id").is_some() {
        return get(&desk, &Query::read(&uri, &["item_id"])?.id()?).await;
    }
    let limit = query.limit(DEFAULT_PAGE, MAX_PAGE)?;
    let after = query.get("cursor").map(read_cursor).transpose()?;
    // One more than asked: it tells whether there is a next page.
    let mut items = desk.catalogue.page(after.as_ref(), limit + 1).await?;
    let more = items.len() > limit;
    items.truncate(limit);
    let next = items.last().filter(|_| more).map(|item| hex::encode(item.item_id.as_str()));
    Ok(json::answer(StatusCode::OK, &ItemsPage { items, next }))
}

fn read_cursor(text: &str) -> Result<ItemId, Problem> {
    let id = hex::decode(text).ok().and_then(|bytes| String::from_utf8(bytes).ok()).and_then(|id| ItemId::new(id).ok());
    id.ok_or_else(|| Problem::invalid(vec![FieldError::new("/cursor", "must be the \"next\" of an earlier page")]))
}

/// Take an item out
///
/// It is in no answer from now on.
#[utoipa::path(delete, path = "/items/{item_id}", tag = "Catalogue", params(("item_id" = ItemId, Path, description = "percent-encoded")),
    responses((status = 204, description = "It is gone"), (status = 404, description = "There is no such item", body = super::problem::ProblemDocument, content_type = "application/problem+json")))]
pub(super) async fn delete_item(State(desk): State<Arc<Desk>>, uri: Uri, PathId(id): PathId<ItemId>) -> Result<Response, Problem> {
    Query::read(&uri, &[])?;
    delete(&desk, &id).await
}

/// Take an item out (query twin)
#[utoipa::path(delete, path = "/items", tag = "Catalogue", params(("item_id" = ItemId, Query)),
    responses((status = 204, description = "It is gone"), (status = 404, description = "There is no such item", body = super::problem::ProblemDocument, content_type = "application/problem+json")))]
pub(super) async fn delete_item_twin(State(desk): State<Arc<Desk>>, uri: Uri) -> Result<Response, Problem> {
    let id = Query::read(&uri, &["item_id"])?.id()?;
    delete(&desk, &id).await
}

async fn delete(desk: &Desk, id: &ItemId) -> Result<Response, Problem> {
    if desk.rooms.delete_item(id).await? { Ok(StatusCode::NO_CONTENT.into_response()) } else { Err(missing()) }
}
