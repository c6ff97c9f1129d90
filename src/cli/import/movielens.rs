//! MovieLens folders of all sizes (GroupLens; Harper & Konstan 2015, and each folder's README): `ml-100k` with `u.data` (tabs) and `u.item` (`|`,
//! 19 genre flags), `ml-1m` and `ml-10m` with `.dat` (`::`), `ml-20m` and later and `ml-latest` with `.csv`. Times are in seconds.
//!
//! The old sets are in Latin-1, the later ones in UTF-8: a line that is no UTF-8 is taken for Latin-1. The year at the end of a title, "Toy Story (1995)",
//! becomes the attribute `year`.

use std::{borrow::Cow, collections::BTreeMap};

use super::{Entry, Kind, clean::labels, rows::Made, table::split};
use crate::domain::{AttributeValue, Event, EventType, FieldError, Item, ItemId, Timestamp, UserId};

/// The order of the flags in `u.item`, as in `u.genre`; the first, "unknown", is none.
const GENRES: [&str; 19] = [
    "",
    "Action",
    "Adventure",
    "Animation",
    "Children's",
    "Comedy",
    "Crime",
    "Documentary",
    "Drama",
    "Fantasy",
    "Film-Noir",
    "Horror",
    "Musical",
    "Mystery",
    "Romance",
    "Sci-Fi",
    "Thriller",
    "War",
    "Western",
];
/// Cells before the flags: id, title, release date, video release date, address.
const BEFORE_GENRES: usize = 5;

/// How a file is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// `u.data`
    TabRatings,
    /// `u.item`
    PipeMovies,
    /// `ratings.dat`, `movies.dat`
    Dat(Kind),
    /// `ratings.csv`, `movies.csv`, with a header
    Csv(Kind),
}

/// The file of a folder that holds all of `kind`, if it is such a folder.
pub(super) fn main_file(names: &[String], kind: Kind) -> Option<String> {
    let has = |name: &str| names.iter().any(|known| known == name || known.strip_suffix(".gz") == Some(name));
    let pairs = [("u.item", "u.data"), ("movies.dat", "ratings.dat"), ("movies.csv", "ratings.csv")];
    let (movies, ratings) = pairs.into_iter().find(|(movies, ratings)| has(movies) && has(ratings))?;
    let wanted = if kind == Kind::Items { movies } else { ratings };
    names.iter().find(|name| *name == wanted || name.strip_suffix(".gz") == Some(wanted)).cloned()
}

/// What a file is, by its name and its first line.
pub(super) fn look(name: &str, line: &str) -> Option<(Kind, Shape, String)> {
    let number = |text: &str| text.parse::<u64>().is_ok();
    let tabs: Vec<&str> = line.split('\t').collect();
    if tabs.len() == 4 && tabs.iter().all(|cell| number(cell)) {
        return Some((Kind::Interactions, Shape::TabRatings, "MovieLens ratings in the layout of u.data (ml-100k)".into()));
    }
    let pipes: Vec<&str> = line.split('|').collect();
    if pipes.len() == BEFORE_GENRES + GENRES.len() && number(pipes[0]) && pipes[BEFORE_GENRES..].iter().all(|flag| matches!(*flag, "0" | "1")) {
        return Some((Kind::Items, Shape::PipeMovies, "MovieLens movies in the layout of u.item (ml-100k)".into()));
    }
    let colons: Vec<&str> = line.split("::").collect();
    if colons.len() == 4 && number(colons[0]) && number(colons[1]) && colons[2].parse::<f64>().is_ok() && number(colons[3]) {
        return Some((Kind::Interactions, Shape::Dat(Kind::Interactions), "MovieLens ratings in the layout of ratings.dat (ml-1m, ml-10m)".into()));
    }
    if colons.len() >= 3 && number(colons[0]) && name.starts_with("movies") {
        return Some((Kind::Items, Shape::Dat(Kind::Items), "MovieLens movies in the layout of movies.dat (ml-1m, ml-10m)".into()));
    }
    match line.trim_end() {
        "userId,movieId,rating,timestamp" => {
            Some((Kind::Interactions, Shape::Csv(Kind::Interactions), "MovieLens ratings in the layout of ratings.csv (ml-20m and later)".into()))
        }
        "movieId,title,genres" => Some((Kind::Items, Shape::Csv(Kind::Items), "MovieLens movies in the layout of movies.csv (ml-20m and later)".into())),
        _ => None,
    }
}

/// A line's text: UTF-8, else Latin-1, whose bytes are the first 256 characters of Unicode.
pub(super) fn text(line: &[u8]) -> Cow<'_, str> {
    std::str::from_utf8(line).map_or_else(|_| Cow::Owned(line.iter().map(|byte| char::from(*byte)).collect()), Cow::Borrowed)
}

impl Shape {
    pub(super) fn has_header(self) -> bool {
        matches!(self, Self::Csv(_))
    }

    /// One line.
    pub(super) fn parse(self, line: &str) -> Result<Made, FieldError> {
        let wrong = |cells: usize, expected: &str| FieldError::new("", format!("has {cells} cells, not {expected}"));
        let cells: Vec<Cow<'_, str>> = match self {
            Self::TabRatings => line.split('\t').map(Cow::Borrowed).collect(),
            Self::PipeMovies => line.split('|').map(Cow::Borrowed).collect(),
            Self::Dat(_) => line.split("::").map(Cow::Borrowed).collect(),
            Self::Csv(_) => split(line, b',').ok_or_else(|| FieldError::new("", "a quote is not closed"))?,
        };
        match (self, cells.as_slice()) {
            (Self::TabRatings | Self::Dat(Kind::Interactions) | Self::Csv(Kind::Interactions), [user, movie, stars, seconds]) => {
                rating(user, movie, stars, seconds)
            }
            (Self::TabRatings | Self::Dat(Kind::Interactions) | Self::Csv(Kind::Interactions), cells) => Err(wrong(cells.len(), "4")),
            (Self::PipeMovies, [id, title, _, _, _, flags @ ..]) if flags.len() == GENRES.len() => {
                let genres = GENRES.iter().zip(flags).filter(|(_, flag)| **flag == "1").map(|(genre, _)| *genre);
                movie(id, title, genres)
            }
            (Self::PipeMovies, cells) => Err(wrong(cells.len(), "24")),
            // A title may hold the separator; neither the id nor the genres do.
            (Self::Dat(Kind::Items), [id, title @ .., genres]) if !title.is_empty() => movie(id, &title.join("::"), genres.split('|')),
            (Self::Csv(Kind::Items), [id, title, genres]) => movie(id, title, genres.split('|')),
            (_, cells) => Err(wrong(cells.len(), "3")),
        }
    }
}

fn rating(user: &str, movie: &str, stars: &str, seconds: &str) -> Result<Made, FieldError> {
    let millis = seconds.trim().parse::<i64>().ok().and_then(|seconds| seconds.checked_mul(1_000)).and_then(|millis| Timestamp::from_millis(millis).ok());
    let event = Event {
        event_id: None,
        kind: EventType::Rating,
        user_id: Some(UserId::new(user).map_err(|fault| FieldError::new("/userId", fault))?),
        session_id: None,
        item_id: Some(ItemId::new(movie).map_err(|fault| FieldError::new("/movieId", fault))?),
        recommendation_id: None,
        value: Some(stars.trim().parse().map_err(|_| FieldError::new("/rating", "must be a number"))?),
        text: None,
        timestamp: Some(millis.ok_or_else(|| FieldError::new("/timestamp", "must be seconds since 1970"))?),
    };
    Ok(Entry::Event(Box::new(event)).into())
}

fn movie<'a>(id: &str, title: &str, genres: impl Iterator<Item = &'a str>) -> Result<Made, FieldError> {
    let item_id = ItemId::new(id).map_err(|fault| FieldError::new("/movieId", fault))?;
    let (title, year) = with_year(title.trim());
    let nameless = title.is_empty();
    let item = Item {
        title: Some(if nameless { id } else { title }.to_owned()),
        categories: labels(genres.filter(|genre| *genre != "(no genres listed)")),
        attributes: year.map(|year| ("year".to_owned(), AttributeValue::Number(year))).into_iter().collect::<BTreeMap<_, _>>(),
        ..Item::new(item_id)
    };
    Ok(Made { entry: Entry::Item(Box::new(item)), cut: false, nameless })
}

/// "Toy Story (1995)" as its title and year.
fn with_year(title: &str) -> (&str, Option<f64>) {
    let found = title.strip_suffix(')').and_then(|inner| inner.rsplit_once('('));
    match found {
        Some((name, year)) if year.len() == 4 && year.bytes().all(|digit| digit.is_ascii_digit()) && !name.trim().is_empty() => {
            (name.trim_end(), year.parse().ok())
        }
        _ => (title, None),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value as Json, json};

    use super::*;

    fn parsed(shape: Shape, line: &[u8]) -> Json {
        match shape.parse(&text(line)).unwrap().entry {
            Entry::Item(item) => serde_json::to_value(item).unwrap(),
            Entry::Event(event) => serde_json::to_value(event).unwrap(),
        }
    }

    #[test]
    fn ratings_of_all_sizes_are_the_same_event() {
        let event = json!({"type": "rating", "user_id": "196", "item_id": "242", "value": 3.0, "timestamp": "1997-12-04T15:55:49.000Z"});

        assert_eq!(parsed(Shape::TabRatings, b"196\t242\t3\t881250949"), event);
        assert_eq!(parsed(Shape::Dat(Kind::Interactions), b"196::242::3::881250949"), event);
        assert_eq!(parsed(Shape::Csv(Kind::Interactions), b"196,242,3.0,881250949"), event);
    }

    #[test]
    fn movies_of_all_sizes_are_the_same_item() {
        let item = json!({"item_id": "1", "title": "Toy Story", "categories": ["Animation", "Comedy"], "available": true, "attributes": {"year": 1995.0}});

        assert_eq!(parsed(Shape::PipeMovies, b"1|Toy Story (1995)|01-Jan-1995||http://x|0|0|0|1|0|1|0|0|0|0|0|0|0|0|0|0|0|0|0"), item);
        assert_eq!(parsed(Shape::Dat(Kind::Items), b"1::Toy Story (1995)::Animation|Comedy"), item);
        assert_eq!(parsed(Shape::Csv(Kind::Items), b"1,Toy Story (1995),Animation|Comedy"), item);
        assert_eq!(parsed(Shape::Csv(Kind::Items), b"2,\"Matrix, The (1999)\",(no genres listed)")["title"], "Matrix, The");
    }

    #[test]
    fn latin_1_is_read_and_titles_without_a_year_stay() {
        assert_eq!(parsed(Shape::Dat(Kind::Items), b"3::Am\xe9lie::Comedy")["title"], "Amélie");
        assert_eq!(with_year("Amélie (2001)"), ("Amélie", Some(2001.0)));
        assert_eq!(with_year("(500) Days"), ("(500) Days", None));
        assert_eq!(with_year("(2012)"), ("(2012)", None));
    }

    #[test]
    fn the_whole_set_is_taken_from_a_folder_and_not_its_splits() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();

        assert_eq!(main_file(&names(&["u.data", "u.item", "u1.base"]), Kind::Interactions).unwrap(), "u.data");
        assert_eq!(main_file(&names(&["links.csv", "movies.csv", "ratings.csv.gz"]), Kind::Interactions).unwrap(), "ratings.csv.gz");
        assert_eq!(main_file(&names(&["items.jsonl", "ratings.csv"]), Kind::Items), None);
    }

    #[test]
    fn torn_lines_are_faults() {
        for (shape, line) in [(Shape::TabRatings, "1\t2\t3"), (Shape::Csv(Kind::Items), "1,a"), (Shape::PipeMovies, "1|a|b"), (Shape::Dat(Kind::Items), "1::a")]
        {
            assert!(shape.parse(line).is_err(), "{line}");
        }
        assert_eq!(Shape::TabRatings.parse("1\t2\tx\t4").unwrap_err().pointer, "/rating");
    }
}
