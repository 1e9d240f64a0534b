//! Tests `--follow` of the exchange example as a user runs it: it is killed twenty times, and in
//! the end the projections, the table in SQLite and the reactor's commands are those of the oracle.

use std::fmt::Write;
use std::hash::{BuildHasher, RandomState};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use crate::exchange_example::example;
use crate::exchange_oracle::{Oracle, Row};

const KILLS: u64 = 20;
const SIGKILL: i32 = 9;

#[test]
fn killed_twenty_times_all_that_follows_equals_the_oracle() {
    let count = if cfg!(debug_assertions) { 40_000 } else { 200_000 };
    let oracle = check(&messages(count), 1000, &[]);
    assert!(oracle.rejected > 500 && oracle.audits().count() > 10);
}

#[test]
fn so_it_is_with_snapshots_that_let_the_journal_go() {
    // With so many audits, a kill often comes between an audit and the reactor's position.
    check(&messages(20_000), 20, &["--snapshot-every", "1000"]);
}

#[test]
fn so_it_is_with_an_hour_of_a_real_exchange() {
    let file = "../shared/data/lobster-aapl-2012-06-21-first-hour-messages.csv";
    let Ok(hour) = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)) else {
        println!("skipped: no {file}");
        return;
    };
    let count = if cfg!(debug_assertions) { 30_000 } else { usize::MAX };
    check(&hour.lines().take(count).collect::<Vec<_>>().join("\n"), 1000, &[]);
}

/// Lets the example take these messages, kills it again and again, and compares.
fn check(messages: &str, audit_every: usize, extra: &[&str]) -> Oracle {
    let oracle = Oracle::of(messages, audit_every);
    let run = Run::new(messages, audit_every, extra);
    let mut random = Random(RandomState::new().hash_one(0));
    println!("the kills have the seed {}", random.0);
    let (mut kills, mut before_the_end) = (0, 0);
    while kills < KILLS {
        if run.kill_somewhere(oracle.sequence(), &mut random) {
            kills += 1;
            before_the_end += u64::from(run.position() < oracle.sequence());
        }
    }
    println!("{before_the_end} of {kills} kills came before the table had all");
    assert!(before_the_end > 0);

    // The second time, there is nothing left to do.
    for _ in 0..2 {
        let output = run.finish();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{error}");
        let output = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.lines().last(), Some(oracle.last_line().as_str()), "{output}");
        assert_eq!(output.lines().count(), 5, "{output}");
        let report = std::fs::read_to_string(&run.report).unwrap();
        let expected = oracle.report();
        for (found, expected) in report.lines().zip(expected.lines()) {
            assert_eq!(found, expected);
        }
        assert_eq!(report, expected);
        let rows = run.rows();
        let wrong = rows.iter().zip(&oracle.rows).find(|(found, expected)| found != expected);
        assert_eq!((wrong, rows.len()), (None, oracle.rows.len()));
    }
    oracle
}

/// The example with its arguments and its files.
struct Run {
    example: PathBuf,
    /// What it gets in every run.
    plain: Vec<String>,
    follow: Vec<String>,
    sqlite: PathBuf,
    report: PathBuf,
    directory: tempfile::TempDir,
}

impl Run {
    fn new(messages: &str, audit_every: usize, extra: &[&str]) -> Run {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        std::fs::write(path("messages.csv"), messages).unwrap();
        let text = |path: PathBuf| path.display().to_string();
        let list = |options: &[(&str, String)]| -> Vec<String> {
            options.iter().flat_map(|(name, value)| [(*name).to_owned(), value.clone()]).collect()
        };
        let mut plain =
            list(&[("--messages", text(path("messages.csv"))), ("--data", text(path("data")))]);
        plain.extend(extra.iter().map(|&extra| extra.to_owned()));
        let mut follow = list(&[
            ("--report", text(path("report"))),
            ("--audit-every", audit_every.to_string()),
            // Often enough that a kill finds positions at every stage.
            ("--checkpoint-every", "700".to_owned()),
        ]);
        follow.push("--follow".to_owned());
        let (sqlite, report) = (path("data.sqlite"), path("report"));
        Run { example: example(), plain, follow, sqlite, report, directory }
    }

    fn command(&self, follows: bool) -> Command {
        let mut command = Command::new(&self.example);
        command.args(&self.plain).current_dir(self.directory.path());
        if follows {
            command.args(&self.follow);
        }
        command
    }

    fn finish(&self) -> Output {
        self.command(true).output().unwrap()
    }

    /// Starts the example and kills it: soon, or when its table has grown by a random part. Now and
    /// then nothing follows it, so that the followers miss something. Returns whether the signal
    /// has ended it.
    fn kill_somewhere(&self, all: u64, random: &mut Random) -> bool {
        let position = self.position();
        let (follows, grows) = match random.below(8) {
            // Not before they are known, for then parts of the journal that they need may go.
            0 if position > 0 => (false, 0),
            0 | 1 => (true, 0),
            _ => (true, random.below(2 * all / KILLS)),
        };
        let target = (position + grows).min(all);
        let (out, err) = (Stdio::null(), Stdio::null());
        let mut child = self.command(follows).stdout(out).stderr(err).spawn().unwrap();
        while self.position() < target && child.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_micros(200));
        }
        // Not always right behind a commit.
        std::thread::sleep(Duration::from_micros(random.below(20_000)));
        child.kill().unwrap();
        child.wait().unwrap().signal() == Some(SIGKILL)
    }

    fn open(&self) -> rusqlite::Result<Connection> {
        Connection::open_with_flags(&self.sqlite, OpenFlags::SQLITE_OPEN_READ_ONLY)
    }

    /// Returns up to where the table is, as any other program can read it. It is 0 before there is
    /// a table, and while SQLite itself has it locked.
    fn position(&self) -> u64 {
        let position = self.open().and_then(|open| {
            open.query_row("SELECT position FROM prevalence_positions", [], |row| row.get(0))
        });
        position.map_or(0, |position: i64| u64::try_from(position).unwrap())
    }

    /// Returns the rows in the order in which they were written.
    fn rows(&self) -> Vec<Row> {
        let open = self.open().unwrap();
        let mut select = open.prepare("SELECT * FROM trades ORDER BY rowid").unwrap();
        let rows = select.query_map([], |row| {
            let number = |column| row.get::<_, i64>(column).map(i64::cast_unsigned);
            let order: Option<i64> = row.get(3)?;
            let order = order.map(i64::cast_unsigned);
            Ok((number(0)?, number(1)?, number(2)?, order, row.get(4)?, number(5)?))
        });
        rows.unwrap().collect::<Result<_, _>>().unwrap()
    }
}

/// Marsaglia's xorshift.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.max(1); // it would stay 0
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

/// Makes a file of messages with many trades: forty minutes, a few prices, and some mistakes.
fn messages(count: u64) -> String {
    let (mut random, mut text, mut live) = (Random(2012), String::new(), Vec::new());
    let mut time = 34_200_000_000_000;
    for id in 1..=count {
        time += random.below(2 * 40 * 60_000_000_000 / count);
        let (seconds, nanos) = (time / 1_000_000_000, time % 1_000_000_000);
        write!(text, "{seconds}.{nanos:09},").unwrap();
        let dice = if live.len() < 20 { 0 } else { random.below(100) };
        let chosen = random.below(live.len().max(1) as u64) as usize;
        let (known, remaining) = live.get(chosen).copied().unwrap_or((id, 0));
        let part = 1 + random.below(remaining.max(1));
        let left = remaining - part.min(remaining);
        let (kind, order, shares) = match dice {
            0..40 => {
                let shares = random.below(300); // now and then none
                live.push((id, shares));
                (1, id, shares)
            }
            40..85 if remaining > 0 && left == 0 => {
                live.swap_remove(chosen);
                (4, known, part)
            }
            40..75 if remaining > 0 => {
                live[chosen].1 = left;
                (4, known, part)
            }
            75..80 if remaining > 0 => {
                live[chosen].1 = left;
                (2, known, part)
            }
            80..90 => (5, 0, part),
            90..97 => {
                live.swap_remove(chosen);
                (3, known, remaining)
            }
            97 => (1, known, part),
            98 => (4, known, remaining + 1),
            _ => (3, id, 1),
        };
        // Bids are below asks. The price and side of other messages than new orders do not count.
        let (side, distance) = if random.below(2) == 0 { (1, -1) } else { (-1, 1) };
        let price = 5_850_000 + distance * (1 + random.below(30) as i64) * 100;
        writeln!(text, "{kind},{order},{shares},{price},{side}").unwrap();
    }
    text
}
