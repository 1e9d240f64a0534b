//! Vectors are small and full, and give memory back.

use super::*;
use crate::collections::shape::{Kind, LEAF_ENTRIES};

/// How many leaves a family uses: those that are neither free nor in reserve are counted only once
/// the handle's reserve went back.
fn leaves<T: Clone>(vector: Vector<T>) -> usize {
    let copy = vector.clone();
    drop(vector);
    let (all, free) = copy.tree.family().pool().unwrap().pieces(Kind::Leaf);
    all - free
}

fn slab_bytes<T>(vector: &Vector<T>) -> usize {
    vector.tree.family().pool().unwrap().slab_bytes()
}

#[test]
fn small_vectors_are_small() {
    let empty: Vector<u64> = Vector::new();
    assert!(empty.clone().is_empty());
    assert_eq!(size_of::<Vector<u64>>(), 40);
    let one = Vector::from([1_u64]);
    assert!(slab_bytes(&one) <= 16 + 32 * 8, "{}", slab_bytes(&one));
    let tiny = Vector::from([1_u8]);
    assert!(slab_bytes(&tiny) <= 16 + 32, "{}", slab_bytes(&tiny));
}

#[test]
fn what_is_appended_or_prepended_fills_the_leaves() {
    let full = 10_000_usize.div_ceil(LEAF_ENTRIES);
    assert_eq!(leaves((0..10_000_u64).collect()), full);
    let mut pushed = Vector::new();
    for number in 0..10_000_u64 {
        pushed.push_back(number);
    }
    assert_sound(&[&pushed]);
    assert_eq!(leaves(pushed), full);
    let mut extended: Vector<u64> = (0..5_000).collect();
    extended.extend(5_000..10_000);
    assert!(extended.iter().copied().eq(0..10_000));
    assert_sound(&[&extended]);
    assert_eq!(leaves(extended), full);
    let mut prepended = Vector::new();
    for number in (0..10_000_u64).rev() {
        prepended.push_front(number);
    }
    assert!(prepended.iter().copied().eq(0..10_000));
    assert_sound(&[&prepended]);
    assert_eq!(leaves(prepended), full);
}

/// The place is between two full leaves, in the middle of a parent and between two parents.
#[test]
fn insertions_at_one_place_fill_the_leaves() {
    for place in [320, 1024, 2048, 2047, 2049, 3001] {
        for step in [0, 1] {
            let mut vector: Vector<u64> = (0..4096).collect();
            let mut expected: Vec<u64> = (0..4096).collect();
            for number in 0..4096 {
                let index = place + step * number;
                vector.insert(index, number as u64);
                expected.insert(index, number as u64);
            }
            assert!(vector.iter().eq(&expected));
            assert_sound(&[&vector]);
            let used = leaves(vector);
            let half_full = 2 * 8192 / LEAF_ENTRIES;
            assert!(
                used <= half_full + 4,
                "{used} leaves, inserting at {place} by steps of {step}"
            );
        }
    }
}

#[test]
fn a_queue_keeps_nothing() {
    let mut queue: Vector<String> = (0..1000).map(|number| number.to_string()).collect();
    let mut older = queue.clone();
    for number in 1000..50_000 {
        queue.push_back(number.to_string());
        assert_eq!(queue.pop_front(), Some((number - 1000).to_string()));
        if number % 100 == 0 {
            older = queue.clone();
        }
    }
    assert_sound(&[&queue, &older]);
    drop(older);
    assert!(slab_bytes(&queue) < 1_000_000, "{}", slab_bytes(&queue));
    assert_sound(&[&queue]);
}

#[test]
fn a_cut_gives_memory_back() {
    let mut vector: Vector<[u64; 13]> = (0..200_000).map(|number| [number; 13]).collect();
    let peak = slab_bytes(&vector);
    vector.truncate(1_000);
    let left = slab_bytes(&vector);
    assert!(left < peak / 4, "{left} of {peak} bytes");
    assert!(vector.iter().map(|it| it[0]).eq(0..1_000));
    assert_sound(&[&vector]);
}

#[test]
fn a_history_with_a_ring_of_versions_keeps_only_what_differs() {
    let mut random = Random(2);
    let mut vector: Vector<u64> = (0..10_000).collect();
    let mut ring = std::collections::VecDeque::new();
    for _ in 0..2000 {
        for _ in 0..5 {
            vector.remove(random.below(vector.len() as u64) as usize);
            vector.insert(random.below(vector.len() as u64) as usize, 1);
        }
        ring.push_back(vector.clone());
        if ring.len() > 8 {
            ring.pop_front();
        }
    }
    let (all, _) = vector.tree.family().pool().unwrap().pieces(Kind::Leaf);
    assert!(all < 2000, "{all} leaves");
    let mut family: Vec<_> = ring.iter().collect();
    family.push(&vector);
    assert_sound(&family);
}
