//! Owns the content of a simulated disk: for every file and directory, what a reader sees, what is
//! on stable storage, and the changes in between. Knows nothing of threads, faults or crashes.

use std::collections::BTreeMap;
use std::path::{Component, Path};

use serde::{Deserialize, Serialize};

pub(crate) type NodeId = usize;

/// The root directory. It always exists.
pub(crate) const ROOT: NodeId = 0;

/// One operation that happened to a disk.
#[derive(Clone, Debug)]
pub(crate) enum Operation {
    CreateFile {
        directory: NodeId,
        name: String,
        node: NodeId,
    },
    CreateDirectory {
        directory: NodeId,
        name: String,
        node: NodeId,
    },
    Write {
        file: NodeId,
        position: u64,
        bytes: Vec<u8>,
    },
    SetLength {
        file: NodeId,
        length: u64,
    },
    /// The changes of the file with numbers below `upto` are on stable storage.
    Sync {
        file: NodeId,
        upto: u64,
    },
    /// Those changes will never be on stable storage. `keeps`: readers still see them.
    SyncFailed {
        file: NodeId,
        upto: u64,
        keeps: bool,
    },
    SyncDirectory {
        directory: NodeId,
    },
    Rename {
        directory: NodeId,
        from: String,
        to: String,
    },
    /// A rename from one directory into another. Each directory's part may survive alone, although
    /// real file systems keep both together.
    Move {
        from: (NodeId, String),
        to: (NodeId, String),
    },
    Remove {
        directory: NodeId,
        name: String,
    },
    /// An event outside the disk. The number has a meaning only for the caller that noted it.
    Note(usize),
}

/// A file or a directory, independent of its names.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Node {
    File(FileState),
    Directory(DirectoryState),
    /// After any crash, no name leads there any more.
    Gone,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct FileState {
    pub(crate) current: Vec<u8>,
    pub(crate) durable: Vec<u8>,
    pub(crate) pending: Vec<Change>,
}

/// An unsynced change of a file. Length and data are separate changes: each may be lost alone.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Change {
    pub(crate) number: u64,
    pub(crate) kind: ChangeKind,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum ChangeKind {
    Write { position: usize, bytes: Vec<u8> },
    Length(usize),
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct DirectoryState {
    pub(crate) current: BTreeMap<String, NodeId>,
    pub(crate) durable: BTreeMap<String, NodeId>,
    pub(crate) pending: Vec<EntryChange>,
}

/// An unsynced change of a directory. Any subset may survive, each as a whole.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum EntryChange {
    Create { name: String, node: NodeId },
    Rename { from: String, to: String, node: NodeId },
    Remove { name: String, node: NodeId },
}

impl EntryChange {
    pub(crate) fn apply(&self, entries: &mut BTreeMap<String, NodeId>) {
        match self {
            Self::Create { name, node } => {
                entries.insert(name.clone(), *node);
            }
            Self::Rename { from, to, node } => {
                if entries.get(from) == Some(node) {
                    entries.remove(from);
                }
                entries.insert(to.clone(), *node);
            }
            Self::Remove { name, node } => {
                if entries.get(name) == Some(node) {
                    entries.remove(name);
                }
            }
        }
    }

    fn node(&self) -> NodeId {
        match self {
            Self::Create { node, .. } | Self::Rename { node, .. } | Self::Remove { node, .. } => {
                *node
            }
        }
    }
}

/// A whole disk.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct State {
    pub(crate) nodes: Vec<Node>,
    /// The number of changes of files so far, which is the number of the next change.
    pub(crate) changes: u64,
}

impl State {
    pub(crate) fn empty() -> Self {
        Self { nodes: vec![Node::Directory(DirectoryState::default())], changes: 0 }
    }

    pub(crate) fn file(&self, node: NodeId) -> Option<&FileState> {
        match self.nodes.get(node) {
            Some(Node::File(file)) => Some(file),
            _ => None,
        }
    }

    fn file_mut(&mut self, node: NodeId) -> &mut FileState {
        match &mut self.nodes[node] {
            Node::File(file) => file,
            other => unreachable!("{other:?} is not a file"),
        }
    }

    pub(crate) fn directory(&self, node: NodeId) -> Option<&DirectoryState> {
        match self.nodes.get(node) {
            Some(Node::Directory(directory)) => Some(directory),
            _ => None,
        }
    }

    fn directory_mut(&mut self, node: NodeId) -> &mut DirectoryState {
        match &mut self.nodes[node] {
            Node::Directory(directory) => directory,
            other => unreachable!("{other:?} is not a directory"),
        }
    }

    /// Returns whether a reader finds the node under a name that ends in `suffix`.
    pub(crate) fn has_name_with(&self, node: NodeId, suffix: &str) -> bool {
        self.nodes.iter().any(|directory| match directory {
            Node::Directory(found) => {
                found.current.iter().any(|(name, &it)| it == node && name.ends_with(suffix))
            }
            _ => false,
        })
    }

    /// Returns the node that a reader finds at `path`.
    pub(crate) fn find(&self, path: &Path) -> Option<NodeId> {
        let mut node = ROOT;
        for component in path.components() {
            if let Component::Normal(name) = component {
                node = *self.directory(node)?.current.get(name.to_str()?)?;
            }
        }
        Some(node)
    }

    pub(crate) fn apply(&mut self, operation: &Operation) {
        match operation {
            Operation::CreateFile { directory, name, node } => {
                self.create(*directory, name, *node, Node::File(FileState::default()));
            }
            Operation::CreateDirectory { directory, name, node } => {
                self.create(*directory, name, *node, Node::Directory(DirectoryState::default()));
            }
            Operation::Write { file, position, bytes } => self.write(*file, *position, bytes),
            Operation::SetLength { file, length } => {
                let length = *length as usize;
                self.file_mut(*file).current.resize(length, 0);
                self.pend(*file, ChangeKind::Length(length));
            }
            Operation::Sync { file, upto } => {
                let file = self.file_mut(*file);
                let kept = file.pending.partition_point(|change| change.number < *upto);
                for change in file.pending.drain(..kept) {
                    change.kind.apply(&mut file.durable);
                }
            }
            Operation::SyncFailed { file, upto, keeps } => {
                let file = self.file_mut(*file);
                file.pending.retain(|change| change.number >= *upto);
                if !keeps {
                    file.current.clone_from(&file.durable);
                    for change in &file.pending {
                        change.kind.apply(&mut file.current);
                    }
                }
            }
            Operation::SyncDirectory { directory } => {
                let directory = self.directory_mut(*directory);
                directory.durable.clone_from(&directory.current);
                directory.pending.clear();
                self.forget_unreachable();
            }
            Operation::Rename { directory, from, to } => {
                let node = self.directory_mut(*directory).current[from];
                let change = EntryChange::Rename { from: from.clone(), to: to.clone(), node };
                self.change_entries(*directory, change);
            }
            Operation::Move { from: (from, old_name), to: (to, name) } => {
                let node = self.directory_mut(*from).current[old_name];
                self.change_entries(*to, EntryChange::Create { name: name.clone(), node });
                let name = old_name.clone();
                self.change_entries(*from, EntryChange::Remove { name, node });
            }
            Operation::Remove { directory, name } => {
                let node = self.directory_mut(*directory).current[name];
                self.change_entries(*directory, EntryChange::Remove { name: name.clone(), node });
            }
            Operation::Note(_) => {}
        }
    }

    fn create(&mut self, directory: NodeId, name: &str, id: NodeId, node: Node) {
        assert_eq!(id, self.nodes.len(), "nodes are numbered in the order in which they are made");
        self.nodes.push(node);
        self.change_entries(directory, EntryChange::Create { name: name.to_owned(), node: id });
    }

    fn change_entries(&mut self, directory: NodeId, change: EntryChange) {
        let directory = self.directory_mut(directory);
        change.apply(&mut directory.current);
        directory.pending.push(change);
    }

    fn write(&mut self, file: NodeId, position: u64, bytes: &[u8]) {
        let position = position as usize;
        let before = self.file_mut(file).current.len();
        let write = ChangeKind::Write { position, bytes: bytes.to_vec() };
        write.apply(&mut self.file_mut(file).current);
        self.pend(file, write);
        if position + bytes.len() > before {
            self.pend(file, ChangeKind::Length(position + bytes.len()));
        }
    }

    fn pend(&mut self, file: NodeId, kind: ChangeKind) {
        let number = self.changes;
        self.changes += 1;
        self.file_mut(file).pending.push(Change { number, kind });
    }

    /// Returns the nodes under any name that may survive a crash, with the names that lead there.
    pub(crate) fn reachable(&self) -> BTreeMap<NodeId, Vec<&str>> {
        let mut found: BTreeMap<NodeId, Vec<&str>> = BTreeMap::from([(ROOT, Vec::new())]);
        let mut open = vec![ROOT];
        while let Some(next) = open.pop() {
            let Some(directory) = self.directory(next) else { continue };
            let standing = directory.durable.iter().chain(&directory.current);
            let standing = standing.map(|(name, node)| (name, *node));
            let changed = directory.pending.iter().filter_map(|change| match change {
                EntryChange::Create { name, .. } | EntryChange::Rename { to: name, .. } => {
                    Some((name, change.node()))
                }
                EntryChange::Remove { .. } => None,
            });
            for (name, node) in standing.chain(changed) {
                if !found.contains_key(&node) {
                    open.push(node);
                }
                found.entry(node).or_default().push(name);
            }
        }
        found
    }

    fn forget_unreachable(&mut self) {
        let reachable: Vec<NodeId> = self.reachable().into_keys().collect();
        for (id, node) in self.nodes.iter_mut().enumerate() {
            // A directory without a name costs nothing. A file without a name may still be open;
            // then what its owner writes is lost.
            if let Node::File(file) = node
                && reachable.binary_search(&id).is_err()
                && !file.current.is_empty()
            {
                *file = FileState::default();
            }
        }
    }
}

impl ChangeKind {
    pub(crate) fn apply(&self, content: &mut Vec<u8>) {
        match self {
            Self::Write { position, bytes } => put(content, *position, bytes),
            Self::Length(length) => content.resize(*length, 0),
        }
    }
}

/// Writes `bytes` at `position`, and fills a gap before them with zeros.
pub(crate) fn put(content: &mut Vec<u8>, position: usize, bytes: &[u8]) {
    let end = position + bytes.len();
    if content.len() < end {
        content.resize(end, 0);
    }
    content[position..end].copy_from_slice(bytes);
}

/// Access to a disk's files by path, for code outside the disk.
impl State {
    /// Returns every file with its length.
    pub(crate) fn files(&self) -> BTreeMap<String, usize> {
        let mut files = BTreeMap::new();
        let mut open = vec![(String::new(), ROOT)];
        while let Some((path, node)) = open.pop() {
            for (name, &child) in self.directory(node).map(|d| &d.current).into_iter().flatten() {
                let path = format!("{path}/{name}");
                match self.file(child) {
                    Some(file) => {
                        files.insert(path, file.current.len());
                    }
                    None => open.push((path, child)),
                }
            }
        }
        files
    }

    /// Returns what a reader finds in the file at `path`.
    pub(crate) fn content(&self, path: &str) -> Option<&Vec<u8>> {
        Some(&self.file(self.find(Path::new(path))?)?.current)
    }

    /// Replaces the content of the file at `path`, durably.
    pub(crate) fn replace(&mut self, path: &str, content: Vec<u8>) {
        if let Some(node) = self.find(Path::new(path)) {
            let file =
                FileState { durable: content.clone(), current: content, pending: Vec::new() };
            self.nodes[node] = Node::File(file);
        }
    }

    /// Puts a new file at `path`, durably. Its directory must exist.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn put(&mut self, path: &str, content: Vec<u8>) {
        self.remove(path);
        let (parent, name) = path.rsplit_once('/').expect("a path from the root");
        let parent = self.find(Path::new(parent)).expect("its directory exists");
        let node = self.nodes.len();
        self.nodes.push(Node::File(FileState::default()));
        let directory = self.directory_mut(parent);
        directory.current.insert(name.to_owned(), node);
        directory.durable.insert(name.to_owned(), node);
        self.replace(path, content);
    }

    /// Removes the file at `path`, durably.
    pub(crate) fn remove(&mut self, path: &str) {
        let path = Path::new(path);
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return };
        if let (Some(parent), Some(name)) = (self.find(parent), name.to_str()) {
            let directory = self.directory_mut(parent);
            directory.current.remove(name);
            directory.durable.remove(name);
        }
    }
}
