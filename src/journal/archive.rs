//! Owns archived segments: the content of a sealed segment, compressed, under the segment's header.
//! An archive keeps every command whole, and leaves out only what stood beyond the segment's end.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};

use super::frame_index::FrameIndex;
use super::record::Records;
use super::scan::{Segment, SegmentScan};
use super::stream::FrameStream;
use crate::files::{
    ARCHIVE_MAGIC, Cuts, FileHeader, PackedFile, Packing, StoreError, archive_path, exists,
    position, write_chunks,
};
use crate::storage::{Pace, Storage};

/// How much of the frames is packed together. Larger chunks pack better, but whoever reads one
/// frame unpacks a whole chunk.
fn chunk_bytes() -> usize {
    size!(64 << 10, small: 128)
}

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
    let mut index = FrameIndex::new(&segment.header);
    let begin = position(segment.frames_begin());
    while let Ok(frame) = frames.next_frame()? {
        index.push(&frame, frame.position - begin);
        tags.extend(Records::new(frame.payload).filter_map(Result::ok).map(|record| record.tag));
    }
    let end = (frames.next_sequence() - 1, frames.chain());
    let content = frames.read_so_far();
    let header = FileHeader {
        magic: ARCHIVE_MAGIC,
        packing: packing.chunks_code(),
        file_bytes: 0,
        appendix_bytes: index.encoded_bytes(),
        // The program may forget a command that the archive does not name. A command that the
        // archive names is an error at open when the program lacks it.
        commands: named(&segment.header.commands, &tags),
        ..segment.header.clone()
    };
    let path = archive_path(archive_directory, first_sequence);
    if is_archived(storage, &path, &header, end, pace)? {
        check_frames(storage, archive_directory, first_sequence, pace)?;
        // A crash may have happened before this sync.
        storage
            .sync_directory(archive_directory)
            .map_err(StoreError::io("sync directory", archive_directory))?;
        return Ok(path);
    }
    let write = |target: &mut dyn Write| Ok(target.write_all(content)?);
    let append = |target: &mut dyn Write| Ok(target.write_all(&index.encode())?);
    let cuts = Cuts::Every(chunk_bytes());
    let archive = write_chunks(storage, &path, &header, end, packing, pace, &cuts, write, append)?;
    // The content has the digest of the frames that were read above, so the index fits them.
    index.check_written(&archive)?;
    Ok(path)
}

/// Reads all frames of an archive. So its index is compared with them, too.
fn check_frames(
    storage: &dyn Storage,
    archive_directory: &Path,
    first_sequence: u64,
    pace: &Pace<'_>,
) -> Result<(), StoreError> {
    let mut frames =
        FrameStream::of_archive(storage, archive_directory, first_sequence, first_sequence)?;
    let file = frames.file().clone();
    let end = file.end.map_or(0, |(sequence, _)| sequence);
    while frames.next_sequence() <= end && frames.advance(end)? {
        pace.step().map_err(StoreError::io("read", &file.path))?;
    }
    frames.check_end()
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
