//! Owns the command `diff`: what differs between the models of two snapshots. Each is written as
//! JSON by a thread of its own, and both texts are compared while they are written. Knows
//! nothing of the files.
//!
//! - `compare`: the comparison of two JSON texts
//! - `report`: how a difference is told
//! - `unequal`: the entries of two objects whose keys are not the same ones

mod compare;
mod report;
mod unequal;

use std::io::{self, BufWriter, Write};
use std::thread;

use prevalence::inspect::{Inspection, SnapshotFile};

use crate::arguments::{At, Diff};
use crate::failure::{FINE, FOUND, Failure, note};
use crate::json_stream::JsonStream;
use crate::output::time;
use crate::show::path_of;
use compare::Comparison;
use report::Report;

/// Runs the command.
pub fn run(wanted: &Diff, out: &mut dyn Write) -> Result<u8, Failure> {
    let look = Inspection::open(&wanted.path)?;
    let before = chosen(&look, wanted.before)?;
    let after = chosen(&look, wanted.after)?;
    let told = |it: &SnapshotFile| {
        let of = it.time.map(|at| format!(" of {}", time(at))).unwrap_or_default();
        format!("the model at sequence {}{of}", it.sequence)
    };
    note(&format!("from {} to {}", told(before), told(after)));
    if before.model_version != after.model_version {
        let version =
            |it: &SnapshotFile| it.model_version.map_or("?".to_owned(), |it| it.to_string());
        let (old, new) = (version(before), version(after));
        note(&format!("the first is of version {old} of the model, the second of version {new}"));
    }
    let path = path_of(wanted.part.as_deref());
    let out = BufWriter::with_capacity(1 << 16, out);
    let mut report = Report::new(out, wanted.json, path.clone());
    thread::scope(|scope| {
        let start = |snapshot| -> Result<_, Failure> {
            let (reader, writer) = io::pipe()?;
            let (look, path) = (&look, &path);
            let write = move || {
                let mut writer = BufWriter::with_capacity(1 << 16, writer);
                let found = look.write_model(snapshot, path, &mut writer)?;
                writer.flush().map_err(|source| prevalence::Error::Io {
                    action: "compare",
                    path: snapshot.path.clone(),
                    source,
                })?;
                Ok::<bool, prevalence::Error>(found)
            };
            let thread = thread::Builder::new().spawn_scoped(scope, write)?;
            Ok((JsonStream::new(reader), thread))
        };
        let (old, old_thread) = start(before)?;
        let (new, new_thread) = start(after)?;
        let bound = wanted.memory.saturating_mul(1 << 20);
        let compared = Comparison::new(&mut report, bound).run(old, new);
        // Both streams are dropped: who still writes ends. Why one was cut is told by its writer.
        for thread in [old_thread, new_thread] {
            let Ok(written) = thread.join() else {
                return Err(Failure::Output(io::Error::other("a thread has panicked")));
            };
            match written {
                Err(prevalence::Error::Io { source, .. })
                    if source.kind() == io::ErrorKind::BrokenPipe => {}
                written => drop(written?),
            }
        }
        compared
    })?;
    let differences = report.end()?;
    Ok(if differences == 0 { FINE } else { FOUND })
}

/// Finds the snapshot that is meant: that of a sequence, or the newest one that is not behind
/// a time.
fn chosen(look: &Inspection, at: At) -> Result<&SnapshotFile, Failure> {
    let (sequence, until) = match at {
        At::Sequence(sequence) => (Some(sequence), None),
        At::Time(time) => (None, Some(time)),
    };
    let found = look.snapshot_before(sequence, until);
    found.filter(|it| sequence.is_none_or(|wanted| wanted == it.sequence)).ok_or_else(|| {
        let nearest = found.map(|it| format!("; the newest before it is {}", it.sequence));
        let wanted = match at {
            At::Sequence(sequence) => format!("of sequence {sequence}"),
            At::Time(until) => format!("up to {}", time(until)),
        };
        let nearest = nearest.unwrap_or_default();
        Failure::Usage(format!(
            "there is no undamaged snapshot {wanted}{nearest}. `prevalence info` lists all of them"
        ))
    })
}
