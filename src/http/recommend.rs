//! `POST /recommend` and the lists of similar items: JSON in, a checked request; a recommendation, JSON out.

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use axum::{
    extract::{Request, State},
    http::{StatusCode, Uri},
    response::Response,
};
use serde::{Deserialize, Serialize, Serializer, ser::SerializeMap};
use utoipa::{IntoParams, ToSchema};

use crate::{
    domain::{Embedding, FieldError, Filter, Item, ItemId, MAX_TEXT_CHARS, NAME_RULE, SessionId, Timestamp, UserId, is_name},
    recommend::{Boost, Cursor, Intent, MAX_LIMIT, Nearness, Recommendation, RecommendationRequest, RecommendedItem},
};

use super::{
    Desk, body,
    fields::{Selection, Shown},
    json::{self, Object},
    problem::{Kind, Problem},
    uri::{PathId, Query},
};

const DEFAULT_LIMIT: usize = 10;
const MAX_ITEMS: usize = 100;
const MAX_EXCLUDED: usize = 1_000;
const MAX_BOOSTS: usize = 20;
/// The scenario of a request that names none.
const DEFAULT_SCENARIO: &str = "default";
/// The scenario of the lists of similar items.
const SIMILAR_SCENARIO: &str = "similar";

/// What is asked of `/recommend`. Everything is optional; without user, session, text and items it is the popular list.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(examples(json!({"user_id": "u42", "session_id": "s9", "text": "light jacket for rainy hikes", "items": ["sku-7"], "scenario": "home", "limit": 10,
    "filter": {"categories": ["jackets"], "price": {"lte": 120}}, "exclude_items": ["sku-9"], "exclude_seen": true,
    "boosts": [{"filter": {"tags": "new"}, "factor": 1.5}], "diversity": 0.3, "explain": true, "fields": ["title", "price"]})))]
pub(super) struct RecommendBody {
    /// Whose history and taste count.
    user_id: Option<UserId>,
    /// The visit.
    session_id: Option<SessionId>,
    /// What the user typed, said or wrote: a query, a review, a chat line.
    #[schema(max_length = 20_000)]
    text: Option<String>,
    /// What the user looks at now: a product page, the cart.
    #[schema(max_items = 100)]
    items: Option<Vec<ItemId>>,
    /// The place in the shop; it picks the policy and the experiments.
    #[schema(max_length = 64, pattern = "^[A-Za-z0-9_.:-]+$", default = "default")]
    scenario: Option<String>,
    /// How many items.
    #[schema(minimum = 1, maximum = 200, default = 10, value_type = Option<u32>)]
    limit: Option<i64>,
    /// Only items that satisfy it; the filter grammar is described above.
    #[schema(value_type = Option<Object>)]
    filter: Option<serde_json::Value>,
    /// Never these.
    #[schema(max_items = 1_000)]
    exclude_items: Option<Vec<ItemId>>,
    /// Leave out what the user has seen; the preset decides where it is absent.
    exclude_seen: Option<bool>,
    /// More (or less) of some items.
    #[schema(max_items = 20, value_type = Option<Vec<BoostBody>>)]
    boosts: Option<Vec<Object<BoostBody>>>,
    /// 0 (best first) to 1 (as different from each other as can be); without it as the settings say for the scenario.
    #[schema(minimum = 0, maximum = 1)]
    diversity: Option<f64>,
    /// Say why each item is there.
    #[schema(default = false)]
    explain: Option<bool>,
    /// Fields of the items to send along: title, text, categories, tags, language, price, available, created_at, expires_at,
    /// attributes (all) or attributes.NAME.
    fields: Option<Vec<String>>,
    /// The `next` of the previous page; everything else must be as it was there.
    after: Option<String>,
}

/// Items that satisfy `filter` rank higher (factor above 1) or lower (below 1).
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct BoostBody {
    /// Which items.
    #[schema(value_type = Object)]
    filter: serde_json::Value,
    /// How much.
    #[schema(minimum = 0.01, maximum = 100)]
    factor: f64,
}

impl RecommendBody {
    /// All faults at once, or the request and which fields its answer shows.
    fn check(self, desk: &Desk) -> Result<(RecommendationRequest, Option<Selection>), Problem> {
        let mut faults = Vec::new();
        let mut hold = |good: bool, pointer: &str, detail: String| {
            if !good {
                faults.push(FieldError::new(pointer, detail));
            }
        };
        let items = self.items.unwrap_or_default();
        let exclude_items = self.exclude_items.unwrap_or_default();
        let boosts: Vec<_> = self.boosts.unwrap_or_default().into_iter().map(|Object(boost)| boost).collect();
        let scenario = self.scenario.unwrap_or_else(|| DEFAULT_SCENARIO.to_owned());
        let limit = self.limit.map_or(Some(DEFAULT_LIMIT), |limit| usize::try_from(limit).ok()).filter(|limit| (1..=MAX_LIMIT).contains(limit));

        let fits = self.text.as_deref().is_none_or(fits);
        hold(fits, "/text", format!("must have at most {MAX_TEXT_CHARS} characters"));
        hold(items.len() <= MAX_ITEMS, "/items", format!("must have at most {MAX_ITEMS} entries"));
        hold(is_name(&scenario), "/scenario", NAME_RULE.into());
        hold(limit.is_some(), "/limit", format!("must be 1 to {MAX_LIMIT}"));
        hold(exclude_items.len() <= MAX_EXCLUDED, "/exclude_items", format!("must have at most {MAX_EXCLUDED} entries"));
        hold(boosts.len() <= MAX_BOOSTS, "/boosts", format!("must have at most {MAX_BOOSTS} entries"));
        hold(self.diversity.is_none_or(|diversity| (0.0..=1.0).contains(&diversity)), "/diversity", "must be 0 to 1".into());

        let attribute_type = |name: &str| desk.rooms.attribute_type(name);
        let mut read = |json: &serde_json::Value, pointer: &str| match Filter::parse(json, &attribute_type) {
            Ok(filter) => Some(filter),
            Err(fault) => {
                faults.push(fault.under(pointer));
                None
            }
        };
        let filter = self.filter.as_ref().and_then(|filter| read(filter, "/filter"));
        let filters: Vec<_> = boosts.iter().take(MAX_BOOSTS).enumerate().map(|(i, boost)| read(&boost.filter, &format!("/boosts/{i}/filter"))).collect();
        for (i, boost) in boosts.iter().take(MAX_BOOSTS).enumerate() {
            if !(0.01..=100.0).contains(&boost.factor) {
                faults.push(FieldError::new(format!("/boosts/{i}/factor"), "must be 0.01 to 100"));
            }
        }
        let selection = self.fields.map(|names| Selection::of(&names, &mut faults));
        let after = self.after.and_then(|text| Cursor::parse(&text).map_err(|error| faults.push(FieldError::new("/after", error))).ok());
        let (true, Some(limit)) = (faults.is_empty(), limit) else {
            return Err(Problem::invalid(faults));
        };
        let request = RecommendationRequest {
            user_id: self.user_id,
            session_id: self.session_id,
            text: self.text,
            items,
            scenario,
            limit,
            filter,
            exclude_items,
            exclude_seen: self.exclude_seen,
            boosts: filters.into_iter().flatten().zip(boosts).map(|(filter, boost)| Boost { filter, factor: boost.factor as f32 }).collect(),
            diversity: self.diversity.map(|diversity| diversity as f32),
            explain: self.explain.unwrap_or(false),
            with_texts: selection.as_ref().is_some_and(Selection::has_text),
            after,
            now: Timestamp::now(),
            deadline: Instant::now() + desk.deadline,
        };
        Ok((request, selection))
    }
}

/// Whether a text is short enough.
pub(super) fn fits(text: &str) -> bool {
    text.len() <= MAX_TEXT_CHARS || text.chars().count() <= MAX_TEXT_CHARS
}

/// A list of items, and why.
#[derive(Debug, Serialize, ToSchema)]
#[schema(examples(json!({"recommendation_id": "01993f6e-8a70-7c22-b6c1-0d6b8f1f7a10", "scenario": "home", "took_ms": 2.9, "next": null, "experiments": {},
    "intent": {"language": "en", "languages": [{"language": "en", "share": 1.0}], "categories": [{"category": "jackets", "probability": 0.71}],
        "clean_text": "light jacket for rainy hikes, not black", "wanted": "light jacket for rainy hikes", "rejected": ["black"], "truncated": false},
    "items": [{"item_id": "sku-3", "position": 1, "score": 0.93, "probability": 0.04, "sources": ["semantic", "lexical", "collaborative"],
        "fields": {"title": "Drizzle jacket", "price": 89.0},
        "explanation": {"summary": "Matches “light jacket”; people who bought sku-7 liked it",
            "contributions": {"semantic": 0.41, "collaborative": 0.37, "popularity": 0.05, "freshness": 0.02, "boost": 0.08},
            "because": [{"item_id": "sku-7", "contribution": 0.31}], "matched": ["light jacket", "rainy"]}}],
    "degraded": []})))]
pub(super) struct RecommendAnswer<'a> {
    /// Names this answer; send it with the events that follow from it.
    recommendation_id: &'a str,
    /// The place in the shop.
    scenario: &'a str,
    /// Milliseconds spent.
    took_ms: f64,
    /// Send it as `after` for the next page; null when there is nothing more.
    next: Option<String>,
    /// The variant of each experiment that took part.
    experiments: BTreeMap<&'a str, &'a str>,
    /// What was understood of the text; null without one.
    intent: Option<IntentAnswer<'a>>,
    /// Best first.
    items: Vec<ItemAnswer<'a>>,
    /// Parts that could not be used: encoder, index, collaborative, features, store.
    degraded: Vec<&'static str>,
}

/// What was understood of a text.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Intent)]
pub(super) struct IntentAnswer<'a> {
    /// ISO 639-1 code of the language of most of it, where it could be told.
    language: Option<&'static str>,
    /// The languages of a mixed text, largest share first; empty where none can be told.
    languages: Vec<LanguageAnswer>,
    /// Categories that the text is about.
    categories: Vec<CategoryAnswer<'a>>,
    /// The text without markup and what nobody sees.
    clean_text: &'a str,
    /// What was searched for: the text without what it rejects.
    wanted: &'a str,
    /// What the text rejects ("not leather"), in its own words: items that have it come down.
    rejected: &'a [String],
    /// Only the beginning of a long text was encoded.
    truncated: bool,
}

impl<'a> IntentAnswer<'a> {
    pub(super) fn of(intent: &'a Intent) -> Self {
        let share = |share: f32| (f64::from(share) * 1e3).round() / 1e3;
        Self {
            language: intent.language,
            languages: intent.languages.iter().map(|one| LanguageAnswer { language: one.language, share: share(one.share) }).collect(),
            categories: intent.categories.iter().map(|one| CategoryAnswer { category: &one.category, probability: share(one.probability) }).collect(),
            clean_text: &intent.clean_text,
            wanted: &intent.wanted,
            rejected: &intent.rejected,
            truncated: intent.truncated,
        }
    }
}

/// A language of a text.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = IntentLanguage)]
pub(super) struct LanguageAnswer {
    /// ISO 639-1 code.
    language: &'static str,
    /// Of the text, 0 to 1.
    share: f64,
}

/// A category that a text is about.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = IntentCategory)]
pub(super) struct CategoryAnswer<'a> {
    /// As the items name it.
    category: &'a str,
    /// That an item described by the text is in it, 0 to 1; an item may be in several.
    probability: f64,
}

/// One item of a list.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RecommendedItem)]
pub(super) struct ItemAnswer<'a> {
    item_id: &'a str,
    /// 1 for the first of the first page.
    position: usize,
    /// The ranker's additive score before arranging.
    score: f32,
    /// The chance that the user goes on to like it: how often items of such a score did come next, in what training held out. Boosts apart; absent
    /// until a training has seen enough, and from degraded answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    probability: Option<f32>,
    /// Where it was found: semantic, lexical, collaborative, similar, popular, profile, fresh, vectors; nowhere where a rule brought it.
    sources: Vec<&'static str>,
    /// What was asked for in `fields`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    fields: Option<Shown<'a>>,
    /// Why arranging moved it: diversity, cold, explored, quota, repeated, pinned or rule:NAME.
    #[serde(skip_serializing_if = "Option::is_none")]
    arranged: Option<String>,
    /// With `explain`: why it is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    explanation: Option<ExplanationAnswer<'a>>,
}

/// Why an item is there.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Explanation)]
pub(super) struct ExplanationAnswer<'a> {
    /// One sentence.
    summary: &'a str,
    /// Named parts that add up to the score.
    #[serde(serialize_with = "as_map")]
    #[schema(value_type = BTreeMap<String, f32>)]
    contributions: &'a [(&'static str, f32)],
    /// The items of the history, or of the request, that did most of it.
    because: Vec<BecauseAnswer<'a>>,
    /// Words of the request that the item has.
    matched: &'a [String],
}

/// An item that speaks for another.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Because)]
pub(super) struct BecauseAnswer<'a> {
    item_id: &'a str,
    contribution: f32,
}

fn as_map<S: Serializer>(parts: &&[(&'static str, f32)], serializer: S) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(Some(parts.len()))?;
    for (name, part) in *parts {
        map.serialize_entry(name, part)?;
    }
    map.end()
}

impl<'a> RecommendAnswer<'a> {
    fn of(answer: &'a Recommendation, scenario: &'a str, selection: Option<&Selection>, began: Instant) -> Self {
        Self {
            recommendation_id: answer.recommendation_id.as_str(),
            scenario,
            took_ms: (began.elapsed().as_secs_f64() * 1e5).round() / 1e2,
            next: answer.next.as_ref().map(ToString::to_string),
            experiments: BTreeMap::new(),
            intent: answer.intent.as_ref().map(IntentAnswer::of),
            items: answer.items.iter().map(|item| ItemAnswer::of(item, selection)).collect(),
            degraded: answer.degraded.iter().map(|part| part.name()).collect(),
        }
    }
}

impl<'a> ItemAnswer<'a> {
    fn of(item: &'a RecommendedItem, selection: Option<&Selection>) -> Self {
        Self {
            item_id: item.facts.item_id.as_str(),
            position: item.position,
            score: item.score,
            probability: item.probability,
            sources: item.sources.iter().map(|source| source.name()).collect(),
            fields: selection.map(|selection| selection.show(&item.facts, item.text.as_deref())),
            arranged: item.arranged.as_ref().map(ToString::to_string),
            explanation: item.explanation.as_ref().map(|why| ExplanationAnswer {
                summary: &why.summary,
                contributions: &why.contributions,
                because: why.because.iter().map(|(id, contribution)| BecauseAnswer { item_id: id.as_str(), contribution: *contribution }).collect(),
                matched: &why.matched,
            }),
        }
    }
}

/// Recommend items
///
/// For a text, a user, a visit, the items looked at now, or any mix of them.
#[utoipa::path(post, path = "/recommend", tag = "Recommendations", request_body = RecommendBody,
    responses((status = 200, description = "A list, best first", body = RecommendAnswer<'_>)))]
pub(super) async fn recommend(State(desk): State<Arc<Desk>>, request: Request) -> Result<Response, Problem> {
    let began = Instant::now();
    let bytes = body::document(request).await?;
    let asked: RecommendBody = json::parse(json::text(&bytes)?)?;
    let (request, selection) = asked.check(&desk)?;
    respond(&desk, request, selection.as_ref(), began).await
}

/// Query of the lists of similar items.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "describes the query in the OpenAPI document; uri::Query reads it")]
pub(super) struct SimilarQuery {
    /// How many items.
    #[param(minimum = 1, maximum = 200, default = 10)]
    limit: Option<u32>,
    /// The name of one of the item's own `vectors`, such as `image`: then the list is of what is nearest by it, with the cosine as the score.
    by: Option<String>,
}

/// List similar items
///
/// What goes with an item: by its words, its meaning, its own vectors and by what others liked; or only by the own vector that `by` names. Knows
/// nothing of a user.
#[utoipa::path(get, path = "/items/{item_id}/similar", tag = "Recommendations", params(("item_id" = ItemId, Path, description = "percent-encoded"), SimilarQuery),
    responses((status = 200, description = "A list, best first, without the item itself", body = RecommendAnswer<'_>)))]
pub(super) async fn similar(State(desk): State<Arc<Desk>>, uri: Uri, PathId(item): PathId<ItemId>) -> Result<Response, Problem> {
    let query = Query::read(&uri, &["limit", "by"])?;
    similar_to(&desk, item, &query).await
}

/// List similar items (query twin)
///
/// The same as `/items/{item_id}/similar`, for proxies that break percent-encoded paths.
#[utoipa::path(get, path = "/similar", tag = "Recommendations", params(("item_id" = ItemId, Query), SimilarQuery),
    responses((status = 200, description = "A list, best first, without the item itself", body = RecommendAnswer<'_>)))]
pub(super) async fn similar_twin(State(desk): State<Arc<Desk>>, uri: Uri) -> Result<Response, Problem> {
    let query = Query::read(&uri, &["item_id", "limit", "by"])?;
    similar_to(&desk, query.id::<ItemId>()?, &query).await
}

async fn similar_to(desk: &Desk, item: ItemId, query: &Query) -> Result<Response, Problem> {
    let began = Instant::now();
    let limit = query.limit(DEFAULT_LIMIT, MAX_LIMIT)?;
    let known = match desk.catalogue.item(&item).await {
        Ok(Some(known)) => Some(known),
        Ok(None) => return Err(Problem::new(Kind::NotFound, "there is no such item")),
        // The list comes from the index and the weights: it does not need the database.
        Err(error) => {
            tracing::warn!(%error, "a list of similar items goes out unchecked: {error}");
            None
        }
    };
    let by = query.get("by").map(|name| nearness(name, known.as_deref())).transpose()?;
    let request = RecommendationRequest {
        user_id: None,
        session_id: None,
        text: None,
        items: vec![item.clone()],
        scenario: SIMILAR_SCENARIO.to_owned(),
        limit,
        filter: None,
        exclude_items: vec![item],
        exclude_seen: None,
        boosts: Vec::new(),
        diversity: None,
        explain: false,
        with_texts: false,
        after: None,
        now: Timestamp::now(),
        deadline: began + desk.deadline,
    };
    match by {
        Some(by) => {
            let answer = desk.rooms.nearest(request, by).await?;
            Ok(json::answer(StatusCode::OK, &RecommendAnswer::of(&answer, SIMILAR_SCENARIO, None, began)))
        }
        None => respond(desk, request, None, began).await,
    }
}

/// By what neighbours are looked for, if the item, where it could be read, has a vector of that name.
fn nearness(name: &str, item: Option<&Item>) -> Result<Nearness, Problem> {
    let vector = match item {
        Some(item) => Some(own_vector(name, item).map_err(|detail| Problem::invalid(vec![FieldError::new("/by", detail)]))?),
        None => None,
    };
    Ok(Nearness { name: name.to_owned(), vector })
}

fn own_vector(name: &str, item: &Item) -> Result<Embedding, String> {
    match item.vectors.get(name).map(|vector| Embedding::new(vector.clone())) {
        Some(vector) => vector.map_err(|error| format!("names a vector that {error}")),
        None if item.vectors.is_empty() => Err("must name a vector of the item, and the item has none".to_owned()),
        None => Err(format!("must name a vector of the item: {}", item.vectors.keys().map(String::as_str).collect::<Vec<_>>().join(", "))),
    }
}

async fn respond(desk: &Desk, request: RecommendationRequest, selection: Option<&Selection>, began: Instant) -> Result<Response, Problem> {
    let scenario = request.scenario.clone();
    let answer = desk.rooms.recommend(request).await?;
    Ok(json::answer(StatusCode::OK, &RecommendAnswer::of(&answer, &scenario, selection, began)))
}
