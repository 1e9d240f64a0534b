//! Owns how many schedules a test explores, and of which kinds. Knows nothing of what it tests.

use shuttle::scheduler::{PctScheduler, RandomScheduler, Scheduler};
use shuttle::{Config, MaxSteps, Runner};

/// A schedule that takes so many steps hangs: the longest takes a few thousand.
const MOST_STEPS: usize = 200_000;

/// Preemptions that PCT places in a schedule; most bugs need fewer.
const PREEMPTIONS: usize = 3;

/// Half of the schedules choose the next thread at random, half by PCT: thread priorities that
/// change at a few random places, which finds what needs a long run of one thread. A failure prints
/// its schedule, which `shuttle::replay` runs again.
pub(super) fn explore(schedules: usize, test: impl Fn() + Copy + Send + Sync + 'static) {
    let half = schedules / 2;
    run(RandomScheduler::new(half), test);
    run(PctScheduler::new(PREEMPTIONS, half), test);
}

fn run(scheduler: impl Scheduler + 'static, test: impl Fn() + Send + Sync + 'static) {
    let mut config = Config::new();
    config.max_steps = MaxSteps::FailAfter(MOST_STEPS);
    config.stack_size = 1 << 18;
    // The warning: that all orderings are taken for SeqCst; see the module.
    config.silence_warnings = true;
    Runner::new(scheduler, config).run(test);
}
