//! Whole files through the reader into a real store, and back out.

use std::{
    collections::BTreeMap,
    io::{Cursor, Write as _},
    sync::{Arc, atomic::AtomicU64},
};

use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::{destination::Written, detect::detect, rows::Reading, source::Opened, *};
use crate::{
    app::WritePath,
    cli::export,
    config::Overrides,
    domain::{AttributeValue, EventId, ItemId, RecommendationId, SessionId, Timestamp, UserId},
    store::Store,
};

fn choices() -> Choices {
    Choices { own: Vec::new(), types: BTreeMap::new(), default_type: None, ignored: Vec::new(), time_unit: TimeUnit::Auto }
}

fn settings(data: &std::path::Path) -> Settings {
    Settings::load(&Overrides { data: Some(data.to_owned()), ..Overrides::default() }).unwrap()
}

fn opened(text: &[u8], kind: Kind) -> Opened {
    let detected = detect("x", &text[..text.len().min(4_096)], kind, Format::Auto).unwrap();
    Opened { detected, reader: Box::new(Cursor::new(text.to_vec())), position: Arc::new(AtomicU64::new(0)), total: None }
}

fn batches(text: &[u8], kind: Kind, begun: Option<Mark>) -> Vec<Batch> {
    let mut batches = Vec::new();
    let reading = Reading::begin(opened(text, kind), kind, "x".into(), Arc::new(choices()), begun).unwrap();
    reading
        .run(|batch| {
            batches.push(batch);
            true
        })
        .unwrap();
    batches
}

async fn import(text: &[u8], kind: Kind, to: &Destination) -> Written {
    let mut all = Written::default();
    for batch in batches(text, kind, None) {
        assert!(batch.rejected.is_empty(), "{:?}", batch.rejected);
        let written = to.write(batch.entries.into_iter().map(|(_, entry)| entry).collect()).await.unwrap();
        assert!(written.rejected.is_empty(), "{:?}", written.rejected);
        all.created += written.created;
        all.changed += written.changed;
        all.known += written.known;
    }
    all
}

async fn exported(data: &std::path::Path) -> (Vec<u8>, Vec<u8>) {
    let store = Store::open_read_only(data, &settings(data).store).await.unwrap();
    let (mut items, mut events) = (Vec::new(), Vec::new());
    export::items(&store, &mut items).await.unwrap();
    export::events(&store, &mut events).await.unwrap();
    (items, events)
}

/// Any finite number, to its last digit.
fn number() -> impl Strategy<Value = f64> {
    prop::num::f64::NORMAL | prop::num::f64::SUBNORMAL | prop::num::f64::ZERO
}

fn words() -> impl Strategy<Value = String> {
    "\\PC{1,12}".prop_filter("says something", |text| !text.trim().is_empty())
}

fn label() -> impl Strategy<Value = String> {
    "[a-z商品é🦊\"\\\\, ]{1,8}"
}

fn time() -> impl Strategy<Value = Timestamp> {
    (-62_167_219_200_000_i64..1_790_000_000_000).prop_map(|ms| Timestamp::from_millis(ms).unwrap())
}

fn item() -> impl Strategy<Value = Item> {
    let attribute = |name: &'static str| match name {
        "flag" => any::<bool>().prop_map(AttributeValue::Flag).boxed(),
        "number" => number().prop_map(AttributeValue::Number).boxed(),
        "text" => label().prop_map(AttributeValue::Text).boxed(),
        _ => prop::collection::vec(label(), 0..3).prop_map(AttributeValue::Texts).boxed(),
    };
    let attributes = prop::collection::vec(prop::sample::select(vec!["flag", "number", "text", "texts"]), 0..4)
        .prop_flat_map(move |names| names.into_iter().map(|name| attribute(name).prop_map(move |value| (name.to_owned(), value))).collect::<Vec<_>>())
        .prop_map(BTreeMap::from_iter);
    let component = prop::num::f32::NORMAL | prop::num::f32::SUBNORMAL;
    let vectors =
        prop::option::of(prop::collection::vec(component, 3)).prop_map(|vector| vector.map(|vector| ("image".to_owned(), vector)).into_iter().collect());
    let lists = (prop::collection::vec(label(), 0..3), prop::collection::vec(label(), 0..3), prop::option::of("[a-z]{2}"));
    let scalars = (prop::option::of(number().prop_map(f64::abs)), any::<bool>(), prop::option::of(time()), prop::option::of(time()));
    ("[a-d商/ %]{1,2}", words(), prop::option::of("(?s).{0,20}"), lists, scalars, attributes, vectors).prop_map(
        |(id, title, text, (categories, tags, language), (price, available, created_at, expires_at), attributes, vectors)| Item {
            item_id: ItemId::new(id).unwrap(),
            title: Some(title),
            text,
            categories,
            tags,
            language,
            price,
            available,
            created_at,
            expires_at,
            attributes,
            vectors,
        },
    )
}

fn event() -> impl Strategy<Value = Event> {
    let ids = (prop::option::of("[a-z]{4,8}"), "[u商]{1,2}", prop::option::of("s[0-9]"), "[a-d]", prop::option::of("r[0-9]"));
    (ids, prop::sample::select(EventType::ALL.to_vec()), 0..5_i32, prop::option::of(words()), time()).prop_map(
        |((event_id, user, session, item, recommendation), kind, value, text, at)| Event {
            event_id: event_id.map(|id| EventId::new(id).unwrap()),
            kind,
            user_id: Some(UserId::new(user).unwrap()),
            session_id: session.map(|id| SessionId::new(id).unwrap()),
            item_id: Some(ItemId::new(item).unwrap()),
            recommendation_id: recommendation.map(|id| RecommendationId::new(id).unwrap()),
            value: match kind {
                EventType::Watch => Some(f64::from(value) / 4.0),
                EventType::Rating | EventType::Review => Some(f64::from(value) / 2.0 + 0.5),
                EventType::Dwell => Some(f64::from(value) * 12.25),
                EventType::Purchase | EventType::AddToCart => Some(f64::from(value) * 12.25).filter(|_| value > 2),
                _ => None,
            },
            text: if kind == EventType::Search { Some(text.unwrap_or_else(|| "words".into())) } else { text },
            timestamp: Some(at),
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn what_is_exported_is_imported_as_it_was(items in prop::collection::vec(item(), 1..12), events in prop::collection::vec(event(), 1..12), gone in any::<prop::sample::Index>()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
            let house = WritePath::open(&settings(here.path())).await.unwrap();
            house.ingest.put_items(items.clone()).await.unwrap();
            house.store.delete_item(&gone.get(&items).item_id).await.unwrap();
            house.ingest.events(events, Timestamp::now()).await.unwrap();
            let (items, events) = exported(here.path()).await;
            let copy = Destination::open(None, &settings(there.path())).await.unwrap();

            if !items.is_empty() {
                import(&items, Kind::Items, &copy).await;
            }
            import(&events, Kind::Interactions, &copy).await;

            let (items_again, events_again) = exported(there.path()).await;
            assert_eq!(String::from_utf8(items_again).unwrap(), String::from_utf8(items.clone()).unwrap());
            assert_eq!(without_made_ids(&events_again), without_made_ids(&events));
            // What has come in once is known: also what had no id.
            assert_eq!(import(&events, Kind::Interactions, &copy).await.created, 0);
            if !items.is_empty() {
                let again = import(&items, Kind::Items, &copy).await;
                assert_eq!((again.created, again.changed), (0, 0));
            }
            copy.close().await;
        });
    }
}

fn without_made_ids(lines: &[u8]) -> Vec<Json> {
    let lines = std::str::from_utf8(lines).unwrap().lines();
    let without = |line: &str| {
        let mut event: Json = serde_json::from_str(line).unwrap();
        if event["event_id"].as_str().is_some_and(|id| id.starts_with("import-")) {
            event.as_object_mut().unwrap().retain(|name, _| name != "event_id");
        }
        event
    };
    lines.map(without).collect()
}

/// Clicks without ids or times; every third row is the same.
fn clicks(count: usize) -> String {
    let mut text = String::from("user_id,item_id,type\n");
    for n in 0..count {
        text.push_str(&format!("u{},i,click\n", if n.is_multiple_of(3) { 0 } else { n }));
    }
    text
}

#[tokio::test]
async fn equal_rows_are_events_of_their_own_and_count_once_however_often_they_are_imported() {
    let data = tempfile::tempdir().unwrap();
    let to = Destination::open(None, &settings(data.path())).await.unwrap();

    assert_eq!(import(clicks(3_000).as_bytes(), Kind::Interactions, &to).await, Written { created: 3_000, ..Written::default() });
    assert_eq!(import(clicks(3_000).as_bytes(), Kind::Interactions, &to).await, Written { known: 3_000, ..Written::default() });
    // A log that has grown, and one in which a row was put right.
    assert_eq!(import(clicks(3_100).as_bytes(), Kind::Interactions, &to).await, Written { created: 100, known: 3_000, ..Written::default() });
    let corrected = clicks(3_100).replacen("u1,i,click", "u1,i,view", 1);
    assert_eq!(import(corrected.as_bytes(), Kind::Interactions, &to).await, Written { created: 1, known: 3_099, ..Written::default() });
    to.close().await;
}

#[tokio::test]
async fn an_import_that_broke_off_goes_on_after_its_mark_and_from_the_start_where_the_file_is_another() {
    let text = clicks(3_500);
    let whole = batches(text.as_bytes(), Kind::Interactions, None);
    let mark = whole[1].mark.clone();

    let rest = batches(text.as_bytes(), Kind::Interactions, Some(mark.clone()));

    let entries = |batches: &[Batch]| batches.iter().flat_map(|batch| batch.entries.clone()).collect::<Vec<_>>();
    assert_eq!(entries(&rest), entries(&whole[2..]));
    let other = batches(text.replacen("u1,", "v1,", 1).as_bytes(), Kind::Interactions, Some(mark.clone()));
    assert!(matches!(&other[..], [Batch { is_other_file: true, .. }]));
    let shorter = batches(clicks(10).as_bytes(), Kind::Interactions, Some(mark));
    assert!(matches!(&shorter[..], [Batch { is_other_file: true, .. }]));
}

#[test]
fn bad_rows_cost_nothing_but_themselves_and_say_where_they_begin() {
    let mut text = b"item_id,title\r\na,Tent\r\n\"b\",\"two\r\nlines\"\r\n\xff\xfe,x\r\nc\r\n,d\r\n\r\ne,Lamp".to_vec();
    let found = batches(&text, Kind::Items, None).remove(0);

    let ids: Vec<_> = found.entries.iter().map(|(line, entry)| (*line, matches!(entry, Entry::Item(item) if item.title.is_some()))).collect();
    assert_eq!(ids, [(2, true), (3, true), (9, true)]);
    let rejected: Vec<_> = found.rejected.iter().map(|(line, faults)| (*line, faults[0].pointer.as_str())).collect();
    assert_eq!(rejected, [(5, ""), (6, ""), (7, "/item_id")]);

    // A quote that is never closed swallows what follows, in bounded memory, and is told.
    text.extend_from_slice(b"\nf,\"open\n");
    text.extend(std::iter::repeat_n(b"g,row\n".as_slice(), 1_000_000).flatten());
    let found = batches(&text, Kind::Items, None);
    let faults: Vec<_> = found.iter().flat_map(|batch| &batch.rejected).filter(|(line, _)| *line == 10).collect();
    assert!(faults[0].1[0].detail.contains("quote"), "{faults:?}");
    assert!(found.iter().map(|batch| batch.entries.len()).sum::<usize>() > 200_000, "it goes on behind it");
}

#[tokio::test]
async fn packed_files_are_known_by_their_bytes_and_a_torn_one_says_how_far_it_could_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let (plain, packed, torn) = (folder.path().join("a.csv.gz"), folder.path().join("b.csv"), folder.path().join("c.csv"));
    let text = clicks(20_000);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(text.as_bytes()).unwrap();
    let bytes = gzip.finish().unwrap();
    std::fs::write(&plain, &text).unwrap(); // the name lies
    std::fs::write(&packed, [bytes.as_slice(), bytes.as_slice()].concat()).unwrap(); // two members, as `cat a.gz b.gz` makes
    std::fs::write(&torn, &bytes[..bytes.len() / 2]).unwrap();

    let read = |path: PathBuf| {
        let opened = Input::File(path).open(Kind::Interactions, Format::Auto).unwrap();
        let reading = Reading::begin(opened, Kind::Interactions, "x".into(), Arc::new(choices()), None).unwrap();
        let mut rows = (0, 0);
        let ended = reading.run(|batch| {
            rows = (rows.0 + batch.entries.len(), rows.1 + batch.rejected.len());
            true
        });
        (rows, ended)
    };

    assert_eq!(read(plain), ((20_000, 0), Ok(())));
    // The header of the second member is a row like any other, and no event.
    assert_eq!(read(packed), ((40_000, 1), Ok(())));
    let (rows, ended) = read(torn);
    assert!(rows.0 > 5_000 && rows.0 < 20_000, "{rows:?}");
    assert!(ended.unwrap_err().contains("after line"));
}

#[tokio::test]
async fn the_same_data_set_in_another_file_and_order_is_known() {
    let data = tempfile::tempdir().unwrap();
    let to = Destination::open(None, &settings(data.path())).await.unwrap();
    let rows: Vec<String> = (0..50).map(|n| format!("{}\t{}\t{}\t{}", n % 7 + 1, n + 1, n % 5 + 1, 881_250_949 + n)).collect();

    assert_eq!(import(rows.join("\n").as_bytes(), Kind::Interactions, &to).await.created, 50);
    let reversed: Vec<String> = rows.iter().rev().cloned().collect();
    assert_eq!(import(reversed.join("\n").as_bytes(), Kind::Interactions, &to).await.known, 50);
    to.close().await;
}

#[tokio::test]
async fn a_folder_that_a_server_has_open_is_refused_with_the_flag_that_helps() {
    let data = tempfile::tempdir().unwrap();
    let house = WritePath::open(&settings(data.path())).await.unwrap();

    let Err(error) = Destination::open(None, &settings(data.path())).await else { panic!("two writers") };

    assert!(error.to_string().contains("--url http://127.0.0.1:8080"), "{error}");
    house.store.close().await;
}

#[tokio::test]
async fn reading_beside_a_writer_sees_what_is_committed_and_writes_nothing() {
    let data = tempfile::tempdir().unwrap();
    let house = WritePath::open(&settings(data.path())).await.unwrap();
    let item = |id: &str| serde_json::from_value::<Item>(json!({"item_id": id, "title": id})).unwrap();
    house.ingest.put_items(vec![item("a")]).await.unwrap();

    let reader = Store::open_read_only(data.path(), &settings(data.path()).store).await.unwrap();
    house.ingest.put_items(vec![item("b")]).await.unwrap();

    assert_eq!(reader.item_counts().await.unwrap().live, 2);
    assert!(matches!(reader.put_items(vec![item("c")]).await, Err(crate::store::StoreError::Closed)));
    house.store.close().await;
    assert!(Store::open_read_only(tempfile::tempdir().unwrap().path(), &settings(data.path()).store).await.is_err());
    // A folder that was closed in good order can be read as well.
    assert_eq!(Store::open_read_only(data.path(), &settings(data.path()).store).await.unwrap().item_counts().await.unwrap().live, 2);
}
