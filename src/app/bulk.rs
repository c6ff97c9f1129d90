//! The write path alone, for commands that load or read much: no model, no index, no doors. What is written is pending for the next server.

use std::sync::Arc;

use anyhow::Context;

use crate::{
    config::Settings,
    features::{Columns, Histories, Popularity, Rulebook, Signals},
    ingest::{Ingest, Rooms},
    store::Store,
    telemetry::Registry,
};

/// Store and ingest on the data folder of the settings.
pub struct WritePath {
    /// The truth; close it when done.
    pub store: Store,
    /// Checks and writes.
    pub ingest: Ingest,
}

impl WritePath {
    /// Opens it; fails with [`StoreError::InUse`](crate::store::StoreError::InUse) inside while a server runs on the folder.
    pub async fn open(settings: &Settings) -> anyhow::Result<Self> {
        let data = &settings.paths.data;
        std::fs::create_dir_all(data).with_context(|| format!("the data folder {} cannot be made", data.display()))?;
        let registry = Registry::new();
        let store = Store::open(data, &settings.store, &registry).await?;
        // What is known right now is for a server to know: these are filled by what is written and read by nobody.
        let rooms = Rooms {
            store: store.clone(),
            columns: Arc::new(Columns::default()),
            histories: Arc::new(Histories::new(0)),
            popularity: Arc::new(Popularity::new(settings.features.popularity_half_life_days)),
            signals: Arc::new(Signals::new(&settings.features)?),
            rulebook: Arc::new(Rulebook::new(&[])),
            showings: Arc::default(),
        };
        Ok(Self { store, ingest: Ingest::new(rooms, &registry)? })
    }
}
