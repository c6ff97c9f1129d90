//! What users do: the event types of the feedback table, and one event.

use serde::{Deserialize, Serialize};

use super::{Actor, DAY_MS, EventId, FieldError, ItemId, RecommendationId, SessionId, Timestamp, UserId};

/// Characters that a text of a user (query, review, search) may have.
pub const MAX_TEXT_CHARS: usize = 20_000;

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
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
}

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
    /// All types, in the order of the feedback table.
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
    pub fn name(self) -> &'static str {
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
        }
    }

    /// The type of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// What `value` means; types without a rule ignore a finite value.
    pub fn value_rule(self) -> Option<ValueRule> {
        let rule = |required, least, most, meaning| Some(ValueRule { required, range: (least, most), meaning });
        match self {
            Self::Dwell => rule(true, 0.0, 1e7, "seconds, 0 or more"),
            Self::Watch => rule(true, 0.0, 1.0, "the share that was watched, 0 to 1"),
            Self::Rating => rule(true, 0.5, 5.0, "stars, 0.5 to 5"),
            Self::Review => rule(false, 0.5, 5.0, "stars, 0.5 to 5"),
            Self::AddToCart | Self::RemoveFromCart => rule(false, 0.0, 1e9, "a quantity, 0 or more"),
            Self::Purchase => rule(false, 0.0, 1e12, "money, 0 or more"),
            _ => None,
        }
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
    /// What happened.
    #[serde(rename = "type")]
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
    /// Everything that is wrong with the event beyond its JSON types; empty when it may be stored.
    pub fn faults(&self, now: Timestamp) -> Vec<FieldError> {
        let mut faults = Vec::new();
        if self.user_id.is_none() && self.session_id.is_none() {
            faults.push(FieldError::new("/user_id", "a user_id or a session_id is required"));
        }
        if self.item_id.is_none() && self.kind != EventType::Search {
            faults.push(FieldError::new("/item_id", "is required for every type but \"search\""));
        }
        match (self.kind.value_rule(), self.value) {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(json: serde_json::Value) -> Vec<String> {
        let event: Event = serde_json::from_value(json).unwrap();
        event.faults(Timestamp::from_millis(0).unwrap()).into_iter().map(|fault| fault.pointer).collect()
    }

    #[test]
    fn every_type_is_known_by_its_wire_name() {
        for kind in EventType::ALL {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.name());
            assert_eq!(EventType::from_name(kind.name()), Some(kind));
        }
    }

    #[test]
    fn the_feedback_tables_rules_are_kept() {
        let event = |kind: &str, value: serde_json::Value| serde_json::json!({"type": kind, "user_id": "u", "item_id": "i", "value": value});

        assert!(faults(event("watch", 0.4.into())).is_empty());
        assert_eq!(faults(event("watch", 40.into())), ["/value"]);
        assert_eq!(faults(event("rating", serde_json::Value::Null)), ["/value"]);
        assert!(faults(event("review", serde_json::Value::Null)).is_empty());
        assert_eq!(faults(serde_json::json!({"type": "click"})), ["/user_id", "/item_id"]);
        assert_eq!(faults(serde_json::json!({"type": "search", "session_id": "s"})), ["/text"]);
        assert_eq!(faults(serde_json::json!({"type": "click", "user_id": "u", "item_id": "i", "timestamp": DAY_MS + 1})), ["/timestamp"]);
    }
}
