//! Keys and values at the edge of what a type can be, and orders that lie.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use super::*;
use crate::collections::{Entry, IterMut, Set, Vector, VectorIterMut};

/// Stricter in its alignment than any slab.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(align(8192))]
struct Page(u16);

#[test]
fn alignments_are_kept() {
    let map: Map<Page, Page> = (0..100).map(|it| (Page(it), Page(it))).collect();
    let mut fork = map.clone();
    fork.put(Page(7), Page(8));
    fork.put(Page(200), Page(8));
    for (key, value) in map.iter().chain(&fork) {
        assert_eq!((&raw const *key).addr() % 8192, 0);
        assert_eq!((&raw const *value).addr() % 8192, 0);
    }
    assert_eq!((map[&Page(7)], fork[&Page(7)]), (Page(7), Page(8)));
    assert_sound(&[&map, &fork]);
}

#[test]
fn a_value_may_be_larger_than_a_slab() {
    const BYTES: usize = 3 << 19;
    let work = || {
        let mut map: Map<u8, [u8; BYTES]> = Map::new();
        (0..20).for_each(|key| assert!(!map.put(key, [key; BYTES])));
        let fork = map.clone();
        map.values_mut().for_each(|value| value[BYTES - 1] = 99);
        assert!(fork.iter().all(|(key, value)| value[BYTES - 1] == *key));
        assert!(map.values().all(|value| value[BYTES - 1] == 99));
        assert_sound(&[&map, &fork]);
    };
    // A debug build copies such values on its stack many times.
    std::thread::Builder::new().stack_size(1 << 28).spawn(work).unwrap().join().unwrap();
}

/// No bytes, but a `Drop` that counts.
struct Token;

static TOKENS: AtomicI64 = AtomicI64::new(0);

impl Token {
    fn new() -> Self {
        TOKENS.fetch_add(1, SeqCst);
        Self
    }
}

impl Clone for Token {
    fn clone(&self) -> Self {
        Self::new()
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        TOKENS.fetch_sub(1, SeqCst);
    }
}

#[test]
fn values_without_bytes_are_dropped_once() {
    let mut map: Map<u64, Token> = (0..200).map(|key| (key, Token::new())).collect();
    let fork = map.clone();
    map.retain(|key, _| key % 2 == 0);
    map.put(4, Token::new());
    assert_eq!(TOKENS.load(SeqCst), 201);
    assert_sound(&[&map, &fork]);
    drop(fork);
    drop(map.clone()); // until then an open handle keeps the version from which it was changed
    assert_eq!(TOKENS.load(SeqCst), 100);
    drop(map);
    assert_eq!(TOKENS.load(SeqCst), 0);
}

#[test]
fn a_key_is_looked_up_by_what_it_borrows_as() {
    let mut map: Map<String, Vec<u8>> = Map::new();
    map.put("a".to_owned(), vec![1]);
    map.entry("b".to_owned()).or_default().push(2);
    assert_eq!((map.get("a"), &map["b"]), (Some(&vec![1]), &vec![2]));
    assert_eq!(map.range("b".to_owned()..).count(), 1);
    let names: Set<&'static str> = ["x", "y"].into();
    assert!(names.contains("x") && !names.contains("z"));
    assert_eq!(map.remove("a"), Some(vec![1]));
    assert_eq!(map.get_mut("a"), None);
}

/// As with a `BTreeMap`, a map of long-lived references is a map of shorter-lived ones.
#[test]
fn lifetimes_may_shrink() {
    fn shorter<'a>(map: Map<&'static str, &'static str>, _: &'a str) -> Map<&'a str, &'a str> {
        map
    }
    let long: Map<&'static str, &'static str> = [("a", "b")].into();
    let text = String::from("c");
    let mut short = shorter(long.clone(), &text);
    short.put(&text, &text);
    let fork = short.clone();
    drop(short);
    assert_eq!(fork["c"], "c");
    drop(fork);
    drop(text);
    assert_sound(&[&long]);
    assert_eq!(long.len(), 1);
}

/// A value that holds versions of the map that it is in.
#[derive(Clone)]
struct Nested(#[allow(dead_code, reason = "it is only dropped")] Map<u64, Nested>);

#[test]
fn a_map_may_hold_its_own_past() {
    let mut map: Map<u64, Nested> = Map::new();
    for key in 0..100 {
        let past = map.clone();
        map.put(key % 40, Nested(past));
        if key % 7 == 0 {
            map.remove(&(key % 20));
        }
    }
    let fork = map.clone();
    drop(map);
    drop(fork);
    let mut maps: Map<u64, Map<u64, String>> = Map::new();
    for key in 0..100 {
        maps.entry(key % 10).or_default().put(key, key.to_string());
    }
    let before = maps.clone();
    maps.values_mut().for_each(|inner| drop(inner.pop_first()));
    assert_eq!(before.values().map(Map::len).sum::<usize>(), 100);
    assert_eq!(maps.values().map(Map::len).sum::<usize>(), 90);
    assert_sound(&[&maps, &before]);
}

/// Its `Drop` uses another handle of the family from which it was dropped.
#[derive(Clone)]
struct Meddler(Arc<Mutex<Map<u64, u64>>>);

impl Drop for Meddler {
    fn drop(&mut self) {
        let mut map = self.0.lock().unwrap();
        let fork = map.clone();
        map.put(fork.len() as u64, 1);
    }
}

#[test]
fn a_drop_may_use_maps() {
    let inner = Arc::new(Mutex::new(Map::new()));
    let mut map: Map<u64, Meddler> = (0..50).map(|key| (key, Meddler(inner.clone()))).collect();
    let fork = map.clone();
    map.retain(|key, _| key % 2 == 0);
    drop(fork);
    drop(map);
    let map = inner.lock().unwrap();
    assert!(map.len() >= 50);
    assert_sound(&[&map]);
}

/// Answers what a generator says.
#[derive(Clone, Debug)]
struct Liar(#[allow(dead_code, reason = "only its drop counts")] Box<u64>);

thread_local! {
    static LIES: std::cell::RefCell<Random> = const { std::cell::RefCell::new(Random(7)) };
}

impl PartialEq for Liar {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Liar {}

impl PartialOrd for Liar {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Liar {
    fn cmp(&self, _: &Self) -> Ordering {
        match LIES.with_borrow_mut(|lies| lies.below(5)) {
            0 => Ordering::Equal,
            1 | 2 => Ordering::Less,
            _ => Ordering::Greater,
        }
    }
}

/// The order is unspecified, and so is what is found, but nothing is lost, and no handle meets
/// another's changes. A sanitizer would see the rest.
#[test]
fn an_order_that_lies_is_survived() {
    let mut random = Random(1);
    let mut family: Vec<Map<Liar, String>> = vec![Map::new()];
    for _ in 0..3000 {
        let which = random.below(family.len() as u64) as usize;
        let key = Liar(Box::new(random.below(500)));
        let others: Vec<usize> = family.iter().map(Map::len).collect();
        match random.below(8) {
            0..3 => drop(family[which].put(key, "put".to_owned())),
            3 => drop(family[which].remove(&key)),
            4 => drop(family[which].get_mut(&key).map(|value| value.push('x'))),
            5 if family.len() < 6 => family.push(family[which].clone()),
            6 if family.len() > 1 => drop(family.swap_remove(which)),
            _ => {
                let map = &family[which];
                assert_eq!(map.iter().count(), map.len());
                assert_eq!(map.iter().rev().count(), map.len());
                let low = key.clone();
                let range = std::panic::AssertUnwindSafe(|| map.range(low..key).count());
                drop(std::panic::catch_unwind(range));
                assert!(map.diff(&family[0]).count() <= map.len() + others[0]);
            }
        }
        if family.len() == others.len() {
            let changed =
                |(index, map): (usize, &Map<_, _>)| index != which && map.len() != others[index];
            assert!(!family.iter().enumerate().any(changed));
        }
    }
}

#[test]
fn an_entry_crosses_threads_as_a_map_does() {
    fn crosses<T: Send + Sync>() {}
    crosses::<Map<u64, String>>();
    crosses::<Entry<'_, u64, String>>();
    crosses::<IterMut<'_, u64, String>>();
    crosses::<VectorIterMut<'_, String>>();
    // ThreadSanitizer does not see how a scope waits for its threads.
    let map: &'static mut Map<u64, String> = Box::leak(Box::default());
    map.put(1, "put here".to_owned());
    let (entry, other) = (map.entry(1000), "put elsewhere".to_owned());
    let value = std::thread::spawn(move || entry.or_insert(other)).join().unwrap();
    assert_eq!(value, "put elsewhere");
}

/// What iterators and entries show of their rest, after an element was taken at each end.
macro_rules! assert_shown_alike {
    ($($iterator:expr, $standard:expr;)*) => {$({
        let (mut iterator, mut standard) = ($iterator, $standard);
        assert_eq!(iterator.next(), standard.next());
        assert_eq!(iterator.next_back(), standard.next_back());
        assert_eq!(format!("{iterator:#?}"), format!("{standard:#?}"), stringify!($iterator));
    })*};
}

#[test]
fn iterators_and_entries_are_shown_as_those_of_a_btree_map() {
    let of_keys = |keys: std::ops::Range<u64>| keys.map(|key| (key, key.to_string()));
    let mut map: Map<u64, String> = of_keys(0..70).collect();
    let mut std: BTreeMap<u64, String> = of_keys(0..70).collect();
    let mut vector: Vector<u64> = (0..70).collect();
    let list: Vec<u64> = (0..70).collect();
    let set: Set<u64> = (0..70).collect();
    assert_shown_alike! {
        map.iter(), std.iter();
        map.range(5..50), std.range(5..50);
        map.keys(), std.keys();
        map.values(), std.values();
        map.iter_mut(), std.iter_mut();
        map.values_mut(), std.values_mut();
        map.clone().into_iter(), std.clone().into_iter();
        map.clone().into_keys(), std.clone().into_keys();
        map.clone().into_values(), std.clone().into_values();
    }
    assert_eq!(format!("{:?}", set.clone().into_iter()), format!("{list:?}"));
    let mut numbers = set.iter();
    numbers.next();
    assert_eq!(format!("{numbers:?}"), format!("{:?}", &list[1..]));
    let (mut some, mut writing) = (vector.range(3..9), vector.clone());
    some.next_back();
    assert_eq!(format!("{some:?}"), "[3, 4, 5, 6, 7]");
    let mut writing = writing.iter_mut();
    writing.next();
    assert_eq!(format!("{writing:?}"), format!("{:?}", &list[1..]));
    vector.truncate(2);
    assert_eq!(format!("{:?}", vector.into_iter()), "[0, 1]");
    for key in [7, 700] {
        assert_eq!(format!("{:#?}", map.entry(key)), format!("{:#?}", std.entry(key)));
    }
}
