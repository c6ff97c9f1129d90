//! What a file is, by its name and its first bytes; says what it saw, and never guesses where nothing fits.

use serde_json::Value as Json;

use super::{Format, Kind, movielens, table};

/// How a file is to be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Layout {
    /// Our own documents, one a line.
    Documents,
    /// A table with our own columns, whose cells end at this byte.
    Table(u8),
    Gorse,
    Amazon,
    MovieLens(movielens::Shape),
}

/// A file that is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Detected {
    pub(super) kind: Kind,
    pub(super) layout: Layout,
    /// For people.
    pub(super) saw: String,
}

/// Looks at a file's name (without `.gz`) and its first bytes. `format` other than `auto` must be what is found; where the first line of
/// documents is torn, the caller's word counts.
pub(super) fn detect(name: &str, head: &[u8], kind: Kind, format: Format) -> Result<Detected, String> {
    let found = look(name, head, kind);
    let of = |layout: &Layout| match layout {
        Layout::Documents => Format::Ndjson,
        Layout::Table(_) => Format::Csv,
        Layout::Gorse => Format::Gorse,
        Layout::Amazon => Format::Amazon,
        Layout::MovieLens(_) => Format::Movielens,
    };
    match (found, format) {
        (found, Format::Auto) => found,
        (Ok(found), format) if of(&found.layout) == format => Ok(found),
        (_, Format::Ndjson) => Ok(Detected { kind, layout: Layout::Documents, saw: "NDJSON, as --format says".into() }),
        (_, Format::Gorse) => Ok(Detected { kind, layout: Layout::Gorse, saw: "a Gorse dump, as --format says".into() }),
        (_, Format::Amazon) => Ok(Detected { kind, layout: Layout::Amazon, saw: "Amazon JSON, as --format says".into() }),
        (Ok(found), _) => Err(format!("it is not what --format says: {}", found.saw)),
        (Err(fault), _) => Err(fault),
    }
}

fn look(name: &str, head: &[u8], kind: Kind) -> Result<Detected, String> {
    let head = head.strip_prefix("\u{feff}".as_bytes()).unwrap_or(head);
    let Some(line) = head.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).find(|line| !line.is_empty()) else {
        // As `inkling export` writes it of a catalogue without items.
        let documents = [".jsonl", ".ndjson"].iter().any(|ending| name.ends_with(ending));
        return documents.then(|| Detected { kind, layout: Layout::Documents, saw: "NDJSON without a line".into() }).ok_or_else(|| "it is empty".into());
    };
    if line.starts_with(b"{") {
        return documents(line);
    }
    if line.starts_with(b"[") {
        return Err("it is a JSON array; write one document a line, as `jq -c '.[]'` does".into());
    }
    let line = movielens::text(line);
    if let Some((kind, shape, saw)) = movielens::look(name, &line) {
        return Ok(Detected { kind, layout: Layout::MovieLens(shape), saw });
    }
    if let Some((kind, delimiter, columns)) = table::look(&line) {
        return Ok(Detected { kind, layout: Layout::Table(delimiter), saw: format!("a table of {} with the columns {}", kind.name(), columns.join(", ")) });
    }
    let shown: String = line.chars().take(60).map(|c| if c.is_control() { ' ' } else { c }).collect();
    let shown = if name == "-" { String::new() } else { format!(" (its first line begins with {shown:?})") };
    Err(format!("it is neither NDJSON nor a table with known columns{shown}"))
}

fn documents(line: &[u8]) -> Result<Detected, String> {
    let first: Json = serde_json::from_slice(line).map_err(|_| {
        "its first line opens a JSON document and does not close it; write one document a line, as `jq -c .` does, or say what it is with --format".to_owned()
    })?;
    let has = |name: &str| first.get(name).is_some();
    let found = |kind, layout, saw: &str| Ok(Detected { kind, layout, saw: saw.to_owned() });
    if has("FeedbackType") {
        found(Kind::Interactions, Layout::Gorse, "Gorse feedback (FeedbackType, UserId, ItemId)")
    } else if has("ItemId") {
        found(Kind::Items, Layout::Gorse, "Gorse items (ItemId)")
    } else if has("UserId") {
        Err("these are Gorse's users (UserId); a user is here what its events say".to_owned())
    } else if has("reviewerID") {
        found(Kind::Interactions, Layout::Amazon, "Amazon reviews of 2014 or 2018 (reviewerID, asin, overall)")
    } else if (has("asin") || has("parent_asin")) && has("user_id") {
        found(Kind::Interactions, Layout::Amazon, "Amazon reviews of 2023 (user_id, parent_asin, rating)")
    } else if has("parent_asin") {
        found(Kind::Items, Layout::Amazon, "Amazon metadata of 2023 (parent_asin)")
    } else if has("asin") {
        found(Kind::Items, Layout::Amazon, "Amazon metadata of 2014 or 2018 (asin)")
    } else if has("type") {
        found(Kind::Interactions, Layout::Documents, "events as NDJSON")
    } else if has("item_id") {
        found(Kind::Items, Layout::Documents, "items as NDJSON")
    } else {
        let names: Vec<_> = first.as_object().into_iter().flat_map(|fields| fields.keys()).take(8).cloned().collect();
        Err(format!("its documents are of no known kind: the first has {}", names.join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn saw(name: &str, head: &str) -> (Kind, String) {
        let found = detect(name, head.as_bytes(), Kind::Items, Format::Auto).unwrap();
        (found.kind, found.saw)
    }

    #[test]
    fn every_format_is_known_by_its_first_line() {
        for (name, head, kind, words) in [
            ("a", "\u{feff}\n {\"item_id\": \"a\"}\n", Kind::Items, "items as NDJSON"),
            ("a", "{\"type\": \"click\", \"item_id\": \"a\"}", Kind::Interactions, "events as NDJSON"),
            ("a", "{\"ItemId\":\"a\"}", Kind::Items, "Gorse"),
            ("a", "{\"FeedbackType\":\"read\",\"UserId\":\"u\",\"ItemId\":\"a\"}", Kind::Interactions, "Gorse"),
            ("a", "{\"overall\": 5.0, \"reviewerID\": \"u\", \"asin\": \"a\"}", Kind::Interactions, "2018"),
            ("a", "{\"rating\": 5.0, \"user_id\": \"u\", \"asin\": \"a\", \"parent_asin\": \"b\"}", Kind::Interactions, "2023"),
            ("a", "{\"asin\": \"a\", \"title\": \"t\"}", Kind::Items, "2018"),
            ("a", "{\"parent_asin\": \"a\", \"title\": \"t\"}", Kind::Items, "2023"),
            ("u.data", "196\t242\t3\t881250949\n", Kind::Interactions, "u.data"),
            ("u.item", "1|Toy Story (1995)|01-Jan-1995||http://x|0|0|0|1|1|1|0|0|0|0|0|0|0|0|0|0|0|0|0\n", Kind::Items, "u.item"),
            ("ratings.dat", "1::1193::5::978300760\n", Kind::Interactions, "ratings.dat"),
            ("movies.dat", "1::Toy Story (1995)::Animation|Children's\n", Kind::Items, "movies.dat"),
            ("ratings.csv", "userId,movieId,rating,timestamp\r\n1,2,3.5,1\n", Kind::Interactions, "ratings.csv"),
            ("movies.csv", "movieId,title,genres\n", Kind::Items, "movies.csv"),
            ("x", "item_id;title;price\n", Kind::Items, "item_id, title, price"),
            ("x", "user_id,item_id,rating,timestamp,split\n", Kind::Interactions, "user_id, item_id, rating, timestamp, split"),
        ] {
            let (found, said) = saw(name, head);
            assert_eq!(found, kind, "{head}: {said}");
            assert!(said.contains(words), "{head}: {said}");
        }
    }

    #[test]
    fn an_export_of_nothing_is_an_import_of_nothing() {
        for head in ["", "\n"] {
            let found = detect("items.jsonl", head.as_bytes(), Kind::Items, Format::Auto).unwrap();

            assert_eq!((found.kind, found.layout), (Kind::Items, Layout::Documents));
        }
    }

    #[test]
    fn what_is_not_known_is_refused_in_words() {
        for (head, words) in [
            ("", "empty"),
            ("\n \n", "empty"),
            ("[{\"item_id\": 1}]", "jq"),
            ("{\n\"item_id\": \"a\"}", "one document a line"),
            ("{\"name\": 1, \"colour\": 2}", "name, colour"),
            ("{\"UserId\": \"u\"}", "users"),
            ("hello world\n", "neither"),
            ("\u{0}\u{1}\u{2}", "neither"),
        ] {
            let said = detect("x", head.as_bytes(), Kind::Items, Format::Auto).unwrap_err();
            assert!(said.contains(words), "{head:?}: {said}");
        }
    }

    #[test]
    fn a_format_that_is_named_must_fit_or_settles_what_a_torn_first_line_is() {
        let found = |head: &str, format| detect("x", head.as_bytes(), Kind::Items, format);

        assert_eq!(found("{\"broken", Format::Ndjson).unwrap().layout, Layout::Documents);
        assert!(found("{\"item_id\": \"a\"}", Format::Csv).unwrap_err().contains("items as NDJSON"));
        assert!(found("item_id,title\n", Format::Csv).is_ok());
    }
}
