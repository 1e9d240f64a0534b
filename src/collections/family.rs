//! Owns the versions of one family: which of them are alive, how they descend from each other, and
//! what died between a version and the one it descends from. Knows nothing of keys and values.
//!
//! All maps that were cloned from one map are a family. Their versions form a tree. Each version
//! has an *epoch*, each node the epoch in which it was *born*, so no node needs a count of
//! references:
//!
//! - A *handle* (one `Map`) is *clean*, with a version that it may share, or *open*: then it has
//!   changed since its parent version. The parent's epoch is the handle's *floor*.
//! - What was born after the floor is reachable from that handle alone, and may be written in
//!   place. Anything else is copied first. The copy is born in the handle's epoch, and the original
//!   is *dead* for this handle: it goes on the handle's dead list.
//! - A clone makes the open handle a version. Nothing that a version reaches is written again.
//! - `dead(n)` are the pieces that the parent of version `n` reaches, and `n` does not.
//!
//! A version without handles goes away:
//!
//! - If it has no child, nobody reaches what was born after its parent. That is freed.
//! - If it has one child, the two become one. From the child's dead list, what was born after the
//!   parent of the version that goes was reachable from that version alone. It is freed; the rest,
//!   together with the dead list of the version that goes, is what the parent reaches and the child
//!   does not.
//! - If it has several children, it stays until all but one are gone.
//!
//! The dead lists are those of ZFS's snapshots; LMDB frees pages in a similar way.
//!
//! # In the child of a fork
//!
//! The child inherits families whose locks may be held by threads that it does not have, and whose
//! versions and pools those threads may have been changing. So it never looks at what an inherited
//! family's locks guard: [`Family::versions`] and [`Family::pool`] give it nothing. What it reads is
//! whole, because nobody writes it through a shared handle: the nodes, a handle's root, length and
//! height, and the number of the newest epoch. Whoever changes or drops a handle has it alone, and so
//! did the thread that forked; so what this handle has changed is whole, too.
//!
//! - A clone of an inherited handle is one, too: it copies the root, and joins no version.
//! - The next change of an inherited handle that was clean, or was cloned in the child, gives it a
//!   new family. In it the inherited tree is a version that nobody ever lets go, and all of its
//!   pieces were born before the floor: they are copied before they are written, and never freed.
//! - Until then an inherited handle that is open still writes what is its own: no other handle in
//!   the child reaches it. It takes pieces from its own cache. Once that is empty it ends its change
//!   with pieces that belong to no pool, and the next change gives it a new family.
//! - An inherited family, its pool and what died in it are never freed: nobody in the child knows who
//!   reaches them.

use std::alloc::Layout;
use std::mem::ManuallyDrop;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::pool::{Cache, Dead, Lists, NO_LISTS, Pool, UNKNOWN};
use super::shape::{Kind, Node};
use super::sync::{Mutex, MutexGuard, lock};
use crate::process::OpeningProcess;

/// The index of a version in its family.
pub(super) type VersionId = u32;
/// No version: the parent of the first one.
pub(super) const NONE: VersionId = VersionId::MAX;

/// Why a version with this id must be there.
const KNOWN: &str = "handles and versions hold only ids that `add` gave them";

/// After so many dead leaves an open handle looks whether its parent is still needed.
const ADOPT_AFTER: usize = 4096;

/// Dead pieces of one kind.
pub(super) struct Chunk {
    pub(super) kind: Kind,
    /// The lowest and the highest birth, once somebody asked for them.
    births: Option<(u64, u64)>,
    pub(super) pieces: Vec<Dead>,
}

/// A tree that only its last owner reaches. The owner searches it outside the lock; meanwhile it
/// counts as an open handle of `parent`, so that what it shares with the parent stays.
pub(super) struct Leaving {
    pub(super) root: Node,
    pub(super) height: u32,
    /// What was born in this epoch or before belongs to the parent.
    pub(super) floor: u64,
    pub(super) parent: VersionId,
}

/// A state of the tree that never changes.
struct Version {
    epoch: u64,
    parent: VersionId,
    root: Node,
    height: u32,
    /// Clean handles that have this version.
    handles: u32,
    /// Open handles whose parent this is.
    open_handles: u32,
    children: u32,
    /// The ids of all children, xored: the only child's id if there is one.
    children_xor: VersionId,
    dead: Vec<Chunk>,
}

#[derive(Default)]
pub(super) struct Versions {
    versions: Vec<Version>,
    unused: Vec<VersionId>,
    /// How many handles there are, clean and open.
    handles: usize,
}

/// What all handles of a family share.
pub(super) struct Family {
    versions: Mutex<Versions>,
    pool: Mutex<Pool>,
    /// The newest epoch so far. The holder of the versions' lock changes it. A child of a fork reads
    /// it without the lock: no piece that the child reaches was born later.
    epoch: AtomicU64,
    /// The process whose threads share this family.
    process: OpeningProcess,
    /// What was born in this epoch or before is another family's.
    #[cfg(any(test, fuzzing))]
    pub(super) base: u64,
}

// SAFETY: the pointers in it lead to pieces of the family's slabs. They are followed only by
// handles, which are `Send` or `Sync` only if the keys and values are both.
unsafe impl Send for Family {}
// SAFETY: as for `Send`.
unsafe impl Sync for Family {}

/// What a handle has changed since its parent version. A clean handle keeps one for its buffers.
pub(super) struct Changes {
    pub(super) is_open: bool,
    pub(super) floor: u64,
    pub(super) epoch: u64,
    pub(super) dead: Lists,
    /// Dead lists that this handle took over from a version that became its own.
    inherited: Vec<Chunk>,
    pub(super) cache: Cache,
    /// With this many dead leaves the handle looks at its family before it changes:
    /// [`Versions::adopt`] is worth a try. 0 in the child of a fork that cloned the handle.
    look_at: AtomicUsize,
}

// SAFETY: as for `Family`.
unsafe impl Send for Changes {}

impl Chunk {
    fn new(kind: Kind, pieces: Vec<Dead>) -> Self {
        Self { kind, births: None, pieces }
    }

    /// Returns the lowest and the highest birth of the pieces, which nobody has freed.
    fn births(&mut self) -> (u64, u64) {
        *self.births.get_or_insert_with(|| {
            let (mut lowest, mut highest) = (u64::MAX, 0);
            for piece in &mut self.pieces {
                if piece.born == UNKNOWN {
                    // SAFETY: the piece is dead and not yet free, and each kind begins with its
                    // birth, which nobody writes after the piece was made.
                    piece.born = unsafe { *piece.at.cast::<u64>() };
                }
                lowest = lowest.min(piece.born);
                highest = highest.max(piece.born);
            }
            (lowest, highest)
        })
    }

    /// Moves the lists into chunks.
    pub(super) fn drain(lists: &mut Lists, chunks: &mut Vec<Self>) {
        for kind in Kind::ALL {
            let pieces = std::mem::take(&mut lists[kind]);
            if !pieces.is_empty() {
                chunks.push(Self::new(kind, pieces));
            }
        }
    }

    /// Adds this chunk to a chunk of its kind in `chunks`.
    fn join(mut self, chunks: &mut Vec<Self>) {
        let Some(other) = chunks.iter_mut().find(|other| other.kind == self.kind) else {
            chunks.push(self);
            return;
        };
        let (mine, theirs) = (self.births(), other.births());
        if other.pieces.len() < self.pieces.len() {
            std::mem::swap(&mut other.pieces, &mut self.pieces);
        }
        other.pieces.append(&mut self.pieces);
        other.births = Some((mine.0.min(theirs.0), mine.1.max(theirs.1)));
    }
}

/// Divides what died in a version whose parent goes away, and whose next parent has the epoch
/// `floor`: what is younger was the old parent's own, and is free. The rest stays dead.
fn divide(dead: Vec<Chunk>, floor: u64, free: &mut Vec<Chunk>, kept: &mut Vec<Chunk>) {
    if floor == 0 {
        free.extend(dead);
        return;
    }
    for mut chunk in dead {
        let (lowest, highest) = chunk.births();
        if fault!(DeadListDividedWrongly) || lowest > floor {
            free.push(chunk);
        } else if highest <= floor {
            chunk.join(kept);
        } else {
            let (young, old): (Vec<Dead>, Vec<Dead>) =
                chunk.pieces.iter().partition(|piece| piece.born > floor);
            free.push(Chunk::new(chunk.kind, young));
            Chunk::new(chunk.kind, old).join(kept);
        }
    }
}

impl Changes {
    pub(super) fn new() -> Self {
        Self {
            is_open: false,
            floor: 0,
            epoch: 0,
            dead: NO_LISTS,
            inherited: Vec::new(),
            cache: Cache::new(),
            look_at: AtomicUsize::new(ADOPT_AFTER),
        }
    }

    /// Whether the handle may change what is its own without a look at its family.
    #[inline(always)]
    pub(super) fn may_go_on(&mut self) -> bool {
        self.is_open && self.dead[Kind::Leaf].len() < *self.look_at.get_mut()
    }

    /// Makes sure that the handle looks at its family before its next change.
    pub(super) fn look_at_family(&self) {
        if !fault!(InheritedHandleGoesOn) {
            // Whoever changes the handle next has got it from this thread.
            self.look_at.store(0, Ordering::Relaxed);
        }
    }

    fn begin(&mut self, floor: u64, epoch: u64) {
        debug_assert!(!self.is_open && floor < epoch);
        (self.is_open, self.floor, self.epoch) = (true, floor, epoch);
        *self.look_at.get_mut() = ADOPT_AFTER;
    }

    /// Takes all dead pieces out.
    fn take_dead(&mut self) -> Vec<Chunk> {
        let mut dead = std::mem::take(&mut self.inherited);
        Chunk::drain(&mut self.dead, &mut dead);
        dead
    }

    pub(super) fn bury(&mut self, kind: Kind, at: *mut u8, born: u64) {
        self.dead[kind].push(Dead { at, born });
    }
}

impl Family {
    /// Makes a family of one handle, which is open and has no parent.
    pub(super) fn new(changes: &mut Changes) -> Self {
        changes.begin(0, 1);
        Self::of(Versions { handles: 1, ..Versions::default() }, 0)
    }

    /// Makes a family for one handle of an inherited family, which goes on from its tree and is
    /// open. Returns the handle's parent, too: that tree.
    pub(super) fn after(
        inherited: &Self,
        (root, height): (Node, u32),
        changes: &mut Changes,
    ) -> (Self, VersionId) {
        let base = inherited.epoch.load(Ordering::Relaxed);
        changes.begin(base, base + 1);
        let mut versions = Versions { handles: 1, ..Versions::default() };
        let parent = versions.add(Version {
            epoch: base,
            parent: NONE,
            root,
            height,
            handles: 1, // nobody's, so that it stays
            open_handles: 1,
            children: 0,
            children_xor: 0,
            dead: Vec::new(),
        });
        (Self::of(versions, base), parent)
    }

    fn of(versions: Versions, base: u64) -> Self {
        Self {
            versions: Mutex::new(versions),
            pool: Mutex::default(),
            epoch: AtomicU64::new(base + 1),
            process: OpeningProcess::this(),
            #[cfg(any(test, fuzzing))]
            base,
        }
    }

    /// Locks the versions; `None` if this process inherited the family from one that forked it.
    pub(super) fn versions(&self) -> Option<MutexGuard<'_, Versions>> {
        (!self.process.is_forked()).then(|| lock(&self.versions))
    }

    /// Locks the pool; `None` as for [`versions`](Self::versions).
    pub(super) fn pool(&self) -> Option<MutexGuard<'_, Pool>> {
        (!self.process.is_forked()).then(|| lock(&self.pool))
    }

    /// Gives an open handle new pieces.
    #[cold]
    #[inline(never)]
    pub(super) fn refill(&self, changes: &mut Changes, kind: Kind, layout: Layout) {
        if let Some(mut pool) = self.pool() {
            return pool.refill(&mut changes.cache, kind, layout);
        }
        // The process was forked since the handle was opened, and maybe since this change began.
        ManuallyDrop::new(Pool::default()).refill(&mut changes.cache, kind, layout);
        changes.look_at_family();
    }

    /// Begins an epoch. The caller holds the lock of the versions.
    fn next_epoch(&self) -> u64 {
        self.epoch.fetch_add(1, Ordering::Relaxed) + 1
    }
}

impl Versions {
    fn get(&mut self, id: VersionId) -> &mut Version {
        self.versions.get_mut(id as usize).expect(KNOWN)
    }

    pub(super) fn epoch_of(&mut self, id: VersionId) -> u64 {
        if id == NONE { 0 } else { self.get(id).epoch }
    }

    fn add(&mut self, version: Version) -> VersionId {
        if let Some(id) = self.unused.pop() {
            *self.get(id) = version;
            return id;
        }
        let id = VersionId::try_from(self.versions.len())
            .ok()
            .filter(|&id| id != NONE)
            .expect("fewer versions than handles, and a handle has more bytes than one");
        self.versions.push(version);
        id
    }

    /// Opens the clean handle with version `id`. Returns its parent version.
    pub(super) fn open(
        &mut self,
        family: &Family,
        id: VersionId,
        changes: &mut Changes,
    ) -> VersionId {
        let version = self.get(id);
        if version.handles > 1 || version.children > 0 || version.open_handles > 0 {
            version.handles -= 1;
            version.open_handles += 1;
            let floor = version.epoch;
            changes.begin(floor, family.next_epoch());
            return id;
        }
        // Nobody else has this version, so the handle goes on with it.
        let (parent, epoch) = (version.parent, version.epoch);
        changes.inherited = std::mem::take(&mut version.dead);
        let floor = self.epoch_of(parent);
        changes.begin(floor, epoch);
        self.unused.push(id);
        self.adopt_child(parent, id);
        parent
    }

    /// Makes a version of an open handle with the parent `parent`. Returns the version's id.
    pub(super) fn publish(
        &mut self,
        parent: VersionId,
        changes: &mut Changes,
        (root, height): (Node, u32),
        garbage: &mut Vec<Chunk>,
    ) -> VersionId {
        debug_assert!(changes.is_open);
        changes.is_open = false;
        let mut dead = changes.take_dead();
        if fault!(DeadListLostAtFork) {
            dead.clear();
        }
        let id = self.add(Version {
            epoch: changes.epoch,
            parent,
            root,
            height,
            handles: 1,
            open_handles: 0,
            children: 0,
            children_xor: 0,
            dead,
        });
        if parent != NONE {
            let version = self.get(parent);
            version.open_handles -= 1;
            version.children += 1;
            version.children_xor ^= id;
            let leaving = self.collapse(parent, garbage);
            debug_assert!(leaving.is_none(), "the parent has a child");
        }
        id
    }

    /// Adds a clean handle to version `id`.
    ///
    /// # Panics
    /// If it has 2³² already: only a program that forgets its clones comes that far.
    pub(super) fn share(&mut self, id: VersionId) {
        let version = self.get(id);
        version.handles = version.handles.checked_add(1).expect("fewer than 2³² clones of a state");
        self.handles += 1;
    }

    /// Begins to take a handle away. Returns the tree that the caller has to search, if there is
    /// one.
    pub(super) fn leave(
        &mut self,
        id: VersionId,
        changes: Option<&Changes>,
        (root, height): (Node, u32),
        garbage: &mut Vec<Chunk>,
    ) -> Option<Leaving> {
        self.handles -= 1;
        match changes {
            Some(Changes { is_open: true, floor, .. }) => {
                Some(Leaving { root, height, floor: *floor, parent: id })
            }
            _ => {
                self.get(id).handles -= 1;
                self.collapse(id, garbage)
            }
        }
    }

    /// Ends what [`leave`](Self::leave) began, after the tree was searched. The parent may have to
    /// go in the same way.
    pub(super) fn left(&mut self, parent: VersionId, garbage: &mut Vec<Chunk>) -> Option<Leaving> {
        if parent == NONE {
            return None;
        }
        self.get(parent).open_handles -= 1;
        self.collapse(parent, garbage)
    }

    pub(super) fn has_no_handle(&self) -> bool {
        self.handles == 0
    }

    /// Takes version `id` away if nobody needs it: it merges into its only child, or the caller
    /// gets what it alone reaches.
    fn collapse(&mut self, id: VersionId, garbage: &mut Vec<Chunk>) -> Option<Leaving> {
        let version = self.get(id);
        if version.handles > 0 || version.open_handles > 0 || version.children > 1 {
            return None;
        }
        let (parent, root, height) = (version.parent, version.root, version.height);
        let (children, child) = (version.children, version.children_xor);
        let dead = std::mem::take(&mut version.dead);
        let floor = self.epoch_of(parent);
        self.unused.push(id);
        if children == 0 {
            // The parent reaches `dead` still.
            self.adopt_child(parent, id);
            return Some(Leaving { root, height, floor, parent });
        }
        let heir = self.get(child);
        heir.parent = parent;
        let theirs = std::mem::take(&mut heir.dead);
        let mut kept = dead;
        divide(theirs, floor, garbage, &mut kept);
        self.get(child).dead = kept;
        if parent != NONE {
            self.get(parent).children_xor ^= id ^ child;
        }
        None
    }

    /// Makes an open handle of the child `id` of version `parent`.
    fn adopt_child(&mut self, parent: VersionId, id: VersionId) {
        if parent != NONE {
            let version = self.get(parent);
            version.children -= 1;
            version.children_xor ^= id;
            version.open_handles += 1;
        }
    }

    /// Lets an open handle with the parent `parent` own what its parent owned, if nobody else needs
    /// that parent. Returns the parent that remains.
    pub(super) fn adopt(
        &mut self,
        mut parent: VersionId,
        changes: &mut Changes,
        garbage: &mut Vec<Chunk>,
    ) -> VersionId {
        while parent != NONE {
            let version = self.get(parent);
            if version.handles > 0 || version.open_handles > 1 || version.children > 0 {
                break;
            }
            let next = version.parent;
            let mut kept = std::mem::take(&mut version.dead);
            let floor = self.epoch_of(next);
            divide(changes.take_dead(), floor, garbage, &mut kept);
            (changes.inherited, changes.floor) = (kept, floor);
            self.unused.push(parent);
            self.adopt_child(next, parent);
            parent = next;
        }
        let look_at = (2 * changes.dead[Kind::Leaf].len()).max(ADOPT_AFTER);
        *changes.look_at.get_mut() = look_at;
        parent
    }
}

/// What an audit looks at.
#[cfg(any(test, fuzzing))]
impl Versions {
    pub(super) fn handles(&self) -> usize {
        self.handles
    }

    /// The version that is there only because it was inherited.
    pub(super) fn inherited(&self, base: u64) -> Option<VersionId> {
        self.live().into_iter().find(|id| self.versions[*id as usize].epoch == base)
    }

    pub(super) fn live(&self) -> Vec<VersionId> {
        let all = 0..VersionId::try_from(self.versions.len()).expect("ids are of this type");
        all.filter(|id| !self.unused.contains(id)).collect()
    }

    pub(super) fn root(&self, id: VersionId) -> (Node, u32) {
        let version = &self.versions[id as usize];
        (version.root, version.height)
    }

    pub(super) fn parent(&self, id: VersionId) -> VersionId {
        self.versions[id as usize].parent
    }

    pub(super) fn all_dead(&self, id: VersionId) -> Vec<*mut u8> {
        self.versions[id as usize].dead.iter().flat_map(|it| &it.pieces).map(|it| it.at).collect()
    }

    pub(super) fn check_counts(
        &self,
        id: VersionId,
        clean: u32,
        open: u32,
        children: &[VersionId],
    ) {
        let version = &self.versions[id as usize];
        assert_eq!((version.handles, version.open_handles), (clean, open), "the handles of {id}");
        assert_eq!(version.children as usize, children.len(), "the children of {id}");
        let xored = children.iter().fold(0, |xored, child| xored ^ child);
        assert_eq!(version.children_xor, xored, "the children of {id}");
    }
}

#[cfg(any(test, fuzzing))]
impl Changes {
    pub(super) fn all_dead(&self) -> impl Iterator<Item = *mut u8> {
        let inherited = self.inherited.iter().flat_map(|it| &it.pieces);
        self.dead.0.iter().flatten().chain(inherited).map(|piece| piece.at)
    }
}
