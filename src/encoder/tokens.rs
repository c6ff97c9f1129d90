//! Text to token ids, cut to what the model reads: no padding, special tokens as `tokenizer.json` says.

use std::path::Path;

use super::{PrepareError, clean::first_chars, tokenizer::Tokenizer};

/// Characters of text that are looked at for each token that may be encoded. English has about 5 a token with its space, long words 8;
/// beyond this a text of 20,000 characters would be tokenized for nothing (1 ms per 4,000 characters).
const CHARS_PER_TOKEN: usize = 10;

/// A tokenizer and the limit of what it gives.
pub(super) struct Tokens {
    tokenizer: Tokenizer,
    before: Vec<u32>,
    after: Vec<u32>,
    max_tokens: usize,
}

/// A text as the model reads it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Windows {
    /// Token ids with special tokens, at most `max_tokens` each; none for a text without content.
    pub rows: Vec<Vec<u32>>,
    /// Whether the text has more than that.
    pub truncated: bool,
}

impl Tokens {
    pub(super) fn load(path: &Path, max_tokens: usize) -> Result<Self, PrepareError> {
        let wrong = |error: tokenizers::Error| PrepareError::Start(format!("tokenizer.json: {error}"));
        let file = std::fs::read(path).map_err(|error| PrepareError::files(path, error))?;
        let tokenizer = Tokenizer::read(&file).map_err(wrong)?;
        let around = tokenizer.around().map_err(wrong)?.filter(|(before, after)| before.len() + after.len() < max_tokens);
        let (before, after) = around.ok_or_else(|| PrepareError::Start("tokenizer.json: special tokens leave no room for text".to_owned()))?;
        Ok(Self { tokenizer, before, after, max_tokens })
    }

    /// The first `most` windows of `text`, of equal size: a short last one would see its words without company.
    pub(super) fn windows(&self, text: &str, most: usize) -> Result<Windows, String> {
        let looked_at = first_chars(text, most * self.max_tokens * CHARS_PER_TOKEN);
        let ids = self.tokenizer.ids(looked_at).map_err(|error| error.to_string())?;
        let room = self.max_tokens - self.before.len() - self.after.len();
        let kept = &ids[..ids.len().min(most * room)];
        let truncated = looked_at.len() < text.len() || kept.len() < ids.len();
        let windows = kept.len().div_ceil(room);
        let size = kept.len().div_ceil(windows.max(1)).max(1);
        let rows = kept.chunks(size).map(|part| [&self.before, part, &self.after].concat()).collect();
        Ok(Windows { rows, truncated })
    }

    /// The special tokens alone: the smallest input there is.
    pub(super) fn nothing(&self) -> Vec<u32> {
        [self.before.as_slice(), &self.after].concat()
    }
}
