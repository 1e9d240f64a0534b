//! Owns archived segments: what a sealed segment holds, compressed, under the segment's header.
//! Nothing of a command is lost; only what stood beyond the segment's end is left out.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use super::scan::{Segment, SegmentScan};
use crate::error::Error;
use crate::header::{ARCHIVE_MAGIC, FileHeader};
use crate::packed::{PackedFile, Packing, write_packed};
use crate::storage::Storage;

const ARCHIVE_SUFFIX: &str = ".archive";

pub(crate) fn archive_path(archive_directory: &Path, first_sequence: u64) -> PathBuf {
    archive_directory.join(format!("{first_sequence:020}{ARCHIVE_SUFFIX}"))
}

/// Archives the segment that begins at `first_sequence` and ends where the next begins, at
/// `takeover`. On `Ok` the archive is durable, was read back, and unpacks to what was packed.
pub(crate) fn archive_segment(
    storage: &dyn Storage,
    journal_directory: &Path,
    archive_directory: &Path,
    (first_sequence, takeover): (u64, u64),
    packing: Packing,
    cancelled: &AtomicBool,
) -> Result<PathBuf, Error> {
    let segment = Segment::open(storage, journal_directory, first_sequence)?;
    let mut frames = SegmentScan::new(&segment, Some(takeover), 0);
    while frames.next_frame()?.is_ok() {}
    let end = (frames.next_sequence() - 1, frames.chain());
    let content = frames.read_so_far();
    let header = FileHeader {
        magic: ARCHIVE_MAGIC,
        packing: packing.code(),
        file_bytes: 0,
        ..segment.header.clone()
    };
    let path = archive_path(archive_directory, first_sequence);
    let written = write_packed(storage, &path, &header, end, packing, cancelled, |target| {
        Ok(target.write_all(content)?)
    })?;
    verify_content(&written)?;
    Ok(path)
}

/// That what an archive unpacks to has the digest its footer states.
fn verify_content(archive: &PackedFile) -> Result<(), Error> {
    archive.unpack(|blocks| {
        loop {
            let length = blocks.current().len();
            if length == 0 {
                return Ok(());
            }
            blocks.advance(length);
        }
    })
}

/// Whether an archive of that segment is there already, whole: then a crash came between archiving
/// and removing the segment.
pub(crate) fn is_archived(
    storage: &dyn Storage,
    archive_directory: &Path,
    first_sequence: u64,
) -> Result<bool, Error> {
    let path = archive_path(archive_directory, first_sequence);
    match storage.kind(&path) {
        Ok(Some(_)) => Ok(PackedFile::open(storage, &path, ARCHIVE_MAGIC)
            .and_then(|archive| verify_content(&archive))
            .is_ok()),
        Ok(None) => Ok(false),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Error::io("examine", &path)(error)),
    }
}
