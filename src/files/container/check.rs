//! Owns the check of all of a packed file that does not stop at the first damage. Knows nothing of
//! what the content means.

use std::ops::Range;

use xxhash_rust::xxh3::Xxh3Default;

use super::content::Scratch;
use super::format::FOOTER_BYTES;
use super::read::{Layout, PackedFile};
use crate::files::StoreError;
use crate::files::fields::position;
use crate::storage::Pace;

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
        let (mut scratch, mut raw) = (Scratch::default(), Vec::new());
        let mut digest: Box<Xxh3Default> = Box::default();
        let mut is_sound = true;
        for chunk in &content.index.chunks {
            raw.clear();
            match content.unpack(chunk, &mut scratch, &mut raw) {
                Ok(()) => {
                    digest.update(raw.get(..chunk.offset(self.footer.raw_bytes)).unwrap_or(&raw));
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
            step(chunk.end() - chunk.at)?;
        }
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
