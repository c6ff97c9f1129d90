//! A log of interactions -> the item-item weights to publish, item factors beside them where they help, and a report of how they were chosen.
//!
//! The newest likes of each actor are held out; EASE^R over a grid of λ, item-kNN over a small grid, blends of the two and implicit ALS beside the best
//! blend answer for them; the winner is fitted again on everything. Blocking and pure: seconds of computing, no clock, no I/O, the same input gives the same weights.

use rustc_hash::FxHashSet;
use serde::{Deserialize, Serialize};

use super::{
    ease::{self, Form, Plan},
    interactions::{Case, Histories, Interaction, Likes},
    item_knn::ItemKnn,
    low_rank::{self, Beside, LowRank},
    selection::{self, Marks},
    settings::TrainingSettings,
};
use crate::{
    domain::ItemKey,
    learned::{Collaborative, FoldIn, ItemItem, ItemItemBuilder},
};

/// λ by a factor of 4, then one step of 2 to either side of the best: NDCG is flat around the optimum (MovieLens .139 from 100 to 400).
pub(super) const LAMBDAS: [f32; 5] = [4.0, 16.0, 64.0, 256.0, 1024.0];
/// Item-kNN's share in a blend.
const SHARES: [f32; 4] = [0.1, 0.2, 0.4, 0.7];
/// How much item-kNN counts where EASE^R does not reach, the first unless another is better: similarities of rare items are large by chance, and in full they
/// cost NDCG@10 .006 on MovieLens (5,534 of 7,082 films in the head).
const TAIL_SHARES: [f32; 3] = [0.1, 0.3, 1.0];

/// Where training stands, for progress bars and logs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Progress {
    /// What is being done.
    pub stage: &'static str,
    /// 0 to 1, of all the work.
    pub share: f32,
}

/// Why there is nothing to publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TooLittle {
    /// Wait for more.
    #[error("{found} good events are too few to learn from; {needed} are needed")]
    Events {
        /// Good events there are.
        found: usize,
        /// `min_events` of the settings.
        needed: usize,
    },
    /// There are enough events, but no one liked two things.
    #[error("no one liked two items yet, so nothing goes together")]
    Together,
}

/// What was tried, and how well it did on the held-out likes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tried {
    /// Such as `ease 64`, `knn 0.5 10` or `als 64 8 20 alone`.
    pub name: String,
    /// Mean NDCG@10.
    pub ndcg_at_10: f64,
}

/// How the published weights came about. No user ids in it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Actors with at least one event.
    pub actors: usize,
    /// Items with at least one event.
    pub items: usize,
    /// Distinct (actor, item) pairs that were liked.
    pub likes: usize,
    /// Actors whose newest likes were held out for the choice.
    pub held_out: usize,
    /// Items that EASE^R covers; item-kNN covers all.
    pub head: usize,
    /// How EASE^R was computed.
    pub form: Form,
    /// EASE^R's regularisation.
    pub lambda: f32,
    /// Item-kNN's similarity.
    pub knn: ItemKnn,
    /// Item-kNN's share: 0 is EASE^R alone, 1 item-kNN alone.
    pub knn_share: f32,
    /// Item-kNN's share where EASE^R does not reach.
    pub tail_share: f32,
    /// How histories are folded in.
    pub fold_in: FoldIn,
    /// Whether implicit ALS is used, and why.
    pub als: LowRank,
    /// Of what is published, on the held-out likes.
    pub ndcg_at_10: f64,
    /// Of the most liked items for everyone: the control.
    pub popularity_ndcg_at_10: f64,
    /// Everything that was tried, in order.
    pub tried: Vec<Tried>,
    /// Weights published.
    pub weights: usize,
}

/// The result of [`fit`].
#[derive(Debug)]
pub(super) struct Fitted {
    /// To be saved and published.
    pub(super) collaborative: Collaborative,
    /// The same way of learning, without the held-out likes: what the questions may be asked of.
    pub(super) known: Collaborative,
    /// The held-out likes.
    pub(super) cases: Vec<Case>,
    /// How it came about.
    pub(super) report: Report,
}

/// Learns item-item weights, and factors where they help. What `asked` names is kept back for other questions until the choice is made. Blocks for seconds; call it from a
/// thread that may.
pub(super) fn fit(
    interactions: &[Interaction],
    asked: &FxHashSet<(u32, ItemKey)>,
    settings: &TrainingSettings,
    progress: &mut (dyn FnMut(Progress) + Send),
) -> Result<Fitted, TooLittle> {
    let histories = Histories::collect(interactions);
    let likes: usize = histories.actors.iter().flatten().filter(|(_, signal)| *signal > 0.0).count();
    if likes < settings.min_events.max(1) {
        return Err(TooLittle::Events { found: likes, needed: settings.min_events.max(1) });
    }
    let (known, cases) = histories.hold_out(asked);
    if cases.is_empty() {
        return Err(TooLittle::Together);
    }
    // A pool of its own, so that the given number of threads is kept; where the system has no threads left, the caller's pool does it.
    match rayon::ThreadPoolBuilder::new().num_threads(settings.threads).thread_name(|i| format!("training-{i}")).build() {
        Ok(pool) => pool.install(|| Fit { histories, known, cases, settings, tried: Vec::new() }.run(progress)),
        Err(_) => Fit { histories, known, cases, settings, tried: Vec::new() }.run(progress),
    }
}

struct Fit<'a> {
    histories: Histories,
    known: Histories,
    cases: Vec<Case>,
    settings: &'a TrainingSettings,
    tried: Vec<Tried>,
}

/// One candidate with its score and the half-life that goes with it.
struct Best<T> {
    choice: T,
    weights: ItemItem,
    fold_in: FoldIn,
    score: f64,
}

impl Fit<'_> {
    fn run(mut self, progress: &mut (dyn FnMut(Progress) + Send)) -> Result<Fitted, TooLittle> {
        let known = self.known.likes();
        progress(Progress { stage: "item-kNN", share: 0.0 });
        let (cosine, bm25) = (self.choose_knn(&ItemKnn::COSINE, &known), self.choose_knn(&ItemKnn::BM25, &known));
        let ease = self.choose_lambda(&known, progress);
        progress(Progress { stage: "blend", share: 0.8 });
        let (knn, blended) = self.choose_blend(ease.as_ref(), cosine, bm25);
        let Blended { shares, weights, .. } = blended;
        let (fold_in, marks) = selection::fold_in(&weights, self.histories.graded(), &self.cases);
        self.note("fold-in".to_owned(), marks.mean());
        let weights = weights.with_fold_in(fold_in);
        progress(Progress { stage: "ALS", share: 0.82 });
        let beside = Beside { weights: &weights, marks: &marks, cases: &self.cases };
        let (winner, reason) = low_rank::choose(&known, &beside, self.settings.memory_mb, &mut self.tried);
        let score = winner.as_ref().map_or(marks.mean(), |winner| winner.score);
        let used = winner.as_ref().map(|winner| winner.used);

        progress(Progress { stage: "fit on everything", share: 0.85 });
        let popularity: Vec<(ItemKey, f32)> = known.items.iter().zip(&known.by_item).map(|(item, actors)| (*item, actors.len() as f32)).collect();
        let popularity = selection::judge_popularity(&popularity, &self.cases).mean();
        drop(known);
        let likes = self.histories.likes();
        let lambda = ease.as_ref().map_or(LAMBDAS[2], |ease| ease.choice);
        drop(ease);
        let head = likes.of_liked_items();
        let plan = Plan::within(self.settings.memory_mb, &head);
        let neighbours = self.settings.neighbours;
        let all_ease = if shares.head < 1.0 { ease::fit(&head, lambda, plan, neighbours).unwrap_or_default() } else { ItemItem::default() };
        drop(head);
        // Item-kNN is also what reaches beyond the head.
        let all_knn = if shares.head > 0.0 || plan.head < likes.items.len() { knn.fit(&likes, neighbours) } else { ItemItem::default() };
        let item_item = blend(&all_ease, &all_knn, shares, neighbours).with_fold_in(fold_in);
        let completed = |item_item: ItemItem, factors| match used {
            Some(used) if used.alone => Collaborative { item_item: ItemItem::default().with_fold_in(fold_in), factors },
            _ => Collaborative { item_item, factors },
        };
        let factors = used.and_then(|used| used.als.factors(&likes, used.strength));
        let collaborative = completed(item_item, factors);
        progress(Progress { stage: "done", share: 1.0 });
        let report = Report {
            actors: self.histories.actors.len(),
            items: likes.items.len(),
            likes: likes.by_actor.iter().map(Vec::len).sum(),
            held_out: self.cases.len(),
            head: plan.head,
            form: plan.form,
            lambda,
            knn,
            knn_share: shares.head,
            tail_share: shares.tail,
            fold_in,
            als: LowRank { used, reason },
            ndcg_at_10: score,
            popularity_ndcg_at_10: popularity,
            tried: self.tried,
            weights: collaborative.item_item.len(),
        };
        Ok(Fitted { collaborative, known: completed(weights, winner.map(|winner| winner.factors)), cases: self.cases, report })
    }

    fn note(&mut self, name: String, ndcg_at_10: f64) {
        tracing::debug!(ndcg_at_10, "tried {name}");
        self.tried.push(Tried { name, ndcg_at_10 });
    }

    fn choose_knn(&mut self, grid: &[ItemKnn], known: &Likes) -> Option<Best<ItemKnn>> {
        let mut best: Option<Best<ItemKnn>> = None;
        for &choice in grid {
            let weights = choice.fit(known, self.settings.neighbours);
            let (fold_in, marks) = selection::half_life(&weights, &self.cases);
            let score = marks.mean();
            self.note(choice.to_string(), score);
            if best.as_ref().is_none_or(|best| score > best.score) {
                best = Some(Best { choice, weights, fold_in, score });
            }
        }
        best
    }

    /// Cosine, unless BM25 makes a clearly better blend: alone it often does, but beside EASE^R little is left to choose between the two.
    fn choose_blend(&mut self, ease: Option<&Best<f32>>, cosine: Option<Best<ItemKnn>>, bm25: Option<Best<ItemKnn>>) -> (ItemKnn, Blended) {
        let mut blends = cosine.into_iter().chain(bm25).map(|knn| (knn.choice, self.choose_shares(ease, &knn)));
        let simple = blends.next().expect("the grids are constants with entries");
        blends.find(|(_, blended)| blended.marks.clearly_better_than(&simple.1.marks)).unwrap_or(simple)
    }

    fn choose_lambda(&mut self, known: &Likes, progress: &mut (dyn FnMut(Progress) + Send)) -> Option<Best<f32>> {
        let known = known.of_liked_items();
        let plan = Plan::within(self.settings.memory_mb, &known);
        let mut best: Option<Best<f32>> = None;
        for (step, lambda) in LAMBDAS.into_iter().enumerate() {
            progress(Progress { stage: "EASE", share: 0.1 + 0.1 * step as f32 });
            self.try_lambda(&known, plan, lambda, &mut best);
        }
        let coarse = best.as_ref()?.choice;
        for (step, lambda) in [coarse / 2.0, coarse * 2.0].into_iter().enumerate() {
            progress(Progress { stage: "EASE", share: 0.6 + 0.1 * step as f32 });
            self.try_lambda(&known, plan, lambda, &mut best);
        }
        best
    }

    fn try_lambda(&mut self, known: &Likes, plan: Plan, lambda: f32, best: &mut Option<Best<f32>>) {
        let Some(weights) = ease::fit(known, lambda, plan, self.settings.neighbours) else { return };
        let (fold_in, marks) = selection::half_life(&weights, &self.cases);
        let score = marks.mean();
        self.note(format!("ease {lambda}"), score);
        if best.as_ref().is_none_or(|best| score > best.score) {
            *best = Some(Best { choice: lambda, weights, fold_in, score });
        }
    }

    /// The best shares of item-kNN, and the blended weights.
    fn choose_shares(&mut self, ease: Option<&Best<f32>>, knn: &Best<ItemKnn>) -> Blended {
        let Some(ease) = ease else {
            let marks = selection::judge(&knn.weights, knn.fold_in, &self.cases);
            return Blended { shares: Shares { head: 1.0, tail: 1.0 }, weights: knn.weights.clone(), marks };
        };
        // The ends first: a blend has to earn its place.
        let (head, fold_in) = if knn.score > ease.score { (1.0, knn.fold_in) } else { (0.0, ease.fold_in) };
        let mut best: Option<Blended> = None;
        let mut attempt = |shares: Shares, tried: &mut Vec<Tried>| {
            let blended = blend(&ease.weights, &knn.weights, shares, self.settings.neighbours);
            let marks = selection::judge(&blended, fold_in, &self.cases);
            tried.push(Tried { name: format!("blend {} tail {} of {}", shares.head, shares.tail, knn.choice), ndcg_at_10: marks.mean() });
            if best.as_ref().is_none_or(|best| marks.better_than(&best.marks)) {
                best = Some(Blended { shares, weights: blended, marks });
            }
            best.as_ref().map_or(shares, |best| best.shares)
        };
        let mut tried = Vec::new();
        let mut shares = Shares { head, tail: TAIL_SHARES[0] };
        for tail in TAIL_SHARES {
            shares = attempt(Shares { head, tail }, &mut tried);
        }
        for head in SHARES {
            attempt(Shares { head, ..shares }, &mut tried);
        }
        self.tried.extend(tried);
        best.expect("every tail share was tried")
    }
}

/// A blend, and how it answers.
struct Blended {
    shares: Shares,
    weights: ItemItem,
    marks: Marks,
}

/// How much of a blend is item-kNN.
#[derive(Debug, Clone, Copy)]
struct Shares {
    /// Among the items that EASE^R covers.
    head: f32,
    /// From or to any other item.
    tail: f32,
}

/// (1 − share) x `ease` + share x `knn`, with `knn` brought to the size of `ease`. Where EASE^R has no row or no such target at all (outside its
/// head), there is item-kNN alone, so that the tail of the catalogue is not lost.
fn blend(ease: &ItemItem, knn: &ItemItem, shares: Shares, neighbours: usize) -> ItemItem {
    let scale = if ease.is_empty() || knn.is_empty() { 1.0 } else { (ease.mean_square() / knn.mean_square()).sqrt() as f32 };
    let covered: Vec<bool> = (0..ease.rows().max(knn.rows())).map(|item| ease.row(ItemKey(item as u32)).next().is_some()).collect();
    let in_head = |item: ItemKey| covered.get(item.row()).copied().unwrap_or(false);
    let mut builder = ItemItemBuilder::new(neighbours, covered.len());
    for item in (0..covered.len()).map(|item| ItemKey(item as u32)) {
        let from_ease = ease.row(item).map(|(target, weight)| (target, (1.0 - shares.head) * weight));
        let from_knn = knn.row(item).map(|(target, weight)| {
            let part = if in_head(item) && in_head(target) { shares.head } else { shares.tail };
            (target, part * scale * weight)
        });
        let row = merged(from_ease, from_knn);
        if !row.is_empty() {
            builder.push(item, row);
        }
    }
    builder.finish(FoldIn::default())
}

/// The sum of two rows, each by ascending target.
fn merged(a: impl Iterator<Item = (ItemKey, f32)>, b: impl Iterator<Item = (ItemKey, f32)>) -> Vec<(ItemKey, f32)> {
    let (mut a, mut b) = (a.peekable(), b.peekable());
    let mut row = Vec::new();
    loop {
        match (a.peek().copied(), b.peek().copied()) {
            (Some((i, x)), Some((j, y))) if i == j => {
                row.push((i, x + y));
                a.next();
                b.next();
            }
            (Some((i, x)), other) if other.is_none_or(|(j, _)| i < j) => {
                row.push((i, x));
                a.next();
            }
            (_, Some((j, y))) => {
                row.push((j, y));
                b.next();
            }
            _ => return row,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fit(interactions: &[Interaction], settings: &TrainingSettings, progress: &mut (dyn FnMut(Progress) + Send)) -> Result<Fitted, TooLittle> {
        super::fit(interactions, &FxHashSet::default(), settings, progress)
    }

    fn settings() -> TrainingSettings {
        TrainingSettings { every_events: 0, min_events: 10, memory_mb: 16, threads: 1, neighbours: 20, keep_versions: 3 }
    }

    fn like(actor: u32, item: u32, at_ms: i64) -> Interaction {
        Interaction { actor, item: ItemKey(item), at_ms, weight: 1.0 }
    }

    /// Half of the actors like some of items 0 to 19, the others some of 20 to 39.
    fn two_tastes() -> Vec<Interaction> {
        (0..60).flat_map(|actor| (0..8).map(move |n| like(actor, (actor % 2) * 20 + (actor / 2 * 3 + n * (n + 1) / 2) % 20, i64::from(n)))).collect()
    }

    #[test]
    fn who_likes_one_taste_is_recommended_that_taste() {
        let mut shares = Vec::new();

        let fitted = fit(&two_tastes(), &settings(), &mut |progress| shares.push(progress.share)).unwrap();

        let history = fitted.collaborative.fold_in_weights(&[(ItemKey(3), 1.0), (ItemKey(5), 1.0)]);
        let mut scores = fitted.collaborative.score(&history);
        scores.sort_by(|a, b| b.1.total_cmp(&a.1));
        assert!(scores[..5].iter().all(|(item, _)| item.0 < 20), "{scores:?}");
        assert!(fitted.report.ndcg_at_10 > fitted.report.popularity_ndcg_at_10, "{:?}", fitted.report);
        assert!(shares.is_sorted() && shares.last() == Some(&1.0));
    }

    #[test]
    fn the_same_log_gives_the_same_weights_whatever_the_number_of_threads() {
        let one = fit(&two_tastes(), &settings(), &mut |_| {}).unwrap();
        let two = fit(&two_tastes(), &TrainingSettings { threads: 2, ..settings() }, &mut |_| {}).unwrap();

        assert_eq!(one.report.tried, two.report.tried);
        assert_eq!(one.collaborative, two.collaborative);
    }

    #[test]
    fn too_little_is_said_and_not_guessed_from() {
        let lonely: Vec<_> = (0..50).map(|actor| like(actor, actor, 0)).collect();

        assert_eq!(fit(&[], &settings(), &mut |_| {}).unwrap_err(), TooLittle::Events { found: 0, needed: 10 });
        assert_eq!(fit(&lonely, &settings(), &mut |_| {}).unwrap_err(), TooLittle::Together);
        assert_eq!(fit(&two_tastes()[..3], &settings(), &mut |_| {}).unwrap_err(), TooLittle::Events { found: 3, needed: 10 });
    }

    #[test]
    fn hostile_logs_train_or_are_refused_but_never_panic() {
        let eager = TrainingSettings { min_events: 0, ..settings() };
        let one_actor: Vec<_> = (0..30).map(|item| like(7, item, 0)).collect();
        let one_item: Vec<_> = (0..30).map(|actor| like(actor, 5, 0)).collect();
        let twice = [two_tastes(), two_tastes()].concat();
        let huge: Vec<_> = two_tastes().into_iter().map(|event| Interaction { weight: f32::MAX, at_ms: i64::MIN, ..event }).collect();
        let dislikes: Vec<_> = two_tastes().into_iter().map(|event| Interaction { weight: -f32::MAX, ..event }).collect();
        let no_memory = TrainingSettings { memory_mb: 0, neighbours: 0, ..eager.clone() };

        for (log, settings) in [(&one_actor, &eager), (&one_item, &eager), (&twice, &eager), (&huge, &eager), (&dislikes, &eager), (&twice, &no_memory)] {
            if let Ok(fitted) = fit(log, settings, &mut |_| {}) {
                let history = fitted.collaborative.fold_in_weights(&[(ItemKey(3), f32::MAX), (ItemKey(5), -1.0)]);
                assert!(fitted.collaborative.score(&history).iter().all(|(_, score)| !score.is_nan()));
            }
        }
        assert_eq!(fit(&twice, &no_memory, &mut |_| {}).unwrap().report.head, 0, "with no memory for EASE there is item-kNN");
    }

    #[test]
    fn outside_the_head_there_is_item_knn_by_a_share_of_its_own() {
        let mut ease = ItemItemBuilder::new(9, 3);
        ease.push(ItemKey(0), vec![(ItemKey(1), 0.4)]);
        ease.push(ItemKey(1), vec![(ItemKey(0), 0.4)]);
        let mut knn = ItemItemBuilder::new(9, 3);
        knn.push(ItemKey(0), vec![(ItemKey(1), 0.8), (ItemKey(2), 0.8)]);
        knn.push(ItemKey(2), vec![(ItemKey(0), 0.8)]);

        let blended = blend(&ease.finish(FoldIn::default()), &knn.finish(FoldIn::default()), Shares { head: 0.25, tail: 0.5 }, 9);

        let row = |item| blended.row(ItemKey(item)).map(|(target, weight)| (target.0, (weight * 1e4).round() / 1e4)).collect::<Vec<_>>();
        assert_eq!(row(0), [(1, 0.4), (2, 0.2)]);
        assert_eq!(row(1), [(0, 0.3)]);
        assert_eq!(row(2), [(0, 0.2)]);
    }
}
