//! The tool for whoever has to run, look into and check a `prevalence` database. It needs none of
//! the program's types, and it works on a closed directory, on a backup, and beside a program that
//! has the database open.
//!
//! What looks takes no lock and writes nothing. `backup`, `restore` and `repair` write another
//! directory and leave that of the database as it is. `compact-archive` changes a closed one.
//! `import` opens none: it talks to the program that has it open.
//!
//! - `arguments`: what a user can ask for
//! - `output`: how values become lines of text or JSON
//! - `failure`: why a command ends, and with which exit code
//! - `progress`: how far a long command is, on a terminal
//! - `commands`: which stored commands are wanted, and the way through them
//! - `condition`: the conditions of `log --where`; `decimal`: numbers with all their digits
//! - `json_stream`: a long JSON text, piece by piece
//! - `info`, `du`, `log`, `export`, `show`, `diff`, `verify`, `repair`, `backup`, `restore`,
//!   `compact`, `import`: one command each
//! - `manual`: `man` and `completions`, what the tool says of itself

#![warn(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss
)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic))]

mod arguments;
mod backup;
mod commands;
mod compact;
mod condition;
mod decimal;
mod diff;
mod du;
mod export;
mod failure;
mod import;
mod info;
mod json_stream;
mod log;
mod manual;
mod output;
mod progress;
mod repair;
mod restore;
mod show;
mod verify;

use std::ffi::OsString;
use std::io::Write;

use clap::Parser;

use arguments::{Arguments, Wanted};
use failure::Failure;

/// Runs the tool with these arguments, of which the first is the program's name. It writes its
/// results to `out`, and errors and progress to the standard error. Returns the exit code that
/// `--help` documents.
pub fn run(arguments: impl IntoIterator<Item = OsString>, out: &mut dyn Write) -> u8 {
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(told) => {
            // Help and version are results; all else is a wrong call.
            if told.use_stderr() {
                told.print().ok(); // if the terminal is gone, nobody can be told
                return failure::USAGE;
            }
            let written = write!(out, "{}", told.render()).and_then(|()| out.flush());
            return failure::code(written.map(|()| failure::FINE).map_err(Failure::from));
        }
    };
    let done = match arguments.wanted {
        Wanted::Info(wanted) => info::run(&wanted, out),
        Wanted::Du(wanted) => du::run(&wanted, out),
        Wanted::Log(wanted) => log::run(&wanted, out),
        Wanted::Export(wanted) => export::run(&wanted, out),
        Wanted::Show(wanted) => show::run(&wanted, out),
        Wanted::Diff(wanted) => diff::run(&wanted, out),
        Wanted::Verify(wanted) => verify::run(&wanted, out),
        Wanted::Repair(wanted) => repair::run(&wanted, out),
        Wanted::Backup(wanted) => backup::run(&wanted, out),
        Wanted::CompactArchive(wanted) => compact::run(&wanted, out),
        Wanted::Restore(wanted) => restore::run(&wanted, out),
        Wanted::Import(wanted) => import::run(&wanted, out),
        Wanted::Completions(wanted) => manual::complete(&wanted, out),
        Wanted::Man(wanted) => manual::man(&wanted, out),
    };
    let flushed = done.and_then(|code| {
        out.flush()?;
        Ok(code)
    });
    failure::code(flushed)
}
