//! What the store should do, by maps and lists.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{
    steps::{NAMES, Write, answer, collection, embedding, text_hash},
    *,
};

/// What is remembered of the erased.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Erased {
    User(UserId),
    /// A session, whoever was logged in.
    Visit(SessionId),
    /// What a session did without a user.
    Anonymous(SessionId),
    Event(EventId),
}

/// What the store should hold.
#[derive(Default)]
pub(super) struct Reference {
    /// One database for several processes: a lease is not lost with the process that held it.
    pub(super) shared: bool,
    pub(super) items: BTreeMap<ItemId, StoredItem>,
    pub(super) revision: i64,
    pub(super) attributes: BTreeMap<String, AttributeType>,
    /// As they were sent, as long as they are kept.
    pub(super) sent: HashMap<EventId, Event>,
    pub(super) events: Vec<LoggedEvent>,
    /// The largest sequence that was ever given.
    pub(super) newest: i64,
    /// Whose each name is, and since when; nobody in here is somebody else's again.
    pub(super) aliases: BTreeMap<Actor, (UserId, Timestamp)>,
    /// What may not come back, and what was before which time may not.
    pub(super) erased: BTreeMap<Erased, Timestamp>,
    /// Whether the last deletion of marks was after the last look of who follows.
    pub(super) marks_aged: bool,
    pub(super) erasures: usize,
    pub(super) embeddings: BTreeMap<(u8, u8), u8>,
    pub(super) flushed: BTreeMap<u8, Revision>,
    pub(super) flushed_shared: Revision,
    pub(super) exposures: BTreeMap<u8, Exposure>,
    /// Changes of the lease's holder; who has it, by the number of the opening.
    pub(super) epoch: i64,
    pub(super) holder: Option<usize>,
    pub(super) opening: usize,
}

impl Reference {
    pub(super) fn follow(&mut self, write: Write, said: Said, lease: &mut Option<Lease>) {
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
    pub(super) fn expire(&mut self, what: Ageing, before: Timestamp) -> usize {
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

    pub(super) fn expose(&mut self, id: u8, exposure: Exposure) {
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

    pub(super) async fn assert_same_parts(&self, store: &Store, after: u8, from: u8, limit: usize) {
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

    pub(super) async fn assert_same(&self, store: &Store) {
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
