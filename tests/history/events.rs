//! Events are facts: they are stored with the command that emitted them, and later code cannot
//! change them.

use std::marker::PhantomData;

use prevalence::{
    Command, Context, Database, Error, Events, Evidence, ExecuteError, MigrationError, Model,
    PurgeAction, StoredEvent, purge, purge_unverified, verify_history,
};
use serde::{Deserialize, Serialize};

use crate::common::{keeping_history as builder, temporary};

/// What a command does with each item, in two releases of one program.
trait Release: Clone + Default + Send + Sync + Serialize + for<'de> Deserialize<'de> {
    fn emitted(item: u64) -> Vec<u64>;
}

#[derive(Clone, Default, Serialize, Deserialize)]
struct First;

impl Release for First {
    /// As many events as the item's number.
    fn emitted(item: u64) -> Vec<u64> {
        (0..item).map(|number| item * 10 + number).collect()
    }
}

#[derive(Clone, Default, Serialize, Deserialize)]
struct Second;

impl Release for Second {
    fn emitted(item: u64) -> Vec<u64> {
        match item {
            4 => vec![40, 41, 42, 99],
            _ => First::emitted(item),
        }
    }
}

#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(bound = "")]
struct Shop<R: Release + 'static> {
    sold: u64,
    #[serde(skip)]
    release: PhantomData<R>,
}

#[derive(Serialize, Deserialize)]
struct Sell(u64);

impl<R: Release + 'static> Command<Shop<R>> for Sell
where
    Shop<R>: Model<Event = u64>,
{
    type Output = u64;
    type Rejection = String;

    fn apply(self, shop: &mut Shop<R>, cx: &mut Context<'_, Shop<R>>) -> Result<u64, String> {
        shop.sold += self.0;
        R::emitted(self.0).into_iter().for_each(|event| cx.emit(event));
        if self.0 == 7 { Err("sold out".to_owned()) } else { Ok(shop.sold) }
    }
}

type Old = Shop<First>;
type New = Shop<Second>;

impl Model for Old {
    type Event = u64;
}

impl Model for New {
    type Event = u64;
    const EVENT_VERSION: u32 = 2;

    fn read_event(version: u32, event: StoredEvent<'_>) -> Result<u64, MigrationError> {
        if version == 1 { event.decode() } else { Err(MigrationError::Unsupported) }
    }
}

prevalence::commands! { Old = "Shop" { 1 => Sell } }
prevalence::commands! { New = "Shop" { 1 => Sell } }

/// Reads the events of every stored command; `None` where none were stored.
fn stored<M: Model>(database: &Database<M>) -> Vec<Option<Vec<M::Event>>> {
    let records = database.history().records(..).unwrap();
    records.map(|record| record.unwrap().events().unwrap()).collect()
}

fn of_first(items: &[u64]) -> Vec<Option<Vec<u64>>> {
    items.iter().map(|&item| Some(First::emitted(item))).collect()
}

#[test]
fn events_are_stored_with_their_command_and_stay_what_they_were() {
    let (_directory, path) = temporary();
    let database = builder::<Old>().open(&path).unwrap();
    for item in [1, 0, 7, 3] {
        let sold = database.execute(Sell(item));
        assert_eq!(sold.is_err(), item == 7);
    }
    // A batch, of which some are rejected.
    let pending: Vec<_> = [2, 7, 4, 7, 5].map(|item| database.submit(Sell(item)).unwrap()).into();
    pending.into_iter().for_each(|pending| drop(pending.wait()));
    let expected = of_first(&[1, 0, 3, 2, 4, 5]);
    assert_eq!(stored(&database), expected);
    database.snapshot().unwrap();
    for _ in 0..4_000 {
        database.submit(Sell(1)).unwrap().wait().unwrap();
    }
    database.snapshot().unwrap();
    database.close().unwrap();
    assert!(std::fs::read_dir(path.join("archive")).unwrap().count() > 1, "something is archived");
    assert_eq!(verify_history::<Old>(&path).unwrap().divergence, None);

    // The next release would emit something else, and stores it in another form.
    let database = builder::<New>().open(&path).unwrap();
    assert_eq!(stored(&database)[..6], expected);
    database.execute(Sell(4)).unwrap();
    assert_eq!(stored(&database)[4_006], Some(vec![40, 41, 42, 99]));
    database.close().unwrap();

    let divergence = verify_history::<New>(&path).unwrap().divergence.unwrap();
    assert_eq!((divergence.after, divergence.at), (4, 5));
    assert_eq!(divergence.culprit.as_ref().unwrap().command, "Sell");
    let Evidence::EventsDiffer(how) = &divergence.evidence else { panic!("{divergence}") };
    assert_eq!(how, "its event 4 of 4 is another one now");
    assert!(divergence.to_string().contains("sequence 5 has other events"), "{divergence}");
}

#[test]
fn whether_events_are_stored_is_known_of_each_command() {
    let (_directory, path) = temporary();
    for events in [Events::Off, Events::Stored, Events::Derived, Events::Stored] {
        // Two runs of each kind share a segment.
        for _ in 0..2 {
            let database = builder::<Old>().events(events).open(&path).unwrap();
            database.execute(Sell(2)).unwrap();
            database.execute(Sell(0)).unwrap();
            database.close().unwrap();
        }
    }
    let database = builder::<Old>().open(&path).unwrap();
    let yes = of_first(&[2, 0, 2, 0]);
    let no = vec![None; 4];
    assert_eq!(stored(&database), [&no[..], &yes, &no, &yes].concat());
    database.close().unwrap();
    assert_eq!(verify_history::<Old>(&path).unwrap().divergence, None);
}

#[test]
fn a_purge_leaves_the_events_of_the_new_history() {
    let (_directory, path) = temporary();
    let database = builder::<Old>().open(&path).unwrap();
    for item in [3, 4, 5, 2] {
        database.execute(Sell(item)).unwrap();
    }
    database.snapshot().unwrap();
    database.execute(Sell(1)).unwrap();
    database.close().unwrap();
    let report = purge::<Old>(&path, |record| match record.sequence() {
        2 => PurgeAction::Redact,
        3 => PurgeAction::replace(Sell(1)),
        _ => PurgeAction::Keep,
    });
    report.unwrap();
    assert_eq!(verify_history::<Old>(&path).unwrap().divergence, None);
    let database = builder::<Old>().open(&path).unwrap();
    assert_eq!(stored(&database), of_first(&[3, 0, 1, 2, 1]));
}

/// Without a verification, another program may purge. What it changes begins with its first change.
#[test]
fn a_purge_leaves_the_events_before_its_first_change() {
    let (_directory, path) = temporary();
    let database = builder::<Old>().open(&path).unwrap();
    for item in [4, 3, 4] {
        database.execute(Sell(item)).unwrap();
    }
    database.close().unwrap();
    let report = purge_unverified::<New>(&path, |record| match record.sequence() {
        2 => PurgeAction::Redact,
        _ => PurgeAction::Keep,
    });
    report.unwrap();
    let database = builder::<New>().open(&path).unwrap();
    let expected = [First::emitted(4), Vec::new(), Second::emitted(4)].map(Some);
    assert_eq!(stored(&database), expected);
}

#[derive(Clone, Default, Serialize, Deserialize)]
struct Log(u64);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Line {
    Said(Vec<u8>),
    #[serde(skip_serializing)]
    Secret,
    #[serde(serialize_with = "panics")]
    Loud(u8),
    #[serde(skip_deserializing)]
    Unread,
}

fn panics<S>(_: &u8, _: S) -> Result<S::Ok, S::Error>
where
    S: serde::Serializer,
{
    panic!("on purpose")
}

impl Model for Log {
    type Event = Line;
}

#[derive(Serialize, Deserialize)]
enum Say {
    Lines { count: u32, bytes: u32 },
    Secret,
    Loud,
    Unread,
}

impl Command<Log> for Say {
    type Output = ();
    type Rejection = ();

    fn apply(self, log: &mut Log, cx: &mut Context<'_, Log>) -> Result<(), ()> {
        log.0 += 1;
        match self {
            Self::Lines { count, bytes } => {
                (0..count).for_each(|_| cx.emit(Line::Said(vec![5; bytes as usize])));
            }
            Self::Secret => cx.emit(Line::Secret),
            Self::Loud => cx.emit(Line::Loud(1)),
            Self::Unread => cx.emit(Line::Unread),
        }
        Ok(())
    }
}

prevalence::commands! { Log { 1 => Say } }

#[test]
fn events_that_cannot_be_stored_refuse_their_command() {
    std::panic::set_hook(Box::new(|_| {}));
    let (_directory, path) = temporary();
    let database = builder::<Log>().open(&path).unwrap();
    let small = || Say::Lines { count: 1, bytes: 1 };
    let refused = [
        (Say::Lines { count: 70_000, bytes: 0 }, "70000 events"),
        (Say::Lines { count: 20, bytes: 1 << 20 }, "more than 16 MiB"),
        (Say::Secret, "an event cannot be encoded"),
        (Say::Loud, "its event's Serialize panicked: on purpose"),
        (Say::Unread, "cannot be decoded from their own encoding"),
    ];
    for (command, why) in refused {
        // They are in one batch.
        let before = database.submit(small()).unwrap();
        let refused = database.submit(command).unwrap();
        let behind = database.submit(small()).unwrap();
        before.wait().unwrap();
        match refused.wait() {
            Err(ExecuteError::EventsRefused { reason }) => {
                assert!(reason.contains(why), "{reason}")
            }
            other => panic!("{other:?}"),
        }
        behind.wait().unwrap();
    }
    assert_eq!(database.query(|log| log.0), 10);
    database.execute(Say::Lines { count: 15, bytes: 1 << 20 }).unwrap();
    let events = stored(&database);
    assert_eq!(events.len(), 11);
    assert!(events[..10].iter().all(|it| *it == Some(vec![Line::Said(vec![5])])));
    assert_eq!(events[10].as_ref().unwrap().len(), 15);
    database.close().unwrap();
    assert_eq!(verify_history::<Log>(&path).unwrap().divergence, None);

    // Where events are not stored, nothing is wrong with them.
    let (_directory, path) = temporary();
    let database = builder::<Log>().events(Events::Off).open(&path).unwrap();
    database.execute(Say::Secret).unwrap();
    database.execute(Say::Lines { count: 70_000, bytes: 0 }).unwrap();

    // Where they are derived, nothing is stored either. But too many of them are refused, because a
    // follower must be able to put them aside.
    let (_directory, path) = temporary();
    let database = builder::<Log>().events(Events::Derived).open(&path).unwrap();
    database.execute(Say::Secret).unwrap();
    let refused = database.execute(Say::Lines { count: 70_000, bytes: 0 });
    assert!(matches!(refused, Err(ExecuteError::EventsRefused { .. })), "{refused:?}");
    assert_eq!(database.sequence(), 1);
}

#[test]
fn events_of_an_unknown_version_are_an_error_that_says_what_to_do() {
    let (_directory, path) = temporary();
    let database = builder::<New>().open(&path).unwrap();
    database.execute(Sell(1)).unwrap();
    database.close().unwrap();
    let database = builder::<Old>().open(&path).unwrap();
    let mut records = database.history().records(..).unwrap();
    match records.next().unwrap().unwrap().events() {
        Err(error @ Error::EventsUndecodable { sequence: 1, .. }) => {
            assert!(error.to_string().contains("Model::read_event"), "{error}");
        }
        other => panic!("{other:?}"),
    }
    drop(records);
    database.close().unwrap();
    let verified = verify_history::<Old>(&path);
    assert!(matches!(verified, Err(Error::EventsUndecodable { .. })), "{verified:?}");
}
