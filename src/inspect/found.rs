//! Owns what is told of each file. Knows nothing of how it was found out.

use std::path::PathBuf;
use std::time::SystemTime;

use crate::schema::SchemasDigest;

use crate::files::FollowerKind;

/// Where a snapshot is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum SnapshotPlace {
    /// In `snapshots/`.
    Current,
    /// In `archive/`, where only the history needs it.
    Archive,
}

/// A snapshot: a file in `snapshots/` or `archive/`, or one that the MANIFEST lists and that is not
/// there.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SnapshotFile {
    /// Its path.
    pub path: PathBuf,
    /// The sequence of the version that it holds.
    pub sequence: u64,
    /// Where it is.
    pub place: SnapshotPlace,
    /// Whether the MANIFEST lists it: an open may load it.
    pub is_listed: bool,
    /// Whether it is listed, or a listed one rests on it.
    pub is_needed: bool,
    /// The sequence of the snapshot on which it rests, if it holds only what has changed since.
    pub base: Option<u64>,
    /// The time of the newest command in it, or that of its creation for the initial model.
    pub time: Option<SystemTime>,
    /// `Model::VERSION` of the program that wrote it.
    pub model_version: Option<u32>,
    /// The size of the file in bytes.
    pub file_bytes: u64,
    /// The size of its content in bytes, before packing.
    pub content_bytes: u64,
    /// What is wrong with it, as far as header, index and footer show it.
    pub problem: Option<String>,
}

/// A segment of the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SegmentFile {
    /// Its path.
    pub path: PathBuf,
    /// The first sequence that it may hold.
    pub first_sequence: u64,
    /// The sequence of its last command; `None` if it holds none, or if that is not known.
    pub last_sequence: Option<u64>,
    /// How many commands it holds.
    pub commands: u64,
    /// The newest time that was known when it was made. No command before it is later.
    pub time: Option<SystemTime>,
    /// The size of the file in bytes. Segments are prepared with zeros.
    pub file_bytes: u64,
    /// How many bytes there are up to the last one that is not zero.
    pub used_bytes: u64,
    /// What is wrong with it, as far as header and length show it.
    pub problem: Option<String>,
}

/// An archived segment.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ArchiveFile {
    /// Its path.
    pub path: PathBuf,
    /// The sequence of its first command.
    pub first_sequence: u64,
    /// The sequence of its last command; `None` if that is not known.
    pub last_sequence: Option<u64>,
    /// How many commands it holds.
    pub commands: u64,
    /// The newest time that was known when it was made. No command before it is later.
    pub time: Option<SystemTime>,
    /// The size of the file in bytes.
    pub file_bytes: u64,
    /// The size of its frames in bytes, before packing.
    pub content_bytes: u64,
    /// What is wrong with it, as far as header, index and footer show it.
    pub problem: Option<String>,
}

/// What a release of the program has stored: the types of its model, commands and events.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SchemasFile {
    /// Its path.
    pub path: PathBuf,
    /// What files name it by.
    pub digest: SchemasDigest,
    /// The size of the file in bytes.
    pub file_bytes: u64,
    /// What is wrong with it.
    pub problem: Option<String>,
}

/// The record of a purge.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PurgeFile {
    /// Its path.
    pub path: PathBuf,
    /// The number of the purge.
    pub number: u64,
    /// The time of the purge.
    pub time: Option<SystemTime>,
    /// How many commands were replaced.
    pub replaced: u64,
    /// How many commands were erased.
    pub redacted: u64,
    /// How many commands lost only their metadata.
    pub metadata_dropped: u64,
    /// The size of the file in bytes.
    pub file_bytes: u64,
    /// What is wrong with it.
    pub problem: Option<String>,
}

/// A durable follower: a projection, a sink or a reactor.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FollowerFiles {
    /// Its directory.
    pub path: PathBuf,
    /// What it is.
    pub kind: FollowerKind,
    /// Its name.
    pub name: String,
    /// The sequence of the last command that it holds. For a sink this is a lower bound.
    pub position: u64,
    /// The position of the value that is being built to take its place, if one is.
    pub next_position: Option<u64>,
    /// How many commands it is behind the newest one.
    pub lag: u64,
    /// The version of a projection's code.
    pub version: u32,
    /// How many bytes of the journal may stay for it alone.
    pub hold_at_most_bytes: u64,
    /// How many bytes of segments stay now for it, because no snapshot needs them.
    pub held_bytes: u64,
    /// If it has lost commands: the oldest sequence that was still stored then.
    pub lost: Option<u64>,
    /// The sequences of the commands that it has put aside, oldest first.
    pub dead_letters: Vec<u64>,
    /// The size of all its files in bytes.
    pub file_bytes: u64,
    /// What is wrong with its files, as far as their headers show it.
    pub problem: Option<String>,
}

/// What a file is that does not belong to the current state of the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum OtherKind {
    /// A temporary file. If nobody has the database open, the next open removes it.
    Temporary,
    /// A directory of a purge, or of a backup into this one, that did not take effect. The next
    /// open removes it.
    PurgeLeftover,
    /// A half-made backup or copy. Nobody needs it.
    HalfMadeCopy,
    /// Something that this crate did not make. It is never touched.
    Unknown,
}

/// A file or directory that does not belong to the current state of the database.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct OtherFile {
    /// Its path.
    pub path: PathBuf,
    /// What it is.
    pub kind: OtherKind,
    /// The size of the file in bytes; of a directory, that of the files in it.
    pub file_bytes: u64,
}
