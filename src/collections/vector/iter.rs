//! Owns the iterators of vectors. Knows nothing of nodes.

use std::fmt;
use std::iter::FusedIterator;
use std::marker::PhantomData;
use std::ops::Range;

use super::Vector;
use crate::collections::tree::{Cursor, Sequence};

/// The elements of a vector; see [`Vector::iter`] and [`Vector::range`].
pub struct VectorIter<'a, T> {
    front: Cursor<'a, (), T, usize>,
    back: Cursor<'a, (), T, usize>,
    left: usize,
}

impl<'a, T> VectorIter<'a, T> {
    pub(super) fn new(tree: &'a Sequence<T>, range: Range<usize>) -> Self {
        let (front, back) =
            (Cursor::at_index(tree, range.start), Cursor::at_index(tree, range.end));
        Self { front, back, left: range.len() }
    }
}

impl<T: fmt::Debug> fmt::Debug for VectorIter<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.clone()).finish()
    }
}

impl<T> Clone for VectorIter<'_, T> {
    fn clone(&self) -> Self {
        Self { front: self.front.clone(), back: self.back.clone(), left: self.left }
    }
}

impl<'a, T> Iterator for VectorIter<'a, T> {
    type Item = &'a T;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        self.front.next().map(|(_, element)| element)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }

    fn count(self) -> usize {
        self.left
    }

    fn nth(&mut self, skipped: usize) -> Option<Self::Item> {
        if skipped >= self.left {
            self.left = 0;
            return None;
        }
        self.left -= skipped;
        self.front.forward(skipped);
        self.next()
    }

    fn last(mut self) -> Option<Self::Item> {
        self.next_back()
    }
}

impl<T> DoubleEndedIterator for VectorIter<'_, T> {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        self.back.back().map(|(_, element)| element)
    }
}

impl<T> ExactSizeIterator for VectorIter<'_, T> {}
impl<T> FusedIterator for VectorIter<'_, T> {}

/// The elements of a vector, with writing access; see [`Vector::iter_mut`].
pub struct VectorIterMut<'a, T> {
    front: Cursor<'a, (), T, usize>,
    back: Cursor<'a, (), T, usize>,
    left: usize,
    elements: PhantomData<&'a mut T>,
}

impl<'a, T> VectorIterMut<'a, T> {
    /// The tree is the handle's own as a whole.
    pub(super) fn new(tree: &'a mut Sequence<T>) -> Self {
        let left = tree.len();
        let (front, back) = (Cursor::at_index(tree, 0), Cursor::end(tree));
        Self { front, back, left, elements: PhantomData }
    }
}

impl<T: fmt::Debug> fmt::Debug for VectorIterMut<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        VectorIter { front: self.front.clone(), back: self.back.clone(), left: self.left }.fmt(f)
    }
}

// SAFETY: it gives exclusive references to elements, each once.
unsafe impl<T: Send> Send for VectorIterMut<'_, T> {}

impl<'a, T> Iterator for VectorIterMut<'a, T> {
    type Item = &'a mut T;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let ((), element) = self.front.slots()?;
        self.front.next_place();
        // SAFETY: the tree is borrowed exclusively, its elements are its own, and each place is
        // given once: `left` keeps the two ends apart.
        Some(unsafe { &mut *element })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl<T> DoubleEndedIterator for VectorIterMut<'_, T> {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        self.back.back_place();
        let ((), element) = self.back.slots()?;
        // SAFETY: as for `next`.
        Some(unsafe { &mut *element })
    }
}

impl<T> ExactSizeIterator for VectorIterMut<'_, T> {}
impl<T> FusedIterator for VectorIterMut<'_, T> {}

/// The elements of a vector that is used up. What other versions have, too, is cloned.
pub struct VectorIntoIter<T> {
    vector: Vector<T>,
}

impl<T: fmt::Debug> fmt::Debug for VectorIntoIter<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.vector.fmt(f)
    }
}

impl<T: Clone> Iterator for VectorIntoIter<T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.vector.pop_front()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.vector.len(), Some(self.vector.len()))
    }
}

impl<T: Clone> DoubleEndedIterator for VectorIntoIter<T> {
    fn next_back(&mut self) -> Option<T> {
        self.vector.pop_back()
    }
}

impl<T: Clone> ExactSizeIterator for VectorIntoIter<T> {}
impl<T: Clone> FusedIterator for VectorIntoIter<T> {}

impl<T: Clone> IntoIterator for Vector<T> {
    type Item = T;
    type IntoIter = VectorIntoIter<T>;

    fn into_iter(self) -> VectorIntoIter<T> {
        VectorIntoIter { vector: self }
    }
}

impl<'a, T> IntoIterator for &'a Vector<T> {
    type Item = &'a T;
    type IntoIter = VectorIter<'a, T>;

    fn into_iter(self) -> VectorIter<'a, T> {
        self.iter()
    }
}

impl<'a, T: Clone> IntoIterator for &'a mut Vector<T> {
    type Item = &'a mut T;
    type IntoIter = VectorIterMut<'a, T>;

    fn into_iter(self) -> VectorIterMut<'a, T> {
        self.iter_mut()
    }
}
