//! What only SQLite can do: files, locks, and commits that come by themselves.

use std::time::Duration;

use prevalence::Sink;
use prevalence_sinks::{SinkError, SqliteSink};

use super::File;
use crate::common::child::{alone, assert_ran, test_name};
use crate::common::{Manner, Other, TABLES, Till, behind, expected, feed, open, pay, source};

/// Whoever ends the transaction instead of the sink gets nothing stored: not even that which comes
/// behind the end, of which each statement would be a transaction of its own.
#[test]
fn only_the_sink_commits() {
    let directory = tempfile::tempdir().unwrap();
    let till = open(directory.path());
    pay(&till, 6);
    let ends = [
        "COMMIT",
        "COMMIT; BEGIN",
        "END; BEGIN IMMEDIATE",
        "ROLLBACK",
        "ROLLBACK; BEGIN IMMEDIATE",
        "INSERT INTO kinds VALUES (1); INSERT OR ROLLBACK INTO kinds VALUES (1)",
    ];
    for sql in ends {
        for at in [1, 4, 6] {
            for manner in [Manner::Runs(at, sql), Manner::Swallows(at, sql)] {
                let file = File::new();
                let mut sink = file.sink(manner);
                sink.position(&source()).unwrap();
                let error = sink.apply_batch(&behind(&till, 0)).unwrap_err();
                let expects = |error: &SinkError| {
                    matches!(error, SinkError::Write { .. } | SinkError::TransactionEnded { .. })
                };
                assert!(expects(&error), "{sql}: {error}");
                assert_eq!(file.payments(), [], "{sql} at {at}");
                let kinds = "SELECT count(*) FROM kinds";
                let kinds: i64 = file.connect().query_row(kinds, [], |row| row.get(0)).unwrap();
                assert_eq!(kinds, 0, "{sql} at {at}");
                assert_eq!(feed(&till, &mut file.sink(Manner::Good), 6), 6);
                assert_eq!(file.payments(), expected(&till, 6), "{sql} at {at}");
            }
        }
    }
    let file = File::new();
    let ended = file.sink_of("COMMIT; CREATE TABLE a (b)", "payments", Manner::Good);
    let error = { ended }.position(&source()).unwrap_err();
    assert!(matches!(error, SinkError::Database { .. }), "{error}");
    assert_eq!(feed(&till, &mut file.sink(Manner::Good), 6), 6, "nothing was begun");
}

#[test]
fn a_savepoint_ends_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let till = open(directory.path());
    pay(&till, 6);
    let file = File::new();
    let sql = "SAVEPOINT a; DELETE FROM payments; ROLLBACK TO a; RELEASE a";
    assert_eq!(feed(&till, &mut file.sink(Manner::Runs(4, sql)), 6), 6);
    assert_eq!(file.payments(), expected(&till, 6));
}

/// Another program that writes for long is an error after the timeout, not a wait without end.
#[test]
fn a_busy_file_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let till = open(directory.path());
    pay(&till, 3);
    let file = File::new();
    feed(&till, &mut file.sink(Manner::Good), 3);
    pay(&till, 1);
    let mut sink = SqliteSink::<Till, _>::new(&file.path, TABLES, |transaction, _| {
        transaction.execute("INSERT INTO kinds VALUES (4)", [])?;
        Ok(())
    })
    .unwrap()
    .busy_timeout(Duration::from_millis(20));
    assert_eq!(sink.position(&source()).unwrap(), 3);
    let holder = file.connect();
    holder.execute_batch("BEGIN IMMEDIATE").unwrap();
    let error = sink.apply_batch(&behind(&till, 3)).unwrap_err();
    assert!(matches!(error, SinkError::Database { .. }), "{error}");
    assert!(error.to_string().contains("locked"), "{error}");
    assert!(sink.position(&source()).is_err());
    holder.execute_batch("ROLLBACK").unwrap();
    assert_eq!(sink.position(&source()).unwrap(), 3);
    sink.apply_batch(&behind(&till, 3)).unwrap();
    assert_eq!(sink.position(&source()).unwrap(), 4);
}

/// What the documentation says about the file.
#[test]
fn a_commit_is_on_the_disk_and_readers_do_not_wait() {
    let directory = tempfile::tempdir().unwrap();
    let till = open(directory.path());
    pay(&till, 3);
    let path = directory.path().join("a.sqlite");
    let mut sink = SqliteSink::<Till, _>::new(&path, "CREATE TABLE a (b)", |transaction, _| {
        let full: i64 = transaction.pragma_query_value(None, "synchronous", |row| row.get(0))?;
        assert_eq!(full, 2, "FULL");
        transaction.execute("INSERT INTO a VALUES (1)", [])?;
        Ok(())
    })
    .unwrap();
    sink.position(&source()).unwrap();
    let reader = rusqlite::Connection::open(&path).unwrap();
    reader.execute_batch("BEGIN; SELECT * FROM a").unwrap();
    let mode: String = reader.pragma_query_value(None, "journal_mode", |row| row.get(0)).unwrap();
    assert_eq!(mode, "wal");
    sink.apply_batch(&behind(&till, 0)).unwrap();
    reader.execute_batch("COMMIT").unwrap();
    let rows: i64 = reader.query_row("SELECT count(*) FROM a", [], |row| row.get(0)).unwrap();
    assert_eq!(rows, 3);
}

#[test]
fn a_strange_path_is_only_a_path() {
    let directory = tempfile::tempdir().unwrap();
    let till = open(directory.path());
    pay(&till, 3);
    for name in [":memory:", "file:a?mode=memory", "a b'\"%41", "ä"] {
        let file = File::at(&directory.path().join(name));
        assert_eq!(feed(&till, &mut file.sink(Manner::Good), 2), 3);
        assert!(file.path.metadata().unwrap().len() > 0, "{name}");
        assert_eq!(file.sink(Manner::Good).position(&source()).unwrap(), 3, "{name}");
    }
    let nowhere = File::at(&directory.path().join("not/there"));
    let error = nowhere.sink(Manner::Good).position(&source()).unwrap_err();
    assert!(error.to_string().contains("not/there"), "{error}");
    let error = SqliteSink::<Till, _>::new("", "", |_, _| Ok(())).unwrap_err();
    assert!(matches!(error, SinkError::Path { .. }), "{error}");
}

const DIRECTORY: &str = "PREVALENCE_SINKS_MOVES_IN";

/// This is not a test of its own: a current directory belongs to a process.
#[test]
#[ignore = "what the child process runs"]
fn moves_about() {
    let Some(directory) = std::env::var_os(DIRECTORY) else { return };
    let directory = std::path::PathBuf::from(directory);
    let till = open(&directory);
    pay(&till, 6);
    let (one, two) = (directory.join("one"), directory.join("two"));
    for place in [&one, &two] {
        std::fs::create_dir(place).unwrap();
    }
    std::env::set_current_dir(&one).unwrap();
    let mut sink = File::at("payments.sqlite".as_ref()).sink(Manner::Good);
    std::env::set_current_dir(&two).unwrap();
    assert_eq!(feed(&till, &mut sink, 2), 6);
    let found = two.read_dir().unwrap().count();
    assert_eq!(found, 0, "nothing belongs into the second directory");
    assert_eq!(File::at(&one.join("payments.sqlite")).payments(), expected(&till, 6));
    println!("moved");
}

#[test]
fn a_change_of_directory_does_no_harm() {
    let directory = tempfile::tempdir().unwrap();
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(alone(test_name!(moves_about)))
        .env(DIRECTORY, directory.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert_ran(&said);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("moved"), "{said}{errors}");
}
