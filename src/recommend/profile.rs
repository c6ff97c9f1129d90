//! What is like something that a user liked or wrote lately: a taste in, for each item how near it is in meaning and in words out.
//!
//! A user's likings are several: the mean of a printer and a hiking boot is near neither. So each of the newest liked items and texts brings
//! its own nearest items, and an item counts by the best of them, less the older what it is like (office purchases, NDCG@10 for items without
//! events: nearest to the mean of all .082, to one that halves with every event .105, best of the newest .113, by words .132).
//!
//! The lists without a filter are remembered for a minute, 16 MB of them: what many liked is looked up once. Texts are encoded in the bulk
//! lane when they are first needed and remembered by their content, 8 MB of them. Only asked for where a weight of `profile` or `wording` is
//! not 0 and the request has no text.

use std::{hash::BuildHasher, sync::Arc, time::Duration};

use quick_cache::{Weighter, sync::Cache};
use rustc_hash::{FxBuildHasher, FxHashMap};
use tokio::time::Instant;

use crate::{
    domain::{Embedding, ItemKey},
    encoder::clean,
    features::Table,
    index::{Hit, IndexError, Search, VectorIndex},
};

use super::{Inner, request::Part, retrieve::within, snapshot::ModelSet, taste::Taste};

/// Liked items that count, newest first. NDCG@10 on office purchases: 5 and 10 the same.
const MOST_LIKED: usize = 5;
/// Texts that count, newest first.
const MOST_WRITTEN: usize = 3;
/// Likings after which one counts half. 1, 3, 10 gave NDCG@10 .123, .132, .129 by words for office items without events.
const HALF_LIFE: f32 = 3.0;
/// Items that are taken for like one liked item, by meaning and by words each. 100 and 200 gave the same.
const NEIGHBOURS: usize = 100;
/// How long a list is taken for true.
const FRESH: Duration = Duration::from_mins(1);
/// Memory for embeddings of texts.
const TEXT_BYTES: u64 = 8_000_000;
/// Memory for lists.
const LIST_BYTES: u64 = 16_000_000;

/// What was looked up for profiles and may be needed again: embeddings by the hash of model and text, lists by that of model and liking.
pub(super) struct Remembered {
    texts: Cache<u64, Embedding, Bytes>,
    lists: Cache<u64, (Instant, Arc<Alike>), Bytes>,
}

#[derive(Clone)]
struct Bytes;

impl Weighter<u64, Embedding> for Bytes {
    fn weight(&self, _: &u64, embedding: &Embedding) -> u64 {
        64 + 4 * embedding.len() as u64
    }
}

impl Weighter<u64, (Instant, Arc<Alike>)> for Bytes {
    fn weight(&self, _: &u64, (_, alike): &(Instant, Arc<Alike>)) -> u64 {
        128 + 8 * (alike.meaning.len() + alike.words.len()) as u64
    }
}

impl Default for Remembered {
    fn default() -> Self {
        Self { texts: Cache::with_weighter(4_000, TEXT_BYTES, Bytes), lists: Cache::with_weighter(8_000, LIST_BYTES, Bytes) }
    }
}

/// What is like one liked thing: its nearest items with how much, 0 for the farthest of them, 1 for its like.
#[derive(Debug, Default, PartialEq)]
struct Alike {
    meaning: Vec<(ItemKey, f32)>,
    words: Vec<(ItemKey, f32)>,
}

/// What a profile is made of: the good part of a taste.
#[derive(Debug, Clone, Default)]
pub(super) struct Liking {
    /// With the title, whose words are searched for, and the weight.
    items: Vec<(ItemKey, Option<String>, f32)>,
    texts: Vec<(Box<str>, f32)>,
}

/// The newest liked items, what the user looks at now before all, each with how much it counts.
pub(super) fn newest_liked(taste: &Taste) -> Vec<(ItemKey, f32)> {
    let liked = taste.items.iter().filter(|(_, weight)| *weight > 0.0).take(MOST_LIKED);
    liked.enumerate().map(|(place, (key, weight))| (*key, faded(place, *weight))).collect()
}

fn faded(place: usize, weight: f32) -> f32 {
    weight.min(1.0) * (-(place as f32) / HALF_LIFE).exp2()
}

impl Liking {
    pub(super) fn of(taste: &Taste, table: &Table) -> Self {
        let title = |key| table.facts(key).and_then(|facts| facts.title.clone());
        Self {
            items: newest_liked(taste).into_iter().map(|(key, weight)| (key, title(key), weight)).collect(),
            texts: taste.texts.iter().take(MOST_WRITTEN).enumerate().map(|(place, (text, weight))| (text.clone(), faded(place, *weight))).collect(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty() && self.texts.is_empty()
    }
}

/// How much each item is like what the user liked and wrote; 0 for those that are not named.
#[derive(Debug, Default)]
pub(super) struct Likeness {
    pub(super) meaning: FxHashMap<ItemKey, f32>,
    pub(super) words: FxHashMap<ItemKey, f32>,
}

impl Likeness {
    fn note(&mut self, alike: &Alike, weight: f32) {
        for (scores, list) in [(&mut self.meaning, &alike.meaning), (&mut self.words, &alike.words)] {
            for (key, like) in list {
                let best = scores.entry(*key).or_insert(0.0);
                *best = best.max(weight * like);
            }
        }
    }

    /// The items that are like something, by key.
    pub(super) fn keys(&self) -> Vec<ItemKey> {
        let mut keys: Vec<ItemKey> = self.meaning.keys().chain(self.words.keys()).copied().collect();
        keys.sort_unstable();
        keys.dedup();
        keys
    }
}

impl Inner {
    /// What is like the user's likings. `search` bounds what is looked for; only without a filter of the request (`anything`) lists are shared.
    pub(super) async fn likeness(&self, liking: &Liking, models: &ModelSet, search: Search<'_>, anything: bool, deadline: Instant) -> Result<Likeness, Part> {
        let search = Search { limit: NEIGHBOURS, ..search };
        let name = |what: &str, of: &str| FxBuildHasher.hash_one((models.encoder.version(), what, of));
        let mut likeness = Likeness::default();
        let mut remembered = |hash: u64, weight: f32| {
            let fresh = self.remembered.lists.get(&hash).filter(|(at, _)| anything && at.elapsed() < FRESH);
            fresh.is_some_and(|(_, alike)| {
                likeness.note(&alike, weight);
                true
            })
        };
        let mut wanted: Vec<Wanted<'_>> = Vec::new();
        let mut items = Vec::new();
        for (key, title, weight) in &liking.items {
            let hash = name("item", &key.0.to_string());
            if !remembered(hash, *weight) {
                items.push((*key, wanted.len()));
                wanted.push(Wanted { hash, item: Some(*key), words: title.as_deref().unwrap_or(""), weight: *weight, embedding: None });
            }
        }
        for (text, weight) in &liking.texts {
            let hash = name("text", text);
            if !remembered(hash, *weight) {
                wanted.push(Wanted { hash, item: None, words: text, weight: *weight, embedding: self.remembered.texts.get(&hash) });
            }
        }
        if !items.is_empty() {
            let keys: Vec<ItemKey> = items.iter().map(|(key, _)| *key).collect();
            for (key, embedding) in within(deadline, Part::Index, models.index.embeddings(&keys)).await? {
                if let Some((_, place)) = items.iter().find(|(item, _)| *item == key) {
                    wanted[*place].embedding = Some(embedding);
                }
            }
        }
        let new: Vec<usize> = (items.len()..wanted.len()).filter(|place| wanted[*place].embedding.is_none()).collect();
        if !new.is_empty() {
            let texts = new.iter().map(|place| clean(wanted[*place].words)).collect();
            let encoded = within(deadline, Part::Encoder, models.encoder.encode_bulk(texts)).await?;
            for (place, embedding) in new.into_iter().zip(encoded) {
                embedding.iter().for_each(|embedding| self.remembered.texts.insert(wanted[place].hash, embedding.clone()));
                wanted[place].embedding = embedding;
            }
        }
        for one in wanted {
            let alike = Arc::new(within(deadline, Part::Index, one.alike(models, search)).await?);
            likeness.note(&alike, one.weight);
            if anything {
                self.remembered.lists.insert(one.hash, (Instant::now(), alike));
            }
        }
        Ok(likeness)
    }
}

/// A liking whose list is not remembered.
struct Wanted<'a> {
    hash: u64,
    /// The liked item, or a text.
    item: Option<ItemKey>,
    words: &'a str,
    weight: f32,
    embedding: Option<Embedding>,
}

impl Wanted<'_> {
    async fn alike(&self, models: &ModelSet, search: Search<'_>) -> Result<Alike, IndexError> {
        let index: &dyn VectorIndex = &*models.index;
        let meaning = match &self.embedding {
            Some(embedding) => above_the_last(&index.nearest(embedding, search).await?),
            None => Vec::new(),
        };
        let terms = models.lexicon.query_terms(&clean(self.words));
        if terms.is_empty() {
            return Ok(Alike { meaning, words: Vec::new() });
        }
        let hits = index.matching(&terms, search).await?;
        // What an item shares with itself; where a filter leaves only strangers, the best of them must not count as its like.
        let most = match self.item {
            Some(item) => index.lexical_scores(&terms, &[item]).await?.first().map(|(_, score)| *score),
            None => None,
        };
        Ok(Alike { meaning, words: share_of(most, &hits) })
    }
}

/// Cosines as their share of the way from the last of the list to 1: models differ in how near they put strangers (.75 for one, .1 for another).
pub(super) fn above_the_last(hits: &[Hit]) -> Vec<(ItemKey, f32)> {
    let last = hits.last().map_or(0.0, |hit| hit.score.get());
    let way = (1.0 - last).max(1e-6);
    hits.iter().map(|hit| (hit.key, ((hit.score.get() - last) / way).clamp(0.0, 1.0))).collect()
}

/// BM25 as a share of `most`, else of the best of the list.
fn share_of(most: Option<f32>, hits: &[Hit]) -> Vec<(ItemKey, f32)> {
    let best = hits.first().map_or(0.0, |hit| hit.score.get());
    let most = most.unwrap_or(best).max(f32::MIN_POSITIVE);
    hits.iter().map(|hit| (hit.key, (hit.score.get() / most).min(1.0))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Score;

    fn hits(scores: &[f32]) -> Vec<Hit> {
        (0..).zip(scores).map(|(key, score)| Hit { key: ItemKey(key), score: Score::new(*score).unwrap() }).collect()
    }

    #[test]
    fn an_item_counts_by_what_it_is_most_like_less_the_older_that_is() {
        let (older, newer) = (Alike { meaning: vec![(ItemKey(1), 1.0), (ItemKey(2), 0.8)], words: vec![(ItemKey(3), 0.5)] }, Alike::default());
        let newest = Alike { meaning: vec![(ItemKey(1), 0.6), (ItemKey(4), 0.2)], ..newer };

        let mut likeness = Likeness::default();
        likeness.note(&newest, 1.0);
        likeness.note(&older, 0.5);

        assert_eq!(likeness.meaning, FxHashMap::from_iter([(ItemKey(1), 0.6), (ItemKey(2), 0.4), (ItemKey(4), 0.2)]));
        assert_eq!((likeness.words.get(&ItemKey(3)), likeness.keys().len()), (Some(&0.25), 4));
    }

    #[test]
    fn likeness_is_measured_from_the_last_of_the_list_in_meaning_and_as_a_share_of_all_words() {
        let close = |found: Vec<(ItemKey, f32)>, expected: &[f32]| found.iter().zip(expected).all(|((_, a), b)| (a - b).abs() < 1e-5);

        assert!(close(above_the_last(&hits(&[1.0, 0.9, 0.8])), &[1.0, 0.5, 0.0]));
        assert!(close(above_the_last(&hits(&[1.0, 1.0])), &[0.0, 0.0]) && above_the_last(&[]).is_empty());
        assert!(close(share_of(None, &hits(&[8.0, 2.0])), &[1.0, 0.25]) && share_of(None, &[]).is_empty());
        assert!(close(share_of(Some(10.0), &hits(&[8.0, 2.0])), &[0.8, 0.2]) && close(share_of(Some(4.0), &hits(&[8.0])), &[1.0]));
    }
}
