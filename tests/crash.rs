//! Runs the crash laboratory: every image that a crash may leave of many histories opens correctly,
//! and the laboratory catches deliberate faults in the engine.
//!
//! ```sh
//! cargo test --release --test crash -- --nocapture             # at least 100,000 images
//! cargo test --release --test crash -- --nocapture --ignored   # at least 1,000,000
//! ```

mod common;

use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

use common::child::{alone, test_name};
use prevalence::laboratory::{Campaign, FAULTS, IMAGE_VARIABLE, Outcome, VARIABLE, replay};

fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// Returns the first seed. A user can choose another one, to search further.
fn first_seed() -> u64 {
    std::env::var("PREVALENCE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1)
}

fn campaign(images: u64, seconds: u64) -> Outcome {
    let campaign = Campaign {
        first_seed: first_seed(),
        images,
        time: Duration::from_secs(seconds),
        threads: threads(),
        stop_at_violation: false,
    };
    let outcome = campaign.run();
    for violation in &outcome.told {
        println!("{violation}");
    }
    let Outcome { histories, damaged_images, nested_images, parts, changes, .. } = outcome;
    let Outcome { late_loads, time, .. } = outcome;
    println!("{histories} histories, {nested_images} images of crashes inside a recovery");
    println!("{damaged_images} images with silent damage, {time:.1?} in all");
    println!("{parts} parts of collections decoded, {changes} collections made with changes");
    println!("some entries loaded after an open: {late_loads} times");
    println!("crash images: {} violations: {}", outcome.images, outcome.violations);
    outcome
}

#[test]
fn crash_images_open_as_they_must() {
    let (images, seconds) = if cfg!(debug_assertions) { (5_000, 12) } else { (100_000, 300) };
    let outcome = campaign(images, seconds);
    assert_eq!(outcome.violations, 0);
    assert!(cfg!(debug_assertions) || outcome.images >= images, "only {}", outcome.images);
    // On a busy machine, a debug build comes to a few histories only. These need not have all of it.
    if outcome.images < 2_000 {
        return;
    }
    assert!(outcome.parts > outcome.images, "only {} parts were decoded", outcome.parts);
    assert!(outcome.changes > outcome.images / 10, "only {} changes", outcome.changes);
    assert!(outcome.late_loads > outcome.images / 10, "only {} late loads", outcome.late_loads);
}

/// Small histories whose walk once showed a violation: a crash inside the recovery from a crash
/// that had left the name of a directory or a segment only in the page cache.
#[test]
fn seeds_that_once_failed_pass() {
    // The others found mistakes of the laboratory itself, about short and failed writes.
    let seeds: &[u64] = if cfg!(debug_assertions) { &[8, 16] } else { &[8, 16, 79, 397, 406] };
    let outcome = Campaign::run_seeds(seeds);
    assert_eq!(outcome.violations, 0, "{:#?}", outcome.told);
}

#[test]
#[ignore = "takes about 5 minutes"]
fn a_million_crash_images_open_as_they_must() {
    let outcome = campaign(1_000_000, 560);
    assert_eq!(outcome.violations, 0);
    assert!(outcome.images >= 1_000_000, "only {}", outcome.images);
}

#[test]
#[ignore = "judges the image that PREVALENCE_IMAGE names, after a violation"]
fn replay_image() {
    let Some(path) = std::env::var_os(IMAGE_VARIABLE) else {
        println!("{IMAGE_VARIABLE} names no image");
        return;
    };
    replay(std::path::Path::new(&path)).unwrap();
}

/// Each deliberate fault runs in a process of its own, and the laboratory must find it within a
/// minute.
#[test]
fn planted_bugs_are_caught() {
    // A debug build looks at few images a second: there, a sample.
    let step = if cfg!(debug_assertions) { 4 } else { 1 };
    let faults: Vec<_> = FAULTS.iter().step_by(step).collect();
    let (left, caught) = (Mutex::new(faults.clone()), Mutex::new(0));
    std::thread::scope(|scope| {
        for _ in 0..threads().min(2) {
            scope.spawn(|| {
                loop {
                    let Some((name, what)) = left.lock().unwrap().pop() else { break };
                    let (found, took, told) = run_planted(name);
                    let how = if found { "caught" } else { "NOT CAUGHT" };
                    println!("  {how} after {took:.1?}: {name}: {what}");
                    println!("    {told}");
                    *caught.lock().unwrap() += usize::from(found);
                }
            });
        }
    });
    let caught = *caught.lock().unwrap();
    println!("planted bugs: {} caught: {caught}", faults.len());
    assert_eq!(caught, faults.len());
}

/// Returns whether the child found something, after how long, and what.
fn run_planted(name: &str) -> (bool, Duration, String) {
    let began = std::time::Instant::now();
    let output = Command::new(std::env::current_exe().unwrap())
        .args(alone(test_name!(planted_child)))
        .env(VARIABLE, name)
        .output()
        .unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    let told = printed.lines().find_map(|line| line.split_once("FOUND ")).map(|found| found.1);
    (told.is_some(), began.elapsed(), told.unwrap_or("nothing").chars().take(160).collect())
}

#[test]
#[ignore = "the child of planted_bugs_are_caught"]
fn planted_child() {
    if std::env::var_os(VARIABLE).is_none() {
        return;
    }
    let campaign = Campaign {
        first_seed: first_seed(),
        images: u64::MAX,
        time: Duration::from_secs(55),
        threads: 1,
        stop_at_violation: true,
    };
    let outcome = campaign.run();
    if let Some(found) = outcome.told.first() {
        println!("FOUND {}", found.lines().next().unwrap_or_default());
    }
}
