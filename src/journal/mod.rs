//! Owns the journal: segments of checksummed frames, which one appender writes and an open reads
//! back. Moves bytes; never knows the model's type.
//!
//! - `record`: one command inside a frame
//! - `frame`: the bytes of one group-commit batch
//! - `segment`: one file: its name, its header and its creation
//! - `prepare`: makes zero-filled files ahead of need, on a thread of its own
//! - `begin`: how a run begins its first segment
//! - `append`: writes frames and syncs them
//! - `rotate`: begins, changes and closes segments
//! - `sync_gate`: allows one sync at a time, and none after a failed one
//! - `cursor`: decides which bytes are the next frame of a file
//! - `ending`: decides what the end of a segment is
//! - `scan`: reads a segment to its end
//! - `opened_segment`: a segment that is read by position
//! - `stream`: reads the frames of a segment or an archive beside the appender
//! - `stream_end`: what stands behind the last frame that such a reader can verify
//! - `hop`: goes to a frame of a segment by the headers of those before it
//! - `tail`: follows a segment that somebody may be writing to
//! - `frame_index`: where the reader of an archive may begin
//! - `archive`: packs a segment that is no longer needed for recovery
//! - `merge`: packs archives that follow each other into one

mod append;
mod archive;
mod begin;
mod cursor;
mod ending;
mod frame;
mod frame_index;
mod hop;
mod merge;
mod opened_segment;
mod prepare;
mod record;
mod rotate;
mod scan;
mod segment;
mod stream;
mod stream_end;
mod sync_gate;
mod tail;

pub(crate) use append::{Journal, JournalOptions, first_segment_bytes};
pub(crate) use archive::archive_segment;
pub(crate) use begin::Beginning;
pub(crate) use ending::Ending;
pub(crate) use frame::{FrameBuffer, FrameHeader, FrameRef, LARGEST_PAYLOAD_BYTES};
pub(crate) use merge::{ArchiveMerge, chain_before};
pub(crate) use prepare::Prepared;
pub(crate) use record::{RECORD_HEADER_BYTES, Record, RecordHeader, Records, record_parts, tag_of};
pub(crate) use scan::{Segment, SegmentScan};
pub(crate) use segment::{
    FRAMES_BEGIN_AT_LEAST_BYTES, NewSegment, SegmentIdentity, SegmentStart, publish_segment,
    random_bytes,
};
pub(crate) use stream::{Bookmark, FrameStream, StreamedFile};
pub(crate) use stream_end::Skipped;
pub(crate) use tail::SegmentTail;
