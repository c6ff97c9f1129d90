//! Asking for another model: what is taken, what is refused, where to look.

use super::*;
use crate::index::LatinStemmer;

#[tokio::test]
async fn a_reindex_begins_and_says_where_to_look_and_what_to_set() {
    let world = World::new();
    assert_eq!(world.get("/stats").await.json()["reindex"], Json::Null);

    let reply = world.post("/admin/reindex", &json!({"model": "large", "precision": "fp32", "lexical": {"latin_stemmer": "none", "title_weight": 2.5}})).await;

    assert_eq!((reply.status, reply.header("location")), (StatusCode::ACCEPTED, "/admin/reindex"));
    let asked = world.shop.reindex.lock().unwrap().clone().unwrap();
    assert_eq!((asked.model.as_deref(), asked.precision), (Some("large"), Some(Precision::Fp32)));
    assert_eq!((asked.latin_stemmer, asked.average_length, asked.title_weight), (Some(LatinStemmer::None), None, Some(2.5)));
    let state = reply.json();
    assert_eq!((&state["running"]["phase"], &state["change_settings"]["encoder.model"]), (&json!("filling"), &json!("large")));
    assert_eq!(world.get("/admin/reindex").await.json(), state);
    let progress = json!({"model": "large", "precision": "fp32", "phase": "filling", "done": 3, "total": 7});
    assert_eq!(world.get("/stats").await.json()["reindex"], progress);
}

#[tokio::test]
async fn what_cannot_be_built_is_refused_by_its_field_and_a_second_one_has_to_wait() {
    let world = World::new();

    for (body, pointer) in [
        (json!({"model": "unknown"}), "/model"),
        (json!({"model": 7}), "/model"),
        (json!({"modle": "large"}), "/modle"),
        (json!({"precision": "int4"}), "/precision"),
        (json!({"lexical": {"latin_stemmer": "klingon"}}), "/lexical/latin_stemmer"),
        (json!({"lexical": {"average_length": 0}}), "/lexical/average_length"),
        (json!({"lexical": {"title_weight": -1}}), "/lexical/title_weight"),
    ] {
        let reply = world.post("/admin/reindex", &body).await;
        assert_eq!((reply.status, reply.pointers()), (StatusCode::UNPROCESSABLE_ENTITY, vec![pointer.to_owned()]), "{body}: {}", reply.text());
    }
    assert!(world.post("/admin/reindex", &json!({"model": "unknown"})).await.text().contains("`inkling model fetch unknown`"));

    world.shop.become_(Mood::Overloaded);
    assert_eq!(world.post("/admin/reindex", &json!({})).await.status, StatusCode::CONFLICT);
    world.shop.become_(Mood::Broken);
    let broken = world.post("/admin/reindex", &json!({})).await;
    assert_eq!(broken.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(!broken.text().contains("fire"), "what is wrong inside is for the log");
}
