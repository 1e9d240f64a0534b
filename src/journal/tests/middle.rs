//! Tests that reading from the middle of a file gives what reading all of it gives, and that a
//! wrong index or a damaged segment never gives other commands.

use super::*;
use crate::files::{Cuts, write_chunks};
use crate::journal::archive_segment;
use crate::journal::frame_index::decode;
use crate::journal::segment::frames_begin;
use crate::laboratory::Sizes;
use crate::storage::Memory;

const PACKING: Packing = Packing { compression_level: 1, compression_threads: 0 };

/// What a test compares of a frame: its position, its first sequence, its payload, and the chain.
type Seen = (u64, u64, Vec<u8>, u32);

/// Frames of many sizes, with marks between them, one of which is torn.
fn content() -> Content {
    let mut content = Content::new();
    for number in 0..40 {
        content = content.batch(1 + number % 3, (number as usize * 37) % 90);
        if number % 7 == 3 {
            content = content.mark();
        }
        if number == 20 {
            content = content.batch(2, 3000).torn_mark();
        }
    }
    content
}

/// Writes a segment with this content. Returns where its frames begin.
fn write_segment(directory: &Path, content: &[u8]) -> usize {
    let mut bytes = header(SEGMENT_MAGIC, 8192).encode().unwrap();
    bytes.resize(frames_begin(bytes.len()), 0);
    let begin = bytes.len();
    bytes.extend_from_slice(content);
    bytes.resize(bytes.len().max(8192) + 64, 0);
    std::fs::write(segment_path(directory, 1), bytes).unwrap();
    begin
}

fn archive(directory: &Path, content: &Content) -> Result<PathBuf, StoreError> {
    write_segment(directory, &content.bytes);
    let range = (1, content.next);
    archive_segment(&Disk, directory, directory, range, PACKING, &Pace::full())
}

fn from_archive(directory: &Path, wanted: u64) -> Result<FrameStream, StoreError> {
    FrameStream::of_archive(&Disk, directory, 1, wanted)
}

fn from_segment(
    directory: &Path,
    wanted: u64,
    bookmark: Option<Bookmark>,
) -> Result<FrameStream, StoreError> {
    FrameStream::of_segment(&Disk, directory, 1, wanted, bookmark)
}

fn see(mut stream: FrameStream, end: u64) -> Result<Vec<Seen>, StoreError> {
    let mut seen = Vec::new();
    while stream.next_sequence() <= end {
        assert!(stream.advance(end)?, "it ends before {end}");
        let FrameRef { position, header, payload, chain_before } = stream.frame().unwrap();
        seen.push((position, header.first_sequence, payload.to_vec(), chain_before));
    }
    stream.check_end()?;
    Ok(seen)
}

/// Checks that what was seen is the end of all that there is, and holds the wanted sequence.
/// Returns how many frames were read before that one.
fn check_seen(all: &[Seen], seen: &[Seen], wanted: u64) -> usize {
    assert!(all.ends_with(seen), "other frames from {wanted} on");
    assert!(seen[0].1 <= wanted, "{} is behind {wanted}", seen[0].1);
    seen.iter().filter(|frame| frame.1 <= wanted).count() - 1
}

#[test]
fn an_archive_is_read_from_each_of_its_sequences() {
    let _sizes = Sizes::small();
    let directory = tempfile::tempdir().unwrap();
    let content = content();
    archive(directory.path(), &content).unwrap();
    let end = content.next - 1;
    let all = see(from_archive(directory.path(), 1).unwrap(), end).unwrap();
    assert_eq!(all.len(), 41);
    for wanted in 1..=end + 1 {
        let stream = from_archive(directory.path(), wanted).unwrap();
        let seen = see(stream, end).unwrap();
        let before = check_seen(&all, &seen, wanted);
        let far = all.iter().rfind(|frame| frame.1 <= wanted).unwrap().0 - seen[0].0;
        assert!(before < 4 && far < 128, "{before} frames and {far} bytes before {wanted}");
    }
}

#[test]
fn an_archive_of_an_early_version_is_read_from_each_of_its_sequences() {
    let directory = tempfile::tempdir().unwrap();
    let Content { bytes, next, chain } = content();
    let (end, header) = ((next - 1, chain), header(ARCHIVE_MAGIC, 0));
    let path = archive_path(directory.path(), 1);
    write_packed(&Disk, &path, &header, end, PACKING, &Pace::full(), |target| {
        Ok(target.write_all(&bytes)?)
    })
    .unwrap();
    let all = see(from_archive(directory.path(), 1).unwrap(), end.0).unwrap();
    for wanted in 1..=end.0 {
        let seen = see(from_archive(directory.path(), wanted).unwrap(), end.0).unwrap();
        assert!(seen == all, "there is no index, so it begins at the beginning");
    }
}

#[test]
fn a_segment_is_read_from_each_of_its_sequences_and_bookmarks() {
    let directory = tempfile::tempdir().unwrap();
    let content = content();
    write_segment(directory.path(), &content.bytes);
    let end = content.next - 1;
    let mut whole = from_segment(directory.path(), 1, None).unwrap();
    let mut bookmarks = vec![None];
    while whole.next_sequence() <= end {
        assert!(whole.advance(end).unwrap());
        bookmarks.push(whole.bookmark());
    }
    let all = see(from_segment(directory.path(), 1, None).unwrap(), end).unwrap();
    let torn = all.iter().rfind(|frame| frame.2.len() > 3000).unwrap().1;
    for (number, &bookmark) in bookmarks.iter().enumerate().step_by(5) {
        for wanted in 1..=end {
            let seen = see(from_segment(directory.path(), wanted, bookmark).unwrap(), end).unwrap();
            let before = check_seen(&all, &seen, wanted);
            // Nothing hops over a torn mark: then all is read.
            let behind = bookmark.is_some_and(|it| it.place.cursor.next_sequence > torn + 2);
            if wanted <= torn || behind && bookmark.unwrap().is_before(&whole_cursor(), wanted) {
                assert_eq!(before, 0, "bookmark {number} and sequence {wanted}");
            }
        }
    }
    // A bookmark of another segment is not used.
    let salted = FrameCursor::at_start_of(&FileHeader { salt: 6, ..header(SEGMENT_MAGIC, 0) });
    assert!(!bookmarks[3].unwrap().is_before(&salted, end));
}

fn whole_cursor() -> FrameCursor {
    FrameCursor::at_start_of(&header(SEGMENT_MAGIC, 0))
}

/// What comes to the damaged place gives the error of a scan, whatever was wanted. What lies behind
/// it may be read.
#[test]
fn a_damaged_segment_gives_the_frames_or_the_error_of_a_scan() {
    let directory = tempfile::tempdir().unwrap();
    let content = Content::new().batch(2, 30).mark().batch(1, 20_000).batch(3, 5).batch(1, 9);
    let begin = write_segment(directory.path(), &content.bytes);
    let path = segment_path(directory.path(), 1);
    let intact = std::fs::read(&path).unwrap();
    let all = see(from_segment(directory.path(), 1, None).unwrap(), 7).unwrap();
    let told = |read: Result<Vec<Seen>, StoreError>| read.map_err(|error| error.to_string());
    let (mut read, mut refused) = (0, 0);
    let end = begin + content.bytes.len();
    let is_chosen = |at: &usize| at % 131 < 2 || *at < begin + 200 || *at + 200 > end;
    for at in (begin..end).filter(is_chosen) {
        let mut damaged = intact.clone();
        damaged[at] ^= 0x10;
        std::fs::write(&path, damaged).unwrap();
        let scan = told(see(from_segment(directory.path(), 1, None).unwrap(), 7));
        for wanted in 2..=7 {
            let stream = from_segment(directory.path(), wanted, None).unwrap();
            match told(see(stream, 7)) {
                Ok(seen) => {
                    check_seen(&all, &seen, wanted);
                    read += 1;
                }
                Err(error) => {
                    assert_eq!(Err(error), scan, "byte {at}, sequence {wanted}");
                    refused += 1;
                }
            }
        }
    }
    assert!(read > 100 && refused > 100, "{read} read, {refused} refused");
}

/// Writes an archive with this content and this appendix, whose checksums are right.
fn forge(directory: &Path, content: &Content, appendix: &[u8]) {
    let header = FileHeader {
        packing: PACKING.chunks_code(),
        appendix_bytes: appendix.len() as u64,
        ..header(ARCHIVE_MAGIC, 0)
    };
    let path = archive_path(Path::new(""), 1);
    let (end, pace, cuts) = ((content.next - 1, content.chain), Pace::full(), Cuts::Every(100));
    let write = |target: &mut dyn io::Write| Ok(target.write_all(&content.bytes)?);
    let append = |target: &mut dyn io::Write| Ok(target.write_all(appendix)?);
    // In memory, because a disk would have to sync each of them.
    let memory = Memory::default();
    write_chunks(&memory, &path, &header, end, PACKING, &pace, &cuts, write, append).unwrap();
    let bytes = memory.read(&path).unwrap();
    std::fs::write(archive_path(directory, 1), &*bytes).unwrap();
}

#[test]
fn an_index_that_lies_is_an_error_and_never_other_commands() {
    let _sizes = Sizes::small();
    let directory = tempfile::tempdir().unwrap();
    let content = content();
    let path = archive(directory.path(), &content).unwrap();
    let end = content.next - 1;
    let packed = PackedFile::open_beside_others(&Disk, &path, ARCHIVE_MAGIC).unwrap();
    let index = packed.appendix().unwrap();
    let entries = decode(&index, &packed.header, &packed.footer).unwrap();
    assert!(entries.len() > 10);
    let all = see(from_archive(directory.path(), 1).unwrap(), end).unwrap();
    let name = path.file_name().unwrap().to_str().unwrap();
    let mut lies = 0;
    // Every byte behind the first entry, which the header repeats.
    for at in 12 + 20..index.len() {
        let mut changed = index.clone();
        changed[at] ^= 1 << (at % 8);
        forge(directory.path(), &content, &changed);
        lies += u32::from(decode(&changed, &packed.header, &packed.footer).is_ok());
        let read =
            |wanted| from_archive(directory.path(), wanted).and_then(|stream| see(stream, end));
        let error = read(1).expect_err("whoever reads all of it compares the index").to_string();
        assert!(error.contains(name), "{error}");
        for wanted in [entries[1].sequence, end / 2, end] {
            match read(wanted) {
                Ok(seen) => drop(check_seen(&all, &seen, wanted)),
                Err(error) => assert!(matches!(error, StoreError::Corrupt { .. }), "{error}"),
            }
        }
        // The writer that finds such an archive does not take it for its own.
        if at % 16 == 0 {
            assert!(archive(directory.path(), &content).is_err());
        }
    }
    assert!(lies > 50, "only {lies} got as far as the frames");
}

#[test]
fn what_begins_at_a_wrong_entry_is_told() {
    let _sizes = Sizes::small();
    let directory = tempfile::tempdir().unwrap();
    let content = content();
    let path = archive(directory.path(), &content).unwrap();
    let packed = PackedFile::open_beside_others(&Disk, &path, ARCHIVE_MAGIC).unwrap();
    let mut index = packed.appendix().unwrap();
    let last = index.len() - 20;
    let sequence = u64::from_le_bytes(index[last..last + 8].try_into().unwrap());
    index[last + 16] ^= 1; // the chain
    forge(directory.path(), &content, &index);
    let error = see(from_archive(directory.path(), sequence).unwrap(), content.next - 1);
    let error = error.unwrap_err().to_string();
    let told = format!("the index says that this frame begins there: sequence {sequence} at byte");
    assert!(error.contains("expected body checksum") && error.contains(&told), "{error}");
    let error = see(from_archive(directory.path(), 1).unwrap(), content.next - 1).unwrap_err();
    let told = format!("expected an index with an entry for sequence {sequence} at byte");
    assert!(error.to_string().contains(&told), "{error}");
}

#[test]
fn an_index_may_have_fewer_entries_but_none_behind_the_last_frame() {
    let _sizes = Sizes::small();
    let directory = tempfile::tempdir().unwrap();
    let content = Content::new().batch(2, 10).batch(3, 100);
    let mut index = FrameIndex::new(&header(ARCHIVE_MAGIC, 0));
    let read = |index: &FrameIndex| {
        forge(directory.path(), &content, &index.encode());
        from_archive(directory.path(), 1).and_then(|stream| see(stream, 5))
    };
    assert_eq!(read(&index).unwrap().len(), 2);
    // It states a place inside the last frame.
    let mut frames = from_archive(directory.path(), 1).unwrap();
    assert!(frames.advance(5).unwrap() && frames.advance(5).unwrap());
    let mut inside = frames.frame().unwrap();
    inside.header.first_sequence = 4;
    index.push(&inside, inside.position + 80);
    let error = read(&index).unwrap_err().to_string();
    assert!(error.contains("found sequence 4 at byte"), "{error}");
}
