//! The OpenAPI document says what is served, all of it, with examples.

use super::*;

fn paths(document: &Json) -> Vec<(String, String, Json)> {
    let paths = document["paths"].as_object().unwrap().iter();
    paths
        .flat_map(|(path, item)| item.as_object().unwrap().iter().map(|(method, operation)| (path.clone(), method.to_uppercase(), operation.clone())))
        .collect()
}

#[tokio::test]
async fn every_described_route_is_served_and_every_served_one_is_described() {
    let world = World::stocked();
    let document = world.get("/openapi.json").await.json();
    let described: BTreeSet<_> = paths(&document).into_iter().map(|(path, method, _)| format!("{method} {path}")).collect();

    // The contract of this issue, written down a second time.
    let contract = "POST /recommend|POST /understand|POST /feedback|GET /items|POST /items|PUT /items|PATCH /items|DELETE /items|GET /items/{item_id}|PUT /items/{item_id}\
        |PATCH /items/{item_id}|DELETE /items/{item_id}|GET /items/{item_id}/similar|GET /similar|GET /users|DELETE /users|GET /users/{user_id}\
        |DELETE /users/{user_id}|GET /users/{user_id}/export|GET /user-export|POST /users/{user_id}/merge|POST /user-merge|DELETE /sessions/{session_id}\
        |DELETE /sessions|GET /stats|GET /health/live|GET /health/ready|GET /metrics\
        |GET /rules|GET /rules/{name}|PUT /rules/{name}|DELETE /rules/{name}|POST /admin/train|GET /admin/train|POST /admin/reindex|GET /admin/reindex|GET /openapi.json|GET /docs|GET /";
    assert_eq!(described, contract.split('|').map(str::to_owned).collect());
    for path in described.iter().map(|route| route.split_once(' ').unwrap().1).collect::<BTreeSet<_>>() {
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE"] {
            let reply = world
                .ask(method, &path.replace("{item_id}", "sku-1").replace("{user_id}", "u42").replace("{session_id}", "s9").replace("{name}", "sale"), &[], "")
                .await;
            let served = reply.status != StatusCode::METHOD_NOT_ALLOWED;
            assert_eq!(served, described.contains(&format!("{method} {path}")), "{method} {path}: {}", reply.status);
        }
    }
}

#[tokio::test]
async fn the_document_is_complete() {
    let document = World::new().get("/openapi.json").await.json();

    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(document["components"]["securitySchemes"]["bearer"]["scheme"], "bearer");
    assert_eq!(document["components"]["securitySchemes"]["api_key"]["name"], "X-API-Key");
    let mut ids = BTreeSet::new();
    for (path, method, operation) in paths(&document) {
        let id = operation["operationId"].as_str().unwrap().to_owned();
        assert!(ids.insert(id.clone()), "{id} twice");
        assert!(!operation["summary"].as_str().unwrap().is_empty() && !operation["tags"][0].as_str().unwrap().is_empty(), "{method} {path}");
        let responses = operation["responses"].as_object().unwrap();
        for status in ["422", "503"] {
            assert!(responses[status]["content"].get("application/problem+json").is_some(), "{method} {path} {status}");
        }
        assert_eq!(operation.get("security").is_some(), responses.contains_key("401"), "{method} {path}");
        assert_eq!(operation.get("requestBody").is_some(), responses.contains_key("413"), "{method} {path}");
    }
    let text = document.to_string();
    for reference in text.split("\"$ref\":\"#/components/schemas/").skip(1) {
        let name = reference.split('"').next().unwrap();
        assert!(document["components"]["schemas"].get(name).is_some(), "{name} is referred to but missing");
    }
    for schema in [
        "RecommendBody",
        "RecommendAnswer",
        "UnderstandBody",
        "UnderstandAnswer",
        "FeedbackAnswer",
        "Item",
        "Event",
        "Problem",
        "Stats",
        "ReindexBody",
        "ReindexState",
        "Rule",
        "RulesAnswer",
    ] {
        let example = &document["components"]["schemas"][schema]["examples"];
        assert!(example.is_array(), "{schema} has no example");
    }
}

#[tokio::test]
async fn the_examples_in_the_document_are_accepted() {
    let world = World::stocked();
    let document = world.get("/openapi.json").await.json();
    let schemas = &document["components"]["schemas"];

    assert_eq!(world.post("/recommend", &schemas["RecommendBody"]["examples"][0]).await.status, StatusCode::OK);
    assert_eq!(world.post("/understand", &schemas["UnderstandBody"]["examples"][0]).await.status, StatusCode::OK);
    assert_eq!(world.post("/feedback", &schemas["Event"]["examples"][0]).await.status, StatusCode::OK);
    assert_eq!(world.post("/items", &schemas["Item"]["examples"][0]).await.status, StatusCode::OK);
    assert_eq!(world.post("/admin/reindex", &schemas["ReindexBody"]["examples"][0]).await.status, StatusCode::ACCEPTED);
    let rule = world.ask("PUT", "/rules/winter-sale", &["content-type: application/json"], schemas["Rule"]["examples"][0].to_string()).await;
    assert_eq!(rule.status, StatusCode::CREATED, "{}", rule.text());
    let named = document["paths"]["/feedback"]["post"]["requestBody"]["content"]["application/json"]["examples"].as_object().unwrap();
    assert_eq!(named.len(), 3);
    for (name, example) in named {
        assert_eq!(world.post("/feedback", &example["value"]).await.status, StatusCode::OK, "{name}");
    }
    let many = &document["paths"]["/items"]["post"]["requestBody"]["content"]["application/json"]["example"];
    assert_eq!(world.post("/items", many).await.status, StatusCode::OK);
}
