//! Makes the categories of the catalogue in the background, and finds where its languages lie. In: item columns, the index's embeddings, the
//! encoder. Out: [`Categories`] in the snapshot.
//!
//! Made anew when the catalogue or the index has changed, and at most a twentieth of the time, so that loading a million items does not
//! make it a million times. Bounded: 2,000 categories, 64 items of each, 400 titles to calibrate on, 16 languages with 512 items each. What was encoded
//! once is kept.

use std::{collections::BinaryHeap, sync::Arc, time::Duration};

use rustc_hash::{FxHashMap, FxHashSet};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::{
    domain::{Embedding, ItemKey},
    encoder::{EncodeError, clean},
    features::Columns,
    index::IndexError,
    telemetry::{Compute, ComputeError, Registry},
};

use super::{
    super::{
        metrics::MakerMetrics,
        snapshot::{ModelSet, Models},
    },
    across::{Across, FEWEST_ITEMS, LanguageSum},
    categories::{Calibration, Categories, Sample, Sums},
};

/// Categories that texts are told; of more, those with the most items.
const MAX_CATEGORIES: usize = 2_000;
/// Names that are counted while looking for these.
const MAX_NAMES: usize = 20 * MAX_CATEGORIES;
/// Items of a category that make its prototype, newest first: a mean of more hardly moves.
const MAX_ITEMS: usize = 64;
/// Titles of held-out items to calibrate on.
const MAX_SAMPLES: usize = 400;
/// One item in this many is held out while the curve is fitted.
const HELD_OUT: u32 = 4;
/// Languages that are told apart; of more, those with the most items.
const MAX_LANGUAGES: usize = 16;
/// Names of languages that are counted while looking for these.
const MAX_LANGUAGE_NAMES: usize = 20 * MAX_LANGUAGES;
/// Items of a language that tell where it lies, newest first.
const MAX_LANGUAGE_ITEMS: usize = 512;
/// Rows of the table that are read under one lock: 1 ms.
const ROWS: usize = 10_000;
/// Embeddings asked of the index at a time.
const CHUNK: usize = 512;
/// How often the catalogue is looked at.
const LOOK_AGAIN: Duration = Duration::from_secs(2);
/// How long a title may wait for the encoder while people keep it busy.
const PATIENCE: Duration = Duration::from_secs(60);
/// The share of the time that making may take.
const REST: u32 = 20;

/// Keeps the categories of a snapshot up to date.
#[derive(Clone)]
pub struct CategoryMaker {
    models: Models,
    columns: Arc<Columns>,
    compute: Compute,
    metrics: MakerMetrics,
    known: Known,
}

/// What was encoded before, by the model it belongs to.
#[derive(Clone, Default)]
struct Known {
    model_version: String,
    names: FxHashMap<Arc<str>, Embedding>,
    titles: FxHashMap<String, Embedding>,
}

/// Why no categories could be made; it is tried again.
#[derive(Debug, thiserror::Error)]
enum MakeError {
    #[error(transparent)]
    Index(#[from] IndexError),
    #[error(transparent)]
    Encode(#[from] EncodeError),
    #[error(transparent)]
    Compute(#[from] ComputeError),
}

/// What the columns say: names, and the items that show what each is about.
#[derive(Default)]
struct Layout {
    names: Vec<Arc<str>>,
    /// Items of each.
    counts: Vec<usize>,
    /// Items that are in any category.
    in_any: usize,
    /// Each item once, with the places of categories that it shows.
    items: Vec<(ItemKey, Vec<usize>)>,
    /// Held-out items with their titles and the places of all their categories. Drawn from all items alike: among those that show a category rare ones
    /// are as frequent as common ones, and would be told too often.
    samples: Vec<(ItemKey, String, Vec<usize>)>,
    /// Items of each language, the one with the most first.
    languages: Vec<Vec<ItemKey>>,
}

impl CategoryMaker {
    /// Reads `columns` and the snapshot of `models`, and publishes there. Fails when `registry` has its metrics already.
    pub fn new(models: Models, columns: Arc<Columns>, compute: Compute, registry: &Registry) -> prometheus::Result<Self> {
        Ok(Self { models, columns, compute, metrics: MakerMetrics::register(registry)?, known: Known::default() })
    }

    /// The categories of a set that is still to be published; none where they cannot be made.
    pub async fn make_for(mut self, set: &ModelSet) -> Option<Arc<Categories>> {
        let made = self.make(set).await;
        made.inspect_err(|error| tracing::warn!(%error, "the categories could not be made; they will come later")).ok().map(Arc::new)
    }

    /// Works until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut made_of = None;
        loop {
            // Nothing of a snapshot is held while this rests: its collection may have to go.
            let state = self.state().await;
            let mut pause = LOOK_AGAIN;
            if made_of.as_ref() != Some(&state) {
                let begun = Instant::now();
                tokio::select! {
                    () = stop.cancelled() => return,
                    made = self.make_and_publish() => match made {
                        Ok(()) => made_of = Some(state),
                        Err(error) => {
                            self.metrics.failed.inc();
                            tracing::warn!(%error, "the categories could not be made; trying again");
                        }
                    }
                }
                pause = pause.max(REST * begun.elapsed());
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = sleep(pause) => {}
            }
        }
    }

    /// What categories depend on: encoder, columns, indexed items.
    async fn state(&self) -> (String, u64, Option<usize>) {
        let set = self.models.snapshot();
        let changes = self.columns.read().changes();
        (set.encoder.version().to_owned(), changes, set.index.count().await.ok())
    }

    async fn make_and_publish(&mut self) -> Result<(), MakeError> {
        let set = self.models.snapshot();
        let begun = Instant::now();
        let categories = self.make(&set).await?;
        self.metrics.seconds.observe(begun.elapsed().as_secs_f64());
        self.metrics.count.set(i64::try_from(categories.len()).unwrap_or(i64::MAX));
        tracing::debug!(categories = categories.len(), "made {} categories in {:?}", categories.len(), begun.elapsed());
        self.models.publish_categories(&Arc::new(categories));
        Ok(())
    }

    async fn make(&mut self, set: &ModelSet) -> Result<Categories, MakeError> {
        let layout = {
            let columns = Arc::clone(&self.columns);
            self.compute.run(move || Layout::read(&columns)).await?
        };
        if self.known.model_version != set.encoder.version() {
            self.known = Known { model_version: set.encoder.version().to_owned(), ..Known::default() };
        }
        let width = set.encoder.width();
        let held_out: FxHashSet<ItemKey> = layout.samples.iter().map(|(key, ..)| *key).collect();
        let (mut all, mut seen) = (Sums::new(layout.names.len(), width), Sums::new(layout.names.len(), width));
        for chunk in layout.items.chunks(CHUNK) {
            let keys: Vec<ItemKey> = chunk.iter().map(|(key, _)| *key).collect();
            let embeddings: FxHashMap<ItemKey, Embedding> = set.index.embeddings(&keys).await?.into_iter().collect();
            for (key, places) in chunk {
                let Some(embedding) = embeddings.get(key) else { continue };
                for place in places {
                    all.add(*place, embedding, 1.0);
                    if !held_out.contains(key) {
                        seen.add(*place, embedding, 1.0);
                    }
                }
            }
        }
        let across = across(set, &layout).await?;
        self.encode_names(set, &layout).await?;
        for (place, name) in layout.names.iter().enumerate() {
            if let Some(embedding) = self.known.names.get(name) {
                all.add_name(place, embedding);
                seen.add_name(place, embedding);
            }
        }
        let samples = self.samples(set, &layout).await?;
        let seen = seen.into_prototypes().with_counts(&layout.counts, layout.in_any);
        let calibration = self.compute.run(move || Calibration::fit(&seen, &samples)).await?;
        let prototypes = all.into_prototypes().with_counts(&layout.counts, layout.in_any);
        let model_version = set.encoder.version().to_owned();
        Ok(Categories { model_version, names: layout.names, prototypes, calibration, across })
    }

    async fn encode_names(&mut self, set: &ModelSet, layout: &Layout) -> Result<(), EncodeError> {
        let new: Vec<Arc<str>> = layout.names.iter().filter(|name| !self.known.names.contains_key(*name)).cloned().collect();
        // "home-garden > tents" is read as words.
        let texts = new.iter().map(|name| clean(&name.replace(['-', '_', '/', '>', '|'], " "))).collect();
        let embeddings = set.encoder.encode_bulk(texts).await?;
        if self.known.names.len() > 2 * MAX_CATEGORIES {
            self.known.names.retain(|name, _| layout.names.contains(name));
        }
        self.known.names.extend(new.into_iter().zip(embeddings).filter_map(|(name, embedding)| Some((name, embedding?))));
        Ok(())
    }

    /// Titles as people's texts are: with the prefix of queries, one after the other so that people wait for one at most.
    async fn samples(&mut self, set: &ModelSet, layout: &Layout) -> Result<Vec<Sample>, EncodeError> {
        if self.known.titles.len() > 2 * MAX_SAMPLES {
            self.known.titles.clear();
        }
        let mut samples = Vec::with_capacity(layout.samples.len());
        for (_, title, categories) in &layout.samples {
            let embedding = match self.known.titles.get(title) {
                Some(embedding) => embedding.clone(),
                None => match set.encoder.encode(title, std::time::Instant::now() + PATIENCE).await {
                    Ok(encoded) => encoded.embedding,
                    Err(EncodeError::Empty) => continue,
                    Err(error) => return Err(error),
                },
            };
            self.known.titles.insert(title.clone(), embedding.clone());
            samples.push(Sample { embedding, categories: categories.clone() });
        }
        Ok(samples)
    }
}

/// Where the languages lie; asked of the index only where there are several.
async fn across(set: &ModelSet, layout: &Layout) -> Result<Across, IndexError> {
    if layout.languages.len() < 2 {
        return Ok(Across::default());
    }
    let mut sums = Vec::with_capacity(layout.languages.len());
    for keys in &layout.languages {
        let mut sum = LanguageSum::new(set.encoder.width());
        let mut embeddings = set.index.embeddings(keys).await?;
        embeddings.sort_unstable_by_key(|(key, _)| *key); // sums of floats must not depend on an order by chance
        embeddings.iter().for_each(|(_, embedding)| sum.add(embedding));
        sums.push(sum);
    }
    Ok(Across::between(&sums))
}

impl Layout {
    /// Newest items first, a few thousand rows a lock.
    fn read(columns: &Columns) -> Self {
        let mut by_name: FxHashMap<Arc<str>, (usize, Vec<ItemKey>)> = FxHashMap::default();
        let mut drawn: BinaryHeap<(u32, ItemKey, String)> = BinaryHeap::new();
        let mut by_language: FxHashMap<Box<str>, (usize, Vec<ItemKey>)> = FxHashMap::default();
        let mut in_any = 0;
        let mut end = columns.read().rows();
        while end > 0 {
            let table = columns.read();
            let start = end.saturating_sub(ROWS);
            for key in (start as u32..end as u32).rev().map(ItemKey) {
                let Some(facts) = table.facts(key) else { continue };
                if let Some(language) = facts.language.as_deref().map(primary) {
                    if let Some((count, items)) = by_language.get_mut(language) {
                        *count += 1;
                        if items.len() < MAX_LANGUAGE_ITEMS {
                            items.push(key);
                        }
                    } else if by_language.len() < MAX_LANGUAGE_NAMES {
                        by_language.insert(language.into(), (1, vec![key]));
                    }
                }
                in_any += usize::from(!facts.categories.is_empty());
                for name in &facts.categories {
                    if let Some((count, items)) = by_name.get_mut(name.as_str()) {
                        *count += 1;
                        if items.len() < MAX_ITEMS && items.last() != Some(&key) {
                            items.push(key);
                        }
                    } else if by_name.len() < MAX_NAMES {
                        by_name.insert(name.as_str().into(), (1, vec![key]));
                    }
                }
                // As good as drawn by lot, and the same next time: the smallest numbers after a mixing that gives no two items the same.
                let lot = key.0.wrapping_mul(0x9E37_79B1);
                let held_out = (lot >> 16).is_multiple_of(HELD_OUT); // neighbours are often alike
                let smaller = drawn.len() < MAX_SAMPLES || drawn.peek().is_some_and(|(largest, ..)| lot < *largest);
                if held_out && smaller && !facts.categories.is_empty() {
                    let title = facts.title.as_deref().map(clean).filter(|title| !title.is_empty());
                    drawn.extend(title.map(|title| (lot, key, title)));
                    if drawn.len() > MAX_SAMPLES {
                        drawn.pop();
                    }
                }
            }
            end = start;
        }
        let mut ranked: Vec<_> = by_name.into_iter().collect();
        ranked.sort_unstable_by(|(a, (x, _)), (b, (y, _))| y.cmp(x).then_with(|| a.cmp(b)));
        ranked.truncate(MAX_CATEGORIES);
        let mut languages: Vec<_> = by_language.into_iter().filter(|(_, (count, _))| *count >= FEWEST_ITEMS).collect();
        languages.sort_unstable_by(|(a, (x, _)), (b, (y, _))| y.cmp(x).then_with(|| a.cmp(b)));
        languages.truncate(MAX_LANGUAGES);
        let mut items: FxHashMap<ItemKey, Vec<usize>> = FxHashMap::default();
        for (place, (_, (_, keys))) in ranked.iter().enumerate() {
            for key in keys {
                items.entry(*key).or_default().push(place);
            }
        }
        let mut items: Vec<(ItemKey, Vec<usize>)> = items.into_iter().collect();
        items.sort_unstable_by_key(|(key, _)| *key); // sums of floats must not depend on a map's order
        let table = columns.read();
        let places: FxHashMap<&str, usize> = ranked.iter().enumerate().map(|(place, (name, _))| (&**name, place)).collect();
        let sample = |(_, key, title): (u32, ItemKey, String)| {
            let categories = table.facts(key)?.categories.iter().filter_map(|name| places.get(name.as_str()).copied()).collect();
            Some((key, title, categories))
        };
        let samples = drawn.into_sorted_vec().into_iter().filter_map(sample).collect();
        Self {
            counts: ranked.iter().map(|(_, (count, _))| *count).collect(),
            in_any,
            names: ranked.into_iter().map(|(name, _)| name).collect(),
            items,
            samples,
            languages: languages.into_iter().map(|(_, (_, keys))| keys).collect(),
        }
    }
}

/// The language of a tag such as `zh-CN`.
fn primary(tag: &str) -> &str {
    tag.split(['-', '_']).next().unwrap_or(tag)
}
