//! Owns the workloads and their measurements, in the process that runs one. Knows nothing of the
//! other runs.

use std::path::Path;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use crate::engine::{Engine, Outcome, THOUSAND, WINDOW, Workload};
use crate::engines::Entry;
use crate::load::{Expected, Put, Puts, random_keys};
use crate::machine;

/// The sizes and times of the workloads.
#[derive(Clone, Copy)]
pub struct Scale {
    warm_up: Duration,
    time: Duration,
    /// The number of preloaded entries for all workloads but those of small values.
    entries: u64,
    /// The number of puts in `values` and `thousands`, unless `stream_time` ends first.
    stream_puts: usize,
    stream_time: Duration,
}

impl Scale {
    pub const FULL: Self = Self {
        warm_up: Duration::from_millis(300),
        time: Duration::from_millis(1500),
        entries: 1_000_000,
        stream_puts: 256 * WINDOW,
        stream_time: Duration::from_secs(4),
    };

    /// Small sizes, to check that everything works.
    pub const SHORT: Self = Self {
        warm_up: Duration::from_millis(20),
        time: Duration::from_millis(100),
        entries: 20_000,
        stream_puts: 8 * WINDOW,
        stream_time: Duration::from_millis(500),
    };
}

/// One figure, printed by the process that measured it and read by the driver.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Figure {
    PutsPerSecond,
    P50Micros,
    P99Micros,
    P999Micros,
    FlushesPerPut,
    EachReadNanos,
    PinnedReadNanos,
}

impl Figure {
    pub const ALL: [Self; 7] = [
        Self::PutsPerSecond,
        Self::P50Micros,
        Self::P99Micros,
        Self::P999Micros,
        Self::FlushesPerPut,
        Self::EachReadNanos,
        Self::PinnedReadNanos,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::PutsPerSecond => "puts/s",
            Self::P50Micros => "p50 µs",
            Self::P99Micros => "p99 µs",
            Self::P999Micros => "p99.9 µs",
            Self::FlushesPerPut => "disk flushes per put",
            Self::EachReadNanos => "ns per read",
            Self::PinnedReadNanos => "ns per read of one version",
        }
    }
}

pub type Figures = Vec<(Figure, f64)>;

/// The number of callers in `blocked64`.
const CALLERS: u64 = 64;
/// Fewer reads would give only noise if a read takes nanoseconds. More would take minutes if a read
/// uses a socket.
const READS: usize = 10_000;

pub fn run(entry: &Entry, workload: Workload, scale: Scale, directory: &Path) -> Outcome<Figures> {
    let engine = (entry.open)(directory, workload)?;
    match workload {
        Workload::Lone => lone(&*engine, scale, directory),
        Workload::Blocked => blocked(&*engine, scale, directory),
        Workload::Values => values(&*engine, scale, WINDOW, directory),
        Workload::Thousands => values(&*engine, scale, THOUSAND, directory),
        Workload::Reads => reads(&*engine, scale),
    }
}

/// Counts the flushes of the disk, by all processes.
struct Flushes<'a> {
    directory: &'a Path,
    before: Option<u64>,
}

impl<'a> Flushes<'a> {
    fn begin(directory: &'a Path) -> Self {
        Self { directory, before: machine::flushes(directory) }
    }

    fn per_put(&self, puts: u64) -> Option<(Figure, f64)> {
        let flushes = machine::flushes(self.directory)? - self.before?;
        Some((Figure::FlushesPerPut, flushes as f64 / puts as f64))
    }
}

fn lone(engine: &dyn Engine, scale: Scale, directory: &Path) -> Outcome<Figures> {
    let mut caller = engine.caller()?;
    let mut puts = Puts::small(0);
    let warm = Instant::now() + scale.warm_up;
    let mut done = 0;
    while Instant::now() < warm {
        caller.put(puts.next().ok_or("puts are endless")?)?;
        done += 1;
    }
    let flushes = Flushes::begin(directory);
    let mut latencies = Vec::with_capacity(1 << 20);
    let began = Instant::now();
    let mut now = began;
    while now.duration_since(began) < scale.time {
        caller.put(puts.next().ok_or("puts are endless")?)?;
        let after = Instant::now();
        latencies.push(after.duration_since(now));
        now = after;
    }
    let mut figures = vec![(Figure::PutsPerSecond, rate(latencies.len(), now - began))];
    if let Some((figure, flushes)) = flushes.per_put(latencies.len() as u64) {
        // The count is for the whole machine, so there may be more. A few at the ends may be
        // missing.
        if flushes < 0.99 && machine::needs_flushes(directory) {
            return Err(format!("{flushes} flushes per put: it acknowledges too early").into());
        }
        figures.push((figure, flushes));
    }
    latencies.sort_unstable();
    let percentile = |per_mille: usize| {
        let index = (latencies.len() * per_mille / 1000).min(latencies.len() - 1);
        latencies[index].as_secs_f64() * 1e6
    };
    figures.push((Figure::P50Micros, percentile(500)));
    figures.push((Figure::P99Micros, percentile(990)));
    figures.push((Figure::P999Micros, percentile(999)));
    verify(engine, [Puts::small(0).take(done + latencies.len())])?;
    Ok(figures)
}

fn rate(count: usize, time: Duration) -> f64 {
    count as f64 / time.as_secs_f64()
}

/// The result of one caller of `blocked64`.
#[derive(Clone, Copy)]
struct Done {
    all: usize,
    /// The puts that completed between the warm-up and the end.
    measured: usize,
}

fn blocked(engine: &dyn Engine, scale: Scale, directory: &Path) -> Outcome<Figures> {
    let start = Barrier::new(CALLERS as usize + 1);
    let (done, flushes) = std::thread::scope(|scope| {
        let start = &start;
        let callers: Vec<_> = (0..CALLERS)
            .map(|caller| scope.spawn(move || block(engine, scale, caller, start)))
            .collect();
        start.wait();
        std::thread::sleep(scale.warm_up);
        let flushes = Flushes::begin(directory);
        std::thread::sleep(scale.time);
        let flushes = flushes.per_put(1);
        let done = callers
            .into_iter()
            .map(|caller| caller.join().map_err(|_| "a caller panicked")?)
            .collect::<Outcome<Vec<Done>>>();
        (done, flushes)
    });
    let done = done?;
    let measured: usize = done.iter().map(|done| done.measured).sum();
    let mut figures = vec![(Figure::PutsPerSecond, rate(measured, scale.time))];
    figures.extend(flushes.map(|(figure, flushes)| (figure, flushes / measured as f64)));
    verify(
        engine,
        (0..CALLERS).zip(&done).map(|(caller, done)| Puts::small(caller).take(done.all)),
    )?;
    Ok(figures)
}

fn block(engine: &dyn Engine, scale: Scale, caller: u64, start: &Barrier) -> Outcome<Done> {
    let opened = engine.caller();
    // Waits for all callers, also if one failed.
    start.wait();
    let mut callers_own = opened?;
    let began = Instant::now();
    let mut done = Done { all: 0, measured: 0 };
    for put in Puts::small(caller) {
        callers_own.put(put)?;
        done.all += 1;
        let time = began.elapsed();
        if time >= scale.warm_up + scale.time {
            break;
        }
        done.measured += usize::from(time >= scale.warm_up);
    }
    Ok(done)
}

fn preload(engine: &dyn Engine, scale: Scale) -> Outcome {
    engine.preload(&mut Puts::preload().take(scale.entries as usize))
}

/// Makes puts in whole windows until there are enough or the time is over.
struct Bounded<'a> {
    puts: Puts,
    count: &'a mut usize,
    scale: Scale,
    window: usize,
    began: Instant,
}

impl Iterator for Bounded<'_> {
    type Item = Put;

    fn next(&mut self) -> Option<Put> {
        let over = |scale: &Scale| self.began.elapsed() >= scale.stream_time;
        if self.count.is_multiple_of(self.window)
            && (*self.count >= self.scale.stream_puts || over(&self.scale))
        {
            return None;
        }
        *self.count += 1;
        self.puts.next()
    }
}

fn values(engine: &dyn Engine, scale: Scale, window: usize, directory: &Path) -> Outcome<Figures> {
    preload(engine, scale)?;
    let flushes = Flushes::begin(directory);
    let mut count = 0;
    let began = Instant::now();
    let puts = Puts::values(scale.entries);
    engine.put_stream(&mut Bounded { puts, count: &mut count, scale, window, began }, window)?;
    let mut figures = vec![(Figure::PutsPerSecond, rate(count, began.elapsed()))];
    figures.extend(flushes.per_put(count as u64));
    let preloaded = Puts::preload().take(scale.entries as usize);
    verify(engine, [preloaded, Puts::values(scale.entries).take(count)])?;
    Ok(figures)
}

fn reads(engine: &dyn Engine, scale: Scale) -> Outcome<Figures> {
    preload(engine, scale)?;
    let readable = engine.readable().ok_or("nothing can be read here")?;
    let mut expected = Expected::default();
    expected.after(Puts::preload().take(scale.entries as usize));
    let (mut each, mut pinned) = (Duration::ZERO, Some(Duration::ZERO));
    let (mut rounds, mut seed) = (0_u32, 3);
    let began = Instant::now();
    while began.elapsed() < scale.time || rounds == 0 {
        let mut keys = random_keys(seed, READS, scale.entries);
        let round = Instant::now();
        let found = readable.read_each(&keys)?;
        each += round.elapsed();
        equal(found, expected.digest(&keys))?;
        keys = random_keys(seed + 1, READS, scale.entries);
        let round = Instant::now();
        let found = readable.read_pinned(&keys)?;
        let time = round.elapsed();
        pinned = pinned.and_then(|sum| found.map(|_| sum + time));
        found.map_or(Ok(()), |found| equal(found, expected.digest(&keys)))?;
        (rounds, seed) = (rounds + 1, seed + 2);
    }
    let nanos = |time: Duration| time.as_secs_f64() * 1e9 / f64::from(rounds) / READS as f64;
    let mut figures = vec![(Figure::EachReadNanos, nanos(each))];
    figures.extend(pinned.map(|pinned| (Figure::PinnedReadNanos, nanos(pinned))));
    Ok(figures)
}

/// Reads back the entries, if the engine can be read. Limits the number of keys so that a server
/// answers in a short time.
fn verify<I: Iterator<Item = Put>>(
    engine: &dyn Engine,
    puts: impl IntoIterator<Item = I>,
) -> Outcome {
    let Some(readable) = engine.readable() else { return Ok(()) };
    let mut expected = Expected::default();
    puts.into_iter().for_each(|puts| expected.after(puts));
    let mut keys = expected.keys();
    keys.truncate(READS);
    equal(readable.read_each(&keys)?, expected.digest(&keys))
}

fn equal(found: u64, expected: u64) -> Outcome {
    if found == expected {
        return Ok(());
    }
    Err(format!("what is stored has digest {found:x}, but what was put has {expected:x}").into())
}
