//! Owns the options that a user may set: durability, limits, policies. Knows nothing of how they
//! are carried out.

mod events;
mod load_model;
mod recent_versions;
mod request_limits;
mod retention;
mod snapshot_policy;
mod startup;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::codec::LARGEST_COMMAND_BYTES;
use crate::error::Error;
use crate::files::Packing;
use crate::journal::{LARGEST_PAYLOAD_BYTES, RECORD_HEADER_BYTES};
use crate::model::{GivenSchemas, LARGEST_EVENTS_BYTES, LARGEST_METADATA_BYTES, Model};

pub use events::Events;
pub use load_model::LoadModel;
pub use recent_versions::RecentVersions;
pub use retention::{ArchivedSnapshots, Retention};
pub use snapshot_policy::SnapshotPolicy;

pub(crate) use recent_versions::MOST_RECENT_VERSIONS;
#[cfg(test)]
pub(crate) use request_limits::BYTES_PER_ID;
pub(crate) use request_limits::{MOST_IDS, MOST_OUTPUT_BYTES, RejectionLimits, RequestLimits};
pub(crate) use snapshot_policy::Limits;
pub(crate) use startup::{GUESSED_PARTS_PER_COMMAND, LateRates, StartupLoad, StartupRates};

/// When a command is acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Durability {
    /// The default. Every answer waits for the `fdatasync` that covers its command, and readers see
    /// nothing that is not on stable storage. A power cut, a kernel crash or a killed process loses
    /// nothing that was acknowledged.
    #[default]
    Sync,
    /// Answers wait only for the write. A separate thread syncs at this interval. A killed process
    /// loses nothing. A power cut or a kernel crash may lose the commands acknowledged since the
    /// last sync, which are those of about one interval plus the time of one sync. The remaining
    /// commands are always a prefix.
    Interval(Duration),
    /// Answers wait only for the write. Nothing is synced until a segment is full,
    /// [`Database::sync`](crate::Database::sync) is called, or the database is closed. A killed
    /// process loses nothing. A power cut or a kernel crash may lose everything acknowledged since
    /// the last sync. The remaining commands are always a prefix.
    Buffered,
}

/// The options of an open, without the model.
#[derive(Clone)]
pub(crate) struct Options {
    pub(crate) durability: Durability,
    pub(crate) max_batch_commands: u32,
    pub(crate) max_batch_bytes: usize,
    pub(crate) max_command_bytes: usize,
    pub(crate) linger: Duration,
    pub(crate) queue_capacity: usize,
    pub(crate) queue_bytes: usize,
    pub(crate) segment_bytes: u64,
    pub(crate) compression_level: i32,
    pub(crate) compression_threads: u32,
    pub(crate) snapshots: SnapshotPolicy,
    pub(crate) retention: Retention,
    pub(crate) archived_snapshots: ArchivedSnapshots,
    pub(crate) keep_snapshots: usize,
    pub(crate) share_snapshots: bool,
    pub(crate) load_model: LoadModel,
    /// `None` for the default of the model's event type.
    pub(crate) events: Option<Events>,
    pub(crate) remembered_requests: usize,
    pub(crate) remember_requests_for: Duration,
    pub(crate) remembered_output_bytes: usize,
    pub(crate) request_ids_by_actor: bool,
    pub(crate) max_request_id_bytes: usize,
    pub(crate) remembered_rejections: usize,
    pub(crate) remember_rejections_for: Duration,
    pub(crate) recent_versions: RecentVersions,
    /// How long an open waits for a directory that somebody else has locked.
    pub(crate) wait_for_lock: Duration,
    /// What the user says of types that cannot be traced.
    pub(crate) given_schemas: GivenSchemas,
    /// Set when the progress callback says that the open is to end.
    pub(crate) aborts: Arc<AtomicBool>,
}

const LARGEST_BATCH_BYTES: usize = 32 << 20;
const _: () = assert!(
    LARGEST_BATCH_BYTES
        + RECORD_HEADER_BYTES
        + LARGEST_METADATA_BYTES
        + LARGEST_COMMAND_BYTES
        + RECORD_HEADER_BYTES
        + LARGEST_EVENTS_BYTES
        <= LARGEST_PAYLOAD_BYTES,
    "a batch that ends with the largest command and its events fits into a frame"
);
const SMALLEST_SEGMENT_BYTES: u64 = 64 << 10;
const LARGEST_SEGMENT_BYTES: u64 = 4 << 30;
/// A limit is needed because the MANIFEST lists the kept snapshots.
const MOST_KEPT_SNAPSHOTS: usize = 1024;
const LARGEST_QUEUE: usize = 1 << 20;
/// A reactor's own ids take up to so many bytes: two numbers, and a name of at most 100 bytes.
const LEAST_ID_BYTES: usize = 150;
const MOST_ID_BYTES: usize = 65_535;
const MOST_REJECTIONS: usize = 1 << 20;
const MOST_COMPRESSION_THREADS: u32 = 64;

impl Default for Options {
    fn default() -> Self {
        Self {
            durability: Durability::Sync,
            max_batch_commands: 1024,
            max_batch_bytes: 1 << 20,
            max_command_bytes: 16 << 20,
            linger: Duration::ZERO,
            queue_capacity: 8192,
            queue_bytes: 64 << 20,
            segment_bytes: 64 << 20,
            compression_level: 1,
            compression_threads: 0,
            snapshots: SnapshotPolicy::default(),
            retention: Retention::default(),
            archived_snapshots: ArchivedSnapshots::default(),
            keep_snapshots: 2,
            share_snapshots: true,
            load_model: LoadModel::default(),
            events: None,
            remembered_requests: 65_536,
            remember_requests_for: Duration::ZERO,
            remembered_output_bytes: 0,
            request_ids_by_actor: false,
            max_request_id_bytes: 255,
            remembered_rejections: 4096,
            remember_rejections_for: Duration::from_secs(600),
            recent_versions: RecentVersions::default(),
            wait_for_lock: Duration::ZERO,
            given_schemas: GivenSchemas::default(),
            aborts: Arc::default(),
        }
    }
}

impl Options {
    pub(crate) fn packing(&self) -> Packing {
        Packing {
            compression_level: self.compression_level,
            compression_threads: self.compression_threads,
        }
    }

    pub(crate) fn events<M: Model>(&self) -> Events {
        self.events.unwrap_or_else(Events::default_for::<M::Event>)
    }

    /// Returns an error if the open is to end.
    pub(crate) fn check_abort(&self) -> Result<(), Error> {
        if self.aborts.load(Ordering::SeqCst) { Err(Error::Aborted) } else { Ok(()) }
    }

    pub(crate) fn request_limits(&self) -> RequestLimits {
        RequestLimits {
            promised_ns: u64::try_from(self.remember_requests_for.as_nanos()).unwrap_or(u64::MAX),
            output_bytes: self.remembered_output_bytes,
            by_actor: self.request_ids_by_actor,
            ..RequestLimits::of(self.remembered_requests)
        }
    }

    pub(crate) fn rejection_limits(&self) -> RejectionLimits {
        RejectionLimits {
            most: self.remembered_rejections,
            time_to_live: self.remember_rejections_for,
        }
    }

    pub(crate) fn validate_for<M: Model>(&self) -> Result<(), Error> {
        if !self.given_schemas.are_of::<M>() {
            return Err(Error::InvalidOption {
                option: "describe",
                value: "a type that no file of this database holds".to_owned(),
                constraint: "it must be the model, its event, or a command of `commands!`, as it \
                             is stored"
                    .to_owned(),
            });
        }
        if let Some(reason) = self.given_schemas.contradiction::<M>() {
            return Err(Error::InvalidOption {
                option: "describe",
                value: "a schema that contradicts its type".to_owned(),
                constraint: format!("what can be seen of the type must fit: {reason}"),
            });
        }
        self.validate()
    }

    fn validate(&self) -> Result<(), Error> {
        let levels = zstd::compression_level_range();
        require("max_batch_commands", self.max_batch_commands, 1, 1 << 20)?;
        require("max_batch_bytes", self.max_batch_bytes, 1, LARGEST_BATCH_BYTES)?;
        require("max_command_bytes", self.max_command_bytes, 1, LARGEST_COMMAND_BYTES)?;
        require("queue_capacity", self.queue_capacity, 1, LARGEST_QUEUE)?;
        require("queue_bytes", self.queue_bytes, 1, usize::MAX)?;
        let (smallest, largest) = (SMALLEST_SEGMENT_BYTES, LARGEST_SEGMENT_BYTES);
        require("segment_bytes", self.segment_bytes, smallest, largest)?;
        require("compression_level", self.compression_level, *levels.start(), *levels.end())?;
        require("compression_threads", self.compression_threads, 0, MOST_COMPRESSION_THREADS)?;
        require("keep_snapshots", self.keep_snapshots, 1, MOST_KEPT_SNAPSHOTS)?;
        require("remembered_requests", self.remembered_requests, 0, MOST_IDS)?;
        require("remembered_outputs", self.remembered_output_bytes, 0, MOST_OUTPUT_BYTES)?;
        require("max_request_id_bytes", self.max_request_id_bytes, LEAST_ID_BYTES, MOST_ID_BYTES)?;
        require("remembered_rejections", self.remembered_rejections, 1, MOST_REJECTIONS)?;
        if self.remembered_requests == 0 && !self.remember_requests_for.is_zero() {
            return Err(Error::InvalidOption {
                option: "remember_requests_for",
                value: format!("{:?}", self.remember_requests_for),
                constraint: "no time can be promised while remembered_requests is 0".to_owned(),
            });
        }
        require("recent_versions", self.recent_versions.count, 0, MOST_RECENT_VERSIONS)?;
        match self.durability {
            Durability::Interval(interval) if interval.is_zero() => Err(Error::InvalidOption {
                option: "durability",
                value: "Interval(0)".to_owned(),
                constraint: "an interval must be longer than zero; use Durability::Sync instead"
                    .to_owned(),
            }),
            _ => Ok(()),
        }
    }
}

pub(crate) fn require<T: PartialOrd + fmt::Display>(
    option: &'static str,
    value: T,
    least: T,
    most: T,
) -> Result<(), Error> {
    if value >= least && value <= most {
        return Ok(());
    }
    let constraint = format!("it must be from {least} to {most}");
    Err(Error::InvalidOption { option, value: value.to_string(), constraint })
}
