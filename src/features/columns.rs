//! What is known of every item, in memory: one row an `ItemKey`. Written by ingest only, in the order of revisions.

use std::sync::{Arc, RwLock, RwLockReadGuard};

use rustc_hash::FxHashMap;

use crate::domain::{AttributeType, ItemFacts, ItemId, ItemKey, Revision, StoredItem};

/// The item columns.
#[derive(Debug, Default)]
pub struct Columns {
    table: RwLock<Table>,
}

/// The columns as they are at one moment; hold it briefly, never across an await.
#[derive(Debug, Default)]
pub struct Table {
    rows: Vec<Row>,
    keys: FxHashMap<ItemId, ItemKey>,
    attribute_types: FxHashMap<String, AttributeType>,
    live: usize,
    perishable: usize,
    changes: u64,
}

#[derive(Debug, Default)]
struct Row {
    revision: Revision,
    facts: Option<Arc<ItemFacts>>,
}

impl Columns {
    /// Takes over the states of items; an older revision than the one known changes nothing.
    pub fn apply<'a>(&self, items: impl IntoIterator<Item = &'a StoredItem>) {
        let mut table = self.table.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        for stored in items {
            table.apply(stored);
        }
    }

    /// Takes over the types that attribute names have had since their first use, deleted items included.
    pub fn fix_attribute_types(&self, types: impl IntoIterator<Item = (String, AttributeType)>) {
        self.table.write().unwrap_or_else(std::sync::PoisonError::into_inner).attribute_types.extend(types);
    }

    /// The columns as they are now.
    pub fn read(&self) -> RwLockReadGuard<'_, Table> {
        self.table.read().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// The type that an attribute name keeps.
    pub fn attribute_type(&self, name: &str) -> Option<AttributeType> {
        self.read().attribute_types.get(name).copied()
    }
}

impl Table {
    fn apply(&mut self, stored: &StoredItem) {
        let row = stored.key.row();
        if self.rows.len() <= row {
            self.rows.resize_with(row + 1, Row::default);
        }
        if stored.revision <= self.rows[row].revision {
            return;
        }
        let facts = (!stored.deleted).then(|| Arc::new(ItemFacts::from(stored.item.as_ref())));
        let perishes = |facts: &Option<Arc<ItemFacts>>| usize::from(facts.as_ref().is_some_and(|facts| !facts.available || facts.expires_at.is_some()));
        let old = &self.rows[row].facts;
        self.live = self.live + usize::from(facts.is_some()) - usize::from(old.is_some());
        self.perishable = self.perishable + perishes(&facts) - perishes(old);
        if facts.is_some() {
            self.keys.insert(stored.item.item_id.clone(), stored.key);
            for (name, value) in &stored.item.attributes {
                if !self.attribute_types.contains_key(name) {
                    self.attribute_types.insert(name.clone(), value.kind());
                }
            }
        }
        self.rows[row] = Row { revision: stored.revision, facts };
        self.changes += 1;
    }

    /// The item's facts; `None` when it is deleted or unknown.
    pub fn facts(&self, key: ItemKey) -> Option<&Arc<ItemFacts>> {
        self.rows.get(key.row())?.facts.as_ref()
    }

    /// The key of an item that is or was in the catalogue.
    pub fn key_of(&self, id: &ItemId) -> Option<ItemKey> {
        self.keys.get(id).copied()
    }

    /// Items that are not deleted.
    pub fn live(&self) -> usize {
        self.live
    }

    /// Items that are unavailable, or will expire some day or have.
    pub fn perishable(&self) -> usize {
        self.perishable
    }

    /// How often a row has changed since the start.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// Rows, deleted ones included: every key is below it.
    pub fn rows(&self) -> usize {
        self.rows.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(key: u32, revision: i64, deleted: bool, price: f64) -> StoredItem {
        let item = serde_json::from_value(serde_json::json!({"item_id": format!("i{key}"), "title": "x", "price": price, "attributes": {"size": 4}})).unwrap();
        StoredItem { key: ItemKey(key), revision: Revision(revision), deleted, item: Arc::new(item) }
    }

    #[test]
    fn the_newest_revision_wins_in_whatever_order_writes_arrive() {
        let columns = Columns::default();

        columns.apply(&[stored(3, 5, false, 2.0), stored(3, 4, false, 1.0), stored(0, 6, false, 9.0), stored(0, 7, true, 9.0)]);

        let table = columns.read();
        assert_eq!(table.facts(ItemKey(3)).unwrap().price, Some(2.0));
        assert_eq!(table.facts(ItemKey(0)), None);
        assert_eq!(table.key_of(&ItemId::new("i3").unwrap()), Some(ItemKey(3)));
        assert_eq!((table.live(), table.rows(), table.changes()), (1, 4, 3));
        drop(table);
        assert_eq!(columns.attribute_type("size"), Some(AttributeType::Number));
    }
}
