//! Measures how far a read-only database in another process lags behind a writer that is paced to
//! 100,000 commands a second, and what following an idle database costs.
//!
//! The writer is a process of its own: this bench again. It notes when each command was answered, on
//! the clock that all processes of a machine share. Its first core is the writer's, and the last
//! one the reader's, if there is more than one.
//!
//! `cargo bench --bench read_only`; `-- --test` runs a small form.

#[path = "support/mod.rs"]
mod support;

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command as Process, Stdio};
use std::time::Duration;

use prevalence::collections::Map;
use prevalence::{Command, Context, Database, Model, Pending};
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use support::comparison::verdict;
use support::{directory, is_short, mix};

/// Says to the writer where its database is, and how many commands it executes.
const WRITER: &str = "PREVALENCE_BENCH_WRITER";
const COMMANDS_A_SECOND: u64 = 100_000;
const ACCOUNTS: u64 = 1_000_000;
const IN_FLIGHT: usize = 8_192;
const LONGEST_PAUSE: Duration = Duration::from_millis(10);
const TARGET: Duration = Duration::from_millis(50);

#[derive(Clone, Default, Serialize, Deserialize)]
struct Accounts(Map<u64, u64>);

impl Model for Accounts {
    type Event = ();
}

#[derive(Serialize, Deserialize)]
struct Deposit {
    account: u64,
    cents: u64,
}

impl Command<Accounts> for Deposit {
    type Output = u64;
    type Rejection = std::convert::Infallible;

    fn apply(
        self,
        accounts: &mut Accounts,
        cx: &mut Context<'_, Accounts>,
    ) -> Result<u64, Self::Rejection> {
        let before = accounts.0.get(&self.account).copied().unwrap_or(0);
        accounts.0.insert(self.account, before.wrapping_add(self.cents));
        Ok(cx.sequence())
    }
}

prevalence::commands! { Accounts { 1 => Deposit } }

/// The time on the clock that all processes share, in nanoseconds.
fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// The processor time of this process so far.
fn processor_time() -> Duration {
    let spent = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(spent.tv_sec as u64, spent.tv_nsec as u32)
}

/// Keeps this process on one core: the writer on the first, the reader on the last.
fn stay_on(core: &str) {
    let id = std::process::id().to_string();
    let stays = Process::new("taskset").args(["-acp", core, &id]).stdout(Stdio::null()).status();
    if !stays.is_ok_and(|status| status.success()) {
        println!("(taskset does not work here: the processes share all cores)");
    }
}

/// Executes so many commands at the given pace, and prints when which sequence was answered.
fn write(path: &Path, commands: u64) {
    let database = Database::<Accounts>::open(path).expect("open");
    println!("ready");
    std::io::stdout().flush().expect("somebody reads");
    std::io::stdin().read_exact(&mut [0]).expect("the reader is ready");
    let mut answered: Vec<(u64, u64)> = Vec::with_capacity(commands as usize);
    let mut in_flight: VecDeque<Pending<u64, _>> = VecDeque::with_capacity(IN_FLIGHT);
    let (began, first) = (now_ns(), database.sequence());
    let take = |in_flight: &mut VecDeque<Pending<u64, _>>, answered: &mut Vec<(u64, u64)>| {
        let sequence = in_flight.pop_front().expect("not empty").wait().expect("accepted");
        answered.push((sequence, now_ns()));
    };
    let mut submitted = 0;
    while submitted < commands {
        let due = (now_ns() - began) * COMMANDS_A_SECOND / 1_000_000_000;
        while submitted < due.min(commands) {
            if in_flight.len() == IN_FLIGHT {
                take(&mut in_flight, &mut answered);
            }
            let deposit = Deposit { account: mix(submitted) % ACCOUNTS, cents: submitted };
            in_flight.push_back(database.submit(deposit).expect("queued"));
            submitted += 1;
        }
        // What is answered by now is taken, so that its time is right.
        let newest = database.sequence() - first;
        while answered.len() as u64 + 64 < newest {
            take(&mut in_flight, &mut answered);
        }
        std::thread::sleep(Duration::from_micros(200));
    }
    while !in_flight.is_empty() {
        take(&mut in_flight, &mut answered);
    }
    let took = Duration::from_nanos(now_ns() - began);
    let text: String = answered.iter().map(|(sequence, at)| format!("{sequence} {at}\n")).collect();
    std::fs::write(path.with_extension("answers"), text).expect("written");
    println!("done {} {}", first + commands, took.as_nanos());
    std::io::stdout().flush().expect("somebody reads");
    // It stays open and idle until the reader has seen the last command.
    std::io::stdin().read_to_end(&mut Vec::new()).expect("the reader ends it");
}

/// How far the reader lags, in nanoseconds, for each answered command, in order.
fn lags(answers: &str, visible: &[(u64, u64)]) -> Vec<u64> {
    let mut visible = visible.iter().peekable();
    let mut lags: Vec<u64> = Vec::new();
    for line in answers.lines() {
        let (sequence, at) = line.split_once(' ').expect("two numbers");
        let (sequence, at): (u64, u64) =
            (sequence.parse().expect("a number"), at.parse().expect("a number"));
        while visible.next_if(|(seen, _)| *seen < sequence).is_some() {}
        let (_, seen_at) = visible.peek().expect("the last one is seen");
        lags.push(seen_at.saturating_sub(at));
    }
    lags.sort_unstable();
    lags
}

fn measure(path: &Path, commands: u64) {
    let database = Database::<Accounts>::open(path).expect("open");
    database.close().expect("close");
    let mut child = Process::new(std::env::current_exe().expect("a path"))
        .env(WRITER, format!("{commands} {}", path.display()))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("start");
    let mut input = child.stdin.take().expect("piped");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let mut said = |begin: &str| loop {
        let line = lines.next().expect("the writer lives").expect("text");
        if let Some(rest) = line.strip_prefix(begin) {
            return rest.trim().to_owned();
        }
    };
    said("ready");
    let reader = Database::<Accounts>::open_read_only(path).expect("open");
    reader.follow(LONGEST_PAUSE).expect("follow");
    let spent = processor_time();
    input.write_all(b"g").expect("the writer reads");
    let mut visible = Vec::new();
    let first = reader.sequence();
    let last = first + commands;
    while reader.sequence() < last {
        let next = reader.sequence() + 1;
        reader.wait_for(next, Duration::from_secs(60)).expect("it follows");
        visible.push((reader.sequence(), now_ns()));
    }
    let spent = processor_time() - spent;
    let done = said("done ");
    let took = done.split_once(' ').expect("two numbers").1.parse().expect("a number");
    let took = Duration::from_nanos(took);
    let answers = std::fs::read_to_string(path.with_extension("answers")).expect("written");
    let lags = lags(&answers, &visible);
    let at = |per_mille: usize| Duration::from_nanos(lags[(lags.len() - 1) * per_mille / 1000]);
    let rate = commands as f64 / took.as_secs_f64();
    println!("{commands} commands at {rate:.0} a second, {} versions seen", visible.len());
    println!(
        "lag behind the answer: p50 {:.2?}, p99 {:.2?}, p99.9 {:.2?}, max {:.2?}",
        at(500),
        at(990),
        at(999),
        at(1000)
    );
    println!("p99, target at most {TARGET:?}: {}", verdict(at(990) <= TARGET));
    println!("the reader took {:.1} % of a core", 100.0 * spent.as_secs_f64() / took.as_secs_f64());
    let (pause, spent) = (Duration::from_secs(if is_short() { 1 } else { 10 }), processor_time());
    std::thread::sleep(pause);
    let spent = processor_time() - spent;
    let share = 100.0 * spent.as_secs_f64() / pause.as_secs_f64();
    println!("beside the idle writer: {share:.2} % of a core");
    drop(input);
    assert!(child.wait().expect("it ends").success());
}

fn main() {
    if let Ok(setting) = std::env::var(WRITER) {
        let (commands, path) = setting.split_once(' ').expect("two words");
        stay_on("0");
        return write(&PathBuf::from(path), commands.parse().expect("a number"));
    }
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let directory = directory();
    let path = directory.path().join("accounts.db");
    let commands = if is_short() { 20_000 } else { 3_000_000 };
    println!("== read_only: lag of a reader in another process, {cores} cores");
    stay_on(&(cores - 1).to_string());
    measure(&path, commands);
}
