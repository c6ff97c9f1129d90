//! What a URI says: item ids in paths and query parameters, percent-decoded strictly and checked.

use std::borrow::Cow;

use axum::{
    extract::FromRequestParts,
    http::{Uri, request::Parts},
};

use crate::domain::{FieldError, ItemId, pointer_step};

use super::problem::Problem;

/// The item of a path `/items/{item_id}` or `/items/{item_id}/…`.
///
/// Taken from the raw path: axum's own extractor lets broken escapes such as `%zz` pass.
pub(super) struct PathItem(pub(super) ItemId);

impl<S: Send + Sync> FromRequestParts<S> for PathItem {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let raw = parts.uri.path().split('/').nth(2).unwrap_or_default();
        let id = decode(raw, false).ok_or_else(|| item_fault("must be percent-encoded UTF-8"))?;
        ItemId::new(id).map(Self).map_err(item_fault)
    }
}

fn item_fault(detail: impl std::fmt::Display) -> Problem {
    Problem::invalid(vec![FieldError::new("/item_id", detail)])
}

/// The query parameters of a request, each known and given once.
pub(super) struct Query(Vec<(&'static str, String)>);

impl Query {
    /// Reads the parameters of `uri`; those not in `known` are errors.
    pub(super) fn read(uri: &Uri, known: &[&'static str]) -> Result<Self, Problem> {
        let mut parameters: Vec<(&'static str, String)> = Vec::new();
        let mut faults = Vec::new();
        for pair in uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (Some(name), Some(value)) = (decode(name, true), decode(value, true)) else {
                faults.push(FieldError::new("", "has a query that is not percent-encoded UTF-8"));
                continue;
            };
            match known.iter().find(|known| **known == name) {
                None if known.is_empty() => faults.push(FieldError::new(pointer_step(&name), "unknown query parameter; there are none here")),
                None => faults.push(FieldError::new(pointer_step(&name), format!("unknown query parameter; known are {}", known.join(", ")))),
                Some(known) if parameters.iter().any(|(seen, _)| seen == known) => faults.push(FieldError::new(pointer_step(&name), "is given twice")),
                Some(known) => parameters.push((known, value.into_owned())),
            }
            if faults.len() >= 20 {
                break; // enough to see what is wrong
            }
        }
        if faults.is_empty() { Ok(Self(parameters)) } else { Err(Problem::invalid(faults)) }
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str())
    }

    /// A whole number from 1 to `most`.
    pub(super) fn limit(&self, default: usize, most: usize) -> Result<usize, Problem> {
        let Some(text) = self.get("limit") else { return Ok(default) };
        let number = text.parse().ok().filter(|number| (1..=most).contains(number));
        number.ok_or_else(|| Problem::invalid(vec![FieldError::new("/limit", format!("must be 1 to {most}"))]))
    }

    pub(super) fn flag(&self, name: &'static str, default: bool) -> Result<bool, Problem> {
        match self.get(name) {
            None => Ok(default),
            Some("true") => Ok(true),
            Some("false") => Ok(false),
            Some(_) => Err(Problem::invalid(vec![FieldError::new(pointer_step(name), "must be true or false")])),
        }
    }

    /// The item of a query twin.
    pub(super) fn item(&self) -> Result<ItemId, Problem> {
        self.get("item_id").ok_or_else(|| item_fault("is required")).and_then(|id| ItemId::new(id).map_err(item_fault))
    }
}

/// `None` for a `%` without two hex digits and for what is not UTF-8.
fn decode(raw: &str, plus_is_space: bool) -> Option<Cow<'_, str>> {
    if !raw.bytes().any(|byte| byte == b'%' || byte == b'+') {
        return Some(Cow::Borrowed(raw));
    }
    let mut bytes = Vec::with_capacity(raw.len());
    let mut rest = raw.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        match first {
            b'%' => {
                let (digits, after) = rest.split_first_chunk::<2>()?;
                let mut byte = [0];
                hex::decode_to_slice(digits, &mut byte).ok()?;
                bytes.push(byte[0]);
                rest = after;
            }
            b'+' if plus_is_space => bytes.push(b' '),
            byte => bytes.push(*byte),
        }
    }
    String::from_utf8(bytes).ok().map(Cow::Owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_decoded_strictly() {
        assert_eq!(decode("a%2Fb%20c+d", false).as_deref(), Some("a/b c+d"));
        assert_eq!(decode("a+b", true).as_deref(), Some("a b"));
        assert_eq!(decode("%E5%95%86", false).as_deref(), Some("商"));
        for bad in ["%", "%2", "%zz", "%ff", "%E5%95"] {
            assert_eq!(decode(bad, false), None, "{bad}");
        }
    }
}
