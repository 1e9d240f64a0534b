//! Owns the walk along an operation log. After each operation it makes the images that a power cut
//! or a process kill may leave, and has the oracle judge each. It also walks along the logs of the
//! recoveries from these images. Knows nothing of how a history was made.

use std::collections::{BTreeSet, HashMap};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use super::damage::{Damaged, Demand};
use super::life::{Event, Life, Required};
use super::oracle::{Expectation, Look, judge};
use super::setup::Setup;
use super::{damage, evidence};
use crate::storage::simulated::{Fate, Operation, PIECE_BYTES, Random, State, choices};

/// How many violations are kept as text.
const MOST_VIOLATIONS: usize = 20;

/// The findings of all threads so far.
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
    /// One image in this many is judged with the whole engine.
    pub(crate) whole_engine_in: usize,
    /// For one image in this many, the log of its recovery is walked too.
    pub(crate) nested_in: usize,
    /// How deep recoveries nest: a crash inside the recovery from a crash, and so on.
    pub(crate) depth: usize,
    /// One image in this many is also damaged.
    pub(crate) damaged_in: usize,
}

pub(crate) struct Explorer<'a> {
    pub(crate) findings: &'a Findings,
    pub(crate) setup: &'a Setup,
    pub(crate) thoroughness: Thoroughness,
    pub(crate) random: Random,
    /// The origin of the log, for messages.
    pub(crate) origin: String,
    pub(crate) enough: &'a (dyn Fn() -> bool + Sync),
    /// The fingerprints of judged images, and the sequence that each holds.
    known: HashMap<u64, u64>,
    expectation: Expectation,
    required: Required,
    /// The highest sequence that a frame or mark in the log states to be durable.
    known_durable: u64,
    /// The same for frames in files that do not have a segment's name yet.
    staged: HashMap<usize, u64>,
    frames: FramesUnderWay,
    /// The disk when the database was opened last.
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
            is_changed: false,
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
            known_durable: 0,
            staged: HashMap::new(),
            frames: FramesUnderWay::default(),
            earlier: life.start.clone(),
            depth: thoroughness.depth,
        }
    }

    /// Walks a life from its start to its end. Returns the sequences at which its batches end.
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

    /// Walks the log of one recovery, after which readers saw `sequence`.
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
                // From now on a higher sequence may be that of another command.
                self.known.clear();
                self.earlier = state.clone();
                // The recovery has rewritten every frame that was not known durable, with a mark
                // behind them.
                self.known_durable = *sequence;
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
            // Kill the process during the write.
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
            // Later reads of the file may return its earlier content.
            self.required.kill = self.required.cut;
            self.known_durable = 0;
        }
        if let Some(frame) = &frame {
            self.note_durable(frame, operation, state);
        }
        self.note_published(operation, state);
        self.power_cuts(state);
        self.kill(state);
    }

    /// Notes the sequence at which a frame's batch ends. A partly written frame counts too: the
    /// rest of it may be zeros, which stand in the file already.
    fn note_batch(&mut self, frame: &Frame) {
        self.expectation.boundaries.insert(frame.first_sequence + u64::from(frame.count) - 1);
    }

    /// Notes which sequence a written frame states to be durable. If its segment has no name yet,
    /// the statement counts once the segment has its name.
    fn note_durable(&mut self, frame: &Frame, operation: &Operation, state: &State) {
        // Under `Durability::Sync` a frame is written only after the previous one was synced, and
        // it must state that one to be durable.
        let durable = if self.setup.buffered { frame.durable } else { frame.first_sequence - 1 };
        let Operation::Write { file, .. } = operation else { return };
        if state.has_name_with(*file, SEGMENT_SUFFIX) {
            self.known_durable = self.known_durable.max(durable);
        } else {
            let staged = self.staged.entry(*file).or_default();
            *staged = durable.max(*staged);
        }
    }

    fn note_published(&mut self, operation: &Operation, state: &State) {
        let Operation::Rename { directory, to, .. } = operation else { return };
        if to.ends_with(SEGMENT_SUFFIX)
            && let Some(node) = state.directory(*directory).and_then(|found| found.current.get(to))
            && let Some(durable) = self.staged.remove(node)
        {
            self.known_durable = self.known_durable.max(durable);
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
        // If everything acknowledged is known durable, no single flipped bit may lose any of it.
        let all_durable = self.known_durable >= self.required.kill;
        if all_durable && self.random.once_in(self.thoroughness.damaged_in) {
            self.damage(&image, Demand::Flip);
        }
    }

    /// Has the oracle judge an image, unless it has judged one with the same content.
    fn look(&mut self, image: &State, kind: u64) {
        let fingerprint = image.fingerprint() ^ kind;
        if let Some(&sequence) = self.known.get(&fingerprint) {
            if sequence < self.expectation.required {
                let look = self.a_look();
                let what = format!("holds {sequence}, but more was acknowledged by now");
                self.violated(image, look, &what);
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
                // The same image is not judged again.
                self.known.insert(fingerprint, u64::MAX);
                self.violated(image, look, &what);
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

    fn violated(&self, image: &State, look: Look, what: &str) {
        self.tell(image, &self.expectation, look, what);
    }

    fn tell(&self, image: &State, expectation: &Expectation, look: Look, what: &str) {
        let mut what = format!("{}: {what}", self.origin);
        if self.findings.violation_count.load(Ordering::Relaxed) < MOST_VIOLATIONS as u64 {
            what = evidence::store(image, self.setup, expectation, look, &what);
        }
        self.findings.violated(what);
    }

    /// Crashes inside the recovery from a crash image.
    fn nested(&mut self, image: &State, log: &[Operation], sequence: u64) {
        // After a kill, a power cut may still lose what was never synced.
        let required = Required { cut: self.required.cut, kill: self.expectation.required };
        let mut inner = Explorer {
            random: Random::new(self.random.next()),
            origin: format!("{} > recovery", self.origin),
            known: HashMap::new(),
            expectation: self.expectation.clone(),
            required,
            known_durable: 0,
            staged: HashMap::new(),
            frames: FramesUnderWay::default(),
            earlier: State::empty(),
            depth: self.depth - 1,
            ..*self
        };
        // Damage may lose frames that are not known durable as long as no reader has seen them, so
        // none is planted here.
        inner.thoroughness.damaged_in = usize::MAX;
        inner.walk_opening(image, log, sequence);
    }

    /// Damages the closed database. Any damage must be detected or harmless.
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
        let expectation =
            Expectation { damaged: may_fail, is_changed: true, ..self.expectation.clone() };
        self.findings.images.fetch_add(1, Ordering::Relaxed);
        self.findings.damaged_images.fetch_add(1, Ordering::Relaxed);
        if let Err(found) = judge(&damaged, self.setup, &expectation, look) {
            let what = format!("with {what}: {found}");
            self.tell(&damaged, &expectation, look, &what);
        }
        if demand == Demand::Any
            && let Err(found) = damage::verified(&damaged, self.setup, VERIFIED_SEED)
        {
            self.findings.violated(format!("{}: with {what}: {found}", self.origin));
        }
    }
}

/// The seed of the disk for a verification, which draws nothing from it.
const VERIFIED_SEED: u64 = 7;

const SEGMENT_SUFFIX: &str = ".journal";
const FRAME_MAGIC: &[u8] = b"PVFR";

/// What the laboratory reads from a frame, at the positions that `docs::format` states.
struct Frame {
    first_sequence: u64,
    durable: u64,
    count: u32,
    /// The length of the whole frame, with header, checksum and padding.
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

/// The frame that is being written into each file. It may take several short writes, and other
/// threads may write into other files between them.
#[derive(Default)]
struct FramesUnderWay(HashMap<usize, (u64, Vec<u8>)>);

impl FramesUnderWay {
    fn note(&mut self, operation: &Operation) -> Option<Frame> {
        let Operation::Write { file, position, bytes } = operation else { return None };
        let (end, so_far) = self.0.entry(*file).or_default();
        // A first part of one byte does not show the magic. So a new frame also begins if the
        // previous one is whole.
        let is_whole = Frame::decode(so_far).is_some_and(|frame| so_far.len() >= frame.bytes);
        if bytes.starts_with(FRAME_MAGIC) || end != position || is_whole {
            so_far.clear();
        }
        so_far.extend_from_slice(bytes);
        *end = position + bytes.len() as u64;
        Frame::decode(so_far)
    }
}
