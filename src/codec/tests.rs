//! Tests of the limits on encoding and decoding: size, memory, depth.

use proptest::prelude::*;

use super::*;

fn encoded<T: Serialize>(value: &T) -> Vec<u8> {
    let mut buffer = Vec::new();
    encode_onto(value, &mut buffer, LARGEST_COMMAND_BYTES).unwrap();
    buffer
}

#[test]
fn size_limit_counts_what_stands_in_the_buffer_already() {
    let mut buffer = vec![0; 16];
    let refused = encode_onto(&[7u8; 9], &mut buffer, 24).unwrap_err();
    assert!(matches!(refused, EncodeFailure::TooLarge { bytes: 25 }), "{refused:?}");
    buffer.truncate(16);
    encode_onto(&[7u8; 8], &mut buffer, 24).unwrap();
}

#[test]
fn a_length_that_does_not_belong_reserves_little() {
    // u64::MAX as a length: refused by the limit before anything is reserved.
    let bytes = [253, 255, 255, 255, 255, 255, 255, 255, 255];
    assert!(decode_exact::<String>(&bytes).is_err());
    assert!(decode_exact::<Vec<u64>>(&bytes).is_err());
}

/// Values nested in each way that Rust and serde offer. Each can be made one level deeper.
mod nested {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Serialize};

    #[derive(Default, Serialize, Deserialize)]
    pub(super) struct Boxed(pub(super) Option<Box<Boxed>>);

    #[derive(Default, Serialize, Deserialize)]
    pub(super) struct Listed {
        pub(super) inner: Vec<Listed>,
        pub(super) name: String,
    }

    #[derive(Default, Serialize, Deserialize)]
    pub(super) struct Mapped(pub(super) BTreeMap<u8, Mapped>);

    #[derive(Default, Serialize, Deserialize)]
    pub(super) enum Formula {
        #[default]
        One,
        Both {
            left: Box<Formula>,
            right: Box<Formula>,
        },
    }

    /// Takes 2 KiB of stack by itself wherever it is moved.
    #[derive(Default, Serialize, Deserialize)]
    pub(super) struct Large {
        pub(super) ballast: [[u64; 32]; 8],
        pub(super) inner: Option<Box<Large>>,
    }
}

/// Finds the deepest value that `encode` encodes. The value may be encoded in part.
fn deepest<T: Serialize>(
    empty: fn() -> T,
    deeper: fn(T) -> T,
    encode: fn(&T) -> Result<Vec<u8>, String>,
) -> (usize, Vec<u8>) {
    let (mut value, mut levels, mut encoding) = (empty(), 1, Vec::new());
    let refused = loop {
        match encode(&value) {
            Ok(encoded) => encoding = encoded,
            Err(refused) => break refused,
        }
        // In small steps relative to the whole, so that the last one is near the bound.
        for _ in 0..levels / 16 + 1 {
            value = deeper(value);
            levels += 1;
        }
    };
    assert_eq!(refused, TOO_DEEP);
    (levels, encoding)
}

fn assert_decodes<T: Serialize + DeserializeOwned>(empty: fn() -> T, deeper: fn(T) -> T) {
    let (levels, encoding) = deepest(empty, deeper, |value| {
        let mut bytes = Vec::new();
        encode_stream(value, &mut bytes)?;
        Ok(bytes)
    });
    assert!(levels > 500, "{levels} levels are nothing");
    let decoded: T = decode_model(&encoding).unwrap();
    let mut again = Vec::new();
    encode_stream(&decoded, &mut again).unwrap();
    assert!(again == encoding);
    drop(decode_exact::<T>(&encoding).unwrap());
}

/// Runs in every build, because stack frames are largest without optimisation.
#[test]
fn the_deepest_value_that_is_encoded_is_decoded() {
    use nested::{Boxed, Formula, Listed, Mapped};
    stack::run(|| {
        assert_decodes(Boxed::default, |inner| Boxed(Some(Box::new(inner))));
        assert_decodes(Listed::default, |inner| Listed {
            inner: vec![inner],
            name: "level".to_owned(),
        });
        assert_decodes(Mapped::default, |inner| Mapped([(1, inner)].into()));
        assert_decodes(Formula::default, |inner| {
            let (left, right) = (Box::new(inner), Box::new(Formula::One));
            Formula::Both { left, right }
        });
    })
    .unwrap();
}

/// A value that needs much more stack for decoding than for encoding is an error. It must not end
/// the process.
#[test]
fn what_is_decoded_beyond_the_stack_is_refused() {
    use nested::Large;
    stack::run(|| {
        let deeper = |inner| Large { ballast: [[7; 32]; 8], inner: Some(Box::new(inner)) };
        let mut value = Large::default();
        for _ in 0..50_000 {
            value = deeper(value);
        }
        // Encoded level by level, since it is too deep to be encoded at once.
        let mut bytes = Vec::new();
        let mut level = Some(&value);
        while let Some(Large { ballast, inner }) = level {
            encode_stream(&(ballast, inner.is_some()), &mut bytes).unwrap();
            level = inner.as_deref();
        }
        while let Some(inner) = value.inner.take() {
            value = *inner;
        }
        let refused = decode_model::<Large>(&bytes).err().unwrap();
        assert_eq!(refused, TOO_DEEP);
        assert_eq!(decode_exact::<Large>(&bytes).err().unwrap(), TOO_DEEP);
    })
    .unwrap();
}

/// The test harness made this thread, so the size of its stack is unknown.
#[test]
fn on_a_thread_of_unknown_size_little_is_used() {
    use nested::Boxed;
    let deeper = |inner| Boxed(Some(Box::new(inner)));
    let (levels, encoding) = deepest(Boxed::default, deeper, |value| {
        let mut bytes = Vec::new();
        match encode_onto(value, &mut bytes, LARGEST_COMMAND_BYTES) {
            Ok(()) => Ok(bytes),
            Err(EncodeFailure::Failed(reason)) => Err(reason),
            Err(EncodeFailure::TooLarge { .. }) => unreachable!("a few levels"),
        }
    });
    assert!(levels > 200, "{levels} levels are nothing");
    // Where the database decodes commands, all of it is.
    stack::run(|| drop(decode_exact::<Boxed>(&encoding).unwrap())).unwrap();
    let deep = vec![1; 1 << 20];
    assert_eq!(decode_exact::<Boxed>(&deep).err().unwrap(), TOO_DEEP);
    assert_eq!(decode_model::<Boxed>(&deep).err().unwrap(), TOO_DEEP);
}

proptest! {
    #[test]
    fn round_trip(value: (u8, i64, String, Vec<u128>, Option<Vec<bool>>)) {
        let bytes = encoded(&value);
        prop_assert_eq!(decode_exact::<(u8, i64, String, Vec<u128>, Option<Vec<bool>>)>(&bytes), Ok(value));
    }

    #[test]
    fn every_trailing_or_missing_byte_is_noticed(value: (String, Vec<u16>)) {
        let mut bytes = encoded(&value);
        bytes.push(0);
        prop_assert!(decode_exact::<(String, Vec<u16>)>(&bytes).is_err());
        bytes.truncate(bytes.len() - 2);
        prop_assert!(decode_exact::<(String, Vec<u16>)>(&bytes).is_err());
    }
}
