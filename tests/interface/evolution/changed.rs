//! A model's type that was changed without a new `VERSION` is noticed, even if the only snapshot is
//! that of the initial model. Changes that do not change what is on disk are no error.

use std::collections::BTreeMap;
use std::path::Path;

use prevalence::{
    Command, Context, Database, Error, MigrationError, Model, PurgeAction, Retention,
    SnapshotReader, purge_unverified, verify_history,
};
use serde::{Deserialize, Serialize};

use crate::common::{content, temporary};

/// A shop with this type of stock, whose commands do not depend on it.
macro_rules! release {
    ($module:ident, $version:literal, { $($field:ident: $type:ty),* }, { $($variant:ident),* }) => {
        #[allow(dead_code, reason = "one of them has no status")]
        mod $module {
            use super::*;

            #[derive(Clone, Default, PartialEq, Debug, Serialize, Deserialize)]
            pub enum Status {
                #[default]
                $($variant),*
            }

            #[derive(Clone, Default, PartialEq, Debug, Serialize, Deserialize)]
            pub struct Item {
                $(pub $field: $type),*
            }

            #[derive(Clone, Default, PartialEq, Debug, Serialize, Deserialize)]
            pub struct Shop {
                pub sold: u64,
                pub items: BTreeMap<u32, Item>,
            }

            impl Model for Shop {
                type Event = ();
                const VERSION: u32 = $version;

                fn migrate(
                    _: u32,
                    snapshot: &mut SnapshotReader<'_>,
                ) -> Result<Self, MigrationError> {
                    snapshot.decode().map(|old: first::Shop| Shop {
                        sold: old.sold,
                        items: BTreeMap::new(),
                    })
                }
            }

            #[derive(Serialize, Deserialize)]
            pub struct Sell;

            impl Command<Shop> for Sell {
                type Output = ();
                type Rejection = ();
                fn apply(self, shop: &mut Shop, _: &mut Context<'_, Shop>) -> Result<(), ()> {
                    shop.sold += 1;
                    Ok(())
                }
            }

            prevalence::commands! { Shop { 1 => Sell } }
        }
    };
}

release!(first, 1, { cents: u32, name: String, status: Status }, { Open, Closed });
release!(renamed, 1, { price: u32, label: String, state: Status }, { Free, Taken });
release!(extended, 1, { cents: u32, name: String, status: Status }, { Open, Closed, Gone });
release!(widened, 1, { cents: u64, name: Box<str>, status: Status }, { Open, Closed });
release!(inserted, 1, { cents: u32, stock: u32, name: String, status: Status }, { Open, Closed });
release!(signed, 1, { cents: i32, name: String, status: Status }, { Open, Closed });
release!(swapped, 1, { name: String, cents: u32, status: Status }, { Open, Closed });
release!(moved, 1, { cents: u32, name: String, status: Status }, { Closed, Open });
release!(without, 1, { cents: u32, name: String }, { Open, Closed });
release!(shortened, 1, { cents: u32, name: String, status: Status }, { Open });
release!(migrated, 2, { cents: u32, stock: u32, name: String, status: Status }, { Open, Closed });

/// Creates a database of the first release. Its commands are in the journal only.
fn create(path: &Path) {
    let shop = Database::<first::Shop>::builder().retention(Retention::Archive).open(path).unwrap();
    shop.execute(first::Sell).unwrap();
    shop.close().unwrap();
    assert_eq!(std::fs::read_dir(path.join("snapshots")).unwrap().count(), 1);
}

fn open<M: Model + Default>(path: &Path) -> Result<Database<M>, Error> {
    Database::<M>::builder().retention(Retention::Archive).open(path)
}

/// Opens with a release that must refuse the directory, and returns why.
fn refused<M: Model + Default>(path: &Path) -> String {
    let files = || {
        let mut files = content(path);
        // The first open of a copy makes it.
        files.remove(Path::new("LOCK"));
        files
    };
    let before = files();
    let error = open::<M>(path).unwrap_err();
    assert!(files() == before, "the files of a database that was refused have changed");
    let Error::ModelChanged { path: file, model, version: 1, reason } = &error else {
        panic!("{error}")
    };
    assert_eq!(model, "Shop");
    assert!(file.starts_with(path.join("snapshots")), "{error}");
    let text = error.to_string();
    assert!(text.contains("Raise Model::VERSION") && text.contains(reason), "{text}");
    reason.clone()
}

#[test]
fn a_changed_type_is_noticed_when_nothing_but_the_initial_model_is_stored() {
    let (_directory, path) = temporary();
    create(&path);
    for (reason, expected) in [
        (refused::<inserted::Shop>(&path), "`stock` of each entry of `items`"),
        (refused::<signed::Shop>(&path), "`cents` of each entry of `items`"),
        (refused::<swapped::Shop>(&path), "`name` of each entry of `items`"),
        (refused::<without::Shop>(&path), "no further value"),
        (refused::<moved::Shop>(&path), "`Open` was variant number 1"),
    ] {
        assert!(reason.contains(expected), "{reason}");
    }
    for error in [
        verify_history::<signed::Shop>(&path).unwrap_err(),
        verify_history::<moved::Shop>(&path).unwrap_err(),
        Database::<moved::Shop>::open_read_only(&path).unwrap_err(),
        purge_unverified::<moved::Shop>(&path, |_| PurgeAction::Redact).unwrap_err(),
    ] {
        assert!(matches!(error, Error::ModelChanged { .. }), "{error}");
    }
    let shop = open::<first::Shop>(&path).unwrap();
    assert_eq!(shop.query(|shop| shop.sold), 1);
}

#[test]
fn a_changed_type_is_noticed_in_a_later_snapshot_and_no_older_one_is_read_instead() {
    let (_directory, path) = temporary();
    create(&path);
    let shop = open::<first::Shop>(&path).unwrap();
    for _ in 0..2 {
        shop.execute(first::Sell).unwrap();
        shop.snapshot().unwrap();
    }
    shop.close().unwrap();
    let error = open::<signed::Shop>(&path).unwrap_err();
    let Error::ModelChanged { path: file, .. } = &error else { panic!("{error}") };
    assert!(file.ends_with("00000000000000000003.snapshot"), "{error}");
    refused::<signed::Shop>(&path);
}

#[test]
fn a_type_that_is_written_in_the_same_way_is_the_same() {
    let (_directory, path) = temporary();
    create(&path);
    assert_eq!(open::<renamed::Shop>(&path).unwrap().query(|shop| shop.sold), 1);
    assert_eq!(open::<widened::Shop>(&path).unwrap().query(|shop| shop.sold), 1);
    let shop = open::<extended::Shop>(&path).unwrap();
    assert_eq!(shop.query(|shop| shop.sold), 1);
    shop.execute(extended::Sell).unwrap();
    shop.snapshot().unwrap();
    assert_eq!(shop.history().at(1).unwrap().sold, 1);
    shop.close().unwrap();
    // An older release may be put back. Had a variant been stored that it lacks, decoding would
    // tell.
    assert_eq!(open::<first::Shop>(&path).unwrap().query(|shop| shop.sold), 2);
    assert_eq!(open::<shortened::Shop>(&path).unwrap().query(|shop| shop.sold), 2);
}

#[test]
fn a_changed_type_with_a_new_version_is_migrated() {
    let (_directory, path) = temporary();
    create(&path);
    assert_eq!(open::<migrated::Shop>(&path).unwrap().query(|shop| shop.sold), 1);
    verify_history::<migrated::Shop>(&path).unwrap();
}

#[test]
fn copies_and_purged_databases_notice_it_too() {
    let (directory, path) = temporary();
    create(&path);
    let shop = open::<first::Shop>(&path).unwrap();
    let copy = directory.path().join("copy.db");
    shop.backup(&copy).unwrap();
    shop.execute(first::Sell).unwrap();
    shop.snapshot().unwrap();
    shop.close().unwrap();
    refused::<signed::Shop>(&copy);
    let error = Database::<signed::Shop>::restore(&path, directory.path().join("other.db"));
    assert!(matches!(error, Err(Error::ModelChanged { .. })), "{error:?}");
    let error = purge::<signed::Shop>(&path).unwrap_err();
    assert!(matches!(error, Error::ModelChanged { .. }), "{error}");
    purge::<first::Shop>(&path).unwrap();
    refused::<signed::Shop>(&path);
    assert_eq!(open::<first::Shop>(&path).unwrap().query(|shop| shop.sold), 1);
}

fn purge<M: Model>(path: &Path) -> Result<prevalence::PurgeReport, Error> {
    purge_unverified::<M>(path, |command| match command.sequence() {
        1 => prevalence::PurgeAction::Redact,
        _ => prevalence::PurgeAction::Keep,
    })
}
