//! Owns which columns exported commands have, and what is in each. Knows nothing of forms of files.

use std::time::SystemTime;

use prevalence::inspect::{Inspection, StoredRecord};

use crate::arguments::Chosen;
use crate::commands::{Decoded, Take, each};
use crate::failure::Failure;
use crate::json_stream::JsonStream;
use crate::log::undecoded;
use crate::output::time;

/// So many rows, or bytes of them, are in memory.
const MOST_ROWS: usize = 1 << 16;
const MOST_BYTES: usize = 32 << 20;

/// More fields than that do not become columns.
const MOST_FIELDS: usize = 1_000;

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(feature = "parquet"), allow(dead_code))] // the other forms do without
pub enum Kind {
    Unsigned,
    Integer,
    Float,
    Truth,
    Text,
    Time,
    /// JSON as text.
    Json,
}

/// What is in one place of a table.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    Empty,
    Unsigned(u64),
    Integer(i64),
    Float(f64),
    Truth(bool),
    Text(String),
    Time(SystemTime),
}

impl Cell {
    /// Returns what is in it as text.
    pub fn text(&self) -> String {
        match self {
            Self::Empty => String::new(),
            Self::Unsigned(number) => number.to_string(),
            Self::Integer(number) => number.to_string(),
            Self::Float(number) => number.to_string(),
            Self::Truth(truth) => truth.to_string(),
            Self::Text(text) => text.clone(),
            Self::Time(at) => time(*at),
        }
    }
}

/// The columns that every command has, before and behind those of its fields.
const BEFORE: [(&str, Kind); 7] = [
    ("sequence", Kind::Unsigned),
    ("time", Kind::Time),
    ("actor", Kind::Text),
    ("request_id", Kind::Text),
    ("attributes", Kind::Json),
    ("tag", Kind::Integer),
    ("command", Kind::Text),
];
const BEHIND: [(&str, Kind); 4] = [
    ("events", Kind::Json),
    ("is_redacted", Kind::Truth),
    ("model_version", Kind::Integer),
    ("undecoded", Kind::Json),
];
/// The column of all fields.
const FIELDS: &str = "fields";

/// The columns of a table.
pub struct Columns {
    /// Each field with its kind; `None` if they are one column of JSON.
    fields: Option<Vec<(String, Kind)>>,
    /// Behind it, no field was looked for.
    last: u64,
}

impl Columns {
    /// Finds out the columns of the chosen commands. If they have one name, each of their fields
    /// becomes a column, and all of them are read for that.
    pub fn of(look: &Inspection, chosen: &Chosen) -> Result<Self, Failure> {
        if chosen.command.len() != 1 {
            return Ok(Self { fields: None, last: u64::MAX });
        }
        let mut found = Found { fields: Vec::new(), is_struct: true, last: 0 };
        each(look, chosen, false, &mut found)?;
        let Found { fields, is_struct, last } = found;
        let known = |(name, kind): (String, Option<Kind>)| (name, kind.unwrap_or(Kind::Json));
        let fields = is_struct.then(|| fields.into_iter().map(known).collect());
        Ok(Self { fields, last })
    }

    /// Returns the last sequence for which they are known.
    pub fn last(&self) -> u64 {
        self.last
    }

    /// Returns each column with its kind.
    pub fn all(&self) -> Vec<(String, Kind)> {
        let own = |(name, kind): &(&str, Kind)| ((*name).to_owned(), *kind);
        let fixed = || BEFORE.iter().chain(&BEHIND);
        let field = |(name, kind): &(String, Kind)| {
            let is_taken = fixed().any(|(known, _)| known == name);
            (if is_taken { format!("{FIELDS}_{name}") } else { name.clone() }, *kind)
        };
        let fields = match &self.fields {
            None => vec![(FIELDS.to_owned(), Kind::Json)],
            Some(fields) => fields.iter().map(field).collect(),
        };
        BEFORE.iter().map(own).chain(fields).chain(BEHIND.iter().map(own)).collect()
    }
}

/// The fields that were found so far. A field that was always `null` has no kind yet.
struct Found {
    fields: Vec<(String, Option<Kind>)>,
    is_struct: bool,
    last: u64,
}

impl Take for Found {
    fn take(&mut self, record: &StoredRecord, decoded: &Decoded) -> Result<(), Failure> {
        self.last = record.sequence;
        let Ok(fields) = &decoded.fields else { return Ok(()) };
        if record.is_redacted || !self.is_struct {
            return Ok(());
        }
        let Some(fields) = each_field(fields.get())? else {
            self.is_struct = false; // a number, or another value without fields
            return Ok(());
        };
        for (name, value) in fields {
            let is_full = self.fields.len() == MOST_FIELDS;
            let kind = kind_of(&value);
            match self.fields.iter_mut().find(|(known, _)| *known == name) {
                Some((_, known)) => {
                    *known = match (*known, kind) {
                        (Some(known), Some(kind)) if known != kind => Some(Kind::Json),
                        (known, kind) => known.or(kind),
                    }
                }
                None if is_full => self.is_struct = false,
                None => self.fields.push((name, kind)),
            }
        }
        Ok(())
    }
}

/// Returns the fields of a struct, each as JSON; `None` if it is none.
fn each_field(json: &str) -> Result<Option<Vec<(String, String)>>, Failure> {
    let mut stream = JsonStream::of(json.as_bytes().to_vec());
    if stream.peek()? != Some(b'{') {
        return Ok(None);
    }
    stream.begin()?;
    let mut fields = Vec::new();
    while let Some(name) = stream.key()? {
        let mut value = Vec::new();
        stream.copy(&mut value)?;
        fields.push((name, String::from_utf8_lossy(&value).into_owned()));
    }
    Ok(Some(fields))
}

/// Returns what kind of column a JSON value needs; `None` if any.
fn kind_of(json: &str) -> Option<Kind> {
    match json.as_bytes().first() {
        None | Some(b'n') => None,
        Some(b't' | b'f') => Some(Kind::Truth),
        Some(b'"') => Some(Kind::Text),
        Some(b'{' | b'[') => Some(Kind::Json),
        _ if json.parse::<i64>().is_ok() => Some(Kind::Integer),
        _ if json.contains(['.', 'e', 'E']) => Some(Kind::Float),
        _ => Some(Kind::Json), // a number that needs more than 64 bits
    }
}

fn cell(json: &str, kind: Kind) -> Result<Cell, Failure> {
    if json == "null" {
        return Ok(Cell::Empty);
    }
    let typed = match kind {
        Kind::Truth => Some(Cell::Truth(json == "true")),
        Kind::Text => Some(Cell::Text(serde_json::from_str(json)?)),
        Kind::Integer => json.parse().ok().map(Cell::Integer),
        Kind::Float => json.parse().ok().map(Cell::Float),
        Kind::Unsigned | Kind::Time | Kind::Json => None,
    };
    Ok(typed.unwrap_or_else(|| Cell::Text(json.to_owned())))
}

/// Rows of commands, up to a number.
pub struct Table {
    columns: Columns,
    rows: Vec<Vec<Cell>>,
    bytes: usize,
}

impl Table {
    pub fn new(columns: Columns) -> Self {
        Self { columns, rows: Vec::new(), bytes: 0 }
    }

    pub fn rows(&self) -> &[Vec<Cell>] {
        &self.rows
    }

    pub fn is_full(&self) -> bool {
        self.rows.len() >= MOST_ROWS || self.bytes >= MOST_BYTES
    }

    pub fn clear(&mut self) {
        self.rows.clear();
        self.bytes = 0;
    }

    /// Adds the row of a command.
    pub fn push(&mut self, record: &StoredRecord, decoded: &Decoded) -> Result<(), Failure> {
        let text = |text: &str| match text.is_empty() {
            true => Cell::Empty,
            false => Cell::Text(text.to_owned()),
        };
        let metadata = &record.metadata;
        let attributes = match metadata.attributes.is_empty() {
            true => Cell::Empty,
            false => Cell::Text(serde_json::to_string(&metadata.attributes)?),
        };
        let mut row = vec![
            Cell::Unsigned(record.sequence),
            Cell::Time(record.time),
            text(&metadata.actor),
            text(&metadata.request_id),
            attributes,
            Cell::Integer(record.tag.into()),
            text(&record.command_name),
        ];
        let fields = decoded.fields.as_ref().ok().filter(|_| !record.is_redacted);
        match &self.columns.fields {
            None => row.push(fields.map_or(Cell::Empty, |it| Cell::Text(it.get().to_owned()))),
            Some(columns) => {
                let own = match fields {
                    Some(fields) => each_field(fields.get())?.unwrap_or_default(),
                    None => Vec::new(),
                };
                for (name, kind) in columns {
                    let value = own.iter().find(|(known, _)| known == name);
                    row.push(value.map_or(Ok(Cell::Empty), |(_, json)| cell(json, *kind))?);
                }
            }
        }
        row.push(match &decoded.events {
            Ok(Some(events)) => Cell::Text(serde_json::to_string(events)?),
            Ok(None) | Err(_) => Cell::Empty,
        });
        row.push(Cell::Truth(record.is_redacted));
        row.push(Cell::Integer(record.model_version.into()));
        row.push(undecoded(record, decoded).map_or(Cell::Empty, |it| Cell::Text(it.to_string())));
        let bytes = |cell: &Cell| if let Cell::Text(text) = cell { text.len() } else { 8 };
        self.bytes = self.bytes.saturating_add(row.iter().map(bytes).sum());
        self.rows.push(row);
        Ok(())
    }
}
