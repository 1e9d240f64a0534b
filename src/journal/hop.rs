//! Owns the way from a place in a segment to a later frame that reads only the headers of the
//! frames between. It proves nothing: whoever hops must verify the frame that it comes to, and read
//! all frames before it if that is not sound.

use super::cursor::FrameCursor;
use super::frame::FRAME_HEADER_BYTES;
use crate::files::position;
use crate::storage::{ReadableFile, read_up_to};

/// How much is read at once. Small frames share a block, and of a large one only the block with its
/// end is read.
const BLOCK_BYTES: usize = 8 << 10;

/// A place between two frames of a segment.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub(super) position: u64,
    pub(super) cursor: FrameCursor,
}

impl Place {
    /// Goes to the frame that holds `sequence`. Returns `None` at the first doubt: a header that is
    /// not that of the next frame, or the file's end.
    ///
    /// A frame's stored body checksum is the chain value before the next one. Nobody compares it
    /// with the frame's body here, but the frame that is come to verifies only with the right one.
    pub(super) fn hop(mut self, file: &dyn ReadableFile, sequence: u64) -> Option<Self> {
        let mut block = Block { file, bytes: Vec::new(), begin: 0 };
        loop {
            let header = self.cursor.header(block.at::<FRAME_HEADER_BYTES>(self.position)?).ok()?;
            if header.first_sequence != self.cursor.next_sequence {
                return None;
            }
            if header.count > 0 {
                if header.next_sequence() > sequence {
                    return Some(self);
                }
                let checksum_at = position(header.body_checksum_at());
                let stored = block.at::<4>(self.position.checked_add(checksum_at)?)?;
                self.cursor.chain = u32::from_le_bytes(*stored);
                self.cursor.next_sequence = header.next_sequence();
            }
            self.position = self.position.checked_add(position(header.frame_bytes()))?;
        }
    }
}

/// The block of the file that was read last.
struct Block<'a> {
    file: &'a dyn ReadableFile,
    bytes: Vec<u8>,
    begin: u64,
}

impl Block<'_> {
    /// Returns the bytes at a position; `None` if the file ends before.
    fn at<const N: usize>(&mut self, at: u64) -> Option<&[u8; N]> {
        let end = self.begin + position(self.bytes.len());
        if at < self.begin || at.checked_add(position(N))? > end {
            self.bytes.resize(BLOCK_BYTES, 0);
            let read = read_up_to(self.file, &mut self.bytes, at).ok()?;
            self.bytes.truncate(read);
            self.begin = at;
        }
        let offset = usize::try_from(at - self.begin).ok()?;
        self.bytes.get(offset..)?.first_chunk()
    }
}
