//! Owns which batches of one file can be read: it goes on behind damage, as a verification does.
//! Knows nothing of the other files.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::Error;
use crate::files::{
    ARCHIVE_MAGIC, DatabaseId, Directory, FileHeader, PackedFile, StoreError, archive_path,
    segment_path,
};
use crate::journal::{Ending, FrameRef, FrameStream};
use crate::storage::Storage;

/// How often reading goes on behind damage in one file.
const MOST_RESTARTS: u32 = 4096;

/// Where a file with commands is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Journal,
    Archive,
}

/// Batches of one file that continue each other and are undamaged.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    pub(super) place: Place,
    pub(super) path: PathBuf,
    pub(super) header: Arc<FileHeader>,
    pub(super) first: u64,
    pub(super) last: u64,
    /// The chain value before the first command.
    pub(super) chain_before: u32,
    /// The chain value after the last command.
    pub(super) chain: u32,
    pub(super) first_time_ns: u64,
    pub(super) last_time_ns: u64,
    /// Whether it is an archive from its beginning to its end.
    pub(super) is_whole: bool,
    /// The chain values after the sequences that were asked for.
    marks: Vec<(u64, u32)>,
}

impl Piece {
    /// Returns the chain value after the command at `sequence`, if a batch ends there and it is the
    /// end of this piece, its beginning, or was asked for.
    pub(super) fn chain_at(&self, sequence: u64) -> Option<u32> {
        if sequence.checked_add(1) == Some(self.first) {
            return Some(self.chain_before);
        }
        if sequence == self.last {
            return Some(self.chain);
        }
        self.marks.iter().find(|(known, _)| *known == sequence).map(|(_, chain)| *chain)
    }

    pub(super) fn holds(&self, sequence: u64) -> bool {
        (self.first..=self.last).contains(&sequence)
    }

    /// Opens the piece at the batch that holds `sequence`, or at one before it.
    pub(super) fn open(
        &self,
        storage: &dyn Storage,
        directory: &Directory,
        sequence: u64,
    ) -> Result<FrameStream, StoreError> {
        let first = self.header.sequence;
        if self.place == Place::Archive {
            return FrameStream::of_archive(storage, &directory.archive, first, sequence);
        }
        let (mut frames, _) = FrameStream::of_damaged_segment(storage, &directory.journal, first)?;
        for _ in 0..MOST_RESTARTS {
            while frames.next_sequence() < self.first && frames.advance(self.last).unwrap_or(false)
            {
            }
            if frames.next_sequence() == self.first && frames.chain() == self.chain_before {
                return Ok(frames);
            }
            if frames.skip_damage(self.last)?.is_none() {
                break;
            }
        }
        let expected = format!("a batch that begins with sequence {}", self.first);
        Err(StoreError::corrupt(&self.path, 0, expected, "none: the file has changed meanwhile"))
    }
}

/// Something that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unreadable {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub reason: String,
}

impl Unreadable {
    /// Makes it of an error about a file. What an error advises is not for a repair.
    pub(super) fn of(path: &Path, error: &Error) -> Self {
        let reason = match error {
            Error::Corrupt { path: other, position, expected, found } => {
                let file = match other == path {
                    true => String::new(),
                    false => format!("{}, ", other.display()),
                };
                format!("{file}byte {position}: expected {expected}, found {found}")
            }
            Error::Missing { path: other, reason } if other != path => {
                format!("{} is missing: {reason}", other.display())
            }
            Error::Missing { reason, .. } => format!("it is missing: {reason}"),
            error => error.to_string(),
        };
        Self { path: path.to_path_buf(), reason }
    }
}

/// What the files of commands hold.
#[derive(Default)]
pub(super) struct Pieces {
    pub(super) list: Vec<Piece>,
    pub(super) unreadable: Vec<Unreadable>,
    /// The highest sequence that a sound header or footer states to be stored.
    pub(super) stated: u64,
    /// The bytes of a batch that was never acknowledged.
    pub(super) torn_bytes: u64,
    /// Whether the newest segment is shorter than it was made, so that batches at its end may be
    /// missing of which nothing tells.
    pub(super) is_cut: bool,
}

/// What is being read.
pub(super) struct Reading<'a> {
    pub(super) storage: &'a dyn Storage,
    pub(super) directory: &'a Directory,
    pub(super) database: DatabaseId,
    /// The sequences whose chain values are wanted.
    pub(super) marks: &'a BTreeSet<u64>,
    /// The sequence that the MANIFEST states to be durable.
    pub(super) durable: u64,
    pub(super) step: &'a mut dyn FnMut(u64),
}

/// A piece that grows batch by batch.
struct Growing<'a> {
    place: Place,
    path: &'a Path,
    header: Arc<FileHeader>,
    marks: &'a BTreeSet<u64>,
    piece: Option<Piece>,
}

impl Growing<'_> {
    /// Adds a batch. `chain` is the value after it.
    fn push(&mut self, frame: &FrameRef<'_>, chain: u32) -> Result<(), StoreError> {
        let mut times = None;
        frame.each_record(self.path, |_, record| {
            let (first, _) = times.unwrap_or((record.time_ns, 0));
            times = Some((first, record.time_ns));
            Ok::<_, StoreError>(())
        })?;
        let (first_time_ns, last_time_ns) = times.unwrap_or((0, 0));
        let last = frame.header.next_sequence().saturating_sub(1);
        let piece = self.piece.get_or_insert_with(|| Piece {
            place: self.place,
            path: self.path.to_path_buf(),
            header: self.header.clone(),
            first: frame.header.first_sequence,
            last,
            chain_before: frame.chain_before,
            chain,
            first_time_ns,
            last_time_ns,
            is_whole: false,
            marks: Vec::new(),
        });
        (piece.last, piece.chain, piece.last_time_ns) = (last, chain, last_time_ns);
        if self.marks.contains(&last) {
            piece.marks.push((last, chain));
        }
        Ok(())
    }
}

impl Pieces {
    fn unreadable(&mut self, path: &Path, error: StoreError) {
        let it = Unreadable::of(path, &error.into());
        // Reading goes on at each entry of an archive's index, and several may be in one damage.
        if self.unreadable.last() != Some(&it) {
            self.unreadable.push(it);
        }
    }

    /// Reads the segment that begins with `first`. The next segment begins with `next`.
    pub(super) fn read_segment(
        &mut self,
        reading: &mut Reading<'_>,
        first: u64,
        next: Option<u64>,
    ) {
        let path = segment_path(&reading.directory.journal, first);
        let damages = self.unreadable.len();
        self.read_segment_at(reading, &path, first, next);
        // Of what stood behind damage in the newest segment, nothing may tell.
        self.is_cut |= next.is_none() && self.unreadable.len() > damages;
    }

    fn read_segment_at(
        &mut self,
        reading: &mut Reading<'_>,
        path: &Path,
        first: u64,
        next: Option<u64>,
    ) {
        let opened =
            FrameStream::of_damaged_segment(reading.storage, &reading.directory.journal, first);
        let (mut frames, wrong) = match opened {
            Ok(opened) => opened,
            Err(error) => return self.unreadable(path, error),
        };
        let header = Arc::new(frames.file().header.clone());
        if !self.is_ours(path, &header, reading.database, first) {
            return;
        }
        if let Some(error) = wrong {
            self.unreadable(path, error);
        }
        self.stated = self.stated.max(first.saturating_sub(1));
        let marks = reading.marks;
        let mut growing = Growing { place: Place::Journal, path, header, marks, piece: None };
        let mut durable = reading.durable;
        for _ in 0..MOST_RESTARTS {
            // The next segment may begin with batches that this one still holds: it was made with
            // them after a crash. If it is damaged, they are here.
            let stopped = self.read_on(&mut frames, &mut growing, u64::MAX);
            self.list.extend(growing.piece.take());
            if next.is_some_and(|next| frames.next_sequence() >= next) {
                break;
            }
            let damage = match stopped {
                Err(error @ StoreError::Io { .. }) => {
                    self.unreadable(path, error);
                    break;
                }
                _ => frames.ending(next, &mut durable),
            };
            match damage {
                Ok(Ending::Complete) => break,
                Ok(Ending::Torn { bytes, .. }) => {
                    self.torn_bytes += bytes;
                    break;
                }
                Err(error) => self.unreadable(path, error),
            }
            match frames.skip_damage(u64::MAX) {
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(error) => {
                    self.unreadable(path, error);
                    break;
                }
            }
        }
        self.stated = self.stated.max(durable.min(next.map_or(u64::MAX, |next| next - 1)));
        (reading.step)(frames.segment_bytes());
    }

    /// Reads batches until none comes.
    fn read_on(
        &mut self,
        frames: &mut FrameStream,
        growing: &mut Growing<'_>,
        last: u64,
    ) -> Result<(), StoreError> {
        while frames.next_sequence() <= last && frames.advance(last)? {
            let chain = frames.chain();
            let Some(frame) = frames.frame() else { break };
            if let Err(error) = growing.push(&frame, chain) {
                // Its checksums are right, so it was written like this. What is behind it goes on.
                self.unreadable(growing.path, error);
                self.list.extend(growing.piece.take());
            }
        }
        Ok(())
    }

    /// Reads the archive that begins with `first`.
    pub(super) fn read_archive(
        &mut self,
        reading: &mut Reading<'_>,
        first: u64,
    ) -> Result<(), Error> {
        let path = archive_path(&reading.directory.archive, first);
        let opened = PackedFile::open_beside_others(reading.storage, &path, ARCHIVE_MAGIC);
        let entries = opened.and_then(|file| {
            let entries = FrameStream::archive_entries(&file);
            let (header, end) = (Arc::new(file.header.clone()), file.footer.sequence);
            (reading.step)(file.file_bytes());
            Ok((header, end, entries?))
        });
        let (header, end, entries) = match entries {
            Ok(opened) => opened,
            Err(error) => {
                self.unreadable(&path, error);
                return Ok(());
            }
        };
        if !self.is_ours(&path, &header, reading.database, first) {
            return Ok(());
        }
        self.stated = self.stated.max(end);
        let marks = reading.marks;
        let mut growing =
            Growing { place: Place::Archive, path: &path, header, marks, piece: None };
        let (archive, mut wanted) = (&reading.directory.archive, first);
        for _ in 0..MOST_RESTARTS {
            let opened = FrameStream::of_archive(reading.storage, archive, first, wanted);
            let (error, next) = match opened {
                Err(error) => (error, wanted),
                Ok(mut frames) => {
                    let read = self.read_on(&mut frames, &mut growing, end);
                    match read.and_then(|()| frames.check_end()) {
                        Ok(()) if frames.next_sequence() > end => {
                            let whole = growing.piece.take();
                            self.list.extend(whole.map(|piece| Piece {
                                is_whole: (piece.first, piece.last) == (first, end),
                                ..piece
                            }));
                            return Ok(());
                        }
                        Ok(()) => {
                            let expected = format!("batches up to sequence {end}");
                            let found = "an end before that";
                            let error = StoreError::corrupt(&path, 0, expected, found);
                            (error, frames.next_sequence())
                        }
                        Err(error) => (error, frames.next_sequence()),
                    }
                }
            };
            self.unreadable(&path, error);
            self.list.extend(growing.piece.take());
            let restart = entries.iter().find(|(sequence, _)| *sequence > wanted.max(next));
            let Some(&(sequence, _)) = restart else { break };
            wanted = sequence;
        }
        Ok(())
    }

    fn is_ours(
        &mut self,
        path: &Path,
        header: &FileHeader,
        database: DatabaseId,
        first: u64,
    ) -> bool {
        let error = if header.database != database {
            let path = path.to_path_buf();
            StoreError::ForeignFile { path, expected: database, found: header.database }
        } else if header.sequence != first {
            let expected = format!("first sequence {first}, as the file's name says");
            StoreError::corrupt(path, 40, expected, header.sequence.to_string())
        } else {
            return true;
        };
        self.unreadable(path, error);
        false
    }
}
