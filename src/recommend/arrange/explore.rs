//! Exploration: a page in, one out of whose places some show what stands further down, drawn at random.
//!
//! What nobody is shown nobody clicks: without this the ranker learns from its own choices only. How likely each item was to stand where it stands goes
//! into the log, so that what another ranking would have brought can be told from it (inverse propensity scores; Li, Chu, Langford & Wang 2011).

use std::hash::{BuildHasher, Hash};

use rand_pcg::{
    Pcg64Mcg,
    rand_core::{Rng, SeedableRng},
};
use rustc_hash::FxBuildHasher;

use super::{Place, Quotas};
use crate::{domain::Feature, recommend::request::Arranged};

/// From here on an item is what the text rejects.
const REJECTED: f32 = 0.5;

/// How a page is explored; by default it is not.
#[derive(Debug)]
pub(in crate::recommend) struct Exploration {
    /// How likely a place is to show something else.
    rate: f32,
    draws: Pcg64Mcg,
}

impl Default for Exploration {
    fn default() -> Self {
        Self::new(0.0, ())
    }
}

impl Exploration {
    /// Items below the page that are drawn from.
    pub(super) const AMONG: usize = 100;

    /// The same draws for the same `occasion`.
    pub(in crate::recommend) fn new(rate: f32, occasion: impl Hash) -> Self {
        Self { rate, draws: Pcg64Mcg::seed_from_u64(FxBuildHasher.hash_one(occasion)) }
    }

    pub(super) fn explores(&self) -> bool {
        self.rate > 0.0
    }

    /// At each place in turn: with the odds of `rate` it goes to one of those `below`, any of them that the quotas let pass as likely as another; what
    /// stood there takes the other's place, and is not drawn again. What rules or the visit have moved, or `stays`, neither goes nor comes; nor does
    /// what the text rejects come.
    pub(super) fn explore(mut self, page: &mut [Place], below: &mut [Place], quotas: &mut Quotas<'_>, stays: impl Fn(&Place) -> bool) {
        let comes = |place: &Place| is_free(place) && !stays(place) && place.ranked.candidate.features[Feature::Rejected as usize] < REJECTED;
        let mut pool: Vec<usize> = (0..below.len()).filter(|at| comes(&below[*at])).take(Self::AMONG).collect();
        for place in page.iter_mut().filter(|place| is_free(place) && !stays(place)) {
            quotas.give_back(&place.ranked.candidate.facts);
            let others: Vec<usize> = pool.iter().copied().filter(|at| quotas.refusal(&below[*at].ranked.candidate.facts).is_none()).collect();
            let explores = self.unit() < self.rate;
            if others.is_empty() {
                // Nothing else could stand here.
            } else if explores {
                let at = others[(self.draws.next_u64() % others.len() as u64) as usize];
                pool.retain(|one| *one != at);
                std::mem::swap(place, &mut below[at]);
                place.arranged = Some(Arranged::Explored);
                place.propensity = self.rate / others.len() as f32;
            } else {
                place.propensity = 1.0 - self.rate;
            }
            quotas.take(&place.ranked.candidate.facts);
        }
    }

    /// From 0 to below 1.
    fn unit(&mut self) -> f32 {
        (self.draws.next_u64() >> 40) as f32 / (1_u64 << 24) as f32
    }
}

/// Nobody has said where it is to stand.
fn is_free(place: &Place) -> bool {
    matches!(place.arranged, None | Some(Arranged::Diversity | Arranged::Quota))
}
