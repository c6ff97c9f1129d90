//! What an answer may show, decided from the item columns as they are now, never from the index alone.

use std::sync::Arc;

use rustc_hash::FxHashSet;

use crate::{
    domain::{Field, Filter, ItemFacts, ItemKey, Range, Timestamp},
    features::Table,
};

/// The one category that all items must have that satisfy the filter, where it names one.
pub(super) fn category(filter: &Filter) -> Option<&str> {
    match filter {
        Filter::Texts(Field::Categories, names) if names.len() == 1 => names.first().map(String::as_str),
        Filter::All(filters) => filters.iter().find_map(category),
        _ => None,
    }
}

/// The conditions of one request.
#[derive(Debug, Clone, Default)]
pub(super) struct Eligible {
    pub(super) filter: Option<Filter>,
    pub(super) excluded: FxHashSet<ItemKey>,
    /// What rules exclude.
    pub(super) barred: Vec<Arc<Filter>>,
    /// What blocklist rules keep out.
    pub(super) blocked: Vec<Arc<FxHashSet<ItemKey>>>,
}

impl Eligible {
    /// The item's facts, if it may be shown at `now`.
    pub(super) fn admit<'a>(&self, table: &'a Table, key: ItemKey, now: Timestamp) -> Option<&'a Arc<ItemFacts>> {
        let facts = table.facts(key)?;
        let admitted = facts.recommendable(now) && !self.excluded.contains(&key) && self.filter.as_ref().is_none_or(|filter| filter.matches(facts));
        let ruled_out = || self.blocked.iter().any(|keys| keys.contains(&key)) || self.barred.iter().any(|filter| filter.matches(facts));
        (admitted && !ruled_out()).then_some(facts)
    }

    /// The one category that all items must have, where the filter names one.
    pub(super) fn category(&self) -> Option<&str> {
        self.filter.as_ref().and_then(category)
    }

    /// What the index is asked to leave out by itself. Availability is pushed down only where it would crowd out what may be
    /// shown: a condition on every point costs more than a few candidates too many.
    pub(super) fn pushed_down(&self, table: &Table, now: Timestamp) -> Option<Filter> {
        let mut conditions: Vec<Filter> = self.filter.iter().cloned().collect();
        if !self.barred.is_empty() {
            conditions.push(Filter::None(self.barred.iter().map(|filter| Filter::clone(filter)).collect()));
        }
        if 4 * table.perishable() > table.live() {
            conditions.push(Filter::Flags(Field::Available, vec![true]));
            let expired = Range { lte: Some(now.millis() as f64), ..Range::default() };
            conditions.push(Filter::None(vec![Filter::Range(Field::ExpiresAt, expired)]));
        }
        match conditions.len() {
            0 => None,
            1 => conditions.pop(),
            _ => Some(Filter::All(conditions)),
        }
    }
}
