//! Owns what a collection tells the codec while a model is encoded: where its parts end, and, in a
//! snapshot of changes, which entries are new. Knows nothing of collections and files.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

use serde::Serialize;

use super::parts::{
    Change, ENCODING, Extent, FirstKeys, FirstKeysWriter, MOST_PART_ENTRIES, PART_ENTRIES, Part,
    length_bytes, part_bytes,
};
use super::script::Script;

/// A collection of which the next snapshot may hold only the changes. Its clone shares what is
/// equal, so it is cheap to keep.
pub(crate) trait Collection: Any + Send + Sync {
    /// Returns a number that all clones of this collection have in common.
    fn family(&self) -> Option<usize>;

    /// Returns how much memory this collection and its clones take, without what keys and values
    /// own elsewhere.
    fn memory_bytes(&self) -> u64;

    /// Decodes all entries that are not in memory yet, one slice after the other, while `goes_on`
    /// says so. Returns whether all are in memory.
    fn load_all(&self, goes_on: &mut dyn FnMut() -> bool) -> bool;
}

type Shared = Arc<dyn Collection>;

/// The large collections of a snapshot. Whoever keeps them can write the next snapshot as changes
/// of this one.
#[derive(Default)]
pub(crate) struct KnownCollections {
    /// By what all clones of a collection have in common. The number is that of the extent.
    by_family: HashMap<usize, Vec<(u32, Shared)>>,
}

impl KnownCollections {
    pub(crate) fn is_empty(&self) -> bool {
        self.by_family.is_empty()
    }

    /// Adds the collection that is the extent with this number.
    pub(super) fn note<C: Collection + Clone>(&mut self, number: usize, collection: &C) {
        let number = u32::try_from(number);
        if let (Ok(number), Some(family)) = (number, collection.family()) {
            let clone: Shared = Arc::new(collection.clone());
            self.by_family.entry(family).or_default().push((number, clone));
        }
    }

    /// Returns how much memory the collections and their clones take.
    pub(crate) fn memory_bytes(&self) -> u64 {
        let first = |clones: &Vec<(u32, Shared)>| Some(clones.first()?.1.memory_bytes());
        self.by_family.values().filter_map(first).sum()
    }

    /// Decodes all entries that are not in memory yet, while `goes_on` says so. Returns whether all
    /// are in memory.
    pub(crate) fn load_all(&self, goes_on: &mut dyn FnMut() -> bool) -> bool {
        let mut collections = self.by_family.values().flatten();
        collections.all(|(_, collection)| collection.load_all(goes_on))
    }

    fn find<T: Any + Send + Sync>(&self, family: usize) -> Option<(u32, Arc<T>)> {
        self.by_family.get(&family)?.iter().find_map(|(number, collection)| {
            let collection: Arc<dyn Any + Send + Sync> = collection.clone();
            Some((*number, collection.downcast::<T>().ok()?))
        })
    }
}

/// An encoding that is being written.
#[derive(Default)]
pub(crate) struct Encoding {
    position: Cell<u64>,
    /// What the base holds, if only changes are to be written.
    base: Option<Arc<KnownCollections>>,
    /// Whether a collection is being written that has no place for changes inside of it.
    is_inside: Cell<bool>,
    /// Whether changes were written that no reader could decode.
    is_unreadable: Cell<bool>,
    extents: RefCell<Vec<Extent>>,
    /// The collections at these positions. They become known once all extents are.
    collections: RefCell<Vec<(u64, usize, Shared)>>,
    scripts: RefCell<Vec<(u64, Vec<u8>)>>,
    known: RefCell<KnownCollections>,
    /// Where parts end: a new chunk should begin there.
    ends: RefCell<VecDeque<u64>>,
}

impl Encoding {
    /// Makes the encoding of the changes of a snapshot that has these collections.
    pub(crate) fn of_changes(base: Arc<KnownCollections>) -> Self {
        Self { base: Some(base), ..Self::default() }
    }

    /// Returns why nobody could read what was written. A whole collection of this kind is decoded
    /// one entry after the other, but its changes cannot be.
    pub(super) fn check_end(&self) -> Result<(), String> {
        if self.is_unreadable.get() {
            return Err("the new entries of a collection are too large to be read alone".to_owned());
        }
        Ok(())
    }

    /// Notes that bytes were encoded.
    #[inline(always)]
    pub(super) fn advance(&self, bytes: usize) {
        self.position.set(self.position.get() + bytes as u64);
    }

    /// Returns the next end of a part that is at most at `position`, once.
    pub(crate) fn take_end(&self, position: u64) -> Option<u64> {
        let mut ends = self.ends.borrow_mut();
        if *ends.front()? <= position { ends.pop_front() } else { None }
    }

    /// Returns the collections that have more than one part, or changes, in their order. One may be
    /// inside another.
    pub(crate) fn take_extents(&self) -> Vec<Extent> {
        let mut extents = std::mem::take(&mut *self.extents.borrow_mut());
        extents.sort_by_key(|extent| extent.begin);
        let mut known = KnownCollections::default();
        for (begin, family, collection) in self.collections.take() {
            let number = extents.binary_search_by_key(&begin, |extent| extent.begin);
            if let Some(number) = number.ok().and_then(|number| u32::try_from(number).ok()) {
                known.by_family.entry(family).or_default().push((number, collection));
            }
        }
        self.known.replace(known);
        extents
    }

    /// Returns the scripts of all changes, in the order of the extents.
    pub(crate) fn take_scripts(&self) -> Vec<Vec<u8>> {
        let mut scripts = self.scripts.take();
        scripts.sort_by_key(|(begin, _)| *begin);
        scripts.into_iter().map(|(_, script)| script).collect()
    }

    /// Returns the collections that the next snapshot may be changes of, after
    /// [`take_extents`](Self::take_extents).
    pub(crate) fn take_known(&self) -> KnownCollections {
        self.known.take()
    }
}

/// The moment before a collection writes its length.
pub(crate) struct BeforeWriting(Option<(Rc<Encoding>, u64)>);

impl BeforeWriting {
    pub(crate) fn new() -> Self {
        let encoding = ENCODING.with_borrow(Clone::clone);
        Self(encoding.map(|encoding| {
            let position = encoding.position.get();
            (encoding, position)
        }))
    }

    /// Begins the entries, after the length was written.
    pub(crate) fn begin(self, length: usize) -> WrittenEntries {
        let begun = self.0.and_then(|(encoding, before)| {
            let begin = encoding.position.get();
            let is_codec = begin - before == length_bytes(length as u64);
            is_codec.then(|| Begun::new(encoding, begin, length))
        });
        WrittenEntries { begun, entries: 0 }
    }
}

struct Begun {
    encoding: Rc<Encoding>,
    extent: Extent,
    first_keys: FirstKeysWriter,
    /// The number of the same collection among the extents of the base, if changes are written.
    of: Option<u32>,
    script: Script,
    part_begin: u64,
    /// Where the last look at the position was.
    looked_at: u64,
    was_inside: bool,
}

/// The entries of a collection while they are written one after the other.
pub(crate) struct WrittenEntries {
    begun: Option<Begun>,
    /// The entries of the part that is being written.
    entries: u64,
}

impl WrittenEntries {
    /// Returns the same collection as the base has it, if only its changes are to be written.
    pub(crate) fn base<C: Collection>(&mut self, collection: &C) -> Option<Arc<C>> {
        let begun = self.begun.as_mut().filter(|begun| !begun.was_inside)?;
        let (number, collection) = begun.encoding.base.as_ref()?.find(collection.family()?)?;
        begun.of = Some(number);
        begun.encoding.is_inside.set(true);
        Some(collection)
    }

    /// Notes that so many entries of the base stay.
    pub(crate) fn keep(&mut self, entries: u64) {
        if let Some(begun) = &mut self.begun {
            begun.script.keep(entries);
        }
    }

    /// Notes that so many entries of the base go.
    pub(crate) fn drop(&mut self, entries: u64) {
        if let Some(begun) = &mut self.begun {
            begun.script.drop(entries);
        }
    }

    /// Notes that an entry was written that the base does not have.
    pub(crate) fn insert(&mut self) {
        if let Some(begun) = &mut self.begun {
            begun.script.insert(1);
        }
        self.count();
    }

    /// Notes that the entry with this key is written next.
    #[inline(always)]
    pub(crate) fn before<K: Serialize>(&mut self, key: &K) {
        if self.entries == 0
            && let Some(begun) = &mut self.begun
        {
            begun.first_keys.push(key);
        }
    }

    /// Notes that an entry was written.
    #[inline(always)]
    pub(crate) fn count(&mut self) {
        self.entries += 1;
        if self.entries.is_multiple_of(PART_ENTRIES) {
            self.look();
        }
    }

    fn look(&mut self) {
        let Some(begun) = &mut self.begun else { return };
        let position = begun.encoding.position.get();
        let expected = position - begun.looked_at;
        begun.looked_at = position;
        let is_full = position - begun.part_begin + expected > part_bytes();
        // Values without bytes make no parts.
        let is_long = self.entries >= MOST_PART_ENTRIES && position > begun.part_begin;
        if is_full || is_long {
            begun.end_part(position, std::mem::take(&mut self.entries));
            begun.encoding.ends.borrow_mut().push_back(position);
        }
    }

    /// Notes that all entries of `collection` were written.
    pub(crate) fn end<C: Collection + Clone>(mut self, collection: &C) {
        let Some(mut begun) = self.begun.take() else { return };
        if self.entries > 0 {
            begun.end_part(begun.encoding.position.get(), self.entries);
        }
        begun.end(collection);
    }
}

impl Begun {
    fn new(encoding: Rc<Encoding>, begin: u64, length: usize) -> Self {
        let was_inside = encoding.is_inside.get();
        // The entries of such a collection may be decoded by other threads, or not at all when the
        // base has them. Inside of it everything is written whole.
        if length as u64 >= PART_ENTRIES {
            encoding.is_inside.set(true);
        }
        let first_keys = FirstKeys::default();
        Self {
            encoding,
            extent: Extent { begin, parts: Vec::new(), first_keys, change: None },
            first_keys: FirstKeysWriter::default(),
            of: None,
            script: Script::default(),
            part_begin: begin,
            looked_at: begin,
            was_inside,
        }
    }

    fn end_part(&mut self, position: u64, entries: u64) {
        self.extent.parts.push(Part { bytes: position - self.part_begin, entries });
        self.part_begin = position;
    }

    fn end<C: Collection + Clone>(&mut self, collection: &C) {
        let begin = self.extent.begin;
        if let Some(of) = self.of {
            let mut script = Vec::new();
            self.script.encode(&mut script);
            self.extent.change = Some(Change { of, script_bytes: script.len() as u64 });
            self.encoding.scripts.borrow_mut().push((begin, script));
            if !self.extent.fits() {
                self.encoding.is_unreadable.set(true);
            }
        } else if self.extent.parts.len() < 2 {
            return;
        }
        let is_possible = !self.was_inside && self.extent.fits();
        if let Some(family) = collection.family().filter(|_| is_possible) {
            let clone: Shared = Arc::new(collection.clone());
            self.encoding.collections.borrow_mut().push((begin, family, clone));
        }
        let (parts, first_keys) =
            (std::mem::take(&mut self.extent.parts), self.first_keys.finish());
        let extent = Extent { parts, first_keys, ..self.extent };
        self.encoding.extents.borrow_mut().push(extent);
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        self.encoding.is_inside.set(self.was_inside);
    }
}
