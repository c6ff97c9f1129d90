//! What is particular to the embedded engine: folders, crashes, and that its filters mean what ours mean.

use std::{collections::BTreeSet, ops::Deref, sync::Arc};

use proptest::prelude::*;
use serde_json::{Value as Json, json};
use tempfile::TempDir;

use super::*;
use crate::{
    domain::{AttributeType, Filter},
    index::{
        Collections, Lexicon,
        contract::{WIDTH, all, embedding, keys, point, settings},
        lexical::tests::settings as lexical,
    },
    telemetry::Registry,
};

/// An index in a folder that goes when it is dropped.
pub(in crate::index) struct Temporary {
    index: Arc<dyn VectorIndex>,
    _folder: TempDir,
}

impl Temporary {
    pub(in crate::index) async fn index(width: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let index = collections().open(&folder.path().join("index/movies"), width).await.unwrap();
        Self { index, _folder: folder }
    }
}

impl Deref for Temporary {
    type Target = dyn VectorIndex;
    fn deref(&self) -> &Self::Target {
        &*self.index
    }
}

fn collections() -> Collections {
    Collections::new(&settings(), Compute::start("index-test", 2, 64).unwrap(), &Registry::new()).unwrap()
}

fn tent() -> IndexPoint {
    point(1, Some([1.0, 0.0, 0.0, 0.0]), json!({"item_id": "a", "title": "tent", "price": 5, "attributes": {"size": 2}}))
}

#[tokio::test]
async fn what_was_flushed_is_found_after_reopening() {
    let folder = tempfile::tempdir().unwrap();
    let index = collections().open(folder.path(), WIDTH).await.unwrap();
    index.upsert(vec![tent(), point(2, None, json!({"item_id": "b", "title": "rope"}))]).await.unwrap();
    index.flush().await.unwrap();
    drop(index);

    let index = collections().open(folder.path(), WIDTH).await.unwrap();

    let query = Lexicon::new(&lexical()).query_terms("tent rope");
    let filter = Filter::parse(&json!({"attributes.size": {"gt": 1}}), &|_| Some(AttributeType::Number)).unwrap();
    assert_eq!(index.count().await.unwrap(), 2);
    assert_eq!(keys(&index.nearest(&embedding([1.0; WIDTH]), all(5)).await.unwrap()), [1]);
    assert_eq!(index.matching(&query, all(5)).await.unwrap().len(), 2);
    assert_eq!(keys(&index.matching(&query, Search { limit: 5, filter: Some(&filter) }).await.unwrap()), [1]);
    assert_eq!(index.embeddings(&[ItemKey(1)]).await.unwrap().len(), 1);
    assert!(index.lexical_scores(&query, &[ItemKey(2)]).await.unwrap()[0].1 > 0.0);
}

#[tokio::test]
async fn another_width_or_analysis_names_the_way_out_and_leaves_the_folder_alone() {
    let folder = tempfile::tempdir().unwrap();
    drop(collections().open(folder.path(), WIDTH).await.unwrap());

    let error = collections().open(folder.path(), WIDTH + 1).await.err().unwrap();

    assert!(matches!(error, IndexError::OtherShape { .. }) && error.to_string().contains("inkling reindex"), "{error}");
    let mut other = settings();
    other.lexical.average_length = 7.0;
    let other = Collections::new(&other, Compute::start("index-test", 1, 4).unwrap(), &Registry::new()).unwrap();
    assert!(matches!(other.open(folder.path(), WIDTH).await, Err(IndexError::OtherShape { .. })));
    assert!(collections().open(folder.path(), WIDTH).await.is_ok());
}

#[tokio::test]
async fn a_folder_in_use_is_locked() {
    let folder = tempfile::tempdir().unwrap();
    let _index = collections().open(folder.path(), WIDTH).await.unwrap();

    assert!(matches!(collections().open(folder.path(), WIDTH).await, Err(IndexError::Locked { .. })));
}

#[tokio::test]
async fn a_torn_folder_is_unusable_and_says_so() {
    for tear in ["segments", "shape.json", "*/segment.json", "*/mutable_id_tracker.mappings", "*/vector_storage-dense", "*/version.info"] {
        let folder = tempfile::tempdir().unwrap();
        let index = collections().open(folder.path(), WIDTH).await.unwrap();
        index.upsert(vec![tent()]).await.unwrap();
        index.flush().await.unwrap();
        drop(index);
        let path = match tear.strip_prefix("*/") {
            Some(part) => std::fs::read_dir(folder.path().join("segments")).unwrap().next().unwrap().unwrap().path().join(part),
            None => folder.path().join(tear),
        };
        if path.is_dir() {
            std::fs::remove_dir_all(&path).unwrap()
        } else {
            std::fs::write(&path, b"torn").unwrap()
        }

        let opened = collections().open(folder.path(), WIDTH).await;

        match opened {
            Err(IndexError::Unusable { .. }) => {}
            Err(error) => panic!("{tear}: {error}"),
            Ok(index) => panic!("{tear}: opened with {} points", index.count().await.unwrap()),
        }
    }
}

#[tokio::test]
async fn optimisation_is_due_past_its_threshold_and_changes_no_answer() {
    let index = Temporary::index(WIDTH).await;
    let points = |range: std::ops::Range<u32>| -> Vec<_> {
        let vector = |i: u32| [(i as f32 * 0.37).sin(), (i as f32 * 0.11).cos(), (i as f32 * 0.05).sin(), 0.2];
        range.map(|i| point(i, Some(vector(i)), json!({"item_id": i.to_string(), "title": format!("word{} tent", i % 7), "price": i}))).collect()
    };
    index.upsert(points(0..1_500)).await.unwrap();
    assert!(!index.optimize_if_due().await.unwrap());
    index.upsert(points(1_500..3_000)).await.unwrap();
    let filter = Filter::parse(&json!({"price": {"gte": 100, "lt": 110}}), &|_| None).unwrap();
    let narrow = Search { limit: 20, filter: Some(&filter) };
    let query = Lexicon::new(&lexical()).query_terms("word3");
    let before = (index.nearest(&embedding([1.0; WIDTH]), narrow).await.unwrap(), keys(&index.matching(&query, narrow).await.unwrap()));

    assert!(index.optimize_if_due().await.unwrap());

    let after = (index.nearest(&embedding([1.0; WIDTH]), narrow).await.unwrap(), keys(&index.matching(&query, narrow).await.unwrap()));
    assert_eq!(keys(&before.0), keys(&after.0));
    assert_eq!(before.1, after.1);
    let widely = index.nearest(&embedding([1.0; WIDTH]), all(200)).await.unwrap();
    let exact = index.similarities(&embedding([1.0; WIDTH]), &widely.iter().map(|hit| hit.key).collect::<Vec<_>>()).await.unwrap();
    assert!(
        widely.len() == 200 && widely.iter().zip(&exact).all(|(hit, (_, cosine))| (hit.score.get() - cosine).abs() < 1e-6),
        "packed to bytes, scores are exact"
    );
    assert!(!index.optimize_if_due().await.unwrap());
    index.upsert(points(0..10)).await.unwrap();
    index.delete(&[ItemKey(105)]).await.unwrap();
    index.flush().await.unwrap();
    assert_eq!(index.nearest(&embedding([1.0; WIDTH]), narrow).await.unwrap().len(), 9);
    assert_eq!(index.count().await.unwrap(), 2_999);
}

#[tokio::test]
async fn an_optimised_item_that_loses_its_embedding_or_its_words_is_found_by_what_is_left() {
    let index = Temporary::index(WIDTH).await;
    let vector = |i: u32| Some([1.0, (i as f32).sin(), (i as f32).cos(), 0.2]);
    index.upsert((0..3_000).map(|i| point(i, vector(i), json!({"item_id": i.to_string(), "title": "tent"}))).collect()).await.unwrap();
    assert!(index.optimize_if_due().await.unwrap());
    let filter = Filter::parse(&json!({"item_id": ["7", "8"]}), &|_| None).unwrap();
    let both = Search { limit: 5, filter: Some(&filter) };

    let (worded, embedded) = (point(7, None, json!({"item_id": "7", "title": "tent"})), point(8, vector(8), json!({"item_id": "8", "title": "!"})));
    index.upsert(vec![worded, embedded]).await.unwrap();

    assert_eq!(keys(&index.nearest(&embedding([1.0; WIDTH]), both).await.unwrap()), [8]);
    assert_eq!(keys(&index.matching(&Lexicon::new(&lexical()).query_terms("tent"), both).await.unwrap()), [7]);
}

#[tokio::test]
async fn writes_flushes_and_searches_may_come_at_once() {
    let index = Temporary::index(WIDTH).await;
    let work = (0..8_u32).map(|i| {
        let index = Arc::clone(&index.index);
        tokio::spawn(async move {
            for j in 0..10 {
                index.upsert(vec![point(i * 10 + j, Some([1.0, i as f32, j as f32, 0.0]), json!({"item_id": "a", "title": "tent"}))]).await.unwrap();
                index.nearest(&embedding([1.0; WIDTH]), all(5)).await.unwrap();
                index.flush().await.unwrap();
            }
        })
    });

    for work in work.collect::<Vec<_>>() {
        work.await.unwrap();
    }

    assert_eq!(index.count().await.unwrap(), 80);
}

const ATTRIBUTES: [(&str, AttributeType); 6] = [
    ("brand", AttributeType::Text),
    ("品牌.[0]", AttributeType::Text),
    ("a.b[]\"c\\", AttributeType::Text),
    ("size", AttributeType::Number),
    ("größe in \"cm\"", AttributeType::Number),
    ("waterproof", AttributeType::Flag),
];

fn types(name: &str) -> Option<AttributeType> {
    ATTRIBUTES.iter().find(|attribute| attribute.0 == name).map(|attribute| attribute.1)
}

fn text() -> impl Strategy<Value = Json> {
    prop::sample::select(vec!["a", "b", "A", "1", "true", "防水", "a b", "a.b", "", "0.5"]).prop_map(Json::from)
}

fn label() -> impl Strategy<Value = Json> {
    text().prop_filter("an item's label is not empty", |text| text != "")
}

fn number() -> impl Strategy<Value = Json> {
    prop_oneof![
        (-2_i64..4).prop_map(Json::from),
        prop::sample::select(vec![0.5, 0.1 + 0.2, 0.3, -0.0, 1e300, -1.5, 9_007_199_254_740_993.0]).prop_map(Json::from),
    ]
}

fn time() -> impl Strategy<Value = Json> {
    prop_oneof![(0_i64..3).prop_map(|ms| Json::from(1_700_000_000_000 + ms)), Just(json!("2023-11-14T22:13:20Z")), Just(json!(-1))]
}

fn maybe(value: impl Strategy<Value = Json> + 'static) -> BoxedStrategy<Option<Json>> {
    prop::option::of(value).boxed()
}

fn list(value: impl Strategy<Value = Json>) -> impl Strategy<Value = Json> {
    prop::collection::vec(value, 0..3).prop_map(Json::from)
}

fn item() -> impl Strategy<Value = Json> {
    let attributes = ATTRIBUTES.map(|(_, kind)| match kind {
        AttributeType::Text => maybe(prop_oneof![label(), list(label())]),
        AttributeType::Number => maybe(number()),
        AttributeType::Flag => maybe(any::<bool>().prop_map(Json::from)),
    });
    let members = [
        ("categories", maybe(list(label()))),
        ("tags", maybe(list(label()))),
        ("language", maybe(label())),
        ("price", maybe(number())),
        ("available", maybe(any::<bool>().prop_map(Json::from))),
        ("created_at", maybe(time())),
        ("expires_at", maybe(time())),
    ];
    let names = members.clone().map(|member| member.0);
    (members.map(|member| member.1), attributes).prop_map(move |(members, attributes)| {
        let mut item = serde_json::Map::from_iter([("title".to_owned(), json!("tent"))]);
        item.extend(names.iter().zip(members).filter_map(|(name, value)| Some(((*name).to_owned(), value?))));
        let attributes: serde_json::Map<_, _> = ATTRIBUTES.iter().zip(attributes).filter_map(|(name, value)| Some((name.0.to_owned(), value?))).collect();
        item.insert("attributes".to_owned(), attributes.into());
        item.into()
    })
}

fn range(bound: impl Strategy<Value = Json>) -> impl Strategy<Value = Json> {
    prop::collection::btree_map(prop::sample::select(vec!["gt", "gte", "lt", "lte"]), bound, 1..3).prop_map(|bounds| json!(bounds))
}

fn member() -> BoxedStrategy<(String, Json)> {
    let texts = || prop_oneof![text(), list(text()), Just(Json::Null)];
    let numbers = || prop_oneof![number(), list(number()), range(number()), Just(Json::Null)];
    let times = || prop_oneof![time(), list(time()), range(time()), Just(Json::Null)];
    let flags = || prop_oneof![any::<bool>().prop_map(Json::from), list(any::<bool>().prop_map(Json::from)), Just(Json::Null)];
    let named = |names: Vec<&'static str>| prop::sample::select(names).prop_map(str::to_owned);
    prop_oneof![
        (named(vec!["categories", "tags", "language", "attributes.brand", "attributes.品牌.[0]", "attributes.a.b[]\"c\\"]), texts()),
        (named(vec!["price", "attributes.size", "attributes.größe in \"cm\""]), numbers()),
        (named(vec!["created_at", "expires_at"]), times()),
        (named(vec!["available", "attributes.waterproof"]), flags()),
        (named(vec!["item_id"]), list(prop::sample::select(vec!["0", "1", "2", "x"]).prop_map(Json::from))),
    ]
    .boxed()
}

fn filter() -> impl Strategy<Value = Json> {
    let flat = prop::collection::btree_map("", Just(Json::Null), 0..1).prop_map(|_| json!({}));
    let leaf = prop_oneof![1 => flat, 8 => prop::collection::vec(member(), 1..3).prop_map(|members| Json::Object(members.into_iter().collect()))];
    leaf.prop_recursive(3, 12, 3, |inner| {
        let group = (prop::sample::select(vec!["all_of", "any_of", "none_of"]), prop::collection::vec(inner, 0..3));
        prop::collection::vec(group, 1..3)
            .prop_map(|groups| Json::Object(groups.into_iter().map(|(name, filters)| (name.to_owned(), filters.into())).collect()))
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// On points that are not optimised; the optimised ones have examples above.
    #[test]
    fn the_engines_filter_and_ours_pick_the_same_items(items in prop::collection::vec(item(), 1..30), filters in prop::collection::vec(filter(), 40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let index = Temporary::index(WIDTH).await;
            let points: Vec<IndexPoint> = items.iter().enumerate().map(|(i, item)| {
                let mut item = item.clone();
                item["item_id"] = json!(i.to_string());
                point(i as u32, Some([1.0, i as f32, 0.0, 0.0]), item)
            }).collect();
            index.upsert(points.clone()).await.unwrap();
            let query = Lexicon::new(&lexical()).query_terms("tent");
            for json in &filters {
                let filter = Filter::parse(json, &types).unwrap();
                let search = Search { limit: 100, filter: Some(&filter) };

                let near = keys(&index.nearest(&embedding([1.0; WIDTH]), search).await.unwrap_or_else(|error| panic!("{json}: {error}")));
                let matched = keys(&index.matching(&query, search).await.unwrap_or_else(|error| panic!("{json}: {error}")));

                let expected: BTreeSet<u32> = points.iter().filter(|point| filter.matches(&point.facts)).map(|point| point.key.0).collect();
                assert_eq!(BTreeSet::from_iter(near), expected, "{json}");
                assert_eq!(BTreeSet::from_iter(matched), expected, "{json}");
            }
        });
    }
}
