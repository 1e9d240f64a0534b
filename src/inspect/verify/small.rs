//! Owns the verification of small files: MANIFEST, the records of purges, and the files of
//! followers. Knows nothing of commands.

use std::collections::BTreeSet;
use std::path::Path;

use super::super::survey::schemas_problem;
use super::finding::Finding;
use super::{Check, paths, region};
use crate::error::Error;
use crate::files::{
    CHECKPOINT_MAGIC, FileHeader, FollowerDirectory, FollowerKind, MANIFEST_NAME, PURGE_SUFFIX,
    PackedFile, Standing, list_followers, list_if_there, list_schemas, numbered_path, position,
    schemas_path,
};
use crate::purge::PurgeRecord;
use crate::recovery::KnownChain;
use crate::storage::Storage;

/// Says that the MANIFEST is damaged or missing.
pub(super) fn manifest_finding(storage: &dyn Storage, root: &Path, error: &Error) -> Finding {
    let path = root.join(MANIFEST_NAME);
    let whole = region(storage, &path, 0);
    let finding = Finding::of(error, &path, |_, at| match at >= whole.end {
        true => at..at, // it is cut
        false => whole.clone(),
    });
    finding.meaning(
        "An open fails: this file says which others must exist, and how the last run ended. The \
         commands in archive and journal can still be read.",
        "Restore the whole directory from a backup. If it is a half-finished copy, copy it again.",
    )
}

impl Check<'_> {
    /// Verifies the schemas, and that those are there which files name.
    pub(super) fn schemas(&mut self) -> Result<(), Error> {
        let storage = self.storage.clone();
        let directory = self.directory.schemas.clone();
        let mut wanted: BTreeSet<_> = list_schemas(&*storage, &directory)?.into_iter().collect();
        for (path, magic) in paths(&*storage, &self.directory)? {
            let file = storage.open_to_read(&path);
            let header = file.ok().and_then(|file| FileHeader::read(&path, magic, &*file).ok());
            wanted.extend(header.map(|(header, _)| header.schemas).filter(|it| !it.is_none()));
        }
        for digest in wanted {
            let path = schemas_path(&directory, digest);
            let Some(problem) = schemas_problem(&*storage, &directory, digest) else {
                self.files += 1;
                continue;
            };
            let whole = region(&*storage, &path, 0);
            let finding = Finding::new(&path, whole, "the schemas that files name", &problem);
            self.findings.push(finding.noted().meaning(
                "No command is lost, and an open needs it not. But tools cannot decode what a \
                 release of the program has stored, and a type that was changed without a new tag \
                 or VERSION is not noticed.",
                "Open the database with that release: it writes the file again. Or restore the \
                 file from a backup.",
            ));
        }
        Ok(())
    }

    /// Verifies the records of purges.
    pub(super) fn purges(&mut self) -> Result<(), Error> {
        let storage = self.storage.clone();
        let directory = self.directory.purges.clone();
        let numbers = list_if_there(&*storage, &directory, PURGE_SUFFIX)?;
        let mut newest = None;
        for (&number, expected) in numbers.iter().zip(1..) {
            let path = numbered_path(&directory, number, PURGE_SUFFIX);
            if number != expected {
                let expected = format!("the record of purge {expected}");
                let found = format!("that of purge {number}");
                self.findings.push(Finding::new(&path, 0..0, &expected, &found).meaning(
                    "The record of an earlier purge is missing. The data is not affected.",
                    "Restore the missing record from a backup.",
                ));
                break;
            }
            match self.purge_record(&path, number) {
                Ok(record) => newest = Some((path, record)),
                Err(error) => {
                    newest = None;
                    let finding = self.finding(&error, &path);
                    self.findings.push(finding.meaning(
                        "What this purge changed is not documented any more. The data is not \
                         affected, but the next purge refuses to copy the record.",
                        "Restore the record from a backup.",
                    ));
                }
            }
        }
        if let Some((source, record)) = newest {
            // The last purge has written the history that is there now.
            let (sequence, chain) = (record.sequence, record.chain_after);
            self.known.push(KnownChain { sequence, chain, source });
        }
        Ok(())
    }

    fn purge_record(&mut self, path: &Path, number: u64) -> Result<PurgeRecord, Error> {
        let bytes = self.storage.read(path).map_err(Error::io("read", path))?;
        self.files += 1;
        self.step(position(bytes.len()));
        let record = PurgeRecord::decode(path, &bytes, number)?;
        self.check_database(path, record.database)?;
        Ok(record)
    }

    fn check_database(&self, path: &Path, found: crate::files::DatabaseId) -> Result<(), Error> {
        match self.database.filter(|expected| *expected != found) {
            Some(expected) => Err(Error::ForeignFile { path: path.to_path_buf(), expected, found }),
            None => Ok(()),
        }
    }

    /// Verifies the files of followers. `newest` is the newest sequence.
    pub(super) fn followers(&mut self, newest: u64) -> Result<(), Error> {
        let storage = self.storage.clone();
        for (kind, name) in list_followers(&*storage, &self.directory)? {
            let own = FollowerDirectory::of(&self.directory, kind, &name);
            let path = own.standing();
            let standing = match own.read(&*storage) {
                Ok(Some(standing)) => standing,
                Ok(None) => continue, // it was removed meanwhile
                Err(error) => {
                    let finding = self.finding(&error.into(), &path);
                    self.findings.push(finding.meaning(
                        format!(
                            "The {kind} `{name}` cannot start, and holds no segments back. The \
                             database itself is not affected."
                        ),
                        "Restore the directory of the follower from a backup, or drop the \
                         follower and begin it anew.",
                    ));
                    continue;
                }
            };
            self.files += 1;
            if let Err(error) = self.standing(&path, kind, &name, &standing, newest) {
                let finding = self.finding(&error, &path);
                self.findings.push(finding.meaning(
                    format!("The {kind} `{name}` does not fit this database, and cannot start."),
                    "Put the directory of the follower back where it came from.",
                ));
            }
            self.checkpoints(&own, kind, &name, &standing)?;
        }
        Ok(())
    }

    fn standing(
        &self,
        path: &Path,
        kind: FollowerKind,
        name: &str,
        standing: &Standing,
        newest: u64,
    ) -> Result<(), Error> {
        self.check_database(path, standing.database)?;
        if (standing.kind, standing.name.as_str()) != (kind, name) {
            let expected = format!("the {kind} `{name}`, as its directory says");
            let found = format!("the {} `{}`", standing.kind, standing.name);
            return Err(Error::corrupt(path, 32, expected, found));
        }
        // Damage in the journal tells the newest sequence wrongly. A running follower is faster.
        let stands_at = standing.current.position;
        let is_dirty =
            self.manifest.as_ref().is_none_or(|it| it.state != crate::files::State::Clean);
        if stands_at > newest && !is_dirty && !self.findings.has_damage() {
            let expected = format!("a position up to {newest}, the newest sequence");
            return Err(Error::corrupt(path, 0, expected, stands_at.to_string()));
        }
        Ok(())
    }

    fn checkpoints(
        &mut self,
        own: &FollowerDirectory,
        kind: FollowerKind,
        name: &str,
        standing: &Standing,
    ) -> Result<(), Error> {
        let builds = std::iter::once(&standing.current).chain(&standing.next);
        for build in builds.filter(|build| build.checkpoint > 0) {
            let path = own.checkpoint(build.checkpoint);
            let told = || {
                let meaning = format!(
                    "The {kind} `{name}` cannot load its value, and must be built anew from the \
                     commands. The database itself is not affected."
                );
                (meaning, "Drop the follower's directory, so that it is built anew.")
            };
            match self.checkpoint(&path, name, build.version, build.position) {
                Ok(file) if self.is_deep() => {
                    for part in self.check_parts(&file)? {
                        let (meaning, advice) = told();
                        let finding = self.part_finding(&part);
                        self.findings.push(finding.meaning(meaning, advice));
                    }
                }
                Ok(_) => {}
                Err(error) => {
                    // A running follower may have replaced both files.
                    let now = own.read(&*self.storage).ok().flatten();
                    if now.is_some_and(|now| now != *standing) {
                        self.vanished_files += 1;
                        continue;
                    }
                    let (meaning, advice) = told();
                    let finding = self.finding(&error, &path);
                    self.findings.push(finding.meaning(meaning, advice));
                }
            }
        }
        Ok(())
    }

    fn checkpoint(
        &mut self,
        path: &Path,
        name: &str,
        version: u32,
        at: u64,
    ) -> Result<PackedFile, Error> {
        let file = PackedFile::open_beside_others(&*self.storage, path, CHECKPOINT_MAGIC)?;
        self.files += 1;
        self.check_database(path, file.header.database)?;
        let found = (&*file.header.model_name, file.header.model_version, file.header.sequence);
        if found != (name, version, at) {
            let expected = format!("the checkpoint of `{name}`, version {version}, position {at}");
            let found = format!("that of `{}`, version {}, position {}", found.0, found.1, found.2);
            return Err(Error::corrupt(path, 40, expected, found));
        }
        Ok(file)
    }
}
