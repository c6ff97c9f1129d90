//! The doors through the real router, without a socket. The rooms behind them answer from memory, so no model is needed.

mod access;
mod bad_input;
mod contract;
mod described;
mod luck;
mod random;
mod reindex;
mod rules;
mod users;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use async_trait::async_trait;
use axum::{
    Router,
    body::{Body, Bytes},
    http::{HeaderMap, Request, StatusCode},
};
use http_body_util::BodyExt;
use serde_json::{Value as Json, json};
use tower::ServiceExt;

use crate::{
    domain::{
        Actor, AttributeType, Embedding, Event, EventId, Exposure, FieldError, Item, ItemFacts, ItemId, LoggedEvent, RecommendationId, RuleDocument, RuleName,
        SessionId, ShownItem, Source, Timestamp, UserId,
    },
    encoder::Precision,
    features::{FeatureSettings, MAX_RULES, Origin, Preset, Signals, WrittenRule},
    ingest::{EventOutcome, IngestError, ItemOutcome, PatchOutcome},
    recommend::{
        CategoryProbability, Explanation, Intent, LanguageShare, Nearness, Part, Person, RecommendError, Recommendation, RecommendationRequest,
        RecommendedItem, Understanding,
    },
    store::{Alias, Merged, Receipt, RuleOutcome, TypeCount},
    telemetry::Registry,
    training::TrainError,
};

use super::{
    BuiltBy, Catalogue, CatalogueError, Counts, HttpSettings, KeySettings, PartState, Phase, Readiness, ReindexError, ReindexPhase, ReindexProgress,
    ReindexRequest, ReindexState, assemble, rooms::Rooms,
};

/// How the rooms behave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mood {
    Well,
    Overloaded,
    Broken,
    Slow,
    Panicking,
}

/// Rooms that keep everything in memory and answer with what they have.
struct Shop {
    items: Mutex<BTreeMap<ItemId, Arc<Item>>>,
    events: Mutex<Vec<Event>>,
    /// How many answers everybody was given.
    exposures: Mutex<usize>,
    seen: Mutex<BTreeSet<EventId>>,
    writes: AtomicUsize,
    requests: Mutex<Vec<RecommendationRequest>>,
    reindex: Mutex<Option<ReindexRequest>>,
    rules: Mutex<BTreeMap<RuleName, RuleDocument>>,
    mood: Mutex<Mood>,
}

impl Shop {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            items: Mutex::default(),
            events: Mutex::default(),
            exposures: Mutex::default(),
            seen: Mutex::default(),
            writes: AtomicUsize::new(0),
            requests: Mutex::default(),
            reindex: Mutex::default(),
            rules: Mutex::default(),
            mood: Mutex::new(Mood::Well),
        })
    }

    fn become_(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    async fn ingest_mood(&self) -> Result<(), IngestError> {
        let mood = *self.mood.lock().unwrap();
        match mood {
            Mood::Well => Ok(()),
            Mood::Overloaded => Err(IngestError::Overloaded),
            Mood::Broken => Err(IngestError::Unavailable("disk on fire".into())),
            Mood::Slow => std::future::pending().await,
            Mood::Panicking => panic!("on purpose"),
        }
    }

    fn readable(&self) -> Result<(), CatalogueError> {
        if *self.mood.lock().unwrap() == Mood::Broken { Err(CatalogueError::Unavailable("disk on fire".into())) } else { Ok(()) }
    }

    fn events_by(&self, actor: &Actor) -> Vec<Event> {
        self.events.lock().unwrap().iter().filter(|event| event.actor().as_ref() == Some(actor)).cloned().collect()
    }

    fn put(&self, item: Item) -> ItemOutcome {
        let faults = item.faults();
        if !faults.is_empty() {
            return ItemOutcome::Rejected(faults);
        }
        let item = Arc::new(item);
        match self.items.lock().unwrap().insert(item.item_id.clone(), Arc::clone(&item)) {
            None => ItemOutcome::Created(item),
            Some(old) if *old == *item => ItemOutcome::Unchanged(item),
            Some(_) => ItemOutcome::Updated(item),
        }
    }
}

#[async_trait]
impl Rooms for Shop {
    async fn recommend(&self, request: RecommendationRequest) -> Result<Recommendation, RecommendError> {
        if *self.mood.lock().unwrap() == Mood::Slow {
            std::future::pending::<()>().await;
        }
        assert_ne!(*self.mood.lock().unwrap(), Mood::Panicking, "on purpose");
        if request.after.is_some() {
            return Err(RecommendError::ForeignCursor);
        }
        self.requests.lock().unwrap().push(request.clone());
        let items = self.items.lock().unwrap();
        let wanted = items.values().filter(|item| !request.exclude_items.contains(&item.item_id)).take(request.limit);
        Ok(Recommendation {
            recommendation_id: RecommendationId::new("r-1").unwrap(),
            intent: request.text.as_ref().map(|text| Intent {
                language: Some("en"),
                clean_text: text.trim().to_owned(),
                wanted: text.trim().to_owned(),
                ..Intent::default()
            }),
            items: wanted
                .enumerate()
                .map(|(i, item)| RecommendedItem {
                    facts: Arc::new(ItemFacts::from(&**item)),
                    text: request.with_texts.then(|| item.text.clone()).flatten(),
                    position: i + 1,
                    score: 0.93,
                    probability: Some(0.25),
                    sources: vec![Source::Semantic, Source::Lexical],
                    arranged: None,
                    explanation: request.explain.then(|| Explanation {
                        summary: "Matches “tent”".into(),
                        contributions: vec![("text", 0.9), ("boost", 0.03)],
                        because: vec![(ItemId::new("sku-7").unwrap(), 0.31)],
                        matched: vec!["tent".into()],
                    }),
                })
                .collect(),
            next: None,
            degraded: vec![Part::Index],
        })
    }

    async fn nearest(&self, request: RecommendationRequest, by: Nearness) -> Result<Recommendation, RecommendError> {
        let vector_of = |item: &Item| Some(Embedding::new(item.vectors.get(&by.name)?.clone()).unwrap());
        let items = self.items.lock().unwrap();
        let vector = by.vector.clone().or_else(|| vector_of(items.get(&request.items[0])?)).ok_or(RecommendError::NoSuchVector)?;
        let near = items.values().filter(|item| !request.exclude_items.contains(&item.item_id));
        let mut near: Vec<_> = near.filter_map(|item| Some((vector_of(item)?.cosine(&vector), item))).collect();
        near.sort_by(|a, b| b.0.total_cmp(&a.0));
        let shown = |(place, (score, item)): (usize, &(f32, &Arc<Item>))| RecommendedItem {
            facts: Arc::new(ItemFacts::from(&***item)),
            text: None,
            position: place + 1,
            score: *score,
            probability: None,
            sources: vec![Source::Vectors],
            arranged: None,
            explanation: None,
        };
        Ok(Recommendation {
            recommendation_id: RecommendationId::new("r-2").unwrap(),
            intent: None,
            items: near.iter().take(request.limit).enumerate().map(shown).collect(),
            next: None,
            degraded: Vec::new(),
        })
    }

    async fn understand(&self, text: &str, deadline: Instant) -> Understanding {
        assert!(deadline > Instant::now(), "there is time left");
        assert_ne!(*self.mood.lock().unwrap(), Mood::Panicking, "on purpose");
        if *self.mood.lock().unwrap() == Mood::Slow {
            std::future::pending::<()>().await;
        }
        Understanding {
            intent: Intent {
                language: Some("en"),
                languages: vec![LanguageShare { language: "en", share: 1.0 }],
                categories: vec![CategoryProbability { category: "tents".into(), probability: 0.71 }],
                clean_text: text.to_owned(),
                wanted: "tent".to_owned(),
                rejected: vec!["red".to_owned()],
                truncated: false,
            },
            degraded: vec![Part::Encoder],
        }
    }

    fn attribute_type(&self, name: &str) -> Option<AttributeType> {
        (name == "brand").then_some(AttributeType::Text)
    }

    async fn events(&self, events: Vec<Event>, now: Timestamp) -> Result<Vec<EventOutcome>, IngestError> {
        self.ingest_mood().await?;
        self.writes.fetch_add(1, Ordering::Relaxed);
        let signals = Signals::new(&FeatureSettings::of(Preset::Shop)).unwrap();
        let judge = |event: Event| {
            let faults = signals.faults(&event, now);
            if !faults.is_empty() {
                return EventOutcome::Rejected(faults);
            }
            if event.event_id.as_ref().is_some_and(|id| !self.seen.lock().unwrap().insert(id.clone())) {
                return EventOutcome::Duplicate;
            }
            self.events.lock().unwrap().push(event);
            EventOutcome::Accepted
        };
        Ok(events.into_iter().map(judge).collect())
    }

    async fn put_items(&self, items: Vec<Item>) -> Result<Vec<ItemOutcome>, IngestError> {
        self.ingest_mood().await?;
        self.writes.fetch_add(1, Ordering::Relaxed);
        Ok(items.into_iter().map(|item| self.put(item)).collect())
    }

    async fn patch_item(&self, id: &ItemId, patch: Json) -> Result<PatchOutcome, IngestError> {
        self.ingest_mood().await?;
        let Some(old) = self.items.lock().unwrap().get(id).cloned() else { return Ok(PatchOutcome::Missing) };
        let mut merged = serde_json::to_value(&*old).unwrap();
        for (name, value) in patch.as_object().unwrap() {
            merged[name] = value.clone();
        }
        let Ok(item) = serde_json::from_value(merged) else {
            return Ok(PatchOutcome::Rejected(vec![crate::domain::FieldError::new("/price", "must be a number")]));
        };
        match self.put(item) {
            ItemOutcome::Rejected(faults) => Ok(PatchOutcome::Rejected(faults)),
            ItemOutcome::Created(item) | ItemOutcome::Updated(item) | ItemOutcome::Unchanged(item) => Ok(PatchOutcome::Patched(item)),
        }
    }

    async fn delete_item(&self, id: &ItemId) -> Result<bool, IngestError> {
        self.ingest_mood().await?;
        Ok(self.items.lock().unwrap().remove(id).is_some())
    }

    async fn pending(&self) -> Result<u64, IngestError> {
        Ok(3)
    }

    async fn person(&self, user: &UserId) -> Result<Person, CatalogueError> {
        self.readable()?;
        let events = self.events_by(&Actor::User(user.clone()));
        let kind = |event: &Event| TypeCount { kind: event.kind.name().to_owned(), count: events.len() as u64, first: at(5), last: at(9) };
        Ok(Person {
            user: user.clone(),
            aliases: Vec::new(),
            event_types: events.first().map(kind).into_iter().collect(),
            exposures: 4,
            languages: vec![("en".into(), 1.0)],
            liked_categories: vec![("tents".into(), 2.5)],
            recent_items: Vec::new(),
        })
    }

    async fn names(&self, user: &UserId) -> Result<(UserId, Vec<Alias>), CatalogueError> {
        self.readable()?;
        Ok((user.clone(), vec![Alias { name: Actor::Session(SessionId::new("s9").unwrap()), at: at(7) }]))
    }

    async fn events_of(&self, user: &UserId, after: Option<&LoggedEvent>, limit: usize) -> Result<Vec<LoggedEvent>, CatalogueError> {
        self.readable()?;
        let all = self.events_by(&Actor::User(user.clone())).into_iter().zip(1..).map(|(event, sequence)| LoggedEvent { sequence, event });
        Ok(all.filter(|logged| after.is_none_or(|after| logged.sequence > after.sequence)).take(limit).collect())
    }

    async fn exposures_of(&self, user: &UserId, after: Option<&RecommendationId>, limit: usize) -> Result<Vec<Exposure>, CatalogueError> {
        self.readable()?;
        let exposure = |i: usize| Exposure {
            recommendation_id: RecommendationId::new(format!("r{i:04}")).unwrap(),
            at: at(1),
            user_id: Some(user.clone()),
            session_id: None,
            scenario: "home".into(),
            items: vec![ShownItem::certain(ItemId::new("sku-1").unwrap(), [0.5; crate::domain::Feature::ALL.len()])],
        };
        let all = (0..*self.exposures.lock().unwrap()).map(exposure);
        Ok(all.filter(|exposure| after.is_none_or(|after| exposure.recommendation_id > *after)).take(limit).collect())
    }

    async fn merge(&self, from: Actor, into: UserId, _: Timestamp) -> Result<Merged, IngestError> {
        self.ingest_mood().await?;
        let mut moved = 0;
        for event in self.events.lock().unwrap().iter_mut().filter(|event| event.actor() == Some(from.clone())) {
            event.user_id = Some(into.clone());
            moved += 1;
        }
        Ok(Merged { user: into, events: moved, exposures: 0, involved: vec![from] })
    }

    async fn erase(&self, whom: Actor, _: Timestamp) -> Result<Receipt, IngestError> {
        self.ingest_mood().await?;
        let events = self.events_by(&whom).len() as u64;
        self.events.lock().unwrap().retain(|event| event.actor() != Some(whom.clone()));
        Ok(Receipt { events, exposures: 0, aliases: 0, names: vec![whom] })
    }

    fn rules(&self) -> Vec<WrittenRule> {
        self.rules.lock().unwrap().values().map(|document| WrittenRule { document: document.clone(), origin: Origin::Store }).collect()
    }

    fn rule(&self, name: &RuleName) -> Option<WrittenRule> {
        if name.as_str() == "of-the-settings" {
            let document = serde_json::from_value(json!({"name": name, "exclude": {}})).unwrap();
            return Some(WrittenRule { document, origin: Origin::Settings });
        }
        self.rules.lock().unwrap().get(name).map(|document| WrittenRule { document: document.clone(), origin: Origin::Store })
    }

    async fn put_rule(&self, rule: &RuleDocument) -> Result<RuleOutcome, IngestError> {
        self.ingest_mood().await?;
        let mut rules = self.rules.lock().unwrap();
        if rules.len() == MAX_RULES && !rules.contains_key(&rule.name) {
            return Ok(RuleOutcome::Full);
        }
        Ok(if rules.insert(rule.name.clone(), rule.clone()).is_some() { RuleOutcome::Present } else { RuleOutcome::Absent })
    }

    async fn delete_rule(&self, name: &RuleName) -> Result<RuleOutcome, IngestError> {
        self.ingest_mood().await?;
        Ok(if self.rules.lock().unwrap().remove(name).is_some() { RuleOutcome::Present } else { RuleOutcome::Absent })
    }

    async fn train(&self) -> Result<Json, TrainError> {
        let mood = *self.mood.lock().unwrap();
        match mood {
            Mood::Overloaded => Err(TrainError::Busy),
            Mood::Broken => Err(TrainError::Failed("disk on fire".into())),
            Mood::Slow => std::future::pending().await,
            Mood::Well | Mood::Panicking => Ok(json!({"published": 1})),
        }
    }

    fn training(&self) -> Json {
        json!({"running": *self.mood.lock().unwrap() == Mood::Slow})
    }

    async fn reindex(&self, asked: ReindexRequest) -> Result<ReindexState, ReindexError> {
        let mood = *self.mood.lock().unwrap();
        match (mood, asked.model.as_deref()) {
            (Mood::Overloaded, _) => Err(ReindexError::Busy),
            (Mood::Broken, _) => Err(ReindexError::Failed("disk on fire".into())),
            (_, Some("unknown")) => Err(ReindexError::Refused(vec![FieldError::new("/model", "`inkling model fetch unknown` prepares it")])),
            _ => {
                *self.reindex.lock().unwrap() = Some(asked);
                Ok(self.reindexing())
            }
        }
    }

    fn reindexing(&self) -> ReindexState {
        let asked = self.reindex.lock().unwrap();
        let model = |asked: &ReindexRequest| asked.model.clone().unwrap_or("small".to_owned());
        ReindexState {
            catalogue: "0199a000-0000-7000-8000-000000000001".into(),
            running: asked.as_ref().map(|asked| ReindexProgress {
                model: model(asked),
                precision: asked.precision.unwrap_or(Precision::Int8),
                phase: ReindexPhase::Filling,
                done: 3,
                total: 7,
            }),
            serving: BuiltBy { model: "small".into(), precision: Precision::Int8, encoder_version: "small-int8".into(), collection: "small-int8".into() },
            last: None,
            change_settings: asked.iter().map(|asked| ("encoder.model".to_owned(), json!(model(asked)))).collect(),
        }
    }
}

#[async_trait]
impl Catalogue for Shop {
    async fn item(&self, id: &ItemId) -> Result<Option<Arc<Item>>, CatalogueError> {
        if *self.mood.lock().unwrap() == Mood::Broken {
            return Err(CatalogueError::Unavailable("disk on fire".into()));
        }
        Ok(self.items.lock().unwrap().get(id).cloned())
    }

    async fn page(&self, after: Option<&ItemId>, limit: usize) -> Result<Vec<Arc<Item>>, CatalogueError> {
        Ok(self.items.lock().unwrap().values().filter(|item| after.is_none_or(|after| item.item_id > *after)).take(limit).cloned().collect())
    }

    async fn counts(&self) -> Result<Counts, CatalogueError> {
        Ok(Counts { items: self.items.lock().unwrap().len() as u64, events: self.events.lock().unwrap().len() as u64 })
    }
}

/// A shop behind its doors.
struct World {
    router: Router,
    shop: Arc<Shop>,
    readiness: Readiness,
}

/// What came back.
struct Reply {
    status: StatusCode,
    headers: HeaderMap,
    bytes: Bytes,
}

impl Reply {
    fn json(&self) -> Json {
        serde_json::from_slice(&self.bytes).unwrap_or_else(|error| panic!("{error}: {:?}", self.text()))
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The pointers of a problem; checks what every problem must have.
    fn pointers(&self) -> Vec<String> {
        let problem = self.json();
        assert_eq!(self.header("content-type"), "application/problem+json", "{problem}");
        assert_eq!(problem["status"], self.status.as_u16(), "{problem}");
        assert!(problem["type"].as_str().unwrap().starts_with("/problems/"), "{problem}");
        assert!(!problem["title"].as_str().unwrap().is_empty() && !problem["detail"].as_str().unwrap().is_empty(), "{problem}");
        let errors = problem["errors"].as_array().map(Vec::as_slice).unwrap_or_default();
        errors.iter().map(|error| error["pointer"].as_str().unwrap().to_owned()).collect()
    }
}

fn settings() -> HttpSettings {
    HttpSettings {
        listen: "127.0.0.1:0".into(),
        request_timeout_ms: 2_000,
        body_limit_mb: 4,
        max_in_flight: 16,
        deadline_ms: 250,
        cors_origins: Vec::new(),
        open_metrics: false,
        drain_seconds: 1.0,
        keys: KeySettings::default(),
    }
}

impl World {
    fn new() -> Self {
        Self::with(&settings())
    }

    fn with(settings: &HttpSettings) -> Self {
        let shop = Shop::new();
        let registry = Registry::new();
        let readiness = Readiness::new(&registry).unwrap();
        let router = assemble(Arc::clone(&shop) as _, Arc::clone(&shop) as _, readiness.clone(), registry, settings).unwrap();
        Self { router, shop, readiness }
    }

    /// With a tent and a stove.
    fn stocked() -> Self {
        let world = Self::new();
        for item in [
            json!({"item_id": "sku-1", "title": "Tent", "text": "For two.", "price": 120, "attributes": {"brand": "Fjell"}}),
            json!({"item_id": "商品/七 ü", "title": "Stove", "tags": ["new"]}),
        ] {
            world.shop.put(serde_json::from_value(item).unwrap());
        }
        world
    }

    async fn send(&self, request: Request<Body>) -> Reply {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (head, body) = response.into_parts();
        Reply { status: head.status, headers: head.headers, bytes: body.collect().await.unwrap().to_bytes() }
    }

    /// `headers`: lines such as `content-type: text/plain`.
    async fn ask(&self, method: &str, uri: &str, headers: &[&str], body: impl Into<Body>) -> Reply {
        let mut request = Request::builder().method(method).uri(uri);
        for header in headers {
            let (name, value) = header.split_once(": ").unwrap();
            request = request.header(name, value);
        }
        self.send(request.body(body.into()).unwrap()).await
    }

    async fn get(&self, uri: &str) -> Reply {
        self.ask("GET", uri, &[], Body::empty()).await
    }

    async fn post(&self, uri: &str, body: &Json) -> Reply {
        self.ask("POST", uri, &["content-type: application/json"], body.to_string()).await
    }

    fn become_ready(&self) {
        self.readiness.enter(Phase::Serving);
        self.readiness.set(Part::Index, PartState::Up);
    }
}

fn at(ms: i64) -> Timestamp {
    Timestamp::from_millis(ms).unwrap()
}

fn patience() -> Duration {
    Duration::from_millis(settings().request_timeout_ms)
}
