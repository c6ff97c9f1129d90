//! BM25 as sparse vectors. In: texts. Out: [`Terms`] of an item (term number, weight) and [`QueryTerms`] of a query; their product, with the
//! inverse document frequency that the index knows, is the BM25 score (Robertson & Zaragoza 2009, section 3.4).
//!
//! A term's number is the first four bytes, little-endian, of the SHA-256 of its UTF-8: the same for ever, on every machine. Among 100,000
//! different terms about one pair shares a number, which costs one wrong word in a score and nothing else.

mod analysis;
mod matched;
mod mention;

use std::collections::hash_map::Entry;

use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

pub use analysis::LatinStemmer;
use analysis::{Analyzer, Kind, Token};
pub use mention::{Mention, Phrase};

/// Saturation of repeated terms and strength of length normalisation: the usual values (Robertson & Zaragoza 2009, section 3.4).
const K1: f32 = 1.2;
const B: f32 = 0.75;
/// Different terms that an item keeps, from its beginning on: 4 KB at most.
const MAX_ITEM_TERMS: usize = 512;
/// Different terms that a query keeps; the index searches with the rarest of them.
const MAX_QUERY_TERMS: usize = 256;

/// How texts become terms. A change needs `inkling reindex`: what is stored was made with the old values.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LexicalSettings {
    /// Whose endings are cut off words in Latin letters.
    pub latin_stemmer: LatinStemmer,
    /// The length, in words or Chinese characters, that counts as neither short nor long.
    pub average_length: f32,
    /// A term of the title counts as often as this many of the text.
    pub title_weight: f32,
}

impl LexicalSettings {
    /// Of collections that hold no words.
    pub(super) const NONE: Self = Self { latin_stemmer: LatinStemmer::None, average_length: 1.0, title_weight: 1.0 };
}

/// An item's terms, sorted by number, each with its BM25 weight before the inverse document frequency. May be empty.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Terms {
    numbers: Box<[u32]>,
    /// Apart from the numbers, which alone are looked through: half the memory to read.
    weights: Box<[f32]>,
}

impl Terms {
    fn new(pairs: &[(u32, f32)]) -> Self {
        let (numbers, weights): (Vec<u32>, Vec<f32>) = pairs.iter().copied().unzip();
        Self { numbers: numbers.into(), weights: weights.into() }
    }

    /// Sorted, without repeats.
    pub(super) fn numbers(&self) -> &[u32] {
        &self.numbers
    }

    /// One for each of the numbers; finite and above 0.
    pub(super) fn weights(&self) -> &[f32] {
        &self.weights
    }

    /// What the engine gave back.
    #[cfg(feature = "edge")]
    pub(super) fn from_parts(numbers: Vec<u32>, weights: Vec<f32>) -> Self {
        let mut pairs: Box<[_]> = numbers.into_iter().zip(weights).collect();
        pairs.sort_unstable_by_key(|pair| pair.0);
        Self::new(&pairs)
    }
}

/// A query's terms, sorted by number, each with its weight in the query. Empty when the text has no letter and no digit.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct QueryTerms(Box<[(u32, f32)]>);

impl QueryTerms {
    /// Whether there is nothing to search for.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many different terms there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn pairs(&self) -> &[(u32, f32)] {
        &self.0
    }
}

/// Turns texts into terms; one for items and queries of a collection.
pub struct Lexicon {
    analyzer: Analyzer,
    settings: LexicalSettings,
}

impl Lexicon {
    /// As the settings say.
    pub fn new(settings: &LexicalSettings) -> Self {
        Self { analyzer: Analyzer::new(settings.latin_stemmer), settings: settings.clone() }
    }

    /// An item's terms; both texts cleaned like a query.
    pub fn item_terms(&self, title: &str, text: &str) -> Terms {
        let mut counts = Counts::default();
        counts.add(self.analyzer.tokens(title), self.settings.title_weight);
        // Feeds often repeat the title as the first words of the text: said once, it counts as once.
        let opening = text.trim_start_matches(['"', '\'', ' ']);
        let mut rest = self.analyzer.tokens(if title.is_empty() { text } else { opening.strip_prefix(title).unwrap_or(text) });
        if !counts.counts.is_empty() {
            // "The Who" and "It" are found by their titles. A word that all texts have makes each write of the engine as long as the catalogue.
            counts.length += rest.iter().filter(|token| token.kind == Kind::Function).count() as f32;
            rest.retain(|token| token.kind != Kind::Function);
        }
        counts.add(rest, 1.0);
        let norm = K1 * (1.0 - B + B * counts.length / self.settings.average_length.max(1.0));
        Terms::new(&counts.into_pairs(|count| count * (K1 + 1.0) / (count + norm)))
    }

    /// A query's terms. Words like "the" are left out, unless there is nothing else.
    pub fn query_terms(&self, text: &str) -> QueryTerms {
        let mut tokens = self.analyzer.tokens(text);
        if tokens.iter().any(|token| token.kind != Kind::Function) {
            tokens.retain(|token| token.kind != Kind::Function);
        }
        let mut counts = Counts { most: MAX_QUERY_TERMS, ..Counts::default() };
        counts.add(tokens, 1.0);
        QueryTerms(counts.into_pairs(|count| count))
    }

    /// The words and phrases of the query, as the user wrote them, that the item has too: longest runs, in the query's order, at most 8.
    pub fn matched(&self, query: &str, item_text: &str) -> Vec<String> {
        matched::phrases(&self.analyzer, query, item_text)
    }

    /// A few words or characters to look for in other texts.
    pub fn phrase(&self, text: &str) -> Phrase {
        Phrase::new(&self.analyzer, text)
    }

    /// What a text says of `phrase`. Some 100 ns where it has nothing like it.
    pub fn mention(&self, phrase: &Phrase, text: &str) -> Mention {
        phrase.mention(&self.analyzer, text)
    }

    /// Whether `label`, a category or a tag, is what the phrase is about.
    pub fn is_label_of(&self, phrase: &Phrase, label: &str) -> bool {
        phrase.begins_with(&self.analyzer, label)
    }
}

struct Counts {
    counts: FxHashMap<String, f32>,
    length: f32,
    most: usize,
}

impl Default for Counts {
    fn default() -> Self {
        Self { counts: FxHashMap::default(), length: 0.0, most: MAX_ITEM_TERMS }
    }
}

impl Counts {
    fn add(&mut self, tokens: impl IntoIterator<Item = Token>, weight: f32) {
        for token in tokens {
            if token.kind != Kind::Pair {
                self.length += weight; // a pair is no further place in the text
            }
            let full = self.counts.len() >= self.most;
            match self.counts.entry(token.term) {
                Entry::Occupied(mut entry) => *entry.get_mut() += weight,
                Entry::Vacant(entry) if !full => drop(entry.insert(weight)),
                Entry::Vacant(_) => {}
            }
        }
    }

    fn into_pairs(self, weigh: impl Fn(f32) -> f32) -> Box<[(u32, f32)]> {
        let mut pairs: Vec<_> = self.counts.into_iter().map(|(term, count)| (number(&term), weigh(count))).filter(|pair| pair.1 > 0.0).collect();
        pairs.sort_unstable_by(|a, b| a.0.cmp(&b.0).then(b.1.total_cmp(&a.1)));
        pairs.dedup_by_key(|pair| pair.0);
        pairs.into()
    }
}

/// For ever the same: it is stored.
fn number(term: &str) -> u32 {
    let digest = Sha256::digest(term.as_bytes());
    u32::from_le_bytes([digest[0], digest[1], digest[2], digest[3]])
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) fn settings() -> LexicalSettings {
        LexicalSettings { latin_stemmer: LatinStemmer::English, average_length: 60.0, title_weight: 2.0 }
    }

    fn weight(terms: &Terms, term: &str) -> Option<f32> {
        terms.numbers().iter().position(|found| *found == number(term)).map(|at| terms.weights()[at])
    }

    #[test]
    fn a_terms_number_never_changes() {
        assert_eq!(number("jacket"), 0x3d4d_4f55); // sha256sum of the word, first four bytes read backwards
    }

    #[test]
    fn weights_are_bm25_by_hand() {
        let lexicon = Lexicon::new(&settings());

        let terms = lexicon.item_terms("", "tent tent rope");

        let norm = 1.2 * (0.25 + 0.75 * 3.0 / 60.0);
        assert!((weight(&terms, "tent").unwrap() - 2.0 * 2.2 / (2.0 + norm)).abs() < 1e-6);
        assert!((weight(&terms, "rope").unwrap() - 2.2 / (1.0 + norm)).abs() < 1e-6);
    }

    #[test]
    fn a_title_counts_more_than_the_text_and_is_not_counted_twice_where_the_text_repeats_it() {
        let lexicon = Lexicon::new(&settings());

        let terms = lexicon.item_terms("tent", "rope");

        assert!(weight(&terms, "tent") > weight(&terms, "rope"));
        assert_eq!(lexicon.item_terms("Blue tent", "\"Blue tent. For two."), lexicon.item_terms("Blue tent", "For two."));
    }

    #[test]
    fn an_item_keeps_the_function_words_of_its_title_or_where_it_has_none_of_its_text() {
        let lexicon = Lexicon::new(&settings());

        let titled = lexicon.item_terms("The Who", "it is the band");

        assert!(weight(&titled, "the").is_some() && weight(&titled, "it").is_none());
        assert!(weight(&lexicon.item_terms("", "it is a band"), "it").is_some());
        // Left out or not, they are part of the length.
        assert_eq!(weight(&lexicon.item_terms("x", "a band"), "band"), weight(&lexicon.item_terms("x", "y band"), "band"));
    }

    #[test]
    fn function_words_search_only_where_there_is_nothing_else() {
        let lexicon = Lexicon::new(&settings());

        assert_eq!(lexicon.query_terms("the tent").pairs(), [(number("tent"), 1.0)]);
        assert_eq!(lexicon.query_terms("The Who").pairs().len(), 2);
        assert_eq!(lexicon.query_terms("的").pairs(), [(number("的"), 1.0)]);
        assert_eq!(lexicon.query_terms("我的茶").pairs().len(), 3); // 我的, 的茶, 茶
        assert!(lexicon.query_terms(" … ").is_empty());
    }

    #[test]
    fn repeated_words_of_a_query_count_and_terms_are_bounded() {
        let lexicon = Lexicon::new(&settings());
        let many: String = (0..2_000).map(|i| format!("w{i} ")).collect();

        assert_eq!(lexicon.query_terms("tent tent").pairs(), [(number("tent"), 2.0)]);
        assert_eq!(lexicon.query_terms(&many).pairs().len(), MAX_QUERY_TERMS);
        assert_eq!(lexicon.item_terms("", &many).numbers().len(), MAX_ITEM_TERMS);
    }
}
