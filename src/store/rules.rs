//! Rules as they are kept: documents by name, and one number that grows with every change of any of them, for replicas to follow.

use super::{
    Store, StoreError,
    batch::Write,
    database::{Connection, query},
};
use crate::domain::{RuleDocument, RuleName};

/// All rules, as of a revision.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct KeptRules {
    /// Grows with every change; 0 before the first.
    pub revision: i64,
    /// By name.
    pub documents: Vec<RuleDocument>,
}

/// What became of a rule.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum RuleOutcome {
    /// There was none of that name: put, it is new; deleted, nothing changed.
    #[default]
    Absent,
    /// It took the place of the one of that name, or that one is gone.
    Present,
    /// There are as many rules as there may be.
    Full,
}

/// A change on its way to the writer.
pub(super) enum RuleChange {
    Put { name: RuleName, document: String, most: usize },
    Delete(RuleName),
}

pub(super) async fn apply(connection: &mut Connection, change: &RuleChange) -> Result<RuleOutcome, StoreError> {
    let (RuleChange::Put { name, .. } | RuleChange::Delete(name)) = change;
    let present = query("SELECT 1 FROM rules WHERE name = $1").bind(name.as_str()).fetch_optional(&mut *connection).await?.is_some();
    match change {
        RuleChange::Put { document, most, .. } => {
            let count: i64 = query("SELECT count(*) FROM rules").fetch_one(&mut *connection).await?.get(0)?;
            if !present && count >= super::row_limit(*most) {
                return Ok(RuleOutcome::Full);
            }
            let text = "INSERT INTO rules (name, document) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET document = excluded.document";
            query(text).bind(name.as_str()).bind(document.as_str()).execute(&mut *connection).await?;
        }
        RuleChange::Delete(_) if !present => return Ok(RuleOutcome::Absent),
        RuleChange::Delete(_) => {
            query("DELETE FROM rules WHERE name = $1").bind(name.as_str()).execute(&mut *connection).await?;
        }
    }
    query("UPDATE rules_revision SET revision = revision + 1").execute(connection).await?;
    Ok(if present { RuleOutcome::Present } else { RuleOutcome::Absent })
}

impl Store {
    /// Keeps a rule, in place of the one of its name; of at most so many.
    pub async fn put_rule(&self, rule: &RuleDocument, most: usize) -> Result<RuleOutcome, StoreError> {
        let document = serde_json::to_string(rule).map_err(StoreError::unavailable)?;
        self.write(1, RuleChange::Put { name: rule.name.clone(), document, most }, Write::Rule).await
    }

    /// Forgets a rule.
    pub async fn delete_rule(&self, name: &RuleName) -> Result<RuleOutcome, StoreError> {
        self.write(1, RuleChange::Delete(name.clone()), Write::Rule).await
    }

    /// The number of the last change.
    pub async fn rules_revision(&self) -> Result<i64, StoreError> {
        query("SELECT revision FROM rules_revision").fetch_one(self.readers()).await?.get(0)
    }

    /// All rules. One that this program cannot read, because a newer one wrote it, is left out.
    pub async fn rules(&self) -> Result<KeptRules, StoreError> {
        // One statement: the rules must be those of the revision.
        let text = "SELECT revision, name, document FROM rules_revision LEFT JOIN rules ON TRUE ORDER BY name";
        let rows = query(text).fetch_all(self.readers()).await?;
        let revision = rows.first().ok_or_else(|| StoreError::corrupt("the rules have no revision"))?.get(0)?;
        let mut documents = Vec::with_capacity(rows.len());
        for row in &rows {
            let (Some(name), Some(document)) = (row.get::<Option<&str>>(1)?, row.get::<Option<&str>>(2)?) else { continue };
            match serde_json::from_str(document) {
                Ok(document) => documents.push(document),
                Err(error) => tracing::warn!(rule = name, %error, "the rule {name} is not in force: it cannot be read"),
            }
        }
        Ok(KeptRules { revision, documents })
    }
}
