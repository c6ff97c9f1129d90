//! Rules: what is put and deleted here, and what other replicas have put and deleted, into the rulebook that requests read.

use std::sync::Arc;

use crate::{
    domain::{RuleDocument, RuleName},
    features::{MAX_RULES, WrittenRule},
    store::{RuleOutcome, StoreError},
};

use super::{Ingest, IngestError, Inner, to_the_end};

impl Ingest {
    /// Keeps a checked rule, in place of the one of its name. When it returns it is on disk and in force here. Goes on when its caller is gone.
    pub async fn put_rule(&self, rule: &RuleDocument) -> Result<RuleOutcome, IngestError> {
        let (inner, rule) = (Arc::clone(&self.0), rule.clone());
        to_the_end(async move {
            let outcome = inner.rooms.store.put_rule(&rule, MAX_RULES).await?;
            inner.catch_up_with_rules().await?;
            Ok(outcome)
        })
        .await
    }

    /// Forgets a rule that was put; one of the settings stays. Goes on when its caller is gone.
    pub async fn delete_rule(&self, name: &RuleName) -> Result<RuleOutcome, IngestError> {
        let (inner, name) = (Arc::clone(&self.0), name.clone());
        to_the_end(async move {
            let outcome = inner.rooms.store.delete_rule(&name).await?;
            inner.catch_up_with_rules().await?;
            Ok(outcome)
        })
        .await
    }

    /// All rules as they were written, by name.
    pub fn rules(&self) -> Vec<WrittenRule> {
        self.0.rooms.rulebook.written()
    }

    /// The rule of that name as it was written.
    pub fn rule(&self, name: &RuleName) -> Option<WrittenRule> {
        self.0.rooms.rulebook.rule(name)
    }
}

impl Inner {
    /// Takes over all rules, at start.
    pub(super) async fn begin_with_rules(&self) -> Result<(), StoreError> {
        let kept = self.rooms.store.rules().await?;
        self.rooms.rulebook.keep(kept.revision, kept.documents, &|name| self.rooms.columns.attribute_type(name));
        Ok(())
    }

    /// Takes over all rules where one has changed since the last time, whichever process changed it.
    pub(super) async fn catch_up_with_rules(&self) -> Result<(), StoreError> {
        if self.rooms.store.rules_revision().await? != self.rooms.rulebook.revision() {
            self.begin_with_rules().await?;
        }
        Ok(())
    }

    /// Lets rules know of attributes that are new.
    pub(super) fn wake_rules(&self) {
        self.rooms.rulebook.wake(&|name| self.rooms.columns.attribute_type(name));
    }
}
