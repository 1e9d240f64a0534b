//! Owns the command `log`: how commands are printed. Knows nothing of which ones are chosen.

use std::collections::BTreeMap;
use std::io::{BufWriter, Write};

use prevalence::inspect::StoredRecord;
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::arguments::{Format, Log};
use crate::commands::{Decoded, Take, each};
use crate::failure::{FINE, FOUND, Failure};
use crate::output::{csv, hex, time, word};

/// So many characters of a command, and of an event, are in a line for the eye.
const SHOWN_CHARS: usize = 160;

/// Runs the command.
pub fn run(wanted: &Log, out: &mut dyn Write) -> Result<u8, Failure> {
    let format = if wanted.json { Format::Ndjson } else { wanted.format };
    let mut lines = Lines { format, out: BufWriter::new(out) };
    let look = wanted.chosen.look()?;
    if format == Format::Csv {
        writeln!(lines.out, "{}", CSV_NAMES.join(","))?;
    }
    let printed = each(&look, &wanted.chosen, wanted.follow, &mut lines);
    lines.out.flush()?; // also what is before damage
    let printed = printed?;
    Ok(if printed == 0 { FOUND } else { FINE })
}

/// Prints each command on a line.
struct Lines<W: Write> {
    format: Format,
    out: BufWriter<W>,
}

impl<W: Write> Take for Lines<W> {
    fn take(&mut self, record: &StoredRecord, decoded: &Decoded) -> Result<(), Failure> {
        print(self.format, record, decoded, &mut self.out)
    }

    fn pause(&mut self) -> Result<(), Failure> {
        Ok(self.out.flush()?)
    }

    fn goes_on_behind_damage(&self) -> bool {
        true
    }
}

fn print(
    format: Format,
    record: &StoredRecord,
    decoded: &Decoded,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    match format {
        Format::Text => print_line(record, decoded, out)?,
        Format::Ndjson => print_json(record, decoded, out)?,
        Format::Csv => print_csv(record, decoded, out)?,
    }
    Ok(())
}

/// Prints a line of JSON that holds everything.
pub fn print_json(
    record: &StoredRecord,
    decoded: &Decoded,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    serde_json::to_writer(&mut *out, &Line::of(record, decoded))?;
    Ok(writeln!(out)?)
}

fn print_line(
    record: &StoredRecord,
    decoded: &Decoded,
    out: &mut dyn Write,
) -> std::io::Result<()> {
    let metadata = &record.metadata;
    write!(out, "{} {} {}", record.sequence, time(record.time), word(&record.command_name))?;
    if !metadata.actor.is_empty() {
        write!(out, " actor={}", word(&metadata.actor))?;
    }
    if !metadata.request_id.is_empty() {
        write!(out, " request={}", word(&metadata.request_id))?;
    }
    for (name, value) in &metadata.attributes {
        write!(out, " {}={}", word(name), word(value))?;
    }
    match &decoded.fields {
        Ok(fields) if matches!(fields.get(), "null" | "{}") => {}
        Ok(fields) => write!(out, " {}", cut(fields.get()))?,
        Err(_) => write!(out, " hex={}", cut(&hex(&record.command)))?,
    }
    for event in decoded.events.iter().flatten().flatten() {
        write!(out, " => {}", cut(event.get()))?;
    }
    writeln!(out)
}

/// Returns the beginning of a long text, without anything that disturbs a terminal. JSON has no
/// control characters but escaped ones.
fn cut(text: &str) -> String {
    match text.char_indices().nth(SHOWN_CHARS) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
    }
}

/// A line of `--format ndjson`.
#[derive(Serialize)]
struct Line<'a> {
    sequence: u64,
    time: String,
    actor: &'a str,
    request_id: &'a str,
    attributes: &'a BTreeMap<String, String>,
    tag: u16,
    command: &'a str,
    fields: Option<&'a RawValue>,
    events: Option<&'a [Box<RawValue>]>,
    is_redacted: bool,
    model_version: u32,
    /// Why the fields or the events are not known, and their bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    undecoded: Option<Value>,
}

impl<'a> Line<'a> {
    fn of(record: &'a StoredRecord, decoded: &'a Decoded) -> Self {
        Self {
            sequence: record.sequence,
            time: time(record.time),
            actor: &record.metadata.actor,
            request_id: &record.metadata.request_id,
            attributes: &record.metadata.attributes,
            tag: record.tag,
            command: &record.command_name,
            fields: decoded.fields.as_deref().ok(),
            events: decoded.events.as_ref().ok().and_then(|events| events.as_deref()),
            is_redacted: record.is_redacted,
            model_version: record.model_version,
            undecoded: undecoded(record, decoded),
        }
    }
}

/// Returns why fields or events are not known, and their bytes.
pub fn undecoded(record: &StoredRecord, decoded: &Decoded) -> Option<Value> {
    let reason = decoded.fields.as_ref().err().or(decoded.events.as_ref().err())?;
    Some(json!({
        "reason": reason,
        "command": hex(&record.command),
        "events": record.events.as_deref().map(hex),
    }))
}

const CSV_NAMES: [&str; 9] =
    ["sequence", "time", "actor", "request_id", "attributes", "tag", "command", "fields", "events"];

fn print_csv(record: &StoredRecord, decoded: &Decoded, out: &mut dyn Write) -> Result<(), Failure> {
    let metadata = &record.metadata;
    let attributes = match metadata.attributes.is_empty() {
        true => String::new(),
        false => serde_json::to_string(&metadata.attributes)?,
    };
    let fields = [
        record.sequence.to_string(),
        time(record.time),
        metadata.actor.clone(),
        metadata.request_id.clone(),
        attributes,
        record.tag.to_string(),
        record.command_name.to_string(),
        match &decoded.fields {
            Ok(fields) => fields.get().to_owned(),
            Err(_) => format!("hex:{}", hex(&record.command)),
        },
        match &decoded.events {
            Ok(Some(events)) => serde_json::to_string(events)?,
            Ok(None) => String::new(),
            Err(_) => format!("hex:{}", record.events.as_deref().map(hex).unwrap_or_default()),
        },
    ];
    let fields: Vec<String> = fields.iter().map(|field| csv(field)).collect();
    writeln!(out, "{}", fields.join(","))?;
    Ok(())
}
