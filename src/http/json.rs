//! JSON in and out. Bytes in, a typed value or a named fault out; parsed once when it is good, twice only to say what is wrong.
//!
//! Faults carry a JSON pointer to the field and say what it must be. They repeat nothing of the input but names of fields
//! and of enumerated values, both cut: texts of users must not end up in errors.

use std::{fmt, marker::PhantomData};

use axum::{
    body::Bytes,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{self, IgnoredAny},
};
use serde_json::value::RawValue;
use serde_path_to_error::Segment;

use crate::domain::{FieldError, pointer_step};

use super::problem::{Kind, Problem};

/// Why a text is not the value that was asked for.
#[derive(Debug, PartialEq)]
pub(super) enum Fault {
    /// Not JSON; says where.
    Malformed(String),
    /// JSON, but not what it should be.
    Invalid(FieldError),
}

impl Fault {
    /// The fault as one of an entry of a larger document.
    pub(super) fn into_field_error(self) -> FieldError {
        match self {
            Self::Malformed(detail) => FieldError::new("", detail),
            Self::Invalid(error) => error,
        }
    }
}

impl From<Fault> for Problem {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Malformed(detail) => Self::new(Kind::MalformedBody, detail),
            Fault::Invalid(error) => Self::invalid(vec![error]),
        }
    }
}

/// The text of a body; a byte order mark is skipped.
pub(super) fn text(bytes: &[u8]) -> Result<&str, Fault> {
    let text = std::str::from_utf8(bytes).map_err(|error| Fault::Malformed(format!("is not UTF-8 from byte {} on", error.valid_up_to())))?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.trim_ascii().is_empty() { Err(Fault::Malformed("is empty where a JSON document was expected".into())) } else { Ok(text) }
}

/// The value that the JSON object in `text` is.
pub(super) fn parse<'de, T: Deserialize<'de>>(text: &'de str) -> Result<T, Fault> {
    match serde_json::from_str(text) {
        Ok(Object(value)) => Ok(value),
        Err(_) => Err(explain::<Object<T>>(text)),
    }
}

/// The value that the JSON object in `text` is, or its first fault, in the words of the contract: for readers of files.
pub fn read_document<T: de::DeserializeOwned>(text: &str) -> Result<T, FieldError> {
    parse(text).map_err(Fault::into_field_error)
}

/// The entries of the JSON array that `text` is, cut off one by one and not parsed yet. All of `text` is known to be JSON before the first is out.
pub(super) fn entries(text: &str) -> Result<Entries<'_>, Fault> {
    let whole: &RawValue = serde_json::from_str(text).map_err(|_| explain::<Vec<IgnoredAny>>(text))?;
    entries_of(whole)
}

/// The entries of a list inside a document that was read already.
pub(super) fn entries_of(list: &RawValue) -> Result<Entries<'_>, Fault> {
    let rest = list.get().trim_ascii().strip_prefix('[').ok_or_else(|| explain::<Vec<IgnoredAny>>(list.get()))?;
    Ok(Entries { rest })
}

/// What is left of an array that is known to be JSON. A list of all entries at once would hold a thread for 100 ms, and eight times the memory of the
/// body, where 16 MB are as many tiny entries as they can be.
pub(super) struct Entries<'a> {
    rest: &'a str,
}

impl<'a> Iterator for Entries<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let mut values = serde_json::Deserializer::from_str(self.rest).into_iter::<&RawValue>();
        let entry = values.next()?.ok()?; // at the bracket that closes the array there is no value
        self.rest = self.rest[values.byte_offset()..].trim_ascii_start().trim_start_matches(',');
        Some(entry.get())
    }
}

/// A value that is written as an object. Plain derived structs also take arrays, field after field; callers never mean that.
#[derive(Debug)]
pub(super) struct Object<T>(pub(super) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> de::Visitor<'de> for Visitor<T> {
            type Value = Object<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Object<T>, A::Error> {
                T::deserialize(de::value::MapAccessDeserializer::new(map)).map(Object)
            }
        }
        deserializer.deserialize_map(Visitor(PhantomData))
    }
}

#[cold]
fn explain<'de, T: Deserialize<'de>>(text: &'de str) -> Fault {
    // serde_json calls some misfits syntax errors (a number for an enum, 1e999), so what is JSON is asked separately.
    if let Err(error) = serde_json::from_str::<IgnoredAny>(text) {
        return Fault::Malformed(format!("is not JSON: {error}"));
    }
    let Err(located) = serde_path_to_error::deserialize::<_, T>(&mut serde_json::Deserializer::from_str(text)) else {
        return Fault::Malformed("is not JSON that can be read".into());
    };
    let mut pointer = String::new();
    let mut last = String::from("value");
    // A fault deep inside is told by where it begins: the pointer of a hostile document must not fill the answer.
    for segment in located.path().iter().take(16) {
        match segment {
            Segment::Seq { index } => pointer.push_str(&pointer_step(&index.to_string())),
            Segment::Map { key } => {
                pointer.push_str(&pointer_step(key));
                last.clone_from(key);
            }
            Segment::Enum { .. } | Segment::Unknown => {}
        }
    }
    let (step, detail) = wording(&located.inner().to_string(), &last);
    if let Some(step) = step {
        pointer.push_str(&pointer_step(&step));
    }
    Fault::Invalid(FieldError::new(pointer, detail))
}

/// serde's message in the contract's words, and the field that it is about where the path ends at the parent.
fn wording(message: &str, field: &str) -> (Option<String>, String) {
    let message = message.rfind(" at line ").map_or(message, |end| &message[..end]);
    let quoted = |rest: &str| rest.rfind('`').map_or(rest, |end| &rest[..end]).to_owned();
    let before_hint = |rest: &str| match rest.rfind("`, expected ").or_else(|| rest.rfind("`, there are no ")) {
        Some(end) => rest[..end].to_owned(),
        None => quoted(rest),
    };
    if let Some(rest) = message.strip_prefix("missing field `") {
        (Some(quoted(rest)), "is required".into())
    } else if let Some(rest) = message.strip_prefix("duplicate field `") {
        (Some(quoted(rest)), "is given twice".into())
    } else if message.starts_with("unknown field `") {
        let known = message.rfind("`, expected ").map(|hint| message[hint + "`, expected ".len()..].trim_start_matches("one of ").replace('`', ""));
        (None, known.map_or_else(|| "unknown field".into(), |known| format!("unknown field; known are {known}")))
    } else if let Some(rest) = message.strip_prefix("unknown variant `") {
        (None, format!("unknown {} {:?}", cut(field), cut(&before_hint(rest))))
    } else if message.starts_with("invalid ") && message.contains(", expected ") {
        let expected = message.rfind(", expected ").map_or("", |hint| &message[hint + ", expected ".len()..]);
        (None, format!("must be {}", plain(expected)))
    } else {
        let detail = match message {
            "expected value" => "must be a string", // of an enum, which is all that says so
            "number out of range" => "must be a number that a double can hold",
            "recursion limit exceeded" => "is nested too deep",
            "lone leading surrogate in hex escape" | "unexpected end of hex escape" => "has half of a surrogate pair (\\uD800 to \\uDFFF)",
            message => message,
        };
        (None, cut_to(detail, 200))
    }
}

fn cut(name: &str) -> String {
    cut_to(name, 64)
}

fn cut_to(text: &str, chars: usize) -> String {
    text.chars().take(chars).collect()
}

/// serde's names of types, in words that a caller in any language knows.
fn plain(expected: &str) -> &str {
    match expected {
        "f32" | "f64" => "a number",
        "usize" | "u8" | "u16" | "u32" | "u64" => "a whole number, 0 or more",
        "i8" | "i16" | "i32" | "i64" => "a whole number",
        "a boolean" => "true or false",
        "a sequence" => "a list",
        "a map" => "an object",
        "string or map" => "a string",
        expected if expected.starts_with("struct ") => "an object",
        expected => expected,
    }
}

/// An answer.
pub(super) fn answer(status: StatusCode, body: &impl Serialize) -> Response {
    match serde_json::to_vec(body) {
        Ok(json) => (status, [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], Bytes::from(json)).into_response(),
        Err(error) => {
            tracing::error!(%error, "an answer could not be written as JSON");
            Problem::new(Kind::Internal, "the answer could not be written").into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::domain::{Event, Item};

    fn event_fault(json: &str) -> (String, String) {
        match parse::<Event>(json).unwrap_err() {
            Fault::Invalid(error) => (error.pointer, error.detail),
            Fault::Malformed(detail) => ("malformed".into(), detail),
        }
    }

    #[test]
    fn faults_point_at_the_field_and_say_what_it_must_be() {
        for (body, pointer, detail) in [
            (r#"{"type": "Klick!"}"#, "/type", r#"unknown type "Klick!""#),
            (r#"{"type": 5}"#, "/type", "must be a string"),
            (r#"{"type": "click", "valu": 5}"#, "/valu", "unknown field"),
            (r#"{"type": "click", "value": "5, expected six"}"#, "/value", "must be a number"),
            (r#"{"value": 5}"#, "/type", "is required"),
            (r#"{"type": "click", "type": "view"}"#, "/type", "is given twice"),
            (r#"{"type": "click", "item_id": "a\u0000"}"#, "/item_id", "must be 1 to 256 bytes"),
            (r#"{"type": "click", "timestamp": "soon"}"#, "/timestamp", "must be an RFC 3339 time"),
            (r#"{"type": "click", "a/b~`, expected ": 1}"#, "/a~1b~0`, expected ", "unknown field; known are event_id"),
            ("7", "", "must be an object"),
            (r#"{"type": "click""#, "malformed", "is not JSON: EOF while parsing an object at line 1 column 16"),
            (r#"{"type": "click", "text": "\ud800"}"#, "/text", "surrogate"),
            (r#"{"type": "click", "text": "\ud800\u0041"}"#, "/text", "surrogate"),
            (r#"{"type": "click", "value": 1e999}"#, "/value", "must be a number that a double can hold"),
            (r#"["e-1", "click", "u", null, "i", null, null, null, null]"#, "", "must be an object"),
            (r#"{"type": "clik"} 7"#, "malformed", "trailing characters at line 1 column 18"),
        ] {
            let (found, said) = event_fault(body);
            assert_eq!(found, pointer, "{body}: {said}");
            assert!(said.contains(detail), "{body}: {said}");
        }
    }

    #[test]
    fn nested_fields_are_pointed_at() {
        let pointer = |json: serde_json::Value| match parse::<Item>(&json.to_string()).unwrap_err() {
            Fault::Invalid(error) => error.pointer,
            Fault::Malformed(detail) => detail,
        };

        assert_eq!(pointer(json!({"item_id": "a", "tags": ["x", 1]})), "/tags/1");
        assert_eq!(pointer(json!({"item_id": "a", "attributes": {"size": {}}})), "/attributes/size");
        assert_eq!(pointer(json!({"item_id": "a", "vectors": {"image": [0.5, "x"]}})), "/vectors/image/1");
    }

    #[test]
    fn texts_of_users_are_not_repeated_and_names_are_cut() {
        let (_, said) = event_fault(r#"{"type": "click", "value": "my secret wish"}"#);
        assert!(!said.contains("secret"));

        let (pointer, said) = event_fault(&format!(r#"{{"type": "click", "{}": 1}}"#, "x".repeat(100_000)));
        assert!(pointer.len() < 100 && said.len() < 300);
        let (_, said) = event_fault(&format!(r#"{{"type": "{}"}}"#, "x".repeat(100_000)));
        assert!(said.len() < 100);
    }
}
