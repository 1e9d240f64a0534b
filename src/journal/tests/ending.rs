//! Tests that the rest of a file that is read block by block is judged as one in memory.

use super::*;
use crate::files::SEGMENT_MAGIC;
use crate::journal::frame::FrameBuffer;
use crate::storage::FileBytes;
use crate::test_support::header;

fn check(bytes: &[u8], cursor: &FrameCursor) -> Option<u64> {
    let file = FileBytes::Owned(bytes.to_vec());
    let read = RestOfFile::read(Path::new("x"), &file, 0, cursor).unwrap();
    let memory = RestInMemory(bytes);
    assert_eq!(read.is_zero(), memory.is_zero());
    assert_eq!(read.used_bytes(), memory.used_bytes());
    assert_eq!(read.head(), &bytes[..bytes.len().min(FRAME_HEADER_BYTES)]);
    let found = read.confirming_header(cursor);
    assert_eq!(found, memory.confirming_header(cursor));
    found.map(|(at, _)| at)
}

#[test]
fn a_file_is_judged_as_memory_is() {
    let header = header(SEGMENT_MAGIC);
    let cursor = FrameCursor::at_start_of(&header);
    let next = cursor.next_sequence;
    let mut buffer = FrameBuffer::new();
    let frame = buffer.seal(next + 1, 0, next, header.salt, 0).0.to_vec();
    let whole = 4 * BLOCK_BYTES;
    for at in [0, 8, BLOCK_BYTES - 32, BLOCK_BYTES - 8, BLOCK_BYTES, 3 * BLOCK_BYTES - 16] {
        let mut bytes = vec![0; whole];
        bytes[at..at + frame.len()].copy_from_slice(&frame);
        assert_eq!(check(&bytes, &cursor), Some(at as u64));
        // A second one, which is not the first, changes nothing.
        bytes[whole - frame.len()..].copy_from_slice(&frame);
        assert_eq!(check(&bytes, &cursor), Some(at as u64));
    }
    assert_eq!(check(&[], &cursor), None);
    for length in [1, FRAME_HEADER_BYTES, BLOCK_BYTES, BLOCK_BYTES + FRAME_HEADER_BYTES, whole] {
        assert_eq!(check(&vec![0; length], &cursor), None);
        let mut last = vec![0; length];
        last[length - 1] = 1;
        assert_eq!(check(&last, &cursor), None);
    }
}
