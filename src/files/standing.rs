//! Owns the file that says where a durable follower stands: how far it has come, which checkpoint
//! belongs to that, and what it has put aside. The file is replaced as a whole, so position,
//! checkpoint and dead letters always fit together. Knows nothing of what a follower does.

use std::path::{Path, PathBuf};

use super::envelope::{
    CHECKSUM_BYTES, FORMAT_VERSION, check_format, check_magic, checksummed, push_checksum,
};
use super::fields::{FieldReader, position};
use super::names::{CHECKPOINT_SUFFIX, numbered_path};
use super::{DatabaseId, Directory, StoreError, exists, kind as kind_of};
use crate::storage::{APART, EntryKind, Storage, is_temporary, replace_file};

pub(crate) const STANDING_NAME: &str = "STANDING";

const MAGIC: [u8; 8] = *b"PREVSTND";
/// Magic, format, length, database, kind, hold, oldest, name length, number of builds, checksum.
const LEAST_BYTES: usize = 8 + 4 + 4 + 16 + 4 + 8 + 8 + 2 + 2 + CHECKSUM_BYTES;
/// The most dead letters of one build, and the most bytes of their records together. One record
/// always fits, with its events, whatever `max_command_bytes` allows.
pub(crate) const MOST_LETTERS: usize = 1000;
pub(crate) const MOST_LETTER_BYTES: usize = 96 << 20;
/// The most bytes of a reason. The rest is cut.
pub(crate) const MOST_REASON_BYTES: usize = 4 << 10;
/// The most bytes of a name: it is the name of a directory.
pub(crate) const MOST_NAME_BYTES: usize = 100;
/// The one that counts, and one that is being built to take its place.
const MOST_BUILDS: usize = 2;
/// It bounds what is read before the checksum is verified.
const LARGEST_BYTES: u64 = (MOST_BUILDS * (MOST_LETTER_BYTES + MOST_LETTERS * 8192)) as u64 + 4096;

/// What a durable follower is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum FollowerKind {
    /// A value in memory that is made of all commands and events; see
    /// [`Projection`](crate::Projection).
    Projection,
    /// Another database; see [`Sink`](crate::Sink).
    Sink,
    /// Side effects; see [`Reactor`](crate::Reactor).
    Reactor,
}

impl FollowerKind {
    pub(crate) const ALL: [Self; 3] = [Self::Projection, Self::Sink, Self::Reactor];

    fn code(self) -> u32 {
        match self {
            Self::Projection => 1,
            Self::Sink => 2,
            Self::Reactor => 3,
        }
    }

    fn of(code: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.code() == code)
    }

    /// Returns the name of the directory of all followers of this kind.
    fn directory_name(self) -> &'static str {
        let [projections, sinks, reactors] = APART;
        match self {
            Self::Projection => projections,
            Self::Sink => sinks,
            Self::Reactor => reactors,
        }
    }
}

impl std::fmt::Display for FollowerKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Projection => "projection",
            Self::Sink => "sink",
            Self::Reactor => "reactor",
        })
    }
}

/// A command that a follower could not work on, and that was put aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Letter {
    pub(crate) sequence: u64,
    /// When it was put aside, in nanoseconds since 1970.
    pub(crate) time_ns: u64,
    /// How often it was tried.
    pub(crate) attempts: u32,
    pub(crate) reason: String,
    /// The record of the command, as a frame holds it: the journal may forget the command.
    pub(crate) record: Vec<u8>,
}

/// One state of a follower.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Build {
    /// The version of the follower's code.
    pub(crate) version: u32,
    /// The sequence of the last command that it holds.
    pub(crate) position: u64,
    /// The number of its checkpoint file; 0 if it has none.
    pub(crate) checkpoint: u64,
    pub(crate) letters: Vec<Letter>,
}

/// Where a follower stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) database: DatabaseId,
    pub(crate) kind: FollowerKind,
    pub(crate) name: String,
    /// How many bytes of the journal it may keep from removal.
    pub(crate) hold_at_most: u64,
    /// If it has lost commands: the oldest sequence that is still stored.
    pub(crate) lost: Option<u64>,
    pub(crate) current: Build,
    /// What is being built to take the place of `current`.
    pub(crate) next: Option<Build>,
}

impl Standing {
    /// Returns the numbers of the checkpoints that count.
    pub(crate) fn checkpoints(&self) -> Vec<u64> {
        std::iter::once(&self.current).chain(&self.next).map(|it| it.checkpoint).collect()
    }

    /// Returns the sequence behind which the follower still needs all commands.
    pub(crate) fn needed_after(&self) -> u64 {
        let next = self.next.as_ref().map_or(u64::MAX, |next| next.position);
        self.current.position.min(next)
    }

    /// Encodes it. The caller keeps the limits of letters and names.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        bytes.extend_from_slice(&[0; 4]); // the length, known below
        bytes.extend_from_slice(&self.database.0);
        bytes.extend_from_slice(&self.kind.code().to_le_bytes());
        bytes.extend_from_slice(&self.hold_at_most.to_le_bytes());
        bytes.extend_from_slice(&self.lost.unwrap_or(0).to_le_bytes());
        let name = u16::try_from(self.name.len()).expect("a name is short");
        bytes.extend_from_slice(&name.to_le_bytes());
        bytes.extend_from_slice(self.name.as_bytes());
        let builds = 1 + u16::from(self.next.is_some());
        bytes.extend_from_slice(&builds.to_le_bytes());
        for build in std::iter::once(&self.current).chain(&self.next) {
            push_build(&mut bytes, build);
        }
        let length = u32::try_from(bytes.len() + CHECKSUM_BYTES).expect("letters are limited");
        if let Some(field) = bytes.get_mut(12..16) {
            field.copy_from_slice(&length.to_le_bytes());
        }
        push_checksum(&mut bytes);
        bytes
    }

    pub(crate) fn decode(path: &Path, bytes: &[u8]) -> Result<Self, StoreError> {
        let corrupt = |at: usize, expected: &str, found: String| {
            StoreError::corrupt(path, position(at), expected, found)
        };
        let cut = || corrupt(bytes.len(), "a whole STANDING", format!("{} bytes", bytes.len()));
        let mut fields = FieldReader::new(bytes);
        if bytes.len() < LEAST_BYTES {
            return Err(cut());
        }
        check_magic(path, MAGIC, bytes)?;
        fields.bytes(MAGIC.len());
        check_format(path, fields.u32().ok_or_else(cut)?)?;
        let length = fields.length().ok_or_else(cut)?;
        if length != bytes.len() {
            let expected = format!("a file of {length} bytes");
            return Err(corrupt(12, &expected, format!("{} bytes", bytes.len())));
        }
        let covered = checksummed(path, bytes)?;
        let mut fields = FieldReader::new(covered.get(16..).unwrap_or(&[]));
        let decoded = Self::decode_verified(&mut fields).filter(|_| fields.is_at_end());
        decoded.ok_or_else(|| corrupt(16, "fields that go together", "others".to_owned()))
    }

    fn decode_verified(fields: &mut FieldReader<'_>) -> Option<Self> {
        let database = DatabaseId(fields.array()?);
        let kind = FollowerKind::of(fields.u32()?)?;
        let hold_at_most = fields.u64()?;
        let lost = Some(fields.u64()?).filter(|oldest| *oldest > 0);
        let length = usize::from(fields.u16()?);
        let name = Some(fields.bytes(length)?).filter(|name| name.len() <= MOST_NAME_BYTES)?;
        let name = String::from_utf8(name.to_vec()).ok()?;
        let builds = usize::from(fields.u16()?);
        if !(1..=MOST_BUILDS).contains(&builds) {
            return None;
        }
        let current = read_build(fields)?;
        let next = if builds > 1 { Some(read_build(fields)?) } else { None };
        Some(Self { database, kind, name, hold_at_most, lost, current, next })
    }
}

/// Puts fields that a fuzzer has made between what each STANDING begins and ends with.
#[cfg(any(test, fuzzing))]
pub(crate) fn sealed_standing(fields: &[u8]) -> Vec<u8> {
    let length = u32::try_from(16 + fields.len() + CHECKSUM_BYTES).expect("the input is small");
    let begin = [&MAGIC[..], &FORMAT_VERSION.to_le_bytes(), &length.to_le_bytes()].concat();
    let mut bytes = [&begin, fields].concat();
    push_checksum(&mut bytes);
    bytes
}

fn push_build(bytes: &mut Vec<u8>, build: &Build) {
    assert!(build.letters.len() <= MOST_LETTERS, "whoever adds a letter keeps the limit");
    let mut push = |field: usize| {
        let field = u32::try_from(field).expect("letters are limited");
        bytes.extend_from_slice(&field.to_le_bytes());
    };
    push(build.letters.len());
    bytes.extend_from_slice(&build.version.to_le_bytes());
    bytes.extend_from_slice(&build.position.to_le_bytes());
    bytes.extend_from_slice(&build.checkpoint.to_le_bytes());
    for letter in &build.letters {
        bytes.extend_from_slice(&letter.sequence.to_le_bytes());
        bytes.extend_from_slice(&letter.time_ns.to_le_bytes());
        bytes.extend_from_slice(&letter.attempts.to_le_bytes());
        for text in [letter.reason.as_bytes(), &letter.record] {
            let length = u32::try_from(text.len()).expect("letters are limited");
            bytes.extend_from_slice(&length.to_le_bytes());
            bytes.extend_from_slice(text);
        }
    }
}

fn read_build(fields: &mut FieldReader<'_>) -> Option<Build> {
    let count = fields.length().filter(|count| *count <= MOST_LETTERS)?;
    let (version, position, checkpoint) = (fields.u32()?, fields.u64()?, fields.u64()?);
    let letters = (0..count).map(|_| read_letter(fields)).collect::<Option<Vec<_>>>()?;
    let are_in_order = letters.is_sorted_by(|a, b| a.sequence < b.sequence);
    are_in_order.then_some(Build { version, position, checkpoint, letters })
}

fn read_letter(fields: &mut FieldReader<'_>) -> Option<Letter> {
    let (sequence, time_ns, attempts) = (fields.u64()?, fields.u64()?, fields.u32()?);
    let length = fields.length().filter(|length| *length <= MOST_REASON_BYTES)?;
    let reason = String::from_utf8(fields.bytes(length)?.to_vec()).ok()?;
    let length = fields.length()?;
    let record = fields.bytes(length)?.to_vec();
    Some(Letter { sequence, time_ns, attempts, reason, record })
}

/// The files of one durable follower.
#[derive(Clone, Debug)]
pub(crate) struct FollowerDirectory {
    pub(crate) root: PathBuf,
}

impl FollowerDirectory {
    pub(crate) fn of(directory: &Directory, kind: FollowerKind, name: &str) -> Self {
        Self { root: directory.root.join(kind.directory_name()).join(name) }
    }

    /// Lists the directories of this kind, also those without a standing.
    pub(crate) fn list(
        storage: &dyn Storage,
        directory: &Directory,
        kind: FollowerKind,
    ) -> Result<Vec<String>, StoreError> {
        let parent = directory.root.join(kind.directory_name());
        // Something else of that name is the user's.
        if kind_of(storage, &parent)? != Some(EntryKind::Directory) {
            return Ok(Vec::new());
        }
        let names = storage.list(&parent).map_err(StoreError::io("list", &parent))?;
        let mut found = Vec::new();
        for name in names {
            if kind_of(storage, &parent.join(&name))? == Some(EntryKind::Directory) {
                found.push(name);
            }
        }
        found.sort();
        Ok(found)
    }

    /// Removes temporary files, and checkpoints with other numbers than these.
    pub(crate) fn clear(&self, storage: &dyn Storage, kept: &[u64]) -> Result<(), StoreError> {
        let kept: Vec<PathBuf> = kept.iter().map(|number| self.checkpoint(*number)).collect();
        let names = storage.list(&self.root).map_err(StoreError::io("list", &self.root))?;
        for name in names {
            let path = self.root.join(&name);
            let is_ours = name.ends_with(CHECKPOINT_SUFFIX) || is_temporary(&name);
            if is_ours && !kept.contains(&path) {
                storage.remove(&path).map_err(StoreError::io("remove", &path))?;
            }
        }
        Ok(())
    }

    /// Removes what a process that was killed has left.
    pub(crate) fn remove_temporaries(&self, storage: &dyn Storage) -> Result<(), StoreError> {
        let names = storage.list(&self.root).map_err(StoreError::io("list", &self.root))?;
        for name in names.iter().filter(|name| is_temporary(name)) {
            let path = self.root.join(name);
            storage.remove(&path).map_err(StoreError::io("remove", &path))?;
        }
        Ok(())
    }

    pub(crate) fn checkpoint(&self, number: u64) -> PathBuf {
        numbered_path(&self.root, number, CHECKPOINT_SUFFIX)
    }

    pub(crate) fn standing(&self) -> PathBuf {
        self.root.join(STANDING_NAME)
    }

    /// Reads where the follower stands; `None` if it does not exist.
    pub(crate) fn read(&self, storage: &dyn Storage) -> Result<Option<Standing>, StoreError> {
        let path = self.standing();
        if !exists(storage, &path)? {
            return Ok(None);
        }
        let file = storage.open_to_read(&path).map_err(StoreError::io("read", &path))?;
        if file.length() > LARGEST_BYTES {
            let expected = format!("a file of at most {LARGEST_BYTES} bytes");
            let found = format!("{} bytes", file.length());
            return Err(StoreError::corrupt(&path, 0, expected, found));
        }
        drop(file);
        let bytes = storage.read(&path).map_err(StoreError::io("read", &path))?;
        Standing::decode(&path, &bytes).map(Some)
    }

    /// Replaces what the file says, durably.
    pub(crate) fn replace(
        &self,
        storage: &dyn Storage,
        standing: &Standing,
    ) -> Result<(), StoreError> {
        let path = self.standing();
        replace_file(storage, &path, &standing.encode()).map_err(StoreError::io("replace", &path))
    }
}

/// Lists the durable followers whose directories exist.
pub(crate) fn list_followers(
    storage: &dyn Storage,
    directory: &Directory,
) -> Result<Vec<(FollowerKind, String)>, StoreError> {
    let mut found = Vec::new();
    for kind in FollowerKind::ALL {
        for name in FollowerDirectory::list(storage, directory, kind)? {
            let own = FollowerDirectory::of(directory, kind, &name);
            if exists(storage, &own.standing())? {
                found.push((kind, name));
            }
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
#[path = "tests/standing.rs"]
mod tests;
