//! Runs cells, each in a process of its own and with a limit on its time, and counts the results.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use super::cell::{self, Cell, ENDINGS, Ending};
use super::hazard::{self, Hazard};
use super::judge::judge;
use super::scene::Scene;
use super::step::{self, Step};
use super::watch::Position;
use crate::common::child::assert_ran;
use crate::common::faults;

/// The time after which a cell hangs.
const LONGEST_CELL: Duration = Duration::from_secs(60);

/// The most operations of a step. No step has more, so a sweep that reaches this does not end.
const MOST_OPERATIONS: u64 = 5_000;

/// What a child process printed about its cell.
pub enum Answer {
    NotReached,
    Inapplicable(String),
    Judged(Vec<String>),
    Hung,
}

impl Answer {
    /// Returns what is wrong.
    pub fn wrong(self) -> Vec<String> {
        match self {
            Self::Judged(wrong) => wrong,
            Self::Hung => vec!["it hangs".to_owned()],
            Self::NotReached | Self::Inapplicable(_) => Vec::new(),
        }
    }
}

/// The results of many cells.
#[derive(Default)]
pub struct Tally {
    pub cells: u64,
    pub positions: u64,
    pub hangs: u64,
    pub violations: Vec<String>,
    pub inapplicable: BTreeMap<String, u64>,
    pub pairs: u64,
}

/// Where cells run, and with which planted fault.
pub struct Sweep {
    workshop: tempfile::TempDir,
    next: AtomicU64,
    planted: Option<String>,
    can: Abilities,
}

/// What this machine allows to try.
#[derive(Clone, Copy)]
struct Abilities {
    mounts: bool,
    users: bool,
    shim: bool,
}

impl Sweep {
    pub fn begin(planted: Option<&str>) -> Self {
        let workshop = faults::scene::workshop();
        super::process::set_mode(workshop.path(), 0o755).unwrap();
        let templates = workshop.path().join("templates");
        std::fs::create_dir(&templates).unwrap();
        super::scene::make_templates(&templates);
        // SAFETY: asks, and changes nothing.
        let users = unsafe { libc::geteuid() } == 0;
        if !users {
            println!("skipped: only root may mount, or become somebody else");
        }
        let can =
            Abilities { mounts: users && faults::may_mount(), users, shim: faults::has_shim() };
        Self { workshop, next: AtomicU64::new(0), planted: planted.map(str::to_owned), can }
    }

    /// Returns the hazards that can happen on this machine.
    pub fn hazards(&self) -> Vec<Hazard> {
        let can = |hazard: &Hazard| {
            (self.can.mounts || !hazard.needs_mounts())
                && (self.can.users || !hazard.needs_another_user())
                && (self.can.shim || !hazard.needs_the_shim())
        };
        hazard::ALL.iter().copied().filter(can).collect()
    }

    fn command(&self, cell: Cell, root: &Path) -> Command {
        let mut command = Command::new(std::env::current_exe().unwrap());
        let Cell { hazard, .. } = cell;
        command
            .args(cell::child_arguments())
            .env(super::CELL, cell.to_string())
            .env(super::ROOT, root)
            .env(super::TEMPLATES, self.workshop.path().join("templates"))
            .env("RUST_BACKTRACE", "0")
            .stdin(Stdio::null())
            .stdout(File::create(root.with_extension("said")).unwrap())
            .stderr(File::create(root.with_extension("errors")).unwrap());
        if hazard.needs_the_shim() {
            command.env("LD_PRELOAD", faults::shim().unwrap());
        }
        if let Some(planted) = &self.planted {
            command.env(prevalence::laboratory::VARIABLE, planted);
        }
        command
    }

    /// Runs one cell.
    pub fn run(&self, cell: Cell) -> Answer {
        let number = self.next.fetch_add(1, Ordering::SeqCst);
        let root = self.workshop.path().join(format!("cell-{number}"));
        let child = self.command(cell, &root).spawn().unwrap();
        let answer = match wait(child) {
            None => Answer::Hung,
            Some(status) => self.answer(cell, &root, status),
        };
        if std::env::var_os("PREVALENCE_HOSTILE_KEEP").is_none() {
            std::fs::remove_dir_all(&root).ok();
            for extension in ["said", "errors"] {
                std::fs::remove_file(root.with_extension(extension)).ok();
            }
        }
        answer
    }

    fn answer(&self, cell: Cell, root: &Path, status: ExitStatus) -> Answer {
        let text = std::fs::read_to_string(root.with_extension("said")).unwrap();
        assert_ran(&text);
        let said: Vec<&str> =
            text.lines().filter_map(|line| Some(line.split_once("said ")?.1)).collect();
        let begins = |start: &str| said.iter().find_map(|line| line.strip_prefix(start));
        if begins("not reached").is_some() {
            return Answer::NotReached;
        }
        if let Some(why) = begins("inapplicable: ") {
            return Answer::Inapplicable(why.to_owned());
        }
        if begins("judged").is_some() {
            let wrong = said.iter().filter_map(|line| line.strip_prefix("violation: "));
            let mut wrong: Vec<_> = wrong.map(str::to_owned).collect();
            if let (false, Some(at)) = (wrong.is_empty(), begins("struck at ")) {
                wrong.push(format!("(struck at {at})"));
            }
            return Answer::Judged(wrong);
        }
        let errors = std::fs::read_to_string(root.with_extension("errors")).unwrap();
        let why = errors.lines().skip_while(|line| !line.contains("panicked at")).take(2);
        let why = why.collect::<Vec<_>>().join(" ");
        if !cell.hazard.may_end_the_process() {
            return Answer::Judged(vec![format!("it ended by {status}: {why}")]);
        }
        Answer::Judged(self.judge_the_dead(cell, root, &said))
    }

    /// Judges a process that ended because it had no memory: the database must hold what it
    /// acknowledged.
    fn judge_the_dead(&self, cell: Cell, root: &Path, said: &[&str]) -> Vec<String> {
        let numbers = |start: &str| -> Vec<u64> {
            said.iter().filter_map(|line| line.strip_prefix(start)?.parse().ok()).collect()
        };
        let (tried, acknowledged) = (numbers("try "), numbers("ack "));
        let scene = Scene::at(root, &self.workshop.path().join("templates"));
        let known = numbers("knows ").last().copied().unwrap_or(0);
        let stands: Vec<u64> = (1..=known).chain(acknowledged.iter().copied()).collect();
        let last = acknowledged.last().copied().unwrap_or(0);
        let in_flight: Vec<u64> = tried.into_iter().filter(|number| *number > last).collect();
        let mut states: Vec<_> = (0..=in_flight.len())
            .map(|count| [&*stands, in_flight.get(..count).unwrap()].concat())
            .collect();
        if cell.step == Step::Purge {
            let change = |&n: &u64| if n == step::PURGED { step::IN_ITS_PLACE } else { n };
            states.push(stands.iter().map(change).collect());
        }
        judge(&scene.path, &states, cell.step.retention()).err().into_iter().collect()
    }

    /// Returns the pairs of hazards and steps.
    pub fn pairs(&self, hazards: &[Hazard]) -> Vec<(Hazard, Step)> {
        let of = |&hazard: &Hazard| {
            step::ALL.iter().filter(move |step| step.can_meet(hazard)).map(move |s| (hazard, *s))
        };
        hazards.iter().flat_map(of).collect()
    }

    /// Runs every `stride`-th position of each pair, from a start that differs from pair to pair,
    /// and the positions before and behind the step. If the stride is 1, each position runs with
    /// every ending; otherwise the endings take turns.
    pub fn sweep(&self, stride: u64) -> Tally {
        let pairs = self.pairs(&self.hazards());
        let tally = Mutex::new(Tally { pairs: pairs.len() as u64, ..Tally::default() });
        let left = Mutex::new(pairs.into_iter().enumerate().rev().collect::<Vec<_>>());
        std::thread::scope(|scope| {
            for _ in 0..std::thread::available_parallelism().map_or(1, std::num::NonZero::get) {
                scope.spawn(|| {
                    loop {
                        let Some((index, pair)) = left.lock().unwrap().pop() else { break };
                        self.sweep_pair(pair, 1 + index as u64 * 7 % stride, stride, &tally);
                    }
                });
            }
        });
        tally.into_inner().unwrap()
    }

    fn sweep_pair(&self, pair: (Hazard, Step), first: u64, stride: u64, tally: &Mutex<Tally>) {
        let (hazard, step) = pair;
        let endings = |round: u64| {
            let chosen = usize::try_from((first + round) % 3).unwrap();
            if stride == 1 { ENDINGS.to_vec() } else { vec![ENDINGS[chosen]] }
        };
        for (round, position) in (0..).zip(ends_of(hazard, step)) {
            for ending in endings(round) {
                self.count(Cell { hazard, step, position, ending }, tally);
            }
        }
        if hazard.is_everywhere() {
            return;
        }
        for at in (first..MOST_OPERATIONS).step_by(usize::try_from(stride).unwrap()) {
            let position = Position::At(at);
            let count = |ending: Ending| self.count(Cell { hazard, step, position, ending }, tally);
            // All of them, since one may come to an operation more than the other.
            let reached = endings(at).into_iter().map(count).filter(|reached| *reached).count();
            if reached == 0 {
                return;
            }
        }
        panic!("{hazard:?} at {step:?}: there is no end");
    }

    /// Runs one cell and counts it. Returns `false` if its position was not reached.
    fn count(&self, cell: Cell, tally: &Mutex<Tally>) -> bool {
        let answer = self.run(cell);
        let Cell { hazard, position, .. } = cell;
        let name = cell.to_string();
        let mut tally = tally.lock().unwrap();
        match answer {
            Answer::NotReached => return false,
            Answer::Inapplicable(why) => {
                *tally.inapplicable.entry(format!("{hazard:?}: {why}")).or_default() += 1;
                return true;
            }
            Answer::Hung => {
                tally.hangs += 1;
                tally.violations.push(format!("{name}: it hangs"));
            }
            Answer::Judged(wrong) if wrong.is_empty() => {}
            Answer::Judged(wrong) => {
                let told = format!("{name}: {}", wrong.join("; "));
                println!("  {told}");
                tally.violations.push(told);
            }
        }
        tally.cells += 1;
        tally.positions += u64::from(matches!(position, Position::At(_)));
        true
    }
}

/// Returns the positions before and behind a step that have a meaning.
pub fn ends_of(hazard: Hazard, step: Step) -> Vec<Position> {
    if hazard.is_everywhere() {
        return vec![Position::Before];
    }
    let nobody_is_there = step.is_offline() || step.opens();
    let is_of_paths = hazard.needs_a_place() || hazard == Hazard::Chdir;
    let before = !(is_of_paths && nobody_is_there);
    let behind = !step.is_offline() && step != Step::Close;
    let before = before.then_some(Position::Before);
    before.into_iter().chain(behind.then_some(Position::Behind)).collect()
}

/// Waits for a process to end; `None` when it hangs, and then it is killed.
fn wait(mut child: std::process::Child) -> Option<ExitStatus> {
    let id = child.id().cast_signed();
    let (ended, end) = channel();
    let waiting = std::thread::spawn(move || ended.send(child.wait().unwrap()).ok());
    let status = match end.recv_timeout(LONGEST_CELL) {
        Ok(status) => Some(status),
        Err(RecvTimeoutError::Timeout) => {
            // SAFETY: ends the child by its id, which nobody has waited for yet.
            unsafe { libc::kill(id, libc::SIGKILL) };
            None
        }
        Err(RecvTimeoutError::Disconnected) => None,
    };
    waiting.join().unwrap();
    status
}

/// Returns the hazards and the steps that are most likely to show a fault.
pub fn hints(fault: &str) -> (&'static [Hazard], &'static [Step]) {
    use Hazard::*;
    match fault {
        "PlaceByPath" => (&[Replaced, Chdir], step::ALL),
        "PathStaysRelative" => (&[Chdir], step::ALL),
        "PlaceNotVerified" => (&[Moved, Replaced], step::ALL),
        "PlaceVerifiedOnlyBefore" => (&[Moved], &[Step::Close]),
        "UnlinkedSegmentNotNoticed" => (&[SegmentRemoved], &[Step::Commit]),
        "CloseDoesNotLook" => (&[SegmentRemoved], &[Step::Close]),
        "LeftSegmentForgotten" => (&[SegmentRemoved], &[Step::Rotation]),
        "DirectoryNotLocked" | "LockFileNotVerified" => (&[LockRemoved, LockReplaced], step::ALL),
        "ReserveNotGiven" => (&[FullDisk], &[Step::CommitFirst]),
        "RefusedBatchKept" | "EarlyFailurePoisons" => (&[NoDescriptors, FullDisk], step::ALL),
        "InsideNotVerified" => (&[JournalReplaced, SnapshotsReplaced], step::ALL),
        "MadeAndNotHeld" => (&[SnapshotsReplaced], &[Step::OpenNew]),
        "ExchangeByPath" => (&[Replaced], step::ALL),
        "ExchangeUnseen" => (&[JournalReplaced], &[Step::Purge]),
        "ForkNotNoticed" | "ChildUnlocks" => (&[Fork], step::ALL),
        _ => (hazard::ALL, step::ALL),
    }
}

/// Returns the directory of the cells, to look for the cause of a violation.
pub fn workshop(sweep: &Sweep) -> PathBuf {
    sweep.workshop.path().to_path_buf()
}
