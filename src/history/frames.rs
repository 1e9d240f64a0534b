//! Walks a stored history frame by frame, file after file, even if files are archived or removed
//! meanwhile. Knows nothing of models.
//!
//! # How `advance` comes to the next frame
//!
//! `advance` repeats one step until a frame is reached. A step ends in one of these ways:
//!
//! | the step finds                               | what `advance` does                       |
//! |----------------------------------------------|-------------------------------------------|
//! | the file owns no more sequences              | opens the next file                       |
//! | a frame that ends before the wanted sequence | skips it                                  |
//! | a frame that holds the wanted sequence       | gives it                                  |
//! | no frame, where the file should have one     | gives an error: damage, or a missing file |
//! | another error, and the file is still there   | gives that error                          |
//! | another error, and the file is gone          | looks for the sequence in another file    |
//!
//! A file is opened near the wanted sequence: an archive has an index for that, and of a segment
//! only the headers of the frames before are read.
//!
//! A file owns the sequences from its own first one to the one before the next file begins. The
//! chain value links each file to the one before. If the value that is known from outside (a
//! snapshot's) does not fit, `disproved` finds out which of the two files is wrong.

use std::path::Path;
use std::sync::Arc;

use super::source::{HistoryFiles, Listing, Place};
use crate::error::Error;
use crate::files::exists;
use crate::journal::{Bookmark, FrameRef, FrameStream, StreamedFile};
use crate::recovery::KnownChain;

/// How often in a row a file may be gone when it is read. It was archived or removed at that
/// moment, so that even two in a row are rare.
const MOST_RELISTINGS: u32 = 64;

impl HistoryFiles {
    /// Opens the frames of this history, beginning with the frame that holds `from`. `known` is the
    /// chain value before `from`, if the caller knows it.
    pub(crate) fn frames(
        self: &Arc<Self>,
        from: u64,
        known: Option<KnownChain>,
    ) -> Result<Frames, Error> {
        self.frames_behind(None, from, known)
    }

    /// Opens as [`frames`](Self::frames). `bookmark` is where earlier frames of this history ended:
    /// so far the segment was verified, and it is not read again.
    pub(crate) fn frames_behind(
        self: &Arc<Self>,
        bookmark: Option<Bookmark>,
        from: u64,
        known: Option<KnownChain>,
    ) -> Result<Frames, Error> {
        let mut frames = Frames {
            files: self.clone(),
            from,
            next_sequence: from,
            known,
            bookmark,
            current: None,
            frame_of_current: false,
        };
        if from <= self.newest {
            frames.current = Some(frames.open_next()?); // so that a missing file is told at once
        }
        Ok(frames)
    }

    /// Checks `known.chain` against this history. If an error does not name `known.source`, the
    /// files of this history are at fault, and nothing is proved.
    pub(crate) fn prove(self: &Arc<Self>, known: KnownChain) -> Result<(), Error> {
        if known.sequence == self.newest && known.chain != self.newest_chain {
            let expected = format!("chain {:08x}, with which the history ends", self.newest_chain);
            let found = format!("{:08x} at sequence {}", known.chain, known.sequence);
            return Err(Error::corrupt(&known.source, 76, expected, found));
        }
        self.frames(known.sequence + 1, Some(known))?.advance().map(drop)
    }
}

/// A file that is being read.
struct Current {
    stream: FrameStream,
    file: (Place, u64),
    /// The last sequence that the file owns.
    end: u64,
}

/// How one step towards the next frame ended.
#[derive(PartialEq, Eq)]
enum Step {
    /// The stream stands at the wanted frame.
    Reached,
    /// The frame ends before the wanted sequence.
    Skipped,
    /// The file owns no more sequences.
    FileUsedUp,
}

/// The frames of a history, in order.
pub(crate) struct Frames {
    files: Arc<HistoryFiles>,
    from: u64,
    next_sequence: u64,
    /// The chain value before `next_sequence`.
    known: Option<KnownChain>,
    bookmark: Option<Bookmark>,
    current: Option<Box<Current>>,
    /// Whether the frame at which `current` stands is one to give.
    frame_of_current: bool,
}

impl Frames {
    pub(crate) fn files(&self) -> &Arc<HistoryFiles> {
        &self.files
    }

    /// The first sequence that was asked for. The first frame may begin before it.
    pub(crate) fn from(&self) -> u64 {
        self.from
    }

    /// The chain value after the frame that [`advance`](Self::advance) reached.
    pub(crate) fn chain(&self) -> Option<u32> {
        self.known.as_ref().map(|known| known.chain)
    }

    /// Where the frames that were read end, if that is in a segment.
    pub(crate) fn bookmark(&self) -> Option<Bookmark> {
        self.current.as_ref()?.stream.bookmark()
    }

    /// Goes to the next frame. Returns `false` at the end of the history.
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
                    self.current = None; // it was archived or removed: the next step looks anew
                }
            }
        }
        Ok(false)
    }

    /// The frame that [`advance`](Self::advance) reached, and its file.
    pub(crate) fn frame(&self) -> Option<(&Arc<StreamedFile>, FrameRef<'_>)> {
        let stream = &self.current.as_ref().filter(|_| self.frame_of_current)?.stream;
        Some((stream.file(), stream.frame()?))
    }

    /// Makes one step. Returns `true` when the next frame is reached.
    fn try_advance(&mut self) -> Result<bool, Error> {
        let mut current = match self.current.take() {
            Some(current) => current,
            None => self.open_next()?,
        };
        let step = self.step(&mut current);
        if !matches!(step, Ok(Step::FileUsedUp)) {
            self.current = Some(current);
        }
        Ok(step? == Step::Reached)
    }

    fn step(&mut self, current: &mut Current) -> Result<Step, Error> {
        let next = current.stream.next_sequence();
        if next > current.end {
            if current.stream.file().end.is_some_and(|(end, _)| end == current.end) {
                current.stream.check_end()?;
            }
            return Ok(Step::FileUsedUp);
        }
        if next == self.next_sequence {
            self.check_known(current)?;
        }
        if !current.stream.advance(current.end)? {
            return Err(self.no_frame(current, next)?);
        }
        let after = current.stream.next_sequence();
        if after <= self.next_sequence {
            return Ok(Step::Skipped);
        }
        // A snapshot is made only at the end of a batch, so no frame may go across its sequence.
        if self.known.is_some() && next < self.next_sequence {
            return Err(self.disproved(current));
        }
        self.next_sequence = after;
        self.known = Some(KnownChain {
            sequence: after - 1,
            chain: current.stream.chain(),
            source: current.stream.file().path.clone(),
        });
        Ok(Step::Reached)
    }

    /// Compares the stream's chain value with the known one, if both are of the same sequence.
    fn check_known(&self, current: &mut Current) -> Result<(), Error> {
        let Some(KnownChain { sequence, chain, source }) = &self.known else { return Ok(()) };
        let stream = &current.stream;
        if *chain == stream.chain() || *sequence + 1 != stream.next_sequence() {
            return Ok(());
        }
        if self.next_sequence == self.from {
            return Err(self.disproved(current));
        }
        let expected = expected_chain(*chain, *sequence, source);
        let found = format!("{:08x}", stream.chain());
        Err(Error::corrupt(&stream.file().path, 76, expected, found))
    }

    /// Builds the error for a file that has no frame with the sequence `next`, which it should
    /// have.
    fn no_frame(&self, current: &Current, next: u64) -> Result<Error, Error> {
        let (file, first) = (current.file, current.file.1);
        if next == first {
            let (path, at) = (self.files.path(file), current.stream.position());
            let expected = format!("a frame with sequence {next}");
            return Ok(Error::corrupt(&path, at, expected, "no frame"));
        }
        Ok(self.files.gap(file, next - 1, self.files.list()?.after(first)))
    }

    /// Builds the error for a known chain value that does not fit the current file: one of the two
    /// is of another history. If the next file goes on from the current one, the known value is
    /// wrong, else the current file.
    fn disproved(&self, current: &mut Current) -> Error {
        let known = self.known.clone().expect("a known chain value was compared");
        let path = current.stream.file().path.clone();
        let KnownChain { sequence, chain, source } = known;
        match links(&self.files, current) {
            Ok(true) => {
                let expected = format!("the chain up to sequence {sequence} of {}", path.display());
                Error::corrupt(&source, 76, expected, format!("{chain:08x}, of another history"))
            }
            Ok(false) => {
                let expected = expected_chain(chain, sequence, &source);
                let found = "commands from which no later file goes on";
                Error::corrupt(&path, 76, expected, found)
            }
            Err(error) => error,
        }
    }

    /// Opens the file that holds the next sequence.
    fn open_next(&self) -> Result<Box<Current>, Error> {
        let mut relistings = 0;
        loop {
            let listing = self.files.list()?;
            let Some(file) = listing.holding(self.next_sequence) else {
                let nothing = self.files.newest + 1;
                let oldest = listing.oldest().unwrap_or(nothing).min(nothing);
                return Err(self.files.truncated(self.next_sequence, oldest));
            };
            match self.open_file(&listing, file) {
                Ok(current) => return Ok(Box::new(current)),
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
        let stream = self.files.open(file, self.next_sequence, self.bookmark)?;
        let next = listing.after(file.1);
        let end = match (stream.file().end, next) {
            // If two files hold the same sequences, the later file owns them. Their chains must
            // agree there.
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
        Ok(exists(&*self.files.storage, path)?)
    }
}

/// Whether the next file goes on from the current one. If there is no next file: whether the
/// history ends with the current one's chain value.
fn links(files: &HistoryFiles, current: &mut Current) -> Result<bool, Error> {
    let Current { stream, file, end } = current;
    while stream.next_sequence() <= *end && stream.advance(*end)? {}
    let chain = match files.list()?.after(file.1) {
        Some(next) => files.open(next, next.1, None)?.chain(),
        None => files.newest_chain,
    };
    Ok(stream.next_sequence() == *end + 1 && stream.chain() == chain)
}

fn expected_chain(chain: u32, sequence: u64, source: &Path) -> String {
    format!("chain {chain:08x} at sequence {sequence}, as in {}", source.display())
}
