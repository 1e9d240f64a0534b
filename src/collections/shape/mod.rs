//! Owns the layout of nodes and cells in memory, and access to their parts. Knows nothing of
//! versions and of the tree's shape.
//!
//! ```text
//! leaf   header | 32 key slots       | 32 value slots
//! inner  header | pointer if cold    | 31 separator slots | 32 pointers to children
//! cell   birth  | one key or one value
//! ```
//!
//! A slot holds the key or value itself if it is small and owns nothing; otherwise it points to a
//! cell. So a copy of a node copies few bytes, and never calls the `Clone` of a large value: copies
//! of a node share its cells, and each cell has a birth of its own.
//!
//! In a map a separator is a key: everything below `children[i]` is less than `separators[i]`, and
//! everything below `children[i + 1]` is not. In a vector, whose leaves have no keys, it is a
//! position: below `children[0..=i]` are `separators[i]` elements. How many are below the last
//! child is not stored, so an element that comes behind all others changes no inner node.

mod cold;
mod kind;
mod separator;

use std::alloc::Layout;
use std::borrow::Borrow;
use std::cmp::Ordering;
use std::marker::PhantomData;
use std::mem::needs_drop;
use std::ptr;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::{Acquire, Relaxed};

use cold::InnerHeader;
pub(super) use cold::{ColdSlice, claim, cold_slice, make_cold, write_claimed};
pub(super) use kind::{Kind, PerKind};
pub(super) use separator::Separator;

/// How many entries a leaf holds.
pub(super) const LEAF_ENTRIES: usize = 32;
/// How many children an inner node has.
pub(super) const FAN_OUT: usize = 32;
/// A slot that holds more bytes than this points to a cell instead.
const INLINE_BYTES: usize = 16;

/// The lines of a node with slots of eight bytes.
const PREFETCHED_LINES: usize = 9;
const LINE_BYTES: usize = 64;

/// The beginning of a node. A cell begins with its birth, too.
#[repr(C)]
pub(super) struct Header {
    /// The epoch in which the node was made.
    pub(super) born: u64,
    /// How many entries, or children, the node has. A greater number is that of a cold node; see
    /// `cold`.
    pub(super) len: AtomicU32,
    /// 0 for a leaf.
    pub(super) height: u32,
}

pub(super) type Node = *mut Header;

#[repr(C)]
pub(super) struct Cell<T> {
    pub(super) born: u64,
    pub(super) content: T,
}

/// A slot that points to a cell.
type Pointer<T> = *mut Cell<T>;

const fn align_up(bytes: usize, align: usize) -> usize {
    bytes.next_multiple_of(align)
}

const fn max(left: usize, right: usize) -> usize {
    if left > right { left } else { right }
}

/// Whether a slot holds a `T` itself.
const fn is_inline<T>() -> bool {
    size_of::<T>() <= INLINE_BYTES && !needs_drop::<T>()
}

const fn slot_bytes<T>() -> usize {
    if is_inline::<T>() { size_of::<T>() } else { size_of::<Pointer<T>>() }
}

const fn slot_align<T>() -> usize {
    if is_inline::<T>() { align_of::<T>() } else { align_of::<Pointer<T>>() }
}

#[expect(clippy::panic, reason = "only at compile time: a user's type is too large")]
const fn layout(bytes: usize, align: usize) -> Layout {
    match Layout::from_size_align(bytes, align) {
        Ok(layout) => layout.pad_to_align(),
        Err(_) => panic!("a node or a cell is larger than an address space"),
    }
}

/// The layout for one type of key, one type of value, and one type of separator. A leaf, and a
/// cell, is the same for every type of separator.
///
/// Safety of all its functions: nodes and cells are live ones of this shape; an index is below the
/// node's length, unless the function says otherwise; what is written belongs to the caller alone.
pub(super) struct Shape<K, V, S = K>(PhantomData<(K, V, S)>);

impl<K, V, S> Shape<K, V, S> {
    pub(super) const KEY_IS_INLINE: bool = is_inline::<K>();
    pub(super) const VALUE_IS_INLINE: bool = is_inline::<V>();
    pub(super) const KEY_BYTES: usize = slot_bytes::<K>();
    pub(super) const VALUE_BYTES: usize = slot_bytes::<V>();
    pub(super) const SEPARATOR_IS_INLINE: bool = {
        let is_key = size_of::<Cell<S>>() == size_of::<Cell<K>>();
        assert!(is_inline::<S>() || is_key, "a cell of a separator is one of a key");
        is_inline::<S>()
    };
    pub(super) const SEPARATOR_BYTES: usize = slot_bytes::<S>();
    const KEYS_AT: usize = align_up(size_of::<Header>(), slot_align::<K>());
    const VALUES_AT: usize =
        align_up(Self::KEYS_AT + LEAF_ENTRIES * Self::KEY_BYTES, slot_align::<V>());
    const SEPARATORS_AT: usize = align_up(size_of::<InnerHeader>(), slot_align::<S>());
    const CHILDREN_AT: usize =
        align_up(Self::SEPARATORS_AT + (FAN_OUT - 1) * Self::SEPARATOR_BYTES, align_of::<Node>());
    pub(super) const LAYOUTS: PerKind<Layout> = PerKind([
        layout(
            Self::VALUES_AT + LEAF_ENTRIES * Self::VALUE_BYTES,
            max(align_of::<Header>(), max(slot_align::<K>(), slot_align::<V>())),
        ),
        layout(
            Self::CHILDREN_AT + FAN_OUT * size_of::<Node>(),
            max(align_of::<InnerHeader>(), slot_align::<S>()),
        ),
        Layout::new::<Cell<V>>(),
        Layout::new::<Cell<K>>(),
    ]);
    /// Whether anything has to be done when an entry is gone.
    pub(super) const DROPS: bool = needs_drop::<K>() || needs_drop::<V>();

    #[inline(always)]
    pub(super) unsafe fn key_slot(node: Node, index: usize) -> *mut u8 {
        // SAFETY: see the type.
        unsafe { node.cast::<u8>().add(Self::KEYS_AT + index * Self::KEY_BYTES) }
    }

    /// A node has one separator less than children.
    #[inline(always)]
    pub(super) unsafe fn separator_slot(inner: Node, index: usize) -> *mut u8 {
        // SAFETY: see the type.
        unsafe { inner.cast::<u8>().add(Self::SEPARATORS_AT + index * Self::SEPARATOR_BYTES) }
    }

    /// The cell of a separator that is not inline. Only keys are not, so it is of the kind of a
    /// key's.
    #[inline(always)]
    pub(super) unsafe fn separator_cell(slot: *mut u8) -> *mut Cell<S> {
        // SAFETY: see the type.
        unsafe { *slot.cast::<Pointer<S>>() }
    }

    #[inline(always)]
    pub(super) unsafe fn value_slot(leaf: Node, index: usize) -> *mut u8 {
        // SAFETY: see the type.
        unsafe { leaf.cast::<u8>().add(Self::VALUES_AT + index * Self::VALUE_BYTES) }
    }

    #[inline(always)]
    pub(super) unsafe fn child_slot(inner: Node, index: usize) -> *mut Node {
        // SAFETY: see the type.
        unsafe { inner.cast::<u8>().add(Self::CHILDREN_AT).cast::<Node>().add(index) }
    }

    #[inline(always)]
    pub(super) unsafe fn child(inner: Node, index: usize) -> Node {
        // SAFETY: see the type.
        unsafe {
            debug_assert!(cold_slice(inner).is_none(), "somebody has asked for the length");
            *Self::child_slot(inner, index)
        }
    }

    #[inline(always)]
    pub(super) unsafe fn key<'a>(node: Node, index: usize) -> &'a K {
        // SAFETY: see the type.
        unsafe { content_of_slot(Self::key_slot(node, index)) }
    }

    #[inline(always)]
    pub(super) unsafe fn value<'a>(leaf: Node, index: usize) -> &'a V {
        // SAFETY: see the type.
        unsafe { content_of_slot(Self::value_slot(leaf, index)) }
    }

    pub(super) unsafe fn value_address(leaf: Node, index: usize) -> *mut V {
        // SAFETY: see the type.
        unsafe {
            let slot = Self::value_slot(leaf, index);
            if Self::VALUE_IS_INLINE {
                slot.cast::<V>()
            } else {
                &raw mut (*Self::value_cell(slot)).content
            }
        }
    }

    /// The cell of a key that is not inline.
    #[inline(always)]
    pub(super) unsafe fn key_cell(slot: *mut u8) -> *mut Cell<K> {
        // SAFETY: see the type.
        unsafe { *slot.cast::<Pointer<K>>() }
    }

    /// The cell of a value that is not inline.
    #[inline(always)]
    pub(super) unsafe fn value_cell(slot: *mut u8) -> *mut Cell<V> {
        // SAFETY: see the type.
        unsafe { *slot.cast::<Pointer<V>>() }
    }
}

impl<K, V> Shape<K, V> {
    /// Searches `count` keys from `slots` on.
    #[inline(always)]
    unsafe fn search_by(
        slots: *mut u8,
        count: usize,
        mut compare: impl FnMut(&K) -> Ordering,
    ) -> Result<usize, usize> {
        // SAFETY: see the type.
        unsafe {
            if Self::KEY_IS_INLINE {
                std::slice::from_raw_parts(slots.cast::<K>(), count).binary_search_by(compare)
            } else {
                std::slice::from_raw_parts(slots.cast::<Pointer<K>>(), count)
                    .binary_search_by(|&cell| compare(&(*cell).content))
            }
        }
    }

    /// Finds `key` in a leaf, or the index at which it would be.
    #[inline(always)]
    pub(super) unsafe fn find<Q>(leaf: Node, key: &Q) -> Result<usize, usize>
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        // SAFETY: see the type.
        unsafe {
            let slots = Self::key_slot(leaf, 0);
            Self::search_by(slots, warm_len(leaf), |other| other.borrow().cmp(key))
        }
    }

    /// Returns the index of the child below which `key` is, if it is in the tree.
    #[inline(always)]
    pub(super) unsafe fn child_for<Q>(inner: Node, key: &Q) -> usize
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        // SAFETY: see the type.
        unsafe {
            // The one that follows the last key that is not greater. No key answers `Equal`.
            let side = |other: &K| match other.borrow().cmp(key) {
                Ordering::Less | Ordering::Equal => Ordering::Less,
                Ordering::Greater => Ordering::Greater,
            };
            let count = len(inner) - 1;
            match Self::search_by(Self::separator_slot(inner, 0), count, side) {
                Ok(index) | Err(index) => index,
            }
        }
    }
}

/// Returns the length of a node. A cold node becomes warm.
///
/// # Safety
/// The node is live.
#[inline(always)]
pub(super) unsafe fn len(node: Node) -> usize {
    // SAFETY: see above.
    unsafe {
        let len = (*node).len.load(Acquire);
        if len > cold::LONGEST { cold::warm(node) } else { len as usize }
    }
}

/// Returns the length of a node that is not cold: a leaf, or one whose [`len`] was asked before.
///
/// # Safety
/// The node is live.
#[inline(always)]
pub(super) unsafe fn warm_len(node: Node) -> usize {
    // SAFETY: see above.
    unsafe {
        let len = (*node).len.load(Relaxed);
        debug_assert!(len <= cold::LONGEST, "the node is warm");
        len as usize
    }
}

/// # Safety
/// The node may be written, and so many of its slots are filled.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "a node has 32 slots")]
pub(super) unsafe fn set_len(node: Node, len: usize) {
    debug_assert!(len <= LEAF_ENTRIES && len <= FAN_OUT);
    // SAFETY: see above.
    unsafe { (*node).len.store(len as u32, Relaxed) }
}

/// Returns what a slot holds, itself or in a cell.
///
/// # Safety
/// The slot is filled with a `T`, which lives for `'a` and is not written meanwhile.
#[inline(always)]
pub(super) unsafe fn content_of_slot<'a, T>(slot: *const u8) -> &'a T {
    // SAFETY: see above.
    unsafe {
        if const { is_inline::<T>() } {
            &*slot.cast::<T>()
        } else {
            &(**slot.cast::<Pointer<T>>()).content
        }
    }
}

/// Copies `count` slots for a `T` each. What is in a slot itself is cloned: a type that owns
/// nothing may still give its clones an identity. Cells are shared.
///
/// # Safety
/// The slots of `from` are filled. Those of `to` hold nothing, and belong to the caller.
#[inline(always)]
pub(super) unsafe fn copy_slots<T: Clone>(from: *const u8, to: *mut u8, count: usize) {
    // SAFETY: see above.
    unsafe {
        if const { is_inline::<T>() } {
            for index in 0..count {
                let content = (*from.cast::<T>().add(index)).clone();
                to.cast::<T>().add(index).write(content);
            }
        } else {
            ptr::copy_nonoverlapping(from, to, count * size_of::<Pointer<T>>());
        }
    }
}

/// Makes room for one slot at `index` of an array of `count` slots, and copies `slot` into it.
///
/// # Safety
/// The array belongs to the caller, and has room. The index is at most `count`.
#[inline(always)]
pub(super) unsafe fn insert_slot(
    first: *mut u8,
    bytes: usize,
    count: usize,
    index: usize,
    slot: *const u8,
) {
    // SAFETY: see above.
    unsafe {
        let at = first.add(index * bytes);
        ptr::copy(at, at.add(bytes), (count - index) * bytes);
        ptr::copy_nonoverlapping(slot, at, bytes);
    }
}

/// Closes the gap that the slot at `index` of an array of `count` slots leaves.
///
/// # Safety
/// The array belongs to the caller. The index is below `count`.
#[inline(always)]
pub(super) unsafe fn remove_slot(first: *mut u8, bytes: usize, count: usize, index: usize) {
    // SAFETY: see above.
    unsafe {
        let at = first.add(index * bytes);
        ptr::copy(at.add(bytes), at, (count - index - 1) * bytes);
    }
}

/// Asks for what is read or written next, at most [`PREFETCHED_LINES`]: a search by halves would
/// ask for one line after another.
#[inline(always)]
pub(super) fn prefetch(at: *const u8, bytes: usize) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let mut offset = 0;
        while offset < bytes && offset < PREFETCHED_LINES * LINE_BYTES {
            // SAFETY: a prefetch reads nothing that the program could notice, at any address.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(at.wrapping_add(offset).cast()) };
            offset += LINE_BYTES;
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (at, bytes);
}
