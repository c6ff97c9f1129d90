use super::*;
use crate::domain::{Actor, Exposure, RecommendationId, SessionId, ShownItem, UserId};

on_both! {
    acts_are_what_events_on_items_say_and_own_types_come_back_by_name,
    words_of_an_actor_are_found_newest_first_among_events_without_any,
    a_retried_event_counts_once_and_a_reused_id_is_refused,
    one_call_may_hold_the_same_event_twice_and_invalid_ones_beside_good_ones,
    outcomes_name_the_sequences_that_the_log_has,
    histories_are_newest_first_by_time_and_belong_to_one_actor,
    every_field_of_an_event_comes_back_as_it_was,
    exposures_are_logged_soon_and_dropped_when_too_many_wait,
}

fn user(id: &str) -> Actor {
    Actor::User(UserId::new(id).unwrap())
}

async fn a_retried_event_counts_once_and_a_reused_id_is_refused(kind: Kind) {
    let store = temporary(kind).await;
    let first = event(json!({"event_id": "e1", "text": "rain jacket"}));

    assert_eq!(store.append_events(vec![first.clone()], at(1)).await.unwrap(), [EventOutcome::Accepted(1)]);
    assert_eq!(store.append_events(vec![first.clone()], at(2)).await.unwrap(), [EventOutcome::Duplicate]);
    for other in [
        json!({"event_id": "e1"}),
        json!({"event_id": "e1", "text": "rain jacket", "timestamp": 1}),
        json!({"event_id": "e1", "text": "rain jacket", "value": 1}),
    ] {
        assert_eq!(store.append_events(vec![event(other)], at(3)).await.unwrap(), [EventOutcome::Reused]);
    }

    let log = store.events_after(0, 10).await.unwrap();
    assert_eq!(log.len(), 1);
    assert_eq!(log[0].event, crate::domain::Event { timestamp: Some(at(1)), ..first });
    assert_eq!(store.event_count().await.unwrap(), 1);
}

async fn one_call_may_hold_the_same_event_twice_and_invalid_ones_beside_good_ones(kind: Kind) {
    let store = temporary(kind).await;
    store.append_events(vec![event(json!({"event_id": "old"}))], at(1)).await.unwrap();
    let events = vec![
        event(json!({"event_id": "new"})),
        event(json!({"event_id": "new"})),
        event(json!({"event_id": "new", "value": 7})),
        event(json!({"event_id": "old", "value": 7})),
        event(json!({"event_id": "old"})),
        event(json!({"event_id": "old"})),
        event(json!({})),
        event(json!({})),
    ];

    let outcomes = store.append_events(events, at(2)).await.unwrap();

    use EventOutcome::{Accepted, Duplicate, Reused};
    assert!(matches!(outcomes[..], [Accepted(_), Duplicate, Reused, Reused, Duplicate, Duplicate, Accepted(_), Accepted(_)]), "{outcomes:?}");
    assert_eq!(store.event_count().await.unwrap(), 4);
}

async fn outcomes_name_the_sequences_that_the_log_has(kind: Kind) {
    let store = temporary(kind).await;
    store.append_events((0..200).map(|i| event(json!({"event_id": format!("{}", i * 2)}))).collect(), at(1)).await.unwrap();

    let outcomes = store.append_events((0..400).map(|i| event(json!({"event_id": format!("{i}")}))).collect(), at(2)).await.unwrap();

    let log: Vec<_> = store.events_after(0, 1000).await.unwrap();
    assert!(log.is_sorted_by(|a, b| a.sequence < b.sequence));
    for (i, outcome) in outcomes.into_iter().enumerate() {
        match outcome {
            EventOutcome::Accepted(sequence) => {
                let logged = log.iter().find(|logged| logged.sequence == sequence).unwrap();
                assert_eq!(logged.event.event_id.as_ref().unwrap().as_str(), i.to_string());
                assert_eq!(i % 2, 1);
            }
            other => assert_eq!((other, i % 2), (EventOutcome::Duplicate, 0)),
        }
    }
    assert_eq!(log.len(), 400);
}

async fn histories_are_newest_first_by_time_and_belong_to_one_actor(kind: Kind) {
    let store = temporary(kind).await;
    let events = vec![
        event(json!({"timestamp": 5, "item_id": "b"})),
        event(json!({"timestamp": 9, "item_id": "c", "session_id": "s"})),
        event(json!({"timestamp": 5, "item_id": "a"})),
        event(json!({"user_id": null, "session_id": "s", "item_id": "d"})),
        event(json!({"user_id": "other", "item_id": "e"})),
    ];
    store.append_events(events, at(7)).await.unwrap();
    let items = |log: Vec<crate::domain::LoggedEvent>| log.into_iter().map(|logged| logged.event.item_id.unwrap().as_str().to_owned()).collect::<Vec<_>>();

    assert_eq!(items(store.recent_events(&user("u"), 10).await.unwrap()), ["c", "a", "b"]);
    assert_eq!(items(store.recent_events(&user("u"), 1).await.unwrap()), ["c"]);
    assert_eq!(items(store.recent_events(&Actor::Session(SessionId::new("s").unwrap()), 10).await.unwrap()), ["d"]);
    assert!(store.recent_events(&user("nobody"), 10).await.unwrap().is_empty());

    let acts = |log: Vec<crate::domain::LoggedAct>| log.into_iter().map(|act| act.item.as_str().to_owned()).collect::<Vec<_>>();
    assert_eq!(acts(store.recent_acts(&user("u"), 10).await.unwrap()), ["c", "a", "b"]);
    assert_eq!(acts(store.recent_acts(&user("u"), 1).await.unwrap()), ["c"]);
    assert_eq!(acts(store.recent_acts(&Actor::Session(SessionId::new("s").unwrap()), 10).await.unwrap()), ["d"]);
}

async fn acts_are_what_events_on_items_say_and_own_types_come_back_by_name(kind: Kind) {
    let store = temporary(kind).await;
    let events = vec![
        event(json!({"type": "search", "text": "tent", "item_id": null})),
        event(json!({"type": "wishlist", "item_id": "a", "value": 2.5, "recommendation_id": "r", "text": "tent"})),
    ];
    let wishlist = events[1].clone();
    store.append_events(events, at(7)).await.unwrap();

    let all = store.acts_after(0, 10).await.unwrap();
    let recent = store.recent_acts(&user("u"), 10).await.unwrap();

    let [act] = &all[..] else { panic!("{all:?}") };
    assert_eq!((act.kind, act.item.as_str(), act.value, act.at), (wishlist.kind, "a", Some(2.5), at(7)));
    assert_eq!((act.kind.name(), &act.recommendation_id), ("wishlist", &wishlist.recommendation_id));
    assert_eq!(recent, [crate::domain::LoggedAct { recommendation_id: None, ..act.clone() }]);
    assert!(store.acts_after(act.sequence, 10).await.unwrap().is_empty());
}

async fn words_of_an_actor_are_found_newest_first_among_events_without_any(kind: Kind) {
    let store = temporary(kind).await;
    let word = |at: i64, text: Option<&str>| event(json!({"timestamp": at, "text": text}));
    store.append_events(vec![word(1, Some("old")), word(9, Some("new")), word(5, None), word(7, Some("middle"))], at(7)).await.unwrap();

    let texts: Vec<_> = store.recent_texts(&user("u"), 2).await.unwrap().into_iter().filter_map(|logged| logged.event.text).collect();

    assert_eq!(texts, ["new", "middle"]);
    assert!(store.recent_texts(&Actor::Session(SessionId::new("s").unwrap()), 2).await.unwrap().is_empty());
}

async fn every_field_of_an_event_comes_back_as_it_was(kind: Kind) {
    let store = temporary(kind).await;
    let all = event(json!({"event_id": "e/1 ü", "type": "review", "user_id": "用户", "session_id": "s", "item_id": "商品", "recommendation_id": "r",
        "value": 4.5, "text": "line\nbreak \u{0} 很好 🏔", "timestamp": "2026-11-23T12:00:00.123Z"}));

    store.append_events(vec![all.clone()], at(1)).await.unwrap();

    assert_eq!(store.events_after(0, 1).await.unwrap()[0].event, all);
}

async fn exposures_are_logged_soon_and_dropped_when_too_many_wait(kind: Kind) {
    let store = temporary(kind).await;
    let exposure = |n: usize| Exposure {
        recommendation_id: RecommendationId::new(format!("r{n}")).unwrap(),
        at: at(5),
        user_id: Some(UserId::new("u").unwrap()),
        session_id: None,
        scenario: "home".into(),
        items: vec![
            ShownItem { item_id: id("a"), features: [0.1, 0.0, 1.0, 0.0, 0.5, 0.25, 0.0, 0.5, 0.0, 0.0, 0.0], propensity: 0.025 },
            ShownItem::certain(id("b"), [0.0; 11]),
        ],
    };

    assert!(store.record_exposure(exposure(0)));
    let taken = (1..5_000).filter(|n| store.record_exposure(exposure(*n))).count();

    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(5);
    while store.metrics().exposures.get() < taken as u64 + 1 {
        assert!(std::time::Instant::now() < deadline);
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert_eq!(store.exposure(&exposure(0).recommendation_id).await.unwrap(), Some(exposure(0)));
    let first = store.exposures_after(None, 2).await.unwrap();
    assert_eq!(first, [exposure(0), exposure(1)]);
    assert_ne!(store.exposures_after(Some(&first[1].recommendation_id), 1).await.unwrap(), first[1..]);
    assert_eq!(store.exposure_before_newest(taken).await.unwrap(), Some(first[0].recommendation_id.clone()));
    assert_eq!(store.exposure_before_newest(taken + 1).await.unwrap(), None);
    assert_eq!(store.metrics().exposures_dropped.get(), 4_999 - taken as u64);
    assert!(taken < 4_999);
}
