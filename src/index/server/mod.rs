//! A Qdrant server (1.16 or newer) over gRPC: one collection for all replicas. In and out as for every [`VectorIndex`].
//!
//! Nothing is mirrored here: the server scores given items too, so a replica needs no memory for vectors, starts at once beside a collection of
//! any size, and sees what other replicas write as soon as it is written. In exchange each of those calls is a round trip (about a millisecond;
//! embeddings are 1.5 kB an item on the wire), where the embedded engine answers from memory.
//!
//! A point carries the revision of the item's state, and every write has the condition that no newer one is there. Deleted items leave a
//! tombstone without vectors, so that this holds for them too.

mod breaker;
mod failure;
#[cfg(test)]
pub(super) mod tests;
mod wire;

use std::{
    collections::{HashMap, HashSet},
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use ::qdrant_client::{
    Qdrant, QdrantError,
    qdrant::{
        CountPoints, CreateFieldIndexCollection, DeleteCollection, GetPoints, PointId, QueryBatchPoints, QueryPoints, ScoredPoint, UpdateBatchPoints,
        UpdateCollection, VectorsSelector, vector_output::Vector as WireVector, vectors_output::VectorsOptions, with_vectors_selector::SelectorOptions,
    },
};
use async_trait::async_trait;
use rustc_hash::FxHashMap;
use tokio::sync::{Semaphore, TryAcquireError};

use super::{
    Hit, Home, IndexError, IndexMetrics, IndexPoint, IndexSettings, LexicalSettings, QueryTerms, Search, ServerUrl, VectorIndex, last_of_each_key,
    payload::{self, Kind, MAX_ATTRIBUTE_INDEXES},
    shape::Shape,
};
use crate::domain::{Embedding, ItemKey, Revision, Score};
use breaker::Breaker;
use wire::Write;

/// What a collection was built for, under this name in its metadata.
const SHAPE: &str = "inkling_shape";
/// Whose items it holds.
const CATALOGUE: &str = "inkling_catalogue";
/// What its owner has to say of it.
const MARK: &str = "inkling_mark";
/// Calls under way at once; more are refused.
const MOST_CALLS: usize = 512;
/// Connections; calls take turns. One carries 100 calls at once.
const CONNECTIONS: usize = 3;

/// The server and how it is doing; cheap to clone.
#[derive(Clone)]
pub(super) struct Server(Arc<Inner>);

struct Inner {
    client: Qdrant,
    url: ServerUrl,
    settings: IndexSettings,
    catalogue: String,
    breaker: Breaker,
    calls: Arc<Semaphore>,
    metrics: IndexMetrics,
}

impl Server {
    /// Connects at the first call. Fails when the settings cannot be understood.
    pub(super) fn new(url: &ServerUrl, settings: &IndexSettings, home: &Home, metrics: IndexMetrics) -> Result<Self, IndexError> {
        let timeout = Duration::from_millis(settings.timeout_ms.max(1));
        let patience = timeout.max(Duration::from_millis(settings.write_timeout_ms));
        let mut config = Qdrant::from_url(&url.to_string()).timeout(patience).connect_timeout(timeout).keep_alive_while_idle().skip_compatibility_check();
        config.set_pool_size(CONNECTIONS);
        if let Some(key) = &settings.api_key {
            if url.is_open_road() {
                tracing::warn!("index.api_key goes to {url} unencrypted; https:// would hide it");
            }
            config.set_api_key(key.shown());
        }
        let client = config.build().map_err(|error| IndexError::Engine(error.to_string()))?;
        let breaker = Breaker::new(metrics.circuit_open.clone());
        let (catalogue, calls) = (home.catalogue.clone(), Arc::new(Semaphore::new(MOST_CALLS)));
        Ok(Self(Arc::new(Inner { client, url: url.clone(), settings: settings.clone(), catalogue, breaker, calls, metrics })))
    }

    /// The collection's name on the server.
    fn full_name(&self, name: &str) -> String {
        format!("{}{name}", self.0.settings.collection_prefix)
    }

    /// Where the collection is, for people.
    pub(super) fn place(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("{}/collections/{}", self.0.url, self.full_name(name)))
    }

    /// Makes a call, unless the server is known to be gone. It goes on when nobody waits for it any more, so that a server that is slower than
    /// everybody's patience is found out too.
    async fn call<T: Send + 'static, F>(&self, patience: Duration, call: impl FnOnce(Qdrant) -> F) -> Result<T, IndexError>
    where
        F: Future<Output = Result<T, QdrantError>> + Send + 'static,
    {
        let permit = Arc::clone(&self.0.calls).try_acquire_owned().map_err(|error| match error {
            TryAcquireError::NoPermits => IndexError::Overloaded,
            TryAcquireError::Closed => IndexError::Engine("the process is stopping".to_owned()),
        })?;
        if !self.0.breaker.admits(Instant::now()) {
            return Err(IndexError::Unavailable(format!("{} did not answer lately", self.0.url)));
        }
        let (server, work) = (self.clone(), call(self.0.client.clone()));
        let outcome = tokio::spawn(async move {
            let _permit = permit;
            let outcome = match tokio::time::timeout(patience, work).await {
                Ok(outcome) => outcome.map_err(|error| failure::of(&error, &server.0.url, server.0.settings.api_key.is_some())),
                Err(_) => Err(IndexError::Unavailable(format!("{} took longer than {patience:?}", server.0.url))),
            };
            let answered = !matches!(outcome, Err(IndexError::Unavailable(_)));
            if server.0.breaker.note(answered, Instant::now()) {
                let url = &server.0.url;
                if answered {
                    tracing::info!("the index at {url} answers again");
                } else {
                    tracing::warn!("the index at {url} does not answer: requests go without it until it does");
                }
            }
            outcome
        });
        outcome.await.map_err(|_| IndexError::Engine("the call stopped unexpectedly".to_owned()))?
    }

    async fn read<T: Send + 'static, F>(&self, call: impl FnOnce(Qdrant) -> F) -> Result<T, IndexError>
    where
        F: Future<Output = Result<T, QdrantError>> + Send + 'static,
    {
        self.call(Duration::from_millis(self.0.settings.timeout_ms.max(1)), call).await
    }

    async fn write<T: Send + 'static, F>(&self, call: impl FnOnce(Qdrant) -> F) -> Result<T, IndexError>
    where
        F: Future<Output = Result<T, QdrantError>> + Send + 'static,
    {
        self.call(Duration::from_millis(self.0.settings.write_timeout_ms.max(1)), call).await
    }

    /// Opens the collection, or makes it; `true` if it is new.
    pub(super) async fn open(&self, name: &str, width: usize, lexical: &LexicalSettings) -> Result<(ServerIndex, bool), IndexError> {
        let version = self.read(|client| async move { client.health_check().await }).await?.version;
        if !is_new_enough(&version) {
            return Err(IndexError::Engine(format!("the server at {} is Qdrant {version}; 1.16 or newer is needed", self.0.url)));
        }
        let shape = Shape::new(width, lexical.clone());
        let full = self.full_name(name);
        let mut found = self.metadata(name).await?;
        let is_new = found.is_none();
        if is_new {
            let shape = serde_json::to_string(&shape).map_err(|error| IndexError::Engine(error.to_string()))?;
            let metadata = [(SHAPE.to_owned(), wire::text(shape)), (CATALOGUE.to_owned(), wire::text(self.0.catalogue.clone()))].into();
            let collection = wire::collection(full.clone(), width, &self.0.settings, metadata);
            match self.write(|client| async move { client.create_collection(collection).await }).await {
                Ok(_) => {}
                // Another replica was faster.
                Err(error) => found = Some(self.metadata(name).await?.ok_or(error)?),
            }
        }
        if let Some(metadata) = &found {
            self.is_ours(name, metadata)?;
            shape.check(metadata.get(SHAPE).map(String::as_str), &self.place(name))?;
        }
        let index = ServerIndex { server: self.clone(), name: full, width, indexed: Mutex::default() };
        index.index_fields(wire::indexed_keys()).await?;
        Ok((index, is_new && found.is_none()))
    }

    fn is_ours(&self, name: &str, metadata: &HashMap<String, String>) -> Result<(), IndexError> {
        let owner = metadata.get(CATALOGUE);
        if owner == Some(&self.0.catalogue) {
            return Ok(());
        }
        let found = if owner.is_some() { "the items of another catalogue, or of this one before a restore" } else { "what another program made" };
        Err(IndexError::Foreign { place: self.place(name).display().to_string(), found })
    }

    /// The texts that stand with a collection; `None` where there is none.
    async fn metadata(&self, name: &str) -> Result<Option<HashMap<String, String>>, IndexError> {
        let full = self.full_name(name);
        let exists = {
            let full = full.clone();
            self.read(|client| async move { client.collection_exists(full).await }).await?
        };
        if !exists {
            return Ok(None);
        }
        let info = self.read(|client| async move { client.collection_info(full).await }).await?;
        let metadata = info.result.and_then(|info| info.config).map(|config| config.metadata).unwrap_or_default();
        Ok(Some(metadata.into_iter().filter_map(|(key, value)| Some((key, wire::as_text(&value)?.to_owned()))).collect()))
    }

    /// This catalogue's collections, each with its mark.
    pub(super) async fn names(&self) -> Result<Vec<(String, Option<String>)>, IndexError> {
        let all = self.read(|client| async move { client.list_collections().await }).await?;
        let mut names = Vec::new();
        for collection in all.collections {
            let Some(name) = collection.name.strip_prefix(&self.0.settings.collection_prefix) else { continue };
            if let Some(mut metadata) = self.metadata(name).await?
                && metadata.get(CATALOGUE) == Some(&self.0.catalogue)
            {
                names.push((name.to_owned(), metadata.remove(MARK)));
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    pub(super) async fn mark(&self, name: &str, mark: String) -> Result<(), IndexError> {
        let update = UpdateCollection { collection_name: self.full_name(name), metadata: [(MARK.to_owned(), wire::text(mark))].into(), ..Default::default() };
        self.write(|client| async move { client.update_collection(update).await }).await.map(drop)
    }

    /// Takes the collection away, if it is this catalogue's; one that is gone is no error.
    pub(super) async fn discard(&self, name: &str) -> Result<(), IndexError> {
        let Some(metadata) = self.metadata(name).await? else { return Ok(()) };
        self.is_ours(name, &metadata)?;
        let delete = DeleteCollection { collection_name: self.full_name(name), ..DeleteCollection::default() };
        self.write(|client| async move { client.delete_collection(delete).await }).await.map(drop)
    }
}

/// Conditions on writes, and metadata of collections.
fn is_new_enough(version: &str) -> bool {
    let mut numbers = version.trim_start_matches('v').split('.').map_while(|number| number.parse::<u32>().ok());
    (numbers.next(), numbers.next()) >= (Some(1), Some(16))
}

/// One collection on the server.
pub(super) struct ServerIndex {
    server: Server,
    /// With the prefix.
    name: String,
    width: usize,
    /// Payload keys that are known to have an index.
    indexed: Mutex<HashSet<String>>,
}

impl ServerIndex {
    fn check_width(&self, embedding: &Embedding) -> Result<(), IndexError> {
        if embedding.len() == self.width { Ok(()) } else { Err(IndexError::Width { found: embedding.len(), wanted: self.width }) }
    }

    fn settings(&self) -> &IndexSettings {
        &self.server.0.settings
    }

    fn metrics(&self) -> &IndexMetrics {
        &self.server.0.metrics
    }

    async fn index_fields(&self, fields: impl IntoIterator<Item = (String, Kind)>) -> Result<(), IndexError> {
        let most = wire::indexed_keys().len() + MAX_ATTRIBUTE_INDEXES;
        for (key, kind) in fields {
            {
                let indexed = self.indexed.lock().unwrap_or_else(PoisonError::into_inner);
                if indexed.contains(&key) || indexed.len() >= most {
                    continue;
                }
            }
            let create = CreateFieldIndexCollection {
                collection_name: self.name.clone(),
                wait: Some(true),
                field_name: key.clone(),
                field_type: Some(wire::field_type(kind).into()),
                ..CreateFieldIndexCollection::default()
            };
            // One that is there already is no error.
            self.server.write(|client| async move { client.create_field_index(create).await }).await?;
            self.indexed.lock().unwrap_or_else(PoisonError::into_inner).insert(key);
        }
        Ok(())
    }

    async fn apply(&self, writes: Vec<Write>) -> Result<(), IndexError> {
        if writes.is_empty() {
            return Ok(());
        }
        let update = UpdateBatchPoints {
            collection_name: self.name.clone(),
            wait: Some(true),
            operations: wire::operations(&writes),
            ordering: Some(wire::ordering()),
            ..UpdateBatchPoints::default()
        };
        self.server.write(|client| async move { client.update_points_batch(update).await }).await.map(drop)
    }

    fn query(&self) -> QueryPoints {
        QueryPoints { collection_name: self.name.clone(), with_payload: Some(false.into()), with_vectors: Some(false.into()), ..QueryPoints::default() }
    }

    async fn search(&self, query: QueryPoints) -> Result<Vec<Hit>, IndexError> {
        if query.limit == Some(0) {
            return Ok(Vec::new());
        }
        let found = self.server.read(|client| async move { client.query(query).await }).await?.result;
        let mut hits: Vec<Hit> = found.into_iter().filter_map(|point| Some(Hit { key: wire::key(point.id)?, score: Score::new(point.score).ok()? })).collect();
        hits.sort_by(|a, b| b.score.cmp(&a.score).then(a.key.cmp(&b.key)));
        Ok(hits)
    }
}

fn scores(points: Vec<ScoredPoint>) -> FxHashMap<ItemKey, f32> {
    points.into_iter().filter_map(|point| Some((wire::key(point.id)?, point.score))).collect()
}

#[async_trait]
impl VectorIndex for ServerIndex {
    async fn upsert(&self, points: Vec<IndexPoint>) -> Result<(), IndexError> {
        for embedding in points.iter().filter_map(|point| point.embedding.as_ref()) {
            self.check_width(embedding)?;
        }
        let _timer = self.metrics().upsert.start_timer();
        let points = last_of_each_key(points);
        let attributes: HashMap<String, Kind> = points.iter().flat_map(|point| payload::attributes(&point.facts).collect::<Vec<_>>()).collect();
        self.index_fields(attributes).await?;
        self.apply(points.into_iter().map(|point| Write::Put(Box::new(point))).collect()).await
    }

    async fn delete(&self, gone: &[(ItemKey, Revision)]) -> Result<(), IndexError> {
        self.apply(gone.iter().map(|(key, revision)| Write::Delete(*key, *revision)).collect()).await
    }

    async fn nearest(&self, query: &Embedding, search: Search<'_>) -> Result<Vec<Hit>, IndexError> {
        self.check_width(query)?;
        let _timer = self.metrics().nearest.start_timer();
        let asked = QueryPoints {
            query: Some(wire::near(query)),
            using: Some(wire::DENSE.to_owned()),
            filter: search.filter.map(wire::filter),
            params: Some(wire::approximate(self.settings().hnsw_ef)),
            limit: Some(search.limit as u64),
            ..self.query()
        };
        self.search(asked).await
    }

    async fn matching(&self, query: &QueryTerms, search: Search<'_>) -> Result<Vec<Hit>, IndexError> {
        if query.is_empty() {
            return Ok(Vec::new());
        }
        let _timer = self.metrics().matching.start_timer();
        let asked = QueryPoints {
            query: Some(wire::with_terms(query, self.settings().max_search_terms)),
            using: Some(wire::LEXICAL.to_owned()),
            filter: search.filter.map(wire::filter),
            limit: Some(search.limit as u64),
            ..self.query()
        };
        self.search(asked).await
    }

    async fn similarities(&self, query: &Embedding, keys: &[ItemKey]) -> Result<Vec<(ItemKey, f32)>, IndexError> {
        self.check_width(query)?;
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let _timer = self.metrics().scores.start_timer();
        let asked = QueryPoints {
            query: Some(wire::near(query)),
            using: Some(wire::DENSE.to_owned()),
            filter: Some(wire::among(keys)),
            params: Some(wire::exact()),
            limit: Some(keys.len() as u64),
            ..self.query()
        };
        let found = scores(self.server.read(|client| async move { client.query(asked).await }).await?.result);
        Ok(keys.iter().filter_map(|key| Some((*key, *found.get(key)?))).collect())
    }

    async fn lexical_scores(&self, query: &QueryTerms, keys: &[ItemKey]) -> Result<Vec<(ItemKey, f32)>, IndexError> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let _timer = self.metrics().scores.start_timer();
        // Those that are there, whether they share a term or not.
        let there = QueryPoints { filter: Some(wire::among(keys)), limit: Some(keys.len() as u64), ..self.query() };
        let mut asked = vec![there.clone()];
        if !query.is_empty() {
            let terms = wire::with_terms(query, self.settings().max_search_terms);
            asked.push(QueryPoints { query: Some(terms), using: Some(wire::LEXICAL.to_owned()), ..there });
        }
        let batch = QueryBatchPoints { collection_name: self.name.clone(), query_points: asked, ..QueryBatchPoints::default() };
        let mut answers = self.server.read(|client| async move { client.query_batch(batch).await }).await?.result.into_iter();
        let mut answer = || answers.next().map(|answer| scores(answer.result)).unwrap_or_default();
        let (there, shared) = (answer(), answer());
        Ok(keys.iter().filter(|key| there.contains_key(key)).map(|key| (*key, shared.get(key).copied().unwrap_or(0.0))).collect())
    }

    async fn embeddings(&self, keys: &[ItemKey]) -> Result<Vec<(ItemKey, Embedding)>, IndexError> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let _timer = self.metrics().scores.start_timer();
        let asked = GetPoints {
            collection_name: self.name.clone(),
            ids: keys.iter().map(|key| wire::id(*key)).collect::<Vec<PointId>>(),
            with_payload: Some(false.into()),
            with_vectors: Some(SelectorOptions::Include(VectorsSelector { names: vec![wire::DENSE.to_owned()] }).into()),
            ..GetPoints::default()
        };
        let found = self.server.read(|client| async move { client.get_points(asked).await }).await?.result;
        let embedding = |point: ::qdrant_client::qdrant::RetrievedPoint| {
            let Some(VectorsOptions::Vectors(mut vectors)) = point.vectors?.vectors_options else { return None };
            let WireVector::Dense(dense) = vectors.vectors.remove(wire::DENSE)?.into_vector() else { return None };
            Some((wire::key(point.id)?, Embedding::new(dense.data).ok()?))
        };
        let found: FxHashMap<ItemKey, Embedding> = found.into_iter().filter_map(embedding).collect();
        Ok(keys.iter().filter_map(|key| Some((*key, found.get(key)?.clone()))).collect())
    }

    /// What was acknowledged stands in the server's log already, which survives its end.
    async fn flush(&self) -> Result<(), IndexError> {
        Ok(())
    }

    /// The server does it by itself.
    async fn optimize_if_due(&self) -> Result<bool, IndexError> {
        Ok(false)
    }

    async fn count(&self) -> Result<usize, IndexError> {
        let asked = CountPoints { collection_name: self.name.clone(), filter: Some(wire::living()), exact: Some(true), ..CountPoints::default() };
        let count = self.server.read(|client| async move { client.count(asked).await }).await?.result.map_or(0, |result| result.count);
        self.metrics().points.set(i64::try_from(count).unwrap_or(i64::MAX));
        Ok(usize::try_from(count).unwrap_or(usize::MAX))
    }

    async fn is_up(&self) -> bool {
        self.server.read(|client| async move { client.health_check().await }).await.is_ok()
    }

    fn is_shared(&self) -> bool {
        true
    }
}
