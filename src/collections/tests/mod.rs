//! Tests of the collections: random lives beside a `BTreeMap`, with an audit after every step.

mod lives;
mod memory;
mod panics;
mod planted;
mod vector;

use std::cell::RefCell;
use std::cmp::Ordering;
use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::SeqCst};

use super::Map;
use super::tree::audit;

/// Checks all invariants of a family, and that no memory was lost.
fn assert_sound<K: Ord + Debug, V>(family: &[&Map<K, V>]) {
    let trees: Vec<_> = family.iter().map(|map| &map.tree).collect();
    assert_eq!(audit(&trees), 0, "pieces of memory were lost");
}

/// A generator of numbers that is the same on every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// A key or value that owns memory, and is counted while it lives.
struct Counted {
    number: Box<u64>,
    alive: Arc<AtomicI64>,
}

impl Counted {
    fn new(number: u64, alive: &Arc<AtomicI64>) -> Self {
        alive.fetch_add(1, SeqCst);
        Self { number: Box::new(number), alive: alive.clone() }
    }
}

impl Clone for Counted {
    fn clone(&self) -> Self {
        bomb(&CLONES);
        Self::new(*self.number, &self.alive)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.alive.fetch_sub(1, SeqCst);
        bomb(&DROPS);
    }
}

impl Debug for Counted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.number.fmt(f)
    }
}

impl PartialEq for Counted {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl Eq for Counted {}

impl PartialOrd for Counted {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Counted {
    fn cmp(&self, other: &Self) -> Ordering {
        bomb(&COMPARISONS);
        self.number.cmp(&other.number)
    }
}

thread_local! {
    /// After so many calls one panics; `None`: none does.
    static CLONES: RefCell<Option<u64>> = const { RefCell::new(None) };
    static DROPS: RefCell<Option<u64>> = const { RefCell::new(None) };
    static COMPARISONS: RefCell<Option<u64>> = const { RefCell::new(None) };
}

type Bomb = std::thread::LocalKey<RefCell<Option<u64>>>;

fn bomb(bomb: &'static Bomb) {
    let explodes = bomb.with_borrow_mut(|left| match left {
        Some(0) => {
            *left = None;
            true
        }
        Some(left) => {
            *left -= 1;
            false
        }
        None => false,
    });
    if explodes && !std::thread::panicking() {
        panic!("a user's code panics");
    }
}
