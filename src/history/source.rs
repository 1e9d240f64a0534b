//! Owns the order of the stored history: which file holds which sequence, and that each goes on
//! where the one before ends. Knows nothing of models.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::commands::same_name;
use crate::directory::Directory;
use crate::error::{DatabaseId, Error};
use crate::header::FileHeader;
use crate::journal::{
    FrameRef, FrameStream, Record, Records, StreamedFile, archive_path, list_archives,
    list_segments, segment_path,
};
use crate::replay::KnownChain;
use crate::snapshot::{list_snapshots, snapshot_path};
use crate::storage::Storage;

/// How often in a row a file may turn out to be gone: each time it was archived or removed just
/// then, so that even two in a row are rare.
const MOST_RELISTINGS: u32 = 64;

/// The files of one database, of which everything up to `newest` is history. They may be archived,
/// moved and removed meanwhile.
pub(crate) struct HistoryFiles {
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) directory: Directory,
    pub(crate) database: DatabaseId,
    /// As the files call the model.
    pub(crate) model_name: String,
    pub(crate) newest: u64,
    /// The chain value with which it ends.
    pub(crate) newest_chain: u32,
}

/// Where a file stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Journal,
    Archive,
}

/// What stood in the two directories at one time.
struct Listing {
    journal: Vec<u64>,
    archives: Vec<u64>,
}

impl Listing {
    /// The file with the highest first sequence that is not beyond `sequence`.
    fn holding(&self, sequence: u64) -> Option<(Place, u64)> {
        let last = |firsts: &[u64]| firsts.iter().rev().find(|&&first| first <= sequence).copied();
        match (last(&self.journal), last(&self.archives)) {
            (Some(segment), archive) if archive.is_none_or(|archive| archive <= segment) => {
                Some((Place::Journal, segment))
            }
            (_, archive) => archive.map(|archive| (Place::Archive, archive)),
        }
    }

    fn after(&self, first: u64) -> Option<(Place, u64)> {
        let next = |firsts: &[u64]| firsts.iter().find(|&&other| other > first).copied();
        match (next(&self.journal), next(&self.archives)) {
            (Some(segment), archive) if archive.is_none_or(|archive| archive >= segment) => {
                Some((Place::Journal, segment))
            }
            (_, archive) => archive.map(|archive| (Place::Archive, archive)),
        }
    }

    fn oldest(&self) -> Option<u64> {
        self.journal.first().into_iter().chain(self.archives.first()).min().copied()
    }
}

impl HistoryFiles {
    /// The frames from the one that holds `from` on. `known`: the chain value before `from`, where
    /// it is known.
    pub(crate) fn frames(
        self: &Arc<Self>,
        from: u64,
        known: Option<KnownChain>,
    ) -> Result<Frames, Error> {
        let mut frames = Frames {
            files: self.clone(),
            from,
            next_sequence: from,
            known,
            current: None,
            frame_of_current: false,
        };
        if from <= self.newest {
            frames.open_current()?; // what is not there is told at once
        }
        Ok(frames)
    }

    /// That what is known from elsewhere is known of this history: its commands have that chain. An
    /// error that does not name `known.source` is of the files that should prove it.
    pub(crate) fn prove(self: &Arc<Self>, known: KnownChain) -> Result<(), Error> {
        if known.sequence == self.newest && known.chain != self.newest_chain {
            let expected = format!("chain {:08x}, with which the history ends", self.newest_chain);
            let found = format!("{:08x} at sequence {}", known.chain, known.sequence);
            return Err(Error::corrupt(&known.source, 76, expected, found));
        }
        self.frames(known.sequence + 1, Some(known))?.advance().map(drop)
    }

    /// The first command that is stored; `None` when there is none.
    pub(crate) fn oldest_command(&self) -> Result<Option<u64>, Error> {
        Ok(self.list()?.oldest().filter(|&oldest| oldest <= self.newest))
    }

    /// Sequence and file of every snapshot up to `newest`, oldest first.
    pub(crate) fn snapshots(&self) -> Result<Vec<(u64, PathBuf)>, Error> {
        let Directory { snapshots, archive, .. } = &self.directory;
        // They move from here to there: looked for in this order, none is missed.
        let mut found = Vec::new();
        for directory in [snapshots, archive] {
            let examined = self.storage.kind(directory).map_err(Error::io("examine", directory))?;
            if examined.is_none() {
                continue;
            }
            let sequences = list_snapshots(&*self.storage, directory)?;
            found.extend(sequences.iter().map(|&s| (s, snapshot_path(directory, s))));
        }
        found.retain(|(sequence, _)| *sequence <= self.newest);
        found.sort_by_key(|(sequence, _)| *sequence);
        found.dedup_by_key(|(sequence, _)| *sequence);
        Ok(found)
    }

    /// That a file belongs to this database and its model.
    pub(crate) fn check_identity(&self, path: &Path, header: &FileHeader) -> Result<(), Error> {
        if !same_name(&header.model_name, &self.model_name) {
            return Err(Error::WrongModel {
                path: path.to_path_buf(),
                expected: self.model_name.clone(),
                found: header.model_name.clone(),
            });
        }
        if header.database != self.database {
            return Err(Error::ForeignFile {
                path: path.to_path_buf(),
                expected: self.database,
                found: header.database,
            });
        }
        Ok(())
    }

    /// Segments first: what was archived and removed before that is in the archive by now.
    fn list(&self) -> Result<Listing, Error> {
        Ok(Listing {
            journal: list_segments(&*self.storage, &self.directory.journal)?,
            archives: list_archives(&*self.storage, &self.directory.archive)?,
        })
    }

    fn open(&self, (place, first): (Place, u64)) -> Result<FrameStream, Error> {
        let (storage, directory) = (&*self.storage, &self.directory);
        let stream = match place {
            Place::Journal => FrameStream::of_segment(storage, &directory.journal, first),
            Place::Archive => FrameStream::of_archive(storage, &directory.archive, first),
        }?;
        self.check_identity(&stream.file().path, &stream.file().header)?;
        Ok(stream)
    }

    fn path(&self, (place, first): (Place, u64)) -> PathBuf {
        match place {
            Place::Journal => segment_path(&self.directory.journal, first),
            Place::Archive => archive_path(&self.directory.archive, first),
        }
    }

    fn truncated(&self, wanted: u64, oldest: u64) -> Error {
        Error::HistoryTruncated { path: self.directory.root.clone(), wanted, oldest }
    }

    /// That `file` ends with `end` and the next file does not go on from there.
    fn gap(&self, file: (Place, u64), end: u64, next: Option<(Place, u64)>) -> Error {
        let next = next.map_or_else(
            || "there is no later file".to_owned(),
            |next| format!("the next one is {}", self.path(next).display()),
        );
        let reason = format!("{} ends with sequence {end} and {next}", self.path(file).display());
        Error::Missing { path: self.path((file.0, end + 1)), reason }
    }
}

/// A file that is being read.
struct Current {
    stream: FrameStream,
    file: (Place, u64),
    /// The last sequence that the file owns.
    end: u64,
}

/// The frames of a history, in order.
pub(crate) struct Frames {
    files: Arc<HistoryFiles>,
    from: u64,
    next_sequence: u64,
    /// The chain value before `next_sequence`.
    known: Option<KnownChain>,
    current: Option<Current>,
    /// Whether the frame that `current` has come to is one to give.
    frame_of_current: bool,
}

impl Frames {
    /// The sequence from which on these frames were asked for: the first one may begin earlier.
    pub(crate) fn from(&self) -> u64 {
        self.from
    }

    /// The chain value after the frame that [`advance`](Self::advance) came to.
    pub(crate) fn chain(&self) -> Option<u32> {
        self.known.as_ref().map(|known| known.chain)
    }

    /// Goes on to the next frame; `false` at the end of the history.
    pub(crate) fn advance(&mut self) -> Result<bool, Error> {
        let mut relistings = 0;
        self.frame_of_current = false;
        while self.next_sequence <= self.files.newest {
            match self.try_advance() {
                Ok(found) => {
                    self.frame_of_current = found;
                    if found {
                        return Ok(true);
                    }
                }
                Err(error) => {
                    relistings += 1;
                    if relistings > MOST_RELISTINGS || !self.is_gone()? {
                        return Err(error);
                    }
                    self.current = None; // it was archived or removed: look for it anew
                }
            }
        }
        Ok(false)
    }

    /// The frame that [`advance`](Self::advance) came to, and its file.
    pub(crate) fn frame(&self) -> Option<(&Arc<StreamedFile>, FrameRef<'_>)> {
        let stream = &self.current.as_ref().filter(|_| self.frame_of_current)?.stream;
        Some((stream.file(), stream.frame()?))
    }

    /// One step towards the next frame; `Ok(true)` when it was reached.
    fn try_advance(&mut self) -> Result<bool, Error> {
        if self.current.is_none() {
            self.open_current()?;
        }
        let Some(current) = &mut self.current else { return Ok(false) };
        if current.stream.next_sequence() > current.end {
            if current.stream.file().end.is_some_and(|(end, _)| end == current.end) {
                current.stream.check_end()?;
            }
            self.current = None;
            return Ok(false);
        }
        if current.stream.next_sequence() == self.next_sequence {
            let checked = check_known(&current.stream, self.known.as_ref());
            if checked.is_err() && self.next_sequence == self.from {
                return Err(self.disproved());
            }
            checked?;
        }
        let Some(current) = &mut self.current else { return Ok(false) };
        let next = current.stream.next_sequence();
        if !current.stream.advance(current.end)? {
            let (file, end) = (current.file, next - 1);
            if end + 1 == file.1 {
                let (path, at) = (self.files.path(file), current.stream.position());
                let expected = format!("a frame with sequence {next}");
                return Err(Error::corrupt(&path, at, expected, "no frame at all"));
            }
            return Err(self.files.gap(file, end, self.files.list()?.after(file.1)));
        }
        if current.stream.next_sequence() <= self.next_sequence {
            return Ok(false); // it ends before what is wanted
        }
        // A state is known only as the end of a batch.
        if self.known.is_some() && next < self.next_sequence {
            return Err(self.disproved());
        }
        self.next_sequence = current.stream.next_sequence();
        self.known = Some(KnownChain {
            sequence: self.next_sequence - 1,
            chain: current.stream.chain(),
            source: current.stream.file().path.clone(),
        });
        Ok(true)
    }

    /// What is known from outside and the current file do not go together: one of them is of another
    /// history. Which one it is the file behind tells.
    fn disproved(&mut self) -> Error {
        let known = self.known.clone().expect("it was compared");
        let current = self.current.as_mut().expect("it was compared with what is known");
        let path = current.stream.file().path.clone();
        let KnownChain { sequence, chain, source } = known;
        match links(&self.files, current) {
            Ok(true) => {
                let expected = format!("the chain up to sequence {sequence} of {}", path.display());
                Error::corrupt(&source, 76, expected, format!("{chain:08x}, of another history"))
            }
            Ok(false) => {
                let known = format!("chain {chain:08x} at sequence {sequence}");
                let expected = format!("{known}, as in {}", source.display());
                Error::corrupt(&path, 76, expected, "commands that no later file goes on from")
            }
            Err(error) => error,
        }
    }

    /// Opens the file that holds the next sequence.
    fn open_current(&mut self) -> Result<(), Error> {
        let mut relistings = 0;
        loop {
            let listing = self.files.list()?;
            let Some(file) = listing.holding(self.next_sequence) else {
                let nothing = self.files.newest + 1;
                let oldest = listing.oldest().unwrap_or(nothing).min(nothing);
                return Err(self.files.truncated(self.next_sequence, oldest));
            };
            match self.open_file(&listing, file) {
                Ok(current) => {
                    self.current = Some(current);
                    return Ok(());
                }
                Err(error) => {
                    relistings += 1;
                    let path = self.files.path(file);
                    if relistings > MOST_RELISTINGS || self.exists(&path)? {
                        return Err(error);
                    }
                }
            }
        }
    }

    fn open_file(&self, listing: &Listing, file: (Place, u64)) -> Result<Current, Error> {
        let stream = self.files.open(file)?;
        let next = listing.after(file.1);
        let end = match (stream.file().end, next) {
            // What two files hold counts as the later one has it, if their chains agree there.
            (Some((end, _)), Some((_, next))) => end.min(next - 1),
            (Some((end, _)), None) => end,
            (None, Some((_, next))) => next - 1,
            (None, None) => self.files.newest,
        };
        if end < self.next_sequence {
            return Err(self.files.gap(file, end, next));
        }
        Ok(Current { stream, file, end })
    }

    fn is_gone(&self) -> Result<bool, Error> {
        match &self.current {
            Some(current) => Ok(!self.exists(&self.files.path(current.file))?),
            None => Ok(false),
        }
    }

    fn exists(&self, path: &Path) -> Result<bool, Error> {
        let kind = self.files.storage.kind(path).map_err(Error::io("examine", path))?;
        Ok(kind.is_some())
    }

    /// Shows every command from `from` on to `take`, until it breaks.
    pub(crate) fn each_record(
        &mut self,
        mut take: impl FnMut(&Arc<StreamedFile>, u64, &Record<'_>) -> Result<ControlFlow<()>, Error>,
    ) -> Result<(), Error> {
        self.each_chained_record(|file, sequence, record, _| take(file, sequence, record))
    }

    /// The same, with the chain value behind the last command of each batch.
    pub(crate) fn each_chained_record(
        &mut self,
        mut take: impl FnMut(
            &Arc<StreamedFile>,
            u64,
            &Record<'_>,
            Option<u32>,
        ) -> Result<ControlFlow<()>, Error>,
    ) -> Result<(), Error> {
        while self.advance()? {
            let Some((file, frame)) = self.frame() else { break };
            let mut sequence = frame.header.first_sequence;
            for record in Records::new(frame.payload) {
                let record = record.map_err(|at| not_whole(file, &frame, at))?;
                let is_last = sequence + 1 == frame.header.next_sequence();
                let chain = self.chain().filter(|_| is_last);
                if sequence >= self.from && take(file, sequence, &record, chain)?.is_break() {
                    return Ok(());
                }
                sequence += 1;
            }
            check_count(file, &frame, sequence)?;
        }
        Ok(())
    }
}

/// Whether the file behind the current one goes on from it, or the history ends with it as it should.
fn links(files: &HistoryFiles, current: &mut Current) -> Result<bool, Error> {
    let Current { stream, file, end } = current;
    while stream.next_sequence() <= *end && stream.advance(*end)? {}
    let chain = match files.list()?.after(file.1) {
        Some(next) => files.open(next)?.chain(),
        None => files.newest_chain,
    };
    Ok(stream.next_sequence() == *end + 1 && stream.chain() == chain)
}

/// The chain must have the value that is known.
fn check_known(stream: &FrameStream, known: Option<&KnownChain>) -> Result<(), Error> {
    let Some(KnownChain { sequence, chain, source }) = known else { return Ok(()) };
    if *chain == stream.chain() || *sequence + 1 != stream.next_sequence() {
        return Ok(());
    }
    let expected = format!("chain {chain:08x} at sequence {sequence}, as in {}", source.display());
    let found = format!("{:08x}", stream.chain());
    Err(Error::corrupt(&stream.file().path, 76, expected, found))
}

pub(crate) fn not_whole(file: &StreamedFile, frame: &FrameRef<'_>, at: usize) -> Error {
    let expected = "whole records in the frame";
    Error::corrupt(&file.path, frame.position, expected, format!("none at its byte {at}"))
}

/// That a frame held as many records as it states; `sequence` is the one after the last.
pub(crate) fn check_count(
    file: &StreamedFile,
    frame: &FrameRef<'_>,
    sequence: u64,
) -> Result<(), Error> {
    if sequence == frame.header.next_sequence() {
        return Ok(());
    }
    let expected = format!("{} records in the frame", frame.header.count);
    let found = (sequence - frame.header.first_sequence).to_string();
    Err(Error::corrupt(&file.path, frame.position, expected, found))
}
