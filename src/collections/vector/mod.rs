//! Owns the public vector. Knows nothing of nodes.

mod iter;
mod search;
mod serde;
mod traits;

pub use iter::{VectorIntoIter, VectorIter, VectorIterMut};

use std::ops::{Bound, RangeBounds};

use super::tree::{Appender, Sequence};

/// A sequence of elements whose clone costs nothing: clones share what is equal.
///
/// It has the methods of a [`Vec`] and the two ends of a [`VecDeque`](std::collections::VecDeque).
/// Reading, writing, inserting and removing an element take a time that grows with the logarithm of
/// the length, at the ends and in the middle alike. See the [module](super) for what differs.
///
/// ```
/// use prevalence::collections::Vector;
///
/// let mut queue: Vector<u32> = (0..1000).collect();
/// let before = queue.clone();
/// assert_eq!(queue.pop_front(), Some(0));
/// queue.insert(500, 77);
/// queue.set(0, 42);
/// assert_eq!((queue[0], queue[500], queue.len()), (42, 77, 1000));
/// assert_eq!((before[0], before[500], before.len()), (0, 500, 1000));
/// assert_eq!(queue.range(499..502).collect::<Vec<_>>(), [&500, &77, &501]);
/// ```
pub struct Vector<T> {
    pub(super) tree: Sequence<T>,
}

impl<T> Vector<T> {
    /// Makes an empty vector. It takes no memory until something is put in.
    #[must_use]
    pub const fn new() -> Self {
        Self { tree: Sequence::new() }
    }

    /// Returns the number of elements.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tree.len()
    }

    /// Returns whether there are no elements.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Removes all elements. Clones keep theirs.
    pub fn clear(&mut self) {
        *self = Self::new();
    }

    /// Returns the element at `index`.
    #[inline]
    #[must_use]
    pub fn get(&self, index: usize) -> Option<&T> {
        self.tree.at(index)
    }

    /// Returns the first element.
    #[must_use]
    pub fn first(&self) -> Option<&T> {
        self.get(0)
    }

    /// Returns the last element.
    #[must_use]
    pub fn last(&self) -> Option<&T> {
        self.get(self.len().checked_sub(1)?)
    }

    /// Returns the first element, as [`first`](Self::first).
    #[must_use]
    pub fn front(&self) -> Option<&T> {
        self.first()
    }

    /// Returns the last element, as [`last`](Self::last).
    #[must_use]
    pub fn back(&self) -> Option<&T> {
        self.last()
    }

    /// Returns the elements.
    #[must_use]
    pub fn iter(&self) -> VectorIter<'_, T> {
        VectorIter::new(&self.tree, 0..self.len())
    }

    /// Returns the elements with these indexes. The first one is found as fast as by
    /// [`get`](Self::get).
    ///
    /// # Panics
    /// If the range begins behind its end, or ends behind the vector's.
    #[must_use]
    pub fn range(&self, range: impl RangeBounds<usize>) -> VectorIter<'_, T> {
        let len = self.len();
        let start = match range.start_bound() {
            Bound::Included(&start) => Some(start),
            Bound::Excluded(&start) => start.checked_add(1),
            Bound::Unbounded => Some(0),
        };
        let end = match range.end_bound() {
            Bound::Included(&end) => end.checked_add(1),
            Bound::Excluded(&end) => Some(end),
            Bound::Unbounded => Some(len),
        };
        let range = start.zip(end).filter(|&(start, end)| start <= end && end <= len);
        assert!(range.is_some(), "no range {start:?} to {end:?} in a vector of {len}");
        let (start, end) = range.unwrap_or_default();
        VectorIter::new(&self.tree, start..end)
    }
}

impl<T: Clone> Vector<T> {
    /// Returns writing access to the element at `index`. If another version has it, too, it is
    /// cloned first.
    pub fn get_mut(&mut self, index: usize) -> Option<&mut T> {
        self.tree.at_mut(index)
    }

    /// Returns writing access to the first element, as [`get_mut`](Self::get_mut).
    pub fn first_mut(&mut self) -> Option<&mut T> {
        self.get_mut(0)
    }

    /// Returns writing access to the last element, as [`get_mut`](Self::get_mut).
    pub fn last_mut(&mut self) -> Option<&mut T> {
        self.get_mut(self.len().checked_sub(1)?)
    }

    /// Exchanges the element at `index`. The old one is not read.
    ///
    /// # Panics
    /// If there is no such element.
    pub fn set(&mut self, index: usize, element: T) {
        self.tree.set_at::<false>(index, element);
    }

    /// Exchanges the element at `index`, and returns the old one.
    ///
    /// If another version has it, too, it is cloned for the caller. [`set`](Self::set) does not
    /// need that.
    ///
    /// # Panics
    /// If there is no such element.
    pub fn replace(&mut self, index: usize, element: T) -> T {
        let old = self.tree.set_at::<true>(index, element);
        old.expect("an element that was asked for is returned")
    }

    /// Exchanges two elements with each other. Neither is cloned.
    ///
    /// # Panics
    /// If one of them is not there.
    pub fn swap(&mut self, a: usize, b: usize) {
        self.tree.swap_at(a, b);
    }

    /// Puts an element before all others.
    pub fn push_front(&mut self, element: T) {
        self.tree.insert_at(0, element);
    }

    /// Puts an element behind all others.
    pub fn push_back(&mut self, element: T) {
        self.tree.insert_at(self.len(), element);
    }

    /// Puts an element before the one at `index`, or behind all others.
    ///
    /// # Panics
    /// If `index` is greater than the length.
    pub fn insert(&mut self, index: usize, element: T) {
        self.tree.insert_at(index, element);
    }

    /// Removes the first element, and returns it.
    pub fn pop_front(&mut self) -> Option<T> {
        self.tree.remove_at::<true>(0)
    }

    /// Removes the last element, and returns it.
    pub fn pop_back(&mut self) -> Option<T> {
        self.tree.remove_at::<true>(self.len().checked_sub(1)?)
    }

    /// Removes the element at `index`, and returns it.
    ///
    /// # Panics
    /// If there is no such element.
    pub fn remove(&mut self, index: usize) -> T {
        assert!(index < self.len(), "no element {index} in a vector of {}", self.len());
        let element = self.tree.remove_at::<true>(index);
        element.expect("an element that was asked for is returned")
    }

    /// Keeps the first `len` elements, and removes the others without reading them. If there are no
    /// more than `len`, nothing happens.
    pub fn truncate(&mut self, len: usize) {
        self.tree.truncate(len);
    }

    /// Removes the elements from `at` on, and returns them. What stays is not touched; each element
    /// that goes is cloned.
    ///
    /// # Panics
    /// If `at` is greater than the length.
    #[must_use = "use `truncate` if you don't need the other elements"]
    pub fn split_off(&mut self, at: usize) -> Self {
        let other = self.range(at..).cloned().collect();
        self.truncate(at);
        other
    }

    /// Moves all elements of `other` behind those of this vector, and leaves `other` empty. What
    /// this vector has already is not touched; each element of `other` is moved, or cloned if
    /// another version has it, too.
    pub fn append(&mut self, other: &mut Self) {
        self.extend(std::mem::take(other));
    }

    /// Removes the elements for which `keep` returns false.
    pub fn retain(&mut self, mut keep: impl FnMut(&T) -> bool) {
        let elements = self.iter().enumerate();
        let gone: Vec<usize> =
            elements.filter(|(_, element)| !keep(element)).map(|(index, _)| index).collect();
        // From the end on, so that the other indexes stay right.
        for index in gone.into_iter().rev() {
            self.tree.remove_at::<false>(index);
        }
    }

    /// Returns the elements with writing access. What other versions have, too, is copied first:
    /// all of the vector, if it was just cloned.
    pub fn iter_mut(&mut self) -> VectorIterMut<'_, T> {
        self.tree.own_all();
        VectorIterMut::new(&mut self.tree)
    }

    /// Returns the elements as a `Vec`.
    #[must_use]
    pub fn to_vec(&self) -> Vec<T> {
        self.iter().cloned().collect()
    }

    /// Appends elements, with the place for the next one at hand.
    fn appender(&mut self) -> Appender<'_, T> {
        Appender::new(&mut self.tree)
    }
}
