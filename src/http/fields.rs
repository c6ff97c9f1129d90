//! The `fields` of `/recommend`: which parts of an item an answer shows.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::domain::{AttributeValue, FieldError, ItemFacts, MAX_LABEL_BYTES, Timestamp};

const MAX_FIELDS: usize = 100;

/// The fields that were asked for.
#[derive(Debug, Default)]
pub(super) struct Selection {
    title: bool,
    text: bool,
    categories: bool,
    tags: bool,
    language: bool,
    price: bool,
    available: bool,
    created_at: bool,
    expires_at: bool,
    all_attributes: bool,
    attributes: BTreeSet<String>,
}

/// An item's selected fields; what the item does not have is left out.
#[derive(Debug, Serialize)]
pub(super) struct Shown<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    title: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    categories: Option<&'a [String]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tags: Option<&'a [String]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    language: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    price: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    available: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    created_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    attributes: Option<BTreeMap<&'a str, &'a AttributeValue>>,
}

impl Selection {
    /// Reads the names; those that are none go to `faults`.
    pub(super) fn of(names: &[String], faults: &mut Vec<FieldError>) -> Self {
        let mut selection = Self::default();
        if names.len() > MAX_FIELDS {
            faults.push(FieldError::new("/fields", format!("must have at most {MAX_FIELDS} entries")));
            return selection;
        }
        for (i, name) in names.iter().enumerate() {
            let wanted = match name.as_str() {
                "title" => &mut selection.title,
                "text" => &mut selection.text,
                "categories" => &mut selection.categories,
                "tags" => &mut selection.tags,
                "language" => &mut selection.language,
                "price" => &mut selection.price,
                "available" => &mut selection.available,
                "created_at" => &mut selection.created_at,
                "expires_at" => &mut selection.expires_at,
                "attributes" => &mut selection.all_attributes,
                name => {
                    match name.strip_prefix("attributes.").filter(|name| (1..=MAX_LABEL_BYTES).contains(&name.len())) {
                        Some(attribute) => drop(selection.attributes.insert(attribute.to_owned())),
                        None => faults.push(FieldError::new(
                            format!("/fields/{i}"),
                            "is no field: use title, text, categories, tags, language, price, available, created_at, expires_at, attributes or attributes.NAME",
                        )),
                    }
                    continue;
                }
            };
            *wanted = true;
        }
        selection
    }

    /// Whether the item's own text is asked for, which is not held in memory.
    pub(super) fn has_text(&self) -> bool {
        self.text
    }

    /// What to show of an item.
    pub(super) fn show<'a>(&self, item: &'a ItemFacts, text: Option<&'a str>) -> Shown<'a> {
        let attributes = (self.all_attributes || !self.attributes.is_empty()).then(|| {
            let wanted = item.attributes.iter().filter(|(name, _)| self.all_attributes || self.attributes.contains(*name));
            wanted.map(|(name, value)| (name.as_str(), value)).collect()
        });
        Shown {
            title: item.title.as_deref().filter(|_| self.title),
            text: text.filter(|_| self.text),
            categories: self.categories.then_some(&item.categories),
            tags: self.tags.then_some(&item.tags),
            language: item.language.as_deref().filter(|_| self.language),
            price: item.price.filter(|_| self.price),
            available: self.available.then_some(item.available),
            created_at: item.created_at.filter(|_| self.created_at),
            expires_at: item.expires_at.filter(|_| self.expires_at),
            attributes,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::domain::Item;

    #[test]
    fn answers_show_what_was_asked_for_and_nothing_else() {
        let item: Item = serde_json::from_value(json!({"item_id": "a", "title": "Tent", "price": 9, "tags": ["new"],
            "attributes": {"brand": "Fjell", "size": 2}}))
        .unwrap();
        let facts = ItemFacts::from(&item);
        let shown = |names: &[&str]| {
            let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
            serde_json::to_value(Selection::of(&names, &mut Vec::new()).show(&facts, Some("For two."))).unwrap()
        };

        assert_eq!(shown(&[]), json!({}));
        assert_eq!(shown(&["title", "price", "language"]), json!({"title": "Tent", "price": 9.0}));
        assert_eq!(shown(&["text", "tags", "attributes.brand"]), json!({"text": "For two.", "tags": ["new"], "attributes": {"brand": "Fjell"}}));
        assert_eq!(shown(&["attributes"]), json!({"attributes": {"brand": "Fjell", "size": 2.0}}));
    }

    #[test]
    fn unknown_names_are_faults() {
        let mut faults = Vec::new();
        Selection::of(&["title".into(), "titel".into(), "attributes.".into()], &mut faults);

        let pointers: Vec<_> = faults.into_iter().map(|fault| fault.pointer).collect();
        assert_eq!(pointers, ["/fields/1", "/fields/2"]);
    }
}
