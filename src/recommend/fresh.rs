//! The source of cold items: the newest of the catalogue that few know yet and that are of a sort that the user likes.
//!
//! The other sources seldom find them: nobody has bought them, and among thousands like them a text leads elsewhere.

use crate::{
    domain::{ItemFacts, ItemKey},
    features::{Ranking, Table},
};

use super::affinity::Affinity;

/// Rows that are looked at, newest first: some 1 ms.
const MOST_ROWS: usize = 20_000;
/// Candidates; a page has a few places for them.
const MOST: usize = 100;

/// Items less popular than `below` that share a category, tag or label with what was liked lately, newest first.
pub(super) fn fresh(table: &Table, affinity: &Affinity, popularity: &Ranking, below: f32, admit: impl Fn(&ItemKey) -> bool) -> Vec<ItemKey> {
    if affinity.is_empty() {
        return Vec::new();
    }
    let liked = |key: &ItemKey| table.facts(*key).is_some_and(|facts: &std::sync::Arc<ItemFacts>| affinity.with(facts) > 0.0);
    let newest = (0..table.rows() as u32).rev().map(ItemKey).take(MOST_ROWS);
    newest.filter(|key| popularity.of(*key) < below && liked(key) && admit(key)).take(MOST).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        domain::{Item, Revision, StoredItem},
        features::Columns,
        recommend::taste::Taste,
    };

    #[test]
    fn the_newest_of_a_sort_that_is_liked_are_found_and_not_what_is_known_or_of_another_sort() {
        let columns = Columns::default();
        for key in 0..5_u32 {
            let json = json!({"item_id": format!("i{key}"), "title": "x", "categories": [if key == 2 { "paper" } else { "ink" }]});
            let item: Item = serde_json::from_value(json).unwrap();
            columns.apply(&[StoredItem { key: ItemKey(key), revision: Revision(i64::from(key) + 1), deleted: false, item: item.into() }]);
        }
        let table = columns.read();
        let affinity = Affinity::of(&Taste { items: vec![(ItemKey(0), 1.0)], ..Taste::default() }, &table);
        let unknown = Ranking::default();

        let found = fresh(&table, &affinity, &unknown, 1.0, |key| *key != ItemKey(4));

        assert_eq!(found, [ItemKey(3), ItemKey(1), ItemKey(0)]);
        assert!(fresh(&table, &affinity, &unknown, 0.0, |_| true).is_empty(), "all are known well enough");
        assert!(fresh(&table, &Affinity::default(), &unknown, 1.0, |_| true).is_empty());
    }
}
