//! Durable commands per second beside their floor: a raw write and `fdatasync` of as many bytes
//! into a zero-filled file. Everything runs on the disk of the target directory, not on /tmp,
//! which may be memory.

mod ledger;

use std::collections::VecDeque;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ledger::{Add, Ledger, random_key};
use prevalence::{Command, Context, Database, Model};
use serde::{Deserialize, Serialize};

#[derive(Clone, Default, Serialize, Deserialize)]
struct Counter(u64);

impl Model for Counter {
    type Event = ();
}

#[derive(Serialize, Deserialize)]
struct Increment(u64);

impl Command<Counter> for Increment {
    type Output = u64;
    type Rejection = std::convert::Infallible;

    fn apply(
        self,
        counter: &mut Counter,
        _: &mut Context<'_, Counter>,
    ) -> Result<u64, Self::Rejection> {
        counter.0 = counter.0.wrapping_add(self.0);
        Ok(counter.0)
    }
}

prevalence::commands! { Counter { 1 => Increment } }

const LEDGER_ENTRIES: u64 = 1 << 20;
const IN_FLIGHT: usize = 4096;
/// What one caller's frame takes on disk.
const ONE_FRAME_BYTES: usize = 56;

fn directory() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("the target directory is writable")
}

/// The floor of a lone caller.
fn raw_write_and_sync(iterations: u64) -> Duration {
    const FILE_BYTES: u64 = 4 << 20;
    let directory = directory();
    let file = File::create_new(directory.path().join("raw")).expect("a new file");
    file.write_all_at(&vec![0; FILE_BYTES as usize], 0).expect("zeros");
    file.sync_all().expect("sync");
    let began = Instant::now();
    for index in 0..iterations {
        let position = index * ONE_FRAME_BYTES as u64 % FILE_BYTES;
        file.write_all_at(&[7; ONE_FRAME_BYTES], position).expect("write");
        file.sync_data().expect("sync");
    }
    began.elapsed()
}

fn blocked_callers(callers: u64, iterations: u64) -> Duration {
    let directory = directory();
    let database = Database::<Counter>::open(directory.path()).expect("open");
    let each = iterations.div_ceil(callers);
    let began = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..callers {
            scope.spawn(|| {
                for _ in 0..each {
                    database.execute(Increment(1)).expect("accepted");
                }
            });
        }
    });
    began.elapsed().mul_f64(iterations as f64 / (each * callers) as f64)
}

fn pipelined<M, C>(database: &Database<M>, iterations: u64, command: impl Fn(u64) -> C) -> Duration
where
    M: Model,
    C: prevalence::__private::Registered<M>,
    C::Output: std::fmt::Debug,
    C::Rejection: std::fmt::Debug,
{
    let mut pending = VecDeque::with_capacity(IN_FLIGHT);
    let began = Instant::now();
    for index in 0..iterations {
        if pending.len() == IN_FLIGHT {
            let oldest: prevalence::Pending<_, _> = pending.pop_front().expect("not empty");
            oldest.wait().expect("accepted");
        }
        pending.push_back(database.submit(command(index)).expect("queued"));
    }
    for pending in pending {
        pending.wait().expect("accepted");
    }
    began.elapsed()
}

fn ledger() -> Ledger {
    Ledger((0..LEDGER_ENTRIES).map(|key| (key, 1)).collect())
}

fn throughput(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("throughput");
    group.throughput(Throughput::Elements(1)).sample_size(10);
    group.bench_function("floor: raw write and fdatasync", |bencher| {
        bencher.iter_custom(raw_write_and_sync);
    });
    for callers in [1, 8, 64] {
        group.bench_function(format!("{callers} blocked callers"), |bencher| {
            bencher.iter_custom(|iterations| blocked_callers(callers, iterations));
        });
    }
    group.bench_function("1 pipelined caller, counter", |bencher| {
        let directory = directory();
        let database = Database::<Counter>::open(directory.path()).expect("open");
        bencher.iter_custom(|iterations| pipelined(&database, iterations, Increment));
    });
    group.bench_function("floor: bare ledger, a clone per 1,024 commands", |bencher| {
        let mut model = ledger();
        let mut frozen = model.clone();
        bencher.iter_custom(|iterations| {
            let began = Instant::now();
            for index in 0..iterations {
                *model.0.entry(random_key(index, LEDGER_ENTRIES)).or_default() += 1;
                if index % 1024 == 0 {
                    frozen = model.clone();
                }
            }
            began.elapsed()
        });
        drop(frozen);
    });
    group.bench_function("1 pipelined caller, 1 M ledger", |bencher| {
        let directory = directory();
        let builder = Database::<Ledger>::builder().initial(ledger());
        let database = builder.open(directory.path()).expect("open");
        bencher.iter_custom(|iterations| {
            pipelined(&database, iterations, |index| Add(random_key(index, LEDGER_ENTRIES), 1))
        });
    });
    group.finish();
}

criterion_group!(benches, throughput);
criterion_main!(benches);
