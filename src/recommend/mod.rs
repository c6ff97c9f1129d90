//! Floor 3, the read path: a checked request in, a list of items with reasons out. It never writes to what it reads.
//!
//! understand → retrieve → rank → arrange → explain → expose

mod affinity;
mod arrange;
mod blocklist;
mod cursor;
mod eligible;
mod explain;
mod fresh;
mod metrics;
mod own_vectors;
mod person;
mod policy;
mod profile;
mod rank;
mod request;
mod retrieve;
mod settings;
mod situation;
mod snapshot;
mod taste;
#[cfg(test)]
mod tests;
mod understand;

use std::{sync::Arc, time::Instant};

use rustc_hash::FxHashMap;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::{
    domain::{AttributeType, Exposure, Feature, FeatureVector, ItemId, ItemKey, RecommendationId, ShownItem},
    encoder::clean,
    features::{Columns, Histories, Popularity, Rulebook, Showings, Signals, freshness},
    index::Lexicon,
    store::Store,
    telemetry::{Compute, Registry},
};

pub use blocklist::{Blocklist, BlocklistMaker, BlocklistRooms};
pub use cursor::{Cursor, InvalidCursor};
pub use own_vectors::Nearness;
pub use person::{Person, RecentItem};
pub use policy::Policy;
pub use request::{Arranged, Boost, Explanation, Intent, MAX_LIMIT, Part, Recommendation, RecommendationRequest, RecommendedItem, Understanding};
pub use settings::{Arrangement, InvalidArrangement, RecommendSettings, Scenario, Weights, weights_of, weights_table};
pub use snapshot::{ModelSet, Models, OwnVectors, Published};
pub use understand::{Categories, CategoryMaker, CategoryProbability, LanguageShare};

use arrange::{Asked, Cold, Exploration, Page, Place, Quotas, Ruling, Slots};
use cursor::MAX_SHOWN;
use metrics::Metrics;
use profile::Remembered;
use rank::{Candidate, Ranked, Scales, Sources};
use retrieve::{Basis, Retrieved, within};
use understand::{Rejected, Understood};

/// At every so many milliseconds of the clock what is explored changes: who comes back meanwhile finds the list as it was.
const REDRAWN_MS: i64 = 600_000;

/// History items named as reasons.
const MAX_BECAUSE: usize = 3;

/// What the read path reads.
pub struct Rooms {
    /// The models of the moment.
    pub models: Models,
    /// What is known of items.
    pub columns: Arc<Columns>,
    /// What users did.
    pub histories: Arc<Histories>,
    /// What many want.
    pub popularity: Arc<Popularity>,
    /// What events say.
    pub signals: Arc<Signals>,
    /// What merchandisers want.
    pub rulebook: Arc<Rulebook>,
    /// What visits were shown.
    pub showings: Arc<Showings>,
    /// What blocklist rules keep out.
    pub blocklist: Blocklist,
    /// Histories that are not in memory, texts of items, and where exposures go.
    pub store: Store,
    /// Threads for what takes longer than a moment.
    pub compute: Compute,
    /// Is told what an answer showed, to count it.
    pub exposed: Exposed,
}

/// Counts what was shown; handed over by `app`.
pub type Exposed = Arc<dyn Fn(&Exposure) + Send + Sync>;

/// The read path; cheap to clone.
#[derive(Clone)]
pub struct Recommender(Arc<Inner>);

struct Inner {
    models: Models,
    columns: Arc<Columns>,
    histories: Arc<Histories>,
    popularity: Arc<Popularity>,
    rulebook: Arc<Rulebook>,
    showings: Arc<Showings>,
    blocklist: Blocklist,
    store: Store,
    compute: Compute,
    exposed: Exposed,
    remembered: Remembered,
    settings: RecommendSettings,
    signals: Arc<Signals>,
    history_events: usize,
    freshness_half_life_days: f32,
    metrics: Metrics,
}

/// Why there is no answer at all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecommendError {
    /// The cursor belongs to another request.
    #[error("\"after\" belongs to another request")]
    ForeignCursor,
    /// The item whose neighbours are asked for has no own vector of that name.
    #[error("the item has no vector of that name")]
    NoSuchVector,
}

impl Recommender {
    /// Fails when `registry` has the read path's metrics already.
    pub fn new(rooms: Rooms, settings: RecommendSettings, features: &crate::features::FeatureSettings, registry: &Registry) -> prometheus::Result<Self> {
        let Rooms { models, columns, histories, popularity, signals, rulebook, showings, blocklist, store, compute, exposed } = rooms;
        let metrics = Metrics::register(registry)?;
        Ok(Self(Arc::new(Inner {
            models,
            columns,
            histories,
            popularity,
            rulebook,
            showings,
            blocklist,
            store,
            compute,
            exposed,
            remembered: Remembered::default(),
            settings,
            signals,
            history_events: features.history_events,
            freshness_half_life_days: features.freshness_half_life_days,
            metrics,
        })))
    }

    /// Answers a request. Parts that fail are named in the answer.
    pub async fn recommend(&self, request: RecommendationRequest) -> Result<Recommendation, RecommendError> {
        self.0.recommend(request, None).await
    }

    /// What a text is about, without any list. Past the deadline, or without an encoder, it says nothing of categories.
    pub async fn understand(&self, text: &str, deadline: Instant) -> Understanding {
        self.0.understand(text, deadline).await
    }

    /// The type the catalogue has fixed for an attribute name, for filters.
    pub fn attribute_type(&self, name: &str) -> Option<AttributeType> {
        self.0.columns.attribute_type(name)
    }
}

impl Inner {
    /// With a `rehearsed` policy nobody sees the answer.
    async fn recommend(self: &Arc<Self>, request: RecommendationRequest, rehearsed: Option<&Policy>) -> Result<Recommendation, RecommendError> {
        let fingerprint = fingerprint(&request);
        if request.after.as_ref().is_some_and(|cursor| cursor.fingerprint != fingerprint) {
            return Err(RecommendError::ForeignCursor);
        }
        let models = self.models.snapshot();
        let models = rehearsed.map_or(Arc::clone(&models), |policy| policy.over(models));
        let set = rehearsed.and_then(|policy| policy.weights.as_ref()).map(Weights::vector);
        let weights = set.unwrap_or_else(|| models.weights(request.text.is_some(), &self.settings.weights));
        let understood = request.text.as_deref().map(Understood::read).unwrap_or_default();
        let rejected = Rejected::new(&models.lexicon, &understood.rejected);
        let context = self.context(&request);

        // Rules are for what people see.
        let ruling = if rehearsed.is_none() { self.ruling(&request, &context) } else { Ruling::default() };

        let mut retrieved = self.retrieve(&request, understood.wanted(), &rejected, &context, &models, Basis::Now(ruling)).await;
        if let Some(policy) = rehearsed {
            retrieved.sources.retain(|_, sources| policy.ranks(sources.list()));
        }

        let ranking = self.metrics.stages.with_label_values(&["rank"]).start_timer();
        let evidence = evidence(&retrieved);
        let candidates = self.candidates(&mut retrieved, &rejected, &request, &models.lexicon);
        let (ranked, scales) = rank::rank(candidates, &weights, evidence, &request.boosts);
        ranking.observe_duration();

        let arranging = self.metrics.stages.with_label_values(&["arrange"]).start_timer();
        let shown: &[ItemKey] = request.after.as_ref().map_or(&[], |cursor| &cursor.shown);
        let mut degraded = std::mem::take(&mut retrieved.degraded);
        let Page { places: page, more } = self.arrange(ranked, &request, &retrieved, rehearsed, &models, &mut degraded).await;
        arranging.observe_duration();

        let next = (more && shown.len() + page.len() <= MAX_SHOWN).then(|| Cursor {
            fingerprint,
            as_of: retrieved.as_of,
            ranking: retrieved.popularity.id(),
            shown: shown.iter().copied().chain(page.iter().map(|place| place.ranked.candidate.key)).collect(),
        });
        if next.is_some() {
            self.popularity.keep(&retrieved.popularity);
        }
        let texts = self.texts(&page, &request, &mut degraded).await;
        let recommendation_id = new_id();
        if rehearsed.is_none() {
            self.expose(&recommendation_id, &request, &page);
        }
        // Scores that lack a part come to something else.
        let chances = models.chances(request.text.is_some(), &weights).filter(|_| degraded.is_empty());
        let reasons = Reasoning { wanted: understood.wanted(), language: understood.language(), retrieved: &retrieved, scales: &scales, models: &models };
        let items = page
            .into_iter()
            .zip(texts)
            .zip(shown.len() + 1..)
            .map(|((place, text), position)| RecommendedItem {
                explanation: request.explain.then(|| self.explain(&place, text.as_deref(), &reasons)),
                facts: place.ranked.candidate.facts,
                text: text.filter(|_| request.with_texts),
                position,
                score: place.ranked.score.get(),
                probability: chances.map(|chances| chances.chance(place.ranked.score.get() - place.ranked.boost)),
                sources: place.ranked.candidate.sources.list().collect(),
                arranged: place.arranged,
            })
            .collect();
        degraded.sort_unstable();
        degraded.dedup();
        self.metrics.count_degraded(&degraded);
        let intent = request.text.is_some().then(|| Intent::of(understood, std::mem::take(&mut retrieved.categories), retrieved.truncated));
        Ok(Recommendation { recommendation_id, intent, items, next, degraded })
    }

    /// The items that the user looks at, as far as they are known.
    fn context(&self, request: &RecommendationRequest) -> Vec<ItemKey> {
        let table = self.columns.read();
        request.items.iter().filter_map(|id| table.key_of(id)).collect()
    }

    async fn understand(&self, text: &str, deadline: Instant) -> Understanding {
        let models = self.models.snapshot();
        let understood = Understood::read(text);
        let mut degraded = Vec::new();
        let encoded = match understood.wanted() {
            Some(wanted) => {
                let encoding = self.timed("encode", models.encoder.encode(wanted, deadline));
                within(deadline.into(), Part::Encoder, encoding).await.map_err(|part| degraded.push(part)).ok()
            }
            None => None,
        };
        self.metrics.count_degraded(&degraded);
        let truncated = encoded.as_ref().is_some_and(|encoded| encoded.truncated);
        let categories = models.categories_of(encoded.as_ref().map(|encoded| &encoded.embedding));
        Understanding { intent: Intent::of(understood, categories, truncated), degraded }
    }

    /// The rules for a request, as far as they do not ask what its text is about.
    fn ruling(&self, request: &RecommendationRequest, context: &[ItemKey]) -> Ruling {
        let rules = self.rulebook.in_force();
        if rules.is_empty() {
            return Ruling::default();
        }
        let table = self.columns.read();
        let items: Vec<_> = context.iter().filter_map(|key| table.facts(*key).cloned()).collect();
        let category = request.filter.as_ref().and_then(eligible::category);
        Ruling::of(&rules, &Asked { scenario: &request.scenario, now: request.now, category, items: &items })
    }

    /// How the list of a request is arranged where no rule says otherwise.
    fn arrangement(&self, request: &RecommendationRequest, rehearsed: Option<&Policy>) -> Arrangement {
        if rehearsed.is_some_and(Policy::is_baseline) { Arrangement::NONE } else { self.settings.arrangement(&request.scenario) }
    }

    /// The page of a ranked list.
    async fn arrange(
        &self,
        ranked: Vec<Ranked>,
        request: &RecommendationRequest,
        retrieved: &Retrieved,
        rehearsed: Option<&Policy>,
        models: &ModelSet,
        degraded: &mut Vec<Part>,
    ) -> Page {
        let arrangement = self.arrangement(request, rehearsed);
        let shown: &[ItemKey] = request.after.as_ref().map_or(&[], |cursor| &cursor.shown);
        let passed_over = if rehearsed.is_none() { self.passed_over(request, arrangement.repeated) } else { FxHashMap::default() };
        let mut places = arrange::weigh(ranked, &retrieved.ruling, &passed_over);
        let diversity = request.diversity.unwrap_or(arrangement.diversity);
        if diversity > 0.0 {
            let needed = shown.len() + request.limit + 1; // one more tells whether there is a next page
            let mut embeddings = FxHashMap::default();
            let pool = arrange::diversity_pool(&places, needed);
            match within(request.deadline.into(), Part::Index, models.index.embeddings(&pool)).await {
                Ok(found) => embeddings.extend(found),
                Err(part) => degraded.push(part),
            }
            places = arrange::diversify(places, diversity, &embeddings, needed);
        }
        let pins: Vec<_> = {
            let table = self.columns.read();
            retrieved.ruling.pins().into_iter().filter_map(|(position, item)| Some((position as usize, table.key_of(item)?))).collect()
        };
        let cold = Cold { slots: arrangement.cold_slots, below: arrangement.cold_below() };
        let quotas = Quotas::new(&retrieved.ruling, arrangement.per_category, retrieved.eligible.category());
        let exploration = match rehearsed {
            None if arrangement.exploration > 0.0 => {
                let occasion = (self.settings.seed, fingerprint(request), retrieved.as_of, request.now.millis() / REDRAWN_MS, shown.len());
                Exploration::new(arrangement.exploration, occasion)
            }
            _ => Exploration::default(),
        };
        arrange::fill(places, Slots { shown, limit: request.limit, pins, quotas, cold, exploration })
    }

    /// What is taken from the scores of what the visit was shown lately and has passed over.
    fn passed_over(&self, request: &RecommendationRequest, points: f32) -> FxHashMap<ItemKey, f32> {
        let Some(session) = request.session_id.as_ref().filter(|_| points > 0.0) else { return FxHashMap::default() };
        let times = self.showings.passed_over(session, request.now);
        let table = self.columns.read();
        times.into_iter().filter_map(|(item, times)| Some((table.key_of(&item)?, points * f32::from(times)))).collect()
    }

    /// The union of what the sources found, every candidate with all its features.
    fn candidates(&self, retrieved: &mut Retrieved, rejected: &Rejected, request: &RecommendationRequest, lexicon: &Lexicon) -> Vec<Candidate> {
        let table = self.columns.read();
        let sources = std::mem::take(&mut retrieved.sources);
        let collaborative =
            |key: ItemKey| retrieved.collaborative.binary_search_by_key(&key, |(other, _)| *other).map_or(0.0, |place| retrieved.collaborative[place].1);
        let candidate = |(key, sources): (ItemKey, Sources)| {
            let facts = Arc::clone(retrieved.eligible.admit(&table, key, request.now)?);
            let known = |scores: &FxHashMap<ItemKey, f32>, absent: f32| scores.get(&key).copied().unwrap_or(absent);
            let features = Feature::ALL.map(|feature| match feature {
                Feature::Semantic => known(&retrieved.semantic, f32::NAN),
                Feature::Lexical => known(&retrieved.lexical, 0.0),
                Feature::Collaborative => collaborative(key),
                Feature::Similar => known(&retrieved.similar, f32::NAN),
                Feature::Profile => known(&retrieved.likeness.meaning, 0.0),
                Feature::Wording => known(&retrieved.likeness.words, 0.0),
                Feature::Affinity => retrieved.affinity.with(&facts),
                Feature::Vectors => known(&retrieved.own_vectors, 0.0),
                Feature::Popularity => retrieved.popularity.of(key),
                Feature::Freshness => freshness(&facts, request.now, self.freshness_half_life_days),
                Feature::Rejected if rejected.is_empty() => 0.0,
                Feature::Rejected => rejected.of(lexicon, &facts, known(&retrieved.rejected, 0.0)),
            });
            Some(Candidate { key, facts, sources, features })
        };
        let mut candidates: Vec<Candidate> = sources.into_iter().filter_map(candidate).collect();
        candidates.sort_unstable_by_key(|candidate| candidate.key); // sums of floats must not depend on a map's order
        candidates
    }

    /// The texts of the page's items, where the answer or its explanation needs them: one query.
    async fn texts(&self, page: &[Place], request: &RecommendationRequest, degraded: &mut Vec<Part>) -> Vec<Option<String>> {
        let explains_words = request.explain && request.text.is_some();
        if page.is_empty() || !(request.with_texts || explains_words) {
            return vec![None; page.len()];
        }
        let keys: Vec<ItemKey> = page.iter().map(|place| place.ranked.candidate.key).collect();
        match within(request.deadline.into(), Part::Store, self.store.items_by_key(&keys)).await {
            Ok(items) => {
                let mut texts: FxHashMap<ItemKey, String> = items.into_iter().filter_map(|stored| Some((stored.key, stored.item.text.clone()?))).collect();
                keys.iter().map(|key| texts.remove(key)).collect()
            }
            Err(part) => {
                degraded.push(part);
                vec![None; page.len()]
            }
        }
    }

    fn explain(&self, place: &Place, text: Option<&str>, reasoning: &Reasoning<'_>) -> Explanation {
        let candidate = &place.ranked.candidate;
        let table = self.columns.read();
        let slope = reasoning.scales[Feature::Collaborative as usize].slope;
        let mut because: Vec<(ItemKey, f32)> = match &reasoning.models.learned {
            Some(published) if slope > 0.0 => published.learned.collaborative.contributions(&reasoning.retrieved.folded, candidate.key),
            _ => Vec::new(),
        };
        because.retain(|(_, share)| *share > 0.0);
        because.sort_unstable_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        because.truncate(MAX_BECAUSE);
        let because_title =
            because.first().and_then(|(key, _)| table.facts(*key)).map(|facts| facts.title.clone().unwrap_or_else(|| facts.item_id.to_string()));
        let because: Vec<(ItemId, f32)> = because.into_iter().filter_map(|(key, share)| Some((table.facts(key)?.item_id.clone(), share * slope))).collect();
        let matched = match reasoning.wanted {
            Some(query) => {
                let words = format!("{}\n{}", candidate.facts.title.as_deref().unwrap_or(""), clean(text.unwrap_or("")));
                reasoning.models.lexicon.matched(query, &words)
            }
            None => Vec::new(),
        };
        explain::explain(explain::Reasons {
            parts: place.ranked.parts,
            boost: place.ranked.boost,
            because,
            because_title,
            matched,
            language: reasoning.language,
        })
    }

    /// Hands what was shown to the store's log; never delays the answer.
    fn expose(&self, recommendation_id: &RecommendationId, request: &RecommendationRequest, page: &[Place]) {
        for source in page.iter().flat_map(|place| place.ranked.candidate.sources.list()) {
            self.metrics.shown.with_label_values(&[source.name()]).inc();
        }
        let exposure = Exposure {
            recommendation_id: recommendation_id.clone(),
            at: request.now,
            user_id: request.user_id.clone(),
            session_id: request.session_id.clone(),
            scenario: request.scenario.clone(),
            items: page.iter().map(shown).collect(),
        };
        (self.exposed)(&exposure);
        self.store.record_exposure(exposure);
    }

    /// Runs a stage and records how long it took.
    async fn timed<T>(&self, stage: &str, work: impl Future<Output = T>) -> T {
        let timer = self.metrics.stages.with_label_values(&[stage]).start_timer();
        let value = work.await;
        timer.observe_duration();
        value
    }
}

/// What explanations of one page share.
struct Reasoning<'a> {
    wanted: Option<&'a str>,
    language: Option<&'static str>,
    retrieved: &'a Retrieved,
    scales: &'a Scales,
    models: &'a ModelSet,
}

/// A name for an answer; names grow with time.
fn new_id() -> RecommendationId {
    RecommendationId::new(Uuid::now_v7().to_string()).expect("a UUID is 36 plain characters")
}

fn shown(place: &Place) -> ShownItem {
    let Candidate { facts, features, .. } = &place.ranked.candidate;
    ShownItem { item_id: facts.item_id.clone(), features: features.map(known_or_zero), propensity: place.propensity }
}

/// The log has no NaN: an unknown feature is 0 there.
fn known_or_zero(value: f32) -> f32 {
    if value.is_finite() { value } else { 0.0 }
}

/// How much the request gave each feature to go by: without any it must not turn noise into score.
fn evidence(retrieved: &Retrieved) -> FeatureVector {
    let given = |something: bool| f32::from(u8::from(something));
    Feature::ALL.map(|feature| match feature {
        Feature::Semantic => given(!retrieved.semantic.is_empty()),
        Feature::Lexical => given(!retrieved.lexical.is_empty()) * retrieved.wording,
        Feature::Profile => given(!retrieved.likeness.meaning.is_empty()),
        Feature::Wording => given(!retrieved.likeness.words.is_empty()),
        Feature::Affinity => given(!retrieved.affinity.is_empty()),
        Feature::Vectors => given(!retrieved.own_vectors.is_empty()),
        Feature::Similar => given(!retrieved.similar.is_empty()),
        // Beside words, one click is a weak reason: shrunk as a mean with two doubts would be.
        Feature::Collaborative if !retrieved.semantic.is_empty() || !retrieved.lexical.is_empty() => {
            let items = retrieved.folded.len() as f32;
            items / (items + 2.0)
        }
        Feature::Collaborative => given(!retrieved.folded.is_empty()),
        Feature::Popularity | Feature::Freshness | Feature::Rejected => 1.0,
    })
}

/// Names everything in the request that decides the list, except the page.
fn fingerprint(request: &RecommendationRequest) -> u64 {
    let RecommendationRequest { user_id, session_id, text, items, scenario, filter, exclude_items, exclude_seen, boosts, diversity, .. } = request;
    let all = format!("{user_id:?}{session_id:?}{text:?}{items:?}{scenario:?}{filter:?}{exclude_items:?}{exclude_seen:?}{boosts:?}{diversity:?}");
    let digest = Sha256::digest(all.as_bytes());
    u64::from_le_bytes(*digest.first_chunk().expect("a SHA-256 has 32 bytes"))
}
