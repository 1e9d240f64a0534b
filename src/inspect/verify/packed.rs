//! Owns the verification of snapshots, and of what all packed files have in common. Knows nothing
//! of commands.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::finding::Finding;
use super::{Check, if_there};
use crate::engine::read_section;
use crate::error::Error;
use crate::files::{
    DamagedPart, Directory, PackedFile, SNAPSHOT_MAGIC, StoreError, list_snapshots, snapshot_path,
};
use crate::options::RequestLimits;
use crate::recovery::KnownChain;
use crate::snapshot::{check, missing_base, with_bases};

const RESTORE: &str = "Restore the file from a backup of this database.";

/// Which role a snapshot has.
struct Role {
    sequence: u64,
    is_listed: bool,
    is_archived: bool,
    /// Whether a listed one rests on it.
    is_base: bool,
    /// The next older snapshot that is listed.
    older: Option<u64>,
}

impl Role {
    /// Says what damage to it means, and what to do.
    fn told(&self) -> (String, &'static str) {
        let sequence = self.sequence;
        if self.is_archived {
            let meaning = format!(
                "No command is lost, and an open does not need it. The history reads a state from \
                 an older snapshot instead of {sequence}, which takes longer."
            );
            return (meaning, RESTORE);
        }
        if !self.is_listed && !self.is_base {
            return (
                "No command is lost, and no open needs this snapshot.".to_owned(),
                "Move the file away.",
            );
        }
        match self.older {
            Some(older) => (
                format!(
                    "No command is lost if the journal is whole: an open uses snapshot {older} and \
                     applies the commands behind it, which takes longer."
                ),
                "Open the database and take a snapshot, or restore the file from a backup.",
            ),
            None => (
                "No older snapshot is listed, so an open fails. The commands in the journal can \
                 still be read."
                    .to_owned(),
                RESTORE,
            ),
        }
    }
}

impl Check<'_> {
    /// Verifies the snapshots in both directories, and looks for those that must exist.
    pub(super) fn snapshots(&mut self) -> Result<(), Error> {
        let storage = self.storage.clone();
        let (current, archive) = (self.directory.snapshots.clone(), self.directory.archive.clone());
        let listed = self.manifest.as_ref().map_or_else(Vec::new, |it| it.snapshots.clone());
        let sequences = if_there(list_snapshots(&*storage, &current))?;
        let bases = self.bases(&current, &listed);
        let wanted: BTreeSet<u64> =
            sequences.iter().chain(&listed).chain(&bases).copied().collect();
        for sequence in wanted {
            let older = listed.iter().rev().find(|&&it| it < sequence).copied();
            let is_listed = listed.contains(&sequence);
            let is_base = bases.contains(&sequence);
            let role = Role { sequence, is_listed, is_archived: false, is_base, older };
            self.snapshot(&snapshot_path(&current, sequence), &role)?;
        }
        for sequence in if_there(list_snapshots(&*storage, &archive))? {
            let (is_listed, is_base, older) = (false, false, None);
            let role = Role { sequence, is_listed, is_archived: true, is_base, older };
            self.snapshot(&snapshot_path(&archive, sequence), &role)?;
        }
        Ok(())
    }

    /// Returns the snapshots on which listed ones rest.
    fn bases(&self, directory: &Path, listed: &[u64]) -> BTreeSet<u64> {
        let mut bases = BTreeSet::new();
        let mut open: Vec<u64> = listed.to_vec();
        while let Some(sequence) = open.pop() {
            let path = snapshot_path(directory, sequence);
            let file = PackedFile::open_beside_others(&*self.storage, &path, SNAPSHOT_MAGIC);
            let Ok(header) = file.map(|file| file.header) else { continue };
            // A base is older, so this ends.
            let is_older = header.base_sequence < sequence && header.sequence == sequence;
            if is_older && bases.insert(header.base_sequence) {
                open.push(header.base_sequence);
            }
        }
        bases
    }

    fn snapshot(&mut self, path: &Path, role: &Role) -> Result<(), Error> {
        let (meaning, advice) = role.told();
        let before = self.findings.count();
        let checked = self.check_snapshot(path, role.sequence, &meaning, advice);
        if checked.is_err() || self.findings.count() > before {
            self.damaged_snapshots.insert(path.to_path_buf());
        }
        let Err(error) = checked else { return Ok(()) };
        let is_needed = role.is_listed || role.is_base;
        if !is_needed && self.is_gone(path) {
            return Ok(());
        }
        let mut error = error;
        if is_needed && matches!(self.storage.kind(path), Ok(None)) {
            if self.is_superseded(role.sequence) {
                self.vanished_files += 1;
                return Ok(());
            }
            let reason = match role.is_listed {
                true => "the MANIFEST lists this snapshot",
                false => "a snapshot of changes rests on it",
            };
            error = Error::Missing { path: path.to_path_buf(), reason: reason.to_owned() };
        }
        self.findings.push(self.finding(&error, path).meaning(meaning, advice));
        Ok(())
    }

    /// Returns whether the MANIFEST lists the snapshot no more, nor one that may rest on it.
    fn is_superseded(&self, sequence: u64) -> bool {
        let now = super::settled_manifest(&self.storage, &self.directory.root);
        now.is_ok_and(|now| {
            Some(&now) != self.manifest.as_ref() && !now.snapshots.contains(&sequence)
        })
    }

    fn check_snapshot(
        &mut self,
        path: &Path,
        sequence: u64,
        meaning: &str,
        advice: &str,
    ) -> Result<(), Error> {
        let storage = self.storage.clone();
        let open = |path: &Path| PackedFile::open_beside_others(&*storage, path, SNAPSHOT_MAGIC);
        let file = check(open(path)?, sequence)?;
        self.files += 1;
        self.check_identity(path, &file.header)?;
        self.known.push(KnownChain {
            sequence,
            chain: file.footer.chain,
            source: path.to_path_buf(),
        });
        if file.header.is_change()
            && let Some((base, found)) = self.broken_base(&file)?
        {
            let expected = format!("a base that is whole: {}", base.display());
            let advice = format!("Restore {} from a backup of this database.", base.display());
            let finding = Finding::new(path, 0..0, &expected, &found);
            self.findings.push(finding.meaning(meaning, advice));
        }
        if self.is_deep() {
            let damaged = self.check_parts(&file)?;
            let is_sound = damaged.is_empty();
            for part in damaged {
                let finding = self.part_finding(&part);
                self.findings.push(finding.meaning(meaning, advice));
            }
            if is_sound {
                check_requests(&file)?;
            }
        }
        Ok(())
    }

    /// Returns the snapshot that is damaged or missing among those on which this one rests, and
    /// what is there. An error is about the snapshot itself.
    fn broken_base(&self, file: &PackedFile) -> Result<Option<(PathBuf, String)>, Error> {
        let Directory { snapshots, archive, .. } = &self.directory;
        let places = |base| [snapshots, archive].map(|place| snapshot_path(place, base));
        let mut known = places(file.header.base_sequence).into_iter();
        if let Some(base) = known.find(|path| self.damaged_snapshots.contains(path)) {
            return Ok(Some((base, "damage in that file".to_owned())));
        }
        let open =
            |path: &Path| PackedFile::open_beside_others(&*self.storage, path, SNAPSHOT_MAGIC);
        let opened = with_bases(check(open(&file.path)?, file.header.sequence)?, |change, base| {
            for path in places(base) {
                match open(&path) {
                    Ok(base) => return Ok(base),
                    Err(error) if !matches!(self.storage.kind(&path), Ok(None)) => {
                        return Err(error.into());
                    }
                    Err(_) => {}
                }
            }
            Err(missing_base(change, &snapshot_path(snapshots, base)))
        });
        match opened {
            Ok(_) => Ok(None),
            Err(Error::Missing { path, .. }) => Ok(Some((path, "no file".to_owned()))),
            Err(Error::Corrupt { path, found, .. }) if path != file.path => Ok(Some((path, found))),
            Err(error) => Err(error),
        }
    }

    /// Unpacks all of a packed file, and returns the damaged parts.
    pub(super) fn check_parts(&mut self, file: &PackedFile) -> Result<Vec<DamagedPart>, Error> {
        let mut damaged = Vec::new();
        let mut step = |bytes| {
            self.step(bytes);
            Ok::<(), StoreError>(())
        };
        file.check_parts(&mut step, &mut |part| damaged.push(part))?;
        Ok(damaged)
    }

    /// Makes a finding of a damaged part.
    pub(super) fn part_finding(&self, part: &DamagedPart) -> Finding {
        let (path, expected, found) = match &part.error {
            StoreError::Corrupt { path, expected, found, .. } => (path, &**expected, found.clone()),
            StoreError::Undecodable { path, reason } => (path, "whole content", reason.clone()),
            StoreError::Io { path, source, .. } => (path, "a whole chunk", source.to_string()),
            other => (&self.directory.root, "a whole chunk", other.to_string()),
        };
        Finding::new(path, part.file_range.clone(), expected, &found)
    }
}

/// Checks the request ids behind the content of a snapshot.
pub(crate) fn check_requests(file: &PackedFile) -> Result<(), Error> {
    let newest = (file.header.sequence, file.header.time_ns);
    file.unpack_appendix(|blocks| {
        read_section(blocks, file.header.appendix_bytes, newest, RequestLimits::of(0))
            .map(drop)
            .map_err(|(expected, found)| file.corrupt_content(expected, found).into())
    })
}
