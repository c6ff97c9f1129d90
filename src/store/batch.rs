//! One commit: the writes of many callers, applied in one transaction, each with its own outcome.

use sqlx::{Connection, Row, SqliteConnection};
use std::collections::BTreeMap;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::{
    EventOutcome, ItemOutcome, PatchOutcome, StoreError,
    catalogue::{self, Deletion, NewItem, Patch},
    derived::{self, NewEmbeddings},
    event_log::{self, NewEvent},
    exposure_log, sql,
};
use crate::domain::{AttributeType, Exposure, Revision, StoredItem};

/// One caller's write: what goes in, the outcome once it is applied, and where the answer goes.
pub(super) struct Call<I, O> {
    pub(super) input: I,
    pub(super) outcome: O,
    reply: oneshot::Sender<Result<O, StoreError>>,
    /// The caller's share of the queue, given back with the answer.
    _place: OwnedSemaphorePermit,
}

impl<I, O: Default> Call<I, O> {
    pub(super) fn new(input: I, place: OwnedSemaphorePermit) -> (Self, oneshot::Receiver<Result<O, StoreError>>) {
        let (reply, answer) = oneshot::channel();
        (Self { input, outcome: O::default(), reply, _place: place }, answer)
    }

    fn answer(self, committed: &Result<(), StoreError>) {
        // A caller that gave up does not hear of it; its write is done all the same.
        drop(self.reply.send(committed.clone().map(|()| self.outcome)));
    }
}

/// Everything that the writer can be asked.
pub(super) enum Write {
    Events(Call<Vec<NewEvent>, Vec<EventOutcome>>),
    Items(Call<Vec<NewItem>, Vec<ItemOutcome>>),
    Patch(Call<Patch, PatchOutcome>),
    Delete(Call<Deletion, Option<StoredItem>>),
    Flushed(Call<(String, Revision), ()>),
    Embeddings(Call<NewEmbeddings, ()>),
}

impl Write {
    /// Rows that it makes, roughly.
    pub(super) fn entries(&self) -> usize {
        match self {
            Self::Events(call) => call.input.len(),
            Self::Items(call) => call.input.len(),
            Self::Patch(_) | Self::Delete(_) | Self::Flushed(_) => 1,
            Self::Embeddings(call) => call.input.vectors.len(),
        }
    }

    /// Tells the caller how it ended.
    pub(super) fn answer(self, committed: &Result<(), StoreError>) {
        match self {
            Self::Events(call) => call.answer(committed),
            Self::Items(call) => call.answer(committed),
            Self::Patch(call) => call.answer(committed),
            Self::Delete(call) => call.answer(committed),
            Self::Flushed(call) => call.answer(committed),
            Self::Embeddings(call) => call.answer(committed),
        }
    }
}

/// What the one writer knows by heart: the next numbers, and the type of each attribute.
///
/// Read from the database at start and again after a failed commit, when it may be ahead of the truth.
pub(super) struct Ledger {
    pub(super) next_key: u32,
    pub(super) next_revision: i64,
    pub(super) next_sequence: i64,
    pub(super) attribute_types: BTreeMap<String, AttributeType>,
}

impl Ledger {
    pub(super) async fn load(connection: &mut SqliteConnection) -> Result<Self, StoreError> {
        let newest = "SELECT (SELECT max(key) FROM items), (SELECT max(revision) FROM items), (SELECT max(sequence) FROM events)";
        let row = sqlx::query(newest).fetch_one(&mut *connection).await?;
        let after = |newest: Option<i64>, first: i64| newest.map_or(first, |newest| newest + 1);
        Ok(Self {
            next_key: u32::try_from(after(row.try_get(0)?, 0)).map_err(|_| StoreError::corrupt("an item's key is out of range"))?,
            next_revision: after(row.try_get(1)?, 1),
            next_sequence: after(row.try_get(2)?, 1),
            attribute_types: catalogue::attribute_types(connection).await?,
        })
    }
}

/// Applies all writes and commits. On an error nothing of it has happened, and `ledger` must be loaded again.
pub(super) async fn commit(connection: &mut SqliteConnection, ledger: &mut Ledger, writes: &mut [Write], exposures: &[Exposure]) -> Result<(), StoreError> {
    let mut events = Vec::new();
    let mut catalogue = Vec::new();
    let mut flushed = Vec::new();
    let mut embeddings = Vec::new();
    for write in writes {
        match write {
            Write::Events(call) => events.push(call),
            Write::Items(call) => catalogue.push(catalogue::Change::Put(call)),
            Write::Patch(call) => catalogue.push(catalogue::Change::Patch(call)),
            Write::Delete(call) => catalogue.push(catalogue::Change::Delete(call)),
            Write::Flushed(call) => flushed.push(&call.input),
            Write::Embeddings(call) => embeddings.push(&call.input),
        }
    }
    let only_events = catalogue.is_empty() && flushed.is_empty() && embeddings.is_empty() && exposures.is_empty();
    if only_events && events.iter().map(|call| call.input.len()).sum::<usize>() <= sql::ROWS {
        // One INSERT is a transaction by itself: that spares two trips to the connection's thread of three.
        return event_log::append(connection, ledger, &mut events).await;
    }
    // IMMEDIATE: a transaction that begins as a reader could be refused when it first writes.
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    for (collection, revision) in flushed {
        derived::write_flushed(&mut transaction, collection, *revision).await?;
    }
    for new in embeddings {
        derived::write_embeddings(&mut transaction, new).await?;
    }
    event_log::append(&mut transaction, ledger, &mut events).await?;
    catalogue::apply(&mut transaction, ledger, &mut catalogue).await?;
    exposure_log::append(&mut transaction, exposures).await?;
    transaction.commit().await?;
    Ok(())
}
