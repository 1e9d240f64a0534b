//! A panic of a user's `Clone` or `Drop` at any call: nothing is corrupt, nothing is dropped twice, and
//! other versions are as they were.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::*;

/// Arms each kind of bomb at each call, and does `work` on a fork.
fn at_every_call(work: impl Fn(&mut Vector<Counted>, &Arc<AtomicI64>)) {
    for (kind, bomb) in [&CLONES, &DROPS].into_iter().enumerate() {
        // Each of the first calls, and some of the later ones.
        for at in (0..150).chain((150..3000).step_by(37)) {
            let alive: Arc<AtomicI64> = Arc::default();
            let mut vector: Vector<_> =
                (0..1200).map(|number| Counted::new(number, &alive)).collect();
            let base = vector.clone();
            for index in [3, 40, 1199] {
                vector.insert(index, Counted::new(7, &alive));
            }
            bomb.set(Some(at));
            let exploded = catch_unwind(AssertUnwindSafe(|| work(&mut vector, &alive))).is_err();
            bomb.set(None);
            assert!(base.iter().map(|it| *it.number).eq(0..1200), "{kind} {at}");
            // Memory may leak after a panic, but everything else holds.
            audit_sequences(&[&vector.tree, &base.tree]);
            assert_eq!(vector.iter().map(|it| *it.number).count(), vector.len(), "{kind} {at}");
            drop(base);
            audit_sequences(&[&vector.tree]);
            drop(vector);
            let left = alive.load(SeqCst);
            assert!(left >= 0, "{kind} {at}: something was dropped twice");
            if !exploded {
                assert_eq!(left, 0, "{kind} {at}: something was not dropped");
                break;
            }
        }
    }
}

#[test]
fn insertions_survive() {
    at_every_call(|vector, alive| {
        for index in [0, 1, 33, 600, 1100] {
            vector.insert(index, Counted::new(1, alive));
            vector.set(index + 1, Counted::new(2, alive));
            vector.replace(index + 2, Counted::new(3, alive));
        }
        vector.extend((0..70).map(|number| Counted::new(number, alive)));
    });
}

#[test]
fn removals_survive() {
    at_every_call(|vector, _| {
        for index in (100..180).rev() {
            vector.remove(index);
        }
        vector.pop_front();
        vector.pop_back();
        vector.retain(|it| *it.number < 900 || *it.number > 1000);
    });
}

#[test]
fn cuts_survive() {
    at_every_call(|vector, _| {
        let mut tail = vector.split_off(1000);
        vector.truncate(990);
        tail.append(&mut vector.split_off(900));
        vector.truncate(33);
        vector.truncate(1);
    });
}

#[test]
fn changes_in_place_survive() {
    at_every_call(|vector, alive| {
        for index in [0, 2, 100, 102] {
            vector[index] = Counted::new(1, alive);
        }
        vector.swap(3, 1000);
        for element in vector.iter_mut().take(90) {
            *element = Counted::new(5, alive);
        }
    });
}

#[test]
fn the_end_survives() {
    at_every_call(|vector, _| {
        let fork = vector.clone();
        vector.clear();
        drop(fork);
    });
}
