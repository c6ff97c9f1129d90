//! The marks of every answer, and what they come to: means with intervals, paired differences, segments.

use std::collections::{BTreeMap, HashMap};

use crate::measures::{Unit, bootstrap, coverage, gini, lorenz, mean};

use super::{
    policies::Contender,
    report::{Difference, Figure, PolicyReport, Segment, SegmentFigure},
};

/// How many items are asked for.
pub(super) const DEPTH: usize = 100;
/// What somebody sees: of so many items coverage, spread, novelty and diversity are told.
pub(super) const SHOWN: usize = 10;
/// Where lists are cut.
pub(super) const CUTS: [usize; 6] = [1, 5, 10, 20, 50, DEPTH];
/// The measures, in the order of [`Answer::measures`].
pub(super) const MEASURES: [&str; 5] = ["ndcg", "recall", "hit", "mrr", "map"];
/// By this one contenders are compared: [`MEASURES`] and [`CUTS`] begin with 0.
const NDCG: usize = 0;
const AT_10: usize = 2;
/// Points of a Lorenz curve.
const LORENZ_STEPS: usize = 50;
/// Segments of fewer units say little.
pub(super) const FEW_UNITS: usize = 30;

/// The marks of one answer.
pub(super) struct Answer {
    pub(super) measures: [[f64; CUTS.len()]; MEASURES.len()],
    /// Places in the catalogue of the first [`SHOWN`] items.
    pub(super) shown: Vec<u32>,
    /// Mean over these, in bits.
    pub(super) surprise: Option<f64>,
    /// Among these.
    pub(super) diversity: Option<f64>,
    /// How many items came back.
    pub(super) items: usize,
}

/// What a question is counted under.
pub(super) struct Asked {
    pub(super) unit: String,
    pub(super) history: Option<usize>,
    pub(super) language: Option<String>,
    pub(super) scenario: String,
}

/// All answers of all contenders.
pub(super) struct Tally {
    contenders: Vec<Contender>,
    /// By unit, the numbers of its questions.
    units: Vec<Vec<usize>>,
    unit_of: HashMap<String, usize>,
    segments: BTreeMap<(Dimension, String), Vec<usize>>,
    /// By contender, by question.
    answers: Vec<Vec<Answer>>,
    /// By contender, by place in the catalogue.
    showings: Vec<Vec<u64>>,
    questions: usize,
}

/// What segments are made by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Dimension {
    History,
    Language,
    Scenario,
}

impl Dimension {
    fn name(self) -> &'static str {
        match self {
            Self::History => "history",
            Self::Language => "language",
            Self::Scenario => "scenario",
        }
    }
}

/// Events of a user before the question, in the order of reports.
fn history_segment(events: Option<usize>) -> &'static str {
    match events {
        None => "4 nobody known",
        Some(0) => "0 cold (no events)",
        Some(1..=4) => "1 few (1 to 4)",
        Some(5..=19) => "2 some (5 to 19)",
        Some(_) => "3 many (20 and more)",
    }
}

impl Tally {
    pub(super) fn new(contenders: Vec<Contender>, catalogue: usize) -> Self {
        let answers = contenders.iter().map(|_| Vec::new()).collect();
        let showings = contenders.iter().map(|_| vec![0; catalogue]).collect();
        Self { contenders, units: Vec::new(), unit_of: HashMap::new(), segments: BTreeMap::new(), answers, showings, questions: 0 }
    }

    /// One question with the answers of all contenders, in their order.
    pub(super) fn add(&mut self, asked: Asked, answers: Vec<Answer>) {
        let number = self.questions;
        self.questions += 1;
        let next = self.units.len();
        let unit = *self.unit_of.entry(asked.unit).or_insert(next);
        if unit == next {
            self.units.push(Vec::new());
        }
        self.units[unit].push(number);
        let language = asked.language.unwrap_or_else(|| "unknown".to_owned());
        let keys = [(Dimension::History, history_segment(asked.history).to_owned()), (Dimension::Language, language), (Dimension::Scenario, asked.scenario)];
        keys.into_iter().for_each(|key| self.segments.entry(key).or_default().push(number));
        for (contender, answer) in answers.into_iter().enumerate() {
            answer.shown.iter().for_each(|item| self.showings[contender][*item as usize] += 1);
            self.answers[contender].push(answer);
        }
    }

    pub(super) fn questions(&self) -> usize {
        self.questions
    }

    pub(super) fn units(&self) -> usize {
        self.units.len()
    }

    /// What each contender's answers come to.
    pub(super) fn policies(&self, seed: u64) -> Vec<PolicyReport> {
        (0..self.contenders.len()).map(|contender| self.policy(contender, seed)).collect()
    }

    fn policy(&self, contender: usize, seed: u64) -> PolicyReport {
        let (answers, showings) = (&self.answers[contender], &self.showings[contender]);
        let mut measures = BTreeMap::new();
        for (measure, name) in MEASURES.into_iter().enumerate() {
            for (cut, k) in CUTS.into_iter().enumerate() {
                let figure = self.figure(None, &|question| answers[question].measures[measure][cut], seed);
                measures.extend(figure.map(|figure| (format!("{name}@{k}"), figure)));
            }
        }
        let average = |of: &dyn Fn(&Answer) -> Option<f64>| {
            let known: Vec<f64> = answers.iter().filter_map(of).collect();
            (!known.is_empty()).then(|| known.iter().sum::<f64>() / known.len() as f64)
        };
        PolicyReport {
            name: self.contenders[contender],
            title: self.contenders[contender].title().to_owned(),
            n: self.questions,
            units: self.units.len(),
            measures,
            coverage_at_10: coverage(showings),
            gini_at_10: gini(showings),
            novelty_bits_at_10: average(&|answer| answer.surprise),
            // An embedding may differ by 1e-5 with its company in a batch; the report of the same data must not.
            diversity_at_10: average(&|answer| answer.diversity).map(|mean| (mean * 1e5).round() / 1e5),
            empty_lists: answers.iter().filter(|answer| answer.items == 0).count(),
            lorenz: lorenz(showings, LORENZ_STEPS),
        }
    }

    /// Ours against each of the others, question by question.
    pub(super) fn differences(&self, seed: u64) -> Vec<Difference> {
        let Some(ours) = self.contenders.iter().position(|one| *one == Contender::Ours) else { return Vec::new() };
        let mut differences = Vec::new();
        for other in (0..self.contenders.len()).filter(|other| *other != ours) {
            for (measure, name) in MEASURES.into_iter().enumerate() {
                let of = |contender: usize, question: usize| self.answers[contender][question].measures[measure][AT_10];
                let Some(figure) = self.figure(None, &|question| of(ours, question) - of(other, question), seed) else { continue };
                let count = |sign: f64| (0..self.questions).filter(|question| sign * (of(ours, *question) - of(other, *question)) > 1e-12).count();
                differences.push(Difference {
                    against: self.contenders[other],
                    measure: format!("{name}@{SHOWN}"),
                    figure,
                    better: count(1.0),
                    worse: count(-1.0),
                });
            }
        }
        differences
    }

    /// NDCG@10 by segment, of dimensions that divide the questions at all.
    pub(super) fn segments(&self, seed: u64) -> Vec<Segment> {
        let divides = |dimension: Dimension| self.segments.keys().filter(|(one, _)| *one == dimension).count() > 1;
        let mut segments = Vec::new();
        for ((dimension, name), questions) in self.segments.iter().filter(|((dimension, _), _)| divides(*dimension)) {
            let mut inside = vec![false; self.questions];
            questions.iter().for_each(|question| inside[*question] = true);
            let mut policies = Vec::new();
            for (contender, answers) in self.answers.iter().enumerate() {
                let figure = self.figure(Some(&inside), &|question| answers[question].measures[NDCG][AT_10], seed);
                policies.extend(figure.map(|figure| SegmentFigure { name: self.contenders[contender], figure }));
            }
            let units = policies.first().map_or(0, |one| one.figure.units);
            // The digit in front only sorts.
            let name = if *dimension == Dimension::History { name[2..].to_owned() } else { name.clone() };
            segments.push(Segment { by: dimension.name().to_owned(), name, n: questions.len(), units, few_units: units < FEW_UNITS, ndcg_at_10: policies });
        }
        segments
    }

    /// The mean of a value over questions, with its interval over units.
    fn figure(&self, inside: Option<&[bool]>, value: &dyn Fn(usize) -> f64, seed: u64) -> Option<Figure> {
        let mut units = Vec::with_capacity(self.units.len());
        for questions in &self.units {
            let mut unit = Unit::default();
            questions.iter().filter(|question| inside.is_none_or(|inside| inside[**question])).for_each(|question| unit.add(value(*question)));
            if unit.count > 0 {
                units.push(unit);
            }
        }
        let (mean, interval) = (mean(&units)?, bootstrap(&units, seed)?);
        Some(Figure { mean, low: interval.low, high: interval.high, n: units.iter().map(|unit| unit.count).sum(), units: units.len() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(ndcg: f64, shown: &[u32]) -> Answer {
        let mut measures = [[0.0; CUTS.len()]; MEASURES.len()];
        measures[NDCG][AT_10] = ndcg;
        Answer { measures, shown: shown.to_vec(), surprise: Some(2.0), diversity: None, items: shown.len() }
    }

    fn asked(unit: &str, history: usize) -> Asked {
        Asked { unit: unit.to_owned(), history: Some(history), language: None, scenario: "default".to_owned() }
    }

    fn tally() -> Tally {
        let mut tally = Tally::new(vec![Contender::Ours, Contender::Popularity], 4);
        tally.add(asked("u", 0), vec![answer(1.0, &[0, 1]), answer(0.5, &[0])]);
        tally.add(asked("u", 30), vec![answer(0.5, &[2]), answer(0.5, &[0])]);
        tally.add(asked("v", 40), vec![answer(0.0, &[]), answer(0.2, &[0])]);
        tally
    }

    #[test]
    fn means_are_over_questions_and_intervals_over_units() {
        let policies = tally().policies(7);

        let ndcg = &policies[0].measures["ndcg@10"];
        assert!((ndcg.mean - 0.5).abs() < 1e-12 && (ndcg.n, ndcg.units) == (3, 2));
        assert!((ndcg.low - 0.0).abs() < 1e-12 && (ndcg.high - 0.75).abs() < 1e-12, "{ndcg:?}");
        assert!((policies[0].coverage_at_10 - 0.75).abs() < 1e-12 && (policies[1].coverage_at_10 - 0.25).abs() < 1e-12);
        assert!(policies[1].gini_at_10 > policies[0].gini_at_10);
        assert_eq!((policies[0].empty_lists, policies[0].diversity_at_10, policies[0].novelty_bits_at_10), (1, None, Some(2.0)));
    }

    #[test]
    fn differences_are_paired_and_say_how_often_ours_was_better() {
        let differences = tally().differences(7);

        let ndcg = differences.iter().find(|one| one.measure == "ndcg@10").unwrap();
        assert!((ndcg.figure.mean - 0.1).abs() < 1e-12);
        assert_eq!((ndcg.against, ndcg.better, ndcg.worse), (Contender::Popularity, 1, 1));
    }

    #[test]
    fn segments_tell_how_few_they_are_and_what_divides_nothing_is_none() {
        let segments = tally().segments(7);

        let told: Vec<_> = segments.iter().map(|one| (one.by.as_str(), one.name.as_str(), one.n, one.units, one.few_units)).collect();
        assert_eq!(told, [("history", "cold (no events)", 1, 1, true), ("history", "many (20 and more)", 2, 2, true)]);
        assert!((segments[1].ndcg_at_10[1].figure.mean - 0.35).abs() < 1e-12);
    }
}
