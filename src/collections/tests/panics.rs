//! A panic of a user's `Clone`, `Drop` or `Ord` at any call: nothing is corrupt, nothing is dropped
//! twice, and other versions are as they were.

use std::sync::atomic::Ordering::SeqCst;

use super::content::{Alive, Bomb, Content, Counted, Fickle};
use super::*;

/// Arms each kind of bomb at each call, and does `work` on a fork.
fn at_every_call<C: Content>(work: impl Fn(&mut Map<C, C>, &dyn Fn(u64) -> C)) {
    for bomb in Bomb::ALL {
        for after in 0.. {
            let alive = Alive::default();
            let new = |number| C::of(number, &alive);
            let mut map: Map<_, _> = (0..100).map(|it| (new(2 * it), new(2 * it))).collect();
            let base = map.clone();
            map.put(new(3), new(3));
            let exploded = bomb.explode(after, || work(&mut map, &new)).is_none();
            let expected = (0..100).map(|number| 2 * number);
            assert!(base.keys().map(C::number).eq(expected), "{bomb:?} {after}");
            // Memory may leak after a panic, but everything else holds.
            audit(&[&map.tree, &base.tree]);
            assert_eq!(map.keys().count(), map.len(), "{bomb:?} {after}");
            drop(base);
            audit(&[&map.tree]);
            drop(map);
            let left = alive.load(SeqCst);
            assert!(left >= 0, "{bomb:?} {after}: something was dropped twice");
            if !exploded {
                assert_eq!(left, 0, "{bomb:?} {after}: something was not dropped");
                break;
            }
        }
    }
}

/// For contents in cells, and for contents in the slots.
fn at_every_call_of_both(
    in_cells: impl Fn(&mut Map<Counted, Counted>, &dyn Fn(u64) -> Counted),
    in_slots: impl Fn(&mut Map<Fickle, Fickle>, &dyn Fn(u64) -> Fickle),
) {
    at_every_call(in_cells);
    at_every_call(in_slots);
}

macro_rules! survives {
    ($($name:ident: |$map:ident, $new:ident| $work:block)*) => {$(
        #[test]
        fn $name() {
            at_every_call_of_both(|$map, $new| $work, |$map, $new| $work);
        }
    )*};
}

survives! {
    puts_survive: |map, new| {
        for number in [7, 8, 4, 4000, 9, 11, 13, 15, 17, 19, 21, 23] {
            map.put(new(number), new(number));
            map.insert(new(number), new(number + 1));
        }
    }
    removals_survive: |map, new| {
        for number in (0..36).rev() {
            map.remove(&new(2 * number));
        }
    }
    changes_in_place_survive: |map, new| {
        for number in [0, 2, 100, 102] {
            *map.get_mut(&new(number)).unwrap() = new(1);
        }
        for value in map.values_mut() {
            *value = new(5);
        }
    }
    other_ends_survive: |map, new| {
        let mut other: Map<_, _> = [(new(300), new(1)), (new(7), new(2))].into();
        map.append(&mut other);
        map.retain(|key, _| key.number() % 3 != 0);
        map.pop_last();
        assert_eq!(map.clone().into_iter().take(3).count(), 3);
    }
    the_end_survives: |map, _new| {
        let fork = map.clone();
        *map = Map::new();
        drop(fork);
    }
}
