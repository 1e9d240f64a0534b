//! What only sets have: the algebra of sets.

use std::collections::BTreeSet;

use super::*;
use crate::collections::Set;

#[test]
fn sets_are_sets() {
    let mut random = Random(1);
    for _ in 0..50 {
        let mut numbers =
            || -> Vec<u64> { (0..random.below(200)).map(|_| random.below(300)).collect() };
        let (a, b) = (numbers(), numbers());
        let (left, right): (Set<u64>, Set<u64>) =
            (a.iter().copied().collect(), b.iter().copied().collect());
        let (x, y): (BTreeSet<u64>, BTreeSet<u64>) =
            (a.into_iter().collect(), b.into_iter().collect());
        assert!(left.union(&right).eq(x.union(&y)));
        assert!(left.intersection(&right).eq(x.intersection(&y)));
        assert!(left.difference(&right).eq(x.difference(&y)));
        assert!(left.symmetric_difference(&right).eq(x.symmetric_difference(&y)));
        assert_eq!(left.is_subset(&right), x.is_subset(&y));
        assert_eq!(left.is_superset(&right), x.is_superset(&y));
        assert_eq!(left.is_disjoint(&right), x.is_disjoint(&y));
    }
}
