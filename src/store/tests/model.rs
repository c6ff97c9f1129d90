//! Random calls against the store and against maps and lists that say what should happen.
//!
//! A call that is new to the store joins in three places: a [`Write`] with its strategy, what is asked of the store ([`perform`]), and what the
//! reference makes of it ([`Reference::follow`]); what it changes is compared in [`Reference::assert_same`] already.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};

use futures::future::join_all;
use proptest::prelude::*;

use super::*;
use crate::domain::{
    Actor, AttributeType, Embedding, Event, EventId, Exposure, Feature, ItemKey, LoggedEvent, RecommendationId, Revision, SessionId, StoredItem, UserId,
};

const NAMES: u8 = 4;
const HOUR: Duration = Duration::from_secs(3_600);

/// What changes the store.
#[derive(Debug, Clone)]
enum Write {
    Put(Vec<Item>),
    Patch(ItemId, Change),
    Delete(ItemId),
    Append(Vec<Event>, Timestamp),
    Embed(u8, Vec<(u8, u8)>),
    Flushed(u8, Revision),
    Hold,
    Release,
    FlushedUnderLease(Revision),
    Merge(Actor, UserId, Timestamp),
    Erase(Actor, Timestamp),
}

/// A merge patch.
#[derive(Debug, Clone)]
enum Change {
    Price(Option<u8>),
    Attribute(u8, Option<u8>),
    /// Leaves no item.
    NoTitle,
    /// Names another item.
    OtherId,
}

#[derive(Debug, Clone)]
enum Step {
    /// At once: most share a commit.
    Together(Vec<Write>),
    /// The answer's number, how many items it shows, and to whom.
    Expose(u8, u8, Who),
    /// What is older is deleted, as far as there are rows of that kind.
    Expire(Ageing, Timestamp),
    /// The store is closed and opened again.
    Reopen,
    /// Parts of what there is: a page, a part of the log, a history.
    Look { after: u8, from: u8, limit: usize },
}

/// A user, a session, or both.
type Who = (Option<UserId>, Option<SessionId>);

fn any_id() -> impl Strategy<Value = ItemId> {
    (0..NAMES).prop_map(|n| id(&format!("item {n}")))
}

fn any_item() -> impl Strategy<Value = Item> {
    let attributes = prop::collection::btree_map(0..2u8, 0..4u8, 0..3);
    (0..NAMES, prop::option::of(0..2u8), attributes).prop_map(|(n, price, attributes)| {
        let attributes: serde_json::Map<String, Json> = attributes.into_iter().map(|(name, variant)| (attribute(name), value(variant))).collect();
        item(&format!("item {n}"), json!({"price": price, "attributes": attributes}))
    })
}

fn attribute(name: u8) -> String {
    format!("attribute {name}")
}

/// Variant 3 is of another type than the others.
fn value(variant: u8) -> Json {
    if variant == 3 { "text".into() } else { variant.into() }
}

fn any_event() -> impl Strategy<Value = Event> {
    (prop::option::of(0..6u8), any_who(), 0..2u8, prop::option::of(0..5i64)).prop_map(|(id, (user, session), content, time)| {
        let who = json!({"user_id": user, "session_id": session});
        event(with(who, json!({"event_id": id.map(|id| id.to_string()), "value": content, "timestamp": time})))
    })
}

fn any_user() -> impl Strategy<Value = UserId> {
    (0..3u8).prop_map(|n| UserId::new(format!("u{n}")).unwrap())
}

fn any_session() -> impl Strategy<Value = SessionId> {
    (0..2u8).prop_map(|n| SessionId::new(format!("s{n}")).unwrap())
}

fn any_who() -> impl Strategy<Value = Who> {
    prop_oneof![
        2 => (any_user().prop_map(Some), prop::option::of(any_session())),
        1 => (Just(None), any_session().prop_map(Some)),
    ]
}

fn any_actor() -> impl Strategy<Value = Actor> {
    prop_oneof![3 => any_user().prop_map(Actor::User), 2 => any_session().prop_map(Actor::Session)]
}

fn any_time() -> impl Strategy<Value = Timestamp> {
    (0..5i64).prop_map(at)
}

fn any_ageing() -> impl Strategy<Value = Ageing> {
    prop_oneof![Just(Ageing::Events), Just(Ageing::Exposures), Just(Ageing::SessionAliases), Just(Ageing::Marks)]
}

fn any_change() -> impl Strategy<Value = Change> {
    prop_oneof![
        3 => prop::option::of(0..2u8).prop_map(Change::Price),
        4 => (0..2u8, prop::option::of(0..4u8)).prop_map(|(name, variant)| Change::Attribute(name, variant)),
        1 => Just(Change::NoTitle),
        1 => Just(Change::OtherId),
    ]
}

fn any_write() -> impl Strategy<Value = Write> {
    prop_oneof![
        4 => prop::collection::vec(any_item(), 1..6).prop_map(Write::Put),
        3 => (any_id(), any_change()).prop_map(|(id, change)| Write::Patch(id, change)),
        2 => any_id().prop_map(Write::Delete),
        5 => (prop::collection::vec(any_event(), 1..6), any_time()).prop_map(|(events, now)| Write::Append(events, now)),
        3 => (any_actor(), any_user(), any_time()).prop_map(|(from, into, now)| Write::Merge(from, into, now)),
        1 => (any_actor(), any_time()).prop_map(|(whom, now)| Write::Erase(whom, now)),
        2 => (0..2u8, prop::collection::vec((0..4u8, 1..4u8), 1..4)).prop_map(|(model, vectors)| Write::Embed(model, vectors)),
        2 => (0..2u8, 0..9i64).prop_map(|(collection, revision)| Write::Flushed(collection, Revision(revision))),
        1 => Just(Write::Hold),
        1 => Just(Write::Release),
        1 => (0..9i64).prop_map(|revision| Write::FlushedUnderLease(Revision(revision))),
    ]
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => prop::collection::vec(any_write(), 1..5).prop_map(Step::Together),
        2 => (0..4u8, 0..3u8, any_who()).prop_map(|(id, items, who)| Step::Expose(id, items, who)),
        1 => (any_ageing(), any_time()).prop_map(|(what, before)| Step::Expire(what, before)),
        1 => Just(Step::Reopen),
        2 => (0..NAMES, 0..12u8, 1..8usize).prop_map(|(after, from, limit)| Step::Look { after, from, limit }),
    ]
}

impl Change {
    fn document(&self) -> Json {
        match self {
            Self::Price(price) => json!({"price": price}),
            Self::Attribute(name, variant) => json!({"attributes": {attribute(*name): variant.map(value)}}),
            Self::NoTitle => json!({"title": null}),
            Self::OtherId => json!({"item_id": "another"}),
        }
    }

    /// What it makes of an item; `None` where that is none.
    fn of(&self, item: &Item) -> Option<Item> {
        let mut item = item.clone();
        match self {
            Self::Price(price) => item.price = price.map(f64::from),
            Self::Attribute(name, Some(variant)) => drop(item.attributes.insert(attribute(*name), serde_json::from_value(value(*variant)).unwrap())),
            Self::Attribute(name, None) => drop(item.attributes.remove(&attribute(*name))),
            Self::NoTitle | Self::OtherId => return None,
        }
        Some(item)
    }
}

fn embedding(variant: u8) -> Embedding {
    Embedding::new(vec![f32::from(variant), 1.0]).unwrap()
}

fn text_hash(n: u8) -> ContentHash {
    ContentHash::of(&n.to_string())
}

fn answer(id: u8) -> RecommendationId {
    RecommendationId::new(format!("r{id}")).unwrap()
}

fn exposure(id: u8, items: u8, (user_id, session_id): Who) -> Exposure {
    Exposure {
        recommendation_id: answer(id),
        at: at(i64::from(items)),
        user_id,
        session_id,
        scenario: "home".to_owned(),
        items: (0..items).map(|n| (super::id(&n.to_string()), [f32::from(n); Feature::ALL.len()])).collect(),
    }
}

fn collection(n: u8) -> String {
    format!("collection {n}")
}

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

/// What is remembered of the erased.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Erased {
    User(UserId),
    /// A session, whoever was logged in.
    Visit(SessionId),
    /// What a session did without a user.
    Anonymous(SessionId),
    Event(EventId),
}

/// What the store should hold.
#[derive(Default)]
struct Reference {
    /// One database for several processes: a lease is not lost with the process that held it.
    shared: bool,
    items: BTreeMap<ItemId, StoredItem>,
    revision: i64,
    attributes: BTreeMap<String, AttributeType>,
    /// As they were sent, as long as they are kept.
    sent: HashMap<EventId, Event>,
    events: Vec<LoggedEvent>,
    /// The largest sequence that was ever given.
    newest: i64,
    /// Whose each name is, and since when; nobody in here is somebody else's again.
    aliases: BTreeMap<Actor, (UserId, Timestamp)>,
    /// What may not come back, and what was before which time may not.
    erased: BTreeMap<Erased, Timestamp>,
    /// Whether the last deletion of marks was after the last look of who follows.
    marks_aged: bool,
    erasures: usize,
    embeddings: BTreeMap<(u8, u8), u8>,
    flushed: BTreeMap<u8, Revision>,
    flushed_shared: Revision,
    exposures: BTreeMap<u8, Exposure>,
    /// Changes of the lease's holder; who has it, by the number of the opening.
    epoch: i64,
    holder: Option<usize>,
    opening: usize,
}

impl Reference {
    fn follow(&mut self, write: Write, said: Said, lease: &mut Option<Lease>) {
        match (write, said) {
            (Write::Put(items), Said::Items(outcomes)) => {
                assert_eq!(outcomes.len(), items.len());
                for (item, outcome) in items.into_iter().zip(outcomes) {
                    match (self.put(item), outcome) {
                        (Put::Created(wanted), ItemOutcome::Created(stored))
                        | (Put::Updated(wanted), ItemOutcome::Updated(stored))
                        | (Put::Unchanged(wanted), ItemOutcome::Unchanged(stored)) => assert_eq!(stored, wanted),
                        (Put::Rejected(name), ItemOutcome::Rejected(fault)) => assert_eq!(fault.pointer, format!("/attributes/{name}")),
                        (wanted, outcome) => panic!("{outcome:?} instead of {wanted:?}"),
                    }
                }
            }
            (Write::Patch(id, change), Said::Patch(outcome)) => {
                let wanted = self.items.get(&id).filter(|held| !held.deleted).map(|held| change.of(&held.item)).map(|item| item.map(|item| self.put(item)));
                match (wanted, outcome) {
                    (None, PatchOutcome::Missing) | (Some(None | Some(Put::Rejected(_))), PatchOutcome::Rejected(_)) => {}
                    (Some(Some(Put::Updated(wanted))), PatchOutcome::Updated(stored))
                    | (Some(Some(Put::Unchanged(wanted))), PatchOutcome::Unchanged(stored)) => {
                        assert_eq!(stored, wanted);
                    }
                    (wanted, outcome) => panic!("{outcome:?} instead of {wanted:?}"),
                }
            }
            (Write::Delete(id), Said::Deleted(tombstone)) => {
                let held = self.items.get_mut(&id).filter(|held| !held.deleted);
                let wanted = held.map(|held| {
                    self.revision += 1;
                    (held.revision, held.deleted) = (Revision(self.revision), true);
                    held.clone()
                });
                assert_eq!(tombstone, wanted);
            }
            (Write::Append(events, now), Said::Events(outcomes)) => {
                assert_eq!(outcomes.len(), events.len());
                for (event, outcome) in events.into_iter().zip(outcomes) {
                    self.append(event, now, &outcome);
                }
            }
            (Write::Embed(model, vectors), _) => {
                for (text, variant) in vectors {
                    self.embeddings.entry((model, text)).or_insert(variant);
                }
            }
            (Write::Flushed(n, Revision(0)), _) => drop(self.flushed.remove(&n)),
            (Write::Flushed(n, revision), _) => drop(self.flushed.insert(n, revision)),
            (Write::Hold, Said::Lease(given)) => {
                let free = self.holder.is_none_or(|holder| holder != self.opening && !self.shared);
                if free {
                    self.epoch += 1;
                    self.holder = Some(self.opening);
                }
                let wanted = (self.holder == Some(self.opening)).then_some(self.epoch);
                assert_eq!(given.as_ref().map(Lease::epoch), wanted);
                *lease = given.or(lease.take());
            }
            (Write::Release, _) => {
                if lease.as_ref().is_some_and(|lease| lease.epoch() == self.epoch) {
                    self.holder = None;
                }
            }
            (Write::FlushedUnderLease(revision), Said::Flushed(done)) => {
                let held = self.holder.is_some() && lease.as_ref().is_some_and(|lease| lease.epoch() == self.epoch);
                assert_eq!(done, held);
                if held {
                    self.flushed_shared = revision;
                }
            }
            (Write::FlushedUnderLease(_), Said::Nothing) => {}
            (Write::Merge(from, into, now), Said::Merged(merged)) => self.merge(&from, &into, now, &merged),
            (Write::Erase(whom, now), Said::Erased(receipt)) => self.erase(&whom, now, &receipt),
            (write, said) => panic!("{said:?} to {write:?}"),
        }
    }

    fn put(&mut self, item: Item) -> Put {
        let before = self.items.get(&item.item_id).cloned();
        if let Some(held) = before.as_ref().filter(|held| !held.deleted && *held.item == item) {
            return Put::Unchanged(held.clone());
        }
        if let Some((name, _)) = item.attributes.iter().find(|(name, value)| self.attributes.get(*name).is_some_and(|kind| *kind != value.kind())) {
            return Put::Rejected(name.clone());
        }
        for (name, value) in &item.attributes {
            self.attributes.insert(name.clone(), value.kind());
        }
        self.revision += 1;
        let key = before.as_ref().map_or(ItemKey(self.items.len() as u32), |held| held.key);
        let stored = StoredItem { key, revision: Revision(self.revision), deleted: false, item: Arc::new(item) };
        self.items.insert(stored.item.item_id.clone(), stored.clone());
        if before.is_some_and(|held| !held.deleted) { Put::Updated(stored) } else { Put::Created(stored) }
    }

    fn append(&mut self, event: Event, now: Timestamp, outcome: &EventOutcome) {
        let at = event.timestamp.unwrap_or(now);
        let is_erased = event.event_id.as_ref().is_some_and(|id| self.erased.contains_key(&Erased::Event(id.clone())));
        if is_erased || self.is_late(event.user_id.as_ref(), event.session_id.as_ref(), at) {
            assert_eq!(*outcome, EventOutcome::Duplicate, "{event:?}");
            return;
        }
        if let Some(first) = event.event_id.as_ref().and_then(|id| self.sent.get(id)) {
            assert_eq!(*outcome, if *first == event { EventOutcome::Duplicate } else { EventOutcome::Reused });
            return;
        }
        let owner = self.owner(event.user_id.as_ref(), event.session_id.as_ref());
        let sequence = match (outcome, &owner) {
            (EventOutcome::Accepted(sequence), None) => *sequence,
            (EventOutcome::Moved(sequence, user), Some(owner)) if user == owner => *sequence,
            _ => panic!("{outcome:?} for {event:?}, which is {owner:?}'s"),
        };
        assert!(self.newest < sequence, "{} was given before {sequence}", self.newest);
        self.newest = sequence;
        if let Some(id) = &event.event_id {
            self.sent.insert(id.clone(), event.clone());
        }
        let user_id = owner.or_else(|| event.user_id.clone());
        self.events.push(LoggedEvent { sequence, event: Event { timestamp: Some(at), user_id, ..event } });
    }

    /// Whether what somebody did at a time was erased before it came.
    fn is_late(&self, user: Option<&UserId>, session: Option<&SessionId>, at: Timestamp) -> bool {
        let anonymous = session.filter(|_| user.is_none());
        let names = [
            user.map(|user| Erased::User(user.clone())),
            session.map(|session| Erased::Visit(session.clone())),
            anonymous.map(|session| Erased::Anonymous(session.clone())),
        ];
        names.into_iter().flatten().any(|name| self.erased.get(&name).is_some_and(|erased| at <= *erased))
    }

    /// Who gets what comes under these names, where that is not the user that is named.
    fn owner(&self, user: Option<&UserId>, session: Option<&SessionId>) -> Option<UserId> {
        let name = Actor::of(user, session).expect("somebody");
        self.aliases.get(&name).map(|(user, _)| user.clone())
    }

    fn user(&self, user: &UserId) -> UserId {
        self.owner(Some(user), None).unwrap_or_else(|| user.clone())
    }

    fn person(&self, actor: &Actor) -> Actor {
        match actor {
            Actor::User(user) => Actor::User(self.user(user)),
            Actor::Session(_) => actor.clone(),
        }
    }

    fn merge(&mut self, from: &Actor, into: &UserId, now: Timestamp, merged: &Merged) {
        let into = self.user(into);
        assert_eq!(merged.user, into);
        let was = self.person(from);
        match from {
            Actor::User(_) if was == Actor::User(into.clone()) => {}
            Actor::User(_) => {
                for (user, _) in self.aliases.values_mut().filter(|(user, _)| Actor::User(user.clone()) == was) {
                    user.clone_from(&into);
                }
                self.aliases.insert(was.clone(), (into.clone(), now));
            }
            Actor::Session(_) if self.aliases.get(from).is_some_and(|(user, _)| *user == into) => {}
            Actor::Session(_) => drop(self.aliases.insert(from.clone(), (into.clone(), now))),
        }
        let goes_over = |user: &Option<UserId>, session: &Option<SessionId>| match &was {
            Actor::User(was) => user.as_ref() == Some(was) && *was != into,
            Actor::Session(was) => user.is_none() && session.as_ref() == Some(was),
        };
        let (mut events, mut exposures) = (0, 0);
        for event in self.events.iter_mut().map(|logged| &mut logged.event).filter(|event| goes_over(&event.user_id, &event.session_id)) {
            event.user_id = Some(into.clone());
            events += 1;
        }
        for exposure in self.exposures.values_mut().filter(|exposure| goes_over(&exposure.user_id, &exposure.session_id)) {
            exposure.user_id = Some(into.clone());
            exposures += 1;
        }
        assert_eq!((merged.events, merged.exposures), (events, exposures), "of {from:?} into {into}");
        for name in [from, &Actor::User(into)] {
            assert!(merged.involved.contains(name), "{name:?} among {:?}", merged.involved);
        }
    }

    fn erase(&mut self, whom: &Actor, now: Timestamp, receipt: &Receipt) {
        let person = self.person(whom);
        let names: BTreeSet<Actor> = match &person {
            Actor::User(user) => self.names_of(user).map(|(name, _)| name.clone()).chain([person.clone()]).collect(),
            Actor::Session(_) => [person.clone()].into(),
        };
        for name in &names {
            let mark = match (&person, name) {
                (_, Actor::User(user)) => Erased::User(user.clone()),
                (Actor::User(_), Actor::Session(session)) => Erased::Anonymous(session.clone()),
                (Actor::Session(_), Actor::Session(session)) => Erased::Visit(session.clone()),
            };
            self.erased.insert(mark, now);
        }
        let is_theirs = |user: &Option<UserId>, session: &Option<SessionId>| match &person {
            Actor::User(person) => user.as_ref() == Some(person),
            Actor::Session(person) => session.as_ref() == Some(person),
        };
        let (gone, kept): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.events).into_iter().partition(|logged| is_theirs(&logged.event.user_id, &logged.event.session_id));
        self.events = kept;
        for id in gone.iter().filter_map(|logged| logged.event.event_id.clone()) {
            self.sent.remove(&id);
            self.erased.insert(Erased::Event(id), now);
        }
        let before = (self.exposures.len(), self.aliases.len());
        self.exposures.retain(|_, exposure| !is_theirs(&exposure.user_id, &exposure.session_id));
        self.aliases.retain(|name, _| !names.contains(name));
        let (exposures, aliases) = (before.0 - self.exposures.len(), before.1 - self.aliases.len());
        assert_eq!((receipt.events, receipt.exposures, receipt.aliases), (gone.len() as u64, exposures as u64, aliases as u64), "of {whom:?}");
        assert_eq!(receipt.names.iter().cloned().collect::<BTreeSet<_>>(), names);
        self.erasures += 1;
    }

    /// The names that were merged into a user.
    fn names_of(&self, user: &UserId) -> impl Iterator<Item = (&Actor, Timestamp)> {
        self.aliases.iter().filter(move |(_, (owner, _))| owner == user).map(|(name, (_, at))| (name, *at))
    }

    /// Deletes what is older than a time; how much that was.
    fn expire(&mut self, what: Ageing, before: Timestamp) -> usize {
        let rows = |of: &Self| of.events.len() + of.exposures.len() + of.aliases.len() + of.erased.len();
        let all = rows(self);
        match what {
            Ageing::Events => {
                let Self { events, sent, .. } = self;
                events.retain(|logged| logged.at() >= before);
                sent.retain(|id, _| events.iter().any(|logged| logged.event.event_id.as_ref() == Some(id)));
            }
            Ageing::Exposures => self.exposures.retain(|_, exposure| exposure.at >= before),
            Ageing::SessionAliases => self.aliases.retain(|name, (_, at)| matches!(name, Actor::User(_)) || *at >= before),
            Ageing::Marks => {
                self.erased.retain(|_, at| *at >= before);
                self.marks_aged = true;
            }
        }
        all - rows(self)
    }

    fn expose(&mut self, id: u8, exposure: Exposure) {
        let (user, session) = (exposure.user_id.as_ref(), exposure.session_id.as_ref());
        if !self.is_late(user, session, exposure.at) {
            let user_id = self.owner(user, session).or_else(|| exposure.user_id.clone());
            self.exposures.entry(id).or_insert(Exposure { user_id, ..exposure });
        }
    }

    /// Newest first, and where the time is the same the one that came last.
    fn history(&self, actor: &Actor, limit: usize) -> Vec<LoggedEvent> {
        let is_theirs = |event: &Event| match actor {
            Actor::User(_) => event.user_id.as_ref().map(|user| Actor::User(user.clone())).as_ref() == Some(actor),
            // What the session gave to its user it still sees.
            Actor::Session(session) => {
                event.session_id.as_ref() == Some(session)
                    && event.user_id.as_ref().is_none_or(|user| self.aliases.get(actor).is_some_and(|(owner, _)| owner == user))
            }
        };
        let mut history: Vec<LoggedEvent> = self.events.iter().filter(|logged| is_theirs(&logged.event)).cloned().collect();
        history.sort_by_key(|logged| std::cmp::Reverse((logged.event.timestamp, logged.sequence)));
        history.truncate(limit);
        history
    }

    fn live(&self) -> impl Iterator<Item = &StoredItem> {
        self.items.values().filter(|item| !item.deleted)
    }

    async fn assert_same_parts(&self, store: &Store, after: u8, from: u8, limit: usize) {
        let after = id(&format!("item {after}"));
        let page: Vec<StoredItem> = self.live().filter(|item| item.item.item_id > after).take(limit).cloned().collect();
        assert_eq!(store.items_page(Some(&after), limit).await.unwrap(), page);

        let from = Revision(from.into());
        let mut above: Vec<StoredItem> = self.items.values().filter(|item| item.revision > from).cloned().collect();
        assert_eq!(store.pending_items(from).await.unwrap(), above.len() as u64);
        above.sort_by_key(|item| item.revision);
        above.truncate(limit);
        assert_eq!(store.items_above(from, limit).await.unwrap(), above);

        let log: Vec<LoggedEvent> = self.events.iter().filter(|logged| logged.sequence > from.0).take(limit).cloned().collect();
        assert_eq!(store.events_after(from.0, limit).await.unwrap(), log);
        for actor in actors() {
            let history = self.history(&actor, limit);
            assert_eq!(store.recent_events(&actor, limit).await.unwrap(), history);
            let acts = store.recent_acts(&actor, limit).await.unwrap();
            assert_eq!(acts.iter().map(|act| act.sequence).collect::<Vec<_>>(), history.iter().map(|logged| logged.sequence).collect::<Vec<_>>());
            assert_eq!(store.person(&actor).await.unwrap(), self.person(&actor));
        }
    }

    async fn assert_same_people(&self, store: &Store) {
        for actor in actors() {
            let Actor::User(user) = &actor else { continue };
            let mut names: Vec<Alias> = self.names_of(user).map(|(name, at)| Alias { name: name.clone(), at }).collect();
            names.sort_by_key(|alias| (alias.at, matches!(alias.name, Actor::User(_)), alias.name.clone()));
            assert_eq!(store.aliases(user).await.unwrap(), names);
            let mut all = self.history(&actor, usize::MAX);
            all.reverse();
            assert_eq!(store.events_of(user, None, 1_000).await.unwrap(), all);
            let shown: Vec<Exposure> = self.exposures.values().filter(|exposure| exposure.user_id.as_ref() == Some(user)).cloned().collect();
            assert_eq!(store.exposure_count(user).await.unwrap(), shown.len() as u64);
            assert_eq!(store.exposures_of(user, None, 1_000).await.unwrap(), shown);
        }
    }

    async fn assert_same(&self, store: &Store) {
        assert_eq!(store.items_page(None, 100).await.unwrap(), self.live().cloned().collect::<Vec<_>>());
        for (id, held) in &self.items {
            assert_eq!(store.item(id).await.unwrap().as_ref(), Some(held).filter(|held| !held.deleted));
        }
        let mut by_key: Vec<StoredItem> = self.items.values().cloned().collect();
        by_key.sort_by_key(|item| item.key);
        let keys: Vec<ItemKey> = (0..u32::from(NAMES) + 1).map(ItemKey).collect();
        assert_eq!(store.items_by_key(&keys).await.unwrap(), by_key);
        let counts = store.item_counts().await.unwrap();
        assert_eq!((counts.live, counts.deleted), (self.live().count() as u64, (self.items.len() - self.live().count()) as u64));
        assert_eq!(store.latest_revision().await.unwrap(), Revision(self.revision));
        assert_eq!(store.attribute_types().await.unwrap(), self.attributes);

        assert_eq!(store.event_count().await.unwrap(), self.events.len() as u64);
        assert_eq!(store.events_after(0, 10_000).await.unwrap(), self.events);
        for n in 0..4 {
            assert_eq!(store.exposure(&answer(n)).await.unwrap().as_ref(), self.exposures.get(&n));
        }
        self.assert_same_people(store).await;

        for model in 0..2 {
            let texts: BTreeSet<u8> = (0..4).collect();
            let known = store.embeddings(&model.to_string(), &texts.iter().map(|text| text_hash(*text)).collect::<Vec<_>>()).await.unwrap();
            let wanted = self.embeddings.range((model, 0)..=(model, u8::MAX)).map(|((_, text), variant)| (text_hash(*text), embedding(*variant)));
            assert_eq!(known, wanted.collect());
        }
        for n in 0..2 {
            assert_eq!(store.flushed_revision(&collection(n)).await.unwrap(), self.flushed.get(&n).copied().unwrap_or_default());
        }
        assert_eq!(store.shared_flushed_revision("shared").await.unwrap(), self.flushed_shared);
        self.assert_same_parts(store, 0, 0, 1_000).await;
    }
}

/// What should become of an item that is put.
#[derive(Debug)]
enum Put {
    Created(StoredItem),
    Updated(StoredItem),
    Unchanged(StoredItem),
    /// The attribute of another type.
    Rejected(String),
}

fn actors() -> [Actor; 5] {
    let user = |id: &str| Actor::User(UserId::new(id).unwrap());
    let session = |id: &str| Actor::Session(SessionId::new(id).unwrap());
    [user("u0"), user("u1"), user("u2"), session("s0"), session("s1")]
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
