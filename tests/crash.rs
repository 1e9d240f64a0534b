//! The crash laboratory: every image that a crash may leave of many histories opens as it must, and
//! deliberate faults in the engine are caught.
//!
//! ```sh
//! cargo test --release --test crash -- --nocapture             # at least 100,000 images
//! cargo test --release --test crash -- --nocapture --ignored   # at least 1,000,000
//! ```

use std::time::Duration;

use prevalence::laboratory::{Campaign, IMAGE_VARIABLE, Outcome, replay};

fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// The first seed; another one can be chosen, to look further.
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
    let Outcome { histories, damaged_images, nested_images, time, .. } = outcome;
    println!("{histories} histories, {nested_images} images of crashes inside a recovery");
    println!("{damaged_images} images with silent damage, {time:.1?} in all");
    println!("crash images: {} violations: {}", outcome.images, outcome.violations);
    outcome
}

#[test]
fn crash_images_open_as_they_must() {
    let (images, seconds) = if cfg!(debug_assertions) { (5_000, 12) } else { (100_000, 300) };
    let outcome = campaign(images, seconds);
    assert_eq!(outcome.violations, 0);
    assert!(cfg!(debug_assertions) || outcome.images >= images, "only {}", outcome.images);
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
