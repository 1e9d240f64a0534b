//! Owns the journal's growing end: writes frames, syncs them, marks an idle end, rotates. The only
//! writer of the journal; knows nothing of commands beyond their count and time.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::frame::{FrameBuffer, frame_bytes};
use super::prepare::SegmentPreparer;
use super::segment::{
    FRAMES_BEGIN_AT_LEAST, NewSegment, OpenSegment, SegmentIdentity, SegmentStart,
};
use crate::error::Error;
use crate::fields::position;
use crate::manifest::ManifestFile;
use crate::room::Room;
use crate::storage::{Storage, StoredFile, write_all_at};

/// The first segment after an open; each rotation doubles it, up to `segment_bytes`. Small at
/// first, because zeros that are never overwritten cost an open and the disk for nothing.
const FIRST_SEGMENT_BYTES: u64 = 256 << 10;

/// The size of the segment that an open begins with.
pub(crate) fn first_segment_bytes(segment_bytes: u64) -> u64 {
    FIRST_SEGMENT_BYTES.min(segment_bytes)
}

/// What the appender needs to know for as long as it lives.
pub(crate) struct JournalOptions {
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) directory: PathBuf,
    pub(crate) identity: SegmentIdentity,
    pub(crate) manifest: Arc<Mutex<ManifestFile>>,
    pub(crate) segment_bytes: u64,
}

/// Lets one sync of the journal run at a time and remembers a failure. The operating system tells
/// of a failed write-back once: were two threads to sync one file, the second would succeed, and
/// vouch for what was lost.
#[derive(Default)]
struct SyncGate {
    failed: Mutex<bool>,
}

impl SyncGate {
    fn sync(&self, file: &dyn StoredFile, path: &Path) -> Result<(), Error> {
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        let result = if *failed {
            Err(std::io::Error::other("an earlier sync failed, and a second proves nothing"))
        } else {
            file.sync_data().or_else(|error| {
                if planted!(RetryFailedSync) { file.sync_data() } else { Err(error) }
            })
        };
        *failed = result.is_err();
        result.map_err(Error::io("sync", path))
    }
}

/// A sync that may run while frames are appended.
pub(crate) struct SyncTarget {
    file: Arc<dyn StoredFile>,
    path: PathBuf,
    gate: Arc<SyncGate>,
    sequence: u64,
}

impl SyncTarget {
    /// Gives the sequence that is durable now.
    pub(crate) fn sync(self) -> Result<u64, Error> {
        self.gate.sync(&*self.file, &self.path)?;
        Ok(self.sequence)
    }
}

/// The appender.
pub(crate) struct Journal {
    options: JournalOptions,
    room: Arc<Room>,
    preparer: SegmentPreparer,
    segment: OpenSegment,
    gate: Arc<SyncGate>,
    mark: FrameBuffer,
    next_sequence: u64,
    chain: u32,
    time_ns: u64,
    /// Everything up to here is known to be synced.
    durable_sequence: u64,
    /// The highest durable sequence that a frame in the journal states.
    vouched_sequence: u64,
    /// Bytes of frames written by this run.
    written_bytes: u64,
}

impl Journal {
    /// Goes on in `segment`, which is published, synced, and holds everything before `start`.
    pub(crate) fn start(
        options: JournalOptions,
        segment: OpenSegment,
        next: SegmentStart,
        vouched_sequence: u64,
    ) -> Result<Self, Error> {
        let preparer = SegmentPreparer::start(options.storage.clone(), options.directory.clone())?;
        Ok(Self {
            options,
            room: Arc::default(),
            preparer,
            segment,
            gate: Arc::default(),
            mark: FrameBuffer::new(),
            next_sequence: next.first_sequence,
            chain: next.chain,
            time_ns: next.time_ns,
            durable_sequence: next.first_sequence - 1,
            vouched_sequence,
            written_bytes: 0,
        })
    }

    /// The sequence of the newest record written.
    pub(crate) fn written_sequence(&self) -> u64 {
        self.next_sequence - 1
    }

    pub(crate) fn durable_sequence(&self) -> u64 {
        self.durable_sequence
    }

    pub(crate) fn chain(&self) -> u32 {
        self.chain
    }

    pub(crate) fn written_bytes(&self) -> u64 {
        self.written_bytes
    }

    /// Writes one batch; `time_ns` is that of its last record. Not durable before a sync. After an
    /// error the journal must not be used any more: what stands on disk is unknown.
    pub(crate) fn append(
        &mut self,
        frame: &mut FrameBuffer,
        count: u32,
        time_ns: u64,
    ) -> Result<(), Error> {
        let needed = position(frame_bytes(frame.payload_length()));
        if self.segment.position + needed > self.segment.prepared_bytes {
            self.rotate(needed)?;
        }
        let (bytes, chain) = frame.seal(
            self.next_sequence,
            count,
            match self.durable_sequence {
                _ if planted!(DurableSequenceStuckAtZero) => 0,
                _ if planted!(DurableSequenceTooHigh) => self.next_sequence - 1,
                durable => durable,
            },
            self.segment.salt,
            self.chain,
        );
        let mut written = write_all_at(&*self.segment.file, bytes, self.segment.position);
        if planted!(AppendAfterTornTail) && written.is_err() {
            self.segment.position += needed;
            written = write_all_at(&*self.segment.file, bytes, self.segment.position);
        }
        written.map_err(Error::io("write", &self.segment.path))?;
        self.segment.position += needed;
        self.written_bytes += needed;
        self.chain = chain;
        self.time_ns = time_ns;
        self.next_sequence += u64::from(count);
        self.vouched_sequence = self.durable_sequence;
        if self.segment.position > self.segment.prepared_bytes / 2 {
            self.preparer.request(self.next_segment_bytes());
        }
        Ok(())
    }

    /// Makes everything written durable.
    pub(crate) fn sync(&mut self) -> Result<(), Error> {
        self.gate.sync(&*self.segment.file, &self.segment.path)?;
        self.durable_sequence = self.written_sequence();
        Ok(())
    }

    /// What a sync outside this borrow needs. Everything in earlier segments was synced when they
    /// were left.
    pub(crate) fn sync_target(&self) -> Option<SyncTarget> {
        let sequence = self.written_sequence();
        (sequence > self.durable_sequence).then(|| SyncTarget {
            file: self.segment.file.clone(),
            path: self.segment.path.clone(),
            gate: self.gate.clone(),
            sequence,
        })
    }

    /// What background work must give up when a segment needs it.
    pub(crate) fn room(&self) -> Arc<Room> {
        self.room.clone()
    }

    /// Ends the preparer's thread; a segment is then made when it is needed.
    pub(crate) fn stop_preparing(&mut self) {
        self.preparer.stop();
    }

    /// Notes that a [`sync_target`](Self::sync_target) was synced.
    pub(crate) fn note_synced(&mut self, sequence: u64) {
        self.durable_sequence = self.durable_sequence.max(sequence);
    }

    /// Whether a mark would say anything new.
    pub(crate) fn needs_mark(&self) -> bool {
        self.vouched_sequence < self.durable_sequence
    }

    /// Appends an unsynced empty frame that vouches for everything durable, so that after a mere
    /// process kill damage to the last batch is told from a torn write. It is checked against the
    /// chain but does not advance it: where a segment ends for the next run does not depend on it.
    pub(crate) fn mark(&mut self) -> Result<(), Error> {
        let needed = position(frame_bytes(0));
        if !self.needs_mark() || self.segment.position + needed > self.segment.prepared_bytes {
            return Ok(());
        }
        self.mark.clear(0);
        let (bytes, _) = self.mark.seal(
            self.next_sequence,
            0,
            if planted!(DurableSequenceStuckAtZero) { 0 } else { self.durable_sequence },
            self.segment.salt,
            self.chain,
        );
        write_all_at(&*self.segment.file, bytes, self.segment.position)
            .map_err(Error::io("write", &self.segment.path))?;
        self.segment.position += needed;
        self.vouched_sequence = self.durable_sequence;
        Ok(())
    }

    /// Leaves the current segment for a new one. The old one is durable before the new one has a
    /// name: a segment's existence vouches for everything before it.
    /// The new one has room for a frame of `needed` bytes.
    fn rotate(&mut self, needed: u64) -> Result<(), Error> {
        if self.written_sequence() > self.durable_sequence && !planted!(NoSyncBeforeRotation) {
            self.sync()?;
        }
        let bytes = self.next_segment_bytes().max(position(FRAMES_BEGIN_AT_LEAST) + needed);
        let prepared = match self.preparer.take(bytes) {
            // What fills the disk may be a snapshot that is being written.
            Err(error) if error.is_disk_full() && self.room.reclaim() => {
                self.preparer.take(bytes)?
            }
            taken => taken?,
        };
        let start = SegmentStart {
            first_sequence: self.next_sequence,
            chain: self.chain,
            time_ns: self.time_ns,
        };
        let JournalOptions { storage, directory, identity, manifest, .. } = &self.options;
        let segment = NewSegment::begin(&**storage, directory, prepared, identity, start)?
            .publish(&**storage)?;
        let (sequence, chain) = (self.durable_sequence, self.chain);
        let update = || {
            manifest.lock().unwrap_or_else(PoisonError::into_inner).update(|manifest| {
                manifest.newest_segment = start.first_sequence;
                manifest.sequence = sequence;
                manifest.chain = chain;
            })
        };
        match update() {
            Err(error) if error.is_disk_full() && self.room.reclaim() => update()?,
            updated => updated?,
        }
        self.segment = segment;
        self.vouched_sequence = self.durable_sequence;
        Ok(())
    }

    fn next_segment_bytes(&self) -> u64 {
        self.segment.prepared_bytes.saturating_mul(2).min(self.options.segment_bytes)
    }
}
