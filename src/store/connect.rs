//! From a folder to an open database: lock, connection settings, migrations, identity.

use std::{
    fs::{File, TryLockError},
    path::Path,
    time::Duration,
};

use sqlx::{
    ConnectOptions, Connection, Row, SqliteConnection, SqlitePool,
    migrate::Migrator,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

use super::{StoreError, StoreSettings};

pub(super) static MIGRATIONS: Migrator = sqlx::migrate!("migrations/sqlite");

/// The right to write to a folder, held as long as this lives; the system takes it back from a killed process.
///
/// The writer counts keys, revisions and sequences in memory: a second writer would give the same numbers twice.
pub(super) struct FolderLock(#[expect(dead_code, reason = "closing the file gives the lock back")] File);

impl FolderLock {
    /// Waits at most `patience` for an old process that is still draining.
    pub(super) async fn acquire(folder: &Path, patience: Duration) -> Result<Self, StoreError> {
        std::fs::create_dir_all(folder).map_err(StoreError::unavailable)?;
        let file = File::options().create(true).truncate(false).write(true).open(folder.join("store.lock")).map_err(StoreError::unavailable)?;
        let deadline = tokio::time::Instant::now() + patience;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Self(file)),
                Err(TryLockError::WouldBlock) if tokio::time::Instant::now() < deadline => tokio::time::sleep(Duration::from_millis(20)).await,
                Err(TryLockError::WouldBlock) => return Err(StoreError::InUse),
                Err(TryLockError::Error(error)) => return Err(StoreError::unavailable(error)),
            }
        }
    }
}

fn options(folder: &Path, cache_kib: u64) -> SqliteConnectOptions {
    // Statements of 64 rows would fill the log; failures are logged where they are handled.
    SqliteConnectOptions::new()
        .filename(folder.join("inkling.db"))
        .busy_timeout(Duration::from_secs(5))
        .pragma("cache_size", format!("-{cache_kib}"))
        .pragma("temp_store", "MEMORY")
        .statement_cache_capacity(512)
        .disable_statement_logging()
}

/// The one connection that writes. `synchronous=FULL` is what makes a commit survive power loss: the log is synced at each.
pub(super) async fn writer(folder: &Path, settings: &StoreSettings) -> Result<SqliteConnection, StoreError> {
    let options = options(folder, u64::from(settings.cache_mb) * 1024)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .pragma("journal_size_limit", "67108864") // a log that a long read made big shrinks again
        .thread_name(|id| format!("store-writer-{id}"));
    Ok(options.connect().await?)
}

/// Connections that read; in WAL mode they see the last commit and never wait for the writer.
pub(super) async fn readers(folder: &Path, settings: &StoreSettings) -> Result<SqlitePool, StoreError> {
    let readers = settings.readers.max(1);
    let options = options(folder, u64::from(settings.cache_mb) * 1024 / u64::from(readers)).read_only(true).thread_name(|id| format!("store-reader-{id}"));
    let pool = SqlitePoolOptions::new()
        .max_connections(readers)
        .acquire_timeout(Duration::from_secs(5))
        .idle_timeout(None)
        .max_lifetime(None)
        .test_before_acquire(false) // a local file does not hang up
        .connect_with(options);
    Ok(pool.await?)
}

pub(super) async fn migrate(connection: &mut SqliteConnection) -> Result<(), StoreError> {
    let known = MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or(0);
    MIGRATIONS.run(connection).await.map_err(|error| StoreError::from_migration(error, known))
}

/// The database's name for itself, made up at its first start.
pub(super) async fn catalogue_id(connection: &mut SqliteConnection) -> Result<String, StoreError> {
    let fresh = uuid::Uuid::now_v7().to_string();
    sqlx::query("INSERT INTO meta (name, value) VALUES ('catalogue_id', $1) ON CONFLICT (name) DO NOTHING").bind(fresh).execute(&mut *connection).await?;
    Ok(sqlx::query("SELECT value FROM meta WHERE name = 'catalogue_id'").fetch_one(connection).await?.try_get(0)?)
}

/// Moves the log into the database file, so that a copy of that one file is whole. Best effort: a reader may be in the way.
pub(super) async fn checkpoint_and_close(mut connection: SqliteConnection) {
    if let Err(error) = sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(&mut connection).await {
        tracing::warn!(%error, "the log could not be moved into the database file; the next start does it");
    }
    if let Err(error) = connection.close().await {
        tracing::warn!(%error, "the database did not close cleanly");
    }
}
