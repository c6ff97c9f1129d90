//! SQLite in the data folder: the folder's lock, how its file is opened, how it is left.

use std::{
    fs::{File as LockFile, TryLockError},
    path::{Path, PathBuf},
    time::Duration,
};

use sqlx::{
    ConnectOptions, Connection, Row, SqliteConnection, SqlitePool,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

use super::{Rewrite, StoreError, StoreSettings};

/// The right to write to a folder, held as long as this lives; the system takes it back from a killed process.
///
/// SQLite's writer counts keys, revisions and sequences in memory: a second writer would give the same numbers twice. And whatever the
/// database, the index and the artefacts of a folder are one process's.
pub(in crate::store) struct FolderLock(#[expect(dead_code, reason = "closing the file gives the lock back")] LockFile);

impl FolderLock {
    /// Waits at most `patience` for an old process that is still draining.
    pub(in crate::store) async fn acquire(folder: &Path, patience: Duration) -> Result<Self, StoreError> {
        let path = folder.join("store.lock");
        let unavailable = |error| StoreError::unavailable(error).of_file(&path);
        std::fs::create_dir_all(folder).map_err(unavailable)?;
        let file = LockFile::options().create(true).truncate(false).write(true).open(&path).map_err(unavailable)?;
        let deadline = tokio::time::Instant::now() + patience;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Self(file)),
                Err(TryLockError::WouldBlock) if tokio::time::Instant::now() < deadline => tokio::time::sleep(Duration::from_millis(20)).await,
                Err(TryLockError::WouldBlock) => return Err(StoreError::InUse),
                Err(TryLockError::Error(error)) => return Err(unavailable(error)),
            }
        }
    }
}

/// A database file, there or not yet.
pub(in crate::store) struct File {
    path: PathBuf,
    cache_mb: u32,
}

impl File {
    pub(super) fn new(folder: &Path, settings: &StoreSettings) -> Self {
        Self { path: folder.join("inkling.db"), cache_mb: settings.cache_mb }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    fn options(&self, cache_kib: u64) -> SqliteConnectOptions {
        // Statements of 64 rows would fill the log; failures are logged where they are handled.
        SqliteConnectOptions::new()
            .filename(&self.path)
            .busy_timeout(Duration::from_secs(5))
            .pragma("cache_size", format!("-{cache_kib}"))
            .pragma("temp_store", "MEMORY")
            .statement_cache_capacity(512)
            .disable_statement_logging()
    }

    /// The one connection that writes. `synchronous=FULL` is what makes a commit survive power loss: the log is synced at each.
    pub(super) async fn writer(&self) -> Result<SqliteConnection, StoreError> {
        let options = self
            .options(u64::from(self.cache_mb) * 1024)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .pragma("secure_delete", "ON") // what is deleted is overwritten, not only unlinked
            .pragma("journal_size_limit", "67108864") // a log that a long read made big shrinks again
            .thread_name(|id| format!("store-writer-{id}"));
        Ok(options.connect().await?)
    }

    /// Connections that read; in WAL mode they see the last commit and never wait for the writer.
    pub(super) async fn readers(&self, most: u32) -> Result<SqlitePool, StoreError> {
        let options = self.options(u64::from(self.cache_mb) * 1024 / u64::from(most)).read_only(true).thread_name(|id| format!("store-reader-{id}"));
        let pool = SqlitePoolOptions::new()
            .max_connections(most)
            .acquire_timeout(Duration::from_secs(5))
            .idle_timeout(None)
            .max_lifetime(None)
            .test_before_acquire(false) // a local file does not hang up
            .connect_with(options);
        Ok(pool.await?)
    }
}

/// A file up to this size is written anew at once: writes wait for it, 1.4 s for 35 MB on two cores with 13 programs on them.
const SMALL_BYTES: i64 = 32 << 20;

/// Takes out what is no longer in the tables: moves the log into the database file and cuts it to nothing; `false` while a reader needs
/// the log, which is not waited for, because writes would wait too.
///
/// Before that the file is written anew (`VACUUM`), as `rewrite` says: `secure_delete` overwrites the rows that are
/// deleted, but rows that were moved when a page was split or merged have left copies in unused parts of pages.
pub(super) async fn scrub(connection: &mut SqliteConnection, rewrite: Rewrite) -> Result<bool, StoreError> {
    let row = sqlx::query("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size").fetch_one(&mut *connection).await?;
    let small = row.try_get::<i64, _>(0)? <= SMALL_BYTES;
    match rewrite {
        Rewrite::Not => {}
        Rewrite::IfSmall if !small => owe_rewriting(connection).await?,
        Rewrite::IfSmall | Rewrite::Always => {
            // The copy goes to a file in the system's temporary folder, not to memory.
            let rewritten = sqlx::raw_sql("PRAGMA temp_store = FILE; VACUUM").execute(&mut *connection).await;
            sqlx::raw_sql("PRAGMA temp_store = MEMORY").execute(&mut *connection).await?;
            if let Err(error) = rewritten {
                owe_rewriting(connection).await?;
                return Err(error.into());
            }
            sqlx::query("DELETE FROM meta WHERE name = 'rewrite_due'").execute(&mut *connection).await?;
        }
    }
    sqlx::raw_sql("PRAGMA busy_timeout = 20").execute(&mut *connection).await?;
    let row = sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").fetch_one(&mut *connection).await?;
    sqlx::raw_sql("PRAGMA busy_timeout = 5000").execute(connection).await?;
    Ok(row.try_get::<i64, _>(0)? == 0)
}

async fn owe_rewriting(connection: &mut SqliteConnection) -> Result<(), StoreError> {
    let text = "INSERT INTO meta (name, value) VALUES ('rewrite_due', '1') ON CONFLICT (name) DO NOTHING";
    sqlx::query(text).execute(connection).await?;
    Ok(())
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
