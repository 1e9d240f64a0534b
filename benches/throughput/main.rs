//! Measures durable commands per second and their latency. Each case alternates with its floor: a
//! raw write and `fdatasync` for a single caller, a plain group commit for blocked callers, the
//! bare model for pipelined ones. Everything runs on the disk of the target directory. Only the
//! cases that say so take snapshots.
//!
//! `cargo bench --bench throughput -- FILTER` runs the cases whose names contain FILTER; `--
//! --test` runs small forms of all of them. Entries: `PREVALENCE_BENCH_ENTRIES` (default 2^20).

#[path = "../ledger/mod.rs"]
mod ledger;
#[path = "../support/mod.rs"]
mod support;

mod callers;
mod floors;
mod workload;

use std::time::Duration;

use callers::{Callers, Opened};
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput};
use floors::{Bare, GroupCommit, RawWrites, frame_bytes, record_bytes};
use ledger::Ledger;
use prevalence::SnapshotPolicy;
use support::comparison::{Comparison, Target, configure, no_floor};
use support::{is_short, setting};
use workload::{Counter, Values, Workload};

/// The time that a case shares with its floor.
const TIME: Duration = Duration::from_secs(8);
/// The minimum of criterion.
const SAMPLES: usize = 10;
const BARE: &str = "bare model, a clone per 1,024";

struct Bench<'a> {
    group: BenchmarkGroup<'a, WallTime>,
    comparison: Comparison,
    entries: u64,
}

impl Bench<'_> {
    fn blocked_callers<W: Workload>(&mut self) {
        self.blocked::<W>(1, Target::MedianLatencyAtMost(1.1));
        self.blocked::<W>(8, Target::Rate);
        self.blocked::<W>(64, Target::RateAtLeast(1.3));
    }

    /// Makes the database of a case, only if the filter of the command line selects the case.
    fn case<W: Workload>(
        &self,
        callers: Callers,
        snapshots: SnapshotPolicy,
    ) -> (String, impl FnMut(u64) -> support::run::Run + use<W>) {
        let (entries, mut opened) = (self.entries, None);
        let case = move |commands| {
            let opened = opened.get_or_insert_with(|| {
                let opened = Opened::<W>::open(entries, snapshots);
                let (lone, floor) =
                    (opened.lone_frame_bytes(), frame_bytes(record_bytes::<W>(entries)));
                assert_eq!(lone, floor, "the floors must write what the engine writes");
                opened
            });
            opened.run(callers, commands)
        };
        (format!("{}, {}", callers.name(), W::NAME), case)
    }

    fn blocked<W: Workload>(&mut self, callers: u64, target: Target) {
        let (name, case) = self.case::<W>(Callers::Blocked(callers), SnapshotPolicy::manual());
        let record_bytes = record_bytes::<W>(self.entries);
        let Self { group, comparison, .. } = self;
        if callers == 1 {
            let mut floor = None;
            let floor = |writes| {
                floor.get_or_insert_with(|| RawWrites::new(frame_bytes(record_bytes))).run(writes)
            };
            let floor = Some(("raw write and fdatasync", floor));
            comparison.measure(group, name, Some(target), case, floor);
        } else {
            let mut floor = None;
            let floor = |records| {
                floor.get_or_insert_with(|| GroupCommit::new(record_bytes)).run(callers, records)
            };
            let floor = Some(("plain group commit", floor));
            comparison.measure(group, name, Some(target), case, floor);
        }
    }

    fn pipelined_counter(&mut self, callers: u64) {
        let (name, case) =
            self.case::<Counter>(Callers::Pipelined(callers), SnapshotPolicy::manual());
        let target = Target::Absolute { per_second: 1e6, processor_ns: 700.0 };
        self.comparison.measure(&mut self.group, name, Some(target), case, no_floor());
    }

    fn pipelined<W: Workload>(&mut self, callers: u64, target: Target) {
        let policies =
            [(SnapshotPolicy::manual(), ""), (SnapshotPolicy::default(), ", default snapshots")];
        // With two callers no core is left for a snapshot.
        for (snapshots, remark) in policies.into_iter().take(if callers == 1 { 2 } else { 1 }) {
            let (name, case) = self.case::<W>(Callers::Pipelined(callers), snapshots);
            let (entries, mut floor) = (self.entries, None);
            let floor = move |updates| {
                floor.get_or_insert_with(|| Bare::<W>::new(entries)).run_with_clones(updates)
            };
            let Self { group, comparison, .. } = self;
            let (name, floor) = (name + remark, Some((BARE, floor)));
            comparison.measure(group, name, Some(target), case, floor);
        }
    }

    fn bare_without_clones<W: Workload>(&mut self) {
        let (entries, mut case, mut floor) = (self.entries, None, None);
        let case = move |updates| {
            case.get_or_insert_with(|| Bare::<W>::new(entries)).run_without_clones(updates)
        };
        let floor = move |updates| {
            floor.get_or_insert_with(|| Bare::<W>::new(entries)).run_with_clones(updates)
        };
        let name = format!("bare model without clones, {}", W::NAME);
        let floor = Some((BARE, floor));
        self.comparison.measure(&mut self.group, name, Some(Target::Rate), case, floor);
    }
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("throughput");
    group.throughput(Throughput::Elements(1));
    configure(&mut group, SAMPLES, TIME);
    let entries = setting("PREVALENCE_BENCH_ENTRIES", if is_short() { 1 << 12 } else { 1 << 20 });
    let mut bench = Bench { group, comparison: Comparison::of(SAMPLES), entries };
    bench.blocked_callers::<Counter>();
    bench.blocked_callers::<Ledger>();
    bench.blocked_callers::<Values>();
    for callers in [1, 2] {
        bench.pipelined_counter(callers);
        bench.pipelined::<Ledger>(callers, Target::RateAtLeast(0.7));
        bench.pipelined::<Values>(callers, Target::Rate);
    }
    bench.bare_without_clones::<Ledger>();
    bench.bare_without_clones::<Values>();
    let Bench { group, comparison, .. } = bench;
    group.finish();
    comparison.print();
}
