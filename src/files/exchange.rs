//! Owns the exchange of directories inside a database for new ones: all or none, even after a
//! crash. Knows nothing of their content. A purge exchanges all of them, and a backup only that of
//! the journal. The names speak of the purge, for which they were made.
//!
//! The new directories are made beside the old ones as `NAME.purging`. They count once the MANIFEST
//! states `Swapping`; after a crash, the next open finishes the exchange: `NAME` becomes
//! `NAME.purged`, `NAME.purging` becomes `NAME`, and `NAME.purged` is removed. The names that exist
//! show which steps were done. Names change only inside one directory: a file system that tears a
//! move between two directories may lose what was moved.

use std::path::{Path, PathBuf};

use super::directory::{Directory, exists};
use super::manifest::{Manifest, ManifestFile, State};
use crate::files::StoreError;
use crate::storage::Storage;

/// The three paths of one directory.
struct Exchanged {
    live: PathBuf,
    staged: PathBuf,
    doomed: PathBuf,
}

fn exchanged(directory: &Directory) -> [Exchanged; 4] {
    let (staged, doomed) = (directory.staged(), directory.doomed());
    let Directory { journal, snapshots, archive, purges, .. } = directory.clone();
    [
        Exchanged { live: journal, staged: staged.journal, doomed: doomed.journal },
        Exchanged { live: snapshots, staged: staged.snapshots, doomed: doomed.snapshots },
        Exchanged { live: archive, staged: staged.archive, doomed: doomed.archive },
        Exchanged { live: purges, staged: staged.purges, doomed: doomed.purges },
    ]
}

/// Makes empty directories that will replace the existing ones, and one for the records of purges.
/// It removes what an earlier attempt left.
pub(crate) fn stage(storage: &dyn Storage, directory: &Directory) -> Result<Directory, StoreError> {
    remove_leftovers(storage, directory)?;
    for Exchanged { live, staged, .. } in exchanged(directory) {
        if live == directory.purges || exists(storage, &live)? {
            let model = if exists(storage, &live)? { &live } else { &directory.root };
            let made = storage.create_directory_like(&staged, model);
            made.map_err(StoreError::io("create directory", &staged))?;
        }
    }
    sync(storage, &directory.root)?;
    Ok(directory.staged())
}

/// Makes an empty directory that will replace that of the journal. It removes what an earlier
/// attempt left.
pub(crate) fn stage_journal(
    storage: &dyn Storage,
    directory: &Directory,
) -> Result<Directory, StoreError> {
    remove_leftovers(storage, directory)?;
    let staged = directory.staged();
    let made = storage.create_directory_like(&staged.journal, &directory.journal);
    made.map_err(StoreError::io("create directory", &staged.journal))?;
    sync(storage, &directory.root)?;
    Ok(staged)
}

/// Exchanges the staged directories, so that a crash at any point leaves either the old or the new
/// ones.
/// `new` changes the MANIFEST of the old directories into that of the new ones.
pub(crate) fn exchange(
    storage: &dyn Storage,
    directory: &Directory,
    manifest: &mut ManifestFile,
    new: impl FnOnce(&mut Manifest),
) -> Result<(), StoreError> {
    let old = manifest.current().clone();
    let mut taken = Vec::new();
    for it in exchanged(directory) {
        if exists(storage, &it.staged)? {
            taken.push(it);
        }
    }
    manifest.update(|manifest| {
        new(manifest);
        manifest.state = State::Swapping;
    })?;
    if let Err(error) = take_places(storage, directory) {
        // A rename that fails now may always fail, and then nobody could open the database.
        if give_back_places(storage, &taken).is_ok()
            && manifest.update(|manifest| *manifest = old).is_ok()
        {
            remove_leftovers(storage, directory).ok(); // else the next open removes them
        }
        return Err(error); // the caller gets the first error
    }
    clear_up(storage, directory, manifest)
}

/// Finishes an exchange that the MANIFEST states, and then sets the MANIFEST to clean. It may be
/// interrupted at any point and repeated.
pub(crate) fn finish(
    storage: &dyn Storage,
    directory: &Directory,
    manifest: &mut ManifestFile,
) -> Result<(), StoreError> {
    take_places(storage, directory)?;
    clear_up(storage, directory, manifest)
}

/// Puts the new directories in the places of the old ones, which stay beside them.
fn take_places(storage: &dyn Storage, directory: &Directory) -> Result<(), StoreError> {
    // A killed process may have left that MANIFEST only in the page cache. A power cut must not
    // bring the earlier MANIFEST back once names have changed.
    sync(storage, &directory.root)?;
    for Exchanged { live, staged, doomed } in exchanged(directory) {
        if !exists(storage, &staged)? {
            continue;
        }
        if exists(storage, &live)? {
            remove_tree(storage, &doomed)?;
            rename(storage, &live, &doomed)?;
        }
        rename(storage, &staged, &live)?;
    }
    Ok(())
}

/// Undoes what [`take_places`] did with these directories, at whatever step it failed.
fn give_back_places(storage: &dyn Storage, taken: &[Exchanged]) -> Result<(), StoreError> {
    for Exchanged { live, staged, doomed } in taken {
        // It was staged, so without a staged one, the live one is the new one.
        if exists(storage, live)? && !exists(storage, staged)? {
            rename(storage, live, staged)?;
        }
        if exists(storage, doomed)? {
            rename(storage, doomed, live)?;
        }
    }
    Ok(())
}

fn rename(storage: &dyn Storage, from: &Path, to: &Path) -> Result<(), StoreError> {
    storage.rename(from, to).map_err(StoreError::io("rename", from))?;
    sync(storage, from.parent().unwrap_or(from))
}

/// Removes the old directories. It removes as many as it can, because they hold what must be
/// forgotten.
fn clear_up(
    storage: &dyn Storage,
    directory: &Directory,
    manifest: &mut ManifestFile,
) -> Result<(), StoreError> {
    let removed =
        exchanged(directory).map(|Exchanged { doomed, .. }| remove_tree(storage, &doomed));
    removed.into_iter().collect::<Result<Vec<()>, StoreError>>()?;
    sync(storage, &directory.root)?;
    Ok(manifest.update(|manifest| manifest.state = State::Clean)?)
}

/// Removes what an exchange left that did not get as far as its MANIFEST.
pub(crate) fn remove_leftovers(
    storage: &dyn Storage,
    directory: &Directory,
) -> Result<(), StoreError> {
    for Exchanged { staged, doomed, .. } in exchanged(directory) {
        remove_tree(storage, &staged)?;
        remove_tree(storage, &doomed)?;
    }
    Ok(())
}

/// Removes a directory that holds files only, if it is there.
fn remove_tree(storage: &dyn Storage, path: &Path) -> Result<(), StoreError> {
    if !exists(storage, path)? {
        return Ok(());
    }
    for name in storage.list(path).map_err(StoreError::io("list", path))? {
        let file = path.join(name);
        storage.remove(&file).map_err(StoreError::io("remove", &file))?;
    }
    // If the path is a link to a directory elsewhere, nothing else syncs that directory.
    sync(storage, path)?;
    storage.remove_directory(path).map_err(StoreError::io("remove directory", path))
}

fn sync(storage: &dyn Storage, directory: &Path) -> Result<(), StoreError> {
    storage.sync_directory(directory).map_err(StoreError::io("sync directory", directory))
}
