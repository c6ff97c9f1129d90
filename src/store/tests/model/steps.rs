//! What may happen to a store, at random.

use std::time::Duration;

use proptest::prelude::*;

use super::*;

pub(super) const NAMES: u8 = 4;
pub(super) const HOUR: Duration = Duration::from_secs(3_600);

/// What changes the store.
#[derive(Debug, Clone)]
pub(super) enum Write {
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
pub(super) enum Change {
    Price(Option<u8>),
    Attribute(u8, Option<u8>),
    /// Leaves no item.
    NoTitle,
    /// Names another item.
    OtherId,
}

#[derive(Debug, Clone)]
pub(super) enum Step {
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

pub(super) fn any_id() -> impl Strategy<Value = ItemId> {
    (0..NAMES).prop_map(|n| id(&format!("item {n}")))
}

pub(super) fn any_item() -> impl Strategy<Value = Item> {
    let attributes = prop::collection::btree_map(0..2u8, 0..4u8, 0..3);
    (0..NAMES, prop::option::of(0..2u8), attributes).prop_map(|(n, price, attributes)| {
        let attributes: serde_json::Map<String, Json> = attributes.into_iter().map(|(name, variant)| (attribute(name), value(variant))).collect();
        item(&format!("item {n}"), json!({"price": price, "attributes": attributes}))
    })
}

pub(super) fn attribute(name: u8) -> String {
    format!("attribute {name}")
}

/// Variant 3 is of another type than the others.
pub(super) fn value(variant: u8) -> Json {
    if variant == 3 { "text".into() } else { variant.into() }
}

pub(super) fn any_event() -> impl Strategy<Value = Event> {
    (prop::option::of(0..6u8), any_who(), 0..2u8, prop::option::of(0..5i64)).prop_map(|(id, (user, session), content, time)| {
        let who = json!({"user_id": user, "session_id": session});
        event(with(who, json!({"event_id": id.map(|id| id.to_string()), "value": content, "timestamp": time})))
    })
}

pub(super) fn any_user() -> impl Strategy<Value = UserId> {
    (0..3u8).prop_map(|n| UserId::new(format!("u{n}")).unwrap())
}

pub(super) fn any_session() -> impl Strategy<Value = SessionId> {
    (0..2u8).prop_map(|n| SessionId::new(format!("s{n}")).unwrap())
}

pub(super) fn any_who() -> impl Strategy<Value = Who> {
    prop_oneof![
        2 => (any_user().prop_map(Some), prop::option::of(any_session())),
        1 => (Just(None), any_session().prop_map(Some)),
    ]
}

pub(super) fn any_actor() -> impl Strategy<Value = Actor> {
    prop_oneof![3 => any_user().prop_map(Actor::User), 2 => any_session().prop_map(Actor::Session)]
}

pub(super) fn any_time() -> impl Strategy<Value = Timestamp> {
    (0..5i64).prop_map(at)
}

pub(super) fn any_ageing() -> impl Strategy<Value = Ageing> {
    prop_oneof![Just(Ageing::Events), Just(Ageing::Exposures), Just(Ageing::SessionAliases), Just(Ageing::Marks)]
}

pub(super) fn any_change() -> impl Strategy<Value = Change> {
    prop_oneof![
        3 => prop::option::of(0..2u8).prop_map(Change::Price),
        4 => (0..2u8, prop::option::of(0..4u8)).prop_map(|(name, variant)| Change::Attribute(name, variant)),
        1 => Just(Change::NoTitle),
        1 => Just(Change::OtherId),
    ]
}

pub(super) fn any_write() -> impl Strategy<Value = Write> {
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

pub(super) fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => prop::collection::vec(any_write(), 1..5).prop_map(Step::Together),
        2 => (0..4u8, 0..3u8, any_who()).prop_map(|(id, items, who)| Step::Expose(id, items, who)),
        1 => (any_ageing(), any_time()).prop_map(|(what, before)| Step::Expire(what, before)),
        1 => Just(Step::Reopen),
        2 => (0..NAMES, 0..12u8, 1..8usize).prop_map(|(after, from, limit)| Step::Look { after, from, limit }),
    ]
}

impl Change {
    pub(super) fn document(&self) -> Json {
        match self {
            Self::Price(price) => json!({"price": price}),
            Self::Attribute(name, variant) => json!({"attributes": {attribute(*name): variant.map(value)}}),
            Self::NoTitle => json!({"title": null}),
            Self::OtherId => json!({"item_id": "another"}),
        }
    }

    /// What it makes of an item; `None` where that is none.
    pub(super) fn of(&self, item: &Item) -> Option<Item> {
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

pub(super) fn embedding(variant: u8) -> Embedding {
    Embedding::new(vec![f32::from(variant), 1.0]).unwrap()
}

pub(super) fn text_hash(n: u8) -> ContentHash {
    ContentHash::of(&n.to_string())
}

pub(super) fn answer(id: u8) -> RecommendationId {
    RecommendationId::new(format!("r{id}")).unwrap()
}

pub(super) fn exposure(id: u8, items: u8, (user_id, session_id): Who) -> Exposure {
    Exposure {
        recommendation_id: answer(id),
        at: at(i64::from(items)),
        user_id,
        session_id,
        scenario: "home".to_owned(),
        items: (0..items)
            .map(|n| ShownItem { item_id: super::id(&n.to_string()), features: [f32::from(n); Feature::ALL.len()], propensity: 1.0 / f32::from(n + 1) })
            .collect(),
    }
}

pub(super) fn collection(n: u8) -> String {
    format!("collection {n}")
}
