//! Owns a whole directory that a fuzzer forges. It takes a small closed database, changes it, and
//! makes the checksums right again, so that a reader gets further than to the first checksum.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use super::model::{Ending, Mix, Put, Tally, request_id};
use super::setup::{DIRECTORY, Setup};
use super::sizes::Sizes;
use crate::files::{FileHeader, SEGMENT_MAGIC, SNAPSHOT_MAGIC};
use crate::options::Options;
use crate::storage::simulated::{SimulatedDisk, State};
use crate::{Database, Metadata};

/// How many bytes of the input describe one change: file, position, kind, value.
const CHANGE_BYTES: usize = 6;
const MOST_CHANGES: usize = 16;

/// Where a file's header states how the file is packed.
const PACKING_AT: usize = 36;
const PACKING_CHUNKS_PLAIN: u32 = 2;
const CHUNK_HEADER_BYTES: usize = 8;
/// The size of what the index states about a chunk.
const ENTRY_BYTES: usize = 20;
const FOOTER_BYTES: usize = 56;

pub(super) const FORGES_MANIFEST: u8 = 1;
pub(super) const FORGES_HEADERS: u8 = 2;
pub(super) const FORGES_FRAMES: u8 = 4;
pub(super) const FORGES_CHUNKS: u8 = 8;
/// The database has an archive, and its commands have request ids.
const HAS_ARCHIVE: u8 = 16;

fn setup(archive: bool) -> Setup {
    Setup {
        segment_bytes: 6 << 10,
        keep_snapshots: if archive { 1 } else { 2 },
        archive,
        compression_level: 0,
        buffered: false,
        max_batch_commands: 1024,
        snapshot_on_close: false,
        remembered_requests: 8,
        on_demand: false,
    }
}

fn open(disk: &SimulatedDisk, archive: bool) -> Result<Database<Tally>, crate::Error> {
    Database::<Tally>::open_with(
        Arc::new(disk.clone()),
        Path::new(DIRECTORY),
        Options { share_snapshots: false, ..setup(archive).options() },
        Tally::default,
        &mut (Box::new(|_| {}) as _),
    )
}

/// Makes a closed database with two snapshots and several segments.
fn pristine(archive: bool) -> &'static State {
    static PRISTINE: [OnceLock<State>; 2] = [OnceLock::new(), OnceLock::new()];
    PRISTINE[usize::from(archive)].get_or_init(|| {
        let disk = SimulatedDisk::new(State::empty(), 4711, false);
        for round in 0..3 {
            let database = open(&disk, archive).unwrap();
            for value in 0..3 {
                let value = round * 10 + value;
                let request_id = if archive { request_id(value as u8) } else { String::new() };
                let metadata = Metadata { request_id, ..Metadata::default() };
                let database = database.with_metadata(&metadata).unwrap();
                database.execute(Mix(value)).unwrap();
            }
            // It is so long that the next run does not carry it into its own segment.
            let padding = vec![0xa5; 1200];
            let put = Put { key: 1, value: round, ending: Ending::Accept, padding };
            database.execute(put).unwrap();
            if round < 2 {
                database.snapshot().unwrap();
            }
            database.close().unwrap();
        }
        let state = disk.state();
        let archives = state.files().keys().filter(|path| path.ends_with(".archive")).count();
        assert_eq!(archives > 0, archive);
        state
    })
}

/// Forges a directory as `data` says, and opens it. The open must neither panic nor hang. If it
/// succeeds, the database must accept a command, close, and open again with the same content.
pub fn open_forged(data: &[u8]) {
    let Some((&forges, changes)) = data.split_first() else { return };
    let _sizes = Sizes::small();
    let archive = forges & HAS_ARCHIVE != 0;
    let mut state = pristine(archive).clone();
    for change in changes.chunks_exact(CHANGE_BYTES).take(MOST_CHANGES) {
        apply(&mut state, change);
    }
    forge(&mut state, forges);
    let disk = SimulatedDisk::new(state, 1, false);
    let Ok(database) = open(&disk, archive) else { return };
    // After a forged sequence there may be no next one.
    if database.sequence() < u64::MAX / 2 {
        database.execute(Mix(1)).unwrap();
    }
    read_history(&database);
    let before = (database.sequence(), database.query(Tally::bytes));
    database.close().unwrap();
    let database = open(&disk, archive).unwrap();
    assert_eq!((database.sequence(), database.query(Tally::bytes)), before);
}

/// Reads the whole history in every way. The sequences must have no gap.
fn read_history(database: &Database<Tally>) {
    let history = database.history();
    if let Ok(records) = history.records(..) {
        let mut before = None;
        for record in records.map_while(Result::ok) {
            assert!(before.is_none_or(|before| before + 1 == record.sequence()));
            before = Some(record.sequence());
        }
    }
    let newest = database.sequence();
    for sequence in [0, newest / 2, newest] {
        if let Ok(then) = history.at(sequence) {
            assert_eq!(then.sequence(), sequence);
        }
    }
    drop(history.replay_as::<Tally>());
}

fn apply(state: &mut State, change: &[u8]) {
    let [file, low, high, kind, value, other] = change[..] else { return };
    let files: Vec<String> = state.files().into_keys().collect();
    let path = &files[usize::from(file) % files.len()];
    let mut content = state.content(path).unwrap().clone();
    if content.is_empty() {
        return;
    }
    let at = usize::from(u16::from_le_bytes([low, high])) % content.len();
    match kind % 8 {
        0..=3 => content[at] ^= value,
        4 => content[at..].iter_mut().take(8).for_each(|byte| *byte = value),
        5 => content.truncate(at),
        6 => {
            let source = &files[usize::from(other) % files.len()];
            content.clone_from(state.content(source).unwrap());
        }
        _ if value % 2 == 0 => return state.remove(path),
        _ => content.resize(content.len() + usize::from(value), other),
    }
    state.replace(path, content);
}

/// Makes those checksums right that `forges` names.
pub(super) fn forge(state: &mut State, forges: u8) {
    for path in state.files().into_keys() {
        let mut content = state.content(&path).unwrap().clone();
        if path.ends_with("MANIFEST") && forges & FORGES_MANIFEST != 0 {
            let end = content.len();
            seal(&mut content, 0, end);
        }
        let packed = path.ends_with(".snapshot") || path.ends_with(".archive");
        if packed || path.ends_with(".journal") {
            let length = number(&content, 12);
            if forges & FORGES_HEADERS != 0 {
                seal(&mut content, 0, length);
            }
            if path.ends_with(".journal") && forges & FORGES_FRAMES != 0 {
                forge_frames(&mut content);
            }
            if packed && forges & FORGES_CHUNKS != 0 {
                forge_chunks(&mut content, length);
            }
        }
        state.replace(&path, content);
    }
}

fn number(content: &[u8], at: usize) -> usize {
    let bytes = at.checked_add(4).and_then(|end| content.get(at..end));
    bytes.map_or(0, |bytes| u32::from_le_bytes(bytes.try_into().unwrap()) as usize)
}

/// Writes the checksum of `begin..end - 4` behind it.
fn seal(content: &mut [u8], begin: usize, end: usize) {
    if end >= begin + 4 && end <= content.len() {
        let checksum = crc32c::crc32c(&content[begin..end - 4]);
        content[end - 4..end].copy_from_slice(&checksum.to_le_bytes());
    }
}

fn forge_frames(content: &mut [u8]) {
    let Ok((header, length)) = FileHeader::decode(Path::new("forged"), SEGMENT_MAGIC, content)
    else {
        return;
    };
    let mut chain = header.chain;
    let mut at = length.next_multiple_of(4096);
    while content.get(at..at + 4) == Some(b"PVFR") {
        let payload = number(content, at + 4);
        let end = at + 32 + payload;
        if content.len() < end + 4 {
            return;
        }
        let salted = crc32c::crc32c(&header.salt.to_le_bytes());
        let checksum = crc32c::crc32c_append(salted, &content[at..at + 28]);
        content[at + 28..at + 32].copy_from_slice(&checksum.to_le_bytes());
        let body = crc32c::crc32c_append(chain, &content[at..at + 28]);
        let body = crc32c::crc32c_append(body, &content[at + 32..end]);
        content[end..end + 4].copy_from_slice(&body.to_le_bytes());
        if number(content, at + 24) > 0 {
            chain = body;
        }
        at = (end + 4).next_multiple_of(8);
    }
}

/// Makes the checksums of a packed file right. Chunks that are packed one by one have an index.
fn forge_chunks(content: &mut [u8], header: usize) {
    if number(content, PACKING_AT) >= PACKING_CHUNKS_PLAIN as usize {
        forge_index(content, header);
    } else {
        forge_stream(content, header);
    }
}

fn forge_stream(content: &mut [u8], header: usize) {
    let (mut at, mut checksum, mut packed) = (header, 0, 0_u64);
    loop {
        let length = number(content, at);
        let end = at + CHUNK_HEADER_BYTES + length;
        if length == 0 || end > content.len() {
            break;
        }
        checksum = crc32c::crc32c_append(checksum, &content[at + CHUNK_HEADER_BYTES..end]);
        put(content, at + 4, &checksum.to_le_bytes());
        packed += length as u64;
        at = end;
    }
    let footer = at + 4;
    if content.len() < footer + FOOTER_BYTES {
        return;
    }
    // If the content is not compressed, its digest is that of the chunks. Usually there is one.
    if packed > 0 && number(content, PACKING_AT) == 0 {
        let digest = xxhash_rust::xxh3::xxh3_128(&content[header + CHUNK_HEADER_BYTES..at]);
        state_content(content, footer, (packed, packed), digest);
    }
    seal_footer(content, footer, checksum);
}

/// Forges what an index covers. The lengths of the chunks are those in the index.
fn forge_index(content: &mut [u8], header: usize) {
    let Some(tail) = content.len().checked_sub(8 + FOOTER_BYTES) else { return };
    let index = tail.checked_sub(number(content, tail)).filter(|&index| index >= header + 4);
    let Some(index) = index else { return };
    let (mut at, mut unpacked) = (header, Some(Vec::new()));
    for entry in (index + 4..tail).step_by(ENTRY_BYTES).take(number(content, index)) {
        let (raw, packed) = (number(content, entry), number(content, entry + 4));
        let (begin, end) = (at + CHUNK_HEADER_BYTES, at + CHUNK_HEADER_BYTES + packed);
        if entry + ENTRY_BYTES > tail || end > index - 4 {
            return;
        }
        let checksum = crc32c::crc32c(&content[begin..end]).to_le_bytes();
        put(content, at, &(packed as u32).to_le_bytes());
        put(content, at + 4, &checksum);
        put(content, entry + 8, &checksum);
        // The digest is that of the bytes before packing.
        unpacked = unpacked.filter(|_| raw == packed);
        if let Some(unpacked) = &mut unpacked {
            let chunk = &content[begin..end];
            unpacked.extend_from_slice(chunk);
            let digest = xxhash_rust::xxh3::xxh3_64(chunk).to_le_bytes();
            put(content, entry + 12, &digest);
        }
        at = end;
    }
    let (checksum, footer) = (crc32c::crc32c(&content[index..tail]), tail + 8);
    put(content, tail + 4, &checksum.to_le_bytes());
    let decoded = FileHeader::decode(Path::new("forged"), SNAPSHOT_MAGIC, content);
    if let (Some(unpacked), Ok((stated, _))) = (unpacked, decoded) {
        let packed = unpacked.len() as u64;
        let raw = packed.saturating_sub(stated.appendix_bytes);
        let digest = xxhash_rust::xxh3::xxh3_128(&unpacked[..raw as usize]);
        state_content(content, footer, (raw, packed), digest);
    }
    seal_footer(content, footer, checksum);
}

fn put(content: &mut [u8], at: usize, bytes: &[u8]) {
    content[at..at + bytes.len()].copy_from_slice(bytes);
}

fn state_content(content: &mut [u8], footer: usize, (raw, packed): (u64, u64), digest: u128) {
    put(content, footer + 16, &raw.to_le_bytes());
    put(content, footer + 24, &packed.to_le_bytes());
    put(content, footer + 32, &digest.to_le_bytes());
}

/// Seals the footer. Its checksum continues that of what stands before it.
fn seal_footer(content: &mut [u8], footer: usize, checksum: u32) {
    let sealed = crc32c::crc32c_append(checksum, &content[footer..footer + 52]);
    put(content, footer + 52, &sealed.to_le_bytes());
}

/// Describes two changes in the index of the newest snapshot: bytes go from the last part of the
/// map to the one before.
#[cfg(test)]
pub(super) fn index_seed(archive: bool) -> Vec<u8> {
    let _sizes = Sizes::small();
    let files = pristine(archive).files();
    let path = files.keys().rfind(|path| path.ends_with(".snapshot")).unwrap();
    let file = files.keys().position(|it| it == path).unwrap();
    let tail = files[path] - 8 - FOOTER_BYTES;
    let all = FORGES_MANIFEST | FORGES_HEADERS | FORGES_FRAMES | FORGES_CHUNKS;
    let mut seed = vec![if archive { all | HAS_ARCHIVE } else { all }];
    for (at, value) in [(tail - 16, 1), (tail - 32, 1)] {
        let [low, high] = u16::try_from(at).unwrap().to_le_bytes();
        seed.extend([file as u8, low, high, 0, value, 0]);
    }
    seed
}

#[cfg(test)]
#[path = "tests/forged.rs"]
mod tests;
