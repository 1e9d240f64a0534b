//! Tests that a stream checks even what correct checksums cover, and that it skips what a crash may
//! have torn.

use super::*;
use crate::files::{FileHeader, Packing, SEGMENT_MAGIC, segment_path, write_packed};
use crate::journal::frame::FrameBuffer;
use crate::journal::record::RecordHeader;
use crate::storage::{Disk, Pace};
use crate::test_support;

const SALT: u64 = 5;
const FIRST_CHAIN: u32 = 9;

fn header(magic: [u8; 8], file_bytes: u64) -> FileHeader {
    FileHeader {
        packing: u32::from(magic == ARCHIVE_MAGIC),
        salt: SALT,
        file_bytes,
        chain: FIRST_CHAIN,
        ..test_support::header(magic)
    }
}

/// The bytes of frames, one after the other.
struct Content {
    bytes: Vec<u8>,
    next: u64,
    chain: u32,
}

impl Content {
    fn new() -> Self {
        Self { bytes: Vec::new(), next: 1, chain: FIRST_CHAIN }
    }

    /// Appends a batch of commands of that many bytes each.
    fn batch(mut self, count: u32, command_bytes: usize) -> Self {
        let length = command_bytes as u32;
        let record = RecordHeader { length, tag: 1, metadata_length: 0, time_ns: 0 };
        let record = [&record.encode()[..], &vec![3; command_bytes]].concat();
        let mut frame = FrameBuffer::new();
        (0..count).for_each(|_| frame.push_record(&record, 0));
        let (bytes, chain) = frame.seal(self.next, count, 0, SALT, self.chain);
        self.bytes.extend_from_slice(bytes);
        (self.next, self.chain) = (self.next + u64::from(count), chain);
        self
    }

    fn mark(mut self) -> Self {
        let mut frame = FrameBuffer::new();
        let (bytes, _) = frame.seal(self.next, 0, self.next - 1, SALT, self.chain);
        self.bytes.extend_from_slice(bytes);
        self
    }

    /// Appends what a power cut left in the place of a commit marker.
    fn torn_mark(mut self) -> Self {
        self.bytes.extend_from_slice(&vec![0xee; frame_bytes(0)]);
        self
    }
}

/// Reads all batches of an archive with that content, whose footer states `end`. Returns their
/// first sequences.
fn archived(content: &[u8], end: (u64, u32)) -> Result<Vec<u64>, StoreError> {
    let directory = tempfile::tempdir().unwrap();
    let path = archive_path(directory.path(), 1);
    let packing = Packing { compression_level: 1, compression_threads: 0 };
    let header = header(ARCHIVE_MAGIC, 0);
    write_packed(&Disk, &path, &header, end, packing, &Pace::full(), |target| {
        Ok(target.write_all(content)?)
    })?;
    batches(FrameStream::of_archive(&Disk, directory.path(), 1, 1)?, end.0)
}

fn batches(mut stream: FrameStream, end: u64) -> Result<Vec<u64>, StoreError> {
    let mut firsts = Vec::new();
    while stream.next_sequence() <= end {
        assert!(stream.advance(end)?, "it ends before {end}");
        firsts.push(stream.frame().unwrap().header.first_sequence);
    }
    stream.check_end()?;
    Ok(firsts)
}

#[test]
fn batches_of_any_size_are_read_with_marks_between_them() {
    let content = Content::new().batch(2, 10).mark().batch(3, 200_000).torn_mark().batch(1, 0);
    let end = (content.next - 1, content.chain);
    assert_eq!(archived(&content.bytes, end).unwrap(), [1, 3, 6]);
}

#[test]
fn an_archive_ends_as_its_footer_says() {
    let content = || Content::new().batch(2, 10).batch(3, 10);
    let Content { bytes, next, chain } = content();
    assert_eq!(archived(&bytes, (next - 1, chain)).unwrap(), [1, 3]);
    let error = archived(&bytes, (next - 1, chain + 1)).unwrap_err();
    assert!(
        matches!(&error, StoreError::Corrupt { found, .. } if found.starts_with('5')),
        "{error}"
    );
    let error = archived(&[&bytes[..], &[0; 8]].concat(), (next - 1, chain)).unwrap_err();
    assert!(
        matches!(&error, StoreError::Corrupt { found, .. } if found == "more bytes"),
        "{error}"
    );
    // A batch reaches beyond the end.
    let error = archived(&bytes, (4, chain)).unwrap_err();
    assert!(
        matches!(&error, StoreError::Corrupt { found, .. } if found.contains("up to sequence 5"))
    );
    // A batch comes twice.
    let twice = [&Content::new().batch(2, 10).bytes[..], &bytes].concat();
    assert!(matches!(archived(&twice, (next - 1, chain)), Err(StoreError::Corrupt { .. })));
}

#[test]
fn what_passes_has_the_digest_that_is_expected() {
    let content = vec![3; 1000];
    let digest = xxhash_rust::xxh3::xxh3_128(&content).to_le_bytes();
    let read = |left, expected| {
        let inner = Box::new(io::Cursor::new(content.clone()));
        let mut digested = Digested { inner, left, digest: Box::default(), expected };
        let mut read = Vec::new();
        digested.read_to_end(&mut read).map(|_| read).map_err(|error| error.kind())
    };
    assert_eq!(read(1000, digest).unwrap(), content);
    assert_eq!(read(1000, [0; 16]), Err(io::ErrorKind::InvalidData));
    assert_eq!(read(999, digest), Err(io::ErrorKind::InvalidData));
    assert_eq!(read(1001, digest), Err(io::ErrorKind::UnexpectedEof));
}

/// Reads a segment of two batches after `change` has changed its file.
fn segment(change: impl FnOnce(&mut Vec<u8>)) -> Result<Vec<u64>, StoreError> {
    let directory = tempfile::tempdir().unwrap();
    let mut bytes = header(SEGMENT_MAGIC, 8192).encode().unwrap();
    bytes.resize(4096, 0);
    bytes.extend_from_slice(&Content::new().batch(1, 5).batch(2, 5).bytes);
    bytes.resize(8192, 0);
    change(&mut bytes);
    std::fs::write(segment_path(directory.path(), 1), bytes).unwrap();
    batches(FrameStream::of_segment(&Disk, directory.path(), 1, 1, None)?, 3)
}

#[test]
fn a_segment_is_as_its_header_says() {
    assert_eq!(segment(|_| {}).unwrap(), [1, 2]);
    let cut = segment(|bytes| bytes.truncate(8191)).unwrap_err();
    assert!(matches!(cut, StoreError::Corrupt { position: 8191, .. }), "{cut}");
    let padding = segment(|bytes| bytes[4095] = 1).unwrap_err();
    let told = "zeros up to the first frame";
    assert!(
        matches!(&padding, StoreError::Corrupt { expected, .. } if expected == told),
        "{padding}"
    );
    let frame = segment(|bytes| bytes[4096 + 40] ^= 1).unwrap_err();
    assert!(matches!(&frame, StoreError::Corrupt { position, .. } if *position > 4096), "{frame}");
}

#[test]
fn a_file_under_another_name_is_noticed() {
    let directory = tempfile::tempdir().unwrap();
    let mut bytes = header(SEGMENT_MAGIC, 0).encode().unwrap();
    bytes.resize(4096, 0);
    std::fs::write(segment_path(directory.path(), 2), bytes).unwrap();
    let error = FrameStream::of_segment(&Disk, directory.path(), 2, 2, None).err().unwrap();
    assert!(matches!(error, StoreError::Corrupt { position: 40, .. }), "{error}");
}

#[path = "middle.rs"]
mod middle;
