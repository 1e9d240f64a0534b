//! A panic of a user's `Clone`, `Drop` or `Ord` at any call: nothing is corrupt, nothing is dropped
//! twice, and other versions are as they were.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::*;

/// Arms each kind of bomb at each call, and does `work` on a fork.
fn at_every_call(work: impl Fn(&mut Map<Counted, Counted>, &Arc<AtomicI64>)) {
    for (kind, bomb) in [&CLONES, &DROPS, &COMPARISONS].into_iter().enumerate() {
        let mut explosions = 0;
        for at in 0..1000 {
            let alive: Arc<AtomicI64> = Arc::default();
            let entry = |number| (Counted::new(number, &alive), Counted::new(number, &alive));
            let mut map: Map<_, _> = (0..200).map(|number| entry(2 * number)).collect();
            let base = map.clone();
            map.put(Counted::new(3, &alive), Counted::new(3, &alive));
            let before: Vec<u64> = base.keys().map(|key| *key.number).collect();
            bomb.set(Some(at));
            let exploded = catch_unwind(AssertUnwindSafe(|| work(&mut map, &alive))).is_err();
            bomb.set(None);
            assert!(base.keys().map(|key| *key.number).eq(before), "{kind} {at}");
            // Memory may leak after a panic, but everything else holds.
            audit(&[&map.tree, &base.tree]);
            let keys: Vec<u64> = map.keys().map(|key| *key.number).collect();
            assert_eq!(keys.len(), map.len(), "{kind} {at}");
            drop(base);
            audit(&[&map.tree]);
            drop(map);
            let left = alive.load(SeqCst);
            assert!(left >= 0, "{kind} {at}: something was dropped twice");
            if !exploded {
                assert_eq!(left, 0, "{kind} {at}: something was not dropped");
                break;
            }
            explosions += 1;
        }
        println!("{kind}: {explosions} panics");
    }
}

#[test]
fn puts_survive() {
    at_every_call(|map, alive| {
        for number in [7, 8, 4, 4000, 9, 11, 13, 15, 17, 19, 21, 23] {
            map.put(Counted::new(number, alive), Counted::new(number, alive));
            map.insert(Counted::new(number, alive), Counted::new(number + 1, alive));
        }
    });
}

#[test]
fn removals_survive() {
    at_every_call(|map, alive| {
        for number in (0..120).rev() {
            map.remove(&Counted::new(number, alive));
        }
    });
}

#[test]
fn changes_in_place_survive() {
    at_every_call(|map, alive| {
        for number in [0, 2, 100, 102] {
            *map.get_mut(&Counted::new(number, alive)).unwrap() = Counted::new(1, alive);
        }
        for value in map.values_mut() {
            *value = Counted::new(5, alive);
        }
    });
}

#[test]
fn the_end_survives() {
    at_every_call(|map, _| {
        let fork = map.clone();
        *map = Map::new();
        drop(fork);
    });
}
