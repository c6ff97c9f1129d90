//! The demo: an invented catalogue in two languages and the events of invented users, embedded in the binary.

mod catalogue;
mod events;

use crate::domain::{Event, EventId, EventType, Item, ItemId, Timestamp, UserId};

use super::App;

/// Events that are stored at a time.
const CHUNK: usize = 1_000;

/// Loads the catalogue and the events, as of `now`; what is there already stays as it is.
pub(crate) async fn load(app: &App, now: Timestamp) -> anyhow::Result<Loaded> {
    let items = catalogue::items();
    let loaded = items.len();
    app.ingest.put_items(items).await?;
    if app.store.event_count().await? > 0 {
        return Ok(Loaded { items: loaded, events: 0 });
    }
    let events: Vec<Event> = events::events().into_iter().enumerate().map(|(number, event)| dated(number, event, now)).collect::<anyhow::Result<_>>()?;
    for chunk in events.chunks(CHUNK) {
        app.ingest.events(chunk.to_vec(), now).await?;
    }
    Ok(Loaded { items: loaded, events: events.len() })
}

/// Texts of the catalogue in these languages, in all where none is named or none fits: every other one or so, `most` at most.
pub(crate) fn texts(languages: &[String], most: usize) -> Vec<String> {
    let items = catalogue::items();
    let fits = |item: &&Item| languages.is_empty() || item.language.as_ref().is_some_and(|language| languages.contains(language));
    let mut texts: Vec<String> = items.iter().filter(fits).map(Item::full_text).collect();
    if texts.is_empty() {
        texts = items.iter().map(Item::full_text).collect();
    }
    let step = texts.len().div_ceil(most.max(1)).max(1);
    texts.into_iter().step_by(step).collect()
}

/// How much was loaded.
pub(crate) struct Loaded {
    pub(crate) items: usize,
    pub(crate) events: usize,
}

fn dated(number: usize, event: events::DemoEvent, now: Timestamp) -> anyhow::Result<Event> {
    Ok(Event {
        event_id: Some(EventId::new(format!("demo-{number}"))?),
        kind: EventType::named(event.kind)?,
        user_id: Some(UserId::new(event.user)?),
        session_id: None,
        item_id: Some(ItemId::new(event.item_id)?),
        recommendation_id: None,
        value: event.value,
        text: None,
        timestamp: Some(Timestamp::from_millis(now.millis() - event.minutes_ago * 60_000)?),
    })
}
