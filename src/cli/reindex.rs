//! `inkling reindex`: the index is derived from the database, so it can always be made anew.

use std::process::ExitCode;

use anyhow::Context;

use crate::{
    app::{App, collection_folder, index_folder},
    config::Settings,
    domain::Revision,
    encoder::{Encoder, EncoderMetrics},
    store::Store,
    telemetry::Registry,
};

use super::{progress, progress::prepared_model, runtime};

pub(super) fn run(settings: &Settings) -> anyhow::Result<ExitCode> {
    let model = prepared_model(settings)?;
    runtime()?.block_on(async {
        let version = Encoder::start(&model, &settings.encoder, &EncoderMetrics::register(&Registry::new())?)?.version().to_owned();
        let store = Store::open(&settings.paths.data, &settings.store, &Registry::new()).await?;
        // The word of the database goes first: a crash in between finds an index that is to be filled from the beginning.
        store.set_flushed_revision(&version, Revision::default()).await?;
        let total = store.item_counts().await?.live;
        store.close().await;
        let folder = index_folder(&settings.paths.data);
        if folder.exists() {
            std::fs::remove_dir_all(&folder).with_context(|| format!("{} cannot be removed", folder.display()))?;
        }

        let app = App::build(settings, &model).await?;
        let bar = progress::items(total, "indexing");
        let indexed = app.index_all(|done| bar.set_position(done as u64)).await;
        bar.finish_and_clear();
        app.store.close().await;
        indexed?;
        println!("indexed {total} items into {}", collection_folder(&settings.paths.data, &version).display());
        Ok(ExitCode::SUCCESS)
    })
}
