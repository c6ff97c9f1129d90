//! The rules that hold for one request. Rules and what was asked in; what they exclude, pin, weigh and bound out.

use std::sync::Arc;

use crate::domain::{Action, Filter, ItemFacts, ItemId, Rule, RuleName, Timestamp, When};

use super::super::{request::Arranged, understand::CategoryProbability};

/// What a text is about at least, where a rule asks for it.
const PROBABLE: f32 = 0.5;

/// What rules look at in a request, before its text is understood.
pub(in crate::recommend) struct Asked<'a> {
    pub(in crate::recommend) scenario: &'a str,
    pub(in crate::recommend) now: Timestamp,
    /// The one category that its filter names.
    pub(in crate::recommend) category: Option<&'a str>,
    /// What the user looks at.
    pub(in crate::recommend) items: &'a [Arc<ItemFacts>],
}

/// The rules for one request, by name.
#[derive(Debug, Clone, Default)]
pub(in crate::recommend) struct Ruling {
    holding: Vec<Arc<Rule>>,
    /// Those that hold too where the text is about their category.
    pending: Vec<Arc<Rule>>,
}

impl Ruling {
    pub(in crate::recommend) fn of(rules: &[Arc<Rule>], asked: &Asked<'_>) -> Self {
        let mut ruling = Self::default();
        for rule in rules.iter().filter(|rule| may_hold(&rule.when, asked)) {
            let settled = rule.when.category.is_none() || rule.when.category.as_deref() == asked.category;
            if settled { ruling.holding.push(Arc::clone(rule)) } else { ruling.pending.push(Arc::clone(rule)) }
        }
        ruling
    }

    /// Decides about the rules that ask what the text is about.
    pub(in crate::recommend) fn settle(&mut self, about: &[CategoryProbability]) {
        if self.pending.is_empty() {
            return;
        }
        let told = |name: &str| about.iter().any(|one| &*one.category == name && one.probability >= PROBABLE);
        self.holding.extend(self.pending.drain(..).filter(|rule| rule.when.category.as_deref().is_some_and(told)));
        self.holding.sort_by(|a, b| a.name.cmp(&b.name));
    }

    /// Filters of what is not shown.
    pub(in crate::recommend) fn excluded(&self) -> Vec<Arc<Filter>> {
        self.actions().filter_map(|(_, action)| if let Action::Exclude(filter) = action { Some(Arc::clone(filter)) } else { None }).collect()
    }

    /// The blocklist rules.
    pub(in crate::recommend) fn blocking(&self) -> impl Iterator<Item = &RuleName> {
        self.actions().filter_map(|(name, action)| matches!(action, Action::Block(_)).then_some(name))
    }

    /// Items with their positions from 1; where two rules want one position, or one item at two, the first rule by name has it.
    pub(in crate::recommend) fn pins(&self) -> Vec<(u32, &ItemId)> {
        let mut pins: Vec<(u32, &ItemId)> = Vec::new();
        for (_, action) in self.actions() {
            let Action::Pin(wanted) = action else { continue };
            for (position, item) in wanted {
                if pins.iter().all(|(taken, pinned)| taken != position && *pinned != item) {
                    pins.push((*position, item));
                }
            }
        }
        pins
    }

    /// What is shown at most so often.
    pub(super) fn at_most(&self) -> impl Iterator<Item = (&Filter, usize, &RuleName)> {
        self.actions().filter_map(|(name, action)| if let Action::AtMost { filter, n } = action { Some((&**filter, *n, name)) } else { None })
    }

    /// Whether there is anything to weigh.
    pub(super) fn weighs(&self) -> bool {
        self.actions().any(|(_, action)| matches!(action, Action::Weigh { .. }))
    }

    /// What is added to an item's score, and the rule that adds or takes most.
    pub(super) fn weight(&self, facts: &ItemFacts) -> (f32, Option<(f32, Arranged)>) {
        let (mut sum, mut most): (f32, Option<(f32, &RuleName)>) = (0.0, None);
        for (name, action) in self.actions() {
            let Action::Weigh { filter, by } = action else { continue };
            if !filter.matches(facts) {
                continue;
            }
            sum += by;
            if most.is_none_or(|(strongest, _)| by.abs() > strongest) {
                most = Some((by.abs(), name));
            }
        }
        (sum, most.map(|(strongest, name)| (strongest, Arranged::Rule(name.clone()))))
    }

    fn actions(&self) -> impl Iterator<Item = (&RuleName, &Action)> {
        self.holding.iter().map(|rule| (&rule.name, &rule.action))
    }
}

/// Whether nothing but the category can speak against it.
fn may_hold(when: &When, asked: &Asked<'_>) -> bool {
    when.scenario.as_deref().is_none_or(|scenario| scenario == asked.scenario)
        && when.from.is_none_or(|from| from <= asked.now)
        && when.until.is_none_or(|until| asked.now < until)
        && when.looking_at.as_ref().is_none_or(|filter| asked.items.iter().any(|item| filter.matches(item)))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value as Json, json};

    use super::*;
    use crate::domain::{Item, RuleDocument};

    fn rule(name: &str, when: &Json) -> Arc<Rule> {
        let document: RuleDocument = serde_json::from_value(json!({"name": name, "when": when, "pin": {"a": 1, name: 2}})).unwrap();
        Arc::new(document.check(&|_| None).unwrap())
    }

    fn names(ruling: &Ruling) -> Vec<&str> {
        ruling.holding.iter().map(|rule| rule.name.as_str()).collect()
    }

    #[test]
    fn a_rule_holds_where_all_that_it_asks_for_does() {
        let item: Item = serde_json::from_value(json!({"item_id": "i", "title": "i", "tags": ["new"]})).unwrap();
        let items = [Arc::new(ItemFacts::from(&item))];
        let asked = Asked { scenario: "home", now: Timestamp::from_millis(50).unwrap(), category: Some("ink"), items: &items };
        let about = [CategoryProbability { category: "tents".into(), probability: 0.6 }, CategoryProbability { category: "boots".into(), probability: 0.4 }];
        for (when, holds) in [
            (json!({}), true),
            (json!({"scenario": "home", "from": 50, "until": 51}), true),
            (json!({"scenario": "cart"}), false),
            (json!({"from": 51}), false),
            (json!({"until": 50}), false),
            (json!({"category": "ink"}), true),
            (json!({"category": "tents"}), true),
            (json!({"category": "boots"}), false),
            (json!({"filter": {"tags": "new"}}), true),
            (json!({"filter": {"tags": "old"}}), false),
            (json!({"category": "tents", "scenario": "cart"}), false),
        ] {
            let mut ruling = Ruling::of(&[rule("r", &when)], &asked);
            ruling.settle(&about);
            assert_eq!(!names(&ruling).is_empty(), holds, "{when}");
        }
    }

    #[test]
    fn rules_keep_the_order_of_their_names_and_the_first_gets_the_position() {
        let asked = Asked { scenario: "home", now: Timestamp::from_millis(50).unwrap(), category: None, items: &[] };
        let mut ruling = Ruling::of(&[rule("a1", &json!({"category": "ink"})), rule("b2", &json!({}))], &asked);
        assert_eq!(names(&ruling), ["b2"]);

        ruling.settle(&[CategoryProbability { category: "ink".into(), probability: 0.9 }]);

        assert_eq!(names(&ruling), ["a1", "b2"]);
        let pins: Vec<_> = ruling.pins().into_iter().map(|(position, item)| (position, item.as_str())).collect();
        assert_eq!(pins, [(1, "a"), (2, "a1")]);
    }
}
