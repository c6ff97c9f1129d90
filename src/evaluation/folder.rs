//! A data folder as a replay: `items.jsonl`, `interactions.csv` (`user_id,item_id,rating|event,timestamp[,split]`), `queries*.jsonl`.
//!
//! The same tasks as the project's scorer over HTTP, event for event and question for question, so that figures can be compared. Without a
//! `split` column time is cut as for a shop's own log.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fs::File,
    io::{BufRead, BufReader},
    path::Path,
};

use flate2::Crc;
use serde::Deserialize;
use serde_json::{Map, Value as Json, json};

use crate::domain::{Event, EventId, EventType, Item, ItemId, SessionId, Timestamp, UserId};

use super::{
    EvaluationError,
    replay::{Question, Replay, Split, Step, Task},
};

/// Fields of an item that are ours; data sets have others beside them.
const FIELDS: [&str; 12] =
    ["item_id", "title", "text", "categories", "tags", "language", "price", "available", "created_at", "expires_at", "attributes", "vectors"];
/// The attribute that marks items without events.
const COLD: &str = "cold";
/// Of a hundred items, so many are cold.
const COLD_IN_100: u32 = 15;
/// From so many stars an item was liked.
const LIKED_STARS: f64 = 3.5;
/// Smaller times are positions in a sequence: they become days.
const POSITIONS_BELOW: f64 = 1e6;
/// When position 0 was, in seconds, and when words led to items.
const FIRST_DAY: f64 = 1.6e9;
const WORDS_AT: f64 = 9e8;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Train,
    Valid,
    Test,
}

/// A row of `interactions.csv`.
#[derive(Debug, Deserialize)]
struct Row {
    user_id: String,
    item_id: String,
    rating: Option<f64>,
    event: Option<String>,
    timestamp: String,
    split: Option<String>,
}

/// An interaction that was read and checked.
struct Interaction {
    event: Event,
    user: UserId,
    item: ItemId,
    part: Part,
}

/// A line of `queries*.jsonl`.
#[derive(Debug, Deserialize)]
struct Query {
    query_id: String,
    user_id: Option<String>,
    text: String,
    relevant: Vec<Relevant>,
    split: Option<String>,
    scenario: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Relevant {
    item_id: ItemId,
    #[serde(default = "one")]
    grade: f64,
}

fn one() -> f64 {
    1.0
}

/// Reads a folder. `limit`: steps that are replayed at most. Without `split` the folder's own column counts.
pub fn read_folder(folder: &Path, task: Task, split: Option<Split>, limit: Option<usize>) -> Result<Replay, EvaluationError> {
    let mut items = read_items(&folder.join("items.jsonl"), task)?;
    let (interactions, how) = read_interactions(&folder.join("interactions.csv"), split)?;
    let is_held = |part: Part| match task {
        Task::History | Task::Sequence | Task::Cold => part == Part::Test,
        Task::UserKeyword => part != Part::Train,
        Task::Keyword | Task::Text | Task::Log => true,
    };
    let is_cold = |item: &ItemId| task == Task::Cold && is_cold(item);
    let known: Vec<&Interaction> = interactions.iter().filter(|one| !is_held(one.part) && !is_cold(&one.item)).collect();
    let mut events: Vec<Event> = known.iter().map(|one| one.event.clone()).collect();
    if matches!(task, Task::Keyword | Task::UserKeyword) {
        let taught = read_lines::<Query>(&folder.join("queries_keyword.jsonl"))?;
        for query in taught.iter().filter(|query| query.split.as_deref() == Some("train")) {
            events.extend(clicks(query)?);
        }
    }
    let newest = events.iter().filter_map(|event| event.timestamp).max();
    let now = newest.map_or_else(|| stamp(FIRST_DAY), Ok)?;
    let mut steps = match task {
        Task::History => history(&interactions, &known, now),
        Task::Sequence | Task::Cold => sequence(&interactions, &known, task == Task::Cold),
        Task::Keyword | Task::UserKeyword | Task::Text => words(folder, task, &items, &known, now)?,
        Task::Log => return Err(EvaluationError::Folder("a folder has no log of its own; choose another task".to_owned())),
    };
    let all = steps.len();
    steps.truncate(limit.unwrap_or(all));
    let mut notes = Vec::new();
    if steps.len() < all {
        notes.push(format!("only the first {} of {all} steps were replayed", steps.len()));
    }
    items.sort_by_key(|(place, _)| *place);
    let name = folder.file_name().map_or_else(|| "data".to_owned(), |name| name.to_string_lossy().into_owned());
    Ok(Replay { name, task, split: how, items: items.into_iter().map(|(_, item)| item).collect(), events, exposures: Vec::new(), steps, notes })
}

/// The places of lines with their items: the order decides the keys, and with them the order of equal scores.
fn read_items(path: &Path, task: Task) -> Result<Vec<(usize, Item)>, EvaluationError> {
    let mut items = Vec::new();
    for (place, mut document) in read_lines::<Map<String, Json>>(path)?.into_iter().enumerate() {
        let fault = |error: &dyn std::fmt::Display| EvaluationError::Folder(format!("{}:{}: {error}", path.display(), place + 1));
        let brand = document.get("brand").filter(|brand| brand.as_str().is_some_and(|brand| !brand.is_empty())).cloned();
        let cold =
            (task == Task::Cold).then(|| document.get("item_id").and_then(Json::as_str).and_then(|id| ItemId::new(id).ok()).is_some_and(|id| is_cold(&id)));
        document.retain(|name, value| FIELDS.contains(&name.as_str()) && !value.is_null() && value.as_str() != Some(""));
        let attributes = brand.map(|brand| ("brand", brand)).into_iter().chain(cold.map(|cold| (COLD, Json::Bool(cold))));
        for (name, value) in attributes {
            if let Some(attributes) = document.entry("attributes").or_insert_with(|| json!({})).as_object_mut() {
                attributes.insert(name.to_owned(), value);
            }
        }
        let item: Item = serde_json::from_value(Json::Object(document)).map_err(|error| fault(&error))?;
        items.push((place, item));
    }
    if items.is_empty() {
        return Err(EvaluationError::Folder(format!("{} holds no items", path.display())));
    }
    Ok(items)
}

/// Interactions in the order of the file (by time where time is cut here), and how they were split.
fn read_interactions(path: &Path, split: Option<Split>) -> Result<(Vec<Interaction>, String), EvaluationError> {
    if !path.exists() {
        return Ok((Vec::new(), "no interactions".to_owned()));
    }
    let folder = |error: &dyn std::fmt::Display| EvaluationError::Folder(format!("{}: {error}", path.display()));
    let mut reader = csv::Reader::from_path(path).map_err(|error| folder(&error))?;
    let has_parts = reader.headers().map_err(|error| folder(&error))?.iter().any(|name| name == "split");
    let mut interactions = Vec::new();
    for (row, read) in reader.deserialize::<Row>().enumerate() {
        let fault = |error: &dyn std::fmt::Display| EvaluationError::Folder(format!("{}:{}: {error}", path.display(), row + 2));
        let read = read.map_err(|error| fault(&error))?;
        interactions.push(interaction(&read).map_err(|error| fault(&error))?);
    }
    if has_parts && split.is_none() {
        return Ok((interactions, "the data's own column".to_owned()));
    }
    interactions.sort_by_key(|one| one.event.timestamp);
    let times: Vec<Timestamp> = interactions.iter().filter_map(|one| one.event.timestamp).collect();
    let cut = split.unwrap_or_default().cut(&times).ok_or_else(|| folder(&"time cannot be cut there: events are needed before and after"))?;
    for one in &mut interactions {
        one.part = if one.event.timestamp.is_some_and(|at| at < cut) { Part::Train } else { Part::Test };
    }
    Ok((interactions, format!("before and from {cut}")))
}

fn interaction(row: &Row) -> Result<Interaction, String> {
    let words = |error: &dyn std::fmt::Display| error.to_string();
    let (user, item) = (UserId::new(&row.user_id).map_err(|error| words(&error))?, ItemId::new(&row.item_id).map_err(|error| words(&error))?);
    let part = match row.split.as_deref() {
        Some("train") | None => Part::Train,
        Some("valid") => Part::Valid,
        Some("test") => Part::Test,
        Some(other) => return Err(format!("the split is {other:?}, not train, valid or test")),
    };
    // The names of data sets are their own; what is none of ours is a purchase.
    let named = row.event.as_deref().and_then(|name| EventType::ALL.into_iter().find(|kind| kind.name() == name));
    let kind = if row.rating.is_some() { EventType::Rating } else { named.unwrap_or(EventType::Purchase) };
    let time: f64 = row.timestamp.parse().map_err(|_| "the timestamp is not a number".to_owned())?;
    let event = Event {
        event_id: EventId::new(format!("s-{}-{}-{}", row.user_id, row.item_id, row.timestamp)).ok(),
        user_id: Some(user.clone()),
        item_id: Some(item.clone()),
        value: row.rating,
        timestamp: Some(stamp(time).map_err(|error| words(&error))?),
        ..plain(kind)
    };
    Ok(Interaction { event, user, item, part })
}

fn plain(kind: EventType) -> Event {
    Event { event_id: None, kind, user_id: None, session_id: None, item_id: None, recommendation_id: None, value: None, text: None, timestamp: None }
}

/// A time in seconds, or a position.
fn stamp(time: f64) -> Result<Timestamp, EvaluationError> {
    let seconds = if time < POSITIONS_BELOW { FIRST_DAY + time * 86_400.0 } else { time };
    Timestamp::from_millis((1_000.0 * seconds) as i64).map_err(|error| EvaluationError::Folder(error.to_string()))
}

/// Whether an item is one of those without events, by its id.
fn is_cold(item: &ItemId) -> bool {
    let mut hash = Crc::new();
    hash.update(b"cold");
    hash.update(item.as_str().as_bytes());
    hash.sum() % 100 < COLD_IN_100
}

/// The clicks that words led to.
fn clicks(query: &Query) -> Result<Vec<Event>, EvaluationError> {
    let mut clicks = Vec::new();
    for relevant in &query.relevant {
        let session = SessionId::new(format!("p-{}", query.query_id)).map_err(|error| EvaluationError::Folder(error.to_string()))?;
        clicks.push(Event {
            event_id: EventId::new(format!("p-{}-{}", query.query_id, relevant.item_id)).ok(),
            session_id: Some(session),
            item_id: Some(relevant.item_id.clone()),
            text: Some(query.text.clone()),
            timestamp: Some(stamp(WORDS_AT)?),
            ..plain(EventType::Click)
        });
    }
    Ok(clicks)
}

fn counts(known: &[&Interaction]) -> HashMap<UserId, usize> {
    let mut counts = HashMap::new();
    known.iter().for_each(|one| *counts.entry(one.user.clone()).or_default() += 1);
    counts
}

/// Once for each user, in the order in which they first appear.
fn history(interactions: &[Interaction], known: &[&Interaction], now: Timestamp) -> Vec<Step> {
    let counts = counts(known);
    let mut order: Vec<&UserId> = Vec::new();
    let mut relevant: HashMap<&UserId, HashMap<ItemId, f64>> = HashMap::new();
    for one in interactions.iter().filter(|one| one.part == Part::Test && one.event.value.is_none_or(|stars| stars >= LIKED_STARS)) {
        let of_user = relevant.entry(&one.user).or_insert_with(|| {
            order.push(&one.user);
            HashMap::new()
        });
        of_user.insert(one.item.clone(), 1.0);
    }
    let step = |user: &UserId| {
        let question = Question {
            user_id: Some(user.clone()),
            exclude_seen: Some(true),
            history: Some(counts.get(user).copied().unwrap_or(0)),
            relevant: relevant.remove(user).unwrap_or_default(),
            ..Question::of(user.to_string(), now)
        };
        Step { question: Some(question), event: None }
    };
    order.into_iter().map(step).collect()
}

/// Test events in order: ask for the item, then feed it. Cold items are asked for and never fed.
fn sequence(interactions: &[Interaction], known: &[&Interaction], cold: bool) -> Vec<Step> {
    let mut seen: HashMap<&UserId, HashSet<&ItemId>> = HashMap::new();
    let mut counts = counts(known);
    for one in known {
        seen.entry(&one.user).or_default().insert(&one.item);
    }
    let mut steps = Vec::new();
    for one in interactions.iter().filter(|one| one.part == Part::Test) {
        let (of_user, is_cold) = (seen.entry(&one.user).or_default(), cold && is_cold(&one.item));
        let wanted = !of_user.contains(&one.item) && (!cold || is_cold);
        let history = counts.entry(one.user.clone()).or_default();
        let question = wanted.then(|| Question {
            user_id: Some(one.user.clone()),
            exclude_seen: Some(true),
            filter: cold.then(|| json!({"attributes.cold": true})),
            history: Some(*history),
            relevant: HashMap::from([(one.item.clone(), 1.0)]),
            ..Question::of(one.user.to_string(), one.event.timestamp.expect("every interaction has its time"))
        });
        let event = (!is_cold).then(|| one.event.clone());
        if event.is_some() {
            of_user.insert(&one.item);
            *history += 1;
        }
        steps.push(Step { question, event });
    }
    steps
}

/// Questions with words, alone or with a user.
fn words(folder: &Path, task: Task, items: &[(usize, Item)], known: &[&Interaction], now: Timestamp) -> Result<Vec<Step>, EvaluationError> {
    let file = match task {
        Task::Keyword => "queries_keyword.jsonl",
        Task::UserKeyword => "queries_user_keyword.jsonl",
        _ => "queries.jsonl",
    };
    let path = folder.join(file);
    let counts = counts(known);
    // An item that repeats the words of a question is that question, not an answer to it.
    let mut twins: BTreeMap<&str, Vec<&ItemId>> = BTreeMap::new();
    if task == Task::Text {
        items.iter().filter_map(|(_, item)| Some((item.title.as_deref()?, &item.item_id))).for_each(|(title, id)| twins.entry(title).or_default().push(id));
    }
    let mut steps = Vec::new();
    for query in read_lines::<Query>(&path)? {
        if task == Task::Keyword && query.split.as_deref() == Some("train") {
            continue;
        }
        let user = query.user_id.as_deref().filter(|_| task == Task::UserKeyword).map(UserId::new).transpose();
        let user = user.map_err(|error| EvaluationError::Folder(format!("{}: {error}", path.display())))?;
        let relevant: HashMap<ItemId, f64> = query.relevant.into_iter().map(|one| (one.item_id, one.grade)).collect();
        let mut twin: Vec<ItemId> =
            twins.get(query.text.as_str()).into_iter().flatten().filter(|id| !relevant.contains_key(id)).map(|id| (*id).clone()).collect();
        twin.sort();
        if relevant.is_empty() {
            continue;
        }
        let question = Question {
            history: user.as_ref().map(|user| counts.get(user).copied().unwrap_or(0)),
            exclude_seen: Some(user.is_some()),
            exclude_items: twin,
            text: Some(query.text),
            relevant,
            user_id: user,
            ..Question::of(query.user_id.unwrap_or(query.query_id), now)
        };
        let scenario = query.scenario.unwrap_or_else(|| question.scenario.clone());
        steps.push(Step { question: Some(Question { scenario, ..question }), event: None });
    }
    Ok(steps)
}

/// The lines of a file, each a JSON document.
fn read_lines<T: serde::de::DeserializeOwned>(path: &Path) -> Result<Vec<T>, EvaluationError> {
    let file = File::open(path).map_err(|error| EvaluationError::Folder(format!("{}: {error}", path.display())))?;
    let mut read = Vec::new();
    for (number, line) in (1..).zip(BufReader::new(file).lines()) {
        let fault = |error: &dyn std::fmt::Display| EvaluationError::Folder(format!("{}:{number}: {error}", path.display()));
        let line = line.map_err(|error| fault(&error))?;
        if !line.trim().is_empty() {
            read.push(serde_json::from_str(&line).map_err(|error| fault(&error))?);
        }
    }
    Ok(read)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        folder
    }

    const ITEMS: &str = "{\"item_id\": \"b\", \"title\": \"Tent\", \"asin\": 7, \"text\": \"\", \"brand\": \"Fjell\"}\n{\"item_id\": \"a\", \"title\": \"Stove\", \"price\": null}\n";

    #[test]
    fn a_sequence_asks_for_each_test_item_before_it_is_fed_unless_it_was_seen() {
        let rows = "user_id,item_id,event,timestamp,split\nu,a,buy,0,train\nu,b,buy,1,test\nv,a,click,2,test\nu,b,buy,3,test\n";
        let data = folder(&[("items.jsonl", ITEMS), ("interactions.csv", rows)]);

        let replay = read_folder(data.path(), Task::Sequence, None, None).unwrap();

        let ids: Vec<&str> = replay.items.iter().map(|item| item.item_id.as_str()).collect();
        assert_eq!((ids, replay.events.len(), replay.steps.len(), replay.questions()), (vec!["b", "a"], 1, 3, 2));
        let question = |step: usize| replay.steps[step].question.as_ref();
        assert_eq!(question(0).unwrap().history, Some(1));
        assert_eq!(question(1).unwrap().history, Some(0));
        assert!(question(2).is_none() && replay.steps[2].event.is_some());
        assert_eq!(replay.events[0].kind, EventType::Purchase);
        assert_eq!(replay.events[0].timestamp.unwrap().millis(), 1_600_000_000_000);
        assert_eq!(replay.steps[1].event.as_ref().unwrap().kind, EventType::Click);
        assert_eq!(read_folder(data.path(), Task::Sequence, None, Some(1)).unwrap().steps.len(), 1);
    }

    #[test]
    fn a_history_is_asked_once_a_user_for_what_was_liked_afterwards() {
        let rows = "user_id,item_id,rating,timestamp,split\nu,a,5,1000000000,train\nv,b,4,1000000001,test\nu,b,3.5,1000000002,test\nu,a,1,1000000003,test\n";
        let data = folder(&[("items.jsonl", ITEMS), ("interactions.csv", rows)]);

        let replay = read_folder(data.path(), Task::History, None, None).unwrap();

        let asked: Vec<_> =
            replay.steps.iter().filter_map(|step| step.question.as_ref()).map(|one| (one.unit.as_str(), one.relevant.len(), one.history)).collect();
        assert_eq!(asked, [("v", 1, Some(0)), ("u", 1, Some(1))]);
    }

    #[test]
    fn without_a_split_column_time_is_cut_after_four_fifths_of_the_days() {
        let rows: String = (0..10).rev().map(|n| format!("u,{},{}\n", if n % 2 == 0 { "a" } else { "b" }, n)).collect();
        let data = folder(&[("items.jsonl", ITEMS), ("interactions.csv", &format!("user_id,item_id,timestamp\n{rows}"))]);

        let replay = read_folder(data.path(), Task::Sequence, None, None).unwrap();

        assert_eq!((replay.events.len(), replay.steps.len()), (8, 2));
        assert!(replay.events.is_sorted_by_key(|event| event.timestamp), "fed in the order of time");
    }

    #[test]
    fn cold_items_are_asked_for_by_a_filter_and_never_fed() {
        // zlib.crc32(b"cold" + id) % 100 is 12 for "i12" and 20 for "i3".
        let items = "{\"item_id\": \"i12\", \"title\": \"Tent\"}\n{\"item_id\": \"i3\", \"title\": \"Stove\"}\n";
        let rows = "user_id,item_id,event,timestamp,split\nu,i12,buy,0,train\nu,i3,buy,1,test\nv,i12,buy,2,test\n";
        let data = folder(&[("items.jsonl", items), ("interactions.csv", rows)]);

        let replay = read_folder(data.path(), Task::Cold, None, None).unwrap();

        assert_eq!((replay.events.len(), replay.steps.len(), replay.questions()), (0, 2, 1));
        assert!(replay.steps[0].question.is_none() && replay.steps[1].event.is_none());
        assert_eq!(replay.steps[1].question.as_ref().unwrap().filter, Some(json!({"attributes.cold": true})));
    }

    #[test]
    fn words_come_with_their_user_and_without_their_twins() {
        let queries = "{\"query_id\": \"q1\", \"text\": \"Tent\", \"relevant\": [{\"item_id\": \"a\", \"grade\": 2}]}\n";
        let keywords = "{\"query_id\": \"k1\", \"text\": \"tent\", \"relevant\": [{\"item_id\": \"b\"}], \"split\": \"train\"}\n";
        let of_user = "{\"query_id\": \"uk\", \"user_id\": \"u\", \"text\": \"tent\", \"relevant\": [{\"item_id\": \"b\"}]}\n";
        let rows = "user_id,item_id,rating,timestamp,split\nu,a,5,1000000000,train\nu,b,5,1000000001,valid\n";
        let files = [("items.jsonl", ITEMS), ("queries.jsonl", queries), ("queries_keyword.jsonl", keywords), ("queries_user_keyword.jsonl", of_user)];
        let data = folder(&[&files[..], &[("interactions.csv", rows)]].concat());

        let text = read_folder(data.path(), Task::Text, None, None).unwrap();
        let keyword = read_folder(data.path(), Task::Keyword, None, None).unwrap();
        let user_keyword = read_folder(data.path(), Task::UserKeyword, None, None).unwrap();

        let question = text.steps[0].question.as_ref().unwrap();
        assert_eq!((text.events.len(), question.exclude_items.len(), question.relevant[&ItemId::new("a").unwrap()]), (0, 1, 2.0));
        assert_eq!((keyword.events.len(), keyword.steps.len()), (1, 0));
        let question = user_keyword.steps[0].question.as_ref().unwrap();
        assert_eq!((user_keyword.events.len(), question.history, question.exclude_seen), (2, Some(1), Some(true)));
    }

    #[test]
    fn what_is_wrong_is_told_with_file_and_line() {
        for (files, said) in [
            (vec![("items.jsonl", "{\"item_id\": \"a\", \"title\": \"x\"}\n{\"item_id\": 3}\n")], "items.jsonl:2"),
            (vec![("items.jsonl", "")], "holds no items"),
            (vec![], "items.jsonl"),
            (vec![("items.jsonl", ITEMS), ("interactions.csv", "user_id,item_id,timestamp,split\nu,a,0,tset\n")], "interactions.csv:2"),
            (vec![("items.jsonl", ITEMS), ("interactions.csv", "user_id,item_id,timestamp\nu,a,0\n")], "time cannot be cut"),
        ] {
            let data = folder(&files);
            let error = read_folder(data.path(), Task::Sequence, None, None).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
    }
}
