//! Other models over the commands of a stored history.

use prevalence::{Command, Context, Database, Error, Metadata, Model, Retention, SnapshotPolicy};
use serde::{Deserialize, Serialize};

use super::{builder, fill_a_segment};
use crate::common::{self, Add, Carry, Mix, Stamp, temporary};

/// The changes by caller: a model that nobody planned at first.
#[derive(Clone, Default, Serialize, Deserialize)]
struct Callers {
    commands: imbl::OrdMap<String, u64>,
    stamps: Vec<common::Stamped>,
}

impl Model for Callers {
    type Event = ();
}

impl Callers {
    fn count(&mut self, cx: &Context<'_, Self>) {
        *self.commands.entry(cx.metadata().actor).or_default() += 1;
    }
}

macro_rules! counted {
    ($command:ty) => {
        impl Command<Callers> for $command {
            type Output = ();
            type Rejection = ();
            fn apply(self, callers: &mut Callers, cx: &mut Context<'_, Callers>) -> Result<(), ()> {
                callers.count(cx);
                Ok(())
            }
        }
    };
}

counted!(Add);
counted!(Carry);

impl Command<Callers> for Stamp {
    type Output = ();
    type Rejection = ();
    fn apply(self, callers: &mut Callers, cx: &mut Context<'_, Callers>) -> Result<(), ()> {
        callers.stamps.push(common::Stamped {
            sequence: cx.sequence(),
            now: cx.now(),
            random: (cx.random(), cx.random()),
            actor: cx.metadata().actor,
        });
        Ok(())
    }
}

impl Command<Callers> for Mix {
    type Output = ();
    type Rejection = ();
    fn apply(self, _: &mut Callers, _: &mut Context<'_, Callers>) -> Result<(), ()> {
        if self.0 == 13 { Err(()) } else { Ok(()) }
    }
}

prevalence::commands! { Callers { 1 => Add, 3 => Stamp, 4 => Carry, 5 => Mix } }

/// A model as `Callers` that counts only additions.
mod additions {
    use super::*;
    #[derive(Clone, Default, Serialize, Deserialize)]
    pub struct Additions(pub u64);
    impl Model for Additions {
        type Event = ();
    }
    impl Command<Additions> for Add {
        type Output = ();
        type Rejection = ();
        fn apply(
            self,
            additions: &mut Additions,
            _: &mut Context<'_, Additions>,
        ) -> Result<(), ()> {
            additions.0 += 1;
            Ok(())
        }
    }
    prevalence::commands! { Additions { 1 => Add } }

    #[derive(Clone, Default, Serialize, Deserialize)]
    pub struct Renumbered;
    impl Model for Renumbered {
        type Event = ();
    }
    impl Command<Renumbered> for Add {
        type Output = ();
        type Rejection = ();
        fn apply(self, _: &mut Renumbered, _: &mut Context<'_, Renumbered>) -> Result<(), ()> {
            Ok(())
        }
    }
    prevalence::commands! { Renumbered { 5 => Add } }
}

#[test]
fn another_model_is_replayed_from_the_same_commands() {
    let (_directory, path) = temporary();
    let database = builder().open(&path).unwrap();
    let mut stamps = Vec::new();
    for actor in ["ann", "bob", "ann"] {
        let metadata = Metadata { actor: actor.to_owned(), ..Metadata::default() };
        let caller = database.with_metadata(&metadata).unwrap();
        fill_a_segment(&caller);
        caller.execute(Add { account: 1, amount: 1 }).unwrap();
        stamps.push(caller.execute(Stamp).unwrap());
        database.snapshot().unwrap();
    }
    let history = database.history();
    // On another thread, as nothing may depend on it.
    let callers = std::thread::scope(|scope| {
        scope.spawn(|| history.replay_as::<Callers>().unwrap()).join().unwrap()
    });
    assert_eq!(callers.sequence(), 24);
    assert_eq!(callers.time(), database.view().time());
    assert_eq!(callers.commands["ann"], 14);
    assert_eq!(callers.commands["bob"], 7);
    assert_eq!(callers.stamps, stamps);

    let told = history.replay_as::<additions::Additions>().unwrap_err();
    assert!(
        matches!(&told, Error::UnknownTag { sequence: 1, tag: 4, command, .. } if command == "Carry"),
        "{told}"
    );
    let (additions, skipped) = history.replay_as_listed(additions::Additions(100)).unwrap();
    assert_eq!((additions.0, skipped, additions.sequence()), (103, 21, 24));

    database.execute(Mix(13)).unwrap();
    let told = database.history().replay_as::<Callers>().unwrap_err();
    assert!(
        matches!(&told, Error::ProjectionFailed { sequence: 25, model, .. } if model == "Callers"),
        "{told}"
    );
    // The segment's table says what tag 5 means, whether such a command is in it or not.
    let told = database.history().replay_as_listed(additions::Renumbered).unwrap_err();
    assert!(matches!(told, Error::RenumberedTag { tag: 5, .. }), "{told}");
}

/// A release that has forgotten `Stamp`.
mod later {
    use super::*;
    #[derive(Clone, Default, Serialize, Deserialize)]
    pub struct Ledger(common::Ledger);
    impl Model for Ledger {
        type Event = ();
    }
    macro_rules! ignored {
        ($($command:ty),*) => { $(impl Command<Ledger> for $command {
            type Output = ();
            type Rejection = ();
            fn apply(self, _: &mut Ledger, _: &mut Context<'_, Ledger>) -> Result<(), ()> {
                Ok(())
            }
        })* };
    }
    ignored!(Add, Carry, Mix);
    prevalence::commands! { Ledger { 1 => Add, 4 => Carry, 5 => Mix } }
}

#[test]
fn a_removed_command_that_is_still_archived_is_an_error_at_open() {
    for stamped in [false, true] {
        let (_directory, path) = temporary();
        let database = builder().open(&path).unwrap();
        fill_a_segment(&database);
        if stamped {
            database.execute(Stamp).unwrap();
        }
        fill_a_segment(&database);
        database.snapshot().unwrap();
        database.close().unwrap();
        let before = common::content(&path);
        let opened = Database::<later::Ledger>::open(&path);
        match opened.err() {
            None => assert!(!stamped),
            Some(Error::UnknownTag { path: file, sequence, tag, command }) => {
                assert!(stamped && file.extension().is_some_and(|found| found == "archive"));
                assert_eq!((sequence, tag, command.as_str()), (7, 3, "Stamp"));
                assert_eq!(common::content(&path), before, "nothing was changed");
            }
            Some(other) => panic!("{other}"),
        }
    }
}

#[test]
fn a_removed_command_that_will_be_archived_is_an_error_at_open() {
    let (_directory, path) = temporary();
    let database = builder().open(&path).unwrap();
    database.execute(Mix(1)).unwrap();
    database.execute(Stamp).unwrap();
    database.snapshot().unwrap();
    database.close().unwrap();
    assert!(!path.join("archive").exists() || common::content(&path.join("archive")).len() < 2);
    let before = common::content(&path);
    let later = || Database::<later::Ledger>::builder().snapshots(SnapshotPolicy::manual());
    let opened = later().retention(Retention::Archive).open(&path);
    let Err(Error::UnknownTag { path: file, sequence, tag, command }) = opened else {
        panic!("it opened, and what comes then could not be read back")
    };
    assert!(file.extension().is_some_and(|found| found == "journal"));
    assert_eq!((sequence, tag, command.as_str()), (2, 3, "Stamp"));
    assert_eq!(common::content(&path), before, "nothing was changed");
}
