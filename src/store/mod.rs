//! Floor 2: the durable truth: items, events, exposures, and what is costly to derive from them. SQLite or Postgres through sqlx (`database`).
//!
//! Writes go through one bounded queue to one task that makes many callers' writes durable with one fsync (`writer`);
//! an answer comes after it. Reads have connections of their own and see the last commit.
//! All that is derived elsewhere follows [`Revision`](crate::domain::Revision)s (items) and sequences (events), which only grow.

mod backup;
mod batch;
mod catalogue;
mod changes;
mod database;
mod derived;
mod erasure;
mod error;
mod event_log;
mod exposure_log;
mod hash;
mod identity;
mod lease;
mod merge;
mod metrics;
mod retention;
mod rules;
mod settings;
#[cfg(test)]
mod tests;
mod users;
mod vectors;
mod writer;

use std::{path::Path, sync::Arc, time::Duration};

use tokio::sync::{Semaphore, mpsc};

use self::{
    batch::{Call, Ledger, Write},
    database::{Connection, Database, FolderLock, On, Readers, Row, query},
    metrics::Metrics,
    writer::{Message, Writer},
};
use crate::{domain::Exposure, telemetry::Registry};

pub use self::{
    backup::{DatabaseFacts, copy_database, newest_migration, restore_database},
    catalogue::{ItemCounts, ItemOutcome, PatchOutcome},
    changes::Changes,
    erasure::Receipt,
    error::StoreError,
    event_log::EventOutcome,
    hash::ContentHash,
    lease::Lease,
    retention::{Ageing, Expiry},
    rules::{KeptRules, RuleOutcome},
    settings::{DatabaseUrl, InvalidDatabaseUrl, StoreSettings},
    users::{Alias, Merged, PeopleChanges, PeopleSeen, TypeCount},
};

/// How long a new process waits for an old one that is still draining.
const LOCK_PATIENCE: Duration = Duration::from_secs(3);

/// The store of one catalogue, cheap to clone. When the last clone is gone, what is queued is still written.
#[derive(Clone)]
pub struct Store {
    shared: Arc<Shared>,
}

struct Shared {
    catalogue_id: String,
    edition: String,
    /// The name of this process and its folder among those on a shared database; `None` where there are no others.
    replica: Option<String>,
    /// This opening of the store, as the holder of leases.
    holder: String,
    messages: mpsc::UnboundedSender<Message>,
    /// Bounds `messages` by entries, so that bulk calls count for what they are.
    places: Arc<Semaphore>,
    queue: u32,
    exposures: mpsc::Sender<Exposure>,
    readers: Readers,
    metrics: Arc<Metrics>,
}

impl Store {
    /// Opens the database of the settings, or that of the folder, made if needed, and brings it up to date.
    ///
    /// Fails with [`StoreError::Newer`] on a database of a newer program, with [`StoreError::InUse`] while another process
    /// has the folder, with [`StoreError::Unavailable`] when Postgres cannot be reached, and when `registry` has a store's metrics already.
    pub async fn open(folder: &Path, settings: &StoreSettings, registry: &Registry) -> Result<Self, StoreError> {
        let metrics = Arc::new(Metrics::register(registry)?);
        let lock = FolderLock::acquire(folder, LOCK_PATIENCE).await?;
        let replica = settings.url.is_some().then(|| replica_name(folder)).transpose()?;
        let database = Database::new(folder, settings);
        let opened = async {
            let mut connection = database.first_writer().await?;
            let catalogue_id = catalogue_id(&mut connection).await?;
            let edition = edition(&mut connection, &catalogue_id).await?;
            let ledger = Ledger::load(&mut connection).await?;
            Ok((connection, catalogue_id, edition, ledger, database.readers(settings.readers.max(1)).await?))
        };
        let (connection, catalogue_id, edition, ledger, readers) = opened.await.map_err(|error: StoreError| database.naming(error))?;

        let queue = settings.queue.max(1);
        let (messages, received) = mpsc::unbounded_channel();
        let (exposures, shown) = mpsc::channel(settings.exposure_queue.max(1) as usize);
        let writer = Writer {
            database,
            settings: settings.clone(),
            connection: Some(connection),
            ledger: Some(ledger),
            messages: received,
            exposures: shown,
            shown: Vec::new(),
            due: None,
            metrics: Arc::clone(&metrics),
            lock,
        };
        tokio::spawn(writer.run());
        let holder = uuid::Uuid::now_v7().to_string();
        let places = Arc::new(Semaphore::new(queue as usize));
        Ok(Self { shared: Arc::new(Shared { catalogue_id, edition, replica, holder, messages, places, queue, exposures, readers, metrics }) })
    }

    /// The database's name for itself: artefacts of another one do not fit, because its keys mean other items.
    pub fn catalogue_id(&self) -> &str {
        &self.shared.catalogue_id
    }

    /// The catalogue's name among its own restored copies: itself, and another one after each restore. Indexes of another edition do not fit, because its
    /// revisions tell of other states.
    pub fn edition(&self) -> &str {
        &self.shared.edition
    }

    /// Whether the database answers.
    pub async fn healthy(&self) -> bool {
        !self.shared.messages.is_closed() && query("SELECT 1 FROM meta").fetch_optional(self.readers()).await.is_ok()
    }

    /// Writes what is queued, closes the database and returns when that is done; afterwards all calls are [`StoreError::Closed`].
    pub async fn close(&self) {
        // Readers first: the log can be moved into the database file only when nobody reads.
        self.shared.readers.close().await;
        drop(self.shared.messages.send(Message::Close));
        self.shared.exposures.closed().await; // the writer drops the other end when it ends
    }

    /// Queues a write of so many entries and waits for its outcome.
    async fn write<I, O: Default>(&self, entries: usize, input: I, write: impl FnOnce(Call<I, O>) -> Write) -> Result<O, StoreError> {
        // A call that is larger than the queue takes all of it.
        let places = u32::try_from(entries).unwrap_or(u32::MAX).min(self.shared.queue);
        let place = Arc::clone(&self.shared.places).try_acquire_many_owned(places).map_err(|_| {
            self.metrics().overloads.inc();
            StoreError::Overloaded
        })?;
        let (call, answer) = Call::new(input, place);
        self.metrics().queue_entries.add(entries as i64);
        if self.shared.messages.send(Message::Write(write(call))).is_err() {
            self.metrics().queue_entries.sub(entries as i64);
            return Err(StoreError::Closed);
        }
        answer.await.map_err(|_| StoreError::Closed)?
    }

    fn readers(&self) -> &Readers {
        &self.shared.readers
    }

    fn exposures(&self) -> &mpsc::Sender<Exposure> {
        &self.shared.exposures
    }

    fn metrics(&self) -> &Metrics {
        &self.shared.metrics
    }
}

/// The database's name for itself, made up at its first start.
async fn catalogue_id(connection: &mut Connection) -> Result<String, StoreError> {
    let fresh = uuid::Uuid::now_v7().to_string();
    query("INSERT INTO meta (name, value) VALUES ('catalogue_id', $1) ON CONFLICT (name) DO NOTHING").bind(fresh).execute(connection).await?;
    query("SELECT value FROM meta WHERE name = 'catalogue_id'").fetch_one(connection).await?.get(0)
}

/// The name of the restored copy that this is, else the catalogue's.
async fn edition<'c>(on: impl Into<On<'c>>, catalogue_id: &str) -> Result<String, StoreError> {
    let row = query("SELECT value FROM meta WHERE name = 'edition'").fetch_optional(on).await?;
    row.map_or_else(|| Ok(catalogue_id.to_owned()), |row| row.get(0))
}

/// The name of a data folder among those of other replicas, made up at its first start: its index and what is known of it belong together.
fn replica_name(folder: &Path) -> Result<String, StoreError> {
    let file = folder.join("replica");
    if let Ok(name) = std::fs::read_to_string(&file)
        && let Ok(name) = name.trim().parse::<uuid::Uuid>()
    {
        return Ok(name.to_string());
    }
    let name = uuid::Uuid::now_v7().to_string();
    std::fs::write(&file, &name).map_err(StoreError::unavailable)?;
    Ok(name)
}

/// A limit as SQL takes it.
fn row_limit(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

/// Entries that are handled before other tasks get a turn: documents take about 10 µs each.
const TURN: usize = 64;

/// Makes an entry of each value. Thousands of them must not hold up the runtime's thread.
async fn in_turns<T, U>(values: Vec<T>, make: impl Fn(T) -> U) -> Vec<U> {
    let mut made = Vec::with_capacity(values.len());
    for value in values {
        if made.len() % TURN == TURN - 1 {
            tokio::task::yield_now().await;
        }
        made.push(make(value));
    }
    made
}

/// Rows as values, in turns.
async fn decode_rows<T>(rows: &[Row], decode: impl Fn(&Row) -> Result<T, StoreError>) -> Result<Vec<T>, StoreError> {
    let mut values = Vec::with_capacity(rows.len());
    for row in rows {
        if values.len() % TURN == TURN - 1 {
            tokio::task::yield_now().await;
        }
        values.push(decode(row)?);
    }
    Ok(values)
}
