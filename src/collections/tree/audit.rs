//! Owns recomputing the invariants of a family, for tests: see `family`. Knows nothing of how they
//! are kept.

use std::collections::{HashMap, HashSet};
use std::fmt::Debug;
use std::sync::Arc;

use super::super::family::{Changes, VersionId, Versions};
use super::super::shape::{
    Cell, Kind, LEAF_ENTRIES, Node, Shape, cold_slice, content_of_slot, len,
};
use super::cold::ColdTree;
use super::{Sequence, Tree};

/// The pieces that a tree reaches, with their births.
type Reached = HashMap<*mut u8, (usize, u64)>;
type Pieces = HashSet<*mut u8>;

/// Checks the nodes of a tree with this root and height, and returns how many entries it has.
type CheckNodes = unsafe fn(Node, u32) -> usize;

/// Checks all invariants of the families of these handles, which must be all that they have.
/// Returns how many pieces of memory were lost: none, unless a user's code panicked.
///
/// # Panics
/// If an invariant does not hold.
pub(in crate::collections) fn audit<K: Ord + Debug, V>(handles: &[&Tree<K, V>]) -> usize {
    audit_with(handles, |root, height| {
        // SAFETY: the caller says that the nodes are live.
        unsafe { check_node::<K, V>(root, height, None, None) }
    })
}

/// Does the same for the trees of vectors.
pub(in crate::collections) fn audit_sequences<V>(handles: &[&Sequence<V>]) -> usize {
    audit_with(handles, check_positions::<V>)
}

fn audit_with<K, V, S>(handles: &[&Tree<K, V, S>], check_nodes: CheckNodes) -> usize {
    let mut families: HashMap<_, Vec<&Tree<K, V, S>>> = HashMap::new();
    for handle in handles {
        families.entry(handle.family.as_ref().map(Arc::as_ptr)).or_default().push(handle);
    }
    families.values().map(|handles| audit_family(handles, check_nodes)).sum()
}

/// Checks all invariants of the family whose handles are exactly `handles`.
fn audit_family<K, V, S>(handles: &[&Tree<K, V, S>], check_nodes: CheckNodes) -> usize {
    let Some(family) = handles.iter().find_map(|tree| tree.family.as_ref()) else {
        assert!(handles.iter().all(|tree| tree.root.is_null() && tree.len == 0));
        return 0;
    };
    let reached: Vec<Reached> = handles.iter().map(|tree| check_shape(tree, check_nodes)).collect();
    // Nobody may look at what an inherited family owns.
    let Some(mut versions) = family.versions() else { return 0 };
    let mut clean: HashMap<VersionId, u32> = HashMap::new();
    let mut open: HashMap<VersionId, u32> = HashMap::new();
    let mut dead_everywhere = Pieces::new();
    let members: Vec<_> = handles.iter().filter(|tree| tree.family.is_some()).collect();
    assert_eq!(versions.handles(), members.len(), "the number of handles");
    for tree in &members {
        // SAFETY: the family's lock is held.
        let (version, changes) = unsafe { (*tree.version.get(), &*tree.changes.get()) };
        let counts = if is_open(changes) { &mut open } else { &mut clean };
        *counts.entry(version).or_default() += 1;
    }
    let by_version: HashMap<VersionId, Reached> = versions
        .live()
        .into_iter()
        .map(|id| {
            let (root, height) = versions.root(id);
            let mut reached = Reached::new();
            // SAFETY: the version is live, and the lock is held.
            unsafe { reach::<K, V, S>(root, height, &mut reached) };
            (id, reached)
        })
        .collect();
    let inherited = versions.inherited(family.base);
    if let Some(id) = inherited {
        *clean.entry(id).or_default() += 1;
    }
    check_versions(&mut versions, &by_version, &clean, &open, &mut dead_everywhere);
    for (tree, reached_here) in handles.iter().zip(&reached) {
        // SAFETY: the family's lock is held.
        let (version, changes) = unsafe { (*tree.version.get(), &*tree.changes.get()) };
        let Some(changes) = changes.as_deref().filter(|changes| changes.is_open) else { continue };
        let parent = by_version.get(&version);
        check_dead(parent, reached_here, changes.all_dead(), "an open handle");
        dead_everywhere.extend(changes.all_dead());
        for (&piece, &(_, born)) in reached_here {
            assert!(born <= changes.epoch, "a piece of the future");
            let others =
                handles.iter().zip(&reached).filter(|(other, _)| !std::ptr::eq(**other, *tree));
            if born > changes.floor {
                let shared = others.into_iter().any(|(_, theirs)| theirs.contains_key(&piece))
                    || by_version.values().any(|theirs| theirs.contains_key(&piece));
                assert!(!shared, "what is born after the floor is reachable from one handle");
            } else {
                let known = parent.is_some_and(|parent| parent.contains_key(&piece));
                assert!(known, "what is older than the floor is the parent's, too");
            }
        }
    }
    let mut used: Pieces =
        reached.iter().chain(by_version.values()).flat_map(HashMap::keys).copied().collect();
    used.extend(&dead_everywhere);
    if let Some(inherited) = inherited.and_then(|id| by_version.get(&id)) {
        used.retain(|piece| !inherited.contains_key(piece));
    }
    count_lost(handles, &used)
}

fn is_open(changes: &Option<Box<Changes>>) -> bool {
    changes.as_ref().is_some_and(|changes| changes.is_open)
}

fn check_versions(
    versions: &mut Versions,
    reached: &HashMap<VersionId, Reached>,
    clean: &HashMap<VersionId, u32>,
    open: &HashMap<VersionId, u32>,
    dead_everywhere: &mut Pieces,
) {
    for &id in reached.keys() {
        let children: Vec<VersionId> =
            reached.keys().copied().filter(|&child| versions.parent(child) == id).collect();
        let counted = |counts: &HashMap<VersionId, u32>| counts.get(&id).copied().unwrap_or(0);
        versions.check_counts(id, counted(clean), counted(open), &children);
        assert!(
            counted(clean) > 0 || counted(open) > 0 || children.len() > 1,
            "a version that nobody needs was kept"
        );
        let epoch = versions.epoch_of(id);
        let own = &reached[&id];
        assert!(own.values().all(|&(_, born)| born <= epoch), "a piece younger than its version");
        let dead = versions.all_dead(id);
        check_dead(reached.get(&versions.parent(id)), own, dead.iter().copied(), "a version");
        dead_everywhere.extend(dead);
    }
}

/// `dead` is what the parent reaches and its child does not.
fn check_dead(
    parent: Option<&Reached>,
    child: &Reached,
    dead: impl Iterator<Item = *mut u8>,
    who: &str,
) {
    let mut listed = Pieces::new();
    for piece in dead {
        assert!(listed.insert(piece), "{who} lists a dead piece twice");
    }
    let expected: Pieces = parent
        .into_iter()
        .flat_map(HashMap::keys)
        .filter(|piece| !child.contains_key(*piece))
        .copied()
        .collect();
    assert_eq!(listed, expected, "the dead pieces of {who}");
}

/// Checks that nothing free is used, and returns how many pieces are neither.
fn count_lost<K, V, S>(handles: &[&Tree<K, V, S>], used: &Pieces) -> usize {
    let Some(family) = handles.iter().find_map(|tree| tree.family.as_ref()) else { return 0 };
    let pool = family.pool().expect("the caller has locked the versions");
    let mut all = 0;
    let mut known = used.len();
    for kind in Kind::ALL {
        let mut free = Pieces::new();
        let layout = Shape::<K, V, S>::LAYOUTS[kind];
        let cached = handles.iter().flat_map(|tree| {
            // SAFETY: the caller holds the family's lock.
            let changes = unsafe { &*tree.changes.get() };
            changes.iter().flat_map(|it| it.cache.pieces(kind, layout)).collect::<Vec<_>>()
        });
        let of_cold = ColdTree::of(family).map(|cold| {
            let pieces = |it: &Changes| it.cache.pieces(kind, layout);
            cold.spare().iter().flat_map(pieces).collect::<Vec<_>>()
        });
        for piece in pool.free(kind).chain(cached).chain(of_cold.into_iter().flatten()) {
            assert!(free.insert(piece), "a {kind:?} is free twice");
            assert!(!used.contains(&piece), "a {kind:?} that is used is free");
        }
        known += free.len();
        all += pool.pieces(kind).0;
    }
    all.checked_sub(known).expect("each piece is counted once")
}

/// Checks the nodes and the number of entries. Returns what the tree reaches.
fn check_shape<K, V, S>(tree: &Tree<K, V, S>, check_nodes: CheckNodes) -> Reached {
    let mut reached = Reached::new();
    if tree.root.is_null() {
        assert_eq!((tree.len, tree.height), (0, 0));
        return reached;
    }
    // SAFETY: the handle keeps all of it alive, and is borrowed.
    unsafe {
        let counted = check_nodes(tree.root, tree.height);
        assert_eq!(counted, tree.len, "the number of entries");
        let is_cold = cold_slice(tree.root).is_some();
        assert!(is_cold || tree.height == 0 || len(tree.root) > 1, "a root with one child");
        reach::<K, V, S>(tree.root, tree.height, &mut reached);
    }
    reached
}

/// Checks the order of the keys and the sizes of the nodes. Returns how many entries there are.
///
/// # Safety
/// The node is live, and stays so.
unsafe fn check_node<K: Ord + Debug, V>(
    node: Node,
    height: u32,
    lower: Option<&K>,
    upper: Option<&K>,
) -> usize {
    // SAFETY: see above.
    unsafe {
        assert_eq!((*node).height, height);
        if let Some(slice) = cold_slice(node) {
            return slice.entries as usize;
        }
        let count = len(node);
        assert!((1..=LEAF_ENTRIES).contains(&count), "{count} in a node of height {height}");
        let keys = if height > 0 { count - 1 } else { count };
        let key = |index| match height {
            0 => Shape::<K, V>::key(node, index),
            _ => content_of_slot(Shape::<K, V>::separator_slot(node, index)),
        };
        for index in 0..keys {
            assert!(index == 0 || key(index - 1) < key(index), "{:?}", key(index));
            assert!(lower.is_none_or(|lower| lower <= key(index)), "{:?} {lower:?}", key(index));
            assert!(upper.is_none_or(|upper| key(index) < upper), "{:?} {upper:?}", key(index));
        }
        if height == 0 {
            return count;
        }
        (0..count)
            .map(|index| {
                let lower = if index > 0 { Some(key(index - 1)) } else { lower };
                let upper = if index < keys { Some(key(index)) } else { upper };
                check_node::<K, V>(Shape::<K, V>::child(node, index), height - 1, lower, upper)
            })
            .sum()
    }
}

/// Checks the positions and the sizes of the nodes. Returns how many elements there are.
///
/// # Safety
/// As for [`check_node`].
unsafe fn check_positions<V>(node: Node, height: u32) -> usize {
    // SAFETY: see above.
    unsafe {
        assert_eq!((*node).height, height);
        if let Some(slice) = cold_slice(node) {
            return slice.entries as usize;
        }
        let count = len(node);
        assert!((1..=LEAF_ENTRIES).contains(&count), "{count} in a node of height {height}");
        if height == 0 {
            return count;
        }
        let positions = Shape::<(), V, usize>::positions(node);
        let mut elements = 0;
        for index in 0..count {
            let child = Shape::<(), V, usize>::child(node, index);
            elements += check_positions::<V>(child, height - 1);
            let position = positions.get(index);
            assert!(
                position.is_none_or(|&it| it == elements),
                "{positions:?}[{index}], {elements}"
            );
        }
        elements
    }
}

/// # Safety
/// As for [`check_node`].
unsafe fn reach<K, V, S>(node: Node, height: u32, reached: &mut Reached) {
    // SAFETY: see above.
    unsafe {
        if node.is_null() {
            return;
        }
        let kind = if height > 0 { Kind::Inner } else { Kind::Leaf };
        let mut add = |piece: *mut u8, kind: Kind, born| {
            assert!(reached.insert(piece, (kind as usize, born)).is_none(), "reached twice");
        };
        add(node.cast(), kind, (*node).born);
        if cold_slice(node).is_some() {
            return; // nothing is below it yet
        }
        let count = len(node);
        for index in 0..if height > 0 { count - 1 } else { 0 } {
            if !Shape::<K, V, S>::SEPARATOR_IS_INLINE {
                let slot = Shape::<K, V, S>::separator_slot(node, index);
                let cell: *mut Cell<S> = Shape::<K, V, S>::separator_cell(slot);
                add(cell.cast(), Kind::Key, (*cell).born);
            }
        }
        for index in 0..if height > 0 { 0 } else { count } {
            if !Shape::<K, V>::KEY_IS_INLINE {
                let slot = Shape::<K, V>::key_slot(node, index);
                let cell: *mut Cell<K> = Shape::<K, V>::key_cell(slot);
                add(cell.cast(), Kind::Key, (*cell).born);
            }
            if !Shape::<K, V>::VALUE_IS_INLINE {
                let slot = Shape::<K, V>::value_slot(node, index);
                let cell: *mut Cell<V> = Shape::<K, V>::value_cell(slot);
                add(cell.cast(), Kind::Value, (*cell).born);
            }
        }
        for index in 0..if height > 0 { count } else { 0 } {
            reach::<K, V, S>(Shape::<K, V, S>::child(node, index), height - 1, reached);
        }
    }
}
