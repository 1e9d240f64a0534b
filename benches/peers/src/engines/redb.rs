//! redb.

use std::path::Path;

use redb::{Database, ReadableDatabase, TableDefinition};

use crate::engine::{Caller, Engine, Outcome, Readable, Workload, sum};
use crate::load::{Put, digest};

pub const SETTING: &str = "one write transaction per put, in `values` per 4,096, with \
    `Durability::Immediate` (its default); one writer at a time";

const ENTRIES: TableDefinition<u64, &[u8]> = TableDefinition::new("entries");

struct Redb(Database);

pub fn open(path: &Path, _: Workload) -> Outcome<Box<dyn Engine>> {
    let database = Database::create(path.join("entries.redb"))?;
    Ok(Box::new(Redb(database)))
}

impl Engine for Redb {
    fn caller(&self) -> Outcome<Box<dyn Caller + '_>> {
        Ok(Box::new(self))
    }

    fn put_stream(&self, puts: &mut dyn Iterator<Item = Put>, window: usize) -> Outcome {
        let mut puts = puts.peekable();
        while puts.peek().is_some() {
            let mut transaction = self.0.begin_write()?;
            transaction.set_durability(redb::Durability::Immediate)?;
            let mut table = transaction.open_table(ENTRIES)?;
            for put in puts.by_ref().take(window) {
                table.insert(put.key, put.value)?;
            }
            drop(table);
            transaction.commit()?;
        }
        Ok(())
    }

    fn readable(&self) -> Option<&dyn Readable> {
        Some(self)
    }
}

impl Caller for &Redb {
    fn put(&mut self, put: Put) -> Outcome {
        self.put_stream(&mut std::iter::once(put), 1)
    }
}

impl Readable for Redb {
    fn read_each(&self, keys: &[u64]) -> Outcome<u64> {
        sum(keys, |key| {
            let table = self.0.begin_read()?.open_table(ENTRIES)?;
            Ok(table.get(key)?.map(|value| digest(value.value())))
        })
    }

    fn read_pinned(&self, keys: &[u64]) -> Outcome<Option<u64>> {
        let table = self.0.begin_read()?.open_table(ENTRIES)?;
        sum(keys, |key| Ok(table.get(key)?.map(|value| digest(value.value())))).map(Some)
    }
}
