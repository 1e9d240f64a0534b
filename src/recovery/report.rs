//! Owns what an open reports: its progress while it runs, and a report afterwards.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

/// The progress of an open, or of a replay of history; see
/// [`Builder::on_progress`](crate::Builder::on_progress) and
/// [`History::on_progress`](crate::History::on_progress).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// The current phase.
    pub phase: Phase,
    /// How much of this phase is done: bytes, or commands in [`Phase::History`].
    pub done: u64,
    /// How much there is to do in this phase.
    pub total: u64,
}

/// The function that is called with the progress of an open, or of a replay of history.
pub(crate) type ProgressCallback = Box<dyn FnMut(Progress) + Send>;

/// The parts of an open and of a replay of history that take time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Phase {
    /// A snapshot is verified, unpacked and decoded.
    Snapshot,
    /// The journal's tail is verified and replayed.
    Journal,
    /// Stored commands are replayed for [`Database::history`](crate::Database::history).
    History,
}

/// A snapshot that could not be used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct DamagedSnapshot {
    /// Its file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub reason: String,
}

/// What an open found and did; see [`Database::recovery`](crate::Database::recovery).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct RecoveryReport {
    /// Whether the open created the database, because there was none.
    pub created: bool,
    /// Whether the database was closed before; otherwise its process ended without a close.
    pub clean: bool,
    /// Sequence of the snapshot that was loaded; 0 is the initial model.
    pub snapshot_sequence: u64,
    /// Size of that snapshot's file in bytes.
    pub snapshot_bytes: u64,
    /// Newer snapshots that are damaged or missing. The journal reached back to the loaded
    /// snapshot, so nothing is lost. The files are kept for you to examine.
    pub damaged_snapshots: Vec<DamagedSnapshot>,
    /// Bytes of the journal's payload behind that snapshot.
    pub tail_bytes: u64,
    /// Journal segments that were read.
    pub segments: u64,
    /// Size of those segments' files in bytes.
    pub journal_bytes: u64,
    /// Commands that were replayed onto the snapshot.
    pub commands_replayed: u64,
    /// Commands at the journal's end that were whole but not known durable. The open wrote them
    /// again and synced them.
    pub commands_rewritten: u64,
    /// Why the files of this run do not say what is in them; `None` if they do. The disk was full
    /// when the open wanted to write the schemas of this program's types, or something else is in
    /// their place. So tools cannot read what this run writes, and types that are changed later are
    /// not noticed for it. The next open tries again.
    pub types_not_described: Option<String>,
    /// What was wrong with the file that says what this program's types are. The open has written it
    /// again; nothing is lost.
    pub damaged_schemas: Option<String>,
    /// What a crash cut short at the journal's end, if it did.
    pub torn_tail: Option<TornTail>,
    /// The sequence that the open reached.
    pub sequence: u64,
    /// Time taken to load the snapshot.
    pub snapshot_time: Duration,
    /// Time taken to replay the journal's tail.
    pub replay_time: Duration,
    /// Time taken by the whole open.
    pub total: Duration,
}

/// Bytes at the journal's end that are not a whole frame: a last batch (or a commit marker) that a
/// crash cut short. Under `Durability::Sync`, such a batch was never acknowledged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct TornTail {
    /// The segment that holds these bytes.
    pub path: PathBuf,
    /// Where they begin, as a byte position.
    pub position: u64,
    /// The number of bytes from there to the last byte that is not zero.
    pub bytes: u64,
}

/// Tells `tracing` what the open found.
pub(super) fn tell(path: &Path, report: &RecoveryReport) {
    for damaged in &report.damaged_snapshots {
        trace_event!(
            WARN,
            "a snapshot is damaged; an older one was loaded",
            path = damaged.path.display(),
            reason = damaged.reason
        );
    }
    if let Some(torn) = &report.torn_tail {
        trace_event!(
            WARN,
            "a batch that was never acknowledged was cut off",
            path = torn.path.display(),
            position = torn.position,
            bytes = torn.bytes
        );
    }
    trace_event!(
        INFO,
        "recovered",
        path = path.display(),
        created = report.created,
        clean = report.clean,
        snapshot = report.snapshot_sequence,
        replayed = report.commands_replayed,
        sequence = report.sequence,
        total_us = report.total.as_micros()
    );
}
