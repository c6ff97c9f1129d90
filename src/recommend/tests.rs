//! The read path with parts taken away: real store, real encoder, an index that fails on purpose.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::*;
use crate::{
    domain::{Embedding, Filter, Item, Revision, Timestamp, UserId},
    encoder::{Encoder, EncoderMetrics, EncoderSettings, prepare},
    features::{FeatureSettings, Preset},
    index::{Hit, IndexError, IndexPoint, IndexSettings, QueryTerms, Search, VectorIndex},
};

struct BrokenIndex;

fn broken<T>() -> Result<T, IndexError> {
    Err(IndexError::Engine("broken on purpose".into()))
}

#[async_trait]
impl VectorIndex for BrokenIndex {
    async fn upsert(&self, _: Vec<IndexPoint>) -> Result<(), IndexError> {
        broken()
    }
    async fn delete(&self, _: &[(ItemKey, Revision)]) -> Result<(), IndexError> {
        broken()
    }
    async fn nearest(&self, _: &Embedding, _: Search<'_>) -> Result<Vec<Hit>, IndexError> {
        broken()
    }
    async fn matching(&self, _: &QueryTerms, _: Search<'_>) -> Result<Vec<Hit>, IndexError> {
        broken()
    }
    async fn similarities(&self, _: &Embedding, _: &[ItemKey]) -> Result<Vec<(ItemKey, f32)>, IndexError> {
        broken()
    }
    async fn lexical_scores(&self, _: &QueryTerms, _: &[ItemKey]) -> Result<Vec<(ItemKey, f32)>, IndexError> {
        broken()
    }
    async fn embeddings(&self, _: &[ItemKey]) -> Result<Vec<(ItemKey, Embedding)>, IndexError> {
        broken()
    }
    async fn flush(&self) -> Result<(), IndexError> {
        broken()
    }
    async fn optimize_if_due(&self) -> Result<bool, IndexError> {
        broken()
    }
    async fn count(&self) -> Result<usize, IndexError> {
        broken()
    }
}

struct Shop {
    recommender: Recommender,
    store: Store,
    _folder: tempfile::TempDir,
}

/// A section of the default settings; `config` is on a higher floor, its file is not.
fn section<T: DeserializeOwned>(name: &str) -> T {
    let defaults: toml::Table = include_str!("../config/default.toml").parse().unwrap();
    defaults[name].clone().try_into().unwrap()
}

async fn shop_with_a_broken_index() -> Shop {
    broken_shop(section("recommend")).await
}

async fn broken_shop(settings: RecommendSettings) -> Shop {
    let (encoder, features): (EncoderSettings, FeatureSettings) = (section("encoder"), FeatureSettings::of(Preset::Shop));
    let index: IndexSettings = section("index");
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
    let model = prepare(&models, &encoder.model, &mut |_| {}).unwrap();
    let (folder, registry) = (tempfile::tempdir().unwrap(), Registry::new());
    let store = Store::open(folder.path(), &section("store"), &registry).await.unwrap();
    let columns = Arc::new(Columns::default());
    let items =
        [("a", 10), ("b", 20), ("c", 30)].map(|(id, price)| serde_json::from_value::<Item>(json!({"item_id": id, "title": id, "price": price})).unwrap());
    store.put_items(items.to_vec()).await.unwrap();
    columns.apply(&store.items_above(crate::domain::Revision(0), 10).await.unwrap());
    let rooms = Rooms {
        models: Models::new(ModelSet {
            encoder: Encoder::start(&model, &encoder, &EncoderMetrics::register(&registry).unwrap()).unwrap(),
            index: Arc::new(BrokenIndex),
            lexicon: Arc::new(Lexicon::new(&index.lexical)),
            learned: None,
            categories: None,
            own_vectors: Arc::new(OwnVectors::from([("image".to_owned(), Arc::new(BrokenIndex) as Arc<dyn VectorIndex>)])),
        }),
        columns,
        histories: Arc::new(Histories::new(1 << 20)),
        popularity: Arc::new(Popularity::new(14.0)),
        signals: Arc::new(Signals::new(&features).unwrap()),
        rulebook: Arc::new(Rulebook::new(&[])),
        showings: Arc::default(),
        blocklist: Blocklist::default(),
        store: store.clone(),
        compute: Compute::start("test", 2, 64).unwrap(),
        exposed: Arc::new(|_| {}),
    };
    Shop { recommender: Recommender::new(rooms, settings, &features, &registry).unwrap(), store, _folder: folder }
}

fn request() -> RecommendationRequest {
    RecommendationRequest::warm_up(Timestamp::now(), Instant::now() + Duration::from_secs(20))
}

fn ids(answer: &Recommendation) -> Vec<&str> {
    answer.items.iter().map(|item| item.facts.item_id.as_str()).collect()
}

#[tokio::test]
async fn without_the_index_there_is_still_a_list_that_says_so_and_keeps_to_the_filter() {
    let shop = shop_with_a_broken_index().await;
    let cheap = Filter::parse(&json!({"price": {"lte": 20}}), &|_| None).unwrap();

    let answer = shop.recommender.recommend(RecommendationRequest { filter: Some(cheap), diversity: Some(0.5), ..request() }).await.unwrap();

    assert_eq!(answer.degraded, [Part::Index]);
    assert_eq!(ids(&answer), ["a", "b"]);
}

#[tokio::test]
async fn a_source_whose_weight_is_0_is_not_asked() {
    let mut settings: RecommendSettings = section("recommend");
    (settings.weights.semantic, settings.weights.lexical) = (0.0, 0.0);
    let shop = broken_shop(settings).await;

    let answer = shop.recommender.recommend(RecommendationRequest { text: Some("a cheap tent".to_owned()), ..request() }).await.unwrap();

    assert_eq!((answer.degraded.as_slice(), ids(&answer).len()), (&[][..], 3), "the index is broken, and nobody asks it");
    assert_eq!(answer.intent.unwrap().language, Some("en"), "the text is understood all the same");
}

#[tokio::test]
async fn what_was_hidden_since_the_first_page_is_not_on_the_second() {
    let shop = shop_with_a_broken_index().await;
    let ask = async |after| {
        let request = RecommendationRequest { text: None, user_id: Some(UserId::new("u").unwrap()), limit: 1, after, ..request() };
        shop.recommender.recommend(request).await.unwrap()
    };
    let act = async |kind: &str, item: &str| {
        let event = serde_json::from_value(json!({"type": kind, "user_id": "u", "item_id": item})).unwrap();
        shop.store.append_events(vec![event], Timestamp::now()).await.unwrap();
        shop.recommender.0.histories.forget(&crate::domain::Actor::User(UserId::new("u").unwrap()));
    };
    act("click", "a").await;
    let order: Vec<String> = {
        let request = RecommendationRequest { text: None, user_id: Some(UserId::new("u").unwrap()), ..request() };
        ids(&shop.recommender.recommend(request).await.unwrap()).into_iter().map(str::to_owned).collect()
    };

    let first = ask(None).await;
    act("hide", &order[1]).await;
    let second = ask(first.next.clone()).await;

    assert_eq!((ids(&first), ids(&second)), (vec![order[0].as_str()], vec![order[2].as_str()]));
}

#[tokio::test]
async fn deep_pages_and_long_exclusions_are_searched_for_deeper() {
    let shop = shop_with_a_broken_index().await;
    let wanted = |limit: usize, shown: u32, excluded: u32| {
        let after = (shown > 0).then(|| Cursor { fingerprint: 0, as_of: 0, ranking: 0, shown: (0..shown).map(ItemKey).collect() });
        let eligible = eligible::Eligible { excluded: (0..excluded).map(ItemKey).collect(), ..eligible::Eligible::default() };
        shop.recommender.0.text_candidates(&RecommendationRequest { limit, after, ..request() }, &eligible)
    };

    assert_eq!([wanted(10, 0, 0), wanted(10, 90, 0), wanted(10, 91, 0), wanted(200, 0, 0), wanted(10, 0, 100)], [100, 100, 200, 200, 200]);
    assert_eq!(wanted(200, 1_000, 1_000), 2_000, "not without bound");
}

#[tokio::test]
async fn a_list_that_explores_logs_how_likely_it_was_and_stays_the_same_for_ten_minutes() {
    let mut settings: RecommendSettings = section("recommend");
    settings.scenarios.insert("feed".to_owned(), Scenario { exploration: Some(1.0), ..Scenario::default() });
    let shop = broken_shop(settings).await;
    let noon = Timestamp::from_millis(1_795_000_200_000).unwrap();
    let ask = async |scenario: &str, minutes: i64| {
        let now = Timestamp::from_millis(noon.millis() + minutes * 60_000).unwrap();
        let request = RecommendationRequest { text: None, scenario: scenario.into(), limit: 1, now, ..request() };
        shop.recommender.recommend(request).await.unwrap()
    };
    let greedy = ask("home", 0).await.items[0].facts.item_id.clone();

    let mut drawn = std::collections::BTreeSet::new();
    for tenth in 0..20 {
        let (first, again) = (ask("feed", 10 * tenth).await, ask("feed", 10 * tenth + 9).await);
        assert_eq!((ids(&first), &first.items[0].arranged), (ids(&again), &Some(Arranged::Explored)));
        drawn.insert(first.items[0].facts.item_id.clone());
        let logged = loop {
            match shop.store.exposure(&first.recommendation_id).await.unwrap() {
                Some(logged) => break logged,
                None => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        };
        assert!((logged.items[0].propensity - 0.5).abs() < 1e-6, "one of two");
    }

    assert!(drawn.len() == 2 && !drawn.contains(&greedy), "{drawn:?}");
}

#[tokio::test]
async fn without_the_store_there_is_still_a_list_that_says_so_and_keeps_to_the_exclusions() {
    let shop = shop_with_a_broken_index().await;
    shop.store.close().await;
    let excluding = RecommendationRequest { user_id: Some(UserId::new("u").unwrap()), text: None, exclude_items: vec![ItemId::new("b").unwrap()], ..request() };

    let answer = shop.recommender.recommend(excluding).await.unwrap();

    assert_eq!(answer.degraded, [Part::Store]);
    assert_eq!(ids(&answer), ["a", "c"]);
}

#[tokio::test]
async fn own_vectors_that_cannot_be_read_are_named_and_what_an_item_has_not_is_told() {
    let shop = shop_with_a_broken_index().await;
    let beside = || RecommendationRequest { text: None, items: vec![ItemId::new("a").unwrap()], ..request() };
    let vector = Embedding::new(vec![1.0, 2.0]).unwrap();
    let by =
        async |name: &str, vector: Option<&Embedding>| shop.recommender.nearest(beside(), Nearness { name: name.to_owned(), vector: vector.cloned() }).await;

    let listed = shop.recommender.recommend(beside()).await.unwrap();
    let broken = by("image", Some(&vector)).await.unwrap();
    let not_indexed_yet = by("sound", Some(&vector)).await.unwrap();

    assert_eq!((ids(&listed), listed.degraded.clone()), (vec!["b", "c"], vec![Part::Index]));
    assert_eq!((ids(&broken), broken.degraded.as_slice()), (vec![], [Part::Index].as_slice()));
    assert_eq!((ids(&not_indexed_yet), not_indexed_yet.degraded.len()), (vec![], 0));
    assert_eq!(by("sound", None).await.unwrap_err(), RecommendError::NoSuchVector);
}

#[tokio::test]
async fn a_request_past_its_deadline_is_answered_without_the_encoder() {
    let shop = shop_with_a_broken_index().await;
    let late = RecommendationRequest { deadline: Instant::now() - Duration::from_millis(1), text: Some("never heard of before ".repeat(60)), ..request() };

    let answer = shop.recommender.recommend(late).await.unwrap();

    assert!(answer.degraded.contains(&Part::Encoder), "{:?}", answer.degraded);
    assert_eq!(answer.items.len(), 3);
}
