//! Owns the command `restore`: which point is meant, and what was done. Knows nothing of how
//! anything is restored.

use std::io::Write;

use prevalence::rescue::{Point, restore_to};
use serde_json::json;

use crate::arguments::{At, Restore};
use crate::failure::{FINE, FOUND, Failure};
use crate::output::json as write_json;
use crate::progress::watched;

/// Runs the command.
pub fn run(wanted: &Restore, out: &mut dyn Write) -> Result<u8, Failure> {
    let point = match wanted.to {
        None => Point::Newest,
        Some(At::Sequence(sequence)) => Point::Sequence(sequence),
        Some(At::Time(time)) => Point::Time(time),
    };
    let copied = watched(|bar| {
        let progress = |it: prevalence::rescue::Progress| bar(it.done_bytes, it.total_bytes);
        restore_to(&wanted.path, &wanted.target, point, progress)
    })?;
    let path = copied.path.display().to_string();
    match wanted.json {
        true => {
            let gaps = copied.missing_history.iter().map(|gap| json!([gap.start(), gap.end()]));
            let gaps: Vec<_> = gaps.collect();
            let sequence = copied.sequence;
            write_json(out, &json!({"path": path, "sequence": sequence, "missing_history": gaps}))?;
        }
        false => {
            let sequence = copied.sequence;
            writeln!(out, "{path} ends with sequence {sequence}; all of it was read and verified")?;
            for gap in &copied.missing_history {
                let (first, last) = (gap.start(), gap.end());
                writeln!(out, "its history lacks {first} to {last}, which cannot be read")?;
            }
        }
    }
    Ok(if copied.missing_history.is_empty() { FINE } else { FOUND })
}
