//! Owns the thread that zero-fills the next segment ahead of need, off the commit path. Knows
//! nothing of headers or frames.
//!
//! It writes zeros, because a sync that only overwrites written blocks needs no file-system
//! transaction. It writes them in paced pieces, because they compete with commits for the disk.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use crate::files::{Reserve, StoreError};
use crate::storage::{Storage, TemporaryFile, write_all_zeros_at};

/// The piece that is written and synced at once. A commit competes with at most one such piece.
const ZEROS: &[u8] = &[0; 512 << 10];
const PIECE_BYTES: u64 = ZEROS.len() as u64;

/// How many zeros are written by one call. Linux keeps them as one folio of its page cache, and a
/// sync of a few bytes then looks at every block of the folio: a lone commit took 57 µs and not 63
/// after zeros that were written page by page (medians of five). But such zeros take more of the
/// processor, which cost an eighth of the rate of large commits.
const SMALL_WRITE_BYTES: usize = 4 << 10;
/// From this mean length on, frames are large.
const LARGE_FRAME_BYTES: u64 = 32 << 10;

/// A zero-filled, synced file that still has a temporary name.
pub(crate) struct Prepared {
    pub(crate) temporary: Box<dyn TemporaryFile>,
    pub(crate) bytes: u64,
}

impl Prepared {
    /// Makes a file at once, on the calling thread.
    pub(crate) fn now(
        storage: &dyn Storage,
        directory: &Path,
        bytes: u64,
    ) -> Result<Self, StoreError> {
        fill(storage, directory, (bytes, SMALL_WRITE_BYTES), |_| Pace::GoOn)
            .map_err(StoreError::io("prepare a journal segment in", directory))
            .and_then(|prepared| prepared.ok_or_else(|| unreachable_stop(directory)))
    }
}

/// The handle to the thread. It makes one segment at a time.
pub(crate) struct SegmentPreparer {
    storage: Arc<dyn Storage>,
    directory: PathBuf,
    worker: Option<Worker>,
    /// Tells the thread to hurry; `None` without a current request.
    requested: Option<Sender<()>>,
}

struct Worker {
    requests: Sender<Request>,
    ready: Receiver<io::Result<Prepared>>,
    thread: JoinHandle<()>,
}

enum Request {
    Segment(SegmentRequest),
    /// Make the disk space that is kept for a full disk.
    Reserve,
}

struct SegmentRequest {
    bytes: u64,
    /// How many zeros are written by one call.
    write_bytes: usize,
    /// The sender is dropped when nobody wants the segment any more.
    hurry: Receiver<()>,
}

#[derive(Clone, Copy, PartialEq)]
enum Pace {
    GoOn,
    Stop,
}

impl SegmentPreparer {
    pub(crate) fn start(
        storage: Arc<dyn Storage>,
        directory: PathBuf,
        reserve: Arc<Reserve>,
    ) -> Result<Self, StoreError> {
        let (requests, request_inbox) = bounded::<Request>(1);
        let (ready_outbox, ready) = bounded(1);
        let (thread_storage, thread_directory) = (storage.clone(), directory.clone());
        let thread = std::thread::Builder::new()
            .name("prevalence-preparer".to_owned())
            .spawn(move || {
                for request in request_inbox {
                    let Request::Segment(request) = request else {
                        reserve.fill();
                        continue;
                    };
                    let answer = match fill_paced(&*thread_storage, &thread_directory, &request) {
                        Ok(None) => return,
                        Ok(Some(prepared)) => Ok(prepared),
                        Err(error) => Err(error),
                    };
                    if ready_outbox.send(answer).is_err() {
                        return;
                    }
                    // The reserve may have been used, and the disk may have room again.
                    reserve.fill();
                }
            })
            .map_err(StoreError::io("start a thread for", &directory))?;
        let worker = Some(Worker { requests, ready, thread });
        Ok(Self { storage, directory, worker, requested: None })
    }

    /// Requests a segment ahead of need, for frames of about `frame_bytes`. Does nothing after an
    /// earlier request.
    pub(crate) fn request(&mut self, bytes: u64, frame_bytes: u64) {
        if self.requested.is_some() {
            return;
        }
        let Some(worker) = &self.worker else { return };
        let (hurry, hurry_inbox) = bounded(1);
        let is_large = frame_bytes >= LARGE_FRAME_BYTES;
        let write_bytes = if is_large { ZEROS.len() } else { SMALL_WRITE_BYTES };
        let request = SegmentRequest { bytes, write_bytes, hurry: hurry_inbox };
        if worker.requests.try_send(Request::Segment(request)).is_ok() {
            self.requested = Some(hurry);
        }
    }

    /// Requests the reserve. The thread makes it, if it is missing, once it has nothing else to do.
    pub(crate) fn request_reserve(&self) {
        if let Some(worker) = &self.worker {
            // A full channel means that a segment is being made. The thread checks the reserve
            // after that.
            worker.requests.try_send(Request::Reserve).ok();
        }
    }

    /// Returns the requested segment. If it is not ready, the thread finishes it at full speed. If
    /// the thread could not make it, or made it too short, this makes one: the disk may have room
    /// again.
    pub(crate) fn take(&mut self, bytes: u64) -> Result<Prepared, StoreError> {
        let requested = self.requested.take();
        if let (Some(hurry), Some(worker)) = (requested, &self.worker) {
            // The channel has room for this one token. A thread that is done does not need it.
            hurry.try_send(()).ok();
            match worker.ready.recv() {
                Ok(Ok(prepared)) if prepared.bytes >= bytes => return Ok(prepared),
                _ => {}
            }
        }
        Prepared::now(&*self.storage, &self.directory, bytes)
    }
}

impl SegmentPreparer {
    /// Ends the thread, and removes a segment that nobody took.
    pub(crate) fn stop(&mut self) {
        self.requested = None;
        if let Some(Worker { requests, ready, thread }) = self.worker.take() {
            drop((requests, ready));
            // A panic of the thread does not matter any more: no segment is wanted.
            thread.join().ok();
        }
    }
}

impl Drop for SegmentPreparer {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Fills a file at half the disk's speed, until it is told to hurry. Returns `None` when it is told
/// to stop.
fn fill_paced(
    storage: &dyn Storage,
    directory: &Path,
    request: &SegmentRequest,
) -> io::Result<Option<Prepared>> {
    let mut hurried = false;
    fill(storage, directory, (request.bytes, request.write_bytes), |piece_began| {
        if hurried {
            return Pace::GoOn;
        }
        match request.hurry.recv_timeout(piece_began.elapsed()) {
            Ok(()) => hurried = true,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Pace::Stop,
        }
        Pace::GoOn
    })
}

/// Zero-fills and syncs a temporary file, with writes of `write_bytes`. It asks `after_piece`
/// whether to continue.
fn fill(
    storage: &dyn Storage,
    directory: &Path,
    (bytes, write_bytes): (u64, usize),
    mut after_piece: impl FnMut(Instant) -> Pace,
) -> io::Result<Option<Prepared>> {
    let temporary = storage.create_temporary(directory)?;
    let file = temporary.file();
    let mut position = 0;
    while position < bytes {
        let began = Instant::now();
        let length = PIECE_BYTES.min(bytes - position);
        let length = usize::try_from(length).map_err(io::Error::other)?;
        let piece = ZEROS.get(..length).ok_or(io::ErrorKind::InvalidInput)?;
        write_all_zeros_at(&*file, piece, position, write_bytes)?;
        file.sync_data()?;
        position += crate::files::position(length);
        if after_piece(began) == Pace::Stop {
            return Ok(None);
        }
    }
    Ok(Some(Prepared { temporary, bytes }))
}

fn unreachable_stop(directory: &Path) -> StoreError {
    StoreError::io("prepare a journal segment in", directory)(io::ErrorKind::Interrupted.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::Disk;

    #[test]
    fn prepared_segments_are_zeros_and_unpublished_ones_vanish() {
        let directory = tempfile::tempdir().unwrap();
        let storage: Arc<dyn Storage> = Arc::new(Disk);
        let reserve = Arc::new(Reserve::find(storage.clone(), directory.path(), 0));
        let root = directory.path().to_path_buf();
        let mut preparer = SegmentPreparer::start(storage, root, reserve).unwrap();
        let bytes = 3 * PIECE_BYTES + 17;
        preparer.request(bytes, 100);
        preparer.request(bytes, 100);
        let prepared = preparer.take(bytes).unwrap();
        let target = directory.path().join("segment");
        prepared.temporary.publish(&target).unwrap();
        let content = std::fs::read(&target).unwrap();
        assert_eq!(content.len() as u64, bytes);
        assert!(crate::files::all_zero(&content));

        preparer.request(bytes, 100);
        drop(preparer);
        assert_eq!(Disk.list(directory.path()).unwrap(), ["segment"]);
    }
}
