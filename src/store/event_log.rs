//! The log of events: appended once each, read by actor (histories) and by sequence (training, warm-up).

use std::collections::HashMap;

use sha2::{Digest, Sha256};

use super::{
    Store, StoreError,
    batch::{Call, Ledger, Write},
    database::{Connection, Insert, List, Readers, Row, Value, query},
    identity::Fate,
};
use crate::domain::{Actor, Event, EventId, EventType, ItemId, LoggedAct, LoggedEvent, RecommendationId, SessionId, Timestamp, UserId};

/// What became of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventOutcome {
    /// Durable from now on, with this [`sequence`](LoggedEvent::sequence).
    Accepted(i64),
    /// The same, but it is this user's, whom the sender's session or user was merged into.
    Moved(i64, UserId),
    /// The same event was accepted before, or it was erased, or is of somebody who was erased since it happened; nothing changed.
    Duplicate,
    /// Its `event_id` belongs to an event with other content; not stored.
    Reused,
}

/// An event on its way to the writer.
pub(super) struct NewEvent {
    pub(super) event: Event,
    pub(super) at: Timestamp,
    /// Of everything that the caller sent; with `event_id` only.
    content: Option<[u8; 16]>,
    fate: Fate,
}

impl NewEvent {
    fn new(event: Event, now: Timestamp) -> Self {
        // The struct's fields are written in their order, an absent timestamp as absent: a retry gives the same bytes.
        let content = event.event_id.as_ref().map(|_| {
            let sent = serde_json::to_vec(&event).expect("an event is JSON with string keys");
            let digest = Sha256::digest(&sent);
            std::array::from_fn(|i| digest[i])
        });
        let at = event.timestamp.unwrap_or(now);
        Self { event, at, content, fate: Fate::AsSent }
    }

    /// Says what becomes of it. A retry is still told by what was sent.
    pub(super) fn settle(&mut self, fate: Fate) {
        if let Fate::Moved(user) = &fate {
            self.event.user_id = Some(user.clone());
        }
        self.fate = fate;
    }
}

// A sequence that a duplicate asked for stays unused: sequences grow, but have holes.
static INSERT: Insert<11> = Insert::new(
    "INSERT INTO events (sequence, event_id, content_hash, kind, user_id, session_id, item_id, recommendation_id, value, text, at)",
    "ON CONFLICT (event_id) DO NOTHING",
);
static BY_EVENT_ID: List = List::new("SELECT event_id, sequence, content_hash FROM events WHERE event_id", "");

/// Appends the events of all calls and says what became of each.
///
/// Optimistic: events are inserted as if they were new; only where the database took fewer rows than it was given,
/// the ones that were there before are looked up.
pub(super) async fn append(
    connection: &mut Connection,
    ledger: &mut Ledger,
    calls: &mut [&mut Call<Vec<NewEvent>, Vec<EventOutcome>>],
) -> Result<(), StoreError> {
    let count = calls.iter().map(|call| call.input.len()).sum();
    let mut rows: Vec<(i64, &NewEvent)> = Vec::with_capacity(count);
    let mut firsts: HashMap<&EventId, i64> = HashMap::new();
    // The sequence that each event asks for; one that must not be stored, and a second one of the same id within this commit, ask for none.
    let mut asked: Vec<Option<i64>> = Vec::with_capacity(count);
    for new in calls.iter().flat_map(|call| &call.input) {
        if new.fate == Fate::Late {
            asked.push(None);
            continue;
        }
        let sequence = ledger.next.sequence;
        let again = new.event.event_id.as_ref().is_some_and(|id| *firsts.entry(id).or_insert(sequence) != sequence);
        if !again {
            ledger.next.sequence += 1;
            rows.push((sequence, new));
        }
        asked.push((!again).then_some(sequence));
    }

    // Who owns each contested id, with what content.
    let mut owners: HashMap<EventId, (i64, Vec<u8>)> = HashMap::new();
    for chunk in rows.chunks(connection.insert_rows()) {
        if INSERT.execute(connection, chunk.iter().map(|(sequence, new)| columns(*sequence, new)).collect()).await? < chunk.len() as u64 {
            let ids: Vec<&EventId> = chunk.iter().filter_map(|(_, new)| new.event.event_id.as_ref()).collect();
            look_up(connection, &ids, &mut owners).await?;
        }
    }
    if asked.iter().any(Option::is_none) {
        let contents: HashMap<i64, Option<[u8; 16]>> = rows.iter().map(|(sequence, new)| (*sequence, new.content)).collect();
        for (id, sequence) in &firsts {
            let content = contents.get(sequence).copied().flatten().unwrap_or_default();
            owners.entry((*id).clone()).or_insert_with(|| (*sequence, content.to_vec()));
        }
    }

    let taken = |new: &NewEvent, sequence: i64| match &new.fate {
        Fate::Moved(user) => EventOutcome::Moved(sequence, user.clone()),
        Fate::AsSent | Fate::Late => EventOutcome::Accepted(sequence),
    };
    let outcome = |new: &NewEvent, asked: Option<i64>| match new.event.event_id.as_ref().and_then(|id| owners.get(id)) {
        _ if new.fate == Fate::Late => EventOutcome::Duplicate,
        Some((owner, _)) if Some(*owner) == asked => taken(new, *owner),
        Some((_, content)) if new.content.is_some_and(|new| new == content.as_slice()) => EventOutcome::Duplicate,
        Some(_) => EventOutcome::Reused,
        // Uncontested: the row was taken with the sequence it asked for.
        None => asked.map_or(EventOutcome::Duplicate, |sequence| taken(new, sequence)),
    };
    let mut asked = asked.iter().copied();
    let outcomes: Vec<Vec<EventOutcome>> = calls.iter().map(|call| call.input.iter().map(|new| outcome(new, asked.next().flatten())).collect()).collect();
    for (call, outcomes) in calls.iter_mut().zip(outcomes) {
        call.outcome = outcomes;
    }
    Ok(())
}

fn columns(sequence: i64, NewEvent { event, at, content, .. }: &NewEvent) -> [Value<'_>; 11] {
    [
        sequence.into(),
        event.event_id.as_ref().map(EventId::as_str).into(),
        content.as_ref().map(<[u8; 16]>::as_slice).into(),
        event.kind.name().into(),
        event.user_id.as_ref().map(UserId::as_str).into(),
        event.session_id.as_ref().map(SessionId::as_str).into(),
        event.item_id.as_ref().map(ItemId::as_str).into(),
        event.recommendation_id.as_ref().map(RecommendationId::as_str).into(),
        event.value.into(),
        Value::FreeText(event.text.as_deref()),
        at.millis().into(),
    ]
}

async fn look_up(connection: &mut Connection, ids: &[&EventId], owners: &mut HashMap<EventId, (i64, Vec<u8>)>) -> Result<(), StoreError> {
    for row in BY_EVENT_ID.fetch_all(connection, &[], ids.iter().map(|id| id.as_str().into()).collect()).await? {
        let id = EventId::new(row.get::<&str>(0)?).map_err(StoreError::corrupt)?;
        owners.insert(id, (row.get(1)?, row.get(2)?));
    }
    Ok(())
}

/// What was done in the session `$1` without a user, and after a merge what it gave to its user.
macro_rules! of_session {
    () => {
        "session_id = $1 AND (user_id IS NULL OR user_id = (SELECT user_id FROM aliases WHERE kind = 'session' AND name = $1)) "
    };
}

macro_rules! select {
    ($($rest:tt)+) => {
        concat!("SELECT sequence, event_id, kind, user_id, session_id, item_id, recommendation_id, value, text, at FROM events WHERE ", $($rest)+)
    };
}

fn logged(row: &Row) -> Result<LoggedEvent, StoreError> {
    fn id<T>(row: &Row, column: usize, new: impl Fn(&str) -> Result<T, crate::domain::InvalidId>) -> Result<Option<T>, StoreError> {
        row.get::<Option<&str>>(column)?.map(new).transpose().map_err(StoreError::corrupt)
    }
    let event = Event {
        event_id: id(row, 1, |id| EventId::new(id))?,
        kind: EventType::named(row.get(2)?).map_err(StoreError::corrupt)?,
        user_id: id(row, 3, |id| UserId::new(id))?,
        session_id: id(row, 4, |id| SessionId::new(id))?,
        item_id: id(row, 5, |id| ItemId::new(id))?,
        recommendation_id: id(row, 6, |id| RecommendationId::new(id))?,
        value: row.get(7)?,
        text: row.free_text(8)?,
        timestamp: Some(Timestamp::from_millis(row.get(9)?).map_err(StoreError::corrupt)?),
    };
    Ok(LoggedEvent { sequence: row.get(0)?, event })
}

fn act(row: &Row, answer: Option<&str>) -> Result<LoggedAct, StoreError> {
    Ok(LoggedAct {
        sequence: row.get(0)?,
        kind: EventType::named(row.get(1)?).map_err(StoreError::corrupt)?,
        item: ItemId::new(row.get::<&str>(2)?).map_err(StoreError::corrupt)?,
        value: row.get(3)?,
        at: Timestamp::from_millis(row.get(4)?).map_err(StoreError::corrupt)?,
        recommendation_id: answer.map(RecommendationId::new).transpose().map_err(StoreError::corrupt)?,
    })
}

/// A user's events by time, those of one time by sequence, after (time, sequence).
pub(super) async fn events_of(readers: &Readers, user: &UserId, (at, sequence): (i64, i64), limit: usize) -> Result<Vec<LoggedEvent>, StoreError> {
    let text = select!("user_id = $1 AND (at, sequence) > ($2, $3) ORDER BY at, sequence LIMIT $4");
    let rows = query(text).bind(user.as_str()).bind(at).bind(sequence).bind(super::row_limit(limit)).fetch_all(readers).await?;
    super::decode_rows(&rows, logged).await
}

impl Store {
    /// What an actor did to items lately, newest first, as [`Self::recent_events`] but without texts and names.
    pub async fn recent_acts(&self, actor: &Actor, limit: usize) -> Result<Vec<LoggedAct>, StoreError> {
        let (text, id) = match actor {
            Actor::User(user) => (
                "SELECT sequence, kind, item_id, value, at FROM events WHERE user_id = $1 AND item_id IS NOT NULL ORDER BY at DESC, sequence DESC LIMIT $2",
                user.as_str(),
            ),
            Actor::Session(session) => (
                concat!(
                    "SELECT sequence, kind, item_id, value, at FROM events WHERE ",
                    of_session!(),
                    "AND item_id IS NOT NULL ORDER BY at DESC, sequence DESC LIMIT $2"
                ),
                session.as_str(),
            ),
        };
        let rows = query(text).bind(id).bind(super::row_limit(limit)).fetch_all(self.readers()).await?;
        super::decode_rows(&rows, |row| act(row, None)).await
    }

    /// What was done to items after `sequence`, oldest first; for counters.
    pub async fn acts_after(&self, sequence: i64, limit: usize) -> Result<Vec<LoggedAct>, StoreError> {
        let text = "SELECT sequence, kind, item_id, value, at, recommendation_id FROM events WHERE sequence > $1 AND item_id IS NOT NULL \
                    ORDER BY sequence LIMIT $2";
        let rows = query(text).bind(sequence).bind(super::row_limit(limit)).fetch_all(self.readers()).await?;
        super::decode_rows(&rows, |row| act(row, row.get(5)?)).await
    }

    /// Makes events durable, in their order; times that are absent become `now`. Says what became of each.
    ///
    /// The answer comes after the fsync. Events are stored as they are: whether they make sense is the caller's to check.
    /// Dropping the future after the call was queued does not take it back.
    pub async fn append_events(&self, events: Vec<Event>, now: Timestamp) -> Result<Vec<EventOutcome>, StoreError> {
        if events.is_empty() {
            return Ok(Vec::new());
        }
        let events = super::in_turns(events, |event| NewEvent::new(event, now)).await;
        self.write(events.len(), events, Write::Events).await
    }

    /// An actor's latest events, newest first. A session's are those without a user, and after a merge those that the session gave to
    /// its user. A user's are those of exactly this name: ask [`person`](Self::person) first.
    pub async fn recent_events(&self, actor: &Actor, limit: usize) -> Result<Vec<LoggedEvent>, StoreError> {
        let (text, id) = match actor {
            Actor::User(user) => (select!("user_id = $1 ORDER BY at DESC, sequence DESC LIMIT $2"), user.as_str()),
            Actor::Session(session) => (select!(of_session!(), "ORDER BY at DESC, sequence DESC LIMIT $2"), session.as_str()),
        };
        let rows = query(text).bind(id).bind(super::row_limit(limit)).fetch_all(self.readers()).await?;
        super::decode_rows(&rows, logged).await
    }

    /// An actor's latest events with words, newest first.
    pub async fn recent_texts(&self, actor: &Actor, limit: usize) -> Result<Vec<LoggedEvent>, StoreError> {
        let (text, id) = match actor {
            Actor::User(user) => (select!("user_id = $1 AND text IS NOT NULL ORDER BY at DESC, sequence DESC LIMIT $2"), user.as_str()),
            Actor::Session(session) => (select!(of_session!(), "AND text IS NOT NULL ORDER BY at DESC, sequence DESC LIMIT $2"), session.as_str()),
        };
        let rows = query(text).bind(id).bind(super::row_limit(limit)).fetch_all(self.readers()).await?;
        super::decode_rows(&rows, logged).await
    }

    /// Events above `sequence`, oldest first.
    pub async fn events_after(&self, sequence: i64, limit: usize) -> Result<Vec<LoggedEvent>, StoreError> {
        let text = select!("sequence > $1 ORDER BY sequence LIMIT $2");
        let rows = query(text).bind(sequence).bind(super::row_limit(limit)).fetch_all(self.readers()).await?;
        super::decode_rows(&rows, logged).await
    }

    /// How many events there are.
    pub async fn event_count(&self) -> Result<u64, StoreError> {
        let count: i64 = query("SELECT count(*) FROM events").fetch_one(self.readers()).await?.get(0)?;
        Ok(count.unsigned_abs())
    }
}
