//! Owns the MANIFEST: which files the directory must hold, and whether the database was closed
//! cleanly. Knows the layout of that one file, and nothing of the content of the others.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::change_failure::ChangeFailure;
use super::envelope::{
    CHECKSUM_BYTES, FORMAT_VERSION, check_format, check_magic, checksummed, push_checksum,
};
use super::fields::{FieldReader, position};
use crate::files::{DatabaseId, StoreError, exists};
use crate::storage::{Storage, publish_file, stage_file, sync_published};

pub(crate) const MANIFEST_NAME: &str = "MANIFEST";
/// The file that says why there is no MANIFEST: the first backup into this directory is not
/// finished. An open must not make a new database there.
pub(crate) const UNFINISHED_BACKUP_NAME: &str = "UNFINISHED-BACKUP";

const MAGIC: [u8; 8] = *b"PREVMANI";
const FIXED_BYTES: usize = 60;
/// The most snapshots in the list. It bounds what is read before the checksum is verified.
const MOST_SNAPSHOTS: usize = 4096;

/// How far the database had come when the MANIFEST was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// The first files are being made, and no command was acknowledged yet.
    Creating = 0,
    /// Open, or ended without `close`: the journal holds at least `sequence`.
    Dirty = 1,
    /// Closed: the journal ends exactly at `sequence`.
    Clean = 2,
    /// New directories of a purge or a backup stand beside the old ones and replace them
    /// (`exchange`). All other fields describe the new directories.
    Swapping = 3,
    /// As `Dirty`, and a part of a snapshot could not be read after the open: the next open reads
    /// all of it at once.
    Suspect = 4,
}

/// The content of the MANIFEST.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Manifest {
    pub(crate) database: DatabaseId,
    pub(crate) state: State,
    /// A durable sequence, and the chain value after it.
    pub(crate) sequence: u64,
    pub(crate) chain: u32,
    /// First sequence of the newest journal segment; 0 while creating.
    pub(crate) newest_segment: u64,
    /// Sequences of the snapshots that are kept, oldest first.
    pub(crate) snapshots: Vec<u64>,
}

impl Manifest {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let count = u32::try_from(self.snapshots.len()).expect("few snapshots are kept");
        let length = FIXED_BYTES + self.snapshots.len() * 8 + CHECKSUM_BYTES;
        let length = u32::try_from(length).expect("few snapshots are kept");
        let mut bytes = Vec::new();
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(&self.database.0);
        let state: u32 = match self.state {
            State::Creating => 0,
            State::Dirty => 1,
            State::Clean => 2,
            State::Swapping => 3,
            State::Suspect => 4,
        };
        bytes.extend_from_slice(&state.to_le_bytes());
        bytes.extend_from_slice(&self.chain.to_le_bytes());
        bytes.extend_from_slice(&self.sequence.to_le_bytes());
        bytes.extend_from_slice(&self.newest_segment.to_le_bytes());
        bytes.extend_from_slice(&count.to_le_bytes());
        debug_assert_eq!(bytes.len(), FIXED_BYTES);
        for sequence in &self.snapshots {
            bytes.extend_from_slice(&sequence.to_le_bytes());
        }
        push_checksum(&mut bytes);
        bytes
    }

    pub(crate) fn decode(path: &Path, bytes: &[u8]) -> Result<Self, StoreError> {
        let corrupt = |at: usize, expected: &str, found: String| {
            StoreError::corrupt(path, position(at), expected, found)
        };
        let end = || corrupt(bytes.len(), "a whole MANIFEST", format!("{} bytes", bytes.len()));
        let mut fields = FieldReader::new(bytes);
        if bytes.len() < MAGIC.len() {
            return Err(end());
        }
        check_magic(path, MAGIC, bytes)?;
        fields.bytes(MAGIC.len());
        check_format(path, fields.u32().ok_or_else(end)?)?;
        let length = fields.length().ok_or_else(end)?;
        if length != bytes.len() || length < FIXED_BYTES + CHECKSUM_BYTES {
            let expected = format!("a file of {length} bytes");
            return Err(corrupt(12, &expected, format!("{} bytes", bytes.len())));
        }
        checksummed(path, bytes)?;
        Self::decode_verified(&mut fields, length).ok_or_else(|| {
            corrupt(32, "a state and snapshots that go together", "others".to_owned())
        })
    }

    /// Decodes the fields behind the length, after the checksum was verified.
    fn decode_verified(fields: &mut FieldReader<'_>, length: usize) -> Option<Self> {
        let database = DatabaseId(fields.array()?);
        let state = match fields.u32()? {
            0 => State::Creating,
            1 => State::Dirty,
            2 => State::Clean,
            3 => State::Swapping,
            4 => State::Suspect,
            _ => return None,
        };
        let chain = fields.u32()?;
        let sequence = fields.u64()?;
        let newest_segment = fields.u64()?;
        let count = fields.length().filter(|&count| count <= MOST_SNAPSHOTS)?;
        if length != FIXED_BYTES + count * 8 + CHECKSUM_BYTES {
            return None;
        }
        let snapshots = (0..count).map(|_| fields.u64()).collect::<Option<Vec<_>>>()?;
        Some(Self { database, state, sequence, chain, newest_segment, snapshots })
    }
}

/// The MANIFEST of an open database: its content, and the only way to change it.
pub(crate) struct ManifestFile {
    storage: Arc<dyn Storage>,
    path: PathBuf,
    current: Manifest,
    /// Whether a replacement failed: then the disk may hold `current` or what was to replace it.
    uncertain: bool,
}

impl ManifestFile {
    /// Reads the MANIFEST of `directory`; `None` when there is none.
    pub(crate) fn read(
        storage: &Arc<dyn Storage>,
        directory: &Path,
    ) -> Result<Option<Self>, StoreError> {
        let path = directory.join(MANIFEST_NAME);
        if !exists(&**storage, &path)? {
            return Ok(None);
        }
        let bytes = storage.read(&path).map_err(StoreError::io("read", &path))?;
        let current = Manifest::decode(&path, &bytes)?;
        Ok(Some(Self { storage: storage.clone(), path, current, uncertain: false }))
    }

    /// Writes the first MANIFEST of a new directory.
    pub(crate) fn create(
        storage: &Arc<dyn Storage>,
        directory: &Path,
        first: Manifest,
    ) -> Result<Self, StoreError> {
        let path = directory.join(MANIFEST_NAME);
        let current = first.clone();
        let mut file = Self { storage: storage.clone(), path, current, uncertain: false };
        file.replace(first)?;
        Ok(file)
    }

    pub(crate) fn current(&self) -> &Manifest {
        &self.current
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Changes the MANIFEST durably. After `Ok`, the new one is on disk; after a crash, the old or
    /// the new one is.
    pub(crate) fn update(
        &mut self,
        change: impl FnOnce(&mut Manifest),
    ) -> Result<(), ChangeFailure> {
        let mut next = self.current.clone();
        change(&mut next);
        self.replace(next)
    }

    /// Makes sure that the disk holds `current`. Only then may files be removed because of what it
    /// states.
    pub(crate) fn settle(&mut self) -> Result<(), StoreError> {
        if self.uncertain { Ok(self.replace(self.current.clone())?) } else { Ok(()) }
    }

    fn replace(&mut self, next: Manifest) -> Result<(), ChangeFailure> {
        let staged = stage_file(&*self.storage, &self.path, &next.encode())
            .map_err(StoreError::io("replace", &self.path))
            .map_err(ChangeFailure::before_any_change)?;
        let was_uncertain = std::mem::replace(&mut self.uncertain, true);
        let published = publish_file(&*self.storage, &self.path, staged)
            .map_err(StoreError::io("replace", &self.path))
            .map_err(ChangeFailure::of_a_rename);
        if let Err(ChangeFailure::NotDone(_)) = &published {
            self.uncertain = was_uncertain;
        }
        published?;
        sync_published(&*self.storage, &self.path)
            .map_err(StoreError::io("sync the directory of", &self.path))
            .map_err(ChangeFailure::InDoubt)?;
        self.current = next;
        self.uncertain = false;
        Ok(())
    }
}

#[cfg(test)]
#[path = "tests/manifest.rs"]
mod tests;
