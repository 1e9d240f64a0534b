//! Owns the places of a database's files, and makes its directories. Knows nothing of the files'
//! content.

use std::path::{Path, PathBuf};

use super::manifest::UNFINISHED_BACKUP_NAME;
use super::names::{ARCHIVE_SUFFIX, PURGE_SUFFIX, SEGMENT_SUFFIX, SNAPSHOT_SUFFIX};
use crate::files::{FollowerDirectory, StoreError};
use crate::storage::{EntryKind, Storage, is_temporary};

/// Makes a path absolute, so that it stays right after a change of the working directory. It does
/// not follow links.
pub(crate) fn absolute(path: &Path) -> Result<PathBuf, StoreError> {
    if fault!(PathStaysRelative) {
        return Ok(path.to_path_buf());
    }
    std::path::absolute(path).map_err(StoreError::io("find the working directory for", path))
}

/// The paths of everything that belongs to one database.
#[derive(Clone, Debug)]
pub(crate) struct Directory {
    pub(crate) root: PathBuf,
    pub(crate) lock: PathBuf,
    pub(crate) journal: PathBuf,
    pub(crate) snapshots: PathBuf,
    /// It exists only after something was archived.
    pub(crate) archive: PathBuf,
    /// It exists only after something was purged.
    pub(crate) purges: PathBuf,
    /// What is in the files. A purge does not replace it.
    pub(crate) schemas: PathBuf,
}

impl Directory {
    pub(crate) fn at(root: &Path) -> Self {
        Self::named(root, "")
    }

    /// Returns the paths for new directories that will replace these.
    pub(crate) fn staged(&self) -> Self {
        Self::named(&self.root, ".purging")
    }

    /// Returns the paths to which these directories move once others have replaced them.
    pub(crate) fn doomed(&self) -> Self {
        Self::named(&self.root, ".purged")
    }

    fn named(root: &Path, suffix: &str) -> Self {
        let inner = |name: &str| root.join(format!("{name}{suffix}"));
        Self {
            root: root.to_path_buf(),
            lock: root.join("LOCK"),
            journal: inner("journal"),
            snapshots: inner("snapshots"),
            archive: inner("archive"),
            purges: inner("purges"),
            schemas: root.join("schemas"),
        }
    }

    /// Creates the root, with its parents, if nothing stands there.
    pub(crate) fn create_root(&self, storage: &dyn Storage) -> Result<(), StoreError> {
        create(storage, &self.root)
    }

    /// Makes the name of the root and the names above it durable. An opener that created them may
    /// have been killed before it synced them.
    pub(crate) fn sync_root_names(&self, storage: &dyn Storage) -> Result<(), StoreError> {
        for above in self.root.ancestors().skip(1) {
            let above = if above == Path::new("") { Path::new(".") } else { above };
            match storage.sync_directory(above) {
                // This user did not create a directory that it may not read, or that is read-only.
                Err(error) if not_ours(&error) => break,
                result => result.map_err(StoreError::io("sync directory", above))?,
            }
        }
        Ok(())
    }

    /// Creates the directories inside.
    pub(crate) fn create_inner(&self, storage: &dyn Storage) -> Result<(), StoreError> {
        create(storage, &self.journal)?;
        create(storage, &self.snapshots)
    }

    pub(crate) fn create_archive(&self, storage: &dyn Storage) -> Result<(), StoreError> {
        create(storage, &self.archive)
    }

    pub(crate) fn create_schemas(&self, storage: &dyn Storage) -> Result<(), StoreError> {
        create(storage, &self.schemas)
    }

    pub(crate) fn create_purges(&self, storage: &dyn Storage) -> Result<(), StoreError> {
        create(storage, &self.purges)
    }

    /// Creates the directory of one durable follower.
    pub(crate) fn create_follower(
        storage: &dyn Storage,
        follower: &FollowerDirectory,
    ) -> Result<(), StoreError> {
        create(storage, &follower.root)
    }

    /// Returns whether a first backup into this directory is not finished.
    pub(crate) fn is_unfinished_backup(&self, storage: &dyn Storage) -> Result<bool, StoreError> {
        exists(storage, &self.root.join(UNFINISHED_BACKUP_NAME))
    }

    /// Returns whether the directory holds a file that only this crate makes.
    pub(crate) fn holds_files_of_ours(&self, storage: &dyn Storage) -> Result<bool, StoreError> {
        for (directory, suffix) in [
            (&self.journal, SEGMENT_SUFFIX),
            (&self.snapshots, SNAPSHOT_SUFFIX),
            (&self.archive, ARCHIVE_SUFFIX),
        ] {
            if kind(storage, directory)?.is_none() {
                continue;
            }
            let names = storage.list(directory).map_err(StoreError::io("list", directory))?;
            if names.iter().any(|name| name.ends_with(suffix)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Returns whether archiving has begun.
    pub(crate) fn has_archive(&self, storage: &dyn Storage) -> Result<bool, StoreError> {
        exists(storage, &self.archive)
    }

    /// Removes temporary files that an earlier process left when it was killed.
    pub(crate) fn remove_stale_temporaries(&self, storage: &dyn Storage) -> Result<(), StoreError> {
        let Self { root, journal, snapshots, archive, schemas, .. } = self;
        for directory in [root, journal, snapshots, archive, schemas] {
            if kind(storage, directory)?.is_none() {
                continue;
            }
            let names = match storage.list(directory).map_err(StoreError::io("list", directory)) {
                // No open needs the schemas.
                Err(error) if directory == schemas && error.is_in_the_way() => continue,
                names => names?,
            };
            for name in names.iter().filter(|name| is_temporary(name)) {
                let path = directory.join(name);
                // A backup into this directory that was killed leaves a directory with such a name.
                // It is not part of this database.
                if kind(storage, &path)? == Some(EntryKind::Directory) {
                    continue;
                }
                match storage.remove(&path) {
                    // Somebody else may have removed the file already.
                    Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                        return Err(StoreError::io("remove stale temporary", &path)(error));
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// Removes everything of an unfinished copy.
    pub(crate) fn remove_whole(&self, storage: &dyn Storage) -> Result<(), StoreError> {
        let Self { journal, snapshots, archive, purges, schemas, root, .. } = self;
        for directory in [journal, snapshots, archive, purges, schemas, root] {
            if kind(storage, directory)?.is_none() {
                continue;
            }
            let mut names = storage.list(directory).map_err(StoreError::io("list", directory))?;
            // A temporary file at its top says that it is unfinished. So that is removed last.
            names.sort_by_key(|name| is_temporary(name));
            for name in names {
                let path = directory.join(name);
                storage.remove(&path).map_err(StoreError::io("remove half-made", &path))?;
            }
            storage
                .remove_directory(directory)
                .map_err(StoreError::io("remove half-made", directory))?;
        }
        Ok(())
    }

    /// Returns a file that proves that the creation of the database was finished; `None` without
    /// one.
    pub(crate) fn beyond_half_made(
        &self,
        storage: &dyn Storage,
    ) -> Result<Option<PathBuf>, StoreError> {
        let is_later_segment = |name: &str| {
            let first =
                name.strip_suffix(SEGMENT_SUFFIX).and_then(|first| first.parse::<u64>().ok());
            first.is_some_and(|first| first > 1)
        };
        for directory in [&self.archive, &self.purges, &self.journal] {
            if kind(storage, directory)?.is_none() {
                continue;
            }
            let names = storage.list(directory).map_err(StoreError::io("list", directory))?;
            let later = names.iter().find(|name| match directory == &self.journal {
                true => is_later_segment(name),
                false => [ARCHIVE_SUFFIX, SNAPSHOT_SUFFIX, PURGE_SUFFIX]
                    .iter()
                    .any(|end| name.ends_with(end)),
            });
            if let Some(name) = later {
                return Ok(Some(directory.join(name)));
            }
        }
        Ok(None)
    }

    /// Removes the files of a database whose creation was not finished.
    pub(crate) fn remove_half_made(&self, storage: &dyn Storage) -> Result<(), StoreError> {
        for (directory, suffix) in
            [(&self.journal, SEGMENT_SUFFIX), (&self.snapshots, SNAPSHOT_SUFFIX)]
        {
            // A power cut may have kept the name of the MANIFEST and lost the name of a directory.
            if kind(storage, directory)?.is_none() {
                continue;
            }
            let names = storage.list(directory).map_err(StoreError::io("list", directory))?;
            for name in names.iter().filter(|name| name.ends_with(suffix)) {
                let path = directory.join(name);
                storage.remove(&path).map_err(StoreError::io("remove half-made", &path))?;
            }
        }
        Ok(())
    }
}

/// Returns whether anything stands at `path`.
pub(crate) fn exists(storage: &dyn Storage, path: &Path) -> Result<bool, StoreError> {
    Ok(kind(storage, path)?.is_some())
}

/// Returns what stands at `path`; `None` when nothing stands there.
pub(crate) fn kind(storage: &dyn Storage, path: &Path) -> Result<Option<EntryKind>, StoreError> {
    storage.kind(path).map_err(StoreError::io("examine", path))
}

/// Makes sure that a directory stands at `path`. It also creates the parents, and syncs each new
/// name.
fn create(storage: &dyn Storage, path: &Path) -> Result<(), StoreError> {
    match kind(storage, path)? {
        Some(EntryKind::Directory) => return Ok(()),
        Some(_) => {
            return Err(StoreError::NotADirectory { path: path.to_path_buf() });
        }
        None => {}
    }
    let parent = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    create(storage, parent)?;
    match storage.create_directory(path) {
        Ok(()) => {}
        // Another opener was faster. The lock decides which of them continues.
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(StoreError::io("create directory", path)(error)),
    }
    storage.sync_directory(parent).map_err(StoreError::io("sync directory", parent))
}

/// Returns whether a sync of a directory failed because the directory is not this user's, or
/// because the file system is read-only, such as squashfs.
fn not_ours(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{InvalidInput, PermissionDenied, ReadOnlyFilesystem, Unsupported};
    matches!(error.kind(), PermissionDenied | InvalidInput | ReadOnlyFilesystem | Unsupported)
}

#[cfg(test)]
#[path = "tests/directory.rs"]
mod tests;
