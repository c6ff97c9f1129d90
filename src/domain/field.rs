//! What is wrong with which field of an input.

use std::fmt::Display;

use serde::Serialize;

/// One fault of an input: a JSON pointer (RFC 6901) to the field, and what it should have been.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct FieldError {
    /// JSON pointer from the root of the document, `""` for the document itself.
    pub pointer: String,
    /// What the field must be; never repeats long input.
    pub detail: String,
}

impl FieldError {
    /// `pointer` is a whole JSON pointer, such as `/filter/price`.
    pub fn new(pointer: impl Into<String>, detail: impl Display) -> Self {
        Self { pointer: pointer.into(), detail: detail.to_string() }
    }

    /// The same fault, seen from a document that holds this one at `prefix` (a JSON pointer).
    #[must_use]
    pub fn under(mut self, prefix: &str) -> Self {
        self.pointer.insert_str(0, prefix);
        self
    }
}

/// One step of a JSON pointer: `~` and `/` escaped, cut to 64 characters (a hostile name must not fill an answer).
pub fn pointer_step(name: &str) -> String {
    let short: String = name.chars().take(64).collect();
    format!("/{}", short.replace('~', "~0").replace('/', "~1"))
}
