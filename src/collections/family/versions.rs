//! Owns the tree of a family's versions: which of them are alive, how they descend from each other,
//! and what died between a version and the one it descends from. Knows nothing of locks.

use super::super::shape::Node;
use super::dead::{Chunk, divide};
use super::{Changes, Family};

/// The index of a version in its family.
pub(in super::super) type VersionId = u32;
/// No version: the parent of the first one.
pub(in super::super) const NONE: VersionId = VersionId::MAX;

/// Why a version with this id must be there.
const KNOWN: &str = "handles and versions hold only ids that `add` gave them";

/// A tree that only its last owner reaches. The owner searches it outside the lock; meanwhile it
/// counts as an open handle of `parent`, so that what it shares with the parent stays.
pub(in super::super) struct Leaving {
    pub(in super::super) root: Node,
    pub(in super::super) height: u32,
    /// What was born in this epoch or before belongs to the parent.
    pub(in super::super) floor: u64,
    pub(in super::super) parent: VersionId,
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

pub(in super::super) struct Versions {
    versions: Vec<Version>,
    unused: Vec<VersionId>,
    /// How many handles there are, clean and open.
    handles: usize,
}

impl Versions {
    fn get(&mut self, id: VersionId) -> &mut Version {
        self.versions.get_mut(id as usize).expect(KNOWN)
    }

    pub(in super::super) fn epoch_of(&mut self, id: VersionId) -> u64 {
        if id == NONE { 0 } else { self.get(id).epoch }
    }

    /// Returns the versions of one open handle that has no parent.
    pub(super) fn of_one_handle() -> Self {
        Self { versions: Vec::new(), unused: Vec::new(), handles: 1 }
    }

    /// Makes the parent of the first handle: a version that nobody ever lets go.
    pub(super) fn begin_with(&mut self, epoch: u64, (root, height): (Node, u32)) -> VersionId {
        self.add(Version {
            epoch,
            parent: NONE,
            root,
            height,
            handles: 1, // nobody's
            open_handles: 1,
            children: 0,
            children_xor: 0,
            dead: Vec::new(),
        })
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
    pub(in super::super) fn open(
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
        changes.adopted = std::mem::take(&mut version.dead);
        let floor = self.epoch_of(parent);
        changes.begin(floor, epoch);
        self.unused.push(id);
        self.adopt_child(parent, id);
        parent
    }

    /// Makes a version of an open handle with the parent `parent`. Returns the version's id.
    pub(in super::super) fn publish(
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
    pub(in super::super) fn share(&mut self, id: VersionId) {
        let version = self.get(id);
        version.handles = version.handles.checked_add(1).expect("fewer than 2³² clones of a state");
        self.handles += 1;
    }

    /// Begins to take a handle away. Returns the tree that the caller has to search, if there is
    /// one.
    pub(in super::super) fn leave(
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
    pub(in super::super) fn left(
        &mut self,
        parent: VersionId,
        garbage: &mut Vec<Chunk>,
    ) -> Option<Leaving> {
        if parent == NONE {
            return None;
        }
        self.get(parent).open_handles -= 1;
        self.collapse(parent, garbage)
    }

    pub(in super::super) fn has_no_handle(&self) -> bool {
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
    pub(in super::super) fn adopt(
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
            (changes.adopted, changes.floor) = (kept, floor);
            self.unused.push(parent);
            self.adopt_child(next, parent);
            parent = next;
        }
        changes.adopt_later();
        parent
    }
}

/// What an audit looks at.
#[cfg(any(test, fuzzing))]
impl Versions {
    pub(in super::super) fn handles(&self) -> usize {
        self.handles
    }

    /// The version that is there only because it was inherited.
    pub(in super::super) fn inherited(&self, base: u64) -> Option<VersionId> {
        self.live().into_iter().find(|id| self.versions[*id as usize].epoch == base)
    }

    pub(in super::super) fn live(&self) -> Vec<VersionId> {
        let all = 0..VersionId::try_from(self.versions.len()).expect("ids are of this type");
        all.filter(|id| !self.unused.contains(id)).collect()
    }

    pub(in super::super) fn root(&self, id: VersionId) -> (Node, u32) {
        let version = &self.versions[id as usize];
        (version.root, version.height)
    }

    pub(in super::super) fn parent(&self, id: VersionId) -> VersionId {
        self.versions[id as usize].parent
    }

    pub(in super::super) fn all_dead(&self, id: VersionId) -> Vec<*mut u8> {
        self.versions[id as usize].dead.iter().flat_map(|it| &it.pieces).map(|it| it.at).collect()
    }

    pub(in super::super) fn check_counts(
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
