//! What is asked of the server, in the types of its gRPC interface.

use std::collections::HashMap;

use ::qdrant_client::qdrant::{
    Condition as WireCondition, CreateCollection, DeletePointVectors, DenseVector, Distance, FieldType, Filter as WireFilter, HnswConfigDiff, ListValue,
    Modifier, NamedVectors, PointId, PointStruct, PointsSelector, PointsUpdateOperation, QuantizationConfig, QuantizationSearchParams, QuantizationType, Query,
    Range as WireRange, ScalarQuantization, SearchParams, SparseVector, SparseVectorConfig, SparseVectorParams, Value as WireValue, Vector, VectorInput,
    VectorParams, VectorParamsMap, Vectors, VectorsConfig, VectorsSelector, WriteOrdering, WriteOrderingType, r#match::MatchValue, point_id::PointIdOptions,
    points_selector::PointsSelectorOneOf, points_update_operation as operation, quantization_config::Quantization, query::Variant as QueryVariant, value,
    vector, vector_input, vectors::VectorsOptions, vectors_config,
};
use serde_json::Value;

use crate::{
    domain::{Embedding, Filter, ItemKey, Revision},
    index::{
        IndexPoint, IndexSettings, QueryTerms, Terms,
        payload::{self, Condition, Kind},
    },
};

pub(super) const DENSE: &str = "dense";
pub(super) const LEXICAL: &str = "lexical";
/// The state that a point shows. No field of an item is called so.
const REVISION: &str = "revision";
/// A point without vectors that stands where a deleted item was, so that an older state of it is known to be older.
const GONE: &str = "gone";
/// Fewer points are all looked at, for a search of the graph is slower there.
const EXACT_BELOW: usize = 20_000;

pub(super) fn id(key: ItemKey) -> PointId {
    PointId { point_id_options: Some(PointIdOptions::Num(key.0.into())) }
}

pub(super) fn key(id: Option<PointId>) -> Option<ItemKey> {
    match id?.point_id_options? {
        PointIdOptions::Num(id) => u32::try_from(id).ok().map(ItemKey),
        PointIdOptions::Uuid(_) => None,
    }
}

pub(super) fn field_type(kind: Kind) -> FieldType {
    match kind {
        Kind::Keyword => FieldType::Keyword,
        Kind::Float => FieldType::Float,
        Kind::Bool => FieldType::Bool,
    }
}

/// Keys that have an index on the server from the start.
pub(super) fn indexed_keys() -> Vec<(String, Kind)> {
    let mut keys = payload::fixed();
    keys.push((GONE.to_owned(), Kind::Bool));
    keys
}

/// The same one node orders all writes of a point, so that conditions on what is there hold among writers.
pub(super) fn ordering() -> WriteOrdering {
    WriteOrdering { r#type: WriteOrderingType::Medium.into() }
}

pub(super) fn collection(name: String, width: usize, settings: &IndexSettings, metadata: HashMap<String, WireValue>) -> CreateCollection {
    let hnsw = HnswConfigDiff {
        m: Some(settings.hnsw_m as u64),
        ef_construct: Some(settings.hnsw_ef_construct as u64),
        full_scan_threshold: Some((EXACT_BELOW * width * size_of::<f32>() / 1_024) as u64),
        // Links by payload are left to the server's default: unlike in the embedded engine, collections are large enough here for a filter that
        // leaves one item of fifty to leave more than can be scanned, and too few for a graph without them to hang together.
        ..HnswConfigDiff::default()
    };
    #[expect(deprecated, reason = "servers before 1.20 know no other name for it")]
    let bytes = ScalarQuantization { r#type: QuantizationType::Int8.into(), quantile: Some(0.995), always_ram: Some(true), ..ScalarQuantization::default() };
    let dense = VectorParams {
        size: width as u64,
        distance: Distance::Cosine.into(),
        hnsw_config: Some(hnsw),
        quantization_config: Some(QuantizationConfig { quantization: Some(Quantization::Scalar(bytes)) }),
        ..VectorParams::default()
    };
    // The server knows in how many items a term stands: it weighs the terms of a query.
    let lexical = SparseVectorParams { modifier: Some(Modifier::Idf.into()), ..SparseVectorParams::default() };
    CreateCollection {
        collection_name: name,
        vectors_config: Some(VectorsConfig { config: Some(vectors_config::Config::ParamsMap(VectorParamsMap { map: [(DENSE.to_owned(), dense)].into() })) }),
        sparse_vectors_config: Some(SparseVectorConfig { map: [(LEXICAL.to_owned(), lexical)].into() }),
        shard_number: Some(settings.shard_number.max(1)),
        replication_factor: Some(settings.replication_factor.max(1)),
        write_consistency_factor: Some(settings.write_consistency_factor.max(1)),
        metadata,
        ..CreateCollection::default()
    }
}

/// How the graph is searched; the best are compared again in full, so that scores are exact cosines.
pub(super) fn approximate(ef: usize) -> SearchParams {
    let rescored = QuantizationSearchParams { ignore: Some(false), rescore: Some(true), oversampling: Some(1.2) };
    SearchParams { hnsw_ef: Some(ef as u64), quantization: Some(rescored), ..SearchParams::default() }
}

/// Every point that passes the filter is compared in full.
pub(super) fn exact() -> SearchParams {
    let unused = QuantizationSearchParams { ignore: Some(true), ..QuantizationSearchParams::default() };
    SearchParams { exact: Some(true), quantization: Some(unused), ..SearchParams::default() }
}

pub(super) fn near(query: &Embedding) -> Query {
    nearest(vector_input::Variant::Dense(DenseVector { data: query.to_vec() }))
}

/// The `most` terms that the query says most often; which of them are rare only the server knows.
pub(super) fn with_terms(query: &QueryTerms, most: usize) -> Query {
    let mut pairs = query.pairs().to_vec();
    if pairs.len() > most {
        pairs.sort_unstable_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        pairs.truncate(most);
        pairs.sort_unstable_by_key(|pair| pair.0);
    }
    let (indices, values) = pairs.into_iter().unzip();
    nearest(vector_input::Variant::Sparse(SparseVector { indices, values }))
}

fn nearest(input: vector_input::Variant) -> Query {
    Query { variant: Some(QueryVariant::Nearest(VectorInput { variant: Some(input) })) }
}

/// Of what is asked, the items: no tombstones.
pub(super) fn living() -> WireFilter {
    WireFilter::must_not([WireCondition::matches(GONE, true)])
}

pub(super) fn among(keys: &[ItemKey]) -> WireFilter {
    WireFilter { must: vec![WireCondition::has_id(keys.iter().map(|key| id(*key)))], ..living() }
}

/// The server's filter that holds for the same items as [`Filter::matches`].
pub(super) fn filter(filter: &Filter) -> WireFilter {
    WireFilter { must: vec![condition(payload::condition(filter))], ..living() }
}

fn condition(wanted: Condition) -> WireCondition {
    let conditions = |wanted: Vec<Condition>| wanted.into_iter().map(condition).collect::<Vec<_>>();
    match wanted {
        Condition::Everything => WireFilter::default().into(),
        Condition::Nothing => WireCondition::has_id(std::iter::empty::<PointId>()),
        Condition::All(wanted) => WireFilter::must(conditions(wanted)).into(),
        Condition::Any(wanted) => WireFilter::should(conditions(wanted)).into(),
        Condition::NoneOf(wanted) => WireFilter::must_not(conditions(wanted)).into(),
        Condition::Texts(key, texts) => WireCondition::matches(key, MatchValue::from(texts)),
        Condition::Flag(key, flag) => WireCondition::matches(key, flag),
        Condition::Range(key, bounds) => WireCondition::range(key, WireRange { gt: bounds.gt, gte: bounds.gte, lt: bounds.lt, lte: bounds.lte }),
        Condition::Absent(key) => WireCondition::is_empty(key),
    }
}

/// What is to become of an item.
pub(super) enum Write {
    Put(Box<IndexPoint>),
    Delete(ItemKey, Revision),
}

impl Write {
    fn state(&self) -> (ItemKey, Revision) {
        match self {
            Self::Put(point) => (point.key, point.revision),
            Self::Delete(key, revision) => (*key, *revision),
        }
    }

    fn point(&self) -> PointStruct {
        let (key, Revision(revision)) = self.state();
        let (mut vectors, mut map) = (HashMap::new(), HashMap::from([(REVISION.to_owned(), integer(revision))]));
        match self {
            Self::Put(point) => {
                if let Some(embedding) = &point.embedding {
                    vectors.insert(DENSE.to_owned(), named(vector::Vector::Dense(DenseVector { data: embedding.to_vec() })));
                }
                if has_terms(&point.terms) {
                    let sparse = SparseVector { indices: point.terms.numbers().to_vec(), values: point.terms.weights().to_vec() };
                    vectors.insert(LEXICAL.to_owned(), named(vector::Vector::Sparse(sparse)));
                }
                map.extend(payload::payload(&point.facts).into_iter().map(|(key, value)| (key, wire_value(value))));
            }
            Self::Delete(..) => drop(map.insert(GONE.to_owned(), WireValue { kind: Some(value::Kind::BoolValue(true)) })),
        }
        PointStruct { id: Some(id(key)), payload: map, vectors: Some(Vectors { vectors_options: Some(VectorsOptions::Vectors(NamedVectors { vectors })) }) }
    }

    fn lacks(&self, vector: &str) -> bool {
        match self {
            Self::Put(point) if vector == DENSE => point.embedding.is_none(),
            Self::Put(point) => !has_terms(&point.terms),
            Self::Delete(..) => true,
        }
    }
}

fn has_terms(terms: &Terms) -> bool {
    !terms.numbers().is_empty()
}

fn named(vector: vector::Vector) -> Vector {
    Vector { vector: Some(vector), ..Vector::default() }
}

/// The operations that make the writes, in their order, each only where no newer state is there: a writer that was slow changes nothing any more.
pub(super) fn operations(writes: &[Write]) -> Vec<PointsUpdateOperation> {
    let points = writes.iter().map(Write::point).collect();
    let no_newer = writes.iter().map(|write| state_is(write, WireRange { lte: Some(write.state().1.0 as f64), ..WireRange::default() }));
    let upsert = operation::PointStructList { points, update_filter: Some(WireFilter::should(no_newer)), ..operation::PointStructList::default() };
    // A point in an optimised segment keeps those of its vectors that the new one lacks.
    let deletions = [DENSE, LEXICAL].into_iter().filter_map(|vector| {
        let this = |write: &Write| WireRange { gte: Some(write.state().1.0 as f64), lte: Some(write.state().1.0 as f64), ..WireRange::default() };
        let lacking: Vec<WireCondition> = writes.iter().filter(|write| write.lacks(vector)).map(|write| state_is(write, this(write))).collect();
        (!lacking.is_empty()).then(|| {
            let selector = PointsSelector { points_selector_one_of: Some(PointsSelectorOneOf::Filter(WireFilter::should(lacking))) };
            let DeletePointVectors { shard_key_selector, .. } = DeletePointVectors::default();
            operation::Operation::DeleteVectors(operation::DeleteVectors {
                points_selector: Some(selector),
                vectors: Some(VectorsSelector { names: vec![vector.to_owned()] }),
                shard_key_selector,
            })
        })
    });
    std::iter::once(operation::Operation::Upsert(upsert)).chain(deletions).map(|operation| PointsUpdateOperation { operation: Some(operation) }).collect()
}

/// The item's point, if its revision (below 2^53, so exact) is in the range.
fn state_is(write: &Write, revisions: WireRange) -> WireCondition {
    WireFilter::must([WireCondition::has_id([id(write.state().0)]), WireCondition::range(REVISION, revisions)]).into()
}

fn integer(value: i64) -> WireValue {
    WireValue { kind: Some(value::Kind::IntegerValue(value)) }
}

pub(super) fn text(value: String) -> WireValue {
    WireValue { kind: Some(value::Kind::StringValue(value)) }
}

pub(super) fn as_text(value: &WireValue) -> Option<&str> {
    match &value.kind {
        Some(value::Kind::StringValue(text)) => Some(text),
        _ => None,
    }
}

fn wire_value(value: Value) -> WireValue {
    let kind = match value {
        Value::Bool(flag) => value::Kind::BoolValue(flag),
        Value::Number(number) => value::Kind::DoubleValue(number.as_f64().unwrap_or_default()),
        Value::String(text) => value::Kind::StringValue(text),
        Value::Array(values) => value::Kind::ListValue(ListValue { values: values.into_iter().map(wire_value).collect() }),
        Value::Null | Value::Object(_) => value::Kind::NullValue(0), // no payload has one
    };
    WireValue { kind: Some(kind) }
}
