//! How far a mean stands for other users: the percentile interval of the bootstrap by units (Efron & Tibshirani 1993, chapter 13).
//!
//! In: of each unit (a user) the sum and the number of its values, a seed. Out: the interval in which 95 % of the means over drawn units lie. Whole
//! units are drawn, because the values of one user hang together. The same input and seed give the same interval on every machine.

use rand_pcg::{
    Pcg64Mcg,
    rand_core::{Rng, SeedableRng},
};

/// Draws of all units.
const RESAMPLES: usize = 1_000;
/// Below this share of the sorted means …
const LOW: f64 = 0.025;
/// … and above this one lie the other 5 %.
const HIGH: f64 = 0.975;

/// The values of one unit.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Unit {
    /// Of all its values.
    pub sum: f64,
    /// How many they are.
    pub count: usize,
}

impl Unit {
    /// Adds one value.
    pub fn add(&mut self, value: f64) {
        self.sum += value;
        self.count += 1;
    }
}

/// Where the mean would lie for other units of the same kind.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    /// 2.5 % lie below.
    pub low: f64,
    /// 2.5 % lie above.
    pub high: f64,
}

/// The mean over all values of all units; `None` without any.
pub fn mean(units: &[Unit]) -> Option<f64> {
    ratio(units.iter().copied())
}

/// The 95 % interval of [`mean`]; `None` without any value. With fewer than some 30 units it is too narrow.
pub fn bootstrap(units: &[Unit], seed: u64) -> Option<Interval> {
    let mut rng = Pcg64Mcg::seed_from_u64(seed);
    // A product of 128 bits is a fair draw for any number of units that fits into memory (Lemire 2019, without the rejection of 1 in 2^50).
    interval(units, RESAMPLES, || ((u128::from(rng.next_u64()) * units.len() as u128) >> 64) as usize)
}

/// With so many resamples, each of as many draws as there are units.
fn interval(units: &[Unit], resamples: usize, mut draw: impl FnMut() -> usize) -> Option<Interval> {
    mean(units)?;
    let mut means: Vec<f64> = (0..resamples).filter_map(|_| ratio((0..units.len()).map(|_| units[draw()]))).collect();
    means.sort_unstable_by(f64::total_cmp);
    let at = |share: f64| means.get((means.len() as f64 * share) as usize).copied();
    Some(Interval { low: at(LOW)?, high: at(HIGH)? })
}

fn ratio(units: impl Iterator<Item = Unit>) -> Option<f64> {
    let all = units.fold(Unit::default(), |all, unit| Unit { sum: all.sum + unit.sum, count: all.count + unit.count });
    (all.count > 0).then(|| all.sum / all.count as f64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize)]
    struct Golden {
        units: Vec<Vec<f64>>,
        resamples: usize,
        draws: Vec<usize>,
        low: f64,
        high: f64,
    }

    fn unit(values: &[f64]) -> Unit {
        let mut unit = Unit::default();
        values.iter().for_each(|value| unit.add(*value));
        unit
    }

    fn golden() -> (Golden, Vec<Unit>) {
        let golden: Golden = serde_json::from_str(include_str!("golden/bootstrap.json")).unwrap();
        let units = golden.units.iter().map(|values| unit(values)).collect();
        (golden, units)
    }

    #[test]
    fn with_the_same_draws_the_interval_is_that_of_the_scorer_over_http() {
        let (golden, units) = golden();
        let mut draws = golden.draws.iter().copied();

        let found = interval(&units, golden.resamples, || draws.next().unwrap()).unwrap();

        assert!((found.low - golden.low).abs() < 1e-12 && (found.high - golden.high).abs() < 1e-12, "{found:?}");
        assert_eq!(draws.next(), None);
    }

    #[test]
    fn draws_of_our_own_give_nearly_the_same_interval() {
        let (golden, units) = golden();

        let found = bootstrap(&units, 7).unwrap();

        let width = golden.high - golden.low;
        assert!((found.low - golden.low).abs() < 0.2 * width && (found.high - golden.high).abs() < 0.2 * width, "{found:?}");
    }

    #[test]
    fn one_seed_gives_one_interval_and_other_seeds_others() {
        let (_, units) = golden();

        assert_eq!(bootstrap(&units, 3), bootstrap(&units, 3));
        assert_ne!(bootstrap(&units, 3), bootstrap(&units, 4));
    }

    #[test]
    fn equal_values_have_no_spread_and_nothing_has_no_interval() {
        let same = [unit(&[0.25, 0.25]), unit(&[0.25])];

        assert_eq!(bootstrap(&same, 1), Some(Interval { low: 0.25, high: 0.25 }));
        assert_eq!(bootstrap(&[], 1), None);
        assert_eq!(bootstrap(&[Unit::default()], 1), None);
        assert_eq!(mean(&[]), None);
    }

    #[test]
    fn nine_in_ten_or_more_intervals_hold_the_true_mean() {
        let mut rng = Pcg64Mcg::seed_from_u64(5);
        let mut values = || (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64;

        let held = (0..200).filter(|seed| {
            let units: Vec<Unit> = (0..60).map(|_| unit(&[values()])).collect();
            bootstrap(&units, *seed).is_some_and(|found| (found.low..=found.high).contains(&0.5))
        });

        assert!(held.count() >= 180);
    }

    proptest! {
        #[test]
        fn an_interval_lies_within_the_values_and_holds_its_order(values in prop::collection::vec(prop::collection::vec(-1.0f64..1.0, 1..4), 1..20), seed: u64) {
            let units: Vec<Unit> = values.iter().map(|values| unit(values)).collect();
            let (least, most) = values.iter().flatten().fold((f64::MAX, f64::MIN), |(least, most), value| (least.min(*value), most.max(*value)));

            let found = bootstrap(&units, seed).unwrap();

            prop_assert!(found.low <= found.high);
            prop_assert!(found.low >= least - 1e-9 && found.high <= most + 1e-9);
        }
    }
}
