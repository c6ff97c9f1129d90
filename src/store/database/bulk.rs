//! Statements over many rows: `INSERT … VALUES (…), (…)` and `… IN (…)` on SQLite, `UNNEST` and `= ANY` on Postgres.
//!
//! Each text is made once for each number of rows, so that the connection finds it among its prepared statements; on Postgres one
//! text and one plan take any number. On SQLite placeholders are bare `?`: it takes `$n` for a name and looks names up one by one, so n
//! of them cost n² (64 rows of 11 columns: 10 µs more a row, twice the whole cost).

use std::{
    borrow::Cow,
    sync::{Arc, OnceLock},
};

use sqlx::{Arguments, AssertSqlSafe, SqlSafeStr, SqlStr, postgres::PgArguments};

use super::{Connection, On, Row, StoreError, Value, Values, postgres};

/// Rows of one `INSERT` on SQLite: 256 were not faster, and prepared statements grow with their rows.
const SQLITE_ROWS: usize = 64;
/// Rows of one `INSERT` on Postgres: bounds the message, some MiB of documents.
const POSTGRES_ROWS: usize = 4096;
/// Values of one `IN (…)`. SQLite allows 32,766 variables a statement.
const SQLITE_VALUES: usize = 1024;
/// Values of one `= ANY(…)`.
const POSTGRES_VALUES: usize = 16_384;

impl Connection {
    /// Rows that one statement inserts.
    pub(in crate::store) fn insert_rows(&self) -> usize {
        match self {
            Self::Sqlite(_) => SQLITE_ROWS,
            Self::Postgres(_) => POSTGRES_ROWS,
        }
    }
}

/// A text made at its first use.
type Text = OnceLock<Arc<str>>;

fn made(text: &Text, make: impl FnOnce() -> String) -> SqlStr {
    AssertSqlSafe(Arc::clone(text.get_or_init(|| make().into()))).into_sql_str()
}

/// An insert of rows of `N` columns: `head` up to the column names, and what follows the values.
pub(in crate::store) struct Insert<const N: usize> {
    head: &'static str,
    tail: &'static str,
    sqlite: [Text; SQLITE_ROWS + 1],
    postgres: Text,
}

impl<const N: usize> Insert<N> {
    pub(in crate::store) const fn new(head: &'static str, tail: &'static str) -> Self {
        Self { head, tail, sqlite: [const { OnceLock::new() }; SQLITE_ROWS + 1], postgres: OnceLock::new() }
    }

    /// Inserts the rows, in statements of [`insert_rows`](Connection::insert_rows) each, and says how many were inserted or updated.
    ///
    /// A column's values are of one type.
    pub(in crate::store) async fn execute(&self, connection: &mut Connection, rows: Vec<[Value<'_>; N]>) -> Result<u64, StoreError> {
        let mut changed = 0;
        for rows in rows.chunks(connection.insert_rows()) {
            let text = match connection {
                Connection::Sqlite(_) => made(&self.sqlite[rows.len()], || {
                    let row = format!("({})", vec!["?"; N].join(", "));
                    format!("{} VALUES {} {}", self.head, vec![row; rows.len()].join(", "), self.tail)
                }),
                Connection::Postgres(_) => made(&self.postgres, || {
                    let columns: Vec<String> = (1..=N).map(|column| format!("${column}")).collect();
                    format!("{} SELECT * FROM UNNEST({}) {}", self.head, columns.join(", "), self.tail)
                }),
            };
            changed += connection.execute(text, Values::Columns { first: &[], rows: rows.as_flattened(), columns: N }).await?;
        }
        Ok(changed)
    }
}

/// A query over a list: `head` up to the column that must be in the list, and what follows it. `$1`, … in `head` come before the list.
pub(in crate::store) struct List {
    head: &'static str,
    tail: &'static str,
    sqlite: [Text; SQLITE_VALUES.ilog2() as usize + 1],
    postgres: Text,
}

impl List {
    pub(in crate::store) const fn new(head: &'static str, tail: &'static str) -> Self {
        Self { head, tail, sqlite: [const { OnceLock::new() }; SQLITE_VALUES.ilog2() as usize + 1], postgres: OnceLock::new() }
    }

    /// The rows for all values; long lists are asked for in parts, each with `tail`.
    pub(in crate::store) async fn fetch_all<'c>(&self, on: impl Into<On<'c>>, first: &[Value<'_>], mut values: Vec<Value<'_>>) -> Result<Vec<Row>, StoreError> {
        let mut on = on.into();
        let mut rows = Vec::new();
        while !values.is_empty() {
            let rest = values.split_off(values.len().min(if on.is_postgres() { POSTGRES_VALUES } else { SQLITE_VALUES }));
            let text = if on.is_postgres() {
                made(&self.postgres, || format!("{} = ANY(${}) {}", self.head, first.len() + 1, self.tail))
            } else {
                // Filled up to a power of two by repeating one: ten texts instead of a thousand.
                let size = values.len().next_power_of_two();
                values.resize(size, values[0].clone());
                made(&self.sqlite[size.ilog2() as usize], || {
                    let head = (1..=first.len()).fold(self.head.to_owned(), |head, n| head.replace(&format!("${n}"), "?"));
                    format!("{head} IN ({}) {}", vec!["?"; size].join(", "), self.tail)
                })
            };
            let found = on.again().rows(text, Values::Columns { first, rows: &values, columns: 1 }).await?;
            if rows.is_empty() {
                rows = found;
            } else {
                rows.extend(found);
            }
            values = rest;
        }
        Ok(rows)
    }
}

/// Adds the values of a column, which are of one type, as one array.
pub(super) fn add_column<'v>(values: impl Iterator<Item = &'v Value<'v>> + Clone, arguments: &mut PgArguments) -> Result<(), StoreError> {
    macro_rules! array {
        ($variant:ident, $type:ty, $read:expr) => {{
            let column: Vec<Option<$type>> = values.map(|value| if let Value::$variant(value) = value { $read(value) } else { None }).collect();
            arguments.add(column)
        }};
    }
    let added = match values.clone().next() {
        Some(Value::Float(_)) => array!(Float, f64, |value: &Option<f64>| *value),
        Some(Value::Text(_)) => array!(Text, &str, Option::as_deref),
        Some(Value::FreeText(_)) => array!(FreeText, Cow<'_, str>, |value: &Option<&'v str>| value.map(postgres::escaped)),
        Some(Value::Bytes(_)) => array!(Bytes, &[u8], Option::as_deref),
        Some(Value::Int(_)) | None => array!(Int, i64, |value: &Option<i64>| *value),
    };
    added.map_err(StoreError::unavailable)
}
