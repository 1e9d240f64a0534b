//! Measures the collections beside `imbl` and a `BTreeMap` in place: puts with and without
//! versions, reads, memory, and the drop of an old version.
//!
//! Each case runs its maps in turns, several rounds, and takes the median of the processor time of
//! the measuring thread. `cargo bench --bench collections -- FILTER` runs the cases whose names
//! contain FILTER; `-- --test` runs small forms. Entries: `PREVALENCE_BENCH_ENTRIES` (default
//! 1,000,000).

mod contestant;
#[path = "../ledger/mod.rs"]
mod ledger;
#[path = "../support/mod.rs"]
mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::{BTreeMap, VecDeque};
use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use contestant::{Bytes, Contestant, Value};
use imbl::OrdMap;
use ledger::random_key;
use prevalence::collections::Map;
use serde::{Serialize, de::DeserializeOwned};
use support::{is_short, setting};

/// How many old versions live on, as with the recent versions of a database.
const RING: usize = 64;

/// Counts the bytes that are allocated, for the figures of memory.
struct Counting;

static ALLOCATED_BYTES: AtomicUsize = AtomicUsize::new(0);

// SAFETY: it calls the system's allocator, with what it was given.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATED_BYTES.fetch_add(layout.size(), Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        ALLOCATED_BYTES.fetch_sub(layout.size(), Relaxed);
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The processor time of this thread.
fn processor_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(
        u64::try_from(time.tv_sec).expect("time goes on"),
        u32::try_from(time.tv_nsec).expect("less than a second"),
    )
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_unstable_by(f64::total_cmp);
    figures[figures.len() / 2]
}

struct Bench {
    entries: u64,
    rounds: usize,
    filter: Option<String>,
}

/// One map in one case: its name, and what one round takes, in ns for each operation.
type Runner<'a> = (&'static str, Box<dyn FnMut() -> f64 + 'a>);

impl Bench {
    /// Runs the maps in turns, and prints medians and ratios to the first.
    fn case(&self, name: &str, mut runners: Vec<Runner<'_>>) {
        if !self.runs(name) {
            return;
        }
        let mut figures = vec![Vec::new(); runners.len()];
        for _ in 0..self.rounds {
            for ((_, run), figures) in runners.iter_mut().zip(&mut figures) {
                figures.push(run());
            }
        }
        let medians: Vec<f64> = figures.into_iter().map(median).collect();
        print!("{name:<44}");
        for ((name, _), figure) in runners.iter().zip(&medians) {
            print!("  {name} {figure:.1} ns ({:.2})", medians[0] / figure);
        }
        println!();
    }

    fn runs(&self, name: &str) -> bool {
        self.filter.as_ref().is_none_or(|filter| name.contains(filter))
    }

    fn of_values<V: Value>(&self, values: &str) {
        let entries = self.entries;
        let puts = entries / 4;
        let load = || (0..entries).map(|key| (key, V::of(key)));
        for versions_every in [0, 64, 1024] {
            let name = match versions_every {
                0 => format!("put in place, {values}"),
                every => format!("put, a clone per {every}, ring of {RING}, {values}"),
            };
            if !self.runs(&name) {
                continue;
            }
            let mut ours = Versions::of(Map::<u64, V>::load(load()), versions_every);
            let mut imbl = Versions::of(OrdMap::<u64, V>::load(load()), versions_every);
            let mut std = Versions::of(BTreeMap::<u64, V>::load(load()), 0);
            self.case(
                &name,
                vec![
                    runner::<Map<u64, V>>(|| ours.put(puts, entries)),
                    runner::<OrdMap<u64, V>>(|| imbl.put(puts, entries)),
                    runner::<BTreeMap<u64, V>>(|| std.put(puts, entries)),
                ],
            );
            if !ours.drops.is_empty() {
                println!(
                    "  drop of an old version: {:.1} µs, imbl {:.1} µs",
                    median(std::mem::take(&mut ours.drops)),
                    median(std::mem::take(&mut imbl.drops))
                );
            }
        }
        self.reads::<V>(values);
        if self.runs("memory") {
            println!(
                "memory, {values}: loaded {:.1}, grown {:.1} B an entry; imbl {:.1}, {:.1}; BTreeMap {:.1}, {:.1}",
                bytes::<Map<u64, V>>(entries, false),
                bytes::<Map<u64, V>>(entries, true),
                bytes::<OrdMap<u64, V>>(entries, false),
                bytes::<OrdMap<u64, V>>(entries, true),
                bytes::<BTreeMap<u64, V>>(entries, false),
                bytes::<BTreeMap<u64, V>>(entries, true),
            );
        }
    }

    fn reads<V: Value>(&self, values: &str) {
        let entries = self.entries;
        let load = || (0..entries).map(|key| (key, V::of(key)));
        let (ours, imbl, std) = (
            Map::<u64, V>::load(load()),
            OrdMap::<u64, V>::load(load()),
            BTreeMap::<u64, V>::load(load()),
        );
        self.case(
            &format!("get, {values}"),
            vec![
                runner::<Map<u64, V>>(|| get(&ours, entries)),
                runner::<OrdMap<u64, V>>(|| get(&imbl, entries)),
                runner::<BTreeMap<u64, V>>(|| get(&std, entries)),
            ],
        );
        self.case(
            &format!("iterate, {values}"),
            vec![
                runner::<Map<u64, V>>(|| sum(&ours, entries)),
                runner::<OrdMap<u64, V>>(|| sum(&imbl, entries)),
                runner::<BTreeMap<u64, V>>(|| sum(&std, entries)),
            ],
        );
    }

    /// Decodes a snapshot's entries: into maps, and into a `Vec` of pairs as the floor.
    fn decoding<V: Value + Send + Sync + Serialize + DeserializeOwned>(&self, values: &str) {
        let name = format!("decode, {values}");
        if !self.runs(&name) {
            return;
        }
        let config = bincode::config::standard();
        let pairs: Vec<(u64, V)> = (0..self.entries).map(|key| (key, V::of(key))).collect();
        let bytes = bincode::serde::encode_to_vec(&pairs, config).expect("encodes");
        let entries = self.entries;
        self.case(
            &name,
            vec![
                runner::<Map<u64, V>>(|| decode::<Map<u64, V>>(&bytes, entries)),
                runner::<OrdMap<u64, V>>(|| decode::<OrdMap<u64, V>>(&bytes, entries)),
                ("Vec of pairs", Box::new(|| decode::<Vec<(u64, V)>>(&bytes, entries))),
            ],
        );
    }
}

fn runner<'a, M: Contestant>(run: impl FnMut() -> f64 + 'a) -> Runner<'a> {
    (M::NAME, Box::new(run))
}

/// A map with its old versions.
struct Versions<M> {
    map: M,
    ring: VecDeque<M>,
    every: u64,
    next: u64,
    /// What each drop of an old version took, in µs.
    drops: Vec<f64>,
}

impl<M: Contestant> Versions<M> {
    fn of(map: M, every: u64) -> Self {
        Self { map, ring: VecDeque::new(), every, next: 0, drops: Vec::new() }
    }

    /// Returns the ns for one put.
    fn put(&mut self, puts: u64, entries: u64) -> f64 {
        let began = processor_time();
        for index in self.next..self.next + puts {
            let key = random_key(index, entries);
            self.map.put(key, M::Value::of(index));
            if self.every > 0 && index % self.every == 0 {
                self.ring.push_back(self.map.version());
                if self.ring.len() > RING {
                    let old = self.ring.pop_front();
                    let began = std::time::Instant::now();
                    drop(old);
                    self.drops.push(began.elapsed().as_secs_f64() * 1e6);
                }
            }
        }
        self.next += puts;
        per_operation(processor_time() - began, puts)
    }
}

/// Returns the ns for one entry.
fn decode<T: DeserializeOwned>(bytes: &[u8], entries: u64) -> f64 {
    let began = processor_time();
    let decoded = bincode::serde::decode_from_slice(bytes, bincode::config::standard());
    let took = processor_time() - began;
    let (value, _): (T, usize) = decoded.expect("the bytes were just encoded");
    drop(black_box(value));
    per_operation(took, entries)
}

#[allow(clippy::cast_precision_loss)]
fn per_operation(took: Duration, operations: u64) -> f64 {
    took.as_secs_f64() * 1e9 / operations as f64
}

fn get<M: Contestant>(map: &M, entries: u64) -> f64 {
    let began = processor_time();
    let mut sum = 0_u64;
    // A key depends on the value before it, so reads do not overlap.
    for index in 0..entries / 4 {
        let key = random_key(index ^ (sum & 1), entries);
        sum = sum.wrapping_add(map.get(key).expect("loaded").number());
    }
    black_box(sum);
    per_operation(processor_time() - began, entries / 4)
}

fn sum<M: Contestant>(map: &M, entries: u64) -> f64 {
    let began = processor_time();
    black_box(map.sum());
    per_operation(processor_time() - began, entries)
}

/// Returns the bytes for one entry: loaded in order, or grown in random order.
#[allow(clippy::cast_precision_loss)]
fn bytes<M: Contestant>(entries: u64, grown: bool) -> f64 {
    let before = ALLOCATED_BYTES.load(Relaxed);
    let map = if grown {
        let mut map = M::empty();
        for index in 0..entries {
            // An odd multiplier is a permutation of all u64.
            map.put(index.wrapping_mul(0x9e37_79b9_7f4a_7c15), M::Value::of(index));
        }
        map
    } else {
        M::load((0..entries).map(|key| (key, M::Value::of(key))))
    };
    let after = ALLOCATED_BYTES.load(Relaxed);
    drop(black_box(map));
    (after - before) as f64 / entries as f64
}

fn main() {
    let bench = Bench {
        entries: setting("PREVALENCE_BENCH_ENTRIES", if is_short() { 1 << 12 } else { 1_000_000 }),
        rounds: if is_short() { 1 } else { 7 },
        filter: std::env::args().skip(1).find(|word| !word.starts_with('-')),
    };
    bench.of_values::<u64>("u64");
    bench.of_values::<Bytes>("100 bytes");
    bench.decoding::<u64>("u64");
    bench.decoding::<Bytes>("100 bytes");
}
