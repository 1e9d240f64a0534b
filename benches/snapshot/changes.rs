//! Measures a snapshot of a few changes against a whole one, and an open from many of the former
//! against an open from one whole snapshot.

use std::path::Path;
use std::time::{Duration, Instant};

use prevalence::{Database, SnapshotInfo, SnapshotPolicy};

use crate::contents::Contents;
use crate::support::comparison::verdict;
use crate::support::directory;
use crate::support::run::median;

const ROUNDS: u64 = 20;
const OPENS: usize = 7;
const SNAPSHOT_AT_MOST: f64 = 0.05;
const OPEN_AT_MOST: f64 = 1.2;

/// Takes snapshots after so many changes, and measures those of changes and an open from the last
/// one.
pub fn measure<C: Contents>(entries: u64, changed: u64) {
    println!("\n== changes: {changed} of {entries} entries before each snapshot, {}", C::NAME);
    let directories = [directory(), directory()];
    let open = |shares: bool| {
        let policy = SnapshotPolicy::manual();
        let builder = Database::<C>::builder().snapshots(policy).share_snapshots(shares);
        let path = directories[usize::from(shares)].path();
        builder.initial(C::of(entries)).open(path).expect("open")
    };
    let databases = [open(false), open(true)];
    for database in &databases {
        database.execute(C::command(0, entries)).expect("accepted");
        database.snapshot().expect("snapshot");
    }
    let mut taken: [Vec<SnapshotInfo>; 2] = [Vec::new(), Vec::new()];
    for round in 0..ROUNDS {
        for (database, taken) in databases.iter().zip(&mut taken) {
            change(database, 1 + round * changed..1 + (round + 1) * changed, entries);
            taken.push(database.snapshot().expect("snapshot"));
        }
    }
    let [whole, changes] = taken;
    let resting = changes.iter().filter(|info| info.shared_bytes > 0).count();
    println!(
        "{resting} of {ROUNDS} rest on others; the last one shares {} MB",
        changes.last().map_or(0, |info| info.shared_bytes) / 1_000_000
    );
    let changes: Vec<_> = changes.into_iter().filter(|info| info.shared_bytes > 0).collect();
    let figures =
        |of: fn(&SnapshotInfo) -> f64| [&whole, &changes].map(|infos| median(infos.iter().map(of)));
    let [whole_time, time] = figures(|info| info.duration.as_secs_f64());
    let [whole_bytes, bytes] = figures(|info| info.file_bytes as f64);
    let ms = Duration::from_secs_f64;
    println!("whole    {:.1?}, {:.0} KB", ms(whole_time), whole_bytes / 1e3);
    println!("changes  {:.1?}, {:.0} KB", ms(time), bytes / 1e3);
    for (name, ratio) in [("time", time / whole_time), ("bytes", bytes / whole_bytes)] {
        let met = verdict(ratio <= SNAPSHOT_AT_MOST);
        println!("ratio  {name} {ratio:.3} x whole, target at most {SNAPSHOT_AT_MOST}: {met}");
    }
    databases.into_iter().for_each(|database| database.close().expect("close"));
    let mut opens = [Vec::new(), Vec::new()];
    for _ in 0..OPENS {
        for (directory, opens) in directories.iter().zip(&mut opens) {
            opens.push(open_once::<C>(directory.path()));
        }
    }
    let [whole, changes] = opens.map(median);
    println!("open from one whole {:.1?}, from base and changes {:.1?}", ms(whole), ms(changes));
    let ratio = changes / whole;
    let met = verdict(ratio <= OPEN_AT_MOST);
    println!("ratio  open {ratio:.2} x whole, target at most {OPEN_AT_MOST}: {met}");
}

/// Executes the commands with these numbers, many at a time.
fn change<C: Contents>(database: &Database<C>, numbers: std::ops::Range<u64>, entries: u64) {
    let numbers: Vec<u64> = numbers.collect();
    for some in numbers.chunks(4096) {
        let command = |&number: &u64| database.submit(C::command(number, entries));
        let pending: Vec<_> = some.iter().map(|it| command(it).expect("queued")).collect();
        pending.into_iter().for_each(|pending| drop(pending.wait().expect("accepted")));
    }
}

fn open_once<C: Contents>(path: &Path) -> f64 {
    let began = Instant::now();
    let database = Database::<C>::builder().initial(C::of(0)).open(path);
    let took = began.elapsed().as_secs_f64();
    database.expect("open").close().expect("close");
    took
}
