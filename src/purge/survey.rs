//! Owns whether everything inside a database is known: what a purge cannot read it can neither
//! rewrite nor leave. Changes nothing.

use std::path::Path;

use crate::error::Error;
use crate::storage::{EntryKind, Storage, TEMPORARY_PREFIX, TEMPORARY_SUFFIX};

use crate::directory::Directory;

/// That in the directories inside there is nothing but what this crate puts there, and in the root
/// no half-made backup. What else stands in the root is its owner's.
pub(super) fn check(storage: &dyn Storage, directory: &Directory) -> Result<(), Error> {
    for (inner, suffixes) in [
        (&directory.journal, &["journal"] as &[&str]),
        (&directory.snapshots, &["snapshot"]),
        (&directory.archive, &["archive", "snapshot"]),
        (&directory.purges, &["purge"]),
    ] {
        for name in names(storage, inner)? {
            let path = inner.join(&name);
            if !(is_ours(&name, suffixes) || is_temporary(&name)) || !is_file(storage, &path)? {
                return Err(Error::UnknownFile { path });
            }
        }
    }
    for name in names(storage, &directory.root)? {
        let path = directory.root.join(&name);
        if is_temporary(&name) && !is_file(storage, &path)? {
            return Err(Error::UnknownFile { path });
        }
    }
    Ok(())
}

fn names(storage: &dyn Storage, directory: &Path) -> Result<Vec<String>, Error> {
    match storage.kind(directory).map_err(Error::io("examine", directory))? {
        None => Ok(Vec::new()),
        Some(_) => storage.list(directory).map_err(Error::io("list", directory)),
    }
}

fn is_file(storage: &dyn Storage, path: &Path) -> Result<bool, Error> {
    let kind = storage.kind(path).map_err(Error::io("examine", path))?;
    Ok(kind == Some(EntryKind::File))
}

fn is_ours(name: &str, suffixes: &[&str]) -> bool {
    name.split_once('.').is_some_and(|(digits, suffix)| {
        digits.len() == 20
            && digits.bytes().all(|byte| byte.is_ascii_digit())
            && suffixes.contains(&suffix)
    })
}

fn is_temporary(name: &str) -> bool {
    name.starts_with(TEMPORARY_PREFIX) && name.ends_with(TEMPORARY_SUFFIX)
}
