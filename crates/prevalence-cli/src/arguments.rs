//! Owns what a user can ask for. Knows nothing of how it is done.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use clap::{Args, Parser, Subcommand, ValueEnum};
use ureq::http::{HeaderName, HeaderValue, Uri};

use crate::condition::{self, Condition};
use crate::failure::EXIT_CODES;
use crate::import::service;

/// Looks into a prevalence database: a closed one, a backup, or one that a program has open.
///
/// What looks takes no lock and writes nothing. `backup`, `restore` and `repair` write another
/// directory and leave that of the database as it is. `compact-archive` changes a closed one.
/// `import` opens none: it sends commands to a running service.
#[derive(Debug, Parser)]
#[command(name = "prevalence", version, after_help = EXIT_CODES, max_term_width = 100)]
pub struct Arguments {
    #[command(subcommand)]
    pub wanted: Wanted,
}

#[derive(Debug, Subcommand)]
pub enum Wanted {
    /// Says what the database is, what it holds, and what an open would do.
    Info(Looked),
    /// Says how many bytes each part of the directory takes.
    Du(Looked),
    /// Prints the stored commands, oldest first.
    Log(Log),
    /// Writes the stored commands as a table or as lines of JSON, whole and with their types.
    Export(Export),
    /// Prints the model of a snapshot as JSON, without the program's types. It reads piece by
    /// piece, so a large model needs little memory.
    Show(Show),
    /// Says what differs between the models of two snapshots, without the program's types. It reads
    /// piece by piece, so large models need little memory.
    Diff(Diff),
    /// Reads all files and says what is wrong with each, and what to do.
    Verify(Verify),
    /// Writes a new database with everything that can be saved of a damaged one. First it says what
    /// will be lost.
    Repair(Repair),
    /// Copies a database into a new directory, or what is new into that of an earlier backup.
    Backup(Backup),
    /// Writes a database as it was at an earlier command or time into a new directory.
    Restore(Restore),
    /// Merges the archives of a closed database, and packs them better. The commands stay as they
    /// are.
    CompactArchive(Compact),
    /// Sends commands to a running service, which executes them: lines as `log --json` and `export`
    /// write them. Sequences and times are given anew.
    ///
    /// A request has at most 1,000 lines and 1 MiB, or one longer line, and is sent when the one
    /// before is answered. No request is sent again: if an answer is lost, the service may have
    /// executed its lines. Then, and whenever it ends early, the tool says up to which line all is
    /// answered. Ctrl-C ends it behind the answer that it waits for, a second one at once.
    Import(Import),
    /// Prints a script that completes the arguments of this tool in a shell.
    Completions(Completions),
    /// Prints the manual pages of this tool, or writes them into a directory.
    Man(Manual),
}

#[derive(Debug, Args)]
pub struct Completions {
    /// The shell.
    #[arg(value_enum)]
    pub shell: clap_complete::Shell,
}

#[derive(Debug, Args)]
pub struct Manual {
    /// The directory for the pages, such as /usr/local/share/man/man1. Pages of the same names are
    /// replaced.
    pub directory: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct Looked {
    /// The directory of the database.
    pub path: PathBuf,
    /// Prints one JSON object.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Show {
    /// The directory of the database.
    pub path: PathBuf,
    /// Only this part of the model: names of fields and variants, keys of maps and numbers of
    /// elements, with dots between them, as in balances.7
    pub part: Option<String>,
    /// The newest snapshot that is not behind this sequence or time. Without it, the newest.
    #[arg(long, value_name = "SEQUENCE|TIME", value_parser = at)]
    pub at: Option<At>,
    /// The model is always printed as JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Diff {
    /// The directory of the database.
    pub path: PathBuf,
    /// The first snapshot: that of a sequence, or the newest one that is not behind a time.
    #[arg(value_name = "SEQUENCE|TIME", value_parser = at)]
    pub before: At,
    /// The second snapshot.
    #[arg(value_name = "SEQUENCE|TIME", value_parser = at)]
    pub after: At,
    /// Only this part of the model, as in `show`.
    pub part: Option<String>,
    /// Entries of maps that are in another order in each snapshot, as those of a HashMap, wait for
    /// each other in memory: so many MiB of them at most.
    #[arg(long, value_name = "MIB", default_value_t = 64)]
    pub memory: u64,
    /// Prints a JSON object on each line.
    #[arg(long)]
    pub json: bool,
}

/// A point in the history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    Sequence(u64),
    Time(SystemTime),
}

fn at(text: &str) -> Result<At, String> {
    match text.parse() {
        Ok(sequence) => Ok(At::Sequence(sequence)),
        Err(_) => time(text).map(At::Time),
    }
}

#[derive(Debug, Args)]
pub struct Verify {
    /// The directory of the database.
    pub path: PathBuf,
    /// Also reads the contents of snapshots, archives and checkpoints. Without it: headers, footers
    /// and indexes of all files, and all batches of the journal.
    #[arg(long)]
    pub deep: bool,
    /// Prints one JSON object.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Repair {
    /// The directory of the database. It must not be open.
    pub path: PathBuf,
    /// The new directory. Without it, PATH.repaired
    #[arg(long, value_name = "TARGET")]
    pub into: Option<PathBuf>,
    /// Does not ask.
    #[arg(long)]
    pub yes: bool,
    /// Gives the new database the place of the damaged one, which becomes PATH.replaced
    #[arg(long)]
    pub replace: bool,
    /// Prints one JSON object: the plan, and what was done.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Compact {
    /// The directory of the database. No program may have it open.
    pub path: PathBuf,
    /// How many MiB of commands, before packing, an archive may hold. 1 to 4096.
    #[arg(long, value_name = "MIB", default_value_t = 256)]
    pub content: u64,
    /// The zstd level. Higher ones pack better and take longer.
    #[arg(long, value_name = "LEVEL", default_value_t = 15)]
    pub level: i32,
    /// Packs also archives anew that cannot be merged with a neighbour.
    #[arg(long)]
    pub repack: bool,
    /// Prints one JSON object.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Backup {
    /// The directory of the database. It may be open: then the copy ends with the newest command of
    /// which the files state that it is on stable storage.
    pub path: PathBuf,
    /// The directory of the backup: a new one, or that of an earlier backup.
    pub target: PathBuf,
    /// Also copies the history: archives, archived snapshots and all of the journal.
    #[arg(long)]
    pub history: bool,
    /// Prints one JSON object.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Restore {
    /// The directory of the database, or of a backup. It may be open.
    pub path: PathBuf,
    /// The new directory. It must be empty or missing.
    pub target: PathBuf,
    /// The last command that the copy has: its sequence, or a time, of which it is the last one
    /// that is not later. Without it, the newest.
    #[arg(long, value_name = "SEQUENCE|TIME", value_parser = at)]
    pub to: Option<At>,
    /// Prints one JSON object.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Import {
    /// The file with the lines; - for the standard input.
    pub file: PathBuf,
    /// Where the service takes imports, as in http://127.0.0.1:8080/import
    #[arg(long, value_parser = service::url)]
    pub url: Uri,
    /// Leaves out the lines before this one. They are counted from 1, also the empty ones.
    #[arg(long, value_name = "LINE", default_value_t = 1,
        value_parser = clap::value_parser!(u64).range(1..))]
    pub from_line: u64,
    /// A header of each request, such as 'Authorization: Bearer …'. It may be given several times.
    #[arg(long, value_name = "NAME: VALUE", value_parser = service::header)]
    pub header: Vec<(HeaderName, HeaderValue)>,
    /// How long the answer to a request may take, from the connection to its end: 90s, 5m
    #[arg(long, value_name = "DURATION", default_value = "2m", value_parser = timeout)]
    pub timeout: Duration,
    /// Prints one JSON object.
    #[arg(long)]
    pub json: bool,
}

/// How `log` prints a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A line for the eye. Long commands are cut.
    Text,
    /// A JSON object on each line.
    Ndjson,
    /// Comma-separated values, with a line of names.
    Csv,
}

/// Which commands are wanted.
#[derive(Debug, Args)]
pub struct Chosen {
    /// The directory of the database.
    pub path: PathBuf,
    /// The first sequence. Without it, the oldest that is stored.
    #[arg(long, value_name = "SEQUENCE")]
    pub from: Option<u64>,
    /// The last sequence.
    #[arg(long, value_name = "SEQUENCE")]
    pub to: Option<u64>,
    /// Only commands at this time or later: 2026-11-28T06:40:00Z, 2026-11-28, or 15m for the last
    /// fifteen minutes. Times are in UTC.
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub since: Option<SystemTime>,
    /// Only commands before this time.
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub until: Option<SystemTime>,
    /// Only commands of this actor.
    #[arg(long)]
    pub actor: Option<String>,
    /// Only commands with this name. It may be given several times.
    #[arg(long, value_name = "NAME")]
    pub command: Vec<String>,
    /// Only commands whose fields meet this condition: 'amount > 100 and to.id = 7'. A path has the
    /// names of fields and variants, keys and numbers of elements, with dots between them; what has
    /// dots or blanks itself is in quotes: 'prices."a.b".cents = 5'. There are = != < <= > >= ~
    /// (contains), and, or, not and parentheses. Numbers are compared with all their digits.
    #[arg(long = "where", value_name = "CONDITION", value_parser = condition::parse)]
    pub condition: Option<Condition>,
    /// Only commands with this request id.
    #[arg(long, value_name = "ID")]
    pub request_id: Option<String>,
    /// Ends after so many commands.
    #[arg(long, value_name = "COUNT")]
    pub limit: Option<u64>,
}

#[derive(Debug, Args)]
pub struct Log {
    #[command(flatten)]
    pub chosen: Chosen,
    /// Waits for further commands, until it is interrupted.
    #[arg(long)]
    pub follow: bool,
    /// How commands are printed.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
    /// The same as `--format ndjson`.
    #[arg(long, conflicts_with = "format")]
    pub json: bool,
}

/// What an export is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ExportFormat {
    /// A JSON object on each line, as those of `log`.
    Ndjson,
    /// Comma-separated values, with a line of names.
    Csv,
    /// A Parquet file, which needs --output.
    #[cfg(feature = "parquet")]
    Parquet,
}

#[derive(Debug, Args)]
pub struct Export {
    #[command(flatten)]
    pub chosen: Chosen,
    /// The form of the export. In a table (not ndjson), the fields of a command are one column of
    /// JSON. If --command names one command, each field has a column of its own.
    #[arg(long, value_enum, default_value_t = ExportFormat::Ndjson)]
    pub format: ExportFormat,
    /// The file, which is replaced when the export is whole. Without it, the standard output.
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// Parses how long something may take.
fn timeout(text: &str) -> Result<Duration, String> {
    // The clock of the system ends somewhere, and a century is longer than anybody waits.
    let most = Duration::from_secs(100 * 365 * 86400);
    let parsed = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    match parsed.is_zero() || parsed > most {
        true => Err("it must be more than nothing, and at most a hundred years".to_owned()),
        false => Ok(parsed),
    }
}

/// Parses a time, or a duration before now.
fn time(text: &str) -> Result<SystemTime, String> {
    let day = || format!("{text}T00:00:00Z");
    let parsed = humantime::parse_rfc3339_weak(text)
        .or_else(|_| humantime::parse_rfc3339_weak(&day()))
        .ok()
        .or_else(|| SystemTime::now().checked_sub(humantime::parse_duration(text).ok()?));
    // Nothing was stored before 1970, and what is computed with times must not overflow.
    let parsed = parsed.filter(|time| *time >= SystemTime::UNIX_EPOCH + Duration::ZERO);
    parsed.ok_or_else(|| {
        "it is neither a time such as 2026-11-28T06:40:00Z or 2026-11-28, nor a duration such as \
         15m or 2h"
            .to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_sound() {
        use clap::CommandFactory;
        Arguments::command().debug_assert();
    }

    #[test]
    fn times_and_durations_are_understood() {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        assert_eq!(time("2026-11-28T06:40:00Z"), Ok(at(1_795_848_000)));
        assert_eq!(time("2026-11-28 06:40:00"), Ok(at(1_795_848_000)));
        assert_eq!(time("2026-11-28"), Ok(at(1_795_824_000)));
        let before = SystemTime::now();
        let parsed = time("15m").unwrap() + Duration::from_secs(15 * 60);
        assert!(before <= parsed && parsed <= SystemTime::now());
        for wrong in ["", "yesterday", "2026-13-01", "999999999999y", "-5"] {
            assert!(time(wrong).is_err(), "{wrong}");
        }
    }
}
