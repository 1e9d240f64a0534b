//! Owns the file that documents a purge: its time, how many commands changed, and their sequences.
//! It never contains erased data. Knows nothing of how the purge was done.
//!
//! ```text
//!  0 magic "PREVPURG"
//!  8 format u32
//! 12 chain before u32     after the newest sequence
//! 16 length u64           of the file
//! 24 database [16]
//! 40 number u64           1 for a database's first purge
//! 48 time u64
//! 56 sequence u64         the newest one
//! 64 kept u64
//! 72 replaced u64         how many sequences
//! 80 redacted u64
//! 88 metadata dropped u64
//! 96 chain after u32
//! 100 zeros [4]
//! 104 sequences u64       of the three kinds, each ascending
//! …  checksum u32         CRC-32C of everything before
//! ```

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use crate::error::Error;
use crate::files::{
    CHECKSUM_BYTES, DatabaseId, Directory, FORMAT_VERSION, FieldReader, MANIFEST_NAME,
    ManifestFile, PURGE_SUFFIX, State, check_format, check_magic, checksummed, list_if_there,
    numbered_path, position, push_checksum,
};
use crate::model::{system_time, time_ns};
use crate::storage::{Disk, Storage, replace_file};

const MAGIC: [u8; 8] = *b"PREVPURG";
const FIXED_BYTES: usize = 104;

/// The documentation of one purge, which stays beside the data.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PurgeRecord {
    /// The database that was purged.
    pub database: DatabaseId,
    /// The number of the purge: 1 for the database's first purge, then 2, and so on.
    pub number: u64,
    /// The time of the purge, by the clock of the machine.
    pub time: SystemTime,
    /// The newest sequence at that time.
    pub sequence: u64,
    /// How many commands did not change.
    pub kept: u64,
    /// The checksum of all commands up to `sequence` before the purge.
    pub chain_before: u32,
    /// The checksum of all commands up to `sequence` after the purge.
    pub chain_after: u32,
    /// The sequences of the commands that were replaced by others.
    pub replaced: Vec<u64>,
    /// The sequences of the commands that were redacted.
    pub redacted: Vec<u64>,
    /// The sequences of the commands that lost their metadata and were not redacted.
    pub metadata_dropped: Vec<u64>,
}

/// Reads the records of all purges of the database in the directory `path`, the first purge first.
/// It is empty if there was no purge. The database may be open.
///
/// A user who may write in the directory can remove the newest records, and nobody can notice it.
/// If a copy of the database is purged, only the copy has the record. Neither
/// [`backup`](crate::Database::backup) nor [`restore`](crate::Database::restore) copies the
/// records.
///
/// # Errors
/// [`Error::Corrupt`] if a record is damaged. [`Error::Missing`] if a record is missing, or if
/// there is no database. [`Error::ForeignFile`] if a record belongs to another database.
/// [`Error::PurgeUnfinished`] if a crash interrupted a purge, or a backup into the directory: open
/// the database once, and its record counts.
pub fn purge_records(path: impl AsRef<Path>) -> Result<Vec<PurgeRecord>, Error> {
    let path = path.as_ref();
    let database = exchanged_database(path)?;
    let purges = Directory::at(path).purges;
    let mut records = Vec::new();
    for (number, expected) in numbers(&Disk, &purges)?.into_iter().zip(1..) {
        if number != expected {
            return Err(Error::Missing {
                path: record_path(&purges, expected),
                reason: format!("there is a record of the later purge {number}"),
            });
        }
        let path = record_path(&purges, number);
        let bytes = Disk.read(&path).map_err(Error::io("read", &path))?;
        let record = PurgeRecord::decode(&path, &bytes, number)?;
        let (expected, found) = (database, record.database);
        if expected != found {
            return Err(Error::ForeignFile { path, expected, found });
        }
        records.push(record);
    }
    exchanged_database(path)?; // again, because another process may have begun a purge meanwhile
    Ok(records)
}

/// Reads the database's id. It is an error if an exchange of directories has begun and is not
/// finished.
fn exchanged_database(path: &Path) -> Result<DatabaseId, Error> {
    let manifest = ManifestFile::read(&(Arc::new(Disk) as _), path)?.ok_or_else(|| {
        let reason = "there is no database in this directory".to_owned();
        Error::Missing { path: path.join(MANIFEST_NAME), reason }
    })?;
    match manifest.current().state {
        State::Swapping => Err(Error::PurgeUnfinished { path: path.to_path_buf() }),
        _ => Ok(manifest.current().database),
    }
}

pub(super) fn record_path(purges: &Path, number: u64) -> PathBuf {
    numbered_path(purges, number, PURGE_SUFFIX)
}

/// Returns the number of the next purge.
pub(super) fn next_number(storage: &dyn Storage, purges: &Path) -> Result<u64, Error> {
    Ok(numbers(storage, purges)?.last().unwrap_or(&0) + 1)
}

/// Writes the record of this purge beside copies of all earlier ones.
pub(super) fn write_record(
    storage: &dyn Storage,
    directory: &Directory,
    staged: &Directory,
    record: &PurgeRecord,
) -> Result<(), Error> {
    let write = |number, bytes: &[u8]| {
        let path = record_path(&staged.purges, number);
        replace_file(storage, &path, bytes).map_err(Error::io("write", &path))
    };
    for number in numbers(storage, &directory.purges)? {
        let path = record_path(&directory.purges, number);
        let bytes = storage.read(&path).map_err(Error::io("read", &path))?;
        PurgeRecord::decode(&path, &bytes, number)?;
        write(number, &bytes)?;
    }
    write(record.number, &record.encode())
}

fn numbers(storage: &dyn Storage, purges: &Path) -> Result<Vec<u64>, Error> {
    Ok(list_if_there(storage, purges, PURGE_SUFFIX)?)
}

impl PurgeRecord {
    fn lists(&self) -> [&Vec<u64>; 3] {
        [&self.replaced, &self.redacted, &self.metadata_dropped]
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let count: usize = self.lists().iter().map(|list| list.len()).sum();
        let length = FIXED_BYTES + 8 * count + CHECKSUM_BYTES;
        let mut bytes = Vec::with_capacity(length);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        bytes.extend_from_slice(&self.chain_before.to_le_bytes());
        bytes.extend_from_slice(&position(length).to_le_bytes());
        bytes.extend_from_slice(&self.database.0);
        for number in [self.number, time_ns(self.time), self.sequence, self.kept] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        for list in self.lists() {
            bytes.extend_from_slice(&position(list.len()).to_le_bytes());
        }
        bytes.extend_from_slice(&self.chain_after.to_le_bytes());
        bytes.extend_from_slice(&[0; 4]);
        debug_assert_eq!(bytes.len(), FIXED_BYTES);
        for sequence in self.lists().into_iter().flatten() {
            bytes.extend_from_slice(&sequence.to_le_bytes());
        }
        push_checksum(&mut bytes);
        bytes
    }

    pub(crate) fn decode(path: &Path, bytes: &[u8], number: u64) -> Result<Self, Error> {
        let corrupt = |at: usize, expected: String, found: String| {
            Error::corrupt(path, position(at), expected, found)
        };
        check_magic(path, MAGIC, bytes)?;
        let covered = checksummed(path, bytes)?;
        if covered.len() < FIXED_BYTES {
            let expected = format!("a purge record of at least {FIXED_BYTES} bytes");
            return Err(corrupt(covered.len(), expected, "its end".to_owned()));
        }
        let read = Self::decode_verified(covered, position(bytes.len()));
        let (format, record) = read.ok_or_else(|| {
            let expected = "a length that fits the counts, and zeros at position 100".to_owned();
            corrupt(16, expected, "other values".to_owned())
        })?;
        check_format(path, format)?;
        if record.number != number {
            let expected = format!("number {number}, as in the file's name");
            return Err(corrupt(40, expected, record.number.to_string()));
        }
        Ok(record)
    }

    /// Decodes the format version and the content. The checksum must have been checked before.
    fn decode_verified(covered: &[u8], file_bytes: u64) -> Option<(u32, Self)> {
        let mut fields = FieldReader::new(covered.get(8..)?);
        let format = fields.u32()?;
        let chain_before = fields.u32()?;
        let length = fields.u64()?;
        let database = DatabaseId(fields.array()?);
        let [number, time, sequence, kept] =
            [fields.u64()?, fields.u64()?, fields.u64()?, fields.u64()?];
        let counts = [fields.u64()?, fields.u64()?, fields.u64()?];
        let chain_after = fields.u32()?;
        if fields.bytes(4)? != [0; 4] {
            return None;
        }
        let listed = counts.iter().try_fold(0u64, |sum, count| sum.checked_add(*count))?;
        let expected =
            listed.checked_mul(8)?.checked_add(position(FIXED_BYTES + CHECKSUM_BYTES))?;
        if length != file_bytes || expected != length {
            return None;
        }
        let mut list = |count: u64| (0..count).map(|_| fields.u64()).collect::<Option<Vec<_>>>();
        let [replaced, redacted, metadata_dropped] = counts;
        let record = Self {
            database,
            number,
            time: system_time(time),
            sequence,
            kept,
            chain_before,
            chain_after,
            replaced: list(replaced)?,
            redacted: list(redacted)?,
            metadata_dropped: list(metadata_dropped)?,
        };
        Some((format, record))
    }
}

#[cfg(test)]
#[path = "tests/record.rs"]
mod tests;
