//! Documents, pages, metrics, and who may use which door.

use std::collections::BTreeSet;

use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::{
    server::{Server, inkling, settings_file},
    shop,
};

#[tokio::test]
async fn the_openapi_document_lists_the_routes_that_are_served() {
    let client = shop::client();

    let document = client.get("/openapi.json").await.good();

    let paths: BTreeSet<_> = document["paths"].as_object().unwrap().keys().map(String::as_str).collect();
    for path in [
        "/recommend",
        "/feedback",
        "/items",
        "/items/{item_id}",
        "/items/{item_id}/similar",
        "/stats",
        "/health/live",
        "/health/ready",
        "/metrics",
        "/admin/train",
    ] {
        assert!(paths.contains(path), "{path}: {paths:?}");
    }
    for path in paths {
        let asked = client.send(Method::OPTIONS, &path.replace("{item_id}", "shop-rain-shell"), &[], "").await;
        assert_ne!(asked.status, StatusCode::NOT_FOUND, "{path}");
    }
}

#[tokio::test]
async fn pages_load_nothing_from_outside() {
    let client = shop::client();

    let moved = client.get("/docs").await;
    assert_eq!(moved.status, StatusCode::SEE_OTHER);
    for path in ["/", "/docs/"] {
        let page = client.get(path).await;

        assert_eq!((page.status, page.media.starts_with("text/html")), (StatusCode::OK, true), "{path}");
        for outside in ["src=\"http", "href=\"http", "src='http", "href='http", "src=\"//", "href=\"//", "url(http", "@import"] {
            assert!(!page.text().contains(outside), "{path} has {outside}");
        }
    }
    for file in ["swagger-ui.css", "swagger-ui-bundle.js", "swagger-initializer.js"] {
        assert_eq!(client.get(&format!("/docs/{file}")).await.status, StatusCode::OK, "{file}");
    }
}

#[tokio::test]
async fn metrics_have_the_names_that_dashboards_use_and_no_words_of_users() {
    let client = shop::client();
    client.recommend(&json!({"text": "secretword", "user_id": "secretuser"})).await;
    client.post("/feedback", &json!({"type": "search", "user_id": "secretuser", "text": "secretword"})).await;

    let metrics = client.metrics().await;

    for name in [
        "inkling_http_requests_total{",
        "inkling_http_request_seconds_bucket{",
        "inkling_recommend_stage_seconds_bucket{",
        "inkling_categories_build_seconds_count ",
        "inkling_categories_build_failures_total ",
        "inkling_encoder_forward_seconds_bucket{",
        "inkling_encoder_cache_hits_total ",
        "inkling_items_pending ",
        "inkling_events_total{",
        "inkling_store_commits_total ",
        "inkling_part_up{part=\"index\"} 1",
        "process_resident_memory_bytes ",
    ] {
        assert!(metrics.lines().any(|line| line.starts_with(name)), "{name}\n{metrics}");
    }
    assert!(!metrics.contains("secret"));
}

/// What goes into the settings for a key, as the command prints it.
fn hashed(key: &str) -> String {
    let mut command = inkling(["config", "hash-key"]);
    let mut child = command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), key.as_bytes()).unwrap();
    String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap().trim().to_owned()
}

#[tokio::test]
async fn keys_open_the_doors_that_they_are_for() {
    const STOREFRONT: &str = "storefront-key-0123456789";
    const ADMIN: &str = "admin-key-0123456789abcdef";
    let folder = tempfile::tempdir().unwrap();
    let file = settings_file(folder.path(), &format!("[http.keys]\nstorefront = [\"{}\"]\nadmin = [\"{}\"]\n", hashed(STOREFRONT), hashed(ADMIN)));
    let server = Server::start_with_file(&folder.path().join("data"), &file).await;
    let client = server.client();
    let click = json!({"type": "click", "user_id": "u", "item_id": "i"}).to_string();

    for (method, path, body, nobody, storefront, admin) in [
        ("POST", "/recommend", "{}", 401, 200, 200),
        ("POST", "/feedback", click.as_str(), 401, 200, 200),
        ("PUT", "/items/a", "{\"title\": \"x\"}", 401, 403, 201),
        ("GET", "/items/a", "", 401, 403, 200),
        ("GET", "/items/a/similar", "", 401, 200, 200),
        ("GET", "/stats", "", 401, 403, 200),
        ("GET", "/metrics", "", 401, 403, 200),
        ("GET", "/admin/train", "", 401, 403, 200),
        ("DELETE", "/items/a", "", 401, 403, 204),
        ("GET", "/health/live", "", 200, 200, 200),
        ("GET", "/health/ready", "", 200, 200, 200),
        ("GET", "/openapi.json", "", 200, 200, 200),
        ("GET", "/", "", 200, 200, 200),
    ] {
        let wrong = ("authorization".to_owned(), "Bearer something-else-entirely".to_owned());
        for (header, expected) in [
            (None, nobody),
            (Some(wrong), nobody),
            (Some(("x-api-key".to_owned(), STOREFRONT.to_owned())), storefront),
            (Some(("authorization".to_owned(), format!("Bearer {ADMIN}"))), admin),
        ] {
            let mut headers = vec![("content-type", "application/json")];
            headers.extend(header.as_ref().map(|(name, value)| (name.as_str(), value.as_str())));

            let reply = client.send(method.parse().unwrap(), path, &headers, body.to_owned()).await;

            assert_eq!(reply.status, expected, "{method} {path} {header:?}: {}", reply.text());
            if reply.status.is_client_error() {
                assert!(reply.pointers().is_empty());
            }
        }
    }
    assert!(server.log().iter().all(|line| !line.contains(STOREFRONT) && !line.contains(ADMIN)));
}
