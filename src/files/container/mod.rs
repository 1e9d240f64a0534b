//! Owns packed files: a header, compressed and checksummed chunks, and a footer with a digest.
//! Snapshots and archived segments are packed files. Knows nothing of what is packed.
//!
//! There are two layouts. An archived segment is one compressed stream, which is cut into chunks.
//! In a snapshot each chunk is compressed alone, and an index says where it is, so that several
//! threads can unpack and decode it. Snapshots of early versions are streams, too.
//!
//! - `format`: chunks of a stream, and the footer
//! - `index`: chunks that are packed one by one
//! - `packer`: compresses such chunks
//! - `write`: writes into a new file, publishes it and reads it back
//! - `read`: verifies what a file states
//! - `content`: reads chunks that are packed one by one
//! - `source`: reads all of a content in its order

mod content;
mod format;
mod index;
mod packer;
mod read;
mod source;
#[cfg(test)]
mod tests;
mod write;

pub(crate) use index::FooterDigest;
pub(crate) use read::PackedFile;
pub(crate) use write::{Packing, WriteFailure, write_chunks, write_packed};
