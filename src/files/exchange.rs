//! Owns exchanging the directories inside a database for new ones, all or none, whatever crashes in
//! between. Knows nothing of what stands in them, nor why they are exchanged.
//!
//! The new ones are made beside the old ones as `NAME.purging`. From the MANIFEST that says
//! `Swapping` on they count, and whoever comes next goes on: `NAME` becomes `NAME.purged`,
//! `NAME.purging` becomes `NAME`, and `NAME.purged` is removed. Which of them exist says how far it
//! came. Names change inside one directory only: a file system that tears a move between two
//! directories may lose what was moved.

use std::path::{Path, PathBuf};

use super::directory::{Directory, exists};
use super::manifest::{Manifest, ManifestFile, State};
use crate::files::StoreError;
use crate::storage::Storage;

/// One directory in its three places.
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

/// Makes empty directories to take the places of those that stand there, and one for the records
/// of purges. What an earlier attempt left is removed.
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

/// Has the directories exchanged, in such a way that a crash anywhere leaves the old ones or the new
/// ones. `new` makes the MANIFEST that is right for the new ones out of the one for the old ones.
pub(crate) fn exchange(
    storage: &dyn Storage,
    directory: &Directory,
    manifest: &mut ManifestFile,
    new: impl FnOnce(&mut Manifest),
) -> Result<(), StoreError> {
    let old = manifest.current().clone();
    manifest.update(|manifest| {
        new(manifest);
        manifest.state = State::Swapping;
    })?;
    if let Err(error) = take_places(storage, directory) {
        // What cannot be renamed now may never be, and then nobody could open the database.
        if give_back_places(storage, directory).is_ok()
            && manifest.update(|manifest| *manifest = old).is_ok()
        {
            remove_leftovers(storage, directory).ok(); // otherwise the next open does
        }
        return Err(error); // the first one is the one to tell
    }
    clear_up(storage, directory, manifest)
}

/// Exchanges the directories, as a MANIFEST says that must be done, and makes it say clean. May be
/// interrupted anywhere and done again.
pub(crate) fn finish(
    storage: &dyn Storage,
    directory: &Directory,
    manifest: &mut ManifestFile,
) -> Result<(), StoreError> {
    take_places(storage, directory)?;
    clear_up(storage, directory, manifest)
}

/// The new directories take the places of the old ones, which stay beside them.
fn take_places(storage: &dyn Storage, directory: &Directory) -> Result<(), StoreError> {
    // A killed process may have left that MANIFEST in the page cache alone: a power cut must not
    // bring the one before back once names have changed.
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

/// Undoes what [`take_places`] did, wherever it ended.
fn give_back_places(storage: &dyn Storage, directory: &Directory) -> Result<(), StoreError> {
    for Exchanged { live, staged, doomed } in exchanged(directory) {
        // Each that stands there was staged.
        if exists(storage, &live)? && !exists(storage, &staged)? {
            rename(storage, &live, &staged)?;
        }
        if exists(storage, &doomed)? {
            rename(storage, &doomed, &live)?;
        }
    }
    Ok(())
}

fn rename(storage: &dyn Storage, from: &Path, to: &Path) -> Result<(), StoreError> {
    storage.rename(from, to).map_err(StoreError::io("rename", from))?;
    sync(storage, from.parent().unwrap_or(from))
}

/// Removes the old directories: as many as can be, since what must be forgotten stands in them.
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

/// Removes what an exchange left that never came to its MANIFEST.
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
    // Where a link leads elsewhere, nobody else does that.
    sync(storage, path)?;
    storage.remove_directory(path).map_err(StoreError::io("remove directory", path))
}

fn sync(storage: &dyn Storage, directory: &Path) -> Result<(), StoreError> {
    storage.sync_directory(directory).map_err(StoreError::io("sync directory", directory))
}
