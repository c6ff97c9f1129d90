//! Text to token ids, cut to what the model reads: no padding, special tokens as `tokenizer.json` says.

use std::path::Path;

use tokenizers::Tokenizer;

use super::{PrepareError, clean::first_chars};

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
        let mut tokenizer = Tokenizer::from_file(path).map_err(wrong)?;
        // Files ship with padding to 128 tokens, which costs 8 times the time for a short text, and with their own limit.
        tokenizer.with_padding(None).with_truncation(None).map_err(wrong)?;
        // A user who types "[SEP]" means these characters.
        tokenizer.set_encode_special_tokens(true);
        let example = tokenizer.encode_fast("a", true).map_err(wrong)?;
        let special = example.get_special_tokens_mask();
        let before = special.iter().take_while(|mask| **mask == 1).count();
        let after = special.iter().rev().take_while(|mask| **mask == 1).count();
        let ids = example.get_ids();
        if before + after >= ids.len() || before + after >= max_tokens {
            return Err(PrepareError::Start("tokenizer.json: special tokens leave no room for text".to_owned()));
        }
        let (before, after) = (ids[..before].to_vec(), ids[ids.len() - after..].to_vec());
        Ok(Self { tokenizer, before, after, max_tokens })
    }

    /// The first `most` windows of `text`, of equal size: a short last one would see its words without company.
    pub(super) fn windows(&self, text: &str, most: usize) -> Result<Windows, String> {
        let looked_at = first_chars(text, most * self.max_tokens * CHARS_PER_TOKEN);
        let encoding = self.tokenizer.encode_fast(looked_at, false).map_err(|error| error.to_string())?;
        let ids = encoding.get_ids();
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
