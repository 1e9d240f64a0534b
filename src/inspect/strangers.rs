//! Owns finding what does not belong to the current state of a database: temporary files,
//! leftovers, and what somebody else has put there. Knows nothing of what is in the files.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::found::{OtherFile, OtherKind};
use super::survey::{ListNumbers, Survey};
use crate::error::Error;
use crate::files::{
    Directory, PURGE_SUFFIX, archive_path, list_archives, list_if_there, list_schemas,
    list_segments, list_snapshots, numbered_path, schemas_path, segment_path, snapshot_path,
};
use crate::storage::{EntryKind, is_temporary};

impl Survey<'_> {
    /// Finds everything that does not belong to the current state.
    pub(super) fn others(&self) -> Result<Vec<OtherFile>, Error> {
        let mut found = Vec::new();
        let Directory { root, journal, snapshots, archive, purges, schemas, .. } = self.directory;
        let known =
            ["LOCK", "MANIFEST", "RESERVE", "journal", "snapshots", "archive", "purges", "schemas"];
        let followers = ["projections", "sinks", "reactors"];
        self.strangers(root, &mut found, |path, name| {
            let is_purge = name.ends_with(".purging") || name.ends_with(".purged");
            let is_known = known.iter().chain(&followers).any(|known| *known == name);
            match is_purge {
                true => Some(OtherKind::PurgeLeftover),
                false => (!is_known).then(|| self.stranger(path, name)),
            }
        })?;
        let mut numbered: BTreeSet<PathBuf> = BTreeSet::new();
        let mut name = |directory: &Path, list: ListNumbers, path: fn(&Path, u64) -> PathBuf| {
            let numbers = self.list(directory, list)?;
            numbered.extend(numbers.iter().map(|&number| path(directory, number)));
            Ok::<(), Error>(())
        };
        name(journal, list_segments, segment_path)?;
        name(snapshots, list_snapshots, snapshot_path)?;
        name(archive, list_snapshots, snapshot_path)?;
        name(archive, list_archives, archive_path)?;
        let records = list_if_there(self.storage, purges, PURGE_SUFFIX)?;
        numbered.extend(records.iter().map(|&it| numbered_path(purges, it, PURGE_SUFFIX)));
        let described = list_schemas(self.storage, schemas)?;
        numbered.extend(described.iter().map(|&it| schemas_path(schemas, it)));
        for directory in [journal, snapshots, archive, purges, schemas] {
            self.strangers(directory, &mut found, |path, name| {
                (!numbered.contains(path)).then(|| self.stranger(path, name))
            })?;
        }
        found.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(found)
    }

    fn stranger(&self, path: &Path, name: &str) -> OtherKind {
        let is_directory = matches!(self.storage.kind(path), Ok(Some(EntryKind::Directory)));
        match (is_temporary(name), is_directory) {
            (true, false) => OtherKind::Temporary,
            (true, true) => OtherKind::HalfMadeCopy,
            (false, _) => OtherKind::Unknown,
        }
    }

    fn strangers(
        &self,
        directory: &Path,
        found: &mut Vec<OtherFile>,
        kind: impl Fn(&Path, &str) -> Option<OtherKind>,
    ) -> Result<(), Error> {
        use std::io::ErrorKind::{NotADirectory, NotFound};
        let entries = match self.storage.entries(directory) {
            Ok(entries) => entries,
            Err(error) if matches!(error.kind(), NotFound | NotADirectory) => return Ok(()),
            Err(error) => return Err(Error::io("list", directory)(error)),
        };
        for entry in entries {
            let path = directory.join(&entry.name);
            let Some(kind) = kind(&path, &entry.name.to_string_lossy()) else { continue };
            let file_bytes = match entry.kind {
                EntryKind::Directory => self.bytes_below(&path),
                EntryKind::File | EntryKind::Other => entry.bytes,
            };
            found.push(OtherFile { path, kind, file_bytes });
        }
        Ok(())
    }

    /// Returns the bytes of the files in a directory, and in the directories in it. What cannot be
    /// read counts as nothing.
    pub(super) fn bytes_below(&self, directory: &Path) -> u64 {
        let mut bytes = 0_u64;
        for entry in self.storage.entries(directory).unwrap_or_default() {
            let below = directory.join(&entry.name);
            bytes = bytes.saturating_add(match entry.kind {
                EntryKind::Directory => {
                    let inner = self.storage.entries(&below).unwrap_or_default();
                    inner.iter().map(|entry| entry.bytes).sum()
                }
                EntryKind::File | EntryKind::Other => entry.bytes,
            });
        }
        bytes
    }
}
