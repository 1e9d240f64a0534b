//! The cases: callers who wait for each command, and callers who keep many commands in flight.

use std::cell::Cell;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

use prevalence::{Database, Pending, SnapshotPolicy};
use tempfile::TempDir;

use crate::support::{directory, is_short, run::Run};
use crate::workload::Workload;

/// Commands in flight for each pipelined caller.
pub const IN_FLIGHT: usize = 4096;
/// Pipelined commands between two measured latencies. Reading the clock for each command would cost
/// as much as the engine.
const LATENCY_EVERY: u64 = 16;

/// How callers send their commands.
#[derive(Clone, Copy)]
pub enum Callers {
    Blocked(u64),
    Pipelined(u64),
}

impl Callers {
    pub fn name(self) -> String {
        let (number, how) = match self {
            Self::Blocked(number) => (number, "blocked"),
            Self::Pipelined(number) => (number, "pipelined"),
        };
        format!("{number} {how} caller{}", if number == 1 { "" } else { "s" })
    }
}

/// An open database, and its position in the stream of commands.
pub struct Opened<W: Workload> {
    database: Database<W::Model>,
    entries: u64,
    next: Cell<u64>,
    _directory: TempDir,
}

impl<W: Workload> Opened<W> {
    pub fn open(entries: u64, snapshots: SnapshotPolicy) -> Self {
        let directory = directory();
        let builder = Database::<W::Model>::builder().snapshots(snapshots);
        let database = builder.initial(W::model(entries)).open(directory.path()).expect("open");
        Self { database, entries, next: Cell::new(0), _directory: directory }
    }

    /// Returns the journal bytes of a frame with one command. Call it before any other command.
    pub fn lone_frame_bytes(&self) -> usize {
        let before = self.database.stats().journal_bytes;
        self.database.execute(W::command(0, self.entries)).expect("accepted");
        usize::try_from(self.database.stats().journal_bytes - before).expect("a small frame")
    }

    /// Sends at least `commands` commands.
    pub fn run(&self, callers: Callers, commands: u64) -> Run {
        let Self { database, entries, next, .. } = self;
        let (Callers::Blocked(number) | Callers::Pipelined(number)) = callers;
        let short = is_short() && matches!(callers, Callers::Pipelined(_));
        // A short run also fills the window.
        let commands = if short { commands.max(number * 3 * IN_FLIGHT as u64) } else { commands };
        let each = commands.div_ceil(number);
        let first = next.replace(next.get() + each * number);
        let entries = *entries;
        Run::of(number, each, |caller| {
            let first = first + caller * each;
            let commands = (first..first + each).map(move |index| W::command(index, entries));
            match callers {
                Callers::Blocked(_) => blocked::<W>(database, commands),
                Callers::Pipelined(_) => pipelined::<W>(database, commands),
            }
        })
    }
}

fn blocked<W: Workload>(
    database: &Database<W::Model>,
    commands: impl Iterator<Item = W::Command>,
) -> Vec<Duration> {
    commands
        .map(|command| {
            let began = Instant::now();
            database.execute(command).expect("accepted");
            began.elapsed()
        })
        .collect()
}

fn pipelined<W: Workload>(
    database: &Database<W::Model>,
    commands: impl Iterator<Item = W::Command>,
) -> Vec<Duration> {
    type InFlight<O, R> = VecDeque<(Option<Instant>, Pending<O, R>)>;
    let mut latencies = Vec::new();
    let mut in_flight: InFlight<_, _> = VecDeque::with_capacity(IN_FLIGHT);
    let mut wait_for_oldest = |in_flight: &mut InFlight<_, _>| {
        let (began, pending) = in_flight.pop_front().expect("not empty");
        pending.wait().expect("accepted");
        latencies.extend(began.map(|began| began.elapsed()));
    };
    for (command, number) in commands.zip(0_u64..) {
        if in_flight.len() == IN_FLIGHT {
            wait_for_oldest(&mut in_flight);
        }
        let began = number.is_multiple_of(LATENCY_EVERY).then(Instant::now);
        in_flight.push_back((began, database.submit(command).expect("queued")));
    }
    while !in_flight.is_empty() {
        wait_for_oldest(&mut in_flight);
    }
    latencies
}
