//! Owns the crash laboratory: histories on a simulated disk, every image a crash may leave of them,
//! and the oracle that judges each. Not part of the crate's interface, and not in its production
//! builds: `tests/crash.rs` and the fuzz targets use it.
//!
//! - `model`: the model that is run, and the reference that says what must come of it
//! - `setup`: how the database is configured
//! - `history`, `answering`, `life`: what is done to it, and what it answered when
//! - `explore`: every crash image along an operation log, and of the recoveries from them
//! - `oracle`: the verdict on one image
//! - `damage`: silent damage
//! - `evidence`: a violating image in a file
//! - `script`, `forged`: histories and directories as a fuzzer writes them
//! - `planted`: deliberate faults, each of which must be caught
//! - `moments`: where a test may change the surroundings (`tests/hostile/`)

#![allow(missing_docs)] // for tests and fuzz targets of this crate alone
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "a laboratory stops at the first surprise"
)]

mod answering;
mod campaign;
mod damage;
mod evidence;
mod explore;
mod forged;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod history;
mod life;
mod model;
mod moments;
mod oracle;
mod planted;
mod script;
mod setup;

pub use campaign::{Campaign, Outcome};
pub use evidence::{IMAGE_VARIABLE, replay};
pub use forged::open_forged;
pub(crate) use moments::moment;
pub use moments::{Moment, ignore_moments, watch_moments};
pub use planted::{FAULTS, SURROUNDINGS_FAULTS, VARIABLE};
pub(crate) use planted::{Planted, is_planted};
pub use script::run_script;
