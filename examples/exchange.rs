//! A stock exchange's order book, fed with an hour of order flow. It can be killed at any time.
//!
//! ```text
//! cargo run --release --example exchange
//! cargo run --release --example exchange -- --messages FILE --data DIR
//! cargo run --release --example exchange -- --follow --data DIR
//! ```
//!
//! The whole book is a plain value in memory, and every accepted message is durable. Kill the
//! program and start it again with the same `--data`: it continues where it stopped, because the
//! book itself remembers the last message that it accepted. However often this happens, the last
//! line is the same as in a run that was not interrupted.
//!
//! With `--follow` there is more that lasts: the trades of each minute, the top of the book, a
//! table of trades in SQLite, and an audit of every thousandth trade. They too are the same however
//! often the program was killed.
//!
//! The files: `book.rs` has the state and its rules, `commands.rs` has the commands that the
//! journal holds, `trade.rs` its events, `feed.rs` and `generator.rs` produce the messages, and
//! `pipeline.rs` keeps thousands of them in flight. `follow.rs` has what follows, with `minutes.rs`
//! and `top.rs`. This file connects them.

#[path = "exchange/book.rs"]
mod book;
#[path = "exchange/commands.rs"]
mod commands;
#[path = "exchange/feed.rs"]
mod feed;
#[path = "exchange/follow.rs"]
mod follow;
#[path = "exchange/generator.rs"]
mod generator;
#[path = "exchange/minutes.rs"]
mod minutes;
#[path = "exchange/options.rs"]
mod options;
#[path = "exchange/pace.rs"]
mod pace;
#[path = "exchange/pipeline.rs"]
mod pipeline;
#[path = "exchange/top.rs"]
mod top;
#[path = "exchange/trade.rs"]
mod trade;

use std::error::Error;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use prevalence::{Database, Events, Retention, SnapshotPolicy};

use book::Book;
use feed::Feed;
use follow::Followers;
use options::{Options, Speed, USAGE};
use pace::Pace;
use pipeline::Pipeline;

/// The progress bar is updated after this many messages, which is often enough for a viewer.
const BAR_EVERY: u64 = 1_024;

fn main() -> ExitCode {
    let options = match Options::parse(lexopt::Parser::from_env()) {
        Ok(Some(options)) => options,
        Ok(None) => return print(USAGE),
        Err(error) => {
            tell(&format!("error: {error}\n\n{USAGE}"));
            return ExitCode::from(2);
        }
    };
    match run(&options) {
        Ok(last_line) => print(&last_line),
        Err(error) => {
            tell(&format!("error: {}", explain(error.as_ref())));
            ExitCode::FAILURE
        }
    }
}

/// Prints to stdout. If the reader has closed the pipe, this is an error and not a panic.
fn print(text: &str) -> ExitCode {
    match writeln!(std::io::stdout(), "{text}") {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tell(&format!("error: cannot write to stdout: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Prints to stderr. Ignores a closed pipe so that the work goes on; `eprintln!` would panic.
fn tell(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Describes the error and its causes in one sentence.
fn explain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

/// Does the work that the options ask for, and returns the last line.
fn run(options: &Options) -> Result<String, Box<dyn Error>> {
    // Opens the input first: if that fails, no database should be created.
    let mut feed = Feed::open(options.messages.as_deref())?;
    // A temporary directory removes itself at the end of this function.
    let (temporary, temporary_data);
    let data = match &options.data {
        Some(data) => data.as_path(),
        None => {
            temporary = tempfile::Builder::new().prefix("exchange-").tempdir()?;
            temporary_data = temporary.path().join("book");
            &temporary_data
        }
    };

    let mut builder = Database::<Book>::builder();
    if let Some(every) = options.snapshot_every {
        builder = builder.snapshots(SnapshotPolicy::every_commands(every));
    }
    if options.archive {
        builder = builder.retention(Retention::Archive);
    }
    if options.data.is_none() && !options.follow {
        // Nobody can follow this book, now or later. With `--data` a later run may, from the first
        // command on, so its events are stored in every run.
        builder = builder.events(Events::Off);
    }
    let db = builder.open(data)?;
    tell(&format!(
        "opened {} at sequence {} in {:.1?}, with {} commands replayed",
        data.display(),
        db.sequence(),
        db.recovery().total,
        db.recovery().commands_replayed,
    ));

    let told = work(&db, data, &mut feed, options);
    // Closes also after an error, so that the accepted messages stay and the directory is clean.
    let closed = db.close();
    let told = told?;
    closed?;
    Ok(told)
}

/// Feeds the book, and lets it be followed if that is wanted. Returns what is to be printed.
fn work(
    db: &Database<Book>,
    data: &Path,
    feed: &mut Feed,
    options: &Options,
) -> Result<String, Box<dyn Error>> {
    if !options.follow {
        return Ok(last_line(db, take_messages(db, feed, options)?));
    }
    let mut sqlite = data.as_os_str().to_owned();
    sqlite.push(".sqlite");
    let followers = Followers::start(db, Path::new(&sqlite), options)?;
    let read = take_messages(db, feed, options)?;
    followers.catch_up(db)?;
    if let Some(report) = &options.report {
        std::fs::write(report, followers.report(db))?;
    }
    let summary = followers.summary(db)?;
    followers.close()?;
    Ok(format!("{summary}\n{}", last_line(db, read)))
}

/// Describes the state of the book after `read` messages of the feed.
fn last_line(db: &Database<Book>, read: u64) -> String {
    // Uses one view, so that all numbers belong to the same version.
    let book = db.view();
    format!(
        "accepted={} rejected={} live_orders={} best_bid={} best_ask={} visible_shares={} \
         hidden_shares={} sequence={}",
        book.accepted(),
        read - book.accepted(),
        book.live_orders(),
        book.best_bid().unwrap_or(0),
        book.best_ask().unwrap_or(0),
        book.visible_shares(),
        book.hidden_shares(),
        book.sequence(),
    )
}

/// Feeds messages, starting after the last one in the book. Returns how many were read from the
/// start of the feed.
fn take_messages(
    db: &Database<Book>,
    feed: &mut Feed,
    options: &Options,
) -> Result<u64, Box<dyn Error>> {
    let already = db.query(Book::last_message);
    skip(feed, already)?;

    let bar = progress_bar(feed)?;
    let mut pipeline = Pipeline::new(db);
    let start = Instant::now();
    let pumped = pump(feed, &mut pipeline, options, &bar);
    // Waits for the messages before an error in the input too, because they are valid.
    let drained = pipeline.drain();
    bar.finish_and_clear();
    // Reports an error of the database first, because it is more serious than one of the input.
    drained?;
    let taken = pumped?;

    let seconds = start.elapsed().as_secs_f64();
    let rate = taken as f64 / seconds.max(f64::MIN_POSITIVE);
    tell(&format!("{taken} messages in {seconds:.3} s: {rate:.0} messages/s"));
    Ok(already + taken)
}

/// Skips the messages that an earlier run has taken.
fn skip(feed: &mut Feed, already: u64) -> Result<(), Box<dyn Error>> {
    for number in 1..=already {
        if feed.next_message()?.is_none() {
            let name = feed.name();
            let has = number - 1;
            return Err(format!(
                "{name} has only {has} messages, but this book has taken message {already}: \
                 it was fed from another input. Use that input, or another --data directory"
            )
            .into());
        }
    }
    Ok(())
}

/// Feeds messages into the pipeline up to the end of the feed or to the limit. Returns how many.
fn pump(
    feed: &mut Feed,
    pipeline: &mut Pipeline<'_>,
    options: &Options,
    bar: &ProgressBar,
) -> Result<u64, Box<dyn Error>> {
    let mut pace = Pace::default();
    let mut taken: u64 = 0;
    while options.stop_after.is_none_or(|limit| taken < limit) {
        let Some(message) = feed.next_message()? else {
            break;
        };
        let pause = match options.speed {
            Speed::Max => Duration::ZERO,
            Speed::Realtime => pace.until(message.time),
        };
        if !pause.is_zero() {
            // There is time to wait until everything so far is durable. This takes a part of the
            // pause, so the rest of the pause is computed again.
            pipeline.drain()?;
            bar.set_position(feed.progress().0);
            std::thread::sleep(pace.until(message.time));
        }
        pipeline.send(message)?;
        taken += 1;
        if taken.is_multiple_of(BAR_EVERY) {
            bar.set_position(feed.progress().0);
        }
    }
    Ok(taken)
}

/// Makes a progress bar on stderr. If stderr is not a terminal, the bar prints nothing.
fn progress_bar(feed: &Feed) -> Result<ProgressBar, Box<dyn Error>> {
    let (position, length) = feed.progress();
    let bar = ProgressBar::new(length);
    bar.set_style(ProgressStyle::with_template("{wide_bar} {percent}% {elapsed} ({eta} left)")?);
    bar.set_position(position);
    // The rate and the remaining time are those of this run, without the skipped messages.
    bar.reset_eta();
    Ok(bar)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    /// Eleven messages. Numbers 3, 6, 7, 10 and 11 are refused.
    const FLOW: &str = "\
34200.1,1,10,100,5850000,1\n\
34200.2,1,11,50,5850100,-1\n\
34200.3,1,10,1,5850000,1\n\
34200.4,4,10,40,5850000,1\n\
34200.5,5,0,70,5850050,-1\n\
34200.6,2,10,61,5850000,1\n\
34200.7,3,12,1,5850000,1\n\
34200.8,1,12,30,5850200,-1\n\
34200.9,3,11,50,5850100,-1\n\
34201.0,3,11,50,5850100,-1\n\
34201.1,4,11,50,5850100,-1\n";
    const LAST_LINE: &str = "accepted=6 rejected=5 live_orders=2 best_bid=5850000 \
                             best_ask=5850200 visible_shares=90 hidden_shares=70 sequence=6";

    fn options(home: &Path, stop_after: Option<u64>) -> Options {
        Options {
            messages: Some(home.join("flow.csv")),
            data: Some(home.join("data")),
            speed: Speed::Max,
            stop_after,
            ..Options::default()
        }
    }

    fn home_with(flow: &str) -> tempfile::TempDir {
        let home = tempfile::tempdir().unwrap();
        std::fs::write(home.path().join("flow.csv"), flow).unwrap();
        home
    }

    #[test]
    fn a_run_in_pieces_ends_like_a_run_at_once_and_so_does_one_more() {
        for piece in 3..=11 {
            let home = home_with(FLOW);
            for _ in 0..FLOW.lines().count() {
                run(&options(home.path(), Some(piece))).unwrap();
            }
            for _ in 0..2 {
                assert_eq!(run(&options(home.path(), None)).unwrap(), LAST_LINE);
            }
        }
    }

    #[test]
    fn an_empty_book_has_prices_of_zero() {
        let home = home_with("");
        let nothing = "accepted=0 rejected=0 live_orders=0 best_bid=0 best_ask=0 \
                       visible_shares=0 hidden_shares=0 sequence=0";
        assert_eq!(run(&options(home.path(), None)).unwrap(), nothing);
    }

    #[test]
    fn a_bad_line_ends_the_run_and_what_came_before_it_stays() {
        let home = home_with(&FLOW.replace("34200.9,3,", "34200.9,six,"));
        let error = run(&options(home.path(), None)).unwrap_err().to_string();
        assert!(error.contains("flow.csv, line 9: the type \"six\""), "{error}");
        std::fs::write(home.path().join("flow.csv"), FLOW).unwrap();
        let line = run(&options(home.path(), Some(0))).unwrap();
        assert!(line.starts_with("accepted=5 rejected=3 "), "{line}");
        assert_eq!(run(&options(home.path(), None)).unwrap(), LAST_LINE);
    }

    #[test]
    fn a_feed_that_is_too_short_for_the_book_is_an_error() {
        let home = home_with(FLOW);
        run(&options(home.path(), None)).unwrap();
        std::fs::write(home.path().join("flow.csv"), "34200.1,1,10,100,5850000,1\n").unwrap();
        let error = run(&options(home.path(), None)).unwrap_err().to_string();
        assert!(error.contains("has only 1 messages"), "{error}");
    }
}
