//! Floor 2: what was learned: item-item weights, and the folder that keeps them by version.

mod artefacts;
mod item_item;

pub use artefacts::{ArtefactError, Artefacts, Kept, Unreadable};
pub use item_item::{FoldIn, ItemItem, ItemItemBuilder};
