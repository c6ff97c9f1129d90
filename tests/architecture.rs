//! The floors of the house: a room uses lower floors only, and rooms on one floor never meet.
//!
//! Reads every `crate::` path in `src/`, tests included: a room's tests may use what the room may use. Comments and literals do not
//! count. A path says which room it enters; what it takes there is the compiler's business.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::{
    fs,
    path::{Path, PathBuf},
};

/// As `src/lib.rs` tells it. A room that is not here fails.
const FLOORS: &[(&str, u8)] = &[
    ("domain", 0),
    ("telemetry", 1),
    ("measures", 1),
    ("store", 2),
    ("encoder", 2),
    ("index", 2),
    ("features", 2),
    ("learned", 2),
    ("recommend", 3),
    ("ingest", 3),
    ("training", 3),
    ("http", 4),
    ("evaluation", 4),
    ("config", 5),
    ("app", 6),
    ("cli", 6),
];

/// The top floor is one flat: commands start the app.
const NEIGHBOURS: &[(&str, &str)] = &[("cli", "app")];

#[test]
fn rooms_use_lower_floors_only() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    gather(&source, &mut files);
    assert!(files.len() > FLOORS.len(), "only {} files were found", files.len());

    let faults: Vec<String> = files
        .iter()
        .flat_map(|file| {
            let name = file.strip_prefix(&source).unwrap().to_string_lossy().replace('\\', "/");
            faults(&name, &fs::read_to_string(file).unwrap())
        })
        .collect();

    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn a_path_to_the_same_or_a_higher_floor_is_named_with_file_and_room() {
    for (file, text, room) in [
        ("store/mod.rs", "use crate::index::Hit;", "index"),
        ("store/deep/er.rs", "fn f() { crate::http::router() }", "http"),
        ("recommend/mod.rs", "use crate::{domain::Item, ingest::{Ingest, Rooms}, store::Store};", "ingest"),
        ("domain/id.rs", "#[cfg(test)]\nmod tests {\n    use crate::{\n        store,\n    };\n}", "store"),
        ("telemetry.rs", "pub(in crate::app) fn f() {}", "app"),
        ("app/mod.rs", "use crate::cli::run;", "cli"),
        ("index/mod.rs", "fn f<'a>(x: &'a str) -> char { '\"' } use crate::features::Columns; // \"", "features"),
        ("index/mod.rs", "const A: &str = r#\"a \" b\"#; use crate::r#store::Store;", "store"),
        ("index/mod.rs", "/* a /* b */ c */ use crate::learned::FoldIn;", "learned"),
        ("index/mod.rs", "use crate :: store;", "store"),
    ] {
        let found = faults(file, text);

        assert_eq!(found.len(), 1, "{text}: {found:?}");
        assert!(found[0].contains(file) && found[0].contains(&format!("`{room}`")), "{text}: {found:?}");
    }
}

#[test]
fn lower_floors_the_own_room_comments_and_literals_are_no_fault() {
    for (file, text) in [
        ("store/mod.rs", "use crate::{domain::{Item, store}, telemetry::Registry};"),
        ("store/mod.rs", "use crate::store::error::StoreError;"),
        ("store/mod.rs", "//! see crate::http\n/// [`crate::app`]\n/* crate::cli\n /* crate::cli */ crate::app */ pub(crate) mod a;"),
        ("store/mod.rs", "const A: &str = \"\\\" use crate::http;\"; const B: &str = r##\"use crate::app \"# crate::cli\"##;"),
        ("domain/id.rs", "#[cfg(test)]\nmod tests { use super::*; use crate::domain::Item; }"),
        ("cli/mod.rs", "use crate::app::App;"),
        ("main.rs", "fn main() { inkling::cli::run() }"),
        ("lib.rs", "pub mod domain;\npub mod store;"),
    ] {
        assert_eq!(faults(file, text), Vec::<String>::new(), "{text}");
    }
}

#[test]
fn rooms_without_a_floor_and_paths_that_hide_the_room_are_faults() {
    for (file, text, word) in [
        ("attic/mod.rs", "", "`attic`"),
        ("attic.rs", "", "`attic`"),
        ("lib.rs", "pub mod domain;\npub mod attic;", "`attic`"),
        ("http/mod.rs", "use crate::attic::Box;", "`attic`"),
        ("http/mod.rs", "use crate::*;", "`*`"),
        ("http/mod.rs", "use crate::{self as house};", "`self`"),
        ("http/mod.rs", "use crate as house;", "`as`"),
    ] {
        let found = faults(file, text);

        assert_eq!(found.len(), 1, "{text}: {found:?}");
        assert!(found[0].contains(file) && found[0].contains(word), "{text}: {found:?}");
    }
}

fn gather(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            gather(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
}

fn floor(room: &str) -> Option<u8> {
    FLOORS.iter().find(|(name, _)| *name == room).map(|(_, floor)| *floor)
}

/// What is wrong in a file, whose path is relative to `src/`.
fn faults(file: &str, text: &str) -> Vec<String> {
    let tokens = tokens(text);
    if file == "lib.rs" || file == "main.rs" {
        let declared = tokens.windows(2).filter(|pair| pair[0] == "mod").map(|pair| pair[1].as_str());
        return declared.filter(|room| floor(room).is_none()).map(|room| format!("src/{file}: room `{room}` has no floor")).collect();
    }
    let room = file.split('/').next().unwrap_or_default().trim_end_matches(".rs");
    let Some(own) = floor(room) else {
        return vec![format!("src/{file}: room `{room}` has no floor")];
    };
    let mut faults = Vec::new();
    for entered in entered(&tokens) {
        match floor(&entered) {
            _ if entered == room || NEIGHBOURS.contains(&(room, entered.as_str())) => {}
            Some(other) if other < own => {}
            Some(other) => faults.push(format!("src/{file}: `{room}` (floor {own}) uses `{entered}` (floor {other})")),
            None => faults.push(format!("src/{file}: `crate::` leads to `{entered}`, which is no room with a floor")),
        }
    }
    faults
}

/// The rooms that `crate::a`, `crate::{a, b::c}` and `use crate as` lead to.
fn entered(tokens: &[String]) -> Vec<String> {
    let mut rooms = Vec::new();
    for (at, _) in tokens.iter().enumerate().filter(|(_, token)| *token == "crate") {
        match tokens.get(at + 1..).unwrap_or_default() {
            [colon, second, open, group @ ..] if colon == ":" && second == ":" && open == "{" => {
                let (mut depth, mut first) = (1, true);
                for token in group {
                    match token.as_str() {
                        "{" => depth += 1,
                        "}" => depth -= 1,
                        "," if depth == 1 => {
                            first = true;
                            continue;
                        }
                        _ if first && depth == 1 => rooms.push(token.clone()),
                        _ => {}
                    }
                    first = false;
                    if depth == 0 {
                        break;
                    }
                }
            }
            [colon, second, room, ..] if colon == ":" && second == ":" => rooms.push(room.clone()),
            [other, ..] if other == "as" => rooms.push(other.clone()),
            _ => {} // pub(crate)
        }
    }
    rooms
}

/// Names and signs, without comments and literals; `r#name` is `name`.
fn tokens(text: &str) -> Vec<String> {
    let chars: Vec<char> = text.chars().collect();
    let is_name = |sign: char| sign.is_alphanumeric() || sign == '_';
    let starts = |at: usize, what: &str| chars[at..].iter().take(what.len()).copied().eq(what.chars());
    let mut tokens = Vec::new();
    let mut at = 0;
    while at < chars.len() {
        if starts(at, "//") {
            at += chars[at..].iter().take_while(|sign| **sign != '\n').count();
        } else if starts(at, "/*") {
            let mut depth = 0;
            loop {
                if at >= chars.len() {
                    break;
                } else if starts(at, "/*") {
                    (depth, at) = (depth + 1, at + 2);
                } else if starts(at, "*/") {
                    (depth, at) = (depth - 1, at + 2);
                    if depth == 0 {
                        break;
                    }
                } else {
                    at += 1;
                }
            }
        } else if chars[at] == '"' {
            at += 1;
            while at < chars.len() && chars[at] != '"' {
                at += if chars[at] == '\\' { 2 } else { 1 };
            }
            at += 1;
        } else if chars[at] == '\'' {
            // 'x' and '\…' are characters; anything else is a lifetime, whose name follows.
            if chars.get(at + 1) == Some(&'\\') {
                at += 3;
                at += chars[at.min(chars.len())..].iter().take_while(|sign| **sign != '\'').count() + 1;
            } else if chars.get(at + 2) == Some(&'\'') {
                at += 3;
            } else {
                at += 1;
            }
        } else if is_name(chars[at]) {
            let name: String = chars[at..].iter().take_while(|sign| is_name(**sign)).collect();
            at += name.chars().count();
            let hashes = chars[at..].iter().take_while(|sign| **sign == '#').count();
            let raw = matches!(name.as_str(), "r" | "br" | "cr");
            if raw && chars.get(at + hashes) == Some(&'"') {
                let end = format!("\"{}", "#".repeat(hashes));
                at += hashes + 1;
                while at < chars.len() && !starts(at, &end) {
                    at += 1;
                }
                at += end.len();
            } else if raw && hashes == 1 {
                at += 1; // r#name
            } else {
                tokens.push(name);
            }
        } else {
            if !chars[at].is_whitespace() {
                tokens.push(chars[at].to_string());
            }
            at += 1;
        }
    }
    tokens
}
