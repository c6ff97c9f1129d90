//! What users do: the event types of the feedback table, and one event.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::{Actor, DAY_MS, EventId, FieldError, ItemId, RecommendationId, SessionId, Timestamp, UserId};

/// Characters that a text of a user (query, review, search) may have.
pub const MAX_TEXT_CHARS: usize = 20_000;

/// What happened: one of the feedback table's types, or one of the site's own.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the names say it; API.md's feedback table says what each teaches")]
pub enum EventType {
    Impression,
    View,
    Click,
    Dwell,
    Watch,
    Like,
    Dislike,
    Rating,
    Review,
    AddToCart,
    RemoveFromCart,
    Purchase,
    Share,
    Hide,
    Search,
    Solved,
    Unsolved,
    /// A type that the site named itself; whether it is configured is for `features` to say.
    Own(OwnType),
}

/// Bytes of the name of a type.
pub(super) const MAX_TYPE_BYTES: usize = 31;

/// The name of a type that is not in the feedback table, held in place: types are copied with every event and a log may hold names that are
/// no longer configured, so there is no table of them that it could be a number of.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OwnType {
    /// ASCII, filled up with zeros.
    bytes: [u8; MAX_TYPE_BYTES],
    length: u8,
}

impl OwnType {
    fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..usize::from(self.length)]).unwrap_or("")
    }
}

/// Not a name that a type can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must begin with a letter and have 1 to {MAX_TYPE_BYTES} of a-z, 0-9 and _")]
pub struct InvalidType;

/// What `value` means for an event type, and its bounds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ValueRule {
    /// Whether the event makes no sense without it.
    pub required: bool,
    /// Least and most.
    pub range: (f64, f64),
    /// As an error message says it.
    pub meaning: &'static str,
}

impl EventType {
    /// The types of the feedback table, in its order.
    pub const ALL: [Self; 17] = [
        Self::Impression,
        Self::View,
        Self::Click,
        Self::Dwell,
        Self::Watch,
        Self::Like,
        Self::Dislike,
        Self::Rating,
        Self::Review,
        Self::AddToCart,
        Self::RemoveFromCart,
        Self::Purchase,
        Self::Share,
        Self::Hide,
        Self::Search,
        Self::Solved,
        Self::Unsolved,
    ];

    /// The name on the wire, in the store and in metric labels.
    pub fn name(&self) -> &str {
        match self {
            Self::Impression => "impression",
            Self::View => "view",
            Self::Click => "click",
            Self::Dwell => "dwell",
            Self::Watch => "watch",
            Self::Like => "like",
            Self::Dislike => "dislike",
            Self::Rating => "rating",
            Self::Review => "review",
            Self::AddToCart => "add_to_cart",
            Self::RemoveFromCart => "remove_from_cart",
            Self::Purchase => "purchase",
            Self::Share => "share",
            Self::Hide => "hide",
            Self::Search => "search",
            Self::Solved => "solved",
            Self::Unsolved => "unsolved",
            Self::Own(own) => own.as_str(),
        }
    }

    /// The type of that name: of the feedback table, else an own one.
    pub fn named(name: &str) -> Result<Self, InvalidType> {
        if let Some(known) = Self::ALL.into_iter().find(|kind| kind.name() == name) {
            return Ok(known);
        }
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        if name.len() > MAX_TYPE_BYTES || !name.starts_with(|first: char| first.is_ascii_lowercase()) || !name.bytes().all(plain) {
            return Err(InvalidType);
        }
        let mut bytes = [0; MAX_TYPE_BYTES];
        bytes[..name.len()].copy_from_slice(name.as_bytes());
        Ok(Self::Own(OwnType { bytes, length: name.len() as u8 }))
    }
}

impl fmt::Debug for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Serialize for EventType {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for EventType {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = EventType;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }
            fn visit_str<E: de::Error>(self, name: &str) -> Result<EventType, E> {
                EventType::named(name).map_err(|_| E::unknown_variant(name, &[]))
            }
        }
        deserializer.deserialize_str(Visitor)
    }
}

/// One event: the JSON document of `POST /feedback`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(examples(json!({"event_id": "e-1", "type": "click", "user_id": "u42", "session_id": "s9", "item_id": "sku-3", "timestamp": "2026-11-23T12:00:00Z"})))]
pub struct Event {
    /// The caller's name for the event; with it a retry counts once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event_id: Option<EventId>,
    /// What happened: `impression`, `view`, `click`, `dwell`, `watch`, `like`, `dislike`, `rating`, `review`, `add_to_cart`, `remove_from_cart`, `purchase`,
    /// `share`, `hide`, `search`, `solved`, `unsolved`, or a type that this site's settings name (`[features.events.NAME]`).
    #[serde(rename = "type")]
    #[schema(value_type = String, pattern = "^[a-z][a-z0-9_]{0,30}$", example = "click")]
    pub kind: EventType,
    /// Who did it. One of user and session is required.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_id: Option<UserId>,
    /// In which visit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_id: Option<SessionId>,
    /// To which item; absent for `search` only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub item_id: Option<ItemId>,
    /// The answer of `/recommend` that showed the item.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recommendation_id: Option<RecommendationId>,
    /// How much, by type: seconds, share, stars, quantity, money.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<f64>,
    /// The review, the search words, or the words that led to the item.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// When; the time of arrival where it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<Timestamp>,
}

impl Event {
    /// Everything that is wrong with the event beyond its JSON types and whether there is such a type; empty when it may be stored.
    /// `rule` is for the type's `value`; without one a finite value is ignored.
    pub fn faults(&self, now: Timestamp, rule: Option<ValueRule>) -> Vec<FieldError> {
        let mut faults = Vec::new();
        if self.user_id.is_none() && self.session_id.is_none() {
            faults.push(FieldError::new("/user_id", "a user_id or a session_id is required"));
        }
        if self.item_id.is_none() && self.kind != EventType::Search {
            faults.push(FieldError::new("/item_id", "is required for every type but \"search\""));
        }
        match (rule, self.value) {
            (_, Some(value)) if !value.is_finite() => faults.push(FieldError::new("/value", "must be a finite number")),
            (Some(rule), None) if rule.required => faults.push(FieldError::new("/value", format!("is required: {}", rule.meaning))),
            (Some(rule), Some(value)) if !(rule.range.0..=rule.range.1).contains(&value) => {
                faults.push(FieldError::new("/value", format!("must be {}", rule.meaning)));
            }
            _ => {}
        }
        if self.text.as_ref().is_some_and(|text| text.len() > MAX_TEXT_CHARS && text.chars().count() > MAX_TEXT_CHARS) {
            faults.push(FieldError::new("/text", format!("must have at most {MAX_TEXT_CHARS} characters")));
        }
        if self.kind == EventType::Search && self.text.as_deref().is_none_or(|text| text.trim().is_empty()) {
            faults.push(FieldError::new("/text", "a search needs its words"));
        }
        if self.timestamp.is_some_and(|at| at.millis() > now.millis() + DAY_MS) {
            faults.push(FieldError::new("/timestamp", "must not lie more than a day in the future"));
        }
        faults
    }

    /// Whose history the event belongs to; `None` only for an event with [`faults`](Self::faults).
    pub fn actor(&self) -> Option<Actor> {
        Actor::of(self.user_id.as_ref(), self.session_id.as_ref())
    }
}

/// An event as histories, counters and training read it: time filled in, item known by its id.
#[derive(Debug, Clone, PartialEq)]
pub struct LoggedEvent {
    /// The store's running number; grows in the order of acknowledgement.
    pub sequence: i64,
    /// The event, with `timestamp` filled in.
    pub event: Event,
}

impl LoggedEvent {
    /// When it happened.
    pub fn at(&self) -> Timestamp {
        self.event.timestamp.expect("the store fills in the time of arrival")
    }
}

/// What histories and counters read of a logged event on an item: no texts, no names of people.
#[derive(Debug, Clone, PartialEq)]
pub struct LoggedAct {
    /// The store's running number.
    pub sequence: i64,
    /// What happened.
    pub kind: EventType,
    /// To which item.
    pub item: ItemId,
    /// How much, by type.
    pub value: Option<f64>,
    /// When.
    pub at: Timestamp,
    /// The answer of `/recommend` that showed the item; histories do without.
    pub recommendation_id: Option<RecommendationId>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(json: serde_json::Value) -> Vec<String> {
        let event: Event = serde_json::from_value(json).unwrap();
        let rule = (event.kind == EventType::Watch).then_some(ValueRule { required: true, range: (0.0, 1.0), meaning: "the share that was watched, 0 to 1" });
        event.faults(Timestamp::from_millis(0).unwrap(), rule).into_iter().map(|fault| fault.pointer).collect()
    }

    #[test]
    fn every_type_is_known_by_its_wire_name() {
        for kind in EventType::ALL {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.name());
            assert_eq!(EventType::named(kind.name()), Ok(kind));
        }
    }

    #[test]
    fn own_types_keep_their_names_and_hostile_names_are_no_types() {
        let longest = "a".repeat(MAX_TYPE_BYTES);
        for name in ["wishlist", "x", "level_2", &longest] {
            let kind: EventType = serde_json::from_value(name.into()).unwrap();
            assert_eq!((kind.name(), serde_json::to_value(kind).unwrap()), (name, name.into()));
        }
        for name in ["", "Click", "2x", "_x", "a b", "a-b", "点击", "a\0", &"a".repeat(MAX_TYPE_BYTES + 1)] {
            assert_eq!(EventType::named(name), Err(InvalidType), "{name}");
        }
    }

    #[test]
    fn an_event_needs_somebody_an_item_or_words_and_a_value_within_its_rule() {
        let event = |kind: &str, value: serde_json::Value| serde_json::json!({"type": kind, "user_id": "u", "item_id": "i", "value": value});

        assert!(faults(event("watch", 0.4.into())).is_empty());
        assert_eq!(faults(event("watch", 40.into())), ["/value"]);
        assert_eq!(faults(event("watch", serde_json::Value::Null)), ["/value"]);
        assert!(faults(event("click", 40.into())).is_empty());
        assert_eq!(faults(serde_json::json!({"type": "click"})), ["/user_id", "/item_id"]);
        assert_eq!(faults(serde_json::json!({"type": "search", "session_id": "s"})), ["/text"]);
        assert_eq!(faults(serde_json::json!({"type": "click", "user_id": "u", "item_id": "i", "timestamp": DAY_MS + 1})), ["/timestamp"]);
    }
}
