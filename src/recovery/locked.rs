//! Locks a directory and reads its MANIFEST. Knows nothing of the files that the MANIFEST names.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::error::Error;
use crate::files::{Directory, MANIFEST_NAME, ManifestFile, State, exchange, exists};
use crate::storage::{Lock, Storage};

/// How long an open that waits for a lock pauses between two tries.
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// What the caller does with the directory.
#[derive(Clone, Copy)]
pub(crate) enum Access {
    /// Reads. A purge or backup that a crash interrupted in its exchange of directories is an
    /// error.
    Read,
    /// Changes it. An exchange of directories that a crash interrupted is finished first.
    Change,
}

/// A locked directory, and the MANIFEST of the database in it.
pub(crate) struct LockedDatabase {
    pub(crate) directory: Directory,
    pub(crate) manifest: ManifestFile,
    pub(crate) lock: Box<dyn Lock>,
}

impl LockedDatabase {
    /// Locks the database in the directory `path`, which must be there.
    pub(crate) fn take(
        storage: &Arc<dyn Storage>,
        path: &Path,
        access: Access,
    ) -> Result<Self, Error> {
        let directory = Directory::at(path);
        let missing = || Error::Missing {
            path: path.join(MANIFEST_NAME),
            reason: "there is no database in this directory".to_owned(),
        };
        if !exists(&**storage, path)? {
            return Err(missing());
        }
        let (lock, manifest) = lock_and_read(storage, &directory, access, Duration::ZERO)?;
        let manifest = manifest
            .filter(|manifest| manifest.current().state != State::Creating)
            .ok_or_else(missing)?;
        Ok(Self { directory, manifest, lock })
    }

    pub(crate) fn unlock(self) -> Result<(), Error> {
        self.lock.unlock().map_err(Error::io("unlock", &self.directory.lock))
    }
}

/// Locks a directory that exists, and reads its MANIFEST; `None` if there is none. While somebody
/// else has the lock, it waits, at most so long.
pub(super) fn lock_and_read(
    storage: &Arc<dyn Storage>,
    directory: &Directory,
    access: Access,
    timeout: Duration,
) -> Result<(Box<dyn Lock>, Option<ManifestFile>), Error> {
    let began = Instant::now();
    let lock = loop {
        let locked = match access {
            Access::Read => storage.lock_to_read(&directory.lock),
            Access::Change => storage.lock(&directory.lock),
        };
        if let Some(lock) = locked.map_err(Error::io("lock", &directory.lock))? {
            break lock;
        }
        let left = timeout.saturating_sub(began.elapsed());
        if left.is_zero() {
            return Err(Error::Locked { path: directory.root.clone() });
        }
        // Nobody tells when the lock of a file is free.
        std::thread::sleep(LOCK_PAUSE.min(left));
    };
    let mut manifest = ManifestFile::read(storage, &directory.root)?;
    if let Some(manifest) = &mut manifest
        && manifest.current().state == State::Swapping
    {
        match access {
            Access::Read => return Err(Error::PurgeUnfinished { path: directory.root.clone() }),
            Access::Change => exchange::finish(&**storage, directory, manifest)?,
        }
    }
    Ok((lock, manifest))
}
