//! Owns reading an existing database to its end: snapshot, segments, replay. Changes nothing on
//! disk.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::changed_types::ChangedTypes;
use super::replay::{JournalEnd, replay};
use super::{
    DamagedSnapshot, KnownChain, Loaded, Opening, Phase, Progress, RecoveryReport, Replayed,
    check_identity, check_tags,
};
use crate::engine::{SnapshotInfo, Version};
use crate::error::Error;
use crate::files::{
    FileHeader, Manifest, ManifestFile, PackedFile, SNAPSHOT_MAGIC, State, StoreError, kind,
    list_segments, segment_path, snapshot_path,
};
use crate::journal::Segment;
use crate::model::{Model, RandomSeed, model_name};
use crate::snapshot::{
    Decoded, OpenFile, decode_late, decode_version, open_alone, undecodable_as_current,
    with_bases_in,
};

/// With more commands behind it, a snapshot that was loaded as a whole is not kept, so that the
/// next one is whole.
const SHORT_TAIL_COMMANDS: u64 = 10_000;

impl Opening<'_> {
    /// Reads an existing database and changes nothing. It puts the segments into `segments`, from
    /// which the frames at the journal's end are borrowed.
    pub(super) fn read<'a, M: Model>(
        &self,
        manifest: &ManifestFile,
        segments: &'a mut Vec<Segment>,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(Version<M>, JournalEnd<'a>, RecoveryReport, Loaded), Error> {
        let mut undecodable = None;
        let read = self.read_past::<M>(&mut undecodable, manifest, segments, progress);
        // If an older snapshot does not help, the error reports the newest.
        read.map_err(|error| undecodable.unwrap_or(error))
    }

    /// Reads as [`read`](Self::read). If the newest snapshot is whole but this program cannot
    /// decode it, this reads an older one, and puts the error into `undecodable`.
    fn read_past<'a, M: Model>(
        &self,
        undecodable: &mut Option<Error>,
        manifest: &ManifestFile,
        segments: &'a mut Vec<Segment>,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(Version<M>, JournalEnd<'a>, RecoveryReport, Loaded), Error> {
        let stated = manifest.current().clone();
        let mut report =
            RecoveryReport { clean: stated.state == State::Clean, ..RecoveryReport::default() };

        let (mut replayed, snapshot_chain, mut loaded) =
            self.load_snapshot::<M>(undecodable, &stated, &mut report, progress)?;

        let began = Instant::now();
        let opened = self.open_segments::<M>(&stated, replayed.sequence + 1);
        // If the journal does not reach back to an older snapshot, the error reports the damage of
        // the newer one.
        *segments = match (opened, loaded.damaged.first()) {
            (Err(Error::Missing { .. }), Some(damaged)) => {
                return Err(Error::corrupt(
                    &damaged.path,
                    0,
                    "an intact snapshot, because the journal does not reach back to an older one",
                    damaged.reason.clone(),
                ));
            }
            (opened, _) => opened?,
        };
        loaded.open_time = began.elapsed();
        report.segments = segments.len().try_into().unwrap_or(u64::MAX);
        report.journal_bytes = segments.iter().map(Segment::file_bytes).sum();
        let manifest_chain = KnownChain {
            sequence: stated.sequence,
            chain: stated.chain,
            source: manifest.path().to_path_buf(),
        };
        let end = replay(
            segments,
            &self.schema_files(),
            &mut replayed,
            &[snapshot_chain, manifest_chain],
            stated.sequence,
            RandomSeed::new(stated.database),
            &mut |done, total| {
                progress(Progress { phase: Phase::Journal, done, total });
                self.options.check_abort()
            },
        )?;
        let reached = end.next_sequence - 1;
        if stated.state == State::Clean && stated.sequence != reached {
            let expected = format!("sequence {reached}, the end of the journal");
            let found = format!("closed at sequence {}", stated.sequence);
            return Err(Error::corrupt(manifest.path(), 40, expected, found));
        }
        report.replay_time = began.elapsed();
        report.commands_replayed = replayed.commands;
        report.torn_tail = end.torn.clone();
        report.tail_bytes = replayed.payload_bytes;
        loaded.apply_time = replayed.apply_time;
        loaded.replay_loads = loaded.late.as_ref().map(|late| late.loads());
        loaded.keep_what_is_needed(self.options.share_snapshots, replayed.payload_bytes);
        report.damaged_snapshots.clone_from(&loaded.damaged);
        let Replayed { model, sequence, time_ns, requests, .. } = replayed;
        let version = Version::written(model, sequence, time_ns, end.chain).with_requests(requests);
        Ok((version, end, report, loaded))
    }

    /// Loads the newest intact snapshot.
    fn load_snapshot<M: Model>(
        &self,
        undecodable: &mut Option<Error>,
        stated: &Manifest,
        report: &mut RecoveryReport,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(Replayed<M>, KnownChain, Loaded), Error> {
        let mut damaged = Vec::new();
        let mut first_error = None;
        for &sequence in stated.snapshots.iter().rev() {
            match self.load_one::<M>(stated, sequence, report, progress) {
                Ok((replayed, known, loaded)) => {
                    return Ok((replayed, known, Loaded { damaged, ..loaded }));
                }
                // A whole snapshot that does not fit this program is an error: an older one would
                // not help.
                Err(error @ (Error::Corrupt { .. } | Error::Missing { .. })) => {
                    let path = snapshot_path(&self.directory.snapshots, sequence);
                    damaged.push(DamagedSnapshot { path, reason: error.to_string() });
                    first_error.get_or_insert(error);
                }
                // The snapshot is of this version of the model. Either the type cannot be decoded
                // from its own encoding, or it was changed. An older snapshot and the commands
                // behind it may give the model.
                Err(error) if undecodable_as_current::<M>(&**self.storage, &error) => {
                    let path = snapshot_path(&self.directory.snapshots, sequence);
                    damaged.push(DamagedSnapshot { path, reason: error.to_string() });
                    if damaged.len() == 1 {
                        *undecodable = Some(error);
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Err(first_error.unwrap_or_else(|| Error::Missing {
            path: self.directory.snapshots.clone(),
            reason: "the MANIFEST lists no snapshot, not even one of the initial model".to_owned(),
        }))
    }

    fn load_one<M: Model>(
        &self,
        stated: &Manifest,
        sequence: u64,
        report: &mut RecoveryReport,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(Replayed<M>, KnownChain, Loaded), Error> {
        let began = Instant::now();
        let directory = &self.directory.snapshots;
        let path = snapshot_path(directory, sequence);
        self.require(&path, "the MANIFEST lists this snapshot")?;
        let late = self.late.clone().filter(|_| self.may_load_late::<M>(&path));
        let open: OpenFile = match late {
            Some(_) => PackedFile::open_beside_others,
            None => PackedFile::open_to_decode,
        };
        let snapshot = open_alone(&**self.storage, directory, sequence, open)?;
        check_identity(&path, &snapshot.header, stated.database, model_name::<M>())?;
        let snapshot = with_bases_in(&**self.storage, directory, snapshot, open)?;
        let total = snapshot.chain().map(PackedFile::file_bytes).sum();
        progress(Progress { phase: Phase::Snapshot, done: 0, total });
        self.options.check_abort()?;
        ChangedTypes::check_model::<M>(&self.schema_files(), &snapshot)?;
        let limits = self.options.request_limits();
        let Decoded { model, requests, known: collections } = match &late {
            Some(late) => decode_late::<M>(&snapshot, limits, late.clone())?,
            None => decode_version::<M>(&snapshot, limits)?,
        };
        progress(Progress { phase: Phase::Snapshot, done: total, total });
        self.options.check_abort()?;
        report.snapshot_sequence = sequence;
        report.snapshot_bytes = total;
        report.snapshot_time = began.elapsed();
        let time_ns = snapshot.header.time_ns;
        let known = KnownChain { sequence, chain: snapshot.footer.chain, source: path };
        let replayed = Replayed {
            model,
            sequence,
            time_ns,
            requests,
            commands: 0,
            payload_bytes: 0,
            apply_time: Duration::ZERO,
        };
        let outdated = snapshot.header.model_version != M::VERSION;
        let is_late = late.is_some();
        // While they are kept, the replay copies each leaf that it changes.
        let is_short = stated.state == State::Clean
            && stated.sequence.saturating_sub(sequence) <= SHORT_TAIL_COMMANDS;
        let may_share = self.options.share_snapshots && !outdated && is_short;
        let needs_collections = is_late || may_share;
        let loaded = Loaded {
            info: SnapshotInfo::of(&snapshot, Duration::ZERO),
            outdated,
            collections: needs_collections.then(|| Arc::new(collections)),
            chain: None,
            late,
            file: Some(snapshot),
            damaged: Vec::new(),
            load_time: report.snapshot_time,
            replay_loads: None,
            open_time: Duration::ZERO,
            apply_time: Duration::ZERO,
        };
        Ok((replayed, known, loaded))
    }

    /// Returns whether the model of a snapshot can be loaded after the open. One of another version
    /// is migrated at once.
    fn may_load_late<M: Model>(&self, path: &Path) -> bool {
        let file = self.storage.open_to_read(path).map_err(StoreError::io("read", path));
        let header = file.and_then(|file| FileHeader::read(path, SNAPSHOT_MAGIC, &*file));
        header.is_ok_and(|(header, _)| header.model_version == M::VERSION)
    }

    /// Opens the segments from the one that holds `first_needed` to the newest.
    fn open_segments<M: Model>(
        &self,
        stated: &Manifest,
        first_needed: u64,
    ) -> Result<Vec<Segment>, Error> {
        let storage = &**self.storage;
        let directory = &self.directory.journal;
        self.require(directory, "it holds the journal")?;
        let listed = list_segments(storage, directory)?;
        if !listed.contains(&stated.newest_segment) && !fault!(MissingSegmentNotNoticed) {
            let path = segment_path(directory, stated.newest_segment);
            self.require(&path, "the MANIFEST names it as the newest segment")?;
        }
        let start = listed.iter().rposition(|&first| first <= first_needed).ok_or_else(|| {
            let path = segment_path(directory, first_needed);
            let reason = format!("the journal must continue from sequence {first_needed}");
            Error::Missing { path, reason }
        })?;
        let mut segments = Vec::new();
        for &first in listed.get(start..).unwrap_or(&[]) {
            let segment = Segment::open(storage, directory, first)?;
            check_identity(&segment.path, &segment.header, stated.database, model_name::<M>())?;
            if !segment.is_empty() {
                check_tags::<M>(&segment.path, &segment.header)?;
            }
            segments.push(segment);
        }
        Ok(segments)
    }

    fn require(&self, path: &Path, reason: &str) -> Result<(), Error> {
        match kind(&**self.storage, path)? {
            Some(_) => Ok(()),
            None => Err(Error::Missing { path: path.to_path_buf(), reason: reason.to_owned() }),
        }
    }
}
