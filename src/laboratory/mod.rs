//! Owns the crash laboratory: it runs histories on a simulated disk, makes every image that a crash
//! may leave of them, and judges each image. It is no part of the crate's interface and not in its
//! production builds: `tests/crash.rs` and the fuzz targets use it.
//!
//! - `model`: the model that is run, and the reference that computes the expected results
//! - `setup`: the configuration of the database
//! - `history`, `answering`, `life`: what is done to the database, and its answers with their times
//! - `explore`: every crash image along an operation log, and of the recoveries from these images
//! - `oracle`: the verdict on one image
//! - `damage`: silent damage
//! - `evidence`: an image with a violation, in a file
//! - `script`, `forged`: histories and directories that a fuzzer describes
//! - `planted`: deliberate faults, each of which the laboratory must catch
//! - `ruined`: directories that a fuzzer spoils; `rescued`: what must be saved from them
//! - `sealed`: right checksums for snapshots that were changed
//! - `sizes`: small parts and chunks of packed files
//! - `moments`: the moments at which a test may change the surroundings (`tests/hostile/`)

#![allow(missing_docs)] // for tests and fuzz targets of this crate alone
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "the laboratory must stop at the first unexpected result"
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
#[cfg(any(test, fuzzing))]
mod rescued;
#[cfg(any(test, fuzzing))]
mod ruined;
mod script;
#[cfg(any(test, fuzzing))]
pub(crate) mod sealed;
mod setup;
mod sizes;

pub use campaign::{Campaign, Outcome};
pub use evidence::{IMAGE_VARIABLE, replay};
pub use forged::open_forged;
pub(crate) use moments::moment;
pub use moments::{Moment, ignore_moments, watch_moments};
#[cfg(test)]
pub(crate) use planted::{COLLECTIONS_FAULTS, FOLLOWERS_FAULTS, SNAPSHOTS_FAULTS};
pub use planted::{FAULTS, SURROUNDINGS_FAULTS, VARIABLE};
pub(crate) use planted::{Planted, is_planted};
pub use script::run_script;
pub use sizes::{Sizes, changes_decoded, late_loads, parts_decoded};
pub(crate) use sizes::{decoded_from_changes, decoded_in_parts, loaded_late, sizes_are_small};
