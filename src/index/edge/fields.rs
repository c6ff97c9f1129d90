//! Facts to payload, and [`Filter`] to the engine's filter: both sides of one naming.
//!
//! A field is one top-level payload key. The shop's own names may hold dots, brackets, quotes and any script, which mean something in the
//! engine's JSON paths, so they are written in hexadecimal. Numbers and times (milliseconds) are floats: one type, one kind of range.

use qdrant_edge::{
    AnyVariants, Condition, FieldCondition, Filter as EdgeFilter, HasIdCondition, IsEmptyCondition, JsonPath, Match, MatchAny, Payload, PayloadSchemaType,
    PointId, Range as EdgeRange, ValueVariants,
    external::{
        ordered_float::OrderedFloat,
        serde_json::{Map, Value},
    },
};

use crate::domain::{AttributeType, AttributeValue, Field, Filter, ItemFacts, Range};

/// The fields that every collection has an index for.
pub(super) fn fixed() -> Vec<(String, PayloadSchemaType)> {
    use PayloadSchemaType::{Bool, Float, Keyword};
    [
        (Field::Categories, Keyword),
        (Field::Tags, Keyword),
        (Field::Language, Keyword),
        (Field::Price, Float),
        (Field::Available, Bool),
        (Field::CreatedAt, Float),
        (Field::ExpiresAt, Float),
        (Field::ItemId, Keyword),
    ]
    .map(|(field, schema)| (name(&field), schema))
    .to_vec()
}

/// The index that an attribute's values want.
pub(super) fn attributes(facts: &ItemFacts) -> impl Iterator<Item = (String, PayloadSchemaType)> {
    facts.attributes.iter().map(|(attribute, value)| {
        let schema = match value.kind() {
            AttributeType::Flag => PayloadSchemaType::Bool,
            AttributeType::Number => PayloadSchemaType::Float,
            AttributeType::Text => PayloadSchemaType::Keyword,
        };
        (name(&Field::Attribute(attribute.clone())), schema)
    })
}

/// A payload key as the engine's calls take it.
pub(super) fn path(name: String) -> JsonPath {
    JsonPath { first_key: name, rest: Vec::new() }
}

fn name(field: &Field) -> String {
    match field {
        Field::Attribute(attribute) => format!("attribute_{}", hex::encode(attribute)),
        field => field.name(),
    }
}

pub(super) fn payload(facts: &ItemFacts) -> Payload {
    let mut map = Map::new();
    let mut put = |field: Field, value: Value| map.insert(name(&field), value);
    let texts = |texts: &[String]| Value::from(texts.to_vec());
    if !facts.categories.is_empty() {
        put(Field::Categories, texts(&facts.categories));
    }
    if !facts.tags.is_empty() {
        put(Field::Tags, texts(&facts.tags));
    }
    if let Some(language) = &facts.language {
        put(Field::Language, language.clone().into());
    }
    for (field, at) in [(Field::CreatedAt, facts.created_at), (Field::ExpiresAt, facts.expires_at)] {
        if let Some(at) = at {
            put(field, number(at.millis() as f64)); // within 2^53, so exact
        }
    }
    if let Some(price) = facts.price {
        put(Field::Price, number(price));
    }
    put(Field::Available, facts.available.into());
    put(Field::ItemId, facts.item_id.as_str().into());
    for (attribute, value) in &facts.attributes {
        let value = match value {
            AttributeValue::Flag(flag) => (*flag).into(),
            AttributeValue::Number(value) => number(*value),
            AttributeValue::Text(text) => text.clone().into(),
            AttributeValue::Texts(list) => texts(list),
        };
        put(Field::Attribute(attribute.clone()), value);
    }
    Payload(map)
}

/// Minus zero equals zero in a filter, but not in the engine's order of floats.
fn number(value: f64) -> Value {
    Value::from(value + 0.0)
}

/// The engine's filter that holds for the same items as [`Filter::matches`].
pub(super) fn filter(filter: &Filter) -> EdgeFilter {
    match condition(filter) {
        Condition::Filter(filter) => filter,
        condition => EdgeFilter { must: Some(vec![condition]), ..EdgeFilter::default() },
    }
}

fn condition(filter: &Filter) -> Condition {
    let conditions = |filters: &[Filter]| filters.iter().map(condition).collect();
    match filter {
        // An empty clause would mean different things in different parts of the engine, so none is ever written.
        Filter::All(filters) if filters.is_empty() => all(),
        Filter::None(filters) if filters.is_empty() => all(),
        Filter::Any(filters) if filters.is_empty() => nothing(),
        Filter::All(filters) => Condition::Filter(EdgeFilter { must: Some(conditions(filters)), ..EdgeFilter::default() }),
        Filter::Any(filters) => any(conditions(filters)),
        Filter::None(filters) => Condition::Filter(EdgeFilter { must_not: Some(conditions(filters)), ..EdgeFilter::default() }),
        Filter::Texts(_, texts) if texts.is_empty() => nothing(),
        Filter::Texts(field, texts) => matches(field, Match::Any(MatchAny { any: AnyVariants::Strings(texts.iter().cloned().collect()) })),
        Filter::Numbers(field, numbers) => {
            any(numbers.iter().map(|value| range(field, Range { gte: Some(*value), lte: Some(*value), ..Range::default() })).collect())
        }
        Filter::Flags(field, flags) => any(flags.iter().map(|flag| matches(field, Match::new_value(ValueVariants::Bool(*flag)))).collect()),
        Filter::Range(field, bounds) => range(field, *bounds),
        Filter::Absent(field) => Condition::IsEmpty(IsEmptyCondition::from(path(name(field)))),
    }
}

fn all() -> Condition {
    Condition::Filter(EdgeFilter::default())
}

fn nothing() -> Condition {
    Condition::HasId(HasIdCondition::from_iter(std::iter::empty::<PointId>()))
}

fn any(conditions: Vec<Condition>) -> Condition {
    if conditions.is_empty() { nothing() } else { Condition::Filter(EdgeFilter { should: Some(conditions), ..EdgeFilter::default() }) }
}

fn matches(field: &Field, wanted: Match) -> Condition {
    Condition::Field(FieldCondition::new_match(path(name(field)), wanted))
}

/// At most one bound a side: of `gt` and `gte` together the engine heeds only one.
fn range(field: &Field, bounds: Range) -> Condition {
    let Range { gt, gte, lt, lte } = bounds;
    let (gt, gte) = if gt.zip(gte).is_some_and(|(gt, gte)| gt < gte) { (None, gte) } else { (gt, gte.filter(|_| gt.is_none())) };
    let (lt, lte) = if lt.zip(lte).is_some_and(|(lt, lte)| lt > lte) { (None, lte) } else { (lt, lte.filter(|_| lt.is_none())) };
    let (above, below) = (gt.or(gte), lt.or(lte));
    let strict = gt.is_some() || lt.is_some();
    if above.zip(below).is_some_and(|(above, below)| above > below || (strict && above >= below)) {
        return nothing(); // the engine's estimate for bounds the wrong way round is nonsense (it fails a debug assertion)
    }
    let bound = |bound: Option<f64>| bound.map(|bound| OrderedFloat(bound + 0.0));
    let bounds = EdgeRange { gt: bound(gt), gte: bound(gte), lt: bound(lt), lte: bound(lte) };
    Condition::Field(FieldCondition::new_range(path(name(field)), bounds))
}
