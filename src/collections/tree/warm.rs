//! Owns how cold nodes become warm: it decodes what is below them, checks it, and writes it into
//! them. Knows nothing of files, and of how an entry is encoded.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::time::Instant;

use super::super::family::{Chunk, Family};
use super::super::pool::NO_LISTS;
use super::super::shape::{
    ColdSlice, FAN_OUT, Kind, Node, Separator, Shape, claim, cold_slice, len, make_cold, warm_len,
    write_claimed,
};
use super::cold::{ColdTree, MOST_ENTRIES};
use super::leaves::{DecodeEntry, LoadedPart, Task, decode, decode_run};
use super::load::Child;
use super::{Open, Tree};
use crate::codec::{self, PartDecoder, SMALL_PART, Slice, SliceBegin, StoredParts};
use crate::panics::panic_message;
use crate::process::stack;

impl<K, V, S> Tree<K, V, S> {
    /// Makes all cold nodes warm, one after the other, while `goes_on` says so. Returns whether all
    /// are.
    pub(in crate::collections) fn warm_all(&self, goes_on: &mut dyn FnMut() -> bool) -> bool {
        // SAFETY: all below the root lives as long as the handle.
        unsafe { self.root.is_null() || Self::warm_below(self.root, self.height, goes_on) }
    }

    /// Makes all cold nodes below `node` warm, and itself.
    ///
    /// # Safety
    /// The node is live, and stays so.
    pub(super) unsafe fn warm_below(
        node: Node,
        height: u32,
        goes_on: &mut dyn FnMut() -> bool,
    ) -> bool {
        // SAFETY: see above.
        unsafe {
            if height == 0 {
                return true;
            }
            if cold_slice(node).is_some() && !goes_on() {
                return false;
            }
            let count = len(node);
            height == 1
                || (0..count).all(|index| {
                    let child = Shape::<K, V, S>::child(node, index);
                    Self::warm_below(child, height - 1, goes_on)
                })
        }
    }
}

/// Decodes a first key; `None` if it cannot be decoded.
pub(super) fn decode_key<K, V, D: DecodeEntry<K, V>>(encoded: &[u8]) -> Option<K> {
    codec::alone(|| D::key(&mut PartDecoder::<SMALL_PART>::new(encoded)).ok())
}

/// Decodes the leaves of a slice, on this thread.
fn decode_slice<K: Ord + Clone, V: Clone, S: Separator<K>, D: DecodeEntry<K, V>>(
    open: &mut Open<'_>,
    (cold, parts): (&ColdTree, &StoredParts),
    number: usize,
) -> Result<LoadedPart, String> {
    const UNREADABLE: &str = "a part of a collection cannot be read";
    let slice = parts.slice(&cold.slices, number).ok_or(UNREADABLE)?;
    let mut loaded = LoadedPart { leaves: Vec::new(), is_ordered: true };
    let decoded = catch_unwind(AssertUnwindSafe(|| {
        codec::alone(|| match slice.begin {
            SliceBegin::Part(part) => {
                let mut reader = parts.reader().ok_or(UNREADABLE)?;
                let (part, bytes) = reader.read(part).ok_or(UNREADABLE)?;
                decode::<K, V, S, D>(open, part, bytes.ok_or(UNREADABLE)?, &mut loaded)
            }
            SliceBegin::Run { run, skipped } => {
                let runs = parts.runs().and_then(|runs| runs.get(run..)).ok_or(UNREADABLE)?;
                let mut cursors = parts.cursors_of_slice();
                for run in Task::new(runs, skipped, slice.entries).runs() {
                    let source = usize::try_from(run.source).ok();
                    let cursor = source.and_then(|source| cursors.get_mut(source));
                    decode_run::<K, V, S, D>(open, cursor.ok_or(UNREADABLE)?, run, &mut loaded)?;
                }
                Ok(())
            }
        })
    }));
    let decoded = decoded.unwrap_or_else(|panic| {
        Err(format!("the Deserialize of an entry panicked: {}", panic_message(panic)))
    });
    let checked = decoded.and_then(|()| check::<K, V, D>((cold, parts), number, &loaded));
    match checked {
        Ok(()) => Ok(loaded),
        Err(reason) => {
            // SAFETY: nobody else has them.
            unsafe { throw_away::<K, V, S>(open, loaded.leaves, 0) };
            Err(parts.take_failure().unwrap_or(reason))
        }
    }
}

const DISORDERED: &str = "the keys of a collection are not in their order: the Ord of their type is \
                          not the one with which they were written";

/// Checks that the entries of a slice are where the nodes above say.
fn check<K, V, D: DecodeEntry<K, V>>(
    (cold, parts): (&ColdTree, &StoredParts),
    number: usize,
    loaded: &LoadedPart,
) -> Result<(), String> {
    let slice = parts.slice(&cold.slices, number).ok_or(DISORDERED)?;
    let next = parts.slice(&cold.slices, number + 1);
    let key = |slice: &Slice| decode_key::<K, V, D>(parts.first_key(slice)?);
    // SAFETY: the leaves are live, each has an entry, and only this thread has them.
    let (first, last, entries) = unsafe {
        let entries: usize = loaded.leaves.iter().map(|&leaf| warm_len(leaf)).sum();
        let first = loaded.leaves.first().map(|&leaf| Shape::<K, V>::key(leaf, 0));
        let last = loaded.leaves.last();
        let last = last.map(|&leaf| Shape::<K, V>::key(leaf, warm_len(leaf) - 1));
        (first.ok_or(DISORDERED)?, last.ok_or(DISORDERED)?, entries)
    };
    let begins_there = key(&slice).is_none_or(|key| D::are_same(&key, first));
    let ends_there = next.as_ref().and_then(key).is_none_or(|next| D::are_ordered(last, &next));
    let is_in_place = loaded.is_ordered && begins_there && ends_there;
    if !is_in_place && !fault!(ColdKeysNotChecked) {
        return Err(DISORDERED.to_owned());
    }
    if entries as u64 != slice.entries {
        return Err("a part of a collection has another number of entries".to_owned());
    }
    Ok(())
}

/// Drops nodes that nobody has seen, with all below them.
///
/// # Safety
/// The nodes are of these types and this height, and only the caller reaches them.
unsafe fn throw_away<K, V, S>(open: &mut Open<'_>, nodes: Vec<Node>, height: u32) {
    let mut own = NO_LISTS;
    for node in nodes {
        // SAFETY: see above.
        unsafe { Tree::<K, V, S>::collect_own(node, height, open.changes.floor, &mut own) };
    }
    let mut garbage = Vec::new();
    Chunk::drain(&mut own, &mut garbage);
    Tree::<K, V, S>::free(open.family, garbage);
}

/// Makes a cold node of height 2 warm: it gets cold children.
///
/// # Safety
/// The node is live, and it was made cold with this slice by `load_on_demand`, for these types.
pub(super) unsafe fn warm_group<K, V, S, D>(slice: *const ColdSlice, node: Node)
where
    K: Ord + Clone + Send,
    V: Clone + Send,
    S: Separator<K>,
    D: DecodeEntry<K, V>,
{
    // SAFETY: see above.
    let (cold, family, number) = unsafe { ColdTree::of_node(slice) };
    let Some(parts) = cold.parts(family) else { return };
    let group = cold.groups.get(number).expect("a node stands for a group");
    let children = || -> Vec<ColdSlice> {
        let child = |number: usize| {
            let slice = parts.slice(&cold.slices, number);
            let entries = slice.map_or(0, |slice| slice.entries);
            let entries = u32::try_from(entries).unwrap_or(u32::MAX);
            let warm = warm_slice::<K, V, S, D>;
            ColdSlice { warm, owner: ptr::from_ref(cold).cast(), number, entries }
        };
        group.numbers.clone().map(child).collect()
    };
    let slices = match group.children.get() {
        Some(slices) => slices.as_slice(),
        // The child of a fork must not wait for a thread that it does not have. What it inherits is
        // never freed, and neither is this.
        None if family.is_inherited() => children().leak(),
        None => group.children.get_or_init(children),
    };
    // SAFETY: see above.
    unsafe {
        cold.make_warm::<K, V, S>(node, 2, |open| {
            let first_key = |slice: &ColdSlice| {
                let slice = parts.slice(&cold.slices, slice.number)?;
                decode_key::<K, V, D>(parts.first_key(&slice)?)
            };
            let keys: Vec<Option<K>> = slices.iter().map(first_key).collect();
            let mut children = Vec::with_capacity(FAN_OUT);
            for (slice, key) in slices.iter().zip(&keys) {
                if u64::from(slice.entries) > MOST_ENTRIES {
                    let from = (cold, &*parts, slice.number);
                    let loaded = match decode_slice_anywhere::<K, V, S, D>(open, from) {
                        Ok(loaded) => loaded,
                        Err(reason) => {
                            let made = children.iter().map(|it: &Child<'_, K>| it.node).collect();
                            throw_away::<K, V, S>(open, made, 1);
                            return Err(reason);
                        }
                    };
                    for leaves in loaded.leaves.chunks(FAN_OUT) {
                        children.push(Tree::<K, V, S>::parent(open, 1, &Child::of_leaves(leaves)));
                    }
                    continue;
                }
                let child = open.node::<K, V, S>(1);
                make_cold(child, slice);
                let entries = slice.entries as usize;
                children.push(Child { node: child, first: key.as_ref(), entries });
            }
            let (all, others) = (children.iter(), children.iter().skip(1));
            let follows = |(before, child): (&Child<'_, K>, &Child<'_, K>)| {
                let key = child.first?;
                Some(before.first.is_none_or(|before| D::are_ordered(before, key)))
            };
            if !{ all }.zip(others).all(|pair| follows(pair) == Some(true)) {
                throw_away::<K, V, S>(open, children.iter().map(|it| it.node).collect(), 1);
                return Err(DISORDERED.to_owned());
            }
            Ok(Tree::<K, V, S>::parent(open, 2, &children).node)
        });
    }
}

/// Makes a cold node of height 1 warm: it gets leaves.
///
/// # Safety
/// The node is live, and it was made cold with this slice by `warm_group`, for these types.
unsafe fn warm_slice<K, V, S, D>(slice: *const ColdSlice, node: Node)
where
    K: Ord + Clone + Send,
    V: Clone + Send,
    S: Separator<K>,
    D: DecodeEntry<K, V>,
{
    // SAFETY: see above.
    unsafe {
        let (cold, family, number) = ColdTree::of_node(slice);
        let Some(parts) = cold.parts(family) else { return };
        let began = Instant::now();
        cold.make_warm::<K, V, S>(node, 1, |open| {
            let from = (cold, &*parts, number);
            let loaded = decode_slice_anywhere::<K, V, S, D>(open, from)?;
            Ok(Tree::<K, V, S>::parent(open, 1, &Child::of_leaves(&loaded.leaves)).node)
        });
        cold.late.loaded(began.elapsed());
    }
}

impl ColdTree {
    /// # Safety
    /// The slice is one of a cold tree, and somebody has a handle to that tree for `'a`.
    unsafe fn of_node<'a>(slice: *const ColdSlice) -> (&'a Self, &'a Family, usize) {
        // SAFETY: the handle keeps the family and what it owns.
        unsafe {
            let cold = &*(*slice).owner.cast::<Self>();
            (cold, &*cold.family, (*slice).number)
        }
    }

    /// Makes a cold node warm. `make` makes a node with what this one is to have.
    ///
    /// # Safety
    /// The node is live, was made cold, and has this height.
    unsafe fn make_warm<K, V, S>(
        &self,
        node: Node,
        height: u32,
        make: impl FnOnce(&mut Open<'_>) -> Result<Node, String>,
    ) where
        K: Ord + Clone,
        V: Clone,
        S: Separator<K>,
    {
        // SAFETY: whoever reaches the node has a handle, which keeps the family.
        let family = unsafe { &*self.family };
        let mut changes = self.take_changes(family);
        let mut open = Open { changes: &mut changes, family };
        // If a user's `Clone` of a key panics here, what was decoded is lost.
        let made = match make(&mut open) {
            Ok(made) => made,
            Err(reason) => {
                self.keep_changes::<K, V, S>(changes, family);
                self.fail(&reason);
            }
        };
        // SAFETY: the node was cold. `made` is new, and of the same kind.
        unsafe {
            if claim(node) {
                write_claimed(node, made, Shape::<K, V, S>::LAYOUTS[Kind::Inner]);
                open.changes.cache.keep(Kind::Inner, made.cast());
                self.one_less(family);
            } else {
                throw_away::<K, V, S>(&mut open, vec![made], height);
            }
        }
        self.keep_changes::<K, V, S>(changes, family);
        #[cfg(any(test, fuzzing, feature = "laboratory"))]
        {
            crate::laboratory::loaded_late();
            crate::laboratory::decoded_in_parts(usize::from(height == 1));
        }
    }
}

/// Decodes the leaves of a slice on this thread, or on one with more stack.
fn decode_slice_anywhere<K, V, S, D>(
    open: &mut Open<'_>,
    (cold, parts, number): (&ColdTree, &StoredParts, usize),
) -> Result<LoadedPart, String>
where
    K: Ord + Clone + Send,
    V: Clone + Send,
    S: Separator<K>,
    D: DecodeEntry<K, V>,
{
    decode_slice::<K, V, S, D>(open, (cold, parts), number).or_else(|reason| {
        // A user's thread may have less stack than those that have decoded the entries before.
        let family = open.family;
        let again = std::thread::scope(|scope| {
            let decode = || {
                let mut changes = cold.take_changes(family);
                let mut open = Open { changes: &mut changes, family };
                let loaded = decode_slice::<K, V, S, D>(&mut open, (cold, parts), number);
                cold.keep_changes::<K, V, S>(changes, family);
                loaded
            };
            stack::spawn_scoped(scope, decode).ok().and_then(|thread| thread.join().ok())
        });
        again.unwrap_or(Err(reason))
    })
}
