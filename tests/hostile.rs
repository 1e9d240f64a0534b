//! The laboratory of hostile surroundings: whatever happens to the process, its directory and its
//! disk, at whatever operation of the engine, the state is exact; or an error says what happened,
//! and the state is exact after its remedy. No other database is touched, and nothing hangs.
//!
//! ```sh
//! cargo test --test hostile -- --nocapture                      # a sample
//! cargo test --release --test hostile -- --nocapture --ignored  # every position
//! ```
//!
//! What needs root, mounts, or a C compiler says so and is left out where that is missing.

#![allow(unsafe_code)] // forks, limits, mounts and signals

mod common;
mod faults;
#[path = "hostile/mod.rs"]
mod hostile;

use std::path::Path;
use std::sync::Mutex;

use hostile::cell::{Cell, Verdict};
use hostile::hazard::Hazard;
use hostile::step::Step;
use hostile::sweep::{Answer, Sweep, Tally, ends_of, hints};
use hostile::watch::Position;
use prevalence::laboratory::SURROUNDINGS_FAULTS;

/// Every so many operations of a step are tried by `cargo test`.
const SAMPLE: u64 = 29;

/// For a planted fault, every so many.
const SAMPLE_OF_FAULTS: usize = 2;

/// A planted fault is looked for at so many operations of a step.
const LOOK_FOR_FAULTS_UP_TO: u64 = 60;

#[test]
#[ignore = "what the child processes run"]
fn cell() {
    let Ok(named) = std::env::var(hostile::CELL) else { return };
    let [hazard, step, position] = *named.split(' ').collect::<Vec<_>>() else { panic!("{named}") };
    let cell = Cell {
        hazard: Hazard::named(hazard),
        step: Step::named(step),
        position: Position::parse(position),
    };
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
    for (what, count) in &tally.known {
        println!("  known, {count} times: {what}");
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

/// Looks for a planted fault; gives what showed it, and does not where the fault is not planted.
fn look_for(fault: &str) -> Option<String> {
    let (sweep, control) = (Sweep::begin(Some(fault)), Sweep::begin(None));
    let can = sweep.hazards();
    let hazards: Vec<_> = hints(fault).iter().copied().filter(|h| can.contains(h)).collect();
    for (hazard, step) in sweep.pairs(&hazards) {
        let within = (1..LOOK_FOR_FAULTS_UP_TO).step_by(SAMPLE_OF_FAULTS).map(Position::At);
        for position in ends_of(hazard, step).into_iter().chain(within) {
            let cell = Cell { hazard, step, position };
            let told = match sweep.run(cell) {
                Answer::NotReached => break,
                answer => answer.wrong(),
            };
            if let Some(told) = told.first()
                && control.run(cell).wrong().is_empty()
            {
                return Some(format!("{hazard:?} at {step:?}, {position}: {told}"));
            }
        }
    }
    None
}

/// Each deliberate fault must be caught by a cell.
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
                    let told: String = found.iter().flat_map(|found| found.chars().take(200)).collect();
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

/// One cell, for who looks for the cause of a violation.
#[test]
#[ignore = "runs the cell that PREVALENCE_HOSTILE_ONE names: hazard, step, position"]
fn one() {
    let Ok(named) = std::env::var("PREVALENCE_HOSTILE_ONE") else { return };
    let [hazard, step, position] = *named.split(' ').collect::<Vec<_>>() else { panic!("{named}") };
    let sweep = Sweep::begin(std::env::var(prevalence::laboratory::VARIABLE).ok().as_deref());
    let cell = Cell {
        hazard: Hazard::named(hazard),
        step: Step::named(step),
        position: Position::parse(position),
    };
    match sweep.run(cell) {
        Answer::NotReached => println!("not reached"),
        Answer::Inapplicable(why) => println!("inapplicable: {why}"),
        Answer::Hung => println!("it hangs"),
        Answer::Judged(wrong) => println!("wrong: {wrong:#?}"),
    }
    if let Ok(said) = std::fs::read_to_string(hostile::sweep::workshop(&sweep).join("cell-0.said")) {
        println!("{said}");
    }
    if let Ok(said) = std::fs::read_to_string(hostile::sweep::workshop(&sweep).join("cell-0.errors")) {
        println!("{said}");
    }
}
