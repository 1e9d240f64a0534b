//! Owns what a crash leaves of a simulated disk: it finds the unsynced changes, and makes the disk
//! that remains when some of them survive. Knows nothing of what the bytes mean.

use std::collections::BTreeMap;

use super::random::Random;
use super::state::{ChangeKind, DirectoryState, FileState, Node, NodeId, ROOT, State, put};
use crate::storage::{TEMPORARY_PREFIX, TEMPORARY_SUFFIX};

/// The size of a sector. Disks write whole sectors, so an unsynced write may be torn between two.
pub(crate) const PIECE_BYTES: usize = 512;

/// The most unsynced pieces of which every subset is tried.
pub(crate) const EXHAUSTIVE_PIECES: usize = 10;
/// The most pieces for which every combination of old, new and zero is tried.
const EXHAUSTIVE_ZEROS: usize = 4;
/// The number of random combinations, besides those that are tried in order.
const RANDOM_CHOICES: usize = 12;

/// One thing that survives a power cut or not, independently of the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Bytes `from` to `to` of the `change`th unsynced write of `file`.
    Piece { file: NodeId, change: usize, from: usize, to: usize },
    /// The length of a file.
    Length { file: NodeId },
    /// The `change`th unsynced change of a directory's entries.
    Entry { directory: NodeId, change: usize },
}

/// What happens to a unit at a power cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Old,
    New,
    /// The place of a piece holds zeros. An entry is as for `New`, and a length is any that the
    /// file had.
    Zero,
    /// The place of a piece holds random bytes. Other units are as for `Zero`.
    Garbage,
}

/// Returns whether a name is temporary, so that nothing is ever read under it.
fn is_temporary(name: &str) -> bool {
    name.starts_with(TEMPORARY_PREFIX) && name.ends_with(TEMPORARY_SUFFIX)
}

impl State {
    /// Returns what may or may not survive a power cut now. It leaves out what makes no difference:
    /// writes of bytes that stand there already, and the content of files that have only a
    /// temporary name.
    pub(crate) fn units(&self) -> Vec<Unit> {
        let mut units = Vec::new();
        for (node, names) in self.reachable() {
            match &self.nodes[node] {
                Node::File(file) if !names.iter().all(|name| is_temporary(name)) => {
                    file_units(node, file, &mut units);
                }
                Node::Directory(directory) => {
                    let changes = 0..directory.pending.len();
                    units.extend(changes.map(|change| Unit::Entry { directory: node, change }));
                }
                Node::File(_) | Node::Gone => {}
            }
        }
        units
    }

    /// Returns the disk after a power cut, in which each unit has its fate from `fates`.
    pub(crate) fn after_power_cut(
        &self,
        units: &[Unit],
        fates: &[Fate],
        random: &mut Random,
    ) -> State {
        let mut cut = Cut { before: self, units, fates, random, after: State::empty() };
        cut.after.changes = self.changes;
        cut.directory(ROOT, ROOT);
        cut.after
    }

    /// Returns the disk after a process kill: every completed operation is there, and the kill made
    /// nothing durable.
    pub(crate) fn after_kill(&self) -> State {
        self.clone()
    }

    /// Returns a number that differs when a reader could tell two disks apart. It leaves out the
    /// content and the names of temporary files.
    pub(crate) fn fingerprint(&self) -> u64 {
        let mut hasher = xxhash_rust::xxh3::Xxh3Default::new();
        self.hash_directory(ROOT, &mut hasher);
        hasher.digest()
    }

    fn hash_directory(&self, node: NodeId, hasher: &mut xxhash_rust::xxh3::Xxh3Default) {
        let Some(directory) = self.directory(node) else { return };
        let mut temporaries = false;
        for (name, node) in &directory.current {
            if is_temporary(name) {
                temporaries = true;
                continue;
            }
            hasher.update(name.as_bytes());
            match self.file(*node) {
                Some(file) => {
                    hasher.update(&(file.current.len() as u64).to_le_bytes());
                    hasher.update(&file.current);
                }
                None => {
                    hasher.update(b"/");
                    self.hash_directory(*node, hasher);
                }
            }
        }
        hasher.update(&[0xff, u8::from(temporaries)]);
    }
}

fn file_units(node: NodeId, file: &FileState, units: &mut Vec<Unit>) {
    let mut lengths = false;
    for (change, pending) in file.pending.iter().enumerate() {
        let ChangeKind::Write { position, bytes } = &pending.kind else {
            lengths = true;
            continue;
        };
        let mut from = 0;
        while from < bytes.len() {
            let to = bytes.len().min(from + PIECE_BYTES - (position + from) % PIECE_BYTES);
            let place = position + from..position + to;
            let overlaps = file.pending[..change].iter().any(|earlier| {
                matches!(&earlier.kind, ChangeKind::Write { position, bytes }
                    if *position < place.end && place.start < position + bytes.len())
            });
            let stands = (place.clone().zip(&bytes[from..to]))
                .all(|(at, byte)| file.durable.get(at).copied().unwrap_or(0) == *byte);
            if overlaps || !stands {
                units.push(Unit::Piece { file: node, change, from, to });
            }
            from = to;
        }
    }
    if lengths {
        units.push(Unit::Length { file: node });
    }
}

struct Cut<'a> {
    before: &'a State,
    units: &'a [Unit],
    fates: &'a [Fate],
    random: &'a mut Random,
    after: State,
}

impl Cut<'_> {
    fn fate(&self, unit: &Unit) -> Option<Fate> {
        self.units.iter().position(|known| known == unit).map(|at| self.fates[at])
    }

    fn directory(&mut self, node: NodeId, target: NodeId) {
        let Some(directory) = self.before.directory(node) else { return };
        let mut entries = directory.durable.clone();
        for (change, pending) in directory.pending.iter().enumerate() {
            if self.fate(&Unit::Entry { directory: node, change }).is_some_and(|f| f != Fate::Old) {
                pending.apply(&mut entries);
            }
        }
        let mut survived = BTreeMap::new();
        for (name, child) in entries {
            let id = self.after.nodes.len();
            match &self.before.nodes[child] {
                Node::File(file) => {
                    let content = self.file(child, file);
                    self.after.nodes.push(Node::File(FileState {
                        durable: content.clone(),
                        current: content,
                        pending: Vec::new(),
                    }));
                }
                Node::Directory(_) => {
                    self.after.nodes.push(Node::Directory(DirectoryState::default()));
                    self.directory(child, id);
                }
                Node::Gone => continue,
            }
            survived.insert(name, id);
        }
        self.after.nodes[target] = Node::Directory(DirectoryState {
            current: survived.clone(),
            durable: survived,
            pending: Vec::new(),
        });
    }

    fn file(&mut self, node: NodeId, file: &FileState) -> Vec<u8> {
        let mut content = file.durable.clone();
        let mut lengths = vec![content.len()];
        for (change, pending) in file.pending.iter().enumerate() {
            let (position, bytes) = match &pending.kind {
                ChangeKind::Length(length) => {
                    lengths.push(*length);
                    continue;
                }
                ChangeKind::Write { position, bytes } => (*position, bytes),
            };
            let mut from = 0;
            while from < bytes.len() {
                let to = bytes.len().min(from + PIECE_BYTES - (position + from) % PIECE_BYTES);
                let unit = Unit::Piece { file: node, change, from, to };
                match self.fate(&unit) {
                    None | Some(Fate::New) => put(&mut content, position + from, &bytes[from..to]),
                    Some(Fate::Old) => {}
                    Some(Fate::Zero) => put(&mut content, position + from, &vec![0; to - from]),
                    Some(Fate::Garbage) => {
                        let garbage = self.random.bytes(to - from);
                        put(&mut content, position + from, &garbage);
                    }
                }
                from = to;
            }
        }
        let length = match self.fate(&Unit::Length { file: node }) {
            Some(Fate::Old) => lengths[0],
            None | Some(Fate::New) => lengths[lengths.len() - 1],
            Some(Fate::Zero | Fate::Garbage) => self.random.pick(&lengths),
        };
        content.resize(length, 0);
        content
    }
}

/// Returns the combinations of fates to try for these units. For few units it returns all
/// combinations; otherwise none new, all new, each one alone, all but each one, and some at random.
pub(crate) fn choices(units: &[Unit], random: &mut Random) -> Vec<Vec<Fate>> {
    let count = units.len();
    let pieces = |at: &usize| matches!(units[*at], Unit::Piece { .. });
    let mut choices = Vec::new();
    if count <= EXHAUSTIVE_ZEROS {
        let fates = [Fate::Old, Fate::New, Fate::Zero];
        for code in 0..3_usize.pow(count as u32) {
            let digit = |at: u32| fates[code / 3_usize.pow(at) % 3];
            let choice: Vec<Fate> = (0..count as u32).map(digit).collect();
            if choice.iter().enumerate().all(|(at, fate)| *fate != Fate::Zero || pieces(&at)) {
                choices.push(choice);
            }
        }
    } else if count <= EXHAUSTIVE_PIECES {
        for code in 0..1_usize << count {
            let bit = |at| if code >> at & 1 == 1 { Fate::New } else { Fate::Old };
            choices.push((0..count).map(bit).collect());
        }
    } else {
        for (usual, single) in [(Fate::Old, Fate::New), (Fate::New, Fate::Old)] {
            choices.push(vec![usual; count]);
            choices.extend((0..count).map(|at| with(count, usual, at, single)));
        }
    }
    for at in (0..count).filter(pieces) {
        if count > EXHAUSTIVE_ZEROS {
            choices.push(with(count, Fate::New, at, Fate::Zero));
        }
        choices.push(with(count, Fate::New, at, Fate::Garbage));
    }
    if count > EXHAUSTIVE_ZEROS {
        let fates = [Fate::Old, Fate::Old, Fate::New, Fate::New, Fate::New, Fate::Zero];
        for _ in 0..RANDOM_CHOICES {
            choices.push((0..count).map(|_| random.pick(&fates)).collect());
        }
    }
    choices
}

fn with(count: usize, usual: Fate, at: usize, single: Fate) -> Vec<Fate> {
    let mut choice = vec![usual; count];
    choice[at] = single;
    choice
}
