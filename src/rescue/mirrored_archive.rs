//! Owns the archive of a backup. In the original or in the copy, neighbours may have become one
//! file. So what counts is which commands a file holds, and not how it is named or packed. Knows
//! nothing of the journal.

use std::path::Path;

use super::mirror::{Mirror, check_whole};
use crate::error::Error;
use crate::files::{ARCHIVE_MAGIC, PackedFile, archive_path, list_archives};
use crate::journal::chain_before;

impl Mirror<'_> {
    /// Copies an archive, unless the copy has its commands. Files of the copy that held some of
    /// these before are removed.
    pub(super) fn copy_archive(
        &mut self,
        from: &Path,
        step: &mut dyn FnMut(u64),
    ) -> Result<(), Error> {
        let original = PackedFile::open_beside_others(&**self.source, from, ARCHIVE_MAGIC)?;
        let (first, footer) = (original.header.sequence, &original.footer);
        if self.has_commands(first, (footer.sequence, footer.chain))? {
            return Ok(());
        }
        self.copy_packed(from, "archive", ARCHIVE_MAGIC, step)?;
        self.remove_merged(first, footer.sequence)
    }

    /// Returns whether one file of the copy holds the commands from `first` to `last`, behind which
    /// the chain value is `chain`.
    fn has_commands(&self, first: u64, (last, chain): (u64, u32)) -> Result<bool, Error> {
        let (disk, archive) = (&**self.storage, &self.directory.archive);
        let listed = list_archives(disk, archive)?;
        let Some(&holding) = listed.iter().rev().find(|&&it| it <= first) else {
            return Ok(false);
        };
        // A damaged file of the copy is replaced, if it is of the same commands.
        let found = chain_before(disk, archive, holding, last.saturating_add(1));
        if !matches!(found, Ok(Some(found)) if found == chain) {
            return Ok(false);
        }
        if !self.is_first() {
            return Ok(true);
        }
        // What an interrupted first backup has left may not have been read back.
        let path = archive_path(archive, holding);
        let file = PackedFile::open_beside_others(disk, &path, ARCHIVE_MAGIC)?;
        Ok(check_whole(&file).is_ok())
    }

    /// Removes the files of the copy whose commands are in its archive from `first` to `last`, too.
    fn remove_merged(&self, first: u64, last: u64) -> Result<(), Error> {
        let (disk, archive) = (&**self.storage, &self.directory.archive);
        let is_behind = |it: &u64| (first.saturating_add(1)..=last).contains(it);
        // In this order, a reader finds every command at each moment.
        for other in list_archives(disk, archive)?.into_iter().filter(is_behind) {
            let path = archive_path(archive, other);
            let file = PackedFile::open_beside_others(disk, &path, ARCHIVE_MAGIC)?;
            let end = (file.footer.sequence, file.footer.chain);
            if end.0 > last {
                break; // it has commands that the other one does not have
            }
            let found = chain_before(disk, archive, first, end.0.saturating_add(1))?;
            if found != Some(end.1) {
                let reason = format!(
                    "its archive {} ends with sequence {} as the original does not",
                    path.display(),
                    end.0
                );
                let path = self.directory.root.clone();
                return Err(Error::OtherHistory { path, reason });
            }
            disk.remove(&path).map_err(Error::io("remove", &path))?;
            disk.sync_directory(archive).map_err(Error::io("sync directory", archive))?;
        }
        Ok(())
    }
}
