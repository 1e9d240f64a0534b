//! Owns the command `compact-archive`: what has become of the archive. Knows nothing of how.

use std::io::Write;

use prevalence::rescue::{Compaction, Progress, compact_archive};
use serde_json::json;

use crate::arguments::Compact;
use crate::failure::{FINE, Failure};
use crate::output::{bytes, count, json as write_json};
use crate::progress::watched;

/// Runs the command.
pub fn run(wanted: &Compact, out: &mut dyn Write) -> Result<u8, Failure> {
    let how = Compaction::default()
        .content_bytes(wanted.content.saturating_mul(1 << 20))
        .compression_level(wanted.level)
        .repacks(wanted.repack);
    let done = watched(|bar| {
        let progress = |it: Progress| bar(it.done_bytes, it.total_bytes);
        compact_archive(&wanted.path, &how, progress)
    })?;
    if wanted.json {
        let told = json!({
            "path": done.path.display().to_string(),
            "archives_before": done.archives_before,
            "archives": done.archives,
            "bytes_before": done.bytes_before,
            "bytes": done.bytes,
            "written": done.written,
        });
        write_json(out, &told)?;
        return Ok(FINE);
    }
    let before = count(done.archives_before, "archive", "archives");
    let size = bytes(done.bytes_before);
    if done.written == 0 {
        writeln!(out, "{before}, {size}: nothing can be merged")?;
        return Ok(FINE);
    }
    let now = count(done.archives, "archive", "archives");
    writeln!(out, "{before}, {size} -> {now}, {}", bytes(done.bytes))?;
    Ok(FINE)
}
