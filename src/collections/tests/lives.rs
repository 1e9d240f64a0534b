//! Random lives of families: puts, removals, clones, forks of forks, drops in any order and on other
//! threads, always compared with a `BTreeMap`.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::SeqCst};

use super::*;
use crate::collections::{Difference, Entry, Set};

type Oracle = BTreeMap<u64, u64>;

/// What the lives need of a key or a value.
trait Content: Clone + Ord + Debug + Send + Sync + 'static {
    fn of(number: u64, alive: &Arc<AtomicI64>) -> Self;
    fn number(&self) -> u64;
}

impl Content for u64 {
    fn of(number: u64, _: &Arc<AtomicI64>) -> Self {
        number
    }
    fn number(&self) -> u64 {
        *self
    }
}

impl Content for Counted {
    fn of(number: u64, alive: &Arc<AtomicI64>) -> Self {
        Self::new(number, alive)
    }
    fn number(&self) -> u64 {
        *self.number
    }
}

/// Large, but owns nothing.
impl Content for [u64; 13] {
    fn of(number: u64, _: &Arc<AtomicI64>) -> Self {
        [number; 13]
    }
    fn number(&self) -> u64 {
        self[12]
    }
}

impl Content for u8 {
    fn of(number: u64, _: &Arc<AtomicI64>) -> Self {
        (number % 256) as u8
    }
    fn number(&self) -> u64 {
        u64::from(*self)
    }
}

/// As large as a slot may be, with the strictest alignment.
impl Content for u128 {
    fn of(number: u64, _: &Arc<AtomicI64>) -> Self {
        u128::from(number) << 64
    }
    fn number(&self) -> u64 {
        (*self >> 64) as u64
    }
}

struct Life<K, V> {
    random: Random,
    family: Vec<(Map<K, V>, Oracle)>,
    alive: Arc<AtomicI64>,
    keys: u64,
}

impl<K: Content, V: Content> Life<K, V> {
    fn begin(seed: u64) -> Self {
        let mut random = Random(seed);
        let keys = 1 + random.below(if seed % 4 == 0 { 2500 } else { 150 });
        let alive = Arc::default();
        let mut life = Self { random, family: Vec::new(), alive, keys };
        let first: Oracle =
            (0..life.random.below(life.keys)).map(|_| (life.key(), life.value())).collect();
        let map = Map::from_sorted(first.iter().map(|(key, value)| life.entry(*key, *value)));
        life.family.push((map, first));
        life
    }

    fn key(&mut self) -> u64 {
        let key = self.random.below(self.keys);
        K::of(key, &Arc::default()).number()
    }

    fn value(&mut self) -> u64 {
        V::of(self.random.below(1 << 40), &Arc::default()).number()
    }

    fn entry(&self, key: u64, value: u64) -> (K, V) {
        (K::of(key, &self.alive), V::of(value, &self.alive))
    }

    fn audit(&self) {
        let family: Vec<_> = self.family.iter().map(|(map, _)| map).collect();
        assert_sound(&family);
    }

    fn step(&mut self) {
        let which = self.random.below(self.family.len() as u64) as usize;
        match self.random.below(100) {
            0..60 => {
                for _ in 0..1 + self.random.below(40) {
                    self.change(which);
                }
            }
            60..80 if self.family.len() < 16 => {
                let (map, oracle) = &self.family[which];
                self.family.push((map.clone(), oracle.clone()));
            }
            80..93 if self.family.len() > 1 => {
                let (map, oracle) = self.family.swap_remove(which);
                if self.random.below(3) == 0 {
                    let key = self.key();
                    let (key, value) = self.entry(key, 4);
                    let elsewhere = move || {
                        assert_equal(&map, &oracle);
                        let mut fork = map.clone();
                        drop(map);
                        fork.put(key, value);
                    };
                    std::thread::spawn(elsewhere).join().unwrap();
                }
            }
            93..98 => {
                let other = self.random.below(self.family.len() as u64) as usize;
                assert_differences(&self.family[which], &self.family[other]);
            }
            _ => {
                let (map, oracle) = &self.family[which];
                assert_equal(map, oracle);
                let bounds = [self.random.below(self.keys), self.random.below(self.keys)];
                assert_range(map, oracle, bounds, &self.alive);
            }
        }
    }

    fn change(&mut self, which: usize) {
        let (number, value) = (self.key(), self.value());
        let (key, content) = self.entry(number, value);
        let (map, oracle) = &mut self.family[which];
        match self.random.below(13) {
            0..4 => assert_eq!(map.put(key, content), oracle.insert(number, value).is_some()),
            4 => {
                let old = map.insert(key, content).map(|old| old.number());
                assert_eq!(old, oracle.insert(number, value));
            }
            5..9 => {
                let old = map.remove(&key).map(|old| old.number());
                assert_eq!(old, oracle.remove(&number));
            }
            9 => match (map.get_mut(&key), oracle.get_mut(&number)) {
                (Some(place), Some(number)) => (*place, *number) = (content, value),
                (None, None) => {}
                other => panic!("{other:?}"),
            },
            10 => {
                let place = map.entry(key);
                assert_eq!(matches!(place, Entry::Occupied(_)), oracle.contains_key(&number));
                let other = content.clone();
                *place.or_insert(other) = content;
                oracle.insert(number, value);
            }
            11 => {
                let (map_end, oracle_end) = if self.random.below(2) == 0 {
                    (map.pop_first(), oracle.pop_first())
                } else {
                    (map.pop_last(), oracle.pop_last())
                };
                let numbers = map_end.map(|(key, value)| (key.number(), value.number()));
                assert_eq!(numbers, oracle_end);
            }
            _ if self.random.below(20) == 0 => {
                map.retain(|key, _| key.number() % 3 != 0);
                oracle.retain(|key, _| key % 3 != 0);
            }
            _ if self.random.below(20) == 0 => {
                for (key, value) in map.iter_mut().rev() {
                    *value = V::of(key.number(), &self.alive);
                }
                oracle.iter_mut().for_each(|(key, value)| {
                    *value = V::of(*key, &self.alive).number();
                });
            }
            _ => {}
        }
    }

    fn run(mut self, steps: usize) {
        for _ in 0..steps {
            self.step();
            self.audit();
        }
        while !self.family.is_empty() {
            let which = self.random.below(self.family.len() as u64) as usize;
            let (map, oracle) = self.family.swap_remove(which);
            assert_equal(&map, &oracle);
            drop(map);
            self.audit();
        }
        assert_eq!(self.alive.load(SeqCst), 0, "contents that were never dropped");
    }
}

fn numbers<K: Content, V: Content>((key, value): (&K, &V)) -> (u64, u64) {
    (key.number(), value.number())
}

fn assert_equal<K: Content, V: Content>(map: &Map<K, V>, oracle: &Oracle) {
    assert_eq!(map.len(), oracle.len());
    assert!(map.iter().map(numbers).eq(oracle.iter().map(|(key, value)| (*key, *value))));
    let backwards = oracle.iter().rev().map(|(key, value)| (*key, *value));
    assert!(map.iter().rev().map(numbers).eq(backwards));
    for (key, value) in map {
        assert!(std::ptr::eq(map.get(key).unwrap(), value));
    }
}

fn assert_range<K: Content, V: Content>(
    map: &Map<K, V>,
    oracle: &Oracle,
    [a, b]: [u64; 2],
    alive: &Arc<AtomicI64>,
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

fn assert_differences<K: Content, V: Content>(
    (old, old_oracle): &(Map<K, V>, Oracle),
    (new, new_oracle): &(Map<K, V>, Oracle),
) {
    let mut expected = Vec::new();
    let keys: std::collections::BTreeSet<_> = old_oracle.keys().chain(new_oracle.keys()).collect();
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
}

fn lives_of_all_contents(seeds: std::ops::Range<u64>, steps: usize) {
    for seed in seeds {
        Life::<u64, u64>::begin(seed).run(steps);
        Life::<u64, [u64; 13]>::begin(seed).run(steps);
        Life::<Counted, Counted>::begin(seed).run(steps);
        Life::<u8, u128>::begin(seed).run(steps);
        Life::<u128, u8>::begin(seed).run(steps);
        Life::<[u64; 13], u8>::begin(seed).run(steps);
        Life::<u64, Counted>::begin(seed).run(steps);
        Life::<Counted, u8>::begin(seed).run(steps);
    }
}

#[test]
fn lives_are_those_of_a_btree_map() {
    lives_of_all_contents(0..4, 60);
}

#[test]
#[ignore = "about five minutes with --release"]
fn many_lives_are_those_of_a_btree_map() {
    lives_of_all_contents(100..600, 150);
}

/// The planted faults run this one.
#[test]
fn lives_of_keys_and_values_that_own_memory() {
    for seed in 0..6 {
        Life::<Counted, Counted>::begin(seed).run(60);
    }
}

#[test]
fn sets_are_sets() {
    let mut random = Random(1);
    for _ in 0..50 {
        let mut numbers =
            || -> Vec<u64> { (0..random.below(200)).map(|_| random.below(300)).collect() };
        let (a, b) = (numbers(), numbers());
        let (left, right): (Set<u64>, Set<u64>) = (a.iter().collect_set(), b.iter().collect_set());
        let (x, y): (std::collections::BTreeSet<u64>, std::collections::BTreeSet<u64>) =
            (a.into_iter().collect(), b.into_iter().collect());
        assert!(left.iter().eq(&x));
        assert!(left.union(&right).eq(x.union(&y)));
        assert!(left.intersection(&right).eq(x.intersection(&y)));
        assert!(left.difference(&right).eq(x.difference(&y)));
        assert!(left.symmetric_difference(&right).eq(x.symmetric_difference(&y)));
        assert_eq!(left.is_subset(&right), x.is_subset(&y));
        assert_eq!(left.is_disjoint(&right), x.is_disjoint(&y));
        assert_eq!((left.cmp(&right), left == right), (x.cmp(&y), x == y));
        assert_eq!(format!("{left:?}"), format!("{x:?}"));
    }
}

trait CollectSet {
    fn collect_set(self) -> Set<u64>;
}

impl<'a, I: Iterator<Item = &'a u64>> CollectSet for I {
    fn collect_set(self) -> Set<u64> {
        self.copied().collect()
    }
}
