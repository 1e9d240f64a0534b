//! Every image that a crash may leave of a database with a projection, a sink and a reactor. After
//! it, the projection equals the fold of all events, the sink holds each command once, and the
//! reactor has reacted to each at least once, and its commands have taken effect once.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::model::{Folded, Notes, Noting, Put, Rows, numbers};
use crate::laboratory::{FOLLOWERS_FAULTS, VARIABLE};
use crate::options::Options;
use crate::storage::Storage;
use crate::storage::simulated::{Operation, Random, SimulatedDisk, State, choices};
use crate::test_support::assert_caught;
use crate::{
    Database, Durability, Error, FollowerHandle, FollowerOptions, From, ProjectionHandle,
    Retention, SnapshotPolicy,
};

const PATH: &str = "/data/notes.db";
const LONG: Duration = Duration::from_secs(120);

/// How many images of one run are looked at.
fn most_images() -> usize {
    match std::env::var_os(VARIABLE) {
        Some(_) => 2000, // it ends with the first violation
        None if cfg!(debug_assertions) => 50,
        None => 6000,
    }
}

#[derive(Clone, Copy, Debug)]
struct How {
    retention: Retention,
    durability: Durability,
}

const SYNC: Durability = Durability::Sync;

fn open(
    disk: &SimulatedDisk,
    How { retention, durability }: How,
) -> Result<Database<Notes>, Error> {
    let options = Options {
        durability,
        segment_bytes: 8 << 10,
        keep_snapshots: 1,
        retention,
        snapshots: SnapshotPolicy::manual(),
        ..Options::default()
    };
    let progress = &mut (Box::new(|_| {}) as _);
    Database::open_with(Arc::new(disk.clone()), Path::new(PATH), options, Notes::default, progress)
}

/// The three followers of a database.
struct Followers {
    folded: ProjectionHandle<Notes, Folded>,
    rows: FollowerHandle<Notes>,
    noting: FollowerHandle<Notes>,
}

fn start(database: &Database<Notes>, disk: &SimulatedDisk) -> Result<Followers, Error> {
    let options = FollowerOptions::new().checkpoint_every(7).begin(From::Beginning);
    Ok(Followers {
        folded: database.projection("folded", Folded::default(), options.clone())?,
        rows: database.sink("rows", Rows(numbers(disk, "rows")), options.clone())?,
        noting: database.reactor("noting", Noting(numbers(disk, "effects")), options)?,
    })
}

/// Waits until all of them have worked on everything, also on what the reactor has executed.
fn settle(database: &Database<Notes>, followers: &Followers) -> Result<u64, String> {
    let Followers { folded, rows, noting } = followers;
    let handles: [&FollowerHandle<Notes>; 3] = [noting, rows, folded];
    loop {
        let last = database.sync().map_err(|error| error.to_string())?;
        for handle in handles {
            let waited = handle.wait_for(last, LONG);
            waited.map_err(|error| format!("{}: {error}", handle.name()))?;
        }
        if database.sequence() == last {
            return Ok(last);
        }
    }
}

/// Two runs of a database with its followers. Everything in them is in the log.
fn run(disk: &SimulatedDisk, how: How) {
    for directory in ["/data", "/data/other"] {
        if disk.kind(Path::new(directory)).unwrap().is_none() {
            disk.create_directory(Path::new(directory)).unwrap();
            disk.sync_directory(Path::new(directory).parent().unwrap()).unwrap();
        }
    }
    for run in 0..2 {
        let database = open(disk, how).unwrap();
        let followers = start(&database, disk).unwrap();
        for round in 0..3 {
            let padding = |number: usize| vec![7; if number == 0 { 3 << 10 } else { 20 }];
            let pending: Vec<_> =
                (0..6).map(|it| database.submit(Put { padding: padding(it) }).unwrap()).collect();
            pending.into_iter().for_each(|pending| assert!(pending.wait().unwrap() > 0));
            if round == 1 {
                settle(&database, &followers).unwrap();
                followers.folded.checkpoint().unwrap();
                database.snapshot().unwrap();
            }
        }
        // The first run ends in the middle of their work.
        if run == 1 {
            settle(&database, &followers).unwrap();
        }
        database.close().unwrap();
    }
}

/// Opens an image, lets the followers go on, and says what is wrong.
fn look(image: State, how: How, seed: u64) -> Result<(), String> {
    let disk = SimulatedDisk::new(image, seed, false);
    if disk.kind(Path::new("/data/other")).unwrap().is_none() {
        return Ok(()); // before the beginning
    }
    let how = How { durability: SYNC, ..how };
    let database = open(&disk, how).map_err(|error| format!("it does not open: {error}"))?;
    let opened_at = database.sequence();
    let rows = numbers(&disk, "rows").read()?;
    if !rows.iter().copied().eq(1..=rows.len() as u64) || rows.len() as u64 > opened_at {
        return Err(format!("at {opened_at} the sink holds {rows:?}"));
    }
    // What was read is known, and what was not is still stored.
    for known in database.followers().map_err(|error| error.to_string())? {
        if known.lost.is_some() || known.damage.is_some() || known.position > opened_at {
            return Err(format!("at {opened_at} there is {known:?}"));
        }
    }
    let followers = start(&database, &disk).map_err(|error| format!("no start: {error}"))?;
    if let Some(damage) = followers.folded.status().unwrap().damage {
        return Err(format!("the projection is damaged: {damage}"));
    }
    let last = settle(&database, &followers)?;
    check(&database, &disk, &followers, last)
}

/// Checks what the followers have come to. The snapshot thread may remove what an earlier run has
/// left while this reads history, until it has done so once.
fn check(
    database: &Database<Notes>,
    disk: &SimulatedDisk,
    followers: &Followers,
    last: u64,
) -> Result<(), String> {
    for _ in 0..8 {
        match try_check(database, disk, followers, last) {
            Err(Failed::Truncated) => {}
            Err(Failed::Wrong(wrong)) => return Err(wrong),
            Ok(()) => return Ok(()),
        }
    }
    Err("history is cut again and again".to_owned())
}

enum Failed {
    Truncated,
    Wrong(String),
}

impl std::convert::From<Error> for Failed {
    fn from(error: Error) -> Self {
        match error {
            Error::HistoryTruncated { .. } => Self::Truncated,
            error => Self::Wrong(error.to_string()),
        }
    }
}

impl std::convert::From<String> for Failed {
    fn from(wrong: String) -> Self {
        Self::Wrong(wrong)
    }
}

fn try_check(
    database: &Database<Notes>,
    disk: &SimulatedDisk,
    followers: &Followers,
    last: u64,
) -> Result<(), Failed> {
    let rows = numbers(disk, "rows").read()?;
    if !rows.iter().copied().eq(1..=last) {
        return Err(format!("at {last} the sink holds {rows:?}").into());
    }
    let effects: HashSet<u64> = numbers(disk, "effects").read()?.into_iter().collect();
    let mut folded = Folded::default();
    let history = database.history();
    let oldest = history.oldest_record()?;
    for record in history.records(oldest..)? {
        let record = record?;
        let (sequence, is_put) = (record.sequence(), record.tag() == 1);
        folded.take(sequence, &record.events()?.unwrap());
        if is_put && !effects.contains(&sequence) {
            return Err(format!("there was no reaction to {sequence}").into());
        }
        let noted = database.query(|notes| notes.noted.get(&sequence).copied());
        let wanted = (is_put && sequence.is_multiple_of(3)).then_some(1);
        if noted != wanted {
            return Err(format!("{sequence} was noted {noted:?} times").into());
        }
    }
    if oldest == 1 && followers.folded.view().bytes() != folded.bytes() {
        return Err(format!("at {last} the projection is not the fold").into());
    }
    let puts = database.query(|notes| notes.puts);
    if effects.len() as u64 != puts {
        return Err(format!("{puts} puts and {} reactions", effects.len()).into());
    }
    Ok(())
}

/// Walks through all images of a run. Returns how many it looked at, and what is wrong.
fn walk(how: How, seed: u64) -> (usize, Vec<String>) {
    let disk = SimulatedDisk::new(State::empty(), seed, true);
    run(&disk, how);
    let log = disk.take_log();
    let mut random = Random::new(seed);
    let (mut state, mut known, mut wrong) = (State::empty(), HashSet::new(), Vec::new());
    let (most, until) = match std::env::var_os(VARIABLE) {
        Some(_) => (most_images(), 0),
        None => (most_images(), 5),
    };
    let theirs = log.iter().filter(|operation| touches_follower(operation)).count();
    let mut looked = 0;
    let mut images = Vec::new();
    for operation in &log {
        state.apply(operation);
        images.push(state.after_kill());
        let units = state.units();
        for fates in choices(&units, &mut random) {
            images.push(state.after_power_cut(&units, &fates, &mut random));
        }
        images.retain(|image| known.insert(image.fingerprint()));
        // What changes a follower is looked at in any case, and of the others some.
        let is_theirs = touches_follower(operation);
        for image in images.drain(..) {
            let in_any_case = is_theirs && random.once_in(12 * theirs / most + 1);
            if in_any_case || random.once_in(12 * log.len() / (most / 4) + 1) {
                looked += 1;
                wrong.extend(look(image, how, random.next()).err());
            }
        }
        if wrong.len() > until {
            break;
        }
    }
    (looked, wrong)
}

fn touches_follower(operation: &Operation) -> bool {
    let text = format!("{operation:?}");
    ["STANDING", "checkpoint", "other"].iter().any(|name| text.contains(name))
}

/// The runs that are walked through. A planted fault shows itself in one of them.
fn cases() -> Vec<(Retention, Durability, u64)> {
    let archive = (Retention::Archive, SYNC, 3);
    let truncate = (Retention::Truncate, SYNC, 4);
    let buffered = (Retention::Truncate, Durability::Buffered, 5);
    match std::env::var(VARIABLE).as_deref() {
        Err(_) => vec![archive, truncate, buffered],
        Ok("PositionBeforeCommands" | "NotYetDurableGiven") => vec![buffered],
        Ok("HoldIgnored") => vec![truncate],
        Ok(_) => vec![archive],
    }
}

#[test]
fn after_any_crash_followers_are_whole() {
    for (retention, durability, seed) in cases() {
        let how = How { retention, durability };
        let (looked, wrong) = walk(how, seed);
        println!("{looked} images, {} violations", wrong.len());
        assert!(wrong.is_empty(), "{how:?}: {wrong:#?}");
        assert!(looked > 20, "only {looked}");
    }
}

/// Damage is told, and never believed.
#[test]
fn each_damaged_byte_of_a_projection_is_noticed_or_harmless() {
    let disk = SimulatedDisk::new(State::empty(), 5, false);
    let how = How { retention: Retention::Archive, durability: SYNC };
    run(&disk, how);
    let whole = disk.state();
    let theirs = |path: &&String| path.contains("/projections/") && !path.ends_with("/");
    let paths: Vec<String> = whole.files().keys().filter(theirs).cloned().collect();
    assert_eq!(paths.len(), 2, "STANDING and a checkpoint: {paths:?}");
    let mut noticed = 0;
    for path in &paths {
        let content = whole.content(path).unwrap().clone();
        for at in (0..content.len()).step_by(if cfg!(debug_assertions) { 23 } else { 1 }) {
            let mut image = whole.clone();
            let mut damaged = content.clone();
            damaged[at] ^= 1 << (at % 8);
            image.replace(path, damaged);
            let disk = SimulatedDisk::new(image, 6, false);
            let database = open(&disk, how).unwrap();
            let followers = start(&database, &disk).unwrap();
            noticed += usize::from(followers.folded.status().unwrap().damage.is_some());
            let last = settle(&database, &followers).unwrap();
            check(&database, &disk, &followers, last).unwrap();
        }
    }
    assert!(noticed > 10, "{noticed}");
}

#[test]
fn planted_faults_are_caught() {
    for (name, what) in FOLLOWERS_FAULTS {
        assert_caught("followers::tests::crash::after_any_crash_followers_are_whole", (name, what));
    }
}
