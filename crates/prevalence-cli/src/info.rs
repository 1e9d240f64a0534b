//! Owns the command `info`: what a database is, and what an open would do. Knows nothing of how
//! that is found out.

use std::io::{self, Write};

use prevalence::inspect::{
    DatabaseState, FollowerFiles, Inspection, JournalEnd, OpenPlan, OtherKind, SnapshotPlace,
};
use serde_json::{Value, json};

use crate::arguments::Looked;
use crate::failure::{FINE, Failure};
use crate::output::{bytes, count, json as write_json, json_time, time, word};

/// Runs the command.
pub fn run(wanted: &Looked, out: &mut dyn Write) -> Result<u8, Failure> {
    let look = Inspection::open(&wanted.path)?;
    match wanted.json {
        true => write_json(out, &as_json(&look))?,
        false => as_text(&look, out)?,
    }
    Ok(FINE)
}

fn state(look: &Inspection) -> &'static str {
    match look.state() {
        DatabaseState::Clean => "clean",
        DatabaseState::Suspect => "suspect",
        _ => "dirty",
    }
}

fn as_text(look: &Inspection, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "directory   {}", look.path().display())?;
    writeln!(out, "looked at   {}", time(look.looked_at()))?;
    writeln!(out, "opened by   {}", look.opener())?;
    writeln!(out, "database    {}", look.database())?;
    match (look.model_name(), look.model_version()) {
        (Some(name), Some(version)) => {
            writeln!(out, "model       {}, version {version}", word(name))?
        }
        _ => writeln!(out, "model       not known: no segment or snapshot can be read")?,
    }
    let told = match state(look) {
        "clean" => "clean: it was closed",
        "suspect" => "suspect: it is open or was not closed, and a snapshot could not be read",
        _ => "dirty: it is open, or was not closed",
    };
    writeln!(out, "state       {told}")?;
    journal_end(look.journal_end(), out)?;
    match look.oldest_sequence() {
        Some(oldest) => writeln!(out, "commands    {oldest} to {}", look.newest_sequence())?,
        None => writeln!(out, "commands    none are stored")?,
    }
    writeln!(out, "manifest    sequence {}", look.manifest_sequence())?;
    files(look, out)?;
    followers(look.followers(), out)?;
    writeln!(out, "\nan open would")?;
    plan(look.open_plan(), out)?;
    let Some(least) = least_open_time(look) else { return Ok(()) };
    writeln!(
        out,
        "  take at least {least:.1?} here, and what the program needs to decode and apply"
    )
}

/// How long an open takes at least; `None` if it would fail.
fn least_open_time(look: &Inspection) -> Option<std::time::Duration> {
    // Why a file cannot be read is told by `verify`.
    look.least_open_time().ok().flatten()
}

fn journal_end(end: Option<&JournalEnd>, out: &mut dyn Write) -> io::Result<()> {
    let Some(end) = end else {
        return writeln!(out, "newest      not known: the newest segment cannot be read");
    };
    write!(out, "newest      sequence {}", end.sequence)?;
    match end.time {
        Some(at) => writeln!(out, " at {}", time(at))?,
        None => writeln!(out)?,
    }
    if end.unconfirmed_commands > 0 {
        let commands = count(end.unconfirmed_commands, "command", "commands");
        writeln!(out, "            nothing confirms the last {commands} yet")?;
    }
    if end.torn_bytes > 0 {
        let torn = bytes(end.torn_bytes);
        writeln!(out, "            {torn} of a half-written batch are behind it")?;
    }
    match &end.problem {
        Some(problem) => writeln!(out, "  problem   {problem}"),
        None => Ok(()),
    }
}

fn files(look: &Inspection, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "\nsnapshots")?;
    for it in look.snapshots() {
        let place = match it.place {
            SnapshotPlace::Archive => "archived",
            _ if it.is_listed => "listed",
            _ if it.is_needed => "a base",
            _ => "not needed",
        };
        let whole = match it.base {
            Some(base) => format!("changes since {base}"),
            None => "whole".to_owned(),
        };
        let at = it.time.map_or_else(String::new, |at| format!(", {}", time(at)));
        writeln!(out, "  {:>12}  {}, {place}, {whole}{at}", it.sequence, bytes(it.file_bytes))?;
        problem(it.problem.as_deref(), out)?;
    }
    writeln!(out, "segments")?;
    for it in look.segments() {
        let commands = count(it.commands, "command", "commands");
        let (used, of) = (bytes(it.used_bytes), bytes(it.file_bytes));
        writeln!(out, "  {:>12}  {commands}, {used} used of {of}", it.first_sequence)?;
        problem(it.problem.as_deref(), out)?;
    }
    if !look.archives().is_empty() {
        writeln!(out, "archives")?;
    }
    for it in look.archives() {
        let commands = count(it.commands, "command", "commands");
        let size = bytes(it.file_bytes);
        writeln!(out, "  {:>12}  {commands}, {size}", it.first_sequence)?;
        problem(it.problem.as_deref(), out)?;
    }
    if !look.purges().is_empty() {
        writeln!(out, "purges")?;
    }
    for it in look.purges() {
        let at = it.time.map_or_else(String::new, time);
        let (replaced, redacted) = (it.replaced, it.redacted);
        writeln!(out, "  {:>12}  {at}, {replaced} replaced, {redacted} erased", it.number)?;
        problem(it.problem.as_deref(), out)?;
    }
    if !look.schemas().is_empty() {
        writeln!(out, "schemas")?;
    }
    for it in look.schemas() {
        writeln!(out, "  {}  {}", it.digest, bytes(it.file_bytes))?;
        problem(it.problem.as_deref(), out)?;
    }
    if !look.others().is_empty() {
        writeln!(out, "other files")?;
    }
    for it in look.others() {
        let path = it.path.strip_prefix(look.path()).unwrap_or(&it.path);
        let path = word(&path.to_string_lossy());
        writeln!(out, "  {path}: {}, {}", other_kind(it.kind), bytes(it.file_bytes))?;
    }
    Ok(())
}

fn problem(problem: Option<&str>, out: &mut dyn Write) -> io::Result<()> {
    problem.map_or(Ok(()), |problem| writeln!(out, "                problem: {problem}"))
}

fn followers(followers: &[FollowerFiles], out: &mut dyn Write) -> io::Result<()> {
    if !followers.is_empty() {
        writeln!(out, "followers")?;
    }
    for it in followers {
        write!(out, "  {} {}: position {}, ", it.kind, word(&it.name), it.position)?;
        write!(out, "{} behind", count(it.lag, "command", "commands"))?;
        if let Some(next) = it.next_position {
            write!(out, ", a new build is at {next}")?;
        }
        if it.held_bytes > 0 {
            write!(out, ", holds {} of the journal", bytes(it.held_bytes))?;
        }
        if !it.dead_letters.is_empty() {
            let letters: Vec<_> = it.dead_letters.iter().take(8).map(u64::to_string).collect();
            write!(out, ", {} put aside ({}", it.dead_letters.len(), letters.join(", "))?;
            write!(out, "{})", if it.dead_letters.len() > 8 { ", …" } else { "" })?;
        }
        match it.lost {
            Some(oldest) => writeln!(out, ", LOST: the oldest stored command was {oldest}")?,
            None => writeln!(out)?,
        }
        problem(it.problem.as_deref(), out)?;
    }
    Ok(())
}

fn plan(plan: &OpenPlan, out: &mut dyn Write) -> io::Result<()> {
    if plan.removed_files > 0 {
        let files = count(plan.removed_files, "temporary file", "temporary files");
        writeln!(out, "  remove {files}, unless the program that made them still runs")?;
    }
    for skipped in &plan.skipped_snapshots {
        writeln!(out, "  skip snapshot {skipped}, which is damaged or missing")?;
    }
    if let Some(snapshot) = plan.snapshot {
        let files = count(plan.snapshot_paths.len() as u64, "file", "files");
        let size = bytes(plan.snapshot_bytes);
        writeln!(out, "  load snapshot {snapshot} from {files} of {size}")?;
        let commands = count(plan.commands, "command", "commands");
        let segments = count(plan.segments, "segment", "segments");
        let size = bytes(plan.journal_bytes);
        writeln!(out, "  read {size} in {segments}, and apply {commands}")?;
    }
    if plan.rewritten_commands > 0 {
        let commands = count(plan.rewritten_commands, "command", "commands");
        writeln!(out, "  write {commands} again, because nothing confirms that they are durable")?;
    }
    if plan.dropped_bytes > 0 {
        let torn = bytes(plan.dropped_bytes);
        writeln!(out, "  drop {torn} of a batch that was never acknowledged")?;
    }
    match &plan.problem {
        Some(problem) => writeln!(out, "  FAIL: {problem}"),
        None => Ok(()),
    }
}

/// Says what a file is that does not belong to the current state.
pub fn other_kind(kind: OtherKind) -> &'static str {
    match kind {
        OtherKind::Temporary => "temporary file",
        OtherKind::PurgeLeftover => "leftover of a purge or a backup",
        OtherKind::HalfMadeCopy => "half-made copy",
        _ => "does not belong to the database",
    }
}

fn as_json(look: &Inspection) -> Value {
    let end = look.journal_end();
    json!({
        "path": look.path().display().to_string(),
        "looked_at": time(look.looked_at()),
        "opened_by": look.opener().to_string(),
        "is_open": is_open(look),
        "database": look.database().to_string(),
        "model": look.model_name(),
        "model_version": look.model_version(),
        "state": state(look),
        "oldest_sequence": look.oldest_sequence(),
        "newest_sequence": look.newest_sequence(),
        "newest_time": json_time(end.and_then(|end| end.time)),
        "durable_sequence": end.map(|end| end.durable_sequence),
        "manifest_sequence": look.manifest_sequence(),
        "journal_end": end.map(|end| json!({
            "path": end.path.display().to_string(),
            "position": end.position,
            "torn_bytes": end.torn_bytes,
            "unconfirmed_commands": end.unconfirmed_commands,
            "problem": end.problem,
        })),
        "snapshots": snapshots_json(look),
        "segments": segments_json(look),
        "archives": archives_json(look),
        "purges": purges_json(look),
        "schemas": schemas_json(look),
        "followers": look.followers().iter().map(follower_json).collect::<Vec<_>>(),
        "others": look.others().iter().map(|it| json!({
            "path": it.path.display().to_string(),
            "kind": other_kind(it.kind),
            "file_bytes": it.file_bytes,
        })).collect::<Vec<_>>(),
        "open": plan_json(look),
    })
}

/// Whether a program has it open; `null` if that is not known.
fn is_open(look: &Inspection) -> Option<bool> {
    use prevalence::inspect::Opener;
    match look.opener() {
        Opener::Writer { .. } => Some(true),
        Opener::Reader { .. } | Opener::NobodySeen => Some(false),
        _ => None,
    }
}

fn snapshots_json(look: &Inspection) -> Vec<Value> {
    let one = |it: &prevalence::inspect::SnapshotFile| {
        json!({
            "path": it.path.display().to_string(),
            "sequence": it.sequence,
            "is_archived": it.place == SnapshotPlace::Archive,
            "is_listed": it.is_listed,
            "is_needed": it.is_needed,
            "base": it.base,
            "time": json_time(it.time),
            "model_version": it.model_version,
            "file_bytes": it.file_bytes,
            "content_bytes": it.content_bytes,
            "problem": it.problem,
        })
    };
    look.snapshots().iter().map(one).collect()
}

fn segments_json(look: &Inspection) -> Vec<Value> {
    let one = |it: &prevalence::inspect::SegmentFile| {
        json!({
            "path": it.path.display().to_string(),
            "first_sequence": it.first_sequence,
            "last_sequence": it.last_sequence,
            "commands": it.commands,
            "time": json_time(it.time),
            "file_bytes": it.file_bytes,
            "used_bytes": it.used_bytes,
            "problem": it.problem,
        })
    };
    look.segments().iter().map(one).collect()
}

fn archives_json(look: &Inspection) -> Vec<Value> {
    let one = |it: &prevalence::inspect::ArchiveFile| {
        json!({
            "path": it.path.display().to_string(),
            "first_sequence": it.first_sequence,
            "last_sequence": it.last_sequence,
            "commands": it.commands,
            "time": json_time(it.time),
            "file_bytes": it.file_bytes,
            "content_bytes": it.content_bytes,
            "problem": it.problem,
        })
    };
    look.archives().iter().map(one).collect()
}

fn schemas_json(look: &Inspection) -> Vec<Value> {
    let one = |it: &prevalence::inspect::SchemasFile| {
        json!({
            "path": it.path.display().to_string(),
            "digest": it.digest.to_string(),
            "file_bytes": it.file_bytes,
            "problem": it.problem,
        })
    };
    look.schemas().iter().map(one).collect()
}

fn purges_json(look: &Inspection) -> Vec<Value> {
    let one = |it: &prevalence::inspect::PurgeFile| {
        json!({
            "path": it.path.display().to_string(),
            "number": it.number,
            "time": json_time(it.time),
            "replaced": it.replaced,
            "redacted": it.redacted,
            "metadata_dropped": it.metadata_dropped,
            "file_bytes": it.file_bytes,
            "problem": it.problem,
        })
    };
    look.purges().iter().map(one).collect()
}

fn follower_json(it: &FollowerFiles) -> Value {
    json!({
        "path": it.path.display().to_string(),
        "kind": it.kind.to_string(),
        "name": it.name,
        "position": it.position,
        "next_position": it.next_position,
        "lag": it.lag,
        "version": it.version,
        "hold_at_most_bytes": it.hold_at_most_bytes,
        "held_bytes": it.held_bytes,
        "is_lost": it.lost.is_some(),
        "lost_oldest": it.lost,
        "dead_letters": it.dead_letters,
        "file_bytes": it.file_bytes,
        "problem": it.problem,
    })
}

fn plan_json(look: &Inspection) -> Value {
    let plan = look.open_plan();
    let paths = plan.snapshot_paths.iter().map(|path| path.display().to_string());
    json!({
        "snapshot": plan.snapshot,
        "snapshot_paths": paths.collect::<Vec<_>>(),
        "snapshot_bytes": plan.snapshot_bytes,
        "content_bytes": plan.content_bytes,
        "skipped_snapshots": plan.skipped_snapshots,
        "segments": plan.segments,
        "journal_bytes": plan.journal_bytes,
        "commands": plan.commands,
        "rewritten_commands": plan.rewritten_commands,
        "dropped_bytes": plan.dropped_bytes,
        "removed_files": plan.removed_files,
        "least_seconds": least_open_time(look).map(|least| least.as_secs_f64()),
        "problem": plan.problem,
    })
}
