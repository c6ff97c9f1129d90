//! Floor 2: what was learned: item-item weights and item factors, the map of texts and the ranker's weights, and the folder that keeps them by version.

mod adapter;
mod artefacts;
mod calibration;
mod collaborative;
mod factors;
mod item_item;
pub mod lanes;
mod ranker;

pub use adapter::Adapter;
pub use artefacts::{ArtefactError, Artefacts, Kept, Unreadable};
pub use calibration::Calibration;
pub use collaborative::Collaborative;
pub use factors::{Factors, Folding};
pub use item_item::{FoldIn, ItemItem, ItemItemBuilder};
pub use ranker::Ranker;

/// What one training learned: fitted for each other, so saved and swapped as one.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Learned {
    /// What goes with what.
    pub collaborative: Collaborative,
    /// Where texts are looked for, once they taught anything.
    pub adapter: Option<Adapter>,
    /// How much each feature counts, and what the scores come to.
    pub ranker: Ranker,
}
