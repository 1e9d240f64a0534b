//! Owns packed files: a header, compressed and checksummed chunks, and a footer with a digest.
//! Snapshots and archived segments are packed files. Knows nothing of what is packed.
//!
//! - `format`: chunks and footer
//! - `write`: streams into a new file, publishes it and reads it back
//! - `read`: verifies a file, then unpacks it on a thread of its own

mod format;
mod read;
#[cfg(test)]
mod tests;
mod write;

pub(crate) use read::{Blocks, PackedFile};
pub(crate) use write::{Packing, WriteFailure, write_packed, write_packed_with};
