//! Random lives, and the shortest one that fails.

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use super::life::{KINDS, OWNING, STEP_BYTES, Step, What, live};

/// Small maps mostly, and sometimes one of three levels. Every second one is loaded on demand.
fn entries() -> impl Strategy<Value = (u64, bool)> {
    let entries = prop_oneof![8 => 0..100_u64, 2 => 100..400_u64, 1 => 1025..1300_u64];
    (entries, any::<bool>())
}

fn steps(most: usize) -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(any::<[u8; STEP_BYTES]>().prop_map(Step::of), 0..most)
}

fn random_lives(mut runner: TestRunner, kinds: std::ops::Range<u8>, most_steps: usize) {
    runner
        .run(&(kinds, entries(), steps(most_steps)), |(kind, entries, steps)| {
            live(kind, entries, steps);
            Ok(())
        })
        .unwrap_or_else(|error| panic!("{error}"));
}

/// Lives that go on in a child of a fork, and then in a child of that.
pub(super) fn lives_in_processes(mut runner: TestRunner, most_steps: usize) {
    let lives = (0..KINDS, entries(), [(); 3].map(|()| steps(most_steps)));
    runner
        .run(&lives, |(kind, entries, steps)| {
            let steps: Vec<Step> = steps.join(&Step::GO_ON_IN_A_CHILD);
            live(kind, entries, steps);
            Ok(())
        })
        .unwrap_or_else(|error| panic!("{error}"));
}

pub(super) fn config(cases: u32) -> Config {
    Config { cases, failure_persistence: None, max_shrink_iters: 3000, ..Config::default() }
}

#[test]
fn lives_are_those_of_a_btree_map() {
    random_lives(TestRunner::new(config(150)), 0..KINDS, 60);
}

#[test]
#[ignore = "about five minutes with --release"]
fn many_lives_are_those_of_a_btree_map() {
    random_lives(TestRunner::new(config(100_000)), 0..KINDS, 150);
}

/// The planted faults run this one: the same lives each time, and no search for the shortest.
#[test]
fn lives_of_keys_and_values_that_own_memory() {
    let config = Config { max_shrink_iters: 0, ..config(24) };
    let runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    random_lives(runner, OWNING..OWNING + 1, 60);
}

/// The root of a map of four parts becomes the first of them, which has only one leaf.
#[test]
fn a_cold_part_that_becomes_the_root_is_no_root_with_one_child() {
    let step = |what, key, count| Step { what, handle: 0, key, count, value: 0 };
    let put = step(What::Put, 256, 58);
    live(0, (49, true), vec![put, step(What::PopLast, 0, 176), step(What::PopLast, 0, 184)]);
}
