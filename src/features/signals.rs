//! What an event says: event type and value in, a signed weight out, by the rules in force (presets.toml and the settings).
//!
//! Weights are relative: 1 is a clear yes (a purchase, five stars), 0 says nothing, -1 is a clear no.

use rustc_hash::FxHashMap;

use crate::domain::{DAY_MS, Event, EventType, FieldError, ItemId, LoggedAct, Timestamp};

use super::{
    histories::Written,
    rules::{EventRule, FeatureSettings, InvalidRule, Repeated, ValueKind},
};

/// A user who has not rated yet is taken for one with this mean.
const USUAL_STARS: f64 = 3.25;
/// Who searches for something wants it about as much as who clicks on something.
const SEARCHED: f64 = 0.4;
/// Of a text of a user that is remembered with the history.
const WRITTEN_BYTES: usize = 500;
/// What all acts of a user on an item say at most.
const MOST: f64 = 2.0;

/// The rules of a site, ready for use.
#[derive(Debug)]
pub struct Signals {
    rules: Vec<Rule>,
    rows: FxHashMap<EventType, Kind>,
    exclude_seen: bool,
    half_life_ms: f64,
}

/// A configured event type: a row of [`Signals`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Kind(u8);

#[derive(Debug)]
struct Rule {
    name: EventType,
    says: EventRule,
    /// The number of what the type revises; `None` where it adds.
    verdict: Option<u8>,
}

/// An event's facts as histories keep them: the item, what happened, how much, when. No texts, no user.
#[derive(Debug, Clone, PartialEq)]
pub struct Act {
    /// The store's running number.
    pub sequence: i64,
    /// What happened.
    pub kind: Kind,
    /// To which item.
    pub item: ItemId,
    /// How much, by type.
    pub value: Option<f64>,
    /// When.
    pub at: Timestamp,
}

/// What all acts of one user say of one item.
#[derive(Debug, Clone, PartialEq)]
pub struct Opinion {
    /// Signed, decayed relative to the user's newest act; more than 1 when it was said repeatedly, at most 2.
    pub weight: f32,
    /// When the newest act that counts happened.
    pub at: Timestamp,
    /// Whether the item counts as seen.
    pub seen: bool,
    /// Whether the user never wants to see it again.
    pub hidden: bool,
}

impl Opinion {
    fn note(&mut self, says: &EventRule) {
        self.seen |= says.seen;
        self.hidden |= says.hides;
    }
}

impl Signals {
    /// Fails on the first setting that cannot be.
    pub fn new(settings: &FeatureSettings) -> Result<Self, InvalidRule> {
        settings.check()?;
        let mut verdicts: Vec<&str> = Vec::new();
        let mut rules = Vec::new();
        for (name, says) in &settings.events {
            let verdict = (says.repeated == Repeated::Last).then(|| {
                let verdict = says.verdict.as_deref().unwrap_or(name);
                verdicts.iter().position(|known| *known == verdict).unwrap_or_else(|| {
                    verdicts.push(verdict);
                    verdicts.len() - 1
                }) as u8
            });
            let name = EventType::named(name).expect("`check` has read the names");
            rules.push(Rule { name, says: says.clone(), verdict });
        }
        let rows = (0u8..).zip(&rules).map(|(row, rule)| (rule.name, Kind(row))).collect();
        Ok(Self { rules, rows, exclude_seen: settings.exclude_seen, half_life_ms: f64::from(settings.history_half_life_days) * DAY_MS as f64 })
    }

    /// The row of a type; `None` for one that is not configured (any more), whose events say nothing.
    pub fn kind(&self, name: EventType) -> Option<Kind> {
        self.rows.get(&name).copied()
    }

    /// Whether `/recommend` leaves out seen items when the request does not say.
    pub fn excludes_seen(&self) -> bool {
        self.exclude_seen
    }

    /// Everything that is wrong with an event; empty when it may be stored.
    pub fn faults(&self, event: &Event, now: Timestamp) -> Vec<FieldError> {
        match self.kind(event.kind) {
            Some(kind) => event.faults(now, self.rule(kind).says.value_rule()),
            None => vec![FieldError::new("/type", format!("unknown type {:?}", event.kind.name()))],
        }
    }

    /// The part of an event that histories and counters need; `None` for an event without item or of a type that is not configured.
    pub fn act(&self, sequence: i64, event: &Event) -> Option<Act> {
        let (item, at) = (event.item_id.clone()?, event.timestamp?);
        Some(Act { sequence, kind: self.kind(event.kind)?, item, value: event.value, at })
    }

    /// What was logged, as [`Self::act`] reads an event.
    pub fn logged(&self, logged: &LoggedAct) -> Option<Act> {
        Some(Act { sequence: logged.sequence, kind: self.kind(logged.kind)?, item: logged.item.clone(), value: logged.value, at: logged.at })
    }

    /// Whether it reports that a list showed the item.
    pub(super) fn is_impression(&self, kind: Kind) -> bool {
        self.rule(kind).name == EventType::Impression
    }

    /// What an event's words say of the user's liking: those of a search a little, any other's what the event says, where that is a yes.
    pub fn written(&self, sequence: i64, event: &Event) -> Option<Written> {
        let (text, at) = (event.text.as_deref()?, event.timestamp?);
        let says = match self.act(sequence, event) {
            Some(act) => self.said(&act, USUAL_STARS),
            None if event.kind == EventType::Search => SEARCHED,
            None => 0.0,
        };
        let text = &text[..text.floor_char_boundary(WRITTEN_BYTES)];
        (says > 0.0 && !text.trim().is_empty()).then(|| Written { sequence, text: text.into(), weight: says as f32, at })
    }

    /// What is left of what was said `age_ms` before the newest.
    pub fn decayed(&self, weight: f32, age_ms: i64) -> f32 {
        (f64::from(weight) * (-(age_ms as f64) / self.half_life_ms).exp2()) as f32
    }

    fn rule(&self, kind: Kind) -> &Rule {
        &self.rules[usize::from(kind.0)]
    }

    /// How much one act says by itself; `mean_stars` is the user's own mean rating.
    fn said(&self, act: &Act, mean_stars: f64) -> f64 {
        let says = &self.rule(act.kind).says;
        let Some(value) = act.value.filter(|_| says.value != ValueKind::None) else { return says.without_value.unwrap_or(says.weight) };
        match says.skip_below.zip(says.skip_weight) {
            Some((below, skip)) if value < below => return skip,
            _ => {}
        }
        let share = match (says.value, says.full) {
            (ValueKind::Stars, _) => stars(value, mean_stars),
            (ValueKind::Quantity | ValueKind::Money, Some(full)) => (value / full).clamp(0.5, 2.0),
            (_, Some(full)) => (value / full).clamp(0.0, 1.0),
            (_, None) => 1.0,
        };
        says.weight * share
    }

    /// Reads one user's acts (any order) as one opinion an item: repeated acts add up, or the last one counts (API.md), each halved with
    /// every half-life that it is older than the newest of them. A user's mean is over the stars among `acts`.
    ///
    /// A no that counts as the last word (a dislike, a hide, few stars) takes back what was done before it: a film that was watched to the end and
    /// then disliked was not liked.
    pub fn opinions(&self, acts: &[Act]) -> FxHashMap<ItemId, Opinion> {
        // Sums of floats depend on their order, what users did must not: always the same one.
        let mut acts: Vec<&Act> = acts.iter().collect();
        acts.sort_by_key(|act| (act.at, act.sequence));
        let newest_ms = acts.last().map_or(0, |act| act.at.millis());
        let mean_stars = self.mean_stars(&acts);

        let mut said_of: FxHashMap<&ItemId, (f64, Opinion)> = FxHashMap::default();
        let mut last: FxHashMap<(&ItemId, u8), (f64, &EventRule)> = FxHashMap::default();
        for act in acts {
            let Rule { says, verdict, .. } = self.rule(act.kind);
            let said = self.said(act, mean_stars);
            let decayed = said * (-((newest_ms - act.at.millis()) as f64) / self.half_life_ms).exp2();
            let (sum, opinion) = said_of.entry(&act.item).or_insert((0.0, Opinion { weight: 0.0, at: act.at, seen: false, hidden: false }));
            opinion.at = act.at;
            match verdict {
                None => {
                    *sum += decayed;
                    opinion.note(says);
                }
                Some(verdict) => {
                    if said < 0.0 {
                        *sum = sum.min(0.0);
                    }
                    last.insert((&act.item, *verdict), (decayed, says));
                }
            }
        }
        let mut verdicts: Vec<_> = last.into_iter().collect();
        verdicts.sort_unstable_by_key(|(of, _)| *of);
        for ((item, _), (said, says)) in verdicts {
            if let Some((sum, opinion)) = said_of.get_mut(item) {
                *sum += said;
                opinion.note(says);
            }
        }
        let clamped = |(item, (sum, opinion)): (&ItemId, (f64, Opinion))| (item.clone(), Opinion { weight: sum.clamp(-MOST, MOST) as f32, ..opinion });
        said_of.into_iter().map(clamped).collect()
    }

    fn mean_stars(&self, acts: &[&Act]) -> f64 {
        let rated = acts.iter().filter(|act| self.rule(act.kind).says.value == ValueKind::Stars).filter_map(|act| act.value);
        let (sum, count) = rated.fold((0.0, 0u32), |(sum, count), stars| (sum + stars, count + 1));
        if count == 0 { USUAL_STARS } else { sum / f64::from(count) }
    }

    /// How much an act adds to its item's popularity: its good part.
    pub(super) fn popularity_weight(&self, act: &Act) -> f64 {
        self.said(act, USUAL_STARS).max(0.0)
    }
}

/// Stars as a weight: from 3.5, or above the user's own mean, a yes that grows to 1 at five stars; below a no.
fn stars(value: f64, mean_stars: f64) -> f64 {
    let liked_from = mean_stars.clamp(3.0, 3.5);
    if value >= liked_from { 0.5 + 0.5 * (value - liked_from) / (5.0 - liked_from) } else { -(liked_from - value) / liked_from }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::features::Preset;

    fn signals(preset: Preset) -> Signals {
        Signals::new(&FeatureSettings::of(preset)).unwrap()
    }

    /// Without decay, so that the numbers are those of the table.
    fn timeless() -> Signals {
        Signals::new(&FeatureSettings { history_half_life_days: 1e30, ..FeatureSettings::of(Preset::Shop) }).unwrap()
    }

    fn act(signals: &Signals, sequence: i64, kind: EventType, item: &str, value: Option<f64>) -> Act {
        let kind = signals.kind(kind).unwrap();
        Act { sequence, kind, item: ItemId::new(item).unwrap(), value, at: Timestamp::from_millis(sequence * 1_000).unwrap() }
    }

    fn opinion_of_a(signals: &Signals, acts: &[(EventType, &str, Option<f64>)]) -> Opinion {
        let acts: Vec<Act> = (1..).zip(acts).map(|(sequence, (kind, item, value))| act(signals, sequence, *kind, item, *value)).collect();
        signals.opinions(&acts)[&ItemId::new("a").unwrap()].clone()
    }

    fn weight_of_a(acts: &[(EventType, &str, Option<f64>)]) -> f32 {
        opinion_of_a(&timeless(), acts).weight
    }

    fn close(a: f32, b: f32) -> bool {
        (a - b).abs() < 1e-6
    }

    #[test]
    fn one_event_of_each_type_says_what_the_table_says() {
        use EventType::*;
        for (kind, value, weight) in [
            (Impression, None, 0.0),
            (View, None, 0.2),
            (Click, Some(7.0), 0.4),
            (Dwell, Some(4.9), -0.1),
            (Dwell, Some(30.0), 0.3),
            (Dwell, Some(6_000.0), 0.6),
            (Watch, Some(0.05), -0.2),
            (Watch, Some(0.7), 0.7),
            (Like, None, 0.8),
            (Dislike, None, -1.0),
            (Rating, Some(5.0), 1.0),        // his mean: nothing is better than it, so a yes begins at 3.5
            (Rating, Some(0.5), -5.0 / 6.0), // his mean is 0.5: a yes begins at 3, and (3 - 0.5) / 3 is missing
            (Review, None, 0.2),
            (AddToCart, None, 0.6),
            (AddToCart, Some(2.0), 1.2),
            (AddToCart, Some(9.0), 1.2),
            (RemoveFromCart, Some(2.0), -1.2),
            (Purchase, Some(1e6), 1.0),
            (Share, None, 0.8),
            (Hide, None, -1.0),
            (Solved, None, 1.0),
            (Unsolved, None, -0.8),
        ] {
            let found = weight_of_a(&[(kind, "a", value)]);
            assert!(close(found, weight), "{kind} {value:?}: {found} instead of {weight}");
        }
    }

    #[test]
    fn stars_count_around_the_users_own_mean() {
        use EventType::Rating;
        assert!(weight_of_a(&[(Rating, "a", Some(3.5))]) > 0.0);
        assert!(weight_of_a(&[(Rating, "a", Some(3.0)), (Rating, "b", Some(5.0))]) < 0.0);
        assert!(weight_of_a(&[(Rating, "a", Some(3.0)), (Rating, "b", Some(1.0)), (Rating, "c", Some(1.0))]) > 0.0, "a grumbler's best");
    }

    #[test]
    fn of_ratings_likes_and_hides_the_last_one_counts_and_clicks_add_up_to_a_bound() {
        use EventType::{Click, Dislike, Like, Purchase};
        assert!(close(weight_of_a(&[(Like, "a", None), (Dislike, "a", None)]), -1.0));
        assert!(close(weight_of_a(&[(Dislike, "a", None), (Like, "a", None)]), 0.8));
        assert!(close(weight_of_a(&[(Click, "a", None); 2]), 0.8));
        assert!(close(weight_of_a(&[(Purchase, "a", None); 5]), 2.0));
    }

    #[test]
    fn a_no_that_is_the_last_word_takes_back_what_was_done_before_it_and_not_what_comes_after() {
        use EventType::{Dislike, Purchase, Watch};
        assert!(close(weight_of_a(&[(Watch, "a", Some(1.0)), (Purchase, "a", None), (Dislike, "a", None)]), -1.0));
        assert!(close(weight_of_a(&[(Dislike, "a", None), (Watch, "a", Some(0.5))]), -0.5));
    }

    #[test]
    fn a_removal_takes_the_cart_back() {
        assert!(close(weight_of_a(&[(EventType::AddToCart, "a", Some(2.0)), (EventType::RemoveFromCart, "a", Some(2.0))]), 0.0));
    }

    #[test]
    fn what_was_done_a_half_life_before_the_users_newest_event_counts_half_however_old_both_are() {
        let signals = Signals::new(&FeatureSettings { history_half_life_days: 10.0, ..FeatureSettings::of(Preset::Shop) }).unwrap();
        let at = |day: i64, item: &str| Act { at: Timestamp::from_millis(day * DAY_MS).unwrap(), ..act(&signals, day, EventType::Purchase, item, None) };

        let opinions = signals.opinions(&[at(110, "b"), at(100, "a"), at(90, "a"), at(80, "c")]);

        let of = |item: &str| opinions[&ItemId::new(item).unwrap()].weight;
        assert!(close(of("b"), 1.0) && close(of("a"), 0.75) && close(of("c"), 0.125), "{opinions:?}");
    }

    #[test]
    fn what_counts_as_seen_depends_on_the_preset_and_what_is_hidden_does_not() {
        let seen = |preset, kind| opinion_of_a(&signals(preset), &[(kind, "a", None)]).seen;
        for preset in Preset::ALL {
            assert_eq!(seen(preset, EventType::Click), !matches!(preset, Preset::Shop | Preset::Support), "{preset:?}");
            assert!(seen(preset, EventType::Purchase) && !seen(preset, EventType::Impression));
            assert!(opinion_of_a(&signals(preset), &[(EventType::Hide, "a", None), (EventType::Click, "a", None)]).hidden);
        }
    }

    #[test]
    fn own_types_count_as_they_are_configured_and_can_take_back_a_hide() {
        let mut settings = FeatureSettings::of(Preset::Shop);
        settings.events.insert("wishlist".into(), toml::from_str("weight = 0.7\nvalue = \"quantity\"\nfull = 2.0").unwrap());
        settings.events.insert("unhide".into(), toml::from_str("weight = 0.0\nrepeated = \"last\"\nverdict = \"hiding\"").unwrap());
        let signals = Signals::new(&settings).unwrap();
        let own = |name| EventType::named(name).unwrap();

        assert!(close(opinion_of_a(&signals, &[(own("wishlist"), "a", Some(3.0)), (EventType::Click, "a", None)]).weight, 1.45));
        let forgiven = opinion_of_a(&signals, &[(EventType::Hide, "a", None), (own("unhide"), "a", None)]);
        assert!(!forgiven.hidden && close(forgiven.weight, 0.0), "{forgiven:?}");
        assert_eq!(signals.kind(own("wishes")), None);
        let event: Event = serde_json::from_str(r#"{"type": "wishes", "user_id": "u", "item_id": "a"}"#).unwrap();
        assert_eq!(signals.faults(&event, Timestamp::from_millis(0).unwrap())[0].detail, r#"unknown type "wishes""#);
        assert_eq!(signals.act(1, &event), None);
    }

    proptest! {
        #[test]
        fn the_order_in_which_acts_are_known_changes_no_opinion(
            (acts, shuffled) in prop::collection::vec((0..17usize, 0..3u8, 0.5..5.0f64, 0..400i64), 1..40)
                .prop_map(|acts| {
                    let signals = signals(Preset::Video);
                    let act = |(sequence, (kind, item, value, day)): (i64, (usize, u8, f64, i64))| Act {
                        sequence,
                        kind: signals.kind(EventType::ALL[kind]).unwrap(),
                        item: ItemId::new(format!("i{item}")).unwrap(),
                        value: Some(value),
                        at: Timestamp::from_millis(day * DAY_MS).unwrap(),
                    };
                    (0..).zip(acts).map(act).collect::<Vec<_>>()
                })
                .prop_flat_map(|acts| (Just(acts.clone()), Just(acts).prop_shuffle()))
        ) {
            let signals = signals(Preset::Video);
            prop_assert_eq!(signals.opinions(&acts), signals.opinions(&shuffled));
        }

        #[test]
        fn later_news_of_other_items_only_make_an_opinion_smaller(kind in 0..17usize, value in 0.5..5.0f64, days in 1..2_000i64) {
            let signals = signals(Preset::News);
            let first = act(&signals, 1, EventType::ALL[kind], "a", Some(value));
            let news = Act { at: Timestamp::from_millis(days * DAY_MS).unwrap(), ..act(&signals, 2, EventType::Click, "b", None) };

            let of = |acts: &[Act]| signals.opinions(acts)[&first.item].weight;
            let (before, after) = (of(std::slice::from_ref(&first)), of(&[first.clone(), news]));

            prop_assert!(after.abs() <= before.abs() && after * before >= 0.0, "{} {}", before, after);
        }
    }
}
