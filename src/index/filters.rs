//! A filter gives the same items as a plain scan of the catalogue, whatever answers: random items and filters.

use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::{
    IndexPoint, Lexicon, Search, VectorIndex,
    contract::{WIDTH, all, embedding, keys, point},
    lexical::tests::settings as lexical,
};
use crate::domain::{AttributeType, Filter};

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

/// On points that are not optimised; the optimised ones have examples of their own.
async fn picks_the_same_items(index: &dyn VectorIndex, items: &[Json], filters: &[Json]) {
    let points: Vec<IndexPoint> = items
        .iter()
        .enumerate()
        .map(|(i, item)| {
            let mut item = item.clone();
            item["item_id"] = json!(i.to_string());
            point(i as u32, Some([1.0, i as f32, 0.0, 0.0]), item)
        })
        .collect();
    index.upsert(points.clone()).await.unwrap();
    let query = Lexicon::new(&lexical()).query_terms("tent");
    for json in filters {
        let filter = Filter::parse(json, &types).unwrap();
        let search = Search { filter: Some(&filter), ..all(100) };

        let near = keys(&index.nearest(&embedding([1.0; WIDTH]), search).await.unwrap_or_else(|error| panic!("{json}: {error}")));
        let matched = keys(&index.matching(&query, search).await.unwrap_or_else(|error| panic!("{json}: {error}")));

        let expected: BTreeSet<u32> = points.iter().filter(|point| filter.matches(&point.facts)).map(|point| point.key.0).collect();
        assert_eq!(BTreeSet::from_iter(near), expected, "{json}");
        assert_eq!(BTreeSet::from_iter(matched), expected, "{json}");
    }
}

/// `name: expression;` for each implementation; the expression gives a new, empty index.
macro_rules! filters_pick_the_same_items {
    ($($(#[$attribute:meta])* $name:ident: $index:expr;)+) => { proptest! {
        #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
        $(
            #[test]
            $(#[$attribute])*
            fn $name(items in prop::collection::vec(item(), 1..30), filters in prop::collection::vec(filter(), 40)) {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(async { picks_the_same_items(&*$index, &items, &filters).await });
            }
        )+
    } };
}

filters_pick_the_same_items! {
    memory_and_a_scan: Box::new(super::memory::MemoryIndex::new(WIDTH));
    #[cfg_attr(not(qdrant_server), ignore = "INKLING_TEST_QDRANT_URL names no Qdrant server")]
    a_qdrant_server_and_a_scan: super::server::tests::Temporary::on_a_real_server().await;
}

#[cfg(feature = "edge")]
filters_pick_the_same_items! {
    the_embedded_engine_and_a_scan: super::edge::tests::Temporary::index(WIDTH).await;
    the_wire_and_a_scan: super::server::tests::Temporary::over_the_wire().await;
}
