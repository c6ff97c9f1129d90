//! The database behind the store: SQLite in the data folder, or Postgres. Statements and values in, rows out.
//!
//! A statement of one row is written once: `$n` placeholders, the plain types of [`Value`] and the upserts are the same on both.
//! What differs lives here and nowhere else: how to connect (`sqlite`, `postgres`), how a transaction begins and ends, and the texts
//! of statements over many rows (`bulk`).

mod bulk;
mod postgres;
mod sqlite;

use std::{borrow::Cow, future::Future, path::Path};

use futures::future::BoxFuture;
use sqlx::{
    Arguments, AssertSqlSafe, Connection as _, Decode, PgConnection, Postgres, Row as _, SqlSafeStr, SqlStr, Sqlite, SqliteConnection, SqlitePool, Type,
    migrate::Migrator,
    postgres::{PgArguments, PgConnectOptions, PgRow},
    sqlite::{SqliteArguments, SqliteRow},
};

use super::{StoreError, StoreSettings};

pub(super) use bulk::{Insert, List};
pub(super) use postgres::Announcements;
pub(super) use sqlite::FolderLock;

pub(super) static SQLITE_MIGRATIONS: Migrator = sqlx::migrate!("migrations/sqlite");
pub(super) static POSTGRES_MIGRATIONS: Migrator = sqlx::migrate!("migrations/postgres");

/// Where the truth lies.
pub(super) enum Database {
    Sqlite(sqlite::File),
    Postgres(Box<PgConnectOptions>),
}

/// A connection of its own: the one that writes.
pub(super) enum Connection {
    Sqlite(SqliteConnection),
    Postgres(Box<PgConnection>),
}

/// Connections that read: they see the last commit and never wait for the writer.
pub(super) enum Readers {
    Sqlite(SqlitePool),
    Postgres(postgres::Readers),
}

/// Whether SQLite's file is written anew, which takes seconds a GB.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rewrite {
    #[default]
    Not,
    /// A large one is owed it instead.
    IfSmall,
    Always,
}

/// The numbers that a transaction gives next; they grow in the order of commits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Numbers {
    pub(super) key: u32,
    pub(super) revision: i64,
    pub(super) sequence: i64,
    /// Of merges of people; 1 while there was none.
    pub(super) merge: i64,
    /// Of erasures; 1 while there was none.
    pub(super) erasure: i64,
}

impl Database {
    /// The database of those settings, or the file in `folder`.
    pub(super) fn new(folder: &Path, settings: &StoreSettings) -> Self {
        match &settings.url {
            None => Self::Sqlite(sqlite::File::new(folder, settings)),
            Some(url) => Self::Postgres(Box::new(postgres::options(url))),
        }
    }

    /// The newest migration that this program knows for it.
    pub(super) fn newest_migration(&self) -> i64 {
        newest(match self {
            Self::Sqlite(_) => &SQLITE_MIGRATIONS,
            Self::Postgres(_) => &POSTGRES_MIGRATIONS,
        })
    }

    pub(super) async fn writer(&self) -> Result<Connection, StoreError> {
        Ok(match self {
            Self::Sqlite(file) => Connection::Sqlite(file.writer().await?),
            Self::Postgres(options) => Connection::Postgres(Box::new(postgres::writer(options).await?)),
        })
    }

    /// An error with the name of the file that it is about.
    pub(super) fn naming(&self, error: StoreError) -> StoreError {
        match self {
            Self::Sqlite(file) => error.of_file(file.path()),
            Self::Postgres(_) => error, // it names the server
        }
    }

    /// The writer of a start, which waits for a database server that is starting too and brings the tables up to date.
    pub(super) async fn first_writer(&self) -> Result<Connection, StoreError> {
        match self {
            Self::Sqlite(_) => {
                let mut connection = self.writer().await?;
                connection.migrate().await?;
                Ok(connection)
            }
            Self::Postgres(options) => {
                // Of its own, because migrations may take longer than the writer's limits allow.
                let mut migrating = Connection::Postgres(Box::new(postgres::first_connection(options).await?));
                migrating.migrate().await?;
                migrating.close().await;
                self.writer().await
            }
        }
    }

    pub(super) async fn readers(&self, most: u32) -> Result<Readers, StoreError> {
        Ok(match self {
            Self::Sqlite(file) => Readers::Sqlite(file.readers(most).await?),
            Self::Postgres(options) => {
                let readers = postgres::Readers::new(options, most);
                readers.first().await?;
                Readers::Postgres(readers)
            }
        })
    }
}

impl Connection {
    async fn migrate(&mut self) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(connection) => SQLITE_MIGRATIONS.run(connection).await.map_err(|error| StoreError::from_migration(error, newest(&SQLITE_MIGRATIONS))),
            Self::Postgres(connection) => {
                POSTGRES_MIGRATIONS.run(connection.as_mut()).await.map_err(|error| StoreError::from_migration(error, newest(&POSTGRES_MIGRATIONS)))
            }
        }
    }

    /// Begins a transaction that will be the next to commit. One that is not [committed](Self::commit) must lose its connection.
    ///
    /// SQLite has one writer, and `numbers` are right. On Postgres they are read now, and locked: other replicas' writers wait.
    pub(super) async fn begin(&mut self, numbers: &mut Numbers) -> Result<(), StoreError> {
        match self {
            // IMMEDIATE: a transaction that begins as a reader could be refused when it first writes.
            Self::Sqlite(connection) => {
                sqlx::raw_sql("BEGIN IMMEDIATE").execute(connection).await?;
            }
            Self::Postgres(connection) => {
                let text = "BEGIN; SELECT next_key, next_revision, next_sequence, next_merge, next_erasure FROM counters FOR UPDATE";
                let rows = postgres::patiently(sqlx::raw_sql(text).fetch_all(connection.as_mut())).await?;
                let row = rows.into_iter().next().map(Row::Postgres).ok_or_else(|| StoreError::corrupt("the counters have no row"))?;
                *numbers = Numbers { key: item_key(row.get(0)?)?, revision: row.get(1)?, sequence: row.get(2)?, merge: row.get(3)?, erasure: row.get(4)? };
            }
        }
        Ok(())
    }

    /// Makes the transaction durable that began with the numbers `begun` and has given those before `next`.
    ///
    /// After an error its connection must go, and it is unknown whether the transaction happened.
    pub(super) async fn commit(&mut self, begun: &Numbers, next: &Numbers) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(connection) => {
                sqlx::raw_sql("COMMIT").execute(connection).await?;
            }
            Self::Postgres(connection) => {
                let Numbers { key, revision, sequence, merge, erasure } = next;
                // The announcement is sent when the commit is: it wakes the replicas that listen (`Announcements`).
                let counted = format!(
                    "UPDATE counters SET next_key = {key}, next_revision = {revision}, next_sequence = {sequence}, \
                     next_merge = {merge}, next_erasure = {erasure}; NOTIFY inkling; "
                );
                let text = if next == begun { "COMMIT".to_owned() } else { counted + "COMMIT" };
                postgres::patiently(sqlx::raw_sql(AssertSqlSafe(text)).execute(connection.as_mut())).await?;
            }
        }
        Ok(())
    }

    /// Milliseconds since 1970 by the database's clock, which is the same for all replicas.
    pub(super) async fn clock_ms(&mut self) -> Result<i64, StoreError> {
        let text = match self {
            Self::Sqlite(_) => "SELECT CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)",
            Self::Postgres(_) => "SELECT CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT)",
        };
        query(text).fetch_one(self).await?.get(0)
    }

    /// Whether one statement outside of a transaction gives the right numbers too.
    pub(super) fn is_alone(&self) -> bool {
        matches!(self, Self::Sqlite(_))
    }

    /// The numbers that come next, as the tables tell; Postgres says them at each [`begin`](Self::begin).
    pub(super) async fn numbers(&mut self) -> Result<Numbers, StoreError> {
        let newest = "SELECT (SELECT max(key) FROM items), (SELECT max(revision) FROM items), (SELECT max(sequence) FROM events), \
                      (SELECT CAST(value AS BIGINT) FROM meta WHERE name = 'next_sequence'), \
                      (SELECT max(number) FROM aliases), (SELECT max(number) FROM erased)";
        let row = query(newest).fetch_one(self).await?;
        let after = |column, first: i64| Ok::<_, StoreError>(row.get::<Option<i64>>(column)?.map_or(first, |newest| newest + 1));
        let sequence = after(2, 1)?.max(row.get::<Option<i64>>(3)?.unwrap_or(1));
        Ok(Numbers { key: item_key(after(0, 0)?)?, revision: after(1, 1)?, sequence, merge: after(4, 1)?, erasure: after(5, 1)? })
    }

    /// Remembers the next sequence where it is counted from the events that are there: the newest may be deleted. Inside a transaction.
    pub(super) async fn keep_sequence(&mut self, next: i64) -> Result<(), StoreError> {
        if let Self::Sqlite(_) = self {
            let text = "INSERT INTO meta (name, value) VALUES ('next_sequence', $1) ON CONFLICT (name) DO UPDATE SET value = excluded.value";
            query(text).bind(next.to_string()).execute(self).await?;
        }
        Ok(())
    }

    /// Takes out of SQLite's files what is no longer in the tables; `false` while a reader is in the way. Outside of a transaction.
    pub(super) async fn scrub(&mut self, rewrite: Rewrite) -> Result<bool, StoreError> {
        match self {
            Self::Sqlite(connection) => sqlite::scrub(connection, rewrite).await,
            Self::Postgres(_) => Ok(true), // its files are the server's
        }
    }

    /// Ends the connection in order. SQLite's log moves into the database file, so that a copy of that one file is whole.
    pub(super) async fn close(self) {
        match self {
            Self::Sqlite(connection) => sqlite::checkpoint_and_close(connection).await,
            Self::Postgres(connection) => {
                if let Err(error) = connection.close().await {
                    tracing::debug!(%error, "the connection to Postgres did not close cleanly");
                }
            }
        }
    }
}

/// The newest migration that this program knows for SQLite.
pub(super) fn newest_sqlite_migration() -> i64 {
    newest(&SQLITE_MIGRATIONS)
}

fn newest(migrator: &Migrator) -> i64 {
    migrator.iter().map(|migration| migration.version).max().unwrap_or(0)
}

fn item_key(key: i64) -> Result<u32, StoreError> {
    u32::try_from(key).map_err(|_| StoreError::corrupt("an item's key is out of range"))
}

impl Readers {
    /// Wake-ups when other processes have written; none where there are no others.
    pub(super) fn announcements(&self) -> Option<Announcements> {
        match self {
            Self::Sqlite(_) => None,
            Self::Postgres(readers) => Some(readers.announcements()),
        }
    }

    /// Ends all of them; reads fail with [`StoreError::Closed`] from then on.
    pub(super) async fn close(&self) {
        match self {
            Self::Sqlite(pool) => pool.close().await,
            Self::Postgres(readers) => readers.close().await,
        }
    }
}

/// A value on its way into a statement; `None` is NULL of that type.
#[derive(Debug, Clone)]
pub(super) enum Value<'v> {
    Int(Option<i64>),
    Float(Option<f64>),
    Text(Option<Cow<'v, str>>),
    /// What people wrote: it may hold U+0000, which ids and JSON documents do not. Read by [`Row::free_text`].
    FreeText(Option<&'v str>),
    Bytes(Option<Cow<'v, [u8]>>),
}

macro_rules! value_from {
    ($($type:ty => |$value:ident| $variant:ident($made:expr);)*) => {$(
        impl<'v> From<$type> for Value<'v> {
            fn from($value: $type) -> Self {
                Self::$variant($made)
            }
        }
    )*};
}

value_from! {
    i64 => |value| Int(Some(value));
    Option<f64> => |value| Float(value);
    &'v str => |value| Text(Some(value.into()));
    Option<&'v str> => |value| Text(value.map(Into::into));
    String => |value| Text(Some(value.into()));
    &'v [u8] => |value| Bytes(Some(value.into()));
    Option<&'v [u8]> => |value| Bytes(value.map(Into::into));
    Vec<u8> => |value| Bytes(Some(value.into()));
}

impl Value<'_> {
    fn add_to_sqlite(&self, arguments: &mut SqliteArguments) -> Result<(), StoreError> {
        let added = match self {
            Self::Int(value) => arguments.add(*value),
            Self::Float(value) => arguments.add(*value),
            Self::Text(value) => arguments.add(value.as_deref()),
            Self::FreeText(value) => arguments.add(*value),
            Self::Bytes(value) => arguments.add(value.as_deref()),
        };
        added.map_err(StoreError::unavailable)
    }

    fn add_to_postgres(&self, arguments: &mut PgArguments) -> Result<(), StoreError> {
        let added = match self {
            Self::Int(value) => arguments.add(*value),
            Self::Float(value) => arguments.add(*value),
            Self::Text(value) => arguments.add(value.as_deref()),
            Self::FreeText(value) => arguments.add(value.map(postgres::escaped)),
            Self::Bytes(value) => arguments.add(value.as_deref()),
        };
        added.map_err(StoreError::unavailable)
    }
}

/// A row of an answer.
pub(super) enum Row {
    Sqlite(SqliteRow),
    Postgres(PgRow),
}

impl Row {
    /// The value of a column, counted from 0.
    pub(super) fn get<'r, T>(&'r self, column: usize) -> Result<T, StoreError>
    where
        T: Decode<'r, Sqlite> + Type<Sqlite> + Decode<'r, Postgres> + Type<Postgres>,
    {
        Ok(match self {
            Self::Sqlite(row) => row.try_get(column)?,
            Self::Postgres(row) => row.try_get(column)?,
        })
    }

    /// What was written as [`Value::FreeText`].
    pub(super) fn free_text(&self, column: usize) -> Result<Option<String>, StoreError> {
        let text: Option<String> = self.get(column)?;
        Ok(match self {
            Self::Sqlite(_) => text,
            Self::Postgres(_) => text.map(postgres::unescaped),
        })
    }
}

/// Where a statement runs: on the writer's connection, in its transaction, or on one of those that read.
pub(super) enum On<'c> {
    Writer(&'c mut Connection),
    Readers(&'c Readers),
}

impl<'c> From<&'c mut Connection> for On<'c> {
    fn from(connection: &'c mut Connection) -> Self {
        Self::Writer(connection)
    }
}

impl<'c> From<&'c Readers> for On<'c> {
    fn from(readers: &'c Readers) -> Self {
        Self::Readers(readers)
    }
}

impl<'c> On<'c> {
    fn again(&mut self) -> On<'_> {
        match self {
            Self::Writer(connection) => On::Writer(connection),
            Self::Readers(readers) => On::Readers(readers),
        }
    }

    fn is_postgres(&self) -> bool {
        matches!(self, Self::Writer(Connection::Postgres(_)) | Self::Readers(Readers::Postgres(_)))
    }

    /// Boxed: the four drivers' futures would make every caller's some ten kB larger.
    fn rows<'f>(self, text: SqlStr, values: Values<'f>) -> BoxFuture<'f, Result<Vec<Row>, StoreError>>
    where
        'c: 'f,
    {
        Box::pin(self.unboxed_rows(text, values))
    }

    async fn unboxed_rows(self, text: SqlStr, values: Values<'_>) -> Result<Vec<Row>, StoreError> {
        let sqlite = |rows: Vec<SqliteRow>| rows.into_iter().map(Row::Sqlite).collect();
        let postgres = |rows: Vec<PgRow>| rows.into_iter().map(Row::Postgres).collect();
        Ok(match self {
            Self::Writer(Connection::Sqlite(connection)) => sqlite(sqlx::query_with(text, values.sqlite()?).fetch_all(connection).await?),
            Self::Readers(Readers::Sqlite(pool)) => sqlite(sqlx::query_with(text, values.sqlite()?).fetch_all(pool).await?),
            Self::Writer(Connection::Postgres(connection)) => {
                let query = sqlx::query_with(text, values.postgres()?);
                postgres(postgres::patiently(query.fetch_all(connection.as_mut())).await?)
            }
            Self::Readers(Readers::Postgres(readers)) => {
                let query = sqlx::query_with(text, values.postgres()?);
                let mut reader = readers.acquire().await?;
                let read = postgres::patiently(query.fetch_all(&mut *reader)).await;
                postgres(readers.judged(reader, read)?)
            }
        })
    }
}

/// The values of one statement.
enum Values<'v> {
    /// One a placeholder.
    Each(&'v [Value<'v>]),
    /// After those of `first`, rows of so many columns: a placeholder a value on SQLite, one a column on Postgres.
    Columns { first: &'v [Value<'v>], rows: &'v [Value<'v>], columns: usize },
}

impl Values<'_> {
    fn sqlite(&self) -> Result<SqliteArguments, StoreError> {
        let (first, rows): (&[Value<'_>], &[Value<'_>]) = match self {
            Self::Each(values) => (values, &[]),
            Self::Columns { first, rows, .. } => (first, rows),
        };
        let mut arguments = SqliteArguments::default();
        arguments.reserve(first.len() + rows.len(), 0);
        for value in first.iter().chain(rows) {
            value.add_to_sqlite(&mut arguments)?;
        }
        Ok(arguments)
    }

    fn postgres(&self) -> Result<PgArguments, StoreError> {
        let mut arguments = PgArguments::default();
        match self {
            Self::Each(values) => values.iter().try_for_each(|value| value.add_to_postgres(&mut arguments))?,
            Self::Columns { first, rows, columns } => {
                first.iter().try_for_each(|value| value.add_to_postgres(&mut arguments))?;
                for column in 0..*columns {
                    bulk::add_column(rows.iter().skip(column).step_by(*columns), &mut arguments)?;
                }
            }
        }
        Ok(arguments)
    }
}

/// A statement with its values; `$1` is the first.
pub(super) struct Query<'q> {
    text: SqlStr,
    values: Vec<Value<'q>>,
}

/// Begins a statement of one row, the same on both databases.
pub(super) fn query<'q>(text: &'static str) -> Query<'q> {
    Query { text: text.into_sql_str(), values: Vec::new() }
}

impl<'q> Query<'q> {
    /// Gives the next placeholder its value.
    pub(super) fn bind(mut self, value: impl Into<Value<'q>>) -> Self {
        self.values.push(value.into());
        self
    }

    pub(super) fn fetch_all<'c>(self, on: impl Into<On<'c>>) -> impl Future<Output = Result<Vec<Row>, StoreError>> {
        let on = on.into();
        async move { on.rows(self.text, Values::Each(&self.values)).await }
    }

    pub(super) fn fetch_optional<'c>(self, on: impl Into<On<'c>>) -> impl Future<Output = Result<Option<Row>, StoreError>> {
        let on = on.into();
        async move { Ok(self.fetch_all(on).await?.into_iter().next()) }
    }

    /// For statements that always give a row, such as counts.
    pub(super) fn fetch_one<'c>(self, on: impl Into<On<'c>>) -> impl Future<Output = Result<Row, StoreError>> {
        let on = on.into();
        async move { self.fetch_optional(on).await?.ok_or_else(|| StoreError::corrupt("an answer without a row")) }
    }

    /// How many rows it changed.
    pub(super) async fn execute(self, connection: &mut Connection) -> Result<u64, StoreError> {
        connection.execute(self.text, Values::Each(&self.values)).await
    }
}

impl Connection {
    async fn execute(&mut self, text: SqlStr, values: Values<'_>) -> Result<u64, StoreError> {
        Ok(match self {
            Self::Sqlite(connection) => sqlx::query_with(text, values.sqlite()?).execute(connection).await?.rows_affected(),
            Self::Postgres(connection) => {
                let query = sqlx::query_with(text, values.postgres()?);
                postgres::patiently(query.execute(connection.as_mut())).await?.rows_affected()
            }
        })
    }
}
