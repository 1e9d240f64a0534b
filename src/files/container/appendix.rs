//! Owns reading the appendix of a packed file without the content before it. Knows nothing of
//! what it means.

use std::io::Read;

use super::read::{Layout, PackedFile};
use super::source::{ChunkSource, ContentReader};
use crate::codec::Blocks;
use crate::files::StoreError;
use crate::storage::Pace;

impl PackedFile {
    /// Returns the appendix behind the content; a stream has none. Its owner must know that it is
    /// small, and must check it.
    pub(crate) fn appendix(&self) -> Result<Vec<u8>, StoreError> {
        let mut appendix = Vec::new();
        if let Layout::Chunks(content) = self.layout() {
            let (begin, end) = (self.footer.raw_bytes, self.scripts_begin());
            ContentReader::new(content.clone(), begin, end).read_to_end(&mut appendix).map_err(
                |error| match error.downcast::<StoreError>() {
                    Ok(error) => error,
                    Err(error) => StoreError::io("read", &self.path)(error),
                },
            )?;
        }
        Ok(appendix)
    }

    /// Unpacks the appendix alone, if the file is not one stream. `take_appendix` must use all of
    /// it, and its owner must check it.
    pub(crate) fn unpack_appendix<R, E: From<StoreError>>(
        &self,
        take_appendix: impl FnOnce(&mut Blocks<'_>) -> Result<R, E>,
    ) -> Result<R, E> {
        let Layout::Chunks(content) = self.layout() else {
            let skip = |blocks: &mut Blocks<'_>| {
                blocks.skip();
                Ok(())
            };
            return self.unpack_with(skip, take_appendix).map(|((), taken)| taken);
        };
        let (raw_bytes, appendix_bytes) = (self.footer.raw_bytes, self.header.appendix_bytes);
        let inner = ChunkSource::new(content.clone(), raw_bytes, appendix_bytes, false);
        let pace = Pace::full();
        let mut blocks = self.paced(inner, &pace, &content.failure);
        blocks.begin_appendix();
        let taken = take_appendix(&mut blocks);
        let taken = taken.and_then(|taken| Ok(self.all_taken(&mut blocks).map(|()| taken)?));
        self.take_failure().map_or(taken, |failure| Err(failure.into()))
    }
}
