//! A reader of one release beside a writer of another.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use prevalence::{Command, Context, Database, Error, Model, ReadOnly, SnapshotPolicy, WaitError};
use serde::{Deserialize, Serialize};

use crate::LONG;
use crate::common::{quiet_panics, temporary};

/// A till of one release.
macro_rules! release {
    ($module:ident, $version:literal, $amount:ty, [$($tag:literal => $command:ident),*]) => {
        #[allow(dead_code)] // not every release uses both commands
        mod $module {
            use super::*;

            #[derive(Clone, Default, Debug, Serialize, Deserialize)]
            pub struct Till {
                pub paid: u64,
            }

            impl Model for Till {
                type Event = ();
                const VERSION: u32 = $version;
            }

            #[derive(Serialize, Deserialize)]
            pub struct Pay(pub $amount);

            #[derive(Serialize, Deserialize)]
            pub struct Refund(pub $amount);

            impl Command<Till> for Pay {
                type Output = ();
                type Rejection = ();
                fn apply(self, till: &mut Till, _: &mut Context<'_, Till>) -> Result<(), ()> {
                    till.paid += 1;
                    Ok(())
                }
            }

            impl Command<Till> for Refund {
                type Output = ();
                type Rejection = ();
                fn apply(self, till: &mut Till, _: &mut Context<'_, Till>) -> Result<(), ()> {
                    till.paid -= 1;
                    Ok(())
                }
            }

            prevalence::commands! { Till { $($tag => $command),* } }
        }
    };
}

release!(old, 1, u8, [1 => Pay]);
release!(more, 1, u8, [1 => Pay, 2 => Refund]);
release!(moved, 1, u8, [1 => Refund, 2 => Pay]);
release!(wide, 1, (u16, u16), [1 => Pay, 2 => Refund]);
release!(newer, 2, u8, [1 => Pay, 2 => Refund]);

fn write<M: Model + Default>(path: &Path) -> Database<M> {
    let builder = Database::<M>::builder().snapshots(SnapshotPolicy::manual()).keep_snapshots(1);
    builder.segment_bytes(64 << 10).open(path).unwrap()
}

/// A database with two commands of the old release, and its reader.
fn begun(path: &Path) -> ReadOnly<old::Till> {
    let writer = write::<old::Till>(path);
    (0..2).for_each(|_| writer.execute(old::Pay(1)).unwrap());
    writer.close().unwrap();
    let reader = Database::<old::Till>::open_read_only(path).unwrap();
    assert_eq!(reader.query(|till| till.paid), 2);
    reader
}

#[test]
fn commands_of_a_newer_release_are_told_and_those_before_are_shown() {
    let (_directory, path) = temporary();
    let reader = begun(&path);
    let writer = write::<more::Till>(&path);
    (0..3).for_each(|_| writer.execute(more::Pay(1)).unwrap());
    reader.wait_for(5, LONG).unwrap();
    // The next two batches come in one look, and the second one has a command that is not known.
    writer.execute(more::Pay(1)).unwrap();
    writer.execute(more::Refund(1)).unwrap();
    writer.execute(more::Pay(1)).unwrap();
    writer.close().unwrap();
    for _ in 0..2 {
        let refreshed = reader.refresh();
        let Err(Error::UnknownTag { sequence: 7, tag: 2, .. }) = refreshed else {
            panic!("{refreshed:?}");
        };
        assert_eq!((reader.sequence(), reader.query(|till| till.paid)), (6, 6));
    }
    let waited = reader.wait_for(8, LONG);
    let Err(WaitError::FollowerStopped { wanted: 8, reached: 6, reason }) = waited else {
        panic!("{waited:?}");
    };
    assert!(reason.contains("Refund"), "{reason}");
    let newer = Database::<more::Till>::open_read_only(&path).unwrap();
    assert_eq!((newer.sequence(), newer.query(|till| till.paid)), (8, 6));
}

#[test]
fn a_tag_that_means_something_else_is_told() {
    let (_directory, path) = temporary();
    let reader = begun(&path);
    let opened = Database::<moved::Till>::open_read_only(&path);
    assert!(matches!(opened, Err(Error::RenumberedTag { tag: 1, .. })), "{opened:?}");
    assert_eq!(reader.refresh().unwrap(), 2);
}

#[test]
fn a_command_whose_type_was_changed_is_told() {
    let (_directory, path) = temporary();
    let reader = begun(&path);
    let opened = Database::<wide::Till>::open_read_only(&path);
    assert!(matches!(opened, Err(Error::CommandChanged { sequence: 1, .. })), "{opened:?}");
    assert_eq!(reader.refresh().unwrap(), 2);
}

#[test]
fn a_snapshot_of_a_newer_model_is_told() {
    let (_directory, path) = temporary();
    {
        let writer = write::<newer::Till>(&path);
        writer.execute(newer::Pay(1)).unwrap();
        writer.close().unwrap();
    }
    let opened = Database::<old::Till>::open_read_only(&path);
    let Err(Error::WrongVersion { expected: 1, found: 2, .. }) = opened else {
        panic!("{opened:?}");
    };
}

#[test]
fn another_model_is_told() {
    let (_directory, path) = temporary();
    begun(&path);
    let opened = Database::<crate::Ledger>::open_read_only(&path);
    assert!(matches!(opened, Err(Error::WrongModel { .. })), "{opened:?}");
}

/// Whether clones and commands of [`Fragile`] panic.
static BREAKS: AtomicBool = AtomicBool::new(false);
static DIVERGES: AtomicBool = AtomicBool::new(false);

#[derive(Default, Serialize, Deserialize)]
struct Fragile(u64);

impl Clone for Fragile {
    fn clone(&self) -> Self {
        assert!(!BREAKS.load(Ordering::SeqCst), "on purpose");
        Self(self.0)
    }
}

impl Model for Fragile {
    type Event = ();
}

#[derive(Serialize, Deserialize)]
struct Touch;

impl Command<Fragile> for Touch {
    type Output = ();
    type Rejection = ();

    fn apply(self, fragile: &mut Fragile, _: &mut Context<'_, Fragile>) -> Result<(), ()> {
        fragile.0 += 1;
        if DIVERGES.load(Ordering::SeqCst) {
            std::panic::panic_any("on purpose");
        }
        Ok(())
    }
}

prevalence::commands! { Fragile { 1 => Touch } }

#[test]
fn panics_of_the_model_are_told_and_end_nothing() {
    quiet_panics();
    let (_directory, path) = temporary();
    write::<Fragile>(&path).close().unwrap();
    let reader = Database::<Fragile>::open_read_only(&path).unwrap();
    let touch = |count: u64| {
        let writer = write::<Fragile>(&path);
        (0..count).for_each(|_| writer.execute(Touch).unwrap());
        writer.close().unwrap();
    };
    touch(2);
    DIVERGES.store(true, Ordering::SeqCst);
    let refreshed = reader.refresh();
    assert!(matches!(refreshed, Err(Error::ReplayDiverged { sequence: 1, .. })), "{refreshed:?}");
    assert_eq!((reader.sequence(), reader.query(|fragile| fragile.0)), (0, 0));
    DIVERGES.store(false, Ordering::SeqCst);
    assert_eq!(reader.refresh().unwrap(), 2);
    touch(3);
    BREAKS.store(true, Ordering::SeqCst);
    let refreshed = reader.refresh();
    assert!(matches!(refreshed, Err(Error::Poisoned(_))), "{refreshed:?}");
    assert_eq!((reader.sequence(), reader.query(|fragile| fragile.0)), (2, 2));
    BREAKS.store(false, Ordering::SeqCst);
    assert_eq!(reader.refresh().unwrap(), 5);
    assert_eq!(reader.query(|fragile| fragile.0), 5);
}
