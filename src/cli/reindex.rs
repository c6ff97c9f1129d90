//! `inkling reindex`: the index is derived from the database, so it can always be made anew. Where a server has the folder open it is asked to do
//! it, and answers meanwhile.

use std::{
    net::SocketAddr,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use reqwest::{Method, StatusCode};
use serde_json::{Value as Json, json};

use crate::{
    app::{App, clear_index},
    config::{AdminKey, Settings},
    encoder::PreparedModel,
    store::{Store, StoreError},
    telemetry::Registry,
};

use super::{progress, progress::prepared_model, runtime};

/// How often the server is asked how far it is.
const LOOK_AGAIN: Duration = Duration::from_millis(300);
/// How long it may be too busy to say.
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) fn run(settings: &Settings) -> anyhow::Result<ExitCode> {
    let model = prepared_model(settings)?;
    runtime()?.block_on(async {
        match Store::open(&settings.paths.data, &settings.store, &Registry::new()).await {
            Ok(store) => build(settings, &model, &store).await?,
            Err(StoreError::InUse) => Server::of(settings)?.build(settings, &model).await?,
            Err(error) => return Err(error.into()),
        }
        Ok(ExitCode::SUCCESS)
    })
}

/// Without a server.
async fn build(settings: &Settings, model: &PreparedModel, store: &Store) -> anyhow::Result<()> {
    let cleared = clear_index(settings, store).await;
    store.close().await;
    let total = cleared?;
    let app = App::build(settings, model).await?;
    let bar = progress::items(total, "indexing");
    let indexed = app.index_all(|done| bar.set_position(done as u64)).await;
    bar.finish_and_clear();
    let place = app.collection().display().to_string();
    app.close().await;
    indexed?;
    println!("indexed {total} items into {place}");
    Ok(())
}

/// The server that has the folder open.
struct Server {
    http: reqwest::Client,
    base: String,
    key: Option<AdminKey>,
}

impl Server {
    /// At the address that the settings name.
    fn of(settings: &Settings) -> anyhow::Result<Self> {
        let (data, listen) = (settings.paths.data.display(), &settings.http.listen);
        let base = match listen.parse::<SocketAddr>() {
            Ok(address) if address.port() == 0 => bail!("another process has {data} open; if it is a server, say with --listen at which address it answers"),
            Ok(mut address) => {
                if address.ip().is_unspecified() {
                    address.set_ip(if address.is_ipv4() { [127, 0, 0, 1].into() } else { std::net::Ipv6Addr::LOCALHOST.into() });
                }
                address.to_string()
            }
            Err(_) => listen.clone(), // a name and a port
        };
        // Not by way of a proxy that the environment names: it may not reach this address.
        let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(30)).build()?;
        Ok(Self { http, base: format!("http://{base}"), key: AdminKey::from_environment() })
    }

    async fn build(&self, settings: &Settings, model: &PreparedModel) -> anyhow::Result<()> {
        let (base, data) = (&self.base, settings.paths.data.display());
        eprintln!("another process has {data} open: asking the server at {base}");
        let manifest = &model.manifest;
        let wanted = json!({"model": manifest.name, "precision": manifest.precision, "lexical": settings.index.lexical});
        let does_not = || format!("the server at {base} does not build the index (another address: --listen)");
        // What has the folder open may be an import, and who answers there another shop.
        let ours = Store::open_read_only(&settings.paths.data, &settings.store).await.with_context(|| data.to_string())?;
        let found = self.ask(Method::GET, None).await.with_context(does_not)?;
        ensure!(
            found["catalogue"] == ours.edition(),
            "the server at {base} serves another catalogue than the one in {data}: say with --listen at which address that one's server answers; if \
             what has {data} open is no server, such as an import, run this again when it has ended"
        );
        self.ask(Method::POST, Some(&wanted)).await.with_context(does_not)?;
        let state = self.followed().await?;

        let last = &state["last"];
        ensure!(last.is_object(), "the server at {base} was started anew meanwhile and goes on with the index as it was: run this again");
        if let Some(error) = last["error"].as_str() {
            bail!("the server at {base} could not build the index and goes on with the old one: {error}");
        }
        println!("indexed {} item states; {} in {} answers now", last["done"], last["model"].as_str().unwrap_or(""), last["precision"].as_str().unwrap_or(""));
        let changes: Vec<String> = state["change_settings"].as_object().into_iter().flatten().map(|(key, value)| format!("{key} = {value}")).collect();
        if !changes.is_empty() {
            println!("before the server's next start, which is refused otherwise, set {}", changes.join(" and "));
        }
        Ok(())
    }

    /// Shows the progress until nothing is under way any more.
    async fn followed(&self) -> anyhow::Result<Json> {
        let bar = progress::items(0, "indexing");
        let mut heard = Instant::now();
        loop {
            tokio::time::sleep(LOOK_AGAIN).await;
            let state = match self.ask(Method::GET, None).await {
                Ok(state) => state,
                Err(_) if heard.elapsed() < PATIENCE => continue, // overloaded for a moment
                Err(error) => return Err(error.context(format!("the server at {} does not say how far it is", self.base))),
            };
            heard = Instant::now();
            let running = &state["running"];
            if running.is_null() {
                bar.finish_and_clear();
                return Ok(state);
            }
            bar.set_length(running["total"].as_u64().unwrap_or(0));
            bar.set_position(running["done"].as_u64().unwrap_or(0));
        }
    }

    async fn ask(&self, method: Method, body: Option<&Json>) -> anyhow::Result<Json> {
        let mut request = self.http.request(method, format!("{}/admin/reindex", self.base));
        if let Some(key) = &self.key {
            request = request.bearer_auth(key.shown());
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request.send().await?;
        let status = answer.status();
        let body: Json = answer.json().await.with_context(|| format!("status {status}, and no JSON"))?;
        let detail = body["detail"].as_str().unwrap_or("no reason given");
        match status {
            status if status.is_success() => Ok(body),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                bail!("{detail}; give one of http.keys.admin, the key itself and not its hash, in the variable INKLING_ADMIN_KEY")
            }
            _ => bail!("{detail}"),
        }
    }
}
