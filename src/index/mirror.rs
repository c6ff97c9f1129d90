//! The vectors and terms of a collection in memory, by key: scores for items that other sources found, without asking the engine.
//!
//! It also counts in how many items each term stands, so that BM25 means the same in a search and here.

use rustc_hash::FxHashMap;

use super::{QueryTerms, Terms};
use crate::domain::{Embedding, ItemKey};

#[derive(Default)]
pub(super) struct Mirror {
    /// By key: keys are small and dense, and a table is half as far away as a map.
    rows: Vec<Option<Row>>,
    len: usize,
    /// Items that have the term.
    document_counts: FxHashMap<u32, u32>,
    embedded: usize,
    worded: usize,
}

struct Row {
    embedding: Option<Embedding>,
    terms: Terms,
    /// Which terms it may have.
    signature: Signature,
}

/// A Bloom filter of one hash (Bloom 1970): of the terms that an item of 40 does not have it rules out six of seven without a look at its list,
/// which lies elsewhere in memory.
#[derive(Default)]
struct Signature([u64; 4]);

impl Signature {
    fn of(terms: &[u32]) -> Self {
        let mut signature = Self::default();
        for term in terms {
            signature.0[Self::word(*term)] |= Self::bit(*term);
        }
        signature
    }

    fn may_have(&self, term: u32) -> bool {
        self.0[Self::word(term)] & Self::bit(term) != 0
    }

    // Term numbers are hashes already.
    fn word(term: u32) -> usize {
        (term >> 6 & 3) as usize
    }

    fn bit(term: u32) -> u64 {
        1 << (term & 63)
    }
}

impl Mirror {
    pub(super) fn put(&mut self, key: ItemKey, embedding: Option<Embedding>, terms: Terms) {
        self.remove(key);
        for term in terms.numbers() {
            *self.document_counts.entry(*term).or_insert(0) += 1;
        }
        self.embedded += usize::from(embedding.is_some());
        self.worded += usize::from(!terms.numbers().is_empty());
        if self.rows.len() <= key.row() {
            self.rows.resize_with(key.row() + 1, || None);
        }
        let signature = Signature::of(terms.numbers());
        self.rows[key.row()] = Some(Row { embedding, terms, signature });
        self.len += 1;
    }

    fn row(&self, key: ItemKey) -> Option<&Row> {
        self.rows.get(key.row())?.as_ref()
    }

    pub(super) fn remove(&mut self, key: ItemKey) -> bool {
        let Some(row) = self.rows.get_mut(key.row()).and_then(Option::take) else {
            return false;
        };
        for term in row.terms.numbers() {
            if let Some(count) = self.document_counts.get_mut(term) {
                *count -= 1;
                if *count == 0 {
                    self.document_counts.remove(term);
                }
            }
        }
        self.len -= 1;
        self.embedded -= usize::from(row.embedding.is_some());
        self.worded -= usize::from(!row.terms.numbers().is_empty());
        true
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Items with an embedding, and items with terms.
    #[cfg(feature = "edge")]
    pub(super) fn vectors(&self) -> (usize, usize) {
        (self.embedded, self.worded)
    }

    /// Whether the item has an embedding or terms now, and would have none.
    #[cfg(feature = "edge")]
    pub(super) fn has_more(&self, key: ItemKey, embedded: bool, worded: bool) -> bool {
        self.row(key).is_some_and(|row| (row.embedding.is_some() && !embedded) || (!row.terms.numbers().is_empty() && !worded))
    }

    /// Items and their vectors, counted together.
    #[cfg(feature = "edge")]
    pub(super) fn pieces(&self) -> usize {
        self.len + self.embedded + self.worded
    }

    pub(super) fn cosines(&self, query: &Embedding, keys: &[ItemKey]) -> Vec<(ItemKey, f32)> {
        keys.iter().filter_map(|key| Some((*key, query.cosine(self.row(*key)?.embedding.as_ref()?)))).collect()
    }

    /// BM25 of each known key, for terms weighed by [`Self::weigh`].
    pub(super) fn lexical_scores(&self, weighed: &[(u32, f32)], keys: &[ItemKey]) -> Vec<(ItemKey, f32)> {
        keys.iter().filter_map(|key| Some((*key, score(weighed, self.row(*key)?)))).collect()
    }

    pub(super) fn embeddings(&self, keys: &[ItemKey]) -> Vec<(ItemKey, Embedding)> {
        keys.iter().filter_map(|key| Some((*key, self.row(*key)?.embedding.clone()?))).collect()
    }

    /// The query's terms times their inverse document frequency, sorted by number: the `most` that weigh most, none that no item has.
    pub(super) fn weigh(&self, query: &QueryTerms, most: usize) -> Vec<(u32, f32)> {
        let items = self.worded as f32;
        let weigh = |(term, weight): &(u32, f32)| {
            let with = *self.document_counts.get(term)? as f32;
            Some((*term, weight * (1.0 + (items - with + 0.5) / (with + 0.5)).ln()))
        };
        let mut weighed: Vec<_> = query.pairs().iter().filter_map(weigh).collect();
        if weighed.len() > most {
            weighed.sort_unstable_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
            weighed.truncate(most);
            weighed.sort_unstable_by_key(|pair| pair.0);
        }
        weighed
    }

    #[cfg(test)]
    pub(super) fn keys(&self) -> impl Iterator<Item = ItemKey> {
        self.rows.iter().enumerate().filter_map(|(row, found)| found.as_ref().map(|_| ItemKey(row as u32)))
    }
}

/// Both sorted by term; the query's list is the short one.
fn score(query: &[(u32, f32)], item: &Row) -> f32 {
    let (numbers, weights) = (item.terms.numbers(), item.terms.weights());
    let mut from = 0;
    let mut sum = 0.0;
    for (term, weight) in query.iter().filter(|(term, _)| item.signature.may_have(*term)) {
        from += numbers[from..].partition_point(|number| number < term);
        match numbers.get(from) {
            Some(number) if number == term => sum += weight * weights[from],
            Some(_) => {}
            None => break,
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::{super::Lexicon, *};
    use crate::index::lexical::tests::settings;

    #[test]
    fn rare_terms_weigh_more_and_terms_of_no_item_nothing() {
        let lexicon = Lexicon::new(&settings());
        let mut mirror = Mirror::default();
        for (key, text) in [(1, "tent rope"), (2, "tent"), (3, "tent"), (4, "tent lamp")] {
            mirror.put(ItemKey(key), None, lexicon.item_terms("", text));
        }

        let weights: Vec<f32> = mirror.weigh(&lexicon.query_terms("tent rope boat"), 8).into_iter().map(|pair| pair.1).collect();

        let expected = [(1.0_f32 + 3.5 / 1.5).ln(), (1.0_f32 + 0.5 / 4.5).ln()];
        assert_eq!(weights.len(), 2);
        assert!(expected.iter().all(|want| weights.iter().any(|got| (want - got).abs() < 1e-6)), "{weights:?}");
        assert_eq!(mirror.weigh(&lexicon.query_terms("tent rope boat"), 1).len(), 1);
    }

    #[test]
    fn what_is_replaced_or_removed_counts_no_more() {
        let lexicon = Lexicon::new(&settings());
        let mut mirror = Mirror::default();
        mirror.put(ItemKey(1), None, lexicon.item_terms("", "tent"));
        mirror.put(ItemKey(1), None, lexicon.item_terms("", "rope"));

        assert!(mirror.weigh(&lexicon.query_terms("tent"), 8).is_empty());
        assert!(mirror.remove(ItemKey(1)) && !mirror.remove(ItemKey(1)));
        assert!(mirror.document_counts.is_empty());
    }
}
