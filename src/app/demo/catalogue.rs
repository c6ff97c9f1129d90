//! The demo catalogue: 400 invented items in five domains, half English and half Chinese, one JSON document a line.
//!
//! Brands, artists, films and places of the news are made up. A name among the attributes has one type everywhere.

use crate::domain::Item;

/// NDJSON in the catalogue's own format: shop, news, video, music, help desk.
pub(super) const ITEMS: [&str; 5] = [
    include_str!("items/shop.ndjson"),
    include_str!("items/news.ndjson"),
    include_str!("items/video.ndjson"),
    include_str!("items/music.ndjson"),
    include_str!("items/support.ndjson"),
];

/// All items, domain by domain.
pub(super) fn items() -> Vec<Item> {
    let lines = ITEMS.iter().flat_map(|domain| domain.lines());
    lines.map(|line| serde_json::from_str(line).expect("a test parses every embedded line")).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashSet};

    use super::*;
    use crate::domain::AttributeValue;

    #[test]
    fn the_catalogue_has_400_valid_items_half_of_them_chinese() {
        let items = items();

        let ids: HashSet<_> = items.iter().map(|item| item.item_id.as_str()).collect();
        let in_language = |language: &str| items.iter().filter(|item| item.language.as_deref() == Some(language)).count();

        assert_eq!(ids.len(), 400);
        assert_eq!(items.len(), 400);
        assert_eq!((in_language("en"), in_language("zh")), (200, 200));
        for item in &items {
            assert!(item.faults().is_empty(), "{}: {:?}", item.item_id, item.faults());
        }
    }

    #[test]
    fn every_domain_has_80_items_that_name_it_and_an_attribute_keeps_its_type() {
        let mut in_domain = BTreeMap::new();
        let mut kinds = BTreeMap::new();

        for item in items() {
            let Some(AttributeValue::Text(domain)) = item.attributes.get("domain") else { panic!("{} names no domain", item.item_id) };
            assert!(item.item_id.as_str().starts_with(&format!("{domain}-")), "{} is of {domain}", item.item_id);
            *in_domain.entry(domain.clone()).or_insert(0) += 1;
            for (name, value) in &item.attributes {
                let kind = *kinds.entry(name.clone()).or_insert(value.kind());
                assert_eq!(value.kind(), kind, "{} of {}", name, item.item_id);
            }
        }

        let counts: Vec<_> = in_domain.iter().map(|(domain, count)| (domain.as_str(), *count)).collect();
        assert_eq!(counts, [("music", 80), ("news", 80), ("shop", 80), ("support", 80), ("video", 80)]);
    }
}
