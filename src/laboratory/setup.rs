//! Owns the configuration of the laboratory's databases. All sizes are small, so that segments
//! change and snapshots come after a few commands.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::options::Options;
use crate::storage::simulated::Random;
use crate::{Durability, LoadModel, Retention, SnapshotPolicy};

/// The directory of every history's database.
pub(crate) const DIRECTORY: &str = "/data/tally.db";

/// One configuration.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Setup {
    pub(crate) segment_bytes: u64,
    pub(crate) keep_snapshots: usize,
    pub(crate) archive: bool,
    pub(crate) compression_level: i32,
    /// `Durability::Buffered` instead of `Sync`.
    pub(crate) buffered: bool,
    pub(crate) max_batch_commands: u32,
    pub(crate) snapshot_on_close: bool,
    pub(crate) remembered_requests: usize,
    /// `LoadModel::OnDemand` instead of `AtOpen`.
    #[serde(default)]
    pub(crate) on_demand: bool,
}

impl Setup {
    pub(crate) fn random(random: &mut Random) -> Self {
        Self {
            segment_bytes: random.pick(&[6 << 10, 8 << 10, 12 << 10]),
            keep_snapshots: 1 + random.below(2),
            archive: random.once_in(5),
            compression_level: random.pick(&[0, 0, 1]),
            buffered: random.once_in(4),
            max_batch_commands: random.pick(&[3, 1024, 1024]),
            snapshot_on_close: random.once_in(6),
            remembered_requests: random.pick(&[3, 8, 1000]),
            // This takes nothing from the numbers, so that each seed has the history it always had.
            on_demand: random.clone().once_in(2),
        }
    }

    pub(crate) fn options(&self) -> Options {
        let snapshots = if self.snapshot_on_close {
            SnapshotPolicy::on_close()
        } else {
            SnapshotPolicy::manual()
        };
        Options {
            durability: if self.buffered { Durability::Buffered } else { Durability::Sync },
            max_batch_commands: self.max_batch_commands,
            segment_bytes: self.segment_bytes,
            compression_level: self.compression_level,
            snapshots,
            retention: if self.archive { Retention::Archive } else { Retention::Truncate },
            keep_snapshots: self.keep_snapshots,
            remembered_requests: self.remembered_requests,
            load_model: if self.on_demand { LoadModel::OnDemand } else { LoadModel::AtOpen },
            queue_capacity: 64,
            linger: Duration::ZERO,
            ..Options::default()
        }
    }
}
