//! Owns what an open tells of itself: progress while it goes on, and a report afterwards.

use std::path::PathBuf;
use std::time::Duration;

/// How far an open, or a replay of history, has come; see
/// [`Builder::on_progress`](crate::Builder::on_progress) and
/// [`History::on_progress`](crate::History::on_progress).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// What is being done.
    pub phase: Phase,
    /// What is done of this phase: bytes, or commands in [`Phase::History`].
    pub done: u64,
    /// What there is to do in this phase.
    pub total: u64,
}

/// Told of how far an open, or a replay of history, has come.
pub(crate) type ProgressCallback = Box<dyn FnMut(Progress) + Send>;

/// The parts of an open, and of a replay of history, that take time.
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
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DamagedSnapshot {
    /// Its file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub reason: String,
}

/// What an open found and did; see [`Database::recovery`](crate::Database::recovery).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RecoveryReport {
    /// There was no database: it was created.
    pub created: bool,
    /// The database had been closed; otherwise its process ended without that.
    pub clean: bool,
    /// Sequence of the snapshot that was loaded; 0 is the initial model.
    pub snapshot_sequence: u64,
    /// Size of that snapshot's file in bytes.
    pub snapshot_bytes: u64,
    /// Newer snapshots that are damaged or missing. The journal reached back to the one that was
    /// loaded, so nothing is lost; the files are left for you to look at.
    pub damaged_snapshots: Vec<DamagedSnapshot>,
    /// Bytes of the journal's payload behind that snapshot.
    pub tail_bytes: u64,
    /// Journal segments that were read.
    pub segments: u64,
    /// Size of those segments' files in bytes.
    pub journal_bytes: u64,
    /// Commands that were replayed onto the snapshot.
    pub commands_replayed: u64,
    /// Commands at the journal's end that were whole but not known to be on stable storage, and
    /// so were written anew and synced.
    pub commands_rewritten: u64,
    /// What a crash had cut short at the journal's end, if there was anything.
    pub torn_tail: Option<TornTail>,
    /// The sequence reached.
    pub sequence: u64,
    /// Time taken to load the snapshot.
    pub snapshot_time: Duration,
    /// Time taken to replay the journal's tail.
    pub replay_time: Duration,
    /// Time taken by the whole open.
    pub total: Duration,
}

/// Bytes at the journal's end that are no whole frame: a last batch (or a mark) that a crash cut
/// short. Under `Durability::Sync` it was never acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TornTail {
    /// The segment it stands in.
    pub path: PathBuf,
    /// Where it begins, in bytes.
    pub position: u64,
    /// From there to the last byte that is not zero.
    pub bytes: u64,
}
