//! EASE^R: binary likes X (actors x items) and λ -> item-item weights B, zero on the diagonal, that best rebuild X from itself.
//!
//! Closed form of Steck 2019 (arXiv:1905.03375): P = (XᵀX + λI)⁻¹, B = I − P diag(1 / diag P). With fewer actors than items the same P is
//! (I − Xᵀ(XXᵀ + λI)⁻¹X) / λ (Woodbury), whose dense inverse is actors x actors. Dense, f32; the most used items only, as the budget allows.

use faer::{
    Accum, MatMut, MatRef, Par,
    dyn_stack::{MemBuffer, MemStack},
    linalg::{
        cholesky::llt::factor::{cholesky_in_place, cholesky_in_place_scratch},
        matmul::{
            matmul,
            triangular::{self, BlockStructure},
        },
        triangular_inverse::invert_lower_triangular,
        triangular_solve::solve_lower_triangular_in_place,
    },
};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::interactions::Likes;
use crate::{
    domain::ItemKey,
    learned::{FoldIn, ItemItem, ItemItemBuilder},
};

/// Rows of P that are computed between two visits to the builder.
const ROWS_AT_ONCE: usize = 256;

/// Which of the two inverses is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// Items x items.
    Primal,
    /// Actors x actors.
    Dual,
}

/// How much of the catalogue EASE^R covers, and how it is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Plan {
    /// The first so many columns.
    pub(super) head: usize,
    /// The cheaper inverse that fits.
    pub(super) form: Form,
}

impl Plan {
    /// The largest head that fits `memory_mb` MiB, and the cheaper form for it.
    pub(super) fn within(memory_mb: usize, likes: &Likes) -> Self {
        let numbers = memory_mb.saturating_mul(1 << 20) / size_of::<f32>();
        let items = likes.items.len();
        let actors = likes.by_actor.iter().filter(|columns| !columns.is_empty()).count();
        // The factor and its inverse, items x items.
        let primal = (numbers / 2).isqrt().min(items);
        // The factor (actors x actors), the solved matrix (actors x items) and one block of rows.
        let dual = (numbers.saturating_sub(actors.saturating_mul(actors)) / (actors + ROWS_AT_ONCE)).min(items);
        // Multiplications: n³ for factor, inverse and product; m³/3 + m²n + mn² the other way.
        let (n, m) = (primal as f64, actors as f64);
        let dual_is_cheaper = m * m * m / 3.0 + m * m * n + m * n * n < n * n * n;
        if dual > primal || (dual == primal && dual_is_cheaper) { Self { head: dual, form: Form::Dual } } else { Self { head: primal, form: Form::Primal } }
    }
}

/// Weights among the first `plan.head` columns; `None` where λ is too small for the arithmetic.
pub(super) fn fit(likes: &Likes, lambda: f32, plan: Plan, neighbours: usize) -> Option<ItemItem> {
    let mut builder = ItemItemBuilder::new(neighbours, plan.head);
    match plan.form {
        Form::Primal => primal(likes, lambda, plan.head, neighbours, &mut builder)?,
        Form::Dual => dual(likes, lambda, plan.head, neighbours, &mut builder)?,
    }
    Some(builder.finish(FoldIn::default()))
}

fn par() -> Par {
    Par::rayon(0) // as many as the pool we run in has
}

fn primal(likes: &Likes, lambda: f32, n: usize, neighbours: usize, builder: &mut ItemItemBuilder) -> Option<()> {
    // Only the lower triangle (column-major: row ≥ column) is filled and read.
    let mut gram = vec![0.0f32; n * n];
    gram.par_chunks_mut(n.max(1)).enumerate().for_each(|(column, below)| {
        for actor in &likes.by_item[column] {
            for &row in likes.by_actor[*actor as usize].iter().filter(|row| (column..n).contains(&(**row as usize))) {
                below[row as usize] += 1.0;
            }
        }
        below[column] += lambda;
    });
    factorise(&mut gram, n)?;
    let mut inverse = vec![0.0f32; n * n];
    invert_lower_triangular(MatMut::from_column_major_slice_mut(&mut inverse, n, n), MatRef::from_column_major_slice(&gram, n, n), par());
    let lower = MatRef::from_column_major_slice(&inverse, n, n);
    // P = L⁻ᵀ L⁻¹, into the memory of the factor, which is not needed any more.
    triangular::matmul(
        MatMut::from_column_major_slice_mut(&mut gram, n, n),
        BlockStructure::TriangularLower,
        Accum::Replace,
        lower.transpose(),
        BlockStructure::TriangularUpper,
        lower,
        BlockStructure::TriangularLower,
        1.0f32,
        par(),
    );
    let diagonal: Vec<f32> = (0..n).map(|i| gram[i * n + i]).collect();
    let at = |i: usize, j: usize| if i >= j { gram[j * n + i] } else { gram[i * n + j] };
    emit(likes, &diagonal, 0..n, |i, row| row.extend((0..n).map(|j| at(i, j))), neighbours, builder);
    Some(())
}

fn dual(likes: &Likes, lambda: f32, n: usize, neighbours: usize, builder: &mut ItemItemBuilder) -> Option<()> {
    let actors: Vec<&[u32]> = likes.by_actor.iter().map(Vec::as_slice).collect();
    let mut place = vec![usize::MAX; actors.len()];
    let present: Vec<usize> = (0..actors.len()).filter(|actor| !actors[*actor].is_empty()).collect();
    present.iter().enumerate().for_each(|(row, actor)| place[*actor] = row);
    let m = present.len();
    let mut kernel = vec![0.0f32; m * m];
    kernel.par_chunks_mut(m.max(1)).zip(&present).enumerate().for_each(|(column, (below, actor))| {
        for &item in actors[*actor].iter().filter(|item| (**item as usize) < n) {
            // A column's actors ascend, and so do their places.
            for &other in likes.by_item[item as usize].iter().rev().take_while(|other| place[**other as usize] >= column) {
                below[place[other as usize]] += 1.0;
            }
        }
        below[column] += lambda;
    });
    factorise(&mut kernel, m)?;
    // V = L⁻¹X, so that Xᵀ(XXᵀ + λI)⁻¹X = VᵀV.
    let mut solved = vec![0.0f32; m * n];
    solved.par_chunks_mut(m.max(1)).enumerate().for_each(|(item, column)| likes.by_item[item].iter().for_each(|actor| column[place[*actor as usize]] = 1.0));
    solve_lower_triangular_in_place(MatRef::from_column_major_slice(&kernel, m, m), MatMut::from_column_major_slice_mut(&mut solved, m, n), par());
    drop(kernel);
    let explained = |item: usize| solved[item * m..(item + 1) * m].iter().map(|x| f64::from(*x).powi(2)).sum::<f64>();
    let diagonal: Vec<f32> = (0..n).map(|item| ((1.0 - explained(item)) / f64::from(lambda)) as f32).collect();
    let all = MatRef::from_column_major_slice(&solved, m, n);
    let mut block = vec![0.0f32; n * ROWS_AT_ONCE.min(n)];
    for start in (0..n).step_by(ROWS_AT_ONCE) {
        let rows = ROWS_AT_ONCE.min(n - start);
        let block = &mut block[..n * rows];
        // Off the diagonal P = −VᵀV / λ; on it `emit` looks at `diagonal` alone.
        matmul(MatMut::from_column_major_slice_mut(block, n, rows), Accum::Replace, all.transpose(), all.subcols(start, rows), -1.0 / lambda, par());
        emit(likes, &diagonal, start..start + rows, |i, row| row.extend_from_slice(&block[(i - start) * n..(i - start + 1) * n]), neighbours, builder);
    }
    Some(())
}

/// Cholesky, lower triangle, in place; `None` where a pivot is not positive.
fn factorise(matrix: &mut [f32], n: usize) -> Option<()> {
    let mut memory = MemBuffer::try_new(cholesky_in_place_scratch::<f32>(n, par(), Default::default())).ok()?;
    let matrix = MatMut::from_column_major_slice_mut(matrix, n, n);
    cholesky_in_place(matrix, Default::default(), par(), MemStack::new(&mut memory), Default::default()).ok().map(drop)
}

/// Turns rows of P into rows of B: history item i gives target j −P_ij / P_jj.
fn emit(
    likes: &Likes,
    diagonal: &[f32],
    rows: std::ops::Range<usize>,
    row_of_p: impl Fn(usize, &mut Vec<f32>) + Sync,
    neighbours: usize,
    builder: &mut ItemItemBuilder,
) {
    for start in rows.clone().step_by(ROWS_AT_ONCE) {
        let made: Vec<(ItemKey, Vec<(ItemKey, f32)>)> = (start..(start + ROWS_AT_ONCE).min(rows.end))
            .into_par_iter()
            .map_init(Vec::new, |p, i| {
                p.clear();
                row_of_p(i, p);
                let weights = (0..p.len()).filter(|j| *j != i).map(|j| (likes.items[j], -p[j] / diagonal[j])).collect();
                (likes.items[i], ItemItemBuilder::shortened(neighbours, weights))
            })
            .collect();
        made.into_iter().for_each(|(item, row)| builder.push(item, row));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::training::interactions::{Histories, Interaction};

    fn likes(pairs: impl IntoIterator<Item = (u32, u32)>) -> Likes {
        let log: Vec<_> = pairs.into_iter().map(|(actor, item)| Interaction { actor, item: ItemKey(item), at_ms: 0, weight: 1.0 }).collect();
        Histories::collect(&log).likes()
    }

    fn weight(weights: &ItemItem, from: u32, to: u32) -> f32 {
        weights.row(ItemKey(from)).find(|(item, _)| item.0 == to).map_or(0.0, |(_, weight)| weight)
    }

    /// Pseudo-random likes, the same every time: about one in four, and everyone and everything has one.
    fn scattered(actors: u32, items: u32) -> Likes {
        let likes_it = |actor: u32, item: u32| {
            let mixed = (actor * 1_000 + item).wrapping_mul(2_654_435_761) ^ 0x5bd1_e995;
            actor % items == item || item % actors == actor || (mixed.wrapping_mul(mixed | 1) >> 16).is_multiple_of(4)
        };
        likes((0..actors).flat_map(|actor| (0..items).map(move |item| (actor, item))).filter(|(actor, item)| likes_it(*actor, *item)))
    }

    #[test]
    fn weights_agree_with_a_case_worked_by_hand() {
        // Two actors like {1, 2}, one likes {1}: XᵀX + I = [[4, 2], [2, 3]], its inverse [[3, -2], [-2, 4]] / 8.
        // B_12 (history 1, target 2) = 2 / 4, B_21 = 2 / 3.
        let likes = likes([(0, 1), (0, 2), (1, 1), (1, 2), (2, 1)]);
        for form in [Form::Primal, Form::Dual] {
            let weights = fit(&likes, 1.0, Plan { head: 2, form }, 10).unwrap();

            assert!((weight(&weights, 1, 2) - 0.5).abs() < 1e-6, "{form:?}");
            assert!((weight(&weights, 2, 1) - 2.0 / 3.0).abs() < 1e-6, "{form:?}");
            assert_eq!(weights.len(), 2);
        }
    }

    #[test]
    fn both_forms_give_the_same_weights() {
        let likes = scattered(40, 60);
        let head = Plan::within(64, &likes).head;

        let primal = fit(&likes, 3.0, Plan { head, form: Form::Primal }, 100).unwrap();
        let dual = fit(&likes, 3.0, Plan { head, form: Form::Dual }, 100).unwrap();

        assert_eq!((head, primal.len()), (60, 60 * 59));
        for from in 0..60 {
            for to in 0..60 {
                assert!((weight(&primal, from, to) - weight(&dual, from, to)).abs() < 1e-4, "{from} {to}");
            }
        }
    }

    #[test]
    fn the_weights_solve_the_ridge_regression_of_each_item_on_the_others() {
        let likes = scattered(30, 12);
        let weights = fit(&likes, 2.0, Plan { head: 12, form: Form::Primal }, 100).unwrap();
        let together =
            |a: u32, b: u32| likes.by_actor.iter().filter(|row| [a, b].iter().all(|item| row.iter().any(|c| likes.items[*c as usize].0 == *item))).count();

        // For each target j and each other item k: Σ_i G_ki B_ij + λ B_kj = G_kj.
        for j in 0..12 {
            for k in (0..12).filter(|k| *k != j) {
                let sum: f32 = (0..12).map(|i| together(k, i) as f32 * weight(&weights, i, j)).sum();
                assert!((sum + 2.0 * weight(&weights, k, j) - together(k, j) as f32).abs() < 1e-3, "{k} {j}");
            }
        }
    }

    #[test]
    fn the_budget_bounds_the_head_and_the_cheaper_form_is_taken() {
        let few_actors = scattered(10, 400);
        let few_items = scattered(400, 10);

        assert_eq!(Plan::within(64, &few_actors), Plan { head: 400, form: Form::Dual });
        assert_eq!(Plan::within(64, &few_items), Plan { head: 10, form: Form::Primal });
        assert_eq!(Plan::within(0, &few_items).head, 0);
        assert_eq!(Plan::within(1, &scattered(500, 500)).head, 362, "two 362 x 362 matrices are 1 MiB");
    }

    #[test]
    fn nothing_to_learn_from_gives_no_weights() {
        for form in [Form::Primal, Form::Dual] {
            assert!(fit(&likes([]), 1.0, Plan { head: 0, form }, 10).unwrap().is_empty());
            assert!(fit(&likes([(0, 5)]), 1.0, Plan { head: 1, form }, 10).unwrap().is_empty());
        }
    }
}
