//! The laws that hold for every collection: each law is written once, and `laws!` proves it for
//! each collection. A new collection implements [`Collection`] and gets a line at the end.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::hash::{BuildHasher, Hash, RandomState};
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::atomic::Ordering::SeqCst;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::content::{Alive, Bomb, Content, Counted};
use super::*;
use crate::collections::tree::audit_sequences;
use crate::collections::{Map, Set, Vector};

/// A collection of contents that stand for numbers, and the standard one that it must equal.
trait Collection: Clone + Default + Debug + Ord + Send + Sync + 'static {
    type Std: Clone + Default + Debug + Ord + Hash + Serialize + Send + Sync;

    /// Makes one of `entries` entries, and the standard one with the same content.
    fn of(entries: u64, alive: &Alive) -> (Self, Self::Std);
    /// Changes one entry of both, in a way that `random` chooses.
    fn change(&mut self, std: &mut Self::Std, random: &mut Random, alive: &Alive);
    fn clear(&mut self);
    fn len(&self) -> usize;
    /// A number for each entry, in their order.
    fn numbers(&self) -> impl DoubleEndedIterator<Item = u64>;
    /// The same for a collection that is used up.
    fn into_numbers(self) -> impl DoubleEndedIterator<Item = u64>;
    fn std_numbers(std: &Self::Std) -> Vec<u64>;
    /// Checks the invariants of a whole family. Returns how many pieces of memory were lost.
    fn audit(family: &[&Self]) -> usize;
    /// Bytes that the family has.
    fn bytes(&self) -> usize;
}

/// Keys lie below this, so that changes meet what is there.
const KEYS: u64 = 200;

fn number(key: u64, value: u64) -> u64 {
    key << 32 | value
}

impl<T: Content> Collection for Map<T, T> {
    type Std = BTreeMap<u64, u64>;

    fn of(entries: u64, alive: &Alive) -> (Self, Self::Std) {
        let entry = |number| (T::of(number, alive), T::of(number + 1, alive));
        ((0..entries).map(entry).collect(), (0..entries).map(|it| (it, it + 1)).collect())
    }
    fn change(&mut self, std: &mut Self::Std, random: &mut Random, alive: &Alive) {
        let (key, value) = (random.below(KEYS), random.below(1000));
        if random.below(3) > 0 {
            let old = self.insert(T::of(key, alive), T::of(value, alive));
            assert_eq!(old.as_ref().map(T::number), std.insert(key, value));
        } else {
            let old = self.remove(&T::of(key, alive));
            assert_eq!(old.as_ref().map(T::number), std.remove(&key));
        }
    }
    fn clear(&mut self) {
        self.clear();
    }
    fn len(&self) -> usize {
        self.len()
    }
    fn numbers(&self) -> impl DoubleEndedIterator<Item = u64> {
        self.iter().map(|(key, value)| number(key.number(), value.number()))
    }
    fn into_numbers(self) -> impl DoubleEndedIterator<Item = u64> {
        self.into_iter().map(|(key, value)| number(key.number(), value.number()))
    }
    fn std_numbers(std: &Self::Std) -> Vec<u64> {
        std.iter().map(|(key, value)| number(*key, *value)).collect()
    }
    fn audit(family: &[&Self]) -> usize {
        audit(&family.iter().map(|it| &it.tree).collect::<Vec<_>>())
    }
    fn bytes(&self) -> usize {
        self.tree.family().pool().unwrap().slab_bytes()
    }
}

impl<T: Content> Collection for Set<T> {
    type Std = BTreeSet<u64>;

    fn of(entries: u64, alive: &Alive) -> (Self, Self::Std) {
        ((0..entries).map(|number| T::of(number, alive)).collect(), (0..entries).collect())
    }
    fn change(&mut self, std: &mut Self::Std, random: &mut Random, alive: &Alive) {
        let key = random.below(KEYS);
        if random.below(3) > 0 {
            assert_eq!(self.insert(T::of(key, alive)), std.insert(key));
        } else {
            assert_eq!(self.remove(&T::of(key, alive)), std.remove(&key));
        }
    }
    fn clear(&mut self) {
        self.clear();
    }
    fn len(&self) -> usize {
        self.len()
    }
    fn numbers(&self) -> impl DoubleEndedIterator<Item = u64> {
        self.iter().map(T::number)
    }
    fn into_numbers(self) -> impl DoubleEndedIterator<Item = u64> {
        self.into_iter().map(|key| key.number())
    }
    fn std_numbers(std: &Self::Std) -> Vec<u64> {
        std.iter().copied().collect()
    }
    fn audit(family: &[&Self]) -> usize {
        audit(&family.iter().map(|it| &it.map.tree).collect::<Vec<_>>())
    }
    fn bytes(&self) -> usize {
        self.map.tree.family().pool().unwrap().slab_bytes()
    }
}

impl<T: Content> Collection for Vector<T> {
    type Std = Vec<u64>;

    fn of(entries: u64, alive: &Alive) -> (Self, Self::Std) {
        ((0..entries).map(|number| T::of(number, alive)).collect(), (0..entries).collect())
    }
    fn change(&mut self, std: &mut Self::Std, random: &mut Random, alive: &Alive) {
        let (index, value) = (random.below(std.len() as u64 + 1) as usize, random.below(1000));
        match random.below(3) {
            0 if index < std.len() => assert_eq!(self.remove(index).number(), std.remove(index)),
            1 if index < std.len() => {
                let old = self.replace(index, T::of(value, alive));
                assert_eq!(old.number(), std::mem::replace(&mut std[index], value));
            }
            _ => {
                self.insert(index, T::of(value, alive));
                std.insert(index, value);
            }
        }
    }
    fn clear(&mut self) {
        self.clear();
    }
    fn len(&self) -> usize {
        self.len()
    }
    fn numbers(&self) -> impl DoubleEndedIterator<Item = u64> {
        self.iter().map(T::number)
    }
    fn into_numbers(self) -> impl DoubleEndedIterator<Item = u64> {
        self.into_iter().map(|element| element.number())
    }
    fn std_numbers(std: &Self::Std) -> Vec<u64> {
        std.clone()
    }
    fn audit(family: &[&Self]) -> usize {
        audit_sequences(&family.iter().map(|it| &it.tree).collect::<Vec<_>>())
    }
    fn bytes(&self) -> usize {
        self.tree.family().pool().unwrap().slab_bytes()
    }
}

fn assert_same<C: Collection>(one: &C, std: &C::Std) {
    let expected = C::std_numbers(std);
    assert_eq!(one.len(), expected.len());
    assert!(one.numbers().eq(expected.iter().copied()));
    assert!(one.numbers().rev().eq(expected.iter().rev().copied()));
    assert_eq!(
        (format!("{one:?}"), format!("{one:#?}")),
        (format!("{std:?}"), format!("{std:#?}"))
    );
}

fn assert_sound<C: Collection>(family: &[&C]) {
    assert_eq!(C::audit(family), 0, "pieces of memory were lost");
}

/// A collection after `changes` random changes.
fn changed<C: Collection>(
    entries: u64,
    changes: usize,
    random: &mut Random,
    alive: &Alive,
) -> (C, C::Std) {
    let (mut one, mut std) = C::of(entries, alive);
    (0..changes).for_each(|_| one.change(&mut std, random, alive));
    (one, std)
}

fn it_has_the_content_of_the_standard_one<C: Collection>() {
    let (alive, mut random) = (Alive::default(), Random(1));
    assert_same(&C::default(), &C::Std::default());
    for entries in [0, 1, 31, 32, 33, 500, 1500] {
        let (one, std) = changed::<C>(entries, 300, &mut random, &alive);
        assert_same(&one, &std);
        assert_sound(&[&one]);
        let mut expected = C::std_numbers(&std).into_iter();
        let (fork, mut numbers) = (one.clone(), one.into_numbers());
        while let Some(number) = numbers.next() {
            assert_eq!(Some(number), expected.next());
            assert_eq!(numbers.next_back(), expected.next_back());
        }
        assert_eq!(expected.next(), None);
        assert_same(&fork, &std);
    }
}

/// Value semantics: a change of one collection changes no other, however they descend from each
/// other, and whichever go first.
fn forks_of_forks_are_values<C: Collection>() {
    let (alive, mut random) = (Alive::default(), Random(2));
    let mut family = vec![C::of(150, &alive)];
    for step in 0..60 {
        let which = random.below(family.len() as u64) as usize;
        match random.below(4) {
            0 if family.len() < 10 => family.push(family[which].clone()),
            1 if family.len() > 1 => drop(family.swap_remove(which)),
            _ => {
                let (one, std) = &mut family[which];
                (0..10).for_each(|_| one.change(std, &mut random, &alive));
            }
        }
        if step % 10 == 0 {
            family.iter().for_each(|(one, std)| assert_same(one, std));
        }
        assert_sound(&family.iter().map(|(one, _)| one).collect::<Vec<_>>());
    }
    drop(family);
    assert_eq!(alive.load(SeqCst), 0, "contents that were never dropped");
}

fn forks_live_and_go_on_any_thread<C: Collection>() {
    let alive = Alive::default();
    let (base, base_std) = C::of(400, &alive);
    let many_forks = &|thread| {
        let mut random = Random(thread);
        let mut forks = Vec::new();
        for _ in 0..8 {
            // All threads clone the same handle at once.
            let (mut fork, mut std) = (base.clone(), base_std.clone());
            (0..5).for_each(|_| fork.change(&mut std, &mut random, &alive));
            forks.push((fork.clone(), std.clone()));
            fork.change(&mut std, &mut random, &alive);
            forks.push((fork, std));
            let gone = random.below(forks.len() as u64) as usize;
            let (fork, std) = forks.swap_remove(gone);
            let elsewhere = move || {
                assert_same(&fork, &std);
                drop(fork);
            };
            std::thread::spawn(elsewhere).join().unwrap();
        }
        forks.iter().for_each(|(fork, std)| assert_same(fork, std));
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|id| scope.spawn(move || many_forks(id))).collect();
        threads.into_iter().for_each(|it| it.join().unwrap());
    });
    assert_same(&base, &base_std);
    assert_sound(&[&base]);
    drop(base);
    assert_eq!(alive.load(SeqCst), 0, "contents that were never dropped");
}

fn a_clone_copies_nothing<C: Collection>() {
    let alive = Alive::default();
    let (mut one, mut std) = C::of(5000, &alive);
    drop(one.clone());
    let (contents, bytes) = (alive.load(SeqCst), one.bytes());
    let clones: Vec<C> = (0..1000).map(|_| one.clone()).collect();
    assert_eq!((alive.load(SeqCst), one.bytes()), (contents, bytes));
    one.change(&mut std, &mut Random(1), &alive);
    assert!((alive.load(SeqCst) - contents).abs() < 8, "a change copies contents all over");
    drop(one);
    assert!(clones.iter().all(|clone| clone.numbers().eq(clones[0].numbers())));
}

fn clones_keep_what_is_cleared<C: Collection>() {
    let alive = Alive::default();
    let (mut one, std) = C::of(300, &alive);
    let fork = one.clone();
    one.clear();
    assert_same(&one, &C::Std::default());
    assert_same(&fork, &std);
    assert_eq!(one, C::default());
    let contents = alive.load(SeqCst);
    let taken = std::mem::take(&mut one);
    drop((taken, one, fork));
    assert!(contents == 0 || alive.load(SeqCst) == 0);
}

fn comparisons_are_those_of_the_contents<C: Collection + Hash>() {
    let (alive, mut random, hasher) = (Alive::default(), Random(3), RandomState::new());
    let (base, base_std) = C::of(40, &alive);
    let mut all = vec![(base.clone(), base_std.clone()), (C::default(), C::Std::default())];
    for changes in 0..12 {
        let (mut one, mut std) = (base.clone(), base_std.clone());
        (0..changes % 4).for_each(|_| one.change(&mut std, &mut random, &alive));
        all.push((one, std));
        // The same content with another history.
        all.push(changed(KEYS, 0, &mut random, &alive));
        all.push(changed(30, changes, &mut random, &alive));
    }
    for (a, x) in &all {
        for (b, y) in &all {
            assert_eq!((a.cmp(b), a.partial_cmp(b)), (x.cmp(y), x.partial_cmp(y)));
            assert_eq!((a == b, a != b), (x == y, x != y));
            assert!(a != b || hasher.hash_one(a) == hasher.hash_one(b));
        }
    }
}

/// What serde writes is what it writes of the standard one, byte for byte, and reads back.
fn serde_takes_it_for_the_standard_one<C: Collection + Serialize + DeserializeOwned>() {
    let (alive, mut random) = (Alive::default(), Random(4));
    for entries in [0, 1, 40, 1100] {
        let (one, std) = changed::<C>(entries, 200, &mut random, &alive);
        let bytes = bincode::serde::encode_to_vec(&one, bincode::config::standard()).unwrap();
        let expected = bincode::serde::encode_to_vec(&std, bincode::config::standard()).unwrap();
        assert_eq!(bytes, expected);
        let (back, _): (C, _) =
            bincode::serde::decode_from_slice(&bytes, bincode::config::standard()).unwrap();
        assert_same(&back, &std);
        let text = serde_json::to_string(&one).unwrap();
        assert_eq!(text, serde_json::to_string(&std).unwrap());
        let back: C = serde_json::from_str(&text).unwrap();
        assert_same(&back, &std);
        assert_sound(&[&back]);
    }
}

fn panics_leak_at_most<C: Collection>() {
    for bomb in Bomb::ALL {
        for after in 0..60 {
            let (alive, mut random) = (Alive::default(), Random(after));
            let (mut one, mut std) = C::of(100, &alive);
            let (base, base_std) = (one.clone(), std.clone());
            bomb.explode(after, || {
                (0..10).for_each(|_| one.change(&mut std, &mut random, &alive));
                drop(one.clone());
            });
            assert_same(&base, &base_std);
            C::audit(&[&one, &base]);
            assert_eq!(one.numbers().count(), one.len());
            drop(base);
            C::audit(&[&one]);
            drop(one);
            assert!(alive.load(SeqCst) >= 0, "something was dropped twice");
        }
    }
}

fn it_goes_where_the_standard_one_goes<C: Collection + Unpin + UnwindSafe + RefUnwindSafe>() {}

macro_rules! laws {
    ($($name:ident: $of_numbers:ty, $of_counted:ty;)*) => {$(
        mod $name {
            use super::*;

            laws! { @plain $of_numbers:
                serde_takes_it_for_the_standard_one
                comparisons_are_those_of_the_contents
                it_goes_where_the_standard_one_goes
            }
            laws! { @both $of_numbers, $of_counted:
                it_has_the_content_of_the_standard_one
                forks_of_forks_are_values
                forks_live_and_go_on_any_thread
                a_clone_copies_nothing
                clones_keep_what_is_cleared
                panics_leak_at_most
            }
        }
    )*};
    (@plain $of_numbers:ty: $($law:ident)*) => {$(
        #[test]
        fn $law() {
            super::$law::<$of_numbers>();
        }
    )*};
    (@both $of_numbers:ty, $of_counted:ty: $($law:ident)*) => {$(
        #[test]
        fn $law() {
            super::$law::<$of_numbers>();
            super::$law::<$of_counted>();
        }
    )*};
}

laws! {
    map: Map<u64, u64>, Map<Counted, Counted>;
    set: Set<u64>, Set<Counted>;
    vector: Vector<u64>, Vector<Counted>;
}
