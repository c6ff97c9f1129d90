//! A bilingual shop: words find what is meant in whatever language, and what is in their own language stays in front.

use serde_json::{Value as Json, json};

use crate::server::{Client, Server, ids, until};

/// The demo's 400 items, half English and half Chinese.
const ITEMS: [&str; 5] = [
    include_str!("../../src/app/demo/items/shop.ndjson"),
    include_str!("../../src/app/demo/items/news.ndjson"),
    include_str!("../../src/app/demo/items/video.ndjson"),
    include_str!("../../src/app/demo/items/music.ndjson"),
    include_str!("../../src/app/demo/items/support.ndjson"),
];

/// A line each: the language in which alone the catalogue has what is meant, or `own` where it has it in the words' own language too; the words; the
/// items that are meant. Written before the ranking could do it; "own" words are those that a shop hears every day.
const TEXTS: &str = include_str!("across.tsv");

async fn found(client: &Client, text: &str, filter: &Json, meant: &str, within: usize) -> bool {
    let list = ids(&client.recommend(&json!({"text": text, "limit": within, "filter": filter})).await);
    list.iter().any(|id| meant.split(' ').any(|meant| meant == id))
}

/// For how many of the texts of `kind` an item that is meant is among the first.
async fn count(client: &Client, kind: &str, filter: Json, within: usize) -> usize {
    let mut hits = 0;
    for line in TEXTS.lines() {
        let [of, text, meant] = line.split('\t').collect::<Vec<_>>().try_into().unwrap();
        if of == kind && found(client, text, &filter, meant, within).await {
            hits += 1;
        }
    }
    hits
}

#[tokio::test]
async fn words_find_what_the_catalogue_has_in_the_other_language_only_and_their_own_language_stays_in_front() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path()).await;
    for items in ITEMS {
        assert_eq!(server.client().lines("/items", items.to_owned()).await.good()["accepted"], 80);
    }
    server.client().all_searchable().await;
    server.stop().await;
    // Started anew, it looks at the whole catalogue first of all.
    let server = Server::start(folder.path()).await;
    let client = server.client();
    let ask = json!({"text": "a jacket"});
    until("the languages are known", || async { client.post("/understand", &ask).await["categories"].as_array().is_some_and(|told| !told.is_empty()) }).await;

    let (chinese, english) = (count(&client, "zh", json!({}), 12).await, count(&client, "en", json!({}), 12).await);
    let (only_chinese, only_english) = (count(&client, "zh", json!({"language": "zh"}), 5).await, count(&client, "en", json!({"language": "en"}), 5).await);
    let own = count(&client, "own", json!({}), 3).await;

    // Of 30 each; with `recommend.across_languages = 0` it is 5 and 0.
    println!("among the first twelve: {chinese} Chinese, {english} English; among the first five of that language {only_chinese}, {only_english}; own {own}");
    assert!(chinese >= 15 && english >= 14, "{chinese} {english}");
    assert!(only_chinese >= 20 && only_english >= 22, "{only_chinese} {only_english}");
    assert!(own >= 29, "{own} of 30");
}
