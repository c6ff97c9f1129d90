//! What can go wrong with the store, by what a caller can do about it.

use std::{path::Path, sync::Arc};

use sqlx::{migrate::MigrateError, postgres::PgDatabaseError, sqlite::SqliteError};

/// Why the store did not do it. Cheap to clone: one failed commit answers many callers. Messages hold no data of users.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// Too much waits already; nothing was written, try again later.
    #[error("the store is overloaded")]
    Overloaded,
    /// [`close`](super::Store::close) was called, or the runtime is shutting down; what was not answered may or may not be written.
    #[error("the store is closed")]
    Closed,
    /// The database cannot be used now: disk full, read-only, locked, folder missing, server away, …. A write that ended so is to be
    /// tried again; it is not known to be durable (a commit whose answer got lost may show up: with an `event_id` the retry is a duplicate).
    #[error("the database is unavailable: {0}")]
    Unavailable(Arc<str>),
    /// The file is no database, or holds what this program cannot have written. A person must look.
    #[error("the database is damaged: {0}")]
    Corrupt(Arc<str>),
    /// A newer program has upgraded the database; only it, or a newer one, can use it.
    #[error(
        "the database is newer than this program: it has migration {found}, this program knows up to {known}; run the newer program or use another database"
    )]
    Newer {
        /// The database's migration that is unknown here.
        found: i64,
        /// The newest one that is known.
        known: i64,
    },
    /// Another process writes to the same folder.
    #[error("the data folder is in use by another process")]
    InUse,
}

/// SQLite's primary result codes, <https://www.sqlite.org/rescode.html>.
const SQLITE_CORRUPT: i32 = 11;
const SQLITE_NOTADB: i32 = 26;
/// Postgres' `data_corrupted` and `index_corrupted`, <https://www.postgresql.org/docs/current/errcodes-appendix.html>.
const POSTGRES_DAMAGED: [&str; 2] = ["XX001", "XX002"];

impl StoreError {
    #[expect(clippy::needless_pass_by_value, reason = "by value it fits `map_err`")]
    pub(super) fn unavailable(reason: impl ToString) -> Self {
        Self::Unavailable(reason.to_string().into())
    }

    #[expect(clippy::needless_pass_by_value, reason = "by value it fits `map_err`")]
    pub(super) fn corrupt(reason: impl ToString) -> Self {
        Self::Corrupt(reason.to_string().into())
    }

    /// With the name of the file that cannot be used: at a start a person reads it.
    pub(super) fn of_file(self, path: &Path) -> Self {
        match self {
            Self::Unavailable(reason) => Self::unavailable(format!("{}: {reason}", path.display())),
            Self::Corrupt(reason) => Self::corrupt(format!("{}: {reason}", path.display())),
            other => other,
        }
    }

    pub(super) fn from_migration(error: MigrateError, known: i64) -> Self {
        match error {
            MigrateError::VersionMissing(found) if found > known => Self::Newer { found, known },
            MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => error.into(),
            other => Self::corrupt(other),
        }
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        match &error {
            sqlx::Error::Database(database) => {
                let code = database.code().unwrap_or_default();
                let damaged = if database.try_downcast_ref::<SqliteError>().is_some() {
                    // Extended codes keep the primary one in the low byte.
                    code.parse::<i32>().is_ok_and(|code| matches!(code & 0xff, SQLITE_CORRUPT | SQLITE_NOTADB))
                } else {
                    database.try_downcast_ref::<PgDatabaseError>().is_some() && POSTGRES_DAMAGED.contains(&&*code)
                };
                if damaged { Self::corrupt(database) } else { Self::unavailable(database) }
            }
            sqlx::Error::PoolTimedOut => Self::Overloaded,
            sqlx::Error::PoolClosed => Self::Closed,
            sqlx::Error::ColumnDecode { index, .. } => Self::corrupt(format!("column {index} has another type")),
            sqlx::Error::Decode(_) => Self::corrupt("a value has another type"),
            other => Self::unavailable(other),
        }
    }
}
