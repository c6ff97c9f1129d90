//! Users: sessions and users merged into one, and what is known of one.
//!
//! A merge gives the rows of the session (those without a user) or of the old user to the user, a bounded number a commit, and leaves an
//! alias: what still comes under the old name, however late, is the user's too, and who asks for the old user is told of the new one.
//! The alias is made in the first commit, so nothing that comes meanwhile is missed; a merge that broke off is finished by the next.

use super::{
    Store, StoreError,
    batch::{Ledger, Write},
    database::{Connection, On, Row, query},
    event_log, exposure_log, identity,
};
use crate::domain::{Actor, Exposure, LoggedEvent, RecommendationId, Timestamp, UserId};

/// Rows of a table that one commit moves: some 50 ms of the writer's time at most.
const MOVED_AT_ONCE: i64 = 2_000;

/// A merge on its way to the writer.
#[derive(Clone)]
pub(super) struct Merge {
    from: Actor,
    into: UserId,
    now: Timestamp,
}

/// What one commit did of a merge.
#[derive(Default)]
pub(super) struct Step {
    events: u64,
    exposures: u64,
    more: bool,
    /// Who the target is; set when it is known.
    user: Option<UserId>,
    involved: Vec<Actor>,
}

/// What a merge did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Merged {
    /// Whose it all is now: the target, or who the target was merged into.
    pub user: UserId,
    /// Events that were given to the user.
    pub events: u64,
    /// Answers that were given to the user.
    pub exposures: u64,
    /// Every name whose history may read differently now.
    pub involved: Vec<Actor>,
}

/// A name that was merged into a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alias {
    /// The session or the old user.
    pub name: Actor,
    /// When it became this user's, or that of somebody who was merged into this user; a repeated merge does not change it.
    pub at: Timestamp,
}

/// How many events of one type there are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TypeCount {
    /// The type's name.
    pub kind: String,
    /// So many.
    pub count: u64,
    /// When the first of them happened.
    pub first: Timestamp,
    /// When the last of them happened.
    pub last: Timestamp,
}

pub(super) async fn merge(connection: &mut Connection, ledger: &mut Ledger, Merge { from, into, now }: &Merge) -> Result<Step, StoreError> {
    let user = identity::resolved(&mut *connection, into).await?;
    let (kind, name) = identity::kind_and_name(from);
    let before = identity::alias_of(&mut *connection, from).await?;
    let number = ledger.next.merge;
    // The old user may stand for somebody else already: then that person is the one who is merged.
    let person = match from {
        Actor::User(old) => before.as_ref().unwrap_or(old).as_str(),
        Actor::Session(session) => session.as_str(),
    };
    let known = match from {
        Actor::User(_) => person == user.as_str(),
        Actor::Session(_) => before.as_ref() == Some(&user),
    };
    if !known {
        if kind == "user" {
            let text = "UPDATE aliases SET user_id = $1, number = $2 WHERE user_id = $3";
            query(text).bind(user.as_str()).bind(number).bind(person).execute(connection).await?;
        }
        let text = "INSERT INTO aliases (kind, name, user_id, number, at) VALUES ($1, $2, $3, $4, $5) \
                    ON CONFLICT (kind, name) DO UPDATE SET user_id = excluded.user_id, number = excluded.number, at = excluded.at";
        query(text).bind(kind).bind(person).bind(user.as_str()).bind(number).bind(now.millis()).execute(connection).await?;
    }
    let (events, exposures) = match from {
        Actor::Session(session) => {
            let events = "UPDATE events SET user_id = $1 WHERE sequence IN \
                          (SELECT sequence FROM events WHERE session_id = $2 AND user_id IS NULL LIMIT $3)";
            let exposures = "UPDATE exposures SET user_id = $1 WHERE recommendation_id IN \
                             (SELECT recommendation_id FROM exposures WHERE session_id = $2 AND user_id IS NULL LIMIT $3)";
            let session = session.as_str();
            (
                query(events).bind(user.as_str()).bind(session).bind(MOVED_AT_ONCE).execute(connection).await?,
                query(exposures).bind(user.as_str()).bind(session).bind(MOVED_AT_ONCE).execute(connection).await?,
            )
        }
        // Under whatever old name: also what a merge that broke off has left behind.
        Actor::User(_) => {
            let events = "UPDATE events SET user_id = $1 WHERE sequence IN (SELECT sequence FROM events WHERE user_id IN \
                          (SELECT name FROM aliases WHERE user_id = $1 AND kind = 'user') LIMIT $2)";
            let exposures = "UPDATE exposures SET user_id = $1 WHERE recommendation_id IN (SELECT recommendation_id FROM exposures WHERE user_id IN \
                             (SELECT name FROM aliases WHERE user_id = $1 AND kind = 'user') LIMIT $2)";
            (
                query(events).bind(user.as_str()).bind(MOVED_AT_ONCE).execute(connection).await?,
                query(exposures).bind(user.as_str()).bind(MOVED_AT_ONCE).execute(connection).await?,
            )
        }
    };
    // Replicas that follow the numbers look again after each commit that moved something.
    if events + exposures > 0 {
        let text = "UPDATE aliases SET number = $1 WHERE kind = $2 AND name = $3";
        query(text).bind(number).bind(kind).bind(name).execute(connection).await?;
    }
    if !known || events + exposures > 0 {
        ledger.next.merge += 1;
    }
    let more = events.max(exposures) >= MOVED_AT_ONCE.unsigned_abs();
    let mut involved = Vec::new();
    if !more {
        involved = aliases(&mut *connection, &user).await?.into_iter().map(|alias| alias.name).collect();
        involved.extend([from.clone(), Actor::User(into.clone()), Actor::User(user.clone())]);
        involved.sort();
        involved.dedup();
    }
    Ok(Step { events, exposures, more, user: Some(user), involved })
}

/// The names that were merged into a user.
pub(super) async fn aliases<'c>(on: impl Into<On<'c>>, user: &UserId) -> Result<Vec<Alias>, StoreError> {
    let text = "SELECT kind, name, at FROM aliases WHERE user_id = $1 ORDER BY at, kind, name";
    let rows = query(text).bind(user.as_str()).fetch_all(on).await?;
    let alias = |row: &Row| Ok(Alias { name: identity::actor(row.get(0)?, row.get(1)?)?, at: time(row, 2)? });
    rows.iter().map(alias).collect()
}

fn time(row: &Row, column: usize) -> Result<Timestamp, StoreError> {
    Timestamp::from_millis(row.get(column)?).map_err(StoreError::corrupt)
}

/// What other processes may have changed of who is who; see [`Store::people_changed`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeopleChanges {
    /// Up to where these changes go; to be asked from the next time.
    pub seen: PeopleSeen,
    /// Names that were merged, and whom into.
    pub merged: Vec<Actor>,
    /// Whether somebody was erased; not said who.
    pub erased: bool,
}

/// Up to which merge and erasure a process knows who is who.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct PeopleSeen {
    merge: i64,
    erasure: i64,
}

impl Store {
    /// Makes a session or a user one with `into`, from now on and for what is there already.
    ///
    /// A session gives what it did without a user; merged again into somebody else, only what comes later is theirs. Of users, who was
    /// merged into whom makes no difference: names of one person stay names of one person, so merging back is a merge of a person with
    /// itself and changes nothing. After an error it is to be done again.
    pub async fn merge(&self, from: &Actor, into: &UserId, now: Timestamp) -> Result<Merged, StoreError> {
        let merge = Merge { from: from.clone(), into: into.clone(), now };
        let mut merged = Merged { user: into.clone(), events: 0, exposures: 0, involved: Vec::new() };
        loop {
            let step = self.write(1, merge.clone(), Write::Merge).await?;
            merged.events += step.events;
            merged.exposures += step.exposures;
            merged.user = step.user.unwrap_or(merged.user);
            if !step.more {
                merged.involved = step.involved;
                return Ok(merged);
            }
        }
    }

    /// Whom a user's name stands for: itself, or whom it was merged into.
    pub async fn user(&self, user: &UserId) -> Result<UserId, StoreError> {
        identity::resolved(self.readers(), user).await
    }

    /// Whom a name stands for; a session is itself.
    pub async fn person(&self, actor: &Actor) -> Result<Actor, StoreError> {
        Ok(match actor {
            Actor::User(user) => Actor::User(self.user(user).await?),
            Actor::Session(_) => actor.clone(),
        })
    }

    /// The names that were merged into a user, oldest merge first.
    pub async fn aliases(&self, user: &UserId) -> Result<Vec<Alias>, StoreError> {
        aliases(self.readers(), user).await
    }

    /// A user's events by type, the most frequent first.
    pub async fn event_types(&self, user: &UserId) -> Result<Vec<TypeCount>, StoreError> {
        let text = "SELECT kind, count(*), min(at), max(at) FROM events WHERE user_id = $1 GROUP BY kind ORDER BY count(*) DESC, kind";
        let rows = query(text).bind(user.as_str()).fetch_all(self.readers()).await?;
        let count = |row: &Row| Ok(TypeCount { kind: row.get(0)?, count: row.get::<i64>(1)?.unsigned_abs(), first: time(row, 2)?, last: time(row, 3)? });
        rows.iter().map(count).collect()
    }

    /// How many answers were given to a user.
    pub async fn exposure_count(&self, user: &UserId) -> Result<u64, StoreError> {
        let count: i64 = query("SELECT count(*) FROM exposures WHERE user_id = $1").bind(user.as_str()).fetch_one(self.readers()).await?.get(0)?;
        Ok(count.unsigned_abs())
    }

    /// A user's events, oldest first, from the one after `after`.
    pub async fn events_of(&self, user: &UserId, after: Option<&LoggedEvent>, limit: usize) -> Result<Vec<LoggedEvent>, StoreError> {
        let (at, sequence) = after.map_or((i64::MIN, 0), |last| (last.at().millis(), last.sequence));
        event_log::events_of(self.readers(), user, (at, sequence), limit).await
    }

    /// The answers that were given to a user, in the order of their names (which is that of time), from the one after `after`.
    pub async fn exposures_of(&self, user: &UserId, after: Option<&RecommendationId>, limit: usize) -> Result<Vec<Exposure>, StoreError> {
        exposure_log::exposures_of(self.readers(), user, after, limit).await
    }

    /// Up to which merge and erasure everything is known now.
    pub async fn people_seen(&self) -> Result<PeopleSeen, StoreError> {
        let text = "SELECT (SELECT max(number) FROM aliases), (SELECT max(number) FROM erased)";
        let row = query(text).fetch_one(self.readers()).await?;
        let newest = |column| Ok::<_, StoreError>(row.get::<Option<i64>>(column)?.unwrap_or(0));
        Ok(PeopleSeen { merge: newest(0)?, erasure: newest(1)? })
    }

    /// Whose histories may read differently because of merges and erasures above `seen`, whichever process on this database made them.
    pub async fn people_changed(&self, seen: PeopleSeen) -> Result<PeopleChanges, StoreError> {
        let newest = self.people_seen().await?;
        // The newest may have been deleted since.
        let newest = PeopleSeen { merge: newest.merge.max(seen.merge), erasure: newest.erasure.max(seen.erasure) };
        let mut merged = Vec::new();
        if newest.merge > seen.merge {
            let text = "SELECT kind, name, user_id FROM aliases WHERE number > $1 AND number <= $2";
            for row in query(text).bind(seen.merge).bind(newest.merge).fetch_all(self.readers()).await? {
                merged.push(identity::actor(row.get(0)?, row.get(1)?)?);
                merged.push(Actor::User(identity::user(row.get(2)?)?));
            }
            merged.sort();
            merged.dedup();
        }
        Ok(PeopleChanges { seen: newest, merged, erased: newest.erasure > seen.erasure })
    }
}
