//! Owns the life of a few maps: puts, removals, forks of forks, drops in any order and on other
//! threads, panics of the user's code. Each map is compared with a `BTreeMap`, and the invariants
//! are recomputed after every step. `lives` takes the steps from proptest, the fuzz target from its
//! input.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering::SeqCst;

use super::cold;
use super::compare::{assert_differences, assert_equal, assert_range};
use super::content::{Aligned, AlignedNothing, Alive, Bomb, Content, Counted, Fickle};
use crate::collections::tree::audit;
use crate::collections::{Entry, Map};

pub(super) type Oracle = BTreeMap<u64, u64>;

/// No family has more handles than this.
const MOST_HANDLES: usize = 12;
/// Bytes that describe one step.
pub(super) const STEP_BYTES: usize = 6;

/// What is done in a step.
#[derive(Clone, Copy, Debug)]
pub(super) enum What {
    Put,
    Insert,
    Remove,
    Write,
    Enter,
    PopFirst,
    PopLast,
    Retain,
    WriteAll,
    Append,
    Clear,
    Fork,
    Drop,
    DropElsewhere,
    UseUp,
    Differ,
    Look,
    /// The next step panics at some call.
    Arm,
    /// The process forks, and the steps that follow are the child's.
    #[cfg(test)]
    GoOnInAChild,
}

/// A step: what, with which handle, and which keys.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step {
    pub(super) what: What,
    pub(super) handle: u8,
    pub(super) key: u16,
    pub(super) count: u8,
    pub(super) value: u8,
}

impl Step {
    pub(super) fn of([what, handle, low, high, count, value]: [u8; STEP_BYTES]) -> Self {
        const OFTEN: [What; 32] = [
            What::Put,
            What::Put,
            What::Put,
            What::Put,
            What::Insert,
            What::Insert,
            What::Remove,
            What::Remove,
            What::Remove,
            What::Remove,
            What::Write,
            What::Write,
            What::Enter,
            What::Enter,
            What::PopFirst,
            What::PopLast,
            What::Retain,
            What::WriteAll,
            What::Append,
            What::Clear,
            What::Fork,
            What::Fork,
            What::Fork,
            What::Fork,
            What::Drop,
            What::Drop,
            What::DropElsewhere,
            What::UseUp,
            What::Differ,
            What::Look,
            What::Arm,
            What::Arm,
        ];
        let what = OFTEN[usize::from(what) % OFTEN.len()];
        Self { what, handle, key: u16::from_le_bytes([low, high]), count, value }
    }

    #[cfg(test)]
    pub(super) const GO_ON_IN_A_CHILD: Self =
        Self { what: What::GoOnInAChild, handle: 0, key: 0, count: 0, value: 0 };

    /// The keys that this step is about: a few, at equal distances.
    fn keys<K: Content>(self) -> impl Iterator<Item = u64> {
        let (first, distance) = (u64::from(self.key), 1 + u64::from(self.value % 4));
        (0..=u64::from(self.count % 48)).map(move |index| K::fit((first + index * distance) % 4096))
    }
}

struct Life<K: Content, V: Content> {
    /// Maps of one or several families, each beside its oracle.
    maps: Vec<(Map<K, V>, Oracle)>,
    alive: Alive,
    /// The kind of call that panics in the next step, and after how many others.
    armed: Option<(Bomb, u64)>,
    /// A user's code panicked, so memory may be lost.
    may_leak: bool,
    /// This is the child of a fork, which drops nothing that it inherited.
    is_inherited: bool,
}

impl<K: Content, V: Content> Life<K, V> {
    fn begin(entries: u64, is_cold: bool) -> Self {
        let alive = Alive::default();
        let oracle: Oracle = (0..entries).map(|key| (K::fit(3 * key), V::fit(key))).collect();
        let entry = |(key, value): (&u64, &u64)| (K::of(*key, &alive), V::of(*value, &alive));
        // From one entry in a part to more than a leaf has: a group of parts, or many.
        let part_entries = 1 + usize::try_from(entries % 37).unwrap();
        let numbers: Vec<_> = oracle.iter().map(|(key, value)| (*key, *value)).collect();
        let map = is_cold.then(|| cold::map(&numbers, part_entries, &alive)).flatten();
        let map = map.unwrap_or_else(|| Map::from_sorted(oracle.iter().map(entry)));
        Self { maps: vec![(map, oracle)], alive, armed: None, may_leak: false, is_inherited: false }
    }

    fn audit(&self) {
        let trees: Vec<_> = self.maps.iter().map(|(map, _)| &map.tree).collect();
        let lost = audit(&trees);
        assert!(self.may_leak || lost == 0, "{lost} pieces of memory were lost");
    }

    fn step(&mut self, step: Step) {
        let which = usize::from(step.handle) % self.maps.len();
        let Some((bomb, after)) = self.armed.take() else { return self.act(which, step) };
        let (handles, before) = (self.maps.len(), self.maps[which].1.clone());
        self.may_leak = true;
        if bomb.explode(after, || self.act(which, step)).is_some() {
            return;
        }
        // The step may have been half done, and the handle may be gone. The others are as they
        // were.
        if self.maps.len() == handles {
            let touched: BTreeSet<u64> = match step.what {
                What::Put
                | What::Insert
                | What::Remove
                | What::Write
                | What::Enter
                | What::Append => step.keys::<K>().collect(),
                _ => before.keys().copied().collect(),
            };
            let (map, oracle) = &mut self.maps[which];
            *oracle = map.iter().map(|(key, value)| (key.number(), value.number())).collect();
            let untouched = |oracle: &Oracle| -> Oracle {
                let all = oracle.iter().map(|(key, value)| (*key, *value));
                all.filter(|(key, _)| !touched.contains(key)).collect()
            };
            assert_eq!(untouched(oracle), untouched(&before));
        }
        for (map, oracle) in &self.maps {
            assert_equal(map, oracle);
        }
    }

    fn act(&mut self, which: usize, step: Step) {
        match step.what {
            What::Fork if self.maps.len() < MOST_HANDLES => {
                let (map, oracle) = &self.maps[which];
                let fork = (map.clone(), oracle.clone());
                self.maps.push(fork);
            }
            What::Drop if self.maps.len() > 1 => drop(self.maps.swap_remove(which)),
            What::DropElsewhere if self.maps.len() > 1 => {
                let (map, oracle) = self.maps.swap_remove(which);
                let (key, value) = (K::of(1, &self.alive), V::of(4, &self.alive));
                let elsewhere = move || {
                    assert_equal(&map, &oracle);
                    let mut fork = map.clone();
                    drop(map);
                    fork.put(key, value);
                };
                std::thread::spawn(elsewhere).join().expect("no bomb is armed on that thread");
            }
            What::UseUp if self.maps.len() > 1 => {
                let (map, oracle) = self.maps.swap_remove(which);
                let mut oracle = oracle.into_iter();
                let mut entries = map.into_iter();
                for _ in 0..step.count {
                    let entry = entries.next().map(|(key, value)| (key.number(), value.number()));
                    assert_eq!(entry, oracle.next());
                    let entry = entries.next_back();
                    let entry = entry.map(|(key, value)| (key.number(), value.number()));
                    assert_eq!(entry, oracle.next_back());
                }
            }
            What::Differ => {
                let other = usize::from(step.value) % self.maps.len();
                assert_differences(&self.maps[which], &self.maps[other]);
            }
            What::Look => {
                let (map, oracle) = &self.maps[which];
                assert_equal(map, oracle);
                let bounds = [u64::from(step.key), u64::from(step.key) + u64::from(step.count)];
                assert_range(map, oracle, bounds, &self.alive);
            }
            What::Arm => {
                let bomb = Bomb::ALL[usize::from(step.value) % Bomb::ALL.len()];
                self.armed = Some((bomb, u64::from(step.count)));
            }
            _ => self.change(which, step),
        }
    }

    fn change(&mut self, which: usize, step: Step) {
        let alive = &self.alive;
        let (map, oracle) = &mut self.maps[which];
        match step.what {
            What::PopFirst | What::PopLast => {
                for _ in 0..=step.count / 8 {
                    let (map_end, oracle_end) = match step.what {
                        What::PopFirst => (map.pop_first(), oracle.pop_first()),
                        _ => (map.pop_last(), oracle.pop_last()),
                    };
                    let numbers = map_end.map(|(key, value)| (key.number(), value.number()));
                    assert_eq!(numbers, oracle_end);
                }
            }
            What::Retain => {
                let modulus = u64::from(step.count).max(2);
                map.retain(|key, _| key.number() % modulus != 0);
                oracle.retain(|key, _| key % modulus != 0);
            }
            What::WriteAll => {
                for (key, value) in map.iter_mut().rev() {
                    *value = V::of(key.number(), alive);
                }
                oracle.iter_mut().for_each(|(key, value)| *value = V::fit(*key));
            }
            What::Append => {
                let value = u64::from(step.value);
                let entry = |key| (K::of(key, alive), V::of(value, alive));
                map.append(&mut step.keys::<K>().map(entry).collect());
                oracle.extend(step.keys::<K>().map(|key| (key, V::fit(value))));
            }
            What::Clear => {
                map.clear();
                oracle.clear();
            }
            _ => {
                for key in step.keys::<K>() {
                    change_one((map, oracle), step.what, key, V::fit(step.value.into()), alive);
                }
            }
        }
    }

    fn run(&mut self, steps: &mut dyn Iterator<Item = Step>) {
        while let Some(step) = steps.next() {
            #[cfg(test)]
            if let What::GoOnInAChild = step.what {
                super::processes::in_a_child(|| {
                    self.is_inherited = true;
                    self.run(steps);
                });
                break;
            }
            self.step(step);
            self.audit();
        }
        while let Some((map, oracle)) = self.maps.pop() {
            assert_equal(&map, &oracle);
            drop((map, oracle));
            self.audit();
        }
        let left = self.alive.load(SeqCst);
        assert!(left >= 0, "contents were dropped twice");
        let may_leak = self.may_leak || self.is_inherited;
        assert!(may_leak || left == 0, "{left} contents were never dropped");
    }
}

/// Changes the entry of one key, if there is anything to do.
fn change_one<K: Content, V: Content>(
    (map, oracle): (&mut Map<K, V>, &mut Oracle),
    what: What,
    number: u64,
    value: u64,
    alive: &Alive,
) {
    let (key, content) = (K::of(number, alive), V::of(value, alive));
    match what {
        What::Put => assert_eq!(map.put(key, content), oracle.insert(number, value).is_some()),
        What::Insert => {
            let old = map.insert(key, content).map(|old| old.number());
            assert_eq!(old, oracle.insert(number, value));
        }
        What::Remove => {
            let old = map.remove(&key).map(|old| old.number());
            assert_eq!(old, oracle.remove(&number));
        }
        What::Write => match (map.get_mut(&key), oracle.get_mut(&number)) {
            (Some(place), Some(number)) => (*place, *number) = (content, value),
            (None, None) => {}
            other => panic!("{other:?}"),
        },
        What::Enter => {
            let place = map.entry(key);
            assert_eq!(matches!(place, Entry::Occupied(_)), oracle.contains_key(&number));
            let other = content.clone();
            *place.or_insert(other) = content;
            oracle.insert(number, value);
        }
        _ => {} // a step that needs more handles, or fewer
    }
}

/// What fails may be corrupt, so it is not dropped.
impl<K: Content, V: Content> Drop for Life<K, V> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            std::mem::forget(std::mem::take(&mut self.maps));
        }
    }
}

/// How many kinds of keys and values [`live`] knows.
pub(super) const KINDS: u8 = 12;
/// The kind whose keys and values own memory.
pub(super) const OWNING: u8 = 0;

/// Begins a map of so many entries, with one kind of keys and values, and lives these steps.
/// If it `is_cold`, the entries are decoded when they are touched.
pub(super) fn live(
    kind: u8,
    (entries, is_cold): (u64, bool),
    steps: impl IntoIterator<Item = Step>,
) {
    let steps = &mut steps.into_iter();
    match kind % KINDS {
        OWNING => Life::<Counted, Counted>::begin(entries, is_cold).run(steps),
        1 => Life::<Fickle, Fickle>::begin(entries, is_cold).run(steps),
        2 => Life::<u64, Counted>::begin(entries, is_cold).run(steps),
        3 => Life::<Counted, u8>::begin(entries, is_cold).run(steps),
        4 => Life::<u64, u64>::begin(entries, is_cold).run(steps),
        5 => Life::<u64, [u64; 13]>::begin(entries, is_cold).run(steps),
        6 => Life::<[u64; 13], u8>::begin(entries, is_cold).run(steps),
        7 => Life::<u8, u128>::begin(entries, is_cold).run(steps),
        8 => Life::<u128, u8>::begin(entries, is_cold).run(steps),
        9 => Life::<Counted, ()>::begin(entries, is_cold).run(steps),
        10 => Life::<(), Counted>::begin(entries, is_cold).run(steps),
        _ => Life::<Aligned, AlignedNothing>::begin(entries, is_cold).run(steps),
    }
}

/// Lives what the bytes describe. The fuzz target `collections` calls it.
pub(crate) fn live_bytes(data: &[u8]) {
    let Some(([kind, low, high], steps)) = data.split_first_chunk() else { return };
    let (steps, _) = steps.as_chunks();
    let entries = u64::from(u16::from_le_bytes([*low, *high]) % 1400);
    live(*kind, (entries, *kind >= 128), steps.iter().take(64).map(|step| Step::of(*step)));
}
