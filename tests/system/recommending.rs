//! Lists: for a text, for a user, page by page, and what is gone from them.

use std::collections::HashSet;

use reqwest::{Method, StatusCode};
use serde_json::{Value as Json, json};

use crate::{
    server::{Client, Server, ids},
    shop,
};

const TEXT: &str = "light jacket for rainy hikes";

/// Puts items that only their test knows of, with the tag to find them by.
async fn put(client: &Client, tag: &str, titles: &[&str]) -> Vec<String> {
    let ids: Vec<String> = (0..titles.len()).map(|i| format!("{tag}-{i}")).collect();
    let items: Vec<Json> = ids.iter().zip(titles).map(|(id, title)| json!({"item_id": id, "title": title, "tags": [tag], "price": 10})).collect();
    assert_eq!(client.post("/items", &json!(items)).await["accepted"], titles.len());
    client.all_searchable().await;
    ids
}

#[tokio::test]
async fn a_text_finds_what_it_means_in_two_languages() {
    let client = shop::client();

    let english = client.recommend(&json!({"text": TEXT, "limit": 10})).await;
    let chinese = client.recommend(&json!({"text": "下雨天徒步穿的轻便外套", "limit": 10})).await;

    assert!(ids(&english)[..3].contains(&"shop-rain-shell".to_owned()), "{english}");
    assert!(ids(&chinese)[..3].contains(&"shop-zh-light-shell".to_owned()), "{chinese}");
    assert_eq!((&english["degraded"], &english["intent"]["language"], &chinese["intent"]["language"]), (&json!([]), &json!("en"), &json!("zh")));
}

#[tokio::test]
async fn scores_fall_and_the_contributions_add_up_to_them() {
    let client = shop::client();
    client.post("/feedback", &json!({"type": "purchase", "user_id": "explained", "item_id": "shop-trail-anorak", "value": 139})).await;

    for body in [
        json!({"text": TEXT}),
        json!({"user_id": "explained"}),
        json!({"user_id": "explained", "text": TEXT, "items": ["shop-city-mac"],
        "boosts": [{"filter": {"tags": "rain"}, "factor": 1.5}]}),
    ] {
        let mut body = body;
        body["explain"] = json!(true);
        body["limit"] = json!(20);

        let answer = client.recommend(&body).await;

        let items = answer["items"].as_array().unwrap();
        assert_eq!(items.len(), 20, "{body}");
        let scores: Vec<f64> = items.iter().map(|item| item["score"].as_f64().unwrap()).collect();
        assert!(scores.is_sorted_by(|a, b| a >= b), "{body}: {scores:?}");
        for (i, (item, score)) in items.iter().zip(&scores).enumerate() {
            let parts = item["explanation"]["contributions"].as_object().unwrap();
            let sum: f64 = parts.values().map(|part| part.as_f64().unwrap()).sum();
            assert!((sum - score).abs() < 1e-3, "{body}: {score} is not the sum of {parts:?}");
            assert_eq!(item["position"], i + 1);
            assert!(!item["explanation"]["summary"].as_str().unwrap().is_empty());
        }
    }
}

/// Four pages of five, with something done after the second.
async fn pages<F: Future<Output = ()>>(client: &Client, body: &Json, between: impl FnOnce() -> F) -> Vec<String> {
    let (mut paged, mut ask, mut between) = (Vec::new(), body.clone(), Some(between));
    ask["limit"] = json!(5);
    for page in 0..4 {
        let answer = client.recommend(&ask).await;
        assert_eq!(answer["items"][0]["position"], page * 5 + 1, "{answer}");
        paged.extend(ids(&answer));
        ask["after"] = answer["next"].clone();
        if let Some(between) = between.take_if(|_| page == 1) {
            between().await;
        }
    }
    assert_eq!(paged.iter().collect::<HashSet<_>>().len(), 20, "{body}: {paged:?}");
    paged
}

#[tokio::test]
async fn pages_follow_the_order_of_one_long_list_and_never_repeat_whatever_happens_meanwhile() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path()).await;
    let client = server.client();
    shop::fill(&client).await;
    client.post("/feedback", &json!({"type": "click", "user_id": "reader", "item_id": "shop-trekking-poles"})).await;

    for body in [json!({"user_id": "reader", "text": TEXT}), json!({"user_id": "reader"}), json!({"text": TEXT, "diversity": 0.5}), json!({})] {
        let mut long = body.clone();
        long["limit"] = json!(20);
        let long = client.ids(&long).await;

        assert_eq!(pages(&client, &body, || async {}).await, long, "{body}");
        // Neither the reader's own clicks nor what becomes popular by them move a list that was begun.
        let click = json!({"type": "click", "user_id": "reader", "item_id": "shop-city-mac"});
        let moved = pages(&client, &body, || async { assert_eq!(client.post("/feedback", &click).await["accepted"], 1) }).await;
        assert_eq!(moved, long, "{body}");
    }
}

#[tokio::test]
async fn filters_and_exclusions_hold_for_every_item() {
    let client = shop::client();

    let jackets = client
        .recommend(&json!({"text": TEXT, "limit": 50, "filter": {"categories": ["jackets"], "price": {"lte": 140}}, "fields": ["categories", "price"]}))
        .await;
    let without = client.ids(&json!({"text": TEXT, "limit": 50, "exclude_items": ["shop-rain-shell"]})).await;
    let none = client.recommend(&json!({"text": TEXT, "filter": {"price": {"lt": 0}}})).await;

    let items = jackets["items"].as_array().unwrap();
    assert!(items.len() > 1, "{jackets}");
    for item in items {
        assert!(item["fields"]["price"].as_f64().unwrap() <= 140.0, "{item}");
        assert!(item["fields"]["categories"].as_array().unwrap().contains(&json!("jackets")), "{item}");
    }
    assert!(!without.contains(&"shop-rain-shell".to_owned()) && without.len() == 50, "{without:?}");
    assert_eq!((&none["items"], &none["next"]), (&json!([]), &Json::Null));
}

#[tokio::test]
async fn unavailable_and_deleted_items_are_gone_from_the_next_answer_and_a_price_shows_at_once() {
    let client = shop::client();
    let own = put(&client, "fleeting", &["Copper kettle", "Steel kettle", "Glass kettle"]).await;
    let ask = json!({"text": "kettle", "filter": {"tags": "fleeting"}, "fields": ["price"]});
    assert_eq!(client.ids(&ask).await.len(), 3);

    assert_eq!(client.json(Method::PATCH, "/items/fleeting-0", &json!({"available": false})).await.status, StatusCode::OK);
    let after_patch = client.ids(&ask).await;
    assert_eq!(client.send(Method::DELETE, "/items/fleeting-1", &[], "").await.status, StatusCode::NO_CONTENT);
    let after_delete = client.ids(&ask).await;
    assert_eq!(client.json(Method::PATCH, "/items/fleeting-2", &json!({"price": 12.5})).await.status, StatusCode::OK);
    let after_price = client.recommend(&ask).await;
    assert_eq!(client.json(Method::PATCH, "/items/fleeting-0", &json!({"available": true})).await.status, StatusCode::OK);

    assert!(!after_patch.contains(&own[0]) && after_patch.len() == 2, "{after_patch:?}");
    assert_eq!(after_delete, own[2..]);
    assert_eq!(client.get("/items/fleeting-1").await.status, StatusCode::NOT_FOUND);
    assert_eq!(after_price["items"][0]["fields"]["price"], 12.5);
    client.all_searchable().await;
    assert_eq!(client.ids(&ask).await.into_iter().collect::<HashSet<_>>(), HashSet::from([own[0].clone(), own[2].clone()]));
}

#[tokio::test]
async fn what_was_bought_is_left_out_where_seen_items_are_excluded() {
    let client = shop::client();
    let own = put(&client, "seen", &["Oak chair", "Pine chair"]).await;
    client
        .post(
            "/feedback",
            &json!([{"type": "purchase", "user_id": "buyer", "item_id": own[0], "value": 10},
        {"type": "view", "user_id": "buyer", "item_id": own[1]}]),
        )
        .await;
    let ask = |exclude_seen: bool| json!({"user_id": "buyer", "text": "chair", "filter": {"tags": "seen"}, "exclude_seen": exclude_seen});

    assert_eq!(client.ids(&ask(true)).await, own[1..]); // the shop preset does not call a view seen
    assert_eq!(client.ids(&ask(false)).await.len(), 2);
}

#[tokio::test]
async fn similar_items_are_listed_without_the_item_itself() {
    let similar = shop::client().get("/items/shop-rain-shell/similar?limit=5").await.good();

    assert_eq!(ids(&similar).len(), 5);
    assert!(!ids(&similar).contains(&"shop-rain-shell".to_owned()));
}
