//! The result of one run: operations, time, processor time and latencies.

use std::sync::Barrier;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// One measured run.
#[derive(Default)]
pub struct Run {
    pub operations: u64,
    pub elapsed: Duration,
    /// User and system time of the whole process.
    pub processor: Duration,
    /// User and system time of only the calling threads.
    pub callers_processor: Duration,
    /// The latencies of all operations, or of some at regular intervals.
    pub latencies: Vec<Duration>,
}

impl Run {
    /// Runs `body(caller)` on `callers` threads. `body` returns the latencies that it measured. The
    /// start of the threads is not timed.
    pub fn of(
        callers: u64,
        operations_each: u64,
        body: impl Fn(u64) -> Vec<Duration> + Sync,
    ) -> Self {
        let start = Barrier::new(usize::try_from(callers).expect("a few") + 1);
        std::thread::scope(|scope| {
            let caller = |caller| {
                let (start, body) = (&start, &body);
                scope.spawn(move || {
                    start.wait();
                    let processor = thread_time();
                    let latencies = body(caller);
                    (latencies, thread_time().saturating_sub(processor))
                })
            };
            let threads: Vec<_> = (0..callers).map(caller).collect();
            start.wait();
            let (began, processor) = (Instant::now(), processor_time());
            let mut run = Self { operations: callers * operations_each, ..Self::default() };
            for thread in threads {
                let (latencies, processor) = thread.join().expect("no panic");
                run.latencies.extend(latencies);
                run.callers_processor += processor;
            }
            run.elapsed = began.elapsed();
            run.processor = processor_time().saturating_sub(processor);
            run
        })
    }

    /// Runs `body` on the calling thread. `body` returns the latencies that it measured.
    pub fn alone(operations: u64, body: impl FnOnce() -> Vec<Duration>) -> Self {
        let (began, processor, thread) = (Instant::now(), processor_time(), thread_time());
        let latencies = body();
        Self {
            operations,
            elapsed: began.elapsed(),
            processor: processor_time().saturating_sub(processor),
            callers_processor: thread_time().saturating_sub(thread),
            latencies,
        }
    }

    /// Returns the time for `iterations` operations at the pace of this run, as criterion needs it.
    pub fn scaled_to(&self, iterations: u64) -> Duration {
        self.elapsed.mul_f64(iterations as f64 / self.operations as f64)
    }

    pub fn per_second(&self) -> f64 {
        self.operations as f64 / self.elapsed.as_secs_f64()
    }

    pub fn processor_ns(&self) -> f64 {
        self.processor.as_secs_f64() * 1e9 / self.operations as f64
    }

    pub fn callers_processor_ns(&self) -> f64 {
        self.callers_processor.as_secs_f64() * 1e9 / self.operations as f64
    }

    /// Combines all runs into one.
    pub fn sum<'a>(runs: impl Iterator<Item = &'a Self>) -> Self {
        runs.fold(Self::default(), |mut sum, run| {
            sum.operations += run.operations;
            sum.elapsed += run.elapsed;
            sum.processor += run.processor;
            sum.callers_processor += run.callers_processor;
            sum.latencies.extend(&run.latencies);
            sum
        })
    }

    /// Returns these percentiles, or `None` if no latencies were measured.
    pub fn percentiles<const N: usize>(&self, per_mille: [usize; N]) -> Option<[Duration; N]> {
        let mut sorted = self.latencies.clone();
        sorted.sort_unstable();
        let last = sorted.len().checked_sub(1)?;
        Some(per_mille.map(|part| sorted[(sorted.len() * part / 1000).min(last)]))
    }
}

/// Returns the user and system time of this process so far.
fn processor_time() -> Duration {
    clock(ClockId::ProcessCPUTime)
}

/// Returns the user and system time of this thread so far.
fn thread_time() -> Duration {
    clock(ClockId::ThreadCPUTime)
}

fn clock(clock: ClockId) -> Duration {
    Duration::try_from(clock_gettime(clock)).expect("processor time is never negative")
}

pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = values.into_iter().collect();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}
