//! What a look tells, against what the program did.

use std::time::SystemTime;

use prevalence::inspect::{DatabaseState, Inspection, Opener, OtherKind, SnapshotPlace};
use prevalence::{
    ArchivedSnapshots, Database, FollowerError, FollowerOptions, Projection, Recorded,
    SnapshotPolicy,
};

use crate::common::{Carry, Ledger, Mix, content, copy_directory, keeping_history, temporary};
use crate::{deep, look, quick};

#[test]
fn a_new_database_holds_its_initial_model() {
    let (_directory, path) = temporary();
    let database = Database::<Ledger>::open(&path).unwrap();
    database.close().unwrap();
    let look = look(&path);
    assert_eq!(look.state(), DatabaseState::Clean);
    assert_eq!((look.newest_sequence(), look.oldest_sequence()), (0, None));
    assert_eq!(look.model_name(), Some("Ledger"));
    assert_eq!(look.snapshots().len(), 1);
    assert!(look.snapshots()[0].is_listed && look.snapshots()[0].problem.is_none());
    assert_eq!(look.records(..).unwrap().count(), 0);
    assert!(look.others().is_empty(), "{:?}", look.others());
    assert!(deep(&path).is_sound());
}

#[test]
fn figures_are_those_of_the_program() {
    let (_directory, path) = temporary();
    let began = SystemTime::now();
    let builder = || {
        Database::<Ledger>::builder().segment_bytes(64 << 10).snapshots(SnapshotPolicy::manual())
    };
    let database = builder().open(&path).unwrap();
    for value in 0..10 {
        database.execute(Mix(value)).unwrap();
    }
    database.snapshot().unwrap();
    for _ in 0..8 {
        database.execute(Carry(vec![7; 20_000])).unwrap();
    }
    let stats = database.stats();
    database.close().unwrap();
    let look = look(&path);
    assert_eq!(look.newest_sequence(), stats.sequence);
    assert_eq!(look.manifest_sequence(), stats.sequence);
    assert_eq!(look.oldest_sequence(), Some(1));
    let end = look.journal_end().unwrap();
    assert_eq!((end.torn_bytes, end.unconfirmed_commands, &end.problem), (0, 0, &None));
    assert!(end.time.unwrap() >= began && end.time.unwrap() <= SystemTime::now());
    let commands: u64 = look.segments().iter().map(|it| it.commands).sum();
    assert_eq!(commands, 18);
    assert!(look.segments().len() >= 3, "{:?}", look.segments());
    for (one, next) in look.segments().iter().zip(look.segments().iter().skip(1)) {
        assert_eq!(one.last_sequence, Some(next.first_sequence - 1));
    }
    let plan = look.open_plan();
    assert_eq!((plan.snapshot, plan.problem.as_deref()), (Some(10), None));
    assert_eq!(plan.commands, 8);
    // The next open does exactly that.
    let files = content(&path);
    for it in look.segments() {
        let bytes = &files[it.path.strip_prefix(&path).unwrap()];
        assert_eq!(bytes.len() as u64, it.file_bytes);
        let used = bytes.iter().rposition(|&byte| byte != 0).map_or(0, |at| at as u64 + 1);
        assert!((used..used + 8).contains(&it.used_bytes), "{used}: {it:?}");
    }
    let again = builder().open(&path).unwrap();
    assert_eq!(again.recovery().snapshot_sequence, 10);
    assert_eq!(again.recovery().commands_replayed, plan.commands);
    assert_eq!(again.recovery().snapshot_bytes, plan.snapshot_bytes);
}

#[test]
fn an_archive_and_its_snapshots_are_listed() {
    let (_directory, path) = temporary();
    let builder = keeping_history::<Ledger>().archive_snapshots(ArchivedSnapshots::All);
    let database = builder.open(&path).unwrap();
    for round in 0..3 {
        for _ in 0..6 {
            database.execute(Carry(vec![round; 12 << 10])).unwrap();
        }
        database.snapshot().unwrap();
    }
    let sequence = database.sequence();
    database.close().unwrap();
    let look = look(&path);
    assert!(!look.archives().is_empty());
    let archived: u64 = look.archives().iter().map(|it| it.commands).sum();
    let live: u64 = look.segments().iter().map(|it| it.commands).sum();
    assert_eq!(archived + live, sequence);
    let problems = look.archives().iter().filter(|it| it.problem.is_some()).count();
    assert_eq!(problems, 0);
    let is_archived = |it: &&prevalence::inspect::SnapshotFile| it.place == SnapshotPlace::Archive;
    assert!(look.snapshots().iter().filter(is_archived).count() >= 2, "{:?}", look.snapshots());
    let verified = deep(&path);
    assert!(verified.is_sound(), "{:?}", verified.findings);
    assert_eq!(verified.commands, sequence);
    assert_eq!(quick(&path).commands, sequence);
}

#[test]
fn a_killed_database_tells_what_an_open_would_do() {
    let (directory, path) = temporary();
    let database = Database::<Ledger>::open(&path).unwrap();
    for value in 0..5 {
        database.execute(Mix(value)).unwrap();
    }
    let killed = directory.path().join("killed.db");
    copy_directory(&path, &killed);
    std::fs::write(killed.join("journal/.prevalence-aaaaaa.tmp"), [0; 10]).unwrap();
    std::fs::write(killed.join("notes.txt"), "mine").unwrap();
    // A batch that was half written when the process was killed.
    let segment = killed.join("journal/00000000000000000001.journal");
    let mut bytes = std::fs::read(&segment).unwrap();
    let used = bytes.iter().rposition(|&byte| byte != 0).unwrap() + 1;
    let begin = used.next_multiple_of(8);
    bytes[begin..begin + 20].fill(0xa5);
    std::fs::write(&segment, bytes).unwrap();

    let look = look(&killed);
    assert_eq!(look.state(), DatabaseState::Dirty);
    assert_eq!(look.newest_sequence(), 5);
    let end = look.journal_end().unwrap();
    assert_eq!((end.torn_bytes, end.position), (20, begin as u64));
    let kinds: Vec<_> = look.others().iter().map(|it| (it.kind, it.file_bytes)).collect();
    assert!(kinds.contains(&(OtherKind::Temporary, 10)), "{kinds:?}");
    assert!(kinds.contains(&(OtherKind::Unknown, 4)), "{kinds:?}");
    let verified = deep(&killed);
    assert!(verified.is_sound(), "{:?}", verified.findings);
    assert_eq!(verified.findings.len(), 1, "the half-written batch is a note");
    let plan = look.open_plan().clone();
    assert_eq!(plan.dropped_bytes, 20);
    let opened = Database::<Ledger>::open(&killed).unwrap();
    let torn = opened.recovery().torn_tail.clone().unwrap();
    assert_eq!((torn.position, torn.bytes), (begin as u64, 20));
    assert_eq!(opened.recovery().commands_rewritten, plan.rewritten_commands);
    assert_eq!(opened.recovery().commands_replayed, plan.commands);
}

#[test]
fn followers_tell_where_they_stand() {
    let (_directory, path) = temporary();
    let database = Database::<Ledger>::open(&path).unwrap();
    for value in 0..4 {
        database.execute(Mix(value)).unwrap();
    }
    let sums = database.projection("sums", Sums::default(), FollowerOptions::new()).unwrap();
    sums.wait_for(4, std::time::Duration::from_secs(60)).unwrap();
    sums.close().unwrap();
    for value in 0..3 {
        database.execute(Mix(value)).unwrap();
    }
    let open = Inspection::open(&path).unwrap();
    let [follower] = open.followers() else { panic!("{:?}", open.followers()) };
    assert_eq!((follower.name.as_str(), follower.position, follower.lag), ("sums", 4, 3));
    assert_eq!((follower.lost, follower.problem.as_deref()), (None, None));
    assert!(follower.file_bytes > 0 && follower.dead_letters.is_empty());
    #[cfg(target_os = "linux")]
    assert_eq!(open.opener(), &Opener::Writer { process: Some(std::process::id()) });
    database.close().unwrap();
    assert!(deep(&path).is_sound());
    #[cfg(target_os = "linux")]
    assert_eq!(look(&path).opener(), &Opener::NobodySeen);
}

#[derive(Clone, Default, serde::Serialize, serde::Deserialize)]
struct Sums {
    commands: u64,
}

impl Projection<Ledger> for Sums {
    const VERSION: u32 = 1;

    fn apply(&mut self, _: &Recorded<Ledger>) -> Result<(), FollowerError> {
        self.commands += 1;
        Ok(())
    }
}
