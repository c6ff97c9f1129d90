//! One commit: the writes of many callers, applied in one transaction, each with its own outcome.

use std::collections::BTreeMap;

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::{
    EventOutcome, ItemOutcome, PatchOutcome, StoreError,
    catalogue::{self, Deletion, NewItem, Patch},
    database::{Connection, Numbers, Rewrite},
    derived::{self, Flushed, NewEmbeddings},
    erasure::{self, Erasure},
    event_log::{self, NewEvent},
    exposure_log,
    identity::{self, Marker},
    lease::{self, Lease, LeaseRequest},
    retention::{self, Deletions},
    rules::{self, RuleChange, RuleOutcome},
    users::{self, Merge},
    vectors,
};
use crate::domain::{AttributeType, Exposure, StoredItem};

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
    Flushed(Call<Flushed, bool>),
    Lease(Call<LeaseRequest, Option<Lease>>),
    Embeddings(Call<NewEmbeddings, ()>),
    Merge(Call<Merge, users::Step>),
    Erase(Call<Erasure, erasure::Step>),
    Expire(Call<Deletions, u64>),
    Rule(Call<RuleChange, RuleOutcome>),
    /// Takes what was deleted out of the files, after the commit; `false` while a reader is in the way.
    Scrub(Call<Rewrite, bool>),
}

impl Write {
    /// Rows that it makes, roughly.
    pub(super) fn entries(&self) -> usize {
        match self {
            Self::Events(call) => call.input.len(),
            Self::Items(call) => call.input.len(),
            Self::Patch(_) | Self::Delete(_) | Self::Flushed(_) | Self::Lease(_) | Self::Merge(_) | Self::Erase(_) | Self::Rule(_) | Self::Scrub(_) => 1,
            Self::Embeddings(call) => call.input.vectors.len(),
            Self::Expire(call) => call.input.len(),
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
            Self::Lease(call) => call.answer(committed),
            Self::Embeddings(call) => call.answer(committed),
            Self::Merge(call) => call.answer(committed),
            Self::Erase(call) => call.answer(committed),
            Self::Expire(call) => call.answer(committed),
            Self::Rule(call) => call.answer(committed),
            Self::Scrub(call) => call.answer(committed),
        }
    }
}

/// What the one writer knows by heart: the next numbers, types of attributes, widths of own vectors.
///
/// Read from the database at start and again after a failed commit, when it may be ahead of the truth. On Postgres other replicas write
/// too: there the numbers are those of the transaction, and types and widths may be missing here, but none that is here is wrong.
pub(super) struct Ledger {
    pub(super) next: Numbers,
    pub(super) attribute_types: BTreeMap<String, AttributeType>,
    pub(super) vector_widths: BTreeMap<String, usize>,
    pub(super) marker: Marker,
}

impl Ledger {
    pub(super) async fn load(connection: &mut Connection) -> Result<Self, StoreError> {
        Ok(Self {
            next: connection.numbers().await?,
            attribute_types: catalogue::attribute_types(&mut *connection).await?,
            vector_widths: vectors::widths(&mut *connection).await?,
            marker: Marker::load(connection).await?,
        })
    }
}

/// Applies all writes and commits. After an error `ledger` must be loaded again and the connection must go: it may hold a transaction.
///
/// Who is who comes first: events and exposures of the same commit go by it. Exposures that must not be stored are taken out.
pub(super) async fn commit(connection: &mut Connection, ledger: &mut Ledger, writes: &mut [Write], exposures: &mut Vec<Exposure>) -> Result<(), StoreError> {
    let mut events = Vec::new();
    let mut catalogue = Vec::new();
    let mut leases = Vec::new();
    let mut others = Vec::new();
    let mut scrubs = Vec::new();
    for write in writes {
        match write {
            Write::Events(call) => events.push(call),
            Write::Items(call) => catalogue.push(catalogue::Change::Put(call)),
            Write::Patch(call) => catalogue.push(catalogue::Change::Patch(call)),
            Write::Delete(call) => catalogue.push(catalogue::Change::Delete(call)),
            Write::Lease(call) => leases.push(call),
            Write::Scrub(call) => scrubs.push(call),
            other => others.push(other),
        }
    }
    let only_events = catalogue.is_empty() && leases.is_empty() && others.is_empty() && exposures.is_empty() && scrubs.is_empty();
    if connection.is_alone() && only_events && events.iter().map(|call| call.input.len()).sum::<usize>() <= connection.insert_rows() {
        // One INSERT is a transaction by itself: that spares two trips to the connection's thread of three.
        identity::settle(connection, ledger, &mut events, exposures).await?;
        return event_log::append(connection, ledger, &mut events).await;
    }
    connection.begin(&mut ledger.next).await?;
    let begun = ledger.next;
    for call in leases {
        call.outcome = lease::apply(connection, &call.input).await?;
    }
    for write in others {
        match write {
            Write::Flushed(call) => call.outcome = derived::write_flushed(connection, &call.input).await?,
            Write::Embeddings(call) => derived::write_embeddings(connection, &call.input).await?,
            Write::Merge(call) => call.outcome = users::merge(connection, ledger, &call.input).await?,
            Write::Erase(call) => call.outcome = erasure::erase(connection, ledger, &call.input).await?,
            Write::Expire(call) => call.outcome = retention::delete(connection, ledger.next.sequence, &call.input).await?,
            Write::Rule(call) => call.outcome = rules::apply(connection, &call.input).await?,
            Write::Events(_) | Write::Items(_) | Write::Patch(_) | Write::Delete(_) | Write::Lease(_) | Write::Scrub(_) => {}
        }
    }
    identity::settle(connection, ledger, &mut events, exposures).await?;
    event_log::append(connection, ledger, &mut events).await?;
    catalogue::apply(connection, ledger, &mut catalogue).await?;
    exposure_log::append(connection, exposures).await?;
    connection.commit(&begun, &ledger.next).await?;
    if let Some(rewrite) = scrubs.iter().map(|call| call.input).max() {
        match connection.scrub(rewrite).await {
            Ok(scrubbed) => scrubs.into_iter().for_each(|call| call.outcome = scrubbed),
            // What the others of this commit have written is written.
            Err(error) => tracing::warn!(%error, "what was erased could not be taken out of SQLite's files yet"),
        }
    }
    Ok(())
}
