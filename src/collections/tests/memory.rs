//! Memory goes back: versions that nobody needs keep nothing, and slabs shrink after a peak.

use super::*;
use crate::collections::shape::Kind;

/// How many pieces a family has, and how many of them lie in its pool.
fn pieces<K, V>(map: &Map<K, V>, kind: Kind) -> (usize, usize) {
    map.tree.family().pool().unwrap().pieces(kind)
}

fn slab_bytes<K, V>(map: &Map<K, V>) -> usize {
    map.tree.family().pool().unwrap().slab_bytes()
}

#[test]
fn a_rollback_keeps_nothing() {
    let mut random = Random(1);
    let mut map: Map<u64, u64> = (0..1000).map(|key| (key, key)).collect();
    for _ in 0..300 {
        let base = map.clone();
        for _ in 0..50 {
            map.put(random.below(1000), 1);
        }
        map = base;
        map.put(random.below(1000), 1);
    }
    assert_sound(&[&map]);
    let (leaves, _) = pieces(&map, Kind::Leaf);
    assert!(leaves <= 4 * 1000 / 16, "{leaves} leaves");
}

#[test]
fn a_history_with_a_ring_of_versions_keeps_only_what_differs() {
    let mut random = Random(2);
    let mut map: Map<u64, u64> = (0..10_000).map(|key| (key, key)).collect();
    let mut ring = std::collections::VecDeque::new();
    for _ in 0..2000 {
        for _ in 0..10 {
            map.put(random.below(10_000), 1);
        }
        ring.push_back(map.clone());
        if ring.len() > 8 {
            ring.pop_front();
        }
    }
    let (leaves, _) = pieces(&map, Kind::Leaf);
    assert!(leaves < 2000, "{leaves} leaves for 313 and 8 times at most 10 copies");
    let mut family: Vec<_> = ring.iter().collect();
    family.push(&map);
    assert_sound(&family);
}

#[test]
fn an_open_handle_whose_base_went_keeps_nothing() {
    let mut random = Random(3);
    let mut map: Map<u64, [u64; 4]> = (0..100_000).map(|key| (key, [key; 4])).collect();
    let base = map.clone();
    map.put(1, [1; 4]);
    drop(base);
    for _ in 0..300_000 {
        map.put(random.below(100_000), [2; 4]);
    }
    let (leaves, _) = pieces(&map, Kind::Leaf);
    assert!(leaves < 2 * 100_000 / 32 + 3 * 4096, "{leaves} leaves");
    drop(map.clone());
    map.put(1, [1; 4]);
    assert_sound(&[&map]);
}

#[test]
fn slabs_shrink_after_a_peak() {
    let mut map: Map<u64, [u64; 13]> = (0..200_000).map(|key| (key, [key; 13])).collect();
    let peak = slab_bytes(&map);
    for key in 0..199_000 {
        map.remove(&key);
    }
    drop(map.clone()); // what this handle holds in reserve stays with it
    let mut other = map.clone();
    other.put(0, [0; 13]);
    drop(map);
    let left = slab_bytes(&other);
    assert!(left < peak / 4, "{left} of {peak} bytes");
    assert_sound(&[&other]);
}

#[test]
fn small_maps_are_small() {
    let empty: Map<u64, u64> = Map::new();
    assert!(empty.clone().is_empty());
    assert_eq!(size_of::<Map<u64, u64>>(), 40);
    let mut one = Map::new();
    one.put(1_u64, 1_u64);
    assert!(slab_bytes(&one) <= 600, "{}", slab_bytes(&one));
}

#[test]
fn keys_in_descending_order_behind_a_full_leaf_share_leaves() {
    let mut map: Map<u64, u64> = (0..32).map(|key| (key, key)).collect();
    for key in (1000..2000).rev() {
        map.put(key, key);
    }
    assert_sound(&[&map]);
    let (leaves, _) = pieces(&map, Kind::Leaf);
    assert!(leaves < 2 * 1032 / 16, "{leaves} leaves");
}
