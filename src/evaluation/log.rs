//! A shop's own log as a replay: what happened before the cut is learned from, what came after is asked for, event by event.
//!
//! Asked is before the first good event of somebody on an item: what they had met already is no finding. Only reads, beside a running server too.
//! Items are as they are today (price, availability); those that appeared later than a question are filtered from it.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use serde_json::json;

use crate::{
    domain::{Actor, Event, EventType, Exposure, FeatureVector, Item, ItemId, LoggedEvent, RecommendationId, ShownItem, Timestamp, UserId},
    encoder::clean,
    features::{MOST_ANSWERS, Signals},
    store::{ContentHash, Store, StoreError},
};

use super::{
    EvaluationError,
    replay::{Question, Replay, Split, Step, Task},
};

/// Rows that are read at a time.
const PAGE: usize = 5_000;

/// Reads the catalogue and the log. At most `limit` questions are asked, evenly spread over the time after the cut; all events are fed.
pub async fn read_log(store: &Store, signals: &Signals, split: Split, limit: usize) -> Result<Replay, EvaluationError> {
    let items = items(store).await?;
    let mut log = events(store).await?;
    log.sort_by_key(|logged| (logged.at(), logged.sequence));
    let times: Vec<Timestamp> = log.iter().map(LoggedEvent::at).collect();
    let cut = split.cut(&times).ok_or(EvaluationError::Nothing)?;
    let first = log.partition_point(|logged| logged.at() < cut);
    let newer = log.split_off(first);

    let ids: HashSet<&ItemId> = items.iter().map(|item| &item.item_id).collect();
    let mut met: HashMap<Actor, HashSet<ItemId>> = HashMap::new();
    let mut counts: HashMap<Actor, usize> = HashMap::new();
    for logged in &log {
        meet(&mut met, &mut counts, &logged.event);
    }
    let later = items.iter().any(|item| item.created_at.is_some_and(|at| at >= cut));
    let mut steps: Vec<Step> = Vec::new();
    for logged in newer {
        let mut question = None;
        if let (Some(actor), Some(item)) = (logged.event.actor(), &logged.event.item_id) {
            let new = met.get(&actor).is_none_or(|items| !items.contains(item));
            if new && ids.contains(item) && is_good(signals, &logged) {
                question = Some(asked(&logged, &actor, item.clone(), counts.get(&actor).copied().unwrap_or(0), later));
            }
        }
        meet(&mut met, &mut counts, &logged.event);
        steps.push(Step { question, event: Some(logged.event) });
    }
    let all = steps.iter().filter(|step| step.question.is_some()).count();
    thin_out(&mut steps, all, limit.max(1));
    let asked: usize = steps.iter().filter(|step| step.question.is_some()).count();
    name_scenarios(store, &mut steps).await?;
    let mut notes = vec!["items are as they are today: prices, availability and texts of the time are not known".to_owned()];
    if asked < all {
        notes.push(format!("{asked} of {all} questions were asked, evenly spread over the time after the cut; every event was fed"));
    }
    let (exposures, events) = (exposures(store, cut).await?, log.into_iter().map(|logged| logged.event).collect());
    Ok(Replay { name: "own log".to_owned(), task: Task::Log, split: format!("before and from {cut}"), items, events, exposures, steps, notes })
}

/// Takes embeddings over that one store has and another will need, so that nothing is encoded twice.
pub async fn lend_embeddings(from: &Store, to: &Store, model_version: &str, items: &[Item]) -> Result<(), StoreError> {
    for chunk in items.chunks(PAGE / 10) {
        // As the write path names what it encoded.
        let hashes: Vec<ContentHash> = chunk.iter().map(|item| ContentHash::of(&clean(&item.full_text()))).collect();
        let known = from.embeddings(model_version, &hashes).await?;
        if !known.is_empty() {
            to.put_embeddings(model_version, known.into_iter().collect()).await?;
        }
    }
    Ok(())
}

async fn items(store: &Store) -> Result<Vec<Item>, StoreError> {
    let (mut items, mut after) = (Vec::new(), None);
    loop {
        let page = store.items_page(after.as_ref(), PAGE).await?;
        let Some(last) = page.last() else { return Ok(items) };
        after = Some(last.item.item_id.clone());
        items.extend(page.into_iter().map(|stored| Arc::unwrap_or_clone(stored.item)));
    }
}

/// All events, each under the user that its own was merged into.
async fn events(store: &Store) -> Result<Vec<LoggedEvent>, StoreError> {
    let (mut events, mut sequence) = (Vec::new(), 0);
    let mut people: HashMap<Actor, Actor> = HashMap::new();
    loop {
        let page = store.events_after(sequence, PAGE).await?;
        let Some(last) = page.last() else { return Ok(events) };
        sequence = last.sequence;
        for mut logged in page {
            if let Some(actor) = logged.event.actor() {
                let person = match people.get(&actor) {
                    Some(person) => person.clone(),
                    None => {
                        let person = store.person(&actor).await?;
                        people.insert(actor, person.clone());
                        person
                    }
                };
                if let Actor::User(user) = person {
                    logged.event.user_id = Some(user);
                }
            }
            events.push(logged);
        }
    }
}

/// The newest lists before the cut, as popularity counts them: without what the ranker saw.
async fn exposures(store: &Store, cut: Timestamp) -> Result<Vec<Exposure>, StoreError> {
    let mut last: Option<RecommendationId> = store.exposure_before_newest(MOST_ANSWERS).await?;
    let mut exposures = Vec::new();
    loop {
        let page = store.exposures_after(last.as_ref(), PAGE).await?;
        let Some(newest) = page.last() else { return Ok(exposures) };
        last = Some(newest.recommendation_id.clone());
        let unranked = |exposure: Exposure| {
            let items = exposure.items.into_iter().map(|shown| ShownItem::certain(shown.item_id, FeatureVector::default())).collect();
            Exposure { items, ..exposure }
        };
        exposures.extend(page.into_iter().filter(|exposure| exposure.at < cut).map(unranked));
    }
}

/// A question of a list that was ours is asked in that list's scenario.
async fn name_scenarios(store: &Store, steps: &mut [Step]) -> Result<(), StoreError> {
    for Step { question, event } in steps {
        let answer = event.as_ref().and_then(|event| event.recommendation_id.as_ref());
        if let (Some(question), Some(answer)) = (question, answer)
            && let Some(exposure) = store.exposure(answer).await?
        {
            question.scenario = exposure.scenario;
        }
    }
    Ok(())
}

fn meet(met: &mut HashMap<Actor, HashSet<ItemId>>, counts: &mut HashMap<Actor, usize>, event: &Event) {
    let Some(actor) = event.actor() else { return };
    *counts.entry(actor.clone()).or_default() += 1;
    if let Some(item) = &event.item_id {
        met.entry(actor).or_default().insert(item.clone());
    }
}

/// Whether it says yes to its item by itself.
fn is_good(signals: &Signals, logged: &LoggedEvent) -> bool {
    let act = signals.act(logged.sequence, &logged.event);
    act.is_some_and(|act| signals.opinions(std::slice::from_ref(&act)).values().any(|opinion| opinion.weight > 0.0))
}

fn asked(logged: &LoggedEvent, actor: &Actor, item: ItemId, history: usize, later: bool) -> Question {
    let unit = match actor {
        Actor::User(user) => format!("u {user}"),
        Actor::Session(session) => format!("s {session}"),
    };
    // A review is written afterwards; any other event's text is the words that led to the item.
    let text = logged.event.text.clone().filter(|_| logged.event.kind != EventType::Review);
    let now = logged.at();
    let user_id: Option<UserId> = logged.event.user_id.clone();
    Question {
        user_id,
        session_id: logged.event.session_id.clone(),
        text,
        filter: later.then(|| json!({"any_of": [{"created_at": null}, {"created_at": {"lte": now.to_string()}}]})),
        relevant: HashMap::from([(item, 1.0)]),
        history: Some(history),
        ..Question::of(unit, now)
    }
}

/// Leaves `limit` of `all` questions, evenly spread.
fn thin_out(steps: &mut [Step], all: usize, limit: usize) {
    for (number, step) in steps.iter_mut().filter(|step| step.question.is_some()).enumerate() {
        // The n-th is kept where n x limit / all passes a whole number.
        if limit < all && (number + 1) * limit / all == number * limit / all {
            step.question = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        features::{FeatureSettings, Preset},
        telemetry::Registry,
    };

    const DAY: i64 = 86_400_000;

    async fn shop(events: serde_json::Value) -> (tempfile::TempDir, Store, Signals) {
        let folder = tempfile::tempdir().unwrap();
        // `config` is on a higher floor, its file is not.
        let defaults: toml::Table = include_str!("../config/default.toml").parse().unwrap();
        let store = Store::open(folder.path(), &defaults["store"].clone().try_into().unwrap(), &Registry::new()).await.unwrap();
        let items = ["a", "b", "c"].map(|id| serde_json::from_value(json!({"item_id": id, "title": id})).unwrap());
        store.put_items(items.to_vec()).await.unwrap();
        let events: Vec<Event> = serde_json::from_value(events).unwrap();
        store.append_events(events, Timestamp::from_millis(100 * DAY).unwrap()).await.unwrap();
        (folder, store, Signals::new(&FeatureSettings::of(Preset::Shop)).unwrap())
    }

    fn event(user: &str, item: &str, kind: &str, day: i64) -> serde_json::Value {
        json!({"user_id": user, "item_id": item, "type": kind, "timestamp": day * DAY})
    }

    #[tokio::test]
    async fn asked_is_before_the_first_good_event_of_somebody_on_an_item() {
        let log = json!([
            event("u", "a", "purchase", 1),
            event("u", "b", "purchase", 9),
            event("u", "a", "purchase", 9),
            event("u", "gone", "purchase", 9),
            event("u", "c", "hide", 9),
            event("v", "c", "impression", 9),
        ]);
        let (_folder, store, signals) = shop(log).await;

        let replay = read_log(&store, &signals, Split::Days(0.5), 100).await.unwrap();

        assert_eq!((replay.items.len(), replay.events.len(), replay.steps.len(), replay.questions()), (3, 1, 5, 1));
        let question = replay.steps[0].question.as_ref().unwrap();
        assert!(question.relevant.contains_key(&ItemId::new("b").unwrap()));
        assert_eq!((question.history, question.now.millis()), (Some(1), 9 * DAY));
        store.close().await;
    }

    #[test]
    fn thinning_out_spreads_evenly_and_keeps_every_event() {
        let now = Timestamp::from_millis(0).unwrap();
        let mut steps: Vec<Step> = (0..100).map(|n| Step { question: Some(Question::of(n.to_string(), now)), event: None }).collect();

        thin_out(&mut steps, 100, 7);

        let kept: Vec<usize> = (0..100).filter(|n| steps[*n].question.is_some()).collect();
        assert_eq!(kept.len(), 7);
        assert!(kept.windows(2).all(|pair| (13..=16).contains(&(pair[1] - pair[0]))), "{kept:?}");
    }
}
