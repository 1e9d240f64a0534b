//! Owns writing one version as a database of its own: what backup and restore have in common. Knows
//! nothing of where the version came from.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::directory::Directory;
use crate::error::Error;
use crate::header::{FileHeader, SNAPSHOT_MAGIC};
use crate::journal::{
    Prepared, SegmentIdentity, SegmentStart, first_segment_bytes, publish_segment,
};
use crate::manifest::{Manifest, ManifestFile, State};
use crate::model::Model;
use crate::packed::Packing;
use crate::published::Version;
use crate::snapshot::write_snapshot;
use crate::snapshotter::SnapshotInfo;
use crate::storage::{EntryKind, Storage};

/// Writes `version` into the directory `target`, which must be empty or not there: a snapshot of
/// it, an empty segment, and last the MANIFEST that makes a closed database of them. A crash before
/// that leaves what an open starts over from.
pub(crate) fn write_copy<M: Model>(
    storage: &Arc<dyn Storage>,
    target: &Path,
    identity: &SegmentIdentity,
    version: &Version<M>,
    packing: Packing,
) -> Result<SnapshotInfo, Error> {
    let began = std::time::Instant::now();
    let disk = &**storage;
    require_empty(disk, target)?;
    let directory = Directory::at(target);
    directory.create_root(disk)?;
    let lock = disk
        .lock(&directory.lock)
        .map_err(Error::io("lock", &directory.lock))?
        .ok_or_else(|| Error::Locked { path: target.to_path_buf() })?;
    directory.create_inner(disk)?;
    let (sequence, chain) = (version.sequence, version.chain());
    let start = SegmentStart { first_sequence: sequence + 1, chain, time_ns: version.time_ns };
    let mut manifest = ManifestFile::create(
        storage,
        target,
        Manifest {
            database: identity.database,
            state: State::Creating,
            sequence: 0,
            chain,
            newest_segment: 0,
            snapshots: Vec::new(),
        },
    )?;
    let header = FileHeader {
        magic: SNAPSHOT_MAGIC,
        database: identity.database,
        packing: packing.code(),
        model_version: identity.model_version,
        sequence,
        time_ns: version.time_ns,
        salt: 0,
        file_bytes: 0,
        chain,
        model_name: identity.model_name.clone(),
        commands: Vec::new(),
    };
    let never = AtomicBool::new(false);
    let snapshots = &directory.snapshots;
    let written = write_snapshot(disk, snapshots, &header, &version.model, packing, &never)?;
    // As short as a segment may be: the first open makes one of its own.
    let prepared = Prepared::now(disk, &directory.journal, first_segment_bytes(4096 * 16))?;
    publish_segment(disk, &directory.journal, prepared, identity, start, [].iter())?;
    manifest.update(|manifest| {
        manifest.state = State::Clean;
        manifest.sequence = sequence;
        manifest.newest_segment = start.first_sequence;
        manifest.snapshots = vec![sequence];
    })?;
    directory.sync_root_names(disk)?;
    lock.unlock().map_err(Error::io("unlock", &directory.lock))?;
    Ok(SnapshotInfo::of(&written, began.elapsed()))
}

fn require_empty(storage: &dyn Storage, target: &Path) -> Result<(), Error> {
    let empty = match storage.kind(target).map_err(Error::io("examine", target))? {
        None => true,
        Some(EntryKind::Directory) => {
            storage.list(target).map_err(Error::io("list", target))?.is_empty()
        }
        Some(_) => false,
    };
    if empty { Ok(()) } else { Err(Error::NotEmpty { path: target.to_path_buf() }) }
}
