//! Reading beside whoever writes: exports and backups of a folder that a server has open, in a process of their own.
//!
//! A copy is of SQLite; Postgres brings `pg_dump`. It is made by `VACUUM INTO` inside one read transaction: it is the database as of one commit, whole, and without the free pages
//! (<https://www.sqlite.org/lang_vacuum.html#vacuuminto>). In WAL mode neither side waits for the other; the log grows meanwhile.

use std::{path::Path, sync::Arc, time::Duration};

use sqlx::{
    ConnectOptions, Connection as _, Row as _, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode},
};
use tokio::sync::{Semaphore, mpsc};

use super::{
    Shared, Store, StoreError, StoreSettings,
    database::{Database, newest_sqlite_migration, query},
    edition,
    metrics::Metrics,
};
use crate::telemetry::Registry;

/// What a database holds, as a backup says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatabaseFacts {
    /// The database's name for itself.
    pub catalogue_id: String,
    /// The newest migration that was applied.
    pub migration: i64,
    /// Items, without deleted ones.
    pub items: u64,
    /// Events.
    pub events: u64,
}

impl Store {
    /// Opens the database of the settings, or that of the folder, for reading, whether somebody writes to it or not: no lock, no migration, and every
    /// write is [`StoreError::Closed`].
    ///
    /// Fails with [`StoreError::Newer`] on a database of a newer program, and with [`StoreError::Unavailable`] where there is none or where it has not
    /// been brought up to date by a start of this program.
    pub async fn open_read_only(folder: &Path, settings: &StoreSettings) -> Result<Self, StoreError> {
        let database = Database::new(folder, settings);
        let readers = database.readers(settings.readers.max(1)).await?;
        let applied: Option<i64> = query("SELECT max(version) FROM _sqlx_migrations").fetch_one(&readers).await?.get(0)?;
        let (applied, known) = (applied.unwrap_or(0), database.newest_migration());
        if applied > known {
            return Err(StoreError::Newer { found: applied, known });
        }
        if applied < known {
            return Err(StoreError::unavailable("it is of an older program; start a server on it once, which brings it up to date"));
        }
        let catalogue_id: String = query("SELECT value FROM meta WHERE name = 'catalogue_id'").fetch_one(&readers).await?.get(0)?;
        let edition = edition(&readers, &catalogue_id).await?;
        let metrics = Arc::new(Metrics::register(&Registry::new())?);
        // Their other ends are dropped here: there is no writer.
        let (messages, _) = mpsc::unbounded_channel();
        let (exposures, _) = mpsc::channel(1);
        let places = Arc::new(Semaphore::new(Semaphore::MAX_PERMITS));
        let (replica, holder, queue) = (None, String::new(), u32::MAX); // of no index and no lease
        Ok(Self { shared: Arc::new(Shared { catalogue_id, edition, replica, holder, messages, places, queue, exposures, readers, metrics }) })
    }
}

/// The newest migration of SQLite databases that this program knows: one with a newer one is not for it.
pub fn newest_migration() -> i64 {
    newest_sqlite_migration()
}

/// Copies the database of a folder into a file that is not there yet, while others read and write it. When it returns, the copy is on disk, and holds
/// every commit that was made before the call.
pub async fn copy_database(folder: &Path, to: &Path) -> Result<DatabaseFacts, StoreError> {
    let options = SqliteConnectOptions::new().filename(folder.join("inkling.db")).read_only(true);
    let mut connection = options.busy_timeout(Duration::from_secs(30)).disable_statement_logging().connect().await?;
    let path = to.to_str().ok_or_else(|| StoreError::unavailable("the copy's path is not UTF-8"))?;
    sqlx::query("VACUUM INTO $1").bind(path).execute(&mut connection).await?;
    connection.close().await?;
    // SQLite leaves it to the system when such a copy comes to the disk.
    std::fs::File::open(to).and_then(|file| file.sync_all()).map_err(StoreError::unavailable)?;
    let mut copy = open_copy(to).await?;
    let facts = facts(&mut copy, "PRAGMA quick_check").await?;
    copy.close().await?;
    Ok(facts)
}

/// Makes a copy fit to be served: checked through and through (pages, indexes, version), and without the word of how far an index was written. It
/// is an [edition](Store::edition) of its own from now on: the collection on a server that goes with the database of before may know later states, under the
/// same revisions as others here.
///
/// Fails with [`StoreError::Newer`] and [`StoreError::Corrupt`].
pub async fn restore_database(copy: &Path) -> Result<DatabaseFacts, StoreError> {
    let mut connection = open_copy(copy).await?;
    let facts = facts(&mut connection, "PRAGMA integrity_check").await?;
    let known = newest_migration();
    if facts.migration > known {
        return Err(StoreError::Newer { found: facts.migration, known });
    }
    sqlx::query("DELETE FROM index_state").execute(&mut connection).await?;
    let text = "INSERT INTO meta (name, value) VALUES ('edition', $1) ON CONFLICT (name) DO UPDATE SET value = excluded.value";
    sqlx::query(text).bind(uuid::Uuid::now_v7().to_string()).execute(&mut connection).await?;
    connection.close().await?;
    std::fs::File::open(copy).and_then(|file| file.sync_all()).map_err(StoreError::unavailable)?;
    Ok(facts)
}

/// A copy lies alone: its journal would stay behind, so it has none while it is looked at.
async fn open_copy(path: &Path) -> Result<SqliteConnection, StoreError> {
    let options = SqliteConnectOptions::new().filename(path).journal_mode(SqliteJournalMode::Delete).disable_statement_logging();
    Ok(options.connect().await?)
}

async fn applied_migration(connection: &mut SqliteConnection) -> Result<i64, StoreError> {
    let text = "SELECT max(version) FROM _sqlx_migrations WHERE success = 1";
    let applied: Option<i64> = sqlx::query_scalar(text).fetch_one(connection).await?;
    applied.ok_or_else(|| StoreError::corrupt("it has no migrations"))
}

async fn facts(connection: &mut SqliteConnection, check: &'static str) -> Result<DatabaseFacts, StoreError> {
    let words: Vec<String> = sqlx::query_scalar(check).fetch_all(&mut *connection).await?;
    if words != ["ok"] {
        return Err(StoreError::corrupt(words.first().map_or("the check says nothing", String::as_str)));
    }
    let migration = applied_migration(connection).await?;
    let text = "SELECT (SELECT value FROM meta WHERE name = 'catalogue_id'), (SELECT count(*) FROM items WHERE deleted = 0), (SELECT count(*) FROM events)";
    let row = sqlx::query(text).fetch_one(connection).await?;
    let count = |column| row.try_get::<i64, _>(column).map(i64::unsigned_abs);
    Ok(DatabaseFacts { catalogue_id: row.try_get(0)?, migration, items: count(1)?, events: count(2)? })
}
