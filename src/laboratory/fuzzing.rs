//! Owns the bodies of the fuzz targets, so that `cargo test` runs them over the committed corpus on
//! stable Rust too. It is compiled only for tests and by cargo-fuzz.

#![allow(missing_docs)] // for fuzz/ alone

use std::io::Write;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::codec::{self, Blocks, DecodeHow, OneBlock};
use crate::collections::{Map, Set, Vector};
use crate::engine::{read_limits, read_section, write_section};
use crate::files::{
    ARCHIVE_MAGIC, CHECKPOINT_MAGIC, Cuts, DatabaseId, FileHeader, Manifest, PackedFile, Packing,
    SEGMENT_MAGIC, SNAPSHOT_MAGIC, Standing, StoreError, archive_path, sealed_standing,
    write_chunks,
};
use crate::followers::{CheckpointOf, decode_checkpoint};
use crate::journal::{Ending, FrameBuffer, FrameStream, Records, Segment, SegmentScan};
use crate::laboratory::sealed;
use crate::model::{decode_events, encode_events, split_events};
use crate::options::RequestLimits;
use crate::purge::PurgeRecord;
use crate::storage::{FileBytes, Memory, Pace};
use crate::{MigrationError, Model, StoredEvent, laboratory, snapshot};

const SALT: u64 = 0x5eed;
const CHAIN: u32 = 7;

/// Reads a segment whose header is sound and whose frames are `data`. The reading must end without
/// a panic, with a valid ending or a typed error.
pub fn journal_frames(data: &[u8]) {
    let mut bytes = header().encode().expect("a small header");
    bytes.resize(4096, 0);
    bytes.extend_from_slice(data);
    segment(bytes);
}

/// Returns the header of a sound segment.
fn header() -> FileHeader {
    FileHeader {
        magic: SEGMENT_MAGIC,
        database: DatabaseId([1; 16]),
        packing: 0,
        model_version: 1,
        sequence: 1,
        time_ns: 0,
        salt: SALT,
        file_bytes: 0,
        chain: CHAIN,
        model_name: "Fuzzed".to_owned(),
        commands: vec![(1, "Command".to_owned())],
        appendix_bytes: 0,
        base_sequence: 1,
        shape: String::new(),
        schemas: Default::default(),
        events: 0,
    }
}

/// Reads a whole segment file, including its header.
pub fn segment_file(data: &[u8]) {
    segment(data.to_vec());
}

fn segment(bytes: Vec<u8>) {
    let length = bytes.len() as u64;
    let Ok(segment) = Segment::from_bytes("fuzzed".into(), FileBytes::Owned(bytes), 1) else {
        return;
    };
    for next_segment_first in [None, Some(2), Some(3)] {
        let mut scan = SegmentScan::new(&segment, next_segment_first, 0);
        let mut expected = 1;
        loop {
            match scan.next_frame() {
                Ok(Ok(frame)) => {
                    assert_eq!(frame.header.first_sequence, expected, "sequences have no gap");
                    expected = frame.header.next_sequence();
                    assert!(Records::new(frame.payload).count() <= frame.payload.len());
                }
                Ok(Err(Ending::Complete)) => break,
                Ok(Err(Ending::Torn { position, bytes })) => {
                    assert!(position + bytes <= length && next_segment_first.is_none());
                    break;
                }
                Err(StoreError::Corrupt { position, .. }) => {
                    assert!(position <= length);
                    break;
                }
                Err(StoreError::Missing { .. }) if next_segment_first.is_some() => break,
                Err(other) => panic!("{other}"),
            }
        }
    }
}

/// The frames of an archive, one after the other, and where each begins: its sequence, its position
/// and the chain value before it. The last one stands for the end.
pub(crate) fn archived_frames() -> (Vec<u8>, Vec<(u64, u64, u32)>) {
    let (mut bytes, mut places) = (Vec::new(), vec![(1, 0, CHAIN)]);
    for number in 0..12 {
        let (first, _, chain) = places.last().copied().expect("there is a first one");
        let mut buffer = FrameBuffer::new();
        buffer.push_payload(&vec![3; 20 * number]);
        let count = if number == 5 { 0 } else { 1 + number as u32 % 3 };
        let (frame, after) = buffer.seal(first, count, 0, SALT, chain);
        bytes.extend_from_slice(frame);
        let chain = if count > 0 { after } else { chain };
        places.push((first + u64::from(count), bytes.len() as u64, chain));
    }
    (bytes, places)
}

/// Reads an archive with this index, from its beginning and from the middle. What is read must be
/// what was archived, or the archive is reported as damaged.
pub fn frame_index(data: &[u8]) {
    let storage = Memory::default();
    let (content, places) = archived_frames();
    let &(next, _, chain) = places.last().expect("there is a last one");
    let packing = Packing { compression_level: 0, compression_threads: 0 };
    let header = FileHeader {
        magic: ARCHIVE_MAGIC,
        packing: packing.chunks_code(),
        appendix_bytes: data.len() as u64,
        ..header()
    };
    let (path, cuts) = (archive_path(Path::new(""), 1), Cuts::Every(200));
    let write = |target: &mut dyn Write| Ok(target.write_all(&content)?);
    let append = |target: &mut dyn Write| Ok(target.write_all(data)?);
    let (end, pace) = ((next - 1, chain), Pace::full());
    write_chunks(&storage, &path, &header, end, packing, &pace, &cuts, write, append)
        .expect("memory can be written to");
    for wanted in [1, 4, next / 2, next - 1] {
        let read = || {
            let mut frames = FrameStream::of_archive(&storage, Path::new(""), 1, wanted)?;
            assert!(frames.next_sequence() <= wanted, "it begins behind what is wanted");
            while frames.next_sequence() < next && frames.advance(next - 1)? {
                let frame = frames.frame().expect("it was read just now");
                let place = (frame.header.first_sequence, frame.position, frame.chain_before);
                assert!(places.contains(&place), "other frames");
            }
            frames.check_end()
        };
        match read() {
            Ok(()) | Err(StoreError::Corrupt { .. }) => {}
            Err(other) => panic!("{other}"),
        }
    }
}

/// Reads a MANIFEST. If it is accepted, it must encode to the same bytes.
pub fn manifest(data: &[u8]) {
    if let Ok(manifest) = Manifest::decode(Path::new("fuzzed"), data) {
        assert_eq!(manifest.encode(), data);
    }
}

/// Reads a snapshot of a model with strings and nesting, and of one whose collections are loaded in
/// parts.
pub fn snapshot_file(data: &[u8]) {
    let bytes = FileBytes::Owned(data.to_vec());
    if let Ok(file) = PackedFile::from_bytes("fuzzed".into(), bytes, SNAPSHOT_MAGIC)
        && let sequence = file.header.sequence
        && let Ok(file) = snapshot::check(file, sequence)
    {
        let content = |blocks: &mut Blocks<'_>| {
            let decoded = codec::decode_stream(blocks, file.footer.raw_bytes);
            decoded.map_err(|reason| file.undecodable(reason))
        };
        let requests = |blocks: &mut Blocks<'_>| {
            let newest = (file.header.sequence, file.header.time_ns);
            read_section(blocks, file.header.appendix_bytes, newest, RequestLimits::of(3))
                .map_err(|(expected, found)| file.corrupt_content(expected, found))
        };
        type Content = Vec<(u64, String, Option<Vec<i128>>)>;
        drop(file.unpack_with::<Content, _, StoreError>(content, requests));
        drop(snapshot::request_limits(&file));
        check_loaded(&file);
    }
}

/// Reads a snapshot of changes and the one that it rests on, with right checksums. The first four
/// bytes are the length of the latter. Every way of reading them must give the same.
pub fn snapshot_changes(data: &[u8]) {
    let opened = || {
        let (length, files) = data.split_first_chunk()?;
        let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
        let (base, changes) = files.split_at_checked(length)?;
        let (mut base, mut changes) = (base.to_vec(), changes.to_vec());
        let digest = sealed::seal(&mut base)?;
        sealed::seal_upon(&mut changes, digest)?;
        let [base, changes] = [base, changes].map(|bytes| {
            let bytes = FileBytes::Owned(bytes);
            PackedFile::from_bytes("fuzzed".into(), bytes, SNAPSHOT_MAGIC).ok()
        });
        changes?.with_base(base?).ok()
    };
    let Some(file) = opened() else { return };
    if check_loaded(&file) {
        file.unpack(|blocks| {
            let decoding = file.decoding(DecodeHow::OnlyToSee, blocks);
            let raw_bytes = file.footer.raw_bytes;
            codec::decode_in_parts::<Loaded>(blocks, raw_bytes, &decoding)
                .map_err(|reason| file.undecodable(reason))
        })
        .expect("what was decoded can be seen to be decodable");
    }
}

/// A model whose collections are loaded in parts.
#[derive(Clone, Default, Serialize, Deserialize)]
pub(crate) struct Loaded {
    pub(crate) stock: Map<u64, String>,
    pub(crate) closed: Set<String>,
    pub(crate) log: Vector<(u64, Option<Vec<i128>>)>,
}

/// Decodes a snapshot of a [`Loaded`], in parts or one entry after the other, and encodes it again.
pub(crate) fn loaded(file: &PackedFile, in_parts: bool) -> Result<Vec<u8>, StoreError> {
    let raw_bytes = file.footer.raw_bytes;
    let decoded: Result<Loaded, StoreError> = file.unpack(|blocks| {
        let how = if in_parts { DecodeHow::InParallel } else { DecodeHow::OneThread };
        let decoding = file.decoding(how, blocks);
        let decoded = codec::decode_in_parts(blocks, raw_bytes, &decoding);
        decoded.map_err(|reason| file.undecodable(reason))
    });
    let mut encoded = Vec::new();
    codec::encode_stream(&decoded?, &mut encoded).expect("what was decoded has an encoding");
    Ok(encoded)
}

/// Loads a snapshot in parts, whatever its index states. Returns whether that succeeded; then
/// decoding one entry after the other must give the same.
pub(crate) fn check_loaded(file: &PackedFile) -> bool {
    let Ok(in_parts) = loaded(file, true) else { return false };
    let alone = loaded(file, false).expect("the parts are decodable, so the whole is");
    assert!(in_parts == alone, "an index changed what is decoded");
    true
}

/// Reads the request ids behind the model in a snapshot, with a right checksum. If they are
/// accepted, they must encode to the same bytes.
pub fn request_ids(data: &[u8]) {
    let mut section = data.to_vec();
    section.extend_from_slice(&crc32c::crc32c(data).to_le_bytes());
    let bytes = section.len() as u64;
    let blocks = || Blocks::new(OneBlock(Some(section.clone())));
    let Ok(limits) = read_limits(&mut blocks(), bytes) else { return };
    let read = |limits| read_section(&mut blocks(), bytes, (u64::MAX, u64::MAX), limits);
    let Ok(log) = read(limits) else { return };
    // Sections of earlier versions are read, and never written.
    if log.ids() > 0 && data.starts_with(b"PREVREQ2") {
        let mut written = Vec::new();
        write_section(&log, &mut written).expect("memory can be written to");
        assert_eq!(written, section);
    }
    let two = RequestLimits { most_ids: 2.min(limits.most_ids), promised_ns: 0, ..limits };
    let fewer = read(two).expect("a smaller limit keeps less of the same");
    assert!(fewer.ids() <= log.ids().min(2));
    if two.most_ids > 0 {
        assert_eq!(log.iter().last(), fewer.iter().last());
    }
}

/// Reads the fields of a follower's STANDING, with what each file begins and ends with. If they are
/// accepted, they must encode to the same bytes.
pub fn standing(data: &[u8]) {
    let bytes = sealed_standing(data);
    if let Ok(standing) = Standing::decode(Path::new("fuzzed"), &bytes) {
        assert!(standing.needed_after() <= standing.current.position);
        assert_eq!(standing.encode(), bytes);
    }
}

/// Reads a projection's checkpoint, as it is and with right checksums.
pub fn checkpoint(data: &[u8]) {
    let mut sealed = data.to_vec();
    sealed::seal(&mut sealed);
    for bytes in [data.to_vec(), sealed] {
        let bytes = FileBytes::Owned(bytes);
        let Ok(file) = PackedFile::from_bytes("fuzzed".into(), bytes, CHECKPOINT_MAGIC) else {
            continue;
        };
        let FileHeader { database, model_name, model_version, sequence, .. } = file.header.clone();
        let (name, version, position) = (&*model_name, model_version, sequence);
        let of = CheckpointOf { database, name, version, position };
        drop(decode_checkpoint::<Loaded>(&file, of));
    }
}

/// Reads the events of a command. If they are accepted, they must encode to the same bytes.
pub fn events(data: &[u8]) {
    let parts = split_events(data);
    let decoded = decode_events::<Emitting>(data);
    let Some((version, parts)) = parts else {
        assert!(decoded.is_err(), "what cannot be split cannot be decoded");
        return;
    };
    if let (Ok(events), Emitting::EVENT_VERSION) = (decoded, version) {
        assert_eq!(events.len(), parts.len());
        let mut bytes = Vec::new();
        encode_events::<Emitting>(&events, &mut bytes).expect("these were encoded before");
        assert!(bytes.len() <= data.len(), "a number may take more bytes than it needs");
        assert_eq!(decode_events::<Emitting>(&bytes), Ok(events));
    }
}

/// A model with events of several shapes.
#[derive(Clone, Serialize, Deserialize)]
struct Emitting;

impl Model for Emitting {
    type Event = (u32, Option<String>, Vec<u64>);
    const EVENT_VERSION: u32 = 1;

    fn read_event(version: u32, event: StoredEvent<'_>) -> Result<Self::Event, MigrationError> {
        event.decode::<u8>().map(|byte| (version, None, vec![byte.into()]))
    }
}

crate::commands! { Emitting {} }

/// Reads the record of a purge, with a right checksum. If it is accepted, it must encode to the
/// same bytes.
pub fn purge_record(data: &[u8]) {
    let mut bytes = data.to_vec();
    bytes.extend_from_slice(&crc32c::crc32c(data).to_le_bytes());
    let Some(number) = data.get(40..48) else { return };
    let number = u64::from_le_bytes(number.try_into().expect("8 bytes"));
    if let Ok(record) = PurgeRecord::decode(Path::new("fuzzed"), &bytes, number) {
        assert_eq!(record.encode(), bytes);
    }
}

/// Runs a history on the simulated disk step by step, and judges its crash images.
pub fn histories(data: &[u8]) {
    laboratory::run_script(data);
}

/// Opens a whole directory: a small database that was changed, with right checksums.
pub fn directory_open(data: &[u8]) {
    laboratory::open_forged(data);
}

/// Looks at a whole directory that was spoiled, and saves what can be read: by a repair, restores
/// and backups.
pub fn rescue(data: &[u8]) {
    laboratory::rescued::rescue(data);
}

/// Lives the life of a few collections: each must equal its standard one, and the invariants must
/// hold after every step.
pub fn collections(data: &[u8]) {
    crate::collections::live_bytes(data);
}

#[cfg(test)]
#[path = "tests/fuzzing.rs"]
mod tests;
