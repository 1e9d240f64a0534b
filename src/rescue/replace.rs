//! Owns the exchange of a database for a new one that stands beside it: the old one keeps all its
//! files, under another name. Knows nothing of their content.

use std::path::{Path, PathBuf};

use super::cannot_be_opened;
use super::places::{check_apart, tidy};
use crate::error::Error;
use crate::files::{Directory, exists};
use crate::inspect::Inspection;
use crate::storage::{Disk, HeldDisk, Lock, Storage, exchange_names};

/// How many names are tried for the old directory.
const MOST_NAMES: u32 = 1000;

/// Gives the directory `new` the name of the directory `path`, and returns the name that the old
/// one has now: `PATH.replaced`, or with a number behind it. Both must be in the same file system.
/// At each moment a whole directory is at `path`: the old one, or the new one.
///
/// # Errors
/// [`Error::Locked`] if a program has the old database open. Those of [`Inspection::open`] if there
/// is no sound database at `new`. [`Error::Io`] if the names cannot be exchanged: then nothing has
/// changed, unless the error says that only the old directory could not get its new name. Then it
/// has the name of the new one.
pub fn replace(path: impl AsRef<Path>, new: impl AsRef<Path>) -> Result<PathBuf, Error> {
    let (path, new) = (tidy(path.as_ref())?, tidy(new.as_ref())?);
    check_apart(&path, &new)?;
    let look = Inspection::open(&new)?;
    if let Some(problem) = &look.open_plan().problem {
        return Err(cannot_be_opened(&new, "a database that can be opened", problem));
    }
    let (lock, new_lock) = (locked(&path)?, locked(&new)?);
    let replaced = exchange(&Disk, &path, &new);
    let unlock = |lock: Box<dyn Lock>| lock.unlock().map_err(Error::io("unlock", &path));
    let unlocked = unlock(lock).and(unlock(new_lock));
    let old = replaced?; // if both have failed, the first error is returned
    unlocked?;
    Ok(old)
}

fn locked(path: &Path) -> Result<Box<dyn Lock>, Error> {
    let lock = Directory::at(path).lock;
    let locked = HeldDisk::default().lock(&lock).map_err(Error::io("lock", &lock))?;
    locked.ok_or_else(|| Error::Locked { path: path.to_path_buf() })
}

fn exchange(storage: &dyn Storage, path: &Path, new: &Path) -> Result<PathBuf, Error> {
    let old = free_name(storage, path)?;
    exchange_names(path, new).map_err(Error::io("exchange names with", new))?;
    sync_above(storage, path)?;
    if new.parent() != path.parent() {
        sync_above(storage, new)?;
    }
    storage.rename(new, &old).map_err(Error::io("rename the old directory from", new))?;
    sync_above(storage, &old)?;
    Ok(old)
}

fn free_name(storage: &dyn Storage, path: &Path) -> Result<PathBuf, Error> {
    for number in 1..=MOST_NAMES {
        let mut name = path.as_os_str().to_owned();
        name.push(".replaced");
        if number > 1 {
            name.push(format!("-{number}"));
        }
        let free = PathBuf::from(name);
        if !exists(storage, &free)? {
            return Ok(free);
        }
    }
    Err(Error::NotEmpty { path: path.to_path_buf() })
}

fn sync_above(storage: &dyn Storage, path: &Path) -> Result<(), Error> {
    let above = match path.parent() {
        Some(above) if above != Path::new("") => above,
        _ => Path::new("."),
    };
    storage.sync_directory(above).map_err(Error::io("sync directory", above))
}
