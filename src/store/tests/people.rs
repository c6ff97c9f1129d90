//! Merging and erasing people: what is whose, what comes late, what is left behind in files.

use std::path::PathBuf;

use super::*;
use crate::domain::{Actor, Exposure, Feature, LoggedEvent, RecommendationId, SessionId, ShownItem, UserId};

on_both! {
    a_session_that_logs_in_gives_what_it_did_to_its_user_and_keeps_seeing_it,
    late_events_and_answers_of_a_merged_name_are_the_users,
    a_repeated_merge_does_nothing_and_a_retry_of_an_older_event_is_still_a_duplicate,
    users_are_one_person_however_and_in_whatever_order_they_are_merged,
    a_session_that_logs_in_again_as_somebody_else_gives_only_what_comes_later,
    a_merge_of_many_rows_moves_them_all_and_one_that_broke_off_is_finished,
    an_erased_user_is_gone_with_all_that_was_merged_and_late_retries_do_not_bring_it_back,
    an_erased_person_may_come_back_with_new_events,
    an_erased_session_is_gone_whoever_was_logged_in,
    erasing_somebody_unknown_is_an_empty_receipt,
    an_erasure_of_many_rows_takes_all_and_numbers_go_on_after_a_restart,
    an_exposure_that_waits_while_its_user_is_erased_is_not_logged,
    what_is_known_of_a_user_is_counted_and_paged,
    merges_and_erasures_are_seen_by_who_follows,
}

fn name(id: &str) -> UserId {
    UserId::new(id).unwrap()
}

fn user(id: &str) -> Actor {
    Actor::User(name(id))
}

fn session(id: &str) -> Actor {
    Actor::Session(SessionId::new(id).unwrap())
}

/// A click on an item, by a user, in a session, or both, at a time.
fn click(item: &str, user: Option<&str>, session: Option<&str>, ms: i64) -> Event {
    event(json!({"item_id": item, "user_id": user, "session_id": session, "timestamp": ms, "event_id": format!("click {item}")}))
}

fn shown(answer: &str, user: Option<&str>, session: Option<&str>, ms: i64) -> Exposure {
    Exposure {
        recommendation_id: RecommendationId::new(answer).unwrap(),
        at: at(ms),
        user_id: user.map(name),
        session_id: session.map(|session| SessionId::new(session).unwrap()),
        scenario: "home".into(),
        items: vec![ShownItem::certain(id("i"), [0.5; Feature::ALL.len()])],
    }
}

/// Logs exposures, and waits until they are there.
async fn show(store: &Store, exposures: Vec<Exposure>) {
    let before = store.metrics().exposures.get();
    let count = exposures.len() as u64;
    exposures.into_iter().for_each(|exposure| assert!(store.record_exposure(exposure)));
    while store.metrics().exposures.get() < before + count {
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
}

/// The items of an actor's history, newest first, whoever the name stands for.
async fn history(store: &Store, actor: Actor) -> String {
    let person = store.person(&actor).await.unwrap();
    let events = store.recent_events(&person, 100).await.unwrap();
    let acts = store.recent_acts(&person, 100).await.unwrap();
    assert_eq!(acts.iter().map(|act| act.sequence).collect::<Vec<_>>(), events.iter().map(|logged| logged.sequence).collect::<Vec<_>>());
    let worded = store.recent_texts(&person, 100).await.unwrap();
    assert_eq!(worded.len(), events.iter().filter(|logged| logged.event.text.is_some()).count());
    items(&events)
}

fn items(events: &[LoggedEvent]) -> String {
    events.iter().map(|logged| logged.event.item_id.as_ref().unwrap().as_str()).collect::<Vec<_>>().join(" ")
}

async fn append(store: &Store, events: Vec<Event>) -> String {
    let outcome = |outcome: &EventOutcome| match outcome {
        EventOutcome::Accepted(_) => "accepted".to_owned(),
        EventOutcome::Moved(_, user) => format!("moved to {user}"),
        EventOutcome::Duplicate => "duplicate".to_owned(),
        EventOutcome::Reused => "reused".to_owned(),
    };
    store.append_events(events, at(1_000)).await.unwrap().iter().map(outcome).collect::<Vec<_>>().join(", ")
}

async fn a_session_that_logs_in_gives_what_it_did_to_its_user_and_keeps_seeing_it(kind: Kind) {
    let store = temporary(kind).await;
    let worded = Event { text: Some("tent".into()), ..click("a", None, Some("s"), 1) };
    append(&store, vec![worded, click("b", Some("u"), Some("s"), 2), click("c", Some("u"), None, 3), click("d", Some("v"), Some("s"), 4)]).await;
    append(&store, vec![click("e", None, Some("other"), 5)]).await;
    show(&store, vec![shown("1", None, Some("s"), 1), shown("2", Some("v"), Some("s"), 1), shown("3", None, Some("other"), 1)]).await;

    let merged = store.merge(&session("s"), &name("u"), at(10)).await.unwrap();

    assert_eq!((merged.user, merged.events, merged.exposures), (name("u"), 1, 1));
    assert_eq!(merged.involved, [user("u"), session("s")]);
    assert_eq!(history(&store, user("u")).await, "c b a");
    assert_eq!(history(&store, session("s")).await, "b a", "what the session gave to its user, and not what the user did elsewhere");
    assert_eq!(history(&store, user("v")).await, "d");
    assert_eq!(history(&store, session("other")).await, "e");
    let answers = store.exposures_of(&name("u"), None, 10).await.unwrap();
    assert_eq!(answers, [shown("1", Some("u"), Some("s"), 1)]);
}

async fn late_events_and_answers_of_a_merged_name_are_the_users(kind: Kind) {
    let store = temporary(kind).await;
    store.merge(&session("s"), &name("u"), at(10)).await.unwrap();
    store.merge(&user("old"), &name("u"), at(10)).await.unwrap();

    let outcomes = append(&store, vec![click("a", None, Some("s"), 1), click("b", Some("old"), None, 20), click("c", Some("v"), Some("s"), 21)]).await;
    show(&store, vec![shown("1", None, Some("s"), 5), shown("2", Some("old"), None, 5)]).await;

    assert_eq!(outcomes, "moved to u, moved to u, accepted");
    assert_eq!(history(&store, user("u")).await, "b a");
    assert_eq!(history(&store, user("old")).await, "b a", "who asks for the old name is told of the new one");
    assert_eq!(history(&store, user("v")).await, "c");
    assert_eq!(store.exposure_count(&name("u")).await.unwrap(), 2);
    let store = store.reopened().await;
    assert_eq!(append(&store, vec![click("d", None, Some("s"), 30)]).await, "moved to u", "after a restart, too");
}

async fn a_repeated_merge_does_nothing_and_a_retry_of_an_older_event_is_still_a_duplicate(kind: Kind) {
    let store = temporary(kind).await;
    let first = vec![click("a", None, Some("s"), 1), event(json!({"event_id": "untimed", "user_id": "old"}))];
    append(&store, first.clone()).await;
    store.merge(&session("s"), &name("u"), at(10)).await.unwrap();
    store.merge(&user("old"), &name("u"), at(10)).await.unwrap();

    assert_eq!(append(&store, first).await, "duplicate, duplicate");
    assert_eq!(append(&store, vec![click("a", None, Some("s"), 2)]).await, "reused");
    for from in [session("s"), user("old")] {
        let again = store.merge(&from, &name("u"), at(11)).await.unwrap();
        assert_eq!((again.events, again.exposures), (0, 0));
    }
    assert_eq!(store.event_count().await.unwrap(), 2);
}

async fn users_are_one_person_however_and_in_whatever_order_they_are_merged(kind: Kind) {
    let store = temporary(kind).await;
    append(&store, ["a", "b", "c", "d"].into_iter().enumerate().map(|(i, user)| click(user, Some(user), None, i as i64)).collect()).await;
    store.merge(&session("s"), &name("a"), at(9)).await.unwrap();

    assert_eq!(store.merge(&user("a"), &name("b"), at(10)).await.unwrap().events, 1);
    assert_eq!(store.merge(&user("b"), &name("c"), at(11)).await.unwrap().events, 2, "a and b");
    let back = store.merge(&user("c"), &name("a"), at(12)).await.unwrap();
    assert_eq!((back.user, back.events), (name("c"), 0), "a person with itself");
    assert_eq!(store.merge(&user("d"), &name("a"), at(13)).await.unwrap().user, name("c"), "into whom a was merged");
    assert_eq!(store.merge(&user("a"), &name("e"), at(14)).await.unwrap().events, 4, "a is c, so c is e");

    for old in ["a", "b", "c", "d", "e"] {
        assert_eq!(history(&store, user(old)).await, "d c b a", "{old}");
    }
    assert_eq!(append(&store, vec![click("late", Some("b"), None, 1), click("late too", None, Some("s"), 2)]).await, "moved to e, moved to e");
    let names: Vec<_> = store.aliases(&name("e")).await.unwrap().into_iter().map(|alias| alias.name).collect();
    assert_eq!(names, [session("s"), user("a"), user("b"), user("d"), user("c")]);
}

async fn a_session_that_logs_in_again_as_somebody_else_gives_only_what_comes_later(kind: Kind) {
    let store = temporary(kind).await;
    append(&store, vec![click("a", None, Some("s"), 1)]).await;
    store.merge(&session("s"), &name("u"), at(10)).await.unwrap();

    store.merge(&session("s"), &name("v"), at(11)).await.unwrap();

    assert_eq!(append(&store, vec![click("b", None, Some("s"), 12)]).await, "moved to v");
    assert_eq!((history(&store, user("u")).await, history(&store, user("v")).await), ("a".into(), "b".into()));
    assert_eq!(history(&store, session("s")).await, "b");
}

async fn a_merge_of_many_rows_moves_them_all_and_one_that_broke_off_is_finished(kind: Kind) {
    let store = temporary(kind).await;
    append(&store, (0..5_000).map(|i| click(&i.to_string(), Some("old"), None, i)).collect()).await;

    let merged = store.merge(&user("old"), &name("u"), at(10)).await.unwrap();
    assert_eq!(merged.events, 5_000);
    store.meddle("UPDATE events SET user_id = 'old' WHERE at < 3000").await;
    assert_eq!(store.merge(&user("old"), &name("u"), at(10)).await.unwrap().events, 3_000);

    assert_eq!(store.recent_events(&user("u"), 10_000).await.unwrap().len(), 5_000);
}

async fn an_erased_user_is_gone_with_all_that_was_merged_and_late_retries_do_not_bring_it_back(kind: Kind) {
    let store = temporary(kind).await;
    let first = vec![click("a", Some("u"), Some("t"), 1), click("b", None, Some("s"), 2), event(json!({"event_id": "untimed", "user_id": "old"}))];
    append(&store, first.clone()).await;
    append(&store, vec![click("other", Some("v"), Some("t"), 1), click("anonymous", None, Some("t"), 1)]).await;
    show(&store, vec![shown("1", Some("u"), None, 1), shown("2", Some("v"), None, 1)]).await;
    store.merge(&session("s"), &name("u"), at(10)).await.unwrap();
    store.merge(&user("old"), &name("u"), at(10)).await.unwrap();

    let receipt = store.erase(&user("old"), at(1_500)).await.unwrap();

    assert_eq!((receipt.events, receipt.exposures, receipt.aliases), (3, 1, 2));
    assert_eq!(receipt.names, [user("u"), session("s"), user("old")]);
    assert_eq!(append(&store, first).await, "duplicate, duplicate, duplicate");
    let late = vec![
        event(json!({"user_id": "u", "timestamp": 1_500})),
        event(json!({"user_id": "old", "timestamp": 3})),
        event(json!({"user_id": null, "session_id": "s", "timestamp": 3})),
        event(json!({"event_id": "click a", "user_id": "v"})), // the id was erased: not known what it was of
    ];
    assert_eq!(append(&store, late).await, "duplicate, duplicate, duplicate, duplicate");
    assert_eq!(append(&store, vec![event(json!({"user_id": "v", "session_id": "s", "timestamp": 3}))]).await, "accepted", "somebody else in that session");
    assert!(history(&store, user("u")).await.is_empty() && history(&store, user("old")).await.is_empty() && history(&store, session("s")).await.is_empty());
    assert_eq!(history(&store, session("t")).await, "anonymous");
    assert!(store.aliases(&name("u")).await.unwrap().is_empty());
    assert_eq!(store.exposure_count(&name("v")).await.unwrap(), 1);
}

async fn an_erased_person_may_come_back_with_new_events(kind: Kind) {
    let store = temporary(kind).await;
    append(&store, vec![click("a", Some("u"), None, 1)]).await;
    store.erase(&user("u"), at(500)).await.unwrap();
    let store = store.reopened().await;

    assert_eq!(append(&store, vec![click("b", Some("u"), None, 501), event(json!({"event_id": "untimed"}))]).await, "accepted, accepted");

    assert_eq!(store.recent_events(&user("u"), 10).await.unwrap().len(), 2);
    assert_eq!(store.erase(&user("u"), at(2_000)).await.unwrap().events, 2);
    assert_eq!(append(&store, vec![click("c", Some("u"), None, 1_999)]).await, "duplicate");
}

async fn an_erased_session_is_gone_whoever_was_logged_in(kind: Kind) {
    let store = temporary(kind).await;
    append(&store, vec![click("a", None, Some("s"), 1), click("b", Some("v"), Some("s"), 2), click("c", Some("u"), None, 3)]).await;
    store.merge(&session("s"), &name("u"), at(10)).await.unwrap();
    show(&store, vec![shown("1", Some("v"), Some("s"), 1), shown("2", None, Some("s"), 1)]).await;

    let receipt = store.erase(&session("s"), at(20)).await.unwrap();

    assert_eq!((receipt.events, receipt.exposures, receipt.aliases, receipt.names), (2, 2, 1, vec![session("s")]));
    assert_eq!((history(&store, user("u")).await, history(&store, user("v")).await), ("c".into(), String::new()));
    assert_eq!(append(&store, vec![click("d", Some("v"), Some("s"), 20), click("b", Some("v"), Some("s"), 2)]).await, "duplicate, duplicate");
    assert_eq!(append(&store, vec![click("e", None, Some("s"), 21)]).await, "accepted", "its own again");
}

async fn erasing_somebody_unknown_is_an_empty_receipt(kind: Kind) {
    let store = temporary(kind).await;

    for whom in [user("nobody"), session("none")] {
        let receipt = store.erase(&whom, at(1)).await.unwrap();
        assert_eq!((receipt.events, receipt.exposures, receipt.aliases, receipt.names), (0, 0, 0, vec![whom]));
    }
}

async fn an_erasure_of_many_rows_takes_all_and_numbers_go_on_after_a_restart(kind: Kind) {
    let store = temporary(kind).await;
    let events: Vec<Event> = (0..2_500).map(|i| click(&i.to_string(), Some("u"), None, i)).collect();
    append(&store, events.clone()).await;
    let last = store.events_after(0, 10_000).await.unwrap().last().unwrap().sequence;

    assert_eq!(store.erase(&user("u"), at(5_000)).await.unwrap().events, 2_500);

    let store = store.reopened().await;
    assert!(!append(&store, events).await.contains("accepted"));
    let outcomes = store.append_events(vec![click("new", Some("u"), None, 6_000)], at(6_000)).await.unwrap();
    assert!(matches!(outcomes[..], [EventOutcome::Accepted(sequence)] if sequence > last), "{outcomes:?} after {last}");
}

async fn an_exposure_that_waits_while_its_user_is_erased_is_not_logged(kind: Kind) {
    let store = temporary(kind).await;

    assert!(store.record_exposure(shown("1", Some("u"), None, 5)) && store.record_exposure(shown("2", Some("v"), None, 5)));
    store.erase(&user("u"), at(10)).await.unwrap();
    show(&store, vec![shown("3", Some("v"), None, 20)]).await;

    assert_eq!((store.exposure_count(&name("u")).await.unwrap(), store.exposure_count(&name("v")).await.unwrap()), (0, 2));
}

async fn what_is_known_of_a_user_is_counted_and_paged(kind: Kind) {
    let store = temporary(kind).await;
    append(&store, (0..7).map(|i| click(&i.to_string(), Some("u"), None, 10 - i / 2)).collect()).await;
    append(&store, vec![event(json!({"type": "like", "timestamp": 3})), click("other", Some("v"), None, 1)]).await;
    show(&store, vec![shown("2", Some("u"), None, 1), shown("1", Some("u"), None, 2), shown("3", Some("v"), None, 1)]).await;

    let counts = store.event_types(&name("u")).await.unwrap();
    let counts: Vec<_> = counts.into_iter().map(|of| (of.kind, of.count, of.first, of.last)).collect();
    assert_eq!(counts, [("click".to_owned(), 7, at(7), at(10)), ("like".to_owned(), 1, at(3), at(3))]);

    let mut pages: Vec<LoggedEvent> = Vec::new();
    loop {
        let page = store.events_of(&name("u"), pages.last(), 3).await.unwrap();
        assert!(page.len() <= 3);
        if page.is_empty() {
            break;
        }
        pages.extend(page);
    }
    assert_eq!(items(&pages), "i 6 4 5 2 3 0 1");

    let first = store.exposures_of(&name("u"), None, 1).await.unwrap();
    assert_eq!(first, [shown("1", Some("u"), None, 2)]);
    let rest = store.exposures_of(&name("u"), Some(&first[0].recommendation_id), 10).await.unwrap();
    assert_eq!(rest, [shown("2", Some("u"), None, 1)]);
}

async fn merges_and_erasures_are_seen_by_who_follows(kind: Kind) {
    let store = temporary(kind).await;
    let start = store.people_changed(PeopleSeen::default()).await.unwrap();
    assert_eq!((start.merged, start.erased), (vec![], false));

    append(&store, vec![click("a", Some("old"), None, 1)]).await;
    store.merge(&user("old"), &name("u"), at(1)).await.unwrap();
    let merged = store.people_changed(start.seen).await.unwrap();
    assert_eq!((merged.merged, merged.erased), (vec![user("old"), user("u")], false));

    store.erase(&session("x"), at(2)).await.unwrap();
    let erased = store.people_changed(merged.seen).await.unwrap();
    assert_eq!((erased.merged, erased.erased), (vec![], true));
    let nothing = store.people_changed(erased.seen).await.unwrap();
    assert_eq!((nothing.merged, nothing.erased, nothing.seen), (vec![], false, erased.seen));
}

/// 32 random bytes as hexadecimal digits: found nowhere by chance.
fn random() -> String {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).unwrap();
    hex::encode(bytes)
}

/// Somebody with everything that can be told of them.
struct Somebody {
    secrets: Vec<String>,
    user: Actor,
    events: Vec<Event>,
    exposures: Vec<Exposure>,
    merged: [Actor; 2],
}

impl Somebody {
    fn new(events: usize) -> Self {
        let [person, old, login, visit] = std::array::from_fn(|_| random());
        let mut secrets = vec![person.clone(), old.clone(), login.clone(), visit.clone()];
        let mut secret = || {
            secrets.push(random());
            secrets.last().cloned().unwrap()
        };
        // Some under each name, with a text longer than a page now and then.
        let named = (0..events).map(|i| {
            let text = format!("{} {}", secret(), "x".repeat(if i % 40 == 0 { 6_000 } else { i % 90 }));
            let (user, session) = [(Some(&person), Some(&visit)), (Some(&old), None), (None, Some(&login)), (Some(&person), None)][i % 4];
            event(json!({"event_id": secret(), "user_id": user, "session_id": session, "recommendation_id": secret(), "text": text, "timestamp": i}))
        });
        let events: Vec<Event> = named.collect();
        let exposures = (0..events.len() / 4).map(|_| shown(&secret(), Some(&person), Some(&visit), 5)).collect();
        Self { secrets, user: user(&person), events, exposures, merged: [user(&old), session(&login)] }
    }
}

/// Where one of the secrets is found in a file below the folders.
fn found(folders: &[PathBuf], secrets: &[String]) -> Vec<String> {
    let wanted: std::collections::HashSet<&[u8]> = secrets.iter().map(|secret| secret.as_bytes()).collect();
    let hexadecimal = |byte: &u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(byte);
    let mut found = Vec::new();
    let mut open: Vec<PathBuf> = folders.to_vec();
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            continue;
        }
        let bytes = std::fs::read(&path).unwrap_or_default();
        let hits = bytes.windows(64).filter(|window| window.iter().all(hexadecimal) && wanted.contains(window)).count();
        if hits > 0 {
            found.push(format!("{} times in {}", hits, path.file_name().unwrap().to_string_lossy()));
        }
    }
    found
}

/// Two people write in turns, so that their rows lie on the same pages; a third of what they did is merged.
async fn live(store: &Store, people: &[&Somebody]) {
    let most = people.iter().map(|somebody| somebody.events.len()).max().unwrap_or(0);
    for from in (0..most).step_by(25) {
        for somebody in people {
            let events = somebody.events.iter().skip(from).take(25).cloned().collect();
            store.append_events(events, at(1)).await.unwrap();
        }
    }
    for somebody in people {
        show(store, somebody.exposures.clone()).await;
        let Actor::User(into) = &somebody.user else { panic!("a user") };
        for from in &somebody.merged {
            store.merge(from, into, at(2)).await.unwrap();
        }
    }
}

#[tokio::test]
async fn after_an_erasure_no_file_of_the_data_folder_holds_anything_of_the_person() {
    let store = temporary(Kind::Sqlite).await;
    let (gone, stays) = (Somebody::new(2_400), Somebody::new(1_600));
    live(&store, &[&gone, &stays]).await;
    let folder = [store.folder.path().to_owned()];
    assert!(!found(&folder, &gone.secrets).is_empty());

    let receipt = store.erase(&gone.user, at(100_000)).await.unwrap();

    assert_eq!((receipt.events, receipt.exposures, receipt.aliases), (2_400, 600, 2));
    assert_eq!(found(&folder, &gone.secrets), Vec::<String>::new(), "while the database is open");
    assert!(!found(&folder, &stays.secrets).is_empty());
    let store = store.reopened().await;
    assert_eq!(found(&folder, &gone.secrets), Vec::<String>::new(), "after a restart");
    assert_eq!(store.event_count().await.unwrap(), 1_600);
}

#[tokio::test]
async fn a_file_that_is_owed_a_rewriting_gets_it_later() {
    let store = temporary(Kind::Sqlite).await;
    assert!(!store.scrub_if_due().await.unwrap());
    let gone = Somebody::new(40);
    live(&store, &[&gone]).await;
    // As a large file is left: the rows are gone, but not what lies in unused parts of pages.
    store.meddle("PRAGMA secure_delete = OFF; DELETE FROM events; DELETE FROM exposures; DELETE FROM aliases").await;
    store.meddle("INSERT INTO meta (name, value) VALUES ('rewrite_due', '1')").await;
    let folder = [store.folder.path().to_owned()];
    assert!(!found(&folder, &gone.secrets).is_empty());

    assert!(store.scrub_if_due().await.unwrap());

    assert_eq!(found(&folder, &gone.secrets), Vec::<String>::new());
    assert!(!store.scrub_if_due().await.unwrap());
}

#[tokio::test]
async fn a_long_read_does_not_keep_an_erasure_in_the_log_for_good() {
    let store = temporary(Kind::Sqlite).await;
    let gone = Somebody::new(80);
    live(&store, &[&gone]).await;
    let file = SqliteConnectOptions::new().filename(store.folder.path().join("inkling.db")).read_only(true);
    let mut reader = file.connect().await.unwrap();
    sqlx::raw_sql("BEGIN; SELECT count(*) FROM events").execute(&mut reader).await.unwrap();

    let erasing = tokio::spawn({
        let (store, user) = (store.store.clone(), gone.user.clone());
        async move { store.erase(&user, at(100_000)).await.unwrap() }
    });
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    assert!(!erasing.is_finished());
    append(&store, vec![click("meanwhile", Some("other"), None, 1)]).await;
    sqlx::raw_sql("COMMIT").execute(&mut reader).await.unwrap();
    erasing.await.unwrap();

    assert_eq!(found(&[store.folder.path().to_owned()], &gone.secrets), Vec::<String>::new());
}

#[tokio::test]
#[cfg_attr(not(postgres_programs), ignore = "PostgreSQL is not installed (apt install postgresql)")]
async fn after_an_erasure_and_a_vacuum_no_table_of_postgres_holds_anything_of_the_person() {
    let server = postgres_server::Server::start();
    let store = Temporary::with(StoreSettings { url: Some(server.database().await.parse().unwrap()), ..settings() }).await;
    let (gone, stays) = (Somebody::new(1_200), Somebody::new(800));
    live(&store, &[&gone, &stays]).await;
    store.meddle("ANALYZE; CHECKPOINT").await;
    // The write-ahead log keeps what was written until it is recycled; the README says so.
    let data = server.folder.join("data");
    let tables = [data.join("base"), data.join("global")];
    assert!(!found(&tables, &gone.secrets).is_empty());

    store.erase(&gone.user, at(100_000)).await.unwrap();
    for statement in ["VACUUM FULL events", "VACUUM FULL exposures", "VACUUM FULL aliases", "CHECKPOINT"] {
        store.meddle(statement).await;
    }

    assert_eq!(found(&tables, &gone.secrets), Vec::<String>::new());
    assert!(!found(&tables, &stays.secrets).is_empty());
}
