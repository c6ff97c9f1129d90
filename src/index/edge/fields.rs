//! Payloads and conditions in the embedded engine's types.

use qdrant_edge::{
    AnyVariants, Condition as EdgeCondition, FieldCondition, Filter as EdgeFilter, HasIdCondition, IsEmptyCondition, JsonPath, Match, MatchAny,
    PayloadSchemaType, PointId, Range as EdgeRange, ValueVariants, external::ordered_float::OrderedFloat,
};

use crate::{
    domain::Filter,
    index::payload::{self, Condition, Kind},
};

pub(super) fn schema(kind: Kind) -> PayloadSchemaType {
    match kind {
        Kind::Keyword => PayloadSchemaType::Keyword,
        Kind::Float => PayloadSchemaType::Float,
        Kind::Bool => PayloadSchemaType::Bool,
    }
}

/// A payload key as the engine's calls take it.
pub(super) fn path(name: String) -> JsonPath {
    JsonPath { first_key: name, rest: Vec::new() }
}

/// The engine's filter that holds for the same items as [`Filter::matches`].
pub(super) fn filter(filter: &Filter) -> EdgeFilter {
    match condition(payload::condition(filter)) {
        EdgeCondition::Filter(filter) => filter,
        condition => EdgeFilter { must: Some(vec![condition]), ..EdgeFilter::default() },
    }
}

fn condition(wanted: Condition) -> EdgeCondition {
    let conditions = |wanted: Vec<Condition>| Some(wanted.into_iter().map(condition).collect());
    let group = EdgeFilter::default();
    match wanted {
        Condition::Everything => EdgeCondition::Filter(group),
        Condition::Nothing => EdgeCondition::HasId(HasIdCondition::from_iter(std::iter::empty::<PointId>())),
        Condition::All(wanted) => EdgeCondition::Filter(EdgeFilter { must: conditions(wanted), ..group }),
        Condition::Any(wanted) => EdgeCondition::Filter(EdgeFilter { should: conditions(wanted), ..group }),
        Condition::NoneOf(wanted) => EdgeCondition::Filter(EdgeFilter { must_not: conditions(wanted), ..group }),
        Condition::Texts(key, texts) => matches(key, Match::Any(MatchAny { any: AnyVariants::Strings(texts.into_iter().collect()) })),
        Condition::Flag(key, flag) => matches(key, Match::new_value(ValueVariants::Bool(flag))),
        Condition::Range(key, bounds) => {
            let bound = |bound: Option<f64>| bound.map(OrderedFloat);
            let bounds = EdgeRange { gt: bound(bounds.gt), gte: bound(bounds.gte), lt: bound(bounds.lt), lte: bound(bounds.lte) };
            EdgeCondition::Field(FieldCondition::new_range(path(key), bounds))
        }
        Condition::Absent(key) => EdgeCondition::IsEmpty(IsEmptyCondition::from(path(key))),
    }
}

fn matches(key: String, wanted: Match) -> EdgeCondition {
    EdgeCondition::Field(FieldCondition::new_match(path(key), wanted))
}
