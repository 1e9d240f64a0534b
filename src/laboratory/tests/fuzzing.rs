//! The committed corpus passes, and its seeds are what the program writes.

use super::*;
use crate::engine::{Remembered, RequestKey, RequestLog};
use crate::files::{Build, FollowerKind, Letter};
use crate::followers::write_checkpoint;
use crate::laboratory::forged::index_seed;
use crate::laboratory::rescued::tests::rescue_seeds;
use crate::storage::Disk;

type Target = fn(&[u8]);

const TARGETS: [(&str, Target); 15] = [
    ("journal_frames", journal_frames),
    ("segment_file", segment_file),
    ("frame_index", frame_index),
    ("manifest", manifest),
    ("snapshot_file", snapshot_file),
    ("snapshot_changes", snapshot_changes),
    ("request_ids", request_ids),
    ("events", events),
    ("standing", standing),
    ("checkpoint", checkpoint),
    ("purge_record", purge_record),
    ("histories", histories),
    ("directory_open", directory_open),
    ("rescue", rescue),
    ("collections", collections),
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
    let seed = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/frame_index/seed");
    assert_eq!(std::fs::read(seed).unwrap(), index_of_frames());
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
    let mut ids = RequestLog::new(RequestLimits { output_bytes: 8, ..RequestLimits::of(8) });
    for number in 4..=6 {
        let id = format!("request-{number}");
        let key = RequestKey::new("", &id, false);
        let (time_ns, output) = (number, Some("null".into()));
        ids.push(Remembered { sequence: number, time_ns, tag: 1, key, output }, |_| {});
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
    let corpus = |name: &str| {
        let corpus = corpus.join(name);
        std::fs::create_dir_all(&corpus).unwrap();
        corpus
    };
    for (name, level) in [("parts", 0), ("parts-zstd", 1)] {
        std::fs::write(corpus("snapshot_file").join(name), snapshot_in_parts(level)).unwrap();
    }
    std::fs::write(corpus("snapshot_changes").join("seed"), snapshot_and_changes()).unwrap();
    for (name, archive) in [("index", false), ("archive-index", true)] {
        std::fs::write(corpus("directory_open").join(name), index_seed(archive)).unwrap();
    }
    for (name, seed) in rescue_seeds() {
        std::fs::write(corpus("rescue").join(name), seed).unwrap();
    }
    for (name, bytes) in [
        ("journal_frames", frames),
        ("segment_file", &segment),
        ("manifest", &manifest),
        ("snapshot_file", &snapshot),
        ("request_ids", &unsealed(&section)),
        ("events", &stored_events()),
        ("standing", &unsealed(&stored_standing()[16..])),
        ("checkpoint", &stored_checkpoint()),
        ("frame_index", &index_of_frames()),
        ("purge_record", &unsealed(&purged)),
    ] {
        std::fs::write(corpus(name).join("seed"), bytes).unwrap();
    }
}

fn stored_standing() -> Vec<u8> {
    let letter = |sequence| Letter {
        sequence,
        time_ns: 9,
        attempts: 3,
        reason: "it was refused".to_owned(),
        record: vec![7; 20],
    };
    let letters = vec![letter(3), letter(5)];
    let current = Build { version: 1, position: 6, checkpoint: 2, letters };
    let next = Some(Build { version: 2, position: 4, checkpoint: 3, letters: Vec::new() });
    let standing = Standing {
        database: DatabaseId([1; 16]),
        kind: FollowerKind::Projection,
        name: "seed".to_owned(),
        hold_at_most: 1 << 30,
        lost: Some(2),
        current,
        next,
    };
    standing.encode()
}

fn stored_checkpoint() -> Vec<u8> {
    let _sizes = laboratory::Sizes::small();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("seed");
    let packing = Packing { compression_level: 0, compression_threads: 0 };
    let (database, name) = (DatabaseId([1; 16]), "seed");
    let of = CheckpointOf { database, name, version: 1, position: 9 };
    let (counters, never, room) = Default::default();
    let beside = (&counters, &never, &room);
    write_checkpoint(&Disk, &path, of, &loaded_seed(70), packing, beside).unwrap();
    std::fs::read(path).unwrap()
}

/// The seed of a checkpoint is read, and so are most hostile forms of it.
#[test]
fn the_seed_of_a_checkpoint_is_read_in_parts() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/checkpoint");
    let seed = std::fs::read(corpus.join("seed")).unwrap();
    let before = laboratory::parts_decoded();
    checkpoint(&seed);
    assert!(laboratory::parts_decoded() > before, "it has no parts");
}

/// An entry for every other frame.
fn index_of_frames() -> Vec<u8> {
    let (_, places) = archived_frames();
    let entries: Vec<_> = places[..places.len() - 1].iter().step_by(2).collect();
    let mut bytes = b"PREVINDX".to_vec();
    bytes.extend_from_slice(&(entries.len() as u32).to_le_bytes());
    for (sequence, position, chain) in entries {
        bytes.extend_from_slice(&sequence.to_le_bytes());
        bytes.extend_from_slice(&position.to_le_bytes());
        bytes.extend_from_slice(&chain.to_le_bytes());
    }
    bytes
}

fn stored_events() -> Vec<u8> {
    let mut bytes = Vec::new();
    let events =
        [(1, None, Vec::new()), (u32::MAX, Some("something".to_owned()), vec![1, 300, u64::MAX])];
    encode_events::<Emitting>(&events, &mut bytes).unwrap();
    bytes
}

/// Writes a snapshot of several chunks and parts, with an appendix.
fn snapshot_in_parts(compression_level: i32) -> Vec<u8> {
    let _sizes = laboratory::Sizes::small();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let shelf = seed::Shelf(Loaded {
        stock: (0..70).map(|key| (key * 5, format!("{key}"))).collect(),
        closed: (0..36).map(|key| format!("{key:02}")).collect(),
        log: (0..36).map(|it| (it, (it % 3 > 0).then(|| vec![-1; it as usize % 4]))).collect(),
    });
    let builder = crate::Database::<seed::Shelf>::builder().compression_level(compression_level);
    let database = builder.initial(shelf).open(path).unwrap();
    for number in 1..=3 {
        let request_id = format!("request-{number}");
        let metadata = crate::Metadata { request_id, ..crate::Metadata::default() };
        database.with_metadata(&metadata).unwrap().execute(seed::Push(number)).unwrap();
    }
    database.snapshot().unwrap();
    database.close().unwrap();
    std::fs::read(path.join("snapshots/00000000000000000003.snapshot")).unwrap()
}

fn loaded_seed(entries: u64) -> Loaded {
    let number = |it| i128::from(it);
    Loaded {
        stock: (0..entries).map(|key| (key * 5, format!("{key}"))).collect(),
        closed: (0..entries).map(|key| format!("{key:02}")).collect(),
        log: (0..entries).map(|it| (it, (it % 3 > 0).then(|| vec![number(it)]))).collect(),
    }
}

/// Writes a snapshot, changes, and a snapshot of these. Returns both behind the first one's length.
fn snapshot_and_changes() -> Vec<u8> {
    let _sizes = laboratory::Sizes::small();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let builder = crate::Database::<seed::Shelf>::builder().compression_level(0);
    let database = builder.initial(seed::Shelf(loaded_seed(70))).open(path).unwrap();
    let files = [1, 2].map(|number| {
        database.execute(seed::Mend(number)).unwrap();
        std::fs::read(database.snapshot().unwrap().path).unwrap()
    });
    assert!(database.stats().snapshot_shared_bytes > 0);
    database.close().unwrap();
    let [base, changes] = files;
    let length = u32::try_from(base.len()).unwrap().to_le_bytes();
    [&length[..], &base, &changes].concat()
}

/// The seed is a base with changes, and many of its hostile forms get as far as the loader.
#[test]
fn the_seed_of_changes_is_read_with_its_base() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/snapshot_changes");
    let seed = std::fs::read(corpus.join("seed")).unwrap();
    let before = laboratory::changes_decoded();
    snapshot_changes(&seed);
    assert!(laboratory::changes_decoded() > before, "it has no changes");
    let before = laboratory::changes_decoded();
    for at in 0..seed.len() {
        let mut flipped = seed.clone();
        flipped[at] ^= 1;
        snapshot_changes(&flipped);
    }
    let read = laboratory::changes_decoded() - before;
    assert!(read > seed.len() as u64 / 4, "only {read} of {} were read", seed.len());
}

/// The seeds for the loader are read in parts, and hostile ones get as far as the loader.
#[test]
fn the_seeds_in_parts_are_read_in_parts() {
    for name in ["parts", "parts-zstd"] {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/snapshot_file");
        let bytes = FileBytes::Owned(std::fs::read(corpus.join(name)).unwrap());
        let file = PackedFile::from_bytes("seed".into(), bytes, SNAPSHOT_MAGIC).unwrap();
        let before = laboratory::parts_decoded();
        assert!(check_loaded(&file));
        assert!(laboratory::parts_decoded() >= before + 7, "{name} has no parts");
        assert!(file.header.appendix_bytes > 0);
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

    #[derive(Clone, Default, Serialize, Deserialize)]
    pub(super) struct Shelf(pub(super) super::Loaded);

    impl Model for Shelf {
        type Event = ();
    }

    impl Command<Shelf> for Push {
        type Output = ();
        type Rejection = ();

        fn apply(self, shelf: &mut Shelf, _: &mut Context<'_, Shelf>) -> Result<(), ()> {
            shelf.0.log.push_back((self.0, None));
            Ok(())
        }
    }

    /// Changes each collection at several places.
    #[derive(Serialize, Deserialize)]
    pub(super) struct Mend(pub(super) u64);

    impl Command<Shelf> for Mend {
        type Output = ();
        type Rejection = ();

        fn apply(self, shelf: &mut Shelf, _: &mut Context<'_, Shelf>) -> Result<(), ()> {
            let super::Loaded { stock, closed, log } = &mut shelf.0;
            for step in 0..5 {
                let at = self.0 + step * 11;
                stock.put(at * 5, "mended".to_owned());
                stock.put(at * 5 + 1, "new".to_owned());
                stock.remove(&(at * 10));
                closed.remove(&format!("{at:02}"));
                log.insert(at as usize, (at, Some(vec![1, -1])));
            }
            Ok(())
        }
    }

    crate::commands! { Shelf { 1 => Push, 2 => Mend } }
}
