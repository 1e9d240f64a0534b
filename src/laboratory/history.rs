//! Owns histories. From a seed it makes commands, snapshots, changes of segment, closes, crashes
//! and faults on a simulated disk, with the engine of production. It returns what happened, and the
//! violations meanwhile. Knows nothing of crash images.

mod judging;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::answering::Answering;
use super::life::{Event, Extent, Journalist, Life, Required, Step};
use super::model::{Ending, Mix, Order, Ordered, Outcome, Put, Reference, Tally, request_id};
use super::setup::{DIRECTORY, Setup};
use crate::storage::simulated::{Fault, Random, SimulatedDisk, State, choices};
use crate::{Database, Error, Metadata};

/// Longer than the writer waits before it marks the journal's end.
const IDLE: Duration = Duration::from_millis(8);

/// A command that was submitted.
struct InFlight {
    order: Order,
    /// The number of its event.
    number: Option<usize>,
    /// The newest sequence of the reference before it.
    before: u64,
    expected: Outcome,
    answering: Arc<Answering>,
}

/// A history that is running.
pub(crate) struct History {
    random: Random,
    setup: Setup,
    journalist: Journalist,
    start: State,
    database: Option<Database<Tally>>,
    reference: Reference,
    required: Required,
    /// The reference and the required sequences when this life began.
    before: (Reference, Required),
    /// Whether a fault that may poison was planned in this life.
    faulty: bool,
    /// How many faults had come when a command was last refused, for example on a full disk.
    faults_at_refusal: u64,
    lives: Vec<Life>,
    violations: Vec<String>,
}

/// Runs the history of a seed. Returns its lives, and the violations that were found meanwhile.
pub(crate) fn run(seed: u64, extent: Extent) -> (Vec<Life>, Vec<String>) {
    let mut random = Random::new(seed);
    let setup = Setup::random(&mut random);
    let mut history = History::new(random, setup);
    history.open();
    for _ in 0..extent.steps {
        if !history.violations.is_empty() {
            break;
        }
        if extent.faults && history.random.once_in(5) {
            history.plan_fault();
        }
        history.step();
    }
    history.finish()
}

impl History {
    pub(crate) fn new(mut random: Random, setup: Setup) -> Self {
        let disk = SimulatedDisk::new(State::empty(), random.next(), true);
        let reference = Reference::new(setup.remembered_requests);
        Self {
            random,
            setup,
            start: disk.state(),
            journalist: Journalist::new(disk),
            database: None,
            before: (reference.clone(), Required::default()),
            reference,
            required: Required::default(),
            faulty: false,
            faults_at_refusal: 0,
            lives: Vec::new(),
            violations: Vec::new(),
        }
    }

    /// Closes the database and ends the last life.
    pub(crate) fn finish(mut self) -> (Vec<Life>, Vec<String>) {
        self.close();
        self.end_life(None);
        (self.lives, self.violations)
    }

    fn disk(&self) -> &SimulatedDisk {
        &self.journalist.disk
    }

    fn violated(&mut self, what: String) {
        self.violations.push(what);
    }

    fn plan_fault(&mut self) {
        let fault = Fault::random(&mut self.random);
        self.faulty |= !fault.is_harmless();
        self.disk().plan(fault);
    }

    fn step(&mut self) {
        let step = match self.random.below(24) {
            0..=5 => Step::Execute,
            6..=10 => Step::Batch,
            11..=12 => Step::FillSegment,
            13..=15 => Step::Snapshot,
            16 => Step::Idle,
            17..=19 => Step::Reopen,
            20 => Step::Sync,
            21 => Step::Crash,
            22 => Step::CrashAmidBatch,
            _ => Step::Clock,
        };
        self.take(step);
    }

    /// Takes one step. If the database is not open, the step is to open it.
    pub(crate) fn take(&mut self, step: Step) {
        if !self.violations.is_empty() {
            return;
        }
        if self.database.is_none() {
            return self.open();
        }
        match step {
            Step::Execute => self.execute(),
            Step::Batch => self.batch(false),
            Step::FillSegment => self.fill_segment(),
            Step::Snapshot => self.snapshot(),
            Step::Idle => std::thread::sleep(IDLE),
            Step::Reopen => {
                self.close();
                self.open();
            }
            Step::Sync => self.sync(),
            Step::Crash => self.crash(),
            Step::CrashAmidBatch => {
                self.batch(true);
                self.crash();
            }
            Step::Clock => {
                let seconds = self.random.below(10_000) as u64;
                self.disk().set_clock(seconds);
            }
            Step::Fault => self.plan_fault(),
        }
    }

    /// Opens the database, which must hold the required sequence. The open may fail once if a fault
    /// was planned.
    pub(crate) fn open(&mut self) {
        for _ in 0..2 {
            let opened = Database::<Tally>::open_with(
                Arc::new(self.disk().clone()),
                Path::new(DIRECTORY),
                self.setup.options(),
                Tally::default,
                &mut (Box::new(|_| {}) as _),
            );
            match opened {
                Ok(database) => return self.opened(database),
                Err(Error::Io { .. }) if self.disk().faults_fired() > 0 && self.faulty => {
                    self.disk().cancel_faults();
                }
                Err(error) => return self.violated(format!("open: {error}")),
            }
        }
        self.violated("an open failed twice, though no fault was left".to_owned());
    }

    /// After a failed sync, commands that were acknowledged and not synced may be lost: later reads
    /// may return the earlier content of the file.
    fn heed_failed_sync(&mut self) {
        if self.setup.buffered && self.faulty && self.disk().faults_fired() > 0 {
            self.required.kill = self.required.cut;
        }
    }

    fn opened(&mut self, database: Database<Tally>) {
        self.heed_failed_sync();
        let sequence = database.sequence();
        let bytes = database.query(Tally::bytes);
        if sequence < self.required.kill || self.reference.state(sequence) != Some(&bytes) {
            let (required, newest) = (self.required, self.reference.newest());
            return self.violated(format!("opened at {sequence} of {newest}, {required:?}"));
        }
        self.reference.cut(sequence);
        // An open makes durable what it has read, and drops everything beyond.
        self.required = Required { cut: sequence, kill: sequence };
        self.journalist.note(Event::Opened { sequence });
        self.database = Some(database);
    }

    fn order(&mut self) -> Order {
        if self.random.once_in(4) {
            let command = Ordered::Mix(Mix(self.random.next()));
            return Order { command, request: self.request() };
        }
        let ending = match self.random.below(8) {
            0 => Ending::Reject,
            1 => Ending::Panic,
            _ => Ending::Accept,
        };
        let padding = self.random.pick(&[0, 0, 0, 30, 300, 700]);
        Order { request: self.request(), ..self.put(ending, padding) }
    }

    fn put(&mut self, ending: Ending, padding: usize) -> Order {
        let key = self.random.below(12) as u16 * 7;
        let value = self.random.next();
        let command = Ordered::Put(Put { key, value, ending, padding: vec![0xa5; padding] });
        Order { command, request: None }
    }

    fn request(&mut self) -> Option<u8> {
        self.random.once_in(2).then(|| self.random.below(9) as u8)
    }

    fn submit(&mut self, order: Order) -> Option<InFlight> {
        self.submit_by(order, false)
    }

    /// Submits one command: by `execute`, which may serve it on this thread, or by `submit`.
    fn submit_by(&mut self, order: Order, executes: bool) -> Option<InFlight> {
        let database = self.database.as_ref()?;
        let journalist = self.journalist.clone();
        let number = journalist.note(Event::Submitted(order.clone()));
        let before = self.reference.newest();
        let request_id = order.request.map(request_id).unwrap_or_default();
        let metadata = Metadata { request_id, ..Metadata::default() };
        let database = database.with_metadata(&metadata).expect("a short request id always fits");
        let submitted = match order.command.clone() {
            Ordered::Put(put) if executes => database.begin(put),
            Ordered::Mix(mix) if executes => database.begin(mix),
            Ordered::Put(put) => database.submit(put),
            Ordered::Mix(mix) => database.submit(mix),
        };
        let expected = self.reference.submit(&order);
        match submitted {
            Ok(pending) => {
                let answering = Answering::watch(journalist, pending);
                Some(InFlight { order, number, before, expected, answering })
            }
            Err(error) => {
                self.judge(expected, Some(Err(error)));
                None
            }
        }
    }

    fn execute(&mut self) {
        for _ in 0..1 + self.random.below(3) {
            let (order, executes) = (self.order(), self.random.once_in(2));
            let flight = self.submit_by(order, executes).into_iter().collect();
            self.judge_all(flight);
        }
    }

    /// Makes a batch of several commands: the disk is frozen until all of them are queued behind
    /// the first one.
    fn batch(&mut self, never_ends: bool) {
        self.disk().freeze();
        let readable = self.database.as_ref().map(Database::sequence);
        let mut submitted = Vec::new();
        for number in 0..2 + self.random.below(7) {
            let order = if number == 0 { self.put(Ending::Accept, 0) } else { self.order() };
            let one = self.submit(order);
            if let (0, Some(one)) = (number, &one) {
                self.disk().wait_for_writer(|| one.answering.is_answered());
            }
            submitted.extend(one);
        }
        let now = self.database.as_ref().map(Database::sequence);
        if now != readable {
            self.violated(format!("{now:?} is readable, but only {readable:?} was written"));
        }
        if never_ends {
            self.disk().kill();
            return self.withdraw_refused(&submitted);
        }
        self.disk().thaw();
        self.judge_all(submitted);
    }

    fn fill_segment(&mut self) {
        let padding = self.random.pick(&[1500, 2500, 4000]);
        let order = self.put(Ending::Accept, padding);
        let flight = self.submit(order).into_iter().collect();
        self.judge_all(flight);
    }

    fn snapshot(&mut self) {
        let Some(database) = &self.database else { return };
        match database.snapshot() {
            Ok(info) if info.sequence == self.reference.newest() => {}
            Ok(_) | Err(_) if self.faulty && self.disk().faults_fired() > 0 => {}
            other => self.violated(format!("snapshot: {other:?}")),
        }
    }

    fn sync(&mut self) {
        let Some(database) = &self.database else { return };
        match database.sync() {
            Ok(sequence) => self.durable(sequence),
            Err(_) if self.faulty && self.disk().faults_fired() > 0 => {}
            Err(error) => self.violated(format!("sync: {error}")),
        }
    }

    fn durable(&mut self, sequence: u64) {
        self.required.cut = self.required.cut.max(sequence);
        self.journalist.note(Event::Durable { sequence });
    }

    fn close(&mut self) {
        let Some(database) = self.database.take() else { return };
        let sequence = database.sequence();
        match database.close() {
            Ok(()) => {
                self.durable(sequence);
                self.journalist.note(Event::Closed);
            }
            Err(_) if self.faulty && self.disk().faults_fired() > 0 => {}
            Err(error) => self.violated(format!("close: {error}")),
        }
        self.disk().cancel_faults();
    }

    /// Kills the process or cuts the power. The next step opens what is left.
    fn crash(&mut self) {
        self.heed_failed_sync();
        let left = self.disk().state();
        self.disk().kill();
        // The engine's threads end. Nothing that they still do reaches the disk.
        self.database = None;
        let power_cut = self.random.once_in(2);
        let left = if power_cut {
            let units = left.units();
            let fates = choices(&units, &mut self.random);
            let fates = self.random.pick(&fates);
            left.after_power_cut(&units, &fates, &mut self.random)
        } else {
            left.after_kill()
        };
        if power_cut {
            self.required.kill = self.required.cut;
        }
        self.end_life(Some(left));
    }

    fn end_life(&mut self, next: Option<State>) {
        let next = next.unwrap_or_else(State::empty);
        let disk = SimulatedDisk::new(next.clone(), self.random.next(), true);
        let ended = std::mem::replace(&mut self.journalist, Journalist::new(disk));
        let before = (self.reference.clone(), self.required);
        let (reference, required) = std::mem::replace(&mut self.before, before);
        self.faulty = false;
        self.faults_at_refusal = 0;
        self.lives.push(Life {
            setup: self.setup.clone(),
            start: std::mem::replace(&mut self.start, next),
            log: ended.disk.take_log(),
            events: std::mem::take(&mut ended.events.lock().unwrap()),
            reference,
            required,
        });
    }
}
