//! Owns the taking of one snapshot: which version it holds, what it rests on, and which snapshots
//! the MANIFEST lists then. Knows nothing of when one is due, and of what happens after a failure.

use std::time::{Duration, Instant};

use super::chain::{Base, Chain};
use super::file::{Written, snapshot_header, write_version};
use super::worker::{Snapshotter, SnapshotterOptions};
use crate::engine::{SnapshotInfo, Version, sync_outside_lock};
use crate::error::Error;
use crate::files::{FileHeader, snapshot_path};
use crate::model::Model;
use crate::mutex::lock;

impl<M: Model> Snapshotter<M> {
    pub(super) fn try_take(&mut self, began: Instant) -> Result<SnapshotInfo, Error> {
        let written_then = self.shared.counters.journal_bytes.get();
        let segments_then = self.shared.counters.segments_added.get();
        let version = self.shared.published.pin();
        // Under weaker durabilities, a version may be readable before it is durable, and a snapshot
        // must not be ahead of the journal. If it is durable, this does not take the committer's
        // lock, because this thread may be preempted while it holds it.
        if self.shared.counters.durable_sequence.get() < version.sequence
            && !fault!(SnapshotOfNonDurableVersion)
        {
            sync_outside_lock(&self.committer)?;
        }
        let newest = self.shared.snapshots.state().newest;
        if newest.sequence == version.sequence && !self.outdated {
            self.owed = false;
            if self.retry.is_some() {
                self.tidy()?;
                self.shared.snapshots.change(|state| state.last_error = None);
            }
            return Ok(SnapshotInfo { duration: Duration::ZERO, ..newest });
        }
        let SnapshotterOptions { identity, packing, .. } = &self.options;
        let header = snapshot_header::<M>(
            identity,
            *packing,
            version.sequence,
            version.time_ns,
            version.chain(),
        );
        if fault!(TruncateBeforeVerify) {
            self.list_in_manifest(&header)?;
            self.tidy()?;
        }
        let room = self.room.clone();
        let taking = room.take();
        let (written, decoded) = self.write(&header, &version, taking.since())?;
        drop((taking, version));
        let info = SnapshotInfo::of(&written.file, began.elapsed());
        let header = written.file.header.clone();
        let raw_bytes = written.file.footer.raw_bytes;
        self.list_in_manifest(&header)?;
        let listed = lock(&self.manifest).current().snapshots.clone();
        self.broken.retain(|sequence| listed.contains(sequence));
        let chain = Chain::after(self.chain.take(), written, written_then);
        self.chain = chain.filter(|_| self.options.share_snapshots);
        if decoded {
            let (kept, base) = (self.kept_beside(&header), header.base_sequence);
            match header.is_change() {
                true => self.decode_check.note_changes(&kept, base, info.sequence),
                false => self.decode_check.note(&kept, info.sequence, raw_bytes),
            }
        }
        (self.owed, self.outdated) = (false, false);
        self.last_taken = began;
        let noted = info.clone();
        self.shared.snapshots.change(|state| {
            state.newest = noted;
            state.written_then = written_then;
            state.tail_bytes = 0;
            (state.tail_segments, state.segments_then) = (1, segments_then);
            state.taken += 1;
            state.last_error = None;
        });
        self.tidy()?;
        Ok(info)
    }

    /// Writes the snapshot, unless the journal has asked for room more often than `since`. Returns
    /// it, and whether it was decoded, too.
    fn write(
        &mut self,
        header: &FileHeader,
        version: &Version<M>,
        since: u64,
    ) -> Result<(Written, bool), Error> {
        // If one snapshot is kept, the journal goes back to the newest one in any case.
        let journal_bytes = match self.keeps_older() {
            true => self.shared.counters.journal_bytes.get(),
            false => 0,
        };
        let base = self.chain.as_ref().filter(|_| !self.outdated);
        let base = base.and_then(|chain| chain.base(journal_bytes));
        if let Some(base) = base.filter(|base| self.may_leave_the_list(base)) {
            match self.write_with(header, version, Some(base), since) {
                // A whole snapshot would take even more room, and time.
                Err(error) if error.is_disk_full() || self.is_cancelled() => return Err(error),
                Err(error) => {
                    // Something that it rests on is gone or damaged, so nobody can read it.
                    if matches!(error, Error::Corrupt { .. } | Error::Missing { .. }) {
                        self.broken.push(base.sequence);
                    }
                    self.chain = None;
                }
                written => return written,
            }
        }
        self.write_with(header, version, None, since)
    }

    /// Returns whether a snapshot would stay listed that does not rest on the base.
    fn may_leave_the_list(&self, base: &Base) -> bool {
        let listed = lock(&self.manifest).current().snapshots.clone();
        !self.keeps_older() || listed.iter().any(|&sequence| sequence != base.sequence)
    }

    fn write_with(
        &self,
        header: &FileHeader,
        version: &Version<M>,
        base: Option<&Base>,
        since: u64,
    ) -> Result<(Written, bool), Error> {
        let SnapshotterOptions { storage, directory, packing, .. } = &self.options;
        let base_sequence = base.map_or(header.sequence, |base| base.sequence);
        let header = FileHeader { base_sequence, ..header.clone() };
        let kept = self.kept_beside(&header);
        let mut decoded = false;
        let written = write_version(
            &**storage,
            &directory.snapshots,
            &header,
            version,
            base,
            *packing,
            &self.pace(since),
            |raw_bytes| {
                decoded = self.decode_check.is_owed(&kept, raw_bytes);
                decoded
            },
        )?;
        Ok((written, decoded))
    }

    /// Returns the snapshots that stay in the MANIFEST when the one with this header is listed.
    fn kept_beside(&self, header: &FileHeader) -> Vec<u64> {
        let mut kept = lock(&self.manifest).current().snapshots.clone();
        self.list(&mut kept, header);
        kept.retain(|&kept| kept != header.sequence);
        kept
    }

    /// Adds a snapshot to the listed ones, oldest first, and drops those beyond the number to keep:
    /// first what is known to be useless. What it rests on is no longer listed: the same damage
    /// would make both useless. So each listed snapshot rests on other files than the rest.
    fn list(&self, listed: &mut Vec<u64>, header: &FileHeader) {
        listed.retain(|&other| other != header.sequence && other != header.base_sequence);
        listed.push(header.sequence);
        while listed.len() > self.options.keep_snapshots {
            let useless = |sequence: &u64| {
                let path = snapshot_path(&self.options.directory.snapshots, *sequence);
                *sequence != header.sequence
                    && (self.broken.contains(sequence) || self.superseded.spared.contains(&path))
            };
            listed.remove(listed.iter().position(useless).unwrap_or(0));
        }
    }

    /// Lists the snapshot in the MANIFEST, and drops those beyond the number to keep.
    fn list_in_manifest(&self, header: &FileHeader) -> Result<(), Error> {
        let mut manifest = lock(&self.manifest);
        let listed = manifest.update(|manifest| {
            self.list(&mut manifest.snapshots, header);
            // If this snapshot gets damaged, the journal must still reach at least as far.
            if manifest.sequence < header.sequence {
                manifest.sequence = header.sequence;
                manifest.chain = header.chain;
            }
        });
        Ok(listed?)
    }
}
