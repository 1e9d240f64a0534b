//! Runs the same puts at equal durability on prevalence and on other engines, and on the bare disk.
//! Each run has its own process, and the tables show medians of alternating runs. `README.md` in
//! this package says how to use it and what is compared.

mod driver;
mod engine;
mod engines;
mod load;
mod machine;
mod table;
mod workload;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use driver::Plan;
use engine::{Outcome, Workload};
use engines::ENTRIES;
use lexopt::{Arg, ValueExt};
use workload::Scale;

/// SQLite and LMDB are written in C and still use the system's allocator.
#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const HELP: &str = "\
The same puts at equal durability on prevalence and on other engines.

Usage: cargo run --release -- [OPTIONS]

  --engine NAME      only this one; may be given several times
  --workload NAME    only this one: lone, blocked64, values, thousands, reads; several times
  --runs N           how many runs each median is of (default: 5)
  --short            one small run of each, to see that everything works
  --directory PATH   where the files go (default: beside the program, in the target directory)
";

/// The time limit of one run. On a slow disk the preload takes most of it.
const RUN_LIMIT: Duration = Duration::from_secs(120);

struct Options {
    plan: Plan,
    directory: PathBuf,
    /// The engine that this process runs. Without it, the process is the driver.
    run: Option<String>,
}

fn main() -> ExitCode {
    match carry_out() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn carry_out() -> Outcome {
    let Some(options) = options()? else {
        print!("{HELP}");
        return Ok(());
    };
    match &options.run {
        Some(engine) => run(engine, &options),
        None => drive(&options.plan, &options.directory),
    }
}

fn options() -> Outcome<Option<Options>> {
    let beside = std::env::current_exe()?;
    let mut directory = beside.parent().unwrap_or(Path::new(".")).to_owned();
    let mut plan = Plan { engines: Vec::new(), workloads: Vec::new(), runs: 0, short: false };
    let mut run = None;
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Long("engine") => plan.engines.push(engine(parser.value()?.string()?)?),
            Arg::Long("workload") => plan.workloads.push(workload(&parser.value()?.string()?)?),
            Arg::Long("runs") => plan.runs = parser.value()?.parse()?,
            Arg::Long("short") => plan.short = true,
            Arg::Long("directory") => directory = parser.value()?.into(),
            Arg::Long("run") => run = Some(engine(parser.value()?.string()?)?),
            Arg::Long("help") | Arg::Short('h') => return Ok(None),
            other => return Err(other.unexpected().into()),
        }
    }
    if plan.runs == 0 {
        plan.runs = if plan.short { 1 } else { 5 };
    }
    if plan.workloads.is_empty() {
        plan.workloads = Workload::ALL.into();
    }
    Ok(Some(Options { plan, directory, run }))
}

fn engine(name: String) -> Outcome<String> {
    let names: Vec<_> = ENTRIES.iter().map(|entry| entry.name).collect();
    match names.contains(&name.as_str()) {
        true => Ok(name),
        false => Err(format!("there is no engine {name}, only {}", names.join(", ")).into()),
    }
}

fn workload(name: &str) -> Outcome<Workload> {
    let found = Workload::ALL.into_iter().find(|workload| workload.name() == name);
    let names = || Workload::ALL.map(Workload::name).join(", ");
    found.ok_or_else(|| format!("there is no workload {name}, only {}", names()).into())
}

/// Runs one workload on one engine, in its own process.
fn run(engine: &str, options: &Options) -> Outcome {
    std::thread::spawn(|| {
        std::thread::sleep(RUN_LIMIT);
        engines::redis::stop();
        eprintln!("a run took longer than {RUN_LIMIT:?}");
        std::process::exit(1);
    });
    let entry = ENTRIES.iter().find(|entry| entry.name == engine).ok_or("it was checked")?;
    let [workload] = options.plan.workloads[..] else {
        return Err("a run is of one workload".into());
    };
    let scale = if options.plan.short { Scale::SHORT } else { Scale::FULL };
    let directory = tempfile::tempdir_in(&options.directory)?;
    let figures = workload::run(entry, workload, scale, directory.path())?;
    driver::print(&figures);
    Ok(())
}

fn drive(plan: &Plan, directory: &Path) -> Outcome {
    let mut all = Vec::new();
    for &workload in &plan.workloads {
        let rows = plan.carry_out(workload, directory)?;
        table::print(workload, &rows);
        all.push((workload, rows));
    }
    println!("\n### Targets\n\n| target | ratio | reached |\n|---|---:|---|");
    for (workload, rows) in &all {
        table::print_targets(*workload, rows);
    }
    let rows: Vec<_> = all.into_iter().flat_map(|(_, rows)| rows).collect();
    table::print_notes(&rows);
    println!("\n{}.", machine::describe(directory));
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    println!("Medians of {} runs: `cargo run --release -- {}`.", plan.runs, arguments.join(" "));
    Ok(())
}
