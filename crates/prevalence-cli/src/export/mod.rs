//! Owns the command `export`: where the stored commands are written to, and in which form. Knows
//! nothing of which ones are chosen.
//!
//! - `table`: which columns they have, and what is in each
//! - `parquet`: a table as a Parquet file

#[cfg(feature = "parquet")]
mod parquet;
mod table;

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use prevalence::inspect::{Inspection, StoredRecord};

use crate::arguments::{Chosen, Export, ExportFormat};
use crate::commands::{Decoded, Take, each};
use crate::failure::{FINE, FOUND, Failure, Unwritten, note};
use crate::log::print_json;
use crate::output::{count, csv};
use table::{Columns, Table};

/// Runs the command.
pub fn run(wanted: &Export, out: &mut dyn Write) -> Result<u8, Failure> {
    let look = wanted.chosen.look()?;
    let Some(path) = &wanted.output else {
        #[cfg(feature = "parquet")]
        if wanted.format == ExportFormat::Parquet {
            let reason = "a Parquet file cannot be written to the standard output. Give --output";
            return Err(Failure::Usage(reason.to_owned()));
        }
        let mut out = BufWriter::with_capacity(1 << 16, out);
        let exported = write(wanted, &look, &mut out);
        out.flush()?; // also what is before damage
        let exported = exported?;
        return Ok(if exported == 0 { FOUND } else { FINE });
    };
    let told = |path: &Path| {
        let path = path.to_path_buf();
        move |source| Unwritten { path, source }
    };
    let beside = beside(&look, path)?;
    // Whoever finds the file finds all of it.
    let made = File::create_new(&beside).map_err(told(&beside))?;
    let written = write_file(wanted, &look, &made, &beside);
    let written = written.and_then(|exported| {
        std::fs::rename(&beside, path).map_err(told(path))?;
        Ok(exported)
    });
    if written.is_err() {
        std::fs::remove_file(&beside).ok(); // the first error is the one to tell
    }
    let exported = written?;
    note(&format!("{} in {}", count(exported, "command", "commands"), path.display()));
    Ok(if exported == 0 { FOUND } else { FINE })
}

/// Writes all of a file, whose name is for errors.
fn write_file(
    wanted: &Export,
    look: &Inspection,
    file: &File,
    name: &Path,
) -> Result<u64, Failure> {
    let told = |source| Unwritten { path: name.to_path_buf(), source };
    let exported = match wanted.format {
        #[cfg(feature = "parquet")]
        ExportFormat::Parquet => parquet::write(&wanted.chosen, look, file)?,
        _ => {
            let mut out = BufWriter::with_capacity(1 << 16, file);
            let exported = write(wanted, look, &mut out)?;
            out.flush().map_err(told)?;
            exported
        }
    };
    file.sync_all().map_err(told)?;
    Ok(exported)
}

/// Returns the name that the file has until it is whole. It may not be in the database's directory.
fn beside(look: &Inspection, path: &Path) -> Result<PathBuf, Failure> {
    let name = path.file_name();
    let name = name.ok_or_else(|| Failure::Usage(format!("{} is no file", path.display())))?;
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let told = |source| Unwritten { path: path.to_path_buf(), source };
    let (parent, root) =
        (parent.canonicalize().map_err(told)?, look.path().canonicalize().map_err(told)?);
    if parent.starts_with(&root) {
        let path = path.display();
        return Err(Failure::Usage(format!(
            "{path} is in the directory of the database, into which nothing is written. Give the \
             output another place"
        )));
    }
    let mut partial = name.to_owned();
    partial.push(format!(".{}.partial", std::process::id()));
    Ok(parent.join(partial))
}

fn write(wanted: &Export, look: &Inspection, out: &mut dyn Write) -> Result<u64, Failure> {
    if wanted.format == ExportFormat::Ndjson {
        return each(look, &wanted.chosen, false, &mut Lines(out));
    }
    let columns = Columns::of(look, &wanted.chosen)?;
    let names: Vec<_> = columns.all().iter().map(|(name, _)| csv(name)).collect();
    writeln!(out, "{}", names.join(","))?;
    each_row(look, &wanted.chosen, columns, &mut |table| {
        for row in table.rows() {
            let cells: Vec<_> = row.iter().map(|cell| csv(&cell.text())).collect();
            writeln!(out, "{}", cells.join(","))?;
        }
        Ok(())
    })
}

/// Gives the commands to `take` as tables of bounded size.
fn each_row(
    look: &Inspection,
    chosen: &Chosen,
    columns: Columns,
    take: &mut dyn FnMut(&Table) -> Result<(), Failure>,
) -> Result<u64, Failure> {
    let last = columns.last();
    let mut rows = Rows { table: Table::new(columns), last, take };
    let exported = each(look, chosen, false, &mut rows)?;
    (rows.take)(&rows.table)?;
    Ok(exported)
}

/// Writes each command on a line.
struct Lines<'a>(&'a mut dyn Write);

impl Take for Lines<'_> {
    fn take(&mut self, record: &StoredRecord, decoded: &Decoded) -> Result<(), Failure> {
        print_json(record, decoded, self.0)
    }
}

/// Collects rows.
struct Rows<'a> {
    table: Table,
    /// Behind it, columns were not looked for.
    last: u64,
    take: &'a mut dyn FnMut(&Table) -> Result<(), Failure>,
}

impl Take for Rows<'_> {
    fn take(&mut self, record: &StoredRecord, decoded: &Decoded) -> Result<(), Failure> {
        if record.sequence > self.last {
            return Err(Failure::Usage(format!(
                "the database has grown to sequence {} while it was exported. Give --to {}",
                record.sequence, self.last
            )));
        }
        self.table.push(record, decoded)?;
        if self.table.is_full() {
            (self.take)(&self.table)?;
            self.table.clear();
        }
        Ok(())
    }
}
