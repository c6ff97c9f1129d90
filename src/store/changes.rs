//! The wake-up when another replica wrote. What it wrote is read from the tables, in the order of revisions and sequences.

use std::time::Duration;

use super::{Store, database::Announcements};

/// Tells that there may be something new in a database that other processes write to.
pub struct Changes(Announcements);

impl Store {
    /// Wake-ups for commits of all processes on this database; `None` where there is only this one (SQLite).
    pub fn changes(&self) -> Option<Changes> {
        self.readers().announcements().map(Changes)
    }

    /// Whether other processes may write to the database too.
    pub fn is_shared(&self) -> bool {
        self.shared.replica.is_some()
    }
}

impl Changes {
    /// Returns when a commit with new events or items was announced, at the latest after `patience`: announcements may get lost.
    pub async fn next(&mut self, patience: Duration) {
        self.0.next(patience).await;
    }
}
