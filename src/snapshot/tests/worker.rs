//! Tests of how the snapshot thread uses measured rates.

use std::sync::Arc;
use std::time::Duration;

use crate::engine::{
    Published, RecentBatches, Requests, Shared, SnapshotBoard, SnapshotInfo, SnapshotState, Status,
    Version,
};
use crate::options::{RecentVersions, StartupLoad, StartupRates};
use crate::snapshot::current_rates;
use crate::stats::Counters;

/// Returns the estimated time of a replayed command, when an open measured 1000 ns, and live
/// commands took 10 ns at first and `later_ns` afterwards.
fn replay_ns(later_ns: Option<u64>, replay_unmeasured: bool) -> u64 {
    let newest = SnapshotInfo {
        sequence: 0,
        path: "x".into(),
        raw_bytes: 0,
        file_bytes: 0,
        shared_bytes: 0,
        load: StartupLoad::default(),
        duration: Duration::ZERO,
    };
    let rates = StartupRates {
        load_ratio: 1.0,
        replay_ns_per_command: 1000,
        open_ns_per_segment: 0,
        fixed: Duration::ZERO,
        late: None,
    };
    let state = SnapshotState {
        newest,
        written_then: 0,
        tail_bytes: 0,
        tail_segments: 1,
        segments_then: 0,
        taken: 0,
        failed: 0,
        last_error: None,
        rates,
        replay_unmeasured,
    };
    let (snapshots, _woken) = SnapshotBoard::new(state.clone());
    let shared = Shared {
        published: Published::new(Arc::new(Version::written((), 0, 0, 0)), RecentVersions::OFF),
        status: Status::default(),
        counters: Counters::default(),
        snapshots,
        recent_batches: RecentBatches::default(),
        followers: Arc::default(),
        requests: Requests::none(),
    };
    if let Some(later_ns) = later_ns {
        for sample in 0..128 {
            shared.counters.apply_time.add(if sample < 64 { 10 } else { later_ns });
        }
    }
    current_rates(&shared, &state).replay_ns_per_command
}

#[test]
fn a_start_is_predicted_slower_where_commands_became_so() {
    assert_eq!(replay_ns(None, false), 1000);
    // The average is 50 ns, five times slower than at first. A factor of two may be chance.
    assert_eq!(replay_ns(Some(90), false), 2500);
    assert_eq!(replay_ns(Some(30), false), 1000);
    assert_eq!(
        replay_ns(Some(2), false),
        1000,
        "the estimate is never faster than the measurement"
    );
    // Without a measured replay, the estimate is 45 % of the time of live commands.
    assert_eq!(replay_ns(Some(90), true), 22);
}
