//! The rules of a merchandiser: JSON or TOML in, checked rules out. When a request is such a one, this is done with such items.

use std::{collections::BTreeMap, fmt, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, de};
use serde_json::Value as Json;

use super::{AttributeType, FieldError, Filter, ItemId, MAX_LABEL_BYTES, Timestamp, pointer_step};

/// Bytes that a name of a rule or a scenario may have.
pub const MAX_NAME_BYTES: usize = 64;
/// What such a name must be, for errors.
pub const NAME_RULE: &str = "must be 1 to 64 of the characters A-Z a-z 0-9 _ . : -";
/// Items that one rule pins.
pub const MAX_PINS: usize = 50;
/// The last position that can be pinned: the last of the longest page.
pub const MAX_PIN_POSITION: u32 = 200;
/// Characters that a rule's description may have.
const MAX_DESCRIPTION_CHARS: usize = 1_000;
/// The strongest boost.
const MAX_FACTOR: f64 = 100.0;
/// The most that a boost adds to a score: far beyond what features do together.
const MAX_BY: f64 = 100.0;
/// Words and phrases of one blocklist.
const MAX_WORDS: usize = 200;
/// Examples of one blocklist.
const MAX_EXAMPLES: usize = 50;
/// Characters of a word, phrase or example.
const MAX_EXAMPLE_CHARS: usize = 2_000;
/// Of a list.
const MAX_AT_MOST: u32 = 200;

/// Whether it may be the name of a rule or a scenario.
pub fn is_name(name: &str) -> bool {
    (1..=MAX_NAME_BYTES).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.:-".contains(&byte))
}

/// What a rule is called: in its address, in answers and in the settings.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(try_from = "String", into = "String")]
#[schema(value_type = String, max_length = 64, pattern = "^[A-Za-z0-9_.:-]+$", examples("winter-sale"))]
pub struct RuleName(Arc<str>);

/// A text that cannot name a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{NAME_RULE}")]
pub struct InvalidRuleName;

impl RuleName {
    /// Takes the name as it is, or says that it is none.
    pub fn new(name: &str) -> Result<Self, InvalidRuleName> {
        if is_name(name) { Ok(Self(name.into())) } else { Err(InvalidRuleName) }
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for RuleName {
    type Error = InvalidRuleName;
    fn try_from(name: String) -> Result<Self, InvalidRuleName> {
        Self::new(&name)
    }
}

impl From<RuleName> for String {
    fn from(name: RuleName) -> Self {
        name.0.as_ref().to_owned()
    }
}

impl fmt::Display for RuleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A rule as its author writes it: what must hold of a request, and exactly one thing that is done then.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Rule, examples(json!({"name": "winter-sale", "when": {"scenario": "home", "until": "2027-01-06T00:00:00Z"},
    "boost": {"filter": {"tags": "sale"}, "factor": 2.0}})))]
pub struct RuleDocument {
    /// What answers call it.
    pub name: RuleName,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 1_000)]
    pub description: Option<String>,
    /// Which requests it is for; without it all are.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "object")]
    pub when: Option<WhenDocument>,
    /// Items that come up.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "object")]
    pub boost: Option<WeighDocument>,
    /// Items that go down.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "object")]
    pub bury: Option<WeighDocument>,
    /// Items that stand where they are put: item id to position, 1 for the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<BTreeMap<String, u32>>)]
    pub pin: Option<BTreeMap<ItemId, u32>>,
    /// A filter: items that satisfy it are not shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub exclude: Option<Json>,
    /// Items of which a list shows few.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "object")]
    pub at_most: Option<AtMostDocument>,
    /// Items that are not shown for what they say or mean.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "object")]
    pub block: Option<BlockDocument>,
}

/// Which requests a rule is for: all that is said here must hold.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = RuleWhen)]
pub struct WhenDocument {
    /// Their `scenario`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scenario: Option<String>,
    /// What they are about: the text, with a probability of at least a half, or the one category that their filter names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub category: Option<String>,
    /// A filter that one of their `items` satisfies: what the user looks at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub filter: Option<Json>,
    /// Not before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Timestamp>,
    /// Not from then on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

/// How far which items are moved: by one of `factor` and `by`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = RuleWeight)]
pub struct WeighDocument {
    /// Which items.
    #[schema(value_type = Object)]
    pub filter: Json,
    /// As the factor of a request's boosts: 1 to 100 for `boost`, 0.01 to 1 for `bury`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0.01, maximum = 100)]
    pub factor: Option<f64>,
    /// So much is added to their score by `boost`, taken away by `bury`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0, maximum = 100)]
    pub by: Option<f64>,
}

/// Of which items a list shows how many.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = RuleAtMost)]
pub struct AtMostDocument {
    /// Which items.
    #[schema(value_type = Object)]
    pub filter: Json,
    /// How many of them in one list.
    #[schema(minimum = 1, maximum = 200)]
    pub n: u32,
}

/// What keeps items out: one of the words, or a meaning near one of the examples.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = RuleBlock)]
pub struct BlockDocument {
    /// Words and phrases, found as searching finds them: in title, text, categories and tags, whatever their endings; not where a text says that it has
    /// none of it ("alcohol-free").
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(max_items = 200)]
    pub words: Vec<String>,
    /// Texts like those of the items that are meant.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(max_items = 50)]
    pub like: Vec<String>,
    /// The cosine with an example from which an item is like it; needed with `like`. What is near depends on the model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0, maximum = 1)]
    pub near: Option<f64>,
}

/// Reads what is written as an object. A derived struct would also take an array, field after field; authors never mean that.
fn object<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    struct Visitor<T>(std::marker::PhantomData<T>);
    impl<'de, T: Deserialize<'de>> de::Visitor<'de> for Visitor<T> {
        type Value = T;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }
        fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
            T::deserialize(de::value::MapAccessDeserializer::new(map))
        }
    }
    deserializer.deserialize_map(Visitor(std::marker::PhantomData)).map(Some)
}

/// A rule that can be applied.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// What answers call it.
    pub name: RuleName,
    /// Which requests it is for.
    pub when: When,
    /// What is done.
    pub action: Action,
}

/// Which requests a rule is for; what is absent does not bind.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct When {
    /// Their place in the shop.
    pub scenario: Option<String>,
    /// What they are about.
    pub category: Option<String>,
    /// What one of the items is that the user looks at.
    pub looking_at: Option<Filter>,
    /// Not before.
    pub from: Option<Timestamp>,
    /// Not from then on.
    pub until: Option<Timestamp>,
}

/// What a rule does.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Adds `by` to the scores of items: above 0 they come up, below they go down.
    Weigh {
        /// Which items.
        filter: Filter,
        /// Points of score.
        by: f32,
    },
    /// Puts items at positions, counted from 1 over all pages; by position, each once.
    Pin(Vec<(u32, ItemId)>),
    /// Shows none of these.
    Exclude(Arc<Filter>),
    /// Shows few of these in one list.
    AtMost {
        /// Which items.
        filter: Arc<Filter>,
        /// How many.
        n: usize,
    },
    /// Shows nothing that says or means this.
    Block(Arc<Block>),
}

/// What keeps items out.
#[derive(Debug, Clone, PartialEq)]
pub struct Block {
    /// Words and phrases.
    pub words: Vec<String>,
    /// Texts like theirs.
    pub like: Vec<String>,
    /// The cosine with one of these from which an item is like it.
    pub near: f32,
}

impl RuleDocument {
    /// Checks all of it; `attribute_type` as in [`Filter::parse`]. The faults name their fields from the document's root.
    pub fn check(&self, attribute_type: &dyn Fn(&str) -> Option<AttributeType>) -> Result<Rule, Vec<FieldError>> {
        let mut checker = Checker { attribute_type, faults: Vec::new() };
        let long = self.description.as_deref().is_some_and(|text| text.chars().count() > MAX_DESCRIPTION_CHARS);
        checker.hold(!long, "/description", format!("must have at most {MAX_DESCRIPTION_CHARS} characters"));
        let when = checker.when(self.when.as_ref());
        let action = checker.action(self);
        match action {
            Some(action) if checker.faults.is_empty() => Ok(Rule { name: self.name.clone(), when, action }),
            _ => Err(checker.faults),
        }
    }
}

struct Checker<'a> {
    attribute_type: &'a dyn Fn(&str) -> Option<AttributeType>,
    faults: Vec<FieldError>,
}

impl Checker<'_> {
    fn hold(&mut self, good: bool, pointer: &str, detail: impl fmt::Display) {
        if !good {
            self.faults.push(FieldError::new(pointer, detail));
        }
    }

    fn filter(&mut self, json: &Json, pointer: &str) -> Option<Filter> {
        Filter::parse(json, self.attribute_type).map_err(|fault| self.faults.push(fault.under(pointer))).ok()
    }

    fn when(&mut self, when: Option<&WhenDocument>) -> When {
        let Some(WhenDocument { scenario, category, filter, from, until }) = when else { return When::default() };
        self.hold(scenario.as_deref().is_none_or(is_name), "/when/scenario", NAME_RULE);
        let label = category.as_deref().is_none_or(|category| (1..=MAX_LABEL_BYTES).contains(&category.len()));
        self.hold(label, "/when/category", format!("must be 1 to {MAX_LABEL_BYTES} bytes"));
        self.hold(from.zip(*until).is_none_or(|(from, until)| from < until), "/when/until", "must be after \"from\"");
        let looking_at = filter.as_ref().and_then(|filter| self.filter(filter, "/when/filter"));
        When { scenario: scenario.clone(), category: category.clone(), looking_at, from: *from, until: *until }
    }

    fn action(&mut self, document: &RuleDocument) -> Option<Action> {
        let RuleDocument { boost, bury, pin, exclude, at_most, block, .. } = document;
        match (boost, bury, pin, exclude, at_most, block) {
            (Some(boost), None, None, None, None, None) => self.weigh(boost, "/boost", (1.0, MAX_FACTOR), 1.0),
            (None, Some(bury), None, None, None, None) => self.weigh(bury, "/bury", (1.0 / MAX_FACTOR, 1.0), -1.0),
            (None, None, Some(pin), None, None, None) => self.pin(pin),
            (None, None, None, Some(exclude), None, None) => self.filter(exclude, "/exclude").map(|filter| Action::Exclude(Arc::new(filter))),
            (None, None, None, None, None, Some(block)) => Some(self.block(block)),
            (None, None, None, None, Some(AtMostDocument { filter, n }), None) => {
                self.hold((1..=MAX_AT_MOST).contains(n), "/at_most/n", format!("must be 1 to {MAX_AT_MOST}"));
                let filter = self.filter(filter, "/at_most/filter")?;
                Some(Action::AtMost { filter: Arc::new(filter), n: *n as usize })
            }
            _ => {
                self.hold(false, "", "must have exactly one of boost, bury, pin, exclude, at_most and block");
                None
            }
        }
    }

    fn weigh(&mut self, weigh: &WeighDocument, pointer: &str, (least, most): (f64, f64), sign: f32) -> Option<Action> {
        let by = match (weigh.factor, weigh.by) {
            (Some(factor), None) => {
                self.hold((least..=most).contains(&factor), &format!("{pointer}/factor"), format!("must be {least} to {most}"));
                factor.ln() as f32
            }
            (None, Some(by)) => {
                self.hold((0.0..=MAX_BY).contains(&by), &format!("{pointer}/by"), format!("must be 0 to {MAX_BY}"));
                sign * by as f32
            }
            _ => {
                self.hold(false, pointer, "must have one of factor and by");
                0.0
            }
        };
        let filter = self.filter(&weigh.filter, &format!("{pointer}/filter"))?;
        Some(Action::Weigh { filter, by })
    }

    fn block(&mut self, block: &BlockDocument) -> Action {
        let BlockDocument { words, like, near } = block;
        self.hold(!(words.is_empty() && like.is_empty()), "/block", "must have words or like");
        self.hold(like.is_empty() || near.is_some(), "/block/near", "is required with like");
        self.hold(near.is_none_or(|near| (0.0..=1.0).contains(&near)), "/block/near", "must be 0 to 1");
        for (pointer, texts, most) in [("/block/words", words, MAX_WORDS), ("/block/like", like, MAX_EXAMPLES)] {
            self.hold(texts.len() <= most, pointer, format!("must have at most {most} entries"));
            for (i, text) in texts.iter().take(most).enumerate() {
                let good = text.chars().any(char::is_alphanumeric) && text.chars().count() <= MAX_EXAMPLE_CHARS;
                self.hold(good, &format!("{pointer}/{i}"), format!("must have a letter or digit and at most {MAX_EXAMPLE_CHARS} characters"));
            }
        }
        Action::Block(Arc::new(Block { words: words.clone(), like: like.clone(), near: near.unwrap_or(1.0) as f32 }))
    }

    fn pin(&mut self, pins: &BTreeMap<ItemId, u32>) -> Option<Action> {
        self.hold((1..=MAX_PINS).contains(&pins.len()), "/pin", format!("must have 1 to {MAX_PINS} items"));
        let mut by_position: Vec<(u32, ItemId)> = pins.iter().map(|(item, position)| (*position, item.clone())).collect();
        by_position.sort_unstable();
        for (position, item) in &by_position {
            let pointer = || format!("/pin{}", pointer_step(item.as_str()));
            self.hold((1..=MAX_PIN_POSITION).contains(position), &pointer(), format!("must be 1 to {MAX_PIN_POSITION}"));
        }
        for pair in by_position.windows(2) {
            let [(a, _), (b, item)] = pair else { continue };
            self.hold(a != b, &format!("/pin{}", pointer_step(item.as_str())), "must be another position than those of other items");
        }
        Some(Action::Pin(by_position))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn checked(json: Json) -> Result<Rule, Vec<FieldError>> {
        let document: RuleDocument = serde_json::from_value(json).unwrap();
        document.check(&|name| (name == "brand").then_some(AttributeType::Text))
    }

    #[test]
    fn a_rule_survives_json_and_becomes_what_it_says() {
        let written = json!({"name": "sale", "when": {"scenario": "home", "category": "tents", "filter": {"attributes.brand": "Fjell"},
            "from": "2026-11-20T00:00:00.000Z", "until": "2026-12-01T00:00:00.000Z"}, "boost": {"filter": {"tags": "sale"}, "factor": 2.0}});

        let rule = checked(written.clone()).unwrap();

        assert!(matches!(rule.action, Action::Weigh { by, .. } if (by - 2.0_f32.ln()).abs() < 1e-6));
        assert!(rule.when.looking_at.is_some() && rule.when.scenario.as_deref() == Some("home"));
        let document: RuleDocument = serde_json::from_value(written.clone()).unwrap();
        assert_eq!(serde_json::to_value(&document).unwrap(), written);
    }

    #[test]
    fn pins_come_by_position_and_burying_goes_down() {
        assert_eq!(
            checked(json!({"name": "a", "pin": {"x": 3, "y": 1}})).unwrap().action,
            Action::Pin(vec![(1, ItemId::new("y").unwrap()), (3, ItemId::new("x").unwrap())])
        );
        for bury in [json!({"filter": {}, "factor": 0.5}), json!({"filter": {}, "by": 1.5})] {
            assert!(matches!(checked(json!({"name": "a", "bury": bury})).unwrap().action, Action::Weigh { by, .. } if by < 0.0));
        }
    }

    #[test]
    fn faults_name_their_fields() {
        for (more, pointers) in [
            (json!({}), vec![""]),
            (json!({"exclude": {}, "pin": {"a": 1}}), vec![""]),
            (json!({"exclude": {"colour": "red"}}), vec!["/exclude/colour"]),
            (
                json!({"exclude": {}, "when": {"scenario": "a b", "category": "", "from": 5, "until": 5}}),
                vec!["/when/scenario", "/when/category", "/when/until"],
            ),
            (json!({"exclude": {}, "when": {"filter": {"attributes.size": 4}}}), vec!["/when/filter/attributes.size"]),
            (json!({"boost": {"filter": {}}}), vec!["/boost"]),
            (json!({"boost": {"filter": {}, "factor": 2, "by": 1}}), vec!["/boost"]),
            (json!({"boost": {"filter": {}, "factor": 0.5}}), vec!["/boost/factor"]),
            (json!({"bury": {"filter": {"price": "x"}, "factor": 2}}), vec!["/bury/factor", "/bury/filter/price"]),
            (json!({"boost": {"filter": {}, "by": -1}}), vec!["/boost/by"]),
            (json!({"pin": {}}), vec!["/pin"]),
            (json!({"pin": {"a": 0, "b/c": 201}}), vec!["/pin/a", "/pin/b~1c"]),
            (json!({"pin": {"a": 2, "b": 2}}), vec!["/pin/b"]),
            (json!({"at_most": {"filter": {}, "n": 0}}), vec!["/at_most/n"]),
            (json!({"block": {}}), vec!["/block"]),
            (json!({"block": {"words": ["x", "!"], "like": [" "], "near": 2}}), vec!["/block/near", "/block/words/1", "/block/like/0"]),
            (json!({"block": {"like": ["x"]}}), vec!["/block/near"]),
        ] {
            let mut json = json!({"name": "r"});
            json.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            let found: Vec<String> = checked(json).unwrap_err().into_iter().map(|fault| fault.pointer).collect();
            assert_eq!(found, pointers, "{more}");
        }
    }

    #[test]
    fn what_is_not_written_as_a_rule_is_refused() {
        for bad in
            [json!({"name": "a b"}), json!({"name": ""}), json!({"name": "a", "when": ["home"]}), json!({"name": "a", "pin": {"": 1}}), json!({"exclude": {}})]
        {
            assert!(serde_json::from_value::<RuleDocument>(bad.clone()).is_err(), "{bad}");
        }
    }
}
