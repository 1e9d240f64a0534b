//! Owns building a tree from the parts of an encoding, on several threads. Knows nothing of files,
//! and of how an entry is encoded.
//!
//! Each thread takes one part after the other and makes leaves of it. If the entries are those of a
//! snapshot and its changes, a thread takes a long piece of the result instead, and reads all of
//! these files at once. All threads take their pieces of memory from the tree's family. Then one
//! thread puts the inner nodes above the leaves.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use super::super::family::{Changes, Family};
use super::super::shape::{FAN_OUT, Node, Separator, Shape, len, set_len};
use super::leaves::{DecodeEntry, LoadedPart, Task, decode, decode_run, tasks};
use super::put::KeySlot;
use super::{MOST_LEVELS, Open, Tree};
use crate::codec::{self, StoredParts};
use crate::process::{cores, stack};

/// How many parts a thread takes at a time: neighbours in the file become neighbours in memory.
fn parts_in_a_row() -> usize {
    size!(8, small: 1)
}

/// A smaller collection is decoded at once: that takes no longer than a few milliseconds.
fn least_bytes_on_demand() -> u64 {
    size!(256 << 10, small: 0)
}

const UNREADABLE: &str = "a part of a collection cannot be read";

/// What all threads of one load share.
struct Load<'a> {
    parts: &'a StoredParts,
    family: &'a Family,
    /// The floor and the epoch of the tree's open handle.
    born: (u64, u64),
    /// What the threads do one by one, if the entries are not simply those of all parts.
    tasks: Vec<Task<'a>>,
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
        parts: &Arc<StoredParts>,
    ) -> Result<(Self, bool), String> {
        let is_worth_it = parts.late().is_some() && parts.bytes() >= least_bytes_on_demand();
        match is_worth_it.then(|| Self::load_on_demand::<D>(parts)).flatten() {
            Some(tree) => Ok((tree, true)),
            None => Self::load_at_once::<D>(parts),
        }
    }

    fn load_at_once<D: DecodeEntry<K, V>>(parts: &StoredParts) -> Result<(Self, bool), String> {
        let (mut tree, family, born) = Self::begun();
        let load = Load {
            parts,
            family: &family,
            born,
            tasks: parts.runs().map_or_else(Vec::new, |runs| tasks(runs, cores())),
            next: AtomicUsize::new(0),
            has_failed: AtomicBool::new(false),
            loaded: Mutex::default(),
            failure: Mutex::default(),
        };
        let others = match parts.starts_threads {
            true if parts.runs().is_some() => cores().min(load.tasks.len()).saturating_sub(1),
            true => cores().min(parts.count() / parts_in_a_row()).saturating_sub(1),
            false => 0,
        };
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
                {
                    crate::laboratory::decoded_in_parts(parts.count());
                    if parts.runs().is_some() {
                        crate::laboratory::decoded_from_changes();
                    }
                }
                Ok((tree, is_ordered))
            }
            Some(Failure::Undecodable(reason)) => Err(reason),
            Some(Failure::Panicked(panic)) => {
                drop(tree);
                resume_unwind(panic)
            }
        }
    }

    /// Returns an open handle without entries, its family, and its floor and epoch.
    pub(super) fn begun() -> (Self, Arc<Family>, (u64, u64)) {
        let mut tree = Self::new();
        tree.open();
        let changes = tree.changes.get_mut().as_ref().expect("the handle was opened");
        let born = (changes.floor, changes.epoch);
        let family = tree.family.clone().expect("an open handle has a family");
        (tree, family, born)
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
        // SAFETY: the leaves are new, and nobody else has them.
        let level = unsafe { Child::of_leaves(&leaves) };
        self.raise(level, 0);
    }

    /// Does the same with nodes of this height.
    pub(super) fn raise(&mut self, mut level: Vec<Child<'_, K>>, mut height: u32) {
        let mut open = Open::of(self.changes.get_mut(), &self.family);
        self.len = level.iter().map(|child| child.entries).sum();
        while level.len() > 1 {
            height += 1;
            assert!((height as usize) < MOST_LEVELS, "a tree of so many levels fits nowhere");
            let groups = level.chunks(FAN_OUT);
            level = groups.map(|children| Self::parent(&mut open, height, children)).collect();
        }
        if let Some(root) = level.first() {
            (self.root, self.height) = (root.node, height);
        }
    }

    /// Makes the parent of up to 32 nodes.
    pub(super) fn parent<'k>(
        open: &mut Open<'_>,
        height: u32,
        children: &[Child<'k, K>],
    ) -> Child<'k, K> {
        let node = open.node::<K, V, S>(height);
        let mut entries = 0;
        for (index, child) in children.iter().enumerate() {
            // SAFETY: the node is new and has room for all children. If a user's `Clone` panics,
            // the nodes are lost, and nothing is freed twice.
            unsafe {
                if index == 0 {
                    Shape::<K, V, S>::child_slot(node, 0).write(child.node);
                    set_len(node, 1);
                } else {
                    let first = child.first.expect("only the first node of all may have none");
                    let separator = S::between(first, entries);
                    let separator = KeySlot::<S>::new::<V>(open, separator);
                    Self::insert_child(node, index, separator, child.node);
                }
            }
            entries += child.entries;
        }
        Child { node, first: children.first().and_then(|child| child.first), entries }
    }
}

/// A node that gets a parent.
pub(super) struct Child<'k, K> {
    pub(super) node: Node,
    /// The first key below it. It may be missing where nothing is before it.
    pub(super) first: Option<&'k K>,
    /// How many entries are below it.
    pub(super) entries: usize,
}

impl<'k, K: 'k> Child<'k, K> {
    /// # Safety
    /// The leaves are live while the result is used, nobody else has them, and their keys are `K`s.
    pub(super) unsafe fn of_leaves(leaves: &[Node]) -> Vec<Self> {
        // SAFETY: see above. Each leaf has an entry. Its keys are at the same place for any value.
        let child = |&node: &Node| unsafe {
            Self { node, first: Some(Shape::<K, ()>::key(node, 0)), entries: len(node) }
        };
        leaves.iter().map(child).collect()
    }
}

impl Load<'_> {
    /// Takes one part after the other, until there are no more or one fails.
    fn work<K: Ord + Clone, V: Clone, S: Separator<K>, D: DecodeEntry<K, V>>(&self) {
        let mut changes = Changes::new();
        changes.begin_beside(self.born);
        let mut open = Open { changes: &mut changes, family: self.family };
        match self.parts.runs() {
            Some(_) => self.load_tasks::<K, V, S, D>(&mut open),
            None => self.load_parts::<K, V, S, D>(&mut open),
        }
        if let Some(mut pool) = self.family.pool() {
            changes.cache.empty(&Shape::<K, V, S>::LAYOUTS, &mut pool);
        }
    }

    fn load_parts<K: Ord + Clone, V: Clone, S: Separator<K>, D: DecodeEntry<K, V>>(
        &self,
        open: &mut Open<'_>,
    ) {
        let Some(mut reader) = self.parts.reader() else { return };
        loop {
            let first = self.next.fetch_add(parts_in_a_row(), Ordering::Relaxed);
            for number in first..first.saturating_add(parts_in_a_row()) {
                if self.has_failed.load(Ordering::Relaxed) {
                    return;
                }
                let Some((part, bytes)) = reader.read(number) else { return };
                self.load(number, |loaded| match bytes {
                    Some(bytes) => decode::<K, V, S, D>(open, part, bytes, loaded),
                    None => Err(UNREADABLE.to_owned()),
                });
            }
        }
    }

    fn load_tasks<K: Ord + Clone, V: Clone, S: Separator<K>, D: DecodeEntry<K, V>>(
        &self,
        open: &mut Open<'_>,
    ) {
        while !self.has_failed.load(Ordering::Relaxed) {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let Some(task) = self.tasks.get(number) else { return };
            let mut cursors = self.parts.cursors();
            self.load(number, |loaded| {
                for run in task.runs() {
                    let cursor = usize::try_from(run.source).ok();
                    let cursor = cursor.and_then(|source| cursors.get_mut(source));
                    let cursor = cursor.expect("each run names a source");
                    decode_run::<K, V, S, D>(open, cursor, run, loaded)?;
                }
                Ok(())
            });
        }
    }

    /// Lets `decode` make leaves of part or task `number`.
    fn load(&self, number: usize, decode: impl FnOnce(&mut LoadedPart) -> Result<(), String>) {
        let mut loaded = LoadedPart { leaves: Vec::new(), is_ordered: true };
        let decoded = catch_unwind(AssertUnwindSafe(|| decode(&mut loaded)));
        // What failed is kept, too: its entries must be dropped.
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
