//! The store against a real SQLite in a temporary folder.

mod durability;
mod events;
mod items;
mod model;

use serde_json::{Value as Json, json};
use tempfile::TempDir;

use super::*;
use crate::domain::{Event, Item, ItemId, Timestamp};

pub(super) fn settings() -> StoreSettings {
    StoreSettings { queue: 16_384, exposure_queue: 1_024, commit_delay_ms: 2.0, readers: 2, cache_mb: 8 }
}

/// A store that is gone, folder and all, when this goes.
pub(super) struct Temporary {
    pub(super) store: Store,
    pub(super) folder: TempDir,
}

impl std::ops::Deref for Temporary {
    type Target = Store;
    fn deref(&self) -> &Store {
        &self.store
    }
}

pub(super) async fn open(folder: &Path) -> Result<Store, StoreError> {
    Store::open(folder, &settings(), &Registry::new()).await
}

pub(super) async fn temporary() -> Temporary {
    let folder = tempfile::tempdir().unwrap();
    Temporary { store: open(folder.path()).await.unwrap(), folder }
}

impl Temporary {
    /// As after an orderly restart.
    pub(super) async fn reopened(self) -> Self {
        self.store.close().await;
        Self { store: open(self.folder.path()).await.unwrap(), folder: self.folder }
    }
}

pub(super) fn id(id: &str) -> ItemId {
    ItemId::new(id).unwrap()
}

fn with(mut document: Json, more: Json) -> Json {
    let (Json::Object(fields), Json::Object(more)) = (&mut document, more) else { panic!("both are objects") };
    fields.extend(more);
    document
}

pub(super) fn item(id: &str, more: Json) -> Item {
    serde_json::from_value(with(json!({"item_id": id, "title": "a title"}), more)).unwrap()
}

pub(super) fn event(more: Json) -> Event {
    serde_json::from_value(with(json!({"type": "click", "user_id": "u", "item_id": "i"}), more)).unwrap()
}

pub(super) fn at(ms: i64) -> Timestamp {
    Timestamp::from_millis(ms).unwrap()
}
