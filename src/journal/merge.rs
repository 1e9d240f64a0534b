//! Owns the merging of archives that follow each other: the new one has the same batches, and so
//! the same chain values. Knows nothing of which archives shall become one.
//!
//! The new archive takes the name of the oldest one, and the others are removed after it, the older
//! first. So at each moment a reader finds every batch: of two files that hold the same sequences,
//! the one that begins later is read, and what it does not hold is in the one that begins earlier.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::frame::{FrameBuffer, FrameRef};
use super::frame_index::FrameIndex;
use super::record::Records;
use super::stream::{FrameStream, StreamedFile};
use crate::files::{
    CHUNK_BYTES, Cuts, FileHeader, Packing, StoreError, WriteFailure, archive_path, position,
    write_chunks,
};
use crate::storage::{Pace, Storage, TEMPORARY_PREFIX, TEMPORARY_SUFFIX};

/// How much of the batches is packed together.
fn chunk_bytes() -> usize {
    size!(CHUNK_BYTES, small: 512)
}

/// How much of a batch's buffer is kept for the next one.
const KEPT_BUFFER_BYTES: usize = 1 << 20;

/// Archives that follow each other and become one.
pub(crate) struct ArchiveMerge<'a> {
    pub(crate) storage: &'a dyn Storage,
    pub(crate) archive_directory: &'a Path,
    /// The first sequences, ascending. There is at least one.
    pub(crate) firsts: &'a [u64],
    /// The header of the new file, but for how it is packed. It names the commands of all files.
    pub(crate) header: FileHeader,
}

/// What the reading of all batches has found out about the new file.
pub(crate) struct Measured {
    header: FileHeader,
    index: FrameIndex,
    end: (u64, u32),
}

/// Why a pass over the batches ended early.
enum Stop {
    Read(StoreError),
    Write(io::Error),
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Self {
        Self::Read(error)
    }
}

impl ArchiveMerge<'_> {
    /// Reads all batches and verifies them. Writes nothing. `step` is told the bytes of files that
    /// were read.
    pub(crate) fn measure(
        &self,
        packing: Packing,
        step: &mut dyn FnMut(u64),
    ) -> Result<Measured, StoreError> {
        let mut index = FrameIndex::new(&self.header);
        let mut tags = BTreeSet::new();
        let mut offset = 0;
        let end = self.each_batch(step, &mut |_, frame| {
            index.push(frame, offset);
            offset += position(frame.header.frame_bytes());
            tags.extend(Records::new(frame.payload).filter_map(Result::ok).map(|it| it.tag));
            Ok::<(), StoreError>(())
        })?;
        let mut header = self.header.clone();
        header.commands.retain(|(tag, _)| tags.contains(tag));
        header.packing = packing.chunks_code();
        header.appendix_bytes = index.encoded_bytes();
        Ok(Measured { header, index, end })
    }

    /// Writes the new file under a temporary name, reads it back, and lets it take the place of the
    /// others. Returns its length. After an error, the others are there.
    pub(crate) fn carry_out(
        &self,
        measured: &Measured,
        packing: Packing,
        step: &mut dyn FnMut(u64),
    ) -> Result<u64, StoreError> {
        let first = measured.header.sequence;
        let name = format!("{TEMPORARY_PREFIX}merged-{first}{TEMPORARY_SUFFIX}");
        let staged = self.archive_directory.join(name);
        let bytes = self.write(&staged, measured, packing, step).inspect_err(|_| {
            // The caller gets this error. The next open removes what is left.
            self.storage.remove(&staged).ok();
        })?;
        self.take_places(&staged)?;
        Ok(bytes)
    }

    fn write(
        &self,
        staged: &Path,
        measured: &Measured,
        packing: Packing,
        step: &mut dyn FnMut(u64),
    ) -> Result<u64, StoreError> {
        let Measured { header, index, end } = measured;
        let mut unreadable = None;
        let produce = |target: &mut dyn Write| {
            self.write_batches(header.salt, target, step).map_err(|stop| match stop {
                Stop::Write(error) => WriteFailure::Io(error),
                Stop::Read(error) => {
                    let reason = error.to_string();
                    unreadable = Some(error);
                    WriteFailure::Content(reason)
                }
            })
        };
        let append = |target: &mut dyn Write| Ok(target.write_all(&index.encode())?);
        // Whoever reads one batch unpacks a whole chunk, but the largest ones pack best.
        let cuts = Cuts::Every(chunk_bytes());
        let (storage, pace) = (self.storage, Pace::full());
        let written =
            write_chunks(storage, staged, header, *end, packing, &pace, &cuts, produce, append);
        let written = match unreadable {
            Some(error) => return Err(error),
            None => written?,
        };
        index.check_written(&written)?;
        let mut frames = FrameStream::of_archive_at(storage, staged, header.sequence)?;
        while frames.next_sequence() <= end.0 && frames.advance(end.0)? {}
        frames.check_end()?;
        Ok(written.file_bytes())
    }

    /// Writes the batches as they are, but with headers for the salt of the new file.
    fn write_batches(
        &self,
        salt: u64,
        target: &mut dyn Write,
        step: &mut dyn FnMut(u64),
    ) -> Result<(), Stop> {
        let mut buffer = FrameBuffer::new();
        self.each_batch(step, &mut |chain, frame| {
            let header = &frame.header;
            buffer.clear(KEPT_BUFFER_BYTES);
            buffer.push_payload(frame.payload);
            let (first, durable) = (header.first_sequence, header.durable_sequence);
            let before = frame.chain_before;
            let (bytes, sealed) = buffer.seal(first, header.count, durable, salt, before);
            assert_eq!(sealed, chain, "the same batch has the same chain value");
            target.write_all(bytes).map_err(Stop::Write)
        })
        .map(drop)
    }

    /// Calls `take` with each batch and the chain value after it. Returns the sequence and the
    /// chain value at the end.
    fn each_batch<E: From<StoreError>>(
        &self,
        step: &mut dyn FnMut(u64),
        take: &mut dyn FnMut(u32, &FrameRef<'_>) -> Result<(), E>,
    ) -> Result<(u64, u32), E> {
        let mut reached: Option<(u64, u32, PathBuf)> = None;
        for (at, &first) in self.firsts.iter().enumerate() {
            let (storage, directory) = (self.storage, self.archive_directory);
            let mut frames = FrameStream::of_whole_archive(storage, directory, first)?;
            let file = frames.file().clone();
            check_continues(&file, reached.as_ref())?;
            let (stated, _) = file.end.unwrap_or_default();
            // The next file owns what both hold: a crash has interrupted an earlier merge.
            let next = self.firsts.get(at + 1).map_or(u64::MAX, |next| next.saturating_sub(1));
            let end = stated.min(next);
            while frames.next_sequence() <= end {
                if !frames.advance(end)? {
                    let expected = format!("a batch with sequence {}", frames.next_sequence());
                    let path = &file.path;
                    let error = StoreError::corrupt(path, frames.position(), expected, "no batch");
                    return Err(error.into());
                }
                let chain = frames.chain();
                if let Some(frame) = frames.frame() {
                    take(chain, &frame)?;
                }
            }
            if end == stated {
                frames.check_end()?;
            }
            step(self.length(&file.path));
            reached = Some((end, frames.chain(), file.path.clone()));
        }
        let (end, chain, _) = reached.expect("there is at least one archive");
        Ok((end, chain))
    }

    fn length(&self, path: &Path) -> u64 {
        self.storage.open_to_read(path).map_or(0, |file| file.length())
    }

    /// Gives the new file its name, and removes the others.
    fn take_places(&self, staged: &Path) -> Result<(), StoreError> {
        let directory = self.archive_directory;
        let sync = || {
            let synced = self.storage.sync_directory(directory);
            synced.map_err(StoreError::io("sync directory", directory))
        };
        for (at, &first) in self.firsts.iter().enumerate() {
            let path = archive_path(directory, first);
            match at {
                0 => {
                    let renamed = self.storage.rename(staged, &path);
                    renamed.map_err(StoreError::io("rename a new file to", &path))?;
                }
                _ => self.storage.remove(&path).map_err(StoreError::io("remove", &path))?,
            }
            // A power cut must not undo this step and keep the next one.
            sync()?;
        }
        Ok(())
    }
}

/// Checks that a file continues the one before.
fn check_continues(
    file: &StreamedFile,
    reached: Option<&(u64, u32, PathBuf)>,
) -> Result<(), StoreError> {
    let Some((end, chain, before)) = reached else { return Ok(()) };
    let found = (file.header.sequence, file.header.chain);
    if found == (end.saturating_add(1), *chain) {
        return Ok(());
    }
    let next = end.saturating_add(1);
    let before = before.display();
    let expected = format!("sequence {next} and chain {chain:08x}, as at the end of {before}");
    let found = format!("{} and {:08x}", found.0, found.1);
    Err(StoreError::corrupt(&file.path, 40, expected, found))
}

/// Returns the chain value before the command `next` in an archive; `None` if it does not hold what
/// is before `next`, or if no batch ends there.
pub(crate) fn chain_before(
    storage: &dyn Storage,
    archive_directory: &Path,
    first: u64,
    next: u64,
) -> Result<Option<u32>, StoreError> {
    let mut frames = FrameStream::of_archive(storage, archive_directory, first, next)?;
    let (end, chain) = frames.file().end.unwrap_or_default();
    if next > end {
        return Ok(Some(chain).filter(|_| next == end.saturating_add(1)));
    }
    while frames.next_sequence() < next && frames.advance(end)? {}
    Ok(Some(frames.chain()).filter(|_| frames.next_sequence() == next))
}
