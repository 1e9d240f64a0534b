//! Owns the memory of a family: slabs that are cut into pieces of one kind, and the pieces that are
//! free. Knows nothing of what the pieces hold.
//!
//! The slabs grow with the family, up to a bound, so that a small map stays small. Free
//! pieces are only listed, and not touched: their memory is cold. When most pieces are free, the
//! pool sorts them by address and gives back the slabs that are free as a whole.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::ptr;

use super::shape::{Kind, PerKind, prefetch};

/// A piece of memory that a version no longer uses, or that is free.
#[derive(Clone, Copy)]
pub(super) struct Dead {
    pub(super) at: *mut u8,
    /// The epoch in which it was made; [`UNKNOWN`] if nobody has looked, 0 for a free piece.
    pub(super) born: u64,
}

/// A birth that was not looked up, because that would touch cold memory.
pub(super) const UNKNOWN: u64 = u64::MAX;

/// Pieces of each kind.
pub(super) type Lists = PerKind<Vec<Dead>>;
pub(super) const NO_LISTS: Lists = PerKind([const { Vec::new() }; Kind::COUNT]);

/// No slab is larger than this, unless one piece is. It is the size of a huge page of x86-64 and
/// ARMv8: with ordinary pages, each step down a large tree would also wait for the page table.
const LARGEST_SLAB_BYTES: usize = 2 << 20;
/// A slab that has this size or more begins at a multiple of it.
const PAGE_BYTES: usize = 4096;
/// A new slab has at most this part of the pieces there are: so much memory may wait for its first
/// use.
const GROWTH: usize = 4;
/// With fewer free pieces than this the pool looks for no slab to give back.
const TRIM_AT_LEAST: usize = 4096;

struct Slab {
    at: *mut u8,
    layout: Layout,
    pieces: usize,
}

/// The slabs and free pieces of one kind.
#[derive(Default)]
struct Shelf {
    slabs: Vec<Slab>,
    free: Vec<Vec<Dead>>,
    free_pieces: usize,
    pieces: usize,
    /// With this many free pieces it is worth to look for slabs to give back.
    trim_at: usize,
}

#[derive(Default)]
pub(super) struct Pool {
    shelves: PerKind<Shelf>,
}

/// The pieces that one handle has taken from the pool, to use them without a lock.
pub(super) struct Cache {
    free: Lists,
    /// The part of a new slab that was never used.
    rest: PerKind<*mut u8>,
    rest_pieces: PerKind<usize>,
    #[cfg(asan)]
    piece_bytes: PerKind<usize>,
}

impl Pool {
    /// Gives a list of free pieces, or a new slab, to `cache`.
    pub(super) fn refill(&mut self, cache: &mut Cache, kind: Kind, layout: Layout) {
        let shelf = &mut self.shelves[kind];
        while let Some(list) = shelf.free.pop() {
            shelf.free_pieces -= list.len();
            if !list.is_empty() {
                cache.free[kind] = list;
                return;
            }
        }
        let most = (LARGEST_SLAB_BYTES / layout.size()).max(1);
        let pieces = (shelf.pieces / GROWTH).clamp(1, most);
        let (bytes, align) = match pieces * layout.size() {
            bytes if pieces == most && bytes <= LARGEST_SLAB_BYTES => {
                (LARGEST_SLAB_BYTES, LARGEST_SLAB_BYTES)
            }
            bytes if bytes < PAGE_BYTES => (bytes, 1),
            bytes => (bytes, PAGE_BYTES),
        };
        let slab = Layout::from_size_align(bytes, align.max(layout.align()))
            .expect("a slab is no larger than its bound, or than one piece");
        // SAFETY: no piece has zero bytes, since each begins with its birth.
        let at = unsafe { alloc(slab) };
        if at.is_null() {
            handle_alloc_error(slab);
        }
        if align == LARGEST_SLAB_BYTES {
            advise_huge_page(at);
        }
        shelf.slabs.push(Slab { at, layout: slab, pieces });
        shelf.pieces += pieces;
        #[cfg(asan)]
        {
            poison::poison(at, bytes);
            cache.piece_bytes[kind] = layout.size();
        }
        cache.rest[kind] = at;
        cache.rest_pieces[kind] = pieces;
    }

    /// Takes free pieces back. Their contents were dropped.
    pub(super) fn give(&mut self, kind: Kind, list: Vec<Dead>) {
        let shelf = &mut self.shelves[kind];
        #[cfg(asan)]
        list.iter().for_each(|piece| poison::poison(piece.at, shelf.piece_bytes()));
        shelf.free_pieces += list.len();
        shelf.free.push(list);
        if shelf.free_pieces >= shelf.trim_at.max(TRIM_AT_LEAST)
            && shelf.free_pieces > shelf.pieces / 2
        {
            shelf.trim();
        }
    }

    /// How many bytes the pieces have that are not free.
    pub(super) fn used_bytes(&self) -> u64 {
        let used = self.shelves.0.iter().filter_map(|shelf| {
            let slab = shelf.slabs.first()?;
            Some((shelf.pieces - shelf.free_pieces) * (slab.layout.size() / slab.pieces))
        });
        used.sum::<usize>() as u64
    }

    /// How many pieces there are, and how many of them are free.
    #[cfg(any(test, fuzzing))]
    pub(super) fn pieces(&self, kind: Kind) -> (usize, usize) {
        let shelf = &self.shelves[kind];
        (shelf.pieces, shelf.free_pieces)
    }

    #[cfg(any(test, fuzzing))]
    pub(super) fn free(&self, kind: Kind) -> impl Iterator<Item = *mut u8> {
        self.shelves[kind].free.iter().flatten().map(|piece| piece.at)
    }

    #[cfg(test)]
    pub(super) fn slab_bytes(&self) -> usize {
        self.shelves.0.iter().flat_map(|it| &it.slabs).map(|it| it.layout.size()).sum()
    }
}

/// Asks the system for a huge page below a slab of the largest size.
fn advise_huge_page(slab: *mut u8) {
    // Where there are no huge pages, or none are left, the slab works as well, only slower.
    #[cfg(target_os = "linux")]
    // SAFETY: the bytes belong to the slab, and this advice changes no content.
    unsafe {
        use rustix::mm::{Advice, madvise};
        _ = madvise(slab.cast(), LARGEST_SLAB_BYTES, Advice::LinuxHugepage);
    }
    #[cfg(not(target_os = "linux"))]
    let _ = slab;
}

impl Shelf {
    #[cfg(asan)]
    fn piece_bytes(&self) -> usize {
        self.slabs.first().map_or(0, |slab| slab.layout.size() / slab.pieces)
    }

    /// Gives back the slabs of which all pieces are free. The rest is sorted, so that what is used
    /// next lies close together.
    fn trim(&mut self) {
        let mut free: Vec<Dead> = std::mem::take(&mut self.free).into_iter().flatten().collect();
        free.sort_unstable_by_key(|piece| piece.at);
        self.slabs.sort_unstable_by_key(|slab| slab.at);
        let mut kept = Vec::new();
        let mut rest = free.as_slice();
        self.slabs.retain(|slab| {
            let end = slab.at.wrapping_add(slab.layout.size());
            let (own, later) = rest.split_at(rest.partition_point(|piece| piece.at < end));
            rest = later;
            if own.len() < slab.pieces {
                if !own.is_empty() {
                    kept.push(own.to_vec());
                }
                return true;
            }
            self.pieces -= slab.pieces;
            // SAFETY: the slab was allocated with this layout, and nothing uses a piece of it.
            unsafe { dealloc(slab.at, slab.layout) };
            false
        });
        self.free_pieces = kept.iter().map(Vec::len).sum();
        self.free = kept;
        self.trim_at = 2 * self.free_pieces;
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        for slab in self.shelves.0.iter_mut().flat_map(|shelf| shelf.slabs.drain(..)) {
            // SAFETY: the slab was allocated with this layout. No handle is left, so nobody uses
            // it.
            unsafe { dealloc(slab.at, slab.layout) }
        }
    }
}

impl Cache {
    pub(super) const fn new() -> Self {
        Self {
            free: NO_LISTS,
            rest: PerKind([ptr::null_mut(); Kind::COUNT]),
            rest_pieces: PerKind([0; Kind::COUNT]),
            #[cfg(asan)]
            piece_bytes: PerKind([0; Kind::COUNT]),
        }
    }

    /// Returns a piece of `kind`, if one is left. Its content is undefined.
    #[inline(always)]
    pub(super) fn take(&mut self, kind: Kind, layout: Layout) -> Option<*mut u8> {
        let at = self.take_unseen(kind, layout)?;
        #[cfg(asan)]
        poison::unpoison(at, layout.size());
        Some(at)
    }

    #[inline(always)]
    fn take_unseen(&mut self, kind: Kind, layout: Layout) -> Option<*mut u8> {
        if let Some(piece) = self.free[kind].pop() {
            // What is handed out next is cold by now.
            if let Some(next) = self.free[kind].last() {
                prefetch(next.at, layout.size());
            }
            return Some(piece.at);
        }
        self.rest_pieces[kind] = self.rest_pieces[kind].checked_sub(1)?;
        let at = self.rest[kind];
        self.rest[kind] = at.wrapping_add(layout.size());
        Some(at)
    }

    /// Keeps a piece that nothing uses, for the next [`take`](Self::take).
    #[inline(always)]
    pub(super) fn keep(&mut self, kind: Kind, at: *mut u8) {
        #[cfg(asan)]
        poison::poison(at, self.piece_bytes[kind]);
        self.free[kind].push(Dead { at, born: 0 });
    }

    /// Gives everything back.
    pub(super) fn empty(&mut self, layouts: &PerKind<Layout>, pool: &mut Pool) {
        for kind in Kind::ALL {
            let mut list = std::mem::take(&mut self.free[kind]);
            for _ in 0..std::mem::take(&mut self.rest_pieces[kind]) {
                list.push(Dead { at: self.rest[kind], born: 0 });
                self.rest[kind] = self.rest[kind].wrapping_add(layouts[kind].size());
            }
            if !list.is_empty() {
                pool.give(kind, list);
            }
        }
    }

    /// Every piece that is in this cache.
    #[cfg(any(test, fuzzing))]
    pub(super) fn pieces(&self, kind: Kind, layout: Layout) -> Vec<*mut u8> {
        let rest = (0..self.rest_pieces[kind])
            .map(|piece| self.rest[kind].wrapping_add(piece * layout.size()));
        self.free[kind].iter().map(|piece| piece.at).chain(rest).collect()
    }
}

/// Tells AddressSanitizer which pieces are free, in a build with `--cfg asan`: it knows only slabs.
#[cfg(asan)]
mod poison {
    unsafe extern "C" {
        fn __asan_poison_memory_region(at: *const u8, bytes: usize);
        fn __asan_unpoison_memory_region(at: *const u8, bytes: usize);
    }

    pub(super) fn poison(at: *const u8, bytes: usize) {
        // SAFETY: the piece is part of a slab, and it is free.
        unsafe { __asan_poison_memory_region(at, bytes) }
    }

    pub(super) fn unpoison(at: *const u8, bytes: usize) {
        // SAFETY: the piece is part of a slab, and its new owner writes it before it reads it.
        unsafe { __asan_unpoison_memory_region(at, bytes) }
    }
}
