//! Owns the verification of one segment, beyond its damage: which frames are sound, which bytes are
//! none, and whether the journal ends there. Knows nothing of the other files.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::commands::Place;
use super::finding::{Finding, told_lost};
use super::{Check, header_range};
use crate::error::Error;
use crate::files::{StoreError, position};
use crate::inspect::survey::used_bytes;
use crate::journal::{Ending, FrameStream, Skipped};

/// How often the end of the newest segment is looked at again: a program may be writing a batch.
const MOST_LOOKS: u32 = 32;
/// The pause before that.
const PAUSE: Duration = Duration::from_millis(2);

/// A segment that is being verified.
struct Reading<'a> {
    path: &'a Path,
    first: u64,
    /// The first sequence of the next segment; `None` in the newest one.
    next: Option<u64>,
    frames: FrameStream,
    /// The highest sequence that is known to be durable.
    durable: u64,
    looks: u32,
}

impl Reading<'_> {
    /// Returns the last sequence that the segment owns.
    fn last(&self) -> u64 {
        self.next.map_or(u64::MAX, |next| next - 1)
    }

    fn is_complete(&self) -> bool {
        self.next.is_some_and(|next| self.frames.next_sequence() >= next)
    }
}

/// Where the frames of a segment stopped.
enum Stopped {
    /// At its end.
    End,
    /// At a batch that was never acknowledged.
    Torn { position: u64, bytes: u64 },
    /// At damage.
    Damaged(Error),
}

impl Check<'_> {
    /// Verifies the segment that begins with `first`. `carried` is the segment before, if it holds
    /// the batch with which this one must begin. Returns the same for the next segment.
    pub(super) fn segment(
        &mut self,
        path: &Path,
        first: u64,
        next: Option<u64>,
        carried: Option<PathBuf>,
        place: &mut Place,
    ) -> Result<Option<PathBuf>, Error> {
        let storage = self.storage.clone();
        let opened = FrameStream::of_damaged_segment(&*storage, &self.directory.journal, first);
        let (frames, wrong) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                self.no_segment(path, first, next, &error.into(), place);
                return Ok(None);
            }
        };
        self.files += 1;
        let header = frames.file().header.clone();
        if let Err(error) = self.check_identity(path, &header) {
            self.no_segment(path, first, next, &error, place);
            return Ok(None);
        }
        if header.sequence != first {
            let expected = format!("first sequence {first}, as the file's name says");
            let error = Error::corrupt(path, 40, expected, header.sequence.to_string());
            self.no_segment(path, first, next, &error, place);
            return Ok(None);
        }
        if let Some(error) = wrong {
            self.head_finding(path, &header, &error);
        }
        self.enter(path, &header, place);
        let durable = self.manifest.as_ref().map_or(0, |manifest| manifest.sequence);
        let mut reading = Reading { path, first, next, frames, durable, looks: 0 };
        self.frames(&mut reading, place)?;
        if let Some(before) = carried
            && reading.frames.next_sequence() == first
        {
            let begin = reading.frames.position();
            let expected = format!("the first batch, which {} still holds", before.display());
            self.findings.push(Finding::new(path, begin..begin, &expected, "no frame").meaning(
                "This segment was made with the batch, so it has lost it. An open fails.",
                "Move this segment away, if it holds nothing else, or restore it from a backup.",
            ));
        }
        let holds_more = reading.is_complete() && reading.frames.holds_next_batch()?;
        Ok(holds_more.then(|| path.to_path_buf()))
    }

    /// Says that nothing of a segment can be read.
    fn no_segment(
        &mut self,
        path: &Path,
        first: u64,
        next: Option<u64>,
        error: &Error,
        place: &mut Place,
    ) {
        if self.is_gone(path) {
            *place = Place::default();
            return;
        }
        let durable = self.manifest.as_ref().map_or(first, |manifest| manifest.sequence);
        let last = next.map_or(durable, |next| next - 1);
        let finding = self.finding(error, path).losing(first, last);
        self.findings.push(finding.meaning(
            "No command of this segment can be verified. An open that needs it fails.",
            "Restore the file from a backup of the same time.",
        ));
        let time_ns = place.time_ns;
        let (next, before) = (next.or(place.next), Some(path.to_path_buf()));
        *place = Place { next, chain: None, before, time_ns };
    }

    /// Says what is wrong before the frames, or with the length.
    fn head_finding(&mut self, path: &Path, header: &crate::files::FileHeader, error: &StoreError) {
        let StoreError::Corrupt { position: at, expected, found, .. } = error else { return };
        let file = self.storage.open_to_read(path);
        let (length, head) = file.map_or((*at, 0..0), |file| (file.length(), header_range(&*file)));
        let bytes = match length < header.file_bytes {
            true => length..header.file_bytes,
            false => head.end..head.end.next_multiple_of(4096),
        };
        self.findings.push(Finding::new(path, bytes, expected, found).meaning(
            "An open that needs this segment fails. Its frames are verified nevertheless: see the \
             other findings.",
            "Restore the file from a backup of the same time.",
        ));
    }

    /// Reads all frames, and what lies between them.
    fn frames(&mut self, reading: &mut Reading<'_>, place: &mut Place) -> Result<(), Error> {
        let header = reading.frames.file().header.clone();
        let mut told = reading.frames.position();
        loop {
            match self.advance(reading)? {
                None => {
                    let chain = reading.frames.chain();
                    if let Some(frame) = reading.frames.frame() {
                        self.frame(reading.path, &header, &frame, chain, place);
                    }
                }
                Some(Stopped::End) => break,
                Some(Stopped::Torn { position, bytes }) => {
                    self.torn(reading, position, bytes);
                    break;
                }
                Some(Stopped::Damaged(error)) => {
                    let begin = reading.frames.position();
                    let skipped = reading.frames.skip_damage(reading.last())?;
                    self.damaged(reading, &error, begin, skipped, place)?;
                    if skipped.is_none() {
                        break;
                    }
                }
            }
            let at = reading.frames.position();
            self.step(at.saturating_sub(told));
            told = at;
        }
        let end = reading.frames.segment_bytes();
        self.step(end.saturating_sub(told));
        Ok(())
    }

    /// Goes to the next frame. Returns `None` if there is one.
    fn advance(&mut self, reading: &mut Reading<'_>) -> Result<Option<Stopped>, Error> {
        loop {
            if reading.is_complete() {
                return Ok(Some(Stopped::End));
            }
            match reading.frames.advance(reading.last()) {
                Ok(true) => return Ok(None),
                Ok(false) | Err(StoreError::Corrupt { .. }) => {}
                Err(error) => return Err(error.into()),
            }
            let ending = reading.frames.ending(reading.next, &mut reading.durable);
            let stopped = match ending {
                Ok(Ending::Complete) => return Ok(Some(Stopped::End)),
                Ok(Ending::Torn { position, bytes }) => Stopped::Torn { position, bytes },
                Err(StoreError::Io { action, path, source }) => {
                    return Err(Error::Io { action, path, source });
                }
                Err(error) => Stopped::Damaged(error.into()),
            };
            if reading.next.is_some() || !self.look_again(reading)? {
                return Ok(Some(stopped));
            }
        }
    }

    /// Waits a moment, and looks at the end of the newest segment again: a program may be writing
    /// there. Returns `false` when it has been looked at often enough.
    fn look_again(&self, reading: &mut Reading<'_>) -> Result<bool, Error> {
        if reading.looks >= MOST_LOOKS {
            return Ok(false);
        }
        reading.looks += 1;
        let Some(bookmark) = reading.frames.bookmark() else { return Ok(false) };
        let before = self.used(reading)?;
        std::thread::sleep(PAUSE);
        if reading.looks > 1 && before == self.used(reading)? {
            reading.looks = MOST_LOOKS; // nobody writes there
            return Ok(false);
        }
        let journal = &self.directory.journal;
        match FrameStream::at_bookmark(&*self.storage, journal, bookmark) {
            Ok(Some(frames)) => reading.frames = frames,
            Ok(None) => return Ok(false),
            Err(_) if self.storage.kind(reading.path).is_ok_and(|kind| kind.is_none()) => {
                return Ok(false);
            }
            // It was wrong before already, and that has been told.
            Err(_) => return Ok(false),
        }
        Ok(true)
    }

    fn used(&self, reading: &Reading<'_>) -> Result<u64, Error> {
        match self.storage.open_to_read(reading.path) {
            Ok(file) => Ok(used_bytes(reading.path, &*file)?),
            Err(_) => Ok(0),
        }
    }

    fn torn(&mut self, reading: &Reading<'_>, begin: u64, bytes: u64) {
        let expected = "the end of the journal, with zeros behind it";
        let found = format!("{bytes} bytes of a half-written batch");
        let finding = Finding::new(reading.path, begin..begin + bytes, expected, &found);
        self.findings.push(finding.noted().meaning(
            "A process ended while it wrote this batch, or is writing it now. No answer to its \
             commands was given: nothing is lost. The next open drops it.",
            "Nothing has to be done.",
        ));
    }

    fn damaged(
        &mut self,
        reading: &Reading<'_>,
        error: &Error,
        begin: u64,
        skipped: Option<Skipped>,
        place: &mut Place,
    ) -> Result<(), Error> {
        let lost_from = reading.frames.next_sequence();
        let (end, first, last) = match skipped {
            Some(skipped) => {
                (skipped.end, skipped.first_lost, skipped.next_sequence.saturating_sub(1))
            }
            None => {
                let end = self.used(reading)?.max(begin);
                let last = reading.next.map_or(reading.durable, |next| next - 1);
                (end, lost_from, last)
            }
        };
        let finding = Finding::of(error, reading.path, |_, _| begin..end);
        let finding = Finding { path: reading.path.to_path_buf(), bytes: begin..end, ..finding };
        let behind = match (skipped, reading.next) {
            (Some(skipped), _) => format!(
                "The commands from sequence {} on can be read again.",
                skipped.next_sequence
            ),
            (None, Some(next)) => format!("The next segment goes on with sequence {next}."),
            (None, None) => "No later batch is in this file.".to_owned(),
        };
        let lost = told_lost(first, last).map_or_else(String::new, |lost| lost + " ");
        let meaning = format!("{lost}An open that needs this segment fails. {behind}");
        self.findings.push(finding.losing(first, last).meaning(
            meaning,
            "Restore the file from a backup of the same time. Keep a copy of it as it is.",
        ));
        match skipped {
            Some(skipped) => {
                (place.next, place.chain) =
                    (Some(skipped.next_sequence), Some(reading.frames.chain()));
            }
            None => {
                (place.next, place.chain) = (reading.next.or(Some(last.saturating_add(1))), None);
            }
        }
        debug_assert!(position(0) == 0 && reading.first <= lost_from);
        Ok(())
    }
}
