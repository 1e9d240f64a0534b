//! Owns reading an encoding block by block. Knows nothing of where the blocks come from, and of
//! what is encoded.

use std::cell::Cell;
use std::io;
use std::rc::Rc;

use bincode::de::read::Reader;
use bincode::error::DecodeError;

/// Where blocks come from. The encoding may be followed by an appendix, which is a part of its own.
pub(crate) trait BlockSource {
    /// Returns the next block of this part; `None` at its end, or when reading fails. The owner of
    /// the source knows of the failure.
    fn next_block(&mut self) -> Option<Vec<u8>>;

    /// Goes on with the appendix.
    fn begin_appendix(&mut self);

    /// Lets the next block begin at `position` of the encoding.
    fn seek(&mut self, position: u64);
}

/// The place of a reader in an encoding, which others may look at and change.
#[derive(Default)]
pub(crate) struct Place {
    /// Where the current block begins.
    block_begin: Cell<u64>,
    /// How much of the block was read. It is [`LEFT`] after a jump.
    at: Cell<usize>,
    jump: Cell<u64>,
}

/// This is behind the end of every block, so the reader notices the jump only when it needs a new
/// block anyway.
const LEFT: usize = usize::MAX;

impl Place {
    pub(crate) fn position(&self) -> u64 {
        match self.at.get() {
            LEFT => self.jump.get(),
            at => self.block_begin.get() + u64::try_from(at).expect("memory sizes fit 64 bits"),
        }
    }

    /// Lets the reader go on at `position`.
    pub(crate) fn jump(&self, position: u64) {
        self.jump.set(position);
        self.at.set(LEFT);
    }

    #[cfg(test)]
    pub(crate) fn has_jumped(&self) -> bool {
        self.jump.get() > 0
    }
}

/// An encoding, or the appendix behind it, block by block.
pub(crate) struct Blocks<'a> {
    source: Box<dyn BlockSource + 'a>,
    block: Vec<u8>,
    place: Rc<Place>,
}

impl<'a> Blocks<'a> {
    pub(crate) fn new(source: impl BlockSource + 'a) -> Self {
        Self { source: Box::new(source), block: Vec::new(), place: Rc::default() }
    }

    /// Takes the blocks out, and leaves none.
    pub(crate) fn take(&mut self) -> Self {
        std::mem::replace(self, Self::new(NoBlocks))
    }

    pub(crate) fn place(&self) -> &Rc<Place> {
        &self.place
    }

    /// Goes on with the appendix. What is left of the encoding is skipped.
    pub(crate) fn begin_appendix(&mut self) {
        self.block.clear();
        self.place.at.set(0);
        self.source.begin_appendix();
    }

    /// Returns what is left of the current block, or the next block; empty at the end.
    pub(crate) fn current(&mut self) -> &[u8] {
        while self.place.at.get() >= self.block.len() {
            let position = self.place.position();
            if self.place.at.get() == LEFT {
                self.source.seek(position);
            }
            self.place.block_begin.set(position);
            self.place.at.set(0);
            self.block.clear();
            let Some(block) = self.source.next_block() else { return &[] };
            self.block = block;
        }
        self.block.get(self.place.at.get()..).unwrap_or(&[])
    }

    /// Skips a part of [`current`](Self::current).
    pub(crate) fn advance(&mut self, bytes: usize) {
        let at = self.place.at.get().saturating_add(bytes).min(self.block.len());
        self.place.at.set(at);
    }

    /// Skips all that is left.
    pub(crate) fn skip(&mut self) {
        loop {
            match self.current().len() {
                0 => return,
                length => self.advance(length),
            }
        }
    }

    /// Fills `target`. The error is the number of missing bytes.
    pub(crate) fn fill(&mut self, mut target: &mut [u8]) -> Result<(), usize> {
        while !target.is_empty() {
            let available = self.current();
            if available.is_empty() {
                return Err(target.len());
            }
            let length = available.len().min(target.len());
            let (now, later) = std::mem::take(&mut target).split_at_mut(length);
            now.copy_from_slice(available.get(..length).unwrap_or(&[]));
            self.advance(length);
            target = later;
        }
        Ok(())
    }
}

impl Reader for &mut Blocks<'_> {
    #[inline]
    fn read(&mut self, target: &mut [u8]) -> Result<(), DecodeError> {
        let at = self.place.at.get();
        let end = at.saturating_add(target.len());
        if let Some(source) = self.block.get(at..end) {
            target.copy_from_slice(source);
            self.place.at.set(end);
            return Ok(());
        }
        self.fill(target).map_err(|additional| DecodeError::UnexpectedEnd { additional })
    }

    #[inline]
    fn peek_read(&mut self, length: usize) -> Option<&[u8]> {
        // This peeks only within a block. At the end of a block, bincode reads field by field.
        let at = self.place.at.get();
        self.block.get(at..at.checked_add(length)?)
    }

    #[inline]
    fn consume(&mut self, length: usize) {
        self.advance(length);
    }
}

impl io::Read for Blocks<'_> {
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        let current = self.current();
        let length = current.len().min(target.len());
        let (now, _) = target.split_at_mut(length);
        now.copy_from_slice(current.get(..length).unwrap_or(&[]));
        self.advance(length);
        Ok(length)
    }
}

impl io::BufRead for Blocks<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        Ok(self.current())
    }

    fn consume(&mut self, bytes: usize) {
        self.advance(bytes);
    }
}

struct NoBlocks;

impl BlockSource for NoBlocks {
    fn next_block(&mut self) -> Option<Vec<u8>> {
        None
    }

    fn begin_appendix(&mut self) {}

    fn seek(&mut self, _: u64) {}
}

/// One block, for tests without a file.
#[cfg(any(test, fuzzing))]
pub(crate) struct OneBlock(pub(crate) Option<Vec<u8>>);

#[cfg(any(test, fuzzing))]
impl BlockSource for OneBlock {
    fn next_block(&mut self) -> Option<Vec<u8>> {
        self.0.take()
    }

    fn begin_appendix(&mut self) {}

    fn seek(&mut self, _: u64) {}
}
