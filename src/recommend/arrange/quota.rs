//! How many of what one list shows: the at-most rules and the policy's quota of each category.

use rustc_hash::FxHashMap;

use crate::domain::{Filter, ItemFacts, RuleName};

use super::Ruling;
use crate::recommend::request::Arranged;

/// What a list may still take.
#[derive(Debug, Default)]
pub(in crate::recommend) struct Quotas<'a> {
    rules: Vec<RuleQuota<'a>>,
    /// Of each category; 0 is no bound.
    per_category: usize,
    /// The category that was asked for, which does not count.
    asked: Option<&'a str>,
    taken: FxHashMap<String, usize>,
}

#[derive(Debug)]
struct RuleQuota<'a> {
    filter: &'a Filter,
    name: &'a RuleName,
    left: usize,
}

impl<'a> Quotas<'a> {
    pub(in crate::recommend) fn new(ruling: &'a Ruling, per_category: usize, asked: Option<&'a str>) -> Self {
        let rules = ruling.at_most().map(|(filter, n, name)| RuleQuota { filter, name, left: n }).collect();
        Self { rules, per_category, asked, taken: FxHashMap::default() }
    }

    /// Why the item must not be taken; `None` when it may.
    pub(super) fn refusal(&self, facts: &ItemFacts) -> Option<Arranged> {
        let full = |category: &&str| self.taken.get(*category).is_some_and(|taken| *taken >= self.per_category);
        self.refusal_by_rule(facts).or_else(|| self.counted(facts).find(full).map(|_| Arranged::Quota))
    }

    /// The same by rules alone: a pin is more than a policy.
    pub(super) fn refusal_by_rule(&self, facts: &ItemFacts) -> Option<Arranged> {
        self.rules.iter().find(|rule| rule.left == 0 && rule.filter.matches(facts)).map(|rule| Arranged::Rule(rule.name.clone()))
    }

    /// Counts an item of the list.
    pub(super) fn take(&mut self, facts: &ItemFacts) {
        self.rules.iter_mut().filter(|rule| rule.filter.matches(facts)).for_each(|rule| rule.left = rule.left.saturating_sub(1));
        let categories: Vec<String> = self.counted(facts).map(str::to_owned).collect();
        for category in categories {
            *self.taken.entry(category).or_default() += 1;
        }
    }

    /// Takes back [`Self::take`].
    pub(super) fn give_back(&mut self, facts: &ItemFacts) {
        self.rules.iter_mut().filter(|rule| rule.filter.matches(facts)).for_each(|rule| rule.left += 1);
        let categories: Vec<String> = self.counted(facts).map(str::to_owned).collect();
        for category in categories {
            self.taken.entry(category).and_modify(|taken| *taken = taken.saturating_sub(1));
        }
    }

    /// The categories of an item that count.
    fn counted<'f>(&self, facts: &'f ItemFacts) -> impl Iterator<Item = &'f str> {
        let (counts, asked) = (self.per_category > 0, self.asked);
        facts.categories.iter().map(String::as_str).filter(move |category| counts && asked != Some(*category))
    }
}
