//! Owns the command `du`: how many bytes each part of a directory takes. Knows nothing of how that
//! is found out.

use std::io::Write;

use prevalence::inspect::{Inspection, SnapshotPlace};
use serde_json::{Value, json};

use crate::arguments::Looked;
use crate::failure::{FINE, Failure};
use crate::output::{bytes, count, json as write_json};

/// The files of one kind.
struct Part {
    name: &'static str,
    files: u64,
    bytes: u64,
    /// What more is to say of it.
    note: String,
}

impl Part {
    fn of(name: &'static str, sizes: impl Iterator<Item = u64>) -> Self {
        let (files, bytes) =
            sizes.fold((0, 0_u64), |(files, sum), size| (files + 1, sum.saturating_add(size)));
        Self { name, files, bytes, note: String::new() }
    }

    fn noted(self, note: String) -> Self {
        Self { note, ..self }
    }
}

/// Runs the command.
pub fn run(wanted: &Looked, out: &mut dyn Write) -> Result<u8, Failure> {
    let look = Inspection::open(&wanted.path)?;
    let parts = parts(&look);
    let total: u64 = parts.iter().map(|part| part.bytes).sum();
    if wanted.json {
        let each = parts.iter().map(|part| {
            (part.name.to_owned(), json!({ "files": part.files, "bytes": part.bytes }))
        });
        let each: serde_json::Map<String, Value> = each.collect();
        let value = json!({
            "path": look.path().display().to_string(),
            "total_bytes": total,
            "used_journal_bytes": used(&look),
            "parts": each,
        });
        write_json(out, &value)?;
        return Ok(FINE);
    }
    for part in parts.iter().filter(|part| part.files > 0) {
        let files = count(part.files, "file", "files");
        let size = bytes(part.bytes);
        writeln!(out, "{:<19} {size:>11}  {files}{}", part.name, part.note)?;
    }
    writeln!(out, "{:<19} {:>11}", "total", bytes(total))?;
    Ok(FINE)
}

fn used(look: &Inspection) -> u64 {
    look.segments().iter().map(|it| it.used_bytes).sum()
}

fn parts(look: &Inspection) -> Vec<Part> {
    let in_place = |place| look.snapshots().iter().filter(move |it| it.place == place);
    let unneeded = in_place(SnapshotPlace::Current).filter(|it| !it.is_needed).count();
    let unneeded = match unneeded {
        0 => String::new(),
        more => format!(", {more} of them not needed any more"),
    };
    let held: u64 = look.followers().iter().map(|it| it.held_bytes).max().unwrap_or(0);
    let held = match held {
        0 => String::new(),
        held => format!(", {} of them held for followers", bytes(held)),
    };
    let used = format!(", {} of them used{held}", bytes(used(look)));
    let own = [look.manifest_bytes(), look.reserve_bytes()];
    vec![
        Part::of("journal", look.segments().iter().map(|it| it.file_bytes)).noted(used),
        Part::of("snapshots", in_place(SnapshotPlace::Current).map(|it| it.file_bytes))
            .noted(unneeded),
        Part::of("archive", look.archives().iter().map(|it| it.file_bytes)),
        Part::of("archived snapshots", in_place(SnapshotPlace::Archive).map(|it| it.file_bytes)),
        Part::of("purge records", look.purges().iter().map(|it| it.file_bytes)),
        Part::of("schemas", look.schemas().iter().map(|it| it.file_bytes)),
        Part::of("followers", look.followers().iter().map(|it| it.file_bytes)),
        Part::of("manifest, reserve", own.into_iter().filter(|bytes| *bytes > 0)),
        Part::of("other files", look.others().iter().map(|it| it.file_bytes)),
    ]
}
