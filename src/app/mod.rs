//! Floor 6: builds every room, wires the seams, starts and stops the workers.
//!
//! Settings and a prepared model in, a router and its workers out. Stopping goes in the order of the data: doors, training,
//! indexing, store.

mod bulk;
mod collection;
pub(crate) mod demo;
mod own_vectors;
mod reindex;
mod seams;

use std::{path::PathBuf, sync::Arc, time::Duration, time::Instant};

use anyhow::Context;
use axum::{Router, serve::ListenerExt};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::{
    config::Settings,
    domain::Timestamp,
    encoder::{Encoder, EncoderMetrics, PreparedModel},
    evaluation::Pipeline,
    features::{Columns, Histories, Popularity, Rulebook, Showings, Signals},
    http::{self, Doors, PartState, Phase, Readiness},
    index::{Collections, Lexicon},
    ingest::{self, Content, IndexCollection, Indexer, Ingest, Retention},
    learned::{Artefacts, Unreadable},
    recommend::{self, Blocklist, BlocklistMaker, BlocklistRooms, CategoryMaker, ModelSet, Models, Part, Published, RecommendationRequest, Recommender},
    store::Store,
    telemetry::{Compute, Registry},
    training::{self, Trainer},
};

use collection::{BuiltFor, Shelf, home};
use reindex::Mover;

pub use bulk::WritePath;

/// How often the parts are looked at.
const LOOK_AFTER: Duration = Duration::from_secs(2);

/// A built house, before its doors open.
pub struct App {
    /// Everything that is served.
    pub router: Router,
    /// The write path, for loading without HTTP.
    pub ingest: Ingest,
    /// The learn path.
    pub trainer: Trainer,
    /// The truth.
    pub store: Store,
    readiness: Readiness,
    recommender: Recommender,
    models: Models,
    columns: Arc<Columns>,
    indexer: Indexer,
    retention: Retention,
    category_maker: CategoryMaker,
    blocklist_maker: BlocklistMaker,
    mover: Mover,
    collection: PathBuf,
    stop: CancellationToken,
    drain: Duration,
}

impl App {
    /// Builds every room on the data folder of `settings`. Nothing is served or indexed yet.
    pub async fn build(settings: &Settings, model: &PreparedModel) -> anyhow::Result<Self> {
        Self::build_with(settings, model, Popularity::new(settings.features.popularity_half_life_days)).await
    }

    /// The rooms for a replay on the data folder of `settings`: the same ones, without doors, and with nothing in them that depends on the clock.
    pub async fn build_pipeline(settings: &Settings, model: &PreparedModel) -> anyhow::Result<Pipeline> {
        let popularity = Popularity::new(settings.features.popularity_half_life_days).always_current();
        let Self { ingest, trainer, store, recommender, models, columns, indexer, category_maker, .. } = Self::build_with(settings, model, popularity).await?;
        Ok(Pipeline { store, recommender, ingest, trainer, models, columns, indexer, category_maker })
    }

    async fn build_with(settings: &Settings, model: &PreparedModel, popularity: Popularity) -> anyhow::Result<Self> {
        let registry = Registry::new();
        register_process_metrics(&registry)?;
        let data = &settings.paths.data;
        std::fs::create_dir_all(data).with_context(|| format!("the data folder {} cannot be made", data.display()))?;
        let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
        let compute = Compute::start("compute", cores, 1_024)?;

        let store = Store::open(data, &settings.store, &registry).await?;
        let encoders = EncoderMetrics::register(&registry)?;
        let encoder = Encoder::start(model, &settings.encoder, &encoders)?;
        let lexicon = Arc::new(Lexicon::new(&settings.index.lexical));
        let collections = Collections::new(&settings.index, home(data, &store), compute.clone(), &registry)?;
        let (shelf, wanted) = (Shelf::new(data, collections.clone(), compute.clone()), BuiltFor::of(model, settings, &settings.index.lexical));
        let (serving, index) = shelf.open(&store, settings, &wanted, encoder.width()).await?;
        let artefacts = Artefacts::new(data.join("artefacts"), store.catalogue_id(), settings.training.keep_versions);
        let (newest, unreadable) = artefacts.newest::<serde_json::Value>()?;
        for Unreadable { version, reason } in unreadable {
            tracing::warn!(version, reason, "the learned weights {version} cannot be used; taking older ones");
        }
        let learned = newest.map(|kept| Published { version: kept.version, learned: Arc::new(kept.learned) });
        let models = Models::new(ModelSet {
            encoder: encoder.clone(),
            index: Arc::clone(&index),
            lexicon: Arc::clone(&lexicon),
            learned,
            categories: None,
            own_vectors: Arc::default(),
        });

        let columns = Arc::new(Columns::default());
        let histories = Arc::new(Histories::new(settings.features.history_cache_mb as u64 * 1_000_000));
        let popularity = Arc::new(popularity);
        let signals = Arc::new(Signals::new(&settings.features)?);
        let (rulebook, showings) = (Arc::new(Rulebook::new(&settings.rules)), Arc::new(Showings::default()));
        let rooms = ingest::Rooms {
            store: store.clone(),
            columns: Arc::clone(&columns),
            histories: Arc::clone(&histories),
            popularity: Arc::clone(&popularity),
            signals: Arc::clone(&signals),
            rulebook: Arc::clone(&rulebook),
            showings: Arc::clone(&showings),
        };
        let ingest = Ingest::new(rooms, &registry)?;
        ingest.recover(Timestamp::now()).await?;
        let collection = IndexCollection { name: serving.collection.clone(), index, content: Content::Text { encoder, lexicon } };
        let indexer = ingest.indexer(collection, settings.ingest.clone(), own_vectors::opener(shelf.clone(), store.clone(), models.clone())).await?;
        if let Err(error) = indexer.open_own_vectors().await {
            tracing::warn!(%error, "own vectors are not searchable yet; it is tried again");
        }

        let publish = seams::publisher(models.clone(), &registry)?;
        let category_maker = CategoryMaker::new(models.clone(), Arc::clone(&columns), compute.clone(), &registry)?;
        let exposed = seams::counter_of_showings(ingest.clone());
        let blocklist = Blocklist::default();
        let rooms = recommend::Rooms {
            models: models.clone(),
            columns: Arc::clone(&columns),
            histories,
            popularity,
            signals: Arc::clone(&signals),
            rulebook: Arc::clone(&rulebook),
            showings,
            blocklist: blocklist.clone(),
            store: store.clone(),
            compute: compute.clone(),
            exposed,
        };
        let recommender = Recommender::new(rooms, settings.recommend.clone(), &settings.features, &registry)?;
        let watched = BlocklistRooms { models: models.clone(), rulebook, store: store.clone(), compute: compute.clone() };
        let mut blocklist_maker = BlocklistMaker::new(watched, blocklist);
        blocklist_maker.catch_up().await; // what is kept out must not show until a worker has had its first look
        let pipeline = seams::Pipeline { models: models.clone(), recommender: recommender.clone(), weights: settings.recommend.weights.vector() };
        let rooms = training::Rooms {
            store: store.clone(),
            columns: Arc::clone(&columns),
            signals,
            artefacts,
            publish,
            rehearse: Arc::new(pipeline),
            popularity_half_life_days: settings.features.popularity_half_life_days,
        };
        let trainer = Trainer::new(rooms, settings.training.clone(), &registry).map_err(|error| anyhow::anyhow!(error))?;

        let readiness = Readiness::new(&registry)?;
        readiness.set_encoder(seams::facts_of(&models.snapshot().encoder));
        let (stop, collection) = (CancellationToken::new(), shelf.place(&serving.collection));
        let rooms = reindex::Rooms {
            settings: settings.clone(),
            shelf,
            collections,
            store: store.clone(),
            ingest: ingest.clone(),
            succession: indexer.succession(),
            models: models.clone(),
            categories: category_maker.clone(),
            encoders,
            readiness: readiness.clone(),
            compute,
        };
        let mover = Mover::new(rooms, serving, &registry, stop.clone())?;
        let retention = ingest.retention(&settings.store, mover.versions_in_use());
        let router = http::router(Doors {
            recommender: recommender.clone(),
            ingest: ingest.clone(),
            trainer: trainer.clone(),
            reindexing: Arc::new(mover.clone()),
            catalogue: Arc::new(seams::StoreCatalogue(store.clone())),
            store: store.clone(),
            readiness: readiness.clone(),
            registry,
            settings: settings.http.clone(),
        })?;
        let drain = Duration::from_secs_f64(settings.http.drain_seconds.clamp(0.0, 3_600.0));
        Ok(Self {
            router,
            ingest,
            trainer,
            store,
            readiness,
            recommender,
            models,
            columns,
            indexer,
            retention,
            category_maker,
            blocklist_maker,
            mover,
            collection,
            stop,
            drain,
        })
    }

    /// Indexes everything that is pending; `progress` is told how many item states are done.
    pub async fn index_all(&self, progress: impl FnMut(usize)) -> anyhow::Result<()> {
        Ok(self.indexer.catch_up(progress).await?)
    }

    /// Ends without having served.
    pub async fn close(self) {
        self.indexer.release().await;
        self.store.close().await;
    }

    /// Where the collection that was opened is: its folder, or its place on a server.
    pub fn collection(&self) -> &std::path::Path {
        &self.collection
    }

    /// Serves on `listener` until `shutdown`; then finishes what is under way, makes everything safe and returns.
    pub async fn serve(self, listener: TcpListener, shutdown: impl Future<Output = ()> + Send + 'static) -> anyhow::Result<()> {
        let Self {
            router,
            ingest,
            trainer,
            store,
            readiness,
            recommender,
            models,
            columns: _,
            indexer,
            retention,
            category_maker,
            blocklist_maker,
            mover,
            collection: _,
            stop,
            drain,
        } = self;
        let doors_closed = CancellationToken::new();
        // Answers are small and whole: waiting to fill a packet would only delay them.
        let listener = listener.tap_io(|connection| {
            if let Err(error) = connection.set_nodelay(true) {
                tracing::debug!(%error, "TCP_NODELAY");
            }
        });
        let server = {
            let (closing, readiness) = (doors_closed.clone(), readiness.clone());
            let shutdown = async move {
                shutdown.await;
                tracing::info!("shutting down: finishing what is under way");
                readiness.enter(Phase::Draining);
                closing.cancel();
            };
            axum::serve(listener, router).with_graceful_shutdown(shutdown)
        };
        let following = ingest.follower().map(|follower| tokio::spawn(follower.run(stop.clone())));
        let workers: Vec<JoinHandle<()>> = vec![
            tokio::spawn(indexer.run(stop.clone())),
            tokio::spawn(trainer.clone().run(ingest.accepted(), stop.clone())),
            tokio::spawn(category_maker.run(stop.clone())),
            tokio::spawn(blocklist_maker.run(stop.clone())),
            tokio::spawn(retention.run(stop.clone())),
            tokio::spawn(look_after(store.clone(), models.clone(), readiness.clone(), stop.clone())),
            tokio::spawn(start_up(recommender, trainer, store.clone(), models, readiness)),
        ];

        let drained = async {
            doors_closed.cancelled().await;
            tokio::time::sleep(drain).await;
        };
        tokio::select! {
            served = server.into_future() => served?,
            () = drained => tracing::warn!("some requests took longer than http.drain_seconds and were cut off"),
        }
        stop.cancel();
        mover.stopped().await;
        let [indexing, training, mapping, blocking, retaining, looking, starting] =
            workers.try_into().map_err(|_| anyhow::anyhow!("seven workers were started"))?;
        starting.abort();
        for worker in [indexing, training, mapping, blocking, retaining, looking].into_iter().chain(following) {
            worker.await.context("a worker failed")?;
        }
        store.close().await;
        tracing::info!("everything is on disk");
        Ok(())
    }
}

/// Warms up, opens the doors, and learns from what the log holds when nothing was learned yet.
async fn start_up(recommender: Recommender, trainer: Trainer, store: Store, models: Models, readiness: Readiness) {
    let warm_up = RecommendationRequest::warm_up(Timestamp::now(), Instant::now() + Duration::from_secs(30));
    match recommender.recommend(warm_up).await {
        Ok(answer) => {
            for part in Part::ALL {
                readiness.set(part, if answer.degraded.contains(&part) { PartState::Down } else { PartState::Up });
            }
        }
        Err(error) => tracing::warn!(%error, "the warm-up request failed"),
    }
    readiness.enter(Phase::Serving);
    tracing::info!("ready");
    let untrained = models.snapshot().learned.is_none();
    if untrained && store.event_count().await.is_ok_and(|events| events > 0) {
        // Logged by the trainer; a failure leaves the list to the other sources.
        drop(trainer.train().await);
    }
}

/// Looks at the parts that can come and go, for `/health/ready` and the gauge.
async fn look_after(store: Store, models: Models, readiness: Readiness, stop: CancellationToken) {
    let state = |up: bool| if up { PartState::Up } else { PartState::Down };
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(LOOK_AFTER) => {}
        }
        readiness.set(Part::Store, state(store.healthy().await));
        let (index, encoder_up) = {
            let snapshot = models.snapshot();
            (Arc::clone(&snapshot.index), snapshot.encoder.is_up())
        };
        readiness.set(Part::Encoder, state(encoder_up));
        readiness.set(Part::Index, state(index.is_up().await));
    }
}

/// Deletes the index, so that the next start builds it anew, and gives how many items there are.
pub async fn clear_index(settings: &Settings, store: &Store) -> anyhow::Result<u64> {
    let data = &settings.paths.data;
    let compute = Compute::start("reindex", 1, 16)?;
    let collections = Collections::new(&settings.index, home(data, store), compute.clone(), &Registry::new())?;
    Shelf::new(data, collections, compute).clear(store).await?;
    Ok(store.item_counts().await?.live)
}

#[cfg(target_os = "linux")]
fn register_process_metrics(registry: &Registry) -> prometheus::Result<()> {
    registry.register(Box::new(prometheus::process_collector::ProcessCollector::for_self()))
}

#[cfg(not(target_os = "linux"))]
fn register_process_metrics(_: &Registry) -> prometheus::Result<()> {
    Ok(())
}
