//! Owns archived segments: the content of a sealed segment, compressed, under the segment's header.
//! An archive keeps every command whole, and leaves out only what stood beyond the segment's end.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::record::Records;
use super::scan::{Segment, SegmentScan};
use crate::files::{
    ARCHIVE_MAGIC, FileHeader, PackedFile, Packing, StoreError, archive_path, exists, write_packed,
};
use crate::storage::{Pace, Storage};

/// Archives the segment that begins at `first_sequence` and ends where the next segment begins, at
/// `next_segment_first`, unless this was done already. After `Ok`, the archive is durable, was read
/// back, and unpacks to what was packed.
pub(crate) fn archive_segment(
    storage: &dyn Storage,
    journal_directory: &Path,
    archive_directory: &Path,
    (first_sequence, next_segment_first): (u64, u64),
    packing: Packing,
    pace: &Pace<'_>,
) -> Result<PathBuf, StoreError> {
    let segment = Segment::open(storage, journal_directory, first_sequence)?;
    let mut frames = SegmentScan::new(&segment, Some(next_segment_first), 0);
    let mut tags = BTreeSet::new();
    while let Ok(frame) = frames.next_frame()? {
        tags.extend(Records::new(frame.payload).filter_map(Result::ok).map(|record| record.tag));
    }
    let end = (frames.next_sequence() - 1, frames.chain());
    let content = frames.read_so_far();
    let header = FileHeader {
        magic: ARCHIVE_MAGIC,
        packing: packing.code(),
        file_bytes: 0,
        // The program may forget a command that the archive does not name. A command that the
        // archive names is an error at open when the program lacks it.
        commands: named(&segment.header.commands, &tags),
        ..segment.header.clone()
    };
    let path = archive_path(archive_directory, first_sequence);
    if is_archived(storage, &path, &header, end, pace)? {
        // A crash may have happened before this sync.
        storage
            .sync_directory(archive_directory)
            .map_err(StoreError::io("sync directory", archive_directory))?;
        return Ok(path);
    }
    write_packed(storage, &path, &header, end, packing, pace, |target| {
        Ok(target.write_all(content)?)
    })?;
    Ok(path)
}

/// Returns the entries of a table of names that have these tags.
fn named(commands: &[(u16, String)], tags: &BTreeSet<u16>) -> Vec<(u16, String)> {
    commands.iter().filter(|(tag, _)| tags.contains(tag)).cloned().collect()
}

/// Returns whether this segment was archived already: then a crash came before the segment was
/// removed. A damaged archive, or one of another segment, is an error: this code must not replace
/// it.
fn is_archived(
    storage: &dyn Storage,
    path: &Path,
    expected: &FileHeader,
    (sequence, chain): (u64, u32),
    pace: &Pace<'_>,
) -> Result<bool, StoreError> {
    if !exists(storage, path)? {
        return Ok(false);
    }
    let archive = PackedFile::open(storage, path, ARCHIVE_MAGIC)?;
    archive.verify_content(pace)?;
    if archive.header.database != expected.database {
        return Err(StoreError::ForeignFile {
            path: path.to_path_buf(),
            expected: expected.database,
            found: archive.header.database,
        });
    }
    let found = (archive.header.sequence, archive.footer.sequence, archive.footer.chain);
    if found != (expected.sequence, sequence, chain) {
        let expected = format!("sequences {} to {sequence}, chain {chain:08x}", expected.sequence);
        let found = format!("{} to {}, {:08x}", found.0, found.1, found.2);
        return Err(StoreError::corrupt(path, 40, expected, found));
    }
    Ok(true)
}
