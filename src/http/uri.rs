//! What a URI says: ids in paths and query parameters, percent-decoded strictly and checked.

use std::borrow::Cow;

use axum::{
    extract::FromRequestParts,
    http::{Uri, request::Parts},
};

use crate::domain::{FieldError, InvalidId, ItemId, SessionId, UserId, pointer_step};

use super::problem::Problem;

/// An id or a name, and how it is called in a request.
pub(super) trait Named: Sized {
    const PARAMETER: &'static str;
    /// Why a text is none.
    type Invalid: std::fmt::Display;
    fn named(id: &str) -> Result<Self, Self::Invalid>;
}

macro_rules! named {
    ($($id:ident $parameter:literal),*) => {$(
        impl Named for $id {
            const PARAMETER: &'static str = $parameter;
            type Invalid = InvalidId;
            fn named(id: &str) -> Result<Self, InvalidId> {
                Self::new(id)
            }
        }
    )*};
}

named!(ItemId "item_id", UserId "user_id", SessionId "session_id");

/// The id of a path `/items/{item_id}` or `/items/{item_id}/…`.
///
/// Taken from the raw path: axum's own extractor lets broken escapes such as `%zz` pass.
pub(super) struct PathId<T>(pub(super) T);

impl<S: Send + Sync, T: Named> FromRequestParts<S> for PathId<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let raw = parts.uri.path().split('/').nth(2).unwrap_or_default();
        let id = decode(raw, false).ok_or_else(|| fault::<T>("must be percent-encoded UTF-8"))?;
        T::named(&id).map(Self).map_err(fault::<T>)
    }
}

fn fault<T: Named>(detail: impl std::fmt::Display) -> Problem {
    Problem::invalid(vec![FieldError::new(pointer_step(T::PARAMETER), detail)])
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

    /// The id of a query twin.
    pub(super) fn id<T: Named>(&self) -> Result<T, Problem> {
        self.get(T::PARAMETER).ok_or_else(|| fault::<T>("is required")).and_then(|id| T::named(id).map_err(fault::<T>))
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
