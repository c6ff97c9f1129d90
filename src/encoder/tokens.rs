//! Text to token ids: no padding, special tokens as `tokenizer.json` says, prefixes as the manifest says.
//!
//! What a person types is cut to one window. What waits in the background is read whole and split into windows. Prefixes and special tokens are
//! put around each window as tokens, so that the tenth window of an article is a passage to the model as much as the first.

use std::path::Path;

use super::{
    PrepareError,
    clean::first_chars,
    tokenizer::{Around, Tokenizer},
};

/// Characters of text that are looked at for each token that may be encoded. English has about 5 a token with its space, long words 8;
/// beyond this a text of 20,000 characters would be tokenized for nothing (1 ms per 4,000 characters).
const CHARS_PER_TOKEN: usize = 10;

/// Bytes of a long text that are tokenized at a time: 2 ms, and the tokenizer's own record of a piece (100 bytes a token) stays small.
const PIECE: usize = 8_192;

/// A tokenizer and the limit of what it gives.
pub(super) struct Tokens {
    tokenizer: Tokenizer,
    before: Vec<u32>,
    after: Vec<u32>,
    max_tokens: usize,
}

/// What stands around the text's own tokens in each window.
pub(super) struct Frame {
    before: Vec<u32>,
    after: Vec<u32>,
    /// Tokens of text that fit in.
    room: usize,
}

/// The first window of a text, or the first few.
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
        let around = tokenizer.around().map_err(wrong)?.filter(|around| around.before.len() + around.after.len() < max_tokens);
        let Around { before, after } = around.ok_or_else(|| PrepareError::Start("tokenizer.json: special tokens leave no room for text".to_owned()))?;
        Ok(Self { tokenizer, before, after, max_tokens })
    }

    /// The frame of windows that begin with `prefix`. The blanks at its end are the border to the text, not tokens.
    pub(super) fn frame(&self, prefix: &str) -> Result<Frame, PrepareError> {
        let prefix = self.ids(prefix.trim_end()).map_err(|error| PrepareError::Start(format!("tokenizer.json: {error}")))?;
        let before = [self.before.as_slice(), &prefix].concat();
        match self.max_tokens.checked_sub(before.len() + self.after.len()) {
            None | Some(0) => Err(PrepareError::Settings(format!("encoder.max_tokens = {} leaves no room for text", self.max_tokens))),
            Some(room) => Ok(Frame { before, after: self.after.clone(), room }),
        }
    }

    /// The first `most` windows of `text` in `frame`, of equal size.
    pub(super) fn first(&self, text: &str, frame: &Frame, most: usize) -> Result<Windows, String> {
        let looked_at = first_chars(text, most * self.max_tokens * CHARS_PER_TOKEN);
        let ids = self.ids(looked_at)?;
        let kept = &ids[..ids.len().min(most * frame.room)];
        let truncated = looked_at.len() < text.len() || kept.len() < ids.len();
        Ok(Windows { rows: kept.chunks(frame.window(kept.len())).map(|part| frame.around(part)).collect(), truncated })
    }

    /// All of a text's own tokens. Calls `pause` between pieces of some milliseconds.
    pub(super) fn all(&self, text: &str, pause: &mut dyn FnMut()) -> Result<Vec<u32>, String> {
        let mut ids = Vec::with_capacity(text.len() / 4);
        let mut rest = text;
        loop {
            let (piece, after) = rest.split_at(piece_of(rest));
            ids.extend(self.ids(piece)?);
            rest = after;
            if rest.is_empty() {
                return Ok(ids);
            }
            pause();
        }
    }

    /// The special tokens alone: the smallest input there is.
    pub(super) fn nothing(&self) -> Vec<u32> {
        [self.before.as_slice(), &self.after].concat()
    }

    fn ids(&self, text: &str) -> Result<Vec<u32>, String> {
        self.tokenizer.ids(text).map_err(|error| error.to_string())
    }
}

impl Frame {
    /// Tokens of text in each window of a text of `tokens`: equal sizes, because a short last window would see its words without company.
    pub(super) fn window(&self, tokens: usize) -> usize {
        tokens.div_ceil(tokens.div_ceil(self.room).max(1)).max(1)
    }

    /// A window as the model reads it.
    pub(super) fn around(&self, part: &[u32]) -> Vec<u32> {
        [self.before.as_slice(), part, &self.after].concat()
    }

    /// Tokens of a window beside the text's own.
    pub(super) fn len(&self) -> usize {
        self.before.len() + self.after.len()
    }
}

/// Bytes of the next piece: up to the last blank, else up to the last sign that is no letter (Chinese has no blanks), else anywhere.
fn piece_of(text: &str) -> usize {
    if text.len() <= PIECE {
        return text.len();
    }
    let most = text.floor_char_boundary(PIECE);
    let end = text[..most].rfind(char::is_whitespace).filter(|at| *at > 0);
    let after_sign = || text[..most].char_indices().rev().find(|(_, c)| !c.is_alphanumeric()).map(|(at, c)| at + c.len_utf8());
    end.or_else(after_sign).unwrap_or(most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_end_at_blanks_or_signs_and_lose_nothing() {
        for text in ["word ".repeat(5_000), "巧克力。".repeat(5_000), "字".repeat(9_000), "a".repeat(20_000), format!(" {}", "b".repeat(9_000)), String::new()]
        {
            let mut rest = text.as_str();
            let mut pieces = Vec::new();
            while !rest.is_empty() {
                let (piece, after) = rest.split_at(piece_of(rest));
                assert!(!piece.is_empty() && piece.len() <= PIECE);
                pieces.push(piece);
                rest = after;
            }

            assert_eq!(pieces.concat(), text);
            if text.starts_with("word") {
                assert!(pieces.iter().all(|piece| piece.trim().split(' ').all(|word| word == "word")));
            }
            if text.starts_with('巧') {
                assert!(pieces.iter().all(|piece| piece.ends_with('。')));
            }
        }
    }

    #[test]
    fn windows_of_a_text_are_of_equal_size() {
        let frame = Frame { before: vec![1], after: vec![2], room: 32 };

        for (tokens, size) in [(0, 1), (1, 1), (32, 32), (33, 17), (64, 64_usize.div_ceil(2)), (65, 22)] {
            assert_eq!(frame.window(tokens), size, "{tokens}");
        }
        assert_eq!(frame.around(&[7, 8]), [1, 7, 8, 2]);
    }
}
