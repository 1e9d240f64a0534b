//! Owns what the codec tells a collection while a model is decoded: whether its parts can be
//! decoded on several threads, and, if a snapshot holds only its changes, where the other entries
//! are. Knows nothing of collections and files.

use std::cell::{Cell, RefCell};
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

use super::blocks::Place;
use super::parts::{DECODING, Extent, length_bytes};
use super::script::{Runs, Script};
use super::source::{Encoded, LateObserver, Source, StoredParts};
use super::unpacked::UnpackedParts;
use super::written::{Collection, KnownCollections};
use crate::process::cores;

/// One of the snapshots that follow from each other.
pub(crate) struct Link {
    encoded: Arc<dyn Encoded>,
    /// In ascending order.
    extents: Vec<Extent>,
    /// Where the script of each extent is, if it is a change.
    scripts: Vec<Range<u64>>,
}

impl Link {
    /// Makes a link whose scripts begin at `scripts_begin`, one behind the other.
    pub(crate) fn new(encoded: Arc<dyn Encoded>, extents: Vec<Extent>, scripts_begin: u64) -> Self {
        let scripts = extents.iter().scan(scripts_begin, |begin, extent| {
            let bytes = extent.change.map_or(0, |change| change.script_bytes);
            let range = *begin..begin.saturating_add(bytes);
            *begin = range.end;
            Some(range)
        });
        Self { scripts: scripts.collect(), encoded, extents }
    }

    /// Returns what makes the collection with this number, whose new entries are in `source`; `None`
    /// if that cannot be read or decoded.
    fn runs(&self, number: usize, source: u32) -> Option<Runs> {
        let (extent, script) = (self.extents.get(number)?, self.scripts.get(number)?);
        let mut reader = self.encoded.reader();
        let mut rest = reader.read(script.start, script.end)?;
        let script = Script::decode(&mut rest).filter(|_| rest.is_empty())?;
        Runs::of(&script, source).filter(|_| script.inserted() == extent.entries())
    }

    fn script_bytes(&self, number: usize) -> u64 {
        self.scripts.get(number).map_or(0, |script| script.end - script.start)
    }
}

const DO_NOT_FIT: &str = "the changes of a collection do not fit to it";

/// How an encoding is decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DecodeHow {
    /// Large collections start threads.
    InParallel,
    OneThread,
    /// The model is thrown away: large collections drop each entry as soon as it was decoded, and
    /// are empty.
    OnlyToSee,
}

/// An encoding that is being decoded.
pub(crate) struct Decoding {
    how: DecodeHow,
    /// The snapshot itself, the one of which it is a change, and so on; empty if the snapshot can
    /// only be read from its beginning.
    links: Vec<Link>,
    place: Rc<Place>,
    /// Set if entries may be decoded later.
    late: Option<Arc<dyn LateObserver>>,
    /// The collections that the next snapshot may be changes of.
    known: RefCell<KnownCollections>,
    /// How many changes no collection has taken.
    changes_left: Cell<usize>,
}

/// Several threads put scripts together that have more bytes than this.
const SCRIPTS_WORTH_A_THREAD: u64 = 64 << 10;

/// A collection with more entries is not kept when it is only to be seen whether it can be decoded.
const MOST_KEPT: usize = 1024;

impl Decoding {
    pub(crate) fn new(how: DecodeHow, links: Vec<Link>, place: Rc<Place>) -> Rc<Self> {
        Self::make(how, links, place, None)
    }

    /// Makes the decoding of a model whose large collections decode their entries when these are
    /// touched, and tell `late` of failures.
    pub(crate) fn on_demand(
        links: Vec<Link>,
        place: Rc<Place>,
        late: Arc<dyn LateObserver>,
    ) -> Rc<Self> {
        Self::make(DecodeHow::InParallel, links, place, Some(late))
    }

    fn make(
        how: DecodeHow,
        links: Vec<Link>,
        place: Rc<Place>,
        late: Option<Arc<dyn LateObserver>>,
    ) -> Rc<Self> {
        let extents = links.first().map_or(&[][..], |link| &link.extents);
        let changes = extents.iter().filter(|extent| extent.change.is_some()).count();
        Rc::new(Self {
            how,
            links,
            place,
            late,
            known: RefCell::default(),
            changes_left: Cell::new(changes),
        })
    }

    /// Returns the collections of the snapshot, so that the next one may be changes of it.
    pub(crate) fn take_known(&self) -> KnownCollections {
        self.known.take()
    }

    /// Returns why the decoded model is not the one that was encoded, if a collection was decoded
    /// as something else. A snapshot of changes holds only a part of its entries.
    pub(crate) fn check_end(&self) -> Result<(), String> {
        if self.changes_left.get() == 0 || fault!(ChangesNotCounted) {
            return Ok(());
        }
        Err("it holds the changes of a Map, Set or Vector that this type does not decode as one: \
             decode it as one in Model::migrate, and convert it there"
            .to_owned())
    }

    fn entries(self: Rc<Self>, before: u64, length: Option<usize>) -> Result<Entries, String> {
        let begin = self.place.position();
        let Some(length) =
            length.filter(|&length| begin.checked_sub(before) == Some(length_bytes(length as u64)))
        else {
            return Ok(Entries::OneByOne);
        };
        let found = self.links.first().and_then(|link| {
            let number = link.extents.binary_search_by_key(&begin, |it| it.begin).ok()?;
            Some((number, link.extents.get(number)?))
        });
        match found {
            Some((number, extent)) if extent.change.is_some() => {
                self.changes_left.set(self.changes_left.get().saturating_sub(1));
                if self.how == DecodeHow::OnlyToSee {
                    let runs = self.links.first().and_then(|link| link.runs(number, 1));
                    let fits =
                        extent.fits() && runs.is_some_and(|it| it.entries() == length as u64);
                    return match fits {
                        true => Ok(Entries::NotKept(extent.entries())),
                        false => Err(DO_NOT_FIT.to_owned()),
                    };
                }
                let (sources, runs) = self.chain(number)?;
                if runs.entries() != length as u64 && !fault!(EntriesNotCompared) {
                    let reason = "the changes of a collection give another number of entries";
                    return Err(reason.to_owned());
                }
                self.stored(number, sources, Some(runs), extent.end())
            }
            _ if self.how == DecodeHow::OnlyToSee => {
                let is_kept = length <= MOST_KEPT;
                Ok(if is_kept { Entries::OneByOne } else { Entries::NotKept(length as u64) })
            }
            Some((number, extent)) if self.starts_threads() && extent.fits() => {
                if extent.entries() != length as u64 && !fault!(EntriesNotCompared) {
                    return Ok(Entries::OneByOne);
                }
                let encoded = self.links.first().map(|link| link.encoded.clone());
                let source = encoded.map(|encoded| Source::new(encoded, extent));
                self.stored(number, source.into_iter().collect(), None, extent.end())
            }
            _ => Ok(Entries::OneByOne),
        }
    }

    fn starts_threads(&self) -> bool {
        self.how == DecodeHow::InParallel
    }

    fn stored(
        self: &Rc<Self>,
        number: usize,
        sources: Vec<Source>,
        runs: Option<Runs>,
        end: u64,
    ) -> Result<Entries, String> {
        let (starts_threads, late) = (self.starts_threads(), self.late.clone());
        let parts = Arc::new(StoredParts {
            sources,
            runs,
            starts_threads,
            late,
            unpacked: UnpackedParts::default(),
        });
        Ok(Entries::InParts(StoredEntries { parts, number, end, decoding: self.clone() }))
    }

    /// Follows a collection from the base to this snapshot. Returns where its entries are.
    fn chain(&self, number: usize) -> Result<(Vec<Source>, Runs), String> {
        const NO_BASE: &str = "the snapshot of which this is a change has no such collection";
        let mut links = Vec::new();
        let mut next = Some(number);
        for link in &self.links {
            let Some(number) = next else { break };
            let extent = link.extents.get(number).ok_or(NO_BASE)?;
            next = extent.change.and_then(|change| usize::try_from(change.of).ok());
            links.push((link, number, extent));
        }
        if next.is_some() {
            return Err(NO_BASE.to_owned());
        }
        if !links.iter().all(|(_, _, extent)| extent.fits()) {
            return Err("a part of a collection is too large".to_owned());
        }
        let mut links = links.into_iter().rev();
        let (base, _, whole) = links.next().ok_or(NO_BASE)?;
        let changes: Vec<_> = links.collect();
        let runs = |at: usize| {
            let (link, number, _) = changes.get(at)?;
            link.runs(*number, u32::try_from(at + 1).ok()?)
        };
        let starts_threads = self.starts_threads();
        let scripts = changes.iter().map(|(link, number, _)| link.script_bytes(*number));
        let is_worth_it = scripts.sum::<u64>() > SCRIPTS_WORTH_A_THREAD;
        let threads = if starts_threads && is_worth_it { cores() } else { 1 };
        let runs = Runs::all(0..changes.len(), threads, &runs);
        let runs = runs.filter(|runs| runs.before() == whole.entries());
        let source = |link: &Link, extent| Source::new(link.encoded.clone(), extent);
        let others = changes.iter().map(|(link, _, extent)| source(link, extent));
        let sources = std::iter::once(source(base, whole)).chain(others).collect();
        Ok((sources, runs.ok_or(DO_NOT_FIT)?))
    }
}

/// The moment before a collection reads its length.
pub(crate) struct BeforeReading(Option<(Rc<Decoding>, u64)>);

impl BeforeReading {
    pub(crate) fn new() -> Self {
        let decoding = DECODING.with_borrow(Clone::clone);
        Self(decoding.map(|decoding| {
            let position = decoding.place.position();
            (decoding, position)
        }))
    }

    /// Returns how to decode the entries, after the length was read. The error is the reason why
    /// they cannot be decoded.
    pub(crate) fn entries(self, length: Option<usize>) -> Result<Entries, String> {
        match self.0 {
            Some((decoding, before)) => decoding.entries(before, length),
            None => Ok(Entries::OneByOne),
        }
    }
}

/// How the entries of a collection are to be decoded.
pub(crate) enum Entries {
    OneByOne,
    InParts(StoredEntries),
    /// So many, one by one, and each of them is dropped.
    NotKept(u64),
}

/// The entries of a collection that can be read part by part.
pub(crate) struct StoredEntries {
    parts: Arc<StoredParts>,
    /// The number of the collection among the extents.
    number: usize,
    /// Where the collection ends in the encoding.
    end: u64,
    decoding: Rc<Decoding>,
}

impl StoredEntries {
    /// Returns the parts, which other threads can read, too.
    pub(crate) fn parts(&self) -> &Arc<StoredParts> {
        &self.parts
    }

    /// Lets the decoder go on behind the entries, which are now in `collection`.
    pub(crate) fn skip<C: Collection + Clone>(self, collection: &C) {
        self.decoding.known.borrow_mut().note(self.number, collection);
        self.skip_rebuilt();
    }

    /// Lets the decoder go on behind the entries. They are not in the order in which they are
    /// encoded.
    pub(crate) fn skip_rebuilt(self) {
        self.decoding.place.jump(self.end);
    }
}
