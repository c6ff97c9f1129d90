//! Tables with our own columns (RFC 4180, with `,` `;` or tab): a header that names fields of items or events, a row each.
//!
//! Lists are parted by `|`; `attributes.NAME` is a text, `attributes.NAME:number`, `:flag` and `:list` are what they say; `vectors.NAME` holds numbers
//! parted by spaces. Empty cells are absent. Common other names of columns are understood: `userId`, `itemId`, `event`, `rating`, and `parent_asin`
//! of the Amazon ratings of 2023 (amazon-reviews-2023.github.io).

use std::borrow::Cow;

use super::{Choices, Entry, Kind, TimeUnit, rows::Made};
use crate::domain::{AttributeValue, Event, EventId, EventType, FieldError, Item, ItemId, RecommendationId, SessionId, Timestamp, UserId, pointer_step};

/// 1973-03-03 in milliseconds: a smaller number was almost surely meant as seconds, in which it is up to the year 5138.
const MILLISECONDS_BEGIN: i64 = 100_000_000_000;

/// What a column means.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Column {
    ItemId,
    Title,
    Text,
    Categories,
    Tags,
    Language,
    Price,
    Available,
    CreatedAt,
    ExpiresAt,
    Attribute(String, AttributeForm),
    Vector(String),
    EventId,
    Type,
    UserId,
    SessionId,
    RecommendationId,
    Value,
    Rating,
    Timestamp,
    /// As the caller says.
    Ignored,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AttributeForm {
    Text,
    Number,
    Flag,
    List,
}

impl Column {
    /// Of an item's table.
    fn of_items(name: &str) -> Option<Self> {
        Some(match name {
            "item_id" | "itemId" | "id" => Self::ItemId,
            "title" | "name" => Self::Title,
            "text" | "description" => Self::Text,
            "categories" | "category" => Self::Categories,
            "tags" => Self::Tags,
            "language" => Self::Language,
            "price" => Self::Price,
            "available" => Self::Available,
            "created_at" => Self::CreatedAt,
            "expires_at" => Self::ExpiresAt,
            name => match (name.strip_prefix("attributes."), name.strip_prefix("vectors.")) {
                (Some(name), _) => {
                    let (name, form) = match name.rsplit_once(':') {
                        Some((name, "number")) => (name, AttributeForm::Number),
                        Some((name, "flag")) => (name, AttributeForm::Flag),
                        Some((name, "list")) => (name, AttributeForm::List),
                        Some((name, "text")) => (name, AttributeForm::Text),
                        _ => (name, AttributeForm::Text),
                    };
                    Self::Attribute(name.to_owned(), form)
                }
                (_, Some(name)) => Self::Vector(name.to_owned()),
                _ => return None,
            },
        })
    }

    /// Of a table of events.
    fn of_events(name: &str) -> Option<Self> {
        Some(match name {
            "event_id" => Self::EventId,
            "type" | "event" | "event_type" => Self::Type,
            "user_id" | "userId" | "user" => Self::UserId,
            "session_id" | "sessionId" => Self::SessionId,
            "item_id" | "itemId" | "item" | "parent_asin" => Self::ItemId,
            "recommendation_id" => Self::RecommendationId,
            "value" => Self::Value,
            "rating" | "stars" => Self::Rating,
            "text" => Self::Text,
            "timestamp" | "time" => Self::Timestamp,
            _ => return None,
        })
    }
}

/// Whether the first line of a file is such a header: of what, how parted, with which columns.
pub(super) fn look(line: &str) -> Option<(Kind, u8, Vec<String>)> {
    for delimiter in [b',', b';', b'\t'] {
        let Some(names) = split(line, delimiter) else { continue };
        let names: Vec<String> = names.into_iter().map(|name| name.trim().to_owned()).collect();
        let has = |wanted: Column, of: fn(&str) -> Option<Column>| names.iter().any(|name| of(name) == Some(wanted.clone()));
        if has(Column::UserId, Column::of_events) || has(Column::SessionId, Column::of_events) {
            return Some((Kind::Interactions, delimiter, names));
        }
        if has(Column::ItemId, Column::of_items) && (has(Column::Title, Column::of_items) || has(Column::Text, Column::of_items)) {
            return Some((Kind::Items, delimiter, names));
        }
    }
    None
}

/// A table whose header was understood.
#[derive(Debug)]
pub(super) struct Table {
    kind: Kind,
    delimiter: u8,
    columns: Vec<(String, Column)>,
}

impl Table {
    /// Fails with the columns that mean nothing here.
    pub(super) fn new(header: &str, delimiter: u8, kind: Kind, choices: &Choices) -> Result<Self, String> {
        let names = split(header, delimiter).ok_or("a quote in the header is not closed")?;
        let of = if kind == Kind::Items { Column::of_items } else { Column::of_events };
        let mut columns: Vec<(String, Column)> = Vec::new();
        let mut unknown = Vec::new();
        for name in names {
            let name = name.trim().to_owned();
            let column = if choices.ignored.contains(&name) { Some(Column::Ignored) } else { of(&name) };
            match column {
                Some(column) if column != Column::Ignored && columns.iter().any(|(_, known)| *known == column) => {
                    return Err(format!("the column {name} is there twice"));
                }
                Some(column) => columns.push((name, column)),
                None => unknown.push(name),
            }
        }
        if !unknown.is_empty() {
            let flags: Vec<String> = unknown.iter().take(8).map(|name| format!("--ignore {name}")).collect();
            return Err(format!("no field of {} is called {}; leave out with {}", kind.name(), unknown.join(", "), flags.join(" ")));
        }
        let has = |wanted: Column| columns.iter().any(|(_, column)| *column == wanted);
        if kind == Kind::Interactions && !has(Column::Type) && !has(Column::Rating) && choices.default_type.is_none() {
            return Err("no column says what happened; say it with --default-type, such as --default-type purchase".to_owned());
        }
        Ok(Self { kind, delimiter, columns })
    }

    /// One row.
    pub(super) fn parse(&self, row: &str, choices: &Choices) -> Result<Made, FieldError> {
        let cells = split(row, self.delimiter).ok_or_else(|| FieldError::new("", "a quote is not closed"))?;
        if cells.len() != self.columns.len() {
            return Err(FieldError::new("", format!("has {} cells, the header has {}", cells.len(), self.columns.len())));
        }
        let cells = self.columns.iter().zip(&cells).filter(|(_, cell)| !cell.is_empty()).map(|((_, column), cell)| (column, cell.as_ref()));
        Ok(match self.kind {
            Kind::Items => Entry::Item(Box::new(item(cells, choices)?)).into(),
            Kind::Interactions => Entry::Event(Box::new(event(cells, choices)?)).into(),
        })
    }
}

fn item<'a>(cells: impl Iterator<Item = (&'a Column, &'a str)>, choices: &Choices) -> Result<Item, FieldError> {
    let mut id = None;
    let mut item = Item::new(ItemId::new("-").map_err(|fault| FieldError::new("/item_id", fault))?);
    for (column, cell) in cells {
        match column {
            Column::ItemId => id = Some(ItemId::new(cell).map_err(|fault| FieldError::new("/item_id", fault))?),
            Column::Title => item.title = Some(cell.to_owned()),
            Column::Text => item.text = Some(cell.to_owned()),
            Column::Categories => item.categories = list(cell),
            Column::Tags => item.tags = list(cell),
            Column::Language => item.language = Some(cell.to_owned()),
            Column::Price => item.price = Some(number(cell, "/price")?),
            Column::Available => item.available = flag(cell, "/available")?,
            Column::CreatedAt => item.created_at = Some(time(cell, "/created_at", choices)?),
            Column::ExpiresAt => item.expires_at = Some(time(cell, "/expires_at", choices)?),
            Column::Attribute(name, form) => {
                let pointer = format!("/attributes{}", pointer_step(name));
                let value = match form {
                    AttributeForm::Text => AttributeValue::Text(cell.to_owned()),
                    AttributeForm::Number => AttributeValue::Number(number(cell, &pointer)?),
                    AttributeForm::Flag => AttributeValue::Flag(flag(cell, &pointer)?),
                    AttributeForm::List => AttributeValue::Texts(list(cell)),
                };
                item.attributes.insert(name.clone(), value);
            }
            Column::Vector(name) => {
                let pointer = format!("/vectors{}", pointer_step(name));
                let wrong = || FieldError::new(pointer.clone(), "must be numbers parted by spaces");
                let vector = cell.split_ascii_whitespace().map(|x| x.parse().map_err(|_| wrong())).collect::<Result<_, _>>()?;
                item.vectors.insert(name.clone(), vector);
            }
            _ => {}
        }
    }
    item.item_id = id.ok_or_else(|| FieldError::new("/item_id", "is required"))?;
    Ok(item)
}

fn event<'a>(cells: impl Iterator<Item = (&'a Column, &'a str)>, choices: &Choices) -> Result<Event, FieldError> {
    let (mut kind, mut rating) = (None, None);
    let mut event = Event {
        event_id: None,
        kind: EventType::Rating,
        user_id: None,
        session_id: None,
        item_id: None,
        recommendation_id: None,
        value: None,
        text: None,
        timestamp: None,
    };
    let id = |pointer: &'static str| move |fault: crate::domain::InvalidId| FieldError::new(pointer, fault);
    for (column, cell) in cells {
        match column {
            Column::EventId => event.event_id = Some(EventId::new(cell).map_err(id("/event_id"))?),
            Column::Type => kind = Some(kind_of(cell, choices)?),
            Column::UserId => event.user_id = Some(UserId::new(cell).map_err(id("/user_id"))?),
            Column::SessionId => event.session_id = Some(SessionId::new(cell).map_err(id("/session_id"))?),
            Column::ItemId => event.item_id = Some(ItemId::new(cell).map_err(id("/item_id"))?),
            Column::RecommendationId => event.recommendation_id = Some(RecommendationId::new(cell).map_err(id("/recommendation_id"))?),
            Column::Value => event.value = Some(number(cell, "/value")?),
            Column::Rating => rating = Some(number(cell, "/rating")?),
            Column::Text => event.text = Some(cell.to_owned()),
            Column::Timestamp => event.timestamp = Some(time(cell, "/timestamp", choices)?),
            _ => {}
        }
    }
    event.value = event.value.or(rating);
    let kind = kind.or(choices.default_type).or(rating.map(|_| EventType::Rating));
    event.kind = kind.ok_or_else(|| FieldError::new("/type", "is required"))?;
    Ok(event)
}

/// An event type of a foreign table or dump.
pub(super) fn kind_of(theirs: &str, choices: &Choices) -> Result<EventType, FieldError> {
    choices.event_type(theirs).ok_or_else(|| {
        let shown: String = theirs.chars().filter(|c| !c.is_control()).take(40).collect();
        FieldError::new("/type", format!("{shown:?} is none of ours; say what it means with --type {shown}=…, such as --type star=like"))
    })
}

fn list(cell: &str) -> Vec<String> {
    cell.split('|').map(str::trim).filter(|entry| !entry.is_empty()).map(str::to_owned).collect()
}

fn number(cell: &str, pointer: &str) -> Result<f64, FieldError> {
    cell.trim().parse().map_err(|_| FieldError::new(pointer, "must be a number"))
}

fn flag(cell: &str, pointer: &str) -> Result<bool, FieldError> {
    match cell.trim().to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" => Ok(true),
        "false" | "0" | "no" => Ok(false),
        _ => Err(FieldError::new(pointer, "must be true or false")),
    }
}

fn time(cell: &str, pointer: &str, choices: &Choices) -> Result<Timestamp, FieldError> {
    let cell = cell.trim();
    let fault = |fault: crate::domain::InvalidTimestamp| FieldError::new(pointer, fault);
    let Ok(number) = cell.parse::<i64>() else {
        // Seconds with a fraction, as some exports have them.
        return match (cell.parse::<f64>(), choices.time_unit) {
            (Ok(seconds), TimeUnit::S) if seconds.abs() < 1e12 => Timestamp::from_millis((seconds * 1_000.0).round() as i64).map_err(fault),
            _ => Timestamp::parse(cell).map_err(fault),
        };
    };
    match choices.time_unit {
        TimeUnit::S => Timestamp::from_millis(number.saturating_mul(1_000)).map_err(fault),
        TimeUnit::Auto if number.abs() < MILLISECONDS_BEGIN => {
            Err(FieldError::new(pointer, "would be before 1973 in milliseconds; say --time-unit s if it counts seconds, else --time-unit ms"))
        }
        TimeUnit::Auto | TimeUnit::Ms => Timestamp::from_millis(number).map_err(fault),
    }
}

/// The cells of a row; `None` where a quote is not closed. A quote inside an unquoted cell is an ordinary character.
pub(super) fn split(row: &str, delimiter: u8) -> Option<Vec<Cow<'_, str>>> {
    let delimiter = char::from(delimiter);
    let mut cells = Vec::new();
    let mut rest = row;
    loop {
        let Some(quoted) = rest.strip_prefix('"') else {
            match rest.split_once(delimiter) {
                Some((cell, after)) => {
                    cells.push(Cow::Borrowed(cell));
                    rest = after;
                    continue;
                }
                None => {
                    cells.push(Cow::Borrowed(rest));
                    return Some(cells);
                }
            }
        };
        let mut cell = String::new();
        let mut after = quoted;
        loop {
            let (text, behind) = after.split_once('"')?;
            cell.push_str(text);
            after = behind;
            match after.strip_prefix('"') {
                Some(behind) => {
                    cell.push('"');
                    after = behind;
                }
                None => break,
            }
        }
        // What stands between the closing quote and the delimiter belongs to the cell, as spreadsheets have it.
        match after.split_once(delimiter) {
            Some((text, behind)) => {
                cell.push_str(text);
                cells.push(Cow::Owned(cell));
                rest = behind;
            }
            None => {
                cell.push_str(after);
                cells.push(Cow::Owned(cell));
                return Some(cells);
            }
        }
    }
}

/// Whether a quoted cell is open at the end of a line, so that the row goes on; fed piece by piece.
pub(super) struct Quotes {
    delimiter: u8,
    state: Place,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Begin,
    Plain,
    Quoted,
    /// Behind a quote in a quoted cell: closed, or the first of two.
    Behind,
}

impl Quotes {
    pub(super) fn new(delimiter: u8) -> Self {
        Self { delimiter, state: Place::Begin }
    }

    /// After this piece more.
    pub(super) fn are_open_after(&mut self, piece: &[u8]) -> bool {
        for byte in piece {
            self.state = match (self.state, *byte) {
                (Place::Begin | Place::Behind, b'"') => Place::Quoted,
                (Place::Quoted, b'"') => Place::Behind,
                (Place::Quoted, _) => Place::Quoted,
                (_, byte) if byte == self.delimiter => Place::Begin,
                _ => Place::Plain,
            };
        }
        self.state == Place::Quoted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choices(time_unit: TimeUnit) -> Choices {
        Choices { own: Vec::new(), types: [("buy".to_owned(), EventType::Purchase)].into(), default_type: None, ignored: vec!["split".into()], time_unit }
    }

    fn json(header: &str, kind: Kind, row: &str, time_unit: TimeUnit) -> Result<serde_json::Value, FieldError> {
        let choices = choices(time_unit);
        match Table::new(header, b',', kind, &choices).unwrap().parse(row, &choices)?.entry {
            Entry::Item(item) => Ok(serde_json::to_value(item).unwrap()),
            Entry::Event(event) => Ok(serde_json::to_value(event).unwrap()),
        }
    }

    #[test]
    fn cells_are_split_as_rfc_4180_says() {
        let cells = |row| split(row, b',').map(|cells| cells.into_iter().map(Cow::into_owned).collect::<Vec<_>>());

        assert_eq!(cells(r#"a,"b, ""c""",,5" screen"#).unwrap(), ["a", "b, \"c\"", "", "5\" screen"]);
        assert_eq!(cells("").unwrap(), [""]);
        assert_eq!(cells("a,\"b\nc\",").unwrap(), ["a", "b\nc", ""]);
        assert_eq!(cells(r#"a,"b"#), None);
    }

    #[test]
    fn what_is_split_is_what_another_csv_writer_wrote_and_its_rows_end_where_they_should() {
        use proptest::prelude::*;
        proptest!(|(rows in prop::collection::vec(prop::collection::vec("[ab\",;\n\r ]{0,6}", 2..5), 1..5))| {
            let mut writer = csv::WriterBuilder::new().flexible(true).terminator(csv::Terminator::Any(b'\n')).from_writer(Vec::new());
            for row in &rows {
                writer.write_record(row).unwrap();
            }
            let text = String::from_utf8(writer.into_inner().unwrap()).unwrap();
            let mut found = Vec::new();
            let (mut open, mut row) = (Quotes::new(b','), String::new());
            for line in text.strip_suffix('\n').unwrap().split('\n') {
                row.push_str(line);
                if open.are_open_after(line.as_bytes()) {
                    row.push('\n');
                    open.are_open_after(b"\n");
                } else {
                    found.push(split(&row, b',').unwrap().into_iter().map(Cow::into_owned).collect::<Vec<_>>());
                    (open, row) = (Quotes::new(b','), String::new());
                }
            }
            prop_assert_eq!(found, rows);
        });
    }

    #[test]
    fn a_row_of_items_has_all_fields() {
        let header = "item_id,title,categories,price,available,created_at,attributes.brand,attributes.year:number,attributes.sizes:list,vectors.image";

        let item = json(header, Kind::Items, "a,\"Tent, blue\",camping| tents,12.5,no,2026-01-01T00:00:00Z,Fjell,1995,S|M,0.5 -1e-3", TimeUnit::Auto).unwrap();

        assert_eq!(
            item,
            serde_json::json!({"item_id": "a", "title": "Tent, blue", "categories": ["camping", "tents"], "price": 12.5, "available": false,
                "created_at": "2026-01-01T00:00:00.000Z", "attributes": {"brand": "Fjell", "year": 1995.0, "sizes": ["S", "M"]}, "vectors": {"image": [0.5, -0.001]}})
                .as_object()
                .map(|fields| {
                    let mut fields = fields.clone();
                    fields["vectors"]["image"][1] = serde_json::to_value(-0.001_f32).unwrap();
                    serde_json::Value::Object(fields)
                })
                .unwrap()
        );
    }

    #[test]
    fn a_row_of_events_takes_other_names_types_and_times_as_the_caller_says() {
        let header = "userId,item_id,event,rating,timestamp,split";

        let event = json(header, Kind::Interactions, "u,i,buy,4.5,964980499,train", TimeUnit::S).unwrap();
        assert_eq!(event, serde_json::json!({"type": "purchase", "user_id": "u", "item_id": "i", "value": 4.5, "timestamp": "2000-07-30T18:08:19.000Z"}));

        let fault = json(header, Kind::Interactions, "u,i,buy,4.5,964980499,train", TimeUnit::Auto).unwrap_err();
        assert!(fault.detail.contains("--time-unit s"), "{fault:?}");
        let fault = json(header, Kind::Interactions, "u,i,bought,4.5,,train", TimeUnit::Auto).unwrap_err();
        assert!(fault.detail.contains("--type bought="), "{fault:?}");
        assert_eq!(json("user_id,item_id,rating", Kind::Interactions, "u,i,3", TimeUnit::Auto).unwrap()["type"], "rating");
        let of_amazon = json("user_id,parent_asin,rating,timestamp", Kind::Interactions, "u,i,3,1514764800000", TimeUnit::Auto).unwrap();
        assert_eq!(of_amazon, serde_json::json!({"type": "rating", "user_id": "u", "item_id": "i", "value": 3.0, "timestamp": "2018-01-01T00:00:00.000Z"}));
    }

    #[test]
    fn rows_that_do_not_fit_are_faults_of_their_field() {
        let pointer = |row| json("item_id,price,available,vectors.image", Kind::Items, row, TimeUnit::Auto).unwrap_err().pointer;

        assert_eq!(pointer("a,cheap,,"), "/price");
        assert_eq!(pointer("a,1,perhaps,"), "/available");
        assert_eq!(pointer("a,1,true,0.5 x"), "/vectors/image");
        assert_eq!(pointer(",1,true,"), "/item_id");
        assert_eq!(pointer("a,1"), "");
    }

    #[test]
    fn headers_that_cannot_be_understood_say_what_to_do() {
        let fault = |header, kind| Table::new(header, b',', kind, &choices(TimeUnit::Auto)).unwrap_err();

        assert!(fault("item_id,title,colour", Kind::Items).contains("--ignore colour"));
        assert!(fault("user_id,item_id", Kind::Interactions).contains("--default-type"));
        assert!(fault("item_id,title,name", Kind::Items).contains("twice"));
    }
}
