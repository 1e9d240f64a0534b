use proptest::prelude::*;

use super::*;

fn letters() -> impl Strategy<Value = Vec<Letter>> {
    let letter = (1..50_u64, any::<u64>(), any::<u32>(), ".{0,20}", any::<Vec<u8>>());
    prop::collection::vec(letter, 0..4).prop_map(|made| {
        let mut sequence = 0;
        let each = made.into_iter().map(|(step, time_ns, attempts, reason, record)| {
            sequence += step;
            Letter { sequence, time_ns, attempts, reason, record }
        });
        each.collect()
    })
}

fn builds() -> impl Strategy<Value = Build> {
    (any::<u32>(), any::<u64>(), any::<u64>(), letters()).prop_map(
        |(version, position, checkpoint, letters)| Build { version, position, checkpoint, letters },
    )
}

fn standings() -> impl Strategy<Value = Standing> {
    let kind = prop::sample::select(FollowerKind::ALL.to_vec());
    let lost = prop::option::of(1..u64::MAX);
    let parts = (any::<[u8; 16]>(), kind, "[a-z]{1,20}", any::<u64>(), lost);
    (parts, builds(), prop::option::of(builds())).prop_map(|(parts, current, next)| {
        let (database, kind, name, hold_at_most, lost) = parts;
        Standing { database: DatabaseId(database), kind, name, hold_at_most, lost, current, next }
    })
}

proptest! {
    #[test]
    fn round_trip_and_no_other_bytes(standing in standings(), at in any::<prop::sample::Index>()) {
        let mut bytes = standing.encode();
        let path = Path::new("STANDING");
        prop_assert_eq!(&Standing::decode(path, &bytes).unwrap(), &standing);
        prop_assert!(Standing::decode(path, &bytes[..at.index(bytes.len())]).is_err());
        let bit = at.index(bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(Standing::decode(path, &bytes).is_err());
    }
}

/// Right checksums around wrong fields.
#[test]
fn fields_that_do_not_go_together_are_damage() {
    let build = Build { version: 1, position: 9, checkpoint: 2, letters: Vec::new() };
    let name = "trades".to_owned();
    let standing = Standing {
        database: DatabaseId([7; 16]),
        kind: FollowerKind::Sink,
        name,
        hold_at_most: 5,
        lost: None,
        current: build,
        next: None,
    };
    let sealed = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = standing.encode();
        bytes.truncate(bytes.len() - CHECKSUM_BYTES);
        change(&mut bytes);
        let length = u32::try_from(bytes.len() + CHECKSUM_BYTES).unwrap();
        bytes[12..16].copy_from_slice(&length.to_le_bytes());
        push_checksum(&mut bytes);
        Standing::decode(Path::new("STANDING"), &bytes)
    };
    assert_eq!(sealed(&|_| {}).unwrap(), standing);
    let kind_at = 32;
    let builds_at = kind_at + 4 + 8 + 8 + 2 + standing.name.len();
    type Change<'a> = &'a dyn Fn(&mut Vec<u8>);
    let changes: [Change<'_>; 6] = [
        &|bytes| bytes.push(0),
        &|bytes| bytes[kind_at] = 4,
        &|bytes| bytes[builds_at] = 0,
        &|bytes| bytes[builds_at] = 3,
        &|bytes| bytes[builds_at + 2] = 1,
        &|bytes| bytes[builds_at + 2..builds_at + 6].fill(255),
    ];
    for (number, change) in changes.into_iter().enumerate() {
        assert!(sealed(change).is_err(), "change {number}");
    }
}
