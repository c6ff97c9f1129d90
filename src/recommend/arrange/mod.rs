//! From a ranked list to a page: what rules and a visit's last answers move, diversity, pins, quotas, exploration, places for
//! cold items, earlier pages.

mod diversity;
mod explore;
mod page;
mod quota;
mod ruling;
#[cfg(test)]
mod tests;
mod weigh;

use super::{rank::Ranked, request::Arranged};

pub(super) use diversity::{diversify, diversity_pool};
pub(super) use explore::Exploration;
pub(super) use page::{Cold, Page, Slots, fill};
pub(super) use quota::Quotas;
pub(super) use ruling::{Asked, Ruling};
pub(super) use weigh::weigh;

/// A place in a list.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) ranked: Ranked,
    /// What the list falls by: the score and what was added to it since.
    pub(super) order: f32,
    /// Why it does not stand where its score would put it.
    pub(super) arranged: Option<Arranged>,
    /// How likely it was to stand there, given what stands above.
    pub(super) propensity: f32,
}

impl From<Ranked> for Place {
    fn from(ranked: Ranked) -> Self {
        Self { order: ranked.score.get(), ranked, arranged: None, propensity: 1.0 }
    }
}
