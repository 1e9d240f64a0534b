//! Owns the standard traits of vectors. Knows nothing of nodes.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::{Index, IndexMut};

use super::Vector;

impl<T> Clone for Vector<T> {
    /// Costs the same for every size.
    fn clone(&self) -> Self {
        Self { tree: self.tree.share() }
    }
}

impl<T> Default for Vector<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: fmt::Debug> fmt::Debug for Vector<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self).finish()
    }
}

impl<T: PartialEq> PartialEq for Vector<T> {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.iter().eq(other)
    }
}

impl<T: Eq> Eq for Vector<T> {}

impl<T: PartialOrd> PartialOrd for Vector<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        self.iter().partial_cmp(other)
    }
}

impl<T: Ord> Ord for Vector<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.iter().cmp(other)
    }
}

impl<T: Hash> Hash for Vector<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_usize(self.len());
        for element in self {
            element.hash(state);
        }
    }
}

impl<T> Index<usize> for Vector<T> {
    type Output = T;

    /// # Panics
    /// If there is no such element.
    #[inline]
    fn index(&self, index: usize) -> &T {
        assert!(index < self.len(), "no element {index} in a vector of {}", self.len());
        self.get(index).expect("the index is below the length")
    }
}

impl<T: Clone> IndexMut<usize> for Vector<T> {
    /// # Panics
    /// If there is no such element.
    fn index_mut(&mut self, index: usize) -> &mut T {
        assert!(index < self.len(), "no element {index} in a vector of {}", self.len());
        self.get_mut(index).expect("the index is below the length")
    }
}

impl<T: Clone> Extend<T> for Vector<T> {
    /// Faster than single insertions.
    fn extend<I: IntoIterator<Item = T>>(&mut self, elements: I) {
        let mut end = self.appender();
        for element in elements {
            end.push(element);
        }
    }
}

impl<'a, T: Copy> Extend<&'a T> for Vector<T> {
    fn extend<I: IntoIterator<Item = &'a T>>(&mut self, elements: I) {
        self.extend(elements.into_iter().copied());
    }
}

impl<T: Clone> FromIterator<T> for Vector<T> {
    fn from_iter<I: IntoIterator<Item = T>>(elements: I) -> Self {
        let mut vector = Self::new();
        vector.extend(elements);
        vector
    }
}

impl<T: Clone> From<Vec<T>> for Vector<T> {
    fn from(elements: Vec<T>) -> Self {
        elements.into_iter().collect()
    }
}

impl<T: Clone> From<&[T]> for Vector<T> {
    fn from(elements: &[T]) -> Self {
        elements.iter().cloned().collect()
    }
}

impl<T: Clone, const N: usize> From<[T; N]> for Vector<T> {
    fn from(elements: [T; N]) -> Self {
        elements.into_iter().collect()
    }
}

impl<T: Clone> From<Vector<T>> for Vec<T> {
    fn from(vector: Vector<T>) -> Self {
        vector.into_iter().collect()
    }
}
