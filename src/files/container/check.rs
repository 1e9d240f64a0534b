//! Owns the check of all of a packed file that does not stop at the first damage. Knows nothing of
//! what the content means.

use std::ops::Range;
use std::thread;

use crossbeam_channel::{Receiver, bounded};
use xxhash_rust::xxh3::Xxh3Default;

use super::content::{Content, Scratch};
use super::format::FOOTER_BYTES;
use super::index::Chunk;
use super::read::{Layout, PackedFile};
use crate::files::StoreError;
use crate::files::fields::position;
use crate::process::cores;
use crate::storage::Pace;

/// More threads than that would wait for the one that takes their chunks.
const MOST_THREADS: usize = 8;
/// A thread is worth so many chunks.
const CHUNKS_WORTH_A_THREAD: usize = 8;
/// How many unpacked chunks of each thread wait at most.
const CHUNKS_AHEAD: usize = 2;

/// A part of a packed file that is damaged.
pub(crate) struct DamagedPart {
    /// Where it is in the file.
    pub(crate) file_range: Range<u64>,
    /// Where it is in the content before packing, with the appendix and the scripts behind it.
    pub(crate) content_range: Range<u64>,
    pub(crate) error: StoreError,
}

impl PackedFile {
    /// Unpacks everything, and calls `damaged` for each part that is wrong. `step` is told the
    /// bytes of the file that were read since its last call.
    ///
    /// # Errors
    /// Fails when the file cannot be read, or when `step` says so.
    pub(crate) fn check_parts(
        &self,
        step: &mut dyn FnMut(u64) -> Result<(), StoreError>,
        damaged: &mut dyn FnMut(DamagedPart),
    ) -> Result<(), StoreError> {
        let content = match self.layout() {
            Layout::Chunks(content) => content,
            // Each chunk of a stream needs all chunks before it, and the open has verified them.
            Layout::Stream(begin) => {
                let checked = self.verify_content(&Pace::full());
                step(self.file_bytes())?;
                return match checked {
                    Err(error @ (StoreError::Corrupt { .. } | StoreError::Undecodable { .. })) => {
                        let file_range = *begin..self.file_bytes();
                        damaged(DamagedPart { file_range, content_range: 0..u64::MAX, error });
                        Ok(())
                    }
                    checked => checked,
                };
            }
        };
        let mut digest: Box<Xxh3Default> = Box::default();
        let mut is_sound = true;
        in_order(content, &mut |chunk, unpacked| {
            match unpacked {
                Ok(raw) => {
                    let content = raw.get(..chunk.offset(self.footer.raw_bytes));
                    digest.update(content.unwrap_or(&raw));
                }
                Err(error @ StoreError::Io { .. }) if !self.is_of_unpacking(&error) => {
                    return Err(error);
                }
                Err(error) => {
                    is_sound = false;
                    let file_range = chunk.at..chunk.end();
                    let content_range = chunk.raw_begin..chunk.raw_end();
                    damaged(DamagedPart { file_range, content_range, error });
                }
            }
            step(chunk.end() - chunk.at)
        })?;
        let found = digest.digest128().to_le_bytes();
        if is_sound && found != self.footer.digest {
            let end = self.file_bytes();
            let file_range = end.saturating_sub(position(FOOTER_BYTES))..end;
            let expected = format!("content with digest {:02x?}", self.footer.digest);
            let at = file_range.start;
            let error = StoreError::corrupt(&self.path, at, expected, format!("{found:02x?}"));
            damaged(DamagedPart { file_range, content_range: 0..self.footer.raw_bytes, error });
        }
        Ok(())
    }

    /// Returns whether zstd has failed, and not the disk.
    fn is_of_unpacking(&self, error: &StoreError) -> bool {
        matches!(error, StoreError::Io { action: "unpack", .. })
    }
}

/// What takes an unpacked chunk, or why it could not be unpacked.
type Take<'a> = dyn FnMut(&Chunk, Result<Vec<u8>, StoreError>) -> Result<(), StoreError> + 'a;

/// Unpacks all chunks on several threads, and has them taken in their order.
fn in_order(content: &Content, take: &mut Take<'_>) -> Result<(), StoreError> {
    let chunks = &content.index.chunks;
    let threads = cores().min(chunks.len() / CHUNKS_WORTH_A_THREAD).min(MOST_THREADS);
    let threads = if threads < 2 { 0 } else { threads };
    let unpack = |chunk: &Chunk, scratch: &mut Scratch| {
        let mut raw = Vec::new();
        content.unpack(chunk, scratch, &mut raw).map(|()| raw)
    };
    thread::scope(|scope| {
        let start = |first: usize| {
            let (outbox, inbox) = bounded(CHUNKS_AHEAD);
            let run = move || {
                let mut scratch = Scratch::default();
                for chunk in chunks.iter().skip(first).step_by(threads) {
                    if outbox.send(unpack(chunk, &mut scratch)).is_err() {
                        return; // nobody takes them any more
                    }
                }
            };
            let thread = thread::Builder::new().name("prevalence-unpacker".to_owned());
            thread.spawn_scoped(scope, run).is_ok().then_some(inbox)
        };
        let inboxes: Vec<Option<Receiver<_>>> = (0..threads).map(start).collect();
        let mut scratch = Scratch::default();
        for (chunk, from) in chunks.iter().zip((0..threads.max(1)).cycle()) {
            let unpacked = inboxes.get(from).and_then(Option::as_ref);
            // Where there is no thread, this one unpacks.
            let unpacked = unpacked.and_then(|inbox| inbox.recv().ok());
            take(chunk, unpacked.unwrap_or_else(|| unpack(chunk, &mut scratch)))?;
        }
        Ok(())
    })
}
