//! Owns one look at the files of a database, and what the look before has left: the model that goes
//! on, and the end of the journal. Knows nothing of threads and of who asks.
//!
//! # How a look goes on
//!
//! | it finds                                    | what it does                                  |
//! |---------------------------------------------|-----------------------------------------------|
//! | more in the segment that is open            | applies what is durable, and ends             |
//! | a newer segment, or another of the same name| applies what is before it, and opens it       |
//! | that commands before it are gone            | loads a newer snapshot, and goes on behind it |
//! | a file that is gone, and another MANIFEST   | begins again, with a bound                    |
//! | files of another history                    | is an error: nothing that was shown changes   |

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::model_copy::ModelCopy;
use super::newest_snapshot::newest_snapshot;
use super::progress::{Ask, Told};
use crate::error::Error;
use crate::files::{
    DatabaseId, Directory, MANIFEST_NAME, Manifest, State as Standing, list_segments, position,
    segment_path,
};
use crate::history::HistoryFiles;
use crate::journal::{Bookmark, SegmentTail};
use crate::model::{Model, model_name};
use crate::recovery::{KnownChain, RecoveryReport, check_identity, settled_manifest};
use crate::storage::Storage;

/// How often a look begins again because the database changed meanwhile.
const MOST_TRIES: u32 = 16;
/// How often it begins again although nothing seems to have changed.
const LEAST_TRIES: u32 = 3;
/// The pause before that.
const PAUSE: Duration = Duration::from_millis(1);
/// What is needed to go on.
pub(super) struct Reading<M: Model> {
    storage: Arc<dyn Storage>,
    directory: Directory,
    pub(super) database: DatabaseId,
    pub(super) copy: ModelCopy<M>,
    tail: Option<SegmentTail>,
}

/// How a part of a look ended.
#[derive(PartialEq, Eq)]
enum Step {
    Done,
    /// A snapshot was loaded, and there may be more behind it.
    Again,
}

impl<M: Model> Reading<M> {
    /// Loads the newest snapshot, and reads the journal behind it as far as it is durable.
    pub(super) fn open(
        storage: Arc<dyn Storage>,
        directory: Directory,
        ask: &mut Ask<'_>,
    ) -> Result<(Self, RecoveryReport), Error> {
        let began = Instant::now();
        let (snapshot, manifest) =
            newest_snapshot::<M>(&storage, &directory, None, &mut Told::new(Some(ask)))?;
        let Some(snapshot) = snapshot else {
            return Err(Error::Missing {
                path: directory.snapshots,
                reason: "the MANIFEST lists no snapshot, not even one of the initial model"
                    .to_owned(),
            });
        };
        let mut report = RecoveryReport {
            clean: manifest.state == Standing::Clean,
            snapshot_sequence: snapshot.sequence,
            snapshot_bytes: snapshot.bytes,
            damaged_snapshots: snapshot.damaged.clone(),
            snapshot_time: began.elapsed(),
            ..RecoveryReport::default()
        };
        let database = manifest.database;
        let files = files::<M>(&storage, &directory, database, (snapshot.sequence, snapshot.chain));
        let copy = ModelCopy::new(&files, snapshot, began)?;
        let mut reading = Self { storage, directory, database, copy, tail: None };
        let replays = Instant::now();
        reading.look(Some(ask))?;
        report.replay_time = replays.elapsed();
        report.commands_replayed = reading.copy.commands;
        report.tail_bytes = reading.copy.bytes;
        report.sequence = reading.copy.state.published.sequence();
        report.total = began.elapsed();
        Ok((reading, report))
    }

    /// Reads what is new and durable. Returns the newest sequence.
    pub(super) fn look(&mut self, ask: Option<&mut Ask<'_>>) -> Result<u64, Error> {
        let mut told = Told::new(ask);
        let looked = self.try_look(&mut told).and_then(|()| told.finish());
        let Err(error) = looked else { return Ok(self.copy.state.published.sequence()) };
        let refused = self.copy.frame_first;
        (self.tail, _) = (None, self.copy.forget());
        if is_of_the_program(&error) && refused > self.copy.state.published.sequence() + 1 {
            // Readers get what was applied before. It is applied once more, because the model has
            // changed halfway. This has succeeded before; otherwise the first error is told.
            self.copy.stop_before = Some(refused);
            self.try_look(&mut told).ok();
            self.copy.stop_before = None;
            (self.tail, _) = (None, self.copy.forget());
        }
        Err(error)
    }

    fn try_look(&mut self, told: &mut Told<'_, '_>) -> Result<(), Error> {
        self.copy.begin_again(&self.files((0, 0)))?;
        let before = self.copy.state.published.sequence();
        let looked = self.look_at_tail(told);
        if looked.is_ok() && self.copy.state.published.sequence() > before {
            return Ok(());
        }
        match looked {
            Err(error) if !may_be_over(&error) => Err(error),
            // What it is, the other files say.
            _ => self.look_around(told),
        }
    }

    /// Reads what was appended to the segment that is open.
    fn look_at_tail(&mut self, told: &mut Told<'_, '_>) -> Result<(), Error> {
        let Some(tail) = &mut self.tail else { return Ok(()) };
        tail.look()?;
        self.apply_tail(told)
    }

    /// Looks at all files, until nothing has changed meanwhile.
    fn look_around(&mut self, told: &mut Told<'_, '_>) -> Result<(), Error> {
        let mut tries = 0;
        loop {
            let manifest = settled_manifest(&self.storage, &self.directory.root)?;
            let looked = self.look_with(&manifest, told);
            tries += 1;
            let error = match looked {
                Ok(Step::Done) => return Ok(()),
                Ok(Step::Again) if tries < MOST_TRIES => continue,
                Ok(Step::Again) => {
                    let path = self.directory.root.clone();
                    let (wanted, oldest) = (self.copy.sequence(), manifest.sequence);
                    return Err(Error::HistoryTruncated { path, wanted, oldest });
                }
                Err(error) => error,
            };
            self.tail = None;
            if !may_be_over(&error) || tries >= MOST_TRIES {
                return Err(error);
            }
            let is_same = settled_manifest(&self.storage, &self.directory.root)? == manifest;
            if is_same && tries >= LEAST_TRIES {
                return Err(error);
            }
            if is_same {
                std::thread::sleep(PAUSE);
            }
        }
    }

    fn look_with(&mut self, manifest: &Manifest, told: &mut Told<'_, '_>) -> Result<Step, Error> {
        self.check_manifest(manifest)?;
        let (storage, journal) = (self.storage.clone(), self.directory.journal.clone());
        let listed = list_segments(&*storage, &journal)?;
        let newest = listed.last().filter(|_| listed.contains(&manifest.newest_segment));
        let &newest = newest.ok_or_else(|| Error::Missing {
            path: segment_path(&journal, manifest.newest_segment),
            reason: "the MANIFEST names it as the newest segment".to_owned(),
        })?;
        told.expect(&*storage, &journal, &listed, self.copy.sequence() + 1)?;
        let is_open = match &mut self.tail {
            Some(tail) if tail.file().header.sequence == newest => {
                tail.is_still_there(&*storage, &journal)?
            }
            _ => false,
        };
        if !is_open && self.change_segment(newest, told)? == Step::Again {
            return Ok(Step::Again);
        }
        let Some(tail) = &mut self.tail else { return Ok(Step::Done) };
        tail.note_durable(manifest.sequence);
        tail.note_durable(manifest.snapshots.last().copied().unwrap_or(0));
        tail.look()?;
        self.apply_tail(told)?;
        self.check_end(manifest)?;
        Ok(Step::Done)
    }

    /// Checks that the MANIFEST is of the database that was opened, and of its history.
    fn check_manifest(&self, manifest: &Manifest) -> Result<(), Error> {
        let path = self.directory.root.join(MANIFEST_NAME);
        if manifest.database != self.database {
            let (expected, found) = (self.database, manifest.database);
            return Err(Error::ForeignFile { path, expected, found });
        }
        if manifest.sequence == self.copy.sequence() && manifest.chain != self.copy.chain {
            return Err(self.other_history(format!(
                "the MANIFEST states chain {:08x} there, and {:08x} was read",
                manifest.chain, self.copy.chain
            )));
        }
        Ok(())
    }

    /// Applies what is before the newest segment, and opens it.
    fn change_segment(&mut self, newest: u64, told: &mut Told<'_, '_>) -> Result<Step, Error> {
        let bookmark = self.tail.take().and_then(|tail| tail.bookmark());
        let (storage, journal) = (&*self.storage, &self.directory.journal);
        let tail = SegmentTail::open(storage, journal, newest, self.copy.sequence())?;
        let header = &tail.file().header;
        check_identity(&tail.file().path, header, self.database, model_name::<M>())?;
        let (last, chain) = (newest.saturating_sub(1), header.chain);
        if last > self.copy.sequence() && self.catch_up(last, chain, bookmark, told)? == Step::Again
        {
            return Ok(Step::Again);
        }
        self.tail = Some(tail);
        Ok(Step::Done)
    }

    /// Applies the commands up to `last` from segments that nobody appends to any more, and from
    /// archives.
    fn catch_up(
        &mut self,
        last: u64,
        last_chain: u32,
        bookmark: Option<Bookmark>,
        told: &mut Told<'_, '_>,
    ) -> Result<Step, Error> {
        let files = Arc::new(self.files((last, last_chain)));
        let source = self.copy.unproven.clone().unwrap_or_else(|| self.directory.root.clone());
        let known = KnownChain { sequence: self.copy.sequence(), chain: self.copy.chain, source };
        let frames = files.frames_behind(bookmark, self.copy.sequence() + 1, Some(known));
        let mut frames = match frames {
            Err(Error::HistoryTruncated { wanted, oldest, path }) => {
                let error = Error::HistoryTruncated { path, wanted, oldest };
                return self.load_newer(error, told);
            }
            frames => frames.map_err(|error| self.of_this_history(error))?,
        };
        loop {
            match frames.advance() {
                Ok(true) => {}
                Ok(false) => break,
                Err(error @ Error::HistoryTruncated { .. }) => {
                    return self.load_newer(error, told);
                }
                Err(error) => return Err(self.of_this_history(error)),
            }
            let Some((file, frame)) = frames.frame() else { break };
            if self.copy.is_to_stop(&frame) {
                return Ok(Step::Done);
            }
            let after = frames.chain().unwrap_or(self.copy.chain);
            self.copy.apply(file, &frame, after)?;
            told.count(position(frame.header.frame_bytes()))?;
        }
        Ok(Step::Done)
    }

    /// Loads a newer snapshot, because the commands before it are no longer stored.
    fn load_newer(&mut self, why: Error, told: &mut Told<'_, '_>) -> Result<Step, Error> {
        let after = Some(self.copy.sequence());
        let loaded = newest_snapshot::<M>(&self.storage, &self.directory, after, told)?;
        let (Some(snapshot), manifest) = loaded else { return Err(why) };
        self.check_manifest(&manifest)?;
        let files = self.files((snapshot.sequence, snapshot.chain));
        self.copy.begin_with(&files, snapshot);
        self.copy.publish()?;
        Ok(Step::Again)
    }

    /// Applies what is durable of the newest segment.
    fn apply_tail(&mut self, told: &mut Told<'_, '_>) -> Result<(), Error> {
        let Some(mut tail) = self.tail.take() else { return Ok(()) };
        let applied = self.apply_frames_of(&mut tail, told);
        self.tail = Some(tail);
        applied.and_then(|()| self.copy.publish())
    }

    fn apply_frames_of(
        &mut self,
        tail: &mut SegmentTail,
        told: &mut Told<'_, '_>,
    ) -> Result<(), Error> {
        loop {
            let (read, known) = (tail.read(), self.copy.sequence());
            if read == known && tail.chain() != self.copy.chain {
                return Err(self.other_chain(tail));
            }
            if read == known {
                self.copy.unproven = None;
            }
            if !tail.advance()? {
                return Ok(());
            }
            let (chain, read) = (tail.chain(), tail.read());
            let (file, Some(frame)) = (tail.file(), tail.frame()) else { return Ok(()) };
            if read <= known {
                continue;
            }
            if frame.header.first_sequence != known + 1 {
                return Err(self.other_chain(tail));
            }
            if self.copy.is_to_stop(&frame) {
                return Ok(());
            }
            self.copy.apply(file, &frame, chain)?;
            told.count(position(frame.header.frame_bytes()))?;
        }
    }

    /// Checks what stands behind the last frame.
    fn check_end(&mut self, manifest: &Manifest) -> Result<(), Error> {
        let (known, sequence) = (self.copy.sequence(), manifest.sequence);
        let Some(tail) = &mut self.tail else { return Ok(()) };
        let reached = tail.reached();
        if reached < known && !tail.is_in_doubt() {
            return Err(self.other_history(format!("its journal ends with sequence {reached}")));
        }
        if manifest.state == Standing::Clean && reached > sequence {
            let expected = format!("sequence {reached}, the end of the journal");
            let found = format!("closed at sequence {sequence}");
            let path = self.directory.root.join(MANIFEST_NAME);
            return Err(Error::corrupt(&path, 40, expected, found));
        }
        Ok(tail.check_end()?)
    }

    /// The files as they are read to go on from a sequence with a chain value.
    fn files(&self, newest: (u64, u32)) -> HistoryFiles {
        files::<M>(&self.storage, &self.directory, self.database, newest)
    }

    /// Makes the error for a segment that does not go on from what was read.
    fn other_chain(&self, tail: &SegmentTail) -> Error {
        let (file, chain) = (&tail.file().path, tail.chain());
        match &self.copy.unproven {
            Some(snapshot) => {
                let expected = format!("the chain of {}", file.display());
                let found = format!("{:08x} at sequence {}", self.copy.chain, self.copy.sequence());
                Error::corrupt(snapshot, 76, expected, found)
            }
            None => self.other_history(format!(
                "{} has chain {chain:08x} at sequence {}, and {:08x} was read",
                file.display(),
                tail.read(),
                self.copy.chain
            )),
        }
    }

    /// Makes the error for files that go on from the chain that was read, or do not.
    fn of_this_history(&self, error: Error) -> Error {
        match error {
            Error::Corrupt { path, expected, found, .. } if path == self.directory.root => {
                self.other_history(format!("expected {expected}, found {found}"))
            }
            error => error,
        }
    }

    fn other_history(&self, reason: String) -> Error {
        let (path, sequence) = (self.directory.root.clone(), self.copy.sequence());
        Error::HistoryRewritten { path, sequence, reason }
    }
}

fn files<M: Model>(
    storage: &Arc<dyn Storage>,
    directory: &Directory,
    database: DatabaseId,
    (newest, newest_chain): (u64, u32),
) -> HistoryFiles {
    let model_name = model_name::<M>().to_owned();
    let (storage, directory) = (storage.clone(), directory.clone());
    HistoryFiles { storage, directory, database, model_name, newest, newest_chain }
}

/// Whether the error may be over at the next look at the same files.
fn may_be_over(error: &Error) -> bool {
    matches!(
        error,
        Error::Io { .. }
            | Error::Corrupt { .. }
            | Error::Missing { .. }
            | Error::HistoryTruncated { .. }
            | Error::HistoryRewritten { .. }
    )
}

/// Whether a command cannot be applied by this program.
fn is_of_the_program(error: &Error) -> bool {
    matches!(
        error,
        Error::UnknownTag { .. }
            | Error::RenumberedTag { .. }
            | Error::ReplayDiverged { .. }
            | Error::CommandChanged { .. }
            | Error::CommandUndecodable { .. }
    )
}
