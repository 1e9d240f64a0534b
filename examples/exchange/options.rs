//! The command line.

use std::path::PathBuf;

use lexopt::prelude::*;

pub const USAGE: &str = "\
usage: exchange [--messages FILE] [--data DIR] [--speed max|realtime] [--stop-after N]
                [--snapshot-every N] [--archive]
                [--follow] [--audit-every N] [--checkpoint-every N] [--report FILE]

  --messages FILE   order flow in LOBSTER's format: time,type,order id,size,price,direction
                    (without it: a generated stream of 200,000 messages)
    --data DIR        the directory of the book; a later run with it continues the book
                    (without it: a new temporary directory)
  --speed SPEED     max: as fast as possible (the default)
                    realtime: at the pace of the messages' own times
  --stop-after N    read at most N messages in this run, counted from the last accepted one
  --snapshot-every N  take a snapshot after every N accepted messages
    --archive         keep every accepted message, compressed, instead of removing the journal
                    before snapshots
  --follow          let projections, a table in SQLite (DIR.sqlite) and a reactor follow the book,
                    and print a line about each at the end
  --audit-every N   with --follow: let the reactor note every Nth trade (without it: 1,000)
  --checkpoint-every N  with --follow: make their positions durable after every N commands
  --report FILE     with --follow: write all that they have made to FILE, but for the table
  --help            print this";

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Speed {
    #[default]
    Max,
    Realtime,
}

/// The options that the user gave.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Options {
    pub messages: Option<PathBuf>,
    pub data: Option<PathBuf>,
    pub speed: Speed,
    pub stop_after: Option<u64>,
    pub snapshot_every: Option<u64>,
    pub archive: bool,
    pub follow: bool,
    pub audit_every: Option<u64>,
    pub checkpoint_every: Option<u64>,
    pub report: Option<PathBuf>,
}

impl Options {
    /// Parses the command line. Returns `None` if it asks for help.
    pub fn parse(mut parser: lexopt::Parser) -> Result<Option<Options>, lexopt::Error> {
        let mut options = Options::default();
        while let Some(argument) = parser.next()? {
            match argument {
                Long("messages") => options.messages = Some(parser.value()?.into()),
                Long("data") => options.data = Some(parser.value()?.into()),
                Long("speed") => options.speed = speed(&parser.value()?.string()?)?,
                Long("stop-after") => {
                    options.stop_after = Some(count("stop-after", &parser.value()?.string()?)?);
                }
                Long("snapshot-every") => {
                    let every = count("snapshot-every", &parser.value()?.string()?)?;
                    options.snapshot_every = Some(every);
                }
                Long("archive") => options.archive = true,
                Long("follow") => options.follow = true,
                Long("audit-every") => {
                    options.audit_every = Some(count("audit-every", &parser.value()?.string()?)?);
                }
                Long("checkpoint-every") => {
                    let every = count("checkpoint-every", &parser.value()?.string()?)?;
                    options.checkpoint_every = Some(every);
                }
                Long("report") => options.report = Some(parser.value()?.into()),
                Long("help") | Short('h') => return Ok(None),
                other => return Err(other.unexpected()),
            }
        }
        options.check()?;
        Ok(Some(options))
    }

    fn check(&self) -> Result<(), lexopt::Error> {
        for (name, is_given) in [
            ("audit-every", self.audit_every.is_some()),
            ("checkpoint-every", self.checkpoint_every.is_some()),
            ("report", self.report.is_some()),
        ] {
            if is_given && !self.follow {
                return Err(format!("--{name} needs --follow").into());
            }
        }
        Ok(())
    }
}

fn speed(text: &str) -> Result<Speed, lexopt::Error> {
    match text {
        "max" => Ok(Speed::Max),
        "realtime" => Ok(Speed::Realtime),
        other => Err(format!("--speed {other:?} is neither max nor realtime").into()),
    }
}

fn count(option: &str, text: &str) -> Result<u64, lexopt::Error> {
    let number = text.parse();
    number.map_err(|error| format!("--{option} {text:?} is not a count: {error}").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Option<Options>, String> {
        let parser = lexopt::Parser::from_args(line.split_whitespace());
        Options::parse(parser).map_err(|error| error.to_string())
    }

    #[test]
    fn options_are_read() {
        assert_eq!(parse(""), Ok(Some(Options::default())));
        assert_eq!(parse("--data d --help"), Ok(None));
        let all = parse(
            "--messages f --data d --speed realtime --stop-after 9 --snapshot-every 8 --archive \
             --follow --audit-every 6 --checkpoint-every 7 --report r",
        );
        let expected = Options {
            messages: Some("f".into()),
            data: Some("d".into()),
            speed: Speed::Realtime,
            stop_after: Some(9),
            snapshot_every: Some(8),
            archive: true,
            follow: true,
            audit_every: Some(6),
            checkpoint_every: Some(7),
            report: Some("r".into()),
        };
        assert_eq!(all, Ok(Some(expected)));
    }

    #[test]
    fn bad_options_are_named() {
        for (line, name) in [
            ("--fast", "--fast"),
            ("--data", "--data"),
            ("--speed warp", "--speed \"warp\""),
            ("--stop-after -1", "--stop-after \"-1\""),
            ("--stop-after", "--stop-after"),
            ("--snapshot-every x", "--snapshot-every \"x\""),
            ("--follow --checkpoint-every x", "--checkpoint-every \"x\""),
            ("--follow --audit-every x", "--audit-every \"x\""),
            ("--report r", "--report needs --follow"),
            ("file.csv", "file.csv"),
        ] {
            let error = parse(line).unwrap_err();
            assert!(error.contains(name), "{error}");
        }
    }
}
