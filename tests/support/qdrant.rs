//! A Qdrant server for tests, in this process: the gRPC interface over the embedded engine, so that every request, filter and condition crosses
//! the wire and is carried out by Qdrant's own code. Calls that this project does not make are not implemented.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use ::qdrant_client::qdrant::{self as wire, collections_server, points_server, qdrant_server};
use qdrant_edge::{
    AnyVariants, Condition, CountRequest, CreateIndex, Distance, EdgeConfig, EdgeShard, EdgeSparseVectorParams, EdgeVectorParams, FieldCondition,
    FieldIndexOperations, Filter, HasIdCondition, IsEmptyCondition, JsonPath, Match, MatchAny, Modifier, NamedQuery, Payload, PayloadFieldSchema,
    PayloadSchemaType, PointId, PointInsertOperations, PointOperations, PointStructPersisted, QueryEnum, Range, ScrollRequest, SearchParams, SearchRequest,
    SparseVector, UpdateOperation, ValueVariants, VectorInternal, VectorOperations, VectorPersisted, VectorStructInternal, VectorStructPersisted,
    WithPayloadInterface, WithVector,
    external::{
        ordered_float::OrderedFloat,
        serde_json::{Map, Value as Json},
    },
};
use tempfile::TempDir;
use tokio::{net::TcpListener, runtime::Runtime};
use tonic::{
    Request, Response, Status,
    metadata::MetadataMap,
    transport::{Identity, ServerTlsConfig, server::TcpIncoming},
};

type Answer<T> = Result<Response<T>, Status>;

/// The collections of one server; they outlive its process, as files do.
#[derive(Clone, Default)]
pub(crate) struct Storage(Arc<Mutex<HashMap<String, Arc<Collection>>>>);

struct Collection {
    shard: EdgeShard,
    metadata: Mutex<HashMap<String, wire::Value>>,
    _folder: TempDir,
}

/// A running server; dropped, it is gone with its connections.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    /// Of its own: connections are tasks too, and end with it.
    runtime: Option<Runtime>,
}

#[derive(Clone)]
struct Service {
    storage: Storage,
    key: Option<&'static str>,
}

impl Server {
    /// With a key, only those that show it are let in.
    pub(crate) fn start_at(storage: &Storage, address: SocketAddr, key: Option<&'static str>) -> Self {
        Self::start(tonic::transport::Server::builder(), storage, address, key)
    }

    /// The same behind TLS.
    pub(crate) fn start_behind_tls(identity: Identity, storage: &Storage, address: SocketAddr, key: Option<&'static str>) -> Self {
        let tls = ServerTlsConfig::new().identity(identity);
        Self::start(tonic::transport::Server::builder().tls_config(tls).unwrap(), storage, address, key)
    }

    fn start(mut builder: tonic::transport::Server, storage: &Storage, address: SocketAddr, key: Option<&'static str>) -> Self {
        let listener = std::net::TcpListener::bind(address).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let service = Service { storage: storage.clone(), key };
        let router = builder
            .add_service(qdrant_server::QdrantServer::new(service.clone()))
            .add_service(collections_server::CollectionsServer::new(service.clone()))
            .add_service(points_server::PointsServer::new(service));
        runtime.spawn(async move {
            let incoming = TcpIncoming::from(TcpListener::from_std(listener).unwrap()).with_nodelay(Some(true));
            router.serve_with_incoming(incoming).await.unwrap();
        });
        Self { address, runtime: Some(runtime) }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Service {
    fn admit(&self, metadata: &MetadataMap) -> Result<(), Status> {
        let shown = metadata.get("api-key").and_then(|key| key.to_str().ok());
        if self.key.is_none() || self.key == shown { Ok(()) } else { Err(Status::unauthenticated("Must provide an API key")) }
    }

    fn take<T>(&self, request: Request<T>) -> Result<T, Status> {
        self.admit(request.metadata())?;
        Ok(request.into_inner())
    }

    fn collection(&self, name: &str) -> Result<Arc<Collection>, Status> {
        let found = self.storage.0.lock().unwrap().get(name).cloned();
        found.ok_or_else(|| Status::not_found(format!("Collection `{name}` doesn't exist!")))
    }
}

fn internal(error: impl std::fmt::Display) -> Status {
    Status::internal(error.to_string())
}

fn missing(what: &str) -> Status {
    Status::invalid_argument(format!("{what} is missing"))
}

fn done() -> Response<wire::CollectionOperationResponse> {
    Response::new(wire::CollectionOperationResponse { result: true, ..Default::default() })
}

#[tonic::async_trait]
impl qdrant_server::Qdrant for Service {
    async fn health_check(&self, request: Request<wire::HealthCheckRequest>) -> Answer<wire::HealthCheckReply> {
        self.take(request)?;
        Ok(Response::new(wire::HealthCheckReply { title: "a Qdrant for tests".into(), version: "1.17.0".into(), commit: None }))
    }
}

/// A trait's calls that are made, and those that are not.
macro_rules! service {
    ($trait:path { $($made:tt)* } not made: $($name:ident($request:ident) -> $answer:ident;)*) => {
        #[tonic::async_trait]
        impl $trait for Service {
            $($made)*
            $(async fn $name(&self, _: Request<wire::$request>) -> Answer<wire::$answer> {
                Err(Status::unimplemented(stringify!($name)))
            })*
        }
    };
}

service! {
    collections_server::Collections {
        async fn get(&self, request: Request<wire::GetCollectionInfoRequest>) -> Answer<wire::GetCollectionInfoResponse> {
            let collection = self.collection(&self.take(request)?.collection_name)?;
            let metadata = collection.metadata.lock().unwrap().clone();
            let config = wire::CollectionConfig { metadata, ..Default::default() };
            let info = wire::CollectionInfo { config: Some(config), ..Default::default() };
            Ok(Response::new(wire::GetCollectionInfoResponse { result: Some(info), ..Default::default() }))
        }

        async fn list(&self, request: Request<wire::ListCollectionsRequest>) -> Answer<wire::ListCollectionsResponse> {
            self.take(request)?;
            let collections = self.storage.0.lock().unwrap().keys().map(|name| wire::CollectionDescription { name: name.clone() }).collect();
            Ok(Response::new(wire::ListCollectionsResponse { collections, ..Default::default() }))
        }

        async fn create(&self, request: Request<wire::CreateCollection>) -> Answer<wire::CollectionOperationResponse> {
            let asked = self.take(request)?;
            let mut all = self.storage.0.lock().unwrap();
            if all.contains_key(&asked.collection_name) {
                return Err(Status::already_exists(format!("Collection `{}` already exists!", asked.collection_name)));
            }
            let folder = tempfile::tempdir().map_err(internal)?;
            let shard = EdgeShard::load(folder.path(), Some(config(&asked)?)).map_err(internal)?;
            all.insert(asked.collection_name, Arc::new(Collection { shard, metadata: Mutex::new(asked.metadata), _folder: folder }));
            Ok(done())
        }

        async fn update(&self, request: Request<wire::UpdateCollection>) -> Answer<wire::CollectionOperationResponse> {
            let asked = self.take(request)?;
            self.collection(&asked.collection_name)?.metadata.lock().unwrap().extend(asked.metadata);
            Ok(done())
        }

        async fn delete(&self, request: Request<wire::DeleteCollection>) -> Answer<wire::CollectionOperationResponse> {
            let name = self.take(request)?.collection_name;
            self.storage.0.lock().unwrap().remove(&name);
            Ok(done())
        }

        async fn collection_exists(&self, request: Request<wire::CollectionExistsRequest>) -> Answer<wire::CollectionExistsResponse> {
            let exists = self.collection(&self.take(request)?.collection_name).is_ok();
            Ok(Response::new(wire::CollectionExistsResponse { result: Some(wire::CollectionExists { exists }), ..Default::default() }))
        }
    }
    not made:
    update_aliases(ChangeAliases) -> CollectionOperationResponse;
    list_collection_aliases(ListCollectionAliasesRequest) -> ListAliasesResponse;
    list_aliases(ListAliasesRequest) -> ListAliasesResponse;
    collection_cluster_info(CollectionClusterInfoRequest) -> CollectionClusterInfoResponse;
    update_collection_cluster_setup(UpdateCollectionClusterSetupRequest) -> UpdateCollectionClusterSetupResponse;
    create_shard_key(CreateShardKeyRequest) -> CreateShardKeyResponse;
    delete_shard_key(DeleteShardKeyRequest) -> DeleteShardKeyResponse;
    list_shard_keys(ListShardKeysRequest) -> ListShardKeysResponse;
}

service! {
    points_server::Points {
        async fn get(&self, request: Request<wire::GetPoints>) -> Answer<wire::GetResponse> {
            let asked = self.take(request)?;
            let collection = self.collection(&asked.collection_name)?;
            let ids: Vec<PointId> = asked.ids.into_iter().map(id).collect::<Result<_, _>>()?;
            let records = collection.shard.retrieve(&ids, Some(WithPayloadInterface::Bool(false)), Some(WithVector::Bool(true))).map_err(internal)?;
            let result = records
                .into_iter()
                .map(|record| wire::RetrievedPoint { id: Some(wire_id(record.id)), vectors: record.vector.map(dense_output), ..Default::default() })
                .collect();
            Ok(Response::new(wire::GetResponse { result, ..Default::default() }))
        }

        async fn create_field_index(&self, request: Request<wire::CreateFieldIndexCollection>) -> Answer<wire::PointsOperationResponse> {
            let asked = self.take(request)?;
            let schema = match asked.field_type() {
                wire::FieldType::Keyword => PayloadSchemaType::Keyword,
                wire::FieldType::Float => PayloadSchemaType::Float,
                wire::FieldType::Bool => PayloadSchemaType::Bool,
                other => return Err(Status::unimplemented(format!("{other:?}"))),
            };
            let create = CreateIndex { field_name: path(&asked.field_name)?, field_schema: Some(PayloadFieldSchema::FieldType(schema)) };
            let operation = UpdateOperation::FieldIndexOperation(FieldIndexOperations::CreateIndex(create));
            self.collection(&asked.collection_name)?.shard.update(operation).map_err(internal)?;
            Ok(Response::new(wire::PointsOperationResponse::default()))
        }

        async fn count(&self, request: Request<wire::CountPoints>) -> Answer<wire::CountResponse> {
            let asked = self.take(request)?;
            let wanted = CountRequest { filter: asked.filter.map(filter).transpose()?, exact: asked.exact.unwrap_or(true) };
            let count = self.collection(&asked.collection_name)?.shard.count(wanted).map_err(internal)? as u64;
            Ok(Response::new(wire::CountResponse { result: Some(wire::CountResult { count }), ..Default::default() }))
        }

        async fn update_batch(&self, request: Request<wire::UpdateBatchPoints>) -> Answer<wire::UpdateBatchResponse> {
            let asked = self.take(request)?;
            let collection = self.collection(&asked.collection_name)?;
            for operation in asked.operations {
                let operation = update(operation.operation.ok_or_else(|| missing("operation"))?)?;
                collection.shard.update(operation).map_err(internal)?;
            }
            Ok(Response::new(wire::UpdateBatchResponse::default()))
        }

        async fn query(&self, request: Request<wire::QueryPoints>) -> Answer<wire::QueryResponse> {
            let asked = self.take(request)?;
            let result = self.collection(&asked.collection_name)?.answer(asked)?;
            Ok(Response::new(wire::QueryResponse { result, ..Default::default() }))
        }

        async fn query_batch(&self, request: Request<wire::QueryBatchPoints>) -> Answer<wire::QueryBatchResponse> {
            let asked = self.take(request)?;
            let collection = self.collection(&asked.collection_name)?;
            let answer = |query| Ok(wire::BatchResult { result: collection.answer(query)? });
            let result = asked.query_points.into_iter().map(answer).collect::<Result<_, Status>>()?;
            Ok(Response::new(wire::QueryBatchResponse { result, ..Default::default() }))
        }
    }
    not made:
    upsert(UpsertPoints) -> PointsOperationResponse;
    delete(DeletePoints) -> PointsOperationResponse;
    update_vectors(UpdatePointVectors) -> PointsOperationResponse;
    delete_vectors(DeletePointVectors) -> PointsOperationResponse;
    set_payload(SetPayloadPoints) -> PointsOperationResponse;
    overwrite_payload(SetPayloadPoints) -> PointsOperationResponse;
    delete_payload(DeletePayloadPoints) -> PointsOperationResponse;
    clear_payload(ClearPayloadPoints) -> PointsOperationResponse;
    delete_field_index(DeleteFieldIndexCollection) -> PointsOperationResponse;
    create_vector_name(CreateVectorNameRequest) -> PointsOperationResponse;
    delete_vector_name(DeleteVectorNameRequest) -> PointsOperationResponse;
    search(SearchPoints) -> SearchResponse;
    search_batch(SearchBatchPoints) -> SearchBatchResponse;
    search_groups(SearchPointGroups) -> SearchGroupsResponse;
    scroll(ScrollPoints) -> ScrollResponse;
    recommend(RecommendPoints) -> RecommendResponse;
    recommend_batch(RecommendBatchPoints) -> RecommendBatchResponse;
    recommend_groups(RecommendPointGroups) -> RecommendGroupsResponse;
    discover(DiscoverPoints) -> DiscoverResponse;
    discover_batch(DiscoverBatchPoints) -> DiscoverBatchResponse;
    query_groups(QueryPointGroups) -> QueryGroupsResponse;
    facet(FacetCounts) -> FacetResponse;
    search_matrix_pairs(SearchMatrixPoints) -> SearchMatrixPairsResponse;
    search_matrix_offsets(SearchMatrixPoints) -> SearchMatrixOffsetsResponse;
}

impl Collection {
    fn answer(&self, asked: wire::QueryPoints) -> Result<Vec<wire::ScoredPoint>, Status> {
        let limit = usize::try_from(asked.limit.unwrap_or(10)).map_err(internal)?;
        let filter = asked.filter.map(filter).transpose()?;
        let Some(query) = asked.query else {
            let request = ScrollRequest {
                offset: None,
                limit: Some(limit),
                filter,
                with_payload: Some(WithPayloadInterface::Bool(false)),
                with_vector: WithVector::Bool(false),
                order_by: None,
            };
            let (records, _) = self.shard.scroll(request).map_err(internal)?;
            return Ok(records.into_iter().map(|record| wire::ScoredPoint { id: Some(wire_id(record.id)), ..Default::default() }).collect());
        };
        let Some(wire::query::Variant::Nearest(wire::VectorInput { variant: Some(input) })) = query.variant else { return Err(missing("a nearest query")) };
        let vector = match input {
            wire::vector_input::Variant::Dense(dense) => VectorInternal::Dense(dense.data),
            wire::vector_input::Variant::Sparse(sparse) => VectorInternal::Sparse(SparseVector { indices: sparse.indices, values: sparse.values }),
            _ => return Err(Status::unimplemented("another vector")),
        };
        let params = asked.params.unwrap_or_default();
        let params = SearchParams { hnsw_ef: params.hnsw_ef.map(|ef| ef as usize), exact: params.exact.unwrap_or_default(), ..SearchParams::default() };
        let request = SearchRequest {
            query: QueryEnum::Nearest(NamedQuery { query: vector, using: asked.using }),
            filter,
            params: Some(params),
            limit,
            offset: 0,
            with_payload: None,
            with_vector: None,
            score_threshold: None,
        };
        let found = self.shard.search(request).map_err(internal)?;
        Ok(found.into_iter().map(|point| wire::ScoredPoint { id: Some(wire_id(point.id)), score: point.score, ..Default::default() }).collect())
    }
}

fn config(asked: &wire::CreateCollection) -> Result<EdgeConfig, Status> {
    let Some(wire::vectors_config::Config::ParamsMap(dense)) = asked.vectors_config.as_ref().and_then(|vectors| vectors.config.as_ref()) else {
        return Err(missing("vectors_config"));
    };
    let dense = dense.map.iter().map(|(name, params)| {
        assert_eq!(params.distance(), wire::Distance::Cosine);
        (name.clone(), EdgeVectorParams::builder(params.size as usize, Distance::Cosine).build())
    });
    let sparse = asked.sparse_vectors_config.iter().flat_map(|sparse| &sparse.map).map(|(name, params)| {
        let modifier = (params.modifier() == wire::Modifier::Idf).then_some(Modifier::Idf);
        (name.clone(), EdgeSparseVectorParams { modifier, ..EdgeSparseVectorParams::default() })
    });
    Ok(EdgeConfig { vectors: dense.collect(), sparse_vectors: sparse.collect(), ..EdgeConfig::default() })
}

fn update(operation: wire::points_update_operation::Operation) -> Result<UpdateOperation, Status> {
    use wire::points_update_operation::Operation;
    match operation {
        Operation::Upsert(list) => {
            let points = list.points.into_iter().map(point).collect::<Result<Vec<_>, _>>()?;
            let points_op = PointInsertOperations::PointsList(points);
            let condition = filter(list.update_filter.ok_or_else(|| missing("update_filter"))?)?;
            let conditional = qdrant_edge::ConditionalInsertOperation { points_op, condition, update_mode: None };
            Ok(UpdateOperation::PointOperation(PointOperations::UpsertPointsConditional(conditional)))
        }
        Operation::DeleteVectors(delete) => {
            let selector = delete.points_selector.and_then(|selector| selector.points_selector_one_of);
            let Some(wire::points_selector::PointsSelectorOneOf::Filter(selected)) = selector else { return Err(missing("a filter")) };
            let names = delete.vectors.ok_or_else(|| missing("vectors"))?.names;
            Ok(UpdateOperation::VectorOperation(VectorOperations::DeleteVectorsByFilter(filter(selected)?, names)))
        }
        other => Err(Status::unimplemented(format!("{other:?}"))),
    }
}

fn point(point: wire::PointStruct) -> Result<PointStructPersisted, Status> {
    let Some(wire::vectors::VectorsOptions::Vectors(named)) = point.vectors.and_then(|vectors| vectors.vectors_options) else {
        return Err(Status::invalid_argument("Expected some vectors")); // in the server's words
    };
    let vector = |(name, vector): (String, wire::Vector)| match vector.vector {
        Some(wire::vector::Vector::Dense(dense)) => Ok((name, VectorPersisted::Dense(dense.data))),
        Some(wire::vector::Vector::Sparse(sparse)) => Ok((name, VectorPersisted::Sparse(SparseVector { indices: sparse.indices, values: sparse.values }))),
        _ => Err(missing("a vector")),
    };
    let payload: Map<String, Json> = point.payload.into_iter().map(|(key, value)| Ok((key, json(value)?))).collect::<Result<_, Status>>()?;
    Ok(PointStructPersisted {
        id: id(point.id.ok_or_else(|| missing("id"))?)?,
        vector: VectorStructPersisted::Named(named.vectors.into_iter().map(vector).collect::<Result<_, _>>()?),
        payload: Some(Payload(payload)),
    })
}

fn json(value: wire::Value) -> Result<Json, Status> {
    use wire::value::Kind;
    Ok(match value.kind.ok_or_else(|| missing("a value"))? {
        Kind::BoolValue(flag) => flag.into(),
        Kind::DoubleValue(number) => number.into(),
        Kind::IntegerValue(number) => number.into(),
        Kind::StringValue(text) => text.into(),
        Kind::ListValue(list) => Json::Array(list.values.into_iter().map(json).collect::<Result<_, _>>()?),
        Kind::NullValue(_) | Kind::StructValue(_) => return Err(Status::unimplemented("a value of another kind")),
    })
}

fn filter(filter: wire::Filter) -> Result<Filter, Status> {
    let conditions = |all: Vec<wire::Condition>| -> Result<Option<Vec<Condition>>, Status> {
        if all.is_empty() { Ok(None) } else { all.into_iter().map(condition).collect::<Result<_, _>>().map(Some) }
    };
    Ok(Filter { should: conditions(filter.should)?, must: conditions(filter.must)?, must_not: conditions(filter.must_not)?, min_should: None })
}

fn condition(condition: wire::Condition) -> Result<Condition, Status> {
    use wire::{condition::ConditionOneOf, r#match::MatchValue};
    Ok(match condition.condition_one_of.ok_or_else(|| missing("a condition"))? {
        ConditionOneOf::Filter(nested) => Condition::Filter(filter(nested)?),
        ConditionOneOf::HasId(has) => Condition::HasId(HasIdCondition::from_iter(has.has_id.into_iter().map(id).collect::<Result<Vec<_>, _>>()?)),
        ConditionOneOf::IsEmpty(empty) => Condition::IsEmpty(IsEmptyCondition::from(path(&empty.key)?)),
        ConditionOneOf::Field(wire::FieldCondition { key, range: Some(range), .. }) => {
            let bound = |bound: Option<f64>| bound.map(OrderedFloat);
            let range = Range { gt: bound(range.gt), gte: bound(range.gte), lt: bound(range.lt), lte: bound(range.lte) };
            Condition::Field(FieldCondition::new_range(path(&key)?, range))
        }
        ConditionOneOf::Field(wire::FieldCondition { key, r#match: Some(wanted), .. }) => {
            let wanted = match wanted.match_value {
                Some(MatchValue::Boolean(flag)) => Match::new_value(ValueVariants::Bool(flag)),
                Some(MatchValue::Keyword(text)) => Match::new_value(ValueVariants::String(text)),
                Some(MatchValue::Keywords(texts)) => Match::Any(MatchAny { any: AnyVariants::Strings(texts.strings.into_iter().collect()) }),
                other => return Err(Status::unimplemented(format!("{other:?}"))),
            };
            Condition::Field(FieldCondition::new_match(path(&key)?, wanted))
        }
        other => return Err(Status::unimplemented(format!("{other:?}"))),
    })
}

/// As the server reads it: dots and brackets would mean something.
fn path(key: &str) -> Result<JsonPath, Status> {
    key.parse().map_err(|()| Status::invalid_argument(format!("Invalid json path: {key}")))
}

fn id(id: wire::PointId) -> Result<PointId, Status> {
    match id.point_id_options {
        Some(wire::point_id::PointIdOptions::Num(number)) => Ok(PointId::NumId(number)),
        other => Err(Status::unimplemented(format!("{other:?}"))),
    }
}

fn wire_id(id: PointId) -> wire::PointId {
    match id {
        PointId::NumId(number) => number.into(),
        PointId::Uuid(uuid) => uuid.to_string().into(),
    }
}

fn dense_output(vectors: VectorStructInternal) -> wire::VectorsOutput {
    let VectorStructInternal::Named(named) = vectors else { return wire::VectorsOutput::default() };
    let output = |vector| match vector {
        VectorInternal::Dense(data) => {
            Some(wire::VectorOutput { vector: Some(wire::vector_output::Vector::Dense(wire::DenseVector { data })), ..Default::default() })
        }
        _ => None,
    };
    let vectors = named.into_iter().filter_map(|(name, vector)| Some((name.to_string(), output(vector)?))).collect();
    wire::VectorsOutput { vectors_options: Some(wire::vectors_output::VectorsOptions::Vectors(wire::NamedVectorsOutput { vectors })) }
}
