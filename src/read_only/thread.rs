//! Owns the thread that reads: it obeys orders, and looks again by itself while it follows. Knows
//! nothing of files.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};

use super::reading::Reading;
use super::state::State;
use crate::engine::EngineThread;
use crate::error::Error;
use crate::execute_error::Poisoned;
use crate::model::Model;
use crate::panics::panic_message;

/// The pause after a look that has found something. What is appended meanwhile is applied at once.
const BUSY_PAUSE: Duration = Duration::from_millis(1);
/// The longest pause after looks that have failed, unless the one asked for is longer.
const FAILED_PAUSE: Duration = Duration::from_secs(1);

/// What a handle asks of the thread.
pub(super) enum Order {
    /// To look now.
    Look(Sender<Result<u64, Error>>),
    /// To look again and again, with pauses of at most so long; or to stop that.
    Follow(Option<Duration>),
}

/// How long the thread pauses between two looks by itself.
struct Pauses {
    most: Duration,
    next: Duration,
}

impl Pauses {
    fn new(most: Duration) -> Self {
        Self { most, next: Duration::ZERO }
    }

    fn note(&mut self, outcome: &Result<u64, Error>, before: u64) {
        let doubled = self.next.saturating_mul(2).max(BUSY_PAUSE);
        self.next = match outcome {
            Ok(sequence) if *sequence > before => BUSY_PAUSE.min(self.most),
            Ok(_) => doubled.min(self.most),
            Err(_) => doubled.min(self.most.max(FAILED_PAUSE)),
        };
    }
}

/// Obeys and looks until every handle is gone.
pub(super) fn run<M: Model>(mut reading: Reading<M>, orders: &Receiver<Order>) {
    // The model's own code must not wait for this thread.
    let _guard = EngineThread::enter();
    let state = reading.copy.state.clone();
    let mut pauses: Option<Pauses> = None;
    loop {
        let order = match &pauses {
            Some(pauses) => orders.recv_timeout(pauses.next),
            None => orders.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        match order {
            Ok(Order::Look(reply)) => {
                // Whoever asked may have gone.
                reply.send(look(&mut reading, &state)).ok();
            }
            Ok(Order::Follow(most)) => {
                pauses = most.map(Pauses::new);
                state.follow(pauses.is_some());
            }
            Err(RecvTimeoutError::Timeout) => {
                let before = state.published.sequence();
                let outcome = look(&mut reading, &state);
                if let Some(pauses) = &mut pauses {
                    pauses.note(&outcome, before);
                }
            }
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

fn look<M: Model>(reading: &mut Reading<M>, state: &Arc<State<M>>) -> Result<u64, Error> {
    let began = Instant::now();
    let looked = catch_unwind(AssertUnwindSafe(|| reading.look(None)));
    let outcome = looked.unwrap_or_else(|panic| {
        let reason = format!("the reading thread panicked: {}", panic_message(panic));
        Err(Error::Poisoned(Poisoned { reason: reason.into() }))
    });
    state.note(began, &outcome);
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_are_short_while_there_is_something_and_grow_up_to_a_bound() {
        let mut pauses = Pauses::new(Duration::from_millis(10));
        let mut after = |outcome: Result<u64, Error>| {
            pauses.note(&outcome, 5);
            pauses.next.as_millis()
        };
        assert_eq!([after(Ok(6)), after(Ok(5)), after(Ok(5)), after(Ok(5))], [1, 2, 4, 8]);
        assert_eq!([after(Ok(5)), after(Ok(5)), after(Ok(9))], [10, 10, 1]);
        let failed: Vec<_> = (0..12).map(|_| after(Err(Error::Stopped))).collect();
        assert_eq!(failed[..3], [2, 4, 8]);
        assert_eq!(failed[10..], [1000, 1000]);
        assert_eq!(after(Ok(5)), 10, "a success ends it");
        let mut short = Pauses::new(Duration::from_micros(50));
        short.note(&Ok(6), 5);
        assert_eq!(short.next, Duration::from_micros(50));
    }
}
