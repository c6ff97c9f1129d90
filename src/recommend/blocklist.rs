//! What blocklist rules keep out, by words and by meaning. In: the rules in force, items in the order of their revisions, their embeddings.
//! Out: for each rule the items that it keeps out, so that a request only looks them up.
//!
//! Each state of an item is looked at once for all rules, and all items again when a blocklist rule or the encoder changes. An item without an
//! embedding is looked at by its meaning as soon as it has one.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use rustc_hash::{FxHashMap, FxHashSet};
use tokio_util::sync::CancellationToken;

use crate::{
    domain::{Action, Block, Embedding, ItemKey, Revision, RuleName, StoredItem},
    encoder::{EncodeError, clean},
    features::Rulebook,
    index::{Lexicon, Mention, Phrase},
    store::{ContentHash, Store, StoreError},
    telemetry::{Compute, ComputeError},
};

use super::snapshot::Models;

/// How often rules and items are looked at.
const LOOK_AGAIN: Duration = Duration::from_millis(250);
/// Item states that are read at a time.
const CHUNK: usize = 500;

/// The items that each blocklist rule keeps out.
type Sets = BTreeMap<RuleName, Arc<FxHashSet<ItemKey>>>;

/// The sets of the moment, written by the [`BlocklistMaker`] and read by requests; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Blocklist(Arc<RwLock<Sets>>);

impl Blocklist {
    /// What the rule keeps out, once that is known.
    pub(super) fn of(&self, rule: &RuleName) -> Option<Arc<FxHashSet<ItemKey>>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(rule).cloned()
    }

    fn publish(&self, sets: Sets) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = sets;
    }
}

/// What the worker reads.
pub struct BlocklistRooms {
    /// Encoder and lexicon of the moment.
    pub models: Models,
    /// The rules.
    pub rulebook: Arc<Rulebook>,
    /// Items and embeddings.
    pub store: Store,
    /// Threads for comparing.
    pub compute: Compute,
}

/// Keeps a [`Blocklist`] up to date.
pub struct BlocklistMaker {
    rooms: BlocklistRooms,
    blocklist: Blocklist,
    watch: Arc<Watch>,
    sets: BTreeMap<RuleName, FxHashSet<ItemKey>>,
    /// States up to this one were looked at.
    revision: Revision,
    /// Items that have no embedding yet.
    waiting: FxHashMap<ItemKey, ContentHash>,
    /// What was found since the last time that requests were told.
    unpublished: bool,
    failing: bool,
}

/// Why it could not be brought up to date; it is tried again.
#[derive(Debug, thiserror::Error)]
enum WatchError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Encode(#[from] EncodeError),
    #[error(transparent)]
    Compute(#[from] ComputeError),
}

/// What is looked for.
#[derive(Default)]
struct Watch {
    model_version: String,
    rules: Vec<Watched>,
}

struct Watched {
    name: RuleName,
    block: Arc<Block>,
    phrases: Vec<Phrase>,
    examples: Vec<Embedding>,
}

/// An item as it is looked at.
struct Seen {
    key: ItemKey,
    words: String,
    embedding: Option<Embedding>,
}

impl BlocklistMaker {
    /// Publishes to `blocklist`.
    pub fn new(rooms: BlocklistRooms, blocklist: Blocklist) -> Self {
        Self {
            rooms,
            blocklist,
            watch: Arc::default(),
            sets: BTreeMap::new(),
            revision: Revision(0),
            waiting: FxHashMap::default(),
            unpublished: false,
            failing: false,
        }
    }

    /// Works until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = async { tokio::time::sleep(LOOK_AGAIN).await; self.catch_up().await } => {}
            }
        }
    }

    /// Brings the blocklist up to date; where that fails it stays as it is, and the log says so once.
    pub async fn catch_up(&mut self) {
        let caught_up = self.look().await;
        if let Err(error) = &caught_up
            && !self.failing
        {
            tracing::warn!(%error, "what blocklist rules keep out is not up to date; trying again");
        }
        self.failing = caught_up.is_err();
    }

    /// Looks at what has changed: rules, items, embeddings.
    async fn look(&mut self) -> Result<(), WatchError> {
        let blocks = self.blocks();
        let set = self.rooms.models.snapshot();
        let same = self.watch.model_version == set.encoder.version()
            && self.watch.rules.iter().map(|watched| (&watched.name, &watched.block)).eq(blocks.iter().map(|(name, block)| (name, block)));
        if !same {
            self.watch = Arc::new(Watch::new(blocks, &set.lexicon, &set.encoder).await?);
            // Requests go by the old sets until the new ones are whole.
            self.sets = self.watch.rules.iter().map(|watched| (watched.name.clone(), FxHashSet::default())).collect();
            self.revision = Revision(0);
            self.waiting.clear();
            self.unpublished = true;
        }
        if !self.watch.rules.is_empty() {
            self.look_at_items(&set.lexicon).await?;
            self.look_at_waiting(&set.lexicon).await?;
        }
        if std::mem::take(&mut self.unpublished) {
            self.blocklist.publish(self.sets.iter().map(|(name, keys)| (name.clone(), Arc::new(keys.clone()))).collect());
        }
        Ok(())
    }

    fn blocks(&self) -> Vec<(RuleName, Arc<Block>)> {
        let block = |action: &Action| if let Action::Block(block) = action { Some(Arc::clone(block)) } else { None };
        self.rooms.rulebook.in_force().iter().filter_map(|rule| Some((rule.name.clone(), block(&rule.action)?))).collect()
    }

    async fn look_at_items(&mut self, lexicon: &Arc<Lexicon>) -> Result<(), WatchError> {
        loop {
            let states = self.rooms.store.items_above(self.revision, CHUNK).await?;
            let Some(revision) = states.last().map(|last| last.revision) else { return Ok(()) };
            let known = self.embeddings(states.iter().map(hash).collect()).await?;
            let mut seen = Vec::with_capacity(states.len());
            for state in &states {
                self.waiting.remove(&state.key);
                if state.deleted {
                    for keys in self.sets.values_mut() {
                        keys.remove(&state.key);
                    }
                    continue;
                }
                let embedding = known.get(&hash(state)).cloned();
                if embedding.is_none() && self.watch.has_examples() {
                    self.waiting.insert(state.key, hash(state));
                }
                seen.push(Seen { key: state.key, words: words(state), embedding });
            }
            self.judge(seen, lexicon).await?;
            (self.revision, self.unpublished) = (revision, true);
        }
    }

    /// Items whose embeddings have come.
    async fn look_at_waiting(&mut self, lexicon: &Arc<Lexicon>) -> Result<(), WatchError> {
        let waiting: Vec<(ItemKey, ContentHash)> = self.waiting.iter().map(|(key, hash)| (*key, *hash)).collect();
        for chunk in waiting.chunks(CHUNK) {
            let known = self.embeddings(chunk.iter().map(|(_, hash)| *hash).collect()).await?;
            let come: FxHashSet<ItemKey> = chunk.iter().filter(|(_, hash)| known.contains_key(hash)).map(|(key, _)| *key).collect();
            if come.is_empty() {
                continue;
            }
            let states = self.rooms.store.items_by_key(&come.iter().copied().collect::<Vec<_>>()).await?;
            // One that has changed meanwhile comes by its revision.
            let seen = states.iter().filter(|state| !state.deleted && self.waiting.get(&state.key) == Some(&hash(state)));
            let seen: Vec<Seen> = seen.map(|state| Seen { key: state.key, words: words(state), embedding: known.get(&hash(state)).cloned() }).collect();
            self.judge(seen, lexicon).await?;
            self.waiting.retain(|key, _| !come.contains(key));
            self.unpublished = true;
        }
        Ok(())
    }

    async fn embeddings(&self, hashes: Vec<ContentHash>) -> Result<FxHashMap<ContentHash, Embedding>, StoreError> {
        if !self.watch.has_examples() {
            return Ok(FxHashMap::default());
        }
        Ok(self.rooms.store.embeddings(&self.watch.model_version, &hashes).await?.into_iter().collect())
    }

    async fn judge(&mut self, seen: Vec<Seen>, lexicon: &Arc<Lexicon>) -> Result<(), WatchError> {
        let (watch, lexicon) = (Arc::clone(&self.watch), Arc::clone(lexicon));
        let judged = self.rooms.compute.run(move || seen.iter().map(|item| (item.key, watch.judge(item, &lexicon))).collect::<Vec<_>>()).await?;
        for (key, verdicts) in judged {
            for (keys, blocked) in self.sets.values_mut().zip(verdicts) {
                if blocked {
                    keys.insert(key);
                } else {
                    keys.remove(&key);
                }
            }
        }
        Ok(())
    }
}

impl Watch {
    async fn new(blocks: Vec<(RuleName, Arc<Block>)>, lexicon: &Lexicon, encoder: &crate::encoder::Encoder) -> Result<Self, WatchError> {
        let mut rules = Vec::with_capacity(blocks.len());
        for (name, block) in blocks {
            let phrases = block.words.iter().map(|words| lexicon.phrase(&clean(words))).filter(|phrase| !phrase.is_empty()).collect();
            let texts: Vec<String> = block.like.iter().map(|text| clean(text)).collect();
            // As items are encoded: likeness is that of two items.
            let examples = if texts.is_empty() { Vec::new() } else { encoder.encode_bulk(texts).await?.into_iter().flatten().collect() };
            rules.push(Watched { name, block, phrases, examples });
        }
        Ok(Self { model_version: encoder.version().to_owned(), rules })
    }

    fn has_examples(&self) -> bool {
        self.rules.iter().any(|watched| !watched.examples.is_empty())
    }

    /// Which rules keep the item out, in their order, which is that of their names.
    fn judge(&self, item: &Seen, lexicon: &Lexicon) -> Vec<bool> {
        let by = |watched: &Watched| {
            watched.phrases.iter().any(|phrase| lexicon.mention(phrase, &item.words) == Mention::Named)
                || item.embedding.as_ref().is_some_and(|embedding| watched.examples.iter().any(|example| example.cosine(embedding) >= watched.block.near))
        };
        self.rules.iter().map(by).collect()
    }
}

/// The name of what the encoder reads of an item.
fn hash(state: &StoredItem) -> ContentHash {
    ContentHash::of(&clean(&state.item.full_text()))
}

/// All words that an item has.
fn words(state: &StoredItem) -> String {
    let labels = state.item.categories.iter().chain(&state.item.tags);
    labels.fold(clean(&state.item.full_text()), |words, label| words + "\n" + label)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value as Json, json};

    use super::*;
    use crate::index::{LatinStemmer, LexicalSettings};

    fn state(item: Json) -> StoredItem {
        StoredItem { key: ItemKey(1), revision: Revision(1), deleted: false, item: Arc::new(serde_json::from_value(item).unwrap()) }
    }

    #[test]
    fn an_item_is_kept_out_for_what_it_says_anywhere_or_for_what_it_is_like() {
        let lexicon = Lexicon::new(&LexicalSettings { latin_stemmer: LatinStemmer::English, average_length: 100.0, title_weight: 1.0 });
        let at = |x: f32, y: f32| Embedding::new(vec![x, y]).unwrap();
        let watched = |name: &str, words: &[&str], examples: Vec<Embedding>| Watched {
            name: RuleName::new(name).unwrap(),
            block: Arc::new(Block { words: Vec::new(), like: Vec::new(), near: 0.9 }),
            phrases: words.iter().map(|words| lexicon.phrase(words)).collect(),
            examples,
        };
        let rules = vec![watched("a", &["throwing star", "毒药"], vec![]), watched("b", &[], vec![at(0.0, 1.0), at(1.0, 0.0)])];
        let watch = Watch { model_version: "m".into(), rules };
        let judge = |item: Json, embedding: Option<Embedding>| {
            let item = Seen { key: ItemKey(1), words: words(&state(item)), embedding };
            watch.judge(&item, &lexicon)
        };

        assert_eq!(judge(json!({"item_id": "i", "title": "Throwing stars, set of 3"}), None), [true, false]);
        assert_eq!(judge(json!({"item_id": "i", "title": "老鼠", "text": "这种毒药很有效"}), Some(at(1.0, 1.0))), [true, false]);
        assert_eq!(judge(json!({"item_id": "i", "title": "Set", "tags": ["Throwing star"]}), None), [true, false]);
        assert_eq!(judge(json!({"item_id": "i", "title": "Bread knife"}), Some(at(0.1, 1.0))), [false, true]);
        assert_eq!(judge(json!({"item_id": "i", "title": "Bread knife"}), Some(at(1.0, 1.0))), [false, false]);
        assert!(watch.has_examples());
    }
}
