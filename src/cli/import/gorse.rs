//! Gorse's JSONL dump: `items.jsonl` and `feedback.jsonl` as its dashboard and `GET /api/bulk/…` write them, one struct a line with Go's field names.
//!
//! Source: gorse-io/gorse, `storage/data/database.go` (`Item`, `Feedback`) and `master/rest.go` (`importExportItems`, `importExportFeedback`), 2026-08-22.
//! `Comment` is what describes an item there. `Labels` is any JSON: a list is our tags, an object our attributes (`a.b` for nested ones), its
//! lists of numbers our vectors. The zero time of Go means that there is none. What a feedback type means, only its owner knows: `--type star=like`.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value as Json;

use super::{
    Choices, Entry,
    clean::{cut, label, labels, said},
    rows::Made,
    table::kind_of,
};
use crate::{
    domain::{
        AttributeValue, Event, EventType, FieldError, Item, ItemId, MAX_ATTRIBUTES, MAX_ITEM_TEXT_CHARS, MAX_TEXT_CHARS, MAX_TITLE_CHARS, MAX_VECTORS,
        Timestamp, UserId,
    },
    http::read_document,
};

/// The year of Go's zero time is 1.
const ZERO_TIME: &str = "0001-01-01T00:00:00";
/// Labels inside labels that are looked into.
const DEPTH: usize = 4;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct GorseItem {
    item_id: String,
    #[serde(default)]
    is_hidden: bool,
    categories: Option<Vec<String>>,
    timestamp: Option<String>,
    #[serde(default)]
    labels: Json,
    #[serde(default)]
    comment: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct GorseFeedback {
    feedback_type: String,
    user_id: String,
    item_id: String,
    #[serde(default)]
    value: f64,
    timestamp: Option<String>,
    #[serde(default)]
    comment: String,
}

/// A line of `items.jsonl`.
pub(super) fn item(text: &str) -> Result<Made, FieldError> {
    let theirs: GorseItem = read_document(text)?;
    let item_id = ItemId::new(&theirs.item_id).map_err(|fault| FieldError::new("/ItemId", fault))?;
    let mut found = Labels::default();
    found.take("", &theirs.labels, 0);
    let comment = said(&theirs.comment);
    // A line or less is a title; more is a text, under the title that the labels may have.
    let short = |text: &&str| text.chars().count() <= MAX_TITLE_CHARS / 5 && !text.contains('\n');
    let (title, text) = match comment {
        Some(comment) if short(&comment) => (Some(comment.to_owned()), found.words("description").or(found.words("text"))),
        comment => (found.words("title").or(found.words("name")), comment.map(str::to_owned).or(found.words("description"))),
    };
    let nameless = title.is_none() && text.is_none();
    let title = if nameless { Some(theirs.item_id.clone()) } else { title };
    let (title, title_cut) = title.map_or((None, false), |title| cut_some(&title, MAX_TITLE_CHARS));
    let (text, text_cut) = text.map_or((None, false), |text| cut_some(&text, MAX_ITEM_TEXT_CHARS));
    let item = Item {
        title,
        text,
        categories: labels(theirs.categories.iter().flatten().map(String::as_str)),
        tags: labels(found.tags.iter().map(String::as_str)),
        available: !theirs.is_hidden,
        created_at: time(theirs.timestamp.as_deref())?,
        attributes: found.attributes,
        vectors: found.vectors,
        ..Item::new(item_id)
    };
    Ok(Made { entry: Entry::Item(Box::new(item)), cut: title_cut || text_cut, nameless })
}

fn cut_some(text: &str, chars: usize) -> (Option<String>, bool) {
    let (text, was_cut) = cut(text, chars);
    (Some(text), was_cut)
}

/// A line of `feedback.jsonl`.
pub(super) fn event(text: &str, choices: &Choices) -> Result<Made, FieldError> {
    let theirs: GorseFeedback = read_document(text)?;
    let kind = kind_of(&theirs.feedback_type, choices).map_err(|fault| FieldError { pointer: "/FeedbackType".into(), ..fault })?;
    let (text, was_cut) = said(&theirs.comment).map_or((None, false), |comment| cut_some(comment, MAX_TEXT_CHARS));
    let event = Event {
        event_id: None,
        kind,
        user_id: Some(UserId::new(&theirs.user_id).map_err(|fault| FieldError::new("/UserId", fault))?),
        session_id: None,
        item_id: Some(ItemId::new(&theirs.item_id).map_err(|fault| FieldError::new("/ItemId", fault))?),
        recommendation_id: None,
        // Every feedback has a number there, 0 where nobody gave one; it is kept where the type has a use for it.
        value: match kind {
            EventType::Rating | EventType::Watch | EventType::Dwell => Some(theirs.value),
            EventType::Review | EventType::Purchase | EventType::AddToCart | EventType::RemoveFromCart => Some(theirs.value).filter(|value| *value > 0.0),
            _ => None,
        },
        text,
        timestamp: time(theirs.timestamp.as_deref())?,
    };
    Ok(Made { entry: Entry::Event(Box::new(event)), cut: was_cut, nameless: false })
}

fn time(text: Option<&str>) -> Result<Option<Timestamp>, FieldError> {
    let Some(text) = text.and_then(said).filter(|text| !text.starts_with(ZERO_TIME)) else { return Ok(None) };
    let day = || Timestamp::parse(&format!("{text}T00:00:00Z"));
    Timestamp::parse(text).or_else(|_| day()).map(Some).map_err(|fault| FieldError::new("/Timestamp", fault))
}

/// What labels hold.
#[derive(Default)]
struct Labels {
    tags: Vec<String>,
    attributes: BTreeMap<String, AttributeValue>,
    vectors: BTreeMap<String, Vec<f32>>,
    /// Texts that are too long for an attribute may still be a description.
    texts: BTreeMap<String, String>,
}

impl Labels {
    fn take(&mut self, name: &str, value: &Json, depth: usize) {
        match value {
            Json::Object(fields) if depth < DEPTH => {
                for (field, value) in fields {
                    let name = if name.is_empty() { field.clone() } else { format!("{name}.{field}") };
                    self.take(&name, value, depth + 1);
                }
            }
            Json::Array(values) if !values.is_empty() && values.iter().all(Json::is_number) => {
                let vector: Vec<f32> = values.iter().filter_map(Json::as_f64).map(|x| x as f32).collect();
                let usable = vector.iter().all(|x| x.is_finite()) && vector.iter().any(|x| *x != 0.0);
                if let Some(name) = label(name).filter(|_| usable && self.vectors.len() < MAX_VECTORS) {
                    self.vectors.insert(name, vector);
                }
            }
            Json::Array(values) => {
                let texts = labels(values.iter().filter_map(Json::as_str));
                if name.is_empty() {
                    self.tags.extend(texts);
                } else if !texts.is_empty() {
                    self.keep(name, AttributeValue::Texts(texts));
                }
            }
            Json::String(text) => {
                self.texts.insert(name.to_owned(), text.clone());
                match label(text) {
                    Some(text) if name.is_empty() => self.tags.push(text),
                    Some(text) => self.keep(name, AttributeValue::Text(text)),
                    None => {}
                }
            }
            Json::Number(number) => {
                if let Some(number) = number.as_f64().filter(|number| number.is_finite() && !name.is_empty()) {
                    self.keep(name, AttributeValue::Number(number));
                }
            }
            Json::Bool(flag) if !name.is_empty() => self.keep(name, AttributeValue::Flag(*flag)),
            _ => {}
        }
    }

    fn keep(&mut self, name: &str, value: AttributeValue) {
        if let Some(name) = label(name).filter(|_| self.attributes.len() < MAX_ATTRIBUTES) {
            self.attributes.insert(name, value);
        }
    }

    fn words(&self, name: &str) -> Option<String> {
        self.texts.get(name).and_then(|text| said(text)).map(str::to_owned)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cli::import::TimeUnit;

    fn made(theirs: &Json) -> (Json, bool) {
        let made = item(&theirs.to_string()).unwrap();
        let Entry::Item(item) = made.entry else { panic!("an item") };
        assert!(item.faults().is_empty(), "{:?}", item.faults());
        (serde_json::to_value(item).unwrap(), made.nameless)
    }

    #[test]
    fn an_item_keeps_its_comment_categories_labels_and_vectors() {
        let (item, nameless) =
            made(&json!({"ItemId": "vuejs:vue", "IsHidden": true, "Categories": ["javascript", "javascript"], "Timestamp": "2020-01-02T03:04:05.678Z",
            "Labels": {"topics": ["ui", "spa"], "stars": 12, "repo": {"owner": "vuejs"}, "embedding": [0.5, -1]}, "Comment": "A progressive framework"}));

        assert_eq!(
            item,
            json!({"item_id": "vuejs:vue", "title": "A progressive framework", "categories": ["javascript"], "available": false, "created_at": "2020-01-02T03:04:05.678Z",
                "attributes": {"topics": ["ui", "spa"], "stars": 12.0, "repo.owner": "vuejs"}, "vectors": {"embedding": [0.5, -1.0]}})
        );
        assert!(!nameless);
    }

    #[test]
    fn an_item_without_words_stands_under_its_id_and_gos_zero_time_is_none() {
        let (item, nameless) =
            made(&json!({"ItemId": "a", "IsHidden": false, "Categories": null, "Timestamp": "0001-01-01T00:00:00Z", "Labels": ["x", "y"], "Comment": ""}));

        assert_eq!(item, json!({"item_id": "a", "title": "a", "tags": ["x", "y"], "available": true}));
        assert!(nameless);
    }

    #[test]
    fn feedback_takes_the_type_that_the_caller_says_and_a_value_where_it_means_something() {
        let choices =
            Choices { own: Vec::new(), types: [("star".into(), EventType::Like)].into(), default_type: None, ignored: Vec::new(), time_unit: TimeUnit::Auto };
        let made = |kind: &str, value: f64| {
            let line = json!({"FeedbackType": kind, "UserId": "bob", "ItemId": "vuejs:vue", "Value": value, "Timestamp": "2022-02-24T00:00:00Z",
                "Updated": "2022-02-25T00:00:00Z", "Labels": null, "Comment": ""});
            event(&line.to_string(), &choices).map(|made| match made.entry {
                Entry::Event(event) => serde_json::to_value(event).unwrap(),
                Entry::Item(_) => panic!("an event"),
            })
        };

        assert_eq!(made("star", 0.0).unwrap(), json!({"type": "like", "user_id": "bob", "item_id": "vuejs:vue", "timestamp": "2022-02-24T00:00:00.000Z"}));
        assert_eq!(made("rating", 4.0).unwrap()["value"], 4.0);
        let fault = made("fork", 1.0).unwrap_err();
        assert!(fault.pointer == "/FeedbackType" && fault.detail.contains("--type fork="), "{fault:?}");
    }
}
