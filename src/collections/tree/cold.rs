//! Owns trees whose entries are decoded when they are touched: what is made at the open. Knows
//! nothing of files, and of how an entry is encoded.
//!
//! The inner nodes above the two lowest levels of them are made at once, of the keys that the
//! encoding has for its parts. The others are cold: see `shape::cold`. What makes them warm belongs
//! to the family, and lives as long as any of its handles.

use std::ops::Range;
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};

use super::super::family::{Changes, Family};
use super::super::shape::{ColdSlice, FAN_OUT, LEAF_ENTRIES, Separator, Shape, make_cold};
use super::leaves::DecodeEntry;
use super::load::Child;
use super::warm::{decode_key, warm_group};
use super::{Open, Tree};
use crate::codec::{LateObserver, MOST_PART_ENTRIES, Slices, StoredParts};
use crate::mutex::lock;

/// How many leaves' entries are below a cold node at most.
pub(super) const MOST_ENTRIES: u64 = (LEAF_ENTRIES * FAN_OUT) as u64;
const _: () = assert!(MOST_PART_ENTRIES <= MOST_ENTRIES, "a part fits below one node");

/// How many [`Changes`] wait for the next node that becomes warm.
const MOST_SPARE: usize = 8;

/// What the cold nodes of a tree need to become warm.
///
/// There are two kinds. Those of height 2 are made at the open: each stands for a group of slices.
/// When one becomes warm, it gets the nodes of height 1, each of which stands for one slice. So an
/// open touches one node for some ten thousand entries.
pub(super) struct ColdTree {
    /// `None` once all nodes are warm: then the files may be closed.
    parts: RwLock<Option<Arc<StoredParts>>>,
    /// How many nodes are cold, or will be when others become warm.
    left: AtomicUsize,
    pub(super) slices: Slices,
    pub(super) late: Arc<dyn LateObserver>,
    pub(super) family: *const Family,
    /// The floor and the epoch in which the tree was made.
    born: (u64, u64),
    pub(super) groups: Vec<Group>,
    /// Pieces that were taken from the pool, and not used yet.
    spare: Mutex<Vec<Changes>>,
}

/// Slices below one node of height 2.
pub(super) struct Group {
    pub(super) numbers: Range<usize>,
    /// What the node points to.
    node: ColdSlice,
    /// What the nodes of height 1 point to, once there are such nodes.
    pub(super) children: OnceLock<Vec<ColdSlice>>,
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
    pub(super) fn spare(&self) -> std::sync::MutexGuard<'_, Vec<Changes>> {
        lock(&self.spare)
    }

    /// Returns where the entries are; `None` if all nodes are warm.
    pub(super) fn parts(&self, family: &Family) -> Option<Arc<StoredParts>> {
        let parts = match family.is_inherited() {
            // Only a thread that sets it to `None` may have kept the child from this lock.
            true => self.parts.try_read().ok()?,
            false => self.parts.read().unwrap_or_else(PoisonError::into_inner),
        };
        parts.clone()
    }

    /// Notes that a node has become warm.
    pub(super) fn one_less(&self, family: &Family) {
        if self.left.fetch_sub(1, Ordering::Relaxed) == 1 && !family.is_inherited() {
            let mut parts = self.parts.write().unwrap_or_else(PoisonError::into_inner);
            let last = parts.take();
            drop(parts);
            drop(last); // this may close files
        }
    }

    /// Tells that a slice cannot be decoded, and panics.
    #[expect(clippy::panic, reason = "a collection's methods have no other way to fail")]
    pub(super) fn fail(&self, reason: &str) -> ! {
        self.late.failed(reason);
        panic!("entries of a collection cannot be loaded: {reason}");
    }

    pub(super) fn take_changes(&self, family: &Family) -> Changes {
        // The child of a fork may have inherited the lock of a thread that it does not have.
        let spare = if family.is_inherited() { None } else { lock(&self.spare).pop() };
        spare.unwrap_or_else(|| {
            let mut changes = Changes::new();
            changes.begin_beside(self.born);
            changes
        })
    }

    pub(super) fn keep_changes<K, V, S>(&self, mut changes: Changes, family: &Family) {
        if family.is_inherited() {
            return; // what these have belongs to no pool
        }
        let mut spare = lock(&self.spare);
        if spare.len() < MOST_SPARE {
            return spare.push(changes);
        }
        drop(spare);
        if let Some(mut pool) = family.pool() {
            changes.cache.empty(&Shape::<K, V, S>::LAYOUTS, &mut pool);
        }
    }
}

impl<K, V, S> Tree<K, V, S>
where
    K: Ord + Clone + Send,
    V: Clone + Send,
    S: Separator<K>,
{
    /// Makes a tree of all entries of a collection. They are decoded when they are touched. Returns
    /// `None` if that is not possible.
    pub(in crate::collections) fn load_on_demand<D: DecodeEntry<K, V>>(
        parts: &Arc<StoredParts>,
    ) -> Option<Self> {
        let late = parts.late()?.clone();
        let slices = parts.slices().filter(|slices| slices.len() > 1)?;
        let (groups, left) = groups(parts, &slices)?;
        let first_key = |numbers: &Range<usize>| {
            let slice = parts.slice(&slices, numbers.start)?;
            parts.first_key(&slice).map(decode_key::<K, V, D>)
        };
        // Nothing stands before the first node, so its key may be missing.
        let keys: Vec<Option<K>> = groups.iter().map(|it| first_key(it).flatten()).collect();
        let known = keys.get(1..)?.iter().all(Option::is_some);
        let are_ordered = keys.iter().flatten().zip(keys.iter().flatten().skip(1));
        if !known || !{ are_ordered }.all(|(before, key)| D::are_ordered(before, key)) {
            return None;
        }
        let (mut tree, family, born) = Self::begun();
        let mut cold = Box::new(ColdTree {
            parts: RwLock::new(Some(parts.clone())),
            left: AtomicUsize::new(left),
            slices,
            late,
            family: Arc::as_ptr(&family),
            born,
            groups: Vec::with_capacity(groups.len()),
            spare: Mutex::default(),
        });
        let owner: *const ColdTree = &raw const *cold;
        for (number, numbers) in groups.into_iter().enumerate() {
            let entries = numbers.clone().filter_map(|it| parts.slice(&cold.slices, it));
            let entries = entries.fold(0, |sum: u64, slice| sum.saturating_add(slice.entries));
            let entries = u32::try_from(entries).ok()?;
            let warm = warm_group::<K, V, S, D>;
            let node = ColdSlice { warm, owner: owner.cast(), number, entries };
            cold.groups.push(Group { numbers, node, children: OnceLock::new() });
        }
        let mut open = Open::of(tree.changes.get_mut(), &tree.family);
        let child = |(group, first): (&Group, &'_ Option<K>)| {
            let node = open.node::<K, V, S>(2);
            // SAFETY: the node is new. The family will own the group.
            unsafe { make_cold(node, &raw const group.node) };
            // SAFETY: the keys live until the tree is put together.
            let first = first.as_ref().map(|key| unsafe { &*ptr::from_ref(key) });
            Child { node, first, entries: group.node.entries as usize }
        };
        let level: Vec<_> = cold.groups.iter().zip(&keys).map(child).collect();
        tree.raise(level, 2);
        family.attach(cold);
        #[cfg(any(test, fuzzing, feature = "laboratory"))]
        if parts.runs().is_some() {
            crate::laboratory::decoded_from_changes();
        }
        Some(tree)
    }
}

/// Divides slices into groups that one node of height 2 can stand above; `None` if one is too
/// large for that. Returns also how many cold nodes there will be.
fn groups(parts: &StoredParts, slices: &Slices) -> Option<(Vec<Range<usize>>, usize)> {
    let mut groups: Vec<Range<usize>> = Vec::new();
    let (mut children, mut cold) = (FAN_OUT, 0);
    for number in 0..slices.len() {
        let slice = parts.slice(slices, number)?;
        let own = usize::try_from(slice.entries.div_ceil(MOST_ENTRIES)).ok()?;
        let is_known = parts.first_key(&slice).is_some();
        children += own;
        cold += usize::from(own == 1);
        match groups.last_mut() {
            Some(last) if children <= FAN_OUT => last.end = number + 1,
            _ if own <= FAN_OUT && (is_known || number == 0) => {
                groups.push(number..number + 1);
                children = own;
            }
            _ => return None,
        }
    }
    let nodes = groups.len() + cold;
    Some((groups, nodes))
}
