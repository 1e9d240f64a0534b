//! Owns the bodies of the fuzz targets, so that `cargo test` runs them over the committed corpus on
//! stable Rust too. It is compiled only for tests and by cargo-fuzz.

#![allow(missing_docs)] // for fuzz/ alone

use std::path::Path;

use crate::engine::{read_limits, read_section, write_section};
use crate::files::{
    Blocks, DatabaseId, FileHeader, Manifest, PackedFile, SEGMENT_MAGIC, SNAPSHOT_MAGIC, StoreError,
};
use crate::journal::{Ending, Records, Segment, SegmentScan};
use crate::options::RequestLimits;
use crate::purge::PurgeRecord;
use crate::storage::FileBytes;
use crate::{codec, laboratory, snapshot};

const SALT: u64 = 0x5eed;
const CHAIN: u32 = 7;

/// Reads a segment whose header is sound and whose frames are `data`. The reading must end without
/// a panic, with a valid ending or a typed error.
pub fn journal_frames(data: &[u8]) {
    let header = FileHeader {
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
    };
    let mut bytes = header.encode().expect("a small header");
    bytes.resize(4096, 0);
    bytes.extend_from_slice(data);
    segment(bytes);
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

/// Reads a MANIFEST. If it is accepted, it must encode to the same bytes.
pub fn manifest(data: &[u8]) {
    if let Ok(manifest) = Manifest::decode(Path::new("fuzzed"), data) {
        assert_eq!(manifest.encode(), data);
    }
}

/// Reads a snapshot of a model with strings and nesting.
pub fn snapshot_file(data: &[u8]) {
    let bytes = FileBytes::Owned(data.to_vec());
    if let Ok(file) = PackedFile::from_bytes("fuzzed".into(), bytes, SNAPSHOT_MAGIC)
        && let Ok(file) = snapshot::check(file, 0)
    {
        let content = |blocks: &mut Blocks| {
            let decoded = codec::decode_stream(blocks, file.footer.raw_bytes);
            decoded.map_err(|reason| file.undecodable(reason))
        };
        let requests = |blocks: &mut Blocks| {
            let (bytes, newest) = (file.header.appendix_bytes, file.header.sequence);
            read_section(blocks, bytes, newest, RequestLimits::of(3))
                .map_err(|(expected, found)| file.corrupt_content(expected, found))
        };
        type Content = Vec<(u64, String, Option<Vec<i128>>)>;
        drop(file.unpack_with::<Content, _, StoreError>(content, requests));
        drop(snapshot::request_limits(&file));
    }
}

/// Reads the request ids behind the model in a snapshot, with a right checksum. If they are
/// accepted, they must encode to the same bytes.
pub fn request_ids(data: &[u8]) {
    let mut section = data.to_vec();
    section.extend_from_slice(&crc32c::crc32c(data).to_le_bytes());
    let bytes = section.len() as u64;
    let Ok(limits) = read_limits(&mut Blocks::of(section.clone()), bytes) else { return };
    let read = |limits| read_section(&mut Blocks::of(section.clone()), bytes, u64::MAX, limits);
    let Ok(log) = read(limits) else { return };
    if log.ids() > 0 {
        let mut written = Vec::new();
        write_section(&log, &mut written).expect("memory can be written to");
        assert_eq!(written, section);
    }
    let fewer = read(RequestLimits::of(2)).expect("a smaller limit keeps less of the same");
    assert!(fewer.ids() <= log.ids().min(2));
    assert_eq!(log.iter().last(), fewer.iter().last());
}

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Remembered, RequestLog};
    use crate::journal::FrameBuffer;

    type Target = fn(&[u8]);

    const TARGETS: [(&str, Target); 8] = [
        ("journal_frames", journal_frames),
        ("segment_file", segment_file),
        ("manifest", manifest),
        ("snapshot_file", snapshot_file),
        ("request_ids", request_ids),
        ("purge_record", purge_record),
        ("histories", histories),
        ("directory_open", directory_open),
    ];

    #[test]
    fn the_committed_corpus_passes() {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
        for (name, target) in TARGETS {
            let mut inputs = 0;
            for entry in std::fs::read_dir(corpus.join(name)).unwrap() {
                let input = std::fs::read(entry.unwrap().path()).unwrap();
                target(&input);
                // Cut and flip each input at many places, so that the corpus reaches the error
                // paths without a fuzzer.
                for at in (0..input.len()).step_by(1 + input.len() / 512) {
                    target(&input[..at]);
                    let mut flipped = input.clone();
                    flipped[at] ^= 1 << (at % 8);
                    target(&flipped);
                }
                inputs += 1;
            }
            assert!(inputs > 0, "no corpus for {name}");
        }
    }

    /// Writes the seeds: `PREVALENCE_WRITE_CORPUS=1 cargo test --lib fuzzing`.
    #[test]
    fn corpus_seeds_are_what_the_program_writes() {
        let mut frames = Vec::new();
        let mut chain = CHAIN;
        for (first, count, durable, payload) in
            [(1, 1, 0, &[1u8; 30][..]), (2, 1, 1, &[2; 700]), (3, 0, 2, &[])]
        {
            let mut buffer = FrameBuffer::new();
            buffer.push_payload(payload);
            let (bytes, after) = buffer.seal(first, count, durable, SALT, chain);
            frames.extend_from_slice(bytes);
            if count > 0 {
                chain = after;
            }
        }
        frames.extend_from_slice(&[0; 64]);
        if std::env::var_os("PREVALENCE_WRITE_CORPUS").is_some() {
            write_seeds(&frames);
        }
        let seed = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/journal_frames/seed");
        assert_eq!(std::fs::read(seed).unwrap(), frames);
    }

    fn write_seeds(frames: &[u8]) {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        let database = crate::Database::<seed::Seed>::builder()
            .initial(seed::Seed(vec![(7, "seven".to_owned(), Some(vec![-7]))]))
            .open(path)
            .unwrap();
        for number in 0..3 {
            database.execute(seed::Push(number)).unwrap();
        }
        database.close().unwrap();
        let mut segment = std::fs::read(path.join("journal/00000000000000000001.journal")).unwrap();
        // Shorten the segment, and state the new length in its header.
        segment.truncate(4096 + 512);
        let file_bytes = segment.len() as u64;
        segment[64..72].copy_from_slice(&file_bytes.to_le_bytes());
        let length = u32::from_le_bytes(segment[12..16].try_into().unwrap()) as usize - 4;
        let checksum = crc32c::crc32c(&segment[..length]);
        segment[length..length + 4].copy_from_slice(&checksum.to_le_bytes());
        let manifest = std::fs::read(path.join("MANIFEST")).unwrap();
        let sequence = crate::purge::<seed::Seed>(path, |_| crate::PurgeAction::Redact);
        assert_eq!(sequence.unwrap().redacted, 3);
        let purged = std::fs::read(path.join("purges/00000000000000000001.purge")).unwrap();
        let database = crate::Database::<seed::Seed>::open(path).unwrap();
        let mut ids = RequestLog::new(RequestLimits::of(8));
        for number in 4..=6 {
            let id = format!("request-{number}");
            ids.push(Remembered { sequence: number, id: id.clone().into() }, |_| {});
            let metadata = crate::Metadata { request_id: id, ..crate::Metadata::default() };
            let requested = database.with_metadata(&metadata).unwrap();
            requested.execute(seed::Push(number)).unwrap();
        }
        database.snapshot().unwrap();
        database.close().unwrap();
        let snapshot = std::fs::read(path.join("snapshots/00000000000000000006.snapshot")).unwrap();
        let mut section = Vec::new();
        write_section(&ids, &mut section).unwrap();
        let unsealed = |bytes: &[u8]| bytes[..bytes.len() - 4].to_vec();
        for (name, bytes) in [
            ("journal_frames", frames),
            ("segment_file", &segment),
            ("manifest", &manifest),
            ("snapshot_file", &snapshot),
            ("request_ids", &unsealed(&section)),
            ("purge_record", &unsealed(&purged)),
        ] {
            std::fs::create_dir_all(corpus.join(name)).unwrap();
            std::fs::write(corpus.join(name).join("seed"), bytes).unwrap();
        }
    }

    mod seed {
        use serde::{Deserialize, Serialize};

        use crate::{Command, Context, Model};

        #[derive(Clone, Default, Serialize, Deserialize)]
        pub(super) struct Seed(pub(super) Vec<(u64, String, Option<Vec<i128>>)>);

        impl Model for Seed {
            type Event = ();
        }

        #[derive(Serialize, Deserialize)]
        pub(super) struct Push(pub(super) u64);

        impl Command<Seed> for Push {
            type Output = ();
            type Rejection = ();

            fn apply(self, seed: &mut Seed, _: &mut Context<'_, Seed>) -> Result<(), ()> {
                seed.0.push((self.0, String::new(), None));
                Ok(())
            }
        }

        crate::commands! { Seed { 1 => Push } }
    }
}
