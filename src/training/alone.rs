//! One learner by itself, with its dials chosen on the held-out likes: what [`fit`](super::fit) blends and has to beat.

use rustc_hash::FxHashSet;

use super::{
    ease::{self, Plan},
    fit::LAMBDAS,
    interactions::{Case, Histories, Interaction, Likes},
    item_knn::ItemKnn,
    low_rank,
    selection::{self, Model},
    settings::TrainingSettings,
};
use crate::learned::{Collaborative, FoldIn, ItemItem};

/// Which one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Learner {
    /// EASE^R on the head of the catalogue.
    Ease,
    /// Item-kNN on all of it.
    ItemKnn,
    /// Implicit ALS on all of it.
    Als,
}

impl Learner {
    /// Its weights, learned from everything with the dials that answer the held-out likes best; `None` where that is too little. Blocks for seconds.
    pub(super) fn fit(self, interactions: &[Interaction], settings: &TrainingSettings) -> Option<Collaborative> {
        let histories = Histories::collect(interactions);
        let (known, cases) = histories.hold_out(&FxHashSet::default());
        let (known, likes) = (known.likes(), histories.likes());
        if cases.is_empty() {
            return None;
        }
        let learn = || match self {
            Self::Ease => {
                let (known, likes) = (known.of_liked_items(), likes.of_liked_items());
                let fit = |likes: &Likes, lambda: f32| ease::fit(likes, lambda, Plan::within(settings.memory_mb, likes), settings.neighbours);
                let mut best = best(LAMBDAS, &cases, |lambda| fit(&known, lambda))?;
                let near = [best.dial / 2.0, best.dial * 2.0];
                if let Some(nearer) = self::best(near, &cases, |lambda| fit(&known, lambda)).filter(|nearer| nearer.score > best.score) {
                    best = nearer;
                }
                Some(fit(&likes, best.dial)?.with_fold_in(best.fold_in).into())
            }
            Self::ItemKnn => {
                let best = best(ItemKnn::COSINE.into_iter().chain(ItemKnn::BM25), &cases, |knn| Some(knn.fit(&known, settings.neighbours)))?;
                Some(best.dial.fit(&likes, settings.neighbours).with_fold_in(best.fold_in).into())
            }
            Self::Als => {
                let best = best(low_rank::GRID.map(|als| als.suited(&known)), &cases, |als| als.factors(&known, 1.0))?;
                let factors = Some(best.dial.factors(&likes, 1.0)?);
                Some(Collaborative { item_item: ItemItem::default().with_fold_in(best.fold_in), factors })
            }
        };
        // A pool of its own, so that the given number of threads is kept; where the system has no threads left, the caller's pool does it.
        match rayon::ThreadPoolBuilder::new().num_threads(settings.threads).thread_name(|i| format!("training-{i}")).build() {
            Ok(pool) => pool.install(learn),
            Err(_) => learn(),
        }
    }
}

struct Best<T> {
    dial: T,
    fold_in: FoldIn,
    score: f64,
}

/// The dial whose model answers best, each with the half-life that suits it; the first of equals.
fn best<T: Copy, M: Model>(dials: impl IntoIterator<Item = T>, cases: &[Case], fit: impl Fn(T) -> Option<M>) -> Option<Best<T>> {
    let mut best: Option<Best<T>> = None;
    for dial in dials {
        let Some(model) = fit(dial) else { continue };
        let (fold_in, marks) = selection::half_life(&model, cases);
        let score = marks.mean();
        if best.as_ref().is_none_or(|best| score > best.score) {
            best = Some(Best { dial, fold_in, score });
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ItemKey;

    fn settings() -> TrainingSettings {
        TrainingSettings { every_events: 0, min_events: 10, memory_mb: 16, threads: 1, neighbours: 20, keep_versions: 3 }
    }

    #[test]
    fn each_learner_alone_knows_what_goes_together() {
        // Half of the actors like some of items 0 to 9, the others some of 10 to 19.
        let like = |actor: u32, n: u32| Interaction { actor, item: ItemKey((actor % 2) * 10 + (actor + n * n) % 10), at_ms: i64::from(n), weight: 1.0 };
        let log: Vec<Interaction> = (0..40).flat_map(|actor| (0..5).map(move |n| like(actor, n))).collect();

        for learner in [Learner::Ease, Learner::ItemKnn, Learner::Als] {
            let weights = learner.fit(&log, &settings()).unwrap();

            let scores = weights.score(&[(ItemKey(3), 1.0)]);
            let best = scores.iter().filter(|(item, _)| *item != ItemKey(3)).max_by(|a, b| a.1.total_cmp(&b.1)).unwrap();
            assert!(best.0.0 < 10, "{learner:?}: {scores:?}");
        }
    }

    #[test]
    fn a_log_in_which_nothing_goes_together_teaches_nothing() {
        let lonely: Vec<Interaction> = (0..50).map(|actor| Interaction { actor, item: ItemKey(actor), at_ms: 0, weight: 1.0 }).collect();

        for learner in [Learner::Ease, Learner::ItemKnn, Learner::Als] {
            assert!(learner.fit(&lonely, &settings()).is_none() && learner.fit(&[], &settings()).is_none());
        }
    }
}
