//! Owns collections whose entries are decoded when they are touched, out of memory instead of a
//! file: the lives of the other tests may begin with them.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex};

use super::content::{Alive, Content};
use crate::codec::{DecodeError, LateObserver, PartDecoder, StoredParts};
use crate::collections::tree::{DecodeEntry, Sequence, Tree};
use crate::collections::{Map, Vector};

/// Nobody is told of a failure: the method that fails panics, and that is what lives expect.
struct Nobody;

impl LateObserver for Nobody {
    fn loaded(&self, _: std::time::Duration) {}

    fn failed(&self, _: &str) {}
}

/// Where contents are counted that are decoded on any thread, later.
static ALIVE: LazyLock<Mutex<HashMap<u64, Alive>>> = LazyLock::new(Mutex::default);

fn register(alive: &Alive) -> u64 {
    let address = Arc::as_ptr(alive).addr() as u64;
    ALIVE.lock().unwrap().insert(address, alive.clone());
    address
}

/// An entry is written as the place of its counter, and its two numbers.
struct Numbers;

fn decode<const LIMIT: usize>(
    decoder: &mut PartDecoder<'_, LIMIT>,
) -> Result<(u64, Alive), DecodeError> {
    let address: u64 = decoder.decode()?;
    // A child of a fork may have inherited the lock, but the lives fork on the only thread.
    let alive = ALIVE.lock().unwrap()[&address].clone();
    Ok((decoder.decode()?, alive))
}

impl<K: Content, V: Content> DecodeEntry<K, V> for Numbers {
    fn key<const LIMIT: usize>(decoder: &mut PartDecoder<'_, LIMIT>) -> Result<K, DecodeError> {
        decode(decoder).map(|(number, alive)| K::of(number, &alive))
    }

    fn value<const LIMIT: usize>(decoder: &mut PartDecoder<'_, LIMIT>) -> Result<V, DecodeError> {
        decode(decoder).map(|(number, alive)| V::of(number, &alive))
    }

    fn are_ordered(first: &K, second: &K) -> bool {
        first < second
    }

    fn are_same(first: &K, second: &K) -> bool {
        first == second
    }
}

/// The same without keys.
struct Number;

impl<V: Content> DecodeEntry<(), V> for Number {
    fn key<const LIMIT: usize>(_: &mut PartDecoder<'_, LIMIT>) -> Result<(), DecodeError> {
        Ok(())
    }

    fn value<const LIMIT: usize>(decoder: &mut PartDecoder<'_, LIMIT>) -> Result<V, DecodeError> {
        decode(decoder).map(|(number, alive)| V::of(number, &alive))
    }

    fn are_ordered((): &(), (): &()) -> bool {
        true
    }

    fn are_same((): &(), (): &()) -> bool {
        true
    }
}

fn encode(numbers: &[u64]) -> Vec<u8> {
    let config = bincode::config::standard();
    numbers.iter().flat_map(|it| bincode::serde::encode_to_vec(it, config).unwrap()).collect()
}

/// Returns a map with these entries, in parts of so many; `None` if it would have but one.
pub(super) fn map<K: Content, V: Content>(
    entries: &[(u64, u64)],
    part_entries: usize,
    alive: &Alive,
) -> Option<Map<K, V>> {
    let alive = register(alive);
    let parts = entries.chunks(part_entries).map(|part| {
        let key = encode(&[alive, part[0].0]);
        let entry = |&(key, value): &(u64, u64)| encode(&[alive, key, alive, value]);
        (part.len() as u64, key, part.iter().flat_map(entry).collect())
    });
    let parts = StoredParts::in_memory(parts.collect(), Arc::new(Nobody));
    Some(Map { tree: Tree::load_on_demand::<Numbers>(&parts)? })
}

/// Returns a vector with these elements, in parts of so many; `None` if it would have but one.
pub(super) fn vector<V: Content>(
    numbers: &[u64],
    part_entries: usize,
    alive: &Alive,
) -> Option<Vector<V>> {
    let alive = register(alive);
    let parts = numbers.chunks(part_entries).map(|part| {
        let element = |&number: &u64| encode(&[alive, number]);
        (part.len() as u64, Vec::new(), part.iter().flat_map(element).collect())
    });
    let parts = StoredParts::in_memory(parts.collect(), Arc::new(Nobody));
    Some(Vector { tree: Sequence::load_on_demand::<Number>(&parts)? })
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::sync::atomic::Ordering::SeqCst;

    use super::*;
    use crate::collections::tests::content::Counted;
    use crate::collections::tests::processes::in_a_child;
    use crate::collections::tests::{Random, assert_sound};

    const ENTRIES: u64 = 40_000;

    fn counted(part_entries: usize) -> (Map<Counted, Counted>, Alive) {
        let alive = Alive::default();
        let entries: Vec<_> = (0..ENTRIES).map(|key| (3 * key, key)).collect();
        (map(&entries, part_entries, &alive).unwrap(), alive)
    }

    fn number(map: &Map<Counted, Counted>, key: u64) -> Option<u64> {
        map.get(&Counted::of(key, &Alive::default())).map(Content::number)
    }

    #[test]
    fn an_open_decodes_no_value_and_a_get_one_part() {
        let (map, alive) = counted(100);
        assert_eq!(map.len() as u64, ENTRIES);
        let keys = alive.load(SeqCst);
        assert!((1..200).contains(&keys), "one key for each group of parts: {keys}");
        assert_eq!((number(&map, 3), number(&map, 4)), (Some(1), None));
        // The entries of the part, and the keys between the other parts of the group.
        let more = alive.load(SeqCst) - keys;
        assert!((200..300).contains(&more), "{more}");
        assert_sound(&[&map]);
        drop(map);
        assert_eq!(alive.load(SeqCst), 0);
    }

    /// Threads that touch the same entries at the same time: each node becomes warm once.
    #[test]
    fn threads_that_touch_the_same_entries_see_the_same() {
        for round in 0..8 {
            let (map, alive) = counted(1 + round * 29);
            let together = Barrier::new(4);
            std::thread::scope(|scope| {
                for thread in 0..4 {
                    let (map, together, mut own) = (&map, &together, map.clone());
                    scope.spawn(move || {
                        let mut random = Random(thread);
                        together.wait();
                        for _ in 0..400 {
                            let key = random.below(ENTRIES / 20);
                            assert_eq!(number(map, 3 * key), Some(key));
                            let new = Counted::of(3 * key, &Alive::default());
                            own.put(new, Counted::of(7, &Alive::default()));
                        }
                        drop(own);
                    });
                }
            });
            assert_sound(&[&map]);
            assert_eq!(map.iter().count() as u64, ENTRIES);
            assert_sound(&[&map]);
            drop(map);
            assert_eq!(alive.load(SeqCst), 0, "what two threads have made is dropped once");
        }
    }

    /// What a handle has cut away, another one may touch afterwards.
    #[test]
    fn what_one_handle_has_cut_away_another_one_can_touch() {
        let alive = Alive::default();
        let numbers: Vec<u64> = (0..ENTRIES).collect();
        let vector: Vector<Counted> = vector(&numbers, 50, &alive).unwrap();
        let mut cut = vector.clone();
        cut.truncate(1000);
        let again = cut.clone();
        assert!(vector.iter().map(Content::number).eq(0..ENTRIES));
        drop(vector);
        assert!(again.iter().map(Content::number).eq(0..1000));
        drop((cut, again));
        assert_eq!(alive.load(SeqCst), 0);
    }

    #[test]
    fn a_child_of_a_fork_touches_what_its_parent_did_not() {
        let (map, _) = counted(70);
        assert_eq!(number(&map, 30), Some(10));
        in_a_child(|| {
            assert!(map.values().map(Content::number).eq(0..ENTRIES));
            let mut own = map.clone();
            own.put(Counted::of(1, &Alive::default()), Counted::of(5, &Alive::default()));
            assert_eq!(own.len() as u64, ENTRIES + 1);
        });
        assert_eq!(number(&map, 300), Some(100));
        assert_sound(&[&map]);
    }

    /// A part whose keys are not where the nodes above say is not let in.
    #[test]
    fn keys_that_are_out_of_place_are_refused() {
        let alive = Alive::default();
        let mut entries: Vec<_> = (0..1000).map(|key| (3 * key, key)).collect();
        let told = |entries: &[(u64, u64)]| {
            let map: Map<Counted, Counted> = map(entries, 20, &alive)?;
            let look = || map.values().map(Content::number).sum::<u64>();
            let looked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(look));
            // Who tries again loses no memory with each try.
            let again = std::panic::catch_unwind(std::panic::AssertUnwindSafe(look));
            assert_eq!(again.is_ok(), looked.is_ok());
            assert_sound(&[&map]);
            looked.err().and_then(|panic| panic.downcast_ref::<String>().cloned())
        };
        assert_eq!(told(&entries), None);
        entries.swap(105, 106);
        let reason = told(&entries).unwrap();
        assert!(reason.contains("not in their order"), "{reason}");
        entries.swap(105, 106);
        entries[119].0 = 3 * 130; // behind the first key of the next part
        let reason = told(&entries).unwrap();
        assert!(reason.contains("not in their order"), "{reason}");
        entries[119].0 = 3 * 119;
        entries[120].0 = 3 * 40; // before the part before: the nodes above cannot be made
        assert!(told(&entries).unwrap().contains("not in their order"));
    }
}
