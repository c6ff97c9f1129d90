//! What a text is, before the encoder says what it means: cleaned, its languages, what it wants and what it rejects.
//!
//! Some ten microseconds for a text of ten words, and bounded for texts of any length.

mod across;
mod categories;
mod language;
mod mapping;
mod rejected;
mod rejection;
#[cfg(test)]
mod tests;

pub use categories::{Categories, CategoryProbability};
pub use language::LanguageShare;
pub use mapping::CategoryMaker;
pub(super) use rejected::Rejected;

use crate::encoder::clean;

/// Bytes of a text by which its languages are told: a page is in the language of its beginning.
const LANGUAGE_BYTES: usize = 600;

/// A text as it was understood.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Understood {
    /// Without markup and what nobody sees.
    pub(super) cleaned: String,
    /// What is searched for: the cleaned text without what it rejects. May be empty.
    pub(super) wanted: String,
    /// What it rejects, in its own words.
    pub(super) rejected: Vec<String>,
    /// Its languages, largest share first.
    pub(super) languages: Vec<LanguageShare>,
}

impl Understood {
    /// Reads a text as it was typed.
    pub(super) fn read(text: &str) -> Self {
        let cleaned = clean(text);
        let languages = language::languages(&cleaned[..cleaned.floor_char_boundary(LANGUAGE_BYTES)]);
        // Letters beside Chinese are mostly names; what is in another language must not be read as English ("zapatos no caros").
        let other = languages.iter().any(|one| !matches!(one.language, "en" | "zh"));
        let rejection::Reading { wanted, rejected } = rejection::read(&cleaned, !other);
        Self { cleaned, wanted, rejected, languages }
    }

    /// The language of most of it.
    pub(super) fn language(&self) -> Option<&'static str> {
        self.languages.first().map(|one| one.language)
    }

    /// What is searched for, if anything.
    pub(super) fn wanted(&self) -> Option<&str> {
        Some(self.wanted.as_str()).filter(|wanted| !wanted.is_empty())
    }
}
