//! Facts to payload, and [`Filter`] to conditions on it: both sides of one naming, in terms that both engines have.
//!
//! A field is one top-level payload key. The shop's own names may hold dots, brackets, quotes and any script, which mean something in the
//! engines' JSON paths, so they are written in hexadecimal. Numbers and times (milliseconds) are floats: one type, one kind of range.

use serde_json::{Map, Value};

use crate::domain::{AttributeType, AttributeValue, Field, Filter, ItemFacts, Range};

/// The index that a key's values want.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Keyword,
    Float,
    Bool,
}

/// Attribute names beyond these are filtered by reading payloads: right, but slower. A feed with generated names must not open files without end.
pub(super) const MAX_ATTRIBUTE_INDEXES: usize = 256;

/// The keys that every collection has an index for.
pub(super) fn fixed() -> Vec<(String, Kind)> {
    use Kind::{Bool, Float, Keyword};
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
    .map(|(field, kind)| (name(&field), kind))
    .to_vec()
}

/// The indexes that the item's attributes want.
pub(super) fn attributes(facts: &ItemFacts) -> impl Iterator<Item = (String, Kind)> {
    facts.attributes.iter().map(|(attribute, value)| {
        let kind = match value.kind() {
            AttributeType::Flag => Kind::Bool,
            AttributeType::Number => Kind::Float,
            AttributeType::Text => Kind::Keyword,
        };
        (name(&Field::Attribute(attribute.clone())), kind)
    })
}

fn name(field: &Field) -> String {
    match field {
        Field::Attribute(attribute) => format!("attribute_{}", hex::encode(attribute)),
        field => field.name(),
    }
}

pub(super) fn payload(facts: &ItemFacts) -> Map<String, Value> {
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
    map
}

/// Minus zero equals zero in a filter, but not in the engines' order of floats.
fn number(value: f64) -> Value {
    Value::from(value + 0.0)
}

/// What an engine is asked. An empty group means different things in different parts of the engines, so none is ever written.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Condition {
    /// Holds always.
    Everything,
    /// Holds never.
    Nothing,
    /// All hold; not empty.
    All(Vec<Condition>),
    /// One holds; not empty.
    Any(Vec<Condition>),
    /// None holds; not empty.
    NoneOf(Vec<Condition>),
    /// The key has one of the texts; not empty.
    Texts(String, Vec<String>),
    /// The key has the flag.
    Flag(String, bool),
    /// The key's number lies within the bounds: at most one a side, the lower one below the upper one.
    Range(String, Range),
    /// The key is absent, or an empty list.
    Absent(String),
}

/// The condition that holds for the same items as [`Filter::matches`].
pub(super) fn condition(filter: &Filter) -> Condition {
    let conditions = |filters: &[Filter]| filters.iter().map(condition).collect();
    match filter {
        Filter::All(filters) if filters.is_empty() => Condition::Everything,
        Filter::None(filters) if filters.is_empty() => Condition::Everything,
        Filter::All(filters) => Condition::All(conditions(filters)),
        Filter::Any(filters) => any(conditions(filters)),
        Filter::None(filters) => Condition::NoneOf(conditions(filters)),
        Filter::Texts(_, texts) if texts.is_empty() => Condition::Nothing,
        Filter::Texts(field, texts) => Condition::Texts(name(field), texts.iter().cloned().collect()),
        Filter::Numbers(field, numbers) => {
            any(numbers.iter().map(|value| range(field, Range { gte: Some(*value), lte: Some(*value), ..Range::default() })).collect())
        }
        Filter::Flags(field, flags) => any(flags.iter().map(|flag| Condition::Flag(name(field), *flag)).collect()),
        Filter::Range(field, bounds) => range(field, *bounds),
        Filter::Absent(field) => Condition::Absent(name(field)),
    }
}

fn any(conditions: Vec<Condition>) -> Condition {
    if conditions.is_empty() { Condition::Nothing } else { Condition::Any(conditions) }
}

/// At most one bound a side: of `gt` and `gte` together the engines heed only one.
fn range(field: &Field, bounds: Range) -> Condition {
    let Range { gt, gte, lt, lte } = bounds;
    let (gt, gte) = if gt.zip(gte).is_some_and(|(gt, gte)| gt < gte) { (None, gte) } else { (gt, gte.filter(|_| gt.is_none())) };
    let (lt, lte) = if lt.zip(lte).is_some_and(|(lt, lte)| lt > lte) { (None, lte) } else { (lt, lte.filter(|_| lt.is_none())) };
    let (above, below) = (gt.or(gte), lt.or(lte));
    let strict = gt.is_some() || lt.is_some();
    if above.zip(below).is_some_and(|(above, below)| above > below || (strict && above >= below)) {
        return Condition::Nothing; // the engine's estimate for bounds the wrong way round is nonsense (it fails a debug assertion)
    }
    let bound = |bound: Option<f64>| bound.map(|bound| bound + 0.0);
    Condition::Range(name(field), Range { gt: bound(gt), gte: bound(gte), lt: bound(lt), lte: bound(lte) })
}
