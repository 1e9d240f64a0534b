//! Owns what is written down of a purge: when, how much, and which sequences; never what was
//! erased. Knows nothing of how it was done.
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
use crate::files::DatabaseId;
use crate::files::{
    Directory, FORMAT_VERSION, FieldReader, MANIFEST_NAME, ManifestFile, State, position,
};
use crate::journal::list_sequences;
use crate::model::{system_time, time_ns};
use crate::storage::{Disk, Storage, replace_file};

const MAGIC: [u8; 8] = *b"PREVPURG";
const SUFFIX: &str = ".purge";
const FIXED_BYTES: usize = 104;
const CHECKSUM_BYTES: usize = 4;

/// What was written down of one purge.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PurgeRecord {
    /// The database that was purged.
    pub database: DatabaseId,
    /// 1 for its first purge, then 2, and so on.
    pub number: u64,
    /// When, by the clock of the machine.
    pub time: SystemTime,
    /// The newest sequence at that time.
    pub sequence: u64,
    /// How many commands stayed as they were.
    pub kept: u64,
    /// The checksum of everything accepted up to `sequence`, as it was before the purge.
    pub chain_before: u32,
    /// The same after it.
    pub chain_after: u32,
    /// The commands in whose places others were put.
    pub replaced: Vec<u64>,
    /// The commands that were redacted.
    pub redacted: Vec<u64>,
    /// The commands, or replacements, that stayed without the metadata that was there.
    pub metadata_dropped: Vec<u64>,
}

/// What was written down of the purges of the database in the directory `path`, the first one
/// first; nothing when there were none. It may be open. Whoever may write in the directory can
/// remove the newest records unnoticed, and copies of the database that were purged by themselves
/// have their own; neither [`backup`](crate::Database::backup) nor
/// [`restore`](crate::Database::restore) takes them along.
///
/// # Errors
/// [`Error::Corrupt`] when a record is damaged, [`Error::Missing`] when one that must be there is
/// not, or no database; [`Error::ForeignFile`] when one is of another. [`Error::PurgeUnfinished`]
/// when a crash interrupted a purge: its record counts once the database was opened again.
pub fn purge_records(path: impl AsRef<Path>) -> Result<Vec<PurgeRecord>, Error> {
    let path = path.as_ref();
    let database = exchanged_database(path)?;
    let purges = Directory::at(path).purges;
    let mut records = Vec::new();
    for (number, expected) in numbers(&Disk, &purges)?.into_iter().zip(1..) {
        if number != expected {
            return Err(Error::Missing {
                path: record_path(&purges, expected),
                reason: format!("there is a record of purge {number}"),
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
    exchanged_database(path)?; // nor has another process begun one meanwhile
    Ok(records)
}

/// The database in a directory in which no exchange is going on.
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
    purges.join(format!("{number:020}{SUFFIX}"))
}

/// The number of the next purge.
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
    match storage.kind(purges).map_err(Error::io("examine", purges))? {
        None => Ok(Vec::new()),
        Some(_) => Ok(list_sequences(storage, purges, SUFFIX)?),
    }
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
        bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
        bytes
    }

    pub(crate) fn decode(path: &Path, bytes: &[u8], number: u64) -> Result<Self, Error> {
        let corrupt = |at: usize, expected: String, found: String| {
            Error::corrupt(path, position(at), expected, found)
        };
        let magic = bytes.get(..8).unwrap_or(bytes);
        if magic != MAGIC {
            let expected = "magic PREVPURG".to_owned();
            return Err(corrupt(0, expected, magic.escape_ascii().to_string()));
        }
        let covered = bytes.get(..bytes.len().saturating_sub(CHECKSUM_BYTES)).unwrap_or(&[]);
        let computed = crc32c::crc32c(covered);
        let stored = bytes.get(covered.len()..).unwrap_or(&[]);
        if covered.len() < FIXED_BYTES || stored != computed.to_le_bytes() {
            let expected = format!("a whole record with checksum {computed:08x}");
            return Err(corrupt(covered.len(), expected, format!("{stored:02x?}")));
        }
        let read = Self::decode_verified(covered, position(bytes.len()));
        let (format, record) = read.ok_or_else(|| {
            let expected = "a length and counts that go together, and zeros".to_owned();
            corrupt(16, expected, "others".to_owned())
        })?;
        if format != FORMAT_VERSION {
            let path = path.to_path_buf();
            return Err(Error::UnsupportedFormat {
                path,
                found: format,
                supported: FORMAT_VERSION,
            });
        }
        if record.number != number {
            let expected = format!("number {number}, as the file's name says");
            return Err(corrupt(40, expected, record.number.to_string()));
        }
        Ok(record)
    }

    /// Format and content, once the checksum is known good.
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
