//! Owns looking for elements of a vector by their contents. Knows nothing of nodes.

use std::cmp::Ordering;

use super::Vector;

impl<T> Vector<T> {
    /// Returns whether an element is equal to `element`.
    pub fn contains(&self, element: &T) -> bool
    where
        T: PartialEq,
    {
        self.iter().any(|other| other == element)
    }

    /// Looks for `element` in a sorted vector. Returns its index, or else the index at which it
    /// would be. If several elements are equal to it, the index is that of any of them.
    ///
    /// # Errors
    /// The index at which the element could be inserted, if there is none.
    pub fn binary_search(&self, element: &T) -> Result<usize, usize>
    where
        T: Ord,
    {
        self.binary_search_by(|other| other.cmp(element))
    }

    /// Does the same with a function that compares an element with what is looked for.
    ///
    /// # Errors
    /// The index at which such an element could be inserted, if there is none.
    pub fn binary_search_by<'a>(
        &'a self,
        mut compare: impl FnMut(&'a T) -> Ordering,
    ) -> Result<usize, usize> {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low + (high - low) / 2;
            match self.get(middle).map(&mut compare) {
                Some(Ordering::Equal) => return Ok(middle),
                Some(Ordering::Less) => low = middle + 1,
                Some(Ordering::Greater) | None => high = middle,
            }
        }
        Err(low)
    }

    /// Does the same with a function that returns the key by which the vector is sorted.
    ///
    /// # Errors
    /// The index at which an element with this key could be inserted, if there is none.
    pub fn binary_search_by_key<'a, K: Ord>(
        &'a self,
        key: &K,
        mut key_of: impl FnMut(&'a T) -> K,
    ) -> Result<usize, usize> {
        self.binary_search_by(|element| key_of(element).cmp(key))
    }

    /// Returns how many elements at the beginning satisfy `is_first`, if none does that is behind
    /// one that does not.
    pub fn partition_point(&self, mut is_first: impl FnMut(&T) -> bool) -> usize {
        let side = |element: &T| {
            if is_first(element) { Ordering::Less } else { Ordering::Greater }
        };
        match self.binary_search_by(side) {
            Ok(index) | Err(index) => index,
        }
    }
}
