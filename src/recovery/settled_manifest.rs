//! Owns reading the MANIFEST while another process may create the database, purge it, or back
//! another one up into it. Knows nothing
//! of the files that it names.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::error::Error;
use crate::files::{Directory, MANIFEST_NAME, Manifest, ManifestFile, State};
use crate::storage::{EntryKind, Storage};

/// How often the MANIFEST is read again while a database is being created, or its
/// directories are exchanged by a purge or a backup.
const MOST_WAITS: u32 = 50;
/// The pause before that.
const PAUSE: Duration = Duration::from_millis(10);

/// Why there is no MANIFEST in the directory of a first backup that is not finished.
pub(super) const UNFINISHED_BACKUP: &str =
    "a backup into this directory was interrupted. Repeat it: it goes on where it was";

/// Reads the MANIFEST of the database in the directory `root`. It waits, with a bound, while the
/// database is being created, or its directories are exchanged by a purge or a backup.
pub(crate) fn settled_manifest(storage: &Arc<dyn Storage>, root: &Path) -> Result<Manifest, Error> {
    for _ in 0..MOST_WAITS {
        let manifest = ManifestFile::read(storage, root)?.map(|file| file.current().clone());
        match manifest {
            Some(Manifest { state: State::Creating | State::Swapping, .. }) => {
                std::thread::sleep(PAUSE);
            }
            Some(manifest) => return Ok(manifest),
            None => return Err(missing(&**storage, root)?),
        }
    }
    let manifest = ManifestFile::read(storage, root)?.map(|file| file.current().clone());
    match manifest.as_ref().map(|manifest| manifest.state) {
        Some(State::Swapping) => Err(Error::PurgeUnfinished { path: root.to_path_buf() }),
        Some(State::Creating) => Err(no_database(
            root,
            "the creation of the database was not finished, and no command was accepted; the next \
             open begins again",
        )),
        _ => manifest.ok_or(missing(&**storage, root)?),
    }
}

/// Makes the error for a directory without a MANIFEST.
fn missing(storage: &dyn Storage, root: &Path) -> Result<Error, Error> {
    match storage.kind(root).map_err(Error::io("examine", root))? {
        Some(EntryKind::Directory) => {}
        Some(_) => return Ok(Error::NotADirectory { path: root.to_path_buf() }),
        None => return Ok(no_database(root, "nothing stands at this path")),
    }
    let directory = Directory::at(root);
    if directory.is_unfinished_backup(storage)? {
        return Ok(no_database(root, UNFINISHED_BACKUP));
    }
    Ok(no_database(
        root,
        match directory.holds_files_of_ours(storage)? {
            true => {
                "there are journal segments or snapshots, and this file states which of them must \
                 exist. The directory may be a half-finished copy: copy it again"
            }
            false => "there is no database in this directory",
        },
    ))
}

fn no_database(root: &Path, reason: &str) -> Error {
    Error::Missing { path: root.join(MANIFEST_NAME), reason: reason.to_owned() }
}
