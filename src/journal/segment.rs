//! Owns one segment file: its name, its header, and its creation (zero-filled, synced, published by
//! rename before its first use). Knows nothing of what frames mean.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::frame::{FrameBuffer, FrameHeader, FrameRef};
use super::prepare::Prepared;
use crate::files::{
    ChangeFailure, DatabaseId, FileHeader, SEGMENT_MAGIC, StoreError, align_up, all_zero, position,
    segment_path,
};
use crate::schema::SchemasDigest;
use crate::storage::{Storage, StoredFile, write_all_at};

/// Where frames begin at the earliest: on a page of their own, so that an append never rewrites the
/// header's page.
pub(crate) const FRAMES_BEGIN_AT_LEAST: usize = 4096;
/// The same as a file length: the smallest length of a segment.
pub(crate) const FRAMES_BEGIN_AT_LEAST_BYTES: u64 = FRAMES_BEGIN_AT_LEAST as u64;

/// What every segment of this run states about the database and the program.
#[derive(Clone, Debug)]
pub(crate) struct SegmentIdentity {
    pub(crate) database: DatabaseId,
    pub(crate) model_name: String,
    pub(crate) model_version: u32,
    pub(crate) commands: Vec<(u16, String)>,
    /// What becomes of the commands' events, as [`Events::code`](crate::Events) says.
    pub(crate) events: u8,
    /// Names the file that says what these commands and events are.
    pub(crate) schemas: SchemasDigest,
}

impl SegmentIdentity {
    /// Returns what the header of a segment, an archive or a snapshot states.
    pub(crate) fn of(header: &FileHeader) -> Self {
        Self {
            database: header.database,
            model_name: header.model_name.clone(),
            model_version: header.model_version,
            commands: header.commands.clone(),
            events: header.events,
            schemas: header.schemas,
        }
    }

    /// Returns where the frames of such a segment begin. Fails when this does not fit into a
    /// header.
    pub(crate) fn frames_begin(&self) -> Result<u64, StoreError> {
        let start = SegmentStart { first_sequence: 0, chain: 0, time_ns: 0 };
        Ok(position(frames_begin(self.header(start, 0, 0)?.len())))
    }

    /// Returns the header of a segment with this identity.
    pub(crate) fn file_header(
        &self,
        start: SegmentStart,
        salt: u64,
        file_bytes: u64,
    ) -> FileHeader {
        FileHeader {
            magic: SEGMENT_MAGIC,
            database: self.database,
            packing: 0,
            model_version: self.model_version,
            sequence: start.first_sequence,
            time_ns: start.time_ns,
            salt,
            file_bytes,
            chain: start.chain,
            model_name: self.model_name.clone(),
            commands: self.commands.clone(),
            events: self.events,
            appendix_bytes: 0,
            base_sequence: start.first_sequence,
            shape: String::new(),
            schemas: self.schemas,
        }
    }

    fn header(
        &self,
        start: SegmentStart,
        salt: u64,
        file_bytes: u64,
    ) -> Result<Vec<u8>, StoreError> {
        let header = self.file_header(start, salt, file_bytes);
        header.encode().ok_or_else(|| StoreError::InvalidOption {
            option: "commands!",
            value: format!("{} commands", self.commands.len()),
            constraint: "the table of tags and names must fit into the file header of 1 MiB"
                .to_owned(),
        })
    }

    /// Returns whether both have the same names and versions.
    pub(crate) fn says_the_same_as(&self, other: &Self) -> bool {
        (&self.model_name, self.model_version, &self.commands)
            == (&other.model_name, other.model_version, &other.commands)
            && (self.events, self.schemas) == (other.events, other.schemas)
    }
}

/// The state of the journal where a new segment begins.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SegmentStart {
    pub(crate) first_sequence: u64,
    pub(crate) chain: u32,
    pub(crate) time_ns: u64,
}

/// Checks that a file's header states the sequence in the file's name.
pub(super) fn check_name(
    path: &Path,
    header: &FileHeader,
    first_sequence: u64,
) -> Result<(), StoreError> {
    if header.sequence == first_sequence {
        return Ok(());
    }
    let expected = format!("first sequence {first_sequence}, as the file's name says");
    Err(StoreError::corrupt(path, 40, expected, header.sequence.to_string()))
}

/// Checks that a segment's file is not shorter than it was when it was published.
pub(super) fn check_length(
    path: &Path,
    header: &FileHeader,
    found_bytes: u64,
) -> Result<(), StoreError> {
    if found_bytes >= header.file_bytes {
        return Ok(());
    }
    let expected = format!("a file of at least {} bytes", header.file_bytes);
    Err(StoreError::corrupt(path, found_bytes, expected, "its end"))
}

/// Checks the bytes between a segment's header and its first frame.
pub(super) fn check_padding(
    path: &Path,
    header_bytes: usize,
    padding: &[u8],
) -> Result<(), StoreError> {
    if all_zero(padding) {
        return Ok(());
    }
    let at = position(header_bytes);
    Err(StoreError::corrupt(path, at, "zeros up to the first frame", "other bytes"))
}

/// Returns the byte position of a segment's first frame.
pub(crate) fn frames_begin(header_bytes: usize) -> usize {
    align_up(header_bytes, FRAMES_BEGIN_AT_LEAST)
}

/// A segment that is being made: it has a header, may get frames, and is then published.
pub(crate) struct NewSegment {
    prepared: Prepared,
    file: Arc<dyn StoredFile>,
    path: PathBuf,
    first_sequence: u64,
    salt: u64,
    position: u64,
}

/// A published segment to which the appender writes.
pub(crate) struct OpenSegment {
    pub(crate) first_sequence: u64,
    pub(crate) file: Arc<dyn StoredFile>,
    pub(crate) path: PathBuf,
    pub(crate) salt: u64,
    /// The position of the next frame.
    pub(crate) position: u64,
    /// The zero-filled length. Frames may go beyond it, and then lengthen the file.
    pub(crate) prepared_bytes: u64,
    /// How many frames the journal has appended.
    pub(crate) frames: u64,
}

impl OpenSegment {
    /// Returns the mean length of a frame so far.
    pub(crate) fn frame_bytes(&self) -> u64 {
        self.position / self.frames.max(1)
    }
}

impl NewSegment {
    pub(crate) fn begin(
        storage: &dyn Storage,
        journal_directory: &Path,
        prepared: Prepared,
        identity: &SegmentIdentity,
        start: SegmentStart,
    ) -> Result<Self, StoreError> {
        let path = segment_path(journal_directory, start.first_sequence);
        let salt = xxhash_rust::xxh3::xxh3_64(&random_bytes(storage, &path)?);
        let header = identity.header(start, salt, prepared.bytes)?;
        let file = prepared.temporary.file();
        write_all_at(&*file, &header, 0).map_err(StoreError::io("write the header of", &path))?;
        let position = position(frames_begin(header.len()));
        let first_sequence = start.first_sequence;
        Ok(Self { prepared, file, path, first_sequence, salt, position })
    }

    /// Appends a frame of another segment before anybody can see the file. The chain covers what
    /// both frames have in common, so its value stays the same. Returns the chain value after the
    /// frame.
    pub(crate) fn push_frame(&mut self, frame: &FrameRef<'_>) -> Result<u32, StoreError> {
        let FrameHeader { first_sequence, count, durable_sequence, .. } = frame.header;
        let mut buffer = FrameBuffer::new();
        buffer.push_payload(frame.payload);
        let chain = frame.chain_before;
        let (bytes, chain) = buffer.seal(first_sequence, count, durable_sequence, self.salt, chain);
        write_all_at(&*self.file, bytes, self.position)
            .map_err(StoreError::io("write", &self.path))?;
        self.position += position(bytes.len());
        Ok(chain)
    }

    /// Appends a commit marker: an empty frame that states that everything before `next_sequence`
    /// is durable. This is true once the file has its name, because it is synced before that.
    pub(crate) fn push_commit_marker(
        &mut self,
        next_sequence: u64,
        chain: u32,
    ) -> Result<(), StoreError> {
        let mut buffer = FrameBuffer::new();
        let (bytes, _) = buffer.seal(next_sequence, 0, next_sequence - 1, self.salt, chain);
        write_all_at(&*self.file, bytes, self.position)
            .map_err(StoreError::io("write", &self.path))?;
        self.position += position(bytes.len());
        Ok(())
    }

    /// Syncs the content, renames the file, and makes the name durable, in this order.
    pub(crate) fn publish(self, storage: &dyn Storage) -> Result<OpenSegment, ChangeFailure> {
        let Self { prepared, file, path, first_sequence, salt, position } = self;
        if !fault!(SegmentNotSynced) {
            let synced = file.sync_all().map_err(StoreError::io("sync", &path));
            synced.map_err(ChangeFailure::before_any_change)?;
        }
        let named = prepared.temporary.publish(&path);
        named
            .map_err(StoreError::io("rename a new segment to", &path))
            .map_err(ChangeFailure::of_a_rename)?;
        let directory = path.parent().unwrap_or(Path::new("."));
        if !fault!(NoDirectorySyncAfterSegment) {
            let synced = storage.sync_directory(directory);
            synced
                .map_err(StoreError::io("sync directory", directory))
                .map_err(ChangeFailure::InDoubt)?;
        }
        let prepared_bytes = prepared.bytes;
        Ok(OpenSegment { first_sequence, file, path, salt, position, prepared_bytes, frames: 0 })
    }
}

/// Makes and publishes a segment that begins with `frames`, copied from another segment.
pub(crate) fn publish_segment<'a, 'b: 'a>(
    storage: &dyn Storage,
    journal_directory: &Path,
    prepared: Prepared,
    identity: &SegmentIdentity,
    start: SegmentStart,
    frames: impl Iterator<Item = &'a FrameRef<'b>>,
) -> Result<OpenSegment, StoreError> {
    let mut segment = NewSegment::begin(storage, journal_directory, prepared, identity, start)?;
    for frame in frames {
        segment.push_frame(frame)?;
    }
    Ok(segment.publish(storage)?)
}

/// Returns random bytes from the operating system. An error names `path`.
pub(crate) fn random_bytes(storage: &dyn Storage, path: &Path) -> Result<[u8; 16], StoreError> {
    storage.random().map_err(StoreError::io("get random bytes for", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vocabulary_that_fits_no_header_makes_no_segment() {
        use crate::storage::Disk;

        let directory = tempfile::tempdir().unwrap();
        let prepared = Prepared::now(&Disk, directory.path(), 64 << 10).unwrap();
        let identity = SegmentIdentity {
            database: DatabaseId([7; 16]),
            model_name: "Bank".to_owned(),
            model_version: 1,
            commands: (0..20).map(|tag| (tag, "x".repeat(60_000))).collect(),
            events: 0,
            schemas: SchemasDigest::default(),
        };
        let start = SegmentStart { first_sequence: 1, chain: 0, time_ns: 0 };
        let none = [].iter();
        let made = publish_segment(&Disk, directory.path(), prepared, &identity, start, none);
        let error = made.err().unwrap();
        assert!(matches!(error, StoreError::InvalidOption { option: "commands!", .. }), "{error}");
        assert!(Disk.list(directory.path()).unwrap().is_empty());
    }
}
