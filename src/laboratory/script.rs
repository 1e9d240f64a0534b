//! Owns histories that a fuzzer describes: each byte is a step. Their crash images are judged too.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use super::explore::{Explorer, Findings, Thoroughness};
use super::history::History;
use super::life::Step;
use super::setup::Setup;
use super::sizes::Sizes;
use crate::storage::simulated::Random;

/// The most steps of a history. A fuzzer finds more with many short histories than with a long one.
const MOST_STEPS: usize = 24;
/// The most images that are judged for each history, so that an input stays fast.
const MOST_IMAGES: u64 = 150;

/// Runs the history that `data` describes. Panics on a violation.
///
/// The first byte chooses the configuration and the values of commands. The others are the steps.
pub fn run_script(data: &[u8]) {
    let Some((&first, steps)) = data.split_first() else { return };
    let _sizes = Sizes::small();
    let mut random = Random::new(first.into());
    let setup = Setup::random(&mut random);
    let mut history = History::new(random, setup);
    history.open();
    for &byte in steps.iter().take(MOST_STEPS) {
        history.take(match byte % 16 {
            0..=3 => Step::Execute,
            4..=5 => Step::Batch,
            6 => Step::FillSegment,
            7..=8 => Step::Snapshot,
            9..=10 => Step::Reopen,
            11 => Step::Sync,
            12 => Step::Crash,
            13 => Step::CrashAmidBatch,
            14 => Step::Clock,
            _ => Step::Fault,
        });
    }
    let (lives, violations) = history.finish();
    assert!(violations.is_empty(), "{violations:#?}");
    let findings = Findings::default();
    let enough = || findings.images.load(Ordering::Relaxed) >= MOST_IMAGES;
    let thoroughness = Thoroughness { whole_engine_in: 32, nested_in: 40, depth: 1, damaged_in: 4 };
    let mut boundaries = BTreeSet::new();
    for (number, life) in lives.iter().enumerate() {
        let origin = (format!("life {number}"), u64::from(first));
        let explorer = Explorer::new(&findings, life, thoroughness, origin, &boundaries, &enough);
        boundaries = explorer.walk(life);
    }
    let violations = findings.violations.into_inner().unwrap();
    assert!(violations.is_empty(), "{violations:#?}");
}
