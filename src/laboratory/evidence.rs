//! Owns the evidence of a violation: a file with the image and the expectation, and the command
//! that judges the image again. The seed alone is not enough, because the engine's threads may
//! interleave differently the next time.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

use super::model::Reference;
use super::oracle::{Expectation, Look, judge};
use super::setup::Setup;
use super::sizes::Sizes;
use crate::codec;
use crate::storage::simulated::State;

/// The environment variable that names the file to replay.
pub const IMAGE_VARIABLE: &str = "PREVALENCE_IMAGE";

#[derive(Serialize, Deserialize)]
struct Evidence {
    setup: Setup,
    image: State,
    reference: Reference,
    required: u64,
    boundaries: BTreeSet<u64>,
    damaged: bool,
    #[serde(default)]
    is_changed: bool,
    seed: u64,
    whole_engine: bool,
    what: String,
}

/// Stores an image with a violation. Returns the text to print.
pub(crate) fn store(
    image: &State,
    setup: &Setup,
    expectation: &Expectation,
    look: Look,
    what: &str,
) -> String {
    let evidence = Evidence {
        setup: setup.clone(),
        image: image.clone(),
        reference: expectation.reference.clone(),
        required: expectation.required,
        boundaries: expectation.boundaries.clone(),
        damaged: expectation.damaged,
        is_changed: expectation.is_changed,
        seed: look.seed,
        whole_engine: look.whole_engine,
        what: what.to_owned(),
    };
    match write(&evidence) {
        Ok(path) => format!(
            "{what}\n  replay: PREVALENCE_IMAGE={} cargo test --release --test crash replay -- \
             --nocapture --ignored",
            path.display()
        ),
        Err(error) => format!("{what}\n  (the image could not be stored: {error})"),
    }
}

fn write(evidence: &Evidence) -> std::io::Result<PathBuf> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/laboratory");
    std::fs::create_dir_all(&directory)?;
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let path = directory.join(format!("violation-{}-{number}.image", std::process::id()));
    let mut bytes = Vec::new();
    codec::encode_stream(evidence, &mut bytes).map_err(std::io::Error::other)?;
    std::fs::write(&path, bytes)?;
    Ok(path)
}

/// Judges a stored image again. `Err` is the violation.
pub fn replay(path: &Path) -> Result<(), String> {
    let bytes = std::fs::read(path).map_err(|error| error.to_string())?;
    let evidence: Evidence = codec::decode_exact(&bytes)?;
    let expectation = Expectation {
        reference: evidence.reference,
        required: evidence.required,
        boundaries: evidence.boundaries,
        damaged: evidence.damaged,
        is_changed: evidence.is_changed,
    };
    println!("it was: {}", evidence.what);
    println!("{:?}", evidence.setup);
    for (path, length) in evidence.image.files() {
        println!("  {path} {length}");
    }
    let _sizes = Sizes::small();
    let look = Look { seed: evidence.seed, whole_engine: evidence.whole_engine, recording: false };
    judge(&evidence.image, &evidence.setup, &expectation, look).map(drop)
}
