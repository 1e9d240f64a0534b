//! Vectors are to the standard traits what a `Vec` is, and find what it finds.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};

use super::*;

fn vectors(random: &mut Random) -> (Vec<u64>, Vector<u64>) {
    let most = if random.below(4) == 0 { 100 } else { 3 };
    let numbers: Vec<u64> = (0..random.below(most)).map(|_| random.below(3)).collect();
    (numbers.clone(), Vector::from(numbers))
}

#[test]
fn comparisons_and_hashes_are_those_of_a_vec() {
    let mut random = Random(1);
    let hash = BuildHasherDefault::<DefaultHasher>::default();
    for _ in 0..300 {
        let ((a, x), (b, y)) = (vectors(&mut random), vectors(&mut random));
        assert_eq!((a == b, a.cmp(&b)), (x == y, x.cmp(&y)));
        assert_eq!(a.partial_cmp(&b), x.partial_cmp(&y));
        let strings: Vec<String> = a.iter().map(u64::to_string).collect();
        assert_eq!(hash.hash_one(Vector::from(strings.clone())), hash.hash_one(strings));
        assert_eq!((format!("{a:?}"), format!("{a:#?}")), (format!("{x:?}"), format!("{x:#?}")));
        assert_eq!(Vec::from(x.clone()), x.to_vec());
        assert_eq!(x.contains(&2), a.contains(&2));
    }
    assert!(Vector::from([f64::NAN]) != Vector::from([f64::NAN]));
}

#[test]
fn a_sequence_that_breaks_off_is_an_error() {
    let broken = serde_json::from_str::<Vector<String>>("[\"a\", \"b\", 3]");
    assert!(broken.unwrap_err().to_string().contains("expected a string"));
}

#[test]
fn searches_are_those_of_a_vec() {
    let mut random = Random(2);
    for len in [0, 1, 2, 31, 32, 33, 1000, 3000] {
        let mut numbers: Vec<u64> = (0..len).map(|_| 2 * random.below(2 * len)).collect();
        numbers.sort_unstable();
        numbers.dedup();
        let vector: Vector<u64> = numbers.iter().copied().collect();
        for wanted in 0..4 * len + 2 {
            assert_eq!(vector.binary_search(&wanted), numbers.binary_search(&wanted));
            let (key, twice) = (wanted * 2, |number: &u64| number * 2);
            let found = vector.binary_search_by_key(&key, twice);
            assert_eq!(found, numbers.binary_search_by_key(&key, twice));
            let point = vector.partition_point(|&number| number < wanted);
            assert_eq!(point, numbers.partition_point(|&number| number < wanted));
        }
    }
}

#[test]
fn places_that_are_not_there_panic_and_change_nothing() {
    type Work = fn(&mut Vector<u64>);
    let works: BTreeMap<&str, Work> = BTreeMap::from([
        ("index", (|it| assert_eq!(it[40], 0)) as Work),
        ("index_mut", |it| it[40] = 1),
        ("set", |it| it.set(40, 1)),
        ("replace", |it| assert_eq!(it.replace(40, 1), 1)),
        ("insert", |it| it.insert(41, 1)),
        ("remove", |it| assert_eq!(it.remove(40), 1)),
        ("swap", |it| it.swap(40, 40)),
        ("swap first", |it| it.swap(40, 0)),
        ("split_off", |it| drop(it.split_off(41))),
        ("range", |it| assert!(it.range(..41).len() > 0)),
        ("inclusive range", |it| assert!(it.range(..=40).len() > 0)),
        ("endless range", |it| assert!(it.range(..=usize::MAX).len() > 0)),
        ("range backwards", |it| {
            let (from, to) = (3, 2);
            assert!(it.range(from..to).len() > 0);
        }),
    ]);
    for (name, work) in works {
        let mut vector: Vector<u64> = (0..40).collect();
        let base = vector.clone();
        let work = std::panic::AssertUnwindSafe(|| work(&mut vector));
        let message = std::panic::catch_unwind(work).expect_err(name);
        let message = message.downcast_ref::<String>().expect(name);
        assert!(message.contains("in a vector of 40"), "{name}: {message}");
        assert_eq!(vector, base, "{name}");
        assert_sound(&[&vector, &base]);
    }
}

#[test]
fn a_vector_crosses_threads_as_an_arc_does() {
    fn crosses<T: Send + Sync>() {}
    crosses::<Vector<u64>>();
    crosses::<crate::collections::VectorIter<'_, u64>>();
    static EMPTY: Vector<u64> = Vector::new();
    assert!(EMPTY.is_empty());
}
