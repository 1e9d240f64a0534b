//! Owns what an operator does with an open database: snapshots, backups, exports, statistics. Knows
//! nothing of commands.

use super::{Database, Engine};
use crate::engine::{Health, SnapshotInfo, sync_outside_lock};
use crate::error::Error;
use crate::files::absolute;
use crate::json;
use crate::model::{Model, program_schemas, time_ns};
use crate::options::{MOST_IDS, MOST_OUTPUT_BYTES, Options};
use crate::process::stack;
use crate::recovery::{RecoveryReport, identity, read_whole};
use crate::snapshot::{current_rates, segments_behind, write_copy};
use crate::stats::Stats;
use crate::storage::{Disk, HeldDisk, Storage};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

impl<M: Model> Database<M> {
    /// Makes all acknowledged commands durable, and returns the highest durable sequence. This is
    /// useful only under [`Durability::Interval`](crate::Durability::Interval) and
    /// [`Durability::Buffered`](crate::Durability::Buffered).
    ///
    /// # Errors
    /// [`Error::Poisoned`] if the sync fails, or if the database has [failed](crate::Poisoned)
    /// before; [`Error::Reentrant`] if the call comes from a command's `apply`; [`Error::Forked`]
    /// in the child of a fork.
    pub fn sync(&self) -> Result<u64, Error> {
        self.engine.check_caller()?;
        sync_outside_lock(&self.engine.committer)
    }

    /// Takes a snapshot of the newest durable version. Waits until the snapshot is durable and
    /// verified, and the journal that it replaces is removed or archived. If that version already
    /// has a snapshot, returns that one. Commands and reads go on meanwhile.
    ///
    /// # Errors
    /// [`Error::UnreadableModel`] if the model cannot be decoded from the snapshot; nothing else is
    /// harmed, and the journal is kept. [`Error::Poisoned`] or [`Error::Stopped`] if the database
    /// no longer runs, [`Error::Reentrant`] if the call comes from a command's `apply`,
    /// [`Error::Forked`] in the child of a fork. Any other error says why the snapshot could not be
    /// written, or, after it was written, why older files could not be removed or archived. In that
    /// case commands and reads go on, no command is lost, and the database tries again.
    pub fn snapshot(&self) -> Result<SnapshotInfo, Error> {
        self.engine.check_caller()?;
        self.engine.take_snapshot()
    }

    /// Writes the newest durable version into the directory `target`, as a separate, closed
    /// database that can be opened directly. `restore` copies it back, and so does any tool that
    /// can copy a directory. Commands and reads go on meanwhile. The backup needs only the few
    /// buffers of a snapshot in memory.
    ///
    /// The copy holds no commands; archived commands stay where they are. The copy of a database
    /// [in memory](Self::in_memory) is also written to the disk.
    ///
    /// The copy of a database that has [failed](crate::Poisoned) holds the version that can still
    /// be read. So the data can be rescued even if a program removed the files of the running
    /// database.
    ///
    /// # Errors
    /// [`Error::NotEmpty`] if `target` exists and is not an empty directory; [`Error::Reentrant`]
    /// if the call comes from a command's `apply`; [`Error::Forked`] in the child of a fork;
    /// [`Error::UnreadableModel`] if the copy could not be read back. Any other error says why the
    /// copy could not be written. In that case nothing is at `target`, unless only making its name
    /// durable failed.
    pub fn backup(&self, target: impl AsRef<Path>) -> Result<SnapshotInfo, Error> {
        self.engine.check_caller()?;
        let Engine { shared, committer, storage, identity, schemas, packing, .. } = &*self.engine;
        let target = absolute(target.as_ref())?;
        let version = shared.published.pin();
        let synced = sync_outside_lock(committer);
        // A database that has failed can still be read, so a backup can rescue its data.
        if shared.status.poisoned().is_none() {
            synced?;
        }
        let storage = storage.clone().for_copies();
        stack::run(|| write_copy(&storage, &target, identity, schemas, &version, *packing))
            .map_err(Error::io("start a thread to write", &target))?
    }

    /// Returns the storage with the files of this database, and their directory.
    pub(crate) fn stored_files(&self) -> Result<(Arc<dyn Storage>, PathBuf), Error> {
        self.engine.check_caller()?;
        Ok((self.engine.storage.clone(), self.engine.directory.root.clone()))
    }

    /// Writes the database in the directory `backup` into the directory `target`.
    /// [`backup`](Self::backup) may have made it, or it may be any database that is not open. The
    /// call first reads, verifies and replays all of it. It changes nothing there, but it may
    /// create a `LOCK` file.
    ///
    /// # Errors
    /// The errors of [`Builder::open`](crate::Builder::open) for the database that is read;
    /// [`Error::Missing`] if there is no database at `backup`; [`Error::NotEmpty`] if `target`
    /// exists and is not an empty directory; [`Error::Io`] if the copy could not be written;
    /// [`Error::UnreadableModel`] if it could not be read back.
    pub fn restore(backup: impl AsRef<Path>, target: impl AsRef<Path>) -> Result<(), Error> {
        let (backup, target) = (absolute(backup.as_ref())?, absolute(target.as_ref())?);
        let source: Arc<dyn Storage> = Arc::new(HeldDisk::default());
        let storage: Arc<dyn Storage> = Arc::new(Disk);
        // The copy must remember as much of requests as the original: the limits are the largest.
        let options = Options {
            remembered_requests: MOST_IDS,
            remembered_output_bytes: MOST_OUTPUT_BYTES,
            ..Options::default()
        };
        let copy = || {
            let (database, version) = read_whole::<M>(&source, &backup, &options)?;
            let packing = options.packing();
            let schemas = program_schemas::<M>(&options.given_schemas);
            let identity = identity::<M>(database, options.events::<M>(), schemas.digest);
            write_copy(&storage, &target, &identity, &schemas, &version, packing).map(drop)
        };
        stack::run(copy).map_err(Error::io("start a thread to read", &backup))?
    }

    /// Writes the newest readable version as JSON, with serde, and returns its sequence. Commands
    /// and reads go on meanwhile.
    ///
    /// Some values lose precision in JSON, and are written nevertheless. Bytes become an array of
    /// numbers. `()`, `None` and `Some(())` all become `null`. Integers are written with all their
    /// digits, but many readers keep at most 53 bits of them.
    ///
    /// # Errors
    /// [`Error::Encode`] if JSON cannot represent a part of the model:
    /// - a NaN or an infinity;
    /// - values that are nested more than 512 levels deep, which could use up the stack of the
    ///   calling thread;
    /// - maps whose keys are not texts, numbers, booleans or variants without fields.
    ///
    /// In the first two cases the error contains the path to the part, and nothing was written to
    /// `writer`. In the third case, and if the model's `Serialize` or `writer` fails, which is the
    /// same error, a part may have been written.
    pub fn export_json(&self, writer: impl std::io::Write) -> Result<u64, Error> {
        let view = self.view();
        let mut writer = std::io::BufWriter::new(writer);
        let failed =
            |reason: String| Error::Encode { what: "the model as JSON".to_owned(), reason };
        json::write(&*view, &mut writer).map_err(failed)?;
        std::io::Write::flush(&mut writer).map_err(|error| failed(error.to_string()))?;
        Ok(view.sequence())
    }

    /// Returns figures of this open database.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let Engine { shared, queue, .. } = &*self.engine;
        if self.engine.process.is_forked() {
            // A thread of the parent may have held a lock at the fork. Nobody releases it here.
            return Stats { sequence: self.sequence(), ..Stats::default() };
        }
        let counters = &shared.counters;
        let snapshots = shared.snapshots.state();
        let commands = self.sequence().saturating_sub(snapshots.newest.sequence);
        let segments = segments_behind(shared, &snapshots);
        let sequence = self.sequence();
        let requests = shared.published.pin().requests.clone();
        let now_ns = time_ns(self.engine.storage.now());
        let oldest_ns =
            requests.iter().next().map_or(0, |oldest| now_ns.saturating_sub(oldest.time_ns));
        let (recent_versions, recent_oldest) = shared.published.recent().state(sequence);
        let written = counters.journal_bytes.get();
        let (followers, followers_lost) = shared.followers.count();
        Stats {
            followers: crate::files::position(followers),
            followers_lost: crate::files::position(followers_lost),
            followers_held_bytes: shared.followers.held_bytes(),
            journal_bytes_since_snapshot: snapshots.tail_bytes
                + written.saturating_sub(snapshots.written_then),
            commands_since_snapshot: commands,
            snapshots_taken: snapshots.taken,
            snapshots_failed: snapshots.failed,
            snapshot_sequence: snapshots.newest.sequence,
            snapshot_duration: snapshots.newest.duration,
            snapshot_raw_bytes: snapshots.newest.raw_bytes,
            snapshot_file_bytes: snapshots.newest.file_bytes,
            snapshot_shared_bytes: snapshots.newest.shared_bytes,
            predicted_startup: current_rates(shared, &snapshots).predicted(
                &snapshots.newest.load,
                commands,
                segments,
            ),
            segments_since_snapshot: segments,
            sequence,
            recent_versions: crate::files::position(recent_versions),
            recent_oldest_sequence: recent_oldest,
            recent_commands: sequence - recent_oldest,
            durable_sequence: counters.durable_sequence.get(),
            accepted: counters.accepted.get(),
            rejected: counters.rejected.get(),
            panicked: counters.panicked.get(),
            reapplied: counters.reapplied.get(),
            stale: counters.stale.get(),
            duplicates: counters.duplicates.get(),
            requests_full: counters.requests_full.get(),
            remembered_requests: crate::files::position(requests.ids()),
            oldest_request_age: Duration::from_nanos(oldest_ns),
            not_written: counters.not_written.get(),
            reserve_bytes: self.engine.reserve.bytes(),
            batches: counters.batches.get(),
            inline_batches: counters.inline_batches.get(),
            largest_batch: counters.largest_batch.get(),
            syncs: counters.syncs.get(),
            journal_bytes: written,
            queued_commands: crate::files::position(queue.commands()),
            queued_bytes: crate::files::position(queue.bytes()),
        }
    }

    /// Returns what the open found and did.
    #[must_use]
    pub fn recovery(&self) -> &RecoveryReport {
        &self.engine.report
    }

    /// Whether a close has begun, and the queue takes no more commands.
    #[cfg(test)]
    pub(crate) fn is_stopping(&self) -> bool {
        self.engine.queue.is_stopped()
    }

    /// Returns whether commands are accepted, and if not, why.
    #[must_use]
    pub fn health(&self) -> Health {
        if self.engine.process.is_forked() {
            return Health::Forked;
        }
        let shared = &self.engine.shared;
        match (shared.status.health(), shared.snapshots.state().last_error) {
            (Health::Running, Some(reason)) => Health::SnapshotsFailing(reason),
            (health, _) => health,
        }
    }
}
