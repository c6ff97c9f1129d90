//! `inkling serve`.

use std::process::ExitCode;

use anyhow::Context;
use tokio::net::TcpListener;

use crate::{app::App, config::Settings};

use super::{progress::prepared_model, runtime};

pub(super) fn run(settings: &Settings) -> anyhow::Result<ExitCode> {
    let model = prepared_model(settings)?;
    runtime()?.block_on(async {
        let app = App::build(settings, &model).await?;
        let listener = listen(&settings.http.listen).await?;
        tracing::info!("listening on http://{}", listener.local_addr()?);
        app.serve(listener, stop_signal()).await?;
        Ok(ExitCode::SUCCESS)
    })
}

pub(super) async fn listen(address: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}; choose another address with --listen"))
}

/// Ends with SIGTERM or Ctrl-C.
pub(super) async fn stop_signal() {
    let interrupted = async {
        if let Err(error) = tokio::signal::ctrl_c().await {
            tracing::warn!(%error, "Ctrl-C cannot be heard");
            std::future::pending::<()>().await;
        }
    };
    #[cfg(unix)]
    {
        match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
            Ok(mut terminated) => tokio::select! {
                () = interrupted => {}
                _ = terminated.recv() => {}
            },
            Err(error) => {
                tracing::warn!(%error, "SIGTERM cannot be heard");
                interrupted.await;
            }
        }
    }
    #[cfg(not(unix))]
    interrupted.await;
}
