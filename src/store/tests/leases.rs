use std::time::{Duration, Instant};

use super::{postgres::replicas, *};
use crate::domain::Revision;

const LONG: Duration = Duration::from_secs(600);

on_both! {
    a_lease_is_renewed_by_its_holder_and_fences_what_is_written_under_it,
}

async fn a_lease_is_renewed_by_its_holder_and_fences_what_is_written_under_it(kind: Kind) {
    let store = temporary(kind).await;

    let lease = store.hold_lease("index", LONG).await.unwrap().unwrap();
    assert_eq!(store.hold_lease("index", LONG).await.unwrap().as_ref(), Some(&lease));
    assert!(store.set_flushed_revision_under(&lease, "shared", Revision(7)).await.unwrap());
    store.release_lease(lease.clone()).await.unwrap();

    assert!(!store.set_flushed_revision_under(&lease, "shared", Revision(9)).await.unwrap());
    assert_eq!(store.shared_flushed_revision("shared").await.unwrap(), Revision(7));
    assert_eq!(store.flushed_revision("own").await.unwrap(), Revision(0));
    let store = store.reopened().await;
    assert!(store.hold_lease("index", LONG).await.unwrap().unwrap().epoch() > lease.epoch());
}

#[tokio::test]
#[cfg_attr(not(postgres_server), ignore = "PostgreSQL is not installed (apt install postgresql)")]
async fn when_a_holder_dies_another_takes_over_and_the_old_one_cannot_write() {
    let (one, other) = replicas().await;
    let short = Duration::from_millis(400);

    let old = one.hold_lease("index", short).await.unwrap().unwrap();
    assert_eq!(other.hold_lease("index", LONG).await.unwrap(), None);
    assert!(one.set_flushed_revision_under(&old, "shared", Revision(5)).await.unwrap());
    // The holder does not renew: it is dead, or only slow.
    let deadline = Instant::now() + Duration::from_secs(20);
    let new = loop {
        if let Some(lease) = other.hold_lease("index", LONG).await.unwrap() {
            break lease;
        }
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(20)).await;
    };

    assert_eq!(new.epoch(), old.epoch() + 1);
    assert!(!one.set_flushed_revision_under(&old, "shared", Revision(6)).await.unwrap());
    assert_eq!(one.hold_lease("index", LONG).await.unwrap(), None);
    one.release_lease(old).await.unwrap();
    assert!(other.set_flushed_revision_under(&new, "shared", Revision(8)).await.unwrap());
    assert_eq!(one.shared_flushed_revision("shared").await.unwrap(), Revision(8));
}

#[tokio::test]
#[cfg_attr(not(postgres_server), ignore = "PostgreSQL is not installed (apt install postgresql)")]
async fn each_replica_has_an_index_of_its_own_and_finds_it_again() {
    let (one, other) = replicas().await;

    one.set_flushed_revision("c", Revision(7)).await.unwrap();
    other.set_flushed_revision("c", Revision(3)).await.unwrap();

    assert_eq!(one.reopened().await.flushed_revision("c").await.unwrap(), Revision(7));
    assert_eq!(other.flushed_revision("c").await.unwrap(), Revision(3));
}

#[tokio::test]
#[cfg_attr(not(postgres_server), ignore = "PostgreSQL is not installed (apt install postgresql)")]
async fn a_lease_that_was_taken_while_the_databases_clock_was_ahead_does_not_outlast_its_holder_by_as_much() {
    let (one, other) = replicas().await;
    let old = one.hold_lease("index", LONG).await.unwrap().unwrap();
    assert_eq!(other.hold_lease("index", LONG).await.unwrap(), None);

    one.meddle("UPDATE leases SET expires_at = expires_at + 31536000000").await; // a year

    assert_eq!(other.hold_lease("index", LONG).await.unwrap().unwrap().epoch(), old.epoch() + 1);
    assert!(!one.set_flushed_revision_under(&old, "shared", Revision(6)).await.unwrap());
}
