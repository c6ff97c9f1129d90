//! Who is meant: the names in a commit in, what becomes of each event and exposure out.
//!
//! A session or a user that was merged into a user is an alias: what still comes under its name is that user's. What was erased is known by
//! a mark, HMAC-SHA256 under a key that only this database has: whoever has the marks alone cannot try names. While nobody was merged or
//! erased nothing is looked up.

use std::collections::{HashMap, HashSet};

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::{
    StoreError,
    batch::{Call, Ledger},
    database::{Connection, List, On, query},
    event_log::{EventOutcome, NewEvent},
};
use crate::domain::{Actor, EventId, Exposure, SessionId, UserId};

/// Half of a SHA-256: among 10⁹ names the chance that any two share one is 10⁻²¹.
pub(super) type Mark = [u8; 16];

/// What can be erased, each with marks of its own.
#[derive(Debug, Clone, Copy)]
pub(super) enum Name<'n> {
    User(&'n UserId),
    /// All of a session, whoever was logged in.
    Visit(&'n SessionId),
    /// Of a session that was merged into a user: what it did without a user.
    Anonymous(&'n SessionId),
    Event(&'n EventId),
}

/// Makes marks.
pub(super) struct Marker(Hmac<Sha256>);

impl Marker {
    /// With the database's key, made up at the first start.
    pub(super) async fn load(connection: &mut Connection) -> Result<Self, StoreError> {
        let mut key = [0; 32];
        getrandom::fill(&mut key).map_err(StoreError::unavailable)?;
        let text = "INSERT INTO meta (name, value) VALUES ('erasure_key', $1) ON CONFLICT (name) DO NOTHING";
        query(text).bind(hex::encode(key)).execute(connection).await?;
        let kept: String = query("SELECT value FROM meta WHERE name = 'erasure_key'").fetch_one(connection).await?.get(0)?;
        let key = hex::decode(kept).map_err(|_| StoreError::corrupt("the key of what was erased is no hexadecimal number"))?;
        Hmac::new_from_slice(&key).map(Self).map_err(StoreError::corrupt)
    }

    pub(super) fn mark(&self, name: Name<'_>) -> Mark {
        let (kind, id) = match name {
            Name::User(user) => (b'u', user.as_str()),
            Name::Visit(session) => (b'v', session.as_str()),
            Name::Anonymous(session) => (b'a', session.as_str()),
            Name::Event(event) => (b'e', event.as_str()),
        };
        let mut mac = self.0.clone();
        mac.update(&[kind]);
        mac.update(id.as_bytes());
        let whole = mac.finalize().into_bytes();
        std::array::from_fn(|i| whole[i])
    }
}

/// What becomes of an event or an exposure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is stored as it was sent.
    AsSent,
    /// It is stored as this user's.
    Moved(UserId),
    /// It was erased, or is of somebody who was erased after it happened: not stored.
    Late,
}

/// The names in an event or an exposure, and when it happened.
struct Named {
    user: Option<UserId>,
    session: Option<SessionId>,
    event: Option<EventId>,
    at_ms: i64,
}

static ALIASES: List = List::new("SELECT name, user_id FROM aliases WHERE kind = $1 AND name", "");
static ERASED: List = List::new("SELECT mark, at FROM erased WHERE mark", "");

/// Gives what belongs to somebody else to them, and takes out what must not come back.
pub(super) async fn settle(
    connection: &mut Connection,
    ledger: &Ledger,
    calls: &mut [&mut Call<Vec<NewEvent>, Vec<EventOutcome>>],
    exposures: &mut Vec<Exposure>,
) -> Result<(), StoreError> {
    if (ledger.next.merge, ledger.next.erasure) == (1, 1) {
        return Ok(());
    }
    let events = calls.iter().flat_map(|call| &call.input).map(|new| Named {
        user: new.event.user_id.clone(),
        session: new.event.session_id.clone(),
        event: new.event.event_id.clone(),
        at_ms: new.at.millis(),
    });
    let shown = exposures.iter().map(|exposure| Named {
        user: exposure.user_id.clone(),
        session: exposure.session_id.clone(),
        event: None,
        at_ms: exposure.at.millis(),
    });
    let named: Vec<Named> = events.chain(shown).collect();
    let mut fates = fates(connection, ledger, &named).await?.into_iter();
    for new in calls.iter_mut().flat_map(|call| &mut call.input) {
        new.settle(fates.next().unwrap_or(Fate::AsSent));
    }
    exposures.retain_mut(|exposure| match fates.next() {
        Some(Fate::Late) => false,
        Some(Fate::Moved(user)) => {
            exposure.user_id = Some(user);
            true
        }
        Some(Fate::AsSent) | None => true,
    });
    Ok(())
}

async fn fates(connection: &mut Connection, ledger: &Ledger, named: &[Named]) -> Result<Vec<Fate>, StoreError> {
    let late = if ledger.next.erasure == 1 { vec![false; named.len()] } else { late(connection, &ledger.marker, named).await? };
    let (mut users, mut sessions) = (HashMap::new(), HashMap::new());
    if ledger.next.merge > 1 {
        users = aliases(connection, "user", named.iter().filter_map(|named| named.user.as_ref()).map(UserId::as_str).collect()).await?;
        let anonymous = named.iter().filter(|named| named.user.is_none());
        sessions = aliases(connection, "session", anonymous.filter_map(|named| named.session.as_ref()).map(SessionId::as_str).collect()).await?;
    }
    let fate = |(named, late): (&Named, bool)| {
        let into = match (&named.user, &named.session) {
            (Some(user), _) => users.get(user.as_str()),
            (None, Some(session)) => sessions.get(session.as_str()),
            (None, None) => None,
        };
        match into {
            _ if late => Fate::Late,
            Some(user) => Fate::Moved(user.clone()),
            None => Fate::AsSent,
        }
    };
    Ok(named.iter().zip(late).map(fate).collect())
}

async fn late(connection: &mut Connection, marker: &Marker, named: &[Named]) -> Result<Vec<bool>, StoreError> {
    // The mark of the event, then those of whoever did it.
    let marks = |named: &Named| {
        let session = named.session.as_ref();
        [
            named.event.as_ref().map(Name::Event),
            named.user.as_ref().map(Name::User),
            session.map(Name::Visit),
            session.filter(|_| named.user.is_none()).map(Name::Anonymous),
        ]
        .map(|name| name.map(|name| marker.mark(name)))
    };
    let marks: Vec<[Option<Mark>; 4]> = named.iter().map(marks).collect();
    let distinct: HashSet<&Mark> = marks.iter().flatten().flatten().collect();
    let rows = ERASED.fetch_all(connection, &[], distinct.into_iter().map(|mark| mark.as_slice().into()).collect()).await?;
    let mut erased: HashMap<Vec<u8>, i64> = HashMap::with_capacity(rows.len());
    for row in &rows {
        erased.insert(row.get(0)?, row.get(1)?);
    }
    let at = |mark: &Option<Mark>| mark.and_then(|mark| erased.get(mark.as_slice()).copied());
    let is_late = |(named, marks): (&Named, &[Option<Mark>; 4])| {
        let [event, people @ ..] = marks;
        at(event).is_some() || people.iter().any(|mark| at(mark).is_some_and(|erased| named.at_ms <= erased))
    };
    Ok(named.iter().zip(&marks).map(is_late).collect())
}

async fn aliases(connection: &mut Connection, kind: &'static str, names: HashSet<&str>) -> Result<HashMap<String, UserId>, StoreError> {
    let rows = ALIASES.fetch_all(connection, &[kind.into()], names.into_iter().map(Into::into).collect()).await?;
    rows.iter().map(|row| Ok((row.get(0)?, user(row.get(1)?)?))).collect()
}

/// The user that a name stands for: itself, or who it was merged into.
pub(super) async fn resolved<'c>(on: impl Into<On<'c>>, user: &UserId) -> Result<UserId, StoreError> {
    Ok(alias_of(on, &Actor::User(user.clone())).await?.unwrap_or_else(|| user.clone()))
}

/// Who that name was merged into.
pub(super) async fn alias_of<'c>(on: impl Into<On<'c>>, name: &Actor) -> Result<Option<UserId>, StoreError> {
    let (kind, name) = kind_and_name(name);
    let row = query("SELECT user_id FROM aliases WHERE kind = $1 AND name = $2").bind(kind).bind(name).fetch_optional(on).await?;
    row.map(|row| user(row.get(0)?)).transpose()
}

pub(super) fn kind_and_name(actor: &Actor) -> (&'static str, &str) {
    match actor {
        Actor::User(user) => ("user", user.as_str()),
        Actor::Session(session) => ("session", session.as_str()),
    }
}

/// From the columns of [`kind_and_name`].
pub(super) fn actor(kind: &str, name: &str) -> Result<Actor, StoreError> {
    match kind {
        "user" => user(name).map(Actor::User),
        "session" => SessionId::new(name).map(Actor::Session).map_err(StoreError::corrupt),
        _ => Err(StoreError::corrupt("an alias of unknown kind")),
    }
}

pub(super) fn user(id: &str) -> Result<UserId, StoreError> {
    UserId::new(id).map_err(StoreError::corrupt)
}
