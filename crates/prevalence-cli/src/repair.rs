//! Owns the command `repair`: the plan, the question, and what was done. Knows nothing of how
//! anything is repaired.

use std::io::{self, BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};

use prevalence::rescue::{Copied, Loss, LossKind, RepairPlan, plan_repair, replace};
use serde_json::{Value, json};

use crate::arguments::Repair;
use crate::failure::{FINE, FOUND, Failure, note};
use crate::output::{bytes, count, json as write_json, json_time, shell, time, word};
use crate::progress::watched;

/// Runs the command.
pub fn run(wanted: &Repair, out: &mut dyn Write) -> Result<u8, Failure> {
    let plan = watched(|bar| plan_repair(&wanted.path, |it| bar(it.done_bytes, it.total_bytes)))?;
    let target = match &wanted.into {
        Some(target) => target.clone(),
        None => beside(plan.path()),
    };
    if !plan.is_needed() && wanted.into.is_none() {
        let told = json!({"plan": plan_as_json(&plan), "done": Value::Null});
        match wanted.json {
            true => write_json(out, &told)?,
            false => writeln!(out, "nothing is damaged, so there is nothing to repair")?,
        }
        return Ok(FINE);
    }
    if !wanted.json {
        plan_as_text(&plan, &target, out)?;
        out.flush()?;
    }
    if !wanted.yes && !agreed(&target)? {
        if wanted.json {
            write_json(out, &json!({"plan": plan_as_json(&plan), "done": Value::Null}))?;
        }
        note("nothing was written; say --yes to go on without a question");
        return Ok(FOUND);
    }
    let done = watched(|bar| plan.carry_out(&target, |it| bar(it.done_bytes, it.total_bytes)))?;
    let old = match wanted.replace {
        true => Some(replace(plan.path(), &target)?),
        false => None,
    };
    match wanted.json {
        true => {
            let done = done_as_json(&plan, &done, old.as_deref());
            write_json(out, &json!({"plan": plan_as_json(&plan), "done": done}))?;
        }
        false => done_as_text(&plan, &done, old.as_deref(), out)?,
    }
    Ok(FINE)
}

/// Returns the path of the new directory, if the user gives none.
fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".repaired");
    PathBuf::from(name)
}

/// Asks the user, if there is one.
fn agreed(target: &Path) -> io::Result<bool> {
    let input = io::stdin();
    if !input.is_terminal() {
        return Ok(false);
    }
    let mut error = io::stderr().lock();
    write!(error, "Write the new database into {}? [y/N] ", target.display())?;
    error.flush()?;
    let mut answer = String::new();
    input.lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

fn plan_as_text(plan: &RepairPlan, target: &Path, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "what is damaged")?;
    for it in plan.unreadable() {
        let path = it.path.strip_prefix(plan.path()).unwrap_or(&it.path);
        writeln!(out, "  {}: {}", path.display(), it.reason)?;
    }
    writeln!(out, "what is lost")?;
    for loss in plan.losses() {
        loss_as_text(loss, out)?;
    }
    if plan.losses().is_empty() {
        writeln!(out, "  nothing that can be known")?;
    }
    if !plan.is_newest_exact() {
        writeln!(
            out,
            "  perhaps commands behind sequence {}: nothing states how many there were",
            plan.newest_known()
        )?;
    }
    if plan.torn_bytes() > 0 {
        let size = bytes(plan.torn_bytes());
        writeln!(out, "  {size} of a half-written batch, which nobody was told to be accepted")?;
    }
    let applied = plan.sequence().saturating_sub(plan.snapshot());
    writeln!(out, "the new database")?;
    writeln!(
        out,
        "  sequence {} of {}: snapshot {} and {} behind it",
        plan.sequence(),
        plan.newest_known(),
        plan.snapshot(),
        count(applied, "command", "commands")
    )?;
    let old = plan.path().display();
    writeln!(out, "  in {}; {old} keeps all its files", target.display())
}

fn loss_as_text(loss: &Loss, out: &mut dyn Write) -> io::Result<()> {
    let (first, last) = (*loss.sequences.start(), *loss.sequences.end());
    let commands = count(loss.count(), "command", "commands");
    let sequences = match first == last {
        true => format!("sequence {first}"),
        false => format!("sequences {first} to {last}"),
    };
    let times = match (loss.not_before, loss.not_after) {
        (Some(from), Some(to)) => format!("between {} and {}", time(from), time(to)),
        (Some(from), None) => format!("at {} or later", time(from)),
        (None, Some(to)) => format!("at {} or before", time(to)),
        (None, None) => "at an unknown time".to_owned(),
    };
    match loss.kind {
        LossKind::History => writeln!(
            out,
            "  the history of {commands}: {sequences}, {times}; the model keeps what they did"
        ),
        LossKind::Unusable => {
            writeln!(out, "  {commands}: {sequences}, {times}")?;
            writeln!(out, "    they can be read, but not applied without those before them")?;
            writeln!(out, "    actors: {}", counts(&loss.actors))?;
            writeln!(out, "    commands: {}", counts(&loss.commands))
        }
        _ => writeln!(out, "  {commands}: {sequences}, {times}; their bytes are gone"),
    }
}

fn counts(counts: &std::collections::BTreeMap<String, u64>) -> String {
    let told = counts.iter().map(|(name, count)| match name.is_empty() {
        true => format!("(no name) {count}"),
        false => format!("{} {count}", word(name)),
    });
    told.collect::<Vec<_>>().join(", ")
}

fn done_as_text(
    plan: &RepairPlan,
    done: &Copied,
    old: Option<&Path>,
    out: &mut dyn Write,
) -> io::Result<()> {
    let quoted = |path: &Path| word(&path.display().to_string());
    let (path, target) = (quoted(plan.path()), quoted(&done.path));
    writeln!(out, "done")?;
    match old {
        Some(old) => {
            let old = quoted(old);
            writeln!(out, "  {path} is the new database now; all of it was read and verified")?;
            writeln!(out, "  the damaged one is {old}; remove it when you need nothing of it")
        }
        None => {
            writeln!(
                out,
                "  {target} ends with sequence {}; all of it was read and verified",
                done.sequence
            )?;
            let mut damaged = plan.path().as_os_str().to_owned();
            damaged.push(".damaged");
            let damaged = shell(Path::new(&damaged));
            let (path, target) = (shell(plan.path()), shell(&done.path));
            writeln!(out, "  to use it: mv {path} {damaged} && mv {target} {path}")
        }
    }
}

fn plan_as_json(plan: &RepairPlan) -> Value {
    let unreadable = plan
        .unreadable()
        .iter()
        .map(|it| json!({"path": it.path.display().to_string(), "reason": it.reason}));
    let losses = plan.losses().iter().map(|loss| {
        let kind = match loss.kind {
            LossKind::History => "history",
            LossKind::Unusable => "unusable",
            _ => "state",
        };
        json!({
            "kind": kind,
            "first": loss.sequences.start(),
            "last": loss.sequences.end(),
            "count": loss.count(),
            "not_before": json_time(loss.not_before),
            "not_after": json_time(loss.not_after),
            "actors": loss.actors,
            "commands": loss.commands,
        })
    });
    json!({
        "path": plan.path().display().to_string(),
        "is_needed": plan.is_needed(),
        "unreadable": unreadable.collect::<Vec<_>>(),
        "losses": losses.collect::<Vec<_>>(),
        "snapshot": plan.snapshot(),
        "sequence": plan.sequence(),
        "newest_known": plan.newest_known(),
        "is_newest_exact": plan.is_newest_exact(),
        "torn_bytes": plan.torn_bytes(),
    })
}

fn done_as_json(plan: &RepairPlan, done: &Copied, old: Option<&Path>) -> Value {
    let path = if old.is_some() { plan.path() } else { &done.path };
    json!({
        "path": path.display().to_string(),
        "sequence": done.sequence,
        "replaced": old.map(|old| old.display().to_string()),
    })
}
