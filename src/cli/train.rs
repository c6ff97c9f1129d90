//! `inkling train`.

use std::process::ExitCode;

use crate::{app::App, config::Settings};

use super::{progress::prepared_model, runtime};

pub(super) fn run(settings: &Settings) -> anyhow::Result<ExitCode> {
    let model = prepared_model(settings)?;
    runtime()?.block_on(async {
        let app = App::build(settings, &model).await?;
        let trained = app.trainer.train().await;
        app.store.close().await;
        println!("{}", serde_json::to_string_pretty(&trained?)?);
        Ok(ExitCode::SUCCESS)
    })
}
