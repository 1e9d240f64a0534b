//! How a reader keeps up: commits, rotations, snapshots, new runs, and an idle writer.

use std::ops::ControlFlow;
use std::time::Duration;

use prevalence::{Database, Durability, Error, LoadModel, SnapshotPolicy, WaitError};

use crate::common::{Add, Carry, Ledger, Mix, segments, temporary, until};
use crate::{LONG, read, shown, unchanged, write, written};

fn mix(database: &Database<Ledger>, count: u64) {
    let pending: Vec<_> = (0..count).map(|it| database.submit(Mix(it * 7)).unwrap()).collect();
    pending.into_iter().for_each(|it| assert!(it.wait().unwrap() > 0));
}

#[test]
fn what_is_closed_is_shown_whole() {
    let (_directory, path) = temporary();
    let writer = write(&path);
    mix(&writer, 50);
    writer.snapshot().unwrap();
    mix(&writer, 30);
    let expected = written(&writer);
    writer.close().unwrap();
    std::fs::remove_file(path.join("LOCK")).unwrap();
    unchanged(&path, || {
        let (one, other) = (read(&path), read(&path));
        for reader in [&one, &other] {
            assert_eq!(shown(reader), expected);
            assert_eq!(reader.refresh().unwrap(), 80);
            let report = reader.recovery();
            assert!(report.clean && !report.created);
            assert_eq!((report.snapshot_sequence, report.commands_replayed), (50, 30));
            assert_eq!((report.sequence, reader.sequence()), (80, 80));
        }
        assert_eq!(one.id(), other.id());
        assert_eq!(one.path(), path);
        one.follow(Duration::from_millis(1)).unwrap();
        let looked = one.refreshed_at();
        until(|| one.refreshed_at() > looked);
        assert_eq!(one.failure(), None);
    });
}

#[test]
fn a_reader_follows_the_writer_of_its_own_process() {
    let (_directory, path) = temporary();
    let writer = write(&path);
    let reader = read(&path);
    assert_eq!(shown(&reader), written(&writer));
    let before = reader.view();
    for round in 1..=20 {
        mix(&writer, 5);
        reader.wait_for(round * 5, LONG).unwrap();
        assert_eq!(shown(&reader), written(&writer));
    }
    assert_eq!(before.sequence(), 0, "a view stays as it is");
    assert_eq!(reader.refresh().unwrap(), 100);
}

/// The last batch of an idle writer is stated to be durable, wherever in its segment it ends.
#[test]
fn the_last_batch_of_an_idle_writer_is_shown() {
    for left in (0..=96).step_by(8) {
        let (_directory, path) = temporary();
        let writer = write(&path);
        let reader = read(&path);
        // A frame of the first segment, without its header: 36 bytes around the record, 16 before
        // the command, and 3 for its length.
        writer.execute(Carry(vec![5; (60 << 10) - 36 - 16 - 3 - left])).unwrap();
        reader.wait_for(1, LONG).unwrap();
        writer.submit(Mix(1)).unwrap().wait().unwrap();
        reader.wait_for(2, LONG).unwrap();
        assert_eq!(shown(&reader), written(&writer), "{left}");
    }
}

#[test]
fn a_reader_goes_on_over_segments_and_snapshots() {
    let (_directory, path) = temporary();
    let writer = Database::<Ledger>::builder()
        .segment_bytes(64 << 10)
        .keep_snapshots(1)
        .snapshots(SnapshotPolicy::every_commands(40))
        .open(&path)
        .unwrap();
    let reader = read(&path);
    let mut before = 0;
    for round in 0..60 {
        mix(&writer, 7);
        writer.execute(Carry(vec![3; 6_000])).unwrap();
        if round % 5 == 0 {
            let sequence = reader.refresh().unwrap();
            assert!(sequence >= before);
            before = sequence;
        }
    }
    reader.wait_for(writer.sequence(), LONG).unwrap();
    assert_eq!(shown(&reader), written(&writer));
}

#[test]
fn a_reader_that_fell_behind_loads_a_newer_snapshot() {
    let (_directory, path) = temporary();
    let writer = write(&path);
    let reader = read(&path);
    mix(&writer, 10);
    reader.wait_for(10, LONG).unwrap();
    for _ in 0..30 {
        writer.execute(Carry(vec![3; 6_000])).unwrap();
    }
    writer.snapshot().unwrap();
    mix(&writer, 3);
    let first = segments(&path).into_iter().next().unwrap();
    let first: u64 = first.file_stem().unwrap().to_str().unwrap().parse().unwrap();
    assert!(first > 11, "the commands behind what was read are gone");
    reader.wait_for(43, LONG).unwrap();
    assert_eq!(shown(&reader), written(&writer));
    mix(&writer, 3);
    reader.wait_for(46, LONG).unwrap();
    assert_eq!(shown(&reader), written(&writer));
}

#[test]
fn new_runs_are_followed() {
    let (_directory, path) = temporary();
    write(&path).close().unwrap();
    let reader = read(&path);
    for run in 1..=10 {
        let writer = write(&path);
        mix(&writer, 3);
        if run % 3 == 0 {
            reader.wait_for(run * 3, LONG).unwrap();
        }
        let expected = written(&writer);
        writer.close().unwrap();
        assert_eq!(reader.refresh().unwrap(), run * 3, "a close states that all is durable");
        assert_eq!(shown(&reader), expected);
    }
    assert_eq!(segments(&path).len(), 1, "each run has replaced the segment");
}

#[test]
fn only_what_is_synced_is_shown() {
    let (_directory, path) = temporary();
    let writer =
        Database::<Ledger>::builder().durability(Durability::Buffered).open(&path).unwrap();
    let reader = read(&path);
    mix(&writer, 20);
    assert_eq!(reader.refresh().unwrap(), 0, "answered, and in the page cache alone");
    let waited = reader.wait_for(1, Duration::from_millis(5));
    assert!(matches!(waited, Err(WaitError::TimedOut { wanted: 1, reached: 0 })), "{waited:?}");
    assert_eq!(writer.sync().unwrap(), 20);
    assert_eq!(reader.refresh().unwrap(), 20);
    mix(&writer, 5);
    assert_eq!(reader.refresh().unwrap(), 20);
    writer.close().unwrap();
    assert_eq!(reader.refresh().unwrap(), 25);
}

#[test]
fn following_ends_and_begins_again() {
    let (_directory, path) = temporary();
    let writer = write(&path);
    let reader = read(&path);
    assert!(!reader.is_following());
    reader.follow(Duration::from_millis(5)).unwrap();
    until(|| reader.is_following());
    for number in 1..=20 {
        writer.execute(Add { account: 1, amount: 1 }).unwrap();
        until(|| reader.sequence() == number);
    }
    let other = reader.clone();
    drop(reader);
    writer.execute(Mix(3)).unwrap();
    until(|| other.sequence() == 21);
    let waiting = std::thread::spawn({
        let other = other.clone();
        move || other.wait_for(22, LONG)
    });
    writer.execute(Mix(4)).unwrap();
    waiting.join().unwrap().unwrap();
    other.stop_following().unwrap();
    until(|| !other.is_following());
    writer.execute(Mix(5)).unwrap();
    let looked = other.refreshed_at();
    other.wait_for(23, LONG).unwrap(); // looks by itself
    assert!(other.refreshed_at() > looked);
    assert_eq!(shown(&other), written(&writer));
    let view = other.view();
    drop(other);
    writer.close().unwrap();
    assert_eq!(view.sequence(), 23);
}

#[test]
fn options_that_make_no_sense_are_refused() {
    let (_directory, path) = temporary();
    let writer = write(&path);
    mix(&writer, 5);
    for late in [LoadModel::OnDemand, LoadModel::InBackground] {
        let opened = Database::<Ledger>::builder().load_model(late).open_read_only(&path);
        let Err(Error::InvalidOption { option: "load_model", .. }) = opened else {
            panic!("{opened:?}");
        };
    }
    let zero = read(&path).follow(Duration::ZERO);
    assert!(matches!(zero, Err(Error::InvalidOption { option: "follow", .. })), "{zero:?}");
    let ended =
        Database::<Ledger>::builder().on_progress(|_| ControlFlow::Break(())).open_read_only(&path);
    assert!(matches!(ended, Err(Error::Aborted)), "{ended:?}");
}

mod nested {
    //! A model whose command asks a reader of its own database.

    use std::sync::Mutex;
    use std::time::Duration;

    use prevalence::{Command, Context, Error, Model, ReadOnly, WaitError};
    use serde::{Deserialize, Serialize};

    pub static READER: Mutex<Option<ReadOnly<Nested>>> = Mutex::new(None);

    #[derive(Clone, Default, Serialize, Deserialize)]
    pub struct Nested;

    impl Model for Nested {
        type Event = ();
    }

    #[derive(Serialize, Deserialize)]
    pub struct Ask;

    impl Command<Nested> for Ask {
        type Output = bool;
        type Rejection = ();

        fn apply(self, _: &mut Nested, _: &mut Context<'_, Nested>) -> Result<bool, ()> {
            let Some(reader) = READER.lock().unwrap().take() else { return Ok(false) };
            let waited = reader.wait_for(9, Duration::from_secs(1));
            let refused = matches!(reader.refresh(), Err(Error::Reentrant))
                && matches!(reader.follow(Duration::from_secs(1)), Err(Error::Reentrant))
                && matches!(waited, Err(WaitError::Reentrant));
            Ok(refused)
        }
    }

    prevalence::commands! { Nested { 1 => Ask } }
}

#[test]
fn a_command_cannot_refresh() {
    let (_directory, path) = temporary();
    let writer = Database::<nested::Nested>::open(&path).unwrap();
    *nested::READER.lock().unwrap() = Some(Database::open_read_only(&path).unwrap());
    assert!(writer.execute(nested::Ask).unwrap());
}
