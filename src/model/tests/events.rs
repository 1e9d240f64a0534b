use serde::{Deserialize, Serialize, Serializer};

use super::*;

/// A model whose events had another type before.
#[derive(Clone, Serialize, Deserialize)]
struct Till;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Paid {
    cents: u64,
    bytes: Vec<u8>,
}

impl Model for Till {
    type Event = Paid;
    const EVENT_VERSION: u32 = 3;

    fn read_event(version: u32, event: StoredEvent<'_>) -> Result<Paid, MigrationError> {
        match version {
            2 => Ok(Paid { cents: event.decode::<u8>()?.into(), bytes: event.bytes().to_vec() }),
            _ => Err(MigrationError::Unsupported),
        }
    }
}

crate::commands! { Till {} }

/// The same model, before.
#[derive(Clone, Serialize, Deserialize)]
struct TillV2;

impl Model for TillV2 {
    type Event = u8;
    const EVENT_VERSION: u32 = 2;
}

crate::commands! { TillV2 = "Till" {} }

fn paid(cents: u64, bytes: usize) -> Paid {
    Paid { cents, bytes: vec![7; bytes] }
}

fn encoded<M: Model>(events: &[M::Event]) -> Result<Vec<u8>, String> {
    let mut bytes = vec![1, 2, 3];
    encode::<M>(events, &mut bytes)?;
    Ok(bytes.split_off(3))
}

#[test]
fn events_come_back() {
    let events = [paid(1, 0), paid(2, 300), paid(u64::MAX, 1)];
    let bytes = encoded::<Till>(&events).unwrap();
    assert_eq!(decode::<Till>(&bytes).unwrap(), events);
    let (version, each) = split(&bytes).unwrap();
    assert_eq!((version, each.len()), (3, 3));
    let lengths = [1, 2, 1]; // that of the second is more than 127
    let sum: usize = each.iter().zip(lengths).map(|(it, length)| it.len() + length).sum();
    assert_eq!(sum + 2, bytes.len());
}

#[test]
fn events_of_an_older_version_are_converted() {
    let bytes = encoded::<TillV2>(&[5, 9]).unwrap();
    let events = decode::<Till>(&bytes).unwrap();
    assert_eq!(events, [Paid { cents: 5, bytes: vec![5] }, Paid { cents: 9, bytes: vec![9] }]);
    let unknown = decode::<TillV2>(&encoded::<Till>(&[paid(1, 1)]).unwrap()).unwrap_err();
    assert!(unknown.contains("event 1 of 1") && unknown.contains("event version 3"), "{unknown}");
    let mut wrong = bytes;
    wrong.push(0);
    wrong[2] = 2; // the first event takes the next byte, too
    assert!(decode::<Till>(&wrong).is_err());
}

#[test]
fn more_than_the_limits_is_refused() {
    let most = vec![5; MOST_EVENTS];
    assert_eq!(decode::<TillV2>(&encoded::<TillV2>(&most).unwrap()).unwrap(), most);
    let error = encoded::<TillV2>(&vec![5; MOST_EVENTS + 1]).unwrap_err();
    assert!(error.contains("65537 events"), "{error}");
    // Version, count, length, and in the event its number and the number of its bytes.
    let most = LARGEST_EVENTS_BYTES - 2 - 4 - 1 - 5;
    let largest = encoded::<Till>(&[paid(1, most)]).unwrap();
    assert_eq!(largest.len(), LARGEST_EVENTS_BYTES);
    assert_eq!(decode::<Till>(&largest).unwrap(), [paid(1, most)]);
    for events in [vec![paid(1, most + 1)], vec![paid(1, most - 3), paid(1, 1)]] {
        let error = encoded::<Till>(&events).unwrap_err();
        assert!(error.contains("more than 16 MiB"), "{error}");
    }
}

#[test]
fn an_event_that_refuses_is_told() {
    #[derive(Clone, Deserialize)]
    struct Secret;
    impl Serialize for Secret {
        fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(serde::ser::Error::custom("no"))
        }
    }
    #[derive(Clone, Serialize, Deserialize)]
    struct Safe;
    impl Model for Safe {
        type Event = Secret;
    }
    crate::commands! { Safe {} }
    let error = encoded::<Safe>(&[Secret]).unwrap_err();
    assert!(error.contains("an event cannot be encoded: no"), "{error}");
}

#[test]
fn what_is_not_whole_is_not_split() {
    let bytes = encoded::<TillV2>(&[5, 9]).unwrap();
    for length in 0..bytes.len() {
        assert!(split(&bytes[..length]).is_none(), "{length}");
    }
    assert!(split(&[&bytes[..], &[0]].concat()).is_none());
    let mut many = bytes;
    many[1] = 0x7f;
    assert!(split(&many).is_none());
    assert!(split(&[&[2, 0xff, 0xff, 0xff, 0xff, 0x0f][..], &many].concat()).is_none());
}
