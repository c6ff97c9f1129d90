//! Leases: what one process at a time may do. Taken and renewed by the database's clock, lost when they expire, fenced by an epoch.
//!
//! As in Gray & Cheriton 1989, with the fencing token of Kleppmann 2016 ("How to do distributed locking"): a holder that was slow and
//! does not know yet that it lost the lease cannot write, because each write under a lease names the epoch it was given.

use std::time::Duration;

use super::{
    Store, StoreError,
    batch::Write,
    database::{Connection, query},
};

/// A right that this process has, or had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    name: String,
    epoch: i64,
}

impl Lease {
    /// Grows whenever the lease changes hands.
    pub fn epoch(&self) -> i64 {
        self.epoch
    }
}

/// A lease on its way to the writer.
pub(super) enum LeaseRequest {
    Hold { name: String, holder: String, term: Duration },
    Release { lease: Lease },
}

pub(super) async fn apply(connection: &mut Connection, request: &LeaseRequest) -> Result<Option<Lease>, StoreError> {
    match request {
        LeaseRequest::Hold { name, holder, term } => {
            let now = connection.clock_ms().await?;
            // SQLite's folder has one process: whoever held a lease before is gone.
            let free_until = if connection.is_alone() { i64::MAX } else { now };
            let text = "INSERT INTO leases (name, holder, epoch, expires_at) VALUES ($1, $2, 1, $3) ON CONFLICT (name) DO UPDATE \
                        SET epoch = leases.epoch + CASE WHEN leases.holder = excluded.holder THEN 0 ELSE 1 END, \
                        holder = excluded.holder, expires_at = excluded.expires_at \
                        WHERE leases.holder = excluded.holder OR leases.expires_at <= $4 OR leases.expires_at > $5 RETURNING epoch";
            let term = i64::try_from(term.as_millis()).unwrap_or(i64::MAX);
            let expires_at = now.saturating_add(term);
            // Nobody is given more than a term: one that ends later was taken while the database's clock was ahead.
            let believed_until = expires_at.saturating_add(term);
            let query = query(text).bind(name.as_str()).bind(holder.as_str()).bind(expires_at).bind(free_until).bind(believed_until);
            let row = query.fetch_optional(connection).await?;
            row.map(|row| Ok(Lease { name: name.clone(), epoch: row.get(0)? })).transpose()
        }
        LeaseRequest::Release { lease } => {
            let text = "UPDATE leases SET expires_at = 0, holder = '' WHERE name = $1 AND epoch = $2";
            query(text).bind(lease.name.as_str()).bind(lease.epoch).execute(connection).await?;
            Ok(None)
        }
    }
}

/// Whether nobody else has got the lease since; in the writer's transaction that stays so until its end.
pub(super) async fn is_held(connection: &mut Connection, lease: &Lease) -> Result<bool, StoreError> {
    let text = "SELECT 1 FROM leases WHERE name = $1 AND epoch = $2 AND holder <> ''";
    Ok(query(text).bind(lease.name.as_str()).bind(lease.epoch).fetch_optional(connection).await?.is_some())
}

impl Store {
    /// Takes the lease of that name for `term`, or renews it; `None` while another process has it.
    ///
    /// Renew it in time (a third of `term` is usual); all who take it name the same term. Another process may take it as soon as the term is over; [writes under
    /// it](Self::set_flushed_revision_under) are refused from then on.
    pub async fn hold_lease(&self, name: &str, term: Duration) -> Result<Option<Lease>, StoreError> {
        let request = LeaseRequest::Hold { name: name.to_owned(), holder: self.shared.holder.clone(), term };
        self.write(1, request, Write::Lease).await
    }

    /// Gives a lease back, so that nobody has to wait for its end. One that was lost already is another's and stays so.
    pub async fn release_lease(&self, lease: Lease) -> Result<(), StoreError> {
        self.write(1, LeaseRequest::Release { lease }, Write::Lease).await.map(drop)
    }
}
