//! Postgres: how it is reached, what a session promises, and what happens while it is away.
//!
//! Nothing waits without bound: connecting, a statement, a lock and an idle transaction have their limits. While the server is away one
//! task knocks, and reads fail at once instead of each waiting for its own connection.

use std::{
    borrow::Cow,
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use sqlx::{
    ConnectOptions, Connection, PgConnection, PgPool, Postgres, Row,
    pool::PoolConnection,
    postgres::{PgConnectOptions, PgListener, PgPoolOptions},
};
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};

use super::StoreError;
use crate::store::settings::DatabaseUrl;

/// For one statement, from sending to the last row.
const PATIENCE: Duration = Duration::from_secs(10);
/// For a new connection.
const CONNECT_PATIENCE: Duration = Duration::from_secs(5);
/// For a server that starts together with this process.
const START_PATIENCE: Duration = Duration::from_secs(20);
/// For one of the reading connections.
const READER_PATIENCE: Duration = Duration::from_secs(2);
/// A connection that was idle for so long is asked whether it still lives before it is used.
const TRUSTED: Duration = Duration::from_secs(1);
/// Between two knocks while the server is away.
const KNOCK_EVERY: Duration = Duration::from_millis(200);

pub(super) fn options(url: &DatabaseUrl) -> PgConnectOptions {
    url.options().clone().application_name("inkling").statement_cache_capacity(256).disable_statement_logging()
}

/// Waits for a statement within [`PATIENCE`]; its connection is of no use after that.
pub(super) async fn patiently<T>(statement: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, StoreError> {
    match timeout(PATIENCE, statement).await {
        Ok(done) => Ok(done?),
        Err(_) => Err(StoreError::unavailable(format!("no answer within {} s", PATIENCE.as_secs()))),
    }
}

async fn connect(options: &PgConnectOptions) -> Result<PgConnection, StoreError> {
    match timeout(CONNECT_PATIENCE, options.connect()).await {
        Ok(connected) => Ok(connected?),
        Err(_) => Err(StoreError::unavailable(format!("no connection within {} s", CONNECT_PATIENCE.as_secs()))),
    }
}

/// The connection of a start: waits for a server that is starting too, and says what is wrong with the one there is.
pub(super) async fn first_connection(options: &PgConnectOptions) -> Result<PgConnection, StoreError> {
    let deadline = Instant::now() + START_PATIENCE;
    let mut waited = false;
    let mut connection = loop {
        match timeout(CONNECT_PATIENCE, options.connect()).await {
            Ok(Ok(connection)) => break connection,
            Ok(Err(error)) if Instant::now() >= deadline || !may_be_starting(&error) => return Err(error.into()),
            Err(_) if Instant::now() >= deadline => return Err(StoreError::unavailable("no connection")),
            Ok(Err(_)) | Err(_) => {
                if !waited {
                    tracing::info!("waiting for Postgres");
                }
                waited = true;
                sleep(KNOCK_EVERY).await;
            }
        }
    };
    let text = "SELECT current_setting('server_encoding'), current_setting('fsync'), current_setting('full_page_writes')";
    let row = patiently(sqlx::query(text).fetch_one(&mut connection)).await?;
    let encoding: String = row.try_get(0)?;
    if encoding != "UTF8" {
        return Err(StoreError::unavailable(format!("the database is encoded in {encoding}, it must be in UTF8")));
    }
    for (setting, column) in [("fsync", 1), ("full_page_writes", 2)] {
        if row.try_get::<&str, _>(column)? != "on" {
            tracing::warn!(setting, "Postgres runs with {setting} = off: what is acknowledged may be lost with the power");
        }
    }
    Ok(connection)
}

fn may_be_starting(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) => true,
        sqlx::Error::Database(error) => error.code().is_some_and(|code| code == "57P03"), // cannot_connect_now
        _ => false,
    }
}

/// The connection that writes.
///
/// No `statement_timeout`: it would also end the wait for a synchronous standby, and call the commit a success. The bound is
/// [`patiently`]'s. A writer that hangs inside a transaction loses it, because the others wait for its lock.
pub(super) async fn writer(options: &PgConnectOptions) -> Result<PgConnection, StoreError> {
    let mut connection = connect(options).await?;
    let session = "SET idle_in_transaction_session_timeout = '5s'; SET lock_timeout = '8s'";
    patiently(sqlx::raw_sql(session).execute(&mut connection)).await?;
    // A commit is durable when it is acknowledged, whatever the server's default; a stronger default stays.
    let durable = "SELECT set_config('synchronous_commit', \
                   CASE current_setting('synchronous_commit') WHEN 'remote_apply' THEN 'remote_apply' ELSE 'on' END, false)";
    patiently(sqlx::query(durable).execute(&mut connection)).await?;
    Ok(connection)
}

/// A text without U+0000, which Postgres cannot hold: `\0` for it, `\\` for a backslash.
pub(super) fn escaped(text: &str) -> Cow<'_, str> {
    if text.contains(['\0', '\\']) { text.replace('\\', r"\\").replace('\0', r"\0").into() } else { text.into() }
}

/// Takes [`escaped`] back.
pub(super) fn unescaped(text: String) -> String {
    if !text.contains('\\') {
        return text;
    }
    let mut whole = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        whole.push(match character {
            '\\' if characters.next() == Some('0') => '\0',
            other => other,
        });
    }
    whole
}

/// The connections that read.
pub(in crate::store) struct Readers(Arc<Shared>);

struct Shared {
    options: PgConnectOptions,
    pool: PgPool,
    most: u32,
    /// The server did not answer, and the task that knocks has not been let in yet.
    away: AtomicBool,
}

impl Readers {
    /// Connects when they are needed.
    pub(super) fn new(options: &PgConnectOptions, most: u32) -> Self {
        let pool = PgPoolOptions::new()
            .max_connections(most)
            .acquire_timeout(READER_PATIENCE)
            .test_before_acquire(false) // a question before each read would double its time; see below
            .before_acquire(|connection, meta| {
                Box::pin(async move {
                    if meta.idle_for >= TRUSTED {
                        timeout(READER_PATIENCE / 2, connection.ping()).await.map_err(|_| sqlx::Error::PoolTimedOut)??;
                    }
                    Ok(true)
                })
            })
            .after_connect(|connection, _| {
                Box::pin(async move {
                    let session = format!("SET default_transaction_read_only = on; SET statement_timeout = '{}s'", PATIENCE.as_secs());
                    sqlx::raw_sql(sqlx::AssertSqlSafe(session)).execute(connection).await.map(drop)
                })
            })
            .connect_lazy_with(options.clone());
        Self(Arc::new(Shared { options: options.clone(), pool, most, away: AtomicBool::new(false) }))
    }

    /// Waits for the first connection as long as a start waits for its writer: a server that has just recovered lets people in slowly.
    pub(super) async fn first(&self) -> Result<(), StoreError> {
        let deadline = Instant::now() + START_PATIENCE;
        loop {
            match self.acquire().await {
                Ok(_) => return Ok(()),
                Err(error) if Instant::now() >= deadline => return Err(error),
                Err(_) => sleep(KNOCK_EVERY).await,
            }
        }
    }

    pub(super) async fn acquire(&self) -> Result<PoolConnection<Postgres>, StoreError> {
        let Shared { pool, most, away, .. } = &*self.0;
        if away.load(Ordering::Acquire) && !pool.is_closed() {
            return Err(StoreError::unavailable("no connection"));
        }
        match pool.acquire().await {
            Ok(connection) => Ok(connection),
            Err(sqlx::Error::PoolTimedOut) if pool.size() >= *most => Err(StoreError::Overloaded),
            Err(sqlx::Error::PoolClosed) => Err(StoreError::Closed),
            Err(error) => {
                self.knock();
                Err(StoreError::unavailable(error))
            }
        }
    }

    /// Hands on what `reader` has read. One that failed is not used again.
    pub(super) fn judged<T>(&self, mut reader: PoolConnection<Postgres>, read: Result<T, StoreError>) -> Result<T, StoreError> {
        if matches!(read, Err(StoreError::Unavailable(_))) {
            reader.close_on_drop();
            self.knock();
        }
        read
    }

    pub(super) async fn close(&self) {
        self.0.pool.close().await;
    }

    pub(super) fn announcements(&self) -> Announcements {
        let pool = PgPoolOptions::new().max_connections(1).acquire_timeout(CONNECT_PATIENCE).connect_lazy_with(self.0.options.clone());
        Announcements { pool, listener: None }
    }

    /// Tries to get in until the server answers; reads fail meanwhile. After a failure that was the statement's own that is at once.
    fn knock(&self) {
        if self.0.away.swap(true, Ordering::AcqRel) {
            return;
        }
        let shared = Arc::downgrade(&self.0);
        tokio::spawn(async move {
            let mut failed = false;
            while let Some(shared) = shared.upgrade().filter(|shared| !shared.pool.is_closed()) {
                match connect(&shared.options).await {
                    Ok(connection) => {
                        shared.away.store(false, Ordering::Release);
                        if failed {
                            tracing::info!("Postgres answers again");
                        }
                        drop(connection.close().await);
                        return;
                    }
                    Err(error) if !failed => {
                        failed = true;
                        tracing::error!(%error, "Postgres does not answer; reads fail until it does");
                    }
                    Err(_) => {}
                }
                drop(shared);
                sleep(KNOCK_EVERY).await;
            }
        });
    }
}

/// A connection that hears of commits (`NOTIFY inkling`).
pub(in crate::store) struct Announcements {
    pool: PgPool,
    listener: Option<PgListener>,
}

impl Announcements {
    /// Returns at the next announcement, at the latest after `patience`. Without a connection it tries to make one meanwhile.
    pub(in crate::store) async fn next(&mut self, patience: Duration) {
        let deadline = Instant::now() + patience;
        match timeout_at(deadline, self.heard()).await {
            Ok(Ok(true)) | Err(_) => {}
            Ok(Ok(false) | Err(_)) => {
                self.listener = None;
                sleep_until(deadline).await;
            }
        }
    }

    /// `false` when the connection was lost.
    async fn heard(&mut self) -> Result<bool, sqlx::Error> {
        let listener = match &mut self.listener {
            Some(listener) => listener,
            none => {
                let mut listener = PgListener::connect_with(&self.pool).await?;
                listener.eager_reconnect(false);
                listener.listen("inkling").await?;
                none.insert(listener)
            }
        };
        let heard = listener.try_recv().await?.is_some();
        while listener.next_buffered().is_some() {} // one look at the tables sees what all of them announced
        Ok(heard)
    }
}
