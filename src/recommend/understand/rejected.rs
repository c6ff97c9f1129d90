//! How much an item is what a text rejects. In: the rejected phrases, an item's facts, the words of its text. Out: 0 (not at all) to 1 (it is it).
//!
//! Title, categories, tags and attributes are in memory and say what an item is: 1. The text is known to the index by its terms only, and may mention
//! what the item is not: up to [`BY_TEXT`], by BM25 as a share of the highest among the candidates, squared so that a passing word weighs little.
//! An item that says it has none of it ("gluten-free") is what is looked for: 0.

use rustc_hash::FxHashMap;

use crate::{
    domain::{AttributeValue, ItemFacts, ItemKey},
    index::{Lexicon, Mention, Phrase, QueryTerms},
};

/// What an item's text can say at most against it.
const BY_TEXT: f32 = 0.5;

/// What a request rejects, ready to be looked for.
pub(in crate::recommend) struct Rejected {
    phrases: Vec<(Phrase, QueryTerms)>,
}

impl Rejected {
    /// Of the words that a text rejects.
    pub(in crate::recommend) fn new(lexicon: &Lexicon, rejected: &[String]) -> Self {
        let phrases = rejected.iter().map(|words| (lexicon.phrase(words), lexicon.query_terms(words))).filter(|(phrase, _)| !phrase.is_empty());
        Self { phrases: phrases.collect() }
    }

    /// Whether nothing is rejected.
    pub(in crate::recommend) fn is_empty(&self) -> bool {
        self.phrases.is_empty()
    }

    /// The terms of each phrase, to ask the index about.
    pub(in crate::recommend) fn terms(&self) -> impl Iterator<Item = &QueryTerms> {
        self.phrases.iter().map(|(_, terms)| terms)
    }

    /// What the texts say: `scores` are the BM25 of one phrase by candidate; what was known of another phrase stays where it is larger.
    pub(in crate::recommend) fn note(by_text: &mut FxHashMap<ItemKey, f32>, scores: &[(ItemKey, f32)]) {
        let highest = scores.iter().map(|(_, score)| *score).fold(0.0, f32::max);
        for (key, score) in scores.iter().filter(|(_, score)| *score > 0.0) {
            let share = BY_TEXT * (score / highest).powi(2);
            let known = by_text.entry(*key).or_insert(0.0);
            *known = known.max(share);
        }
    }

    /// The value for an item of which the text says `by_text`.
    pub(in crate::recommend) fn of(&self, lexicon: &Lexicon, facts: &ItemFacts, by_text: f32) -> f32 {
        let mut denied = false;
        for (phrase, _) in &self.phrases {
            match mention(lexicon, phrase, facts) {
                Mention::Named => return 1.0,
                Mention::Denied => denied = true,
                Mention::Absent => {}
            }
        }
        if denied { 0.0 } else { by_text }
    }
}

/// What the item's facts say of a phrase. A denial outweighs the category: "gluten-free" among "gluten".
fn mention(lexicon: &Lexicon, phrase: &Phrase, facts: &ItemFacts) -> Mention {
    let attributes = facts.attributes.values().flat_map(|value| match value {
        AttributeValue::Text(text) => std::slice::from_ref(text),
        AttributeValue::Texts(texts) => texts.as_slice(),
        AttributeValue::Flag(_) | AttributeValue::Number(_) => &[],
    });
    let labels = facts.categories.iter().chain(&facts.tags).chain(attributes);
    let mut said = facts.title.as_deref().map_or(Mention::Absent, |title| lexicon.mention(phrase, title));
    for label in labels {
        match lexicon.mention(phrase, label) {
            Mention::Denied => return Mention::Denied,
            Mention::Named => said = if said == Mention::Denied { said } else { Mention::Named },
            Mention::Absent if lexicon.is_label_of(phrase, label) => said = if said == Mention::Denied { said } else { Mention::Named },
            Mention::Absent => {}
        }
    }
    said
}
