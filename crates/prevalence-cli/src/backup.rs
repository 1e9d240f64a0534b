//! Owns the command `backup`: what was copied. Knows nothing of how.

use std::io::Write;

use prevalence::rescue::{BackupHistory, Progress, backup};
use serde_json::json;

use crate::arguments::Backup;
use crate::failure::{FINE, Failure};
use crate::output::{bytes, count, json as write_json};
use crate::progress::watched;

/// Runs the command.
pub fn run(wanted: &Backup, out: &mut dyn Write) -> Result<u8, Failure> {
    let history = match wanted.history {
        true => BackupHistory::With,
        false => BackupHistory::Without,
    };
    let done = watched(|bar| {
        let progress = |it: Progress| bar(it.done_bytes, it.total_bytes);
        backup(&wanted.path, &wanted.target, history, progress)
    })?;
    let path = done.path.display().to_string();
    if wanted.json {
        let told = json!({
            "path": path,
            "sequence": done.sequence,
            "snapshot": done.snapshot,
            "oldest": done.oldest,
            "copied_files": done.copied_files,
            "copied_bytes": done.copied_bytes,
            "copied_commands": done.copied_commands,
        });
        write_json(out, &told)?;
        return Ok(FINE);
    }
    let files = count(done.copied_files, "file", "files");
    let size = bytes(done.copied_bytes);
    writeln!(out, "{files} copied and read back, {size}")?;
    let oldest = match done.oldest {
        Some(oldest) => format!("; its oldest command is {oldest}"),
        None => String::new(),
    };
    writeln!(out, "{path} ends with sequence {}{oldest}", done.sequence)?;
    Ok(FINE)
}
