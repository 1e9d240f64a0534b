//! Runs the laboratory of hostile surroundings: whatever happens to the process, its directory and
//! its disk, at any operation of the engine, the state is exact; or an error says what happened,
//! and the state is exact after the remedy in the error. No other database is changed, and nothing
//! hangs.
//!
//! ```sh
//! cargo test --test hostile -- --nocapture                      # a sample
//! cargo test --release --test hostile -- --nocapture --ignored  # every position
//! ```
//!
//! A cell that needs root, mounts or a C compiler says so, and is skipped without them.

#![cfg(target_os = "linux")] // mounts, and a way to ask for the threads of a process
#![allow(unsafe_code)] // forks, limits, mounts and signals

mod common;
mod faults;
#[path = "hostile/mod.rs"]
mod hostile;

use std::path::Path;
use std::sync::Mutex;

use hostile::cell::{Cell, ENDINGS, Verdict};
use hostile::sweep::{Answer, Sweep, Tally, ends_of, hints};
use hostile::watch::Position;
use prevalence::laboratory::SURROUNDINGS_FAULTS;

/// `cargo test` tries one operation of a step in this many.
const SAMPLE: u64 = 29;

/// The number of operations of a step at which the laboratory looks for a planted fault.
const LOOK_FOR_FAULTS_UP_TO: u64 = 250;

#[test]
#[ignore = "what the child processes run"]
fn cell() {
    let Ok(named) = std::env::var(hostile::CELL) else { return };
    let cell: Cell = named.parse().unwrap();
    if std::env::var_os("PREVALENCE_HOSTILE_LOUD").is_none() {
        common::quiet_panics();
    }
    let root = std::env::var(hostile::ROOT).unwrap();
    let templates = std::env::var(hostile::TEMPLATES).unwrap();
    match cell.play(Path::new(&root), Path::new(&templates)) {
        Verdict::NotReached => println!("said not reached"),
        Verdict::Inapplicable(why) => println!("said inapplicable: {why}"),
        Verdict::Judged { violations, struck_at, said } => {
            said.iter().for_each(|error| println!("said error: {error}"));
            violations.iter().for_each(|wrong| println!("said violation: {wrong}"));
            println!("said struck at {struck_at}");
            println!("said judged");
        }
    }
}

#[test]
#[ignore = "what another process runs"]
fn neighbor() {
    if let Ok(path) = std::env::var(hostile::NEIGHBOR) {
        hostile::neighbor::live(Path::new(&path));
    }
}

fn tell(tally: &Tally, hazards: usize) {
    for (what, count) in &tally.inapplicable {
        println!("  cannot happen, {count} times: {what}");
    }
    let Tally { cells, positions, hangs, .. } = tally;
    let steps = hostile::step::ALL.len();
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
    for (hazard, step) in pairs {
        let within = (1..LOOK_FOR_FAULTS_UP_TO).map(Position::At);
        for (round, position) in ends_of(hazard, step).into_iter().chain(within).enumerate() {
            let ending = ENDINGS[round % ENDINGS.len()];
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
    if let Ok(said) = std::fs::read_to_string(hostile::sweep::workshop(&sweep).join("cell-0.said"))
    {
        println!("{said}");
    }
    if let Ok(said) =
        std::fs::read_to_string(hostile::sweep::workshop(&sweep).join("cell-0.errors"))
    {
        println!("{said}");
    }
}
