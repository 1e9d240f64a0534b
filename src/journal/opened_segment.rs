//! Owns a segment that is open for reading by position: its header, and where its frames begin.
//! Knows nothing of frames.

use std::path::Path;
use std::sync::Arc;

use super::cursor::FrameCursor;
use super::hop::Place;
use super::segment::{check_length, check_name, check_padding, frames_begin};
use super::stream::StreamedFile;
use crate::files::{FileHeader, SEGMENT_MAGIC, StoreError, position, segment_path};
use crate::storage::{ReadableFile, Storage, read_up_to};

/// A segment that is open. Only its header was verified.
pub(super) struct OpenedSegment {
    pub(super) streamed: Arc<StreamedFile>,
    pub(super) file: Arc<dyn ReadableFile>,
    /// The place of the first frame.
    pub(super) begin: Place,
    header_bytes: usize,
}

impl OpenedSegment {
    /// Opens the segment that begins with `first_sequence`.
    pub(super) fn open(
        storage: &dyn Storage,
        journal_directory: &Path,
        first_sequence: u64,
    ) -> Result<Self, StoreError> {
        let path = segment_path(journal_directory, first_sequence);
        let file = storage.open_to_read(&path).map_err(StoreError::io("read", &path))?;
        let file: Arc<dyn ReadableFile> = file.into();
        let (header, header_bytes) = FileHeader::read(&path, SEGMENT_MAGIC, &*file)?;
        let begin = Place {
            position: position(frames_begin(header_bytes)),
            cursor: FrameCursor::at_start_of(&header),
        };
        let streamed = Arc::new(StreamedFile { path, header, end: None });
        Ok(Self { streamed, file, begin, header_bytes })
    }

    /// Checks the name, the length, and the bytes between the header and the first frame.
    pub(super) fn check(&self, first_sequence: u64) -> Result<(), StoreError> {
        let StreamedFile { path, header, .. } = &*self.streamed;
        check_name(path, header, first_sequence)?;
        check_length(path, header, self.file.length())?;
        let mut padding = vec![0; frames_begin(self.header_bytes) - self.header_bytes];
        read_up_to(&*self.file, &mut padding, position(self.header_bytes))
            .map_err(StoreError::io("read", path))?;
        check_padding(path, self.header_bytes, &padding)
    }
}
