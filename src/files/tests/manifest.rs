//! A MANIFEST is read as it was written, and a damaged one is an error.

use proptest::prelude::*;

use super::*;

impl State {
    const ALL: &[Self] = &[Self::Creating, Self::Dirty, Self::Clean, Self::Swapping];
}

fn any_manifest() -> impl Strategy<Value = Manifest> {
    let state = prop::sample::select(State::ALL);
    (state, any::<([u8; 16], u64, u32, u64)>(), proptest::collection::vec(any::<u64>(), 0..9))
        .prop_map(|(state, numbers, snapshots)| Manifest {
            database: DatabaseId(numbers.0),
            state,
            sequence: numbers.1,
            chain: numbers.2,
            newest_segment: numbers.3,
            snapshots,
        })
}

proptest! {
    #[test]
    fn round_trip(manifest in any_manifest()) {
        let decoded = Manifest::decode(Path::new("x"), &manifest.encode()).unwrap();
        prop_assert_eq!(decoded, manifest);
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_an_error(manifest in any_manifest()) {
        let bytes = manifest.encode();
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(Manifest::decode(Path::new("x"), &flipped).is_err(), "bit {}", bit);
        }
        for length in 0..bytes.len() {
            prop_assert!(Manifest::decode(Path::new("x"), &bytes[..length]).is_err());
        }
    }
}

#[test]
fn what_a_right_checksum_covers_is_still_looked_at() {
    let manifest = Manifest {
        database: DatabaseId([7; 16]),
        state: State::Clean,
        sequence: 5,
        chain: 9,
        newest_segment: 6,
        snapshots: vec![5],
    };
    // The state, and how many snapshots there are.
    for (at, right, wrong) in [(32, 2u32, 5u32), (56, 1, 2), (56, 1, 0)] {
        for (value, sound) in [(right, true), (wrong, false)] {
            let mut bytes = manifest.encode();
            bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
            let covered = bytes.len() - CHECKSUM_BYTES;
            let checksum = crc32c::crc32c(&bytes[..covered]);
            bytes[covered..].copy_from_slice(&checksum.to_le_bytes());
            match Manifest::decode(Path::new("x"), &bytes) {
                Ok(decoded) => assert!(sound && decoded == manifest),
                Err(error) => {
                    assert!(!sound, "{error}");
                    assert!(error.to_string().contains("go together"), "{error}");
                }
            }
        }
    }
}
