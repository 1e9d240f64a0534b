//! fjall. Its journal is a sparse file of 64 MiB; `SyncData` is `fdatasync`. On Linux it makes a
//! newly allocated block as durable as its content, and nothing is acknowledged before it.

use std::path::Path;

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode, Readable as _};

use crate::engine::{Caller, Engine, Outcome, Readable, Workload, sum};
use crate::load::{Put, digest};

pub const SETTING: &str = "`insert`, then `persist(PersistMode::SyncData)`, which syncs under the \
    journal's lock; in `values` a batch of 4,096 with that durability";

struct Fjall {
    database: Database,
    keyspace: Keyspace,
}

pub fn open(path: &Path, _: Workload) -> Outcome<Box<dyn Engine>> {
    let database = Database::builder(path).open()?;
    let keyspace = database.keyspace("entries", KeyspaceCreateOptions::default)?;
    Ok(Box::new(Fjall { database, keyspace }))
}

impl Engine for Fjall {
    fn caller(&self) -> Outcome<Box<dyn Caller + '_>> {
        Ok(Box::new(self))
    }

    fn put_stream(&self, puts: &mut dyn Iterator<Item = Put>, window: usize) -> Outcome {
        let mut puts = puts.peekable();
        while puts.peek().is_some() {
            let mut batch = self.database.batch().durability(Some(PersistMode::SyncData));
            for put in puts.by_ref().take(window) {
                batch.insert(&self.keyspace, put.key.to_be_bytes(), put.value);
            }
            batch.commit()?;
        }
        Ok(())
    }

    fn readable(&self) -> Option<&dyn Readable> {
        Some(self)
    }
}

impl Caller for &Fjall {
    fn put(&mut self, put: Put) -> Outcome {
        self.keyspace.insert(put.key.to_be_bytes(), put.value)?;
        self.database.persist(PersistMode::SyncData)?;
        Ok(())
    }
}

impl Readable for Fjall {
    fn read_each(&self, keys: &[u64]) -> Outcome<u64> {
        sum(keys, |key| Ok(self.keyspace.get(key.to_be_bytes())?.map(|value| digest(&value))))
    }

    fn read_pinned(&self, keys: &[u64]) -> Outcome<Option<u64>> {
        let snapshot = self.database.snapshot();
        let get = |key: u64| {
            let value = snapshot.get(&self.keyspace, key.to_be_bytes())?;
            Ok(value.map(|value| digest(&value)))
        };
        sum(keys, get).map(Some)
    }
}
