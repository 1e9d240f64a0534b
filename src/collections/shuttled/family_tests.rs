//! Explores clones, changes and drops of handles of one family.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::SeqCst};

use shuttle::thread;

use super::explore::explore;
use super::tree::{Cursor, Tree, TreeBuilder, audit};

/// A value in a cell, counted while it lives.
#[derive(Debug)]
struct Value {
    number: Box<u64>,
    alive: Arc<AtomicI64>,
}

impl Value {
    fn new(number: u64, alive: &Arc<AtomicI64>) -> Self {
        alive.fetch_add(1, SeqCst);
        Self { number: Box::new(number), alive: alive.clone() }
    }
}

impl Clone for Value {
    fn clone(&self) -> Self {
        Self::new(*self.number, &self.alive)
    }
}

impl Drop for Value {
    fn drop(&mut self) {
        self.alive.fetch_sub(1, SeqCst);
    }
}

type Numbers = Tree<u64, Value>;

/// Two levels, so that a change shares most of the tree.
const ENTRIES: u64 = 80;

fn tree(alive: &Arc<AtomicI64>) -> Numbers {
    let mut builder = TreeBuilder::new();
    for number in 0..ENTRIES {
        builder.push(number, Value::new(number, alive)).expect("the numbers ascend");
    }
    builder.finish()
}

fn numbers(tree: &Numbers) -> Vec<(u64, u64)> {
    let mut cursor = Cursor::first(tree);
    std::iter::from_fn(|| cursor.next()).map(|(key, value)| (*key, *value.number)).collect()
}

/// What is expected of a tree with so many entries in which one value was changed.
fn with(key: u64, value: u64) -> Vec<(u64, u64)> {
    (0..ENTRIES).map(|number| (number, if number == key { value } else { number })).collect()
}

fn assert_sound(family: &[&Numbers]) {
    assert_eq!(audit(family), 0, "pieces of memory were lost");
}

/// Each thread forks, changes its fork, forks that, and drops all in an order of its own, while the
/// others do the same with what they share.
fn forks_and_drops() {
    let alive = Arc::default();
    let base = tree(&alive);
    let threads: Vec<_> = (0..3_u64)
        .map(|id| {
            let (mut fork, alive) = (base.share(), alive.clone());
            thread::spawn(move || {
                fork.put(id, Value::new(100, &alive));
                let child = fork.share();
                fork.remove(&(ENTRIES - 1));
                if id == 0 {
                    drop(fork);
                    assert_eq!(numbers(&child), with(id, 100));
                    return child;
                }
                let grandchild = child.share();
                drop(child);
                assert_eq!(fork.len() as u64, ENTRIES - 1);
                drop(fork);
                assert_eq!(numbers(&grandchild), with(id, 100));
                grandchild
            })
        })
        .collect();
    drop(base);
    let left: Vec<Numbers> = threads.into_iter().map(|it| it.join().unwrap()).collect();
    assert_sound(&left.iter().collect::<Vec<_>>());
    drop(left);
    assert_eq!(alive.load(SeqCst), 0);
}

/// A chain of versions goes from both ends, while the handle at its end changes.
fn a_chain_goes() {
    let alive = Arc::default();
    let mut newest = tree(&alive);
    let mut chain = Vec::new();
    for step in 0..4_u64 {
        chain.push(newest.share());
        newest.put(step * 20, Value::new(100 + step, &alive));
    }
    let second = chain.split_off(2);
    let droppers = [chain, second].map(|versions| thread::spawn(move || drop(versions)));
    newest.put(ENTRIES, Value::new(1, &alive));
    drop(newest.share());
    newest.remove(&0);
    let expected: Vec<_> = numbers(&newest);
    droppers.into_iter().for_each(|it| it.join().unwrap());
    assert_eq!(expected, numbers(&newest));
    assert_sound(&[&newest]);
    newest.own_all();
    assert_sound(&[&newest]);
    drop(newest);
    assert_eq!(alive.load(SeqCst), 0);
}

/// A fork and its parent go on two threads, and what the parent owned is used again at once.
fn a_fork_goes_beside_its_parent() {
    let alive = Arc::default();
    let base = tree(&alive);
    let mut parent = base.share();
    [0, 40, 79].into_iter().for_each(|key| _ = parent.put(key, Value::new(200, &alive)));
    let mut fork = parent.share();
    fork.put(0, Value::new(300, &alive));
    let leaving = thread::spawn(move || drop(fork));
    drop(parent);
    // A handle with nothing in reserve takes what has just become free.
    let mut other = base.share();
    [0, 40, 79].into_iter().for_each(|key| _ = other.put(key, Value::new(key, &alive)));
    leaving.join().unwrap();
    assert_sound(&[&base, &other]);
    assert_eq!((numbers(&base), numbers(&other)), (with(0, 0), with(0, 0)));
    drop((base, other));
    assert_eq!(alive.load(SeqCst), 0);
}

/// Several threads clone one open handle at once: it becomes one version.
fn one_handle_is_shared_at_once() {
    let alive = Arc::default();
    let mut handle = tree(&alive);
    let base = handle.share();
    handle.put(3, Value::new(100, &alive));
    let handle = Arc::new(handle);
    let threads = [0, 1].map(|_| {
        let handle = handle.clone();
        thread::spawn(move || {
            let fork = handle.share();
            drop(handle);
            fork
        })
    });
    drop(handle);
    drop(base);
    let forks = threads.map(|it| it.join().unwrap());
    assert_sound(&forks.each_ref());
    forks.iter().for_each(|fork| assert_eq!(numbers(fork), with(3, 100)));
    drop(forks);
    assert_eq!(alive.load(SeqCst), 0);
}

/// Rollbacks beside readers: a version is taken, changed, given up, and taken again.
fn rollbacks_beside_readers() {
    let alive = Arc::default();
    let published = Arc::new(super::sync::Mutex::new(tree(&alive)));
    let reader = {
        let published = published.clone();
        thread::spawn(move || {
            for _ in 0..3 {
                let version = super::sync::lock(&published).share();
                assert_eq!(version.len() as u64, ENTRIES);
                let value = *version.get(&5).expect("it is never removed").1.number;
                assert!([5, 101].contains(&value), "{value}");
            }
        })
    };
    let mut working = super::sync::lock(&published).share();
    for round in 0..2_u64 {
        let base = working.share();
        working.put(5, Value::new(round, &alive));
        working = base;
        working.put(5, Value::new(101, &alive));
        let next = working.share();
        let old = std::mem::replace(&mut *super::sync::lock(&published), next);
        drop(old);
    }
    reader.join().unwrap();
    let newest = super::sync::lock(&published).share();
    assert_sound(&[&newest, &working, &super::sync::lock(&published)]);
    drop((newest, working, published));
    assert_eq!(alive.load(SeqCst), 0);
}

const TESTS: [(fn(), usize); 5] = [
    (forks_and_drops, 200),
    (a_chain_goes, 200),
    (a_fork_goes_beside_its_parent, 1000),
    (one_handle_is_shared_at_once, 200),
    (rollbacks_beside_readers, 200),
];

#[test]
fn no_order_of_handles_breaks_a_family() {
    TESTS.into_iter().for_each(|(test, schedules)| explore(schedules, test));
}

#[test]
#[ignore = "minutes: a hundred times as many schedules"]
fn no_order_of_handles_breaks_a_family_for_long() {
    TESTS.into_iter().for_each(|(test, schedules)| explore(100 * schedules, test));
}
