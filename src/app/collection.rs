//! Which collection of the index answers. Each lies in `index/<name>/`; `index/serving.json` names the one that is complete, and what it was
//! built by.
//!
//! The file is replaced whole, before requests see another collection and after that one is safely on disk. So whenever the process is killed, one
//! collection is complete and named, and every other is a leftover: half-filled by a move that was cut off, or outlived by one that was not.

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
    index::{Collections, IndexError, LexicalSettings, VectorIndex},
    store::Store,
};

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

/// The folder of all collections.
#[derive(Debug, Clone)]
pub(super) struct Shelf(PathBuf);

impl Shelf {
    pub(super) fn new(data: &Path) -> Self {
        Self(data.join("index"))
    }

    pub(super) fn folder(&self, collection: &str) -> PathBuf {
        self.0.join(collection)
    }

    /// The collections that lie here, complete or not.
    fn names(&self) -> Vec<String> {
        let folders = fs::read_dir(&self.0).into_iter().flatten().filter_map(Result::ok).filter(|entry| entry.path().is_dir());
        let mut names: Vec<String> = folders.filter_map(|folder| folder.file_name().into_string().ok()).collect();
        names.sort_unstable();
        names
    }

    /// A name for another collection of this encoder.
    pub(super) fn free_name(&self, encoder: &str) -> String {
        let taken = self.names();
        let mut name = encoder.to_owned();
        for number in 2.. {
            if !taken.contains(&name) {
                break;
            }
            name = format!("{encoder}.{number}");
        }
        name
    }

    /// The complete one; `None` where the file is missing, an error where it cannot be read.
    fn serving(&self) -> io::Result<Option<Serving>> {
        match fs::read(self.0.join(SERVING)) {
            Ok(json) => serde_json::from_slice(&json).map(Some).map_err(io::Error::other),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// From now on this is the complete one, also after a crash. Blocks for two fsyncs.
    pub(super) fn announce(&self, serving: &Serving) -> io::Result<()> {
        let mut file = tempfile::Builder::new().prefix(".serving-").tempfile_in(&self.0)?;
        file.write_all(&serde_json::to_vec_pretty(serving)?)?;
        file.as_file().sync_all()?;
        file.persist(self.0.join(SERVING)).map_err(|error| error.error)?;
        // Makes the rename durable, where folders can be flushed.
        drop(fs::File::open(&self.0).and_then(|folder| folder.sync_all()));
        Ok(())
    }

    /// Deletes a collection that nobody has open. The word of the database goes first: a crash in between leaves a folder that nothing is known
    /// of, and the next start deletes it.
    async fn discard(&self, store: &Store, name: &str) -> anyhow::Result<()> {
        store.set_flushed_revision(name, Revision::default()).await?;
        let folder = self.folder(name);
        fs::remove_dir_all(&folder).with_context(|| format!("{} cannot be removed", folder.display()))
    }

    async fn discard_all_but(&self, store: &Store, kept: &str) -> anyhow::Result<()> {
        for name in self.names().iter().filter(|name| *name != kept) {
            self.discard(store, name).await?;
            tracing::info!(collection = name, "removed the collection {name}, which nobody needs any more; its embeddings stay in the database");
        }
        Ok(())
    }

    /// Deletes all collections, so that the next start builds one anew.
    pub(super) async fn clear(&self, store: &Store) -> anyhow::Result<()> {
        for name in self.names() {
            self.discard(store, &name).await?;
        }
        if self.0.exists() {
            fs::remove_dir_all(&self.0).with_context(|| format!("{} cannot be removed", self.0.display()))?;
        }
        Ok(())
    }

    /// Opens the complete collection if it is built for what is `wanted`, makes one where there is none, and deletes leftovers. One that is
    /// torn is made anew: all of it can be derived from the store.
    pub(super) async fn open(
        &self,
        collections: &Collections,
        store: &Store,
        settings: &Settings,
        wanted: &BuiltFor,
        width: usize,
    ) -> anyhow::Result<(Serving, Arc<dyn VectorIndex>)> {
        let found = self.serving();
        let name = match self.complete(&found, store, settings, wanted).await? {
            Some(name) => name,
            None => {
                self.clear(store).await?;
                store.set_flushed_revision(&wanted.encoder, Revision::default()).await?;
                wanted.encoder.clone()
            }
        };
        let folder = self.folder(&name);
        let index = match collections.open(&folder, width).await {
            Err(IndexError::Unusable { folder, detail }) => {
                tracing::warn!(detail, "the index cannot be read; building it anew from the database");
                self.discard(store, &name).await?;
                collections.open(&folder, width).await?
            }
            opened => opened?,
        };
        let serving = Serving { collection: name, built: wanted.clone() };
        if !matches!(&found, Ok(Some(found)) if *found == serving) {
            self.announce(&serving).with_context(|| format!("{} cannot be written", self.0.join(SERVING).display()))?;
        }
        self.discard_all_but(store, &serving.collection).await?;
        Ok((serving, index))
    }

    /// The complete collection, if it fits; `None` if there is none, or an empty one.
    async fn complete(&self, found: &io::Result<Option<Serving>>, store: &Store, settings: &Settings, wanted: &BuiltFor) -> anyhow::Result<Option<String>> {
        let names = self.names();
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::Overrides,
        domain::Item,
        telemetry::{Compute, Registry},
    };

    struct World {
        folder: tempfile::TempDir,
        settings: Settings,
        store: Store,
        collections: Collections,
        shelf: Shelf,
    }

    impl World {
        async fn with_items(count: usize) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let overrides = Overrides { data: Some(folder.path().to_owned()), ..Overrides::default() };
            let settings = Settings::load(&overrides).unwrap();
            let store = Store::open(folder.path(), &settings.store, &Registry::new()).await.unwrap();
            let item = |i: usize| serde_json::from_value::<Item>(json!({"item_id": i.to_string(), "title": "tent"})).unwrap();
            store.put_items((0..count).map(item).collect()).await.unwrap();
            let collections = Collections::new(&settings.index, Compute::start("test", 2, 64).unwrap(), &Registry::new()).unwrap();
            Self { shelf: Shelf::new(folder.path()), folder, settings, store, collections }
        }

        async fn open(&self, wanted: &BuiltFor) -> anyhow::Result<Serving> {
            let collections = self.collections.with_lexical(&wanted.lexical);
            let mut settings = self.settings.clone();
            settings.index.lexical = wanted.lexical.clone();
            self.shelf.open(&collections, &self.store, &settings, wanted, 4).await.map(|(serving, _)| serving)
        }

        /// A collection of another encoder on the shelf, as far filled as a move that was killed left it.
        async fn half_filled(&self, built: &BuiltFor) -> Serving {
            let name = self.shelf.free_name(&built.encoder);
            drop(self.collections.with_lexical(&built.lexical).open(&self.shelf.folder(&name), 4).await.unwrap());
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

        assert_eq!(world.shelf.names(), ["old"]);
        assert_eq!(world.store.flushed_revision(&leftover.collection).await.unwrap(), Revision(0));
    }

    #[tokio::test]
    async fn a_half_filled_collection_does_not_serve_whatever_the_settings_say() {
        let world = World::with_items(2).await;
        world.open(&world.built_by("old", OLD)).await.unwrap();
        world.half_filled(&world.built_by("new", NEW)).await;

        let refused = world.open(&world.built_by("new", NEW)).await.unwrap_err().to_string();

        assert!(refused.contains("was built by old, not by new") && refused.contains("`inkling reindex --data "), "{refused}");
        assert_eq!(world.shelf.names(), ["new", "old"], "what serves, and what a refused start has no business with, stay");
    }

    #[tokio::test]
    async fn after_a_move_a_start_with_the_old_settings_is_refused_with_those_to_change() {
        let world = World::with_items(2).await;
        let (old, mut new) = (world.built_by("old", OLD), world.built_by("new", NEW));
        new.lexical.title_weight = 3.0;
        (new.precision, new.max_tokens) = (Precision::Fp32, 128);
        world.open(&old).await.unwrap();
        let moved = world.half_filled(&new).await;
        world.shelf.announce(&moved).unwrap();

        let refused = world.open(&old).await.unwrap_err().to_string();
        for setting in [r#"encoder.model = "all-minilm-l6-v2""#, r#"encoder.precision = "fp32""#, "encoder.max_tokens = 128", "index.lexical.title_weight = 3"]
        {
            assert!(refused.contains(setting), "{refused}");
        }
        assert_eq!(world.shelf.names(), ["new", "old"]);

        assert_eq!(world.open(&new).await.unwrap(), moved);
        assert_eq!(world.shelf.names(), ["new"], "the old one outlived the move");
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
        world.shelf.announce(&moved).unwrap();

        assert_eq!(world.open(&new).await.unwrap(), moved);
        assert_eq!(world.shelf.names(), ["old.2"]);
        assert_eq!(world.shelf.free_name("old"), "old");
    }

    #[tokio::test]
    async fn without_items_any_model_may_begin_and_a_collection_without_the_file_is_taken_on() {
        let world = World::with_items(0).await;
        world.open(&world.built_by("old", OLD)).await.unwrap();
        assert_eq!(world.open(&world.built_by("new", NEW)).await.unwrap().collection, "new");
        assert_eq!(world.shelf.names(), ["new"]);

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
        fs::remove_dir_all(world.shelf.folder("old")).unwrap();
        world.store.set_flushed_revision("old", Revision(2)).await.unwrap();

        assert_eq!(world.open(&old).await.unwrap().collection, "old");
        assert_eq!((world.shelf.names(), world.store.flushed_revision("old").await.unwrap()), (vec!["old".to_owned()], Revision(0)));

        world.store.set_flushed_revision("old", Revision(2)).await.unwrap();
        fs::write(world.folder.path().join("index").join(SERVING), "torn").unwrap();
        assert_eq!(world.open(&old).await.unwrap().collection, "old");
        assert_eq!(world.store.flushed_revision("old").await.unwrap(), Revision(0));
    }
}
