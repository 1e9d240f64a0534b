//! LMDB through heed.

use std::path::Path;

use heed::byteorder::NativeEndian;
use heed::types::{Bytes, U64};
use heed::{CommitOrAbort, Database, Env, EnvOpenOptions, IntegerComparator};

use crate::engine::{Caller, Engine, Outcome, Readable, Workload, sum};
use crate::load::{Put, digest};

pub const SETTING: &str = "through heed, `IntegerComparator`, default flags: data is synced, then \
    the meta page is written to an `O_DSYNC` file; a transaction per put, in `values` per 4,096";

/// Room for a million entries, including pages that are temporarily free.
const MAP_BYTES: usize = 4 << 30;

type Entries = Database<'static, U64<NativeEndian>, Bytes, IntegerComparator>;

struct Lmdb {
    env: Env,
    entries: Entries,
}

pub fn open(path: &Path, _: Workload) -> Outcome<Box<dyn Engine>> {
    // SAFETY: the directory was made only for this process, so no other process changes the mapped
    // file.
    let env = unsafe { EnvOpenOptions::new().map_size(MAP_BYTES).max_dbs(1).open(path)? };
    let entries = env
        .create_databases_and_commit(env.write_txn()?, |opener, transaction| {
            let options = opener.database_options().types::<U64<NativeEndian>, Bytes>();
            let options = options.key_comparator::<IntegerComparator>();
            let created = { options }.name("entries").create(transaction);
            created.map(CommitOrAbort::<_, ()>::Commit)
        })?
        .unwrap_commit();
    Ok(Box::new(Lmdb { env, entries }))
}

impl Engine for Lmdb {
    fn caller(&self) -> Outcome<Box<dyn Caller + '_>> {
        Ok(Box::new(self))
    }

    fn put_stream(&self, puts: &mut dyn Iterator<Item = Put>, window: usize) -> Outcome {
        let mut puts = puts.peekable();
        while puts.peek().is_some() {
            let mut transaction = self.env.write_txn()?;
            for put in puts.by_ref().take(window) {
                self.entries.put(&mut transaction, &put.key, put.value)?;
            }
            transaction.commit()?;
        }
        Ok(())
    }

    fn readable(&self) -> Option<&dyn Readable> {
        Some(self)
    }
}

impl Caller for &Lmdb {
    fn put(&mut self, put: Put) -> Outcome {
        self.put_stream(&mut std::iter::once(put), 1)
    }
}

impl Readable for Lmdb {
    fn read_each(&self, keys: &[u64]) -> Outcome<u64> {
        sum(keys, |key| {
            let transaction = self.env.read_txn()?;
            Ok(self.entries.get(&transaction, &key)?.map(digest))
        })
    }

    fn read_pinned(&self, keys: &[u64]) -> Outcome<Option<u64>> {
        let transaction = self.env.read_txn()?;
        sum(keys, |key| Ok(self.entries.get(&transaction, &key)?.map(digest))).map(Some)
    }
}
