//! Owns the command `verify`: how findings are told. Knows nothing of how they are found.

use std::io::{self, Write};

use prevalence::inspect::{Depth, Finding, Severity, Verification, verify};
use serde_json::{Value, json};

use crate::arguments::Verify;
use crate::failure::{FINE, FOUND, Failure};
use crate::output::{bytes, count, json as write_json, time};
use crate::progress::watched;

/// Runs the command.
pub fn run(wanted: &Verify, out: &mut dyn Write) -> Result<u8, Failure> {
    let depth = if wanted.deep { Depth::Deep } else { Depth::Quick };
    let progress = |bar: &mut dyn FnMut(u64, u64)| {
        verify(&wanted.path, depth, |it| bar(it.done_bytes, it.total_bytes))
    };
    let verified = watched(progress)?;
    match wanted.json {
        true => write_json(out, &as_json(&verified))?,
        false => as_text(&verified, out)?,
    }
    Ok(if verified.is_sound() { FINE } else { FOUND })
}

fn depth(verified: &Verification) -> &'static str {
    match verified.depth {
        Depth::Deep => "deep",
        _ => "quick",
    }
}

fn severity(finding: &Finding) -> &'static str {
    match finding.severity {
        Severity::Note => "note",
        _ => "damage",
    }
}

fn as_text(verified: &Verification, out: &mut dyn Write) -> io::Result<()> {
    for finding in &verified.findings {
        let range = &finding.bytes;
        writeln!(out, "{}: {}", severity(finding), finding.path.display())?;
        writeln!(out, "  bytes     {} to {}", range.start, range.end)?;
        writeln!(out, "  expected  {}", finding.expected)?;
        writeln!(out, "  found     {}", finding.found)?;
        if let Some(lost) = &finding.sequences {
            let lost_count = lost.end().saturating_sub(*lost.start()).saturating_add(1);
            let commands = count(lost_count, "command", "commands");
            match lost_count {
                1 => writeln!(out, "  lost      sequence {}", lost.start())?,
                _ => {
                    let (first, last) = (lost.start(), lost.end());
                    writeln!(out, "  lost      sequences {first} to {last}: {commands}")?;
                }
            }
        }
        writeln!(out, "  means     {}", finding.meaning)?;
        writeln!(out, "  to do     {}\n", finding.advice)?;
    }
    if verified.more_findings > 0 {
        let more = count(verified.more_findings, "finding", "findings");
        writeln!(out, "There are {more} more, which are not listed.\n")?;
    }
    let files = count(verified.files, "file", "files");
    let commands = count(verified.commands, "command", "commands");
    let (depth, size) = (depth(verified), bytes(verified.bytes));
    writeln!(out, "{depth} verification: {files}, {size} read, {commands}")?;
    if verified.vanished_files > 0 {
        let files = count(verified.vanished_files, "file was", "files were");
        writeln!(out, "{files} archived or removed meanwhile")?;
    }
    let damages =
        verified.findings.iter().filter(|it| it.severity == Severity::Damage).count() as u64;
    match verified.is_sound() {
        true => writeln!(out, "no damage was found"),
        false => {
            let damages =
                count(damages.saturating_add(verified.more_findings), "damage", "damages");
            writeln!(out, "{damages} found")
        }
    }
}

fn as_json(verified: &Verification) -> Value {
    let findings = verified.findings.iter().map(|it| {
        json!({
            "severity": severity(it),
            "path": it.path.display().to_string(),
            "begin": it.bytes.start,
            "end": it.bytes.end,
            "expected": it.expected,
            "found": it.found,
            "lost_first": it.sequences.as_ref().map(|lost| *lost.start()),
            "lost_last": it.sequences.as_ref().map(|lost| *lost.end()),
            "meaning": it.meaning,
            "advice": it.advice,
        })
    });
    json!({
        "path": verified.path.display().to_string(),
        "looked_at": time(verified.looked_at),
        "depth": depth(verified),
        "is_sound": verified.is_sound(),
        "findings": findings.collect::<Vec<_>>(),
        "more_findings": verified.more_findings,
        "files": verified.files,
        "bytes": verified.bytes,
        "commands": verified.commands,
        "vanished_files": verified.vanished_files,
    })
}
