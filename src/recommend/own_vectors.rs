//! What is near in the items' own vectors, such as embeddings of their images: items that the user looks at or liked in, for each item how near it is
//! out; and the plain list of what is nearest to one item.
//!
//! As for a profile (`profile.rs`) each of them brings its own nearest items, by each of its vectors, and an item counts by the best: the mean of a
//! red shoe and a blue coat looks like neither. Nothing here needs a text model, and a catalogue without own vectors is asked nothing.

use futures::future::try_join_all;
use rustc_hash::FxHashMap;
use tokio::time::Instant;

use crate::{
    domain::{Embedding, Feature, FeatureVector, ItemKey, Source},
    index::{Hit, IndexError, Search, VectorIndex},
};

use super::{
    Inner, RecommendError, Recommendation, RecommendationRequest, RecommendedItem, Recommender,
    arrange::Place,
    profile::above_the_last,
    rank::{Candidate, Ranked, Sources},
    request::Part,
    retrieve::within,
    snapshot::OwnVectors,
};

/// Items that are taken for like one item, by each of its vectors: as many as a profile takes.
const NEIGHBOURS: usize = 100;

/// What is near each of `liked` (with how much it counts), from 0 for the farthest of its list to 1 for its like. Items that are not named are 0.
pub(super) async fn near(own: &OwnVectors, liked: &[(ItemKey, f32)], search: Search<'_>) -> Result<FxHashMap<ItemKey, f32>, IndexError> {
    let search = Search { limit: NEIGHBOURS, ..search };
    let keys: Vec<ItemKey> = liked.iter().map(|(key, _)| *key).collect();
    let lists = try_join_all(own.values().map(|index| nearest_to_each(&**index, &keys, search))).await?;
    let mut likeness = FxHashMap::default();
    for (key, hits) in lists.iter().flatten() {
        let weight = liked.iter().find(|(item, _)| item == key).map_or(0.0, |(_, weight)| *weight);
        for (item, like) in above_the_last(hits) {
            let best = likeness.entry(item).or_insert(0.0_f32);
            *best = best.max(weight * like);
        }
    }
    Ok(likeness)
}

/// A list for each of `keys` that has a vector there.
async fn nearest_to_each(index: &dyn VectorIndex, keys: &[ItemKey], search: Search<'_>) -> Result<Vec<(ItemKey, Vec<Hit>)>, IndexError> {
    let list = |(key, vector): (ItemKey, Embedding)| async move { Ok((key, index.nearest(&vector, search).await?)) };
    try_join_all(index.embeddings(keys).await?.into_iter().map(list)).await
}

/// By what an item's neighbours are looked for.
#[derive(Debug, Clone)]
pub struct Nearness {
    /// The name of an own vector.
    pub name: String,
    /// The item's vector; where it is not given, the one that the index has of it.
    pub vector: Option<Embedding>,
}

impl Recommender {
    /// The nearest to the request's one item by an own vector, with the cosine as the score. Of the request, only what bounds a list counts.
    pub async fn nearest(&self, request: RecommendationRequest, by: Nearness) -> Result<Recommendation, RecommendError> {
        self.0.nearest(&request, by).await
    }
}

impl Inner {
    async fn nearest(&self, request: &RecommendationRequest, Nearness { name, vector }: Nearness) -> Result<Recommendation, RecommendError> {
        let models = self.models.snapshot();
        let context = self.context(request);
        let eligible = self.eligible(request, &context, &self.ruling(request, &context));
        let filter = eligible.pushed_down(&self.columns.read(), request.now);
        // Hits that may not be shown take no place of others.
        let search = Search { limit: self.settings.text_candidates.max(2 * request.limit), filter: filter.as_ref() };
        let mut degraded = Vec::new();
        let mut hits = Vec::new();
        // Until the first of them is indexed there is no collection.
        if let Some(index) = models.own_vectors.get(&name) {
            let found = async {
                let vector = match vector {
                    Some(vector) => Some(vector),
                    None => index.embeddings(&context).await?.pop().map(|(_, vector)| vector),
                };
                match vector {
                    Some(vector) => index.nearest(&vector, search).await.map(Some),
                    None => Ok(None),
                }
            };
            match within(Instant::from_std(request.deadline), Part::Index, self.timed("own_vectors", found)).await {
                Ok(Some(found)) => hits = found,
                Ok(None) => return Err(RecommendError::NoSuchVector),
                Err(part) => degraded.push(part),
            }
        } else if vector.is_none() {
            return Err(RecommendError::NoSuchVector);
        }
        let page: Vec<Place> = {
            let table = self.columns.read();
            let admitted = hits.into_iter().filter_map(|hit| {
                let facts = eligible.admit(&table, hit.key, request.now)?.clone();
                let features: FeatureVector = Feature::ALL.map(|feature| if feature == Feature::Vectors { hit.score.get() } else { 0.0 });
                let candidate = Candidate { key: hit.key, facts, sources: Sources::of(Source::Vectors), features };
                Some(Place::from(Ranked { candidate, parts: features, boost: 0.0, score: hit.score }))
            });
            admitted.take(request.limit).collect()
        };
        self.metrics.count_degraded(&degraded);
        let recommendation_id = super::new_id();
        self.expose(&recommendation_id, request, &page);
        let item = |(position, place): (usize, Place)| RecommendedItem {
            facts: place.ranked.candidate.facts,
            text: None,
            position,
            score: place.ranked.score.get(),
            probability: None,
            sources: vec![Source::Vectors],
            arranged: None,
            explanation: None,
        };
        let items = (1..).zip(page).map(item).collect();
        Ok(Recommendation { recommendation_id, intent: None, items, next: None, degraded })
    }
}
