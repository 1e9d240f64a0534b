//! okaywal. It commits entries in groups. It is a log without a store: a checkpoint gives the
//! entries to the application, which drops them here.

use std::path::Path;

use okaywal::{Configuration, LogVoid, WriteAheadLog};

use crate::engine::{Caller, Engine, Outcome, Workload};
use crate::load::Put;

pub const SETTING: &str = "a log only: it keeps nothing that could be read, and a checkpoint \
    throws the entries away; one entry per put, in `values` one of 4,096 chunks; segments of \
    64 MiB";

/// The default is 1 MiB; `values` would fill two such segments in three commits.
const SEGMENT_BYTES: u32 = 64 << 20;

struct OkayWal(WriteAheadLog);

pub fn open(path: &Path, _: Workload) -> Outcome<Box<dyn Engine>> {
    let configuration = Configuration::default_for(path)
        .preallocate_bytes(SEGMENT_BYTES)
        .checkpoint_after_bytes(u64::from(SEGMENT_BYTES) / 4 * 3);
    Ok(Box::new(OkayWal(configuration.open(LogVoid)?)))
}

fn chunk(buffer: &mut Vec<u8>, put: Put) -> &[u8] {
    buffer.clear();
    buffer.extend_from_slice(&put.key.to_le_bytes());
    buffer.extend_from_slice(put.value);
    buffer
}

impl Engine for OkayWal {
    fn caller(&self) -> Outcome<Box<dyn Caller + '_>> {
        Ok(Box::new(self))
    }

    fn put_stream(&self, puts: &mut dyn Iterator<Item = Put>, window: usize) -> Outcome {
        let mut buffer = Vec::new();
        let mut puts = puts.peekable();
        while puts.peek().is_some() {
            let mut entry = self.0.begin_entry()?;
            for put in puts.by_ref().take(window) {
                entry.write_chunk(chunk(&mut buffer, put))?;
            }
            entry.commit()?;
        }
        Ok(())
    }
}

impl Caller for &OkayWal {
    fn put(&mut self, put: Put) -> Outcome {
        let mut entry = self.0.begin_entry()?;
        entry.write_chunk(chunk(&mut Vec::new(), put))?;
        entry.commit()?;
        Ok(())
    }
}
