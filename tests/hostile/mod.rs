//! The laboratory of hostile surroundings: every hazard for a process, at every step of the engine,
//! and right before each of its operations on files.
//!
//! - `hazard`, `strike`: what may happen, and the code that makes it happen and undoes it
//! - `process`: what a hazard does to a whole process (limits, mounts, rights, signals, forks)
//! - `neighbor`: another process that works in the place of our database
//! - `step`: the steps of the engine
//! - `watch`: at which operation of a step the hazard strikes
//! - `scene`, `diary`: the directories of a cell, and its model
//! - `play`, `cell`: one cell in a process of its own, with what was acknowledged and every error
//! - `judge`: the verdict
//! - `sweep`: runs many cells, each with a limit on its time

pub mod cell;
pub mod diary;
pub mod hazard;
pub mod judge;
pub mod neighbor;
pub mod play;
pub mod process;
pub mod scene;
pub mod step;
pub mod strike;
pub mod sweep;
pub mod watch;

/// The variable that names the cell of a child process: hazard, step, position.
pub const CELL: &str = "PREVALENCE_HOSTILE_CELL";
/// The variables for the directory in which the child works, and for that of the templates.
pub const ROOT: &str = "PREVALENCE_HOSTILE_ROOT";
pub const TEMPLATES: &str = "PREVALENCE_HOSTILE_TEMPLATES";
/// The variable that names the database of a neighbor process.
pub const NEIGHBOR: &str = "PREVALENCE_HOSTILE_NEIGHBOR";

/// Prints a number without an allocation, because there may be no memory.
pub fn say(what: &str, number: u64) {
    use std::io::Write;
    let mut line = [0u8; 64];
    let mut rest = &mut line[..];
    writeln!(rest, "said {what}{number}").unwrap();
    let length = 64 - rest.len();
    // SAFETY: writes the beginning of an array that lives until the call is over.
    unsafe { libc::write(1, line.as_ptr().cast(), length) };
}
