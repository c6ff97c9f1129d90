//! The filter grammar of API.md: JSON in, a checked tree out; the tree can be asked about an item.
//!
//! The index room translates the same tree for the vector engine; a property test there holds the two together.

use std::collections::BTreeSet;

use serde_json::Value as Json;

use super::{AttributeType, AttributeValue, FieldError, ItemFacts, ItemId, MAX_LABEL_BYTES, Timestamp, pointer_step};

/// Nested groups that a filter may have.
pub const MAX_FILTER_DEPTH: usize = 8;
/// Members, values and groups together that a filter may have.
pub const MAX_FILTER_NODES: usize = 1_000;

/// A condition on items.
#[derive(Debug, Clone, PartialEq)]
pub enum Filter {
    /// All of them hold; holds when empty.
    All(Vec<Filter>),
    /// One of them holds; does not hold when empty.
    Any(Vec<Filter>),
    /// None of them holds; holds when empty.
    None(Vec<Filter>),
    /// The field has (or, for a list, contains) one of the texts.
    Texts(Field, BTreeSet<String>),
    /// The field equals one of the numbers.
    Numbers(Field, Vec<f64>),
    /// The field equals one of the flags.
    Flags(Field, Vec<bool>),
    /// The number or time (milliseconds) lies within all the bounds given.
    Range(Field, Range),
    /// The field is absent, or an empty list.
    Absent(Field),
}

/// A field that filters know.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "they are the fields of Item")]
pub enum Field {
    Categories,
    Tags,
    Language,
    Price,
    Available,
    CreatedAt,
    ExpiresAt,
    ItemId,
    Attribute(String),
}

/// Bounds; an absent one does not bind.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
#[expect(missing_docs, reason = "greater than, at least, less than, at most")]
pub struct Range {
    pub gt: Option<f64>,
    pub gte: Option<f64>,
    pub lt: Option<f64>,
    pub lte: Option<f64>,
}

impl Range {
    /// Whether `value` lies within all bounds.
    pub fn contains(&self, value: f64) -> bool {
        self.gt.is_none_or(|bound| value > bound)
            && self.gte.is_none_or(|bound| value >= bound)
            && self.lt.is_none_or(|bound| value < bound)
            && self.lte.is_none_or(|bound| value <= bound)
    }
}

enum Kind {
    Text,
    Number,
    Flag,
    Time,
}

impl Field {
    /// The name in a filter.
    pub fn name(&self) -> String {
        match self {
            Self::Categories => "categories".into(),
            Self::Tags => "tags".into(),
            Self::Language => "language".into(),
            Self::Price => "price".into(),
            Self::Available => "available".into(),
            Self::CreatedAt => "created_at".into(),
            Self::ExpiresAt => "expires_at".into(),
            Self::ItemId => "item_id".into(),
            Self::Attribute(name) => format!("attributes.{name}"),
        }
    }

    fn parse(name: &str, attribute_type: &dyn Fn(&str) -> Option<AttributeType>) -> Result<(Self, Kind), String> {
        Ok(match name {
            "categories" => (Self::Categories, Kind::Text),
            "tags" => (Self::Tags, Kind::Text),
            "language" => (Self::Language, Kind::Text),
            "price" => (Self::Price, Kind::Number),
            "available" => (Self::Available, Kind::Flag),
            "created_at" => (Self::CreatedAt, Kind::Time),
            "expires_at" => (Self::ExpiresAt, Kind::Time),
            "item_id" => (Self::ItemId, Kind::Text),
            _ => {
                let attribute = name.strip_prefix("attributes.").ok_or(
                    "is no field: use categories, tags, language, price, available, created_at, expires_at, item_id, attributes.NAME, all_of, any_of or none_of",
                )?;
                let kind = match attribute_type(attribute).ok_or("no item has this attribute yet")? {
                    AttributeType::Text => Kind::Text,
                    AttributeType::Number => Kind::Number,
                    AttributeType::Flag => Kind::Flag,
                };
                (Self::Attribute(attribute.to_owned()), kind)
            }
        })
    }

    fn texts<'a>(&self, item: &'a ItemFacts) -> &'a [String] {
        match self {
            Self::Categories => &item.categories,
            Self::Tags => &item.tags,
            Self::Language => item.language.as_slice(),
            Self::Attribute(name) => match item.attributes.get(name) {
                Some(AttributeValue::Text(text)) => std::slice::from_ref(text),
                Some(AttributeValue::Texts(texts)) => texts,
                _ => &[],
            },
            _ => &[],
        }
    }

    fn number(&self, item: &ItemFacts) -> Option<f64> {
        match self {
            Self::Price => item.price,
            Self::CreatedAt => item.created_at.map(|at| at.millis() as f64),
            Self::ExpiresAt => item.expires_at.map(|at| at.millis() as f64),
            Self::Attribute(name) => match item.attributes.get(name)? {
                AttributeValue::Number(number) => Some(*number),
                _ => None,
            },
            _ => None,
        }
    }

    fn flag(&self, item: &ItemFacts) -> Option<bool> {
        match self {
            Self::Available => Some(item.available),
            Self::Attribute(name) => match item.attributes.get(name)? {
                AttributeValue::Flag(flag) => Some(*flag),
                _ => None,
            },
            _ => None,
        }
    }
}

impl Filter {
    /// Reads a filter; `attribute_type` tells the type that the catalogue has fixed for an attribute name.
    /// Errors name the member by a JSON pointer from the filter's own root.
    pub fn parse(json: &Json, attribute_type: &dyn Fn(&str) -> Option<AttributeType>) -> Result<Self, FieldError> {
        let mut parser = Parser { attribute_type, nodes: 0 };
        parser.group(json, "", 0).map(Self::All)
    }

    /// Whether the item satisfies the filter.
    pub fn matches(&self, item: &ItemFacts) -> bool {
        match self {
            Self::All(filters) => filters.iter().all(|filter| filter.matches(item)),
            Self::Any(filters) => filters.iter().any(|filter| filter.matches(item)),
            Self::None(filters) => !filters.iter().any(|filter| filter.matches(item)),
            Self::Texts(Field::ItemId, wanted) => wanted.contains(item.item_id.as_str()),
            Self::Texts(field, wanted) => field.texts(item).iter().any(|text| wanted.contains(text)),
            Self::Numbers(field, wanted) => field.number(item).is_some_and(|number| wanted.contains(&number)),
            Self::Flags(field, wanted) => field.flag(item).is_some_and(|flag| wanted.contains(&flag)),
            Self::Range(field, range) => field.number(item).is_some_and(|number| range.contains(number)),
            Self::Absent(Field::ItemId) => false,
            Self::Absent(field) => field.texts(item).is_empty() && field.number(item).is_none() && field.flag(item).is_none(),
        }
    }
}

struct Parser<'a> {
    attribute_type: &'a dyn Fn(&str) -> Option<AttributeType>,
    nodes: usize,
}

impl Parser<'_> {
    fn count(&mut self, nodes: usize, pointer: &str) -> Result<(), FieldError> {
        self.nodes += nodes;
        if self.nodes > MAX_FILTER_NODES {
            return Err(FieldError::new(pointer, format!("the filter has more than {MAX_FILTER_NODES} parts")));
        }
        Ok(())
    }

    fn group(&mut self, json: &Json, pointer: &str, depth: usize) -> Result<Vec<Filter>, FieldError> {
        let members = json.as_object().ok_or_else(|| FieldError::new(pointer, "must be an object"))?;
        if depth > MAX_FILTER_DEPTH {
            return Err(FieldError::new(pointer, format!("is nested more than {MAX_FILTER_DEPTH} deep")));
        }
        self.count(members.len(), pointer)?;
        members.iter().map(|(name, value)| self.member(name, value, &format!("{pointer}{}", pointer_step(name)), depth)).collect()
    }

    fn member(&mut self, name: &str, value: &Json, pointer: &str, depth: usize) -> Result<Filter, FieldError> {
        let combine: Option<fn(Vec<Filter>) -> Filter> = match name {
            "all_of" => Some(Filter::All),
            "any_of" => Some(Filter::Any),
            "none_of" => Some(Filter::None),
            _ => None,
        };
        if let Some(combine) = combine {
            let filters = value.as_array().ok_or_else(|| FieldError::new(pointer, "must be a list of filters"))?;
            self.count(filters.len(), pointer)?;
            let parsed = filters.iter().enumerate().map(|(i, filter)| self.group(filter, &format!("{pointer}/{i}"), depth + 1).map(Filter::All));
            return parsed.collect::<Result<_, _>>().map(combine);
        }
        let (field, kind) = Field::parse(name, self.attribute_type).map_err(|detail| FieldError::new(pointer, detail))?;
        match value {
            Json::Null => Ok(Filter::Absent(field)),
            Json::Object(bounds) => Self::range(field, &kind, bounds, pointer),
            Json::Array(values) => {
                self.count(values.len(), pointer)?;
                Self::any_of(field, &kind, values.iter().enumerate().map(|(i, value)| (format!("{pointer}/{i}"), value)))
            }
            value => Self::any_of(field, &kind, std::iter::once((pointer.to_owned(), value))),
        }
    }

    fn range(field: Field, kind: &Kind, bounds: &serde_json::Map<String, Json>, pointer: &str) -> Result<Filter, FieldError> {
        let mut range = Range::default();
        if bounds.is_empty() {
            return Err(FieldError::new(pointer, "needs one of gt, gte, lt, lte"));
        }
        for (name, value) in bounds {
            let pointer = format!("{pointer}{}", pointer_step(name));
            let bound = match kind {
                Kind::Number => number(value, &pointer)?,
                Kind::Time => time(value, &pointer)?,
                Kind::Text | Kind::Flag => return Err(FieldError::new(pointer, format!("{} is no number or time, so it has no range", field.name()))),
            };
            match name.as_str() {
                "gt" => range.gt = Some(bound),
                "gte" => range.gte = Some(bound),
                "lt" => range.lt = Some(bound),
                "lte" => range.lte = Some(bound),
                _ => return Err(FieldError::new(pointer, "must be gt, gte, lt or lte")),
            }
        }
        Ok(Filter::Range(field, range))
    }

    fn any_of<'a>(field: Field, kind: &Kind, values: impl Iterator<Item = (String, &'a Json)>) -> Result<Filter, FieldError> {
        let mut values = values;
        match kind {
            Kind::Text => values.map(|(pointer, value)| text(&field, value, &pointer)).collect::<Result<_, _>>().map(|texts| Filter::Texts(field, texts)),
            Kind::Number => values.map(|(pointer, value)| number(value, &pointer)).collect::<Result<_, _>>().map(|numbers| Filter::Numbers(field, numbers)),
            Kind::Time => values.map(|(pointer, value)| time(value, &pointer)).collect::<Result<_, _>>().map(|times| Filter::Numbers(field, times)),
            Kind::Flag => values
                .try_fold(Vec::new(), |mut flags, (pointer, value)| {
                    flags.push(value.as_bool().ok_or_else(|| FieldError::new(pointer, "must be true or false"))?);
                    Ok(flags)
                })
                .map(|flags| Filter::Flags(field, flags)),
        }
    }
}

fn text(field: &Field, value: &Json, pointer: &str) -> Result<String, FieldError> {
    let text = value.as_str().ok_or_else(|| FieldError::new(pointer, "must be a string"))?;
    if *field == Field::ItemId {
        ItemId::new(text).map_err(|error| FieldError::new(pointer, error))?;
    }
    if text.len() > MAX_LABEL_BYTES {
        return Err(FieldError::new(pointer, format!("must have at most {MAX_LABEL_BYTES} bytes")));
    }
    Ok(text.to_owned())
}

fn number(value: &Json, pointer: &str) -> Result<f64, FieldError> {
    value.as_f64().filter(|number| number.is_finite()).ok_or_else(|| FieldError::new(pointer, "must be a number"))
}

fn time(value: &Json, pointer: &str) -> Result<f64, FieldError> {
    serde_json::from_value::<Timestamp>(value.clone())
        .map(|at| at.millis() as f64)
        .map_err(|_| FieldError::new(pointer, "must be an RFC 3339 time or integer milliseconds"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::domain::Item;

    fn types(name: &str) -> Option<AttributeType> {
        match name {
            "brand" => Some(AttributeType::Text),
            "year" => Some(AttributeType::Number),
            "waterproof" => Some(AttributeType::Flag),
            _ => None,
        }
    }

    fn jacket() -> ItemFacts {
        let item: Item = serde_json::from_value(json!({"item_id": "j", "title": "Jacket", "categories": ["jackets", "men"], "price": 120,
            "created_at": "2026-01-02T00:00:00Z", "attributes": {"brand": "Fjell", "year": 2026, "waterproof": true}}))
        .unwrap();
        ItemFacts::from(&item)
    }

    #[test]
    fn members_mean_what_the_contract_says() {
        for (filter, expected) in [
            (json!({}), true),
            (json!({"categories": "men"}), true),
            (json!({"categories": ["women", "men"], "price": {"lte": 120, "gt": 119.5}}), true),
            (json!({"price": {"lt": 120}}), false),
            (json!({"price": [1, 120]}), true),
            (json!({"tags": null, "expires_at": null}), true),
            (json!({"categories": null}), false),
            (json!({"created_at": {"gte": "2026-01-01T00:00:00Z"}}), true),
            (json!({"item_id": ["x", "j"]}), true),
            (json!({"attributes.brand": "Fjell", "attributes.waterproof": true, "attributes.year": {"gte": 2020}}), true),
            (json!({"any_of": [{"price": 1}, {"language": "en"}]}), false),
            (json!({"none_of": [{"price": 1}, {"language": "en"}]}), true),
            (json!({"all_of": [{"price": 120}], "any_of": []}), false),
        ] {
            assert_eq!(Filter::parse(&filter, &types).unwrap().matches(&jacket()), expected, "{filter}");
        }
    }

    #[test]
    fn faults_are_named_by_pointer() {
        for (filter, pointer) in [
            (json!([]), ""),
            (json!({"colour": "red"}), "/colour"),
            (json!({"attributes.size": 4}), "/attributes.size"),
            (json!({"price": "cheap"}), "/price"),
            (json!({"price": {"below": 3}}), "/price/below"),
            (json!({"price": {}}), "/price"),
            (json!({"tags": [1]}), "/tags/0"),
            (json!({"tags": {"gt": 1}}), "/tags/gt"),
            (json!({"any_of": [{"available": "yes"}]}), "/any_of/0/available"),
            (json!({"none_of": {}}), "/none_of"),
        ] {
            assert_eq!(Filter::parse(&filter, &types).unwrap_err().pointer, pointer, "{filter}");
        }
    }

    #[test]
    fn depth_and_size_are_bounded() {
        let mut deep = json!({});
        for _ in 0..MAX_FILTER_DEPTH + 1 {
            deep = json!({ "all_of": [deep] });
        }
        let wide = json!({"item_id": vec!["x"; MAX_FILTER_NODES]});

        assert!(Filter::parse(&deep, &types).unwrap_err().detail.contains("nested"));
        assert!(Filter::parse(&wide, &types).unwrap_err().detail.contains("parts"));
    }
}
