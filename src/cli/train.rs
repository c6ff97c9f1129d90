//! `inkling train`.

use std::process::ExitCode;

use anyhow::anyhow;

use crate::{app::App, config::Settings, store::StoreError};

use super::{progress::prepared_model, runtime};

pub(super) fn run(settings: &Settings) -> anyhow::Result<ExitCode> {
    let model = prepared_model(settings)?;
    runtime()?.block_on(async {
        let app = App::build(settings, &model).await.map_err(|error| match error.downcast_ref() {
            Some(StoreError::InUse) => {
                let (data, listen) = (settings.paths.data.display(), &settings.http.listen);
                anyhow!("another process has {data} open; a running server learns by `curl -X POST http://{listen}/admin/train`")
            }
            _ => error,
        })?;
        let trained = app.trainer.train().await;
        app.store.close().await;
        println!("{}", serde_json::to_string_pretty(&trained?)?);
        Ok(ExitCode::SUCCESS)
    })
}
