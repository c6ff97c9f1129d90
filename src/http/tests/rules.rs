//! `/rules` through the real router: what is put comes back as it was written, and what is no rule names its field.

use super::*;

async fn put(world: &World, name: &str, rule: &Json) -> Reply {
    world.ask("PUT", &format!("/rules/{name}"), &["content-type: application/json"], rule.to_string()).await
}

#[tokio::test]
async fn a_rule_is_put_read_listed_and_taken_back() {
    let world = World::new();
    let rule = json!({"name": "sale", "when": {"scenario": "home", "filter": {"attributes.brand": "Fjell"}, "until": "2027-01-06T00:00:00.000Z"},
        "boost": {"filter": {"tags": "sale"}, "factor": 2.0}});

    assert_eq!(put(&world, "sale", &rule).await.status, StatusCode::CREATED);
    let again = put(&world, "sale", &rule).await;

    assert_eq!((again.status, again.json()), (StatusCode::OK, rule.clone()));
    assert_eq!(world.get("/rules/sale").await.json(), rule);
    assert_eq!(world.get("/rules").await.json(), json!({"rules": [{"origin": "store", "rule": rule}]}));
    assert_eq!(world.ask("DELETE", "/rules/sale", &[], "").await.status, StatusCode::NO_CONTENT);
    for method in ["GET", "DELETE"] {
        let reply = world.ask(method, "/rules/sale", &[], "").await;
        assert_eq!((reply.status, reply.pointers().len()), (StatusCode::NOT_FOUND, 0));
    }
}

#[tokio::test]
async fn what_is_no_rule_names_its_field() {
    let world = World::new();
    for (rule, pointers) in [
        (json!({}), vec![""]),
        (json!({"name": "other", "exclude": {}}), vec!["/name"]),
        (json!({"name": 7, "exclude": {}}), vec!["/name"]),
        (json!({"exclude": {}, "colour": 1}), vec!["/colour"]),
        (json!({"exclude": {"colour": "red"}}), vec!["/exclude/colour"]),
        (json!({"exclude": {"attributes.size": 4}}), vec!["/exclude/attributes.size"]),
        (json!({"exclude": {}, "when": ["home"]}), vec!["/when"]),
        (json!({"exclude": {}, "when": {"until": "soon"}}), vec!["/when/until"]),
        (json!({"exclude": {}, "when": {"scenario": "a b"}, "description": "x".repeat(1_001)}), vec!["/description", "/when/scenario"]),
        (json!({"boost": {"filter": {}, "factor": 101}}), vec!["/boost/factor"]),
        (json!({"pin": {"a": 1, "b": 1}}), vec!["/pin/b"]),
        (json!({"pin": {"a": "first"}}), vec!["/pin/a"]),
        (json!({"at_most": {"filter": {}}}), vec!["/at_most/n"]),
        (json!({"block": {"like": ["a gun"], "words": [""]}}), vec!["/block/near", "/block/words/0"]),
        (json!({"at_most": {"filter": {}, "n": -1}}), vec!["/at_most/n"]),
    ] {
        let reply = put(&world, "r", &rule).await;
        assert_eq!((reply.status, reply.pointers()), (StatusCode::UNPROCESSABLE_ENTITY, pointers.into_iter().map(str::to_owned).collect()), "{rule}");
    }
    assert_eq!(put(&world, "r", &json!([])).await.pointers(), [""]);
    assert_eq!(world.ask("PUT", "/rules/r", &[], "{\"exclude\"").await.status, StatusCode::BAD_REQUEST);
    for name in ["a%20b", "%E5%95%86", &"x".repeat(65), "%zz"] {
        assert_eq!(put(&world, name, &json!({"exclude": {}})).await.pointers(), ["/name"], "{name}");
    }
    assert_eq!(world.get("/rules/r?x=1").await.pointers(), ["/x"]);
}

#[tokio::test]
async fn rules_are_bounded_and_those_of_the_settings_stay() {
    let world = World::new();
    for n in 0..MAX_RULES {
        assert_eq!(put(&world, &format!("r{n}"), &json!({"exclude": {}})).await.status, StatusCode::CREATED);
    }

    assert_eq!(put(&world, "one-more", &json!({"exclude": {}})).await.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(put(&world, "r7", &json!({"exclude": {}})).await.status, StatusCode::OK);
    assert_eq!(world.ask("DELETE", "/rules/of-the-settings", &[], "").await.pointers(), ["/name"]);
}
