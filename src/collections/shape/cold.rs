//! Owns what a cold node looks like: an inner node whose children are not in memory yet. Knows
//! nothing of where they come from.
//!
//! A cold node stands above leaves. All versions that have it share it, as they share every node.
//! Whoever looks into it first makes it warm, in its place: its address stays, and so does its
//! birth. Several threads may do that at once. Each of them makes the children on its own; one of
//! them claims the node and writes it, and the others throw away what they made.
//!
//! The length of a node says what it is. It is the last that is written, with `Release`, and the
//! first that is read, with `Acquire`. So [`len`](super::len) is what makes a node warm, and it is
//! asked before anything else of an inner node is read. Until then nobody reads what a warm node
//! has behind its header, and the pointer to its slice is never written again.

use std::alloc::Layout;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use super::{FAN_OUT, Header, LEAF_ENTRIES, Node};

/// The beginning of an inner node.
#[repr(C)]
pub(super) struct InnerHeader {
    header: Header,
    /// Where the children come from. Only cold nodes have this.
    slice: *const ColdSlice,
}

/// The children of one cold node.
pub(in super::super) struct ColdSlice {
    /// Makes the node warm. It panics if it cannot.
    pub(in super::super) warm: unsafe fn(*const Self, Node),
    /// What `warm` knows the slice by.
    pub(in super::super) owner: *const (),
    pub(in super::super) number: usize,
    /// How many entries are below the node.
    pub(in super::super) entries: u32,
}

/// The length of a cold node.
const COLD: u32 = u32::MAX;
/// Behind this bit is a part of the number of the process that writes the node. The child of a fork
/// does not wait for a thread that it does not have.
const CLAIMED: u32 = 1 << 31;
const PROCESS: u32 = (1 << 30) - 1;

/// A node with a greater length is not warm.
#[expect(clippy::cast_possible_truncation, reason = "a node has 32 slots")]
pub(super) const LONGEST: u32 =
    if LEAF_ENTRIES > FAN_OUT { LEAF_ENTRIES as u32 } else { FAN_OUT as u32 };

/// How often a thread looks at a node that another one writes before it lets others run. Writing
/// takes less than a microsecond, unless the other one was interrupted.
const LOOKS: u32 = 100;

/// Makes a new inner node cold.
///
/// # Safety
/// The node belongs to the caller, and the slice lives as long as anybody reaches the node.
pub(in super::super) unsafe fn make_cold(node: Node, slice: *const ColdSlice) {
    // SAFETY: see above.
    unsafe {
        (&raw mut (*node.cast::<InnerHeader>()).slice).write(slice);
        (*node).len.store(COLD, Release);
    }
}

/// Returns the slice of a cold node; `None` if the node is warm.
///
/// # Safety
/// The node is live, and the slice lives for `'a`.
#[inline(always)]
pub(in super::super) unsafe fn cold_slice<'a>(node: Node) -> Option<&'a ColdSlice> {
    // SAFETY: see above. A node that is not warm was made cold, and is an inner one.
    unsafe {
        let is_warm = (*node).len.load(Acquire) <= LONGEST;
        if is_warm { None } else { Some(&*(*node.cast::<InnerHeader>()).slice) }
    }
}

/// Makes a cold node warm, and returns its length.
///
/// # Safety
/// The node is live, and it was cold.
#[cold]
#[inline(never)]
pub(super) unsafe fn warm(node: Node) -> usize {
    // SAFETY: see above. The slice lives as long as anybody reaches a cold node.
    unsafe {
        let slice = (*node.cast::<InnerHeader>()).slice;
        ((*slice).warm)(slice, node);
        let len = (*node).len.load(Acquire);
        debug_assert!(len <= LONGEST, "a node is warm, or somebody has panicked");
        len as usize
    }
}

/// Claims a cold node for this thread, which must write it then. Returns false once another thread
/// has written it.
///
/// # Safety
/// The node is live, and it was cold.
pub(in super::super) unsafe fn claim(node: Node) -> bool {
    let own = CLAIMED | (std::process::id() & PROCESS);
    // SAFETY: see above.
    let len = unsafe { &(*node).len };
    let mut looks = 0;
    loop {
        let found = len.load(Acquire);
        if found <= LONGEST {
            return false;
        }
        if found != own && len.compare_exchange(found, own, Acquire, Relaxed).is_ok() {
            return true;
        }
        looks += 1;
        if looks < LOOKS { std::hint::spin_loop() } else { std::thread::yield_now() }
    }
}

/// Writes a node that was claimed: the children and separators of `made`, which is lost.
///
/// # Safety
/// This thread has claimed `node`. `made` is an inner node of that layout, and belongs to the
/// caller.
pub(in super::super) unsafe fn write_claimed(node: Node, made: Node, layout: Layout) {
    let begin = size_of::<InnerHeader>();
    // SAFETY: see above. Nobody reads what is behind the header of a node that is not warm.
    unsafe {
        let (from, to) = (made.cast::<u8>().add(begin), node.cast::<u8>().add(begin));
        std::ptr::copy_nonoverlapping(from, to, layout.size() - begin);
        (*node).len.store((*made).len.load(Relaxed), Release);
    }
}
