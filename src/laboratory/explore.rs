//! Owns the walk along an operation log: after each operation, the images that a power cut or a
//! process kill may leave, each put before the oracle; and from the logs of those openings, the
//! same again. Knows nothing of how a history was made.

use std::collections::{BTreeSet, HashMap};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use super::damage::{Damaged, Demand};
use super::life::{Event, Life, Required};
use super::oracle::{Expectation, Look, judge};
use super::setup::Setup;
use super::{damage, evidence};
use crate::storage::simulated::{Fate, Operation, PIECE_BYTES, Random, State, choices};

/// Nobody reads more.
const MOST_VIOLATIONS: usize = 20;

/// What came out so far, of all threads.
#[derive(Default)]
pub(crate) struct Findings {
    pub(crate) images: AtomicU64,
    pub(crate) damaged_images: AtomicU64,
    pub(crate) nested_images: AtomicU64,
    pub(crate) violations: Mutex<Vec<String>>,
    pub(crate) violation_count: AtomicU64,
}

impl Findings {
    pub(crate) fn violated(&self, what: String) {
        self.violation_count.fetch_add(1, Ordering::Relaxed);
        let mut violations = self.violations.lock().unwrap();
        if violations.len() < MOST_VIOLATIONS {
            violations.push(what);
        }
    }
}

/// How thoroughly a log is walked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Thoroughness {
    /// One image in so many is looked at with the whole engine.
    pub(crate) whole_engine_in: usize,
    /// The log of the opening of one image in so many is walked too.
    pub(crate) nested_in: usize,
    /// How deep openings nest: crashes inside the recovery from a crash.
    pub(crate) depth: usize,
    /// One image in so many is damaged as well.
    pub(crate) damaged_in: usize,
}

pub(crate) struct Explorer<'a> {
    pub(crate) findings: &'a Findings,
    pub(crate) setup: &'a Setup,
    pub(crate) thoroughness: Thoroughness,
    pub(crate) random: Random,
    /// Where the log comes from.
    pub(crate) origin: String,
    pub(crate) enough: &'a (dyn Fn() -> bool + Sync),
    /// Images that were found sound, and the sequence each holds.
    known: HashMap<u64, u64>,
    expectation: Expectation,
    required: Required,
    /// The highest sequence that a frame or mark in the log states to be durable.
    vouched: u64,
    /// What frames vouch for that stand in files without a segment's name yet.
    staged: HashMap<usize, u64>,
    frames: FramesUnderWay,
    /// As it was when the database was opened last.
    earlier: State,
    depth: usize,
}

impl<'a> Explorer<'a> {
    pub(crate) fn new(
        findings: &'a Findings,
        life: &'a Life,
        thoroughness: Thoroughness,
        (origin, seed): (String, u64),
        boundaries: &BTreeSet<u64>,
        enough: &'a (dyn Fn() -> bool + Sync),
    ) -> Self {
        let expectation = Expectation {
            reference: life.reference.clone(),
            required: 0,
            boundaries: boundaries.clone(),
            damaged: false,
        };
        Self {
            findings,
            setup: &life.setup,
            thoroughness,
            random: Random::new(seed),
            origin,
            enough,
            known: HashMap::new(),
            expectation,
            required: life.required,
            vouched: 0,
            staged: HashMap::new(),
            frames: FramesUnderWay::default(),
            earlier: life.start.clone(),
            depth: thoroughness.depth,
        }
    }

    /// Walks a life from its start to its end. Gives where its batches end.
    pub(crate) fn walk(mut self, life: &Life) -> BTreeSet<u64> {
        let mut state = life.start.clone();
        for operation in &life.log {
            if (self.enough)() {
                break;
            }
            if let Operation::Note(number) = operation {
                self.happened(&life.events[*number], &state);
            }
            self.step(&mut state, operation);
        }
        self.expectation.boundaries
    }

    /// Walks the log of one opening, which in the end served `sequence`.
    fn walk_opening(&mut self, start: &State, log: &[Operation], sequence: u64) {
        let mut state = start.clone();
        for operation in log {
            if (self.enough)() {
                return;
            }
            self.step(&mut state, operation);
        }
        self.happened(&Event::Opened { sequence }, &state);
        self.power_cuts(&state);
        self.kill(&state);
    }

    fn happened(&mut self, event: &Event, state: &State) {
        match event {
            Event::Submitted(order) => {
                self.expectation.reference.submit(order);
            }
            Event::Answered { sequence: Some(sequence) } => {
                self.required.kill = self.required.kill.max(*sequence);
                if !self.setup.buffered {
                    self.required.cut = self.required.kill;
                }
            }
            Event::Answered { sequence: None } | Event::Withdrawn => {}
            Event::Opened { sequence } => {
                self.expectation.reference.cut(*sequence);
                self.expectation.boundaries.split_off(&(sequence + 1));
                self.required = Required { cut: *sequence, kill: *sequence };
                // A sequence beyond may from now on be another command's.
                self.known.clear();
                self.earlier = state.clone();
                // What nothing vouched for was written anew, with a mark behind it.
                self.vouched = *sequence;
            }
            Event::Durable { sequence } => self.required.cut = self.required.cut.max(*sequence),
            Event::Closed => self.closed(state),
        }
    }

    fn step(&mut self, state: &mut State, operation: &Operation) {
        let frame = self.frames.note(operation);
        if let Some(frame) = &frame {
            self.note_batch(frame);
        }
        if let Operation::Write { file, position, bytes } = operation {
            // The process is killed amid the write.
            let lengths = [1, bytes.len() / 2, bytes.len().saturating_sub(1), PIECE_BYTES];
            for length in BTreeSet::from(lengths) {
                if length > 0 && length < bytes.len() {
                    let mut killed = state.clone();
                    let bytes = bytes[..length].to_vec();
                    killed.apply(&Operation::Write { file: *file, position: *position, bytes });
                    self.kill(&killed);
                }
            }
        }
        state.apply(operation);
        if let Operation::SyncFailed { .. } = operation {
            // Readers may see what stood there before.
            self.required.kill = self.required.cut;
            self.vouched = 0;
        }
        if let Some(frame) = &frame {
            self.note_vouching(frame, operation, state);
        }
        self.note_published(operation, state);
        self.power_cuts(state);
        self.kill(state);
    }

    /// Learns from a frame where its batch ends. A part of the frame may be all of it but zeros.
    fn note_batch(&mut self, frame: &Frame) {
        self.expectation.boundaries.insert(frame.first_sequence + u64::from(frame.count) - 1);
    }

    /// Learns from a frame that is written for what it vouches: at once, or, where it stands in a
    /// segment that is still being made, once that has its name.
    fn note_vouching(&mut self, frame: &Frame, operation: &Operation, state: &State) {
        // Under `Durability::Sync` a frame is written only after the one before it was synced, and
        // must say so.
        let vouches = if self.setup.buffered { frame.durable } else { frame.first_sequence - 1 };
        let Operation::Write { file, .. } = operation else { return };
        if state.has_name_with(*file, SEGMENT_SUFFIX) {
            self.vouched = self.vouched.max(vouches);
        } else {
            let staged = self.staged.entry(*file).or_default();
            *staged = vouches.max(*staged);
        }
    }

    fn note_published(&mut self, operation: &Operation, state: &State) {
        let Operation::Rename { directory, to, .. } = operation else { return };
        if to.ends_with(SEGMENT_SUFFIX)
            && let Some(node) = state.directory(*directory).and_then(|found| found.current.get(to))
            && let Some(vouches) = self.staged.remove(node)
        {
            self.vouched = self.vouched.max(vouches);
        }
    }

    fn power_cuts(&mut self, state: &State) {
        let units = state.units();
        for fates in choices(&units, &mut self.random) {
            if (self.enough)() {
                return;
            }
            let image = state.after_power_cut(&units, &fates, &mut self.random);
            self.expectation.required = self.required.cut;
            self.look(&image, 0);
        }
    }

    fn kill(&mut self, state: &State) {
        let image = state.after_kill();
        self.expectation.required = self.required.kill;
        self.look(&image, 1);
        // Everything acknowledged is vouched for: no single flip may make it shorter.
        if self.vouched >= self.required.kill && self.random.once_in(self.thoroughness.damaged_in) {
            self.damage(&image, Demand::Flip);
        }
    }

    /// Puts an image before the oracle, unless one that reads the same was.
    fn look(&mut self, image: &State, kind: u64) {
        let fingerprint = image.fingerprint() ^ kind;
        if let Some(&sequence) = self.known.get(&fingerprint) {
            if sequence < self.expectation.required {
                let look = self.a_look();
                let what = format!("holds {sequence}, less than was acknowledged by now");
                self.report(image, look, &what);
            }
            return;
        }
        let look = self.a_look();
        self.count();
        match judge(image, self.setup, &self.expectation, look) {
            Ok(verdict) => {
                let sequence = verdict.sequence.expect("an image without damage opened");
                self.known.insert(fingerprint, sequence);
                if look.recording {
                    self.nested(image, &verdict.log, sequence);
                }
            }
            Err(what) => {
                // Once is enough.
                self.known.insert(fingerprint, u64::MAX);
                self.report(image, look, &what);
            }
        }
    }

    fn a_look(&mut self) -> Look {
        Look {
            seed: self.random.next(),
            whole_engine: self.random.once_in(self.thoroughness.whole_engine_in),
            recording: self.depth > 0 && self.random.once_in(self.thoroughness.nested_in),
        }
    }

    fn count(&self) {
        self.findings.images.fetch_add(1, Ordering::Relaxed);
        if self.depth < self.thoroughness.depth {
            self.findings.nested_images.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn report(&self, image: &State, look: Look, what: &str) {
        self.tell(image, &self.expectation, look, what);
    }

    fn tell(&self, image: &State, expectation: &Expectation, look: Look, what: &str) {
        let mut what = format!("{}: {what}", self.origin);
        if self.findings.violation_count.load(Ordering::Relaxed) < MOST_VIOLATIONS as u64 {
            what = evidence::store(image, self.setup, expectation, look, &what);
        }
        self.findings.violated(what);
    }

    /// Crashes inside the opening of a crash's image.
    fn nested(&mut self, image: &State, log: &[Operation], sequence: u64) {
        // A power cut after a mere kill may still take what was never synced.
        let required = Required { cut: self.required.cut, kill: self.expectation.required };
        let mut inner = Explorer {
            random: Random::new(self.random.next()),
            origin: format!("{} > opening", self.origin),
            known: HashMap::new(),
            expectation: self.expectation.clone(),
            required,
            vouched: 0,
            staged: HashMap::new(),
            frames: FramesUnderWay::default(),
            earlier: State::empty(),
            depth: self.depth - 1,
            ..*self
        };
        // What nothing vouches for may go as long as it was not served.
        inner.thoroughness.damaged_in = usize::MAX;
        inner.walk_opening(image, log, sequence);
    }

    /// The database was closed: damage of any kind must show, or do no harm.
    fn closed(&mut self, state: &State) {
        let units = state.units();
        let fates = vec![Fate::New; units.len()];
        let image = state.after_power_cut(&units, &fates, &mut self.random);
        self.expectation.required = self.required.kill;
        for _ in 0..damage::TRIES_ON_CLOSED {
            if (self.enough)() {
                return;
            }
            self.damage(&image, Demand::Any);
        }
        if self.random.once_in(2)
            && let Err(what) = damage::mixed_fork(&image, self.setup, self.random.next())
        {
            self.findings.violated(format!("{}: {what}", self.origin));
        }
    }

    fn damage(&mut self, image: &State, demand: Demand) {
        let planted = damage::plant(image, &self.earlier, demand, &mut self.random);
        let Some(Damaged { image: damaged, what, may_fail }) = planted else { return };
        let look = Look { recording: false, ..self.a_look() };
        let expectation = Expectation { damaged: may_fail, ..self.expectation.clone() };
        self.findings.images.fetch_add(1, Ordering::Relaxed);
        self.findings.damaged_images.fetch_add(1, Ordering::Relaxed);
        if let Err(found) = judge(&damaged, self.setup, &expectation, look) {
            let what = format!("with {what}: {found}");
            self.tell(&damaged, &expectation, look, &what);
        }
    }
}

const SEGMENT_SUFFIX: &str = ".journal";
const FRAME_MAGIC: &[u8] = b"PVFR";

/// What the laboratory reads in a frame: where `docs::format` says it stands.
struct Frame {
    first_sequence: u64,
    durable: u64,
    count: u32,
    /// The whole of it, with header, checksum and padding.
    bytes: usize,
}

impl Frame {
    fn decode(bytes: &[u8]) -> Option<Self> {
        if bytes.len() < 32 || !bytes.starts_with(FRAME_MAGIC) {
            return None;
        }
        let number = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
        let count = u32::from_le_bytes(bytes[24..28].try_into().unwrap());
        let payload = u32::from_le_bytes(bytes[4..8].try_into().unwrap()) as usize;
        let whole = (36 + payload).next_multiple_of(8);
        Some(Self { first_sequence: number(8), durable: number(16), count, bytes: whole })
    }
}

/// The frame that is being written into each file, which may take several writes where some are
/// short, with those of other threads into other files in between.
#[derive(Default)]
struct FramesUnderWay(HashMap<usize, (u64, Vec<u8>)>);

impl FramesUnderWay {
    fn note(&mut self, operation: &Operation) -> Option<Frame> {
        let Operation::Write { file, position, bytes } = operation else { return None };
        let (end, so_far) = self.0.entry(*file).or_default();
        // A first part of one byte does not show the magic: what came before must be whole then.
        let is_whole = Frame::decode(so_far).is_some_and(|frame| so_far.len() >= frame.bytes);
        if bytes.starts_with(FRAME_MAGIC) || end != position || is_whole {
            so_far.clear();
        }
        so_far.extend_from_slice(bytes);
        *end = position + bytes.len() as u64;
        Frame::decode(so_far)
    }
}
