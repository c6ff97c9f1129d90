//! What an event says: event type and value in, a signed weight out, by preset (API.md's feedback table).
//!
//! Weights are relative: 1 is a clear yes (a purchase, five stars), 0 says nothing, -1 is a clear no.

use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

use crate::domain::{Event, EventType, ItemId, Timestamp};

/// What kind of site it is; decides what counts as seen and how much an event says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names say it")]
pub enum Preset {
    Shop,
    News,
    Video,
    Music,
    Support,
}

/// `[features]`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeatureSettings {
    /// What kind of site it is.
    pub preset: Preset,
    /// Events of one user that are read, newest first.
    pub history_events: usize,
    /// Memory for histories.
    pub history_cache_mb: usize,
    /// Days after which a good event counts half for what is popular.
    pub popularity_half_life_days: f32,
    /// Days after which an item is half as fresh.
    pub freshness_half_life_days: f32,
}

impl Preset {
    /// Whether the event makes its item a seen one.
    pub fn seen(self, kind: EventType) -> bool {
        match kind {
            EventType::Rating | EventType::Review | EventType::Purchase | EventType::Hide | EventType::Solved | EventType::Unsolved => true,
            EventType::Impression | EventType::Search => false,
            EventType::View
            | EventType::Click
            | EventType::Dwell
            | EventType::Watch
            | EventType::Like
            | EventType::Dislike
            | EventType::AddToCart
            | EventType::RemoveFromCart
            | EventType::Share => matches!(self, Self::News | Self::Video | Self::Music),
        }
    }

    /// Whether `/recommend` leaves out seen items when the request does not say.
    pub fn excludes_seen(self) -> bool {
        // People listen again and ask the same question again.
        !matches!(self, Self::Music | Self::Support)
    }
}

/// An event's facts as histories keep them: the item, what happened, how much, when. No texts, no user.
#[derive(Debug, Clone, PartialEq)]
pub struct Act {
    /// The store's running number.
    pub sequence: i64,
    /// What happened.
    pub kind: EventType,
    /// To which item.
    pub item: ItemId,
    /// How much, by type.
    pub value: Option<f64>,
    /// When.
    pub at: Timestamp,
}

impl Act {
    /// The part of an event that histories need; `None` for an event without item.
    pub fn of(sequence: i64, event: &Event) -> Option<Self> {
        let (item, at) = (event.item_id.clone()?, event.timestamp?);
        Some(Self { sequence, kind: event.kind, item, value: event.value, at })
    }
}

/// How much one act says by itself; `mean_stars` is the user's own mean rating.
fn weight(act: &Act, mean_stars: f64) -> f64 {
    let value = act.value.unwrap_or(1.0);
    match act.kind {
        EventType::Impression | EventType::Search => 0.0,
        EventType::View => 0.2,
        EventType::Click => 0.4,
        // Under 5 s: a wrong click. A minute and more: read.
        EventType::Dwell if value < 5.0 => -0.1,
        EventType::Dwell => 0.6 * (value / 60.0).min(1.0),
        EventType::Watch if value < 0.1 => -0.2,
        EventType::Watch => value,
        EventType::Like | EventType::Share => 0.8,
        EventType::Dislike | EventType::Hide => -1.0,
        EventType::Rating | EventType::Review if act.value.is_some() => stars(value, mean_stars),
        // A review without stars: somebody cared enough to write. What the text says comes with the text model.
        EventType::Rating | EventType::Review => 0.2,
        EventType::AddToCart => 0.6 * value.clamp(0.0, 2.0).max(0.5),
        EventType::RemoveFromCart => -0.6,
        EventType::Purchase | EventType::Solved => 1.0,
        EventType::Unsolved => -0.8,
    }
}

/// Stars as a weight: from 3.5, or above the user's own mean, a yes that grows to 1 at five stars; below a no.
fn stars(value: f64, mean_stars: f64) -> f64 {
    let liked_from = mean_stars.clamp(3.0, 3.5);
    if value >= liked_from { 0.5 + 0.5 * (value - liked_from) / (5.0 - liked_from) } else { -(liked_from - value) / liked_from }
}

/// What all acts of one user say of one item.
#[derive(Debug, Clone, PartialEq)]
pub struct Opinion {
    /// Signed; more than 1 when it was said repeatedly, at most 2.
    pub weight: f32,
    /// When the newest act that counts happened.
    pub at: Timestamp,
    /// Whether the item counts as seen.
    pub seen: bool,
}

/// Reads one user's acts (any order) as one opinion an item: repeated acts add up, or the last one counts (API.md).
/// A user's mean is over the ratings among `acts`.
pub fn opinions(acts: &[Act], preset: Preset) -> FxHashMap<ItemId, Opinion> {
    let rated = |act: &&Act| matches!(act.kind, EventType::Rating | EventType::Review) && act.value.is_some();
    let (sum, count) = acts.iter().filter(rated).filter_map(|act| act.value).fold((0.0, 0u32), |(sum, n), value| (sum + value, n + 1));
    let mean_stars = if count == 0 { 3.25 } else { sum / f64::from(count) };

    let mut newest: FxHashMap<(&ItemId, Verdict), &Act> = FxHashMap::default();
    let mut opinions: FxHashMap<ItemId, Opinion> = FxHashMap::default();
    let mut say = |act: &Act| {
        let said = weight(act, mean_stars) as f32;
        let seen = preset.seen(act.kind);
        let opinion = opinions.entry(act.item.clone()).or_insert(Opinion { weight: 0.0, at: act.at, seen: false });
        opinion.weight = (opinion.weight + said).clamp(-2.0, 2.0);
        opinion.at = opinion.at.max(act.at);
        opinion.seen |= seen;
    };
    for act in acts {
        match Verdict::of(act.kind) {
            None => say(act),
            Some(verdict) => {
                let last = newest.entry((&act.item, verdict)).or_insert(act);
                if (act.at, act.sequence) > (last.at, last.sequence) {
                    *last = act;
                }
            }
        }
    }
    let mut last: Vec<&Act> = newest.into_values().collect();
    last.sort_by_key(|act| act.sequence); // sums of floats must not depend on a map's order
    last.into_iter().for_each(say);
    opinions
}

/// Acts that revise each other: a dislike takes back a like, new stars replace old ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Verdict {
    Liking,
    Stars,
    Hiding,
    Solving,
}

impl Verdict {
    fn of(kind: EventType) -> Option<Self> {
        match kind {
            EventType::Like | EventType::Dislike => Some(Self::Liking),
            EventType::Rating | EventType::Review => Some(Self::Stars),
            EventType::Hide => Some(Self::Hiding),
            EventType::Solved | EventType::Unsolved => Some(Self::Solving),
            _ => None,
        }
    }
}

/// How much an act adds to its item's popularity: its good part.
pub(super) fn popularity_weight(act: &Act) -> f64 {
    weight(act, 3.25).max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn act(sequence: i64, kind: EventType, item: &str, value: Option<f64>) -> Act {
        Act { sequence, kind, item: ItemId::new(item).unwrap(), value, at: Timestamp::from_millis(sequence).unwrap() }
    }

    fn weight_of(acts: &[Act]) -> f32 {
        opinions(acts, Preset::Shop)[&ItemId::new("a").unwrap()].weight
    }

    #[test]
    fn stars_count_around_the_users_own_mean() {
        assert!(weight_of(&[act(1, EventType::Rating, "a", Some(3.5))]) > 0.0);
        assert!(weight_of(&[act(1, EventType::Rating, "a", Some(3.0)), act(2, EventType::Rating, "b", Some(5.0))]) < 0.0);
        let grumbler = [act(1, EventType::Rating, "a", Some(3.0)), act(2, EventType::Rating, "b", Some(1.0)), act(3, EventType::Rating, "c", Some(1.0))];
        assert!(weight_of(&grumbler) > 0.0);
        assert!(weight_of(&[act(1, EventType::Rating, "a", Some(0.5))]) < -0.8);
    }

    #[test]
    fn of_ratings_likes_and_hides_the_last_one_counts_and_clicks_add_up() {
        let like = act(1, EventType::Like, "a", None);
        let dislike = act(2, EventType::Dislike, "a", None);
        assert!(weight_of(&[like.clone(), dislike.clone()]) < 0.0);
        assert!(weight_of(&[dislike, Act { sequence: 3, at: Timestamp::from_millis(3).unwrap(), ..like }]) > 0.0);

        let clicks = [act(1, EventType::Click, "a", None), act(2, EventType::Click, "a", None)];
        assert!((weight_of(&clicks) - 0.8).abs() < 1e-6);
    }

    #[test]
    fn a_removal_takes_the_cart_back() {
        let acts = [act(1, EventType::AddToCart, "a", None), act(2, EventType::RemoveFromCart, "a", None)];

        assert!(weight_of(&acts).abs() < 1e-6);
    }

    #[test]
    fn what_counts_as_seen_depends_on_the_preset() {
        let click = [act(1, EventType::Click, "a", None)];
        let seen = |preset| opinions(&click, preset)[&ItemId::new("a").unwrap()].seen;

        assert!(!seen(Preset::Shop));
        assert!(seen(Preset::News) && seen(Preset::Video) && seen(Preset::Music));
        assert!(!seen(Preset::Support));
    }
}
