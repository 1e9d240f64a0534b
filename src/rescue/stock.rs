//! Owns what of a directory can be read: sound snapshots, sound batches, and what is known of the
//! rest. Changes nothing. Knows nothing of what shall become of it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::pieces::{Piece, Pieces, Reading, Unreadable};
use crate::error::Error;
use crate::files::{
    DatabaseId, Directory, FileHeader, MANIFEST_NAME, Manifest, PackedFile, SEGMENT_MAGIC,
    SEGMENT_SUFFIX, SNAPSHOT_MAGIC, SNAPSHOT_SUFFIX, State, StoreError, checksummed, list_archives,
    list_if_there, list_snapshots, segment_path, snapshot_path,
};
use crate::inspect::check_requests;
use crate::recovery::settled_manifest;
use crate::snapshot::{check, missing_base, with_bases};
use crate::storage::Storage;

/// A snapshot that can be loaded.
#[derive(Clone, Debug)]
pub(super) struct SoundSnapshot {
    pub(super) sequence: u64,
    pub(super) chain: u32,
    pub(super) header: Arc<FileHeader>,
    /// Its own file, and those that it rests on.
    pub(super) paths: Vec<PathBuf>,
    pub(super) is_archived: bool,
}

/// What can be read of one directory.
pub(super) struct Stock {
    pub(super) storage: Arc<dyn Storage>,
    pub(super) directory: Directory,
    pub(super) database: DatabaseId,
    /// `None` if it cannot be read.
    pub(super) manifest: Option<Manifest>,
    /// The newest first.
    pub(super) snapshots: Vec<SoundSnapshot>,
    /// The oldest first.
    pub(super) pieces: Vec<Piece>,
    pub(super) unreadable: Vec<Unreadable>,
    /// The first sequence that a file is there for.
    pub(super) oldest: u64,
    /// The newest sequence of which anything tells.
    pub(super) newest: u64,
    /// Whether there can be no newer one.
    pub(super) is_newest_exact: bool,
    pub(super) torn_bytes: u64,
    pub(super) has_archive: bool,
}

impl Stock {
    /// Reads all of the directory. `step` is told the bytes that were read since its last call.
    ///
    /// # Errors
    /// Those of a look at a directory that holds no database, or one of a newer format.
    pub(super) fn read(
        storage: &Arc<dyn Storage>,
        root: &Path,
        step: &mut dyn FnMut(u64),
    ) -> Result<Self, Error> {
        let directory = Directory::at(root);
        let mut unreadable = Vec::new();
        let manifest = match settled_manifest(storage, root) {
            Ok(manifest) => Some(manifest),
            Err(error) if is_damage(&**storage, &directory, &error)? => {
                let path = root.join(MANIFEST_NAME);
                unreadable.push(Unreadable::of(&path, &error));
                None
            }
            Err(error) => return Err(error),
        };
        let database = match &manifest {
            Some(manifest) => manifest.database,
            None => stated_database(&**storage, &directory)?,
        };
        let mut stock = Self {
            has_archive: directory.has_archive(&**storage)?,
            storage: storage.clone(),
            directory,
            database,
            manifest,
            snapshots: Vec::new(),
            pieces: Vec::new(),
            unreadable,
            oldest: 1,
            newest: 0,
            is_newest_exact: false,
            torn_bytes: 0,
        };
        stock.read_snapshots(step)?;
        stock.read_pieces(step)?;
        Ok(stock)
    }

    fn read_snapshots(&mut self, step: &mut dyn FnMut(u64)) -> Result<(), Error> {
        let mut sound: BTreeMap<PathBuf, Arc<FileHeader>> = BTreeMap::new();
        let mut newest = 0;
        for path in self.snapshot_paths()? {
            match self.check_snapshot(&path, step) {
                Ok(header) => {
                    newest = newest.max(header.sequence);
                    sound.insert(path, header);
                }
                Err(error) => {
                    self.unreadable.push(Unreadable::of(&path, &error));
                }
            }
        }
        let listed = self.manifest.as_ref().map_or(&[][..], |it| &it.snapshots);
        for &sequence in listed {
            let path = snapshot_path(&self.directory.snapshots, sequence);
            newest = newest.max(sequence);
            if !matches!(self.storage.kind(&path), Ok(Some(_))) {
                let reason = "it is missing, but the MANIFEST lists it".to_owned();
                self.unreadable.push(Unreadable { path, reason });
            }
        }
        self.newest = newest;
        for (path, header) in &sound {
            match self.with_bases(path, header, &sound) {
                Ok(snapshot) => self.snapshots.push(snapshot),
                Err(error) => {
                    let problem = self.base_problem(path, header, &sound);
                    let problem = problem.unwrap_or_else(|| Unreadable::of(path, &error));
                    self.unreadable.push(problem);
                }
            }
        }
        // If one is in both places, that in `snapshots/` comes first.
        self.snapshots.sort_by_key(|it| (std::cmp::Reverse(it.sequence), it.is_archived));
        Ok(())
    }

    fn snapshot_paths(&self) -> Result<Vec<PathBuf>, Error> {
        let mut found = Vec::new();
        for directory in [&self.directory.snapshots, &self.directory.archive] {
            if self.storage.kind(directory).map_err(Error::io("examine", directory))?.is_some() {
                let sequences = list_snapshots(&*self.storage, directory)?;
                found.extend(sequences.iter().map(|&it| snapshot_path(directory, it)));
            }
        }
        Ok(found)
    }

    fn open_snapshot(&self, path: &Path) -> Result<PackedFile, Error> {
        let file = PackedFile::open_beside_others(&*self.storage, path, SNAPSHOT_MAGIC)?;
        if file.header.database != self.database {
            let (path, expected, found) = (path.to_path_buf(), self.database, file.header.database);
            return Err(Error::ForeignFile { path, expected, found });
        }
        let expected = snapshot_path(path.parent().unwrap_or(path), file.header.sequence);
        if expected != path {
            let found = file.header.sequence.to_string();
            return Err(Error::corrupt(path, 40, "the sequence in the file's name", found));
        }
        let sequence = file.header.sequence;
        check(file, sequence)
    }

    /// Unpacks all of a snapshot.
    fn check_snapshot(
        &self,
        path: &Path,
        step: &mut dyn FnMut(u64),
    ) -> Result<Arc<FileHeader>, Error> {
        let file = self.open_snapshot(path)?;
        let mut damage = None;
        let mut told = |bytes| {
            step(bytes);
            Ok::<(), StoreError>(())
        };
        file.check_parts(&mut told, &mut |part| {
            damage.get_or_insert(part.error);
        })?;
        match damage {
            Some(error) => Err(error.into()),
            None => {
                check_requests(&file)?;
                Ok(Arc::new(file.header))
            }
        }
    }

    /// Finds the snapshots that one rests on.
    fn with_bases(
        &self,
        path: &Path,
        header: &Arc<FileHeader>,
        sound: &BTreeMap<PathBuf, Arc<FileHeader>>,
    ) -> Result<SoundSnapshot, Error> {
        let mut paths = vec![path.to_path_buf()];
        let Directory { snapshots, archive, .. } = &self.directory;
        with_bases(self.open_snapshot(path)?, |change, sequence| {
            let places = [snapshots, archive].map(|place| snapshot_path(place, sequence));
            let base = places.into_iter().find(|path| sound.contains_key(path));
            let base =
                base.ok_or_else(|| missing_base(change, &snapshot_path(snapshots, sequence)))?;
            let file = self.open_snapshot(&base);
            paths.push(base);
            file
        })?;
        Ok(SoundSnapshot {
            sequence: header.sequence,
            chain: header.chain,
            header: header.clone(),
            paths,
            is_archived: path.parent() == Some(archive),
        })
    }

    /// Says of a snapshot which of those that it rests on is damaged or missing.
    fn base_problem(
        &self,
        path: &Path,
        header: &FileHeader,
        sound: &BTreeMap<PathBuf, Arc<FileHeader>>,
    ) -> Option<Unreadable> {
        let Directory { snapshots, archive, .. } = &self.directory;
        let mut header = header;
        // Each base is older, so this ends.
        while header.is_change() && header.base_sequence < header.sequence {
            let base = header.base_sequence;
            let places = [snapshots, archive].map(|place| snapshot_path(place, base));
            if let Some(base) = places.iter().find_map(|path| sound.get(path)) {
                header = base;
                continue;
            }
            let there = places.iter().find(|path| matches!(self.storage.kind(path), Ok(Some(_))));
            let what = if there.is_some() { "damaged" } else { "missing" };
            let base = there.or(places.first())?.display();
            let reason = format!("it rests on {base}, which is {what}");
            return Some(Unreadable { path: path.to_path_buf(), reason });
        }
        None
    }

    fn read_pieces(&mut self, step: &mut dyn FnMut(u64)) -> Result<(), Error> {
        let marks: BTreeSet<u64> = self.snapshots.iter().map(|it| it.sequence).collect();
        // In this order no commands are missed while segments are archived.
        let segments = segments(&*self.storage, &self.directory)?;
        let archives = list_archives(&*self.storage, &self.directory.archive)?;
        let mut pieces = Pieces::default();
        let durable = self.manifest.as_ref().map_or(0, |it| it.sequence);
        let mut reading = Reading {
            storage: &*self.storage,
            directory: &self.directory,
            database: self.database,
            marks: &marks,
            durable,
            step,
        };
        for &first in &archives {
            pieces.read_archive(&mut reading, first)?;
        }
        for (at, &first) in segments.iter().enumerate() {
            pieces.read_segment(&mut reading, first, segments.get(at + 1).copied());
        }
        if let Some(manifest) = &self.manifest
            && !segments.contains(&manifest.newest_segment)
        {
            let path = segment_path(&self.directory.journal, manifest.newest_segment);
            let reason = "it is missing, but the MANIFEST names it as the newest segment";
            pieces.unreadable.push(Unreadable { path, reason: reason.to_owned() });
            pieces.is_cut = true;
        }
        let Pieces { mut list, unreadable, stated, torn_bytes, is_cut } = pieces;
        list.sort_by_key(|it| (it.first, std::cmp::Reverse(it.last)));
        let last = list.iter().map(|it| it.last).max().unwrap_or(0);
        self.newest = self.newest.max(last).max(stated).max(durable);
        self.oldest = archives.iter().chain(&segments).min().copied().unwrap_or(self.newest + 1);
        let is_closed = self.manifest.as_ref().is_some_and(|it| it.state == State::Clean);
        self.is_newest_exact = is_closed || (!is_cut && self.manifest.is_some());
        (self.pieces, self.torn_bytes) = (list, torn_bytes);
        self.unreadable.extend(unreadable);
        self.check_manifest(last);
        self.check_chains();
        Ok(())
    }

    /// Compares the end of the journal with what the MANIFEST of a closed database states.
    fn check_manifest(&mut self, last: u64) {
        let Some(manifest) = self.manifest.as_ref().filter(|it| it.state == State::Clean) else {
            return;
        };
        let (sequence, chain) = (manifest.sequence, manifest.chain);
        let found = self.pieces.iter().filter_map(|it| it.chain_at(sequence)).collect::<Vec<_>>();
        if last <= sequence && (found.is_empty() || found.contains(&chain)) {
            return;
        }
        let reason = format!(
            "it states that the database was closed at sequence {sequence} and chain \
             {chain:08x}, but the journal goes on to {last}, or is of another history"
        );
        let path = self.directory.root.join(MANIFEST_NAME);
        self.unreadable.push(Unreadable { path, reason });
        self.is_newest_exact = false;
    }

    /// Sets snapshots aside that are of another history than the commands. If that are all, it
    /// cannot be told which of the two is wrong.
    fn check_chains(&mut self) {
        let is_foreign = |snapshot: &SoundSnapshot| {
            let sequence = snapshot.sequence;
            let around = self.pieces.iter().filter(|it| {
                it.chain_at(sequence).is_some()
                    || (it.holds(sequence) && it.holds(sequence.saturating_add(1)))
            });
            let chains: Vec<_> = around.map(|it| it.chain_at(sequence)).collect();
            !chains.is_empty() && !chains.contains(&Some(snapshot.chain))
        };
        let (foreign, own): (Vec<_>, Vec<_>) =
            self.snapshots.iter().cloned().partition(|it| is_foreign(it));
        if own.is_empty() || foreign.is_empty() {
            return;
        }
        for snapshot in foreign {
            let Some(path) = snapshot.paths.first() else { continue };
            let reason = "it is of another history than the commands up to it";
            self.unreadable.push(Unreadable { path: path.clone(), reason: reason.to_owned() });
        }
        self.snapshots = own;
    }

    /// Returns the header of the newest segment or archive that has one.
    pub(super) fn newest_header(&self) -> Option<Arc<FileHeader>> {
        let piece = self.pieces.last().map(|it| it.header.clone());
        let segments = segments(&*self.storage, &self.directory).ok()?;
        let header = segments.iter().rev().find_map(|&first| {
            let path = segment_path(&self.directory.journal, first);
            let file = self.storage.open_to_read(&path).ok()?;
            let (header, _) = FileHeader::read(&path, SEGMENT_MAGIC, &*file).ok()?;
            (header.database == self.database).then(|| Arc::new(header))
        });
        header.or(piece)
    }
}

fn segments(storage: &dyn Storage, directory: &Directory) -> Result<Vec<u64>, Error> {
    Ok(list_if_there(storage, &directory.journal, SEGMENT_SUFFIX)?)
}

/// Returns whether an error about the MANIFEST is damage that a repair can do without.
fn is_damage(storage: &dyn Storage, directory: &Directory, error: &Error) -> Result<bool, Error> {
    match error {
        Error::Corrupt { .. } | Error::Missing { .. } => {
            Ok(directory.holds_files_of_ours(storage)?)
        }
        // What a newer release has written has a checksum all the same.
        Error::UnsupportedFormat { path, .. } => {
            let bytes = storage.read(path).map_err(Error::io("read", path))?;
            Ok(checksummed(path, &bytes).is_err())
        }
        _ => Ok(false),
    }
}

/// Returns the database id that most files state.
fn stated_database(storage: &dyn Storage, directory: &Directory) -> Result<DatabaseId, Error> {
    let mut counts: BTreeMap<[u8; 16], usize> = BTreeMap::new();
    let mut count = |path: &Path, magic| {
        let header = storage.open_to_read(path).ok();
        let header = header.and_then(|file| FileHeader::read(path, magic, &*file).ok());
        if let Some((header, _)) = header {
            *counts.entry(header.database.0).or_default() += 1;
        }
    };
    for first in segments(storage, directory)? {
        count(&segment_path(&directory.journal, first), SEGMENT_MAGIC);
    }
    for sequence in list_if_there(storage, &directory.snapshots, SNAPSHOT_SUFFIX)? {
        count(&snapshot_path(&directory.snapshots, sequence), SNAPSHOT_MAGIC);
    }
    let most = counts.into_iter().max_by_key(|(_, count)| *count);
    most.map(|(database, _)| DatabaseId(database)).ok_or_else(|| Error::Missing {
        path: directory.root.join(MANIFEST_NAME),
        reason: "no file in the directory says which database it is".to_owned(),
    })
}
