//! Owns the stored files that a verification reads: the snapshot with which it begins, the later
//! ones, and the commands between them. Knows nothing of what is compared otherwise.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::bisect::Parting;
use super::report::{Culprit, Divergence, Evidence, HistoryReport};
use super::{Refusal, digest};
use crate::error::Error;
use crate::files::{PackedFile, SNAPSHOT_MAGIC, exists, position, snapshot_path};
use crate::history::replica::Replica;
use crate::history::source::HistoryFiles;
use crate::history::stored_commands::StoredCommands;
use crate::model::Model;
use crate::recovery::{ChangedTypes, KnownChain};
use crate::snapshot::{OpenFile, check, decode_snapshot};

/// The stored files that a verification reads.
pub(super) struct Verification<'a> {
    pub(super) files: &'a Arc<HistoryFiles>,
    /// Whether a program has the database open.
    is_live: bool,
    /// The snapshot with which replay begins.
    begin: PackedFile,
    /// The later snapshots, oldest first.
    pub(super) snapshots: Vec<(u64, PathBuf)>,
    /// How many snapshots cannot be compared, because the commands behind them are not stored.
    unreachable: u64,
}

impl<'a> Verification<'a> {
    /// Finds the files of a directory that nobody changes.
    pub(super) fn of(files: &'a Arc<HistoryFiles>) -> Result<Self, Error> {
        Self::begin(files, false)
    }

    /// Finds the files of an open database, which may move and remove snapshots meanwhile.
    pub(super) fn beside_writer(files: &'a Arc<HistoryFiles>) -> Result<Self, Error> {
        Self::begin(files, true)
    }

    fn begin(files: &'a Arc<HistoryFiles>, is_live: bool) -> Result<Self, Error> {
        let oldest_command = files.oldest_command()?.unwrap_or(files.newest + 1);
        let mut snapshots = files.snapshots()?;
        let all = snapshots.len();
        snapshots.retain(|(sequence, _)| sequence + 1 >= oldest_command);
        let unreachable = position(all - snapshots.len());
        while !snapshots.is_empty() {
            let (sequence, path) = snapshots.remove(0);
            if let Some(begin) = open_snapshot(files, sequence, &path, is_live)? {
                return Ok(Self { files, is_live, begin, snapshots, unreachable });
            }
        }
        let reason = "the stored commands do not follow any stored snapshot".to_owned();
        Err(Error::Missing { path: files.directory.snapshots.clone(), reason })
    }

    pub(super) fn report(&self) -> HistoryReport {
        let begins = self.begin.footer.sequence;
        HistoryReport {
            begins,
            sequence: begins,
            snapshots_unreachable: self.unreachable,
            ..HistoryReport::default()
        }
    }

    /// Makes a replica that begins with the oldest snapshot.
    pub(super) fn load<M: Model>(&self) -> Result<Replica<M>, Error> {
        let PackedFile { header, footer, .. } = &self.begin;
        ChangedTypes::check_model::<M>(&self.files.schema_files(), &self.begin)?;
        let model = decode_snapshot(&self.begin)?;
        Ok(Replica::new(self.files, model, footer.sequence, header.time_ns))
    }

    /// Whether the replayed model is equal to the stored one; `None` if the snapshot is gone.
    /// `chain` is the chain value of the commands up to the snapshot's sequence; `None` if no batch
    /// ends there. `commands` is the file that holds the last of these commands.
    pub(super) fn is_as_stored<M: Model>(
        &self,
        model: &M,
        (sequence, path): &(u64, PathBuf),
        chain: Option<u32>,
        commands: &Path,
    ) -> Result<Option<bool>, Error> {
        let opened = open_snapshot(self.files, *sequence, path, self.is_live)?;
        let Some(file) = opened else { return Ok(None) };
        let stated = file.footer.chain;
        if chain != Some(stated) {
            let source = path.clone();
            // Not the snapshot but the commands may be of another history: then this is an error
            // that names their file.
            self.files.prove(KnownChain { sequence: *sequence, chain: stated, source })?;
            let expected = match chain {
                Some(chain) => format!("chain {chain:08x} at sequence {sequence}"),
                None => format!("no chain value at sequence {sequence}, where no batch ends"),
            };
            let expected = format!("{expected}, as in {}", commands.display());
            return Err(Error::corrupt(path, 76, expected, format!("{stated:08x}")));
        }
        let replayed = digest(model)?;
        let is_whole = !file.header.is_change();
        if is_whole && file.header.model_version == M::VERSION && file.footer.digest == replayed {
            return Ok(Some(true));
        }
        ChangedTypes::check_model::<M>(&self.files.schema_files(), &file)?;
        Ok(Some(digest(&decode_snapshot::<M>(&file)?)? == replayed))
    }

    /// Opens the commands behind the first snapshot.
    pub(super) fn commands(&self) -> Result<StoredCommands, Error> {
        let PackedFile { footer, path, .. } = &self.begin;
        let (sequence, chain, source) = (footer.sequence, footer.chain, path.clone());
        self.files.commands(sequence + 1, Some(KnownChain { sequence, chain, source }))
    }

    /// Describes a divergence: counts the commands in it, and names the culprit if there is only
    /// one command.
    pub(super) fn divergence(
        &self,
        parting: Parting,
        evidence: Evidence,
    ) -> Result<Divergence, Error> {
        let Parting { after, at } = parting;
        let (mut culprit, mut counts) = (None, BTreeMap::<String, u64>::new());
        if at > after {
            let mut commands = self.files.commands(after + 1, None)?;
            while let Some(command) = commands.next()? {
                *counts.entry(command.name().to_owned()).or_default() += 1;
                if at - after == 1 {
                    culprit = Some(Culprit::of(&command));
                }
                if command.sequence == at {
                    break;
                }
            }
        }
        let commands = counts.into_iter().collect();
        Ok(Divergence { after, at, evidence, culprit, commands })
    }

    pub(super) fn refused(&self, after: u64, refusal: Refusal) -> Result<Divergence, Error> {
        let Refusal { culprit, reason } = refusal;
        let parting = Parting { after, at: culprit.sequence };
        let divergence = self.divergence(parting, Evidence::Refused(reason))?;
        Ok(Divergence { culprit: Some(culprit), ..divergence })
    }
}

/// Opens a snapshot. If `is_live`, it may be in the archive meanwhile, or gone: then this is
/// `None`.
fn open_snapshot(
    files: &HistoryFiles,
    sequence: u64,
    path: &Path,
    is_live: bool,
) -> Result<Option<PackedFile>, Error> {
    // A file that its program may cut must not be mapped.
    let open: OpenFile = match is_live {
        true => PackedFile::open_beside_others,
        false => PackedFile::open,
    };
    let try_open = |path: &Path| {
        let file = check(open(&*files.storage, path, SNAPSHOT_MAGIC)?, sequence)?;
        files.check_identity(&file.path, &file.header)?;
        files.with_bases(file, open)
    };
    let archived = snapshot_path(&files.directory.archive, sequence);
    for path in [path, &archived] {
        match try_open(path) {
            Err(_) if is_live && !exists(&*files.storage, path)? => {}
            opened => return opened.map(Some),
        }
    }
    Ok(None)
}
