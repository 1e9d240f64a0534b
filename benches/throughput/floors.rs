//! The cost of the same work without the engine: the disk, a simple group commit, and the model
//! alone.

use std::fs::File;
use std::mem;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Instant;

use tempfile::TempDir;

use crate::support::{directory, run::Run};
use crate::workload::Workload;

const FILE_BYTES: u64 = 16 << 20;
/// The bytes of a frame without its records, as in `docs::format`.
const FRAME_HEADER_BYTES: usize = 32;
const FRAME_CHECKSUM_BYTES: usize = 4;
const FRAME_ALIGNMENT: usize = 8;
const RECORD_HEADER_BYTES: usize = 16;
/// The default of `max_batch_commands`.
const COMMANDS_PER_CLONE: u64 = 1024;

/// Returns the size of the record of a command of this workload.
pub fn record_bytes<W: Workload>(entries: u64) -> usize {
    let command = W::command(0, entries);
    let encoded = bincode::serde::encode_to_vec(&command, bincode::config::standard());
    RECORD_HEADER_BYTES + encoded.expect("encodes").len()
}

/// Returns the size of a frame with that many bytes of records.
pub fn frame_bytes(records: usize) -> usize {
    (FRAME_HEADER_BYTES + records + FRAME_CHECKSUM_BYTES).next_multiple_of(FRAME_ALIGNMENT)
}

/// A file filled with zeros, and the next position to write at. After the end it continues at the
/// start.
struct ZeroedFile {
    file: Arc<File>,
    position: u64,
    _directory: TempDir,
}

impl ZeroedFile {
    fn new() -> Self {
        let directory = directory();
        let file = File::create_new(directory.path().join("zeroed")).expect("a new file");
        file.write_all_at(&vec![0; FILE_BYTES as usize], 0).expect("zeros");
        file.sync_all().expect("sync");
        Self { file: Arc::new(file), position: 0, _directory: directory }
    }

    /// Returns the position for that many bytes.
    fn advance(&mut self, bytes: usize) -> u64 {
        let bytes = bytes as u64;
        let at = if self.position + bytes > FILE_BYTES { 0 } else { self.position };
        self.position = at + bytes;
        at
    }
}

/// Makes one write and one `fdatasync` after the other.
pub struct RawWrites {
    file: ZeroedFile,
    frame: Vec<u8>,
}

impl RawWrites {
    pub fn new(frame_bytes: usize) -> Self {
        Self { file: ZeroedFile::new(), frame: vec![7; frame_bytes] }
    }

    pub fn run(&mut self, writes: u64) -> Run {
        let Self { file, frame } = self;
        Run::alone(writes, || {
            let write = |_| {
                let began = Instant::now();
                let at = file.advance(frame.len());
                file.file.write_all_at(frame, at).expect("write");
                file.file.sync_data().expect("sync");
                began.elapsed()
            };
            (0..writes).map(write).collect()
        })
    }
}

/// A plain group commit. If no caller is syncing, a caller writes and syncs all collected records.
/// The others wait on a condition variable until their record is durable.
pub struct GroupCommit {
    state: Mutex<Gathered>,
    synced: Condvar,
    record: Vec<u8>,
}

struct Gathered {
    file: ZeroedFile,
    records: Vec<u8>,
    /// An empty buffer that collects records while the other one is written.
    spare: Vec<u8>,
    submitted: u64,
    durable: u64,
    syncing: bool,
}

impl GroupCommit {
    pub fn new(record_bytes: usize) -> Self {
        let state = Gathered {
            file: ZeroedFile::new(),
            records: vec![7; FRAME_HEADER_BYTES],
            spare: vec![7; FRAME_HEADER_BYTES],
            submitted: 0,
            durable: 0,
            syncing: false,
        };
        Self { state: Mutex::new(state), synced: Condvar::new(), record: vec![7; record_bytes] }
    }

    pub fn run(&self, callers: u64, records: u64) -> Run {
        let each = records.div_ceil(callers);
        Run::of(callers, each, |_| {
            let put = |_| {
                let began = Instant::now();
                self.put();
                began.elapsed()
            };
            (0..each).map(put).collect()
        })
    }

    fn put(&self) {
        let mut state = self.state.lock().expect("no panic");
        state.records.extend_from_slice(&self.record);
        state.submitted += 1;
        let mine = state.submitted;
        while state.durable < mine {
            state = match state.syncing {
                true => self.synced.wait(state).expect("no panic"),
                false => self.write_and_sync(state),
            };
        }
    }

    fn write_and_sync<'a>(
        &'a self,
        mut state: MutexGuard<'a, Gathered>,
    ) -> MutexGuard<'a, Gathered> {
        let spare = mem::take(&mut state.spare);
        let mut frame = mem::replace(&mut state.records, spare);
        frame.resize(frame_bytes(frame.len() - FRAME_HEADER_BYTES), 7);
        let at = state.file.advance(frame.len());
        let file = state.file.file.clone();
        let submitted = state.submitted;
        state.syncing = true;
        drop(state);
        file.write_all_at(&frame, at).expect("write");
        file.sync_data().expect("sync");
        frame.truncate(FRAME_HEADER_BYTES);
        let mut state = self.state.lock().expect("no panic");
        state.spare = frame;
        state.durable = submitted;
        state.syncing = false;
        self.synced.notify_all();
        state
    }
}

/// The model alone, on one thread.
pub struct Bare<W: Workload> {
    model: W::Model,
    /// The version before. It is freed when the next one is made, as in the engine.
    before: Option<W::Model>,
    entries: u64,
    next: u64,
}

impl<W: Workload> Bare<W> {
    pub fn new(entries: u64) -> Self {
        Self { model: W::model(entries), before: None, entries, next: 0 }
    }

    /// Makes a clone as often as the engine, once per batch.
    pub fn run_with_clones(&mut self, updates: u64) -> Run {
        self.run(updates, |bare, index| {
            if index.is_multiple_of(COMMANDS_PER_CLONE) {
                bare.before = Some(bare.model.clone());
            }
        })
    }

    pub fn run_without_clones(&mut self, updates: u64) -> Run {
        self.run(updates, |_, _| {})
    }

    fn run(&mut self, updates: u64, after_each: impl Fn(&mut Self, u64)) -> Run {
        Run::alone(updates, || {
            for index in self.next..self.next + updates {
                W::update(&mut self.model, index, self.entries);
                after_each(self, index);
            }
            self.next += updates;
            Vec::new()
        })
    }
}
