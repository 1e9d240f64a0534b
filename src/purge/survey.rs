//! Owns whether a purge can come to its end: that everything inside a database is known, since what
//! cannot be read can neither be rewritten nor left, and that directories can be exchanged. Changes
//! nothing.

use std::io::{self, ErrorKind};
use std::path::Path;

use crate::error::Error;
use crate::files::{Directory, exists, kind};
use crate::storage::{EntryKind, Storage, is_temporary};

/// That in the directories inside there is nothing but what this crate puts there, and in the root
/// no half-made backup. What else stands in the root is its owner's.
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
        // A link would be removed, and not what it leads to.
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

/// That a directory can be renamed, and its files removed: found out before anything depends on
/// it.
fn check_exchange(storage: &dyn Storage, inner: &Path) -> Result<(), Error> {
    if storage.is_mount_point(inner).map_err(Error::io("examine", inner))? {
        let reason = "another volume is mounted there, so another directory cannot take its place: \
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
