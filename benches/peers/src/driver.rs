//! Owns the runs: one process for each, in rounds that each begin with another engine. Knows
//! nothing of what an engine does.

use std::collections::HashMap;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::engine::{Outcome, Workload};
use crate::engines::{ENTRIES, Entry, redis};
use crate::workload::Figure;

/// The options of the command line.
pub struct Plan {
    pub engines: Vec<String>,
    pub workloads: Vec<Workload>,
    pub runs: usize,
    pub short: bool,
}

/// The figures of all runs of an engine.
pub struct Row {
    pub entry: &'static Entry,
    pub figures: HashMap<Figure, Vec<f64>>,
}

impl Plan {
    fn entries(&self, workload: Workload) -> Vec<&'static Entry> {
        let asked =
            |name| self.engines.is_empty() || self.engines.iter().any(|asked| asked == name);
        let entries = ENTRIES.iter().filter(|entry| entry.workloads.contains(&workload));
        entries.filter(|entry| asked(entry.name)).collect()
    }

    /// Runs one workload on each engine in turn.
    pub fn carry_out(&self, workload: Workload, directory: &Path) -> Outcome<Vec<Row>> {
        let mut entries = self.entries(workload);
        if entries.iter().any(|entry| entry.name == "redis") && !redis::is_installed() {
            println!("redis is skipped: there is no redis-server here (apt-get install it).");
            entries.retain(|entry| entry.name != "redis");
        }
        let row = |entry| Row { entry, figures: HashMap::new() };
        let mut rows: Vec<Row> = entries.into_iter().map(row).collect();
        for run in 0..self.runs {
            let first = run * rows.len() / self.runs;
            let (later, sooner) = rows.split_at_mut(first);
            for row in sooner.iter_mut().chain(later) {
                eprintln!(
                    "{} run {} of {}: {}",
                    workload.name(),
                    run + 1,
                    self.runs,
                    row.entry.name
                );
                for (figure, value) in self.run(row.entry, workload, directory)? {
                    row.figures.entry(figure).or_default().push(value);
                }
            }
        }
        Ok(rows)
    }

    fn run(
        &self,
        entry: &Entry,
        workload: Workload,
        directory: &Path,
    ) -> Outcome<Vec<(Figure, f64)>> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["--run", entry.name, "--workload", workload.name(), "--directory"]);
        command.arg(directory).args(self.short.then_some("--short"));
        let output = command.stderr(Stdio::inherit()).output()?;
        let what = || format!("{} in {}", entry.name, workload.name());
        if !output.status.success() {
            return Err(format!("{} ended with {}", what(), output.status).into());
        }
        String::from_utf8(output.stdout)?
            .lines()
            .map(|line| parse(line).ok_or_else(|| format!("{} printed {line:?}", what()).into()))
            .collect()
    }
}

/// Parses the line that [`print`] makes.
fn parse(line: &str) -> Option<(Figure, f64)> {
    let (name, value) = line.split_once(": ")?;
    let figure = Figure::ALL.into_iter().find(|figure| figure.name() == name)?;
    Some((figure, value.parse().ok()?))
}

/// Prints a figure for the driver, in the process of one run.
pub fn print(figures: &[(Figure, f64)]) {
    for (figure, value) in figures {
        println!("{}: {value}", figure.name());
    }
}
