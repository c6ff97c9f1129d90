use super::{postgres::replicas, *};
use crate::domain::{RuleDocument, RuleName};

on_both! {
    rules_are_kept_counted_and_bounded_and_survive_a_restart,
}

fn rule(name: &str, tag: &str) -> RuleDocument {
    serde_json::from_value(json!({"name": name, "description": "päpper 商", "exclude": {"tags": tag}})).unwrap()
}

async fn rules_are_kept_counted_and_bounded_and_survive_a_restart(kind: Kind) {
    let store = temporary(kind).await;
    assert_eq!(store.rules().await.unwrap(), KeptRules::default());

    assert_eq!(store.put_rule(&rule("b", "x"), 2).await.unwrap(), RuleOutcome::Absent);
    assert_eq!(store.put_rule(&rule("a", "x"), 2).await.unwrap(), RuleOutcome::Absent);
    assert_eq!(store.put_rule(&rule("c", "x"), 2).await.unwrap(), RuleOutcome::Full);
    assert_eq!(store.put_rule(&rule("b", "y"), 2).await.unwrap(), RuleOutcome::Present);
    assert_eq!(store.delete_rule(&RuleName::new("c").unwrap()).await.unwrap(), RuleOutcome::Absent);

    let store = store.reopened().await;
    assert_eq!(store.rules().await.unwrap(), KeptRules { revision: 3, documents: vec![rule("a", "x"), rule("b", "y")] });
    assert_eq!(store.delete_rule(&RuleName::new("a").unwrap()).await.unwrap(), RuleOutcome::Present);
    assert_eq!((store.rules_revision().await.unwrap(), store.rules().await.unwrap().documents.len()), (4, 1));
    store.meddle("UPDATE rules SET document = '{\"name\": \"b\", \"of a newer program\": 1}'").await;
    assert_eq!(store.rules().await.unwrap(), KeptRules { revision: 4, documents: vec![] }, "what cannot be read does not stop the others");
}

#[tokio::test]
#[cfg_attr(not(postgres_server), ignore = "PostgreSQL is not installed (apt install postgresql)")]
async fn replicas_see_each_others_rules_and_every_change_has_its_number() {
    let (one, other) = replicas().await;

    for n in 0..10 {
        let (name, another) = (format!("one-{n}"), format!("other-{n}"));
        let (a, b) = (rule(&name, "x"), rule(&another, "x"));
        let both = tokio::join!(one.put_rule(&a, 100), other.put_rule(&b, 100));
        assert_eq!((both.0.unwrap(), both.1.unwrap()), (RuleOutcome::Absent, RuleOutcome::Absent));
    }

    let seen = one.rules().await.unwrap();
    assert_eq!((seen.revision, seen.documents.len()), (20, 20));
    assert_eq!(other.rules().await.unwrap(), seen);
}
