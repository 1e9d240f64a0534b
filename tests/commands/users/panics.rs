//! Tests of panics of users' code in unexpected places: every caller gets the panic as its error,
//! and no other error, and the directory opens again.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use prevalence::{
    Command, Context, Database, Error, ExecuteError, Health, MigrationError, Model, SnapshotReader,
    WaitError,
};
use serde::{Deserialize, Serialize};

use super::fragile::*;
use super::names;
use crate::common::temporary;

/// Checks the error of every call to a database that a panic has ended, and then opens it again.
fn assert_poisoned(database: Database<Count>, path: &std::path::Path, accepted: u64) {
    assert_told(database.execute(Step::Go));
    assert_told(database.submit(Step::Go).and_then(prevalence::Pending::wait));
    let is_told = |error: &Error| {
        let Error::Poisoned(poisoned) = error else { return false };
        poisoned.reason().contains("on purpose")
    };
    for error in [database.sync().map(drop), database.snapshot().map(drop)] {
        // A snapshot of what is durable may still be tried, and meet the panic itself.
        let told = |error: &Error| error.to_string().contains("on purpose");
        assert!(error.as_ref().err().is_none_or(told), "{error:?}");
    }
    let waited = database.wait_for(u64::MAX, Duration::from_secs(600));
    assert!(matches!(&waited, Err(WaitError::Poisoned(_))), "{waited:?}");
    assert!(matches!(database.health(), Health::Poisoned(_)));
    let closed = database.close().unwrap_err();
    assert!(is_told(&closed), "{closed}");
    disarm();
    let database = open(path);
    let found = database.sequence();
    assert!((accepted..=accepted + 1).contains(&found), "{found}, {accepted} were accepted");
    assert_eq!(database.query(|count| count.0), found);
    database.execute(Step::Go).unwrap();
}

#[test]
fn a_panic_in_clone_is_told_to_the_first_caller_and_to_all_others() {
    for panics in [1, ALWAYS] {
        let _turn = Turn::take();
        let (_directory, path) = temporary();
        let database = open(&path);
        for _ in 0..3 {
            database.execute(Step::Go).unwrap();
        }
        CLONE.store(panics, Ordering::SeqCst);
        assert_told(database.execute(Step::Go));
        assert_poisoned(database, &path, 3);
    }
}

/// The rollback clones the checkpoint, and drops what the refused command left.
#[test]
fn a_panic_amid_a_rollback_is_told_to_the_first_caller_and_to_all_others() {
    for (armed, panics) in [(&CLONE, 1), (&DROP, 1), (&CLONE, ALWAYS), (&DROP, ALWAYS)] {
        let _turn = Turn::take();
        let (_directory, path) = temporary();
        let database = open(&path);
        for _ in 0..3 {
            database.execute(Step::Go).unwrap();
        }
        armed.store(panics, Ordering::SeqCst);
        assert_told(database.execute(Step::Refuse));
        assert_poisoned(database, &path, 3);
    }
}

/// The callers wait in the queue, or for room in it, behind the command that met the panic.
#[test]
fn who_waits_behind_a_panic_hears_of_it_too() {
    for armed in [&CLONE, &DROP] {
        let _turn = Turn::take();
        let (_directory, path) = temporary();
        let database = Database::<Count>::builder()
            .queue_capacity(2)
            .max_batch_commands(4)
            .open(&path)
            .unwrap();
        let entered = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..16 {
                scope.spawn(|| {
                    // Until it is told, and then by far oftener than the queue has room for.
                    let mut left = 20;
                    while left > 0 {
                        match database.execute(Step::Refuse) {
                            Err(ExecuteError::Rejected(())) => assert_eq!(left, 20),
                            refused => {
                                assert_told(refused);
                                left -= 1;
                            }
                        }
                        entered.fetch_add(1, Ordering::SeqCst);
                    }
                });
            }
            while entered.load(Ordering::SeqCst) < 100 {
                std::thread::yield_now();
            }
            armed.store(1, Ordering::SeqCst);
        });
        drop(database);
    }
}

/// A version is freed after its successor was published and its callers were answered.
#[test]
fn a_panic_when_an_old_version_is_freed_is_told_to_the_next_caller() {
    for panics in [1, ALWAYS] {
        let _turn = Turn::take();
        let (_directory, path) = temporary();
        let database = open(&path);
        database.execute(Step::Go).unwrap();
        DROP.store(panics, Ordering::SeqCst);
        let mut accepted = 1;
        loop {
            match database.execute(Step::Go) {
                Ok(count) => accepted = count,
                Err(error) => break assert_told::<()>(Err(error)),
            }
        }
        assert_poisoned(database, &path, accepted);
    }
}

/// The snapshot thread frees the version that it wrote, if commands have replaced it meanwhile.
#[test]
fn a_panic_on_the_snapshot_thread_is_told_to_whoever_waits_for_the_snapshot() {
    let _turn = Turn::take();
    let (_directory, path) = temporary();
    let database = open(&path);
    database.execute(Step::Go).unwrap();
    database.snapshot().unwrap(); // the first one is decoded, and that model is freed, too
    database.execute(Step::Go).unwrap();
    HOLDS.store(false, Ordering::SeqCst);
    HELD.store(true, Ordering::SeqCst);
    let taken = std::thread::scope(|scope| {
        let taken = scope.spawn(|| database.snapshot());
        while !HOLDS.load(Ordering::SeqCst) {
            std::thread::yield_now();
        }
        // The rollback's checkpoint, the published version, and the one before are others by now.
        for _ in 0..3 {
            database.execute(Step::Go).unwrap();
        }
        // What the last one has replaced is freed before this is answered, and this replaces none.
        database.execute(Step::Refuse).unwrap_err();
        DROP.store(1, Ordering::SeqCst);
        HELD.store(false, Ordering::SeqCst);
        taken.join().unwrap()
    });
    let told = matches!(&taken, Err(Error::Poisoned(poisoned)) if poisoned.reason().contains("on purpose"));
    assert!(told, "{taken:?}");
    assert_poisoned(database, &path, 5);
}

#[test]
fn a_panic_when_it_is_closed_is_an_error_and_unlocks_the_directory() {
    let _turn = Turn::take();
    let (_directory, path) = temporary();
    let database = Database::<Count>::open(&path).unwrap();
    for _ in 0..5 {
        database.execute(Step::Go).unwrap();
    }
    let other = database.clone();
    DROP.store(ALWAYS, Ordering::SeqCst);
    let error = database.close().unwrap_err();
    assert!(matches!(&error, Error::Poisoned(_)), "{error}");
    drop(other);
    disarm();
    assert_eq!(open(&path).query(|count| count.0), 5);
}

#[test]
fn a_panic_in_serialize_or_deserialize_fails_a_snapshot_and_leaves_nothing() {
    for armed in [&SERIALIZE, &DESERIALIZE] {
        let _turn = Turn::take();
        let (directory, path) = temporary();
        let database = open(&path);
        database.execute(Step::Go).unwrap();
        let target = directory.path().join("backup.db");
        for copies in [true, false] {
            armed.store(1, Ordering::SeqCst);
            let taken = if copies { database.backup(&target) } else { database.snapshot() };
            let error = taken.unwrap_err();
            let (Error::Encode { reason, .. } | Error::UnreadableModel { reason, .. }) = &error
            else {
                panic!("{error}")
            };
            assert!(reason.contains("panicked: on purpose"), "{error}");
            assert_eq!(names(directory.path()), ["ledger.db"]);
            assert_eq!(names(&path.join("snapshots")).len(), 1);
        }
        assert!(matches!(database.health(), Health::SnapshotsFailing(_)));
        database.execute(Step::Go).unwrap();
        database.snapshot().unwrap();
        database.backup(&target).unwrap();
        database.close().unwrap();
        assert_eq!(open(&path).query(|count| count.0), 2);
        assert_eq!(open(&target).query(|count| count.0), 2);
    }
}

#[test]
fn a_panic_when_what_was_decoded_for_a_backup_is_freed_is_an_error() {
    let _turn = Turn::take();
    let (directory, path) = temporary();
    let database = open(&path);
    let target = directory.path().join("backup.db");
    DROP.store(1, Ordering::SeqCst);
    let error = database.backup(&target).unwrap_err();
    assert!(error.to_string().contains("its Drop panicked: on purpose"), "{error}");
    assert_eq!(names(directory.path()), ["ledger.db"]);
    database.execute(Step::Go).unwrap();
}

#[test]
fn a_panic_in_clone_when_it_is_opened_is_an_error_and_unlocks_the_directory() {
    let _turn = Turn::take();
    let (_directory, path) = temporary();
    open(&path).execute(Step::Go).unwrap();
    CLONE.store(1, Ordering::SeqCst);
    let error = Database::<Count>::open(&path).unwrap_err();
    assert!(error.to_string().contains("panicked: on purpose"), "{error}");
    assert_eq!(open(&path).query(|count| count.0), 1);
}

/// The initial model is dropped after it was stored. Earlier, nothing owned the opened database
/// during this drop, so that the lock was never released.
#[test]
fn a_panic_when_the_initial_model_is_freed_unlocks_the_directory() {
    let _turn = Turn::take();
    let (_directory, path) = temporary();
    DROP.store(1, Ordering::SeqCst);
    let opened = std::panic::catch_unwind(|| Database::<Count>::open(&path).map(drop));
    assert!(opened.is_err() || opened.is_ok_and(|opened| opened.is_err()));
    disarm();
    let database = open(&path);
    database.execute(Step::Go).unwrap();
    database.close().unwrap();
}

/// What a command has emitted is freed after its answer, and before the next command is applied.
#[test]
fn a_panic_when_an_event_is_freed_is_told_to_the_next_caller() {
    #[derive(Clone, Serialize, Deserialize)]
    struct Event;

    impl Drop for Event {
        fn drop(&mut self) {
            panic_if(&DROP);
        }
    }

    #[derive(Clone, Default, Serialize, Deserialize)]
    struct Loud(u64);

    impl Model for Loud {
        type Event = Event;
    }

    #[derive(Serialize, Deserialize)]
    struct Emit;

    impl Command<Loud> for Emit {
        type Output = ();
        type Rejection = ();

        fn apply(self, _: &mut Loud, cx: &mut Context<'_, Loud>) -> Result<(), ()> {
            cx.emit(Event);
            Ok(())
        }
    }

    prevalence::commands! { Loud { 1 => Emit } }

    let _turn = Turn::take();
    let (_directory, path) = temporary();
    let database = Database::<Loud>::open(&path).unwrap();
    DROP.store(1, Ordering::SeqCst);
    database.execute(Emit).unwrap();
    assert_told(database.execute(Emit));
    assert_told(database.execute(Emit));
    drop(database);
    assert_eq!(Database::<Loud>::open(&path).unwrap().sequence(), 1);
}

#[test]
fn a_panic_while_something_stored_is_read_or_copied_is_an_error() {
    let _turn = Turn::take();
    let (directory, path) = temporary();
    let database = open(&path);
    for _ in 0..3 {
        database.execute(Step::Go).unwrap();
        database.snapshot().unwrap();
    }
    let history = database.history();
    DESERIALIZE.store(ALWAYS, Ordering::SeqCst);
    let error = history.at(2).unwrap_err();
    assert!(error.to_string().contains("panicked: on purpose"), "{error}");
    database.close().unwrap();
    let before = crate::common::content(&path);
    let error = Database::<Count>::open(&path).unwrap_err();
    assert!(matches!(&error, Error::Undecodable { .. }), "{error}");
    assert!(error.to_string().contains("panicked: on purpose"), "{error}");
    assert_eq!(crate::common::content(&path), before);
    let error = prevalence::verify_history::<Count>(&path).unwrap_err();
    assert!(error.to_string().contains("panicked: on purpose"), "{error}");
    disarm();
    SERIALIZE.store(ALWAYS, Ordering::SeqCst);
    let target = directory.path().join("restored.db");
    let error = Database::<Count>::restore(&path, &target).unwrap_err();
    assert!(error.to_string().contains("panicked: on purpose"), "{error}");
    assert_eq!(names(directory.path()), ["ledger.db"]);
    let error = prevalence::verify_history::<Count>(&path).unwrap_err();
    assert!(error.to_string().contains("panicked: on purpose"), "{error}");
    disarm();
    assert_eq!(open(&path).query(|count| count.0), 3);
}

#[test]
fn a_panic_when_it_is_created_is_an_error_and_what_is_half_made_is_no_obstacle() {
    for armed in [&SERIALIZE, &DESERIALIZE] {
        let _turn = Turn::take();
        let (_directory, path) = temporary();
        armed.store(1, Ordering::SeqCst);
        let error = Database::<Count>::open(&path).unwrap_err();
        assert!(error.to_string().contains("panicked: on purpose"), "{error}");
        open(&path).execute(Step::Go).unwrap();
    }
}

#[test]
fn a_panic_in_a_migration_is_an_error_and_changes_nothing() {
    #[derive(Clone, Default, Serialize, Deserialize)]
    struct Second(u64);

    impl Model for Second {
        type Event = ();
        const VERSION: u32 = 2;

        fn migrate(_: u32, snapshot: &mut SnapshotReader<'_>) -> Result<Self, MigrationError> {
            panic_if(&MIGRATE);
            snapshot.decode().map(Self)
        }
    }

    prevalence::commands! { Second = "Count" {} }

    let _turn = Turn::take();
    let (_directory, path) = temporary();
    let database = open(&path);
    database.execute(Step::Go).unwrap();
    database.snapshot().unwrap();
    database.close().unwrap();
    let before = crate::common::content(&path);
    MIGRATE.store(1, Ordering::SeqCst);
    let error = Database::<Second>::open(&path).unwrap_err();
    assert!(matches!(&error, Error::Undecodable { .. }), "{error}");
    assert!(error.to_string().contains("migrate panicked: on purpose"), "{error}");
    assert_eq!(crate::common::content(&path), before);
    assert_eq!(Database::<Second>::open(&path).unwrap().query(|count| count.0), 1);
}
