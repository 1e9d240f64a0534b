//! Indexes that lie, with right checksums: whatever an index states about chunks and parts,
//! decoding ends in an error, or gives what the content is.

use proptest::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::super::file::write_snapshot;
use crate::codec::{self, DecodeHow, Extent, FirstKeys, Part};
use crate::collections::Vector;
use crate::files::{FileHeader, PackedFile, Packing, SNAPSHOT_MAGIC, snapshot_path};
use crate::laboratory::fuzzing::{Loaded, check_loaded, loaded};
use crate::laboratory::{SNAPSHOTS_FAULTS, Sizes};
use crate::storage::{Disk, FileBytes, Pace};
use crate::test_support;

const FOOTER_BYTES: usize = 56;
const CHUNK_ENTRY_BYTES: usize = 20;

/// A snapshot taken apart.
#[derive(Clone)]
struct Taken {
    /// Header, chunks and end mark.
    begin: Vec<u8>,
    /// The count of the chunks, and what the index states about them.
    chunks: Vec<u8>,
    extents: Vec<Extent>,
    footer: Vec<u8>,
    content: Vec<u8>,
}

fn number(bytes: &[u8], at: usize) -> usize {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize
}

fn large(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

impl Taken {
    /// Writes a snapshot with small parts and chunks, and takes it apart.
    fn new(compression_level: i32) -> Self {
        Self::of_model(
            compression_level,
            &Loaded {
                stock: (0..130).map(|key| (key * 3, format!("{key}"))).collect(),
                closed: (0..70).map(|key| format!("{key:03}")).collect(),
                log: (0..70)
                    .map(|it| (it, (it % 3 > 0).then(|| vec![-1; it as usize % 4])))
                    .collect(),
            },
        )
    }

    fn of_model<T: Serialize>(compression_level: i32, model: &T) -> Self {
        let _sizes = Sizes::small();
        let directory = tempfile::tempdir().unwrap();
        let packing = Packing { compression_level, compression_threads: 0 };
        let header = FileHeader {
            packing: packing.chunks_code(),
            sequence: 42,
            base_sequence: 42,
            salt: 0,
            ..test_support::header(SNAPSHOT_MAGIC)
        };
        write_snapshot(&Disk, directory.path(), &header, model, packing, &Pace::full()).unwrap();
        let mut content = Vec::new();
        codec::encode_stream(model, &mut content).unwrap();
        Self::apart(&std::fs::read(snapshot_path(directory.path(), 42)).unwrap(), content)
    }

    fn apart(bytes: &[u8], content: Vec<u8>) -> Self {
        let tail = bytes.len() - FOOTER_BYTES - 8;
        let index_at = tail - number(bytes, tail);
        let index = &bytes[index_at..tail];
        let chunks = 4 + number(index, 0) * CHUNK_ENTRY_BYTES;
        let mut at = chunks + 4;
        let extents = (0..number(index, chunks)).map(|_| {
            let (begin, parts) = (large(index, at), number(index, at + 8));
            at += 12 + 16 * parts;
            let part = |it| Part { bytes: large(index, it), entries: large(index, it + 8) };
            Extent {
                begin,
                parts: (at - 16 * parts..at).step_by(16).map(part).collect(),
                first_keys: FirstKeys::default(),
                change: None,
            }
        });
        Self {
            extents: extents.collect(),
            begin: bytes[..index_at].to_vec(),
            chunks: index[..chunks].to_vec(),
            footer: bytes[bytes.len() - FOOTER_BYTES..].to_vec(),
            content,
        }
    }

    /// Puts it together again, with right checksums. `count` may state another number of extents,
    /// and for each of them another number of parts.
    fn bytes(&self, count: impl Fn(Option<&Extent>, usize) -> usize) -> Vec<u8> {
        let count = |of: Option<&Extent>, real| (count(of, real) as u32).to_le_bytes();
        let mut index = self.chunks.clone();
        index.extend(count(None, self.extents.len()));
        for extent in &self.extents {
            index.extend(extent.begin.to_le_bytes());
            index.extend(count(Some(extent), extent.parts.len()));
            for part in &extent.parts {
                index.extend(part.bytes.to_le_bytes());
                index.extend(part.entries.to_le_bytes());
            }
        }
        let checksum = crc32c::crc32c(&index);
        let mut bytes = self.begin.clone();
        bytes.extend(&index);
        bytes.extend((index.len() as u32).to_le_bytes());
        bytes.extend(checksum.to_le_bytes());
        let covered = &self.footer[..FOOTER_BYTES - 4];
        bytes.extend(covered);
        bytes.extend(crc32c::crc32c_append(checksum, covered).to_le_bytes());
        bytes
    }

    /// Cuts the content into chunks of other sizes, the last of which takes the rest.
    fn cut(&mut self, sizes: &[usize]) {
        let (mut rest, mut chunks) = (&self.content[..], Vec::new());
        self.begin.truncate(number(&self.begin, 12));
        let mut count = 0_u32;
        for size in sizes.iter().copied().chain([usize::MAX]).filter(|&size| size > 0) {
            let (chunk, later) = rest.split_at(size.min(rest.len()));
            rest = later;
            if chunk.is_empty() {
                break;
            }
            count += 1;
            let (length, checksum) = (chunk.len() as u32, crc32c::crc32c(chunk));
            for field in [length, checksum] {
                self.begin.extend(field.to_le_bytes());
            }
            self.begin.extend(chunk);
            for field in [length, length, checksum] {
                chunks.extend(field.to_le_bytes());
            }
            chunks.extend(xxhash_rust::xxh3::xxh3_64(chunk).to_le_bytes());
        }
        self.begin.extend([0; 4]);
        self.chunks = count.to_le_bytes().to_vec();
        self.chunks.extend(chunks);
    }

    /// Decodes it, and returns whether parts were used.
    fn decode<T: DeserializeOwned>(&self) -> (T, bool) {
        let bytes = FileBytes::Owned(self.bytes(|_, real| real));
        let file = PackedFile::from_bytes("hostile".into(), bytes, SNAPSHOT_MAGIC).unwrap();
        let decoded = file.unpack(|blocks| {
            let place = blocks.place().clone();
            let decoding = file.decoding(DecodeHow::InParallel, blocks);
            let decoded = codec::decode_in_parts(blocks, file.footer.raw_bytes, &decoding);
            Ok((decoded.unwrap(), place.has_jumped()))
        });
        decoded.unwrap()
    }

    /// Opens and decodes it. Returns whether that succeeded.
    fn is_read(&self) -> bool {
        self.is_read_with(|_, real| real)
    }

    fn is_read_with(&self, count: impl Fn(Option<&Extent>, usize) -> usize) -> bool {
        let bytes = FileBytes::Owned(self.bytes(count));
        let Ok(file) = PackedFile::from_bytes("hostile".into(), bytes, SNAPSHOT_MAGIC) else {
            return false;
        };
        if !check_loaded(&file) {
            return false;
        }
        assert!(loaded(&file, true).unwrap() == self.content, "it is not the content");
        true
    }
}

/// Changes `taken` as every way of changing one part alone, or two parts beside each other.
fn each_change(taken: &Taken, mut look: impl FnMut(&str, Taken)) {
    let amounts = [1, 2, 3, 5, 7, 16, 31, 32, 33, 64, 1 << 20, 1 << 40, 1 << 63, u64::MAX];
    for extent in 0..taken.extents.len() {
        let mut changed = |what: &str, change: &dyn Fn(&mut Extent)| {
            let mut hostile = taken.clone();
            change(&mut hostile.extents[extent]);
            look(what, hostile);
        };
        for amount in amounts {
            let less = amount.wrapping_neg();
            for amount in [amount, less] {
                changed("begin", &|it| it.begin = it.begin.wrapping_add(amount));
            }
        }
        changed("no parts", &|it| it.parts.clear());
        for number in 0..taken.extents[extent].parts.len() {
            let has_next = number + 1 < taken.extents[extent].parts.len();
            for amount in amounts.into_iter().flat_map(|it| [it, it.wrapping_neg()]) {
                for (bytes, entries) in [(amount, 0), (0, amount), (amount, 1), (1, amount)] {
                    let add = |part: &mut Part, bytes: u64, entries: u64| {
                        part.bytes = part.bytes.wrapping_add(bytes);
                        part.entries = part.entries.wrapping_add(entries);
                    };
                    changed("one", &|it| add(&mut it.parts[number], bytes, entries));
                    if has_next {
                        changed("shifted", &|it| {
                            add(&mut it.parts[number], bytes, entries);
                            let (bytes, entries) = (bytes.wrapping_neg(), entries.wrapping_neg());
                            add(&mut it.parts[number + 1], bytes, entries);
                        });
                    }
                }
            }
            changed("dropped", &|it| {
                it.parts.remove(number);
            });
            changed("doubled", &|it| it.parts.insert(number, it.parts[number]));
            if has_next {
                changed("swapped", &|it| it.parts.swap(number, number + 1));
                changed("merged", &|it| {
                    let next = it.parts.remove(number + 1);
                    it.parts[number].bytes += next.bytes;
                    it.parts[number].entries += next.entries;
                });
            }
            let whole = taken.extents[extent].parts[number];
            for bytes in 1..whole.bytes {
                for entries in [1, 2, whole.entries / 2, whole.entries - 1] {
                    changed("split", &|it| {
                        it.parts[number] = Part { bytes, entries };
                        let rest = (whole.bytes - bytes, whole.entries.saturating_sub(entries));
                        it.parts.insert(number + 1, Part { bytes: rest.0, entries: rest.1 });
                    });
                }
            }
        }
    }
}

#[test]
fn parts_that_lie_are_errors_or_change_nothing() {
    for level in [0, 1] {
        let taken = Taken::new(level);
        let parts = taken.extents.iter().map(|extent| extent.parts.len()).sum::<usize>();
        assert!(taken.is_read() && taken.extents.len() == 3 && parts > 9, "{parts} parts");
        let (mut read, mut refused) = (0, 0);
        each_change(&taken, |what, hostile| {
            let is_read = hostile.is_read();
            *(if is_read { &mut read } else { &mut refused }) += 1;
            assert!(is_read || what != "merged", "merged parts hold the same");
        });
        println!("level {level}: {read} changed indexes were read, {refused} refused");
        assert!(read > 100 && refused > 1000);
    }
}

#[test]
fn counts_and_extents_that_lie_are_errors_or_change_nothing() {
    let taken = Taken::new(0);
    for count in [0, 1, 2, 4, 5, 1 << 16, u32::MAX as usize] {
        assert!(!taken.is_read_with(|of, real| if of.is_none() { count } else { real }));
        if !taken.extents.iter().any(|extent| extent.parts.len() == count) {
            assert!(!taken.is_read_with(|of, real| if of.is_some() { count } else { real }));
        }
        let mut hostile = taken.clone();
        hostile.chunks[..4].copy_from_slice(&(count as u32).to_le_bytes());
        assert!(!hostile.is_read());
    }
    // Without an extent, its collection is decoded one entry after the other.
    for extent in 0..taken.extents.len() {
        let mut hostile = taken.clone();
        hostile.extents.remove(extent);
        assert!(hostile.is_read());
        let mut hostile = taken.clone();
        hostile.extents.swap(extent, (extent + 1) % taken.extents.len());
        assert!(!hostile.is_read(), "they are not in their order");
        let mut hostile = taken.clone();
        let mut inside = hostile.extents[extent].clone();
        inside.begin += 1;
        hostile.extents.insert(extent + 1, inside);
        hostile.is_read();
    }
}

#[test]
fn chunks_that_lie_are_errors() {
    for level in [0, 1] {
        let taken = Taken::new(level);
        let (chunks, mut compressed) = (number(&taken.chunks, 0), 0);
        assert!(chunks > 8, "only {chunks} chunks");
        for entry in (0..chunks).map(|chunk| 4 + chunk * CHUNK_ENTRY_BYTES) {
            for field in [0, 4, 8] {
                for value in [0, 1, 100, 1 << 18, (1 << 18) + 1, u32::MAX] {
                    let mut hostile = taken.clone();
                    let real = number(&taken.chunks, entry + field) as u32;
                    for value in [value, real.wrapping_add(1), real.wrapping_sub(1)] {
                        let at = entry + field..entry + field + 4;
                        hostile.chunks[at].copy_from_slice(&value.to_le_bytes());
                        assert!(value == real || !hostile.is_read(), "{value} at {entry}+{field}");
                    }
                }
            }
            if number(&taken.chunks, entry) != number(&taken.chunks, entry + 4) {
                let mut hostile = taken.clone();
                hostile.chunks[entry + 12] ^= 1;
                assert!(!hostile.is_read(), "the digest of a compressed chunk is checked");
                compressed += 1;
            }
            let next = entry + CHUNK_ENTRY_BYTES;
            if next < taken.chunks.len() {
                let mut hostile = taken.clone();
                hostile.chunks[entry] += 1;
                hostile.chunks[next] -= 1;
                assert!(!hostile.is_read(), "bytes of one chunk belong to the next");
            }
        }
        assert_eq!(compressed > 0, level > 0);
    }
}

/// A larger part could not be given a limit.
#[test]
fn collections_with_a_large_part_are_decoded_one_entry_after_the_other() {
    let _sizes = Sizes::small();
    for (length, expected) in [(50, true), (70, false)] {
        let stock = (0..70).map(|key| (key, "x".repeat(length))).collect();
        let taken = Taken::of_model(0, &Loaded { stock, ..Loaded::default() });
        assert_eq!(taken.extents[0].parts.len(), 3);
        let (_, in_parts) = taken.decode::<Loaded>();
        assert_eq!(in_parts, expected);
    }
}

/// The bytes of the last part would also be a list, and everything would be used.
#[test]
fn parts_with_fewer_entries_than_their_collection_are_not_used() {
    let numbers = (0..64).map(|it| u64::MAX - it).chain([37]).chain(0..31);
    let model = (numbers.collect::<Vector<u64>>(), vec![1_u64; 5]);
    let mut taken = Taken::of_model(0, &model);
    assert!(taken.decode::<(Vector<u64>, Vec<u64>)>() == (model.clone(), true));
    taken.extents[0].parts.pop();
    assert!(taken.decode::<(Vector<u64>, Vec<u64>)>() == (model, false));
}

fn changes() -> impl Strategy<Value = Vec<(usize, usize, u8, u64)>> {
    let amount = prop_oneof![0..40_u64, Just(u64::MAX), any::<u64>()];
    prop::collection::vec((0..4_usize, 0..6_usize, 0..8_u8, amount), 1..6)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn many_changes_are_errors_or_change_nothing(changes in changes(), level in 0..2) {
        let mut taken = Taken::new(level);
        for (extent, part, kind, amount) in changes {
            let count = taken.extents.len().max(1);
            let Some(extent) = taken.extents.get_mut(extent % count) else { continue };
            let last = extent.parts.len().saturating_sub(1);
            match (kind, extent.parts.get_mut(part.min(last))) {
                (0, _) => extent.begin = extent.begin.wrapping_add(amount),
                (1, _) => extent.begin = extent.begin.wrapping_sub(amount),
                (2, Some(part)) => part.bytes = part.bytes.wrapping_add(amount),
                (3, Some(part)) => part.bytes = part.bytes.wrapping_sub(amount),
                (4, Some(part)) => part.entries = part.entries.wrapping_add(amount),
                (5, Some(part)) => part.entries = part.entries.wrapping_sub(amount),
                (6, Some(_)) => {
                    extent.parts.remove(part.min(last));
                }
                (_, _) => extent.parts.push(Part { bytes: amount, entries: amount % 33 }),
            }
        }
        taken.is_read();
    }

    /// Chunks may end anywhere, also within a part.
    #[test]
    fn chunks_of_any_size_are_read(sizes in prop::collection::vec(1..400_usize, 0..40)) {
        let mut taken = Taken::new(0);
        taken.cut(&sizes);
        assert!(taken.is_read());
    }
}

/// The test that runs in the child of a fault.
fn finder(fault: &str) -> &'static str {
    match fault {
        "ChunkDigestNotChecked" => "snapshot::tests::hostile::chunks_that_lie_are_errors",
        "PartEndNotChecked" => {
            "snapshot::tests::hostile::parts_that_lie_are_errors_or_change_nothing"
        }
        "ChangesOfAnotherBase" => {
            "snapshot::tests::changes::a_base_that_is_missing_or_another_is_an_error_that_names_it"
        }
        "LateDamagePassedOver" | "ReplacedFileBelieved" => {
            "snapshot::tests::late::what_was_written_over_is_not_believed_and_the_next_open_reads_all"
        }
        "ReadFileCut" => "snapshot::tests::late::a_file_keeps_its_length_while_it_is_read",
        "ChangesNotCounted" => "snapshot::tests::changes::changes_are_not_decoded_as_another_type",
        "FrameIndexNotCompared" => {
            "journal::stream::tests::middle::an_index_that_lies_is_an_error_and_never_other_commands"
        }
        _ => {
            "snapshot::tests::hostile::parts_with_fewer_entries_than_their_collection_are_not_used"
        }
    }
}

#[test]
fn planted_faults_are_caught() {
    for (name, what) in SNAPSHOTS_FAULTS {
        test_support::assert_caught(finder(name), (name, what));
    }
}
