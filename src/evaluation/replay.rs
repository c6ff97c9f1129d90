//! What is replayed: a catalogue, the events that are learned from, and the steps that follow, each a question, an event, or both.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use crate::domain::{Event, Exposure, Item, ItemId, SessionId, Timestamp, UserId};
use clap::ValueEnum;

/// What is asked of a data folder, or of a shop's own log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Task {
    /// Once for each user; what they liked afterwards is relevant.
    History,
    /// Event by event: ask, compare with the next item, feed it.
    Sequence,
    /// As a sequence, but 15 % of the items have no events at all, and only those are asked for.
    Cold,
    /// Words alone, after learning from other words and what they led to.
    Keyword,
    /// Words of a user with a history.
    UserKeyword,
    /// Words alone, nothing learned.
    Text,
    /// The shop's own log: event by event, first meetings of a user and an item.
    #[value(skip)]
    Log,
}

impl Task {
    /// As a command line and a report name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::History => "history",
            Self::Sequence => "sequence",
            Self::Cold => "cold",
            Self::Keyword => "keyword",
            Self::UserKeyword => "user-keyword",
            Self::Text => "text",
            Self::Log => "log",
        }
    }
}

/// Where time is cut: what comes before is learned from, what comes after is asked for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Split {
    /// This share of the days that have events, the oldest ones, is learned from.
    Days(f64),
    /// What happened before.
    At(Timestamp),
}

impl Default for Split {
    /// The older four fifths of the days are learned from.
    fn default() -> Self {
        Self::Days(0.8)
    }
}

/// Everything that a replay needs.
#[derive(Debug, Clone)]
pub struct Replay {
    /// What a report calls the data.
    pub name: String,
    /// What is asked.
    pub task: Task,
    /// Where time was cut, in words.
    pub split: String,
    /// The catalogue.
    pub items: Vec<Item>,
    /// Learned from, in the order in which they are fed.
    pub events: Vec<Event>,
    /// Lists that were shown before the cut.
    pub exposures: Vec<Exposure>,
    /// In order.
    pub steps: Vec<Step>,
    /// What a reader of the report has to know of how the questions came about.
    pub notes: Vec<String>,
}

/// First the question, then the event.
#[derive(Debug, Clone, Default)]
pub struct Step {
    /// What is asked.
    pub question: Option<Question>,
    /// What is fed afterwards.
    pub event: Option<Event>,
}

/// One request and what would have been right.
#[derive(Debug, Clone)]
pub struct Question {
    /// Whose question it is, for intervals: values of one unit hang together. Appears in no report.
    pub unit: String,
    /// Whose history counts.
    pub user_id: Option<UserId>,
    /// The visit.
    pub session_id: Option<SessionId>,
    /// The words.
    pub text: Option<String>,
    /// In the grammar of `/recommend`.
    pub filter: Option<Json>,
    /// Never these.
    pub exclude_items: Vec<ItemId>,
    /// Whether seen items are left out; the preset decides where it is absent.
    pub exclude_seen: Option<bool>,
    /// The place in the shop.
    pub scenario: String,
    /// When it is asked.
    pub now: Timestamp,
    /// Gains of the relevant items.
    pub relevant: HashMap<ItemId, f64>,
    /// Events of the user before the question; `None` where nobody is known.
    pub history: Option<usize>,
}

impl Question {
    /// Somebody's question at a time, with nothing relevant yet.
    pub(super) fn of(unit: String, now: Timestamp) -> Self {
        Self {
            unit,
            user_id: None,
            session_id: None,
            text: None,
            filter: None,
            exclude_items: Vec::new(),
            exclude_seen: None,
            scenario: "default".to_owned(),
            now,
            relevant: HashMap::new(),
            history: None,
        }
    }
}

impl Replay {
    /// How many questions there are.
    pub fn questions(&self) -> usize {
        self.steps.iter().filter(|step| step.question.is_some()).count()
    }
}

impl Split {
    /// The first moment that is asked for. `times`: of all events, any order. `None` where there are none, or all lie on one side.
    pub(super) fn cut(self, times: &[Timestamp]) -> Option<Timestamp> {
        let cut = match self {
            Self::At(at) => at,
            Self::Days(share) => {
                let day = |at: &Timestamp| at.millis().div_euclid(crate::domain::DAY_MS);
                let mut days: Vec<i64> = times.iter().map(day).collect();
                days.sort_unstable();
                days.dedup();
                let first = ((days.len() as f64 * share) as usize).max(1);
                Timestamp::from_millis(days.get(first)? * crate::domain::DAY_MS).ok()?
            }
        };
        (times.iter().any(|at| *at < cut) && times.iter().any(|at| *at >= cut)).then_some(cut)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::DAY_MS;

    fn day(n: i64) -> Timestamp {
        Timestamp::from_millis(n * DAY_MS + 5).unwrap()
    }

    #[test]
    fn the_last_fifth_of_the_days_with_events_is_asked_for() {
        let times: Vec<Timestamp> = [1, 1, 1, 2, 3, 40, 50].map(day).to_vec();

        assert_eq!(Split::default().cut(&times), Some(Timestamp::from_millis(50 * DAY_MS).unwrap()));
        assert_eq!(Split::Days(0.5).cut(&times), Some(Timestamp::from_millis(3 * DAY_MS).unwrap()));
        assert_eq!(Split::At(day(2)).cut(&times), Some(day(2)));
    }

    #[test]
    fn without_events_on_both_sides_there_is_no_cut() {
        assert_eq!(Split::default().cut(&[]), None);
        assert_eq!(Split::default().cut(&[day(1), day(1)]), None);
        assert_eq!(Split::At(day(9)).cut(&[day(1), day(2)]), None);
        assert_eq!(Split::At(day(1)).cut(&[day(1), day(2)]), None);
    }
}
