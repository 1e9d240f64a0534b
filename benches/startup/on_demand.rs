//! Measures an open that leaves the entries in the snapshot until they are touched: the time to the
//! first get, of a get whose entry is not in memory, and of one whose entry is.

use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

use prevalence::{Database, LoadModel, SnapshotPolicy};

use crate::contents::{Contents, Fat, put};
use crate::ledger::{Ledger, random_key};
use crate::support::comparison::verdict;
use crate::support::directory;
use crate::support::run::median;
use crate::support::value::Value;

const ROUNDS: usize = 5;
/// How many gets of entries that are not in memory are measured, and of others.
const COLD_GETS: u64 = 1_000;
const WARM_GETS: u64 = 1_000_000;
const MOST_OPEN: Duration = Duration::from_millis(10);
const MOST_COLD: Duration = Duration::from_micros(20);
const MOST_WARM: f64 = 1.1;

/// What is read of an entry.
pub trait Gets: Contents + Default + serde::Serialize {
    fn get(&self, key: u64) -> Option<u64>;
    fn sum(&self) -> u64;
}

impl Gets for Ledger {
    fn get(&self, key: u64) -> Option<u64> {
        self.0.get(&key).map(|balance| balance.cast_unsigned())
    }

    fn sum(&self) -> u64 {
        self.0.values().fold(0, |sum, balance| sum.wrapping_add(balance.cast_unsigned()))
    }
}

impl Gets for Fat {
    fn get(&self, key: u64) -> Option<u64> {
        self.0.get(&key).map(Value::first)
    }

    fn sum(&self) -> u64 {
        self.0.values().fold(0, |sum, value| sum.wrapping_add(value.first()))
    }
}

/// Measures a model of so many entries, in one whole snapshot with so many snapshots of changes on
/// it, each after so many commands on random entries.
pub fn measure<M: Gets>(entries: u64, changes: u64, commands: u64) {
    println!(
        "\n== on demand: {entries} entries of {}, and {changes} x {commands} changes",
        M::NAME
    );
    let directory = directory();
    let builder = Database::<M>::builder().snapshots(SnapshotPolicy::manual());
    let database = builder.initial(M::of(entries)).open(directory.path()).expect("open");
    if changes > 0 {
        // The first one is whole.
        put(&database, 0..1, entries);
        database.snapshot().expect("snapshot");
    }
    for change in 0..changes {
        put(&database, 1 + change * commands..1 + (change + 1) * commands, entries);
        let taken = database.snapshot().expect("snapshot");
        assert!(taken.shared_bytes > 0, "a snapshot of changes");
    }
    database.close().expect("close");
    println!("files of {} bytes", size(directory.path()));
    let [mut firsts, mut colds, mut worst, mut warms, mut eager, mut all] = [const { vec![] }; 6];
    for round in 0..ROUNDS as u64 {
        let (at_open, _, _) = open::<M>(directory.path(), LoadModel::AtOpen);
        eager.push(warm_get(&at_open, entries));
        at_open.close().expect("close");
        let (database, first, _) = open::<M>(directory.path(), LoadModel::OnDemand);
        firsts.push(first);
        let mut gets = cold_gets(&database, entries, round);
        gets.sort_by(f64::total_cmp);
        colds.push(median(gets.iter().copied()));
        worst.push(*gets.get(gets.len() * 99 / 100).expect("there are gets"));
        database.query(Gets::sum);
        warms.push(warm_get(&database, entries));
        database.close().expect("close");
        let (database, _, began) = open::<M>(directory.path(), LoadModel::OnDemand);
        black_box(database.query(Gets::sum));
        all.push(began.elapsed().as_secs_f64());
        database.close().expect("close");
    }
    let ratio = median(warms.iter().zip(&eager).map(|(warm, eager)| warm / eager));
    let time = |times: Vec<f64>| Duration::from_secs_f64(median(times));
    let (first, cold) = (time(firsts), time(colds));
    println!("open to first get {first:.2?}, all touched by one thread {:.1?}", time(all));
    println!("a get that loads {cold:.1?} (99th percentile {:.1?})", time(worst));
    println!("a get in memory {:.1?}, loaded at the open {:.1?}", time(warms), time(eager));
    println!("open, target at most {MOST_OPEN:?}: {}", verdict(first <= MOST_OPEN));
    println!("a get that loads, target at most {MOST_COLD:?}: {}", verdict(cold <= MOST_COLD));
    println!(
        "ratio  a get in memory {ratio:.2} x loaded at the open, target at most {MOST_WARM}: {}",
        verdict(ratio <= MOST_WARM)
    );
}

/// Returns the database, the time to the first get, and when it began.
fn open<M: Gets>(path: &Path, when: LoadModel) -> (Database<M>, f64, Instant) {
    let began = Instant::now();
    let builder = Database::<M>::builder().snapshots(SnapshotPolicy::manual()).load_model(when);
    let database = builder.open(path).expect("open");
    black_box(database.query(|model: &M| model.get(1)).expect("the entry is there"));
    (database, began.elapsed().as_secs_f64(), began)
}

/// Gets entries that are far from each other, one by one.
fn cold_gets<M: Gets>(database: &Database<M>, entries: u64, round: u64) -> Vec<f64> {
    let version = database.view();
    let far = (entries / COLD_GETS).max(1);
    let get = |number: u64| {
        let key = (number * 7919 % COLD_GETS) * far + far / 2 + round;
        let began = Instant::now();
        black_box(version.get(key.min(entries - 1)));
        began.elapsed().as_secs_f64()
    };
    (0..COLD_GETS).map(get).collect()
}

fn warm_get<M: Gets>(database: &Database<M>, entries: u64) -> f64 {
    let version = database.view();
    let began = Instant::now();
    for number in 0..WARM_GETS {
        black_box(version.get(random_key(number, entries)).expect("the entry is there"));
    }
    #[expect(clippy::cast_precision_loss, reason = "for printing")]
    let gets = WARM_GETS as f64;
    began.elapsed().as_secs_f64() / gets
}

fn size(path: &Path) -> u64 {
    let entries = std::fs::read_dir(path.join("snapshots")).expect("a directory");
    entries.map(|entry| entry.expect("an entry").metadata().expect("a file").len()).sum()
}
