//! Owns the command `log`: which commands are printed, and how. Knows nothing of the files.

use std::io::{BufWriter, Write};
use std::time::{Duration, SystemTime};

use prevalence::inspect::{Inspection, StoredRecord};
use serde_json::{Value, json};

use crate::arguments::{Format, Log};
use crate::failure::{FINE, FOUND, Failure};
use crate::output::{csv, hex, time, word};

/// How long `--follow` waits before it looks again.
const PAUSE: Duration = Duration::from_millis(100);

/// The most bytes of a command that a line for the eye shows.
const SHOWN_BYTES: usize = 48;

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
            print(format, &record, &mut out)?;
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

/// Returns the fields of a command. The files do not describe them yet, so these are their bytes.
fn decoded(record: &StoredRecord) -> Value {
    json!({ "hex": hex(&record.command) })
}

fn print(format: Format, record: &StoredRecord, out: &mut dyn Write) -> Result<(), Failure> {
    match format {
        Format::Text => print_line(record, out)?,
        Format::Ndjson => {
            serde_json::to_writer(&mut *out, &as_json(record))?;
            writeln!(out)?;
        }
        Format::Csv => print_csv(record, out)?,
    }
    Ok(())
}

fn print_line(record: &StoredRecord, out: &mut dyn Write) -> std::io::Result<()> {
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
    let shown = record.command.get(..SHOWN_BYTES).unwrap_or(&record.command);
    if !shown.is_empty() {
        write!(out, " {}", hex(shown))?;
    }
    match record.command.len() - shown.len() {
        0 => writeln!(out),
        more => writeln!(out, "… and {more} bytes more"),
    }
}

fn as_json(record: &StoredRecord) -> Value {
    let events = record.events.as_ref();
    json!({
        "sequence": record.sequence,
        "time": time(record.time),
        "actor": record.metadata.actor,
        "request_id": record.metadata.request_id,
        "attributes": record.metadata.attributes,
        "tag": record.tag,
        "command": &*record.command_name,
        "fields": decoded(record),
        "events": events.map(|events| json!({ "hex": hex(events) })),
        "is_redacted": record.is_redacted,
        "model_version": record.model_version,
    })
}

const CSV_NAMES: [&str; 9] =
    ["sequence", "time", "actor", "request_id", "attributes", "tag", "command", "fields", "events"];

fn print_csv(record: &StoredRecord, out: &mut dyn Write) -> Result<(), Failure> {
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
        serde_json::to_string(&decoded(record))?,
        record.events.as_deref().map(hex).unwrap_or_default(),
    ];
    let fields: Vec<String> = fields.iter().map(|field| csv(field)).collect();
    writeln!(out, "{}", fields.join(","))?;
    Ok(())
}
