//! Texts and held-out likes -> the map of texts and the ranker's weights, each only where it wins.
//!
//! What is judged by is held out of everything that answers: the map is learned on other texts, the item-item weights on other likes, and what
//! was popular is counted without them. The questions go through the whole pipeline, by a [`Rehearse`] that `app` hands over.

use std::{
    hash::BuildHasher,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use rustc_hash::{FxBuildHasher, FxHashMap, FxHashSet};
use serde::Serialize;

use super::{
    adapter::{self, Pair},
    chances::{self, CameTrue},
    examples::{Examples, Worded},
    interactions::Case,
    trainer::Rooms,
    weights::{self, Question},
};
use crate::{
    domain::{Embedding, FeatureVector, ItemKey, Timestamp},
    encoder::{EncodeError, Encoder, clean},
    features::{Popularity, Ranking, Situation},
    index::VectorIndex,
    learned::{Adapter, Calibration, Collaborative, Learned, Ranker},
    telemetry::Compute,
};

/// Fewer texts teach nothing …
const FEWEST_TEXTS: usize = 50;
/// … and of more the newest are taken: seconds of encoding and of learning for every thousand.
const MOST_TEXTS: usize = 10_000;
/// Items that are told apart; of a larger catalogue those that texts led to and an even choice of the others.
const MOST_ITEMS: usize = 10_000;
/// Items whose embeddings are asked for at a time.
const PAGE: usize = 1_000;
/// How long a text may wait for its turn.
const PATIENCE: Duration = Duration::from_secs(10);
/// Questions of each kind that go through the pipeline: some 5 ms each.
const MOST_QUESTIONS: usize = 1_000;

/// The whole pipeline, as training asks it; handed over by `app`.
#[async_trait]
pub trait Rehearse: Send + Sync {
    /// The encoder and the collection that requests are answered with now.
    fn serving(&self) -> (Encoder, Arc<dyn VectorIndex>);

    /// The weights that count where nothing was fitted: for requests with a text, and for others.
    fn weights(&self) -> FeatureVector;

    /// Every candidate with what each feature would add to its score at weight 1; `None` where a part failed.
    async fn candidates(&self, question: &Situation, learned: &Arc<Learned>) -> Option<Vec<(ItemKey, FeatureVector)>>;
}

/// How the map and the weights did. No texts and no user ids in it.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Report {
    adapter: Option<Judged>,
    search: Option<Judged>,
    browse: Option<Judged>,
}

#[derive(Debug, Clone, Serialize)]
struct Judged {
    /// Questions that were held out for it.
    questions: usize,
    /// NDCG@10 without and with it.
    before: f64,
    after: f64,
    published: bool,
    /// How the chances that the scores come to did, where they are known.
    #[serde(skip_serializing_if = "Option::is_none")]
    chances: Option<CameTrue>,
}

/// What the questions of one kind taught.
#[derive(Default)]
struct Taught {
    weights: Option<FeatureVector>,
    chances: Option<Calibration>,
    judged: Option<Judged>,
}

/// Why a rehearsal came to nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum RehearsalError {
    #[error(transparent)]
    Encoder(#[from] EncodeError),
    #[error(transparent)]
    Index(#[from] crate::index::IndexError),
    #[error(transparent)]
    Compute(#[from] crate::telemetry::ComputeError),
}

/// Embeddings of texts of earlier trainings, by the hash of model and text.
#[derive(Default)]
pub(super) struct Encoded(Mutex<FxHashMap<u64, Embedding>>);

/// A question with a known answer.
struct Asked {
    text: Option<String>,
    history: Vec<(ItemKey, f32)>,
    relevant: Vec<ItemKey>,
}

/// What is rehearsed with.
pub(super) struct Rehearsal<'a> {
    pub(super) rooms: &'a Rooms,
    pub(super) compute: &'a Compute,
    pub(super) encoded: &'a Encoded,
    pub(super) examples: &'a Arc<Examples>,
}

/// The items that the map is learned with.
struct Catalogue {
    place: FxHashMap<ItemKey, usize>,
    items: Vec<Embedding>,
}

impl Rehearsal<'_> {
    /// The likes that the questions with words are about: to be kept out of what answers them.
    pub(super) fn asked(examples: &Examples) -> FxHashSet<(u32, ItemKey)> {
        examples.split().1.iter().flat_map(|worded| &worded.led_to).map(|(actor, item, _)| (*actor, *item)).collect()
    }

    /// The map and the weights to publish beside the item-item weights; `known` are those that the questions may be asked of.
    pub(super) async fn learn(&self, known: Collaborative, cases: &[Case]) -> Result<(Option<Adapter>, Ranker, Report), RehearsalError> {
        let mut report = Report::default();
        let (on_some, on_all, judged) = self.adapter().await?;
        report.adapter = judged;

        let asked = Self::asked(self.examples);
        let liked = cases.iter().flat_map(|case| case.relevant.iter().map(|item| (case.actor, *item)));
        let held_out: FxHashSet<(u32, ItemKey)> = asked.iter().copied().chain(liked).collect();
        let popularity = {
            let (examples, columns, signals) = (Arc::clone(self.examples), Arc::clone(&self.rooms.columns), Arc::clone(&self.rooms.signals));
            let popularity = Popularity::new(self.rooms.popularity_half_life_days);
            self.compute.run(move || examples.popularity_without(&held_out, &popularity, Timestamp::now(), &columns, &signals)).await?
        };
        let learned = Arc::new(Learned { collaborative: known, adapter: on_some, ranker: Ranker::default() });
        let browse = cases.iter().map(|case| Asked { text: None, history: case.history.clone(), relevant: case.relevant.clone() });
        let browse = self.taught(browse, cases.len(), &popularity, &learned).await?;
        let searches = self.searches();
        let count = searches.len();
        let search = self.taught(searches.into_iter(), count, &popularity, &learned).await?;
        (report.browse, report.search) = (browse.judged, search.judged);
        let ranker = Ranker { search: search.weights, browse: browse.weights, search_chances: search.chances, browse_chances: browse.chances };
        Ok((on_all, ranker, report))
    }

    /// The map learned on the texts to learn from and the one learned on all, where it wins.
    async fn adapter(&self) -> Result<(Option<Adapter>, Option<Adapter>, Option<Judged>), RehearsalError> {
        let (learn, judge) = self.examples.split();
        let learn = &learn[learn.len().saturating_sub(MOST_TEXTS)..];
        if learn.len() < FEWEST_TEXTS || judge.is_empty() {
            return Ok((None, None, None));
        }
        let (encoder, index) = self.rooms.rehearse.serving();
        let catalogue = self.catalogue(&*index, learn.iter().chain(judge)).await?;
        let texts: Vec<&str> = learn.iter().chain(judge).map(|worded| &*worded.text).collect();
        let embeddings = self.encoded.of(&encoder, &texts).await?;
        let pair = |worded: &Worded, text: Option<Embedding>| {
            let mut items: Vec<usize> = worded.led_to.iter().filter_map(|(_, item, _)| catalogue.place.get(item).copied()).collect();
            items.sort_unstable();
            items.dedup();
            Some(Pair { text: text?, items }).filter(|pair| !pair.items.is_empty())
        };
        let (for_learning, for_judging) = embeddings.split_at(learn.len());
        let pairs = |worded: &[Worded], embeddings: &[Option<Embedding>]| -> Vec<Pair> {
            worded.iter().zip(embeddings).filter_map(|(worded, text)| pair(worded, text.clone())).collect()
        };
        let (learn, judge) = (pairs(learn, for_learning), pairs(judge, for_judging));
        if learn.len() < FEWEST_TEXTS || judge.is_empty() {
            return Ok((None, None, None));
        }
        let version = encoder.version().to_owned();
        let work = move || {
            let chosen = adapter::choose(&version, &learn, &judge, &catalogue.items)?;
            let judged = Judged { questions: judge.len(), before: chosen.before, after: chosen.after, published: chosen.wins, chances: None };
            let on_all = chosen.wins.then(|| adapter::fit(&version, &[learn, judge].concat(), &catalogue.items, chosen.rounds)).flatten();
            Some((chosen.wins.then_some(chosen.adapter), on_all, judged))
        };
        Ok(match self.compute.run(work).await? {
            Some((on_some, on_all, judged)) => (on_some, on_all, Some(judged)),
            None => (None, None, None),
        })
    }

    /// The items that the texts led to, and as many others as there is room for.
    async fn catalogue<'a>(&self, index: &dyn VectorIndex, texts: impl Iterator<Item = &'a Worded>) -> Result<Catalogue, RehearsalError> {
        let mut keys: Vec<ItemKey> = texts.flat_map(|worded| worded.led_to.iter().map(|(_, item, _)| *item)).collect();
        keys.sort_unstable();
        keys.dedup();
        let named: FxHashSet<ItemKey> = keys.iter().copied().collect();
        {
            let table = self.rooms.columns.read();
            let step = table.rows().div_ceil(MOST_ITEMS.saturating_sub(keys.len()).max(1)).max(1);
            let others = (0..table.rows() as u32).step_by(step).map(ItemKey).filter(|key| !named.contains(key) && table.facts(*key).is_some());
            keys.extend(others);
        }
        let (mut place, mut items) = (FxHashMap::default(), Vec::with_capacity(keys.len()));
        for page in keys.chunks(PAGE) {
            for (key, embedding) in index.embeddings(page).await? {
                place.insert(key, items.len());
                items.push(embedding);
            }
        }
        Ok(Catalogue { place, items })
    }

    /// Each kept-back text as one who wrote it first: with what he had done before, and what he came to by it.
    fn searches(&self) -> Vec<Asked> {
        let (_, judge) = self.examples.split();
        let mut by_actor: FxHashMap<u32, Vec<(i64, ItemKey, f32)>> = judge.iter().filter_map(|worded| Some((worded.led_to.first()?.0, Vec::new()))).collect();
        for interaction in &self.examples.interactions {
            if let Some(done) = by_actor.get_mut(&interaction.actor) {
                done.push((interaction.at_ms, interaction.item, interaction.weight));
            }
        }
        let question = |worded: &Worded| {
            let (actor, _, first_ms) = *worded.led_to.first()?;
            let relevant: Vec<ItemKey> = worded.led_to.iter().filter(|(other, ..)| *other == actor).map(|(_, item, _)| *item).collect();
            let done = by_actor.get(&actor)?;
            let history = done.iter().rev().filter(|(at_ms, ..)| *at_ms < first_ms).map(|(_, item, weight)| (*item, *weight)).collect();
            Some(Asked { text: Some(worded.text.to_string()), history, relevant })
        };
        judge.iter().filter_map(question).collect()
    }

    /// Asks up to [`MOST_QUESTIONS`] of the `count` questions and fits weights to the answers, and chances to the scores.
    async fn taught(
        &self,
        questions: impl Iterator<Item = Asked>,
        count: usize,
        popularity: &Arc<Ranking>,
        learned: &Arc<Learned>,
    ) -> Result<Taught, RehearsalError> {
        // All in one piece: 40 MB in a thousand small ones stay with the allocator's threads when they are freed.
        let mut all: Vec<FeatureVector> = Vec::new();
        let mut answered = Vec::new();
        for Asked { text, history, relevant } in questions.step_by(count.div_ceil(MOST_QUESTIONS).max(1)) {
            let question = Situation { text, history, popularity: Arc::clone(popularity) };
            let Some(candidates) = self.rooms.rehearse.candidates(&question, learned).await else { continue };
            let relevant: FxHashSet<ItemKey> = relevant.into_iter().collect();
            let places: Vec<usize> = candidates.iter().enumerate().filter(|(_, (key, _))| relevant.contains(key)).map(|(place, _)| place).collect();
            let begin = all.len();
            all.extend(candidates.iter().map(|(_, features)| features));
            answered.push((begin..all.len(), places, relevant.len()));
        }
        let start = self.rooms.rehearse.weights();
        let work = move || {
            let question = |(candidates, relevant, wanted)| Question { candidates: &all[candidates], relevant, wanted };
            let answered: Vec<Question<'_>> = answered.into_iter().map(question).collect();
            let found = weights::fit(&answered, &start)?;
            let weights = found.wins.then_some(found.weights);
            let (chances, came_true) = chances::fit(&answered, &weights.unwrap_or(start)).unzip();
            let judged = Judged { questions: answered.len(), before: found.before, after: found.after, published: found.wins, chances: came_true };
            Some(Taught { weights, chances, judged: Some(judged) })
        };
        Ok(self.compute.run(work).await?.unwrap_or_default())
    }
}

impl Encoded {
    /// The texts' embeddings as those of requests; only new texts are encoded, one at a time, so that a person waits for one of them at most.
    /// A text whose turn did not come, because people asked for too much, is left out.
    async fn of(&self, encoder: &Encoder, texts: &[&str]) -> Result<Vec<Option<Embedding>>, RehearsalError> {
        let hashes: Vec<u64> = texts.iter().map(|text| FxBuildHasher.hash_one((encoder.version(), text))).collect();
        let mut known: FxHashMap<u64, Embedding> = {
            let before = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            hashes.iter().filter_map(|hash| Some((*hash, before.get(hash)?.clone()))).collect()
        };
        for (hash, text) in hashes.iter().zip(texts) {
            if known.contains_key(hash) {
                continue;
            }
            match encoder.encode(&clean(text), Instant::now() + PATIENCE).await {
                Ok(encoded) => _ = known.insert(*hash, encoded.embedding),
                Err(EncodeError::Empty | EncodeError::Overloaded | EncodeError::Late) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let found = hashes.iter().map(|hash| known.get(hash).cloned()).collect();
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = known; // of texts that are gone nothing stays
        Ok(found)
    }
}
