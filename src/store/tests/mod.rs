//! The store against real databases: its contract on SQLite in a temporary folder and on a PostgreSQL server, and what is each one's own.

/// Runs functions that take a [`Kind`] as tests, on SQLite and on Postgres.
macro_rules! on_both {
    ($($name:ident),* $(,)?) => {
        mod on_sqlite {
            $(#[tokio::test] async fn $name() { super::$name(crate::store::tests::Kind::Sqlite).await })*
        }
        mod on_postgres {
            $(
                #[tokio::test]
                #[cfg_attr(not(postgres_server), ignore = "PostgreSQL is not installed (apt install postgresql)")]
                async fn $name() { super::$name(crate::store::tests::Kind::Postgres).await }
            )*
        }
    };
}

mod durability;
mod events;
mod items;
mod leases;
mod migrations;
mod model;
mod people;
mod postgres;
#[path = "../../../tests/support/postgres.rs"]
mod postgres_server;
#[path = "../../../tests/support/proxy.rs"]
mod proxy;
mod rules;

use serde_json::{Value as Json, json};
use sqlx::{ConnectOptions, sqlite::SqliteConnectOptions};
use tempfile::TempDir;

use super::*;
use crate::domain::{Event, Item, ItemId, Timestamp};

pub(super) fn settings() -> StoreSettings {
    StoreSettings {
        url: None,
        queue: 16_384,
        exposure_queue: 1_024,
        commit_delay_ms: 2.0,
        readers: 2,
        cache_mb: 8,
        retention_days: 0,
        exposure_retention_days: 0,
    }
}

/// Which database a contract test runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Sqlite,
    Postgres,
}

/// A store that is gone, folder and all, when this goes.
pub(super) struct Temporary {
    pub(super) store: Store,
    pub(super) folder: TempDir,
    pub(super) settings: StoreSettings,
}

impl std::ops::Deref for Temporary {
    type Target = Store;
    fn deref(&self) -> &Store {
        &self.store
    }
}

/// Settings for an empty database.
pub(super) async fn fresh(kind: Kind) -> StoreSettings {
    let url = match kind {
        Kind::Sqlite => None,
        Kind::Postgres => Some(postgres_server::database().await.parse().unwrap()),
    };
    StoreSettings { url, ..settings() }
}

pub(super) async fn open(folder: &Path) -> Result<Store, StoreError> {
    open_with(folder, &settings()).await
}

pub(super) async fn open_with(folder: &Path, settings: &StoreSettings) -> Result<Store, StoreError> {
    Store::open(folder, settings, &Registry::new()).await
}

pub(super) async fn temporary(kind: Kind) -> Temporary {
    Temporary::with(fresh(kind).await).await
}

impl Temporary {
    pub(super) async fn with(settings: StoreSettings) -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { store: open_with(folder.path(), &settings).await.unwrap(), folder, settings }
    }

    /// As after an orderly restart.
    pub(super) async fn reopened(self) -> Self {
        self.store.close().await;
        Self { store: open_with(self.folder.path(), &self.settings).await.unwrap(), ..self }
    }

    /// Runs statements past the store.
    pub(super) async fn meddle(&self, statements: &'static str) {
        match &self.settings.url {
            None => {
                let file = SqliteConnectOptions::new().filename(self.folder.path().join("inkling.db"));
                sqlx::raw_sql(statements).execute(&mut file.connect().await.unwrap()).await.unwrap();
            }
            Some(url) => drop(sqlx::raw_sql(statements).execute(&mut url.options().connect().await.unwrap()).await.unwrap()),
        }
    }
}

#[test]
fn tests_on_postgres_run_or_their_absence_is_said_aloud() {
    postgres_server::tell_of_skipped_tests();
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
