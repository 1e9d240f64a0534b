//! Owns the migration of a snapshot that another version of the model wrote. Knows nothing of
//! files.

use std::rc::Rc;

use serde::de::DeserializeOwned;

use crate::codec::{self, Blocks, Decoding};

/// The content of a snapshot that another version of the model wrote; see
/// [`Model::migrate`](crate::Model::migrate).
pub struct SnapshotReader<'a> {
    blocks: Blocks<'a>,
    raw_bytes: u64,
    /// Where the parts of large collections are.
    decoding: Rc<Decoding>,
}

impl<'a> SnapshotReader<'a> {
    pub(crate) fn new(blocks: Blocks<'a>, raw_bytes: u64, decoding: Rc<Decoding>) -> Self {
        Self { blocks, raw_bytes, decoding }
    }

    pub(crate) fn into_blocks(self) -> Blocks<'a> {
        self.blocks
    }

    /// Adds to `decoded` what is wrong if a snapshot of changes was decoded as other types.
    pub(crate) fn checked<T>(
        &self,
        decoded: Result<T, MigrationError>,
    ) -> Result<T, MigrationError> {
        let reason = self.decoding.check_end().err();
        match (decoded, reason) {
            (Ok(_), Some(reason)) => Err(MigrationError::Failed(reason)),
            (Err(MigrationError::Failed(error)), Some(reason)) => {
                Err(MigrationError::Failed(format!("{error}. It may be that {reason}")))
            }
            (decoded, _) => decoded,
        }
    }

    /// Decodes the snapshot as a model of type `T`, the shape it was written with.
    ///
    /// # Errors
    /// [`MigrationError::Failed`] if the bytes cannot be decoded as a `T`.
    pub fn decode<T: DeserializeOwned>(&mut self) -> Result<T, MigrationError> {
        codec::decode_in_parts(&mut self.blocks, self.raw_bytes, &self.decoding)
            .map_err(MigrationError::Failed)
    }
}

impl std::fmt::Debug for SnapshotReader<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SnapshotReader").field("raw_bytes", &self.raw_bytes).finish_non_exhaustive()
    }
}

/// Why a snapshot of another version could not be converted into a model.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MigrationError {
    /// This program cannot convert snapshots of that version.
    #[error("this program cannot convert that version of the model: add it to Model::migrate")]
    Unsupported,
    /// The conversion failed. The text is the reason.
    #[error("{0}")]
    Failed(String),
}
