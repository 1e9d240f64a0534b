use std::path::Path;
use std::sync::{Arc, Mutex};

use xxhash_rust::xxh3::xxh3_128;

use super::format::Footer;
use super::{Cuts, PackedFile, Packing, write_chunks, write_packed};
use crate::files::StoreError;
use crate::files::header::{ARCHIVE_MAGIC, FileHeader};
use crate::storage::faulty::{Faulty, Operation};
use crate::storage::{Disk, FileBytes, Memory, Pace, Storage};
use crate::test_support;

const PLAIN: Packing = Packing { compression_level: 0, compression_threads: 0 };
const CONTENT: &[u8] = b"what was packed";

fn header(packing: u32) -> FileHeader {
    FileHeader { packing, salt: 0, ..test_support::header(ARCHIVE_MAGIC) }
}

/// Makes and reads a file of one chunk. Its checksums are right, whatever `change` does to its
/// footer; `behind` follows the footer.
fn read(packing: u32, change: impl FnOnce(&mut Footer), behind: &[u8]) -> Result<(), StoreError> {
    let mut footer = Footer {
        sequence: 1,
        raw_bytes: CONTENT.len() as u64,
        packed_bytes: CONTENT.len() as u64,
        digest: xxh3_128(CONTENT).to_le_bytes(),
        chain: 9,
    };
    change(&mut footer);
    let checksum = crc32c::crc32c(CONTENT);
    let mut bytes = header(packing).encode().unwrap();
    bytes.extend_from_slice(&(CONTENT.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&checksum.to_le_bytes());
    bytes.extend_from_slice(CONTENT);
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(&footer.encode(checksum));
    bytes.extend_from_slice(behind);
    let file = PackedFile::from_bytes("x".into(), FileBytes::Owned(bytes), ARCHIVE_MAGIC)?;
    file.verify_content(&Pace::full())
}

#[test]
fn what_right_checksums_cover_is_still_looked_at() {
    read(0, |_| {}, &[]).unwrap();
    for (read, expected) in [
        (read(4, |_| {}, &[]), "packing 0 or 1 (a stream) or 2 or 3 (chunks)"),
        (read(0, |footer| footer.packed_bytes += 1, &[]), "chunks of 16 bytes together"),
        (read(0, |_| {}, &[0]), "the file's end"),
        (read(0, |footer| footer.digest[0] ^= 1, &[]), "digest"),
        (read(0, |footer| footer.raw_bytes -= 1, &[]), "14 bytes before packing"),
    ] {
        let error = read.unwrap_err();
        let StoreError::Corrupt { expected: told, .. } = &error else { panic!("{error}") };
        assert!(told.starts_with(expected), "{error}");
    }
}

fn write(storage: &dyn Storage, path: &Path, packing: Packing, pieces: &[&[u8]]) -> PackedFile {
    let header = header(packing.code());
    write_packed(storage, path, &header, (1, 9), packing, &Pace::full(), |target| {
        for piece in pieces {
            target.write_all(piece)?;
            target.flush()?;
        }
        Ok(())
    })
    .unwrap()
}

#[test]
fn nothing_at_all_can_be_packed() {
    let directory = tempfile::tempdir().unwrap();
    let written = write(&Disk, &directory.path().join("x"), PLAIN, &[]);
    assert_eq!((written.footer.raw_bytes, written.footer.packed_bytes), (0, 0));
}

#[test]
fn flushing_changes_nothing_of_the_content() {
    let directory = tempfile::tempdir().unwrap();
    for compression_level in [0, 3] {
        let path = directory.path().join(compression_level.to_string());
        let packing = Packing { compression_level, ..PLAIN };
        let written = write(&Disk, &path, packing, &[b"one", b"two"]);
        assert_eq!(written.footer.digest, xxh3_128(b"onetwo").to_le_bytes());
        written.verify_content(&Pace::full()).unwrap();
    }
}

/// What stays in the page cache goes to the disk all at once, and commits wait for that.
#[test]
fn much_content_is_synced_while_it_is_written() {
    let directory = tempfile::tempdir().unwrap();
    let log = Arc::new(Mutex::new(Vec::new()));
    let seen = log.clone();
    let storage = Faulty::new(move |operation| {
        if matches!(operation, Operation::SyncData | Operation::SyncAll) {
            seen.lock().unwrap().push(operation.clone());
        }
        None
    });
    let megabyte = vec![7; 1 << 20];
    for (megabytes, syncs) in [(7, 0), (17, 2)] {
        write(&*storage, &directory.path().join("x"), PLAIN, &vec![&megabyte[..]; megabytes]);
        let mut expected = vec![Operation::SyncData; syncs];
        expected.push(Operation::SyncAll);
        assert_eq!(std::mem::take(&mut *log.lock().unwrap()), expected);
    }
}

/// Whoever gives up in the middle may cut the file at once, so no other thread may read it then.
#[test]
fn nobody_reads_ahead_when_the_reader_is_gone() {
    let storage = Memory::default();
    let header = header(PLAIN.chunks_code());
    let content = vec![7; 4 << 20];
    let written = write_chunks(
        &storage,
        Path::new("x"),
        &header,
        (1, 9),
        PLAIN,
        &Pace::full(),
        &Cuts::Every(16 << 10),
        |target| Ok(target.write_all(&content)?),
        |_| Ok(()),
    )
    .unwrap();
    let (mut blocks_read, mut owners) = (0, 0);
    for blocks_wanted in 0..20 {
        let given_up = written.unpack(|blocks| -> Result<(), StoreError> {
            for _ in 0..blocks_wanted {
                let length = blocks.current().len();
                blocks.advance(length);
                blocks_read += 1;
            }
            owners = owners.max(written.owners());
            Err(written.undecodable("given up".to_owned()))
        });
        assert!(given_up.is_err());
        assert_eq!(written.owners(), 1, "after {blocks_wanted} blocks");
    }
    assert!(blocks_read > 100 && owners > 2, "{owners} owners: a thread read ahead");
}

/// Makes a file of 100 chunks with 1000 bytes each, of which some have a wrong bit.
fn damaged_in(wrong: &[u64]) -> (PackedFile, Vec<u8>) {
    let storage = Memory::default();
    let header = header(PLAIN.chunks_code());
    let content: Vec<u8> = (0..100_000_u32).map(|at| (at / 7) as u8).collect();
    let (path, cuts) = (Path::new("x"), Cuts::Every(1000));
    let fill = |target: &mut dyn std::io::Write| Ok(target.write_all(&content)?);
    let pace = Pace::full();
    write_chunks(&storage, path, &header, (1, 9), PLAIN, &pace, &cuts, fill, |_| Ok(())).unwrap();
    let mut bytes = storage.read(path).unwrap().to_vec();
    let head = header.encode().unwrap().len();
    for chunk in wrong {
        bytes[head + *chunk as usize * 1008 + 8 + 5] ^= 1;
    }
    let file = PackedFile::from_bytes("x".into(), FileBytes::Owned(bytes), ARCHIVE_MAGIC);
    (file.unwrap(), content)
}

/// Several threads unpack them, at least where there are several processors.
#[test]
fn each_damaged_chunk_is_told_in_its_place() {
    for wrong in [&[][..], &[0], &[3, 4, 17, 41, 98, 99]] {
        let (file, _) = damaged_in(wrong);
        let (mut parts, mut read) = (Vec::new(), 0);
        let mut step = |bytes| {
            read += bytes;
            Ok(())
        };
        file.check_parts(&mut step, &mut |part| parts.push(part)).unwrap();
        let places: Vec<_> = parts.iter().map(|part| part.content_range.clone()).collect();
        let expected: Vec<_> = wrong.iter().map(|at| at * 1000..(at + 1) * 1000).collect();
        assert_eq!((places, read), (expected, 100 * 1008));
        // Nobody unpacks the rest for one who has seen enough.
        let stop = |_| Err(file.undecodable("seen enough".to_owned()));
        file.check_parts(&mut { stop }, &mut drop).unwrap_err();
        assert_eq!(file.owners(), 1);
    }
}

#[test]
fn whoever_reads_ahead_reads_the_same_up_to_the_damage() {
    for (wrong, expected) in [(&[][..], 100), (&[0], 0), (&[57, 60], 57)] {
        let (file, content) = damaged_in(wrong);
        for ahead in [false, true] {
            let (mut read, mut reader) = (Vec::new(), file.reader(0, ahead).unwrap());
            let ended = std::io::copy(&mut reader, &mut read);
            assert_eq!(read, content[..expected * 1000]);
            let error = ended.err().map(|error| error.downcast::<StoreError>().unwrap());
            let is_corrupt = matches!(error, Some(StoreError::Corrupt { .. }));
            assert_eq!((is_corrupt, error.is_some()), (!wrong.is_empty(), !wrong.is_empty()));
        }
    }
}
