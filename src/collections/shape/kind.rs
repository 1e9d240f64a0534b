//! Owns the kinds of pieces of memory. Knows nothing of what is in them.

use std::ops::{Index, IndexMut};

/// What a piece of memory holds. Each kind has its own size, so its own free lists.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in super::super) enum Kind {
    Leaf,
    Inner,
    Value,
    Key,
}

impl Kind {
    pub(in super::super) const ALL: [Self; 4] = [Self::Leaf, Self::Inner, Self::Value, Self::Key];
    pub(in super::super) const COUNT: usize = Self::ALL.len();
}

/// One value for each kind.
#[derive(Clone, Copy, Default)]
pub(in super::super) struct PerKind<T>(pub(in super::super) [T; Kind::COUNT]);

impl<T> Index<Kind> for PerKind<T> {
    type Output = T;

    #[inline(always)]
    fn index(&self, kind: Kind) -> &T {
        let [leaf, inner, value, key] = &self.0;
        match kind {
            Kind::Leaf => leaf,
            Kind::Inner => inner,
            Kind::Value => value,
            Kind::Key => key,
        }
    }
}

impl<T> IndexMut<Kind> for PerKind<T> {
    #[inline(always)]
    fn index_mut(&mut self, kind: Kind) -> &mut T {
        let [leaf, inner, value, key] = &mut self.0;
        match kind {
            Kind::Leaf => leaf,
            Kind::Inner => inner,
            Kind::Value => value,
            Kind::Key => key,
        }
    }
}
