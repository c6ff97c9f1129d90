//! Statement texts with many rows: `INSERT … VALUES (…), (…)` and `… IN (…)`.
//!
//! Each text is made once for each number of rows, so that the connection finds it among its prepared statements.
//! Placeholders are bare `?` here: SQLite takes `$n` for a name and looks names up one by one, so n of them cost n²
//! (64 rows of 11 columns: 10 µs more a row, twice the whole cost). Postgres will get its own texts.

use std::sync::{Arc, OnceLock};

use sqlx::{AssertSqlSafe, SqlSafeStr, SqlStr};

/// Rows of one `INSERT`: 256 were not faster, and prepared statements grow with their rows.
pub(super) const ROWS: usize = 64;

/// Values of one `IN (…)`. SQLite allows 32,766 variables a statement.
pub(super) const VALUES: usize = 1024;

/// A multi-row insert: `head VALUES (?, …), … tail`.
pub(super) struct Insert {
    head: &'static str,
    columns: usize,
    tail: &'static str,
    texts: [OnceLock<Arc<str>>; ROWS + 1],
}

impl Insert {
    pub(super) const fn new(head: &'static str, columns: usize, tail: &'static str) -> Self {
        Self { head, columns, tail, texts: [const { OnceLock::new() }; ROWS + 1] }
    }

    /// The text for 1 to [`ROWS`] rows.
    pub(super) fn rows(&self, rows: usize) -> SqlStr {
        let text = self.texts[rows].get_or_init(|| {
            let row = format!("({})", vec!["?"; self.columns].join(", "));
            format!("{} VALUES {} {}", self.head, vec![row; rows].join(", "), self.tail).into()
        });
        AssertSqlSafe(Arc::clone(text)).into_sql_str()
    }
}

/// A query over a list: `head (?, …) tail`.
pub(super) struct InList {
    head: &'static str,
    tail: &'static str,
    texts: [OnceLock<Arc<str>>; VALUES.ilog2() as usize + 1],
}

impl InList {
    pub(super) const fn new(head: &'static str, tail: &'static str) -> Self {
        Self { head, tail, texts: [const { OnceLock::new() }; VALUES.ilog2() as usize + 1] }
    }

    /// The text for a list of 1 to [`VALUES`] values, and how many the list must be filled up to (by repeating one of them).
    pub(super) fn values(&self, values: usize) -> (SqlStr, usize) {
        let size = values.next_power_of_two();
        let text = self.texts[size.ilog2() as usize].get_or_init(|| format!("{} ({}) {}", self.head, vec!["?"; size].join(", "), self.tail).into());
        (AssertSqlSafe(Arc::clone(text)).into_sql_str(), size)
    }
}
