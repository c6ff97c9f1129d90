//! Forgetting: a user or a session in, a receipt of counts out; afterwards no name of theirs is in the database.
//!
//! The first commit marks the names, so that what still comes of the past is not stored; then rows go, a bounded number a commit, each
//! `event_id` leaving a mark; aliases go last, for they say what else is to be erased. Erasing again finishes what broke off.
//!
//! SQLite overwrites what it deletes (`secure_delete`); copies in unused parts of pages go when the file is written anew, and old pages in
//! the log when that is cut to nothing ([`scrub`](super::database::Connection::scrub)). Postgres keeps dead rows until `VACUUM`.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{
    Store, StoreError,
    batch::{Ledger, Write},
    database::{Connection, Insert, List, Query, Rewrite, query},
    identity::{self, Mark, Name},
    users,
};
use crate::domain::{Actor, EventId, Timestamp};

/// Rows of a table that one commit erases: some 30 ms of the writer's time at most.
const ERASED_AT_ONCE: i64 = 1_000;
/// For readers to let go of the log.
const SCRUB_PATIENCE: Duration = Duration::from_secs(3);

/// An erasure on its way to the writer.
#[derive(Clone)]
pub(super) struct Erasure {
    whom: Actor,
    now: Timestamp,
}

/// What one commit did of an erasure.
#[derive(Default)]
pub(super) struct Step {
    events: u64,
    exposures: u64,
    more: bool,
    /// Once there is nothing more: every name that stood for them, and how many aliases are gone.
    names: Vec<Actor>,
    aliases: u64,
}

/// What was erased.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// Events.
    pub events: u64,
    /// Answers that were logged.
    pub exposures: u64,
    /// Sessions and old users that had been merged into the user.
    pub aliases: u64,
    /// Every name that stood for who was erased.
    pub names: Vec<Actor>,
}

static MARKS: Insert<3> = Insert::new("INSERT INTO erased (mark, at, number)", "ON CONFLICT (mark) DO UPDATE SET at = excluded.at, number = excluded.number");
static DELETE_EVENTS: List = List::new("DELETE FROM events WHERE sequence", "");
static DELETE_EXPOSURES: List = List::new("DELETE FROM exposures WHERE recommendation_id", "");

/// Rows of one user, under old names too as far as a merge that broke off has left them.
const USERS_EVENTS: [&str; 3] = [
    "SELECT sequence, event_id FROM events WHERE user_id = $1 LIMIT $2",
    "SELECT sequence, event_id FROM events WHERE user_id IN (SELECT name FROM aliases WHERE user_id = $1 AND kind = 'user') LIMIT $2",
    "SELECT sequence, event_id FROM events WHERE session_id IN (SELECT name FROM aliases WHERE user_id = $1 AND kind = 'session') \
     AND user_id IS NULL LIMIT $2",
];
const USERS_EXPOSURES: [&str; 3] = [
    "SELECT recommendation_id FROM exposures WHERE user_id = $1 LIMIT $2",
    "SELECT recommendation_id FROM exposures WHERE user_id IN (SELECT name FROM aliases WHERE user_id = $1 AND kind = 'user') LIMIT $2",
    "SELECT recommendation_id FROM exposures WHERE session_id IN (SELECT name FROM aliases WHERE user_id = $1 AND kind = 'session') \
     AND user_id IS NULL LIMIT $2",
];
/// All of a session, logged in or not.
const SESSIONS_EVENTS: [&str; 1] = ["SELECT sequence, event_id FROM events WHERE session_id = $1 LIMIT $2"];
const SESSIONS_EXPOSURES: [&str; 1] = ["SELECT recommendation_id FROM exposures WHERE session_id = $1 LIMIT $2"];

pub(super) async fn erase(connection: &mut Connection, ledger: &mut Ledger, Erasure { whom, now }: &Erasure) -> Result<Step, StoreError> {
    let number = ledger.next.erasure;
    ledger.next.erasure += 1;
    let (id, names, aliases) = match whom {
        Actor::User(user) => {
            let user = identity::resolved(&mut *connection, user).await?;
            let aliases = users::aliases(&mut *connection, &user).await?;
            let id = user.as_str().to_owned();
            (id, std::iter::once(Actor::User(user)).chain(aliases.iter().map(|alias| alias.name.clone())).collect(), aliases.len() as u64)
        }
        Actor::Session(session) => {
            let aliases = u64::from(identity::alias_of(&mut *connection, whom).await?.is_some());
            (session.as_str().to_owned(), vec![whom.clone()], aliases)
        }
    };
    let marker = &ledger.marker;
    let mut marks: Vec<Mark> = names
        .iter()
        .map(|name| match (whom, name) {
            (Actor::User(_), Actor::Session(session)) => marker.mark(Name::Anonymous(session)),
            (_, Actor::User(user)) => marker.mark(Name::User(user)),
            (Actor::Session(_), Actor::Session(session)) => marker.mark(Name::Visit(session)),
        })
        .collect();

    let (of_events, of_exposures): (&[&'static str], &[&'static str]) = match whom {
        Actor::User(_) => (&USERS_EVENTS, &USERS_EXPOSURES),
        Actor::Session(_) => (&SESSIONS_EVENTS, &SESSIONS_EXPOSURES),
    };
    let mut sequences: Vec<i64> = Vec::new();
    for text in of_events {
        let room = ERASED_AT_ONCE - sequences.len() as i64;
        for row in query(text).bind(id.as_str()).bind(room).fetch_all(&mut *connection).await? {
            sequences.push(row.get(0)?);
            if let Some(event) = row.get::<Option<&str>>(1)? {
                marks.push(marker.mark(Name::Event(&EventId::new(event).map_err(StoreError::corrupt)?)));
            }
        }
    }
    let mut answers: Vec<String> = Vec::new();
    for text in of_exposures {
        let room = ERASED_AT_ONCE - answers.len() as i64;
        for row in query(text).bind(id.as_str()).bind(room).fetch_all(&mut *connection).await? {
            answers.push(row.get(0)?);
        }
    }

    marks.sort_unstable();
    marks.dedup();
    let rows = marks.iter().map(|mark| [mark.as_slice().into(), now.millis().into(), number.into()]);
    MARKS.execute(connection, rows.collect()).await?;
    DELETE_EVENTS.fetch_all(&mut *connection, &[], sequences.iter().map(|sequence| (*sequence).into()).collect()).await?;
    DELETE_EXPOSURES.fetch_all(&mut *connection, &[], answers.iter().map(|answer| answer.as_str().into()).collect()).await?;
    // What is counted by the largest number must not count anew.
    connection.keep_sequence(ledger.next.sequence).await?;
    let more = sequences.len().max(answers.len()) as i64 >= ERASED_AT_ONCE;
    if !more {
        let gone: Query<'_> = match whom {
            Actor::User(_) => query("DELETE FROM aliases WHERE user_id = $1"),
            Actor::Session(_) => query("DELETE FROM aliases WHERE name = $1 AND kind = 'session'"),
        };
        gone.bind(id.as_str()).execute(connection).await?;
    }
    Ok(Step { events: sequences.len() as u64, exposures: answers.len() as u64, more, names, aliases })
}

impl Store {
    /// Erases a user, with all that was merged into it, or a session, with all that was done in it, logged in or not.
    ///
    /// Events of theirs that happened up to `now`, and those with an `event_id` that was erased, are [duplicates](super::EventOutcome::Duplicate)
    /// from now on; the same name may begin anew. After an error it is to be done again.
    pub async fn erase(&self, whom: &Actor, now: Timestamp) -> Result<Receipt, StoreError> {
        let mut receipt = Receipt { events: 0, exposures: 0, aliases: 0, names: Vec::new() };
        let erasure = Erasure { whom: whom.clone(), now };
        loop {
            let step = self.write(1, erasure.clone(), Write::Erase).await?;
            receipt.events += step.events;
            receipt.exposures += step.exposures;
            if !step.more {
                self.metrics().erased(receipt.events, receipt.exposures);
                receipt.aliases = step.aliases;
                receipt.names = step.names;
                break;
            }
        }
        if !self.scrub(Rewrite::IfSmall).await? {
            tracing::warn!("what was erased is still in SQLite's log because of a long read; it goes with the next clean-up");
        }
        Ok(receipt)
    }

    /// Takes what was erased out of SQLite's files where that was put off: a large file is written anew once a day, not at every erasure.
    /// Writes wait for it, some seconds a GB. `false` where nothing was put off.
    pub async fn scrub_if_due(&self) -> Result<bool, StoreError> {
        let due = query("SELECT 1 FROM meta WHERE name = 'rewrite_due'").fetch_optional(self.readers()).await?.is_some();
        if due {
            self.scrub(Rewrite::Always).await?;
        }
        Ok(due)
    }

    /// `false` where readers did not let go of the log in time.
    async fn scrub(&self, rewrite: Rewrite) -> Result<bool, StoreError> {
        let deadline = Instant::now() + SCRUB_PATIENCE;
        let mut rewrite = rewrite;
        while !self.write(1, std::mem::take(&mut rewrite), Write::Scrub).await? {
            if Instant::now() >= deadline {
                return Ok(false);
            }
            sleep(Duration::from_millis(50)).await;
        }
        Ok(true)
    }
}
