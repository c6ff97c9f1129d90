//! Our own NDJSON: the documents of `PUT /items/{id}` and `POST /feedback`, as `inkling export` writes them.

use serde_json::Value as Json;

use super::{Choices, Entry, Kind, rows::Made};
use crate::{
    domain::{Event, FieldError, Item},
    http::read_document,
};

/// One line.
pub(super) fn parse(text: &str, kind: Kind, choices: &Choices) -> Result<Made, FieldError> {
    let entry = match kind {
        Kind::Items => Entry::Item(Box::new(read_document::<Item>(text)?)),
        Kind::Interactions if choices.types.is_empty() => Entry::Event(Box::new(read_document::<Event>(text)?)),
        Kind::Interactions => Entry::Event(Box::new(read_document::<Event>(&renamed(text, choices))?)),
    };
    Ok(entry.into())
}

/// The document with our name for its type.
fn renamed(text: &str, choices: &Choices) -> String {
    let Ok(mut document) = serde_json::from_str::<Json>(text) else { return text.to_owned() };
    let ours = document.get("type").and_then(Json::as_str).and_then(|theirs| choices.types.get(theirs));
    match (ours, document.as_object_mut()) {
        (Some(ours), Some(fields)) => {
            fields.insert("type".to_owned(), ours.name().into());
            document.to_string()
        }
        _ => text.to_owned(),
    }
}
