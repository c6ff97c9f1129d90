//! What is known of a user, for people to read: counts by SQL, the rest from the recent history. Bounded, however long somebody has been here.

use std::collections::BTreeMap;

use crate::{
    domain::{Actor, EventType, ItemId, LoggedEvent, Timestamp, UserId},
    features::Act,
    store::{Alias, StoreError, TypeCount},
};

use super::{Recommender, understand::Understood};

/// Events that are looked at, newest first.
const RECENT: usize = 1_000;
/// Of these, texts whose language is told: some 50 µs each.
const TEXTS: usize = 50;
/// Bytes of a text that tell its language.
const TELLING_BYTES: usize = 500;
/// Languages, categories and items that are named.
const NAMED: usize = 20;

/// What is known of a user.
#[derive(Debug, Clone, PartialEq)]
pub struct Person {
    /// The user, or who it was merged into.
    pub user: UserId,
    /// Names that were merged into the user.
    pub aliases: Vec<Alias>,
    /// All events by type, the most frequent first.
    pub event_types: Vec<TypeCount>,
    /// All answers that were logged.
    pub exposures: u64,
    /// Of liked items and of written texts, with shares that add up to 1; the largest first.
    pub languages: Vec<(String, f32)>,
    /// Of liked items, with the sum of what was said of them; the most liked first.
    pub liked_categories: Vec<(String, f32)>,
    /// Items of the latest events, newest first, each once.
    pub recent_items: Vec<RecentItem>,
}

/// What somebody did last to an item.
#[derive(Debug, Clone, PartialEq)]
pub struct RecentItem {
    /// The item.
    pub item_id: ItemId,
    /// What they did.
    pub kind: EventType,
    /// When.
    pub at: Timestamp,
}

impl Recommender {
    /// What is known of a user; of one that is unknown, nothing.
    pub async fn person(&self, user: &UserId) -> Result<Person, StoreError> {
        let store = &self.0.store;
        let user = store.user(user).await?;
        let events = store.recent_events(&Actor::User(user.clone()), RECENT).await?;
        let (languages, liked_categories) = self.taste_of(&events);
        Ok(Person {
            aliases: store.aliases(&user).await?,
            event_types: store.event_types(&user).await?,
            exposures: store.exposure_count(&user).await?,
            languages,
            liked_categories,
            recent_items: recent_items(&events),
            user,
        })
    }

    /// Languages and liked categories.
    fn taste_of(&self, events: &[LoggedEvent]) -> (Largest, Largest) {
        let (mut languages, mut categories) = (BTreeMap::<String, f32>::new(), BTreeMap::<String, f32>::new());
        for text in events.iter().filter_map(|logged| logged.event.text.as_deref()).take(TEXTS) {
            for of in Understood::read(&text[..text.floor_char_boundary(TELLING_BYTES)]).languages {
                *languages.entry(of.language.to_owned()).or_default() += of.share;
            }
        }
        let acts: Vec<Act> = events.iter().filter_map(|logged| self.0.signals.act(logged.sequence, &logged.event)).collect();
        let opinions = self.0.signals.opinions(&acts);
        let table = self.0.columns.read();
        for (item, opinion) in opinions.iter().filter(|(_, opinion)| opinion.weight > 0.0) {
            let Some(facts) = table.key_of(item).and_then(|key| table.facts(key)) else { continue };
            facts.language.iter().for_each(|language| *languages.entry(language.clone()).or_default() += opinion.weight);
            facts.categories.iter().for_each(|category| *categories.entry(category.clone()).or_default() += opinion.weight);
        }
        drop(table);
        let all: f32 = languages.values().sum();
        languages.values_mut().for_each(|share| *share /= all);
        (largest(languages), largest(categories))
    }
}

/// Names with weights, the largest first.
type Largest = Vec<(String, f32)>;

/// The largest first, those of one size by name; at most [`NAMED`].
fn largest(weights: BTreeMap<String, f32>) -> Largest {
    let mut weights: Vec<(String, f32)> = weights.into_iter().collect();
    weights.sort_by(|(_, a), (_, b)| b.total_cmp(a));
    weights.truncate(NAMED);
    weights
}

fn recent_items(events: &[LoggedEvent]) -> Vec<RecentItem> {
    let mut recent: Vec<RecentItem> = Vec::new();
    for logged in events {
        let Some(item_id) = &logged.event.item_id else { continue };
        if recent.len() == NAMED {
            break;
        }
        if recent.iter().all(|known| known.item_id != *item_id) {
            recent.push(RecentItem { item_id: item_id.clone(), kind: logged.event.kind, at: logged.at() });
        }
    }
    recent
}
