//! Owns copying files and batches into a new directory. Knows nothing of which ones.

use std::path::Path;

use super::course::Slice;
use crate::error::Error;
use crate::files::{Directory, StoreError, position};
use crate::journal::{
    FrameHeader, FrameRef, FrameStream, NewSegment, Prepared, SegmentIdentity, SegmentStart,
    first_segment_bytes, publish_segment,
};
use crate::storage::{Storage, read_up_to, write_all_at};

/// How much of a file is copied at once.
const BLOCK_BYTES: usize = 1 << 20;
/// The least size of a new segment. Batches that need more lengthen the file.
const SEGMENT_BYTES: u64 = 64 << 10;

/// Copies a file. The copy has its name only when it is whole and synced.
pub(super) fn copy_file(
    source: &dyn Storage,
    from: &Path,
    target: &dyn Storage,
    to: &Path,
    step: &mut dyn FnMut(u64),
) -> Result<(), Error> {
    let file = source.open_to_read(from).map_err(Error::io("read", from))?;
    let directory = to.parent().unwrap_or(to);
    let write = || Error::io("write", to);
    let temporary = target.create_temporary(directory).map_err(write())?;
    let copy = temporary.file();
    let mut block = vec![0; BLOCK_BYTES];
    let mut at = 0;
    loop {
        let read = read_up_to(&*file, &mut block, at).map_err(Error::io("read", from))?;
        let bytes = block.get(..read).unwrap_or(&[]);
        if bytes.is_empty() {
            break;
        }
        write_all_at(&*copy, bytes, at).map_err(write())?;
        at = at.saturating_add(position(read));
        step(position(read));
    }
    copy.sync_all().map_err(Error::io("sync", to))?;
    temporary.publish(to).map_err(Error::io("rename a new file to", to))?;
    target.sync_directory(directory).map_err(Error::io("sync directory", directory))
}

/// A part of the stored commands that becomes a segment.
pub(super) struct Part {
    pub(super) identity: SegmentIdentity,
    pub(super) first: u64,
    pub(super) last: u64,
    /// The chain value before the first command.
    pub(super) chain: u32,
    /// No command before the part is later.
    pub(super) time_ns: u64,
}

impl Part {
    pub(super) fn of(slice: &Slice<'_>, chain: u32) -> Self {
        let Slice { piece, first, last } = *slice;
        let header = &piece.header;
        // The time in a file's header says nothing of the commands inside of the file.
        let begins_file = first == header.sequence;
        let time_ns = if begins_file { header.time_ns } else { piece.first_time_ns };
        Self { identity: SegmentIdentity::of(header), first, last, chain, time_ns }
    }
}

/// What a segment ends with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct End {
    pub(super) sequence: u64,
    pub(super) chain: u32,
    pub(super) time_ns: u64,
}

/// A segment that is being written from the batches of another file.
pub(super) struct PartWriter {
    segment: NewSegment,
    first: u64,
    last: u64,
    end: End,
}

impl PartWriter {
    pub(super) fn begin(
        target: &dyn Storage,
        journal: &Path,
        part: &Part,
    ) -> Result<Self, StoreError> {
        let (first, chain, time_ns) = (part.first, part.chain, part.time_ns);
        let start = SegmentStart { first_sequence: first, chain, time_ns };
        let prepared = Prepared::now(target, journal, first_segment_bytes(SEGMENT_BYTES))?;
        let segment = NewSegment::begin(target, journal, prepared, &part.identity, start)?;
        let end = End { sequence: first.saturating_sub(1), chain, time_ns };
        Ok(Self { segment, first, last: part.last, end })
    }

    /// Adds the commands of a batch that belong to the part and are not in it yet.
    pub(super) fn push(&mut self, frame: &FrameRef<'_>, path: &Path) -> Result<(), StoreError> {
        if let Some((cut, time_ns)) = cut(frame, path, self.last, self.end)? {
            self.end.chain = self.segment.push_frame(&cut)?;
            (self.end.sequence, self.end.time_ns) =
                (cut.header.next_sequence().saturating_sub(1), time_ns);
        }
        Ok(())
    }

    pub(super) fn first(&self) -> u64 {
        self.first
    }

    pub(super) fn is_complete(&self) -> bool {
        self.end.sequence >= self.last
    }

    pub(super) fn end(&self) -> End {
        self.end
    }

    pub(super) fn publish(self, target: &dyn Storage) -> Result<End, StoreError> {
        drop(self.segment.publish(target)?);
        Ok(self.end)
    }
}

/// Writes a segment with the commands of a part. `frames` stands at the batch that holds the first
/// one, or before it. Batches are cut where the part begins and ends.
pub(super) fn write_part(
    target: &dyn Storage,
    journal: &Path,
    frames: &mut FrameStream,
    part: &Part,
) -> Result<End, Error> {
    let mut writer = PartWriter::begin(target, journal, part)?;
    let path = frames.file().path.clone();
    while !writer.is_complete() {
        if !frames.advance(u64::MAX)? {
            let next = writer.end().sequence.saturating_add(1);
            let expected = format!("a batch with sequence {next}");
            return Err(Error::corrupt(&path, frames.position(), expected, "no batch"));
        }
        if let Some(frame) = frames.frame() {
            writer.push(&frame, &path)?;
        }
    }
    Ok(writer.publish(target)?)
}

/// Returns the commands of a batch that are behind `end` and not behind `last`, and the time of the
/// last one. `None` if there are none.
fn cut<'a>(
    frame: &FrameRef<'a>,
    path: &Path,
    last: u64,
    end: End,
) -> Result<Option<(FrameRef<'a>, u64)>, StoreError> {
    let (mut at, mut begin, mut count, mut time_ns) = (0, None, 0, 0);
    let mut stop = frame.payload.len();
    let mut sequence = frame.header.first_sequence;
    while at < frame.payload.len() {
        let (record, next) = frame.record_at(path, at)?;
        if sequence > last {
            stop = at;
            break;
        }
        if sequence > end.sequence {
            begin.get_or_insert((at, sequence));
            (count, time_ns) = (count + 1, record.time_ns);
        }
        (at, sequence) = (next, sequence.saturating_add(1));
    }
    let Some((begin, first_sequence)) = begin else { return Ok(None) };
    let payload = frame.payload.get(begin..stop).unwrap_or(&[]);
    let durable_sequence = frame.header.durable_sequence.min(first_sequence.saturating_sub(1));
    let header =
        FrameHeader { payload_length: payload.len(), first_sequence, durable_sequence, count };
    let cut = FrameRef { position: 0, header, payload, chain_before: end.chain };
    Ok(Some((cut, time_ns)))
}

/// Writes the empty segment with which the journal of a closed copy ends.
pub(super) fn write_last_segment(
    target: &dyn Storage,
    directory: &Directory,
    identity: &SegmentIdentity,
    end: End,
) -> Result<(), StoreError> {
    let journal = &directory.journal;
    let prepared = Prepared::now(target, journal, first_segment_bytes(SEGMENT_BYTES))?;
    let first_sequence = end.sequence.saturating_add(1);
    let start = SegmentStart { first_sequence, chain: end.chain, time_ns: end.time_ns };
    publish_segment(target, journal, prepared, identity, start, [].iter()).map(drop)
}
