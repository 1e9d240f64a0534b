//! Owns directories that a fuzzer spoils. It takes a small database with everything that is stored,
//! and changes, removes, renames and exchanges files. Knows nothing of what can be saved.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use super::forged::{FORGES_CHUNKS, FORGES_FRAMES, FORGES_HEADERS, FORGES_MANIFEST, forge};
use super::model::{Ending, Mix, Put, Tally};
use super::setup::{DIRECTORY, Setup};
use super::sizes::Sizes;
use crate::files::DatabaseId;
use crate::options::Options;
use crate::recovery::recover;
use crate::rescue::simulated::look;
use crate::storage::simulated::{SimulatedDisk, State};
use crate::storage::{Storage, is_temporary};
use crate::{Database, Error};

/// How many bytes of the input describe one change: file, position, kind, value.
pub(super) const CHANGE_BYTES: usize = 6;
const MOST_CHANGES: usize = 12;

const ALL_FORGED: u8 = FORGES_MANIFEST | FORGES_HEADERS | FORGES_FRAMES | FORGES_CHUNKS;
/// The database has an archive.
pub(super) const HAS_ARCHIVE: u8 = 16;
/// Its process was killed, so it is not closed.
pub(super) const IS_KILLED: u8 = 32;

const ROUNDS: u64 = 4;
/// The round after which the files of an earlier time are taken.
const EARLIER_ROUND: u64 = 2;

fn options(archive: bool) -> Options {
    let setup = Setup {
        segment_bytes: 6 << 10,
        keep_snapshots: if archive { 1 } else { 2 },
        archive,
        compression_level: 0,
        buffered: false,
        max_batch_commands: 1024,
        snapshot_on_close: false,
        remembered_requests: 8,
        on_demand: false,
    };
    Options { share_snapshots: true, ..setup.options() }
}

/// Opens the database at `path` on a disk.
pub(super) fn open(
    disk: &SimulatedDisk,
    path: &Path,
    archive: bool,
) -> Result<Database<Tally>, Error> {
    let progress = &mut (Box::new(|_| {}) as _);
    Database::open_with(Arc::new(disk.clone()), path, options(archive), Tally::default, progress)
}

/// Loads the database at `path` on a disk as an open does. Returns its id, its sequence, and its
/// encoded model.
pub(super) fn recovered(
    disk: &SimulatedDisk,
    path: &Path,
    archive: bool,
) -> Result<(DatabaseId, u64, Vec<u8>), Error> {
    let storage: Arc<dyn Storage> = Arc::new(disk.clone());
    let recovered = recover(&storage, path, &options(archive), Tally::default, &mut |_| {})?;
    let (sequence, model) = (recovered.version.sequence, recovered.version.model.bytes());
    drop(recovered);
    Ok((look(&storage, path)?.database(), sequence, model))
}

/// What a database has come to: its files, and what it held after each command.
pub(super) struct Lived {
    pub(super) files: State,
    earlier: State,
    pub(super) database: DatabaseId,
    /// The encoded models, by sequence.
    pub(super) states: Vec<Vec<u8>>,
    /// The tags and fields of the commands. The first one has sequence 1.
    pub(super) commands: Vec<(u16, Vec<u8>)>,
}

impl Lived {
    /// Returns a database that lived as the input says, and another one with the same names.
    pub(super) fn both(how: u8) -> [&'static Self; 2] {
        static LIVED: [OnceLock<[Lived; 2]>; 4] = [const { OnceLock::new() }; 4];
        // Snapshots of changes need parts.
        let _sizes = Sizes::small();
        let (archive, killed) = (how & HAS_ARCHIVE != 0, how & IS_KILLED != 0);
        let place = &LIVED[usize::from(archive) + 2 * usize::from(killed)];
        let [one, other] =
            place.get_or_init(|| [4711, 815].map(|it| Self::new(archive, killed, it)));
        [one, other]
    }

    fn new(archive: bool, killed: bool, seed: u64) -> Self {
        let disk = SimulatedDisk::new(State::empty(), seed, false);
        let (mut earlier, mut states) = (State::empty(), vec![Tally::default().bytes()]);
        let mut files = State::empty();
        for round in 0..ROUNDS {
            let database = open(&disk, Path::new(DIRECTORY), archive).unwrap();
            for step in 0..4 {
                let value = seed + round * 10 + step;
                if step == 1 {
                    // It is so long that the next run does not carry it into its own segment.
                    let (key, padding) = (round as u16 * 50, vec![0xa5; 1200]);
                    // Many keys are put if the value is a multiple of three.
                    let value = value / 3 * 3;
                    let ending = Ending::Accept;
                    database.execute(Put { key, value, ending, padding }).unwrap();
                } else {
                    database.execute(Mix(value)).unwrap();
                }
                states.push(database.query(Tally::bytes));
                if round + 1 < ROUNDS && step % 2 == 1 {
                    database.snapshot().unwrap();
                }
            }
            if killed && round + 1 == ROUNDS {
                files = disk.state();
                without_temporaries(&mut files);
            }
            database.close().unwrap();
            if round == EARLIER_ROUND - 1 {
                earlier = disk.state();
            }
        }
        if !killed {
            files = disk.state();
        }
        Self::of(files, earlier, states)
    }

    fn of(files: State, earlier: State, states: Vec<Vec<u8>>) -> Self {
        let disk = SimulatedDisk::new(files.clone(), 1, false);
        // The commands that are no longer stored are in the files of no time.
        let (mut commands, mut database) = (vec![(0, Vec::new()); states.len() - 1], None);
        for state in [&earlier, &files] {
            let storage = Arc::new(SimulatedDisk::new(state.clone(), 1, false));
            let look = look(&(storage as _), Path::new(DIRECTORY)).unwrap();
            for record in look.records(..).unwrap().map(Result::unwrap) {
                commands[record.sequence as usize - 1] = (record.tag, record.command);
            }
            database = Some(look.database());
        }
        let database = database.expect("there are two");
        // It has snapshots of both kinds, or the fuzzer never sees one.
        let look = look(&(Arc::new(disk) as _), Path::new(DIRECTORY)).unwrap();
        assert!(look.snapshots().iter().any(|it| it.base.is_some()), "no snapshot of changes");
        assert!(look.snapshots().iter().any(|it| it.base.is_none()), "no whole snapshot");
        assert!(look.segments().len() > 1, "only {:?}", look.segments());
        Self { files, earlier, database, states, commands }
    }
}

/// Removes what another thread was preparing, so that the files are always the same.
fn without_temporaries(state: &mut State) {
    for path in state.files().into_keys() {
        if path.rsplit('/').next().is_some_and(is_temporary) {
            state.remove(&path);
        }
    }
}

/// Returns whether the input wants checksums to be made right again.
pub(super) fn is_forged(how: u8) -> bool {
    how & ALL_FORGED != 0
}

/// Spoils the files of `one` as the input says.
pub(super) fn ruin(how: u8, changes: &[u8], [one, other]: [&Lived; 2]) -> State {
    let mut state = one.files.clone();
    for change in changes.chunks_exact(CHANGE_BYTES).take(MOST_CHANGES) {
        apply(&mut state, change, [one, other]);
    }
    if is_forged(how) {
        forge(&mut state, how);
    }
    state
}

fn apply(state: &mut State, change: &[u8], [one, other]: [&Lived; 2]) {
    let [file, low, high, kind, value, another] = change[..] else { return };
    let files: Vec<String> = state.files().into_keys().collect();
    let Some(path) = files.get(usize::from(file) % files.len().max(1)) else { return };
    let mut content = state.content(path).unwrap().clone();
    let at = usize::from(u16::from_le_bytes([low, high])) % content.len().max(1);
    match kind % 12 {
        0..=2 if !content.is_empty() => content[at] ^= value,
        3 => content[at..].iter_mut().take(8).for_each(|byte| *byte = value),
        4 => content.truncate(at),
        5 => content.resize(content.len() + usize::from(value), another),
        6 => {
            let source = &files[usize::from(another) % files.len()];
            content.clone_from(state.content(source).unwrap());
        }
        7 => return state.remove(path),
        8 => match one.earlier.content(path) {
            Some(earlier) => content.clone_from(earlier),
            None => return state.remove(path),
        },
        9 => match other.files.content(path) {
            Some(foreign) => content.clone_from(foreign),
            None => return state.remove(path),
        },
        kind @ (10 | 11) => {
            let Some(renamed) = with_number(path, u64::from(value)) else { return };
            if kind == 10 {
                state.remove(path);
            }
            return state.put(&renamed, content);
        }
        _ => return,
    }
    state.replace(path, content);
}

/// Returns the path of a file of the same kind with another sequence.
fn with_number(path: &str, number: u64) -> Option<String> {
    let (directory, name) = path.rsplit_once('/')?;
    let (_, kind) = name.split_once('.').filter(|(number, _)| number.parse::<u64>().is_ok())?;
    Some(format!("{directory}/{number:020}.{kind}"))
}
