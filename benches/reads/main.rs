//! Measures reads of a ledger through `query` and through a held view, alone and beside a writer at
//! full speed. Each case alternates with a floor: the bare map, or the map in a `RwLock`.
//!
//! With a writer there are more busy threads than cores on a small machine, and readers get only a
//! part of a core. So the bench compares the processor time of the readers themselves. It leaves
//! out waiting for a core, but includes the effect of the caches and the memory that all threads
//! share. To show how large that effect is on a busy machine, a map that is never written is read
//! beside the same writer.
//!
//! `cargo bench --bench reads -- FILTER` runs the cases whose names contain FILTER; `-- --test`
//! runs small forms of all of them. Entries: `PREVALENCE_BENCH_ENTRIES` (default 2^20).

#[path = "../ledger/mod.rs"]
mod ledger;
#[path = "../support/mod.rs"]
mod support;

mod operation;
mod writer;

use std::ops::Range;
use std::sync::{OnceLock, RwLock};
use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput};
use ledger::{Ledger, random_key};
use operation::Operation;
use prevalence::{Database, SnapshotPolicy};
use support::comparison::{Comparison, Target, configure, no_floor};
use support::run::Run;
use support::{directory, is_short, setting};
use writer::Writer;

/// The time that a case shares with its floor.
const TIME: Duration = Duration::from_secs(4);
/// Many short samples, because a slow phase of the machine lasts longer than a sample.
const SAMPLES: usize = 30;
const READS_PER_VIEW: u64 = 1_000;
/// The default of `max_batch_commands`.
const COMMANDS_PER_CLONE: u64 = 1024;

/// How readers access the map.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Access {
    Query,
    /// One view, which is held until all reads are done, and freed afterwards.
    HeldView,
    /// A new view for every 1,000 reads. The reader frees it.
    RenewedView,
    Bare,
    /// The bare map, but changed before in the way of an engine: with a clone for each 1,024
    /// updates.
    Churned,
    Lock,
}

/// One case: what is read, how, by how many threads, and beside which writer.
#[derive(Clone, Copy)]
struct Case<'a> {
    operation: Operation,
    readers: u64,
    access: Access,
    writer: Writer<'a>,
}

impl Case<'_> {
    fn name(&self) -> String {
        let access = match self.access {
            Access::Query => "query",
            Access::HeldView => "held view",
            Access::RenewedView => "view per 1,000",
            Access::Bare => "bare map",
            Access::Churned => "churned bare map",
            Access::Lock => "RwLock",
        };
        let writer = self.writer.name();
        let threads = if self.readers == 1 { "1 thread" } else { "2 threads" };
        format!("{}, {threads}, {access}{writer}", self.operation.name())
    }
}

/// The map that is read.
struct Maps<'a> {
    entries: u64,
    database: &'a Database<Ledger>,
    bare: &'a Ledger,
    churned: OnceLock<Ledger>,
    lock: &'a RwLock<Ledger>,
}

impl Maps<'_> {
    fn run(&self, case: Case<'_>, reads: u64) -> Run {
        let each = reads.div_ceil(case.readers);
        let held = (case.access == Access::HeldView).then(|| self.database.view());
        if case.access == Access::Churned {
            self.churned.get_or_init(|| churned(self.entries));
        }
        case.writer.beside(self.entries, || {
            Run::of(case.readers, each, |reader| {
                let reads = reader * each..(reader + 1) * each;
                match case.operation.is_chained() {
                    true => self.read::<true>(case, held.as_deref(), reads),
                    false => self.read::<false>(case, held.as_deref(), reads),
                }
                Vec::new()
            })
        })
    }

    /// A constant says whether reads are chained, because a condition would itself delay the next
    /// key.
    fn read<const CHAINED: bool>(&self, case: Case<'_>, held: Option<&Ledger>, reads: Range<u64>) {
        let &Self { entries, database, bare, lock, .. } = self;
        let one = |ledger: &Ledger, last, index| {
            let last = if CHAINED { last } else { 0 };
            case.operation.read(ledger, last, index, entries)
        };
        match case.access {
            Access::Query => {
                reads.fold(0, |last, index| database.query(|ledger| one(ledger, last, index)))
            }
            Access::HeldView => {
                let held = held.expect("pinned before the readers started");
                reads.fold(0, |last, index| one(held, last, index))
            }
            Access::RenewedView => {
                let mut view = database.view();
                reads.fold(0, |last, index| {
                    if index.is_multiple_of(READS_PER_VIEW) {
                        view = database.view();
                    }
                    one(&view, last, index)
                })
            }
            Access::Bare => reads.fold(0, |last, index| one(bare, last, index)),
            Access::Churned => {
                let churned = self.churned.get().expect("made before the readers started");
                reads.fold(0, |last, index| one(churned, last, index))
            }
            Access::Lock => {
                let locked = || lock.read().expect("no panic");
                reads.fold(0, |last, index| one(&locked(), last, index))
            }
        };
    }
}

/// Replaces every node a few times, as the engine's writer does.
fn churned(entries: u64) -> Ledger {
    let mut ledger = Ledger::of(entries);
    let mut version = ledger.clone();
    for index in 0..4 * entries {
        ledger.add(random_key(index, entries), 1);
        if index.is_multiple_of(COMMANDS_PER_CLONE) {
            version = ledger.clone();
        }
    }
    drop(version);
    ledger
}

struct Reads<'a> {
    group: BenchmarkGroup<'a, WallTime>,
    comparison: Comparison,
    maps: Maps<'a>,
}

impl<'a> Reads<'a> {
    fn measure(
        &mut self,
        case: Case<'a>,
        floor: Case<'a>,
        floor_name: &'static str,
        target: Target,
    ) {
        let Self { group, comparison, maps } = self;
        let floor = Some((floor_name, |reads| maps.run(floor, reads)));
        comparison.measure(group, case.name(), Some(target), |reads| maps.run(case, reads), floor);
    }

    /// Measures before any write, so that all maps are in memory in the order in which they were
    /// built.
    fn alone(&mut self, operation: Operation, readers: u64) {
        let of = |access| Case { operation, readers, access, writer: Writer::Nobody };
        let judged = match operation {
            Operation::Length | Operation::Point => Target::ProcessorBeyondAtMost(25.0),
            _ => Target::Processor,
        };
        self.measure(of(Access::Query), of(Access::Bare), "the bare map", judged);
        self.measure(of(Access::HeldView), of(Access::Bare), "the bare map", judged);
        self.measure(of(Access::Lock), of(Access::Bare), "the bare map", Target::Processor);
    }

    fn beside_a_writer(&mut self, operation: Operation, readers: u64) {
        let Maps { database, lock, .. } = self.maps;
        let of = |access, writer| Case { operation, readers, access, writer };
        let (nobody, engine) = (Writer::Nobody, Writer::Engine(database));
        let cases = [
            (Access::Query, Target::ProcessorAtMost(1.1)),
            (Access::HeldView, Target::ProcessorAtMost(1.1)),
            (Access::RenewedView, Target::Processor),
            (Access::Bare, Target::Processor),
        ];
        for (access, target) in cases {
            self.measure(of(access, engine), of(access, nobody), "the same, alone", target);
        }
        let Self { group, comparison, maps } = self;
        for writer in [Writer::lock_per_command(lock), Writer::lock_per_batch(lock)] {
            let case = of(Access::Lock, writer);
            let run = |reads| maps.run(case, reads);
            comparison.measure(group, case.name(), None, run, no_floor());
        }
    }

    /// Measures the effect of copy-on-write on the places of the nodes in memory, with any engine.
    fn after_a_writer(&mut self, operation: Operation) {
        let of = |access| Case { operation, readers: 1, access, writer: Writer::Nobody };
        let name = "the bare map as built";
        self.measure(of(Access::Churned), of(Access::Bare), name, Target::Processor);
    }
}

fn main() {
    let entries = setting("PREVALENCE_BENCH_ENTRIES", if is_short() { 1 << 12 } else { 1 << 20 });
    let directory = directory();
    let builder = Database::<Ledger>::builder().snapshots(SnapshotPolicy::manual());
    let database = builder.initial(Ledger::of(entries)).open(directory.path()).expect("open");
    let (bare, lock) = (Ledger::of(entries), RwLock::new(Ledger::of(entries)));
    let churned = OnceLock::new();
    let maps = Maps { entries, database: &database, bare: &bare, churned, lock: &lock };

    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("reads");
    group.throughput(Throughput::Elements(1));
    configure(&mut group, SAMPLES, TIME);
    let mut reads = Reads { group, comparison: Comparison::of(SAMPLES), maps };
    let cases = [
        (Operation::Point, 1),
        (Operation::Point, 2),
        (Operation::Scan, 1),
        (Operation::Scan, 2),
        (Operation::Sum, 1),
    ];
    [1, 2].into_iter().for_each(|readers| reads.alone(Operation::Length, readers));
    reads.alone(Operation::OverlappingPoint, 1);
    cases.iter().for_each(|&(operation, readers)| reads.alone(operation, readers));
    cases.iter().for_each(|&(operation, readers)| reads.beside_a_writer(operation, readers));
    [Operation::Point, Operation::Scan].into_iter().for_each(|of| reads.after_a_writer(of));
    reads.group.finish();
    reads.comparison.print();
}
