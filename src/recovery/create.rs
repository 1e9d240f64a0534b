//! Owns making the first files of a new database. Knows nothing of reading an existing one.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::{Loaded, Opening, Recovered, RecoveryReport, identity};
use crate::engine::{SnapshotInfo, Version};
use crate::error::Error;
use crate::files::{DatabaseId, Manifest, ManifestFile, State, exists, segment_path};
use crate::journal::{
    Beginning, FRAMES_BEGIN_AT_LEAST_BYTES, Prepared, Segment, SegmentIdentity, SegmentStart,
    publish_segment, random_bytes,
};
use crate::model::{Model, time_ns};
use crate::snapshot::{Decoded, decode_written, snapshot_header, write_snapshot};
use crate::storage::{Lock, Pace};

impl Opening<'_> {
    /// Makes the first files. While the MANIFEST states `Creating`, a crash leaves only files that
    /// the next open may remove.
    pub(super) fn create<M: Model>(
        &self,
        model: &M,
        lock: Box<dyn Lock>,
    ) -> Result<Recovered<M>, Error> {
        let (storage, directory) = (&**self.storage, &self.directory);
        directory.sync_root_names(storage)?;
        directory.create_inner(storage)?;
        directory.remove_stale_temporaries(storage)?;
        let database = DatabaseId(random_bytes(storage, &directory.root)?);
        let chain = crc32c::crc32c(&database.0);
        let first = Manifest {
            database,
            state: State::Creating,
            sequence: 0,
            chain,
            newest_segment: 0,
            snapshots: Vec::new(),
        };
        let mut manifest = ManifestFile::create(self.storage, &directory.root, first)?;
        let time_ns = time_ns(storage.now());
        let mut report = RecoveryReport { created: true, clean: true, ..RecoveryReport::default() };
        let schemas = self.describe_types::<M>(&mut report)?;
        let events = self.options.events::<M>();
        let identity = identity::<M>(database, events, schemas.digest);
        let packing = self.options.packing();
        let header = snapshot_header::<M>(&identity, packing, 0, time_ns, chain);
        let snapshot =
            write_snapshot(storage, &directory.snapshots, &header, model, packing, &Pace::full())?;
        // The database runs on the stored model, so that a field that serde skips is skipped from
        // the start.
        let began = Instant::now();
        let Decoded { model, requests, .. } =
            decode_written::<M>(&snapshot, self.options.request_limits(), &Pace::full())?;
        let loaded = Loaded {
            info: SnapshotInfo::of(&snapshot, Duration::ZERO),
            outdated: false,
            collections: None,
            chain: None,
            late: None,
            file: None,
            damaged: Vec::new(),
            load_time: began.elapsed(),
            replay_loads: None,
            open_time: Duration::ZERO,
            apply_time: Duration::ZERO,
        };
        let version = Version::written(model, 0, time_ns, chain).with_requests(requests);
        let next = SegmentStart { first_sequence: 1, chain, time_ns };
        let last = self.create_segment(identity, next)?;
        manifest.update(|manifest| {
            manifest.state = State::Clean;
            manifest.newest_segment = next.first_sequence;
            manifest.snapshots = vec![0];
        })?;
        let beginning = Beginning { last, next, used_bytes: 0, unconfirmed: None };
        self.become_writer(manifest, lock, version, beginning, report, loaded)
    }

    /// Returns a file that proves that the creation of the database was finished; `None` without
    /// one.
    pub(super) fn beyond_half_made(&self) -> Result<Option<PathBuf>, Error> {
        let (storage, directory) = (&**self.storage, &self.directory);
        if let Some(later) = directory.beyond_half_made(storage)? {
            return Ok(Some(later));
        }
        let first = segment_path(&directory.journal, 1);
        if !exists(storage, &first)? {
            return Ok(None);
        }
        // A segment of this crate was synced before it got its name, so it is whole. This code must
        // not remove any other file.
        let is_unused = Segment::open(storage, &directory.journal, 1).is_ok_and(|it| it.is_empty());
        Ok((!is_unused).then_some(first))
    }

    /// Makes the first segment of a new database. Its header names no commands: their names become
    /// durable with the first accepted command, so that a release that was only started can be
    /// undone.
    fn create_segment(
        &self,
        identity: SegmentIdentity,
        start: SegmentStart,
    ) -> Result<Segment, Error> {
        let (storage, directory) = (&**self.storage, &self.directory.journal);
        let identity = SegmentIdentity { commands: Vec::new(), ..identity };
        let prepared = Prepared::now(storage, directory, FRAMES_BEGIN_AT_LEAST_BYTES)?;
        publish_segment(storage, directory, prepared, &identity, start, [].iter())?;
        Ok(Segment::open(storage, directory, start.first_sequence)?)
    }
}
