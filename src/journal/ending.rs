//! Owns the verdict on a place where the next frame of a segment should begin and does not: the
//! segment is complete, or a batch is torn that was never acknowledged, or it is damage. Knows
//! nothing of how frames are read.

use std::path::Path;

use super::cursor::FrameCursor;
use super::frame::{FRAME_ALIGNMENT, FRAME_HEADER_BYTES, FRAME_MAGIC, FrameFault, FrameHeader};
use crate::files::{StoreError, all_zero, position, segment_path};
use crate::storage::{ReadableFile, read_up_to};

/// How much of a file is looked at once. A multiple of the alignment of frames.
const BLOCK_BYTES: usize = 256 << 10;

/// How a segment ends.
#[derive(Debug)]
pub(crate) enum Ending {
    /// At the file's end, at zeros, or where the next segment begins.
    Complete,
    /// With a part of a batch that was never acknowledged.
    Torn {
        /// Where the batch begins.
        position: u64,
        /// The number of bytes from there to the last byte that is not zero.
        bytes: u64,
    },
}

/// The bytes from a place in a segment to its end.
pub(super) trait Rest {
    /// Returns the first bytes: at least a frame header, unless the file ends before.
    fn head(&self) -> &[u8];
    /// Returns whether all of them are zero.
    fn is_zero(&self) -> bool;
    /// Returns the number of bytes up to the last one that is not zero.
    fn used_bytes(&self) -> u64;
    /// Finds the first header at a frame's alignment that confirms the next command of the cursor.
    /// Returns it with its distance.
    fn confirming_header(&self, cursor: &FrameCursor) -> Option<(u64, FrameHeader)>;
}

/// Returns a header at the start of `bytes` that is authentic and states that the next command of
/// the cursor was durable. Chance or user data cannot imitate such a header, because they lack the
/// salt.
fn confirms(cursor: &FrameCursor, bytes: &[u8]) -> Option<FrameHeader> {
    if !bytes.starts_with(&FRAME_MAGIC.to_le_bytes()) {
        return None;
    }
    let header = cursor.header(bytes).ok()?;
    let confirms = header.first_sequence >= cursor.next_sequence
        && header.durable_sequence >= cursor.next_sequence;
    confirms.then_some(header)
}

/// The rest of a segment that is in memory or mapped.
pub(super) struct RestInMemory<'a>(pub(super) &'a [u8]);

impl Rest for RestInMemory<'_> {
    fn head(&self) -> &[u8] {
        self.0
    }

    fn is_zero(&self) -> bool {
        all_zero(self.0)
    }

    fn used_bytes(&self) -> u64 {
        position(used(self.0))
    }

    fn confirming_header(&self, cursor: &FrameCursor) -> Option<(u64, FrameHeader)> {
        (0..self.0.len()).step_by(FRAME_ALIGNMENT).find_map(|at| {
            let header = confirms(cursor, self.0.get(at..)?)?;
            Some((position(at), header))
        })
    }
}

fn used(bytes: &[u8]) -> usize {
    bytes.len() - bytes.iter().rev().take_while(|&&byte| byte == 0).count()
}

/// The rest of a segment that is read by position, block by block.
pub(super) struct RestOfFile {
    head: Vec<u8>,
    used_bytes: u64,
    confirming: Option<(u64, FrameHeader)>,
}

impl RestOfFile {
    /// Looks at all of it. `cursor` is the one with which it is asked for a header.
    pub(super) fn read(
        path: &Path,
        file: &dyn ReadableFile,
        begin: u64,
        cursor: &FrameCursor,
    ) -> Result<Self, StoreError> {
        let mut rest = Self { head: Vec::new(), used_bytes: 0, confirming: None };
        // A header may begin in one block and end in the next.
        let mut block = vec![0; BLOCK_BYTES + FRAME_HEADER_BYTES];
        let mut at = 0;
        loop {
            let from = begin.saturating_add(at);
            let read = read_up_to(file, &mut block, from).map_err(StoreError::io("read", path))?;
            let bytes = block.get(..read).unwrap_or(&[]);
            if at == 0 {
                rest.head = bytes.get(..FRAME_HEADER_BYTES).unwrap_or(bytes).to_vec();
            }
            if !all_zero(bytes) {
                rest.used_bytes = at + position(used(bytes));
                if rest.confirming.is_none() {
                    let found = RestInMemory(bytes).confirming_header(cursor);
                    rest.confirming = found.map(|(behind, header)| (at + behind, header));
                }
            }
            if read <= BLOCK_BYTES {
                return Ok(rest);
            }
            at += position(BLOCK_BYTES);
        }
    }
}

impl Rest for RestOfFile {
    fn head(&self) -> &[u8] {
        &self.head
    }

    fn is_zero(&self) -> bool {
        self.used_bytes == 0
    }

    fn used_bytes(&self) -> u64 {
        self.used_bytes
    }

    fn confirming_header(&self, _: &FrameCursor) -> Option<(u64, FrameHeader)> {
        self.confirming
    }
}

/// A place in a segment where the next frame should begin, and where none stands.
pub(super) struct Stop<'a> {
    pub(super) path: &'a Path,
    /// The segment's own first sequence.
    pub(super) first_sequence: u64,
    pub(super) next_segment_first: Option<u64>,
    pub(super) position: u64,
    pub(super) cursor: FrameCursor,
}

impl Stop<'_> {
    /// Decides what the end is; see `docs::format`, "Where the journal ends". `known_durable` is
    /// raised by what the header of a torn batch states.
    pub(super) fn verdict(
        &self,
        known_durable: &mut u64,
        rest: &dyn Rest,
        fault: FrameFault,
    ) -> Result<Ending, StoreError> {
        let next_sequence = self.cursor.next_sequence;
        let zeros = rest.is_zero();
        if let Some(next) = self.next_segment_first {
            return Err(self.before_the_next(next, zeros, fault));
        }
        if *known_durable >= next_sequence {
            let expected = format!(
                "{}: sequence {known_durable} was durable, as the MANIFEST or a later frame states",
                fault.expected
            );
            return Err(self.corrupt(fault.at, expected, fault.found));
        }
        if zeros {
            return Ok(Ending::Complete);
        }
        // The header of a torn batch is authentic, too: it was built after the sync of everything
        // that it states to be durable.
        if let Ok(header) = self.cursor.header(rest.head())
            && header.first_sequence == next_sequence
        {
            *known_durable = (*known_durable).max(header.durable_sequence);
        }
        let confirming = match fault!(DurableMarkIgnored) {
            true => None,
            false => rest.confirming_header(&self.cursor),
        };
        if let Some((behind, header)) = confirming {
            let expected = format!(
                "{}: the frame at byte {} states that sequence {} was durable",
                fault.expected,
                self.position + behind,
                header.durable_sequence
            );
            return Err(self.corrupt(fault.at, expected, fault.found));
        }
        Ok(Ending::Torn { position: self.position, bytes: rest.used_bytes() })
    }

    /// Makes the error for a segment that does not reach the next one.
    fn before_the_next(&self, next: u64, zeros: bool, fault: FrameFault) -> StoreError {
        let next_sequence = self.cursor.next_sequence;
        if zeros && next_sequence > self.first_sequence {
            let directory = self.path.parent().unwrap_or(Path::new("."));
            let reason = format!(
                "{} ends with sequence {}, but the next segment begins at {next} (or that file has \
                 lost its frames from byte {} on)",
                self.path.display(),
                next_sequence - 1,
                self.position
            );
            return StoreError::Missing { path: segment_path(directory, next_sequence), reason };
        }
        let expected = format!("{}, since the next segment begins at {next}", fault.expected);
        self.corrupt(fault.at, expected, fault.found)
    }

    fn corrupt(&self, at: usize, expected: String, found: String) -> StoreError {
        StoreError::corrupt(self.path, self.position + position(at), expected, found)
    }
}

#[cfg(test)]
#[path = "tests/ending.rs"]
mod tests;
