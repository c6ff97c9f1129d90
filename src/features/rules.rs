//! `[features]`: what each type of event says, as data. A preset gives every value, the settings override them and add own types.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use toml::Table;

use crate::domain::{EventType, InvalidType, ValueRule};

/// The presets as they are printed and merged.
const PRESETS: &str = include_str!("presets.toml");
/// Types beyond the feedback table's: each is a series of every metric by type.
const MOST_OWN_TYPES: usize = 64;

/// What kind of site it is; decides what counts as seen, how much an event says and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names say it")]
pub enum Preset {
    Shop,
    News,
    Video,
    Music,
    Support,
}

impl Preset {
    /// All presets, in the order of the documentation.
    pub const ALL: [Self; 5] = [Self::Shop, Self::News, Self::Video, Self::Music, Self::Support];

    /// The name in the settings.
    pub fn name(self) -> &'static str {
        match self {
            Self::Shop => "shop",
            Self::News => "news",
            Self::Video => "video",
            Self::Music => "music",
            Self::Support => "support",
        }
    }

    /// The preset of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|preset| preset.name() == name)
    }

    /// The values that the preset gives in `[features]`.
    pub fn values(self) -> Table {
        let mut presets: Table = PRESETS.parse().expect("presets.toml is TOML, a test reads it");
        let mut take = |name: &str| match presets.remove(name) {
            Some(toml::Value::Table(values)) => values,
            _ => Table::new(),
        };
        let mut values = take("all");
        merge(&mut values, take(self.name()));
        // Whole rules, so that what a line leaves out is a value with a source too.
        if let Some(toml::Value::Table(events)) = values.get_mut("events") {
            for (_, event) in events.iter_mut() {
                let rule: EventRule = event.clone().try_into().expect("presets.toml has rules, a test reads them");
                *event = toml::Value::try_from(rule).expect("a rule is TOML");
            }
        }
        values
    }
}

fn merge(into: &mut Table, over: Table) {
    for (name, value) in over {
        match (into.get_mut(&name), value) {
            (Some(toml::Value::Table(into)), toml::Value::Table(over)) => merge(into, over),
            (_, value) => {
                into.insert(name, value);
            }
        }
    }
}

/// `[features]`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeatureSettings {
    /// What kind of site it is.
    pub preset: Preset,
    /// Whether `/recommend` leaves out seen items when the request does not say.
    pub exclude_seen: bool,
    /// Events of one user that are read, newest first.
    pub history_events: usize,
    /// Memory for histories.
    pub history_cache_mb: usize,
    /// Days before the user's newest event after which what was done counts half.
    pub history_half_life_days: f32,
    /// Days after which a good event counts half for what is popular.
    pub popularity_half_life_days: f32,
    /// Days after which an item is half as fresh.
    pub freshness_half_life_days: f32,
    /// What each type of event says, by the type's name.
    pub events: BTreeMap<String, EventRule>,
}

/// `[features.events.NAME]`: what an event of that type says. presets.toml explains each.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventRule {
    /// 1 a clear yes, -1 a clear no.
    pub weight: f64,
    /// What the event's `value` is.
    #[serde(default)]
    pub value: ValueKind,
    /// The value from which `weight` counts whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub full: Option<f64>,
    /// A value below it counts `skip_weight`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skip_below: Option<f64>,
    /// What a value below `skip_below` says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skip_weight: Option<f64>,
    /// What an event without its value says; where this is absent the value is required.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub without_value: Option<f64>,
    /// Whether it makes its item a seen one.
    #[serde(default)]
    pub seen: bool,
    /// Whether its item is left out from then on, whatever a request says of seen ones.
    #[serde(default)]
    pub hides: bool,
    /// What a second event of the same user on the same item does.
    #[serde(default)]
    pub repeated: Repeated,
    /// Types that revise each other share this name; only with `repeated = "last"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<String>,
}

/// What an event's `value` is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names say it, `ValueKind::rule` the bounds")]
pub enum ValueKind {
    #[default]
    None,
    Seconds,
    Share,
    Stars,
    Quantity,
    Money,
}

/// What a second event of the same kind does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Repeated {
    /// It adds to the first.
    #[default]
    Adds,
    /// The last one counts.
    Last,
}

/// A setting of `[features]` that cannot be; says which and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("setting features.{key}: {fault}")]
pub struct InvalidRule {
    /// Below `features`, dotted.
    pub key: String,
    /// What is wrong with it.
    pub fault: String,
}

impl FeatureSettings {
    /// A preset with everything else as the defaults say; for tests and tools, `config` merges more sources.
    pub fn of(preset: Preset) -> Self {
        let mut values = preset.values();
        values.insert("preset".into(), preset.name().into());
        values.insert("history_events".into(), 5_000.into());
        values.insert("history_cache_mb".into(), 64.into());
        values.try_into().expect("presets.toml has every key, a test reads it")
    }

    /// The first value that cannot be.
    pub(super) fn check(&self) -> Result<(), InvalidRule> {
        let fault = |key: &str, fault: &str| Err(InvalidRule { key: key.to_owned(), fault: fault.to_owned() });
        for (key, days) in [
            ("history_half_life_days", self.history_half_life_days),
            ("popularity_half_life_days", self.popularity_half_life_days),
            ("freshness_half_life_days", self.freshness_half_life_days),
        ] {
            if !(days > 0.0 && days.is_finite()) {
                return fault(key, "must be more than 0 days");
            }
        }
        if self.history_events == 0 {
            return fault("history_events", "must be 1 or more");
        }
        let mut own = 0;
        for (name, rule) in &self.events {
            let kind = EventType::named(name).map_err(|InvalidType| InvalidRule { key: format!("events.{name}"), fault: InvalidType.to_string() })?;
            own += usize::from(matches!(kind, EventType::Own(_)));
            if let Err((field, why)) = rule.check() {
                return fault(&format!("events.{name}.{field}"), &why);
            }
        }
        if own > MOST_OWN_TYPES {
            return fault("events", &format!("has {own} types of its own; {MOST_OWN_TYPES} are possible"));
        }
        match EventType::ALL.iter().find(|kind| !self.events.contains_key(kind.name())) {
            Some(missing) => fault(&format!("events.{missing}"), "is missing"),
            None => Ok(()),
        }
    }
}

impl EventRule {
    fn check(&self) -> Result<(), (&'static str, String)> {
        let numbers = [("weight", Some(self.weight)), ("skip_weight", self.skip_weight), ("without_value", self.without_value)];
        for (field, number) in numbers {
            if number.is_some_and(|number| !(-2.0..=2.0).contains(&number)) {
                return Err((field, "must be -2 to 2; 1 is a clear yes, -1 a clear no".into()));
            }
        }
        let Some(range) = self.value.range() else {
            let given = [("full", self.full), ("skip_below", self.skip_below), ("skip_weight", self.skip_weight), ("without_value", self.without_value)];
            return match given.into_iter().find(|(_, number)| number.is_some()) {
                Some((field, _)) => Err((field, "needs a value other than \"none\"".into())),
                None => self.check_verdict(),
            };
        };
        for (field, number) in [("full", self.full), ("skip_below", self.skip_below)] {
            if number.is_some_and(|number| !(number > 0.0 && number <= range.1)) {
                return Err((field, format!("must be more than 0 and at most {} of {}", range.1, self.value.name())));
            }
        }
        let by_mean = "does not go with stars, which count around the user's mean";
        let fault = match (self.value, self.full, self.skip_below, self.skip_weight) {
            (ValueKind::Seconds | ValueKind::Share, None, ..) => ("full", "is needed: the value from which the weight counts whole"),
            (ValueKind::Stars, Some(_), ..) => ("full", by_mean),
            (ValueKind::Stars, _, Some(_), _) => ("skip_below", by_mean),
            (.., Some(_), None) => ("skip_weight", "is needed with skip_below"),
            (.., None, Some(_)) => ("skip_below", "is needed with skip_weight"),
            _ => return self.check_verdict(),
        };
        Err((fault.0, fault.1.to_owned()))
    }

    fn check_verdict(&self) -> Result<(), (&'static str, String)> {
        match (&self.verdict, self.repeated) {
            (Some(_), Repeated::Adds) => Err(("verdict", "needs repeated = \"last\"".into())),
            (Some(name), Repeated::Last) if name.is_empty() => Err(("verdict", "must have a name".into())),
            _ => Ok(()),
        }
    }

    /// What an event's `value` must be; without a rule a finite one is ignored.
    pub(super) fn value_rule(&self) -> Option<ValueRule> {
        let range = self.value.range()?;
        Some(ValueRule { required: self.without_value.is_none(), range, meaning: self.value.meaning() })
    }
}

impl ValueKind {
    fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Seconds => "seconds",
            Self::Share => "share",
            Self::Stars => "stars",
            Self::Quantity => "quantity",
            Self::Money => "money",
        }
    }

    fn range(self) -> Option<(f64, f64)> {
        match self {
            Self::None => None,
            Self::Seconds => Some((0.0, 1e7)),
            Self::Share => Some((0.0, 1.0)),
            Self::Stars => Some((0.5, 5.0)),
            Self::Quantity => Some((0.0, 1e9)),
            Self::Money => Some((0.0, 1e12)),
        }
    }

    fn meaning(self) -> &'static str {
        match self {
            Self::None => "a number",
            Self::Seconds => "seconds, 0 or more",
            Self::Share => "the share that was watched, 0 to 1",
            Self::Stars => "stars, 0.5 to 5",
            Self::Quantity => "a quantity, 0 or more",
            Self::Money => "money, 0 or more",
        }
    }
}

/// All presets as one table in Markdown: a row a type, a column a preset; bold weights make their item a seen one.
pub fn presets_table() -> String {
    use std::fmt::Write as _;

    let presets = Preset::ALL.map(FeatureSettings::of);
    let mut table = format!("| type | value | repeated | {} |\n|---|---|---|{}\n", Preset::ALL.map(Preset::name).join(" | "), "---|".repeat(presets.len()));
    for kind in EventType::ALL {
        let rules = presets.each_ref().map(|preset| &preset.events[kind.name()]);
        let repeated = match rules[0].repeated {
            Repeated::Adds => "adds",
            Repeated::Last => "the last one counts",
        };
        let value = if rules[0].value == ValueKind::None { "–" } else { rules[0].value.name() };
        let _ = write!(table, "| `{kind}` | {value} | {repeated} |");
        for rule in rules {
            let _ = write!(table, " {} |", cell(rule));
        }
        table.push('\n');
    }
    let mut row = |name: &str, cell: &dyn Fn(&FeatureSettings) -> String| {
        let _ = writeln!(table, "| {name} | | | {} |", presets.each_ref().map(cell).join(" | "));
    };
    row("`exclude_seen`", &|preset| if preset.exclude_seen { "yes" } else { "no" }.to_owned());
    row("`history_half_life_days`", &|preset| preset.history_half_life_days.to_string());
    row("`popularity_half_life_days`", &|preset| preset.popularity_half_life_days.to_string());
    row("`freshness_half_life_days`", &|preset| preset.freshness_half_life_days.to_string());
    table
}

fn cell(rule: &EventRule) -> String {
    let mut said = if rule.value == ValueKind::Stars { "by stars".to_owned() } else { rule.weight.to_string() };
    if let Some(full) = rule.full.filter(|_| matches!(rule.value, ValueKind::Seconds)) {
        said += &format!(" at {full} s");
    }
    let unit = if rule.value == ValueKind::Seconds { " s" } else { "" };
    if let Some((below, skip)) = rule.skip_below.zip(rule.skip_weight) {
        said += &format!(", {skip} under {below}{unit}");
    }
    if let Some(without) = rule.without_value.filter(|without| rule.value == ValueKind::Stars || (without - rule.weight).abs() > 0.0) {
        said += &format!(", {without} without");
    }
    match (rule.hides, rule.seen) {
        (true, _) => format!("**{said}**, never again"),
        (false, true) => format!("**{said}**"),
        (false, false) => said,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(toml: &str) -> Result<(), String> {
        let mut values = toml::Table::try_from(FeatureSettings::of(Preset::Shop)).unwrap();
        merge(&mut values, toml.parse().unwrap());
        let settings: FeatureSettings = values.try_into().map_err(|error| error.to_string())?;
        settings.check().map_err(|error| error.to_string())
    }

    #[test]
    fn every_preset_is_complete_and_possible() {
        for preset in Preset::ALL {
            assert_eq!(FeatureSettings::of(preset).check(), Ok(()), "{preset:?}");
            assert_eq!(Preset::from_name(preset.name()), Some(preset));
        }
        let written: Table = PRESETS.parse().unwrap();
        assert_eq!(written.len(), Preset::ALL.len() + 1, "a section that is no preset: {written}");
    }

    #[test]
    fn a_preset_is_the_common_part_with_its_own_lines_on_top() {
        let music = FeatureSettings::of(Preset::Music);

        let watch = &music.events["watch"];
        assert_eq!((watch.weight, watch.full, watch.skip_below, watch.skip_weight, watch.seen), (0.6, Some(1.0), Some(0.25), Some(-0.3), true));
        assert_eq!((music.exclude_seen, music.history_half_life_days, music.popularity_half_life_days), (false, 90.0, 14.0));
        assert_eq!(music.events["purchase"], FeatureSettings::of(Preset::Shop).events["purchase"]);
    }

    #[test]
    fn what_cannot_be_is_one_line_that_names_the_key() {
        assert_eq!(with("[events.wishlist]\nweight = 0.7\nvalue = \"quantity\"\nwithout_value = 0.7\nrepeated = \"adds\""), Ok(()));
        assert_eq!(with("[events.unhide]\nweight = 0\nrepeated = \"last\"\nverdict = \"hiding\""), Ok(()));

        for (toml, said) in [
            ("[events.wishlist]\nweight = 7", "setting features.events.wishlist.weight: must be -2 to 2"),
            ("[events.wishlist]\nweight = nan", "features.events.wishlist.weight"),
            ("[events.\"Wish list\"]\nweight = 1", "setting features.events.Wish list: must begin with a letter"),
            ("[events.click]\nfull = 3", "setting features.events.click.full: needs a value"),
            ("[events.dwell]\nfull = 0", "features.events.dwell.full: must be more than 0"),
            ("[events.watch]\nskip_below = 40", "features.events.watch.skip_below: must be more than 0 and at most 1 of share"),
            ("[events.pause]\nweight = 1\nvalue = \"seconds\"", "features.events.pause.full: is needed"),
            ("[events.click]\nverdict = \"x\"", "features.events.click.verdict: needs repeated"),
            ("[events.rating]\nfull = 3", "features.events.rating.full: does not go with stars"),
            ("history_half_life_days = 0", "features.history_half_life_days: must be more than 0"),
            ("popularity_half_life_days = -1", "features.popularity_half_life_days"),
            ("[events.clik]\nseen = true", "weight"),
            ("[events.click]\nwieght = 1", "wieght"),
        ] {
            let error = with(toml).unwrap_err();
            assert!(error.contains(said), "{toml}: {error}");
        }
        let many: String = (0..=MOST_OWN_TYPES).map(|n| format!("[events.own_{n}]\nweight = 1\n")).collect();
        assert!(with(&many).unwrap_err().contains("65 types of its own"));
    }

    #[test]
    fn the_readme_shows_the_presets_as_they_are() {
        let readme = include_str!("../../README.md");

        assert!(readme.contains(&presets_table()), "put the output of `inkling config presets` into the README:\n{}", presets_table());
    }
}
