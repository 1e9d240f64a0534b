//! Owns the command `show`: the model of a snapshot as JSON. Knows nothing of the files.

use std::io::{BufWriter, Write};

use prevalence::inspect::Inspection;

use crate::arguments::{At, Show};
use crate::failure::{FINE, FOUND, Failure, note};
use crate::output::{count, time};

/// Runs the command.
pub fn run(wanted: &Show, out: &mut dyn Write) -> Result<u8, Failure> {
    let look = Inspection::open(&wanted.path)?;
    let (sequence, until) = match wanted.at {
        None => (None, None),
        Some(At::Sequence(sequence)) => (Some(sequence), None),
        Some(At::Time(time)) => (None, Some(time)),
    };
    let Some(snapshot) = look.snapshot_before(sequence, until) else {
        note("there is no undamaged snapshot that old: `prevalence info` lists all of them");
        return Ok(FOUND);
    };
    let of = snapshot.time.map(|at| format!(" of {}", time(at))).unwrap_or_default();
    let wanted_last = sequence.unwrap_or(u64::MAX).min(look.newest_sequence());
    match wanted_last.saturating_sub(snapshot.sequence) {
        0 => note(&format!("the model at sequence {}{of}", snapshot.sequence)),
        behind => note(&format!(
            "the model at sequence {}{of}; {} since then {} not in it (see `prevalence log --from {}`)",
            snapshot.sequence,
            count(behind, "command", "commands"),
            if behind == 1 { "is" } else { "are" },
            snapshot.sequence + 1,
        )),
    }
    let path = path_of(wanted.part.as_deref());
    let mut out = BufWriter::with_capacity(1 << 16, out);
    if !look.write_model(snapshot, &path, &mut out)? {
        note(&format!("there is no `{}` in the model", path.join(".")));
        return Ok(FOUND);
    }
    writeln!(out)?;
    out.flush()?;
    Ok(FINE)
}

/// Returns the way to a part of a model.
pub fn path_of(part: Option<&str>) -> Vec<String> {
    match part {
        None | Some("" | ".") => Vec::new(),
        Some(part) => part.trim_start_matches('.').split('.').map(str::to_owned).collect(),
    }
}
