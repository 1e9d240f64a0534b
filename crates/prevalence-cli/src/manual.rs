//! Owns the commands `man` and `completions`: what `man` and shells are told of the tool. It
//! is made of the same description as `--help`. Knows nothing of databases.

use std::io::{self, Write};

use clap::{Command, CommandFactory};
use clap_complete::Shell;
use clap_mangen::Man;

use crate::arguments::{Arguments, Completions, Manual};
use crate::failure::{EXIT_CODES, FINE, Failure, Unwritten};

/// Runs the command `completions`.
pub fn complete(wanted: &Completions, out: &mut dyn Write) -> Result<u8, Failure> {
    let shell: Shell = wanted.shell;
    let mut script = Vec::new(); // what makes it panics if it cannot be written
    clap_complete::generate(shell, &mut Arguments::command(), "prevalence", &mut script);
    out.write_all(&script)?;
    Ok(FINE)
}

/// Runs the command `man`.
pub fn man(wanted: &Manual, out: &mut dyn Write) -> Result<u8, Failure> {
    for (name, page) in pages()? {
        let Some(directory) = &wanted.directory else {
            out.write_all(&page)?;
            continue;
        };
        let path = directory.join(name);
        std::fs::write(&path, page).map_err(|source| Unwritten { path, source })?;
    }
    Ok(FINE)
}

/// Returns all pages, each with the name of its file.
fn pages() -> io::Result<Vec<(String, Vec<u8>)>> {
    let mut whole = Arguments::command();
    whole.build();
    let commands = whole.get_subcommands().filter(|it| it.get_name() != "help");
    let commands: Vec<Command> = commands.cloned().collect();
    let mut all = vec![page(whole, "prevalence".to_owned())?];
    for command in commands {
        let name = format!("prevalence-{}", command.get_name());
        // Its title and its text are of the same name.
        all.push(page(command.display_name(name.clone()), name)?);
    }
    Ok(all)
}

fn page(command: Command, name: String) -> io::Result<(String, Vec<u8>)> {
    let mut page = Vec::new();
    let command = command.version(env!("CARGO_PKG_VERSION")).after_help(EXIT_CODES);
    Man::new(command).title(name.clone()).render(&mut page)?;
    Ok((format!("{name}.1"), page))
}
