//! Snapshots of older releases, of the format and of the model.

use super::*;

mod release_1 {
    use super::*;

    #[derive(Clone, Default, Serialize, Deserialize)]
    pub struct Till {
        pub cents: u32,
    }

    impl Model for Till {
        type Event = ();
    }

    #[derive(Serialize, Deserialize)]
    pub struct PayIn(pub u32);

    impl Command<Till> for PayIn {
        type Output = ();
        type Rejection = ();

        fn apply(self, till: &mut Till, _: &mut Context<'_, Till>) -> Result<(), ()> {
            till.cents += self.0;
            Ok(())
        }
    }

    prevalence::commands! { Till { 1 => PayIn } }
}

/// The model of release 2: version 1 had a `u32` and no currency.
mod release_2 {
    use super::*;

    #[derive(Clone, Default, Debug, PartialEq, Serialize, Deserialize)]
    pub struct Till {
        pub cents: u64,
        pub currency: String,
    }

    #[derive(Deserialize)]
    struct TillV1 {
        cents: u32,
    }

    impl Model for Till {
        type Event = ();
        const VERSION: u32 = 2;

        fn migrate(from: u32, snapshot: &mut SnapshotReader<'_>) -> Result<Self, MigrationError> {
            match from {
                1 => {
                    let TillV1 { cents } = snapshot.decode()?;
                    Ok(Self { cents: cents.into(), currency: "EUR".to_owned() })
                }
                _ => Err(MigrationError::Unsupported),
            }
        }
    }

    #[derive(Serialize, Deserialize)]
    pub struct PayIn(pub u32);

    impl Command<Till> for PayIn {
        type Output = ();
        type Rejection = ();

        fn apply(self, till: &mut Till, _: &mut Context<'_, Till>) -> Result<(), ()> {
            till.cents += u64::from(self.0);
            Ok(())
        }
    }

    prevalence::commands! { Till { 1 => PayIn } }
}

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/format-1")
}

/// Writes the fixture of this format version:
/// `PREVALENCE_WRITE_FIXTURES=1 cargo test --test durability snapshots`. Never change one that was
/// released.
#[test]
fn the_fixture_of_every_format_version_opens_for_ever() {
    if std::env::var_os("PREVALENCE_WRITE_FIXTURES").is_some() && !fixture().exists() {
        let till = Database::<release_1::Till>::builder().segment_bytes(64 << 10);
        let till = till.open(fixture()).unwrap();
        till.execute(release_1::PayIn(250)).unwrap();
        till.snapshot().unwrap();
        till.execute(release_1::PayIn(50)).unwrap();
        till.close().unwrap();
    }
    let (_directory, path) = temporary();
    copy_directory(&fixture(), &path);
    let till = Database::<release_1::Till>::open(&path).unwrap();
    assert_eq!(till.view().cents, 300);
    assert_eq!(till.recovery().snapshot_sequence, 1);
}

#[test]
fn an_older_version_of_the_model_is_migrated() {
    use release_2::{PayIn, Till};
    let (_directory, path) = temporary();
    copy_directory(&fixture(), &path);
    let expected = Till { cents: 300, currency: "EUR".to_owned() };
    let till = Database::<Till>::open(&path).unwrap();
    assert_eq!(*till.view(), expected);
    // The same version of the model is worth a snapshot of the new type.
    assert!(!till.snapshot().unwrap().duration.is_zero());
    till.execute(PayIn(1)).unwrap();
    drop(till);
    let till = Database::<Till>::open(&path).unwrap();
    assert_eq!(*till.view(), Till { cents: 301, ..expected });
    assert_eq!(till.recovery().commands_replayed, 1);
    drop(till);
    let error = Database::<release_1::Till>::open(&path).unwrap_err();
    assert!(matches!(error, Error::WrongVersion { expected: 1, found: 2, .. }), "{error}");
}

/// A migration that fails is not damage: the open does not use an older snapshot, and deletes
/// nothing.
mod release_3 {
    use super::*;

    #[derive(Clone, Default, Serialize, Deserialize)]
    pub struct Till(pub u64);

    impl Model for Till {
        type Event = ();
        const VERSION: u32 = 3;

        fn migrate(_: u32, snapshot: &mut SnapshotReader<'_>) -> Result<Self, MigrationError> {
            let cents: u32 = snapshot.decode()?;
            if cents == 0 { Ok(Self(0)) } else { Err(MigrationError::Failed("no".to_owned())) }
        }
    }

    prevalence::commands! { Till {} }
}

#[test]
fn a_migration_that_fails_is_an_error_and_deletes_nothing() {
    let (_directory, path) = temporary();
    copy_directory(&fixture(), &path);
    let before = content(&path);
    let error = Database::<release_3::Till>::open(&path).unwrap_err();
    assert!(
        matches!(&error, Error::Undecodable { reason, .. } if reason.contains("no")),
        "{error}"
    );
    assert_eq!(content(&path), before);
}
