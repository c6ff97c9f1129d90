//! `inkling demo`: an invented shop, loaded and served; with `--check` it asks itself and says whether all is well.

use std::{net::SocketAddr, process::ExitCode, time::Duration};

use anyhow::{Context, ensure};
use serde_json::{Value as Json, json};
use tokio::sync::oneshot;

use crate::{
    app::{App, demo},
    config::Settings,
    domain::Timestamp,
};

use super::{progress, progress::prepared_model, runtime, serve};

const ENGLISH: &str = "light jacket for rainy hikes";
const CHINESE: &str = "下雨天徒步穿的轻便外套";
/// Words, and the item that is meant, which the catalogue has in the other language only.
const ACROSS: [(&str, &str); 10] = [
    ("dinosaur footprints", "news-zh-fossil"),
    ("dragon boat race", "news-zh-dragon-boat"),
    ("bone conduction headphones", "shop-zh-bone-headset"),
    ("incense sticks", "shop-zh-fragrance"),
    ("recall an email sent by mistake", "support-zh-mail-recall"),
    ("旅行路由器", "shop-travel-router"),
    ("珊瑚礁", "news-deep-sea-coral"),
    ("彗星", "news-comet-dawn"),
    ("外接显示器黑屏", "support-external-screen"),
    ("头灯", "shop-head-torch"),
];
/// Where it must be at least, with nothing said of languages. Items that share a word with the text may stand before it.
const ACROSS_WITHIN: usize = 8;
/// Words, the language that is asked for, and the item that is meant: there it is among the first three.
const IN_LANGUAGE: [(&str, &str, &str); 8] = [
    (ENGLISH, "zh", "shop-zh-light-shell"),
    ("noise cancelling headphones", "zh", "shop-zh-anc-earphones"),
    ("VPN does not connect", "zh", "support-zh-vpn-fail"),
    ("camping stove", "zh", "shop-zh-camp-stove"),
    (CHINESE, "en", "shop-rain-shell"),
    ("降噪耳机", "en", "shop-noise-headphones"),
    ("VPN 连不上", "en", "support-vpn-connect"),
    ("机械键盘", "en", "shop-mech-keyboard"),
];
/// What the visitor of the demo clicks on.
const CLICKED: &str = "shop-wool-socks";
/// How long `--check` waits for the doors.
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) fn run(settings: &Settings) -> anyhow::Result<ExitCode> {
    let model = prepared_model(settings)?;
    runtime()?.block_on(async {
        let app = App::build(settings, &model).await?;
        fill(&app).await?;
        let listener = serve::listen(&settings.http.listen).await?;
        print_invitation(listener.local_addr()?);
        app.serve(listener, serve::stop_signal()).await?;
        Ok(ExitCode::SUCCESS)
    })
}

/// Does what [`run`] does, on an own folder and port, and asks what the invitation invites to ask.
pub(super) fn check(mut settings: Settings) -> anyhow::Result<ExitCode> {
    let model = prepared_model(&settings)?;
    let bilingual = ["en", "zh"].iter().all(|wanted| model.manifest.languages.iter().any(|language| language == wanted));
    let folder = tempfile::tempdir().context("no folder for temporary files")?;
    settings.paths.data = folder.path().to_owned();
    runtime()?.block_on(async {
        let app = App::build(&settings, &model).await?;
        fill(&app).await?;
        let listener = serve::listen("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (stop, stopped) = oneshot::channel::<()>();
        let served = tokio::spawn(app.serve(listener, async { drop(stopped.await) }));
        let asked = ask_everything(address, bilingual).await;
        drop(stop);
        served.await.context("the server failed")??;
        match asked {
            Ok(()) => {
                println!("all is well");
                Ok(ExitCode::SUCCESS)
            }
            Err(error) => {
                println!("not well: {error:#}");
                Ok(ExitCode::FAILURE)
            }
        }
    })
}

async fn fill(app: &App) -> anyhow::Result<()> {
    let loaded = demo::load(app, Timestamp::now()).await?;
    eprintln!("loaded {} items and {} events", loaded.items, loaded.events);
    let bar = progress::items(loaded.items as u64, "indexing");
    app.index_all(|done| bar.set_position(done as u64)).await?;
    bar.finish_and_clear();
    eprintln!("learning from the events");
    app.trainer.train().await?;
    Ok(())
}

fn print_invitation(address: SocketAddr) {
    let json = "-H 'content-type: application/json'";
    println!(
        "inkling answers on http://{address} (a page to play with; /docs has the API). Paste these into another terminal:

  curl -s http://{address}/recommend {json} -d '{{\"user_id\": \"you\", \"text\": \"{ENGLISH}\", \"limit\": 5, \"fields\": [\"title\"], \"explain\": true}}'
  curl -s http://{address}/feedback {json} -d '{{\"user_id\": \"you\", \"type\": \"click\", \"item_id\": \"{CLICKED}\"}}'
  curl -s http://{address}/recommend {json} -d '{{\"user_id\": \"you\", \"text\": \"{ENGLISH}\", \"limit\": 5, \"fields\": [\"title\"], \"explain\": true}}'

The first recommends for a text, the second sends a click, the third recommends again: the list has changed. Stop with Ctrl-C."
    );
}

/// `bilingual`: whether the model knows both languages, so that one may find the other.
async fn ask_everything(address: SocketAddr, bilingual: bool) -> anyhow::Result<()> {
    // Not by way of a proxy that the environment names: it cannot reach this address.
    let client = Client { http: reqwest::Client::builder().no_proxy().build()?, base: format!("http://{address}") };
    client.wait_until_ready().await?;

    let english = client.recommend(ENGLISH).await?;
    ensure!(english.iter().take(3).any(|id| id == "shop-rain-shell"), "the rain shell is not among the first three for {ENGLISH:?}");
    let chinese = client.recommend(CHINESE).await?;
    ensure!(chinese.iter().take(3).any(|id| id == "shop-zh-light-shell"), "the light shell is not among the first three for {CHINESE:?}");

    if bilingual {
        ask_across_languages(&client).await?;
    } else {
        println!("the model does not say that it knows both languages: not asked across them");
    }

    let answer = client.post("/feedback", &json!({"user_id": "you", "type": "click", "item_id": CLICKED})).await?;
    println!("POST /feedback: a click on {CLICKED}: {answer}");
    ensure!(answer["accepted"] == 1, "the click was not accepted");
    let again = client.recommend(ENGLISH).await?;
    ensure!(again != english, "the click changed nothing");
    Ok(())
}

/// English words find Chinese items and the other way round, by meaning alone.
async fn ask_across_languages(client: &Client) -> anyhow::Result<()> {
    client.wait_until_languages_are_known().await?;
    println!("words whose item the catalogue has in the other language only:");
    for (text, item_id) in ACROSS {
        client.find(text, None, item_id, ACROSS_WITHIN).await?;
    }
    println!("words of one language, items of the other:");
    for (text, language, item_id) in IN_LANGUAGE {
        client.find(text, Some(language), item_id, 3).await?;
    }
    Ok(())
}

struct Client {
    http: reqwest::Client,
    base: String,
}

impl Client {
    async fn wait_until_ready(&self) -> anyhow::Result<()> {
        let ready = async {
            while !self.http.get(format!("{}/health/ready", self.base)).send().await.is_ok_and(|answer| answer.status().is_success()) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(PATIENCE, ready).await.context("/health/ready did not say yes")
    }

    /// Where the languages lie is found with the categories.
    async fn wait_until_languages_are_known(&self) -> anyhow::Result<()> {
        let known = async {
            while self.post("/understand", &json!({"text": ENGLISH})).await?["categories"].as_array().is_none_or(Vec::is_empty) {
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            Ok(())
        };
        tokio::time::timeout(PATIENCE, known).await.context("/understand told no categories")?
    }

    /// Asks for a text, prints where the item stands and fails if that is not `within` the first.
    async fn find(&self, text: &str, language: Option<&str>, item_id: &str, within: usize) -> anyhow::Result<()> {
        let filter = language.map_or(json!({}), |language| json!({"language": language}));
        let answer = self.post("/recommend", &json!({"text": text, "limit": within, "fields": ["title"], "filter": filter})).await?;
        let items = answer["items"].as_array().context("an answer without items")?;
        let place = items.iter().position(|item| item["item_id"] == item_id);
        let place = place.with_context(|| format!("{item_id} is not among the first {within} for {text:?} with the filter {filter}"))?;
        let filter = language.map_or(String::new(), |language| format!(" with the filter language = {language}"));
        println!("  {text:?}{filter}: {} {}", place + 1, items[place]["fields"]["title"].as_str().unwrap_or(item_id));
        Ok(())
    }

    async fn post(&self, path: &str, body: &Json) -> anyhow::Result<Json> {
        let answer = self.http.post(format!("{}{path}", self.base)).json(body).send().await?;
        let (status, body) = (answer.status(), answer.json::<Json>().await?);
        ensure!(status.is_success(), "POST {path} answered {status}: {body}");
        Ok(body)
    }

    /// Asks for a text, prints the list and returns its ids.
    async fn recommend(&self, text: &str) -> anyhow::Result<Vec<String>> {
        let answer = self.post("/recommend", &json!({"user_id": "you", "text": text, "limit": 5, "fields": ["title"], "explain": true})).await?;
        println!("POST /recommend {text:?} ({} ms)", answer["took_ms"]);
        ensure!(answer["degraded"].as_array().is_some_and(Vec::is_empty), "the answer lacks {}", answer["degraded"]);
        let items = answer["items"].as_array().context("an answer without items")?;
        for item in items {
            println!("  {} {} — {}", item["position"], item["fields"]["title"].as_str().unwrap_or(""), item["explanation"]["summary"].as_str().unwrap_or(""));
        }
        Ok(items.iter().filter_map(|item| item["item_id"].as_str().map(str::to_owned)).collect())
    }
}
