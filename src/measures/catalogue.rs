//! What many lists do to a catalogue and to each other: how much of it they show, how unevenly, how unexpected and how alike their items are.
//!
//! Coverage and Gini as in Herlocker et al. 2004 and Fleder & Hosanagar 2009; novelty as in Zhou et al. 2010; diversity within a list as in Smyth & McClave 2001.

/// The share of the catalogue that was shown at all. `showings`: of each item of the catalogue. 0 for an empty catalogue.
pub fn coverage(showings: &[u64]) -> f64 {
    let shown = showings.iter().filter(|count| **count > 0).count();
    if showings.is_empty() { 0.0 } else { shown as f64 / showings.len() as f64 }
}

/// How unevenly showings are spread: 0 where each item is shown as often as any other, towards 1 where one is shown alone. Items that
/// were never shown count. 0 where nothing was shown.
pub fn gini(showings: &[u64]) -> f64 {
    let mut sorted = showings.to_vec();
    sorted.sort_unstable();
    let (count, total) = (sorted.len() as f64, sorted.iter().map(|count| *count as f64).sum::<f64>());
    let weighted: f64 = (1..).zip(&sorted).map(|(rank, count)| f64::from(rank) * *count as f64).sum();
    if total > 0.0 { ((2.0 * weighted) / (count * total) - (count + 1.0) / count).max(0.0) } else { 0.0 }
}

/// Points of the Lorenz curve, the least shown items first: (share of the catalogue, share of the showings), `steps` + 1 of them from (0, 0) to (1, 1).
/// Empty where nothing was shown.
pub fn lorenz(showings: &[u64], steps: usize) -> Vec<(f64, f64)> {
    let mut sorted = showings.to_vec();
    sorted.sort_unstable();
    let total: u64 = sorted.iter().sum();
    if total == 0 || steps == 0 {
        return Vec::new();
    }
    let mut points = Vec::with_capacity(steps + 1);
    let (mut sum, mut taken) = (0, 0);
    for step in 0..=steps {
        let until = sorted.len() * step / steps;
        sum += sorted[taken..until].iter().sum::<u64>();
        taken = until;
        points.push((until as f64 / sorted.len() as f64, sum as f64 / total as f64));
    }
    points
}

/// How unexpected an item is, in bits: -log2 of its share of all events, as if each of `catalogue` items had had one more.
pub fn surprise(events: u64, all_events: u64, catalogue: usize) -> f64 {
    let share = (events + 1) as f64 / (all_events as f64 + catalogue.max(1) as f64);
    -share.min(1.0).log2()
}

/// The mean of 1 - cosine over all pairs of a list's items, 0 (all the same) to 2. `directions`: their embeddings, each of length 1 and of one width.
/// `None` with fewer than two.
pub fn intra_list_diversity<'a>(directions: impl IntoIterator<Item = &'a [f32]>) -> Option<f64> {
    let (mut sum, mut count) = (Vec::<f64>::new(), 0.0);
    for direction in directions {
        sum.resize(sum.len().max(direction.len()), 0.0);
        sum.iter_mut().zip(direction).for_each(|(total, x)| *total += f64::from(*x));
        count += 1.0;
    }
    // |sum|^2 is the sum of the cosines of all ordered pairs, each item with itself included.
    let all: f64 = sum.iter().map(|x| x * x).sum();
    (count >= 2.0).then(|| 1.0 - (all - count) / (count * (count - 1.0)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::measures::near;

    #[test]
    fn measures_agree_with_numbers_worked_out_by_hand() {
        near(coverage(&[3, 0, 1, 0]), 0.5);
        // Mean absolute difference over twice the mean: |1-3| + |1-0| + |3-0| = 6 pairs' sum, x 2 / (2 x 9 x 4/3).
        near(gini(&[1, 3, 0]), 12.0 / 24.0);
        near(gini(&[5, 5, 5]), 0.0);
        near(gini(&[0, 0, 0, 7]), 0.75);
        near(surprise(3, 28, 4), 3.0);
        near(surprise(0, 0, 1), 0.0);
        assert_eq!(lorenz(&[3, 1, 0, 0], 4), [(0.0, 0.0), (0.25, 0.0), (0.5, 0.0), (0.75, 0.25), (1.0, 1.0)]);
    }

    #[test]
    fn diversity_is_the_mean_distance_of_pairs() {
        let (east, north, west) = ([1.0f32, 0.0], [0.0f32, 1.0], [-1.0f32, 0.0]);

        near(intra_list_diversity([&east[..], &east]).unwrap(), 0.0);
        near(intra_list_diversity([&east[..], &north]).unwrap(), 1.0);
        near(intra_list_diversity([&east[..], &north, &west]).unwrap(), (1.0 + 2.0 + 1.0) / 3.0);
        assert_eq!(intra_list_diversity([&east[..]]), None);
        assert_eq!(intra_list_diversity([]), None);
    }

    #[test]
    fn nothing_shown_and_no_catalogue_are_zero() {
        for showings in [&[][..], &[0, 0]] {
            near(coverage(showings), 0.0);
            near(gini(showings), 0.0);
            assert!(lorenz(showings, 10).is_empty());
        }
    }

    proptest! {
        #[test]
        fn measures_stay_in_bounds_and_the_order_of_items_does_not_matter(mut showings in prop::collection::vec(0u64..1_000, 1..40)) {
            let (before, spread) = (gini(&showings), coverage(&showings));
            prop_assert!((0.0..1.0).contains(&before) && (0.0..=1.0).contains(&spread));

            showings.reverse();

            prop_assert!((gini(&showings) - before).abs() < 1e-9 && (coverage(&showings) - spread).abs() < 1e-12);
        }

        #[test]
        fn showing_the_most_shown_item_once_more_never_evens_things_out(showings in prop::collection::vec(0u64..50, 2..30)) {
            let most = (0..showings.len()).max_by_key(|item| showings[*item]).unwrap();
            let mut more = showings.clone();
            more[most] += 1;

            prop_assert!(gini(&more) >= gini(&showings) - 1e-12);
        }

        #[test]
        fn a_lorenz_curve_rises_below_the_diagonal(showings in prop::collection::vec(0u64..50, 1..60), steps in 1usize..30) {
            for pair in lorenz(&showings, steps).windows(2) {
                prop_assert!(pair[0].0 <= pair[1].0 && pair[0].1 <= pair[1].1 && pair[0].1 <= pair[0].0 + 1e-12);
            }
        }

        #[test]
        fn rarer_items_surprise_more(events in 0u64..1_000, more in 1u64..1_000, catalogue in 1usize..10_000) {
            prop_assert!(surprise(events, 5_000, catalogue) > surprise(events + more, 5_000, catalogue));
            prop_assert!(surprise(events, 5_000, catalogue) >= 0.0);
        }
    }
}
