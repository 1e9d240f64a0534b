//! Tests of legal erasure: after a purge, no file holds what was purged, and the rest is unchanged.

use std::path::Path;

use prevalence::{
    Database, ExecuteError, HistoryRecord, Metadata, PurgeAction, Replacement, View, purge,
    verify_history,
};
use proptest::prelude::*;

use super::purged::{
    Arrive, House, Leave, Party, SECRET, arrive, builder, by, erase, holding_secret, mixed_of,
    noise, party, records, requesting, states,
};
use crate::common::{self, content, copy_directory, temporary};

#[test]
fn what_is_erased_is_nowhere_and_the_rest_is_as_it_was() {
    let (_directory, path) = temporary();
    let house = party(&path);
    let (before, then) = (records(&house), states(&house));
    house.close().unwrap();
    std::fs::write(path.join(".prevalence-left.tmp"), SECRET).unwrap();
    assert_eq!(holding_secret(&path), ["archive", "journal", "snapshot", "tmp", "unpacked"]);
    let snapshots = || content(&path).into_keys().filter(|n| n.to_str().unwrap().ends_with("shot"));
    let (stood, newest) = (snapshots().collect::<Vec<_>>(), before.len() as u64);

    let report = purge::<House>(&path, erase).unwrap();
    assert_eq!((report.redacted, report.replaced, report.metadata_dropped), (2, 0, 1));
    assert_eq!((report.sequence, report.kept), (newest, newest - 3));
    assert_eq!(report.snapshots_recomputed, 3);
    assert_eq!(holding_secret(&path), [""; 0]);
    assert_eq!(snapshots().collect::<Vec<_>>(), stood, "they stand where they stood");
    assert!(content(&path).keys().all(|name| !name.to_str().unwrap().contains(".purg/")));
    for left in ["journal.purging", "journal.purged", "archive.purged", "snapshots.purged"] {
        assert!(!path.join(left).exists());
    }

    let verified = verify_history::<House>(&path).unwrap();
    assert_eq!((verified.divergence, verified.begins, verified.sequence), (None, 0, newest));
    assert_eq!((verified.commands_redacted, verified.snapshots_compared), (2, 3));
    let house = builder().open(&path).unwrap();
    assert!(house.recovery().clean);
    let after = records(&house);
    let mut model = House::default();
    for (sequence, state) in (0usize..).zip(states(&house)) {
        // Without the two, all is as if nobody had come then.
        if let Some(record) = sequence.checked_sub(1).map(|at| &before[at]) {
            let (now, sequence) = (&after[sequence - 1], sequence as u64);
            assert_eq!((now.sequence(), now.time()), (record.sequence(), record.time()));
            match record.command::<Arrive>().map(Result::unwrap) {
                Some(arrive) if arrive.name == SECRET => {
                    assert!(now.is_redacted() && now.command::<Arrive>().is_none());
                    assert_eq!((now.command_name(), now.metadata()), <_>::default_redacted());
                    assert_eq!(now.command_json().unwrap(), "null");
                }
                Some(arrive) => {
                    model.arrive(&arrive.name, sequence);
                    assert_eq!(now.command_json().unwrap(), record.command_json().unwrap());
                    let forgotten = record.metadata().actor == SECRET;
                    let expected = if forgotten { Metadata::default() } else { record.metadata() };
                    assert_eq!(now.metadata(), expected);
                }
                None => {
                    assert_eq!(now.command_json().unwrap(), record.command_json().unwrap());
                    model.mixed = mixed_of(&state);
                }
            }
        }
        assert_eq!(model.bytes(), state, "at {sequence}");
        assert_eq!(sequence < 2, state == then[sequence], "at {sequence}");
    }
    // What was asked for is remembered as far as it is not erased.
    let again = |id: &str| requesting(&house, id).execute(Arrive { name: "a fan".to_owned() });
    assert!(matches!(again("request 2"), Err(ExecuteError::Duplicate { sequence: 14, .. })));
    again(&format!("{SECRET}, 1")).unwrap();
    house.execute(Leave { name: "a fan".to_owned() }).unwrap();
    house.close().unwrap();
    purge::<House>(&path, erase_requests).unwrap();
    let house = builder().open(&path).unwrap();
    assert_eq!(house.query(|house| house.guests.len()), 6);
    goes_on(house, &path);
}

/// Purges the secret, also in request ids.
fn erase_requests(record: &HistoryRecord<House>) -> PurgeAction<House> {
    if record.metadata().request_id.contains(SECRET) {
        return PurgeAction::DropMetadata;
    }
    erase(record)
}

trait Redacted {
    fn default_redacted() -> Self;
}

impl Redacted for (&str, Metadata) {
    fn default_redacted() -> Self {
        ("(redacted)", Metadata::default())
    }
}

/// Checks that a purged database works like any other, and that nothing is left to purge.
fn goes_on(house: Database<House>, path: &Path) {
    let at = house.sequence();
    arrive(&house, "a new guest");
    house.snapshot().unwrap();
    arrive(&house, "one more");
    let now = states(&house);
    assert_eq!((now.len() as u64, house.sequence()), (at + 3, at + 2));
    house.close().unwrap();
    let house = builder().open(path).unwrap();
    assert_eq!(states(&house), now);
    let replayed: View<House> = house.history().replay_as().unwrap();
    assert_eq!(replayed.bytes(), now[now.len() - 1]);
    house.close().unwrap();
    let stands = content(path);
    let report = purge::<House>(path, erase).unwrap();
    assert_eq!((report.kept + 2, report.record), (at + 4, None));
    assert_eq!(content(path), stands);
}

#[test]
fn a_replacement_counts_from_its_place_on() {
    for drops in [false, true] {
        let (_directory, path) = temporary();
        let house = party(&path);
        let then = records(&house);
        house.close().unwrap();
        let report = purge::<House>(&path, |record| match record.command::<Arrive>() {
            // Another type of command, too.
            Some(Ok(arrive)) if arrive.name == "guest 1" => {
                PurgeAction::replace(Party { noise: vec![1] })
            }
            Some(Ok(arrive)) if arrive.name.ends_with("friend") => {
                let replacement = Replacement::of(Arrive { name: "a fan".to_owned() });
                PurgeAction::Replace(if drops {
                    replacement.without_metadata()
                } else {
                    replacement
                })
            }
            _ => PurgeAction::Keep,
        })
        .unwrap();
        assert_eq!((report.replaced, report.redacted), (3, 0));
        assert_eq!(report.metadata_dropped, if drops { 2 } else { 0 });
        let house = builder().open(&path).unwrap();
        let places: Vec<u64> = records(&house)
            .iter()
            .zip(&then)
            .filter(|(now, then)| now.command_json().unwrap() != then.command_json().unwrap())
            .map(|(now, then)| {
                assert_eq!((now.sequence(), now.time()), (then.sequence(), then.time()));
                let expected = if drops { Metadata::default() } else { then.metadata() };
                assert_eq!(now.metadata(), expected);
                now.sequence()
            })
            .collect();
        assert_eq!(places, [7, 8, 14]);
        let names = |house: &House| house.guests.keys().cloned().collect::<Vec<_>>();
        let history = house.history();
        assert_eq!(names(&history.at(6).unwrap()), [SECRET, "guest 0"]);
        assert_eq!(names(&history.at(8).unwrap()), [SECRET, "a fan", "guest 0"]);
        let expected = [SECRET, "a fan", "guest 0", "guest 2", "the last guest"];
        assert_eq!(house.query(names), expected);
        assert_eq!(house.query(|house| house.guests["a fan"]), 14);
    }
}

#[test]
fn a_killed_database_is_purged_too() {
    let (directory, path) = temporary();
    let house = party(&path);
    house.execute(Leave { name: "guest 0".to_owned() }).unwrap();
    let killed = directory.path().join("killed.db");
    copy_directory(&path, &killed);
    // A batch that the kill has cut short.
    let newest = common::segments(&killed).pop().unwrap();
    let mut bytes = std::fs::read(&newest).unwrap();
    let end = bytes.iter().rposition(|&byte| byte != 0).unwrap() / 8 * 8 + 8;
    bytes[end..end + 4].copy_from_slice(b"PVFR");
    bytes[end + 40..end + 40 + SECRET.len()].copy_from_slice(SECRET.as_bytes());
    std::fs::write(&newest, bytes).unwrap();
    assert_eq!(purge::<House>(&killed, erase).unwrap().redacted, 2);
    assert_eq!(holding_secret(&killed), [""; 0]);
    let killed = builder().open(&killed).unwrap();
    assert_eq!(killed.sequence(), house.sequence());
    assert!(killed.recovery().torn_tail.is_none() && killed.recovery().clean);
    let names: Vec<_> = killed.query(|house| house.guests.keys().cloned().collect());
    assert_eq!(names, ["a friend", "another friend", "guest 1", "guest 2", "the last guest"]);
}

#[test]
fn a_directory_on_another_disk_comes_home() {
    let (directory, path) = temporary();
    party(&path).close().unwrap();
    let elsewhere = directory.path().join("elsewhere");
    std::fs::rename(path.join("archive"), &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, path.join("archive")).unwrap();
    purge::<House>(&path, erase).unwrap();
    assert_eq!(holding_secret(&path), [""; 0]);
    assert_eq!(std::fs::read_dir(&elsewhere).unwrap().count(), 0);
    assert!(builder().open(&path).unwrap().history().records(..).is_ok());
}

/// One step of a random history.
#[derive(Clone, Debug)]
enum Step {
    Arrive(u8),
    Batch(Vec<u8>),
    Noise(u8),
    Snapshot,
    Reopen,
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => any::<u8>().prop_map(Step::Arrive),
        2 => proptest::collection::vec(any::<u8>(), 1..6).prop_map(Step::Batch),
        4 => any::<u8>().prop_map(Step::Noise),
        2 => Just(Step::Snapshot),
        1 => Just(Step::Reopen),
    ]
}

fn run(path: &Path, steps: &[Step]) {
    let mut house = builder().open(path).unwrap();
    for step in steps {
        match step {
            Step::Arrive(guest) => arrive(&by(&house, "ann"), &format!("guest {guest}")),
            Step::Batch(guests) => {
                let sent = guests.iter().map(|guest| Arrive { name: format!("guest {guest}") });
                let sent: Vec<_> = sent.map(|arrive| house.submit(arrive).unwrap()).collect();
                sent.into_iter().for_each(|pending| pending.wait().unwrap());
            }
            Step::Noise(seed) => house.execute(noise((*seed).into())).unwrap(),
            Step::Snapshot => drop(house.snapshot().unwrap()),
            Step::Reopen => {
                house.close().unwrap();
                house = builder().open(path).unwrap();
            }
        }
    }
    house.close().unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn every_state_of_a_purged_history_is_that_of_its_commands(
        steps in proptest::collection::vec(any_step(), 1..30),
        actions in proptest::collection::vec(0..6u8, 150),
    ) {
        let (_directory, path) = temporary();
        run(&path, &steps);
        let report = purge::<House>(&path, |record| match actions[record.sequence() as usize] {
            0 => PurgeAction::Redact,
            1 => PurgeAction::replace(Arrive { name: "another".repeat(record.sequence() as usize) }),
            2 => PurgeAction::DropMetadata,
            _ => PurgeAction::Keep,
        }).unwrap();
        let verified = verify_history::<House>(&path).unwrap();
        prop_assert_eq!((verified.divergence, verified.begins), (None, 0));
        prop_assert_eq!(verified.commands_redacted, report.redacted);
        let house = builder().open(&path).unwrap();
        let mut model = House::default();
        let records = records(&house);
        prop_assert_eq!(records.len() as u64, report.sequence);
        for (record, state) in records.iter().zip(states(&house).iter().skip(1)) {
            let sequence = record.sequence();
            let action = actions[sequence as usize];
            prop_assert_eq!(action == 0, record.is_redacted());
            match record.command::<Arrive>().map(Result::unwrap) {
                Some(arrive) => model.arrive(&arrive.name, sequence),
                None if record.is_redacted() => {}
                None => model.mixed = mixed_of(state),
            }
            if action < 1 || action == 2 {
                prop_assert_eq!(record.metadata(), Metadata::default());
            }
            prop_assert_eq!(&model.bytes(), state, "at {}", sequence);
        }
    }
}
