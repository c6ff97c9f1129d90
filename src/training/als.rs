//! Implicit ALS: likes (actors x items, binary) -> k numbers for each actor and each item whose products tell likes from the rest.
//!
//! Hu, Koren & Volinsky 2008, "Collaborative Filtering for Implicit Feedback Datasets": minimise Σ c (p − x·y)² + λ (|x|² + |y|²), where a like has
//! p = 1 and c = 1 + α, everything else p = 0 and c = 1. One side is solved with the other fixed, in turn; a row's k x k system by a few steps of
//! conjugate gradients from where the last sweep left it (Takács, Pilászy & Tikk 2011), so that a sweep costs k per like and k² per row.

use faer::{Accum, MatMut, MatRef, Par, linalg::matmul::matmul};
use pulp::{Arch, Simd, WithSimd};
use rand_pcg::{
    Pcg64Mcg,
    rand_core::{Rng, SeedableRng},
};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::learned::lanes::{add_scaled, dot};

/// Rows whose part of the Gram matrix is computed at a time; parts are added in order, so that threads change nothing.
const ROWS_AT_ONCE: usize = 1024;
/// Rows that a thread takes at least: some µs each.
const ROWS_A_TASK: usize = 16;
/// A residual whose square is smaller is none.
const SOLVED: f32 = 1e-20;
/// The first factors are that small: whatever they are, the first sweeps decide.
const FIRST_FACTORS: f32 = 0.01;

/// The dials.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Als {
    /// k.
    pub rank: usize,
    /// α: a like has the confidence 1 + α.
    pub alpha: f32,
    /// λ.
    pub lambda: f32,
    /// How often both sides are solved.
    pub sweeps: usize,
    /// Steps of conjugate gradients a row and sweep.
    pub steps: usize,
}

/// Both sides, in rows of `rank`.
#[derive(Debug, Clone, PartialEq)]
pub struct Factorised {
    /// Actors x rank.
    pub actors: Vec<f32>,
    /// Items x rank.
    pub items: Vec<f32>,
}

impl Als {
    /// Of who liked what, by both sides: for each actor his items, for each item its actors. In the pool that it is called from; the same likes and
    /// seed give the same factors, whatever the number of threads.
    pub fn fit(&self, by_actor: &[Vec<u32>], by_item: &[Vec<u32>], seed: u64) -> Factorised {
        let mut random = Pcg64Mcg::seed_from_u64(seed);
        let mut first = || FIRST_FACTORS * ((random.next_u32() >> 8) as f32 / (1 << 23) as f32 - 1.0);
        let items = (0..by_item.len() * self.rank).map(|_| first()).collect();
        self.fit_from(items, by_actor, by_item)
    }

    /// From these factors of the items.
    fn fit_from(&self, mut items: Vec<f32>, by_actor: &[Vec<u32>], by_item: &[Vec<u32>]) -> Factorised {
        let mut actors = vec![0.0; by_actor.len() * self.rank];
        for _ in 0..self.sweeps {
            self.solve(by_actor, &items, &mut actors);
            self.solve(by_item, &actors, &mut items);
        }
        Factorised { actors, items }
    }

    /// About how many multiplications [`Self::fit`] costs.
    pub(super) fn cost(&self, by_actor: &[Vec<u32>], by_item: &[Vec<u32>]) -> f64 {
        let (rows, likes) = (by_actor.len() + by_item.len(), by_actor.iter().map(Vec::len).sum::<usize>());
        let (rows, likes, rank, products) = (rows as f64, likes as f64, self.rank as f64, self.steps as f64 + 1.0);
        self.sweeps as f64 * (products * (2.0 * 2.0 * likes * rank + rows * rank * rank) + rows * rank * rank)
    }

    /// Half a sweep: each row of `solved` anew, from the `fixed` side.
    fn solve(&self, liked: &[Vec<u32>], fixed: &[f32], solved: &mut [f32]) {
        let mut gram = gram(fixed, self.rank);
        for i in 0..self.rank {
            gram[i * self.rank + i] += self.lambda;
        }
        let arch = Arch::new();
        solved.par_chunks_mut(self.rank.max(1)).zip(liked).with_min_len(ROWS_A_TASK).for_each_init(
            || Workspace::new(self.rank),
            |workspace, (row, liked)| arch.dispatch(SolveRow { als: self, gram: &gram, fixed, liked, row, workspace }),
        );
    }
}

/// YᵀY of rows of `rank`.
pub(super) fn gram(rows: &[f32], rank: usize) -> Vec<f32> {
    let part = |rows: &[f32]| {
        let mut part = vec![0.0f32; rank * rank];
        // Column-major: the rows are the columns of Yᵀ.
        let transposed = MatRef::from_column_major_slice(rows, rank, rows.len() / rank.max(1));
        matmul(MatMut::from_column_major_slice_mut(&mut part, rank, rank), Accum::Replace, transposed, transposed.transpose(), 1.0f32, Par::Seq);
        part
    };
    let parts: Vec<Vec<f32>> = rows.par_chunks((ROWS_AT_ONCE * rank).max(1)).map(part).collect();
    let mut sum = vec![0.0f32; rank * rank];
    parts.iter().for_each(|part| add_scaled(&mut sum, 1.0, part));
    sum
}

/// What a row needs beside its factors; one a thread.
struct Workspace {
    residual: Vec<f32>,
    direction: Vec<f32>,
    product: Vec<f32>,
    /// The other side's factors of the row's likes, side by side.
    liked: Vec<f32>,
}

impl Workspace {
    fn new(rank: usize) -> Self {
        let zeros = || vec![0.0; rank];
        Self { residual: zeros(), direction: zeros(), product: zeros(), liked: Vec::new() }
    }
}

/// Solves (G + α Σ y yᵀ) x = (1 + α) Σ y for one row x, as wide as the processor can.
struct SolveRow<'a> {
    als: &'a Als,
    /// YᵀY + λI.
    gram: &'a [f32],
    fixed: &'a [f32],
    liked: &'a [u32],
    row: &'a mut [f32],
    workspace: &'a mut Workspace,
}

impl WithSimd for SolveRow<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { als: Als { rank, alpha, steps, .. }, gram, fixed, liked, row: x, workspace } = self;
        if liked.is_empty() {
            x.fill(0.0);
            return;
        }
        let Workspace { residual, direction, product, liked: ys } = workspace;
        ys.clear();
        liked.iter().for_each(|other| ys.extend_from_slice(&fixed[*other as usize * rank..(*other as usize + 1) * rank]));

        // r = b − A x, in one pass over the likes.
        multiply(gram, x, residual);
        residual.iter_mut().for_each(|r| *r = -*r);
        for y in ys.chunks_exact(*rank) {
            add_scaled(residual, 1.0 + alpha - alpha * dot(y, x), y);
        }
        direction.copy_from_slice(residual);
        let mut square = dot(residual, residual);
        for step in 1..=*steps {
            if square < SOLVED {
                return;
            }
            multiply(gram, direction, product);
            for y in ys.chunks_exact(*rank) {
                add_scaled(product, alpha * dot(y, direction), y);
            }
            let by = square / dot(direction, product);
            add_scaled(x, by, direction);
            if step == *steps {
                return;
            }
            add_scaled(residual, -by, product);
            let next = dot(residual, residual);
            let kept = next / square;
            direction.iter_mut().zip(&*residual).for_each(|(p, r)| *p = r + kept * *p);
            square = next;
        }
    }
}

/// product = symmetric x vector. Four rows at a time: `product` is then read and written a quarter as often.
#[inline(always)]
fn multiply(symmetric: &[f32], vector: &[f32], product: &mut [f32]) {
    let rank = vector.len();
    product.fill(0.0);
    let (fours, rest) = vector.as_chunks::<4>();
    let (quarters, last) = symmetric.split_at(fours.len() * 4 * rank);
    for (by, rows) in fours.iter().zip(quarters.chunks_exact(4 * rank)) {
        let ((a, b), (c, d)) = (rows[..2 * rank].split_at(rank), rows[2 * rank..].split_at(rank));
        for ((((sum, a), b), c), d) in product.iter_mut().zip(a).zip(b).zip(c).zip(d) {
            *sum += (by[0] * a + by[1] * b) + (by[2] * c + by[3] * d);
        }
    }
    for (by, row) in rest.iter().zip(last.chunks_exact(rank)) {
        add_scaled(product, *by, row);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Likes by both sides.
    fn both(by_actor: &[&[u32]], items: usize) -> (Vec<Vec<u32>>, Vec<Vec<u32>>) {
        let by_item = (0..items as u32).map(|item| (0..by_actor.len() as u32).filter(|actor| by_actor[*actor as usize].contains(&item)).collect()).collect();
        (by_actor.iter().map(|items| items.to_vec()).collect(), by_item)
    }

    fn fixed() -> (Vec<Vec<u32>>, Vec<Vec<u32>>) {
        both(&[&[0, 1, 2], &[0, 1], &[1, 2, 5], &[3, 4], &[3, 4, 5], &[0, 5], &[]], 7)
    }

    fn score(solved: &Factorised, rank: usize, actor: usize, item: usize) -> f32 {
        solved.actors[actor * rank..(actor + 1) * rank].iter().zip(&solved.items[item * rank..]).map(|(x, y)| x * y).sum()
    }

    #[test]
    fn scores_agree_with_an_independent_computation_in_float64() {
        // import numpy as np
        // rows = [[0,1,2],[0,1],[1,2,5],[3,4],[3,4,5],[0,5],[]]; n, k, a, l = 7, 3, 4.0, 0.3
        // P = np.zeros((7, n)); [P.__setitem__((u, r), 1) for u, r in enumerate(rows)]
        // Y = np.array([[((i*7 + f*3) % 11) / 11 - .45 for f in range(k)] for i in range(n)]); X = np.zeros((7, k))
        // def half(P, Y): return np.array([np.linalg.solve(Y.T@Y + l*np.eye(k) + a*(Y.T*p)@Y, (1+a)*Y.T@p) for p in P])
        // for _ in range(3): X = half(P, Y); Y = half(P.T, X)
        // print(np.round(X@Y.T, 6).tolist())
        const EXPECTED: [[f32; 7]; 7] = [
            [1.000746, 1.078746, 0.90459, 0.00792, 0.00792, 0.132413, 0.0],
            [0.890081, 0.932414, 0.760795, -0.117075, -0.117075, -0.01174, 0.0],
            [0.953332, 0.887973, 0.868834, 0.265424, 0.265424, 0.983879, 0.0],
            [-0.32365, 0.157382, 0.169469, 0.943416, 0.943416, 0.042057, 0.0],
            [-0.166692, 0.047543, 0.205564, 0.997282, 0.997282, 0.990879, 0.0],
            [0.83495, 0.46914, 0.505356, -0.243799, -0.243799, 0.980333, 0.0],
            [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0],
        ];
        let (by_actor, by_item) = fixed();
        let als = Als { rank: 3, alpha: 4.0, lambda: 0.3, sweeps: 3, steps: 12 };
        let first = (0..7).flat_map(|i| (0..3).map(move |f| ((i * 7 + f * 3) % 11) as f32 / 11.0 - 0.45)).collect();

        let solved = als.fit_from(first, &by_actor, &by_item);

        for (actor, row) in EXPECTED.iter().enumerate() {
            for (item, expected) in row.iter().enumerate() {
                let score = score(&solved, 3, actor, item);
                assert!((score - expected).abs() < 2e-5, "actor {actor}, item {item}: {score} and {expected}");
            }
        }
    }

    #[test]
    fn what_was_liked_scores_higher_than_what_was_not() {
        let (by_actor, by_item) = fixed();
        let als = Als { rank: 4, alpha: 20.0, lambda: 0.1, sweeps: 15, steps: 3 };

        let solved = als.fit(&by_actor, &by_item, 7);

        for (actor, liked) in by_actor.iter().enumerate().filter(|(_, liked)| !liked.is_empty()) {
            let worst = liked.iter().map(|item| score(&solved, 4, actor, *item as usize)).fold(f32::MAX, f32::min);
            let best_other = (0..7).filter(|item| !liked.contains(item)).map(|item| score(&solved, 4, actor, item as usize)).fold(f32::MIN, f32::max);
            assert!(worst > best_other, "{actor}: {worst} {best_other}");
        }
        assert!(solved.actors[6 * 4..].iter().chain(&solved.items[6 * 4..]).all(|x| x.abs() < 1e-9), "who did nothing is nowhere");
    }

    #[test]
    fn the_number_of_threads_changes_no_bit() {
        let by_actor: Vec<Vec<u32>> = (0..2_500u32).map(|actor| (0..5).map(|n| (actor * 7 + n * n * 31) % 400).collect()).collect();
        let mut by_item = vec![Vec::new(); 400];
        by_actor.iter().enumerate().for_each(|(actor, items)| items.iter().for_each(|item| by_item[*item as usize].push(actor as u32)));
        let als = Als { rank: 5, alpha: 8.0, lambda: 0.1, sweeps: 2, steps: 3 };
        let with = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(|| als.fit(&by_actor, &by_item, 7));

        assert_eq!(with(1), with(3));
    }

    #[test]
    fn nothing_gives_nothing() {
        let als = Als { rank: 4, alpha: 20.0, lambda: 0.1, sweeps: 2, steps: 3 };

        assert!(als.fit(&[], &[], 7).items.is_empty());
        assert!(als.fit(&[vec![]], &[vec![]], 7).items.iter().all(|x| x.abs() < 1e-9));
    }
}
