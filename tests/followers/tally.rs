//! A projection that tests can let fail, and what it must be.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prevalence::collections::Map;
use prevalence::{
    Database, FollowerError, FollowerState, From, Projection, ProjectionHandle, Recorded,
};
use serde::{Deserialize, Serialize};

use crate::common::{Add, Ledger};

/// Long enough for any machine; nothing waits that long unless it hangs.
pub const LONG: Duration = Duration::from_secs(120);

/// For each test the sequence at which its projection fails, and how: twice the sequence is an
/// error, twice and one a panic.
static FAILS: [AtomicU64; 32] = [const { AtomicU64::new(0) }; 32];

pub fn fail_at(test: usize, sequence: u64, panics: bool) {
    FAILS[test].store(2 * sequence + u64::from(panics), Ordering::SeqCst);
}

/// What it makes of events: it depends on their order, and on each of them.
#[derive(Clone, Default, Serialize, Deserialize)]
pub struct Tally<const TEST: usize, const VERSION: u32 = 1> {
    pub commands: u64,
    pub mixed: u64,
    pub seen: Map<u64, u64>,
}

impl<const TEST: usize, const VERSION: u32> Tally<TEST, VERSION> {
    fn note(&mut self, recorded: &Recorded<Ledger>) {
        self.commands += 1;
        self.mixed = self.mixed.wrapping_mul(31).wrapping_add(recorded.sequence);
        for event in &recorded.events {
            self.seen.insert(*event, self.commands * u64::from(VERSION));
        }
    }

    pub fn bytes(&self) -> Vec<u8> {
        bincode::serde::encode_to_vec(self, bincode::config::standard()).unwrap()
    }

    /// Folds all commands up to a sequence, but these.
    pub fn folded(database: &Database<Ledger>, last: u64, without: &[u64]) -> Self {
        let mut folded = Self::default();
        let mut all = database.subscribe(From::Beginning).unwrap();
        while all.next_sequence() <= last {
            let recorded = all.next().unwrap().unwrap();
            if !without.contains(&recorded.sequence) {
                folded.note(&recorded);
            }
        }
        folded
    }
}

impl<const TEST: usize, const VERSION: u32> Projection<Ledger> for Tally<TEST, VERSION> {
    const VERSION: u32 = VERSION;

    fn apply(&mut self, recorded: &Recorded<Ledger>) -> Result<(), FollowerError> {
        self.note(recorded); // also before a failure: nothing of it may stay
        let fails = FAILS[TEST].load(Ordering::SeqCst);
        if fails / 2 != recorded.sequence {
            return Ok(());
        }
        assert!(fails.is_multiple_of(2), "on purpose");
        Err("as the test wants it".into())
    }
}

pub fn fill(database: &Database<Ledger>, commands: u64) -> u64 {
    let add = |number| Add { account: number as u32 % 100, amount: 1 };
    let pending: Vec<_> = (0..commands).map(|it| database.submit(add(it)).unwrap()).collect();
    pending.into_iter().for_each(|pending| assert!(pending.wait().is_ok()));
    database.sequence()
}

/// Checks that a projection equals the fold, after it has come to this sequence.
pub fn check<const TEST: usize, const VERSION: u32>(
    database: &Database<Ledger>,
    tally: &ProjectionHandle<Ledger, Tally<TEST, VERSION>>,
    last: u64,
    without: &[u64],
) {
    assert_eq!(tally.wait_for(last, LONG).unwrap(), last);
    let view = tally.view();
    assert_eq!(view.sequence(), last);
    let expected = Tally::<TEST, VERSION>::folded(database, last, without);
    assert!(view.bytes() == expected.bytes(), "at {last}");
}

/// Waits until it has stopped, and returns where.
pub fn stopped<P: Projection<Ledger>>(handle: &ProjectionHandle<Ledger, P>) -> (u64, String) {
    let newest = handle.status().unwrap().position + 1_000_000;
    handle.wait_for(newest, LONG).unwrap_err();
    match handle.status().unwrap().state {
        FollowerState::Stopped { sequence, reason } => (sequence, reason.to_string()),
        state => panic!("{state:?}"),
    }
}
