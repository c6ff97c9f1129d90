//! What the last answers of a visit showed and nobody has acted on: exposures and acts in, how often each item was shown out. Bounded, in memory.

use std::{collections::BTreeMap, sync::Arc};

use quick_cache::sync::Cache;

use crate::domain::{Exposure, ItemId, SessionId, Timestamp};

/// Visits that are remembered; with all that is below some 16 MB at most.
const MOST_SESSIONS: usize = 10_000;
/// Answers of a visit.
const MOST_ANSWERS: usize = 5;
/// Items from the top of an answer: few people look further.
const MOST_ITEMS: usize = 20;
/// After which an answer is forgotten.
const MEMORY_MS: i64 = 30 * 60 * 1_000;

/// Who was shown what lately; written by ingest only.
#[derive(Debug)]
pub struct Showings {
    sessions: Cache<SessionId, Arc<Vec<Showing>>>,
}

#[derive(Debug, Clone)]
struct Showing {
    at: Timestamp,
    items: Vec<ItemId>,
}

impl Default for Showings {
    fn default() -> Self {
        Self { sessions: Cache::new(MOST_SESSIONS) }
    }
}

impl Showings {
    /// Remembers what an answer showed, where it was to a visit.
    pub fn show(&self, exposure: &Exposure) {
        let Some(session) = &exposure.session_id else { return };
        let items = exposure.items.iter().take(MOST_ITEMS).map(|shown| shown.item_id.clone()).collect();
        let mut showings = self.sessions.get(session).map_or_else(Vec::new, |known| known.to_vec());
        if showings.len() >= MOST_ANSWERS {
            showings.remove(0);
        }
        showings.push(Showing { at: exposure.at, items });
        self.sessions.insert(session.clone(), Arc::new(showings));
    }

    /// The visit has done something with an item: it is not one that was passed over.
    pub fn act(&self, session: &SessionId, item: &ItemId) {
        let Some(known) = self.sessions.get(session).filter(|known| known.iter().any(|showing| showing.items.contains(item))) else { return };
        let mut showings = known.to_vec();
        showings.iter_mut().for_each(|showing| showing.items.retain(|shown| shown != item));
        self.sessions.insert(session.clone(), Arc::new(showings));
    }

    /// Forgets a visit, because it was erased.
    pub fn forget(&self, session: &SessionId) {
        self.sessions.remove(session);
    }

    /// How often each item was shown in the last answers and passed over; in the order of the items' names.
    pub fn passed_over(&self, session: &SessionId, now: Timestamp) -> BTreeMap<ItemId, u8> {
        let mut times = BTreeMap::new();
        let known = self.sessions.get(session);
        let fresh = known.iter().flat_map(|known| known.iter()).filter(|showing| now.millis() - showing.at.millis() < MEMORY_MS);
        for item in fresh.flat_map(|showing| &showing.items) {
            *times.entry(item.clone()).or_default() += 1;
        }
        times
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{RecommendationId, ShownItem};

    fn session(name: &str) -> SessionId {
        SessionId::new(name).unwrap()
    }

    fn shown(showings: &Showings, name: &str, ms: i64, items: &[&str]) {
        showings.show(&Exposure {
            recommendation_id: RecommendationId::new("r").unwrap(),
            at: Timestamp::from_millis(ms).unwrap(),
            user_id: None,
            session_id: Some(session(name)),
            scenario: "home".into(),
            items: items.iter().map(|item| ShownItem::certain(ItemId::new(item).unwrap(), [0.0; _])).collect(),
        });
    }

    fn passed_over(showings: &Showings, name: &str, ms: i64) -> Vec<(String, u8)> {
        let times = showings.passed_over(&session(name), Timestamp::from_millis(ms).unwrap());
        times.into_iter().map(|(item, times)| (item.to_string(), times)).collect()
    }

    #[test]
    fn what_was_shown_counts_until_it_is_acted_on_or_half_an_hour_old() {
        let showings = Showings::default();
        shown(&showings, "s", 0, &["a", "b"]);
        shown(&showings, "s", 1_000, &["b", "c"]);
        shown(&showings, "other", 1_000, &["d"]);

        assert_eq!(passed_over(&showings, "s", 2_000), [("a".into(), 1), ("b".into(), 2), ("c".into(), 1)]);
        showings.act(&session("s"), &ItemId::new("b").unwrap());
        assert_eq!(passed_over(&showings, "s", MEMORY_MS + 500), [("c".into(), 1)]);
        showings.forget(&session("s"));
        assert_eq!(passed_over(&showings, "s", 2_000), []);
    }

    #[test]
    fn only_the_last_answers_and_their_heads_are_remembered() {
        let showings = Showings::default();
        let long: Vec<String> = (0..200).map(|n| format!("long-{n}")).collect();
        shown(&showings, "s", 0, &["gone"]);
        shown(&showings, "s", 0, &long.iter().map(String::as_str).collect::<Vec<_>>());
        (1..MOST_ANSWERS).for_each(|_| shown(&showings, "s", 0, &["x"]));

        let times = passed_over(&showings, "s", 1);

        assert_eq!(times.len(), MOST_ITEMS + 1);
        assert!(times.contains(&("x".into(), MOST_ANSWERS as u8 - 1)) && !times.iter().any(|(item, _)| item == "gone"));
    }

    #[test]
    fn memory_is_bounded() {
        let showings = Showings::default();
        (0..MOST_SESSIONS + 500).for_each(|n| shown(&showings, &format!("s{n}"), 0, &["a"]));

        assert!(showings.sessions.len() <= MOST_SESSIONS);
    }
}
