//! Candidates from every source at once: what was understood and done in, the union of what was found out.
//!
//! A source that fails or is late costs its candidates, not the answer: its part is named in `degraded`.

use std::{sync::Arc, time::Duration};

use futures::future::{Either, maybe_done, select};
use rustc_hash::{FxHashMap, FxHashSet};
use tokio::time::{Instant, timeout_at};

use crate::{
    domain::{Actor, Embedding, Feature, ItemKey, Source, Timestamp},
    features::{Act, History, Loaded, Ranking, Recollection, Situation},
    index::{Hit, IndexError, QueryTerms, Search, VectorIndex},
    learned::Collaborative,
};

use super::{
    Inner,
    affinity::Affinity,
    arrange::Ruling,
    eligible::Eligible,
    fresh::fresh,
    own_vectors,
    profile::{Likeness, Liking, newest_liked},
    rank::Sources,
    request::{Part, RecommendationRequest},
    situation,
    snapshot::ModelSet,
    taste::Taste,
    understand::{CategoryProbability, Rejected},
};

/// Bytes of a text that are searched for by words; the rest of a very long text adds little but work.
const LEXICAL_BYTES: usize = 4_000;

/// Of a search at most, however deep a page lies: as many as the largest request excludes and shows.
const MOST_TEXT_CANDIDATES: usize = 2_000;

/// Popular items beside what was found by words or likeness: they fill up short lists, and seldom win against those.
const POPULAR_BESIDE_WORDS: usize = 50;

/// Terms of a text that is a keyword rather than a sentence; a Chinese word of two characters has three.
const FEW_TERMS: f32 = 4.0;

/// Events with words of a user that are read, newest first.
const MOST_TEXTS: usize = 16;

/// What the sources found and know, and what failed.
#[derive(Default)]
pub(super) struct Retrieved {
    /// Cosine with the text, by candidate.
    pub(super) semantic: FxHashMap<ItemKey, f32>,
    /// BM25 with the text, by candidate.
    pub(super) lexical: FxHashMap<ItemKey, f32>,
    /// Cosine with the context items, by candidate.
    pub(super) similar: FxHashMap<ItemKey, f32>,
    /// Weights folded over the history, for every item that has any; by key.
    pub(super) collaborative: Vec<(ItemKey, f32)>,
    /// Likeness to what the user liked and wrote.
    pub(super) likeness: Likeness,
    /// Nearness in own vectors to what the user looks at or liked.
    pub(super) own_vectors: FxHashMap<ItemKey, f32>,
    /// What its text says of what is rejected, by candidate.
    pub(super) rejected: FxHashMap<ItemKey, f32>,
    /// What sort of things the user likes.
    pub(super) affinity: Affinity,
    /// Where each candidate was found.
    pub(super) sources: FxHashMap<ItemKey, Sources>,
    /// The history as the collaborative weights used it, newest first.
    pub(super) folded: Vec<(ItemKey, f32)>,
    /// What many want.
    pub(super) popularity: Arc<Ranking>,
    /// What may be shown.
    pub(super) eligible: Eligible,
    /// The rules that hold.
    pub(super) ruling: Ruling,
    /// What the text is about.
    pub(super) categories: Vec<CategoryProbability>,
    /// The newest event that counted.
    pub(super) as_of: i64,
    /// How much the words of the text say by themselves, 0 to 1.
    pub(super) wording: f32,
    /// The text's, where it could be encoded.
    pub(super) embedding: Option<Embedding>,
    /// Only the beginning of the text was encoded.
    pub(super) truncated: bool,
    /// Parts that could not be used.
    pub(super) degraded: Vec<Part>,
}

/// The sources that need no index: what the user's history and everybody's say. Computed on the pool.
struct Local {
    collaborative: Vec<(ItemKey, f32)>,
    folded: Vec<(ItemKey, f32)>,
    liking: Liking,
    /// Items that own vectors are compared with.
    liked: Vec<(ItemKey, f32)>,
    affinity: Affinity,
    found: Vec<(Source, Vec<ItemKey>)>,
    popularity: Arc<Ranking>,
    eligible: Eligible,
    as_of: i64,
}

/// When the question is asked.
pub(super) enum Basis<'a> {
    /// As things are, under these rules.
    Now(Ruling),
    /// As things were; rules are for what people see.
    Then(&'a Situation),
}

/// What is known of the one who asks.
enum Known {
    Now(Vec<History>),
    /// Only what was known then.
    Then(Situation),
}

/// What a source of the index found, or why not.
type Found = Result<Vec<Hit>, Part>;

impl Inner {
    /// Asks every source that the request gives something to go by.
    pub(super) async fn retrieve(
        self: &Arc<Self>,
        request: &RecommendationRequest,
        wanted: Option<&str>,
        rejected: &Rejected,
        context: &[ItemKey],
        models: &Arc<ModelSet>,
        basis: Basis<'_>,
    ) -> Retrieved {
        let deadline = Instant::from_std(request.deadline);
        let (mut ruling, past) = match basis {
            Basis::Now(ruling) => (ruling, None),
            Basis::Then(past) => (Ruling::default(), Some(past)),
        };
        let eligible = self.eligible(request, context, &ruling);
        let filter = eligible.pushed_down(&self.columns.read(), request.now);
        let search = Search { limit: self.text_candidates(request, &eligible), filter: filter.as_ref() };
        let is_anything = request.filter.is_none() && eligible.barred.is_empty();
        let is_the_list = wanted.is_none() && request.items.is_empty();
        let index = &*models.index;
        let terms =
            wanted.map(|text| models.lexicon.query_terms(beginning(text, LEXICAL_BYTES))).filter(|terms| !terms.is_empty() && self.asks(Feature::Lexical));

        // A forward pass that shares the cores with other work takes half as long again (4.3 instead of 2.8 ms), so the other sources wait for
        // it; not for ever, in case the encoder is the one that is late.
        let encoding = async {
            let Some(text) = wanted else { return Ok(None) };
            within(deadline, Part::Encoder, self.timed("encode", models.encoder.encode(text, request.deadline))).await.map(Some)
        };
        let mut encoding = std::pin::pin!(encoding);
        // Reading a history that is not in memory is mostly waiting, though.
        let now = Instant::now();
        let head_start = now + deadline.saturating_duration_since(now) / 2;
        let mut histories = std::pin::pin!(maybe_done(Box::pin(self.histories(request, head_start))));
        let searched = |text: &Embedding| models.searched(text, self.settings.across_languages);
        let early = match select(std::pin::pin!(timeout_at(head_start, &mut encoding)), histories.as_mut()).await {
            Either::Left((early, _)) => early,
            Either::Right(((), early)) => early.await,
        }
        .ok();
        let embedding = early.as_ref().filter(|_| self.asks(Feature::Semantic));
        let embedding = embedding.and_then(|encoded| Some(searched(&encoded.as_ref().ok()?.as_ref()?.embedding)));

        let semantic = async {
            let Some(encoded) = (match early {
                Some(encoded) => encoded,
                None => encoding.await,
            })?
            else {
                return Ok(None);
            };
            if !self.asks(Feature::Semantic) {
                return Ok(Some((encoded, None)));
            }
            let searched = searched(&encoded.embedding);
            let hits = within(deadline, Part::Index, self.timed("semantic", index.nearest(&searched, search))).await;
            Ok(Some((encoded, Some((searched, hits)))))
        };
        let lexical = async {
            let Some(terms) = &terms else { return (Ok(Vec::new()), Vec::new()) };
            let hits = within(deadline, Part::Index, self.timed("lexical", index.matching(terms, search))).await;
            // While the semantic search still runs.
            let keys: Vec<ItemKey> = hits.iter().flatten().map(|hit| hit.key).collect();
            let cosines = match &embedding {
                // What fails is asked for once more below.
                Some(embedding) => within(deadline, Part::Index, index.similarities(embedding, &keys)).await.unwrap_or_default(),
                None => Vec::new(),
            };
            (hits, cosines)
        };
        let similar = async {
            if context.is_empty() || !self.asks(Feature::Similar) {
                return Ok(None);
            }
            let near = async {
                let Some(centre) = centre(&index.embeddings(context).await?) else { return Ok(None) };
                let hits = index.nearest(&centre, search).await?;
                Ok::<_, IndexError>(Some((centre, hits)))
            };
            within(deadline, Part::Index, self.timed("similar", near)).await
        };
        let disliked = async {
            if rejected.is_empty() {
                return Ok(None);
            }
            within(deadline, Part::Encoder, models.encoder.encode(rejected.words(), request.deadline)).await.map(Some)
        };
        let local = async {
            histories.as_mut().await;
            let (histories, mut degraded) = histories.take_output().unwrap_or_default();
            let known = past.map_or(Known::Now(histories), |past| Known::Then(past.clone()));
            let local = self.timed("local", self.local(request, is_the_list, context, eligible.clone(), models, known)).await;
            let local = local.map_err(|part| degraded.push(part)).ok();
            let profile = async {
                let liking = local.as_ref().map(|local| &local.liking).filter(|liking| !liking.is_empty());
                let Some(liking) = liking else { return Ok(None) };
                self.timed("profile", self.likeness(liking, models, search, is_anything, deadline)).await.map(Some)
            };
            let own_vectors = async {
                let liked = local.as_ref().map(|local| &local.liked).filter(|liked| !liked.is_empty() && self.compares_own_vectors(models));
                let Some(liked) = liked else { return Ok(FxHashMap::default()) };
                within(deadline, Part::Index, self.timed("own_vectors", own_vectors::near(&models.own_vectors, liked, search))).await
            };
            let (profile, own_vectors) = tokio::join!(profile, own_vectors);
            let profile = profile.map_err(|part| degraded.push(part)).ok().flatten();
            let own_vectors = own_vectors.map_err(|part| degraded.push(part)).unwrap_or_default();
            (local, profile, own_vectors, degraded)
        };
        let (semantic, (lexical, cosines), similar, disliked, (local, likeness, own_vectors, mut degraded)) =
            tokio::join!(semantic, lexical, similar, disliked, local);

        // Without the history what was asked for still holds.
        let wording = terms.as_ref().map_or(0.0, trust_in_words);
        let mut retrieved = Retrieved { eligible, wording, ..Retrieved::default() };
        let mut found = Vec::new();
        if let Some(local) = local {
            found = local.found;
            retrieved = Retrieved {
                collaborative: local.collaborative,
                folded: local.folded,
                popularity: local.popularity,
                affinity: local.affinity,
                eligible: local.eligible,
                as_of: local.as_of,
                ..retrieved
            };
        }
        let mut take = |source: Source, hits: Found, scores: &mut FxHashMap<ItemKey, f32>, degraded: &mut Vec<Part>| match hits {
            Ok(hits) => {
                scores.extend(hits.iter().map(|hit| (hit.key, hit.score.get())));
                found.push((source, hits.into_iter().map(|hit| hit.key).collect()));
            }
            Err(part) => degraded.push(part),
        };
        take(Source::Lexical, lexical, &mut retrieved.lexical, &mut degraded);
        retrieved.semantic.extend(cosines);
        let embedding = match semantic {
            Ok(Some((encoded, found))) => {
                retrieved.truncated = encoded.truncated;
                retrieved.embedding = Some(encoded.embedding);
                found.map(|(searched, hits)| {
                    take(Source::Semantic, hits, &mut retrieved.semantic, &mut degraded);
                    searched
                })
            }
            Ok(None) => None,
            Err(part) => {
                degraded.push(part);
                None
            }
        };
        let centre = match similar {
            Ok(Some((centre, hits))) => {
                take(Source::Similar, Ok(hits), &mut retrieved.similar, &mut degraded);
                Some(centre)
            }
            Ok(None) => None,
            Err(part) => {
                degraded.push(part);
                None
            }
        };

        if let Some(likeness) = likeness {
            found.push((Source::Profile, likeness.keys()));
            retrieved.likeness = likeness;
        }
        found.push((Source::Vectors, own_vectors.keys().copied().collect()));
        retrieved.own_vectors = own_vectors;

        if past.is_none() {
            retrieved.categories = models.categories_of(retrieved.embedding.as_ref());
            ruling.settle(&retrieved.categories);
            (retrieved.eligible.barred, retrieved.eligible.blocked) = (ruling.excluded(), self.blocked(&ruling));
        }
        self.admit(&mut retrieved, found, &ruling, request.now);
        retrieved.ruling = ruling;
        if let Err(part) = within(deadline, Part::Index, self.timed("complete", complete(&mut retrieved, index, embedding, terms, centre))).await {
            degraded.push(part);
        }
        if !rejected.is_empty() {
            let disliked = disliked.unwrap_or_else(|part| {
                degraded.push(part);
                None
            });
            let disliked = disliked.map(|encoded| searched(&encoded.embedding));
            if let Err(part) = within(deadline, Part::Index, self.timed("rejected", lower(&mut retrieved, index, rejected, disliked.as_ref()))).await {
                degraded.push(part);
            }
        }
        degraded.sort_unstable();
        degraded.dedup();
        retrieved.degraded = degraded;
        retrieved
    }

    /// Makes candidates of what was found and what rules pin, as far as it may be shown.
    fn admit(&self, retrieved: &mut Retrieved, found: Vec<(Source, Vec<ItemKey>)>, ruling: &Ruling, now: Timestamp) {
        let table = self.columns.read();
        for (source, keys) in found {
            for key in keys {
                if retrieved.eligible.admit(&table, key, now).is_some() {
                    retrieved.sources.entry(key).or_default().add(source);
                }
            }
        }
        for key in ruling.pins().into_iter().filter_map(|(_, item)| table.key_of(item)) {
            if retrieved.eligible.admit(&table, key, now).is_some() {
                retrieved.sources.entry(key).or_default();
            }
        }
    }

    /// What the request itself rules out (its filter, its exclusions, what the user looks at already), and what rules exclude whatever the text is about.
    pub(super) fn eligible(&self, request: &RecommendationRequest, context: &[ItemKey], ruling: &Ruling) -> Eligible {
        let table = self.columns.read();
        let mut excluded: FxHashSet<ItemKey> = request.exclude_items.iter().filter_map(|id| table.key_of(id)).collect();
        excluded.extend(context);
        Eligible { filter: request.filter.clone(), excluded, barred: ruling.excluded(), blocked: self.blocked(ruling) }
    }

    fn blocked(&self, ruling: &Ruling) -> Vec<Arc<FxHashSet<ItemKey>>> {
        ruling.blocking().filter_map(|rule| self.blocklist.of(rule)).collect()
    }

    /// How many each search finds: enough for ranking, and more where pages lie deep or much is excluded. In steps, so that the pages of one list
    /// stand on the same candidates for long.
    pub(super) fn text_candidates(&self, request: &RecommendationRequest, eligible: &Eligible) -> usize {
        let step = self.settings.text_candidates.max(1);
        let page_end = request.after.as_ref().map_or(0, |cursor| cursor.shown.len()) + request.limit;
        (page_end + eligible.excluded.len()).next_multiple_of(step).min(step.max(MOST_TEXT_CANDIDATES))
    }

    /// What the user and the session did, and what could not be read of it by `deadline`.
    async fn histories(&self, request: &RecommendationRequest, deadline: Instant) -> (Vec<History>, Vec<Part>) {
        let user = request.user_id.clone().map(Actor::User);
        let session = request.session_id.clone().map(Actor::Session);
        let (mut histories, mut degraded) = (Vec::new(), Vec::new());
        for actor in user.into_iter().chain(session) {
            match within(deadline, Part::Store, self.timed("history", self.history(&actor, request.now))).await {
                Ok(history) => histories.push(history),
                Err(part) => degraded.push(part),
            }
        }
        (histories, degraded)
    }

    /// Collaborative weights folded over what is known of the user, and popularity.
    async fn local(
        self: &Arc<Self>,
        request: &RecommendationRequest,
        is_the_list: bool,
        context: &[ItemKey],
        eligible: Eligible,
        models: &Arc<ModelSet>,
        known: Known,
    ) -> Result<Local, Part> {
        if matches!(&known, Known::Now(histories) if histories.is_empty()) && context.is_empty() && request.filter.is_none() {
            // Only the head of the popular list is to be taken: some 50 µs, less than waiting for a thread.
            return Ok(self.look_around(request, is_the_list, context, eligible, &known, None));
        }
        let work = {
            let (inner, models, request, context) = (Arc::clone(self), Arc::clone(models), request.clone(), context.to_vec());
            move || {
                inner.look_around(
                    &request,
                    is_the_list,
                    &context,
                    eligible,
                    &known,
                    models.learned.as_ref().filter(|_| inner.asks(Feature::Collaborative)).map(|published| &published.learned.collaborative),
                )
            }
        };
        within(Instant::from_std(request.deadline), Part::Features, self.compute.run(work)).await
    }

    async fn history(&self, actor: &Actor, now: Timestamp) -> Result<History, crate::store::StoreError> {
        let load = async {
            let person = self.store.person(actor).await?;
            let acts = self.store.recent_acts(&person, self.history_events).await?;
            let mut texts = Vec::new();
            if self.profiles() {
                let events = self.store.recent_texts(&person, MOST_TEXTS).await?;
                texts.extend(events.iter().filter_map(|logged| self.signals.written(logged.sequence, &logged.event)));
            }
            let mut acts: Vec<Act> = acts.iter().filter_map(|logged| self.signals.logged(logged)).collect();
            // Beside what a clock that was ahead has written, whatever comes now would be old for as long as it was ahead.
            acts.iter_mut().map(|act| &mut act.at).chain(texts.iter_mut().map(|text| &mut text.at)).for_each(|at| *at = at.believed(now));
            let history = Recollection { acts, texts };
            Ok(Loaded { history: Arc::new(history), keep: person == *actor })
        };
        self.histories.of(actor, load).await
    }

    /// Whether it matters what is like the things that the user liked.
    fn profiles(&self) -> bool {
        self.asks(Feature::Profile) || self.asks(Feature::Wording)
    }

    /// Whether a feature may count: a weight of 0 in the settings turns off what only it would look for, whatever was fitted before.
    fn asks(&self, feature: Feature) -> bool {
        self.settings.weights.vector()[feature as usize] != 0.0
    }

    /// Whether it matters what is near in items' own vectors, and some have them.
    fn compares_own_vectors(&self, models: &ModelSet) -> bool {
        self.asks(Feature::Vectors) && !models.own_vectors.is_empty()
    }

    fn look_around(
        &self,
        request: &RecommendationRequest,
        is_the_list: bool,
        context: &[ItemKey],
        mut eligible: Eligible,
        known: &Known,
        weights: Option<&Collaborative>,
    ) -> Local {
        let table = self.columns.read();
        let as_of = request.after.as_ref().map(|cursor| cursor.as_of);
        let taste = match known {
            Known::Now(histories) => Taste::read(histories, as_of, context, &self.signals, &table),
            Known::Then(past) => situation::taste(past),
        };
        eligible.excluded.extend(&taste.hidden);
        if request.exclude_seen.unwrap_or(self.signals.excludes_seen()) {
            eligible.excluded.extend(&taste.seen);
        }
        let folded = weights.map(|weights| weights.fold_in_weights(&taste.items)).unwrap_or_default();
        let scores = weights.map(|weights| weights.score(&folded)).unwrap_or_default();
        let liked: Vec<(ItemKey, f32)> = scores.iter().copied().filter(|(_, score)| *score > 0.0).collect();
        let liked = best_admitted(liked, self.settings.candidates, |key| eligible.admit(&table, key, request.now).is_some());

        // A later page goes on with the ranking of the first one, while that is remembered.
        let first_page = request.after.as_ref().and_then(|cursor| self.popularity.kept(cursor.ranking));
        let popularity = match (known, first_page) {
            (Known::Then(past), _) => Arc::clone(&past.popularity),
            (Known::Now(_), Some(first_page)) => first_page,
            (Known::Now(_), None) => self.popularity.ranking(&table, &request.scenario),
        };
        let admit = |key: &ItemKey| eligible.admit(&table, *key, request.now).is_some();
        // With nothing else to go by (`is_the_list`) this source is the list. Beside others its candidates must not depend on the page: scores are scaled
        // by what stands beside them.
        let needed = if is_the_list {
            let page_end = request.after.as_ref().map_or(0, |cursor| cursor.shown.len()) + request.limit + 1; // one more tells whether there is a next page
            page_end.max(self.settings.candidates)
        } else {
            POPULAR_BESIDE_WORDS
        };
        let best_first = eligible.category().map_or(popularity.best_first(), |category| popularity.best_of(category));
        let mut popular: Vec<ItemKey> = best_first.iter().copied().filter(admit).take(needed).collect();
        if popular.len() < needed {
            // Nobody has cared for enough items yet: the newest ones fill up the list.
            let known: FxHashSet<ItemKey> = popular.iter().copied().collect();
            let newest = (0..table.rows() as u32).rev().map(ItemKey).filter(|key| !known.contains(key) && admit(key));
            popular.extend(newest.take(needed - known.len()));
        }
        let affinity = Affinity::of(&taste, &table);
        let arrangement = self.settings.arrangement(&request.scenario);
        let cold = match known {
            Known::Now(_) if arrangement.cold_slots > 0 => fresh(&table, &affinity, &popularity, arrangement.cold_below(), admit),
            _ => Vec::new(),
        };
        // Beside words a profile changed nothing that could be measured (+.002 ± .005 on films by user and keyword), and it costs a search.
        let has_profile = self.profiles() && request.text.is_none();
        Local {
            collaborative: scores,
            folded,
            liking: if has_profile { Liking::of(&taste, &table) } else { Liking::default() },
            found: vec![(Source::Collaborative, liked.into_iter().map(|(key, _)| key).collect()), (Source::Popular, popular), (Source::Fresh, cold)],
            popularity,
            liked: newest_liked(&taste),
            affinity,
            eligible,
            as_of: taste.as_of,
        }
    }
}

/// All features for all candidates: what the index knows of those that other sources found.
async fn complete(
    retrieved: &mut Retrieved,
    index: &dyn VectorIndex,
    embedding: Option<Embedding>,
    terms: Option<QueryTerms>,
    centre: Option<Embedding>,
) -> Result<(), IndexError> {
    let missing = |known: &FxHashMap<ItemKey, f32>| -> Vec<ItemKey> { retrieved.sources.keys().copied().filter(|key| !known.contains_key(key)).collect() };
    let (semantic, lexical, similar) = (missing(&retrieved.semantic), missing(&retrieved.lexical), missing(&retrieved.similar));
    if let Some(embedding) = embedding {
        retrieved.semantic.extend(index.similarities(&embedding, &semantic).await?);
    }
    if let Some(terms) = terms {
        retrieved.lexical.extend(index.lexical_scores(&terms, &lexical).await?);
    }
    if let Some(centre) = centre {
        retrieved.similar.extend(index.similarities(&centre, &similar).await?);
    }
    Ok(())
}

/// What the index knows of how much each candidate is what the text rejects.
async fn lower(retrieved: &mut Retrieved, index: &dyn VectorIndex, rejected: &Rejected, disliked: Option<&Embedding>) -> Result<(), IndexError> {
    let mut keys: Vec<ItemKey> = retrieved.sources.keys().copied().collect();
    keys.sort_unstable(); // sums of floats must not depend on a map's order
    for terms in rejected.terms() {
        Rejected::note(&mut retrieved.rejected, &index.lexical_scores(terms, &keys).await?);
    }
    if let Some(disliked) = disliked {
        Rejected::note_meaning(&mut retrieved.rejected, &index.similarities(disliked, &keys).await?, &retrieved.semantic);
    }
    Ok(())
}

/// How much weight the words of a text get beside its meaning: 1 for a keyword or two, less the longer it is. A keyword is the word that the
/// item must have; a sentence says the same in other words (NDCG@10 with a weight of 1, .7, .5, .35, .25, .15: Chinese questions .177, .182,
/// .186, .190, .191, .188, films by keyword .132, .130, .126 for the first three).
fn trust_in_words(terms: &QueryTerms) -> f32 {
    (FEW_TERMS / terms.len().max(1) as f32).sqrt().min(1.0)
}

/// The mean direction of several embeddings.
fn centre(embeddings: &[(ItemKey, Embedding)]) -> Option<Embedding> {
    let (_, first) = embeddings.first()?;
    let mut sum = vec![0.0; first.len()];
    for (_, embedding) in embeddings {
        for (total, x) in sum.iter_mut().zip(embedding.iter()) {
            *total += x;
        }
    }
    Embedding::new(sum).ok()
}

/// The best `most` of those that are admitted, in any order. A few times as many are asked first: item factors score the whole catalogue, and to
/// admit an item costs ten times what its score did.
fn best_admitted(mut scored: Vec<(ItemKey, f32)>, most: usize, admit: impl Fn(ItemKey) -> bool) -> Vec<(ItemKey, f32)> {
    let better = |a: &(ItemKey, f32), b: &(ItemKey, f32)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
    let first = most.saturating_mul(4);
    if scored.len() > first {
        scored.select_nth_unstable_by(first, better);
        let admitted: Vec<(ItemKey, f32)> = scored[..first].iter().copied().filter(|(key, _)| admit(*key)).collect();
        if admitted.len() >= most {
            scored = admitted;
        } else {
            scored.retain(|(key, _)| admit(*key));
        }
    } else {
        scored.retain(|(key, _)| admit(*key));
    }
    if scored.len() > most {
        scored.select_nth_unstable_by(most, better);
        scored.truncate(most);
    }
    scored
}

/// The first `bytes` of a text, cut between characters.
fn beginning(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}

/// What `work` gives before the deadline; else the part that could not be used, with the reason in the log.
pub(super) async fn within<T, E: std::fmt::Display>(deadline: Instant, part: Part, work: impl Future<Output = Result<T, E>>) -> Result<T, Part> {
    // Even past the deadline a cached answer may be had at once.
    match timeout_at(deadline.max(Instant::now() + Duration::from_millis(1)), work).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => {
            tracing::warn!(part = part.name(), %error, "{} could not be used", part.name());
            Err(part)
        }
        Err(_) => {
            tracing::debug!(part = part.name(), "{} was too late", part.name());
            Err(part)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_best_that_are_admitted_are_those_of_a_plain_sort(scores in prop::collection::vec(0u8..50, 0..60), most in 0usize..12, every in 1u32..9) {
            let scored: Vec<(ItemKey, f32)> = scores.iter().enumerate().map(|(key, score)| (ItemKey(key as u32), f32::from(*score))).collect();
            let admit = |key: ItemKey| key.0.is_multiple_of(every);

            let mut found = best_admitted(scored.clone(), most, admit);

            let mut plain: Vec<_> = scored.into_iter().filter(|(key, _)| admit(*key)).collect();
            plain.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
            plain.truncate(most);
            found.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
            prop_assert_eq!(found, plain);
        }
    }
}
