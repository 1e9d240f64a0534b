//! Owns places in a tree: the way from the root to a leaf, and where a key is or would be. Knows
//! nothing of what is done there.

use std::mem::MaybeUninit;
use std::ops::{Index, IndexMut};

use super::super::shape::{Node, len};

/// More levels than a tree can have: each level but the highest has at least twelve times as many
/// nodes as the one above it, since two neighbours that fit into one node become one.
pub(super) const MOST_LEVELS: usize = 20;

/// One value for each level of a tree, from the leaves up.
#[derive(Clone, Copy)]
pub(super) struct Levels<T>([T; MOST_LEVELS]);

/// Why there is a place for a level.
const IS_A_LEVEL: &str = "no tree has so many levels: a new root asserts it";

impl<T: Copy> Levels<T> {
    pub(super) const fn of(value: T) -> Self {
        Self([value; MOST_LEVELS])
    }
}

impl<T> Index<u32> for Levels<T> {
    type Output = T;

    #[inline(always)]
    fn index(&self, level: u32) -> &T {
        self.0.get(level as usize).expect(IS_A_LEVEL)
    }
}

impl<T> IndexMut<u32> for Levels<T> {
    #[inline(always)]
    fn index_mut(&mut self, level: u32) -> &mut T {
        self.0.get_mut(level as usize).expect(IS_A_LEVEL)
    }
}

/// The inner nodes from the root to a leaf, by height, with the index of the child that was taken.
/// Only the levels of the tree are there; to fill the others would cost more than a search.
pub(super) struct Path {
    steps: Levels<MaybeUninit<(Node, usize)>>,
}

/// Where a key is in a tree, or would be. It is valid until the tree is changed in another way.
pub(in super::super) struct Place {
    pub(super) path: Path,
    /// Null if the tree is empty.
    pub(super) leaf: Node,
    /// The index in the leaf; `Err` if the key is not there.
    pub(super) found: Result<usize, usize>,
}

// SAFETY: a place has addresses, and follows none without the tree that it is a place of. Whoever
// uses it has that tree, too, and the tree says whether its keys and values may cross threads.
unsafe impl Send for Place {}
// SAFETY: as for `Send`.
unsafe impl Sync for Place {}

impl Path {
    pub(super) const fn new() -> Self {
        Self { steps: Levels([const { MaybeUninit::uninit() }; MOST_LEVELS]) }
    }

    #[inline(always)]
    pub(super) fn set(&mut self, height: u32, node: Node, index: usize) {
        self.steps[height].write((node, index));
    }

    /// # Safety
    /// The path was set at this height.
    #[inline(always)]
    pub(super) unsafe fn step(&self, height: u32) -> (Node, usize) {
        // SAFETY: see above.
        unsafe { self.steps[height].assume_init() }
    }

    /// Whether it leads to the last leaf of a tree of this height.
    ///
    /// # Safety
    /// The path was set at all these heights, and its nodes are live.
    pub(super) unsafe fn is_last(&self, height: u32) -> bool {
        (1..=height).all(|level| {
            // SAFETY: see above.
            unsafe {
                let (node, child) = self.step(level);
                child + 1 == len(node)
            }
        })
    }
}

impl Place {
    pub(in super::super) fn is_filled(&self) -> bool {
        self.found.is_ok()
    }
}
