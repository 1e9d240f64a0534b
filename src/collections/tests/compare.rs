//! Owns the comparisons of maps with their `BTreeMap`s.

use std::collections::BTreeSet;

use super::content::{Alive, Content};
use super::life::Oracle;
use crate::collections::tree::{Edit, edits};
use crate::collections::{Difference, Map};

fn numbers<K: Content, V: Content>((key, value): (&K, &V)) -> (u64, u64) {
    (key.number(), value.number())
}

pub(super) fn assert_equal<K: Content, V: Content>(map: &Map<K, V>, oracle: &Oracle) {
    assert_eq!(map.len(), oracle.len());
    assert!(map.iter().map(numbers).eq(oracle.iter().map(|(key, value)| (*key, *value))));
    let backwards = oracle.iter().rev().map(|(key, value)| (*key, *value));
    assert!(map.iter().rev().map(numbers).eq(backwards));
    for (key, value) in map {
        assert!(std::ptr::eq(map.get(key).unwrap(), value));
    }
}

pub(super) fn assert_range<K: Content, V: Content>(
    map: &Map<K, V>,
    oracle: &Oracle,
    [a, b]: [u64; 2],
    alive: &Alive,
) {
    let key = |number| K::of(number, alive);
    let (low, high) = (key(a.min(b)), key(a.max(b)));
    if low > high {
        return; // two numbers that are larger than the type
    }
    let (from, to) = (low.number(), high.number());
    let expected: Vec<_> = oracle.range(from..to).map(|(key, value)| (*key, *value)).collect();
    assert!(map.range(&low..&high).map(numbers).eq(expected.iter().copied()));
    assert!(map.range(&low..&high).rev().map(numbers).eq(expected.iter().rev().copied()));
    let inclusive = oracle.range(from..=to).map(|(key, value)| (*key, *value));
    assert!(map.range(&low..=&high).map(numbers).eq(inclusive));
    let both_ends = map.range(&low..);
    let (mut front, mut back) = (both_ends.clone(), both_ends);
    let count = oracle.range(from..).count();
    assert_eq!(front.by_ref().count() + back.by_ref().rev().count(), 2 * count);
    assert_eq!((front.next(), back.next()), (None, None));
}

pub(super) fn assert_differences<K: Content, V: Content>(
    (old, old_oracle): &(Map<K, V>, Oracle),
    (new, new_oracle): &(Map<K, V>, Oracle),
) {
    let mut expected = Vec::new();
    let keys: BTreeSet<_> = old_oracle.keys().chain(new_oracle.keys()).collect();
    for key in keys {
        let (old, new) = (old_oracle.get(key), new_oracle.get(key));
        if old != new {
            expected.push((*key, old.copied(), new.copied()));
        }
    }
    let found: Vec<_> = old
        .diff(new)
        .map(|difference| match difference {
            Difference::Added(key, value) => (key.number(), None, Some(value.number())),
            Difference::Removed(key, value) => (key.number(), Some(value.number()), None),
            Difference::Changed { key, old, new } => {
                (key.number(), Some(old.number()), Some(new.number()))
            }
        })
        .collect();
    assert_eq!(found, expected);
    assert_edits(old, new, &expected);
}

/// Makes the new entries of the old ones. Only what differs may go and come.
fn assert_edits<K: Content, V: Content>(
    old: &Map<K, V>,
    new: &Map<K, V>,
    differences: &[(u64, Option<u64>, Option<u64>)],
) {
    let mut rest = old.iter().map(numbers);
    let (mut made, mut gone, mut come) = (Vec::new(), 0, 0);
    let are_equal = |old: (&K, &V), new: (&K, &V)| numbers(old) == numbers(new);
    for edit in edits(&old.tree, &new.tree, are_equal) {
        match edit {
            Edit::Keep(entries) => {
                let before = made.len();
                made.extend(rest.by_ref().take(entries as usize));
                assert_eq!((made.len() - before) as u64, entries);
            }
            Edit::Drop(entries) => {
                gone += entries as usize;
                assert_eq!(rest.by_ref().take(entries as usize).count() as u64, entries);
            }
            Edit::Insert(key, value) => {
                come += 1;
                made.push(numbers((key, value)));
            }
        }
    }
    assert_eq!(rest.count(), 0);
    assert!(new.iter().map(numbers).eq(made));
    assert_eq!(gone, differences.iter().filter(|(_, old, _)| old.is_some()).count());
    assert_eq!(come, differences.iter().filter(|(.., new)| new.is_some()).count());
}
