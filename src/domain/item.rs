//! The catalogue's vocabulary: what the shop says of an item, and the part of it that filters and explanations read.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{FieldError, ItemId, ItemKey, Revision, Timestamp, pointer_step};

/// Characters that a title may have.
pub const MAX_TITLE_CHARS: usize = 1_000;
/// Characters that an item's text may have; longer ones belong into windows that the encoder pools.
pub const MAX_ITEM_TEXT_CHARS: usize = 100_000;
/// Categories, tags, or values of one list attribute.
pub const MAX_LIST: usize = 100;
/// Bytes of one category, tag, language or attribute text.
pub const MAX_LABEL_BYTES: usize = 256;
/// Attributes of one item.
pub const MAX_ATTRIBUTES: usize = 64;
/// Own vectors of one item.
pub const MAX_VECTORS: usize = 4;
/// Components of one own vector.
pub const MAX_VECTOR_WIDTH: usize = 4_096;

/// An item as the shop describes it: the JSON document of `PUT /items/{item_id}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(examples(json!({"item_id": "sku-3", "title": "Drizzle jacket", "text": "A light jacket for rainy hikes.", "categories": ["jackets"], "tags": ["new"],
    "language": "en", "price": 89.0, "available": true, "created_at": "2026-11-01T08:00:00Z", "attributes": {"brand": "Fjell", "waterproof": true}})))]
pub struct Item {
    /// The shop's id.
    pub item_id: ItemId,
    /// A short name. One of title and text is required.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// What describes the item: a plot, an article, a question.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Where it stands in the shop.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub categories: Vec<String>,
    /// Free labels.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Such as `en` or `zh`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub language: Option<String>,
    /// In the shop's own currency.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price: Option<f64>,
    /// Unavailable items are never recommended.
    #[serde(default = "yes")]
    pub available: bool,
    /// When it appeared; without it an item is not "new".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_at: Option<Timestamp>,
    /// From then on it is never recommended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// The shop's own fields; a name keeps its first type.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, AttributeValue>,
    /// The shop's own vectors by name, such as an image embedding.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub vectors: BTreeMap<String, Vec<f32>>,
}

fn yes() -> bool {
    true
}

/// The value of one of the shop's own fields.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(untagged, expecting = "must be a string, a number, true/false, or a list of strings")]
pub enum AttributeValue {
    /// `true` or `false`.
    Flag(bool),
    /// Any finite number.
    Number(f64),
    /// A string.
    Text(String),
    /// A list of strings.
    Texts(Vec<String>),
}

/// The type that an attribute name keeps once it is first used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AttributeType {
    /// `true` or `false`.
    Flag,
    /// Any finite number.
    Number,
    /// A string or a list of strings: to a filter the same.
    Text,
}

impl AttributeType {
    /// As an error message says it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Flag => "true or false",
            Self::Number => "a number",
            Self::Text => "a string or a list of strings",
        }
    }
}

impl AttributeValue {
    /// The type that this value fixes for its name.
    pub fn kind(&self) -> AttributeType {
        match self {
            Self::Flag(_) => AttributeType::Flag,
            Self::Number(_) => AttributeType::Number,
            Self::Text(_) | Self::Texts(_) => AttributeType::Text,
        }
    }
}

impl Item {
    /// An available item of which nothing is known but its name; a title or a text must still come.
    pub fn new(item_id: ItemId) -> Self {
        Self {
            item_id,
            title: None,
            text: None,
            categories: Vec::new(),
            tags: Vec::new(),
            language: None,
            price: None,
            available: true,
            created_at: None,
            expires_at: None,
            attributes: BTreeMap::new(),
            vectors: BTreeMap::new(),
        }
    }

    /// Everything that is wrong with the document beyond its JSON types; empty when it may be stored.
    pub fn faults(&self) -> Vec<FieldError> {
        let mut faults = Vec::new();
        let mut check = |good: bool, pointer: String, detail: String| {
            if !good {
                faults.push(FieldError { pointer, detail });
            }
        };
        let blank = |text: &Option<String>| text.as_deref().is_none_or(|text| text.trim().is_empty());
        check(!(blank(&self.title) && blank(&self.text)), "/title".into(), "a title or a text is required".into());
        for (name, text, most) in [("/title", &self.title, MAX_TITLE_CHARS), ("/text", &self.text, MAX_ITEM_TEXT_CHARS)] {
            let fits = text.as_ref().is_none_or(|text| text.len() <= most || text.chars().count() <= most);
            check(fits, name.into(), format!("must have at most {most} characters"));
        }
        let label = |text: &str| (1..=MAX_LABEL_BYTES).contains(&text.len()) && !text.chars().any(char::is_control);
        let label_rule = || format!("must be 1 to {MAX_LABEL_BYTES} bytes without control characters");
        for (name, labels) in [("/categories", &self.categories), ("/tags", &self.tags)] {
            check(labels.len() <= MAX_LIST, name.into(), format!("must have at most {MAX_LIST} entries"));
            for (i, text) in labels.iter().enumerate() {
                check(label(text), format!("{name}/{i}"), label_rule());
            }
        }
        check(self.language.as_deref().is_none_or(label), "/language".into(), label_rule());
        check(self.price.is_none_or(|price| price.is_finite() && price >= 0.0), "/price".into(), "must be a finite number, 0 or more".into());
        check(self.attributes.len() <= MAX_ATTRIBUTES, "/attributes".into(), format!("must have at most {MAX_ATTRIBUTES} entries"));
        for (name, value) in &self.attributes {
            let pointer = format!("/attributes{}", pointer_step(name));
            check(label(name), pointer.clone(), format!("the name {}", label_rule()));
            match value {
                AttributeValue::Flag(_) => {}
                AttributeValue::Number(number) => check(number.is_finite(), pointer, "must be a finite number".into()),
                AttributeValue::Text(text) => check(label(text), pointer, label_rule()),
                AttributeValue::Texts(texts) => {
                    check(texts.len() <= MAX_LIST, pointer.clone(), format!("must have at most {MAX_LIST} entries"));
                    for (i, text) in texts.iter().enumerate() {
                        check(label(text), format!("{pointer}/{i}"), label_rule());
                    }
                }
            }
        }
        check(self.vectors.len() <= MAX_VECTORS, "/vectors".into(), format!("must have at most {MAX_VECTORS} entries"));
        for (name, vector) in &self.vectors {
            let pointer = format!("/vectors{}", pointer_step(name));
            check(label(name), pointer.clone(), format!("the name {}", label_rule()));
            check((1..=MAX_VECTOR_WIDTH).contains(&vector.len()), pointer.clone(), format!("must have 1 to {MAX_VECTOR_WIDTH} components"));
            let usable = vector.iter().all(|x| x.is_finite()) && vector.iter().any(|x| *x != 0.0);
            check(usable, pointer, "must have components that are finite numbers, not all zero".into());
        }
        faults
    }

    /// What the encoder and the lexical index read: title and text, one after the other.
    pub fn full_text(&self) -> String {
        match (self.title.as_deref().unwrap_or(""), self.text.as_deref().unwrap_or("")) {
            (title, "") => title.to_owned(),
            ("", text) => text.to_owned(),
            // Feeds often repeat the title as the first words of the text.
            (title, text) if text.trim_start_matches(['"', '\'', ' ']).starts_with(title) => text.to_owned(),
            (title, text) => format!("{title}. {text}"),
        }
    }
}

/// An item as the store holds it.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredItem {
    /// The store's number for the item, the same over all its writes.
    pub key: ItemKey,
    /// Which write of the catalogue this state comes from.
    pub revision: Revision,
    /// A tombstone: the row is kept so that the index learns of the deletion; `item` is what it was.
    pub deleted: bool,
    /// The document.
    pub item: Arc<Item>,
}

/// The part of an item that filters, rules and answers read; held in memory for the whole catalogue.
#[derive(Debug, Clone, PartialEq)]
pub struct ItemFacts {
    /// The shop's id.
    pub item_id: ItemId,
    /// A short name.
    pub title: Option<String>,
    /// Where it stands in the shop.
    pub categories: Vec<String>,
    /// Free labels.
    pub tags: Vec<String>,
    /// Such as `en` or `zh`.
    pub language: Option<String>,
    /// In the shop's own currency.
    pub price: Option<f64>,
    /// Unavailable items are never recommended.
    pub available: bool,
    /// When it appeared.
    pub created_at: Option<Timestamp>,
    /// From then on it is never recommended.
    pub expires_at: Option<Timestamp>,
    /// The shop's own fields.
    pub attributes: BTreeMap<String, AttributeValue>,
}

impl ItemFacts {
    /// Whether the item may be recommended at `now`.
    pub fn recommendable(&self, now: Timestamp) -> bool {
        self.available && self.expires_at.is_none_or(|end| now < end)
    }
}

impl From<&Item> for ItemFacts {
    fn from(item: &Item) -> Self {
        Self {
            item_id: item.item_id.clone(),
            title: item.title.clone(),
            categories: item.categories.clone(),
            tags: item.tags.clone(),
            language: item.language.clone(),
            price: item.price,
            available: item.available,
            created_at: item.created_at,
            expires_at: item.expires_at,
            attributes: item.attributes.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(json: serde_json::Value) -> Item {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn an_item_needs_an_id_and_words_and_nothing_else() {
        let bare = item(serde_json::json!({"item_id": "a", "title": "Tent"}));

        assert!(bare.faults().is_empty());
        assert!(bare.available);
        assert_eq!(serde_json::to_value(&bare).unwrap(), serde_json::json!({"item_id": "a", "title": "Tent", "available": true}));
        assert_eq!(item(serde_json::json!({"item_id": "a", "title": " "})).faults()[0].pointer, "/title");
    }

    #[test]
    fn faults_name_the_field() {
        let bad = item(serde_json::json!({"item_id": "a", "title": "x", "price": -1, "tags": ["ok", ""],
            "attributes": {"a/b": "bad\nvalue"}, "vectors": {"image": [0, 0]}}));

        let pointers: Vec<_> = bad.faults().into_iter().map(|fault| fault.pointer).collect();

        assert_eq!(pointers, ["/tags/1", "/price", "/attributes/a~1b", "/vectors/image"]);
    }

    #[test]
    fn own_vectors_are_bounded_finite_and_point_somewhere() {
        let faults = |vectors: serde_json::Value| {
            let item = item(serde_json::json!({"item_id": "a", "title": "x", "vectors": vectors}));
            item.faults().into_iter().map(|fault| fault.pointer).collect::<Vec<_>>()
        };

        assert!(faults(serde_json::json!({"image": [0, -1e-30], "a/b": [1]})).is_empty());
        assert!(faults(serde_json::json!({"image": vec![0.5; MAX_VECTOR_WIDTH]})).is_empty());
        assert_eq!(faults(serde_json::json!({"image": vec![0.5; MAX_VECTOR_WIDTH + 1]})), ["/vectors/image"]);
        // Not to be held in 32 bits: too large, and too small to differ from zero.
        assert_eq!(faults(serde_json::json!({"image": [1, 1e39]})), ["/vectors/image"]);
        assert_eq!(faults(serde_json::json!({"image": [1e-60]})), ["/vectors/image"]);
        assert_eq!(faults(serde_json::json!({"": [1]})), ["/vectors/"]);
        let five: std::collections::BTreeMap<_, _> = (0..=MAX_VECTORS).map(|n| (format!("v{n}"), [1.0])).collect();
        assert_eq!(faults(serde_json::json!(five)), ["/vectors"]);
    }

    #[test]
    fn a_title_that_opens_the_text_is_not_said_twice() {
        let said = |title: &str, text: &str| item(serde_json::json!({"item_id": "a", "title": title, "text": text})).full_text();

        assert_eq!(said("Blue tent", "\"Blue tent. For two."), "\"Blue tent. For two.");
        assert_eq!(said("Blue tent", "For two."), "Blue tent. For two.");
    }
}
