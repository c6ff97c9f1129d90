//! A `tokenizer.json` at work: Unigram models in their compact form ([`Unigram`]), all others as the `tokenizers` crate runs them.

use std::{borrow::Cow, collections::HashSet};

use serde::Deserialize;
use serde_json::value::RawValue;
use tokenizers::{
    Encoding, NormalizedString, Normalizer as _, NormalizerWrapper, OffsetReferential, OffsetType, PostProcessor as _, PostProcessorWrapper,
    PreTokenizedString, PreTokenizer as _, PreTokenizerWrapper, Token,
};

use super::unigram::Unigram;

type Error = tokenizers::Error;

/// Text to token ids, as a `tokenizer.json` says.
pub(super) enum Tokenizer {
    Compact(Box<Compact>),
    Whole(Box<tokenizers::Tokenizer>),
}

/// Special tokens around a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Around {
    pub before: Vec<u32>,
    pub after: Vec<u32>,
}

/// The parts of a tokenizer whose model is a [`Unigram`].
pub(super) struct Compact {
    normalizer: Option<NormalizerWrapper>,
    pre_tokenizer: Option<PreTokenizerWrapper>,
    post_processor: Option<PostProcessorWrapper>,
    model: Unigram,
}

#[derive(Deserialize)]
struct File<'a> {
    #[serde(default)]
    added_tokens: Vec<Added>,
    normalizer: Option<NormalizerWrapper>,
    pre_tokenizer: Option<PreTokenizerWrapper>,
    post_processor: Option<PostProcessorWrapper>,
    #[serde(borrow)]
    model: &'a RawValue,
}

#[derive(Deserialize)]
struct Added {
    id: usize,
    special: bool,
}

#[derive(Deserialize)]
struct Kind {
    #[serde(rename = "type")]
    kind: Option<String>,
    #[serde(default)]
    byte_fallback: bool,
}

#[derive(Deserialize)]
struct Vocabulary<'a> {
    unk_id: Option<usize>,
    #[serde(borrow)]
    vocab: Vec<(Piece<'a>, f32)>,
}

/// Borrowed from the file where it has no escapes: 250,000 small allocations would leave their holes behind.
#[derive(Deserialize)]
struct Piece<'a>(#[serde(borrow)] Cow<'a, str>);

impl Tokenizer {
    /// Reads a `tokenizer.json`. Padding and truncation that it asks for are left out.
    pub(super) fn read(json: &[u8]) -> Result<Self, Error> {
        let file: File<'_> = serde_json::from_slice(json)?;
        let kind: Kind = serde_json::from_str(file.model.get())?;
        let plain = kind.kind.as_deref() == Some("Unigram") && !kind.byte_fallback;
        // Added tokens that are no special ones are words of the text, which only the crate finds.
        if plain && file.added_tokens.iter().all(|added| added.special) {
            let read: Vocabulary<'_> = serde_json::from_str(file.model.get())?;
            let pieces: Vec<(&str, f32)> = read.vocab.iter().map(|(piece, score)| (&*piece.0, *score)).collect();
            let special: HashSet<usize> = file.added_tokens.iter().map(|added| added.id).collect();
            let model = read.unk_id.and_then(|unknown| Unigram::new(&pieces, unknown, &special)).ok_or("unk_id is not the id of a piece")?;
            let File { normalizer, pre_tokenizer, post_processor, .. } = file;
            return Ok(Self::Compact(Box::new(Compact { normalizer, pre_tokenizer, post_processor, model })));
        }
        let mut whole = tokenizers::Tokenizer::from_bytes(json)?;
        // Files ship with padding to 128 tokens, which costs 8 times the time for a short text, and with their own limit.
        whole.with_padding(None).with_truncation(None)?;
        // A user who types "[SEP]" means these characters.
        whole.set_encode_special_tokens(true);
        Ok(Self::Whole(Box::new(whole)))
    }

    /// One more than the largest id it gives.
    pub(super) fn ids_end(&self) -> usize {
        match self {
            Self::Compact(compact) => compact.model.len(),
            Self::Whole(whole) => whole.get_vocab(true).into_values().max().map_or(0, |id| id as usize + 1),
        }
    }

    /// The text's own tokens.
    pub(super) fn ids(&self, text: &str) -> Result<Vec<u32>, Error> {
        match self {
            Self::Compact(compact) => compact.ids(text),
            Self::Whole(whole) => Ok(whole.encode_fast(text, false)?.get_ids().to_vec()),
        }
    }

    /// The special tokens that stand before and after a text; `None` where nothing of the text would stand between them.
    pub(super) fn around(&self) -> Result<Option<Around>, Error> {
        let example = match self {
            Self::Compact(compact) => {
                let text = Encoding::from_tokens(vec![Token::new(0, "a".to_owned(), (0, 1))], 0);
                match &compact.post_processor {
                    Some(processor) => processor.process(text, None, true)?,
                    None => text,
                }
            }
            Self::Whole(whole) => whole.encode_fast("a", true)?,
        };
        let special = example.get_special_tokens_mask();
        let before = special.iter().take_while(|mask| **mask == 1).count();
        let after = special.iter().rev().take_while(|mask| **mask == 1).count();
        let ids = example.get_ids();
        Ok((before + after < ids.len()).then(|| Around { before: ids[..before].to_vec(), after: ids[ids.len() - after..].to_vec() }))
    }
}

impl Compact {
    fn ids(&self, text: &str) -> Result<Vec<u32>, Error> {
        let mut text = NormalizedString::from(text);
        if let Some(normalizer) = &self.normalizer {
            normalizer.normalize(&mut text)?;
        }
        let mut text = PreTokenizedString::from(text);
        if let Some(pre_tokenizer) = &self.pre_tokenizer {
            pre_tokenizer.pre_tokenize(&mut text)?;
        }
        let mut ids = Vec::new();
        for (word, ..) in text.get_splits(OffsetReferential::Original, OffsetType::None) {
            self.model.read(word, &mut ids);
        }
        Ok(ids)
    }
}
