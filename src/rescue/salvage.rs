//! Owns reading the stored commands on both sides of damage. Knows nothing of what they have made.

use std::collections::{BTreeSet, VecDeque};
use std::ops::RangeInclusive;
use std::sync::Arc;

use super::pieces::{Pieces, Reading, Unreadable};
use crate::error::Error;
use crate::files::{SEGMENT_SUFFIX, list_archives, list_if_there};
use crate::inspect::{Inspection, RecordOrigin, StoredRecord};
use crate::journal::FrameStream;

/// How often all files are read again because the program changes them meanwhile.
const MOST_READINGS: u32 = 8;

/// What stands next in a history that may be damaged.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Salvaged {
    /// A command that can be read.
    Command(Box<StoredRecord>),
    /// The commands with these sequences cannot be read.
    Missing(RangeInclusive<u64>),
}

/// The stored commands that can be read, and the gaps between them: see [`salvage`]. It holds one
/// batch in memory at a time. It ends with the newest command of which anything in the directory
/// tells, and after an error.
pub struct Salvage<'a> {
    look: &'a Inspection,
    pieces: Pieces,
    /// The newest sequence of which anything tells.
    newest: u64,
    next: u64,
    current: Option<Current>,
    found: VecDeque<Salvaged>,
    readings: u32,
    has_failed: bool,
}

impl std::fmt::Debug for Salvage<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Salvage")
            .field("next", &self.next)
            .field("newest", &self.newest)
            .finish_non_exhaustive()
    }
}

/// A part of a file that is being read.
struct Current {
    frames: FrameStream,
    origin: RecordOrigin,
    /// The last sequence of the part.
    last: u64,
}

/// Reads the stored commands from the sequence `from` on, as
/// [`Inspection::records`](crate::inspect::Inspection::records) does, but goes on behind damage.
/// First it reads the files from there on, to find out what can be read of them. Commands before
/// the oldest file are not missing: they are no longer stored.
///
/// # Errors
/// [`Error::Io`] if the directory cannot be read.
pub fn salvage(look: &Inspection, from: u64) -> Result<Salvage<'_>, Error> {
    let mut salvage = Salvage {
        look,
        pieces: Pieces::default(),
        newest: 0,
        next: from.max(1),
        current: None,
        found: VecDeque::new(),
        readings: 0,
        has_failed: false,
    };
    salvage.read_files()?;
    Ok(salvage)
}

impl Salvage<'_> {
    /// Returns what is wrong with the files, as far as they had to be read.
    #[must_use]
    pub fn unreadable(&self) -> &[Unreadable] {
        &self.pieces.unreadable
    }

    /// Finds out what can be read of the files that may hold the next sequence or later ones.
    fn read_files(&mut self) -> Result<(), Error> {
        let (storage, directory) = (&*self.look.storage, &self.look.directory);
        let manifest = &self.look.manifest;
        // In this order no commands are missed while segments are archived.
        let segments = list_if_there(storage, &directory.journal, SEGMENT_SUFFIX)?;
        let archives = list_archives(storage, &directory.archive)?;
        let all: BTreeSet<u64> = segments.iter().chain(&archives).copied().collect();
        self.next = self.next.max(all.first().copied().unwrap_or(0));
        let holding = all.range(..=self.next).next_back().copied().unwrap_or(0);
        let mut pieces = Pieces::default();
        let marks = BTreeSet::new();
        let mut reading = Reading {
            storage,
            directory,
            database: manifest.database,
            marks: &marks,
            durable: manifest.sequence,
            step: &mut |_| {},
        };
        for &first in archives.iter().filter(|&&first| first >= holding) {
            pieces.read_archive(&mut reading, first)?;
        }
        for (at, &first) in segments.iter().enumerate() {
            // A segment may still hold the first batches of the next one.
            let next = segments.get(at + 1).copied();
            if next.is_none_or(|next| next >= holding) {
                pieces.read_segment(&mut reading, first, next);
            }
        }
        let last = pieces.list.iter().map(|it| it.last).max().unwrap_or(0);
        let snapshot = manifest.snapshots.last().copied().unwrap_or(0);
        self.newest = last.max(pieces.stated).max(manifest.sequence).max(snapshot);
        self.pieces = pieces;
        Ok(())
    }

    fn try_next(&mut self) -> Result<Option<Salvaged>, Error> {
        loop {
            if let Some(found) = self.found.pop_front() {
                return Ok(Some(found));
            }
            if self.current.is_none() && !self.open_piece()? {
                return Ok(self.gap(self.newest));
            }
            if self.found.is_empty()
                && let Err(error) = self.read_batch()
            {
                // Its program may have archived or removed the file.
                self.current = None;
                self.readings += 1;
                if self.readings > MOST_READINGS {
                    return Err(error);
                }
                self.read_files()?;
            }
        }
    }

    /// Returns the gap from the next sequence to `last`, and goes behind it.
    fn gap(&mut self, last: u64) -> Option<Salvaged> {
        let gap = (self.next <= last).then_some(Salvaged::Missing(self.next..=last));
        self.next = self.next.max(last.saturating_add(1));
        gap
    }

    /// Opens the part of a file that holds the next sequence, or the one that comes first behind
    /// it. Returns `false` if there is none.
    fn open_piece(&mut self) -> Result<bool, Error> {
        let next = self.next;
        let holding = self.pieces.list.iter().filter(|it| it.holds(next));
        let behind = self.pieces.list.iter().filter(|it| it.first > next);
        let piece = holding
            .max_by_key(|it| it.last)
            .or_else(|| behind.min_by_key(|it| (it.first, std::cmp::Reverse(it.last))));
        let Some(piece) = piece.cloned() else { return Ok(false) };
        let gap = self.gap(piece.first.saturating_sub(1));
        self.found.extend(gap);
        let (storage, directory) = (&*self.look.storage, &self.look.directory);
        match piece.open(storage, directory, self.next) {
            Ok(frames) => {
                let origin = RecordOrigin::of(frames.file());
                self.current = Some(Current { frames, origin, last: piece.last });
            }
            Err(error) => {
                self.readings += 1;
                if self.readings > MOST_READINGS {
                    return Err(error.into());
                }
                self.read_files()?;
            }
        }
        Ok(true)
    }

    /// Reads the next batch of the current part, if there is one.
    fn read_batch(&mut self) -> Result<(), Error> {
        let Some(Current { frames, origin, last }) = &mut self.current else { return Ok(()) };
        if self.next > *last {
            self.current = None;
            return Ok(());
        }
        let path = Arc::clone(frames.file());
        if !frames.advance(*last)? {
            let expected = format!("a batch with sequence {}", self.next);
            return Err(Error::corrupt(&path.path, frames.position(), expected, "no batch"));
        }
        let Some(frame) = frames.frame() else { return Ok(()) };
        let (found, next) = (&mut self.found, &mut self.next);
        frame.each_record(&path.path, |sequence, record| {
            if (*next..=*last).contains(&sequence) {
                found.push_back(match origin.record(sequence, record) {
                    Ok(record) => Salvaged::Command(Box::new(record)),
                    Err(_) => Salvaged::Missing(sequence..=sequence),
                });
                *next = sequence.saturating_add(1);
            }
            Ok::<_, Error>(())
        })
    }
}

impl Iterator for Salvage<'_> {
    type Item = Result<Salvaged, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.has_failed {
            return None;
        }
        let next = self.try_next();
        self.has_failed = next.is_err();
        next.transpose()
    }
}
