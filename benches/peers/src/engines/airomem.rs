//! airomem, the other library for system prevalence. Its commit is a tokio task and its file is a
//! tokio file, so every put crosses threads. It really calls `fdatasync` (`File::sync_data`), but
//! never syncs its directory: after a power cut a whole new journal file may be missing.

use std::collections::HashMap;
use std::path::Path;

use airomem::{JournalFlushPolicy, JsonSerializer, JsonStore, MergeTx, Store, StoreOptions, Tx};
use serde::{Deserialize, Serialize};
use tokio::runtime::Runtime;

use crate::engine::{Caller, Engine, Outcome, Readable, WINDOW, Workload, sum};
use crate::load::{self, digest};

pub const SETTING: &str = "`JsonStore` with a `HashMap<u64, String>`, `fdatasync` in every commit \
    (its default; it never syncs its directory); in `values` commits without, and \
    `flush_and_sync` per 4,096";
pub const BATCH_SETTING: &str = "the same, one transaction of 4,096 (`thousands`: 1,000) puts";

#[derive(Default, Serialize, Deserialize)]
struct Entries(HashMap<u64, String>);

#[derive(Serialize, Deserialize)]
struct Insert(u64, String);

impl Tx<Entries> for Insert {
    fn execute(self, entries: &mut Entries) {
        entries.0.insert(self.0, self.1);
    }
}

#[derive(Serialize, Deserialize)]
struct InsertAll(Vec<(u64, String)>);

impl Tx<Entries> for InsertAll {
    fn execute(self, entries: &mut Entries) {
        entries.0.extend(self.0);
    }
}

MergeTx!(EntriesTx<Entries> = Insert | InsertAll);

struct Airomem {
    runtime: Runtime,
    store: JsonStore<Entries, EntriesTx>,
    batched: bool,
}

struct AiromemCaller<'a>(&'a Runtime, JsonStore<Entries, EntriesTx>);

/// Makes each put a separate transaction.
pub fn each(path: &Path, workload: Workload) -> Outcome<Box<dyn Engine>> {
    let options = StoreOptions::default();
    let options = match workload {
        Workload::Lone | Workload::Blocked => options,
        Workload::Values | Workload::Thousands | Workload::Reads => {
            // A drop would need tokio. Everything has been synced before.
            let options = options.flush_synchronously_on_drop(false);
            options.journal_flush_policy(JournalFlushPolicy::Manually)
        }
    };
    open(path, options, false)
}

/// Makes 4,096 puts in one transaction.
pub fn batched(path: &Path, _: Workload) -> Outcome<Box<dyn Engine>> {
    open(path, StoreOptions::default(), true)
}

fn open(path: &Path, options: StoreOptions, batched: bool) -> Outcome<Box<dyn Engine>> {
    let runtime = Runtime::new()?;
    let store = runtime.block_on(Store::open(JsonSerializer, options, path))?;
    Ok(Box::new(Airomem { runtime, store, batched }))
}

fn entry(put: load::Put) -> Outcome<(u64, String)> {
    Ok((put.key, std::str::from_utf8(put.value)?.to_owned()))
}

impl Airomem {
    /// Makes one transaction of each window.
    fn merge(&self, puts: &mut dyn Iterator<Item = load::Put>, window: usize) -> Outcome {
        let mut store = self.store.clone();
        let mut puts = puts.peekable();
        self.runtime.block_on(async {
            while puts.peek().is_some() {
                let entries = puts.by_ref().take(window).map(entry);
                store.commit(InsertAll(entries.collect::<Outcome<_>>()?)).await?;
            }
            Ok(())
        })
    }
}

impl Engine for Airomem {
    fn caller(&self) -> Outcome<Box<dyn Caller + '_>> {
        Ok(Box::new(AiromemCaller(&self.runtime, self.store.clone())))
    }

    fn put_stream(&self, puts: &mut dyn Iterator<Item = load::Put>, window: usize) -> Outcome {
        if self.batched {
            return self.merge(puts, window);
        }
        let mut store = self.store.clone();
        let mut puts = puts.peekable();
        self.runtime.block_on(async {
            while puts.peek().is_some() {
                for put in puts.by_ref().take(window) {
                    let (key, value) = entry(put)?;
                    store.commit(Insert(key, value)).await?;
                }
                store.flush_and_sync().await?;
            }
            Ok(())
        })
    }

    fn preload(&self, puts: &mut dyn Iterator<Item = load::Put>) -> Outcome {
        self.merge(puts, WINDOW)
    }

    fn readable(&self) -> Option<&dyn Readable> {
        Some(self)
    }
}

impl Caller for AiromemCaller<'_> {
    fn put(&mut self, put: load::Put) -> Outcome {
        let (key, value) = entry(put)?;
        Ok(self.0.block_on(self.1.commit(Insert(key, value)))?)
    }
}

impl Readable for Airomem {
    fn read_each(&self, keys: &[u64]) -> Outcome<u64> {
        self.runtime.block_on(async {
            let mut total = 0_u64;
            for key in keys {
                let entries = self.store.query().await?;
                let value = entries.0.get(key).ok_or_else(|| format!("key {key} is missing"))?;
                total = total.wrapping_add(digest(value.as_bytes()));
            }
            Ok(total)
        })
    }

    fn read_pinned(&self, keys: &[u64]) -> Outcome<Option<u64>> {
        let entries = self.runtime.block_on(self.store.query())?;
        let get = |key| Ok(entries.0.get(&key).map(|value| digest(value.as_bytes())));
        sum(keys, get).map(Some)
    }
}
