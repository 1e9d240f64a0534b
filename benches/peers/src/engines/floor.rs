//! The floors that no engine can beat: the disk alone, and the map alone.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Condvar, Mutex};

use crate::engine::{Caller, Engine, Outcome, Readable, Workload, sum};
use crate::engines::prevalence::{Map as _, Ordered, entry};
use crate::load::{Put, digest};

pub const WRITE: &str = "a bare loop: the bytes of key and value, written one after the other into \
    a zero-filled file, then `fdatasync`";
pub const GROUP: &str = "a plain group commit: a mutex, a condition variable, one buffer; the \
    first caller writes and syncs for all that wait, into a zero-filled file";
pub const MAP: &str = "not durable: the bare `collections::Map<u64, ArrayString<100>>`, cloned once \
    per 1,024 puts";

const FILE_BYTES: usize = 64 << 20;
/// Zeros that are written in larger pieces stay in the page cache as larger folios, and a later
/// sync searches every block of them: with 64 MiB at once the floor was a sixth higher.
const PIECE_BYTES: usize = 4096;

/// A file that was filled with zeros, so that no write allocates.
struct ZeroFilled {
    file: File,
    position: usize,
}

impl ZeroFilled {
    fn new(directory: &Path) -> Outcome<Self> {
        let file = File::create_new(directory.join("zeros"))?;
        for piece in 0..FILE_BYTES / PIECE_BYTES {
            file.write_all_at(&[0; PIECE_BYTES], (piece * PIECE_BYTES) as u64)?;
        }
        file.sync_all()?;
        Ok(Self { file, position: 0 })
    }

    fn write_and_sync(&mut self, bytes: &[u8]) -> Outcome {
        if self.position + bytes.len() > FILE_BYTES {
            self.position = 0;
        }
        self.file.write_all_at(bytes, self.position as u64)?;
        self.file.sync_data()?;
        self.position += bytes.len();
        Ok(())
    }
}

fn append(buffer: &mut Vec<u8>, put: Put) {
    buffer.extend_from_slice(&put.key.to_le_bytes());
    buffer.extend_from_slice(put.value);
}

/// A file that one caller at a time writes and syncs.
struct Write(Mutex<(ZeroFilled, Vec<u8>)>);

pub fn write(path: &Path, _: Workload) -> Outcome<Box<dyn Engine>> {
    Ok(Box::new(Write(Mutex::new((ZeroFilled::new(path)?, Vec::new())))))
}

impl Engine for Write {
    fn caller(&self) -> Outcome<Box<dyn Caller + '_>> {
        Ok(Box::new(self))
    }

    fn put_stream(&self, puts: &mut dyn Iterator<Item = Put>, window: usize) -> Outcome {
        let (file, buffer) = &mut *self.0.lock().expect("no panic holds it");
        let mut puts = puts.peekable();
        while puts.peek().is_some() {
            buffer.clear();
            puts.by_ref().take(window).for_each(|put| append(buffer, put));
            file.write_and_sync(buffer)?;
        }
        Ok(())
    }
}

impl Caller for &Write {
    fn put(&mut self, put: Put) -> Outcome {
        self.put_stream(&mut std::iter::once(put), 1)
    }
}

struct Group {
    state: Mutex<GroupState>,
    synced: Condvar,
    file: Mutex<ZeroFilled>,
}

#[derive(Default)]
struct GroupState {
    buffer: Vec<u8>,
    spare: Vec<u8>,
    puts_appended: u64,
    puts_synced: u64,
    syncing: bool,
}

pub fn group(path: &Path, _: Workload) -> Outcome<Box<dyn Engine>> {
    let file = Mutex::new(ZeroFilled::new(path)?);
    Ok(Box::new(Group { state: Mutex::default(), synced: Condvar::new(), file }))
}

impl Engine for Group {
    fn caller(&self) -> Outcome<Box<dyn Caller + '_>> {
        Ok(Box::new(self))
    }

    fn put_stream(&self, puts: &mut dyn Iterator<Item = Put>, _: usize) -> Outcome {
        for put in puts {
            { self }.put(put)?;
        }
        Ok(())
    }
}

impl Caller for &Group {
    fn put(&mut self, put: Put) -> Outcome {
        let mut state = self.state.lock().expect("no panic holds it");
        append(&mut state.buffer, put);
        state.puts_appended += 1;
        let mine = state.puts_appended;
        while state.puts_synced < mine {
            if state.syncing {
                state = self.synced.wait(state).expect("no panic holds it");
                continue;
            }
            state.syncing = true;
            let spare = std::mem::take(&mut state.spare);
            let mut batch = std::mem::replace(&mut state.buffer, spare);
            let last = state.puts_appended;
            drop(state);
            self.file.lock().expect("no panic holds it").write_and_sync(&batch)?;
            batch.clear();
            state = self.state.lock().expect("no panic holds it");
            state.spare = batch;
            state.puts_synced = last;
            state.syncing = false;
            self.synced.notify_all();
        }
        Ok(())
    }
}

/// The model of the engine `prevalence`, behind a lock that no other thread takes.
struct Map(Mutex<Ordered>);

pub fn map(_: &Path, _: Workload) -> Outcome<Box<dyn Engine>> {
    Ok(Box::new(Map(Mutex::default())))
}

impl Engine for Map {
    fn caller(&self) -> Outcome<Box<dyn Caller + '_>> {
        Err("a bare map has no durable puts".into())
    }

    fn put_stream(&self, puts: &mut dyn Iterator<Item = Put>, _: usize) -> Outcome {
        let mut map = self.0.lock().expect("no panic holds it");
        let mut version = map.clone();
        for (index, put) in puts.enumerate() {
            let (key, value) = entry(put)?;
            map.insert(key, value);
            if index % 1024 == 0 {
                version = map.clone();
            }
        }
        drop(version);
        Ok(())
    }

    fn readable(&self) -> Option<&dyn Readable> {
        Some(self)
    }
}

impl Readable for Map {
    fn read_each(&self, keys: &[u64]) -> Outcome<u64> {
        let map = self.0.lock().expect("no panic holds it");
        sum(keys, |key| Ok(map.get(key).map(|value| digest(value.as_bytes()))))
    }

    fn read_pinned(&self, keys: &[u64]) -> Outcome<Option<u64>> {
        self.read_each(keys).map(Some)
    }
}
