//! The catalogue: items written in order, each write with the next revision; a row is for ever, deletes are tombstones.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use serde_json::Value as Json;

use super::{
    ContentHash, Store, StoreError,
    batch::{Call, Ledger, Write},
    database::{Connection, Insert, List, On, Row, query},
    merge, vectors,
};
use crate::domain::{AttributeType, FieldError, Item, ItemId, ItemKey, Revision, StoredItem, pointer_step};

/// What became of an item that was put.
#[derive(Debug, Clone, PartialEq)]
pub enum ItemOutcome {
    /// It was not there, or had been deleted.
    Created(StoredItem),
    /// It replaced another state.
    Updated(StoredItem),
    /// It said what was known; no new revision.
    Unchanged(StoredItem),
    /// Not stored: an attribute has another type, or an own vector another width, than at its name's first use.
    Rejected(FieldError),
}

/// What became of a patch.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum PatchOutcome {
    /// No such item, or deleted.
    #[default]
    Missing,
    /// The merged document is no item; nothing changed.
    Rejected(Vec<FieldError>),
    /// The item as it is now.
    Updated(StoredItem),
    /// The patch changed nothing; no new revision.
    Unchanged(StoredItem),
}

/// An item on its way to the writer, its document written already.
pub(super) struct NewItem {
    item: Arc<Item>,
    document: Arc<str>,
    content: ContentHash,
}

impl NewItem {
    fn new(item: Item) -> Self {
        let document = serde_json::to_string(&item).expect("an item is JSON with string keys").into();
        let content = ContentHash::of(&item.full_text());
        Self { item: Arc::new(item), document, content }
    }
}

/// A merge patch on its way to the writer.
pub(super) struct Patch {
    item_id: ItemId,
    patch: Json,
}

/// A deletion on its way to the writer.
pub(super) struct Deletion(ItemId);

/// A write of items.
pub(super) enum Change<'a> {
    Put(&'a mut Call<Vec<NewItem>, Vec<ItemOutcome>>),
    Patch(&'a mut Call<Patch, PatchOutcome>),
    Delete(&'a mut Call<Deletion, Option<StoredItem>>),
}

/// An item's row as the transaction sees it.
struct Held {
    key: ItemKey,
    revision: Revision,
    deleted: bool,
    content: ContentHash,
    document: Arc<str>,
    /// Parsed when somebody needs it.
    item: Option<Arc<Item>>,
    changed: bool,
}

impl Held {
    fn item(&mut self) -> Result<Arc<Item>, StoreError> {
        match &self.item {
            Some(item) => Ok(Arc::clone(item)),
            None => Ok(Arc::clone(self.item.insert(parse(&self.document)?))),
        }
    }

    fn stored(&mut self) -> Result<StoredItem, StoreError> {
        Ok(StoredItem { key: self.key, revision: self.revision, deleted: self.deleted, item: self.item()? })
    }
}

fn parse(document: &str) -> Result<Arc<Item>, StoreError> {
    serde_json::from_str(document).map(Arc::new).map_err(|_| StoreError::corrupt("an item's document is not an item"))
}

/// The rows of all items that one commit touches, with what its writes have made of them so far.
struct Workspace<'a> {
    ledger: &'a mut Ledger,
    rows: HashMap<ItemId, Held>,
    new_types: Vec<(String, AttributeType)>,
    new_widths: Vec<(String, usize)>,
}

/// Applies the changes in their order; rows that several of them touch are written once.
pub(super) async fn apply(connection: &mut Connection, ledger: &mut Ledger, changes: &mut [Change<'_>]) -> Result<(), StoreError> {
    if changes.is_empty() {
        return Ok(());
    }
    let mut touched = HashSet::new();
    for change in &*changes {
        match change {
            Change::Put(call) => touched.extend(call.input.iter().map(|new| &new.item.item_id)),
            Change::Patch(call) => drop(touched.insert(&call.input.item_id)),
            Change::Delete(call) => drop(touched.insert(&call.input.0)),
        }
    }
    let rows = load(connection, &touched.into_iter().collect::<Vec<_>>()).await?;
    learn_types(connection, ledger, changes).await?;
    let mut workspace = Workspace { ledger, rows, new_types: Vec::new(), new_widths: Vec::new() };
    for change in changes {
        match change {
            Change::Put(call) => {
                let input = std::mem::take(&mut call.input);
                call.outcome = input.into_iter().map(|new| workspace.put(new)).collect::<Result<_, _>>()?;
            }
            Change::Patch(call) => call.outcome = workspace.patch(&call.input)?,
            Change::Delete(call) => call.outcome = workspace.delete(&call.input.0)?,
        }
    }
    let Workspace { rows, new_types, new_widths, .. } = workspace;
    write_types(connection, &new_types).await?;
    vectors::write_widths(connection, &new_widths).await?;
    let changed: Vec<(&ItemId, &Held)> = rows.iter().filter(|(_, held)| held.changed).collect();
    write(connection, &changed).await
}

impl Workspace<'_> {
    fn next_revision(&mut self) -> Revision {
        let revision = Revision(self.ledger.next.revision);
        self.ledger.next.revision += 1;
        revision
    }

    /// Keeps the first type of each attribute name and the first width of each own vector; the first fault where `item` contradicts one.
    fn learn_types(&mut self, item: &Item) -> Result<(), FieldError> {
        for (name, value) in &item.attributes {
            if let Some(kept) = self.ledger.attribute_types.get(name).filter(|kept| **kept != value.kind()) {
                return Err(FieldError::new(format!("/attributes{}", pointer_step(name)), format!("must be {}, as at its first use", kept.name())));
            }
        }
        vectors::check(&self.ledger.vector_widths, item)?;
        for (name, vector) in &item.vectors {
            if !self.ledger.vector_widths.contains_key(name) {
                self.ledger.vector_widths.insert(name.clone(), vector.len());
                self.new_widths.push((name.clone(), vector.len()));
            }
        }
        for (name, value) in &item.attributes {
            if !self.ledger.attribute_types.contains_key(name) {
                self.ledger.attribute_types.insert(name.clone(), value.kind());
                self.new_types.push((name.clone(), value.kind()));
            }
        }
        Ok(())
    }

    fn put(&mut self, new: NewItem) -> Result<ItemOutcome, StoreError> {
        let id = new.item.item_id.clone();
        if let Some(held) = self.rows.get_mut(&id)
            && !held.deleted
            && held.document == new.document
        {
            held.item.get_or_insert(new.item);
            return Ok(ItemOutcome::Unchanged(held.stored()?));
        }
        if let Err(fault) = self.learn_types(&new.item) {
            return Ok(ItemOutcome::Rejected(fault));
        }
        let revision = self.next_revision();
        let before = self.rows.get(&id);
        let created = before.is_none_or(|held| held.deleted);
        let key = match before {
            Some(held) => held.key,
            None => {
                let key = ItemKey(self.ledger.next.key);
                self.ledger.next.key = key.0.checked_add(1).ok_or_else(|| StoreError::unavailable("no item keys are left"))?;
                key
            }
        };
        let stored = StoredItem { key, revision, deleted: false, item: Arc::clone(&new.item) };
        self.rows.insert(id, Held { key, revision, deleted: false, content: new.content, document: new.document, item: Some(new.item), changed: true });
        Ok(if created { ItemOutcome::Created(stored) } else { ItemOutcome::Updated(stored) })
    }

    fn patch(&mut self, Patch { item_id, patch }: &Patch) -> Result<PatchOutcome, StoreError> {
        let Some(held) = self.rows.get_mut(item_id).filter(|held| !held.deleted) else {
            return Ok(PatchOutcome::Missing);
        };
        match merge::patched(&*held.item()?, patch) {
            Err(faults) => Ok(PatchOutcome::Rejected(faults)),
            Ok(item) => Ok(match self.put(NewItem::new(item))? {
                ItemOutcome::Created(stored) | ItemOutcome::Updated(stored) => PatchOutcome::Updated(stored),
                ItemOutcome::Unchanged(stored) => PatchOutcome::Unchanged(stored),
                ItemOutcome::Rejected(fault) => PatchOutcome::Rejected(vec![fault]),
            }),
        }
    }

    fn delete(&mut self, id: &ItemId) -> Result<Option<StoredItem>, StoreError> {
        if self.rows.get(id).is_none_or(|held| held.deleted) {
            return Ok(None);
        }
        let revision = self.next_revision();
        let Some(held) = self.rows.get_mut(id) else { return Ok(None) };
        held.revision = revision;
        held.deleted = true;
        held.changed = true;
        held.stored().map(Some)
    }
}

static BY_ID: List = List::new("SELECT item_id, key, revision, deleted, content_hash, document FROM items WHERE item_id", "");
static BY_KEY: List = List::new("SELECT key, revision, deleted, document FROM items WHERE key", "ORDER BY key");
static UPSERT: Insert<6> = Insert::new(
    "INSERT INTO items (key, item_id, revision, deleted, content_hash, document)",
    "ON CONFLICT (key) DO UPDATE SET revision = excluded.revision, deleted = excluded.deleted, content_hash = excluded.content_hash, document = excluded.document",
);
static TYPES: List = List::new("SELECT name, type FROM attribute_types WHERE name", "");
// A name that a patched item had already may be known to the database only.
static NEW_TYPES: Insert<2> = Insert::new("INSERT INTO attribute_types (name, type)", "ON CONFLICT (name) DO NOTHING");

async fn load(connection: &mut Connection, ids: &[&ItemId]) -> Result<HashMap<ItemId, Held>, StoreError> {
    let held = |row: &Row| {
        let id = ItemId::new(row.get::<&str>(0)?).map_err(StoreError::corrupt)?;
        let held = Held {
            key: key(row, 1)?,
            revision: Revision(row.get(2)?),
            deleted: deleted(row, 3)?,
            content: ContentHash::from_bytes(row.get(4)?).ok_or_else(|| StoreError::corrupt("a content hash of another length"))?,
            document: row.get::<&str>(5)?.into(),
            item: None,
            changed: false,
        };
        Ok((id, held))
    };
    let rows = BY_ID.fetch_all(connection, &[], ids.iter().map(|id| id.as_str().into()).collect()).await?;
    rows.iter().map(held).collect()
}

/// Completes the ledger with the types and widths of names that are new here: another replica may have fixed them.
async fn learn_types(connection: &mut Connection, ledger: &mut Ledger, changes: &[Change<'_>]) -> Result<(), StoreError> {
    let mut new = HashSet::new();
    for change in changes {
        match change {
            Change::Put(call) => new.extend(call.input.iter().flat_map(|new| new.item.attributes.keys())),
            Change::Patch(call) => new.extend(call.input.patch.get("attributes").and_then(Json::as_object).into_iter().flat_map(|names| names.keys())),
            Change::Delete(_) => {}
        }
    }
    let mut named = changes.iter().flat_map(|change| match change {
        Change::Put(call) => call.input.iter().flat_map(|new| new.item.vectors.keys()).collect::<Vec<_>>(),
        Change::Patch(call) => call.input.patch.get("vectors").and_then(Json::as_object).into_iter().flat_map(|names| names.keys()).collect(),
        Change::Delete(_) => Vec::new(),
    });
    if named.any(|name| !ledger.vector_widths.contains_key(name)) {
        ledger.vector_widths = vectors::widths(&mut *connection).await?;
    }
    new.retain(|name| !ledger.attribute_types.contains_key(*name));
    let rows = TYPES.fetch_all(connection, &[], new.into_iter().map(|name| name.as_str().into()).collect()).await?;
    for row in &rows {
        let (name, kind) = attribute_type(row)?;
        ledger.attribute_types.insert(name, kind);
    }
    Ok(())
}

async fn write(connection: &mut Connection, rows: &[(&ItemId, &Held)]) -> Result<(), StoreError> {
    let columns = rows.iter().map(|(id, held)| {
        [
            i64::from(held.key.0).into(),
            id.as_str().into(),
            held.revision.0.into(),
            i64::from(held.deleted).into(),
            held.content.bytes().into(),
            (&*held.document).into(),
        ]
    });
    UPSERT.execute(connection, columns.collect()).await?;
    Ok(())
}

async fn write_types(connection: &mut Connection, types: &[(String, AttributeType)]) -> Result<(), StoreError> {
    NEW_TYPES.execute(connection, types.iter().map(|(name, kind)| [name.as_str().into(), type_name(*kind).into()]).collect()).await?;
    Ok(())
}

/// The name in the database.
fn type_name(kind: AttributeType) -> &'static str {
    match kind {
        AttributeType::Flag => "flag",
        AttributeType::Number => "number",
        AttributeType::Text => "text",
    }
}

pub(super) async fn attribute_types<'c>(on: impl Into<On<'c>>) -> Result<BTreeMap<String, AttributeType>, StoreError> {
    let rows = query("SELECT name, type FROM attribute_types").fetch_all(on).await?;
    rows.iter().map(attribute_type).collect()
}

/// From columns `name, type`.
fn attribute_type(row: &Row) -> Result<(String, AttributeType), StoreError> {
    let kinds = [AttributeType::Flag, AttributeType::Number, AttributeType::Text];
    let name: &str = row.get(1)?;
    let kind = kinds.into_iter().find(|kind| type_name(*kind) == name).ok_or_else(|| StoreError::corrupt("an attribute of unknown type"))?;
    Ok((row.get(0)?, kind))
}

fn key(row: &Row, column: usize) -> Result<ItemKey, StoreError> {
    u32::try_from(row.get::<i64>(column)?).map(ItemKey).map_err(|_| StoreError::corrupt("an item's key is out of range"))
}

fn deleted(row: &Row, column: usize) -> Result<bool, StoreError> {
    Ok(row.get::<i64>(column)? != 0)
}

/// From columns `key, revision, deleted, document`.
fn stored(row: &Row) -> Result<StoredItem, StoreError> {
    Ok(StoredItem { key: key(row, 0)?, revision: Revision(row.get(1)?), deleted: deleted(row, 2)?, item: parse(row.get(3)?)? })
}

/// How many items there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ItemCounts {
    /// Items that are there.
    pub live: u64,
    /// Tombstones. With `live`, one more than the largest key.
    pub deleted: u64,
}

impl Store {
    /// Puts items, in their order; the same item twice is two writes. Says what became of each, after the fsync.
    ///
    /// Items are stored as they are, but for the types of attributes and the widths of own vectors: [`Item::faults`] is the caller's to ask.
    pub async fn put_items(&self, items: Vec<Item>) -> Result<Vec<ItemOutcome>, StoreError> {
        if items.is_empty() {
            return Ok(Vec::new());
        }
        let items = super::in_turns(items, NewItem::new).await;
        self.write(items.len(), items, Write::Items).await
    }

    /// Merges a JSON merge patch (RFC 7396) into an item, inside the writer: no write in between is lost.
    pub async fn patch_item(&self, id: &ItemId, patch: Json) -> Result<PatchOutcome, StoreError> {
        self.write(1, Patch { item_id: id.clone(), patch }, Write::Patch).await
    }

    /// Deletes an item: the tombstone, with its revision; `None` when there is no such item.
    pub async fn delete_item(&self, id: &ItemId) -> Result<Option<StoredItem>, StoreError> {
        self.write(1, Deletion(id.clone()), Write::Delete).await
    }

    /// The item of that id; tombstones are `None`.
    pub async fn item(&self, id: &ItemId) -> Result<Option<StoredItem>, StoreError> {
        let text = "SELECT key, revision, deleted, document FROM items WHERE item_id = $1 AND deleted = 0";
        let row = query(text).bind(id.as_str()).fetch_optional(self.readers()).await?;
        row.as_ref().map(stored).transpose()
    }

    /// The items of those keys, tombstones included, in the order of their keys; unknown keys are left out.
    pub async fn items_by_key(&self, keys: &[ItemKey]) -> Result<Vec<StoredItem>, StoreError> {
        let rows = BY_KEY.fetch_all(self.readers(), &[], keys.iter().map(|key| i64::from(key.0).into()).collect()).await?;
        super::decode_rows(&rows, stored).await
    }

    /// A page of the catalogue in the order of ids (by bytes), from the one after `after`; no tombstones.
    pub async fn items_page(&self, after: Option<&ItemId>, limit: usize) -> Result<Vec<StoredItem>, StoreError> {
        // Every id is greater than the empty text.
        let text = "SELECT key, revision, deleted, document FROM items WHERE item_id > $1 AND deleted = 0 ORDER BY item_id LIMIT $2";
        let rows = query(text).bind(after.map_or("", ItemId::as_str)).bind(super::row_limit(limit)).fetch_all(self.readers()).await?;
        super::decode_rows(&rows, stored).await
    }

    /// Items above a revision in the order of revisions, tombstones included: what an index has yet to learn.
    pub async fn items_above(&self, revision: Revision, limit: usize) -> Result<Vec<StoredItem>, StoreError> {
        let text = "SELECT key, revision, deleted, document FROM items WHERE revision > $1 ORDER BY revision LIMIT $2";
        let rows = query(text).bind(revision.0).bind(super::row_limit(limit)).fetch_all(self.readers()).await?;
        super::decode_rows(&rows, stored).await
    }

    /// How many items above a revision there are, tombstones included.
    pub async fn pending_items(&self, revision: Revision) -> Result<u64, StoreError> {
        let count: i64 = query("SELECT count(*) FROM items WHERE revision > $1").bind(revision.0).fetch_one(self.readers()).await?.get(0)?;
        Ok(count.unsigned_abs())
    }

    /// How many items and tombstones there are.
    pub async fn item_counts(&self) -> Result<ItemCounts, StoreError> {
        let text = "SELECT (SELECT count(*) FROM items), (SELECT count(*) FROM items WHERE deleted = 1)";
        let row = query(text).fetch_one(self.readers()).await?;
        let (all, deleted): (i64, i64) = (row.get(0)?, row.get(1)?);
        Ok(ItemCounts { live: (all - deleted).unsigned_abs(), deleted: deleted.unsigned_abs() })
    }

    /// The newest revision; 0 for an empty catalogue.
    pub async fn latest_revision(&self) -> Result<Revision, StoreError> {
        let newest: Option<i64> = query("SELECT max(revision) FROM items").fetch_one(self.readers()).await?.get(0)?;
        Ok(Revision(newest.unwrap_or(0)))
    }

    /// The type that each attribute name has kept since its first use.
    pub async fn attribute_types(&self) -> Result<BTreeMap<String, AttributeType>, StoreError> {
        attribute_types(self.readers()).await
    }
}
