//! Random lives of a database, its options changed at each open: whatever was done, it opens, its
//! history is what the callers were told, and each request is known exactly once.

use std::path::{Path, PathBuf};

use imbl::Vector;
use prevalence::{
    ArchivedSnapshots, Command, Context, Database, Durability, Error, ExecuteError, HistoryRecord,
    Metadata, Model, PurgeAction, Retention, SnapshotPolicy, purge, verify_history,
};
use proptest::prelude::*;
use serde::{Deserialize, Serialize};

use crate::common::{content, quiet_panics};

/// A model that holds sequence and value of each command.
#[derive(Clone, Default, Debug, PartialEq, Serialize, Deserialize)]
struct Notes(Vector<(u64, u64)>);

impl Model for Notes {
    type Event = ();
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Note {
    value: u64,
    end: End,
    padding: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
enum End {
    Accepted,
    Rejected,
    Panics,
}

impl Command<Notes> for Note {
    type Output = u64;
    type Rejection = ();

    fn apply(self, notes: &mut Notes, cx: &mut Context<'_, Notes>) -> Result<u64, ()> {
        notes.0.push_back((cx.sequence(), self.value));
        match self.end {
            End::Accepted => Ok(cx.sequence()),
            End::Rejected => Err(()),
            End::Panics => panic!("on purpose"),
        }
    }
}

prevalence::commands! { Notes { 1 => Note } }

/// How many ids are remembered, of the eight that are used.
const REMEMBERED: usize = 4;

/// The options of an open.
#[derive(Clone, Debug)]
struct Setup {
    archive: bool,
    keep_snapshots: usize,
    archived: ArchivedSnapshots,
    durability: Durability,
    on_close: bool,
}

impl Setup {
    fn open(&self, path: &Path) -> Database<Notes> {
        let policy =
            if self.on_close { SnapshotPolicy::on_close() } else { SnapshotPolicy::manual() };
        Database::<Notes>::builder()
            .segment_bytes(64 << 10)
            .max_batch_commands(4)
            .remembered_requests(REMEMBERED)
            .retention(if self.archive { Retention::Archive } else { Retention::Truncate })
            .keep_snapshots(self.keep_snapshots)
            .archive_snapshots(self.archived)
            .durability(self.durability)
            .snapshots(policy)
            .open(path)
            .unwrap()
    }
}

#[derive(Clone, Debug)]
enum Step {
    /// The commands, each with its request (0: none).
    Ask(Vec<(u8, Note)>),
    Snapshot,
    Reopen(Setup),
    /// Kills the process: what it has synced remains.
    Kill(Setup),
    Backup(Setup),
    /// Purges the history: what happens to the commands, in turn.
    Purge(Vec<u8>),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let end = prop_oneof![
        6 => Just(End::Accepted),
        1 => Just(End::Rejected),
        1 => Just(End::Panics),
    ];
    let note = (any::<u64>(), end, 0..20_usize).prop_map(|(value, end, kib)| {
        let padding = vec![value as u8; if kib > 12 { kib << 10 } else { 0 }];
        Note { value, end, padding }
    });
    let ask = proptest::collection::vec((0..9u8, note), 1..12).prop_map(Step::Ask);
    let step = prop_oneof![
        8 => ask,
        4 => Just(Step::Snapshot),
        2 => setup().prop_map(Step::Reopen),
        2 => setup().prop_map(Step::Kill),
        1 => setup().prop_map(Step::Backup),
        2 => proptest::collection::vec(0..6u8, 7).prop_map(Step::Purge),
    ];
    proptest::collection::vec(step, 1..24)
}

fn setup() -> impl Strategy<Value = Setup> {
    let archived = prop_oneof![
        Just(ArchivedSnapshots::All),
        Just(ArchivedSnapshots::EveryCommands(9)),
        Just(ArchivedSnapshots::FirstOnly),
    ];
    let durability = prop_oneof![
        Just(Durability::Sync),
        Just(Durability::Buffered),
        Just(Durability::Interval(std::time::Duration::from_millis(1))),
    ];
    let archive = prop_oneof![3 => Just(true), 1 => Just(false)];
    (archive, 1..4usize, archived, durability, any::<bool>()).prop_map(
        |(archive, keep_snapshots, archived, durability, on_close)| Setup {
            archive,
            keep_snapshots,
            archived,
            durability,
            on_close,
        },
    )
}

/// An accepted command, in its current form.
#[derive(Clone, Debug)]
struct Accepted {
    /// The value; `None` if it was redacted.
    value: Option<u64>,
    /// The request id; empty if there is none.
    request_id: String,
}

struct Life {
    outer: tempfile::TempDir,
    directories: u32,
    path: PathBuf,
    setup: Setup,
    /// The database; `None` only within a step.
    database: Option<Database<Notes>>,
    accepted: Vec<Accepted>,
    /// Whether everything from the initial model on is stored.
    is_complete: bool,
}

impl Life {
    fn new(setup: Setup) -> Self {
        let outer = tempfile::tempdir().unwrap();
        let path = outer.path().join("0");
        let (database, is_complete) = (Some(setup.open(&path)), setup.archive);
        let accepted = Vec::new();
        Self { outer, directories: 0, path, setup, database, accepted, is_complete }
    }

    fn database(&self) -> &Database<Notes> {
        self.database.as_ref().unwrap()
    }

    fn another_directory(&mut self) -> PathBuf {
        self.directories += 1;
        self.outer.path().join(self.directories.to_string())
    }

    fn open(&mut self) {
        self.is_complete &= self.setup.archive || self.path.join("archive").exists();
        let database = self.setup.open(&self.path);
        assert_eq!(database.sequence(), self.accepted.len() as u64);
        self.database = Some(database);
    }

    /// Checks the database when it is closed, or as it was when the process was killed.
    fn verify(&self) {
        let report = verify_history::<Notes>(&self.path).unwrap();
        assert_eq!((report.divergence, report.sequence), (None, self.accepted.len() as u64));
        assert!(!self.is_complete || (report.begins, report.snapshots_unreachable) == (0, 0));
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Ask(asked) => return self.ask(&asked),
            Step::Snapshot => {
                let taken = self.database().snapshot().unwrap();
                assert_eq!(taken.sequence, self.accepted.len() as u64);
            }
            Step::Reopen(setup) => {
                self.database.take().unwrap().close().unwrap();
                self.verify();
                self.setup = setup;
                self.open();
            }
            Step::Kill(setup) => {
                self.database().sync().unwrap();
                let killed = self.another_directory();
                for (name, bytes) in content(&self.path) {
                    if name.extension().is_some_and(|extension| extension == "tmp") {
                        continue; // it has no name yet
                    }
                    let file = killed.join(name);
                    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
                    std::fs::write(file, bytes).unwrap();
                }
                self.database.take().unwrap().close().unwrap();
                (self.path, self.setup) = (killed, setup);
                self.verify();
                self.open();
            }
            Step::Backup(setup) => {
                let backup = self.another_directory();
                self.database().backup(&backup).unwrap();
                self.database.take().unwrap().close().unwrap();
                (self.path, self.setup, self.is_complete) = (backup, setup, false);
                self.open();
            }
            Step::Purge(actions) => self.purge(&actions),
        }
        self.check();
    }

    fn known(&self, request_id: &str) -> Option<u64> {
        let newest_first = self.accepted.iter().enumerate().rev();
        let mut ids = newest_first.filter(|(_, one)| !one.request_id.is_empty()).take(REMEMBERED);
        ids.find(|(_, one)| one.request_id == request_id).map(|(place, _)| place as u64 + 1)
    }

    fn ask(&mut self, asked: &[(u8, Note)]) {
        let submitted: Vec<_> = asked
            .iter()
            .map(|(request, note)| {
                let metadata = request_of(*request);
                let caller = self.database().with_metadata(&metadata).unwrap();
                (metadata.request_id, note, caller.submit(note.clone()).unwrap())
            })
            .collect();
        for (request_id, note, pending) in submitted {
            let known = self.known(&request_id).filter(|_| !request_id.is_empty());
            match (pending.wait(), known, note.end) {
                (Err(ExecuteError::Duplicate { sequence, .. }), Some(known), _) => {
                    assert_eq!(sequence, known);
                }
                (Ok(sequence), None, End::Accepted) => {
                    self.accepted.push(Accepted { value: Some(note.value), request_id });
                    assert_eq!(sequence, self.accepted.len() as u64);
                }
                (Err(ExecuteError::Rejected(())), None, End::Rejected) => {}
                (Err(ExecuteError::Panicked { .. }), None, End::Panics) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    fn purge(&mut self, actions: &[u8]) {
        self.database.take().unwrap().close().unwrap();
        let mut after = self.accepted.clone();
        let decide = |record: &HistoryRecord<Notes>| {
            let place = record.sequence() as usize - 1;
            match actions[place % actions.len()] {
                0 => {
                    after[place] = Accepted { value: None, request_id: String::new() };
                    PurgeAction::Redact
                }
                1 if !record.is_redacted() => {
                    after[place].value = Some(7);
                    PurgeAction::replace(Note { value: 7, end: End::Accepted, padding: vec![] })
                }
                2 => {
                    after[place].request_id.clear();
                    PurgeAction::DropMetadata
                }
                _ => PurgeAction::Keep,
            }
        };
        match purge::<Notes>(&self.path, decide) {
            Ok(report) => {
                assert_eq!(report.sequence, self.accepted.len() as u64);
                self.accepted = after;
            }
            Err(Error::HistoryTruncated { .. }) => assert!(!self.is_complete),
            Err(error) => panic!("{error}"),
        }
        self.verify();
        self.open();
    }

    /// Returns the encoded model after `sequence`.
    fn state(&self, sequence: u64) -> Vec<u8> {
        let accepted = self.accepted.iter().zip(1..).take(sequence as usize);
        let notes = accepted.filter_map(|(one, sequence)| Some((sequence, one.value?)));
        bytes(&Notes(notes.collect()))
    }

    /// Checks everything that the history can return.
    fn check(&self) {
        let history = self.database().history();
        let newest = self.accepted.len() as u64;
        assert_eq!(bytes(&self.database().view()), self.state(newest));
        for sequence in 0..=newest {
            match history.at(sequence) {
                Ok(then) => assert_eq!(bytes(&then), self.state(sequence), "at {sequence}"),
                Err(Error::HistoryTruncated { oldest, .. }) => {
                    assert!(!self.is_complete && oldest > sequence);
                    assert_eq!(bytes(&history.at(oldest).unwrap()), self.state(oldest));
                }
                Err(error) => panic!("{error}"),
            }
        }
        assert_eq!(history.damaged_snapshots(), []);
        let oldest = history.oldest_record().unwrap();
        assert!(!self.is_complete || oldest == 1);
        let mut expected = self.accepted.iter().zip(1..).skip(oldest as usize - 1);
        for record in history.records(oldest..).unwrap() {
            let record = record.unwrap();
            let (one, sequence) = expected.next().unwrap();
            let value = record.command::<Note>().map(|note| note.unwrap().value);
            assert_eq!((record.sequence(), value), (sequence, one.value));
            assert_eq!(record.metadata().request_id, one.request_id);
        }
        assert!(expected.next().is_none());
    }

    /// Repeats every request. One that the database does not know is rejected and leaves no trace.
    fn check_requests(&self) {
        let rejected = Note { value: 0, end: End::Rejected, padding: Vec::new() };
        for request in 1..9 {
            let metadata = request_of(request);
            let caller = self.database().with_metadata(&metadata).unwrap();
            let answer = caller.execute(rejected.clone()).unwrap_err();
            let found = match answer {
                ExecuteError::Duplicate { sequence, .. } => Some(sequence),
                ExecuteError::Rejected(()) => None,
                other => panic!("{other}"),
            };
            assert_eq!(found, self.known(&metadata.request_id), "request {request}");
        }
    }
}

fn request_of(request: u8) -> Metadata {
    let request_id = if request == 0 { String::new() } else { format!("request {request}") };
    Metadata { request_id, ..Metadata::default() }
}

fn bytes(notes: &Notes) -> Vec<u8> {
    bincode::serde::encode_to_vec(notes, bincode::config::standard()).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_done_its_history_is_what_was_done(first in setup(), steps in steps()) {
        quiet_panics();
        let mut life = Life::new(first);
        steps.into_iter().for_each(|step| life.take(step));
        life.check();
        life.check_requests();
        life.database.take().unwrap().close().unwrap();
        life.verify();
    }
}
