//! Owns the rule for which bytes are the next frame of a file: an intact header and body, the next
//! sequence and chain value, and what to do about a lost commit marker. The reader of a mapped
//! segment and the reader of a streamed file both use it. Knows nothing of where the bytes come
//! from.

use super::frame::{FrameFault, FrameHeader, Salted};
use crate::files::FileHeader;

/// The place of a reader among the frames of a file.
#[derive(Clone, Copy)]
pub(super) struct FrameCursor {
    salt: u64,
    salted: Salted,
    /// The sequence of the next command.
    pub(super) next_sequence: u64,
    /// The chain value before the next frame.
    pub(super) chain: u32,
}

impl FrameCursor {
    /// Makes a cursor before the first frame of a file with this header.
    pub(super) fn at_start_of(header: &FileHeader) -> Self {
        Self {
            salt: header.salt,
            salted: Salted::with(header.salt),
            next_sequence: header.sequence,
            chain: header.chain,
        }
    }

    /// Makes a cursor before another frame of the same file.
    pub(super) fn at(self, next_sequence: u64, chain: u32) -> Self {
        Self { next_sequence, chain, ..self }
    }

    /// Returns whether the other cursor is of the same file.
    pub(super) fn is_of_file_of(&self, other: &Self) -> bool {
        self.salt == other.salt
    }

    /// Reads and verifies a frame header at the start of `bytes`.
    pub(super) fn header(&self, bytes: &[u8]) -> Result<FrameHeader, FrameFault> {
        FrameHeader::decode(bytes, self.salted)
    }

    /// Verifies the frame at the start of `bytes`, which has this header, and steps over it.
    /// Returns its payload. `last` is the last sequence that the file owns, if it is known.
    pub(super) fn step<'a>(
        &mut self,
        header: &FrameHeader,
        bytes: &'a [u8],
        last: Option<u64>,
    ) -> Result<&'a [u8], FrameFault> {
        let (payload, chain) = header.verify_body(bytes, self.chain)?;
        if header.first_sequence != self.next_sequence {
            return Err(FrameFault {
                at: 8,
                expected: format!("first sequence {}", self.next_sequence),
                found: header.first_sequence.to_string(),
            });
        }
        let end = header.next_sequence() - 1;
        if let Some(last) = last.filter(|&last| end > last) {
            return Err(FrameFault {
                at: 24,
                expected: format!("a batch that ends with sequence {last} at most"),
                found: format!("one up to sequence {end}"),
            });
        }
        // A commit marker is checked against the chain, but does not advance it.
        if header.count > 0 {
            (self.chain, self.next_sequence) = (chain, header.next_sequence());
        }
        Ok(payload)
    }

    /// Returns whether this header can only be that of the next batch.
    pub(super) fn begins_next_batch(&self, header: &FrameHeader) -> bool {
        header.count > 0 && header.first_sequence == self.next_sequence
    }

    /// Returns whether the next batch stands whole at the start of `bytes`; `header` is the header
    /// there.
    ///
    /// A commit marker is not synced by itself, so it may be lost although the batch behind it
    /// survives. Then the next batch stands one marker further on, and no command is missing.
    pub(super) fn is_next_batch(&self, header: &FrameHeader, bytes: &[u8]) -> bool {
        self.begins_next_batch(header) && header.verify_body(bytes, self.chain).is_ok()
    }
}
