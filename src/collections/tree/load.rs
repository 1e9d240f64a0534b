//! Owns building a tree from the parts of an encoding, on several threads. Knows nothing of files,
//! and of how an entry is encoded.
//!
//! Each thread takes one part after the other and makes leaves of it. All of them take their pieces
//! of memory from the tree's family. Then one thread puts the inner nodes above the leaves.

use std::num::NonZero;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::super::family::{Changes, Family};
use super::super::shape::{FAN_OUT, LEAF_ENTRIES, Node, Separator, Shape, len, set_len};
use super::put::KeySlot;
use super::{MOST_LEVELS, Open, Tree};
use crate::codec::{self, DecodeError, LARGE_PART, Part, PartDecoder, SMALL_PART, StoredParts};
use crate::process::stack;

/// How many parts a thread takes at a time: neighbours in the file become neighbours in memory.
fn parts_in_a_row() -> usize {
    size!(8, small: 1)
}

/// How an entry is decoded: as key and value, or one of them alone.
pub(in crate::collections) trait DecodeEntry<K, V> {
    /// Decodes the key of the next entry.
    fn key<const LIMIT: usize>(decoder: &mut PartDecoder<'_, LIMIT>) -> Result<K, DecodeError>;

    /// Decodes the value of the entry whose key was decoded.
    fn value<const LIMIT: usize>(decoder: &mut PartDecoder<'_, LIMIT>) -> Result<V, DecodeError>;

    /// Returns whether `first` may stand before `second`.
    fn are_ordered(first: &K, second: &K) -> bool;
}

/// What was made of a part.
struct LoadedPart {
    leaves: Vec<Node>,
    is_ordered: bool,
}

// SAFETY: the nodes belong to whoever has this, and hold keys and values that may change threads:
// only `load` makes one, and it requires that.
unsafe impl Send for LoadedPart {}

/// What all threads of one load share.
struct Load<'a> {
    parts: &'a StoredParts,
    family: &'a Family,
    /// The floor and the epoch of the tree's open handle.
    born: (u64, u64),
    next: AtomicUsize,
    has_failed: AtomicBool,
    loaded: Mutex<Vec<(usize, LoadedPart)>>,
    failure: Mutex<Option<Failure>>,
}

enum Failure {
    Undecodable(String),
    Panicked(Box<dyn std::any::Any + Send>),
}

impl<K, V, S> Tree<K, V, S>
where
    K: Ord + Clone + Send,
    V: Clone + Send,
    S: Separator<K>,
{
    /// Makes a tree of all entries of a collection, in the order in which they are encoded. Returns
    /// whether that is the order of their keys.
    pub(in crate::collections) fn load<D: DecodeEntry<K, V>>(
        parts: &StoredParts,
    ) -> Result<(Self, bool), String> {
        let mut tree = Self::new();
        tree.open();
        let changes = tree.changes.get_mut().as_ref().expect("the handle was opened");
        let family = tree.family.clone().expect("an open handle has a family");
        let load = Load {
            parts,
            family: &family,
            born: (changes.floor, changes.epoch),
            next: AtomicUsize::new(0),
            has_failed: AtomicBool::new(false),
            loaded: Mutex::default(),
            failure: Mutex::default(),
        };
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        let others = cores.min(parts.count() / parts_in_a_row()).saturating_sub(1);
        std::thread::scope(|scope| {
            for _ in 0..others {
                // Without another thread, this one does more.
                stack::spawn_scoped(scope, || load.work::<K, V, S, D>()).ok();
            }
            codec::alone(|| load.work::<K, V, S, D>());
        });
        let Load { loaded, failure, .. } = load;
        let mut loaded = loaded.into_inner().expect("no thread panics while it holds this");
        loaded.sort_unstable_by_key(|(number, _)| *number);
        if fault!(PartSkipped) {
            loaded.pop();
        }
        let is_ordered = Self::are_ordered::<D>(&loaded);
        let leaves = loaded.into_iter().flat_map(|(_, part)| part.leaves).collect();
        // If a part failed, the tree drops what was decoded of the others.
        tree.link(leaves);
        match failure.into_inner().expect("no thread panics while it holds this") {
            None => {
                #[cfg(any(test, fuzzing, feature = "laboratory"))]
                crate::laboratory::decoded_in_parts(parts.count());
                Ok((tree, is_ordered))
            }
            Some(Failure::Undecodable(reason)) => Err(reason),
            Some(Failure::Panicked(panic)) => {
                drop(tree);
                resume_unwind(panic)
            }
        }
    }

    fn are_ordered<D: DecodeEntry<K, V>>(loaded: &[(usize, LoadedPart)]) -> bool {
        let mut last: Option<Node> = None;
        for (_, part) in loaded {
            if !part.is_ordered {
                return false;
            }
            if let (Some(last), Some(&first)) = (last, part.leaves.first()) {
                // SAFETY: no leaf is empty, and nobody else has them.
                let (before, after) = unsafe {
                    (Shape::<K, V>::key(last, len(last) - 1), Shape::<K, V>::key(first, 0))
                };
                if !D::are_ordered(before, after) {
                    return false;
                }
            }
            last = part.leaves.last().copied().or(last);
        }
        true
    }

    /// Puts inner nodes above the leaves, and makes all of it the tree, which is empty and open.
    fn link(&mut self, leaves: Vec<Node>) {
        let mut open = Open::of(self.changes.get_mut(), &self.family);
        // The nodes of one level, each with its first leaf and how many entries are below it.
        // SAFETY: the leaves are live, and nobody else has them.
        let mut level: Vec<(Node, Node, usize)> =
            leaves.into_iter().map(|leaf| (leaf, leaf, unsafe { len(leaf) })).collect();
        self.len = level.iter().map(|(_, _, entries)| entries).sum();
        let mut height = 0;
        while level.len() > 1 {
            height += 1;
            assert!((height as usize) < MOST_LEVELS, "a tree of so many levels fits nowhere");
            let groups = level.chunks(FAN_OUT);
            level = groups.map(|children| Self::parent(&mut open, height, children)).collect();
        }
        if let Some(&(root, ..)) = level.first() {
            (self.root, self.height) = (root, height);
        }
    }

    /// Makes the parent of up to 32 nodes.
    fn parent(
        open: &mut Open<'_>,
        height: u32,
        children: &[(Node, Node, usize)],
    ) -> (Node, Node, usize) {
        let node = open.node::<K, V, S>(height);
        let (mut first_leaf, mut entries) = (None, 0);
        for (index, &(child, leaf, below)) in children.iter().enumerate() {
            // SAFETY: the node is new and has room for all children. A child's first leaf has an
            // entry. If a user's `Clone` panics, the nodes are lost, and nothing is freed twice.
            unsafe {
                if index == 0 {
                    Shape::<K, V, S>::child_slot(node, 0).write(child);
                    set_len(node, 1);
                } else {
                    let separator = S::between(Shape::<K, V>::key(leaf, 0), entries);
                    let separator = KeySlot::<S>::new::<V>(open, separator);
                    Self::insert_child(node, index, separator, child);
                }
            }
            first_leaf = first_leaf.or(Some(leaf));
            entries += below;
        }
        (node, first_leaf.expect("a group has a node"), entries)
    }
}

impl Load<'_> {
    /// Takes one part after the other, until there are no more or one fails.
    fn work<K: Ord + Clone, V: Clone, S: Separator<K>, D: DecodeEntry<K, V>>(&self) {
        let mut changes = Changes::new();
        changes.begin_beside(self.born);
        let mut reader = self.parts.reader();
        'parts: loop {
            let first = self.next.fetch_add(parts_in_a_row(), Ordering::Relaxed);
            for number in first..first.saturating_add(parts_in_a_row()) {
                if self.has_failed.load(Ordering::Relaxed) {
                    break 'parts;
                }
                let Some((part, bytes)) = reader.read(number) else { break 'parts };
                let mut open = Open { changes: &mut changes, family: self.family };
                self.load::<K, V, S, D>(&mut open, number, part, bytes);
            }
        }
        if let Some(mut pool) = self.family.pool() {
            changes.cache.empty(&Shape::<K, V, S>::LAYOUTS, &mut pool);
        }
    }

    /// Makes leaves of part `number`.
    fn load<K: Ord + Clone, V: Clone, S: Separator<K>, D: DecodeEntry<K, V>>(
        &self,
        open: &mut Open<'_>,
        number: usize,
        part: Part,
        bytes: Option<&[u8]>,
    ) {
        let mut loaded = LoadedPart { leaves: Vec::new(), is_ordered: true };
        let decode = AssertUnwindSafe(|| match bytes {
            Some(bytes) => decode::<K, V, S, D>(open, part, bytes, &mut loaded),
            None => Err("a part of a collection cannot be read".to_owned()),
        });
        let decoded = catch_unwind(decode);
        // A part that failed is kept, too: its entries must be dropped.
        self.lock_loaded().push((number, loaded));
        match decoded {
            Ok(Ok(())) => {}
            Ok(Err(reason)) => self.fail(Failure::Undecodable(reason)),
            Err(panic) => self.fail(Failure::Panicked(panic)),
        }
    }

    fn lock_loaded(&self) -> std::sync::MutexGuard<'_, Vec<(usize, LoadedPart)>> {
        self.loaded.lock().expect("no thread panics while it holds this")
    }

    fn fail(&self, failure: Failure) {
        self.failure.lock().expect("no thread panics while it holds this").get_or_insert(failure);
        self.has_failed.store(true, Ordering::Relaxed);
    }
}

/// Decodes a part into `loaded`.
fn decode<K: Ord + Clone, V: Clone, S: Separator<K>, D: DecodeEntry<K, V>>(
    open: &mut Open<'_>,
    part: Part,
    bytes: &[u8],
    loaded: &mut LoadedPart,
) -> Result<(), String> {
    if part.is_small() {
        fill::<K, V, S, D, SMALL_PART>(open, part, PartDecoder::new(bytes), loaded)
    } else {
        fill::<K, V, S, D, LARGE_PART>(open, part, PartDecoder::new(bytes), loaded)
    }
}

/// Decodes entries into new leaves.
fn fill<K: Ord + Clone, V: Clone, S: Separator<K>, D: DecodeEntry<K, V>, const LIMIT: usize>(
    open: &mut Open<'_>,
    part: Part,
    mut decoder: PartDecoder<'_, LIMIT>,
    loaded: &mut LoadedPart,
) -> Result<(), String> {
    let mut last: Option<Node> = None;
    for _ in 0..part.entries {
        // Key and value go one by one: a large value is moved as rarely as possible.
        let key = match D::key(&mut decoder) {
            Ok(key) => key,
            Err(error) => return Err(codec::why_not_decoded(&error)),
        };
        let value = match D::value(&mut decoder) {
            Ok(value) => value,
            Err(error) => return Err(codec::why_not_decoded(&error)),
        };
        // SAFETY: the leaves are new, and only this thread has them. None is listed before it has
        // an entry.
        unsafe {
            if let Some(leaf) = last {
                let count = len(leaf);
                let before = Shape::<K, V>::key(leaf, count - 1);
                loaded.is_ordered = loaded.is_ordered && D::are_ordered(before, &key);
                if count < LEAF_ENTRIES {
                    Tree::<K, V>::put_into(open, leaf, count, key, value);
                    continue;
                }
            }
            let leaf = open.node::<K, V, S>(0);
            Tree::<K, V>::put_into(open, leaf, 0, key, value);
            loaded.leaves.push(leaf);
            last = Some(leaf);
        }
    }
    if decoder.is_at_end() || fault!(PartEndNotChecked) {
        Ok(())
    } else {
        Err("a part of a collection has bytes behind its last entry".to_owned())
    }
}
