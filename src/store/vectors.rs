//! Own vectors of items: a name keeps the width of its first use, as an attribute keeps its type. Widths lie in `meta`, one row a name.

use std::collections::BTreeMap;

use super::{
    Store, StoreError,
    database::{Connection, On, Row, query},
};
use crate::domain::{FieldError, Item, pointer_step};

/// Names of own vectors that a catalogue may have: each has a collection of its own in the index, with files, memory and threads' time.
const MAX_NAMES: usize = 16;
/// Before the name in `meta`.
const PREFIX: &str = "vector_width/";

/// The first fault of an item whose vectors do not fit what is known.
pub(super) fn check(widths: &BTreeMap<String, usize>, item: &Item) -> Result<(), FieldError> {
    let mut names = widths.len();
    for (name, vector) in &item.vectors {
        let fault = |detail: String| Err(FieldError::new(format!("/vectors{}", pointer_step(name)), detail));
        match widths.get(name) {
            Some(width) if *width != vector.len() => return fault(format!("must have {width} components, as at its first use")),
            Some(_) => {}
            None if names >= MAX_NAMES => return fault(format!("the catalogue has {MAX_NAMES} names of vectors already")),
            None => names += 1,
        }
    }
    Ok(())
}

impl Store {
    /// The width that each name of own vectors has kept since its first use, also where no item has one any more.
    pub async fn vector_widths(&self) -> Result<BTreeMap<String, usize>, StoreError> {
        widths(self.readers()).await
    }
}

pub(super) async fn widths<'c>(on: impl Into<On<'c>>) -> Result<BTreeMap<String, usize>, StoreError> {
    let rows = query("SELECT name, value FROM meta WHERE name LIKE 'vector_width/%'").fetch_all(on).await?;
    let width = |row: &Row| {
        let (name, width): (&str, &str) = (row.get(0)?, row.get(1)?);
        let width = width.parse().map_err(|_| StoreError::corrupt("a vector's width is no number"))?;
        Ok((name.strip_prefix(PREFIX).unwrap_or(name).to_owned(), width))
    };
    rows.iter().map(width).collect()
}

pub(super) async fn write_widths(connection: &mut Connection, new: &[(String, usize)]) -> Result<(), StoreError> {
    for (name, width) in new {
        // Another replica may have written it meanwhile.
        let insert = query("INSERT INTO meta (name, value) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING");
        insert.bind(format!("{PREFIX}{name}")).bind(width.to_string()).execute(connection).await?;
    }
    Ok(())
}
