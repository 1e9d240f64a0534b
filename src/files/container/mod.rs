//! Owns packed files: a header, compressed and checksummed chunks, and a footer with a digest.
//! Snapshots and archived segments are packed files. Knows nothing of what is packed.
//!
//! There are two layouts. In that of today each chunk is compressed alone, and an index says where
//! it is, so that a reader can begin anywhere, and several threads can unpack and decode. In the
//! files of early versions the content is one compressed stream, which is cut into chunks.
//!
//! - `format`: chunks of a stream, and the footer
//! - `index`: chunks that are packed one by one
//! - `packer`: compresses such chunks
//! - `write`: writes into a new file, publishes it and reads it back
//! - `read`: verifies what a file states
//! - `check`: verifies all of it, beyond the first damage
//! - `appendix`: reads what is behind the content, without the content
//! - `content`: reads chunks that are packed one by one
//! - `source`: reads all of a content in its order
//! - `stream`: writes streams, for tests

mod appendix;
mod check;
mod content;
mod format;
mod index;
mod packer;
mod read;
mod source;
#[cfg(test)]
mod stream;
#[cfg(test)]
mod tests;
mod write;

pub(crate) use check::DamagedPart;
pub(crate) use format::{CHUNK_BYTES, Footer};
pub(crate) use index::FooterDigest;
pub(crate) use read::PackedFile;
#[cfg(test)]
pub(crate) use stream::write_packed;
pub(crate) use write::{Cuts, Packing, WriteFailure, write_chunks};
