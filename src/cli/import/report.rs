//! What became of the rows: the first rejected ones in words, all of them in numbers.

use std::collections::BTreeMap;

use anyhow::bail;

use super::{Kind, destination::Written};
use crate::domain::FieldError;

/// Fields that the summary names; the rest is counted together.
const NAMED_FIELDS: usize = 12;

/// The tally of an import.
#[derive(Clone)]
pub(super) struct Report {
    errors: usize,
    strict: bool,
    created: u64,
    changed: u64,
    known: u64,
    rejected: u64,
    cut: u64,
    nameless: u64,
    fields: BTreeMap<String, u64>,
}

impl Report {
    /// Prints `errors` rejected rows; `strict` makes the first one the end.
    pub(super) fn new(errors: usize, strict: bool) -> Self {
        Self { errors, strict, created: 0, changed: 0, known: 0, rejected: 0, cut: 0, nameless: 0, fields: BTreeMap::new() }
    }

    pub(super) fn count(&mut self, written: &Written) {
        self.created += written.created;
        self.changed += written.changed;
        self.known += written.known;
    }

    /// Texts that were longer than they may be, and items whose id stands for a title.
    pub(super) fn note(&mut self, cut: u64, nameless: u64) {
        self.cut += cut;
        self.nameless += nameless;
    }

    /// Counts a rejected row; its words where it is one of the first.
    pub(super) fn reject(&mut self, file: &str, line: u64, faults: &[FieldError]) -> Option<String> {
        self.rejected += 1;
        let first = faults.first();
        let field = first.map_or("", |fault| fault.pointer.as_str());
        if self.fields.contains_key(field) || self.fields.len() < NAMED_FIELDS {
            *self.fields.entry(field.to_owned()).or_default() += 1;
        } else {
            *self.fields.entry("other fields".to_owned()).or_default() += 1;
        }
        (self.rejected <= self.errors as u64).then(|| {
            let faults: Vec<String> = faults.iter().take(3).map(|fault| format!("{} {}", fault.pointer, fault.detail).trim_start().to_owned()).collect();
            format!("{file}:{line}: {}", faults.join("; "))
        })
    }

    /// The end of a strict import.
    pub(super) fn check(&self, file: &str) -> anyhow::Result<()> {
        if self.strict && self.rejected > 0 {
            bail!("{file}: stopped after a rejected row, as --strict says; the rows before it are stored");
        }
        Ok(())
    }

    pub(super) fn stored(&self) -> u64 {
        self.created + self.changed + self.known
    }

    pub(super) fn rejected(&self) -> u64 {
        self.rejected
    }

    /// The summary, on stdout.
    pub(super) fn print(&self, kind: Kind) {
        println!("{}", self.words(kind));
    }

    fn words(&self, kind: Kind) -> String {
        let mut parts = match kind {
            Kind::Items => vec![format!("{} created", self.created), format!("{} changed", self.changed), format!("{} unchanged", self.known)],
            Kind::Interactions => vec![format!("{} new", self.created), format!("{} known already", self.known)],
        };
        parts.push(format!("{} rejected", self.rejected));
        let mut words = format!("{}: {}", kind.name(), parts.join(", "));
        if self.rejected > 0 {
            let field = |(field, count): (&String, &u64)| format!("{} {count}", if field.is_empty() { "whole row" } else { field });
            let fields: Vec<String> = self.fields.iter().map(field).collect();
            words.push_str(&format!(" ({})", fields.join(", ")));
            let hidden = self.rejected.saturating_sub(self.errors as u64);
            if hidden > 0 {
                words.push_str(&format!("; {hidden} of them not printed, see --errors"));
            }
        }
        if self.cut > 0 {
            words.push_str(&format!("; {} texts were cut to the length that is allowed", self.cut));
        }
        if self.nameless > 0 {
            words.push_str(&format!("; {} items had no words, their id stands for a title", self.nameless));
        }
        words
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_rejected_rows_are_printed_and_all_are_counted_by_field() {
        let mut report = Report::new(2, false);
        report.count(&Written { created: 5, known: 1, ..Written::default() });

        let printed: Vec<_> = (1..=30u64).filter_map(|line| report.reject("a.csv", line, &[FieldError::new(format!("/f{}", line % 20), "is wrong")])).collect();

        assert_eq!(printed, ["a.csv:1: /f1 is wrong", "a.csv:2: /f2 is wrong"]);
        let words = report.words(Kind::Interactions);
        assert!(words.starts_with("interactions: 5 new, 1 known already, 30 rejected"), "{words}");
        assert!(words.contains("28 of them not printed") && words.contains("other fields") && words.contains("/f1 2"), "{words}");
    }
}
