//! Measures cases that alternate with their floors, with criterion's clock, and prints the tables
//! of both.

use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, SamplingMode};

use super::run::{Run, median};

/// The target of a case, and how the case is compared with its floor.
#[derive(Clone, Copy)]
pub enum Target {
    /// Operations per second, as a fraction of the floor's.
    RateAtLeast(f64),
    /// Median latency, as a multiple of the floor's.
    MedianLatencyAtMost(f64),
    /// Processor time of the callers per operation, as a multiple of the floor's. This leaves out
    /// the time of waiting for a core.
    ProcessorAtMost(f64),
    /// Processor time of the callers per operation, in nanoseconds beyond the floor's.
    ProcessorBeyondAtMost(f64),
    /// Operations per second, as a fraction of the floor's; only for information.
    Rate,
    /// Processor time of the callers, as a multiple of the floor's; only for information.
    Processor,
    /// Without a floor: operations per second, and processor time per operation in nanoseconds.
    Absolute { per_second: f64, processor_ns: f64 },
}

struct Case {
    name: String,
    floor: &'static str,
    target: Option<Target>,
    /// The run of the case, and that of its floor.
    pairs: Vec<(Run, Option<Run>)>,
}

/// All cases of a bench.
pub struct Comparison {
    samples: usize,
    cases: Vec<Case>,
}

/// How long a benchmark may take in total, with its floor, and the number of samples.
pub fn configure(group: &mut BenchmarkGroup<'_, WallTime>, samples: usize, time: Duration) {
    group
        .sample_size(samples)
        .sampling_mode(SamplingMode::Flat)
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(time);
}

/// The floor with which a case alternates, and its name.
pub type Floor<F> = Option<(&'static str, F)>;

/// The floor of a case that has none.
pub fn no_floor() -> Floor<fn(u64) -> Run> {
    None
}

impl Comparison {
    pub fn of(samples: usize) -> Self {
        Self { samples, cases: Vec::new() }
    }

    /// Measures `case`, alternating with its floor. Both get the number of operations to do.
    pub fn measure<F: FnMut(u64) -> Run>(
        &mut self,
        group: &mut BenchmarkGroup<'_, WallTime>,
        name: String,
        target: Option<Target>,
        mut case: impl FnMut(u64) -> Run,
        mut floor: Floor<F>,
    ) {
        let mut pairs = Vec::new();
        let mut prepared = false;
        group.bench_function(&name, |bencher| {
            // The setup in the first run takes longer than a warm-up. Criterion would take that
            // time for the pace of the operations, and then measure only one of them.
            if !std::mem::replace(&mut prepared, true) {
                case(0);
                floor.as_mut().map(|(_, floor)| floor(0));
            }
            bencher.iter_custom(|iterations| {
                let mut beside = None;
                // The first of the two may find the disk or the caches in a different state.
                let floor_first = pairs.len() % 2 == 0;
                if let Some((_, floor)) = floor.as_mut().filter(|_| floor_first) {
                    beside = Some(floor(iterations));
                }
                let run = case(iterations);
                if let Some((_, floor)) = floor.as_mut().filter(|_| !floor_first) {
                    beside = Some(floor(iterations));
                }
                let time = run.scaled_to(iterations);
                pairs.push((run, beside));
                time
            });
        });
        // The warm-up comes first.
        pairs.drain(..pairs.len().saturating_sub(self.samples));
        // Otherwise the filter of the command line excluded it.
        if !pairs.is_empty() {
            let floor = floor.map_or("", |(name, _)| name);
            self.cases.push(Case { name, floor, target, pairs });
        }
    }

    /// Prints everything.
    pub fn print(&self) {
        println!(
            "\n{:<52} {:>12} {:>10} {:>10} {:>10} {:>10} {:>10}",
            "", "per second", "p50", "p99", "p99.9", "CPU ns/op", "callers'"
        );
        for case in &self.cases {
            print_run(&case.name, &Run::sum(case.pairs.iter().map(|(run, _)| run)));
            let floors: Vec<&Run> =
                case.pairs.iter().filter_map(|(_, floor)| floor.as_ref()).collect();
            if !floors.is_empty() {
                print_run(&format!("  floor: {}", case.floor), &Run::sum(floors.into_iter()));
            }
        }
        println!();
        self.cases.iter().for_each(Case::print_ratio);
        if super::is_short() {
            println!("\nA short run: the figures above mean nothing.");
        }
    }
}

fn print_run(name: &str, run: &Run) {
    let latency = match run.percentiles([500, 990, 999]) {
        Some(of) => {
            let of = of.map(|latency| format!("{latency:.1?}"));
            format!("{:>10} {:>10} {:>10}", of[0], of[1], of[2])
        }
        None => format!("{:>32}", ""),
    };
    let (rate, processor) = (run.per_second(), run.processor_ns());
    let callers = run.callers_processor_ns();
    println!("{name:<52} {rate:>12.0} {latency} {processor:>10.0} {callers:>10.0}");
}

impl Case {
    fn print_ratio(&self) {
        let Some(target) = self.target else { return };
        if let Target::Absolute { per_second, processor_ns } = target {
            let rate = median(self.pairs.iter().map(|(run, _)| run.per_second()));
            let processor = median(self.pairs.iter().map(|(run, _)| run.processor_ns()));
            println!(
                "ratio  {:<46} {rate:.0} a second, target at least {per_second}: {}; \
                 {processor:.0} ns CPU each, target at most {processor_ns}: {}",
                self.name,
                verdict(rate >= per_second),
                verdict(processor <= processor_ns),
            );
            return;
        }
        let ratios = self.pairs.iter().map(|(run, floor)| {
            let floor = floor.as_ref().expect("a target beside a floor");
            target.ratio(run, floor)
        });
        let mut ratios: Vec<f64> = ratios.collect();
        ratios.sort_unstable_by(f64::total_cmp);
        let ratio = median(ratios.iter().copied());
        let range = format!("({:.2} to {:.2})", ratios[0], ratios[ratios.len() - 1]);
        println!("ratio  {:<46} {}", self.name, target.judge(ratio, &range, self.floor));
    }
}

impl Target {
    fn ratio(self, run: &Run, floor: &Run) -> f64 {
        match self {
            Self::RateAtLeast(_) | Self::Rate => run.per_second() / floor.per_second(),
            Self::ProcessorAtMost(_) | Self::Processor => {
                run.callers_processor_ns() / floor.callers_processor_ns()
            }
            Self::ProcessorBeyondAtMost(_) => {
                run.callers_processor_ns() - floor.callers_processor_ns()
            }
            Self::MedianLatencyAtMost(_) => {
                let p50 = |run: &Run| run.percentiles([500]).expect("latencies")[0].as_secs_f64();
                p50(run) / p50(floor)
            }
            Self::Absolute { .. } => unreachable!("it has no floor"),
        }
    }

    fn judge(self, ratio: f64, range: &str, floor: &str) -> String {
        let (what, goal) = match self {
            Self::RateAtLeast(least) => {
                ("rate", format!("target at least {least}: {}", verdict(ratio >= least)))
            }
            Self::ProcessorAtMost(most) => {
                ("CPU time", format!("target at most {most}: {}", verdict(ratio <= most)))
            }
            Self::ProcessorBeyondAtMost(most) => {
                let goal = format!("target at most {most}: {}", verdict(ratio <= most));
                return format!("CPU time {ratio:.1} ns beyond {floor} {range}, {goal}");
            }
            Self::MedianLatencyAtMost(most) => {
                ("p50", format!("target at most {most}: {}", verdict(ratio <= most)))
            }
            Self::Processor => ("CPU time", "no target".to_owned()),
            Self::Rate | Self::Absolute { .. } => ("rate", "no target".to_owned()),
        };
        format!("{what} {ratio:.2} x {floor} {range}, {goal}")
    }
}

pub fn verdict(met: bool) -> &'static str {
    match met {
        _ if super::is_short() => "not judged",
        true => "met",
        false => "MISSED",
    }
}
