//! Owns the verdict on one disk image. The image must open. It must hold a prefix of the accepted
//! commands that contains every acknowledged one and ends at the end of a batch. Its encoded model
//! must be equal to the reference. And after one more command, it must open again. Knows nothing of
//! how the image was made.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use super::model::{Mix, Reference, Tally};
use super::setup::{DIRECTORY, Setup};
use crate::engine::{Batch, Requests, Version, Working, submission};
use crate::panics::panic_message;
use crate::recovery::{Recovered, recover};
use crate::storage::Storage;
use crate::storage::simulated::{Operation, Random, SimulatedDisk, State, choices};
use crate::{Database, Error, Health};

/// What is expected of an image.
#[derive(Clone, Debug)]
pub(crate) struct Expectation {
    pub(crate) reference: Reference,
    pub(crate) required: u64,
    /// The sequences at which batches end. A state between them holds a part of a batch.
    pub(crate) boundaries: BTreeSet<u64>,
    /// The image was damaged, so an error is right too.
    pub(crate) damaged: bool,
    /// A file of the image was changed, so damage may be found. If it is not `damaged` as well, an
    /// open that looks at all of it must succeed.
    pub(crate) is_changed: bool,
}

impl Expectation {
    /// Checks that a state read from an image is a permitted one.
    fn check(&self, sequence: u64, bytes: &[u8]) -> Result<(), String> {
        let Self { reference, required, boundaries, .. } = self;
        if sequence < *required {
            return Err(format!("sequence {sequence}, but {required} was acknowledged"));
        }
        if sequence > 0 && !boundaries.contains(&sequence) {
            return Err(format!("sequence {sequence} is inside a batch: {boundaries:?}"));
        }
        match reference.state(sequence) {
            Some(expected) if expected == bytes => Ok(()),
            Some(expected) => {
                Err(format!("at {sequence} the state is {bytes:02x?}, not {expected:02x?}"))
            }
            None => Err(format!("sequence {sequence} is beyond {}", reference.newest())),
        }
    }
}

/// Checks that exactly the right request ids are remembered: an acknowledged request must not be
/// applied again.
fn check_requests(recovered: &Recovered<Tally>, expected: &[(u64, String)]) -> Result<(), String> {
    let Version { sequence, requests, .. } = &recovered.version;
    let found: Vec<_> =
        requests.iter().map(|one| (one.sequence, one.key.id().to_owned())).collect();
    if found == expected {
        return Ok(());
    }
    Err(format!("at {sequence} it remembers the requests {found:?}, not {expected:?}"))
}

/// The verdict on an image without a violation.
pub(crate) struct Verdict {
    /// The sequence that the image holds; `None` if damage was reported.
    pub(crate) sequence: Option<u64>,
    /// The operations of the first open on the disk.
    pub(crate) log: Vec<Operation>,
}

/// How an image is judged.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Look {
    pub(crate) seed: u64,
    /// Whether the whole engine is used, or only recovery and journal.
    pub(crate) whole_engine: bool,
    /// Whether the log of the first open is kept.
    pub(crate) recording: bool,
}

/// Judges one image.
pub(crate) fn judge(
    image: &State,
    setup: &Setup,
    expectation: &Expectation,
    look: Look,
) -> Result<Verdict, String> {
    let judged = catch_unwind(AssertUnwindSafe(|| {
        if look.whole_engine {
            with_engine(image, setup, expectation, look)
        } else {
            with_recovery(image, setup, expectation, look)
        }
    }));
    judged.unwrap_or_else(|panic| Err(format!("a panic: {}", panic_message(panic))))
}

fn open(disk: &SimulatedDisk, setup: &Setup) -> Result<Recovered<Tally>, Error> {
    let storage: Arc<dyn Storage> = Arc::new(disk.clone());
    let options = setup.options();
    recover::<Tally>(&storage, Path::new(DIRECTORY), &options, Tally::default, &mut |_| {})
}

/// Opens again what was opened, with another setup.
fn reopen(
    recovered: Recovered<Tally>,
    disk: &SimulatedDisk,
    setup: &Setup,
) -> Result<Recovered<Tally>, Error> {
    drop(recovered);
    open(disk, setup)
}

/// Judges an error: right if the image was damaged, else a violation.
fn failed(
    error: &Error,
    expectation: &Expectation,
    disk: &SimulatedDisk,
) -> Result<Verdict, String> {
    if expectation.damaged {
        return Ok(Verdict { sequence: None, log: disk.take_log() });
    }
    Err(format!("it does not open: {error}"))
}

fn with_recovery(
    image: &State,
    setup: &Setup,
    expectation: &Expectation,
    look: Look,
) -> Result<Verdict, String> {
    let disk = SimulatedDisk::new(image.clone(), look.seed, look.recording);
    let mut recovered = match open(&disk, setup) {
        Ok(recovered) => recovered,
        Err(error) => return failed(&error, expectation, &disk),
    };
    let at_once = Setup { on_demand: false, ..setup.clone() };
    let touch = || recovered.version.model.bytes();
    if setup.on_demand && catch_unwind(AssertUnwindSafe(touch)).is_err() {
        if !expectation.is_changed {
            return Err("without damage it fails later".to_owned());
        }
        recovered = match reopen(recovered, &disk, &at_once) {
            Ok(recovered) => recovered,
            Err(error) => return failed(&error, expectation, &disk),
        };
    }
    let setup = if expectation.is_changed { &at_once } else { setup };
    let sequence = recovered.version.sequence;
    expectation.check(sequence, &recovered.version.model.bytes())?;
    let requests = expectation.reference.remembered(sequence);
    check_requests(&recovered, &requests)?;
    let log = disk.take_log();
    let mix = Mix(look.seed);
    append(recovered, mix).map_err(|error| format!("it cannot be appended to: {error}"))?;
    // In half of the cases the power is cut: what was synced must be enough.
    let mut left = disk.state();
    let cut = look.seed.is_multiple_of(2);
    if cut {
        let mut random = Random::new(look.seed);
        let units = left.units();
        let fates = choices(&units, &mut random);
        let fates = random.pick(&fates);
        left = left.after_power_cut(&units, &fates, &mut random);
    }
    let disk = SimulatedDisk::new(left, look.seed ^ 1, false);
    let recovered = match open(&disk, setup) {
        Ok(recovered) => recovered,
        // The damage removed a file, and the power cut lost what replaced it: frames that an open
        // had written again because they were not known durable.
        Err(Error::Corrupt { .. } | Error::Missing { .. }) if expectation.damaged && cut => {
            return Ok(Verdict { sequence: Some(sequence), log });
        }
        Err(error) => return Err(format!("after one more command it does not open: {error}")),
    };
    let expected = expectation.reference.state_after(sequence, mix);
    check_requests(&recovered, &requests)?;
    let version = &recovered.version;
    if (version.sequence, version.model.bytes()) != (sequence + 1, expected) {
        let found = version.sequence;
        return Err(format!("after one more command than {sequence} it opens at {found}"));
    }
    Ok(Verdict { sequence: Some(sequence), log })
}

/// Appends one more command durably, without the engine's threads.
fn append(recovered: Recovered<Tally>, mix: Mix) -> Result<(), Error> {
    let Recovered { version, mut journal, seed, .. } = recovered;
    let (submission, pending) =
        submission::<Tally, Mix>(&mix, &[], 1 << 20).expect("a Mix is small");
    let requests = Requests::none();
    let mut working = Working::new(Arc::new(version), &requests, seed, crate::Events::Stored);
    let mut batch = Batch::new();
    working.apply(submission, &mut batch, 0).expect("Mix is deterministic");
    let version = working.end_batch();
    journal.append(&mut batch.frame, batch.count, version.time_ns)?;
    journal.sync()?;
    drop((batch, pending));
    Ok(())
}

/// Judges what was found after the open: right if the image was damaged and the database has
/// failed.
fn late_damage(health: &Health, expectation: &Expectation) -> Result<(), String> {
    match health {
        Health::Poisoned(_) if expectation.is_changed => Ok(()),
        Health::Poisoned(reason) => Err(format!("without damage it fails later: {reason}")),
        other => Err(format!("damage was found late, and it goes on: {other:?}")),
    }
}

/// Checks the events of all commands that the history still has. Each `Put` has emitted its own
/// sequence, which is the number of all accepted commands.
fn check_events(database: &Database<Tally>, expectation: &Expectation) -> Result<(), String> {
    let history = database.history();
    let read = || {
        for record in history.records(history.oldest_record()?..)? {
            let record = record?;
            let expected = if record.tag() == 1 { vec![record.sequence()] } else { Vec::new() };
            let events = record.events()?;
            if events.as_ref() != Some(&expected) {
                let sequence = record.sequence();
                return Ok(Err(format!("the events of command {sequence} are {events:?}")));
            }
        }
        Ok(Ok(()))
    };
    // The snapshot thread may remove what an earlier run has left, until it has done so once.
    let mut found = read();
    for _ in 0..8 {
        if matches!(found, Err(Error::HistoryTruncated { .. })) {
            found = read();
        }
    }
    match found {
        Ok(compared) => compared,
        Err(Error::Corrupt { .. } | Error::Missing { .. }) if expectation.damaged => Ok(()),
        Err(error) => Err(format!("its history cannot be read: {error}")),
    }
}

fn with_engine(
    image: &State,
    setup: &Setup,
    expectation: &Expectation,
    look: Look,
) -> Result<Verdict, String> {
    let disk = SimulatedDisk::new(image.clone(), look.seed, look.recording);
    let opened = || {
        Database::<Tally>::open_with(
            Arc::new(disk.clone()),
            Path::new(DIRECTORY),
            setup.options(),
            Tally::default,
            &mut (Box::new(|_| {}) as _),
        )
    };
    let mut database = match opened() {
        Ok(database) => database,
        Err(error) => return failed(&error, expectation, &disk),
    };
    if setup.on_demand && catch_unwind(AssertUnwindSafe(|| database.query(Tally::bytes))).is_err() {
        late_damage(&database.health(), expectation)?;
        database.close().err().ok_or("a database that has failed closes cleanly")?;
        // This open loads all, so nothing below meets the damage.
        database = match opened() {
            Ok(database) => database,
            Err(error) => return failed(&error, expectation, &disk),
        };
    }
    let sequence = database.sequence();
    expectation.check(sequence, &database.query(Tally::bytes))?;
    let log = disk.take_log();
    if look.seed.is_multiple_of(2) {
        check_events(&database, expectation)?;
    }
    let mix = Mix(look.seed);
    let answer = database.execute(mix);
    if answer.as_ref().ok().map(|answer| answer.0) != Some(sequence + 1) {
        return Err(format!("one more command was answered {answer:?}"));
    }
    // No snapshot is added beside a damaged one, so that the damage can still be reported.
    if look.seed % 4 == 1 && !expectation.damaged {
        database.snapshot().map_err(|error| format!("a snapshot of it fails: {error}"))?;
    }
    database.close().map_err(|error| format!("it does not close: {error}"))?;
    let database = opened().map_err(|error| format!("after a close it does not open: {error}"))?;
    let found = (database.sequence(), database.query(Tally::bytes));
    if found != (sequence + 1, expectation.reference.state_after(sequence, mix)) {
        let found = found.0;
        return Err(format!("after one more command than {sequence} and a close: {found}"));
    }
    Ok(Verdict { sequence: Some(sequence), log })
}
