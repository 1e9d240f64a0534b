//! Owns loading the newest snapshot of a database that another process may be changing. Knows
//! nothing of the journal behind it.

use std::path::PathBuf;
use std::sync::Arc;

use super::progress::Told;
use crate::error::Error;
use crate::files::{Directory, Manifest, PackedFile, SchemaFiles, kind, snapshot_path};
use crate::model::{Model, model_name};
use crate::recovery::{
    ChangedTypes, DamagedSnapshot, Phase, Progress, check_identity, settled_manifest,
};
use crate::snapshot::{
    OpenFile, decode_snapshot, open_alone, undecodable_as_current, with_bases_in,
};
use crate::storage::Storage;

/// How often all is begun again because the listed snapshots were replaced meanwhile.
const MOST_TRIES: u32 = 16;

/// A snapshot that was loaded.
pub(super) struct Snapshot<M> {
    pub(super) model: M,
    pub(super) sequence: u64,
    pub(super) time_ns: u64,
    pub(super) chain: u32,
    pub(super) path: PathBuf,
    /// The size of its files.
    pub(super) bytes: u64,
    /// Newer ones that could not be used.
    pub(super) damaged: Vec<DamagedSnapshot>,
}

/// Loads the newest snapshot behind `after` that can be loaded; `None` if none is listed. Files may
/// be replaced meanwhile. Then it begins again, with a bound. Returns also the MANIFEST that lists
/// it.
pub(super) fn newest_snapshot<M: Model>(
    storage: &Arc<dyn Storage>,
    directory: &Directory,
    after: Option<u64>,
    told: &mut Told<'_, '_>,
) -> Result<(Option<Snapshot<M>>, Manifest), Error> {
    let mut tries = 0;
    loop {
        let manifest = settled_manifest(storage, &directory.root)?;
        let loaded = newest_of::<M>(storage, directory, &manifest, after, told);
        let may_be_gone = match &loaded {
            Ok(Some(snapshot)) => !snapshot.damaged.is_empty(),
            Ok(None) => false,
            Err(error) => matches!(error, Error::Corrupt { .. } | Error::Missing { .. }),
        };
        tries += 1;
        if !may_be_gone
            || tries >= MOST_TRIES
            || settled_manifest(storage, &directory.root)? == manifest
        {
            return Ok((loaded?, manifest));
        }
    }
}

fn newest_of<M: Model>(
    storage: &Arc<dyn Storage>,
    directory: &Directory,
    manifest: &Manifest,
    after: Option<u64>,
    told: &mut Told<'_, '_>,
) -> Result<Option<Snapshot<M>>, Error> {
    let is_wanted = |sequence: &u64| after.is_none_or(|after| *sequence > after);
    let mut damaged = Vec::new();
    let mut first_error = None;
    for sequence in manifest.snapshots.iter().rev().copied().filter(is_wanted) {
        match load_one::<M>(storage, directory, manifest, sequence, told) {
            Ok(snapshot) => return Ok(Some(Snapshot { damaged, ..snapshot })),
            // An older one and the commands behind it may give the model.
            Err(error)
                if matches!(error, Error::Corrupt { .. } | Error::Missing { .. })
                    || undecodable_as_current::<M>(&**storage, &error) =>
            {
                let path = snapshot_path(&directory.snapshots, sequence);
                damaged.push(DamagedSnapshot { path, reason: error.to_string() });
                first_error.get_or_insert(error);
            }
            Err(error) => return Err(error),
        }
    }
    first_error.map_or(Ok(None), Err)
}

fn load_one<M: Model>(
    storage: &Arc<dyn Storage>,
    directory: &Directory,
    manifest: &Manifest,
    sequence: u64,
    told: &mut Told<'_, '_>,
) -> Result<Snapshot<M>, Error> {
    let schemas = SchemaFiles { storage: storage.clone(), directory: directory.schemas.clone() };
    let (storage, directory) = (&**storage, &directory.snapshots);
    let path = snapshot_path(directory, sequence);
    let open: OpenFile = PackedFile::open_beside_others;
    let load = |told: &mut Told<'_, '_>| {
        let file = open_alone(storage, directory, sequence, open)?;
        check_identity(&path, &file.header, manifest.database, model_name::<M>())?;
        let file = with_bases_in(storage, directory, file, open)?;
        let bytes = file.chain().map(PackedFile::file_bytes).sum();
        told.tell(Progress { phase: Phase::Snapshot, done: 0, total: bytes })?;
        ChangedTypes::check_model::<M>(&schemas, &file)?;
        let model = decode_snapshot::<M>(&file)?;
        told.tell(Progress { phase: Phase::Snapshot, done: bytes, total: bytes })?;
        Ok(Snapshot {
            model,
            sequence,
            time_ns: file.header.time_ns,
            chain: file.footer.chain,
            path: path.clone(),
            bytes,
            damaged: Vec::new(),
        })
    };
    load(told).map_err(|error| match (error, kind(storage, &path)) {
        // It was there, or is listed by mistake. Which of them it is, the MANIFEST says.
        (Error::Io { .. } | Error::Corrupt { .. }, Ok(None)) => {
            Error::Missing { path, reason: "the MANIFEST lists this snapshot".to_owned() }
        }
        (error, _) => error,
    })
}
