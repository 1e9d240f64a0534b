//! Owns going through a stored history frame by frame: file after file, each going on where the one
//! before ends, whatever is archived or removed meanwhile. Knows nothing of models.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use super::source::{HistoryFiles, Listing, Place};
use crate::error::Error;
use crate::files::exists;
use crate::journal::{FrameRef, FrameStream, Record, StreamedFile};
use crate::recovery::KnownChain;

/// How often in a row a file may turn out to be gone: each time it was archived or removed just
/// then, so that even two in a row are rare.
const MOST_RELISTINGS: u32 = 64;

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
        Ok(exists(&*self.files.storage, path)?)
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
            let (end, chain) = (frame.header.next_sequence(), self.chain());
            let shown = frame.each_record_until(&file.path, |sequence, record| {
                if sequence < self.from {
                    return Ok(ControlFlow::Continue(()));
                }
                take(file, sequence, record, chain.filter(|_| sequence + 1 == end))
            })?;
            if shown.is_break() {
                return Ok(());
            }
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
