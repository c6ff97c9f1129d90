//! Past questions with every candidate's features, and weights -> what a score comes to as a chance.
//!
//! Isotonic regression by pooling adjacent violators (Zadrozny & Elkan 2002) over groups of candidates of like scores, each with enough that came
//! true to have a rate. It is judged on the lists that it was not made of. Blocking and pure.

use serde::Serialize;

use super::{selection::DEPTH, weights::Question};
use crate::{domain::FeatureVector, learned::Calibration};

/// What came true in a group, so that its rate is known to a third.
const LEAST_TRUE: usize = 10;
/// Groups at most: a line of more knots is finer than what is known.
const MOST_GROUPS: usize = 32;
/// The questions are judged without each part of them in turn.
const PARTS: usize = 5;

/// How the chances of the first [`DEPTH`] of each list that was held out came true, per list.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct CameTrue {
    /// What the chances add up to.
    expected: f64,
    /// What was wanted.
    observed: f64,
}

/// A line from scores to chances, and how it did. `None` where too little came true, or where the line says no more than one rate for all would.
pub(super) fn fit(questions: &[Question<'_>], weights: &FeatureVector) -> Option<(Calibration, CameTrue)> {
    let lists: Vec<Vec<Scored>> = questions.iter().map(|question| scored(question, weights)).collect();
    let calibration = Calibration::new(*weights, knots(lists.iter().flatten().copied().collect()))?;
    let (mut expected, mut observed, mut count, mut loss, mut loss_of_one_rate) = (0.0, 0.0, 0, 0.0, 0.0);
    for part in 0..PARTS {
        let is_held_out = |place: usize| place % PARTS == part;
        let learn: Vec<Scored> = lists.iter().enumerate().filter(|(place, _)| !is_held_out(*place)).flat_map(|(_, list)| list).copied().collect();
        let rate = learn.iter().filter(|one| one.is_wanted).count() as f64 / learn.len().max(1) as f64;
        let line = Calibration::new(*weights, knots(learn))?;
        for list in lists.iter().enumerate().filter_map(|(place, list)| is_held_out(place).then_some(list)) {
            for one in list.iter().take(DEPTH) {
                let (chance, came) = (f64::from(line.chance(one.score)), f64::from(u8::from(one.is_wanted)));
                expected += chance;
                observed += came;
                loss += (chance - came).powi(2);
                loss_of_one_rate += (rate - came).powi(2);
            }
            count += 1;
        }
    }
    let per_list = f64::from(count.max(1));
    (loss < loss_of_one_rate).then_some((calibration, CameTrue { expected: expected / per_list, observed: observed / per_list }))
}

#[derive(Debug, Clone, Copy)]
struct Scored {
    score: f32,
    is_wanted: bool,
}

/// The candidates, best first.
fn scored(question: &Question<'_>, weights: &FeatureVector) -> Vec<Scored> {
    let score = |candidate: &FeatureVector| candidate.iter().zip(weights).map(|(part, weight)| part * weight).sum();
    let one = |(place, candidate): (usize, &FeatureVector)| Scored { score: score(candidate), is_wanted: question.relevant.contains(&place) };
    let mut scored: Vec<Scored> = question.candidates.iter().enumerate().map(one).collect();
    scored.sort_by(|a, b| b.score.total_cmp(&a.score));
    scored
}

/// Candidates of like scores.
#[derive(Debug, Clone, Copy, Default)]
struct Group {
    count: usize,
    wanted: usize,
    scores: f64,
}

impl Group {
    fn with(self, other: Self) -> Self {
        Self { count: self.count + other.count, wanted: self.wanted + other.wanted, scores: self.scores + other.scores }
    }

    fn rate(&self) -> f64 {
        self.wanted as f64 / self.count as f64
    }
}

/// Mean score and rate of each group, by score; empty where not even one group has enough that came true.
fn knots(mut scored: Vec<Scored>) -> Vec<(f32, f32)> {
    scored.sort_by(|a, b| b.score.total_cmp(&a.score));
    let wanted = scored.iter().filter(|one| one.is_wanted).count();
    if wanted < LEAST_TRUE {
        return Vec::new();
    }
    let enough = LEAST_TRUE.max(wanted.div_ceil(MOST_GROUPS));
    let mut groups: Vec<Group> = Vec::new(); // best first
    let mut open = Group::default();
    for (place, one) in scored.iter().enumerate() {
        open = open.with(Group { count: 1, wanted: usize::from(one.is_wanted), scores: f64::from(one.score) });
        // Equal scores have equal chances.
        let is_end = scored.get(place + 1).is_none_or(|next| next.score < one.score);
        if is_end && open.wanted >= enough {
            pool(&mut groups, std::mem::take(&mut open));
        }
    }
    // What is left at the low end has a rate of its own, however few came true there.
    if open.count > 0 {
        pool(&mut groups, open);
    }
    groups.iter().rev().map(|group| ((group.scores / group.count as f64) as f32, group.rate() as f32)).collect()
}

/// Adds a group of lower scores; a rate above those before it is a violation, so they become one.
fn pool(groups: &mut Vec<Group>, mut group: Group) {
    while let Some(before) = groups.pop_if(|before| before.rate() <= group.rate()) {
        group = group.with(before);
    }
    groups.push(group);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand_pcg::{
        Pcg64Mcg,
        rand_core::{Rng, SeedableRng},
    };

    use super::*;
    use crate::domain::Feature;

    const WEIGHTS: FeatureVector = [1.0; Feature::ALL.len()];

    /// Fifty candidates a question; one of a score of x from 0 to 1 was wanted with a chance of x³.
    fn questions(count: usize) -> Vec<Question<'static>> {
        let mut random = Pcg64Mcg::seed_from_u64(7);
        let mut random = || (random.next_u32() >> 8) as f32 / (1 << 24) as f32;
        let mut of = |_| {
            let scores: Vec<f32> = (0..50).map(|_| random()).collect();
            let relevant: Vec<usize> = (0..50).filter(|place| random() < scores[*place].powi(3)).collect();
            let candidates: Vec<FeatureVector> = scores.iter().map(|score| std::array::from_fn(|feature| if feature == 0 { *score } else { 0.0 })).collect();
            Question { wanted: relevant.len(), relevant, candidates: candidates.leak() }
        };
        (0..count).map(&mut of).collect()
    }

    #[test]
    fn chances_are_those_that_came_true_also_where_it_did_not_look() {
        let (line, came_true) = fit(&questions(400), &WEIGHTS).unwrap();

        for score in [0.3_f32, 0.6, 0.8, 0.95] {
            assert!((line.chance(score) - score.powi(3)).abs() < 0.05, "{score}: {}", line.chance(score));
        }
        assert!((came_true.expected / came_true.observed - 1.0).abs() < 0.05, "{came_true:?}");
        assert!(line.knows(&WEIGHTS));
    }

    #[test]
    fn scores_that_say_nothing_and_too_few_that_came_true_make_no_line() {
        let mut noise = questions(400);
        for question in &mut noise {
            let mut candidates = question.candidates.to_vec();
            candidates.iter_mut().enumerate().for_each(|(place, candidate)| candidate[0] = ((place * 37) % 50) as f32);
            question.candidates = candidates.leak();
        }

        assert_eq!(fit(&noise, &[0.0; Feature::ALL.len()]), None, "one score for all");
        assert_eq!(fit(&questions(400)[..1], &WEIGHTS), None);
        assert_eq!(fit(&[], &WEIGHTS), None);
    }

    proptest! {
        #[test]
        fn any_scores_make_a_line_that_keeps_the_number_of_those_that_came_true(all in prop::collection::vec((-3i8..3, any::<bool>()), 0..200)) {
            let scored: Vec<Scored> = all.iter().map(|(score, is_wanted)| Scored { score: f32::from(*score), is_wanted: *is_wanted }).collect();
            let wanted = scored.iter().filter(|one| one.is_wanted).count();
            let knots = knots(scored);
            prop_assert_eq!(knots.is_empty(), wanted < LEAST_TRUE);
            prop_assert!(knots.is_empty() || Calibration::new(WEIGHTS, knots).is_some());
        }
    }
}
