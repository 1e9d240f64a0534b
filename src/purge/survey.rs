//! Owns the check that a purge can be finished. Every file inside the database must be known,
//! because an unknown file can neither be rewritten nor left there; and the directories must be
//! exchangeable. Changes nothing.

use std::io::{self, ErrorKind};
use std::path::Path;

use crate::error::Error;
use crate::files::{Directory, exists, kind};
use crate::storage::{EntryKind, Storage, is_temporary};

/// Checks that the inner directories contain only files of this crate, and that the root contains
/// no unfinished backup. Other files in the root belong to the user.
pub(super) fn check(storage: &dyn Storage, directory: &Directory) -> Result<(), Error> {
    for (inner, suffixes) in [
        (&directory.journal, &["journal"] as &[&str]),
        (&directory.snapshots, &["snapshot"]),
        (&directory.archive, &["archive", "snapshot"]),
        (&directory.purges, &["purge"]),
    ] {
        if !exists(storage, inner)? {
            continue;
        }
        check_exchange(storage, inner)?;
        // A link is refused: the purge would remove the link, and its target would stay.
        let other = storage.entry_that_is_no_file(inner).map_err(Error::io("list", inner))?;
        if let Some(path) = other {
            return Err(Error::UnknownFile { path });
        }
        for name in storage.list(inner).map_err(Error::io("list", inner))? {
            if !(is_ours(&name, suffixes) || is_temporary(&name)) {
                return Err(Error::UnknownFile { path: inner.join(&name) });
            }
        }
    }
    let root = &directory.root;
    for name in storage.list(root).map_err(Error::io("list", root))? {
        let path = root.join(&name);
        let kind = kind(storage, &path)?;
        if is_temporary(&name) && kind != Some(EntryKind::File) {
            return Err(Error::UnknownFile { path });
        }
    }
    Ok(())
}

/// Checks that a directory can be renamed and that its files can be removed, before anything
/// depends on it.
fn check_exchange(storage: &dyn Storage, inner: &Path) -> Result<(), Error> {
    if storage.is_mount_point(inner).map_err(Error::io("examine", inner))? {
        let reason = "another volume is mounted there, so no other directory can take its place: \
                      mount it elsewhere, and put a symbolic link here";
        return Err(Error::io("exchange", inner)(io::Error::new(
            ErrorKind::CrossesDevices,
            reason,
        )));
    }
    storage.create_temporary(inner).map(drop).map_err(Error::io("change", inner))
}

fn is_ours(name: &str, suffixes: &[&str]) -> bool {
    name.split_once('.').is_some_and(|(digits, suffix)| {
        digits.len() == 20
            && digits.bytes().all(|byte| byte.is_ascii_digit())
            && suffixes.contains(&suffix)
    })
}
