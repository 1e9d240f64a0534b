//! Owns the command `log`: which commands are printed, and how. Knows nothing of the files.

use std::collections::BTreeMap;
use std::io::{BufWriter, Write};
use std::time::{Duration, SystemTime};

use prevalence::inspect::{Inspection, StoredRecord, StoredTypes};
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::arguments::{Format, Log};
use crate::condition::Condition;
use crate::failure::{FINE, FOUND, Failure, note};
use crate::output::{csv, hex, time, word};

/// How long `--follow` waits before it looks again.
const PAUSE: Duration = Duration::from_millis(100);

/// So many characters of a command, and of an event, are in a line for the eye.
const SHOWN_CHARS: usize = 160;

/// Runs the command.
pub fn run(wanted: &Log, out: &mut dyn Write) -> Result<u8, Failure> {
    if let (Some(from), Some(to)) = (wanted.from, wanted.to)
        && from > to
    {
        let reason = format!("--from {from} is behind --to {to}. Exchange them");
        return Err(Failure::Usage(reason));
    }
    let format = if wanted.json { Format::Ndjson } else { wanted.format };
    let mut out = BufWriter::new(out);
    let look = Inspection::open(&wanted.path)?;
    let from = match (wanted.from, wanted.since) {
        (Some(from), _) => Some(from),
        (None, Some(since)) => Some(look.sequence_before(since)),
        (None, None) => None,
    };
    let last = wanted.to.unwrap_or(u64::MAX);
    let mut records = match from {
        Some(from) => look.records(from..=last)?,
        None => look.records(..=last)?,
    };
    if format == Format::Csv {
        writeln!(out, "{}", CSV_NAMES.join(","))?;
    }
    let mut types = look.types();
    let mut has_unknown = false;
    let mut printed = 0;
    let has_all = |printed| wanted.limit.is_some_and(|limit| printed >= limit);
    if has_all(printed) {
        out.flush()?;
        return Ok(code(printed));
    }
    loop {
        for record in &mut records {
            let record = record?;
            if wanted.until.is_some_and(|until| record.time >= until) {
                out.flush()?; // no later command is earlier
                return Ok(code(printed));
            }
            if !fits(wanted, &record) {
                continue;
            }
            let decoded = Decoded::of(&mut types, &record);
            if let (Some(_), Err(reason)) = (&wanted.condition, &decoded.fields) {
                if !has_unknown {
                    let first = record.sequence;
                    note(&format!(
                        "--where leaves out commands that cannot be decoded; the first is {first}: \
                         {reason}"
                    ));
                }
                has_unknown = true;
            }
            if !decoded.meets(wanted.condition.as_ref()) {
                continue;
            }
            print(format, &record, &decoded, &mut out)?;
            printed += 1;
            if has_all(printed) {
                break;
            }
        }
        out.flush()?;
        let next = records.next_sequence();
        if !wanted.follow || has_all(printed) || next > last {
            return Ok(code(printed));
        }
        while records.go_on()? < next {
            if wanted.until.is_some_and(|until| SystemTime::now() >= until) {
                return Ok(code(printed));
            }
            std::thread::sleep(PAUSE);
        }
    }
}

fn code(printed: u64) -> u8 {
    if printed == 0 { FOUND } else { FINE }
}

fn fits(wanted: &Log, record: &StoredRecord) -> bool {
    let is =
        |wanted: &Option<String>, found: &str| wanted.as_ref().is_none_or(|wanted| wanted == found);
    wanted.since.is_none_or(|since| record.time >= since)
        && is(&wanted.actor, &record.metadata.actor)
        && is(&wanted.request_id, &record.metadata.request_id)
        && (wanted.command.is_empty()
            || wanted.command.iter().any(|name| **name == *record.command_name))
}

/// What is known of the types of a command.
struct Decoded {
    fields: Result<Box<RawValue>, String>,
    events: Result<Option<Vec<Box<RawValue>>>, String>,
}

impl Decoded {
    fn of(types: &mut StoredTypes, record: &StoredRecord) -> Self {
        let raw = |json: String| RawValue::from_string(json).map_err(|error| error.to_string());
        let events = types
            .events_json(record)
            .and_then(|events| events.map(|all| all.into_iter().map(raw).collect()).transpose());
        Self { fields: types.command_json(record).and_then(raw), events }
    }

    fn meets(&self, condition: Option<&Condition>) -> bool {
        let Some(condition) = condition else { return true };
        let Ok(fields) = &self.fields else { return false };
        serde_json::from_str(fields.get()).is_ok_and(|fields| condition.holds(&fields))
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
        Format::Ndjson => {
            serde_json::to_writer(&mut *out, &Line::of(record, decoded))?;
            writeln!(out)?;
        }
        Format::Csv => print_csv(record, decoded, out)?,
    }
    Ok(())
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
        let reason = decoded.fields.as_ref().err().or(decoded.events.as_ref().err());
        let undecoded = reason.map(|reason| {
            json!({
                "reason": reason,
                "command": hex(&record.command),
                "events": record.events.as_deref().map(hex),
            })
        });
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
            undecoded,
        }
    }
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
