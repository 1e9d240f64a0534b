//! What one run came to: operations, time, processor time and latencies.

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
    /// Of all operations, or of every so many.
    pub latencies: Vec<Duration>,
}

impl Run {
    /// Has `callers` threads run `body(caller)`, which gives the latencies it saw. Their start is
    /// not timed.
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
                    body(caller)
                })
            };
            let threads: Vec<_> = (0..callers).map(caller).collect();
            start.wait();
            let (began, processor) = (Instant::now(), processor_time());
            let latencies =
                threads.into_iter().flat_map(|thread| thread.join().expect("no panic")).collect();
            Self {
                operations: callers * operations_each,
                elapsed: began.elapsed(),
                processor: processor_time().saturating_sub(processor),
                latencies,
            }
        })
    }

    /// Has the calling thread run `body`, which gives the latencies it saw.
    pub fn alone(operations: u64, body: impl FnOnce() -> Vec<Duration>) -> Self {
        let (began, processor) = (Instant::now(), processor_time());
        let latencies = body();
        Self {
            operations,
            elapsed: began.elapsed(),
            processor: processor_time().saturating_sub(processor),
            latencies,
        }
    }

    /// Time for `iterations` operations at the pace of this run, as criterion wants it.
    pub fn scaled_to(&self, iterations: u64) -> Duration {
        self.elapsed.mul_f64(iterations as f64 / self.operations as f64)
    }

    pub fn per_second(&self) -> f64 {
        self.operations as f64 / self.elapsed.as_secs_f64()
    }

    pub fn processor_ns(&self) -> f64 {
        self.processor.as_secs_f64() * 1e9 / self.operations as f64
    }

    /// All runs as one.
    pub fn sum<'a>(runs: impl Iterator<Item = &'a Self>) -> Self {
        runs.fold(Self::default(), |mut sum, run| {
            sum.operations += run.operations;
            sum.elapsed += run.elapsed;
            sum.processor += run.processor;
            sum.latencies.extend(&run.latencies);
            sum
        })
    }

    /// Nothing if no latencies were taken.
    pub fn percentiles<const N: usize>(&self, per_mille: [usize; N]) -> Option<[Duration; N]> {
        let mut sorted = self.latencies.clone();
        sorted.sort_unstable();
        let last = sorted.len().checked_sub(1)?;
        Some(per_mille.map(|part| sorted[(sorted.len() * part / 1000).min(last)]))
    }
}

/// User and system time of this process so far.
pub fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::try_from(time).expect("processor time is never negative")
}

pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = values.into_iter().collect();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}
