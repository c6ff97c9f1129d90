//! Random writes against the store and against a few lines that say what should happen.

use std::collections::{BTreeMap, HashMap};

use proptest::prelude::*;

use super::*;
use crate::domain::{Revision, StoredItem};

#[derive(Debug, Clone)]
enum Step {
    Put(Vec<(u8, u8)>),
    Patch(u8, u8),
    Delete(u8),
    Append(Vec<(Option<u8>, u8)>),
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => prop::collection::vec((0..4u8, 0..4u8), 1..6).prop_map(Step::Put),
        3 => (0..4u8, 0..4u8).prop_map(|(id, variant)| Step::Patch(id, variant)),
        2 => (0..4u8).prop_map(Step::Delete),
        4 => prop::collection::vec((prop::option::of(0..6u8), 0..2u8), 1..6).prop_map(Step::Append),
        1 => Just(Step::Restart),
    ]
}

/// Variant 3 gives the attribute another type than the others do.
fn attributes(variant: u8) -> Json {
    if variant == 3 { json!({"a": "text"}) } else { json!({"a": variant}) }
}

#[derive(Default)]
struct Model {
    items: BTreeMap<String, StoredItem>,
    revision: i64,
    attribute: Option<bool>,
    contents: HashMap<u8, u8>,
    events: Vec<(Option<u8>, u8)>,
}

impl Model {
    fn put(&mut self, item: Item) -> &'static str {
        let name = item.item_id.as_str().to_owned();
        let before = self.items.get(&name).cloned();
        if before.as_ref().is_some_and(|before| !before.deleted && *before.item == item) {
            return "unchanged";
        }
        let text = matches!(item.attributes["a"], crate::domain::AttributeValue::Text(_));
        if *self.attribute.get_or_insert(text) != text {
            return "rejected";
        }
        self.revision += 1;
        let key = before.as_ref().map_or(crate::domain::ItemKey(self.items.len() as u32), |before| before.key);
        self.items.insert(name, StoredItem { key, revision: Revision(self.revision), deleted: false, item: Arc::new(item) });
        if before.is_some_and(|before| !before.deleted) { "updated" } else { "created" }
    }

    fn patch(&mut self, name: &str, variant: u8) -> &'static str {
        let Some(before) = self.items.get(name).filter(|before| !before.deleted) else { return "missing" };
        let mut item = (*before.item).clone();
        item.attributes = serde_json::from_value(attributes(variant)).unwrap();
        self.put(item)
    }

    fn delete(&mut self, name: &str) -> bool {
        let Some(item) = self.items.get_mut(name).filter(|item| !item.deleted) else { return false };
        self.revision += 1;
        item.deleted = true;
        item.revision = Revision(self.revision);
        true
    }

    fn append(&mut self, id: Option<u8>, content: u8) -> &'static str {
        match id.map(|id| *self.contents.entry(id).or_insert(content)) {
            Some(first) if first != content => return "reused",
            Some(_) if self.events.iter().any(|event| event.0 == id) => return "duplicate",
            _ => {}
        }
        self.events.push((id, content));
        "accepted"
    }
}

async fn play(kind: Kind, steps: Vec<Step>) {
    let mut store = temporary(kind).await;
    let mut model = Model::default();
    let name = |id: u8| format!("item {id}");
    for step in steps {
        match step {
            Step::Put(items) => {
                let items: Vec<_> = items.into_iter().map(|(id, variant)| item(&name(id), json!({"attributes": attributes(variant)}))).collect();
                let expected: Vec<_> = items.iter().map(|item| model.put(item.clone())).collect();
                let outcomes = store.put_items(items).await.unwrap();
                let outcomes = outcomes.iter().map(|outcome| match outcome {
                    ItemOutcome::Created(_) => "created",
                    ItemOutcome::Updated(_) => "updated",
                    ItemOutcome::Unchanged(_) => "unchanged",
                    ItemOutcome::Rejected(_) => "rejected",
                });
                assert_eq!(outcomes.collect::<Vec<_>>(), expected);
            }
            Step::Patch(id, variant) => {
                let outcome = store.patch_item(&super::id(&name(id)), json!({"attributes": attributes(variant)})).await.unwrap();
                let outcome = match outcome {
                    PatchOutcome::Missing => "missing",
                    PatchOutcome::Rejected(_) => "rejected",
                    PatchOutcome::Updated(_) => "updated",
                    PatchOutcome::Unchanged(_) => "unchanged",
                };
                assert_eq!(outcome, model.patch(&name(id), variant));
            }
            Step::Delete(id) => assert_eq!(store.delete_item(&super::id(&name(id))).await.unwrap().is_some(), model.delete(&name(id))),
            Step::Append(events) => {
                let expected: Vec<_> = events.iter().map(|(id, content)| model.append(*id, *content)).collect();
                let events = events.into_iter().map(|(id, content)| event(json!({"event_id": id.map(|id| id.to_string()), "value": content})));
                let outcomes = store.append_events(events.collect(), at(1)).await.unwrap();
                let outcomes = outcomes.iter().map(|outcome| match outcome {
                    EventOutcome::Accepted(_) | EventOutcome::Moved(..) => "accepted",
                    EventOutcome::Duplicate => "duplicate",
                    EventOutcome::Reused => "reused",
                });
                assert_eq!(outcomes.collect::<Vec<_>>(), expected);
            }
            Step::Restart => store = store.reopened().await,
        }
    }

    let mut by_revision: Vec<_> = model.items.values().cloned().collect();
    by_revision.sort_by_key(|item| item.revision);
    assert_eq!(store.items_above(Revision(0), 100).await.unwrap(), by_revision);
    let live: Vec<_> = model.items.values().filter(|item| !item.deleted).cloned().collect();
    assert_eq!(store.items_page(None, 100).await.unwrap(), live);
    let events = store.events_after(0, 1_000).await.unwrap();
    let events = events.iter().map(|logged| {
        let id = logged.event.event_id.as_ref().map(|id| id.as_str().parse().unwrap());
        (id, logged.event.value.unwrap() as u8)
    });
    assert_eq!(events.collect::<Vec<_>>(), model.events);
}

fn played(kind: Kind, steps: Vec<Step>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(play(kind, steps));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn the_store_does_what_a_map_and_a_list_would_do_on_sqlite(steps in prop::collection::vec(step(), 1..25)) {
        played(Kind::Sqlite, steps);
    }

    #[test]
    #[cfg_attr(not(postgres_server), ignore = "PostgreSQL is not installed (apt install postgresql)")]
    fn the_store_does_what_a_map_and_a_list_would_do_on_postgres(steps in prop::collection::vec(step(), 1..25)) {
        played(Kind::Postgres, steps);
    }
}
