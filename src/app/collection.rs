//! Which collection of the index answers. Embedded, each lies in `index/<name>/`; `index/serving.json` names the one that is complete, and what
//! it was built by. On a server that stands with the collection itself, for all replicas; the last one that was completed counts.
//!
//! The file is replaced whole, before requests see another collection and after that one is safely on disk. So whenever the process is killed, one
//! collection is complete and named, and every other is a leftover: half-filled by a move that was cut off, or outlived by one that was not. On a
//! server, what is left over is what no process claims any more: another replica may still answer from it, or fill it.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

use crate::{
    config::Settings,
    domain::Revision,
    encoder::{Encoder, Manifest, Precision, PreparedModel},
    index::{Collections, Home, IndexError, LexicalSettings, Opened, VectorIndex},
    ingest::Tenure,
    store::Store,
    telemetry::Compute,
};

use super::own_vectors::{collection_of, is_of_own_vectors};

const SERVING: &str = "serving.json";

/// What a collection is built by.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct BuiltFor {
    /// The encoder's version: what decides whether embeddings fit.
    pub(super) encoder: String,
    pub(super) model: String,
    pub(super) precision: Precision,
    pub(super) max_tokens: usize,
    pub(super) lexical: LexicalSettings,
}

/// A complete collection.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Serving {
    pub(super) collection: String,
    #[serde(flatten)]
    pub(super) built: BuiltFor,
}

impl BuiltFor {
    /// What `model` builds with these settings.
    pub(super) fn of(model: &PreparedModel, settings: &Settings, lexical: &LexicalSettings) -> Self {
        Self {
            encoder: Encoder::version_of(model, &settings.encoder),
            model: model.manifest.name.clone(),
            precision: model.manifest.precision,
            max_tokens: settings.encoder.max_tokens.min(model.manifest.max_tokens),
            lexical: lexical.clone(),
        }
    }

    fn answers_for(&self, other: &Self) -> bool {
        self.encoder == other.encoder && self.lexical == other.lexical
    }

    /// The settings that a start must have to go on with this, where `settings` say something else.
    pub(super) fn settings_to_change(&self, settings: &Settings) -> BTreeMap<String, Json> {
        let mut changes = BTreeMap::new();
        let mut want = |key: &str, differs: bool, value: Json| {
            if differs {
                changes.insert(key.to_owned(), value);
            }
        };
        want("encoder.model", settings.encoder.model != self.model, json!(self.model));
        if let Ok(manifest) = Manifest::named(&settings.paths.models_dir(), &self.model) {
            let precision = settings.encoder.precision.unwrap_or(manifest.precision);
            want("encoder.precision", precision != self.precision, json!(self.precision));
            want("encoder.max_tokens", settings.encoder.max_tokens.min(manifest.max_tokens) != self.max_tokens, json!(self.max_tokens));
        }
        let (now, then) = (json!(settings.index.lexical), json!(self.lexical));
        for (key, value) in then.as_object().into_iter().flatten() {
            want(&format!("index.lexical.{key}"), now.get(key) != Some(value), value.clone());
        }
        changes
    }
}

/// Settings as they stand in a file.
pub(super) fn in_words(settings: &BTreeMap<String, Json>) -> String {
    settings.iter().map(|(key, value)| format!("{key} = {value}")).collect::<Vec<_>>().join(" and ")
}

/// What stands with a complete collection on a server.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Mark {
    /// Of the collections that were completed; the last one answers.
    number: u64,
    #[serde(flatten)]
    serving: Serving,
}

/// All collections.
#[derive(Clone)]
pub(super) struct Shelf {
    /// Of the embedded ones.
    folder: PathBuf,
    pub(super) collections: Collections,
    compute: Compute,
}

/// Where a catalogue's collections belong.
pub(super) fn home(data: &Path, store: &Store) -> Home {
    Home { folder: data.join("index"), catalogue: store.edition().to_owned() }
}

impl Shelf {
    pub(super) fn new(data: &Path, collections: Collections, compute: Compute) -> Self {
        Self { folder: data.join("index"), collections, compute }
    }

    /// Where the collection is, for people.
    pub(super) fn place(&self, collection: &str) -> PathBuf {
        self.collections.place(collection)
    }

    /// A name for another collection of this encoder.
    pub(super) async fn free_name(&self, encoder: &str) -> Result<String, IndexError> {
        let taken = self.collections.names().await?;
        let mut name = encoder.to_owned();
        for number in 2.. {
            if !taken.contains(&name) {
                break;
            }
            name = format!("{encoder}.{number}");
        }
        Ok(name)
    }

    /// The complete one; `None` where none is known, an error inside where what should say so cannot be read.
    async fn serving(&self) -> Result<io::Result<Option<Serving>>, IndexError> {
        if self.collections.are_shared() {
            return Ok(Ok(self.marks().await?.into_iter().max_by_key(|mark| mark.number).map(|mark| mark.serving)));
        }
        Ok(match fs::read(self.folder.join(SERVING)) {
            Ok(json) => serde_json::from_slice(&json).map(Some).map_err(io::Error::other),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        })
    }

    async fn marks(&self) -> Result<Vec<Mark>, IndexError> {
        Ok(self.collections.marks().await?.into_iter().filter_map(|(_, mark)| serde_json::from_str(&mark).ok()).collect())
    }

    /// From now on this is the complete one, also after a crash.
    pub(super) async fn announce(&self, serving: &Serving) -> anyhow::Result<()> {
        if self.collections.are_shared() {
            let number = self.marks().await?.iter().map(|mark| mark.number).max().unwrap_or(0) + 1;
            let mark = serde_json::to_string(&Mark { number, serving: serving.clone() })?;
            return Ok(self.collections.mark(&serving.collection, mark).await?);
        }
        let (folder, serving) = (self.folder.clone(), serving.clone());
        let written = self.compute.run(move || write_serving(&folder, &serving)).await?;
        written.with_context(|| format!("{} cannot be written", self.folder.join(SERVING).display()))
    }

    /// Deletes a collection that nobody has open. The word of the database goes first: a crash in between leaves a collection that nothing is
    /// known of, and the next start deletes it.
    pub(super) async fn discard(&self, store: &Store, name: &str) -> anyhow::Result<()> {
        store.set_flushed_revision(name, Revision::default()).await?;
        self.collections.discard(name).await.with_context(|| format!("{} cannot be removed", self.place(name).display()))
    }

    /// Deletes a collection on a server, unless a process claims it; whether it did. Takes some seconds.
    pub(super) async fn discard_forsaken(&self, store: &Store, name: &str) -> anyhow::Result<bool> {
        let Some(lease) = Tenure::forsaken(store, name).await? else { return Ok(false) };
        store.set_flushed_revision_under(&lease, name, Revision::default()).await?;
        let discarded = self.collections.discard(name).await;
        store.release_lease(lease).await?;
        discarded?;
        Ok(true)
    }

    /// Except those of own vectors that the catalogue has names for. On a server in the background, for it takes some seconds to know that nobody
    /// claims one.
    async fn discard_all_but(&self, store: &Store, kept: &str) -> anyhow::Result<()> {
        let own_vectors: Vec<String> = store.vector_widths().await?.keys().map(|vector| collection_of(vector)).collect();
        let told =
            |name: &str| tracing::info!(collection = name, "removed the collection {name}, which nobody needs any more; its embeddings stay in the database");
        for name in self.collections.names().await?.into_iter().filter(|name| *name != kept && !own_vectors.contains(name)) {
            if self.collections.are_shared() {
                let (shelf, store) = (self.clone(), store.clone());
                tokio::spawn(async move {
                    match shelf.discard_forsaken(&store, &name).await {
                        Ok(true) => told(&name),
                        Ok(false) => tracing::info!(collection = name, "the collection {name} stays: another process has it in use"),
                        Err(error) => tracing::warn!(error = format!("{error:#}"), "the collection {name} could not be removed; the next start tries again"),
                    }
                });
            } else {
                self.discard(store, &name).await?;
                told(&name);
            }
        }
        Ok(())
    }

    /// Deletes all collections, so that the next start builds one anew; an error, where another process uses one on a server.
    pub(super) async fn clear(&self, store: &Store) -> anyhow::Result<()> {
        for name in self.collections.names().await? {
            if !self.collections.are_shared() {
                self.discard(store, &name).await?;
            } else if !self.discard_forsaken(store, &name).await? {
                bail!("{} is in use; ask a server that uses it to build it anew: POST /admin/reindex", self.place(&name).display());
            }
        }
        if !self.collections.are_shared() && self.folder.exists() {
            fs::remove_dir_all(&self.folder).with_context(|| format!("{} cannot be removed", self.folder.display()))?;
        }
        Ok(())
    }

    /// To be called before a collection is made: whatever the database knows of one of that name is of one that is gone.
    pub(super) async fn begin(&self, store: &Store, name: &str) -> anyhow::Result<()> {
        if !self.collections.are_shared() {
            return Ok(store.set_flushed_revision(name, Revision::default()).await?);
        }
        let tenure = Tenure::claim(store, name);
        let begun = tenure.comes().await && tenure.set_flushed(Revision::default()).await?;
        tenure.release().await;
        if begun { Ok(()) } else { bail!("{} is gone, but another process still writes it: stop that one first", self.place(name).display()) }
    }

    /// Opens the complete collection if it is built for what is `wanted`, makes one where there is none, and deletes leftovers. One that is
    /// torn is made anew: all of it can be derived from the store.
    pub(super) async fn open(&self, store: &Store, settings: &Settings, wanted: &BuiltFor, width: usize) -> anyhow::Result<(Serving, Arc<dyn VectorIndex>)> {
        let collections = self.collections.with_lexical(&wanted.lexical);
        let found = self.serving().await?;
        let name = match self.complete(&found, store, settings, wanted).await? {
            Some(name) => name,
            None => {
                if !self.collections.are_shared() {
                    self.clear(store).await?;
                }
                if !self.collections.names().await?.contains(&wanted.encoder) {
                    self.begin(store, &wanted.encoder).await?;
                }
                wanted.encoder.clone()
            }
        };
        let Opened { index, .. } = match collections.open(&name, width).await {
            Err(IndexError::Unusable { detail, .. }) if !self.collections.are_shared() => {
                tracing::warn!(detail, "the index cannot be read; building it anew from the database");
                self.discard(store, &name).await?;
                collections.open(&name, width).await?
            }
            opened => opened?,
        };
        let serving = Serving { collection: name, built: wanted.clone() };
        if !matches!(&found, Ok(Some(found)) if *found == serving) {
            self.announce(&serving).await?;
        }
        self.discard_all_but(store, &serving.collection).await?;
        Ok((serving, index))
    }

    /// The complete collection, if it fits; `None` if there is none, or an empty one.
    async fn complete(&self, found: &io::Result<Option<Serving>>, store: &Store, settings: &Settings, wanted: &BuiltFor) -> anyhow::Result<Option<String>> {
        let mut names = self.collections.names().await?;
        names.retain(|name| !is_of_own_vectors(name));
        let other = match found {
            Ok(Some(serving)) if names.contains(&serving.collection) => {
                if serving.built.answers_for(wanted) {
                    return Ok(Some(serving.collection.clone()));
                }
                Some(serving.built.clone())
            }
            // What the file named is gone, or the file is torn: none of the others is known to be complete.
            Ok(Some(_)) | Err(_) => {
                tracing::warn!("the index cannot be read; building it anew from the database");
                return Ok(None);
            }
            // Made before there was this file: one collection, under the encoder's version.
            Ok(None) if names.contains(&wanted.encoder) => return Ok(Some(wanted.encoder.clone())),
            Ok(None) => None,
        };
        let Some(builder) = other.as_ref().map(|built| &built.encoder).or(names.first()) else { return Ok(None) };
        if store.item_counts().await?.live == 0 {
            return Ok(None);
        }
        // Filling it takes hours for a large catalogue, and until then nothing would be found by its meaning: not without being asked to.
        let (data, model) = (settings.paths.data.display(), &wanted.model);
        let changes = other.as_ref().map(|built| built.settings_to_change(settings)).filter(|changes| !changes.is_empty());
        let instead = changes.map(|changes| format!("; or go on with it as it is: set {}", in_words(&changes))).unwrap_or_default();
        let wanted = if *builder == wanted.encoder { "not with these settings of [index.lexical]".to_owned() } else { format!("not by {}", wanted.encoder) };
        bail!("the index in {data} was built by {builder}, {wanted}; `inkling reindex --data {data} --model {model}` builds it anew{instead}");
    }
}

/// Whole or not at all. Blocks for two fsyncs.
fn write_serving(folder: &Path, serving: &Serving) -> io::Result<()> {
    let mut file = tempfile::Builder::new().prefix(".serving-").tempfile_in(folder)?;
    file.write_all(&serde_json::to_vec_pretty(serving)?)?;
    file.as_file().sync_all()?;
    file.persist(folder.join(SERVING)).map_err(|error| error.error)?;
    // Makes the rename durable, where folders can be flushed.
    drop(fs::File::open(folder).and_then(|folder| folder.sync_all()));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::Overrides, domain::Item, telemetry::Registry};

    struct World {
        folder: tempfile::TempDir,
        settings: Settings,
        store: Store,
        collections: Collections,
        shelf: Shelf,
    }

    impl World {
        async fn with_items(count: usize) -> Self {
            Self::on(None, count).await
        }

        async fn on(server: Option<&str>, count: usize) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let overrides = Overrides { data: Some(folder.path().to_owned()), ..Overrides::default() };
            let mut settings = Settings::load(&overrides).unwrap();
            settings.index.url = server.map(|url| url.parse().unwrap());
            let store = Store::open(folder.path(), &settings.store, &Registry::new()).await.unwrap();
            let item = |i: usize| serde_json::from_value::<Item>(json!({"item_id": i.to_string(), "title": "tent"})).unwrap();
            store.put_items((0..count).map(item).collect()).await.unwrap();
            let home = home(folder.path(), &store);
            let compute = Compute::start("test", 2, 64).unwrap();
            let collections = Collections::new(&settings.index, home, compute.clone(), &Registry::new()).unwrap();
            Self { shelf: Shelf::new(folder.path(), collections.clone(), compute), folder, settings, store, collections }
        }

        async fn names(&self) -> Vec<String> {
            self.collections.names().await.unwrap()
        }

        async fn open(&self, wanted: &BuiltFor) -> anyhow::Result<Serving> {
            let mut settings = self.settings.clone();
            settings.index.lexical = wanted.lexical.clone();
            self.shelf.open(&self.store, &settings, wanted, 4).await.map(|(serving, _)| serving)
        }

        /// A collection of another encoder on the shelf, as far filled as a move that was killed left it.
        async fn half_filled(&self, built: &BuiltFor) -> Serving {
            let name = self.shelf.free_name(&built.encoder).await.unwrap();
            drop(self.collections.with_lexical(&built.lexical).open(&name, 4).await.unwrap());
            self.store.set_flushed_revision(&name, Revision(1)).await.unwrap();
            Serving { collection: name, built: built.clone() }
        }

        fn built_by(&self, encoder: &str, model: &str) -> BuiltFor {
            BuiltFor {
                encoder: encoder.to_owned(),
                model: model.to_owned(),
                precision: Precision::Int8,
                max_tokens: 256,
                lexical: self.settings.index.lexical.clone(),
            }
        }
    }

    const OLD: &str = "multilingual-e5-small";
    const NEW: &str = "all-minilm-l6-v2";

    #[tokio::test]
    async fn a_move_that_was_killed_leaves_the_old_collection_in_service_and_its_leftover_goes() {
        let world = World::with_items(2).await;
        let (old, new) = (world.built_by("old", OLD), world.built_by("new", NEW));
        let serving = world.open(&old).await.unwrap();
        let leftover = world.half_filled(&new).await;

        assert_eq!(world.open(&old).await.unwrap(), serving);

        assert_eq!(world.names().await, ["old"]);
        assert_eq!(world.store.flushed_revision(&leftover.collection).await.unwrap(), Revision(0));
    }

    #[tokio::test]
    async fn a_half_filled_collection_does_not_serve_whatever_the_settings_say() {
        let world = World::with_items(2).await;
        world.open(&world.built_by("old", OLD)).await.unwrap();
        world.half_filled(&world.built_by("new", NEW)).await;

        let refused = world.open(&world.built_by("new", NEW)).await.unwrap_err().to_string();

        assert!(refused.contains("was built by old, not by new") && refused.contains("`inkling reindex --data "), "{refused}");
        assert_eq!(world.names().await, ["new", "old"], "what serves, and what a refused start has no business with, stay");
    }

    #[tokio::test]
    async fn after_a_move_a_start_with_the_old_settings_is_refused_with_those_to_change() {
        let world = World::with_items(2).await;
        let (old, mut new) = (world.built_by("old", OLD), world.built_by("new", NEW));
        new.lexical.title_weight = 3.0;
        (new.precision, new.max_tokens) = (Precision::Fp32, 128);
        world.open(&old).await.unwrap();
        let moved = world.half_filled(&new).await;
        world.shelf.announce(&moved).await.unwrap();

        let refused = world.open(&old).await.unwrap_err().to_string();
        for setting in [r#"encoder.model = "all-minilm-l6-v2""#, r#"encoder.precision = "fp32""#, "encoder.max_tokens = 128", "index.lexical.title_weight = 3"]
        {
            assert!(refused.contains(setting), "{refused}");
        }
        assert_eq!(world.names().await, ["new", "old"]);

        assert_eq!(world.open(&new).await.unwrap(), moved);
        assert_eq!(world.names().await, ["new"], "the old one outlived the move");
    }

    #[tokio::test]
    async fn another_analysis_of_words_is_refused_too_and_a_rebuild_of_the_same_encoder_has_a_name_of_its_own() {
        let world = World::with_items(2).await;
        let old = world.built_by("old", OLD);
        let mut new = old.clone();
        new.lexical.average_length = 50.0;
        world.open(&old).await.unwrap();

        let refused = world.open(&new).await.unwrap_err().to_string();
        assert!(refused.contains("not with these settings of [index.lexical]") && refused.contains("index.lexical.average_length = 100"), "{refused}");
        let moved = world.half_filled(&new).await;
        assert_eq!(moved.collection, "old.2");
        world.shelf.announce(&moved).await.unwrap();

        assert_eq!(world.open(&new).await.unwrap(), moved);
        assert_eq!(world.names().await, ["old.2"]);
        assert_eq!(world.shelf.free_name("old").await.unwrap(), "old");
    }

    #[tokio::test]
    async fn without_items_any_model_may_begin_and_a_collection_without_the_file_is_taken_on() {
        let world = World::with_items(0).await;
        world.open(&world.built_by("old", OLD)).await.unwrap();
        assert_eq!(world.open(&world.built_by("new", NEW)).await.unwrap().collection, "new");
        assert_eq!(world.names().await, ["new"]);

        fs::remove_file(world.folder.path().join("index").join(SERVING)).unwrap(); // as older programs left it
        world.store.set_flushed_revision("new", Revision(5)).await.unwrap();
        assert_eq!(world.open(&world.built_by("new", NEW)).await.unwrap().collection, "new");
        assert_eq!(world.store.flushed_revision("new").await.unwrap(), Revision(5));
    }

    #[tokio::test]
    async fn where_the_complete_one_is_gone_or_cannot_be_told_all_is_built_anew() {
        let world = World::with_items(2).await;
        let old = world.built_by("old", OLD);
        world.open(&old).await.unwrap();
        world.half_filled(&world.built_by("new", NEW)).await;
        fs::remove_dir_all(world.shelf.place("old")).unwrap();
        world.store.set_flushed_revision("old", Revision(2)).await.unwrap();

        assert_eq!(world.open(&old).await.unwrap().collection, "old");
        assert_eq!((world.names().await, world.store.flushed_revision("old").await.unwrap()), (vec!["old".to_owned()], Revision(0)));

        world.store.set_flushed_revision("old", Revision(2)).await.unwrap();
        fs::write(world.folder.path().join("index").join(SERVING), "torn").unwrap();
        assert_eq!(world.open(&old).await.unwrap().collection, "old");
        assert_eq!(world.store.flushed_revision("old").await.unwrap(), Revision(0));
    }

    #[tokio::test]
    async fn collections_of_own_vectors_stay_whichever_model_answers_and_go_with_their_names() {
        let world = World::with_items(1).await;
        let old = world.built_by("old", OLD);
        world.open(&old).await.unwrap();
        let (known, forgotten) = (collection_of("image"), collection_of("of another catalogue"));
        let item = serde_json::from_value::<Item>(json!({"item_id": "x", "title": "tent", "vectors": {"image": [1, 2, 3]}})).unwrap();
        world.store.put_items(vec![item]).await.unwrap();
        for name in [&known, &forgotten] {
            drop(world.collections.without_words().open(name, 3).await.unwrap());
        }
        world.store.set_flushed_revision(&known, Revision(2)).await.unwrap();

        assert_eq!(world.open(&old).await.unwrap().collection, "old");

        assert_eq!(world.names().await, ["old".to_owned(), known.clone()]);
        assert_eq!(world.store.flushed_revision(&known).await.unwrap(), Revision(2));
        fs::remove_file(world.folder.path().join("index").join(SERVING)).unwrap(); // as older programs left it
        assert_eq!(world.open(&old).await.unwrap().collection, "old");
    }

    #[cfg(feature = "edge")]
    #[tokio::test]
    async fn on_a_server_the_collection_that_was_completed_last_answers_and_the_one_that_nobody_claims_goes() {
        use crate::index::test_server;
        let server = test_server::Server::start_at(&test_server::Storage::default(), "127.0.0.1:0".parse().unwrap(), None);
        let world = World::on(Some(&server.url()), 2).await;
        let old = world.built_by("old", OLD);
        let mut new = old.clone();
        new.lexical.average_length = 50.0;
        assert_eq!(world.open(&old).await.unwrap().collection, "old");
        assert_eq!(world.open(&old).await.unwrap().collection, "old", "another replica, with an empty folder");
        let moved = world.half_filled(&new).await;

        assert!(world.open(&new).await.unwrap_err().to_string().contains("was built by old"), "not before it is complete");
        world.shelf.announce(&moved).await.unwrap();

        assert_eq!(world.open(&new).await.unwrap(), moved);
        assert!(world.open(&old).await.unwrap_err().to_string().contains("index.lexical.average_length = 50"));
        let begun = std::time::Instant::now();
        while world.names().await != ["old.2"] {
            assert!(begun.elapsed() < std::time::Duration::from_secs(30));
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    }
}
