//! Random calls against the store and against maps and lists that say what should happen.
//!
//! A call that is new to the store joins in three places: a [`Write`] with its strategy, what is asked of the store ([`perform`]), and what the
//! reference makes of it ([`Reference::follow`]); what it changes is compared in [`Reference::assert_same`] already.

mod reference;
mod steps;

use std::collections::BTreeMap;

use futures::future::join_all;
use proptest::prelude::*;

use super::*;
use crate::domain::{
    Actor, AttributeType, Embedding, Event, EventId, Exposure, Feature, ItemKey, LoggedEvent, RecommendationId, Revision, SessionId, ShownItem, StoredItem,
    UserId,
};

use reference::Reference;
use steps::{HOUR, Step, Write, any_step, collection, embedding, exposure, text_hash};

/// What the store said.
#[derive(Debug)]
enum Said {
    Items(Vec<ItemOutcome>),
    Patch(PatchOutcome),
    Deleted(Option<StoredItem>),
    Events(Vec<EventOutcome>),
    Lease(Option<Lease>),
    Flushed(bool),
    Merged(Merged),
    Erased(Receipt),
    Nothing,
}

async fn perform(store: &Store, write: Write, lease: Option<&Lease>) -> Said {
    match write {
        Write::Put(items) => Said::Items(store.put_items(items).await.unwrap()),
        Write::Patch(id, change) => Said::Patch(store.patch_item(&id, change.document()).await.unwrap()),
        Write::Delete(id) => Said::Deleted(store.delete_item(&id).await.unwrap()),
        Write::Append(events, now) => Said::Events(store.append_events(events, now).await.unwrap()),
        Write::Embed(model, vectors) => {
            let vectors = vectors.into_iter().map(|(text, variant)| (text_hash(text), embedding(variant))).collect();
            store.put_embeddings(&model.to_string(), vectors).await.unwrap();
            Said::Nothing
        }
        Write::Flushed(n, revision) => {
            store.set_flushed_revision(&collection(n), revision).await.unwrap();
            Said::Nothing
        }
        Write::Hold => Said::Lease(store.hold_lease("index", HOUR).await.unwrap()),
        Write::Release => {
            if let Some(lease) = lease {
                store.release_lease(lease.clone()).await.unwrap();
            }
            Said::Nothing
        }
        Write::FlushedUnderLease(revision) => match lease {
            Some(lease) => Said::Flushed(store.set_flushed_revision_under(lease, "shared", revision).await.unwrap()),
            None => Said::Nothing,
        },
        Write::Merge(from, into, now) => Said::Merged(store.merge(&from, &into, now).await.unwrap()),
        Write::Erase(whom, now) => Said::Erased(store.erase(&whom, now).await.unwrap()),
    }
}

/// Another process that keeps what it knows of people up to date by the store's numbers.
struct Follower {
    seen: PeopleSeen,
    aliases: BTreeMap<Actor, (UserId, Timestamp)>,
    erasures: usize,
}

impl Follower {
    async fn new(store: &Store, reference: &Reference) -> Self {
        Self { seen: store.people_seen().await.unwrap(), aliases: reference.aliases.clone(), erasures: reference.erasures }
    }

    /// Looks again: it is told of every name that stands for somebody else than before, or that somebody was erased.
    async fn follow(&mut self, store: &Store, reference: &mut Reference) {
        let changes = store.people_changed(self.seen).await.unwrap();
        let owner = |aliases: &BTreeMap<Actor, (UserId, Timestamp)>, name: &Actor| aliases.get(name).map(|(user, _)| user.clone());
        for name in reference.aliases.keys().filter(|name| owner(&reference.aliases, name) != owner(&self.aliases, name)) {
            assert!(changes.merged.contains(name), "{name:?} among {changes:?}");
        }
        if !std::mem::take(&mut reference.marks_aged) {
            assert_eq!(changes.erased, reference.erasures > self.erasures);
        }
        *self = Self { seen: changes.seen, aliases: reference.aliases.clone(), erasures: reference.erasures };
    }
}

async fn play(kind: Kind, steps: Vec<Step>) {
    let mut store = temporary(kind).await;
    let mut reference = Reference { shared: kind == Kind::Postgres, ..Reference::default() };
    let mut lease: Option<Lease> = None;
    let mut follower = Follower::new(&store, &reference).await;
    for step in steps.into_iter().chain([Step::Reopen]) {
        match step {
            Step::Together(writes) => {
                let held = lease.clone();
                // Queued in their order, because none of them waits before it is queued.
                let said = join_all(writes.iter().map(|write| perform(&store, write.clone(), held.as_ref()))).await;
                // Within a commit leases come first, then what is flushed and who is who (`batch::commit`); the rest do not touch each other.
                let rank = |write: &Write| match write {
                    Write::Hold | Write::Release => 0,
                    Write::Flushed(..) | Write::FlushedUnderLease(_) | Write::Merge(..) | Write::Erase(..) => 1,
                    _ => 2,
                };
                let mut both: Vec<(Write, Said)> = writes.into_iter().zip(said).collect();
                both.sort_by_key(|(write, _)| rank(write));
                let before = lease.clone();
                for (write, said) in both {
                    let mut used = before.clone();
                    reference.follow(write, said, &mut used);
                    if used != before {
                        lease = used;
                    }
                }
            }
            Step::Expose(id, items, who) => {
                assert!(store.record_exposure(exposure(id, items, who.clone())));
                store.set_flushed_revision("any", Revision(1)).await.unwrap(); // the exposure goes with this commit
                reference.expose(id, exposure(id, items, who));
            }
            Step::Expire(what, before) => {
                let (mut expiry, mut deleted) = (store.expire(what, before), 0);
                while let Some(rows) = expiry.step().await.unwrap() {
                    deleted += rows as usize;
                }
                assert_eq!(deleted, reference.expire(what, before), "{what:?}");
            }
            Step::Reopen => {
                store = store.reopened().await;
                reference.opening += 1;
                reference.assert_same(&store).await;
                follower = Follower::new(&store, &reference).await;
            }
            Step::Look { after, from, limit } => {
                reference.assert_same_parts(&store, after, from, limit).await;
                follower.follow(&store, &mut reference).await;
            }
        }
    }
}

fn played(kind: Kind, steps: Vec<Step>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(play(kind, steps));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn the_store_does_what_a_map_and_a_list_would_do_on_sqlite(steps in prop::collection::vec(any_step(), 1..25)) {
        played(Kind::Sqlite, steps);
    }

    #[test]
    #[cfg_attr(not(postgres_server), ignore = "PostgreSQL is not installed (apt install postgresql)")]
    fn the_store_does_what_a_map_and_a_list_would_do_on_postgres(steps in prop::collection::vec(any_step(), 1..25)) {
        played(Kind::Postgres, steps);
    }
}
