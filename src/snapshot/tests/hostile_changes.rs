//! Tests of snapshots of changes whose checksums are right and whose index or scripts lie.

use std::fs;

use super::changes::{Rests, bytes};
use crate::codec::DecodeHow;
use crate::collections::{Map, Vector};
use crate::laboratory::Sizes;
use crate::laboratory::sealed::{CHUNK_ENTRY_BYTES, index, number, seal};

type Model = (Map<u64, String>, Vector<u64>, u64);

/// Reads the snapshot as it is now: an error, or the same model in every way.
fn is_read(rests: &Rests) -> bool {
    let read = |how| rests.read::<Model>(how).map(|model| bytes(&model));
    match (read(DecodeHow::InParallel), read(DecodeHow::OneThread)) {
        (Ok(one), Ok(other)) => assert!(one == other, "two ways give two models"),
        (Err(_), Err(_)) => return false,
        (one, other) => panic!("{:?} and {:?}", one.is_ok(), other.is_ok()),
    }
    true
}

#[test]
fn changes_that_lie_are_errors_or_another_model() {
    let mut model: Model = (
        (0..400).map(|key| (key * 3, format!("{key}"))).collect(),
        (0..300).map(|it| it * 999).collect(),
        7,
    );
    let _sizes = Sizes::small();
    let mut rests = Rests::plain();
    rests.write(&model);
    for step in 0..20 {
        model.0.put(step * 50, format!("changed {step}"));
        model.0.remove(&(step * 33));
        model.1.set(step as usize * 13, step);
        model.1.push_back(step);
    }
    rests.write(&model);
    let path = rests.path(2);
    let whole = fs::read(&path).unwrap();
    let mut resealed = whole.clone();
    seal(&mut resealed).unwrap();
    assert!(whole == resealed && is_read(&rests));
    let (begin, tail) = index(&whole).unwrap();
    let number = |at| number(&whole, at).unwrap();
    let (mut read, mut refused) = (0, 0);
    let mut try_with = |at: usize, byte: u8| {
        let mut hostile = whole.clone();
        hostile[at] = byte;
        seal(&mut hostile).unwrap();
        fs::write(&path, &hostile).unwrap();
        *(if is_read(&rests) { &mut read } else { &mut refused }) += 1;
    };
    // Every byte of the content, with the scripts, and of what the index states about collections.
    // The sizes of the chunks are another test's.
    let chunks_end = begin + 4 + number(begin) * CHUNK_ENTRY_BYTES;
    let mut chunk = number(12);
    while chunk + 4 < begin {
        let length = number(chunk);
        for (at, real) in whole.iter().enumerate().skip(chunk + 8).take(length) {
            for byte in [0, 1, 31, 32, 0x7f, 0x80, 0xff, real ^ 1] {
                try_with(at, byte);
            }
        }
        chunk += 8 + length;
    }
    for (at, real) in whole.iter().enumerate().take(tail).skip(chunks_end) {
        for byte in [0, 1, 2, 32, 0x80, 0xff, real ^ 1] {
            try_with(at, byte);
        }
    }
    println!("{read} changed files were read, {refused} refused");
    assert!(read > 100 && refused > 1000, "{read} read, {refused} refused");
}
