//! JSON merge patches (RFC 7396) on items: pure functions.

use serde_json::{Map, Value as Json};

use crate::domain::{FieldError, Item, pointer_step};

/// `patch` merged into `item`; every fault where the result is no item.
pub(super) fn patched(item: &Item, patch: &Json) -> Result<Item, Vec<FieldError>> {
    let fault = |pointer: &str, detail: &str| Err(vec![FieldError::new(pointer, detail)]);
    let Json::Object(members) = patch else {
        return fault("", "must be an object");
    };
    if members.get("item_id").is_some_and(|id| id.as_str() != Some(item.item_id.as_str())) {
        return fault("/item_id", "must be the id of the item that is patched");
    }
    let Ok(mut document) = serde_json::to_value(item) else {
        return fault("", "cannot be merged");
    };
    merge(&mut document, patch);
    let patched: Item = serde_json::from_value(document.clone()).map_err(|error| vec![locate(&document, &error)])?;
    let faults = patched.faults();
    if faults.is_empty() { Ok(patched) } else { Err(faults) }
}

/// RFC 7396, section 2.
fn merge(target: &mut Json, patch: &Json) {
    let Json::Object(members) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Json::Object(Map::new());
    }
    if let Json::Object(fields) = target {
        for (name, value) in members {
            if value.is_null() {
                fields.remove(name);
            } else {
                merge(fields.entry(name.clone()).or_insert(Json::Null), value);
            }
        }
    }
}

/// Which member of `document` keeps it from being an item: the one that does so alone. `serde_json` says only what, not where.
fn locate(document: &Json, error: &serde_json::Error) -> FieldError {
    let alone = |name: &str, value: &Json| {
        let mut probe = Map::from_iter([("item_id".to_owned(), Json::from("x"))]);
        probe.insert(name.to_owned(), value.clone());
        serde_json::from_value::<Item>(Json::Object(probe)).err()
    };
    let within = |name: &str, value: &Json| {
        let members = value.as_object().filter(|_| matches!(name, "attributes" | "vectors"))?;
        let (inner, _) = members.iter().find(|(inner, value)| {
            let single = Json::Object(Map::from_iter([((*inner).clone(), (*value).clone())]));
            alone(name, &single).is_some()
        })?;
        Some(pointer_step(inner))
    };
    let found = document.as_object().and_then(|members| {
        members.iter().find_map(|(name, value)| {
            let error = alone(name, value)?;
            Some(FieldError::new(format!("{}{}", pointer_step(name), within(name, value).unwrap_or_default()), short(&error)))
        })
    });
    found.unwrap_or_else(|| FieldError::new("", short(error)))
}

/// The message, cut: it may quote the input.
fn short(error: &serde_json::Error) -> String {
    error.to_string().chars().take(120).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn merging_follows_the_examples_of_the_rfc() {
        let cases = [
            (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "b"}), json!({"b": "c"}), json!({"a": "b", "b": "c"})),
            (json!({"a": "b"}), json!({"a": null}), json!({})),
            (json!({"a": "b", "b": "c"}), json!({"a": null}), json!({"b": "c"})),
            (json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "c"}), json!({"a": ["b"]}), json!({"a": ["b"]})),
            (json!({"a": {"b": "c"}}), json!({"a": {"b": "d", "c": null}}), json!({"a": {"b": "d"}})),
            (json!({"a": [{"b": "c"}]}), json!({"a": [1]}), json!({"a": [1]})),
            (json!(["a", "b"]), json!(["c", "d"]), json!(["c", "d"])),
            (json!({"a": "b"}), json!(["c"]), json!(["c"])),
            (json!({"a": "foo"}), json!(null), json!(null)),
            (json!({"e": null}), json!({"a": 1}), json!({"e": null, "a": 1})),
            (json!([1, 2]), json!({"a": "b", "c": null}), json!({"a": "b"})),
            (json!({}), json!({"a": {"bb": {"ccc": null}}}), json!({"a": {"bb": {}}})),
        ];
        for (mut target, patch, result) in cases {
            merge(&mut target, &patch);
            assert_eq!(target, result, "{patch}");
        }
    }

    #[test]
    fn a_patch_that_makes_no_item_is_refused_with_the_field() {
        let item: Item = serde_json::from_value(json!({"item_id": "a", "title": "Tent", "price": 3, "attributes": {"size": "M"}})).unwrap();
        let pointer = |patch: Json| patched(&item, &patch).unwrap_err().remove(0).pointer;

        assert_eq!(pointer(json!([1])), "");
        assert_eq!(pointer(json!({"item_id": "b"})), "/item_id");
        assert_eq!(pointer(json!({"item_id": null})), "/item_id");
        assert_eq!(pointer(json!({"title": null})), "/title");
        assert_eq!(pointer(json!({"price": "cheap"})), "/price");
        assert_eq!(pointer(json!({"price": -1})), "/price");
        assert_eq!(pointer(json!({"colour": "red"})), "/colour");
        assert_eq!(pointer(json!({"attributes": {"size": {"eu": 3}}})), "/attributes/size");
        assert_eq!(patched(&item, &json!({"price": null})).unwrap().price, None);
    }
}
