//! When a hazard strikes: at the n-th moment of a step; and what the engine did after that.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use prevalence::laboratory::{Moment, ignore_moments, watch_moments};

use super::strike::Striker;

/// Where in a step a hazard strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    Before,
    /// Right before the n-th operation on files, from 1.
    At(u64),
    Behind,
}

impl Position {
    pub fn parse(text: &str) -> Self {
        match text {
            "before" => Self::Before,
            "behind" => Self::Behind,
            number => Self::At(number.parse().unwrap()),
        }
    }
}

impl std::fmt::Display for Position {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Before => f.write_str("before"),
            Self::At(number) => write!(f, "{number}"),
            Self::Behind => f.write_str("behind"),
        }
    }
}

/// Watches the moments of one cell.
pub struct Watch {
    striker: Arc<Striker>,
    at: u64,
    /// Whether moments count now.
    counts: AtomicBool,
    /// Whether moments count once the place is locked.
    counts_once_locked: AtomicBool,
    seen: AtomicU64,
    is_striking: AtomicBool,
    has_struck: AtomicBool,
    struck_at: Mutex<Option<Moment>>,
    looks_since: AtomicU64,
    syncs_since: AtomicU64,
}

impl Watch {
    pub fn begin(striker: Arc<Striker>, position: Position) -> Arc<Self> {
        let at = if let Position::At(at) = position { at } else { 0 };
        let watch = Arc::new(Self {
            striker,
            at,
            counts: AtomicBool::new(false),
            counts_once_locked: AtomicBool::new(false),
            seen: AtomicU64::new(0),
            is_striking: AtomicBool::new(false),
            has_struck: AtomicBool::new(false),
            struck_at: Mutex::default(),
            looks_since: AtomicU64::new(0),
            syncs_since: AtomicU64::new(0),
        });
        let watching = watch.clone();
        watch_moments(move |moment| watching.meet(moment));
        watch
    }

    /// Begins to count moments, because the step begins.
    pub fn count(&self, once_locked: bool) {
        let from = if once_locked { &self.counts_once_locked } else { &self.counts };
        from.store(true, Ordering::SeqCst);
    }

    /// Ends the count, because the step has ended.
    pub fn count_no_more(&self) {
        self.counts.store(false, Ordering::SeqCst);
        self.counts_once_locked.store(false, Ordering::SeqCst);
    }

    fn meet(&self, moment: Moment) {
        if self.has_struck.load(Ordering::SeqCst) {
            if moment.is_before_a_look() {
                self.looks_since.fetch_add(1, Ordering::SeqCst);
            }
            if moment == Moment::Sync {
                self.syncs_since.fetch_add(1, Ordering::SeqCst);
            }
            if self.striker.hazard.is_for_one_operation() {
                self.striker.lift();
            }
            return;
        }
        if self.counts_once_locked.load(Ordering::SeqCst) && moment == Moment::Lock {
            self.counts.store(true, Ordering::SeqCst);
        } else if self.counts.load(Ordering::SeqCst)
            && self.seen.fetch_add(1, Ordering::SeqCst) + 1 == self.at
        {
            *self.struck_at.lock().unwrap() = Some(moment);
            self.strike();
            // The operation that it meets looks for itself.
            if moment.is_before_a_look() {
                self.looks_since.fetch_add(1, Ordering::SeqCst);
            }
        }
    }

    /// Makes the hazard strike now.
    pub fn strike(&self) {
        self.is_striking.store(true, Ordering::SeqCst);
        self.striker.strike();
        self.has_struck.store(true, Ordering::SeqCst);
    }

    /// Returns whether the hazard has struck. A step may end because of it while another thread
    /// still makes it happen. This waits for that thread, within the time limit of the whole cell.
    pub fn has_struck(&self) -> bool {
        let has_struck = || self.has_struck.load(Ordering::SeqCst);
        while self.is_striking.load(Ordering::SeqCst) && !has_struck() {
            std::thread::yield_now();
        }
        has_struck()
    }

    pub fn struck_at(&self) -> String {
        self.struck_at
            .lock()
            .unwrap()
            .map_or("no moment".to_owned(), |moment| format!("{moment:?}"))
    }

    /// Returns how often the engine has checked its place since then.
    pub fn looks_since(&self) -> u64 {
        self.looks_since.load(Ordering::SeqCst)
    }

    pub fn end(&self) {
        ignore_moments();
    }
}
