//! Owns packed files: a header, compressed and checksummed chunks, a footer with a digest. Snapshots
//! and archived segments are such files. Knows nothing of what is packed.
//!
//! - `format`: chunks and footer
//! - `write`: stream into a new file, publish it, read it back
//! - `read`: verify a file, then unpack it on a thread of its own

mod format;
mod read;
#[cfg(test)]
mod tests;
mod write;

pub(crate) use read::{Blocks, PackedFile};
pub(crate) use write::{Packing, WriteFailure, write_packed, write_packed_with};
