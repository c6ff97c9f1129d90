//! Floor 2: what was learned: item-item weights, and the folder that keeps them by version.

mod item_item;

pub use item_item::{FoldIn, ItemItem, ItemItemBuilder};
