//! What a text is about and what it rejects, with the real encoder: rejected items fall, categories come by themselves.

use reqwest::{Method, StatusCode};
use serde_json::{Value as Json, json};

use crate::{
    server::{Client, ids, until},
    shop,
};

/// Items of one shelf: (name, title, text, categories).
type Shelf<'a> = &'a [(&'a str, &'a str, &'a str, &'a [&'a str])];

async fn put(client: &Client, shelf: &str, items: Shelf<'_>) {
    let items: Vec<Json> = items
        .iter()
        .map(|(name, title, text, categories)| json!({"item_id": format!("{shelf}-{name}"), "title": title, "text": text, "categories": categories, "tags": [shelf]}))
        .collect();
    assert_eq!(client.post("/items", &json!(items)).await["accepted"], items.len());
    client.all_searchable().await;
}

/// Asks for the items of a shelf with a text that rejects something.
async fn list(client: &Client, shelf: &str, text: &str) -> Json {
    client.recommend(&json!({"text": text, "filter": {"tags": shelf}, "limit": 20, "explain": true})).await
}

#[tokio::test]
async fn what_is_rejected_falls_below_all_else_and_the_explanation_says_so() {
    let client = shop::client();
    let boots: Shelf<'_> = &[
        ("oxblood", "Oxblood leather boots", "Polished, for the city.", &["footwear"]),
        ("chelsea", "Chelsea boots", "Ankle boots made of full-grain leather with an elastic side.", &["footwear"]),
        ("rain", "Rubber rain boots", "Knee-high boots for puddles.", &["footwear"]),
        ("canvas", "Canvas boots", "Light boots for dry days.", &["footwear"]),
        ("vegan", "Leather-free hiking boots", "Boots of microfibre.", &["footwear"]),
    ];
    put(&client, "bootshelf", boots).await;

    let answer = list(&client, "bootshelf", "boots, not leather").await;

    let order = ids(&answer);
    let place = |name: &str| order.iter().position(|id| *id == format!("bootshelf-{name}")).unwrap();
    for kept in ["rain", "canvas", "vegan"] {
        assert!(place(kept) < place("oxblood") && place(kept) < place("chelsea"), "{order:?}");
    }
    assert_eq!((&answer["intent"]["wanted"], &answer["intent"]["rejected"]), (&json!("boots"), &json!(["leather"])));
    for item in answer["items"].as_array().unwrap() {
        let parts = item["explanation"]["contributions"].as_object().unwrap();
        let sum: f64 = parts.values().map(|part| part.as_f64().unwrap()).sum();
        assert!((sum - item["score"].as_f64().unwrap()).abs() < 1e-3);
        let rejected = item["item_id"] == "bootshelf-oxblood" || item["item_id"] == "bootshelf-chelsea";
        assert_eq!(parts.get("rejected").is_some_and(|part| part.as_f64().unwrap() < 0.0), rejected, "{item}");
        assert!(!item["explanation"]["matched"].to_string().contains("leather"), "{item}");
    }
}

#[tokio::test]
async fn words_that_only_look_like_a_rejection_find_what_they_name() {
    let client = shop::client();
    put(
        &client,
        "drinks",
        &[
            ("free", "Sugar-free cola", "No sugar, all the taste.", &["drinks"]),
            ("cane", "Cane sugar cola", "Brewed with sugar.", &["drinks"]),
            ("zero", "无糖可乐", "不含糖的可乐。", &["drinks"]),
            ("sweet", "蔗糖可乐", "含糖的经典可乐。", &["drinks"]),
        ],
    )
    .await;

    let free = ids(&list(&client, "drinkshelf", "sugar-free cola").await);
    let without = ids(&list(&client, "drinkshelf", "cola without sugar").await);
    let chinese = ids(&list(&client, "drinkshelf", "无糖可乐").await);

    assert_eq!(free[0], "drinkshelf-free");
    assert!(without.iter().position(|id| id == "drinkshelf-free") < without.iter().position(|id| id == "drinkshelf-cane"), "{without:?}");
    assert_eq!(chinese[0], "drinkshelf-zero");
}

#[tokio::test]
async fn a_category_that_is_rejected_in_either_language_comes_last() {
    let client = shop::client();
    put(
        &client,
        "films",
        &[
            ("attic", "The Attic", "Something breathes behind the wall.", &["horror"]),
            ("ferry", "The Last Ferry", "Two strangers miss the boat and fall in love.", &["romance"]),
            ("orbit", "Long Orbit", "A crew of four mends a station.", &["science-fiction"]),
            ("well", "古井", "井里传来哭声。", &["恐怖"]),
            ("spring", "春天的信", "邮递员和老师的爱情。", &["爱情"]),
            ("bags", "真皮电影海报筒", "皮做的海报筒。", &["周边"]),
        ],
    )
    .await;

    let english = ids(&list(&client, "filmshelf", "anything but horror films").await);
    let chinese = ids(&list(&client, "filmshelf", "电影,除了恐怖片以外,别是皮的").await);

    assert_eq!(english.last().unwrap(), "filmshelf-attic", "{english:?}");
    assert_eq!(
        chinese.iter().skip(4).collect::<std::collections::BTreeSet<_>>(),
        ["filmshelf-bags".to_owned(), "filmshelf-well".to_owned()].iter().collect(),
        "{chinese:?}"
    );
}

#[tokio::test]
async fn a_text_is_told_the_categories_of_the_catalogue_once_they_are_made() {
    let client = shop::client();
    let ask = json!({"text": "a waterproof jacket for rainy hikes, not black"});

    until("there are categories", || async { client.post("/understand", &ask).await["categories"].as_array().is_some_and(|told| !told.is_empty()) }).await;
    let intent = client.post("/understand", &ask).await;

    let told: Vec<&str> = intent["categories"].as_array().unwrap().iter().map(|one| one["category"].as_str().unwrap()).collect();
    assert!(told.contains(&"jackets"), "{intent}");
    assert!(intent["categories"].as_array().unwrap().iter().all(|one| (0.0..=1.0).contains(&one["probability"].as_f64().unwrap())));
    assert_eq!((&intent["language"], &intent["rejected"], &intent["degraded"]), (&json!("en"), &json!(["black"]), &json!([])));
    assert_eq!(client.recommend(&ask).await["intent"]["wanted"], intent["wanted"]);
}

#[tokio::test]
async fn hostile_texts_are_understood_as_far_as_they_can_be() {
    let client = shop::client();
    let long = "waterproof jacket ".repeat(1_100);
    for text in ["", " \u{200b}\u{202e}", "<script>alert(1)</script>", "not", "不要", "👟", "\u{0}", "no no no no", long.as_str()] {
        let reply = client.json(Method::POST, "/understand", &json!({"text": text})).await;

        assert_eq!(reply.status, StatusCode::OK, "{text:.20}");
    }
    let truncated = client.post("/understand", &json!({"text": long})).await;
    assert_eq!(truncated["truncated"], true);
}
