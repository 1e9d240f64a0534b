//! A panic of a user's `Clone` or `Drop` at any call: nothing is corrupt, nothing is dropped twice,
//! and other versions are as they were.

use super::*;

/// Arms each kind of bomb at each of the first calls and at some of the later ones, and does `work`
/// on a fork.
fn at_every_call<C: Content>(work: impl Fn(&mut Vector<C>, &dyn Fn(u64) -> C)) {
    for bomb in [Bomb::Clone, Bomb::Drop] {
        for after in (0..150).chain((150..).step_by(97)) {
            let alive = Alive::default();
            let new = |number| C::of(number, &alive);
            let mut vector: Vector<_> = (0..1200).map(new).collect();
            let base = vector.clone();
            for index in [3, 40, 1199] {
                vector.insert(index, new(7));
            }
            let exploded = bomb.explode(after, || work(&mut vector, &new)).is_none();
            assert!(base.iter().map(C::number).eq(0..1200), "{bomb:?} {after}");
            // Memory may leak after a panic, but everything else holds.
            audit_sequences(&[&vector.tree, &base.tree]);
            assert_eq!(vector.iter().map(C::number).count(), vector.len(), "{bomb:?} {after}");
            drop(base);
            audit_sequences(&[&vector.tree]);
            drop(vector);
            let left = alive.load(SeqCst);
            assert!(left >= 0, "{bomb:?} {after}: something was dropped twice");
            if !exploded {
                assert_eq!(left, 0, "{bomb:?} {after}: something was not dropped");
                break;
            }
        }
    }
}

/// For elements in cells, and for elements in the slots.
macro_rules! survives {
    ($($name:ident: |$vector:ident, $new:ident| $work:block)*) => {$(
        #[test]
        fn $name() {
            at_every_call::<Counted>(|$vector, $new| $work);
            at_every_call::<Fickle>(|$vector, $new| $work);
        }
    )*};
}

survives! {
    insertions_survive: |vector, new| {
        for index in [0, 1, 33, 600, 1100] {
            vector.insert(index, new(1));
            vector.set(index + 1, new(2));
            vector.replace(index + 2, new(3));
        }
        vector.extend((0..70).map(new));
    }

    removals_survive: |vector, _new| {
        for index in (100..180).rev() {
            vector.remove(index);
        }
        vector.pop_front();
        vector.pop_back();
        vector.retain(|it| it.number() < 900 || it.number() > 1000);
    }

    cuts_survive: |vector, _new| {
        let mut tail = vector.split_off(1000);
        vector.truncate(990);
        tail.append(&mut vector.split_off(900));
        vector.truncate(33);
        vector.truncate(1);
    }

    changes_in_place_survive: |vector, new| {
        for index in [0, 2, 100, 102] {
            vector[index] = new(1);
        }
        vector.swap(3, 1000);
        for element in vector.iter_mut().take(90) {
            *element = new(5);
        }
    }

    the_end_survives: |vector, _new| {
        let fork = vector.clone();
        vector.clear();
        drop(fork);
    }
}
