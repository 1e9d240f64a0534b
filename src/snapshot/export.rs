//! Owns writing one version as a database of its own, which backup and restore both do. Knows
//! nothing of where the version came from.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::file::{snapshot_header, write_version};
use crate::engine::{SnapshotInfo, Version};
use crate::error::Error;
use crate::files::{
    Directory, Manifest, ManifestFile, Packing, State, beside, keep_schemas, snapshot_path,
};
use crate::journal::{
    Prepared, SegmentIdentity, SegmentStart, first_segment_bytes, publish_segment,
};
use crate::model::{Model, ProgramSchemas};
use crate::schema::SchemasDigest;
use crate::storage::{Pace, Storage};

/// Writes `version` as a closed database into the directory `target`, which must be empty or
/// missing. It makes the copy beside `target` under a temporary name, and renames it when it is
/// whole, so that nobody can open a part of it.
pub(crate) fn write_copy<M: Model>(
    storage: &Arc<dyn Storage>,
    target: &Path,
    identity: &SegmentIdentity,
    schemas: &ProgramSchemas,
    version: &Version<M>,
    packing: Packing,
) -> Result<SnapshotInfo, Error> {
    let began = Instant::now();
    let identity =
        SegmentIdentity { schemas: SchemasDigest::of(&schemas.text), ..identity.clone() };
    let info = beside::write(&**storage, target, None, |staging| {
        keep_schemas(&**storage, staging, identity.schemas, &schemas.text)?;
        write_files(storage, staging, &identity, version, packing)
    })?;
    let path = snapshot_path(&Directory::at(target).snapshots, info.sequence);
    Ok(SnapshotInfo { path, duration: began.elapsed(), ..info })
}

/// Writes a snapshot, an empty segment, and a MANIFEST that states clean.
fn write_files<M: Model>(
    storage: &Arc<dyn Storage>,
    directory: &Directory,
    identity: &SegmentIdentity,
    version: &Version<M>,
    packing: Packing,
) -> Result<SnapshotInfo, Error> {
    let disk = &**storage;
    directory.create_root(disk)?;
    directory.create_inner(disk)?;
    let (sequence, chain) = (version.sequence, version.chain());
    let header = snapshot_header::<M>(identity, packing, sequence, version.time_ns, chain);
    let snapshots = &directory.snapshots;
    let written =
        write_version(disk, snapshots, &header, version, None, packing, &Pace::full(), |_| true)?;
    // This is the smallest segment: the first open makes its own.
    let prepared = Prepared::now(disk, &directory.journal, first_segment_bytes(64 << 10))?;
    let start = SegmentStart { first_sequence: sequence + 1, chain, time_ns: version.time_ns };
    publish_segment(disk, &directory.journal, prepared, identity, start, [].iter())?;
    let manifest = Manifest {
        database: identity.database,
        state: State::Clean,
        sequence,
        chain,
        newest_segment: start.first_sequence,
        snapshots: vec![sequence],
    };
    ManifestFile::create(storage, &directory.root, manifest)?;
    Ok(SnapshotInfo::of(&written.file, Duration::ZERO))
}
