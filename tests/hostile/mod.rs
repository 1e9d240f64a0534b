//! The laboratory of hostile surroundings: every hazard that a process may meet, at every step of
//! the engine, and right before each of its operations on files.
//!
//! - `hazard`, `strike`: what may happen, and how it is made to happen and undone
//! - `process`: what a hazard does to a whole process (limits, mounts, rights, signals, forks)
//! - `neighbor`: another process that works where our database was
//! - `step`: the steps of the engine
//! - `watch`: at which operation of a step the hazard strikes
//! - `scene`, `diary`: the places of a cell, and the model that it runs
//! - `play`, `cell`: one cell in a process of its own; what was acknowledged, what was said
//! - `judge`: the verdict
//! - `sweep`: which cells are run, each with a bound on its time

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

/// Names the cell of a child process: hazard, step, position.
pub const CELL: &str = "PREVALENCE_HOSTILE_CELL";
/// Where it works, and where the templates are.
pub const ROOT: &str = "PREVALENCE_HOSTILE_ROOT";
pub const TEMPLATES: &str = "PREVALENCE_HOSTILE_TEMPLATES";
/// Names the database of a neighbor process.
pub const NEIGHBOR: &str = "PREVALENCE_HOSTILE_NEIGHBOR";

/// Says a number without taking any memory: there may be none.
pub fn say(what: &str, number: u64) {
    use std::io::Write;
    let mut line = [0u8; 64];
    let mut rest = &mut line[..];
    writeln!(rest, "said {what}{number}").unwrap();
    let length = 64 - rest.len();
    // SAFETY: writes the beginning of an array that lives until the call is over.
    unsafe { libc::write(1, line.as_ptr().cast(), length) };
}
