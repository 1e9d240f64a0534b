//! Owns writing a new database beside everything that is there: under a temporary name, which it
//! loses only when it is whole. So nobody can open a part of it. Knows nothing of its content.

use std::path::Path;

use super::directory::{Directory, kind};
use super::store_error::StoreError;
use crate::storage::{EntryKind, Storage, TEMPORARY_PREFIX, TEMPORARY_SUFFIX};

/// Calls `write` with a new directory, and renames that to `target`, which must be empty or
/// missing. It gets the permissions of the directory `model`, if one is given. If something fails, nothing is at `target`, unless only making its name durable failed.
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
    // The temporary name does not contain the target's name, which may have the largest length of a
    // name.
    let random = storage.random().map_err(StoreError::io("get random bytes for", target))?;
    let tag = xxhash_rust::xxh3::xxh3_64(&random);
    let staging =
        Directory::at(&parent.join(format!("{TEMPORARY_PREFIX}{tag:016x}{TEMPORARY_SUFFIX}")));
    let made = || {
        match model {
            Some(model) => storage
                .create_directory_like(&staging.root, model)
                .map_err(StoreError::io("create directory", &staging.root))?,
            None => staging.create_root(storage)?,
        }
        let result = write(&staging)?;
        storage
            .rename(&staging.root, target)
            .map_err(StoreError::io("rename a new copy to", target))?;
        Directory::at(target).sync_root_names(storage)?;
        Ok(result)
    };
    let result = made();
    if result.is_err() {
        // The caller gets the first error. What cannot be removed keeps a temporary name.
        staging.remove_whole(storage).ok();
    }
    result
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
