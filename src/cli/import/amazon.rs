//! Amazon reviews and product metadata, one JSON document a line, in the forms of 2014 and 2018 (McAuley et al. 2015; Ni, Li, McAuley 2019:
//! `reviewerID`, `asin`, `overall`, `unixReviewTime` in seconds) and 2023 (Hou et al. 2024, amazon-reviews-2023.github.io: `user_id`, `parent_asin`,
//! `rating`, `timestamp` in milliseconds).
//!
//! A product is what 2023's metadata is about, the parent of its variants. Prices are texts such as "$12.99", "$5 - $9" or, in some lines, a piece of
//! a style sheet. Lines that stand twice in a file (there are some in 2018) are one review.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value as Json;

use super::{
    Entry,
    clean::{cut, label, labels, said},
    rows::Made,
};
use crate::{
    domain::{AttributeValue, Event, EventType, FieldError, Item, ItemId, MAX_ITEM_TEXT_CHARS, MAX_TEXT_CHARS, MAX_TITLE_CHARS, Timestamp, UserId},
    http::read_document,
};

#[derive(Deserialize)]
struct Review {
    #[serde(alias = "reviewerID")]
    user_id: String,
    parent_asin: Option<String>,
    asin: Option<String>,
    #[serde(alias = "overall")]
    rating: f64,
    #[serde(alias = "summary")]
    title: Option<String>,
    #[serde(alias = "reviewText")]
    text: Option<String>,
    #[serde(rename = "unixReviewTime")]
    seconds: Option<i64>,
    #[serde(rename = "timestamp")]
    millis: Option<i64>,
}

#[derive(Deserialize)]
struct Product {
    parent_asin: Option<String>,
    asin: Option<String>,
    title: Option<String>,
    #[serde(default)]
    description: Json,
    #[serde(default, alias = "feature")]
    features: Json,
    #[serde(default, alias = "category")]
    categories: Json,
    #[serde(default)]
    price: Json,
    #[serde(alias = "store")]
    brand: Option<String>,
    #[serde(alias = "main_cat")]
    main_category: Option<String>,
}

fn product_id(parent: Option<&String>, own: Option<&String>) -> Result<ItemId, FieldError> {
    let id = parent.or(own).ok_or_else(|| FieldError::new("/asin", "is required"))?;
    ItemId::new(id).map_err(|fault| FieldError::new("/asin", fault))
}

/// A review: stars and what was written.
pub(super) fn event(text: &str) -> Result<Made, FieldError> {
    let theirs: Review = read_document(text)?;
    let words: Vec<&str> = [&theirs.title, &theirs.text].into_iter().flatten().filter_map(|text| said(text)).collect();
    let (words, was_cut) = cut(&words.join("\n"), MAX_TEXT_CHARS);
    let millis = theirs.millis.or(theirs.seconds.map(|seconds| seconds.saturating_mul(1_000)));
    let event = Event {
        event_id: None,
        kind: EventType::Review,
        user_id: Some(UserId::new(&theirs.user_id).map_err(|fault| FieldError::new("/user_id", fault))?),
        session_id: None,
        item_id: Some(product_id(theirs.parent_asin.as_ref(), theirs.asin.as_ref())?),
        recommendation_id: None,
        value: Some(theirs.rating),
        text: (!words.is_empty()).then_some(words),
        timestamp: millis.map(Timestamp::from_millis).transpose().map_err(|fault| FieldError::new("/timestamp", fault))?,
    };
    Ok(Made { entry: Entry::Event(Box::new(event)), cut: was_cut, nameless: false })
}

/// A product.
pub(super) fn item(text: &str) -> Result<Made, FieldError> {
    let theirs: Product = read_document(text)?;
    let item_id = product_id(theirs.parent_asin.as_ref(), theirs.asin.as_ref())?;
    let (title, title_cut) = cut(theirs.title.as_deref().and_then(said).unwrap_or(""), MAX_TITLE_CHARS);
    let mut texts = Vec::new();
    gather(&theirs.description, &mut texts);
    gather(&theirs.features, &mut texts);
    let (text, text_cut) = cut(&texts.join("\n"), MAX_ITEM_TEXT_CHARS);
    let nameless = title.is_empty() && text.is_empty();
    let mut categories = Vec::new();
    gather(&theirs.categories, &mut categories);
    if categories.is_empty() {
        categories.extend(theirs.main_category.as_deref());
    }
    let brand = theirs.brand.as_deref().and_then(label).map(|brand| ("brand".to_owned(), AttributeValue::Text(brand)));
    let item = Item {
        title: if nameless { Some(item_id.as_str().to_owned()) } else { Some(title).filter(|title| !title.is_empty()) },
        text: Some(text).filter(|text| !text.is_empty()),
        categories: labels(categories),
        price: price(&theirs.price),
        attributes: brand.into_iter().collect::<BTreeMap<_, _>>(),
        ..Item::new(item_id)
    };
    Ok(Made { entry: Entry::Item(Box::new(item)), cut: title_cut || text_cut, nameless })
}

/// The texts of a text, a list of them, or a list of lists (the categories of 2014).
fn gather<'a>(value: &'a Json, texts: &mut Vec<&'a str>) {
    match value {
        Json::String(text) => texts.extend(said(text)),
        Json::Array(values) => values.iter().for_each(|value| gather(value, texts)),
        _ => {}
    }
}

/// A number, or the first one of a text that begins with a currency sign or a digit; "—" and pieces of style sheets are none.
fn price(value: &Json) -> Option<f64> {
    let price = match value {
        Json::Number(number) => number.as_f64(),
        Json::String(text) => {
            let amount = text.trim().trim_start_matches(['$', '£', '€', '¥']).trim_start();
            let end = amount.find(|c: char| !(c.is_ascii_digit() || c == '.' || c == ',')).unwrap_or(amount.len());
            amount[..end].replace(',', "").parse().ok()
        }
        _ => None,
    };
    price.filter(|price: &f64| price.is_finite() && *price >= 0.0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn made(result: Result<Made, FieldError>) -> Json {
        match result.unwrap().entry {
            Entry::Item(item) => {
                assert!(item.faults().is_empty(), "{:?}", item.faults());
                serde_json::to_value(item).unwrap()
            }
            Entry::Event(event) => serde_json::to_value(event).unwrap(),
        }
    }

    #[test]
    fn reviews_of_both_forms_are_the_same_event() {
        let of_2018 = json!({"overall": 4.0, "vote": "3", "verified": true, "reviewTime": "01 1, 2018", "reviewerID": "A1", "asin": "B1", "style": {"Size:": " M"},
            "reviewerName": "x", "reviewText": "Kept me dry.", "summary": "Good", "unixReviewTime": 1_514_764_800});
        let of_2023 = json!({"rating": 4.0, "title": "Good", "text": "Kept me dry.", "images": [], "asin": "B9", "parent_asin": "B1", "user_id": "A1",
            "timestamp": 1_514_764_800_000_i64, "helpful_vote": 3, "verified_purchase": true});

        let event =
            json!({"type": "review", "user_id": "A1", "item_id": "B1", "value": 4.0, "text": "Good\nKept me dry.", "timestamp": "2018-01-01T00:00:00.000Z"});
        assert_eq!(made(super::event(&of_2018.to_string())), event);
        assert_eq!(made(super::event(&of_2023.to_string())), event);
    }

    #[test]
    fn products_of_all_forms_are_items() {
        let of_2014 = json!({"asin": "B1", "title": "Jacket", "description": "Light.", "price": 12.99, "brand": "Fjell", "categories": [["Clothing", "Jackets"]],
            "related": {"also_bought": ["B2"]}, "salesRank": {"Clothing": 5}, "imUrl": "x"});
        let of_2018 = json!({"asin": "B1", "title": "Jacket", "description": ["Light.", ""], "feature": [], "price": "$12.99", "brand": "Fjell",
            "category": ["Clothing", "Jackets"], "main_cat": "Fashion", "also_buy": [], "rank": "5 in Clothing", "details": {}});
        let of_2023 = json!({"parent_asin": "B1", "title": "Jacket", "description": [], "features": ["Light."], "price": 12.99, "store": "Fjell",
            "categories": ["Clothing", "Jackets"], "main_category": "Fashion", "average_rating": 4.1, "rating_number": 7, "details": {"a": "b"}, "bought_together": null});

        let item = json!({"item_id": "B1", "title": "Jacket", "text": "Light.", "categories": ["Clothing", "Jackets"], "price": 12.99, "available": true,
            "attributes": {"brand": "Fjell"}});
        for theirs in [of_2014, of_2018, of_2023] {
            assert_eq!(made(super::item(&theirs.to_string())), item, "{theirs}");
        }
    }

    #[test]
    fn prices_are_read_where_there_is_one() {
        for (text, expected) in [
            (json!("$1,234.50"), Some(1234.5)),
            (json!("$5.99 - $12.99"), Some(5.99)),
            (json!(".a-box-inner{background-color:#fff}"), None),
            (json!("—"), None),
            (json!("None"), None),
            (json!(null), None),
            (json!(-1), None),
        ] {
            assert_eq!(price(&text), expected, "{text}");
        }
    }

    #[test]
    fn long_reviews_are_cut_and_missing_fields_are_named() {
        let long = json!({"rating": 1, "text": "x".repeat(30_000), "user_id": "u", "asin": "a", "timestamp": 1});
        assert!(super::event(&long.to_string()).unwrap().cut);

        assert_eq!(super::event(r#"{"rating": 1, "user_id": "u"}"#).unwrap_err().pointer, "/asin");
        assert_eq!(super::event(r#"{"user_id": "u", "asin": "a"}"#).unwrap_err().pointer, "/rating");
    }
}
