//! Collections in the child of a fork: it has their values, waits for no lock of its parent, and
//! changes nothing that another handle has.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};

use super::lives::{config, lives_in_processes};
use super::*;
use crate::collections::tree::{Sequence, audit_sequences};
use crate::collections::{Set, Vector};

/// Forks. Returns 0 in the child, which has a minute to end.
fn fork() -> libc::pid_t {
    // SAFETY: the child runs what is tested, and ends by `_exit`.
    let child = unsafe { libc::fork() };
    assert!(child >= 0, "fork failed");
    if child == 0 {
        // SAFETY: a bound on a hang: the signal ends the process.
        unsafe { libc::alarm(60) };
    }
    child
}

/// Ends a child.
fn end<T>(told: std::thread::Result<T>) -> ! {
    // SAFETY: ends the process, and nothing else.
    unsafe { libc::_exit(i32::from(told.is_err())) }
}

fn wait_for(child: libc::pid_t) {
    let mut status = 0;
    // SAFETY: waits for a child of this process.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    assert!(!libc::WIFSIGNALED(status), "signal {} ended the child", libc::WTERMSIG(status));
    assert_eq!(status, 0, "the child panicked");
}

/// Works in a child, and waits until it has ended well.
pub(super) fn in_a_child(work: impl FnOnce()) {
    match fork() {
        0 => end(catch_unwind(AssertUnwindSafe(work))),
        child => wait_for(child),
    }
}

/// Works in this process, and from where the work calls its argument on in a child, too.
fn in_two_processes(work: impl FnOnce(&dyn Fn())) {
    let child = Cell::new(None);
    let told = catch_unwind(AssertUnwindSafe(|| work(&|| child.set(Some(fork())))));
    match child.get().expect("the work calls its argument") {
        0 => end(told),
        child => wait_for(child),
    }
    assert!(told.is_ok(), "the parent panicked");
}

fn assert_sound_sequence<V>(vectors: &[&Vector<V>]) {
    let trees: Vec<&Sequence<V>> = vectors.iter().map(|vector| &vector.tree).collect();
    assert_eq!(audit_sequences(&trees), 0, "pieces of memory were lost");
}

type Texts = Map<u64, String>;
type Oracle = BTreeMap<u64, String>;

fn texts(keys: std::ops::Range<u64>) -> (Texts, Oracle) {
    let entries = || keys.clone().map(|key| (key, key.to_string()));
    (entries().collect(), entries().collect())
}

/// Changes a map and its oracle in many ways.
fn change((map, oracle): (&mut Texts, &mut Oracle), seed: u64) {
    let mut random = Random(seed);
    for _ in 0..300 {
        let (key, text) = (random.below(3000), format!("{seed} {}", random.next()));
        match random.below(6) {
            0 | 1 => assert_eq!(map.insert(key, text.clone()), oracle.insert(key, text)),
            2 => assert_eq!(map.remove(&key), oracle.remove(&key)),
            3 => {
                let both = (map.get_mut(&key), oracle.get_mut(&key));
                if let (Some(one), Some(other)) = both {
                    one.push_str(&text);
                    other.push_str(&text);
                }
            }
            4 => {
                map.entry(key).or_default().push('x');
                oracle.entry(key).or_default().push('x');
            }
            _ => assert_eq!(map.pop_first(), oracle.pop_first()),
        }
    }
    map.values_mut().for_each(|text| text.push('y'));
    oracle.values_mut().for_each(|text| text.push('y'));
    assert!(map.iter().eq(oracle.iter()) && map.iter().rev().eq(oracle.iter().rev()));
}

/// Clones inherited maps through a shared reference, and changes originals and clones in turns.
fn use_inherited(maps: &mut [(Texts, Oracle)]) {
    let mut clones: Vec<(Texts, Oracle)> = Vec::new();
    for (map, oracle) in &*maps {
        clones.push((map.clone(), oracle.clone()));
        clones.push((map.clone(), oracle.clone()));
    }
    let mut seed = 0;
    for (map, oracle) in maps.iter_mut().chain(&mut clones) {
        seed += 1;
        let (before, old) = (map.clone(), oracle.clone());
        change((map, oracle), seed);
        let keys: BTreeSet<u64> = old.keys().chain(oracle.keys()).copied().collect();
        let differ = keys.into_iter().filter(|key| old.get(key) != oracle.get(key)).count();
        assert_eq!(before.diff(map).count(), differ);
        clones_of_own(map, oracle);
    }
    let all: Vec<&(Texts, Oracle)> = maps.iter().chain(&clones).collect();
    for (map, oracle) in &all {
        assert!(map.iter().eq(oracle.iter()));
    }
    assert_sound(&all.iter().map(|(map, _)| map).collect::<Vec<_>>());
    let used_up = clones.swap_remove(0);
    assert!(used_up.0.into_iter().eq(used_up.1));
}

/// What the child has made its own has versions like any other map.
fn clones_of_own(map: &mut Texts, oracle: &Oracle) {
    let before = map.clone();
    map.put(1, "another".to_owned());
    map.retain(|key, _| key % 3 == 1);
    assert!(before.iter().eq(oracle.iter()));
    *map = before;
}

/// A map that is open, one whose clone is alive, and a clean one.
fn three_maps() -> (Vec<(Texts, Oracle)>, Texts) {
    let (open, shared, clean) = (texts(0..2000), texts(500..1800), texts(0..700));
    let version = shared.0.clone();
    drop(clean.0.clone());
    (vec![open, shared, clean], version)
}

#[test]
fn a_child_waits_for_no_lock_of_its_parent() {
    let (mut maps, version) = three_maps();
    let (open, oracle) = &mut maps[0];
    change((open, oracle), 77);
    let held: Vec<_> = maps
        .iter()
        .map(|(map, _)| map.tree.family.clone().expect("something was put in"))
        .collect();
    let locks: Vec<_> = held.iter().map(|family| (family.versions(), family.pool())).collect();
    in_a_child(|| {
        use_inherited(&mut maps);
        drop(std::mem::take(&mut maps));
        assert_eq!(version.len(), 1300);
        drop(version.clone());
        in_a_child(|| drop(version.clone()));
    });
    drop(locks);
    maps.iter().for_each(|(map, oracle)| assert!(map.iter().eq(oracle.iter())));
    drop(held);
    assert_sound(&[&maps[0].0, &maps[1].0, &maps[2].0, &version]);
}

#[test]
fn a_child_has_what_its_parent_had_while_other_threads_change_versions() {
    let (mut maps, version) = three_maps();
    let (shared, done) = (maps[1].0.clone(), Arc::new(AtomicBool::new(false)));
    let threads = [1, 2].map(|seed| {
        let (shared, done, mut random) = (shared.clone(), done.clone(), Random(seed));
        std::thread::spawn(move || {
            while !done.load(Relaxed) {
                let mut mine = shared.clone();
                (0..5).for_each(|_| _ = mine.put(random.below(3000), String::new()));
                drop(mine.clone());
            }
        })
    });
    for seed in 0..60 {
        in_a_child(|| {
            let (map, oracle) = &mut maps[1];
            let copy = (map.clone(), oracle.clone());
            change((map, oracle), seed);
            drop(shared.clone());
            assert!(copy.0.iter().eq(&copy.1));
            drop((std::mem::take(map), copy));
        });
    }
    done.store(true, Relaxed);
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    maps.iter().for_each(|(map, oracle)| assert!(map.iter().eq(oracle.iter())));
    assert_sound(&[&maps[0].0]);
    assert_sound(&[&maps[1].0, &version, &shared]);
}

#[test]
fn the_child_of_a_child_has_its_own_values() {
    let (mut maps, _version) = three_maps();
    in_a_child(|| {
        use_inherited(&mut maps);
        let (open, oracle) = &mut maps[0];
        open.put(5000, "child".to_owned());
        oracle.insert(5000, "child".to_owned());
        in_a_child(|| {
            use_inherited(&mut maps);
            in_a_child(|| use_inherited(&mut maps));
            use_inherited(&mut maps);
        });
        assert_eq!(maps[0].0[&5000], "child");
        use_inherited(&mut maps);
    });
    assert!(!maps[0].0.contains_key(&5000));
}

#[test]
fn a_child_has_vectors_sets_and_maps_of_maps() {
    let mut vector: Vector<String> = (0..3000).map(|it| it.to_string()).collect();
    let mut nested: Map<u64, Map<u64, String>> = Map::new();
    (0..400).for_each(|key| _ = nested.entry(key % 7).or_default().put(key, key.to_string()));
    let set: Set<u64> = (0..500).collect();
    in_a_child(|| {
        let mut other = vector.clone();
        vector.truncate(2000);
        vector.extend((0..500).map(|it| format!("new {it}")));
        vector.remove(10);
        other.insert(1000, "middle".to_owned());
        other.iter_mut().for_each(|text| text.push('!'));
        assert_eq!((vector.len(), other.len()), (2499, 3001));
        assert_eq!((vector[10].as_str(), vector[2498].as_str()), ("11", "new 499"));
        assert_eq!((other[1000].as_str(), other[3000].as_str()), ("middle!", "2999!"));
        assert_sound_sequence(&[&vector, &other]);

        let before = nested.clone();
        nested.values_mut().for_each(|inner| _ = inner.pop_first());
        nested.get_mut(&3).unwrap().put(1000, "inner".to_owned());
        let inner = before[&3].clone();
        assert_eq!((before[&3].len(), nested[&3].len(), inner.len()), (57, 57, 57));
        assert!(before[&3].contains_key(&3) && !nested[&3].contains_key(&3));
        assert_sound(&[&nested, &before]);
        assert_sound(&nested.values().chain([&inner]).collect::<Vec<_>>());

        let mut larger = set.clone();
        larger.insert(500);
        assert_eq!((larger.difference(&set).count(), set.len()), (1, 500));
    });
    assert_eq!((vector.len(), nested[&3].len()), (3000, 57));
    assert_sound_sequence(&[&vector]);
}

fn forking(fork: &dyn Fn()) -> impl Iterator<Item = (u64, String)> {
    let elements = (0..9000_u64).inspect(move |&it| {
        if it == 3333 {
            fork()
        }
    });
    elements.map(|it| (it, it.to_string()))
}

/// A user's iterator forks while a map is built, or a vector grows.
#[test]
fn a_fork_amid_a_change_is_survived() {
    in_two_processes(|fork| {
        let mut map: Texts = forking(fork).collect();
        let oracle: Oracle = (0..9000).map(|it| (it, it.to_string())).collect();
        let mut changed = (map.clone(), oracle.clone());
        change((&mut changed.0, &mut changed.1), 5);
        map.put(9000, "last".to_owned());
        assert!(map.iter().zip(&oracle).all(|(one, other)| one == other));
        assert_eq!(map.len(), 9001);
        assert_sound(&[&map, &changed.0]);
    });
    in_two_processes(|fork| {
        let mut vector: Vector<String> = forking(fork).map(|(_, text)| text).collect();
        let before = vector.clone();
        vector.set(0, "first".to_owned());
        vector.push_back("last".to_owned());
        assert!(before.iter().eq((0..9000).map(|it| it.to_string()).collect::<Vec<_>>().iter()));
        assert_eq!(
            (vector.len(), vector[0].as_str(), vector[8999].as_str()),
            (9001, "first", "8999")
        );
        assert_sound_sequence(&[&vector, &before]);
    });
}

/// A planted fault runs this one: the same lives each time.
#[test]
fn lives_go_on_in_children() {
    let config = proptest::test_runner::Config { max_shrink_iters: 0, ..config(60) };
    let runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    lives_in_processes(runner, 40);
}

#[test]
#[ignore = "minutes, with --release, too"]
fn many_lives_go_on_in_children() {
    lives_in_processes(TestRunner::new(config(5000)), 80);
}
