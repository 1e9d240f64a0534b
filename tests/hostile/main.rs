//! The laboratory of hostile surroundings: whatever happens to the process, its directory and its
//! disk, at whatever operation of the engine, the state is exact; or an error says what happened,
//! and the state is exact after its remedy. No other database is touched, and nothing hangs.
//!
//! ```sh
//! cargo test --test hostile -- --nocapture                      # a sample
//! cargo test --release --test hostile -- --nocapture --ignored  # every position
//! ```
//!
//! A cell that needs root, mounts or a C compiler says so, and is skipped without them.
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

#![cfg(target_os = "linux")] // mounts, and a way to ask for the threads of a process
#![allow(unsafe_code)] // forks, limits, mounts and signals

#[path = "../common/mod.rs"]
mod common;

/// An enum, the list of all its values, and how one is found by its name.
macro_rules! listed {
    ($(#[$attribute:meta])* pub enum $name:ident { $($value:ident,)* }) => {
        $(#[$attribute])*
        pub enum $name {
            $($value,)*
        }

        pub const ALL: &[$name] = &[$($name::$value,)*];

        impl $name {
            pub fn named(name: &str) -> Self {
                let named = ALL.iter().find(|value| format!("{value:?}") == name);
                *named.unwrap_or_else(|| panic!("no {} {name}", stringify!($name)))
            }
        }
    };
}

mod cell;
mod diary;
mod hazard;
mod judge;
mod neighbor;
mod play;
mod process;
mod scene;
mod step;
mod strike;
mod sweep;
mod watch;

use std::sync::Mutex;

use cell::{Cell, ENDINGS};
use prevalence::laboratory::SURROUNDINGS_FAULTS;
use sweep::{Answer, Sweep, Tally, ends_of, hints};
use watch::Position;

/// The variable that names the cell of a child process: hazard, step, position.
const CELL: &str = "PREVALENCE_HOSTILE_CELL";
/// The variables for the directory in which the child works, and for that of the templates.
const ROOT: &str = "PREVALENCE_HOSTILE_ROOT";
const TEMPLATES: &str = "PREVALENCE_HOSTILE_TEMPLATES";
/// The variable that names the database of a neighbor process.
const NEIGHBOR: &str = "PREVALENCE_HOSTILE_NEIGHBOR";

/// `cargo test` tries one operation of a step in this many.
const SAMPLE: u64 = 29;

/// The number of operations of a step at which the laboratory looks for a planted fault.
const LOOK_FOR_FAULTS_UP_TO: u64 = 250;

/// How often the laboratory goes through these operations, each time with another ending.
const LOOKS_FOR_FAULTS: usize = 9;

/// Prints a number without an allocation, because there may be no memory.
fn say(what: &str, number: u64) {
    use std::io::Write;
    let mut line = [0u8; 64];
    let mut rest = &mut line[..];
    writeln!(rest, "said {what}{number}").unwrap();
    let length = 64 - rest.len();
    // SAFETY: writes the beginning of an array that lives until the call is over.
    unsafe { libc::write(1, line.as_ptr().cast(), length) };
}

fn tell(tally: &Tally, hazards: usize) {
    for (what, count) in &tally.inapplicable {
        println!("  cannot happen, {count} times: {what}");
    }
    let Tally { cells, positions, hangs, .. } = tally;
    let steps = step::ALL.len();
    let losses = tally.violations.len() as u64 - hangs;
    println!(
        "hostile cells: {cells} ({hazards} hazards x {steps} steps, {} pairs, positions \
         {positions}) silent losses: {losses} hangs: {hangs}",
        tally.pairs
    );
}

fn sweep(stride: u64) {
    let sweep = Sweep::begin(None);
    let tally = sweep.sweep(stride);
    tell(&tally, sweep.hazards().len());
    assert_eq!(tally.violations, Vec::<String>::new());
}

#[test]
fn hostile_surroundings_lose_nothing() {
    sweep(SAMPLE);
}

#[test]
#[ignore = "takes some minutes; see the top of this file"]
fn hostile_surroundings_lose_nothing_at_any_operation() {
    sweep(1);
}

/// Looks for a planted fault. Returns what showed it, and `None` if nothing did. Without the fault,
/// it must find nothing in the same cells.
fn look_for(fault: &str) -> Option<String> {
    let (sweep, control) = (Sweep::begin(Some(fault)), Sweep::begin(None));
    let can = sweep.hazards();
    let (hazards, steps) = hints(fault);
    let hazards: Vec<_> = hazards.iter().copied().filter(|hazard| can.contains(hazard)).collect();
    let mut pairs = sweep.pairs(&hazards);
    pairs.retain(|(_, step)| steps.contains(step));
    // Other threads come to operations, too, so a position is not the same moment in every run, and
    // a fault with a narrow window needs more than one look.
    for look in 0..LOOKS_FOR_FAULTS {
        for &(hazard, step) in &pairs {
            let within = (1..LOOK_FOR_FAULTS_UP_TO).map(Position::At);
            for (round, position) in ends_of(hazard, step).into_iter().chain(within).enumerate() {
                let ending = ENDINGS[(look + round) % ENDINGS.len()];
                let cell = Cell { hazard, step, position, ending };
                let told = match sweep.run(cell) {
                    Answer::NotReached => break,
                    answer => answer.wrong(),
                };
                if let Some(told) = told.first()
                    && control.run(cell).wrong().is_empty()
                {
                    return Some(format!("{cell}: {told}"));
                }
            }
        }
    }
    None
}

/// A cell must catch each deliberate fault.
#[test]
fn planted_faults_are_caught() {
    let left = Mutex::new(SURROUNDINGS_FAULTS.to_vec());
    let caught = Mutex::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let Some((name, what)) = left.lock().unwrap().pop() else { break };
                    let found = look_for(name);
                    let how = if found.is_some() { "caught" } else { "NOT CAUGHT" };
                    println!("  {how}: {name}: {what}");
                    let told: String =
                        found.iter().flat_map(|found| found.chars().take(200)).collect();
                    println!("    {told}");
                    *caught.lock().unwrap() += usize::from(found.is_some());
                }
            });
        }
    });
    let caught = *caught.lock().unwrap();
    println!("planted faults: {} caught: {caught}", SURROUNDINGS_FAULTS.len());
    assert_eq!(caught, SURROUNDINGS_FAULTS.len());
}

/// Runs one cell, to look for the cause of a violation.
#[test]
#[ignore = "runs the cell that PREVALENCE_HOSTILE_ONE names: hazard, step, position, ending"]
fn one() {
    let Ok(named) = std::env::var("PREVALENCE_HOSTILE_ONE") else { return };
    let sweep = Sweep::begin(std::env::var(prevalence::laboratory::VARIABLE).ok().as_deref());
    let cell: Cell = named.parse().unwrap();
    match sweep.run(cell) {
        Answer::NotReached => println!("not reached"),
        Answer::Inapplicable(why) => println!("inapplicable: {why}"),
        Answer::Hung => println!("it hangs"),
        Answer::Judged(wrong) => println!("wrong: {wrong:#?}"),
    }
    if let Ok(said) = std::fs::read_to_string(sweep::workshop(&sweep).join("cell-0.said")) {
        println!("{said}");
    }
    if let Ok(said) = std::fs::read_to_string(sweep::workshop(&sweep).join("cell-0.errors")) {
        println!("{said}");
    }
}
