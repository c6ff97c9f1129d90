//! One engine shard and its mirror: every call blocks, so they run on the compute pool. Vectors in and out under two names, scores out.

use std::{
    collections::HashSet,
    fs,
    panic::AssertUnwindSafe,
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError, RwLock,
        atomic::{AtomicUsize, Ordering},
    },
};

use qdrant_edge::{
    CreateIndex, Distance, EdgeConfig, EdgeOptimizersConfig, EdgeShard, EdgeSparseVectorParams, EdgeVectorParams, FieldIndexOperations, Filter,
    HnswIndexConfig, NamedQuery, OperationError, Payload, PayloadFieldSchema, PointId, PointInsertOperations, PointOperations, PointStructPersisted,
    QuantizationSearchParams, QueryEnum, ScalarQuantizationConfig, ScalarType, ScrollRequest, SearchParams, SearchRequest, SparseVector, UpdateOperation,
    VectorInternal, VectorPersisted, VectorStructInternal, VectorStructPersisted, WithPayloadInterface, WithVector,
};

use super::fields;
use crate::{
    domain::{Embedding, ItemKey, Score},
    index::{
        Hit, IndexError, IndexPoint, IndexSettings, Terms, last_of_each_key,
        mirror::Mirror,
        payload::{self, Kind, MAX_ATTRIBUTE_INDEXES},
        shape::Mark,
    },
};

const DENSE: &str = "dense";
const LEXICAL: &str = "lexical";
/// Points read at once while the mirror is filled.
const PAGE: usize = 1_000;

/// Fewer points are all looked at, for a search of the graph by [`IndexSettings::hnsw_ef`] is slower there.
const EXACT_BELOW: usize = 20_000;
/// Optimised points are compared by one byte a component, a quarter of the memory to read; the best are compared again in full, so that scores
/// are exact cosines. A few more than asked for are, or the last ones might be the wrong ones.
const RESCORED: QuantizationSearchParams = QuantizationSearchParams { ignore: false, rescore: Some(true), oversampling: Some(1.2) };

pub(super) struct Shard {
    engine: EdgeShard,
    folder: PathBuf,
    optimize_after: usize,
    ef: usize,
    mirror: RwLock<Mirror>,
    /// Payload keys that have an index.
    indexed: Mutex<HashSet<String>>,
    /// Points replaced or deleted since the last optimisation.
    outdated: AtomicUsize,
}

impl Shard {
    /// Opens the engine's files in `folder`, which is ours alone, and reads all vectors.
    pub(super) fn open(folder: &Path, width: usize, settings: &IndexSettings, is_new: bool) -> Result<Self, IndexError> {
        let unusable = |detail: String| IndexError::Unusable { folder: folder.to_owned(), detail };
        if !is_new {
            refuse_lost_segments(folder).map_err(unusable)?;
            drop_old_log(&folder.join("wal"));
        }
        let config = config(width, settings);
        // The engine has `unimplemented!` and `expect` where its files are not as it left them.
        let engine = std::panic::catch_unwind(AssertUnwindSafe(|| EdgeShard::load(folder, Some(config))))
            .map_err(|_| unusable("the vector engine stopped while it read them".to_owned()))?
            .map_err(|error| unusable(error.to_string()))?;
        let indexed = engine.info().payload_schema.into_keys().map(|path| path.first_key).collect();
        let shard = Self {
            engine,
            folder: folder.to_owned(),
            optimize_after: settings.optimize_after,
            ef: settings.hnsw_ef,
            mirror: RwLock::default(),
            indexed: Mutex::new(indexed),
            outdated: AtomicUsize::new(0),
        };
        shard.index_fields(payload::fixed())?;
        std::panic::catch_unwind(AssertUnwindSafe(|| shard.fill_mirror()))
            .map_err(|_| unusable("the vector engine stopped while it read the vectors".to_owned()))?
            .map_err(|error| unusable(error.to_string()))?;
        let found = shard.mirror().pieces();
        if let Some(missing) = Mark::read(folder).missing(found) {
            return Err(unusable(format!("{missing} of its points and vectors are missing")));
        }
        Ok(shard)
    }

    /// For reading; a panic elsewhere leaves it usable, as every change of it is whole.
    pub(super) fn mirror(&self) -> std::sync::RwLockReadGuard<'_, Mirror> {
        self.mirror.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn mirror_mut(&self) -> std::sync::RwLockWriteGuard<'_, Mirror> {
        self.mirror.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn fill_mirror(&self) -> Result<(), OperationError> {
        let mut mirror = self.mirror_mut();
        let mut offset = None;
        loop {
            let request = ScrollRequest {
                offset,
                limit: Some(PAGE),
                filter: None,
                with_payload: Some(WithPayloadInterface::Bool(false)),
                with_vector: WithVector::Bool(true),
                order_by: None,
            };
            let (records, next) = self.engine.scroll(request)?;
            for record in records {
                let Some(key) = key(record.id) else { continue };
                let (mut embedding, mut terms) = (None, Terms::default());
                if let Some(VectorStructInternal::Named(vectors)) = record.vector {
                    for (name, vector) in vectors {
                        match vector {
                            VectorInternal::Dense(vector) if name == DENSE => embedding = Embedding::new(vector).ok(),
                            VectorInternal::Sparse(vector) if name == LEXICAL => terms = Terms::from_parts(vector.indices, vector.values),
                            _ => {}
                        }
                    }
                }
                mirror.put(key, embedding, terms);
            }
            offset = next;
            if offset.is_none() {
                return Ok(());
            }
        }
    }

    fn index_fields(&self, fields: impl IntoIterator<Item = (String, Kind)>) -> Result<(), IndexError> {
        let mut indexed = self.indexed.lock().unwrap_or_else(PoisonError::into_inner);
        let most = payload::fixed().len() + MAX_ATTRIBUTE_INDEXES;
        for (name, kind) in fields {
            if indexed.contains(&name) || indexed.len() >= most {
                continue;
            }
            let create = CreateIndex { field_name: fields::path(name.clone()), field_schema: Some(PayloadFieldSchema::FieldType(fields::schema(kind))) };
            self.engine.update(UpdateOperation::FieldIndexOperation(FieldIndexOperations::CreateIndex(create))).map_err(failed)?;
            indexed.insert(name);
        }
        Ok(())
    }

    /// Not at the same time as another write or a flush.
    pub(super) fn upsert(&self, points: Vec<IndexPoint>) -> Result<(), IndexError> {
        let points = last_of_each_key(points);
        self.index_fields(points.iter().flat_map(|point| payload::attributes(&point.facts)))?;
        // A point in an optimised segment keeps those of its vectors that the new one lacks, unless it is deleted first.
        let losing: Vec<PointId> = {
            let mirror = self.mirror();
            let loses = |point: &&IndexPoint| mirror.has_more(point.key, point.embedding.is_some(), !point.terms.numbers().is_empty());
            points.iter().filter(loses).map(|point| PointId::NumId(point.key.0.into())).collect()
        };
        if !losing.is_empty() {
            self.engine.update(UpdateOperation::PointOperation(PointOperations::DeletePoints { ids: losing })).map_err(failed)?;
        }
        let persisted = points.iter().map(persisted).collect();
        let upsert = PointOperations::UpsertPoints(PointInsertOperations::PointsList(persisted));
        self.engine.update(UpdateOperation::PointOperation(upsert)).map_err(failed)?;
        let mut mirror = self.mirror_mut();
        let before = mirror.len();
        let put = points.len();
        for point in points {
            mirror.put(point.key, point.embedding, point.terms);
        }
        self.outdated.fetch_add(put - (mirror.len() - before), Ordering::Relaxed);
        Ok(())
    }

    /// Not at the same time as another write or a flush.
    pub(super) fn delete(&self, keys: &[ItemKey]) -> Result<(), IndexError> {
        let ids = keys.iter().map(|key| PointId::NumId(key.0.into())).collect();
        self.engine.update(UpdateOperation::PointOperation(PointOperations::DeletePoints { ids })).map_err(failed)?;
        let mut mirror = self.mirror_mut();
        let gone = keys.iter().filter(|key| mirror.remove(**key)).count();
        self.outdated.fetch_add(gone, Ordering::Relaxed);
        Ok(())
    }

    pub(super) fn nearest(&self, query: Vec<f32>, filter: Option<Filter>, limit: usize) -> Result<Vec<Hit>, IndexError> {
        self.search(DENSE, VectorInternal::Dense(query), filter, limit)
    }

    /// `weighed`: sorted by term.
    pub(super) fn matching(&self, weighed: Vec<(u32, f32)>, filter: Option<Filter>, limit: usize) -> Result<Vec<Hit>, IndexError> {
        let (indices, values) = weighed.into_iter().unzip();
        self.search(LEXICAL, VectorInternal::Sparse(SparseVector { indices, values }), filter, limit)
    }

    fn search(&self, vector: &str, query: VectorInternal, filter: Option<Filter>, limit: usize) -> Result<Vec<Hit>, IndexError> {
        let request = SearchRequest {
            query: QueryEnum::Nearest(NamedQuery { query, using: Some(vector.to_owned()) }),
            filter,
            params: Some(SearchParams { hnsw_ef: Some(self.ef), quantization: Some(RESCORED), ..SearchParams::default() }),
            limit,
            offset: 0,
            with_payload: None, // for 200 hits it costs more than the search
            with_vector: None,
            score_threshold: None,
        };
        let points = self.engine.search(request).map_err(failed)?;
        let mut hits: Vec<Hit> = points.into_iter().filter_map(|point| Some(Hit { key: key(point.id)?, score: Score::new(point.score).ok()? })).collect();
        hits.sort_by(|a, b| b.score.cmp(&a.score).then(a.key.cmp(&b.key)));
        Ok(hits)
    }

    /// Not at the same time as a write or an optimisation: the engine panics where it cannot have its locks at once.
    pub(super) fn flush(&self) -> Result<(), IndexError> {
        let pieces = self.mirror().pieces();
        self.mark(Mark::read(&self.folder).before(pieces))?;
        std::panic::catch_unwind(AssertUnwindSafe(|| self.engine.flush())).map_err(|_| IndexError::Engine("it could not write its files".to_owned()))?;
        self.mark(Mark::after(pieces))
    }

    fn mark(&self, mark: Mark) -> Result<(), IndexError> {
        mark.write(&self.folder).map_err(|error| IndexError::Engine(error.to_string()))
    }

    /// Whether so much is not packed yet, or so much is dead, that searches suffer.
    pub(super) fn is_optimization_due(&self) -> bool {
        let (embedded, worded) = self.mirror().vectors();
        // The engine counts what stands in graphs and, in every segment, what stands in the inverted index.
        let in_graphs = self.engine.info().indexed_vectors_count.saturating_sub(worded);
        let scanned = embedded.saturating_sub(in_graphs);
        let outdated = self.outdated.load(Ordering::Relaxed);
        // A share of the whole, so that a growing collection is rebuilt a few times, not every so many points.
        (scanned > self.optimize_after && scanned * 4 > embedded) || (outdated > 1_000 && outdated * 5 > embedded)
    }

    pub(super) fn optimize(&self) -> Result<bool, IndexError> {
        self.outdated.store(0, Ordering::Relaxed);
        self.mark(Mark::NONE)?; // deletions that come meanwhile are on disk at its end
        std::panic::catch_unwind(AssertUnwindSafe(|| self.engine.optimize()))
            .map_err(|_| IndexError::Engine(format!("it stopped while it optimised {}", self.folder.display())))?
            .map_err(failed)
    }
}

#[expect(clippy::needless_pass_by_value, reason = "map_err hands it over")]
fn failed(error: OperationError) -> IndexError {
    IndexError::Engine(error.to_string())
}

fn key(id: PointId) -> Option<ItemKey> {
    match id {
        PointId::NumId(id) => u32::try_from(id).ok().map(ItemKey),
        PointId::Uuid(_) => None,
    }
}

fn persisted(point: &IndexPoint) -> PointStructPersisted {
    let mut vectors = std::collections::HashMap::new();
    if let Some(embedding) = &point.embedding {
        vectors.insert(DENSE.to_owned(), VectorPersisted::Dense(embedding.to_vec()));
    }
    if !point.terms.numbers().is_empty() {
        let (indices, values) = (point.terms.numbers().to_vec(), point.terms.weights().to_vec());
        vectors.insert(LEXICAL.to_owned(), VectorPersisted::Sparse(SparseVector { indices, values }));
    }
    PointStructPersisted {
        id: PointId::NumId(point.key.0.into()),
        vector: VectorStructPersisted::Named(vectors),
        payload: Some(Payload(payload::payload(&point.facts))),
    }
}

fn config(width: usize, settings: &IndexSettings) -> EdgeConfig {
    let half_the_cores = std::thread::available_parallelism().map_or(1, usize::from).div_ceil(2);
    // Half of what makes an optimisation due, in KB of vectors, so that one that is due is never found too small by the engine.
    let indexing_threshold = (settings.optimize_after / 2 * width * size_of::<f32>() / 1_024).max(1);
    let hnsw = HnswIndexConfig {
        m: settings.hnsw_m,
        ef_construct: settings.hnsw_ef_construct,
        max_indexing_threads: half_the_cores,
        full_scan_threshold: EXACT_BELOW * width * size_of::<f32>() / 1_024,
        payload_m: Some(0), // links by payload made searches three times slower; strict filters are scanned exactly without them
        ..HnswIndexConfig::default()
    };
    EdgeConfig {
        vectors: [(DENSE.to_owned(), EdgeVectorParams::builder(width, Distance::Cosine).build())].into(),
        quantization_config: Some(ScalarQuantizationConfig { r#type: ScalarType::Int8, quantile: Some(0.995), always_ram: Some(true) }.into()),
        sparse_vectors: [(LEXICAL.to_owned(), EdgeSparseVectorParams::default())].into(),
        hnsw_config: hnsw,
        optimizers: EdgeOptimizersConfig {
            default_segment_number: Some(2), // one optimised, one that takes writes: every further one is searched too
            max_segment_size: Some(usize::MAX / 1_024),
            indexing_threshold: Some(indexing_threshold),
            ..EdgeOptimizersConfig::default()
        },
        ..EdgeConfig::default()
    }
}

/// The engine would begin anew, without a word, where its segments are gone.
fn refuse_lost_segments(folder: &Path) -> Result<(), String> {
    if !folder.join("edge_config.json").exists() {
        return Ok(()); // the process was killed between `shape.json` and the engine's first file
    }
    let segments = fs::read_dir(folder.join("segments")).map_err(|error| format!("segments: {error}"))?;
    let whole = segments.flatten().filter(|entry| entry.path().join("segment.json").exists()).count();
    if whole == 0 { Err("its segments are missing".to_owned()) } else { Ok(()) }
}

/// Version 0.7.2 neither replays nor cuts its log. Only the last closed file is needed, for the numbers of operations to go on.
fn drop_old_log(wal: &Path) {
    let Ok(entries) = fs::read_dir(wal) else { return };
    let number = |path: &Path| path.file_name()?.to_str()?.strip_prefix("closed-")?.parse::<u64>().ok();
    let mut closed: Vec<_> = entries.flatten().filter_map(|entry| Some((number(&entry.path())?, entry.path()))).collect();
    closed.sort_unstable();
    closed.pop();
    for (_, path) in closed {
        if let Err(error) = fs::remove_file(&path) {
            tracing::warn!(%error, "an old log file of the index stays");
            return; // a gap in the numbers is refused by the engine
        }
    }
}
