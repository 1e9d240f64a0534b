//! What `assert_history` and `assert_deterministic` find in stored histories.

use std::path::Path;

use prevalence::testing::{assert_deterministic, assert_history};
use prevalence::{Database, Retention, SnapshotPolicy};

use super::*;
use crate::common::{content, temporary};

/// Makes a history under `Retention::Archive`, with a snapshot after every 20 commands.
fn history<M: Model + Default>(path: &Path, execute: impl FnOnce(&Database<M>)) {
    let database = Database::<M>::builder()
        .segment_bytes(64 << 10)
        .keep_snapshots(1)
        .snapshots(SnapshotPolicy::manual())
        .retention(Retention::Archive)
        .open(path)
        .unwrap();
    execute(&database);
    database.close().unwrap();
}

#[test]
fn a_sound_history_passes_and_its_directory_stays_as_it_is() {
    let (_directory, path) = temporary();
    history::<Ledger>(&path, |database| {
        for account in 0..60 {
            database.execute(Add { account, amount: 1 }).unwrap();
            database.execute(Stamp).unwrap();
            if account % 20 == 9 {
                database.snapshot().unwrap();
            }
        }
    });
    std::fs::remove_file(path.join("LOCK")).unwrap();
    let before = content(&path);
    for report in [assert_history::<Ledger>(&path), assert_deterministic::<Ledger>(&path)] {
        assert_eq!((report.begins, report.sequence), (0, 120));
        assert_eq!((report.commands_replayed, report.snapshots_compared), (120, 3));
    }
    assert_eq!(content(&path), before);
}

#[test]
fn a_history_that_changed_its_meaning_is_told_with_all_that_is_known() {
    let (_directory, path) = temporary();
    history::<Shelf>(&path, |database| {
        let ann = Metadata { actor: "ann".to_owned(), ..Metadata::default() };
        (0..30).for_each(|_| database.execute(Fill).unwrap());
        database.with_metadata(&ann).unwrap().execute(ReadClock).unwrap();
        database.snapshot().unwrap();
    });
    says(
        || assert_history::<Shelf>(&path),
        &["no longer means", "different models at sequence 31", "`ReadClock`", "`ann`"],
    );
    says(|| assert_history::<Ledger>(&path), &["cannot be read", "Shelf"]);
    says(|| assert_history::<Shelf>(path.join("nowhere")), &["cannot be copied"]);
}

/// Returns the report on a history of 701 commands, all of one kind except those that may be the
/// cause.
fn told_of(blamed: impl FnOnce(&Database<Shelf>)) -> String {
    let (_directory, path) = temporary();
    history::<Shelf>(&path, |database| {
        let fill = |commands: u32| {
            let pending = (0..commands).map(|_| database.submit(Fill).unwrap());
            pending.for_each(drop);
        };
        fill(450);
        blamed(database);
        fill(250);
    });
    failure(|| assert_deterministic::<Shelf>(&path))
}

#[test]
fn the_command_that_is_not_deterministic_is_found_in_a_history() {
    for (name, text) in [
        ("PickFromSet", told_of(|shelf| shelf.execute(PickFromSet).unwrap())),
        ("PickLabels", told_of(|shelf| shelf.execute(PickLabels).unwrap())),
        ("ReadClock", told_of(|shelf| shelf.execute(ReadClock).unwrap())),
        ("CountCalls", told_of(|shelf| shelf.execute(CountCalls).unwrap())),
    ] {
        let expected = format!(
            "two replays made different models at sequence 451; up to sequence 450 there is no \
             difference. The command is `{name}` with sequence 451"
        );
        assert!(text.contains(&expected), "{text}");
    }
}

/// The other replay has forgotten the field, because its model was encoded and decoded.
#[test]
fn a_field_that_is_not_stored_is_noticed_in_a_history() {
    let text = told_of(|shelf| {
        shelf.execute(CountInCache).unwrap();
        (0..9).for_each(|_| shelf.execute(Fill).unwrap());
        shelf.execute(ReadCache).unwrap();
    });
    assert!(text.contains("The command is `ReadCache` with sequence 461"), "{text}");
}

#[test]
fn a_command_that_is_refused_now_and_then_is_found_in_a_history() {
    let text = told_of(|shelf| while shelf.execute(RejectEverySecond).is_err() {});
    assert!(text.contains("replay fails at sequence 451: it is rejected now"), "{text}");
    assert!(text.contains("`RejectEverySecond`"), "{text}");
}

#[test]
fn models_that_do_not_survive_their_encoding_are_noticed_in_a_history() {
    use unsound::{Clear, Gappy, Hashed, Put};
    let (_directory, path) = temporary();
    history::<Hashed>(&path, |database| {
        (0..40).for_each(|_| database.execute(Put(30)).unwrap());
    });
    says(
        || assert_deterministic::<Hashed>(&path),
        &["the model at sequence 1 changes when it is encoded and decoded", "`HashMap`"],
    );
    let equal = |left: &Hashed, right: &Hashed| left.0 == right.0;
    let report = prevalence::verify_against::<Hashed, Hashed>(&path, equal).unwrap();
    assert_eq!(report.divergence, None);

    let (_directory, path) = temporary();
    let full = Gappy { text: Some("x".to_owned()), number: 1 };
    let database = Database::builder().initial(full).open(&path).unwrap();
    database.execute(Clear).unwrap();
    database.close().unwrap();
    says(
        || assert_deterministic::<Gappy>(&path),
        &["the model at sequence 1 changes when it is encoded and decoded"],
    );
}
