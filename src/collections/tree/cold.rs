//! Owns trees whose entries are decoded when they are touched. Knows nothing of files, and of how an
//! entry is encoded.
//!
//! The inner nodes above the lowest ones are made at once, of the keys that the encoding has for its
//! parts. The lowest inner nodes stay cold: see `shape::cold`. What makes them warm belongs to the
//! family, and lives as long as any of its handles.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};

use super::super::family::{Changes, Chunk, Family};
use super::super::pool::NO_LISTS;
use super::super::shape::{
    ColdSlice, FAN_OUT, Kind, LEAF_ENTRIES, Node, Separator, Shape, claim, cold_slice, len,
    make_cold, warm_len, write_claimed,
};
use super::leaves::{DecodeEntry, LoadedPart, Task, decode, decode_run};
use super::load::Child;
use super::{Open, Tree};
use crate::codec::{
    self, LateFailures, MOST_PART_ENTRIES, PartDecoder, SMALL_PART, Slice, SliceBegin, StoredParts,
};
use crate::process::{panic_message, stack};

/// How many leaves' entries are below a cold node at most.
const MOST_ENTRIES: u64 = (LEAF_ENTRIES * FAN_OUT) as u64;
const _: () = assert!(MOST_PART_ENTRIES <= MOST_ENTRIES, "a part fits below one node");

/// A smaller collection is decoded at once: that takes no longer than a few milliseconds.
fn least_bytes() -> u64 {
    size!(256 << 10, small: 0)
}

/// How many [`Changes`] wait for the next node that becomes warm.
const MOST_SPARE: usize = 8;

/// What the cold nodes of a tree need to become warm.
pub(super) struct ColdTree {
    parts: Arc<StoredParts>,
    late: Arc<dyn LateFailures>,
    family: *const Family,
    /// The floor and the epoch in which the tree was made.
    born: (u64, u64),
    stored: Vec<Slice>,
    /// What the nodes point to, in the same order.
    slices: Vec<ColdSlice>,
    /// Pieces that were taken from the pool, and not used yet.
    spare: Mutex<Vec<Box<Changes>>>,
}

// SAFETY: the pointers in it lead to itself and to the family that owns it. The threads that make
// nodes warm have a reference to a handle, and these cross threads only if keys and values do.
unsafe impl Send for ColdTree {}
// SAFETY: as for `Send`.
unsafe impl Sync for ColdTree {}

impl ColdTree {
    /// Returns what was attached to a family whose tree has, or had, cold nodes.
    #[cfg(any(test, fuzzing))]
    pub(super) fn of(family: &Family) -> Option<&Self> {
        family.attached()?.downcast_ref()
    }

    #[cfg(any(test, fuzzing))]
    pub(super) fn spare(&self) -> std::sync::MutexGuard<'_, Vec<Box<Changes>>> {
        self.spare.lock().expect("no thread panics while it holds this")
    }

    /// Tells that a slice cannot be decoded, and panics.
    #[expect(clippy::panic, reason = "a collection's methods have no other way to fail")]
    fn fail(&self, reason: &str) -> ! {
        self.late.note(reason);
        panic!("entries of a collection cannot be loaded: {reason}");
    }

    fn take_changes(&self) -> Box<Changes> {
        // The child of a fork may have inherited the lock of a thread that it does not have.
        let spare = self.spare.try_lock().ok().and_then(|mut spare| spare.pop());
        spare.unwrap_or_else(|| {
            let mut changes = Box::new(Changes::new());
            changes.begin_beside(self.born);
            changes
        })
    }

    fn keep_changes(&self, changes: Box<Changes>) {
        if let Ok(mut spare) = self.spare.try_lock()
            && spare.len() < MOST_SPARE
        {
            spare.push(changes);
        }
        // What these have is lost until the family goes.
    }
}

impl<K, V, S> Tree<K, V, S>
where
    K: Ord + Clone + Send,
    V: Clone + Send,
    S: Separator<K>,
{
    /// Makes a tree of all entries of a collection. They are decoded when they are touched. Returns
    /// `None` if that is not possible, or not worth it.
    pub(super) fn load_on_demand<D: DecodeEntry<K, V>>(parts: &Arc<StoredParts>) -> Option<Self> {
        let late = parts.late()?.clone();
        if parts.bytes() < least_bytes() {
            return None;
        }
        let stored = parts.slices().filter(|slices| slices.len() > 1)?;
        let keys = keys::<K, V, D>(parts, &stored)?;
        let mut tree = Self::new();
        tree.open();
        let changes = tree.changes.get_mut().as_ref().expect("the handle was opened");
        let born = (changes.floor, changes.epoch);
        let family = tree.family.clone().expect("an open handle has a family");
        let cold = ColdTree {
            parts: parts.clone(),
            late,
            family: Arc::as_ptr(&family),
            born,
            slices: Vec::with_capacity(stored.len()),
            stored,
            spare: Mutex::default(),
        };
        let mut cold = Box::new(cold);
        let owner: *const ColdTree = &raw const *cold;
        for (number, slice) in cold.stored.iter().enumerate() {
            let entries = u32::try_from(slice.entries.min(MOST_ENTRIES)).unwrap_or(u32::MAX);
            let warm = warm::<K, V, S, D>;
            cold.slices.push(ColdSlice { warm, owner: owner.cast(), number, entries });
        }
        let level = tree.cold_nodes::<D>(&cold, &keys)?;
        family.attach(cold as Box<dyn Any + Send + Sync>);
        tree.raise(level, 1);
        Some(tree)
    }

    /// Makes the lowest inner nodes; `None` if entries that are needed at once cannot be decoded.
    fn cold_nodes<'k, D: DecodeEntry<K, V>>(
        &mut self,
        cold: &ColdTree,
        keys: &'k [Option<K>],
    ) -> Option<Vec<Child<'k, K>>> {
        let mut open = Open::of(self.changes.get_mut(), &self.family);
        let mut level = Vec::with_capacity(cold.stored.len());
        for ((number, slice), first) in cold.stored.iter().enumerate().zip(keys) {
            if slice.entries > MOST_ENTRIES {
                let loaded = decode_slice::<K, V, S, D>(&mut open, cold, number).ok()?;
                for leaves in loaded.leaves.chunks(FAN_OUT) {
                    level.push(Self::parent(&mut open, 1, &Child::of_leaves(leaves)));
                }
                continue;
            }
            let node = open.node::<K, V, S>(1);
            let pointed = cold.slices.get(number)?;
            // SAFETY: the node is new. The family owns the slice.
            unsafe { make_cold(node, pointed) };
            let entries = usize::try_from(slice.entries).ok()?;
            level.push(Child { node, first: first.as_ref(), entries });
        }
        Some(level)
    }
}

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

/// Decodes the first keys; `None` if one of them cannot be decoded, or if they are not in their
/// order.
fn keys<K, V, D: DecodeEntry<K, V>>(
    parts: &StoredParts,
    slices: &[Slice],
) -> Option<Vec<Option<K>>> {
    let mut keys: Vec<Option<K>> = Vec::with_capacity(slices.len());
    for (number, slice) in slices.iter().enumerate() {
        let key = match parts.first_key(slice) {
            Some(encoded) => Some(decode_key::<K, V, D>(encoded)?),
            // Nothing stands before the first node.
            None if number == 0 => None,
            None => return None,
        };
        if let (Some(Some(before)), Some(key)) = (keys.last(), &key)
            && !D::are_ordered(before, key)
        {
            return None;
        }
        keys.push(key);
    }
    Some(keys)
}

fn decode_key<K, V, D: DecodeEntry<K, V>>(encoded: &[u8]) -> Option<K> {
    codec::alone(|| D::key(&mut PartDecoder::<SMALL_PART>::new(encoded)).ok())
}

/// Decodes the leaves of a slice, on this thread.
fn decode_slice<K: Ord + Clone, V: Clone, S: Separator<K>, D: DecodeEntry<K, V>>(
    open: &mut Open<'_>,
    cold: &ColdTree,
    number: usize,
) -> Result<LoadedPart, String> {
    const UNREADABLE: &str = "a part of a collection cannot be read";
    let slice = cold.stored.get(number).ok_or(UNREADABLE)?;
    let mut loaded = LoadedPart { leaves: Vec::new(), is_ordered: true };
    let decoded = catch_unwind(AssertUnwindSafe(|| {
        codec::alone(|| match slice.begin {
            SliceBegin::Part(part) => {
                let mut reader = cold.parts.reader().ok_or(UNREADABLE)?;
                let (part, bytes) = reader.read(part).ok_or(UNREADABLE)?;
                decode::<K, V, S, D>(open, part, bytes.ok_or(UNREADABLE)?, &mut loaded)
            }
            SliceBegin::Run { run, skipped } => {
                let runs = cold.parts.runs().and_then(|runs| runs.get(run..)).ok_or(UNREADABLE)?;
                let mut cursors = cold.parts.cursors();
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
        Err(format!("the Deserialize of an entry panicked: {}", panic_message(&*panic)))
    });
    let checked = decoded.and_then(|()| check::<K, V, D>(cold, number, &loaded));
    match checked {
        Ok(()) => Ok(loaded),
        Err(reason) => {
            throw_away::<K, V, S>(open, loaded.leaves, 0);
            Err(cold.parts.take_failure().unwrap_or(reason))
        }
    }
}

/// Checks that the entries of a slice are where the nodes above say.
fn check<K, V, D: DecodeEntry<K, V>>(
    cold: &ColdTree,
    number: usize,
    loaded: &LoadedPart,
) -> Result<(), String> {
    const DISORDERED: &str = "the keys of a collection are not in their order: the Ord of their \
                              type is not the one with which they were written";
    let slice = cold.stored.get(number).ok_or(DISORDERED)?;
    let next = cold.stored.get(number + 1);
    let key = |slice: &Slice| decode_key::<K, V, D>(cold.parts.first_key(slice)?);
    // SAFETY: the leaves are live, each has an entry, and only this thread has them.
    let (first, last, entries) = unsafe {
        let entries: usize = loaded.leaves.iter().map(|&leaf| warm_len(leaf)).sum();
        let first = loaded.leaves.first().map(|&leaf| Shape::<K, V>::key(leaf, 0));
        let last = loaded.leaves.last();
        let last = last.map(|&leaf| Shape::<K, V>::key(leaf, warm_len(leaf) - 1));
        (first.ok_or(DISORDERED)?, last.ok_or(DISORDERED)?, entries)
    };
    let begins_there = key(slice).is_none_or(|key| D::are_same(&key, first));
    let ends_there = next.and_then(key).is_none_or(|next| D::are_ordered(last, &next));
    if !loaded.is_ordered || !begins_there || !ends_there {
        return Err(DISORDERED.to_owned());
    }
    if entries as u64 != slice.entries {
        return Err("a part of a collection has another number of entries".to_owned());
    }
    Ok(())
}

/// Drops nodes that nobody has seen, with all below them.
fn throw_away<K, V, S>(open: &mut Open<'_>, nodes: Vec<Node>, height: u32) {
    let mut own = NO_LISTS;
    for node in nodes {
        // SAFETY: only the caller reaches them.
        unsafe { Tree::<K, V, S>::collect_own(node, height, open.changes.floor, &mut own) };
    }
    let mut garbage = Vec::new();
    Chunk::drain(&mut own, &mut garbage);
    Tree::<K, V, S>::free(open.family, garbage);
}

/// Makes a cold node warm.
///
/// # Safety
/// The node is live, and it was made cold with this slice by `load_on_demand`, for these types.
unsafe fn warm<K, V, S, D>(slice: *const ColdSlice, node: Node)
where
    K: Ord + Clone + Send,
    V: Clone + Send,
    S: Separator<K>,
    D: DecodeEntry<K, V>,
{
    // SAFETY: whoever reaches the node has a handle, which keeps the family and what it owns.
    let (cold, number) = unsafe { (&*(*slice).owner.cast::<ColdTree>(), (*slice).number) };
    // SAFETY: see above.
    let family = unsafe { &*cold.family };
    let mut changes = cold.take_changes();
    let mut open = Open { changes: &mut changes, family };
    let loaded = decode_slice::<K, V, S, D>(&mut open, cold, number).or_else(|reason| {
        // A user's thread may have less stack than those that have decoded the entries before.
        let again = std::thread::scope(|scope| {
            let decode = || {
                let mut changes = cold.take_changes();
                let mut open = Open { changes: &mut changes, family };
                let loaded = decode_slice::<K, V, S, D>(&mut open, cold, number);
                cold.keep_changes(changes);
                loaded
            };
            stack::spawn_scoped(scope, decode).ok().and_then(|thread| thread.join().ok())
        });
        again.unwrap_or(Err(reason))
    });
    let loaded = loaded.unwrap_or_else(|reason| cold.fail(&reason));
    let leaves = loaded.leaves.clone();
    let made = catch_unwind(AssertUnwindSafe(|| {
        Tree::<K, V, S>::parent(&mut open, 1, &Child::of_leaves(&loaded.leaves)).node
    }));
    let Ok(made) = made else {
        throw_away::<K, V, S>(&mut open, leaves, 0);
        cold.fail("the Clone of a key panicked")
    };
    // SAFETY: the node was cold. `made` is new, and of the same kind.
    unsafe {
        if claim(node) {
            write_claimed(node, made, Shape::<K, V, S>::LAYOUTS[Kind::Inner]);
            open.changes.cache.keep(Kind::Inner, made.cast());
        } else {
            throw_away::<K, V, S>(&mut open, vec![made], 1);
        }
    }
    cold.keep_changes(changes);
}
