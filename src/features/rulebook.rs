//! The rules in force: those of the settings and those kept in the store, one of each name, read by every request.
//!
//! A rule may name an attribute that no item has had yet; it sleeps until one has. A kept rule takes the place of the settings' of its name.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use arc_swap::ArcSwap;

use crate::domain::{AttributeType, FieldError, Rule, RuleDocument, RuleName};

/// Rules of one origin, the settings or the store. Each request looks at all of them.
pub const MAX_RULES: usize = 200;

/// Where a rule comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The settings file: changed there.
    Settings,
    /// The store: put and deleted over HTTP.
    Store,
}

/// A rule as it was written, and its origin.
#[derive(Debug, Clone, PartialEq)]
pub struct WrittenRule {
    /// All of it.
    pub document: RuleDocument,
    /// Whence.
    pub origin: Origin,
}

/// What lists are arranged by; cheap to read, written by ingest only.
#[derive(Debug)]
pub struct Rulebook {
    settings: BTreeMap<RuleName, RuleDocument>,
    kept: Mutex<Kept>,
    in_force: ArcSwap<Vec<Arc<Rule>>>,
}

#[derive(Debug, Default)]
struct Kept {
    revision: i64,
    documents: BTreeMap<RuleName, RuleDocument>,
    /// Rules that wait for an attribute.
    asleep: bool,
}

/// The settings' rules cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("setting rules.{place}{}: {}", .fault.pointer.replace('/', "."), .fault.detail)]
pub struct InvalidRules {
    /// Which of them, counted from 0.
    pub place: usize,
    /// What is wrong.
    pub fault: FieldError,
}

/// Checks what can be checked of the settings' rules before the catalogue is known: all but the attributes that they name.
pub fn check_rules(rules: &[RuleDocument]) -> Result<(), InvalidRules> {
    let invalid = |place: usize, pointer: &str, detail: String| Err(InvalidRules { place, fault: FieldError::new(pointer, detail) });
    if rules.len() > MAX_RULES {
        return invalid(MAX_RULES, "", format!("there may be {MAX_RULES} rules"));
    }
    for (place, rule) in rules.iter().enumerate() {
        if rules[..place].iter().any(|other| other.name == rule.name) {
            return invalid(place, "/name", "another rule has this name".to_owned());
        }
        if let Outcome::Invalid(faults) = read(rule, &|_| None) {
            return Err(InvalidRules { place, fault: faults.into_iter().next().unwrap_or_else(|| FieldError::new("", "is no rule")) });
        }
    }
    Ok(())
}

enum Outcome {
    Rule(Arc<Rule>),
    /// It names an attribute that no item has had yet.
    Asleep,
    Invalid(Vec<FieldError>),
}

fn read(document: &RuleDocument, attribute_type: &dyn Fn(&str) -> Option<AttributeType>) -> Outcome {
    let unknown = std::cell::Cell::new(false);
    let typed = |name: &str| {
        let known = attribute_type(name);
        unknown.set(unknown.get() || known.is_none());
        known
    };
    match document.check(&typed) {
        Ok(rule) => Outcome::Rule(Arc::new(rule)),
        Err(_) if unknown.get() => Outcome::Asleep,
        Err(faults) => Outcome::Invalid(faults),
    }
}

impl Rulebook {
    /// With the rules of the settings, once the catalogue's attributes are [known](Self::keep).
    pub fn new(settings: &[RuleDocument]) -> Self {
        let settings = settings.iter().map(|rule| (rule.name.clone(), rule.clone())).collect();
        Self { settings, kept: Mutex::default(), in_force: ArcSwap::default() }
    }

    /// The rules in force, by name: the same on every replica.
    pub fn in_force(&self) -> Arc<Vec<Arc<Rule>>> {
        self.in_force.load_full()
    }

    /// Takes over the rules that the store has at a revision; an older one than is known changes nothing.
    pub fn keep(&self, revision: i64, documents: Vec<RuleDocument>, attribute_type: &dyn Fn(&str) -> Option<AttributeType>) {
        let mut kept = self.lock();
        if revision < kept.revision {
            return;
        }
        kept.revision = revision;
        kept.documents = documents.into_iter().map(|rule| (rule.name.clone(), rule)).collect();
        self.enforce(&mut kept, attribute_type);
    }

    /// The store's revision that is known here.
    pub fn revision(&self) -> i64 {
        self.lock().revision
    }

    /// Looks again at rules that wait for an attribute, because items have changed.
    pub fn wake(&self, attribute_type: &dyn Fn(&str) -> Option<AttributeType>) {
        let mut kept = self.lock();
        if kept.asleep {
            self.enforce(&mut kept, attribute_type);
        }
    }

    /// All rules as they were written, by name.
    pub fn written(&self) -> Vec<WrittenRule> {
        let kept = self.lock();
        let mut all: BTreeMap<&RuleName, WrittenRule> = BTreeMap::new();
        for (origin, documents) in [(Origin::Settings, &self.settings), (Origin::Store, &kept.documents)] {
            all.extend(documents.iter().map(|(name, document)| (name, WrittenRule { document: document.clone(), origin })));
        }
        all.into_values().collect()
    }

    /// The rule of that name as it was written.
    pub fn rule(&self, name: &RuleName) -> Option<WrittenRule> {
        let kept = self.lock();
        let of = |documents: &BTreeMap<RuleName, RuleDocument>, origin| documents.get(name).map(|document| WrittenRule { document: document.clone(), origin });
        of(&kept.documents, Origin::Store).or_else(|| of(&self.settings, Origin::Settings))
    }

    fn enforce(&self, kept: &mut Kept, attribute_type: &dyn Fn(&str) -> Option<AttributeType>) {
        kept.asleep = false;
        let mut rules: BTreeMap<&RuleName, &RuleDocument> = self.settings.iter().collect();
        rules.extend(&kept.documents);
        let mut in_force = Vec::with_capacity(rules.len());
        for document in rules.into_values() {
            match read(document, attribute_type) {
                Outcome::Rule(rule) => in_force.push(rule),
                Outcome::Asleep => kept.asleep = true,
                Outcome::Invalid(faults) => {
                    tracing::warn!(rule = document.name.as_str(), ?faults, "the rule {} is not in force: it cannot be read", document.name)
                }
            }
        }
        self.in_force.store(Arc::new(in_force));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value as Json, json};

    use super::*;

    fn rule(name: &str, exclude: &Json) -> RuleDocument {
        serde_json::from_value(json!({"name": name, "exclude": exclude})).unwrap()
    }

    fn names(book: &Rulebook) -> Vec<String> {
        book.in_force().iter().map(|rule| rule.name.to_string()).collect()
    }

    #[test]
    fn a_kept_rule_takes_the_place_of_the_settings_rule_and_gives_it_back() {
        let book = Rulebook::new(&[rule("b", &json!({"tags": "x"})), rule("a", &json!({}))]);

        book.keep(2, vec![rule("b", &json!({"tags": "y"})), rule("c", &json!({}))], &|_| None);

        assert_eq!(names(&book), ["a", "b", "c"]);
        let b = RuleName::new("b").unwrap();
        assert_eq!(book.rule(&b).map(|written| (written.document.exclude, written.origin)), Some((Some(json!({"tags": "y"})), Origin::Store)));
        book.keep(1, vec![], &|_| None);
        assert_eq!(book.revision(), 2, "older news change nothing");
        book.keep(3, vec![], &|_| None);
        assert_eq!(book.rule(&b).map(|written| (written.document.exclude, written.origin)), Some((Some(json!({"tags": "x"})), Origin::Settings)));
        assert_eq!(book.written().len(), 2);
    }

    #[test]
    fn a_rule_sleeps_until_its_attribute_is_known() {
        let book = Rulebook::new(&[rule("a", &json!({"attributes.size": {"gt": 4}}))]);
        book.keep(0, vec![], &|_| None);
        assert_eq!(names(&book), [""; 0]);

        book.wake(&|_| Some(AttributeType::Number));

        assert_eq!(names(&book), ["a"]);
    }

    #[test]
    fn rules_of_the_settings_are_checked_as_far_as_can_be() {
        assert_eq!(check_rules(&[rule("a", &json!({"attributes.size": 4})), rule("b", &json!({}))]), Ok(()));
        for (rules, key) in [
            (vec![rule("a", &json!({})), rule("a", &json!({}))], "rules.1.name"),
            (vec![rule("a", &json!({"colour": 4}))], "rules.0.exclude.colour"),
            ((0..=MAX_RULES).map(|n| rule(&format!("r{n}"), &json!({}))).collect(), "rules.200"),
        ] {
            assert!(check_rules(&rules).unwrap_err().to_string().contains(&format!("setting {key}:")));
        }
    }
}
