//! Owns writing a new database beside everything that is there: under a temporary name, which it
//! loses only when it is whole. So nobody can open a part of it. Knows nothing of its content.
//!
//! While it is written, a file in it is locked. If the process is killed, the lock is gone and the
//! file stays: so whoever writes beside it later can tell that nobody needs it, and removes it. The
//! file is removed only behind the rename. Whoever looks for it then finds nothing under the
//! temporary name, or cannot lock it.

use std::path::Path;

use super::directory::{Directory, kind};
use super::store_error::StoreError;
use crate::storage::{EntryKind, Lock, Storage, TEMPORARY_PREFIX, TEMPORARY_SUFFIX, is_temporary};

/// The file that is locked while a new directory is written. An open of the directory removes it,
/// as every temporary file.
const LOCK_NAME: &str = ".prevalence-copying.tmp";

/// How many temporary names are tried.
const MOST_NAMES: u32 = 8;

/// Calls `write` with a new directory, and renames that to `target`, which must be empty or
/// missing. It gets the permissions of the directory `model`, if one is given. If something fails,
/// nothing is at `target`, unless only making its name durable failed.
///
/// # Errors
/// [`StoreError::NotEmpty`] if something is at `target`. Otherwise the first error.
pub(crate) fn write<R, E: From<StoreError>>(
    storage: &dyn Storage,
    target: &Path,
    model: Option<&Path>,
    write: impl FnOnce(&Directory) -> Result<R, E>,
) -> Result<R, E> {
    require_empty(storage, target)?;
    let parent = match target.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    Directory::at(parent).create_root(storage)?;
    remove_abandoned(storage, parent);
    let (staging, lock) = begin(storage, target, parent, model)?;
    let made = || {
        let result = write(&staging)?;
        storage
            .rename(&staging.root, target)
            .map_err(StoreError::io("rename a new copy to", target))?;
        // An open removes it, too.
        storage.remove(&target.join(LOCK_NAME)).ok();
        Directory::at(target).sync_root_names(storage)?;
        Ok(result)
    };
    let result = made();
    if result.is_err() {
        // The caller gets the first error. What cannot be removed keeps a temporary name.
        staging.remove_whole(storage).ok();
    }
    // The directory has another name now, or is gone: nobody waits for this lock.
    lock.unlock().ok();
    result
}

/// Creates a directory with a temporary name, and locks the file in it.
fn begin(
    storage: &dyn Storage,
    target: &Path,
    parent: &Path,
    model: Option<&Path>,
) -> Result<(Directory, Box<dyn Lock>), StoreError> {
    for _ in 0..MOST_NAMES {
        // The temporary name does not contain the target's name, which may have the largest length
        // of a name.
        let random = storage.random().map_err(StoreError::io("get random bytes for", target))?;
        let tag = xxhash_rust::xxh3::xxh3_64(&random);
        let name = format!("{TEMPORARY_PREFIX}{tag:016x}{TEMPORARY_SUFFIX}");
        let staging = Directory::at(&parent.join(name));
        match model {
            Some(model) => storage
                .create_directory_like(&staging.root, model)
                .map_err(StoreError::io("create directory", &staging.root))?,
            None => staging.create_root(storage)?,
        }
        let path = staging.root.join(LOCK_NAME);
        let locked = storage.lock(&path).map_err(StoreError::io("lock", &path));
        match locked {
            // Somebody may have removed it between its creation and the lock.
            Ok(Some(lock)) if is_lock_there(storage, &path) => return Ok((staging, lock)),
            Ok(_) => {}
            Err(StoreError::Io { source, .. })
                if source.kind() == std::io::ErrorKind::NotFound
                    && !matches!(storage.kind(&staging.root), Ok(Some(_))) => {}
            Err(error) => {
                staging.remove_whole(storage).ok(); // the caller gets the first error
                return Err(error);
            }
        }
    }
    let action = "create a directory beside";
    let source = std::io::Error::other("others remove it again and again");
    Err(StoreError::Io { action, path: target.to_path_buf(), source })
}

fn is_lock_there(storage: &dyn Storage, path: &Path) -> bool {
    matches!(storage.kind(path), Ok(Some(EntryKind::File)))
}

/// Removes new directories in `parent` whose writers were killed. What cannot be examined or
/// removed stays: it is in nobody's way.
pub(crate) fn remove_abandoned(storage: &dyn Storage, parent: &Path) {
    let Ok(names) = storage.list(parent) else { return };
    for name in names.iter().filter(|name| is_temporary(name)) {
        let staging = Directory::at(&parent.join(name));
        let path = staging.root.join(LOCK_NAME);
        // What has no such file was not made here, or is just being made.
        if !is_lock_there(storage, &path) {
            continue;
        }
        let Ok(Some(lock)) = storage.lock(&path) else { continue };
        // It may have got its name before it was locked.
        if is_lock_there(storage, &path) {
            staging.remove_whole(storage).ok();
        }
        lock.unlock().ok();
    }
}

/// Checks that nothing is at `target`, or an empty directory.
pub(crate) fn require_empty(storage: &dyn Storage, target: &Path) -> Result<(), StoreError> {
    let empty = match kind(storage, target)? {
        None => true,
        Some(EntryKind::Directory) => {
            storage.list(target).map_err(StoreError::io("list", target))?.is_empty()
        }
        Some(_) => false,
    };
    if empty { Ok(()) } else { Err(StoreError::NotEmpty { path: target.to_path_buf() }) }
}

#[cfg(test)]
#[path = "tests/beside.rs"]
mod tests;
