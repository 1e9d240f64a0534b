//! Owns a run of the laboratory: it runs seed after seed on all cores, until it has judged enough
//! images.

use std::collections::BTreeSet;
use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::explore::{Explorer, Findings, Thoroughness};
use super::history;
use super::life::Extent;
use super::sizes::{Sizes, changes_decoded, late_loads, parts_decoded};

/// How many histories with faults are only run, for each history whose images are judged too.
/// Running one costs little and already finds many violations.
const LIVE_HISTORIES: u64 = 8;

/// What to run.
#[derive(Clone, Copy, Debug)]
pub struct Campaign {
    pub first_seed: u64,
    /// The campaign ends after this number of images.
    pub images: u64,
    /// The campaign ends after this time, even with fewer images.
    pub time: Duration,
    pub threads: usize,
    /// If set, the campaign ends at the first violation.
    pub stop_at_violation: bool,
}

/// The result of a campaign.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub images: u64,
    pub damaged_images: u64,
    pub nested_images: u64,
    pub histories: u64,
    pub violations: u64,
    /// How many parts of collections were decoded.
    pub parts: u64,
    /// How many collections were made of snapshots and the changes since.
    pub changes: u64,
    /// How often some entries were loaded after an open.
    pub late_loads: u64,
    /// The first violations, each with the command that replays it.
    pub told: Vec<String>,
    pub time: Duration,
}

impl Campaign {
    /// Runs these seeds completely. It is for seeds that once found a violation.
    pub fn run_seeds(seeds: &[u64]) -> Outcome {
        let _sizes = Sizes::small();
        let began = Instant::now();
        let findings = Findings::default();
        for &seed in seeds {
            examine(seed, &findings, &|| false);
        }
        findings.outcome(seeds.len() as u64, began)
    }

    pub fn run(&self) -> Outcome {
        let _sizes = Sizes::small();
        quiet_late_damage();
        let began = Instant::now();
        let findings = Findings::default();
        let seeds = AtomicU64::new(self.first_seed);
        let enough = || {
            findings.images.load(Ordering::Relaxed) >= self.images
                || began.elapsed() >= self.time
                || (self.stop_at_violation && findings.violation_count.load(Ordering::Relaxed) > 0)
        };
        std::thread::scope(|scope| {
            for _ in 0..self.threads {
                scope.spawn(|| {
                    while !enough() {
                        examine(seeds.fetch_add(1, Ordering::Relaxed), &findings, &enough);
                    }
                });
            }
        });
        findings.outcome(seeds.load(Ordering::Relaxed) - self.first_seed, began)
    }
}

/// Keeps the panics out of the output with which damage is told that is found after the open. The
/// images of a campaign have it thousands of times.
fn quiet_late_damage() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let text = info.payload().downcast_ref::<String>();
            if !text.is_some_and(|text| text.starts_with("entries of a collection cannot be")) {
                usual(info);
            }
        }));
    });
}

impl Findings {
    fn outcome(self, histories: u64, began: Instant) -> Outcome {
        Outcome {
            images: self.images.load(Ordering::Relaxed),
            damaged_images: self.damaged_images.load(Ordering::Relaxed),
            nested_images: self.nested_images.load(Ordering::Relaxed),
            histories: histories * (1 + LIVE_HISTORIES),
            violations: self.violation_count.load(Ordering::Relaxed),
            parts: parts_decoded(),
            changes: changes_decoded(),
            late_loads: late_loads(),
            told: self.violations.into_inner().unwrap_or_default(),
            time: began.elapsed(),
        }
    }
}

fn tell(seed: u64, violations: Vec<String>, findings: &Findings) {
    for what in violations {
        findings.violated(format!("seed {seed}, while it ran: {what}"));
    }
}

/// Runs the history of one seed and judges all its images. One history in eight is small; for a
/// small one, every crash inside every recovery is tried too.
fn examine(seed: u64, findings: &Findings, enough: &(dyn Fn() -> bool + Sync)) {
    let small = seed.is_multiple_of(8);
    for further in 0..LIVE_HISTORIES {
        let seed = seed ^ (further + 1) << 40;
        let (_, violations) = history::run(seed, Extent { steps: 24, faults: true });
        tell(seed, violations, findings);
    }
    let extent = Extent { steps: if small { 3 } else { 24 }, faults: seed % 3 == 1 };
    let (lives, violations) = history::run(seed, extent);
    tell(seed, violations, findings);
    let thoroughness = if small {
        Thoroughness { whole_engine_in: 32, nested_in: 1, depth: 1, damaged_in: 2 }
    } else {
        Thoroughness { whole_engine_in: 16, nested_in: 60, depth: 2, damaged_in: 2 }
    };
    let mut boundaries = BTreeSet::new();
    for (number, life) in lives.iter().enumerate() {
        let origin = format!("seed {seed}, life {number}");
        let random = seed ^ (number as u64) << 48;
        let explorer =
            Explorer::new(findings, life, thoroughness, (origin, random), &boundaries, enough);
        boundaries = explorer.walk(life);
    }
}
